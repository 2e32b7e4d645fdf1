"""Rounds in turning order, and the statistics of what they give."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from throughtime.bench.workers import PeerError

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True)
class Sampled:
    """What the rounds gave of one quantity.

    Attributes:
        median: of the samples.
        spread: half the interquartile range, as a share of the median.
        samples: one a round, in order.
    """

    median: float
    spread: float
    samples: Sequence[float]

    @property
    def most(self) -> float:
        """The greatest sample: what slows a machine down now and then does not lower what it can do."""
        return max(self.samples)

    @classmethod
    def of(cls, samples: Sequence[float]) -> Sampled:
        """The statistics of some samples, two at least.

        Example:
            >>> Sampled.of([1.0, 2.0, 4.0]).median, Sampled.of([1.0, 2.0, 4.0]).spread
            (2.0, 0.375)
        """
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, (high - low) / 2 / median, samples)


def turning(keys: Sequence[_Key], turn: int) -> list[_Key]:
    """The order of a round: everybody comes once, begins as often as the others, and follows now one neighbour, now the other.

    Example:
        >>> [turning("abc", turn) for turn in range(3)]
        [['a', 'b', 'c'], ['c', 'b', 'a'], ['b', 'c', 'a']]
    """
    order = deque(keys)
    order.rotate(-(turn // 2))
    return list(reversed(order) if turn % 2 else order)


def run_rounds(samplers: Mapping[_Key, Callable[[], float]], rounds: int) -> tuple[dict[_Key, Sampled], dict[_Key, str]]:
    """Take a sample of everyone in every round.

    Args:
        samplers: each takes one sample.
        rounds: how many, two at least.

    Returns:
        What was sampled, and why others were not: whoever fails once is left out.
    """
    samples: dict[_Key, list[float]] = {key: [] for key in samplers}
    failed: dict[_Key, str] = {}
    for turn in range(rounds):
        for key in turning(list(samplers), turn):
            if key not in failed:
                try:
                    samples[key].append(samplers[key]())
                except PeerError as error:
                    failed[key] = str(error)
    return {key: Sampled.of(taken) for key, taken in samples.items() if key not in failed}, failed


def geometric_mean(values: Iterable[float]) -> float:
    """The mean for ratios.

    Example:
        >>> round(geometric_mean([2.0, 8.0]), 6)
        4.0
    """
    return math.exp(statistics.fmean(math.log(value) for value in values))
