"""Baselines for numbers: one for each sequence, or one for each of its steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler

from throughtime.data.records import Kind, Sequences
from throughtime.tasks.baselines._common import Baseline, arrays, spread, standardised
from throughtime.tasks.baselines._features import Bag, Features, Terms, in_pieces, within_bounds

Numbers = NDArray[np.float64] | list[NDArray[np.float64]]
"""One for each sequence, ``[n]``; or for each sequence those of its steps, ``[T]``."""

_ALPHAS = np.logspace(-2, 4, 7)
_CELLS = 20_000_000
"""Steps times features that are fitted on."""


class Mean(Baseline):
    """The mean of the training data, whatever the input.

    Example:
        >>> import numpy as np
        >>> train = Sequences("text", ["a", "b"], np.array([1.0, 2.0]))
        >>> Mean().fit(train).predict(train)
        array([1.5, 1.5])
    """

    name = "mean"
    description = "always the mean of the training data"

    def fit(self, train: Sequences) -> Mean:
        """Average.

        Args:
            train: with a number each, or an array ``[T]`` of numbers each.
        """
        self._by_step = isinstance(train.targets, list)
        self._mean = float(np.nanmean(np.concatenate(train.targets) if self._by_step else train.targets))
        self.parameters = 1
        return self

    def predict(self, data: Sequences) -> Numbers:
        """Numbers ``[n]``; or, if fitted on numbers for each step, a list of arrays ``[T]``."""
        if self._by_step:
            return [np.full(len(x), self._mean) for x in data.inputs]
        return np.full(len(data), self._mean)


class _Ridge(Baseline):
    """Ridge regression on features of whole sequences."""

    def _parts(self) -> tuple[Features, Any]:
        """The features, and the regression."""
        raise NotImplementedError

    def fit(self, train: Sequences) -> _Ridge:
        """Fit, on an evenly spread part where there are very many sequences.

        Args:
            train: with a number each.

        Raises:
            ValueError: sequences of a kind that this baseline does not read.
        """
        rows = within_bounds(train)
        self._tell_sample(len(rows), len(train), "sequences")
        train = train.take(rows)
        self._reader, self._model = self._parts()
        self._model.fit(self._reader.fit(train), train.targets)
        self.parameters = self._model.coef_.size + 1
        return self

    def predict(self, data: Sequences) -> NDArray[np.float64]:
        """Numbers ``[n]``."""
        if not len(data):
            return np.empty(0)
        said = [self._model.predict(self._reader.transform(piece)) for piece in in_pieces(data)]
        return np.concatenate(said, dtype=np.float64)


class TfidfRidge(_Ridge):
    """TF-IDF of words and of pairs of neighbouring words."""

    name = "TF-IDF of words"
    description = "ridge regression on how often words and pairs of neighbouring words occur"
    order = "window"

    def _parts(self) -> tuple[Features, Any]:
        return Terms("words"), Ridge(alpha=1.0, solver="sparse_cg", random_state=0)


class BagOfSteps(_Ridge):
    """Statistics over time of every channel."""

    name = "bag of steps"
    description = "ridge regression on mean, deviation, extremes and quartiles of every channel, and the length; blind to order"
    order = "blind"

    def _parts(self) -> tuple[Features, Any]:
        return Bag(), RidgeCV(alphas=_ALPHAS)


class StepAlone(Baseline):
    """Each step's number from the features of that step alone.

    Example:
        >>> import numpy as np
        >>> x = [np.arange(6.0).reshape(3, 2)]
        >>> train = Sequences("numeric", x, [2 * x[0][:, 1]])
        >>> StepAlone().fit(train).predict(train)[0].round(1).tolist()
        [2.0, 6.0, 10.0]
    """

    name = "step alone"
    description = "ridge regression on the features of a step, for its number; sees no other step"
    order = "blind"

    def fit(self, train: Sequences) -> StepAlone:
        """Fit, on an evenly spread part where there are very many steps.

        Args:
            train: arrays ``[T, F]``, with an array ``[T]`` of numbers each; steps without a number are not used.

        Raises:
            ValueError: inputs that are no such arrays.
        """
        x, y = np.concatenate(arrays(train.inputs, self.name)), np.concatenate(train.targets)
        there = np.flatnonzero(~np.isnan(y))
        rows = there[spread(len(there), _CELLS // x.shape[1])]
        self._tell_sample(len(rows), len(there), "steps")
        self._scaler = StandardScaler().fit(x[rows])
        self._model = RidgeCV(alphas=_ALPHAS).fit(standardised(self._scaler, x[rows]), y[rows])
        self.parameters = self._model.coef_.size + 1
        return self

    def predict(self, data: Sequences) -> list[NDArray[np.float64]]:
        """For each sequence its numbers ``[T]``."""
        steps = arrays(data.inputs, self.name)
        return [np.asarray(self._model.predict(standardised(self._scaler, x))) if len(x) else np.empty(0) for x in steps]


def suited(kind: Kind, by_step: bool = False) -> list[Mean | _Ridge | StepAlone]:
    """The baselines for sequences of this kind, with one number each or one for each step.

    Example:
        >>> [baseline.name for baseline in suited("numeric", by_step=True)]
        ['mean', 'step alone']
    """
    if by_step:
        return [Mean(), StepAlone()]
    return [Mean(), TfidfRidge() if kind in ("text", "words") else BagOfSteps()]
