"""Tables with a row per step become sequences: columns guessed, labels per sequence or per step, and what is broken is
named."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from throughtime.data.long import read_long
from throughtime.data.records import Dataset
from throughtime.data.tablefile import Table
from throughtime.data.tables import read_table
from throughtime.errors import DataError
from throughtime.settings import Settings
from throughtime.transforms import Scaler

HERE = Path("moves.csv")


def table(**columns: Any) -> dict[str, Any]:
    return {
        "id": ["u"] * 3 + ["v"] * 2 + ["w"],
        "step": [0, 1, 2, 0, 1, 0],
        "x": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        "n": [5, 4, 3, 2, 1, 0],
        "label": ["a"] * 3 + ["b"] * 2 + ["a"],
    } | columns


def read(columns: dict[str, Any], with_target: bool = True, **settings: Any) -> Dataset:
    return read_long(pl.DataFrame(columns), HERE, Settings.of(settings), with_target)


def refused(columns: dict[str, Any], with_target: bool = True, **settings: Any) -> str:
    with pytest.raises(DataError) as error:
        read(columns, with_target, **settings)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("moves.csv")
    return message


def test_classes() -> None:
    dataset = read(table())
    content: Any = dataset.content
    assert dataset.task == "classify"
    assert content.targets == ["a", "b", "a"]
    assert content.features == ("x", "n")
    assert [one.tolist() for one in content.inputs] == [[[0, 5], [1, 4], [2, 3]], [[3, 2], [4, 1]], [[5, 0]]]
    assert content.inputs[0].dtype == np.float64
    assert content.origins[1] == "moves.csv id v"
    assert content.target_name == "label"
    assert dataset.resolved == {"task": "classify", "id": "id", "time": "step", "target": "label", "features": ("x", "n")}
    assert "3 of 1 to 3 steps, 2 features" in dataset.sentence
    assert "--task, --id, --time" in dataset.sentence
    again = read(table(), **dataset.resolved)
    assert again.resolved == {}
    assert again.content.targets == content.targets


def test_rows_in_any_order_and_text_cells() -> None:
    columns = table(x=["0", "1", " 2", "3", "4e0", "5.0"])
    order = [5, 2, 4, 0, 3, 1]
    content: Any = read({name: [values[row] for row in order] for name, values in columns.items()}).content
    assert content.origins == ["moves.csv id w", "moves.csv id u", "moves.csv id v"]
    assert content.inputs[1][:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("label", "settings", "task", "targets"),
    [
        ([7] * 3 + [8] * 2 + [7], {}, "classify", ["7", "8", "7"]),
        ([7.0] * 3 + [8.0] * 2 + [7.0], {}, "classify", ["7", "8", "7"]),
        ([7.0] * 3 + [8.0] * 2 + [7.0], {"task": "regress"}, "regress", [7, 8, 7]),
        ([0.5] * 3 + [0.25] * 2 + [1.0], {}, "regress", [0.5, 0.25, 1]),
        ([True] * 3 + [False] * 3, {}, "classify", ["true", "false", "false"]),
        (list("NVNVNN"), {}, "tag", [["N", "V", "N"], ["V", "N"], ["N"]]),
        ([0, 1, 0, 0, 1, 1], {}, "tag", [["0", "1", "0"], ["0", "1"], ["1"]]),
        ([0.5, 1, 0, 0, 1, 1], {}, "regress", [[0.5, 1, 0], [0, 1], [1]]),
        ([0, 1, 0, 0, 1, 1], {"task": "regress"}, "regress", [[0, 1, 0], [0, 1], [1]]),
        (["a"] * 3 + ["b"] * 3, {"task": "tag"}, "tag", [["a"] * 3, ["b"] * 2, ["b"]]),
    ],
)
def test_labels_of_sequences_and_of_steps(label: list[Any], settings: dict[str, str], task: str, targets: list[Any]) -> None:
    dataset = read(table(label=label), **settings)
    found = [one.tolist() if isinstance(one, np.ndarray) else one for one in dataset.content.targets]
    assert (dataset.task, found) == (task, targets)


def test_guesses_by_what_the_columns_hold() -> None:
    columns = {"trial": [1, 1, 1, 2, 2, 3], "a": np.arange(6.0), "kind": ["p", "p", "p", "q", "q", "p"]}
    dataset = read(columns)
    assert dataset.resolved == {"task": "classify", "id": "trial", "target": "kind", "features": ("a",)}
    assert "in the order of the file" in dataset.sentence


def test_missing() -> None:
    columns = table(x=[0.0, None, 2.0, float("inf"), 4.0, 5.0])
    assert "row 3, column 'x': the number is missing (and 1 more); --missing interpolate" in refused(columns)
    dataset = read(columns, missing="interpolate")
    assert [one[:, 0].tolist() for one in dataset.content.inputs] == [[0, 1, 2], [4, 4], [5]]
    assert dataset.warnings == ["2 missing numbers were interpolated"]
    assert np.isnan(read(columns, missing="mask").content.inputs[0][1, 0])
    assert "row 7, column 'x': the sequence has no number at all" in refused(table(x=[0.0] * 5 + [None]), missing="interpolate")


def test_columns_of_text_are_left_out_with_a_warning() -> None:
    dataset = read(table(note=["so"] * 6))
    assert dataset.content.features == ("x", "n")
    assert dataset.warnings == ["not used, since not numbers: note (--features)"]
    assert "'note': 'so' is not a number" in refused(table(note=["so"] * 6), features="x,note")


def test_parts_and_groups() -> None:
    dataset = read(table(split=["train"] * 3 + ["test"] * 3, who=["p"] * 5 + ["q"]), group="who")
    assert dataset.content.parts == ["train", "test", "test"]
    assert dataset.content.groups == ["p", "p", "q"]
    assert dataset.resolved["split_column"] == "split"
    assert "who" not in dataset.resolved["features"]
    message = refused(table(part=["train"] * 2 + ["test"] * 4), split_column="part")
    assert "row 4, column 'part': 'test', but 'u' began with 'train'" in message


def test_without_target() -> None:
    columns = table()
    del columns["label"]
    dataset = read(columns, False, target="label", id="id", time="step", features="x,n", task="classify")
    assert dataset.content.targets is None
    assert len(dataset.content) == 3
    assert read(columns, False).content.features == ("x", "n")
    assert read(table(label=[None] * 6), False).content.targets is None


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (table(x=["0", "1", "zwei", "3", "4", "5"]), {}, "row 4, column 'x': 'zwei' is not a number"),
        (table(step=[0, 1, 1, 0, 1, 0]), {}, "rows 3 and 4 are both step 1 of 'u'"),
        (table(step=[0, 1, None, 0, 1, 0]), {}, "row 4, column 'step': the step is missing"),
        (table(id=["u", None, "u", "v", "v", "w"]), {}, "row 3, column 'id': blank"),
        (table(label=["a", "a", "a", "b", None, "a"]), {}, "row 6, column 'label': the label is blank (1 in all)"),
        (
            table(label=["a", "b", "a", "b", "b", "a"]),
            {"task": "classify"},
            "row 3, column 'label': 'b', but 'u' began with 'a'",
        ),
        (table(), {"task": "regress"}, "'a' is not a number"),
        (table(), {"task": "lm"}, "--task lm does not fit"),
        (table(), {"target": "lable"}, "no column 'lable' (--target); did you mean 'label'"),
        (table(), {"id": "ID1"}, "did you mean 'id'"),
        (table(), {"target": "label", "features": "x,label"}, "'label' cannot be a feature"),
        (table(), {"features": "x,x"}, "'x' cannot be a feature"),
        ({"a": [0.5, 0.7], "b": ["u", "v"]}, {}, "no column tells the sequences apart"),
        ({"id": [1, 1, 2], "label": ["a", "a", "b"]}, {}, "no column of numbers is left as input"),
        ({"id": [1, 1, 2]}, {}, "no column is left for the label"),
        ({"id": [], "x": [], "label": []}, {}, "there is no row"),
    ],
)
def test_broken_tables(columns: dict[str, Any], settings: dict[str, str], message: str) -> None:
    assert message in refused(columns, **settings)


def test_rows_of_parquet_count_from_one() -> None:
    with pytest.raises(DataError, match=r"moves.parquet: row 2, column 'x'"):
        read_long(pl.DataFrame(table(x=[0.0, None, 2, 3, 4, 5])), Path("moves.parquet"), Settings(), True)


def file(path: Path, rows: Iterable[tuple[object, int, object]]) -> Dataset:
    """A file of sequences of four steps, read."""
    path.write_text("id,step,x,label\n" + "".join(f"{name},{step},{step},{label}\n" for name, step, label in rows))
    return read_table(path, Settings())


@pytest.mark.parametrize("names", [("01", "1"), ("007", "7"), ("1e3", "1000"), (f"{10**40}", f"{10**40 + 1}"), ("1.0", "1")])
def test_names_that_look_like_numbers_are_those_of_the_file(names: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "moves.csv"
    content = file(path, [(name, step, "ab"[name == names[0]]) for name in names for step in range(4)]).content
    assert [origin.split(" id ")[1] for origin in content.origins] == list(names)
    content = file(path, [(row, step, names[row % 2]) for row in range(6) for step in range(4)]).content
    assert content.targets == [*names] * 3
    content = file(path, [(row, step, names[step % 2]) for row in range(6) for step in range(4)]).content
    assert content.targets == [[*names] * 2] * 6
    path.write_text("unique_id,ds,y\n" + "".join(f"{name},2020-01-{day:02},{day}\n" for name in names for day in range(1, 20)))
    assert [series.id for series in read_table(path, Settings()).content.series] == list(names)


def test_the_text_of_names_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[object] = []
    whole = Table._read
    monkeypatch.setattr(Table, "_read", lambda table, columns, rows: reads.append(columns) or whole(table, columns, rows))
    path = tmp_path / "moves.csv"
    rows = [f"{name},{step},{step},{name % 2:02},{name:03}" for name in range(6) for step in range(4)]
    path.write_text("\n".join(["id,step,x,label,who", *rows]) + "\n")
    found = read_table(path, Settings.of({"id": "id", "group": "who", "task": "classify"}))
    assert found.content.targets == ["00", "01"] * 3
    assert found.content.groups == [f"00{name}" for name in range(6)]
    assert len(reads) == 3, "a sample to guess from, all as numbers, and the text of all names at once"


def test_labels_of_which_most_are_numbers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 10, column 'label': 'x' is not a number .*give --task classify"):
        file(tmp_path / "moves.csv", [(row, step, "12x"[row]) for row in range(3) for step in range(4)])


def test_a_class_has_one_name_whatever_the_others_are() -> None:
    columns = {"id": ["u", "u", "v", "v"], "x": [0, 1, 2, 3]}
    assert read({**columns, "label": [0.5, 0.5, 1.0, 1.0]}, task="classify").content.targets == ["0.5", "1"]
    assert read({**columns, "label": [1.0, 1.0, 2.0, 2.0]}, task="classify").content.targets == ["1", "2"]


def test_a_small_change_at_a_high_level_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "moves.csv"
    path.write_text(
        "id,x,label\n" + "".join(f"{row},{10**9 + 2 * (row % 2) + step},{row % 2}\n" for row in range(6) for step in (0, 1))
    )
    content = read_table(path, Settings()).content
    scaled = Scaler.fit(content.inputs, content.features).transform(content.inputs[1])
    assert np.allclose(np.diff(scaled, axis=0), 1 / np.sqrt(1.25))
    with pytest.raises(DataError, match=r"x, step 1: is 3e\+45, too far from the numbers of the training part"):
        Scaler.fit(content.inputs, content.features).transform([[3e45]])


def test_groups_that_look_like_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "moves.csv"
    rows = "".join(f"{row},{step},{step},{'ab'[row % 2]},{('01', '1')[row % 2]}\n" for row in range(6) for step in range(4))
    path.write_text(f"id,step,x,label,speaker\n{rows}")
    assert read_table(path, Settings.of({"group": "speaker"})).content.groups == ["01", "1"] * 3
