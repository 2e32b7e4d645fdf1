"""Which times are named at the axis of a figure: round ones, all in one form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STAMP = re.compile(r"\d{4}-\d\d(-\d\d([ T]\d\d:\d\d(:\d\d)?)?)?")
_QUARTER = re.compile(r"(\d{4})Q([1-4])")
_UNITS: list[tuple[str, tuple[int, ...]]] = [
    ("s", (1, 10, 30)),
    ("m", (1, 5, 15, 30)),
    ("h", (1, 3, 6, 12)),
    ("D", (1, 2, 7, 14)),
    ("M", (1, 3, 6)),
    ("Y", (1, 2, 5, 10, 20, 50, 100, 200, 500)),
]
"""Units of numpy, the finest first, and how many of each may lie from one tick to the next."""

_MONDAY = 3  # 1970-01-01, from which numpy counts, was a Thursday

Ticks = list[tuple[int, str]]
"""Places in the list of times, and what is written there."""


def time_ticks(times: Sequence[Any], letters: float) -> Ticks:
    """The times to name, as many as there is room for.

    Args:
        times: one after another: dates and times, months, quarters, or whole numbers, as text or not; of anything else, evenly
            chosen ones are named as they are.
        letters: the width of the axis in letters.

    Example:
        >>> months = [f"{year}-{month:02}" for year in (1958, 1959, 1960) for month in range(1, 13)]
        >>> time_ticks(months[2:], 50)
        [(4, '1958-07'), (10, '1959-01'), (16, '1959-07'), (22, '1960-01'), (28, '1960-07')]
        >>> time_ticks(["2002Q4", "2003Q1", "2003Q2"], 50)
        [(0, '2002Q4'), (1, '2003Q1'), (2, '2003Q2')]
        >>> time_ticks(range(7, 58), 30)
        [(3, '10'), (13, '20'), (23, '30'), (33, '40'), (43, '50')]
        >>> time_ticks(["Mon", "Tue"], 50)
        [(0, 'Mon'), (1, 'Tue')]
    """
    texts = [str(time) for time in times]

    def fit(ticks: Ticks) -> bool:
        ends = []
        for place, label in ticks:
            middle = place / max(len(texts) - 1, 1) * letters
            last = middle + len(label) / 2
            if last > letters + 2:  # it would leave the figure, and is written before its place
                last = middle
            ends.append((last - len(label), last))
        return all(start > end + 1.5 for (_, end), (start, _) in pairwise(ends))

    fitting = [ticks for ticks in _candidates(texts) if ticks and fit(ticks)]
    several = [ticks for ticks in fitting if len(ticks) > 1]
    return (several or fitting or [_evenly(texts, letters)])[0]


def _candidates(texts: Sequence[str]) -> Iterator[Ticks]:
    """Ticks from fine to coarse."""
    if all(re.fullmatch(r"-?\d{1,15}", text) for text in texts):
        numbers = np.array(texts, dtype=np.int64)
        for step in (factor * 10**power for power in range(15) for factor in (1, 2, 5)):
            yield _ticks(numbers // step, int(numbers[0] - 1) // step, texts)
        return
    quarters = [_QUARTER.fullmatch(text) for text in texts]
    months = [f"{found[1]}-{3 * int(found[2]) - 2:02}" for found in quarters if found]
    stamps = months if len(months) == len(texts) else texts
    try:
        if not all(_STAMP.fullmatch(stamp) for stamp in stamps):
            return
        moments = np.array([stamp.replace(" ", "T") for stamp in stamps], dtype="M8[s]")
        before = (moments[:1].astype(np.int64) - 1).astype("M8[s]")
    except ValueError:  # a 13th month
        return
    coarser = {unit: larger for (unit, _), (larger, _) in pairwise(_UNITS)}
    for unit, steps in _UNITS:
        whole = moments.astype(f"M8[{unit}]")
        if coarser.get(unit) and (moments.astype(f"M8[{coarser[unit]}]") == moments).all():
            continue  # the times are not as fine as this
        labels = texts if months else _labels(whole, unit)
        for step in steps:
            yield _ticks(_counted(moments, unit) // step, int(_counted(before, unit)[0]) // step, labels)


def _counted(moments: NDArray[np.datetime64], unit: str) -> NDArray[np.int64]:
    """How many of a unit had gone by; years by their number, days so that weeks begin on Mondays."""
    counted: NDArray[np.int64] = moments.astype(f"M8[{unit}]").astype(np.int64)
    return counted + {"Y": 1970, "D": _MONDAY}.get(unit, 0)


def _labels(whole: NDArray[np.datetime64], unit: str) -> list[str]:
    texts = [str(moment).replace("T", " ") for moment in whole]
    # The year is the same all along, and its place is needed.
    return [f"{text[5:]}:00" if unit == "h" else text[5:] for text in texts] if unit in "smh" else texts


def _ticks(counted: NDArray[np.int64], before: int, labels: Sequence[str]) -> Ticks:
    """A tick wherever the count goes up, at the first time too if it did so there."""
    return [(i, labels[i]) for i in np.flatnonzero(np.diff(counted, prepend=before)).tolist()]


def _evenly(texts: Sequence[str], letters: float) -> Ticks:
    room = max(1, int(letters / (max(map(len, texts)) + 2)))
    count = min(room, 4, len(texts))
    return [(place, texts[place]) for place in (round((i + 0.5) * len(texts) / count - 0.5) for i in range(count))]
