"""The linear forecast that a recurrent one starts from: fitted in closed form, chosen by the end of the training windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from throughtime.tasks.baselines.forecast import WindowRidge

Linear = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Weights ``[H, W]`` and bias ``[H]``."""

_WINDOWS = 4000
_ROUNDS = 15


def fit_linear(past: NDArray[np.float64], future: NDArray[np.float64], season: int) -> Linear:
    """The better of two linear forecasts, by mean absolute error on the last fifth of the windows.

    One is ridge regression from every value of the window to every step, which needs many windows. The other has a handful of
    coefficients for all steps together: the shapes of the last seasons, their level and its trend, and how far the last values
    are from those a season before, which fades out.

    Args:
        past: scaled windows ``[N, W]`` in the order of time, none missing.
        future: ``[N, H]``; NaN is missing.
        season: steps.
    """
    head = len(past) - len(past) // 5
    fits = [_ridge] + ([lambda p, f: _seasonal(p, f, season)] if 1 < season <= past.shape[1] else [])
    # Windows that reach into the held-out ones are no training windows for this choice.
    apart = max(head - future.shape[1], min(head, 1))
    errors = []
    for fit in fits:
        weights, bias = fit(past[:apart], future[:apart])
        errors.append(float(np.nanmean(abs(past[head:] @ weights.T + bias - future[head:]))) if head < len(past) else 0.0)
    return fits[int(np.argmin(np.array(errors)))](past, future)


def _ridge(past: NDArray[np.float64], future: NDArray[np.float64]) -> Linear:
    W, H = past.shape[1], future.shape[1]
    try:
        ridge = WindowRidge().fit(past, future)
    except ValueError:  # no window with a complete future: the last value
        return np.repeat(np.eye(W)[-1:], H, axis=0), np.zeros(H)
    bias = ridge.predict(np.zeros((1, W)))[0]
    return (ridge.predict(np.eye(W)) - bias).T, bias


def _seasonal(past: NDArray[np.float64], future: NDArray[np.float64], season: int) -> Linear:
    basis = _basis(past.shape[1], future.shape[1], season)  # [F, H, W]
    rows = np.linspace(0, len(past) - 1, min(len(past), _WINDOWS)).astype(np.int64)
    features = np.einsum("fhw,nw->nhf", basis, past[rows], optimize=True)
    known = ~np.isnan(future[rows])
    x, y = features[known], future[rows][known]
    weight = np.ones(len(y))
    ridge = 1e-3 * np.eye(x.shape[1])
    for _ in range(_ROUNDS):  # least absolute error, by least squares with weights: one heat wave must not set the coefficients
        wx = x * weight[:, None]
        coefficients = np.linalg.solve(wx.T @ x / len(y) + ridge, wx.T @ y / len(y))
        weight = 1 / np.maximum(abs(y - x @ coefficients), 0.05)
    return np.einsum("f,fhw->hw", coefficients, basis), np.zeros(future.shape[1])


def _basis(W: int, H: int, season: int) -> NDArray[np.float64]:
    """What the forecast is a sum of, each a linear function of the window: ``[F, H, W]``."""
    seasons = min(3, W // season)
    steps = np.arange(H)

    def mean_of(first: int, last: int) -> NDArray[np.float64]:
        """Weights of the mean of the values from ``first`` to ``last`` steps before the forecast."""
        weights = np.zeros(W)
        weights[W - first : W - last + 1] = 1 / (first - last + 1)
        return weights

    level = [mean_of((k + 1) * season, k * season + 1) for k in range(seasons)]
    functions = [np.repeat(level[:1], H, axis=0)]
    for k in range(seasons):
        shape = np.zeros((H, W))
        shape[steps, W - (k + 1) * season + steps % season] = 1
        functions.append(shape - level[k])
    if seasons > 1:
        functions.append(np.repeat((level[0] - level[1])[None], H, axis=0))
        for many in {1, max(1, season // 7)}:  # of a week of hours, a day
            change = mean_of(many, 1) - mean_of(season + many, season + 1)
            fading = np.exp(-steps / many)[:, None]
            functions += [np.repeat(change[None], H, axis=0), fading * change]
    return np.stack(functions)
