"""Columns of a table, checked: found by name, read as numbers, as parts of a split, or as one value per group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from throughtime.errors import DataError

BLANK = ("", "na", "n/a", "#n/a", "nan", "null", "none", "?")
"""Cells, in lower case, that say that a number is missing."""

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What a column or a folder may call the three parts, in lower case."""

SPLITS = ("split", "part", "partition", "subset", "set", "fold")
"""What the column of the parts may be called, in lower case."""

LABELS = ("label", "labels", "target", "class", "category", "tag", "tags", "y")
"""What the column to predict may be called, in lower case."""

CLASSES = 20
"""Whole numbers of at most so many values are classes, unless the task says otherwise; of more, quantities."""

_WITHOUT_HEADER = (".parquet", ".pq", ".jsonl", ".ndjson")


def are_classes(values: NDArray[Any]) -> bool:
    """Whether numbers are taken for names of classes where the task does not say: whole ones of at most `CLASSES` values.

    Example:
        >>> are_classes(np.array([0.0, 1.0, 1.0])), are_classes(np.array([0.5, 1.0]))
        (True, False)
    """
    return bool(np.isfinite(values).all() and (values == np.round(values)).all() and len(np.unique(values)) <= CLASSES)


def row_number(source: Path, row: int) -> int:
    """The row as a person counts it: the line of a CSV file, whose header is line 1; from 1 where there is no header.

    Example:
        >>> row_number(Path("sales.csv"), 0), row_number(Path("sales.parquet"), 0)
        (2, 1)
    """
    return int(row) + (1 if source.suffix.lower() in _WITHOUT_HEADER else 2)


def place(source: Path, row: int, column: str | None = None) -> str:
    """Where a cell is, in words that start an error message."""
    return f"{source}: row {row_number(source, row):,}" + (f", column {column!r}" if column is not None else "")


class Named(Protocol):
    """What has columns: a frame of polars, or one that is laid down."""

    @property
    def columns(self) -> list[str]:
        """Their names."""

    def __getitem__(self, name: str, /) -> pl.Series: ...


def find(frame: Named, name: str, setting: str, source: Path) -> str:
    """The name, if the table has such a column.

    Args:
        frame: the table.
        name: of the column.
        setting: the field of the settings that asks for it, for the message.
        source: the file.

    Raises:
        DataError: there is no such column; the nearest is suggested.
    """
    if name in frame.columns:
        return name
    lower = {column.lower(): column for column in frame.columns}
    near = [lower[key] for key in get_close_matches(name.lower(), lower, 1)]
    raise DataError(
        f"{source}: there is no column {name!r} (--{setting.replace('_', '-')}); "
        + (f"did you mean {near[0]!r}?" if near else f"the columns are {listed(frame.columns)}")
    )


def guess(frame: Named, names: Sequence[str], taken: Iterable[str] = ()) -> str | None:
    """The first column that has one of these names, in whatever case, in the order of the names."""
    lower = {column.lower(): column for column in reversed(frame.columns) if column not in set(taken)}
    return next((lower[name] for name in names if name in lower), None)


def guess_split(frame: Named, taken: Iterable[str] = ()) -> str | None:
    """The column that says which part each row belongs to: called so, and with names of parts in all its first cells."""
    named = [name for name in frame.columns if name.lower() in SPLITS and name not in taken]
    for name in sorted(named, key=lambda name: SPLITS.index(name.lower())):
        if frame[name].dtype == pl.String:
            first = frame[name].head(1000).drop_nulls().str.strip_chars().str.to_lowercase()
            if len(first) and first.is_in(list(PARTS)).all():
                return name
    return None


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names in a row, shortened.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def counted(column: pl.Series) -> tuple[int, int, int]:
    """Of a column of text, the cells that are not blank; of these the whole numbers of 64 bits, and all that are numbers.

    Example:
        >>> counted(pl.Series(["1", " 2.5", "n/a", "x", None]))
        (3, 1, 2)
    """
    text = without_blanks(column).drop_nulls()
    integers, numeric = (int(text.cast(kind, strict=False).is_not_null().sum()) for kind in (pl.Int64, pl.Float64))
    return len(text), integers, numeric


def is_number(column: pl.Series) -> bool:
    """Whether a column holds numbers: by its type, or, as text, in at least half of the cells that are not blank."""
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return True
    if column.dtype != pl.String:
        return False
    filled, _, numeric = counted(column)
    return filled > 0 and 2 * numeric >= filled


FILL = "mend the cell, or leave it empty and use --missing interpolate or --missing mask"
"""What to do about a cell that is no number."""


def numbers(column: pl.Series, source: Path, mend: str = FILL) -> NDArray[np.float64]:
    """The column as numbers ``[n]``; NaN where a cell is blank, NaN, null or one of ``BLANK``.

    Args:
        column: n cells.
        source: the file, for messages.
        mend: what to do about a cell that is no number, for the message.

    Raises:
        DataError: a cell that is something else, with row, column and content.

    Example:
        >>> numbers(pl.Series("x", ["1", " 2.5", "n/a", None]), Path("sales.csv"))
        array([1. , 2.5, nan, nan])
    """
    found = parsed(column)
    if found is None:
        raise not_numbers(column, 0, None, 0, source, mend)
    values, bad = found
    if len(bad):
        raise not_numbers(column, int(bad[0]), column[int(bad[0])], len(bad), source, mend)
    return values


def parsed(column: pl.Series) -> tuple[NDArray[np.float64], pl.Series] | None:
    """The cells as numbers, NaN where blank, and the places of those that are neither; ``None`` for a type of no numbers."""
    bad = pl.Series([], dtype=pl.UInt32)
    if column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
        values = column.cast(pl.Float64)
    elif column.dtype == pl.String:
        text = without_blanks(column)
        values = text.cast(pl.Float64, strict=False)
        bad = (values.is_null() & text.is_not_null()).arg_true()
    else:
        return None
    return values.fill_null(float("nan")).to_numpy().astype(np.float64, copy=False), bad


def not_numbers(column: pl.Series, row: int, cell: Any, count: int, source: Path, mend: str) -> DataError:
    """What is said of a column ``count`` of whose cells are no numbers, the first of them in this row, or none by its type."""
    if not count:
        return DataError(
            f"{source}: column {column.name!r} holds {str(column.dtype).lower()} values, expected numbers; name other columns"
        )
    more = f" (and {count - 1:,} more cells like it)" if count > 1 else ""
    return DataError(
        f"{place(source, row, column.name)}: {cell!r} is not a number{more}; expected digits with a decimal point; {mend}"
    )


def texts(column: pl.Series) -> list[Any]:
    """The cells of a column as a list in which equal ones are one object: of names there are few, in many rows."""
    seen: dict[Any, Any] = {}
    return [seen.setdefault(cell, cell) for cell in column]


def parts_of(column: pl.Series, where: Callable[[int], str]) -> list[str]:
    """The part of each row: ``train``, ``valid`` or ``test``.

    Args:
        column: n cells.
        where: the place of a row of it, for the message.

    Raises:
        DataError: a cell that names no part, with its row.
    """
    lower = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    parts = lower.replace_strict(PARTS, default=None, return_dtype=pl.String)
    bad = parts.is_null().arg_true()
    if len(bad):
        raise DataError(
            f"{where(bad[0])}: {column[bad[0]]!r} is no part of a split; expected train, valid (or validation, val, dev) or "
            "test; mend the cell, or name another column with --split-column"
        )
    return texts(parts)


def one_per_group(column: pl.Series, codes: NDArray[np.int64], groups: Sequence[str], source: Path) -> pl.Series:
    """The one value that a column has in each group.

    Args:
        column: n cells.
        codes: the group of each, from 0; ``[n]``.
        groups: the names of the groups.
        source: the file.

    Raises:
        DataError: two values in one group, with the row of the second.
    """
    first = np.full(len(groups), -1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    other = (~column.eq_missing(column.gather(first).gather(codes))).arg_true()
    if len(other):
        row = other[0]
        group = codes[row]
        raise DataError(
            f"{place(source, row, column.name)}: {column[row]!r}, but {groups[group]!r} began with "
            f"{column[int(first[group])]!r}; "
            f"expected one {column.name} for each sequence; mend the column, or name another"
        )
    return column.gather(first)


def codes_of(column: pl.Series, source: Path) -> tuple[NDArray[np.int64], list[str]]:
    """A number from 0 for each name, in the order in which they appear, and the names.

    Raises:
        DataError: a blank cell, with its row.
    """
    blank = column.is_null().arg_true()
    if len(blank):
        raise DataError(
            f"{place(source, blank[0], column.name)}: blank, expected the name of a sequence or series (--id); fill the cell in"
        )
    if not isinstance(column.dtype, pl.Enum):
        text = column.cast(pl.String)
        names = text.unique(maintain_order=True)
        return text.replace_strict(names, pl.int_range(len(names), eager=True)).to_numpy().astype(np.int64), names.to_list()
    # Each name has its number already; another one only where they do not appear in their order.
    numbered = column.to_physical()
    few = numbered.unique(maintain_order=True)
    own = np.empty(len(column.dtype.categories), np.int64)
    own[few.to_numpy()] = np.arange(len(few))
    return own[numbered.to_numpy()], column.dtype.categories.gather(few).to_list()


def without_blanks(column: pl.Series) -> pl.Series:
    """A column of text without the blanks around its cells, null where it says that a number is missing."""
    text = column.str.strip_chars()
    return text.set(text.str.to_lowercase().is_in(BLANK), None)
