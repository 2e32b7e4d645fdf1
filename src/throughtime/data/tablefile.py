"""One table in a file: its columns, its cells, and the line where a row stands. CSV, TSV, Parquet and JSONL, read by polars.

A row has the number of its line where no cell before it spans lines; the header of a CSV file is row 1.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from glob import escape
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from throughtime.data.columns import row_number
from throughtime.data.csvfile import Csv
from throughtime.data.files import check_text, existing, nearest, plural, shown, start_of, text_blocks
from throughtime.data.frame import Frame, typed
from throughtime.errors import DataError

SUFFIXES = (".csv", ".tsv", ".tab", ".parquet", ".pq", ".jsonl", ".ndjson")
SAMPLE = 10_000
COLUMNS = 20_000
"""The most that a table may have: every one is looked at, which would take minutes."""
_PIECE, _CELL = 1 << 21, 64
"""Bytes that are read at a time, and what a cell takes beside its text."""
ROW = "\0row"
"""The column of row numbers; no text file can have a column of that name."""


@dataclass
class Table:
    """A table that lies in a file; only what is asked for is read.

    Attributes:
        path: the file.
        kind: ``csv``, ``parquet`` or ``jsonl``.
        columns: their names, in the order of the file.
        separator: between the cells of a CSV file.
        quote: around cells that hold the separator; ``None`` where a quote is a character like any other.
        irregular: whether a quote does not open a cell, end it or stand doubled within it. Such a file is read by the standard
            library, since polars loses rows without a word then.
    """

    path: Path
    kind: str
    columns: list[str] = field(default_factory=list)
    separator: str = ","
    quote: str | None = '"'
    irregular: bool = False

    def require(self, name: str, flag: str) -> str:
        """The name, if it is that of a column.

        Raises:
            DataError: it is not; the nearest is suggested.
        """
        if name not in self.columns:
            raise DataError(f"{self.path}: there is no column {name!r} ({flag}); {nearest(name, self.columns, flag)}")
        return name

    def place(self, row: int, column: str) -> str:
        """Where a cell is, in words that start a message; ``row`` counts from 0 and blank lines too."""
        number, line = row_number(self.path, row), 0
        if self.kind == "csv":
            line = next(at for index, (at, _) in enumerate(_records(self)) if index == row + 1)
        elif self.kind == "jsonl":
            line = next(at for index, (at, _) in enumerate(_objects(self.path)) if index == row)
        return f"{self.path}: row {number:,}{f' (line {line:,})' if line not in (0, number) else ''}, column {column!r}"

    def sample(self) -> pl.DataFrame:
        """The first rows, with numbers where a column holds nothing else; enough to guess from."""
        return typed(pl.concat(self._read(None, SAMPLE)).drop(ROW))

    def cells(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """These columns as they are written (``String``, null where blank), and `ROW`: the number of each row, from 0.

        Yields:
            Some rows at a time, in their order: a table may be larger than memory.

        Raises:
            DataError: a row with another number of cells than the header, a quote that does not end, a cell that is a list.
        """
        for frame in self._read(columns, None):
            for name in columns:
                dtype = frame.schema[name]
                if dtype.is_nested() or dtype == pl.Binary:
                    raise DataError(
                        f"{self.path}: column {name!r} holds {dtype}, expected text or numbers; choose another column"
                    )
                if dtype.is_float():
                    frame = frame.with_columns(pl.col(name).fill_nan(None))
            yield frame.with_columns(pl.col(name).cast(pl.String) for name in columns)

    def frame(self) -> Frame:
        """All of it, with numbers where a column holds nothing but numbers and blanks, and strings elsewhere.

        Raises:
            DataError: as `cells`; the disk is full.
        """
        return Frame.laid_down((rows.drop(ROW) for rows in self._read(None, None)), lambda names: self._read(names, None))

    def _read(self, columns: Sequence[str] | None, rows: int | None) -> Iterator[pl.DataFrame]:
        """Columns (all, if not given) of the first rows (all, if not given), blank lines left out, and `ROW`; in pieces."""
        wanted = self.columns if columns is None else list(dict.fromkeys(columns))
        count = 0
        try:
            for frame in self._csv(wanted, columns is None, rows) if self.kind == "csv" else self._scanned(wanted, rows):
                yield frame.select(wanted).with_row_index(ROW, count)
                count += len(frame)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{self.path} is damaged: {_first_line(error)}; write it anew") from None
        if not count:
            yield from self._plainly(wanted, rows)

    def _csv(self, wanted: list[str], infer: bool, rows: int | None) -> Iterator[pl.DataFrame]:
        """These columns as polars reads them; nothing where it cannot, which is found out before the first row is handed on."""
        known = None if self.irregular else self._survey
        if known is None or (known[1] is not None and (rows is None or known[1] < rows)):
            return
        left = sys.maxsize if rows is None else rows
        for frame in self._polars().frames(wanted, known[0] if infer else dict.fromkeys(self.columns, pl.String())):
            yield frame.head(left).with_columns(pl.col(pl.String).replace("", None))  # a cell of two quotes is blank too
            left -= len(frame)
            if left <= 0:
                return

    @cached_property
    def _survey(self) -> tuple[dict[str, pl.DataType], int | None] | None:
        return self._polars().survey()

    def _polars(self) -> Csv:
        return Csv(self.path, self.columns, self.separator, self.quote, _PIECE)

    def _scanned(self, wanted: list[str], rows: int | None) -> Iterator[pl.DataFrame]:
        """As `_csv`, of Parquet and JSONL."""
        if self.kind == "parquet":
            scan = pl.scan_parquet(self.path, glob=False).select(wanted)
            yield from (scan if rows is None else scan.head(rows)).collect_batches()
            return
        try:
            scan = pl.scan_ndjson(escape(str(self.path)), infer_schema_length=None, n_rows=rows).select(wanted)
            scan.null_count().collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError):
            return
        yield from scan.collect_batches()

    def _plainly(self, columns: Sequence[str], rows: int | None) -> Iterator[pl.DataFrame]:
        """As `_read`, by the standard library: slower, but it knows blank lines, and the line of what is wrong.

        Raises:
            DataError: with the line that is at fault.
        """
        found: Iterator[list[str | None] | None]
        if self.kind == "jsonl":
            found = ([_cell(value.get(name)) for name in columns] for _, value in islice(_objects(self.path), rows))
        else:
            places = [self.columns.index(name) for name in columns]
            records = islice(_records(self), 1, rows and rows + 1)
            found = ([fields[place] or None for place in places] if fields else None for _, fields in records)
        kept: list[tuple[Any, ...]] = []
        size = 0
        for number, cells in enumerate(found):
            if cells is not None:
                kept.append((number, *cells))
                size += sum(len(cell or "") + _CELL for cell in cells)
            if size > _PIECE:
                yield _strings(kept, columns)
                kept, size = [], 0
        yield _strings(kept, columns)


def open_table(path: Path) -> Table:
    """Find out how a table is written, and what its columns are called.

    Args:
        path: a file that ends in one of `SUFFIXES`; anything else is taken for CSV.

    Raises:
        DataError: no such file, an empty or binary one, another encoding than UTF-8, a header that is missing or names two
            columns alike, or no rows.
    """
    existing(path)
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        table = Table(path, "parquet")
        try:
            table.columns = pl.scan_parquet(path, glob=False).collect_schema().names()
            rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{path} is not a Parquet file that can be read: {_first_line(error)}") from None
    elif suffix in (".jsonl", ".ndjson"):
        check_text(path)
        table = Table(path, "jsonl")
        first = next((value for _, value in _objects(path)), {})
        names = dict.fromkeys(first)
        try:
            names |= dict.fromkeys(pl.scan_ndjson(escape(str(path)), infer_schema_length=None).collect_schema().names())
        except pl.exceptions.PolarsError:
            names |= dict.fromkeys(name for _, value in _objects(path) for name in value)
        table.columns, rows = list(names), len(first)
    else:
        check_text(path)
        start = start_of(path)
        if "\r" in start and "\n" not in start:
            raise DataError(f"{path}: its lines end in CR alone, as on old Macintoshes; convert it with tr '\\r' '\\n'")
        separator, quote = sniff(start, "\t" if suffix in (".tsv", ".tab") else ",")
        table = Table(path, "csv", [], separator, quote, quote is not None and _is_irregular(path, separator))
        records = _records(table)
        table.columns = [name.strip() for name in next(records, (1, []))[1]]
        _check_header(table, start)
        rows = sum(bool(fields) for _, fields in islice(records, SAMPLE))
    if len(table.columns) > COLUMNS:
        raise DataError(
            f"{path} has {len(table.columns):,} columns, expected at most {COLUMNS:,}; leave some out, or lay it out long: "
            "a row for each series and time (unique_id,ds,y)"
        )
    if not table.columns or not rows:
        raise DataError(f"{path} holds a header and no rows" if table.columns else f"{path} has no columns")
    return table


def sniff(start: str, usual: str) -> tuple[str, str | None]:
    r"""The separator and the quote of a CSV file.

    The separator is the one that stands in the header and divides the most lines into as many cells as the header has.

    Args:
        start: the first lines of the file.
        usual: the separator to expect: it wins a tie, and a file of one column has it.

    Example:
        >>> sniff('text;label\n"well, yes; no";1\n', ",")
        (';', '"')
    """
    best = (0.0, 0)
    found: tuple[str, str | None] = (usual, '"')
    for separator in dict.fromkeys([usual, ",", "\t", ";", "|"]):
        for quote in ('"', None) if separator == "\t" else ('"',):
            reader = csv.reader(io.StringIO(start, newline=""), **_dialect(separator, quote))
            with _long_cells():
                widths = [len(fields) for fields in reader if fields]
            if widths and widths[0] > 1:
                score = (sum(width == widths[0] for width in widths) / len(widths), widths[0])
                if score > best:
                    best, found = score, (separator, quote)
    return found


def _check_header(table: Table, start: str) -> None:
    """Raise where two columns have one name, or where the first line is no header but data."""
    names = table.columns
    if not names:
        raise DataError(f"{table.path}: the first line is blank, expected the names of the columns; remove it")
    repeated, times = Counter(names).most_common(1)[0]
    if times > 1:
        places = [str(index + 1) for index, name in enumerate(names) if name == repeated]
        raise DataError(
            f"{table.path}: columns {' and '.join(places)} are both called {repeated!r}; give each a name of its own"
        )
    reader = csv.reader(io.StringIO(start, newline=""), **_dialect(table.separator, table.quote))
    with _long_cells():
        rows = [fields for fields in list(reader)[1:] if len(fields) == len(names)]
    reason = ""
    if all(re.match(r"-?\.?\d", name) for name in names):
        reason = f"it begins with {shown(names[0])}"
    for index, name in enumerate(names):
        if name.lower().endswith((".wav", ".flac")) or len(name) > 80 or name.count(" ") > 7:
            reason = f"it holds {shown(name)}"
        elif name and not name[:1].isdigit() and any(fields[index].strip() == name for fields in rows):
            reason = f"{shown(name)} is also a value below it"
    if reason:
        raise DataError(
            f"{table.path}: the first line should name the columns, but {reason}; add a header line, such as text,label"
        )


def _records(table: Table) -> Iterator[tuple[int, list[str]]]:
    """The line at which each record of a CSV file begins, and its cells; no cells for a blank line.

    Raises:
        DataError: a record with another number of cells than the header, or a quote that is wrong.
    """
    with table.path.open(encoding="utf-8-sig", newline="") as handle, _long_cells():
        reader = csv.reader(handle, **_dialect(table.separator, table.quote), strict=True)
        width, begin = 0, 1
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "end of data" in str(error):
                    problem = "a double quote is opened and never closed"
                else:
                    problem = f"a double quote stands where none may ({error})"
                raise DataError(
                    f'{table.path} line {begin:,}: {problem}; write a quote within a cell as "", and quotes around it'
                ) from None
            width = width or len(fields)
            if fields and len(fields) != width:
                raise DataError(
                    f"{table.path} line {begin:,}: {plural(len(fields), 'cell')}, the header has {width}; "
                    f"put double quotes around a cell that holds {table.separator!r}, and fill in cells that are missing"
                )
            yield begin, fields
            begin = reader.line_num + 1


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The line and the object of each line of a JSONL file that is not blank.

    Raises:
        DataError: a line that is not a JSON object.
    """
    with path.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                found = f"{error.msg} at character {error.colno:,}" if isinstance(error, json.JSONDecodeError) else str(error)
                whole = "; a file that is one JSON array is converted with jq -c '.[]'" if line.lstrip()[0] == "[" else ""
                raise DataError(f"{path} line {number:,} is not JSON: {found}{whole}") from None
            if not isinstance(value, dict):
                expected = 'expected an object such as {"text": "...", "label": "..."}'
                raise DataError(f"{path} line {number:,} is {shown(line.strip())}, {expected}")
            yield number, value


def _is_irregular(path: Path, separator: str) -> bool:
    """Whether a quote of a CSV file does not open a cell, end it or stand doubled within it."""
    edge = np.zeros(256, bool)
    edge[[*b'\r\n"', ord(separator)]] = True
    inside, before = 0, b"\n"
    for number, block in enumerate(chain(text_blocks(path), [b"\n"])):
        content = np.frombuffer(before + (block.removeprefix(BOM_UTF8) if number == 0 else block), np.uint8)
        places = np.flatnonzero(content[1:-1] == ord('"')) + 1
        opening, closing = places[inside::2], places[1 - inside :: 2]
        if not (edge[content[opening - 1]].all() and edge[content[closing + 1]].all()):
            return True
        inside = (inside + len(places)) % 2
        before = content[-2:].tobytes()
    return inside == 1


def _strings(rows: list[tuple[Any, ...]], columns: Sequence[str]) -> pl.DataFrame:
    """Rows of a number and cells as a frame."""
    return pl.DataFrame(rows, {ROW: pl.UInt32, **dict.fromkeys(columns, pl.String)}, orient="row")


def _cell(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _dialect(separator: str, quote: str | None) -> dict[str, Any]:
    return {"delimiter": separator, "quotechar": quote, "quoting": csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE}


class _long_cells:  # noqa: N801 - used as a function
    """Lets the csv module take cells of more than 128 KiB; that is a setting of the process, so it is put back."""

    def __enter__(self) -> None:
        self._before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))

    def __exit__(self, *_: object) -> None:
        csv.field_size_limit(self._before)


def _first_line(error: BaseException) -> str:
    return str(error).split("\n")[0]
