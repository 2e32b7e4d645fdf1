"""What goes into a network: text by word or token, numbers, sound; each from raw sequences to a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from throughtime.data.batches import Ragged
from throughtime.data.columns import listed
from throughtime.data.files import plural
from throughtime.data.records import Kind, Sequences
from throughtime.errors import DataError, RunError
from throughtime.settings import Settings
from throughtime.tasks.networks import Numbers, Tokens, WordIds, Words
from throughtime.transforms import BytePairs, Characters, LogMel, Scaler, WordFeatures, words

WORD_WIDTH = 128
_CALLED: dict[Kind, str] = {"text": "text", "words": "words", "numeric": "sequences of numbers", "sound": "sound"}


@dataclass(frozen=True)
class EncodedInputs:
    """Sequences as arrays.

    Attributes:
        ragged: ids ``[sum T]``, or numbers ``[sum T, F]``.
        batch: what the network reads of some of them, time first.
    """

    ragged: Ragged
    batch: Callable[[NDArray[np.int64]], Any]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each."""
        return self.ragged.lengths


class Inputs(ABC):
    """One way to turn sequences into what a network reads; fitted on the training part."""

    kind: str
    takes: tuple[Kind, ...]
    """The kinds of sequences that it can turn into that."""

    def check(self, part: Sequences) -> None:
        """Raise where sequences are of a kind that the model was not fitted on."""
        if part.kind not in self.takes and len(part):
            raise DataError(
                f"{part.origin(0)}: found {_CALLED[part.kind]}, but the model was fitted on {_CALLED[self.takes[0]]} "
                f"({self.describe()}); give data of that kind"
            )

    @classmethod
    @abstractmethod
    def fit(cls, train: Sequences, settings: Settings) -> Inputs:
        """From the training part."""

    @abstractmethod
    def encode(self, part: Sequences) -> EncodedInputs:
        """Any part as arrays."""

    @abstractmethod
    def module(self, settings: Settings) -> Tokens | Words | Numbers:
        """The first module of the network."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What was fitted."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: dict[str, Any]) -> Inputs:
        """What :meth:`to_json` wrote."""

    @abstractmethod
    def describe(self) -> str:
        """In a phrase."""


class WordInputs(Inputs):
    """Words, each with its own vector and with those of the pieces it is made of."""

    kind = "words"
    takes = ("words", "text")

    def __init__(
        self, features: WordFeatures, width: int = WORD_WIDTH, vectors: dict[str, NDArray[np.float32]] | None = None
    ) -> None:
        self.features, self.width, self.vectors = features, width, vectors or {}

    @classmethod
    def fit(cls, train: Sequences, settings: Settings) -> WordInputs:
        """The words that occur at least twice, with the vectors of ``--embeddings`` to start from where there are any."""
        features, path = WordFeatures.fit(_split(train)), settings.model.embeddings
        if not path:
            return cls(features)
        vectors = read_vectors(path, set(features.vocabulary.tokens))
        return cls(features, len(next(iter(vectors.values()))), vectors)

    def encode(self, part: Sequences) -> EncodedInputs:
        """Each distinct word is looked up once; padding is the empty word."""
        distinct = {"": 0}
        ragged = Ragged.of(
            np.fromiter((distinct.setdefault(word, len(distinct)) for word in sequence), np.int32, len(sequence))
            for sequence in _split(part)
        )
        word, pieces, offsets = self.features.lookup(list(distinct))
        table = Ragged(pieces, offsets)

        def batch(rows: NDArray[np.int64]) -> WordIds:
            padded = ragged.padded(rows).astype(np.int64)
            used, index = np.unique(padded, return_inverse=True)
            sizes = table.lengths[used]
            starts = np.cumsum(sizes) - sizes
            flat = np.repeat(offsets[used] - starts, sizes) + np.arange(int(sizes.sum()))
            parts = (index.reshape(padded.shape), word[used], pieces[flat], starts)
            return WordIds(*(torch.from_numpy(np.ascontiguousarray(part, dtype=np.int64)) for part in parts))

        return EncodedInputs(ragged, batch)

    def module(self, settings: Settings) -> Words:
        """Word vectors as random numbers, or as they were given."""
        vocabulary = self.features.vocabulary
        module = Words(len(vocabulary), self.features.buckets, self.width)
        with torch.no_grad():
            for number, token in enumerate(vocabulary.tokens, 1):
                if token in self.vectors:
                    module.words.weight[number] = torch.from_numpy(self.vectors[token])
        return module

    def to_json(self) -> dict[str, Any]:
        """The vocabulary, the number of pieces, and the width; the vectors are among the weights."""
        return {"features": self.features.to_json(), "width": self.width}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> WordInputs:
        """As it was."""
        return cls(WordFeatures.from_json(data["features"]), data["width"])

    def describe(self) -> str:
        """Words and pieces."""
        return f"{len(self.features.vocabulary):,} words and their letters"


class TokenInputs(Inputs):
    """Characters or byte pairs of text."""

    kind = "tokens"
    takes = ("text",)

    def __init__(self, codec: Characters | BytePairs) -> None:
        self.codec = codec

    @classmethod
    def fit(cls, train: Sequences, settings: Settings) -> TokenInputs:
        """The characters, or the most frequent pairs."""
        if settings.data.tokens == "bpe":
            return cls(BytePairs.fit(train.inputs, settings.data.bpe_size))
        return cls(Characters.fit(train.inputs))

    def encode(self, part: Sequences) -> EncodedInputs:
        """Ids."""
        ragged = Ragged.of(self.codec.encode(text) for text in part.inputs)
        return EncodedInputs(ragged, lambda rows: torch.from_numpy(ragged.padded(rows).astype(np.int64)))

    def module(self, settings: Settings) -> Tokens:
        """A vector for each."""
        return Tokens(self.codec.size, 64 if self.codec.size < 512 else WORD_WIDTH)

    def to_json(self) -> dict[str, Any]:
        """The codec."""
        return self.codec.to_json()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TokenInputs:
        """As it was."""
        return cls((BytePairs if data.get("kind") == "bpe" else Characters).from_json(data))

    def describe(self) -> str:
        """How many."""
        return f"{self.codec.size:,} {'characters' if isinstance(self.codec, Characters) else 'byte pairs'}"


class NumericInputs(Inputs):
    """Numbers, each feature with mean 0 and deviation 1 over the training part."""

    kind = "numbers"
    takes = ("numeric",)

    def __init__(self, scaler: Scaler) -> None:
        self.scaler = scaler

    @classmethod
    def fit(cls, train: Sequences, settings: Settings) -> NumericInputs:
        """Mean and deviation of each feature."""
        return cls(Scaler.fit(train.inputs, train.features, mask=settings.data.missing == "mask"))

    def encode(self, part: Sequences) -> EncodedInputs:
        """Scaled."""
        if part.features and tuple(part.features) != tuple(self.scaler.features):
            found, expected = ", ".join(part.features), ", ".join(self.scaler.features)
            raise DataError(
                f"{part.origin(0)}: the features are {found}; the model was fitted on {expected}; give the same, in that order"
            )
        return _numbers(self.scaler.transform(x) for x in part.inputs)

    def module(self, settings: Settings) -> Numbers:
        """Nothing is done to them."""
        return Numbers(self.scaler.channels)

    def to_json(self) -> dict[str, Any]:
        """The scaler."""
        return self.scaler.to_json()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> NumericInputs:
        """As it was."""
        return cls(Scaler.from_json(data))

    def describe(self) -> str:
        """How many."""
        return f"{len(self.scaler.features)} features"


class SoundInputs(Inputs):
    """Sound as log-mel energies, scaled."""

    kind = "sound"
    takes = ("sound",)

    def __init__(self, features: LogMel, scaler: Scaler) -> None:
        self.features, self.scaler = features, scaler

    @classmethod
    def fit(cls, train: Sequences, settings: Settings) -> SoundInputs:
        """At the most common rate of the training part."""
        from throughtime.data.sound import load

        sounds = [load(Path(path)) for path in train.inputs]
        features = LogMel.fit(rate for _, rate in sounds)
        spectra = [features(samples, rate) for samples, rate in sounds]
        return cls(features, Scaler.fit(spectra, tuple(f"mel {band}" for band in range(features.bands))))

    def encode(self, part: Sequences) -> EncodedInputs:
        """Log-mel energies."""
        from throughtime.data.sound import load

        return _numbers(self.scaler.transform(self.features(*load(Path(path)))) for path in part.inputs)

    def module(self, settings: Settings) -> Numbers:
        """Nothing is done to them."""
        return Numbers(self.scaler.channels)

    def to_json(self) -> dict[str, Any]:
        """The features and the scaler."""
        return {"kind": "sound", "features": self.features.to_json(), "scaler": self.scaler.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SoundInputs:
        """As it was."""
        return cls(LogMel.from_json(data["features"]), Scaler.from_json(data["scaler"]))

    def describe(self) -> str:
        """Bands and rate."""
        return f"{self.features.bands} log-mel bands at {self.features.rate:,} Hz"


KINDS: dict[str, type[Inputs]] = {kind.kind: kind for kind in (WordInputs, TokenInputs, NumericInputs, SoundInputs)}


def inputs_for(train: Sequences, settings: Settings) -> type[Inputs]:
    """The way that suits what was read."""
    if train.kind == "text":
        return WordInputs if settings.data.tokens in (None, "word") else TokenInputs
    kinds: dict[str, type[Inputs]] = {"words": WordInputs, "numeric": NumericInputs, "sound": SoundInputs}
    return kinds[train.kind]


def read_vectors(path: Path, wanted: set[str]) -> dict[str, NDArray[np.float32]]:
    """Word vectors of a text file, one word and its numbers a line, as word2vec, GloVe and fastText write them.

    Args:
        path: the file; a first line with two numbers only (how many, how wide) is passed over.
        wanted: the words to keep; the file may be larger than memory.

    Raises:
        DataError: the file cannot be read, a line is of another width, or no wanted word is in it.
    """
    vectors: dict[str, NDArray[np.float32]] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                word, *values = line.rstrip().split(" ")
                if (number == 1 and len(values) == 1) or word not in wanted:
                    continue
                try:
                    vector = np.array(values, dtype=np.float32)
                except ValueError:
                    vector = np.zeros(0, np.float32)
                if not len(vector) or not np.isfinite(vector).all():
                    raise DataError(f"{path} line {number}: found {line.rstrip()[:40]!r}, expected a word and its numbers")
                if vectors and len(vector) != len(next(iter(vectors.values()))):
                    raise DataError(f"{path} line {number}: found {len(vector)} numbers, expected as many as before")
                vectors[word] = vector
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--embeddings {path} cannot be read: {error}") from None
    if not vectors:
        raise DataError(f"--embeddings {path} has none of the words of the training part; is it of the same language?")
    return vectors


def unknown_characters(codec: Characters | BytePairs, pieces: Iterable[str]) -> str:
    """How many characters of a text a codec does not know, and which, in a phrase; empty if it knows all."""
    if isinstance(codec, BytePairs):
        return ""
    total, counts = 0, Counter[str]()
    for piece in pieces:
        total += len(piece)
        counts.update(codec.unknown(piece))
    which = listed([repr(character) for character, _ in counts.most_common()], 6)
    many = f"{sum(counts.values()):,} of {plural(total, 'character')} occur{'s' * (sum(counts.values()) == 1)}"
    return f"{many} nowhere in the training part, so that the model takes them all for one: {which}" if counts else ""


def restore_inputs(data: dict[str, Any]) -> Inputs:
    """From what a task wrote.

    Raises:
        RunError: of an unknown kind.
    """
    if data.get("kind") not in KINDS:
        raise RunError(f"transforms.json is damaged: inputs of kind {data.get('kind')!r}, expected {' or '.join(KINDS)}")
    return KINDS[data["kind"]].from_json(data["fitted"])


def _split(part: Sequences) -> Iterable[list[str]]:
    return map(words, part.inputs) if part.kind == "text" else part.inputs


def _numbers(arrays: Iterable[NDArray[np.float32]]) -> EncodedInputs:
    ragged = Ragged.of(arrays)

    def batch(rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(ragged.padded(rows))

    return EncodedInputs(ragged, batch)
