"""The geometry of the report's figures: what lies where, and what is left out."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from throughtime.report import figures
from throughtime.report.timeline import time_ticks


def test_ticks_are_round_and_within() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        low = float(rng.normal() * 10.0 ** rng.integers(-9, 9))
        axis = figures.Axis(low, low + float(10.0 ** rng.uniform(-3, 9)), False)
        ticks = figures._ticks(axis, 5)
        values = np.array([value for value, _ in ticks])
        assert 1 <= len(ticks) <= 6
        room = 1e-6 * (axis.high - axis.low)
        assert values.min() >= axis.low - room
        assert values.max() <= axis.high + room
    assert [label for _, label in figures._ticks(figures.Axis(0, 12_000, False), 5)] == ["0", "5,000", "10,000"]
    assert [label for _, label in figures._ticks(figures.Axis(0.5, 2000, True), 5)] == ["1", "10", "100", "1,000"]
    assert [label for _, label in figures._ticks(figures.Axis(0.9, 60, True), 5)] == ["1", "2", "5", "10", "20", "50"]


def drawn(x: list[float], y: list[float | None], **options: Any) -> figures.Figure:
    figure = figures.figure("t", [figures.Curve("c", x, y, "model")], x_label="x", alt="a", **options)
    assert figure is not None
    return figure


def test_points_lie_where_their_values_say() -> None:
    f = drawn(
        [0, 5, 10],
        [1, 3, 2],
        marks=[figures.Mark(5, 3, "best"), figures.Mark(2.5, None, "note", "1"), figures.Mark(99, None, "out")],
    )
    points = np.array(re.findall(r"[ML]([\d.]+) ([\d.]+)", f.lines[0][2]), dtype=float)
    np.testing.assert_allclose(points[:, 0], np.linspace(f.left, f.right, 3), atol=0.11)
    np.testing.assert_allclose((points[0, 1] - points[2, 1]) * 2, points[0, 1] - points[1, 1], atol=0.3)
    assert f.circles == [(points[1, 0], points[1, 1], "best")]
    assert f.verticals == [(pytest.approx((f.left * 3 + f.right) / 4, abs=0.11), "1", "note")]


def test_a_line_breaks_at_gaps_and_where_training_went_back() -> None:
    assert drawn([1, 2, 3, 4], [1, None, 2, math.nan]).lines[0][2].count("M") == 2
    assert drawn([1, 2, 3, 2, 3], [1, 2, 9, 2, 3]).lines[0][2].count("M") == 2
    assert re.fullmatch(r"M[\d.]+ [\d.]+h0", drawn([3], [0.5]).lines[0][2])
    assert figures.figure("t", [figures.Curve("c", [1, 2], [None, math.inf], "model")], x_label="x", alt="a") is None


def test_a_spike_survives_thinning() -> None:
    y: list[float | None] = [0.0] * 100_000
    y[54_321] = 1.0
    f = drawn(list(range(100_000)), y)
    points = re.findall(r"[ML]([\d.]+) ([\d.]+)", f.lines[0][2])
    assert len(points) <= figures.POINTS + 2
    assert min(float(height) for _, height in points) < f.top + 10


def test_a_loss_that_exploded_is_drawn_logarithmically() -> None:
    # All in one form: beside 10⁹ stands no 1,000.
    labels = [tick.label for tick in drawn([1, 2, 3], [0.5, 1e9, 0.6], log=True).y_ticks]
    assert labels == ["10¹", "10³", "10⁵", "10⁷", "10⁹"]
    assert [label for _, label in figures._ticks(figures.Axis(1e-8, 1e8, True), 5)] == [
        "10⁻⁸",
        "10⁻⁵",
        "10⁻²",
        "10¹",
        "10⁴",
        "10⁷",
    ]
    assert all("e" not in tick.label for tick in drawn([1, 2, 3], [-0.5, 20, 0.6], log=True).y_ticks)


@pytest.mark.parametrize(
    ("times", "labels"),
    [
        (["1960-01-01T00:00:00", "1960-02-01T00:00:00"], ["1960-01", "1960-02"]),
        (["1960-01-01", "1960-01-02"], ["1960-01-01", "1960-01-02"]),
        (["2018-06-24T13:00:00", "2018-06-24T14:00:00"], ["06-24 13:00", "06-24 14:00"]),
        ([1959, 1960], ["1959", "1960"]),
    ],
)
def test_times_are_written_short(times: list[Any], labels: list[str]) -> None:
    assert figures._times(times, 2) == [(0.0, labels[0]), (1.0, labels[1])]
    assert figures._times(times, 10)[0][0] == 8  # the times of the forecast alone are the last


def test_times_are_round_and_fit() -> None:
    hours = [str(time) for time in np.datetime64("2018-04-11T06:00:00") + np.arange(120) * np.timedelta64(1, "h")]
    assert time_ticks(hours, 50) == [(18, "2018-04-12"), (66, "2018-04-14"), (114, "2018-04-16")]
    weeks = [str(day) for day in np.datetime64("2018-01-01") + 7 * np.arange(30)]  # Mondays
    assert [label for _, label in time_ticks(weeks, 50)] == ["2018-01", "2018-04", "2018-07"]
    quarters = [f"{year}Q{quarter}" for year in (2002, 2003, 2004, 2005) for quarter in (1, 2, 3, 4)][3:15]
    assert time_ticks(quarters, 51) == [(1, "2003Q1"), (5, "2004Q1"), (9, "2005Q1")]
    for letters in (20, 50, 100):
        for step in (1, 60, 900, 3600, 86_400, 7 * 86_400, 31 * 86_400):
            times = [str(time) for time in np.datetime64("1999-12-30T21:10:00", "s") + np.arange(60) * step]
            ticks = time_ticks(times, letters)
            assert sum(len(label) for _, label in ticks) < letters + 2
            assert len({len(label) for _, label in ticks}) == 1
            assert len(ticks) > 1 or letters < 30
    assert [label for _, label in time_ticks(["2020-13"] * 9, 50)] == ["2020-13"] * 4
    assert time_ticks(["a long name of a time"], 5) == [(0, "a long name of a time")]


def test_few_rates_are_not_drawn_as_a_line() -> None:
    def titles(count: int) -> list[str]:
        lines = [{"update": 10 * i, "rate": 0.001 * i, "train_loss": 0.5, "valid": {"loss": 1.0}} for i in range(count)]
        return [drawing.title for drawing in figures.curves(lines, [], "loss", "Loss", None)]

    assert titles(8) == ["Loss"]  # at update 0 there is none
    assert titles(9) == ["Loss", "Learning rate"]
    rates = figures.curves([{"update": i, "rate": 0.002 if i else 0.0} for i in range(20)], [], "", "", None)[0]
    assert min(tick.label for tick in rates.y_ticks) > "0.0010"


def test_a_point_without_neighbours_is_seen() -> None:
    f = drawn([0, 1, 2, 3], [None, 0.5, None, 0.25])
    assert f.alone(f.lines[0][2]) == f.lines[0][2]
    whole = drawn([0, 1, 2, 3], [0.1, 0.5, None, 0.25])
    assert whole.alone(whole.lines[0][2]) == "M" + whole.lines[0][2].split("M")[-1]
    assert drawn([0, 1], [0.1, 0.5]).alone(drawn([0, 1], [0.1, 0.5]).lines[0][2]) == ""


def test_the_best_baseline_stands_beside_the_forecast() -> None:
    example = {"median": [1.0, 2.0], "seasonal_naive": [0.0, 1.0], "baseline": {"name": "ridge", "value": [1.5, 2.5]}}
    f = figures.forecast(example, None)
    assert f is not None
    assert [name for _, name, _ in f.lines] == ["ridge", "forecast"]
    assert "ridge" in f.alt
    older = figures.forecast({key: value for key, value in example.items() if key != "baseline"}, None)
    assert older is not None
    assert [name for _, name, _ in older.lines] == ["seasonal-naive", "forecast"]


def test_forecasts_are_drawn_with_what_there_is() -> None:
    assert figures.forecast({}, None) is None
    only = figures.forecast({"series": "s", "median": [1.0, 2.0]}, None)
    assert only is not None
    assert only.band is None
    whole = figures.forecast(
        {
            "past": [1.0] * 500,
            "truth": [1.0, None],
            "median": [1, 2],
            "lower": [0, None],
            "upper": [2, 3],
            "seasonal_naive": [],
        },
        0.9,
    )
    assert whole is not None
    assert whole.band is not None
    assert whole.band[0] == "90 % interval"
    assert [name for _, name, _ in whole.lines] == ["past", "truth", "forecast"]
