"""Arrays and texts laid down piece by piece: in memory while they are small, in a temporary file, memory-mapped, once large."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from throughtime.data.records import TextSlices, WordSlices
from throughtime.errors import DataError

IN_MEMORY = 1 << 26
"""Bytes of one array that are kept in memory."""
_BLOCK = 1 << 22
_OVERHEAD = 128
"""Bytes that an array takes beside its content."""


class Spool:
    """One array, made of pieces of one dtype and one shape but for their length.

    Example:
        >>> spool = Spool()
        >>> for length in (2, 0, 1):
        ...     spool.add(np.ones(length, np.int32))
        >>> spool.array()
        array([1, 1, 1], dtype=int32)
    """

    def __init__(self) -> None:
        self._pending: list[NDArray[Any]] = []
        self._waiting = 0
        self._blocks: list[NDArray[Any]] = []
        self._rows = self._bytes = 0
        self._file: IO[bytes] | None = None

    def __del__(self) -> None:
        if self._file is not None:  # given up half-way, as where what is read turns out to be wrong
            self._file.close()

    def add(self, piece: NDArray[Any]) -> None:
        """Put a piece behind those before it.

        Raises:
            DataError: the disk is full.
        """
        self._pending.append(piece)
        self._waiting += piece.nbytes + _OVERHEAD
        if self._waiting > _BLOCK:
            self._settle()

    def array(self) -> NDArray[Any]:
        """All pieces; of a large array the file lasts as long as it does.

        Raises:
            DataError: the disk is full.
        """
        self._settle()
        if self._file is None:
            return np.concatenate(self._blocks) if self._blocks else np.zeros(0)
        like = self._blocks[0]
        with self._file as file:
            return np.memmap(file, like.dtype, "r+", shape=(self._rows, *like.shape[1:]))

    def _settle(self) -> None:
        """Make one block of what came last, and write it down where there is much."""
        if not self._pending:
            return
        block = np.concatenate(self._pending)
        self._pending, self._waiting = [], 0
        self._blocks.append(block)
        self._rows, self._bytes = self._rows + len(block), self._bytes + block.nbytes
        if self._bytes <= IN_MEMORY:
            return
        self._file = _appended(self._file, (block.tobytes() for block in self._blocks))
        self._blocks = [block[:0]]


class PieceSpool:
    """Pieces of bytes in a temporary file, each read when it is asked for.

    Example:
        >>> spool = PieceSpool()
        >>> spool.add(b"one"), spool.add(b"two")
        (None, None)
        >>> len(spool), spool[0], list(spool)
        (2, b'one', [b'one', b'two'])
    """

    def __init__(self) -> None:
        self._ends = [0]
        self._file: IO[bytes] | None = None

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, piece: bytes | memoryview) -> None:
        """Put a piece behind those before it.

        Raises:
            DataError: the disk is full.
        """
        self._file = _appended(self._file, [piece])
        self._ends.append(self._ends[-1] + len(piece))

    def __getitem__(self, number: int) -> bytes:
        start, stop = self._ends[number : number + 2]
        assert self._file is not None
        self._file.seek(start)
        return self._file.read(stop - start)

    def __iter__(self) -> Iterator[bytes]:
        return map(self.__getitem__, range(len(self)))


def rearranged(rows: NDArray[Any], order: NDArray[np.int64]) -> NDArray[Any]:
    """The rows of an array in this order, which has each of them once; in a file where they are many.

    Raises:
        DataError: the disk is full.

    Example:
        >>> rearranged(np.array([[1.0], [2.0]]), np.array([1, 0]))
        array([[2.],
               [1.]])
    """
    if (order[1:] > order[:-1]).all():
        return rows
    spool, many = Spool(), max(1, _BLOCK // max(rows[:1].nbytes, 1))
    for start in range(0, len(order), many):
        spool.add(rows[order[start : start + many]])
    return np.asarray(spool.array())


class TextSpool:
    """Texts, end to end, each of which is decoded when it is asked for.

    Example:
        >>> spool = TextSpool()
        >>> spool.add(pl.Series(["one", ""]))
        >>> spool.add(pl.Series(["zwölf"]))
        >>> list(spool.slices())
        ['one', '', 'zwölf']
    """

    def __init__(self) -> None:
        self._content, self._sizes = Spool(), Spool()

    def add(self, texts: pl.Series) -> None:
        """Put texts, none of them null, behind those before them.

        Raises:
            DataError: the disk is full.
        """
        self._content.add(np.frombuffer("".join(texts.to_list()).encode(), np.uint8))
        self._sizes.add(texts.str.len_bytes().to_numpy().astype(np.int64))

    def slices(self) -> TextSlices:
        """All of them."""
        stop = np.cumsum(self._sizes.array(), dtype=np.int64)
        start = np.concatenate([np.zeros(1, np.int64), stop[:-1]])[: len(stop)]
        return TextSlices([self._content.array().data], np.zeros(len(stop), np.int32), start, stop)


class WordSpool:
    """Lists of words, each different word kept once.

    Example:
        >>> spool = WordSpool()
        >>> spool.add(["the", "cat"]), spool.add(["cat"])
        (array([0, 1], dtype=int32), array([1], dtype=int32))
        >>> list(spool.slices())
        [['the', 'cat'], ['cat']]
    """

    def __init__(self) -> None:
        self._codes, self._sizes = Spool(), array("q")
        self._places: dict[str, int] = {}

    @property
    def vocabulary(self) -> list[str]:
        """The different words, in the order in which they first come."""
        return list(self._places)

    def add(self, words: Sequence[str]) -> NDArray[np.int32]:
        """Put a list behind those before it; the number of each of its words, the same for the same word.

        Raises:
            DataError: the disk is full.
        """
        places = self._places
        codes = np.array([places.setdefault(word, len(places)) for word in words], np.int32)
        self._codes.add(codes)
        self._sizes.append(len(codes))
        return codes

    def slices(self) -> WordSlices:
        """All of them."""
        sizes = np.frombuffer(self._sizes, np.int64) if self._sizes else np.zeros(0, np.int64)
        stop = np.cumsum(sizes, dtype=np.int64)
        return WordSlices(self.vocabulary, np.asarray(self._codes.array()), stop - sizes, stop)


def _appended(file: IO[bytes] | None, pieces: Iterable[bytes | memoryview]) -> IO[bytes]:
    """The temporary file, or a new one, with these bytes behind those before them."""
    try:
        file = file or tempfile.TemporaryFile()  # noqa: SIM115 - closed by who keeps it
        for piece in pieces:
            file.write(piece)
        file.flush()
    except OSError as error:
        raise DataError(
            f"{tempfile.gettempdir()} cannot hold what is read ({error.strerror}); free some space, or name another folder "
            "with TMPDIR"
        ) from None
    return file
