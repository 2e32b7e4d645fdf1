"""Parts: whole, disjoint, seeded, never with the same input on two sides; and everything that cannot be divided is named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings as hypothesis_settings, strategies as st

from throughtime.data.records import Dataset, Frequency, Panel, Sequences, TextSlices
from throughtime.data.split import Parts, split
from throughtime.data.split_sequences import digests
from throughtime.errors import DataError
from throughtime.settings import Settings

DEFAULT = Settings()
DATA = Path(__file__).parents[2] / "shared" / "data"


def texts(inputs: list[str], targets: Any = None, name: str = "data.csv", **more: Any) -> Dataset:
    task = more.pop("task", "regress" if isinstance(targets, np.ndarray) else "classify" if targets else "lm")
    origins = [f"{name} row {row + 2}" for row in range(len(inputs))]
    return Dataset(task, Sequences("text", inputs, targets, origins, target_name="label", **more), "", files=[Path(name)])


def sides(parts: Parts) -> list[Sequences]:
    return [part for part in (parts.train, parts.valid, parts.test) if isinstance(part, Sequences)]


def sizes(parts: Parts) -> list[int]:
    return [len(part) for part in sides(parts)]


def rows(parts: Parts) -> list[list[tuple[str, str]]]:
    return [list(zip(side.origins, side.inputs, strict=True)) for side in sides(parts)]


# Parts that are made


def test_classes_keep_their_shares() -> None:
    labels = ["a"] * 600 + ["b"] * 300 + ["c"] * 100
    parts = split(texts([f"text {n}" for n in range(1000)], labels), DEFAULT)
    assert sizes(parts) == [800, 100, 100]
    assert [Counter(side.targets) for side in sides(parts)] == [
        {"a": 480, "b": 240, "c": 80},
        {"a": 60, "b": 30, "c": 10},
        {"a": 60, "b": 30, "c": 10},
    ]
    assert parts.sentence == "split: 80 % / 10 % / 10 % (800 / 100 / 100 sequences), stratified by label, seed 0"
    assert parts.warnings == []


def test_many_small_classes_still_fill_all_parts() -> None:
    parts = split(texts([f"text {n}" for n in range(200)], [f"class {n % 50}" for n in range(200)]), DEFAULT)
    assert 15 <= sizes(parts)[1] <= 25
    assert 15 <= sizes(parts)[2] <= 25
    assert len(set(sides(parts)[0].targets)) == 50


INPUTS = st.lists(st.sampled_from([f"text {n}" for n in range(60)]), min_size=40, max_size=120)


@hypothesis_settings(max_examples=60, deadline=None)
@given(INPUTS, st.integers(0, 3), st.integers(2, 6), st.booleans(), st.booleans())
def test_parts_are_whole_and_disjoint(inputs: list[str], seed: int, kinds: int, grouped: bool, classified: bool) -> None:
    assume(len({*inputs}) >= 15)
    targets: Any = [f"class {n % kinds}" for n in range(len(inputs))] if classified else np.arange(len(inputs)) * 1.0
    groups = [f"group {n * 7 % 11}" for n in range(len(inputs))] if grouped else None
    settings = DEFAULT.replace(seed=seed, **({"group": "speaker"} if grouped else {}))
    dataset = texts(inputs, targets, groups=groups)
    parts = split(dataset, settings)
    whole = rows(parts)
    assert sorted(chain.from_iterable(whole)) == sorted(
        zip([f"data.csv row {n + 2}" for n in range(len(inputs))], inputs, strict=True)
    )
    for first, second in ((0, 1), (0, 2), (1, 2)):
        one, other = sides(parts)[first], sides(parts)[second]
        if groups is None:
            assert not {*one.inputs} & {*other.inputs}
        else:
            assert not {*(one.groups or ())} & {*(other.groups or ())}
            assert not {*one.inputs} & {*other.inputs} or any("several values of speaker" in w for w in parts.warnings)
    if classified:
        assert {*sides(parts)[0].targets} == {*targets}
    assert all(sizes(parts))
    again = split(dataset, settings)
    assert rows(again) == whole
    assert again.sentence == parts.sentence


def test_the_order_of_rows_does_not_matter_and_the_seed_does() -> None:
    inputs = [f"text {n % 90}" for n in range(100)]
    dataset = texts(inputs, [f"class {n % 3}" for n in range(100)])
    assert isinstance(dataset.content, Sequences)
    turned = replace(dataset, content=dataset.content.take(reversed(range(100))))
    here, there = rows(split(dataset, DEFAULT)), rows(split(turned, DEFAULT))
    assert [sorted(part) for part in here] == [sorted(part) for part in there]
    assert rows(split(dataset, DEFAULT.replace(seed=1))) != here


def test_the_split_is_the_same_in_every_process() -> None:
    code = (
        "from throughtime.data.records import Dataset, Sequences; from throughtime.data.split import split;"
        "from throughtime.settings import Settings;"
        "s = Sequences('text', [f't{n}' for n in range(200)], ['a', 'b'] * 100, groups=[f'g{n % 30}' for n in range(200)]);"
        "print(split(Dataset('classify', s, ''), Settings()).test.inputs)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_groups_stay_whole_and_classes_near_their_shares() -> None:
    groups = [f"speaker {n % 30}" for n in range(3000)]
    labels = [f"class {n % 7}" for n in range(3000)]
    parts = split(texts([f"t{n}" for n in range(3000)], labels, groups=groups), DEFAULT.replace(group="speaker"))
    held = [{*(side.groups or ())} for side in sides(parts)]
    assert [len(h) for h in held] == [24, 3, 3]
    assert parts.sentence.endswith("(2,400 / 300 / 300 sequences), each speaker in one part, stratified by label, seed 0")


def test_few_groups_fill_every_part() -> None:
    labels = ["a", "b"] * 150
    parts = split(texts([f"t{n}" for n in range(300)], labels, groups=[f"g{n // 100}" for n in range(300)]), DEFAULT)
    assert sizes(parts) == [100, 100, 100]
    with pytest.raises(DataError, match=r"2 units cannot be divided .* more values of g"):
        split(
            texts([f"t{n}" for n in range(300)], labels, groups=[f"g{n % 2}" for n in range(300)]), DEFAULT.replace(group="g")
        )


def test_groups_that_share_an_input_stay_together_unless_that_leaves_nothing() -> None:
    inputs = [f"text {n}" for n in range(300)]
    groups = [f"g{n % 30}" for n in range(300)]
    inputs[0] = inputs[1]  # g0 and g1
    parts = split(texts(inputs, ["a", "b"] * 150, groups=groups), DEFAULT)
    assert any({"g0", "g1"} <= {*(side.groups or ())} for side in sides(parts))
    assert parts.warnings == []
    everywhere = ["yes" if n < 30 else text for n, text in enumerate(inputs)]
    parts = split(texts(everywhere, ["a", "b"] * 150, groups=groups), DEFAULT.replace(group="author"))
    assert sizes(parts) == [240, 30, 30]
    assert parts.warnings == [
        "1 input that occurs in several values of author may be in several parts: "
        "kept together they would leave too little to divide"
    ]


def test_rare_classes_stay_in_training() -> None:
    labels = ["a"] * 60 + ["b"] * 38 + ["c"] * 2 + ["d"]
    parts = split(texts([f"text {n}" for n in range(101)], labels), DEFAULT)
    counts = Counter(sides(parts)[0].targets)
    assert (counts["c"], counts["d"]) == (2, 1)
    assert parts.warnings == ["2 classes of label with at most 2 sequences, all in the training part and never scored: c, d"]


def test_a_class_within_one_group_is_learnt() -> None:
    groups = [f"g{n // 10}" for n in range(100)]
    labels = ["only here" if group == "g9" else "ab"[n % 2] for n, group in enumerate(groups)]
    for seed in range(5):
        parts = split(texts([f"t{n}" for n in range(100)], labels, groups=groups), DEFAULT.replace(seed=seed))
        assert "only here" in sides(parts)[0].targets


def test_tags_that_occur_seldom_are_learnt() -> None:
    words = [[f"w{n}", "x"] for n in range(100)]
    tags = [["A", f"rare {n // 3}"] if n < 30 else ["A", "B"] for n in range(100)]
    for seed in range(5):
        parts = split(Dataset("tag", Sequences("words", words, tags), ""), DEFAULT.replace(seed=seed))
        assert {tag for row in sides(parts)[0].targets for tag in row} == {tag for row in tags for tag in row}
        assert sizes(parts)[1] > 5


@pytest.mark.parametrize("kind", ["numeric", "words", "sound"])
def test_identical_inputs_of_any_kind_stay_together(kind: Any, tmp_path: Path) -> None:
    def make(n: int) -> Any:
        if kind == "numeric":
            return np.full((3, 2), n, np.float32)
        if kind == "words":
            return ["word", str(n)]
        path = tmp_path / f"{len([*tmp_path.iterdir()])}.wav"
        path.write_bytes(b"RIFF" + bytes([n]))
        return path

    numbers = [n % 40 for n in range(120)]
    content = Sequences(kind, [make(n) for n in numbers], np.array(numbers) * 1.0)
    held = [{*side.targets.tolist()} for side in sides(split(Dataset("regress", content, ""), DEFAULT))]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]


def test_arrays_of_other_shapes_or_signs_differ() -> None:
    arrays = [np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32), np.full((2, 3), -0.0, np.float32)]
    content = Sequences("numeric", arrays * 2)
    found = digests(content, 0)
    assert len({*found.tolist()}) == 3
    assert found[:3].tolist() == found[3:].tolist()


def test_a_sound_that_cannot_be_read_is_named() -> None:
    content = Sequences("sound", ["/nowhere/a.wav"] * 12, ["a", "b"] * 6, [f"index.csv row {n}" for n in range(12)])
    with pytest.raises(DataError, match=r"^index.csv row 0: /nowhere/a.wav cannot be read \(No such file or directory\)"):
        split(Dataset("classify", content, ""), DEFAULT)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            texts([f"t{n}" for n in range(9)], ["a", "b", "c"] * 3),
            r"^data.csv: 9 sequences cannot be divided .* at least 10; add",
        ),
        (
            texts(["same"] * 20, ["a", "b"] * 10),
            r"^data.csv: 1 unit cannot be divided into training, validation and test parts",
        ),
        (texts([f"t{n}" for n in range(20)], ["a"] * 20), r"^data.csv: label has a single class, 'a', .* --target"),
        (texts([f"t{n}" for n in range(20)], [str(n) for n in range(20)]), r"^data.csv: its classes are too rare"),
        (texts(["ab"]), r"^data.csv: 2 characters are too few to divide into 3 parts"),
    ],
)
def test_what_cannot_be_divided_is_named(dataset: Dataset, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(dataset, DEFAULT)


def test_ten_are_enough() -> None:
    assert sizes(split(texts([f"t{n}" for n in range(10)], ["a", "b"] * 5), DEFAULT)) == [8, 1, 1]


# Text


def test_documents_go_whole_and_by_size() -> None:
    documents = [f"{n} " * (n + 1) for n in range(200)]
    parts = split(texts(documents), DEFAULT)
    assert {*chain.from_iterable(side.inputs for side in sides(parts))} == {*documents}
    share = [sum(map(len, side.inputs)) / sum(map(len, documents)) for side in sides(parts)]
    assert share == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    mean = [np.mean([len(text) for text in side.inputs]) for side in sides(parts)]
    assert max(mean) < 1.4 * min(mean)  # long and short ones in each part
    assert "documents), by document, seed 0" in parts.sentence


@pytest.mark.parametrize(
    "text", ["one line each\n" * 500, "no lines at all " * 500, "é" * 5000, "\U0001f600\n" * 300, "a" * 12]
)
def test_text_is_cut_at_lines_or_characters(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    before, after = "ü before\n", "after"
    path.write_bytes((before + text + after).encode())
    start, stop = len(before.encode()), len((before + text).encode())
    slices = TextSlices([path], np.array([0], np.int32), np.array([start]), np.array([stop]))
    for inputs in ([text], slices):
        parts = split(Dataset("lm", Sequences("text", inputs, origins=["a.txt"]), ""), DEFAULT)
        found = ["".join(side.inputs) for side in sides(parts)]
        assert "".join(found) == text
        assert [len(part) / len(text) for part in found] == pytest.approx([0.8, 0.1, 0.1], abs=0.1)
        if "\n" in text:
            assert all(part.endswith("\n") for part in found)
        assert parts.sentence.endswith("of the text, by position")
        assert [side.origins for side in sides(parts)] == [["a.txt"]] * 3
    assert isinstance(sides(parts)[0].inputs, TextSlices)


def test_few_documents_give_their_ends() -> None:
    parts = split(texts(["a" * 100, "b" * 50, "c"]), DEFAULT)
    assert [list(side.inputs) for side in sides(parts)] == [["a" * 80, "b" * 40], ["a" * 10, "b" * 5], ["a" * 10, "b" * 5, "c"]]
    parts = split(texts(["a" * 100]), DEFAULT, test=texts(["b" * 30], name="test.txt"))
    assert [list(side.inputs) for side in sides(parts)] == [["a" * 90], ["a" * 10], ["b" * 30]]
    assert parts.sentence == (
        "split: as given: trained on data.csv, tested on test.txt (1 test document); training and validation 90 % / 10 % of "
        "the text, by position"
    )


# Parts that are given


def classified(count: int, name: str, start: int = 0, **more: Any) -> Dataset:
    return texts([f"text {start + n}" for n in range(count)], ["ab"[n % 2] for n in range(count)], name=name, **more)


def test_files_win() -> None:
    train, valid, test = classified(50, "train.csv"), classified(10, "valid.csv", 100), classified(12, "test.csv", 200)
    parts = split(train, DEFAULT, valid=valid, test=test)
    assert [parts.train, parts.valid, parts.test] == [train.content, valid.content, test.content]
    assert parts.sentence == (
        "split: as given: trained on train.csv, validated on valid.csv, tested on test.csv (50 / 10 / 12 sequences)"
    )
    parts = split(train, DEFAULT, valid=valid)
    assert parts.test is None
    assert parts.sentence == (
        "split: as given: trained on train.csv, validated on valid.csv (50 / 10 sequences); there is no test part, scores are "
        "those of the validation part"
    )
    parts = split(train, DEFAULT, test=test)
    assert sizes(parts) == [45, 5, 12]
    assert parts.sentence == (
        "split: as given: trained on train.csv, tested on test.csv (12 test sequences); training and validation 90 % / 10 % "
        "(45 / 5 sequences), "
        "stratified by label, seed 0"
    )


def test_a_split_column_is_followed() -> None:
    marks = ["train"] * 30 + ["valid"] * 6 + ["test"] * 4
    parts = split(classified(40, "a.csv", parts=marks), DEFAULT.replace(split_column="fold"))
    assert sizes(parts) == [30, 6, 4]
    assert parts.sentence == "split: by column 'fold' (30 / 6 / 4 sequences)"
    parts = split(classified(40, "a.csv", parts=["train"] * 36 + ["test"] * 4), DEFAULT)
    assert sizes(parts) == [32, 4, 4]
    assert parts.sentence.startswith(
        "split: by the data itself (4 test sequences); training and validation 89 % / 11 % (32 / 4 sequences)"
    )
    parts = split(classified(40, "a.csv", parts=["train"] * 36 + ["valid"] * 4), DEFAULT)
    assert parts.test is None
    assert "there is no test part" in parts.sentence
    with pytest.raises(DataError, match=r"a.csv: column 'fold' marks 40 'test', but nothing 'train'"):
        split(classified(40, "a.csv", parts=["test"] * 40), DEFAULT.replace(split_column="fold"))


def test_a_group_that_was_asked_for_beats_a_split_column_that_was_guessed() -> None:
    dataset = classified(100, "a.csv", parts=["train"] * 90 + ["test"] * 10, groups=[f"g{n // 5}" for n in range(100)])
    guessed = replace(dataset, resolved={"split_column": "fold"})
    by_group = DEFAULT.replace(group="g")
    for settings in (by_group, by_group.replace(split_column="fold")):  # as the user gave them, or with what was guessed
        parts = split(guessed, settings)
        assert "each g in one part" in parts.sentence
        assert "--group is given" in parts.warnings[0]
    parts = split(dataset, by_group.replace(split_column="fold"))
    assert "by column 'fold'" in parts.sentence
    assert "each g in one part" in parts.sentence  # for validation


def test_what_given_parts_share_is_counted() -> None:
    train = classified(50, "train.csv", groups=["x"] * 25 + ["y"] * 25, parts=["train"] * 50)
    valid = classified(10, "valid.csv", 45, groups=["y"] * 10)
    test = classified(10, "test.csv", 49, groups=["z"] * 10)
    assert split(train, DEFAULT.replace(group="who"), valid=valid, test=test).warnings == [
        "what the data itself says of parts is not used, since files are given: all of train.csv is training data",
        "5 of 10 validation sequences also occur in the training part",
        "1 value of who occurs in both the training and the validation part: y",
        "1 of 10 test sequences also occurs in the training part",
        "6 of 10 test sequences also occur in the validation part",
    ]


def test_a_class_that_is_not_learnt_is_named() -> None:
    train = classified(20, "train.csv")
    test = texts(["x", "y", "z"], ["a", "new", "new"], name="test.csv")
    with pytest.raises(DataError, match=r"^test.csv row 3: label 'new' occurs in 2 test sequences, but in no training"):
        split(train, DEFAULT, test=test)
    tagged = [Dataset("tag", Sequences("words", [["a", "b"]] * 20, [tags] * 20), "") for tags in (["X", "Y"], ["X", "Z"])]
    with pytest.raises(DataError, match=r"'Z' occurs in 20 validation sequences"):
        split(tagged[0], DEFAULT, valid=tagged[1])


def test_files_of_another_form_are_named() -> None:
    train = classified(20, "train.csv")
    numeric = Dataset("classify", Sequences("numeric", [np.zeros((2, 1))], ["a"], features=("x",)), "", files=[Path("v.npz")])
    with pytest.raises(DataError, match=r"^v.npz: holds numeric, but train.csv holds text"):
        split(train, DEFAULT, valid=numeric)
    with pytest.raises(DataError, match=r"^v.npz: holds time series, but train.csv holds text"):
        split(train, DEFAULT, valid=replace(numeric, content=Panel([], Frequency("D"))))
    assert isinstance(numeric.content, Sequences)
    other = replace(numeric, content=replace(numeric.content, features=("x", "y")))
    with pytest.raises(DataError, match=r"^v.npz: its features differ from those of v.npz \(y\)"):
        split(numeric, DEFAULT, valid=other)
    with pytest.raises(DataError, match=r"^empty.csv: holds no sequences"):
        split(train, DEFAULT, valid=texts([], [], name="empty.csv"))


# Real data


@pytest.mark.skipif(not DATA.exists(), reason="shared/data is not here")
def test_names_in_files() -> None:
    path = DATA / "names" / "names.txt"
    content = path.read_bytes()
    ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n"))
    begins = np.concatenate([[0], ends[:-1] + 1])
    slices = TextSlices([path], np.zeros(len(ends), np.int32), begins, ends)
    parts = split(Dataset("lm", Sequences("text", slices), ""), DEFAULT)
    held = [{*side.inputs} for side in sides(parts)]
    assert sum(sizes(parts)) == len(ends)
    assert sizes(parts)[1] / len(ends) == pytest.approx(0.1, abs=0.002)
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
