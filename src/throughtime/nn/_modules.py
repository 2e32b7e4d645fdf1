"""RNN, GRU and LSTM: how each is made, and what its parameters are.

Legend: T steps, B batch, I inputs, H hidden, P projected (= H without a projection), L layers, D directions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from throughtime.errors import NotServedError
from throughtime.nn._recurrent import Recurrent, States
from throughtime.ops.native import LayerWeights


class RNN(Recurrent):
    r"""The simple recurrent network, ``h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)``: torch.nn.RNN, faster on CPU.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L; every further layer reads the outputs of the one below.
        nonlinearity: f: ``"tanh"``, ``"relu"``, ``"sigmoid"`` or ``"identity"``.
        bias: whether there are biases.
        batch_first: whether input and output are [B, T, ...] rather than [T, B, ...].
        dropout: probability of dropping an output of any layer but the last, in training.
        bidirectional: a second direction, from each true end to the start; its outputs follow those of the first.
        device: of the parameters.
        dtype: of the parameters.
        tied: whether all steps share their weights, as everybody trains them. ``False`` gives every step its own: T input
            weights, T-1 recurrent ones (the first step has none, so ``hx`` is refused) and T biases.
        steps: T, with ``tied=False`` only.
        proj_size: refused, as in torch.nn: only an LSTM has a projection.

    Parameters are torch's: ``weight_ih_l{k}`` [H, I], ``weight_hh_l{k}`` [H, H], ``bias_ih_l{k}``, ``bias_hh_l{k}`` [H], with
    ``_reverse`` appended for the second direction. Untied: ``weight_ih_l{k}_t{t}`` is the textbook's ``w_t`` (t = 1..T),
    ``weight_hh_l{k}_t{t}`` its ``w^t``, which takes ``O_t`` to step t+1 (t = 1..T-1), ``bias_l{k}_t{t}`` the bias of step t.

    Raises:
        ValueError, TypeError: as torch.nn.RNN; and ``steps`` without ``tied=False`` or the other way round.

    Example:
        >>> rnn = RNN(3, 5, nonlinearity="sigmoid")
        >>> output, h_n = rnn(torch.zeros(7, 2, 3))
        >>> output.shape, h_n.shape
        (torch.Size([7, 2, 5]), torch.Size([1, 2, 5]))
        >>> page = RNN(3, 1, tied=False, steps=4)
        >>> [name for name, _ in page.named_parameters() if "hh" in name]
        ['weight_hh_l0_t1', 'weight_hh_l0_t2', 'weight_hh_l0_t3']

    Source: Elman 1990, Finding Structure in Time, Cognitive Science 14(2).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        tied: bool = True,
        steps: int | None = None,
        proj_size: None = None,
    ) -> None:
        _refuse_projection(proj_size)
        if f"rnn_{nonlinearity}" not in ("rnn_tanh", "rnn_relu", "rnn_sigmoid", "rnn_identity"):
            raise ValueError(f"unknown nonlinearity {nonlinearity!r}, expected 'tanh', 'relu', 'sigmoid' or 'identity'")
        if tied and steps is not None:
            raise ValueError(f"steps={steps} was given, but tied weights serve any number of steps; add tied=False")
        if not tied and (not isinstance(steps, int) or steps < 1):
            raise ValueError(f"tied=False needs steps, the number of steps T >= 1 to make weights for; got {steps!r}")
        self.nonlinearity = nonlinearity
        super().__init__(
            "RNN_RELU" if nonlinearity == "relu" else "RNN_TANH",  # the two that torch knows
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )
        self.mode = f"RNN_{nonlinearity.upper()}"
        self._reserve_taps()
        if not tied:
            self.tied, self.steps = False, steps
            self._untie()

    def _untie(self) -> None:
        """Replace the weights that all steps share by a set for each."""
        assert self.steps is not None
        names: list[list[str]] = []
        for shared in self._all_weights:
            suffix = shared[0].removeprefix("weight_ih_")
            w_ih, w_hh = getattr(self, shared[0]), getattr(self, shared[1])
            fresh = {f"weight_ih_{suffix}_t{t}": torch.empty_like(w_ih) for t in range(1, self.steps + 1)}
            fresh |= {f"weight_hh_{suffix}_t{t}": torch.empty_like(w_hh) for t in range(1, self.steps)}
            if self.bias:
                fresh |= {f"bias_{suffix}_t{t}": w_ih.new_empty(self.hidden_size) for t in range(1, self.steps + 1)}
            for name in shared:
                delattr(self, name)
            for name, value in fresh.items():
                self.register_parameter(name, torch.nn.Parameter(value))
            names.append(list(fresh))
        self._all_weights = names
        self._flat_weights_names = [name for group in names for name in group]
        self._init_flat_weights()
        self.reset_parameters()

    def _layer_weights(self, weights: list[Tensor]) -> LayerWeights:
        if self.tied:
            return super()._layer_weights(weights)
        assert self.steps is not None
        inputs, recurrent, biases = (
            weights[: self.steps],
            weights[self.steps : 2 * self.steps - 1],
            weights[2 * self.steps - 1 :],
        )
        w_ih = torch.stack(inputs)
        w_hh = torch.stack(recurrent) if recurrent else w_ih.new_empty(0, self.hidden_size, self.hidden_size)
        return LayerWeights(w_ih, w_hh, torch.stack(biases) if biases else None, None, None)

    def _heeded(self, x: Tensor, states: States, lengths: Tensor | None, batch_sizes: Tensor | None) -> Tensor | None:
        if self.tied:
            return lengths
        made = f"this RNN is untied, made for sequences of exactly {self.steps} steps"
        if batch_sizes is not None:
            raise NotServedError(f"{made}; a PackedSequence is refused, pass a padded batch [T, B, I]")
        if states:
            raise NotServedError(f"{made}, whose first step has no recurrent weight; hx is refused")
        if x.shape[0] != self.steps:
            raise NotServedError(f"{made}; got {x.shape[0]} steps")
        if lengths is not None and bool((lengths != self.steps).any()):
            raise NotServedError(f"{made}; got lengths {lengths.tolist()}")
        return None


class GRU(Recurrent):
    """The gated recurrent unit, reset after the product: torch.nn.GRU, several times faster on CPU.

    ``r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)``, ``z`` likewise, ``n = tanh(W_in x + b_in + r * (W_hn h + b_hn))``,
    ``h_t = (1 - z) * n + z * h_{t-1}``.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L; every further layer reads the outputs of the one below.
        bias: whether there are biases.
        batch_first: whether input and output are [B, T, ...] rather than [T, B, ...].
        dropout: probability of dropping an output of any layer but the last, in training.
        bidirectional: a second direction, from each true end to the start; its outputs follow those of the first.
        device: of the parameters.
        dtype: of the parameters.
        proj_size: refused, as in torch.nn: only an LSTM has a projection.

    Parameters are torch's: ``weight_ih_l{k}`` [3*H, I], ``weight_hh_l{k}`` [3*H, H], ``bias_ih_l{k}``, ``bias_hh_l{k}``
    [3*H], gates in the order r, z, n.

    Raises:
        ValueError, TypeError: as torch.nn.GRU.

    Example:
        >>> output, h_n = GRU(3, 5, num_layers=2, bidirectional=True)(torch.zeros(7, 2, 3))
        >>> output.shape, h_n.shape
        (torch.Size([7, 2, 10]), torch.Size([4, 2, 5]))

    Source: Cho et al. 2014, arXiv:1406.1078v1.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        proj_size: None = None,
    ) -> None:
        _refuse_projection(proj_size)
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype
        )  # fmt: skip
        self._reserve_taps()


class LSTM(Recurrent):
    """Long short-term memory, with an optional projection: torch.nn.LSTM, faster on CPU.

    ``i, f, o = sigmoid(W x + b + U h + b')``, ``g = tanh(...)``, ``c_t = f * c_{t-1} + i * g``, ``h_t = o * tanh(c_t)``; with
    ``proj_size`` P, ``h_t = W_hr (o * tanh(c_t))``.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L; every further layer reads the outputs of the one below.
        bias: whether there are biases.
        batch_first: whether input and output are [B, T, ...] rather than [T, B, ...].
        dropout: probability of dropping an output of any layer but the last, in training.
        bidirectional: a second direction, from each true end to the start; its outputs follow those of the first.
        proj_size: P, smaller than H; 0 for no projection.
        device: of the parameters.
        dtype: of the parameters.

    Parameters are torch's: ``weight_ih_l{k}`` [4*H, I], ``weight_hh_l{k}`` [4*H, P], ``bias_ih_l{k}``, ``bias_hh_l{k}``
    [4*H], ``weight_hr_l{k}`` [P, H] with a projection; gates in the order i, f, g, o.

    Raises:
        ValueError, TypeError: as torch.nn.LSTM.

    Example:
        >>> output, (h_n, c_n) = LSTM(3, 5, proj_size=2)(torch.zeros(7, 2, 3))
        >>> output.shape, h_n.shape, c_n.shape
        (torch.Size([7, 2, 2]), torch.Size([1, 2, 2]), torch.Size([1, 2, 5]))

    Source: Hochreiter and Schmidhuber 1997, Neural Computation 9(8); Gers, Schmidhuber and Cummins 2000; Sak, Senior and
    Beaufays 2014, arXiv:1402.1128.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            device=device, dtype=dtype,
        )  # fmt: skip
        self._reserve_taps()


def _refuse_projection(proj_size: int | None) -> None:
    if proj_size is not None:
        raise ValueError(f"proj_size={proj_size} was given, but only an LSTM has a projection")
