"""What every reader of files needs: that a file is there, that it holds text, and where in it something stands."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from throughtime.data.columns import listed
from throughtime.data.records import Role
from throughtime.errors import DataError
from throughtime.settings import Settings
from throughtime.store import absent, is_run

BLOCK = 1 << 24
_MAGIC = {
    b"\x1f\x8b": "compressed by gzip; unpack it with gunzip",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save it as CSV",
    b"BZh": "compressed by bzip2; unpack it with bunzip2",
    b"\xfd7zXZ": "compressed by xz; unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it with unzstd",
    b"%PDF": "a PDF; give its text",
    b"RIFF": "a sound file; give a folder per class of sound files, or a table with their paths",
    b"fLaC": "a sound file; give a folder per class of sound files, or a table with their paths",
    b"PAR1": "Parquet; its name must end in .parquet",
    b"\xff\xfe": "UTF-16 text; convert it with iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "UTF-16 text; convert it with iconv -f UTF-16 -t UTF-8",
}


class Origins(Sequence[str]):
    """Where sequences come from, worded only when asked for: eight bytes a sequence, not a string.

    Args:
        names: of the files.
        word: what the numbers count: ``row`` or ``line``; nothing where a whole file is one sequence.
        numbers: per sequence, counted as a person does; int64 ``[n]``.
        file: per sequence, which of the names; int32 ``[n]``; the first if not given.

    Example:
        >>> origins = Origins(["names.txt"], "line", np.array([1, 2, 4]))
        >>> origins[2], list(origins[np.array([0, 1])])
        ('names.txt line 4', ['names.txt line 1', 'names.txt line 2'])
    """

    def __init__(
        self, names: Sequence[str], word: str, numbers: NDArray[np.int64], file: NDArray[np.int32] | None = None
    ) -> None:
        self.names, self.word, self.numbers, self.file = names, word, numbers, file

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice | NDArray[np.int64]) -> Origins: ...
    def __getitem__(self, row: int | slice | NDArray[np.int64]) -> str | Origins:
        if isinstance(row, int | np.integer):
            name = self.names[0 if self.file is None else self.file[row]]
            return f"{name} {self.word} {self.numbers[row]}" if self.word else name
        return Origins(self.names, self.word, self.numbers[row], None if self.file is None else self.file[row])


def existing(path: Path) -> Path:
    """The path, if something is there that can be read.

    Raises:
        DataError: nothing is there (the nearest name beside it is suggested), or it may not be read.
    """
    try:
        if not path.exists():
            raise DataError(absent(path))
        if not (path.is_file() or path.is_dir()):
            raise DataError(f"{path} is neither a file nor a folder")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise DataError(f"{path} may not be read; chmod +r gives the right to")
    return path


def text_blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a text file, in blocks, each looked through for what is not text.

    Args:
        path: the file; UTF-8, with or without a byte order mark.

    Raises:
        DataError: no such file, an empty one, a binary one, or bytes that are not UTF-8 (by file, line and byte).
    """
    existing(path)
    decoder = codecs.getincrementaldecoder("utf-8")()
    place, line = 0, 1
    try:
        with path.open("rb") as handle:
            while block := handle.read(BLOCK):
                if place == 0:
                    _refuse_binary(path, block)
                held = len(decoder.getstate()[0])  # bytes of a character that the block before cut
                bad = len(block)
                try:
                    decoder.decode(block)
                except UnicodeDecodeError as error:
                    bad = error.start - held
                nul = block.find(b"\0", 0, max(bad, 0))
                if nul >= 0:
                    number = line + block.count(b"\n", 0, nul)
                    raise DataError(
                        f"{path}: byte {place + nul:,} (line {number:,}) is NUL; the file is damaged, or no text at all"
                    )
                if bad < len(block):
                    raise DataError(_not_utf8(path, place, line, block, bad))
                yield block
                place += len(block)
                line += block.count(b"\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if place == 0:
        raise DataError(f"{path} is empty")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise DataError(
            f"{path}: the last character is cut off at byte {place:,}; the file is incomplete or not UTF-8"
        ) from None


def check_text(path: Path) -> None:
    """Raise what `text_blocks` raises, for a file that another library will read."""
    for _ in text_blocks(path):
        pass


def start_of(path: Path, size: int = 1 << 20) -> str:
    """The first bytes of a checked text file as text, to the end of a line where there is one."""
    with path.open("rb") as handle:
        block = handle.read(size)
        if handle.read(1):
            block = block[: block.rfind(b"\n") + 1] or block
    return block.decode("utf-8-sig", errors="ignore").replace("\r\n", "\n")


def is_divided(role: Role, settings: Settings) -> bool:
    """Whether parts are made from a file, unless it says itself what part each row is."""
    return role == "training" and settings.data.valid is None


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and in its folders, sorted, but for hidden ones, compiled Python and runs.

    Links to folders are not followed.
    """
    found: list[Path] = []
    for base, folders, names in os.walk(folder, onerror=_unreadable):
        passed_over = {name for name in folders if name.startswith(".") or name == "__pycache__" or is_run(Path(base, name))}
        folders[:] = sorted({*folders} - passed_over)
        found += [Path(base, name) for name in sorted(names) if not name.startswith(".")]
    return found


def nearest(name: str, known: Iterable[str], flag: str = "") -> str:
    """A hint for a name that is not known: the nearest one, or all.

    Example:
        >>> nearest("genere", ["text", "genre"])
        "did you mean 'genre'?"
        >>> nearest("stars", ["text", "genre"], "--target")
        'give --target one of: text, genre'
    """
    known = list(known)
    if near := get_close_matches(name, known, 1) or [k for k in known if k.lower() == name.lower()]:
        return f"did you mean {near[0]!r}?"
    return f"give {flag} one of: {listed(known)}" if flag else f"known are: {listed(known)}"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """A count with its noun.

    Example:
        >>> plural(1, "row"), plural(12544, "row"), plural(2, "class", "classes")
        ('1 row', '12,544 rows', '2 classes')
    """
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def repeated(what: str, count: int, total: int, path: Path, role: Role, *, divided: bool) -> list[str]:
    """What the user is told of things that come again in a file: a line where it is learned or scored from, else nothing.

    Args:
        what: is repeated.
        count: how many.
        total: of how many.
        path: the file.
        role: what it is read for.
        divided: whether the parts are made from it.

    Example:
        >>> repeated("rows", 3, 40, Path("a.csv"), "training", divided=True)
        ['a.csv: repeated rows: 3 of 40; they are kept, and stay in one part']
        >>> repeated("rows", 3, 40, Path("a.csv"), "new", divided=False)
        []
    """
    if not count or role == "new":
        return []
    return [f"{path.name}: repeated {what}: {count:,} of {total:,}; they are kept{', and stay in one part' * divided}"]


def shown(value: object, size: int = 40) -> str:
    """A value as an error message quotes it: short, on one line."""
    text = str(value)
    return repr(text if len(text) <= size else text[:size] + "...")


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}")


def _refuse_binary(path: Path, block: bytes) -> None:
    for magic, what in _MAGIC.items():
        if block.startswith(magic):
            raise DataError(f"{path} is not UTF-8 text but {what}")


def _not_utf8(path: Path, place: int, line: int, block: bytes, start: int) -> str:
    # A negative start lies in the block before; its value is not at hand, its place is.
    found = f"is {block[start]:#04x}, which is not UTF-8" if start >= 0 else "begins a character that is not UTF-8"
    number = line + block.count(b"\n", 0, max(start, 0))
    return (
        f"{path}: byte {place + start:,} (line {number:,}) {found}; convert the file (iconv -f LATIN1 -t UTF-8 is a usual way)"
    )
