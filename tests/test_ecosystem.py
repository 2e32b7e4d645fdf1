"""What people do with modules of torch.nn: convert, copy, cast, prune, edit, wrap."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import Module, RNNBase
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence

import throughtime as tt

from beside_torch import assert_rounds_to, assert_same_bits, scalar_of, tensors_of, twins

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")  # torch's

KINDS = ("RNN", "GRU", "LSTM")
OPTIONS = {
    "plain": {},
    "deep": {"num_layers": 2, "bidirectional": True, "dropout": 0.1},
    "no_bias": {"bias": False, "batch_first": True},
}


def x_of(dtype: torch.dtype = torch.float32, seed: int = 3) -> Tensor:
    return torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(seed)).to(dtype)


def gradients(module: Module, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    return list(torch.autograd.grad(scalar_of(tensors_of(module(x))), [x, *module.parameters()]))


def assert_alike(ours: Module, theirs: Module, x: Tensor) -> None:
    """The same results and gradients to rounding."""
    assert_rounds_to(tensors_of(ours(x)), tensors_of(theirs(x)))
    assert_rounds_to(gradients(ours, x), gradients(theirs, x))


# --- convert and revert


class Mine(torch.nn.LSTM):
    """A subclass, whose code may rely on torch's."""


class Model(Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(7, 3)
        self.encoder = torch.nn.LSTM(3, 4, bidirectional=True, batch_first=True)
        self.inner = torch.nn.ModuleList([torch.nn.GRU(8, 4), torch.nn.RNN(4, 4, nonlinearity="relu")])
        self.again = self.inner[0]  # one module under two names
        self.mine = Mine(4, 4)
        self.cell = torch.nn.LSTMCell(4, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        output, _ = self.encoder(self.embed(tokens))
        output, _ = self.inner[0](output)
        output, _ = self.again(output.repeat(1, 1, 2))
        output, _ = self.inner[1](output)
        return self.mine(output)[0]


def model() -> Model:
    torch.manual_seed(0)
    return Model()


TOKENS = torch.arange(20).reshape(4, 5) % 7


def test_convert_replaces_exactly_torchs_own_modules_and_keeps_their_results() -> None:
    before, converted = model(), model()
    assert tt.nn.convert(converted) is converted
    types = {name: type(module) for name, module in converted.named_modules()}
    found = [types[name] for name in ("encoder", "inner.0", "inner.1", "mine", "cell")]
    assert found == [tt.nn.LSTM, tt.nn.GRU, tt.nn.RNN, Mine, torch.nn.LSTMCell]
    assert converted.again is converted.inner[0]
    assert_rounds_to([converted(TOKENS)], [before(TOKENS)])
    wanted = (torch.autograd.grad(scalar_of([m(TOKENS)]), list(m.parameters()), allow_unused=True) for m in (converted, before))
    assert_rounds_to(*([g for g in gradient if g is not None] for gradient in wanted))


@pytest.mark.parametrize("kind", KINDS)
def test_the_root_is_converted_and_reverted_as_the_same_object(kind: str) -> None:
    module = getattr(torch.nn, kind)(3, 4)
    fresh = set(module.__dict__)
    assert tt.nn.convert(module) is module
    assert type(module) is getattr(tt.nn, kind)
    assert tt.nn.revert(module) is module
    assert type(module) is getattr(torch.nn, kind)
    assert set(module.__dict__) == fresh  # nothing of ours stays behind


def test_convert_twice_and_revert_twice_change_nothing_more() -> None:
    converted = tt.nn.convert(model())
    types = [type(m) for m in converted.modules()]
    assert [type(m) for m in tt.nn.convert(converted).modules()] == types
    reverted = [type(m) for m in tt.nn.revert(tt.nn.revert(converted)).modules()]
    assert reverted == [type(m) for m in model().modules()]


def test_converting_again_leaves_a_recording_where_it_was() -> None:
    module = tt.nn.convert(torch.nn.GRU(3, 4))
    with tt.flow.record(module) as flow:
        tt.nn.convert(module)
        module(x_of())[0].sum().backward()
    assert [layer.name for layer in flow.layers] == ["l0"]


def test_convert_keeps_parameters_hooks_buffers_mode_and_draws_no_random_number() -> None:
    module = torch.nn.Sequential(torch.nn.LSTM(3, 4)).eval()
    lstm = module[0]
    lstm.register_buffer("scale", torch.ones(2))
    lstm.weight_hh_l0.requires_grad_(False)
    calls = []
    lstm.register_forward_hook(lambda *_: calls.append("forward"))
    lstm.register_forward_pre_hook(lambda *_: calls.append("pre"))
    lstm.register_full_backward_hook(lambda *_: calls.append("backward"))
    lstm.bias_hh_l0.register_hook(lambda g: calls.append("parameter"))
    parameters, state = dict(module.named_parameters()), torch.get_rng_state()
    tt.nn.convert(module)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.get_parameter(name) is p for name, p in parameters.items())
    assert not lstm.training
    assert "scale" in dict(lstm.named_buffers())
    lstm(x_of().requires_grad_())[0].sum().backward()
    assert sorted(calls) == ["backward", "forward", "parameter", "pre"]
    assert lstm.weight_hh_l0.grad is None


def test_an_optimizer_made_before_convert_trains_what_came_out() -> None:
    losses = []
    for convert in (tt.nn.convert, lambda m: m):
        torch.manual_seed(0)
        module = torch.nn.GRU(3, 4, dtype=torch.float64)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
        convert(module)
        for _ in range(5):
            optimizer.zero_grad()
            loss = scalar_of([module(x_of(torch.float64))[0]])
            loss.backward()
            optimizer.step()
        losses.append([loss, *module.parameters()])
    assert_rounds_to(*losses)


def test_convert_leaves_parametrized_modules_alone() -> None:
    module = torch.nn.Sequential(parametrizations.weight_norm(torch.nn.LSTM(3, 4), "weight_hh_l0"))
    kind = type(module[0])
    assert type(tt.nn.convert(module)[0]) is kind


@pytest.mark.parametrize("options", [{"nonlinearity": "sigmoid"}, {"nonlinearity": "identity"}, {"tied": False, "steps": 3}])
def test_revert_refuses_what_torch_lacks_and_then_changes_nothing(options: dict) -> None:
    module = torch.nn.Sequential(tt.nn.GRU(3, 4), tt.nn.RNN(4, 4, **options))
    with pytest.raises(tt.errors.NotServedError, match=r"^1 is RNN\(4, 4.*nothing was reverted"):
        tt.nn.revert(module)
    assert [type(m) for m in module] == [tt.nn.GRU, tt.nn.RNN]


# --- state and copies


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", [*KINDS, "projected"])
def test_checkpoints_of_either_load_into_the_other(kind: str, options: str) -> None:
    kind, own = ("LSTM", {"proj_size": 2}) if kind == "projected" else (kind, {})
    ours, theirs = twins(kind, 3, 4, **own, **OPTIONS[options])
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for source, target in ((ours, theirs), (theirs, ours)):
        with torch.no_grad():
            for parameter in source.parameters():
                parameter.uniform_(-0.5, 0.5)
        file = io.BytesIO()
        torch.save(source.state_dict(), file)
        file.seek(0)
        assert str(target.load_state_dict(torch.load(file, weights_only=True))) == "<All keys matched successfully>"
        assert_alike(ours.eval(), theirs.eval(), x_of())


def through_torch_save(module: Module) -> Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "torch.save": through_torch_save,
}
MADE = {
    "gru": lambda: tt.nn.GRU(3, 4, num_layers=2),
    "lstm": lambda: tt.nn.LSTM(3, 4, proj_size=2, bidirectional=True),
    "sigmoid": lambda: tt.nn.RNN(3, 4, nonlinearity="sigmoid"),
    "untied": lambda: tt.nn.RNN(3, 4, tied=False, steps=6),
    "converted": lambda: tt.nn.convert(torch.nn.LSTM(3, 4)),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("what", MADE)
def test_a_copy_computes_the_same_and_is_recorded_on_its_own(what: str, how: str) -> None:
    module = MADE[what]()
    twin = COPIES[how](module)
    assert (type(twin), repr(twin)) == (type(module), repr(module))
    assert_same_bits(tensors_of(twin(x_of())), tensors_of(module(x_of())))
    with tt.flow.record(module) as flow, tt.flow.record(twin) as other:
        twin(x_of())[0].sum().backward()
    assert not flow.layers
    assert other.layers
    if how != "copy":  # a shallow copy shares its parameters
        with torch.no_grad():
            next(iter(module.parameters())).add_(1.0)
        assert not torch.equal(twin(x_of())[0], module(x_of())[0])


# --- dtypes and devices


@pytest.mark.parametrize("kind", KINDS)
def test_casts_follow_torch(kind: str) -> None:
    ours, theirs = twins(kind, 3, 4)
    for cast in (Module.double, Module.float, lambda m: m.to(torch.float64), lambda m: m.to(dtype=torch.float32)):
        cast(ours), cast(theirs)
        dtype = ours.weight_hh_l0.dtype
        assert tt.nn.backend(ours, x_of(dtype)) == f"native/{tt.instruction_set()}"
        assert_alike(ours, theirs, x_of(dtype))


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_reduced_precision_is_torchs_own(kind: str, dtype: torch.dtype, ragged: bool) -> None:
    ours, theirs = (module.to(dtype) for module in twins(kind, 3, 4, bidirectional=True))
    x = x_of(dtype)
    assert tt.nn.backend(ours, x) == f"torch: {str(dtype).removeprefix('torch.')}"
    if not ragged:
        assert_same_bits(tensors_of(ours(x)), tensors_of(theirs(x)))
        return
    lengths = torch.tensor([6, 1, 3, 2])
    output, state = ours(x, lengths=lengths)
    packed, packed_state = theirs(pack_padded_sequence(x, lengths, enforce_sorted=False))
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, total_length=6)
    assert_same_bits([output, *tensors_of(state)], [expected, *tensors_of(packed_state)])


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_autocast_is_torchs(kind: str, options: str) -> None:
    ours, theirs = twins(kind, 3, 4, **OPTIONS[options])
    with torch.autocast("cpu", torch.bfloat16):
        assert tt.nn.backend(ours, x_of()) == "torch: autocast to bfloat16"
        for dtype in (torch.float32, torch.bfloat16):
            results = []
            for module in (ours, theirs):
                torch.manual_seed(0)  # of dropout
                results.append(tensors_of(module(x_of(dtype))))
            assert_same_bits(*results)
        with torch.autocast("cpu", enabled=False):
            assert tt.nn.backend(ours, x_of()).startswith("native/")
            assert_alike(ours.eval(), theirs.eval(), x_of())
    assert tt.nn.backend(ours, x_of()).startswith("native/")


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
def test_cells_follow_torch_through_casts_and_autocast(kind: str) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        ours, theirs = (module.to(dtype) for module in twins(kind, 3, 4))
        x = x_of(dtype)[0]
        if dtype == torch.bfloat16:
            assert_same_bits(tensors_of(ours(x)), tensors_of(theirs(x)))
        else:
            assert_alike(ours, theirs, x)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = twins(kind, 3, 4)
        assert_same_bits(tensors_of(ours(x_of()[0])), tensors_of(theirs(x_of()[0])))


@pytest.mark.parametrize("make", [*MADE.values()], ids=list(MADE))
def test_on_the_meta_device_shapes_come_out(make: Callable) -> None:
    module = make()
    expected = [t.shape for t in tensors_of(module(x_of()))]
    found = tensors_of(module.to("meta")(x_of().to("meta")))
    assert [t.shape for t in found] == expected
    assert all(t.is_meta for t in found)
    assert_same_bits([torch.tensor(p.shape) for p in module.to_empty(device="cpu").parameters()],
                     [torch.tensor(p.shape) for p in make().parameters()])  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_another_default_device_or_dtype_does_not_matter(kind: str) -> None:
    """Many scripts begin with torch.set_default_device("cuda"); tensors on the CPU must still be served."""
    ours, theirs = twins(kind, 3, 4)
    packed = pack_padded_sequence(x_of(), torch.tensor([6, 4, 2, 1]))
    expected = [*tensors_of(theirs(x_of())), *tensors_of(theirs(packed))]
    x = x_of()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = [*tensors_of(ours(x)), *tensors_of(ours(packed))]
            ragged = tensors_of(ours(x, lengths=[6, 4, 2, 1]))
    finally:
        torch.set_default_dtype(torch.float32)
    assert_rounds_to(found, expected)
    assert_rounds_to(ragged[1:], expected[-len(ragged[1:]) :])


def test_backend_says_which_kernel_and_why() -> None:
    assert tt.nn.backend(tt.nn.LSTM(3, 4), x_of()) == f"native/{tt.instruction_set()}"
    packed = pack_padded_sequence(x_of(), torch.tensor([6, 4, 2, 1]))
    assert tt.nn.backend(tt.nn.RNN(3, 4, nonlinearity="sigmoid"), packed) == f"native/{tt.instruction_set()}"
    half = {"dtype": torch.bfloat16}
    assert tt.nn.backend(tt.nn.GRU(3, 4, **half), x_of(torch.bfloat16)) == "torch: bfloat16"
    assert tt.nn.backend(tt.nn.GRU(3, 4, device="meta"), x_of().to("meta")) == "torch: meta tensors"
    assert tt.nn.backend(tt.nn.RNN(3, 4, nonlinearity="sigmoid", **half), x_of(torch.bfloat16)) == (
        "plain torch operators, step by step: bfloat16, and sigmoid has no operator in torch"
    )
    assert tt.nn.backend(tt.nn.RNN(3, 4, tied=False, steps=6, **half), x_of(torch.bfloat16)) == (
        "plain torch operators, step by step: bfloat16, and untied weights have no operator in torch"
    )
    with pytest.raises(TypeError, match=r"got a torch.nn.modules.rnn.LSTM; tt.nn.convert\(\) makes one of it"):
        tt.nn.backend(torch.nn.LSTM(3, 4), x_of())
    with pytest.raises(TypeError, match=r"got a torch.nn.modules.linear.Linear$"):
        tt.nn.backend(torch.nn.Linear(3, 4), x_of())


# --- weights that are something else


def old_weight_norm(module: RNNBase) -> Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        return torch.nn.utils.weight_norm(module, "weight_hh_l0")


def pruned(module: RNNBase, *, for_good: bool = False) -> RNNBase:
    prune.l1_unstructured(module, "weight_hh_l0", 0.5)
    return prune.remove(module, "weight_hh_l0") if for_good else module


def shared(module: RNNBase) -> RNNBase:
    module.weight_hh_l1 = module.weight_hh_l0
    return module


REWORKED = {
    "weight_norm": lambda module: parametrizations.weight_norm(module, "weight_hh_l0"),
    # In training every reading of the weight is a step of power iteration; torch and we read it differently often.
    "spectral_norm": lambda module: parametrizations.spectral_norm(module, "weight_ih_l0").eval(),
    "weight_norm by hooks": old_weight_norm,
    "pruned": pruned,
    "pruned for good": lambda module: pruned(module, for_good=True),
    "shared": shared,
}


@pytest.mark.parametrize("how", REWORKED)
@pytest.mark.parametrize("kind", KINDS)
def test_reworked_weights_give_torchs_results_and_gradients_also_after_a_step(kind: str, how: str) -> None:
    pair = []
    for module in twins(kind, 3, 4, num_layers=2, dtype=torch.float64):
        torch.manual_seed(1)  # spectral_norm starts from random vectors
        pair.append(REWORKED[how](module))
    ours, theirs = pair
    assert_alike(ours, theirs, x_of(torch.float64))
    for module in pair:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        scalar_of(tensors_of(module(x_of(torch.float64)))).backward()
        optimizer.step()
    assert_alike(ours, theirs, x_of(torch.float64))


def by_optimizer(module: RNNBase) -> None:
    generator = torch.Generator().manual_seed(5)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    torch.optim.SGD(module.parameters(), lr=0.5).step()


def by_replacing(module: RNNBase) -> None:
    module.weight_hh_l0 = torch.nn.Parameter(module.weight_hh_l0.detach() * 2)


def by_setting(module: RNNBase) -> None:
    with torch.no_grad():
        module.weight_hh_l0.set_(module.weight_hh_l0 * 2)


def under_inference_mode(module: RNNBase) -> None:
    with torch.inference_mode():
        module.weight_hh_l0.mul_(2)


EDITS: dict[str, Callable[[RNNBase], object]] = {
    "data in place": lambda m: m.weight_hh_l0.data.mul_(2),
    "one element through data": lambda m: m.weight_ih_l0.data[0].fill_(1.0),
    "data replaced": lambda m: setattr(m.weight_hh_l0, "data", m.weight_hh_l0.data * 2),
    "through numpy": lambda m: m.bias_hh_l0.detach().numpy().fill(0.5),
    "load_state_dict": lambda m: m.load_state_dict({k: 2 * v for k, v in m.state_dict().items()}),
    "load_state_dict assign": lambda m: m.load_state_dict({k: 2 * v for k, v in m.state_dict().items()}, assign=True),
    "optimizer": by_optimizer,
    "set_": by_setting,
    "replaced": by_replacing,
    "inference_mode": under_inference_mode,
    "vector_to_parameters": lambda m: torch.nn.utils.vector_to_parameters(
        0.5 * torch.nn.utils.parameters_to_vector(m.parameters()).detach(), m.parameters()
    ),
    "reset_parameters": lambda m: (torch.manual_seed(3), m.reset_parameters()),
    "transposed storage": lambda m: setattr(m.weight_hh_l0, "data", m.weight_hh_l0.data.t().contiguous().t() * 2),
}


@pytest.mark.parametrize("grad", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("how", EDITS)
def test_the_output_follows_every_edit_of_the_weights(how: str, grad: Callable) -> None:
    ours, theirs = twins("GRU", 3, 4, dtype=torch.float64)
    for _ in range(2):
        with grad():
            before = ours(x_of(torch.float64))[0]
        for module in (ours, theirs):
            EDITS[how](module)
        with grad():
            assert_rounds_to(*(tensors_of(module(x_of(torch.float64))) for module in (ours, theirs)))
            if how not in ("reset_parameters", "through numpy", "one element through data"):  # the same the second time
                assert not torch.equal(ours(x_of(torch.float64))[0], before)
    assert_rounds_to(*(gradients(module, x_of(torch.float64)) for module in (ours, theirs)))


# --- wrappers


def test_distributed_data_parallel_trains_as_without(tmp_path: Path) -> None:
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        alone = tt.nn.LSTM(3, 4, num_layers=2, bidirectional=True)
        wrapped = DistributedDataParallel(copy.deepcopy(alone))
        for module in (alone, wrapped):
            optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
            for _ in range(2):
                optimizer.zero_grad()
                scalar_of(tensors_of(module(x_of(), lengths=[6, 0, 2, 5]))).backward()
                optimizer.step()
        assert_same_bits(wrapped.parameters(), alone.parameters())
    finally:
        dist.destroy_process_group()


JIT = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)  # torch's own: it is on its way out


@JIT
@pytest.mark.parametrize("kind", KINDS)
def test_traced_modules_run_on_torchs_operators(kind: str) -> None:
    ours, theirs = twins(kind, 3, 4, bidirectional=True)
    traced = torch.jit.trace(ours, (x_of(),))
    assert_rounds_to(tensors_of(traced(x_of(seed=4))), tensors_of(theirs(x_of(seed=4))))


@JIT
@pytest.mark.parametrize("kind", KINDS)
def test_scripting_works_or_says_what_does(kind: str) -> None:
    ours, theirs = twins(kind, 3, 4)
    expected = tensors_of(theirs(x_of()))
    try:
        scripted = torch.jit.script(torch.nn.Sequential(ours))
    except tt.ThroughTimeError as error:
        scripted = None
        said = str(error)
    if scripted is None:
        assert "revert" in said
    else:
        assert_rounds_to(tensors_of(scripted(x_of())), expected)
    reverted = torch.jit.script(torch.nn.Sequential(tt.nn.revert(ours)))  # the way out
    assert_same_bits(tensors_of(reverted(x_of())), expected)
