"""Baselines for tags of steps: of words from the word and its neighbours, of numbers from the step alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import chain

import numpy as np
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.preprocessing import StandardScaler

from throughtime.data.records import Kind, Sequences
from throughtime.tasks.baselines._common import Baseline, arrays, quietly, spread, standardised

Tags = list[list[str]]

_PASSES = 5
_WORK = 2e8
"""Words times tags times passes over the words: about 30 s of one core."""

_CELLS = 5e6
"""Steps times features that a step alone is fitted on."""


class MostFrequentTag(Baseline):
    """The tag that each word has most often in the training data.

    Example:
        >>> train = Sequences("words", [["the", "run"], ["run", "the", "dog"]], [["DET", "NOUN"], ["NOUN", "DET", "NOUN"]])
        >>> MostFrequentTag().fit(train).predict(Sequences("words", [["the", "cat"]]))
        [['DET', 'NOUN']]
    """

    name = "most frequent tag"
    description = "the tag a word has most often; for unknown words the one most frequent among words that occur once"
    order = "blind"

    def fit(self, train: Sequences) -> MostFrequentTag:
        """Count.

        Args:
            train: lists of words, with a tag for each word.
        """
        words, tags = list(chain.from_iterable(train.inputs)), list(chain.from_iterable(train.targets))
        best: dict[str, str] = {}
        # The most frequent first; of equal ones the one that comes first in the alphabet.
        for (word, tag), _ in sorted(Counter(zip(words, tags, strict=True)).items(), key=lambda item: (-item[1], item[0])):
            best.setdefault(word, tag)
        once = {word for word, count in Counter(words).items() if count == 1} or set(words)
        rare = Counter(tag for word, tag in zip(words, tags, strict=True) if word in once)
        self._tags, self._unknown = best, min(rare, key=lambda tag: (-rare[tag], tag))
        self.parameters = len(best) + 1
        return self

    def predict(self, data: Sequences) -> Tags:
        """For each sequence its T tags."""
        return [[self._tags.get(word, self._unknown) for word in words] for words in data.inputs]


class WordWindow(Baseline):
    """A linear model of the word, its beginning, end and shape, and the words up to two before and after.

    Words that occur once in training are known by their form only, so that the model learns what to make of unknown words.

    Source:
        The features of Ratnaparkhi 1996, "A maximum entropy model for part-of-speech tagging", without the tags before.
    """

    name = "window of words"
    description = "a linear model of the word, its beginning, end and shape, and the two words before and after"
    order = "window"

    def fit(self, train: Sequences) -> WordWindow:
        """Fit, on an evenly spread part where there are very many words.

        Args:
            train: lists of words, with a tag for each word, of at least two tags.

        Raises:
            ValueError: a single tag.
        """
        self._names = sorted(set(chain.from_iterable(train.targets)))
        if len(self._names) < 2:
            raise ValueError(f"the window of words needs at least two tags, found {len(self._names)}")
        words = sum(map(len, train.inputs))
        rows = spread(len(train), int(len(train) * _WORK / (words * len(self._names) * _PASSES)))
        self._tell_sample(len(rows), len(train), "sequences")
        train = train.take(rows)
        place = {name: number for number, name in enumerate(self._names)}
        self._counts = Counter(chain.from_iterable(train.inputs))
        self._columns: list[dict[str, int]] = [{} for _ in _TEMPLATES]
        for template, columns in zip(_TEMPLATES, self._columns, strict=True):
            for value in template.values(self._counts, self._counts):
                if value is not None:
                    columns.setdefault(value, len(columns))
        self._model = SGDClassifier(loss="modified_huber", alpha=1e-6, max_iter=_PASSES, tol=None, average=True, random_state=0)
        with quietly():
            self._model.fit(self._features(train), [place[tag] for tag in chain.from_iterable(train.targets)])
        self.parameters = self._model.coef_.size + self._model.intercept_.size
        return self

    def predict(self, data: Sequences) -> Tags:
        """For each sequence its T tags."""
        lengths = [len(words) for words in data.inputs]
        if not sum(lengths):
            return [[] for _ in lengths]
        numbers = iter(self._model.predict(self._features(data)))
        return [[self._names[next(numbers)] for _ in range(length)] for length in lengths]

    def _features(self, data: Sequences) -> csr_array:
        """A row of zeros and ones for each word: first by distinct word, then looked up for each neighbour."""
        distinct = Counter(chain.from_iterable(data.inputs))
        place = {word: number for number, word in enumerate(distinct)}
        border = len(place)
        # Two borders between sequences, so that no window reaches over them.
        padded = [border, border]
        for words in data.inputs:
            padded += [place[word] for word in words]
            padded += [border, border]
        tokens = np.array(padded)
        centres = np.flatnonzero(tokens != border)
        indices = np.empty((len(centres), sum(len(t.offsets) for t in _TEMPLATES) + 1), dtype=np.int32)
        width = column = 0
        for template, columns in zip(_TEMPLATES, self._columns, strict=True):
            values = template.values(distinct, self._counts)
            table = np.array([*(columns.get(v, -1) if v is not None else -1 for v in values), len(columns)])
            for offset in template.offsets:
                found = table[tokens[centres + offset]]
                indices[:, column] = np.where(found < 0, -1, found + width)
                width, column = width + len(columns) + 1, column + 1
        indices[:, column] = width  # a word with no feature else
        there = indices >= 0
        starts = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32)
        return csr_array((np.ones(starts[-1], dtype=np.float32), indices[there], starts), shape=(len(centres), width + 1))


class _Template:
    """A property of a word, and the neighbours of which it is looked at."""

    def __init__(self, of: Callable[[str], str], offsets: tuple[int, ...], rare: bool = True) -> None:
        self._of, self.offsets, self._rare = of, offsets, rare

    def values(self, words: Counter[str], known: Counter[str]) -> list[str | None]:
        """The property of each distinct word; ``None`` where it is only for words that occurred more than once."""
        return [self._of(word) if self._rare or known[word] > 1 else None for word in words]


def _shape(word: str) -> str:
    """Kinds of characters, repeats merged: ``McDonald's`` is ``XxXx'x``."""
    kinds = re.sub(r"[^\W\d_]", lambda letter: "X" if letter[0].isupper() else "x", re.sub(r"\d", "9", word))
    return re.sub(r"(.)\1+", r"\1", kinds)


_TEMPLATES = (
    _Template(str, (0,), rare=False),
    _Template(str.lower, (-2, -1, 0, 1, 2), rare=False),
    _Template(_shape, (-1, 0, 1)),
    *(_Template(lambda word, n=n: word[:n].lower(), (0,)) for n in (1, 2, 3)),  # type: ignore[misc]
    *(_Template(lambda word, n=n: word[-n:].lower(), (0,)) for n in (1, 2, 4)),  # type: ignore[misc]
    _Template(lambda word: word[-3:].lower(), (-1, 0, 1)),
)


class StepAlone(Baseline):
    """Each step's tag from the features of that step alone."""

    name = "step alone"
    description = "logistic regression on the features of a step, for its tag; sees no other step"
    order = "blind"

    def fit(self, train: Sequences) -> StepAlone:
        """Fit, on an evenly spread part where there are very many steps.

        Args:
            train: arrays ``[T, F]``, with T tags each, of at least two tags.

        Raises:
            ValueError: inputs that are no such arrays, or a single tag.
        """
        x, tags = np.concatenate(arrays(train.inputs, self.name)), list(chain.from_iterable(train.targets))
        rows = spread(len(x), int(_CELLS / x.shape[1]))
        self._tell_sample(len(rows), len(x), "steps")
        self._scaler = StandardScaler().fit(x[rows])
        self._model = LogisticRegression(max_iter=100, random_state=0)
        with quietly():
            self._model.fit(standardised(self._scaler, x[rows]), [tags[row] for row in rows])
        self.parameters = self._model.coef_.size + self._model.intercept_.size
        return self

    def predict(self, data: Sequences) -> Tags:
        """For each sequence its T tags."""
        steps = arrays(data.inputs, self.name)
        return [[str(tag) for tag in self._model.predict(standardised(self._scaler, x))] if len(x) else [] for x in steps]


def suited(kind: Kind) -> list[MostFrequentTag | WordWindow | StepAlone]:
    """The baselines for sequences of this kind.

    Example:
        >>> [baseline.name for baseline in suited("words")]
        ['most frequent tag', 'window of words']
    """
    return [MostFrequentTag(), WordWindow()] if kind == "words" else [StepAlone()]
