"""What the trainer costs around forward, backward and optimizer, and what a plain PyTorch loop with torch.nn costs.

    python benchmarks/training.py [--data FOLDER] [--updates 40] [--rounds 3]

On the data and with the defaults of benchmarks/quality.py. Both are measured in turns in one process: the trainer, with a
clock around forward, backward and optimizer (clipping counts as the optimizer's); and the plain loop, in which every
recurrent module is torch.nn's, ragged batches packed as it wants them. Results go to benchmarks/results/training.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from quality import CASES, RESULTS, Case
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import throughtime as tt
from throughtime.data import read
from throughtime.data.split import split
from throughtime.settings import Settings
from throughtime.tasks import TASKS
from throughtime.train.optimizers import make_optimizer
from throughtime.train.trainer import Trainer

MEASURED = ("tinyshakespeare", "names", "JapaneseVowels", "spoken digits", "EWT tags", "EWT genres", "ETTh1 OT 24 hours")


class Packed(nn.Module):
    """A module of torch.nn behind the interface of tt.nn: ragged batches are packed, if they are ragged."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module
        self.hidden_size, self.bidirectional = module.hidden_size, module.bidirectional

    def forward(self, x: torch.Tensor, state: Any = None, lengths: torch.Tensor | None = None) -> Any:
        if lengths is None or bool((lengths == len(x)).all()):
            return self.module(x, state)
        output, state = self.module(pack_padded_sequence(x, lengths.clamp(min=1), enforce_sorted=False), state)
        return pad_packed_sequence(output, total_length=len(x))[0], state


def plain(network: nn.Module) -> nn.Module:
    """The same network with torch.nn's recurrent modules."""
    network = tt.nn.revert(copy.deepcopy(network))
    network.rnn = Packed(network.rnn)
    return network


class Clock:
    """Seconds spent in functions, by what they are for."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time noted."""

        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - started

        return timed


def watched(trainer: Trainer, many: int) -> dict[str, float]:
    """Seconds of some updates of the trainer, and of forward, backward and optimizer within them."""
    clock, task = Clock(), trainer.task
    with (
        mock.patch.object(task, "loss", clock.around("forward", task.loss)),
        mock.patch.object(torch.Tensor, "backward", clock.around("backward", torch.Tensor.backward)),
        mock.patch.object(trainer.optimizer, "step", clock.around("optimizer", trainer.optimizer.step)),
        mock.patch("torch.nn.utils.get_total_norm", clock.around("optimizer", torch.nn.utils.get_total_norm)),
        mock.patch("torch.nn.utils.clip_grads_with_norm_", clock.around("optimizer", torch.nn.utils.clip_grads_with_norm_)),
    ):
        started = time.perf_counter()
        for _ in range(many):
            trainer._update()
        return {"trainer": time.perf_counter() - started, **clock.spent}


def plain_loop(task: Any, network: nn.Module, feed: Any, first: int, many: int) -> float:
    """Seconds of the same updates as anybody would write them."""
    training = task.settings.training
    optimizer = make_optimizer(training.optimizer, network, training.lr, training.weight_decay)
    parameters, state = list(network.parameters()), None
    network.train()
    started = time.perf_counter()
    for number in range(first, first + many):
        batch = feed.batch(0, number % len(feed))
        optimizer.zero_grad()
        loss, state = task.loss(network, batch, state)
        state = None if not feed.carries else state.detach() if torch.is_tensor(state) else tuple(s.detach() for s in state)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, training.clip)
        optimizer.step()
    return time.perf_counter() - started


def measure(case: Case, data: Path, many: int, rounds: int) -> dict[str, Any]:
    """Medians over rounds, in milliseconds an update."""
    with tempfile.TemporaryDirectory() as folder:
        source, *flags = case.command(data, Path(folder))
        given = {name.removeprefix("--"): value for name, value in zip(flags[::2], flags[1::2], strict=True)}
        settings = Settings.of(given)
        dataset = read(Path(source), settings)
        settings = settings.replace(**{"task": dataset.task, **dataset.resolved})
        alike = settings.replace(split_column=None)
        others = {name: read(Path(given[name]), alike) for name in ("valid", "test") if name in given}
        parts = split(dataset, settings, **others)
        task = TASKS[dataset.task](settings)
        task.prepare(parts.train)
        encoded, valid = task.encode(parts.train), task.encode(parts.valid)
        torch.manual_seed(0)
        ours = task.network()
        theirs, feed = plain(ours), task.feed(encoded)
        trainer = Trainer(task, ours, feed, valid)
        trainer._evaluate()
        trainer.evaluate_every = 1 << 60
        found: dict[str, list[float]] = {}
        for round_ in range(rounds + 1):  # the first round warms up
            first = round_ * many
            row = {**watched(trainer, many), "torch.nn": plain_loop(task, theirs, feed, first, many)}
            if round_:
                for name, seconds in row.items():
                    found.setdefault(name, []).append(1e3 * seconds / many)
        started = time.perf_counter()
        trainer._evaluate()
        evaluation = time.perf_counter() - started
    result = {name: statistics.median(values) for name, values in found.items()}
    work = result["forward"] + result["backward"] + result["optimizer"]
    every = min(max(len(feed), 20), 1000)
    epoch = result["trainer"] + 1e3 * evaluation / every
    return {
        **{name: round(value, 3) for name, value in result.items()},
        "outside": round(1 - work / result["trainer"], 4),
        "evaluation share": round(1e3 * evaluation / every / epoch, 4),
        "torch.nn / trainer": round(result["torch.nn"] / result["trainer"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What the trainer costs around the kernels")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    table = {}
    for case in CASES:
        if case.name in MEASURED and (options.data / case.needs).is_dir():
            table[case.name] = row = measure(case, options.data, options.updates, options.rounds)
            print(f"{case.name}: " + ", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine, "unit": "milliseconds an update", "cases": table}, indent=1)
    (RESULTS / "training.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
