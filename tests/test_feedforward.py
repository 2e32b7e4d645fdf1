"""The feed-forward networks: what they see and what they cannot, padding, and each against the plainest way to compute it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings as examples, strategies as st
from torch import Tensor

from throughtime.data.records import Sequences
from throughtime.settings import ModelSettings, Settings
from throughtime.tasks import TASKS, Task
from throughtime.tasks.feedforward import (
    NEIGHBOURS,
    RECENT,
    BlindSequence,
    BlindSteps,
    FlatSequence,
    RecentTokens,
    WindowForecast,
    WindowSteps,
    steps_within,
)
from throughtime.tasks.inputs import WordInputs
from throughtime.tasks.networks import Numbers, Tokens

MODEL = ModelSettings(hidden=7, dropout=0.0)
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}
"""float32 sums of some ten products of order one, in another order or another batch."""
LENGTHS = torch.tensor([3, 0, 5, 1])
SENTENCES = ["the cat sat", "", "a cat and a dog", "dog"]
KINDS = ["blind", "flat", "blind steps", "window steps"]


def made(kind: str, inputs: Any, outputs: int = 2, steps: int = 5) -> torch.nn.Module:
    """A network with random weights of order one, so that whatever it sees shows."""
    torch.manual_seed(0)
    network = {
        "blind": lambda: BlindSequence(MODEL, inputs, outputs),
        "flat": lambda: FlatSequence(MODEL, inputs, outputs, steps),
        "blind steps": lambda: BlindSteps(MODEL, inputs, outputs),
        "window steps": lambda: WindowSteps(MODEL, inputs, outputs),
    }[kind]()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return network.eval()


def said(network: torch.nn.Module, x: Any, lengths: Tensor) -> Tensor:
    """The answer, without a state."""
    answer = network(x, lengths)
    found: Tensor = answer[0] if isinstance(answer, tuple) else answer
    return found


def column(answer: Tensor, row: int, length: int) -> Tensor:
    """What concerns one sequence."""
    return answer[row] if answer.ndim == 2 else answer[:length, row]


# --- padding


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_padding_is_never_seen(kind: str, garbage: float) -> None:
    network = made(kind, Numbers(3))
    x = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(1))
    soiled = x.clone()
    for row, length in enumerate(LENGTHS):
        soiled[length:, row] = garbage
    clean, answer = said(network, x, LENGTHS), said(network, soiled, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        assert torch.equal(column(clean, row, length), column(answer, row, length))
        alone = said(network, x[: max(length, 1), row : row + 1], LENGTHS[row : row + 1])
        torch.testing.assert_close(column(answer, row, length), column(alone, 0, length), **ROUNDING)
    network.zero_grad()
    sum(column(answer, row, length).sum() for row, length in enumerate(LENGTHS.tolist())).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_of_any_length_in_any_batch(kind: str) -> None:
    inputs = WordInputs.fit(Sequences("text", [*SENTENCES, *SENTENCES]), Settings())
    network = made(kind, inputs.module(Settings()))
    encoded = inputs.encode(Sequences("text", SENTENCES))
    lengths = torch.from_numpy(encoded.lengths)
    together = said(network, encoded.batch(np.arange(4)), lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = said(network, encoded.batch(np.array([row])), lengths[row : row + 1])
        torch.testing.assert_close(column(together, row, length), column(alone, 0, length), **ROUNDING)
    empty = said(network, encoded.batch(np.array([1])), torch.tensor([0]))
    assert torch.isfinite(empty).all()


# --- order


@examples(deadline=None, max_examples=50)
@given(st.permutations(range(9)), st.integers(0, 100))
def test_no_order_of_the_same_steps_changes_a_blind_answer(order: list[int], seed: int) -> None:
    x = torch.randn(9, 1, 4, generator=torch.Generator().manual_seed(seed))
    lengths = torch.tensor([9])
    network = made("blind", Numbers(4))
    assert torch.equal(said(network, x, lengths), said(network, x[order], lengths)), "to the bit: sums are in float64"
    steps = made("blind steps", Numbers(4))
    torch.testing.assert_close(said(steps, x, lengths)[order], said(steps, x[order], lengths), **ROUNDING)


def test_order_changes_every_other_answer() -> None:
    x, lengths = torch.randn(5, 1, 3, generator=torch.Generator().manual_seed(2)), torch.tensor([5])
    swapped = x[[1, 0, 2, 3, 4]]
    assert (said(made("flat", Numbers(3)), x, lengths) - said(made("flat", Numbers(3)), swapped, lengths)).abs().min() > 0.01
    window = made("window steps", Numbers(3))
    difference = (said(window, x, lengths) - said(window, swapped, lengths)).abs().amax(dim=(1, 2))
    assert (difference[:4] > 0.01).all(), "the two steps, and those that have one of them at another place of the window"


# --- what is computed


def test_a_flattened_network_has_weights_for_every_step() -> None:
    network = made("flat", Numbers(3), steps=4)
    assert isinstance(network, FlatSequence)
    x = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(3))
    lengths = torch.tensor([3, 0, 6, 1])
    answer = said(network, x, lengths)
    weights = network.hidden.weight.unflatten(1, (4, 3))
    for row, length in enumerate(lengths.tolist()):
        hidden = network.hidden.bias + sum((weights[:, t] @ x[t, row] for t in range(min(length, 4))), torch.zeros(7))
        expected = network.head.weight @ hidden.relu() + network.head.bias
        torch.testing.assert_close(answer[row], expected, **ROUNDING)
    changed = x.clone()
    changed[4:] += 5
    assert torch.equal(answer, said(network, changed, lengths)), "it has no inputs for them"


@pytest.mark.parametrize("kind", ["blind steps", "window steps"])
def test_which_steps_an_answer_depends_on(kind: str) -> None:
    network, T = made(kind, Numbers(1), outputs=1), 9
    jacobian = torch.autograd.functional.jacobian(
        lambda x: said(network, x[:, None, None], torch.tensor([T]))[:, 0, 0], torch.randn(T)
    )
    near = abs(torch.arange(T)[:, None] - torch.arange(T)[None]) <= NEIGHBOURS
    if kind == "window steps":
        assert (jacobian[~near] == 0).all()
        assert (jacobian[near] != 0).float().mean() > 0.9, "a ReLU may be closed"
        return
    others = jacobian.masked_fill(torch.eye(T, dtype=torch.bool), torch.nan)
    for row in others:
        known = row[~row.isnan()]
        torch.testing.assert_close(known, known[:1].expand_as(known), **ROUNDING)


def recent(blind: bool, size: int = 11) -> RecentTokens:
    torch.manual_seed(0)
    network = RecentTokens(MODEL, Tokens(size, 5), size, blind=blind)
    return network.eval()


@pytest.mark.parametrize("blind", [True, False])
def test_recent_tokens_against_a_loop(blind: bool) -> None:
    network = recent(blind)
    ids = torch.randint(11, (20, 3), generator=torch.Generator().manual_seed(4))
    answer, _ = network(ids)
    for t in range(20):
        for row in range(3):
            vectors = network.inputs(ids[max(0, t + 1 - RECENT) : t + 1, row])
            if blind:
                read = vectors.mean(dim=0)
            else:
                read = torch.cat([torch.zeros(RECENT - len(vectors), 5), vectors]).flatten()
            expected = network.head((network.hidden(read)).relu())
            torch.testing.assert_close(answer[t, row], expected, **ROUNDING)


@pytest.mark.parametrize("blind", [True, False])
@examples(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_recent_tokens_are_carried_from_window_to_window(blind: bool, cuts: list[int]) -> None:
    network = recent(blind)
    ids = torch.randint(11, (sum(cuts), 2), generator=torch.Generator().manual_seed(5))
    whole, end = network(ids)
    state, answers = None, []
    for part in ids.split(cuts):
        answer, state = network(part, torch.tensor([len(part)] * 2), state)
        answers.append(answer)
    torch.testing.assert_close(torch.cat(answers), whole, **ROUNDING)
    assert torch.equal(state, end)


def test_what_is_carried_to_the_next_window_changes_its_answer() -> None:
    ids = torch.randint(11, (6, 2), generator=torch.Generator().manual_seed(5))
    for network in (recent(True), recent(False)):
        _, state = network(ids[:3])
        assert (network(ids[3:], None, state)[0] - network(ids[3:])[0]).abs().amax(dim=2).min() > 0.01


def test_recent_tokens_stop_at_each_true_end() -> None:
    network = recent(False)
    ids = torch.randint(11, (6, 3), generator=torch.Generator().manual_seed(6))
    _, state = network(ids, torch.tensor([6, 2, 0]))
    assert state[:, 0].tolist() == [-1, *ids[:, 0].tolist()]
    assert state[:, 1].tolist() == [-1] * 5 + ids[:2, 1].tolist()
    assert state[:, 2].tolist() == [-1] * 7


def test_the_order_of_recent_tokens() -> None:
    ids = torch.arange(RECENT)[:, None]
    turned = ids.flip(0)
    blind, flat = recent(True), recent(False)
    torch.testing.assert_close(blind(ids)[0][-1], blind(turned)[0][-1], **ROUNDING)
    assert (flat(ids)[0][-1] - flat(turned)[0][-1]).abs().max() > 0.01


def test_a_forecast_from_sorted_values_does_not_see_when_they_were() -> None:
    past = torch.randn(4, 12, generator=torch.Generator().manual_seed(7))
    torch.manual_seed(0)
    blind, flat = (WindowForecast(MODEL, 12, 3, blind=b).eval() for b in (True, False))
    nothing = torch.zeros(0)
    turned = past.flip(1)
    assert torch.equal(blind(nothing, past), blind(nothing, turned)), "to the bit: it reads the very same numbers"
    assert (flat(nothing, past) - flat(nothing, turned)).abs().min() > 0
    answer = flat(nothing, past)
    assert answer.shape == (4, 3, 3)
    assert (answer[:, :, 1] < answer[:, :, 0]).all()
    assert (answer[:, :, 0] < answer[:, :, 2]).all()


# --- sizes


@pytest.mark.parametrize(
    ("longest", "width", "hidden", "steps"),
    [(30, 64, 64, 30), (0, 64, 64, 1), (10**6, 100, 100, 200), (5, 10**4, 10**4, 1)],
)
def test_steps_within(longest: int, width: int, hidden: int, steps: int) -> None:
    assert steps_within(longest, width, hidden) == steps


def prepared(inputs: list[str], **settings: Any) -> tuple[Task, Any]:
    """A classifier of texts that are a number of letters."""
    train = Sequences("text", inputs, targets=["a" if len(text) % 2 else "b" for text in inputs])
    task = TASKS["classify"](Settings.of({"task": "classify", "tokens": "char", "hidden": 8, **settings}))
    task.prepare(train)
    return task, task.encode(train)


def test_a_flattened_network_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    task, encoded = prepared(["x" * n for n in range(1, 21)])
    _, flat = task.rivals(encoded)
    assert (flat.order, flat.description) == ("full", "an ANN on all 20 steps, with weights for each")
    assert flat.network().hidden.weight.shape == (8, 20 * 64)  # type: ignore[union-attr]
    monkeypatch.setattr("throughtime.tasks.feedforward.FIRST_LAYER", 8 * 64 * 7)
    _, flat = task.rivals(encoded)
    assert (flat.order, flat.description) == ("window", "an ANN on the first 7 of up to 20 steps, with weights for each")
    assert flat.network().hidden.weight.shape == (8, 7 * 64)  # type: ignore[union-attr]


def test_rivals_are_made_without_a_trace() -> None:
    task, encoded = prepared(["xy", "x"] * 5)
    before = torch.get_rng_state()
    names = [(rival.name, rival.order) for rival in task.rivals(encoded)]
    assert names == [("order-blind network", "blind"), ("flattened network", "full")]
    assert torch.equal(torch.get_rng_state(), before)
