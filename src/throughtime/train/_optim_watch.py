"""What is kept of one parameter, or of one single weight, at each update of an optimizer under trace."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from throughtime.errors import NotServedError

Array = npt.NDArray[np.float64]

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""What is kept of the weights of a parameter: the least, the quarters and the greatest."""


@dataclass(frozen=True, eq=False)
class ParameterTrace:
    """One parameter over the recorded updates.

    Quantiles are values that occur, picked by rank (the nearest), in the order of :data:`QUANTILES`. Those of the rate are of
    the same five weights, so that column 0 of ``rate`` is the rate of column 4 of ``alpha_t``.

    Attributes:
        alpha_t: [steps, 5] quantiles of what the optimizer has summed up; nan before the first update or without a sum.
        rate: [steps, 5] quantiles of alpha_t^1, the rate in effect; nan where it is not known.
        alpha: [steps] the rate that was set, ``lr``.
        update_norm: [steps] ``|w_new - w_old|``; nan where the parameter had no gradient, and so no update.
        weight_norm: [steps] ``|w_old|``.
        gradient_norm: [steps] norm of the gradient as the optimizer got it; nan where the parameter had none.
        total: [steps] the sum of alpha_t over all weights of the parameter.
    """

    alpha_t: Array
    rate: Array
    alpha: Array
    update_norm: Array
    weight_norm: Array
    gradient_norm: Array
    total: Array

    @property
    def update_ratio(self) -> Array:
        """[steps] ``|w_new - w_old| / |w_old|``; infinite where the parameter was zero and moved."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.update_norm / self.weight_norm)


@dataclass(frozen=True, eq=False)
class WeightTrace:
    """One single weight over the recorded updates.

    Attributes:
        alpha_t: [steps] what the optimizer has summed up of it; nan before the first update and where there is no sum.
        rate: [steps] alpha_t^1, the rate in effect; nan where it is not known.
        alpha: [steps] the rate that was set, ``lr``.
        value: [steps] ``w_new``, after the update.
        update: [steps] ``w_new - w_old``; nan where its parameter had no gradient, and so no update.
        gradient: [steps] as the optimizer got it; nan where its parameter had none.
    """

    alpha_t: Array
    rate: Array
    alpha: Array
    value: Array
    update: Array
    gradient: Array


class Rule(NamedTuple):
    """alpha_t^1 = alpha / (sqrt(alpha_t) / correction + eps): the form in which torch computes all of them."""

    alpha: float
    alpha_t: Tensor | None = None  # None: there is no sum, and alpha itself is the rate
    eps: float = 0.0
    correction: float = 1.0

    def rate(self, alpha_t: Tensor) -> Tensor:
        """The rates in effect of weights with these sums."""
        if self.alpha_t is None:
            return torch.full_like(alpha_t, self.alpha, dtype=torch.float64)
        # The root in the precision of the sum, as the optimizer takes it.
        return self.alpha / (alpha_t.sqrt() / self.correction + self.eps).double()


def rule(optimizer: torch.optim.Optimizer, group: Mapping[str, Any], state: Mapping[str, Any]) -> Rule:
    """How the optimizer came by the rate of its last update of a parameter; nan if it made none, or its way is not known."""
    alpha = float(group["lr"])
    if isinstance(optimizer, torch.optim.SGD):
        return Rule(alpha)
    t = float(state.get("step", 0))
    if t > 0 and isinstance(optimizer, torch.optim.Adagrad):
        return Rule(alpha / (1 + (t - 1) * group["lr_decay"]), state["sum"], group["eps"])
    if t > 0 and isinstance(optimizer, torch.optim.RMSprop):
        square, mean = state["square_avg"], state.get("grad_avg")
        return Rule(alpha, square if mean is None else square.addcmul(mean, mean, value=-1), group["eps"])
    if t > 0 and isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
        square = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
        return Rule(alpha, square, group["eps"], math.sqrt(1 - float(group["betas"][1]) ** t))
    return Rule(math.nan)


class Watch(ABC):
    """Takes a look before the step and one after it, and adds a row of numbers."""

    _picked: int  # how many weights alpha_t and its rate are kept of
    _others: int  # how many numbers beside them, alpha included

    def __init__(self, name: str, parameter: Tensor) -> None:
        if parameter.is_complex():
            raise NotServedError(f"optim_trace: {name} is complex, which cannot be traced; name the real ones: names=[...]")
        self.parameter = parameter
        self._rows = array("d")
        self._before = torch.empty(0)
        self._gradient = math.nan
        self._moved = False

    def miss(self, steps: int) -> None:
        """Rows of nan for the steps recorded before this parameter was there."""
        self._rows.extend([math.nan] * (self._width * steps))

    def keep(self) -> None:
        """Remember the weights as they are before the step."""
        self._before = self._part(self.parameter.detach()).clone()

    def take_gradient(self) -> None:
        """Remember what is to be recorded of the gradient."""
        gradient = self.parameter.grad
        self._gradient = math.nan if gradient is None else self._size(gradient.coalesce() if gradient.is_sparse else gradient)
        self._moved = gradient is not None

    def record(self, alpha: float, rule: Rule) -> None:
        """Add the row of the step that has just been made."""
        alpha_t = torch.full((self._picked,), math.nan) if rule.alpha_t is None else self._pick(rule.alpha_t)
        rates = rule.rate(alpha_t).flip(0)  # the greatest sum has the least rate
        weights = self._part(self.parameter.detach())
        update = weights - self._before if self._moved else torch.full((1,), math.nan)
        self._rows.extend([*alpha_t.tolist(), *rates.tolist(), alpha, *self._numbers(weights, update, rule.alpha_t)])
        self._before = torch.empty(0)

    def columns(self) -> tuple[Array, Array, Array]:
        """alpha_t and the rate [steps, picked] each, and the other numbers [others, steps]."""
        rows = np.array(self._rows).reshape(-1, self._width)
        return rows[:, : self._picked], rows[:, self._picked : -self._others], rows[:, -self._others :].T

    @property
    def _width(self) -> int:
        return 2 * self._picked + self._others

    @abstractmethod
    def _part(self, tensor: Tensor) -> Tensor:
        """What is watched of a tensor of the parameter's shape."""

    @abstractmethod
    def _pick(self, alpha_t: Tensor) -> Tensor:
        """[picked] of the sums, on the CPU."""

    @abstractmethod
    def _size(self, gradient: Tensor) -> float:
        """The one number kept of a gradient, which may be sparse (and is then coalesced)."""

    @abstractmethod
    def _numbers(self, weights: Tensor, update: Tensor, alpha_t: Tensor | None) -> Sequence[float]:
        """[others - 1] those beside alpha."""


class WatchedParameter(Watch):
    """A whole parameter, by quantiles and norms."""

    _picked = len(QUANTILES)
    _others = 5

    def result(self) -> ParameterTrace:
        """What was recorded."""
        alpha_t, rate, (alpha, update_norm, weight_norm, gradient_norm, total) = self.columns()
        return ParameterTrace(alpha_t, rate, alpha, update_norm, weight_norm, gradient_norm, total)

    def _part(self, tensor: Tensor) -> Tensor:
        return tensor

    def _pick(self, alpha_t: Tensor) -> Tensor:
        values = alpha_t.detach().flatten().cpu()
        if len(values) == 0:
            return torch.full((self._picked,), math.nan)
        if values.dtype in (torch.bfloat16, torch.float16):
            values = values.float()
        ranks = [round(share * (len(values) - 1)) for share in QUANTILES]
        # NumPy's selection is about four times as fast as torch's on a CPU.
        return torch.from_numpy(np.partition(values.numpy(), ranks)[ranks])

    def _size(self, gradient: Tensor) -> float:
        return _norm(gradient.values() if gradient.is_sparse else gradient)

    def _numbers(self, weights: Tensor, update: Tensor, alpha_t: Tensor | None) -> Sequence[float]:
        total = math.nan if alpha_t is None else float(alpha_t.sum(dtype=_wide(alpha_t)))
        return _norm(update), _norm(self._before), self._gradient, total


class WatchedWeight(Watch):
    """A single weight, in full."""

    _picked = 1
    _others = 4

    def __init__(self, name: str, parameter: Tensor, index: tuple[int, ...]) -> None:
        super().__init__(name, parameter)
        self._index = index

    def result(self) -> WeightTrace:
        """What was recorded."""
        alpha_t, rate, (alpha, value, update, gradient) = self.columns()
        return WeightTrace(alpha_t[:, 0], rate[:, 0], alpha, value, update, gradient)

    def _part(self, tensor: Tensor) -> Tensor:
        return tensor[self._index]

    def _pick(self, alpha_t: Tensor) -> Tensor:
        return alpha_t.detach()[self._index].reshape(1).cpu()

    def _size(self, gradient: Tensor) -> float:
        return float(gradient[self._index])

    def _numbers(self, weights: Tensor, update: Tensor, alpha_t: Tensor | None) -> Sequence[float]:
        return float(weights), float(update), self._gradient


def _wide(tensor: Tensor) -> torch.dtype:
    """Squares of small gradients underflow in float32; MPS knows nothing wider."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=_wide(tensor)))
