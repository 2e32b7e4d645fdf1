"""The estimators keep scikit-learn's conventions, on sequences of different lengths, and are what ``throughtime fit`` makes."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

from throughtime.errors import DataError, RunError, SettingsError
from throughtime.estimators import (
    Estimator,
    Forecaster,
    LanguageModel,
    SequenceClassifier,
    SequenceRegressor,
    SequenceTagger,
    load,
)
from throughtime.settings import SECTIONS
from throughtime.train.fitted import Fitted

KINDS: list[type[Estimator]] = [SequenceClassifier, SequenceTagger, SequenceRegressor, Forecaster, LanguageModel]
SMALL: dict[str, Any] = {"hidden": 8, "epochs": 8, "lr": 0.05, "dropout": 0.0, "batch": 8}
QUICK: dict[str, Any] = {"hidden": 4, "epochs": 1}

random = np.random.default_rng(0)
SIGNS = [int(sign) for sign in random.integers(0, 2, 60)]
ARRAYS = [
    random.normal(4 * sign - 2, 1, size=(int(length), 2)) for sign, length in zip(SIGNS, random.integers(1, 9, 60), strict=True)
]
SUMS = [float(array.sum()) for array in ARRAYS]
TEXTS = ["good", "very good indeed", "bad", "not bad at all", "so bad", "all good"] * 8
MOODS = ["+", "+", "-", "-", "-", "+"] * 8
WORDS = [["the", "cat"], ["a", "dog", "barks"], ["cat"], []] * 6
TAGS = [["D", "N"], ["D", "N", "V"], ["N"], []] * 6
WAVE = np.sin(np.arange(90) / 2)
NAMES = ["anna", "hanna", "nina", "mina", "ina", "lina", "lena", "elena", "ann"] * 12
DATA: dict[type[Estimator], tuple[Any, ...]] = {
    SequenceClassifier: (ARRAYS, SIGNS),
    SequenceTagger: (WORDS, TAGS),
    SequenceRegressor: (ARRAYS, SUMS),
    Forecaster: ([WAVE, 3 * WAVE[:70]],),
    LanguageModel: (NAMES,),
}


def quick(kind: type[Estimator]) -> Any:
    options = {"horizon": 3, "season": 12} if kind is Forecaster else {}
    return kind(**QUICK, **options)


def outcome(model: Any, kind: type[Estimator]) -> Any:
    """Everything the model says, as something to compare to the bit."""
    if kind is LanguageModel:
        return model.score(NAMES), model.generate("a", 20, seed=3)
    said = model.predict(DATA[kind][0]) if kind is not SequenceClassifier else model.predict_proba(ARRAYS)
    return json.dumps(said, default=lambda array: array.tolist())


# scikit-learn's own checks. They give [n, F] as X, which here is n sequences of F steps and one feature.
WORDING = "the error says so in words of its own"
STEPS = "an array [n, T] is n sequences of T steps with one feature each"
UNMET = {
    "check_n_features_in": STEPS,
    "check_n_features_in_after_fitting": STEPS,
    "check_complex_data": WORDING,
    "check_estimators_empty_data_messages": WORDING,
    "check_estimators_nan_inf": WORDING,
    "check_estimator_sparse_array": WORDING,
    "check_estimator_sparse_matrix": WORDING,
    "check_fit2d_1sample": WORDING,
    "check_fit2d_predict1d": WORDING,
    "check_classifier_data_not_an_array": "what has no items is no list of sequences",
    "check_regressor_data_not_an_array": "what has no items is no list of sequences",
    "check_supervised_y_2d": "a column of targets is taken without a warning: nothing is ever printed",
    "check_class_weight_classifiers": "class_weight is balanced or nothing, as for throughtime fit",
    "check_classifiers_train": f"{STEPS}: they may be of another number when predicting",
    "check_regressors_train": "one epoch is too little for its score",
}
ELSEWHERE = {
    "check_methods_subset_invariance": "holds to the rounding of single precision: test_forms_of_sequences",
    "check_array_api_input": "needs an environment variable",
}


def checks_of_scikit_learn() -> Iterator[Any]:
    for estimator in (SequenceClassifier(**QUICK), SequenceRegressor(**QUICK)):
        for instance, check in estimator_checks_generator(estimator):
            name = check.func.__name__
            if name not in ELSEWHERE:
                marks = [pytest.mark.xfail(strict=True, reason=UNMET[name])] if name in UNMET else []
                yield pytest.param(instance, check, marks=marks, id=f"{type(estimator).__name__}-{name}")


@pytest.mark.parametrize(("estimator", "check"), list(checks_of_scikit_learn()))
def test_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_are_settings(kind: type[Estimator]) -> None:
    fields = {field.name: field for section in SECTIONS.values() for field in dataclasses.fields(section)}
    for name, value in kind().get_params().items():
        assert value == fields[name].default, name
    estimator = quick(kind)
    assert clone(estimator).get_params() == estimator.get_params()
    assert repr(estimator).startswith(kind.__name__ + "(epochs=1, hidden=4")
    assert estimator.set_params(hidden=7) is estimator
    assert estimator.settings().model.hidden == 7


@pytest.mark.parametrize("kind", KINDS)
def test_fit_is_a_function_of_data_and_seed(kind: type[Estimator], capfd: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    estimator = quick(kind)
    before, state = estimator.get_params(), torch.get_rng_state()
    numbers = np.random.get_state()[1]
    assert estimator.fit(*DATA[kind]) is estimator
    first = outcome(estimator, kind)
    assert outcome(estimator.fit(*DATA[kind]), kind) == first
    assert outcome(clone(estimator).fit(*DATA[kind]), kind) == first
    assert outcome(clone(estimator).set_params(seed=1).fit(*DATA[kind]), kind) != first
    assert estimator.get_params() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numbers)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    assert estimator.warnings_ == []
    assert [record["best"] for record in estimator.history_].count(True) >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_and_run_directories_give_it_back(kind: type[Estimator], tmp_path: Path) -> None:
    estimator = quick(kind)
    again = pickle.loads(pickle.dumps(estimator))
    assert again.get_params() == estimator.get_params()
    with pytest.raises(NotFittedError):
        again.save(tmp_path / "none")
    with pytest.raises(NotFittedError):
        again.score(*DATA[kind])
    estimator.fit(*DATA[kind])
    first = outcome(estimator, kind)
    assert outcome(pickle.loads(pickle.dumps(estimator)), kind) == first
    estimator.save(tmp_path / "run")
    loaded: Any = load(tmp_path / "run")
    assert type(loaded) is kind
    assert loaded.get_params() == estimator.get_params()
    assert outcome(loaded, kind) == first
    assert loaded.history_ == estimator.history_
    assert outcome(clone(loaded).fit(*DATA[kind]), kind) == first
    with pytest.raises(RunError, match="holds a run"):
        estimator.save(tmp_path / "run")
    loaded.save(str(tmp_path / "run"), overwrite=True)
    assert outcome(load(tmp_path / "run"), kind) == first


def test_a_saved_estimator_is_a_run_like_any_other(tmp_path: Path) -> None:
    from throughtime.report import write_report
    from throughtime.train.fit import resume

    model = SequenceClassifier(**QUICK).fit(TEXTS, MOODS)
    model.save(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json", "manifest.json", "metrics.jsonl", "model.safetensors", "result.json", "transforms.json",
    }  # fmt: skip
    assert resume(tmp_path / "run") is None
    assert "<span>SequenceClassifier(epochs=1,</span> <span>hidden=4)</span>" in write_report(tmp_path / "run").read_text()
    (tmp_path / "more.csv").write_text("X,y\nvery good,+\nso bad,-\n")
    fitted = Fitted.load(tmp_path / "run")
    fitted.task.settings = fitted.task.settings.replace(text="X", target="y")
    table = fitted.predict(fitted.read(tmp_path / "more.csv", with_target=False).content)
    assert table["predicted"] == model.predict(["very good", "so bad"]).tolist()


def test_load_of_a_run_of_the_command(tmp_path: Path) -> None:
    from throughtime.settings import Settings
    from throughtime.train.fit import fit

    table = tmp_path / "moods.csv"
    table.write_text("text,mood\n" + "".join(f"{text},{mood}\n" for text, mood in zip(TEXTS, MOODS, strict=True)))
    fit(table, Settings.of({**QUICK, "cell": "lstm", "baselines": False, "time_budget": "1m"}), tmp_path / "run")
    model: Any = load(tmp_path / "run")
    assert repr(model) == "SequenceClassifier(cell='lstm', epochs=1, hidden=4, time_budget=60.0)"
    assert model.classes_.tolist() == ["+", "-"]
    fitted = Fitted.load(tmp_path / "run")
    assert model.predict(TEXTS).tolist() == fitted.predict(fitted.read(table, with_target=True).content)["predicted"]
    assert clone(model).fit(TEXTS, MOODS).fitted_.task.settings.model == fitted.task.settings.model


def test_load_of_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run directory: .*none does not exist"):
        load(tmp_path / "none")


def test_arguments_are_checked_all_at_once() -> None:
    wrong = SequenceClassifier(cell="lstmm", hidden=0, optimizer="adamm", init="orto", class_weight="equal")  # type: ignore[arg-type]
    with pytest.raises(SettingsError) as caught:
        wrong.fit(ARRAYS, SIGNS)
    message = str(caught.value)
    assert message.startswith("5 arguments are wrong: ")
    for part in ("did you mean lstm?", "hidden is 0", "did you mean Adam?", "init is 'orto'", "expected balanced"):
        assert part in message
    with pytest.raises(SettingsError, match=r"^lr is -1, expected a number above 0$"):
        SequenceRegressor(lr=-1).fit(ARRAYS, SUMS)
    with pytest.raises(ValueError, match="Invalid parameter 'hiden'"):
        SequenceTagger().set_params(hiden=3)
    with pytest.raises(TypeError, match="hiden"):
        SequenceTagger(hiden=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (SIGNS, [0, 1]),
        ([bool(sign) for sign in SIGNS], [False, True]),
        ([10 - sign for sign in SIGNS], [9, 10]),
        (["ab"[sign] for sign in SIGNS], ["a", "b"]),
        (np.array(SIGNS, dtype=np.int8) - 1, [-1, 0]),
        (np.array(SIGNS, dtype=float), [0.0, 1.0]),
        (pl.Series(["9", "10"]).gather(SIGNS), ["10", "9"]),
        (np.array(SIGNS)[:, None], [0, 1]),
    ],
)
def test_classes_come_back_as_they_were_given(y: Any, classes: list[Any], tmp_path: Path) -> None:
    model = SequenceClassifier(**SMALL).fit(ARRAYS, y)
    assert model.classes_.tolist() == classes
    assert {type(value) for value in model.classes_.tolist()} == {type(classes[0])}
    assert model.score(ARRAYS, np.ravel(np.asarray(y))) > 0.9
    probabilities = model.predict_proba(ARRAYS)
    assert probabilities.shape == (60, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    model.save(tmp_path / "run")
    loaded: Any = load(tmp_path / "run")
    assert loaded.classes_.tolist() == classes
    assert loaded.predict(ARRAYS).tolist() == model.predict(ARRAYS).tolist()


CUBE = np.random.default_rng(1).normal(size=(40, 5, 3))
HALVES = [0, 1] * 20


@pytest.mark.parametrize(
    ("X", "features"),
    [
        (CUBE, 3),
        (CUBE[:, :, 0], 1),
        (list(CUBE), 3),
        ([array[: 1 + row % 5] for row, array in enumerate(CUBE)], 3),
        ([array[:, 0].tolist() for array in CUBE], 1),
        ([pl.DataFrame({"u": array[:, 0], "v": array[:, 1]}) for array in CUBE], 2),
        ([f"word{row}" for row in range(39)] + [""], None),
        (pl.Series([f"word{row % 3} and" for row in range(40)]), None),
        ([["a"] * (row % 3) for row in range(40)], None),
    ],
)
def test_forms_of_sequences(X: Any, features: int | None) -> None:
    model = SequenceClassifier(**QUICK).fit(X, HALVES)
    assert getattr(model, "n_features_in_", None) == features
    some = X[:7]
    np.testing.assert_allclose(model.predict_proba(some), model.predict_proba(X)[:7], atol=1e-6)
    assert SequenceRegressor(**QUICK).fit(X, HALVES).predict(some).shape == (7,)  # type: ignore[union-attr]


def test_lengths_of_nothing_and_one() -> None:
    model = SequenceTagger(**SMALL).fit(WORDS, TAGS)
    assert model.predict([["the"], [], ["the", "cat"]]) == [["D"], [], ["D", "N"]]
    assert [p.shape for p in model.predict_proba([["the"], []])] == [(1, 3), (0, 3)]
    assert model.score(WORDS, TAGS) == 1
    with pytest.raises(DataError, match=r"X\[0\] has the shape \(0, 2\)"):
        SequenceClassifier(**QUICK).fit([np.empty((0, 2)), *ARRAYS[1:]], SIGNS)


@pytest.mark.parametrize("X", [[""], ["", ""], [[]]])
def test_nothing_but_sequences_of_length_0(X: Any) -> None:
    model = SequenceClassifier(**QUICK).fit(TEXTS, MOODS)
    assert len(model.predict(X)) == len(X)


def test_tags_and_numbers_of_steps() -> None:
    numbers = [array - np.mean(array) for array in ARRAYS]
    above = [(array[:, 0] > 0).tolist() for array in numbers]
    tagger = SequenceTagger(**SMALL).fit(numbers, above)
    assert tagger.classes_.tolist() == [False, True]
    assert tagger.n_features_in_ == 2
    said = tagger.predict(numbers[:2])
    assert [type(tag) for tag in said[0]] == [bool] * len(numbers[0])
    assert tagger.score(numbers, above) > 0.9
    regressor = SequenceRegressor(**SMALL).fit(numbers, [array[:, 0] for array in numbers])
    predicted = regressor.predict(numbers)
    assert [len(p) for p in predicted] == [len(array) for array in numbers]
    assert regressor.score(numbers, [array[:, 0] for array in numbers]) > 0.8
    with pytest.raises(DataError, match=r"y\[1\] has 1 values, X\[1\] \d steps"):
        regressor.score(numbers[:2], [numbers[0][:, 0], [1.0]])
    with pytest.raises(DataError, match="1 targets for 2 sequences"):
        tagger.score(numbers[:2], above[:1])


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (ARRAYS, [1] * 60, "a single class, '1'"),
        (ARRAYS, SIGNS[1:], "59 targets for 60 sequences"),
        (ARRAYS, None, "requires y to be passed"),
        (ARRAYS, [0.5, 1.5] * 30, "y holds 0.5, a number, for which there is SequenceRegressor"),
        (ARRAYS, [1, "1"] * 30, "y holds '1' and 1, which are of different types"),
        (ARRAYS, [None, *SIGNS[1:]], r"y\[0\] is None"),
        (ARRAYS[:9], SIGNS[:9], "9 sequences cannot be divided"),
        ([*ARRAYS[:-1], np.zeros((2, 3))], SIGNS, r"X\[59\] has 3 features, X\[0\] has 2"),
        ([*ARRAYS[:-1], "text"], SIGNS, r"X\[59\]"),
        ([], [], "X holds no sequence"),
        ("text", SIGNS, "X is one str"),
    ],
)
def test_bad_data_is_named(X: Any, y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SequenceClassifier(**QUICK).fit(X, y)


def test_prediction_of_another_kind_is_named() -> None:
    model = SequenceClassifier(**QUICK).fit(ARRAYS, SIGNS)
    for X, message in (
        (["text"], "X holds str, but the model was fitted on arrays"),
        (CUBE, "X has 3 features, but SequenceClassifier is expecting 2"),
        ([pl.DataFrame({"u": [1.0], "v": [2.0]})], "the features are u, v"),
    ):
        with pytest.raises(DataError, match=message):
            model.predict(X)
    tagger = SequenceTagger(**QUICK).fit(WORDS, TAGS)
    assert tagger.predict(["The cat, it sleeps."]) == tagger.predict([["The", "cat", ",", "it", "sleeps", "."]])
    with pytest.raises(DataError, match=r"X holds arrays .*, but the model was fitted on lists of words"):
        tagger.predict(ARRAYS)
    model.fit(TEXTS, MOODS)
    assert not hasattr(model, "n_features_in_")
    with pytest.raises(DataError, match="fitted on lists of words or str"):
        model.predict(ARRAYS)


def test_sounds_are_predicted_from_paths_of_both_kinds(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    from fit_cases import put_sound

    paths = [put_sound(tmp_path / f"{number}.wav", 220 + 660 * (number % 2), phase=number) for number in range(20)]
    model = SequenceClassifier(**QUICK).fit(paths, [number % 2 for number in range(20)])
    assert model.predict([str(path) for path in paths]).tolist() == model.predict(paths).tolist()
    with pytest.raises(DataError, match=r"nothing\.wav"):
        model.predict(["nothing.wav"])


def test_missing_numbers() -> None:
    holes = [array.copy() for array in ARRAYS]
    for array in holes[5::3]:
        array[0] = np.nan
    with pytest.raises(
        DataError, match=r"X\[5\]\[0, 0\]: the number is missing \(and \d+ more\); missing='interpolate' fills it in"
    ) as caught:
        SequenceClassifier(**QUICK).fit(holes, SIGNS)
    assert "--" not in str(caught.value)
    model = SequenceClassifier(missing="mask", **QUICK).fit(holes, SIGNS)
    assert np.isfinite(model.predict_proba([np.full((2, 2), np.nan)])).all()
    longer = [np.concatenate([array, np.ones((1, 2))]) for array in holes]
    filled = SequenceRegressor(missing="interpolate", **QUICK).fit(longer, SUMS)
    assert np.isfinite(filled.predict(longer)).all()
    with pytest.raises(DataError, match="no number at all here"):
        filled.predict([np.full((2, 2), np.nan)])


def test_class_weight_moves_towards_the_rare_class() -> None:
    rare = [int(array[0, 0] > 2) for array in ARRAYS]
    plain, balanced = (SequenceClassifier(class_weight=weight, **QUICK).fit(ARRAYS, rare) for weight in (None, "balanced"))  # type: ignore[arg-type]
    assert balanced.predict_proba(ARRAYS)[:, 1].mean() > plain.predict_proba(ARRAYS)[:, 1].mean()


def test_grid_search_over_lists_of_arrays() -> None:
    grid = GridSearchCV(
        SequenceClassifier(**SMALL),
        {"hidden": [4, 8], "cell": ["gru", "rnn"]},
        cv=2,
        scoring="neg_log_loss",
        error_score="raise",
    )
    grid.fit(ARRAYS, SIGNS)
    assert grid.best_score_ > -0.6
    assert grid.best_estimator_.fitted_.task.settings.model.cell == grid.best_params_["cell"]
    assert grid.predict(ARRAYS).shape == (60,)
    assert GridSearchCV(quick(Forecaster), {"hidden": [2, 4]}, cv=2, error_score="raise").fit([WAVE, WAVE[:60]]).best_score_ < 0


def test_cross_validation_with_and_without_groups() -> None:
    groups = np.repeat(np.arange(12), 5)
    model = SequenceClassifier(**SMALL)
    scores = cross_val_score(
        model, ARRAYS, SIGNS, groups=groups, cv=GroupKFold(3), params={"groups": groups}, error_score="raise"
    )
    assert scores.mean() > 0.7
    assert cross_val_score(model, ARRAYS, SIGNS, cv=3, error_score="raise").shape == (3,)
    assert cross_val_score(SequenceTagger(**QUICK), WORDS, TAGS, cv=2, error_score="raise").shape == (2,)
    assert cross_val_score(LanguageModel(**QUICK), NAMES, cv=2, error_score="raise").max() < 0
    proba = cross_val_predict(model, ARRAYS, [9 + sign for sign in SIGNS], method="predict_proba", cv=2)
    assert ((proba[:, 1] > 0.5) == SIGNS).mean() > 0.7


def test_groups_are_held_out_whole() -> None:
    with pytest.raises(DataError, match="more values of group"):
        SequenceClassifier(**QUICK).fit(ARRAYS, SIGNS, groups=["one"] * 60)
    with pytest.raises(DataError, match="groups holds 2 values for 60 sequences"):
        SequenceClassifier(**QUICK).fit(ARRAYS, SIGNS, groups=[1, 2])


def test_pipeline_over_lists() -> None:
    def doubled(X: list[Any]) -> list[Any]:
        return [2 * array for array in X]

    pipeline = make_pipeline(FunctionTransformer(doubled), SequenceClassifier(**SMALL))
    pipeline.fit(ARRAYS, SIGNS)
    assert pipeline.score(ARRAYS, SIGNS) > 0.9
    np.testing.assert_array_equal(pipeline.predict_proba(ARRAYS), pipeline[-1].predict_proba(doubled(ARRAYS)))
    assert cross_val_score(pipeline, ARRAYS, SIGNS, cv=2, error_score="raise").shape == (2,)


def test_language_model() -> None:
    model = LanguageModel(hidden=32, epochs=30, lr=0.02).fit(NAMES)
    assert model.score(NAMES) > LanguageModel(hidden=32, epochs=1).fit(NAMES).score(NAMES)
    assert model.perplexity(NAMES) == pytest.approx(np.exp(-model.score(NAMES)))
    text = model.generate("han", 20, temperature=0)
    assert text == "hanna"
    assert model.generate(length=8, seed=1) == model.generate(length=8, seed=1)
    for wrong in ({"temperature": -1}, {"length": 0}, {"top_k": 0}):
        ((name, value),) = wrong.items()
        with pytest.raises(SettingsError, match=rf"^{name} is {value}, expected a (whole )?number from"):
            model.generate(**wrong)
    with pytest.raises(NotFittedError):
        LanguageModel().generate()
    whole = LanguageModel(**QUICK).fit("so it goes, on and on. " * 30)
    assert np.isfinite(whole.score("so it goes"))
    for X, message in (
        (ARRAYS, "expected documents: a list of str"),
        (["ab"], "expected at least 100"),
        ([], "X holds no sequence"),
    ):
        with pytest.raises(DataError, match=message):
            model.fit(X)
