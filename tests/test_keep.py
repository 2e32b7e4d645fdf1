"""What a training step keeps: gates, states alone, or checkpoints; and final states without outputs.

Legend: T steps, B batch, I inputs, H hidden units.
"""

from __future__ import annotations

import copy
import itertools
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

import throughtime as tt
from throughtime.errors import NotServedError
from throughtime.ops import native

from flow_cases import build
from helpers import TIED, UNTIED, Variant
from native_cases import Case, actual_of, assert_agrees, drawn

LESS = ["states", "checkpoints"]
DTYPES = [torch.float64, torch.float32]


@pytest.mark.parametrize("keep", LESS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", TIED, ids=str)
def test_everything_agrees_with_the_oracle(variant: Variant, dtype: torch.dtype, keep: str) -> None:
    for seed, (T, B, H) in enumerate([(1, 1, 2), (2, 3, 5), (9, 1, 16), (10, 4, 17), (17, 2, 8), (26, 5, 33), (50, 7, 4)]):
        case = drawn(variant, dtype, T, B, H, seed)
        assert_agrees(case, actual_of(case, keep=keep), growth=2)


@pytest.mark.parametrize("keep", LESS)
@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("variant", TIED, ids=str)
def test_ragged_batches_that_end_in_many_segments(variant: Variant, reverse: bool, layout: str, keep: str) -> None:
    lengths = (20, 17, 9, 9, 5, 1) if layout == "packed" else (5, 0, 20, 9, 1, 17)
    case = Case(variant, torch.float64, 20, 6, 5, lengths=lengths, layout=layout, reverse=reverse)
    assert_agrees(case, actual_of(case, keep=keep), growth=2)


def step(module: Any, x: Tensor, lengths: list[int] | None, final_only: bool) -> list[Tensor]:
    """Outputs (unless final_only), states and every gradient of a loss on whatever comes out."""
    x = x.clone().requires_grad_()
    output, final = module(x, lengths=lengths, final_only=final_only)
    assert (output is None) == final_only
    states = final if isinstance(final, tuple) else (final,)
    seen = list(states) if final_only else [output, *states]
    sum((part * torch.linspace(-1, 2, part.numel(), dtype=part.dtype).view_as(part)).sum() for part in seen).backward()
    assert x.grad is not None
    return [*(part.detach() for part in states), x.grad, *(p.grad for p in module.parameters())]


@pytest.mark.parametrize("final_only", [False, True])
@pytest.mark.parametrize("keep", ["gates", *LESS])
@pytest.mark.parametrize("variant", TIED, ids=str)
def test_a_module_gives_the_same_gradients_however_much_it_keeps(variant: Variant, keep: str, final_only: bool) -> None:
    module = build(variant, num_layers=2, bidirectional=True, dtype=torch.float64)
    other = copy.deepcopy(module)
    other.keep = keep
    x = torch.randn(23, 4, 3, dtype=torch.float64)
    for lengths in (None, [23, 4, 0, 11]):
        module.zero_grad()
        other.zero_grad()
        whole = step(module, x, lengths, final_only=False) if not final_only else None
        if final_only:  # the oracle of the same loss: a module whose outputs are returned and not used
            inputs = x.clone().requires_grad_()
            _, final = module(inputs, lengths=lengths)
            states = final if isinstance(final, tuple) else (final,)
            sum((s * torch.linspace(-1, 2, s.numel(), dtype=s.dtype).view_as(s)).sum() for s in states).backward()
            whole = [*(s.detach() for s in states), inputs.grad, *(p.grad for p in module.parameters())]
        for expected, found in zip(whole, step(other, x, lengths, final_only), strict=True):
            # Sums over 23 * 4 steps in another order.
            torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def kept(module: Any, x: Tensor, **options: Any) -> int:
    """Bytes that autograd holds for the way back, parameters and input apart."""
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        held[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x, **options)
    for known in (x, *module.parameters()):
        held.pop(known.data_ptr(), None)
    return sum(held.values())


@pytest.mark.parametrize(
    ("kind", "gates", "states"), [("RNN", 1, 1), ("GRU", 5, 1), ("LSTM", 6, 2)], ids=["RNN", "GRU", "LSTM"]
)
def test_so_much_is_kept(kind: str, gates: int, states: int) -> None:
    T, B, H = 400, 3, 16
    module = getattr(tt.nn, kind)(5, H)
    x = torch.zeros(T, B, 5)
    floats = 4 * B * H  # bytes of a state
    assert kept(module, x) == T * gates * floats
    module.keep = "states"
    assert kept(module, x) == T * states * floats
    module.keep = "checkpoints"
    assert kept(module, x) == kept(module, x, final_only=True) == 20 * states * floats  # 20 segments of 20 steps


@pytest.mark.parametrize("variant", TIED, ids=str)
def test_recording_sees_the_same_flow(variant: Variant) -> None:
    x = torch.randn(23, 4, 3, dtype=torch.float64)
    module = build(variant, dtype=torch.float64)
    found = []
    for keep in ("gates", *LESS):
        module.keep = keep
        for lengths in (None, [23, 4, 0, 11]):
            module.zero_grad()
            output, _ = module(x, lengths=lengths)
            with tt.flow.record(module, delta=True) as flow:
                output.square().sum().backward()
            found.append((flow.layers[0], flow.horizon(0.5)))
    for (first, horizon), (other, same) in itertools.chain(
        zip(found[:2], found[2:4], strict=True), zip(found[:2], found[4:], strict=True)
    ):
        assert same == horizon
        for name in ("gain", "norm", "activation_gain", "weight_gain"):
            seen, expected = (torch.as_tensor(getattr(layer, name)) for layer in (other, first))
            torch.testing.assert_close(seen, expected, rtol=1e-9, atol=1e-11, equal_nan=True)


def test_the_output_belongs_to_the_caller_where_checkpoints_are_kept() -> None:
    module = tt.nn.GRU(3, 4)
    module.keep = "checkpoints"
    output, _ = module(torch.randn(5, 2, 3))
    output.mul_(2).sum().backward()
    expected = module.weight_hh_l0.grad.clone()
    module.zero_grad()
    module.keep = "gates"
    (module(torch.randn(5, 2, 3))[0] * 2).sum().backward()
    assert module.weight_hh_l0.grad.shape == expected.shape


@pytest.mark.parametrize("keep", ["gates", *LESS])
def test_second_derivatives_and_transforms(keep: str) -> None:
    lstm = tt.nn.LSTM(2, 3, dtype=torch.float64)
    lstm.keep = keep
    x = torch.randn(5, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: lstm(x)[0], (x,))
    jacobian = torch.func.jacrev(lambda x: lstm(x)[0].sum((0, 1)))(x.detach())
    torch.testing.assert_close(jacobian.sum(0), torch.autograd.grad(lstm(x)[0].sum(), x)[0])


@pytest.mark.parametrize("keep", LESS)
def test_compiled_it_keeps_states(keep: str) -> None:
    gru = tt.nn.GRU(2, 3)
    gru.keep = keep
    x = torch.randn(6, 2, 2)
    output, _ = torch.compile(gru, backend="aot_eager", fullgraph=True)(x)
    output.sum().backward()
    compiled = [p.grad.clone() for p in gru.parameters()]
    gru.zero_grad()
    gru(x)[0].sum().backward()
    for found, parameter in zip(compiled, gru.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad)


def test_one_sequence_packed_input_and_layers_give_final_states_alone() -> None:
    lstm = tt.nn.LSTM(3, 4, num_layers=2, batch_first=True)
    x = torch.randn(2, 7, 3)
    output, final = lstm(x)
    assert lstm(x, final_only=True)[0] is None
    torch.testing.assert_close(lstm(x, final_only=True)[1], final)
    torch.testing.assert_close(lstm(x[0], final_only=True)[1], lstm(x[0])[1])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [7, 5], batch_first=True)
    nothing, states = lstm(packed, final_only=True)
    assert nothing is None
    torch.testing.assert_close(states, lstm(packed)[1])
    with torch.no_grad():
        torch.testing.assert_close(lstm(x, final_only=True)[1], final)
    assert lstm.bfloat16()(x.bfloat16(), final_only=True)[0] is None
    assert output.shape == (2, 7, 4)


def test_a_wish_for_something_else_is_refused() -> None:
    gru = tt.nn.GRU(2, 3)
    with pytest.raises(ValueError, match="keep is 'all', expected one of 'checkpoints', 'states', 'gates'"):
        gru.keep = "all"
    assert gru.keep == "gates"
    untied = build(UNTIED[0], hidden=3)
    with pytest.raises(NotServedError, match="untied"):
        untied.keep = "states"


def test_it_is_shown_kept_in_copies_and_left_out_of_torchs_own() -> None:
    gru = tt.nn.GRU(2, 3)
    gru.keep = "states"
    assert "keep=states" in repr(gru)
    assert copy.deepcopy(gru).keep == "states"
    back = tt.nn.revert(gru)
    assert "keep" not in repr(back)
    assert not [name for name in vars(back) if "keep" in name]


def test_going_back_with_less_than_was_kept_is_refused() -> None:
    lstm = tt.nn.LSTM(2, 3)
    weights = native.LayerWeights(*(p.detach() for p in lstm.parameters()), None)
    x = torch.zeros(4, 1, 2)
    output, *_, saved = native.forward(lstm.cell, x, None, None, weights, native.Layout(), keep="states")
    with pytest.raises(RuntimeError, match="another keep than 'gates'"):
        native.backward(lstm.cell, x, None, None, weights, native.Layout(), output, saved, output, None, None)


MILLION = """
import sys

import torch

import throughtime as tt

torch.manual_seed(0)
torch.set_num_threads(1)
module = getattr(tt.nn, sys.argv[1])(32, 64)
module.keep = "checkpoints"
_, final = module(torch.randn(1_000_000, 1, 32), final_only=True)
(final[0] if isinstance(final, tuple) else final).square().sum().backward()
assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in module.parameters())
(peak,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(int(peak.split()[1]) * 1024)  # not ru_maxrss, which counts the process that started this one
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
def test_a_million_steps_go_back_in_less_than_a_gibibyte(kind: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", MILLION, kind], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    assert int(done.stdout) < 2**30  # the whole process, torch and an input of 128 MB included
