"""What all baselines have in common: what they say of themselves, and bounds on the time they take."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

Order = Literal["blind", "window", "full"]


class Baseline:
    """A simple model to hold a recurrent one against.

    Attributes:
        name: what it is called in results.
        description: what it sees, and what of the training data it was fitted on where that is not all; one line.
        order: what it sees of the order of the steps: nothing (``blind``), that of a few neighbours (``window``), all
            (``full``); ``None`` where it sees no input at all.
        parameters: how many numbers it has learned, once fitted.
    """

    name: str
    description: str
    order: Order | None = None
    parameters: int = 0

    def _tell_sample(self, used: int, of: int, what: str) -> None:
        if used < of:
            self.description = f"{type(self).description}; fitted on {used:,} of {of:,} {what}"


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of ``count`` rows, evenly spread, in order.

    Example:
        >>> spread(3, 5).tolist(), spread(10, 4).tolist()
        ([0, 1, 2], [0, 2, 5, 7])
    """
    kept = min(count, max(most, 1))
    return np.arange(kept, dtype=np.int64) * count // max(kept, 1)


def arrays(inputs: Sequence[Any], who: str) -> list[NDArray[np.float64]]:
    """Sequences ``[T, F]`` as float64.

    Raises:
        ValueError: inputs that are no such arrays, or not all of the same F.
    """
    steps = [np.asarray(x, dtype=np.float64) if isinstance(x, np.ndarray) else np.empty(0) for x in inputs]
    if any(x.ndim != 2 or x.shape[1] != steps[0].shape[1] for x in steps):
        raise ValueError(f"{who} takes arrays [T, F] of one F")
    return steps


def standardised(scaler: StandardScaler, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scaled features; a missing one is as the mean of the training data."""
    return np.asarray(np.nan_to_num(scaler.transform(x)), dtype=np.float64)


@contextmanager
def quietly() -> Iterator[None]:
    """Solvers may stop at their limit: a baseline that is nearly at its optimum will do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
