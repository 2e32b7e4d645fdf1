"""Baselines for language models: how often tokens, and runs of tokens, occur."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.tasks.baselines._common import Baseline

Tokens = NDArray[Any]
"""``[T]`` token numbers, of any integer type."""

Ids = NDArray[np.int64]
Numbers = NDArray[np.float64]

_COUNTED = 5_000_000
_AT_ONCE = 1_000_000
"""Tokens that are counted, and tokens that are scored together: bounds on time and memory."""


class _Counting(Baseline):
    """A language model made of counts.

    Args:
        size: the V tokens there are, numbered from 0, ``end`` included.
        end: the token that is predicted after each document; ``None`` if no end is.
    """

    _reach = 0
    """The tokens before that matter."""

    def __init__(self, size: int, end: int | None = None) -> None:
        self._size, self._end = size, end

    def fit(self, documents: Sequence[Tokens]) -> _Counting:
        """Count the tokens, the first 5,000,000 if there are more.

        Args:
            documents: arrays ``[T]`` of token numbers.

        Raises:
            ValueError: nothing to count, or a token outside 0 to V - 1.
        """
        first = next(self._streams((document[:_COUNTED] for document in documents), _COUNTED), np.empty(0))
        stream = first[: _COUNTED + 1].astype(np.int64)
        counted = int((stream < self._size).sum())
        if not counted:
            raise ValueError(f"{self.name} needs at least one token to count")
        self._tell_sample(counted, sum(map(len, documents)) + (0 if self._end is None else len(documents)), "tokens")
        self._count(stream)
        return self

    def nats(self, documents: Sequence[Tokens]) -> Numbers:
        """``-ln p`` of each token given those before it in its document.

        Args:
            documents: arrays ``[T]`` of token numbers.

        Returns:
            Those of all documents behind each other, each followed by that of its end if ends are predicted.

        Raises:
            ValueError: a token outside 0 to V - 1.
        """
        scores = []
        for stream in self._streams(documents, _AT_ONCE):
            for begin in range(0, len(stream), _AT_ONCE):
                before = min(self._reach, begin)
                piece = stream[begin - before : begin + _AT_ONCE].astype(np.int64)
                scores.append(-np.log(self._probabilities(piece)[before:][piece[before:] < self._size]))
        return np.concatenate(scores) if scores else np.empty(0)

    def _streams(self, documents: Iterable[Tokens], about: int) -> Iterator[NDArray[np.int32]]:
        """Whole documents behind each other, each after a token V where it starts; about so many tokens at a time."""
        parts: list[Tokens] = []
        length = 0
        start, end = np.array([self._size]), np.array([] if self._end is None else [self._end])
        for number, document in enumerate(documents):
            if len(document) and not (document.min() >= 0 and document.max() < self._size):
                found = f"{document.min()} to {document.max()}"
                raise ValueError(f"document {number} holds tokens {found}, expected 0 to {self._size - 1}")
            parts += [start, document, end]
            length += len(document)
            if length >= about:
                yield np.concatenate(parts, dtype=np.int32, casting="unsafe")
                parts, length = [], 0
        if parts:
            yield np.concatenate(parts, dtype=np.int32, casting="unsafe")

    def _count(self, stream: Ids) -> None:
        raise NotImplementedError

    def _probabilities(self, stream: Ids) -> Numbers:
        """Of each token of the stream; anything where a document starts."""
        raise NotImplementedError


class Unigram(_Counting):
    """How often each token occurs, plus one.

    Example:
        >>> model = Unigram(size=2).fit([np.array([0, 0, 1])])
        >>> np.exp(-model.nats([np.array([0, 1])])).round(3).tolist()
        [0.6, 0.4]
    """

    name = "unigram"
    description = "how often each token occurs, whatever is before it"
    order = "blind"

    def _count(self, stream: Ids) -> None:
        counts = np.bincount(stream, minlength=self._size + 1)
        counts[self._size] = 0
        self._p = np.append((counts[:-1] + 1) / (counts.sum() + self._size), 1.0)
        self.parameters = self._size

    def _probabilities(self, stream: Ids) -> Numbers:
        return np.asarray(self._p[stream])


@dataclass(frozen=True)
class _Grams:
    """The runs of k tokens that occurred, in the order of their keys.

    Attributes:
        keys: ``[G]``, the number of the first k - 1 tokens among the runs of k - 1, times V + 1, plus the last token.
        p: ``[G]``, the discounted probability of the last token after the others.
        rest: ``[G of k - 1]``, what the discounts leave for shorter runs, after each run of k - 1.
    """

    keys: Ids
    p: Numbers
    rest: Numbers


class NGram(_Counting):
    """Runs of up to n tokens: interpolated, modified Kneser-Ney smoothing.

    A run of k < n tokens counts by how many different tokens came before it, not by how often it occurred (unless it starts a
    document); from each count a discount is taken that depends on whether it is 1, 2 or more, and shared out by the model of
    shorter runs. The probabilities of all V tokens sum to one after every context.

    Args:
        order: n; 5 suits characters, 3 suits longer tokens.
        size: the V tokens there are, numbered from 0, ``end`` included.
        end: the token that is predicted after each document; ``None`` if no end is.

    Example:
        >>> model = NGram(3, size=3).fit([np.array([0, 1, 2] * 20)])
        >>> bool(model.nats([np.array([0, 1, 2, 0])])[-1] < 0.1)
        True

    Source:
        Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling"; counts of runs that
        start a document, and discounts where counts are few, as in KenLM (Heafield, Pouzyrevsky, Clark and Koehn 2013).
    """

    description = "how often each token follows the few before it; modified Kneser-Ney smoothing"
    order = "window"

    def __init__(self, order: int, size: int, end: int | None = None) -> None:
        super().__init__(size, end)
        self.name = f"{order}-gram"
        self._reach = order - 1

    def _count(self, stream: Ids) -> None:
        base, depth = self._size + 1, self._depth(stream)
        keys: Ids = np.arange(base)
        contexts, shorter = np.zeros(base, dtype=np.int64), 1
        counts = np.bincount(stream, minlength=base)
        counts[self._size] = 0  # that a document starts is never predicted
        starts = keys == self._size  # whether a run is one from a document's start
        ids = stream  # of the run of k tokens that ends here, its row among the keys
        tables: list[_Grams] = []
        for k in range(1, self._reach + 1):
            places = np.flatnonzero(depth >= k)  # where a run of k + 1 ends
            pairs = ids[places - 1] * base + stream[places]
            longer, first, rows, occurrences = np.unique(pairs, return_index=True, return_inverse=True, return_counts=True)
            if not len(longer):
                break
            different = np.bincount(ids[places[first]], minlength=len(keys))
            tables.append(_discounted(keys, contexts, np.where(starts, counts, different), shorter))
            shorter, keys, contexts = len(keys), longer, longer // base
            counts, starts = occurrences, depth[places[first]] == k
            ids = np.full(len(stream), -1)
            ids[places] = rows
        tables.append(_discounted(keys, contexts, counts, shorter))
        unigrams, *self._longer = tables
        self._p = unigrams.p + unigrams.rest[0] / self._size
        self.parameters = sum(len(table.keys) for table in tables)

    def _probabilities(self, stream: Ids) -> Numbers:
        base, depth = self._size + 1, self._depth(stream)
        ids = stream
        p: Numbers = self._p[stream]
        for k, table in enumerate(self._longer, start=1):
            places = np.flatnonzero(depth >= k)
            places = places[ids[places - 1] >= 0]
            contexts = ids[places - 1]
            keys = contexts * base + stream[places]
            rows = np.minimum(np.searchsorted(table.keys, keys), len(table.keys) - 1)
            found = table.keys[rows] == keys
            p[places] = np.where(found, table.p[rows], 0.0) + table.rest[contexts] * p[places]
            ids = np.full(len(stream), -1)
            ids[places[found]] = rows[found]
        return p

    def _depth(self, stream: Ids) -> Ids:
        """How far into its document each token is: 0 at the start, or where the stream starts within one."""
        places = np.arange(len(stream))
        return places - np.maximum.accumulate(np.where(stream == self._size, places, 0))


def suited(tokens: str, size: int, end: int | None = None) -> list[Unigram | NGram]:
    """The baselines for tokens of this kind, ``char`` or longer ones.

    Example:
        >>> [baseline.name for baseline in suited("char", size=65)], [baseline.name for baseline in suited("bpe", size=4000)]
        (['unigram', '5-gram'], ['unigram', '3-gram'])
    """
    return [Unigram(size, end), NGram(5 if tokens == "char" else 3, size, end)]


def _discounted(keys: Ids, contexts: Ids, counts: Ids, shorter: int) -> _Grams:
    """Probabilities of runs from their adjusted counts, and what the discounts leave after each of so many shorter runs."""
    discount = _discounts(counts)[np.minimum(counts, 3)]
    total, taken = (np.bincount(contexts, weights=weights, minlength=shorter) for weights in (counts, discount))
    rest = np.divide(taken, total, out=np.ones_like(total), where=total > 0)
    return _Grams(keys, (counts - discount) / np.maximum(total, 1)[contexts], rest)


def _discounts(counts: Ids) -> Numbers:
    """What is taken from a count of 0, 1, 2, and 3 or more."""
    n1, n2, n3, n4 = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) > 0:
        y = n1 / (n1 + 2 * n2)
        discounts = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        if (discounts[1:] > 0).all():
            return discounts
    return np.array([0.0, 0.5, 1.0, 1.5])  # KenLM's, where the counts are too few or too regular to tell
