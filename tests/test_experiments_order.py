"""What order is worth, measured: an order-blind network stays at chance where only order decides; costs are counted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings as examples, strategies as st

from throughtime.data.records import Sequences
from throughtime.errors import DataError, SettingsError
from throughtime.experiments.order import (
    CONTROL,
    RECURRENT,
    Comparison,
    Problem,
    compare,
    cost_against_length,
    next_character,
    order_only,
    trained,
    two_sentences,
    which_package,
)
from throughtime.tasks.base import BLIND, FLAT
from throughtime.tasks.classify import Classify

SMALL = {"pairs": 60, "words": 4, "epochs": 20, "batch": 16}


@pytest.fixture(scope="module")
def compared() -> Comparison:
    return of_seeds(order_only(**SMALL), 0, 1)


def of_seeds(problem: Problem, *seeds: int) -> Comparison:
    return compare(problem, {seed: trained(problem, seed) for seed in seeds})


def package(folder: Path, name: str, verb: str, modules: int = 12) -> None:
    """A package of modules with docstrings; a verb tells it."""
    (folder / name).mkdir(parents=True)
    for number in range(modules):
        text = f'"""This module {verb} the thing number {number}. It also {verb} any other thing."""\n\nx = {number}\n'
        (folder / name / f"m{number:02}.py").write_text(text)
    (folder / name / "test").mkdir()
    (folder / name / "test" / "m.py").write_text('"""Tests are not what is looked at here."""\n')


# --- the set where only order decides


@examples(deadline=None, max_examples=30)
@given(st.integers(5, 40), st.integers(3, 9), st.integers(0, 5))
def test_every_sentence_has_its_mirror_in_its_part(pairs: int, words: int, seed: int) -> None:
    parts = order_only(pairs, words, seed).parts
    seen = set()
    for part in (parts.train, parts.valid, parts.test):
        assert isinstance(part, Sequences)
        assert len(part) % 2 == 0
        assert len(part)
        for row in range(0, len(part), 2):
            one, other = part.inputs[row : row + 2]
            assert len(one) == words
            assert Counter(one) == Counter(other)
            assert [a == b for a, b in zip(one, other, strict=True)].count(False) == 2
            assert (one.index("dog") < one.index("man"), other.index("dog") < other.index("man")) == (True, False)
            assert part.targets[row : row + 2] == ["dog first", "man first"]
            assert part.groups is not None
            assert part.groups[row] == part.groups[row + 1]
            assert tuple(one) not in seen
            seen.add(tuple(one))
    assert len(seen) == pairs


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"words": 1}, "found 300 pairs of 1 words, expected at least 5 of at least 2"),
        ({"pairs": 4}, "found 4 pairs"),
        ({"pairs": 55, "words": 3}, "3 words make 54 different pairs, 55 are asked for; give more words"),
        ({"hiden": 4}, "hidden"),
    ],
)
def test_what_cannot_be_made_is_named(asked: dict[str, int], says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        order_only(**asked)
    assert "\n" not in str(caught.value)


def test_an_order_blind_network_is_right_in_one_of_each_pair(compared: Comparison) -> None:
    found = {contender.name: contender for contender in compared.contenders}
    assert list(found) == [BLIND, FLAT, RECURRENT, CONTROL]
    assert found[BLIND].scores == [0.5, 0.5]
    assert found[BLIND].low <= 0.5 <= found[BLIND].high
    assert found[RECURRENT].scores == [1.0, 1.0]
    assert found[CONTROL].score < 0.75, "without its order nothing is left to learn"
    gaps = {difference.other: difference for difference in compared.differences}
    assert list(gaps) == [BLIND, FLAT, CONTROL]
    assert gaps[BLIND].mean == pytest.approx(0.5)
    assert gaps[BLIND].low > 0
    assert gaps[CONTROL].low > 0
    for name, gap in gaps.items():
        assert gap.mean == pytest.approx(found[RECURRENT].score - found[name].score)
        assert gap.low <= gap.mean <= gap.high
    assert compared.sizes == [72, 24, 24]
    assert "12 pairs of sentences" in compared.method
    assert all(len(contender.seconds) == 2 and min(contender.seconds) > 0 for contender in compared.contenders)
    json.dumps(asdict(compared))


def test_the_same_comparison_twice(compared: Comparison) -> None:
    again = of_seeds(order_only(**SMALL), 0)
    for one, other in zip(compared.contenders, again.contenders, strict=True):
        assert one.scores[:1] == other.scores
        assert one.parameters == other.parameters


def test_two_sentences_of_the_same_words() -> None:
    problem = order_only(**SMALL)
    test = problem.parts.test
    assert isinstance(test, Sequences)
    state = torch.get_rng_state()
    networks = {name: one.fitted for name, one in trained(problem).items() if name != CONTROL}
    found = two_sentences(networks, test.inputs[:2], test.targets[:2])
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(found.sentences[0]) == sorted(found.sentences[1])
    assert found.identical == {BLIND: True, FLAT: False, RECURRENT: False}
    assert found.outputs[BLIND][0] == found.outputs[BLIND][1]
    for name, answers in found.probabilities.items():
        for answer, truth in zip(answers, found.truth, strict=True):
            assert sum(answer) == pytest.approx(1)
            if name == RECURRENT:
                assert answer[found.classes.index(truth)] > 0.5
    json.dumps(asdict(found))


def test_two_sentences_refuses_what_it_cannot_show() -> None:
    with pytest.raises(SettingsError, match="two_sentences: expected networks that classify"):
        two_sentences({}, [["a"], ["b"]], ["x", "y"])


def test_a_comparison_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="compare: found no run, expected at least one"):
        compare(order_only(**SMALL), {})


def test_the_validation_part_is_encoded_once_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, seen = order_only(**SMALL | {"epochs": 1}), []
    encode = Classify.encode
    monkeypatch.setattr(Classify, "encode", lambda task, part: seen.append(part) or encode(task, part))
    trained(problem)
    assert sum(part is problem.parts.valid for part in seen) == 1, "the rivals take what the recurrent network's trainer has"


# --- real text


def test_sentences_of_docstrings(tmp_path: Path) -> None:
    package(tmp_path, "baking", "bakes")
    package(tmp_path, "boiling", "boils")
    problem = which_package(("baking", "boiling"), folder=tmp_path, epochs=30, lr=0.02, dropout=0.1)
    parts = [problem.parts.train, problem.parts.valid, problem.parts.test]
    groups = [set(part.groups) for part in parts if isinstance(part, Sequences) and part.groups]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 24, "a docstring is in one part"
    assert sum(len(part) for part in parts if isinstance(part, Sequences)) == 48
    found = of_seeds(problem, 0)
    assert {contender.name: contender.score for contender in found.contenders}[BLIND] == 1.0, "a word tells"
    assert "docstrings" in found.method


def test_the_next_character(tmp_path: Path) -> None:
    package(tmp_path, "baking", "bakes", modules=60)
    problem = next_character("baking", 4000, folder=tmp_path, epochs=12, hidden=16)
    found = of_seeds(problem, 0)
    assert found.metric == "nats_per_character"
    assert found.sizes == [2800, 400, 800]
    scores = {contender.name: contender for contender in found.contenders}
    assert list(scores) == [BLIND, FLAT, RECURRENT]
    assert scores[FLAT].score < scores[BLIND].score - 0.2, "the order of the last characters matters"
    for contender in found.contenders:
        assert contender.low <= contender.score <= contender.high
    gap = found.differences[0]
    assert gap.mean == pytest.approx(scores[BLIND].score - scores[RECURRENT].score)


@pytest.mark.parametrize("make", [which_package, next_character])
def test_a_package_that_is_not_there(make: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no Python source"):
        make(folder=tmp_path)  # type: ignore[operator]


def test_too_little_text(tmp_path: Path) -> None:
    package(tmp_path, "baking", "bakes")
    with pytest.raises(DataError, match=r"found .* characters, expected 100,000; ask for fewer"):
        next_character("baking", 100_000, folder=tmp_path)


# --- cost


def test_cost_against_length() -> None:
    words, width, hidden, batch = (4, 8, 16), 3, 5, 2
    cost = cost_against_length(words, width=width, hidden=hidden, batch=batch, repetitions=1)
    assert cost.networks == [BLIND, FLAT, RECURRENT]
    head = hidden * 2 + 2
    assert cost.parameters[BLIND] == [(width + 1) * hidden + head] * 3
    assert cost.parameters[FLAT] == [(steps * width + 1) * hidden + head for steps in words]
    assert cost.parameters[RECURRENT] == [width * hidden + hidden**2 + 2 * hidden + 3 * hidden * 2 + 2] * 3
    assert all(min(seconds) > 0 for seconds in cost.seconds.values())
    # What grows with the length: the weights and the copy of the inputs side by side; the outputs of all steps; nothing.
    assert np.diff(cost.bytes[FLAT]).tolist() == [4 * width * (hidden + batch) * more for more in (4, 8)]
    assert cost.bytes[BLIND][0] == cost.bytes[BLIND][2]
    grown = np.diff(cost.bytes[RECURRENT])
    assert grown[1] >= 2 * grown[0] * 0.9
    assert grown[0] >= 4 * 4 * batch * hidden


def test_cost_of_nothing_is_refused() -> None:
    for asked in ({"words": ()}, {"words": (0,)}, {"batch": 0}, {"repetitions": 0}):
        with pytest.raises(SettingsError, match="expected numbers from 1 up"):
            cost_against_length(**asked)  # type: ignore[arg-type]
