"""Sequences divided into parts of given shares: in units of identical inputs and groups, stratified; or text by position."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.data.columns import listed
from throughtime.data.files import plural
from throughtime.data.records import Sequences, TextSlices
from throughtime.errors import DataError
from throughtime.settings import Settings

NAMES = ("training", "validation", "test")
FEWEST = 10
"""Sequences that are worth dividing."""
DOCUMENTS = 20
"""Documents that are enough to give whole ones to each part; fewer are cut."""
RARE = 2
"""Classes with no more members than this stay in the training part."""
_PIECE = 1 << 20
"""Bytes of a text that are looked at at a time."""
MEND = "add data, or give the parts with --valid and --test"


def divide(
    sequences: Sequences, task: str, shares: tuple[float, ...], settings: Settings, place: str
) -> tuple[list[Sequences], str, list[str]]:
    """Parts of these shares.

    Args:
        sequences: all of them.
        task: classes are kept in equal shares for ``classify``, the size of a sequence counts for ``lm``.
        shares: of the training part and those after it; they add up to 1.
        settings: for the seed and the name of the group.
        place: where the sequences come from, for errors.

    Returns:
        The parts, how they were made, and warnings.

    Raises:
        DataError: too little to divide.
    """
    if task == "lm" and sequences.groups is None and len(sequences) < DOCUMENTS:
        return _by_position(sequences, shares, place)
    wanted = f"{', '.join(NAMES[: len(shares) - 1])} and {NAMES[len(shares) - 1]} parts"
    if len(sequences) < FEWEST:
        raise DataError(
            f"{place}: {plural(len(sequences), noun(task))} cannot be divided into {wanted}, expected at least {FEWEST}; {MEND}"
        )
    seed, group = settings.training.seed, settings.data.group or "group"
    keys = digests(sequences, seed)
    unit, warnings = _units(keys, sequences.groups, group, len(shares))
    units = int(unit.max()) + 1
    if units < len(shares):
        apart = "no column that keeps them together" if sequences.groups is None else f"more values of {group}"
        raise DataError(
            f"{place}: {plural(units, 'unit')} cannot be divided into {wanted}: expected more different inputs, {apart}; {MEND}"
        )

    sizes = _sizes(sequences) if task == "lm" else np.ones(len(sequences))
    weights = np.bincount(unit, sizes)
    order = np.lexsort((_least(keys, unit), -weights))  # the largest first; among equals the keys are a shuffle
    classes = classes_of(task, sequences)
    held = _held(unit, units, classes)
    part_of_unit = np.empty(units, np.int64)
    part_of_unit[order] = _assign(weights[order].tolist(), [held[u] for u in order], shares, balanced=task == "classify")
    rows = [np.flatnonzero(part_of_unit[unit] == part) for part in range(len(shares))]
    if not all(map(len, rows)):
        raise DataError(
            f"{place}: its classes are too rare to divide it into {wanted}: nothing is left for one of them; {MEND}"
        )

    rare = sorted(name for name, count in Counter(name for row in classes for name in row).items() if count <= RARE)
    if rare:
        warnings.append(
            f"{plural(len(rare), 'class', 'classes')} of {sequences.target_name} with at most {RARE} sequences, "
            f"all in the training part and never scored: {listed(rare)}"
        )
    percent = " / ".join(f"{100 * sizes[part].sum() / sizes.sum():.0f} %" for part in rows)
    counts = " / ".join(f"{len(part):,}" for part in rows)
    manner = ["by document" if task == "lm" else "at random"] if sequences.groups is None else [f"each {group} in one part"]
    if task == "classify":
        manner = [*(manner if sequences.groups is not None else []), f"stratified by {sequences.target_name}"]
    how = f"{percent} ({counts} {noun(task)}s), {', '.join(manner)}, seed {seed}"
    return [sequences.take(part) for part in rows], how, warnings


def digests(sequences: Sequences, seed: int) -> NDArray[np.uint64]:
    """A number for each input: the same for the same input, and in an order that is a shuffle by the seed.

    Args:
        sequences: n of them.
        seed: any.

    Returns:
        uint64 ``[n]``.
    """
    key = hashlib.sha256(str(seed).encode()).digest()

    def digest(row: int) -> int:
        hasher = hashlib.blake2b(digest_size=8, key=key)
        for piece in _bytes(sequences, row):
            hasher.update(piece)
        return int.from_bytes(hasher.digest(), "little")

    return np.fromiter(map(digest, range(len(sequences))), np.uint64, len(sequences))


def classes_of(task: str, sequences: Sequences) -> list[tuple[str, ...]]:
    """Per sequence, the classes that occur in it; an empty list for tasks that have none."""
    if task == "classify":
        each = {name: (name,) for name in set(sequences.targets)}
        return [each[name] for name in sequences.targets]
    return [tuple(sorted(set(tags))) for tags in sequences.targets] if task == "tag" else []


def noun(task: str) -> str:
    """What a sequence of a task is called."""
    return "document" if task == "lm" else "sequence"


def _bytes(sequences: Sequences, row: int) -> Iterable[bytes]:
    """One input as bytes, in pieces."""
    inputs = sequences.inputs
    if sequences.kind == "sound":
        try:
            return [Path(inputs[row]).read_bytes()]
        except OSError as error:
            raise DataError(
                f"{sequences.origin(row)}: {inputs[row]} cannot be read ({error.strerror}); mend the path"
            ) from None
    if sequences.kind == "numeric":
        array = np.ascontiguousarray(inputs[row])
        return [f"{array.dtype.str}{array.shape}".encode(), array.tobytes()]
    if isinstance(inputs, TextSlices):
        size = int(inputs.stop[row] - inputs.start[row])
        return (inputs.between(row, start, min(start + _PIECE, size)) for start in range(0, size, _PIECE))
    text = inputs[row] if sequences.kind == "text" else "\0".join(inputs[row])
    return [text.encode("utf-8", "surrogatepass")]


def _sizes(sequences: Sequences) -> NDArray[np.float64]:
    """How long each text is: in bytes where it lies in a file, else in characters."""
    if isinstance(sequences.inputs, TextSlices):
        return sequences.inputs.sizes().astype(np.float64)
    return np.fromiter(map(len, sequences.inputs), np.float64, len(sequences))


def _units(
    keys: NDArray[np.uint64], groups: Sequence[str] | None, column: str, parts: int
) -> tuple[NDArray[np.int64], list[str]]:
    """What has to stay together, as a number per row: identical inputs, and groups."""
    alike = _numbered(keys)
    if groups is None:
        return alike, []
    place = {name: number for number, name in enumerate(sorted(set(groups)))}
    group = np.fromiter((place[name] for name in groups), np.int64, len(groups))
    unit = group
    while True:  # groups that share an input take the smallest of their numbers, until none changes
        joined = _least(_least(unit, alike)[alike], group)[group]
        if (joined == unit).all():
            break
        unit = joined
    unit = _numbered(unit)
    largest = max(len(unit) / 2, np.bincount(group).max())
    if unit.max() == group.max() or (unit.max() >= parts - 1 and np.bincount(unit).max() <= largest):
        return unit, []
    pairs = np.unique(np.stack([alike, group]), axis=1)
    across = int((np.bincount(pairs[0]) > 1).sum())
    return group, [
        f"{plural(across, 'input')} that occur{'s' * (across == 1)} in several values of {column} may be in several parts: "
        "kept together they would leave too little to divide"
    ]


def _numbered(values: NDArray[Any]) -> NDArray[np.int64]:
    """Equal values as equal numbers, from 0."""
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _least(values: NDArray[Any], within: NDArray[np.int64]) -> NDArray[Any]:
    """The smallest value of each of the sets that are numbered by ``within``."""
    least = np.full(int(within.max()) + 1, np.iinfo(values.dtype).max, values.dtype)
    np.minimum.at(least, within, values)
    return least


Held = tuple[tuple[str, int], ...]
"""Classes, and in how many sequences of a unit each occurs."""


def _held(unit: NDArray[np.int64], units: int, classes: list[tuple[str, ...]]) -> list[Held]:
    if not classes:
        return [()] * units
    order = np.argsort(unit, kind="stable")
    ends = np.cumsum(np.bincount(unit, minlength=units))
    seen: dict[Held, Held] = {}  # of many units few differ
    found = []
    for stop, size in zip(ends.tolist(), np.bincount(unit, minlength=units).tolist(), strict=True):
        count = Counter(chain.from_iterable(classes[row] for row in order[stop - size : stop].tolist()))
        held = tuple(sorted(count.items()))
        found.append(seen.setdefault(held, held))
    return found


def _assign(weights: Sequence[float], held: Sequence[Held], shares: tuple[float, ...], balanced: bool) -> list[int]:
    """The part of each unit, in turn: the one in which it lowers the chi-square distance from the shares most.

    A unit without which the training part would lack a class goes there, and no part is left empty if that can be.

    Args:
        weights: the size of each unit.
        held: its classes.
        shares: of the parts.
        balanced: whether the shares are also to hold within each class.
    """
    total: defaultdict[str | None, float] = defaultdict(float, {None: float(sum(weights))})
    units_left: Counter[str] = Counter()
    for classes in held:
        for name, members in classes:
            total[name] += members
            units_left[name] += 1
    filled = [dict.fromkeys(total, 0.0) for _ in shares]

    targets = [{name: share * size for name, size in total.items()} for share in shares]

    def distance(part: int, demands: Iterable[tuple[str | None, float]]) -> float:
        have, target = filled[part], targets[part]
        return sum([size * (2 * (have[name] - target[name]) + size) / target[name] for name, size in demands])

    chosen: list[int] = []
    for number, (weight, classes) in enumerate(zip(weights, held, strict=True)):
        demands: list[tuple[str | None, float]] = [(None, weight), *(classes if balanced else ())]
        if any(total[name] <= RARE or (units_left[name] == 1 and not filled[0][name]) for name, _ in classes):
            part = 0
        else:
            empty = [candidate for candidate in range(len(shares)) if not filled[candidate][None]]
            open_to_it = empty if len(weights) - number <= len(empty) else range(len(shares))
            part = min(open_to_it, key=lambda candidate: distance(candidate, demands))
        filled[part][None] += weight
        for name, members in classes:
            filled[part][name] += members
            units_left[name] -= 1
        chosen.append(part)
    return chosen


def _by_position(sequences: Sequences, shares: tuple[float, ...], place: str) -> tuple[list[Sequences], str, list[str]]:
    """The end of each document for the later parts."""
    sizes = _sizes(sequences).astype(np.int64)
    cuts = [np.zeros_like(sizes)]
    for share in np.cumsum(shares)[:-1]:
        found = [_cut(sequences.inputs, row, int(size * share)) for row, size in enumerate(sizes)]
        cuts.append(np.maximum(np.array(found, np.int64), cuts[-1]))
    cuts.append(sizes)
    lengths = np.diff(cuts, axis=0)  # [parts, documents]
    if not lengths.any(axis=1).all():
        total = int(sizes.sum())
        few = f"{plural(total, 'character')} {'is' if total == 1 else 'are'} too few"
        raise DataError(f"{place}: {few} to divide into {len(shares)} parts; {MEND}")
    made = [_between(sequences, begin, end) for begin, end in pairwise(cuts)]
    percent = " / ".join(f"{100 * length / sizes.sum():.0f} %" for length in lengths.sum(1))
    return made, f"{percent} of {'the text' if len(sequences) == 1 else 'each document'}, by position", []


def _between(sequences: Sequences, begin: NDArray[np.int64], end: NDArray[np.int64]) -> Sequences:
    """These stretches of the documents; those that are empty are left out."""
    rows = np.flatnonzero(end > begin)
    part, begin, end = sequences.take(rows), begin[rows], end[rows]
    if isinstance(part.inputs, TextSlices):
        whole = part.inputs
        return replace(part, inputs=TextSlices(whole.sources, whole.file, whole.start + begin, whole.start + end))
    return replace(part, inputs=[text[b:e] for text, b, e in zip(part.inputs, begin, end, strict=True)])


def _cut(inputs: Sequence[str], row: int, place: int) -> int:
    """The next start of a line from a place in a document on, or of a character if no line starts within a hundredth of it."""
    before = max(place - 1, 0)
    if not isinstance(inputs, TextSlices):
        return inputs[row].find("\n", before, place + len(inputs[row]) // 100) + 1 or place
    size = int(inputs.sizes()[row])
    window = inputs.between(row, before, place + min(max(size // 100, 4), 1 << 20, size - place))
    line = window.find(b"\n") + 1
    character = next((n for n in range(place - before, len(window)) if window[n] & 0xC0 != 0x80), len(window))
    return before + (line or character)
