"""A column of times as numbers: dates in all usual forms become ``datetime64[s]`` in UTC, plain steps stay integers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from throughtime.data.columns import numbers, place
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
    if column.str.contains(r"^[+-]?\d+(?:\.0*)?$").all():
        return _of_numbers(column, source)
    quarters = column.str.extract_groups(_QUARTER).struct.unnest()
    if quarters.to_series(0).is_not_null().all():
        year, quarter = (part.cast(pl.Int64).to_numpy() for part in quarters)
        return _date(year, 3 * quarter - 2, np.ones_like(year))[0]
    return _of_text(_numbered(column), source)


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
    if text.str.contains(r"^[+-]?\d+(?:\.0*)?$").all():
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


def _of_numbers(column: pl.Series, source: Path) -> Times:
    """Dates written as 20240131 or 202401, years, or plain steps."""
    values = _whole(column, source)
    for year, month, day in (
        (values // 10_000, values // 100 % 100, values % 100),
        (values // 100, values % 100, np.ones_like(values)),
    ):
        dates, valid = _date(year, month, day)
        valid &= (year >= 1600) & (year <= 2200)
        if 10 * valid.sum() >= 9 * len(values) and len(values):
            _refuse(~valid, column, source, f"is no date; {_KNOWN}")
            return dates
    if len(values) and values.min() >= 1600 and values.max() <= 2200 and column.name.lower() not in _STEPS:
        return _date(values, np.ones_like(values), np.ones_like(values))[0]
    return values


def _whole(column: pl.Series, source: Path) -> NDArray[np.int64]:
    values = numbers(column, source)
    _refuse(~(np.abs(values) < 2**53) | (values != np.round(values)), column, source, f"is no whole number; {_KNOWN}")
    return values.astype(np.int64)


def _of_text(column: pl.Series, source: Path) -> Times:
    """Dates with separators, with or without a time of day."""
    groups = column.str.extract_groups(_DATE).struct.unnest()
    groups.columns = ["first", "separator", "second", "third", "hour", "minute", "sec", "fraction", "zone"]
    year_first = (groups["first"].str.len_bytes() == 4).fill_null(False)
    year_last = ((groups["first"].str.len_bytes() <= 2) & (groups["third"].str.len_bytes() == 4)).fill_null(False)
    year_first &= (groups["third"].is_null() & groups["hour"].is_null()) | (groups["third"].str.len_bytes() <= 2).fill_null(
        False
    )
    of_one_kind = year_first if 2 * int(year_first.sum()) >= int(year_last.sum()) else year_last
    _refuse((~of_one_kind).to_numpy(), column, source, f"is no time that is understood here; {_KNOWN}")
    _refuse(
        groups["fraction"].str.contains("[1-9]").fill_null(False).to_numpy(),
        column,
        source,
        "is finer than a second; use a column that counts the steps instead",
    )
    numeric = {
        name: groups[name].cast(pl.Int64).fill_null(0).to_numpy() for name in ("first", "second", "hour", "minute", "sec")
    }
    third = groups["third"].cast(pl.Int64).fill_null(1).to_numpy()
    if of_one_kind is year_first:
        year, month, day = numeric["first"], numeric["second"], third
    elif _day_first(column, groups["separator"], numeric["first"], numeric["second"], source):
        year, month, day = third, numeric["second"], numeric["first"]
    else:
        year, month, day = third, numeric["first"], numeric["second"]
    dates, valid = _date(year, month, day)
    _refuse(~valid, column, source, "is no day of the calendar; mend the cell")
    _refuse(
        (numeric["hour"] > 23) | (numeric["minute"] > 59) | (numeric["sec"] > 59),
        column,
        source,
        "is no time of day; mend the cell",
    )
    clock = numeric["hour"] * 3600 + numeric["minute"] * 60 + numeric["sec"]
    zones = groups["zone"]
    _refuse(
        (zones.is_null() & zones.is_not_null().any()).to_numpy(),
        column,
        source,
        "has no offset from UTC, where other rows have one; write all of them alike",
    )
    offsets = {zone: _offset(zone) for zone in zones.unique().drop_nulls()}
    if offsets:
        clock = clock - zones.replace_strict(offsets, return_dtype=pl.Int64).to_numpy()
    moments: Times = dates + clock.astype("m8[s]")
    return moments


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


def _day_first(
    column: pl.Series, separator: pl.Series, first: NDArray[np.int64], second: NDArray[np.int64], source: Path
) -> bool:
    """Whether the day stands before the month: proved by a number above 12; with dots it always does."""
    days, months = np.flatnonzero(first > 12), np.flatnonzero(second > 12)
    if len(days) and len(months):
        raise DataError(
            f"{place(source, days[0], column.name)}: {column[int(days[0])]!r} has the day first, row "
            f"{place(source, months[0]).rpartition(' ')[2]} "
            f"({column[int(months[0])]!r}) the month; write dates as 2024-01-31"
        )
    if not len(days) and not len(months) and not (separator == ".").all():
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
