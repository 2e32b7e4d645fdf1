"""Optimizers by name: their state goes through files to the bit, and their rate goes as the schedule says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import throughtime as tt
from throughtime.errors import SettingsError
from throughtime.store import load_tensors, read_json, save_tensors, write_json
from throughtime.train.optimizers import (
    WARMUP,
    check_optimizer,
    make_optimizer,
    optimizer_names,
    optimizer_state,
    rate_share,
    restore_optimizer,
    set_rate,
)

EXPECTED = ["ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"]


def test_all_of_torch_that_need_no_closure() -> None:
    assert set(EXPECTED) <= set(optimizer_names())
    assert check_optimizer("adamw") == "AdamW"


@pytest.mark.parametrize(
    ("name", "message"), [("adagard", "did you mean Adagrad"), ("zzz", "known are .*SGD"), ("LBFGS", "there is no optimizer")]
)
def test_an_unknown_one(name: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_optimizer(name)


def test_weight_decay_where_there_is_none() -> None:
    with pytest.raises(SettingsError, match="Rprop has no weight decay"):
        make_optimizer("Rprop", network(), 0.1, 0.01)


def test_only_matrices_decay() -> None:
    groups = make_optimizer("AdamW", network(), 0.1, 0.5).param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert all(p.ndim > 1 for p in groups[0]["params"])
    assert all(p.ndim <= 1 for p in groups[1]["params"])


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(tt.nn.GRU(3, 5), torch.nn.Linear(5, 2))


def train(net: torch.nn.Module, optimizer: torch.optim.Optimizer, updates: range) -> None:
    gru, head = net
    for update in updates:
        set_rate(optimizer, 0.01 / (1 + update))
        generator = torch.Generator().manual_seed(update)
        optimizer.zero_grad()
        head(gru(torch.randn(4, 2, 3, generator=generator))[0]).square().mean().backward()
        optimizer.step()


def bits(net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    arrays, plain = optimizer_state(optimizer)
    weights = {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()}
    return {**weights, **{name: (a.shape, a.dtype, a.tobytes()) for name, a in arrays.items()}, **plain}


def momentum(net: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)


def amsgrad(net: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), lr=0.1, amsgrad=True)


def centered(net: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(net.parameters(), lr=0.1, momentum=0.5, centered=True)


def named(name: str) -> Callable[[torch.nn.Module], torch.optim.Optimizer]:
    return lambda net: make_optimizer(name, net, 0.1, None)


OPTIMIZERS = {
    **{name: named(name) for name in optimizer_names()},
    "momentum": momentum,
    "amsgrad": amsgrad,
    "centered": centered,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 1, 7])
def test_state_goes_through_files_to_the_bit(name: str, before: int, tmp_path: Path) -> None:
    """Stopped after some updates and restored into a new one, all is as if never stopped, shapes of the state included."""
    make, whole = OPTIMIZERS[name], network()
    never_stopped = make(whole)
    train(whole, never_stopped, range(10))

    first = network()
    optimizer = make(first)
    train(first, optimizer, range(before))
    arrays, plain = optimizer_state(optimizer)
    save_tensors(tmp_path / "optimizer.safetensors", arrays)
    write_json(tmp_path / "state.json", plain)

    second = network()
    second.load_state_dict(first.state_dict())
    again = make(second)
    restore_optimizer(again, load_tensors(tmp_path / "optimizer.safetensors"), read_json(tmp_path / "state.json"))
    assert bits(second, again) == bits(first, optimizer)
    train(second, again, range(before, 10))
    assert bits(second, again) == bits(whole, never_stopped)


def test_restored_state_is_a_copy() -> None:
    """The snapshot that a rollback goes back to must not be trained on."""
    net = network()
    optimizer = make_optimizer("Adam", net, 0.1, None)
    train(net, optimizer, range(2))
    arrays = {name: array.copy() for name, array in optimizer_state(optimizer)[0].items()}
    kept = {name: array.tobytes() for name, array in arrays.items()}
    restore_optimizer(optimizer, arrays, {})
    train(net, optimizer, range(3))
    assert kept == {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize("schedule", ["constant", "plateau", "linear", "cosine"])
def test_rate(schedule: str) -> None:
    total = 1000
    shares = [rate_share(schedule, update, total) for update in range(total)]
    assert all(0 < share <= 1 for share in shares)
    assert shares[0] == pytest.approx(1 / WARMUP)
    assert shares[:WARMUP] == sorted(shares[:WARMUP])
    assert shares[WARMUP:] == sorted(shares[WARMUP:], reverse=True)
    assert (shares[-1] < 0.01) == (schedule in ("linear", "cosine"))


def test_rate_before_the_plan_and_of_a_very_short_run() -> None:
    assert rate_share("cosine", 5000, None) == 1.0
    assert rate_share("linear", 0, 1) == 1.0
    assert [rate_share("constant", update, 4) for update in range(4)] == [0.25, 0.5, 0.75, 1.0]
