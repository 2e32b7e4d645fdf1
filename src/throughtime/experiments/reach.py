"""How far back the gradient reaches in sigmoid, tanh, ReLU, GRU and LSTM networks before their first update.

The task is temporal order, see :func:`throughtime.experiments.lags.temporal_order`. Every gain, norm and horizon is what
:func:`throughtime.flow.record` measured. Logarithms are natural: 0 is a gradient that is kept, -0.5 a loss of 39 % per step.

Legend: T steps, B samples, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from throughtime.experiments.lags import ORDER, Task
from throughtime.flow import LayerFlow, record
from throughtime.nn import GRU, LSTM, RNN, init
from throughtime.nn._recurrent import Recurrent
from throughtime.reference import ACTIVATIONS, Array

HIDDEN = 50
"""H of every network, as in Pascanu, Mikolov and Bengio 2013."""

BATCH = 20
"""B of every update, as there."""


@dataclass(frozen=True)
class Start:
    """A network before its first update.

    Attributes:
        name: for a legend.
        weights: how its weights are drawn.
        make: the module, from the number of features of its input and H; draws from torch's global generator.
    """

    name: str
    weights: str
    make: Callable[[int, int], Recurrent]


@dataclass(frozen=True)
class Reach:
    """How far the gradient reaches in one network. ``None`` stands where a number is not defined or not finite.

    Attributes:
        name: of the start.
        weights: how they were drawn.
        left: [T + 1] mean log of what is left of the probe, a unit gradient put in at the last step, k steps back.
        norms: [T] mean norm of dL/dh, k steps before the last one, in float32 as it is computed.
        gain: mean log gain of a step, over the steps where the probe is neither zero nor endless.
        activation: the part of it owed to the slope of the activation; simple RNN only.
        weight: the part owed to the recurrent weights; simple RNN only. The two add up to ``gain``.
        cell: mean log gain of the path from c_t to c_{t-1}, the forget gate; LSTM only.
        slope_mean: mean slope of the activation over steps, samples and units; simple RNN only.
        slope_least: the smallest slope; simple RNN only.
        slope_largest: the largest slope; simple RNN only.
        radius: the largest absolute eigenvalue of the recurrent weights; simple RNN only.
        horizon_10: steps back after which less than 10 % of the probe is left; ``None`` if that is not seen within T steps.
        horizon_1: the same for 1 %.
        first_bad_step: the step, counted from 0, at which on the way back a gradient is first not finite.
        underflowed_at: steps back from the end at which the first sample's gradient has become exactly zero.
    """

    name: str
    weights: str
    left: list[float | None]
    norms: list[float | None]
    gain: float | None
    activation: float | None
    weight: float | None
    cell: float | None
    slope_mean: float | None
    slope_least: float | None
    slope_largest: float | None
    radius: float | None
    horizon_10: int | None
    horizon_1: int | None
    first_bad_step: int | None
    underflowed_at: int | None


def _normal(recurrent: Recurrent, gain: float) -> Recurrent:
    """Recurrent weights N(0, gain^2 / H), whose eigenvalues fill a disc of radius ``gain``."""
    torch.nn.init.normal_(recurrent.get_parameter("weight_hh_l0"), 0.0, gain / math.sqrt(recurrent.hidden_size))
    return recurrent


_TORCH = "as torch starts it: uniform within ±1/√H"
STARTS = {
    start.name: start
    for start in (
        Start("sigmoid", _TORCH, lambda features, hidden: RNN(features, hidden, nonlinearity="sigmoid")),
        Start("tanh", _TORCH, RNN),
        Start("ReLU", _TORCH, lambda features, hidden: RNN(features, hidden, nonlinearity="relu")),
        Start("ReLU, He", "recurrent normal, variance 2/H (He et al. 2015)",
              lambda features, hidden: _normal(RNN(features, hidden, nonlinearity="relu"), math.sqrt(2))),
        Start("ReLU, large", "recurrent normal, variance 4/H",
              lambda features, hidden: _normal(RNN(features, hidden, nonlinearity="relu"), 2)),
        Start("ReLU, identity", "recurrent the identity (Le et al. 2015)",
              lambda features, hidden: init.identity_(RNN(features, hidden, nonlinearity="relu"))),
        Start("GRU", _TORCH, GRU),
        Start("LSTM", _TORCH, LSTM),
        Start("LSTM, forget bias 1", "as torch starts it, the forget bias 1 (Jozefowicz et al. 2015)",
              lambda features, hidden: init.forget_bias_(LSTM(features, hidden))),
        Start("LSTM, large", "forget bias 1, recurrent normal, variance 4/H",
              lambda features, hidden: _normal(init.forget_bias_(LSTM(features, hidden)), 2)),
        Start("LSTM, very large", "forget bias 1, recurrent normal, variance 64/H",
              lambda features, hidden: _normal(init.forget_bias_(LSTM(features, hidden)), 8)),
    )
}  # fmt: skip
"""The networks that are measured, by name. The first three have the same weights where the seed is the same."""


class Network(torch.nn.Module):
    """A recurrent layer and, on its last output, a linear one that answers a task."""

    def __init__(self, start: Start, hidden: int, seed: int, task: Task = ORDER) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.recurrent = start.make(task.features, hidden)
            self.head = torch.nn.Linear(hidden, task.outputs)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Answers [B, outputs] and outputs of the recurrent layer [T, B, H]."""
        output, _ = self.recurrent(inputs)
        return self.head(output[-1]), output


def measure(start: Start, *, steps: int = 100, hidden: int = HIDDEN, batch: int = BATCH, seed: int = 0) -> Reach:
    """How far the gradient reaches in one fresh network, on one batch of temporal order.

    Args:
        start: the network.
        steps: T, at least 10.
        hidden: H.
        batch: B.
        seed: of the weights and of the batch.

    Raises:
        SettingsError: too few steps, or no sample.

    Example:
        >>> vanishing = measure(STARTS["sigmoid"])
        >>> vanishing.horizon_1, vanishing.slope_largest <= 0.25
        (3, True)
    """
    inputs, targets = drawn(steps, batch, seed)
    network = Network(start, hidden, seed)
    logits, output = network(inputs)
    with record(network) as flow:
        torch.nn.functional.cross_entropy(logits, targets).backward()
    layer = flow.layers[0]
    assert layer.probe is not None, "recorded with probe"
    told = np.isfinite(layer.probe.gain)
    nonlinearity = layer.cell.nonlinearity
    slopes = None if nonlinearity is None else ACTIVATIONS[nonlinearity].slope(output.detach().double().numpy())
    weights = network.recurrent.get_parameter("weight_hh_l0").detach()
    return Reach(
        name=start.name,
        weights=start.weights,
        left=[0.0, *map(_number, layer.reach)],
        norms=[_number(norm) for norm in layer.norm[::-1]],
        gain=_mean(layer.probe.gain[told]),
        activation=_mean(layer.probe.activation[told]),
        weight=_mean(layer.probe.weight[told]),
        cell=_mean(layer.probe.cell[told]),
        slope_mean=None if slopes is None else _mean(slopes),
        slope_least=None if slopes is None else _number(slopes.min()),
        slope_largest=None if slopes is None else _number(slopes.max()),
        radius=None if slopes is None else float(torch.linalg.eigvals(weights).abs().max()),
        horizon_10=horizon(layer, 0.1),
        horizon_1=horizon(layer, 0.01),
        first_bad_step=layer.first_bad_step,
        underflowed_at=layer.underflowed_at,
    )


def at_initialisation(seed: int = 0, *, steps: int = 100, hidden: int = HIDDEN, batch: int = BATCH) -> list[Reach]:
    """:func:`measure` for all of :data:`STARTS`, on the same batch.

    Args:
        seed: of the weights and of the batch.
        steps: T, at least 10.
        hidden: H.
        batch: B.

    Raises:
        SettingsError: too few steps, or no sample.

    Example:
        >>> [reach.name for reach in at_initialisation(steps=20) if reach.gain > 0.1]
        ['ReLU, large', 'LSTM, very large']
    """
    return [measure(start, steps=steps, hidden=hidden, batch=batch, seed=seed) for start in STARTS.values()]


def drawn(steps: int, batch: int, *seed: int, task: Task = ORDER) -> tuple[Tensor, Tensor]:
    """A batch of a task with a known lag, inputs [T, B, F] and answers [B].

    Args:
        steps: T, at least 10.
        batch: B.
        *seed: what NumPy's generator starts from.
        task: which.

    Raises:
        SettingsError: too few steps, or no sample.
    """
    made = task.draw(steps, batch, np.random.default_rng(seed))
    return torch.from_numpy(made.inputs), torch.from_numpy(made.targets)


def horizon(layer: LayerFlow, fraction: float) -> int | None:
    """The horizon as a whole number; ``None`` if it is not seen within T steps.

    Args:
        layer: recorded with probe.
        fraction: between 0 and 1.
    """
    steps = layer.horizon(fraction)
    return int(steps) if math.isfinite(steps) else None


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _mean(values: Array) -> float | None:
    return _number(values.mean()) if values.size else None
