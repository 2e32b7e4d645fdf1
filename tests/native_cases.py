"""Cases for the kernels: the same layer by the oracle and by ``throughtime.ops.native``, in every layout of memory.

Legend: T steps, B batch, I inputs, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from throughtime.ops import checkpoints, native
from throughtime.ops.native import Gradients, LayerWeights, Layout
from throughtime.reference import Weights

from helpers import Problem, Variant, alive, back, make_problem, run

# Of the largest element of what is compared. A product of some 100 terms rounds each to half a unit in the last place,
# 1.1e-16 or 6e-8; the errors of 100 partial sums of either sign add up to some 10 such, and T steps pass them on.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5}


@dataclass(frozen=True)
class Case:
    variant: Variant
    dtype: torch.dtype
    T: int
    B: int
    H: int
    I: int = 3
    lengths: tuple[int, ...] | None = None
    layout: str = "padded"  # or batch_first, sliced (rows with something between them), packed
    reverse: bool = False
    bias: bool = True
    states: bool = True
    seed: int = 0

    @property
    def ragged(self) -> list[int] | None:
        return None if self.lengths is None else list(self.lengths)


def drawn(variant: Variant, dtype: torch.dtype, T: int, B: int, H: int, seed: int) -> Case:
    """A case of this size; the rest is drawn."""
    rng = np.random.default_rng([seed, T, B, H])
    layout = str(rng.choice(["padded", "padded", "batch_first", "sliced", "packed"]))
    lengths = None
    if not variant.tied:
        layout = "padded" if layout == "packed" else layout
    elif layout == "packed":
        lengths = tuple(sorted(rng.integers(1, T + 1, B).tolist(), reverse=True))
        T = lengths[0]
    elif rng.random() < 0.5:
        lengths = tuple(rng.integers(0, T + 1, B).tolist())
    options = {name: bool(rng.random() < share) for name, share in [("reverse", 0.5), ("bias", 0.8), ("states", 0.8)]}
    inputs = int(rng.integers(1, 20 if rng.random() < 0.7 else 71))
    return Case(variant, dtype, T, B, H, inputs, lengths, layout, seed=seed, **options)


def changed(problem: Problem, change: Callable[[np.ndarray], np.ndarray]) -> Problem:
    """The problem with every array of it changed."""

    def through(value: object) -> object:
        if isinstance(value, np.ndarray):
            return change(value)
        if isinstance(value, Weights):
            return replace(value, **{field.name: through(getattr(value, field.name)) for field in fields(value)})
        return value

    return replace(problem, **{field.name: through(getattr(problem, field.name)) for field in fields(problem)})


@cache
def problem_of(case: Case) -> Problem:
    problem = make_problem(case.variant, case.T, case.B, case.I, case.H, bias=case.bias, seed=case.seed)
    if not case.states:
        problem = replace(problem, h0=None, c0=None)
    if case.dtype == torch.float64:
        return problem
    # As float32 holds them: what is left to compare is the arithmetic alone.
    return changed(problem, lambda array: array.astype(np.float32).astype(np.float64))


@cache
def expected_of(case: Case) -> dict[str, np.ndarray]:
    """Everything the oracle says, by name; seen once, used for every instruction set."""
    return said_of(case, problem_of(case))


def said_of(case: Case, problem: Problem) -> dict[str, np.ndarray]:
    """Everything the oracle says of a problem in the layout of the case, by name."""
    result = run(problem, case.ragged, case.reverse)
    found = back(problem, result)
    named = {"output": result.output, "h_n": result.h_n, "c_n": result.c_n, "delta": found.delta}
    named |= {f"d_{name}": getattr(found, name) for name in ("x", "h0", "c0")}
    named |= {f"d_{name}": getattr(found.weights, name) for name in LayerWeights._fields}
    named |= {f"tap_{name}": values for name, values in found.taps.items()}
    return {name: values for name, values in named.items() if values is not None}


def tensor(case: Case, array: np.ndarray | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array).to(case.dtype)


def laid_out(case: Case, array: np.ndarray) -> Tensor:
    """A sequence [T, B, ...] in the memory layout of the case, NaN on padding and between rows."""
    here = alive(case.ragged or [case.T] * case.B, case.T)
    if case.layout == "packed":
        return tensor(case, array[here])  # step by step, and the batch shrinks from the end
    array = np.where(here[..., None], array, np.nan)
    if case.layout == "batch_first":
        return tensor(case, array.swapaxes(0, 1).copy()).transpose(0, 1)
    if case.layout == "sliced":
        wide = torch.full((case.T, case.B + 1, array.shape[2] + 3), torch.nan, dtype=case.dtype)
        wide[:, 1:, 2:-1] = tensor(case, array)
        return wide[:, 1:, 2:-1]
    return tensor(case, array)


def padded(case: Case, values: Tensor) -> np.ndarray:
    """Back to [T, B, ...] in float64, zero on padding if it was packed."""
    array = values.double().numpy()
    if case.layout != "packed":
        return array
    result = np.zeros((case.T, case.B, array.shape[-1]))
    result[alive(list(case.lengths), case.T)] = array
    return result


def arguments(case: Case) -> tuple:
    """What forward and backward share."""
    problem = problem_of(case)
    weights = LayerWeights(*(tensor(case, getattr(problem.weights, name)) for name in LayerWeights._fields))
    lengths = None if case.lengths is None else torch.tensor(case.lengths)
    layout = Layout(lengths, case.layout == "packed", case.reverse)
    x, h0, c0 = laid_out(case, problem.x), tensor(case, problem.h0), tensor(case, problem.c0)
    return problem.cell, x, h0, c0, weights, layout


def everything(case: Case) -> Gradients:
    """Ask for every gradient there is."""
    problem = problem_of(case)
    there = [True, case.variant.tied, problem.cell.has_cell_state]
    return Gradients(*there, *(getattr(problem.weights, name) is not None for name in LayerWeights._fields))


def gradients_in(case: Case) -> tuple[Tensor | None, ...]:
    problem = problem_of(case)
    return laid_out(case, problem.grad_output), tensor(case, problem.grad_h_n), tensor(case, problem.grad_c_n)


def actual_of(case: Case, backward_isa: str | None = None, listening: bool = True, keep: str = "gates") -> dict[str, Tensor]:
    """Everything the kernels say, under the oracle's names, as it comes out; if nobody listens, neither delta nor taps."""
    given = arguments(case)
    cell = given[0]
    cut = keep == "checkpoints"
    output, h_n, c_n, saved = checkpoints.forward(*given, output=True) if cut else native.forward(*given, keep=keep)
    if backward_isa:
        native.set_instruction_set(backward_isa)
    taps = torch.empty(len(cell.taps), case.T, case.B, dtype=torch.float64) if listening else None
    delta = torch.empty_like(output) if listening else None
    options = {"wanted": everything(case), "taps": taps, "delta": delta}
    if cut:
        cell, x, _, _, weights, layout = given
        found = checkpoints.backward(cell, x, weights, layout, saved, *gradients_in(case), **options)
    else:
        found = native.backward(*given, output, saved, *gradients_in(case), keep=keep, **options)
    named = {"output": output, "h_n": h_n, "c_n": c_n if cell.has_cell_state else None, "delta": delta}
    named |= {f"d_{name}": gradient for name, gradient in found._asdict().items()}
    if listening:
        named |= {f"tap_{name}": values for name, values in zip(cell.taps, taps, strict=True)}
    return {name: values for name, values in named.items() if values is not None}


def assert_agrees(case: Case, actual: dict[str, Tensor], growth: float = 1.0, slack: Mapping[str, float] | None = None) -> None:
    """What was computed is what the oracle says, to rounding; ``slack`` allows some names to be further off."""
    expected = expected_of(case)
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        shaped = padded(case, actual[name]) if name in ("output", "delta", "d_x") else actual[name].double().numpy()
        tolerance = growth * TOLERANCE[case.dtype] * (2 if name.startswith("tap_") else 1)  # squared: twice as wrong
        scale = np.abs(values[np.isfinite(values)]).max(initial=0.0)
        np.testing.assert_allclose(
            shaped, values, rtol=0, atol=tolerance * scale + (slack or {}).get(name, 0.0), err_msg=f"{name} of {case}"
        )
        if name in ("output", "delta", "d_x") and case.lengths:
            assert (shaped[~alive(case.ragged, case.T)] == 0).all(), name
