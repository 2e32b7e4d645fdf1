"""tt.flow.record as an instrument: it disturbs nothing, says plainly what it cannot do, and works wherever models do."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import Tensor

import throughtime as tt
from throughtime.errors import NotRecordedError
from throughtime.flow import Flow, LayerFlow
from throughtime.ops import native, taps

from flow_cases import DTYPES, HIDDEN_FOR_A_TEAM, Task, build, states_of
from helpers import RAGGED, TIED, VARIANTS, Variant

VARIANT = {str(variant): variant for variant in VARIANTS}


@pytest.fixture(params=native.instruction_sets())
def _isa(request: pytest.FixtureRequest) -> Iterator[None]:
    tt.set_instruction_set(request.param)
    yield
    tt.set_instruction_set("auto")


@pytest.fixture(params=[1, 2], ids=["1_thread", "2_threads"])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    tt.set_num_threads(request.param)
    yield
    tt.set_num_threads(None)


everywhere = pytest.mark.usefixtures("_isa", "_threads")
"""Run on every instruction set, with one thread and with two."""


class Model(torch.nn.Module):
    """What people build: recurrent layers between others, one of them shared, one unused."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Linear(3, 4)
        self.encoder = tt.nn.GRU(4, 5, num_layers=2, bidirectional=True)
        self.decoder = torch.nn.ModuleDict({"main": tt.nn.LSTM(10, 4), "unused": tt.nn.RNN(2, 2)})
        self.again = self.decoder["main"]

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder["main"](self.encoder(self.embed(x))[0])[1][0].sum()


NAMES = ["encoder.l0", "encoder.l0_reverse", "encoder.l1", "encoder.l1_reverse", "decoder.main.l0"]


def same(one: LayerFlow, other: LayerFlow, tolerance: float = 0.0) -> None:
    """The same measurement, to the bit unless a tolerance is given."""
    assert (one.name, one.cell, one.reverse, one.first_bad_step) == (
        other.name, other.cell, other.reverse, other.first_bad_step,
    )  # fmt: skip
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in ("norm", "reach")}
    for name in ("gain", "activation", "weight", "cell", "hidden", "bypass"):
        pairs[name] = getattr(one.gains, name), getattr(other.gains, name)
        pairs[f"probe {name}"] = getattr(one.probe, name), getattr(other.probe, name)
    for name in ("samples", "zero", "nonfinite"):
        pairs[name] = getattr(one.counts, name), getattr(other.counts, name)
    for name, (left, right) in pairs.items():
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance, err_msg=f"{one.name} {name}")


# --- it disturbs nothing


@everywhere
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_recording_changes_no_bit_of_any_gradient(variant: Variant, dtype: torch.dtype) -> None:
    module = build(variant, num_layers=2, bidirectional=True, hidden=33, dtype=dtype)
    task = Task.of(module, RAGGED if variant.tied else None)
    states = [torch.randn_like(grad).requires_grad_() for grad in task.grads[1:]] if variant.tied else []
    x = task.x.requires_grad_()
    hx = (tuple(states) if len(states) == 2 else states[0]) if states else None

    def gradients() -> list[Tensor]:
        output, final = module(x, hx, lengths=task.lengths)
        results = (output, *states_of(final))
        # As an optimizer sees them: h_0 asks for no gradient in one of the two ways through the kernel.
        asked = [x, *states, *module.parameters()]
        return list(torch.autograd.grad(results, asked, task.grads))

    plain = gradients()
    for options in ({}, {"delta": True}, {"probe": False}):
        with tt.flow.record(module, **options) as flow:
            watched = gradients()
        assert len(flow.layers) == 4
        assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True)), options


@everywhere
@pytest.mark.parametrize("variant", TIED, ids=str)
def test_recording_changes_no_bit_for_a_single_sequence_that_threads_share(variant: Variant) -> None:
    module = build(variant, inputs=2, hidden=HIDDEN_FOR_A_TEAM[variant.cell.kind], dtype=torch.float32)
    task = Task.of(module, steps=20, batch=1)
    plain = torch.autograd.grad(task.loss(module), list(module.parameters()))
    with tt.flow.record(module, delta=True):
        watched = torch.autograd.grad(task.loss(module), list(module.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))


@everywhere
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_weights_have_the_same_bits_after_20_steps_with_and_without_recording(variant: Variant) -> None:
    steps, batch = (20, 32) if variant.tied else (5, 128)  # enough rows for two threads to share them

    def train(record: bool) -> dict[str, Tensor]:
        module = build(variant, inputs=16, hidden=48, dtype=torch.float32)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        task = Task.of(module, steps=steps, batch=batch)
        for step in range(20):
            optimizer.zero_grad()
            loss = task.loss(module)
            if record:
                with tt.flow.record(module, probe=step % 3 > 0, delta=step % 2 > 0):
                    loss.backward()
            else:
                loss.backward()
            optimizer.step()
        return module.state_dict()

    plain, watched = train(record=False), train(record=True)
    start = build(variant, inputs=16, hidden=48).state_dict()
    for name in plain:
        assert not torch.equal(plain[name], start[name]), "it has learned"
        assert torch.equal(plain[name], watched[name]), name


def _as_bfloat16(monkeypatch: pytest.MonkeyPatch) -> tuple[torch.dtype, torch.dtype, bool]:
    return torch.bfloat16, torch.bfloat16, False


def _with_autocast(monkeypatch: pytest.MonkeyPatch) -> tuple[torch.dtype, torch.dtype, bool]:
    return torch.float32, torch.float32, True


def _with_autocast_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> tuple[torch.dtype, torch.dtype, bool]:
    return torch.float32, torch.bfloat16, True


def _without_native_module(monkeypatch: pytest.MonkeyPatch) -> tuple[torch.dtype, torch.dtype, bool]:
    monkeypatch.setattr(native, "_native", None)
    monkeypatch.setattr(native, "_problem", "removed by a test")
    return torch.float32, torch.float32, False


@pytest.mark.parametrize("circumstances", [_as_bfloat16, _with_autocast, _with_autocast_in_the_middle, _without_native_module])
@pytest.mark.parametrize("kind", [tt.nn.RNN, tt.nn.GRU, tt.nn.LSTM])
def test_recording_agrees_to_rounding_where_torchs_own_operators_would_run(
    kind: Any, circumstances: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, inputs, autocast = circumstances(monkeypatch)
    torch.manual_seed(0)
    module = kind(3, 4, dtype=weights)
    x = torch.randn(15, 2, 3).to(inputs)

    def outcome() -> list[Tensor]:
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output, _ = module(x)
        output.float().sum().backward()
        return [output, *(parameter.grad for parameter in module.parameters())]

    plain = outcome()
    with tt.flow.record(module) as flow:
        watched = outcome()
    assert len(flow.layers) == 1
    for one, other in zip(plain, watched, strict=True):
        assert one.dtype == other.dtype
        # 30 summed steps, each rounded to 8 bits in reduced precision, to 24 without the native module.
        tolerance = 1e-5 if circumstances is _without_native_module else 0.02
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(one.detach().abs().max()))


def test_nothing_is_left_behind_whether_the_block_ends_well_or_not() -> None:
    module = build(VARIANT["gru"], num_layers=2)
    task = Task.of(module)
    flow = tt.flow.record(module)

    def interrupted() -> None:
        with flow:
            task.loss(module).backward()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert taps._listeners == {}
    assert [layer.name for layer in flow.layers] == ["l0", "l1"], "what was measured before stays"
    norm = flow.layers[0].norm
    (2.0 * task.loss(module)).backward()
    np.testing.assert_array_equal(flow.layers[0].norm, norm)  # nobody listens any more
    assert np.nanmax(np.abs(task.recorded(module).layers[0].norm - norm)) == 0, "and a second recording can begin"


# --- when it measures


def test_forward_may_have_run_before_the_block() -> None:
    module = build(VARIANT["lstm"], bidirectional=True)
    task = Task.of(module, RAGGED)
    before = task.recorded(module)
    with tt.flow.record(module) as inside:
        task.loss(module).backward()
    for one, other in zip(before.layers, inside.layers, strict=True):
        same(one, other)


def test_every_third_backward_pass_is_measured_and_the_newest_one_shown() -> None:
    module = build(VARIANT["rnn_tanh"], dtype=torch.float64)
    task = Task.of(module)
    norms = []
    with tt.flow.record(module, every=3) as flow:
        for scale in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0):  # powers of two change no digit
            (scale * task.loss(module)).backward()
            norms.append(flow.layers[0].norm[2])
    np.testing.assert_array_equal(np.array(norms) / norms[0], [1, 1, 1, 8, 8, 8, 64])


def test_a_module_called_several_times_shows_the_call_that_the_gradient_reached_last() -> None:
    module = build(VARIANT["rnn_tanh"], inputs=6)
    first, h = module(torch.randn(7, 2, 6))
    _, h = module(torch.randn(3, 2, 6), h)
    with tt.flow.record(module) as flow:
        h.sum().backward()
    (layer,) = flow.layers
    assert layer.gain.shape == (len(first),)


def test_only_what_the_gradient_went_through_is_shown() -> None:
    model = Model()
    with tt.flow.record(model) as flow:
        model(torch.randn(6, 2, 3)).backward()
    assert [layer.name for layer in flow.layers] == NAMES
    with tt.flow.record(model) as flow, torch.no_grad():
        model(torch.randn(6, 2, 3))
    assert flow.layers == []


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_backward_pass_that_builds_a_graph_is_measured_too(variant: Variant) -> None:
    module = build(variant, dtype=torch.float64)
    task = Task.of(module)
    once = task.recorded(module)
    loss = task.loss(module)
    with tt.flow.record(module) as flow:
        grads = torch.autograd.grad(loss, list(module.parameters()), create_graph=True)
    same(once.layers[0], flow.layers[0])
    assert all(grad.requires_grad for grad in grads) or variant.cell.nonlinearity == "identity"


def test_reentrant_and_plain_checkpointing_are_measured() -> None:
    module = build(VARIANT["gru"])
    x = torch.randn(6, 2, 3, requires_grad=True)
    with tt.flow.record(module) as plain:
        module(x)[1].sum().backward()
    for reentrant in (True, False):
        with tt.flow.record(module) as flow:
            torch.utils.checkpoint.checkpoint(lambda x: module(x)[1], x, use_reentrant=reentrant).sum().backward()
        same(plain.layers[0], flow.layers[0])


# --- two recorders


def test_nested_recorders_are_refused_and_leave_the_outer_one_alone() -> None:
    model = Model()
    inner_only = torch.nn.Sequential(tt.nn.RNN(1, 1), model.encoder)
    with tt.flow.record(model) as outer:
        for again in (lambda: tt.flow.record(model), lambda: tt.flow.record(inner_only), lambda: outer):
            with pytest.raises(RuntimeError, match="another recorder is listening"), again():
                pytest.fail("entered")
        assert taps.listener(inner_only[0]._tap) is None, "what the refused one had begun is undone"
        model(torch.randn(6, 2, 3)).backward()
    assert len(outer.layers) == 5
    assert taps._listeners == {}


def test_recorders_of_different_models_run_side_by_side() -> None:
    one, other = build(VARIANT["gru"], seed=1), build(VARIANT["lstm"], seed=2)
    tasks = Task.of(one), Task.of(other)
    with tt.flow.record(one) as first, tt.flow.record(other) as second:
        (tasks[0].loss(one) + tasks[1].loss(other)).backward()
    same(first.layers[0], tasks[0].recorded(one).layers[0])
    same(second.layers[0], tasks[1].recorded(other).layers[0])


def test_a_copy_is_recorded_on_its_own() -> None:
    module = build(VARIANT["rnn_relu"])
    twin = copy.deepcopy(module)
    task = Task.of(module)
    with tt.flow.record(module) as flow, tt.flow.record(twin) as other:
        task.loss(twin).backward()
    assert flow.layers == []
    assert len(other.layers) == 1


def test_recorders_in_several_threads_keep_apart() -> None:
    modules = [build(VARIANT[name], num_layers=2) for name in ("gru", "lstm", "rnn_tanh")]
    tasks = [Task.of(module, RAGGED) for module in modules]
    expected = [task.recorded(module) for task, module in zip(tasks, modules, strict=True)]
    found: dict[int, Flow] = {}

    def work(index: int) -> None:
        for _ in range(20):
            found[index] = tasks[index].recorded(modules[index])

    workers = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for index, flow in enumerate(expected):
        for one, other in zip(flow.layers, found[index].layers, strict=True):
            same(one, other)


# --- wherever models run


@pytest.mark.parametrize("variant", [VARIANT["gru"], VARIANT["lstm_projected"], VARIANT["rnn_sigmoid"]], ids=str)
def test_a_compiled_model_is_recorded_to_the_same_bits(variant: Variant) -> None:
    module = build(variant, num_layers=2, bidirectional=True)
    task = Task.of(module, RAGGED)
    eager = task.recorded(module, delta=True)
    torch.compiler.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for recorded in (module, compiled):
        loss = task.loss(compiled)
        with tt.flow.record(recorded, delta=True) as flow:
            loss.backward()
        for one, other in zip(eager.layers, flow.layers, strict=True):
            assert other.name.endswith(one.name)  # a compiled module holds the one that was made as _orig_mod
            np.testing.assert_array_equal(one.delta, other.delta)
            np.testing.assert_array_equal(one.gain, other.gain)
            np.testing.assert_array_equal(one.reach, other.reach)


@pytest.mark.parametrize(
    ("lengths", "packed"), [(None, False), (RAGGED, False), ([3, 2, 5, 1], True)], ids=["full", "ragged", "packed"]
)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_without_kernels_the_numbers_are_the_same(
    variant: Variant, lengths: list[int] | None, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not variant.tied and lengths is not None:
        lengths, packed = [5, 5, 5, 5], False
    module = build(variant, num_layers=2, bidirectional=True, dtype=torch.float64)
    task = Task.of(module, lengths, packed)
    kernels = task.recorded(module, delta=True)
    grads = [parameter.grad.clone() for parameter in module.parameters()]
    module.zero_grad()
    monkeypatch.setattr(native, "serves", lambda x: False)
    plain = task.recorded(module, delta=True)
    # float64, some five steps of some ten products each, in another order
    for one, other in zip(kernels.layers, plain.layers, strict=True):
        same(one, other, tolerance=1e-12)
        np.testing.assert_allclose(one.delta, other.delta, rtol=1e-12, atol=1e-12)
    for grad, parameter in zip(grads, module.parameters(), strict=True):
        torch.testing.assert_close(grad, parameter.grad, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("variant", TIED, ids=str)
def test_a_packed_sequence_gives_the_numbers_of_lengths(variant: Variant) -> None:
    module = build(variant, bidirectional=True, dtype=torch.float64)
    lengths = [5, 4, 2, 1]  # descending: then packing keeps the order of the samples
    ragged, packed = (Task.of(module, lengths, as_packed).recorded(module, delta=True).layers for as_packed in (False, True))
    for one, other in zip(ragged, packed, strict=True):
        same(one, other, tolerance=1e-12)
        assert other.delta.shape == one.delta.shape == (5, 4, (variant.projected and 5) or 6)
        np.testing.assert_allclose(one.delta, other.delta, rtol=1e-12, atol=1e-12)


def test_bfloat16_is_recorded_if_the_model_is_called_inside() -> None:
    module = build(VARIANT["lstm"]).bfloat16()
    x = torch.randn(20, 4, 3)
    loss = module(x.bfloat16())[1][0].float().sum()
    with tt.flow.record(module) as flow:
        loss.backward()
    with pytest.raises(NotRecordedError, match="call the model inside it too"):
        flow.horizon()
    with tt.flow.record(module, delta=True) as flow:
        module(x.bfloat16())[1][0].float().sum().backward()
    wide = module.float()
    with tt.flow.record(wide, delta=True) as exact:
        wide(x)[1][0].sum().backward()
    # bfloat16 keeps 8 bits, 4e-3 relative; the mean of a step's log over 4 samples is some of them wrong.
    np.testing.assert_allclose(flow.layers[0].gain, exact.layers[0].gain, rtol=0, atol=0.03)
    np.testing.assert_allclose(flow.layers[0].delta, exact.layers[0].delta, rtol=0.1, atol=0.02)


# --- what it is called, and what it refuses


def test_converted_models_are_recorded_under_their_own_names() -> None:
    model = torch.nn.ModuleDict({"a": torch.nn.LSTM(3, 4), "b": torch.nn.Sequential(torch.nn.GRU(3, 4))})
    with pytest.raises(ValueError, match=r"ModuleDict holds no tt\.nn.*tt\.nn\.convert\(model\) makes them"):
        tt.flow.record(model)
    model = tt.nn.convert(model)
    with tt.flow.record(model) as flow:
        (model["a"](torch.randn(5, 2, 3))[0].sum() + model["b"](torch.randn(5, 2, 3))[0].sum()).backward()
    assert [layer.name for layer in flow.layers] == ["a.l0", "b.0.l0"]


@pytest.mark.parametrize("model", [torch.nn.Linear(2, 2), torch.nn.Identity(), torch.nn.ModuleList()], ids=str)
def test_a_model_without_recurrent_modules_is_refused_by_name(model: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match=f"{type(model).__name__} holds no tt.nn.RNN, GRU or LSTM to record$"):
        tt.flow.record(model)


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_every_that_is_no_count_is_refused(every: int) -> None:
    with pytest.raises(ValueError, match=f"every is {every}, expected a whole number of at least 1"):
        tt.flow.record(build(VARIANT["gru"]), every=every)


def test_what_was_not_recorded_is_said_so_with_what_there_is() -> None:
    model = Model()
    with tt.flow.record(model) as flow:
        for ask in (flow.horizon, flow.plot, lambda: flow.horizon(0.1, "encoder.l0"), lambda: flow.horizon(0.1, -1)):
            with pytest.raises(NotRecordedError, match=r"no backward pass went through encoder\.l0, "):
                ask()
        model(torch.randn(6, 2, 3)).backward()
    for layer in ("decoder.unused.l0", "encoder", 5, -6):
        with pytest.raises(NotRecordedError, match=rf"no layer {layer!r} among those recorded: encoder\.l0, "):
            flow.horizon(0.1, layer)
    assert issubclass(NotRecordedError, RuntimeError)
    assert issubclass(NotRecordedError, tt.ThroughTimeError)
    for index, name in enumerate(NAMES):
        assert flow.horizon(0.1, name) == flow.horizon(0.1, index) == flow.horizon(0.1, index - 5)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    module = build(VARIANT["gru"])
    flow = Task.of(module).recorded(module)
    with pytest.raises(ValueError, match=rf"fraction is {fraction}, expected a number between 0 and 1"):
        flow.horizon(fraction)


def test_without_a_probe_gains_are_told_and_the_horizon_is_refused() -> None:
    module = build(VARIANT["gru"])
    task = Task.of(module)
    flow, full = task.recorded(module, probe=False), task.recorded(module)
    np.testing.assert_array_equal(flow.layers[0].gain, full.layers[0].gain)
    assert flow.layers[0].probe is None
    assert full.layers[0].delta is None
    for ask in (flow.horizon, flow.plot):
        with pytest.raises(ValueError, match="probe=False"):
            ask()


def test_an_empty_batch_has_no_horizon() -> None:
    module = build(VARIANT["gru"])
    _, h_n = module(torch.zeros(5, 0, 3))
    with tt.flow.record(module) as flow:
        h_n.sum().backward()
    assert math.isnan(flow.horizon()), "no sequence was there to vanish or not to"
    assert np.isnan(flow.layers[0].gain).all()
    np.testing.assert_array_equal(flow.layers[0].counts.samples, 0)


# --- the picture


def test_plot_draws_what_is_left_of_every_layers_probe() -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    model = Model()
    with tt.flow.record(model) as flow:
        model(torch.randn(6, 2, 3)).backward()
    ax = flow.plot()
    lines = {line.get_label(): line for line in ax.lines}
    for layer in flow.layers:
        np.testing.assert_array_equal(lines[layer.name].get_xdata(), np.arange(7))
        np.testing.assert_allclose(lines[layer.name].get_ydata(), [1.0, *np.exp(layer.reach)], rtol=1e-12)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == NAMES
    heights = [line.get_ydata()[0] for line in ax.lines if line.get_label() not in NAMES]
    assert heights == [0.1, 0.01]
    ax.figure.canvas.draw()  # it can be rendered
    _, given = plt.subplots()
    assert flow.plot(given) is given
    plt.close("all")
