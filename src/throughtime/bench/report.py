"""A record as files: JSON with every number, and Markdown with the summary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from throughtime.bench.benchmark import Record
from throughtime.bench.cases import KERNEL_BOTH, KERNEL_FORWARD, MEASURED_CELLS, WORKS
from throughtime.bench.comparison import Compared
from throughtime.bench.peers import REFERENCE
from throughtime.bench.plot import draw
from throughtime.bench.summary import explained, label, losses, refusals, short, sides, summaries
from throughtime.report.formats import number
from throughtime.store import write_bytes, write_json

FORMAT_VERSION = 1


def write(record: Record, folder: Path) -> list[Path]:
    """Write ``speed.json``, ``speed.md`` and ``speed.svg`` into a folder, which is made if need be.

    Raises:
        RunError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"speed.{ending}" for ending in ("json", "md", "svg")]
    write_json(files[0], as_json(record))
    write_bytes(files[1], markdown(record).encode())
    write_bytes(files[2], draw(record))
    return files


def as_json(record: Record) -> dict[str, Any]:
    """Every number: all samples, and what follows from them."""
    found = {name: value for name, value in vars(record).items() if name != "sections"}
    return found | {
        "format_version": FORMAT_VERSION,
        "peers": {peer: label(peer) for peer in record.peers},
        "judge": REFERENCE.label,
        "ceilings": {str(threads): asdict(sampled) for threads, sampled in record.ceilings.items()},
        "summary": [asdict(summary) for summary in summaries(record.sections["main"])],
        "losses": losses(record.sections["main"]),
        "beside": sides(record),
        "sections": {name: [_case(c) for c in compared] for name, compared in record.sections.items()},
    }


def _case(c: Compared) -> dict[str, Any]:
    return {
        "case": c.case.as_json(),
        "tolerance": c.tolerance,
        # A result of another shape, or with NaN in it, is infinitely wrong, which JSON has no number for.
        "differences": {peer: off if math.isfinite(off) else None for peer, off in c.differences.items()},
        "refused": c.refused,
        "ceiling": None if c.ceiling is None else asdict(c.ceiling),
        "stages": c.stages,
        "costs": {work: asdict(sampled) for work, sampled in c.costs.items()},
        "works": {
            work: {
                "seconds": {peer: asdict(sampled) for peer, sampled in times.items()},
                "best_of_the_others": c.best(work),
                "ratio": c.ratio(work),
                "share_of_ceiling": c.share(work),
            }
            for work, times in c.seconds.items()
        },
    }


def headline(record: Record) -> str:
    """Where and how it was measured, in a paragraph."""
    machine = record.machine
    parts = (f"{machine['cores']} cores", *(f"{name} {size}" for name, size in machine.get("caches", {}).items()))
    ceilings = ", ".join(f"{s.most / 1e9:.0f} GFLOP/s on {_threads(n)}" for n, s in record.ceilings.items())
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return (
        f"{record.date}, {machine['processor']}, {', '.join(parts)}, {machine['system']}, "
        f"{record.instruction_set}; {versions}. float32, {_threads(record.threads)}, medians of {record.rounds} rounds in "
        f"turning order, every peer in a process of its own, outputs and gradients judged first by {REFERENCE.label}. "
        f"Multiply-adds from registers, measured in the same run, the most of its rounds: {ceilings}."
    )


def _against(c: Compared, work: str) -> tuple[str, str, str]:
    """Our milliseconds, the best of the others with its name, and the ratio."""
    ours, best, ratio = c.ours(work), c.best(work), c.ratio(work)
    theirs = "none" if best is None else f"{milliseconds(c.of(work, best))} ({label(best)})"
    return milliseconds(ours), theirs, "-" if ratio is None else f"{ratio:.2f}{' slower' * (ratio < 1)}"


def milliseconds(seconds: float | None) -> str:
    """A time."""
    return "-" if seconds is None else number(seconds * 1e3, 3)


def percent(share: float | None) -> str:
    """A part of the ceiling."""
    return "-" if share is None else f"{share:.0%}"


def markdown(record: Record) -> str:
    """The summary that people read: wins and losses alike."""
    main = record.sections["main"]
    lines = [
        "# Speed",
        "",
        headline(record),
        "",
        "A ratio is the time of the best of the others over ThroughTime's: above 1 ThroughTime is faster.",
    ]
    lines += ["", "![Time against size, all peers](speed.svg)", ""]
    rows = [
        [short(s.cell), s.work, f"{s.mean:.2f}", f"{s.smallest:.2f} at {s.where}", _shares(s.share)] for s in summaries(main)
    ]
    lines += _table(["cell", "work", "geometric mean", "smallest ratio", "of the ceiling, B >= 32 and H >= 128"], rows)
    for work in WORKS:
        rows = []
        for c in main:
            if work in c.seconds:
                rows.append([short(c.case.cell), c.case.size, *_against(c, work), percent(c.share(work)), _spread(c, work)])
        if rows:
            heading = [
                "cell",
                "T, B, I, H",
                "ThroughTime, ms",
                "best of the others, ms",
                "ratio",
                "of the ceiling",
                "largest spread",
            ]
            lines += ["", f"## {work.capitalize()}", "", *_table(heading, rows)]
    lines += _kernels(main)
    lines += _explained(main)
    lines += ["", "## Where ThroughTime is slower", "", *_list(losses(main) or ["Nowhere in this run."])]
    if told := sides(record):
        lines += ["", "## Measured beside", "", *_list(told)]
    if told := refusals(record):
        lines += ["", "## Not measured", "", *_list(told)]
    return "\n".join(lines) + "\n"


def _kernels(main: Sequence[Compared]) -> list[str]:
    """Microseconds a step of all the batch in the kernels alone."""
    rows: dict[str, list[str]] = {}
    for c in main:
        if KERNEL_BOTH in c.seconds:
            times = (c.ours(work) for work in (KERNEL_FORWARD, KERNEL_BOTH))
            rows.setdefault(c.case.size, [c.case.size]).append(
                " / ".join(milliseconds(None if t is None else t * 1e3 / c.case.T) for t in times)
            )
    if not rows:
        return []
    title = "## The kernels alone, without module and autograd: microseconds a step, forward / forward+backward"
    return ["", title, "", *_table(["T, B, I, H", *map(short, MEASURED_CELLS)], list(rows.values()))]


def _explained(main: Sequence[Compared]) -> list[str]:
    """What binds: where the time of the kernels goes, how near to the ceiling the products are, how fast weights are read."""
    rows = []
    for c in main:
        if where := explained(c):
            rest = [f"{where.share[stage]:.0%}" for stage in ("pointwise", "moving", "preparing", "waiting")]
            read = "-" if where.read is None else f"{where.weights / 1024:.0f} KiB at {where.read / 1e9:.0f} GB/s"
            best = "-" if where.at_most is None else f"{where.at_most:.2f}"
            rows.append([short(c.case.cell), c.case.size, f"{where.products:.0%}", percent(where.rate), *rest, read, best])
    if not rows:
        return []
    heading = ["cell", "T, B, I, H", "products", "their part of the ceiling", "pointwise", "moving", "preparing", "waiting"]
    heading += ["recurrent weights read", "ratio if all ran at the ceiling"]
    said = (
        "Parts of the time of a forward and a backward pass in the kernels, by the clock of the calling thread. Products: of "
        "inputs, states, gradients and weights. Moving: rows from place to place. Preparing: packing the weights. A batch of "
        "one reads the recurrent weights anew at every step, forward and back. The last column is what the ratio of "
        "forward+backward would be if ThroughTime's multiply-adds ran at the ceiling and all else took no time: no more can be "
        "had."
    )
    return ["", "## Where the time goes", "", said, "", *_table(heading, rows)]


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _spread(c: Compared, work: str) -> str:
    return f"{max(sampled.spread for sampled in c.seconds[work].values()):.0%}"


def _shares(share: tuple[float, float] | None) -> str:
    return "-" if share is None else f"{share[0]:.0%} to {share[1]:.0%}"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (heading, ["---"] * len(heading), *rows)]


def _list(lines: Sequence[str]) -> list[str]:
    return [f"- {line}" for line in lines]
