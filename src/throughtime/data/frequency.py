"""The frequency of a time series: found from its times, and used to count and to continue them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.data.records import Frequency

_CLOCK = (("W", 604_800), ("D", 86_400), ("h", 3600), ("min", 60), ("s", 1))
_MONTHS = {"M": 1, "Q": 3, "Y": 12}
_SEASONS = {"s": 60, "min": 1440, "h": 24, "D": 7, "W": 52, "M": 12, "Q": 4, "Y": 1, "step": 1}


def infer(times: NDArray[Any]) -> Frequency:
    """The frequency: the most common distance of neighbours, in months if all times fall on one day of the month.

    Args:
        times: ``datetime64[s]`` or int64, ascending without repeats, at least two; ``[n]``.

    Returns:
        Unit, count and the season that they suggest: a day of hours or minutes, a week of days, a year of weeks, months or
        quarters.

    Example:
        >>> infer(np.array(["2024-01-31", "2024-02-29", "2024-03-31"], "M8[s]"))
        Frequency(unit='M', count=1, season=12)
        >>> str(infer(np.array(["2024-01-01T00:00", "2024-01-01T00:30"], "M8[s]")))
        'every 30 minutes'
    """
    if times.dtype.kind != "M":
        return Frequency("step", _most_common(np.diff(times)))
    gaps = np.diff(times).astype(np.int64)
    if gaps.min() >= 28 * 86_400 and _on_one_day(times):
        count = _most_common(np.diff(times.astype("M8[M]")).astype(np.int64))
        unit = next(unit for unit in ("Y", "Q", "M") if count % _MONTHS[unit] == 0)
        count //= _MONTHS[unit]
    else:
        seconds = _most_common(gaps)
        unit, size = next((unit, size) for unit, size in _CLOCK if seconds % size == 0)
        count = seconds // size
    return Frequency(unit, count, _SEASONS[unit] // count if _SEASONS[unit] % count == 0 else 1)


def positions(times: NDArray[Any], like: NDArray[Any], frequency: Frequency) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """How many steps each time is after ``like[0]``, and which times are on the grid at all.

    Args:
        times: ``[n]``.
        like: times of the series; its largest day of the month tells the ends of shorter months.
        frequency: the distance of two steps.

    Example:
        >>> monthly = np.array(["2024-01-31", "2024-02-29"], "M8[s]")
        >>> positions(np.array(["2024-04-30", "2024-05-30"], "M8[s]"), monthly, Frequency("M"))
        (array([3, 4]), array([ True, False]))
    """
    if frequency.unit in _MONTHS:
        size = frequency.count * _MONTHS[frequency.unit]
        steps = (times.astype("M8[M]") - like[0].astype("M8[M]")).astype(np.int64) // size
    else:
        steps = (times - like[0]).astype(np.int64) // _size(frequency)
    return steps, at(steps, like, frequency) == times


def at(steps: NDArray[np.int64], like: NDArray[Any], frequency: Frequency) -> NDArray[Any]:
    """The times of steps counted from ``like[0]``: also those of the future.

    Args:
        steps: ``[n]``.
        like: times of the series, as for :func:`positions`.
        frequency: the distance of two steps.

    Example:
        >>> monthly = np.array(["2024-01-31", "2024-02-29"], "M8[s]")
        >>> at(np.array([2, 3]), monthly, Frequency("M")).astype("M8[D]")
        array(['2024-03-31', '2024-04-30'], dtype='datetime64[D]')
    """
    if frequency.unit not in _MONTHS:
        size = _size(frequency) * steps
        regular: NDArray[Any] = like[0] + (size if frequency.unit == "step" else size.astype("m8[s]"))
        return regular
    months = like[0].astype("M8[M]") + steps * (frequency.count * _MONTHS[frequency.unit])
    last_day = (months + 1).astype("M8[D]") - 1
    clock = like[0] - like[0].astype("M8[D]")
    days: NDArray[Any] = np.minimum(months.astype("M8[D]") + (_day(like).max() - 1), last_day).astype("M8[s]") + clock
    return days


def _size(frequency: Frequency) -> int:
    return frequency.count * (1 if frequency.unit == "step" else dict(_CLOCK)[frequency.unit])


def _most_common(gaps: NDArray[np.int64]) -> int:
    sizes, counts = np.unique(gaps, return_counts=True)
    return int(sizes[np.argmax(counts)])


def _day(times: NDArray[Any]) -> NDArray[np.int64]:
    days: NDArray[np.int64] = (times.astype("M8[D]") - times.astype("M8[M]").astype("M8[D]")).astype(np.int64)
    return days + 1


def _on_one_day(times: NDArray[Any]) -> bool:
    """Whether all times fall on one day of the month, or on its last day where the month is too short, at one time of day."""
    months = times.astype("M8[M]")
    length = ((months + 1).astype("M8[D]") - months.astype("M8[D]")).astype(np.int64)
    day, clock = _day(times), times - times.astype("M8[D]")
    return bool((day == np.minimum(day.max(), length)).all() and (clock == clock[0]).all())
