"""tt.optim_trace: what it records is what the optimizer holds and does, for every optimizer, and training never notices."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from throughtime.errors import NotRecordedError, NotServedError, SettingsError
from throughtime.train.optim_trace import FEWEST, QUANTILES, OptimTrace, WeightTrace, optim_trace

mpl.use("Agg")

Make = Callable[[Any], torch.optim.Optimizer]
"""Makes an optimizer of parameters."""

STEPS = 25


def network(dtype: torch.dtype = torch.float32) -> torch.nn.Sequential:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1)).to(dtype)


def batch(step: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(11, 5, generator=torch.Generator().manual_seed(step), dtype=dtype)


def backward(model: torch.nn.Module, step: int) -> None:
    x = batch(step, next(model.parameters()).dtype)
    model.zero_grad()
    (model(x) - x.sum(1, keepdim=True)).square().mean().backward()


def trained(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int = STEPS) -> None:
    for step in range(steps):
        backward(model, step)
        optimizer.step()


def values(model: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def quantiles(tensor: torch.Tensor) -> list[float]:
    ordered = sorted(tensor.flatten().tolist())
    return [ordered[round(share * (len(ordered) - 1))] for share in QUANTILES]


ADAGRAD: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"lr_decay": 0.1, "weight_decay": 0.2},
    "maximize": {"maximize": True, "initial_accumulator_value": 0.5},
    "maximize decay foreach": {"maximize": True, "weight_decay": 0.2, "foreach": True},
    "eps": {"eps": 1e-2},
    "foreach": {"foreach": True, "lr_decay": 0.01},
    "fused": {"fused": True},
    "no foreach": {"foreach": False},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", ADAGRAD.values(), ids=ADAGRAD)
def test_adagrad_sum_rate_and_update(options: dict[str, Any], dtype: torch.dtype) -> None:
    """alpha_t is the state's to the bit and the running sum of squares; every single update is -alpha_t^1 g."""
    model = network(dtype)
    optimizer = torch.optim.Adagrad(model.named_parameters(), lr=0.05, **options)
    singles = [f"0.weight[{i}, {j}]" for i in range(7) for j in range(5)]
    weight = model[0].weight
    assert isinstance(weight, torch.Tensor)
    ours = torch.full_like(weight, options.get("initial_accumulator_value", 0.0)).detach()
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    with optim_trace(optimizer, ["0.weight", *singles]) as trace:
        for step in range(STEPS):
            backward(model, step)
            assert weight.grad is not None
            gradient, before = weight.grad.clone(), weight.detach().clone()
            sign = -1 if options.get("maximize") else 1
            effective = sign * gradient + options.get("weight_decay", 0.0) * before
            ours += effective**2
            optimizer.step()

            weights = trace.weights

            def told(column: str, dtype: torch.dtype, of: dict[str, WeightTrace] = weights) -> torch.Tensor:
                return torch.tensor([getattr(of[name], column)[-1] for name in singles], dtype=dtype).reshape(7, 5)

            alpha_t = told("alpha_t", dtype)
            assert torch.equal(alpha_t, optimizer.state[weight]["sum"])
            torch.testing.assert_close(alpha_t, ours, rtol=tolerance, atol=0)
            rate, update = told("rate", torch.float64), told("update", torch.float64)
            size = float(before.abs().max())  # updates are differences of weights, and rounded as these are
            torch.testing.assert_close(update, -rate * effective.double(), rtol=tolerance, atol=size * tolerance / 50)
            assert torch.equal(told("gradient", dtype), gradient)
            assert torch.equal(told("value", dtype), weight.detach())

            whole = trace.parameters["0.weight"]
            assert whole.alpha_t[-1].tolist() == quantiles(alpha_t)
            assert whole.rate[-1].tolist() == [min(rate.flatten().tolist()), *whole.rate[-1, 1:4], max(rate.flatten().tolist())]
            assert whole.rate[-1, 2] in rate
            assert np.all(np.diff(whole.rate[-1]) >= 0)
            assert whole.update_norm[-1] == pytest.approx(float(update.norm()), rel=1e-6)
            assert whole.gradient_norm[-1] == pytest.approx(float(gradient.double().norm()), rel=1e-12)
            assert whole.update_ratio[-1] == pytest.approx(float(update.norm() / before.double().norm()), rel=1e-6)
            assert whole.total[-1] == pytest.approx(float(alpha_t.double().sum()), rel=1e-12)
    assert trace.steps == STEPS


OTHERS: dict[str, Make] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.03),
    "sgd maximize": lambda p: torch.optim.SGD(p, lr=0.003, maximize=True),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=0.03, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9),
    "rmsprop centered": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, foreach=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adam amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, betas=(0.8, 0.5)),
    "adam fused": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01), fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.0, foreach=True),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_the_rate_in_effect_of_the_others_gives_their_update(make: Make) -> None:
    """Sgd: -alpha g. RMSprop: -alpha_t^1 g. Adam: -alpha_t^1 times the bias-corrected mean of g."""
    model = network(torch.float64)
    optimizer = make(model.parameters())
    with optim_trace(optimizer, ["2.weight[0, 4]"], model=model) as trace:
        trained(model, optimizer)
    one = trace.weights["2.weight[0, 4]"]
    pushed = -one.gradient if optimizer.defaults.get("maximize") else one.gradient
    if isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        beta = optimizer.defaults["betas"][0]
        mean, means = 0.0, []
        for t, g in enumerate(one.gradient, 1):
            mean = beta * mean + (1 - beta) * g
            means.append(mean / (1 - beta**t))
        pushed = np.array(means)
    np.testing.assert_allclose(one.update, -one.rate * pushed, rtol=1e-9, atol=1e-15)
    if isinstance(optimizer, torch.optim.SGD):
        assert set(one.rate) == {optimizer.defaults["lr"]}
        assert np.isnan(one.alpha_t).all()
    else:
        state = optimizer.state[model[2].weight]
        name = next(n for n in ("max_exp_avg_sq", "exp_avg_sq", "square_avg") if n in state)
        expected = state[name][0, 4] - (state["grad_avg"][0, 4] ** 2 if "grad_avg" in state else 0)
        assert one.alpha_t[-1] == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("kind", [torch.optim.Adadelta, torch.optim.NAdam, torch.optim.Rprop])
def test_an_optimizer_of_another_kind_has_update_ratios_only(kind: Any) -> None:
    model = network()
    optimizer = kind(model.parameters())
    before = values(model)
    with optim_trace(optimizer) as trace:
        trained(model, optimizer, 1)
    one = trace.parameters["0.0"]
    assert np.isnan(one.rate).all()
    assert np.isnan(one.alpha_t).all()
    moved = (model[0].weight.detach().double() - before[0].double()).norm() / before[0].double().norm()
    assert one.update_ratio[0] == pytest.approx(float(moved), rel=1e-5)
    with pytest.raises(NotRecordedError, match=f"{kind.__name__} made 1 recorded update"):
        trace.plot()


TRACED: dict[str, Make] = {
    **OTHERS,
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
    "adagrad fused": lambda p: torch.optim.Adagrad(p, lr=0.05, fused=True),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, foreach=True),
    "adadelta": lambda p: torch.optim.Adadelta(p),
}


@pytest.mark.parametrize("make", TRACED.values(), ids=TRACED)
def test_tracing_changes_no_bit(make: Make) -> None:
    ends = []
    for traced in (False, True):
        model = network()
        optimizer = make(model.parameters())
        if traced:
            optim_trace(optimizer)
        trained(model, optimizer)
        ends.append(values(model))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_gradients_are_read_before_a_step_that_writes_on_them() -> None:
    """torch's SGD with nesterov and foreach adds the momentum to the gradient in place."""
    model = network()
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.01, momentum=0.9, nesterov=True, foreach=True)
    with optim_trace(optimizer, ["0.bias[1]"]) as trace:
        for step in range(4):
            backward(model, step)
            gradient = float(model[0].bias.grad[1])  # type: ignore[index,union-attr]
            optimizer.step()
            assert trace.weights["0.bias[1]"].gradient[-1] == gradient


def test_with_a_closure_gradients_are_read_after_it() -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=1)

    def closure() -> float:
        backward(model, 0)
        return 0.0

    with optim_trace(optimizer) as trace:
        optimizer.step(closure)
    expected = model[0].weight.grad.double().norm()  # type: ignore[union-attr]
    assert trace.parameters["0.0"].gradient_norm[0] == pytest.approx(float(expected))


@pytest.mark.parametrize("kind", [torch.optim.Adagrad, torch.optim.SGD])
def test_sparse_gradients(kind: Any) -> None:
    """Rows that occur twice in a batch count once, as the optimizer counts them; other rows stand still."""
    torch.manual_seed(0)
    table = torch.nn.Embedding(9, 3, sparse=True)
    optimizer = kind([("table", table.weight)], lr=0.1)
    sums = torch.zeros(9, 3)
    names = ["table", "table[4, 2]", "table[7, 0]"]
    # torch warns unless told whether to check what its own optimizer makes.
    with torch.sparse.check_sparse_tensor_invariants(True), optim_trace(optimizer, names) as trace:
        for step in range(6):
            optimizer.zero_grad()
            before = table.weight.detach().clone()
            (table(torch.tensor([4, 4, step])) * (step + 1)).sum().backward()
            gradient = table.weight.grad.to_dense()  # type: ignore[union-attr]
            sums += gradient**2
            optimizer.step()
            one, whole = trace.weights["table[4, 2]"], trace.parameters["table"]
            assert one.gradient[-1] == gradient[4, 2]
            assert whole.gradient_norm[-1] == pytest.approx(float(gradient.double().norm()))
            assert whole.update_norm[-1] == pytest.approx(float((table.weight.detach() - before).double().norm()))
            assert one.update[-1] == pytest.approx(-one.rate[-1] * one.gradient[-1], rel=1e-5)
            if kind is torch.optim.Adagrad:
                assert one.alpha_t[-1] == sums[4, 2] == optimizer.state[table.weight]["sum"][4, 2]
    still = trace.weights["table[7, 0]"]
    assert not still.update.any()
    assert not still.gradient.any()


def test_a_step_without_gradient_is_no_update() -> None:
    model = network()
    model[0].bias.requires_grad_(False)
    optimizer = torch.optim.Adagrad(model.named_parameters())
    with optim_trace(optimizer, ["0.bias", "2.weight", "2.weight[0, 0]"]) as trace:
        for step in range(3):
            backward(model, step)
            if step == 1:
                model[2].weight.grad = None
            optimizer.step()
    frozen, sometimes, one = trace.parameters["0.bias"], trace.parameters["2.weight"], trace.weights["2.weight[0, 0]"]
    for values in (frozen.alpha_t, frozen.rate, frozen.update_ratio, frozen.gradient_norm):
        assert np.isnan(values).all()
    assert np.isnan(sometimes.update_ratio).tolist() == np.isnan(one.update).tolist() == [False, True, False]
    assert np.isnan(sometimes.gradient_norm).tolist() == [False, True, False]
    # The sum and the rate stay as they were.
    assert sometimes.alpha_t[1].tolist() == sometimes.alpha_t[0].tolist()
    assert one.rate[1] == one.rate[0] > one.rate[2]


def test_a_group_added_on_the_way_is_traced_from_there() -> None:
    model = network()
    optimizer = torch.optim.Adagrad(model[0].parameters(), lr=0.1)
    with optim_trace(optimizer, model=model) as trace:
        trained(model, optimizer, 3)
        optimizer.add_param_group({"params": list(model[2].parameters()), "lr": 0.2})
        trained(model, optimizer, 2)
    assert list(trace.parameters) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    late = trace.parameters["2.weight"]
    assert np.isnan(late.rate[:3]).all()
    assert np.isfinite(late.rate[3:]).all()
    np.testing.assert_array_equal(late.alpha, [math.nan] * 3 + [0.2] * 2)
    np.testing.assert_array_equal(trace.parameters["0.bias"].alpha, [0.1] * 5)


def test_a_loaded_state_and_a_changed_rate_are_followed() -> None:
    model = network()
    optimizer = torch.optim.Adagrad(model.named_parameters(), lr=0.1)
    trained(model, optimizer, 4)
    saved = optimizer.state_dict()
    again = torch.optim.Adagrad(model.named_parameters(), lr=0.1)
    with optim_trace(again, ["0.weight", "0.weight[0, 0]"]) as trace:
        trained(model, again, 2)
        again.load_state_dict(saved)
        sums = float(again.state[model[0].weight]["sum"][0, 0])
        again.param_groups[0]["lr"] = 0.01
        trained(model, again, 1)
    one = trace.weights["0.weight[0, 0]"]
    assert one.alpha_t[-1] == pytest.approx(sums + one.gradient[-1] ** 2, rel=1e-6)
    assert one.rate[-1] == pytest.approx(0.01 / (math.sqrt(one.alpha_t[-1]) + 1e-10), rel=1e-6)
    assert one.alpha.tolist() == [0.1, 0.1, 0.01]


def test_several_traces_every_and_close() -> None:
    model = network()
    optimizer = torch.optim.Adagrad(model.named_parameters())
    every, third = optim_trace(optimizer), optim_trace(optimizer, ["0.weight"], every=3)
    trained(model, optimizer, 7)
    third.close()
    third.close()
    trained(model, optimizer, 2)
    every.close()
    trained(model, optimizer, 2)
    assert every.updates.tolist() == list(range(1, 10))
    assert third.updates.tolist() == [1, 4, 7]
    for column in ("alpha_t", "rate", "update_ratio", "gradient_norm"):
        whole = getattr(every.parameters["0.weight"], column)
        np.testing.assert_array_equal(getattr(third.parameters["0.weight"], column), whole[[0, 3, 6]])
    with pytest.raises(NotServedError, match="this trace is closed"), every:
        pass


def hooks(optimizer: torch.optim.Optimizer) -> int:
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)


def test_an_exception_inside_takes_the_hooks_off() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters())
    trace = optim_trace(optimizer)

    def fails() -> None:
        with trace:
            assert hooks(optimizer) == 2
            trained(model, optimizer, 2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert hooks(optimizer) == 0
    assert trace.steps == 2


def test_a_step_that_fails_is_not_recorded() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def failing() -> float:
        raise ValueError("not today")

    with optim_trace(optimizer) as trace:
        with pytest.raises(ValueError, match="not today"):
            optimizer.step(failing)
        trained(model, optimizer, 1)
    assert trace.updates.tolist() == [1]


# --- names


def test_names_come_from_the_optimizer_or_the_model_or_the_position() -> None:
    model = network()
    named = ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert list(optim_trace(torch.optim.Adagrad(model.named_parameters())).parameters) == named
    assert list(optim_trace(torch.optim.Adagrad(model.parameters()), model=model).parameters) == named
    groups = [{"params": list(model[0].parameters())}, {"params": list(model[2].parameters())}]
    assert list(optim_trace(torch.optim.Adagrad(groups)).parameters) == ["0.0", "0.1", "1.0", "1.1"]
    twice = [{"params": list(model[0].named_parameters())}, {"params": [("weight", model[2].weight), ("own", model[2].bias)]}]
    assert list(optim_trace(torch.optim.Adagrad(twice)).parameters) == ["0.0", "bias", "1.0", "own"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0.weigth"], "no parameter '0.weigth' in the optimizer; did you mean '0.weight'?"),
        (["0.wieght[0, 0]"], "no parameter '0.wieght' in the optimizer; did you mean '0.weight'?"),
        (["0.weight[7, 0]"], "'0.weight[7, 0]' is not in 0.weight, whose shape is [7, 5]; its last weight is '0.weight[6, 4]'"),
        (["0.weight[3]"], "'0.weight[3]' is not in 0.weight, whose shape is [7, 5]; its last weight is '0.weight[6, 4]'"),
        (["0.weight[a]"], "no parameter '0.weight[a]' in the optimizer; did you mean '0.weight'?"),
        (["zzz"], "no parameter 'zzz' in the optimizer; there are 0.weight, 0.bias, 2.weight, 2.bias"),
        ([], "names is empty, expected names of parameters or weights; leave it out to trace all"),
    ],
)
def test_a_name_that_is_not_there(names: list[str], message: str) -> None:
    optimizer = torch.optim.Adagrad(network().named_parameters())
    with pytest.raises(SettingsError) as caught:
        optim_trace(optimizer, names)
    assert str(caught.value) == f"optim_trace: {message}"
    assert hooks(optimizer) == 0


def test_other_bad_arguments() -> None:
    model = network()
    optimizer = torch.optim.Adagrad(model.parameters())
    with pytest.raises(SettingsError, match=r"optimizer is a Sequential, expected one of torch.optim"):
        optim_trace(model)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="every is 0, expected a whole number of at least 1"):
        optim_trace(optimizer, every=0)
    with pytest.raises(SettingsError, match="none of the parameters of Sequential is in the optimizer"):
        optim_trace(optimizer, model=network())
    waves = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(NotServedError, match=r"0\.0 is complex"):
        optim_trace(torch.optim.Adagrad([waves]))


def test_scalars_empty_parameters_and_low_precision() -> None:
    scale = torch.nn.Parameter(torch.tensor(2.0))
    nothing = torch.nn.Parameter(torch.zeros(0, 3))
    half = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = torch.optim.Adagrad([("scale", scale), ("nothing", nothing), ("half", half)], lr=0.5)
    with optim_trace(optimizer) as trace:
        for parameter in (scale, nothing, half):
            parameter.grad = torch.full_like(parameter, 3.0)
        optimizer.step()
    assert trace.parameters["scale"].alpha_t.tolist() == [[9.0] * 5]
    assert trace.parameters["scale"].update_ratio.tolist() == [0.25]
    assert np.isnan(trace.parameters["nothing"].alpha_t).all()
    assert trace.parameters["half"].rate[0] == pytest.approx([0.5 / 3] * 5)


# --- exhaustion


def constant(
    size: float, steps: int, *, spike: int | None = None, every: int = 1, kind: Any = torch.optim.Adagrad
) -> OptimTrace:
    """A weight of 2 with the same gradient again and again, but for one that is 1000 times as large."""
    weight = torch.nn.Parameter(torch.full((1,), 2.0, dtype=torch.float64))
    optimizer = kind([("w", weight)], lr=0.01, foreach=False)
    with optim_trace(optimizer, ["w", "w[0]"], every=every) as trace:
        for t in range(1, steps + 1):
            weight.grad = torch.full_like(weight, size * (1000 if t == spike else 1))
            optimizer.step()
    return trace


@pytest.mark.parametrize("size", [0.02, 1.0, 300.0])
def test_under_a_constant_gradient_the_rate_falls_with_the_root_of_t(size: float) -> None:
    trace = constant(size, 400)
    np.testing.assert_allclose(trace.weights["w[0]"].rate, 0.01 / (size * np.sqrt(np.arange(1, 401))), rtol=1e-7)
    found = trace.exhausted()["w"]
    assert found.gradient_kept == pytest.approx(1.0)
    assert found.largest_share == pytest.approx(1 / 400)
    assert not found.suspected


def test_one_spike_holds_the_rate_down_beyond_ten_thousand_updates() -> None:
    trace = constant(1.0, 10_100, spike=100, every=101)
    last = trace.weights["w[0]"].rate[-1]
    updates = int(trace.updates[-1])
    assert last == pytest.approx(0.01 / math.sqrt(1e6 + updates - 1), rel=1e-9)
    assert last < 0.1 * 0.01 / math.sqrt(updates)


def test_the_spike_is_found_and_named() -> None:
    found = constant(1.0, 500, spike=100).exhausted()["w"]
    assert found.suspected
    assert found.largest_share == pytest.approx(1e6 / (1e6 + 499))
    assert found.update_ratio == pytest.approx(0.01 / math.sqrt(1e6 + 474) / 1.85, rel=0.1)
    # RMSprop forgets it (0.99^400 of it is left after 400 updates), and has no sum to exhaust.
    other = constant(1.0, 500, spike=100, kind=torch.optim.RMSprop).exhausted()["w"]
    assert not other.suspected
    assert math.isnan(other.largest_share)


def test_a_healthy_run_is_not_suspected_nor_one_that_has_arrived() -> None:
    model = network(torch.float64)
    optimizer = torch.optim.Adagrad(model.named_parameters(), lr=0.05)
    with optim_trace(optimizer) as trace:
        trained(model, optimizer, 60)
    assert not any(found.suspected for found in trace.exhausted().values())

    weight = torch.nn.Parameter(torch.full((1,), 2.0, dtype=torch.float64))
    optimizer = torch.optim.Adagrad([("w", weight)], lr=0.5)
    with optim_trace(optimizer) as trace:
        for _ in range(200):
            weight.grad = 2 * (weight.detach() - 1)
            optimizer.step()
    found = trace.exhausted()["w"]
    assert found.update_ratio < 1e-5
    assert found.gradient_kept < 0.1
    assert not found.suspected


def test_too_little_to_judge() -> None:
    with pytest.raises(NotRecordedError, match=f"exhausted: 5 updates were recorded, expected {FEWEST} or more"):
        constant(1.0, 5).exhausted()
    model = network()
    model[0].bias.requires_grad_(False)
    optimizer = torch.optim.Adagrad(model.named_parameters())
    with optim_trace(optimizer) as trace:
        trained(model, optimizer)
    found = trace.exhausted()["0.bias"]
    assert not found.suspected
    assert math.isnan(found.update_ratio)


# --- JSON and picture


def test_json_holds_it_all_with_the_names_of_the_page() -> None:
    model = network()
    model[0].bias.requires_grad_(False)
    optimizer = torch.optim.Adagrad(model.named_parameters())
    with optim_trace(optimizer, [*dict(model.named_parameters()), "2.bias[0]"]) as trace:
        trained(model, optimizer, 3)
    told = json.loads(json.dumps(trace.as_json(), allow_nan=False))
    assert told["optimizer"] == "Adagrad"
    assert told["updates"] == [1, 2, 3]
    assert told["parameters"]["0.weight"]["alpha_t^1"] == trace.parameters["0.weight"].rate.tolist()
    assert told["weights"]["2.bias[0]"]["alpha_t"] == trace.weights["2.bias[0]"].alpha_t.tolist()
    assert told["parameters"]["0.bias"]["alpha_t"] == [[None] * 5] * 3


def test_plot_draws_the_rates_against_sgd() -> None:
    torch.manual_seed(0)
    table = torch.nn.Embedding(5, 2)
    optimizer = torch.optim.Adagrad([("table", table.weight)], lr=0.1)
    with optim_trace(optimizer, ["table[1, 0]", "table[2, 0]", "table"]) as trace:
        with pytest.raises(NotRecordedError, match="no alpha_t\\^1 to draw; Adagrad made 0 recorded updates"):
            trace.plot()
        for step in range(10):
            optimizer.zero_grad()
            table(torch.tensor([1, 2] if step == 6 else [1])).sum().backward()
            optimizer.step()
    ax = trace.plot()
    assert ax.get_xscale() == ax.get_yscale() == "log"
    lines = {str(line.get_label()): np.asarray(line.get_ydata()) for line in ax.get_lines()}
    assert list(lines) == ["table", "table[1, 0]", "table[2, 0]", "SGD: $\\alpha$"]
    np.testing.assert_array_equal(lines["table[1, 0]"], trace.weights["table[1, 0]"].rate)
    assert np.isnan(lines["table[2, 0]"]).tolist() == [True] * 6 + [False] * 4  # before its first gradient
    assert lines["SGD: $\\alpha$"].tolist() == [0.1] * 10
    _, other = plt.subplots()
    assert trace.plot(other, of="alpha_t") is other
    np.testing.assert_array_equal(np.asarray(other.get_lines()[1].get_ydata()), np.arange(1.0, 11.0))
    with pytest.raises(SettingsError, match="of is 'beta', expected"):
        trace.plot(of="beta")  # type: ignore[arg-type]
    plt.close("all")
