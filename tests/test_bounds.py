"""Not one byte is read or written outside what the kernels were given, and every element of a result is written.

Every operand lies at the very end (and, once more, at the very beginning) of pages of its own between two that nobody may
touch; what is only read cannot be written. A kernel that steps over dies on the spot, so all this runs in processes of its
own, ``python test_bounds.py COMMAND``: on NumPy and the native module alone, without torch, hence on the kernels' own threads.

Legend: T steps, B batch, I inputs, H hidden, P projected, N steps in all.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from throughtime import _native
from throughtime.cells import CELLS

from helpers import VARIANTS, Variant, alive

_CODE = {name: code for code, name in enumerate(CELLS)}
_DTYPES = {"f32": np.float32, "f64": np.float64}


# --- memory between guards

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_NONE, _READ, _PAGE = 0, mmap.PROT_READ, mmap.PAGESIZE


@dataclass
class Arena:
    """Arrays that touch a guard: at their end, or at their beginning."""

    at_end: bool
    regions: list[tuple[int, int]] = field(default_factory=list)

    def place(self, count: int, dtype: type) -> np.ndarray:
        """``count`` elements, every bit one: NaN, if they are floats."""
        size = int(count) * np.dtype(dtype).itemsize
        inner = -(-max(size, 1) // _PAGE) * _PAGE
        region = _libc.mmap(None, inner + 2 * _PAGE, _READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        assert region not in (None, 2**64 - 1), os.strerror(ctypes.get_errno())
        self.regions.append((region, inner + 2 * _PAGE))
        for guard in (region, region + _PAGE + inner):
            assert _libc.mprotect(guard, _PAGE, _NONE) == 0
        address = region + _PAGE + (inner - size if self.at_end else 0)
        array = np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype) if size else np.empty(0, dtype)
        array.view(np.uint8)[...] = 0xFF
        return array

    def holding(self, values: np.ndarray | None) -> np.ndarray | None:
        """A copy of ``values`` that can only be read."""
        if values is None:
            return None
        array = self.place(values.size, values.dtype.type)
        array[...] = values.ravel()
        if values.size:
            region, size = self.regions[-1]
            assert _libc.mprotect(region + _PAGE, size - 2 * _PAGE, _READ) == 0
        return array

    def release(self) -> None:
        for region, size in self.regions:
            _libc.munmap(region, size)


def address(array: np.ndarray | None) -> int:
    return 0 if array is None or not array.size else array.ctypes.data


# --- one case


@dataclass(frozen=True)
class Case:
    variant: Variant
    T: int
    B: int
    I: int
    H: int
    lengths: tuple[int, ...] | None = None
    layout: str = "padded"  # or batch_first, gaps (rows with something between them), packed
    reverse: bool = False
    bias: bool = True
    threads: int = 1

    def __str__(self) -> str:
        sizes = f"{self.variant} T={self.T} B={self.B} I={self.I} H={self.H} lengths={self.lengths} {self.layout}"
        return f"{sizes} reverse={self.reverse} bias={self.bias} threads={self.threads}"

    @property
    def P(self) -> int:  # noqa: N802
        return max(1, self.H - 2) if self.variant.projected else self.H

    @property
    def N(self) -> int:  # noqa: N802
        return sum(self.lengths) if self.lengths is not None else self.T * self.B

    def strides(self, width: int) -> tuple[int, int]:
        """From step to step and from row to row."""
        if self.layout == "gaps":
            return (self.B + 1) * (width + 3), width + 3
        return (width, self.T * width) if self.layout == "batch_first" else (self.B * width, width)

    def elements(self, width: int) -> np.ndarray:
        """[rows, width] where the rows of a sequence tensor lie; the last element is the last of its memory."""
        step, row = self.strides(width)
        if self.layout == "packed":
            starts = np.arange(self.N) * row
        else:
            starts = (np.arange(self.T)[:, None] * step + np.arange(self.B) * row).ravel()
        return starts[:, None] + np.arange(width)

    def read(self, rng: np.random.Generator, dtype: type, width: int) -> np.ndarray:
        """A sequence tensor's memory to be read: NaN on padding and in gaps."""
        where = self.elements(width)
        flat = np.full(where.max(initial=-1) + 1, np.nan, dtype)
        values = rng.standard_normal(where.shape)
        if self.lengths is not None and self.layout != "packed":
            values[~alive(list(self.lengths), self.T).ravel()] = np.nan
        flat[where] = values
        return flat


def results_of(case: Case, suffix: str, at_end: bool, listening: bool = True) -> dict[str, np.ndarray]:
    """Forward and backward of a case between guards; copies of all results, checked for what was left out or overwritten."""
    dtype, rng, arena = _DTYPES[suffix], np.random.default_rng(0), Arena(at_end)
    cell, tied = case.variant.cell, case.variant.tied
    T, B, I, H, P = case.T, case.B, case.I, case.H, case.P
    rows = len(cell.gates) * H

    def random(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(max(shape[-1], 1))).astype(dtype)

    per_step, between = ((), ()) if tied else ((T,), (max(T - 1, 0),))
    shapes = {"w_ih": (*per_step, rows, I), "w_hh": (*between, rows, P)}
    shapes |= {"b_ih": (*per_step, rows)} if case.bias else {}
    shapes |= {"b_hh": (rows,)} if case.bias and tied else {}
    shapes |= {"w_hr": (P, H)} if case.variant.projected else {}
    weights = {name: arena.holding(random(*shape)) for name, shape in shapes.items()}
    states = {"h0": (B, P)} if tied else {}
    states |= {"c0": (B, H)} if cell.has_cell_state else {}
    initial = {name: arena.holding(random(*shape)) for name, shape in states.items()}
    lengths = None if case.lengths is None else arena.holding(np.array(case.lengths, np.int64))
    x = arena.holding(case.read(rng, dtype, I))

    written: dict[str, np.ndarray] = {}

    def write(name: str, count: int, kind: type = dtype) -> int:
        written[name] = arena.place(count, kind)
        return address(written[name])

    def write_rows(name: str, width: int) -> tuple[int, int, int]:
        return write(name, case.elements(width).max(initial=-1) + 1), *case.strides(width)

    shared = (
        *(_CODE[cell.name], T, B, I, H, P, address(lengths), case.layout == "packed", case.reverse, not tied),
        *(case.threads, False, 0),
        *(address(weights.get(name)) for name in ("w_ih", "w_hh", "b_ih", "b_hh", "w_hr")),
        *(address(x), *case.strides(I)),
        *(address(initial.get(name)) for name in ("h0", "c0")),
    )
    width = getattr(_native, f"saved_width_{suffix}")(_CODE[cell.name], H, False)
    getattr(_native, f"forward_{suffix}")(
        *shared,
        *write_rows("output", P),
        write("h_n", B * P),
        write("c_n", B * H) if cell.has_cell_state else 0,
        write("saved", case.N * width),
    )
    output, saved = arena.holding(written["output"]), arena.holding(written["saved"])
    gradient = arena.holding(case.read(rng, dtype, P))
    into_h, into_c = arena.holding(random(B, P)), arena.holding(random(B, H)) if cell.has_cell_state else None
    getattr(_native, f"backward_{suffix}")(
        *shared,
        *(address(output), *case.strides(P), address(saved)),
        *(address(gradient), *case.strides(P), address(into_h), address(into_c)),
        *write_rows("d_x", I),
        write("d_h0", B * P) if tied else 0,
        write("d_c0", B * H) if cell.has_cell_state else 0,
        *(
            write(f"d_{name}", int(np.prod(shapes[name]))) if name in shapes else 0
            for name in ("w_ih", "w_hh", "b_ih", "b_hh", "w_hr")
        ),
        *(write_rows("delta", P) if listening else (0, 0, 0)),
        write("taps", len(cell.taps) * T * B, np.float64) if listening else 0,
        False,
    )
    found = {name: array.copy() for name, array in written.items()}
    arena.release()
    _check_written(case, found)
    return found


def _check_written(case: Case, found: dict[str, np.ndarray]) -> None:
    """Every element of a result is a number, and what lies between rows is as it was."""
    widths = {"output": case.P, "delta": case.P, "d_x": case.I}
    for name, array in found.items():
        inside = np.ones(array.size, bool)
        if name in widths:
            inside[...] = False
            inside[case.elements(widths[name])] = True
        elif name == "taps":  # NaN where there is no step; an untied network's first step transports nothing
            there = alive(list(case.lengths) if case.lengths is not None else [case.T] * case.B, case.T)
            there = np.broadcast_to(there, (len(case.variant.cell.taps), case.T, case.B)).copy()
            if not case.variant.tied and case.T:
                there[case.variant.cell.taps.index("u"), -1 if case.reverse else 0] = False
            inside = there.ravel()
        assert np.isfinite(array[inside]).all(), f"{name} is not all written, of {case}"
        # A tap of no step is a NaN that is written, whichever; elsewhere not a bit may have changed.
        untouched = np.isnan(array) if name == "taps" else array.view(f"u{array.itemsize}") == 256**array.itemsize - 1
        assert untouched[~inside].all(), f"{name} is written where it should not be, of {case}"


# --- the commands


def drawn_cases(count: int, dtype: str) -> list[Case]:
    """Awkward sizes at random, the same ones every time."""
    rng = np.random.default_rng(len(dtype) + count)
    cases = []
    for number in range(count):
        variant = VARIANTS[number % len(VARIANTS)]
        T, B = (int(rng.choice(sizes)) for sizes in ([1, 2, 3, 5, 11, 13, 40], [1, 1, 2, 3, 4, 5, 7, 11, 13]))
        I, H = (int(rng.choice([1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 47, 63, 65])) for _ in range(2))
        layout = str(rng.choice(["padded", "batch_first", "gaps", "packed"] if variant.tied else ["padded", "gaps"]))
        lengths = None
        if layout == "packed":
            lengths = tuple(sorted(rng.integers(1, T + 1, B).tolist(), reverse=True))
            T = lengths[0]
        elif variant.tied and rng.random() < 0.5:
            lengths = tuple(rng.integers(0, T + 1, B).tolist())
        reverse, bias = rng.random(2) < (0.5, 0.8)
        cases.append(Case(variant, T, B, I, H, lengths, layout, bool(reverse), bool(bias), int(rng.integers(1, 3))))
    return cases


def guards(isa: str, dtype: str) -> None:
    """Random cases between guards, at either end; where things lie changes no bit."""
    assert _native.set_isa(isa)
    for case in drawn_cases(440, dtype):
        print(case, flush=True)
        first, second = (results_of(case, dtype, at_end) for at_end in (True, False))
        for name, array in first.items():
            assert array.tobytes() == second[name].tobytes(), name


def nothing(isa: str, name: str) -> None:
    """No sequences, no steps, or no inputs at all: results are empty or zero, and nobody falls over."""
    assert _native.set_isa(isa)
    (variant,) = (v for v in VARIANTS if str(v) == name)
    for empty in "TBI" if variant.tied else "BI":  # untied weights for no steps would be no weights
        sizes = {"T": 5, "B": 3, "I": 2, "H": 5} | {empty: 0}
        zero_lengths = (0 if empty == "T" else sizes["T"],) * sizes["B"]
        cases = [Case(variant, **sizes)]
        cases += [Case(variant, **sizes, lengths=zero_lengths)] if variant.tied else []
        cases += [Case(variant, **sizes, lengths=(), layout="packed")] if variant.tied and empty == "B" else []
        for case in cases:
            print(case, flush=True)
            found = results_of(case, "f32", at_end=True)  # which says itself what was not written
            if empty in "TB":
                for gradient in (result for result in found if result.startswith(("d_w", "d_b"))):
                    assert (found[gradient] == 0).all(), f"{gradient} is not zero, of {case}"


def pool(isa: str) -> None:
    """The kernels' own threads, however many: the same bits, and a clean end while they sleep."""
    assert _native.set_isa(isa)
    assert _native.team() == "own", "this process should know nothing of OpenMP"
    variants = {str(variant): variant for variant in VARIANTS}
    cases = [Case(variants["lstm_projected"], 30, 7, 40, 70, (3, 30, 0, 29, 1, 17, 30), reverse=True)]
    cases += [Case(variants["gru"], 40, 1, 170, 140)]
    cases += [Case(variants["lstm"], 14, 1, 17, 192), Case(variants["gru"], 29, 1, 17, 256, (21,), reverse=True)]  # a team
    for case in cases:
        print(case, flush=True)
        wanted = [(1, True), *itertools.product((1, 2, 3, 4, 8, 2), (False,)), (4, True)]
        results = [results_of(replace(case, threads=n), "f32", True, listening) for n, listening in wanted]
        for result in results[1:]:
            for name, array in result.items():
                assert array.tobytes() == results[0][name].tobytes(), f"{name} of {case}"
    assert not os.path.exists("/proc/self/task") or len(os.listdir("/proc/self/task")) >= 4


def overrun() -> None:
    """One element too many."""
    array = Arena(at_end=True).place(3, np.float32)
    ctypes.memset(address(array), 0, 16)


COMMANDS = {"guards": guards, "nothing": nothing, "pool": pool, "overrun": overrun}


def in_a_process_of_its_own(*command: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment |= {"MALLOC_PERTURB_": "165"}  # scratch memory holds garbage, with glibc
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), *command], env=environment, capture_output=True, text=True, timeout=120
    )
    last = "".join(done.stdout.splitlines(keepends=True)[-1:])
    assert done.returncode == 0, f"{command} ended with {done.returncode} at {last}{done.stderr[-2000:]}"


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("isa", _native.isas())
def test_nothing_is_touched_that_was_not_given(isa: str, dtype: str) -> None:
    in_a_process_of_its_own("guards", isa, dtype)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_of_nothing_comes_nothing(variant: Variant) -> None:
    in_a_process_of_its_own("nothing", "auto", str(variant))


@pytest.mark.parametrize("isa", _native.isas())
def test_the_pool_of_threads_changes_no_bit(isa: str) -> None:
    in_a_process_of_its_own("pool", isa)


def test_the_guards_hold() -> None:
    with pytest.raises(AssertionError, match="ended with -11"):
        in_a_process_of_its_own("overrun")


if __name__ == "__main__":
    _native.keep_memory(0)  # what is used again would be no garbage
    COMMANDS[sys.argv[1]](*sys.argv[2:])
