"""Rows of time series laid out on a regular grid: sorted, without doubles, gaps named or filled, one frequency for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.data.columns import place, row_number
from throughtime.data.files import plural
from throughtime.data.frequency import at, infer, positions
from throughtime.data.missing import MEND, Policy, done
from throughtime.data.records import Frequency, Panel, Role, Series
from throughtime.data.spool import Spool
from throughtime.data.times import show
from throughtime.errors import DataError

FEWEST = 10
"""Values that a series must have to be learned from, and to tell its frequency."""


@dataclass(frozen=True)
class Rows:
    """The cells of K series, in any order.

    Attributes:
        times: ``datetime64[s]`` or int64, ``[N]``.
        codes: the series of each cell, from 0; ``[N]``. ``None`` where every series has a cell at each of the times.
        ids: the names of the series.
        values: gives the values to forecast of a series by its code, NaN where blank; ``[N]``, those of others not being of
            interest.
        cells: names of the columns that the values come from: one of each series without codes, else those of a row in turn.
        past: names of the P past covariates.
        future: names of the U future covariates.
        covariates: both, by row of the table; ``[rows, P + U]``.
        static: ``[K, S]``.
        static_names: names of the S static columns.
        parts: per row of the table, the part of the split.
        target_name: what is forecast.
    """

    times: NDArray[Any]
    codes: NDArray[np.int64] | None
    ids: Sequence[str]
    values: Callable[[int], NDArray[np.float64]]
    cells: Sequence[str]
    past: tuple[str, ...]
    future: tuple[str, ...]
    covariates: NDArray[np.float64]
    static: NDArray[np.float64]
    static_names: tuple[str, ...]
    parts: NDArray[np.object_] | None
    target_name: str

    def row(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row of the table that each cell comes from."""
        return chosen if self.codes is None or len(self.cells) == 1 else chosen // len(self.cells)

    def column(self, code: int, cell: int) -> str:
        """The column of the table that a cell of a series comes from."""
        return self.cells[code if self.codes is None else cell % len(self.cells)]

    def by_time(self) -> list[NDArray[np.int64]]:
        """The cells of each series by time, and among equal times as they stand."""
        if self.codes is None:
            return [np.argsort(self.times, kind="stable")] * len(self.ids)
        code, before = self.codes[1:], self.codes[:-1]
        there = ((code > before) | ((code == before) & (self.times[1:] >= self.times[:-1]))).all()
        order = np.arange(len(self.codes)) if there else np.lexsort((self.times, self.codes))
        return np.split(order, np.cumsum(np.bincount(self.codes, minlength=len(self.ids)))[:-1])


@dataclass
class _Counts:
    """What was found on the way, for the warnings."""

    gaps: int = 0
    absent: int = 0
    blank: int = 0
    covariates: int = 0
    early: int = 0
    late: int = 0


def lay_out(
    rows: Rows, policy: Policy, source: Path, *, role: Role = "training", frequency: Frequency | None = None
) -> tuple[Panel, list[str]]:
    """The panel, and what the user should know.

    A value that is missing stays NaN whatever ``policy`` says, or a forecast would be made from what comes after it, and scored
    on what was made up: it is for the windows to fill their own past.

    Args:
        rows: all cells.
        policy: whether gaps and missing numbers are an error. If not, missing covariates are filled: past ones by the value
            before, future ones, which are known in advance, by interpolation.
        source: the file, for messages.
        role: what it is read for; a series to learn from has ``FEWEST`` values at least.
        frequency: of the series that these go on with, if they do: fewer than ``FEWEST`` values cannot tell theirs.

    Raises:
        DataError: two rows of one time, irregular steps, series of different frequency or of too few values, and, with
            ``policy`` ``"error"``, anything missing.
    """
    places = rows.by_time()
    _refuse_doubles(rows, places, source)
    warnings = []
    moved = sum(int(np.count_nonzero(np.diff(rows.row(chosen)) < 0)) for chosen in places)
    if moved:
        warnings.append(f"the rows were not in the order of time ({plural(moved, 'step')} back); they were sorted")
    counts, laid = _Counts(), _Laid()
    like = "the series that the model is fitted on" if frequency is not None else repr(rows.ids[0])
    for code, cells in enumerate(places):
        values = rows.values(code)
        chosen = _trimmed(rows, values, cells, rows.ids[code], FEWEST if role == "training" else 1, counts, source)
        times = rows.times[chosen]
        own = _frequency(times, frequency)
        if frequency is not None and (own.unit, own.count) != (frequency.unit, frequency.count):
            raise DataError(
                f"{source}: series {rows.ids[code]!r} has a step {own}, but {like} {frequency}; one model forecasts series of "
                "one frequency; put them into files of their own"
            )
        frequency = frequency or own
        laid.add(_one(rows, values, chosen, code, own, policy, counts, source))
    assert frequency is not None
    panel = Panel(laid.series(), frequency, rows.past, rows.future, rows.static_names, rows.target_name)
    return panel, warnings + _warnings(counts, policy, len(places))


class _Laid:
    """Series whose arrays lie end to end, in files where they are many."""

    def __init__(self) -> None:
        self._series: list[Series] = []
        self._sizes: list[tuple[int, int]] = []
        self._spools = {name: Spool() for name in ("times", "values", "past", "future")}

    def add(self, series: Series) -> None:
        """Put a series behind those before it."""
        for name, spool in self._spools.items():
            spool.add(getattr(series, name))
        self._sizes.append((len(series.values), len(series.times)))
        nothing = np.empty(0)
        self._series.append(replace(series, times=nothing, values=nothing, past=nothing, future=nothing))

    def series(self) -> list[Series]:
        """All of them."""
        ends = np.cumsum(self._sizes, axis=0)[:-1]
        cut = {
            name: np.split(np.asarray(self._spools.pop(name).array()), ends[:, int(name in ("times", "future"))])
            for name in [*self._spools]
        }
        return [
            replace(one, times=times, values=values, past=past, future=future)
            for one, times, values, past, future in zip(self._series, *cut.values(), strict=True)
        ]


def _frequency(times: NDArray[Any], known: Frequency | None) -> Frequency:
    """The frequency of a series; a few values have the known one, if any two of three or more follow each other in it."""
    if known is None or len(times) >= FEWEST:
        return infer(times)
    if (times.dtype.kind == "i") != (known.unit == "step"):
        return infer(times) if len(times) > 1 else Frequency("step" if times.dtype.kind == "i" else "D")
    steps, on_grid = positions(times, times, known)
    follows = len(times) < 3 or (on_grid[1:] & on_grid[:-1] & (np.diff(steps) == 1)).any()
    return known if follows else infer(times)


def _refuse_doubles(rows: Rows, places: Sequence[NDArray[np.int64]], source: Path) -> None:
    first, count = (-1, -1), 0
    for code, chosen in enumerate(places):
        times = rows.times[chosen]
        double = np.flatnonzero(times[1:] == times[:-1])
        if len(double) and not count:
            first = (code, int(double[0]))
        count += len(double)
    if count:
        code, place = first
        pair = places[code][place : place + 2]
        before, after = sorted(row_number(source, row) for row in rows.row(pair))
        of = f" of series {rows.ids[code]!r}" if len(rows.ids) > 1 else ""
        more = f", {count:,} such pairs in all" if count > 1 else ""
        raise DataError(
            f"{source}: rows {before:,} and {after:,} have the same time {show(rows.times[pair[0]])}{of}{more}; keep one of "
            "them, name the column "
            "that tells series apart with --id, or write the times in UTC if the clock was put back"
        )


def _trimmed(
    rows: Rows,
    values: NDArray[np.float64],
    chosen: NDArray[np.int64],
    name: str,
    fewest: int,
    counts: _Counts,
    source: Path,
) -> NDArray[np.int64]:
    """The rows of a series from its first value on; to its last value, or as far as future covariates are known."""
    present = np.flatnonzero(~np.isnan(values[chosen]))
    if len(present) < fewest:
        raise DataError(
            f"{source}: series {name!r} has {plural(len(present), 'value')}, expected {fewest} at least; "
            "leave it out, or add more of its past"
        )
    first, end = int(present[0]), int(present[-1]) + 1
    if rows.future:
        known = np.flatnonzero(~np.isnan(rows.covariates[rows.row(chosen), len(rows.past) :]).all(axis=1))
        end = max(end, int(known[-1]) + 1 if len(known) else 0)
    counts.early += first > 0
    counts.late += end < len(chosen)
    return chosen[first:end]


def _one(
    rows: Rows,
    cells: NDArray[np.float64],
    chosen: NDArray[np.int64],
    code: int,
    frequency: Frequency,
    policy: Policy,
    counts: _Counts,
    source: Path,
) -> Series:
    """One series on its grid."""
    name = rows.ids[code]
    times = rows.times[chosen]
    steps = _steps(times, name, frequency, len(rows.ids), source)
    total = int(steps[-1]) + 1
    n = int(steps[np.flatnonzero(~np.isnan(cells[chosen]))[-1]]) + 1  # the steps up to the last value
    if total > len(steps):
        _gaps(rows, times, steps, name, frequency, policy, counts, source)
    inside = steps < n
    values = np.full(n, np.nan)
    values[steps[inside]] = cells[chosen[inside]]
    missing = ~np.isfinite(values[steps[inside]])
    if missing.any():
        if policy == "error":
            _refuse_missing(rows, cells, chosen[inside][missing], code, source)
        counts.blank += int(missing.sum())
        values[~np.isfinite(values)] = np.nan
    covariates = np.full((total, rows.covariates.shape[1]), np.nan)
    covariates[steps] = rows.covariates[rows.row(chosen)]
    wanted = np.ones(covariates.shape, bool)
    wanted[n:, : len(rows.past)] = False  # the past ones are not known beyond the last value
    _refuse_covariates(rows, chosen, steps, covariates, wanted, name, policy, counts, source)
    past = _filled(covariates[:n, : len(rows.past)], _held)
    future = _filled(covariates[:, len(rows.past) :], _interpolated)
    parts = None
    if rows.parts is not None:
        latest = np.zeros(n, np.int64)
        latest[steps[inside]] = np.flatnonzero(inside)
        # A step that was filled in is of the part of the one before it.
        parts = rows.parts[rows.row(chosen[np.maximum.accumulate(latest)])].tolist()
    grid = at(np.arange(total), times, frequency)
    return Series(name, grid, values, past, future, rows.static[code], parts)


def _steps(times: NDArray[Any], name: str, frequency: Frequency, many: int, source: Path) -> NDArray[np.int64]:
    """The place of each row on the grid."""
    steps, on_grid = positions(times, times, frequency)
    of = f" of series {name!r}" if many > 1 else ""
    if not on_grid.all():
        off = int(np.argmin(on_grid))
        raise DataError(
            f"{source}: the steps{of} are irregular: {show(times[off - 1])} is followed by {show(times[off])}, where most "
            f"go on {frequency} "
            f"({np.count_nonzero(~on_grid):,} of {len(times):,} times are off the grid); expected one distance; bring the "
            "values to a regular "
            "grid, or name a column that counts the steps with --time"
        )
    if steps[-1] > 10 * len(steps) + 1000:
        widest = int(np.argmax(np.diff(steps)))
        raise DataError(
            f"{source}: {len(steps):,} rows{of} span {int(steps[-1]) + 1:,} steps ({frequency}); the widest gap is from "
            f"{show(times[widest])} to "
            f"{show(times[widest + 1])}; mend the time, or take the part on one side of the gap"
        )
    return steps


def _gaps(
    rows: Rows,
    times: NDArray[Any],
    steps: NDArray[np.int64],
    name: str,
    frequency: Frequency,
    policy: Policy,
    counts: _Counts,
    source: Path,
) -> None:
    """Count the gaps, or name the first one."""
    jumps = np.flatnonzero(np.diff(steps) > 1)
    absent = int(steps[-1]) + 1 - len(steps)
    if policy == "error":
        of = f" of series {name!r}" if len(rows.ids) > 1 else ""
        days = (times.astype("M8[D]").astype(np.int64) + 3) % 7 if times.dtype.kind == "M" else np.zeros(1)
        if frequency.unit == "D" and days.max() < 5:
            mend = "weekends are left out: name a column that counts the days with --time, or use --missing interpolate"
        else:
            mend = MEND.replace("fills it in", "fills them in").replace("it is", "they are")
        raise DataError(
            f"{source}: the step after {show(times[jumps[0]])}{of} is missing, where the steps go on {frequency}; "
            f"{plural(absent, 'step')} {'is' if absent == 1 else 'are'} missing in {plural(len(jumps), 'gap')}; {mend}"
        )
    counts.gaps += len(jumps)
    counts.absent += absent


def _refuse_missing(rows: Rows, cells: NDArray[np.float64], bad: NDArray[np.int64], code: int, source: Path) -> None:
    at = rows.row(bad)
    first = int(np.argmin(at))
    what = "missing" if np.isnan(cells[bad[first]]) else "infinite"
    more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
    column = rows.column(code, int(bad[first]))
    raise DataError(f"{place(source, at[first], column)}: the number is {what}{more}; {MEND}")


def _refuse_covariates(
    rows: Rows,
    chosen: NDArray[np.int64],
    steps: NDArray[np.int64],
    covariates: NDArray[np.float64],
    wanted: NDArray[np.bool_],
    name: str,
    policy: Policy,
    counts: _Counts,
    source: Path,
) -> None:
    """Name a covariate that is missing, or count those that will be filled in."""
    missing = (~np.isfinite(covariates) & wanted)[steps]
    if not missing.any():
        return
    row, column = np.argwhere(missing)[0]
    names = rows.past + rows.future
    if policy == "error":
        raise DataError(
            f"{place(source, rows.row(chosen)[row], names[column])}: the number is missing, and so are "
            f"{int(missing.sum()) - 1:,} more; "
            "fill it in, or use --missing interpolate"
        )
    empty = ~(np.isfinite(covariates) & wanted).any(axis=0)
    if empty.any():
        raise DataError(
            f"{source}: column {names[int(np.argmax(empty))]!r} has no number at all in series {name!r}; leave it out"
        )
    counts.covariates += int(missing.sum())


def _filled(columns: NDArray[np.float64], fill: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Columns ``[n, C]``, each of them filled if something is missing in it."""
    return np.column_stack([fill(c) if not np.isfinite(c).all() else c for c in columns.T]) if columns.shape[1] else columns


def _interpolated(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear in time; the ends are held."""
    known = np.isfinite(values)
    place = np.arange(len(values))
    return np.interp(place, place[known], values[known])


def _held(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """As the last known value before; NaN before the first."""
    known = np.isfinite(values)
    last = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    return np.where(last < 0, np.nan, values[last])


def _warnings(counts: _Counts, policy: Policy, many: int) -> list[str]:
    lines = done(counts.absent, "missing step", policy, f" in {plural(counts.gaps, 'gap')}")
    lines += done(counts.blank, "missing value", policy)
    if policy == "interpolate":  # a mask says so itself
        lines = [f"{line} from what is known before each forecast; none is scored" for line in lines]
    if counts.covariates:
        filled = "filled in: --past as the one before, --future by interpolation"
        lines.append(f"{plural(counts.covariates, 'missing value')} of covariates {filled}")
    for number, what in ((counts.early, "before the first value"), (counts.late, "after the last value")):
        if number:
            lines.append(f"the blank rows {what} were left out, in {number:,} of {many:,} series")
    return lines
