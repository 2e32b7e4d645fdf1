"""Sequences of different lengths, laid end to end, and cut into batches."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.data.spool import Spool

_POOL = 32


@dataclass(frozen=True)
class Ragged:
    """Sequences laid end to end: nothing is padded until a batch is made.

    Attributes:
        values: all steps of all sequences, ``[sum T, ...]``.
        offsets: where each sequence begins, and the end; int64 ``[n + 1]``.
    """

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, sequences: Iterable[NDArray[Any]]) -> Ragged:
        """From one array a sequence, in a temporary file if they are large together."""
        spool, ends = Spool(), array("q", [0])
        for sequence in sequences:
            spool.add(sequence)
            ends.append(ends[-1] + len(sequence))
        return cls(spool.array(), np.array(ends, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each sequence."""
        return np.diff(self.offsets)

    def padded(self, rows: NDArray[np.int64], fill: float = 0) -> NDArray[Any]:
        """These sequences side by side: ``[T, B, ...]``, T that of the longest, but at least 1: no layer takes less."""
        lengths = self.lengths[rows]
        steps = np.arange(int(lengths.max(initial=1)))[:, None]
        inside = steps < lengths[None]
        places = np.where(inside, self.offsets[rows][None] + steps, 0)
        if not len(self.values):
            return np.full((*places.shape, *self.values.shape[1:]), fill, self.values.dtype)
        values = self.values[places]
        values[~inside] = fill
        return values


def shuffled_by_length(lengths: NDArray[np.int64], batch: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """All sequences once, in batches of about the same length, in an order that depends on seed and epoch alone.

    Sequences are shuffled, sorted within pools of some batches, cut into batches, and these shuffled: batches are as good as
    random, and little of them is padding.

    Args:
        lengths: ``[n]``.
        batch: sequences in a batch; the last one of an epoch may have fewer.
        seed: of the fit.
        epoch: which pass.

    Returns:
        The rows of each batch.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), batch * _POOL):
        pool = order[start : start + batch * _POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches.extend(pool[first : first + batch] for first in range(0, len(pool), batch))
    return [batches[place] for place in random.permutation(len(batches))]


def in_order_of_length(lengths: NDArray[np.int64], steps: int) -> list[NDArray[np.int64]]:
    """All sequences once, longest last, in batches of at most ``steps`` padded steps: for scoring.

    Args:
        lengths: ``[n]``.
        steps: most steps of a batch, padding included; a longer sequence is a batch of its own.
    """
    order = np.argsort(lengths, kind="stable")
    batches: list[NDArray[np.int64]] = []
    start = 0
    for stop in range(1, len(order) + 1):
        if stop == len(order) or (stop + 1 - start) * max(int(lengths[order[stop]]), 1) > steps:
            batches.append(order[start:stop])
            start = stop
    return batches
