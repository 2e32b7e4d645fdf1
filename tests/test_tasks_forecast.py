"""Forecasting in memory: windows against a loop, nothing of the future in a forecast, intervals, times, and the linear part."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings as examples, strategies as st

from throughtime.data import read
from throughtime.data.records import Frequency, Panel, Series
from throughtime.data.split import split
from throughtime.data.split_panel import PanelPart
from throughtime.errors import DataError
from throughtime.settings import Settings
from throughtime.tasks import Forecast
from throughtime.tasks.forecast import EncodedPanel
from throughtime.tasks.forecast_network import LEVEL
from throughtime.tasks.levels import spreads_with_level
from throughtime.tasks.linear import fit_linear
from throughtime.tasks.windows import SMALLEST_SHARE, Layout, PanelWindows, Windows, covariates
from throughtime.transforms.calendar import calendar, cycles_seen

PAST, FUTURE = 2, 1
"""Covariates known up to now, and in advance."""


def series(name: str, count: int, *, ahead: int = 0, seed: int = 0, level: float = 10.0, missing: float = 0.0) -> Series:
    """Days of a noisy week with covariates; of some values a share is missing."""
    rng = np.random.default_rng(seed)
    steps = np.arange(count)
    values = level + 3 * np.sin(2 * np.pi * steps / 7) + 0.5 * rng.standard_normal(count)
    values[rng.random(count) < missing] = np.nan
    times = (np.datetime64("2021-03-01") + np.arange(count + ahead)).astype("M8[s]")
    return Series(
        name, times, values, rng.standard_normal((count, PAST)), rng.standard_normal((count + ahead, FUTURE)), np.array([level])
    )


def panel(*members: Series) -> Panel:
    return Panel(list(members), Frequency("D", 1, 7), ("p1", "p2"), ("f",), ("level",), "y")


def part(content: Panel, starts: int | list[int] = 0) -> PanelPart:
    return PanelPart(content, starts if isinstance(starts, list) else [starts] * len(content))


def lively(task: Forecast) -> torch.nn.Module:
    """A network whose recurrent part has a say in the forecast."""
    torch.manual_seed(0)
    network = task.network().eval()
    with torch.no_grad():
        torch.nn.init.normal_(network.head.weight)
    return network


def prepared(content: Panel, **settings: Any) -> Forecast:
    task = Forecast(Settings.of({"hidden": 6, "horizon": 5, "window": 9, "dropout": 0.0, **settings}))
    task.prepare(part(content))
    return task


PANEL = panel(series("a", 80, missing=0.1), series("b", 60, seed=1, level=-200.0))


# --- windows


def naive(
    windows: PanelWindows, values: list[np.ndarray], known: list[np.ndarray], origin: tuple[int, int]
) -> dict[str, np.ndarray]:
    """One window, step by step."""
    layout, (number, now) = windows.layout, origin
    y, typical = values[number].copy(), windows.typical[number]
    known_yet = np.flatnonzero(~np.isnan(y[:now]))
    if windows.fill and len(known_yet):  # from what is past alone; the last value is held
        between = np.arange(known_yet[0], now)
        y[between] = np.interp(between, known_yet, y[known_yet])

    def value(step: int) -> float:
        return float(y[step]) if 0 <= step < len(y) else np.nan

    past = [value(now - layout.window + step) for step in range(layout.window)]
    seen = [x for x in past if not np.isnan(x)]
    center = sum(seen) / len(seen) if seen else 0.0
    spread = (sum((x - center) ** 2 for x in seen) / len(seen)) ** 0.5 if seen else 0.0
    scale = max(spread, SMALLEST_SHARE * typical) if windows.own else typical
    rows = []
    for step in range(-layout.window, layout.horizon):
        x = value(now + step) if step < 0 else np.nan
        row = [0.0 if np.isnan(x) else (x - center) / scale, 0.0 if np.isnan(x) else 1.0]
        for lag in layout.lags:
            back = now + step
            while True:
                back -= lag
                if back < now:
                    break
            x = value(back)
            row.append(0.0 if np.isnan(x) else (x - center) / scale)
        row.append(np.log(max(spread, SMALLEST_SHARE * typical) / typical))
        of_step = known[number][now + step].copy() if now + step >= 0 else np.zeros(known[number].shape[1])
        if step >= 0:
            of_step[:PAST] = 0
        rows.append([*row, *of_step])
    future = [(value(now + step) - center) / scale for step in range(layout.horizon)]
    carried, last = [], next(((x - center) / scale for x in past if not np.isnan(x)), 0.0)
    for x in past:
        last = last if np.isnan(x) else (x - center) / scale
        carried.append(last)
    return {"features": np.array(rows), "past": np.array(carried), "future": np.array(future), "center": center, "scale": scale}


@examples(deadline=None, max_examples=25)
@given(
    st.integers(1, 9),
    st.integers(1, 6),
    st.lists(st.integers(2, 8), max_size=2, unique=True),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(0, 3),
)
def test_windows_against_a_loop(
    window: int, horizon: int, lags: list[int], own: bool, fill: bool, missing: float, seed: int
) -> None:
    content = panel(series("a", 20, seed=seed, missing=missing), series("b", 13, seed=seed + 9))
    layout = Layout(window, horizon, tuple(sorted(lags)), ("week",))
    known = [covariates(s, content, layout.cycles, horizon).astype(np.float32) for s in content.series]
    known = [np.nan_to_num(block) for block in known]
    values = [s.values for s in content.series]
    windows = PanelWindows(content, layout, known, np.array([1.5, 2.0]), values, own, fill)
    origins = windows.origins([0, 0], complete=False)
    assert origins.tolist() == [[0, n] for n in range(1, 21)] + [[1, n] for n in range(1, 14)]
    cut = windows.cut(origins)
    for row, (number, now) in enumerate(origins.tolist()):
        expected = naive(windows, values, known, (number, now))
        np.testing.assert_allclose(cut.features[:, row], expected["features"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(cut.past[row], expected["past"], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(cut.future[row], expected["future"], rtol=1e-9, atol=1e-9)
        assert cut.center[row, 0] == pytest.approx(expected["center"], abs=1e-9)
        assert cut.scale[row, 0] == pytest.approx(expected["scale"])
    assert np.isfinite(cut.features).all()
    assert np.isfinite(cut.past).all()


def test_origins() -> None:
    content = panel(series("a", 12), series("b", 4))
    layout = Layout(3, 5, (), ())
    known = [np.zeros((len(s) + 5, 0), np.float32) for s in content.series]
    windows = PanelWindows(panel(*content.series), layout, known, np.ones(2), [s.values for s in content.series], True, False)
    assert windows.origins([0, 0], least=3).tolist() == [[0, n] for n in range(3, 8)], "the whole future is there"
    assert windows.origins([6, 0]).tolist() == [[0, 6], [0, 7]], "nothing before the part's own beginning"
    assert windows.origins([1, 1], every=3).tolist() == [[0, 1], [0, 4], [0, 7]], "the last is always among them"
    assert windows.origins([12, 4], complete=False).tolist() == [[0, 12], [1, 4]]
    content.series[0].values[5:10] = np.nan
    assert [0, 5] not in windows.origins([1, 1]).tolist(), "nothing of that future is known"
    assert [0, 6] in windows.origins([1, 1]).tolist()


# --- nothing of the future


def changed(content: Panel, number: int, now: int, *, values: bool = True, past: bool = True, future: bool = False) -> Panel:
    """Other values from ``now`` on."""
    s = content.series[number]
    fields: dict[str, Any] = {}
    for name, change in (("values", values), ("past", past), ("future", future)):
        if change:
            array = getattr(s, name).copy()
            array[now:] = 1e3 + np.arange(len(array) - now).reshape(-1, *[1] * (array.ndim - 1))
            fields[name] = array
    others = list(content.series)
    others[number] = dataclasses.replace(s, **fields)
    return dataclasses.replace(content, series=others)


@torch.inference_mode()
@pytest.mark.parametrize("missing", ["mask", "interpolate"])
@pytest.mark.parametrize("now", [1, 3, 30, 70])
def test_what_comes_later_changes_no_feature_and_no_forecast(now: int, missing: str) -> None:
    task = prepared(PANEL, missing=missing)
    network = lively(task)
    origins = np.array([[0, now]])
    whole, other = task.windows(PANEL), task.windows(changed(PANEL, 0, now))
    first, second = whole.cut(origins), other.cut(origins)
    for name in ("features", "past", "center", "scale"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    said, again = (task.forecasts(network, EncodedPanel(windows, origins)) for windows in (whole, other))
    assert np.array_equal(said.value, again.value)
    assert np.array_equal(said.lower, again.lower)
    ahead = task.windows(changed(PANEL, 0, now, values=False, past=False, future=True)).cut(origins)
    assert not np.array_equal(ahead.features, first.features), "what is known in advance is seen"
    assert np.array_equal(ahead.features[: task.layout.window], first.features[: task.layout.window])
    shifted = task.windows(changed(PANEL, 0, now - 1)).cut(origins)
    assert not np.array_equal(shifted.features, first.features), "the last value is seen"


def test_values_after_a_gap_are_not_seen_in_it_and_what_is_filled_in_is_not_scored(tmp_path: Path) -> None:
    """From the file on: a gap is forecast from what lies before it, and the same truths count whatever is done about it."""
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.standard_normal(300)) + 100
    gap = np.arange(251, 258)

    def written(name: str, later: float) -> Path:
        path = tmp_path / name
        rows = [f"{n},{value + later * (n > gap[-1]):.4f}" for n, value in enumerate(values) if n not in gap]
        path.write_text("\n".join(["step,y", *rows]))
        return path

    truths = []
    for missing in ("interpolate", "mask"):
        settings = Settings.of(
            {"task": "forecast", "missing": missing, "horizon": 4, "window": 12, "season": 1, "hidden": 4, "dropout": 0.0}
        )
        known, other = (read(written(name, later), settings) for name, later in (("a.csv", 0), ("b.csv", 50)))
        first, second = (split(dataset, settings) for dataset in (known, other))
        for side in ("train", "valid"):
            one, two = (getattr(parts, side).panel.series[0].values for parts in (first, second))
            assert np.array_equal(one[: gap[0]], two[: gap[0]], equal_nan=True)
            assert np.isnan(one[gap[0] : gap[-1]]).all()
        task = Forecast(settings)
        assert isinstance(first.train, PanelPart)
        task.prepare(first.train)
        network, origins = lively(task), np.array([[0, n] for n in range(gap[0], gap[-1] + 2)])
        assert isinstance(known.content, Panel)
        assert isinstance(other.content, Panel)
        with torch.inference_mode():
            said, again = (
                task.forecasts(network, EncodedPanel(task.windows(content), origins))
                for content in (known.content, other.content)
            )
        assert np.array_equal(said.value, again.value), "a forecast within the gap knows nothing of its other side"
        assert np.isnan(said.truth[0]).all()
        assert isinstance(first.valid, PanelPart)
        encoded = task.encode(first.valid)
        truths.append(encoded.windows.truth(encoded.origins))
    assert np.array_equal(*truths, equal_nan=True)
    assert np.isnan(truths[0]).any()


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


# --- forecasts


@torch.inference_mode()
@pytest.mark.parametrize("logarithmic", [False, True])
def test_intervals_hold_the_forecast_and_scores_those_of_predictions(logarithmic: bool) -> None:
    members = [series("a", 80, missing=0.1, level=50), series("b", 60, seed=1, level=900)]
    if logarithmic:
        members = [dataclasses.replace(s, values=s.values * 1.05 ** np.arange(len(s))) for s in members]
    content = panel(*members)
    task = prepared(content)
    assert task.logarithmic is logarithmic
    network = lively(task)
    encoded = task.encode(part(content))
    task.finish(network, encoded)
    found = task.forecasts(network, encoded)
    assert (found.lower <= found.value).all()
    assert (found.value <= found.upper).all()
    for row, (number, now) in enumerate(encoded.origins):
        np.testing.assert_allclose(found.truth[row], members[number].values[now : now + 5], rtol=1e-9)
    scores = task.evaluate(network, encoded)
    errors = abs(found.truth - found.value)
    assert scores["mae"] == pytest.approx(np.nanmean(errors))
    inside = (found.truth >= found.lower) & (found.truth <= found.upper)
    assert scores["coverage"] == pytest.approx(inside[~np.isnan(found.truth)].mean())
    naive_errors = {n: np.nanmean(abs(s.values[7:] - s.values[:-7])) for n, s in enumerate(members)}
    scaled = errors / np.array([naive_errors[n] for n in encoded.origins[:, 0]])[:, None]
    assert scores["mase"] == pytest.approx(np.nanmean(scaled))


@torch.inference_mode()
@pytest.mark.parametrize("count", [90, 900])
def test_intervals_hold_their_share_of_what_they_were_calibrated_on(count: int) -> None:
    content = panel(series("a", count))
    task = prepared(content)
    network = lively(task)
    encoded = task.encode(part(content))
    task.finish(network, encoded)
    coverage = task.evaluate(network, encoded)["coverage"]
    assert coverage >= LEVEL - 0.001
    if count == 900:
        assert coverage < LEVEL + 0.03
    widths = task.forecasts(network, encoded)
    task.finish(network, encoded)
    again = task.forecasts(network, encoded)
    assert np.array_equal(widths.lower, again.lower), "finishing twice changes nothing"


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


def test_every_window_is_learnt_from_once_an_epoch() -> None:
    task = prepared(PANEL, batch=16)
    encoded = task.encode(part(PANEL))
    feed = task.feed(encoded)
    batches = [feed.batch(0, index) for index in range(len(feed))]
    assert sum(batch.sequences for batch in batches) == len(encoded.origins)
    everything = encoded.windows.cut(encoded.origins).past.astype(np.float32)
    assert sorted(map(tuple, torch.cat([batch.past for batch in batches]).tolist())) == sorted(map(tuple, everything.tolist()))
    alone = task.feed(encoded).batch(0, 3)
    assert torch.equal(alone.features, batches[3].features)
    assert not torch.equal(task.feed(encoded).batch(1, 3).features, alone.features)


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


# --- the scale


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


# --- the linear part


def wave_windows(count: int, window: int, horizon: int, season: int, trend: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    shape = np.random.default_rng(3).standard_normal(season)
    y = shape[np.arange(count + window + horizon) % season] + trend * np.arange(count + window + horizon)
    rows = np.stack([y[n : n + window + horizon] for n in range(count)])
    return rows[:, :window], rows[:, window:]


@pytest.mark.parametrize("trend", [0.0, 0.05])
@pytest.mark.parametrize("count", [12, 60, 600])
def test_an_exact_season_is_found(count: int, trend: float) -> None:
    past, future = wave_windows(count, 28, 10, 7, trend)
    weights, bias = fit_linear(past, future, 7)
    assert weights.shape == (10, 28)
    assert bias.shape == (10,)
    error = abs(past @ weights.T + bias - future).mean()
    naive_error = abs(past[:, -1:] - future).mean()
    assert error < (0.1 if trend else 0.06) * naive_error


def test_an_exact_linear_map_is_found() -> None:
    rng = np.random.default_rng(0)
    truth, past = rng.standard_normal((4, 9)), rng.standard_normal((2000, 9))
    truth[:, -1] += 1 - truth.sum(1)  # a higher window gives a forecast as much higher
    future = past @ truth.T + 0.5
    weights, bias = fit_linear(past, future, 1)
    np.testing.assert_allclose(weights, truth, atol=0.02)
    np.testing.assert_allclose(bias, 0.5, atol=0.02)


@pytest.mark.parametrize("season", [1, 3, 50])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_windows_and_missing_values_do_no_harm(count: int, season: int) -> None:
    rng = np.random.default_rng(0)
    past, future = rng.standard_normal((count, 6)), rng.standard_normal((count, 4))
    holes = np.where(rng.random(future.shape) < 0.5, np.nan, future)
    holes[:, 0] = future[:, 0]  # each window has some value in its future
    for missing in (future, holes):
        weights, bias = fit_linear(past, missing, season)
        assert np.isfinite(weights).all()
        assert np.isfinite(bias).all()


# --- the calendar


def test_cycles_are_circles() -> None:
    hours = np.arange("2024-01-01", "2024-03-01", dtype="M8[h]").astype("M8[s]")
    found = calendar(hours, ("day", "week"))
    assert found.shape == (len(hours), 8)
    np.testing.assert_allclose(found[24:], calendar(hours, ("day", "week"))[24:])
    np.testing.assert_allclose(found[:-24, :4], found[24:, :4], atol=1e-5)
    np.testing.assert_allclose(found[:-168], found[168:], atol=1e-5)
    np.testing.assert_allclose(found[:, 0] ** 2 + found[:, 1] ** 2, 1, atol=1e-5)
    assert len(np.unique(found[:168].round(4), axis=0)) == 168, "every hour of the week has a place of its own"
    np.testing.assert_allclose(found[6, :4], [1, 0, 0, -1], atol=1e-6)
    assert calendar(hours, ()).shape == (len(hours), 0)


def test_years_begin_with_january_in_leap_years_too() -> None:
    firsts = np.array(["2023-01-01", "2024-01-01", "2025-01-01", "1969-01-01"], "M8[s]")
    np.testing.assert_allclose(calendar(firsts, ("year",)), [[0, 1, 0, 1]] * 4, atol=1e-6)


@pytest.mark.parametrize(
    ("unit", "start", "stop", "expected"),
    [
        ("h", "2024-01-01", "2024-01-02", ()),
        ("h", "2024-01-01", "2024-01-04", ("day",)),
        ("h", "2024-01-01", "2024-03-01", ("day", "week")),
        ("D", "2020-01-01", "2022-03-01", ("week", "year")),
        ("M", "2020-01", "2021-01", ()),
        ("M", "2020-01", "2024-01", ("year",)),
        ("Y", "1900", "2000", ()),
    ],
)
def test_only_cycles_that_come_round_twice(unit: str, start: str, stop: str, expected: tuple[str, ...]) -> None:
    assert cycles_seen(np.arange(start, stop, dtype=f"M8[{unit}]").astype("M8[s]"), unit) == expected


def test_plain_steps_have_no_calendar() -> None:
    assert cycles_seen(np.arange(1000), "step") == ()


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


# --- other data than that of the fit


def with_kinds(*kinds: str, count: int = 60, names: tuple[str, ...] | None = None) -> Panel:
    """Series without covariates but for a category each, in the columns that reading it makes of categories."""
    columns = sorted(set(kinds)) if names is None else names
    empty = np.zeros((count, 0))
    members = [
        dataclasses.replace(
            series(f"s{number}", count, seed=number),
            past=empty,
            future=empty,
            static=np.array([float(kind == c) for c in columns]),
        )
        for number, kind in enumerate(kinds)
    ]
    return Panel(members, Frequency("D", 1, 7), (), (), tuple(f"kind={c}" for c in columns), "y")


@torch.inference_mode()
def test_categories_of_other_data_are_those_of_the_fit() -> None:
    task = prepared(with_kinds("a", "b", "c"))
    network = lively(task)
    whole = task.predict(network, with_kinds("c", "b", names=("a", "b", "c")))
    fewer = task.predict(network, with_kinds("c", "b"))
    assert whole == fewer, "a file without kind a has no column for it"
    alone = task.predict(network, with_kinds("c"))
    assert alone["forecast"] == pytest.approx(whole["forecast"][:5], rel=1e-6)
    assert task.predict(network, with_kinds("a"))["forecast"] != alone["forecast"]
    with pytest.raises(DataError, match=r"series 's1': kind is 'd', which it is for no training series \(a, b, c\)"):
        task.predict(network, with_kinds("a", "d"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            dataclasses.replace(PANEL, static=("size",)),
            "have covariates p1, p2, f, size; the model was fitted on p1, p2, f, level",
        ),
        (dataclasses.replace(PANEL, past=("p2", "p1")), "have covariates p2, p1, f, level"),
        (with_kinds("a", "b"), "have covariates kind=a, kind=b"),
        (
            dataclasses.replace(PANEL, frequency=Frequency("h", 1, 24)),
            "a value every hour, but the model was fitted on one every day",
        ),
    ],
    ids=["static", "order", "other", "frequency"],
)
def test_series_unlike_those_of_the_fit_are_named(content: Panel, says: str) -> None:
    task = prepared(PANEL)
    with pytest.raises(DataError, match=says):
        task.windows(content)


def until(content: Panel, end: int) -> Panel:
    """The first values of every series."""
    return dataclasses.replace(
        content,
        series=[
            dataclasses.replace(s, times=s.times[:end], values=s.values[:end], past=s.past[:end], future=s.future[:end])
            for s in content.series
        ],
    )


def since(content: Panel, begin: int) -> Panel:
    """All but the first values of every series."""
    return dataclasses.replace(
        content,
        series=[
            dataclasses.replace(s, times=s.times[begin:], values=s.values[begin:], past=s.past[begin:], future=s.future[begin:])
            for s in content.series
        ],
    )


@torch.inference_mode()
def test_what_the_fit_did_not_see_is_scored() -> None:
    task = prepared(until(PANEL, 40))
    network = lively(task)
    task.finish(network, task.encode(part(until(PANEL, 50), 40)))
    kept = Forecast(task.settings)
    kept.restore(task.transforms())
    for same in (task, kept):
        found, note = same.held_out(dataclasses.replace(PANEL, form="day"))
        assert found.starts == [50, 50], "training and validation are over"
        assert note == " after 2021-04-19, which the fit did not see"
        assert same.amount(found, same.encode(found)) == "32 windows of 2 series"
        assert "coverage" in same.score(network, found, same.encode(found))
    later, _ = task.held_out(since(PANEL, 30))
    assert later.starts == [20, 20], "the same values, however much past the file holds"
    again, _ = task.held_out(since(PANEL, 48))
    assert again.starts == [9, 9], "a forecast looks back on a window"
    seen, note = task.held_out(until(PANEL, 50))
    assert (seen.starts, note) == ([9, 9], ", all of which the fit saw")
    assert "coverage" not in task.score(network, seen, task.encode(seen)), "the intervals were fitted to these"
    assert "coverage" not in task.details(network, seen, task.encode(seen))
    with pytest.raises(
        DataError, match=r"series 'a' has 3 values that the fit did not see, after 50 others; .* takes 5 of them, after 9"
    ):
        task.held_out(until(PANEL, 53))
    with pytest.raises(DataError, match=r"has 10 values that the fit did not see, after 0 others"):
        task.held_out(since(until(PANEL, 60), 50))
    new, note = task.held_out(panel(series("new", 30)))
    assert (new.starts, note) == ([9], ", which the fit did not see")


@pytest.mark.parametrize(("count", "rank"), [(100, 96), (199, 190), (999, 950), (1000, 951), (5000, 4751)])
def test_the_ends_of_intervals_are_moved_by_the_right_rank(count: int, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of n distances the ceil((n + 1) * .95)-th smallest."""
    task = prepared(panel(series("a", 60)), horizon=1)
    encoded = task.encode(part(panel(series("a", 60))))
    distances = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    zero = np.zeros((count, 1))
    made = Windows(np.zeros((10, count, 1), np.float32), zero, -distances[:, None], zero, zero)
    monkeypatch.setattr(task, "_answers", lambda *_: iter([(made, torch.zeros(count, 1, 3))]))
    task.finish(lively(task), encoded)
    assert task.widen[0, 0] == rank


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


@torch.inference_mode()
def test_looking_back_beyond_the_beginning_finds_nothing() -> None:
    content = panel(series("a", 20), series("b", 20, seed=1))
    windows = prepared(content, window=3, horizon=2).windows(content)
    found = windows.look_back(np.array([[0, 4], [1, 9]]), 6)
    assert np.isnan(found[0, :2]).all()
    np.testing.assert_array_equal(found[0, 2:], content.series[0].values[:4])
    np.testing.assert_array_equal(found[1], content.series[1].values[3:9])


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
