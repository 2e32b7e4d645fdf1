"""Input that is unusual but right: any strides, views, NaN and infinity, empty batches, tensors without memory of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import RNNBase
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils._pytree import tree_map_only

import throughtime as tt

from beside_torch import assert_rounds_to, assert_same_bits, in_child, scalar_of, tensors_of, twins

T, B, I, H = 6, 4, 3, 5
KINDS = ("RNN", "GRU", "LSTM")
CELLS = ("RNNCell", "GRUCell", "LSTMCell")
DTYPES = (torch.float32, torch.float64)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def outcome(module: RNNBase, x: Tensor, hx: object = None, **keywords: object) -> list[Tensor]:
    """Results, and the gradients of everything there is."""
    x = x.detach().requires_grad_()
    states = [t.detach().requires_grad_() for t in ([] if hx is None else tensors_of(hx))]
    given = None if hx is None else tuple(states) if len(states) == 2 else states[0]
    results = tensors_of(module(x, given, **keywords))
    loss = scalar_of(results)
    if not isinstance(loss, Tensor):  # no element at all
        loss = sum(t.sum() for t in results)
    return [*results, *torch.autograd.grad(loss, [x, *states, *module.parameters()])]


def hx_for(module: RNNBase, batch: int = B, dtype: torch.dtype = torch.float64) -> Tensor | tuple[Tensor, Tensor]:
    h = draw(1, batch, H, seed=8, dtype=dtype)
    return (h, draw(1, batch, H, seed=9, dtype=dtype)) if module.mode == "LSTM" else h


# --- strides


STRIDED: dict[str, Callable[..., Tensor]] = {
    "batch first": lambda *s: draw(s[1], s[0], *s[2:]).transpose(0, 1),
    "features first": lambda *s: draw(s[-1], *s[:-1]).movedim(0, -1),
    "all turned round": lambda *s: draw(*s[::-1]).permute(*range(len(s))[::-1]),
    "every other row": lambda *s: draw(2 * s[0], 2 * s[1], *s[2:])[::2, 1::2],
    "every other feature": lambda *s: draw(*s[:-1], 2 * s[-1])[..., ::2],
    "the middle": lambda *s: draw(*(n + 2 for n in s))[tuple(slice(1, -1) for _ in s)],
    "flipped": lambda *s: draw(*s).flip(0),
    "one row for all": lambda *s: draw(1, 1, *s[2:]).expand(s),
    "one step for all": lambda *s: draw(1, *s[1:]).expand(s),
    "one feature for all": lambda *s: draw(*s[:-1], 1).expand(s),
    "one number": lambda *s: draw(1).expand(s),
    "overlapping": lambda *s: draw(sum(s)).as_strided(s, (1,) * len(s)),
    "with an offset": lambda *s: draw(int(np.prod(s)) + 1)[1:].view(s),
    "a channel of many": lambda *s: draw(*s, 3)[..., 1],
    "imaginary parts": lambda *s: torch.complex(draw(*s), draw(*s, seed=1)).imag,
    "negated lazily": lambda *s: torch._neg_view(draw(*s)),
    "conjugated lazily": lambda *s: torch.complex(draw(*s), draw(*s, seed=1)).conj().imag,
    "read only": lambda *s: torch.broadcast_to(draw(*s), s),
}


def contiguous(view: Tensor) -> Tensor:
    return view.resolve_neg().clone(memory_format=torch.contiguous_format)


@pytest.mark.parametrize("inputs", [1, I])
@pytest.mark.parametrize("how", STRIDED)
@pytest.mark.parametrize("kind", KINDS)
def test_input_of_any_strides_gives_the_bits_of_a_contiguous_one(kind: str, how: str, inputs: int) -> None:
    module = getattr(tt.nn, kind)(inputs, H, dtype=torch.float64)
    x = STRIDED[how](T, B, inputs)
    for keywords in ({}, {"lengths": [2, 6, 0, 5]}):
        assert_same_bits(outcome(module, x, **keywords), outcome(module, contiguous(x), **keywords))
    single = x[:, 1]
    assert_same_bits(outcome(module, single), outcome(module, contiguous(single)))


@pytest.mark.parametrize("how", STRIDED)
@pytest.mark.parametrize("kind", KINDS)
def test_states_weights_and_gradients_of_any_strides_are_read_rightly(kind: str, how: str) -> None:
    module = getattr(tt.nn, kind)(I, H, bidirectional=True, dtype=torch.float64)
    x = draw(T, B, I)
    h = STRIDED[how](2, B, H)
    hx = (h, h * 2) if kind == "LSTM" else h
    plain = (contiguous(h), contiguous(h * 2)) if kind == "LSTM" else contiguous(h)
    assert_same_bits(outcome(module, x, hx), outcome(module, x, plain))

    weight = STRIDED[how](*module.weight_hh_l0.shape, 2)[..., 0]
    results = [
        tensors_of(functional_call(module, {"weight_hh_l0": w, "weight_ih_l0": w[:, :I]}, (x,)))
        for w in (weight, contiguous(weight))
    ]
    assert_same_bits(*results)

    results = tensors_of(module(x.requires_grad_(), lengths=[2, 6, 0, 5]))
    grads = [STRIDED[how](*t.shape) for t in results]
    wanted = [x, *module.parameters()]
    found = torch.autograd.grad(results, wanted, grads, retain_graph=True)
    assert_same_bits(found, torch.autograd.grad(results, wanted, [contiguous(g) for g in grads]))


@pytest.mark.parametrize("how", STRIDED)
def test_packed_data_and_cells_of_any_strides_are_read_rightly(how: str) -> None:
    data = STRIDED[how](11, 1, I)[:, 0]
    sizes = torch.tensor([9, 4, 9, 3, 9, 2, 9, 1, 9, 1])[1::2]
    module = tt.nn.LSTM(I, H, bidirectional=True, dtype=torch.float64)
    results = [module(PackedSequence(d, sizes)) for d in (data, contiguous(data))]
    assert_same_bits(*(tensors_of(result) for result in results))
    for kind in CELLS:
        cell = getattr(tt.nn, kind)(I, H, dtype=torch.float64)
        assert_same_bits(tensors_of(cell(data)), tensors_of(cell(contiguous(data))))


def test_a_gradient_of_zeros_without_memory_is_zero() -> None:
    module = tt.nn.GRU(I, H, dtype=torch.float64)
    output, h_n = module(draw(T, B, I).requires_grad_())
    zeros = torch._efficientzerotensor(output.shape, dtype=torch.float64)
    found = torch.autograd.grad([output, h_n], list(module.parameters()), [zeros, torch.ones_like(h_n)], retain_graph=True)
    assert_same_bits(found, torch.autograd.grad(h_n, list(module.parameters()), torch.ones_like(h_n)))


# --- NaN and infinity: as in torch, result and gradient


NONFINITE = [float("nan"), float("inf"), -float("inf")]
# Where nothing is bounded, whether a sum of large numbers overflows depends on its order: no large numbers for relu.
VALUES = [(kind, value) for kind in KINDS for value in (*NONFINITE, 1e30, -1e30)] + [("relu", value) for value in NONFINITE]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kind", "value"), VALUES)
def test_nan_and_infinity_go_where_they_go_in_torch(kind: str, dtype: torch.dtype, value: float) -> None:
    options = {"nonlinearity": "relu"} if kind == "relu" else {}
    pair = twins("RNN" if kind == "relu" else kind, I, H, dtype=dtype, **options)
    for where in ("x", "h", "weight"):
        found = []
        for module in pair:
            x, hx = draw(T, B, I, dtype=dtype), hx_for(module, dtype=dtype)
            {"x": x[2, 1], "h": tensors_of(hx)[0][0, 1], "weight": module.weight_ih_l0.data[1]}[where][2] = value
            found.append(outcome(module, x, hx))
        for index, (ours, theirs) in enumerate(zip(*found, strict=True)):
            for pattern in (torch.isnan, torch.isposinf, torch.isneginf):
                assert torch.equal(pattern(ours), pattern(theirs)), f"{pattern.__name__} of tensor {index}, {where}"
        if not abs(value) > 1e20:  # at 1e30 a rounding is larger than everything else
            assert_rounds_to(*found)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_one_sequence_touches_no_other(kind: str) -> None:
    module = getattr(tt.nn, kind)(I, H, num_layers=2, bidirectional=True, dtype=torch.float64)
    x = draw(T, B, I)
    expected = [t.detach() for t in tensors_of(module(x))]
    x[3, 2] = float("nan")
    for found, known in zip(tensors_of(module(x)), expected, strict=True):
        assert found[:, 2].isnan().all()
        others = [0, 1, 3]
        assert_same_bits([found[:, others].detach()], [known[:, others]])


# --- nothing, and next to nothing


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}], ids=["plain", "deep"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch_is_torchs(kind: str, options: dict, dtype: torch.dtype) -> None:
    def task() -> list[list]:
        results = []
        for module in twins(kind, I, H, dtype=dtype, **options):
            count = 4 if options else 1
            h = torch.zeros(count, 0, H, dtype=dtype)
            x = torch.zeros((0, T, I) if options else (T, 0, I), dtype=dtype)
            calls = [outcome(module, x), outcome(module, x, (h, h) if kind == "LSTM" else h)]
            if isinstance(module, tt.nn.RNN | tt.nn.GRU | tt.nn.LSTM):
                assert_same_bits(outcome(module, x, lengths=[]), calls[0])
            results.append([(t.shape, t.abs().sum().item()) for call in calls for t in call])
        return results

    ours, theirs = in_child(task)
    assert ours == theirs


@pytest.mark.parametrize("options", [{"nonlinearity": "sigmoid"}, {"nonlinearity": "identity"}, {"tied": False, "steps": T}])
def test_an_empty_batch_of_what_torch_lacks_has_its_shapes(options: dict) -> None:
    module = tt.nn.RNN(I, H, **options)

    def task() -> list:
        found = outcome(module, torch.zeros(T, 0, I))
        return [(tuple(t.shape), t.abs().sum().item()) for t in found]

    shapes = [(T, 0, H), (1, 0, H), (T, 0, I), *(tuple(p.shape) for p in module.parameters())]
    assert in_child(task) == [(shape, 0.0) for shape in shapes]


@pytest.mark.parametrize(
    "sizes", [(0, I, H), (2, I, 0), (2, 0, H), (0, 0, 0)], ids=["no batch", "no units", "no inputs", "none"]
)
@pytest.mark.parametrize("kind", CELLS)
def test_cells_of_no_size_at_all_are_torchs(kind: str, sizes: tuple[int, int, int]) -> None:
    batch, inputs, hidden = sizes

    def task(module: Any) -> list:
        cell = getattr(module, kind)(inputs, hidden, bias=False)
        torch.nn.init.constant_(cell.weight_ih, 0.5)
        torch.nn.init.constant_(cell.weight_hh, 0.25)
        return [(tuple(t.shape), t.flatten().tolist()) for t in outcome(cell, torch.ones(batch, inputs))]

    # torch's own products may wait for ever in a forked child, whose parent has used threads; ours do not.
    ours, theirs = in_child(lambda: task(tt.nn)), task(torch.nn)
    assert [shape for shape, _ in ours] == [shape for shape, _ in theirs]
    for (_, found), (_, known) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-6)  # sums of at most ten float32 products


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, I), (1, B, I), (T, 1, 1)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_batches_are_torchs(kind: str, shape: tuple[int, ...]) -> None:
    for hidden in (1, H):
        pair = twins(kind, shape[-1], hidden, bidirectional=True, dtype=torch.float64)
        assert_rounds_to(*(outcome(module, draw(*shape)) for module in pair))


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_of_nothing_return_the_state_and_its_gradient(kind: str) -> None:
    module = getattr(tt.nn, kind)(I, H, dtype=torch.float64)
    hx = hx_for(module)
    output, *finals = tensors_of(module(draw(T, B, I), hx, lengths=[0] * B))
    assert not output.any()
    assert_same_bits([t.detach() for t in finals], tensors_of(hx))
    states = [t.requires_grad_() for t in tensors_of(hx)]
    x = torch.full((T, B, I), float("nan"), dtype=torch.float64, requires_grad=True)
    _, *finals = tensors_of(module(x, tuple(states) if len(states) == 2 else states[0], lengths=[0] * B))
    grads = torch.autograd.grad(sum((f * 3).sum() for f in finals), [*states, x, *module.parameters()])
    assert all((g == 3).all() for g in grads[: len(states)])
    assert not any(g.any() for g in grads[len(states) :])


# --- dtypes that no kernel serves


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_other_dtypes_are_torchs_own_bits_or_errors(kind: str, dtype: torch.dtype) -> None:
    found = []
    for module in twins(kind, I, H, bidirectional=True, dtype=dtype):
        x = draw(T, B, I).to(dtype)
        try:
            found.append(tensors_of(module(x)))
        except Exception as error:
            found.append(type(error))
    if isinstance(found[1], type):
        assert found[0] is found[1]
    else:
        assert_same_bits(*found)


# --- tensors without memory of their own


class Elsewhere(Tensor):
    """As DTensor and quantized tensors are: the data is somewhere else, and there is nothing at the address."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        return Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, requires_grad=inner.requires_grad)

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        args, kwargs = tree_map_only(Elsewhere, lambda t: t.inner, (args, kwargs or {}))
        return tree_map_only(Tensor, Elsewhere, function(*args, **kwargs))


@pytest.mark.parametrize("which", ["x", "hx", "weight", "bias", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_tensors_without_memory_of_their_own_are_read_rightly(kind: str, which: str) -> None:
    ours, theirs = twins(kind, I, H, dtype=torch.float64)
    name = {"weight": "weight_hh_l0", "bias": "bias_ih_l0"}.get(which)

    def run(module: RNNBase, wrap: Callable[[Tensor], Tensor]) -> Tensor:
        x, hx = draw(T, B, I), hx_for(module)
        if which == "packed":
            packed = pack_padded_sequence(x, torch.tensor([6, 3, 2, 1]))
            return module(PackedSequence(wrap(packed.data), packed.batch_sizes), hx)[0].data
        weights = {name: wrap(module.get_parameter(name).detach())} if name else {}
        given = (wrap(x) if which == "x" else x, tree_map_only(Tensor, wrap, hx) if which == "hx" else hx)
        return functional_call(module, weights, given)[0]

    def task() -> np.ndarray:
        with torch.no_grad():
            output = run(ours, Elsewhere)
        return (output.inner if isinstance(output, Elsewhere) else output).numpy()

    with torch.no_grad():
        assert_rounds_to([torch.from_numpy(in_child(task))], [run(theirs, lambda t: t)])
