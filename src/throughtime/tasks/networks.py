"""The networks that are fitted: an input, a recurrent part of ``tt.nn``, and a head. Time first: ``[T, B, ...]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from throughtime import nn as recurrent
from throughtime.errors import SettingsError
from throughtime.settings import ModelSettings
from throughtime.tasks.base import State
from throughtime.tasks.dropout import Dropout

CELLS: dict[str, Any] = {"rnn": recurrent.RNN, "gru": recurrent.GRU, "lstm": recurrent.LSTM}


def recurrent_part(
    settings: ModelSettings, inputs: int, *, steps: int | None = None, bidirectional: bool | None = None
) -> nn.RNNBase:
    """The recurrent layers, initialised as the settings say.

    Args:
        settings: all decided.
        inputs: numbers per step that come in.
        steps: for weights of their own for every step: how many steps there are.
        bidirectional: overrules the settings.

    Raises:
        SettingsError: an initialisation that is not known, or not for this cell.
    """
    assert settings.cell and settings.hidden and settings.layers and settings.dropout is not None and settings.init
    if settings.init in ("forget_bias", "chrono") and settings.cell != "lstm":
        raise SettingsError(f"--init {settings.init} is for --cell lstm, not {settings.cell}; name another, or leave it out")
    options: dict[str, Any] = {"nonlinearity": settings.nonlinearity} if settings.cell == "rnn" else {}
    if settings.untied:
        options |= {"tied": False, "steps": steps}
    both = bool(settings.bidirectional) if bidirectional is None else bidirectional
    dropout = settings.dropout if settings.layers > 1 else 0.0
    layers = CELLS[settings.cell](inputs, settings.hidden, settings.layers, dropout=dropout, bidirectional=both, **options)
    if settings.cell == "lstm" and settings.init == "orthogonal":
        recurrent.init.forget_bias_(layers)
    options = {"longest": steps or 100} if settings.init == "chrono" else {}
    try:
        initialised: nn.RNNBase = recurrent.init.by_name(layers, settings.init, **options)
    except ValueError as error:
        raise SettingsError(f"--init: {error}") from None
    return initialised


class Tokens(nn.Module):
    """A vector for each token.

    Args:
        size: how many tokens there are.
        width: numbers in a vector.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, width)
        self.width = width

    def forward(self, ids: Tensor) -> Tensor:
        """int64 ``[...]`` -> ``[..., width]``."""
        embedded: Tensor = self.embedding(ids)
        return embedded


@dataclass
class WordIds:
    """The words of a batch: which of its distinct words stands where, and what these are made of.

    Attributes:
        index: which distinct word, int64 ``[T, B]``.
        word: number in the vocabulary of each distinct word, 0 if it is not in it; int64 ``[n]``.
        pieces: numbers of the pieces of all distinct words, one after another; int64.
        offsets: where the pieces of each begin; int64 ``[n]``.
    """

    index: Tensor
    word: Tensor
    pieces: Tensor
    offsets: Tensor

    def to(self, device: torch.device) -> WordIds:
        """The same on another device."""
        return WordIds(*(part.to(device) for part in vars(self).values()))


class Words(nn.Module):
    """A vector for each word: its own, plus the mean of those of its pieces, so that a word never seen has one too.

    In training, words are made unknown now and then, so that what stands for unknown words is learned.

    Args:
        words: size of the vocabulary, the unknown word included.
        pieces: how many piece vectors there are.
        width: numbers in a vector.
        unknown: share of distinct words made unknown in training.

    Source: Bojanowski et al. 2017 (subwords), arXiv:1607.04606.
    """

    def __init__(self, words: int, pieces: int, width: int, unknown: float = 0.1) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.pieces = nn.EmbeddingBag(pieces, width, mode="mean")
        nn.init.normal_(self.words.weight, std=0.5)
        nn.init.normal_(self.pieces.weight, std=1.0)
        self.width, self.unknown = width, unknown

    def forward(self, ids: WordIds) -> Tensor:
        """[T, B] words -> ``[T, B, width]``."""
        word = ids.word
        if self.training:
            word = word * (torch.rand(len(word), device=word.device) >= self.unknown)
        distinct = self.words(word) + self.pieces(ids.pieces, ids.offsets)
        chosen: Tensor = nn.functional.embedding(ids.index, distinct)
        return chosen


class Numbers(nn.Module):
    """Numbers as they are.

    Args:
        width: how many in a step.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, F] -> the same."""
        return x


class Network(nn.Module):
    """An input, recurrent layers, and a head; subclasses say what the head reads.

    Args:
        settings: of the model.
        inputs: :class:`Tokens`, :class:`Words` or :class:`Numbers`.
        outputs: numbers that come out.
        steps: see :func:`recurrent_part`.
    """

    summaries = 1
    """How many vectors as wide as the recurrent output the head reads."""

    def __init__(
        self, settings: ModelSettings, inputs: Tokens | Words | Numbers, outputs: int, steps: int | None = None
    ) -> None:
        super().__init__()
        assert settings.dropout is not None
        self.inputs = inputs
        self.dropout = Dropout(settings.dropout)
        self.rnn = recurrent_part(settings, inputs.width, steps=steps)
        width = self.rnn.hidden_size * (2 if self.rnn.bidirectional else 1)
        self.head = nn.Linear(self.summaries * width, outputs)


class StepNetwork(Network):
    """Something for every step: tags, numbers, or the next token."""

    def forward(self, x: Any, lengths: Tensor | None = None, state: State = None) -> tuple[Tensor, State]:
        """[T, B] of inputs -> ``[T, B, outputs]`` and the state after each sequence's true end."""
        embedded = self.dropout(self.inputs(x))
        hidden, state = self.rnn(embedded, state, lengths=lengths)
        return self.head(self.dropout(hidden)), state


class SequenceNetwork(Network):
    """One answer for a sequence: from the mean and the largest of all outputs, and the last state of each direction."""

    summaries = 3

    def forward(self, x: Any, lengths: Tensor) -> Tensor:
        """[T, B] of inputs -> ``[B, outputs]``."""
        embedded = self.dropout(self.inputs(x))
        hidden, state = self.rnn(embedded, lengths=lengths)
        last = state[0] if isinstance(state, tuple) else state  # [L D, B, H]
        directions = 2 if self.rnn.bidirectional else 1
        ends = last[-directions:].transpose(0, 1).flatten(1)
        answer: Tensor = self.head(self.dropout(torch.cat([*pooled(hidden, lengths), ends], dim=1)))
        return answer


def pooled(hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and largest over the true steps; zeros for a sequence without any.

    Args:
        hidden: ``[T, B, D]``, zero past each end.
        lengths: ``[B]``.
    """
    lengths = lengths.to(hidden.device)
    past = torch.arange(hidden.shape[0], device=hidden.device)[:, None] >= lengths[None]
    mean = hidden.sum(dim=0) / lengths.clamp(min=1)[:, None]
    largest = hidden.masked_fill(past[:, :, None], -torch.inf).amax(dim=0) if hidden.shape[0] else mean
    return mean, torch.where(lengths[:, None] > 0, largest, 0.0)


def forecast_with_ends(middle: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """A forecast ``[B, H]`` and the ends of its interval, ``[B, H, 3]``; softplus keeps either end on its side of it."""
    softplus = nn.functional.softplus
    return torch.stack([middle, middle - softplus(below), middle + softplus(above)], dim=2)
