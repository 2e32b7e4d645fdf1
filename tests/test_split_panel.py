"""Time series are divided by time: every part a prefix; short series are named, and files that do not go on refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from throughtime.data.records import Dataset, Frequency, Panel, Sequences, Series
from throughtime.data.split import PanelPart, Parts, split
from throughtime.data.times import show
from throughtime.errors import DataError
from throughtime.settings import Settings

HOURLY = Frequency("h", 1, 24)
FORECAST = Settings().replace(horizon=5)


def series(name: str, count: int, start: int = 0, future: int = 0, **more: Any) -> Series:
    times = np.datetime64("2024-01-01T00", "s") + np.arange(start, start + count + future) * np.timedelta64(3600, "s")
    numbers = np.arange(start, start + count + future, dtype=np.float64)
    return Series(name, times, numbers[:count], numbers[:count, None], numbers[:, None], np.zeros(0), **more)


def panel(*chosen: Series, name: str = "a.csv", frequency: Frequency = HOURLY) -> Dataset:
    return Dataset("forecast", Panel(list(chosen), frequency, ("p",), ("f",)), "", files=[Path(name)])


def spans(parts: Parts) -> list[list[tuple[int, int]] | None]:
    """Per part and series, the first value of its own and its end; checks that everything is a prefix."""
    found: list[list[tuple[int, int]] | None] = []
    for part in (parts.train, parts.valid, parts.test):
        if part is None:
            found.append(None)
            continue
        assert isinstance(part, PanelPart)
        for one in part.panel.series:
            assert one.values.tolist() == [*range(len(one))]
            assert one.past[:, 0].tolist() == [*range(len(one))]
            assert one.future[:, 0].tolist() == [*range(len(one.times))]
            assert len(one.times) >= len(one)
        found.append([(start, len(one)) for start, one in zip(part.starts, part.panel.series, strict=True)])
    return found


STEPS = Frequency("step")


def counted(chosen: Series) -> Series:
    """The same with plain steps for times."""
    return dataclasses.replace(chosen, times=(chosen.times - np.datetime64("2024-01-01", "s")).astype(np.int64) // 3600)


def test_the_end_of_each_series_is_test() -> None:
    both = [counted(series("a", 100, future=7)), counted(series("b", 40))]
    parts = split(panel(*both, frequency=STEPS), FORECAST)
    assert spans(parts) == [[(0, 80), (0, 30)], [(80, 90), (30, 35)], [(90, 100), (35, 40)]]
    assert isinstance(parts.test, PanelPart)
    assert isinstance(parts.train, PanelPart)
    assert [len(part.panel.series[0].times) for part in (parts.train, parts.test)] == [80, 107]
    assert parts.sentence == (
        "split: by time: of each series the last tenth, and at least 5, values are test, as many before them validation"
    )
    parts = split(panel(series("a", 100)), Settings())
    assert spans(parts) == [[(0, 52)], [(52, 76)], [(76, 100)]]
    assert parts.sentence == "split: by time: of the series the last 24 values are test, as many before them validation"


def begins(parts: Parts) -> list[np.ndarray]:
    """Per part, the times of the own values of all its series."""
    sides = [part for part in (parts.train, parts.valid, parts.test) if isinstance(part, PanelPart)]
    return [
        np.concatenate([one.times[start : len(one)] for start, one in zip(part.starts, part.panel.series, strict=True)])
        for part in sides
    ]


@pytest.mark.parametrize(
    "members",
    [
        [("long", 1000, 0), ("short", 200, 800)],
        [("long", 1000, 0), ("early", 300, 0), ("late", 200, 790)],
        [("a", 500, 0), ("b", 500, 3), ("c", 499, 1), ("d", 480, 6)],
        [("a", 60, 0), *((f"b{n}", 59, 0) for n in range(9))],
        [("a", 125, 0), ("b", 125, 0), ("c", 125, 0)],
    ],
)
def test_series_of_one_calendar_are_cut_at_the_same_times(members: list[tuple[str, int, int]]) -> None:
    """Nothing is trained on that is later than anything that is scored."""
    content = panel(*(later(name, count, start) for name, count, start in members))
    for settings in (FORECAST, FORECAST.replace(horizon=12)):
        parts = split(content, settings)
        train, valid, test = begins(parts)
        assert train.max() < valid.min()
        assert valid.max() < test.min()
        assert isinstance(parts.test, PanelPart)
        whole = sum(len(one) - start >= 5 for start, one in zip(parts.test.starts, parts.test.panel.series, strict=True))
        assert 2 * whole >= sum(len(one) > start for start, one in zip(parts.test.starts, parts.test.panel.series, strict=True))
        assert f"validation from {show(valid.min())} on, test from {show(test.min())} on" in parts.sentence
        # The part that begins one time earlier has more than a tenth, and a time has at most one value of each series.
        assert len(test) > sum(count for _, count, _ in members) // 10 - len(members)


def later(name: str, count: int, start: int) -> Series:
    """A series that begins later; its values count from 0."""
    own = series(name, count)
    return dataclasses.replace(own, times=own.times + np.timedelta64(start * 3600, "s"))


def test_series_that_end_early_only_train_and_those_that_begin_late_are_left_out() -> None:
    parts = split(panel(later("a", 200, 0), later("early", 100, 0), later("late", 12, 188), later("b", 200, 0)), FORECAST)
    assert spans(parts)[1:] == [[(156, 181), (100, 100), (156, 181)], [(181, 200), (100, 100), (181, 200)]]
    assert spans(parts)[0] == [(0, 156), (0, 100), (0, 156)]
    assert parts.warnings == [
        "1 of 4 series left out, which have no more training values than the horizon of 5: late",
        "1 of 3 series have fewer values in the validation part than the horizon of 5, and are not scored there: early",
        "1 of 3 series have fewer values in the test part than the horizon of 5, and are not scored there: early",
    ]


def test_series_that_follow_each_other_are_cut_each_by_its_own_length() -> None:
    parts = split(panel(*(later(f"machine {n}", 50, 60 * n) for n in range(20))), FORECAST)
    assert spans(parts)[0] == [(0, 40)] * 20
    assert parts.sentence.endswith(
        "of each series the last 5 values are test, as many before them validation, since the series hardly overlap"
    )


def test_short_series_are_left_out_or_named() -> None:
    both = [counted(one) for one in (series("a", 100), series("short", 15), series("b", 16))]
    parts = split(panel(*both, frequency=STEPS), FORECAST)
    assert spans(parts)[0] == [(0, 80), (0, 6)]
    assert parts.warnings == ["1 of 3 series left out, which have no more training values than the horizon of 5: short"]
    with pytest.raises(DataError, match=r"^a.csv: series 'short' has 15 values, expected at least 16 .* with --horizon$"):
        split(panel(series("short", 15)), FORECAST)


def test_marked_series() -> None:
    marks = ["train"] * 70 + ["valid"] * 20 + ["test"] * 10
    settings = FORECAST.replace(split_column="fold")
    parts = split(panel(series("a", 100, parts=marks)), settings)
    assert spans(parts) == [[(0, 70)], [(70, 90)], [(90, 100)]]
    assert parts.sentence == "split: by column 'fold'"
    parts = split(panel(series("a", 100, parts=["train"] * 90 + ["test"] * 10)), settings)
    assert spans(parts) == [[(0, 81)], [(81, 90)], [(90, 100)]]
    parts = split(panel(series("a", 100, parts=["train"] * 90 + ["valid"] * 10)), settings)
    assert spans(parts) == [[(0, 90)], [(90, 100)], None]
    with pytest.raises(DataError, match=r"column 'fold' marks 2024-01-04 18:00:00 as train after test, expected train, then"):
        split(panel(series("a", 100, parts=["train"] * 80 + ["test"] * 10 + ["train"] * 10)), settings)
    with pytest.raises(DataError, match=r"marks nothing as train"):
        split(panel(series("a", 100, parts=["test"] * 100)), settings)
    with pytest.raises(DataError, match=r"the test part has at most 4 values in a series, fewer than the horizon of 5"):
        split(panel(series("a", 100, parts=["train"] * 70 + ["valid"] * 26 + ["test"] * 4)), settings)


def test_series_go_on_in_further_files() -> None:
    train = panel(series("a", 50, future=30), series("b", 60))
    valid = panel(series("b", 10, 60), series("a", 10, 50), name="valid.csv")
    test = panel(series("a", 20, 60, future=3), name="test.csv")
    parts = split(train, FORECAST, valid=valid, test=test)
    assert spans(parts) == [[(0, 50), (0, 60)], [(50, 60), (60, 70)], [(60, 80), (70, 70)]]
    assert isinstance(parts.test, PanelPart)
    assert len(parts.test.panel.series[0].times) == 83
    assert parts.sentence == "split: as given: trained on a.csv, validated on valid.csv, tested on test.csv"
    assert parts.warnings == [
        "1 of 2 series have fewer values in the test part than the horizon of 5, and are not scored there: b"
    ]
    assert spans(split(train, FORECAST, valid=valid))[2] is None
    parts = split(train, FORECAST, test=panel(series("a", 20, 50), series("b", 20, 60)))
    assert spans(parts) == [[(0, 50), (0, 50)], [(50, 50), (50, 60)], [(50, 70), (60, 80)]]
    assert parts.sentence == (
        "split: as given: trained on a.csv, tested on a.csv; of the rest by time: all series at the same times, "
        "validation from 2024-01-03 02:00:00 on"
    )


@pytest.mark.parametrize(
    ("given_part", "message"),
    [
        (
            panel(series("a", 10, 51), name="v.csv"),
            r"^v.csv: series 'a' has 2024-01-03 03:00:00, expected 2024-01-03 02",
        ),
        (
            panel(series("a", 10, 0), name="v.csv"),
            r"^v.csv: series 'a' has 2024-01-01, expected 2024-01-03 02:00:00; .* repea",
        ),
        (panel(series("c", 10, 50), name="v.csv"), r"^v.csv: series 'c' is not in a.csv"),
        (
            panel(series("a", 10, 50), name="v.csv", frequency=Frequency("D")),
            r"^v.csv: has a value every day, but a.csv every",
        ),
        (
            Dataset("lm", Sequences("text", ["a"]), "", files=[Path("v.csv")]),
            r"^v.csv: holds text, but a.csv holds time series",
        ),
        (
            Dataset("forecast", Panel([series("a", 10, 50)], HOURLY, ("p",), ("f", "g")), "", files=[Path("v.csv")]),
            r"^v.csv: its future covariates differ from those of a.csv \(g\)",
        ),
    ],
)
def test_files_that_do_not_go_on_are_named(given_part: Dataset, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(panel(series("a", 50)), FORECAST, valid=given_part)


def test_months_go_on() -> None:
    def monthly(first: str, count: int) -> Series:
        times = (np.datetime64(first, "M") + np.arange(1, count + 1)).astype("M8[s]") - np.timedelta64(86400, "s")  # month ends
        return Series("a", times, np.ones(count), np.ones((count, 0)), np.ones((count, 0)), np.zeros(0))

    train, valid, late = (
        Dataset("forecast", Panel([monthly(first, count)], Frequency("M", 1, 12)), "", files=[Path("m.csv")])
        for first, count in (("2020-01", 25), ("2022-02", 12), ("2022-03", 12))
    )
    assert isinstance(split(train, Settings(), valid=valid).valid, PanelPart)
    with pytest.raises(DataError, match="has 2022-03-31, expected 2022-02-28"):
        split(train, Settings(), valid=late)
