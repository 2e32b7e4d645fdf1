"""Compare the kernels with the NumPy oracle on random problems, for as long as is asked.

    python tools/fuzz.py [--minutes 10] [--seed 0]

Every problem draws its cell, dtype, sizes, layout of memory, lengths, direction, instruction set, number of threads and what
is kept for the way back; outputs, states, every gradient and every squared norm must agree as closely as in the tests. The
first one that does not is printed with its seed, and repeated by ``--seed N --minutes 0``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from throughtime.ops import native

from helpers import VARIANTS
from native_cases import Case, actual_of, assert_agrees, changed, drawn, expected_of, problem_of, said_of

SENSITIVE = "too sensitive for the tolerance of float32, and as close as rounding lets be"


def _response(case: Case, rng: np.random.Generator) -> dict[str, float]:
    """Ten times what changes of a unit in the last place of everything given change in what the oracle says."""
    unit, expected = float(np.finfo(np.float32).eps), expected_of(case)
    found = dict.fromkeys(expected, 0.0)
    for _ in range(3):
        near = changed(problem_of(case), lambda array: array * (1 + unit * rng.uniform(-1, 1, array.shape)))
        for name, values in said_of(case, near).items():
            found[name] = max(found[name], 10 * float(np.nanmax(np.abs(values - expected[name]), initial=0.0)))
    return found


def one(seed: int) -> str:
    """Run one problem; what it was."""
    rng = np.random.default_rng([20261123, seed])
    variant = VARIANTS[rng.integers(len(VARIANTS))]
    dtype = [torch.float64, torch.float32][rng.integers(2)]
    # Mostly small, sometimes beyond what one thread, one tile or one vector takes.
    steps, batch, hidden = (
        int(np.ceil(2 ** rng.uniform(0, most)))
        for most in ([(5, 4, 5), (7, 2, 7), (3, 7, 6), (8, 5, 4), (4, 3, 9)][rng.integers(5)])
    )
    if variant.cell.nonlinearity == "relu":
        dtype = torch.float64  # a pre-activation within rounding of zero has either slope, and float32 has many such
    if variant.cell.nonlinearity in ("identity", "relu"):
        steps = min(steps, 32)  # what nothing bounds can grow for longer than float32 holds on to, in any order of sums
    case = drawn(variant, dtype, steps, batch, max(hidden, 2), seed)
    isa = str(rng.choice(native.instruction_sets()))
    threads = int(rng.integers(1, 6))
    keep = str(rng.choice(["gates", "states", "checkpoints"])) if variant.tied else "gates"
    told = f"seed {seed}: {isa}, {threads} threads, keeps {keep}, {case}"
    native.set_instruction_set(isa)
    native.set_num_threads(threads)
    try:
        found = actual_of(case, keep=keep)
        if rng.random() < 0.3:  # unheard, single sequences go another way: their units are shared out among threads
            found |= actual_of(case, keep=keep, listening=False)
        # The tests' tolerance is for some 30 steps and products of 100 terms; these have up to 256 and 512.
        try:
            assert_agrees(case, found, growth=4)
        except AssertionError:
            if dtype == torch.float64:
                raise
            # A recurrence can double an error at every step. The oracle is then as far off, once its numbers are rounded anew.
            assert_agrees(case, found, growth=4, slack=_response(case, rng))
            return SENSITIVE
    except AssertionError as error:
        raise SystemExit(f"{error}\n\nthis was {told}") from None
    finally:
        native.set_instruction_set("auto")
        native.set_num_threads(None)
        problem_of.cache_clear()
        expected_of.cache_clear()
    return f"{variant}, {dtype}, {isa}"


def main() -> None:
    """Go on until the time is over or something disagrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first problem")
    options = parser.parse_args()
    began = time.monotonic()
    met: Counter[str] = Counter()
    seed = options.seed
    while True:
        met[one(seed)] += 1
        seed += 1
        if time.monotonic() - began >= 60 * options.minutes:
            break
    sensitive = met.pop(SENSITIVE, 0)
    print(
        f"{sum(met.values())} problems agreed with the oracle, {len(met)} kinds of cell, dtype and instruction set; "
        f"{sensitive} more were {SENSITIVE}"
    )


if __name__ == "__main__":
    main()
