"""Initialisations: torch's own bits by default, and by name what the papers say."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import RNNBase

import throughtime as tt

from beside_torch import assert_same_bits

KINDS = ("RNN", "GRU", "LSTM")
OPTIONS = {
    "plain": {},
    "deep": {"num_layers": 2, "bidirectional": True, "dropout": 0.1},
    "no_bias": {"bias": False, "batch_first": True},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", [*KINDS, "projected", "RNNCell", "GRUCell", "LSTMCell"])
def test_the_same_seed_makes_torchs_parameters_and_leaves_torchs_random_state(kind: str, options: str) -> None:
    kind, own = ("LSTM", {"proj_size": 2}) if kind == "projected" else (kind, {})
    own |= {"bias": False} if kind.endswith("Cell") and options == "no_bias" else {}
    own |= {} if kind.endswith("Cell") else OPTIONS[options]
    made = []
    for module in (torch.nn, tt.nn):
        torch.manual_seed(11)
        parameters = dict(getattr(module, kind)(3, 4, **own).named_parameters())
        made.append((list(parameters), [*parameters.values(), torch.get_rng_state()]))
    assert made[0][0] == made[1][0]
    assert_same_bits(made[1][1], made[0][1])


def recurrent_blocks(module: RNNBase) -> Iterator[Tensor]:
    for name, parameter in module.named_parameters():
        if "weight_hh" in name:
            yield from parameter.detach().split(module.hidden_size)


@pytest.mark.parametrize("where", [tt.nn, torch.nn])
@pytest.mark.parametrize("kind", KINDS)
def test_orthogonal_blocks_keep_norms(kind: str, where: object) -> None:
    module = getattr(where, kind)(3, 5, num_layers=2, bidirectional=True, dtype=torch.float64)
    untouched = module.weight_ih_l0.detach().clone()
    assert tt.nn.init.by_name(module, "orthogonal", gain=1.5) is module
    for block in recurrent_blocks(module):
        torch.testing.assert_close(block @ block.T, 2.25 * torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-14)
    assert torch.equal(module.weight_ih_l0, untouched)
    tt.nn.init.orthogonal_(projected := tt.nn.LSTM(3, 5, proj_size=2, dtype=torch.float64))
    for block in recurrent_blocks(projected):  # [H, P]: columns of length one
        torch.testing.assert_close(block.T @ block, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-14)


def test_identity_is_the_one_of_le_jaitly_and_hinton() -> None:
    module = tt.nn.init.identity_(tt.nn.RNN(50, 60, num_layers=2, nonlinearity="relu"), 0.9)
    for block in recurrent_blocks(module):
        assert torch.equal(block, 0.9 * torch.eye(60))
    assert not torch.cat([module.bias_ih_l0, module.bias_hh_l0, module.bias_ih_l1, module.bias_hh_l1]).any()
    # The deviation of 3000 draws is within 5 % of 0.001 in all but one case in 10^4; the seed is fixed anyway.
    assert 0.00095 < module.weight_ih_l0.std() < 0.00105
    with pytest.raises(ValueError, match="for simple RNNs, not for GRU"):
        tt.nn.init.identity_(tt.nn.GRU(3, 4))


def test_forget_bias_is_the_sum_of_both_halves_and_touches_nothing_else() -> None:
    module = tt.nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    assert tt.nn.init.forget_bias_(module, 2.0) is module
    for name, parameter in module.named_parameters():
        if name.startswith("bias"):
            expected = 2.0 if name.startswith("bias_ih") else 0.0
            assert (parameter[4:8] == expected).all()
            assert_same_bits([parameter[:4], parameter[8:]], [before[name][:4], before[name][8:]])
        else:
            assert torch.equal(parameter, before[name])


def test_chrono_spreads_time_scales() -> None:
    torch.manual_seed(0)
    module = tt.nn.init.chrono_(tt.nn.LSTM(3, 2000), longest=101)
    gates = (module.bias_ih_l0 + module.bias_hh_l0).detach()
    scales = gates[2000:4000].exp()
    assert ((scales >= 1) & (scales <= 100.001)).all()
    assert torch.equal(gates[:2000], -gates[2000:4000])
    # Uniform on [1, 100]: the mean of 2000 draws is 50.5 with a deviation of 0.64; half lie below it.
    assert math.isclose(scales.mean(), 50.5, abs_tol=3)
    assert math.isclose((scales < 50.5).float().mean(), 0.5, abs_tol=0.05)


def test_initialisations_refuse_what_they_are_not_for() -> None:
    for wrong in (tt.nn.GRU(3, 4), tt.nn.LSTM(3, 4, bias=False)):
        for init in (tt.nn.init.forget_bias_, lambda m: tt.nn.init.chrono_(m, 10)):
            with pytest.raises(ValueError, match="for an LSTM with biases"):
                init(wrong)
    with pytest.raises(ValueError, match="longest is 2, expected at least 3"):
        tt.nn.init.chrono_(tt.nn.LSTM(3, 4), 2)
    with pytest.raises(ValueError, match="'ortogonal'; did you mean 'orthogonal'"):
        tt.nn.init.by_name(tt.nn.LSTM(3, 4), "ortogonal")


def test_untied_modules_start_as_torchs_do() -> None:
    torch.manual_seed(0)
    module = tt.nn.RNN(30, 25, tied=False, steps=4)
    everything = torch.cat([p.flatten() for p in module.parameters()]).detach()
    assert everything.abs().max() <= 0.2  # uniform in +-1/sqrt(25)
    # The mean of 4 * 30 * 25 + 3 * 25 * 25 + 4 * 25 = 4975 such draws deviates by 0.2 / sqrt(3 * 4975) = 0.0016.
    assert len(everything) == 4975
    assert abs(everything.mean()) < 0.005
    assert not torch.equal(module.weight_hh_l0_t1, module.weight_hh_l0_t2)
