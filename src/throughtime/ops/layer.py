"""One recurrent layer in one direction, differentiable: the operator that every module runs on.

There are two ways in. In eager mode :class:`_Layer`, a plain ``autograd.Function``, costs least. Under ``torch.compile``,
``torch.export`` and other tracers the registered operator ``throughtime::layer`` (see ``registered.py``) is opaque to them.
Both call the two functions here, :func:`run_forward` and :func:`run_backward`, which choose between the native kernels
(in one piece, or segment by segment, see ``checkpoints.py``) and, where there are none (other devices, no native module),
plain torch operators.

Second derivatives are torch's own: when a graph of the backward pass is asked for (``create_graph=True``), the gradients are
computed through ``differentiable.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from throughtime import reference
from throughtime.cells import Cell
from throughtime.ops import checkpoints, differentiable, native, taps
from throughtime.ops.native import Gradients, LayerWeights, Layout

Keep = Literal["nothing", "checkpoints", "states", "gates"]
"""What is kept for the way back: see :class:`throughtime.nn.LSTM`."""

Outputs = tuple[Tensor | None, Tensor, Tensor | None, Tensor | None]
"""output (``None`` if it was not wanted and is not kept), h_n, c_n (``None`` without a cell state), and what is kept for the
way back (opaque, ``None`` if nothing is)."""


def layer(
    cell: Cell,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: LayerWeights,
    layout: Layout,
    tap: int = taps.SILENT,
    keep: Keep = "gates",
    final_only: bool = False,
    stacked: bool = False,
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Run one layer in one direction; differentiable in x, h0, c0 and the weights.

    Args:
        cell: the cell.
        x: [T, B, I], any strides; or the data of a ``PackedSequence``, [N, I].
        h0: [B, P], zeros if ``None``.
        c0: [B, H], zeros if ``None``; LSTM only.
        weights: tied or untied.
        layout: lengths, packed or not, direction.
        tap: the number under which a recorder may listen to the backward pass.
        keep: what to keep for the way back, if there will be one. Tracers and transforms keep states for checkpoints.
        final_only: leave the output out.
        stacked: return states with an axis of 1 in front, as a module with one layer does. (To add it afterwards takes a node
            of the graph and, for a short sequence, a twentieth of all that Python does.)

    Returns:
        output [T, B, P] or [N, P] (``None`` with ``final_only``), h_n [B, P], c_n [B, H] (``None``, or empty in a traced
        graph, without a cell state); stacked, h_n [1, B, P] and c_n [1, B, H].

    Raises:
        ValueError: lengths outside 0..T.
    """
    tensors = (x, h0, c0, *weights)
    if not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)):
        keep = "nothing"
    output: Tensor | None
    if forward_ad._current_level >= 0:  # forward-mode derivatives: a kernel would drop them
        output, h_n, c_n = _through_torch(cell, x, h0, c0, weights, layout)
    elif _traced(tensors):
        output, h_n, c_n, _ = torch.ops.throughtime.layer(
            x, h0, c0, *weights, layout.lengths, cell.name, layout.packed, layout.reverse, _whole(keep), tap
        )
    elif torch._C._are_functorch_transforms_active():
        output, h_n, c_n, _ = _TransformedLayer.apply(cell, layout, tap, _whole(keep), *tensors)
    else:
        if keep != "nothing":
            output, h_n, c_n = _Layer.apply(_Run(cell, layout, tap, keep, final_only, stacked), *tensors)
        else:
            output, h_n, c_n, _ = run_forward(
                cell, x, h0, c0, weights, layout, keep=keep, final_only=final_only, stacked=stacked
            )  # fmt: skip
        return None if final_only else output, h_n, c_n
    if stacked:
        h_n, c_n = h_n.unsqueeze(0), None if c_n is None else c_n.unsqueeze(0)
    return None if final_only else output, h_n, c_n


def _whole(keep: Keep) -> native.Keep:
    """Of a sequence in one piece."""
    return "states" if keep == "checkpoints" else keep


_PLAIN = frozenset({Tensor, torch.nn.Parameter, type(None)})


def _traced(tensors: Sequence[Tensor | None]) -> bool:
    """Whether somebody records or transforms operators rather than just running them, or wants to see them go by."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        # Tensors of other classes (wrappers such as DTensor) have no memory of their own to read.
        or not _PLAIN.issuperset(map(type, tensors))
    )


class _Run(NamedTuple):
    """What is no tensor of a call of :func:`layer`: one argument, since autograd looks at every one."""

    cell: Cell
    layout: Layout
    tap: int
    keep: Keep
    final_only: bool = False
    stacked: bool = False


class _Layer(torch.autograd.Function):
    """The eager way through autograd.

    In the older style, with ``ctx`` in ``forward``: with ``setup_context``, torch binds the signature anew at every call, which
    costs more than a small kernel.
    """

    @staticmethod
    def forward(ctx: Any, run: _Run, *tensors: Tensor | None) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, h0, c0, *weights = tensors
        cell, layout, _, keep, final_only, stacked = run
        output, h_n, c_n, saved = run_forward(
            cell, x, h0, c0, LayerWeights(*weights), layout,  # type: ignore[arg-type]
            keep=keep, final_only=final_only, stacked=stacked,
        )  # fmt: skip
        # The checkpoints say all: the output is the caller's alone, to write into or to let go.
        _keep(ctx, run, tensors, None if keep == "checkpoints" else output, saved)
        return None if final_only else output, h_n, c_n

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, output, saved = ctx.saved_tensors
        wanted = ctx.needs_input_grad[-len(tensors) :]
        cell, layout, tap, keep, _, stacked = ctx.run
        if stacked:
            grads = (grads[0], *[None if grad is None else grad.squeeze(0) for grad in grads[1:3]])
        found = run_backward(cell, tensors, layout, keep, output, saved, grads[:3], wanted, tap)
        return (*(None,) * (len(ctx.needs_input_grad) - len(tensors)), *found)


class _TransformedLayer(torch.autograd.Function):
    """The same for the transforms of torch.func, which ask for the newer style, with all that is saved among the outputs."""

    @staticmethod
    def forward(cell: Cell, layout: Layout, tap: int, keep: native.Keep, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        x, h0, c0, *weights = tensors
        outputs = run_forward(cell, x, h0, c0, LayerWeights(*weights), layout, keep=keep)  # type: ignore[arg-type]
        return tuple(outputs[1].new_empty(0) if output is None else output for output in outputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        cell, layout, tap, keep, *tensors = inputs
        output_, _, c_n, saved = output
        ctx.mark_non_differentiable(*([saved] if cell.has_cell_state else [c_n, saved]))
        _keep(ctx, _Run(cell, layout, tap, keep), tensors, output_, saved)

    backward = _Layer.backward


def _keep(ctx: Any, run: _Run, tensors: Sequence[Tensor | None], output: Tensor | None, saved: Tensor | None) -> None:
    ctx.run = run
    # Gradients that did not arrive stay None: no zeros are made and read for them.
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output, saved)


def run_forward(
    cell: Cell,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: LayerWeights,
    layout: Layout,
    *,
    keep: Keep,
    final_only: bool = False,
    stacked: bool = False,
) -> Outputs:
    """The values, without autograd."""
    output: Tensor | None
    saved = None
    if not native.serves(x):
        with torch.no_grad():
            output, h_n, c_n = _through_torch(cell, x, h0, c0, weights, layout)
    elif keep == "checkpoints":
        output, h_n, c_n, saved = checkpoints.forward(cell, x, h0, c0, weights, layout, output=not final_only)
    else:
        wanted = keep != "nothing" or not final_only
        return native.forward(cell, x, h0, c0, weights, layout, keep=keep, output=wanted, stacked=stacked)

    # No result may be one of the inputs (with T = 0 or length 0 the state comes back as it went in), or a view.
    def own(state: Tensor) -> Tensor:
        return (state.unsqueeze(0) if stacked else state).clone()

    return output, own(h_n), None if c_n is None else own(c_n), saved


def run_backward(
    cell: Cell,
    tensors: Sequence[Tensor | None],
    layout: Layout,
    keep: Keep,
    output: Tensor | None,
    saved: Tensor | None,
    grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
    tap: int,
) -> Gradients:
    """The gradients of what :func:`run_forward` returned, measured on the way if somebody listens.

    Args:
        cell: the cell.
        tensors: x, h0, c0 and the five weights.
        layout: as it was.
        keep: as it was.
        output: as it was returned; ``None`` with checkpoints.
        saved: as it was returned.
        grads: of output, h_n and c_n; ``None`` is zero.
        wanted: which of ``tensors`` to compute gradients of.
        tap: the layer's number.
    """
    x = tensors[0]
    assert x is not None
    grads = [None if grad is None or grad._is_zerotensor() else grad for grad in grads]  # zeros without memory
    if not cell.has_cell_state:
        grads[2] = None
    if grads[0] is None and grads[1] is None and grads[2] is None:
        return Gradients(*(None for _ in Gradients._fields))
    listener = taps.listener(tap) if tap != taps.SILENT else None
    wish = listener.wants(tap) if listener else None
    served = native.serves(x)
    through_torch = torch.is_grad_enabled() or not served
    back = partial(_back, cell, tensors, layout, keep, output, saved)
    gradients = None
    if listener and wish:
        with torch.no_grad() if torch.is_grad_enabled() else nullcontext():
            if served:
                wanted_here = (False,) * 8 if through_torch else wanted
                measurement, gradients = _measure(back, cell, tensors, layout, grads, wanted_here, wish)
            else:
                measurement = _measure_by_reference(cell, tensors, layout, grads, wish)
        listener.receive(tap, measurement)
    elif not through_torch:
        gradients = back(grads, wanted)
    return _through_autograd(cell, tensors, layout, grads, wanted) if through_torch else gradients  # type: ignore[return-value]


def _back(
    cell: Cell,
    tensors: Sequence[Tensor | None],
    layout: Layout,
    keep: Keep,
    output: Tensor | None,
    saved: Tensor | None,
    grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
    **options: Any,
) -> Gradients:
    """The gradients by the kernels, in one piece or from checkpoint to checkpoint."""
    x, h0, c0, *weights_ = tensors
    weights = LayerWeights(*weights_)  # type: ignore[arg-type]
    assert x is not None
    if keep == "checkpoints":
        assert saved is not None
        return checkpoints.backward(cell, x, weights, layout, saved, *grads, wanted=wanted, **options)
    assert output is not None
    return native.backward(
        cell, x, h0, c0, weights, layout, output, saved, *grads, keep=_whole(keep), wanted=wanted, **options
    )  # fmt: skip


def _measure(
    back: Callable[..., Gradients],
    cell: Cell,
    tensors: Sequence[Tensor | None],
    layout: Layout,
    grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
    wish: taps.Wish,
) -> tuple[taps.Measurement, Gradients]:
    """What a listener wants to know, and the gradients."""
    x, _, _, w_ih, w_hh, _, _, w_hr = tensors
    assert x is not None and w_ih is not None and w_hh is not None
    squared_norms = native.empty_taps(cell, x, layout)
    P = w_hh.shape[-1] if w_hr is None else w_hr.shape[0]
    delta = x.new_empty((*x.shape[:-1], P)) if wish.delta else None
    gradients = back(grads, wanted, taps=squared_norms, delta=delta)
    probe = None
    if wish.probe:
        # One more way back, from a unit gradient at each true end, without weight gradients.
        probe = native.empty_taps(cell, x, layout)
        seeds = probe_seed(cell, probe.shape[-1], P, w_ih.shape[-2] // len(cell.gates))
        unit = (None, *(None if seed is None else seed.to(x.dtype) for seed in seeds))
        back(unit, (False,) * 8, taps=probe, rescale=True)
    return taps.Measurement(cell, squared_norms, probe, layout.lengths, layout.reverse, delta), gradients


def probe_seed(cell: Cell, batch: int, size: int, hidden_size: int) -> tuple[Tensor, Tensor | None]:
    """The unit gradients of the state (h [B, P], c [B, H] or ``None``) that the probe puts in at each true end.

    Random directions of the whole state that is carried, always the same, from a generator of their own: a fixed direction
    such as all ones could lie in a subspace of its own; a random one has its share of every direction.
    """
    generator = np.random.Generator(np.random.PCG64(1991))  # the year of Hochreiter's thesis on the vanishing gradient
    directions = generator.standard_normal((batch, size + (hidden_size if cell.has_cell_state else 0)))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    seed = torch.from_numpy(directions)
    return seed[:, :size], seed[:, size:] if cell.has_cell_state else None


# ---- where there are no kernels -----------------------------------------------------------------------------------


def _through_torch(
    cell: Cell, x: Tensor, h0: Tensor | None, c0: Tensor | None, weights: LayerWeights, layout: Layout
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The layer out of plain torch operators; packed input is laid out as a padded batch and back."""
    if not layout.packed:
        return differentiable.layer(cell, x, h0, c0, *weights, lengths=layout.lengths, reverse=layout.reverse)
    time, row = _places(layout, x.device)
    T, B = native.steps_and_batch(x, layout)
    padded = x.new_zeros(T, B, x.shape[-1]).index_put((time, row), x)
    output, h_n, c_n = differentiable.layer(cell, padded, h0, c0, *weights, lengths=layout.lengths, reverse=layout.reverse)
    return output[time, row], h_n, c_n


def _places(layout: Layout, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each row of packed data lies in a padded batch."""
    assert layout.lengths is not None
    T = int(layout.lengths[0])
    time, row = torch.nonzero(torch.arange(T, device="cpu")[:, None] < layout.lengths, as_tuple=True)
    return time.to(device), row.to(device)


def _through_autograd(
    cell: Cell,
    tensors: Sequence[Tensor | None],
    layout: Layout,
    grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> Gradients:
    """The gradients by torch's own autograd of the layer out of plain operators, run once more.

    With a graph wanted (``create_graph=True``), they are differentiable in everything they depend on.
    """
    chosen = [index for index, want in enumerate(wanted) if want]
    which = [index for index, grad in enumerate(grads) if grad is not None]
    given = [grads[index] for index in which]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        replaced = list(tensors)
        for index, tensor in zip(chosen, inputs, strict=True):
            replaced[index] = tensor
        x, h0, c0, *weights = replaced
        results = _through_torch(cell, x, h0, c0, LayerWeights(*weights), layout)  # type: ignore[arg-type]
        return tuple(results[index] for index in which)  # type: ignore[misc]

    if not torch.is_grad_enabled():  # cut from what is behind the inputs: only their own gradients are asked for
        inputs = [tensors[index].detach().requires_grad_() for index in chosen]  # type: ignore[union-attr]
        with torch.enable_grad():
            found = torch.autograd.grad(run(*inputs), inputs, given, allow_unused=True, materialize_grads=True)
    else:
        # Aliases: where one input depends on another (the second call of a module on the weights of the first), that
        # dependence is autograd's to count, behind the aliases, and not ours as well.
        inputs = [tensors[index].view_as(tensors[index]) for index in chosen]  # type: ignore[union-attr, arg-type]
        if all(tensor.requires_grad for tensor in inputs):
            found = torch.autograd.grad(
                run(*inputs), inputs, given, create_graph=True, allow_unused=True, materialize_grads=True
            )
        else:  # behind a transform of torch.func that has ended, whose tensors ask for no gradient any more
            _, back, *_ = torch.func.vjp(run, *inputs)
            found = back(tuple(given))
    gradients = iter(found)
    return Gradients(*(next(gradients) if want else None for want in wanted))


def _measure_by_reference(
    cell: Cell,
    tensors: Sequence[Tensor | None],
    layout: Layout,
    grads: Sequence[Tensor | None],
    wish: taps.Wish,
) -> taps.Measurement:
    """The same measurement by the NumPy oracle, for tensors that no kernel serves. Slow, and right."""

    def array(tensor: Tensor | None) -> Any:
        return None if tensor is None else tensor.detach().to("cpu", torch.float64).numpy()

    x, h0, c0, *weights = tensors
    assert x is not None
    grad_output, grad_h_n, grad_c_n = grads
    x_array, grad_array = array(x), array(grad_output)
    T, B = native.steps_and_batch(x, layout)
    if layout.packed:
        time, row = (place.numpy() for place in _places(layout, torch.device("cpu")))
        unpacked = np.zeros((T, B, x.shape[-1]))
        unpacked[time, row] = x_array
        x_array = unpacked
        if grad_array is not None:
            unpacked = np.zeros((T, B, grad_array.shape[-1]))
            unpacked[time, row] = grad_array
            grad_array = unpacked
    lengths = None if layout.lengths is None else layout.lengths.numpy()
    forward = reference.forward(
        cell,
        x_array,
        reference.Weights(*(array(w) for w in weights)),
        array(h0),
        array(c0),
        lengths=lengths,
        reverse=layout.reverse,
    )
    backward = reference.backward(forward, grad_array, array(grad_h_n), array(grad_c_n))

    def stacked(norms: dict[str, Any]) -> Tensor:
        return torch.from_numpy(np.stack([norms[name] for name in cell.taps]))

    probe = None
    if wish.probe:
        seed, seed_c = probe_seed(cell, B, forward.h_n.shape[1], forward.hidden.shape[-1])
        probe = stacked(reference.probe(forward, seed.numpy(), array(seed_c)))
    delta = None
    if wish.delta:
        delta = torch.from_numpy(backward.delta[time, row] if layout.packed else backward.delta).to(x.device, x.dtype)
    return taps.Measurement(cell, stacked(backward.taps), probe, layout.lengths, layout.reverse, delta)
