"""``.ts`` files of the UEA archive: what is read, and how what is broken is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from throughtime.data.records import Dataset
from throughtime.data.uea import read_uea
from throughtime.errors import DataError
from throughtime.settings import Settings

REAL = Path(__file__).parents[2] / "shared" / "data" / "uea" / "JapaneseVowels" / "JapaneseVowels_TRAIN.ts"
HEAD = "# note\n@problemName Toy\n@timeStamps false\n@univariate false\n@dimensions 2\n@classLabel true up down\n@data\n"


def read(tmp_path: Path, text: str, with_target: bool = True, **settings: Any) -> Dataset:
    path = tmp_path / "toy.ts"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return read_uea(path, Settings.of(settings), with_target)


def test_japanese_vowels() -> None:
    if not REAL.exists():
        pytest.skip(f"{REAL} is not here")
    dataset = read_uea(REAL, Settings(), True)
    content = dataset.content
    assert dataset.task == "classify"
    assert len(content) == 270
    assert set(content.targets) == set("123456789")
    assert content.inputs[0].shape == (20, 12)
    assert content.inputs[0][0, 0] == 1.860936
    assert content.inputs[0].dtype == np.float64
    assert content.origins[0] == "JapaneseVowels_TRAIN.ts line 16"
    assert "(9 classes): 270 of 7 to 26 steps, 12 features" in dataset.sentence


def test_ragged_dimensions_comments_and_case(tmp_path: Path) -> None:
    dataset = read(tmp_path, HEAD.replace("@dimensions", "@DIMENSION") + "1,2,3:4,5,6:up\n\n# note\n7:8:down\n")
    assert [one.tolist() for one in dataset.content.inputs] == [[[1, 4], [2, 5], [3, 6]], [[7, 8]]]
    assert dataset.content.targets == ["up", "down"]
    assert dataset.resolved == {"task": "classify"}


def test_missing(tmp_path: Path) -> None:
    text = HEAD + "1,?,3:4,5,6:up\n"
    with pytest.raises(DataError, match=r"line 8, dimension 1, step 2: the number is missing; --missing interpolate"):
        read(tmp_path, text)
    assert read(tmp_path, text, missing="interpolate").content.inputs[0][:, 0].tolist() == [1, 2, 3]
    masked = read(tmp_path, text, missing="mask")
    assert np.isnan(masked.content.inputs[0][1, 0])
    assert "1 missing number was left missing" in masked.warnings[0]
    with pytest.raises(DataError, match="no number at all here to interpolate from"):
        read(tmp_path, HEAD + "?,?:4,5:up\n", missing="interpolate")


def test_time_stamps(tmp_path: Path) -> None:
    text = (
        HEAD.replace("Stamps false", "Stamps true")
        + "(2007-01-01 00:00:00,1.5),(2007-01-01 00:01:00,?):(2007-01-01 00:00:00,3),"
    )
    dataset = read(tmp_path, text + "(2007-01-01 00:01:00,4):up\n", missing="interpolate")
    assert dataset.content.inputs[0].tolist() == [[1.5, 3], [1.5, 4]]
    with pytest.raises(DataError, match="line 8, dimension 2 has other time stamps"):
        read(tmp_path, text + "(2007-01-01 00:02:00,4):up\n")
    with pytest.raises(DataError, match=r"line 8, dimension 1 begins '1,2'; expected pairs"):
        read(tmp_path, HEAD.replace("Stamps false", "Stamps true") + "1,2:3,4:up\n")


def test_regression_and_tasks(tmp_path: Path) -> None:
    head = HEAD.replace("@classLabel true up down", "@targetlabel true")
    dataset = read(tmp_path, head + "1:2:0.5\n1:3:7\n")
    assert dataset.task == "regress"
    assert dataset.content.targets.tolist() == [0.5, 7]
    assert read(tmp_path, head + "1:2:0.5\n1:3:7\n", task="classify").content.targets == ["0.5", "7"]
    for text, message in [
        (head + "1:2:high\n", "line 8: the target 'high' is not a number"),
        (head + "1:2:nan\n", "is not a number"),
    ]:
        with pytest.raises(DataError, match=message):
            read(tmp_path, text)
    with pytest.raises(DataError, match="--task tag does not fit"):
        read(tmp_path, HEAD + "1:2:up\n", task="tag")


def test_without_labels(tmp_path: Path) -> None:
    text = HEAD.replace("true up down", "false") + "1:2\n"
    assert read(tmp_path, text, with_target=False).content.targets is None
    assert read(tmp_path, HEAD + "1:2:?\n", with_target=False).content.targets is None
    with pytest.raises(DataError, match="expected labels to learn from"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no line @data"),
        (HEAD, "no line after @data"),
        ("id,x\n1,2\n", "line 1 begins 'id,x' before @data"),
        ("\udcff\udcfe@data", "is not UTF-8"),
        (HEAD.replace("@timeStamps false", "@timeStamps maybe"), "line 3: 'maybe' stands where true or false"),
        (HEAD.replace("@timeStamps false", "@timeStamps"), "line 3: '' stands where"),
        (HEAD.replace("@dimensions 2", "@dimensions two"), "line 5: '@dimensions two'; expected a number"),
        (HEAD.replace("true up down", "true"), "names no class"),
        (HEAD + "1,2:up\n", "line 8 has 1 dimension and a label, expected 2"),
        (HEAD + "1,2:3,4:5,6:up\n", "line 8 has 3 dimensions"),
        (HEAD + "1,2:3:up\n", "line 8, dimension 2 has 1 steps, dimension 1 has 2"),
        (HEAD + "1,2:3,x:up\n", "line 8, dimension 2, step 2: 'x' is not a number"),
        (HEAD + "1,2::up\n", "line 8, dimension 2 is empty"),
        (HEAD + "1,2:3,4:dawn\n", "line 8: the label 'dawn' is not among those of @classLabel; did you mean 'down'"),
        (HEAD + "1,2:3,4:up\n1,2:3,4", "line 9 has 1 dimension"),
        (HEAD + "1,2:3,1e999:up\n", "infinite"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, text)
    assert "toy.ts" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_uea(tmp_path / "none.ts", Settings(), True)
