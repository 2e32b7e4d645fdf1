"""Training, validation and test parts: as files or a column give them, or made, with identical inputs never on two sides."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from throughtime.data.columns import listed
from throughtime.data.files import plural
from throughtime.data.records import Dataset, Panel, Sequences
from throughtime.data.split_panel import PanelPart as PanelPart, as_given, divide_panel
from throughtime.data.split_sequences import classes_of, digests, divide, noun
from throughtime.errors import DataError
from throughtime.settings import Settings


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

    Files that are given win, then the split column of the data; but ``--group`` wins over a split column that was only
    guessed. What is not given is made, a tenth for each part: forecasts by time, fewer than 20 documents by position, all
    else by whole groups if there are any, and with the classes in equal shares. Only with a validation file or column and no
    test data is there no test part.

    Args:
        dataset: all data, or the training data where files are given.
        settings: of the fit, with the seed.
        valid: the data of ``--valid``.
        test: the data of ``--test``.

    Raises:
        DataError: too little data, a class that occurs outside the training part only, a single class, files that do not fit
            together.

    Example:
        >>> texts = Sequences("text", [f"text {n}" for n in range(50)], targets=["good", "bad"] * 25, target_name="mood")
        >>> split(Dataset("classify", texts, ""), Settings()).sentence
        'split: 80 % / 10 % / 10 % (40 / 5 / 5 sequences), stratified by mood, seed 0'
    """
    if isinstance(dataset.content, Panel):
        panels, how, warnings = divide_panel(dataset, dataset.content, settings, valid, test)
        return Parts(panels[0], panels[1], panels[2], f"split: {how}", warnings)
    place = str(dataset.files[0]) if dataset.files else "the data"
    train, second, third, how, warnings = _sequences(dataset, dataset.content, settings, valid, test, place)
    _refuse_classes(dataset.task, train, second, third, place)
    return Parts(train, second, third, f"split: {how}", warnings)


def _sequences(
    dataset: Dataset, content: Sequences, settings: Settings, valid: Dataset | None, test: Dataset | None, place: str
) -> tuple[Sequences, Sequences, Sequences | None, str, list[str]]:
    """The parts, how they came about, and warnings."""
    column = settings.data.split_column or dataset.resolved.get("split_column")
    says = f"column {column!r}" if column else "the data itself"
    guessed = settings.data.split_column is None or "split_column" in dataset.resolved
    by_group = settings.data.group is not None and content.groups is not None and guessed
    warnings: list[str] = []
    if valid is not None or test is not None:
        if content.parts is not None:
            warnings.append(f"what {says} says of parts is not used, since files are given: all of {place} is training data")
        train = content
        made = [None if given is None else _fitting(given, content, place) for given in (valid, test)]
        how = as_given(dataset, valid, test)
    elif content.parts is not None and not by_group:
        marks = np.array(content.parts, dtype=object)
        rows = [np.flatnonzero(marks == mark) for mark in ("train", "valid", "test")]
        if not len(rows[0]):
            found = listed([f"{count:,} {mark!r}" for mark, count in sorted(Counter(content.parts).items())])
            raise DataError(f"{place}: {says} marks {found}, but nothing 'train'; mend it, or name another with --split-column")
        train = content.take(rows[0])
        made = [content.take(part) if len(part) else None for part in rows[1:]]
        how = f"by {says}"
    else:
        if content.parts is not None:
            warnings.append(f"what {says} says of parts is not used, since --group is given; --split-column {column} uses it")
        parts, how, more = divide(content, dataset.task, (0.8, 0.1, 0.1), settings, place)
        return parts[0], parts[1], parts[2], how, warnings + more
    second, third = made
    compared = {"training": train, "validation": second, "test": third}
    if second is None:
        (train, second), how_made, more = divide(train, dataset.task, (0.9, 0.1), settings, place)
        tested = "" if third is None else f" ({plural(len(third), f'test {noun(dataset.task)}')})"
        how = f"{how}{tested}; training and validation {how_made}"
        warnings += more
    else:
        sizes = " / ".join(f"{len(part):,}" for part in (train, second, third) if part is not None)
        how = f"{how} ({sizes} {noun(dataset.task)}s)"
    if third is None:
        how += "; there is no test part, scores are those of the validation part"
    return train, second, third, how, warnings + _shared(compared, settings)


def _fitting(given: Dataset, content: Sequences, place: str) -> Sequences:
    """The sequences of a file that was given, if they are of the same form as the training data."""
    there = given.content
    name = str(given.files[0]) if given.files else "the data given"
    if not isinstance(there, Sequences) or there.kind != content.kind:
        kind = there.kind if isinstance(there, Sequences) else "time series"
        raise DataError(f"{name}: holds {kind}, but {place} holds {content.kind}; give files of one form")
    if there.features != content.features:
        odd = listed(sorted({*there.features} ^ {*content.features})) or "their order"
        raise DataError(f"{name}: its features differ from those of {place} ({odd}); name the ones to use with --features")
    if not len(there):
        raise DataError(f"{name}: holds no sequences, expected at least one")
    return there


def _shared(given: dict[str, Sequences | None], settings: Settings) -> list[str]:
    """What parts that were given have in common, each with those before it."""
    keys = {name: digests(part, settings.training.seed) for name, part in given.items() if part is not None}
    found: list[str] = []
    for earlier, name in combinations(keys, 2):
        before, part = given[earlier], given[name]
        assert before is not None and part is not None
        if again := int(np.isin(keys[name], keys[earlier]).sum()):
            found.append(
                f"{again:,} of {plural(len(part), f'{name} sequence')} also occur{'s' * (again == 1)} in the {earlier} part"
            )
        if before.groups is not None and part.groups is not None and (both := sorted({*before.groups} & {*part.groups})):
            found.append(
                f"{plural(len(both), 'value')} of {settings.data.group or 'group'} occur{'s' * (len(both) == 1)} in both the "
                f"{earlier} and the {name} part: {listed(both)}"
            )
    return found


def _refuse_classes(task: str, train: Sequences, valid: Sequences, test: Sequences | None, place: str) -> None:
    """Errors for a class that cannot be learnt, and for one that is alone."""
    if task not in ("classify", "tag"):
        return
    known = {name for row in classes_of(task, train) for name in row}
    for name, part in (("validation", valid), ("test", test)):
        classes = [] if part is None else classes_of(task, part)
        absent = Counter(label for row in classes for label in row if label not in known)
        if part is not None and absent:
            label, count = absent.most_common(1)[0]
            row = next(number for number, labels in enumerate(classes) if label in labels)
            more = f" ({len(absent):,} such classes in all)" if len(absent) > 1 else ""
            raise DataError(
                f"{part.origin(row)}: {train.target_name} {label!r} occurs in {plural(count, f'{name} sequence')}, but in no "
                f"training sequence{more}; add training data of it, or leave these out"
            )
    if len(known) < 2:
        only = f"a single class, {next(iter(known))!r}" if known else "no class"
        raise DataError(f"{place}: {train.target_name} has {only}, expected at least two; name another column with --target")
