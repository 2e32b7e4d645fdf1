"""Backpropagation through time, derived by hand: the gradients, and how large they are at every step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from throughtime.reference._activations import Array
from throughtime.reference._forward import Forward
from throughtime.reference._pointwise import POINTWISE, Differentiated, Gates, Moment, stack_gates
from throughtime.reference._weights import Weights

Taps = dict[str, Array]


@dataclass
class Backward:
    """The gradient of a loss with respect to everything in a forward pass.

    Shapes: T steps, B batch, I inputs, H hidden, P projected (= H without a projection). Gradients are zero
    on padding, taps are NaN there.

    Attributes:
        x: [T, B, I].
        h0: [B, P]; ``None`` for untied weights, which take none.
        c0: [B, H]; ``None`` for cells without a cell state.
        weights: in the shapes of the weights; ``None`` where there was none.
        delta: [T, B, P] total dL/dh_t: from this step's output and from all that came after.
        c: [T, B, H] total dL/dc_t, or ``None``.
        from_input: per gate [T, B, H], of the pre-activation's input half.
        from_past: per gate [T, B, H], of its recurrent half.
        taps: name -> [T, B] squared norms, see :func:`backward`.
    """

    x: Array
    h0: Array | None
    c0: Array | None
    weights: Weights
    delta: Array
    c: Array | None
    from_input: Gates
    from_past: Gates
    taps: Taps


@dataclass
class Transport:
    """One step of the walk back: what it found and what it hands to the step before."""

    moment: Moment
    found: Differentiated
    a: Array  # [N, G*H] gradient of the recurrent halves of the pre-activations
    u: Array  # [N, P] what arrives at h_{t-1}
    taps: dict[str, Array]  # name -> [N] squared norms


def transport(forward: Forward, k: int, delta: Array, d_c: Array | None) -> Transport:
    """Carry the gradient back through the direction's ``k``-th step.

    Args:
        forward: the pass.
        k: the step, counted from 0 in the direction's own order.
        delta: [N, P] total dL/dh_t of the N samples that run at this step.
        d_c: [N, H] what arrives at c_t from later, or ``None``.
    """
    cell, w_hh, w_hr = forward.cell, forward.weights.at(k).w_hh, forward.weights.w_hr
    moment = forward.moment(k)
    d_hidden = delta if w_hr is None else delta @ w_hr  # [N, H]
    found = POINTWISE[cell.kind].backward(cell, moment, d_hidden, d_c)
    a = stack_gates(cell, found.from_past)
    through = np.zeros_like(delta) if w_hh is None else a @ w_hh  # [N, P]
    u = through if found.bypass is None else through + found.bypass

    sizes = {"delta": delta, "a": a, "u": u, "hidden": through, "bypass": found.bypass}
    sizes |= {"cell_in": d_c, "cell": found.c, "cell_out": found.c_before}
    taps = {name: squared_norm(sizes[name]) for name in cell.taps}
    if w_hh is None:  # nothing is transported out of an untied first step: not zero, but undefined
        taps["u"] = np.full(len(delta), np.nan)
    return Transport(moment, found, a, u, taps)


def squared_norm(vectors: Array | None) -> Array:
    """[N, H] -> [N]."""
    assert vectors is not None
    return np.asarray(np.square(vectors).sum(axis=1))


def blank_taps(forward: Forward) -> Taps:
    """Every tap of the cell, [T, B] of NaN."""
    return {name: np.full(forward.x.shape[:2], np.nan) for name in forward.cell.taps}


@np.errstate(over="ignore", invalid="ignore")
def backward(
    forward: Forward,
    grad_output: npt.ArrayLike | None = None,
    grad_h_n: npt.ArrayLike | None = None,
    grad_c_n: npt.ArrayLike | None = None,
) -> Backward:
    """Differentiate a forward pass by hand-derived backpropagation through time.

    Shapes: T steps, B batch, H hidden, P projected (= H without a projection). The taps are squared Euclidean
    norms per step (of the time axis of ``x``) and sample:

    ============ ===== ===================================================================================
    ``delta``    all   dL/dh_t, total
    ``a``        all   the gradient of the recurrent halves of the pre-activations: D_t delta_t in a simple
                       RNN, all four gates in an LSTM, [dr, dz, dn * r_t] in a GRU
    ``u``        all   what arrives at h_{t-1}, before the loss of that step is added; NaN in an untied
                       network's first step
    ``hidden``   gru   the part of u that went through the recurrent weights
    ``bypass``   gru   the part that went past them, z_t * delta_t
    ``cell_in``  lstm  what arrives at c_t from step t+1 or from ``grad_c_n``
    ``cell``     lstm  dL/dc_t, total: with the path through h_t
    ``cell_out`` lstm  f_t * dL/dc_t, what is transported to c_{t-1}
    ============ ===== ===================================================================================

    Args:
        forward: the pass.
        grad_output: [T, B, P] gradient of ``output``, zeros if ``None``; ignored on padding.
        grad_h_n: [B, P] gradient of ``h_n``, zeros if ``None``; at length 0 it goes straight to ``h0``.
        grad_c_n: [B, H] gradient of ``c_n``, zeros if ``None``; LSTM only.

    Raises:
        ValueError: a gradient has the wrong shape, or ``grad_c_n`` was given to a cell without a cell state.

    Example:
        >>> from throughtime.reference import Weights, forward
        >>> run = forward("rnn_identity", [[[1.0]], [[0.0]], [[0.0]]], Weights([[1.0]], [[0.5]]))
        >>> found = backward(run, grad_h_n=[[1.0]])
        >>> found.delta.ravel().tolist(), found.weights.w_hh.tolist()
        ([0.25, 0.5, 1.0], [[1.0]])

    Source: Werbos 1990, Backpropagation Through Time: What It Does and How to Do It, Proc. IEEE 78(10).
    """
    cell, grads = forward.cell, forward.weights.zeros_like()
    if grad_c_n is not None and not cell.has_cell_state:
        raise ValueError(f"grad_c_n was given, but {cell.name} has no cell state")
    d_output = _gradient("grad_output", grad_output, forward.output.shape)
    # The state's gradient on its way back, one row per sample. A shorter sample's row waits at its true end,
    # and that of a sample of length 0 is already where it belongs.
    d_h = _gradient("grad_h_n", grad_h_n, forward.h_n.shape)  # [B, P]
    d_c = None if forward.c_n is None else _gradient("grad_c_n", grad_c_n, forward.c_n.shape)  # [B, H]

    result = Backward(
        x=np.zeros_like(forward.x),
        h0=d_h if forward.weights.tied else None,
        c0=d_c,
        weights=grads,
        delta=np.zeros_like(forward.output),
        c=None if d_c is None else np.zeros_like(forward.hidden),
        from_input={gate: np.zeros_like(forward.hidden) for gate in cell.gates},
        from_past={gate: np.zeros_like(forward.hidden) for gate in cell.gates},
        taps=blank_taps(forward),
    )
    for k in reversed(range(forward.steps)):
        moment = forward.moment(k)
        here, sample = (moment.time, moment.sample), moment.sample
        delta = d_h[sample] + d_output[here]
        step = transport(forward, k, delta, None if d_c is None else d_c[sample])
        d_h[sample] = step.u
        if d_c is not None and result.c is not None:
            result.c[here] = step.found.c
            d_c[sample] = step.found.c_before

        result.delta[here] = delta
        for gate in cell.gates:
            result.from_input[gate][here] = step.found.from_input[gate]
            result.from_past[gate][here] = step.found.from_past[gate]
        for name, values in step.taps.items():
            result.taps[name][here] = values
        a_input = stack_gates(cell, step.found.from_input)  # [N, G*H]
        result.x[here] = a_input @ forward.weights.at(k).w_ih
        _add_weight_gradients(grads, k, forward, step, a_input, delta)
    return result


def _add_weight_gradients(grads: Weights, k: int, forward: Forward, step: Transport, a_input: Array, delta: Array) -> None:
    """Add this step's share to the gradients of the weights it used."""
    shared, moment = grads.at(k), step.moment
    shared.w_ih[...] += a_input.T @ forward.x[moment.time, moment.sample]
    if shared.w_hh is not None:
        shared.w_hh[...] += step.a.T @ moment.h_before
    if shared.b_ih is not None:
        shared.b_ih[...] += a_input.sum(axis=0)
    if shared.b_hh is not None:
        shared.b_hh[...] += step.a.sum(axis=0)
    if grads.w_hr is not None:
        grads.w_hr += delta.T @ moment.hidden


def _gradient(name: str, gradient: npt.ArrayLike | None, shape: tuple[int, ...]) -> Array:
    """An incoming gradient as a fresh float64 array, zeros if there is none."""
    if gradient is None:
        return np.zeros(shape)
    array = np.array(gradient, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    return array
