"""What can be asked of a fitted model about one row: its answer, its loss, and the answer without some of its steps."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from throughtime.data.frequency import at
from throughtime.data.records import Panel, Sequences
from throughtime.data.split_panel import PanelPart
from throughtime.data.times import show
from throughtime.errors import DataError, SettingsError
from throughtime.tasks.classify import Classify
from throughtime.tasks.forecast import Forecast
from throughtime.tasks.forecast_network import EncodedPanel, batch_of
from throughtime.tasks.inputs import TokenInputs
from throughtime.tasks.labelled import Labelled, LabelledTask
from throughtime.tasks.lm import LanguageModelling
from throughtime.tasks.regress import Regress
from throughtime.tasks.tag import Tag
from throughtime.train.fitted import Fitted
from throughtime.transforms import words

_TOKENS = 200
"""The most tokens of a text that are looked at, up to the one that is predicted."""

Keep = NDArray[np.bool_]
"""Which steps of a row are kept in each copy of it, ``[n, T]``."""


class Question(ABC):
    """What is asked of the model about one row."""

    names: list[str]
    """Of the steps that can be left out."""
    kept: Keep
    """Which of them must stay: that whose answer is asked for."""
    origin: str
    truth: str
    prediction: str
    answer: str
    without = "left out"
    """What is done with a step that is not kept."""

    @abstractmethod
    def loss(self) -> Tensor:
        """Of the row."""

    @abstractmethod
    def answers(self, keep: Keep) -> NDArray[np.float64]:
        """The answer for copies of the row, each with the steps ``[n, T]`` that are to be kept."""


def question_about(fitted: Fitted, content: Sequences | Panel, row: int, step: int | None) -> Question:
    """The question that suits the model.

    Args:
        fitted: the model.
        content: what the row stands in.
        row: its number, from 0.
        step: whose answer is asked for, from 1; ``None`` is for the question to choose.

    Raises:
        SettingsError: a step that is not there, or where there is but one answer.
        DataError: nothing can be asked about the row.
    """
    task, network = fitted.task, fitted.network
    if isinstance(content, Panel):
        assert isinstance(task, Forecast)
        _check_no(step, task.name)
        return _AboutForecast(task, network, content, row)
    part = content.take(np.array([row]))
    if isinstance(task, LanguageModelling):
        return _AboutText(task, network, part, step)
    assert isinstance(task, LabelledTask)
    if not task.per_step:
        _check_no(step, task.name)
    return _AboutLabelled(task, network, part, step)


def _check_no(step: int | None, task: str) -> None:
    if step is not None:
        raise SettingsError(f"step is {step}, but a model to {task} gives one answer for the whole row; leave it out")


def _place(step: int | None, length: int, otherwise: int) -> int:
    """A step counted from 0."""
    if step is None:
        return otherwise
    if not 1 <= step <= length:
        raise SettingsError(f"step is {step}, expected 1 to {length:,}")
    return step - 1


class _Shortened:
    """Copies of a row with steps left out, put before the recurrent layers.

    Args:
        network: whose recurrent layers.
        keep: the steps of each copy, ``[n, T]``.
    """

    def __init__(self, network: Any, keep: Keep) -> None:
        self._rnn = network.rnn
        self.lengths = torch.from_numpy(keep.sum(axis=1).astype(np.int64))
        # The steps kept come first, in their order; what follows is past the end.
        self._order = torch.from_numpy(np.argsort(~keep, axis=1, kind="stable").T.copy())

    def __enter__(self) -> Tensor:
        def shorten(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            embedded, *others = inputs
            return (torch.gather(embedded, 0, self._order[:, :, None].expand_as(embedded)), *others)

        self._handle = self._rnn.register_forward_pre_hook(shorten)
        return self.lengths

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


class _AboutLabelled(Question):
    """A class, a number, or the tag or number of a step."""

    def __init__(self, task: LabelledTask, network: torch.nn.Module, part: Sequences, step: int | None) -> None:
        self.task, self.network = task, network
        self.encoded = task.encode(part)
        length = int(self.encoded.lengths[0])
        self.origin = part.origin(0)
        if not length:
            raise DataError(f"{self.origin} has no steps to look at")
        self.names = _names(task, part, self.encoded)
        self.kept = np.zeros(length, dtype=bool)
        if task.steps is not None:  # with weights for every step none may be missing
            self.without = "set to its mean"
        with torch.inference_mode():
            said = task.answer(network, self._copies(1), torch.tensor([length]))
        said = said.reshape(length if task.per_step else 1, -1).double()
        shares = said.softmax(dim=1)
        doubtful = int(shares.amax(dim=1).argmin()) if isinstance(task, Tag) else length - 1
        self.place = _place(step, length, doubtful) if task.per_step else 0
        if task.per_step:
            self.kept[self.place] = True
        where = f" at step {self.place + 1}, {self.names[self.place]}" if task.per_step else ""
        targets = self.encoded.targets
        known = None if targets is None else np.asarray(targets[0]).reshape(-1)[self.place]
        if isinstance(task, Regress):
            value = float(task.scaler.inverse(said[self.place].numpy()[:, None])[0, 0])
            self.chosen = 0
            self.prediction = f"{value:.4g}"
            self.truth = "" if known is None else f"{float(task.scaler.inverse(np.array([[known]], float))[0, 0]):.4g}"
            self.answer = f"the number predicted{where}"
            self.target = torch.tensor(float(said[self.place, 0]) if known is None else float(known))
        else:
            assert isinstance(task, Classify | Tag)
            self.chosen = int(said[self.place].argmax())
            self.prediction = task.labels.names[self.chosen]
            self.truth = "" if known is None else task.labels.names[int(known)]
            self.answer = f"the probability of {self.prediction}{where}"
            self.target = torch.tensor(self.chosen if known is None else int(known))

    def _copies(self, count: int) -> Any:
        return self.encoded.inputs.batch(np.zeros(count, np.int64))

    def _said(self, count: int, lengths: Tensor, places: Tensor) -> Tensor:
        """``[n, outputs]`` at the places asked for."""
        said = self.task.answer(self.network, self._copies(count), lengths)
        return said[places, torch.arange(count)] if self.task.per_step else said

    def loss(self) -> Tensor:
        """Of the whole row, or of the one step."""
        said = self._said(1, torch.tensor([len(self.names)]), torch.tensor([self.place]))
        return self.task.criterion(
            said[None] if self.task.per_step else said, self.target.reshape(1, *[1] * self.task.per_step)
        )

    def answers(self, keep: Keep) -> NDArray[np.float64]:
        """A probability, or a number in the units of the data."""
        if self.task.steps is not None:
            with _Blanked(self.network, keep):
                said = self._said(len(keep), torch.full((len(keep),), keep.shape[1]), torch.full((len(keep),), self.place))
        else:
            places = torch.from_numpy(keep[:, : self.place].sum(axis=1))
            with _Shortened(self.network, keep) as lengths:
                said = self._said(len(keep), lengths, places)
        if isinstance(self.task, Regress):
            return self.task.scaler.inverse(said.double().numpy())[:, 0]
        return said.double().softmax(dim=1)[:, self.chosen].numpy()


class _Blanked:
    """Copies of a row with steps set to zero, put before the recurrent layers."""

    def __init__(self, network: Any, keep: Keep) -> None:
        self._rnn, self._keep = network.rnn, torch.from_numpy(keep.T[:, :, None].astype(np.float32))

    def __enter__(self) -> None:
        self._handle = self._rnn.register_forward_pre_hook(lambda module, inputs: (inputs[0] * self._keep, *inputs[1:]))

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


class _AboutText(Question):
    """The next token of a document."""

    def __init__(self, task: LanguageModelling, network: Any, part: Sequences, step: int | None) -> None:
        self.network, self.origin = network, part.origin(0)
        encoded = task.encode(part)
        length = int(encoded.lengths[0])
        place = _place(step, length, min(length, _TOKENS) - 1)
        start = max(0, place + 1 - _TOKENS)
        tokens = encoded.stream[: length + 1].astype(np.int64)
        self.inputs = torch.from_numpy(tokens[start : place + 1, None])
        self.target = torch.from_numpy(tokens[place + 1 : place + 2])
        self.names = [_token(task, int(token)) for token in tokens[start : place + 1]]
        if start == 0:
            self.names[0] = "the start"
        self.kept = np.arange(place + 1 - start) == place - start  # what comes next is asked of the last
        self.truth = _token(task, int(self.target))
        with torch.inference_mode():
            self.chosen = int(self._said(1, torch.tensor([len(self.names)])).argmax())
        self.prediction = _token(task, self.chosen)
        self.answer = f"the probability that {self.prediction} comes next"

    def _said(self, count: int, lengths: Tensor) -> Tensor:
        said, _ = self.network(self.inputs.expand(-1, count), lengths, None)
        last: Tensor = said[lengths - 1, torch.arange(count)]
        return last

    def loss(self) -> Tensor:
        """Nats of the token that came."""
        return torch.nn.functional.cross_entropy(self._said(1, torch.tensor([len(self.names)])), self.target)

    def answers(self, keep: Keep) -> NDArray[np.float64]:
        """Probabilities."""
        with _Shortened(self.network, keep) as lengths:
            said = self._said(len(keep), lengths)
        return said.double().softmax(dim=1)[:, self.chosen].numpy()


class _AboutForecast(Question):
    """The mean of what is forecast, from the last place of a series whose future is known."""

    without = "set to the mean of its window"

    def __init__(self, task: Forecast, network: torch.nn.Module, panel: Panel, row: int) -> None:
        self.task, self.network = task, network
        series = panel.series[row]
        alone = dataclasses.replace(panel, series=[series])
        window, horizon = task.layout.window, task.layout.horizon
        encoded = task.encode(PanelPart(alone, [1]))
        if not len(encoded.origins):
            raise DataError(f"series {series.id} has {len(series):,} values, fewer than one before the {horizon:,} to forecast")
        self.one = EncodedPanel(encoded.windows, encoded.origins[-1:])
        self.windows = encoded.windows.cut(self.one.origins)
        origin = int(self.one.origins[0, 1])
        times = [show(time) for time in at(np.arange(origin - window, origin), series.times, panel.frequency)]
        self.names, self.kept = times, np.zeros(window, dtype=bool)
        with torch.inference_mode():
            said = task.forecasts(network, self.one)
        self.origin = f"series {series.id}, the {horizon:,} steps after {times[-1]}"
        self.truth, self.prediction = _few(said.truth[0]), _few(said.value[0])
        self.answer = f"the mean of the {horizon:,} values forecast"

    def _batch(self, keep: Keep) -> tuple[Tensor, Tensor]:
        window, count = keep.shape[1], len(keep)
        features = np.repeat(self.windows.features, count, axis=1)
        features[:window] *= keep.T[:, :, None]
        past = np.repeat(self.windows.past, count, axis=0) * keep
        return torch.from_numpy(features), torch.from_numpy(past.astype(np.float32))

    def loss(self) -> Tensor:
        """As while training."""
        return self.task.loss(self.network, batch_of(self.windows), None)[0]

    def answers(self, keep: Keep) -> NDArray[np.float64]:
        """In the units of the data."""
        said = self.network(*self._batch(keep)).double().numpy()[:, :, 0]
        value = self.task.in_units(said, self.windows.scale, self.windows.center)
        mean: NDArray[np.float64] = value.mean(axis=1)
        return mean


def _names(task: LabelledTask, part: Sequences, encoded: Labelled) -> list[str]:
    if isinstance(task.inputs, TokenInputs):
        codec = task.inputs.codec
        return [repr(codec.decode([int(token)])) for token in encoded.inputs.ragged[0]]
    if part.kind in ("text", "words"):
        return words(part.inputs[0]) if part.kind == "text" else [str(word) for word in part.inputs[0]]
    return [str(step + 1) for step in range(int(encoded.lengths[0]))]


def _token(task: LanguageModelling, token: int) -> str:
    return "the end" if token == task.codec.end else repr(task.codec.decode([token]))


def _few(values: NDArray[np.float64]) -> str:
    shown = ", ".join(f"{value:.4g}" for value in values[:6])
    return f"{shown}, ..." if len(values) > 6 else shown
