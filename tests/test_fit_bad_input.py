"""Every kind of bad input to a fit gives one line: the place, what was found and expected, and the mend; nothing is left."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from throughtime.errors import RunError, ThroughTimeError, TrainingError
from throughtime.settings import Settings
from throughtime.train.fit import fit, resume
from throughtime.train.fitted import Fitted
from throughtime.train.progress import Progress

from fit_cases import SMALL, fit_to, prose, put, put_sound, reviews, series_table, sine, steps_table, table, tagged

QUICK = {"baselines": False}
"""For input that is not refused."""


@dataclass(frozen=True)
class Bad:
    """Input that must be refused.

    Attributes:
        write: puts it into a folder; returns what to fit.
        says: patterns that the message must hold, each somewhere.
        settings: of the fit.
    """

    write: Callable[[Path], Path]
    says: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


def file(name: str, content: str | bytes) -> Callable[[Path], Path]:
    return lambda folder: put(folder, name, content)


def refusal(source: Path, out: Path, **settings: Any) -> str:
    """What a fit says that is refused and leaves nothing behind."""
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(ThroughTimeError) as caught:
        fit_to(source, out, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    assert sorted(out.parent.rglob("*")) == before, "something was left behind"
    return message


def wave(**changes: str) -> str:
    """A series of 120 months, with some cells of its values (by row as a person counts) replaced."""
    lines = series_table({"sales": sine(120, noise=0.3)}).splitlines()
    for row, cell in changes.items():
        number = int(row.removeprefix("row")) - 1
        lines[number] = f"{lines[number].split(',')[0]},{cell}"
    return "\n".join(lines) + "\n"


def rows_of(text: str, keep: Callable[[int], bool]) -> str:
    """The lines of a table whose number, as a person counts them, is to be kept; the header always."""
    return "".join(line for number, line in enumerate(text.splitlines(keepends=True), 1) if number == 1 or keep(number))


def numbers(cell: str = "", row: int = 7) -> str:
    """A table of numeric sequences with one cell replaced."""
    lines = steps_table(label=lambda number, step, x: "odd" if number % 2 else "even").splitlines()
    if cell:
        parts = lines[row - 1].split(",")
        lines[row - 1] = ",".join([*parts[:2], cell if cell != "blank" else "", *parts[3:]])
    return "\n".join(lines) + "\n"


def split_reviews(test_label: str) -> str:
    rows = [f"{row},{('train', 'valid', 'test')[min(number // 40, 2)]}" for number, row in enumerate(reviews())]
    rows[-1] = f"another film,{test_label},test"
    return table("text,label,split", rows)


def untied(lengths: list[int]) -> str:
    rows = [
        f"{number},{step},{step * number % 5 + number / 50},{'odd' if number % 2 else 'even'}"
        for number, length in enumerate(lengths)
        for step in range(length)
    ]
    return table("id,step,x,label", rows)


def sounds(folder: Path) -> Path:
    for number in range(20):
        put_sound(
            folder / "sounds" / ("high" if number % 2 else "low") / f"{number}.wav", 220 + 660 * (number % 2), phase=number
        )
    return folder / "sounds"


def broken_sound(folder: Path) -> Path:
    put(folder, "sounds/high/3.wav", b"RIFF not a sound")
    (sounds(folder) / "high" / "3.wav").write_bytes(b"RIFF not a sound")
    return folder / "sounds"


def missing_sound(folder: Path) -> Path:
    names = sorted(path.relative_to(folder) for path in sounds(folder).rglob("*.wav"))
    return put(
        folder, "index.csv", table("path,label", [*(f"{name},{name.parts[1]}" for name in names), "sounds/high/99.wav,high"])
    )


REVIEWS = table("text,label", reviews())
FILES = {
    "missing": Bad(lambda folder: folder / "nothing.csv", (r"nothing\.csv", "no such|not there|does not exist|no file")),
    "nearly named": Bad(
        lambda folder: put(folder, "reviews.csv", REVIEWS).with_name("reveiws.csv"),
        (r"reveiws\.csv", r"did you mean.*reviews\.csv"),
    ),
    "empty": Bad(file("empty.csv", ""), (r"empty\.csv", "is empty")),
    "header only": Bad(file("header.csv", "text,label\n"), (r"header\.csv", "no rows|no data|empty|expected")),
    "blank": Bad(file("blank.txt", " \n\n \n"), (r"blank\.txt|text", "empty|no text|characters|nothing")),
    "empty folder": Bad(lambda folder: put(folder, "data/.hidden", "").parent, (r"data", "without files", "expected")),
    "binary": Bad(file("table.csv", bytes(range(256)) * 20), (r"table\.csv", "byte|binary|UTF-8|zero")),
    "gzip": Bad(file("table.csv", b"\x1f\x8b\x08\x00" + bytes(100)), (r"table\.csv", "gunzip")),
    "pickle": Bad(file("model.pkl", b"\x80\x04K\x01."), (r"model\.pkl", "pickle can run code", "save")),
    "latin1": Bad(
        file("latin.csv", REVIEWS.replace("film", "film\xe9").encode("latin-1")), (r"latin\.csv", "byte|row", "UTF-8", "iconv")
    ),
    "utf16": Bad(file("wide.csv", REVIEWS.encode("utf-16")), (r"wide\.csv", "UTF-16", "iconv")),
    "latin1 text": Bad(file("prose.txt", prose().encode("latin-1")), (r"prose\.txt", "byte", "UTF-8", "iconv")),
    "ragged": Bad(
        file("ragged.csv", table("text,label", [*reviews()[:8], "one,two,three,four", *reviews()[8:]])),
        (r"ragged\.csv", "line 10", "4 cells", "header has 2", "double quotes"),
    ),
    "tagged without a tag": Bad(
        file("tags.tsv", tagged().replace("runs\tVERB", "runs", 1)), (r"tags\.tsv", r"line \d+|row \d+")
    ),
    "damaged json": Bad(
        file("rows.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "la\n' * 20), (r"rows\.jsonl", "line 2|row 2")
    ),
    "damaged parquet": Bad(file("table.parquet", b"PAR1" + bytes(50)), (r"table\.parquet", "Parquet|parquet")),
    "damaged arrays": Bad(file("arrays.npz", b"PK\x03\x04" + bytes(50)), (r"arrays\.npz",)),
    "damaged sound": Bad(broken_sound, (r"3\.wav", "cannot be read|not a sound|no sound|damaged")),
    "missing sound": Bad(missing_sound, (r"99\.wav", "row 22|cannot be read|not there|no such")),
}
COLUMNS = {
    "unknown": Bad(file("reviews.csv", REVIEWS), (r"reviews\.csv", "'lable'", "did you mean 'label'"), {"target": "lable"}),
    "unknown feature": Bad(file("long.csv", numbers()), (r"long\.csv", "'z'"), {"features": "x,z"}),
    "twice": Bad(
        file("twice.csv", REVIEWS.replace("text,label", "text,text")),
        (r"twice\.csv", "'text'", "twice|two|same name|more than one"),
    ),
    "no number": Bad(
        file("long.csv", numbers("hello")), (r"long\.csv", "row 7", "'hello'", "'?x'?", "number"), {"features": "x,y"}
    ),
    "no number in a series": Bad(file("sales.csv", wave(row9="lots")), (r"sales\.csv", "row 9", "'lots'", "number")),
    "NaN": Bad(file("long.csv", numbers("NaN")), (r"long\.csv", "row 7", "x", "missing", "--missing")),
    "blank": Bad(file("long.csv", numbers("blank")), (r"long\.csv", "row 7", "x", "missing", "--missing")),
    "infinite": Bad(file("long.csv", numbers("inf")), (r"long\.csv", "row 7", "x", "infinite", "--missing")),
    "NaN in a series": Bad(file("sales.csv", wave(row9="")), (r"sales\.csv", "row 9", "sales", "missing", "--missing")),
    "infinite in a series": Bad(
        file("sales.csv", wave(row9="inf")), (r"sales\.csv", "row 9", "sales", "infinite", "--missing")
    ),
    "label missing": Bad(
        file("reviews.csv", table("text,label", [*reviews()[:5], "a film,", *reviews()[5:]])),
        (r"reviews\.csv", "row 7", "label", "missing|blank|empty"),
    ),
    "target is no number": Bad(
        file("prices.csv", table("text,price", [*(f"word {n},{n}" for n in range(40)), "word,dear"])),
        (r"prices\.csv", "row 42", "'dear'", "number"),
        {"task": "regress"},
    ),
    "huge": Bad(
        file("prices.csv", table("text,price", [*(f"word {n},{n}" for n in range(40)), "word,1e200"])),
        ("price", "infinite|1e150|too large"),
        {"task": "regress"},
    ),
}
CLASSES = {
    "single": Bad(
        file("reviews.csv", REVIEWS.replace(",pos", ",neg")),
        (r"reviews\.csv", "single class, 'neg'", "at least two", "--target"),
    ),
    "absent in training": Bad(
        file("reviews.csv", split_reviews("odd")),
        (r"reviews\.csv row 121", "'odd'", "no training sequence", "add training data"),
    ),
    "too few rows": Bad(
        file("reviews.csv", table("text,label", reviews(6))), (r"reviews\.csv", "6 sequences", "at least 10", "--valid")
    ),
    "all rows alike": Bad(
        file("reviews.csv", table("text,label", ["the same,yes", "the same,no"] * 20)),
        (r"reviews\.csv", "1 unit", "different inputs", "--valid"),
    ),
    "no words at all": Bad(
        file("reviews.csv", table("text,label", [f'" ",{"ab"[n % 2]}' for n in range(40)])),
        (r"reviews\.csv", "unit|empty|blank|missing"),
    ),
}
SERIES = {
    "doubles": Bad(
        file("sales.csv", rows_of(wave(), lambda row: True) + "2009-12-01,3\n"),
        (r"sales\.csv", "rows 121 and 122", "2009-12-01", "keep one", "--id"),
    ),
    "gap": Bad(
        file("sales.csv", rows_of(wave(), lambda row: row != 50)),
        (r"sales\.csv", "step after 2003-12-01 is missing", "1 step is missing in 1 gap", "every month", "--missing"),
    ),
    "irregular": Bad(
        file("sales.csv", wave().replace("2003-05-01", "2003-05-11")),
        (r"sales\.csv", "irregular", "followed by", "off the grid", "--time"),
    ),
    "no time": Bad(
        file("sales.csv", wave().replace("2003-05-01", "yesterday")),
        (r"sales\.csv", "yesterday", "row 42"),
        {"task": "forecast", "time": "date"},
    ),
    "shorter than the horizon": Bad(
        file("sales.csv", rows_of(wave(), lambda row: row < 12)), (r"sales\.csv", "10 values", "horizon of 12", "--horizon")
    ),
    "shorter than the window": Bad(
        file("sales.csv", wave()), ("96 training values", "500", "--window", "--horizon"), {"window": 500, "horizon": 6}
    ),
    "all missing": Bad(
        file("sales.csv", table("date,sales", [f"{2000 + n}-01-01," for n in range(60)])),
        (r"sales\.csv", "0 values", "expected", "leave it out"),
        {"task": "forecast", "missing": "mask", "target": "sales", "time": "date"},
    ),
    "unknown covariate": Bad(file("sales.csv", wave()), ("'rain'", "--past|did you mean|columns"), {"past": "rain"}),
}
SETTINGS = {
    "task": Bad(file("reviews.csv", REVIEWS), ("task", "'clasify'", "did you mean classify"), {"task": "clasify"}),
    "name": Bad(file("reviews.csv", REVIEWS), ("'hiden'", "did you mean 'hidden'"), {"hiden": 3}),
    "cell": Bad(file("reviews.csv", REVIEWS), ("'lsmt'", "did you mean lstm"), {"cell": "lsmt"}),
    "optimizer": Bad(file("reviews.csv", REVIEWS), ("'adamm'", "did you mean Adam"), {"optimizer": "adamm"}),
    "schedule": Bad(file("reviews.csv", REVIEWS), ("'cosin'", "did you mean cosine"), {"schedule": "cosin"}),
    "init": Bad(file("reviews.csv", REVIEWS), ("--init", "'ortogonal'", "did you mean 'orthogonal'"), {"init": "ortogonal"}),
    "init of another cell": Bad(file("reviews.csv", REVIEWS), ("--init chrono", "--cell lstm", "gru"), {"init": "chrono"}),
    "hidden 0": Bad(file("reviews.csv", REVIEWS), ("hidden", "from 1 to 65,536"), {"hidden": 0}),
    "hidden half": Bad(file("reviews.csv", REVIEWS), ("hidden", "whole number"), {"hidden": 2.5}),
    "lr -1": Bad(file("reviews.csv", REVIEWS), ("lr", "above 0"), {"lr": -1}),
    "dropout 1": Bad(file("reviews.csv", REVIEWS), ("dropout", "below 1"), {"dropout": 1}),
    "duration": Bad(file("reviews.csv", REVIEWS), ("'soon'", "90s or 5m"), {"time_budget": "soon"}),
    "no weight decay": Bad(
        file("reviews.csv", REVIEWS), ("Rprop", "no weight decay", "leave"), {"optimizer": "Rprop", "weight_decay": 0.1}
    ),
    "lm both ways": Bad(file("prose.txt", prose()), ("--bidirectional", "leave it out"), {"bidirectional": True}),
    "lm untied": Bad(file("prose.txt", prose()), ("--untied", "leave it out"), {"untied": True}),
    "lm by words": Bad(file("prose.txt", prose()), ("--tokens word", "char or bpe"), {"tokens": "word"}),
    "lm of nothing": Bad(file("prose.txt", "short\n"), ("characters", r"expected|too few")),
    "bpe too small": Bad(file("prose.txt", prose()), ("bpe_size", "257"), {"tokens": "bpe", "bpe_size": 100}),
    "forecast both ways": Bad(file("sales.csv", wave()), ("--bidirectional", "leave it out"), {"bidirectional": True}),
    "forecast untied": Bad(file("sales.csv", wave()), ("--untied", "leave it out"), {"untied": True}),
    "untied ragged": Bad(file("long.csv", untied([3, 4] * 20)), ("--untied", "one length", "3 to 4"), {"untied": True}),
    "untied lstm": Bad(
        file("long.csv", untied([3] * 40)), ("--untied", "--cell rnn", "lstm"), {"untied": True, "cell": "lstm"}
    ),
    "no embeddings": Bad(file("reviews.csv", REVIEWS), (r"--embeddings", r"nothing\.vec"), {"embeddings": "nothing.vec"}),
    "embeddings of numbers": Bad(
        file("long.csv", numbers()), ("--embeddings", "words", "leave it out"), {"embeddings": "any.vec"}
    ),
    "text has no columns": Bad(
        file("prose.txt", prose()), (r"prose\.txt", "--group", "leave it out"), {"group": "speaker", "task": "lm"}
    ),
    "labels for text": Bad(file("prose.txt", prose()), (r"prose\.txt", "no labels", "--task lm"), {"task": "classify"}),
}
EVERYTHING = {
    f"{kind}: {name}": bad
    for kind, cases in (("file", FILES), ("column", COLUMNS), ("class", CLASSES), ("series", SERIES), ("setting", SETTINGS))
    for name, bad in cases.items()
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_it_is_named(name: str, tmp_path: Path) -> None:
    bad = EVERYTHING[name]
    message = refusal(bad.write(tmp_path), tmp_path / "run", **bad.settings)
    for pattern in bad.says:
        assert re.search(pattern, message), f"expected /{pattern}/ in: {message}"


# --- what is dealt with, and said


class Heard(Progress):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, line: str) -> None:
        self.warnings.append(line)


def fitted_with(source: Path, out: Path, **settings: Any) -> tuple[dict[str, Any], list[str]]:
    heard = Heard()
    result = fit(source, Settings.of({**SMALL, **QUICK, **settings}), out, progress=heard)
    assert all("\n" not in line for line in heard.warnings)
    assert result["warnings"] == heard.warnings
    return result, heard.warnings


def test_duplicate_rows_are_counted(tmp_path: Path) -> None:
    source = put(tmp_path, "reviews.csv", table("text,label", [*reviews(60), *reviews(60)[:7]]))
    _, (warning,) = fitted_with(source, tmp_path / "run")
    assert re.search(r"\b7\b.*67", warning), warning


@pytest.mark.parametrize("policy", ["interpolate", "mask"])
@pytest.mark.parametrize("cell", ["NaN", "blank", "inf"])
def test_missing_numbers(cell: str, policy: str, tmp_path: Path) -> None:
    source = put(tmp_path, "long.csv", numbers(cell))
    result, (warning,) = fitted_with(source, tmp_path / "run", missing=policy)
    assert re.search("^1 missing number", warning), warning
    assert ("interpolated" if policy == "interpolate" else "left missing") in warning
    model = Fitted.load(tmp_path / "run")
    dataset = model.read(source, with_target=True)
    assert set(model.predict(dataset.content)["predicted"]) <= {"odd", "even"}
    assert result["scores"]["test"]["accuracy"] <= 1


@pytest.mark.parametrize("policy", ["interpolate", "mask"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (wave(row9="", row10="NaN", row100="", row120=""), "4 missing values"),
        (rows_of(wave(), lambda row: row not in (30, 31, 90)), "3 missing steps in 2 gaps"),
        (wave(row9="inf"), "1 missing value"),
    ],
    ids=["blanks", "gaps", "infinity"],
)
def test_missing_values_of_a_series(text: str, says: str, policy: str, tmp_path: Path) -> None:
    _, (warning,) = fitted_with(put(tmp_path, "sales.csv", text), tmp_path / "run", missing=policy, baselines=True)
    assert warning.startswith(says), warning


def test_a_feature_may_be_missing_for_the_first_time_when_it_is_scored(tmp_path: Path) -> None:
    lines = numbers().splitlines()
    parts = [f"{line},{'train' if number < 140 else 'test'}" for number, line in enumerate(lines[1:])]
    last = parts[-1].split(",")
    parts[-1] = ",".join([last[0], last[1], "", *last[3:]])
    source = put(tmp_path, "long.csv", table(f"{lines[0]},split", parts))
    result, (warning,) = fitted_with(source, tmp_path / "run", missing="mask")
    assert warning.startswith("1 missing number")
    assert result["scored_on"] == "test"


def test_sequences_of_length_0_and_1(tmp_path: Path) -> None:
    rows = [*reviews(40), '"...",pos', "word,neg", '"!",pos', '"   .",neg', "x,pos"]
    source = put(tmp_path, "reviews.csv", table("text,label", rows))
    for tokens in ("word", "char"):
        fitted_with(source, tmp_path / tokens, tokens=tokens, batch=1)
        model = Fitted.load(tmp_path / tokens)
        for some in (["", " ", "a", "."], [""], ["", ""]):
            asked = put(tmp_path, "asked.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in some))
            assert len(model.predict(model.read(asked, with_target=False).content)["predicted"]) == len(some)


@pytest.mark.parametrize("lengths", [[1] * 40, [1, 2] * 20, [1, 1, 1, 30] * 10], ids=["1", "1 and 2", "1 and 30"])
def test_numeric_sequences_of_one_step(lengths: list[int], tmp_path: Path) -> None:
    result, _ = fitted_with(
        put(tmp_path, "long.csv", untied([*lengths[::2], *lengths[1::2]])), tmp_path / "run", batch=1, features="x"
    )
    assert result["parts"]["train"]["shortest"] == 1


def test_arrays_of_length_0_are_named(tmp_path: Path) -> None:
    x, y = np.zeros((40, 4, 2), np.float32), np.array(["a", "b"] * 20)
    np.savez(tmp_path / "arrays.npz", X=x, y=y, lengths=np.array([0, 1, 2, 3, 4] * 8))
    message = refusal(tmp_path / "arrays.npz", tmp_path / "run")
    assert re.search(r"arrays\.npz.*'lengths'.*expected whole numbers from 1 up", message), message


@pytest.mark.parametrize("level", [0.0, 7.0, -3.0])
def test_a_series_that_never_changes(level: float, tmp_path: Path) -> None:
    source = put(tmp_path, "flat.csv", series_table({"level": np.full(60, level)}))
    result, _ = fitted_with(source, tmp_path / "run", baselines=True)
    assert result["scores"]["test"]["mae"] < 1e-3
    assert result["beats_baselines"] is not True


def test_sounds_of_other_rates_and_channels_are_made_alike(tmp_path: Path) -> None:
    source = sounds(tmp_path)
    put_sound(source / "low" / "rate.wav", 220, rate=16000)
    put_sound(source / "high" / "stereo.wav", 880, channels=2)
    result, warnings = fitted_with(source, tmp_path / "run")
    assert "8,000 Hz" in result["model"]["description"]
    said = " ".join(warnings)
    assert "16,000 Hz" in said or "rates" in said
    assert "channel" in said


# --- the run directory


def test_a_read_only_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = put(tmp_path, "reviews.csv", REVIEWS)
    (tmp_path / "locked").mkdir()
    writable = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != "locked" and writable(path, mode)
    )  # root ignores modes
    message = refusal(source, tmp_path / "locked" / "run")
    assert re.search(r"--out .*locked.*read-only.*name another folder", message), message


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    source = put(tmp_path, "reviews.csv", REVIEWS)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        RunError, match=r"run.*cannot be written: No space left on device; free some space or name another place"
    ) as caught:
        fit_to(source, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]


def test_a_run_that_is_there(tmp_path: Path) -> None:
    source, out = put(tmp_path, "long.csv", numbers()), tmp_path / "run"
    fit_to(source, out, **QUICK)
    kept = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert re.search("holds a run.*throughtime resume.*--overwrite", refusal(source, out, **QUICK))
    for wrong in ({"target": "lable"}, {"optimizer": "adamm"}, {"init": "nothing"}):
        with pytest.raises(ThroughTimeError):  # before anything of the old run is lost
            fit(source, Settings.of({**SMALL, **QUICK, **wrong}), out, overwrite=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == kept
    fit(source, Settings.of({**SMALL, **QUICK, "seed": 1}), out, overwrite=True)
    assert (out / "model.safetensors").read_bytes() != kept[out / "model.safetensors"]
    assert resume(out) is None


def test_a_run_that_is_replaced_stays_until_the_new_one_is_finished(tmp_path: Path) -> None:
    """Whether the new one fails, or is stopped and gone on with."""
    source, out = put(tmp_path, "long.csv", numbers()), tmp_path / "run"
    fit_to(source, out, **QUICK)
    kept = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.name != ".lock"}
    extreme = {"lr": 1e38, "optimizer": "SGD", "clip": 0, "epochs": 10, "cell": "rnn", "nonlinearity": "relu"}
    heard = Heard()
    with pytest.raises(TrainingError):
        fit(source, Settings.of({**SMALL, **QUICK, **extreme}), out, overwrite=True, progress=heard)
    for _ in range(2):
        assert {path.name: path.read_bytes() for path in (out / "previous").iterdir()} == kept
        assert Fitted.load(out / "previous")
        with pytest.raises(
            RunError, match=rf"not finished; go on with it by .*resume {out}`; the run before is in {out}/previous$"
        ):
            Fitted.load(out)
        with pytest.raises(RunError, match="holds a run"):
            fit_to(source, out, **QUICK)
        stops = iter([False, True])
        with pytest.raises(KeyboardInterrupt):
            fit(source, Settings.of({**SMALL, **QUICK, "seed": 1}), out, overwrite=True, interrupted=stops.__next__)
    assert resume(out)
    assert not (out / "previous").exists()
    assert (out / "model.safetensors").read_bytes() != kept["model.safetensors"]


def test_series_of_numbers_that_cannot_be_squared(tmp_path: Path) -> None:
    days = np.datetime64("2020-01-01") + np.arange(100)
    rows = [f"{day},{1 + number % 7}e300" for number, day in enumerate(days)]
    source = put(tmp_path, "large.csv", "\n".join(["ds,y", *rows]) + "\n")
    assert re.search(r"has the number 7e\+300; beyond 1e\+150 .* power of ten", refusal(source, tmp_path / "run"))


def test_a_rate_that_leaves_no_number_at_the_end(tmp_path: Path) -> None:
    """The last evaluation is the first to see it."""
    source, heard = put(tmp_path, "long.csv", numbers()), Heard()
    result = fit(source, Settings.of({**SMALL, **QUICK, "lr": 1e30, "epochs": 1}), tmp_path / "run", progress=heard)
    assert result["training"]["best_update"] == 0
    assert any(line.endswith("the validation loss is not a number; these weights are not kept") for line in heard.warnings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is done."""
    folder = tmp_path_factory.mktemp("finished")
    fit_to(put(folder, "long.csv", numbers()), folder / "run", **QUICK)
    return folder / "run"


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    source = put(tmp_path, "reviews.csv", REVIEWS)
    put(tmp_path, "run/thesis.tex", "years of work")
    assert re.search(r"thesis\.tex.*not part of a run.*name another folder", refusal(source, tmp_path / "run"))
    assert re.search(r"is a file, expected a folder", refusal(source, source))


def test_a_run_of_another_version(finished: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "format_version": 99, "throughtime": "9.9.9"}))
    for use in (Fitted.load, resume):
        with pytest.raises(RunError, match=r"run has format version 99, this throughtime reads 1; use the version.*9\.9\.9"):
            use(out)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", "{", r"config\.json is damaged"),
        ("transforms.json", "{}", "damaged"),
        ("transforms.json", None, r"transforms\.json is missing"),
        ("model.safetensors", "nonsense", r"model\.safetensors"),
        (
            "model.safetensors",
            None,
            r"model\.safetensors is missing; put it back, or make the run again by fit with --overwrite",
        ),
    ],
)
def test_a_damaged_run(name: str, content: str | None, says: str, finished: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    (out / name).unlink() if content is None else (out / name).write_text(content)
    with pytest.raises(RunError, match=says) as caught:
        Fitted.load(out)
    assert "\n" not in str(caught.value)


# --- training that goes wrong


@pytest.mark.parametrize("case", ["text", "series"])
def test_a_rate_that_is_far_too_large(case: str, tmp_path: Path) -> None:
    """It goes back and ends, or says where it broke; either way in order."""
    source = put(tmp_path, "reviews.csv", REVIEWS) if case == "text" else put(tmp_path, "sales.csv", wave())
    out, heard, ended = tmp_path / "run", Heard(), ""
    extreme = {"lr": 1e38, "optimizer": "SGD", "clip": 0, "epochs": 10, "cell": "rnn", "nonlinearity": "relu"}
    try:
        result = fit(source, Settings.of({**SMALL, **QUICK, **extreme}), out, progress=heard)
    except TrainingError as error:
        ended = str(error)
    if ended:
        assert re.fullmatch(r"the loss is not a number at update \d+, for the \dth time: .*; .*--lr.*", ended)
    else:
        assert result["training"]["rollbacks"]
    assert any(re.search(r"loss is not a number, .*; back to the weights of update", line) for line in heard.warnings)
    notes = [json.loads(line).get("note") for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert any(note and "not a number" in note for note in notes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    message = refusal(put(tmp_path, "reviews.csv", REVIEWS), tmp_path / "run", device="cuda")
    assert re.search("cuda.*no GPU.*--device cpu", message)


def test_one_character_is_spoken_of_as_one(tmp_path: Path) -> None:
    said = refusal(put(tmp_path, "a.txt", "x"), tmp_path / "run", task="lm", documents="file")
    assert "1 character is too few to divide into 3 parts" in said


@pytest.mark.parametrize("line", ["generate nowhere", "explain run nowhere --row 1", "explain text good --label positive"])
def test_what_is_only_printed_needs_a_stdout_that_is_open(line: str) -> None:
    command = ["bash", "-c", f"{sys.executable} -m throughtime {line} >&-"]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (1, "error: stdout is closed, so what is printed would be lost; open it\n")
