"""What the tests of tt.flow share: modules of every variant, tasks to record, and the numbers the oracle gives them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import throughtime as tt
from throughtime import reference
from throughtime.flow import Flow, LayerFlow
from throughtime.nn import init
from throughtime.ops.layer import probe_seed
from throughtime.reference import Backward, Forward

from helpers import Variant

DTYPES = [torch.float64, torch.float32]

ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5}
"""Absolute, on logarithms: a relative error of a norm is an absolute one of its logarithm. Some five steps of some ten
products each, every one rounded to 1e-16 or 6e-8, and vanishing by no more than some powers of ten on the way."""

HIDDEN_FOR_A_TEAM = {"rnn": 336, "gru": 192, "lstm": 192}
"""Hidden units from which recurrent weights of float32 no longer fit a core's cache: threads share a single sequence."""


def build(variant: Variant, inputs: int = 3, hidden: int = 6, seed: int = 0, **options: Any) -> Any:
    """The module of a variant: T = 5 if untied, one output fewer than hidden units if projected."""
    cell = variant.cell
    kinds = {"rnn": tt.nn.RNN, "gru": tt.nn.GRU, "lstm": tt.nn.LSTM}
    if cell.kind == "rnn":
        options["nonlinearity"] = cell.nonlinearity
    if variant.projected:
        options["proj_size"] = hidden - 1
    if not variant.tied:
        options |= {"tied": False, "steps": 5}
    torch.manual_seed(seed)
    return kinds[cell.kind](inputs, hidden, **options)


def rotation(rho: float, dtype: torch.dtype = torch.float64, hidden: int = 8) -> tt.nn.RNN:
    """h_t = rho Q h_{t-1} + W x_t + b, Q orthogonal: whatever the direction, the gain of a step is rho."""
    torch.manual_seed(1)
    return init.orthogonal_(tt.nn.RNN(2, hidden, nonlinearity="identity", dtype=dtype), rho)


def through(module: torch.nn.Module, x: Tensor, **options: Any) -> Flow:
    """The recording of a loss on the last state alone."""
    _, final = module(x)
    loss = states_of(final)[0].sum()
    with tt.flow.record(module, **options) as flow:
        loss.backward()
    return flow


def states_of(final: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """(h_n,) or (h_n, c_n)."""
    return final if isinstance(final, tuple) else (final,)


@dataclass
class Task:
    """An input, and the gradients that its loss sends into the outputs and the final states."""

    x: Tensor  # [T, B, I]
    lengths: list[int] | None
    packed: bool
    grads: list[Tensor]  # of output [T, B, D*P], h_n [L*D, B, P], for LSTM c_n [L*D, B, H]

    @classmethod
    def of(cls, module: Any, lengths: list[int] | None = None, packed: bool = False, steps: int = 5, batch: int = 4) -> Task:
        """A random one that fits the module."""
        generator, dtype = torch.Generator().manual_seed(7), next(module.parameters()).dtype

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        x = draw(steps, batch, module.input_size)
        with torch.no_grad():
            output, final = module(x)
        return cls(x, lengths, packed, [draw(*tensor.shape) for tensor in (output, *states_of(final))])

    def loss(self, module: torch.nn.Module) -> Tensor:
        """The products of the results with their gradients, summed."""
        if self.packed:
            output, final = module(pack_padded_sequence(self.x, self.lengths, enforce_sorted=False))
            output, _ = pad_packed_sequence(output, total_length=len(self.x))
        else:
            output, final = module(self.x) if self.lengths is None else module(self.x, lengths=self.lengths)
        results = (output, *states_of(final))
        return sum((result * grad).sum() for result, grad in zip(results, self.grads, strict=True))

    def recorded(self, module: torch.nn.Module, **options: Any) -> Flow:
        """The recording of its backward pass."""
        loss = self.loss(module)
        with tt.flow.record(module, **options) as flow:
            loss.backward()
        return flow


def numpy(tensor: Tensor | None) -> Any:
    """In float64."""
    return None if tensor is None else tensor.detach().double().numpy()


def oracle(module: Any, task: Task) -> list[tuple[Forward, Backward]]:
    """The oracle's two passes through every layer and direction of a module."""
    directions = 2 if module.bidirectional else 1
    ran: list[Forward] = []
    x = numpy(task.x)
    for depth in range(module.num_layers):
        for direction in range(directions):
            weights = reference.Weights(*map(numpy, weights_of(module, depth, direction)))
            ran.append(reference.forward(module.cell, x, weights, lengths=task.lengths, reverse=direction == 1))
        x = np.concatenate([run.output for run in ran[-directions:]], axis=2)
    backs: list[Backward] = []
    grad_output, *grad_states = map(numpy, task.grads)
    for depth in reversed(range(module.num_layers)):
        here = range(depth * directions, (depth + 1) * directions)
        parts = np.split(grad_output, directions, axis=2)
        found = [
            reference.backward(ran[i], part, *(grad[i] for grad in grad_states)) for i, part in zip(here, parts, strict=True)
        ]
        backs = [*found, *backs]
        grad_output = sum(back.x for back in found)
    return list(zip(ran, backs, strict=True))


def weights_of(module: Any, depth: int, direction: int) -> list[Tensor | None]:
    """w_ih, w_hh, b_ih, b_hh, w_hr of one layer and direction, untied ones stacked; ``None`` for those it has not."""
    parameters, suffix = dict(module.named_parameters()), f"l{depth}{'_reverse' if direction else ''}"
    if module.tied:
        return [parameters.get(f"{name}_{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")]
    stacks = [
        torch.stack([parameters[f"{name}_{suffix}_t{t}"] for t in range(1, count + 1)])
        for name, count in (("weight_ih", module.steps), ("weight_hh", module.steps - 1), ("bias", module.steps))
    ]
    return [*stacks, None, None]


GAINS = ("gain", "activation", "weight", "cell", "hidden", "bypass")
RATIOS = {
    "rnn": {"gain": ("u", "delta"), "activation": ("a", "delta"), "weight": ("u", "a")},
    "gru": {"gain": ("u", "delta"), "hidden": ("hidden", "delta"), "bypass": ("bypass", "delta")},
    "lstm": {
        "gain": ("u+cell_out", "delta+cell_in"),
        "cell": ("cell_out", "cell"),
        "hidden": ("u", "delta+cell_in"),
    },
}
"""Which norms each gain is the ratio of; + joins the two states of an LSTM. The gains that are not here are nan."""


def _log_ratio(after: float, before: float) -> float:
    """Half, since the norms come squared; nan where there is no step, or nothing came in."""
    if not before > 0 or math.isnan(after):
        return math.nan
    return 0.5 * math.log(after / before) if after != 0 else -math.inf


def _log_gains(run: Forward, norms: dict[str, np.ndarray], which: str) -> np.ndarray:
    """[T, B]."""
    after, before = (sum(norms[name] for name in names.split("+")) for names in RATIOS[run.cell.kind][which])
    pairs = zip(after.ravel().tolist(), before.ravel().tolist(), strict=True)
    return np.array([_log_ratio(*pair) for pair in pairs]).reshape(after.shape)


def _mean(values: Any) -> float:
    known = [float(value) for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def check_gains(layer: LayerFlow, run: Forward, back: Backward, tolerance: float) -> None:
    """The gains are means over samples of the logarithms of the oracle's ratios."""
    for which in GAINS:
        found = getattr(layer.gains, which)
        if which in RATIOS[run.cell.kind]:
            expected = [_mean(row) for row in _log_gains(run, back.taps, which)]
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=which)
        else:
            assert np.isnan(found).all(), which


def check_probe(layer: LayerFlow, run: Forward, tolerance: float, packed: bool = False) -> None:
    """The same for the probe, by steps back from each true end; and what is left of it."""
    T, B, P = run.output.shape
    seeds = [part for part in probe_seed(run.cell, B, P, run.hidden.shape[-1]) if part is not None]
    # A PackedSequence holds the longest sequence first, and that one gets the first direction.
    rank = np.argsort(np.argsort(-run.lengths)) if packed else np.arange(B)
    norms = reference.probe(run, *(part.numpy()[rank] for part in seeds))
    for which in RATIOS[run.cell.kind]:
        gains = _log_gains(run, norms, which)
        walks = [  # per sample, the steps of its way back
            gains[:length, b] if run.reverse else gains[:length, b][::-1] for b, length in enumerate(run.lengths)
        ]
        expected = [_mean([walk[k] for walk in walks if k < len(walk)]) for k in range(T)]
        np.testing.assert_allclose(getattr(layer.probe, which), expected, rtol=0, atol=tolerance, err_msg=which)
        if which == "gain":
            left = [_mean([np.nansum(walk[: k + 1]) for walk in walks if k < len(walk)]) for k in range(T)]
            np.testing.assert_allclose(layer.reach, left, rtol=0, atol=T * tolerance)
