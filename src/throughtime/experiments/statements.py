"""What textbooks say of sigmoid, ReLU and LSTM, each sentence judged by the numbers measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from throughtime.experiments.lags import ORDER_CHANCE
from throughtime.experiments.learning import Learning
from throughtime.experiments.reach import Reach


@dataclass(frozen=True)
class Statement:
    """A sentence about the gradient, and what was measured of it.

    Attributes:
        says: the sentence.
        holds: whether every number measured agrees with it.
        measured: the numbers, by name; ``None`` for a horizon not seen within T steps, for updates that did not suffice, and
            for what is not defined, such as the accuracy after the last update of a run that diverged.
        correction: what is true instead, where it does not hold.
    """

    says: str
    holds: bool
    measured: dict[str, float | None]
    correction: str = ""


def statements(starts: list[Reach], learned: list[Learning], clipped: tuple[Learning, Learning]) -> list[Statement]:
    """What textbooks say of sigmoid, ReLU and LSTM, each judged by the numbers measured.

    Args:
        starts: of :func:`at_initialisation`.
        learned: of :func:`while_training`, with all of :data:`TRAINED`.
        clipped: of :func:`clipping`.
    """
    start = {reach.name: reach for reach in starts}
    score = {run.name: run.score for run in learned}
    sooner = {run.name: run.learned_after for run in learned}
    sigmoid, tanh, relu, lstm = start["sigmoid"], start["tanh"], start["ReLU"], start["LSTM"]
    large, identity, open_lstm = start["ReLU, large"], start["ReLU, identity"], start["LSTM, forget bias 1"]
    relus = (relu, start["ReLU, He"], large)
    lstms = (start["LSTM, large"], start["LSTM, very large"])
    free, held = (run.accuracy[-1] if run.diverged_at is None else None for run in clipped)
    broke = clipped[0].diverged_at
    return [
        Statement(
            "The slope of the sigmoid lies between 0 and 1/4.",
            _least(sigmoid.slope_least) >= 0 and _most(sigmoid.slope_largest) <= 0.25,
            {"smallest": sigmoid.slope_least, "mean": sigmoid.slope_mean, "largest": sigmoid.slope_largest},
        ),
        Statement(
            "Multiplied step by step, the slopes of the sigmoid make the gradient vanish.",
            sigmoid.horizon_1 is not None and _most(sigmoid.activation) < _least(sigmoid.weight) < 0,
            {
                "log gain of a step": sigmoid.gain,
                "of it the slope": sigmoid.activation,
                "of it the weights": sigmoid.weight,
                "horizon at 1 %": sigmoid.horizon_1,
                "accuracy after training": score["sigmoid"],
                "accuracy of guessing": ORDER_CHANCE,
            },
        ),
        Statement(
            "tanh keeps more of the gradient than the sigmoid with the same weights.",
            _least(tanh.gain) > _most(sigmoid.gain),
            _gains(sigmoid, tanh) | _horizons(sigmoid, tanh) | _scores(score, "sigmoid", "tanh"),
        ),
        Statement(
            "ReLU makes the gradient explode.",
            all(_least(reach.gain) > 0 for reach in relus),
            _gains(*relus),
            "It depends on the recurrent weights.",
        ),
        Statement(
            "ReLU multiplies by slopes above 1.",
            _least(large.slope_largest) > 1,
            {
                "largest slope": large.slope_largest,
                "log gain owed to the slope": large.activation,
                "log gain owed to the weights": large.weight,
            },
            "Its slope is 0 or 1, so its part of the gain is never above 0; what exceeds 1 is the weights' part.",
        ),
        Statement(
            "A ReLU network that begins at the identity learns sooner than one that begins with large weights.",
            _most(sooner["ReLU, identity"]) < _most(sooner["ReLU, large"]),
            _gains(identity, large)
            | _scores(score, "ReLU, identity", "ReLU, large")
            | _updates(sooner, "ReLU, identity", "ReLU, large"),
        ),
        Statement(
            "LSTM and GRU learn what a simple RNN with tanh does not.",
            sooner["tanh"] is None and None not in (sooner["GRU"], sooner["LSTM, forget bias 1"]),
            _scores(score, "tanh", "GRU", "LSTM", "LSTM, forget bias 1")
            | _updates(sooner, "tanh", "GRU", "LSTM", "LSTM, forget bias 1"),
        ),
        Statement(
            "Before it has learned anything, an LSTM reaches at least twice as far back as a simple RNN with tanh.",
            _beyond(lstm) >= 2 * _beyond(tanh),
            _horizons(tanh, lstm, open_lstm),
            "Not while its forget gate is half shut; a bias opens it at the start, or training does.",
        ),
        Statement(
            "An LSTM whose forget gate begins open reaches further, and learns sooner.",
            _beyond(open_lstm) > _beyond(lstm) and _most(sooner["LSTM, forget bias 1"]) < _most(sooner["LSTM"]),
            {f"forget gate, {reach.name}": math.exp(_least(reach.cell)) for reach in (lstm, open_lstm)}
            | _horizons(lstm, open_lstm)
            | _updates(sooner, "LSTM", "LSTM, forget bias 1"),
        ),
        Statement(
            "An LSTM cannot explode.",
            all(_most(reach.gain) <= 0 for reach in lstms) and free is not None and free >= _least(held),
            _gains(large, *lstms)
            | {
                "largest gradient in training without clipping": clipped[0].peak,
                "accuracy after the last update, without clipping": free,
                "accuracy after the last update, with clipping": held,
            }
            | ({} if broke is None else {"update at which it diverged, without clipping": broke}),
            "With large recurrent weights its gradient can grow with every step back too.",
        ),
    ]


def _gains(*reaches: Reach) -> dict[str, float | None]:
    return {f"log gain of a step, {reach.name}": reach.gain for reach in reaches}


def _horizons(*reaches: Reach) -> dict[str, float | None]:
    return {f"horizon at 1 %, {reach.name}": reach.horizon_1 for reach in reaches}


def _scores(score: dict[str, float], *names: str) -> dict[str, float | None]:
    return {f"accuracy after training, {name}": score[name] for name in names}


def _updates(sooner: dict[str, int | None], *names: str) -> dict[str, float | None]:
    return {f"updates until 95 % are right, {name}": sooner[name] for name in names}


def _least(number: float | None) -> float:
    """A number that is to be large; what is not known is not."""
    return -math.inf if number is None else number


def _most(number: float | None) -> float:
    """A number that is to be small; what is not known is not."""
    return math.inf if number is None else number


def _beyond(reach: Reach) -> float:
    """The horizon at 1 %; endless if it was not seen."""
    return _most(reach.horizon_1)
