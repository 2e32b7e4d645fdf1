"""``torch.ops.throughtime.layer`` and its backward: the layer as an operator that torch.compile, torch.export and other
tracers carry through as one node, with dynamic T and B.

The schema says what is there, and reserves what is sure to come: ``reset`` (a mask that clears the state in mid-sequence)
and ``recurrent_mask`` (recurrent dropout) are refused by name today, so that graphs exported now will still load.

Optional results are not allowed, so what is not wanted comes back as an empty tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from throughtime.cells import CELLS
from throughtime.ops import native
from throughtime.ops.layer import Outputs, run_backward, run_forward
from throughtime.ops.native import LayerWeights, Layout

_TENSORS = 8  # x, h0, c0 and five weights: the differentiable arguments come first


@torch.library.custom_op("throughtime::layer", mutates_args=())
def _layer(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    w_hr: Tensor | None,
    lengths: Tensor | None,
    cell: str,
    packed: bool,
    reverse: bool,
    keep: bool,
    tap: int,
    reset: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _refuse_reserved(reset, recurrent_mask)
    layout = _layout(lengths, packed, reverse)
    outputs = run_forward(CELLS[cell], x, h0, c0, LayerWeights(w_ih, w_hh, b_ih, b_hh, w_hr), layout, keep=keep)
    if layout.lengths is not None and not packed:
        # An operator's outputs are all its own: rows of steps that are not there must not hold whatever memory held.
        outputs[3][int(layout.lengths.sum()) :].zero_()
    return outputs


@_layer.register_fake
def _(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    w_hr: Tensor | None,
    lengths: Tensor | None,
    cell: str,
    packed: bool,
    reverse: bool,
    keep: bool,
    tap: int,
    reset: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
) -> Outputs:
    _refuse_reserved(reset, recurrent_mask)
    described = CELLS[cell]
    hidden_size = w_ih.shape[-2] // len(described.gates)
    size = hidden_size if w_hr is None else w_hr.shape[0]
    rows = x.shape[:-1]
    batch = lengths.shape[0] if packed and lengths is not None else x.shape[1]
    width = 0
    if keep and native.serves(x):
        width = native.saved_width(described, int(hidden_size), x.dtype == torch.float64)
    return (
        x.new_empty((*rows, size)),
        x.new_empty((batch, size)),
        x.new_empty((batch, hidden_size) if described.has_cell_state else (0,)),
        x.new_empty((math.prod(rows), width) if width else (0,)),
    )


@torch.library.custom_op("throughtime::layer_backward", mutates_args=())
def _layer_backward(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    w_hr: Tensor | None,
    grad_output: Tensor | None,
    grad_h_n: Tensor | None,
    grad_c_n: Tensor | None,
    output: Tensor,
    saved: Tensor,
    lengths: Tensor | None,
    cell: str,
    packed: bool,
    reverse: bool,
    wanted: Sequence[bool],
    tap: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    gradients = run_backward(
        CELLS[cell],
        (x, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr),
        _layout(lengths, packed, reverse),
        output,
        saved,
        (grad_output, grad_h_n, grad_c_n),
        wanted,
        tap,
    )
    filled = [x.new_empty(0) if g is None else g for g in gradients]
    return (filled[0], filled[1], filled[2], filled[3], filled[4], filled[5], filled[6], filled[7])


@_layer_backward.register_fake
def _(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    w_hr: Tensor | None,
    grad_output: Tensor | None,
    grad_h_n: Tensor | None,
    grad_c_n: Tensor | None,
    output: Tensor,
    saved: Tensor,
    lengths: Tensor | None,
    cell: str,
    packed: bool,
    reverse: bool,
    wanted: Sequence[bool],
    tap: int,
) -> tuple[Tensor, ...]:
    tensors = (x, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr)
    return tuple(x.new_empty(t.shape if want and t is not None else (0,)) for t, want in zip(tensors, wanted, strict=True))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    tensors, rest = inputs[:_TENSORS], inputs[_TENSORS:]
    ctx.lengths, ctx.cell, ctx.packed, ctx.reverse, _, ctx.tap = rest[:6]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[0], output[3])


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    *tensors, output, saved = ctx.saved_tensors
    wanted = [bool(want) for want in ctx.needs_input_grad[:_TENSORS]]
    rest = (None,) * (len(ctx.needs_input_grad) - _TENSORS)
    if torch.is_grad_enabled():  # a graph of this backward pass is wanted
        layout = _layout(ctx.lengths, ctx.packed, ctx.reverse)
        return (*run_backward(CELLS[ctx.cell], tensors, layout, output, saved, grads[:3], wanted, ctx.tap), *rest)
    grad_c_n = grads[2] if CELLS[ctx.cell].has_cell_state else None
    found = torch.ops.throughtime.layer_backward(
        *tensors, grads[0], grads[1], grad_c_n, output, saved, ctx.lengths, ctx.cell, ctx.packed, ctx.reverse,
        wanted, ctx.tap,
    )  # fmt: skip
    return (*(g if want else None for g, want in zip(found, wanted, strict=True)), *rest)


_layer.register_autograd(_backward, setup_context=_setup_context)


def _layout(lengths: Tensor | None, packed: bool, reverse: bool) -> Layout:
    return Layout(None if lengths is None else lengths.to("cpu", torch.int64).contiguous(), packed, reverse)


def _refuse_reserved(reset: Tensor | None, recurrent_mask: Tensor | None) -> None:
    if reset is not None or recurrent_mask is not None:
        raise NotImplementedError(
            "throughtime::layer reserves reset and recurrent_mask for later; this version runs without them"
        )
