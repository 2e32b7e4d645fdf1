"""What several test files share: the variants of a layer, and random ones of each, in float64."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from throughtime.cells import CELLS, Cell
from throughtime.reference import Backward, Forward, Weights, backward, forward

RAGGED = [3, 0, 5, 1]
"""Lengths for a batch of 4 and T = 5: any order, a zero, a full one."""

ROUNDING = {"rtol": 1e-12, "atol": 1e-13}
"""For two float64 evaluations of sums of some ten products of order one, in different orders."""


@dataclass(frozen=True)
class Variant:
    """A cell with or without projection, with shared weights or a set per step."""

    cell: Cell
    projected: bool = False
    tied: bool = True

    def __str__(self) -> str:  # the test id
        return self.cell.name + ("_projected" if self.projected else "") + ("" if self.tied else "_untied")


TIED = [*(Variant(cell) for cell in CELLS.values()), Variant(CELLS["lstm"], projected=True)]
UNTIED = [Variant(cell, tied=False) for cell in CELLS.values() if cell.kind == "rnn"]
VARIANTS = [*TIED, *UNTIED]


@dataclass
class Problem:
    """Everything a layer needs, and gradients to send back through it. h0 is None where it is refused."""

    cell: Cell
    x: np.ndarray  # [T, B, I]
    weights: Weights
    h0: np.ndarray | None  # [B, P]
    c0: np.ndarray | None  # [B, H]
    grad_output: np.ndarray  # [T, B, P]
    grad_h_n: np.ndarray  # [B, P]
    grad_c_n: np.ndarray | None  # [B, H]


def make_problem(
    variant: Variant,
    steps: int = 5,
    batch: int = 4,
    inputs: int = 3,
    hidden: int = 4,
    *,
    bias: bool = True,
    seed: int = 0,
) -> Problem:
    """A random problem of this shape; the same numbers for the same seed."""
    rng = np.random.default_rng(seed)
    cell, tied = variant.cell, variant.tied
    rows, projected = cell.gate_count * hidden, hidden - 1 if variant.projected else hidden

    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        return scale * rng.standard_normal(shape)

    per_step, between = ((), ()) if tied else ((steps,), (steps - 1,))
    weights = Weights(
        w_ih=draw(*per_step, rows, inputs, scale=inputs**-0.5),
        w_hh=draw(*between, rows, projected, scale=hidden**-0.5),
        b_ih=draw(*per_step, rows, scale=0.3) if bias else None,
        b_hh=draw(rows, scale=0.3) if bias and tied else None,
        w_hr=draw(projected, hidden, scale=hidden**-0.5) if variant.projected else None,
    )
    return Problem(
        cell=cell,
        x=draw(steps, batch, inputs),
        weights=weights,
        h0=draw(batch, projected) if tied else None,
        c0=draw(batch, hidden) if cell.has_cell_state else None,
        grad_output=draw(steps, batch, projected),
        grad_h_n=draw(batch, projected),
        grad_c_n=draw(batch, hidden) if cell.has_cell_state else None,
    )


def run(problem: Problem, lengths: list[int] | None = None, reverse: bool = False) -> Forward:
    """The oracle's forward pass."""
    return forward(problem.cell, problem.x, problem.weights, problem.h0, problem.c0, lengths=lengths, reverse=reverse)


def back(problem: Problem, result: Forward) -> Backward:
    """The oracle's backward pass."""
    return backward(result, problem.grad_output, problem.grad_h_n, problem.grad_c_n)


def weight_names(weights: Weights) -> list[str]:
    """The weights that are there."""
    return [field.name for field in fields(weights) if getattr(weights, field.name) is not None]


def alive(lengths: list[int], steps: int) -> np.ndarray:
    """[T, B]: whether the sample has that step."""
    return np.arange(steps)[:, None] < np.array(lengths)
