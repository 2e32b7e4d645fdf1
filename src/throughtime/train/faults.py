"""Where a loss that is no number arose: which part of the network, which sequence, and in a recurrent layer which step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from throughtime.errors import TrainingError
from throughtime.nn import GRU, LSTM, RNN
from throughtime.tasks.base import State, Task


def where_it_broke(task: Task, network: torch.nn.Module, batch: Any, state: State) -> str:
    """Run a batch again and look for the first value that is no number.

    Args:
        task: gives the loss.
        network: as it was when the loss was no number; its gradients are not touched.
        batch: the batch.
        state: what was carried into it.

    Returns:
        A phrase: ``"first in the output of rnn at step 57 of sequence 3 in the batch"``.
    """
    for name, parameter in network.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"first in the weights {name}"
    found: list[str] = []

    def look(name: str, module: torch.nn.Module) -> Any:
        def hook(_module: torch.nn.Module, inputs: Any, output: Any) -> None:
            for side, given in (("input", inputs), ("output", output)):
                value = given[0] if isinstance(given, tuple) and given else given
                if not found and isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
                    found.append(f"first in the {side} of {name}{_step(module, value)}")

        return module.register_forward_hook(hook)

    handles = [look(name, module) for name, module in network.named_modules() if name]
    try:
        with torch.no_grad():
            loss, _ = task.loss(network, batch, state)
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return found[0]
    if not torch.isfinite(loss):
        return "first in the loss, all outputs of the network being finite"
    for name, parameter in reversed(list(network.named_parameters())):
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"first in the gradient of {name}, the loss being finite"
    return "in the norm of the gradient, each part of it being finite"


class NotFiniteError(TrainingError):
    """A network gave numbers that are none."""


@contextmanager
def outputs_checked(network: torch.nn.Module) -> Iterator[None]:
    """While it is open, the network gives finite numbers or raises: no score says anything of others.

    Raises:
        NotFiniteError: it gave others.
    """

    def look(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        answers = output[0] if isinstance(output, tuple) else output
        if not torch.isfinite(answers).all():
            raise NotFiniteError("the outputs of the network are not all finite; look at the data for extreme values")

    handle = network.register_forward_hook(look)
    try:
        yield
    finally:
        handle.remove()


def _step(module: torch.nn.Module, value: Tensor) -> str:
    """For the input or output of a recurrent layer, ``[T, B, ...]``: the first step and the sequence."""
    if not isinstance(module, RNN | GRU | LSTM) or value.ndim != 3:
        return ""
    bad = (~torch.isfinite(value)).any(dim=2)
    step = int(bad.any(dim=1).nonzero()[0])
    return f" at step {step + 1} of sequence {int(bad[step].nonzero()[0]) + 1} in the batch"
