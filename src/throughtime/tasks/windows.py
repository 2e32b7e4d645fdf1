"""Windows of time series: some of the past, the future to forecast, and what is known of both, each scaled by its own past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from throughtime.data.frequency import at
from throughtime.data.records import Panel, Series
from throughtime.tasks.baselines.forecast import filled
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
        fill: whether missing values of the past are interpolated, from those alone that are known at the time of a forecast.
    """

    def __init__(
        self,
        panel: Panel,
        layout: Layout,
        known: list[NDArray[np.float32]],
        typical: NDArray[np.float64],
        values: list[NDArray[np.float64]],
        own: bool,
        fill: bool,
    ) -> None:
        self.panel, self.layout, self.typical, self.own, self.fill = panel, layout, typical, own, fill
        before, after = layout.before, layout.horizon
        blocks = [np.pad(series, (before, after), constant_values=np.nan) for series in values]
        self.values = np.concatenate(blocks)
        # Where the first value of each series lies in the flat array.
        self.starts = np.cumsum([0, *map(len, blocks[:-1])]) + before
        neighbours = [_neighbours(block) for block in blocks]
        self.left, self.right = (
            np.concatenate([of_series[side] + start for of_series, start in zip(neighbours, self.starts - before, strict=True)])
            for side in range(2)
        )
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
        past = self._seen(places[:W], zero)
        seen = ~np.isnan(past)
        count = np.maximum(seen.sum(axis=0), 1)
        center = np.where(seen, past, 0).sum(axis=0) / count
        typical = self.typical[origins[:, 0]]
        spread = np.sqrt((np.where(seen, past - center, 0) ** 2).sum(axis=0) / count)
        scale = np.maximum(spread, SMALLEST_SHARE * typical) if self.own else typical
        scaled = (past - center) / scale
        ahead = np.zeros((H, len(origins)))

        def column(x: NDArray[np.float64]) -> NDArray[np.float32]:
            return np.nan_to_num(x).astype(np.float32)[:, :, None]

        columns = [column(np.concatenate([scaled, ahead])), column(np.concatenate([seen, ahead]))]
        for lag in self.layout.lags:
            seasons = np.where(steps < 0, 1, steps // lag + 1)  # the last season that is past
            columns.append(column((self._seen(places - (seasons * lag)[:, None], zero) - center) / scale))
        columns.append(
            column(np.broadcast_to(np.log(np.maximum(spread, SMALLEST_SHARE * typical) / typical)[None], places.shape))
        )
        known = self.known[places]
        panel = len(self.panel.past)
        known[W:, :, :panel] = 0  # known up to now only
        features = np.concatenate([*columns, known], axis=2)
        future = (self.values[places[W:]] - center) / scale
        return Windows(features, filled(scaled.T), future.T, center[:, None], scale[:, None])

    def look_back(self, origins: NDArray[np.int64], steps: int) -> NDArray[np.float64]:
        """The last values before some origins ``[B, 2]``, as far back as asked: ``[B, steps]``, on the scale that is modelled.

        NaN where a value is not known, and before the beginning of the series.
        """
        zero = self.starts[origins[:, 0]] + origins[:, 1]
        back = np.arange(-steps, 0)[:, None]
        places = np.maximum(zero + back, self.starts[origins[:, 0]])
        return np.where(origins[:, 1] + back >= 0, self._seen(places, zero), np.nan).T

    def _seen(self, places: NDArray[np.int64], now: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values at past places ``[S, B]`` as they are known at the places of the first forecast step ``[B]``.

        What is missing lies on the line between its neighbours, if both of them are past; else it is as the one before it.
        """
        if not self.fill:
            known: NDArray[np.float64] = self.values[places]
            return known
        left, right = self.left[places], self.right[places]
        right = np.where(right < now, right, left)
        before, after = self.values[left], self.values[right]
        filled: NDArray[np.float64] = before + (after - before) * ((places - left) / np.maximum(right - left, 1))
        return filled


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

    def reaching(block: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.pad(block[:n], ((0, max(n - len(block), 0)), (0, 0)), constant_values=np.nan)

    times = at(np.arange(n), series.times, panel.frequency)
    static = np.broadcast_to(series.static, (n, len(series.static)))
    return np.concatenate([reaching(series.past), reaching(series.future), static, calendar(times, cycles)], axis=1)


def _neighbours(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per value, where the last known one up to it lies (itself, where there is none), and the next one from it on (or n)."""
    n = len(values)
    place, known = np.arange(n), ~np.isnan(values)
    left = np.maximum.accumulate(np.where(known, place, -1))
    right = np.minimum.accumulate(np.where(known, place, n)[::-1])[::-1]
    return np.where(left < 0, place, left), right
