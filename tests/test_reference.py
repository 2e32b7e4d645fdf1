"""The oracle against torch.nn, against finite differences, and against numbers worked out by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from throughtime.cells import CELLS, cell_of
from throughtime.reference import Backward, Forward, Weights, backward, forward, probe

from helpers import (
    RAGGED,
    ROUNDING,
    TIED,
    UNTIED,
    VARIANTS,
    Problem,
    Variant,
    alive,
    back,
    make_problem,
    run,
    weight_names,
)

IN_TORCH = [variant for variant in TIED if variant.cell.nonlinearity not in ("sigmoid", "identity")]


def orthogonal(size: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]


# --- against torch.nn


def in_torch(problem: Problem, reverse: bool) -> tuple[torch.nn.RNNBase, dict[str, torch.Tensor]]:
    """The same layer as a torch.nn module; a reverse one is half of a bidirectional module."""
    cell, weights = problem.cell, problem.weights
    hidden = weights.w_ih.shape[0] // cell.gate_count
    options = {"nonlinearity": cell.nonlinearity} if cell.kind == "rnn" else {}
    options |= {} if weights.w_hr is None else {"proj_size": weights.w_hr.shape[0]}
    module = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell.kind](
        problem.x.shape[2], hidden, bias=weights.b_ih is not None, bidirectional=reverse, **options
    ).double()
    ours = {
        "w_ih": "weight_ih",
        "w_hh": "weight_hh",
        "b_ih": "bias_ih",
        "b_hh": "bias_hh",
        "w_hr": "weight_hr",
    }
    parameters = {}
    for name in weight_names(weights):
        parameter = getattr(module, f"{ours[name]}_l0{'_reverse' if reverse else ''}")
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(getattr(weights, name)))
        parameters[name] = parameter
    return module, parameters


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [3, 5, 1, 4]], ids=["full", "ragged"])
@pytest.mark.parametrize("variant", IN_TORCH, ids=str)
def test_agrees_with_torch_in_outputs_states_and_every_gradient(
    variant: Variant, lengths: list[int] | None, reverse: bool, bias: bool
) -> None:
    problem = make_problem(variant, bias=bias)
    result = run(problem, lengths, reverse)
    found = back(problem, result)

    module, parameters = in_torch(problem, reverse)
    x = torch.tensor(problem.x, requires_grad=True)
    initial = [torch.tensor(s, requires_grad=True) for s in (problem.h0, problem.c0) if s is not None]
    # The module's forward direction (slot 0) is a bystander where ours is its second one.
    slots = [torch.stack([s] * (2 if reverse else 1)) for s in initial]
    source = x
    if lengths is not None:
        source = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    output, state = module(source, tuple(slots) if len(slots) == 2 else slots[0])
    if lengths is not None:
        output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, total_length=x.shape[0])
    states = [s[-1] for s in (state if isinstance(state, tuple) else (state,))]
    output = output[..., -problem.grad_output.shape[2] :]

    loss = (output * torch.from_numpy(problem.grad_output)).sum()
    for value, gradient in zip(states, (problem.grad_h_n, problem.grad_c_n), strict=False):
        loss = loss + (value * torch.from_numpy(gradient)).sum()
    loss.backward()

    expected = {"output": output, "h_n": states[0], "x": x.grad, "h0": initial[0].grad}
    actual = {"output": result.output, "h_n": result.h_n, "x": found.x, "h0": found.h0}
    if problem.c0 is not None:
        expected |= {"c_n": states[1], "c0": initial[1].grad}
        actual |= {"c_n": result.c_n, "c0": found.c0}
    expected |= {name: parameter.grad for name, parameter in parameters.items()}
    actual |= {name: getattr(found.weights, name) for name in parameters}
    for name, tensor in expected.items():
        np.testing.assert_allclose(actual[name], tensor.detach().numpy(), **ROUNDING, err_msg=name)


# --- against finite differences


def loss_of(problem: Problem, lengths: list[int] | None, reverse: bool) -> float:
    result = run(problem, lengths, reverse)
    total = np.sum(result.output * problem.grad_output) + np.sum(result.h_n * problem.grad_h_n)
    if problem.grad_c_n is not None:
        total += np.sum(result.c_n * problem.grad_c_n)
    return float(total)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_gradient_is_the_central_difference(variant: Variant, lengths: list[int] | None, reverse: bool) -> None:
    if not variant.tied and lengths is not None:
        lengths = [5, 5, 5, 5]  # the only ragged batch untied weights take
    problem = make_problem(variant, inputs=2, hidden=3, seed=1)
    found = back(problem, run(problem, lengths, reverse))
    pairs = {"x": (problem.x, found.x), "h0": (problem.h0, found.h0), "c0": (problem.c0, found.c0)}
    for name in weight_names(problem.weights):
        pairs[name] = (getattr(problem.weights, name), getattr(found.weights, name))

    for name, (values, gradient) in pairs.items():
        if values is None:
            assert gradient is None, name
            continue
        difference = np.empty_like(values)
        for index in np.ndindex(values.shape):
            kept, step = values[index], 1e-5
            values[index] = kept + step
            above = loss_of(problem, lengths, reverse)
            values[index] = kept - step
            below = loss_of(problem, lengths, reverse)
            values[index] = kept
            difference[index] = (above - below) / (2 * step)
        # Truncation is step^2 = 1e-10 times a third derivative; cancellation 1e-16 / 1e-5 times the loss.
        np.testing.assert_allclose(gradient, difference, rtol=1e-7, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradients_inside_a_step_add_up_to_those_of_the_weights(variant: Variant) -> None:
    problem = make_problem(variant, bias=True)
    result = run(problem)
    found = back(problem, result)
    stacked = np.concatenate([found.from_input[gate] for gate in problem.cell.gates], axis=2)  # [T, B, G*H]
    over = (1,) if not variant.tied else (0, 1)
    np.testing.assert_allclose(stacked.sum(axis=over), found.weights.b_ih, **ROUNDING)
    if variant.tied:
        recurrent = np.concatenate([found.from_past[gate] for gate in problem.cell.gates], axis=2)
        np.testing.assert_allclose(recurrent.sum(axis=(0, 1)), found.weights.b_hh, **ROUNDING)
        np.testing.assert_allclose(np.einsum("tbg,tbp->gp", recurrent, result.h_before), found.weights.w_hh, **ROUNDING)


# --- numbers known by hand


@pytest.mark.parametrize("reverse", [False, True])
def test_untied_rnn_is_the_sum_over_paths_worked_out_by_hand(reverse: bool) -> None:
    # O_1 = 2 x_1, O_2 = 3 x_2 + 5 O_1, O_3 = 7 x_3 + 11 O_2; in reverse x_1 is the last input.
    weights = Weights(w_ih=[[[2.0]], [[3.0]], [[7.0]]], w_hh=[[[5.0]], [[11.0]]])
    x = np.array([1.0, 10.0, 100.0])
    result = forward("rnn_identity", (x[::-1] if reverse else x).reshape(3, 1, 1), weights, reverse=reverse)
    outputs = [2.0, 30.0 + 5.0 * 2.0, 700.0 + 11.0 * 40.0]
    assert result.output.ravel().tolist() == (outputs[::-1] if reverse else outputs)
    found = backward(result, grad_h_n=[[1.0]])
    assert found.weights.w_ih.ravel().tolist() == [55.0, 110.0, 100.0]  # x_1 * 5 * 11, x_2 * 11, x_3
    assert found.weights.w_hh.ravel().tolist() == [22.0, 40.0]  # O_1 * 11, O_2
    assert found.h0 is None


@pytest.mark.parametrize("rho", [0.5, 0.9, 1.2])
def test_gain_of_a_scaled_rotation_is_its_scale(rho: float) -> None:
    weights = Weights(w_ih=np.ones((6, 1)), w_hh=rho * orthogonal(6))
    taps = backward(forward("rnn_identity", np.ones((20, 3, 1)), weights), grad_h_n=np.ones((3, 6))).taps
    np.testing.assert_allclose(taps["u"] / taps["delta"], rho**2, rtol=1e-14)
    np.testing.assert_array_equal(taps["a"], taps["delta"])


@pytest.mark.parametrize("bias", [-2.0, 0.0, 1.0, 6.0])
def test_gain_of_the_cell_path_of_an_lstm_without_weights_is_its_forget_gate(bias: float) -> None:
    b_ih = np.zeros(12)
    b_ih[3:6] = bias
    weights = Weights(np.zeros((12, 2)), np.zeros((12, 3)), b_ih)
    result = forward("lstm", np.zeros((9, 2, 2)), weights, c0=np.ones((2, 3)))
    taps = backward(result, grad_h_n=np.ones((2, 3))).taps
    np.testing.assert_allclose(np.sqrt(taps["cell_out"] / taps["cell"]), 1 / (1 + np.exp(-bias)), rtol=1e-14)
    np.testing.assert_array_equal(taps["u"], 0.0)
    np.testing.assert_array_equal(taps["cell_in"][:-1], taps["cell_out"][1:])


@pytest.mark.parametrize(("rho", "horizon"), [(0.9, 44), (0.95, 90), (0.99, 459)])
def test_probe_horizon_of_a_scaled_rotation(rho: float, horizon: int) -> None:
    weights = Weights(w_ih=np.zeros((4, 1)), w_hh=rho * orthogonal(4))
    result = forward("rnn_identity", np.zeros((500, 2, 1)), weights)
    survives = np.cumsum(0.5 * np.log(probe(result, np.ones((2, 4)))["u"][::-1]), axis=0)  # [T, B], from the end
    steps = 1 + np.argmax(survives < np.log(0.01), axis=0)
    assert steps.tolist() == [horizon, horizon]


def test_probe_sees_through_what_underflows() -> None:
    weights = Weights(w_ih=np.zeros((2, 1)), w_hh=0.2 * orthogonal(2))
    result = forward("rnn_identity", np.zeros((1000, 1, 1)), weights)
    seed = np.ones((1, 2))
    assert backward(result, grad_h_n=seed).taps["delta"][0, 0] == 0.0  # .2^999 is nothing in float64
    taps = probe(result, seed)
    np.testing.assert_allclose(taps["u"], 0.04, rtol=1e-13)
    np.testing.assert_allclose(taps["delta"], 1.0, rtol=1e-13)


def expected_taps(problem: Problem, result: Forward, found: Backward) -> dict[str, np.ndarray]:
    """Every tap but those of what arrives at c_t, from the gradients by name and the definitions."""
    cell, weights = problem.cell, problem.weights
    a = np.concatenate([found.from_past[gate] for gate in cell.gates], axis=2)  # [T, B, G*H]
    if weights.tied:
        u = a @ weights.w_hh
    else:  # the first step has no recurrent weight
        u = np.concatenate([np.full_like(a[:1], np.nan), a[1:] @ weights.w_hh])
    vectors = {"delta": found.delta, "a": a, "u": u}
    if cell.kind == "gru":
        bypass = result.gates["z"] * found.delta
        vectors |= {"hidden": u, "bypass": bypass, "u": u + bypass}
    if cell.kind == "lstm":
        d_hidden = found.delta if weights.w_hr is None else found.delta @ weights.w_hr
        through_h = d_hidden * result.gates["o"] * (1 - np.tanh(result.c) ** 2)
        cell_out = result.gates["f"] * found.c
        vectors |= {"cell_in": found.c - through_h, "cell": found.c, "cell_out": cell_out}
    return {name: np.sum(vector**2, axis=2) for name, vector in vectors.items()}


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_taps_are_the_norms_their_names_say(variant: Variant) -> None:
    problem = make_problem(variant)
    result = run(problem)
    found = back(problem, result)
    expected = expected_taps(problem, result, found)
    assert tuple(found.taps) == problem.cell.taps
    for name, values in found.taps.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_u_is_what_arrives_one_step_earlier(variant: Variant) -> None:
    problem = make_problem(variant)
    result = run(problem)
    last_only = backward(result, grad_h_n=problem.grad_h_n).taps  # no loss on the way, so nothing is added
    np.testing.assert_allclose(last_only["delta"][:-1], last_only["u"][1:], **ROUNDING)
    every = back(problem, result)
    arrived = np.sum((every.delta - problem.grad_output)[:-1] ** 2, axis=2)
    np.testing.assert_allclose(arrived, every.taps["u"][1:], **ROUNDING)


def joint(taps: dict[str, np.ndarray], *names: str) -> np.ndarray:
    return sum(taps[name] for name in names if name in taps)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_probe_is_the_unscaled_backward_rescaled(variant: Variant, reverse: bool) -> None:
    lengths = RAGGED if variant.tied else None
    problem = make_problem(variant)
    result = run(problem, lengths, reverse)
    raw, scaled = backward(result, grad_h_n=problem.grad_h_n).taps, probe(result, problem.grad_h_n)
    incoming, unit = joint(raw, "delta", "cell_in"), joint(scaled, "delta", "cell_in")
    # What a dead ReLU has stopped is zero and stays zero: there is nothing to rescale.
    nothing = incoming == 0
    here = alive(lengths or [5] * 4, 5) & ~nothing
    np.testing.assert_allclose(unit[here], 1.0, rtol=1e-13)
    for name in raw:
        # Both are NaN on padding; one common factor per step and sample makes them equal elsewhere.
        expected = raw[name] / np.where(nothing, 1.0, incoming)
        np.testing.assert_allclose(scaled[name], expected, rtol=1e-11, atol=1e-15, err_msg=name)


def test_probe_leaves_a_zero_seed_zero() -> None:
    problem = make_problem(Variant(CELLS["lstm"]))
    taps = probe(run(problem), np.zeros((4, 4)))
    assert all((values == 0).all() for values in taps.values())


# --- padding and batching


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("variant", TIED, ids=str)
def test_padding_is_never_read_and_is_zero_after(variant: Variant, reverse: bool) -> None:
    clean = make_problem(variant)
    spoilt = make_problem(variant)
    padding = ~alive(RAGGED, 5)
    spoilt.x[padding] = np.nan
    spoilt.grad_output[padding] = np.nan
    first, second = run(clean, RAGGED, reverse), run(spoilt, RAGGED, reverse)
    first_back, second_back = back(clean, first), back(spoilt, second)
    for name in ("output", "h_n", "c_n"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    for name in ("x", "h0", "c0", "delta"):
        np.testing.assert_array_equal(getattr(first_back, name), getattr(second_back, name), err_msg=name)
    for name in weight_names(clean.weights):
        np.testing.assert_array_equal(getattr(first_back.weights, name), getattr(second_back.weights, name))
    assert (second.output[padding] == 0).all()
    assert (second_back.x[padding] == 0).all()
    for name, values in second_back.taps.items():
        np.testing.assert_array_equal(np.isnan(values), padding, err_msg=name)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("variant", TIED, ids=str)
def test_a_sample_alone_gives_what_it_gives_in_a_batch(variant: Variant, reverse: bool) -> None:
    problem = make_problem(variant)
    together = run(problem, RAGGED, reverse)
    together_back = back(problem, together)
    summed = problem.weights.zeros_like()
    for b, length in enumerate(RAGGED):
        one = slice(b, b + 1)
        alone = forward(
            problem.cell,
            problem.x[:length, one],  # cut, not padded
            problem.weights,
            problem.h0[one],
            None if problem.c0 is None else problem.c0[one],
            reverse=reverse,
        )
        alone_back = backward(
            alone,
            problem.grad_output[:length, one],
            problem.grad_h_n[one],
            None if problem.grad_c_n is None else problem.grad_c_n[one],
        )
        np.testing.assert_allclose(together.output[:length, one], alone.output, **ROUNDING)
        np.testing.assert_allclose(together.h_n[one], alone.h_n, **ROUNDING)
        np.testing.assert_allclose(together_back.x[:length, one], alone_back.x, **ROUNDING)
        np.testing.assert_allclose(together_back.h0[one], alone_back.h0, **ROUNDING)
        if problem.c0 is not None:
            np.testing.assert_allclose(together.c_n[one], alone.c_n, **ROUNDING)
            np.testing.assert_allclose(together_back.c0[one], alone_back.c0, **ROUNDING)
        for name in problem.cell.taps:
            np.testing.assert_allclose(together_back.taps[name][:length, one], alone_back.taps[name], **ROUNDING)
        for name in weight_names(summed):
            getattr(summed, name)[...] += getattr(alone_back.weights, name)
    for name in weight_names(summed):
        np.testing.assert_allclose(getattr(together_back.weights, name), getattr(summed, name), **ROUNDING)


@pytest.mark.parametrize("variant", TIED, ids=str)
def test_length_zero_hands_state_and_gradient_straight_through(variant: Variant) -> None:
    problem = make_problem(variant)
    result = run(problem, RAGGED)
    found = back(problem, result)
    np.testing.assert_array_equal(result.h_n[1], problem.h0[1])
    np.testing.assert_array_equal(found.h0[1], problem.grad_h_n[1])
    if problem.c0 is not None:
        np.testing.assert_array_equal(result.c_n[1], problem.c0[1])
        np.testing.assert_array_equal(found.c0[1], problem.grad_c_n[1])


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_reverse_is_forward_on_the_sequence_turned_round(variant: Variant) -> None:
    problem = make_problem(variant)
    there = run(problem, reverse=True)
    problem.x = problem.x[::-1]
    back_again = run(problem)
    np.testing.assert_array_equal(there.output[::-1], back_again.output)
    np.testing.assert_array_equal(there.h_n, back_again.h_n)


def test_states_left_out_are_zeros() -> None:
    problem = make_problem(Variant(CELLS["lstm"]))
    left_out = forward("LSTM", problem.x, problem.weights)
    zeros = forward("lstm", problem.x, problem.weights, np.zeros((4, 4)), np.zeros((4, 4)))
    np.testing.assert_array_equal(left_out.output, zeros.output)


def test_an_explosion_is_reported_as_infinity_without_a_warning() -> None:
    weights = Weights(w_ih=[[1.0]], w_hh=[[1e10]])
    result = forward("rnn_relu", np.ones((40, 1, 1)), weights)
    found = backward(result, grad_h_n=[[1.0]])
    assert np.isinf(result.h_n).all()
    assert np.isinf(found.taps["delta"][0, 0])


# --- cells as data


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def relu(a: np.ndarray) -> np.ndarray:
    return np.maximum(a, 0)


def _vocabulary(problem: Problem) -> dict[str, object]:
    """What an equation may speak of beside the step's own values: functions, and weights by gate."""
    names: dict[str, object] = {"tanh": np.tanh, "sigmoid": sigmoid, "relu": relu}
    weights = problem.weights
    blocks = {"W_i": weights.w_ih, "W_h": weights.w_hh, "b_i": weights.b_ih, "b_h": weights.b_hh}
    for prefix, array in blocks.items():
        for gate, block in zip(problem.cell.gates, np.split(array, problem.cell.gate_count), strict=True):
            names[prefix + gate] = block
    return names if weights.w_hr is None else names | {"W_hr": weights.w_hr}


def _statements(equations: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Each equation as a name and a Python expression: h_{t-1} is h_before, W x a matrix product."""
    for equation in equations:
        text = re.sub(r"(\w)_\{t-1\}", r"\1_before", equation)
        left, right = re.sub(r"(W_\w+) ", r"\1 @ ", text).split(" = ")
        yield left, right


@pytest.mark.parametrize("variant", TIED, ids=str)
def test_the_equations_are_what_is_computed(variant: Variant) -> None:
    problem = make_problem(variant)
    cell, result = problem.cell, run(problem)
    equations = (*cell.equations[:-1], cell.projection) if variant.projected else cell.equations
    names = _vocabulary(problem)
    for t in range(5):
        step = names | {"x_t": problem.x[t, 0], "h_before": result.h_before[t, 0]}
        if result.c_before is not None:
            step["c_before"] = result.c_before[t, 0]
        for left, right in _statements(equations):
            assert left not in step, "an equation speaks twice of the same value"
            step[left] = eval(right, {}, step)
        if cell.kind != "rnn":  # a simple RNN's one gate is its h_t
            for gate in cell.gates:
                np.testing.assert_allclose(result.gates[gate][t, 0], step[f"{gate}_t"], **ROUNDING, err_msg=gate)
        np.testing.assert_allclose(result.output[t, 0], step["h_t"], **ROUNDING)


def test_cells_are_named_and_found_by_name_and_mode() -> None:
    assert list(CELLS) == ["rnn_tanh", "rnn_relu", "rnn_sigmoid", "rnn_identity", "gru", "lstm"]
    assert [cell.mode for cell in CELLS.values()] == [
        "RNN_TANH", "RNN_RELU", "RNN_SIGMOID", "RNN_IDENTITY", "GRU", "LSTM",
    ]  # fmt: skip
    for cell in CELLS.values():
        assert cell_of(cell.name) is cell_of(cell.mode) is cell_of(cell) is cell
    assert [cell.recurrent_apart for cell in CELLS.values()] == [False] * 4 + [True, False]
    assert [cell.projects for cell in CELLS.values()] == [False] * 5 + [True]
    assert [cell.gate_count for cell in CELLS.values()] == [1, 1, 1, 1, 3, 4]


@pytest.mark.parametrize(("wrong", "nearest"), [("RNN_TANN", "rnn_tanh"), ("LTSM", "lstm"), ("gruu", "gru")])
def test_an_unknown_cell_is_answered_with_the_nearest_one(wrong: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"'{wrong}'; did you mean '{nearest}'"):
        cell_of(wrong)


# --- what is refused


REFUSED = {
    "x has shape": lambda p, w: forward(p.cell, p.x[0], w),
    "w_hh has shape": lambda p, w: forward(p.cell, p.x, Weights(w.w_ih, w.w_hh[:, :2])),
    "multiple of gru's 3": lambda p, w: forward("gru", p.x, w),
    r"h0 has shape \(4, 7\), expected \(4, 4\)": lambda p, w: forward(p.cell, p.x, w, np.zeros((4, 7))),
    "c0 was given, but rnn_tanh": lambda p, w: forward(p.cell, p.x, w, None, p.h0),
    "has no projection": lambda p, w: forward(p.cell, p.x, Weights(w.w_ih, w.w_hh, w_hr=np.eye(4))),
    "one length per sample": lambda p, w: run(p, [1]),
    r"lengths\[1\] is 6, expected 0 to T=5": lambda p, w: run(p, [1, 6, 1, 1]),
    r"lengths\[2\] is -1": lambda p, w: run(p, [1, 1, -1, 1]),
    "expected integers": lambda p, w: run(p, [1.0, 1.0, 1.0, 1.0]),
    "grad_output has shape": lambda p, w: backward(run(p), np.zeros((5, 4, 3))),
    "grad_c_n was given, but rnn_tanh": lambda p, w: backward(run(p), None, None, p.h0),
    "seed has shape": lambda p, w: probe(run(p), np.zeros(4)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_fit_is_refused_by_name(message: str) -> None:
    problem = make_problem(Variant(CELLS["rnn_tanh"]))
    with pytest.raises(ValueError, match=message):
        REFUSED[message](problem, problem.weights)


def test_untied_weights_refuse_what_they_cannot_do() -> None:
    problem = make_problem(UNTIED[0])
    w = problem.weights
    with pytest.raises(ValueError, match="h0 was given with untied"):
        forward(problem.cell, problem.x, w, np.zeros((4, 4)))
    with pytest.raises(ValueError, match="exactly T=5 steps"):
        run(problem, [5, 5, 4, 5])
    with pytest.raises(ValueError, match="w_ih has shape"):
        forward(problem.cell, problem.x[:4], w)
    with pytest.raises(ValueError, match="leave b_hh out"):
        forward(problem.cell, problem.x, Weights(w.w_ih, w.w_hh, w.b_ih, w.b_ih))
    with pytest.raises(ValueError, match="lstm has no untied form"):
        forward("lstm", problem.x, w)
