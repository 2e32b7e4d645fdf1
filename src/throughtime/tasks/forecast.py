"""Forecasting: the next values of time series, with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from throughtime.data.frequency import at
from throughtime.data.records import Frequency, Panel
from throughtime.data.split_panel import PanelPart
from throughtime.data.times import show
from throughtime.errors import DataError
from throughtime.settings import ModelSettings
from throughtime.tasks.base import COMMON, BaselineScore, Batch, Feed, Metric, State, Table, Task, scored
from throughtime.tasks.baselines import forecast
from throughtime.tasks.linear import Linear, fit_linear
from throughtime.tasks.metrics import forecasting
from throughtime.tasks.networks import recurrent_part
from throughtime.tasks.windows import Layout, PanelWindows, Windows, covariates
from throughtime.transforms import Scaler
from throughtime.transforms.calendar import cycles_seen

LEVEL = 0.9
"""The share of values that an interval is meant to hold."""
_SCORED_WINDOWS = 256
_EPOCH_WINDOWS = 8192
_EXAMPLES = 4
_FITTED_WINDOWS = 20_000
_CALIBRATED_WINDOWS = 100
_DAY = {"s": 86400, "min": 1440, "h": 24}


@dataclass
class WindowBatch(Batch):
    """Windows as tensors: features ``[W + H, B, D]``, scaled past ``[B, W]`` and future ``[B, H]``."""

    features: Tensor
    past: Tensor
    future: Tensor


class ForecastNetwork(nn.Module):
    """Recurrent layers over past and future steps, on top of a linear forecast from the window.

    The linear part does what a linear model can; the recurrent one learns what is left over, and the intervals.

    Args:
        settings: of the model.
        layout: of the windows.
        width: features of a step.
        linear: weights ``[H, W]`` and bias ``[H]`` to start from.

    Source: Lai et al. 2018 (LSTNet), arXiv:1703.07015, for the linear part beside the recurrent one.
    """

    def __init__(self, settings: ModelSettings, layout: Layout, width: int, linear: Linear) -> None:
        super().__init__()
        assert settings.dropout is not None
        self.horizon = layout.horizon
        self.linear = nn.Linear(layout.window, layout.horizon)
        self.rnn = recurrent_part(settings, width)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(self.rnn.hidden_size, 3)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(linear[0]))
            self.linear.bias.copy_(torch.from_numpy(linear[1]))
            self.head.weight[0] = 0  # at first the forecast is the linear one
            self.head.bias.copy_(torch.tensor([0.0, -1.0, -1.0]))
        self.linear.requires_grad_(False)  # trained together, it would fit the noise of few windows

    def forward(self, features: Tensor, past: Tensor) -> Tensor:
        """Scaled forecast, lower and upper end, ``[B, H, 3]``."""
        hidden, _ = self.rnn(features)
        said = self.head(self.dropout(hidden[-self.horizon :])).transpose(0, 1)
        middle = self.linear(past) + said[:, :, 0]
        below, above = nn.functional.softplus(said[:, :, 1]), nn.functional.softplus(said[:, :, 2])
        return torch.stack([middle, middle - below, middle + above], dim=2)


@dataclass(frozen=True)
class EncodedPanel:
    """Windows of a part, and the origins to forecast from ``[N, 2]``."""

    windows: PanelWindows
    origins: NDArray[np.int64]


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


class WindowFeed(Feed):
    """Windows in random order; of very many, a part in each epoch."""

    def __init__(self, encoded: EncodedPanel, batch: int, seed: int) -> None:
        self.encoded, self.size, self.seed = encoded, batch, seed
        self.windows = min(len(encoded.origins), _EPOCH_WINDOWS)
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def __len__(self) -> int:
        return -(-self.windows // self.size)

    def batch(self, epoch: int, index: int) -> WindowBatch:
        """Some windows."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self.encoded.origins))[: self.windows]
        rows = self._order[index * self.size : (index + 1) * self.size]
        return _tensors(self.encoded.windows.cut(self.encoded.origins[rows]))


class Forecast(Task):
    """The next values of time series; judged by MASE: the mean error over that of repeating the last season."""

    name: ClassVar[str] = "forecast"
    metric = Metric("mase", "MASE", higher_is_better=False)
    monitor = Metric("scaled_mae", "MAE of scaled values", higher_is_better=False)
    frequency: Frequency
    layout: Layout
    scaler: Scaler
    ids: list[str]
    logarithmic: bool
    """Whether the logarithm of the values is what is modelled."""
    typical: NDArray[np.float64]
    season_error: NDArray[np.float64]
    linear: Linear
    widen: NDArray[np.float64]

    def prepare(self, train: PanelPart) -> None:
        """Decide window and horizon, and fit scales and the linear part."""
        panel = train.panel
        self.frequency = panel.frequency
        self.decide(season=panel.frequency.season)
        season = self.settings.forecast.season
        assert season
        self.decide(horizon=max(season, 1))
        horizon = self.settings.forecast.horizon
        assert horizon
        longest = max(len(series) for series in panel.series)
        day = _DAY.get(panel.frequency.unit, 0) // panel.frequency.count
        wanted = max(7 * day, 2 * season, horizon) if day else max(2 * season, horizon, 8)
        self.decide(window=max(1, min(wanted, (longest - horizon) // 2)))
        window = self.settings.forecast.window
        assert window
        if window + horizon > longest:
            raise DataError(
                f"the longest series has {longest:,} training values, fewer than one window of {window:,} and the {horizon:,} "
                "to forecast; use a smaller --window or --horizon, or add data"
            )
        lags = {season, *([day, 7 * day] if day else ())}
        cycles = cycles_seen(max((series.times[: len(series)] for series in panel.series), key=len), panel.frequency.unit)
        self.layout = Layout(window, horizon, tuple(sorted(lag for lag in lags if 1 < lag <= longest // 2)), cycles)
        self.ids = [series.id for series in panel.series]
        self.widen = np.zeros((2, horizon))
        self.logarithmic = spreads_with_level([series.values for series in panel.series], season)
        self.typical = np.array([self._typical(series.values) for series in panel.series])
        self.season_error = np.array([_season_error(series.values, season) for series in panel.series])
        self.scaler = self._scaler(panel)
        encoded = self.encode(train)
        if not len(encoded.origins):
            raise DataError(
                f"no series has the {window + horizon} training values of one window ({window} past, {horizon} to forecast); "
                "use a smaller --window or --horizon"
            )
        windows = encoded.windows.cut(_thinned(encoded, _FITTED_WINDOWS).origins)
        self.linear = fit_linear(windows.past, windows.future, season)
        self.decide(
            task="forecast",
            **COMMON,
            cell="gru",
            hidden=64,
            bidirectional=False,
            dropout=0.2,
            lr=1e-3,
            batch=64,
            epochs=int(np.clip(80_000 // len(encoded.origins), 10, 100)),
            patience=10,
        )
        if self.settings.model.bidirectional:
            raise DataError("--bidirectional would let a forecast see the future; leave it out")
        if self.settings.model.untied:
            raise DataError("--untied is for sequences that begin at their first step; a window begins anywhere; leave it out")

    def _modelled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values on the scale that is modelled; a logarithm that does not exist is a missing value."""
        return np.log(np.where(values > 0, values, np.nan)) if self.logarithmic else values

    def _typical(self, values: NDArray[np.float64]) -> float:
        """What a series moves by: the deviation within a season, or within a window where there is no season."""
        size = max(self.settings.forecast.season or 1, 2)
        known = self._modelled(values)
        blocks = known[len(known) % size :].reshape(-1, size) if len(known) >= size else known[None]
        blocks = blocks[~np.isnan(blocks).any(axis=1)]
        spread = float(blocks.std(axis=1).mean()) if len(blocks) else 0.0
        height = float(np.nanmax(np.abs(known), initial=0.0))
        return spread if spread > 1e-9 * height else max(1e-6 * height, 1e-9)

    def _scaler(self, panel: Panel) -> Scaler:
        blocks = [covariates(series, panel, self.layout.cycles, 0) for series in panel.series]
        names = (*panel.past, *panel.future, *panel.static, *(f"{cycle} {i}" for cycle in self.layout.cycles for i in range(4)))
        return Scaler.fit(blocks, names)

    def transforms(self) -> dict[str, Any]:
        """Everything but the weights."""
        return {
            "frequency": dataclasses.asdict(self.frequency),
            "layout": dataclasses.asdict(self.layout),
            "scaler": self.scaler.to_json(),
            "ids": self.ids,
            "logarithmic": self.logarithmic,
            "typical": self.typical.tolist(),
            "season_error": [None if np.isnan(error) else error for error in self.season_error.tolist()],
            "widen": self.widen.tolist(),
        }

    def restore(self, transforms: dict[str, Any]) -> None:
        """As it was; the linear part is among the weights."""
        self.frequency = Frequency(**transforms["frequency"])
        layout = transforms["layout"]
        self.layout = Layout(layout["window"], layout["horizon"], tuple(layout["lags"]), tuple(layout["cycles"]))
        self.scaler, self.ids = Scaler.from_json(transforms["scaler"]), transforms["ids"]
        self.logarithmic = transforms["logarithmic"]
        self.typical = np.array(transforms["typical"])
        self.season_error = np.array([np.nan if error is None else error for error in transforms["season_error"]])
        self.widen = np.array(transforms["widen"])
        self.linear = np.zeros((self.layout.horizon, self.layout.window)), np.zeros(self.layout.horizon)

    def encode(self, part: PanelPart, *, every: int = 1) -> EncodedPanel:
        """Windows to learn from, or to score: every origin of the part whose future lies in it."""
        windows = self.windows(part.panel)
        first = all(start == 0 for start in part.starts)
        least = min(self.layout.window, max(len(series) for series in part.panel.series) // 2) if first else 1
        return EncodedPanel(windows, windows.origins(part.starts, every=every, least=least))

    def windows(self, panel: Panel) -> PanelWindows:
        """Any windows of series of which some may be new."""
        number = {name: index for index, name in enumerate(self.ids)}
        known = []
        for series in panel.series:
            block = covariates(series, panel, self.layout.cycles, self.layout.horizon)
            known.append(np.nan_to_num((block - np.array(self.scaler.mean)) / np.array(self.scaler.scale)).astype(np.float32))
        typical = [self.typical[number[s.id]] if s.id in number else self._typical(s.values) for s in panel.series]
        return PanelWindows(
            panel, self.layout, known, np.array(typical), [self._modelled(s.values) for s in panel.series], not self.logarithmic
        )

    def network(self) -> ForecastNetwork:
        """Recurrent layers on top of the linear part."""
        width = 3 + len(self.layout.lags) + len(self.scaler.features)
        return ForecastNetwork(self.settings.model, self.layout, width, self.linear)

    def feed(self, encoded: EncodedPanel) -> Feed:
        """Windows in random order."""
        assert self.settings.training.batch
        return WindowFeed(encoded, self.settings.training.batch, self.settings.training.seed)

    def loss(self, network: torch.nn.Module, batch: WindowBatch, state: State) -> tuple[Tensor, State]:
        """Smooth absolute error of the forecast, and the pinball losses of the ends of the interval."""
        return _criterion(network(batch.features, batch.past), batch.future), None

    def evaluate(self, network: torch.nn.Module, encoded: EncodedPanel) -> dict[str, float]:
        """MAE, RMSE, MASE, sMAPE and coverage."""
        parts, total, error = [], 0.0, 0.0
        for windows, said in self._answers(network, encoded):
            future = torch.from_numpy(windows.future.astype(np.float32))
            total += _criterion(said, future).item() * len(future)
            error += (said[:, :, 0] - future).abs().nanmean().item() * len(future)
            parts.append(self._forecast(windows, said))
        value, lower, upper = np.moveaxis(np.concatenate(parts), 2, 0)
        truth, errors = encoded.windows.truth(encoded.origins), self._season_errors(encoded)
        scores = forecasting(truth, value, errors, lower, upper).scores()
        return {"loss": total / len(truth), "scaled_mae": error / len(truth), **scores}

    def _season_errors(self, encoded: EncodedPanel) -> NDArray[np.float64]:
        number = {name: index for index, name in enumerate(self.ids)}
        errors = np.array([self.season_error[number[s.id]] if s.id in number else np.nan for s in encoded.windows.panel.series])
        chosen: NDArray[np.float64] = errors[encoded.origins[:, 0]]
        return chosen

    def _answers(self, network: torch.nn.Module, encoded: EncodedPanel) -> Iterator[tuple[Windows, Tensor]]:
        """Windows, and what the network says of them, scaled, ``[B, H, 3]``."""
        device = next(network.parameters()).device
        for start in range(0, len(encoded.origins), _SCORED_WINDOWS):
            windows = encoded.windows.cut(encoded.origins[start : start + _SCORED_WINDOWS])
            batch = _tensors(windows).to(device)
            yield windows, network(batch.features, batch.past).cpu()

    def _forecast(self, windows: Windows, said: Tensor) -> NDArray[np.float64]:
        """Forecast, lower and upper end in the units of the data, ``[B, H, 3]``."""
        ends = said.double().numpy()
        ends[:, :, 1] = np.minimum(ends[:, :, 1] - self.widen[0], ends[:, :, 0])
        ends[:, :, 2] = np.maximum(ends[:, :, 2] + self.widen[1], ends[:, :, 0])
        return self._in_units(ends, windows.scale[:, :, None], windows.center[:, :, None])

    def forecasts(self, network: torch.nn.Module, encoded: EncodedPanel) -> Forecasts:
        """From every origin, in the units of the data."""
        joined = np.concatenate([self._forecast(windows, said) for windows, said in self._answers(network, encoded)])
        truth = encoded.windows.truth(encoded.origins)
        return Forecasts(encoded.origins, joined[:, :, 0], joined[:, :, 1], joined[:, :, 2], truth)

    def predict(self, network: torch.nn.Module, part: Panel) -> Table:
        """The steps after the last value of every series, with intervals.

        Raises:
            DataError: future covariates that are not known so far ahead.
        """
        horizon = self.layout.horizon
        for series in part.series:
            ahead = len(series.times) - len(series)
            if part.future and ahead < horizon:
                raise DataError(
                    f"series {series.id}: {', '.join(part.future)} are known {ahead} steps ahead, {horizon} are forecast; "
                    "give them with --future FILE"
                )
        windows = self.windows(part)
        found = self.forecasts(
            network, EncodedPanel(windows, windows.origins([len(series) for series in part.series], complete=False))
        )
        times = [at(len(series) + np.arange(horizon), series.times, part.frequency) for series in part.series]
        return {
            "series": [series.id for series in part.series for _ in range(horizon)],
            "time": [show(time) for block in times for time in block],
            "forecast": found.value.ravel().tolist(),
            "lower": found.lower.ravel().tolist(),
            "upper": found.upper.ravel().tolist(),
        }

    def _in_units(
        self, scaled: NDArray[np.float64], scale: NDArray[np.float64], center: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        values: NDArray[np.float64] = scaled * scale + center
        # A logarithm beyond 700 is no number any more; what diverged so far is wrong at any height.
        return np.exp(np.minimum(values, 700.0)) if self.logarithmic else values

    def finish(self, network: torch.nn.Module, valid: EncodedPanel) -> None:
        """Move the ends of the intervals so that they hold the share of the validation values that they are meant to.

        Source: Romano, Patterson and Candes 2019, arXiv:1905.03222 (conformalized quantile regression), by step of the horizon.
        """
        self.widen = np.zeros_like(self.widen)
        beyond: list[list[NDArray[np.float64]]] = [[], []]
        for windows, answer in self._answers(network, valid):
            said = answer.double().numpy()
            beyond[0].append(said[:, :, 1] - windows.future)
            beyond[1].append(windows.future - said[:, :, 2])
        tail = (1 - LEVEL) / 2
        for side, parts in enumerate(beyond):
            distances = np.concatenate(parts)
            few = len(distances) < _CALIBRATED_WINDOWS
            for step in range(self.layout.horizon):
                # Few windows tell little of a single step: then all steps together, and never a narrower interval.
                known = distances if few else distances[:, step]
                known = known[~np.isnan(known)]
                if len(known):
                    share = min(1.0, np.ceil((len(known) + 1) * (1 - tail)) / len(known))
                    moved = float(np.quantile(known, share, method="higher"))
                    self.widen[side, step] = max(moved, 0.0) if few else moved

    def baselines(self, train: PanelPart, test: PanelPart) -> list[BaselineScore]:
        """Persistence, seasonal-naive, drift, and ridge on the window."""
        learn, score = self.encode(train), self.encode(test)
        fitted, asked = (e.windows.cut(e.origins) for e in (_thinned(learn, 20_000), score))
        truth = score.windows.truth(score.origins)
        errors = self._season_errors(score)

        def measure(method: Any) -> dict[str, float]:
            method.fit(fitted.past, fitted.future)
            said = self._in_units(method.predict(asked.past), asked.scale, asked.center)
            return forecasting(truth, said, errors).scores()

        season = self.settings.forecast.season
        assert season
        return [scored(method, partial(measure, method)) for method in forecast.suited(self.layout.window, season)]

    def details(self, network: torch.nn.Module, part: PanelPart, encoded: EncodedPanel) -> dict[str, Any]:
        """Errors by step, and some forecasts beside what came."""
        found = self.forecasts(network, encoded)
        errors = abs(found.truth - found.value)
        cut = encoded.windows.cut(encoded.origins)
        season = self.settings.forecast.season or 1
        naive: dict[str, Any] = {"persistence": forecast.Persistence()}
        if 1 < season <= self.layout.window:
            naive["seasonal-naive"] = forecast.SeasonalNaive(season)
        said = {
            name: self._in_units(method.fit(cut.past, cut.future).predict(cut.past), cut.scale, cut.center)
            for name, method in naive.items()
        }
        per_step = {
            "model": _mean_known(errors, axis=0),
            **{name: _mean_known(abs(found.truth - value), axis=0) for name, value in said.items()},
        }
        unit = self._season_errors(encoded)
        mean = np.nan_to_num(_mean_known(errors, axis=1) / np.where(unit > 0, unit, 1.0))
        spread = np.linspace(0, len(mean) - 1, min(len(mean), _EXAMPLES)).round().astype(np.int64)
        worst = np.argsort(-mean, kind="stable")[:_EXAMPLES]

        def example(row: int) -> dict[str, Any]:
            number, origin = (int(value) for value in found.origins[row])
            series = encoded.windows.panel.series[number]
            first = max(0, origin - self.layout.window)
            times = series.times[first : origin + self.layout.horizon]
            return {
                "series": series.id,
                "times": [show(time) for time in times],
                "past": _plain(series.values[first:origin]),
                "truth": _plain(found.truth[row]),
                "median": _plain(found.value[row]),
                "lower": _plain(found.lower[row]),
                "upper": _plain(found.upper[row]),
                **({"seasonal_naive": _plain(said["seasonal-naive"][row])} if "seasonal-naive" in said else {}),
            }

        inside = (found.truth >= found.lower) & (found.truth <= found.upper)
        return {
            "per_step_mae": {name: _plain(values) for name, values in per_step.items()},
            "examples": [example(int(row)) for row in spread],
            "worst": [example(int(row)) for row in worst],
            "coverage": float(inside[~np.isnan(found.truth)].mean()),
            "level": LEVEL,
        }

    def describe(self) -> str:
        """Recurrent and linear part."""
        model, layout = self.settings.model, self.layout
        plural = "s" if (model.layers or 0) > 1 else ""
        return (
            f"{str(model.cell).upper()}, {model.layers} layer{plural} of {model.hidden} units, "
            "on top of a linear forecast from the window, "
            f"{layout.window} steps to {layout.horizon} steps"
        )


def spreads_with_level(values: list[NDArray[np.float64]], season: int) -> bool:
    """Whether series move in proportion to their level, as sales that grow do: then their logarithms are easier to forecast.

    Args:
        values: of each series; NaN is missing.
        season: steps in a season.

    Returns:
        True if all values are above zero, and the deviation of a season over its mean varies less from season to season than
        the deviation itself.

    Example:
        >>> wave = np.tile([1.0, 2.0, 3.0, 2.0], 10)
        >>> spreads_with_level([wave * 1.05 ** np.arange(40)], 4), spreads_with_level([wave + np.arange(40)], 4)
        (True, False)

    Source: Guerrero 1993, Journal of Forecasting 12, for choosing a power by what steadies the spread; here between 0 and 1
        only.
    """
    votes = []
    for series in values:
        known = series[~np.isnan(series)]
        if not len(known) or known.min() <= 0:
            return False
        size = season if season > 1 else 12
        blocks = known[len(known) % size :].reshape(-1, size)
        if len(blocks) >= 4:
            # Less its own trend, or growth itself would pass for spread.
            steps = np.diff(blocks, axis=1).std(axis=1)
            level = blocks.mean(axis=1)
            if steps.min() > 0:
                votes.append(_variation(steps / level) < _variation(steps))
    return bool(votes) and sum(votes) > len(votes) / 2


def _variation(values: NDArray[np.float64]) -> float:
    return float(values.std() / values.mean())


def _season_error(values: NDArray[np.float64], season: int) -> float:
    """The mean error of repeating the last season; NaN where there is none."""
    season = season if season < len(values) else 1
    errors = abs(values[season:] - values[:-season])
    errors = errors[~np.isnan(errors)]
    return float(errors.mean()) if len(errors) else np.nan


def _tensors(windows: Windows) -> WindowBatch:
    lengths = torch.full((windows.features.shape[1],), windows.features.shape[0])
    past, future = (torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for x in (windows.past, windows.future))
    return WindowBatch(lengths, torch.from_numpy(windows.features), past, future)


def _thinned(encoded: EncodedPanel, most: int) -> EncodedPanel:
    rows = np.linspace(0, len(encoded.origins) - 1, min(len(encoded.origins), most)).astype(np.int64)
    return EncodedPanel(encoded.windows, encoded.origins[rows])


def _criterion(said: Tensor, future: Tensor) -> Tensor:
    """Smooth absolute error of the forecast, and the pinball losses of both ends; what is missing counts for nothing."""
    inside = ~torch.isnan(future)
    truth = future[inside]
    middle, lower, upper = (said[:, :, i][inside] for i in range(3))
    tail = (1 - LEVEL) / 2
    # The ends learn their distance only: they must not pull at the forecast.
    low, high = middle.detach() - (middle - lower), middle.detach() + (upper - middle)
    return nn.functional.smooth_l1_loss(middle, truth) + _pinball(truth - low, tail) + _pinball(truth - high, 1 - tail)


def _pinball(error: Tensor, level: float) -> Tensor:
    return torch.maximum(level * error, (level - 1) * error).mean()


def _mean_known(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """The mean of what is not missing; NaN where all is."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    mean: NDArray[np.float64] = np.where(known, values, 0.0).sum(axis=axis) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
