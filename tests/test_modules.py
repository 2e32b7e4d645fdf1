"""tt.nn beside torch.nn, weights and all: any shape, option and kind of input gives the same outputs, states and gradients.

Legend: T steps, B batch, I inputs, H hidden, L layers, D directions.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import throughtime as tt
from throughtime.reference import Weights, forward

EXAMPLES = 800
"""So many that every corner is among them, however Hypothesis mixes them: it takes constants from loaded modules."""
PROPERTY = settings(
    derandomize=True,  # the same examples on every run, and no database of failures
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# Of the largest element of each tensor, or of the terms it is a sum of, which are of order one. Both sides round: sums of up
# to 1000 terms, 1.1e-16 and 6e-8 each, err by some 30 of these, gradients sum up thousands of such rows, and up to 300 steps
# pass them on, damped by torch's initial weights.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-5}

KINDS = {
    "RNN_TANH": (torch.nn.RNN, tt.nn.RNN, {"nonlinearity": "tanh"}),
    "RNN_RELU": (torch.nn.RNN, tt.nn.RNN, {"nonlinearity": "relu"}),
    "GRU": (torch.nn.GRU, tt.nn.GRU, {}),
    "LSTM": (torch.nn.LSTM, tt.nn.LSTM, {}),
}


@contextmanager
def running_on(isa: str, threads: int) -> Iterator[None]:
    before = tt.instruction_set()
    tt.set_instruction_set(isa)
    tt.set_num_threads(threads)
    try:
        yield
    finally:
        tt.set_num_threads(None)
        tt.set_instruction_set(before)


def assert_same(name: str, ours: Tensor | None, theirs: Tensor | None) -> None:
    assert (ours is None) == (theirs is None), name
    if theirs is None:
        return
    assert ours.shape == theirs.shape, name
    assert ours.dtype == theirs.dtype, name
    scale = max(1.0, theirs.abs().max().item()) if theirs.numel() else 0.0
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE[theirs.dtype] * scale, msg=lambda text: f"{name}: {text}")


# --- modules


@dataclass(frozen=True)
class Setting:
    """A module and what it is called with."""

    kind: str
    I: int
    H: int
    T: int
    B: int
    layers: int
    bidirectional: bool
    batch_first: bool
    bias: bool
    proj_size: int
    dropout: float
    training: bool
    dtype: torch.dtype
    states: bool
    form: str  # batch, single, sorted (a PackedSequence), unsorted (another)
    memory: str  # contiguous, sliced, repeated
    seed: int

    def build(self) -> tuple[torch.nn.RNNBase, tt.nn.RNN | tt.nn.GRU | tt.nn.LSTM]:
        theirs, ours, options = KINDS[self.kind]
        options = options | {"proj_size": self.proj_size} if self.proj_size else options
        torch.manual_seed(self.seed)
        pair = [
            kind(
                self.I,
                self.H,
                self.layers,
                bias=self.bias,
                batch_first=self.batch_first,
                dropout=self.dropout,
                bidirectional=self.bidirectional,
                dtype=self.dtype,
                **options,
            ).train(self.training)
            for kind in (theirs, ours)
        ]
        assert list(pair[0].state_dict()) == list(pair[1].state_dict())
        pair[1].load_state_dict(pair[0].state_dict())
        return pair[0], pair[1]

    def input(self) -> tuple[Tensor, list[int] | None]:
        """The padded batch, and the lengths to pack it with."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.B, self.T, self.I) if self.batch_first else (self.T, self.B, self.I)
        if self.form == "single":
            shape = (self.T, self.I)
        if self.memory == "sliced":
            x = torch.randn(*shape[:-1], 2 * self.I + 1, generator=generator, dtype=self.dtype)[..., 1::2]
        elif self.memory == "repeated":
            x = torch.randn(*shape[:-2], 1, shape[-1], generator=generator, dtype=self.dtype).expand(shape)
        else:
            x = torch.randn(shape, generator=generator, dtype=self.dtype)
        if self.form not in ("sorted", "unsorted"):
            return x, None
        lengths = torch.randint(1, self.T + 1, (self.B,), generator=generator)
        lengths[int(torch.randint(0, self.B, (1,), generator=generator))] = self.T
        return x, (lengths.sort(descending=True).values if self.form == "sorted" else lengths).tolist()


@st.composite
def drawn_settings(draw: st.DrawFn) -> Setting:
    kind = draw(st.sampled_from(list(KINDS)))
    H = draw(st.integers(1, 40) | st.integers(1, 512) | st.sampled_from([16, 32, 64, 128, 192, 256, 512]))
    I = draw(st.integers(1, 20) | st.integers(1, 300))
    layers, bidirectional = draw(st.integers(1, 3)), draw(st.booleans())
    gates = {"GRU": 3, "LSTM": 4}.get(kind, 1)
    widest = H * (1 + bidirectional) if layers > 1 else 0
    # So many multiply-adds a step; at most 4e6 in the forward pass of an example keep it to some milliseconds.
    work = layers * (1 + bidirectional) * gates * H * (max(I, widest) + H)
    steps = max(2, int(4e6 / work))
    T = draw(st.integers(1, min(300, steps)))
    B = draw(st.integers(1, max(1, min(20, steps // T))))
    proj_size = draw(st.integers(1, H - 1)) if kind == "LSTM" and H > 1 and draw(st.booleans()) else 0
    return Setting(
        kind=kind,
        I=I,
        H=H,
        T=T,
        B=B,
        layers=layers,
        bidirectional=bidirectional,
        batch_first=draw(st.booleans()),
        bias=draw(st.booleans()),
        proj_size=proj_size,
        dropout=draw(st.sampled_from([0.0, 0.3, 0.9])) if layers > 1 else 0.0,
        training=draw(st.booleans()),
        dtype=draw(st.sampled_from([torch.float32, torch.float64])),
        states=draw(st.booleans()),
        form=draw(st.sampled_from(["batch", "batch", "single", "sorted", "unsorted"])),
        memory=draw(st.sampled_from(["contiguous", "contiguous", "sliced", "repeated"])),
        seed=draw(st.integers(0, 2**20)),
    )


def everything(setting: Setting, module: torch.nn.RNNBase) -> dict[str, Tensor | None]:
    """Outputs, final states and every gradient of one call, from the same numbers for the same setting."""
    x, lengths = setting.input()
    x = x.detach().requires_grad_()
    source: Tensor | PackedSequence = x
    if lengths is not None:
        source = pack_padded_sequence(x, torch.tensor(lengths), setting.batch_first, setting.form == "sorted")
    generator = torch.Generator().manual_seed(setting.seed + 1)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=setting.dtype)

    count = setting.layers * (1 + setting.bidirectional)
    between = () if setting.form == "single" else (setting.B,)
    sizes = [setting.proj_size or setting.H, setting.H][: 2 if setting.kind == "LSTM" else 1]
    hx = [random(count, *between, size).requires_grad_() for size in sizes] if setting.states else []
    torch.manual_seed(setting.seed)  # of dropout
    output, final = module(source, (tuple(hx) if len(hx) == 2 else hx[0]) if hx else None)

    found: dict[str, Tensor | None] = {}
    if isinstance(output, PackedSequence):
        for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
            given, returned = getattr(source, field), getattr(output, field)
            assert returned is given or torch.equal(returned, given), field
        output = output.data
    found["output"] = output
    found |= dict(zip(("h_n", "c_n"), final if isinstance(final, tuple) else (final,), strict=False))
    sum((value * random(*value.shape)).sum() for value in list(found.values())).backward()
    found["x.grad"] = x.grad
    found |= {f"{name}.grad": state.grad for name, state in zip(("h_0", "c_0"), hx, strict=False)}
    found |= {f"{name}.grad": parameter.grad for name, parameter in module.named_parameters()}
    return {name: value if value is None else value.detach() for name, value in found.items()}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # torch tells of itself
@settings(PROPERTY, max_examples=EXAMPLES)
@given(drawn_settings(), st.sampled_from(tt.instruction_sets()), st.integers(1, 2))
def test_a_module_is_torchs_in_outputs_states_and_every_gradient(setting: Setting, isa: str, threads: int) -> None:
    theirs, ours = setting.build()
    expected = everything(setting, theirs)
    with running_on(isa, threads):
        assert tt.nn.backend(ours, setting.input()[0]) == f"native/{isa}"
        found = everything(setting, ours)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert_same(name, found[name], value)


@settings(PROPERTY, max_examples=60)
@given(drawn_settings())
def test_without_gradients_the_values_are_the_same_to_the_bit(setting: Setting) -> None:
    # One of many ways in which nothing is kept for the way back; that takes other memory, and no other arithmetic.
    _, module = replace(setting, training=False).build()
    x, lengths = setting.input()
    source = x
    if lengths is not None:
        source = pack_padded_sequence(x, torch.tensor(lengths), setting.batch_first, setting.form == "sorted")
    output, final = module(source)
    with torch.inference_mode():
        output_again, final_again = module(source)
    first, second = (p.data if isinstance(p, PackedSequence) else p for p in (output, output_again))
    assert torch.equal(first, second)
    for one, other in zip(final, final_again, strict=True):
        assert torch.equal(one, other)


def test_examples_reach_the_corners() -> None:
    # What a strategy can draw is not what it draws: the same examples as above, counted.
    drawn: list[Setting] = []

    @settings(PROPERTY, max_examples=EXAMPLES)
    @given(drawn_settings(), st.sampled_from(tt.instruction_sets()), st.integers(1, 2))
    def collect(setting: Setting, isa: str, threads: int) -> None:
        drawn.append(setting)

    collect()
    assert max(s.H for s in drawn) > 400
    assert max(s.T for s in drawn) > 150
    assert {s.form for s in drawn} == {"batch", "single", "sorted", "unsorted"}
    assert {s.memory for s in drawn} == {"contiguous", "sliced", "repeated"}
    assert {(s.kind, s.layers, s.bidirectional) for s in drawn} >= {(k, n, b) for k in KINDS for n in (1, 2, 3) for b in (0, 1)}
    assert sum(s.dropout > 0 and s.training for s in drawn) > 20
    assert sum(s.proj_size > 0 for s in drawn) > 20


# --- what torch has not: against the reference, layer by layer


def by_reference(module: tt.nn.RNN, x: np.ndarray, hx: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Output and h_n of a stack of simple RNNs, tied or untied, [T, B, I] in float64."""
    directions = 2 if module.bidirectional else 1
    finals = []
    for depth in range(module.num_layers):
        outputs = []
        for direction in range(directions):
            suffix = f"l{depth}" + ("_reverse" if direction else "")
            index = len(finals)
            result = forward(
                module.cell,
                x,
                reference_weights(module, suffix),
                None if hx is None else hx[index],
                reverse=direction == 1,
            )
            outputs.append(result.output)
            finals.append(result.h_n)
        x = np.concatenate(outputs, axis=2)
    return x, np.stack(finals)


def reference_weights(module: tt.nn.RNN, suffix: str) -> Weights:
    named = {name: value.detach().double().numpy() for name, value in module.named_parameters()}
    if module.tied:
        names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
        return Weights(*(named[f"{name}_{suffix}"] for name in names))
    steps = range(1, module.steps + 1)
    recurrent = [named[f"weight_hh_{suffix}_t{t}"] for t in steps[:-1]]
    return Weights(
        np.stack([named[f"weight_ih_{suffix}_t{t}"] for t in steps]),
        np.stack(recurrent) if recurrent else np.empty((0, module.hidden_size, module.hidden_size)),
        np.stack([named[f"bias_{suffix}_t{t}"] for t in steps]) if module.bias else None,
    )


@pytest.mark.parametrize("isa", tt.instruction_sets())
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("steps", "tied"), [(7, True), (7, False), (1, False)])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "sigmoid", "identity"])
def test_what_torch_has_not_is_the_reference_layer_by_layer(
    nonlinearity: str, steps: int, tied: bool, bidirectional: bool, bias: bool, isa: str
) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {} if tied else {"tied": False, "steps": steps}
    module = tt.nn.RNN(3, 5, 2, nonlinearity, bias, bidirectional=bidirectional, dtype=torch.float64, **options)
    x = torch.randn(steps, 4, 3, dtype=torch.float64, requires_grad=True)
    hx = torch.randn(2 * (1 + bidirectional), 4, 5, dtype=torch.float64) if tied else None
    with running_on(isa, 1):
        output, h_n = module(x, hx)
        expected = by_reference(module, x.detach().numpy(), None if hx is None else hx.numpy())
        for name, value, array in zip(("output", "h_n"), (output, h_n), expected, strict=True):
            assert_same(name, value.detach(), torch.from_numpy(array))
        # A gradient by the definition, in one random direction of everything at once.
        leaves = [x, *module.parameters()]
        directions = [torch.randn_like(leaf) for leaf in leaves]
        gradients = torch.autograd.grad((output**2).sum() + h_n.sum(), leaves)
        slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))

        def moved(step: float) -> Tensor:
            with torch.no_grad():
                shifted = [leaf + step * d for leaf, d in zip(leaves, directions, strict=True)]
                named = dict(zip(dict(module.named_parameters()), shifted[1:], strict=True))
                output, h_n = torch.func.functional_call(module, named, (shifted[0], hx))
                return (output**2).sum() + h_n.sum()

        # Truncation is 1e-10 times a third derivative, cancellation 1e-16 / 1e-5 times the value.
        difference = (moved(1e-5) - moved(-1e-5)) / 2e-5
        torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-6)


# --- cells

CELLS = {
    "RNN_TANH": (torch.nn.RNNCell, tt.nn.RNNCell, {"nonlinearity": "tanh"}),
    "RNN_RELU": (torch.nn.RNNCell, tt.nn.RNNCell, {"nonlinearity": "relu"}),
    "GRU": (torch.nn.GRUCell, tt.nn.GRUCell, {}),
    "LSTM": (torch.nn.LSTMCell, tt.nn.LSTMCell, {}),
}


@settings(PROPERTY, max_examples=150)
@given(
    kind=st.sampled_from(list(CELLS)),
    I=st.integers(1, 20) | st.integers(1, 200),
    H=st.integers(1, 40) | st.integers(1, 512),
    B=st.integers(1, 15) | st.none(),
    bias=st.booleans(),
    states=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    isa=st.sampled_from(tt.instruction_sets()),
    threads=st.integers(1, 2),
    seed=st.integers(0, 2**20),
)
def test_a_cell_is_torchs_in_states_and_every_gradient(
    kind: str, I: int, H: int, B: int | None, bias: bool, states: bool, dtype: torch.dtype, isa: str, threads: int, seed: int
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    theirs, ours, options = CELLS[kind]
    pair = [cell(I, H, bias=bias, dtype=dtype, **options) for cell in (theirs, ours)]
    pair[1].load_state_dict(pair[0].state_dict())
    batch = () if B is None else (B,)
    x, *hx = (torch.randn(*batch, n, dtype=dtype) for n in (I, *[H] * (2 if kind == "LSTM" else 1)))
    weights = [torch.randn(*batch, H, dtype=dtype) for _ in hx]
    results = []
    for cell in pair:
        leaves = [tensor.clone().requires_grad_() for tensor in (x, *hx)]
        given_states = (tuple(leaves[1:]) if kind == "LSTM" else leaves[1]) if states else None
        with running_on(isa, threads):
            final = cell(leaves[0], given_states)
        final = final if isinstance(final, tuple) else (final,)
        sum((value * weight).sum() for value, weight in zip(final, weights, strict=True)).backward()
        gradients = {f"{name}.grad": leaf.grad for name, leaf in zip(("x", "h", "c"), leaves, strict=False)}
        gradients |= {f"{name}.grad": parameter.grad for name, parameter in cell.named_parameters()}
        results.append(dict(zip(("h", "c"), (v.detach() for v in final), strict=False)) | gradients)
    for name, value in results[0].items():
        assert_same(name, results[1][name], value)


@pytest.mark.parametrize("nonlinearity", ["sigmoid", "identity"])
def test_a_cell_that_torch_has_not_is_one_step_of_the_module(nonlinearity: str) -> None:
    torch.manual_seed(0)
    cell = tt.nn.RNNCell(3, 6, nonlinearity=nonlinearity, dtype=torch.float64)
    module = tt.nn.RNN(3, 6, nonlinearity=nonlinearity, dtype=torch.float64)
    module.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    x, h = torch.randn(4, 2, 3, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    output, _ = module(x, h.unsqueeze(0))
    for t in range(4):
        h = cell(x[t], h)
        assert_same(f"step {t}", h.detach(), output[t].detach())


def test_a_large_output_is_a_tensor_like_any_other() -> None:
    """Its memory is the kernels', which nobody needs to know."""
    gru = tt.nn.GRU(8, 64)
    with torch.no_grad():
        output, _ = gru(torch.randn(50, 32, 8))
    kept = output.clone()
    for _ in range(3):  # others do not get it while it is held
        gru(torch.randn(50, 32, 8))[0].sum().backward()
    assert torch.equal(output, kept)
    trained, _ = gru(torch.randn(50, 32, 8))
    assert trained._base is None
    assert (trained.detach().clone().add_(1) - trained).allclose(torch.ones(1))
    output.mul_(2)
    assert torch.equal(output, 2 * kept)
    assert torch.equal(pickle.loads(pickle.dumps(output)), output)
