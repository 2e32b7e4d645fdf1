"""What is laid down piece by piece: the same in memory and in a file, and tables in pieces are those read whole."""

from __future__ import annotations

import errno
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from throughtime.data import Dataset, Sequences, TextSlices, read, spool
from throughtime.data.batches import Ragged
from throughtime.data.split import split
from throughtime.data.spool import Spool, TextSpool
from throughtime.data.tablefile import open_table
from throughtime.errors import DataError
from throughtime.settings import Settings
from throughtime.tasks.baselines import classify, regress
from throughtime.tasks.inputs import WordInputs

TEXTS = ["one", "", "zwölf\n", "日本", "", "x" * 50, "one", '"']


@pytest.fixture(params=["memory", "file"])
def _place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where arrays lie."""
    if request.param == "file":
        monkeypatch.setattr(spool, "IN_MEMORY", 8)
        monkeypatch.setattr(spool, "_BLOCK", 200)
    return str(request.param)


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint8])
def test_an_array_is_its_pieces(_place: str, dtype: Any, shape: tuple[int, ...]) -> None:  # noqa: PT019 - says where it lies
    random = np.random.default_rng(0)
    pieces = [random.integers(0, 99, (length, *shape)).astype(dtype) for length in (0, 3, 1, 0, 40, 2)]
    made = Spool()
    for piece in pieces:
        made.add(piece)
    found = made.array()
    assert isinstance(found, np.memmap) is (_place != "memory")
    assert found.dtype == dtype
    assert np.array_equal(found, np.concatenate(pieces))
    found[0] = 7  # torch warns of arrays that may not be written to
    ragged = Ragged.of(iter(pieces))
    assert ragged.lengths.tolist() == [0, 3, 1, 0, 40, 2]
    assert all(np.array_equal(ragged[row], piece) for row, piece in enumerate(pieces))


def test_nothing_is_an_array_too() -> None:
    assert Spool().array().shape == (0,)
    assert len(TextSpool().slices()) == len(Ragged.of([])) == 0


def test_texts_are_those_that_were_added(_place: str) -> None:  # noqa: PT019
    made = TextSpool()
    for start in range(0, len(TEXTS), 3):
        made.add(pl.Series(TEXTS[start : start + 3], dtype=pl.String))
    found = made.slices()
    assert list(found) == TEXTS
    assert found.sizes().tolist() == [len(text.encode()) for text in TEXTS]
    assert list(found[np.array([3, 0])]) == ["日本", "one"]
    assert list(found[2:4]) == TEXTS[2:4]
    assert found.between(2, 2, 4).decode() == "ö"


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "IN_MEMORY", 8)
    monkeypatch.setattr("tempfile.TemporaryFile", Full)
    made = Spool()
    made.add(np.zeros(100))
    with pytest.raises(
        DataError, match=r"cannot hold what is read \(No space left on device\); free some space, or .* TMPDIR$"
    ):
        made.array()


# --- tables

ROWS = [
    (f"text {row % 97} of {row % 5}, élan" * (row % 4), f"{'no' if row % 3 else 'yes'}", f"g{row % 11}") for row in range(900)
]


def written(folder: Path, kind: str) -> Path:
    """A labelled table of 300 rows, some of them blank, some repeated."""
    path = folder / f"reviews.{kind.split()[0]}"
    frame = pl.DataFrame(ROWS, ["text", "label", "who"], orient="row")
    if kind == "parquet":
        frame.write_parquet(path, row_group_size=100)
    elif kind == "jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator="\t" if kind == "tsv" else ",")
    if kind == "csv with blank lines":
        path.write_text(path.read_text().replace("\n", "\n\n"))
    elif kind == "csv with quotes":
        path.write_text(path.read_text() + 'an odd 5" quote,no,g1\n')
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl", "csv with blank lines", "csv with quotes"])
def test_a_table_in_pieces_is_the_same(kind: str, _place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: PT019
    """Texts, labels, places, repetitions and the parts: whatever the pieces are."""
    path, settings = written(tmp_path, kind), Settings.of({"text": "text", "target": "label", "group": "who"})
    monkeypatch.setattr("throughtime.data.tablefile._PIECE", 500)
    batches = pl.LazyFrame.collect_batches
    monkeypatch.setattr(pl.LazyFrame, "collect_batches", lambda frame: batches(frame, chunk_size=7))
    assert len(list(open_table(path).cells(["text"]))) > 10, "as many as there are pieces"
    found = read(path, settings)
    content = found.content
    assert isinstance(content, Sequences)
    assert isinstance(content.inputs, TextSlices)
    rows = ROWS + [('an odd 5" quote', "no", "g1")] * ("quotes" in kind)
    assert list(content.inputs) == [text for text, _, _ in rows]
    assert content.targets == [label for _, label, _ in rows]
    assert content.groups == [who for _, _, who in rows]
    first = 1 if kind in ("parquet", "jsonl") else 2
    assert content.origin(299) == f"{path.name} row {first + (2 * 299 + 1 if 'blank lines' in kind else 299)}"
    again = len(rows) - len({row[:2] for row in rows})
    assert found.warnings[0].endswith(f"{sum(not row[0] for row in rows)} of {len(rows)}; they are sequences of length 0")
    assert found.warnings[1] == f"{path.name}: repeated rows: {again} of {len(rows)}; they are kept, and stay in one part"
    listed = Sequences(
        "text", [text for text, _, _ in rows], content.targets, content.origins, content.groups, target_name="label"
    )
    from_file, from_list = (split(Dataset("classify", one, ""), settings) for one in (content, listed))
    assert from_file.sentence == from_list.sentence
    for one, other in ((from_file.train, from_list.train), (from_file.valid, from_list.valid)):
        assert list(one.inputs) == list(other.inputs)


def test_a_damaged_end_is_found_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "a good film,yes\n" * 60_000 + "one,two,three\n")
    with pytest.raises(DataError, match=r"line 60,002: 3 cells, the header has 2"):
        read(path, Settings())
    path = tmp_path / "reviews.jsonl"
    path.write_text((json.dumps({"text": "a good film", "label": "yes"}) + "\n") * 60_000 + "{\n")
    with pytest.raises(DataError, match=r"line 60,001 is not JSON"):
        read(path, Settings())


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is kept in memory, and little looked at at a time."""
    monkeypatch.setattr(spool, "IN_MEMORY", 1 << 18)
    monkeypatch.setattr(spool, "_BLOCK", 1 << 16)
    monkeypatch.setattr("throughtime.data.files.BLOCK", 1 << 18)


def held_by(work: Callable[[], Any]) -> tuple[Any, int]:
    """What comes of it, and the most that Python and NumPy held meanwhile, in bytes; polars has buffers of its own."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("_small")
def test_what_is_held_does_not_grow_with_the_text_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("text,label\n" + "".join(f"{'ab cd ' * 3000}{row},{row % 2}\n" for row in range(2000)))
    found, held = held_by(lambda: read(path, Settings()))
    assert held < path.stat().st_size / 2
    _, held = held_by(lambda: split(found, Settings()))
    assert held < path.stat().st_size / 10


@pytest.mark.usefixtures("_small")
def test_words_are_not_all_held_while_they_are_encoded() -> None:
    made = TextSpool()
    made.add(pl.Series([" ".join(f"word{row * place % 997}" for place in range(500)) for row in range(200)]))
    part = Sequences("text", made.slices())
    encoded, held = held_by(lambda: WordInputs.fit(part, Settings()).encode(part))
    assert encoded.lengths.tolist() == [500] * 200
    assert isinstance(encoded.ragged.values, np.memmap)
    assert held < 100_000 * 30, "a word as an object has more than 50 bytes"


def test_baselines_take_texts_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And say the same of them as of all at once."""
    texts = [f"{'good' if row % 2 else 'bad'} film {row * 7 % 13} of {row % 5}" for row in range(60)]
    train = Sequences("text", texts, ["yes" if row % 2 else "no" for row in range(60)])
    numbers = Sequences("text", texts, np.arange(60) % 7.0)
    for methods, data, names in ((classify, train, [["no", "yes"]]), (regress, numbers, [])):
        for method in methods.suited("text"):
            method.fit(data, *names)
            whole = method.predict(data)
            monkeypatch.setattr("throughtime.tasks.baselines._features._TEXTS", 7)
            assert np.array_equal(method.predict(data), whole), method.name
            monkeypatch.undo()
