"""Arrays, from ``.npz`` files and from Python code, become sequences; what does not fit is named by index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from throughtime.data.arrays import read_npz, sequences_of
from throughtime.data.records import Dataset
from throughtime.errors import DataError
from throughtime.settings import Settings

CUBE = np.arange(24.0).reshape(3, 4, 2)


def saved(tmp_path: Path, with_target: bool = True, settings: dict[str, Any] | None = None, **arrays: Any) -> Dataset:
    np.savez(tmp_path / "toy.npz", **arrays)
    return read_npz(tmp_path / "toy.npz", Settings.of(settings or {}), with_target)


def lists(values: Any) -> list[Any]:
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in values]


def test_npz_of_equal_lengths(tmp_path: Path) -> None:
    dataset = saved(tmp_path, X=CUBE, y=np.array(["a", "b", "a"]))
    content: Any = dataset.content
    assert dataset.task == "classify"
    assert lists(content.inputs) == CUBE.tolist()
    assert content.targets == ["a", "b", "a"]
    assert content.inputs[0].dtype == np.float64
    assert content.origins[2] == "toy.npz X[2]"
    assert dataset.resolved == {"task": "classify", "target": "y"}
    assert "3 of 4 steps, 2 features" in dataset.sentence
    assert saved(tmp_path, data=CUBE[..., 0], labels=[1, 2, 3]).content.inputs[0].shape == (4, 1)


@pytest.mark.parametrize(
    ("y", "task", "targets"),
    [
        ([1, 2, 1], "classify", ["1", "2", "1"]),
        ([True, False, True], "classify", ["True", "False", "True"]),
        ([0.5, 1.0, 2.0], "regress", [0.5, 1, 2]),
        (np.arange(12).reshape(3, 4), "tag", [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9", "10", "11"]]),
        (np.arange(12.0).reshape(3, 4) / 2, "regress", [[0, 0.5, 1, 1.5], [2, 2.5, 3, 3.5], [4, 4.5, 5, 5.5]]),
        (np.array([b"a", b"b", b"a"]), "classify", ["a", "b", "a"]),
    ],
)
def test_npz_targets(tmp_path: Path, y: Any, task: str, targets: Any) -> None:
    dataset = saved(tmp_path, X=CUBE, y=y)
    assert (dataset.task, lists(dataset.content.targets)) == (task, targets)


def test_npz_with_lengths(tmp_path: Path) -> None:
    flat = saved(tmp_path, x=np.arange(12.0).reshape(6, 2), lengths=[1, 2, 3], y=list("NVNVVN"))
    assert [len(one) for one in flat.content.inputs] == [1, 2, 3]
    assert flat.task == "tag"
    assert flat.content.targets == [["N"], ["V", "N"], ["V", "V", "N"]]
    padded = saved(tmp_path, X=CUBE, lengths=[4, 1, 2], y=np.arange(12).reshape(3, 4) / 2)
    assert lists(padded.content.inputs) == [CUBE[0].tolist(), CUBE[1, :1].tolist(), CUBE[2, :2].tolist()]
    assert lists(padded.content.targets) == [[0, 0.5, 1, 1.5], [2], [4, 4.5]]


def test_npz_missing_and_predict(tmp_path: Path) -> None:
    holes = CUBE.copy()
    holes[1, 2, 0] = np.nan
    with pytest.raises(DataError, match=r"X\[1\]\[2, 0\]: the number is missing"):
        saved(tmp_path, X=holes, y=[1, 2, 3])
    filled = saved(tmp_path, settings={"missing": "interpolate"}, X=holes, y=[1, 2, 3])
    assert lists(filled.content.inputs) == CUBE.tolist()
    assert filled.warnings == ["1 missing number was interpolated"]
    dataset = saved(tmp_path, False, {"target": "y", "task": "classify"}, X=CUBE, extra=[1])
    assert dataset.content.targets is None
    assert dataset.warnings == ["arrays that are not used: extra"]


@pytest.mark.parametrize(
    ("arrays", "settings", "message"),
    [
        ({"a": CUBE}, {}, "there is no array X"),
        ({"X": CUBE}, {}, "there is no array y to predict; the arrays are X"),
        ({"X": CUBE, "y": [1, 2]}, {}, r"'y' has the shape \(2,\), but there are 3 sequences with 12 steps"),
        ({"X": CUBE, "y": [1, 2, 3], "lengths": [4, 4, 5]}, {}, r"does not fit 3 lengths of at most 5"),
        ({"X": CUBE, "y": [1, 2, 3], "lengths": [4, 4, 0]}, {}, "whole numbers from 1 up"),
        ({"X": CUBE, "y": [1, 2, 3], "lengths": [4.0, 4, 4]}, {}, "whole numbers from 1 up"),
        ({"X": np.arange(5.0), "y": [1, 2, 3]}, {}, r"is not \[n, T, F\] nor \[n, T\]"),
        ({"X": 3.0, "y": [1]}, {}, r"is not \[n, T, F\]"),
        ({"X": CUBE.astype(str), "y": [1, 2, 3]}, {}, r"X\[0\] is .* of type <U32; expected numbers"),
        ({"X": CUBE[:, :0], "y": [1, 2, 3]}, {}, r"X\[0\] has the shape \(0, 2\)"),
        ({"X": CUBE[:0], "y": []}, {}, "no sequence"),
        ({"X": CUBE, "y": [1, 2, np.nan]}, {}, r"y\[2\] is nan"),
        ({"X": CUBE, "y": ["a", "b", "c"]}, {"task": "regress"}, r"y\[0\] is .*'a'.*; expected a number"),
        ({"X": CUBE, "y": ["a", "b", "c"]}, {"task": "tag"}, r"y\[0\] is .*; expected a list of tags"),
        ({"X": CUBE, "y": [1, 2, 3]}, {"task": "forecast"}, "--task forecast does not fit"),
        ({"X": CUBE, "y": [1, 2, 3]}, {"target": "z"}, "there is no array z"),
    ],
)
def test_broken_npz(tmp_path: Path, arrays: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        saved(tmp_path, settings=settings, **arrays)
    assert "toy.npz" in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "toy.npz"
    with pytest.raises(DataError, match="no such file"):
        read_npz(path, Settings(), True)
    for content in (b"", b"hello", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cannot be read as .npz"):
            read_npz(path, Settings(), True)
    with path.open("wb") as file:
        np.save(file, CUBE)
    with pytest.raises(DataError, match=r"is one .npy array"):
        read_npz(path, Settings(), True)
    np.savez(path, X=np.array([CUBE[0], None], dtype=object), y=[1, 2])
    with pytest.raises(DataError, match="'X' holds pickled objects, which are not read"):
        read_npz(path, Settings(), True)
    np.savez_compressed(path, X=np.random.default_rng(0).normal(size=(30, 40, 5)), y=np.arange(30))
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(DataError, match="'X' is damaged"):
        read_npz(path, Settings(), True)


@pytest.mark.parametrize(
    ("X", "kind", "inputs"),
    [
        (CUBE, "numeric", CUBE.tolist()),
        (CUBE[..., 0], "numeric", CUBE[..., :1].tolist()),
        ([[1, 2], [3]], "numeric", [[[1], [2]], [[3]]]),
        ([[[1, 2], [3, 4]], np.ones((1, 2))], "numeric", [[[1, 2], [3, 4]], [[1, 1]]]),
        (("so", "it is"), "text", ["so", "it is"]),
        (np.array(["so", ""]), "text", ["so", ""]),
        (pl.Series(["so", "it"]), "text", ["so", "it"]),
        ([["so", "it"], [], ("is",)], "words", [["so", "it"], [], ["is"]]),
        ([pl.DataFrame({"a": [1, None], "b": [3, 4]})], "numeric", None),
    ],
)
def test_what_python_code_may_give(X: Any, kind: str, inputs: Any) -> None:
    found = sequences_of(X, missing="mask")
    assert found.kind == kind
    assert inputs is None or lists(found.inputs) == inputs
    assert found.targets is None


def test_tables_and_paths(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1, 2], "b": [3, 4]})
    found = sequences_of([frame, frame.head(1)], [1.5, 2], groups=[1, 2])
    assert found.features == ("a", "b")
    assert found.inputs[1].tolist() == [[1, 3]]
    assert found.groups == ["1", "2"]
    with pytest.raises(DataError, match=r"X\[1\] has columns b, a, the first has a, b"):
        sequences_of([frame, frame.select("b", "a")])
    (tmp_path / "a.wav").write_bytes(b"")
    assert sequences_of([tmp_path / "a.wav"], ["a"]).kind == "sound"
    with pytest.raises(DataError, match=r"X\[1\]: .*b.wav: there is no such file"):
        sequences_of([tmp_path / "a.wav", tmp_path / "b.wav"])


def test_targets() -> None:
    X = [[0.1, 0.2], [0.3]]
    assert sequences_of(X, [1, 2]).targets == ["1", "2"]
    assert sequences_of(X, np.array([True, False])).targets == ["True", "False"]
    assert sequences_of(X, [1, 2], task="regress").targets.tolist() == [1, 2]
    assert sequences_of(X, [1.0, 2.0], task="classify").targets == ["1.0", "2.0"]
    assert sequences_of(X, np.array([[1.5], [2.5]])).targets.tolist() == [1.5, 2.5]
    assert sequences_of(X, [["a", "b"], ["a"]]).targets == [["a", "b"], ["a"]]
    assert lists(sequences_of(X, [np.array([1.0, 2]), [3]]).targets) == [[1, 2], [3]]
    assert sequences_of([["so", "it"]], [("N", "V")]).targets == [["N", "V"]]
    assert sequences_of(X, pl.Series(["u", "v"])).targets == ["u", "v"]


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([], None, "X holds no sequence"),
        ("so it is", None, "X is one str"),
        (np.float64(3), None, "X is one float64"),
        (pl.DataFrame({"a": [1]}), None, "X is a table"),
        (7, None, "X is a int"),
        ([1.0, 2.0], None, r"X\[0\] has the shape \(\).*one number per sequence is no sequence"),
        (["so", 3], None, r"X\[1\] is a int; expected a str"),
        ([["so"], [3]], None, r"X\[1\] is \[3\]; expected a list of words"),
        ([["so"], "it"], None, r"X\[1\] is 'it'; expected a list of words"),
        ([[1, 2], ["x"]], None, r"X\[1\] is \['x'\] of type <U1; expected numbers"),
        ([[1, 2], []], None, r"X\[1\] has the shape \(0, 1\)"),
        ([[[1, 2], [3]]], None, r"X\[0\] is .* which is no array of numbers"),
        ([np.ones((2, 2)), np.ones((2, 3))], None, r"X\[1\] has 3 features, X\[0\] has 2"),
        ([np.ones((2, 2, 2, 2))], None, r"X\[0\] has the shape \(2, 2, 2, 2\)"),
        ([[1 + 2j]], None, "expected numbers"),
        ([[1, None]], None, r"X\[0\]\[1, 0\]: the number is missing"),
        ([[1], [2]], [1], "y holds 1 targets for 2 sequences"),
        ([[1], [2]], "ab", "y is one str"),
        ([[1], [2]], ["a", None], r"y\[1\] is None; expected a label"),
        ([[1], [2]], [0.5, float("nan")], r"y\[1\] is nan; expected a number"),
        ([[1], [2]], [0.5, "a"], r"y\[1\] is 'a'; expected a number"),
        ([[1], [2]], [{}, {}], r"y\[0\] has 0 values"),
        ([[1, 2], [2]], [["a", "b"], "a"], r"y\[1\]: y mixes values"),
        ([[1, 2], [2]], [["a", "b"], ["a", "b"]], r"y\[1\] has 2 values, X\[1\] has 1 steps"),
        ([[1, 2], [2]], [["a", None], ["a"]], r"y\[0\]\[1\] is None"),
        (["so", "it"], [["a", "b"], ["a"]], r"y\[0\] is a list; expected one label"),
    ],
)
def test_what_does_not_fit(X: Any, y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        sequences_of(X, y)
    assert "\n" not in str(error.value)


def test_groups_must_fit() -> None:
    with pytest.raises(DataError, match="groups holds 1 values for 2 sequences"):
        sequences_of([[1], [2]], groups=["a"])


def test_whole_numbers_that_doubles_cannot_hold_are_refused() -> None:
    X = np.full((4, 3), 10**18) + np.arange(3)
    with pytest.raises(DataError, match=r"X\[0\] holds whole numbers beyond 2\^53.*take an offset off"):
        sequences_of(X, ["a", "b"] * 2)


def test_numbers_are_classes_as_in_tables(tmp_path: Path) -> None:
    path, X = tmp_path / "moves.npz", np.zeros((30, 4, 1))
    for y, task in (
        (np.arange(30) % 2.0, "classify"),
        (np.arange(30) % 2, "classify"),
        (np.arange(30), "regress"),
        (np.arange(30) / 2, "regress"),
    ):
        np.savez(path, X=X, y=y)
        found = read_npz(path, Settings(), True)
        assert found.task == task
        assert found.content.targets[:2] == ["0", "1"] if task == "classify" else found.content.targets[1] == y[1]


def test_text_that_is_called_npz(tmp_path: Path) -> None:
    path = tmp_path / "moves.npz"
    path.write_text("no archive\n")
    with pytest.raises(DataError, match=r"cannot be read as .npz \(it is no archive of arrays\); write it with numpy.savez"):
        read_npz(path, Settings(), True)
