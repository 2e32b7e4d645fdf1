"""Forecasting: the next values of time series, with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from throughtime.data.files import plural
from throughtime.data.frequency import at
from throughtime.data.records import Frequency, Panel
from throughtime.data.split_panel import PanelPart
from throughtime.data.times import written
from throughtime.errors import DataError
from throughtime.tasks.base import (
    BLIND,
    COMMON,
    FLAT,
    BaselineScore,
    Feed,
    Metric,
    Rival,
    State,
    Table,
    Task,
    layers_of,
    scored,
)
from throughtime.tasks.baselines import forecast
from throughtime.tasks.familiar import Ends, ends_of, first_unseen, like_training, unseen_part
from throughtime.tasks.feedforward import WindowForecast
from throughtime.tasks.forecast_details import Forecasts, shown_of
from throughtime.tasks.forecast_network import (
    LEVEL,
    EncodedPanel,
    ForecastNetwork,
    WindowBatch,
    WindowFeed,
    batch_of,
    criterion,
)
from throughtime.tasks.intervals import widening
from throughtime.tasks.levels import season_error, spreads_with_level, typical_move
from throughtime.tasks.linear import Linear, fit_linear
from throughtime.tasks.metrics import forecasting
from throughtime.tasks.windows import Layout, PanelWindows, Windows, covariates
from throughtime.transforms import Scaler
from throughtime.transforms.calendar import cycles_seen

_SCORED_WINDOWS = 256
_FITTED_WINDOWS = 20_000
_LARGEST = 1e150
_DAY = {"s": 86400, "min": 1440, "h": 24}


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
    seen: Ends
    """Where what the fit saw of each series ends: the training part, and once it is finished, the validation part."""

    def prepare(self, train: PanelPart) -> None:
        """Decide window and horizon, and fit scales and the linear part."""
        panel = train.panel
        _check_size(panel)
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
        self.seen = ends_of(panel)
        self.logarithmic = spreads_with_level([series.values for series in panel.series], season)
        self.typical = np.array([self._typical(series.values) for series in panel.series])
        self.season_error = np.array([season_error(series.values, season) for series in panel.series])
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
        return typical_move(self._modelled(values), self.settings.forecast.season or 1)

    def _scaler(self, panel: Panel) -> Scaler:
        blocks = [covariates(series, panel, self.layout.cycles, 0) for series in panel.series]
        return Scaler.fit(blocks, (*panel.past, *panel.future, *panel.static, *_cycle_names(self.layout.cycles)))

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
            "seen": {name: list(where) for name, where in self.seen.items()},
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
        self.seen = {name: (int(last), int(steps)) for name, (last, steps) in transforms["seen"].items()}
        self.linear = np.zeros((self.layout.horizon, self.layout.window)), np.zeros(self.layout.horizon)

    def encode(self, part: PanelPart, *, every: int = 1) -> EncodedPanel:
        """Windows to learn from, or to score: every origin of the part whose future lies in it.

        Windows overlap, which does early stopping no harm: it goes by their mean error, and that varies less from one stretch
        of data to the next than the mean error of windows apart, by 0 to 20 % where errors are those of AR(1) series.
        """
        windows = self.windows(part.panel)
        first = all(start == 0 for start in part.starts)
        least = min(self.layout.window, max(len(series) for series in part.panel.series) // 2) if first else 1
        return EncodedPanel(windows, windows.origins(part.starts, every=every, least=least))

    def windows(self, panel: Panel) -> PanelWindows:
        """Any windows of series of which some may be new.

        Raises:
            DataError: series of another frequency or with other covariates than those of the fit, or with too large numbers.
        """
        panel = self._like_training(panel)
        _check_size(panel)
        number = {name: index for index, name in enumerate(self.ids)}
        known = []
        for series in panel.series:
            block = covariates(series, panel, self.layout.cycles, self.layout.horizon)
            known.append(np.nan_to_num((block - np.array(self.scaler.mean)) / np.array(self.scaler.scale)).astype(np.float32))
        typical = [self.typical[number[s.id]] if s.id in number else self._typical(s.values) for s in panel.series]
        values, fill = [self._modelled(s.values) for s in panel.series], self.settings.data.missing == "interpolate"
        return PanelWindows(panel, self.layout, known, np.array(typical), values, not self.logarithmic, fill)

    def network(self) -> ForecastNetwork:
        """Recurrent layers on top of the linear part."""
        width = 3 + len(self.layout.lags) + len(self.scaler.features)
        return ForecastNetwork(self.settings.model, self.layout, width, self.linear)

    def rivals(self, train: EncodedPanel) -> list[Rival]:
        """From the values of the window, sorted or as they stand."""
        window, horizon = self.layout.window, self.layout.horizon

        def network(blind: bool) -> WindowForecast:
            return WindowForecast(self.settings.model, window, horizon, blind=blind)

        blind = f"an ANN on the {window:,} values of the window, sorted by size; blind to their order"
        flat = f"an ANN on the {window:,} values of the window"
        return [Rival(BLIND, blind, "blind", lambda: network(True)), Rival(FLAT, flat, "window", lambda: network(False))]

    def feed(self, encoded: EncodedPanel) -> Feed:
        """Windows in random order."""
        assert self.settings.training.batch
        return WindowFeed(encoded, self.settings.training.batch, self.settings.training.seed)

    def loss(self, network: torch.nn.Module, batch: WindowBatch, state: State) -> tuple[Tensor, State]:
        """Smooth absolute error of the forecast, and the pinball losses of the ends of the interval."""
        return criterion(network(batch.features, batch.past), batch.future), None

    def evaluate(self, network: torch.nn.Module, encoded: EncodedPanel) -> dict[str, float]:
        """MAE, RMSE, MASE, sMAPE and coverage."""
        parts, total, error = [], 0.0, 0.0
        for windows, said in self._answers(network, encoded):
            future = torch.from_numpy(windows.future.astype(np.float32))
            total += criterion(said, future).item() * len(future)
            error += (said[:, :, 0] - future).abs().nanmean().item() * len(future)
            parts.append(self._forecast(windows, said))
        value, lower, upper = np.moveaxis(np.concatenate(parts), 2, 0)
        truth, errors = encoded.windows.truth(encoded.origins), self._season_errors(encoded)
        scores = forecasting(truth, value, errors, lower, upper).scores()
        return {"loss": total / len(truth), "scaled_mae": error / len(truth), **scores}

    def score(self, network: torch.nn.Module, part: PanelPart, encoded: EncodedPanel) -> dict[str, float]:
        """The same; coverage only of values that the intervals were not fitted to."""
        scores = self.evaluate(network, encoded)
        return scores if self._unseen(encoded) else {name: value for name, value in scores.items() if name != "coverage"}

    def judged_by(self, scores: dict[str, float]) -> Metric:
        """MASE; or MAE where repeating the last season makes no error in training, so that there is nothing to scale by."""
        return self.metric if self.metric.name in scores else Metric("mae", "MAE", higher_is_better=False)

    def errors(self, network: torch.nn.Module, part: PanelPart, encoded: EncodedPanel) -> NDArray[np.float64]:
        """The errors in each stretch of each series, a horizon or a season long, whichever windows they come from."""
        found = self.forecasts(network, encoded)
        return self._pieces(encoded, abs(found.truth - found.value))

    def _pieces(self, encoded: EncodedPanel, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Errors ``[N, H]`` summed by series and stretch of time, scaled as in MASE where that is defined."""
        unit = self._season_errors(encoded)
        if (unit > 0).any():
            errors = errors / np.where(unit > 0, unit, np.nan)[:, None]
        horizon = self.layout.horizon
        stretch = (encoded.origins[:, 1:] + np.arange(horizon)) // max(horizon, self.settings.forecast.season or 1)
        there = ~np.isnan(errors)
        piece = np.unique((encoded.origins[:, :1] * (int(stretch.max(initial=0)) + 1) + stretch)[there], return_inverse=True)[1]
        sums: NDArray[np.float64] = np.bincount(piece, errors[there]).astype(np.float64)
        return sums

    def held_out(self, content: Panel) -> tuple[PanelPart, str]:
        """What came after the end of what the fit saw of each series, or, where it has seen all, everything.

        Raises:
            DataError: too little of it, or of the past before it.
        """
        return unseen_part(self._like_training(content), self.seen, self.layout.window, self.layout.horizon)

    def amount(self, part: PanelPart, encoded: EncodedPanel) -> str:
        """Windows and series."""
        return f"{plural(len(encoded.origins), 'window')} of {len(np.unique(encoded.origins[:, 0])):,} series"

    def _unseen(self, encoded: EncodedPanel) -> bool:
        """Whether the fit saw none of the values that are to be forecast."""
        first = np.array([first_unseen(series, self.seen) for series in encoded.windows.panel.series])
        return bool((encoded.origins[:, 1] >= first[encoded.origins[:, 0]]).all())

    def _like_training(self, panel: Panel) -> Panel:
        """A panel with the covariates of the fit."""
        names = self.scaler.features[: len(self.scaler.features) - len(_cycle_names(self.layout.cycles))]
        return like_training(panel, names, self.frequency)

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
            batch = batch_of(windows).to(device)
            yield windows, network(batch.features, batch.past).cpu()

    def _forecast(self, windows: Windows, said: Tensor) -> NDArray[np.float64]:
        """Forecast, lower and upper end in the units of the data, ``[B, H, 3]``."""
        ends = said.double().numpy()
        ends[:, :, 1] = np.minimum(ends[:, :, 1] - self.widen[0], ends[:, :, 0])
        ends[:, :, 2] = np.maximum(ends[:, :, 2] + self.widen[1], ends[:, :, 0])
        return self.in_units(ends, windows.scale[:, :, None], windows.center[:, :, None])

    def forecasts(self, network: torch.nn.Module, encoded: EncodedPanel) -> Forecasts:
        """From every origin, in the units of the data."""
        joined = np.concatenate([self._forecast(windows, said) for windows, said in self._answers(network, encoded)])
        truth = encoded.windows.truth(encoded.origins)
        return Forecasts(encoded.origins, joined[:, :, 0], joined[:, :, 1], joined[:, :, 2], truth)

    def predict(self, network: torch.nn.Module, part: Panel) -> Table:
        """The steps after the last value of every series, with intervals.

        Raises:
            DataError: series unlike those of the fit, or future covariates that are not known so far ahead.
        """
        part, horizon = self._like_training(part), self.layout.horizon
        for series in part.series:
            ahead = len(series.times) - len(series)
            if part.future and ahead < horizon:
                raise DataError(
                    f"series {series.id}: {', '.join(part.future)} are known {ahead} steps ahead, {horizon} are forecast; "
                    "give them with --future FILE, or in further rows whose value is blank"
                )
        windows = self.windows(part)
        found = self.forecasts(
            network, EncodedPanel(windows, windows.origins([len(series) for series in part.series], complete=False))
        )
        times = [at(len(series) + np.arange(horizon), series.times, part.frequency) for series in part.series]
        return {
            "series": [series.id for series in part.series for _ in range(horizon)],
            "time": [time for block in times for time in written(block, part.form)],
            "forecast": found.value.ravel().tolist(),
            "lower": found.lower.ravel().tolist(),
            "upper": found.upper.ravel().tolist(),
        }

    def in_units(
        self, scaled: NDArray[np.float64], scale: NDArray[np.float64], center: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What the network gives, in the units of the data."""
        values: NDArray[np.float64] = scaled * scale + center
        # A logarithm beyond 700 is no number any more; what diverged so far is wrong at any height.
        return np.exp(np.minimum(values, 700.0)) if self.logarithmic else values

    def finish(self, network: torch.nn.Module, valid: EncodedPanel) -> None:
        """Move the ends of the intervals so that they hold the share of the validation values that they are meant to."""
        self.seen = ends_of(valid.windows.panel)
        self.widen = np.zeros_like(self.widen)
        outside: list[list[NDArray[np.float64]]] = [[], []]
        for windows, answer in self._answers(network, valid):
            said = answer.double().numpy()
            outside[0].append(said[:, :, 1] - windows.future)
            outside[1].append(windows.future - said[:, :, 2])
        apart = int((-(-np.bincount(valid.origins[:, 0]) // self.layout.horizon)).sum())
        self.widen = np.stack([widening(np.concatenate(parts), apart, LEVEL) for parts in outside])

    def baselines(self, train: PanelPart, test: PanelPart) -> list[BaselineScore]:
        """Persistence, seasonal-naive, drift, and ridge on the window."""
        learn, score = _thinned(self.encode(train), _FITTED_WINDOWS), self.encode(test)
        truth, errors = score.windows.truth(score.origins), self._season_errors(score)
        forecasts: dict[str, NDArray[np.float64]] = {}

        def measure(method: Any) -> tuple[dict[str, float], NDArray[np.float64]]:
            said = forecasts[method.name] = self._said_by(method, learn, score)
            return forecasting(truth, said, errors).scores(), self._pieces(score, abs(truth - said))

        season = self.settings.forecast.season
        assert season
        found = [scored(method, partial(measure, method)) for method in forecast.suited(season)]
        return [dataclasses.replace(one, said=forecasts[one.name]) if one.scores else one for one in found]

    def _said_by(self, method: Any, learn: EncodedPanel, asked: EncodedPanel) -> NDArray[np.float64]:
        """What a baseline forecasts, fitted on some windows and asked for others, in the units of the data ``[N, H]``."""
        fitted, cut = learn.windows.cut(learn.origins), asked.windows.cut(asked.origins)

        def past(windows: Windows, encoded: EncodedPanel) -> NDArray[np.float64]:
            if method.reach is None:
                return windows.past
            return (encoded.windows.look_back(encoded.origins, method.reach) - windows.center) / windows.scale

        said = method.fit(past(fitted, learn), fitted.future).predict(past(cut, asked))
        return self.in_units(said, cut.scale, cut.center)

    def details(
        self, network: torch.nn.Module, part: PanelPart, encoded: EncodedPanel, baselines: Sequence[BaselineScore] = ()
    ) -> dict[str, Any]:
        """Errors by step and by series, and some forecasts beside what came and what the best of the simple methods says."""
        found = self.forecasts(network, encoded)
        season = self.settings.forecast.season or 1
        naive = [forecast.Persistence(), *([forecast.SeasonalNaive(season)] if season > 1 else [])]
        said = {method.name: self._said_by(method, encoded, encoded) for method in naive}
        best = None
        if shown := [baseline for baseline in baselines if baseline.said is not None]:
            by = self.judged_by(shown[0].scores).name
            best = min(shown, key=lambda baseline: baseline.scores[by])
        covered = {"coverage": found.coverage()} if self._unseen(encoded) else {}
        return {**shown_of(found, encoded.windows, said, best, self._season_errors(encoded)), **covered, "level": LEVEL}

    def describe(self) -> str:
        """Recurrent and linear part."""
        layout = self.layout
        on_top = "on top of a linear forecast from the window"
        return f"{layers_of(self.settings.model)}, {on_top}, {layout.window} steps to {layout.horizon} steps"


def _check_size(panel: Panel) -> None:
    """Raise where numbers are so large that their squares are none."""
    for series in panel.series:
        if (np.abs(series.values) > _LARGEST).any():
            raise DataError(
                f"series {series.id!r} has the number {np.nanmax(np.abs(series.values)):g}; beyond {_LARGEST:g} there is no "
                "computing: correct it, or divide all numbers by a power of ten"
            )


def _thinned(encoded: EncodedPanel, most: int) -> EncodedPanel:
    rows = np.linspace(0, len(encoded.origins) - 1, min(len(encoded.origins), most)).astype(np.int64)
    return EncodedPanel(encoded.windows, encoded.origins[rows])


def _cycle_names(cycles: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{cycle} {i}" for cycle in cycles for i in range(4))
