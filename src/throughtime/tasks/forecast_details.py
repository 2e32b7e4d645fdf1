"""Forecasts in the units of the data, and what the report shows of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.data.times import written
from throughtime.tasks.base import BaselineScore
from throughtime.tasks.windows import PanelWindows

_EXAMPLES = 4
_SERIES = 1000


@dataclass(frozen=True)
class Forecasts:
    """Forecasts in the units of the data.

    Attributes:
        origins: which series, and how many of its values are past; int64 ``[N, 2]``.
        value: ``[N, H]``.
        lower: lower ends of the intervals.
        upper: upper ends.
        truth: what came; NaN where not known.
    """

    origins: NDArray[np.int64]
    value: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    truth: NDArray[np.float64]

    def coverage(self) -> float:
        """The share of the known values that lie in their intervals."""
        inside = (self.truth >= self.lower) & (self.truth <= self.upper)
        return float(inside[~np.isnan(self.truth)].mean())


def shown_of(
    found: Forecasts,
    windows: PanelWindows,
    said: dict[str, NDArray[np.float64]],
    best: BaselineScore | None,
    unit: NDArray[np.float64],
) -> dict[str, Any]:
    """Errors by step and by series, and some forecasts beside what came and what simple methods say, as JSON.

    Args:
        found: what was forecast.
        windows: of the same series.
        said: what simple methods say, by name ``[N, H]``.
        best: the best of the simple methods, with what it says.
        unit: what an error is divided by for MASE, ``[N]``; 0 or NaN where it is undefined.
    """
    errors = abs(found.truth - found.value)
    values = None if best is None else best.said
    name = "" if best is None else best.name
    said = said if values is None else {**said, name: values}
    per_step = {
        "model": _mean_known(errors, axis=0),
        **{method: _mean_known(abs(found.truth - value), axis=0) for method, value in said.items()},
    }
    scales = np.where(unit > 0, unit, np.nan)
    mean = np.nan_to_num(_mean_known(errors, axis=1) / np.where(unit > 0, unit, 1.0))
    spread = np.linspace(0, len(mean) - 1, min(len(mean), _EXAMPLES)).round().astype(np.int64)
    worst = np.argsort(-mean, kind="stable")[:_EXAMPLES]

    def example(row: int) -> dict[str, Any]:
        number, origin = (int(value) for value in found.origins[row])
        series = windows.panel.series[number]
        first = max(0, origin - windows.layout.window)
        times = series.times[first : origin + windows.layout.horizon]
        return {
            "series": series.id,
            "times": [str(time) for time in written(times, windows.panel.form)],
            "past": _plain(series.values[first:origin]),
            "truth": _plain(found.truth[row]),
            "median": _plain(found.value[row]),
            "lower": _plain(found.lower[row]),
            "upper": _plain(found.upper[row]),
            **({"seasonal_naive": _plain(said["seasonal-naive"][row])} if "seasonal-naive" in said else {}),
            **({"baseline": {"name": name, "value": _plain(values[row])}} if values is not None else {}),
        }

    def by_series(number: int) -> dict[str, Any]:
        rows = found.origins[:, 0] == number

        def mean_of(each: NDArray[np.float64]) -> float | None:
            return _plain(np.atleast_1d(_mean_known(each[rows].ravel(), axis=0)))[0]

        line = {"name": windows.panel.series[number].id, "windows": int(rows.sum()), "mae": mean_of(errors)}
        line["mase"] = mean_of(errors / scales[:, None])
        if values is not None:
            line |= {"baseline": name, "baseline_mase": mean_of(abs(found.truth - values) / scales[:, None])}
        return line

    return {
        "per_step_mae": {method: _plain(each) for method, each in per_step.items()},
        "per_series": [by_series(int(number)) for number in np.unique(found.origins[:, 0])[:_SERIES]],
        "examples": [example(int(row)) for row in spread],
        "worst": [example(int(row)) for row in worst],
    }


def _mean_known(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """The mean of what is not missing; NaN where all is."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    mean: NDArray[np.float64] = np.where(known, values, 0.0).sum(axis=axis) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
