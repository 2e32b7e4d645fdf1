"""Which column of a table of time series is what: as the settings say, else by name, else by what the cells look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from throughtime.data.columns import LABELS, find, guess, guess_split, listed
from throughtime.data.frame import Frame
from throughtime.data.times import MONTHS, SHORT_MONTHS, times_of
from throughtime.errors import DataError
from throughtime.settings import Settings

_TIMES = ("ds", "timestamp", "datetime", "date_time", "date", "time", "period", "month", "quarter", "week", "day", "year")
_STEPS = ("t", "step", "time_step", "timestep", "time_idx", "time")
IDS = ("unique_id", "series_id", "series", "item_id", "id", "sequence")
_VALUES = ("y", "target", "value", "values")
_ROW_NAMES = ("", "unnamed: 0", "rownames", "row_names", "index")


def is_called_series(columns: Sequence[str]) -> bool:
    """Whether the names alone say that a table holds time series: ``ds`` and ``y``."""
    return {"ds", "y"} <= {name.lower() for name in columns}


def looks_like_series(table: pl.DataFrame) -> bool:
    """Whether a table holds time series to forecast, rather than sequences with a label.

    So it is with the columns ``ds`` and ``y``, or with a column of dates (or of steps none of which comes twice) beside
    numbers, unless a column that is called like a label holds text, or one value per series.

    Args:
        table: the table, without its text or sound columns being of interest.

    Example:
        >>> looks_like_series(pl.DataFrame({"Date": ["1949-01", "1949-02"], "Passengers": [112, 118]}))
        True
        >>> looks_like_series(pl.DataFrame({"id": [1, 1, 2], "step": [0, 1, 0], "x": [1, 2, 3], "label": ["a", "a", "b"]}))
        False
    """
    frame = Frame.of(table)
    if len(frame) == 0:
        return False
    if is_called_series(frame.columns):
        return True
    time = _guessed_time(frame)
    key = _named_id(frame, time)
    rest = [name for name in frame.columns if name not in time and name != key]
    labels = [name for name in rest if name.lower() in LABELS]
    if not time or not any(map(frame.is_number, rest)) or not all(map(frame.is_number, labels)):
        return False
    if key is not None and any((table.group_by(key).agg(pl.col(name).n_unique() == 1))[name].all() for name in labels):
        return False
    if len(time) > 1 or _is_calendar(frame, time[0]):
        return True
    return not labels[:1] and key is None and not frame.repeats(time)


@dataclass(frozen=True)
class Layout:
    """Which column of a table is what.

    Attributes:
        time: the time, or year and quarter or month.
        id: tells series apart.
        targets: what is forecast; several where each column is a series.
        months: twelve columns of months, if each row is a year.
        past, future, static: covariates.
        split: holds the part of each row.
        unused: the columns that are left.
        warnings: what the user should know.
    """

    time: tuple[str, ...]
    id: str | None
    targets: tuple[str, ...]
    months: tuple[str, ...]
    past: tuple[str, ...]
    future: tuple[str, ...]
    static: tuple[str, ...]
    split: str | None
    unused: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)


def understood(frame: Frame, source: Path, settings: Settings) -> Layout:
    """What each column is.

    Raises:
        DataError: a column that is not there or has two roles, no time, or nothing to forecast.
    """
    data, forecast = settings.data, settings.forecast
    if len(frame) == 0:
        raise DataError(f"{source}: there is no row below the header; expected a time series")
    time = time_columns(frame, source, settings)
    split = guess_split(frame) if data.split_column is None else find(frame, data.split_column, "split_column", source)
    roles = {
        name: [find(frame, column, name, source) for column in getattr(forecast, name)] for name in ("past", "future", "static")
    }
    covariates = [column for columns in roles.values() for column in columns]
    target = None if data.target is None else find(frame, data.target, "target", source)
    key = None if data.id is None else find(frame, data.id, "id", source)
    named = [*time, *covariates, *(name for name in (target, key, split) if name)]
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"{source}: column {twice!r} was given two roles; name it in one of --time, --id, --target, --past, --future, "
            "--static"
        )
    months = _month_columns(frame, named) if target is None and len(time) == 1 and key is None else ()
    if key is None and not months:
        key = _guessed_id(frame, time, named)
    rest = [name for name in frame.columns if name not in named and name != key and name != data.group]
    columns = numeric = [name for name in rest if frame.is_number(name)]
    warnings = []
    for name in [name for name in columns if name.lower() in _ROW_NAMES and _counts(frame, name)]:
        columns = [column for column in columns if column != name]
        warnings.append(f"column {name!r} only counts the rows and is not used")
    text = [name for name in rest if name not in numeric and name not in months]
    if months:
        targets: tuple[str, ...] = ("value",)
    elif target is not None:
        targets = (target,)
    elif not columns:
        raise DataError(f"{source}: no column of numbers is left to forecast beside {listed(named)}; name one with --target")
    elif (by_name := guess(frame, _VALUES, set(frame.columns) - set(columns))) is not None:
        targets = (by_name,)
    else:
        targets = tuple(columns[-1:] if key is not None else columns)
    unused = tuple(name for name in (*columns, *text) if name not in targets and name not in months)
    past, future, static = (tuple(roles[name]) for name in ("past", "future", "static"))
    return Layout(time, key, targets, months, past, future, static, split, unused, warnings)


def time_columns(frame: Frame, source: Path, settings: Settings) -> tuple[str, ...]:
    """The time column, or the year and the quarter or month beside it."""
    name = settings.data.time
    if name is None:
        time = _guessed_time(frame)
        if not time:
            raise DataError(f"{source}: no column holds times; the columns are {listed(frame.columns)}; name one with --time")
        return time
    found = find(frame, name, "time", source)
    year = _year_and_part(frame)
    return year if found in year[:1] else (found,)


def _guessed_time(frame: Frame) -> tuple[str, ...]:
    """The columns that hold the time, by name or by what they hold; none if there are none."""
    if year := _year_and_part(frame):
        return year
    for name in _TIMES:
        column = guess(frame, (name,))
        if column is not None and _is_calendar(frame, column):
            return (column,)
    for name in _STEPS:
        column = guess(frame, (name,))
        if column is not None and frame.is_number(column):
            return (column,)
    if "ds" in frame.columns:
        return ("ds",)
    return next(((name,) for name in frame.columns if not frame.schema[name].is_numeric() and _is_calendar(frame, name)), ())


def _year_and_part(frame: Frame) -> tuple[str, ...]:
    year = guess(frame, ("year", "yr"))
    part = guess(frame, ("quarter", "qtr", "month", "mon"))
    if year is None or part is None or not frame.is_number(part) or not frame.is_number(year):
        return ()
    highest = frame[part].cast(pl.Float64, strict=False).max()
    return (year, part) if isinstance(highest, float) and highest <= 12 else ()


def _is_calendar(frame: Frame, name: str) -> bool:
    """Whether the first cells are dates."""
    try:
        return len(frame) > 0 and times_of(frame.start(name, 50), Path()).dtype.kind == "M"
    except DataError as error:
        return "the day or the month first" in str(error)


def _month_columns(frame: Frame, named: Sequence[str]) -> tuple[str, ...]:
    """The twelve columns of months, if the table has a year per row."""
    lower = {name.strip().lower(): name for name in frame.columns if name not in named}
    for names in (SHORT_MONTHS, MONTHS):
        if all(name in lower for name in names):
            return tuple(lower[name] for name in names)
    return ()


def _named_id(frame: Frame, taken: Sequence[str]) -> str | None:
    """A column that is called like an id and groups rows."""
    names = [*IDS, *(name.lower() for name in frame.columns if name.lower().endswith("_id"))]
    column = guess(frame, names, taken)
    return column if column is not None and (column.lower() == "unique_id" or frame.different(column) < len(frame)) else None


def _guessed_id(frame: Frame, time: tuple[str, ...], taken: Sequence[str]) -> str | None:
    """The column that tells series apart: by name, or, if times come twice, the one with which they do not."""
    column = _named_id(frame, taken)
    if column is not None or not frame.repeats(time):
        return column
    whole = (pl.String, pl.Categorical, pl.Enum)
    kinds = frame.schema
    candidates = [name for name, kind in kinds.items() if name not in taken and (kind in whole or kind.is_integer())]
    candidates.sort(key=lambda name: kinds[name].is_integer())
    few = (name for name in candidates if 2 * frame.different(name) <= len(frame))
    return next((name for name in few if not frame.repeats([*time, name])), None)


def _counts(frame: Frame, name: str) -> bool:
    """Whether a column only numbers the rows."""
    return frame.schema[name].is_integer() and bool((frame[name].diff().drop_nulls() == 1).all())
