"""``torch.ops.throughtime.layer`` and its backward: the layer as an operator that torch.compile, torch.export and other
tracers carry through as one node, with dynamic T and B.

The schema says what is there, and reserves what is sure to come: ``reset`` (a mask that clears the state in mid-sequence)
and ``recurrent_mask`` (recurrent dropout) are refused by name today, so that graphs exported now will still load.

Optional results are not allowed, so what is not wanted comes back as an empty tensor.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, library

from throughtime.cells import cell_of
from throughtime.ops import native
from throughtime.ops.layer import Outputs, run_backward, run_forward
from throughtime.ops.native import LayerWeights, Layout

_TENSORS = (
    "Tensor x, Tensor? h0, Tensor? c0, Tensor w_ih, Tensor w_hh, Tensor? b_ih, Tensor? b_hh, Tensor? w_hr"  # differentiable
)
_TENSOR_COUNT = 8
_LAYOUT = "Tensor? lengths, str cell, bool packed, bool reverse"


@library.custom_op(
    "throughtime::layer",
    mutates_args=(),
    schema=f"({_TENSORS}, {_LAYOUT}, str keep, int tap, Tensor? reset=None, Tensor? recurrent_mask=None)"
    " -> (Tensor output, Tensor h_n, Tensor c_n, Tensor saved)",
)
def _layer(*arguments: Any) -> Outputs:
    tensors, (lengths, cell, packed, reverse, keep, _, *reserved) = arguments[:_TENSOR_COUNT], arguments[_TENSOR_COUNT:]
    _refuse_reserved(reserved)
    layout = _layout(lengths, packed, reverse)
    x, h0, c0, *weights = tensors
    output, h_n, c_n, saved = run_forward(cell_of(cell), x, h0, c0, LayerWeights(*weights), layout, keep=keep)
    if saved is not None and layout.lengths is not None and not packed:
        # An operator's outputs are all its own: rows of steps that are not there must not hold whatever memory held.
        saved[int(layout.lengths.sum()) :].zero_()
    assert output is not None
    return output, h_n, x.new_empty(0) if c_n is None else c_n, x.new_empty(0) if saved is None else saved


@_layer.register_fake
def _(*arguments: Any) -> Outputs:
    tensors, (lengths, name, packed, _, keep, _, *reserved) = arguments[:_TENSOR_COUNT], arguments[_TENSOR_COUNT:]
    _refuse_reserved(reserved)
    cell = cell_of(name)
    x, _, _, w_ih, _, _, _, w_hr = tensors
    hidden_size = w_ih.shape[-2] // len(cell.gates)
    size = hidden_size if w_hr is None else w_hr.shape[0]
    rows = x.shape[:-1]
    batch = lengths.shape[0] if packed else x.shape[1]
    width = 0
    if keep != "nothing" and native.serves(x):
        width = native.saved_width(cell, int(hidden_size), x.dtype == torch.float64, keep)
    return (
        x.new_empty((*rows, size)),
        x.new_empty((batch, size)),
        x.new_empty((batch, hidden_size) if cell.has_cell_state else (0,)),
        # Not rows.numel(), which would fix T and B where they are symbols.
        x.new_empty((math.prod(rows), width) if width else (0,)),
    )


@library.custom_op(
    "throughtime::layer_backward",
    mutates_args=(),
    schema=f"({_TENSORS}, Tensor? grad_output, Tensor? grad_h_n, Tensor? grad_c_n, Tensor output, Tensor saved, "
    f"{_LAYOUT}, str keep, bool[] wanted, int tap) -> ({', '.join(['Tensor'] * _TENSOR_COUNT)})",
)
def _layer_backward(*arguments: Any) -> tuple[Tensor, ...]:
    tensors, rest = arguments[:_TENSOR_COUNT], arguments[_TENSOR_COUNT:]
    grads, (output, saved, lengths, cell, packed, reverse, keep, wanted, tap) = rest[:3], rest[3:]
    layout = _layout(lengths, packed, reverse)
    with torch.no_grad():
        found = run_backward(cell_of(cell), tensors, layout, keep, output, saved, grads, wanted, tap)
    return tuple(tensors[0].new_empty(0) if gradient is None else gradient for gradient in found)


@_layer_backward.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    tensors, wanted = arguments[:_TENSOR_COUNT], arguments[-2]
    return tuple(tensors[0].new_empty(t.shape if want else (0,)) for t, want in zip(tensors, wanted, strict=True))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    tensors, rest = inputs[:_TENSOR_COUNT], inputs[_TENSOR_COUNT:]
    ctx.lengths, ctx.cell, ctx.packed, ctx.reverse, ctx.keep, ctx.tap = rest[:6]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[0], output[3])


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    *tensors, output, saved = ctx.saved_tensors
    wanted = [bool(want) for want in ctx.needs_input_grad[:_TENSOR_COUNT]]
    rest = (None,) * (len(ctx.needs_input_grad) - _TENSOR_COUNT)
    if torch.is_grad_enabled():  # a graph of this backward pass is wanted
        layout = _layout(ctx.lengths, ctx.packed, ctx.reverse)
        found = run_backward(cell_of(ctx.cell), tensors, layout, ctx.keep, output, saved, grads[:3], wanted, ctx.tap)
        return (*found, *rest)
    grad_c_n = grads[2] if cell_of(ctx.cell).has_cell_state else None
    found = torch.ops.throughtime.layer_backward(
        *tensors, grads[0], grads[1], grad_c_n, output, saved, ctx.lengths, ctx.cell, ctx.packed, ctx.reverse,
        ctx.keep, wanted, ctx.tap,
    )  # fmt: skip
    return (*(g if want else None for g, want in zip(found, wanted, strict=True)), *rest)


_layer.register_autograd(_backward, setup_context=_setup_context)


def _layout(lengths: Tensor | None, packed: bool, reverse: bool) -> Layout:
    return Layout(None if lengths is None else lengths.to("cpu", torch.int64).contiguous(), packed, reverse)


def _refuse_reserved(reserved: list[Tensor | None]) -> None:
    if any(argument is not None for argument in reserved):
        raise NotImplementedError(
            "throughtime::layer reserves reset and recurrent_mask for later; this version runs without them"
        )
