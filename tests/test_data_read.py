"""Tables, and the choice of a reader: what is understood, and that every broken file gives one clear line."""

import csv
import io
import json
import random
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from throughtime.data import Dataset, Panel, Sequences, read
from throughtime.data.tablefile import ROW, open_table
from throughtime.errors import DataError
from throughtime.settings import Settings

DATA = Path(__file__).parents[2] / "shared" / "data"
REVIEWS = "text,label\na very good film,pos\nnot at all good,neg\n"


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def load(source: Path, with_target: bool = True, **settings: object) -> Dataset:
    found = read(source, Settings.of(settings), with_target=with_target)
    assert "\n" not in found.sentence
    assert all("\n" not in warning for warning in found.warnings)
    return found


def refusal(source: Path, with_target: bool = True, **settings: object) -> str:
    with pytest.raises(DataError) as caught:
        read(source, Settings.of(settings), with_target=with_target)
    message = str(caught.value)
    assert "\n" not in message
    assert str(source) in message
    return message.replace(str(source), "FILE")


def sequences(found: Dataset) -> Sequences:
    assert isinstance(found.content, Sequences)
    return found.content


class TestTextTables:
    def test_what_was_understood_is_said_and_resolved(self, tmp_path):
        found = load(put(tmp_path, "reviews.csv", REVIEWS))
        content = sequences(found)
        assert found.task == "classify"
        assert content.kind == "text"
        assert list(content.inputs) == ["a very good film", "not at all good"]
        assert content.targets == ["pos", "neg"]
        assert content.target_name == "label"
        assert list(content.origins) == ["reviews.csv row 2", "reviews.csv row 3"]
        assert found.resolved == {"task": "classify", "text": "text", "target": "label"}
        assert found.sentence == (
            "classify `text` into `label` (2 classes), 2 rows of reviews.csv; overrule with --task, --text, --target"
        )
        assert found.files == [tmp_path / "reviews.csv"]
        assert found.warnings == []

    @pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
    def test_separators_line_ends_and_byte_order_mark(self, tmp_path, separator, end, bom):
        lines = [f"text{separator}label", f'"one{separator} two ""three""\nfour"{separator}a', f"five six seven{separator}b"]
        content = sequences(load(put(tmp_path, "x.csv", bom + (end.join(lines) + end).encode())))
        assert list(content.inputs) == [f'one{separator} two "three"\nfour', "five six seven"]
        assert content.targets == ["a", "b"]

    @pytest.mark.parametrize("kind", ["parquet", "jsonl"])
    def test_other_forms(self, tmp_path, kind):
        frame = pl.DataFrame({"stars": [1, 5], "review": ["bad and worse it was", "good and better"], "user": ["x", "y"]})
        path = tmp_path / f"x.{kind}"
        frame.write_parquet(path) if kind == "parquet" else frame.write_ndjson(path)
        content = sequences(load(path))
        assert content.targets == ["1", "5"]
        assert list(content.inputs) == frame["review"].to_list()
        assert content.origins[0] == f"x.{kind} row 1"

    def test_jsonl_with_bom_and_objects_of_different_keys(self, tmp_path):
        lines = [{"label": True, "text": "one two three"}, {"text": "four five six", "label": False, "more": 1}]
        path = put(tmp_path, "x.jsonl", b"\xef\xbb\xbf" + "\n\n".join(map(json.dumps, lines)).encode())
        assert sequences(load(path)).targets == ["true", "false"]

    def test_unescaped_quotes_within_a_cell_are_characters(self, tmp_path):
        path = put(tmp_path, "x.csv", 'text,label\na 5" disk for me,pos\nthe other one here,neg\n')
        assert list(sequences(load(path)).inputs) == ['a 5" disk for me', "the other one here"]

    def test_tsv_with_single_quotes_is_read_as_it_is(self, tmp_path):
        path = put(tmp_path, "x.tsv", 'text\tlabel\n"Yes he said to me\tpos\nthe other one here\tneg\n')
        assert list(sequences(load(path)).inputs) == ['"Yes he said to me', "the other one here"]

    def test_cells_longer_than_the_csv_module_takes(self, tmp_path):
        long = "word " * 60_000 + 'with "quotes'
        content = sequences(load(put(tmp_path, "x.csv", f"text,label\n{long},a\nshort one here,b\n")))
        assert content.inputs[0] == long

    def test_blank_lines_do_not_shift_rows(self, tmp_path):
        path = put(tmp_path, "x.csv", "text,label\none two three,a\n\nfour five six,b\n\n\n")
        content = sequences(load(path))
        assert list(content.origins) == ["x.csv row 2", "x.csv row 4"]
        assert content.targets == ["a", "b"]

    def test_blank_texts_and_repeated_rows_are_counted(self, tmp_path):
        found = load(put(tmp_path, "x.csv", "text,label\none two three,a\n,b\none two three,a\n  ,c\n"))
        assert list(sequences(found).inputs)[1] == ""
        assert found.warnings[0] == "rows without text in `text`: 2 of 4; they are sequences of length 0"
        assert found.warnings[1] == f"{found.files[0].name}: repeated rows: 1 of 4; they are kept, and stay in one part"

    @pytest.mark.parametrize(
        ("labels", "task"),
        [
            (["1", "2", "1"], "classify"),
            (["1.5", "2", "1"], "regress"),
            ([str(i) for i in range(21)], "regress"),
            (["a", "1", "2"], "classify"),
        ],
    )
    def test_quantities_are_regressed(self, tmp_path, labels, task):
        rows = "".join(f"some words here {i},{label}\n" for i, label in enumerate(labels))
        found = load(put(tmp_path, "x.csv", "text,label\n" + rows))
        assert found.task == task
        targets = sequences(found).targets
        assert targets == labels if task == "classify" else np.array_equal(targets, np.array(labels, float))

    def test_settings_overrule(self, tmp_path):
        path = put(tmp_path, "x.csv", "title,body,stars,kind\nred,a long text of words,1,x\nblue,another long text,2,y\n")
        assert load(path).resolved == {"task": "classify", "text": "body", "target": "stars"}
        found = load(path, text="title", target="kind")
        assert found.resolved == {"task": "classify"}
        assert list(sequences(found).inputs) == ["red", "blue"]
        assert sequences(load(path, task="regress")).targets.tolist() == [1.0, 2.0]
        assert sequences(load(path, task="lm")).targets is None

    def test_parts_and_groups(self, tmp_path):
        rows = "a b c,x,train,u\nd e f,y, Dev,v\ng h i,x,TEST,u\nj k l,y,validation,w\n"
        path = put(tmp_path, "x.csv", "text,label,split,speaker\n" + rows)
        found = load(path, group="speaker")
        assert sequences(found).parts == ["train", "valid", "test", "valid"]
        assert sequences(found).groups == ["u", "v", "u", "w"]
        assert found.resolved["split_column"] == "split"
        assert "divided by `split`" in found.sentence

    def test_short_words_are_text_where_there_is_nothing_else(self, tmp_path):
        path = put(tmp_path, "x.csv", "name,nationality\nMüller,de\nRossi,it\nWeber,de\nVerdi,it\n")
        assert load(path).resolved == {"task": "classify", "text": "name", "target": "nationality"}

    def test_without_target(self, tmp_path):
        resolved = {"task": "classify", "text": "text", "target": "label", "split_column": "split"}
        found = load(put(tmp_path, "x.csv", "text\none two\nthree\n"), False, **resolved)
        assert sequences(found).targets is None
        assert list(sequences(found).inputs) == ["one two", "three"]
        assert sequences(load(put(tmp_path, "y.csv", REVIEWS), False, **resolved)).targets == ["pos", "neg"]
        found = load(put(tmp_path, "z.csv", "text,label\none two,\nthree,a\n"), False, **resolved)
        assert sequences(found).targets is None
        assert found.warnings == ["`label` is blank in 1 row of 2, so nothing is compared with it"]

    def test_resolved_settings_read_the_same(self, tmp_path):
        path = put(tmp_path, "x.csv", "when,text,a,stars\nx,one two three,4,1\ny,four five six,5,2\n")
        first = load(path)
        second = load(path, **first.resolved)
        assert second.resolved == {}
        assert sequences(second).targets == sequences(first).targets


BROKEN = {
    "empty": ("x.csv", b"", {}, "FILE is empty"),
    "header only": ("x.csv", "text,label\n", {}, "FILE holds a header and no rows"),
    "header and blank lines": ("x.csv", "text,label\n\n\n", {}, "FILE holds a header and no rows"),
    "latin-1": (
        "x.csv",
        b"text,label\nvery good,p\ncaf\xe9 noir,n\n",
        {},
        "FILE: byte 26 (line 3) is 0xe9, which is not UTF-8; convert",
    ),
    "utf-16": ("x.csv", REVIEWS.encode("utf-16"), {}, "FILE is not UTF-8 text but UTF-16 text; convert it with iconv"),
    "gzip": ("x.csv", b"\x1f\x8b\x08\x00abc", {}, "gunzip"),
    "spreadsheet": ("x.csv", b"PK\x03\x04abc", {}, "save it as CSV"),
    "binary": ("x.csv", bytes(range(256)), {}, "FILE: byte 0 (line 1) is NUL"),
    "NUL": ("x.csv", b"text,label\nvery\0good,p\n", {}, "FILE: byte 15 (line 2) is NUL; the file is damaged"),
    "old Macintosh": ("x.csv", "text,label\rone two three,a\r", {}, "CR alone"),
    "too many cells": ("x.csv", REVIEWS + "a,b,c\n", {}, "FILE line 4: 3 cells, the header has 2; put double quotes"),
    "too few cells": (
        "x.csv",
        "text,label,a\none two three,x,1\nfour five six,y\n",
        {},
        "FILE line 3: 2 cells, the header has 3",
    ),
    "only one cell": ("x.csv", REVIEWS + "lost\n", {}, "FILE line 4: 1 cell, the header has 2"),
    "open quote": ("x.csv", REVIEWS + '"not closed,a\nb,c\n', {}, "FILE line 4: a double quote is opened and never closed"),
    "open quote in the label": ("x.csv", REVIEWS + 'not closed,"a\nb,c\n', {}, "FILE line 4: a double quote is opened"),
    "quote in the middle": ("x.csv", REVIEWS + '"yes" he said,a\n', {}, "FILE line 4: a double quote stands where none may"),
    "no header": (
        "x.csv",
        "a good film,pos\na bad film,neg\nfine for me,pos\n",
        {},
        "'pos' is also a value below it; add a header line",
    ),
    "no header, numbers": ("x.csv", "2016-07-01,3\n2016-07-02,4\n", {}, "begins with '2016-07-01'"),
    "blank first line": ("x.csv", "\n" + REVIEWS, {}, "FILE: the first line is blank, expected the names of the columns"),
    "only a byte order mark": ("x.csv", b"\xef\xbb\xbf", {}, "FILE: the first line is blank"),
    "columns of one name": ("x.csv", "text,label,text\na,b,c\n", {}, "columns 1 and 3 are both called 'text'"),
    "unknown target": ("x.csv", REVIEWS, {"target": "lable"}, "there is no column 'lable' (--target); did you mean 'label'?"),
    "unknown text": ("x.csv", REVIEWS, {"text": "zzz"}, "there is no column 'zzz' (--text); give --text one of: text, label"),
    "unknown split": ("x.csv", REVIEWS, {"split_column": "splt"}, "there is no column 'splt' (--split-column)"),
    "unknown group": ("x.csv", REVIEWS, {"group": "labl"}, "there is no column 'labl' (--group); did you mean 'label'?"),
    "unknown path": ("x.csv", REVIEWS, {"path": "wav"}, "there is no column 'wav' (--path)"),
    "target is text": ("x.csv", REVIEWS, {"target": "text", "text": "text"}, "column 'text' is given two parts to play"),
    "target is group": ("x.csv", REVIEWS, {"target": "label", "group": "label"}, "column 'label' is given two parts to play"),
    "text and path": ("x.csv", REVIEWS, {"text": "text", "path": "label"}, "--text and --path are both given"),
    "text and id": ("x.csv", REVIEWS, {"text": "text", "id": "label"}, "do not go with --text or --path"),
    "text and tag": ("x.csv", REVIEWS, {"text": "text", "task": "tag"}, "--task tag does not go with --text"),
    "blank label": (
        "x.csv",
        REVIEWS + "so so it was,\n, \n",
        {},
        "FILE: row 4, column 'label': blank, expected what is to be predicted (2 such rows); fill",
    ),
    "blank label after a long cell": (
        "x.csv",
        'text,label\n"a\nb c d",x\nso so it was,\n',
        {},
        "FILE: row 3 (line 4), column 'label': blank",
    ),
    "not a number": (
        "x.csv",
        REVIEWS,
        {"task": "regress"},
        "FILE: row 2, column 'label': 'pos' is not a finite number (2 such rows)",
    ),
    "infinite": (
        "x.csv",
        "text,score\na b c,0.5\nd e f,inf\n",
        {},
        "FILE: row 3, column 'score': 'inf' is not a finite number",
    ),
    "one cell of many not a number": (
        "x.csv",
        "text,score\n" + "".join(f"some words {i},{i}.5\n" for i in range(30)) + "some words,2,5\n".replace("2,5", "x"),
        {},
        "FILE: row 32, column 'score': 'x' is not a finite number",
    ),
    "unknown part": (
        "x.csv",
        "text,label,s\na b c,x,train\nd e f,y,trian\n",
        {"split_column": "s"},
        "FILE: row 3, column 's': 'trian' is no part of a split; expected train",
    ),
    "blank part": (
        "x.csv",
        "text,label,s\na b c,x,train\nd e f,y,\n",
        {"split_column": "s"},
        "FILE: row 3, column 's': blank (1 such row)",
    ),
    "blank group": ("x.csv", "text,label,s\na b c,x,\nd e f,y,u\n", {"group": "s"}, "FILE: row 2, column 's': blank"),
    "no label": (
        "x.csv",
        "text\none two three\n",
        {},
        "no column looks like the label of 'text'; name it with --target (there is no column beside it)",
    ),
    "no text": ("x.csv", "a,b\n1,x\n2,x\n", {}, "no column holds text, sound files or a time"),
    "not JSON": ("x.jsonl", '{"text":"a b c","label":"x"}\n{"text":"a"', {}, "FILE line 2 is not JSON: Expecting"),
    "one JSON array": ("x.jsonl", '[{"text":"a b c","label":"x"},\n{"text":"a b c","label":"x"}]', {}, "converted with jq"),
    "JSON numbers": ("x.jsonl", "1\n2\n", {}, "FILE line 1 is '1', expected an object"),
    "JSON lists": (
        "x.jsonl",
        '{"text":"a b c","label":["x"]}\n',
        {},
        "column 'label' holds List(String), expected text or numbers",
    ),
    "JSON without label": (
        "x.jsonl",
        '{"text":"a b c","label":"x"}\n\n{"text":"d e f"}\n',
        {},
        "row 2 (line 3), column 'label': blank",
    ),
    "only blank JSON lines": ("x.jsonl", "\n\n", {}, "FILE has no columns"),
    "no Parquet": ("x.parquet", "text,label\n", {}, "FILE is not a Parquet file"),
    "cut Parquet": ("x.parquet", b"PAR1" + bytes(50) + b"PAR1", {}, "FILE is not a Parquet file"),
    "JSON": ("x.json", "[]", {}, "jq -c"),
    "pickle": ("x.pkl", b"\x80\x04", {}, "a pickle can run code"),
    "unknown form": ("x.foo", "some text\n", {}, ".foo is none of a table"),
    "labels for plain text": ("x.txt", "some text\nand more of it\n", {"task": "classify"}, "no labels for --task classify"),
    "columns for plain text": ("x.txt", "some text\n", {"task": "lm", "text": "text"}, "--text means nothing"),
    "one sound": ("x.wav", b"RIFF", {}, "FILE is one sound file; give a folder per class"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_gives_one_clear_line(case, tmp_path):
    name, content, settings, expected = BROKEN[case]
    assert expected in refusal(put(tmp_path, name, content), **settings)


class TestPlaces:
    def test_missing(self, tmp_path):
        put(tmp_path, "reviews.csv", REVIEWS)
        assert refusal(tmp_path / "review.csv") == "FILE does not exist; did you mean 'reviews.csv'?"
        assert refusal(tmp_path / "zzzzzz") == f"FILE does not exist; nothing in {tmp_path} has a name like it"
        assert refusal(tmp_path / "none" / "x.csv") == f"FILE does not exist: there is no folder {tmp_path / 'none'}"

    def test_glob_characters_are_characters(self, tmp_path):
        put(tmp_path, "a1.csv", "text,label\nwrong one here,z\n")
        assert sequences(load(put(tmp_path, "a[1].csv", REVIEWS))).targets == ["pos", "neg"]
        frame = pl.DataFrame({"text": ["one two three", "four"], "label": ["a", "b"]})
        frame.write_parquet(tmp_path / "b[1]*.parquet")
        frame.write_ndjson(tmp_path / "b[1]*.jsonl")
        assert sequences(load(tmp_path / "b[1]*.parquet")).targets == ["a", "b"]
        assert sequences(load(tmp_path / "b[1]*.jsonl")).targets == ["a", "b"]

    def test_a_column_called_row(self, tmp_path):
        path = put(tmp_path, "x.csv", "row,text,label\n7,one two three,a\n8,four five six,b\n")
        assert list(sequences(load(path)).origins) == ["x.csv row 2", "x.csv row 3"]
        assert sequences(load(path, target="row")).targets == ["7", "8"]

    def test_neither_file_nor_folder(self):
        assert refusal(Path("/dev/null")) == "FILE is neither a file nor a folder"

    def test_folders(self, tmp_path):
        assert "a folder without files" in refusal(tmp_path)
        put(tmp_path, "a-train.csv", REVIEWS)
        assert load(tmp_path).warnings == [f"{tmp_path} is a folder; a-train.csv in it is read"]
        put(tmp_path, "a-test.csv", REVIEWS)
        assert "to fit: FILE/a-train.csv --test FILE/a-test.csv" in refusal(tmp_path)
        put(tmp_path, "b.csv", REVIEWS)
        put(tmp_path, "b-train.csv", REVIEWS)
        assert "give one of them: FILE/a-test.csv, FILE/a-train.csv, FILE/b-train.csv, FILE/b.csv" in refusal(tmp_path)
        put(tmp_path / "other", "x.bin", b"\0")
        assert "holds no file of a known form" in refusal(tmp_path / "other")


class TestSound:
    def table(self, folder: Path, rows: list[str], header: str = "file,word,speaker") -> Path:
        soundfile = pytest.importorskip("soundfile")
        (folder / "wav").mkdir()
        for name in ("a", "b"):
            soundfile.write(folder / "wav" / f"{name}.wav", np.zeros(100), 8000)
        return put(folder, "index.csv", "\n".join([header, *rows]) + "\n")

    def test_a_table_of_paths(self, tmp_path):
        path = self.table(tmp_path, ["wav/a.wav,yes,u", "wav/b.wav,no,v"])
        found = load(path)
        assert sequences(found).kind == "sound"
        assert list(sequences(found).inputs) == [tmp_path / "wav/a.wav", tmp_path / "wav/b.wav"]
        assert sequences(found).targets == ["yes", "no"]
        assert found.files == [path, tmp_path / "wav/a.wav", tmp_path / "wav/b.wav"]
        assert found.resolved == {"task": "classify", "path": "file", "target": "word"}

    def test_a_sound_that_is_missing(self, tmp_path):
        path = self.table(tmp_path, ["wav/a.wav,yes,u", "wav/c.wav,no,v"])
        message = refusal(path)
        assert "FILE: row 3, column 'file'" in message
        assert "did you mean 'a.wav'?" in message or "did you mean 'b.wav'?" in message
        assert message.endswith("paths are relative to the table")

    def test_a_blank_path(self, tmp_path):
        path = self.table(tmp_path, ["wav/a.wav,yes,u", ",no,v"])
        assert "FILE: row 3, column 'file': blank" in refusal(path)

    def test_copies_and_links_that_lead_nowhere(self, tmp_path):
        soundfile = pytest.importorskip("soundfile")
        for name, level in (("a/1.wav", 0.1), ("a/2.wav", 0.2), ("b/3.wav", 0.1), ("b/4.wav", 0.4)):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            soundfile.write(tmp_path / name, np.full(100, level), 8000)
        (tmp_path / "a/l.wav").symlink_to(tmp_path / "nowhere.wav")
        assert load(tmp_path).warnings == [
            "links that lead nowhere, left out: a/l.wav",
            f"{tmp_path.name}: repeated sequences: 1 of 4; they are kept, and stay in one part",
        ]


def test_numbers_that_come_twice(tmp_path):
    path = put(tmp_path, "x.ts", "@univariate true\n@classLabel true a b\n@data\n1,2,3:a\n1,2,3:a\n4,5,6:b\n")
    assert load(path).warnings == ["x.ts: repeated sequences: 1 of 3; they are kept, and stay in one part"]
    assert read(path, Settings(), role="new").warnings == []


def test_tables_of_numbers_are_handed_on(tmp_path):
    rows = "".join(f"{i // 4},{i % 4},{i * 0.5},{'ab'[i // 4 % 2]}\n" for i in range(16))
    found = load(put(tmp_path, "x.csv", "id,step,x,label\n" + rows))
    assert sequences(found).kind == "numeric"
    assert len(sequences(found)) == 4
    months = "".join(f"{1950 + i // 12}-{i % 12 + 1:02},{i}\n" for i in range(60))
    found = load(put(tmp_path, "y.csv", "Date,Passengers\n" + months))
    assert found.task == "forecast"
    assert isinstance(found.content, Panel)
    assert "FILE: row 7, column 'Passengers': 'x' is not a number" in refusal(
        put(tmp_path, "z.csv", "Date,Passengers\n" + months.replace("05,4\n", "05,4\n").replace("06,5\n", "06,x\n", 1))
    )


REAL = {
    "ud_english_ewt/genre-train.csv": ("classify", 12_544),
    "ud_english_ewt/ewt-train.tsv": ("tag", 12_544),
    "ud_english_ewt/en_ewt-ud-test.conllu": ("tag", 2_077),
    "fsdd/index.csv": ("classify", 3_000),
    "names/names.txt": ("lm", 32_033),
    "tinyshakespeare/input.txt": ("lm", 1),
    "forecast/Airline.csv": ("forecast", 1),
    "forecast/macrodata.csv": ("forecast", 12),
    "etth/ETTh1.csv": ("forecast", 7),
    "uea/JapaneseVowels/JapaneseVowels_TRAIN.ts": ("classify", 270),
}


@pytest.mark.parametrize("name", REAL)
def test_real_data(name):
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not here")
    found = load(DATA / name)
    assert (found.task, len(found.content)) == REAL[name]
    again = load(DATA / name, **found.resolved)
    assert again.task == found.task
    assert again.resolved == {}


def test_real_digits_have_their_columns():
    path = DATA / "fsdd" / "index.csv"
    if not path.exists():
        pytest.skip("fsdd is not here")
    found = load(path)
    assert found.resolved == {"task": "classify", "path": "path", "target": "digit", "split_column": "split"}
    assert sequences(found).parts.count("test") == 300


@pytest.mark.parametrize("seed", range(4))
def test_quotes_are_read_as_the_standard_library_does(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regular or not, in blocks of any size; what the standard library refuses is refused."""
    chance, taken, refused, regular = random.Random(seed), 0, 0, 0
    monkeypatch.setattr("throughtime.data.files.BLOCK", 7)

    def cell() -> str:
        text = "".join(chance.choices('ab ",\né', k=chance.choice([1, 2, 4, 8])))
        form = chance.random()
        if form < 0.5:
            return '"' + text.replace('"', '""') + '"'
        return (
            chance.choice([text, 'a"b'])
            if form < 0.52
            else chance.choice("abé") + text.replace('"', "").replace(",", "").replace("\n", "")
        )

    for number in range(60):
        rows = [",".join(cell() for _ in range(3)) for _ in range(chance.choice([1, 5, 40]))]
        content = "\n".join(["one,two,three", *rows]) + "\n" * chance.randint(0, 1)
        path = put(tmp_path, f"{number}.csv", "\ufeff" * chance.randint(0, 1) + content)
        try:
            expected = [row for row in csv.reader(io.StringIO(content, newline=""), strict=True) if row][1:]
            assert all(len(row) == 3 for row in expected)
        except (csv.Error, AssertionError):
            with pytest.raises(DataError):
                list(open_table(path).cells(["one", "two", "three"]))
            refused += 1
            continue
        table = open_table(path)
        found = pl.concat(table.cells(["one", "two", "three"])).drop(ROW).rows()
        assert found == [tuple(text or None for text in row) for row in expected]
        assert table.irregular is ('"' in re.sub(r'(?:(?<=[,\n])|^)"(?:[^"]|"")*"(?=[,\n]|$)', "", content))
        taken, regular = taken + 1, regular + (not table.irregular)
    assert min(taken, taken - regular, refused, regular) >= 2
