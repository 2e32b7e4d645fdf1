"""The native kernels on torch tensors, without autograd.

Shapes: T steps, B batch, I inputs, H hidden, P projected (= H without a projection), G gates, N steps in all.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from throughtime.cells import CELLS, Cell

_CODE = {name: code for code, name in enumerate(CELLS)}  # the order of CellKind in layer.hpp


def _load() -> tuple[Any, str]:
    """The native module, or ``None`` and why there is none."""
    try:
        from throughtime import _native
    except ImportError as error:
        return None, _warned(f"the native module of throughtime cannot be loaded ({error})", "Reinstalling throughtime")
    if not _native.use_tensors(Tensor):
        return None, _warned(f"the tensors of torch {torch.__version__} have no DLPack exchange table", "torch 2.10 or newer")
    wanted = os.environ.get("THROUGHTIME_ISA", "")
    if wanted and not _native.set_isa(wanted):
        raise ValueError(f"THROUGHTIME_ISA is {wanted!r}; this processor can run: auto, {', '.join(_native.isas())}")
    return _native, ""


def _warned(problem: str, remedy: str) -> str:
    warnings.warn(
        f"{problem}; everything works through torch's own operators, more slowly. {remedy} mends it.",
        RuntimeWarning,
        stacklevel=3,
    )
    return problem


_native, _problem = _load()
Keep = Literal["nothing", "states", "gates"]
"""What a forward pass keeps for the way back: nothing (there is none), states (gates are computed anew), states and gates."""

_threads: int | None = None
_profile: Tensor | None = None


class LayerWeights(NamedTuple):
    """The weights of one layer in one direction, as torch lays them out.

    Tied: ``w_ih`` [G*H, I], ``w_hh`` [G*H, P], ``b_ih`` and ``b_hh`` [G*H] or ``None``, ``w_hr`` [P, H] or ``None``.
    Untied: ``w_ih`` [T, H, I], ``w_hh`` [T-1, H, H], ``b_ih`` [T, H] or ``None``, the others ``None``.
    """

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None
    w_hr: Tensor | None


@dataclass(frozen=True, slots=True)
class Layout:
    """How the sequences of a batch lie in memory, and in which direction they are read.

    Attributes:
        lengths: int64 on the CPU, contiguous, [B]: true lengths, or ``None`` where all are T.
        packed: ``x`` is the data of a ``PackedSequence`` [N, I]; ``lengths`` are then those of its sequences, descending.
        reverse: start at each true end.
    """

    lengths: Tensor | None = None
    packed: bool = False
    reverse: bool = False


class Gradients(NamedTuple):
    """What :func:`backward` returns; what was not wanted is ``None``."""

    x: Tensor | None
    h0: Tensor | None
    c0: Tensor | None
    w_ih: Tensor | None
    w_hh: Tensor | None
    b_ih: Tensor | None
    b_hh: Tensor | None
    w_hr: Tensor | None


def missing() -> str:
    """Why there are no native kernels in this process; empty if there are."""
    return _problem


def instruction_sets() -> list[str]:
    """The instruction sets the kernels can use on this processor, best first.

    Example:
        >>> "baseline" in instruction_sets()
        True
    """
    return list(_native.isas()) if _native else []


def instruction_set() -> str:
    """The instruction set in use.

    Example:
        >>> instruction_set() in instruction_sets()
        True
    """
    return str(_native.isa()) if _native else ""


def set_instruction_set(name: str) -> None:
    """Choose the instruction set of the kernels: one of :func:`instruction_sets`, or ``"auto"`` for the best.

    The environment variable ``THROUGHTIME_ISA`` does the same from outside. Results of different sets agree to rounding.

    Raises:
        ValueError: this processor cannot run it, or there is none of that name.

    Example:
        >>> set_instruction_set("baseline")
        >>> instruction_set()
        'baseline'
        >>> set_instruction_set("auto")
    """
    if not _native or not isinstance(name, str) or not _native.set_isa(name):
        raise ValueError(f"no instruction set {name!r} here; there are: auto, {', '.join(instruction_sets())}")


def set_num_threads(threads: int | None) -> None:
    """How many threads the kernels use at most; ``None`` (the default) follows ``torch.get_num_threads()``.

    The number never changes a bit of a result.

    Raises:
        TypeError: no whole number.
        ValueError: less than 1, or more than 32767.

    Example:
        >>> set_num_threads(1)
        >>> get_num_threads()
        1
        >>> set_num_threads(None)
    """
    global _threads
    if threads is not None and not isinstance(threads, int):
        raise TypeError(f"the number of threads is {threads!r}, expected a whole number, or None to follow torch")
    if threads is not None and not 1 <= threads < 2**15:
        raise ValueError(f"the number of threads is {threads}, expected 1 to 32767, or None to follow torch")
    _threads = threads


def get_num_threads() -> int:
    """How many threads the kernels use at most, see :func:`set_num_threads`."""
    return _threads or torch.get_num_threads()


def fma_ceiling(threads: int, seconds: float = 0.2, *, f64: bool = False) -> float:
    """What the processor can do at best with the instruction set in use: multiply-adds on registers, nothing read or written.

    Args:
        threads: how many work at once.
        seconds: for how long.
        f64: float64 instead of float32.

    Returns:
        Operations a second of all threads together, two for each multiply-add.

    Raises:
        ValueError: less than one thread, or no time at all.

    Example:
        >>> fma_ceiling(1, 0.01) > 1e8
        True
    """
    if threads < 1 or not seconds > 0:
        raise ValueError(f"threads is {threads} and seconds {seconds}, expected at least 1 and more than 0")
    return float((_native.ceiling_f64 if f64 else _native.ceiling_f32)(threads, seconds))


STAGES = (
    "preparing",
    "input product",
    "recurrent product",
    "pointwise",
    "moving",
    "transported product",
    "recomputed gates",
    "weight gradients",
    "input gradient",
    "waiting",
)
"""What the time of a call goes to, in the order of Stage in layer.hpp: see :func:`profiled`."""


@contextmanager
def profiled() -> Iterator[Tensor]:
    """See where the kernels spend their time: one thread's, the one that calls.

    Yields:
        Ticks of the processor's clock for each of :data:`STAGES`, added up over the calls made meanwhile, float64. Of calls on
        several threads at once only one may be profiled.

    Example:
        >>> gru = torch.nn.GRU(3, 4)
        >>> weights = LayerWeights(*(p.detach() for p in gru.parameters()), None)
        >>> with profiled() as ticks:
        ...     _ = forward(CELLS["gru"], torch.zeros(5, 2, 3), None, None, weights, Layout(), keep="nothing")
        >>> float(ticks[STAGES.index("pointwise")]) > 0
        True
    """
    global _profile
    before, _profile = _profile, torch.zeros(len(STAGES), dtype=torch.float64, device="cpu")
    try:
        yield _profile
    finally:
        _profile = before


def serves(x: Tensor) -> bool:
    """Whether there are native kernels for tensors of this device and dtype."""
    return _native is not None and x.is_cpu and x.dtype in (torch.float32, torch.float64)


def lengths_of(batch_sizes: Tensor) -> Tensor:
    """The lengths, descending, of the sequences in a ``PackedSequence`` with these ``batch_sizes``.

    Example:
        >>> lengths_of(torch.tensor([3, 2, 2]))
        tensor([3, 3, 1])
    """
    alive = torch.arange(int(batch_sizes[0]), device="cpu")[:, None] < batch_sizes
    return alive.sum(1)


def forward(
    cell: Cell,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: LayerWeights,
    layout: Layout,
    *,
    keep: Keep,
    output: Tensor | bool = True,
    stacked: bool = False,
) -> tuple[Tensor | None, Tensor, Tensor | None, Tensor | None]:
    """Run one layer in one direction.

    Args:
        cell: the cell.
        x: [T, B, I] with any strides, or [N, I] packed.
        h0: [B, P], zeros if ``None``.
        c0: [B, H], zeros if ``None``; LSTM only.
        weights: the weights.
        layout: lengths and direction.
        keep: what to keep for :func:`backward`, which needs the output, too.
        output: where to put it, [T, B, P] (or [N, P]); or whether to return it at all.
        stacked: return states with an axis of 1 in front.

    Returns:
        output (or ``None``), h_n [B, P], c_n [B, H] (``None`` without a cell state; stacked, [1, B, P] and [1, B, H]), and an
        opaque tensor for backward (``None`` if there is nothing to keep).

    Raises:
        ValueError: lengths outside 0..T.
        RuntimeError: a tensor of a wrong shape or dtype, or without memory.
    """
    return _native.forward(*_shared(cell, x, h0, c0, weights, layout, keep), output, stacked)  # type: ignore[no-any-return]


def backward(
    cell: Cell,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: LayerWeights,
    layout: Layout,
    output: Tensor,
    saved: Tensor | None,
    grad_output: Tensor | None,
    grad_h_n: Tensor | None,
    grad_c_n: Tensor | None,
    *,
    keep: Keep = "gates",
    wanted: Sequence[bool] = (False,) * 8,
    taps: Tensor | None = None,
    delta: Tensor | None = None,
    rescale: bool = False,
) -> Gradients:
    """Back through time, for a call of :func:`forward` that kept what is needed.

    Args:
        cell: the cell.
        x: as it was given to :func:`forward`, like the next four.
        h0: likewise.
        c0: likewise.
        weights: likewise.
        layout: likewise.
        output: what forward returned.
        saved: what forward returned.
        grad_output: [T, B, P] or [N, P], any strides; ``None`` is zero.
        grad_h_n: [B, P]; ``None`` is zero.
        grad_c_n: [B, H]; ``None`` is zero.
        keep: what forward kept.
        wanted: which gradients to compute, in the order of :class:`Gradients`.
        taps: float64 [len(cell.taps), T, B], filled with squared norms (NaN where there is no step).
        delta: like ``output``, filled with the total dL/dh_t.
        rescale: run as the probe: what is transported is divided by its norm after every step.
    """
    return Gradients._make(
        _native.backward(
            *_shared(cell, x, h0, c0, weights, layout, keep),
            output, saved, grad_output, grad_h_n, grad_c_n, tuple(wanted), taps, delta, rescale,
        )
    )  # fmt: skip


def empty_taps(cell: Cell, x: Tensor, layout: Layout) -> Tensor:
    """Room for the taps of :func:`backward`; ``torch.empty`` takes up to 5 microseconds, and page faults where it is large."""
    return _native.empty_taps(_CODE[cell.name], *steps_and_batch(x, layout))  # type: ignore[no-any-return]


def _shared(
    cell: Cell, x: Tensor, h0: Tensor | None, c0: Tensor | None, weights: LayerWeights, layout: Layout, keep: Keep
) -> tuple[Any, ...]:
    """The arguments that forward and backward share."""
    return (
        _CODE[cell.name], x, h0, c0, *weights, layout.lengths, layout.packed, layout.reverse, keep, get_num_threads(), _profile
    )  # fmt: skip


def saved_width(cell: Cell, hidden_size: int, f64: bool, keep: Keep = "gates") -> int:
    """Elements that a step of one sequence keeps for the way back, beside its output."""
    of = _native.saved_width_f64 if f64 else _native.saved_width_f32
    return int(of(_CODE[cell.name], hidden_size, keep == "states"))


def steps_and_batch(x: Tensor, layout: Layout) -> tuple[int, int]:
    """T and B, with the axes of x and the lengths checked (but for the values of padded ones, which the kernels check).

    For what runs before a kernel sees them, or where there is none; a call of the kernels checks its own (native/tensors.cpp).
    """
    lengths = layout.lengths
    if not layout.packed:
        if x.dim() != 3:
            raise RuntimeError(f"x has shape {list(x.shape)}, expected 3 axes [T, B, I]")
        if lengths is not None and lengths.shape != x.shape[1:2]:
            raise RuntimeError(f"lengths has shape {list(lengths.shape)}, expected {[x.shape[1]]}")
        return x.shape[0], x.shape[1]
    if x.dim() != 2 or lengths is None or lengths.dim() != 1 or len(lengths) == 0:
        raise RuntimeError(f"packed x has shape {list(x.shape)}, expected 2 axes [N, I], and lengths of at least one sequence")
    if int(lengths.sum()) != x.shape[0]:
        raise RuntimeError(f"packed x has {x.shape[0]} rows, and its lengths add up to {int(lengths.sum())}")
    return int(lengths[0]), lengths.shape[0]
