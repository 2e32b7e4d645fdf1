"""torch.nn's recurrent modules into ThroughTime's, inside any model, and back."""

from __future__ import annotations

from typing import TypeVar

import torch

from throughtime.errors import NotServedError
from throughtime.nn._modules import GRU, LSTM, RNN
from throughtime.nn._recurrent import Recurrent

_Model = TypeVar("_Model", bound=torch.nn.Module)

_PAIRS: dict[type[torch.nn.Module], type[Recurrent]] = {
    torch.nn.RNN: RNN,
    torch.nn.GRU: GRU,
    torch.nn.LSTM: LSTM,
}
_BACK = {ours: theirs for theirs, ours in _PAIRS.items()}


def convert(model: _Model) -> _Model:
    """Make every module whose type is exactly ``torch.nn.RNN``, ``GRU`` or ``LSTM`` one of ThroughTime, in place.

    The module stays the same object with the same parameters, hooks, buffers and training mode: only its class changes.
    So optimizers, shared instances and references held elsewhere stay right, and the root itself can be converted.
    Subclasses and parametrized modules are left alone, as their own code may rely on torch's.

    Args:
        model: any module.

    Returns:
        The same ``model``.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.GRU(3, 4))
        >>> convert(model)
        Sequential(
          (0): GRU(3, 4)
        )
        >>> type(model[0]).__module__.startswith("throughtime")
        True
    """
    for module in model.modules():
        ours = _PAIRS.get(type(module))
        if ours is not None:
            module.__class__ = ours
            module._reserve_taps()  # type: ignore[operator]
    return model


def revert(model: _Model) -> _Model:
    """Undo :func:`convert`: every ``tt.nn.RNN``, ``GRU`` and ``LSTM`` becomes the module of torch.nn, in place.

    Args:
        model: any module.

    Returns:
        The same ``model``.

    Raises:
        NotServedError: a module that torch.nn has no counterpart of (sigmoid, identity, untied); nothing is changed then.

    Example:
        >>> type(revert(convert(torch.nn.LSTM(3, 4)))) is torch.nn.LSTM
        True
    """
    found = [(name, module) for name, module in model.named_modules() if type(module) in _BACK]
    for name, module in found:
        assert isinstance(module, Recurrent)
        if not module.tied or module.cell.nonlinearity not in (None, "tanh", "relu"):
            raise NotServedError(
                f"{name or 'the model'} is {module}, which torch.nn has no counterpart of; nothing was reverted"
            )
    for _, module in found:
        module.__class__ = _BACK[type(module)]
        for ours in ("_tap", "_keep"):
            module.__dict__.pop(ours, None)
    return model
