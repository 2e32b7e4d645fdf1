"""What does not fit is refused as torch.nn refuses it, and says what was found and expected; nothing is read past its end."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import throughtime as tt
from throughtime.errors import LengthsError, NotServedError
from throughtime.ops import registered as registered  # brings torch.ops.throughtime

from beside_torch import in_child, twins

T, B, I, H = 5, 2, 3, 4
KINDS = ("RNN", "GRU", "LSTM")
CELLS = ("RNNCell", "GRUCell", "LSTMCell")

X = torch.zeros(T, B, I)
PACKED = pack_padded_sequence(X, torch.tensor([T, 2]))


def state(kind: str, tensor: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    return (tensor, tensor) if kind.startswith("LSTM") else tensor


def refused(call: Callable[[], object], expected: type[Exception] | tuple, says: str) -> None:
    with pytest.raises(expected) as caught:
        call()
    assert re.search(says, str(caught.value)), f"expected /{says}/ in: {caught.value}"


def torchs_type(call: Callable[[], object]) -> type[Exception]:
    try:
        call()
    except Exception as error:
        return type(error)
    raise AssertionError("torch takes it")


# --- modules: the type of error is torch.nn's, or a subclass


INPUTS = {
    "1 axis": (X[0, 0], r"\b1\b"),
    "4 axes": (X[None], r"\b4\b"),
    "wrong size": (X[..., :2], r"3.*2|2.*3"),
    "float64": (X.double(), r"float64.*float32"),
    "half": (X.half(), r"float16.*float32"),
    "integers": (X.int(), r"int32.*float32"),
    "booleans": (X.bool(), r"bool.*float32"),
    "complex": (X.to(torch.complex64), r"complex64.*float32"),
    "another device": (X.to("meta"), r"meta"),
    "no steps": (X[:0], r"larger than 0"),
    "no steps, one sequence": (X[:0, 0], r"larger than 0"),
    "packed, 1 axis": (PackedSequence(torch.zeros(7), PACKED.batch_sizes), r"\b1\b"),
    "packed, 3 axes": (PackedSequence(torch.zeros(7, 1, I), PACKED.batch_sizes), r"\b3\b"),
    "packed, wrong size": (PackedSequence(torch.zeros(7, 2), PACKED.batch_sizes), r"3.*2|2.*3"),
    "packed, float64": (PackedSequence(PACKED.data.double(), PACKED.batch_sizes), r"(?i)float64.*float32"),
    "a list": (X.tolist(), r"list"),
    "an array": (X.numpy(), r"ndarray"),
    "None": (None, r"None"),
}


@pytest.mark.parametrize("case", INPUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_input_that_does_not_fit_is_refused_as_by_torch(kind: str, case: str) -> None:
    wrong, says = INPUTS[case]
    ours, theirs = twins(kind, I, H)
    # torch's LSTM does not check a packed input, and stumbles over it later.
    accident = (kind, case) == ("LSTM", "packed, float64")
    refused(lambda: ours(wrong), ValueError if accident else torchs_type(lambda: theirs(wrong)), says)


ZEROS = torch.zeros(1, B, H)
STATES = {
    "wrong size": (torch.zeros(1, B, 5), r"4.*5"),
    "wrong batch": (torch.zeros(1, 3, H), r"2.*3"),
    "wrong layers": (torch.zeros(2, B, H), r"1, 2, 4.*2, 2, 4"),
    "2 axes": (ZEROS[0], r"\b2\b"),
    "4 axes": (ZEROS[None], r"\b4\b"),
    "float64": (ZEROS.double(), r"(?i)double|float64"),
    "integers": (ZEROS.int(), r"(?i)\bint"),
    "complex": (ZEROS.to(torch.complex64), r"(?i)complex"),
    "another device": (ZEROS.to("meta"), r"meta"),
}
# Packed, torch's LSTM checks nothing itself: it ends in an IndexError, or, with 4 axes, in a segmentation fault.
BY_ACCIDENT = {("LSTM", "packed", "2 axes"), ("LSTM", "packed", "4 axes")}


@pytest.mark.parametrize("case", STATES)
@pytest.mark.parametrize("form", ["padded", "one sequence", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_does_not_fit_is_refused_as_by_torch(kind: str, form: str, case: str) -> None:
    wrong, says = STATES[case]
    source = {"padded": X, "one sequence": X[:, 0], "packed": PACKED}[form]
    if form == "one sequence":
        if case in ("wrong batch", "2 axes"):
            return  # there is no batch; 2 axes are right
        wrong = wrong[:, 0] if case not in ("4 axes",) else wrong[0]
        says = {"wrong layers": r"1, 1, 4.*2, 1, 4", "4 axes": r"\b3\b"}.get(case, says)
    ours, theirs = twins(kind, I, H)
    hx = state(kind, wrong)
    expected = RuntimeError if (kind, form, case) in BY_ACCIDENT else torchs_type(lambda: theirs(source, hx))
    refused(lambda: ours(source, hx), expected, says)


def test_the_second_state_of_an_lstm_is_checked_as_the_first() -> None:
    ours, theirs = twins("LSTM", I, H, proj_size=2)
    h, c = torch.zeros(1, B, 2), torch.zeros(1, B, H)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*oneDNN")  # torch says once in a process that it is slow with a projection
        assert theirs(X, (h, c))[0].shape == ours(X, (h, c))[0].shape
    for hx, says in (((h, h), r"c_0.*4.*2"), ((c, c), r"h_0.*2.*4"), ((h, c[0]), "c_0.* 2 axes")):
        refused(lambda hx=hx: ours(X, hx), torchs_type(lambda hx=hx: theirs(X, hx)), says)


@pytest.mark.parametrize("hx", [(), (ZEROS,), (ZEROS,) * 3, ZEROS, [ZEROS.tolist()] * 2, "ab", 1, (ZEROS, None)], ids=repr)
def test_an_lstm_takes_exactly_a_pair_of_tensors(hx: object) -> None:
    # torch's own answer depends on what it trips over: IndexError, AttributeError, RuntimeError or TypeError.
    for source in (X, PACKED):
        refused(
            lambda s=source: tt.nn.LSTM(I, H)(s, hx), (TypeError, AttributeError, RuntimeError), r"pair|NoneType|list|str|len"
        )


@pytest.mark.parametrize("hx", [(ZEROS,), (ZEROS, ZEROS), ZEROS.tolist(), "ab", 1], ids=repr)
@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_the_others_take_exactly_one_tensor(kind: str, hx: object) -> None:
    for source in (X, PACKED):
        refused(lambda s=source: getattr(tt.nn, kind)(I, H)(s, hx), (TypeError, AttributeError), "tuple|list|str|int")


CONSTRUCTED = {
    "input_size 0": ((0, 4), {}),
    "hidden_size 0": ((3, 0), {}),
    "hidden_size float": ((3, 4.0), {}),
    "no layers": ((3, 4, 0), {}),
    "bias 1": ((3, 4), {"bias": 1}),
    "batch_first 1": ((3, 4), {"batch_first": 1}),
    "dropout 2": ((3, 4, 2), {"dropout": 2.0}),
    "dropout True": ((3, 4, 2), {"dropout": True}),
    "dropout without a second layer": ((3, 4), {"dropout": 0.5}),  # a warning, and warnings are errors here
    "proj_size too large": ((3, 4), {"proj_size": 4}),
    "proj_size negative": ((3, 4), {"proj_size": -1}),
    "integers": ((3, 4), {"dtype": torch.int32}),
    "no such option": ((3, 4), {"layers": 2}),
    "too few": ((3,), {}),
}


@pytest.mark.parametrize("case", CONSTRUCTED)
@pytest.mark.parametrize("kind", KINDS)
def test_constructors_refuse_what_torchs_refuse(kind: str, case: str) -> None:
    sizes, options = CONSTRUCTED[case]
    expected = torchs_type(lambda: getattr(torch.nn, kind)(*sizes, **options))
    refused(lambda: getattr(tt.nn, kind)(*sizes, **options), expected, "")


def test_an_unknown_nonlinearity_is_answered_with_those_there_are() -> None:
    for make in (tt.nn.RNN, tt.nn.RNNCell):
        refused(lambda m=make: m(I, H, nonlinearity="tahn"), ValueError, "'tahn'.*'tanh', 'relu', 'sigmoid' or 'identity'")


# --- cells


ROW, ONE = torch.zeros(B, I), torch.zeros(B, H)
CELL_CASES = {
    "3 axes": (X, None, r"\b3\b"),
    "0 axes": (torch.zeros(()), None, r"\b0\b"),
    "wrong size": (ROW[:, :2], None, r"2.*3"),
    "float64": (ROW.double(), None, r"(?i)double.*float"),
    "integers": (ROW.int(), None, r"(?i)int.*float"),
    "complex": (ROW.to(torch.complex64), None, r"(?i)complex.*float"),
    "a list": (ROW.tolist(), None, "list"),
    "state of a wrong size": (ROW, torch.zeros(B, 5), r"5.*4"),
    "state of a wrong batch": (ROW, torch.zeros(1, H), r"\b1\b"),
    "state of 3 axes": (ROW, ZEROS, r"\b3\b"),
    "state of 1 axis": (ROW, torch.zeros(H), r"\b4\b|1 ax"),
    "state of another device": (ROW, ONE.to("meta"), "meta"),
    "a list for a state": (ROW, ONE.tolist(), "list"),
}


@pytest.mark.parametrize("case", CELL_CASES)
@pytest.mark.parametrize("kind", CELLS)
def test_cells_refuse_what_torchs_refuse(kind: str, case: str) -> None:
    x, hx, says = CELL_CASES[case]
    ours, theirs = twins(kind, I, H)
    hx = None if hx is None else state(kind, hx)
    refused(lambda: ours(x, hx), torchs_type(lambda: theirs(x, hx)), says)


@pytest.mark.parametrize(
    "hx", [(ONE,), (ONE,) * 3, torch.zeros(2, B, H), (ONE, torch.zeros(B, 5))], ids=["1", "3", "tensor", "c"]
)
def test_an_lstm_cell_takes_exactly_a_pair(hx: object) -> None:
    ours, theirs = twins("LSTMCell", I, H)
    refused(lambda: ours(ROW, hx), torchs_type(lambda: theirs(ROW, hx)), r"two|pair|4|expected|tuple")


# --- lengths


LENGTHS = {
    "too few": ([T], r"\(1,\), expected \(2,\)"),
    "too many": ([T, 1, 1], r"\(3,\), expected \(2,\)"),
    "none": ([], r"\(0,\), expected \(2,\)"),
    "a number": (T, r"\(\), expected \(2,\)"),
    "2 axes": ([[T, 1]], r"\(1, 2\), expected \(2,\)"),
    "too long": ([1, T + 1], r"lengths\[1\] is 6, expected 0 to 5"),
    "negative": ([-1, T], r"lengths\[0\] is -1, expected 0 to 5"),
    "huge": ([1, 2**62], rf"lengths\[1\] is {2**62}, expected 0 to 5"),
    "huge negative": ([-(2**63), 1], r"lengths\[0\] is -9\d+, expected"),
    "the largest": (torch.tensor([1, 2**63 - 1]), r"lengths\[1\] is 9\d+, expected"),
    "beyond int64": (torch.tensor([1, 2**63 + 5], dtype=torch.uint64), r"lengths\[1\] is -?\d+, expected"),
    "floats": ([5.0, 2.0], "float.*integers"),
    "float tensor": (torch.tensor([5.0, 2.0]), "float32.*integers"),
    "half tensor": (torch.tensor([5.0, 2.0]).half(), "float16.*integers"),
    "float array": (np.array([5.0, 2.0]), "float64.*integers"),
    "booleans": ([True, False], "bool.*integers"),
    "boolean tensor": (torch.tensor([True, False]), "bool.*integers"),
    "a mask": (torch.ones(T, B, dtype=torch.bool), "lengths"),
    "complex": (torch.tensor([5, 2]).to(torch.complex64), "complex64.*integers"),
}


@pytest.mark.parametrize("case", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_lengths_that_do_not_fit_are_refused_by_name(kind: str, case: str) -> None:
    wrong, says = LENGTHS[case]
    for options, x in (({}, X), ({"batch_first": True, "bidirectional": True}, X.transpose(0, 1))):
        refused(lambda o=options, x=x: getattr(tt.nn, kind)(I, H, **o)(x, lengths=wrong), LengthsError, says)
    assert issubclass(LengthsError, ValueError)
    assert issubclass(LengthsError, RuntimeError)


@pytest.mark.parametrize("wrong", ["ab", ["a", "b"], [None, 1], {}, [2**70, 1], torch.tensor([1, 1], device="meta")], ids=repr)
def test_lengths_that_are_no_numbers_are_refused(wrong: object) -> None:
    refused(lambda: tt.nn.GRU(I, H)(X, lengths=wrong), (TypeError, ValueError, RuntimeError), ".")


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"])
def test_lengths_of_every_integer_kind_are_taken(dtype: str) -> None:
    module, x = tt.nn.GRU(I, H), torch.randn(T, B, I)
    expected = module(x, lengths=[T, 2])[0]
    spread = torch.tensor([T, 9, 2, 9], dtype=getattr(torch, dtype))[::2]
    for lengths in (spread, np.array([T, 2], dtype=dtype), (T, 2), [torch.tensor(T), torch.tensor(2)]):
        assert torch.equal(module(x, lengths=lengths)[0], expected)


def test_lengths_go_with_one_sequence_but_not_with_a_packed_one() -> None:
    module, x = tt.nn.GRU(I, H), torch.randn(T, I)
    assert torch.equal(module(x, lengths=[2])[1], module(x[:2])[1])
    refused(lambda: module(x, lengths=[2, 2]), LengthsError, r"\(2,\), expected \(1,\)")
    refused(lambda: module(PACKED, lengths=[T, 2]), LengthsError, "PackedSequence, which has its own")


# --- untied networks


def test_an_untied_network_refuses_what_it_cannot_do() -> None:
    module = tt.nn.RNN(I, H, tied=False, steps=T)
    assert module(X, lengths=[T, T])[0].shape == (T, B, H)
    for call, says in (
        (lambda: module(X, ZEROS), "5 steps.*hx is refused"),
        (lambda: module(X[:4]), "exactly 5 steps.*got 4 steps"),
        (lambda: module(PACKED), "exactly 5 steps.*PackedSequence is refused"),
        (lambda: module(X, lengths=[T, 4]), r"exactly 5 steps.*got lengths \[5, 4\]"),
    ):
        refused(call, NotServedError, says)
    assert issubclass(NotServedError, RuntimeError)
    refused(lambda: module(X, lengths=[T, 6]), LengthsError, r"lengths\[1\] is 6")
    for options in ({"tied": False}, {"tied": False, "steps": 0}, {"tied": False, "steps": 2.0}, {"steps": 3}):
        refused(lambda o=options: tt.nn.RNN(I, H, **o), ValueError, "steps")


# --- what would be read past its end: in a child, since a wrong answer may be the end of the process


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


FORGED = {
    "too few rows": (5, [3, 3]),
    "far too few rows": (5, [3000, 3]),
    "too many rows": (7, [3, 3]),
    "growing": (7, [3, 4]),
    "negative": (6, [3, 4, -1]),
    "empty": (0, []),
    "huge": (6, [2**62, 6]),
    "wrapped around": (4, [2**62, 2**62, 2**62, 2**62, 4]),
}


@pytest.mark.parametrize("case", FORGED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_sequence_that_does_not_add_up_is_refused(kind: str, case: str) -> None:
    rows, batch_sizes = FORGED[case]
    packed = PackedSequence(torch.zeros(rows, I), torch.tensor(batch_sizes, dtype=torch.int64))
    module = getattr(tt.nn, kind)(I, H, bidirectional=True)
    assert re.match("(Runtime|Value|Lengths|Index)Error", in_child(lambda: outcome(lambda: module(packed))))


WEIGHTS = {
    "weight_hh_l0": [(1, 1), (4, 4), (16, 4), (12, 5), (12, 4, 1), (13, 4), (0, 4)],
    "weight_ih_l0": [(12, 1), (11, 3), (13, 3), (120, 3), (3,), (5, 12, 3), (0, 3)],
    "bias_ih_l0": [(1,), (11,), (13,), (12, 1), (0,)],
    "bias_hh_l0": [(4,)],
}


@pytest.mark.parametrize(("name", "shape"), [(n, s) for n, shapes in WEIGHTS.items() for s in shapes], ids=str)
def test_a_weight_of_a_wrong_shape_is_refused_by_name(name: str, shape: tuple[int, ...]) -> None:
    """torch finds them in its products, all but biases that can be spread."""
    module = tt.nn.GRU(I, H)

    def edited() -> object:
        getattr(module, name).data = torch.zeros(shape)
        return module(X)

    calls = (lambda: functional_call(module, {name: torch.zeros(shape)}, (X,)), edited)
    for call in calls:
        found = in_child(lambda call=call: outcome(call))
        assert re.match(r"(Runtime|Value)Error.*", found, re.DOTALL), found
        assert str(list(shape))[1:-1] in found or "shape" in found or "size" in found, found


def test_a_projection_of_a_wrong_shape_is_refused() -> None:
    module = tt.nn.LSTM(I, H, proj_size=2)
    for shape in ((1, 4), (2, 3), (3, 4), (2,)):
        found = in_child(lambda s=shape: outcome(lambda: functional_call(module, {"weight_hr_l0": torch.zeros(s)}, (X,))))
        assert re.match(r"(Runtime|Value)Error", found), found


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_hh_l0"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_whose_memory_was_given_back_is_refused(kind: str, name: str) -> None:
    """Sharded training gives the memory of gathered weights back in this way; torch says that the storage is too small."""
    module = getattr(tt.nn, kind)(I, H)

    def task() -> str:
        module.get_parameter(name).untyped_storage().resize_(0)
        return outcome(lambda: module(X))

    assert re.match(r"(Runtime|Value)Error: .*\w", in_child(task))


W_IH, W_HH = torch.zeros(16, I), torch.zeros(16, H)
REST = ("lstm", False, False, False, 0)
OPERANDS = {
    "h0": (X, torch.zeros(1, 1), None, W_IH, W_HH, None, None, None, None, *REST),
    "h0 dtype": (X, torch.zeros(B, H).double(), None, W_IH, W_HH, None, None, None, None, *REST),
    "c0": (X, None, torch.zeros(B, 3), W_IH, W_HH, None, None, None, None, *REST),
    "x dtype": (X.double(), None, None, W_IH, W_HH, None, None, None, None, *REST),
    "x axes": (X[0], None, None, W_IH, W_HH, None, None, None, None, *REST),
    "w_ih": (X, None, None, W_IH[:15], W_HH, None, None, None, None, *REST),
    "w_hh": (X, None, None, W_IH, W_HH[:, :3], None, None, None, None, *REST),
    "b_ih": (X, None, None, W_IH, W_HH, torch.zeros(3), None, None, None, *REST),
    "w_hr": (X, None, None, W_IH, W_HH, None, None, torch.zeros(2, 3), None, *REST),
    "b_hh beside untied weights": (
        X,
        None,
        None,
        torch.zeros(T, H, I),
        torch.zeros(T - 1, H, H),
        None,
        torch.zeros(H),
        None,
        None,
        "rnn_tanh",
        *REST[1:],
    ),
    "a projection of a GRU": (X, None, None, W_IH[:12], W_HH[:12], None, None, torch.zeros(4, 4), None, "gru", *REST[1:]),
    "lengths": (X, None, None, W_IH, W_HH, None, None, None, torch.tensor([T]), *REST),
    "long lengths": (X, None, None, W_IH, W_HH, None, None, None, torch.tensor([T, T + 1]), *REST),
    "packed without lengths": (X[:, 0], None, None, W_IH, W_HH, None, None, None, None, "lstm", True, *REST[2:]),
    "packed lengths": (X[:, 0], None, None, W_IH, W_HH, None, None, None, torch.tensor([T, T]), "lstm", True, *REST[2:]),
    "no such cell": (X, None, None, W_IH, W_HH, None, None, None, None, "lstn", *REST[1:]),
}


@pytest.mark.parametrize("case", OPERANDS)
def test_the_registered_operator_checks_what_it_is_given(case: str) -> None:
    """Graphs of torch.export call it without the module's checks before it."""
    found = in_child(lambda: outcome(lambda: torch.ops.throughtime.layer(*OPERANDS[case])))
    assert re.match(r"(Runtime|Value|Lengths|Type)Error: .*\w", found), found
