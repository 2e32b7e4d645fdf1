"""Training, validation and test parts: as files or a column give them, or made, with identical inputs never on two sides."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.data.records import Dataset, Panel, Sequences, TextSlices
from throughtime.data.split_panel import PanelPart as PanelPart, split_panel
from throughtime.errors import DataError
from throughtime.settings import Settings

FEWEST = 10
"""Sequences that are worth dividing."""
DOCUMENTS = 20
"""Documents that are enough to give whole ones to each part; fewer are cut."""
RARE = 2
"""Classes with no more members than this stay in the training part."""
NAMES = ("training", "validation", "test")


@dataclass(frozen=True)
class Parts:
    """What is learnt from, what is chosen by, and what is scored once.

    Attributes:
        train: the training part.
        valid: the validation part.
        test: the test part; ``None`` if there is none, and scores are those of the validation part.
        sentence: how this came about.
        warnings: what the user should know, one line each.
    """

    train: Sequences | PanelPart
    valid: Sequences | PanelPart
    test: Sequences | PanelPart | None
    sentence: str
    warnings: list[str]


def split(dataset: Dataset, settings: Settings, *, valid: Dataset | None = None, test: Dataset | None = None) -> Parts:
    """Divide data into parts. The result depends on the data and the seed only, and for sequences not on their order.

    Files that are given win; then a group column that was asked for, unless a split column was too; then the split column of the data.
    Otherwise the parts are made, 80 % / 10 % / 10 %: forecasts by time; few documents by position; all else by whole groups if there is a
    group column, and with the classes in equal shares.

    Args:
        dataset: all data, or the training data where files are given.
        settings: as the user gave them, with the seed.
        valid: the data of ``--valid``.
        test: the data of ``--test``.

    Raises:
        DataError: too little data, a class that occurs outside the training part only, a single class, files that do not fit together.

    Example:
        >>> texts = Sequences("text", [f"text {n}" for n in range(50)], targets=["good", "bad"] * 25, target_name="mood")
        >>> split(Dataset("classify", texts, ""), Settings()).sentence
        'split: 80 % / 10 % / 10 % (40 / 5 / 5 sequences), stratified by mood, seed 0'
    """
    if isinstance(dataset.content, Panel):
        train, valid_part, test_part, sentence, warnings = split_panel(dataset, settings, valid, test)
        return Parts(train, valid_part, test_part, sentence, warnings)
    return _split_sequences(dataset, dataset.content, settings, valid, test)


def _split_sequences(dataset: Dataset, content: Sequences, settings: Settings, valid: Dataset | None, test: Dataset | None) -> Parts:
    place = str(dataset.files[0]) if dataset.files else "the data"
    column = settings.data.split_column or dataset.resolved.get("split_column", "split")
    warnings: list[str] = []
    parts: list[Sequences | None]
    if valid is not None or test is not None:
        if content.parts is not None:
            warnings.append(f"column {column!r} is not used, since files are given: all of {place} is training data")
        parts = [content, *(_fitting(given, content, place) if given else None for given in (valid, test))]
        given = " and ".join(name for name, part in zip(NAMES, parts, strict=True) if part is not None and part is not content)
        how = f"{given} from the file{'s' if valid and test else ''} given"
    elif content.parts is not None and (settings.data.group is None or settings.data.split_column is not None):
        marks = np.array(content.parts, dtype=object)
        rows = [np.flatnonzero(marks == mark) for mark in ("train", "valid", "test")]
        if sum(map(len, rows)) < len(content) or not len(rows[0]):
            found = ", ".join(f"{count:,} {mark!r}" for mark, count in sorted(Counter(content.parts).items()))
            raise DataError(f"{place}: column {column!r} has {found}; expected train, valid and test, and train at least once")
        parts = [content.take(part) if len(part) else None for part in rows]
        how = f"by column {column!r}"
    else:
        made, how, more = _divide(content, dataset.task, (0.8, 0.1, 0.1), settings, place)
        return _checked(dataset.task, made, f"split: {how}", [*warnings, *more], place)
    if parts[1] is None:
        (parts[0], parts[1]), made_how, more = _divide(content if parts[0] is None else parts[0], dataset.task, (0.9, 0.1), settings, place)
        how += f"; of the rest {made_how} for training and validation"
        warnings += more
    else:
        how += f" ({' / '.join(f'{len(part):,}' for part in parts if part is not None)} {_plural(dataset.task)})"
    if parts[2] is None:
        how += "; there is no test part, scores are those of the validation part"
    warnings += _shared(parts, settings)
    return _checked(dataset.task, parts, f"split: {how}", warnings, place)


def _fitting(given: Dataset, content: Sequences, place: str) -> Sequences:
    """The sequences of a file that was given, if they are of the same form as the training data."""
    there = given.content
    name = str(given.files[0]) if given.files else "the data given"
    if not isinstance(there, Sequences) or there.kind != content.kind:
        kind = there.kind if isinstance(there, Sequences) else "time series"
        raise DataError(f"{name}: holds {kind}, but {place} holds {content.kind}; give files of one form")
    if there.features != content.features:
        odd = sorted(set(there.features) ^ set(content.features)) or ["their order"]
        raise DataError(f"{name}: its features differ from those of {place} ({', '.join(odd)}); name the ones to use with --features")
    if not len(there):
        raise DataError(f"{name}: holds no sequences; expected at least one")
    return there


# Making parts


def _divide(
    sequences: Sequences, task: str, shares: tuple[float, ...], settings: Settings, place: str
) -> tuple[list[Sequences | None], str, list[str]]:
    """Parts of these shares, how they were made, and warnings."""
    if task == "lm" and sequences.groups is None and len(sequences) < DOCUMENTS:
        return _by_position(sequences, shares, place)
    wanted = f"{', '.join(NAMES[: len(shares) - 1])} and {NAMES[len(shares) - 1]} parts"
    if len(sequences) < FEWEST:
        raise DataError(
            f"{place}: {len(sequences)} {_plural(task)} are too few to divide into {wanted}, expected at least {FEWEST}; "
            "add data, or give the parts with --valid and --test"
        )
    digests = _digests(sequences, settings.training.seed)
    unit, warnings = _units(digests, sequences.groups, settings)
    if unit.max() + 1 < len(shares):
        units = f"different {_plural(task)}" if sequences.groups is None else f"values in column {settings.data.group or 'group'!r}"
        raise DataError(f"{place}: {unit.max() + 1} {units} cannot be divided into {wanted}; add data, or give the parts with --valid and --test")

    sizes = _sizes(sequences) if task == "lm" else np.ones(len(sequences))
    weights = np.bincount(unit, sizes)
    first = np.full(len(weights), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(first, unit, digests)
    order = np.lexsort((first, -weights))  # the largest first; equal ones by digest, which the seed shuffles
    classes = _classes(task, sequences)
    held = _held(unit, len(weights), classes)
    part_of_unit = np.empty(len(weights), np.int64)
    part_of_unit[order] = _assign(weights[order].tolist(), [held[u] for u in order], shares, balanced=task == "classify")
    part = part_of_unit[unit]
    if task == "classify":
        manner = f"stratified by {sequences.target_name}"
    else:
        manner = "by document" if task == "lm" else "at random"
    if sequences.groups is not None:
        manner = f"by {settings.data.group or 'group'}"
    rare = sorted(name for name, count in Counter(name for row in classes for name in row).items() if count <= RARE)
    if rare:
        warnings.append(
            f"{_some(rare)}: {'has' if len(rare) == 1 else 'have'} at most {RARE} sequences, which are all in the training part, and is not scored"
            if len(rare) == 1
            else f"{len(rare)} classes have at most {RARE} sequences, which are all in the training part, and are not scored: {_some(rare)}"
        )
    made = [np.flatnonzero(part == p) for p in range(len(shares))]
    percent = " / ".join(f"{100 * sizes[rows].sum() / sizes.sum():.0f} %" for rows in made)
    counts = " / ".join(f"{len(rows):,}" for rows in made)
    how = f"{percent} ({counts} {_plural(task)}), {manner}, seed {settings.training.seed}"
    return [sequences.take(rows) for rows in made], how, warnings


def _assign(
    weights: Sequence[float], held: Sequence[tuple[tuple[str, int], ...]], shares: tuple[float, ...], balanced: bool
) -> list[int]:
    """The part of each unit, in turn: the one whose sizes it brings nearest to the shares, in chi-square's measure.

    A unit without which the training part would lack a class goes there, and no part is left empty.

    Args:
        weights: the size of each unit.
        held: per unit, classes and their members in it.
        shares: of the parts.
        balanced: whether the shares are also to hold within each class.
    """
    total: Counter[str | None] = Counter({None: sum(weights)})  # type: ignore[dict-item]  # a size in characters is no whole number
    units_left: Counter[str] = Counter()
    for classes in held:
        for name, members in classes:
            total[name] += members
            units_left[name] += 1
    filled: list[defaultdict[str | None, float]] = [defaultdict(float) for _ in shares]
    chosen: list[int] = []
    for number, (weight, classes) in enumerate(zip(weights, held, strict=True)):
        demands: list[tuple[str | None, float]] = [(None, weight), *(classes if balanced else ())]

        def cost(part: int, demands: list[tuple[str | None, float]] = demands) -> float:
            return sum(
                size * (2 * (filled[part][name] - shares[part] * total[name]) + size) / (shares[part] * total[name])
                for name, size in demands
            )

        if any(total[name] <= RARE or (units_left[name] == 1 and name not in filled[0]) for name, _ in classes):
            part = 0
        else:
            empty = [p for p in range(len(shares)) if not filled[p]]
            part = min(empty if len(weights) - number <= len(empty) else range(len(shares)), key=cost)
        filled[part][None] += weight
        for name, members in classes:
            filled[part][name] += members
            units_left[name] -= 1
        chosen.append(part)
    return chosen


def _units(digests: NDArray[np.uint64], groups: Sequence[str] | None, settings: Settings) -> tuple[NDArray[np.int64], list[str]]:
    """What has to stay together, as a number per row: identical inputs, and groups."""
    alike = np.unique(digests, return_inverse=True)[1].astype(np.int64)
    if groups is None:
        return alike, []
    group = np.unique(np.array(groups, dtype=str), return_inverse=True)[1].astype(np.int64)
    unit = group
    while True:  # groups that share an input take the smallest number among them, until none changes
        joined = _smallest(_smallest(unit, alike), group)
        if (joined == unit).all():
            break
        unit = joined
    if np.bincount(unit).max() > max(len(unit) / 2, np.bincount(group).max()):
        sharing = len({*alike[_crossing(alike, group)].tolist()})
        column = settings.data.group or "group"
        return group, [
            f"{sharing:,} inputs occur under several values of {column!r}, so many that keeping them together would leave nothing to divide; "
            f"only the values of {column!r} are kept apart"
        ]
    return np.unique(unit, return_inverse=True)[1].astype(np.int64), []


def _smallest(values: NDArray[np.int64], within: NDArray[np.int64]) -> NDArray[np.int64]:
    smallest = np.full(within.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, within, values)
    return smallest[within]


def _crossing(alike: NDArray[np.int64], group: NDArray[np.int64]) -> NDArray[np.bool_]:
    return _smallest(group, alike) != -_smallest(-group, alike)


def _held(unit: NDArray[np.int64], units: int, classes: list[tuple[str, ...]]) -> list[tuple[tuple[str, int], ...]]:
    """Per unit, its classes and in how many of its sequences each occurs."""
    if not classes:
        return [()] * units
    counts: list[Counter[str]] = [Counter() for _ in range(units)]
    for number, names in zip(unit.tolist(), classes, strict=True):
        counts[number].update(names)
    return [tuple(sorted(count.items())) for count in counts]


def _classes(task: str, sequences: Sequences) -> list[tuple[str, ...]]:
    """Per sequence, the classes that occur in it; nothing for tasks that have none."""
    if task == "classify":
        return [(name,) for name in sequences.targets]
    return [tuple(sorted(set(tags))) for tags in sequences.targets] if task == "tag" else []


# Text by position


def _by_position(sequences: Sequences, shares: tuple[float, ...], place: str) -> tuple[list[Sequences | None], str, list[str]]:
    """The end of each document for the later parts, cut at the end of a line if one is near."""
    sizes = _sizes(sequences).astype(np.int64)
    cuts = np.zeros((len(shares) + 1, len(sequences)), np.int64)
    cuts[-1] = sizes
    for number, share in enumerate(np.cumsum(shares)[:-1], 1):
        cuts[number] = [max(_cut(sequences.inputs, row, int(size * share)), before) for row, (size, before) in enumerate(zip(sizes, cuts[number - 1], strict=True))]
    spans = np.diff(cuts, axis=0)  # [parts, documents]
    if (spans.sum(1) == 0).any():
        raise DataError(
            f"{place}: {sizes.sum():,} characters are too few to divide into {len(shares)} parts; add text, or give the parts with --valid and --test"
        )
    made: list[Sequences | None] = []
    for begin, end in zip(cuts[:-1], cuts[1:], strict=True):
        rows = np.flatnonzero(end > begin)
        part, begin, end = sequences.take(rows), begin[rows], end[rows]
        if isinstance(part.inputs, TextSlices):
            whole = part.inputs
            inputs: Any = TextSlices(whole.paths, whole.file, whole.start + begin, whole.start + end)
        else:
            inputs = [text[b:e] for text, b, e in zip(part.inputs, begin, end, strict=True)]
        made.append(replace(part, inputs=inputs))
    percent = " / ".join(f"{100 * span / sizes.sum():.0f} %" for span in spans.sum(1))
    where = "the text" if len(sequences) == 1 else "each text"
    return made, f"{percent} by position, from the start to the end of {where}", []


def _cut(inputs: Sequence[str], row: int, place: int) -> int:
    """The next end of a line after a place in a document, or the next whole character if none is near."""
    near = 1 << 12
    if not isinstance(inputs, TextSlices):
        line = inputs[row].find("\n", place, place + min(near, len(inputs[row]) // 100)) + 1
        return line or place
    size = int(inputs.sizes()[row])
    with Path(inputs.paths[inputs.file[row]]).open("rb") as handle:
        handle.seek(int(inputs.start[row]) + place)
        window = handle.read(min(near, size - place))
    line = window.find(b"\n", 0, max(size // 100, 1)) + 1
    character = next((n for n, byte in enumerate(window) if byte & 0xC0 != 0x80), len(window))
    return place + (line or character)


# What is the same


def _digests(sequences: Sequences, seed: int) -> NDArray[np.uint64]:
    """A number per input, the same for the same input only; their order is a shuffle by the seed."""
    key = seed.to_bytes(32, "little") if seed < 1 << 256 else hashlib.sha256(str(seed).encode()).digest()

    def digest(row: int) -> int:
        hasher = hashlib.blake2b(digest_size=8, key=key)
        for piece in _bytes(sequences, row):
            hasher.update(piece)
        return int.from_bytes(hasher.digest(), "little")

    return np.fromiter(map(digest, range(len(sequences))), np.uint64, len(sequences))


def _bytes(sequences: Sequences, row: int) -> Iterable[bytes]:
    inputs = sequences.inputs
    if sequences.kind == "sound":
        try:
            return [Path(inputs[row]).read_bytes()]
        except OSError as error:
            raise DataError(f"{sequences.origin(row)}: {inputs[row]} cannot be read ({error.strerror}); correct the path") from None
    if sequences.kind == "numeric":
        array = np.ascontiguousarray(inputs[row])
        return [f"{array.dtype.str}{array.shape}".encode(), array.tobytes()]
    pieces = inputs.pieces(row) if isinstance(inputs, TextSlices) else [inputs[row] if sequences.kind == "text" else "\0".join(inputs[row])]
    return (piece.encode("utf-8", "surrogatepass") for piece in pieces)


def _sizes(sequences: Sequences) -> NDArray[np.float64]:
    """How long each text is, for shares: in bytes where it lies in a file, else in characters."""
    if isinstance(sequences.inputs, TextSlices):
        return sequences.inputs.sizes().astype(np.float64)
    return np.fromiter(map(len, sequences.inputs), np.float64, len(sequences))


def _shared(parts: Sequence[Sequences | None], settings: Settings) -> list[str]:
    """What parts that were given have in common with the training part."""
    train = parts[0]
    assert train is not None
    known = _digests(train, settings.training.seed)
    found: list[str] = []
    for name, part in zip(NAMES[1:], parts[1:], strict=True):
        if part is None:
            continue
        if again := int(np.isin(_digests(part, settings.training.seed), known).sum()):
            found.append(f"{again:,} of {len(part):,} {name} sequences also occur in the training part")
        if train.groups is not None and part.groups is not None and (both := sorted({*train.groups} & {*part.groups})):
            found.append(f"{len(both):,} values of {settings.data.group or 'group'!r} occur in the training and the {name} part: {_some(both)}")
    return found


# Checks of the whole


def _checked(task: str, parts: Sequence[Sequences | None], sentence: str, warnings: list[str], place: str) -> Parts:
    """The parts, if each class can be learnt."""
    train, valid, test = [*parts, None][:3]
    assert train is not None and valid is not None
    if task in ("classify", "tag"):
        known = {name for row in _classes(task, train) for name in row}
        for name, part in (("validation", valid), ("test", test)):
            if part is None:
                continue
            classes = _classes(task, part)
            absent = Counter(label for row in classes for label in row if label not in known)
            if absent:
                label, count = absent.most_common(1)[0]
                origin = part.origin(next(number for number, row in enumerate(classes) if label in row))
                more = f", and {len(absent) - 1} more classes like it" if len(absent) > 1 else ""
                raise DataError(
                    f"{origin}: class {label!r} occurs in {count:,} {name} sequence{'s' * (count > 1)} but in no training sequence{more}; "
                    "add training data of it, or leave these out"
                )
        if len(known) < 2:
            only = f"a single class, {next(iter(known))!r}" if known else "no class"
            raise DataError(f"{place}: {train.target_name!r} has {only}, expected at least two; choose another column with --target")
    return Parts(train, valid, test, sentence, warnings)


def _plural(task: str) -> str:
    return "documents" if task == "lm" else "sequences"


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
