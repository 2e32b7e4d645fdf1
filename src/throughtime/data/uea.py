"""Files of the UEA and UCR archives: ``.ts``, as sktime and aeon write them.

Source: https://www.aeon-toolkit.org/en/stable/api_reference/file_specifications/ts.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.data.columns import BLANK, listed
from throughtime.data.files import plural
from throughtime.data.long import describe
from throughtime.data.missing import done, settle
from throughtime.data.records import Dataset, Sequences
from throughtime.errors import DataError
from throughtime.settings import Settings

_PAIR = re.compile(r"\(([^()]*),([^(),]*)\)")


@dataclass
class _Header:
    """What stands above ``@data``."""

    stamped: bool = False
    dimensions: int | None = None
    classes: tuple[str, ...] | None = None
    numeric_target: bool = False

    @property
    def has_target(self) -> bool:
        return self.classes is not None or self.numeric_target


def read_uea(path: Path, settings: Settings, with_target: bool) -> Dataset:
    """The sequences of a ``.ts`` file: dimensions divided by colons, steps by commas, ``?`` where a number is missing.

    Args:
        path: the file.
        settings: for ``task`` and ``missing``.
        with_target: whether the file must have labels.

    Returns:
        The dataset; its sequences are numeric ``[T, F]`` float64.

    Raises:
        DataError: a header or a line that is not of the format, with the number of the line, and of the dimension within it.
    """
    task = settings.data.task
    if task not in ("auto", "classify", "regress"):
        raise DataError(f"{path}: --task {task} does not fit a .ts file; expected classify or regress")
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = ((number, line.strip()) for number, line in enumerate(file, 1))
            header = _read_header(lines, path)
            if with_target and not header.has_target:
                raise DataError(f"{path}: the header says @classLabel false; expected labels to learn from")
            inputs, labels, numbers = _read_cases(lines, header, path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.object[error.start]:#04x} is not UTF-8; expected a .ts text file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not inputs:
        raise DataError(f"{path}: there is no line after @data; expected a sequence in each")
    task = ("regress" if header.numeric_target else "classify") if task == "auto" else task
    targets = _targets(labels, numbers, header, task, with_target, path)
    codes = np.repeat(np.arange(len(inputs)), [len(steps) for steps in inputs])
    first = np.concatenate([[0], np.cumsum([len(steps) for steps in inputs])])

    def name(step: int, dimension: int) -> str:
        return f"{path}: line {numbers[codes[step]]:,}, dimension {dimension + 1}, step {step - first[codes[step]] + 1:,}"

    values, missing = settle(np.concatenate(inputs), codes, settings.data.missing, name)
    content = Sequences(
        "numeric",
        np.split(values, first[1:-1]),
        targets,
        [f"{path.name} line {number}" for number in numbers],
        features=tuple(f"dimension {dimension + 1}" for dimension in range(values.shape[1])),
    )
    sentence = f"{describe(content, task, None)}, {path.name}; overrule with --task"
    resolved = {"task": task} if settings.data.task == "auto" else {}
    return Dataset(task, content, sentence, resolved, done(missing, "missing number", settings.data.missing), [path])


def _read_header(lines: Iterator[tuple[int, str]], path: Path) -> _Header:
    header = _Header()
    for number, line in lines:
        if not line or line.startswith("#"):
            continue
        if not line.startswith("@"):
            raise DataError(
                f"{path}: line {number:,} begins {line[:30]!r} before @data; expected a header such as @problemName, then @data"
            )
        tag, *words = line[1:].split()
        tag = tag.lower() if line[1:].strip() else ""
        if tag == "data":
            return header
        if tag == "timestamps":
            header.stamped = _flag(words, number, path)
        elif tag == "univariate" and _flag(words, number, path):
            header.dimensions = 1
        elif tag in ("dimension", "dimensions"):
            if not words or not words[0].isdecimal() or int(words[0]) < 1:
                raise DataError(f"{path}: line {number:,}: {line!r}; expected a number of dimensions from 1 up")
            header.dimensions = int(words[0])
        elif tag == "classlabel" and _flag(words, number, path):
            if not words[1:]:
                raise DataError(f"{path}: line {number:,}: {line!r} names no class; expected @classLabel true and the names")
            header.classes = tuple(words[1:])
        elif tag == "targetlabel":
            header.numeric_target = _flag(words, number, path)
    raise DataError(f"{path}: there is no line @data; expected a .ts file of the UEA archive")


def _flag(words: list[str], number: int, path: Path) -> bool:
    value = {"true": True, "false": False}.get(words[0].lower() if words else "")
    if value is None:
        raise DataError(f"{path}: line {number:,}: {' '.join(words)!r} stands where true or false is expected")
    return value


def _read_cases(
    lines: Iterator[tuple[int, str]], header: _Header, path: Path
) -> tuple[list[NDArray[np.float64]], list[str], list[int]]:
    """The sequences ``[T, F]``, the labels where there are some, and the number of each line."""
    inputs, labels, numbers = [], [], []
    for number, line in lines:
        if not line or line.startswith("#"):
            continue
        fields = _divided(line, header)
        if header.has_target:
            labels.append(fields.pop().strip())
        if header.dimensions is None:
            header.dimensions = len(fields)
        if len(fields) != header.dimensions:
            raise DataError(
                f"{path}: line {number:,} has {plural(len(fields), 'dimension')}"
                f"{' and a label' if header.has_target else ''}, expected {header.dimensions}; dimensions are divided by colons"
            )
        read = _stamped if header.stamped else _plain
        columns = [read(text, f"{path}: line {number:,}, dimension {index}") for index, text in enumerate(fields, 1)]
        times = columns[0][0]
        for index, (own, values) in enumerate(columns, 1):
            if len(values) != len(columns[0][1]) or own != times:
                what = f"{len(values):,} steps" if len(values) != len(columns[0][1]) else "other time stamps"
                raise DataError(
                    f"{path}: line {number:,}, dimension {index} has {what}, dimension 1 has {len(columns[0][1]):,} steps; "
                    "expected the same steps in all dimensions of a sequence"
                )
        inputs.append(np.column_stack([values for _, values in columns]))
        numbers.append(number)
    return inputs, labels, numbers


def _divided(line: str, header: _Header) -> list[str]:
    """The dimensions, and the label as the last one; time stamps may hold colons themselves."""
    if not header.stamped:
        return line.split(":")
    return re.sub(r"\([^()]*\)", lambda pair: pair[0].replace(":", "\0"), line).split(":")


def _plain(text: str, where: str) -> tuple[None, NDArray[np.float64]]:
    if not text.strip():
        raise DataError(f"{where} is empty; expected numbers divided by commas")
    return None, _numbers(text.split(","), where)


def _stamped(text: str, where: str) -> tuple[list[str], NDArray[np.float64]]:
    """Pairs ``(time,value)``: the values as they stand."""
    pairs = _PAIR.findall(text)
    if not pairs or re.sub(r"[\s,]", "", _PAIR.sub("", text)):
        raise DataError(f"{where} begins {text[:40]!r}; expected pairs (time,value), since the header says @timeStamps true")
    return [time.strip() for time, _ in pairs], _numbers([value for _, value in pairs], where)


def _numbers(cells: list[str], where: str) -> NDArray[np.float64]:
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        values = np.full(len(cells), np.nan)
        for step, cell in enumerate(cells):
            if cell.strip().lower() not in BLANK:
                try:
                    values[step] = float(cell)
                except ValueError:
                    raise DataError(
                        f"{where}, step {step + 1:,}: {cell.strip()[:40]!r} is not a number; expected digits, or ? if it "
                        "is missing"
                    ) from None
        return values


def _targets(labels: list[str], numbers: list[int], header: _Header, task: str, with_target: bool, path: Path) -> Any:
    """Class names or numbers; none where they are not needed and stand as ``?``."""
    if not labels or (not with_target and "?" in labels):
        return None
    for label, number in zip(labels, numbers, strict=True):
        if header.classes is not None and label not in header.classes:
            near = get_close_matches(label, header.classes, 1)
            mend = f"did you mean {near[0]!r}?" if near else f"expected {listed(header.classes)}"
            raise DataError(f"{path}: line {number:,}: the label {label[:40]!r} is not among those of @classLabel; {mend}")
        if task == "regress":
            try:
                finite = np.isfinite(float(label))
            except ValueError:
                finite = False
            if not finite:
                raise DataError(
                    f"{path}: line {number:,}: the target {label[:40]!r} is not a number; --task classify takes it for a class"
                )
    return np.array(labels, dtype=np.float64) if task == "regress" else labels
