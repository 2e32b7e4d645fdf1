"""Sequences that are arrays already: ``.npz`` files, and what Python code hands over."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from throughtime.data.columns import are_classes, listed
from throughtime.data.long import describe
from throughtime.data.missing import Policy, done, settle
from throughtime.data.records import Dataset, Sequences
from throughtime.errors import DataError
from throughtime.settings import Settings

_INPUTS = ("X", "x", "inputs", "data")
_TARGETS = ("y", "Y", "labels", "targets")


def read_npz(path: Path, settings: Settings, with_target: bool) -> Dataset:
    """The sequences of an ``.npz`` file; nothing pickled is read.

    ``X`` (or ``x``, ``inputs``, ``data``) is ``[n, T, F]`` or ``[n, T]``, both cut to ``lengths`` ``[n]`` where that is there,
    or with ``lengths`` the steps of all sequences one after the other, ``[sum of T, F]`` or ``[sum of T]``. ``y`` (or
    ``labels``, ``targets``) is ``[n]``, or has a value per step in the shape that X has.

    Args:
        path: the file.
        settings: for ``task``, ``missing``, and ``target``, the name of the array to predict.
        with_target: whether there must be targets.

    Returns:
        The dataset; its sequences are numeric ``[T, F]`` float64.

    Raises:
        DataError: a file that is no ``.npz``, is damaged, or holds pickled objects; arrays that are not there, or do not fit
            each other.
    """
    task = settings.data.task
    if task not in ("auto", "classify", "tag", "regress"):
        raise DataError(f"{path}: --task {task} does not fit an .npz file; expected classify, tag or regress")
    arrays = _arrays(path)
    inputs = next((name for name in _INPUTS if name in arrays), None)
    if inputs is None:
        raise DataError(f"{path}: there is no array X (nor {', '.join(_INPUTS[1:])}); the arrays are {listed(list(arrays))}")
    target = settings.data.target or next((name for name in _TARGETS if name in arrays), None)
    if target not in arrays:
        if with_target:
            raise DataError(
                f"{path}: there is no array {target or 'y'} to predict; the arrays are {listed(list(arrays))}; name one "
                "with --target"
            )
        target = None
    lengths = _lengths(arrays.get("lengths"), path)
    X = arrays[inputs]
    split = _cut(X, lengths, inputs, path)
    steps, features = _numeric(split, f"{path}: {inputs}")
    values, missing = _settled(steps, settings.data.missing, f"{path}: {inputs}")
    counts = [len(array) for array in values]
    targets = None
    if target is not None:
        y = _per_sequence(arrays[target], counts, lengths, target, path)
        y = _classes_or_numbers(y) if task == "auto" and arrays[target].dtype.kind in "iuf" else y
        targets = _targets(y, counts, None if task == "auto" else task, f"{path}: {target}")
    found = _task(targets) if task == "auto" else task
    content = Sequences(
        "numeric",
        values,
        targets,
        [f"{path.name} {inputs}[{row}]" for row in range(len(values))],
        None,
        None,
        features,
        target or "target",
    )
    ignored = [name for name in arrays if name not in (inputs, target, "lengths")]
    warnings = [f"arrays that are not used: {listed(ignored)}"] if ignored else []
    guessed = {"task": found} if task == "auto" else {}
    guessed |= {"target": target} if settings.data.target is None and target else {}
    sentence = f"{describe(content, found, target)}, {path.name}; overrule with --task, --target"
    return Dataset(found, content, sentence, guessed, warnings + done(missing, "missing number", settings.data.missing), [path])


def sequences_of(
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    task: Literal["classify", "tag", "regress"] | None = None,
    missing: Policy = "error",
) -> Sequences:
    """Sequences from what Python code has.

    Args:
        X: n sequences: an array ``[n, T, F]`` or ``[n, T]``, or a list (or a column of a table) of arrays ``[T, F]`` or
            ``[T]``, of DataFrames with a step per row, of str, of lists of words, or of paths of sound files.
        y: per sequence a label (str, int or bool) or a number (float), or for each of its steps one: a list of lists of tags
            or numbers.
        groups: per sequence, what is kept together when splitting.
        task: what ``y`` is used for, where its type does not say: integers are classes or tags if this is ``None``.
        missing: what to do with NaN and infinities in X.

    Returns:
        The sequences; labels as str.

    Raises:
        DataError: X, y and groups that do not fit each other, or hold something else, with the index of the first.

    Example:
        >>> found = sequences_of([[0.1, 0.2, 0.3], [0.4]], ["up", "down"])
        >>> found.kind, found.inputs[0].shape, found.targets
        ('numeric', (3, 1), ['up', 'down'])
        >>> sequences_of(["so it is", "not so"], [1.5, 2.5]).targets
        array([1.5, 2.5])
    """
    elements = _elements(X, "X")
    if not elements:
        raise DataError("X holds no sequence; expected one at least")
    first = next(
        (element for element in elements if not (isinstance(element, list | tuple) and len(element) == 0)), elements[0]
    )
    features: tuple[str, ...] = ()
    if isinstance(first, str):
        kind: Literal["text", "words", "numeric", "sound"] = "text"
        inputs = _all_are(elements, str, "a str, as the first is")
    elif isinstance(first, Path):
        kind, inputs = "sound", _all_are(elements, Path, "a Path, as the first is")
        absent = next((index for index, path in enumerate(inputs) if not path.is_file()), None)
        if absent is not None:
            raise DataError(f"X[{absent}]: {inputs[absent]}: there is no such file")
    elif (
        isinstance(first, list | tuple | np.ndarray)
        and np.ndim(first[0] if len(first) else 0) == 0
        and len(first)
        and isinstance(first[0], str)
    ):
        kind, inputs = "words", [_words(element, index) for index, element in enumerate(elements)]
    else:
        kind = "numeric"
        steps, features = _numeric(elements, "X")
        inputs, _ = _settled(steps, missing, "X")
    counts = [len(sequence) for sequence in inputs] if kind in ("numeric", "words") else None
    if y is not None:
        y = _elements(y, "y")
        if len(y) != len(inputs):
            raise DataError(f"y holds {len(y):,} targets for {len(inputs):,} sequences; expected one for each")
    targets = None if y is None else _targets(y, counts, task, "y")
    if groups is not None:
        groups = [str(group) for group in _elements(groups, "groups")]
        if len(groups) != len(inputs):
            raise DataError(f"groups holds {len(groups):,} values for {len(inputs):,} sequences; expected one for each")
    return Sequences(
        kind, inputs, targets, [f"X[{index}]" for index in range(len(inputs))], groups, features=features, target_name="y"
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Everything in the file."""
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise DataError(
                    f"{path}: is one .npy array; expected an .npz file with X and y: numpy.savez(path, X=..., y=...)"
                )
            with archive:
                return {name: _array(archive, name, path) for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = "it is no archive of arrays" if "pickled" in str(error) else str(error).partition(".")[0][:80]
        raise DataError(f"{path}: cannot be read as .npz ({reason}); write it with numpy.savez") from None


def _array(archive: Any, name: str, path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = archive[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        if "pickle" in str(error):
            raise DataError(
                f"{path}: the array {name!r} holds pickled objects, which are not read, since they can run code; give X as "
                "[sum of T, F] with an array of lengths, and labels as str: y.astype(str)"
            ) from None
        raise DataError(f"{path}: the array {name!r} is damaged; write the file again") from None
    return array


def _lengths(lengths: NDArray[Any] | None, path: Path) -> list[int] | None:
    if lengths is None:
        return None
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not lengths.size or lengths.min() < 1:
        raise DataError(
            f"{path}: the array 'lengths' is {lengths.dtype} of shape {lengths.shape}; expected whole numbers from 1 up, "
            "one per sequence"
        )
    return [int(length) for length in lengths]


def _cut(array: NDArray[Any], lengths: list[int] | None, name: str, path: Path) -> list[NDArray[Any]]:
    """The sequences of a padded array, or of one that holds them one after the other."""
    where = f"{path}: the array {name!r} of shape {array.shape}"
    if lengths is not None and array.ndim in (1, 2) and len(array) == sum(lengths):
        return np.split(array, np.cumsum(lengths)[:-1])
    if array.ndim not in (2, 3):
        raise DataError(
            f"{where} is not [n, T, F] nor [n, T]; sequences one after the other need an array of lengths that add up to "
            f"{len(array) if array.ndim else 0:,}"
        )
    if lengths is None:
        return list(array)
    if len(lengths) != len(array) or max(lengths) > array.shape[1]:
        raise DataError(
            f"{where} does not fit {len(lengths):,} lengths of at most {max(lengths):,} that add up to {sum(lengths):,}"
        )
    return [steps[:length] for steps, length in zip(array, lengths, strict=True)]


def _classes_or_numbers(y: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Numbers as integers if they are names of classes, else as floats: as in tables."""
    kind = np.int64 if are_classes(np.concatenate([np.ravel(values) for values in y])) else np.float64
    return [values.astype(kind) for values in y]


def _per_sequence(y: NDArray[Any], counts: list[int], lengths: list[int] | None, name: str, path: Path) -> list[Any]:
    """The targets, one for each sequence, or an array of those of its steps."""
    if y.ndim == 1 and len(y) == len(counts):
        return list(y)
    if y.ndim == 1 and len(y) == sum(counts):
        return np.split(y, np.cumsum(counts)[:-1])
    if y.ndim == 2 and len(y) == len(counts):
        return _cut(y, lengths, name, path)
    raise DataError(
        f"{path}: the array {name!r} has the shape {y.shape}, but there are {len(counts):,} sequences with "
        f"{sum(counts):,} steps; "
        "expected a target for each sequence or for each step"
    )


def _elements(values: Any, name: str) -> list[Any]:
    """What a list, an array or a column of a table holds."""
    if hasattr(values, "columns"):
        raise DataError(f"{name} is a table; expected a list of sequences, such as a list of tables, or one column")
    if isinstance(values, str | bytes | dict | set | Path) or (hasattr(values, "ndim") and values.ndim == 0):
        raise DataError(f"{name} is one {type(values).__name__}; expected a list, an item per sequence")
    if not isinstance(values, np.ndarray) and hasattr(values, "to_list"):
        values = values.to_list()
    if not hasattr(values, "__len__") or not hasattr(values, "__getitem__"):
        raise DataError(f"{name} is a {type(values).__name__}; expected a list or an array, an item per sequence")
    return list(values)


def _all_are(elements: list[Any], kind: type, expected: str) -> list[Any]:
    for index, element in enumerate(elements):
        if not isinstance(element, kind):
            raise DataError(f"X[{index}] is a {type(element).__name__}; expected {expected}")
    return elements


def _words(element: Any, index: int) -> list[str]:
    words = list(element) if isinstance(element, list | tuple | np.ndarray) else None
    if words is None or not all(isinstance(word, str) for word in words):
        raise DataError(f"X[{index}] is {_shortened(element)}; expected a list of words, as the first is")
    return [str(word) for word in words]


def _numeric(elements: Sequence[Any], name: str) -> tuple[list[NDArray[np.float64]], tuple[str, ...]]:
    """Arrays ``[T, F]`` and the names of the features."""
    arrays: list[NDArray[np.float64]] = []
    names: tuple[str, ...] | None = None
    for index, element in enumerate(elements):
        where = f"{name}[{index}]"
        own = tuple(str(column) for column in element.columns) if hasattr(element, "columns") else None
        if index and own != names:
            raise DataError(
                f"{where} has columns {own and listed(own)}, the first has {names and listed(names)}; expected the same, "
                "in the same order"
            )
        names = own
        if own is None:
            array = _floats(element, where)
        else:
            columns = [_floats(element[column].to_numpy(), f"{where}, column {column!r}") for column in element.columns]
            array = np.column_stack(columns) if columns else np.empty((len(element), 0))
        if array.ndim == 1:
            array = array[:, None]
        if array.ndim != 2 or 0 in array.shape:
            hint = "; one number per sequence is no sequence: give [n, T]" if array.ndim == 0 else ""
            raise DataError(f"{where} has the shape {array.shape}; expected [T, F] or [T], with at least one step{hint}")
        if arrays and array.shape[1] != arrays[0].shape[1]:
            raise DataError(
                f"{where} has {array.shape[1]} features, {name}[0] has {arrays[0].shape[1]}; expected the same number in all"
            )
        arrays.append(array)
    if not arrays:
        raise DataError(f"{name} holds no sequence; expected one at least")
    return arrays, names or tuple(f"feature {number}" for number in range(1, arrays[0].shape[1] + 1))


def _floats(values: Any, where: str) -> NDArray[np.float64]:
    """Numbers, with NaN for None and for what pandas calls NA."""
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":
            array = np.array([np.nan if value is None or str(value) == "<NA>" else value for value in array.ravel()]).reshape(
                array.shape
            )
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{where} is {_shortened(values)}, which is no array of numbers ({str(error)[:60]}); expected [T, F] or [T]"
        ) from None
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where} is {_shortened(values)} of type {array.dtype}; expected numbers")
    floats: NDArray[np.float64] = array.astype(np.float64, copy=False)
    if array.dtype.kind in "iu" and array.size and np.abs(floats).max() > 2**53:
        raise DataError(f"{where} holds whole numbers beyond 2^53, which lose their last digits; take an offset off them first")
    return floats


def _settled(arrays: list[NDArray[np.float64]], policy: Policy, name: str) -> tuple[list[NDArray[np.float64]], int]:
    """The arrays without what is missing, or with NaN for it."""
    lengths = [len(array) for array in arrays]
    codes, starts = np.repeat(np.arange(len(arrays)), lengths), np.cumsum([0, *lengths])
    values, count = settle(
        np.concatenate(arrays),
        codes,
        policy,
        lambda step, feature: f"{name}[{codes[step]}][{step - starts[codes[step]]}, {feature}]",
    )
    return np.split(values, starts[1:-1]), count


def _targets(y: Sequence[Any], counts: list[int] | None, task: str | None, name: str) -> Any:
    """Class names or numbers, of the sequences or of their steps."""
    by_step = [not isinstance(value, str | bytes) and hasattr(value, "__len__") for value in y]
    if counts is not None and all(by_step) and all(len(value) == 1 for value in y) and any(count != 1 for count in counts):
        y, by_step = [value[0] for value in y], [False] * len(y)  # a column [n, 1]
    if any(by_step) != all(by_step):
        raise DataError(
            f"{name}[{by_step.index(not by_step[0])}]: {name} mixes values of sequences and of steps; expected one kind"
        )
    if not all(by_step):
        if task == "tag":
            raise DataError(f"{name}[0] is {_shortened(y[0])}; expected a list of tags, one for each step of X[0]")
        return _labels(y, task, name, np.arange(1, len(y) + 1), by_step=False)
    if task == "classify" or counts is None:
        raise DataError(
            f"{name}[0] is a list; expected one label for each sequence" + (" of text or sound" if counts is None else "")
        )
    for index, (value, count) in enumerate(zip(y, counts, strict=True)):
        if len(value) != count:
            raise DataError(
                f"{name}[{index}] has {len(value):,} values, X[{index}] has {count:,} steps; expected one for each step"
            )
    cuts = np.cumsum(counts)
    labels = _labels([value for values in y for value in values], task, name, cuts, by_step=True)
    if isinstance(labels, np.ndarray):
        return np.split(labels, cuts[:-1])
    return [labels[stop - count : stop] for stop, count in zip(cuts.tolist(), counts, strict=True)]


def _labels(
    values: Sequence[Any], task: str | None, name: str, cuts: NDArray[np.int64], *, by_step: bool
) -> list[str] | NDArray[np.float64]:
    """Names, or numbers where ``task`` or a float among them says so; ``cuts`` are the ends of the sequences in ``values``."""

    def where(index: int) -> str:
        sequence = int(np.searchsorted(cuts, index, side="right"))
        return f"{name}[{sequence}]" + (f"[{index - (cuts[sequence - 1] if sequence else 0)}]" if by_step else "")

    numeric = task == "regress" or (task is None and any(isinstance(value, float | np.floating) for value in values))
    for index, value in enumerate(values):
        if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
            raise DataError(
                f"{where(index)} is {value}; expected a {'number' if numeric else 'label'} for each; leave out what has none"
            )
        if not isinstance(value, str | bytes | bool | int | float | np.generic):
            raise DataError(f"{where(index)} is a {type(value).__name__}; expected a label or a number")
        if numeric and isinstance(value, str | bytes):
            raise DataError(f"{where(index)} is {value!r}; expected a number, as others are")
    if numeric:
        return np.array(values, dtype=np.float64)
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _task(targets: Any) -> str:
    """What the targets ask for."""
    if isinstance(targets, list) and targets and isinstance(targets[0], list):
        return "tag"
    return "classify" if targets is None or (isinstance(targets, list) and isinstance(targets[0], str)) else "regress"


def _shortened(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."
