"""Features of whole sequences that do not tell the order of their steps, for classes and for numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import StandardScaler

from throughtime.data.records import Sequences
from throughtime.tasks.baselines._common import arrays, spread, standardised

_CHARACTERS = 5_000_000
_SEQUENCES = 50_000
_TERMS = 100_000
"""Bounds on what is fitted on, and on the terms of a text: a few seconds each."""

_TEXTS = 8192
"""Texts of which the terms are counted at a time."""

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_TOKEN = r"\w+|[^\w\s]"


def within_bounds(train: Sequences) -> NDArray[np.int64]:
    """The rows to fit on: all, or so many, evenly spread, that time stays bounded."""
    rows = spread(len(train), _SEQUENCES)
    if train.kind not in ("text", "words"):
        return rows
    length = sum(sum(map(len, x)) if train.kind == "words" else len(x) for x in (train.inputs[row] for row in rows))
    return rows if length <= _CHARACTERS else spread(len(train), len(rows) * _CHARACTERS // length)


def in_pieces(data: Sequences) -> Iterator[Sequences]:
    """Texts some at a time, since their terms take far more memory than they do; other sequences all at once."""
    size = _TEXTS if data.kind in ("text", "words") else max(len(data), 1)
    for start in range(0, len(data), size):
        yield data.take(range(start, min(start + size, len(data))))


class Features(Protocol):
    """Sequences as rows of numbers, dense or sparse: ``fit`` learns how, and both return ``[n, features]``."""

    def fit(self, train: Sequences) -> Any: ...
    def transform(self, data: Sequences) -> Any: ...


class Terms:
    """TF-IDF of texts: of runs of words, or of runs of 2 to 5 characters within words.

    Args:
        unit: ``words`` or ``characters``.
        longest: the longest run of words; 1 knows nothing of their order.

    Source:
        Joachims 1998, "Text categorization with support vector machines", for linear models on TF-IDF; scikit-learn's
        ``TfidfVectorizer``.
    """

    def __init__(self, unit: str, longest: int = 2) -> None:
        self.unit, self.longest = unit, longest

    def fit(self, train: Sequences) -> Any:
        """Learn the terms, and return the features ``[n, terms]`` (sparse) of the texts they were learned on.

        Raises:
            ValueError: no sequences of text, or only blank ones.
        """
        if train.kind not in ("text", "words"):
            raise ValueError(f"TF-IDF takes text or words, not {train.kind} sequences")
        common: dict[str, Any] = {"min_df": 2 if len(train) >= 1000 else 1, "max_features": _TERMS, "dtype": np.float32}
        if self.unit == "characters":
            self._vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **common)
        elif train.kind == "words":
            whole = {"preprocessor": _lower, "tokenizer": _same, "token_pattern": None}
            self._vectorizer = TfidfVectorizer(ngram_range=(1, self.longest), sublinear_tf=True, **whole, **common)
        else:
            self._vectorizer = TfidfVectorizer(ngram_range=(1, self.longest), sublinear_tf=True, token_pattern=_TOKEN, **common)
        texts = self._texts(train)
        if not any("".join(text).strip() for text in texts):
            raise ValueError("TF-IDF needs texts that are not all blank")
        return self._vectorizer.fit_transform(texts)

    def transform(self, data: Sequences) -> Any:
        """The features ``[n, terms]``, sparse."""
        return self._vectorizer.transform(self._texts(data))

    def _texts(self, data: Sequences) -> Iterable[Any]:
        joined = data.kind == "words" and self.unit == "characters"
        return [" ".join(text) for text in data.inputs] if joined else data.inputs


class Bag:
    """Of each channel its mean, deviation, extremes and quartiles over time, and the logarithm of the length; standardised."""

    def fit(self, train: Sequences) -> NDArray[np.float64]:
        """Learn the scale of the features, and return those ``[n, 7 F + 1]`` of the sequences it was learned on.

        Raises:
            ValueError: inputs that are no arrays ``[T, F]``, or not all of the same F.
        """
        features = _bags(train)
        self._scaler = StandardScaler().fit(features)
        return standardised(self._scaler, features)

    def transform(self, data: Sequences) -> NDArray[np.float64]:
        """The features ``[n, 7 F + 1]``; what is missing is as in the mean of the training data."""
        return standardised(self._scaler, _bags(data))


def _bags(data: Sequences) -> NDArray[np.float64]:
    return np.array([_bag(x) for x in arrays(data.inputs, "the bag of steps")])


def _bag(x: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(x):
        return np.append(np.full(7 * x.shape[1], np.nan), 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a channel of which everything is missing is NaN, as it should be
        quantile = np.nanquantile if np.isnan(x).any() else np.quantile
        parts = [np.nanmean(x, axis=0), np.nanstd(x, axis=0), np.ravel(quantile(x, _QUANTILES, axis=0)), [np.log1p(len(x))]]
    return np.concatenate(parts)


def _lower(words: list[str]) -> list[str]:
    return [word.lower() for word in words]


def _same(words: list[str]) -> list[str]:
    return words
