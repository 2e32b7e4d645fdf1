"""The weights of one layer in one direction: shared over time (tied) or one set per step (untied)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from throughtime.cells import Cell
from throughtime.reference._activations import Array


class StepWeights(NamedTuple):
    """The weights that one step uses: views, so that a gradient added into them reaches the whole."""

    w_ih: Array  # [G*H, I]
    w_hh: Array | None  # [G*H, P]; None in an untied network's first step
    b_ih: Array | None  # [G*H]
    b_hh: Array | None  # [G*H]


@dataclass
class Weights:
    """The weights of one layer in one direction, in torch's layout; anything array-like becomes float64.

    Shapes: T steps, I inputs, H hidden, P projected (= H without a projection), G gates. ``w_ih`` with three
    axes means untied: a set of weights per step, simple RNNs only.

    Attributes:
        w_ih: [G*H, I]; untied [T, H, I].
        w_hh: [G*H, P]; untied [T-1, H, H], where ``w_hh[k-1]`` takes the output of step k-1 to step k
            (counted from 0 in the direction's own order), so the first step has none.
        b_ih: [G*H]; untied [T, H]; or ``None``.
        b_hh: [G*H] or ``None``; always ``None`` untied, where it would only be added to ``b_ih``.
        w_hr: [P, H], the LSTM's projection, or ``None``.

    Example:
        >>> Weights(w_ih=np.zeros((4, 3)), w_hh=np.zeros((4, 4))).tied
        True
    """

    w_ih: Array
    w_hh: Array
    b_ih: Array | None = None
    b_hh: Array | None = None
    w_hr: Array | None = None

    def __post_init__(self) -> None:
        # Copies: a backward pass must see the weights of its forward pass, whatever an optimizer did since.
        self.w_ih = np.array(self.w_ih, dtype=np.float64)
        self.w_hh = np.array(self.w_hh, dtype=np.float64)
        self.b_ih, self.b_hh, self.w_hr = (
            None if array is None else np.array(array, dtype=np.float64) for array in (self.b_ih, self.b_hh, self.w_hr)
        )

    @property
    def tied(self) -> bool:
        """Whether every step shares one set of weights."""
        return self.w_ih.ndim == 2

    def at(self, k: int) -> StepWeights:
        """The weights of step ``k``, counted from 0 in the direction's own order."""
        if self.tied:
            return StepWeights(self.w_ih, self.w_hh, self.b_ih, self.b_hh)
        return StepWeights(
            self.w_ih[k],
            self.w_hh[k - 1] if k > 0 else None,
            None if self.b_ih is None else self.b_ih[k],
            None,
        )

    def zeros_like(self) -> Weights:
        """Zeros in the same shapes, to add gradients into."""
        return Weights(
            *(
                None if array is None else np.zeros_like(array)  # type: ignore[arg-type]
                for array in (self.w_ih, self.w_hh, self.b_ih, self.b_hh, self.w_hr)
            )
        )

    def sizes(self, cell: Cell, steps: int, inputs: int) -> tuple[int, int]:
        """H and P, after every shape has been checked against the cell, T = ``steps`` and I = ``inputs``.

        Raises:
            ValueError: a weight has the wrong shape, or one the cell cannot use; the message names it.
        """
        if self.w_ih.ndim not in (2, 3):
            raise ValueError(f"w_ih has {self.w_ih.ndim} axes, expected [G*H, I], or [T, H, I] for untied weights")
        if not self.tied and cell.kind != "rnn":
            raise ValueError(f"{cell.name} has no untied form (w_ih with 3 axes): only the simple RNNs do")
        if not self.tied and self.b_hh is not None:
            raise ValueError("untied weights have one bias per step, b_ih [T, H]: leave b_hh out")
        if self.w_hr is not None and not cell.projects:
            raise ValueError(f"{cell.name} has no projection: leave w_hr out")
        gates, rows = cell.gate_count, self.w_ih.shape[-2]
        if rows % gates:
            raise ValueError(f"w_ih has {rows} rows, expected a multiple of {cell.name}'s {gates} gates")
        hidden = rows // gates
        projected = hidden if self.w_hr is None else self.w_hr.shape[0]
        expected: dict[str, tuple[int, ...]] = (
            {"w_ih": (rows, inputs), "w_hh": (rows, projected), "b_ih": (rows,), "b_hh": (rows,)}
            if self.tied
            else {
                "w_ih": (steps, hidden, inputs),
                "w_hh": (max(steps - 1, 0), hidden, hidden),
                "b_ih": (steps, hidden),
            }
        )
        expected["w_hr"] = (projected, hidden)
        for name, shape in expected.items():
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise ValueError(
                    f"{name} has shape {array.shape}, expected {shape} "
                    f"(T={steps}, I={inputs}, H={hidden}, P={projected}, G={gates})"
                )
        return hidden, projected
