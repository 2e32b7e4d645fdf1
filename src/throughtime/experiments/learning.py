"""Networks that learn a task with a known lag, watched: accuracy, loss, size of the gradient, and how far back it reaches.

The tasks are those of :mod:`throughtime.experiments.lags`, the networks those of :mod:`throughtime.experiments.reach`.

Legend: T steps, B samples, H hidden.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from throughtime.errors import SettingsError
from throughtime.experiments.lags import ORDER, WITHIN, Task
from throughtime.experiments.reach import BATCH, HIDDEN, STARTS, Network, Start, drawn, horizon
from throughtime.flow import record

TRAINED = ("sigmoid", "tanh", "ReLU, large", "ReLU, identity", "GRU", "LSTM", "LSTM, forget bias 1")
"""Those that :func:`while_training` trains."""

RATES = (0.001, 0.003, 0.01)
"""The learning rates that every network tries."""

EVALUATE_EVERY = 50
"""Updates between two looks at a network that learns."""

CHOOSING, SCORING = 500, 1000
"""Sequences that the best weights and the best rate are chosen on, and those that these are scored on."""

_TRAIN, _CHOOSE, _SCORE = range(3)  # what sequences are drawn for: their seeds differ

Progress = Callable[[str, float], None]
"""Called with a short sentence and the fraction done."""


@dataclass(frozen=True)
class Learning:
    """One network that learns a task; the lists have an entry for every so many updates.

    Attributes:
        task: its name.
        guessing: the share of sequences that are right by guessing.
        name: of the start.
        weights: how they were drawn.
        optimizer: its name in torch.optim, with its momentum if it has one.
        rate: the learning rate: of those tried, the one that came to be most accurate on the sequences for choosing.
        clip: the largest norm a gradient was allowed; ``None`` if it was not clipped.
        tried: the best accuracy on the sequences for choosing, by learning rate.
        updates: after how many updates the entries of the lists were taken.
        accuracy: on the sequences for choosing.
        horizon: steps back after which less than 1 % of the probe is left; ``None`` if that is not seen within T steps.
        loss: mean of the training loss since the entry before.
        largest_gradient: the largest norm of a whole gradient, before clipping, since the entry before.
        peak: the largest norm of a whole gradient, before clipping, that was finite: of a run that diverged, it may have come
            after the last entry. ``None`` if the first gradient was not finite.
        asked: updates that the run was to make.
        score: accuracy on sequences that served neither for training nor for choosing, of the weights that were most accurate
            on those for choosing (of equals the latest).
        scored: how many sequences that were.
        learned_after: the first update after which 95 % of the sequences for choosing were right; ``None`` if that never was.
        diverged_at: the update whose loss or gradient was not finite; training ended before it was made.
        parameters: how many numbers it learns.
        seconds: that the run with this rate took.
    """

    task: str
    guessing: float
    name: str
    weights: str
    optimizer: str
    rate: float
    clip: float | None
    tried: dict[float, float]
    updates: list[int]
    accuracy: list[float]
    horizon: list[int | None]
    loss: list[float]
    largest_gradient: list[float]
    peak: float | None
    asked: int
    score: float
    scored: int
    learned_after: int | None
    diverged_at: int | None
    parameters: int
    seconds: float = field(compare=False)


def while_training(
    seed: int = 0,
    *,
    names: tuple[str, ...] = TRAINED,
    task: Task = ORDER,
    updates: int = 600,
    steps: int = 30,
    clip: float | None = 1.0,
    progress: Progress | None = None,
) -> list[Learning]:
    """Train networks on a task with a known lag, all on the same batches, and watch their accuracy and their horizon.

    Each makes as many updates of Adam, once with each of :data:`RATES`. What is returned is the run that came to be most
    accurate on :data:`CHOOSING` sequences (of equals the one of the smallest rate); its score is that of its best weights on
    :data:`SCORING` others.

    Args:
        seed: of the weights and of all sequences.
        names: of :data:`STARTS`.
        task: :data:`~throughtime.experiments.lags.ORDER` or :data:`~throughtime.experiments.lags.ADDING`.
        updates: of each run.
        steps: T, at least 10.
        clip: the largest norm of a gradient; ``None`` for any.
        progress: told of every run that begins.

    Raises:
        SettingsError: an unknown name, no update, or too few steps.

    Example:
        >>> (run,) = while_training(names=("tanh",), steps=10, updates=5)
        >>> run.name, run.updates, sorted(run.tried)
        ('tanh', [5], [0.001, 0.003, 0.01])
    """
    for name in names:
        if name not in STARTS:
            raise SettingsError(f"there is no network {name!r} to train; give some of {', '.join(STARTS)}")
    best = []
    for index, name in enumerate(names):
        runs: list[Learning] = []
        for tried, rate in enumerate(RATES):
            if progress:
                progress(f"{name} learns {task.name}, rate {rate:g}", (index + tried / len(RATES)) / len(names))
            runs.append(_train(STARTS[name], rate, task=task, seed=seed, updates=updates, steps=steps, clip=clip))
        chosen = max(runs, key=lambda run: run.tried[run.rate])
        best.append(replace(chosen, tried={run.rate: run.tried[run.rate] for run in runs}))
    return best


def clipping(
    seed: int = 0, *, updates: int = 600, steps: int = 30, progress: Progress | None = None
) -> tuple[Learning, Learning]:
    """The same run of an LSTM twice, without clipping and with the norm of the gradient clipped at 1.

    The LSTM starts with recurrent weights that are large (``"LSTM, large"``). It is trained by SGD with momentum .9, whose
    step, unlike Adam's, grows with the gradient; at the one rate .03.

    Args:
        seed: of the weights and of all sequences.
        updates: of each run.
        steps: T, at least 10.
        progress: told of both runs.

    Returns:
        Without clipping, and with it.

    Raises:
        SettingsError: no update, or too few steps.

    Source: Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, section 3.2.
    """
    runs: list[Learning] = []
    for clip in (None, 1.0):
        if progress:
            progress(f"an LSTM with large weights learns {'with' if clip else 'without'} clipping", len(runs) / 2)
        runs.append(_train(STARTS["LSTM, large"], 0.03, seed=seed, updates=updates, steps=steps, momentum=0.9, clip=clip))
    return runs[0], runs[1]


def _train(
    start: Start,
    rate: float,
    *,
    seed: int,
    updates: int,
    steps: int,
    task: Task = ORDER,
    momentum: float | None = None,
    clip: float | None = None,
) -> Learning:
    """One run: Adam, or SGD if it is given a momentum."""
    if updates < 1:
        raise SettingsError(f"updates is {updates}, expected at least 1; give more")
    began = time.perf_counter()
    network = Network(start, HIDDEN, seed, task)
    parameters = list(network.parameters())
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(parameters, rate) if momentum is None else torch.optim.SGD(parameters, rate, momentum)
    )
    choosing = drawn(steps, CHOOSING, seed, _CHOOSE, task=task)
    done: list[int] = []
    accuracy: list[float] = []
    horizons: list[int | None] = []
    losses: list[float] = []
    norms: list[float] = []
    kept = deepcopy(network.state_dict())
    diverged_at = None
    for update in range(1, updates + 1):
        look = update % EVALUATE_EVERY == 0 or update == updates
        inputs, targets = drawn(steps, BATCH, seed, _TRAIN, update, task=task)
        loss = _loss(network(inputs)[0], targets)
        optimizer.zero_grad()
        with record(network) if look else nullcontext() as flow:
            loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip or math.inf)
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            diverged_at = update
            break
        losses.append(loss.item())
        norms.append(norm.item())
        optimizer.step()
        if flow is not None:
            done.append(update)
            horizons.append(horizon(flow.layers[0], 0.01))
            accuracy.append(_accuracy(network, choosing))
            if accuracy[-1] == max(accuracy):
                kept = deepcopy(network.state_dict())
    network.load_state_dict(kept)
    since = list(zip([0, *done], done, strict=False))
    return Learning(
        task=task.name,
        guessing=task.guessing,
        name=start.name,
        weights=start.weights,
        optimizer="Adam" if momentum is None else f"SGD, momentum {momentum:g}",
        rate=rate,
        clip=clip,
        tried={rate: _accuracy(network, choosing)},
        updates=done,
        accuracy=accuracy,
        horizon=horizons,
        loss=[float(np.mean(losses[first:last])) for first, last in since],
        largest_gradient=[max(norms[first:last]) for first, last in since],
        peak=max(norms, default=None),
        asked=updates,
        score=_accuracy(network, drawn(steps, SCORING, seed, _SCORE, task=task)),
        scored=SCORING,
        learned_after=next((update for update, right in zip(done, accuracy, strict=True) if right >= 0.95), None),
        diverged_at=diverged_at,
        parameters=sum(parameter.numel() for parameter in parameters),
        seconds=time.perf_counter() - began,
    )


def _loss(answers: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of classes, squared error of a number."""
    if targets.is_floating_point():
        return torch.nn.functional.mse_loss(answers[:, 0], targets)
    return torch.nn.functional.cross_entropy(answers, targets)


@torch.no_grad()
def _accuracy(network: Network, batch: tuple[Tensor, Tensor]) -> float:
    """The share of classes that are right, or of numbers that are near enough."""
    inputs, targets = batch
    answers = network(inputs)[0]
    right = (answers[:, 0] - targets).abs() < WITHIN if targets.is_floating_point() else answers.argmax(-1) == targets
    return float(right.double().mean())
