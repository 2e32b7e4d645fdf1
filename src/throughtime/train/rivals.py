"""The feed-forward rivals of a recurrent network: trained on the same data in the same way, and scored on the same part."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch

from throughtime.errors import TrainingError
from throughtime.tasks.base import BaselineScore, Rival, Task
from throughtime.train.fitted import Fitted
from throughtime.train.trainer import Trainer, random_state_kept

FEWER = 2
"""By what a rival's updates are fewer, and its rate higher, than those of the recurrent network: feed-forward networks bear
larger updates. On JapaneseVowels, names, EWT genres and ETTh1 a rival came out between .001 better and .025 worse than with all
the updates at the same rate; with half of them at the same rate, up to .057 worse."""


def fit_rival(
    task: Task,
    rival: Rival,
    train: Any,
    valid: Any,
    *,
    updates: int,
    device: torch.device | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Train a feed-forward network as the recurrent one was: same batches, optimizer, seed and early stopping.

    It makes half as many updates at twice the rate (:data:`FEWER`), so that the comparison costs a fraction of the training.
    Nothing is written, nobody is told, and torch's own random state is left alone. The result is a function of the data, the
    settings and ``updates`` alone.

    Args:
        task: prepared; it is not changed.
        rival: one of ``task.rivals``.
        train: the encoded training part.
        valid: the encoded validation part, to choose the best weights and to stop by.
        updates: as many as the recurrent network made.
        device: where to compute; the CPU if not given.
        interrupted: as for :class:`~throughtime.train.trainer.Trainer`.

    Returns:
        The network, with a task of its own: what is fitted after training, such as the width of intervals, is the rival's.

    Raises:
        TrainingError: the loss was no number time and again.
        KeyboardInterrupt: ``interrupted`` said so.
    """
    own = copy.copy(task)
    training = task.settings.training
    assert training.lr is not None
    # The clock may not decide: a resumed run must come out alike.
    own.settings = task.settings.replace(time_budget=None, lr=FEWER * training.lr)
    with random_state_kept():
        torch.manual_seed(training.seed)
        network = rival.network().to(device or torch.device("cpu"))
        trainer = Trainer(own, network, own.feed(train), valid, interrupted=interrupted)
        trainer.place.total = -(-updates // FEWER)
        trainer.fit()
        network.eval()
        with torch.inference_mode():
            own.finish(network, valid)
    return Fitted(own, network)


def score_rivals(
    task: Task,
    trainer: Trainer,
    train: Any,
    part: Any,
    encoded: Any,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> list[BaselineScore]:
    """Train every feed-forward rival of a recurrent network that was trained, and score it.

    Args:
        task: prepared.
        trainer: that of the recurrent network, at its end.
        train: the encoded training part.
        part: what to score on, as it was read.
        encoded: the same as arrays.
        say: is told what is about to be done.

    Returns:
        One for each; without scores, and with the problem, where a loss was no number time and again.

    Raises:
        KeyboardInterrupt: ``trainer.interrupted`` said so.
    """
    found = []
    for rival in task.rivals(train):
        say(f"training a rival, half the updates at twice the rate: {rival.description}")
        started = time.monotonic()
        scores, errors, parameters, problem = dict[str, float](), None, 0, ""
        try:
            fitted = fit_rival(
                task,
                rival,
                train,
                trainer.valid,
                updates=trainer.place.update,
                device=trainer.device,
                interrupted=trainer.interrupted,
            )
        except TrainingError as error:
            problem = str(error)
        else:
            with torch.inference_mode():
                scores = fitted.task.score(fitted.network, part, encoded)
                errors = fitted.task.errors(fitted.network, part, encoded)
            parameters = sum(parameter.numel() for parameter in fitted.network.parameters())
        seconds = time.monotonic() - started
        found.append(BaselineScore(rival.name, rival.description, parameters, seconds, scores, rival.order, problem, errors))
    return found
