"""Plain text: files to learn the writing of, folders with a class each, unlabelled lines. Large files stay on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from throughtime.data.columns import PARTS
from throughtime.data.files import Origins, check_text, files_below, is_divided, plural, repeated, start_of, text_blocks
from throughtime.data.records import Dataset, Role, Sequences, TextSlices
from throughtime.data.spool import TextSpool
from throughtime.errors import DataError
from throughtime.settings import Settings
from throughtime.transforms.words import words

BOM = b"\xef\xbb\xbf"
TEXT = (".txt", ".text")
SHORT = 40
"""A file whose middle line is shorter than this many characters may be a list."""


def read_text(path: Path, settings: Settings, *, role: Role = "training") -> Dataset:
    """Text to learn the writing of: a file, or all the text files of a folder.

    Args:
        path: UTF-8; in a folder, files that are no text are passed over and counted (a ``.txt`` that is none is an error).
        settings: ``documents`` says whether each line is a document, or each file; guessed if not given.
        role: what it is read for.

    Returns:
        Documents that stay in their files, task ``lm``.

    Raises:
        DataError: nothing to read, an empty file, or bytes that are not UTF-8, by file and byte.
    """
    warnings: list[str] = []
    paths = _text_files(path, warnings) if path.is_dir() else [path]
    documents = settings.data.documents
    if documents is None:
        documents = "line" if len(paths) == 1 and _is_list(paths[0]) else "file"
    inputs, origins, carriage = slices(paths, documents, path)
    if carriage and documents == "file":
        warnings.append(
            f"files whose lines end with CR LF: {carriage:,} of {len(paths):,}; CR is learned too, dos2unix takes it out"
        )
    if documents == "line":
        again = max(len(inputs) - _different_lines(paths), 0)
        warnings += repeated("lines", again, len(inputs), path, role, divided=is_divided(role, settings))
    each = "each line a document" if documents == "line" else "each file a document" if len(paths) > 1 else "one document"
    many = plural(len(inputs), "line") + f" of {path.name}" if documents == "line" else _named(path, paths)
    size = _size(int(inputs.sizes().sum()))
    sentence = f"learn to write like {many} ({size}), {each}; overrule with --task, --documents"
    resolved = {"task": "lm", "documents": documents}
    guessed = {name: value for name, value in resolved.items() if getattr(settings.data, name) in (None, "auto")}
    return Dataset("lm", Sequences("text", inputs, None, origins, target_name="text"), sentence, guessed, warnings, paths)


def read_unlabelled(path: Path, settings: Settings) -> Dataset:
    """Texts to predict: each line of a file, or each file of a folder.

    Args:
        path: UTF-8.
        settings: of the fitted model; a model that tags words is given those of each line, found as in any text.

    Raises:
        DataError: as `read_text`.
    """
    warnings: list[str] = []
    paths = _text_files(path, warnings) if path.is_dir() else [path]
    documents = settings.data.documents or ("file" if path.is_dir() else "line")
    inputs, origins, _ = slices(paths, documents, path)
    task = settings.data.task if settings.data.task != "auto" else "classify"
    content = Sequences("text", inputs, None, origins)
    if task == "tag":
        content = Sequences("words", [words(text) for text in inputs], None, origins)
        warnings.append(
            f"{path}: each {documents} is taken for a sentence and divided into words and signs; with a word a line, and a "
            "blank line after each sentence, it is taken as it stands"
        )
    sentence = f"read {plural(len(inputs), documents)} of {path.name} without labels; overrule with --documents"
    return Dataset(task, content, sentence, {}, warnings, paths)


def read_class_folder(path: Path, settings: Settings, *, role: Role = "training") -> Dataset:
    """A folder per class, with a ``.txt`` file per text; these may lie in folders ``train``, ``valid`` and ``test``.

    Args:
        path: the folder that holds the folders of the classes, or those of the parts.
        settings: of the fit.
        role: what it is read for.

    Raises:
        DataError: no ``.txt`` files, or bytes that are not UTF-8, by file and byte.
    """
    found = files_below(path)
    below = [file for file in found if file.suffix.lower() in TEXT and file.parent != path]
    trails = [file.relative_to(path).parts for file in below]
    parts = None
    if all(trail[0].lower() in PARTS and len(trail) > 2 for trail in trails):
        parts, trails = [PARTS[trail[0].lower()] for trail in trails], [trail[1:] for trail in trails]
    targets = [trail[0] for trail in trails]
    spool, different, blank = TextSpool(), set[int](), 0
    for file, target in zip(below, targets, strict=True):
        text = "" if file.stat().st_size == 0 else b"".join(text_blocks(file)).decode("utf-8-sig").replace("\r\n", "\n")
        spool.add(pl.Series([text]))
        different.add(hash((text, target)))
        blank += not text.strip()
    texts = spool.slices()
    warnings: list[str] = []
    if left_out := len(found) - len(below):
        warnings.append(f"{plural(left_out, 'file')} in {path} left out: no .txt in the folder of a class")
    if blank:
        warnings.append(f"files without text: {blank:,} of {len(texts):,}; they are sequences of length 0")
    again, divided_here = len(texts) - len(different), parts is None and is_divided(role, settings)
    warnings += repeated("texts", again, len(texts), path, role, divided=divided_here)
    names = [str(file.relative_to(path)) for file in below]
    origins = Origins(names, "", np.zeros(len(names), dtype=np.int64), np.arange(len(names), dtype=np.int32))
    many = f"{plural(len(set(targets)), 'class', 'classes')}), {plural(len(texts), 'file')}"
    divided = ", divided by folder into parts" if parts else ""
    sentence = f"classify the texts of {path.name} by their folder ({many}{divided}; overrule with --task lm"
    content = Sequences("text", texts, targets, origins, parts=parts, target_name="folder")
    resolved = {"task": "classify"} if settings.data.task == "auto" else {}
    return Dataset("classify", content, sentence, resolved, warnings, below)


def slices(paths: Sequence[Path], documents: Literal["line", "file"], whole: Path) -> tuple[TextSlices, Origins, int]:
    """The documents of text files, found in one pass over each, in blocks.

    Args:
        paths: the files; each is checked to be UTF-8.
        documents: what one is: a line that is not empty, or a file.
        whole: the file or folder that all of them are of, for messages and names.

    Returns:
        The documents, where each comes from, and how many files end their lines with CR LF.

    Raises:
        DataError: no document, or a file that is no text.
    """
    columns: list[list[NDArray[Any]]] = [[], [], [], []]  # file, start, stop, number of the line

    def add(*values: Any) -> None:
        for column, value, dtype in zip(columns, values, (np.int32, np.int64, np.int64, np.int64), strict=True):
            column.append(np.asarray(value, dtype=dtype))

    carriage = 0
    for index, path in enumerate(paths):
        begin = place = count = 0
        before = b" "
        for block in text_blocks(path):
            if place == 0:
                carriage += b"\r\n" in block
                begin = len(BOM) if block.startswith(BOM) else 0
            if documents == "line":
                start, stop, number, begin, count = _lines(before + block, place, begin, count)
                full = stop > start
                add(np.full(full.sum(), index), start[full], stop[full], number[full])
            place += len(block)
            before = block[-1:]
        if begin < place:  # a whole file, or a last line that nothing ends
            add([index], [begin], [place], [count + 1])
    # Popped, so that the pieces of a column are gone before the next is joined: there may be a hundred million lines.
    file, start, stop, number = (np.concatenate(columns.pop(0) or [np.empty(0)]) for _ in range(4))
    if not len(start):
        raise DataError(f"{whole} holds nothing but empty lines")
    names = [str(path.relative_to(whole)) if whole.is_dir() else path.name for path in paths]
    return TextSlices(paths, file, start, stop), Origins(names, "line" if documents == "line" else "", number, file), carriage


def _lines(
    block: bytes, place: int, begin: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int, int]:
    """The lines that end in a block.

    Args:
        block: bytes of the file, with the one before them in front (any byte, at the start of the file).
        place: where in the file they are, the one in front left out.
        begin: where the line begins that the block before did not end.
        count: the lines before.

    Returns:
        Per line its first byte, the byte after its last (CR LF left out) and its number; where the next line begins; the lines
        so far.
    """
    content = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(content[1:] == ord("\n"))
    start = np.concatenate([[begin], ends[:-1] + 1 + place])[: len(ends)].astype(np.int64)
    stop = np.maximum(ends + place - (content[ends] == ord("\r")), start)
    after = int(ends[-1]) + 1 + place if len(ends) else begin
    return start, stop, np.arange(count + 1, count + 1 + len(ends)), after, count + len(ends)


def _text_files(folder: Path, warnings: list[str]) -> list[Path]:
    """The text files of a folder and its folders; what is passed over is counted in a warning."""
    kept, empty, others = [], 0, list[tuple[Path, str]]()
    for path in files_below(folder):
        if path.is_file() and path.stat().st_size == 0:
            empty += 1
            continue
        try:
            check_text(path)
            kept.append(path)
        except DataError as error:
            if path.suffix.lower() in TEXT:
                raise
            others.append((path, str(error)))
    if not kept:
        raise DataError(f"{folder} holds no text files" + (f"; the first that is none: {others[0][1]}" if others else ""))
    if empty:
        warnings.append(f"{plural(empty, 'empty file')} in {folder} passed over")
    if others:
        warnings.append(
            f"{plural(len(others), 'file')} in {folder} passed over as no UTF-8 text; the first: {others[0][1].split(';')[0]}"
        )
    return kept


def _is_list(path: Path) -> bool:
    """Whether the first lines look like a list: short ones, hardly any of them blank or ended like a sentence."""
    check_text(path)
    lines = start_of(path).splitlines()
    ended = sum(not line.strip() or line.rstrip()[-1] in ".!?:;,{" for line in lines)
    return len(lines) > 1 and float(np.median([len(line) for line in lines])) < SHORT and ended < len(lines) / 50


def _different_lines(paths: Sequence[Path]) -> int:
    """How many different lines there are that are not empty; counted by hash, in pieces."""
    lines = pl.scan_lines(list(paths), glob=False).filter(pl.col("line") != "")
    return int(lines.select(pl.col("line").hash().n_unique()).collect(engine="streaming").item())


def _named(path: Path, paths: Sequence[Path]) -> str:
    """The files, by name or by number and kind."""
    if path.is_file():
        return path.name
    kinds = Counter(file.suffix.lower() or "without suffix" for file in paths).most_common(4)
    return f"{plural(len(paths), 'file')} of {path.name} ({', '.join(f'{count:,} {kind}' for kind, count in kinds)})"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB" if count >= 1e3 else plural(count, "byte")
