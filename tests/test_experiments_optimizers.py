"""The measured story of Adagrad: the rates of two words, and where a sum that only grows is in the way."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from throughtime.errors import SettingsError
from throughtime.experiments import optimizers
from throughtime.experiments.optimizers import (
    PERIOD,
    RATES,
    SPIKE_AT,
    TRACKING_RATES,
    TUNED,
    Disadvantage,
    Rates,
    TrackingRun,
    Values,
    disadvantage,
    rates,
)


def mean(losses: list[float]) -> float:
    return sum(losses) / len(losses)


def known(values: Values) -> list[float]:
    return [value for value in values if value is not None]


@pytest.fixture(scope="module")
def words() -> Rates:
    return rates(100)


@pytest.fixture(scope="module")
def tracking() -> Disadvantage:
    return disadvantage()


def run(runs: list[TrackingRun], name: str) -> TrackingRun:
    return next(run for run in runs if run.optimizer == name)


def test_every_optimizer_learns_the_words_with_its_best_rate(words: Rates) -> None:
    assert [run.optimizer for run in words.runs] == list(RATES)
    guessing = math.log(507)
    for run in words.runs:
        assert list(run.tried) == list(RATES[run.optimizer])
        assert run.tried[run.alpha] == min(run.tried.values()) == pytest.approx(mean(run.losses[-20:]))
        assert len(run.losses) == words.updates == 100
        assert run.tried[run.alpha] < 0.75 * guessing
        # All begin with the same weights and the same batch.
        assert run.losses[0] == words.runs[0].losses[0]


def test_sgd_gives_every_word_the_same_rate_and_adagrad_gives_the_rare_one_more(words: Rates) -> None:
    sgd, adagrad, *_ = words.runs
    assert sgd.frequent.word == "the"
    assert sgd.frequent.count > 50 * sgd.rare.count == 150
    assert set(sgd.frequent.rate) == {sgd.alpha}
    assert set(known(sgd.rare.rate)) == {sgd.alpha}
    assert not known(sgd.frequent.alpha_t)
    assert adagrad.frequent.touched > 3 * adagrad.rare.touched > 0
    last = adagrad.frequent.rate[-1], adagrad.rare.rate[-1]
    assert last[0] is not None
    assert last[1] is not None
    assert last[1] > 2 * last[0]
    for weight in (adagrad.frequent, adagrad.rare):
        sums, effective = known(weight.alpha_t), known(weight.rate)
        assert sums == sorted(sums)
        assert effective == sorted(effective, reverse=True)
        assert effective == pytest.approx([adagrad.alpha / (math.sqrt(s) + 1e-10) for s in sums], rel=1e-6)
    # The rate of the others rises too: what they keep is an average.
    rmsprop = known(words.runs[2].rare.rate)
    assert rmsprop != sorted(rmsprop, reverse=True)


def test_adagrad_follows_each_move_more_slowly(tracking: Disadvantage) -> None:
    assert [run.optimizer for run in tracking.moving] == list(TRACKING_RATES)
    assert tracking.moves == list(range(PERIOD + 1, 1501, PERIOD))

    def growth(name: str) -> float:
        losses = run(tracking.moving, name).losses
        return mean(losses[-2 * PERIOD :]) / mean(losses[PERIOD : 3 * PERIOD])

    assert growth("Adagrad") > 2
    assert all(growth(name) < 1.4 for name in ("SGD", "RMSprop", "Adam"))
    rate = known(run(tracking.moving, "Adagrad").rate)
    assert rate == sorted(rate, reverse=True)
    assert rate[-1] < 0.5 * rate[PERIOD]


def test_after_a_spike_adagrad_stops_and_rmsprop_goes_on(tracking: Disadvantage) -> None:
    def late(runs: list[TrackingRun], name: str) -> float:
        return mean(run(runs, name).losses[-2 * PERIOD :])

    adagrad = run(tracking.spiked, "Adagrad")
    assert late(tracking.spiked, "Adagrad") > 1.5 * late(tracking.moving, "Adagrad")
    assert late(tracking.spiked, "Adagrad") > 0.8 * tracking.idle
    assert late(tracking.spiked, "RMSprop") < 1.2 * late(tracking.moving, "RMSprop")
    assert late(tracking.spiked, "SGD") == pytest.approx(late(tracking.moving, "SGD"), rel=0.01)
    assert adagrad.largest_share is not None
    assert adagrad.largest_share > 0.9
    assert adagrad.gradient_kept > 0.1

    def regained(name: str) -> float:
        """What the rate in effect is at the end, against just after the spike."""
        rate = known(run(tracking.spiked, name).rate)
        return rate[-1] / rate[SPIKE_AT]

    assert 0.9 < regained("Adagrad") <= 1
    assert regained("RMSprop") > 20
    assert regained("Adam") > 5


@pytest.mark.parametrize("name", TRACKING_RATES)
def test_the_best_rate_lies_within_what_was_tried(tracking: Disadvantage, words: Rates, name: str) -> None:
    found = run(tracking.moving, name)
    assert found.tried[found.alpha] == min(found.tried.values()) == pytest.approx(mean(found.losses[:TUNED]))
    assert min(found.tried) < found.alpha < max(found.tried)
    word = next(run for run in words.runs if run.optimizer == name)
    assert min(word.tried) < word.alpha < max(word.tried)


def test_results_are_plain_and_the_same_again(words: Rates, tracking: Disadvantage, monkeypatch: pytest.MonkeyPatch) -> None:
    for result in (words, tracking):
        told = json.dumps(dataclasses.asdict(result))  # a rate that diverged is infinite in ``tried`` alone
        assert "NaN" not in told
    monkeypatch.setattr(optimizers, "RATES", {"Adagrad": RATES["Adagrad"]})
    state = torch.random.get_rng_state()
    torch.manual_seed(99)
    assert rates(100).runs == [words.runs[1]]
    torch.random.set_rng_state(state)
    before = torch.random.get_rng_state()
    assert rates(20, seed=1).runs[0].losses != words.runs[1].losses[:20]
    assert torch.equal(before, torch.random.get_rng_state())


def test_too_few_updates() -> None:
    with pytest.raises(SettingsError, match="rates: updates is 19, expected at least 20"):
        rates(19)
    with pytest.raises(SettingsError, match="disadvantage: updates is 100, expected at least 200"):
        disadvantage(100)
