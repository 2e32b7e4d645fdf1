"""A case compared: every peer's results against float64 first, then times of those that are right."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType

from safetensors.numpy import save_file

from throughtime.bench.cases import BESIDE, INFERENCE, KERNEL_BOTH, Arrays, Case, difference
from throughtime.bench.peers import COMPILED, OURS, REFERENCE, Peer, is_ours
from throughtime.bench.rounds import Sampled, run_rounds
from throughtime.bench.workers import PeerError, Worker

_CEILING = 0.02
"""Seconds of a sample of the ceiling."""
_CEILING_KEY = ("ceiling", "")


@dataclass
class Compared:
    """What was found of one case.

    Attributes:
        case: the case.
        tolerance: how far they might be off, see :meth:`Case.tolerance`.
        differences: how far they were, by peer.
        refused: why peers were not timed, or not to the end, by peer.
        seconds: of one call, by work and peer.
        costs: how many times as long something takes that ThroughTime alone can do as what is beside it, by work.
        ceiling: operations a second of multiply-adds from registers, measured in the same rounds; ``None`` without the kernels.
        stages: seconds of one forward and backward pass in ThroughTime's kernels by stage, of the thread that calls; empty
            where the kernels alone were not timed.
    """

    case: Case
    tolerance: float
    differences: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, dict[str, Sampled]] = field(default_factory=dict)
    costs: dict[str, Sampled] = field(default_factory=dict)
    ceiling: Sampled | None = None
    stages: dict[str, float] = field(default_factory=dict)

    def ours(self, work: str) -> float | None:
        """Seconds that ThroughTime takes."""
        return self.of(work, OURS)

    def of(self, work: str, peer: str) -> float | None:
        """Seconds that a peer takes; ``None`` where it was not timed."""
        sampled = self.seconds.get(work, {}).get(peer)
        return None if sampled is None else sampled.median

    def best(self, work: str) -> str | None:
        """The fastest of the others."""
        others = {peer: sampled.median for peer, sampled in self.seconds.get(work, {}).items() if not is_ours(peer)}
        return min(others, key=lambda peer: others[peer], default=None)

    def ratio(self, work: str) -> float | None:
        """Time of the fastest of the others over ours: above 1 ThroughTime is faster."""
        ours, best = self.ours(work), self.best(work)
        return None if ours is None or best is None else self.seconds[work][best].median / ours

    def share(self, work: str) -> float | None:
        """The part of the ceiling that ThroughTime reaches, matrix products alone counted."""
        ours = self.ours(work)
        return None if ours is None or self.ceiling is None else self.case.flops(work) / ours / self.ceiling.most


class Team:
    """The peers of some comparisons, each in its process.

    Args:
        peers: who is measured.
        threads: how many each may use.
        folder: for their files, of this run alone.
    """

    def __init__(self, peers: Sequence[Peer], threads: int, folder: Path) -> None:
        self.threads, self.folder = threads, folder
        self.workers = {peer.name: Worker(peer, threads, folder) for peer in peers}
        self.judge = Worker(REFERENCE, threads, folder)
        self._compiled: dict[str, tuple[int, float]] = {}

    def __enter__(self) -> Team:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in (*self.workers.values(), self.judge):
            worker.close()

    def compare(
        self, case: Case, works: Sequence[str], rounds: int, extra: Sequence[str] = (), costs: Sequence[str] = ()
    ) -> Compared:
        """Judge and time everyone on a case.

        Args:
            case: the case.
            works: what is timed of all peers that can.
            rounds: how often.
            extra: what is timed of ThroughTime alone.
            costs: what ThroughTime does in turns with something else.
        """
        arrays = self.folder / "arrays.safetensors"
        save_file(case.arrays(), arrays)
        found, expected = Compared(case, case.tolerance()), self.judge.load(case, arrays)
        samplers: dict[tuple[str, str], Callable[[], float]] = {}
        for name, worker in self.workers.items():
            try:
                check(found, worker.peer, self._results(worker, case, arrays), expected)
            except PeerError as error:
                found.refused[name] = str(error)
                continue
            own = extra if name == OURS else ()
            for work in (*works, *own):
                if worker.peer.trains or work == INFERENCE:
                    samplers[work, name] = partial(worker.sample, work)
        if OURS in self.workers and OURS not in found.refused:
            for work in costs:
                samplers[work, OURS] = partial(self.workers[OURS].cost, work, BESIDE[work])
            samplers[_CEILING_KEY] = partial(self.ceiling, self.threads, case.dtype == "float64")
        sampled, failed = run_rounds(samplers, rounds)
        found.refused |= {name: f"{work}: {why}" for (work, name), why in failed.items() if (work, name) != _CEILING_KEY}
        found.ceiling = sampled.pop(_CEILING_KEY, None)
        if (KERNEL_BOTH, OURS) in sampled:
            found.stages = self.workers[OURS].ask("stages") or {}
        found.costs = {work: sampled.pop((work, OURS)) for work in costs if (work, OURS) in sampled}
        for (work, name), times in sampled.items():
            found.seconds.setdefault(work, {})[name] = times
        return found

    def ceiling(self, threads: int, f64: bool) -> float:
        """One sample of the operations a second of multiply-adds from registers."""
        worker = self.workers[OURS]
        worker.rest()
        return float(worker.ask("ceiling", threads=threads, f64=f64, seconds=_CEILING))

    def _results(self, worker: Worker, case: Case, arrays: Path) -> Arrays:
        """A peer's results. The compiled loop grows with the steps: what would take longer than its limit is not tried."""
        if worker.peer.name != COMPILED:
            return worker.load(case, arrays)
        steps, seconds = self._compiled.get(case.cell, (1, 0.0))
        if seconds * case.T / steps >= worker.peer.limit:
            limit = worker.peer.limit
            raise PeerError(
                f"not tried: compiling {steps} steps took {seconds:.0f} s, so {case.T} take more than {limit:.0f} s"
            )
        start = time.perf_counter()
        try:
            return worker.load(case, arrays)
        finally:
            self._compiled[case.cell] = case.T, time.perf_counter() - start


def check(found: Compared, peer: Peer, results: Arrays, expected: Arrays) -> None:
    """Compare a peer's results with what is right.

    Raises:
        PeerError: they are not equal within the tolerance, or something is missing.
    """
    names = tuple(expected) if peer.trains else (INFERENCE,)
    absent = [name for name in names if name not in results]
    if absent:
        raise PeerError(f"wrong: gives no {', '.join(absent)}")
    off = {name: difference(results[name], expected[name]) for name in names}
    worst = max(off, key=lambda name: off[name])
    found.differences[peer.name] = off[worst]
    if not off[worst] <= found.tolerance:
        raise PeerError(
            f"wrong: {worst} differs from {REFERENCE.label} by {off[worst]:.1e} of its largest element, expected at most "
            f"{found.tolerance:.1e}"
        )
