"""What readers hand on: sequences with what is known of each, or a panel of time series. NumPy and lists only."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from throughtime.errors import DataError

Kind = Literal["text", "words", "numeric", "sound"]

Form = str
"""How times are written: ``step`` (7), ``year`` (2024), ``quarter`` (2024Q1), ``month`` (2024-01), ``day`` (2024-01-31),
``second`` (2024-01-31 17:00:00), or with an offset from UTC, such as ``+02:00`` (2024-01-31T17:00:00+02:00)."""

Role = Literal["training", "part", "new"]
"""What data is read for: to learn from, as a part beside that (validation or test), or for a model that is fitted."""


@dataclass(frozen=True)
class Sequences:
    """n sequences of one kind.

    Attributes:
        kind: what ``inputs`` holds.
        inputs: per sequence: a ``str`` (text), a list of words (words), an array ``[T, F]`` float64 (numeric; NaN is
            missing), the path of a sound file (sound).
        targets: ``None``, or per sequence: a class name (list of str), a number (array ``[n]`` float64), the tags of its
            steps (list of lists of str), or the numbers of its steps (list of arrays ``[T]`` float64).
        origins: where each comes from, as a person finds it: ``"reviews.csv row 17"``.
        groups: per sequence the value of the group column, if there is one.
        parts: per sequence ``"train"``, ``"valid"`` or ``"test"``, if the data says so itself.
        features: the names of the F channels of numeric sequences.
        target_name: what is predicted, by the name it has in the data.
    """

    kind: Kind
    inputs: Sequence[Any]
    targets: Any = None
    origins: Sequence[str] = ()
    groups: Sequence[str] | None = None
    parts: Sequence[str] | None = None
    features: tuple[str, ...] = ()
    target_name: str = "target"

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Iterable[int]) -> Sequences:
        """These sequences, in this order."""
        rows = list(rows)

        def chosen(values: Any) -> Any:
            if values is None or len(values) == 0:
                return values
            if isinstance(values, list | tuple):
                return [values[row] for row in rows]
            return values[np.asarray(rows, dtype=np.int64)]  # an array, or a sequence that stays lazy

        return replace(
            self,
            inputs=chosen(self.inputs),
            targets=chosen(self.targets),
            origins=chosen(self.origins),
            groups=chosen(self.groups),
            parts=chosen(self.parts),
        )

    def origin(self, row: int) -> str:
        """Where one comes from."""
        return self.origins[row] if len(self.origins) else f"sequence {row}"


class TextSlices(Sequence[str]):
    """Texts that stay where they are: each is a range of bytes of a file, or of memory, and decoded when asked for.

    Args:
        sources: the files, or the bytes themselves; UTF-8.
        file: per document, which file; int32 ``[n]``.
        start: its first byte; int64 ``[n]``.
        stop: the byte after its last; int64 ``[n]``.
    """

    def __init__(
        self, sources: Sequence[Path | memoryview], file: NDArray[np.int32], start: NDArray[np.int64], stop: NDArray[np.int64]
    ) -> None:
        self.sources, self.file, self.start, self.stop = tuple(sources), file, start, stop
        self._open: tuple[int, mmap.mmap | bytes] = (-1, b"")

    def __len__(self) -> int:
        return len(self.file)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice | NDArray[np.int64]) -> TextSlices: ...
    def __getitem__(self, row: int | slice | NDArray[np.int64]) -> str | TextSlices:
        if isinstance(row, int | np.integer):
            return "".join(self.pieces(int(row)))
        return TextSlices(self.sources, self.file[row], self.start[row], self.stop[row])

    def sizes(self) -> NDArray[np.int64]:
        """The bytes of each document."""
        return self.stop - self.start

    def pieces(self, row: int, size: int = 1 << 20) -> Iterator[str]:
        """One document in pieces of about ``size`` bytes, none of them cut within a character.

        Raises:
            DataError: bytes that are not UTF-8, with file and byte.
        """
        content = self._bytes(int(self.file[row]))
        place, stop = int(self.start[row]), int(self.stop[row])
        while place < stop:
            end = min(place + size, stop)
            while end < stop and content[end] & 0xC0 == 0x80:  # within a character
                end += 1
            try:
                yield str(content[place:end], "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{self.sources[self.file[row]]}: byte {place + error.start:,} is {content[place + error.start]:#04x}, "
                    "which is not UTF-8; convert the file (iconv -f LATIN1 -t UTF-8 is a usual way)"
                ) from None
            place = end

    def between(self, row: int, start: int, stop: int) -> bytes:
        """Some bytes of a document, counted from its first one."""
        begin = int(self.start[row])
        return bytes(self._bytes(int(self.file[row]))[begin + start : begin + stop])

    def _bytes(self, file: int) -> mmap.mmap | bytes | memoryview:
        source = self.sources[file]
        if isinstance(source, memoryview):
            return source
        if self._open[0] != file:  # one at a time: there may be more files than may be open at once
            with source.open("rb") as handle:
                empty = not handle.seek(0, 2)
                self._open = file, b"" if empty else mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        return self._open[1]


@dataclass(frozen=True)
class Frequency:
    """The distance of two steps of a time series.

    Attributes:
        unit: ``s``, ``min``, ``h``, ``D``, ``W``, ``M``, ``Q``, ``Y``, or ``step`` where time is a plain number.
        count: how many of these.
        season: the steps of the season that the unit suggests: 24 for hours, 12 for months; 1 for none.
    """

    unit: str
    count: int = 1
    season: int = 1

    def __str__(self) -> str:
        words = {
            "s": "second",
            "min": "minute",
            "h": "hour",
            "D": "day",
            "W": "week",
            "M": "month",
            "Q": "quarter",
            "Y": "year",
            "step": "step",
        }
        return f"every {words[self.unit]}" if self.count == 1 else f"every {self.count} {words[self.unit]}s"


class WordSlices(Sequence[list[str]]):
    """Lists of words, each different word kept once, and the lists made when asked for; equal to lists of the same words.

    Args:
        vocabulary: the different words.
        codes: which of them, of all lists end to end; int32 ``[words]``.
        start: per list its first word; int64 ``[n]``.
        stop: the word after its last; int64 ``[n]``.

    Example:
        >>> words = WordSlices(["the", "cat"], np.array([0, 1, 1], np.int32), np.array([0, 2]), np.array([2, 3]))
        >>> words[0], list(words[np.array([1])]), words == [["the", "cat"], ["cat"]]
        (['the', 'cat'], [['cat']], True)
    """

    def __init__(
        self, vocabulary: Sequence[str], codes: NDArray[np.int32], start: NDArray[np.int64], stop: NDArray[np.int64]
    ) -> None:
        self.vocabulary, self.codes, self.start, self.stop = vocabulary, codes, start, stop

    def __len__(self) -> int:
        return len(self.start)

    @overload
    def __getitem__(self, row: int) -> list[str]: ...
    @overload
    def __getitem__(self, row: slice | NDArray[np.int64]) -> WordSlices: ...
    def __getitem__(self, row: int | slice | NDArray[np.int64]) -> list[str] | WordSlices:
        if isinstance(row, int | np.integer):
            return [self.vocabulary[code] for code in self.codes[self.start[row] : self.stop[row]].tolist()]
        return WordSlices(self.vocabulary, self.codes, self.start[row], self.stop[row])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Series:
    """One time series on a regular grid.

    Attributes:
        id: its name.
        times: ``datetime64[s]`` or int64, ``[n + m]``, m the steps beyond the last value for which future covariates are known.
        values: float64 ``[n]``; NaN is missing.
        past: covariates known up to the last value; float64 ``[n, P]``; a missing one is as the one before it; NaN before the
            first.
        future: covariates known in advance; float64 ``[n + m, U]``; what is missing was interpolated.
        static: what does not change; float64 ``[S]``.
        parts: per value ``"train"``, ``"valid"`` or ``"test"``, if the data says so itself.
    """

    id: str
    times: NDArray[Any]
    values: NDArray[np.float64]
    past: NDArray[np.float64]
    future: NDArray[np.float64]
    static: NDArray[np.float64]
    parts: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Panel:
    """Time series of one frequency, forecast by one model.

    Attributes:
        series: all of them.
        frequency: of all of them.
        past: names of the P past covariates.
        future: names of the U future covariates.
        static: names of the S static ones.
        target_name: what is forecast.
        form: how its times were written.
    """

    series: list[Series]
    frequency: Frequency
    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    target_name: str = "y"
    form: Form = "second"

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True)
class Dataset:
    """What was read, and how it was understood.

    Attributes:
        task: ``classify``, ``tag``, ``regress``, ``forecast`` or ``lm``.
        content: sequences, or for forecasts a panel.
        sentence: what was guessed, in one sentence, with the flags that overrule it.
        resolved: the settings that were guessed, by field name (``{"task": "classify", "text": "review", "target":
            "stars"}``), so that further files are read in the same way and without guessing.
        warnings: what the user should know, one line each.
        files: everything that was read.
    """

    task: str
    content: Sequences | Panel
    sentence: str
    resolved: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
