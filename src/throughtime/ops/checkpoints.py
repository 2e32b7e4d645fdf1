"""The native kernels on long sequences in little memory: states are kept at checkpoints only, all between them is run again.

A sequence of T steps is cut into segments of about sqrt(T) steps. Forward keeps the state before each segment; backward takes
the segments from the last to the first, runs each forward once more from its checkpoint, now keeping everything, and goes
back through it. So about 2 sqrt(T) steps are held instead of T, for one more forward pass.

Source: Griewank 1992, Achieving logarithmic growth of temporal and spatial complexity in reverse automatic differentiation;
Chen et al. 2016, Training deep nets with sublinear memory cost, arXiv:1604.06174.

Shapes: T steps, B batch, I inputs, H hidden, P projected, S segments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.cells import Cell
from throughtime.ops import native
from throughtime.ops.native import Gradients, LayerWeights, Layout


@dataclass(frozen=True, slots=True)
class _Segment:
    """A range of steps: which rows of the input they are, and how many sequences are left to run (the first ones)."""

    steps: slice
    rows: slice
    batch: int
    layout: Layout


def forward(
    cell: Cell,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: LayerWeights,
    layout: Layout,
    *,
    output: bool,
) -> tuple[Tensor | None, Tensor, Tensor | None, Tensor]:
    """Run one layer in one direction, keeping states at checkpoints.

    Args:
        cell: the cell.
        x: [T, B, I] with any strides, or [N, I] packed.
        h0: [B, P], zeros if ``None``.
        c0: [B, H], zeros if ``None``; LSTM only.
        weights: tied ones.
        layout: lengths and direction.
        output: whether to return it.

    Returns:
        output [T, B, P] or [N, P] (or ``None``), h_n [B, P], c_n [B, H] (``None`` without a cell state), both views, and the
        checkpoints [S, B, P (+ H)] for :func:`backward`.
    """
    _, batch = native.steps_and_batch(x, layout)
    H, P = _sizes(cell, weights)
    segments = _segments(x, layout)
    checkpoints = x.new_empty((len(segments), batch, P + (H if cell.has_cell_state else 0)))
    whole = x.new_empty((*x.shape[:-1], P)) if output else None
    state = x.new_zeros((batch, checkpoints.shape[-1]))
    h, c = state[:, :P], state[:, P:] if cell.has_cell_state else None
    if h0 is not None:
        h.copy_(h0)
    if c is not None and c0 is not None:
        c.copy_(c0)
    for segment, checkpoint in zip(segments, checkpoints, strict=True):
        checkpoint.copy_(state)
        n = segment.batch
        _, h_n, c_n, _ = native.forward(
            cell, x[segment.rows], h[:n], None if c is None else c[:n], weights, segment.layout,
            keep="nothing", output=False if whole is None else whole[segment.rows],
        )  # fmt: skip
        h[:n] = h_n
        if c is not None and c_n is not None:
            c[:n] = c_n
    return whole, h, c, checkpoints


def backward(
    cell: Cell,
    x: Tensor,
    weights: LayerWeights,
    layout: Layout,
    checkpoints: Tensor,
    grad_output: Tensor | None,
    grad_h_n: Tensor | None,
    grad_c_n: Tensor | None,
    *,
    wanted: Sequence[bool],
    taps: Tensor | None = None,
    delta: Tensor | None = None,
    rescale: bool = False,
) -> Gradients:
    """Back through time, for a call of :func:`forward`; the arguments are those of :func:`throughtime.ops.native.backward`.

    Args:
        cell: the cell.
        x: as it was given to :func:`forward`, like the next two.
        weights: likewise.
        layout: likewise.
        checkpoints: what forward returned.
        grad_output: [T, B, P] or [N, P]; ``None`` is zero.
        grad_h_n: [B, P]; ``None`` is zero.
        grad_c_n: [B, H]; ``None`` is zero.
        wanted: which gradients to compute, in the order of :class:`Gradients`.
        taps: float64 [len(cell.taps), T, B], filled with squared norms (NaN where there is no step).
        delta: [T, B, P] or [N, P], filled with the total dL/dh_t.
        rescale: run as the probe.
    """
    _, P = _sizes(cell, weights)
    # What arrives at the state after the segment at hand, and in the end at the initial one.
    carried = torch.zeros_like(checkpoints[0])
    into_h, into_c = carried[:, :P], carried[:, P:] if cell.has_cell_state else None
    if grad_h_n is not None:
        into_h.copy_(grad_h_n)
    if into_c is not None and grad_c_n is not None:
        into_c.copy_(grad_c_n)
    grad_x = torch.empty_like(x) if wanted[0] else None
    sums: list[Tensor | None] = [None] * len(weights)
    if taps is not None:
        taps.fill_(math.nan)
    for segment, checkpoint in reversed(list(zip(_segments(x, layout), checkpoints, strict=True))):
        n, rows = segment.batch, segment.rows
        part = x[rows]
        h = checkpoint[:n, :P]
        c = checkpoint[:n, P:] if into_c is not None else None
        output, _, _, saved = native.forward(cell, part, h, c, weights, segment.layout, keep="gates")
        assert output is not None
        norms = None if taps is None else taps.new_empty(taps.shape[0], segment.steps.stop - segment.steps.start, n)
        found = native.backward(
            cell, part, h, c, weights, segment.layout, output, saved,
            None if grad_output is None else grad_output[rows], into_h[:n], None if into_c is None else into_c[:n],
            wanted=(wanted[0], True, into_c is not None, *wanted[3:]),
            taps=norms, delta=None if delta is None else delta[rows], rescale=rescale,
        )  # fmt: skip
        assert found.h0 is not None
        into_h[:n] = found.h0
        if into_c is not None and found.c0 is not None:
            into_c[:n] = found.c0
        if grad_x is not None and found.x is not None:
            grad_x[rows] = found.x
        for index, gradient in enumerate(found[3:]):
            total = sums[index]
            sums[index] = gradient if total is None or gradient is None else total.add_(gradient)
        if taps is not None and norms is not None:
            taps[:, segment.steps, :n] = norms
    into_c = into_c.contiguous() if into_c is not None and wanted[2] else None
    return Gradients(grad_x, into_h.contiguous() if wanted[1] else None, into_c, *sums)


def _sizes(cell: Cell, weights: LayerWeights) -> tuple[int, int]:
    """H and P."""
    hidden_size = weights.w_ih.shape[-2] // cell.gate_count
    return hidden_size, hidden_size if weights.w_hr is None else weights.w_hr.shape[0]


def _segments(x: Tensor, layout: Layout) -> list[_Segment]:
    """In the order in which they are run."""
    steps, batch = native.steps_and_batch(x, layout)
    length = max(1, math.isqrt(max(0, steps - 1)) + 1)
    offsets = None
    if layout.packed:
        assert layout.lengths is not None
        running = (torch.arange(steps, device="cpu")[:, None] < layout.lengths).sum(1)
        offsets = [0, *running.cumsum(0).tolist()]
    segments = []
    for first in range(0, steps, length):
        last = min(first + length, steps)
        rows, lengths, left = slice(first, last), layout.lengths, batch
        if lengths is not None:
            lengths = (lengths - first).clamp(0, last - first)
            if offsets is not None:
                left = offsets[first + 1] - offsets[first]
                rows, lengths = slice(offsets[first], offsets[last]), lengths[:left]
        segments.append(_Segment(slice(first, last), rows, left, Layout(lengths, layout.packed, layout.reverse)))
    return segments[::-1] if layout.reverse else segments
