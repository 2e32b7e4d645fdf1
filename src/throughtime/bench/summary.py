"""What the comparisons come to: means, losses, and a sentence for each thing that is measured on the side."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.bench.benchmark import Record
from throughtime.bench.cases import (
    BOTH,
    FULL,
    FULL_INFERENCE,
    INFERENCE,
    KERNEL_BOTH,
    MEASURED_CELLS,
    MEMORY_SIZE,
    PROBED,
    TAPPED,
    WORKS,
)
from throughtime.bench.comparison import Compared
from throughtime.bench.peers import HELPERS, OURS, PEERS, TORCH, VARIANTS
from throughtime.bench.rounds import geometric_mean
from throughtime.cells import CELLS

_STEADY = 1000
"""Steps from which on the cost of a call no longer counts beside that of its steps."""
_LARGE_B, _LARGE_H = 32, 128


@dataclass(frozen=True)
class Summary:
    """One cell at one kind of work, over all sizes.

    Attributes:
        cell: its name.
        work: what was timed.
        mean: the geometric mean of the ratios of the best of the others to ThroughTime.
        smallest: the smallest of them.
        where: the size of that.
        share: the least and the greatest part of the ceiling where B >= 32 and H >= 128; ``None`` without such sizes.
    """

    cell: str
    work: str
    mean: float
    smallest: float
    where: str
    share: tuple[float, float] | None


@dataclass(frozen=True)
class Explained:
    """Where the time of the kernels goes in one case, forward and back.

    Attributes:
        share: of the time, by stage.
        products: the part that the matrix products take.
        rate: of the ceiling, while they run; ``None`` without a ceiling.
        weights: bytes of the recurrent weights.
        read: bytes of them a second while the recurrent products run, in a batch of one; ``None`` in others.
        at_most: the ratio of the best of the others if ThroughTime took no time but that of its multiply-adds at the ceiling.
    """

    share: dict[str, float]
    products: float
    rate: float | None
    weights: int
    read: float | None
    at_most: float | None


_RECURRENT = ("recurrent product", "transported product")
_PRODUCTS = ("input product", *_RECURRENT, "weight gradients", "input gradient")


def explained(c: Compared) -> Explained | None:
    """Where the time of a case goes; ``None`` if it was not told."""
    total = sum(c.stages.values())
    if not total:
        return None
    case, products = c.case, sum(c.stages[stage] for stage in _PRODUCTS)
    weights = CELLS[case.cell].gate_count * case.H**2 * np.dtype(case.dtype).itemsize
    least = None if c.ceiling is None else case.flops(BOTH) / c.ceiling.most
    best = c.best(BOTH)
    theirs = None if best is None else c.of(BOTH, best)
    return Explained(
        share={stage: seconds / total for stage, seconds in c.stages.items()},
        products=products / total,
        rate=None if least is None else least / products,
        weights=weights,
        read=2 * case.T * weights / sum(c.stages[stage] for stage in _RECURRENT) if case.B == 1 else None,
        at_most=None if least is None or theirs is None else theirs / least,
    )


def short(cell: str) -> str:
    """What people call a cell.

    Example:
        >>> short("rnn_tanh")
        'RNN'
    """
    return CELLS[cell].kind.upper()


def label(peer: str) -> str:
    """What people call a peer."""
    return (PEERS | HELPERS)[peer].label


def summaries(compared: Sequence[Compared]) -> list[Summary]:
    """A summary for each work and cell that has ratios."""
    found = []
    for work in WORKS:
        for cell in MEASURED_CELLS:
            of_cell = [c for c in compared if c.case.cell == cell]
            ratios = [(ratio, c.case.size) for c in of_cell if (ratio := c.ratio(work)) is not None]
            shares = [
                share for c in of_cell if c.case.B >= _LARGE_B and c.case.H >= _LARGE_H and (share := c.share(work)) is not None
            ]
            if ratios:
                smallest, where = min(ratios)
                mean = geometric_mean(ratio for ratio, _ in ratios)
                found.append(Summary(cell, work, mean, smallest, where, (min(shares), max(shares)) if shares else None))
    return found


def losses(compared: Sequence[Compared]) -> list[str]:
    """Where ThroughTime is slower than somebody, and where it was not timed."""
    found = []
    for c in compared:
        place = f"{short(c.case.cell)} {c.case.size}"
        for work in WORKS:
            ratio, best = c.ratio(work), c.best(work)
            if ratio is not None and best is not None and ratio < 1:
                found.append(f"{place}, {work}: {label(best)} takes {ratio:.2f} of ThroughTime's time")
        if OURS in c.refused:
            found.append(f"{place}: ThroughTime: {c.refused[OURS]}")
    return found


def refusals(record: Record) -> list[str]:
    """Who was not measured, and why: as a whole, and in single comparisons."""
    found = [f"{label(peer)}: {why}" for peer, why in record.missing.items()]
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, compared in record.sections.items():
        for c in compared:
            for peer, why in c.refused.items():
                place = f"{short(c.case.cell)} {c.case.size}" + ("" if name == "main" else f" ({name})")
                reasons.setdefault((peer, why), []).append(place)
    return found + [f"{label(peer)}: {why}: {'; '.join(places)}" for (peer, why), places in reasons.items()]


def sides(record: Record) -> list[str]:
    """A sentence for each thing that was measured beside the main comparison."""
    sections, found = record.sections, []
    for name, what in (("one thread", "One thread"), ("float64", "float64")):
        if means := [s for s in summaries(sections.get(name, [])) if s.work == BOTH]:
            told = ", ".join(f"{short(s.cell)} {s.mean:.2f} (smallest {s.smallest:.2f})" for s in means)
            found.append(f"{what}, ratio of the best of the others (torch.compile left out), geometric means: {told}.")
    for variant in VARIANTS:
        if slower := relative(sections.get("variants", []), (BOTH, variant.name), (BOTH, OURS)):
            found.append(f"{variant.label} takes, times as long as it comes (with {record.instruction_set}): {_told(slower)}.")
    if slopes := slope(sections.get("T", [])):
        example = sections["T"][0].case
        found.append(
            f"Time grows with T to the power (from {_STEADY} steps on, B, I, H {example.B}, {example.I}, {example.H}): "
            f"{_told(slopes)}."
        )
    found += _ragged(sections.get("ragged", []))
    for work, what in ((TAPPED, "Recording the gradient"), (PROBED, "Recording with the probe")):
        costs: dict[str, list[float]] = {}
        for c in sections["main"]:
            if work in c.costs:
                costs.setdefault(c.case.cell, []).append(c.costs[work].median)
        if costs:
            told = ", ".join(
                f"{short(cell)} {geometric_mean(ratios) - 1:+.1%} (most {max(ratios) - 1:+.1%})"
                for cell, ratios in costs.items()
            )
            found.append(
                f"{what} changes the time of a step, in turns with steps that are not, by (geometric means over the "
                f"sizes): {told}."
            )
    for cell, grown in record.memory.items():
        told = ", ".join(f"{label(peer)} {size / 2**20:,.0f} MiB" for peer, size in grown.items())
        size = ", ".join(map(str, MEMORY_SIZE))
        found.append(f"What a training step adds to memory at its peak, {short(cell)} at T, B, I, H {size}: {told}.")
    for c in sections.get("wrapper", []):
        module, kernel, theirs = c.ours(BOTH), c.ours(KERNEL_BOTH), c.of(BOTH, TORCH)
        if module is not None and kernel is not None and theirs is not None:
            found.append(
                f"{short(c.case.cell)} at T, B, I, H {c.case.size}, forward+backward: {module * 1e6:.0f} microseconds, "
                f"{kernel * 1e6:.0f} of them in the two kernel calls; torch.nn {theirs * 1e6:.0f}."
            )
    return found


def slope(compared: Sequence[Compared]) -> dict[str, float]:
    """The slope of log time against log T by cell, from so many steps on that a call's own cost no longer counts."""
    points: dict[str, list[tuple[float, float]]] = {}
    for c in compared:
        seconds = c.ours(BOTH)
        if c.case.T >= _STEADY and seconds is not None:
            points.setdefault(c.case.cell, []).append((math.log(c.case.T), math.log(seconds)))
    return {
        cell: statistics.linear_regression(*zip(*of_cell, strict=True)).slope
        for cell, of_cell in points.items()
        if len(of_cell) > 1
    }


def relative(compared: Sequence[Compared], above: tuple[str, str], below: tuple[str, str]) -> dict[str, float]:
    """How many times as long one thing takes as another: geometric means over the sizes, by cell.

    Args:
        compared: where both were timed.
        above: its work and peer.
        below: likewise.
    """
    ratios: dict[str, list[float]] = {}
    for c in compared:
        longer, shorter = c.of(*above), c.of(*below)
        if longer is not None and shorter is not None:
            ratios.setdefault(c.case.cell, []).append(longer / shorter)
    return {cell: geometric_mean(values) for cell, values in ratios.items()}


def _ragged(ragged: Sequence[Compared]) -> list[str]:
    """The cost of a true step against that of a batch without padding, and torch's packed sequences."""
    found = []
    for work, full in ((BOTH, FULL), (INFERENCE, FULL_INFERENCE)):
        steps = {c.case.cell: c.case.T * c.case.B / c.case.steps / c.costs[full].median for c in ragged if full in c.costs}
        packed = {s.cell: s.mean for s in summaries(ragged) if s.work == work}
        if steps:
            case = ragged[0].case
            lengths = case.lengths or ()
            found.append(
                f"Ragged ({case.B} sequences of {min(lengths)} to {max(lengths)} steps, I {case.I}, H {case.H}), {work}: a "
                f"true step costs, times that of a full batch, in turns: {_told(steps)}; torch's PackedSequence takes, times "
                f"as long as ThroughTime: {_told(packed)}."
            )
    return found


def _told(values: dict[str, float]) -> str:
    return ", ".join(f"{short(cell)} {value:.2f}" for cell, value in values.items())
