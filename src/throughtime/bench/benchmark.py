"""The benchmark as a whole: which comparisons it is made of, and the record of what they found."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from throughtime.bench import machine
from throughtime.bench.cases import (
    BOTH,
    FULL,
    FULL_INFERENCE,
    INFERENCE,
    KERNEL_BOTH,
    KERNEL_FORWARD,
    MEMORY_SIZE,
    PROBED,
    QUICK_SIZES,
    SIZES,
    TAPPED,
    WORKS,
    Case,
    Size,
    every_cell,
)
from throughtime.bench.comparison import Compared, Team
from throughtime.bench.peers import COMPILED, JAX, OURS, PEERS, SHIM, TORCH, VARIANTS, Peer, missing
from throughtime.bench.rounds import Sampled, run_rounds
from throughtime.bench.workers import Worker
from throughtime.errors import NotServedError

QUICK_ROUNDS = 3
_ASIDE_ROUNDS = 3
"""Rounds of what is measured beside the main comparison, at most."""
_MEMORY_RUNS = 3

Told = Callable[[str, float], None]
"""Is told what is measured now, and what part of all is done."""


@dataclass
class Record:
    """All that a run found.

    Attributes:
        date: the day, UTC.
        machine: see :func:`throughtime.bench.machine.described`.
        versions: of what was measured.
        threads: of every peer.
        rounds: of the main comparison.
        quick: whether it is the short run.
        peers: the names of those that were measured.
        missing: who was not, and why.
        instruction_set: that of ThroughTime's kernels; empty without them.
        ceilings: float32 multiply-adds from registers, operations a second, by number of threads.
        sections: comparisons by name; ``main`` is always there.
        memory: bytes by which a training step raises the peak of resident memory, by cell and peer.
    """

    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    threads: int
    rounds: int
    quick: bool
    peers: list[str]
    missing: dict[str, str]
    instruction_set: str = ""
    ceilings: dict[int, Sampled] = field(default_factory=dict)
    sections: dict[str, list[Compared]] = field(default_factory=dict)
    memory: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """Comparisons that belong together.

    Attributes:
        name: in the record; two sections of one name are recorded as one.
        cases: what is compared.
        threads: of every peer.
        peers: names of those that take part, as far as they are not missing; ``None`` is all.
        works: what is timed of all.
        extra: what is timed of ThroughTime alone.
        costs: what ThroughTime does in turns with something else, see :data:`~throughtime.bench.cases.BESIDE`.
    """

    name: str
    cases: Sequence[Case]
    threads: int
    peers: tuple[str, ...] | None = None
    works: tuple[str, ...] = (BOTH,)
    extra: tuple[str, ...] = ()
    costs: tuple[str, ...] = ()


def sections(threads: int, quick: bool, sizes: Sequence[Size] | None = None) -> list[Section]:
    """What is compared, the main comparison first.

    Args:
        threads: of every peer.
        quick: only a small main comparison.
        sizes: T, B, I, H in place of those of the main comparison.

    Example:
        >>> [section.name for section in sections(2, quick=True)]
        ['main']
    """
    main = every_cell(sizes or (QUICK_SIZES if quick else SIZES))
    if quick:
        return [Section("main", main, threads, works=WORKS)]
    ragged = tuple(np.random.default_rng(0).permutation(np.linspace(10, 500, 64).round().astype(int)).tolist())
    eager = (OURS, TORCH, SHIM)
    return [
        Section("main", main, threads, works=WORKS, extra=(KERNEL_FORWARD, KERNEL_BOTH), costs=(TAPPED, PROBED)),
        Section("one thread", main, 1, (*eager, JAX)),
        Section("float64", every_cell(sizes or SIZES, dtype="float64"), threads, (*eager, JAX)),
        Section("variants", main, threads, (OURS, *(peer.name for peer in VARIANTS))),
        Section("H", every_cell([(100, 32, H, H) for H in (8, 16, 32, 64, 128, 256, 512, 1024)]), threads, (*eager, JAX)),
        Section("T", every_cell([(T, 1, 64, 64) for T in (10, 100, 1000, 10_000)]), threads, (*eager, JAX)),
        # torch.nn's GRU would take a quarter of a minute for one call.
        Section("T", every_cell([(100_000, 1, 64, 64)]), threads, (OURS, JAX)),
        Section(
            "ragged",
            every_cell([(500, 64, 128, 128)], lengths=ragged),
            threads,
            eager,
            (BOTH, INFERENCE),
            costs=(FULL, FULL_INFERENCE),
        ),
        Section("wrapper", every_cell([(1, 1, 1, 1)]), threads, (OURS, TORCH), WORKS, (KERNEL_FORWARD, KERNEL_BOTH)),
    ]


def run(
    *,
    threads: int,
    rounds: int,
    quick: bool,
    peers: Sequence[Peer],
    told: Told,
    sizes: Sequence[Size] | None = None,
) -> Record:
    """Measure.

    Args:
        threads: of every peer.
        rounds: of the main comparison, two at least.
        quick: the short run.
        peers: who takes part, see :func:`throughtime.bench.peers.chosen`.
        told: is told how it goes.
        sizes: T, B, I, H in place of those of the main comparison.

    Raises:
        NotServedError: ThroughTime itself cannot be measured.
        PeerError: the process that judges does not work.
    """
    absent = {peer.name: why for peer in peers if (why := missing(peer)) is not None}
    if quick and COMPILED not in absent and any(peer.name == COMPILED for peer in peers):
        absent[COMPILED] = "left out of the quick run: it compiles for minutes"
    if OURS in absent:
        raise NotServedError(f"nothing to measure: {absent[OURS]}; pip install 'throughtime[train]' brings it")
    there = [peer for peer in peers if peer.name not in absent]
    parts = sections(threads, quick, sizes)
    count = sum(len(part.cases) for part in parts)
    record = Record(
        date=datetime.now(timezone.utc).date().isoformat(),
        machine=machine.described(),
        versions=machine.versions(dict.fromkeys(package for peer in there for package in peer.imports)),
        threads=threads,
        rounds=rounds,
        quick=quick,
        peers=[peer.name for peer in there],
        missing=absent,
    )
    with tempfile.TemporaryDirectory() as name:
        folder, done = Path(name), 0
        for part in parts:
            with Team(_of(part, there), part.threads, folder) as team:
                if not record.ceilings:
                    told("the ceiling", 0.0)
                    record.instruction_set = team.workers[OURS].ask("instruction_set")
                    record.ceilings = run_rounds({n: partial(team.ceiling, n, False) for n in (1, threads)}, rounds)[0]
                for case in part.cases:
                    told(f"{part.name}: {case.cell} {case.size}", done / count)
                    times = rounds if part.name == "main" else min(rounds, _ASIDE_ROUNDS)
                    compared = team.compare(case, part.works, times, part.extra, part.costs)
                    record.sections.setdefault(part.name, []).append(compared)
                    done += 1
        if not quick and sys.platform == "linux":
            told("memory", 1.0)
            record.memory = memory(threads, folder)
    return record


def memory(threads: int, folder: Path, size: Size = MEMORY_SIZE) -> dict[str, dict[str, int]]:
    """Bytes by which a training step raises the peak of resident memory, by cell and peer: the least of some processes."""
    found: dict[str, dict[str, int]] = {}
    arrays = folder / "memory.safetensors"
    for case in every_cell([size]):
        save_file(case.arrays(), arrays)
        for peer in (PEERS[OURS], *VARIANTS[1:], PEERS[TORCH]):
            grown = []
            for _ in range(_MEMORY_RUNS):
                with Worker(peer, threads, folder) as worker:
                    grown.append(worker.ask("growth", case=case.as_json(), arrays=str(arrays)))
            found.setdefault(case.cell, {})[peer.name] = min(grown)
    return found


def _of(part: Section, there: Sequence[Peer]) -> list[Peer]:
    """Those of a section."""
    if part.peers is None:
        return list(there)
    return [peer for peer in (*there, *VARIANTS) if peer.name in part.peers]
