"""Time series divided by time: the end of each for validation and test, or as a column or further files say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.data.columns import listed
from throughtime.data.files import plural
from throughtime.data.frequency import at, positions
from throughtime.data.records import Dataset, Panel, Series
from throughtime.data.times import show
from throughtime.errors import DataError
from throughtime.settings import Settings

MEND = "add data, or forecast fewer steps with --horizon"


@dataclass(frozen=True)
class PanelPart:
    """A part of a panel, with the past that its forecasts look back on.

    Attributes:
        panel: the values up to the end of the part; all parts have the same series in the same order.
        starts: per series, the index of the part's own first value: 0 for the training part, the number of values for a
            series that has none in this part.
    """

    panel: Panel
    starts: list[int]


def divide_panel(
    dataset: Dataset, panel: Panel, settings: Settings, valid: Dataset | None, test: Dataset | None
) -> tuple[tuple[PanelPart, PanelPart, PanelPart | None], str, list[str]]:
    """Training, validation and test part of a panel.

    Args:
        dataset: where the panel comes from.
        panel: its content.
        settings: for the horizon; the season if none is given.
        valid: values that follow on the panel.
        test: values that follow on those, or on the panel.

    Returns:
        The parts, how they came about, and warnings.

    Raises:
        DataError: files that do not follow on, parts out of order, or no series that is long enough.
    """
    place = str(dataset.files[0]) if dataset.files else "the data"
    horizon = settings.forecast.horizon or settings.forecast.season or panel.frequency.season
    warnings: list[str] = []
    column = settings.data.split_column or dataset.resolved.get("split_column")
    says = f"column {column!r}" if column else "the data itself"
    marked = any(series.parts is not None for series in panel.series)
    if valid is not None or test is not None:
        if marked:
            warnings.append(f"what {says} says of parts is not used, since files are given: all of {place} is training data")
        panel, ends = _joined(panel, [valid, test], place)
        how = as_given(dataset, valid, test)
    elif marked:
        ends = np.array([_marked(series, says, place) for series in panel.series])
        if not ends[:, 0].any():
            raise DataError(f"{place}: {says} marks nothing as train; mend it, or name another with --split-column")
        how = f"by {says}"
    else:
        ends = np.repeat([[len(series)] for series in panel.series], 3, axis=1)
        how = ""
    # ends: int64 [series, 3], where the training, validation and test values of each series end

    has_valid = bool((ends[:, 1] > ends[:, 0]).any())
    makes_test = valid is None and test is None and not marked
    many = (not has_valid) + makes_test
    if many:
        cuts, made = _cuts(panel, ends[:, 0], horizon, many)
        ends[:, :many] = cuts
        how = f"{how}; of the rest by time: {made}" if how else f"by time: {made}"

    kept = np.flatnonzero(ends[:, 0] > horizon)  # a window of one value at least, and what follows it
    need = (many + 1) * horizon + 1
    if len(kept) < len(panel):
        short = [series for number, series in enumerate(panel.series) if number not in set(kept.tolist())]
        if not len(kept):
            raise DataError(
                f"{place}: series {short[0].id!r} has {plural(len(short[0]), 'value')}, expected at least {need:,} to "
                f"divide for a horizon of {horizon:,}; {MEND}"
            )
        warnings.append(
            f"{len(short):,} of {len(panel):,} series left out, which have no more training values than the horizon of "
            f"{horizon:,}: {listed([series.id for series in short])}"
        )
        panel, ends = replace(panel, series=[panel.series[number] for number in kept]), ends[kept]

    for name, lengths in zip(("validation", "test"), np.diff(ends, axis=1).T, strict=True):
        if 0 < lengths.max() < horizon:
            raise DataError(
                f"{place}: the {name} part has at most {plural(int(lengths.max()), 'value')} in a series, fewer than the "
                f"horizon of {horizon:,}; {MEND}"
            )
        if lengths.any() and (few := np.flatnonzero(lengths < horizon)).size:
            ids = listed([panel.series[number].id for number in few])
            warnings.append(
                f"{len(few):,} of {len(panel):,} series have fewer values in the {name} part than the horizon of {horizon:,}, "
                f"and are not scored there: {ids}"
            )
    starts = np.concatenate([np.zeros((len(ends), 1), np.int64), ends[:, :2]], axis=1)
    train, second, third = (PanelPart(_until(panel, ends[:, p]), starts[:, p].tolist()) for p in range(3))
    if (ends[:, 2] == ends[:, 1]).all():
        return (train, second, None), f"{how}; there is no test part, scores are those of the validation part", warnings
    return (train, second, third), how, warnings


def as_given(dataset: Dataset, valid: Dataset | None, test: Dataset | None) -> str:
    """In words: which file each part is.

    Example:
        >>> as_given(*(Dataset("lm", None, "", files=[Path(name)]) for name in ("a.csv", "b.csv")), None)
        'as given: trained on a.csv, validated on b.csv'
    """
    verbs = (("trained on", dataset), ("validated on", valid), ("tested on", test))
    return f"as given: {', '.join(f'{verb} {_name(given.files)}' for verb, given in verbs if given is not None)}"


def _name(files: Sequence[Path]) -> str:
    """The file, or, where the first of many lies in a folder of its own, the folder of them all."""
    if not files:
        return "the data given"
    folder = Path(os.path.commonpath(files))
    return files[0].name if files[0].parent == folder or len(files) == 1 else folder.name


def _cuts(panel: Panel, ends: NDArray[np.int64], horizon: int, many: int) -> tuple[NDArray[np.int64], str]:
    """Where parts made of the end of the series begin, and how that came about.

    Series that share a calendar are cut at the same times, or what happened to all of them at once would be trained on in one
    and tested on in another. Where that leaves nothing to score, as for series that follow each other, and for plain steps,
    each is cut by its own length.

    Args:
        panel: the series.
        ends: the values of each that may be divided; ``[series]``.
        horizon: a part has so many steps at least.
        many: the number of parts to make: validation, or validation and test.

    Returns:
        int64 ``[series, many]``, and the sentence.
    """
    names = ("validation", "test")[:many]
    calendar = len(panel) > 1 and panel.series[0].times.dtype.kind == "M"
    if calendar:
        cuts, begins = np.zeros((len(panel), many), np.int64), list[Any]()
        times = [series.times[:end] for series, end in zip(panel.series, ends, strict=True)]
        for part in reversed(range(many)):
            begins.insert(0, _common(times, int(ends.sum()) // 10, horizon))
            times = [of_one[of_one < begins[0]] for of_one in times]
            cuts[:, part] = list(map(len, times))
        lengths = np.diff(np.column_stack([cuts, ends]), axis=1)[cuts[:, 0] >= horizon]
        if len(lengths) and (lengths.max(axis=0) >= horizon).all():
            said = [f"{name} from {show(begin)} on" for name, begin in zip(names, begins, strict=True)]
            return cuts, f"all series at the same times, {', '.join(said)}"
    tail = np.maximum(ends // 10, horizon)
    lasts = f"{tail[0]:,}" if len(set(tail.tolist())) == 1 else f"tenth, and at least {horizon:,},"
    of = "the series" if len(panel) == 1 else "each series"
    made = f"of {of} the last {lasts} values are {'test, as many before them validation' if many == 2 else 'validation'}"
    made += ", since the series hardly overlap" if calendar else ""
    return ends[:, None] - np.arange(many, 0, -1) * tail[:, None], made


def _common(times: Sequence[NDArray[Any]], share: int, horizon: int) -> Any:
    """When the last part of some series begins: with ``share`` values of them all in it, or with more, until at least half of
    the series that reach into it do so by a whole horizon; not a time, if none is that long.
    """
    times = [of_one for of_one in times if len(of_one) >= horizon]
    if not times:
        return np.datetime64("NaT")
    moments, counts = np.unique(np.concatenate(times), return_counts=True)
    after = counts[::-1].cumsum()[::-1]
    first = min(int((after > share).sum()), len(moments) - 1)
    for moment in moments[first::-1]:
        lengths = np.array([len(of_one) - np.searchsorted(of_one, moment) for of_one in times])
        if 2 * (lengths >= horizon).sum() >= (lengths > 0).sum():
            return moment
    return moments[0]


def _until(panel: Panel, ends: NDArray[np.int64]) -> Panel:
    """Each series up to its end; a whole one keeps what is known of its future."""

    def cut(series: Series, end: int) -> Series:
        if end == len(series):
            return series
        return replace(
            series,
            times=series.times[:end],
            values=series.values[:end],
            past=series.past[:end],
            future=series.future[:end],
            parts=None if series.parts is None else series.parts[:end],
        )

    return replace(panel, series=[cut(series, int(end)) for series, end in zip(panel.series, ends, strict=True)])


def _marked(series: Series, says: str, place: str) -> list[int]:
    """Where the values that are marked train, valid and test end."""
    order = {"train": 0, "valid": 1, "test": 2}
    marks = np.array([order[mark] for mark in series.parts or ()])
    if len(marks) and (back := np.flatnonzero(np.diff(marks) < 0)).size:
        names = list(order)
        later = int(back[0]) + 1
        raise DataError(
            f"{place}: series {series.id!r}: {says} marks {show(series.times[later])} as {names[marks[later]]} after "
            f"{names[marks[later - 1]]}, expected train, then valid, then test; forecasts are divided by time"
        )
    return np.cumsum(np.bincount(marks, minlength=3)).tolist() if len(marks) else [len(series)] * 3


def _joined(panel: Panel, given: Sequence[Dataset | None], place: str) -> tuple[Panel, NDArray[np.int64]]:
    """The panel with the values of further files after its own, and where in each series the values of each file end."""
    known = {series.id for series in panel.series}
    ends = np.repeat([[len(series)] for series in panel.series], 3, axis=1)
    pieces: dict[str, list[Series]] = {series.id: [series] for series in panel.series}
    for column, dataset in enumerate(given, 1):
        if dataset is None:
            continue
        name, there = _like(dataset, panel, place)
        for series in there.series:
            if series.id not in known:
                raise DataError(f"{name}: series {series.id!r} is not in {place}; leave it out, or add its past there")
            _refuse_gap(pieces[series.id], series, panel, name)
            pieces[series.id].append(series)
        added = {series.id: len(series) for series in there.series}
        ends[:, column:] += np.array([[added.get(series.id, 0)] for series in panel.series])
    return replace(panel, series=[_chained(pieces[series.id]) for series in panel.series]), ends


def _like(dataset: Dataset, panel: Panel, place: str) -> tuple[str, Panel]:
    """The name and the panel of a file, if it is of the form of the training data."""
    there = dataset.content
    name = str(dataset.files[0]) if dataset.files else "the data given"
    if not isinstance(there, Panel):
        raise DataError(f"{name}: holds {there.kind}, but {place} holds time series; give files of one form")
    if (there.frequency.unit, there.frequency.count) != (panel.frequency.unit, panel.frequency.count):
        raise DataError(f"{name}: has a value {there.frequency}, but {place} {panel.frequency}; give files of one frequency")
    for what in ("past", "future"):
        if getattr(there, what) != getattr(panel, what):
            odd = listed(sorted({*getattr(there, what)} ^ {*getattr(panel, what)})) or "their order"
            raise DataError(f"{name}: its {what} covariates differ from those of {place} ({odd}); name them with --{what}")
    return name, there


def _refuse_gap(before: Sequence[Series], series: Series, panel: Panel, name: str) -> None:
    """An error unless a series goes on with the step after the last known value."""
    first = before[0].times
    expected = sum(map(len, before)) + np.arange(len(series.times))
    steps, on_grid = positions(series.times, first, panel.frequency)
    wrong = np.flatnonzero((steps != expected) | ~on_grid)
    if wrong.size:
        there = int(wrong[0])
        raise DataError(
            f"{name}: series {series.id!r} has {show(series.times[there])}, expected "
            f"{show(at(expected[there : there + 1], first, panel.frequency)[0])}; a file for validation or test continues the "
            "data before it, without a gap and without repeating it"
        )


def _chained(pieces: Sequence[Series]) -> Series:
    """Pieces of a series as one; what is known of the future stays after the last value only."""

    def chain(name: str) -> NDArray[Any]:
        *earlier, last = pieces
        return np.concatenate([*(getattr(piece, name)[: len(piece)] for piece in earlier), getattr(last, name)])

    if len(pieces) == 1:
        return replace(pieces[0], parts=None)
    return replace(
        pieces[0], times=chain("times"), values=chain("values"), past=chain("past"), future=chain("future"), parts=None
    )
