"""A table as its columns: whole while it is small, once large in a temporary file, from which some rows are read at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from throughtime.data.columns import FILL, counted, not_numbers, parsed, without_blanks
from throughtime.data.spool import PieceSpool, Spool

PIECE = 1 << 23
"""Bytes of the rows that are looked at together."""

Text = Callable[[Sequence[str]], Iterable[pl.DataFrame]]
"""Gives columns as they are written in the file, some rows at a time."""


class Frame:
    """The columns of a table, in the order of the file; those of text that holds nothing but numbers and blanks are numbers.

    Attributes:
        columns: their names.
        schema: their types.

    Example:
        >>> frame = Frame.of(pl.DataFrame({"id": ["u", "v", "u"], "x": [1, 2, 3]}))
        >>> frame.numbers(["x"], Path("moves.csv")).ravel(), frame.written(["id"])["id"].to_list()
        (array([1., 2., 3.]), ['u', 'v', 'u'])
    """

    def __init__(
        self, pieces: Sequence[pl.DataFrame] | PieceSpool, count: int, schema: pl.Schema, text: Text | None = None
    ) -> None:
        self._pieces, self._count, self.schema, self._text = pieces, count, schema, text
        self.columns = schema.names()

    @classmethod
    def of(cls, table: pl.DataFrame | Frame) -> Frame:
        """A table that is in memory, as it is."""
        return table if isinstance(table, Frame) else cls([table], len(table), table.schema)

    @classmethod
    def laid_down(cls, pieces: Iterable[pl.DataFrame], text: Text) -> Frame:
        """A table that is read some rows at a time.

        Args:
            pieces: its rows, in order, at least one frame; text is taken for numbers where all of a column can be.
            text: reads it again, as it is written.

        Raises:
            DataError: the disk is full.
        """
        held: list[pl.DataFrame] = []
        size = count = 0
        laid = PieceSpool()
        counts: dict[str, NDArray[np.int64]] = {}
        for piece in pieces:
            if size > PIECE:
                laid.add(_packed(held))
                held, size = [], 0
            for name, kind in piece.schema.items():
                if kind == pl.String:
                    counts[name] = counts.get(name, 0) + np.array(counted(piece[name]))
            held.append(piece)
            count, size = count + len(piece), size + int(piece.estimated_size())
        schema = pl.Schema({name: _kind(kind, counts.get(name)) for name, kind in piece.schema.items()})
        if not len(laid):
            return cls([_typed(pl.concat(held), schema)], count, schema, text)
        laid.add(_packed(held))
        return cls(laid, count, schema, text)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, name: str) -> pl.Series:
        """All of a column."""
        return pl.concat([rows[name] for rows in self.rows([name])])

    def rows(self, names: Sequence[str]) -> Iterator[pl.DataFrame]:
        """These columns, some rows at a time, in their order."""
        for piece in self._pieces:
            part = piece if isinstance(piece, pl.DataFrame) else pl.read_ipc(piece, columns=list(names))
            yield _typed(part.select(names), self.schema)

    def start(self, name: str, count: int) -> pl.Series:
        """The first cells of a column that are not null, so many if there are."""
        found = self._of(name).clear()
        for rows in self.rows([name]):
            found = found.append(rows[name].drop_nulls().head(count - len(found)))
            if len(found) == count:
                break
        return found

    def _of(self, name: str) -> pl.Series:
        return pl.Series(name, [], dtype=self.schema[name])

    def is_number(self, name: str) -> bool:
        """Whether a column holds numbers: by its type, or, as text, in at least half of the cells that are not blank."""
        if self.schema[name] != pl.String:
            return self.schema[name].is_numeric() or self.schema[name] == pl.Boolean
        filled, _, numbers = np.sum([counted(rows[name]) for rows in self.rows([name])], axis=0)
        return bool(filled and 2 * numbers >= filled)

    def different(self, name: str) -> int:
        """How many different cells a column has; null is one."""
        return int(pl.concat([rows[name].unique() for rows in self.rows([name])]).n_unique())

    def repeats(self, names: Sequence[str]) -> bool:
        """Whether two rows are the same in these columns."""
        hashes = np.sort(np.concatenate([rows.hash_rows().to_numpy() for rows in self.rows(names)]))
        if not (hashes[1:] == hashes[:-1]).any():
            return False
        return bool(pl.concat(self.rows(names)).is_duplicated().any())

    def numbers(self, names: Sequence[str], source: Path, mend: str = FILL) -> NDArray[np.float64]:
        """Columns as numbers, ``[n, columns]``, in a file where there are many; NaN where a cell is blank.

        Args:
            names: of the columns.
            source: the file, for messages.
            mend: what to do about a cell that is no number, for the message.

        Raises:
            DataError: a cell that is something else, with row, column and content; the disk is full.
        """
        if not names:
            return np.empty((self._count, 0))
        made, at = Spool(), 0
        wrong: dict[str, tuple[int, Any, int]] = {}
        for rows in self.rows(names):
            values = np.empty((len(rows), len(names)))
            for place, name in enumerate(names):
                found = parsed(rows[name])
                if found is None:
                    wrong.setdefault(name, (0, None, 0))
                    continue
                values[:, place], bad = found
                if len(bad):
                    row, cell, count = wrong.get(name, (at + int(bad[0]), rows[name][int(bad[0])], 0))
                    wrong[name] = (row, cell, count + len(bad))
            made.add(values)
            at += len(rows)
        for name in names:
            if name in wrong:
                raise not_numbers(self._of(name), *wrong[name], source, mend)
        return np.asarray(made.array())

    def coded(self, name: str) -> tuple[NDArray[np.int32], pl.Series] | None:
        """A column of text in which cells come again: the number of each cell, -1 where null, and the different ones.

        ``None`` where most come only once.
        """
        made = Names()
        for rows in self.rows([name]):
            made.add(rows[name])
            if 2 * made.different > self._count:
                return None
        return made.coded()

    def written(self, names: Iterable[str], stripped: Sequence[str] = ()) -> dict[str, pl.Series]:
        """Columns of names as the file has them, each different text kept once (``Enum``).

        As names, 7 and 007 differ, and so do 1000 and 1e3. A cell that is blank in a column of numbers stays null.

        Args:
            names: of the columns.
            stripped: those of text that lose the blanks around each cell, and are null where nothing is left.

        Returns:
            The columns by name; numbers stay numbers where the file knows them as such.
        """
        names = list(dict.fromkeys(names))
        found: dict[str, pl.Series] = {}
        if texts := [name for name in names if self.schema[name] == pl.String]:
            made = {name: Names() for name in texts}
            for rows in self.rows(texts):
                for name in texts:
                    made[name].add(_stripped(rows[name]) if name in stripped else rows[name])
            found |= {name: made[name].series(name) for name in texts}
        others = [name for name in names if name not in found]
        found |= self._from_file(others) if self._text and others else {}
        return {name: found[name] if name in found else self[name] for name in names}

    def _from_file(self, names: list[str]) -> dict[str, pl.Series]:
        """Columns of numbers as text, if the file has them so."""
        assert self._text is not None
        blank = {name: pl.concat([rows[name].is_null() for rows in self.rows([name])]) for name in names}
        made, at = {name: Names() for name in names}, 0
        for rows in self._text(names):
            made = {name: names_ for name, names_ in made.items() if rows.schema[name] == pl.String}
            for name, kept in made.items():
                kept.add(rows[name].str.strip_chars().set(blank[name].slice(at, len(rows)), None))
            at += len(rows)
        return {name: kept.series(name) for name, kept in made.items()}


class Names:
    """Cells of text laid down piece by piece, each different one kept once.

    Example:
        >>> names = Names()
        >>> names.add(pl.Series(["u", "v"]))
        >>> names.add(pl.Series(["w", None, "v"]))
        >>> codes, different = names.coded()
        >>> codes.tolist(), different.to_list()
        ([0, 1, 2, -1, 1], ['u', 'v', 'w'])
    """

    def __init__(self) -> None:
        self._pieces: list[tuple[NDArray[np.int32], pl.Series]] = []
        self.different = 0

    def add(self, cells: pl.Series) -> None:
        """Put cells behind those before them."""
        few = cells.drop_nulls().unique(maintain_order=True)
        self._pieces.append((_places(cells, few), few))
        self.different = max(self.different, len(few))

    def coded(self) -> tuple[NDArray[np.int32], pl.Series]:
        """The number of each cell, -1 where null, and the different ones in the order in which they first come."""
        few = pl.concat([some for _, some in self._pieces]).unique(maintain_order=True)
        codes = [np.append(_places(some, few), np.int32(-1))[own] for own, some in self._pieces]
        return np.concatenate(codes), few

    def series(self, name: str) -> pl.Series:
        """All cells as one column."""
        codes, few = self.coded()
        return pl.Series(name, codes).replace(-1, None).cast(pl.UInt32).cat.to(pl.Enum(few))


def _places(cells: pl.Series, few: pl.Series) -> NDArray[np.int32]:
    """Where each cell stands among the different ones; -1 where it is null."""
    if not len(few):
        return np.full(len(cells), -1, np.int32)
    numbers = pl.int_range(len(few), dtype=pl.Int32, eager=True)
    return cells.replace_strict(few, numbers, default=None, return_dtype=pl.Int32).fill_null(-1).to_numpy()


def typed(frame: pl.DataFrame) -> pl.DataFrame:
    """String columns that hold nothing but numbers and blanks, made numeric; the others as they were.

    Example:
        >>> typed(pl.DataFrame({"a": ["1", "NA"], "b": ["x", "2"]})).dtypes
        [Int64, String]
    """
    counts = {column.name: counted(column) for column in frame.iter_columns() if column.dtype == pl.String}
    return _typed(frame, pl.Schema({name: _kind(kind, counts.get(name)) for name, kind in frame.schema.items()}))


def _kind(kind: pl.DataType, counts: Sequence[int] | NDArray[np.int64] | None) -> pl.DataType:
    """The type of a column: as it is, or of numbers where text is nothing else, by what was counted in it."""
    if counts is None or not counts[0] or counts[2] < counts[0]:
        return kind
    return pl.Int64() if counts[1] == counts[0] else pl.Float64()


def _typed(rows: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """The columns of text made numbers that are so in the schema."""
    changed = [
        without_blanks(column).cast(schema[column.name], strict=False)
        for column in rows.iter_columns()
        if column.dtype == pl.String and schema[column.name] != pl.String
    ]
    return rows.with_columns(changed)


def _stripped(cells: pl.Series) -> pl.Series:
    cells = cells.str.strip_chars()
    return cells.set(cells == "", None)


def _packed(rows: list[pl.DataFrame]) -> memoryview:
    """Rows as one piece of bytes."""
    stream = BytesIO()
    pl.concat(rows).write_ipc(stream, compression="lz4")
    return stream.getbuffer()
