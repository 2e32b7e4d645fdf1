"""Parts in files of their own, as a whole fit takes them: groups on both sides, short ends of series, folders, warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from throughtime.cli.tables import write_table
from throughtime.data import read
from throughtime.data.read import with_parts
from throughtime.errors import DataError
from throughtime.settings import Settings
from throughtime.train.fit import fit, resume
from throughtime.train.fitted import Fitted

from fit_cases import SMALL, fit_to, prose, put, put_sound, reviews, series_table, sine, steps_table, table, tagged

QUICK = {"baselines": False}


def speakers(first: int, count: int, *, column: str = "speaker") -> str:
    """Reviews, each with one of three speakers, numbered from ``first``."""
    rows = [f"{row},s{first + number % 3}" for number, row in enumerate(reviews(count, seed=first))]
    return table(f"text,label,{column}", rows)


def test_a_group_on_both_sides_is_noticed(tmp_path: Path) -> None:
    train = put(tmp_path, "train.csv", speakers(0, 60))
    given = {"group": "speaker", "valid": put(tmp_path, "valid.csv", speakers(6, 20)), **QUICK}
    result = fit_to(train, tmp_path / "a", test=put(tmp_path, "test.csv", speakers(2, 20)), **given)
    shared = [line for line in result["warnings"] if "speaker" in line]
    assert shared == ["1 value of speaker occurs in both the training and the test part: s2"]
    without = put(tmp_path, "without.csv", speakers(2, 20, column="who"))
    result = fit_to(train, tmp_path / "b", test=without, **given)
    assert not [line for line in result["warnings"] if "speaker" in line], "a file of its own need not have the column"


def test_a_group_of_numeric_sequences_on_both_sides_is_noticed(tmp_path: Path) -> None:
    def grouped(seed: int, groups: int) -> str:
        lines = steps_table(20, label=lambda number, step, x: "odd" if number % 2 else "even", seed=seed).splitlines()
        numbers = [line.split(",")[0][1:] for line in lines[1:]]
        rows = [f"{line},{int(number) % groups}" for number, line in zip(numbers, lines[1:], strict=True)]
        return table(f"{lines[0]},patient", rows)

    train, test = put(tmp_path, "train.csv", grouped(0, 3)), put(tmp_path, "test.csv", grouped(1, 2))
    result = fit_to(train, tmp_path / "run", test=test, group="patient", **QUICK)
    assert "2 values of patient occur in both the training and the test part: 0, 1" in result["warnings"]


def test_a_horizon_of_values_is_enough_to_test_on(tmp_path: Path) -> None:
    lines = series_table({"sales": sine(126, noise=0.3)}).splitlines()
    train = put(tmp_path, "train.csv", "\n".join(lines[:121]))
    test = put(tmp_path, "test.csv", "\n".join([lines[0], *lines[121:]]))
    result = fit_to(train, tmp_path / "run", test=test, horizon=6, window=24, **QUICK)
    assert result["parts"]["test"]["steps"] == 6
    fitted = Fitted.load(tmp_path / "run")
    few = fitted.predict(fitted.read(test, with_target=True).content)
    assert [str(time) for time in few["time"]] == [f"2010-{month:02}-01" for month in range(7, 13)]
    days = put(tmp_path, "days.csv", series_table({"sales": sine(30)}, "2010-01-01", "D"))
    with pytest.raises(DataError, match="has a step every day, but the series that the model is fitted on every month"):
        fitted.read(days, with_target=True)


def cases(count: int, start: int = 0) -> str:
    """A ``.ts`` file."""
    rng = np.random.default_rng(start)
    rows = [f"{','.join(f'{x:.3f}' for x in rng.standard_normal(5) + n % 2)}:{'ab'[n % 2]}" for n in range(count)]
    return "\n".join(["@problemName x", "@univariate true", "@classLabel true a b", "@data", *rows])


def test_a_folder_of_a_training_and_a_test_file_is_taken_as_such(tmp_path: Path) -> None:
    put(tmp_path, "Vowels/Vowels_TRAIN.ts", cases(40))
    put(tmp_path, "Vowels/Vowels_TEST.ts", cases(14, 1))
    result = fit_to(tmp_path / "Vowels", tmp_path / "run", **QUICK)
    assert "as given: trained on Vowels_TRAIN.ts, tested on Vowels_TEST.ts (14 test sequences)" in result["split"]
    assert [result["parts"][name]["sequences"] for name in ("train", "valid", "test")] == [36, 4, 14]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert sorted(Path(file["path"]).name for file in config["files"]) == ["Vowels_TEST.ts", "Vowels_TRAIN.ts"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_fit_to_relative_paths_can_be_resumed(folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "data/a-train.ts", cases(40))
    put(tmp_path, "data/a-test.ts", cases(14, 1))
    monkeypatch.chdir(tmp_path)
    chosen = Settings.of({**SMALL, **QUICK, **({} if folder else {"test": "data/a-test.ts"})})
    asked = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        fit(Path("data") if folder else Path("data/a-train.ts"), chosen, Path("run"), interrupted=lambda: next(asked))
    monkeypatch.chdir("/")
    result = resume(tmp_path / "run")
    assert result is not None
    assert result["parts"]["test"]["sequences"] == 14


def test_all_times_of_a_column_have_one_form(tmp_path: Path) -> None:
    hours = np.datetime64("2024-01-01T00", "s") + np.arange(237) * np.timedelta64(3600, "s")
    rows = [f"{str(hour).replace('T', ' ')},{y:.3f}" for hour, y in zip(hours, sine(237, 24, 0.1), strict=True)]
    source = put(tmp_path, "hours.csv", table("ds,y", rows))
    fit_to(source, tmp_path / "run", horizon=6, window=24, **QUICK)
    fitted = Fitted.load(tmp_path / "run")
    forecast = fitted.predict(fitted.read(source, with_target=True).content)
    for ending in ("csv", "jsonl", "parquet"):
        write_table(forecast, tmp_path / f"out.{ending}")
    expected = [f"2024-01-{10 + (21 + n) // 24} {(21 + n) % 24:02}:00:00" for n in range(6)]
    assert expected[3] == "2024-01-11 00:00:00"
    lines = (tmp_path / "out.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in lines] == expected
    assert [json.loads(line)["time"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == expected
    stored = pl.read_parquet(tmp_path / "out.parquet")["time"]
    assert stored.dtype == pl.Datetime("us")
    assert stored.dt.to_string("%Y-%m-%d %H:%M:%S").to_list() == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train.csv", "dev.csv", "test.csv"], {"train": "train.csv", "valid": "dev.csv", "test": "test.csv"}),
        (["x-train.tsv", "x-validation.tsv"], {"train": "x-train.tsv", "valid": "x-validation.tsv"}),
        (["training_2.csv", "test_2.csv"], {"train": "training_2.csv", "test": "test_2.csv"}),
        (["train.csv", "test.tsv"], None),
        (["train.csv", "other.csv"], None),
        (["train_a.csv", "train_b.csv", "test.csv"], None),
        (["valid.csv", "test.csv"], None),
        (["trained.csv", "tests.csv"], None),
    ],
)
def test_parts_by_the_names_of_files(names: list[str], expected: dict[str, str] | None, tmp_path: Path) -> None:
    for name in names:
        put(tmp_path, name, "text,label\n")
    source, settings = with_parts(tmp_path, Settings())
    if expected is None:
        assert (source, settings) == (tmp_path, Settings())
        with pytest.raises(DataError) as caught:
            read(tmp_path, Settings())
        assert all(str(tmp_path / name) in str(caught.value) for name in names), "it can be pasted"
    else:
        found = {"train": source, "valid": settings.data.valid, "test": settings.data.test}
        assert {part: path.name for part, path in found.items() if path} == expected
    given = Settings.of({"test": "elsewhere.csv"})
    assert with_parts(tmp_path, given) == (tmp_path, given)


REPEATED = table("text,label", [*reviews(50), *reviews(50)[:5]])


def test_warnings_of_repeated_rows_name_their_file(tmp_path: Path) -> None:
    train, valid, test = (put(tmp_path, f"{name}.csv", REPEATED) for name in ("train", "valid", "test"))

    def said(out: str, **settings: Any) -> list[str]:
        return [line for line in fit_to(train, tmp_path / out, **settings, **QUICK)["warnings"] if "repeated" in line]

    assert said("alone") == ["train.csv: repeated rows: 5 of 55; they are kept, and stay in one part"]
    assert said("validated", valid=valid) == [
        f"{name}.csv: repeated rows: 5 of 55; they are kept" for name in ("train", "valid")
    ]
    assert said("tested", test=test) == [
        "train.csv: repeated rows: 5 of 55; they are kept, and stay in one part",
        "test.csv: repeated rows: 5 of 55; they are kept",
    ]
    assert said("all", valid=valid, test=test) == [
        f"{name}.csv: repeated rows: 5 of 55; they are kept" for name in ("train", "valid", "test")
    ]
    assert Fitted.load(tmp_path / "alone").read(test, with_target=True).warnings == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("words.tsv", tagged(20) + tagged(20)),
        ("names.txt", "emma\nava\nmia\n" * 4),
        ("reviews.csv", REPEATED),
    ],
)
def test_no_warning_of_repetition_once_a_model_is_fitted(name: str, content: str, tmp_path: Path) -> None:
    path = put(tmp_path, name, content)
    assert [line for line in read(path, Settings()).warnings if line.startswith(f"{name}: repeated")]
    assert not read(path, Settings(), role="new").warnings
    part = read(path, Settings(), role="part").warnings
    assert len(part) == 1
    assert part[0].endswith("they are kept")


# --- what a fitted model is given


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    folder = tmp_path_factory.mktemp("tagger")
    fit_to(put(folder, "tags.tsv", tagged()), folder / "run", **QUICK)
    return Fitted.load(folder / "run")


@pytest.mark.parametrize("name", ["words.tsv", "words.txt", "words.conll", "words"])
def test_words_without_tags_are_read_in_the_format_of_the_fit(tagger: Fitted, name: str, tmp_path: Path) -> None:
    path = put(tmp_path, name, "The\ndog\nbarks\n.\n\nHe\nleft\n")
    found = tagger.read(path, with_target=False)
    assert found.content.inputs == [["The", "dog", "barks", "."], ["He", "left"]]
    assert found.warnings == []
    assert len(tagger.predict(found.content)["predicted"]) == 6


def test_text_for_a_tagger_is_divided_into_words_and_signs(tagger: Fitted, tmp_path: Path) -> None:
    found = tagger.read(put(tmp_path, "plain.txt", "The dog barks.\nHe's gone!\n"), with_target=False)
    assert found.content.inputs == [["The", "dog", "barks", "."], ["He's", "gone", "!"]]
    assert "each line is taken for a sentence and divided into words and signs" in found.warnings[0]


def test_a_table_for_a_tagger_is_refused(tagger: Fitted, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a table, and the model tags words; give a word a line"):
        tagger.read(put(tmp_path, "reviews.csv", REPEATED), with_target=False)


def other_kinds(folder: Path) -> list[Path]:
    """Data of every kind."""
    put_sound(folder / "sounds" / "low" / "1.wav", 220)
    return [
        put(folder, "words.tsv", tagged(4)),
        put(folder, "plain.txt", prose(40)),
        put(folder, "reviews.csv", table("text,label", reviews(4))),
        put(folder, "long.csv", steps_table(4, label=lambda number, step, x: "ab"[number % 2])),
        put(folder, "cases.ts", cases(4)),
        put(folder, "sales.csv", series_table({"sales": sine(40)})),
        folder / "sounds",
        folder / "sounds" / "low" / "1.wav",
    ]


@pytest.mark.parametrize("of", ["reviews.csv", "long.csv", "cases.ts", "sales.csv", "sounds", "plain.txt", "tags.tsv"])
def test_a_model_given_another_kind_of_data_says_so(of: str, tmp_path: Path) -> None:
    """A prediction, or one line: never a crash."""
    put(tmp_path, "fit/reviews.csv", table("text,label", reviews()))
    put(tmp_path, "fit/long.csv", steps_table(label=lambda number, step, x: "ab"[number % 2]))
    put(tmp_path, "fit/cases.ts", cases(40))
    put(tmp_path, "fit/sales.csv", series_table({"sales": sine(120, noise=0.3)}))
    put(tmp_path, "fit/plain.txt", prose())
    put(tmp_path, "fit/tags.tsv", tagged())
    for number in range(20):
        folder, tone = tmp_path / "fit/sounds" / ("high" if number % 2 else "low"), 220 + 660 * (number % 2)
        put_sound(folder / f"{number}.wav", tone, phase=number)
    fit_to(tmp_path / "fit" / of, tmp_path / "run", **QUICK)
    fitted, refusals = Fitted.load(tmp_path / "run"), 0
    for path in other_kinds(tmp_path / "new"):
        said = ""
        try:
            fitted.predict(fitted.read(path, with_target=False).content)
        except DataError as error:
            said = str(error)
        assert "\n" not in said
        assert not said or path.name in said or "1.wav" in said
        refusals += bool(said)
    assert refusals >= 4
    if of == "cases.ts":
        text = fitted.read(put(tmp_path, "new.txt", "A fine film\n"), with_target=False)
        with pytest.raises(
            DataError, match=r"new.txt line 1: found text, but the model was fitted on sequences of numbers \(1 "
        ):
            fitted.predict(text.content)
