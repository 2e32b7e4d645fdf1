"""The linear part of a forecast: exact where the data is."""

from __future__ import annotations

import numpy as np
import pytest

from throughtime.tasks.linear import fit_linear


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
