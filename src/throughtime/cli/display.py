"""How training goes: a live line on a terminal, a plain line for each evaluation where stdout is none."""

from __future__ import annotations

import math
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from throughtime.cli import mute
from throughtime.cli.stopping import Stopping
from throughtime.cli.tables import result_lines
from throughtime.report import formats
from throughtime.train.progress import Evaluation, Progress, Update

if TYPE_CHECKING:
    from throughtime.tasks.base import Metric

_SMOOTH = 0.98
_REFRESH = 4
_BAR = 30
_WIDE = 120
"""Columns where stdout is no terminal."""


class Display(Progress):
    """Draws the progress of a fit; used as a context, which ends the live line.

    Args:
        run: the run directory.
        stopping: is told when training runs.
        doing: what comes first.
    """

    def __init__(self, run: Path, stopping: Stopping, doing: str) -> None:
        self._run, self._stopping, self._doing = run, stopping, doing
        self._console = Console(highlight=False, markup=False, emoji=False)
        live = sys.stdout.isatty() and not self._console.is_dumb_terminal
        self._live = Live(self, console=self._console, refresh_per_second=_REFRESH, transient=True) if live else None
        self._spinner = Spinner("line")
        self.started = False
        """Whether training began: whether there can be something to go on with."""
        self._said: set[str] = set()
        self._metrics: tuple[Metric, ...] = ()
        self._begun = self._last = self._seconds = self._before = 0.0
        self._first: int | None = None
        self._update: Update | None = None
        self._total: int | None = None
        self._loss = self._weight = 0.0
        self._steps = 0
        self._best: float | None = None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def line(self, text: str, style: str = "", *, whole: bool = False) -> None:
        """Print a line, above the live one; wrapped at words on a terminal, unless it is to stay whole for copying.

        Nobody reading any more does not stop a fit: its run is what it is for.
        """
        if self._live:
            self._console.print(Text(text, style), soft_wrap=whole)
            return
        try:
            print(text, flush=True)
        except BrokenPipeError:
            mute()

    def say(self, line: str) -> None:
        """A sentence; what is said after training is what is being done, which the live line shows."""
        self._doing = line if self.started else "preparing"
        if not (self._live and self.started):
            self.line(line)

    def warn(self, line: str) -> None:
        """A warning."""
        self._said.add(line)
        self.line(f"warning: {line}", "yellow")

    def training_starts(self, description: str, metrics: tuple[Metric, Metric], total: int | None, seconds: float) -> None:
        """What is trained, and where it goes."""
        self._metrics, self._total, self._before = metrics, total, seconds
        self.line(f"{description}; into {self._run}")
        self._begun = self._last = time.monotonic()
        self.started = self._stopping.patient = True

    def updated(self, update: Update) -> None:
        """Notes it; the live line looks at it when it is drawn next."""
        if self._first is None:
            self._first = update.update - 1
        self._update, self._total = update, update.total
        if math.isfinite(update.loss):
            self._loss = _SMOOTH * self._loss + (1 - _SMOOTH) * update.loss
            self._weight = _SMOOTH * self._weight + (1 - _SMOOTH)
        now = time.monotonic()
        self._steps += update.steps
        self._seconds += now - self._last
        self._last = now

    def evaluated(self, evaluation: Evaluation) -> None:
        """A line of numbers."""
        now, score = time.monotonic(), evaluation.valid.get(self._metrics[0].name)
        if evaluation.best:
            self._best = score
        width = len(f"{self._total or 0:,}")
        scores = {metric.label: formats.plain(evaluation.valid.get(metric.name)) for metric in self._metrics}
        shown = ", ".join(f"{label} {value}" for label, value in scores.items())
        words = {
            "epoch": f"epoch {_epoch(evaluation.epoch):<5}",
            "update": f"update {evaluation.update:>{width},}",
            "loss": f"loss {formats.plain(evaluation.train_loss):>6}",
            "score": f"valid {shown}{' (best)' if evaluation.best else '       '}",
        }
        if evaluation.update:
            words |= {"rate": self._rate(), "spent": formats.duration(self._before + now - self._begun)}
        self.line(
            _fitting(words, self._console.width if self._live else _WIDE, ("rate", "update", "spent", "epoch", "loss")).rstrip()
        )
        self._last = time.monotonic()  # what evaluations take is no time of steps

    def training_ends(self) -> None:
        """From now on a call to stop is heeded at once."""
        self._stopping.patient = False
        self._doing = "scoring"
        self._update = None

    def _rate(self) -> str:
        return f"{self._steps / self._seconds:,.0f} steps/s" if self._seconds else ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        update = self._update
        if update is None:
            self._spinner.update(text=Text(self._doing, no_wrap=True, overflow="ellipsis"))
            yield self._spinner
            return
        room = options.max_width - 3  # ^C is shown where it is typed
        line = _fitting(self._words(update), room - 12, ("epoch", "rate", "score", "left", "loss"))
        text = Text(line, no_wrap=True, overflow="ellipsis")
        size = max(5, min(_BAR, room - len(text)))
        bar = ProgressBar(update.total, update.update, width=size, pulse=update.total is None)
        grid = Table.grid(padding=(0, 1))
        grid.add_row(bar, text)
        yield grid

    def _words(self, update: Update) -> dict[str, str]:
        words = {"place": f"{update.update:,}" + (f"/{update.total:,}" if update.total else "")}
        if self._stopping():
            return words | {"stop": "stopping after this update; Ctrl-C again stops at once"}
        words["epoch"] = f"epoch {update.epoch:.1f}"
        if self._weight:
            words["loss"] = f"loss {formats.plain(self._loss / self._weight)}"
        if self._best is not None:
            words["score"] = f"best valid {self._metrics[0].label} {formats.plain(self._best)}"
        words["rate"] = self._rate()
        made = update.update - (self._first or 0)
        if update.total:
            words["left"] = f"at most {_clock((self._last - self._begun) / made * (update.total - update.update))} left"
        return words

    def result(self, result: dict[str, Any]) -> None:
        """What came out: the sentence, model against baselines, where everything is, and what to do next."""
        self.line("")
        self.line(result["headline"], "bold yellow" if result["beats_baselines"] is False else "bold")
        self.line("")
        for line in result_lines(result, self._console.width if self._live else _WIDE):
            self.line(line)
        self.line("")
        for warning in result["warnings"]:
            if warning not in self._said:
                self.warn(warning)
        run = shlex.quote(str(self._run))
        following = _NEXT.get(result["task"], "predict {run} NEW-DATA --out predictions.csv").format(run=run)
        self.line(f"stopped {result['training']['stopped']}")
        self.line(f"report  {self._run / 'report.html'}", whole=True)
        self.line(f"run     {self._run}", whole=True)
        self.line(f"next    throughtime {following}", whole=True)


_NEXT = {"forecast": "forecast {run}", "lm": "generate {run}"}


def _fitting(words: dict[str, str], room: int, least: tuple[str, ...]) -> str:
    """Words as a line that fits, what can best be missed left out first."""
    for name in least:
        if len("  ".join(words.values())) > room:
            words.pop(name, None)
    return "  ".join(words.values())


def _epoch(epoch: float) -> str:
    return f"{epoch:.0f}" if abs(epoch - round(epoch)) < 0.005 else f"{epoch:.2f}"


def _clock(seconds: float) -> str:
    """``2:05`` or ``1:00:00``."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
