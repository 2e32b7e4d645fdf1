"""Initialisations by name. Modules start as torch.nn's do; these change them in place.

All work on ``RNN``, ``GRU`` and ``LSTM`` of ``tt.nn`` and of ``torch.nn`` alike, on all layers and directions, and return the
module. torch's random generator is used, so ``torch.manual_seed`` makes them repeatable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, TypeVar

import torch
from torch import Tensor

_Module = TypeVar("_Module", bound=torch.nn.RNNBase)


def torch_(module: _Module) -> _Module:
    """All parameters uniform in ±1/sqrt(H): what torch.nn does, and what modules start with.

    Example:
        >>> bool(torch_(torch.nn.LSTM(3, 4)).weight_hh_l0.abs().max() <= 0.5)
        True
    """
    module.reset_parameters()
    return module


def orthogonal_(module: _Module, gain: float = 1.0) -> _Module:
    """Recurrent weights of every gate orthogonal, times ``gain``: gradients keep their norm through them.

    Args:
        module: the module.
        gain: the common singular value.

    Example:
        >>> w = orthogonal_(torch.nn.RNN(3, 4)).weight_hh_l0
        >>> torch.allclose(w @ w.T, torch.eye(4), atol=1e-6)
        True

    Source: Saxe, McClelland and Ganguli 2014, arXiv:1312.6120.
    """
    for block in _recurrent_blocks(module):
        torch.nn.init.orthogonal_(block, gain)
    return module


def identity_(module: _Module, scale: float = 1.0) -> _Module:
    """Recurrent weights the identity times ``scale``, biases zero, input weights normal with deviation .001; meant for relu.

    Args:
        module: a simple RNN.
        scale: the factor; below 1 it forgets.

    Raises:
        ValueError: a gated cell, for which the identity is no such start.

    Example:
        >>> identity_(torch.nn.RNN(3, 2, nonlinearity="relu")).weight_hh_l0.tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    Source: Le, Jaitly and Hinton 2015, arXiv:1504.00941.
    """
    if _gates(module) != 1:
        raise ValueError(f"the identity initialisation is for simple RNNs, not for {type(module).__name__}")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "weight_hh" in name:
                torch.nn.init.eye_(parameter).mul_(scale)
            elif "weight_ih" in name:
                parameter.normal_(0.0, 0.001)
            else:
                parameter.zero_()
    return module


def forget_bias_(module: _Module, value: float = 1.0) -> _Module:
    """The forget gate of an LSTM starts open: its bias, the sum of both halves, is ``value``; the rest stays.

    Args:
        module: an LSTM with biases.
        value: the bias; 1 is usual.

    Raises:
        ValueError: not an LSTM, or one without biases.

    Example:
        >>> lstm = forget_bias_(torch.nn.LSTM(3, 2))
        >>> (lstm.bias_ih_l0 + lstm.bias_hh_l0)[2:4].tolist()
        [1.0, 1.0]

    Source: Jozefowicz, Zaremba and Sutskever 2015; Gers, Schmidhuber and Cummins 2000.
    """
    with torch.no_grad():
        for b_ih, b_hh in _lstm_biases(module, "the forget bias"):
            _gate(b_ih, 1).fill_(value)
            _gate(b_hh, 1).zero_()
    return module


def chrono_(module: _Module, longest: int) -> _Module:
    """Time scales spread over 1..longest - 1 steps: the bias of f is ln u, u uniform there, that of i its negative.

    Args:
        module: an LSTM with biases.
        longest: the longest lag, in steps, that matters; at least 3.

    Raises:
        ValueError: not an LSTM, or one without biases; ``longest`` too small.

    Example:
        >>> lstm = chrono_(torch.nn.LSTM(3, 4), 100)
        >>> forget = (lstm.bias_ih_l0 + lstm.bias_hh_l0)[4:8]
        >>> bool((forget >= 0).all() and (forget <= 4.6).all())
        True

    Source: Tallec and Ollivier 2018, arXiv:1804.11188.
    """
    if longest < 3:
        raise ValueError(f"longest is {longest}, expected at least 3 steps")
    with torch.no_grad():
        for b_ih, b_hh in _lstm_biases(module, "the chrono initialisation"):
            scales = torch.empty_like(_gate(b_ih, 1)).uniform_(1.0, longest - 1.0).log_()
            _gate(b_ih, 1).copy_(scales)
            _gate(b_ih, 0).copy_(-scales)
            _gate(b_hh, 0).zero_()
            _gate(b_hh, 1).zero_()
    return module


_NAMED: dict[str, Callable[..., Any]] = {
    "torch": torch_,
    "orthogonal": orthogonal_,
    "identity": identity_,
    "forget_bias": forget_bias_,
    "chrono": chrono_,
}
NAMES = tuple(_NAMED)
"""What :func:`by_name` knows."""


def by_name(module: _Module, name: str, **options: float) -> _Module:
    """Apply the initialisation called ``name``: ``torch``, ``orthogonal``, ``identity``, ``forget_bias`` or ``chrono``.

    Args:
        module: the module.
        name: the name.
        **options: what that initialisation takes.

    Raises:
        ValueError: no such name; the nearest one is named.

    Example:
        >>> _ = by_name(torch.nn.LSTM(3, 4), "forget_bias", value=2.0)
    """
    if name not in _NAMED:
        nearest = get_close_matches(name, NAMES, n=1, cutoff=0.0)[0]
        raise ValueError(f"no initialisation is called {name!r}; did you mean {nearest!r}? There are {', '.join(NAMES)}")
    _NAMED[name](module, **options)
    return module


def _gates(module: torch.nn.RNNBase) -> int:
    return {"LSTM": 4, "GRU": 3}.get(module.mode, 1)


def _recurrent_blocks(module: torch.nn.RNNBase) -> Iterator[Tensor]:
    """The recurrent weights of every gate, [H, P] each."""
    for name, parameter in module.named_parameters():
        if "weight_hh" in name:
            yield from parameter.detach().chunk(_gates(module))


def _lstm_biases(module: torch.nn.RNNBase, what: str) -> Iterator[tuple[Tensor, Tensor]]:
    if module.mode != "LSTM" or not module.bias:
        raise ValueError(f"{what} is for an LSTM with biases, not for {module}")
    parameters = dict(module.named_parameters())
    for name, parameter in parameters.items():
        if name.startswith("bias_ih"):
            yield parameter, parameters[name.replace("_ih", "_hh")]


def _gate(bias: Tensor, index: int) -> Tensor:
    """The part of a bias [4*H] that belongs to gate ``index`` of i, f, g, o."""
    return bias.chunk(4)[index]
