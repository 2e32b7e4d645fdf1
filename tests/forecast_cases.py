"""Series and prepared forecasts that the tests of forecasting share."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from throughtime.data.records import Frequency, Panel, Series
from throughtime.data.split_panel import PanelPart
from throughtime.settings import Settings
from throughtime.tasks import Forecast

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


def until(content: Panel, end: int) -> Panel:
    """The first values of every series."""
    return dataclasses.replace(
        content,
        series=[
            dataclasses.replace(s, times=s.times[:end], values=s.values[:end], past=s.past[:end], future=s.future[:end])
            for s in content.series
        ],
    )
