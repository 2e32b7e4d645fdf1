"""Time series are divided by time: every part a prefix; short series are named, and files that do not go on refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from throughtime.data.records import Dataset, Frequency, Panel, Sequences, Series
from throughtime.data.split import PanelPart, Parts, split
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


def test_the_end_of_each_series_is_test() -> None:
    parts = split(panel(series("a", 100, future=7), series("b", 40)), FORECAST)
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


def test_short_series_are_left_out_or_named() -> None:
    parts = split(panel(series("a", 100), series("short", 14), series("b", 15)), FORECAST)
    assert spans(parts)[0] == [(0, 80), (0, 5)]
    assert parts.warnings == ["1 of 3 series left out, which have too few values for a horizon of 5 (at least 15): short"]
    with pytest.raises(DataError, match=r"^a.csv: series 'short' has 14 values, expected at least 15 .* with --horizon$"):
        split(panel(series("short", 14)), FORECAST)


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
    assert parts.sentence == "split: validation and test as given"
    assert spans(split(train, FORECAST, valid=valid))[2] is None
    parts = split(train, FORECAST, test=panel(series("a", 20, 50), series("b", 20, 60)))
    assert spans(parts) == [[(0, 45), (0, 54)], [(45, 50), (54, 60)], [(50, 70), (60, 80)]]
    assert parts.sentence.startswith("split: test as given; of the rest by time: of each series the last tenth")


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
