"""The trace of an optimizer: what it has summed up, the rate in effect, and how far each update moves the weights."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from throughtime.errors import NotRecordedError, NotServedError, SettingsError
from throughtime.train._optim_watch import (
    QUANTILES as QUANTILES,
    ParameterTrace as ParameterTrace,
    Watch,
    WatchedParameter,
    WatchedWeight,
    WeightTrace as WeightTrace,
    rule,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL_UPDATE = 1e-5
"""An update that moves its parameter by less than this share of its norm moves it nowhere."""

GRADIENT_KEPT = 0.1
"""A gradient that has kept this share of its early norm still has something to teach."""

FEWEST = 20
"""Updates below which early and late cannot be told apart."""


def optim_trace(
    optimizer: torch.optim.Optimizer,
    names: Sequence[str] | None = None,
    *,
    model: torch.nn.Module | None = None,
    every: int = 1,
) -> OptimTrace:
    """Record every update of an optimizer from here on: alpha_t, the rate in effect alpha_t^1, and the size of the update.

    alpha_t is read from the optimizer's own state after each step, and alpha_t^1 is the rate that the optimizer makes of it:

    ============  =====================================================  ==================================================
    optimizer     alpha_t                                                alpha_t^1
    ============  =====================================================  ==================================================
    Adagrad       ``sum``: of g_i^2, i = 1..t                            alpha / (1 + (t - 1) lr_decay) / (sqrt(alpha_t) + eps)
    RMSprop       ``square_avg`` (centered: less ``grad_avg``^2)         alpha / (sqrt(alpha_t) + eps)
    Adam, AdamW   ``exp_avg_sq`` (amsgrad: ``max_exp_avg_sq``)           alpha / (sqrt(alpha_t / (1 - beta_2^t)) + eps)
    SGD           none (nan)                                             alpha
    others        none (nan)                                             none (nan); only the size of the update
    ============  =====================================================  ==================================================

    alpha_t^1 multiplies the gradient (Adam: its bias-corrected mean; with momentum: what enters the momentum). A weight that
    has had no gradient yet has alpha_t = 0 and alpha_t^1 = alpha / eps, which acts on nothing. Where the optimizer adds weight
    decay to the gradient, the g_i of alpha_t hold it.

    Training is not changed by a bit. Each recorded update copies the weights that are traced, and reads their state once.
    Several traces of one optimizer may be open at a time.

    Args:
        optimizer: any of torch.optim; groups, states and rates may change while it is traced.
        names: what to trace. ``None``: every parameter, by quantiles, those of groups added later too. A list: only what it
            names, where ``"rnn.weight_hh_l0"`` is a parameter and ``"rnn.weight_hh_l0[3, 0]"`` a single weight, traced in full.
        model: where the names come from, as in ``model.named_parameters()``. Without it they are those the optimizer was given
            (``Adagrad(model.named_parameters())``), or else group and position, such as ``"0.3"``, which also tell apart
            parameters of the same name.
        every: record the first of every so many updates.

    Returns:
        The trace, to be used as a context manager, or closed with :meth:`OptimTrace.close`.

    Raises:
        SettingsError: a name or index that is not there, a model of other parameters, ``every`` below 1, no optimizer.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
        >>> with optim_trace(optimizer, ["weight", "weight[0, 2]"], model=model) as trace:
        ...     for _ in range(4):
        ...         optimizer.zero_grad()
        ...         model(torch.ones(1, 3)).sum().backward()
        ...         optimizer.step()
        >>> trace.weights["weight[0, 2]"].alpha_t
        array([1., 2., 3., 4.])
        >>> trace.parameters["weight"].rate[-1].round(4)  # 0.1 / sqrt(4)
        array([0.05, 0.05, 0.05, 0.05, 0.05])

    Source: Duchi, Hazan and Singer 2011 (Adagrad); Hinton 2012, lecture 6e (RMSprop); Kingma and Ba 2015 (Adam). The formulas
    are those that torch.optim documents.
    """
    return OptimTrace(optimizer, names, model=model, every=every)


@dataclass(frozen=True)
class Exhaustion:
    """Whether Adagrad's sum has outgrown what a parameter still has to learn.

    Attributes:
        update_ratio: median ``|update| / |weight|`` over the last tenth of the recorded updates, at least ten.
        gradient_kept: median gradient norm of the last tenth over that of the first.
        largest_share: the part of the parameter's sum that its one largest recorded gradient brought; near 1 after a spike. nan
            for other optimizers than Adagrad.
        suspected: Adagrad, an update ratio below :data:`SMALL_UPDATE`, and at least :data:`GRADIENT_KEPT` of the gradient kept.
    """

    update_ratio: float
    gradient_kept: float
    largest_share: float
    suspected: bool


class OptimTrace:
    """The trace of an optimizer, see :func:`optim_trace`."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        names: Sequence[str] | None = None,
        *,
        model: torch.nn.Module | None = None,
        every: int = 1,
    ) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise SettingsError(f"optim_trace: optimizer is a {type(optimizer).__name__}, expected one of torch.optim")
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise SettingsError(f"optim_trace: every is {every!r}, expected a whole number of at least 1")
        self._optimizer = optimizer
        self._model = model
        self._every = every
        self._whole = names is None
        self._seen = 0
        self._recording = self._late = False
        self._updates: list[int] = []
        self._parameters: dict[str, WatchedParameter] = {}
        self._weights: dict[str, WatchedWeight] = {}
        known = _names(optimizer, model)
        for name in known.values() if names is None else _checked(names):
            self._watch(name, *_find(name, known))
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def __enter__(self) -> OptimTrace:
        if not self._hooks:
            raise NotServedError(
                "this trace is closed and cannot be opened again; make a new one with tt.optim_trace(optimizer)"
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop recording; what was recorded stays. Closing twice does nothing."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    @property
    def optimizer(self) -> str:
        """What kind of optimizer it is, such as ``"Adagrad"``."""
        return type(self._optimizer).__name__

    @property
    def steps(self) -> int:
        """How many updates were recorded."""
        return len(self._updates)

    @property
    def updates(self) -> npt.NDArray[np.int64]:
        """[steps] which updates they are, counted from 1 since the trace began."""
        return np.array(self._updates, dtype=np.int64)

    @property
    def parameters(self) -> dict[str, ParameterTrace]:
        """The parameters traced, by name; one that was added later is nan before."""
        return {name: watch.result() for name, watch in self._parameters.items()}

    @property
    def weights(self) -> dict[str, WeightTrace]:
        """The single weights traced, by name."""
        return {name: watch.result() for name, watch in self._weights.items()}

    def exhausted(self) -> dict[str, Exhaustion]:
        """Whether each parameter has stopped for want of a rate, while its gradient still asks for an update.

        This is a suspicion. What settles it is an experiment, which is the caller's: go on from here once as it is, and once
        with the sums set to zero. The sum was to blame if the second does better. Remedies are clipping, RMSprop and Adam.

        Returns:
            Of each parameter traced what was measured; a parameter with fewer than :data:`FEWEST` updates of its own has nan.

        Raises:
            NotRecordedError: fewer than :data:`FEWEST` updates were recorded.

        Example:
            >>> weight = torch.nn.Parameter(torch.full((1,), 2.0))
            >>> optimizer = torch.optim.Adagrad([("weight", weight)], lr=0.01)
            >>> with optim_trace(optimizer) as trace:
            ...     for t in range(1, 400):
            ...         weight.grad = torch.full((1,), 1000.0 if t == 100 else 1.0)  # one spike
            ...         optimizer.step()
            >>> found = trace.exhausted()["weight"]
            >>> found.suspected, round(found.largest_share, 3)
            (True, 1.0)
        """
        if self.steps < FEWEST:
            raise NotRecordedError(
                f"exhausted: {self.steps} updates were recorded, expected {FEWEST} or more to tell early from late; train on"
            )
        sums = isinstance(self._optimizer, torch.optim.Adagrad)
        return {name: _exhaustion(trace, sums) for name, trace in self.parameters.items()}

    def plot(self, ax: Axes | None = None, *, of: Literal["alpha_t^1", "alpha_t"] = "alpha_t^1") -> Axes:
        """Draw alpha_t^1 over the updates, on logarithmic axes, against the constant alpha of SGD; or draw alpha_t.

        A single weight is a line; a parameter is the line of its median and the band between its quarters. Nothing is drawn
        of a weight before its first gradient.

        Args:
            ax: where to draw; a new figure by default.
            of: the rate in effect, or the sum behind it.

        Raises:
            NotRecordedError: there is nothing to draw: no update yet, or an optimizer without it.
            SettingsError: something else than these two.
        """
        from throughtime.train._optim_plot import plot_trace

        return plot_trace(self, ax, of)

    def as_json(self) -> dict[str, Any]:
        """Everything as plain lists, with the page's names; what is not a finite number is ``None``."""
        return {
            "optimizer": self.optimizer,
            "updates": list(self._updates),
            "quantiles": list(QUANTILES),
            "parameters": {name: _as_json(trace) for name, trace in self.parameters.items()},
            "weights": {name: _as_json(trace) for name, trace in self.weights.items()},
        }

    def _watch(self, name: str, parameter: Tensor, index: tuple[int, ...] | None) -> None:
        if index is not None:
            self._weights[name] = WatchedWeight(name, parameter, index)
        else:
            self._parameters[name] = WatchedParameter(name, parameter)
            self._parameters[name].miss(self.steps)

    def _watch_new(self) -> None:
        """Take in what was added to the optimizer since."""
        watched = {watch.parameter for watch in self._parameters.values()}
        if sum(len(group["params"]) for group in self._optimizer.param_groups) == len(watched):
            return
        for parameter, name in _names(self._optimizer, self._model, self._parameters).items():
            if parameter not in watched:
                self._watch(name, parameter, None)

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._recording = self._seen % self._every == 0
        if not self._recording:
            return
        if self._whole:
            self._watch_new()
        # A closure has yet to work out the gradients, and a fused step under a GradScaler to unscale them. Otherwise they are
        # read now: some steps use their memory as scratch (SGD with nesterov and foreach).
        self._late = any(value is not None for value in (*args[1:], *kwargs.values(), getattr(optimizer, "grad_scale", None)))
        for watch in self._watches():
            watch.keep()
            if not self._late:
                watch.take_gradient()

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._seen += 1
        if not self._recording:
            return
        self._recording = False
        self._updates.append(self._seen)
        groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
        for watch in self._watches():
            if self._late:
                watch.take_gradient()
            group = groups[watch.parameter]
            watch.record(float(group["lr"]), rule(optimizer, group, optimizer.state.get(watch.parameter, {})))

    def _watches(self) -> list[Watch]:
        return [*self._parameters.values(), *self._weights.values()]


def _names(optimizer: torch.optim.Optimizer, model: torch.nn.Module | None, taken: Container[str] = ()) -> dict[Tensor, str]:
    """What each parameter of the optimizer is called; its group and position if it has no name, or one that is not its own."""
    called: dict[Tensor, str] = {}
    if model is not None:
        # torch.compile's wrapper is no part of a name.
        called = {parameter: name.replace("_orig_mod.", "") for name, parameter in model.named_parameters()}
    positions: dict[Tensor, str] = {}
    for number, group in enumerate(optimizer.param_groups):
        for place, parameter in enumerate(group["params"]):
            positions[parameter] = f"{number}.{place}"
            if "param_names" in group:
                called.setdefault(parameter, group["param_names"][place])
    if model is not None and not any(parameter in positions for parameter in model.parameters()):
        raise SettingsError(
            f"optim_trace: none of the parameters of {type(model).__name__} is in the optimizer; pass the model that it trains"
        )
    often = Counter(called[parameter] for parameter in positions if parameter in called)
    return {
        parameter: name if (name := called.get(parameter, position)) not in taken and often[name] < 2 else position
        for parameter, position in positions.items()
    }


def _checked(names: Sequence[str]) -> list[str]:
    wanted = [names] if isinstance(names, str) else list(names)
    if not wanted:
        raise SettingsError("optim_trace: names is empty, expected names of parameters or weights; leave it out to trace all")
    return wanted


def _find(wanted: str, known: dict[Tensor, str]) -> tuple[Tensor, tuple[int, ...] | None]:
    """The parameter of a name, and the index if it is that of a single weight."""
    parameters = {name: parameter for parameter, name in known.items()}
    if wanted in parameters:
        return parameters[wanted], None
    match = re.fullmatch(r"(.+)\[(-?\d+(?:\s*,\s*-?\d+)*)\]", wanted)
    if match is None or match[1] not in parameters:
        name = match[1] if match else wanted
        near = get_close_matches(name, parameters, 1, 0.4)
        mend = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(parameters)}"
        raise SettingsError(f"optim_trace: no parameter {name!r} in the optimizer; {mend}")
    parameter = parameters[match[1]]
    index = tuple(int(number) for number in match[2].split(","))
    fits = len(index) == parameter.ndim and all(-size <= i < size for i, size in zip(index, parameter.shape, strict=True))
    if not fits:
        last = ", ".join(str(size - 1) for size in parameter.shape)
        raise SettingsError(
            f"optim_trace: {wanted!r} is not in {match[1]}, whose shape is {list(parameter.shape)}; "
            + (
                f"its last weight is '{match[1]}[{last}]'"
                if parameter.numel() and parameter.ndim
                else "name it without an index"
            )
        )
    return parameter, index


def _exhaustion(trace: ParameterTrace, sums: bool) -> Exhaustion:
    moved = ~np.isnan(trace.gradient_norm) & ~np.isnan(trace.update_ratio)
    ratio, gradient = trace.update_ratio[moved], trace.gradient_norm[moved]
    if len(gradient) < FEWEST:
        return Exhaustion(np.nan, np.nan, np.nan, False)
    part = max(FEWEST // 2, len(gradient) // 10)
    late_ratio, early, late = (float(np.median(v)) for v in (ratio[-part:], gradient[:part], gradient[-part:]))
    kept = late / early if early > 0 else np.nan
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = float(np.minimum(1.0, gradient.max() ** 2 / trace.total[-1])) if sums else np.nan
    return Exhaustion(late_ratio, kept, share, sums and late_ratio < SMALL_UPDATE and kept >= GRADIENT_KEPT)


def _as_json(trace: ParameterTrace | WeightTrace) -> dict[str, Any]:
    values = {field.name: plain(getattr(trace, field.name)) for field in fields(trace)}
    return {"alpha_t^1" if name == "rate" else name: value for name, value in values.items()}


def plain(values: npt.NDArray[np.float64]) -> list[Any]:
    """As nested lists, which JSON can hold; what is not a finite number is ``None``.

    Args:
        values: of any shape but a single number.

    Example:
        >>> plain(np.array([[1.5, np.nan], [np.inf, 0.0]]))
        [[1.5, None], [None, 0.0]]
    """
    if values.ndim > 1:
        return [plain(row) for row in values]
    return [value if math.isfinite(value) else None for value in values.tolist()]
