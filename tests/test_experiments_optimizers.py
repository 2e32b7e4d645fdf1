"""The measured story of Adagrad: the rates of two words, and where a sum that only grows is in the way."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from itertools import pairwise

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
from throughtime.train.optim_trace import GRADIENT_KEPT


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
    counts = Counter(word for sentence in optimizers._sentences() for word in sentence)
    shares = [count / counts.total() for count in counts.values()]
    # What it costs to know how often each word occurs, and nothing of the words before it: the entropy of the words.
    frequencies = -sum(share * math.log(share) for share in shares)
    for run in words.runs:
        assert list(run.tried) == list(RATES[run.optimizer])
        assert run.tried[run.alpha] == min(run.tried.values()) == pytest.approx(mean(run.losses[-20:]))
        assert len(run.losses) == words.updates == 100
        assert run.tried[run.alpha] < frequencies
        # All begin with the same weights and the same batch.
        assert run.losses[0] == words.runs[0].losses[0]


def test_sgd_gives_every_word_the_same_rate_and_adagrad_gives_the_rare_one_more(words: Rates) -> None:
    sgd, adagrad, *_ = words.runs
    assert sgd.frequent.word == "the"
    assert sgd.frequent.count > sgd.rare.count == 3
    assert set(sgd.frequent.rate) == {sgd.alpha}
    assert set(known(sgd.rare.rate)) == {sgd.alpha}
    assert not known(sgd.frequent.alpha_t)
    assert adagrad.frequent.touched > adagrad.rare.touched > 0
    last = adagrad.frequent.rate[-1], adagrad.rare.rate[-1]
    assert last[0] is not None
    assert last[1] is not None
    assert last[1] > last[0]
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

    def costs(name: str) -> list[float]:
        """The mean error between a move and the next."""
        losses = run(tracking.moving, name).losses
        return [mean(losses[start : start + PERIOD]) for start in range(PERIOD, len(losses), PERIOD)]

    # What forgets pays for the last two moves what it paid before for some two; Adagrad pays more than ever.
    for name in TRACKING_RATES:
        pairs = [sum(pair) for pair in pairwise(costs(name))]
        assert (pairs[-1] > max(pairs[:-1])) == (name == "Adagrad")
    rate = known(run(tracking.moving, "Adagrad").rate)
    assert rate == sorted(rate, reverse=True)
    # With gradients of one size the rate falls as 1 / sqrt(t); here each move brings larger ones.
    assert rate[-1] / rate[PERIOD - 1] < math.sqrt(PERIOD / len(rate))


def test_after_a_spike_adagrad_stops_and_rmsprop_goes_on(tracking: Disadvantage) -> None:
    def late(runs: list[TrackingRun], name: str) -> float:
        return mean(run(runs, name).losses[-2 * PERIOD :])

    def rates_of(runs: list[TrackingRun], name: str) -> list[float]:
        return known(run(runs, name).rate)

    adagrad = run(tracking.spiked, "Adagrad")
    assert late(tracking.spiked, "Adagrad") > late(tracking.moving, "Adagrad")
    assert late(tracking.spiked, "Adagrad") > tracking.idle, "it does worse than weights that stay 0"
    # The spike's square is a million times that of its own update, and some thousand updates come after it: even if their
    # squares were ten times as large, nine tenths and more of the sum would be the spike's, and the rate would keep its root.
    assert adagrad.largest_share is not None
    assert adagrad.largest_share > 0.9
    after = rates_of(tracking.spiked, "Adagrad")
    assert math.sqrt(0.9) < after[-1] / after[SPIKE_AT] <= 1
    assert adagrad.gradient_kept > GRADIENT_KEPT, "there would be something to learn"
    # SGD's error after a throw shrinks by a factor each update: after a thousand nothing is left of it but rounding.
    assert late(tracking.spiked, "SGD") == pytest.approx(late(tracking.moving, "SGD"), rel=1e-6)
    # Of the square that update had without the spike, 1e6 times as much came in. At the end RMSprop's mean still holds
    # .01 * .99^1495 * 1e6 = .003 of it (with late squares a thirtieth of it that is a tenth of the mean, and a twentieth of its
    # root), Adam's .001 * .999^1495 * 1e6 = 224.
    one, other = rates_of(tracking.spiked, "RMSprop"), rates_of(tracking.moving, "RMSprop")
    assert one[-1] == pytest.approx(other[-1], rel=0.05)
    assert late(tracking.spiked, "RMSprop") < late(tracking.moving, "Adam"), "it is back among those without a spike"
    one, other = rates_of(tracking.spiked, "Adam"), rates_of(tracking.moving, "Adam")
    assert one[SPIKE_AT] < one[-1] < other[-1] / 2


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
