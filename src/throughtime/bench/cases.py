"""What is measured: one layer of one cell at one size, its numbers, the work in it, and how equal results must be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from throughtime.cells import CELLS

Arrays = dict[str, npt.NDArray[Any]]
Size = tuple[int, int, int, int]
"""T, B, I, H."""

MEASURED_CELLS = ("rnn_tanh", "gru", "lstm")

SIZES: tuple[Size, ...] = (
    (100, 1, 16, 64),
    (1000, 1, 32, 32),
    (100, 1, 128, 256),
    (100, 32, 64, 64),
    (100, 32, 128, 128),
    (100, 32, 256, 256),
    (100, 64, 512, 512),
    (512, 16, 64, 128),
)
QUICK_SIZES: tuple[Size, ...] = ((100, 1, 16, 64), (100, 32, 128, 128))
MEMORY_SIZE: Size = (1000, 32, 256, 256)

FORWARD, BOTH, INFERENCE = "forward", "forward+backward", "inference"
WORKS = (BOTH, FORWARD, INFERENCE)
"""Forward keeps what backward needs; inference is forward without."""

KERNEL_FORWARD, KERNEL_BOTH = "kernel forward", "kernel forward+backward"
TAPPED, PROBED = "forward+backward, recorded", "forward+backward, recorded with the probe"
FULL, FULL_INFERENCE = "forward+backward, all steps of all sequences", "inference, all steps of all sequences"
"""ThroughTime's alone: its kernels without the module around them, a step with ``tt.flow.record``, and a ragged batch as if it
were full."""

BESIDE = {TAPPED: BOTH, PROBED: BOTH, FULL: BOTH, FULL_INFERENCE: INFERENCE}
"""What is not timed by itself but in turns with something else, and with what."""

_DIFFERENCE = 16
"""How many standard deviations of accumulated rounding an element may be off, see :meth:`Case.tolerance`."""


@dataclass(frozen=True)
class Case:
    """One layer, one direction, one size.

    Attributes:
        cell: the cell's name in :data:`throughtime.cells.CELLS`.
        T: steps.
        B: sequences in the batch.
        I: inputs.
        H: hidden units.
        dtype: ``"float32"`` or ``"float64"``.
        lengths: true lengths of a ragged batch, [B]; ``None`` where all are T.
    """

    cell: str
    T: int
    B: int
    I: int
    H: int
    dtype: str = "float32"
    lengths: tuple[int, ...] | None = None

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Case:
        """The case of :meth:`as_json`."""
        lengths = record.get("lengths")
        return cls(**record | {"lengths": None if lengths is None else tuple(lengths)})

    def as_json(self) -> dict[str, Any]:
        """The case as JSON holds it."""
        return asdict(self)

    @property
    def size(self) -> str:
        """T, B, I, H as people read them.

        Example:
            >>> Case("gru", 100, 1, 16, 64).size
            '100, 1, 16, 64'
        """
        return f"{self.T}, {self.B}, {self.I}, {self.H}"

    @property
    def steps(self) -> int:
        """The true number of steps of all sequences together."""
        return self.T * self.B if self.lengths is None else sum(self.lengths)

    def flops(self, work: str) -> int:
        """Floating-point operations of the matrix products; what the cells add to them is not counted.

        Example:
            >>> Case("rnn_tanh", 10, 1, 2, 3).flops(FORWARD), Case("rnn_tanh", 10, 1, 2, 3).flops(BOTH)
            (300, 900)
        """
        forward = 2 * self.steps * CELLS[self.cell].gate_count * self.H * (self.I + self.H)
        return 3 * forward if BOTH in work else forward

    def arrays(self) -> Arrays:
        """Input, gradient of the output and weights (as torch lays them out), the same for every peer at every time."""
        rng, rows = np.random.default_rng(0), CELLS[self.cell].gate_count * self.H
        bound = self.H**-0.5  # as torch.nn draws its weights
        arrays = {
            "x": rng.standard_normal((self.T, self.B, self.I)),
            "gradient": rng.standard_normal((self.T, self.B, self.H)),
            "w_ih": rng.uniform(-bound, bound, (rows, self.I)),
            "w_hh": rng.uniform(-bound, bound, (rows, self.H)),
            "b_ih": rng.uniform(-bound, bound, rows),
            "b_hh": rng.uniform(-bound, bound, rows),
        }
        return {name: array.astype(self.dtype) for name, array in arrays.items()}

    def tolerance(self) -> float:
        """How far an element may be from the float64 result, as a share of the largest element of its array.

        Every peer adds up products in an order of its own. Rounding errors of n additions grow as a random walk does, with the
        root of n; the longest sum is that of a weight's gradient, of T * B products, which themselves stand on sums over I and
        H. Wrong gates, a forgotten bias or reduced precision (bfloat16, TF32) are off by far more.

        Example:
            >>> f"{Case('gru', 100, 32, 128, 128).tolerance():.0e}"
            '6e-05'
        """
        additions = self.T * self.B + self.I + self.H
        return float(_DIFFERENCE * np.finfo(self.dtype).eps / 2 * additions**0.5)


def every_cell(sizes: Iterable[Size], **options: Any) -> list[Case]:
    """Every cell at every size.

    Args:
        sizes: T, B, I, H of each.
        **options: further fields of :class:`Case`.
    """
    return [Case(cell, *size, **options) for size in sizes for cell in MEASURED_CELLS]


def difference(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """The largest difference of two arrays, as a share of the largest expected element; infinite where shapes differ or NaN is.

    Example:
        >>> difference(np.array([1.0, 2.5]), np.array([1.0, 2.0]))
        0.25
    """
    if found.shape != expected.shape:
        return float("inf")
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    worst = float(np.abs(found - expected).max(initial=0.0))
    return worst / scale if worst == worst else float("inf")
