"""The process of one peer: a command a line on stdin, what it gives a line on stdout, both JSON.

    python -m throughtime.bench.worker PEER

Between two commands it does nothing but wait, so that one peer at a time uses the machine.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import statistics
import sys
import timeit
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from throughtime.bench.cases import BOTH, Case
from throughtime.bench.peers import HELPERS, PEERS, Loaded

_WARM, _SAMPLE = 0.02, 0.03
"""Seconds of calls that do not count, since the processor has rested, and that a sample lasts at least."""
_TURNS, _FEWEST_TURNS = 0.15, 3
"""Seconds that two things take turns, and how often each has its turn at least."""


class Served:
    """What the process does when it is told to; every method is a command.

    Args:
        name: the peer.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._module = importlib.import_module(f"throughtime.bench.peers.{(PEERS | HELPERS)[name].module}")
        self._loaded: Loaded | None = None
        self._repeats: dict[str, int] = {}

    def load(self, case: dict[str, Any], arrays: str, answer: str) -> None:
        """Take up a case, its numbers from one file, and write its results to another."""
        self._loaded, self._repeats = None, {}
        self._loaded = self._load(case, arrays)
        save_file({name: np.ascontiguousarray(array) for name, array in self._loaded.answer().items()}, answer)

    def sample(self, work: str) -> float:
        """Seconds of a call: the mean of as many as fill a sample, after some that do not count."""
        assert self._loaded is not None
        call = self._loaded.works[work]
        seconds, spent = math.inf, 0.0
        while spent < _WARM:
            seconds = timeit.timeit(call, number=1)
            spent += seconds
        if work not in self._repeats:
            self._repeats[work] = max(1, math.ceil(_SAMPLE / seconds))
        return timeit.timeit(call, number=self._repeats[work]) / self._repeats[work]

    def cost(self, work: str, beside: str) -> float:
        """How many times as long one thing takes as another: the median of the ratios of neighbours.

        They take turns call by call, so that both meet the same machine: others may use it, and a few per cent are to be told.
        """
        assert self._loaded is not None
        calls = self._loaded.works[beside], self._loaded.works[work]
        ratios: list[float] = []
        spent = -_WARM
        while spent < _TURNS or len(ratios) < _FEWEST_TURNS:
            turn = len(ratios) % 2
            seconds = [timeit.timeit(calls[which], number=1) for which in (turn, 1 - turn)]
            if (spent := spent + sum(seconds)) > 0:
                ratios.append(seconds[1 - turn] / seconds[turn])
        return statistics.median(ratios)

    def stages(self) -> dict[str, float] | None:
        """Seconds of one forward and backward pass by stage, if the peer can tell."""
        assert self._loaded is not None
        return None if self._loaded.stages is None else self._loaded.stages()

    def growth(self, case: dict[str, Any], arrays: str) -> int:
        """Bytes by which resident memory rises at most in one forward and backward pass, after a short one.

        Linux alone: the peak is set back before, since making the inputs may have taken more than the pass will.
        """
        whole = Case.from_json(case)
        short = Case(whole.cell, 2, whole.B, whole.I, whole.H, whole.dtype)
        self._module.load(self._name, short, short.arrays()).works[BOTH]()
        call = self._load(case, arrays).works[BOTH]
        Path("/proc/self/clear_refs").write_text("5")
        before = _peak()
        call()
        return _peak() - before

    def ceiling(self, threads: int, f64: bool, seconds: float) -> float:
        """Floating-point operations a second of multiply-adds from registers."""
        from throughtime.ops import native

        return native.fma_ceiling(threads, seconds, f64=f64)

    def instruction_set(self) -> str:
        """The one that ThroughTime's kernels use."""
        from throughtime.ops import native

        return native.instruction_set()

    def _load(self, case: dict[str, Any], arrays: str) -> Loaded:
        loaded: Loaded = self._module.load(self._name, Case.from_json(case), load_file(arrays))
        return loaded


def _peak() -> int:
    """The most memory that was resident since the peak was set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Serve commands until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    served: Served | None = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            served = served or Served(sys.argv[1])
            answer = {"result": getattr(served, command.pop("do"))(**command)}
        except Exception as error:  # whatever goes wrong in a peer is told, and does not end the others
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
