"""Whether a model beats a baseline: told from the errors on the same pieces of data."""

from __future__ import annotations

from typing import Any

import numpy as np

from throughtime.tasks.base import BaselineScore, Metric
from throughtime.train.verdict import FEWEST, headline, judged

ACCURACY = Metric("accuracy", "accuracy", higher_is_better=True)
MASE = Metric("mase", "MASE", higher_is_better=False)


def rival(name: str, errors: Any, **scores: float) -> BaselineScore:
    return BaselineScore(name, "", 1, 0.0, scores, errors=np.asarray(errors, float))


def test_a_difference_of_one_in_370_may_be_chance() -> None:
    """As for JapaneseVowels: .9838 against .9811, one sequence of 370."""
    model, other = np.zeros(370), np.zeros(370)
    model[:6], other[3:10] = 1, 1
    found = judged(model, [rival("bag of steps", other, accuracy=1 - 7 / 370)], ACCURACY)
    assert found is not None
    assert (found.beats, found.pieces) == (None, 370)
    assert found.interval is not None
    assert found.interval[0] < 0 < found.interval[1]
    said = headline("GRU", ACCURACY, 0.9838, "370 sequences", found)
    assert said.startswith("GRU: accuracy 0.9838 on 370 sequences; best baseline, bag of steps: 0.9811; ")
    assert said.endswith("; about the same: the difference may be chance.")


def test_what_is_better_throughout_beats_and_is_beaten() -> None:
    errors = np.random.default_rng(0).random(40)
    better, worse = (judged(errors, [rival("drift", errors + change, mase=0.5)], MASE) for change in (0.1, -0.1))
    assert better is not None
    assert worse is not None
    assert (better.beats, better.words) == (True, "the model beats it")
    assert (worse.beats, worse.words) == (False, "the model does not beat it")
    same = judged(errors, [rival("drift", errors, mase=0.5)], MASE)
    assert same is not None
    assert same.beats is None


def test_it_is_held_against_the_best_only() -> None:
    errors = np.full(30, 0.5)
    rivals = [rival("bad", errors + 1, mase=1.5, mae=0.1), rival("good", errors - 0.2, mase=0.3, mae=9.0)]
    found = judged(errors, rivals, MASE)
    assert found is not None
    assert (found.baseline, found.score, found.beats) == ("good", 0.3, False)
    assert judged(errors, [], MASE) is None
    assert judged(errors, rivals, ACCURACY) is None


def test_too_few_pieces_tell_nothing() -> None:
    few = np.zeros(FEWEST - 1)
    found = judged(few, [rival("drift", few + 9, mase=9.0)], MASE)
    assert found is not None
    assert (found.beats, found.interval) == (None, None)
    assert found.as_json()["interval"] is None
    assert "too little data" in found.words
    enough = np.zeros(FEWEST)
    told = judged(enough, [rival("drift", enough + 9, mase=9.0)], MASE)
    assert told is not None
    assert told.beats is True
