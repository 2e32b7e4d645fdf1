"""Where in the day, week and year a time is, as points on circles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_CYCLES: dict[str, tuple[str, ...]] = {
    "s": ("minute", "hour", "day"),
    "min": ("hour", "day", "week"),
    "h": ("day", "week", "year"),
    "D": ("week", "year"),
    "W": ("year",),
    "M": ("year",),
    "Q": ("year",),
}
_SECONDS = {"minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400, "year": 365.25 * 86400}
_HARMONICS = 2


def cycles_seen(times: NDArray[Any], unit: str) -> tuple[str, ...]:
    """The cycles that steps of this size can tell and that these times go through at least twice: only those can be learned.

    Args:
        times: of a series, ``datetime64[s]`` ``[n]``, or plain steps, which have no calendar.
        unit: of the step: ``s``, ``min``, ``h``, ``D``, ``W``, ``M``, ``Q``; others have no cycle.

    Example:
        >>> cycles_seen(np.arange("2020-01", "2020-03", dtype="M8[h]"), "h")
        ('day', 'week')
    """
    known = _CYCLES.get(unit, ())
    if not known or len(times) < 2:
        return ()
    span = float((times[-1] - times[0]).astype("m8[s]").astype(np.int64))
    return tuple(cycle for cycle in known if span >= 1.95 * _SECONDS[cycle])


def calendar(times: NDArray[Any], cycles: tuple[str, ...]) -> NDArray[np.float32]:
    """Sine and cosine of the place in each cycle, and of twice that.

    Args:
        times: ``datetime64[s]`` ``[n]``.
        cycles: ``minute``, ``hour``, ``day``, ``week``, ``year``.

    Returns:
        float32 ``[n, 4 * len(cycles)]``.

    Example:
        >>> calendar(np.array(["2020-01-01", "2020-07-01"], "M8[s]"), ("year",))[:, 1].round(1).tolist()
        [1.0, -1.0]
    """
    columns = []
    for cycle in cycles:
        if cycle == "year":
            start = times.astype("M8[Y]").astype("M8[s]")
            share = (times - start).astype(np.float64) / _SECONDS["year"]
        else:
            # The epoch was a Thursday; where a week begins does not matter on a circle.
            share = times.astype("M8[s]").astype(np.int64) % _SECONDS[cycle] / _SECONDS[cycle]
        columns += [f(2 * np.pi * k * share) for k in range(1, _HARMONICS + 1) for f in (np.sin, np.cos)]
    return np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((len(times), 0), np.float32)
