"""Under tracers: the registered operators by torch's own checks, torch.compile and torch.export with changing T and B."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, library
from torch._dynamo.testing import CompileCounterWithBackend
from torch.export import Dim
from torch.nn import Module, RNNBase
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import throughtime as tt
from throughtime.ops import registered

from beside_torch import assert_rounds_to, assert_same_bits, in_child, scalar_of, tensors_of
from helpers import TIED, UNTIED, VARIANTS, Variant, make_problem

# Warnings of torch's own, raised from within its compilers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]

KINDS = ("RNN", "GRU", "LSTM")
INPUTS, HIDDEN = 3, 4


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Every test compiles anew, and leaves nothing compiled behind."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# --- the operators


LAYOUTS = {
    "full": (None, False, False),
    "reverse": (None, False, True),
    "ragged": ([3, 0, 5, 1], False, False),
    "ragged_reverse": ([3, 0, 5, 1], False, True),
    "packed": ([5, 3, 3, 1], True, False),
    "packed_reverse": ([5, 3, 3, 1], True, True),
}


def operands(variant: Variant, layout: str, dtype: torch.dtype = torch.float64, keep: str = "gates") -> tuple:
    """The arguments of ``throughtime::layer`` for a random problem."""
    problem = make_problem(variant)
    w = problem.weights
    arrays = (problem.x, problem.h0, problem.c0, w.w_ih, w.w_hh, w.b_ih, w.b_hh, w.w_hr)
    tensors = [None if a is None else torch.tensor(a, dtype=dtype, requires_grad=True) for a in arrays]
    lengths, packed, reverse = LAYOUTS[layout]
    if lengths is not None:
        lengths = torch.tensor(lengths)
    if packed:
        tensors[0] = pack_padded_sequence(tensors[0].detach(), lengths).data.requires_grad_()
    return (*tensors, lengths, variant.cell.name, packed, reverse, keep, 0)


def fits(variant: Variant, layout: str) -> bool:
    return variant.tied or layout in ("full", "reverse")


EVERY = [(variant, layout) for variant in VARIANTS for layout in LAYOUTS if fits(variant, layout)]


@pytest.mark.parametrize(("variant", "layout"), EVERY, ids=str)
def test_the_operator_passes_torchs_own_checks(variant: Variant, layout: str) -> None:
    library.opcheck(registered._layer, operands(variant, layout))


@pytest.mark.parametrize("keep", ["gates", "states", "nothing"])
def test_the_operator_in_float32_passes_them_too(keep: str) -> None:
    given = operands(TIED[-1], "ragged", torch.float32, keep)
    if keep == "nothing":  # what keeps nothing cannot go back
        given = tuple(t.detach() if isinstance(t, Tensor) else t for t in given)
    library.opcheck(registered._layer, given)


def test_going_back_where_nothing_was_kept_is_an_error() -> None:
    def task() -> str:
        output = torch.ops.throughtime.layer(*operands(TIED[-1], "ragged", keep="nothing"))[0]
        try:
            output.sum().backward()
        except RuntimeError as error:
            return str(error)
        return "no error"

    assert "keep" in in_child(task)


def backward_operands(variant: Variant, layout: str, wanted: tuple[bool, ...], keep: str = "gates") -> tuple:
    *given, keep, tap = operands(variant, layout, keep=keep)
    output, h_n, c_n, saved = (t.detach() for t in torch.ops.throughtime.layer(*given, keep, tap))
    *tensors, lengths, cell, packed, reverse = given
    tensors = [None if t is None else t.detach() for t in tensors]
    grads = (torch.ones_like(output), torch.ones_like(h_n), torch.ones_like(c_n) if c_n.numel() else None)
    wanted = [want and t is not None for want, t in zip(wanted, tensors, strict=True)]
    return (*tensors, *grads, output, saved, lengths, cell, packed, reverse, keep, wanted, tap)


# It is never differentiated itself: second derivatives go through plain operators.
BACKWARD_CHECKS = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
ALL, SOME = (True,) * 8, (False, True) * 4


@pytest.mark.parametrize("keep", ["gates", "states"])
@pytest.mark.parametrize(("variant", "layout"), EVERY, ids=str)
def test_the_backward_operator_passes_torchs_own_checks(variant: Variant, layout: str, keep: str) -> None:
    with torch.no_grad():
        given = backward_operands(variant, layout, ALL, keep)
        library.opcheck(registered._layer_backward, given, test_utils=BACKWARD_CHECKS)


@pytest.mark.parametrize("wanted", [ALL, SOME], ids=["all", "some"])
def test_the_backward_operator_gives_the_same_whether_autograd_is_on_or_not(wanted: tuple[bool, ...]) -> None:
    given = backward_operands(TIED[-1], "ragged", wanted)
    with torch.no_grad():
        expected = torch.ops.throughtime.layer_backward(*given)
        library.opcheck(registered._layer_backward, given, test_utils=BACKWARD_CHECKS)
    assert [bool(t.numel()) for t in expected] == given[-2]  # what is not wanted is empty
    assert_same_bits(torch.ops.throughtime.layer_backward(*given), expected)


@pytest.mark.parametrize(("variant", "layout"), EVERY, ids=str)
def test_the_operator_gives_the_gradients_that_the_modules_get(variant: Variant, layout: str) -> None:
    """In eager mode the modules run an autograd.Function in its place: the same bits."""
    given = operands(variant, layout)
    *tensors, lengths, _cell, packed, reverse, _keep, tap = given
    count = 3 if variant.cell.has_cell_state else 2
    there = [t for t in tensors if t is not None]
    by_operator = torch.ops.throughtime.layer(*given)[:count]
    layout_ = tt.ops.Layout(lengths, packed, reverse)
    weights = tt.ops.LayerWeights(*tensors[3:])
    by_function = tt.ops.layer(variant.cell, *tensors[:3], weights, layout_, tap)[:count]
    assert_same_bits(by_operator, by_function)
    assert_same_bits(*(torch.autograd.grad(scalar_of(results), there) for results in (by_operator, by_function)))


def test_second_derivatives_through_the_operator_are_right() -> None:
    given = operands(TIED[-1], "ragged")
    point = tuple(t for t in given[:8] if t is not None)

    def function(*point: Tensor) -> tuple[Tensor, ...]:
        rest = iter(point)
        return torch.ops.throughtime.layer(*(None if t is None else next(rest) for t in given[:8]), *given[8:])[:3]

    # Differences of 1e-6 in float64 are off by some 1e-10 times slopes of order ten.
    assert torch.autograd.gradgradcheck(function, point, atol=1e-7, rtol=1e-5, nondet_tol=0.0, fast_mode=True)


@pytest.mark.parametrize("reserved", ["reset", "recurrent_mask"])
def test_what_the_schema_reserves_is_refused_by_name(reserved: str) -> None:
    with pytest.raises(NotImplementedError, match=f"reserves reset and {'recurrent_mask'}"):
        torch.ops.throughtime.layer(*operands(TIED[0], "full"), **{reserved: torch.zeros(1)})


# --- torch.compile


OPTIONS = {
    "plain": {},
    "deep": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}
SIZES = [(5, 2), (7, 3), (4, 6), (9, 5)]
"""T and B; the second is where torch learns that they change."""


def make(kind: str, seed: int = 0, **options: object) -> RNNBase:
    torch.manual_seed(seed)
    return getattr(tt.nn, kind)(INPUTS, HIDDEN, **options)


def call_for(module: RNNBase, T: int, B: int, *, hx: bool, ragged: bool) -> tuple[list[Tensor], dict]:
    """What to differentiate in, input first, and the keywords of the call."""
    generator = torch.Generator().manual_seed(T)
    shape = (B, T, INPUTS) if module.batch_first else (T, B, INPUTS)
    leaves = [torch.randn(shape, generator=generator).requires_grad_()]
    keywords: dict = {}
    if hx:
        count = module.num_layers * (2 if module.bidirectional else 1)
        sizes = [module.proj_size or HIDDEN, HIDDEN][: 2 if module.mode == "LSTM" else 1]
        states = [torch.randn(count, B, size, generator=generator).requires_grad_() for size in sizes]
        leaves += states
        keywords["hx"] = tuple(states) if module.mode == "LSTM" else states[0]
    if ragged:
        keywords["lengths"] = torch.randint(0, T + 1, (B,), generator=generator)
    return leaves, keywords


def outcome(module: RNNBase, run: Callable, leaves: list[Tensor], keywords: dict) -> list[Tensor]:
    results = tensors_of(run(leaves[0], **keywords))
    return [*results, *torch.autograd.grad(scalar_of(results), [*leaves, *module.parameters()])]


def check_sizes(module: RNNBase, compiled: Callable, *, hx: bool = False, ragged: bool = False) -> None:
    """Forward and backward as in eager mode at every size, and no compilation after the second."""
    for index, (T, B) in enumerate(SIZES):
        leaves, keywords = call_for(module, T, B, hx=hx, ragged=ragged)
        expected = outcome(module, module, leaves, keywords)
        allowed = torch._dynamo.config.patch(error_on_recompile=True) if index > 1 else nullcontext()
        with allowed:
            found = outcome(module, compiled, leaves, keywords)
        assert_same_bits(found, expected)  # it is the same operator on the same numbers


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("hx", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_once_for_all_lengths_and_batches(kind: str, options: str, hx: bool, ragged: bool) -> None:
    module = make(kind, **OPTIONS[options])
    check_sizes(module, torch.compile(module, fullgraph=True, backend="aot_eager"), hx=hx, ragged=ragged)


@pytest.mark.parametrize("kind", ["sigmoid", "identity", "relu", "projected"])
def test_the_other_cells_compile_too(kind: str) -> None:
    module = make("LSTM", proj_size=2) if kind == "projected" else make("RNN", nonlinearity=kind)
    check_sizes(module, torch.compile(module, fullgraph=True, backend="aot_eager"), hx=True, ragged=True)


def test_marked_dynamic_it_compiles_exactly_once() -> None:
    module = make("LSTM", bidirectional=True)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(module, fullgraph=True, backend=counter)
    for T, B in SIZES:
        leaves, keywords = call_for(module, T, B, hx=True, ragged=True)
        for tensor, axes in ((leaves[0], (0, 1)), (leaves[1], (1,)), (leaves[2], (1,)), (keywords["lengths"], (0,))):
            for axis in axes:
                torch._dynamo.mark_dynamic(tensor, axis)
        assert_same_bits(outcome(module, compiled, leaves, keywords), outcome(module, module, leaves, keywords))
    assert counter.frame_count == 1


def test_the_layer_stays_one_node_of_the_graph() -> None:
    """Not unrolled over T: the graph holds the operator once per layer and direction."""
    seen: list[str] = []

    def record(graph: torch.fx.GraphModule, example: list) -> Callable:
        seen.extend(str(node.target) for node in graph.graph.nodes if "throughtime" in str(node.target))
        return graph.forward

    module = make("GRU", num_layers=2, bidirectional=True)
    torch.compile(module, fullgraph=True, backend=record)(torch.randn(300, 2, INPUTS))
    assert seen == ["throughtime.layer"] * 4


class Model(Module):
    """What people compile: a recurrent module among others."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(11, INPUTS)
        self.rnn = tt.nn.LSTM(INPUTS, HIDDEN, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(2 * HIDDEN, 2)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        output, _ = self.rnn(torch.relu(self.embed(tokens)), lengths=lengths)
        return self.head(output.sum(1) / lengths.clamp(min=1)[:, None])


def test_a_model_through_inductor_trains_as_in_eager_mode() -> None:
    torch.manual_seed(0)
    model = Model()
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for index, (T, B) in enumerate(SIZES):
        generator = torch.Generator().manual_seed(T)
        tokens = torch.randint(0, 11, (B, T), generator=generator)
        lengths = torch.randint(0, T + 1, (B,), generator=generator)
        with torch._dynamo.config.patch(error_on_recompile=index > 0):
            found, expected = (
                [loss, *torch.autograd.grad(loss, list(model.parameters()))]
                for loss in (scalar_of([run(tokens, lengths)]) for run in (compiled, model))
            )
        assert_rounds_to(found, expected)  # inductor orders the sums of the head anew


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_inference_is_that_of_eager_mode(kind: str, mode: Callable) -> None:
    module = make(kind, num_layers=2, dropout=0.5).eval()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for T, B in SIZES:
        leaves, keywords = call_for(module, T, B, hx=False, ragged=True)
        with mode():
            assert_same_bits(*(tensors_of(run(leaves[0], **keywords)) for run in (compiled, module)))


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
def test_cells_compile_once_for_all_batches(kind: str) -> None:
    cell = make(kind)
    compiled = torch.compile(cell, fullgraph=True, backend="aot_eager", dynamic=True)
    for index, B in enumerate((2, 5, 3)):
        x = torch.randn(B, INPUTS, requires_grad=True)
        wanted = [x, *cell.parameters()]
        with torch._dynamo.config.patch(error_on_recompile=index > 0):
            found, expected = (
                [*results, *torch.autograd.grad(scalar_of(results), wanted)]
                for results in (tensors_of(run(x)) for run in (compiled, cell))
            )
        assert_same_bits(found, expected)


def test_a_packed_sequence_compiles() -> None:
    module = make("LSTM", bidirectional=True)
    compiled = torch.compile(module, backend="aot_eager")
    for lengths in ([5, 2], [4, 4, 1]):
        x = torch.randn(5, len(lengths), INPUTS, requires_grad=True)

        def run(function: Callable, x: Tensor = x, lengths: list[int] = lengths) -> list[Tensor]:
            output, state = function(pack_padded_sequence(x, torch.tensor(lengths)))
            assert isinstance(output, PackedSequence)
            results = tensors_of((output, state))
            return [*results, *torch.autograd.grad(scalar_of(results), [x, *module.parameters()])]

        assert_same_bits(run(compiled), run(module))


def test_dropout_is_drawn_from_the_same_stream() -> None:
    module = make("GRU", num_layers=3, dropout=0.5)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 2, INPUTS)
    results = []
    for run in (compiled, module):
        torch.manual_seed(7)
        results.append(tensors_of(run(x)))
    assert_same_bits(*results)


def test_an_untied_module_compiles() -> None:
    module = make("RNN", tied=False, steps=5)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for B in (2, 4):
        x = torch.randn(5, B, INPUTS, requires_grad=True)
        assert_same_bits(outcome(module, compiled, [x], {}), outcome(module, module, [x], {}))


@pytest.mark.parametrize("wrong", [[6, 1], [-1, 1]], ids=str)
def test_wrong_lengths_are_refused_by_a_compiled_module_too(wrong: list[int]) -> None:
    module = make("GRU")
    x = torch.randn(5, 2, INPUTS)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert_same_bits(*(tensors_of(run(x, lengths=torch.tensor([5, 1]))) for run in (compiled, module)))
    with pytest.raises(ValueError, match=r"lengths\[0\] is -?\d, expected 0 to 5"):
        compiled(x, lengths=torch.tensor(wrong))


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_no_steps_are_refused_by_a_compiled_module_too(ragged: bool) -> None:
    module = make("GRU")
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    keywords = {"lengths": torch.tensor([0, 0])} if ragged else {}
    for run in (module, compiled):
        with pytest.raises(RuntimeError, match="Expected sequence length to be larger than 0"):
            run(torch.randn(0, 2, INPUTS), **keywords)


def test_weights_edited_through_data_reach_a_compiled_module() -> None:
    module = make("LSTM")
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 2, INPUTS)
    before = tensors_of(compiled(x))
    module.weight_hh_l0.data.mul_(2)
    after = tensors_of(compiled(x))
    assert not torch.equal(after[0], before[0])
    assert_same_bits(after, tensors_of(module(x)))


def test_a_recording_sees_a_compiled_backward_pass() -> None:
    module = make("GRU", bidirectional=True)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x = torch.randn(6, 2, INPUTS)
    norms = []
    for run in (compiled, module):
        with tt.flow.record(module) as flow:
            scalar_of(tensors_of(run(x))).backward()
        assert [layer.name for layer in flow.layers] == ["l0", "l0_reverse"]
        norms.append([torch.from_numpy(layer.norm) for layer in flow.layers])
    assert_same_bits(*norms)


# --- torch.export


class Ragged(Module):
    """torch.export names arguments by position: lengths beside the input."""

    def __init__(self, module: RNNBase) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        return tensors_of(self.module(x, lengths=lengths))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_program_runs_at_every_length_and_batch(kind: str, strict: bool) -> None:
    model = Ragged(make(kind, num_layers=2, bidirectional=True)).eval()
    steps, batch = Dim("steps", min=1, max=1024), Dim("batch", min=1, max=1024)
    shapes = ({0: steps, 1: batch}, {0: batch})
    program = torch.export.export(
        model, (torch.randn(5, 2, INPUTS), torch.tensor([5, 2])), dynamic_shapes=shapes, strict=strict
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for T, B in [*SIZES, (1, 1)]:
        leaves, keywords = call_for(model.module, T, B, hx=False, ragged=True)
        arguments = (leaves[0].detach(), keywords["lengths"])
        assert_same_bits(loaded(*arguments), model(*arguments))
    with pytest.raises(ValueError, match=r"lengths\[1\] is 9, expected 0 to 5"):
        loaded(torch.randn(5, 2, INPUTS), torch.tensor([5, 9]))


def test_an_exported_program_refuses_lengths_that_are_not_one_per_sequence() -> None:
    batch = Dim("batch", min=1, max=64)
    program = torch.export.export(
        Ragged(make("LSTM")),
        (torch.randn(5, 3, INPUTS), torch.tensor([5, 2, 1])),
        dynamic_shapes=({1: batch}, {0: batch}),
    )
    with pytest.raises((AssertionError, RuntimeError), match=r"lengths|batch|[Gg]uard"):
        program.module()(torch.randn(5, 3, INPUTS), torch.tensor([5, 2]))


@pytest.mark.parametrize("variant", [TIED[0], UNTIED[0]], ids=str)
def test_fake_tensors_have_the_shapes_of_real_ones(variant: Variant) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    given = operands(variant, "full")
    real = torch.ops.throughtime.layer(*given)
    with FakeTensorMode() as mode:
        fake = torch.ops.throughtime.layer(*(mode.from_tensor(t) if isinstance(t, Tensor) else t for t in given))
    assert [(t.shape, t.dtype, t.stride()) for t in fake] == [(t.shape, t.dtype, t.stride()) for t in real]


def test_a_module_runs_on_fake_tensors() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        module = tt.nn.LSTM(INPUTS, HIDDEN, bidirectional=True)
        output, (h_n, c_n) = module(torch.zeros(1000, 64, INPUTS), lengths=None)
        output.sum().backward()
        assert module.weight_hh_l0.grad.shape == module.weight_hh_l0.shape
    assert output.shape == (1000, 64, 2 * HIDDEN)
    assert h_n.shape == c_n.shape == (2, 64, HIDDEN)
