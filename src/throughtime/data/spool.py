"""Arrays and texts laid down piece by piece: in memory while they are small, in a temporary file, memory-mapped, once large."""

from __future__ import annotations

import tempfile
from typing import IO, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from throughtime.data.records import TextSlices
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
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed once it is mapped
            for block in self._blocks:
                self._file.write(block.tobytes())
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"{tempfile.gettempdir()} cannot hold what is read ({error.strerror}); free some space, or name another folder "
                "with TMPDIR"
            ) from None
        self._blocks = [block[:0]]


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
