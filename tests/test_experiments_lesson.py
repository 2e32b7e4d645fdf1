"""What the lesson measures: all of its parts, in order, and as JSON."""

from __future__ import annotations

import json
import math
from unittest.mock import MagicMock

import pytest
import torch

import throughtime as tt
from throughtime.errors import SettingsError
from throughtime.experiments import lesson as measuring
from throughtime.experiments.lesson import EXCHANGED, LABEL, SENTENCE, _Timer, lesson, playground, scaled

from lesson_cases import small_lesson


def test_progress_goes_from_nothing_to_all_and_never_back() -> None:
    _, said = small_lesson()
    fractions = [done for _, done in said]
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert fractions == sorted(fractions)
    assert all(part and "\n" not in part for part, _ in said)


def test_every_part_was_timed() -> None:
    record, said = small_lesson()
    assert list(record.seconds) == [
        "one sentence, forward and back",
        "networks where only order decides",
        "networks on Python's documentation",
        "networks on what comes next in a text",
        "cost against the number of words",
        "how far the gradient reaches at the start",
        "how far the gradient reaches while learning",
        "Adagrad and the other optimizers",
    ]
    assert set(record.seconds) | {"done"} <= {part for part, _ in said}
    assert all(record.seconds[part] > 0 for part in record.seconds if part.startswith(("networks", "Adagrad")))


def test_a_part_takes_from_its_begin_to_that_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.5, 15.75])
    monkeypatch.setattr("throughtime.experiments.lesson.time.monotonic", lambda: next(clock))
    timer = _Timer(lambda part, done: None)
    for part in ("one", "two", "done"):
        timer.begin(part, 0.0)
    assert timer.seconds == {"one": 1.5, "two": 4.25}


def test_nothing_is_computed_after_the_lesson_says_that_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []

    for name in ("explain", "playground", "order", "reach", "learning", "optimizers"):
        monkeypatch.setattr(measuring, name, MagicMock())
    monkeypatch.setattr(measuring, "Sequences", object)
    monkeypatch.setattr(measuring, "_compared", lambda *args: (None, {}))
    for name in ("scaled", "statements"):
        monkeypatch.setattr(measuring, name, lambda *args, name=name, **kwargs: computed.append(name))
    lesson(0, lambda part, done: computed.append("done") if part == "done" else None)
    assert computed == ["scaled", "scaled", "statements", "done"]


def test_the_sentence_has_four_words_as_the_page_has() -> None:
    record, _ = small_lesson()
    assert list(record.sentence.updates[0].gradients) == ["w_1", "w_2", "w_3", "w_4", "w^1", "w^2", "w^3", "w^4"]
    assert record.adagrad.optimizer == "adagrad"
    assert record.sentence.optimizer == "sgd"
    assert record.adagrad.losses[0] == record.sentence.losses[0]


def test_the_two_sentences_have_the_same_words_and_differ_for_the_recurrent_network_only() -> None:
    said = small_lesson()[0].two_sentences
    first, second = said.sentences
    assert first != second
    assert sorted(first) == sorted(second)
    assert said.identical["order-blind network"]
    assert not said.identical["recurrent network"]


def test_the_playground_has_every_setting_once_from_the_same_weights() -> None:
    cases = playground(seed=5)
    settings = {(case.words, case.network.tied, case.network.cell.nonlinearity) for case in cases}
    assert len(cases) == len(settings) == 12
    assert {case.words for case in cases} == {SENTENCE, EXCHANGED}
    for tied in (False, True):
        drawn = [case.updates[0].parameters for case in cases if case.network.tied == tied]
        assert all(one == drawn[0] for one in drawn)
    assert cases[0].losses[0] == tt.explain(SENTENCE, LABEL, seed=5).losses[0]


@pytest.mark.parametrize("tied", [False, True])
def test_scaling_by_one_is_the_sentence_itself(tied: bool) -> None:
    found = scaled(5, tied=tied)
    at = found.scales.index(1.0)
    states = next(case for case in playground(5) if case.network.tied == tied).updates[0].state_gradients
    assert found.left[at] == pytest.approx(abs(float(states[0][0] / states[-1][0])), rel=1e-12)
    assert (found.scales[0], round(found.scales[-1], 2)) == (0.1, 31.62)


def test_the_record_is_json_without_numbers_that_are_none() -> None:
    record, _ = small_lesson()
    text = json.dumps(record.as_json(), allow_nan=False)
    back = json.loads(text)
    assert back["seed"] == 3
    assert back["sentence"]["words"] == list(SENTENCE)
    assert back["only_order"]["contenders"][0]["score"] == record.only_order.contenders[0].score
    assert back["starts"][0]["left"][0] == 0.0
    assert torch.__version__ in back["machine"]


def test_what_is_not_finite_is_null_in_json() -> None:
    import dataclasses

    record, _ = small_lesson()
    run = dataclasses.replace(record.learned[0], loss=[math.inf, math.nan, 1.0])
    assert dataclasses.replace(record, learned=[run]).as_json()["learned"][0]["loss"] == [None, None, 1.0]


def test_a_seed_below_zero_is_refused() -> None:
    with pytest.raises(SettingsError, match="seed is -1"):
        lesson(-1)
