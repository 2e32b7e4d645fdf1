"""Whether a model beats a baseline: told from the errors on the same pieces of data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from throughtime.tasks.base import BaselineScore, Metric
from throughtime.train.verdict import FEWEST, headline, judged

from fit_cases import fit_to, put, reviews, table

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


def test_rows_of_a_group_count_as_one_piece() -> None:
    """The model is better on one speaker of six, with 30 rows, and worse on all others, with one row each: 35 rows say that it
    is better, six speakers that nobody knows."""
    speakers = ["ann"] * 30 + ["ben", "cyd", "dan", "eve", "fay"]
    model = np.array([0.0] * 30 + [0.3] * 5)
    baselines = [rival("drift", np.array([0.2] * 30 + [0.0] * 5), mase=9.0)]
    alone, grouped = judged(model, baselines, MASE), judged(model, baselines, MASE, speakers)
    assert alone is not None
    assert grouped is not None
    assert (alone.pieces, alone.beats, grouped.pieces, grouped.beats) == (35, True, 6, None)
    assert grouped.interval is not None
    assert grouped.interval[0] < 0 < grouped.interval[1]
    assert "sequence, document" in alone.as_json()["how"]
    assert "whole groups of rows" in grouped.as_json()["how"]
    assert f"{FEWEST} groups at least" in grouped.as_json()["how"]


def test_too_few_groups_tell_nothing_however_many_rows() -> None:
    model, groups = np.zeros(100), [f"speaker {n % (FEWEST - 1)}" for n in range(100)]
    baselines = [rival("drift", model + 9, mase=9.0)]
    found = judged(model, baselines, MASE, groups)
    assert found is not None
    assert (found.beats, found.pieces, found.interval) == (None, FEWEST - 1, None)
    told = judged(model, baselines, MASE, [f"speaker {n % FEWEST}" for n in range(100)])
    assert told is not None
    assert told.beats is True


@pytest.mark.parametrize("task", ["classify", "lm"])
def test_a_fit_counts_groups_where_errors_are_those_of_rows(task: str, tmp_path: Path) -> None:
    """120 rows of 40 authors; the errors of lm are those of documents, of which every row is one."""
    rows = [f"{row},author {number % 40}" for number, row in enumerate(reviews())]
    source = put(tmp_path, "reviews.csv", table("text,label,author", rows))
    result = fit_to(source, tmp_path / "run", task=task, group="author", **({"text": "text"} if task == "lm" else {}))
    count, told = result["parts"]["test"]["sequences"], result["comparison"]
    assert count % 3 == 0, "each author has three rows, all in one part"
    assert told["pieces"] == (count if task == "lm" else count // 3)
    assert ("whole groups" in told["how"]) == (task != "lm")
