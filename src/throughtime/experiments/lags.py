"""Tasks whose answer lies a known number of steps back: temporal order and the adding problem.

Each batch says where its informative steps are. A network can only learn such a task if its gradient reaches back to them.

Legend: T steps, B samples, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from throughtime.errors import SettingsError

SYMBOLS = 6
"""Features of a step of temporal order: the distractors 0 to 3, then the two informative symbols, X (4) and Y (5)."""

ORDERS = ("X X", "X Y", "Y X", "Y Y")
"""What the four classes of temporal order stand for."""

ORDER_CHANCE = 1 / len(ORDERS)
"""The accuracy of guessing on temporal order: the four classes are equally likely."""

ADDING_CHANCE = 1 / 6
"""The mean squared error of always answering 1 in the adding problem: twice the variance 1/12 of a uniform number."""

WITHIN = 0.1
"""An answer so near to the sum is right in the adding problem."""


@dataclass(frozen=True, eq=False)
class Lagged:
    """A batch of a task with a known lag.

    Attributes:
        inputs: [T, B, F] float32.
        targets: [B] the answer after the last step: a class (int64) or a number (float32).
        informative: [2, B] the steps, counted from 0, that the answer depends on; the first one is earlier.
    """

    inputs: npt.NDArray[np.float32]
    targets: npt.NDArray[Any]
    informative: npt.NDArray[np.int64]

    @property
    def lags(self) -> npt.NDArray[np.int64]:
        """[2, B] how many steps before the last one each informative step lies."""
        return len(self.inputs) - 1 - self.informative


def temporal_order(steps: int, batch: int, rng: np.random.Generator) -> Lagged:
    """Two symbols among distractors: the answer is the order in which they came.

    One of X and Y stands at a step in [T/10, 2T/10] and again one in [4T/10, 5T/10] (rounded down, both ends included); every
    other step is one of four distractors. The class, see :data:`ORDERS`, is the first symbol and then the second, so that a
    network must keep something for 8T/10 to 9T/10 steps.

    Args:
        steps: T, at least 10, so that the two ranges do not meet.
        batch: B.
        rng: NumPy's generator; the same state gives the same batch.

    Returns:
        inputs one-hot [T, B, 6], targets 0 to 3 [B].

    Raises:
        SettingsError: too few steps, or no sample.

    Example:
        >>> drawn = temporal_order(20, 3, np.random.default_rng(0))
        >>> drawn.inputs.shape, drawn.targets.shape, bool((drawn.lags[0] >= 15).all())
        ((20, 3, 6), (3,), True)

    Source: Hochreiter and Schmidhuber 1997, Long Short-Term Memory, task 6a, as simplified by Pascanu, Mikolov and Bengio 2013,
    arXiv:1211.5063: T is fixed, and there are no symbols for start and end.
    """
    _check(steps, batch, least=10)
    rows = np.arange(batch)
    informative = np.stack(
        [_between(rng, steps // 10, 2 * steps // 10, batch), _between(rng, 4 * steps // 10, steps // 2, batch)]
    )
    told = rng.integers(2, size=(2, batch))
    symbols = rng.integers(4, size=(steps, batch))
    symbols[informative, rows] = 4 + told
    return Lagged(np.eye(SYMBOLS, dtype=np.float32)[symbols], 2 * told[0] + told[1], informative)


def adding(steps: int, batch: int, rng: np.random.Generator) -> Lagged:
    """Two marked numbers among many: the answer is their sum.

    Every step carries a number, uniform in [0, 1), and a mark, which is 1 at one step of the first half and one of the second,
    else 0. The target is the sum of the two marked numbers.

    Args:
        steps: T, at least 2.
        batch: B.
        rng: NumPy's generator; the same state gives the same batch.

    Returns:
        inputs [T, B, 2], number and mark; targets [B] float32 between 0 and 2.

    Raises:
        SettingsError: too few steps, or no sample.

    Example:
        >>> drawn = adding(10, 4, np.random.default_rng(0))
        >>> numbers, marks = drawn.inputs[..., 0], drawn.inputs[..., 1]
        >>> bool(np.allclose((numbers * marks).sum(0), drawn.targets))
        True

    Source: Hochreiter and Schmidhuber 1997, section 5.4, as posed by Le, Jaitly and Hinton 2015, arXiv:1504.00941; a mark in
    either half, as in Arjovsky, Shah and Bengio 2016, arXiv:1511.06464.
    """
    _check(steps, batch, least=2)
    rows = np.arange(batch)
    informative = np.stack([_between(rng, 0, steps // 2 - 1, batch), _between(rng, steps // 2, steps - 1, batch)])
    inputs = np.zeros((steps, batch, 2), np.float32)
    inputs[..., 0] = rng.random((steps, batch), dtype=np.float32)
    inputs[informative, rows, 1] = 1.0
    return Lagged(inputs, inputs[informative, rows, 0].sum(0), informative)


@dataclass(frozen=True)
class Task:
    """A task with a known lag, as a network meets it.

    Attributes:
        name: in a sentence.
        features: of a step, F.
        outputs: numbers that answer it: one a class, or a single one that is the answer.
        draw: makes a batch from T, B and a generator.
        guessing: the share of sequences that are right by guessing.
    """

    name: str
    features: int
    outputs: int
    draw: Callable[[int, int, np.random.Generator], Lagged]
    guessing: float


ORDER = Task("temporal order", SYMBOLS, len(ORDERS), temporal_order, ORDER_CHANCE)
ADDING = Task("the adding problem", 2, 1, adding, 1 - (1 - WITHIN) ** 2)
"""Guessed by always answering 1: the sum of two uniform numbers is that near to it with this probability."""


def _between(rng: np.random.Generator, first: int, last: int, batch: int) -> npt.NDArray[np.int64]:
    return rng.integers(first, last, size=batch, endpoint=True)


def _check(steps: int, batch: int, least: int) -> None:
    if steps < least:
        raise SettingsError(f"steps is {steps}, expected at least {least}, so that the informative steps lie apart; give more")
    if batch < 1:
        raise SettingsError(f"batch is {batch}, expected at least 1 sample; give more")
