"""Words with a tag each: CoNLL-U, and CoNLL columns, with a blank line after each sentence."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from throughtime.data.columns import LABELS
from throughtime.data.files import Origins, check_text, is_divided, nearest, plural, repeated, shown
from throughtime.data.records import Dataset, Role, Sequences
from throughtime.data.spool import WordSpool
from throughtime.errors import DataError
from throughtime.settings import Settings

SUFFIXES = (".conllu", ".conll", ".bio", ".iob", ".iob2", ".bioes")
COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
"""Of CoNLL-U: https://universaldependencies.org/format.html"""

HEADERS = ("word", "words", "token", "tokens", "form", "text")
"""What a header may call the first column, in lower case."""

_TAGS = (*LABELS, "pos", "upos", "xpos", "postag", "ner", "iob", "bio", "chunk", "entity", "lemma")
"""What a header may call another column, in lower case."""

DOCSTART = "-DOCSTART-"


def looks_tagged(start: str, sure: bool = False) -> bool:
    r"""Whether text is in columns, a word a line, with blank lines between sentences.

    Args:
        start: the first lines of a file.
        sure: whether it holds tags in any case: then it may be one sentence, if it is no table with a column of numbers.

    Example:
        >>> looks_tagged("Al\tPROPN\n-\tPUNCT\n\nHe\tPRON\n"), looks_tagged("text\tlabel\nHe came\tgood\n")
        (True, False)
    """
    lines = start.rstrip("\n").split("\n")
    filled = [line for line in lines if line.strip() and not line.startswith(("#", DOCSTART))]
    separator = "\t" if filled and "\t" in filled[0] else None
    rows = [line.split(separator) for line in filled]
    if not filled or (all(line.strip() for line in lines) and not (sure and not _has_numbers(rows))):
        return False
    width, tags = len(rows[0]), {row[-1] for row in rows}
    alike = sum(len(row) == width for row in rows) >= 0.9 * len(rows)
    texts = sum(row[0].count(" ") for row in rows) > len(rows) / 2
    # Without tabs, two words a line may be verse: tags come again and again, the ends of lines do not.
    return width > 1 and alike and not texts and (separator == "\t" or start.startswith(DOCSTART) or len(tags) <= len(rows) / 2)


def _has_numbers(rows: list[list[str]]) -> bool:
    """Whether a column beside the first holds nothing but numbers below its name."""
    columns = list(zip(*rows, strict=False))[1:]
    return any(len(cells) > 1 and all(re.fullmatch(r"\s*[+-]?\d*\.?\d+\s*", cell) for cell in cells[1:]) for cells in columns)


def read_tagged(path: Path, settings: Settings, *, with_target: bool = True, role: Role = "training") -> Dataset:
    """Sentences as lists of words, and the tag of each word.

    Args:
        path: CoNLL-U (ten columns; comments, multiword tokens and empty nodes are passed over), or columns parted by tabs or
            blanks, the word first.
        settings: ``target`` chooses the column of the tag: by name in CoNLL-U (``UPOS`` if not given), else by number from 1
            (the last if not given).
        with_target: whether there must be tags; without, a file may have words alone.
        role: what it is read for.

    Raises:
        DataError: a line of another number of columns than the first, a blank word or tag, a column that is not there, or no
            sentence.
    """
    check_text(path)
    layout = _layout(path, settings.data.target, with_target)
    words, tags, digests, numbers = WordSpool(), WordSpool(), array("Q"), array("q")
    for number, sentence in _sentences(path, layout):
        codes = (
            words.add([word for word, _ in sentence]),
            tags.add([tag for _, tag in sentence] if layout.tag is not None else []),
        )
        digests.frombytes(hashlib.blake2b(b"".join(map(bytes, codes)), digest_size=8).digest())
        numbers.append(number)
    if not numbers:
        raise DataError(
            f"{path} holds no sentence; expected a word and its tag in each line, and a blank line after each sentence"
        )
    inputs, known = words.slices(), tags.vocabulary
    tagged = layout.tag is not None and known != ["_"]
    if known == ["_"] and with_target:
        raise DataError(f"{path}: column {layout.name} holds nothing but _; choose another with --target, such as UPOS or XPOS")
    again = len(inputs) - len(np.unique(digests))
    warnings = repeated("sentences", again, len(inputs), path, role, divided=is_divided(role, settings))
    origins = Origins([path.name], "line", np.frombuffer(numbers, dtype=np.int64))
    many = f"{plural(len(inputs), 'sentence')}, {plural(len(inputs.codes), 'word')} of {path.name}"
    said = f"tag words with {layout.name} ({plural(len(known), 'tag')}): {many}" if tagged else f"read {many}, without tags"
    content = Sequences("words", inputs, tags.slices() if tagged else None, origins, target_name=layout.name)
    resolved = {"task": "tag", "target": layout.target}
    given = vars(settings.data)
    guessed = {name: value for name, value in resolved.items() if value is not None and given[name] in (None, "auto")}
    return Dataset("tag", content, f"{said}; overrule with --target", guessed, warnings, [path])


@dataclass(frozen=True)
class _Layout:
    """How the lines of a file are divided: columns from 0, the separator (blanks if ``None``), and what the tag is called."""

    width: int
    separator: str | None
    word: int
    tag: int | None
    name: str
    conllu: bool

    @property
    def target(self) -> str | None:
        """The setting that chooses the column of the tag."""
        return None if self.tag is None else self.name if self.conllu else str(self.tag + 1)


def _layout(path: Path, target: str | None, with_target: bool) -> _Layout:
    """The layout, from the first line that holds a word."""
    conllu = path.suffix.lower() == ".conllu"
    with path.open(encoding="utf-8-sig") as handle:
        first = next((line.rstrip("\n") for line in handle if line.strip() and not line.startswith(("#", DOCSTART))), "")
    separator = "\t" if "\t" in first or conllu else None
    cells = first.split(separator)
    width = len(cells)
    if conllu or (width == 10 and cells[0] in ("1", "1-2")):
        if not first:
            raise DataError(f"{path} holds no sentence")
        name = "UPOS" if target is None else target.upper()
        if target is not None and target.isdigit() and 0 < int(target) <= len(COLUMNS):
            name = COLUMNS[int(target) - 1]
        if name not in COLUMNS:
            raise DataError(f"{path}: CoNLL-U has no column {target!r}; {nearest(name, COLUMNS, '--target')}")
        if name in ("ID", "FORM"):
            raise DataError(f"{path}: --target {target} is no tag; expected one of {', '.join(COLUMNS[2:])}")
        return _Layout(len(COLUMNS), "\t", 1, COLUMNS.index(name), name, True)
    if target is not None and not (target.isdigit() and 1 < int(target) <= width) and with_target:
        columns = f"a number from 2 to {width}" if width > 1 else "a second column, which the file does not have"
        raise DataError(f"{path}: --target {shown(target)} is no column of tags; expected {columns}")
    if width == 1 and with_target:
        raise DataError(f"{path}: the first line is {shown(first)}, expected a word and its tag, parted by a tab or a blank")
    tag = width - 1 if target is None or not target.isdigit() else int(target) - 1
    return _Layout(width, separator, 0, tag if 0 < tag < width else None, f"column {tag + 1}", False)


def _sentences(path: Path, layout: _Layout) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """The number of the first line of each sentence, and its words with their tags (nothing, where the file has none).

    Raises:
        DataError: a line of another number of columns, a blank word or tag.
    """
    first, sentence = 0, list[tuple[str, str]]()
    for number, cells in _rows(path, layout):
        if cells is not None:
            first = first if sentence else number
            word = _filled(cells, layout.word, "word", path, number)
            tag = "" if layout.tag is None else _filled(cells, layout.tag, f"tag ({layout.name})", path, number)
            sentence.append((word, tag))
        elif sentence:
            yield first, sentence
            sentence = []
    if sentence:
        yield first, sentence


def _rows(path: Path, layout: _Layout) -> Iterator[tuple[int, list[str] | None]]:
    """The number and the columns of each line with a word; ``None`` where a sentence ends.

    Raises:
        DataError: a line of another number of columns.
    """
    with path.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, 1):
            line = line.rstrip("\n")
            if not line.strip() or line.startswith(DOCSTART):
                yield number, None
                continue
            # A word may be # itself; a comment has no columns, or stands in CoNLL-U.
            if line.startswith("#") and (layout.conllu or len(line.split(layout.separator)) != layout.width):
                continue
            cells = line.split(layout.separator)
            if len(cells) != layout.width:
                raise DataError(
                    f"{path} line {number:,}: {plural(len(cells), 'column')}, expected {layout.width} parted by "
                    f"{'tabs' if layout.separator else 'blanks'}; found {shown(line)}"
                )
            if layout.conllu and not cells[0].isdigit():
                if not cells[0].replace("-", "").replace(".", "").isdigit():
                    raise DataError(
                        f"{path} line {number:,}: the first column is {shown(cells[0])}, expected the number of the word"
                    )
                continue
            if number == 1 and not layout.conllu and _is_header(cells):
                continue
            yield number, cells


def _is_header(cells: list[str]) -> bool:
    """Whether a line names the columns; a word may be ``text`` itself, but then its tag is not called like a tag."""
    word, *others = (cell.strip().lower() for cell in cells)
    return word in HEADERS and any(other in _TAGS or other.endswith(("tag", "tags", "label", "labels")) for other in others)


def _filled(cells: list[str], column: int, what: str, path: Path, number: int) -> str:
    cell = cells[column].strip() or cells[column] if what == "word" else cells[column].strip()
    if not cell.strip(" "):
        raise DataError(f"{path} line {number:,}: the {what} is blank; fill it in, or remove the line")
    return cell
