"""Feed-forward rivals of every task: trained and scored as the network is, alike however often, and left out by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from throughtime.data import read
from throughtime.data.split import Parts, split
from throughtime.settings import Settings
from throughtime.store import read_json
from throughtime.tasks import TASKS, Task
from throughtime.tasks.base import BLIND, FLAT
from throughtime.train.fit import fit, resume, train
from throughtime.train.fitted import Fitted
from throughtime.train.progress import Progress
from throughtime.train.rivals import fit_rival, score_rivals
from throughtime.train.trainer import Trainer

from fit_cases import CASES, SMALL, Case

BY_NAME = {case.name: case for case in CASES}


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


def prepared(case: Case, folder: Path, **settings: Any) -> tuple[Task, Parts]:
    """The task of a case, and the parts of its data."""
    given = Settings.of({**SMALL, **case.settings, **settings})
    dataset = read(case.write(folder), given)
    given = given.replace(**{"task": dataset.task, **dataset.resolved})
    parts = split(dataset, given)
    task = TASKS[dataset.task](given)
    task.prepare(parts.train)
    return task, parts


def weights(network: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def without_clock(result: dict[str, Any]) -> str:
    """A result as text, less what the clock said."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(inner) for name, inner in value.items() if name not in ("seconds", "steps_per_second")}
        return [kept(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(kept(result), sort_keys=True)


# --- every task


def test_rivals_are_scored_as_the_network_is(case: Case, tmp_path: Path) -> None:
    task, parts = prepared(case, tmp_path)
    fitted, trainer = train(task, parts)
    encoded = {name: task.encode(getattr(parts, name)) for name in ("train", "test")}
    before, transforms = torch.get_rng_state(), json.dumps(task.transforms(), sort_keys=True)
    said: list[str] = []
    found = score_rivals(task, trainer, encoded["train"], parts.test, encoded["test"], say=said.append)
    assert torch.equal(torch.get_rng_state(), before)
    assert json.dumps(task.transforms(), sort_keys=True) == transforms, "the width of intervals is the model's"
    with torch.inference_mode():
        own = task.score(fitted.network, parts.test, encoded["test"])
    assert [rival.name for rival in found] == [BLIND, FLAT]
    assert found[0].order == "blind"
    assert found[1].order in ("window", "full")
    for rival, line in zip(found, said, strict=True):
        assert rival.scores.keys() == own.keys()
        assert all(np.isfinite(value) for name, value in rival.scores.items() if np.isfinite(own[name]))
        assert rival.scores["loss"] != own["loss"]
        assert rival.parameters > 0
        assert rival.seconds > 0
        assert rival.problem == ""
        assert len(rival.description) <= 160, "a row of the report"
        assert rival.description in line


def test_a_rival_is_a_function_of_data_settings_and_updates(case: Case, tmp_path: Path) -> None:
    task, parts = prepared(case, tmp_path)
    train, valid = task.encode(parts.train), task.encode(parts.valid)
    for number in range(2):
        one, other = (weights(fit_rival(task, task.rivals(train)[number], train, valid, updates=3).network) for _ in range(2))
        assert all(np.array_equal(one[name], other[name]) for name in one)
        task.settings = task.settings.replace(seed=task.settings.training.seed + 1)
        other = weights(fit_rival(task, task.rivals(train)[number], train, valid, updates=3).network)
        assert not any(np.array_equal(one[name], other[name]) for name in one)


def test_a_rival_predicts(case: Case, tmp_path: Path) -> None:
    task, parts = prepared(case, tmp_path, future=())
    train, valid = task.encode(parts.train), task.encode(parts.valid)
    part = parts.test.panel if task.name == "forecast" else parts.test
    table = fit_rival(task, task.rivals(train)[1], train, valid, updates=2).predict(part)
    own = Fitted(task, task.network()).predict(part)
    assert {name: len(column) for name, column in table.items()} == {name: len(column) for name, column in own.items()}


# --- training


def test_it_makes_half_as_many_updates_and_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, parts = prepared(BY_NAME["classify_text"], tmp_path, epochs=40, lr=0.01)
    train, valid = task.encode(parts.train), task.encode(parts.valid)
    made: list[int] = []
    fit_as_before = Trainer.fit

    def counted(trainer: Trainer) -> Any:
        place = fit_as_before(trainer)
        made.append(place.update)
        return place

    monkeypatch.setattr(Trainer, "fit", counted)
    for rival in task.rivals(train):
        fitted = fit_rival(task, rival, train, valid, updates=200)
        if rival.name == BLIND:
            assert fitted.score(parts.test)["accuracy"] > 0.9, "a word tells the class"
    assert made == [100, 100]


def test_the_clock_decides_nothing(tmp_path: Path) -> None:
    """A time budget is the model's; what it came to in updates is what a rival gets."""
    results: list[dict[str, np.ndarray]] = []
    for name, budget in (("a", 3600.0), ("b", 1800.0)):
        task, parts = prepared(BY_NAME["lm_lines"], tmp_path / name, time_budget=budget)
        train, valid = task.encode(parts.train), task.encode(parts.valid)
        results.append(weights(fit_rival(task, task.rivals(train)[0], train, valid, updates=12).network))
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])


def test_a_rival_that_cannot_be_trained_is_left_out_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = BY_NAME["classify_numbers"].write(tmp_path)
    monkeypatch.setattr(
        "throughtime.tasks.feedforward.BlindSequence.finished",
        lambda self, before: self.head(before) + (float("nan") if self.training else 0.0),
    )
    result = fit(source, Settings.of({**SMALL, "epochs": 10}), tmp_path / "run")
    names = [baseline["name"] for baseline in result["baselines"]]
    assert FLAT in names
    assert BLIND not in names
    (warning,) = [line for line in result["warnings"] if BLIND in line]
    assert warning.startswith(f"baseline {BLIND} left out: the loss is not a number at update 6, for the 6th time")


# --- within a fit


def test_a_fit_compares_with_them(tmp_path: Path) -> None:
    case = BY_NAME["classify_text"]
    said: list[str] = []

    class Heard(Progress):
        def say(self, line: str) -> None:
            said.append(line)

    result = fit(case.write(tmp_path), Settings.of(SMALL), tmp_path / "run", progress=Heard())
    found = {baseline["name"]: baseline for baseline in result["baselines"]}
    assert list(found)[-2:] == [BLIND, FLAT]
    assert [line for line in said if "rival" in line] == [
        f"training a rival, half the updates at twice the rate: {found[name]['description']}" for name in (BLIND, FLAT)
    ]
    page = (tmp_path / "run" / "report.html").read_text()
    for name in (BLIND, FLAT):
        assert name in page
        assert found[name]["description"] in page
    best = max(baseline["scores"]["accuracy"] for baseline in result["baselines"])
    assert f"{best:.4g}" in result["headline"]


def test_stopped_while_a_rival_trains_and_resumed(tmp_path: Path) -> None:
    """It ends at the next update, with the model on disk; the run that goes on comes out as one never stopped."""
    source = BY_NAME["forecast"].write(tmp_path)
    settings = Settings.of({**SMALL, **BY_NAME["forecast"].settings, "epochs": 3})
    fit(source, settings, tmp_path / "whole")
    rivals: list[str] = []

    class Heard(Progress):
        def say(self, line: str) -> None:
            if "rival" in line:
                rivals.append(line)

    with pytest.raises(KeyboardInterrupt):
        fit(source, settings, tmp_path / "run", progress=Heard(), interrupted=lambda: len(rivals) == 2)
    run = tmp_path / "run"
    assert (run / "model.safetensors").exists()
    assert not (run / "result.json").exists()
    assert resume(run) is not None
    assert without_clock(read_json(run / "result.json")) == without_clock(read_json(tmp_path / "whole" / "result.json"))
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()
