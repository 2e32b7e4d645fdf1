"""Windows of time series: some of the past, the future to forecast, and what is known of both, each scaled by its own past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from throughtime.data.frequency import at
from throughtime.data.records import Panel, Series
from throughtime.transforms.calendar import calendar

SMALLEST_SHARE = 0.01
"""A window that hardly moves is scaled by this share of what its series moves by in training."""


@dataclass(frozen=True)
class Layout:
    """What a window consists of.

    Attributes:
        window: steps of the past, W.
        horizon: steps to forecast, H.
        lags: whole seasons back; the network sees the values there beside each step.
        cycles: of the calendar, which it sees too.
    """

    window: int
    horizon: int
    lags: tuple[int, ...]
    cycles: tuple[str, ...]

    @property
    def before(self) -> int:
        """Steps before the first forecast that a window may look at."""
        return self.window + max(self.lags, default=0)


@dataclass(frozen=True)
class Windows:
    """Some windows, the steps of each being W of the past and then H of the future.

    Attributes:
        features: float32 ``[W + H, B, D]``, what the network reads.
        past: scaled values ``[B, W]``, the last known one where one is missing.
        future: scaled values ``[B, H]``; NaN where not known.
        center: what was taken off, ``[B, 1]``.
        scale: what was divided by, ``[B, 1]``.
    """

    features: NDArray[np.float32]
    past: NDArray[np.float64]
    future: NDArray[np.float64]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]


class PanelWindows:
    """All windows of a panel, cut when asked for.

    Args:
        panel: the series.
        layout: what a window consists of.
        known: covariates of each series and step, ``[n + H, K]``, scaled; see :func:`covariates`.
        typical: what each series moves by, ``[series]``.
        values: of each series, on the scale that is modelled.
        own: whether each window is scaled by its own spread; else by what is typical of its series.
    """

    def __init__(
        self,
        panel: Panel,
        layout: Layout,
        known: list[NDArray[np.float32]],
        typical: NDArray[np.float64],
        values: list[NDArray[np.float64]],
        own: bool,
    ) -> None:
        self.panel, self.layout, self.typical, self.own = panel, layout, typical, own
        before, after = layout.before, layout.horizon
        blocks = [np.pad(series, (before, after), constant_values=np.nan) for series in values]
        self.values = np.concatenate(blocks)
        # Where the first value of each series lies in the flat array.
        self.starts = np.cumsum([0, *map(len, blocks[:-1])]) + before
        self.known = np.concatenate([np.pad(block, ((before, 0), (0, 0))) for block in known])

    def origins(self, starts: list[int], *, complete: bool = True, every: int = 1, least: int = 1) -> NDArray[np.int64]:
        """Places from which to forecast, ``[N, 2]``: which series, and how many of its values are past.

        Args:
            starts: per series, the first value that may be forecast.
            complete: only those of which the whole future is within the series and at least one value of it is known.
            every: steps from one to the next; the last of each series is always among them.
            least: the fewest past values.
        """
        found = []
        for number, (series, start) in enumerate(zip(self.panel.series, starts, strict=True)):
            last = len(series) - self.layout.horizon if complete else len(series)
            places = np.arange(last, max(start, least) - 1, -every)[::-1]
            if complete and len(places):
                known = np.concatenate([[0], np.cumsum(~np.isnan(series.values))])
                places = places[known[places + self.layout.horizon] > known[places]]
            found.append(np.stack([np.full(len(places), number), places], axis=1))
        return np.concatenate(found).astype(np.int64)

    def truth(self, origins: NDArray[np.int64]) -> NDArray[np.float64]:
        """What came after some origins ``[N, 2]``, in the units of the data: ``[N, H]``, NaN where not known."""
        horizon = self.layout.horizon
        padded = [np.pad(series.values, (0, horizon), constant_values=np.nan) for series in self.panel.series]
        rows = [padded[number][origin : origin + horizon] for number, origin in origins]
        return np.stack(rows) if rows else np.zeros((0, horizon))

    def cut(self, origins: NDArray[np.int64]) -> Windows:
        """The windows at some origins ``[B, 2]``."""
        W, H = self.layout.window, self.layout.horizon
        zero = self.starts[origins[:, 0]] + origins[:, 1]  # [B], the first forecast step of each
        steps = np.arange(-W, H)
        places = zero[None] + steps[:, None]  # [W + H, B]
        values = self.values[places]
        past = values[:W]
        seen = ~np.isnan(past)
        count = np.maximum(seen.sum(axis=0), 1)
        center = np.where(seen, past, 0).sum(axis=0) / count
        typical = self.typical[origins[:, 0]]
        spread = np.sqrt((np.where(seen, past - center, 0) ** 2).sum(axis=0) / count)
        scale = np.maximum(spread, SMALLEST_SHARE * typical) if self.own else typical
        scaled = (values - center) / scale

        def column(x: NDArray[np.float64]) -> NDArray[np.float32]:
            return np.nan_to_num(x).astype(np.float32)[:, :, None]

        is_past = np.broadcast_to((steps < 0)[:, None], places.shape)
        columns = [column(np.where(is_past, scaled, 0.0)), column((is_past & ~np.isnan(values)).astype(np.float64))]
        for lag in self.layout.lags:
            seasons = np.where(steps < 0, 1, steps // lag + 1)  # the last season that is past
            columns.append(column((self.values[places - (seasons * lag)[:, None]] - center) / scale))
        columns.append(
            column(np.broadcast_to(np.log(np.maximum(spread, SMALLEST_SHARE * typical) / typical)[None], places.shape))
        )
        known = self.known[places]
        panel = len(self.panel.past)
        known[W:, :, :panel] = 0  # known up to now only
        features = np.concatenate([*columns, known], axis=2)
        return Windows(features, _carried(scaled[:W]).T, scaled[W:].T, center[:, None], scale[:, None])


def covariates(series: Series, panel: Panel, cycles: tuple[str, ...], horizon: int) -> NDArray[np.float64]:
    """What is known of each step of a series beside its values: past, future and static covariates, then the calendar.

    Args:
        series: n values.
        panel: it belongs to.
        cycles: of the calendar.
        horizon: steps beyond its last value.

    Returns:
        float64 ``[n + horizon, K]``; NaN where a covariate is not known.
    """
    n = len(series) + horizon

    def filled(block: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.pad(block[:n], ((0, max(n - len(block), 0)), (0, 0)), constant_values=np.nan)

    times = at(np.arange(n), series.times, panel.frequency)
    static = np.broadcast_to(series.static, (n, len(series.static)))
    return np.concatenate([filled(series.past), filled(series.future), static, calendar(times, cycles)], axis=1)


def _carried(past: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[W, B]`` with every missing value as the one before it, or as the one after it at the beginning; 0 if there is none."""
    missing = np.isnan(past)
    if not missing.any():
        return past
    forward = np.maximum.accumulate(np.where(missing, 0, np.arange(len(past))[:, None]), axis=0)
    first = (~missing).argmax(axis=0)[None]
    return np.nan_to_num(np.take_along_axis(past, np.maximum(forward, first), axis=0))
