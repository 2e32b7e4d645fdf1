"""A task whose losses are scripted, its trainer, and a clock that is told the time: what the tests of the loop share."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import throughtime.train.trainer
from throughtime.data.records import Sequences
from throughtime.settings import Settings
from throughtime.store import RunDirectory
from throughtime.tasks.base import Feed
from throughtime.tasks.lm import EncodedText, LanguageModelling
from throughtime.train.trainer import Trainer

TEXT = " ".join(random.Random(0).choices(["lorem", "ipsum", "dolor", "sit", "amet"], k=420))
SETTINGS = {"hidden": 8, "bptt": 16, "batch": 4, "epochs": 2, "save_every": 1e9, "seed": 3}


class Clock:
    """Seconds that go by when somebody says so."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughtime.train.trainer, "time", clock)
    return clock


class Scripted(LanguageModelling):
    """A language model of a short text, with a few things that go otherwise than they would.

    Args:
        settings: beyond those of all tests here.
        broken: epochs and indices of batches whose loss is not a number.
        scores: what evaluations say, one after another, for as long as there are some.
        clock: an update takes a second of it, an evaluation five.
    """

    def __init__(
        self,
        broken: tuple[tuple[int, int], ...] = (),
        scores: Iterator[dict[str, float]] | None = None,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(Settings.of({**SETTINGS, **settings}))
        self.broken, self.scores, self.clock, self.at = broken, scores or iter(()), clock or Clock(), (0, 0)
        part = Sequences("text", [TEXT])
        self.prepare(part)
        self.encoded = self.encode(part)

    def feed(self, encoded: EncodedText) -> Feed:
        feed = super().feed(encoded)
        assert feed.carries
        batch = feed.batch

        def remembered(epoch: int, index: int) -> Any:
            self.at = epoch, index
            return batch(epoch, index)

        feed.batch = remembered  # type: ignore[method-assign]
        return feed

    def loss(self, network: torch.nn.Module, batch: Any, state: Any) -> tuple[Tensor, Any]:
        self.clock.now += 1
        loss, state = super().loss(network, batch, state)
        return loss * math.nan if self.at in self.broken else loss, state

    def evaluate(self, network: torch.nn.Module, encoded: EncodedText) -> dict[str, float]:
        self.clock.now += 5
        torch.rand(3)  # what others draw must not matter
        return next(self.scores, None) or super().evaluate(network, encoded)


def trainer(task: Scripted, run: RunDirectory | None = None, **options: Any) -> Trainer:
    torch.manual_seed(task.settings.training.seed)
    made = Trainer(task, task.network(), task.feed(task.encoded), task.encoded, run, **options)
    if run is not None:
        made.restore()
    return made


def records(run: RunDirectory) -> list[dict[str, Any]]:
    return run.records("metrics.jsonl")
