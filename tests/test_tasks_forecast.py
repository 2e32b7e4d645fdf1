"""Forecasting in memory: what is fitted, forecasts and their times, scores, baselines and details."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

import numpy as np
import pytest
import torch

from throughtime.data.records import Frequency, Panel, Series
from throughtime.errors import DataError
from throughtime.settings import Settings
from throughtime.tasks import Forecast
from throughtime.tasks.forecast_network import LEVEL
from throughtime.tasks.levels import spreads_with_level

from forecast_cases import PANEL, changed, lively, panel, part, prepared, series, until


def test_scales_are_found_where_every_season_has_gaps() -> None:
    wave = np.sin(2 * np.pi * np.arange(140) / 7)
    whole = prepared(panel(dataclasses.replace(series("a", 140), values=wave)))
    wave[::7] = np.nan
    task = prepared(panel(dataclasses.replace(series("a", 140), values=wave)))
    assert task.typical[0] == pytest.approx(whole.typical[0], rel=0.2)


def test_what_is_fitted_comes_from_the_training_part() -> None:
    short = panel(
        *(
            dataclasses.replace(s, times=s.times[:50], values=s.values[:50], past=s.past[:50], future=s.future[:50])
            for s in PANEL.series
        )
    )
    task = prepared(short)
    again = prepared(short)
    assert task.transforms() == again.transforms()
    valid = task.encode(part(PANEL, 50))
    assert (valid.origins[:, 1] >= 50).all()
    assert {tuple(origin) for origin in valid.origins.tolist()} == {(0, n) for n in range(50, 76)} | {
        (1, n) for n in range(50, 56)
    }
    assert task.transforms() == again.transforms()


@torch.inference_mode()
def test_a_window_is_forecast_alike_alone_and_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    task = prepared(PANEL)
    network, encoded = lively(task), task.encode(part(PANEL))
    together = task.forecasts(network, encoded)
    monkeypatch.setattr("throughtime.tasks.forecast._SCORED_WINDOWS", 1)
    alone = task.forecasts(network, encoded)
    np.testing.assert_allclose(alone.value, together.value, rtol=1e-5)
    np.testing.assert_allclose(alone.upper, together.upper, rtol=1e-5)


@torch.inference_mode()
def test_at_first_the_forecast_is_the_linear_one() -> None:
    task = prepared(PANEL)
    encoded = task.encode(part(PANEL))
    cut = encoded.windows.cut(encoded.origins)
    said = task.forecasts(task.network().eval(), encoded).value
    weights, bias = task.linear
    np.testing.assert_allclose(said, (cut.past @ weights.T + bias) * cut.scale + cut.center, rtol=1e-4)


@pytest.mark.parametrize(
    ("unit", "first", "last", "expected"),
    [
        ("M", "2023-01-31", "2024-01-31", ["2024-02-29", "2024-03-31", "2024-04-30"]),
        ("M", "2023-01-01", "2023-12-01", ["2024-01-01", "2024-02-01", "2024-03-01"]),
        ("Q", "2022-03-31", "2023-12-31", ["2024-03-31", "2024-06-30", "2024-09-30"]),
        ("Y", "2000-02-29", "2023-02-28", ["2024-02-29", "2025-02-28", "2026-02-28"]),
        ("D", "2024-01-01", "2024-02-28", ["2024-02-29", "2024-03-01", "2024-03-02"]),
    ],
)
def test_times_of_forecasts(unit: str, first: str, last: str, expected: list[str]) -> None:
    """The ends of months stay the ends of months."""
    from throughtime.data.frequency import at

    like = np.array([first, first[:8] + "31" if first.endswith("31") else first], "M8[s]")
    count = next(n for n in range(1, 200) if str(at(np.array([n - 1]), like, Frequency(unit))[0])[:10] == last)
    times = at(np.arange(count), like, Frequency(unit))
    values = 10 + np.sin(np.arange(count))
    empty = np.zeros((count, 0))
    content = Panel([Series("s", times, values, empty, empty, np.zeros(0))], Frequency(unit, 1, 1))
    task = Forecast(Settings.of({"hidden": 4, "horizon": 3, "window": 2}))
    task.prepare(part(content))
    with torch.inference_mode():
        table = task.predict(task.network().eval(), content)
    assert [str(time)[:10] for time in table["time"]] == expected
    assert table["series"] == ["s"] * 3
    assert all(low <= mid <= high for low, mid, high in zip(table["lower"], table["forecast"], table["upper"], strict=True))


@torch.inference_mode()
def test_future_covariates_must_be_known_far_enough() -> None:
    task = prepared(PANEL)
    network = lively(task)
    with pytest.raises(DataError, match=r"series a: f are known 0 steps ahead, 5 are forecast; give them with --future FILE"):
        task.predict(network, PANEL)
    ahead = panel(series("a", 80, ahead=5, missing=0.1), series("new", 30, ahead=7, seed=4))
    table = task.predict(network, ahead)
    assert table["series"] == ["a"] * 5 + ["new"] * 5
    assert np.isfinite(table["forecast"]).all()
    assert table["time"][0] == datetime(2021, 5, 20)
    assert task.predict(network, dataclasses.replace(ahead, form="month"))["time"][0] == "2021-05"
    other = changed(ahead, 0, 80, values=False, past=False, future=True)
    assert task.predict(network, other)["forecast"][:5] != table["forecast"][:5]


@torch.inference_mode()
def test_what_was_fitted_comes_back() -> None:
    task = prepared(PANEL)
    network = lively(task)
    encoded = task.encode(part(PANEL, 40))
    task.finish(network, encoded)
    again = Forecast(task.settings)
    again.restore(task.transforms())
    copy = again.network()
    copy.load_state_dict(network.state_dict())
    copy.eval()
    assert again.transforms() == task.transforms()
    assert again.score(copy, part(PANEL, 40), again.encode(part(PANEL, 40))) == task.score(network, part(PANEL, 40), encoded)
    details = again.details(copy, part(PANEL, 40), again.encode(part(PANEL, 40)))
    assert details["level"] == LEVEL
    assert len(details["per_step_mae"]["model"]) == 5
    for example in details["examples"]:
        assert len(example["times"]) == len(example["past"]) + len(example["truth"])


def test_baselines_are_scored_on_the_same_windows() -> None:
    task = prepared(PANEL)
    test = part(PANEL, 50)
    found = {baseline.name: baseline for baseline in task.baselines(part(PANEL), test)}
    assert set(found) == {"persistence", "seasonal-naive", "drift", "ridge on the window"}
    encoded = task.encode(test)
    last, truth = [], []
    for number, now in encoded.origins:
        values = PANEL.series[number].values
        known = values[:now][~np.isnan(values[:now])]
        last.append(np.full(5, known[-1]))
        truth.append(values[now : now + 5])
    assert found["persistence"].scores["mae"] == pytest.approx(np.nanmean(abs(np.array(last) - np.array(truth))))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"bidirectional": True}, "--bidirectional would let a forecast see the future"),
        ({"untied": True}, "--untied"),
        ({"window": 78, "horizon": 5}, "longest series has 80 training values.*78.*5 .*--window or --horizon"),
    ],
)
def test_what_cannot_be_forecast_is_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        prepared(PANEL, **settings)


def test_the_logarithm_is_taken_where_the_spread_grows_with_the_level() -> None:
    wave = 20 + 5 * np.sin(2 * np.pi * np.arange(120) / 12)
    growth = 1.02 ** np.arange(120)
    assert spreads_with_level([wave * growth], 12)
    assert not spreads_with_level([wave + np.arange(120)], 12)
    assert not spreads_with_level([wave * growth - 25], 12), "values below zero have no logarithm"
    assert not spreads_with_level([np.where(np.arange(120) == 50, 0.0, wave * growth)], 12)
    assert spreads_with_level([np.where(np.arange(120) == 50, np.nan, wave * growth)], 12), "a missing value does not matter"
    assert not spreads_with_level([wave * growth, wave + np.arange(120), wave + np.arange(120)], 12), "the most of the series"
    assert not spreads_with_level([wave[:30] * growth[:30]], 12), "too short to tell"
    assert not spreads_with_level([np.full(120, 7.0)], 12)


def test_what_is_modelled_as_a_logarithm_is_scored_as_it_is() -> None:
    """Values that have no logarithm, and did not occur in training, count in the scores all the same."""
    steps = np.arange(96)
    whole = dataclasses.replace(series("a", 96), values=(2 + np.sin(steps * np.pi / 6)) * 1.03**steps)
    whole.values[90] = -50.0
    task = prepared(panel(dataclasses.replace(whole, values=whole.values[:72])), horizon=6, window=24, season=12)
    assert task.logarithmic
    encoded = task.encode(part(panel(whole), 72))
    with torch.inference_mode():
        assert (task.forecasts(task.network().eval(), encoded).truth == -50.0).any()


@torch.inference_mode()
def test_seasonal_naive_looks_beyond_the_window() -> None:
    content = panel(series("a", 80), series("b", 60, seed=1))
    task = prepared(content, window=3)
    test = part(content, 50)
    assert task.layout.window < 7
    encoded = task.encode(test)
    repeated = np.array([content.series[number].values[now - 7 : now][np.arange(5) % 7] for number, now in encoded.origins])
    naive = next(b for b in task.baselines(part(until(content, 50)), test) if b.name == "seasonal-naive")
    truth = encoded.windows.truth(encoded.origins)
    assert naive.scores["mae"] == pytest.approx(abs(repeated - truth).mean())
    details = task.details(lively(task), test, encoded)
    np.testing.assert_allclose(details["per_step_mae"]["seasonal-naive"], abs(repeated - truth).mean(axis=0))


@torch.inference_mode()
def test_the_best_baseline_and_each_series_are_among_the_details() -> None:
    content = panel(series("a", 60), series("b", 60, seed=1))
    task = prepared(content)
    test = part(content, 50)
    encoded = task.encode(test)
    network = lively(task)
    assert "baseline" not in task.details(network, test, encoded)["examples"][0]
    scored = [baseline for baseline in task.baselines(part(until(content, 50)), test) if baseline.scores]
    best = min(scored, key=lambda baseline: baseline.scores["mase"])
    details = task.details(network, test, encoded, scored)
    assert {example["baseline"]["name"] for example in details["examples"]} == {best.name}
    assert np.mean(details["per_step_mae"][best.name]) == pytest.approx(best.scores["mae"])
    weights = [row["windows"] for row in details["per_series"]]
    assert sum(weights) == len(encoded.origins)
    assert [row["name"] for row in details["per_series"]] == [s.id for s in content.series]
    for key, score in (("mae", task.score(network, test, encoded)["mae"]), ("baseline_mase", best.scores["mase"])):
        assert np.average([row[key] for row in details["per_series"]], weights=weights) == pytest.approx(score)


def test_where_mase_is_undefined_the_mean_error_decides() -> None:
    flat = [dataclasses.replace(s, values=np.full(len(s), 5.0)) for s in PANEL.series]
    content = panel(*flat)
    task = prepared(content)
    test = part(content, 50)
    with torch.inference_mode():
        encoded = task.encode(test)
        scores, errors = task.score(lively(task), test, encoded), task.errors(lively(task), test, encoded)
    assert "mase" not in scores
    assert task.judged_by(scores).label == "MAE"
    assert errors.sum() / (5 * len(encoded.origins)) == pytest.approx(scores["mae"])
    assert all("mae" in baseline.scores for baseline in task.baselines(part(content), test))
