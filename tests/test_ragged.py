"""``lengths``: ragged batches without packing, exactly as they are promised.

Legend: T steps, B batch, I inputs, H hidden, L layers, D directions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import throughtime as tt
from throughtime.errors import LengthsError
from throughtime.reference import Weights, backward, forward

from helpers import RAGGED, alive

T, B, I, H = 5, 4, 3, 6  # as RAGGED has it

# Two evaluations of some 5 steps of sums of 10 products of order one, summed over 20 rows in the gradients of weights.
ROUNDING = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-13},
    torch.float32: {"rtol": 1e-4, "atol": 1e-5},
}


def rnn(nonlinearity: str) -> Callable[..., tt.nn.RNN]:
    return lambda *sizes, **options: tt.nn.RNN(*sizes, nonlinearity=nonlinearity, **options)


MODULES: dict[str, Callable[..., tt.nn.RNN | tt.nn.GRU | tt.nn.LSTM]] = {
    **{f"rnn_{name}": rnn(name) for name in ("tanh", "relu", "sigmoid", "identity")},
    "gru": tt.nn.GRU,
    "lstm": tt.nn.LSTM,
    "lstm_projected": lambda *sizes, **options: tt.nn.LSTM(*sizes, proj_size=4, **options),
}
IN_TORCH = [name for name in MODULES if name not in ("rnn_sigmoid", "rnn_identity")]


@pytest.fixture(params=tt.instruction_sets())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = tt.instruction_set()
    tt.set_instruction_set(request.param)
    yield request.param
    tt.set_instruction_set(before)


def build(name: str, layers: int = 2, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    torch.manual_seed(0)
    return MODULES[name](I, H, layers, bidirectional=options.pop("bidirectional", True), dtype=dtype, **options)


def states_of(module: Any, batch: int = B) -> list[Tensor]:
    """Random initial states, leaves."""
    generator = torch.Generator().manual_seed(1)
    count = module.num_layers * (1 + module.bidirectional)
    sizes = [module.proj_size or module.hidden_size, module.hidden_size][: len(module.cell.states)]
    weight = next(module.parameters())
    return [torch.randn(count, batch, size, generator=generator).to(weight.dtype).requires_grad_() for size in sizes]


def batch_of(module: Any, steps: int = T, batch: int = B) -> Tensor:
    return torch.randn(steps, batch, I, generator=torch.Generator().manual_seed(2)).to(next(module.parameters()).dtype)


def seeds_for(tensors: list[Tensor]) -> list[Tensor]:
    """A random gradient for each."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(t.shape, generator=generator).to(t.dtype) for t in tensors]


def call(module: Any, x: Any, hx: list[Tensor], **options: Any) -> list[Tensor]:
    """Output, h_n and, if there is one, c_n."""
    output, final = module(x, (tuple(hx) if len(hx) == 2 else hx[0]) if hx else None, **options)
    return [output, *(final if isinstance(final, tuple) else (final,))]


def differentiated(results: list[Tensor], leaves: list[Tensor], seeds: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(results, leaves, seeds))


def padding(lengths: list[int], steps: int = T) -> Tensor:
    """[T, B]: whether there is no such step."""
    return ~torch.from_numpy(alive(lengths, steps))


# --- against the reference, layer by layer


def weights_of(module: Any, suffix: str) -> Weights:
    named = dict(module.named_parameters())
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    return Weights(*(named[f"{n}_{suffix}"].detach().numpy() if f"{n}_{suffix}" in named else None for n in names))


def by_reference(
    module: Any, x: Tensor, hx: list[Tensor], lengths: list[int], seeds: list[Tensor]
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Output and states of a stack, and all gradients by the names of what they are of."""
    directions = 1 + module.bidirectional
    initial = [state.detach().numpy() for state in hx]
    below, passes = x.detach().numpy(), []
    for depth in range(module.num_layers):
        for direction in range(directions):
            suffix = f"l{depth}" + "_reverse" * direction
            states = [state[len(passes)] for state in initial]
            passes.append((suffix, forward(
                module.cell, below, weights_of(module, suffix), *states, lengths=lengths, reverse=bool(direction)
            )))  # fmt: skip
        below = np.concatenate([run.output for _, run in passes[-directions:]], axis=2)
    finals = [np.stack([getattr(run, f"{kind}_n") for _, run in passes]) for kind in module.cell.states]

    into, *into_finals = (seed.numpy() for seed in seeds)
    gradients: dict[str, np.ndarray] = {f"{kind}_0": np.empty_like(s) for kind, s in zip("hc", initial, strict=False)}
    for depth in reversed(range(module.num_layers)):
        found = []
        for direction, part in enumerate(np.split(into, directions, axis=2)):
            index = depth * directions + direction
            suffix, run = passes[index]
            back = backward(run, part, *(seed[index] for seed in into_finals))
            for kind in module.cell.states:
                gradients[f"{kind}_0"][index] = getattr(back, f"{kind}0")
            names = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh", "weight_hr": "w_hr"}
            gradients |= {f"{name}_{suffix}": getattr(back.weights, ours) for name, ours in names.items()}
            found.append(back.x)
        into = sum(found)
    return [below, *finals], gradients | {"x": into}


@pytest.mark.parametrize("lengths", [RAGGED, [5, 5, 5, 5], [1, 1, 1, 1], [0, 0, 0, 0], [4, 0, 0, 1]], ids=str)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "both_ways"])
@pytest.mark.parametrize("name", MODULES)
def test_a_stack_is_the_reference_layer_by_layer(name: str, bidirectional: bool, lengths: list[int], isa: str) -> None:
    module = build(name, layers=3, bidirectional=bidirectional)
    x, hx = batch_of(module).requires_grad_(), states_of(module)
    results = call(module, x, hx, lengths=lengths)
    seeds = seeds_for(results)
    expected, gradients = by_reference(module, x, hx, lengths, seeds)
    for value, array in zip(results, expected, strict=True):
        np.testing.assert_allclose(value.detach().numpy(), array, **ROUNDING[torch.float64])
    leaves = {"x": x, **dict(zip(("h_0", "c_0"), hx, strict=False)), **dict(module.named_parameters())}
    found = differentiated(results, list(leaves.values()), seeds)
    for leaf, gradient in zip(leaves, found, strict=True):
        np.testing.assert_allclose(gradient.numpy(), gradients[leaf], **ROUNDING[torch.float64], err_msg=leaf)


# --- against torch's way: packing


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("lengths", [[3, 5, 1, 4], [5, 5, 2, 1], [1, 1, 1, 5]], ids=str)
@pytest.mark.parametrize("name", IN_TORCH)
def test_lengths_give_what_packing_gives_in_torch_and_here(name: str, lengths: list[int], dtype: torch.dtype, isa: str) -> None:
    module = build(name, dtype=dtype)
    options = {"nonlinearity": module.nonlinearity} if "rnn" in name else {"proj_size": module.proj_size}
    kind = getattr(torch.nn, type(module).__name__)
    theirs = kind(I, H, 2, bidirectional=True, dtype=dtype, **({} if name == "gru" else options))
    theirs.load_state_dict(module.state_dict())
    outcomes = []
    for way, runner in (("lengths", module), ("packed", module), ("packed", theirs)):
        x, hx = batch_of(module).requires_grad_(), states_of(module)
        if way == "lengths":
            results = call(runner, x, hx, lengths=lengths)
        else:
            packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
            output, *finals = call(runner, packed, hx)
            results = [pad_packed_sequence(output, total_length=T)[0], *finals]
        leaves = [x, *hx, *runner.parameters()]
        outcomes.append([*results, *differentiated(results, leaves, seeds_for(results))])
    for other in outcomes[1:]:
        for one, another in zip(outcomes[0], other, strict=True):
            torch.testing.assert_close(one, another, **ROUNDING[dtype])


# --- padding


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
@pytest.mark.parametrize("name", MODULES)
def test_what_lies_in_padding_reaches_nothing(name: str, batch_first: bool, bad: float, isa: str) -> None:
    module = build(name, batch_first=batch_first)
    outcomes = []
    nowhere = padding(RAGGED).T if batch_first else padding(RAGGED)
    for spoilt in (False, True):
        x, hx = batch_of(module), states_of(module)
        x = (x.transpose(0, 1) if batch_first else x).contiguous()
        x = torch.where(nowhere[..., None], bad, x) if spoilt else x
        results = call(module, x.requires_grad_(), hx, lengths=RAGGED)
        seeds = seeds_for(results)
        seeds[0] = torch.where(nowhere[..., None], bad, seeds[0]) if spoilt else seeds[0]
        outcomes.append([*results, *differentiated(results, [x, *hx, *module.parameters()], seeds)])
    for clean, other in zip(*outcomes, strict=True):
        assert torch.equal(clean, other)
    output, x_gradient = outcomes[1][0], outcomes[1][len(results)]
    assert (output[nowhere] == 0).all()
    assert (x_gradient[nowhere] == 0).all()


@pytest.mark.parametrize("name", [*IN_TORCH, "rnn_sigmoid"])
def test_padding_reaches_nothing_where_torchs_own_operators_run(name: str) -> None:
    module = build(name, dtype=torch.bfloat16)
    exact = build(name, dtype=torch.float32)
    exact.load_state_dict(module.state_dict())
    outcomes = []
    for runner, bad in ((module, 0.0), (module, float("nan")), (exact, float("nan"))):
        x, hx = batch_of(module), states_of(module)  # the same numbers, rounded to bfloat16
        x = torch.where(padding(RAGGED)[..., None], bad, x).to(next(runner.parameters()).dtype).requires_grad_()
        hx = [state.detach().to(x.dtype).requires_grad_() for state in hx]
        results = call(runner, x, hx, lengths=RAGGED)
        seeds = seeds_for(results)
        seeds[0] = torch.where(padding(RAGGED)[..., None], bad, seeds[0])
        outcomes.append([*results, *differentiated(results, [x, *hx, *runner.parameters()], seeds)])
    assert tt.nn.backend(module, x.detach().bfloat16()).endswith(("torch: bfloat16", "has no operator in torch"))
    for clean, spoilt, expected in zip(*outcomes, strict=True):
        assert torch.equal(clean, spoilt)
        # Eight bits: half a percent for every rounding, some ten of them one after the other.
        scale = expected.abs().max().item()
        torch.testing.assert_close(spoilt.float(), expected, rtol=0, atol=0.05 * scale)


# --- true ends, and no steps at all


@pytest.mark.parametrize("name", MODULES)
def test_the_state_returned_is_that_of_each_true_end(name: str, isa: str) -> None:
    module = build(name, layers=1)
    hx = states_of(module)
    output, h_n, *_ = call(module, batch_of(module), hx, lengths=RAGGED)
    there, back = output.tensor_split(2, dim=2)
    for b, length in enumerate(RAGGED):
        if length:
            assert torch.equal(h_n[0, b], there[length - 1, b])
            assert torch.equal(h_n[1, b], back[0, b])


@pytest.mark.parametrize("lengths", [RAGGED, [0, 0, 0, 0]], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_length_zero_returns_the_state_and_passes_its_gradient(name: str, dtype: torch.dtype, lengths: list[int]) -> None:
    module = build(name, layers=2, dtype=dtype)
    hx = states_of(module)
    results = call(module, batch_of(module), hx, lengths=lengths)
    seeds = seeds_for(results)
    gradients = torch.autograd.grad(results, [*hx, *module.parameters()], seeds, allow_unused=True)
    for state, final, seed, gradient in zip(hx, results[1:], seeds[1:], gradients, strict=False):
        for b in (b for b, length in enumerate(lengths) if length == 0):
            assert torch.equal(final[:, b], state[:, b])
            assert final.data_ptr() != state.data_ptr(), "whoever writes into one would change the other"
            assert torch.equal(gradient[:, b], seed[:, b])
    if not any(lengths):
        assert (results[0] == 0).all()
        for gradient in gradients[len(hx) :]:
            assert gradient is None or (gradient == 0).all()


@pytest.mark.parametrize("name", MODULES)
def test_length_zero_without_a_state_returns_zeros(name: str) -> None:
    module = build(name)
    for final in call(module, batch_of(module), [], lengths=RAGGED)[1:]:
        assert (final[:, 1] == 0).all()
        assert (final[:, 0] != 0).any()


# --- what lengths may be


@pytest.mark.parametrize("kind", ["tuple", "int64", "int32", "int16", "uint8", "numpy", "strided", "numbers"])
def test_lengths_may_be_any_integers(kind: str) -> None:
    module = build("gru")
    given: Any = {
        "tuple": tuple(RAGGED),
        "numpy": np.array(RAGGED),
        "strided": torch.tensor([RAGGED, RAGGED]).T[:, 0],
        "numbers": [np.int32(n) for n in RAGGED],
    }.get(kind)
    if given is None:
        given = torch.tensor(RAGGED, dtype=getattr(torch, kind))
    expected = call(module, batch_of(module), [], lengths=RAGGED)
    for value, other in zip(expected, call(module, batch_of(module), [], lengths=given), strict=True):
        assert torch.equal(value, other)


def test_full_lengths_are_no_lengths() -> None:
    module = build("lstm")
    for value, other in zip(
        call(module, batch_of(module), []), call(module, batch_of(module), [], lengths=[T] * B), strict=True
    ):
        assert torch.equal(value, other)


def test_one_sequence_may_have_a_length() -> None:
    module = build("lstm")
    x = batch_of(module)
    single = call(module, x[:, 0], [], lengths=[3])
    for value, other in zip(single, call(module, x[:, :1], [], lengths=[3]), strict=True):
        assert torch.equal(value, other.squeeze(1))
    torch.testing.assert_close(single[0][:3], call(module, x[:3, 0], [])[0])


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([3, 0, 6, 1], r"lengths\[2\] is 6, expected 0 to 5"),
        ([3, 0, 5, -1], r"lengths\[3\] is -1, expected 0 to 5"),
        ([3, 0, 5], r"lengths has shape \(3,\), expected \(4,\)"),
        ([[3, 0, 5, 1]], r"lengths has shape \(1, 4\)"),
        ([3.0, 0.0, 5.0, 1.0], "expected integers"),
        ([True, False, True, True], "expected integers"),
    ],
)
def test_lengths_that_do_not_fit_are_refused_by_name(lengths: Any, message: str) -> None:
    module = build("gru")
    for given in (lengths, torch.tensor(lengths)):
        with pytest.raises(LengthsError, match=message):
            module(batch_of(module), lengths=given)
    packed = pack_padded_sequence(batch_of(module), torch.tensor([5, 5, 5, 5]))
    with pytest.raises(LengthsError, match="PackedSequence, which has its own"):
        module(packed, lengths=[5, 5, 5, 5])


def test_untied_weights_take_only_the_lengths_they_were_made_for() -> None:
    module = tt.nn.RNN(I, H, tied=False, steps=T)
    x = batch_of(module)
    for value, other in zip(call(module, x, [], lengths=[T] * B), call(module, x, []), strict=True):
        assert torch.equal(value, other)
    with pytest.raises(tt.errors.NotServedError, match=r"exactly 5 steps; got lengths \[3, 0, 5, 1\]"):
        module(x, lengths=RAGGED)


# --- batch invariance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_a_sequence_gives_the_same_alone_and_in_any_company(name: str, dtype: torch.dtype, isa: str) -> None:
    module = build(name, dtype=dtype)
    x, hx, lengths = batch_of(module, 20, 5), states_of(module, 5), [13, 0, 20, 1, 7]
    together = call(module, x, hx, lengths=lengths)
    gradient = differentiated(together, hx, ones(together))
    for b, length in enumerate(lengths):
        own = [state[:, b : b + 1] for state in hx]
        for cut in {max(length, 1), 20}:  # without its padding, or with
            alone = call(module, x[:cut, b : b + 1], own, lengths=[length])
            torch.testing.assert_close(alone[0][:length], together[0][:length, b : b + 1], **ROUNDING[dtype])
            for value, other in zip(alone[1:], together[1:], strict=True):
                torch.testing.assert_close(value, other[:, b : b + 1], **ROUNDING[dtype])
            back = differentiated(alone, hx, ones(alone))
            for value, other in zip(back, gradient, strict=True):
                torch.testing.assert_close(value[:, b], other[:, b], **ROUNDING[dtype])


def ones(tensors: list[Tensor]) -> list[Tensor]:
    return [torch.ones_like(t) for t in tensors]


@pytest.mark.parametrize("name", MODULES)
def test_company_and_order_change_no_bit_where_the_kernels_are_the_same(name: str, isa: str) -> None:
    # A single sequence, and fewer than 12 steps in all, take kernels of their own; all others add up in one order.
    module = build(name, dtype=torch.float32)
    x, hx, lengths = batch_of(module, 20, 5), states_of(module, 5), [13, 0, 20, 1, 7]
    expected = call(module, x, hx, lengths=lengths)
    back = differentiated(expected, hx, ones(expected))
    for company in ([2, 0, 4, 1, 3], [0, 2], [2, 2, 2], [0, 1, 2, 3, 4, 4, 3, 2, 1, 0], [3, 4, 4], [1, 0]):
        own = [state[:, company] for state in hx]
        results = call(module, x[:, company], own, lengths=[lengths[b] for b in company])
        for value, other in zip(results, expected, strict=True):
            assert torch.equal(value, other[:, company])
        states = [state.detach().requires_grad_() for state in own]
        results = call(module, x[:, company], states, lengths=[lengths[b] for b in company])
        for value, other in zip(differentiated(results, states, ones(results)), back, strict=True):
            assert torch.equal(value, other[:, company])


# --- cost


def test_time_follows_the_true_number_of_steps() -> None:
    # 8 steps of 200 for every sequence: 1/25 of the work, and a factor of 8 to spare for what is done once a call, and for
    # noise: processor time of the best of three runs.
    module = tt.nn.LSTM(16, 128)
    x = torch.randn(200, 64, 16)
    tt.set_num_threads(1)

    def cost(lengths: list[int]) -> float:
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            output, _ = module(x, lengths=lengths)
            output.sum().backward()
            best = min(best, time.process_time() - start)
        return best

    try:
        assert cost([8] * 64) < cost([200] * 64) / 3
    finally:
        tt.set_num_threads(None)
