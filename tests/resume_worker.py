"""What test_resume runs in processes of its own, to be killed there: a fit or its resume, which writes down where it is."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import torch._dynamo  # noqa: F401  (the first optimizer imports it, for longer than a run here takes: once is enough)

import throughtime
import throughtime.train.trainer
from throughtime.errors import ThroughTimeError
from throughtime.settings import Settings
from throughtime.train.fit import fit, resume
from throughtime.train.progress import Evaluation, Progress, Update

PACKAGE = Path(throughtime.__file__).parent
LAYERS = ("train", "store")
"""Where lines are counted."""
TICK = 1 / 400


@dataclass(frozen=True)
class Job:
    """One process.

    Attributes:
        out: the run directory.
        trace: a file for a line per event, written at once.
        source: the data of a fit; ``None`` resumes.
        settings: of a fit.
        ticks: the trainer's clock goes on by a tick each time it is looked at. Then all is a function of the job alone,
            the moments of the checkpoints and the number of executed lines included.
        die_at: a layer of the package, and at which of its executed lines to die; -1 only counts them.
        die_after: the update after which to die.
        by: the signal to die of.
        file_limit: no file can grow beyond this many bytes, as on a full disk; from update ``limit_after`` on.
    """

    out: Path
    trace: Path
    source: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    ticks: bool = False
    die_at: tuple[str, int] | None = None
    die_after: int | None = None
    by: int = signal.SIGKILL
    file_limit: int | None = None
    limit_after: int = 0


class Listener(Progress):
    """Writes down what happens; dies or runs out of space when it is time."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def tell(self, *words: object) -> None:
        """One line, which no SIGKILL takes back and no full disk stops."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))
        with self.job.trace.open("a") as file:
            file.write(" ".join(map(str, words)) + "\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def warn(self, line: str) -> None:
        self.tell("warned", line)

    def evaluated(self, evaluation: Evaluation) -> None:
        self.tell("evaluated", evaluation.update)

    def updated(self, update: Update) -> None:
        self.tell("updated", update.update)
        if update.update == self.job.die_after:
            os.kill(os.getpid(), self.job.by)
        if self.job.file_limit is not None and update.update == self.job.limit_after:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.job.file_limit, resource.RLIM_INFINITY))


def work(job: Job) -> None:
    """Do it; the last line of the trace says how it ended."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's jobs in the background begin with it ignored
    listener = Listener(job)
    if job.ticks:
        ticks = iter(range(1 << 40))
        throughtime.train.trainer.time = SimpleNamespace(monotonic=lambda: next(ticks) * TICK)  # type: ignore[attr-defined]
    counted = _count_lines(job) if job.die_at else dict
    try:
        if job.source is None:
            done = resume(job.out, progress=listener)
        else:
            done = fit(job.source, Settings.of(job.settings), job.out, progress=listener)
    except ThroughTimeError as error:
        listener.tell("failed", type(error).__name__, error)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        sys.settrace(None)
        listener.tell("interrupted")
        raise SystemExit(130) from None
    finally:
        sys.settrace(None)
    for layer, count in counted().items():
        listener.tell(f"lines of {layer}", count)
    listener.tell("nothing to do" if done is None else "finished")


def _count_lines(job: Job) -> Callable[[], dict[str, int]]:
    """Count the executed lines of some layers, and die at one of them, before it runs."""
    count, folders = dict.fromkeys(LAYERS, 0), {f"{PACKAGE / layer}{os.sep}": layer for layer in LAYERS}

    def tracer(layer: str) -> Any:
        def local(_frame: FrameType, event: str, _argument: object) -> Any:
            if event == "line":
                count[layer] += 1
                if job.die_at == (layer, count[layer]):
                    os.kill(os.getpid(), job.by)
            return local

        return local

    tracers = {folder: tracer(layer) for folder, layer in folders.items()}

    def enter(frame: FrameType, _event: str, _argument: object) -> Any:
        file = frame.f_code.co_filename
        return next((local for folder, local in tracers.items() if file.startswith(folder)), None)

    sys.settrace(enter)
    return lambda: count
