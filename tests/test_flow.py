"""The numbers of tt.flow.record: those known exactly, those of the oracle, and what the hooked states see."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import throughtime as tt
from throughtime.cells import CELLS
from throughtime.nn import init
from throughtime.ops import differentiable, native
from throughtime.ops.layer import probe_seed

from flow_cases import (
    DTYPES,
    HIDDEN_FOR_A_TEAM,
    ROUNDING,
    Task,
    build,
    check_gains,
    check_probe,
    numpy,
    oracle,
    rotation,
    through,
    weights_of,
)
from helpers import RAGGED, TIED, UNTIED, VARIANTS, Variant, alive


@pytest.fixture(params=native.instruction_sets())
def _isa(request: pytest.FixtureRequest) -> Iterator[None]:
    tt.set_instruction_set(request.param)
    yield
    tt.set_instruction_set("auto")


everywhere = pytest.mark.usefixtures("_isa")
"""Run on every instruction set."""

VARIANT = {str(variant): variant for variant in VARIANTS}


# --- known exactly


@everywhere
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rho", "horizon"), [(0.9, 44), (0.95, 90), (0.99, 459)])
def test_horizon_of_a_scaled_rotation_is_exact(rho: float, horizon: int, dtype: torch.dtype) -> None:
    flow = through(rotation(rho, dtype), torch.ones(470, 3, 2, dtype=dtype))
    assert flow.horizon(0.01) == flow.horizon() == horizon
    assert flow.horizon(0.1) == math.floor(math.log(0.1) / math.log(rho)) + 1
    # Every step turns the same vector once more, so the loss's own gradient and the probe lose the same.
    layer, tolerance = flow.layers[0], ROUNDING[dtype]
    for gains in (layer.gains, layer.probe):
        np.testing.assert_allclose(gains.gain, math.log(rho), rtol=0, atol=tolerance)
        np.testing.assert_allclose(gains.weight, math.log(rho), rtol=0, atol=tolerance)
        np.testing.assert_array_equal(gains.activation, 0.0)
    np.testing.assert_allclose(layer.reach, math.log(rho) * np.arange(1, 471), rtol=0, atol=470 * tolerance)


@pytest.mark.parametrize(("steps", "horizon"), [(43, math.inf), (44, 44), (45, 44)])
def test_horizon_is_infinite_beyond_what_was_recorded(steps: int, horizon: float) -> None:
    assert through(rotation(0.9), torch.ones(steps, 2, 2, dtype=torch.float64)).horizon(0.01) == horizon


@pytest.mark.parametrize("rho", [1.0, 1.2])
def test_horizon_of_what_does_not_vanish_is_infinite(rho: float) -> None:
    flow = through(rotation(rho), torch.ones(100, 2, 2, dtype=torch.float64))
    assert flow.horizon(0.999 if rho > 1 else 0.99) == math.inf


def test_horizon_counts_from_each_true_end() -> None:
    module = rotation(0.9)
    x = torch.ones(60, 4, 2, dtype=torch.float64)
    for lengths, horizon in (([10, 0, 60, 50], 44), ([43, 0, 10, 20], math.inf)):
        _, h_n = module(x, lengths=lengths)
        with tt.flow.record(module) as flow:
            h_n.sum().backward()
        assert flow.horizon(0.01) == horizon
        steps, reach = np.arange(1, 61), flow.layers[0].reach
        expected = np.where(steps <= max(lengths), math.log(0.9) * steps, np.nan)
        np.testing.assert_allclose(reach, expected, rtol=0, atol=60 * ROUNDING[torch.float64])


@everywhere
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bias", [-1.0, 0.0, 1.0, 4.0])
def test_cell_gain_of_an_lstm_without_weights_is_its_forget_gate(bias: float, dtype: torch.dtype) -> None:
    module = tt.nn.LSTM(2, 5, dtype=dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.bias_ih_l0[5:10] = bias
    flow = through(module, torch.ones(30, 3, 2, dtype=dtype))
    layer, forget, tolerance = flow.layers[0], -math.log1p(math.exp(-bias)), ROUNDING[dtype]
    np.testing.assert_allclose(layer.cell_gain, forget, rtol=0, atol=tolerance)
    np.testing.assert_allclose(layer.gain[:-1], forget, rtol=0, atol=tolerance)
    assert (layer.gains.hidden == -math.inf).any(), "nothing goes through weights that are zero"
    # h = o tanh(c) at o = 1/2, c = 0: half of what is put into h enters c, and the forget gate takes over from there.
    into_h, into_c = (part.numpy() for part in probe_seed(CELLS["lstm"], 3, 5, 5))
    left = np.log(np.linalg.norm(into_c + 0.5 * into_h, axis=1)).mean() + forget * np.arange(1, 31)
    np.testing.assert_allclose(layer.reach, left, rtol=0, atol=30 * tolerance)
    below = np.flatnonzero(left < math.log(0.01))
    assert flow.horizon(0.01) == (below[0] + 1 if len(below) else math.inf)


@everywhere
@pytest.mark.parametrize("reverse", [False, True])
def test_a_gain_of_zero_ends_the_horizon(reverse: bool) -> None:
    # Identity recurrence: nothing is lost until the step at which every unit is pushed below zero and dies.
    module = init.identity_(tt.nn.RNN(1, 4, nonlinearity="relu", bidirectional=reverse, dtype=torch.float64))
    x = torch.ones(20, 3, 1, dtype=torch.float64)
    x[13] = -1000.0
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "weight_ih" in name:
                weight.fill_(1.0)
    _, h_n = module(x)
    with tt.flow.record(module) as flow:
        h_n[-1].sum().backward()
    layer = flow.layers[-1]
    steps_back = 13 + 1 if reverse else 20 - 13
    assert flow.horizon(0.01, layer.name) == layer.horizon(0.99) == steps_back
    assert layer.gain[13] == layer.activation_gain[13] == -math.inf
    assert math.isnan(layer.weight_gain[13])
    earlier, later = (slice(14, None), slice(0, 13)) if reverse else (slice(0, 13), slice(14, None))
    np.testing.assert_array_equal(layer.gain[later], 0.0)
    assert np.isnan(layer.gain[earlier]).all(), "no ratio where nothing came in"
    assert (layer.counts.zero[earlier] == 3).all()
    assert (layer.counts.zero[later] == 0).all()
    assert (layer.reach[: steps_back - 1] == 0).all()
    assert (layer.reach[steps_back - 1 :] == -math.inf).all()


# --- against the oracle


@everywhere
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("lengths", "packed"),
    [(None, False), (RAGGED, False), ([3, 2, 5, 1], True)],
    ids=["full", "ragged", "packed"],
)
@pytest.mark.parametrize("variant", TIED, ids=str)
def test_gains_and_probe_are_those_of_the_oracle_in_every_layer_and_direction(
    variant: Variant, lengths: list[int] | None, packed: bool, dtype: torch.dtype
) -> None:
    module = build(variant, num_layers=2, bidirectional=True, dtype=dtype)
    task = Task.of(module, lengths, packed)
    flow = task.recorded(module)
    assert [layer.name for layer in flow.layers] == ["l0", "l0_reverse", "l1", "l1_reverse"]
    for layer, (run, back) in zip(flow.layers, oracle(module, task), strict=True):
        assert (layer.cell, layer.reverse) == (run.cell, run.reverse)
        check_gains(layer, run, back, ROUNDING[dtype])
        check_probe(layer, run, ROUNDING[dtype], packed)
        for short in ("activation", "weight", "cell"):
            np.testing.assert_array_equal(getattr(layer, f"{short}_gain"), getattr(layer.gains, short))


@everywhere
@pytest.mark.parametrize("variant", UNTIED, ids=str)
def test_gains_and_probe_of_untied_weights_are_those_of_the_oracle(variant: Variant) -> None:
    module = build(variant, num_layers=2, dtype=torch.float64)
    task = Task.of(module)
    flow = task.recorded(module)
    for layer, (run, back) in zip(flow.layers, oracle(module, task), strict=True):
        check_gains(layer, run, back, ROUNDING[torch.float64])
        check_probe(layer, run, ROUNDING[torch.float64])
        assert math.isnan(layer.gain[0]), "no weights lead out of the first step"


@everywhere
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("variant", TIED, ids=str)
def test_a_single_sequence_is_measured_alone_and_shared_by_threads(variant: Variant, threads: int) -> None:
    module = build(variant, hidden=HIDDEN_FOR_A_TEAM[variant.cell.kind], dtype=torch.float32)
    task = Task.of(module, steps=16, batch=1)
    tt.set_num_threads(threads)
    try:
        flow = task.recorded(module)
    finally:
        tt.set_num_threads(None)
    (run, back), *_ = oracle(module, task)
    # Sums of hundreds of rounded products rather than ten: their errors grow with the root of that.
    check_gains(flow.layers[0], run, back, 10 * ROUNDING[torch.float32])
    check_probe(flow.layers[0], run, 10 * ROUNDING[torch.float32])


@pytest.mark.parametrize("nonlinearity", ["tanh", "sigmoid", "identity"])
def test_gain_is_the_activations_part_plus_the_weights_part(nonlinearity: str) -> None:
    module = build(VARIANT[f"rnn_{nonlinearity}"], dtype=torch.float64)
    for gains in (flow := Task.of(module, RAGGED).recorded(module)).layers[0].gains, flow.layers[0].probe:
        np.testing.assert_allclose(gains.activation + gains.weight, gains.gain, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", TIED, ids=str)
def test_padding_of_not_a_number_changes_no_number(variant: Variant, dtype: torch.dtype) -> None:
    module = build(variant, bidirectional=True, dtype=dtype)
    task = Task.of(module, RAGGED)
    clean = task.recorded(module).layers
    padding = torch.from_numpy(~alive(RAGGED, 5))
    task.x[padding] = math.nan
    task.grads[0][padding] = math.inf
    output, final = module(task.x, lengths=RAGGED)
    outcome = (output, *(final if isinstance(final, tuple) else (final,)))
    with tt.flow.record(module) as flow:
        torch.autograd.backward(outcome, task.grads)
    for one, other in zip(clean, flow.layers, strict=True):
        for name in ("gain", "norm", "reach"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert other.first_bad_step is None
        np.testing.assert_array_equal(other.counts.samples, [3, 2, 2, 1, 1])


# --- what the hooked states see


@everywhere
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_norm_counts_and_delta_are_the_gradients_of_the_states(
    variant: Variant, lengths: list[int] | None, dtype: torch.dtype
) -> None:
    if not variant.tied and lengths is not None:
        lengths = [5, 5, 5, 5]  # the only lengths untied weights take
    module = build(variant, bidirectional=True, dtype=dtype)
    task = Task.of(module, lengths)
    # The loss is on some steps of some samples only, so that exact zeros are there to be counted.
    task.grads[0][3:, 1:] = 0.0
    task.grads[0][2, 0] = 0.0
    for grad in task.grads[1:]:
        grad.zero_()
    flow = task.recorded(module, delta=True)

    here = alive(lengths or [5] * 4, 5)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5  # relative to gradients of order one
    given = None if lengths is None else torch.tensor(lengths)
    for direction, layer in enumerate(flow.layers):
        _, _, _, steps = differentiable.layer_with_states(
            variant.cell, task.x, None, None, *weights_of(module, 0, direction), lengths=given, reverse=direction == 1
        )
        P = steps.h[0].shape[1]
        grad = task.grads[0][:, :, direction * P : (direction + 1) * P]
        loss = sum((grad[t][here[t]] * steps.h[t][here[t]]).sum() for t in range(5))
        found = torch.autograd.grad(loss, steps.h, allow_unused=True, materialize_grads=True)
        expected = np.stack([numpy(g) for g in found])  # [T, B, P]
        norms = np.where(here, np.sqrt(np.square(expected).sum(2)), np.nan)
        np.testing.assert_allclose(layer.delta, expected, rtol=tolerance, atol=tolerance)
        assert layer.delta.dtype == task.x.numpy().dtype
        np.testing.assert_allclose(layer.norm, np.nanmean(norms, 1), rtol=tolerance, atol=tolerance)
        np.testing.assert_array_equal(layer.counts.samples, here.sum(1))
        np.testing.assert_array_equal(layer.counts.zero, (norms == 0).sum(1))
        np.testing.assert_array_equal(layer.counts.nonfinite, 0)
        if direction == 0 and variant.tied:
            assert layer.counts.zero[3:].sum() > 0, "the task has zeros to count"


# --- what is not finite, and what is too small


@everywhere
@pytest.mark.parametrize("bad", [math.inf, math.nan], ids=str)
@pytest.mark.parametrize("lengths", [None, [9, 0, 12, 4]], ids=["full", "ragged"])
@pytest.mark.parametrize("variant", TIED, ids=str)
def test_first_bad_step_is_where_a_bad_gradient_was_put_in(variant: Variant, lengths: list[int] | None, bad: float) -> None:
    module = build(variant, bidirectional=True, dtype=torch.float32)
    task = Task.of(module, lengths, steps=12)
    task.grads[0][7, 2] = bad
    flow = task.recorded(module)
    for layer in flow.layers:
        assert layer.first_bad_step == 7, layer.name
        steps = np.arange(12)
        gone = steps >= 7 if layer.reverse else steps <= 7
        if variant.cell.nonlinearity == "relu":  # a step at which all units are closed lets not even infinity through
            assert (layer.counts.nonfinite <= gone).all()
        else:
            np.testing.assert_array_equal(layer.counts.nonfinite, gone.astype(int), err_msg=layer.name)
        assert np.isfinite(layer.gain[~gone]).all() or variant.cell.nonlinearity == "relu"
        assert np.isfinite(layer.reach).all() or variant.cell.nonlinearity == "relu", "the probe runs on states alone"


def test_first_bad_step_is_none_where_all_is_finite() -> None:
    module = build(VARIANT["gru"])
    assert Task.of(module).recorded(module).layers[0].first_bad_step is None


def small_sigmoid() -> Any:
    """The sigmoid network of Pascanu, Mikolov and Bengio 2013, whose gains are about .02."""
    module = build(VARIANT["rnn_sigmoid"], hidden=50, dtype=torch.float32)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.01)
    return module


@everywhere
def test_underflow_is_named_and_masked_while_the_probe_still_measures() -> None:
    module = small_sigmoid()
    x = torch.randn(100, 4, 3)
    flow = through(module, x)
    layer = flow.layers[0]
    gone = layer.underflowed_at
    assert gone is not None
    # The smallest normal float32 is e^-87.3. A unit's share of a gradient of norm one is smaller by some factor up to
    # its 50 units, and the slope of 1/4 and the weights of .01 are met before it is stored: at most one step's gain (e^-4).
    unit = math.log(layer.norm[-1]) + layer.reach  # what would be left after k + 1 steps
    assert unit[gone - 1] < -87.3 + 4
    assert unit[gone - 3] > -87.3
    np.testing.assert_array_equal(layer.counts.zero[: 100 - gone] > 0, True)
    assert (layer.counts.zero[100 - gone :] == 0).all()
    all_gone = np.flatnonzero(layer.counts.zero == 4)
    assert np.isnan(layer.gain[all_gone]).all()

    task = Task(x, None, False, [torch.zeros(100, 4, 50), torch.ones(1, 4, 50)])
    (run, _), *_ = oracle(module, task)
    check_probe(layer, run, ROUNDING[torch.float32])  # down to e^-400
    assert layer.reach[-1] < -350
    assert flow.horizon(0.01) == 2


def test_nothing_is_said_to_underflow_where_no_loss_has_reached() -> None:
    module = build(VARIANT["rnn_tanh"])
    output, _ = module(torch.randn(20, 3, 3))
    with tt.flow.record(module) as flow:
        output[10].sum().backward()
    layer = flow.layers[0]
    np.testing.assert_array_equal(layer.counts.zero, np.where(np.arange(20) > 10, 3, 0))
    assert layer.underflowed_at is None
    assert np.isnan(layer.gain[11:]).all()
    assert np.isfinite(layer.gain[:11]).all()


def test_an_lstm_whose_cell_state_still_carries_the_gradient_has_not_underflowed() -> None:
    module = tt.nn.LSTM(2, 4)
    with torch.no_grad():  # without weights nothing reaches h_{t-1}, and everything goes through c
        for parameter in module.parameters():
            parameter.zero_()
    layer = through(module, torch.zeros(10, 2, 2)).layers[0]
    assert np.isfinite(layer.gain).all()
    assert layer.underflowed_at is None


BENT = [variant for variant in TIED if variant.cell.nonlinearity not in ("identity", "relu")]
"""Whose slope depends on the state; that of relu is 1 at NaN, as it is in torch."""


@pytest.mark.parametrize("variant", BENT, ids=str)
def test_horizon_is_not_a_number_where_the_states_are_not(variant: Variant) -> None:
    if variant.cell.nonlinearity in ("relu", "identity"):
        pytest.skip("their slope where the state is no number is 1, as in torch: the gradient passes by it")
    module = build(variant)
    x = torch.randn(30, 4, 3)
    x[20] = math.nan
    assert math.isnan(through(module, x).horizon()), "nothing was measured: neither a number nor beyond T"


# --- the probe is the same for everybody


def test_probe_is_a_unit_vector_per_sample_and_always_the_same() -> None:
    for cell in (CELLS["gru"], CELLS["lstm"]):
        state = torch.cat([part for part in probe_seed(cell, 5, 6, 7) if part is not None], dim=1)
        assert state.shape == (5, 13 if cell.has_cell_state else 6), "the whole state that is carried"
        torch.testing.assert_close(state.norm(dim=1), torch.ones(5, dtype=torch.float64))
        again = torch.cat([part for part in probe_seed(cell, 5, 6, 7) if part is not None], dim=1)
        assert torch.equal(state, again)
        assert torch.linalg.matrix_rank(state) == 5, "every sample has a direction of its own"


def test_probe_leaves_torchs_and_numpys_generators_alone() -> None:
    module = build(VARIANT["lstm"])
    task = Task.of(module)
    torch.manual_seed(3)
    np.random.seed(3)
    task.recorded(module).horizon()
    drawn = torch.rand(()).item(), np.random.random()
    torch.manual_seed(3)
    np.random.seed(3)
    assert drawn == (torch.rand(()).item(), np.random.random())


def test_probe_does_not_depend_on_the_loss() -> None:
    module = build(VARIANT["gru"], dtype=torch.float64)
    task = Task.of(module, RAGGED)
    first = task.recorded(module).layers[0]
    for grad in task.grads:
        grad.mul_(-1000.0)
    second = task.recorded(module).layers[0]
    np.testing.assert_array_equal(first.reach, second.reach)
    np.testing.assert_allclose(second.norm, 1000 * first.norm, rtol=1e-12)
    np.testing.assert_allclose(second.gain, first.gain, rtol=0, atol=1e-12)
