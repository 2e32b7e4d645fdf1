"""Language modelling on text in memory: batches, carried state, nats against a pass token by token, and writing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings as examples, strategies as st

from throughtime.data.records import Sequences, TextSlices
from throughtime.errors import DataError, SettingsError
from throughtime.settings import Settings
from throughtime.tasks import LanguageModelling
from throughtime.tasks.generate import generate
from throughtime.tasks.lm import DocumentFeed, EncodedText, StreamFeed, _in_pieces

from fit_cases import prose

DOCUMENTS = [prose(60, seed=n)[: 5 + 70 * n] for n in range(5)] + [prose(400, seed=9)]


def text_of(documents: list[str]) -> Sequences:
    return Sequences("text", documents)


def prepared(**settings: Any) -> LanguageModelling:
    task = LanguageModelling(Settings.of({"hidden": 8, "batch": 3, "bptt": 7, "dropout": 0.0, **settings}))
    task.prepare(text_of(DOCUMENTS))
    return task


def lively(task: LanguageModelling) -> torch.nn.Module:
    """A network that depends on what it has seen."""
    torch.manual_seed(1)
    network = task.network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    return network.eval()


def stream_of(tokens: int) -> EncodedText:
    return EncodedText(np.arange(tokens + 1), np.array([0, tokens]), tokens, 1)


# --- encoding


@pytest.mark.parametrize("settings", [{}, {"tokens": "bpe", "bpe_size": 300}], ids=["characters", "pairs"])
def test_documents_are_laid_end_to_end(settings: dict[str, Any]) -> None:
    task = prepared(**settings)
    encoded = task.encode(text_of(DOCUMENTS))
    assert encoded.documents == len(DOCUMENTS)
    assert encoded.characters == sum(map(len, DOCUMENTS))
    assert encoded.stream[0] == task.codec.end
    for row, document in enumerate(DOCUMENTS):
        start, stop = encoded.offsets[row], encoded.offsets[row + 1]
        assert encoded.stream[start] == encoded.stream[stop] == task.codec.end
        assert task.codec.decode(encoded.stream[start + 1 : stop]) == document
        assert encoded.lengths[row] == stop - start
    assert len(encoded.stream) == encoded.lengths.sum() + 1


def test_large_text_goes_to_a_file_and_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "all.txt"
    path.write_bytes("".join(DOCUMENTS).encode())
    ends = np.cumsum([len(document.encode()) for document in DOCUMENTS])
    slices = TextSlices([path], np.zeros(len(ends), np.int32), np.concatenate([[0], ends[:-1]]), ends)
    part = Sequences("text", slices)
    task = prepared()
    small = task.encode(part)
    monkeypatch.setattr("throughtime.data.spool.IN_MEMORY", 10)
    large = task.encode(part)
    assert isinstance(large.stream, np.memmap)
    assert np.array_equal(large.stream, small.stream)
    assert np.array_equal(small.stream, task.encode(text_of(DOCUMENTS)).stream)
    assert [path.name for path in tmp_path.iterdir()] == ["all.txt"]


def test_tokens_take_as_few_bytes_as_they_can() -> None:
    assert prepared().encode(text_of(["abc"])).stream.dtype == np.uint8
    assert prepared(tokens="bpe", bpe_size=300).encode(text_of(["abc"])).stream.dtype == np.uint16


# --- batches


@examples(deadline=None, max_examples=60)
@given(st.integers(5, 400), st.integers(1, 8), st.integers(1, 30), st.integers(0, 3), st.integers(0, 2))
def test_every_token_of_the_stream_is_predicted_once_an_epoch(
    tokens: int, batch: int, bptt: int, seed: int, epoch: int
) -> None:
    feed = StreamFeed(stream_of(tokens), batch, bptt, seed)
    seen: Counter[int] = Counter()
    for index in range(len(feed)):
        found = feed.batch(epoch, index)
        assert found.inputs.shape == found.targets.shape == (feed.bptt, feed.lanes)
        assert found.lengths.tolist() == [feed.bptt] * feed.lanes
        wrapped = found.targets != found.inputs + 1  # only where the ring closes: the end token before is the one after
        assert (found.targets[~wrapped] == found.inputs[~wrapped] + 1).all()
        assert not wrapped.any()
        seen.update(found.targets.flatten().tolist())
    assert set(seen.values()) == {1}
    assert set(seen) <= set(range(1, tokens + 1))
    left_out = tokens - len(seen)
    assert left_out < feed.lanes * feed.bptt + feed.lanes, "less than a window and the remainder of the lanes"
    assert 1 <= feed.lanes <= batch


def test_windows_of_a_lane_follow_on_each_other() -> None:
    feed = StreamFeed(stream_of(1000), 4, 10, 0)
    assert feed.carries
    for index in range(len(feed) - 1):
        now, then = feed.batch(0, index), feed.batch(0, index + 1)
        assert torch.equal(then.inputs[0] % 1000, now.targets[-1] % 1000)
    starts = {int(feed.batch(epoch, 0).inputs[0, 0]) for epoch in range(6)}
    assert len(starts) > 3, "every epoch starts elsewhere"


@torch.inference_mode()
def test_carried_state_makes_windows_one_long_pass() -> None:
    task = prepared()
    network = lively(task)
    feed = StreamFeed(task.encode(text_of(DOCUMENTS)), 3, 7, 0)
    batches = [feed.batch(0, index) for index in range(len(feed))]
    state, windows = None, []
    for batch in batches:
        loss, state = task.loss(network, batch, state)
        windows.append(loss.item())
    joined = type(batches[0])(
        torch.full((feed.lanes,), 7 * len(feed)),
        torch.cat([batch.inputs for batch in batches]),
        torch.cat([batch.targets for batch in batches]),
    )
    assert np.mean(windows) == pytest.approx(task.loss(network, joined, None)[0].item(), rel=1e-5)
    forgetting = [task.loss(network, batch, None)[0].item() for batch in batches]
    assert abs(np.mean(forgetting) - np.mean(windows)) > 1e-4, "the state matters here"


def test_short_documents_are_sequences_of_their_own() -> None:
    task = prepared(bptt=100)
    names = text_of(["lorem " * (1 + n % 3) + "e" * n for n in range(20)])
    encoded = task.encode(names)
    feed = task.feed(encoded)
    assert isinstance(feed, DocumentFeed)
    assert not feed.carries
    found = []
    for index in range(len(feed)):
        batch = feed.batch(0, index)
        for column, length in enumerate(batch.lengths.tolist()):
            inputs, targets = batch.inputs[:, column], batch.targets[:, column]
            assert inputs[0] == task.codec.end
            assert targets[length - 1] == task.codec.end
            assert (targets[length:] == -100).all()
            assert torch.equal(inputs[1:length], targets[: length - 1])
            found.append(task.codec.decode(targets[:length].numpy()))
    assert sorted(found) == sorted(names.inputs)
    assert isinstance(task.feed(task.encode(text_of(DOCUMENTS))), StreamFeed)
    assert isinstance(prepared(bptt=7).feed(encoded), StreamFeed)


# --- scores


@torch.inference_mode()
def token_by_token(task: LanguageModelling, network: torch.nn.Module, document: str) -> float:
    """The nats of a document and its end."""
    tokens, state, nats = [task.codec.end, *task.codec.encode(document).tolist(), task.codec.end], None, 0.0
    for given_token, following in pairwise(tokens):
        logits, state = network(torch.tensor([[given_token]]), None, state)
        nats -= logits[0, 0].double().log_softmax(0)[following].item()
    return nats


@torch.inference_mode()
@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("settings", [{}, {"tokens": "bpe", "bpe_size": 300}], ids=["characters", "pairs"])
def test_scores_are_those_of_a_pass_token_by_token(
    settings: dict[str, Any], cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = prepared(cell=cell, layers=2, **settings)
    network = lively(task)
    documents = [DOCUMENTS[0], "", DOCUMENTS[3], "unknown: ÿ#", DOCUMENTS[5]]
    part = text_of(documents)
    expected = [token_by_token(task, network, document) for document in documents]
    for window, steps in ((512, 1 << 15), (10, 60)):
        monkeypatch.setattr("throughtime.tasks.lm._WINDOW", window)
        monkeypatch.setattr("throughtime.tasks.lm._SCORED_STEPS", steps)
        encoded = task.encode(part)
        table, scores = task.predict(network, part), task.score(network, part, encoded)
        assert table["nats"] == pytest.approx(expected, rel=1e-5)
        assert table["tokens"] == [len(task.codec.encode(document)) + 1 for document in documents]
        assert table["perplexity"] == pytest.approx(np.exp(np.array(expected) / table["tokens"]), rel=1e-4)
        assert scores["loss"] * sum(table["tokens"]) == pytest.approx(sum(expected), rel=1e-5)
        characters = sum(map(len, documents))
        assert scores["nats_per_token"] == pytest.approx(sum(expected) / sum(table["tokens"]), rel=1e-5)
        assert scores["nats_per_character"] == pytest.approx(sum(expected) / characters, rel=0.2)
        assert scores["bits_per_character"] == pytest.approx(scores["nats_per_character"] / np.log(2))
        places = np.concatenate([places for places, _ in task.nats(network, encoded)])
        assert sorted(places) == list(range(1, len(encoded.stream))), "every token once"


@torch.inference_mode()
def test_a_document_costs_the_same_alone_and_beside_others() -> None:
    task = prepared()
    network = lively(task)
    together = task.predict(network, text_of(DOCUMENTS))["nats"]
    alone = [task.predict(network, text_of([document]))["nats"][0] for document in DOCUMENTS]
    assert together == pytest.approx(alone, rel=1e-5)


@torch.inference_mode()
def test_while_training_long_documents_are_scored_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    task = prepared()
    network, encoded = lively(task), task.encode(text_of(DOCUMENTS))
    assert task.evaluate(network, encoded) == task.score(network, text_of(DOCUMENTS), encoded)
    monkeypatch.setattr("throughtime.tasks.lm._PIECE", 50)
    pieces = _in_pieces(encoded)
    assert pieces.lengths.max() == 50
    assert set(encoded.offsets) <= set(pieces.offsets)
    assert pieces.lengths.sum() == encoded.lengths.sum()
    scores = task.evaluate(network, encoded)
    assert scores["loss"] != pytest.approx(task.score(network, text_of(DOCUMENTS), encoded)["loss"], rel=1e-4)


@torch.inference_mode()
def test_baselines_predict_the_same_tokens() -> None:
    task = prepared()
    for baseline in task.baselines(text_of(DOCUMENTS), text_of(DOCUMENTS[1:])):
        assert (
            baseline.scores.keys()
            <= task.score(lively(task), text_of(DOCUMENTS[1:]), task.encode(text_of(DOCUMENTS[1:]))).keys()
        )
        assert 0 < baseline.scores["nats_per_character"] < 4


@torch.inference_mode()
def test_details_show_what_it_writes_and_what_surprises_it() -> None:
    task = prepared()
    network, encoded = lively(task), task.encode(text_of(DOCUMENTS))
    details = task.details(network, text_of(DOCUMENTS), encoded)
    assert [sample["temperature"] for sample in details["samples"]] == [0.5, 0.8, 1.0]
    cost = {}
    for places, values in task.nats(network, encoded):
        cost |= dict(zip(places.tolist(), values.tolist(), strict=True))
    means = [np.mean(passage["nats"]) for passage in details["surprising"]]
    assert means == sorted(means, reverse=True)
    assert means[0] > np.mean(list(cost.values()))
    for passage in details["surprising"]:
        assert "".join(passage["tokens"]) == passage["text"]
        assert len(passage["tokens"]) == len(passage["nats"]) <= 300


# --- what cannot be


@pytest.mark.parametrize(
    ("settings", "documents", "says"),
    [
        ({"tokens": "word"}, DOCUMENTS, "char or bpe"),
        ({"bidirectional": True}, DOCUMENTS, "would let a language model see"),
        ({"untied": True}, DOCUMENTS, "--untied"),
        ({}, ["short"], "5 characters, expected at least 100"),
    ],
)
def test_what_cannot_be_learnt_is_named(settings: dict[str, Any], documents: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        LanguageModelling(Settings.of(settings)).prepare(text_of(documents))


# --- writing


def written(task: LanguageModelling, network: torch.nn.Module, prompt: str = "", **options: Any) -> str:
    return "".join(generate(task, network, prompt, **{"length": 120, "documents": True, **options}))


class Scripted(torch.nn.Module):
    """Always the same logits, or those after each token; counts what it is fed."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)
        self.fed: list[list[int]] = []

    def forward(self, ids: torch.Tensor, lengths: None, state: Any) -> tuple[torch.Tensor, int]:
        self.fed.append([*ids[:, 0].tolist(), -1 if state is None else state])
        logits = self.logits if self.logits.ndim == 2 else self.logits.expand(len(self.logits), -1)
        return logits[ids], (state or 0) + 1


def test_what_is_written_depends_on_the_seed_alone() -> None:
    task = prepared()
    network = lively(task)
    before = torch.get_rng_state()
    first = written(task, network, "lorem", seed=3)
    assert first == written(task, network, "lorem", seed=3)
    assert first != written(task, network, "lorem", seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.startswith("lorem")
    assert not first.startswith("loremlorem")


def test_the_likeliest_and_the_few_likeliest() -> None:
    task = prepared()
    size = task.codec.size
    logits = torch.linspace(0, 3, size)[torch.randperm(size, generator=torch.Generator().manual_seed(0))]
    logits[task.codec.end] = -5.0
    logits[0] = -3.0
    network = Scripted(logits)
    ranked = [task.codec.decode([int(token)]) for token in logits.argsort(descending=True)]
    assert written(task, network, temperature=0) == ranked[0] * 120
    assert written(task, network, temperature=0, seed=9) == ranked[0] * 120
    assert written(task, network, top_k=1, temperature=2.0) == ranked[0] * 120
    assert set(written(task, network, top_k=3, temperature=5.0)) == set(ranked[:3])
    shares = Counter(written(task, network, temperature=1.0, length=4000))
    expected = logits.softmax(0)
    assert shares[ranked[0]] / 4000 == pytest.approx(expected.max().item(), abs=0.02)
    hot = Counter(written(task, network, temperature=100.0, length=4000))
    assert len(hot) == size - 2, "all but the unknown character; the end is a new line, which the text has as well"
    assert written(task, network, top_k=10**6, seed=1) == written(task, network, seed=1)


def test_the_unknown_character_is_never_written() -> None:
    task = prepared()
    logits = torch.zeros(task.codec.size)
    logits[0] = 50.0
    assert "\ufffd" not in written(task, Scripted(logits), temperature=1.0)
    assert "\ufffd" not in written(task, Scripted(logits), temperature=0)


def test_the_prompt_is_fed_after_the_end_token_and_every_token_once() -> None:
    task = prepared()
    logits = torch.zeros(task.codec.size)
    letter = int(task.codec.encode("l")[0])
    logits[letter] = 99.0
    network = Scripted(logits)
    with pytest.warns(UserWarning, match="the model does not know '#' of the prompt"):
        assert written(task, network, "um#", length=4) == "um#llll"
    assert network.fed[0] == [task.codec.end, *task.codec.encode("um#").tolist(), -1]
    assert network.fed[1:] == [[letter, 1], [letter, 2], [letter, 3]]


def test_after_the_end_it_stops_or_goes_on_afresh() -> None:
    task = prepared()
    logits = torch.zeros(task.codec.size)
    logits[task.codec.end] = 99.0
    assert written(task, Scripted(logits), documents=False) == ""
    network = Scripted(logits)
    assert written(task, network, length=3) == "\n\n\n"
    assert network.fed == [[task.codec.end, -1]] * 3
    network = Scripted(logits)
    assert written(task, network, "um", length=3) == "um\num\num\num", "each begins with the prompt"
    assert network.fed == [[task.codec.end, *task.codec.encode("um").tolist(), -1]] * 3


@pytest.mark.parametrize("seed", range(3))
def test_pieces_of_pairs_join_to_whole_characters(seed: int) -> None:
    task = prepared(tokens="bpe", bpe_size=260)
    euro = task.codec.encode("é€😀").tolist()
    assert len(euro) > 3
    logits = torch.full((task.codec.size, task.codec.size), -50.0)
    for now, then in zip([*euro, euro[0]], [*euro[1:], euro[0], euro[1]], strict=False):
        logits[now, then] = 0.0
    logits[task.codec.end, euro[0]] = 0.0
    logits[euro[-1]] = -50.0
    logits[euro[-1], euro[0]] = 0.0
    pieces = list(generate(task, Scripted(logits), "", length=3 * len(euro) + 1, seed=seed))
    text = "".join(pieces)
    assert text.startswith("é€😀é€😀é€😀")
    assert "\ufffd" not in text
    assert all("\ufffd" not in piece for piece in pieces)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temperature": -1}, "^--temperature is -1, expected a number from 0 up$"),
        ({"length": 0}, "^--length is 0, expected a whole number from 1 up$"),
        ({"top_k": 0}, "^--top-k is 0, expected a whole number from 1 up$"),
        ({"temperature": float("nan")}, "nan"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    task = prepared()
    pieces: Iterator[str] = generate(task, lively(task), "", **options)
    with pytest.raises(SettingsError, match=says):
        next(pieces)
