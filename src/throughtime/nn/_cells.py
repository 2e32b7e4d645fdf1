"""RNNCell, GRUCell and LSTMCell: one step at a time, torch.nn's interface.

Legend: B batch, I inputs, H hidden, G gates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import _VF, Tensor

from throughtime.cells import Cell, cell_of
from throughtime.nn._backend import Route, choose
from throughtime.ops import differentiable
from throughtime.ops.layer import layer
from throughtime.ops.native import LayerWeights, Layout

_OPERATORS = {"RNN_TANH": "rnn_tanh_cell", "RNN_RELU": "rnn_relu_cell", "GRU": "gru_cell", "LSTM": "lstm_cell"}


class RecurrentCell(torch.nn.RNNCellBase):
    """What the three cells share."""

    mode: str

    @property
    def cell(self) -> Cell:
        """The cell this module runs, as data."""
        return cell_of(self.mode)

    def _step(self, input: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One step of a batch [B, I] or of one sequence [I]; the new states."""
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: expected input with 1 axis (one sequence) or 2 (a batch), got {input.dim()}")
        for which, state in zip(("h", "c"), states, strict=False):
            if state.dim() != input.dim():
                error = ValueError if state.dim() not in (1, 2) else RuntimeError  # as torch.nn
                raise error(f"{name}: {which} has {state.dim()} axes beside input with {input.dim()}")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"{name}: input has inconsistent input_size: got {input.shape[-1]}, expected {self.input_size}")
        single = input.dim() == 1
        if single:
            input, states = input.unsqueeze(0), tuple(state.unsqueeze(0) for state in states)
        for which, state in zip(("h", "c"), states, strict=False):
            if state.shape != (input.shape[0], self.hidden_size):
                raise RuntimeError(
                    f"{name}: {which} has shape {tuple(state.shape)}, expected {(input.shape[0], self.hidden_size)}"
                )
        final = self._run(input, states)
        return tuple(state.squeeze(0) for state in final) if single else final

    def _run(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        cell = self.cell
        weights = LayerWeights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, None)
        present = [weight for weight in weights if weight is not None]
        route = choose(cell, True, x, (*present, *states)).route
        if route is Route.TORCH:
            operator: Any = getattr(_VF, _OPERATORS[self.mode])
            states = states or self._zeros(x)
            result = operator(x, states if cell.has_cell_state else states[0], *weights[:4])
            return tuple(result) if cell.has_cell_state else (result,)
        h0, c0 = (*states, None, None)[:2]
        if route is Route.PLAIN:
            _, h, _ = differentiable.layer(cell, x.unsqueeze(0), h0, c0, *weights)
            return (h,)
        _, h, c = layer(cell, x.unsqueeze(0), h0, c0, weights, Layout())
        return (h, c) if cell.has_cell_state and c is not None else (h,)

    def _zeros(self, x: Tensor) -> tuple[Tensor, ...]:
        zeros = x.new_zeros(x.shape[0], self.hidden_size)
        return (zeros,) * len(self.cell.states)


class RNNCell(RecurrentCell):
    """One step of :class:`RNN`: ``h' = f(W_ih x + b_ih + W_hh h + b_hh)``.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether there are biases.
        nonlinearity: f: ``"tanh"``, ``"relu"``, ``"sigmoid"`` or ``"identity"``.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> RNNCell(3, 5)(torch.zeros(2, 3)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, num_chunks=1, device=device, dtype=dtype)
        if nonlinearity not in ("tanh", "relu", "sigmoid", "identity"):
            raise ValueError(f"unknown nonlinearity {nonlinearity!r}, expected 'tanh', 'relu', 'sigmoid' or 'identity'")
        self.nonlinearity = nonlinearity
        self.mode = f"RNN_{nonlinearity.upper()}"

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next state.

        Args:
            input: [B, I] or [I].
            hx: [B, H] or [H], zeros by default.

        Raises:
            ValueError: a wrong number of axes.
            RuntimeError: a wrong size.
        """
        return self._step(input, () if hx is None else (hx,))[0]


class GRUCell(RecurrentCell):
    """One step of :class:`GRU`.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether there are biases.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> GRUCell(3, 5)(torch.zeros(3)).shape
        torch.Size([5])
    """

    mode = "GRU"

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, num_chunks=3, device=device, dtype=dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next state; arguments and errors as :meth:`RNNCell.forward`."""
        return self._step(input, () if hx is None else (hx,))[0]


class LSTMCell(RecurrentCell):
    """One step of :class:`LSTM`.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether there are biases.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> h, c = LSTMCell(3, 5)(torch.zeros(2, 3))
        >>> h.shape, c.shape
        (torch.Size([2, 5]), torch.Size([2, 5]))
    """

    mode = "LSTM"

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, num_chunks=4, device=device, dtype=dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The next states ``(h, c)``; ``hx`` is such a pair. Errors as :meth:`RNNCell.forward`."""
        if isinstance(hx, Tensor):
            raise TypeError(f"LSTMCell: hx is a tensor of shape {tuple(hx.shape)}, expected the pair (h, c)")
        if hx is not None and len(hx) != 2:
            raise RuntimeError(f"LSTMCell: hx is {len(hx)} things, expected the pair (h, c)")
        h, c = self._step(input, () if hx is None else tuple(hx))
        return h, c
