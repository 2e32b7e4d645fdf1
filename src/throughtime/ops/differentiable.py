"""One layer in one direction built from plain differentiable torch operators.

It stands in where no kernel serves: second derivatives, the nonlinearities and the untied weights torch
lacks, any dtype and any device. It is a Python loop, so it is never chosen where a kernel could run.

Shapes: T steps, B batch, I inputs, H hidden, P projected (= H without a projection), G gates.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from throughtime.cells import Cell, cell_of


@dataclass
class Steps:
    """The tensors of every step, in the graph: hook them to see the gradients on their way.

    The order is that of the time axis of ``x``. With ``lengths``, rows on padding hold no meaning, and their
    gradient is exactly zero.

    Attributes:
        h: T tensors [B, P]; the gradient of ``h[t]`` is dL/dh_t, total.
        c: T tensors [B, H]; the gradient of ``c[t]`` is dL/dc_t, total. Empty for cells without a cell state.
        pre: T tensors [B, G*H]; the gradient of ``pre[t]`` is what the tap ``a`` measures. It is the
            pre-activation, for the GRU its recurrent half.
    """

    h: list[Tensor] = field(default_factory=list)
    c: list[Tensor] = field(default_factory=list)
    pre: list[Tensor] = field(default_factory=list)


def layer(
    cell: Cell | str,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    w_hr: Tensor | None,
    *,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run one layer in one direction; every derivative of every order is torch's own.

    Args:
        cell: the cell, its name or its torch mode.
        x: [T, B, I], any strides, dtype and device; padding is never used, nor does it get a gradient.
        h0: [B, P] initial state, zeros if ``None``; refused with untied weights.
        c0: [B, H] initial cell state, zeros if ``None``; LSTM only.
        w_ih: [G*H, I], or [T, H, I] untied (simple RNNs only).
        w_hh: [G*H, P], or [T-1, H, H] untied: ``w_hh[k-1]`` leads from the direction's step k-1 to step k.
        b_ih: [G*H], [T, H] untied, or ``None``.
        b_hh: [G*H] or ``None``; always ``None`` untied.
        w_hr: [P, H], the LSTM's projection, or ``None``.
        lengths: [B] int64, each 0 to T (the caller has checked), any order; all T if ``None``.
        reverse: run each sample from its true end to its beginning.

    Returns:
        ``output`` [T, B, P], zero on padding; ``h_n`` [B, P] at each true end; ``c_n`` [B, H], ``None`` for
        cells without a cell state.

    Raises:
        ValueError: a combination that no cell has; the message names it.

    Example:
        >>> w_ih, w_hh = torch.ones(1, 1), torch.full((1, 1), 0.5)
        >>> x = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1)
        >>> output, h_n, c_n = layer("rnn_identity", x, None, None, w_ih, w_hh, None, None, None)
        >>> output.flatten().tolist()
        [1.0, 0.5, 0.25]

    Source: the papers named in :attr:`throughtime.cells.Cell.source`.
    """
    output, h_n, c_n, _ = layer_with_states(cell, x, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, lengths=lengths, reverse=reverse)
    return output, h_n, c_n


def layer_with_states(
    cell: Cell | str,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    w_hr: Tensor | None,
    *,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None, Steps]:
    """As :func:`layer`, and the tensors of every step with it, for a recorder to hook.

    Example:
        >>> w = torch.ones(1, 1, requires_grad=True)
        >>> _, h_n, _, steps = layer_with_states(
        ...     "rnn_identity", torch.ones(3, 1, 1), None, None, w, 0.5 * w, None, None, None
        ... )
        >>> [grad.item() for grad in torch.autograd.grad(h_n.sum(), steps.h)]
        [0.25, 0.5, 1.0]
    """
    cell = cell_of(cell)
    tied = w_ih.dim() == 2
    _refuse_impossible(cell, tied, x, h0, c0, b_hh, w_hr, lengths)
    count, batch = x.shape[0], x.shape[1]
    hidden_size = w_ih.shape[-2] // cell.gate_count
    h = x.new_zeros(batch, hidden_size if w_hr is None else w_hr.shape[0]) if h0 is None else h0
    c = x.new_zeros(batch, hidden_size) if c0 is None else c0

    alive: Tensor | None = None  # [T, B, 1]
    if lengths is not None:
        alive = (torch.arange(count, device=x.device)[:, None] < lengths.to(x.device))[:, :, None]
        # Before any product: 0 * NaN is NaN, in the output and in the gradient of the weights alike.
        x = torch.where(alive, x, 0.0)

    # Untied weights are numbered in the direction's own order; bring them to that of the time axis.
    order = range(count - 1, -1, -1) if reverse else range(count)
    if tied:
        from_input = functional.linear(x, w_ih, b_ih)  # [T, B, G*H]
    else:
        from_input = x @ (w_ih.flip(0) if reverse else w_ih).transpose(1, 2)
        if b_ih is not None:
            from_input = from_input + (b_ih.flip(0) if reverse else b_ih)[:, None]
    inputs = from_input.unbind(0)

    steps = Steps([h] * count, [c] * count if cell.has_cell_state else [], [h] * count)
    for k, t in enumerate(order):
        if tied:
            from_past: Tensor | None = functional.linear(h, w_hh, b_hh)  # [B, G*H]
        else:
            from_past = functional.linear(h, w_hh[k - 1]) if k > 0 else None
        new_h, new_c, steps.pre[t] = _POINTWISE[cell.kind](cell, inputs[t], from_past, h, c)
        if w_hr is not None:
            new_h = functional.linear(new_h, w_hr)
        steps.h[t] = new_h
        if cell.has_cell_state:
            steps.c[t] = new_c
        # A sample that has ended (in reverse: has not begun) keeps its state.
        h = new_h if alive is None else torch.where(alive[t], new_h, h)
        if cell.has_cell_state:
            c = new_c if alive is None else torch.where(alive[t], new_c, c)

    output = torch.stack(steps.h) if count else x.new_zeros(0, *h.shape)
    if alive is not None:
        output = torch.where(alive, output, 0.0)
    return output, h, c if cell.has_cell_state else None, steps


def _rnn(cell: Cell, from_input: Tensor, from_past: Tensor | None, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    pre = from_input if from_past is None else from_input + from_past
    match cell.nonlinearity:
        case "tanh":
            return torch.tanh(pre), c, pre
        case "relu":
            return torch.relu(pre), c, pre
        case "sigmoid":
            return torch.sigmoid(pre), c, pre
        case _:  # a tensor of its own, so that its gradient can be told from that of the pre-activation
            return pre.clone(), c, pre


def _gru(cell: Cell, from_input: Tensor, from_past: Tensor | None, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    assert from_past is not None
    r_input, z_input, n_input = from_input.chunk(3, dim=1)
    r_past, z_past, n_past = from_past.chunk(3, dim=1)
    r = torch.sigmoid(r_input + r_past)
    z = torch.sigmoid(z_input + z_past)
    n = torch.tanh(n_input + r * n_past)
    return (1.0 - z) * n + z * h, c, from_past


def _lstm(cell: Cell, from_input: Tensor, from_past: Tensor | None, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    assert from_past is not None
    pre = from_input + from_past
    i, f, g, o = pre.chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c, pre


_POINTWISE = {"rnn": _rnn, "gru": _gru, "lstm": _lstm}


def _refuse_impossible(
    cell: Cell,
    tied: bool,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    b_hh: Tensor | None,
    w_hr: Tensor | None,
    lengths: Tensor | None,
) -> None:
    """Raise ValueError for arguments that exclude one another."""
    if x.dim() != 3:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected 3 axes [T, B, I]")
    if c0 is not None and not cell.has_cell_state:
        raise ValueError(f"c0 was given, but {cell.name} has no cell state")
    if w_hr is not None and not cell.projects:
        raise ValueError(f"w_hr was given, but {cell.name} has no projection")
    if tied:
        return
    if cell.kind != "rnn":
        raise ValueError(f"{cell.name} has no untied form (w_ih with 3 axes): only the simple RNNs do")
    if h0 is not None:
        raise ValueError("h0 was given with untied weights: their first step has no recurrent weight to use it")
    if b_hh is not None:
        raise ValueError("b_hh was given with untied weights, which have one bias per step, b_ih [T, H]")
    if lengths is not None and bool((lengths != x.shape[0]).any()):
        raise ValueError(f"lengths {lengths.tolist()} were given with untied weights, made for exactly T={len(x)} steps")
