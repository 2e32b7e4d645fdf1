"""What the tests of modules share: a module beside torch.nn's, everything it returns in a row, and comparisons."""

from __future__ import annotations

import os
import pickle
import selectors
import signal
from collections.abc import Callable, Iterable

import torch
from torch.nn import RNNBase
from torch.nn.utils.rnn import PackedSequence

import throughtime as tt

TORCH_ROUNDING = {torch.float64: {"rtol": 1e-11, "atol": 1e-12}, torch.float32: {"rtol": 1e-4, "atol": 2e-5}}
"""For two evaluations, in different orders, of a layer of some ten units over some ten steps: the rounding of one step (sums of
ten products of order one, 2e-16 and 1e-7 relative) is carried on by the next ones and summed in gradients of order ten."""


def twins(kind: str, *sizes: int, seed: int = 0, **options: object) -> tuple[RNNBase, RNNBase]:
    """A module of tt.nn and the one of torch.nn it stands for, with the same weights."""
    torch.manual_seed(seed)
    theirs = getattr(torch.nn, kind)(*sizes, **options)
    ours = getattr(tt.nn, kind)(*sizes, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def tensors_of(result: object) -> list[torch.Tensor]:
    """What a module or cell returned, in a row: output, h_n, c_n."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, PackedSequence):
        return [result.data]
    return [tensor for part in result for tensor in tensors_of(part)]


def scalar_of(tensors: Iterable[torch.Tensor], seed: int = 1) -> torch.Tensor:
    """A loss in which every element of every tensor has a weight of its own, and enters squared."""
    generator = torch.Generator().manual_seed(seed)
    return sum((t * t * torch.rand(t.shape, generator=generator, dtype=t.dtype)).sum() for t in tensors if t.numel())


def assert_same_bits(actual: Iterable[torch.Tensor], expected: Iterable[torch.Tensor]) -> None:
    """Not close: the same."""
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def assert_rounds_to(actual: Iterable[torch.Tensor], expected: Iterable[torch.Tensor]) -> None:
    """Equal to rounding, with NaN and infinity in the same places."""
    for index, (one, other) in enumerate(zip(actual, expected, strict=True)):
        torch.testing.assert_close(
            one, other, **TORCH_ROUNDING[other.dtype], equal_nan=True, msg=lambda text, n=index: f"tensor {n}: {text}"
        )


def in_child(task: Callable[[], object], seconds: float = 30.0) -> object:
    """What ``task`` returns, run in a forked process: what might end the process must not end the tests.

    Raises:
        AssertionError: the process was killed by a signal (a segmentation fault), or hung.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            try:
                answer = pickle.dumps((True, task()))
            except BaseException as error:
                answer = pickle.dumps((False, f"{type(error).__name__}: {error}"))
            os.write(writing, answer)  # less than what a pipe holds
        finally:
            os._exit(0)
    os.close(writing)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(reading, selectors.EVENT_READ)
            if not selector.select(seconds):
                os.kill(child, signal.SIGKILL)
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
    finally:
        _, status = os.waitpid(child, 0)
    assert not os.WIFSIGNALED(status), f"the process was ended by {signal.Signals(os.WTERMSIG(status)).name}"
    assert answer, f"the process ended with status {status} and no answer"
    fine, value = pickle.loads(answer)
    assert fine, value
    return value
