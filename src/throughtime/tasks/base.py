"""What every task is made of: a network, batches in an order that can be taken up anywhere, a loss, and scores."""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from throughtime.data.files import plural
from throughtime.settings import ModelSettings, Settings
from throughtime.tasks.baselines import Baseline

State = Any
"""What a recurrent network carries from window to window: a tensor, a pair of them, or nothing."""

COMMON: dict[str, Any] = {
    "layers": 1,
    "init": "orthogonal",
    "optimizer": "AdamW",
    "weight_decay": 0.01,
    "schedule": "cosine",
    "clip": 1.0,
}
"""Defaults of every task."""

Table = dict[str, list[Any]]
"""Columns of one length, by name."""

_B = TypeVar("_B", bound="Batch")


@dataclass
class Batch:
    """One batch. Subclasses add what their task needs.

    Attributes:
        lengths: true steps of each sequence; int64 ``[B]``.
    """

    lengths: Tensor

    @property
    def sequences(self) -> int:
        """How many."""
        return len(self.lengths)

    @property
    def steps(self) -> int:
        """The true steps of all of them."""
        return int(self.lengths.sum())

    def to(self: _B, device: torch.device) -> _B:
        """The same on another device; lengths stay where the kernels want them."""
        if device.type == "cpu":
            return self
        moved = {f.name: _moved(getattr(self, f.name), device) for f in dataclasses.fields(self) if f.name != "lengths"}
        return dataclasses.replace(self, **moved)


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) or hasattr(value, "to") else value


class Feed(ABC):
    """The training batches of every epoch, each a function of seed, epoch and index alone: so resuming is exact."""

    carries: bool = False
    """Whether the state after a batch is where the next one starts."""

    @abstractmethod
    def __len__(self) -> int:
        """Batches in an epoch."""

    @abstractmethod
    def batch(self, epoch: int, index: int) -> Batch:
        """One of them."""


@dataclass(frozen=True)
class Metric:
    """The score by which a task is judged.

    Attributes:
        name: its key in the scores.
        label: what people call it.
        higher_is_better: or lower.
        unit: ``"%"``, ``"nats"``, or nothing.
    """

    name: str
    label: str
    higher_is_better: bool
    unit: str = ""

    def better(self, new: float, old: float | None) -> bool:
        """Whether a score beats another."""
        return old is None or (new > old if self.higher_is_better else new < old)


@dataclass(frozen=True)
class BaselineScore:
    """What a simple method scores on the same data.

    Attributes:
        name: short.
        description: what it does, in a line.
        parameters: numbers it learned.
        seconds: fitting and scoring.
        scores: as the task's own; empty if the method cannot be used on this data.
        order: ``blind`` if it cannot see the order of the steps, ``window`` if it sees some of it, ``full`` if all.
        problem: why it cannot be used; empty if it can.
        errors: as :meth:`Task.errors` gives them for the network; ``None`` where there are no scores.
        said: what it predicts, where the report shows that beside the network.
    """

    name: str
    description: str
    parameters: int
    seconds: float
    scores: dict[str, float]
    order: str | None = None
    problem: str = ""
    errors: NDArray[np.float64] | None = dataclasses.field(default=None, repr=False, compare=False)
    said: NDArray[np.float64] | None = dataclasses.field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Rival:
    """A feed-forward network to train on the same data as the recurrent one.

    Attributes:
        name: short.
        description: what it sees, in a line.
        order: as for :class:`BaselineScore`.
        network: makes a new one, initialised from torch's random generator.
    """

    name: str
    description: str
    order: str
    network: Callable[[], torch.nn.Module]


BLIND, FLAT = "order-blind network", "flattened network"
"""What the two rivals of every task are called."""


def scored(method: Baseline, score: Callable[[], tuple[dict[str, float], NDArray[np.float64]]]) -> BaselineScore:
    """Fit and score a simple method, with the clock running.

    Args:
        method: the method.
        score: fits it and returns its scores and errors; a :class:`ValueError` says that it cannot be used on this data.
    """
    started = time.monotonic()
    try:
        (scores, errors), problem = score(), ""
    except ValueError as error:
        scores, errors, problem = {}, None, str(error)
    parameters, seconds = method.parameters if scores else 0, time.monotonic() - started
    return BaselineScore(method.name, method.description, parameters, seconds, scores, method.order, problem, errors)


def layers_of(model: ModelSettings) -> str:
    """The recurrent layers in a phrase.

    Example:
        >>> layers_of(ModelSettings(cell="gru", layers=2, hidden=64, bidirectional=True))
        'bidirectional GRU, 2 layers of 64 units'
    """
    both, plural = "bidirectional " * bool(model.bidirectional), "s" * ((model.layers or 0) > 1)
    return f"{both}{str(model.cell).upper()}, {model.layers} layer{plural} of {model.hidden} units"


class Task(ABC):
    """One kind of problem, from what was read to scores and predictions.

    :meth:`prepare` fits everything that turns input into numbers, on the training part only; after it, or after
    :meth:`restore`, the rest can be used.

    Args:
        settings: of the fit; :meth:`prepare` decides what they leave open.

    Attributes:
        warnings: what :meth:`prepare` found that the user should know, one line each.
    """

    name: ClassVar[str]
    metric: Metric
    """Judged by on the test part."""
    monitor: Metric
    """Judged by while training."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.warnings: list[str] = []

    def decide(self, **defaults: Any) -> None:
        """Fill settings that are open."""
        if str(self.settings.training.optimizer).lower() == "rprop":  # alone of all it has no weight decay
            defaults.pop("weight_decay", None)
        open_ = {name: value for name, value in defaults.items() if self._setting(name) is None}
        self.settings = self.settings.replace(**open_)

    def _setting(self, name: str) -> Any:
        return next(getattr(section, name) for section in vars(self.settings).values() if hasattr(section, name))

    @abstractmethod
    def prepare(self, train: Any) -> None:
        """Fit the transforms on the training part, and decide every open setting.

        Args:
            train: the training part as it was read.

        Raises:
            DataError: the part cannot be learned from.
        """

    @abstractmethod
    def transforms(self) -> dict[str, Any]:
        """All that :meth:`prepare` fitted, as JSON."""

    @abstractmethod
    def restore(self, transforms: dict[str, Any]) -> None:
        """Put back what :meth:`transforms` gave."""

    @abstractmethod
    def encode(self, part: Any) -> Any:
        """A part of the data as arrays."""

    @abstractmethod
    def network(self) -> torch.nn.Module:
        """A new network, initialised from torch's random generator."""

    @abstractmethod
    def feed(self, encoded: Any) -> Feed:
        """Training batches of an encoded part."""

    @abstractmethod
    def loss(self, network: torch.nn.Module, batch: Any, state: State) -> tuple[Tensor, State]:
        """The mean loss of a batch, and the state after it."""

    @abstractmethod
    def evaluate(self, network: torch.nn.Module, encoded: Any) -> dict[str, float]:
        """Scores of a network on an encoded part while it is trained; ``loss`` is among them."""

    def finish(self, network: torch.nn.Module, valid: Any) -> None:
        """What is to be fitted on the encoded validation part once the network is trained."""
        return

    def score(self, network: torch.nn.Module, part: Any, encoded: Any) -> dict[str, float]:
        """Scores for the result: all of them, exact.

        Args:
            network: the fitted one.
            part: as it was read.
            encoded: the same as arrays.
        """
        return self.evaluate(network, encoded)

    def held_out(self, content: Any) -> tuple[Any, str]:
        """What of some data is to be scored, and what there is to say of it, in a phrase that begins as it is to be joined.

        Args:
            content: what was read, with its targets.

        Raises:
            DataError: there is nothing to score.
        """
        return content, ""

    def unfamiliar(self, part: Any) -> str:
        """What of a part the model cannot tell apart since the training part has none of it, in a phrase; empty for nothing."""
        return ""

    def amount(self, part: Any, encoded: Any) -> str:
        """How much there is in a part, in a phrase."""
        return plural(len(part), "sequence")

    def judged_by(self, scores: dict[str, float]) -> Metric:
        """The metric that decides where these are the scores: ``metric``, unless it is undefined for the data."""
        return self.metric

    @abstractmethod
    def errors(self, network: torch.nn.Module, part: Any, encoded: Any) -> NDArray[np.float64]:
        """The error in each piece of a part, the smaller the better, whose sum orders models as the metric does.

        Pieces depend as little on each other as the data allows (sequences, documents, stretches of time): whether two models
        differ by more than chance is told from them. They are the same pieces for every model and baseline.

        Args:
            network: the fitted one.
            part: as it was read.
            encoded: the same as arrays.
        """

    @abstractmethod
    def predict(self, network: torch.nn.Module, part: Any) -> Table:
        """Predictions for what was read, as columns of one length."""

    @abstractmethod
    def baselines(self, train: Any, scored: Any) -> list[BaselineScore]:
        """What simple methods score: fitted on ``train``, scored on ``scored``, both as they were read."""

    @abstractmethod
    def rivals(self, train: Any) -> list[Rival]:
        """The feed-forward networks (ANNs) of this task, one that is blind to order and one that is flattened.

        They take and return what :meth:`network` does, so that everything else here works on them too.

        Args:
            train: the encoded training part.
        """

    @abstractmethod
    def details(
        self, network: torch.nn.Module, part: Any, encoded: Any, baselines: Sequence[BaselineScore] = ()
    ) -> dict[str, Any]:
        """What the report shows of this task beyond scores, as JSON.

        Args:
            network: the fitted one.
            part: as it was read.
            encoded: the same as arrays.
            baselines: scored on the same part, to be shown beside the network.
        """

    @abstractmethod
    def describe(self) -> str:
        """The network in a phrase."""
