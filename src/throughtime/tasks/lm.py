"""Language modelling: the next character, or the next piece of a word, of documents."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from throughtime.data.batches import in_order_of_length, shuffled_by_length
from throughtime.data.files import plural
from throughtime.data.records import Sequences, TextSlices
from throughtime.data.spool import Spool
from throughtime.errors import DataError
from throughtime.tasks.base import (
    BLIND,
    COMMON,
    FLAT,
    BaselineScore,
    Batch,
    Feed,
    Metric,
    Rival,
    State,
    Table,
    Task,
    layers_of,
    scored,
)
from throughtime.tasks.baselines import lm
from throughtime.tasks.feedforward import OUTPUT_LAYER, RECENT, RecentTokens
from throughtime.tasks.inputs import unknown_characters
from throughtime.tasks.metrics import language
from throughtime.tasks.networks import StepNetwork, Tokens
from throughtime.transforms import BytePairs, Characters

_PIECE = 4096
"""While training, documents are scored in pieces of so many tokens, side by side; the final score carries the state on."""
_SCORED_STEPS = 1 << 15
_WINDOW = 512
_STRETCH = 1000
"""Tokens of a long document that are one piece when two models are compared."""


@dataclass(frozen=True)
class EncodedText:
    """Documents as one stream of tokens, an end token before, between and after them.

    Attributes:
        stream: ``[N + 1]``; token i + 1 is predicted from those up to i.
        offsets: the end tokens' places, int64 ``[n + 1]``: document i is predicted from ``stream[offsets[i]]`` on.
        characters: of all documents.
        documents: how many.
    """

    stream: NDArray[Any]
    offsets: NDArray[np.int64]
    characters: int
    documents: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens to predict in each document, its end included."""
        return np.diff(self.offsets)


@dataclass
class TextBatch(Batch):
    """Tokens and the ones that follow them, int64 ``[T, B]``; where there is none, the target is -100."""

    inputs: Tensor
    targets: Tensor


class StreamFeed(Feed):
    """Long documents: lanes side by side through the whole stream, cut into windows, the state carried from one to the next.

    Every epoch starts at another place of the stream, taken as a ring.
    """

    carries = True

    def __init__(self, text: EncodedText, batch: int, bptt: int, seed: int) -> None:
        self.stream, self.seed = text.stream, seed
        self.tokens = len(text.stream) - 1
        self.bptt = min(bptt, self.tokens)
        self.lanes = max(1, min(batch, self.tokens // (4 * self.bptt)))
        self.lane = self.tokens // self.lanes

    def __len__(self) -> int:
        return self.lane // self.bptt

    def batch(self, epoch: int, index: int) -> TextBatch:
        """One window of every lane."""
        start = int(np.random.default_rng([self.seed, epoch]).integers(self.tokens)) + index * self.bptt
        places = (start + np.arange(self.bptt)[:, None] + self.lane * np.arange(self.lanes)[None]) % self.tokens
        lengths = torch.full((self.lanes,), self.bptt)
        return TextBatch(lengths, _ids(self.stream[places]), _ids(self.stream[places + 1]))


class DocumentFeed(Feed):
    """Short documents: each a sequence of its own, from its beginning to its end."""

    def __init__(self, text: EncodedText, batch: int, seed: int) -> None:
        self.text, self.size, self.seed = text, batch, seed
        self._epoch, self._rows = -1, list[NDArray[np.int64]]()

    def __len__(self) -> int:
        return -(-len(self.text.lengths) // self.size)

    def batch(self, epoch: int, index: int) -> TextBatch:
        """Documents of about the same length."""
        if epoch != self._epoch:
            self._epoch, self._rows = epoch, shuffled_by_length(self.text.lengths, self.size, self.seed, epoch)
        return _documents(self.text, self._rows[index])


def _ids(tokens: NDArray[Any]) -> Tensor:
    return torch.from_numpy(tokens.astype(np.int64))


def _documents(text: EncodedText, rows: NDArray[np.int64], start: int = 0, most: int | None = None) -> TextBatch:
    """Documents side by side: from a step on, and at most so many; no more than these is taken from the stream."""
    begins = text.offsets[rows] + start
    lengths = np.clip(text.offsets[rows + 1] - begins, 0, most)
    steps = np.arange(lengths.max())[:, None]
    inside = steps < lengths
    places = np.where(inside, begins + steps, 0)
    inputs = np.where(inside, text.stream[places], 0)
    targets = np.where(inside, text.stream[places + 1].astype(np.int64), -100)
    return TextBatch(torch.from_numpy(lengths), _ids(inputs), torch.from_numpy(targets))


class LanguageModelling(Task):
    """The next token of documents, by characters or byte pairs; judged in nats per character."""

    name: ClassVar[str] = "lm"
    metric = Metric("nats_per_character", "nats per character", higher_is_better=False, unit="nats")
    monitor = metric
    codec: Characters | BytePairs

    def prepare(self, train: Sequences) -> None:
        """Fit the characters or byte pairs, and decide open settings."""
        self.decide(tokens="char", task="lm")
        if self.settings.data.tokens == "bpe":
            self.codec = BytePairs.fit(_all_pieces(train.inputs), self.settings.data.bpe_size)
        elif self.settings.data.tokens == "char":
            self.codec = Characters.fit(_all_pieces(train.inputs))
        else:
            raise DataError("--tokens word is for labelled text; a language model takes char or bpe")
        characters = sum(sum(map(len, _pieces(train.inputs, row))) for row in range(len(train)))
        if characters < 100:
            raise DataError(f"the training text has {characters} characters, expected at least 100")
        tokens = characters if self.settings.data.tokens == "char" else characters // 4
        long = characters / len(train) > 500
        self.decide(
            **COMMON,
            cell="gru",
            hidden=384 if long and tokens > 500_000 else 256,
            bidirectional=False,
            dropout=0.2,
            lr=3e-3,
            batch=32 if long else 64,
            bptt=64,
            epochs=int(np.clip(6_000_000 // tokens, 2, 10)),
            patience=10,
        )
        if self.settings.model.bidirectional:
            raise DataError("--bidirectional would let a language model see the token it has to predict; leave it out")
        if self.settings.model.untied:
            raise DataError("--untied is for sequences of one length; text goes on; leave it out")

    def transforms(self) -> dict[str, Any]:
        """The codec."""
        return {"codec": self.codec.to_json()}

    def restore(self, transforms: dict[str, Any]) -> None:
        """Put back the codec."""
        kind = BytePairs if transforms["codec"].get("kind") == "bpe" else Characters
        self.codec = kind.from_json(transforms["codec"])

    def encode(self, part: Sequences) -> EncodedText:
        """Documents as tokens; in a temporary file where they are large."""
        dtype = np.uint8 if self.codec.size <= 1 << 8 else np.uint16 if self.codec.size <= 1 << 16 else np.int32
        end, stream = np.array([self.codec.end], dtype), Spool()
        offsets = np.zeros(len(part) + 1, np.int64)
        characters = 0
        stream.add(end)
        for row in range(len(part)):
            size = 1
            for piece in _pieces(part.inputs, row):
                ids = self.codec.encode(piece)
                stream.add(ids.astype(dtype))
                size, characters = size + len(ids), characters + len(piece)
            stream.add(end)
            offsets[row + 1] = offsets[row] + size
        return EncodedText(stream.array(), offsets, characters, len(part))

    def unfamiliar(self, part: Sequences) -> str:
        """Characters."""
        return unknown_characters(self.codec, _all_pieces(part.inputs))

    def network(self) -> StepNetwork:
        """Embedding, recurrent layers, one output per token."""
        assert self.settings.model.hidden
        width = min(self.settings.model.hidden, 64 if self.codec.size < 512 else 256)
        return StepNetwork(self.settings.model, Tokens(self.codec.size, width), self.codec.size)

    def rivals(self, train: EncodedText) -> list[Rival]:
        """From the last few tokens, as their mean or side by side."""
        model, size = self.settings.model, self.codec.size
        assert model.hidden
        narrow = dataclasses.replace(model, hidden=min(model.hidden, max(1, OUTPUT_LAYER // size)))

        def network(blind: bool) -> RecentTokens:
            return RecentTokens(narrow, Tokens(size, min(model.hidden or 1, 64)), size, blind=blind)

        blind = f"an ANN on the mean of the last {RECENT} tokens; blind to their order"
        flat = f"an ANN on the last {RECENT} tokens, with weights for each place"
        return [Rival(BLIND, blind, "blind", lambda: network(True)), Rival(FLAT, flat, "window", lambda: network(False))]

    def feed(self, encoded: EncodedText) -> Feed:
        """Documents one by one if nearly all are short, else the stream."""
        training = self.settings.training
        assert training.batch and training.bptt
        lengths = encoded.lengths
        if np.quantile(lengths, 0.95) <= 2 * training.bptt and lengths.max() <= 20 * training.bptt:
            return DocumentFeed(encoded, training.batch, training.seed)
        return StreamFeed(encoded, training.batch, training.bptt, training.seed)

    def loss(self, network: torch.nn.Module, batch: TextBatch, state: State) -> tuple[Tensor, State]:
        """Mean nats per token."""
        logits, state = network(batch.inputs, batch.lengths, state)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten()), state

    def evaluate(self, network: torch.nn.Module, encoded: EncodedText) -> dict[str, float]:
        """Nats per token and per character, bits per character, perplexity; long documents in pieces, side by side."""
        return self._scores(network, _in_pieces(encoded))

    def score(self, network: torch.nn.Module, part: Sequences, encoded: EncodedText) -> dict[str, float]:
        """The same, with the state carried through every document."""
        return self._scores(network, encoded)

    def _scores(self, network: torch.nn.Module, encoded: EncodedText) -> dict[str, float]:
        nats = sum(float(values.sum()) for _, values in self.nats(network, encoded))
        scores = language(nats, len(encoded.stream) - 1, encoded.characters, encoded.documents).scores()
        return {"loss": scores["nats_per_token"], **scores}

    def nats(self, network: torch.nn.Module, text: EncodedText) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """What every token costs.

        Yields:
            Places in the stream, and the nats of the tokens there, window by window.
        """
        device = next(network.parameters()).device
        lengths = text.lengths
        for rows in in_order_of_length(lengths, _SCORED_STEPS):
            state = None
            for start in range(0, int(lengths[rows].max()), _WINDOW):
                batch = _documents(text, rows, start, _WINDOW)
                logits, state = network(batch.inputs.to(device), batch.lengths, state)
                targets = batch.targets.to(device)
                values = torch.nn.functional.cross_entropy(logits.flatten(0, 1).double(), targets.flatten(), reduction="none")
                inside = (targets != -100).cpu().numpy()
                places = text.offsets[rows][None] + start + 1 + np.arange(len(targets))[:, None]
                yield places[inside], values.view_as(targets).cpu().numpy()[inside]

    def amount(self, part: Sequences, encoded: EncodedText) -> str:
        """Documents."""
        return plural(len(part), "document")

    def errors(self, network: torch.nn.Module, part: Sequences, encoded: EncodedText) -> NDArray[np.float64]:
        """The nats of each document, or of each stretch of a long one."""
        starts = _cuts(encoded, _STRETCH)
        cost = np.zeros(len(starts))
        for places, values in self.nats(network, encoded):
            np.add.at(cost, np.searchsorted(starts, places - 1, side="right") - 1, values)
        return cost

    def predict(self, network: torch.nn.Module, part: Sequences) -> Table:
        """What each document costs: the sum of its nats, its tokens, its perplexity."""
        encoded = self.encode(part)
        cost = np.zeros(len(part))
        for places, values in self.nats(network, encoded):
            np.add.at(cost, np.searchsorted(encoded.offsets, places - 1, side="right") - 1, values)
        tokens = encoded.lengths
        return {
            "origin": [part.origin(row) for row in range(len(part))],
            "nats": cost.tolist(),
            "tokens": tokens.tolist(),
            "perplexity": np.exp(cost / tokens).tolist(),
        }

    def baselines(self, train: Sequences, test: Sequences) -> list[BaselineScore]:
        """Unigrams and n-grams."""
        learn, score = self.encode(train), self.encode(test)

        def measure(method: lm.Unigram | lm.NGram) -> tuple[dict[str, float], NDArray[np.float64]]:
            nats = method.fit(_token_documents(learn)).nats(_token_documents(score))
            result = language(float(nats.sum()), len(score.stream) - 1, score.characters, len(score.lengths))
            return result.scores(), np.add.reduceat(nats, _cuts(score, _STRETCH))

        methods = lm.suited(str(self.settings.data.tokens), self.codec.size, self.codec.end)
        return [scored(method, partial(measure, method)) for method in methods]

    def details(
        self, network: torch.nn.Module, part: Sequences, encoded: EncodedText, baselines: Sequence[BaselineScore] = ()
    ) -> dict[str, Any]:
        """Text that the network writes, and passages of the part with what each token cost it."""
        from throughtime.tasks.generate import generate

        samples = []
        for temperature in (0.5, 0.8, 1.0):
            pieces = generate(
                self, network, "", length=400, temperature=temperature, seed=self.settings.training.seed, documents=True
            )
            samples.append({"prompt": "", "temperature": temperature, "text": "".join(pieces)})
        return {"samples": samples, "surprising": self._surprising(network, encoded)}

    def _surprising(
        self, network: torch.nn.Module, encoded: EncodedText, passages: int = 3, size: int = 300
    ) -> list[dict[str, Any]]:
        """The passages of the first part of the text that cost most, token by token."""
        lengths = encoded.lengths
        rows = np.flatnonzero(np.cumsum(lengths) - lengths < 50_000)
        first = EncodedText(encoded.stream, encoded.offsets[: len(rows) + 1], 0, len(rows))
        first = first if lengths[rows].sum() < 200_000 else _in_pieces(first, most=50)
        cost = np.full(int(first.offsets[-1]) + 1, np.nan)
        for places, values in self.nats(network, first):
            cost[places] = values
        blocks = [(np.nanmean(cost[start : start + size]), start) for start in range(1, len(cost) - size // 2, size)]
        found = []
        for _, start in sorted(blocks, reverse=True)[:passages]:
            stop = min(start + size, len(cost))
            tokens = [self.codec.decode([token]) or "⏎" for token in encoded.stream[start:stop]]
            kept = [(token, float(value)) for token, value in zip(tokens, cost[start:stop], strict=True) if np.isfinite(value)]
            if kept:
                text, nats = "".join(token for token, _ in kept), [round(value, 3) for _, value in kept]
                found.append({"text": text, "tokens": [token for token, _ in kept], "nats": nats})
        return found

    def describe(self) -> str:
        """Embedding and recurrent layers."""
        kind = "characters" if self.settings.data.tokens == "char" else "byte pairs"
        return f"{layers_of(self.settings.model)} over {self.codec.size:,} {kind}"


def _pieces(inputs: Sequence[str], row: int) -> Iterator[str]:
    return inputs.pieces(row) if isinstance(inputs, TextSlices) else iter((inputs[row],))


def _all_pieces(inputs: Sequence[str]) -> Iterator[str]:
    for row in range(len(inputs)):
        yield from _pieces(inputs, row)


def _token_documents(text: EncodedText) -> list[NDArray[Any]]:
    return [text.stream[start + 1 : stop] for start, stop in zip(text.offsets[:-1], text.offsets[1:], strict=True)]


def _in_pieces(text: EncodedText, most: int | None = None) -> EncodedText:
    """Long documents cut into pieces that are scored side by side, each from an empty state."""
    offsets = np.concatenate([_cuts(text, _PIECE), text.offsets[-1:]])
    return EncodedText(text.stream, offsets[: most + 1] if most else offsets, text.characters, text.documents)


def _cuts(text: EncodedText, size: int) -> NDArray[np.int64]:
    """Where pieces of documents begin: each document cut every so many tokens."""
    return np.concatenate(
        [np.arange(start, stop, size) for start, stop in zip(text.offsets[:-1], text.offsets[1:], strict=True)]
    )
