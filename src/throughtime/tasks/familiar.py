"""Series of other data held against those of a fit: where the fit ended, and which covariates it knew."""

from __future__ import annotations

import dataclasses

import numpy as np

from throughtime.data.records import Frequency, Panel, Series
from throughtime.data.split_panel import PanelPart
from throughtime.data.times import written
from throughtime.errors import DataError

Ends = dict[str, tuple[int, int]]
"""Per series the time of its last value, as a whole number, and how many steps there are up to it."""


def ends_of(panel: Panel) -> Ends:
    """Where every series of a panel ends."""
    return {series.id: (int(series.times[len(series) - 1].astype(np.int64)), len(series)) for series in panel.series}


def first_unseen(series: Series, seen: Ends) -> int:
    """The first value of a series that lies beyond where another one of its name ended; 0 if there was none."""
    if series.id not in seen:
        return 0
    return int(np.searchsorted(series.times[: len(series)].astype(np.int64), seen[series.id][0], side="right"))


def unseen_part(content: Panel, seen: Ends, window: int, horizon: int) -> tuple[PanelPart, str]:
    """What came after the end of what a fit saw of each series, or, where it has seen all, everything.

    Args:
        content: series with the covariates of the fit.
        seen: where those of the fit ended.
        window: steps of the past that a forecast looks back on.
        horizon: steps to forecast.

    Returns:
        What is to be scored, and what there is to say of it, in a phrase.

    Raises:
        DataError: too little of it, or of the past before it.
    """
    least = [min(window, seen[s.id][1]) if s.id in seen else window for s in content.series]
    first = [first_unseen(series, seen) for series in content.series]
    starts = [max(pair) for pair in zip(first, least, strict=True)]
    new = [number for number, series in enumerate(content.series) if first[number] < len(series)]
    if not new:
        starts, note = least, ", all of which the fit saw"
    else:
        ends = {seen[content.series[number].id][0] for number in new if content.series[number].id in seen}
        last = np.array(sorted(ends)).astype(content.series[new[0]].times.dtype)
        after = f" after {written(last, content.form)[0]}" if len(ends) == 1 else ""
        note = f"{after}, which the fit did not see"
    if all(start + horizon > len(series) for series, start in zip(content.series, starts, strict=True)):
        number = new[0] if new else 0
        series = content.series[number]
        raise DataError(
            f"series {series.id!r} has {len(series) - first[number]:,} values that the fit did not see, after "
            f"{first[number]:,} others; to score a forecast takes {horizon:,} of them, after {least[number]:,} values that "
            "it can look back on; give more of the series"
        )
    return PanelPart(content, [min(start, len(s)) for start, s in zip(starts, content.series, strict=True)]), note


def like_training(panel: Panel, fitted: tuple[str, ...], frequency: Frequency) -> Panel:
    """A panel with the static covariates of the fit: a category that none of its series has is a column of zeros.

    Args:
        panel: any series.
        fitted: the covariates of the fit: past, future, static.
        frequency: of the fit.

    Raises:
        DataError: another frequency, other covariates, or a category that the fit did not know.
    """
    if (panel.frequency.unit, panel.frequency.count) != (frequency.unit, frequency.count):
        raise DataError(
            f"the series have a value {panel.frequency}, but the model was fitted on one {frequency}; give the same"
        )
    changing = (*panel.past, *panel.future)
    static = fitted[len(changing) :]
    if (*changing, *panel.static) == fitted:
        return panel
    known = {name.partition("=")[0] for name in static if "=" in name}
    there = {name.partition("=")[0] for name in panel.static if "=" in name}
    extra = [name for name in panel.static if name not in static]
    missing = [name for name in static if name not in panel.static]
    unlike = {name for name in (*extra, *missing) if name.partition("=")[0] not in known & there}
    if changing != fitted[: len(changing)] or unlike:
        found = ", ".join((*changing, *panel.static)) or "none"
        raise DataError(f"the series have covariates {found}; the model was fitted on {', '.join(fitted) or 'none'}")
    place = {name: number for number, name in enumerate(panel.static)}
    for name in extra:
        column, _, category = name.partition("=")
        series = next(series for series in panel.series if series.static[place[name]])
        categories = ", ".join(one.partition("=")[2] for one in static if one.startswith(f"{column}="))
        raise DataError(
            f"series {series.id!r}: {column} is {category!r}, which it is for no training series ({categories}); "
            "leave the series out, or fit again with it"
        )

    def arranged(series: Series) -> Series:
        values = [series.static[place[name]] if name in place else 0.0 for name in static]
        return dataclasses.replace(series, static=np.array(values))

    return dataclasses.replace(panel, static=static, series=[arranged(series) for series in panel.series])
