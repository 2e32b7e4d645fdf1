"""A column of times as numbers: dates in all usual forms become ``datetime64[s]`` in UTC, plain steps stay integers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from throughtime.data.columns import numbers, place
from throughtime.data.frame import Frame
from throughtime.data.records import Form
from throughtime.errors import DataError

_DATE = (
    r"^(\d{1,4})([-/.])(\d{1,2})(?:[-/.](\d{1,4}))?"
    r"(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?(?: ?(Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?)?$"
)
MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
SHORT_MONTHS = tuple(name[:3] for name in MONTHS)
MONTH = rf"(?i)\b({'|'.join([*MONTHS, 'sept', *SHORT_MONTHS])})\b"
"""A month as a word."""

_WORDED = (
    rf"^{MONTH}\.?[ -](?P<day>\d{{1,2}}),?[ -]+(?P<year>\d{{4}})(?P<rest>.*)$",
    rf"^(?P<day>\d{{1,2}})\.?[ -]{MONTH}\.?,?[ -]+(?P<year>\d{{4}})(?P<rest>.*)$",
    rf"^{MONTH}\.?,?[ -]+(?P<year>\d{{4}})(?P<day>)(?P<rest>)$",
)
_NUMBER = {name: f"{number:02}" for number, name in enumerate(SHORT_MONTHS, 1)}
_QUARTER = r"^(\d{4})[- ]?[Qq]([1-4])$"
_KNOWN = "expected 2024-01-31, 2024-01-31 17:00, 2024-01, 2024Q1, 20240131, Jan 31 2024, a year, or a whole number of steps"
_WHOLE = r"^[+-]?\d+(?:\.0*)?$"
_DIGITS = r"^\s*[+-]?\d+(?:\.0*)?\s*$"
"""How often such a cell comes decides what it is."""
_SLICE = 1 << 17
"""Cells that are taken apart together."""
_STEPS = ("t", "step", "steps", "time_step", "timestep", "time_idx", "index", "tick")
"""Names of columns whose numbers are never years."""

Times = NDArray[Any]
"""``datetime64[s]`` or int64."""


def times_of(column: pl.Series, source: Path) -> Times:
    """The times of a column.

    Understood are ISO dates and datetimes, ``yyyy-mm``, ``yyyymmdd``, ``yyyymm``, ``yyyyQn``, years, day/month/year in
    whichever order one of its values proves, months as English words, and whole numbers as plain steps. An offset from UTC is
    taken off.

    Args:
        column: n cells of text, dates or whole numbers.
        source: the file, for messages.

    Returns:
        ``datetime64[s]`` or int64, ``[n]``.

    Raises:
        DataError: a cell that is blank, no time, or finer than a second, with its row; or days and months that cannot be told
            apart.

    Example:
        >>> times_of(pl.Series("ds", ["1949-01", "1949-02"]), Path("sales.csv"))
        array(['1949-01-01T00:00:00', '1949-02-01T00:00:00'],
              dtype='datetime64[s]')
        >>> times_of(pl.Series("ds", [19580329, 19580405]), Path("co2.csv")).astype("M8[D]")
        array(['1958-03-29', '1958-04-05'], dtype='datetime64[D]')
    """
    if column.dtype == pl.String:
        column = column.str.strip_chars()
        column = column.set(column == "", None)
    blank = column.is_null().arg_true()
    if len(blank):
        raise DataError(f"{place(source, blank[0], column.name)}: the time is blank; fill it in, or remove the row")
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        fine = column.cast(pl.Datetime("us")).to_numpy().astype("M8[us]")
        _refuse(
            fine != fine.astype("M8[s]"), column, source, "is finer than a second; use a column that counts the steps instead"
        )
        return fine.astype("M8[s]")
    if column.dtype.is_numeric():
        return _of_numbers(column, source)
    if column.dtype != pl.String:
        raise DataError(
            f"{source}: column {column.name!r} holds {str(column.dtype).lower()} values, which are no times; {_KNOWN}"
        )
    if column.str.contains(_WHOLE).all():
        return _of_numbers(column, source)
    if column.str.contains(_QUARTER).all():
        quarters = column.str.extract_groups(_QUARTER).struct.unnest()
        year, quarter = (part.cast(pl.Int64).to_numpy() for part in quarters)
        return _date(year, 3 * quarter - 2, np.ones_like(year))[0]
    return _of_text(column, source)


def times_in(frame: Frame, name: str, source: Path) -> Times:
    """As `times_of`, of a column of a table; text that comes again, as in most series of a panel, is looked at once.

    Raises:
        DataError: as `times_of`.
    """
    found = frame.coded(name) if frame.schema[name] == pl.String else None
    if found is not None and (found[0] >= 0).all() and not found[1].str.contains(_DIGITS).any():
        try:
            return times_of(found[1].alias(name), source)[found[0]]
        except DataError:
            pass  # all cells tell the row
    return times_of(frame[name], source)


def calendar_times(year: pl.Series, part: pl.Series | None, source: Path) -> Times:
    """The times of a column of years and, beside it, one of quarters or months.

    Args:
        year: whole numbers.
        part: quarters 1 to 4 or months 1 to 12; the name of the column tells which.
        source: the file.

    Raises:
        DataError: a year, quarter or month that is none, with its row.
    """
    years = _whole(year, source)
    _refuse((years < 1000) | (years > 9999), year, source, "is no year; expected four digits")
    months = np.ones_like(years)
    if part is not None:
        months, most = _whole(part, source), 4 if part.name.lower().startswith("q") else 12
        _refuse((months < 1) | (months > most), part, source, f"is no {part.name.lower()}; expected 1 to {most}")
        months = 3 * months - 2 if most == 4 else months
    return _date(years, months, np.ones_like(years))[0]


def show(time: Any) -> str:
    """A time as a person writes it.

    Example:
        >>> show(np.datetime64("2024-01-31T00:00:00")), show(np.datetime64("2024-01-31T17:00:00")), show(7)
        ('2024-01-31', '2024-01-31 17:00:00', '7')
    """
    return str(time).replace("T", " ").removesuffix(" 00:00:00")


def form_of(columns: Sequence[pl.Series]) -> Form:
    """How times are written in a column that :func:`times_of` reads, or in a year and the quarter or month beside it.

    Times with a zone, in Parquet or in a data frame, are those of UTC: the offset of a zone may change within a series.

    Example:
        >>> form_of([pl.Series("Month", ["1949-01", "1949-02"])]), form_of([pl.Series("ds", ["2024-01-31 00:00"])])
        ('month', 'second')
    """
    column, *part = columns
    if part:
        return "quarter" if part[0].name.lower().startswith("q") else "month"
    if isinstance(column.dtype, pl.Datetime):
        return "+00:00" if column.dtype.time_zone else "second"
    if column.dtype == pl.Date:
        return "day"
    text = _numbered(column.cast(pl.String).str.strip_chars())
    if text.str.contains(_WHOLE).all():
        if times_of(column, Path()).dtype.kind == "i":
            return "step"
        digits = text.str.extract(r"^[+-]?(\d+)").str.len_chars().max()
        return "year" if digits == 4 else "month" if digits == 6 else "day"
    if text.str.contains(_QUARTER).all():
        return "quarter"
    if text.str.contains(":").any():
        zones = text.str.extract(_DATE, 9).unique()
        if zones.null_count():
            return "second"
        return _shown_offset(_offset(zones[0])) if len(zones) == 1 else "+00:00"
    return "month" if text.str.contains(r"^\d{4}[-/.]\d{1,2}$").all() else "day"


def written(times: Times, form: Form) -> list[Any]:
    """Times in the form that others of their series have: whole numbers, text, dates or datetimes, all of one kind.

    Args:
        times: ``datetime64[s]`` or int64, ``[n]``.
        form: as :func:`form_of` found it.

    Example:
        >>> days = np.array(["2024-01-01", "2024-04-01"], "M8[s]")
        >>> written(days, "year"), written(days, "quarter"), written(days, "month")
        ([2024, 2024], ['2024Q1', '2024Q2'], ['2024-01', '2024-04'])
        >>> written(days, "day")[0], written(days, "second")[0]
        (datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1, 0, 0))
        >>> written(days, "+02:00")
        ['2024-01-01T02:00:00+02:00', '2024-04-01T02:00:00+02:00']
    """
    if times.dtype.kind == "i":
        return list(times.tolist())
    years = times.astype("M8[Y]").astype(np.int64) + 1970
    months = times.astype("M8[M]").astype(np.int64) % 12
    if form == "year":
        return list(years.tolist())
    if form == "quarter":
        return [f"{year}Q{month // 3 + 1}" for year, month in zip(years, months, strict=True)]
    if form == "month":
        return [str(month) for month in times.astype("M8[M]")]
    if form[0] in "+-":
        return [f"{time}{form}" for time in times.astype("M8[s]") + np.timedelta64(_offset(form), "s")]
    return list(times.astype("M8[D]" if form == "day" else "M8[us]").tolist())


def form_in(frame: Frame, names: Sequence[str]) -> Form:
    """As `form_of`, of columns of a table that have been read as times."""
    found = frame.coded(names[0]) if len(names) == 1 and frame.schema[names[0]] == pl.String else None
    if found is not None and not found[1].str.contains(_DIGITS).any():
        return form_of([found[1].alias(names[0])])
    return form_of([frame[name] for name in names])


def _of_numbers(column: pl.Series, source: Path) -> Times:
    """Dates written as 20240131 or 202401, years, or plain steps."""
    values = _whole(column, source)
    for days in (True, False):
        dates, valid = np.empty(len(values), "M8[s]"), np.empty(len(values), bool)
        for piece in _slices(len(values)):
            months, day = np.divmod(values[piece], 100) if days else (values[piece], np.int64(1))
            year, month = np.divmod(months, 100)
            dates[piece], valid[piece] = _date(year, month, np.broadcast_to(day, year.shape))
            valid[piece] &= (year >= 1600) & (year <= 2200)
        if 10 * valid.sum() >= 9 * len(values) and len(values):
            _refuse(~valid, column, source, f"is no date; {_KNOWN}")
            return dates
    if len(values) and values.min() >= 1600 and values.max() <= 2200 and column.name.lower() not in _STEPS:
        return _date(values, np.ones_like(values), np.ones_like(values))[0]
    return values


def _whole(column: pl.Series, source: Path) -> NDArray[np.int64]:
    values = numbers(column, source)
    bad = [~(np.abs(some) < 2**53) | (some != np.round(some)) for some in (values[piece] for piece in _slices(len(values)))]
    _refuse(np.concatenate(bad), column, source, f"is no whole number; {_KNOWN}")
    return values.astype(np.int64)


def _of_text(column: pl.Series, source: Path) -> Times:
    """Dates with separators, with or without a time of day."""
    worded = column.str.contains(MONTH).any()
    pieces = [column.slice(piece.start, piece.stop - piece.start) for piece in _slices(len(column))]
    parts = [_taken_apart(_numbered(piece) if worded else piece) for piece in pieces]
    cells = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    del parts, pieces

    def refuse(bad: NDArray[np.bool_], why: str) -> None:
        if bad.any():
            _refuse(bad, _numbered(column), source, why)

    year_first, year_last = cells["year_first"], cells["year_last"]
    first = 2 * int(year_first.sum()) >= int(year_last.sum())
    refuse(~(year_first if first else year_last), f"is no time that is understood here; {_KNOWN}")
    refuse(cells["fine"], "is finer than a second; use a column that counts the steps instead")
    order = ["first", "second", "third"]
    if not first:
        day_first = _day_first(_numbered(column), bool(cells["dot"].all()), cells["first"], cells["second"], source)
        order = ["third", "second", "first"] if day_first else ["third", "first", "second"]
    dates, valid = np.empty(len(column), "M8[s]"), np.empty(len(column), bool)
    for piece in _slices(len(column)):
        dates[piece], valid[piece] = _date(*(cells[name][piece].astype(np.int64) for name in order))
        dates[piece] += cells["clock"][piece].astype("m8[s]")
    refuse(~valid, "is no day of the calendar; mend the cell")
    refuse(cells["no_clock"], "is no time of day; mend the cell")
    refuse(
        ~cells["zoned"] & cells["zoned"].any(),
        "has no offset from UTC, where other rows have one; write all of them alike",
    )
    return dates


def _taken_apart(column: pl.Series) -> dict[str, NDArray[Any]]:
    """The numbers of dates, the seconds of a day that go with each, and which cells are of what kind."""
    groups = column.str.extract_groups(_DATE).struct.unnest()
    groups.columns = ["first", "separator", "second", "third", "hour", "minute", "sec", "fraction", "zone"]
    long, short = (groups["first"].str.len_bytes() == 4).fill_null(False), groups["third"].str.len_bytes()
    alone = groups["third"].is_null() & groups["hour"].is_null()
    hour, minute, sec = (groups[name].cast(pl.Int32).fill_null(0).to_numpy() for name in ("hour", "minute", "sec"))
    zones = groups["zone"]
    offsets = {zone: _offset(zone) for zone in zones.unique().drop_nulls()}
    ahead = zones.replace_strict(offsets, default=0, return_dtype=pl.Int32).fill_null(0).to_numpy() if offsets else 0
    kinds = {
        "year_first": long & (alone | (short <= 2).fill_null(False)),
        "year_last": ((groups["first"].str.len_bytes() <= 2) & (short == 4)).fill_null(False),
        "fine": groups["fraction"].str.contains("[1-9]").fill_null(False),
        "dot": (groups["separator"] == ".").fill_null(True),
        "zoned": zones.is_not_null(),
    }
    return {
        **{name: kind.to_numpy() for name, kind in kinds.items()},
        **{
            name: groups[name].cast(pl.Int16).fill_null(int(name == "third")).to_numpy()
            for name in ("first", "second", "third")
        },
        "clock": hour * 3600 + minute * 60 + sec - ahead,
        "no_clock": (hour > 23) | (minute > 59) | (sec > 59),
    }


def _slices(count: int) -> list[slice]:
    """So many cells, some at a time."""
    return [slice(start, min(start + _SLICE, count)) for start in range(0, max(count, 1), _SLICE)]


def _numbered(column: pl.Series) -> pl.Series:
    """Dates with months as words as dates with numbers: ``Jan 31, 2024`` and ``31-Jan-2024`` as ``2024-01-31``."""
    if not column.str.contains(MONTH).any():
        return column
    for pattern in _WORDED:
        groups = column.str.extract_groups(pattern.replace(MONTH, f"(?P<month>{MONTH})")).struct.unnest()
        month = groups["month"].str.slice(0, 3).str.to_lowercase().replace_strict(_NUMBER, default=None)
        day = (pl.lit("-") + pl.col("day")).replace("-", "")
        date = groups.with_columns(month).select(pl.col("year") + "-" + pl.col("month") + day + pl.col("rest")).to_series()
        column = date.zip_with(date.is_not_null(), column).alias(column.name)
    return column


def _offset(zone: str) -> int:
    """Seconds that a zone is ahead of UTC.

    Example:
        >>> _offset("+02:00"), _offset("-0330"), _offset("Z")
        (7200, -12600, 0)
    """
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return int(zone[0] + "1") * (int(digits[:2]) * 3600 + int(digits[2:]) * 60) if zone[0] in "+-" else 0


def _shown_offset(seconds: int) -> Form:
    hours, minutes = divmod(abs(seconds) // 60, 60)
    return f"{'-' if seconds < 0 else '+'}{hours:02}:{minutes:02}"


def _day_first(column: pl.Series, dotted: bool, first: NDArray[np.int16], second: NDArray[np.int16], source: Path) -> bool:
    """Whether the day stands before the month: proved by a number above 12; with dots it always does."""
    days, months = np.flatnonzero(first > 12), np.flatnonzero(second > 12)
    if len(days) and len(months):
        raise DataError(
            f"{place(source, days[0], column.name)}: {column[int(days[0])]!r} has the day first, row "
            f"{place(source, months[0]).rpartition(' ')[2]} "
            f"({column[int(months[0])]!r}) the month; write dates as 2024-01-31"
        )
    if not len(days) and not len(months) and not dotted:
        raise DataError(
            f"{place(source, 0, column.name)}: {column[0]!r} may have the day or the month first, and no row tells; write "
            "dates as 2024-01-31"
        )
    return len(months) == 0


def _date(year: NDArray[np.int64], month: NDArray[np.int64], day: NDArray[np.int64]) -> tuple[Times, NDArray[np.bool_]]:
    """Dates ``datetime64[s]``, and which of them the calendar has."""
    months = ((year - 1970) * 12 + month - 1).astype("M8[M]")
    days = months.astype("M8[D]") + (day - 1)
    return days.astype("M8[s]"), (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("M8[M]") == months)


def _refuse(bad: NDArray[np.bool_], column: pl.Series, source: Path, why: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{place(source, row, column.name)}: {str(column[row])!r} {why}")
