"""Scores of classes: one per sequence, or one (a tag) per step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from throughtime.tasks.metrics._scores import Scored
from throughtime.tasks.metrics._spans import looks_like_spans, spans


@dataclass(frozen=True)
class ClassScore:
    """How one class fares: a row of the per-class table.

    Attributes:
        name: the class.
        precision: of what was called so, the share that is; 0 if nothing was.
        recall: of what is, the share that was called so; 0 if nothing is.
        f1: ``2 hits / (called so + is)``; 0 if there is neither.
        support: how many are.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Confused:
    """Two classes of which the one was taken for the other."""

    truth: str
    predicted: str
    count: int


@dataclass(frozen=True)
class Classification(Scored):
    """Scores of classes; see :func:`classification`."""

    accuracy: float
    macro_f1: float
    log_loss: float
    per_class: list[ClassScore]
    confusion: NDArray[np.int64]


@dataclass(frozen=True)
class Tagging(Scored):
    """Scores of tags; see :func:`tagging`."""

    accuracy: float
    accuracy_unknown: float | None
    share_unknown: float | None
    macro_f1: float
    span_f1: float | None
    per_tag: list[ClassScore]
    confused: list[Confused]


def classification(truth: ArrayLike, proba: ArrayLike, names: Sequence[str]) -> Classification:
    """Score predicted probabilities of classes.

    Args:
        truth: ``[n]`` the true class of each, as its place in ``names``.
        proba: ``[n, C]`` probabilities; the predicted class is the most probable one, the first of equal ones.
        names: the C classes.

    Returns:
        ``accuracy``, the share of right ones; ``macro_f1``, the mean F1 of the classes that are true or predicted at least
        once; ``log_loss``, the mean of ``-ln p(true class)`` in nats, with p at least 2.2e-16; ``per_class``, C rows;
        ``confusion``, ``[C, C]`` counts, by true class and predicted class.

    Raises:
        ValueError: nothing to score, shapes that do not fit, a class outside ``names``, a probability that is not within 0 and
            1.

    Example:
        >>> result = classification([0, 1, 1], [[.9, .1], [.2, .8], [.6, .4]], ["ham", "spam"])
        >>> round(result.accuracy, 3), round(result.macro_f1, 3), round(result.log_loss, 3)
        (0.667, 0.667, 0.415)
        >>> result.confusion.tolist()
        [[1, 0], [1, 1]]

    Source:
        As scikit-learn's ``accuracy_score``, ``f1_score(average="macro")``, ``log_loss``, ``precision_recall_fscore_support``.
    """
    true, p = np.asarray(truth), np.asarray(proba, dtype=np.float64)
    if true.ndim != 1 or not len(true) or p.shape != (len(true), len(names)):
        raise ValueError(
            f"truth is {list(true.shape)} and proba {list(p.shape)}, expected [n] and [n, {len(names)}] with n above 0"
        )
    if not (np.issubdtype(true.dtype, np.integer) and (true >= 0).all() and (true < len(names)).all()):
        raise ValueError(f"truth holds {true.min()!r} to {true.max()!r}, expected whole numbers from 0 to {len(names) - 1}")
    wrong = ~((p >= 0) & (p <= 1 + 1e-6)).all(axis=1)
    if wrong.any():
        raise ValueError(f"proba row {int(wrong.argmax())} is {p[wrong.argmax()]}, expected numbers from 0 to 1")
    matrix = _confusion(true, p.argmax(axis=1), len(names))
    table = _table(matrix, names)
    likelihood = np.maximum(p[np.arange(len(true)), true], np.finfo(np.float64).eps)
    return Classification(_share(matrix), _macro_f1(matrix, table), float(-np.log(likelihood).mean()), table, matrix)


def tagging(
    truth: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    known: Sequence[Sequence[bool]] | None = None,
    *,
    pairs: int = 20,
) -> Tagging:
    """Score predicted tags.

    Args:
        truth: per sequence its T tags.
        predicted: as many.
        known: per sequence and step, whether its word occurs in the training data; ``None`` where there are no words.
        pairs: the most confused pairs to keep.

    Returns:
        ``accuracy``, the share of steps that are right; ``accuracy_unknown``, the same of words that are not known (``None`` if
        there are none); ``share_unknown``, their share; ``macro_f1``, the mean F1 of the tags that are true or predicted at
        least once; ``span_f1``, the F1 of all spans together, right if type, begin and end are (``None`` unless the tags are of
        a BIO kind, see :func:`spans`); ``per_tag``, by tag; ``confused``, the pairs confused most.

    Raises:
        ValueError: nothing to score, or sequences of different number or lengths.

    Example:
        >>> result = tagging([["DET", "NOUN"], ["VERB"]], [["DET", "VERB"], ["VERB"]], [[True, False], [True]])
        >>> round(result.accuracy, 3), result.accuracy_unknown, result.span_f1
        (0.667, 0.0, None)
        >>> result.confused
        [Confused(truth='NOUN', predicted='VERB', count=1)]

    Source:
        Spans as ``conlleval`` counts them (Tjong Kim Sang and Buchholz 2000).
    """
    lengths = [len(tags) for tags in truth]
    for what, other in (("predicted", predicted), ("known", known)):
        if other is not None and [len(row) for row in other] != lengths:
            found = f"{what} has {len(other)} sequences and {sum(map(len, other))} steps"
            raise ValueError(f"{found}, expected {len(truth)} of the same lengths as in truth, {sum(lengths)} steps")
    if not sum(lengths):
        raise ValueError("there is no step to score")
    true, called = list(chain.from_iterable(truth)), list(chain.from_iterable(predicted))
    names = sorted({*true, *called})
    place = {name: number for number, name in enumerate(names)}
    true_ids, called_ids = (np.array([place[tag] for tag in tags]) for tags in (true, called))
    matrix = _confusion(true_ids, called_ids, len(names))
    table = _table(matrix, names)
    accuracy_unknown = share_unknown = None
    if known is not None:
        unknown = ~np.fromiter(chain.from_iterable(known), dtype=bool, count=len(true))
        share_unknown = float(unknown.mean())
        accuracy_unknown = float((true_ids == called_ids)[unknown].mean()) if unknown.any() else None
    return Tagging(
        accuracy=_share(matrix),
        accuracy_unknown=accuracy_unknown,
        share_unknown=share_unknown,
        macro_f1=_macro_f1(matrix, table),
        span_f1=_span_f1(truth, predicted) if looks_like_spans(names) else None,
        per_tag=table,
        confused=_confused(matrix, names, pairs),
    )


def _confusion(true: NDArray[Any], called: NDArray[Any], classes: int) -> NDArray[np.int64]:
    return np.bincount(true * classes + called, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def _share(matrix: NDArray[np.int64]) -> float:
    return float(np.trace(matrix) / matrix.sum())


def _table(matrix: NDArray[np.int64], names: Sequence[str]) -> list[ClassScore]:
    hits, called, are = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    precision, recall, f1 = (hits / np.maximum(of, 1) for of in (called, are, (called + are) / 2))
    return [
        ClassScore(str(name), float(p), float(r), float(f), int(n))
        for name, p, r, f, n in zip(names, precision, recall, f1, are, strict=True)
    ]


def _macro_f1(matrix: NDArray[np.int64], table: list[ClassScore]) -> float:
    seen = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
    return float(np.mean([row.f1 for row, counts in zip(table, seen, strict=True) if counts]))


def _confused(matrix: NDArray[np.int64], names: Sequence[str], pairs: int) -> list[Confused]:
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:pairs]
    places = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [Confused(names[row], names[column], int(wrong[row, column])) for row, column in places if wrong[row, column]]


def _span_f1(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    hits = total = 0
    for true, called in zip(truth, predicted, strict=True):
        are, said = set(spans(true)), set(spans(called))
        hits += len(are & said)
        total += len(are) + len(said)
    return 2 * hits / total if total else 1.0
