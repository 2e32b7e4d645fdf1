"""The judge: the NumPy reference, in float64."""

from __future__ import annotations

from throughtime import reference
from throughtime.bench.cases import Arrays, Case
from throughtime.bench.peers import Loaded

_WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")


def load(name: str, case: Case, arrays: Arrays) -> Loaded:
    """The case, run when its answer is asked for."""

    def answer() -> Arrays:
        weights = reference.Weights(*(arrays[name] for name in _WEIGHTS))
        run = reference.forward(case.cell, arrays["x"], weights, lengths=case.lengths)
        found = reference.backward(run, arrays["gradient"])
        grads = {name: getattr(found.weights, name) for name in _WEIGHTS}
        return {"inference": run.output, "output": run.output, "x": found.x, **grads}

    return Loaded({}, answer)
