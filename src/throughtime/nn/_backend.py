"""Which kernel runs a module on an input, and why."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

from throughtime.cells import Cell
from throughtime.ops import native

_TORCH_MODES = ("RNN_TANH", "RNN_RELU", "GRU", "LSTM")


class Route(Enum):
    """The three ways a layer can run."""

    NATIVE = "native"
    TORCH = "torch"  # torch's own fused operators, torch._VF
    PLAIN = "plain"  # a loop of plain torch operators, for what torch has no operator for


class Choice(NamedTuple):
    """A route, and what stands in the way of the native kernels (empty if nothing does)."""

    route: Route
    obstacle: str


_SERVED = Choice(Route.NATIVE, "")


def choose(cell: Cell, tied: bool, x: Tensor, others: Iterable[Tensor]) -> Choice:
    """The route for this cell, with ``x`` and ``others`` (weights, states) as they are.

    What the native kernels do not serve goes to torch's own operators, so that nobody is slowed down; only what torch
    itself lacks runs step by step.
    """
    obstacle = _obstacle(x, others)
    if not obstacle:
        return _SERVED
    return Choice(Route.TORCH if tied and cell.mode in _TORCH_MODES else Route.PLAIN, obstacle)


def describe(cell: Cell, tied: bool, x: Tensor, choice: Choice) -> str:
    """A choice in words: which kernel, and why."""
    route, obstacle = choice
    if route is Route.NATIVE:
        return f"native/{native.instruction_set()}"
    if route is Route.TORCH:
        return f"torch{_family(x)}: {obstacle}"
    what = f"{cell.nonlinearity} has" if tied else "untied weights have"
    return f"plain torch operators, step by step: {obstacle}, and {what} no operator in torch"


def _obstacle(x: Tensor, others: Iterable[Tensor]) -> str:
    """What keeps the native kernels from serving; empty if nothing does."""
    if native.missing():
        return native.missing()
    if not x.is_cpu:
        return f"{x.device.type} tensors"
    if x.dtype not in (torch.float32, torch.float64):
        return str(x.dtype).removeprefix("torch.")
    if torch._C._is_any_autocast_enabled() and torch.is_autocast_enabled("cpu"):
        return f"autocast to {str(torch.get_autocast_dtype('cpu')).removeprefix('torch.')}"
    dtype = x.dtype
    for other in others:
        if other.dtype != dtype or not other.is_cpu:
            return f"a weight or state of {other.dtype} on {other.device} beside input of {dtype} on cpu"
    if x.layout != torch.strided or x.is_mkldnn:
        return f"layout {x.layout}"
    if torch.jit.is_tracing():  # type: ignore[attr-defined]
        return "torch.jit.trace, which cannot see the native operator"
    if torch.compiler.is_compiling() and torch.onnx.is_in_onnx_export():  # the second takes longer to ask
        return "ONNX export, which has no name for the native operator"
    return ""


def _family(x: Tensor) -> str:
    return "/cudnn" if x.is_cuda and torch.backends.cudnn.is_acceptable(x) else ""
