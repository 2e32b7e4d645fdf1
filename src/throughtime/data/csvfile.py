"""CSV files in pieces of bounded size: whole records for polars to parse, and the type of each column found on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from throughtime.errors import DataError


@dataclass(frozen=True)
class Csv:
    """A CSV file whose quotes open and close cells, so that an even number of them lies before the end of a record.

    Attributes:
        path: the file; UTF-8.
        columns: their names, in the order of the file.
        separator: between the cells.
        quote: around cells that hold the separator; ``None`` where a quote is a character like any other.
        piece: bytes that are parsed at a time: polars left to itself has hundreds of MiB in flight.
    """

    path: Path
    columns: Sequence[str]
    separator: str
    quote: str | None
    piece: int

    def survey(self) -> tuple[dict[str, pl.DataType], int | None] | None:
        """The type of each column as polars sees it, and the first row whose last cell is blank, counted from 0, if one is.

        A line that is too short shows as a blank in the last column. ``None`` where polars cannot read the file.
        """
        found: list[set[pl.DataType]] = [set() for _ in self.columns]
        blank, count = None, 0
        try:
            for block in self._blocks():
                frame = self._parsed(block, None, None)
                if frame.width != len(self.columns):
                    return None
                for kinds, column in zip(found, frame.iter_columns(), strict=True):
                    if column.null_count() < len(column):
                        kinds.add(column.dtype)
                last = frame.to_series(-1)
                if blank is None and last.null_count():
                    blank = count + int(last.is_null().arg_max() or 0)
                count += len(frame)
        except pl.exceptions.PolarsError:
            return None
        return dict(zip(self.columns, map(_joint, found), strict=True)), blank

    def frames(self, columns: Sequence[str], schema: dict[str, pl.DataType]) -> Iterator[pl.DataFrame]:
        """These columns, some rows at a time, of the types of the schema, which has all columns of the file."""
        for block in self._blocks():
            yield self._parsed(block, columns, schema)

    def _parsed(self, block: bytes, columns: Sequence[str] | None, schema: dict[str, pl.DataType] | None) -> pl.DataFrame:
        return pl.read_csv(
            block,
            has_header=False,
            separator=self.separator,
            quote_char=self.quote,
            columns=None if columns is None else sorted(map(self.columns.index, columns)),
            schema=schema,
            infer_schema_length=None,
        )

    def _blocks(self) -> Iterator[bytes]:
        """The records below the header, in blocks that end where a record does."""
        header, block = True, b""
        try:
            with self.path.open("rb") as handle:
                while more := handle.read(self.piece):
                    block += more
                    del more
                    if header:
                        end = self._end(block, first=True)
                        header, block = not end, block[end:]
                    if not header and (end := self._end(block)):
                        rest, block = block[end:], block[:end]
                        yield block
                        block = rest
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}") from None
        if block and not header:
            yield block

    def _end(self, block: bytes, *, first: bool = False) -> int:
        """The byte after the last record that ends in a block, or after the first; 0 if none does."""
        mark = b"\n"
        place = block.find(mark) if first else block.rfind(mark)
        if self.quote is None:
            return place + 1
        quote = self.quote.encode()
        quotes = block.count(quote, 0, max(place, 0))
        while place >= 0 and quotes % 2:
            before, place = place, block.find(mark, place + 1) if first else block.rfind(mark, 0, place)
            between = block.count(quote, min(before, place), max(before, place)) if place >= 0 else 0
            quotes += between if first else -between
        return place + 1


def _joint(kinds: set[pl.DataType]) -> pl.DataType:
    """The type that polars gives a column some of whose cells are of each of these: of numbers the wider one, else text."""
    if len(kinds) == 1:
        return next(iter(kinds))
    for wider in (pl.Float64(), pl.Int128()):
        if kinds == {pl.Int64(), wider}:
            return wider
    return pl.String()
