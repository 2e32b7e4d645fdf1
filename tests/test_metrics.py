"""The metrics against scikit-learn, and against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import sklearn.metrics
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, precision_recall_fscore_support, r2_score

from throughtime.tasks.metrics import classification, forecasting, language, paired_interval, regression, spans, tagging

NAN = float("nan")


# --- classes


@pytest.mark.parametrize("classes", [2, 3, 11])
def test_classification_is_that_of_sklearn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    truth = rng.integers(classes - 1, size=200)  # the last class never occurs
    proba = rng.dirichlet(np.ones(classes), size=200)
    result = classification(truth, proba, [f"class {c}" for c in range(classes)])
    called, labels = proba.argmax(axis=1), np.arange(classes)
    assert result.accuracy == pytest.approx(accuracy_score(truth, called))
    assert result.macro_f1 == pytest.approx(f1_score(truth, called, average="macro"))
    assert result.log_loss == pytest.approx(sklearn.metrics.log_loss(truth, proba, labels=labels))
    assert (result.confusion == sklearn.metrics.confusion_matrix(truth, called, labels=labels)).all()
    table = precision_recall_fscore_support(truth, called, labels=labels, zero_division=0)
    np.testing.assert_allclose([[r.precision, r.recall, r.f1, r.support] for r in result.per_class], np.transpose(table))
    assert result.scores() == {"accuracy": result.accuracy, "macro_f1": result.macro_f1, "log_loss": result.log_loss}


def test_macro_f1_leaves_out_a_class_that_never_occurs() -> None:
    result = classification([0, 1], [[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]], ["a", "b", "c"])
    assert result.macro_f1 == 1.0
    assert result.per_class[2].f1 == 0.0


def test_log_loss_of_an_impossible_truth_is_large_but_finite() -> None:
    assert classification([0], [[0.0, 1.0]], ["a", "b"]).log_loss == pytest.approx(36.04, abs=0.01)


@pytest.mark.parametrize(
    ("truth", "proba", "message"),
    [
        ([], np.empty((0, 2)), "n above 0"),
        ([0, 1], [[0.5, 0.5]], "expected"),
        ([0], [[1.0]], r"\[n, 2\]"),
        ([2], [[0.5, 0.5]], "from 0 to 1"),
        ([-1], [[0.5, 0.5]], "from 0 to 1"),
        ([0.5], [[0.5, 0.5]], "whole numbers"),
        ([0, 0], [[0.5, 0.5], [NAN, 1.0]], "row 1"),
        ([0], [[3.0, -2.0]], "row 0"),
    ],
)
def test_classification_names_what_cannot_be(truth: list[float], proba: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification(truth, proba, ["a", "b"])


# --- tags


def test_tagging_is_that_of_sklearn() -> None:
    rng = np.random.default_rng(0)
    lengths = [3, 0, 1, 60]
    truth, called = ([list(rng.choice(["NOUN", "VERB", "O", "X"], n)) for n in lengths] for _ in range(2))
    known = [list(rng.random(n) < 0.7) for n in lengths]
    result = tagging(truth, called, known)
    flat_truth, flat_called = np.concatenate(truth), np.concatenate(called)
    unknown = ~np.concatenate(known).astype(bool)
    assert result.accuracy == pytest.approx(accuracy_score(flat_truth, flat_called))
    assert result.macro_f1 == pytest.approx(f1_score(flat_truth, flat_called, average="macro"))
    assert result.accuracy_unknown == pytest.approx(accuracy_score(flat_truth[unknown], flat_called[unknown]))
    assert result.share_unknown == pytest.approx(unknown.mean())
    assert result.span_f1 is None
    assert sum(pair.count for pair in result.confused) == sum(a != b for a, b in zip(flat_truth, flat_called, strict=True))
    assert [pair.count for pair in result.confused] == sorted((pair.count for pair in result.confused), reverse=True)
    assert [row.name for row in result.per_tag] == ["NOUN", "O", "VERB", "X"]
    assert len(tagging(truth, called, pairs=2).confused) == 2


def test_tagging_without_unknown_words_has_no_score_for_them() -> None:
    result = tagging([["A"]], [["A"]], [[True]])
    assert (result.accuracy_unknown, result.share_unknown) == (None, 0.0)
    assert tagging([["A"]], [["A"]]).scores() == {"accuracy": 1.0, "macro_f1": 1.0}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-A I-A O B-A", [("A", 0, 2), ("A", 3, 4)]),
        ("B-A B-A", [("A", 0, 1), ("A", 1, 2)]),  # IOB2: neighbours of one type
        ("I-A I-A B-A", [("A", 0, 2), ("A", 2, 3)]),  # IOB1: B only between neighbours
        ("O I-A I-B", [("A", 1, 2), ("B", 2, 3)]),  # malformed: I starts a span
        ("B-A I-B", [("A", 0, 1), ("B", 1, 2)]),  # malformed: I of another type
        ("S-A B-A I-A E-A S-B", [("A", 0, 1), ("A", 1, 4), ("B", 4, 5)]),  # IOBES
        ("B-A E-A I-A", [("A", 0, 2), ("A", 2, 3)]),  # malformed: I after an end
        ("U-A B-A L-A O", [("A", 0, 1), ("A", 1, 3)]),  # BILOU
        ("B-A M-A E-A", [("A", 0, 3)]),  # BMES
        ("B-PER-X I-PER-X", [("PER-X", 0, 2)]),  # a hyphen within the type
        ("B I O I", [("", 0, 2), ("", 3, 4)]),
    ],
)
def test_spans(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert spans(tags.split()) == expected


@pytest.mark.parametrize(
    ("truth", "predicted", "f1"),
    [
        ("B-A I-A O B-B", "B-A I-A O B-B", 1.0),
        ("B-A I-A O B-B", "B-A O O B-B", 0.5),  # 1 of 2 and 1 of 2
        ("B-A I-A O B-B", "I-A I-A O O", 2 / 3),  # the same span though written as IOB1
        ("O O", "B-A O", 0.0),
        ("B-A I-A", "B-B I-B", 0.0),
    ],
)
def test_span_f1(truth: str, predicted: str, f1: float) -> None:
    assert tagging([truth.split(), []], [predicted.split(), []]).span_f1 == pytest.approx(f1)


def test_spans_do_not_cross_sequences() -> None:
    assert tagging([["B-A"], ["I-A"]], [["B-A"], ["B-A"]]).span_f1 == 1.0


@pytest.mark.parametrize("tags", [["O"], ["NOUN", "B-A"], ["B", "E"], ["I"], ["-LRB-", "O"]])
def test_other_tags_have_no_spans(tags: list[str]) -> None:
    assert tagging([tags], [tags]).span_f1 is None


@pytest.mark.parametrize(
    ("truth", "predicted", "known"),
    [([["A"]], [], None), ([["A"]], [["A", "B"]], None), ([["A"]], [["A"]], [[]]), ([[]], [[]], None), ([], [], None)],
)
def test_tagging_names_what_cannot_be(
    truth: Sequence[list[str]], predicted: Sequence[list[str]], known: Sequence[list[bool]] | None
) -> None:
    with pytest.raises(ValueError, match=r"expected|no step"):
        tagging(truth, predicted, known)


# --- numbers


def test_regression_is_that_of_sklearn() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.normal(size=(2, 50))
    result = regression(truth, guess)
    assert result.mae == pytest.approx(mean_absolute_error(truth, guess))
    assert result.rmse == pytest.approx(sklearn.metrics.root_mean_squared_error(truth, guess))
    assert result.r2 == pytest.approx(r2_score(truth, guess))


def test_r2_of_a_constant_is_undefined() -> None:
    assert regression([0.1] * 3, [1.0, 2.0, 3.0]).r2 is None
    assert set(regression([1.0], [1.0]).scores()) == {"mae", "rmse"}


@pytest.mark.parametrize(("truth", "guess"), [([], []), ([1.0], [1.0, 2.0]), ([NAN], [1.0]), ([1.0], [math.inf])])
def test_regression_names_what_cannot_be(truth: list[float], guess: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected|finite"):
        regression(truth, guess)


def test_forecasting_by_hand() -> None:
    truth = [[10.0, NAN, 0.0], [2.0, 4.0, 6.0]]
    guess = [[8.0, NAN, 0.0], [3.0, 4.0, 2.0]]
    result = forecasting(truth, guess, scale=[4.0, 0.5], lower=[[8, 0, 1], [2, 5, 0]], upper=[[12, 0, 2], [3, 6, 9]])
    assert result.mae == pytest.approx((2 + 0 + 1 + 0 + 4) / 5)
    assert result.rmse == pytest.approx(math.sqrt((4 + 0 + 1 + 0 + 16) / 5))
    assert result.mase == pytest.approx((2 / 4 + 0 + 1 / 0.5 + 0 + 4 / 0.5) / 5)
    assert result.smape == pytest.approx(200 * (2 / 18 + 0 + 1 / 5 + 0 + 4 / 8) / 5)
    assert result.coverage == pytest.approx(3 / 5)
    np.testing.assert_allclose(result.per_step_mae, [1.5, 0.0, 2.0])
    assert set(result.scores()) == {"mae", "rmse", "mase", "smape", "coverage"}


def test_mase_leaves_out_windows_without_a_scale() -> None:
    truth, guess = [[1.0], [1.0], [1.0]], [[2.0], [4.0], [9.0]]
    assert forecasting(truth, guess, scale=[2.0, 0.0, NAN]).mase == 0.5
    assert forecasting(truth, guess, scale=[0.0, 0.0, NAN]).mase is None


def test_smape_runs_to_200() -> None:
    assert forecasting([[1.0, -3.0]], [[-1.0, 0.0]], scale=[1.0]).smape == 200.0


def test_a_step_without_truth_has_no_error() -> None:
    assert np.isnan(forecasting([[NAN, 1.0]], [[1.0, 1.0]], scale=[1.0]).per_step_mae).tolist() == [True, False]


@pytest.mark.parametrize(
    ("truth", "guess", "scale", "bounds", "message"),
    [
        ([1.0], [1.0], [1.0], {}, "expected"),
        ([[1.0]], [[1.0, 2.0]], [1.0], {}, "expected"),
        ([[1.0]], [[1.0]], [1.0, 2.0], {}, "expected"),
        ([[NAN]], [[1.0]], [1.0], {}, "no true value"),
        ([[1.0]], [[NAN]], [1.0], {}, "finite"),
        ([[1.0]], [[1.0]], [1.0], {"lower": [[0.0]]}, "one end"),
        ([[1.0]], [[1.0]], [1.0], {"lower": [[0.0]], "upper": [2.0]}, "upper"),
    ],
)
def test_forecasting_names_what_cannot_be(
    truth: object, guess: object, scale: list[float], bounds: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        forecasting(truth, guess, scale, **bounds)  # type: ignore[arg-type]


def test_language_by_hand() -> None:
    # Two documents of 3 characters, each character and each end with probability 1/2.
    by_character = language(nats=8 * math.log(2), tokens=8, characters=6, documents=2)
    assert by_character.nats_per_token == by_character.nats_per_character == pytest.approx(math.log(2))
    assert by_character.bits_per_character == pytest.approx(1.0)
    assert by_character.perplexity == pytest.approx(2.0)
    # The same likelihood by longer tokens: per character nothing changes.
    by_piece = language(nats=8 * math.log(2), tokens=4, characters=6, documents=2)
    assert by_piece.bits_per_character == pytest.approx(1.0)
    assert by_piece.perplexity == pytest.approx(4.0)
    assert language(1e9, 1, 1).perplexity == math.inf
    with pytest.raises(ValueError, match="expected some"):
        language(0.0, 0, 0)


# --- intervals


def test_interval_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(0.3, 1.0, size=2000)
    low, high = paired_interval(values)
    error = values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    narrow = paired_interval(values, level=0.5)
    assert low < narrow[0] < values.mean() < narrow[1] < high
    assert paired_interval(values, seed=3) == paired_interval(values, seed=3) != (low, high)


def test_blocks_widen_the_interval_of_dependent_differences() -> None:
    by_block = np.random.default_rng(2).normal(size=100)
    values, blocks = np.repeat(by_block, 25), np.repeat(np.arange(100), 25)
    single, blocked = paired_interval(values), paired_interval(values, blocks)
    assert blocked[1] - blocked[0] == pytest.approx(5 * (single[1] - single[0]), rel=0.1)
    np.testing.assert_allclose(blocked, paired_interval(by_block))


def test_blocks_of_different_sizes_weigh_by_size() -> None:
    low, high = paired_interval([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"], level=0.9)
    assert (low, high) == (0.0, 1.0)


def test_many_differences_are_joined_first() -> None:
    values = np.random.default_rng(3).normal(size=50_001)
    low, high = paired_interval(values, resamples=400)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(len(values)), rel=0.15)
    assert low < values.mean() < high


def test_one_block_tells_nothing() -> None:
    assert paired_interval([1.0, 2.0], ["a", "a"]) == (-math.inf, math.inf)


@pytest.mark.parametrize(("values", "blocks"), [([], None), ([NAN], None), ([[1.0]], None), ([1.0, 2.0], [1])])
def test_interval_names_what_cannot_be(values: object, blocks: list[int] | None) -> None:
    with pytest.raises(ValueError, match="expected"):
        paired_interval(values, blocks)  # type: ignore[arg-type]
