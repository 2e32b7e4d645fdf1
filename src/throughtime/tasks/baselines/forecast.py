"""Baselines for forecasts: from a window of W past values to the H next ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from throughtime.tasks.baselines._common import Baseline, spread

Windows = NDArray[np.float64]
"""``[N, W]`` or ``[N, H]`` values, the oldest first; NaN is missing."""

_ALPHAS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
_CELLS = 4_000_000
"""Windows times their length that are fitted on."""


class _Forecast(Baseline):
    """A forecast that may have learned nothing but the horizon.

    Attributes:
        reach: how many past values it has to see; ``None`` for those of the window.
    """

    order = "window"
    reach: int | None = None
    _horizon: int

    def fit(self, past: Windows, future: Windows) -> _Forecast:
        """Learn from windows.

        Args:
            past: ``[N, W]``; a missing value is taken to be the one before it.
            future: ``[N, H]``.

        Raises:
            ValueError: a window too short for this baseline.
        """
        self._horizon = future.shape[1]
        self._learn(past, future)
        return self

    def _learn(self, past: Windows, future: Windows) -> None:
        """Learn more than the horizon."""

    def predict(self, past: Windows) -> Windows:
        """The next values ``[M, H]``, from windows ``[M, W]``."""
        return self._forecast(filled(past))

    def _forecast(self, past: Windows) -> Windows:
        raise NotImplementedError


class Persistence(_Forecast):
    """The last value, again and again.

    Example:
        >>> past, future = np.array([[1., 2., 4.]]), np.zeros((1, 2))
        >>> Persistence().fit(past, future).predict(past).tolist()
        [[4.0, 4.0]]
    """

    name = "persistence"
    description = "repeats the last value"

    def _forecast(self, past: Windows) -> Windows:
        return np.repeat(past[:, -1:], self._horizon, axis=1)


class SeasonalNaive(_Forecast):
    """The last season, again and again.

    Args:
        season: its steps.

    Example:
        >>> past, future = np.array([[9., 1., 2.]]), np.zeros((1, 3))
        >>> SeasonalNaive(2).fit(past, future).predict(past).tolist()
        [[1.0, 2.0, 1.0]]
    """

    name = "seasonal-naive"
    description = "repeats the last season"

    def __init__(self, season: int) -> None:
        self.season = self.reach = season
        self.description = f"repeats the last {season} values"

    def _learn(self, past: Windows, future: Windows) -> None:
        if past.shape[1] < self.season:
            raise ValueError(f"seasonal-naive needs windows of at least a season, {self.season} steps, not {past.shape[1]}")

    def _forecast(self, past: Windows) -> Windows:
        places = past.shape[1] - self.season + np.arange(self._horizon) % self.season
        return np.asarray(past[:, places])


class Drift(_Forecast):
    """On along the line from the first value of the window to the last.

    Example:
        >>> past, future = np.array([[1., 0., 3.]]), np.zeros((1, 2))
        >>> Drift().fit(past, future).predict(past).tolist()
        [[4.0, 5.0]]

    Source:
        Hyndman and Athanasopoulos, Forecasting: Principles and Practice, section 5.2.
    """

    name = "drift"
    description = "goes on along the line from the first value of the window to the last"

    def _forecast(self, past: Windows) -> Windows:
        slope = (past[:, -1:] - past[:, :1]) / max(past.shape[1] - 1, 1)
        return np.asarray(past[:, -1:] + slope * np.arange(1, self._horizon + 1))


class WindowRidge(_Forecast):
    """Ridge regression from all values of the window to all of the future, both less the last value of the window.

    The strength of the ridge is the one that did best on the last fifth of the training windows.

    Source:
        Zeng, Chen, Zhang and Xu 2023, "Are transformers effective for time series forecasting?": NLinear, here in closed form.
    """

    name = "ridge on the window"
    description = "a linear function of all values of the window"

    def _learn(self, past: Windows, future: Windows) -> None:
        usable = np.flatnonzero(~np.isnan(future).any(axis=1))
        if not len(usable):
            raise ValueError("ridge on the window needs training windows without missing values in their future")
        rows = usable[spread(len(usable), _CELLS // past.shape[1])]
        self._tell_sample(len(rows), len(usable), "windows")
        past = filled(past[rows])
        x, y = past - past[:, -1:], future[rows] - past[:, -1:]
        self._unit = float(x.std()) or 1.0  # so that the strengths mean the same for values of any size
        x, y = x / self._unit, y / self._unit
        head = len(x) - len(x) // 5
        tail = slice(head, None) if head < len(x) else slice(None)
        tried = [Ridge(alpha).fit(x[:head], y[:head]) for alpha in _ALPHAS]
        errors = [np.square(_apply(model, x[tail]) - y[tail]).mean() for model in tried]
        self._model = Ridge(_ALPHAS[int(np.argmin(errors))]).fit(x, y)
        self.parameters = self._model.coef_.size + y.shape[1]

    def _forecast(self, past: Windows) -> Windows:
        level = past[:, -1:]
        return level + self._unit * _apply(self._model, (past - level) / self._unit)


def filled(past: Windows) -> Windows:
    """Windows with each missing value as the one before it; at the beginning as the one after it; 0 if all are missing.

    Example:
        >>> filled(np.array([[np.nan, 1., np.nan, 2.], [np.nan] * 4])).tolist()
        [[1.0, 1.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]]
    """
    past = np.asarray(past, dtype=np.float64)
    missing = np.isnan(past)
    if not missing.any():
        return past
    forward = np.maximum.accumulate(np.where(missing, 0, np.arange(past.shape[1])), axis=1)
    first = (~missing).argmax(axis=1)[:, None]  # 0 where all are missing
    return np.nan_to_num(np.take_along_axis(past, np.maximum(forward, first), axis=1))


def suited(season: int) -> list[_Forecast]:
    """The baselines for series of this season; seasonal-naive only where there is one.

    Example:
        >>> [baseline.name for baseline in suited(season=12)]
        ['persistence', 'seasonal-naive', 'drift', 'ridge on the window']
    """
    seasonal: list[_Forecast] = [SeasonalNaive(season)] if season > 1 else []
    return [Persistence(), *seasonal, Drift(), WindowRidge()]


def _apply(model: Ridge, x: Windows) -> Windows:
    return np.asarray(model.predict(x), dtype=np.float64).reshape(len(x), -1)  # scikit-learn drops a single column
