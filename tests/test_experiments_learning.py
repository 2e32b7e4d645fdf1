"""Networks that learn temporal order, watched: small trainings whose outcome is clear, and runs that cannot go on."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
import torch

import throughtime as tt
from throughtime.errors import SettingsError
from throughtime.experiments import learning
from throughtime.experiments.lags import ADDING
from throughtime.experiments.learning import RATES, Learning, clipping, while_training
from throughtime.experiments.reach import STARTS, Start

SHORT_RATES = (0.001, 0.01)


@pytest.fixture(scope="module")
def short() -> dict[str, Learning]:
    """Of T = 10: lags of 4 to 8 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "RATES", SHORT_RATES)
        return {run.name: run for run in while_training(names=("sigmoid", "GRU"), steps=10, updates=160)}


def test_a_gru_learns_a_lag_that_a_sigmoid_network_does_not(short: dict[str, Learning]) -> None:
    sigmoid, gru = short["sigmoid"], short["GRU"]
    assert gru.score > 0.95
    assert gru.learned_after in gru.updates
    assert gru.accuracy[gru.updates.index(gru.learned_after)] >= 0.95
    assert gru.loss[0] > 1 > gru.loss[-1]
    assert sigmoid.learned_after is None
    assert sigmoid.score < 0.75


def test_what_is_told_of_a_run_fits_together(short: dict[str, Learning]) -> None:
    for run in short.values():
        assert run.updates == [50, 100, 150, 160]
        assert len(run.accuracy) == len(run.horizon) == len(run.loss) == len(run.largest_gradient) == 4
        assert set(run.tried) == set(SHORT_RATES)
        assert run.tried[run.rate] == max(run.tried.values()) == max(run.accuracy)
        assert (run.diverged_at, run.optimizer, run.clip) == (None, "Adam", 1.0)
        assert run.seconds > 0
        assert run.peak == max(run.largest_gradient)
        assert (run.asked, run.scored) == (160, learning.SCORING)
        json.dumps(asdict(run), allow_nan=False)
    assert short["GRU"].parameters == 3 * 50 * (6 + 50 + 2) + 4 * 50 + 4


def test_a_seed_gives_the_same_runs_and_leaves_torchs_own_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, again, other = (while_training(seed, names=("tanh",), steps=10, updates=20) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert torch.equal(torch.get_rng_state(), before)


def test_clipping_starts_from_the_same_gradient_and_is_told_apart() -> None:
    told: list[tuple[str, float]] = []
    free, held = clipping(steps=10, updates=60, progress=lambda sentence, done: told.append((sentence, done)))
    assert (free.clip, held.clip) == (None, 1.0)
    assert free.optimizer == held.optimizer == "SGD, momentum 0.9"
    assert free.loss != held.loss
    first = [run.largest_gradient[0] for run in clipping(steps=10, updates=1)]
    assert first[0] == first[1] > 0, "the first gradient is measured before it is clipped"
    assert [done for _, done in told] == [0, 0.5]
    assert all(run.tried == {0.03: max(run.accuracy)} for run in (free, held))


def test_clipping_bounds_the_step() -> None:
    # SGD moves the weights by rate times gradient: next to nothing if that is all clipping lets through.
    free, held = (
        learning._train(STARTS["GRU"], 0.1, seed=0, updates=100, steps=10, momentum=0.9, clip=clip) for clip in (None, 1e-9)
    )
    assert held.accuracy[0] == held.accuracy[1]
    assert free.accuracy[0] != free.accuracy[1]


def bursting(features: int, hidden: int) -> Any:
    module = tt.nn.RNN(features, hidden, nonlinearity="relu")
    torch.nn.init.constant_(module.get_parameter("weight_hh_l0"), 1e8)
    return module


def test_a_run_that_diverges_says_when_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STARTS, "bursting", Start("bursting", "", bursting))
    (run,) = while_training(names=("bursting",), steps=10, updates=60)
    assert run.diverged_at == 1
    assert run.updates == run.accuracy == run.loss == run.horizon == []
    assert run.peak is None
    assert run.learned_after is None
    assert math.isfinite(run.score)
    json.dumps(asdict(run), allow_nan=False)


def test_the_largest_gradient_of_a_run_that_diverges_is_kept_though_it_came_after_the_last_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    norms = iter([2.0, 1.0, *[0.5] * 48, 90.0, math.inf])
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(next(norms)))
    run = learning._train(STARTS["tanh"], 0.001, seed=0, updates=60, steps=10)
    assert (run.diverged_at, run.updates, run.largest_gradient, run.asked) == (52, [50], [2.0], 60)
    assert run.peak == 90.0


def test_progress_names_every_run_and_rises() -> None:
    told: list[tuple[str, float]] = []
    while_training(names=("tanh", "LSTM"), steps=10, updates=1, progress=lambda sentence, done: told.append((sentence, done)))
    assert len(told) == 2 * len(RATES)
    assert all(("tanh" in sentence) == (index < len(RATES)) for index, (sentence, _) in enumerate(told))
    fractions = [done for _, done in told]
    assert fractions == sorted(fractions)
    assert 0 == fractions[0] < fractions[-1] < 1


@pytest.mark.parametrize(
    ("options", "found"),
    [({"updates": 0}, "updates is 0"), ({"steps": 9}, "steps is 9"), ({"names": ("tanh", "RELU")}, "no network 'RELU'")],
)
def test_bad_settings_are_refused_in_one_line(options: dict[str, Any], found: str) -> None:
    with pytest.raises(SettingsError, match=found) as refused:
        while_training(**({"names": ("tanh",), "steps": 10, "updates": 1} | options))
    assert "\n" not in str(refused.value)


def test_a_gru_learns_the_adding_problem_and_a_sigmoid_does_not() -> None:
    sigmoid, gru = while_training(names=("sigmoid", "GRU"), task=ADDING, steps=10, updates=400)
    assert sigmoid.task == gru.task == "the adding problem"
    assert gru.score > 0.9
    assert sigmoid.score < 0.5
    assert 0.15 < ADDING.guessing < 0.25
