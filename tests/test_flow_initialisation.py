"""How far the gradient reaches in fresh networks: the initialisation table that the project's diagnosis rests on.

50 units, T = 100 steps of the temporal-order task (Hochreiter and Schmidhuber 1997), batches of 20. Each figure is a mean over
fresh networks, so it is known only within its spread over them: the spread is stated beside every figure, measured over 200
other networks and batches (seeds of their own, so that the tests do not check numbers against themselves).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import throughtime as tt
from throughtime.nn import init

STEPS, BATCH, HIDDEN, SYMBOLS = 100, 20, 50, 6
NETWORKS, NETWORKS_OF_REFERENCE = 30, 200


def temporal_order(generator: torch.Generator) -> Tensor:
    """[T, B, 6] one-hot: distractors 0 to 3, and two symbols of 4 or 5, early and about the middle, to be told in order."""
    symbols = torch.randint(0, 4, (STEPS, BATCH), generator=generator)
    for first, last in ((STEPS // 10, 2 * STEPS // 10), (4 * STEPS // 10, 5 * STEPS // 10)):
        where = torch.randint(first, last + 1, (BATCH,), generator=generator)
        symbols[where, torch.arange(BATCH)] = torch.randint(4, 6, (BATCH,), generator=generator)
    return torch.nn.functional.one_hot(symbols, SYMBOLS).float()


def normal(nonlinearity: str, deviation: float) -> tt.nn.RNN:
    """All weights N(0, deviation^2), no biases."""
    module = tt.nn.RNN(SYMBOLS, HIDDEN, nonlinearity=nonlinearity)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(0.0, deviation if "weight" in name else 0.0)
    return module


def smart_tanh() -> tt.nn.RNN:
    """Pascanu, Mikolov and Bengio 2013, after Sutskever: 15 connections into a unit, spectral radius .95; input N(0, .01^2)."""
    module = normal("tanh", 0.01)
    recurrent = torch.zeros(HIDDEN, HIDDEN)
    for unit in range(HIDDEN):
        recurrent[unit, torch.randperm(HIDDEN)[:15]] = torch.randn(15)
    with torch.no_grad():
        module.weight_hh_l0.copy_(recurrent * (0.95 / torch.linalg.eigvals(recurrent).abs().max()))
    return module


def lstm() -> tt.nn.LSTM:
    return tt.nn.LSTM(SYMBOLS, HIDDEN)


@dataclass(frozen=True)
class Figure:
    """A mean over networks, and the standard deviation of one network."""

    mean: float
    spread: float


@dataclass(frozen=True)
class Row:
    """An initialisation: what was measured over 200 networks, and what the table of the diagnosis says of it."""

    make: Callable[[], Any]
    gain: Figure
    activation: Figure
    weight: Figure
    horizon: Figure
    table: dict[str, float]


NONE = Figure(math.nan, math.nan)
ROWS = {
    "sigmoid of Pascanu": Row(
        lambda: normal("sigmoid", 0.01),
        Figure(-3.992, 0.053), Figure(-1.387, 0.0005), Figure(-2.606, 0.053), Figure(2.0, 0.0),
        {"gain": -3.98, "activation": -1.39, "weight": -2.59, "horizon": 2},
    ),
    "tanh of Pascanu": Row(
        lambda: normal("tanh", 0.1),
        Figure(-0.324, 0.051), Figure(-0.019, 0.004), Figure(-0.305, 0.052), Figure(13.12, 1.336),
        {"gain": -0.32, "activation": -0.02, "weight": -0.30, "horizon": 13},
    ),
    "smart tanh of Pascanu": Row(
        smart_tanh,
        Figure(-0.065, 0.005), Figure(-0.001, 0.001), Figure(-0.064, 0.005), Figure(64.84, 9.32),
        {"gain": -0.07, "activation": 0.0, "weight": -0.07, "horizon": 64},
    ),
    # The table says 0 for the activation. With inputs of size one, or torch's biases alone, it is not: tanh bends a little.
    "tanh of torch": Row(
        lambda: tt.nn.RNN(SYMBOLS, HIDDEN),
        Figure(-0.533, 0.051), Figure(-0.028, 0.006), Figure(-0.505, 0.050), Figure(8.395, 0.52),
        {"gain": -0.52, "weight": -0.52, "horizon": 9},
    ),
    # The probe starts as a random direction of the whole state (h, c); see below for gradients put into one of them alone.
    "LSTM of torch": Row(lstm, Figure(-0.455, 0.021), NONE, NONE, Figure(8.81, 0.40), {"horizon": 9}),
    "LSTM, forget bias 1": Row(
        lambda: init.forget_bias_(lstm(), 1.0), Figure(-0.164, 0.012), NONE, NONE, Figure(23.54, 1.18), {"horizon": 26}
    ),
    "LSTM, chrono": Row(
        lambda: init.chrono_(lstm(), STEPS), Figure(-0.018, 0.001), NONE, NONE, Figure(math.inf, 0.0), {"horizon": math.inf}
    ),
    "identity ReLU": Row(
        lambda: init.identity_(tt.nn.RNN(SYMBOLS, HIDDEN, nonlinearity="relu")),
        Figure(-0.008, 0.001), Figure(-0.008, 0.001), Figure(0.0, 1e-9), Figure(math.inf, 0.0),
        {"horizon": math.inf},
    ),
}  # fmt: skip
FIGURES = ("gain", "activation", "weight", "horizon")
HALF_A_DIGIT = {"gain": 0.005, "activation": 0.005, "weight": 0.005, "horizon": 0.5}
"""What the table's figures are rounded to."""


@cache
def measured(name: str) -> dict[str, np.ndarray]:
    """The figures of every network: means over steps of the probe's gains, and the horizon at 1 %."""
    rows = []
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        module = ROWS[name].make()
        _, final = module(temporal_order(torch.Generator().manual_seed(1000 + seed)))
        h_n = final[0] if isinstance(final, tuple) else final
        with tt.flow.record(module) as flow:
            h_n.sum().backward()
        probe = flow.layers[0].probe
        rows.append([probe.gain.mean(), probe.activation.mean(), probe.weight.mean(), flow.horizon(0.01)])
    return dict(zip(FIGURES, np.array(rows).T, strict=True))


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("name", ROWS)
def test_fresh_networks_lose_as_much_as_measured(name: str, figure: str) -> None:
    expected, found = getattr(ROWS[name], figure), measured(name)[figure]
    if math.isnan(expected.mean):
        assert np.isnan(found).all(), "only a simple RNN's gain splits into activation and weights"
        return
    if math.isinf(expected.mean):
        assert (found == math.inf).all()
        return
    # Both are means of a sample: four standard errors of their difference, and the rounding of what is written above.
    error = expected.spread * math.sqrt(1 / NETWORKS + 1 / NETWORKS_OF_REFERENCE)
    assert found.mean() == pytest.approx(expected.mean, rel=0, abs=4 * error + 0.0005)


@pytest.mark.parametrize(("name", "figure"), [(name, figure) for name, row in ROWS.items() for figure in row.table])
def test_the_table_of_the_diagnosis_is_what_one_network_may_show(name: str, figure: str) -> None:
    says, found = ROWS[name].table[figure], measured(name)[figure]
    if math.isinf(says):
        assert (found == says).all()
        return
    # It does not say of how many networks it is a mean: three deviations of one, and its own rounding.
    assert says == pytest.approx(found.mean(), rel=0, abs=3 * found.std(ddof=1) + HALF_A_DIGIT[figure])


def horizon_from(put_in: str, make: Callable[[], Any], seed: int) -> float:
    """H1% of an LSTM for random gradients put into some of its states at the end; float64, so that nothing underflows."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    module = make().double()
    _, (h_n, c_n) = module(temporal_order(generator).double())
    loss = torch.zeros((), dtype=torch.float64)
    for name, state in (("h", h_n), ("c", c_n)):
        if name in put_in:
            loss = loss + (state * torch.randn(state.shape, generator=generator, dtype=torch.float64)).sum()
    with tt.flow.record(module, probe=False) as flow:
        loss.backward()
    below = np.flatnonzero(np.cumsum(flow.layers[0].gain[::-1]) < math.log(0.01))
    return float(below[0] + 1)


LSTMS = {
    # initialisation: what the table says, then over 200 networks as above for gradients put into c, into h and c, into h
    "LSTM of torch": (9, {"c": Figure(9.05, 0.22), "hc": Figure(8.80, 0.41), "h": Figure(7.92, 0.27)}),
    "LSTM, forget bias 1": (26, {"c": Figure(25.25, 1.32), "hc": Figure(23.66, 1.20), "h": Figure(20.53, 1.01)}),
}


@pytest.mark.parametrize("put_in", ["c", "hc", "h"])
@pytest.mark.parametrize("name", LSTMS)
def test_lstm_horizons_depend_on_the_state_a_gradient_is_put_into(name: str, put_in: str) -> None:
    says, figures = LSTMS[name]
    found = np.array([horizon_from(put_in, ROWS[name].make, seed) for seed in range(NETWORKS)])
    expected = figures[put_in]
    error = expected.spread * math.sqrt(1 / NETWORKS + 1 / NETWORKS_OF_REFERENCE)
    assert found.mean() == pytest.approx(expected.mean, rel=0, abs=4 * error + 0.005)
    # Put into h alone, half is lost on the first step, through the output gate: no network of 30 shows the table's figure.
    assert (found >= says).any() == (put_in != "h")
