"""Tiny data of every kind that `throughtime fit` takes, and a fit of it: what the tests of whole fits share."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.settings import Settings
from throughtime.tasks import Metric
from throughtime.train.fit import fit
from throughtime.train.progress import Evaluation, Progress, Update

SMALL = {"hidden": 8, "epochs": 1, "batch": 16}
"""What keeps a fit below a second or two."""


@dataclass(frozen=True)
class Case:
    """Data of one kind.

    Attributes:
        name: the test id.
        task: that it is understood as.
        write: puts it into a folder, and returns the path to fit.
        settings: beside those of :data:`SMALL`.
        test: a part of it as a file of its own, as `evaluate` takes it; ``None`` where that is not easily had.
    """

    name: str
    task: str
    write: Callable[[Path], Path]
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def fit(self, source: Path, out: Path, **settings: Any) -> dict[str, Any]:
        """Fit it, with these settings on top of its own."""
        return fit_to(source, out, **{**self.settings, **settings})


def fit_to(source: Path, out: Path, **settings: Any) -> dict[str, Any]:
    """Fit a small model."""
    return fit(source, Settings.of({**SMALL, **settings}), out)


class Witness(Progress):
    """Notes what is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.warned: list[str] = []
        self.before = 0.0
        self.evaluations: list[Evaluation] = []
        self.updates: list[Update] = []

    def say(self, line: str) -> None:
        self.told.append(line)

    def warn(self, line: str) -> None:
        self.warned.append(line)

    def training_starts(self, description: str, metrics: tuple[Metric, Metric], total: int | None, seconds: float) -> None:
        self.before = seconds

    def updated(self, update: Update) -> None:
        self.updates.append(update)

    def evaluated(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)


def put(folder: Path, name: str, content: str | bytes) -> Path:
    """A file; folders above it are made."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(header: str, rows: list[str]) -> str:
    """A CSV."""
    return "\n".join([header, *rows]) + "\n"


def reviews(count: int = 120, seed: int = 0) -> list[str]:
    """Rows ``text,label``; the label is a word's."""
    chance = random.Random(seed)
    words = ["film", "plot", "actor", "scene", "music", "story", "end"]
    rows = []
    for number in range(count):
        label = "pos" if number % 2 else "neg"
        some = [*chance.choices(words, k=chance.randint(2, 8)), "fine" if label == "pos" else "dull", f"w{number}"]
        chance.shuffle(some)
        rows.append(f"{' '.join(some)},{label}")
    return rows


def _reviews(folder: Path) -> Path:
    return put(folder, "reviews.csv", table("text,label", reviews()))


def _regress(folder: Path) -> Path:
    rows = [f"{row.rsplit(',', 1)[0]},{1000 + 10 * len(row) + number / 7:.3f}" for number, row in enumerate(reviews())]
    return put(folder, "prices.csv", table("text,price", rows))


def steps_table(sequences: int = 40, *, label: Callable[[int, int, float], object], seed: int = 0) -> str:
    """Rows ``id,step,x,y`` and a label of number, step and x."""
    chance = random.Random(seed)
    rows = []
    for number in range(sequences):
        for step in range(chance.randint(3, 9)):
            x = chance.gauss(0, 1) + (number % 2)
            rows.append(f"s{number},{step},{x:.3f},{chance.gauss(5, 3):.3f},{label(number, step, x)}")
    return table("id,step,x,y,label", rows)


def _long(folder: Path) -> Path:
    return put(folder, "long.csv", steps_table(label=lambda number, step, x: "odd" if number % 2 else "even"))


def _long_tags(folder: Path) -> Path:
    return put(folder, "steps.csv", steps_table(label=lambda number, step, x: "high" if x > 0.5 else "low"))


def _long_numbers(folder: Path) -> Path:
    return put(folder, "curve.csv", steps_table(label=lambda number, step, x: f"{100 + 7 * x + step:.3f}"))


def tagged(sentences: int = 60, seed: int = 0) -> str:
    """Words with tags in two columns, blank lines between sentences."""
    chance = random.Random(seed)
    blocks = []
    for number in range(sentences):
        sentence = [
            ("the", "DET"),
            (chance.choice(["cat", "dog", f"noun{number}"]), "NOUN"),
            (chance.choice(["runs", "sleeps"]), "VERB"),
        ]
        blocks.append("\n".join(f"{word}\t{tag}" for word, tag in sentence * chance.randint(1, 3)))
    return "\n\n".join(blocks) + "\n\n"


def _tagged(folder: Path) -> Path:
    return put(folder, "tags.tsv", tagged())


def sine(steps: int = 240, period: int = 12, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """A wave."""
    return 10 + 3 * np.sin(2 * np.pi * np.arange(steps) / period) + noise * np.random.default_rng(seed).standard_normal(steps)


def series_table(columns: dict[str, np.ndarray], start: str = "2000-01", unit: str = "M") -> str:
    """A column with the time, one per series."""
    count = len(next(iter(columns.values())))
    times = (np.datetime64(start, unit) + np.arange(count)).astype("M8[D]")
    rows = [
        ",".join([str(time), *(f"{value:.4f}" for value in values)])
        for time, *values in zip(times, *columns.values(), strict=True)
    ]
    return table(",".join(["date", *columns]), rows)


def _series(folder: Path) -> Path:
    return put(folder, "series.csv", series_table({"sales": sine(180, noise=0.5)}))


def _panel(folder: Path) -> Path:
    rows = []
    for name, values in (("a", sine(120, noise=0.3)), ("b", 100 + 5 * sine(90, noise=0.3, seed=1))):
        days = np.datetime64("2020-01-01") + np.arange(len(values))
        rows += [
            f"{name},{day},{value:.4f},{number % 3},{number % 2}"
            for number, (day, value) in enumerate(zip(days, values, strict=True))
        ]
    return put(folder, "panel.csv", table("unique_id,ds,y,rain,promo", rows))


def prose(words: int = 900, seed: int = 0) -> str:
    """Lines of words."""
    chance = random.Random(seed)
    some = ["lorem", "ipsum", "dolor", "sit", "amet", "élan"]
    return "\n".join(" ".join(chance.choices(some, k=9)) for _ in range(words // 9)) + "\n"


def _prose(folder: Path) -> Path:
    return put(folder, "prose.txt", prose())


def _names(folder: Path) -> Path:
    chance = random.Random(0)
    return put(
        folder, "names.txt", "\n".join({"".join(chance.choices("aeioulmn", k=chance.randint(3, 8))) for _ in range(200)}) + "\n"
    )


def _sounds(folder: Path) -> Path:
    for number in range(20):
        kind = "high" if number % 2 else "low"
        put_sound(folder / "sounds" / kind / f"{number}.wav", 880 if kind == "high" else 220, phase=number)
    return folder / "sounds"


def put_sound(
    path: Path, tone: float, *, rate: int = 8000, channels: int = 1, seconds: float = 0.15, phase: float = 0.0
) -> Path:
    """A tone as a WAV file."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * tone * np.arange(int(rate * seconds)) / rate + phase)
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate)
    return path


CASES = [
    Case("classify_text", "classify", _reviews),
    Case("classify_characters", "classify", _reviews, {"tokens": "char", "class_weight": "balanced"}),
    Case("classify_numbers", "classify", _long, {"cell": "lstm"}),
    Case("classify_sound", "classify", _sounds),
    Case("tag_words", "tag", _tagged),
    Case("tag_numbers", "tag", _long_tags, {"cell": "rnn", "bidirectional": False}),
    Case("regress", "regress", _regress, {"task": "regress"}),
    Case("regress_steps", "regress", _long_numbers, {"task": "regress"}),
    Case("forecast", "forecast", _series, {"horizon": 6, "window": 24}),
    Case("forecast_panel", "forecast", _panel, {"horizon": 5, "window": 14, "past": "rain", "future": "promo"}),
    Case("lm_stream", "lm", _prose, {"documents": "file", "bptt": 16, "batch": 4}),
    Case("lm_lines", "lm", _names, {"documents": "line"}),
    Case("lm_pairs", "lm", _prose, {"documents": "file", "tokens": "bpe", "bpe_size": 300, "bptt": 16, "batch": 4}),
]
BY_NAME = {case.name: case for case in CASES}
