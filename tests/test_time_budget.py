"""A time budget: turned into a number of updates that is kept, also by a run that was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from throughtime.store import RunDirectory, read_json, write_json
from throughtime.train.progress import Update
from throughtime.train.trainer import Trainer

from trainer_cases import Clock, Scripted, clock as clock, trainer

# A time budget


def budgeted(clock: Clock, run: RunDirectory | None = None, **settings: Any) -> Trainer:
    return trainer(Scripted(clock=clock, **{"epochs": 50, "patience": 999, **settings}), run)


def test_a_time_budget_is_kept(tmp_path: Path, clock: Clock) -> None:
    """Updates of a second and evaluations of five: the number that it is turned into uses the budget up."""
    run = RunDirectory.create(tmp_path / "run", {})
    place = budgeted(clock, run, time_budget=400).fit()
    plan = read_json(run.path / "plan.json")
    assert plan["time_budget"] == 400.0
    assert plan["decisions"][0]["at"] <= 30
    assert plan["decisions"][-1]["updates"] == place.update
    assert clock.now == pytest.approx(400, rel=0.05)
    assert place.stopped == f"by --time-budget after {place.update:,} updates, still improving"


def test_a_time_budget_of_a_run_that_was_stopped_before_the_plan(tmp_path: Path, clock: Clock) -> None:
    """What the killed process made counts: not as if this one had made it in no time."""
    run = RunDirectory.create(tmp_path / "run", {})
    first = budgeted(clock, run, time_budget=1000)
    first.interrupted = lambda: first.place.update == 15
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    assert not (run.path / "plan.json").exists()
    place = budgeted(clock, run, time_budget=1000).fit()
    assert clock.now == pytest.approx(1000, rel=0.05)
    assert place.update == read_json(run.path / "plan.json")["decisions"][-1]["updates"]


def test_a_plan_is_mended_as_updates_get_faster(tmp_path: Path, clock: Clock) -> None:
    """The first updates take ten times as long as the rest, as on a machine that was busy: the budget is used up."""
    run = RunDirectory.create(tmp_path / "run", {})
    made = budgeted(clock, run, time_budget=1000)

    def slow(update: Update) -> None:
        clock.now += 9.0 if update.update <= 10 else 0.0

    made.progress.updated = slow  # type: ignore[method-assign]
    place = made.fit()
    decisions = read_json(run.path / "plan.json")["decisions"]
    assert len(decisions) > 1
    assert decisions[0]["updates"] < 0.5 * place.update
    assert clock.now == pytest.approx(1000, rel=0.1)


def test_a_plan_that_was_made_is_kept(tmp_path: Path, clock: Clock) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    write_json(run.path / "plan.json", {"time_budget": 1000, "decisions": [{"at": 12, "updates": 33}]})
    assert budgeted(clock, run, time_budget=1000).fit().update == 33


@pytest.mark.parametrize(("budget", "epochs", "batch"), [(1e6, 1, 4), (1e6, 3, 4), (1e6, 1, 200), (1.0, 1, 4), (0.01, 2, 4)])
def test_a_time_budget_never_goes_beyond_the_epochs(budget: float, epochs: int, batch: int, clock: Clock) -> None:
    made = budgeted(clock, time_budget=budget, epochs=epochs, batch=batch)
    place = made.fit()
    limit = epochs * len(made.feed)
    assert place.update <= limit
    assert (place.update == limit) == (budget > 1000)
    assert place.best is not None
