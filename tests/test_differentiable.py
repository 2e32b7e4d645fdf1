"""The layer of plain torch operators against the oracle, and its derivatives against differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from throughtime.cells import CELLS
from throughtime.ops.differentiable import layer, layer_with_states

from helpers import RAGGED, ROUNDING, TIED, UNTIED, VARIANTS, Problem, Variant, back, make_problem, run

NAMES = ("x", "h0", "c0", "w_ih", "w_hh", "b_ih", "b_hh", "w_hr")


def arguments(problem: Problem) -> dict[str, Tensor | None]:
    """The layer's tensors in the order of its parameters, leaves that ask for a gradient."""
    weights = problem.weights
    arrays = (problem.x, problem.h0, problem.c0)
    arrays += (weights.w_ih, weights.w_hh, weights.b_ih, weights.b_hh, weights.w_hr)
    return {
        name: None if array is None else torch.tensor(array, requires_grad=True)
        for name, array in zip(NAMES, arrays, strict=True)
    }


def total_loss(problem: Problem, output: Tensor, h_n: Tensor, c_n: Tensor | None) -> Tensor:
    loss = (output * torch.from_numpy(problem.grad_output)).sum()
    loss = loss + (h_n * torch.from_numpy(problem.grad_h_n)).sum()
    return loss if c_n is None else loss + (c_n * torch.from_numpy(problem.grad_c_n)).sum()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_agrees_with_the_reference_in_everything(
    variant: Variant, lengths: list[int] | None, bias: bool, reverse: bool
) -> None:
    if not variant.tied and lengths is not None:
        lengths = [5, 5, 5, 5]  # the only lengths untied weights take
    problem = make_problem(variant, bias=bias)
    oracle = run(problem, lengths, reverse)
    found = back(problem, oracle)

    given = arguments(problem)
    ragged = None if lengths is None else torch.tensor(lengths)
    output, h_n, c_n, steps = layer_with_states(problem.cell, *given.values(), lengths=ragged, reverse=reverse)
    assert (c_n is None) == (problem.c0 is None)
    for name, tensor, expected in (
        ("output", output, oracle.output),
        ("h_n", h_n, oracle.h_n),
        ("c_n", c_n, oracle.c_n),
    ):
        if tensor is not None:
            np.testing.assert_allclose(tensor.detach().numpy(), expected, **ROUNDING, err_msg=name)

    gradients = {"x": found.x, "h0": found.h0, "c0": found.c0}
    gradients |= {name: getattr(found.weights, name) for name in NAMES[3:]}
    for tensor in (*steps.h, *steps.c, *steps.pre):
        tensor.retain_grad()
    total_loss(problem, output, h_n, c_n).backward()
    for name, tensor in given.items():
        if tensor is not None:
            np.testing.assert_allclose(tensor.grad.numpy(), gradients[name], **ROUNDING, err_msg=name)

    delta = torch.stack([h.grad for h in steps.h]).numpy()
    np.testing.assert_allclose(delta, found.delta, **ROUNDING)
    a = np.concatenate([found.from_past[gate] for gate in problem.cell.gates], axis=2)
    np.testing.assert_allclose(torch.stack([pre.grad for pre in steps.pre]).numpy(), a, **ROUNDING)
    if c_n is not None:
        np.testing.assert_allclose(torch.stack([c.grad for c in steps.c]).numpy(), found.c, **ROUNDING)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("variant", TIED, ids=str)
def test_nan_on_padding_reaches_neither_output_nor_gradient(variant: Variant, reverse: bool) -> None:
    problem = make_problem(variant)
    padding = np.arange(5)[:, None] >= np.array(RAGGED)
    results = []
    for filling in (0.0, np.nan):
        problem.x[padding] = filling
        problem.grad_output[padding] = filling
        given = arguments(problem)
        output, h_n, c_n = layer(problem.cell, *given.values(), lengths=torch.tensor(RAGGED), reverse=reverse)
        states = [h_n] if c_n is None else [h_n, c_n]
        seeds = [torch.from_numpy(g) for g in (problem.grad_output, problem.grad_h_n, problem.grad_c_n) if g is not None]
        leaves = [tensor for tensor in given.values() if tensor is not None]
        results.append([output, *states, *torch.autograd.grad([output, *states], leaves, seeds)])
    for clean, spoilt in zip(*results, strict=True):
        assert torch.equal(clean, spoilt)
    assert (results[1][0][torch.from_numpy(padding)] == 0).all()


SMOOTH = [variant for variant in VARIANTS if variant.cell.nonlinearity != "relu"]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("variant", SMOOTH, ids=str)
def test_first_and_second_derivatives_are_the_differences(variant: Variant, reverse: bool) -> None:
    problem = make_problem(variant, steps=3, batch=3, inputs=2, hidden=2, seed=2)
    lengths = torch.tensor([2, 0, 3]) if variant.tied else None
    given = arguments(problem)
    present = [name for name, tensor in given.items() if tensor is not None]

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        every = dict.fromkeys(NAMES) | dict(zip(present, tensors, strict=True))
        results = layer(problem.cell, *every.values(), lengths=lengths, reverse=reverse)
        return tuple(result for result in results if result is not None)

    leaves = tuple(given[name] for name in present)
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def test_relu_has_its_first_derivative_and_no_second() -> None:
    problem = make_problem(Variant(CELLS["rnn_relu"]), steps=2, batch=1, inputs=1, hidden=2, seed=3)
    given = arguments(problem)
    output, _, _ = layer(problem.cell, *given.values())
    (first,) = torch.autograd.grad(output.sum(), given["x"], create_graph=True)
    assert first.abs().sum() > 0
    (second,) = torch.autograd.grad(first.sum(), given["x"], allow_unused=True)
    assert second is None or (second == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_any_dtype_and_any_strides(variant: Variant, dtype: torch.dtype) -> None:
    problem = make_problem(variant)
    exact = layer(problem.cell, *arguments(problem).values())
    given = {name: None if tensor is None else tensor.detach().to(dtype) for name, tensor in arguments(problem).items()}
    given["x"] = given["x"].transpose(0, 1).contiguous().transpose(0, 1)  # batch-first memory
    lengths = torch.full((4,), 5)
    for rounded, expected in zip(layer(problem.cell, *given.values(), lengths=lengths), exact, strict=True):
        if expected is None:
            assert rounded is None
            continue
        assert rounded.dtype == dtype
        # Five steps of some ten roundings each, half a unit in the last place apiece, values up to four.
        bound = 100 * torch.finfo(dtype).eps
        torch.testing.assert_close(rounded.double(), expected.detach(), rtol=bound, atol=bound)


def test_a_whole_sequence_is_its_parts_one_after_the_other() -> None:
    problem = make_problem(Variant(CELLS["lstm"], projected=True))
    x, h, c, *weights = arguments(problem).values()
    whole = layer(problem.cell, x, h, c, *weights)
    pieces = []
    for part in x.split(2):
        piece, h, c = layer(problem.cell, part, h, c, *weights)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces), whole[0])
    torch.testing.assert_close(c, whole[2])


def test_no_steps_at_all_hand_back_the_state() -> None:
    problem = make_problem(Variant(CELLS["gru"]))
    x, h, *rest = arguments(problem).values()
    output, h_n, _ = layer(problem.cell, x[:0], h, *rest)
    assert output.shape == (0, 4, 4)
    assert torch.equal(h_n, h)


def test_impossible_combinations_are_refused_by_name() -> None:
    x, h0, _, w_ih, w_hh, b_ih, b_hh, _ = arguments(make_problem(Variant(CELLS["rnn_tanh"]))).values()
    with pytest.raises(ValueError, match="x has shape"):
        layer("rnn_tanh", x[0], h0, None, w_ih, w_hh, b_ih, b_hh, None)
    with pytest.raises(ValueError, match="rnn_tanh has no cell state"):
        layer("rnn_tanh", x, h0, h0, w_ih, w_hh, b_ih, b_hh, None)
    with pytest.raises(ValueError, match="rnn_tanh has no projection"):
        layer("rnn_tanh", x, h0, None, w_ih, w_hh, b_ih, b_hh, w_hh)
    x, _, _, w_ih, w_hh, b_ih, _, _ = arguments(make_problem(UNTIED[0])).values()
    with pytest.raises(ValueError, match="h0 was given with untied"):
        layer("rnn_tanh", x, h0, None, w_ih, w_hh, b_ih, None, None)
    with pytest.raises(ValueError, match="b_hh was given with untied"):
        layer("rnn_tanh", x, None, None, w_ih, w_hh, b_ih, b_hh, None)
    with pytest.raises(ValueError, match="exactly T=5"):
        layer("rnn_tanh", x, None, None, w_ih, w_hh, b_ih, None, None, lengths=torch.tensor([5, 5, 5, 4]))
    with pytest.raises(ValueError, match="gru has no untied form"):
        layer("gru", x, None, None, w_ih, w_hh, b_ih, None, None)
