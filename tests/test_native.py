"""The native kernels against the oracle: every variant, instruction set and remainder; the same bits whatever else is asked.

Legend: T steps, B batch, I inputs, H hidden, P projected, N steps in all. Memory is filled with NaN before every call, fresh
results and scratch alike, and so is the padding of what goes in: what is not written, or read where it should not be, shows.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

import throughtime as tt
from throughtime.cells import CELLS
from throughtime.ops import native
from throughtime.ops.native import Gradients, LayerWeights, Layout
from throughtime.reference import probe

import native_cases
from helpers import TIED, VARIANTS, Variant, run
from native_cases import (
    TOLERANCE,
    Case,
    actual_of,
    arguments,
    assert_agrees,
    drawn,
    everything,
    expected_of,
    gradients_in,
    problem_of,
    tensor,
)

DTYPES = [torch.float64, torch.float32]
ISAS = native.instruction_sets()


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.instruction_set()
    native.set_instruction_set(request.param)
    yield request.param
    native.set_instruction_set(before)


@pytest.fixture(autouse=True)
def _nan_in_fresh_memory() -> Iterator[None]:
    """All bits one in what malloc hands out: NaN in any float, -1 in any integer. (glibc; elsewhere the fixture is idle.)"""
    mallopt, perturb = getattr(ctypes.CDLL(None), "mallopt", None), -6
    if mallopt is not None:
        mallopt(perturb, 0x100)  # the complement of its low byte is what memory is filled with
    native._native.keep_memory(0)  # what is used again would not be filled
    yield
    native._native.keep_memory(KEPT)
    if mallopt is not None:
        mallopt(perturb, 0)


KEPT = 128 * 2**20
"""What the kernels keep for the next call, unless told otherwise."""


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    yield
    native.set_num_threads(None)


def test_there_are_kernels_and_memory_is_spoilt_for_them() -> None:
    assert native.missing() == ""
    assert "baseline" in ISAS  # else what follows would be parametrised over nothing
    if hasattr(ctypes.CDLL(None), "mallopt"):
        assert torch.empty(5000).isnan().all()


# --- against the oracle


BATCH_AND_STEPS = [(B, T) for B in range(1, 15) for T in (1, 2, 11, 12, 13)]  # as many as there are H from 1 to 70


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_remainder_agrees_with_the_reference(variant: Variant, dtype: torch.dtype, isa: str) -> None:
    # H from 1 to 70 goes around every vector (2 to 16 elements), panel (4 to 64) and padded row; B around the tiles of 6 and
    # 4 rows; B * T and the lengths around the 12 steps from which weights are packed. Every pair is one of a shuffled deck.
    deck = np.random.default_rng(VARIANTS.index(variant)).permutation(BATCH_AND_STEPS).tolist()
    for H, (B, T) in enumerate(deck, start=1):
        if not (variant.projected and H == 1):
            case = drawn(variant, dtype, T, B, H, seed=1)
            assert_agrees(case, actual_of(case))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["rnn_tanh", "gru", "lstm"])
def test_one_sequence_alone_agrees_with_the_reference(name: str, dtype: torch.dtype, isa: str) -> None:
    # A batch of one takes kernels of its own, with the sums split up and the panels turned round at every other step.
    for H in [*range(1, 20), 24, 31, 32, 33, 47, 48, 49, 63, 64, 65, 70, 127, 129]:
        case = Case(Variant(CELLS[name]), dtype, 13, 1, H, H % 7 + 1, reverse=H % 2 == 0, seed=H)
        assert_agrees(case, actual_of(case))


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("variant", TIED, ids=str)
def test_around_the_number_of_steps_worth_packing(variant: Variant, layout: str, isa: str) -> None:
    for lengths in [(5, 3, 2), (5, 3, 3), (5, 4, 3), (6, 4, 3), (11,), (12,)]:  # 10, 11, 12, 13 and alone
        case = Case(variant, torch.float64, lengths[0], len(lengths), 9, 5, lengths, layout)
        assert_agrees(case, actual_of(case))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_long_sequences_over_many_chunks(variant: Variant, isa: str) -> None:
    # Forward takes as many steps at once as fit in 256 KiB, backward 256 to 512 rows: here there are several of each.
    T, B = (260, 6) if variant.tied else (40, 6)
    lengths = (260, 3, 259, 0, 1, 130) if variant.tied else None
    for dtype in DTYPES:
        for reverse in (False, True):
            case = Case(variant, dtype, T, B, 37, 5, lengths, reverse=reverse)
            # A perturbation may grow through time as the gradient does: relu and identity do not damp it.
            assert_agrees(case, actual_of(case), growth=3)


@pytest.mark.parametrize("variant", TIED, ids=str)
def test_what_one_instruction_set_saved_another_can_read(variant: Variant, isa: str) -> None:
    for other in ISAS:
        native.set_instruction_set(isa)
        case = drawn(variant, torch.float32, 5, 6, 21, seed=3)
        assert_agrees(case, actual_of(case, backward_isa=other))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", TIED, ids=str)
def test_the_probe_agrees_with_the_reference(variant: Variant, dtype: torch.dtype, isa: str) -> None:
    for T, B, H in [(13, 1, 9), (13, 5, 16), (3, 2, 33), (150, 3, 5)]:
        case = drawn(variant, dtype, T, B, H, seed=4)
        given, problem = arguments(case), problem_of(case)
        seed = problem.grad_h_n / np.linalg.norm(problem.grad_h_n, axis=1, keepdims=True)
        expected = probe(run(problem, case.ragged, case.reverse), seed)
        output, _, _, saved = native.forward(*given, keep="gates")
        taps = torch.empty(len(given[0].taps), case.T, case.B, dtype=torch.float64)
        native.backward(*given, output, saved, None, tensor(case, seed), None, taps=taps, rescale=True)
        for name, values in zip(given[0].taps, taps.numpy(), strict=True):
            # Norms are of order one, whatever T: that is what rescaling is for. Errors of directions decay or stay.
            np.testing.assert_allclose(values, expected[name], rtol=0, atol=10 * TOLERANCE[dtype], err_msg=f"{name} {case}")


# --- what is asked for changes no bit of anything else


def assert_same_bits(first: Tensor | None, second: Tensor | None, what: object) -> None:
    assert (first is None) == (second is None), what
    if first is not None:  # NaN is as good as NaN here: a tap where there is no step
        assert first.equal(second) or torch.equal(first.nan_to_num(1.5), second.nan_to_num(1.5)), what


SIZES = [(1, 1, 5), (2, 1, 17), (13, 1, 33), (11, 1, 40), (3, 3, 7), (4, 3, 16), (13, 14, 33)]  # T, B, H


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_keeping_for_the_way_back_changes_no_bit_of_the_way_there(variant: Variant, isa: str) -> None:
    for T, B, H in SIZES:
        for dtype in DTYPES:
            case = drawn(variant, dtype, T, B, H, seed=5)
            kept, not_kept = (native.forward(*arguments(case), keep=keep) for keep in ("gates", "nothing"))
            assert not_kept[3] is None
            for first, second in zip(kept[:3], not_kept[:3], strict=True):
                assert_same_bits(first, second, case)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_each_gradient_alone_has_the_bits_it_has_among_all(variant: Variant, isa: str) -> None:
    for T, B, H in SIZES:
        case = drawn(variant, torch.float32, T, B, H, seed=6)
        given, into, all_of_them = arguments(case), gradients_in(case), everything(case)
        output, _, _, saved = native.forward(*given, keep="gates")
        together = actual_of(case)  # with taps and delta, too
        for index, name in enumerate(Gradients._fields):
            if all_of_them[index]:
                wanted = [k == index for k in range(8)]
                alone = native.backward(*given, output, saved, *into, wanted=tuple(wanted))
                assert [gradient is not None for gradient in alone] == wanted
                assert_same_bits(alone[index], together[f"d_{name}"], (name, case))
        silent = native.backward(*given, output, saved, *into, wanted=all_of_them)
        for name, gradient in silent._asdict().items():
            assert_same_bits(gradient, together.get(f"d_{name}"), ("without taps", name, case))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_gradient_that_did_not_arrive_is_zero(variant: Variant, isa: str) -> None:
    case = drawn(variant, torch.float64, 6, 5, 11, seed=7)
    given, into = arguments(case), gradients_in(case)
    output, _, _, saved = native.forward(*given, keep="gates")
    for present in np.ndindex(2, 2, 2):
        some = [g if there else None for g, there in zip(into, present, strict=True)]
        zeros = [g if g is None or there else torch.zeros_like(g) for g, there in zip(into, present, strict=True)]
        first, second = (native.backward(*given, output, saved, *g, wanted=everything(case)) for g in (some, zeros))
        for one, other in zip(first, second, strict=True):
            assert_same_bits(one, other, (case, present))


# --- threads


def threads_there_are() -> int:
    return len(os.listdir("/proc/self/task"))


def split(name: str, dtype: torch.dtype, *sizes: int, **options: object) -> Case:
    return Case(next(v for v in VARIANTS if str(v) == name), dtype, *sizes, **options)


# T, B, H, I. Work is shared out in pieces of at least 5e5 multiply-adds (tasks_worth), packing from 256 KiB on (of weights that
# one thread alone uses from 2 MiB on), and the units of a single sequence where the recurrent weights are above 190 KiB and H
# is a multiple of the panel (team_size).
F32, F64 = torch.float32, torch.float64
SPLIT = [
    split("lstm", F32, 40, 13, 65, 33, lengths=tuple(range(40, 14, -2)), layout="packed"),
    split("lstm_projected", F64, 30, 7, 70, 40, lengths=(3, 30, 0, 29, 1, 17, 30), reverse=True),
    split("gru", F32, 50, 6, 70, 40, layout="batch_first"),
    split("lstm", F32, 14, 1, 192, 17),
    split("gru", F64, 30, 1, 160, 30, lengths=(29,), reverse=True),
    split("rnn_tanh", F32, 20, 1, 384, 20),
    split("lstm", F32, 40, 1, 128, 20),
    split("gru", F32, 50, 1, 128, 60, reverse=True),
    split(
        "lstm", F32, 300, 5, 64, 40, lengths=(300, 12, 9, 300, 1)
    ),  # gradients of weights in two groups, one of them out of rows
    split("gru", F32, 150, 7, 90, 30),
    split("gru", F64, 40, 1, 140, 170),
    split("lstm", F32, 20, 1, 150, 140, reverse=True),
    split("lstm", F32, 14, 1, 390, 20),
    split("rnn_tanh", F32, 60, 5, 129, 200, lengths=(60, 7, 7, 60, 44)),
    split("rnn_tanh_untied", F64, 15, 9, 130, 129),
    split("lstm", F64, 3, 3, 257, 130),  # 9 steps: unpacked, and still worth several threads
    split("rnn_relu", F32, 300, 70, 12, 11),
]


@pytest.mark.parametrize("case", SPLIT, ids=lambda case: f"{case.variant}-T{case.T}-B{case.B}-H{case.H}")
def test_neither_threads_nor_listening_change_a_bit(case: Case, isa: str) -> None:
    results = []
    for threads in (1, 2, 3, 4, 8):
        native.set_num_threads(threads)
        results += [actual_of(case), actual_of(case, listening=False)]
    total = sum(case.lengths or [case.T * case.B])
    work = total * len(case.variant.cell.gates) * case.H * (case.I + case.H)
    assert work > 4 * 5e5, "too small a case to be shared by four"
    assert not os.path.exists("/proc/self/task") or threads_there_are() >= 4, "nothing ran on more threads"
    for result in results[1:]:
        for name, values in result.items():
            assert_same_bits(values, results[0][name], name)
    assert_agrees(case, results[0], growth=3)


@pytest.mark.parametrize("size", [1e-36, 1e-25, 1e-10, 1.0, 1e16, 1e25])
@pytest.mark.parametrize("batch", [1, 5])
def test_norms_whose_squares_float32_cannot_hold(size: float, batch: int, isa: str) -> None:
    steps, hidden = 3, 70
    identity = CELLS["rnn_identity"]
    weights = LayerWeights(torch.zeros(hidden, 2), torch.eye(hidden), None, None, None)
    x, gradient = torch.zeros(steps, batch, 2), torch.full((batch, hidden), size)
    output, *_ = native.forward(identity, x, None, None, weights, Layout(), keep="gates")
    taps = torch.empty(len(identity.taps), steps, batch, dtype=torch.float64)
    native.backward(identity, x, None, None, weights, Layout(), output, None, None, gradient, None, taps=taps)
    expected = torch.full_like(taps, hidden * float(np.float32(size)) ** 2)
    torch.testing.assert_close(taps, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["rnn_tanh", "gru", "lstm"])
def test_gradients_of_many_steps_are_summed_up_about_as_accurately_as_torchs(name: str, isa: str) -> None:
    torch.manual_seed(0)
    kind = CELLS[name].kind.upper()
    exact = getattr(torch.nn, kind)(24, 32, dtype=torch.float64)
    x, gradient = torch.randn(400, 16, 24, dtype=torch.float64), torch.randn(400, 16, 32, dtype=torch.float64)

    def gradients(modules: object, dtype: torch.dtype) -> list[torch.Tensor]:
        module = getattr(modules, kind)(24, 32, dtype=dtype)
        module.load_state_dict(exact.state_dict())
        return torch.autograd.grad(module(x.to(dtype))[0], list(module.parameters()), gradient.to(dtype))

    found, torchs, right = gradients(tt.nn, F32), gradients(torch.nn, F32), gradients(torch.nn, F64)
    for ours, theirs, value in zip(found, torchs, right, strict=True):
        error, torch_error = ((float((one.double() - value).norm() / value.norm())) for one in (ours, theirs))
        assert error < 3 * torch_error, (error, torch_error)


def test_callers_on_several_threads_do_not_disturb_each_other(isa: str) -> None:
    native.set_num_threads(2)
    alone = [actual_of(case) for case in SPLIT[:4]]
    found: dict[tuple[int, int], dict[str, Tensor]] = {}

    def call(caller: int) -> None:
        for k in range(4):
            which = (caller + k) % 4
            found[caller, which] = actual_of(SPLIT[which])

    callers = [threading.Thread(target=call, args=(caller,)) for caller in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 12
    for (_, which), result in found.items():
        for name, values in result.items():
            assert_same_bits(values, alone[which][name], name)


def test_subnormal_numbers_are_left_to_the_caller(isa: str) -> None:
    # They are flushed to zero inside the kernels, and the processor is left as it was found.
    native.set_num_threads(2)
    actual_of(SPLIT[0])
    assert (np.full(100, 1e-310) * np.ones(100)).min() == 1e-310
    assert (torch.full((100,), 1e-40) * torch.ones(100)).min() > 0


# --- accuracy, and numbers that are none


def activated(name: str, arguments: np.ndarray) -> np.ndarray:
    """The activation of a simple RNN with one input and one unit of weight one: its own argument, to the bit."""
    x = torch.from_numpy(arguments).reshape(1, -1, 1)
    one = torch.ones(1, 1, dtype=x.dtype)
    weights = LayerWeights(one, torch.zeros_like(one), None, None, None)
    output, *_ = native.forward(CELLS[f"rnn_{name}"], x, None, None, weights, Layout(), keep="nothing")
    return output.numpy().ravel()


@cache
def in_ulp(name: str, dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arguments, the numbers of ``dtype`` nearest to their exact values, and by how much those are missed."""
    rng, many = np.random.default_rng(1), 100_000 if dtype is np.float32 else 2_500
    far, smallest = (100.0, -37.5) if dtype is np.float32 else (750.0, -307.0)
    spread = [rng.uniform(-far, far, many), rng.uniform(-25, 25, many), rng.uniform(-1, 1, many)]
    spread += [10 ** rng.uniform(smallest, 2, many) * rng.choice([-1, 1], many)]
    # Where the exponential's argument is reduced by one more ln 2, and where it is cut off.
    edges = np.outer(np.arange(-1100, 1100) * 0.25 * np.log(2), [1 - 1e-6, 1, 1 + 1e-6]).ravel()
    x = np.concatenate([*spread, edges, [-88.8, -88.7, -87.4, -87.3, -745.2, -709.8, -709.7, -708.4, 20, 44]])
    x = x[np.abs(x) <= far].astype(dtype)
    function = mpmath.tanh if name == "tanh" else (lambda v: 1 / (1 + mpmath.exp(-v)))
    if dtype is np.float32:
        exact = x.astype(np.float64)
        exact = np.tanh(exact) if name == "tanh" else 1 / (1 + np.exp(-exact))
        nearest = exact.astype(np.float32)
        rest = exact - nearest
    else:
        with mpmath.workprec(150):
            values = [function(mpmath.mpf(float(v))) for v in x]
            nearest = np.array([float(v) for v in values])
            rest = np.array([float(v - mpmath.mpf(float(w))) for v, w in zip(values, nearest, strict=True)])
    return x, nearest, rest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_activations_are_accurate_to_three_units_in_the_last_place(name: str, dtype: type, isa: str) -> None:
    x, nearest, rest = in_ulp(name, dtype)
    found = activated(name, x)
    assert np.abs(found).max() <= 1.0  # nothing overshoots
    normal = np.abs(nearest) >= np.finfo(dtype).tiny
    error = np.abs((found.astype(np.float64) - nearest) - rest) / np.spacing(np.abs(nearest))
    # The polynomial, 1 + e or e + 2, and the quotient each err by half to a whole unit; measured, it is 2.5 at most.
    worst = np.argmax(np.where(normal, error, 0))
    assert error[normal].max() < 3, f"{name}({x[worst]!r}) = {found[worst]!r}"
    assert np.abs(found[~normal]).max(initial=0) <= np.finfo(dtype).tiny  # a subnormal result may be flushed


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_of_what_is_hardly_a_number(dtype: type, isa: str) -> None:
    limits = np.finfo(dtype)
    x = [0.0, limits.tiny, -limits.tiny, limits.smallest_subnormal, -limits.smallest_subnormal]
    x = np.array([*x, limits.max, -limits.max, np.inf, -np.inf, np.nan, 1.0, -1.0], dtype)
    exact = {"tanh": np.tanh(x), "sigmoid": np.where(x > 1, 1, np.where(x < -1, 0, 0.5 + x / 4)), "identity": x}
    exact["sigmoid"][-2:] = 1 / (1 + np.exp(-x[-2:]))
    exact["relu"] = np.where(x < 0, 0, x)
    for name, expected in exact.items():
        # Whatever is subnormal may be taken for zero; else one is exact, or off in the last places as above.
        np.testing.assert_allclose(activated(name, x), expected, rtol=3 * limits.eps, atol=limits.tiny, err_msg=name)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_nan_and_infinity_go_where_they_go_in_the_reference(variant: Variant, bad: float, isa: str) -> None:
    for T, B, H in [(13, 4, 5), (2, 3, 5), (13, 1, 9), (13, 4, 16)]:
        case = Case(variant, torch.float64, T, B, H)
        problem = replace(problem_of(case), x=problem_of(case).x.copy())
        problem.x[1, B // 2, 1] = bad
        with np.errstate(invalid="ignore"), pytest.MonkeyPatch.context() as patch:
            patch.setattr(native_cases, "problem_of", lambda _, problem=problem: problem)
            patch.setattr(native_cases, "expected_of", expected_of.__wrapped__)
            assert_agrees(case, actual_of(case))


# --- what is refused


@pytest.mark.parametrize(
    ("lengths", "packed", "message"),
    [
        ((5, 6, 1), False, r"lengths\[1\] is 6, expected 0 to 5"),
        ((5, 2, -1), False, r"lengths\[2\] is -1, expected 0 to 5"),
        ((5, 2, 3), True, "must descend"),
        ((5, 2, 0), True, "be at least 1"),
    ],
)
def test_lengths_that_cannot_be_are_refused(lengths: tuple[int, ...], packed: bool, message: str) -> None:
    cell, x, h0, c0, weights, _ = arguments(Case(Variant(CELLS["gru"]), torch.float32, 5, 3, 4))
    if packed:
        x = torch.zeros(sum(lengths), 3)
    with pytest.raises(ValueError, match=message):
        native.forward(cell, x, h0, c0, weights, Layout(torch.tensor(lengths), packed), keep="gates")


def test_tensors_that_do_not_fit_are_refused_by_name() -> None:
    case = Case(Variant(CELLS["lstm"]), torch.float32, 5, 3, 4, 6)
    cell, x, h0, c0, weights, layout = arguments(case)
    output, h_n, _, saved = native.forward(cell, x, h0, c0, weights, layout, keep="gates")
    assert output is not None

    def forward(x: Tensor = x, h0: Tensor | None = h0, layout: Layout = layout, **changed: Tensor) -> None:
        native.forward(cell, x, h0, c0, weights._replace(**changed), layout, keep="gates")

    def backward(*grads: Tensor | None, output: Tensor = output, saved: Tensor | None = saved, **options: Tensor) -> None:
        native.backward(cell, x, h0, c0, weights, layout, output, saved, *grads, **options)

    gone = torch.zeros(3, 4)
    gone.untyped_storage().resize_(0)
    some = torch.zeros(2, 2)
    for call, told in (
        (lambda: forward(torch.zeros(5, 3)), r"x has shape \[5, 3\], expected 3 axes"),
        (lambda: forward(x.int()), "x is torch.int32, expected torch.float32 or torch.float64"),
        (lambda: forward(x.to("meta")), "meta"),
        (lambda: forward(h0=gone), r"shape \[3, 4\] has no memory"),
        (lambda: forward(h0=some), r"h0 has shape \[2, 2\] .* expected \[3, 4\] and torch.float32 beside x of shape"),
        (lambda: forward(w_ih=some), r"w_hh has shape|w_ih has shape \[2, 2\], expected \[4 \* H, "),
        (lambda: forward(w_hh=weights.w_hh.double()), "w_hh has shape .* and is torch.float64, expected"),
        (lambda: forward(b_ih=some), r"b_ih has shape \[2, 2\]"),
        (lambda: forward(w_hr=some[0]), r"w_hr has shape \[2\], expected \[P, H\]"),
        (lambda: forward(layout=Layout(torch.tensor([5, 5, 5], dtype=torch.int32))), "torch.int32, expected torch.int64"),
        (lambda: forward(layout=Layout(torch.tensor([5]))), r"lengths has shape \[1\], expected \[3\]"),
        (lambda: forward(x[0], layout=Layout(torch.tensor([2, 2]), True)), "has 3 rows, and its lengths add up to more"),
        (lambda: forward(x[0], layout=Layout(torch.tensor([1, 1]), True)), "has 3 rows, and its lengths add up to 2"),
        (lambda: forward(x[0], layout=Layout(None, True)), "lengths of at least one sequence"),
        (lambda: backward(None, h_n, None, saved=None), "another keep than 'gates'"),
        (lambda: backward(None, h_n, None, output=output.double()), "output has come back as torch.float64"),
        (lambda: backward(some, None, None), r"grad_output has shape \[2, 2\]"),
        (lambda: backward(None, some, None), r"grad_h_n has shape \[2, 2\]"),
        (lambda: backward(None, None, some), r"grad_c_n has shape \[2, 2\]"),
        (lambda: backward(None, h_n, None, delta=some), r"delta has shape \[2, 2\]"),
        (lambda: backward(None, h_n, None, delta=torch.zeros(5, 4, 3).mT), "delta does not lie row by row"),
        (lambda: backward(None, h_n, None, taps=torch.zeros(6, 3, 5, dtype=torch.float64).mT), "taps does not lie"),
        (lambda: backward(None, h_n, None, taps=some), r"taps have shape \[2, 2\] .* expected \[6, 5, 3\] and torch.float64"),
    ):
        with pytest.raises(RuntimeError, match=told):
            call()


def test_packed_rows_that_do_not_add_up_are_refused_with_checkpoints_too() -> None:
    gru, lengths = torch.nn.GRU(3, 4), torch.tensor([2, 2])
    w_ih, w_hh = gru.weight_ih_l0.detach(), gru.weight_hh_l0.detach()
    for keep in ("gates", "checkpoints"):  # whose segments would fit, one by one
        with pytest.raises(RuntimeError, match="packed x has 6 rows, and its lengths add up to"):
            torch.ops.throughtime.layer(
                torch.zeros(6, 3), None, None, w_ih, w_hh, None, None, None, lengths, "gru", True, False, keep, 0
            )


def test_tensors_may_lie_in_any_way() -> None:
    case = Case(Variant(CELLS["lstm"]), torch.float32, 5, 3, 4, 6)
    cell, x, h0, c0, weights, layout = arguments(case)
    expected = native.forward(cell, x, h0, c0, weights, layout, keep="gates")

    def negated(tensor: Tensor) -> Tensor:  # a view that says of itself that its numbers are those with the other sign
        view = torch.imag(torch.complex(torch.zeros_like(tensor), -tensor).conj())
        assert view.is_neg()
        return view

    def strided(tensor: Tensor) -> Tensor:
        return torch.stack((tensor, torch.full_like(tensor, math.nan)), -1)[..., 0]

    for laid in (negated, strided):
        others = LayerWeights(*(None if weight is None else laid(weight) for weight in weights))
        found = native.forward(cell, laid(x), laid(h0), laid(c0), others, layout, keep="gates")
        for value, same in zip(expected, found, strict=True):
            assert torch.equal(value, same)


@pytest.mark.parametrize("variant", TIED, ids=str)
def test_a_hundred_repeats_give_the_same_bits(variant: Variant) -> None:
    # Work enough for several threads, in ragged sequences, forward and back.
    lengths = tuple(np.random.default_rng(0).integers(0, 41, 24).tolist())
    case = Case(variant, torch.float32, 40, 24, 48, 40, lengths=lengths)
    native.set_num_threads(3)
    first = actual_of(case)
    for _ in range(99):
        again = actual_of(case)
        for name, values in first.items():
            assert_same_bits(values, again[name], name)


def test_a_profile_tells_where_the_time_goes_and_changes_no_bit() -> None:
    case = Case(TIED[-2], torch.float32, 200, 8, 64, 16)
    silent = actual_of(case)
    calls = []
    for _ in range(5):  # the quickest is the one in which nothing else took the processor away
        with native.profiled() as ticks:
            watched = actual_of(case)
        calls.append(dict(zip(native.STAGES, ticks.tolist(), strict=True)))
    told = min(calls, key=lambda call: sum(call.values()))
    for name, values in silent.items():
        assert_same_bits(values, watched[name], name)
    assert told["recomputed gates"] == 0  # they were kept
    for stage in (
        "input product",
        "recurrent product",
        "pointwise",
        "transported product",
        "weight gradients",
        "input gradient",
    ):
        assert told[stage] > 0, stage
    with native.profiled() as again:
        actual_of(replace(case, T=10))  # a twentieth of the steps
    assert 0 < float(again.sum()) < max(sum(call.values()) for call in calls)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_only_steps_that_there_are_are_computed_and_kept(name: str) -> None:
    cell, I, H = CELLS[name], 3, 6
    rows = len(cell.gates) * H
    weights = LayerWeights(torch.randn(rows, I), torch.randn(rows, H), None, None, None)
    layout = Layout(torch.tensor([50, 3, 4]))
    *_, saved = native.forward(cell, torch.randn(50, 3, I), None, None, weights, layout, keep="gates")
    written = ~saved.isnan().any(1)  # memory is NaN before
    assert written.sum() == 57  # of the 150 there would be
    assert written[:57].all()


# --- memory that waits for the next call


@pytest.fixture
def _kept() -> Iterator[None]:
    native._native.keep_memory(KEPT)
    yield
    native._native.keep_memory(0)


@pytest.mark.usefixtures("_kept")
@pytest.mark.parametrize("keep", ["gates", "states", "checkpoints"])
def test_what_other_calls_left_in_memory_changes_no_bit(keep: str) -> None:
    cases = [Case(variant, F32, 30, 12, 48, 20, seed=seed) for variant in TIED for seed in (0, 1)]
    native._native.keep_memory(0)
    alone = [actual_of(case, keep=keep) for case in cases]
    native._native.keep_memory(KEPT)
    for case, expected in [*zip(cases, alone, strict=True)] * 2:
        found = actual_of(case, keep=keep)
        for name, values in expected.items():
            assert_same_bits(values, found[name], name)


@pytest.mark.usefixtures("_kept")
def test_memory_given_back_is_used_again_and_so_much_at_most() -> None:
    def made(steps: int) -> Tensor:
        """The output [steps, 1, 16]: nothing else that the kernels need is nearly as large."""
        weights = LayerWeights(torch.zeros(16, 1), torch.zeros(16, 16), None, None, None)
        x = torch.zeros(steps, 1, 1)
        output, *_ = native.forward(CELLS["rnn_tanh"], x, None, None, weights, Layout(), keep="nothing")
        return output

    def address(steps: int) -> int:  # and the tensor is gone, which pytest would hold
        return made(steps).data_ptr()

    assert address(20_000) == address(20_000)
    native._native.keep_memory(2**20)
    first, second = (made(10_000) for _ in range(2))
    kept = second.data_ptr()
    del first, second  # 1.3 MB in all: one of them stays
    again, other = (made(10_000) for _ in range(2))
    assert again.data_ptr() == kept
    assert other.data_ptr() != kept
    again[0] = 1  # it is theirs while they hold it
    assert address(10_000) != again.data_ptr()
    assert torch.equal(again[0], torch.ones(1, 16))
