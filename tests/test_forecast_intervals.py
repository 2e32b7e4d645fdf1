"""Intervals of forecasts: they hold the forecast, and the share of values that they are meant to."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from throughtime.tasks.forecast_network import LEVEL
from throughtime.tasks.intervals import widening
from throughtime.tasks.windows import Windows

from forecast_cases import lively, panel, part, prepared, series


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


def errors_of(rng: np.random.Generator, windows: int, horizon: int) -> np.ndarray:
    """What nobody can foresee of an AR(1) series with phi .95, from every step on, ``[windows, horizon]``."""
    noise = rng.standard_normal(windows + horizon)
    errors = np.zeros((windows, horizon))
    for step in range(horizon):
        errors[:, step] = 0.95 * errors[:, step - 1] * (step > 0) + noise[step : step + windows]
    return errors


def test_windows_that_overlap_tell_little_of_a_single_step() -> None:
    """101 windows of 24 steps, five of them apart: intervals that are moved step by step hold too little of what comes."""
    held: dict[int, list[float]] = {5: [], 101: []}
    raw = 1.3 * np.sqrt(np.cumsum(0.95 ** (2 * np.arange(24))))  # deviations of the errors at each step, times less than 1.645
    for seed in range(60):
        rng = np.random.default_rng(seed)
        seen, new = errors_of(rng, 101, 24), errors_of(rng, 200, 24)
        for apart, found in held.items():
            upper, lower = (raw + widening(side - raw, apart, LEVEL) for side in (seen, -seen))
            found.append(float(((new <= upper) & (-new <= lower)).mean()))
    together, alone = np.mean(held[5]), np.mean(held[101])
    assert 0.85 < together < 0.95, "meant to hold .9"
    assert alone < together - 0.015, "the difference over 60 series is known to about .005"


def test_all_steps_are_moved_alike_by_few_windows_or_few_apart() -> None:
    outside = np.random.default_rng(0).standard_normal((120, 4)) + np.arange(4)
    for rows, apart, rank in ((99, 99, 378), (120, 9, 457)):  # ceil(.95 * 397) and ceil(.95 * 481)
        moved = widening(outside[:rows], apart, LEVEL)
        assert np.ptp(moved) == 0
        assert (outside[:rows] <= moved[0]).sum() == rank
        assert not widening(outside[:rows] - 100, apart, LEVEL).any(), "never narrower"
    single = widening(outside, 10, LEVEL)
    assert (np.diff(single) > 0.5).all()
    np.testing.assert_allclose(widening(outside - 100, 10, LEVEL), single - 100)
    outside[:, 1] = np.nan
    assert widening(outside, 10, LEVEL)[1] == 0, "nothing is known of it"


@torch.inference_mode()
@pytest.mark.parametrize(("counts", "alike"), [([140], True), ([300], False), ([60] * 10, False)])
def test_windows_of_several_series_do_not_overlap(counts: list[int], alike: bool) -> None:
    """136 windows of one series over 25 steps are 6 apart; those of ten short series 20."""
    content = panel(*(series(f"s{number}", count, seed=number) for number, count in enumerate(counts)))
    task = prepared(content, horizon=25)
    encoded = task.encode(part(content))
    assert len(encoded.origins) >= 100
    task.finish(lively(task), encoded)
    assert (np.ptp(task.widen, axis=1) == 0).all() == alike
