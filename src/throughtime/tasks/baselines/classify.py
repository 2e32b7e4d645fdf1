"""Baselines for classes of sequences. All of them are blind to order, but for pairs of neighbouring words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from throughtime.data.records import Kind, Sequences
from throughtime.tasks.baselines._common import Baseline, quietly
from throughtime.tasks.baselines._features import Bag, Features, Terms, in_pieces, within_bounds

_WORK = 4e9
"""Non-zero features times classes times iterations: about 8 s of one core."""


class Majority(Baseline):
    """The shares of the classes in the training data, whatever the input.

    Example:
        >>> train = Sequences("text", ["a", "b", "c"], ["yes", "no", "yes"])
        >>> Majority().fit(train, ["no", "yes"]).predict(train).round(2)[0].tolist()
        [0.33, 0.67]
    """

    name = "majority"
    description = "always the most frequent class"

    def fit(self, train: Sequences, names: Sequence[str]) -> Majority:
        """Count.

        Args:
            train: with a class name each.
            names: the C classes, in the order that ``predict`` is to use.
        """
        self._shares = np.bincount(_ids(train, names), minlength=len(names)) / len(train)
        self.parameters = len(names)
        return self

    def predict(self, data: Sequences) -> NDArray[np.float64]:
        """Probabilities ``[n, C]``."""
        return np.tile(self._shares, (len(data), 1))


class _Logistic(Baseline):
    """Logistic regression on features of whole sequences.

    Args:
        balanced: whether classes weigh equally, however rare; else each sequence does.
    """

    _strength = 1.0

    def __init__(self, balanced: bool = False) -> None:
        self._balanced = balanced

    def _features(self) -> Features:
        raise NotImplementedError

    def fit(self, train: Sequences, names: Sequence[str]) -> _Logistic:
        """Fit, on an evenly spread part where there are very many sequences.

        Args:
            train: with a class name each, of at least two classes.
            names: the C classes, in the order that ``predict`` is to use.

        Raises:
            ValueError: sequences of a kind that this baseline does not read, or a single class.
        """
        rows = within_bounds(train)
        self._tell_sample(len(rows), len(train), "sequences")
        train = train.take(rows)
        self._classes, self._reader = len(names), self._features()
        x = self._reader.fit(train)
        steps = int(np.clip(_WORK / (getattr(x, "nnz", x.size) * self._classes + 1), 20, 100))
        weight = "balanced" if self._balanced else None
        self._model = LogisticRegression(C=self._strength, max_iter=steps, class_weight=weight, random_state=0)
        with quietly():
            self._model.fit(x, _ids(train, names))
        self.parameters = self._model.coef_.size + self._model.intercept_.size
        return self

    def predict(self, data: Sequences) -> NDArray[np.float64]:
        """Probabilities ``[n, C]``; 0 for a class that did not occur in training."""
        proba = np.zeros((len(data), self._classes))
        if len(data):
            said = [self._model.predict_proba(self._reader.transform(piece)) for piece in in_pieces(data)]
            proba[:, self._model.classes_] = np.concatenate(said)
        return proba


class BagOfWords(_Logistic):
    """TF-IDF of single words: the same for every order of the same words."""

    name = "bag of words"
    description = "logistic regression on how often each word occurs; blind to order"
    order = "blind"
    _strength = 3.0

    def _features(self) -> Features:
        return Terms("words", longest=1)


class TfidfWords(_Logistic):
    """TF-IDF of words and of pairs of neighbouring words."""

    name = "TF-IDF of words"
    description = "logistic regression on how often words and pairs of neighbouring words occur"
    order = "window"
    _strength = 3.0  # the best of 1, 3 and 10 on the development part of EWT's genres

    def _features(self) -> Features:
        return Terms("words")


class TfidfCharacters(_Logistic):
    """TF-IDF of runs of 2 to 5 characters within words."""

    name = "TF-IDF of characters"
    description = "logistic regression on how often runs of 2 to 5 characters within words occur; blind to the order of words"
    order = "blind"
    _strength = 3.0

    def _features(self) -> Features:
        return Terms("characters")


class BagOfSteps(_Logistic):
    """Statistics over time of every channel."""

    name = "bag of steps"
    description = (
        "logistic regression on mean, deviation, extremes and quartiles of every channel, and the length; blind to order"
    )
    order = "blind"

    def _features(self) -> Features:
        return Bag()


def suited(kind: Kind, balanced: bool = False) -> list[Majority | _Logistic]:
    """The baselines for sequences of this kind; sound as arrays ``[T, F]`` of features is to be scored as ``numeric``.

    Example:
        >>> [baseline.name for baseline in suited("text")]
        ['majority', 'bag of words', 'TF-IDF of words', 'TF-IDF of characters']
    """
    if kind in ("text", "words"):
        return [Majority(), BagOfWords(balanced), TfidfWords(balanced), TfidfCharacters(balanced)]
    return [Majority(), BagOfSteps(balanced)]


def _ids(data: Sequences, names: Sequence[str]) -> NDArray[np.int64]:
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[name] for name in data.targets], dtype=np.int64)
