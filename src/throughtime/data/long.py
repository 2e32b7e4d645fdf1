"""Tables of sequences, a step per row: id, step, features and a label of the sequence or of each step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from throughtime.data.columns import (
    LABELS,
    are_classes,
    codes_of,
    find,
    guess,
    guess_split,
    listed,
    numbers,
    one_per_group,
    parts_of,
    place,
    row_number,
    texts,
)
from throughtime.data.files import plural
from throughtime.data.frame import Frame
from throughtime.data.missing import done, settle
from throughtime.data.records import Dataset, Role, Sequences
from throughtime.data.spool import rearranged
from throughtime.data.times import times_in
from throughtime.errors import DataError
from throughtime.settings import Settings

_IDS = ("id", "sequence", "sequence_id", "seq", "series", "series_id", "unique_id", "case", "sample", "session")
_TIMES = ("step", "t", "time", "timestamp", "date", "datetime", "ds", "time_step", "timestep", "position", "index")

_NAMES = "mend the cell, or give --task classify (or tag) if the labels are names"
"""What to do about a label that is no number, where the others are."""


def read_long(
    table: pl.DataFrame | Frame, source: Path, settings: Settings, with_target: bool, *, role: Role = "training"
) -> Dataset:
    """The sequences of a table with a row for each step.

    A label that is the same in all rows of an id belongs to the sequence: text, or whole numbers of few values, is a class,
    other numbers are regressed on. A label that changes within an id belongs to the steps: text, or whole numbers of few
    values, is a tag. ``--task`` overrules.

    Args:
        table: its columns, in the order of the file.
        source: the file, for messages.
        settings: which columns are what; the rest is guessed.
        with_target: whether the label must be there.
        role: what it is read for; a part of its own need not have the column of the groups.

    Returns:
        The dataset; its sequences are numeric ``[T, F]`` float64, in the order in which their ids appear.

    Raises:
        DataError: columns that are not there, cells that are no numbers, two rows of one id and time, blank labels, labels
            that do not fit the task, and, with ``--missing error``, missing numbers.
    """
    data, frame = settings.data, Frame.of(table)
    if len(frame) == 0:
        raise DataError(f"{source}: there is no row below the header; expected sequences")
    given = {
        name: getattr(data, name) for name in ("time", "split_column", "group", "target") if getattr(data, name) is not None
    }
    if not with_target and data.target not in frame.columns:
        given.pop("target", None)
    if role == "part" and data.group not in frame.columns:
        given.pop("group", None)
    taken = {name: find(frame, column, name, source) for name, column in given.items()}
    if "split_column" not in taken and (split := guess_split(frame, [*taken.values(), *data.features])):
        taken["split_column"] = split
    key = (
        find(frame, data.id, "id", source)
        if data.id is not None
        else _guessed_id(frame, [*taken.values(), *data.features], source)
    )
    time = taken.get("time") or guess(frame, _TIMES, [key, *taken.values(), *data.features])
    target = taken.get("target")
    if target is None and data.target is None:
        target = _guessed_target(frame, [key, time, *taken.values(), *data.features], with_target, source)
    named = [key, target, *(taken.get(name) for name in ("split_column", "group"))]
    if target is not None and frame.schema[target].is_numeric() and _are_numbers(frame, target, data.task, source):
        named.remove(target)  # quantities are no names
    text = frame.written([name for name in named if name is not None], stripped=() if target is None else (target,))
    codes, names = codes_of(text[key], source)
    order = _ordered(frame, codes, names, time, source)
    features, warnings = _features(frame, [key, time, target, *taken.values()], data.features, source)
    values = rearranged(frame.numbers(features, source), order)
    sorted_codes = codes[order]
    values, missing = settle(
        values, sorted_codes, data.missing, lambda step, feature: place(source, order[step], features[feature])
    )
    cuts = np.flatnonzero(sorted_codes[1:] != sorted_codes[:-1]) + 1
    task: str = "classify" if data.task == "auto" else data.task
    targets = None
    if target is not None:
        numeric = _are_numbers(frame, target, data.task, source)
        labels = frame[target] if numeric else text[target]
        task, targets = _targets(labels, codes, names, order, cuts, data.task, numeric, with_target, source)
    elif task not in ("classify", "tag", "regress"):
        raise _not_served(task, source)
    once = {name: one_per_group(text[taken[name]], codes, names, source) for name in ("split_column", "group") if name in taken}
    content = Sequences(
        "numeric",
        np.split(values, cuts),
        targets,
        [f"{source.name} {key} {name}" for name in names],
        once["group"].cast(pl.String).fill_null("").to_list() if "group" in once else None,
        _parts(once["split_column"], codes, source) if "split_column" in once else None,
        tuple(features),
        target or "target",
    )
    resolved = {"task": task, "id": key, "time": time, "target": target, "features": tuple(features)}
    resolved["split_column"] = taken.get("split_column")
    guessed = {
        name: value for name, value in resolved.items() if value is not None and getattr(data, name) in (None, "auto", ())
    }
    sentence = _sentence(content, task, key, time, target, source)
    return Dataset(task, content, sentence, guessed, warnings + done(missing, "missing number", data.missing), [source])


def describe(content: Sequences, task: str, target: str | None) -> str:
    """What is learned from how many sequences: the beginning of the sentence about numeric data.

    Example:
        >>> describe(Sequences("numeric", [np.zeros((3, 2))], ["a"], features=("x", "y")), "classify", "label")
        'classify sequences by `label` (1 class): 1 of 3 steps, 2 features'
    """
    lengths = [len(steps) for steps in content.inputs]
    size = f"{min(lengths):,}" if min(lengths) == max(lengths) else f"{min(lengths):,} to {max(lengths):,}"
    verb = {"classify": "classify sequences by", "tag": "tag steps with", "regress": "regress sequences on"}[task]
    if task == "regress" and isinstance(content.targets, list):
        verb = "regress steps on"
    kinds = ""
    if content.targets is not None and task != "regress":
        many = len({name for tags in content.targets for name in (tags if task == "tag" else (tags,))})
        kinds = f" ({plural(many, 'class', 'classes') if task == 'classify' else plural(many, 'tag')})"
    what = f"`{target}`" if target else f"their {'target' if task == 'regress' else 'label'}"
    return f"{verb} {what}{kinds}: {len(lengths):,} of {size} steps, {plural(len(content.features), 'feature')}"


def _are_numbers(frame: Frame, name: str, task: str, source: Path) -> bool:
    """Whether labels are quantities: as ``task`` says, or else numbers that are not whole, or of more values than `CLASSES`."""
    if task != "auto" or not frame.is_number(name) or frame.schema[name] == pl.Boolean:
        return task == "regress"
    values = frame.numbers([name], source, _NAMES)
    return not are_classes(values[~np.isnan(values)])


def _names(column: pl.Series) -> list[str]:
    """Labels as names of classes; a whole number is called so whatever type it has."""
    if column.dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        column = whole.cast(pl.String).zip_with(whole == column, column.cast(pl.String))
    return texts(column.cast(pl.String).str.strip_chars())


def _parts(column: pl.Series, codes: NDArray[np.int64], source: Path) -> list[str]:
    """The part of each sequence; a name that is none is shown where it first stands."""
    return parts_of(column, lambda code: place(source, int(np.argmax(codes == code)), column.name))


def _sentence(content: Sequences, task: str, key: str, time: str | None, target: str | None, source: Path) -> str:
    by_time = f", in the order of `{time}`" if time else ", in the order of the file"
    flags = "--task, --id, --time, --target, --features"
    return f"{describe(content, task, target)}; a sequence per `{key}`{by_time}, {source.name}; overrule with {flags}"


def _guessed_id(frame: Frame, taken: Sequence[str], source: Path) -> str:
    """By name, or the first column whose equal values stand together."""
    named = guess(frame, [*_IDS, *(name.lower() for name in frame.columns if name.lower().endswith("_id"))], taken)
    if named is not None:
        return named
    for name in frame.columns:
        kind = frame.schema[name]
        if name in taken or name.lower() in (*_TIMES, *LABELS) or kind.is_float() or kind.is_nested():
            continue
        many = frame.different(name)
        if 1 < many <= len(frame) / 2 and int(frame[name].rle_id().max() or 0) + 1 == many:  # type: ignore[arg-type]
            return name
    raise DataError(
        f"{source}: no column tells the sequences apart; the columns are {listed(frame.columns)}; name one with --id"
    )


def _guessed_target(frame: Frame, taken: Sequence[str | None], with_target: bool, source: Path) -> str | None:
    """By name, or the last column; only by name where it need not be there."""
    rest = [name for name in frame.columns if name not in taken]
    target = guess(frame, LABELS, [name for name in taken if name is not None])
    if target is None and with_target:
        if not rest:
            raise DataError(f"{source}: no column is left for the label; name one with --target")
        target = rest[-1]
    return target


def _ordered(frame: Frame, codes: NDArray[np.int64], names: Sequence[str], time: str | None, source: Path) -> NDArray[np.int64]:
    """The rows by sequence, and within it by time or as they stand."""
    if time is None:
        return np.argsort(codes, kind="stable")
    if frame.is_number(time):
        times: NDArray[Any] = frame.numbers([time], source)[:, 0]
        blank = np.flatnonzero(~np.isfinite(times))
        if len(blank):
            raise DataError(f"{place(source, blank[0], time)}: the step is missing; fill it in, or remove the row")
    else:
        times = times_in(frame, time, source)
    order = np.lexsort((times, codes))
    same, times = codes[order], times[order]
    double = np.flatnonzero((same[1:] == same[:-1]) & (times[1:] == times[:-1]))
    if len(double):
        first, second = sorted(row_number(source, row) for row in order[double[0] : double[0] + 2])
        raise DataError(
            f"{source}: rows {first:,} and {second:,} are both step {frame[time][int(order[double[0]])]} of "
            f"{names[codes[order[double[0]]]]!r} "
            f"({len(double):,} such pairs in all); keep one of them, or name other columns with --id and --time"
        )
    return order


def _features(frame: Frame, taken: Sequence[str | None], named: Sequence[str], source: Path) -> tuple[list[str], list[str]]:
    """The columns that are input, and a line on each that is not."""
    if named:
        features = [find(frame, name, "features", source) for name in named]
        twice = next((name for name in features if name in taken or features.count(name) > 1), None)
        if twice is not None:
            raise DataError(
                f"{source}: column {twice!r} cannot be a feature: it already is something else; take it out of --features"
            )
        return features, []
    rest = [name for name in frame.columns if name not in taken]
    features = [name for name in rest if frame.is_number(name)]
    if not features:
        raise DataError(
            f"{source}: no column of numbers is left as input; the columns are {listed(frame.columns)}; name some with "
            "--features"
        )
    unused = [name for name in rest if name not in features]
    return features, [f"not used, since not numbers: {listed(unused)} (--features)"] if unused else []


def _targets(
    column: pl.Series,
    codes: NDArray[np.int64],
    names: Sequence[str],
    order: NDArray[np.int64],
    cuts: NDArray[np.int64],
    task: str,
    numeric: bool,
    with_target: bool,
    source: Path,
) -> tuple[str, Any]:
    """The task, and the targets of the sequences or of their steps: numbers where they are ``numeric``, else names."""
    if task not in ("auto", "classify", "tag", "regress"):
        raise _not_served(task, source)
    if column.dtype == pl.String:
        column = column.str.strip_chars()
        column = column.set(column == "", None)
    if column.dtype.is_float():
        column = column.fill_nan(None)
    blank = column.is_null().arg_true()
    if len(blank):
        if not with_target:
            return "classify" if task == "auto" else task, None
        raise DataError(
            f"{place(source, blank[0], column.name)}: the label is blank ({len(blank):,} in all); fill it in, or remove "
            "the rows"
        )
    sorted_column = column.gather(order)
    same = (sorted_column[1:] == sorted_column[:-1]).to_numpy() | (np.diff(codes[order]) != 0)
    by_step = task == "tag" or (task != "classify" and not same.all())
    column = sorted_column if by_step else one_per_group(column, codes, names, source)
    labels = numbers(column, source, _NAMES) if numeric else _names(column)
    found = "regress" if numeric else "tag" if by_step else "classify"
    if not by_step:
        return found, labels
    return found, [labels[start:stop] for start, stop in pairwise([0, *cuts.tolist(), len(labels)])]


def _not_served(task: str, source: Path) -> DataError:
    return DataError(f"{source}: --task {task} does not fit a table of sequences; expected classify, tag or regress")
