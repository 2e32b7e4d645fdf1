"""How much time series move: with their level or not, and from season to season."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spreads_with_level(values: list[NDArray[np.float64]], season: int) -> bool:
    """Whether series move in proportion to their level, as sales that grow do: then their logarithms are easier to forecast.

    Args:
        values: of each series; NaN is missing.
        season: steps in a season.

    Returns:
        True if all values are above zero, and the deviation of a season over its mean varies less from season to season than
        the deviation itself.

    Example:
        >>> wave = np.tile([1.0, 2.0, 3.0, 2.0], 10)
        >>> spreads_with_level([wave * 1.05 ** np.arange(40)], 4), spreads_with_level([wave + np.arange(40)], 4)
        (True, False)

    Source: Guerrero 1993, Journal of Forecasting 12, for choosing a power by what steadies the spread; here between 0 and 1
        only.
    """
    votes = []
    for series in values:
        known = series[~np.isnan(series)]
        if not len(known) or known.min() <= 0:
            return False
        size = season if season > 1 else 12
        blocks = known[len(known) % size :].reshape(-1, size)
        if len(blocks) >= 4:
            # Less its own trend, or growth itself would pass for spread.
            steps = np.diff(blocks, axis=1).std(axis=1)
            level = blocks.mean(axis=1)
            if steps.min() > 0:
                votes.append(_variation(steps / level) < _variation(steps))
    return bool(votes) and sum(votes) > len(votes) / 2


def _variation(values: NDArray[np.float64]) -> float:
    return float(values.std() / values.mean())


def typical_move(values: NDArray[np.float64], season: int) -> float:
    """What a series moves by: the deviation within a season, or within all there is where that is less; never 0.

    Args:
        values: of one series; NaN is missing.
        season: steps in a season; pairs of steps are looked at where there is none.

    Example:
        >>> typical_move(np.tile([1.0, 3.0], 10), 2), typical_move(np.full(20, 7.0), 2)
        (1.0, 7e-06)
    """
    size = max(season, 2)
    blocks = values[len(values) % size :].reshape(-1, size) if len(values) >= size else values[None]
    blocks = blocks[2 * (~np.isnan(blocks)).sum(axis=1) > size]
    spread = float(np.nanstd(blocks, axis=1).mean()) if len(blocks) else 0.0
    height = float(np.nanmax(np.abs(values), initial=0.0))
    return spread if spread > 1e-9 * height else max(1e-6 * height, 1e-9)


def season_error(values: NDArray[np.float64], season: int) -> float:
    """The mean error of repeating the last season; NaN where there is none."""
    season = season if season < len(values) else 1
    errors = abs(values[season:] - values[:-season])
    errors = errors[~np.isnan(errors)]
    return float(errors.mean()) if len(errors) else np.nan
