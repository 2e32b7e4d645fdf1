"""The sentences about sigmoid, ReLU and LSTM: judged by numbers, so other numbers give another judgement."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import Any

import pytest

from throughtime.experiments.learning import TRAINED, Learning
from throughtime.experiments.reach import Reach, at_initialisation
from throughtime.experiments.statements import Statement, statements


def run(name: str, score: float, learned_after: int | None = None) -> Learning:
    return Learning(
        task="temporal order",
        guessing=0.25,
        name=name,
        weights="",
        optimizer="Adam",
        rate=0.001,
        clip=1.0,
        tried={0.001: score},
        updates=[50],
        accuracy=[score],
        horizon=[None],
        loss=[1.0],
        largest_gradient=[2.0],
        peak=2.0,
        asked=50,
        score=score,
        scored=1000,
        learned_after=learned_after,
        diverged_at=None,
        parameters=1,
        seconds=1.0,
    )


SCORES = {
    "sigmoid": 0.3,
    "tanh": 0.5,
    "ReLU, large": 0.25,
    "ReLU, identity": 1.0,
    "GRU": 1.0,
    "LSTM": 1.0,
    "LSTM, forget bias 1": 1.0,
}
AFTER: dict[str, int | None] = {"GRU": 350, "LSTM": 400, "LSTM, forget bias 1": 200, "ReLU, identity": 250}


@pytest.fixture(scope="module")
def starts() -> list[Reach]:
    return at_initialisation()


def judged(
    starts: list[Reach],
    changed: dict[str, dict[str, Any]] | None = None,
    scores: dict[str, float] = SCORES,
    after: dict[str, int | None] = AFTER,
    clipped: tuple[float, float] = (0.25, 1.0),
) -> dict[str, Statement]:
    changed = changed or {}
    reaches = [replace(reach, **changed.get(reach.name, {})) for reach in starts]
    learned = [run(name, scores[name], after.get(name)) for name in TRAINED]
    pair = run("LSTM, large", clipped[0]), run("LSTM, large", clipped[1])
    return {statement.says: statement for statement in statements(reaches, learned, pair)}


def holds(found: dict[str, Statement], begins: str) -> bool:
    (statement,) = (statement for says, statement in found.items() if says.startswith(begins))
    return statement.holds


def test_what_holds_at_the_start_of_training_is_what_was_measured(starts: list[Reach]) -> None:
    found = judged(starts)
    assert [statement.holds for statement in found.values()] == [True, True, True, False, False, True, True, False, True, False]
    for statement in found.values():
        assert statement.measured
        assert statement.holds or statement.correction, "what does not hold is set right"
        json.dumps(asdict(statement), allow_nan=False)


def test_the_numbers_are_those_handed_in(starts: list[Reach]) -> None:
    sigmoid = next(reach for reach in starts if reach.name == "sigmoid")
    found = list(judged(starts).values())
    assert found[0].measured == {"smallest": sigmoid.slope_least, "mean": sigmoid.slope_mean, "largest": sigmoid.slope_largest}
    assert found[1].measured["accuracy after training"] == 0.3
    open_gate = found[8].measured["forget gate, LSTM, forget bias 1"]
    assert open_gate == pytest.approx(1 / (1 + math.exp(-1)), rel=0, abs=0.03)


@pytest.mark.parametrize(
    ("begins", "changes"),
    [
        ("The slope of the sigmoid", {"changed": {"sigmoid": {"slope_largest": 0.26}}}),
        ("The slope of the sigmoid", {"changed": {"sigmoid": {"slope_least": None}}}),
        ("Multiplied step by step", {"changed": {"sigmoid": {"horizon_1": None}}}),
        ("Multiplied step by step", {"changed": {"sigmoid": {"activation": -0.1}}}),
        ("tanh keeps more", {"changed": {"tanh": {"gain": -3.0}}}),
        ("A ReLU network that", {"after": AFTER | {"ReLU, large": 250}}),
        ("A ReLU network that", {"after": AFTER | {"ReLU, identity": None}}),
        ("LSTM and GRU learn", {"after": AFTER | {"tanh": 500}}),
        ("LSTM and GRU learn", {"after": AFTER | {"GRU": None}, "scores": SCORES | {"GRU": 0.6}}),
        ("An LSTM whose forget gate", {"after": AFTER | {"LSTM": 200}}),
        ("An LSTM whose forget gate", {"after": {}}),
        ("An LSTM whose forget gate", {"changed": {"LSTM": {"horizon_1": 40}}}),
    ],
)
def test_other_numbers_take_a_sentence_back(starts: list[Reach], begins: str, changes: dict[str, Any]) -> None:
    assert holds(judged(starts), begins)
    assert not holds(judged(starts, **changes), begins)


def test_an_lstm_that_diverged_without_clipping_did_explode(starts: list[Reach]) -> None:
    tame = [replace(reach, gain=-0.1) if reach.name in ("LSTM, large", "LSTM, very large") else reach for reach in starts]
    learned = [run(name, SCORES[name], AFTER.get(name)) for name in TRAINED]
    free, held = replace(run("LSTM, large", 1.0), peak=1e6, diverged_at=70), run("LSTM, large", 0.25)
    (found,) = (one for one in statements(tame, learned, (free, held)) if one.says == "An LSTM cannot explode.")
    assert not found.holds
    assert found.measured["largest gradient in training without clipping"] == 1e6
    assert found.measured["accuracy after the last update, without clipping"] is None
    assert found.measured["update at which it diverged, without clipping"] == 70


@pytest.mark.parametrize(
    ("begins", "changes"),
    [
        ("ReLU makes", {"changed": {"ReLU": {"gain": 0.1}, "ReLU, He": {"gain": 0.1}}}),
        ("ReLU multiplies", {"changed": {"ReLU, large": {"slope_largest": 1.5}}}),
        ("Before it has learned", {"changed": {"LSTM": {"horizon_1": None}}}),
        ("Before it has learned", {"changed": {"LSTM": {"horizon_1": 16}}}),
        (
            "An LSTM cannot explode",
            {"changed": {name: {"gain": -0.1} for name in ("LSTM, large", "LSTM, very large")}, "clipped": (1.0, 1.0)},
        ),
    ],
)
def test_other_numbers_let_a_sentence_hold(starts: list[Reach], begins: str, changes: dict[str, Any]) -> None:
    assert not holds(judged(starts), begins)
    assert holds(judged(starts, **changes), begins)
