"""Where a loss became no number: the weights, the input or the step are named."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import throughtime as tt
import throughtime.train.trainer
from throughtime.train.faults import where_it_broke

# Where it broke


def broke(network: torch.nn.Module, loss: Callable[[torch.nn.Module], Tensor]) -> str:
    task: Any = SimpleNamespace(loss=lambda network, batch, state: (loss(network), None))
    return where_it_broke(task, network, None, None)


def small(kind: str = "GRU", **options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.ModuleDict({"rnn": getattr(tt.nn, kind)(3, 4, **options), "head": torch.nn.Linear(4, 1)})


def said(network: Any, x: Tensor) -> Tensor:
    answer: Tensor = network["head"](network["rnn"](x)[0])
    return answer


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_weights_are_named(value: float) -> None:
    network = small()
    with torch.no_grad():
        network["rnn"].weight_hh_l0[2, 1] = value
    assert broke(network, lambda n: said(n, torch.ones(5, 2, 3)).mean()) == "first in the weights rnn.weight_hh_l0"


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_a_broken_input_is_named_with_its_step(kind: str) -> None:
    x = torch.ones(9, 4, 3)
    x[6, 2, 1] = math.nan
    x[7, 0, 0] = math.inf
    network = small(kind)
    assert broke(network, lambda n: said(n, x).mean()) == "first in the input of rnn at step 7 of sequence 3 in the batch"
    assert not network["rnn"]._forward_hooks


def test_an_exploding_relu_network_is_named_with_its_step() -> None:
    network = small("RNN", nonlinearity="relu", bias=False)
    with torch.no_grad():
        network["rnn"].weight_ih_l0.fill_(1.0)
        network["rnn"].weight_hh_l0.fill_(2.5)  # times ten a step
    x = torch.zeros(60, 3, 3)
    x[:, 1] = 1.0
    steps = 1 + next(t for t in range(60) if not torch.isfinite(network["rnn"](x)[0][t]).all())
    assert 37 <= steps <= 40, "largest float32: 3.4e38"
    assert (
        broke(network, lambda n: said(n, x).mean()) == f"first in the output of rnn at step {steps} of sequence 2 in the batch"
    )


def test_a_broken_loss_gradient_and_norm_are_named() -> None:
    network, x = small(), torch.ones(5, 2, 3)
    assert (
        broke(network, lambda n: said(n, x).mean() * math.nan) == "first in the loss, all outputs of the network being finite"
    )
    said(network, x).mean().backward()
    kept = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    assert broke(network, lambda n: said(n, x).mean()) == "in the norm of the gradient, each part of it being finite"
    assert all(torch.equal(p.grad, kept[name]) for name, p in network.named_parameters() if p.grad is not None)
    grad = network["head"].weight.grad
    assert grad is not None
    grad[0, 0] = math.inf
    assert broke(network, lambda n: said(n, x).mean()) == "first in the gradient of head.weight, the loss being finite"
