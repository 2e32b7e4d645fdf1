"""How far the gradient reaches in fresh networks: exact cases through the same code, and what every seed shows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import throughtime as tt
from throughtime.errors import SettingsError
from throughtime.experiments.reach import STARTS, Network, Reach, Start, at_initialisation, drawn, measure
from throughtime.nn import init

SEEDS = range(4)


@cache
def fresh(seed: int) -> dict[str, Reach]:
    return {reach.name: reach for reach in at_initialisation(seed)}


def rotation(rho: float) -> Start:
    """h_t = rho Q h_{t-1} + W x_t + b with Q orthogonal: every step keeps the share rho."""
    return Start(
        "rotation", "", lambda features, hidden: init.orthogonal_(tt.nn.RNN(features, hidden, nonlinearity="identity"), rho)
    )


def scaled(make: Callable[..., Any], scale: float, **options: Any) -> Start:
    def made(features: int, hidden: int) -> Any:
        module = make(features, hidden, **options)
        with torch.no_grad():
            module.weight_hh_l0.normal_(0, scale / math.sqrt(hidden))
        return module

    return Start("scaled", "", made)


# --- known exactly


@pytest.mark.parametrize(("rho", "steps", "horizon"), [(0.9, 100, 44), (0.95, 100, 90), (0.99, 470, 459)])
def test_horizon_of_a_scaled_rotation_is_exact(rho: float, steps: int, horizon: int) -> None:
    reach = measure(rotation(rho), steps=steps, hidden=8, batch=3)
    assert reach.horizon_1 == horizon
    assert reach.horizon_10 == math.floor(math.log(0.1) / math.log(rho)) + 1
    assert reach.gain == pytest.approx(math.log(rho), rel=0, abs=1e-5)
    assert reach.weight == pytest.approx(math.log(rho), rel=0, abs=1e-5)
    assert reach.activation == 0
    assert reach.slope_least == reach.slope_mean == reach.slope_largest == 1
    assert reach.radius == pytest.approx(rho, rel=1e-5)
    np.testing.assert_allclose(reach.left, math.log(rho) * np.arange(steps + 1), rtol=0, atol=1e-5 * steps)
    # The loss is on the last step alone: its gradient is a probe of another size.
    norms = np.array(reach.norms)
    np.testing.assert_allclose(np.log(norms / norms[0]), math.log(rho) * np.arange(steps), rtol=0, atol=1e-5 * steps)


@pytest.mark.parametrize("rho", [1.0, 1.1])
def test_what_does_not_vanish_has_no_horizon(rho: float) -> None:
    reach = measure(rotation(rho), steps=50, hidden=8, batch=3)
    assert reach.horizon_1 is None
    assert reach.first_bad_step is None


@pytest.mark.parametrize("bias", [-1.0, 0.0, 2.0])
def test_cell_path_of_an_lstm_without_weights_is_its_forget_gate(bias: float) -> None:
    def make(features: int, hidden: int) -> tt.nn.LSTM:
        module = tt.nn.LSTM(features, hidden)
        for parameter in module.parameters():
            torch.nn.init.zeros_(parameter)
        return init.forget_bias_(module, bias)

    reach = measure(Start("gate", "", make), steps=30, hidden=6, batch=2)
    assert reach.cell == pytest.approx(-math.log1p(math.exp(-bias)), rel=0, abs=1e-5)
    assert reach.activation is reach.weight is reach.slope_mean is reach.radius is None


def test_it_is_what_the_recorder_says() -> None:
    reach = measure(STARTS["tanh"], steps=40, batch=5, seed=7)
    network = Network(STARTS["tanh"], 50, 7)
    inputs, targets = drawn(40, 5, 7)
    logits, output = network(inputs)
    with tt.flow.record(network) as flow:
        torch.nn.functional.cross_entropy(logits, targets).backward()
    (layer,) = flow.layers
    assert reach.left == [0.0, *layer.reach.tolist()]
    assert reach.norms == layer.norm[::-1].tolist()
    assert reach.gain == pytest.approx(layer.reach[-1] / 40)
    assert (reach.horizon_10, reach.horizon_1) == (flow.horizon(0.1), flow.horizon(0.01))
    assert reach.slope_mean == pytest.approx(float((1 - output.detach().double() ** 2).mean()))


# --- what every seed shows


@pytest.mark.parametrize("seed", SEEDS)
def test_sigmoid_vanishes_by_its_slopes_and_tanh_less(seed: int) -> None:
    sigmoid, tanh = fresh(seed)["sigmoid"], fresh(seed)["tanh"]
    assert 0 <= sigmoid.slope_least < sigmoid.slope_mean < sigmoid.slope_largest <= 0.25
    assert sigmoid.activation <= math.log(0.25)
    assert sigmoid.activation < sigmoid.weight < 0
    assert sigmoid.radius == tanh.radius, "the same weights"
    assert sigmoid.gain < tanh.gain - 1 < -1
    assert sigmoid.horizon_1 < tanh.horizon_1
    assert sigmoid.underflowed_at is not None


@pytest.mark.parametrize("seed", SEEDS)
def test_relu_explodes_by_its_weights_alone(seed: int) -> None:
    relu, he, large, identity = (fresh(seed)[name] for name in ("ReLU", "ReLU, He", "ReLU, large", "ReLU, identity"))
    for reach in (relu, he, large, identity):
        assert reach.slope_largest == 1
        assert reach.slope_least == 0
        assert reach.activation < 0
    assert relu.gain < -0.5
    assert he.radius > 1
    assert abs(he.gain) < 0.15, "a radius above 1 is no explosion"
    assert large.gain > 0.15
    assert large.weight > 0.5
    assert large.horizon_1 is None
    assert large.norms[-1] > 1e6 * large.norms[0]
    assert identity.weight == pytest.approx(0, abs=1e-6)
    assert -0.05 < identity.gain < 0


@pytest.mark.parametrize("seed", SEEDS)
def test_an_lstm_reaches_as_far_as_its_forget_gate_lets_it_and_can_explode(seed: int) -> None:
    tanh, lstm, open_lstm = (fresh(seed)[name] for name in ("tanh", "LSTM", "LSTM, forget bias 1"))
    assert lstm.horizon_1 < 2 * tanh.horizon_1
    assert open_lstm.horizon_1 >= 2 * lstm.horizon_1
    assert lstm.cell < open_lstm.cell < 0
    large, very_large = fresh(seed)["LSTM, large"], fresh(seed)["LSTM, very large"]
    assert large.gain < fresh(seed)["ReLU, large"].gain - 0.1, "the same recurrent variance"
    assert very_large.gain > 0.15
    assert very_large.norms[-1] > 1e4 * very_large.norms[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_gain_is_the_slopes_part_plus_the_weights_part(seed: int) -> None:
    for reach in fresh(seed).values():
        if reach.activation is not None:
            assert reach.activation + reach.weight == pytest.approx(reach.gain, rel=0, abs=1e-12)


# --- plain, repeatable, and safe


def test_all_of_it_is_plain_json_also_where_a_network_overflows() -> None:
    overflowing = measure(scaled(tt.nn.RNN, 8.0, nonlinearity="relu"), steps=100)
    assert overflowing.first_bad_step is not None
    for reach in (overflowing, *fresh(0).values()):
        json.dumps(asdict(reach), allow_nan=False)
        assert (len(reach.left), len(reach.norms)) == (101, 100)


def test_a_network_that_dies_has_no_gain_left_to_tell() -> None:
    def dead(features: int, hidden: int) -> tt.nn.RNN:
        module = tt.nn.RNN(features, hidden, nonlinearity="relu")
        for parameter in module.parameters():
            torch.nn.init.constant_(parameter, -1.0)
        return module

    reach = measure(Start("dead", "", dead), steps=12, hidden=4, batch=2)
    assert reach.gain is reach.activation is reach.weight is None
    assert reach.left == [0.0, *[None] * 12]
    assert reach.horizon_1 == 1


def test_a_seed_gives_the_same_numbers_and_leaves_torchs_own_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert at_initialisation(1, steps=20) == at_initialisation(1, steps=20) != at_initialisation(2, steps=20)
    assert torch.equal(torch.get_rng_state(), before)


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(SettingsError, match="steps is 9"):
        at_initialisation(steps=9)
