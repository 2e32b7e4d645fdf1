"""Long tables, time series and tagged words read some rows at a time are what they are read whole: values, words and errors."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from throughtime.data import Dataset, frame, read, spool
from throughtime.data.csvfile import Csv
from throughtime.data.records import Panel, Sequences, WordSlices
from throughtime.data.tablefile import open_table
from throughtime.errors import DataError
from throughtime.settings import Settings

KINDS = ("csv", "parquet", "jsonl", "csv with blank lines", "csv with an odd quote", "csv with blank ends")


@contextmanager
def pieces() -> Iterator[None]:
    """A few rows are looked at at a time, and next to nothing is kept in memory."""
    batches = pl.LazyFrame.collect_batches
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "IN_MEMORY", 200)
        patch.setattr(spool, "_BLOCK", 100)
        patch.setattr(frame, "PIECE", 3000)
        patch.setattr("throughtime.data.tablefile._PIECE", 900)
        patch.setattr("throughtime.data.times._SLICE", 50)
        patch.setattr("throughtime.data.missing._ROWS", 50)
        patch.setattr("throughtime.data.series.BLOCK", 1000)
        patch.setattr(pl.LazyFrame, "collect_batches", lambda scan: batches(scan, chunk_size=50))
        yield


def put(folder: Path, kind: str, table: dict[str, list[Any]]) -> Path:
    """The table in a file of this kind."""
    path, rows = folder / f"table.{kind.split()[0]}", pl.DataFrame(table, strict=False)
    if kind == "parquet":
        rows.write_parquet(path, row_group_size=20)
    elif kind == "jsonl":
        rows.write_ndjson(path)
    else:
        rows = rows.with_columns(note=pl.lit('5" wide')) if "quote" in kind else rows
        rows = rows.with_columns(note=pl.lit("")) if "ends" in kind else rows
        rows.write_csv(path, quote_style="never")
        if "lines" in kind:
            path.write_text(path.read_text().replace("\n", "\n\n"))
    return path


def said(found: Dataset) -> dict[str, Any]:
    """All that a dataset holds, in plain objects."""
    content: dict[str, Any] = vars(found.content) | {"series": [vars(one) for one in getattr(found.content, "series", ())]}
    return vars(found) | {"content": content}


def same(one: Any, other: Any) -> bool:
    """Whether two objects hold the same, down to the type and the bits of an array."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(list(one) == list(other) if hasattr(one, "names") else one == other)


def lies_in_a_file(array: Any) -> bool:
    """Whether an array is a view of one that is memory-mapped."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


def long(rows: int = 240, **columns: Callable[[int], Any]) -> dict[str, list[Any]]:
    """A table of 20 sequences, whose rows stand in no order."""
    made: dict[str, Callable[[int], Any]] = {
        "id": lambda row: f"u{row % 20}",
        "step": lambda row: (row * 7) % rows // 20,
        "x": lambda row: None if row % 40 == 3 else row / 8,
        "n": lambda row: row * 13 % 29,
        "label": lambda row: "abc"[row % 20 % 3],
    }
    return {name: [make(row) for row in range(rows)] for name, make in (made | columns).items()}


def panel(days: int = 40, **columns: Callable[[int], Any]) -> dict[str, list[Any]]:
    """Six series of days, which stand beside each other, two days missing."""
    made: dict[str, Callable[[int], Any]] = {
        "unique_id": lambda row: f"s{row % 6}",
        "ds": lambda row: str(np.datetime64("2024-02-20") + row // 6 + 2 * (row // 6 > 20)),
        "y": lambda row: row % 17 / 4,
        "price": lambda row: None if row % 100 == 9 else row % 5,
        "sold": lambda row: row % 7,
        "colour": lambda row: "red" if row % 6 else "blue",
    }
    return {name: [make(row) for row in range(6 * days)] for name, make in (made | columns).items()}


def wide(steps: int = 60, **columns: Callable[[int], Any]) -> dict[str, list[Any]]:
    """Five series, a column each, the latest first."""
    times = [str(np.datetime64("2024-01-01T00") + steps - row).replace("T", " ") + ":00" for row in range(steps)]
    made = {f"c{number}": [None if row == 7 * number else row * number / 8 for row in range(steps)] for number in range(5)}
    return {"date": times} | made | {name: [make(row) for row in range(steps)] for name, make in columns.items()}


TABLES: dict[str, tuple[dict[str, list[Any]], dict[str, Any]]] = {
    "classes": (long(), {"missing": "interpolate"}),
    "classes by number": (long(id=lambda row: row % 20, label=lambda row: row % 20 % 3), {"id": "id", "missing": "mask"}),
    "names of digits": (long(id=lambda row: f"{row % 20:03}"), {"id": "id", "missing": "mask"}),
    "tags": (long(label=lambda row: "xyz"[row % 7 % 3]), {"task": "tag", "missing": "interpolate"}),
    "numbers of sequences": (long(label=lambda row: row % 20 / 8), {"missing": "mask"}),
    "numbers of steps": (long(label=lambda row: row / 8), {"missing": "mask"}),
    "parts and groups": (
        long(split=lambda row: ("train", "valid", "test")[row % 20 % 3], who=lambda row: f"w{row % 20 // 2}"),
        {"missing": "mask", "group": "who"},
    ),
    "dates as steps": (long(step=lambda row: f"{row * 7 % 240 // 20 + 1:02}.03.2024"), {"time": "step", "missing": "mask"}),
    "panel": (panel(), {"missing": "interpolate", "past": ("sold",), "future": ("price",), "static": ("colour",)}),
    "panel by numbers": (panel(unique_id=lambda row: f"{row % 6:02}"), {"missing": "mask"}),
    "panel of other dates": (panel(ds=lambda row: f"{row // 6 % 28 + 1}/{row // 168 + 1}/2024"), {"missing": "mask"}),
    "panel of steps": (panel(ds=lambda row: row // 6), {"missing": "mask"}),
    "panel in parts": (panel(split=lambda row: "train" if row < 180 else "test"), {"missing": "mask"}),
    "wide": (wide(), {"task": "forecast", "missing": "mask"}),
    "one series": ({name: column for name, column in wide().items() if name in ("date", "c1")}, {"missing": "mask"}),
    "whole dates": (wide(date=lambda row: 20240101 + row % 28 + 100 * (row // 28)), {"task": "forecast", "missing": "mask"}),
}
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
TABLES["months"] = (
    {"year": [1950 + row for row in range(30)]}
    | {month: [row * 12 + place for row in range(30)] for place, month in enumerate(MONTHS)},
    {"task": "forecast"},
)


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "csv") for name in TABLES), *product(("classes", "panel", "wide"), KINDS[1:])]
)
def test_a_table_in_pieces_is_what_it_is_whole(name: str, kind: str, tmp_path: Path) -> None:
    """Values, order, origins, what was guessed, the sentence and the warnings."""
    table, settings = TABLES[name]
    path = put(tmp_path, kind, table)
    whole = read(path, Settings.of(settings))
    with pieces():
        assert kind == "parquet" or len(list(open_table(path).cells([next(iter(table))]))) > 1
        found = read(path, Settings.of(settings))
        assert same(said(found), said(whole))
    if isinstance(found.content, Panel):
        assert lies_in_a_file(found.content.series[0].values)
    else:
        assert isinstance(found.content, Sequences)
        assert lies_in_a_file(found.content.inputs[0])


LATE: dict[str, tuple[dict[str, list[Any]], dict[str, Any], str]] = {
    "no number": (
        long(x=lambda row: "high" if row in (200, 222) else 1.5),
        {"features": ("x", "n")},
        r"column 'x': 'high' is not a number \(and 1",
    ),
    "an infinite number": (long(x=lambda row: float("inf") if row == 201 else 1.5), {}, "column 'x': the number is infinite"),
    "a blank id": (long(id=lambda row: None if row == 230 else f"u{row % 20}"), {"id": "id"}, "column 'id': blank"),
    "a blank step": (
        long(step=lambda row: None if row == 230 else row * 7 % 240 // 20),
        {"missing": "mask"},
        "the step is missing",
    ),
    "a blank label": (
        long(label=lambda row: None if row > 230 else "a"),
        {"missing": "mask"},
        r"the label is blank \(9 in all\)",
    ),
    "another label": (
        long(label=lambda row: "c" if row == 239 else "abc"[row % 20 % 2]),
        {"task": "classify", "missing": "mask"},
        "column 'label': 'c', but 'u19' began with 'b'",
    ),
    "a step twice": (long(step=lambda row: 0 if row == 233 else row // 20), {"missing": "mask"}, "are both step 0 of 'u13'"),
    "no time": (
        panel(ds=lambda row: "soon" if row == 210 else f"2024-01-{row // 6 + 1:02}"),
        {"task": "forecast"},
        "'soon' is no time",
    ),
    "no day": (
        panel(ds=lambda row: f"2024-02-{row // 6 + 1:02}"),
        {"task": "forecast"},
        "'2024-02-30' is no day of the calendar",
    ),
    "the day or the month": (
        panel(ds=lambda row: f"{row // 6 % 12 + 1}/{row // 72 + 1}/2024" if row < 220 else "13/1/2024"),
        {"task": "forecast"},
        "have the same time",
    ),
    "no value": (panel(20, y=lambda row: None if row == 99 else 1.5), {}, "column 'y': the number is missing"),
    "no number of a series": (
        panel(y=lambda row: "high" if row == 209 else 1.5),
        {"target": "y"},
        "column 'y': 'high' is not a number",
    ),
    "no part": (
        panel(split=lambda row: "trial" if row == 239 else "train"),
        {"split_column": "split"},
        "'trial' is no part of a split",
    ),
    "no number in a late column": (
        wide(c9=lambda row: "-" if row == 55 else row),
        {"task": "forecast", "target": "c9"},
        "column 'c9': '-' is",
    ),
}


@pytest.mark.parametrize(("name", "kind"), [*((name, "csv") for name in LATE), *product(("no number", "no value"), KINDS[1:])])
def test_an_error_in_a_late_piece_names_its_row(name: str, kind: str, tmp_path: Path) -> None:
    table, settings, message = LATE[name]
    table = {column: [cell if cell is None else str(cell) for cell in cells] for column, cells in table.items()}
    path = put(tmp_path, kind, table)
    with pytest.raises(DataError, match=message) as whole:
        read(path, Settings.of(settings))
    with pieces(), pytest.raises(DataError) as late:
        read(path, Settings.of(settings))
    assert str(late.value) == str(whole.value)


def test_rows_are_counted_through_all_pieces(tmp_path: Path) -> None:
    table = long(x=lambda row: "high" if row >= 200 else 1.5)
    with pieces(), pytest.raises(DataError, match=r"table\.csv: row 202, column 'x': 'high' is not a number \(and 39 more"):
        read(put(tmp_path, "csv", table), Settings.of({"features": ("x", "n")}))


def test_tagged_words_are_kept_once_each(tmp_path: Path) -> None:
    """And the lists that they make are those of the file."""
    path = tmp_path / "a.conll"
    sentences = [[(f"w{row * place % 13}", "NV"[row % 2]) for place in range(1, row % 5 + 2)] for row in range(300)]
    lines = ["".join(f"{word}\t{tag}\n" for word, tag in sentence) + "\n" for sentence in sentences]
    path.write_text("".join(lines))
    with pieces():
        found = read(path, Settings())
    content = found.content
    assert isinstance(content, Sequences)
    assert isinstance(content.inputs, WordSlices)
    assert lies_in_a_file(content.inputs.codes)
    assert content.inputs == [[word for word, _ in sentence] for sentence in sentences]
    assert content.targets == [[tag for _, tag in sentence] for sentence in sentences]
    assert content.inputs != content.targets
    assert len(content.inputs.vocabulary) == 13
    again = len(sentences) - len({tuple(sentence) for sentence in sentences})
    assert found.warnings == [f"a.conll: repeated sentences: {again} of 300; they are kept, and stay in one part"]
    assert content.origin(299) == f"a.conll line {sum(map(len, sentences[:299])) + 300}"
    assert content.take([7, 2]).inputs == [content.inputs[7], content.inputs[2]]
    path.write_text("".join(lines) + "one two three\n")
    with (
        pieces(),
        pytest.raises(DataError, match=f"line {sum(map(len, sentences)) + 301:,}: 1 column, expected 2 parted by tabs"),
    ):
        read(path, Settings())


@pytest.mark.parametrize("quote", ['"', None])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blocks_end_where_records_do(end: str, quote: str | None, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    cells = ['"a\nb"', '"a "" b\n\n"', '""""', "é", "1", "", '"x,y"'] if quote else ['a"', '"', "é", "1", "", "x"]
    rows = [f"{random.choice(cells)},{random.choice(cells)},{number}" for number in range(200)]
    path = tmp_path / "a.csv"
    path.write_bytes(("\ufeff" + end.join(['one,"t\nwo",three' if quote else 'one,two,"three"', *rows])).encode())
    schema: dict[str, pl.DataType] = dict.fromkeys(("one", "two", "three"), pl.String())
    whole = pl.concat(Csv(path, [*schema], ",", quote, 1 << 20).frames(["three", "one", "two"], schema))
    assert whole["three"].to_list() == [str(number) for number in range(200)]
    for size in (1, 7, 100):
        made = list(Csv(path, [*schema], ",", quote, size).frames(["three", "one", "two"], schema))
        assert len(made) > 5
        assert pl.concat(made).equals(whole)


@pytest.mark.parametrize(
    "cells", [["1", "2.5"], ["1", "x"], ["true", "FALSE"], ["true", "1"], ["1", ""], ["", ""], ["NaN", "1"]]
)
def test_types_are_those_of_the_whole_file(cells: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{cells[row > 8]},1\n" for row in range(10)))
    found = Csv(path, ["a", "b"], ",", '"', 8).survey()
    assert found == (dict(pl.read_csv(path, infer_schema_length=None).schema), None)


def test_a_blank_in_the_last_column_is_found_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{row},{'' if row in (7, 8) else row}\n" for row in range(10)))
    found = Csv(path, ["a", "b"], ",", '"', 8).survey()
    assert found is not None
    assert found[1] == 7


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    class Full:
        def write(self, _: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None: ...

    path = put(tmp_path, "csv", long())
    with pieces(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", Full)
        with pytest.raises(DataError, match=r"cannot hold what is read \(No space left on device\).*TMPDIR"):
            read(path, Settings())
