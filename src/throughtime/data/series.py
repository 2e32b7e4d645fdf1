"""Tables of time series, long or wide, understood and read as a panel; the steps themselves are laid out in grid.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from throughtime.data.columns import codes_of, find, is_number, listed, numbers, one_per_group, parts_of, place
from throughtime.data.frame import Frame
from throughtime.data.frequency import positions
from throughtime.data.grid import Rows, lay_out
from throughtime.data.layout import IDS, Layout, is_called_series, looks_like_series, time_columns, understood
from throughtime.data.records import Dataset, Frequency, Panel, Role, Series
from throughtime.data.times import calendar_times, form_in, show, times_in
from throughtime.errors import DataError
from throughtime.settings import Settings

__all__ = ["future_rows", "is_called_series", "looks_like_series", "read_series"]

BLOCK = 1 << 24
"""Bytes of columns that are read together."""


def read_series(
    table: pl.DataFrame | Frame,
    source: Path,
    settings: Settings,
    *,
    role: Role = "training",
    frequency: Frequency | None = None,
) -> Dataset:
    """The time series of a table.

    Long tables have a time column, a column to forecast, and an id column where there are several series. Wide ones have a
    time column (or year and quarter, or year and month) and one column a series; or a year per row and a month per column,
    which is one series.

    Args:
        table: its columns, in the order of the file.
        source: the file, for messages.
        settings: which columns are what; the rest is guessed.
        role: what it is read for.
        frequency: of the series that these go on with, or that the model was fitted on.

    Returns:
        The dataset, its content a panel.

    Raises:
        DataError: columns that are not there, cells that are no numbers or no times, two rows of one time, gaps and missing
            values (with ``--missing error``), series of different frequency or, to learn from, of fewer than 10 values.
    """
    frame = Frame.of(table)
    layout = understood(frame, source, settings)
    rows = _rows(frame, layout, source)
    panel, warnings = lay_out(rows, settings.data.missing, source, role=role, frequency=frequency)
    panel = replace(panel, form="month" if layout.months else form_in(frame, layout.time))
    if settings.forecast.season is not None:
        panel = replace(panel, frequency=replace(panel.frequency, season=settings.forecast.season))
    resolved: dict[str, Any] = {"task": "forecast", "season": panel.frequency.season, "time": layout.time[0]}
    resolved |= {"id": layout.id} if layout.id else {}
    resolved |= {"target": layout.targets[0]} if len(layout.targets) == 1 and not layout.months else {}
    resolved |= {"split_column": layout.split} if layout.split else {}
    flat = {**vars(settings.data), **vars(settings.forecast)}
    guessed = {name: value for name, value in resolved.items() if flat[name] in (None, "auto")}
    return Dataset("forecast", panel, _sentence(panel, layout, source), guessed, layout.warnings + warnings, [source])


def future_rows(table: pl.DataFrame | Frame, source: Path, panel: Panel, settings: Settings) -> Panel:
    """The panel with future covariates from a file: what is known in advance of the steps after the last values.

    Rows of times that the series already have are passed over.

    Args:
        table: one with the time column, the future covariates, and the id column where there are several series. Without
            an id column its rows hold for every series.
        source: the file, for messages.
        panel: the series.
        settings: as resolved when the panel was read.

    Returns:
        The panel, ``times`` and ``future`` of every series reaching as far as the file does.

    Raises:
        DataError: columns or series that are not there, and steps that are missing, doubled or not on the grid of the series.
    """
    frame = Frame.of(table)
    if not panel.future:
        raise DataError(
            f"{source}: the model was fitted without future covariates; leave --future out, or fit again with --future C,C"
        )
    for column in panel.future:
        find(frame, column, "future", source)
    if not len(frame):
        raise DataError(f"{source}: there is no row; expected the future values of {listed(panel.future)}")
    time = time_columns(frame, source, settings)
    times = _times(frame, time, source)
    if times.dtype.kind != panel.series[0].times.dtype.kind:
        kinds = {"M": "dates", "i": "plain steps"}
        raise DataError(
            f"{source}: column {time[0]!r} holds {kinds[times.dtype.kind]}, but the series have "
            f"{kinds[panel.series[0].times.dtype.kind]}; "
            "expected times of the same kind"
        )
    if (form_in(frame, time)[0] in "+-") != (panel.form[0] in "+-"):
        raise DataError(
            f"{source}: column {time[0]!r} and the times of the series differ: one has an offset from UTC, the other none; "
            "write both alike"
        )
    values = frame.numbers(panel.future, source)
    name: str | None = settings.data.id
    if name is None and len(panel.series) > 1:
        name = next((column for column in frame.columns if column.lower() in IDS), None)
    if name is None or (name not in frame.columns and len(panel.series) == 1):
        codes, names = np.zeros(len(frame), np.int64), None
    else:
        codes, names = _ids(frame, find(frame, name, "id", source), source)
        unknown = [known for known in names if known not in {series.id for series in panel.series}]
        if unknown:
            raise DataError(
                f"{source}: the panel has no series {unknown[0]!r}; it has {listed([series.id for series in panel.series])}"
            )
    code_of = {known: code for code, known in enumerate(names or ())}
    found = []
    for series in panel.series:
        if names is not None and series.id not in code_of:
            raise DataError(
                f"{source}: there is no row for the series {series.id!r}; expected its future values of {listed(panel.future)}"
            )
        rows = np.flatnonzero(codes == code_of.get(series.id, 0))
        found.append(_continued(series, times, values, rows, panel, source))
    return replace(panel, series=found)


def _continued(
    series: Series, times: NDArray[Any], values: NDArray[np.float64], rows: NDArray[np.int64], panel: Panel, source: Path
) -> Series:
    """One series with the future covariates of these rows."""
    steps, on_grid = positions(times[rows], series.times, panel.frequency)
    n = len(series)
    later = times[rows] > series.times[n - 1]
    rows, steps, on_grid = rows[later], steps[later], on_grid[later]
    last = f"series {series.id!r} ends at {show(series.times[n - 1])} and goes on {panel.frequency}"
    if not len(rows):
        raise DataError(f"{source}: no row is later than the last value; {last}; expected rows after that")
    if not on_grid.all():
        row = rows[np.argmin(on_grid)]
        raise DataError(f"{place(source, row)}: {show(times[row])} is no step of the series; {last}; mend the time")
    order = np.argsort(steps, kind="stable")
    rows, steps = rows[order], steps[order]
    twice = np.flatnonzero(np.diff(steps) == 0)
    if len(twice):
        raise DataError(
            f"{place(source, rows[twice[0] + 1])}: a second row for {show(times[rows[twice[0]]])}; remove one of the two"
        )
    gap = np.flatnonzero(steps != n + np.arange(len(steps)))
    if len(gap):
        before = series.times[n - 1] if gap[0] == 0 else times[rows[gap[0] - 1]]
        raise DataError(f"{source}: there is no row for the step after {show(before)}; {last}; add the row")
    blank = np.argwhere(~np.isfinite(values[rows]))
    if len(blank):
        row, column = blank[0]
        raise DataError(
            f"{place(source, rows[row], panel.future[column])}: the number is "
            f"{'missing' if np.isnan(values[rows[row], column]) else 'infinite'}; what is known in advance must be given for "
            "each step"
        )
    return replace(
        series, times=np.concatenate([series.times[:n], times[rows]]), future=np.concatenate([series.future[:n], values[rows]])
    )


def _rows(frame: Frame, layout: Layout, source: Path) -> Rows:
    """The cells of all series, in the order of the file."""
    covariates = frame.numbers(layout.past + layout.future, source)
    parts = None if layout.split is None else _parts(frame[layout.split], source)
    times = _times(frame, layout.time, source)
    codes: NDArray[np.int64] | None = None
    values: Callable[[int], NDArray[np.float64]]
    names, cells = list(layout.targets), list(layout.targets)
    if layout.months:
        names, cells = ["value"], list(layout.months)
        in_months = frame.numbers(cells, source).ravel()
        times = (times.astype("M8[Y]").astype("M8[M]")[:, None] + np.arange(12)).ravel().astype("M8[s]")
        codes = np.zeros(len(times), np.int64)
        values = lambda _: in_months  # noqa: E731
    elif layout.id is not None:
        codes, names = _ids(frame, layout.id, source)
        column = frame.numbers(cells, source)[:, 0]
        values = lambda _: column  # noqa: E731
    else:
        values = _Wide(frame, cells, source)
    static, static_names = _static(frame, layout, codes, names, source)
    return Rows(
        times=times,
        codes=codes,
        ids=names,
        values=values,
        cells=cells,
        past=layout.past,
        future=layout.future,
        covariates=covariates,
        static=static,
        static_names=static_names,
        parts=parts,
        target_name=layout.targets[0] if len(layout.targets) == 1 else "value",
    )


class _Wide:
    """The values of series each of which is a column: read some columns at a time, in their order."""

    def __init__(self, frame: Frame, names: Sequence[str], source: Path) -> None:
        self._frame, self._names, self._source = frame, names, source
        self._many = max(1, BLOCK // max(8 * len(frame), 1))
        self._first, self._values = 0, np.empty((0, 0))
        text = [name for name in names if not frame.schema[name].is_numeric()]
        frame.numbers(text, source)  # what is no number is told before anything else of the series

    def __call__(self, code: int) -> NDArray[np.float64]:
        """Those of a column."""
        if not self._first <= code < self._first + self._values.shape[1]:
            self._first = code
            self._values = self._frame.numbers(self._names[code : code + self._many], self._source)
        return self._values[:, code - self._first]


def _ids(frame: Frame, name: str, source: Path) -> tuple[NDArray[np.int64], list[str]]:
    return codes_of(frame.written([name])[name], source)


def _parts(column: pl.Series, source: Path) -> NDArray[np.object_]:
    return np.array(parts_of(column, lambda row: place(source, row, column.name)), object)


def _static(
    frame: Frame, layout: Layout, codes: NDArray[np.int64] | None, names: Sequence[str], source: Path
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """What does not change, ``[K, S]``, and the names; categories become one column each, of zeros and ones."""
    if codes is None or layout.id is None:  # the rows of the table belong to every series
        codes, many = np.zeros(len(frame), np.int64), len(names)
        names = ["the table"]
    else:
        many = 1
    columns: list[NDArray[np.float64]] = []
    titles: list[str] = []
    for name in layout.static:
        text = frame.schema[name] == pl.String
        values = one_per_group(frame.written([name])[name] if text else frame[name], codes, names, source)
        blank = values.is_null().arg_true()
        if len(blank):
            raise DataError(
                f"{source}: column {name!r} is blank for {names[blank[0]]!r}; fill it in, or leave it out of --static"
            )
        values = values.cast(pl.String) if text else values
        if is_number(values):
            columns.append(numbers(values, source))
            titles.append(name)
        else:
            categories = values.cast(pl.String)
            for category in sorted(set(categories)):
                columns.append((categories == category).to_numpy().astype(np.float64))
                titles.append(f"{name}={category}")
    stacked = np.column_stack(columns) if columns else np.empty((len(names), 0))
    return np.repeat(stacked, many, axis=0), tuple(titles)


def _sentence(panel: Panel, layout: Layout, source: Path) -> str:
    steps = sorted(len(series) for series in panel.series)
    size = f"{steps[0]:,}" if steps[0] == steps[-1] else f"{steps[0]:,} to {steps[-1]:,}"
    several = f"{len(steps):,} series of {size} steps" if len(steps) > 1 else f"1 series, {size} steps"
    what = ", ".join(f"`{name}`" for name in layout.targets[:3]) + (
        f" and {len(layout.targets) - 3} more columns" if layout.targets[3:] else ""
    )
    what = "the months of all years" if layout.months else what
    known = "".join(
        f", {role} {listed(getattr(layout, role))}" for role in ("past", "future", "static") if getattr(layout, role)
    )
    unused = f"; not used: {listed(layout.unused, 6)} (--past, --future, --static)" if layout.unused else ""
    return (
        f"forecast {what} ({several}, {panel.frequency}, season {panel.frequency.season}{known}), {source.name}{unused}; "
        "overrule with --task, --target, --time, --id, --season"
    )


def _times(frame: Frame, time: tuple[str, ...], source: Path) -> NDArray[Any]:
    if len(time) > 1:
        return calendar_times(frame[time[0]], frame[time[1]], source)
    return times_in(frame, time[0], source)
