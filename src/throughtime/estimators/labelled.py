"""Estimators of labelled sequences: one class, one number, or one tag a step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from throughtime.data.arrays import sequences_of
from throughtime.data.records import Dataset, Sequences
from throughtime.errors import DataError
from throughtime.estimators.base import Estimator, in_python
from throughtime.tasks.classify import Classify
from throughtime.tasks.inputs import NumericInputs
from throughtime.tasks.labelled import LabelledTask
from throughtime.tasks.regress import Regress
from throughtime.tasks.tag import Tag
from throughtime.train.fitted import Fitted

_L = TypeVar("_L", bound="LabelledEstimator")
_TAKES = {
    "words": {"words": "lists of words", "text": "str"},
    "tokens": {"text": "str"},
    "numbers": {"numeric": "arrays [T, F]"},
    "sound": {"sound": "paths of sound files"},
}
"""By kind of inputs of the fitted model, the kinds of sequences it takes, and what they are called."""


@dataclass(kw_only=True, eq=False, repr=False)
class LabelledEstimator(Estimator):
    """The common part of the estimators that learn from ``X`` and ``y``.

    ``X`` is n sequences of any lengths: a list of arrays ``[T, F]`` or ``[T]``, of DataFrames with a step per row, of str, of
    lists of words, or of ``pathlib.Path`` of sound files (once fitted, of str too); or an array ``[n, T, F]`` or ``[n, T]``.

    The arguments are those of :class:`Estimator`, and these:

    Args:
        bidirectional: also run from the end to the beginning.
        untied: weights of their own for every step (sequences of one length only).
        embeddings: word vectors to start from: a text file with a word and its numbers in each line.
        missing: what to do with NaN: ``error``, ``interpolate``, or ``mask``, which lets the model see that it is missing.

    Attributes:
        n_features_in_: features of a step, where sequences are numbers.
    """

    bidirectional: bool | None = None
    untied: bool = False
    embeddings: str | Path | None = None
    missing: Literal["error", "interpolate", "mask"] = "error"

    @in_python
    def fit(self: _L, X: Any, y: Any, groups: ArrayLike | None = None) -> _L:
        """Fit a model, from the beginning.

        Args:
            X: n sequences, 10 at least.
            y: n targets.
            groups: n values; sequences of one value are held out together or not at all.

        Returns:
            Itself.

        Raises:
            SettingsError: arguments of the constructor that cannot be.
            DataError: data that cannot be learned from, with the index of the first.
        """
        settings = self.settings()
        if y is None:
            raise DataError(f"{type(self).__name__} requires y to be passed, but the target y is None; give fit(X, y)")
        content = sequences_of(X, y, groups=groups, task=self.task, missing=settings.data.missing)  # type: ignore[arg-type]
        self._train(Dataset(self.task, content, f"{self.task} {len(content):,} sequences"), settings, **self._more(y))
        return self

    def _more(self, y: Any) -> dict[str, Any]:
        """What of the targets goes into the configuration."""
        return {}

    def _adopt(self, fitted: Fitted, config: dict[str, Any], result: dict[str, Any], history: list[dict[str, Any]]) -> None:
        super()._adopt(fitted, config, result, history)
        if isinstance(self._labelled.inputs, NumericInputs):
            self.n_features_in_ = len(self._labelled.inputs.scaler.features)
        elif hasattr(self, "n_features_in_"):
            del self.n_features_in_

    @property
    def _labelled(self) -> LabelledTask:
        task = self.fitted_.task
        assert isinstance(task, LabelledTask)
        return task

    def _read(self, X: Any) -> Sequences:
        """Sequences to predict."""
        check_is_fitted(self)
        kinds = self._kinds()
        if "words" in kinds and isinstance(X, list) and X and all(isinstance(x, list | tuple) and not x for x in X):
            return Sequences("words", [[] for _ in X])  # nothing in them says that they are words
        if "sound" in kinds and isinstance(X, list):
            X = [Path(x) if isinstance(x, str) else x for x in X]
        content = sequences_of(X, missing=self.fitted_.task.settings.data.missing)
        if content.kind not in kinds:
            held = next(names[content.kind] for names in _TAKES.values() if content.kind in names)
            raise DataError(f"X holds {held}, but the model was fitted on {' or '.join(kinds.values())}; give the same")
        if content.kind == "numeric" and (found := content.inputs[0].shape[1]) != self.n_features_in_:
            # The words of scikit-learn, whose own checks look for them.
            name, expected = type(self).__name__, self.n_features_in_
            raise DataError(f"X has {found} features, but {name} is expecting {expected} features as input")
        return content

    def _kinds(self) -> dict[str, str]:
        return _TAKES[self._labelled.inputs.kind]

    def __sklearn_tags__(self) -> Any:
        """Arrays of two and three axes, text; NaN unless ``missing`` is ``error``."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = tags.input_tags.string = True
        tags.input_tags.allow_nan = self.missing != "error"
        return tags


class _WithClasses(LabelledEstimator):
    """Classes as the user gave them: str, int, bool or whole float."""

    def _more(self, y: Any) -> dict[str, Any]:
        return {"classes": own_classes(y, by_step=self.task == "tag")}

    def _adopt(self, fitted: Fitted, config: dict[str, Any], result: dict[str, Any], history: list[dict[str, Any]]) -> None:
        super()._adopt(fitted, config, result, history)
        assert isinstance(fitted.task, Classify | Tag)
        names = fitted.task.labels.names
        self.classes_: NDArray[Any] = np.sort(np.array(config.get("classes", names)))
        self._columns = [names.index(str(value)) for value in self.classes_.tolist()]


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceClassifier(ClassifierMixin, _WithClasses):
    """One class for a sequence.

    The arguments are those of :class:`Estimator` and :class:`LabelledEstimator`, and these:

    Args:
        tokens: what one step of a text is: ``word`` (if not given), ``char`` or ``bpe``.
        bpe_size: number of BPE tokens.
        class_weight: ``balanced``: rare classes weigh more in the loss.

    Attributes:
        classes_: sorted, as given.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> X = [rng.normal(size=(rng.integers(3, 9), 2)) for _ in range(60)]
        >>> y = [int(x[0, 0] > 0) for x in X]
        >>> model = SequenceClassifier(hidden=8, epochs=2).fit(X, y)
        >>> model.classes_, model.predict_proba(X[:3]).shape
        (array([0, 1]), (3, 2))
    """

    task: ClassVar[str] = "classify"
    tokens: Literal["word", "char", "bpe"] | None = None
    bpe_size: int = 4000
    class_weight: Literal["balanced"] | None = None

    @in_python
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of every class, ``[n, C]``, in the order of ``classes_``.

        Raises:
            NotFittedError: before ``fit``.
            DataError: sequences of another kind than those it was fitted on.
        """
        content, task = self._read(X), self.fitted_.task
        assert isinstance(task, Classify)
        with torch.inference_mode():
            return task.probabilities(self.fitted_.network, task.encode(content))[:, self._columns]

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class of each sequence, ``[n]``, as it was given to ``fit``.

        Raises:
            NotFittedError: before ``fit``.
            DataError: sequences of another kind than those it was fitted on.
        """
        best = self.predict_proba(X).argmax(axis=1)
        chosen: NDArray[Any] = self.classes_[best]
        return chosen


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceTagger(_WithClasses):
    """One class for every step, of sequences of words or of numbers: ``y`` holds a list of tags for each.

    Once fitted on words, it takes str too: of words and signs, as :func:`throughtime.transforms.words` divides them.

    The arguments are those of :class:`Estimator` and :class:`LabelledEstimator`.

    Attributes:
        classes_: the tags, sorted, as given.

    Example:
        >>> X, y = [["the", "cat"], ["a", "dog", "barks"]] * 10, [["D", "N"], ["D", "N", "V"]] * 10
        >>> model = SequenceTagger(hidden=8, epochs=1).fit(X, y)
        >>> [len(tags) for tags in model.predict([["a", "cat"], []])]
        [2, 0]
    """

    task: ClassVar[str] = "tag"

    @in_python
    def predict_proba(self, X: Any) -> list[NDArray[np.float64]]:
        """Per sequence the probability of every tag at every step, ``[T, C]``, in the order of ``classes_``.

        Raises:
            NotFittedError: before ``fit``.
            DataError: sequences of another kind than those it was fitted on.
        """
        content, task = self._read(X), self.fitted_.task
        assert isinstance(task, Tag)
        encoded = task.encode(content)
        with torch.inference_mode():
            _, probabilities = task.predicted(self.fitted_.network, encoded)
        return np.split(probabilities[:, self._columns], encoded.inputs.ragged.offsets[1:-1])

    def predict(self, X: Any) -> list[list[Any]]:
        """The likeliest tag of every step, as it was given to ``fit``.

        Raises:
            NotFittedError: before ``fit``.
            DataError: sequences of another kind than those it was fitted on.
        """
        return [self.classes_[p.argmax(axis=1)].tolist() for p in self.predict_proba(X)]

    def score(self, X: Any, y: Any) -> float:
        """The share of steps that are right.

        Raises:
            DataError: as ``predict``, and tags that are not one for each step.
        """
        predicted = self.predict(X)
        _check_steps(y, [len(tags) for tags in predicted])
        pairs = [pair for tags, true in zip(predicted, y, strict=True) for pair in zip(tags, true, strict=True)]
        right = [said == true for said, true in pairs]
        return float(np.mean(right)) if right else float("nan")


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceRegressor(RegressorMixin, LabelledEstimator):
    """A number for a sequence, or, where ``y`` holds a list for each, a number for every step.

    The arguments are those of :class:`Estimator` and :class:`LabelledEstimator`, and these:

    Args:
        tokens: what one step of a text is: ``word`` (if not given), ``char`` or ``bpe``.
        bpe_size: number of BPE tokens.

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(40, 6, 2))
        >>> SequenceRegressor(hidden=8, epochs=2).fit(X, X.sum(axis=(1, 2))).predict(X[:3]).shape
        (3,)
    """

    task: ClassVar[str] = "regress"
    tokens: Literal["word", "char", "bpe"] | None = None
    bpe_size: int = 4000

    @in_python
    def predict(self, X: Any) -> NDArray[np.float64] | list[NDArray[np.float64]]:
        """The number of each sequence, ``[n]``, or per sequence those of its steps, ``[T]``.

        Raises:
            NotFittedError: before ``fit``.
            DataError: sequences of another kind than those it was fitted on.
        """
        content, task = self._read(X), self.fitted_.task
        assert isinstance(task, Regress)
        encoded = task.encode(content)
        with torch.inference_mode():
            predicted = task.predicted(self.fitted_.network, encoded)
        return np.split(predicted, encoded.inputs.ragged.offsets[1:-1]) if task.per_step else predicted

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """R2: the share of the variance that is explained; over all steps where every step has a number.

        Args:
            X: n sequences.
            y: the true numbers.
            sample_weight: ``[n]``; not for numbers of steps.

        Raises:
            DataError: as ``predict``, and numbers that are not one for each step.
        """
        from sklearn.metrics import r2_score

        predicted = self.predict(X)
        if isinstance(predicted, list):
            if sample_weight is not None:
                raise DataError("sample_weight is for a number for each sequence; leave it out")
            _check_steps(y, [len(numbers) for numbers in predicted])
            predicted, y = np.concatenate(predicted), np.concatenate([np.asarray(numbers) for numbers in y])
        return float(r2_score(y, predicted, sample_weight=sample_weight))


def own_classes(y: Any, *, by_step: bool) -> list[Any]:
    """The classes in ``y``, sorted, in the type that they have there.

    Args:
        y: a class for each sequence, or for each of its steps.
        by_step: which of the two.

    Raises:
        DataError: classes of different types, or numbers that are no classes.

    Example:
        >>> own_classes([[10, 9], [9]], by_step=True), own_classes([True, False], by_step=False)
        ([9, 10], [False, True])
    """
    flat = (tag for tags in y for tag in tags) if by_step else np.asarray(y, dtype=object).ravel()
    found: dict[tuple[type, Any], Any] = {(type(value), value): value for value in _decoded(flat)}
    values = list(found.values())
    first_of = {np.dtype(type(value)).kind: value for value in reversed(values)}
    if len(first_of) > 1:
        first, second = list(first_of.values())[:2]
        raise DataError(f"y holds {first!r} and {second!r}, which are of different types; expected classes of one type")
    fraction = next((value for value in values if value != np.floor(value)), None) if "f" in first_of else None
    if fraction is not None:
        # Its end is what scikit-learn says, whose own checks look for it.
        raise DataError(f"y holds {fraction}, a number, for which there is SequenceRegressor. Unknown label type: continuous")
    classes: list[Any] = np.unique(np.array(values)).tolist()
    return classes


def _decoded(values: Iterable[Any]) -> Iterable[Any]:
    return (value.decode() if isinstance(value, bytes) else value for value in values)


def _check_steps(y: Any, lengths: list[int]) -> None:
    """Raise unless there is a value for each step."""
    if len(y) != len(lengths):
        raise DataError(f"y holds {len(y):,} targets for {len(lengths):,} sequences; expected one for each")
    for index, (values, length) in enumerate(zip(y, lengths, strict=True)):
        if len(values) != length:
            raise DataError(f"y[{index}] has {len(values):,} values, X[{index}] {length:,} steps; expected one for each step")
