"""ThroughTime's and torch's own modules, the latter also compiled."""

from __future__ import annotations

import math
import timeit
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import throughtime as tt
from throughtime.bench.cases import (
    BOTH,
    FORWARD,
    FULL,
    FULL_INFERENCE,
    INFERENCE,
    KERNEL_BOTH,
    KERNEL_FORWARD,
    PROBED,
    TAPPED,
    Arrays,
    Case,
)
from throughtime.bench.peers import COMPILED, OURS, Loaded, is_ours
from throughtime.cells import CELLS, Cell
from throughtime.ops import native

_NAMES = {"w_ih": "weight_ih_l0", "w_hh": "weight_hh_l0", "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}

_PROFILED = 5
"""Calls of which the fastest is told by stage."""

_KEEP = {f"{OURS}-{keep}": keep for keep in ("states", "checkpoints")}


def load(name: str, case: Case, arrays: Arrays) -> Loaded:
    """A module with these weights, and what it does."""
    ours = is_ours(name)
    cell, dtype = CELLS[case.cell], getattr(torch, case.dtype)
    tensors = {key: torch.tensor(array, dtype=dtype) for key, array in arrays.items()}
    module: Any = getattr(tt.nn if ours else torch.nn, cell.kind.upper())(case.I, case.H, dtype=dtype)
    module.load_state_dict({_NAMES[key]: tensors[key] for key in _NAMES})
    if name in _KEEP:
        module.keep = _KEEP[name]
    x = tensors["x"].requires_grad_()
    gradient = tensors["gradient"]
    wanted = [x, *(getattr(module, _NAMES[key]) for key in _NAMES)]

    lengths = None if case.lengths is None else torch.tensor(case.lengths)

    if lengths is None:
        called = _compiled(module) if name == COMPILED else module

        def run() -> Any:
            return called(x)[0]

    elif ours:

        def run() -> Any:
            return module(x, lengths=lengths)[0]

    else:  # packed beforehand: torch is not charged for it
        packed, gradient, wanted[0] = _packed(x.detach(), gradient, lengths)

        def run() -> Any:
            return module(packed)[0].data

    works = _works(run, wanted, gradient)

    def answer() -> Arrays:
        output, x_gradient, *grads = works[BOTH]()
        rows = {"inference": works[INFERENCE](), "output": output, "x": x_gradient}
        if lengths is not None and not ours:
            rows = {key: _padded(rows[key], packed, case.T) for key in rows}
        found = rows | dict(zip(_NAMES, grads, strict=True))
        return {key: tensor.detach().numpy() for key, tensor in found.items()}

    if ours:
        works |= {TAPPED: _recorded(module, works[BOTH], probe=False), PROBED: _recorded(module, works[BOTH], probe=True)}
        if lengths is not None:
            full = _works(lambda: module(x)[0], wanted, gradient)
            works |= {FULL: full[BOTH], FULL_INFERENCE: full[INFERENCE]}
        works |= _kernels(cell, module, x.detach(), tensors["gradient"], native.Layout(lengths))
        return Loaded(works, answer, partial(_stages, works[KERNEL_BOTH]))
    return Loaded(works, answer)


def _works(run: Callable[[], Any], wanted: list[torch.Tensor], gradient: torch.Tensor) -> dict[str, Callable[[], Any]]:
    def both() -> tuple[torch.Tensor, ...]:
        output = run()
        return output, *torch.autograd.grad(output, wanted, gradient)

    def inference() -> Any:
        with torch.no_grad():
            return run()

    return {FORWARD: run, BOTH: both, INFERENCE: inference}


def _compiled(module: torch.nn.Module) -> Any:
    import torch._dynamo.config as settings

    settings.allow_rnn = True  # else torch.compile leaves torch.nn's modules to its eager operators
    torch.compiler.reset()  # else it gives up compiling after some sizes
    return torch.compile(module, dynamic=False, fullgraph=True)


def _recorded(module: torch.nn.Module, both: Callable[[], object], *, probe: bool) -> Callable[[], object]:
    def recorded() -> None:
        with tt.flow.record(module, probe=probe):
            both()

    return recorded


def _kernels(
    cell: Cell, module: Any, x: torch.Tensor, gradient: torch.Tensor, layout: native.Layout
) -> dict[str, Callable[[], object]]:
    """The kernels alone, without the module and autograd around them."""
    weights = native.LayerWeights(**{key: getattr(module, name).detach() for key, name in _NAMES.items()}, w_hr=None)

    def forward() -> tuple[Any, ...]:
        return native.forward(cell, x, None, None, weights, layout, keep="gates")

    def both() -> object:
        output, _, _, saved = forward()
        wanted = (True, False, False, True, True, True, True, False)
        return native.backward(cell, x, None, None, weights, layout, output, saved, gradient, None, None, wanted=wanted)

    return {KERNEL_FORWARD: forward, KERNEL_BOTH: both}


def _stages(both: Callable[[], object]) -> dict[str, float]:
    """Where the calling thread spends the fastest of some calls."""
    fastest, ticks = math.inf, torch.ones(1)
    for _ in range(_PROFILED):
        with native.profiled() as taken:
            seconds = timeit.timeit(both, number=1)
        if seconds < fastest:
            fastest, ticks = seconds, taken
    return dict(zip(native.STAGES, (ticks * fastest / ticks.sum()).tolist(), strict=True))


def _packed(
    x: torch.Tensor, gradient: torch.Tensor, lengths: torch.Tensor
) -> tuple[PackedSequence, torch.Tensor, torch.Tensor]:
    """The batch packed, the gradient in the order of its rows, and the rows, whose gradient is wanted."""
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    data = packed.data.requires_grad_()
    of_output = pack_padded_sequence(gradient, lengths, enforce_sorted=False).data
    return packed._replace(data=data), of_output, data


def _padded(rows: torch.Tensor, packed: PackedSequence, steps: int) -> torch.Tensor:
    return pad_packed_sequence(packed._replace(data=rows), total_length=steps)[0]
