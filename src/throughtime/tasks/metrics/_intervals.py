"""How sure a difference between two models is, from the data both were scored on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

_MOST_BLOCKS = 20_000
_DRAWS_AT_ONCE = 4_000_000
"""Bounds on the time and the memory of a bootstrap."""


def paired_interval(
    differences: ArrayLike,
    blocks: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """An interval for the mean of paired differences, by the percentile bootstrap.

    Args:
        differences: ``[n]``, the score of one model less that of the other, on the same sequence, step or window.
        blocks: ``[n]``, equal where differences depend on each other (steps of one sequence, windows of one stretch of time):
            blocks are drawn, not single differences. Each difference is its own block if not given.
        level: the probability with which the interval is to hold the mean.
        resamples: how often n differences (or as many blocks) are drawn with replacement.
        seed: of the draws.

    Returns:
        Its ends; minus and plus infinity for a single block, which tells nothing of how much blocks vary. Above 20,000 blocks,
        neighbours are joined first (the interval becomes a little more cautious, if anything).

    Raises:
        ValueError: no differences, one that is not finite, as many blocks as do not fit.

    Example:
        >>> low, high = paired_interval([.1, .3, .2, .4, .2, .3, .1, .2])
        >>> round(low, 2), round(high, 2)
        (0.16, 0.29)

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; blocks as in chapter 8.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"differences are {list(values.shape)}, expected [n] finite numbers with n above 0")
    if blocks is None:
        block = np.arange(len(values))
    else:
        names = np.asarray(blocks)
        if names.shape != values.shape:
            raise ValueError(f"blocks are {list(names.shape)}, expected {list(values.shape)}")
        block = np.unique(names, return_inverse=True)[1]
    count = int(block.max()) + 1
    if count > _MOST_BLOCKS:
        block, count = block * _MOST_BLOCKS // count, _MOST_BLOCKS
    if count == 1:
        return -np.inf, np.inf
    sums, sizes = np.bincount(block, weights=values), np.bincount(block)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, resamples, step):
        drawn = rng.integers(count, size=(min(step, resamples - start), count), dtype=np.int32)
        means[start : start + step] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
