"""Windows of series against a loop, where they begin, and nothing of the future in any of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings as examples, strategies as st

from throughtime.data import read
from throughtime.data.records import Panel
from throughtime.data.split import split
from throughtime.data.split_panel import PanelPart
from throughtime.settings import Settings
from throughtime.tasks import Forecast
from throughtime.tasks.forecast_network import EncodedPanel
from throughtime.tasks.windows import SMALLEST_SHARE, Layout, PanelWindows, covariates

from forecast_cases import PANEL, PAST, changed, lively, panel, part, prepared, series


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


@torch.inference_mode()
def test_looking_back_beyond_the_beginning_finds_nothing() -> None:
    content = panel(series("a", 20), series("b", 20, seed=1))
    windows = prepared(content, window=3, horizon=2).windows(content)
    found = windows.look_back(np.array([[0, 4], [1, 9]]), 6)
    assert np.isnan(found[0, :2]).all()
    np.testing.assert_array_equal(found[0, 2:], content.series[0].values[:4])
    np.testing.assert_array_equal(found[1], content.series[1].values[3:9])
