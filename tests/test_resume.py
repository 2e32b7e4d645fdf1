"""Exact resume: real runs, killed with SIGKILL at real and at exactly chosen moments, end with the same bits as runs never stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from throughtime.errors import RunError, ThroughTimeError
from throughtime.store import RunDirectory, read_json
from throughtime.train.fit import resume

from resume_worker import Job, work

KILLS = int(os.environ.get("THROUGHTIME_KILLS", "2"))
"""Random kills of each kind and run; more for a long campaign."""
SEED = int(os.environ.get("THROUGHTIME_SEED", "0"))
PATIENCE = 60.0
"""Seconds until a process that should have come to a point counts as hung."""
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The server that processes are forked from inherits it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        CONTEXT.set_forkserver_preload(["resume_worker"])
        yield


CONTEXT = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Recipe:
    """A run: what its data file holds, and its settings."""

    file: str
    content: Callable[[random.Random], str]
    settings: dict[str, Any]


def _text(chance: random.Random) -> str:
    words = ["lorem", "ipsum", "dolor", "sit", "amet", "consectetur"]
    return "\n".join(" ".join(chance.choices(words, k=200)) for _ in range(10)) + "\n"


def _labelled(chance: random.Random) -> str:
    rows = [f"{''.join(chance.choices('abcd', k=chance.randint(3, 20)))},{'yes' if n % 2 else 'no'}" for n in range(200)]
    return "\n".join(["text,label", *rows]) + "\n"


def _series(chance: random.Random) -> str:
    days = np.datetime64("2020-01-01") + np.arange(300)
    rows = [f"{day},{10 + np.sin(n * 2 * np.pi / 7) + chance.gauss(0, 0.3):.3f}" for n, day in enumerate(days)]
    return "\n".join(["ds,y", *rows]) + "\n"


COMMON = {"baselines": False, "save_every": 0.05, "hidden": 8}
RECIPES = {
    # The state is carried from window to window, through two layers with dropout between them.
    "lm": Recipe(
        "text.txt", _text, {"task": "lm", "cell": "lstm", "layers": 2, "bptt": 16, "batch": 4, "epochs": 1, "documents": "file"}
    ),
    # Early stopping: there is nothing to learn here.
    "classify": Recipe("labelled.csv", _labelled, {"tokens": "char", "batch": 8, "epochs": 20, "patience": 4}),
    "forecast": Recipe(
        "series.csv",
        _series,
        {
            "horizon": 7,
            "window": 14,
            "batch": 16,
            "epochs": 10,
            "dropout": 0.2,
            "schedule": "plateau",
            "optimizer": "Adagrad",
            "lr": 0.05,
        },
    ),
    # The first updates throw the network off its feet: it is put back, with half the rate, and learns.
    "rollback": Recipe(
        "text.txt",
        _text,
        {
            "task": "lm",
            "cell": "rnn",
            "nonlinearity": "relu",
            "bptt": 32,
            "batch": 4,
            "epochs": 1,
            "optimizer": "SGD",
            "lr": 300,
            "clip": 0,
        },
    ),
}


class Runs:
    """The runs of one recipe: where its data lies, what a run never stopped ended with, and new ones to kill."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder, self.settings = folder, {**COMMON, **recipe.settings}
        folder.mkdir(exist_ok=True)
        self.source = folder / recipe.file
        self.source.write_text(recipe.content(random.Random(0)))
        self._numbers = iter(range(1 << 20))

    def job(self, **options: Any) -> Job:
        """A fit in a new directory."""
        number = next(self._numbers)
        settings = {**self.settings, **options.pop("settings", {})}
        return Job(self.folder / f"run{number}", self.folder / f"trace{number}", self.source, settings, **options)


def start(job: Job) -> BaseProcess:
    process = CONTEXT.Process(target=work, args=(job,))
    process.start()
    return process


def end_of(process: BaseProcess) -> int:
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        pytest.fail("the process hung")
    assert process.exitcode is not None
    return process.exitcode


def run(job: Job) -> int:
    return end_of(start(job))


def resumed(job: Job, **options: Any) -> Job:
    """The job that goes on with another."""
    return dataclasses.replace(job, source=None, settings={}, **{"die_at": None, "file_limit": None, **options})


def lines(job: Job, kind: str) -> list[str]:
    """What the trace says of a kind of event, in order, over all processes so far."""
    told = job.trace.read_text().splitlines() if job.trace.exists() else []
    return [line.removeprefix(kind).strip() for line in told if line.startswith(kind)]


def updates(job: Job) -> list[int]:
    return [int(line) for line in lines(job, "updated")]


def finish(job: Job, before: list[int] | None = None) -> None:
    """Resume to the end, and hold that the process began where the newest checkpoint lay and did all that was left."""
    place = newest(job.out)
    had = len(updates(job))
    assert run(resumed(job)) == 0
    assert lines(job, "finished") == [""]
    made = updates(job)[had:]
    assert made == list(range(place + 1, place + 1 + len(made)))
    if before is not None:
        before.append(place)


def newest(out: Path) -> int:
    """The update of the newest checkpoint, 0 if there is none."""
    return max(RunDirectory(out).checkpoints.numbers(), default=0)


def ended(out: Path) -> dict[str, str]:
    """Checksums of all that must not depend on whether a run was stopped."""
    files = ["model.safetensors", "transforms.json", "metrics.jsonl"]
    folder = out / "checkpoints" / f"{newest(out):08d}"
    names = [*files, *(str(path.relative_to(out)) for path in sorted(folder.iterdir()))]
    sums = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in names}
    sums["result.json"] = json.dumps(_without_clock(read_json(out / "result.json")), sort_keys=True)
    assert (out / "report.html").exists()
    assert not [*out.glob(".*.tmp"), *out.glob("checkpoints/.*.tmp")], "what a killed process was writing is still there"
    return sums


def _without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_clock(inner) for name, inner in value.items() if name not in ("seconds", "steps_per_second")}
    return [_without_clock(inner) for inner in value] if isinstance(value, list) else value


def kill_when(process: BaseProcess, condition: Callable[[], bool]) -> bool:
    """SIGKILL as soon as the condition holds.

    Returns:
        Whether it did before the process ended.
    """
    until = time.monotonic() + PATIENCE
    while process.is_alive() and not condition():
        assert time.monotonic() < until, "the moment to kill never came"
        time.sleep(0.0002)
    process.kill()
    return end_of(process) == KILLED


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Runs, dict[str, str]]]:
    """Of a recipe: its runs, and what one never stopped ended with."""
    folder, known = tmp_path_factory.mktemp("resume"), dict[str, tuple[Runs, dict[str, str]]]()

    def get(name: str) -> tuple[Runs, dict[str, str]]:
        if name not in known:
            runs = Runs(folder / name, RECIPES[name])
            whole = runs.job()
            assert run(whole) == 0
            assert len(lines(whole, "evaluated")) >= 4
            known[name] = runs, ended(whole.out)
        return known[name]

    return get


Workshop = Callable[[str], tuple[Runs, dict[str, str]]]


def test_two_runs_never_stopped_end_alike(workshop: Workshop) -> None:
    """And the clock of ticks changes nothing: else all that follows would be no test."""
    runs, whole = workshop("lm")
    job = runs.job(ticks=True)
    assert run(job) == 0
    assert ended(job.out) == whole
