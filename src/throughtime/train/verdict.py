"""Whether a model beats the best simple method, or the difference may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.report import formats
from throughtime.tasks.base import BaselineScore, Metric
from throughtime.tasks.metrics import paired_interval

LEVEL = 0.95
FEWEST = 6
"""Pieces below which nothing can be told: even if one model is the better in each, that happens by chance more than once in 20
times (2 of 2^5 ways to toss five coins)."""


@dataclass(frozen=True)
class Verdict:
    """A model against the best of its baselines.

    Attributes:
        baseline: the one with the best score.
        score: its score.
        beats: whether the model is better by more than chance; ``False`` if it is worse by more than chance, ``None`` if they
            cannot be told apart.
        pieces: on how many pieces of data that is judged: groups, where the data has a group column.
        interval: of the mean difference of their errors, below 0 where the model is better; ``None`` with too few pieces.
        grouped: whether the pieces are groups.
    """

    baseline: str
    score: float
    beats: bool | None
    pieces: int
    interval: tuple[float, float] | None
    grouped: bool = False

    @property
    def words(self) -> str:
        """In a few words."""
        if self.beats is not None:
            return "the model beats it" if self.beats else "the model does not beat it"
        if self.interval is None:
            return "too little data to tell whether the model beats it"
        return "about the same: the difference may be chance"

    def as_json(self) -> dict[str, Any]:
        """For result.json, with how it was found."""
        each, pieces = "piece (sequence, document, or stretch of time)", "pieces"
        if self.grouped:
            each, pieces = "row, whole groups of rows being drawn", "groups"
        return {
            "baseline": self.baseline,
            "beats": self.beats,
            "pieces": self.pieces,
            "interval": None if self.interval is None else list(self.interval),
            "level": LEVEL,
            "how": f"paired bootstrap of the difference in error per {each}; told apart where the interval excludes 0, and "
            f"there are {FEWEST} {pieces} at least",
        }


def judged(
    errors: NDArray[np.float64],
    baselines: Sequence[BaselineScore],
    metric: Metric,
    groups: Sequence[str] | None = None,
) -> Verdict | None:
    """Hold a model against the best of its baselines.

    Args:
        errors: of the model, as :meth:`~throughtime.tasks.base.Task.errors` gives them.
        baselines: scored on the same part.
        metric: by which the best is found.
        groups: per error the group it belongs to (a speaker, an author), where errors of one group depend on each other: then
            groups are what is counted and drawn.

    Returns:
        ``None`` where no baseline has that metric.

    Example:
        >>> metric = Metric("accuracy", "accuracy", higher_is_better=True)
        >>> wrong = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
        >>> rival = BaselineScore("majority", "", 2, 0.0, {"accuracy": 0.125}, errors=wrong)
        >>> judged(np.zeros(8), [rival], metric).words
        'the model beats it'
        >>> judged(wrong[::-1], [rival], metric).words
        'about the same: the difference may be chance'
        >>> judged(np.zeros(8), [rival], metric, groups=["anna", "ben"] * 4).words
        'too little data to tell whether the model beats it'

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13, and chapter 8 for groups, as
        :func:`~throughtime.tasks.metrics.paired_interval` takes them.
    """
    rivals = [baseline for baseline in baselines if metric.name in baseline.scores]
    if not rivals:
        return None
    sign = -1 if metric.higher_is_better else 1
    best = min(rivals, key=lambda baseline: sign * baseline.scores[metric.name])
    assert best.errors is not None
    pieces, score, grouped = len(errors if groups is None else set(groups)), best.scores[metric.name], groups is not None
    if pieces < FEWEST:
        return Verdict(best.name, score, None, pieces, None, grouped)
    low, high = paired_interval(errors - best.errors, None if groups is None else list(groups), LEVEL)
    return Verdict(best.name, score, True if high < 0 else False if low > 0 else None, pieces, (low, high), grouped)


def headline(kind: str, metric: Metric, score: float, where: str, verdict: Verdict | None) -> str:
    """The result in a sentence.

    Args:
        kind: of the model.
        metric: it is judged by.
        score: of the model.
        where: what was scored.
        verdict: if there is one.

    Example:
        >>> metric = Metric("mase", "MASE", higher_is_better=False)
        >>> headline("GRU", metric, 0.6, "8 windows", Verdict("drift", 0.7, None, 5, None))
        'GRU: MASE 0.6000 on 8 windows; best baseline, drift: 0.7000; too little data to tell whether the model beats it.'
    """
    said = f"{kind}: {metric.label} {formats.plain(score)} on {where}"
    if verdict is None:
        return f"{said}."
    return f"{said}; best baseline, {verdict.baseline}: {formats.plain(verdict.score)}; {verdict.words}."
