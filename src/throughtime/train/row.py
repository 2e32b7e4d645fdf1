"""One row of data through a fitted model: the output and the gradient at every step, and which steps moved the answer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from throughtime import flow
from throughtime.data.records import Panel, Sequences
from throughtime.errors import SettingsError
from throughtime.train.fitted import Fitted
from throughtime.train.questions import Question, question_about

_BLOCKS = 200
"""The most parts that a row is left out by: of a longer one, a part is more than one step."""
_WORK = 1 << 16
"""Steps of copies of the row that are run at once."""


@dataclass(frozen=True)
class RowStep:
    """One step of a row, or some of a very long one.

    Attributes:
        name: the word, the token, or the number or time of the step.
        output: ``|O_t|``, the size of what the last recurrent layer gives.
        gradient: ``|dL/dO_t|``: how much the loss depends on it, through all later steps (and earlier ones, if bidirectional).
        moved: by how much the answer is larger with this step than without it; ``None`` for the step whose answer it is.
    """

    name: str
    output: float
    gradient: float
    moved: float | None


@dataclass(frozen=True)
class RowExplanation:
    """A look at one row.

    Attributes:
        origin: where the row comes from.
        truth: what is right; empty if it is not known.
        prediction: what the model says.
        answer: what was watched while steps were left out.
        value: the answer with all steps.
        loss: ``L``, of the truth, or where that is not known of what the model says.
        without: how a step is taken away.
        steps: in order.
        block: how many steps of the row each of these is, the last perhaps fewer.
    """

    origin: str
    truth: str
    prediction: str
    answer: str
    value: float
    loss: float
    without: str
    steps: tuple[RowStep, ...]
    block: int

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return dataclasses.asdict(self)


def explain_row(fitted: Fitted, content: Sequences | Panel, row: int, step: int | None = None) -> RowExplanation:
    """Look at what a fitted model makes of one row.

    Every step (of a row of more than 200, every part of some steps) is taken away once; the change of the answer is what the
    step moved it by. Taking away two words at once may move it by more, or less, than the two together.

    Args:
        fitted: the model.
        content: what the row stands in, read with its targets where there are any.
        row: its number, from 1.
        step: whose answer is looked at, from 1: for a tag by default the least certain one, for a text the last that is looked
            at; for one answer a sequence there is none.

    Raises:
        SettingsError: there is no such row or step.
        DataError: the row has no steps.

    Source: Li, Monroe and Jurafsky 2016, arXiv:1612.08220 (leaving out a word to see what it does).
    """
    count = len(content)
    if not 1 <= row <= count:
        raise SettingsError(f"row is {row}, expected 1 to {count:,}")
    question = question_about(fitted, content, row - 1, step)
    network, length = fitted.network, len(question.names)
    network.eval()
    outputs, gradients, loss = _recurrent(network, question)
    size = -(-length // _BLOCKS)
    starts = range(0, length, size)
    keep = np.ones((len(starts), len(question.kept)), dtype=bool)
    for block, start in enumerate(starts):
        keep[block, start : start + size] = False
    keep |= question.kept
    with torch.inference_mode():
        value = question.answers(np.ones((1, keep.shape[1]), dtype=bool))[0]
        chunk = max(1, _WORK // keep.shape[1])
        without = np.concatenate([question.answers(keep[i : i + chunk]) for i in range(0, len(keep), chunk)])
    steps = []
    for block, start in enumerate(starts):
        stop = min(start + size, length)
        some = slice(start, stop)
        name = question.names[start] if stop - start == 1 else f"{question.names[start]} to {question.names[stop - 1]}"
        moved = None if question.kept[start:stop].all() else float(value - without[block])
        steps.append(RowStep(name, float(outputs[some].mean()), float(gradients[some].mean()), moved))
    return RowExplanation(
        origin=question.origin,
        truth=question.truth,
        prediction=question.prediction,
        answer=question.answer,
        value=float(value),
        loss=loss,
        without=question.without,
        steps=tuple(steps),
        block=size,
    )


def _recurrent(network: torch.nn.Module, question: Question) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """``|O_t|`` and ``|dL/dO_t|`` of the last recurrent layer, ``[T]`` each, and ``L``."""
    rnn: Any = network.rnn
    seen: list[Tensor] = []
    handle = rnn.register_forward_hook(lambda module, inputs, result: seen.append(result[0].detach()))
    try:
        with torch.enable_grad(), flow.record(network, probe=False) as recorded:
            loss = question.loss()
            loss.backward()
    finally:
        handle.remove()
        network.zero_grad(set_to_none=True)
    last = [layer for layer in recorded.layers if layer.name.split(".")[-1].startswith(f"l{rnn.num_layers - 1}")]
    gradient = np.sqrt(sum(np.nan_to_num(layer.norm) ** 2 for layer in last))
    return seen[0][:, 0].double().norm(dim=1).numpy(), np.asarray(gradient), loss.item()
