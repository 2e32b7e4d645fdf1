"""Where in the day, week and year a time is, as points on circles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.data.records import Frequency

_CYCLES: dict[str, tuple[str, ...]] = {
    "s": ("minute", "hour", "day"),
    "min": ("hour", "day", "week"),
    "h": ("day", "week", "year"),
    "D": ("week", "year"),
    "W": ("year",),
    "M": ("year",),
    "Q": ("year",),
}
_SECONDS = {"minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}
_HARMONICS = 2


def calendar_width(frequency: Frequency) -> int:
    """How many numbers :func:`calendar` gives for a time."""
    return 2 * _HARMONICS * len(_CYCLES.get(frequency.unit, ()))


def calendar(times: NDArray[Any], frequency: Frequency) -> NDArray[np.float32]:
    """Sine and cosine of the place in each cycle that this frequency can tell, and of twice that.

    Args:
        times: ``datetime64[s]`` ``[n]``; plain steps have no calendar.
        frequency: of the series.

    Returns:
        float32 ``[n, calendar_width(frequency)]``.

    Example:
        >>> calendar(np.array(["2020-01-01", "2020-07-01"], "M8[s]"), Frequency("M"))[:, :2].round(2).tolist()
        [[0.0, 1.0], [0.01, -1.0]]
    """
    columns = []
    for cycle in _CYCLES.get(frequency.unit, ()):
        if cycle == "year":
            start = times.astype("M8[Y]").astype("M8[s]")
            share = (times - start).astype(np.float64) / (365.25 * 86400)
        else:
            # The epoch was a Thursday; where a week begins does not matter on a circle.
            share = times.astype("M8[s]").astype(np.int64) % _SECONDS[cycle] / _SECONDS[cycle]
        columns += [f(2 * np.pi * k * share) for k in range(1, _HARMONICS + 1) for f in (np.sin, np.cos)]
    return np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((len(times), 0), np.float32)
