"""What autograd may ask of the modules: derivatives of both orders, parts of them, twice, later, elsewhere, transformed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, grad, gradcheck, gradgradcheck
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.func import functional_call, vmap
from torch.nn import Module, RNNBase
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import throughtime as tt

from beside_torch import assert_rounds_to, assert_same_bits, scalar_of, tensors_of, twins

STEPS, BATCH, INPUTS, HIDDEN = 4, 3, 2, 3
RAGGED = [2, 4, 0]
KINDS = ("RNN", "GRU", "LSTM")

MODULES = {
    "rnn_tanh": ("RNN", {}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
    "rnn_sigmoid": ("RNN", {"nonlinearity": "sigmoid"}),
    "rnn_identity": ("RNN", {"nonlinearity": "identity"}),
    "rnn_untied": ("RNN", {"tied": False, "steps": STEPS}),
    "gru": ("GRU", {}),
    "lstm": ("LSTM", {}),
    "lstm_projected": ("LSTM", {"proj_size": 2}),
}


def make(name: str, **options: object) -> RNNBase:
    kind, own = MODULES[name]
    torch.manual_seed(0)
    return getattr(tt.nn, kind)(INPUTS, HIDDEN, dtype=torch.float64, **own, **options)


def draw(*shape: int, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def states_for(module: RNNBase, batch: int = BATCH) -> tuple[Tensor, ...]:
    """Random initial states; none for an untied module, which refuses them."""
    if isinstance(module, tt.nn.RNN) and not module.tied:
        return ()
    count = module.num_layers * (2 if module.bidirectional else 1)
    h_0 = draw(count, batch, module.proj_size or module.hidden_size, seed=3)
    return (h_0, draw(count, batch, module.hidden_size, seed=4)) if module.mode == "LSTM" else (h_0,)


def hx_of(states: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...] | None:
    return states if len(states) == 2 else states[0] if states else None


def as_function(module: RNNBase, lengths: list[int] | None) -> tuple[Callable, tuple[Tensor, ...]]:
    """The module as a function of everything it can be differentiated in, and a point to do it at."""
    states = states_for(module)
    parameters = dict(module.named_parameters())

    def function(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        hx = hx_of(rest[: len(states)])
        swapped = dict(zip(parameters, rest[len(states) :], strict=True))
        return tuple(tensors_of(functional_call(module, swapped, (x, hx), {"lengths": lengths})))

    return function, (draw(STEPS, BATCH, INPUTS), *states, *parameters.values())


ARRANGEMENTS = {
    "full": ({}, None),
    "ragged": ({}, RAGGED),
    "bidirectional_ragged": ({"bidirectional": True}, RAGGED),
}


def arranged(*arrangements: str) -> list[object]:
    return [
        pytest.param(name, arrangement, id=f"{name}-{arrangement}")
        for name in MODULES
        for arrangement in arrangements
        if name != "rnn_untied" or not ARRANGEMENTS[arrangement][1]  # untied modules refuse true lengths
    ]


# --- first and second derivatives


@pytest.mark.parametrize(("name", "arrangement"), arranged("full", "ragged", "bidirectional_ragged"))
def test_gradients_are_the_differences_and_the_same_bits_every_time(name: str, arrangement: str) -> None:
    options, lengths = ARRANGEMENTS[arrangement]
    function, point = as_function(make(name, **options), lengths)
    # Central differences of 1e-6 in float64 are off by about 1e-12 (cut) and 1e-10 (rounding), times slopes of order ten.
    assert gradcheck(function, point, eps=1e-6, atol=1e-8, rtol=1e-6, nondet_tol=0.0)


@pytest.mark.parametrize(("name", "arrangement"), arranged("full", "ragged"))
def test_second_derivatives_are_the_differences(name: str, arrangement: str) -> None:
    options, lengths = ARRANGEMENTS[arrangement]
    function, point = as_function(make(name, **options), lengths)
    assert gradgradcheck(function, point, eps=1e-6, atol=1e-7, rtol=1e-5, nondet_tol=0.0, fast_mode=True)


@pytest.mark.parametrize("name", ["gru", "lstm_projected"])
def test_second_derivatives_of_deep_bidirectional_modules_are_the_differences(name: str) -> None:
    function, point = as_function(make(name, num_layers=2, bidirectional=True), RAGGED)
    assert gradgradcheck(function, point, eps=1e-6, atol=1e-7, rtol=1e-5, nondet_tol=0.0, fast_mode=True)


def penalty_gradients(run: Callable[[Tensor], Tensor], x: Tensor, module: Module) -> list[Tensor]:
    """The gradient penalty of Gulrajani et al. 2017 pulls the norm of a gradient to one: here that of every gradient."""
    wanted = [x, *module.parameters()]
    slopes = grad(run(x), wanted, create_graph=True)
    penalty = sum((slope.norm() - 1) ** 2 for slope in slopes)
    return [*slopes, *grad(penalty, wanted)]


def plain(module: RNNBase, x: Tensor) -> list[Tensor]:
    return tensors_of(module(x))


def twice(module: RNNBase, x: Tensor) -> list[Tensor]:
    """The second call reads, and starts from, what the first returned: its inputs depend on its own weights."""
    output, state = module(x)
    return tensors_of(module(output, state))


def started_by_input(module: RNNBase, x: Tensor) -> list[Tensor]:
    """An initial state that depends on the input."""
    state = torch.tanh(x.mean(0, keepdim=True))
    return tensors_of(module(x, (state, state * 2) if module.mode == "LSTM" else state))


def weight_from_weight(module: RNNBase, x: Tensor) -> list[Tensor]:
    """A weight that depends on another one, as in a hypernetwork."""
    tied = {"weight_hh_l0": 0.5 * module.weight_ih_l0 + 0.1 * module.weight_hh_l0}
    return tensors_of(functional_call(module, tied, (x,)))


@pytest.mark.parametrize("use", [plain, twice, started_by_input, weight_from_weight])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_penalty_is_torchs(kind: str, use: Callable) -> None:
    found = [
        penalty_gradients(lambda x, m=module: scalar_of(use(m, x)), draw(5, 2, 3), module)
        for module in twins(kind, 3, 3, dtype=torch.float64)
    ]
    assert_rounds_to(*found)


def test_a_gradient_penalty_is_right_while_saved_tensors_are_kept_elsewhere() -> None:
    module, x = make("gru"), draw(STEPS, BATCH, INPUTS)
    expected = penalty_gradients(lambda x: scalar_of(plain(module, x)), x, module)
    with save_on_cpu():
        assert_rounds_to(penalty_gradients(lambda x: scalar_of(plain(module, x)), x, module), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_penalty_over_a_packed_batch_is_torchs(kind: str) -> None:
    def run(module: RNNBase) -> Callable[[Tensor], Tensor]:
        lengths = torch.tensor([2, 5, 3])
        return lambda x: scalar_of(tensors_of(module(pack_padded_sequence(x, lengths, enforce_sorted=False))))

    modules = twins(kind, 3, 4, bidirectional=True, dtype=torch.float64)
    assert_rounds_to(*(penalty_gradients(run(module), draw(5, 3, 3), module) for module in modules))


def test_third_derivatives_are_torchs() -> None:
    def third(module: RNNBase) -> list[Tensor]:
        x = draw(3, 2, 3)
        (first,) = grad(scalar_of(plain(module, x)), x, create_graph=True)
        (second,) = grad(scalar_of([first]), x, create_graph=True)
        return list(grad(scalar_of([second]), [x, *module.parameters()]))

    assert_rounds_to(*(third(module) for module in twins("GRU", 3, 4, dtype=torch.float64)))


def test_gradients_with_a_graph_are_those_without() -> None:
    module = make("lstm", bidirectional=True)
    x = draw(STEPS, BATCH, INPUTS)
    wanted = [x, *module.parameters()]
    without, with_graph = (grad(scalar_of(plain(module, x)), wanted, create_graph=c) for c in (False, True))
    assert all(g.requires_grad for g in with_graph)
    assert_rounds_to(with_graph, without)  # another way to compute them: to rounding


# --- parts of the backward pass


LOSSES = {
    "output": lambda output, h_n, *c_n: scalar_of([output]),
    "h_n": lambda output, h_n, *c_n: scalar_of([h_n]),
    "c_n": lambda output, h_n, *c_n: scalar_of(c_n),
    "both states": lambda output, h_n, *c_n: scalar_of([h_n, *c_n]),
    "last step": lambda output, h_n, *c_n: scalar_of([output[-1]]),
    "a slice": lambda output, h_n, *c_n: scalar_of([output[1:4:2, :, ::2]]),
    "one element, twice": lambda output, h_n, *c_n: output[2, 1, 0] * output[2, 1, 0],
    "transposed": lambda output, h_n, *c_n: scalar_of([output.permute(2, 0, 1).flip(0)]),
    "sum": lambda output, h_n, *c_n: output.sum() + h_n.sum(),  # expanded gradients, strides of zero
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    ("kind", "loss"), [(kind, loss) for kind in KINDS for loss in LOSSES if kind == "LSTM" or loss != "c_n"]
)
def test_backward_from_any_part_of_the_result_is_torchs(kind: str, loss: str, training: bool) -> None:
    found = []
    for module in twins(kind, 3, 5, num_layers=2, dtype=torch.float64):
        module.train(training)
        states = states_for(module, 2)
        x = draw(5, 2, 3)
        value = LOSSES[loss](*tensors_of(module(x, hx_of(states))))
        found.append(grad(value, [x, *states, *module.parameters()]))
    assert_rounds_to(*found)


def test_a_second_backward_gives_the_same_bits_and_a_third_is_refused_without_the_graph() -> None:
    module = make("lstm_projected", bidirectional=True, num_layers=2)
    x = draw(STEPS, BATCH, INPUTS)
    wanted = [x, *module.parameters()]
    loss = scalar_of(tensors_of(module(x, lengths=RAGGED)))
    first = grad(loss, wanted, retain_graph=True)
    assert_same_bits(grad(loss, wanted), first)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        grad(loss, wanted)


def test_gradients_of_several_calls_are_added_up() -> None:
    found = []
    for module in twins("LSTM", 3, 3, dtype=torch.float64):
        x = draw(5, 2, 3)
        scalar_of(twice(module, x)).backward()
        scalar_of(plain(module, x.detach())).backward()
        found.append([x.grad, *(p.grad for p in module.parameters())])
    assert_rounds_to(*found)


FROZEN = {
    "nothing": [],
    "x": ["x"],
    "all weights": ["weight", "bias"],
    "all but x": ["weight", "bias", "h_0", "c_0"],
    "all but h_0": ["weight", "bias", "x", "c_0"],
    "all but c_0": ["weight", "bias", "x", "h_0"],
    "all but w_ih": ["weight_hh", "weight_hr", "bias", "x", "h_0", "c_0"],
    "all but w_hh": ["weight_ih", "weight_hr", "bias", "x", "h_0", "c_0"],
    "all but w_hr": ["weight_ih", "weight_hh", "bias", "x", "h_0", "c_0"],
    "all but b_ih": ["weight", "bias_hh", "x", "h_0", "c_0"],
    "all but b_hh": ["weight", "bias_ih", "x", "h_0", "c_0"],
    "one direction": ["weight_ih_l0_reverse", "weight_hh_l0_reverse", "x"],
}


@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize("frozen", FROZEN)
def test_exactly_the_wanted_gradients_come_and_with_the_same_bits(frozen: str, lengths: list[int] | None) -> None:
    def gradients(prefixes: list[str]) -> dict[str, Tensor | None]:
        module = make("lstm_projected", bidirectional=True)
        h_0, c_0 = states_for(module)
        leaves = {"x": draw(STEPS, BATCH, INPUTS), "h_0": h_0, "c_0": c_0, **dict(module.named_parameters())}
        for name, leaf in leaves.items():
            leaf.requires_grad_(not name.startswith(tuple(prefixes)))
        scalar_of(tensors_of(module(leaves["x"], (h_0, c_0), lengths=lengths))).backward()
        return {name: leaf.grad for name, leaf in leaves.items()}

    everything, some = gradients([]), gradients(FROZEN[frozen])
    for name, gradient in some.items():
        if name.startswith(tuple(FROZEN[frozen])):
            assert gradient is None, name
        else:
            assert_same_bits([gradient], [everything[name]])


def test_nothing_to_differentiate_makes_no_graph() -> None:
    module = make("gru").requires_grad_(False)
    output, h_n = module(draw(STEPS, BATCH, INPUTS).detach())
    assert [output.requires_grad, output.grad_fn, h_n.grad_fn] == [False, None, None]


def test_hooks_on_results_see_and_change_the_gradient() -> None:
    found = []
    for module in twins("GRU", 3, 4, dtype=torch.float64):
        x = draw(5, 2, 3)
        output, h_n = module(x)
        seen: list[Tensor] = []
        output.register_hook(lambda g, seen=seen: seen.append(g) or 2 * g)
        h_n.retain_grad()
        found.append([*grad(scalar_of([output, h_n]), [x, *module.parameters(), h_n]), *seen])
    assert_rounds_to(*found)


# --- modes


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", MODULES)
def test_without_gradients_the_same_bits_and_no_graph(name: str, mode: Callable) -> None:
    module = make(name, num_layers=2)
    x = draw(STEPS, BATCH, INPUTS)
    expected = tensors_of(module(x))
    with mode():
        found = tensors_of(module(x))
        assert all(not t.requires_grad and t.is_inference() == (mode is torch.inference_mode) for t in found)
        assert_same_bits(found, [t.detach() for t in expected])


def test_inference_tensors_are_refused_by_a_later_backward_as_by_torch() -> None:
    for module in twins("LSTM", 3, 4):
        with torch.inference_mode():
            x = torch.randn(5, 2, 3)
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            module(x)


@pytest.mark.parametrize("which", ["x", "weight"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_edited_in_place_before_the_backward_pass_is_refused_as_by_torch(kind: str, which: str) -> None:
    for module in twins(kind, 3, 4):
        x = torch.randn(5, 2, 3, requires_grad=True) * 1.0
        output, _ = module(x)
        with torch.no_grad():
            (x if which == "x" else module.weight_hh_l0).mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one", "both"])
@pytest.mark.parametrize("which", ["mul", "residual", "relu", "h_n"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_result_edited_in_place_is_refused_or_differentiated_rightly(kind: str, which: str, bidirectional: bool) -> None:
    """torch keeps the output of its oneDNN LSTM and of cuDNN, and refuses there; it never gives a wrong gradient."""
    edits = {
        "mul": lambda x, output, h_n: output.mul_(2),
        "residual": lambda x, output, h_n: output.add_(x.repeat(1, 1, output.shape[-1] // 4)),
        "relu": lambda x, output, h_n: torch.relu_(output),
        "h_n": lambda x, output, h_n: h_n.mul_(2),
    }
    found = []
    for module in twins(kind, 4, 4, bidirectional=bidirectional, dtype=torch.float64):
        x = draw(5, 2, 4)
        output, h_n, *_ = tensors_of(module(x))
        edits[which](x, output, h_n)
        loss = scalar_of([output, h_n])
        # Only an output that autograd keeps is refused: that of one direction, where nothing was joined.
        if isinstance(module, tt.nn.RNN | tt.nn.GRU | tt.nn.LSTM) and not bidirectional and which != "h_n":
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()
            return
        found.append(grad(loss, [x, *module.parameters()]))
    assert_rounds_to(*found)


@pytest.mark.parametrize("make_lengths", [torch.tensor, lambda v: torch.tensor(v).numpy()], ids=["tensor", "array"])
def test_lengths_edited_after_the_call_change_nothing(make_lengths: Callable) -> None:
    module = make("lstm", bidirectional=True)
    x = draw(STEPS, BATCH, INPUTS)
    expected = grad(scalar_of(tensors_of(module(x, lengths=RAGGED))), [x, *module.parameters()])
    lengths = make_lengths(RAGGED)
    loss = scalar_of(tensors_of(module(x, lengths=lengths)))
    lengths[:] = STEPS  # a loader that fills one buffer again and again
    assert_same_bits(grad(loss, [x, *module.parameters()]), expected)


# --- transforms


@pytest.mark.parametrize("name", MODULES)
def test_func_grad_of_a_functional_call_is_backward(name: str) -> None:
    module = make(name)
    x = draw(STEPS, BATCH, INPUTS).detach()
    parameters = {key: value.detach() for key, value in module.named_parameters()}
    found = torch.func.grad(lambda p, x: scalar_of(tensors_of(functional_call(module, p, (x,)))), argnums=(0, 1))(parameters, x)
    x.requires_grad_()
    expected = grad(scalar_of(tensors_of(module(x))), [*module.parameters(), x])
    assert_rounds_to([*found[0].values(), found[1]], expected)  # a transform may ask for a graph: to rounding


def test_a_functional_call_leaves_the_module_as_it_was() -> None:
    ours, theirs = twins("GRU", 3, 4, dtype=torch.float64)
    other = {key: 0.5 * value.detach() for key, value in ours.named_parameters()}
    x = draw(5, 2, 3)
    before = tensors_of(ours(x))
    assert_rounds_to(*(tensors_of(functional_call(module, other, (x,))) for module in (ours, theirs)))
    assert_same_bits(tensors_of(ours(x)), before)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_vjp_and_jacrev_are_torchs(kind: str, frozen: bool) -> None:
    """Their backward pass runs after the transform has ended, when its tensors are no longer wrapped."""
    x, cotangent = draw(3, 2, 3).detach(), draw(3, 2, seed=5).detach()
    found = []
    for module in twins(kind, 3, 4, dtype=torch.float64):
        module.requires_grad_(not frozen)

        def function(x: Tensor, m: RNNBase = module) -> Tensor:
            return m(x)[0].sum(2)

        found.append([*torch.func.vjp(function, x)[1](cotangent), torch.func.jacrev(function)(x)])
    assert_rounds_to(*found)


BATCHED = {
    "input": (lambda module, x: module(x)[0], (6, 5, 2, 3)),
    "state": (lambda module, h: module(draw(5, 2, 3).detach(), h)[0], (6, 1, 2, 4)),
    "weight": (
        lambda module, w: functional_call(module, {"weight_hh_l0": w}, (draw(5, 2, 3).detach(),))[0],
        (6, 12, 4),
    ),
    "gradient": (lambda module, x: torch.func.grad(lambda x: module(x)[0].sum())(x), (6, 5, 2, 3)),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented the batching rule")
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
@pytest.mark.parametrize("what", BATCHED)
def test_vmap_is_a_loop_or_is_refused_in_its_own_name(what: str, mode: Callable) -> None:
    """torch.nn's own modules refuse it: no "batching rule"."""
    module = tt.nn.GRU(3, 4, dtype=torch.float64)
    function, shape = BATCHED[what]
    batch = draw(*shape).detach()
    with mode():
        expected = torch.stack([function(module, one) for one in batch])
        try:
            found = vmap(lambda one: function(module, one))(batch)
        except RuntimeError as error:
            said = str(error)
        else:
            said = "vmap"
            assert_rounds_to([found.detach()], [expected.detach()])
    assert re.search(r"vmap|[Bb]atching rule", said), said


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, at its first dual number
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_mode_is_torchs_or_refused_never_dropped(kind: str, frozen: bool, mode: Callable) -> None:
    def tangent(module: RNNBase) -> Tensor | None:
        module.requires_grad_(not frozen)
        with forward_ad.dual_level(), mode():
            x = forward_ad.make_dual(draw(5, 2, 3).detach(), draw(5, 2, 3, seed=5).detach())
            return forward_ad.unpack_dual(module(x)[0]).tangent

    ours, theirs = twins(kind, 3, 4, dtype=torch.float64)
    try:
        found = tangent(ours)
    except (NotImplementedError, RuntimeError) as error:
        refused = re.search("forward.mode|jvp", str(error), re.IGNORECASE)
        if not refused:
            raise
        return
    assert_rounds_to([found], [tangent(theirs)])


# --- memory


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_a_checkpoint_gives_the_same_bits(name: str, reentrant: bool) -> None:
    module = make(name, num_layers=2)
    x = draw(STEPS, BATCH, INPUTS)

    def loss(x: Tensor) -> Tensor:
        return scalar_of(tensors_of(module(x)))

    expected = grad(loss(x), [x, *module.parameters()])
    checkpoint(loss, x, use_reentrant=reentrant).backward()
    assert_same_bits([x.grad, *(p.grad for p in module.parameters())], expected)


HOOKS = {
    "on the cpu": save_on_cpu,
    "as arrays": lambda: saved_tensors_hooks(lambda t: t.detach().numpy().copy(), torch.from_numpy),
    "laid out otherwise": lambda: saved_tensors_hooks(lambda t: t.transpose(0, -1).contiguous(), lambda t: t.transpose(0, -1)),
    "apart": lambda: saved_tensors_hooks(
        lambda t: t.repeat_interleave(2, -1) if t.dim() else t, lambda t: t[..., ::2] if t.dim() else t
    ),
}


@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize("how", HOOKS)
@pytest.mark.parametrize("name", ["rnn_tanh", "gru", "lstm_projected"])
def test_what_is_saved_may_be_kept_elsewhere(name: str, how: str, lengths: list[int] | None) -> None:
    module = make(name, bidirectional=True)
    x = draw(STEPS, BATCH, INPUTS)
    wanted = [x, *module.parameters()]
    expected = grad(scalar_of(tensors_of(module(x, lengths=lengths))), wanted)
    with HOOKS[how]():
        loss = scalar_of(tensors_of(module(x, lengths=lengths)))
    assert_same_bits(grad(loss, wanted), expected)
