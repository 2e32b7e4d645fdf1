"""Settings: what each may hold, where they come from, and that none is given in vain."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from throughtime.cli import main
from throughtime.cli.options import settings_of
from throughtime.data import read
from throughtime.errors import DataError, RunError, SettingsError
from throughtime.settings import SECTIONS, TASKS, Settings, checked_setting
from throughtime.store import RunDirectory

from fit_cases import fit_to, prose, put, put_sound, reviews, steps_table, table, tagged

QUICK = ("--epochs", "1", "--hidden", "4", "--batch", "16", "--no-baselines", "--overwrite")


def wrong(name: str, value: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        checked_setting(name, value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A small file for each task, by its name."""
    days = (np.datetime64("2020-01-01") + np.arange(90)).astype(str)
    rows = [f"{day},{10 + number % 7}" for number, day in enumerate(days)]
    return {
        "classify": put(tmp_path, "long.csv", steps_table(label=lambda number, step, x: "odd" if number % 2 else "even")),
        "text": put(tmp_path, "reviews.csv", table("text,label", reviews())),
        "tag": put(tmp_path, "tags.tsv", tagged()),
        "regress": put(tmp_path, "curve.csv", steps_table(label=lambda number, step, x: f"{100 + 7 * x + step:.3f}")),
        "forecast": put(tmp_path, "days.csv", table("ds,y", rows)),
        "lm": put(tmp_path, "prose.txt", prose()),
    }


class TestValues:
    @pytest.mark.parametrize("value", [9007199254740993, "9007199254740993", 2**64 - 1, str(2**64 - 1)])
    def test_a_large_seed_is_not_rounded(self, value: Any) -> None:
        seed = Settings.of({"seed": value}).training.seed
        assert seed == int(value)
        assert Settings.of(Settings.of({"seed": value}).as_json()).training.seed == seed

    @pytest.mark.parametrize("value", [2**64, "18446744073709551616", -1, "1e999999999", "nan", "inf", 1.5, True, [], None])
    def test_a_seed_that_cannot_be(self, value: Any) -> None:
        assert "expected a whole number from 0 to 18,446,744,073,709,551,615" in wrong("seed", value)

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("hidden", "99999999999999999999999", "a whole number from 1 to 65,536"),
            ("hidden", True, "a whole number"),
            ("hidden", np.bool_(True), "a whole number"),
            ("layers", 1_000_000, "a whole number from 1 to 100"),
            ("bpe_size", 1_000_000_000, "a whole number from 257 to 1,000,000"),
            ("horizon", 10**23, "a whole number from 1 to 2,147,483,647"),
            ("lr", True, "a number above 0"),
            ("lr", "inf", "a number above 0"),
            ("dropout", 1, "a share from 0 to below 1"),
            ("clip", float("nan"), "a number from 0 up"),
            ("time_budget", True, "a number with s, m, h or d"),
            ("untied", 1, "true or false"),
            ("features", 5, "names, divided by commas"),
            ("features", {"a": 1}, "names, divided by commas"),
            ("features", [["a"]], "names, divided by commas"),
            ("features", " , ", "names, divided by commas"),
            ("target", "", "a name"),
            ("target", True, "a name"),
            ("target", ["y"], "a name"),
            ("init", " ", "a name"),
            ("valid", "", "a path"),
            ("embeddings", 3.5, "a path"),
            ("cell", True, "rnn or lstm or gru"),
        ],
    )
    def test_what_cannot_be_is_named_with_what_can(self, name: str, value: Any, expected: str) -> None:
        message = wrong(name, value)
        assert message.startswith(f"{name} is " if name != "time_budget" else "a duration is ")
        assert f"expected {expected}" in message

    @pytest.mark.parametrize(
        ("name", "value", "is_"),
        [
            ("hidden", np.int64(8), 8),
            ("hidden", "1e3", 1000),
            ("hidden", 64.0, 64),
            ("lr", np.float64(0.25), 0.25),
            ("features", np.array(["a", "b"]), ("a", "b")),
            ("features", "a, b,", ("a", "b")),
            ("features", [], ()),
            ("target", 2008, "2008"),
            ("test", "a.csv", Path("a.csv")),
            ("bidirectional", "False", False),
            ("bidirectional", None, None),
        ],
    )
    def test_what_can_be_is_taken(self, name: str, value: Any, is_: Any) -> None:
        found = checked_setting(name, value)
        assert found == is_
        assert type(found) is type(is_)

    def test_one_that_is_set_twice(self, tmp_path: Path) -> None:
        for values in ({"split-column": "a", "split_column": "b"}, {"hidden": 3, "model": {"hidden": 4}}):
            with pytest.raises(SettingsError, match=r"is set twice, as .* and as .*; leave one out"):
                Settings.of(values)
        config = put(tmp_path, "fit.toml", '[data]\nsplit-column = "a"\nsplit_column = "b"\n')
        with pytest.raises(SettingsError, match=r"fit\.toml: split_column is set twice, as 'a' and as 'b'"):
            settings_of(config, {})

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[model]\nhidden = true\n", "line 2: hidden is True"),
            ("[training]\nepochs = 3\nlr = true\n", "line 3: lr is True"),
            ("[data]\nfeatures = 5\n", "line 2: features is 5"),
            ("[training]\nseed = 18446744073709551616\n", "line 2: seed is 18446744073709551616"),
            ('[data]\nvalid = ""\n', "line 2: valid is ''"),
        ],
    )
    def test_a_file_of_settings(self, text: str, said: str, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=re.escape(said)):
            settings_of(put(tmp_path, "fit.toml", text), {})


class TestUse:
    """None is given in vain."""

    @pytest.mark.parametrize(
        ("data", "given", "said"),
        [
            ("classify", {"horizon": 3}, "--horizon is for forecast; this is classify: leave it out, or give --task forecast"),
            ("classify", {"static": "x"}, "--static is for forecast; this is classify"),
            ("classify", {"bptt": 3}, "--bptt is for lm; this is classify"),
            ("classify", {"documents": "line"}, "--documents is for lm; this is classify"),
            ("classify", {"tokens": "bpe"}, "--tokens is for text; the data is numbers: leave it out"),
            ("classify", {"bpe_size": 300}, "--bpe-size is for text; the data is numbers"),
            (
                "classify",
                {"nonlinearity": "relu"},
                "--nonlinearity is for --cell rnn; this is --cell gru: leave it out, or give",
            ),
            ("classify", {"nonlinearity": "relu", "cell": "lstm"}, "--nonlinearity is for --cell rnn; this is --cell lstm"),
            ("text", {"bpe_size": 300}, "--bpe-size is for --tokens bpe; this is --tokens word: leave it out, or give"),
            ("text", {"missing": "mask"}, "--missing is for numbers; the data is text"),
            ("tag", {"class_weight": "balanced"}, "--class-weight is for classify; this is tag"),
            ("tag", {"tokens": "char"}, "--tokens is for classify, regress or lm; this is tag: leave it out"),
            ("regress", {"class_weight": "balanced"}, "--class-weight is for classify; this is regress"),
            ("forecast", {"features": "y"}, "--features is for classify, tag or regress; this is forecast"),
            ("forecast", {"bptt": 3}, "--bptt is for lm; this is forecast"),
            ("forecast", {"class_weight": "balanced"}, "--class-weight is for classify; this is forecast"),
            ("lm", {"horizon": 3}, "--horizon is for forecast; this is lm"),
            ("lm", {"embeddings": "v.txt"}, "--embeddings is for classify, tag or regress; this is lm"),
            ("lm", {"class_weight": "balanced"}, "--class-weight is for classify; this is lm"),
            ("lm", {"missing": "mask"}, "--missing is for classify, tag, regress or forecast; this is lm"),
        ],
    )
    def test_a_setting_of_another_task(
        self, data: str, given: dict[str, Any], said: str, files: dict[str, Path], tmp_path: Path
    ) -> None:
        task = {"task": "regress"} if data == "regress" else {}
        with pytest.raises(SettingsError, match=re.escape(said)):
            fit_to(files[data], tmp_path / "run", **task, **given)
        assert not (tmp_path / "run").exists()

    def test_a_setting_that_is_as_by_default_is_not_one_given(self) -> None:
        for task in TASKS:
            Settings.of({"task": task, "bpe_size": 4000, "nonlinearity": "tanh", "cell": "lstm"}).refuse_unused("text")

    def test_every_field_says_what_it_is_for(self) -> None:
        for section in SECTIONS.values():
            for field in dataclasses.fields(section):
                assert set(field.metadata["tasks"]) <= set(TASKS), field.name
                numeric = re.search(r"\b(int|float)\b", str(field.type))
                assert (field.metadata["bounds"] is not None) == bool(numeric), field.name

    def test_one_of_a_file_is_refused_too_and_one_line_says_so(
        self, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = put(tmp_path, "fit.toml", "[forecast]\nhorizon = 3\n")
        status = main(["fit", str(files["classify"]), "--config", str(config), "--out", str(tmp_path / "run"), *QUICK])
        assert status == 2
        assert capsys.readouterr().err == (
            "error: --horizon is for forecast; this is classify: leave it out, or give --task forecast\n"
        )

    def test_the_help_says_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(["fit", "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert "for lm: steps that a gradient goes back" in said
        assert "for classify: rare classes" in said
        assert "for forecast" not in said  # the heading does


class TestColumns:
    """Names of columns, where there are none."""

    @pytest.mark.parametrize("name", ["group", "split_column", "target", "features", "id", "time", "text", "path"])
    def test_they_are_refused(self, name: str, tmp_path: Path) -> None:
        put_sound(tmp_path / "sound" / "a" / "1.wav", 220)
        put_sound(tmp_path / "sound" / "b" / "1.wav", 880)
        ts = "@univariate true\n@classLabel true a b\n@data\n" + "1,2,3:a\n3,2,1:b\n"
        np.savez(tmp_path / "x.npz", X=np.zeros((4, 3, 1)), y=np.array(["a", "b"] * 2))
        sources = [tmp_path / "sound", put(tmp_path, "x.ts", ts), tmp_path / "x.npz", put(tmp_path, "x.txt", prose())]
        for source in sources:
            task = {"task": "lm"} if source.suffix == ".txt" else {}
            if source.suffix == ".npz" and name == "target":
                assert read(source, Settings().replace(target="y")).task == "classify"
                continue
            with pytest.raises(DataError, match=f"no columns by name, so --{name.replace('_', '-')} means nothing"):
                read(source, Settings().replace(**{name: "c"}, **task))

    def test_a_model_of_a_table_is_evaluated_on_a_folder(self, tmp_path: Path) -> None:
        for number in range(4):
            put_sound(tmp_path / "sound" / "ab"[number % 2] / f"{number}.wav", 220, phase=number)
        resolved = Settings.of({"task": "classify", "path": "file", "target": "kind"})
        assert len(read(tmp_path / "sound", resolved, role="new").content) == 4

    def test_no_command_takes_an_empty_path(self, files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
        data = str(files["text"])
        for arguments in (
            ["fit", ""],
            ["fit", data, "--out", ""],
            ["fit", data, "--config", ""],
            ["fit", data, "--valid", ""],
            ["fit", data, "--test", ""],
            ["fit", data, "--embeddings", ""],
            ["fit", data, "--text", ""],
            ["fit", data, "--split-column", ""],
            ["predict", "", data],
            ["predict", "run", ""],
            ["predict", "run", data, "--out", ""],
            ["resume", ""],
        ):
            assert main(arguments) == 2, arguments
            assert "''" in capsys.readouterr().err


class TestWarnings:
    """What passed silently."""

    def warnings(self, source: Path, out: Path, **settings: Any) -> list[str]:
        found: list[str] = fit_to(source, out, baselines=False, **settings)["warnings"]
        return found

    def test_characters_that_a_language_model_does_not_know(
        self, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = put(tmp_path, "other.txt", "lorem żżó ipsum dolor sit amet\n" * 4)
        said = "12 of 124 characters occur nowhere in the training part, so that the model takes them all for one: 'ż', 'ó'"
        run = tmp_path / "run"
        found = self.warnings(files["lm"], run, test=other, documents="file")
        assert found[-1] == f"the test part: {said}"
        config = RunDirectory(run).config()
        assert config["warnings"] == found
        for command in ("evaluate", "predict"):
            assert main([command, str(run), str(other)]) == 0
            assert f"warning: {other}: {said}\n" in capsys.readouterr().err
            assert main([command, str(run), str(files["lm"])]) == 0
            assert "nowhere" not in capsys.readouterr().err

    def test_characters_that_a_classifier_does_not_know(self, files: dict[str, Path], tmp_path: Path) -> None:
        test = put(tmp_path, "test.csv", "text,label\nfilm ☃,pos\nplot,neg\n")
        assert any(
            line.startswith("the test part: 1 of 10 characters occurs nowhere")
            for line in self.warnings(files["text"], tmp_path / "run", test=test, tokens="char")
        )
        assert not any("nowhere" in line for line in self.warnings(files["text"], tmp_path / "other", test=test))

    def test_a_test_file_that_is_the_training_file(self, files: dict[str, Path], tmp_path: Path) -> None:
        copy = put(tmp_path, "copy.txt", files["lm"].read_bytes())
        told = "1 of 1 test sequence also occurs in the training part"
        assert told in self.warnings(files["lm"], tmp_path / "one", test=copy, documents="file")

    def test_a_test_file_that_is_the_validation_file(self, files: dict[str, Path], tmp_path: Path) -> None:
        other = put(tmp_path, "other.txt", prose(300, seed=3))
        told = "1 of 1 test sequence also occurs in the validation part"
        assert told in self.warnings(files["lm"], tmp_path / "one", valid=other, test=other, documents="file")

    def test_a_sequence_that_is_longer_than_all_others(self, tmp_path: Path) -> None:
        rows = [*reviews(), f"{'film ' * 12_000},pos"]
        parts = ["train,", *("train,", "train,", "valid,", "valid,") * 30]
        source = put(tmp_path, "r.csv", table("split,text,label", [p + r for p, r in zip(parts, reversed(rows), strict=True)]))
        found = self.warnings(source, tmp_path / "run")
        assert any(re.match(r"r\.csv row 2 has 12,000 of the 12,\d+ steps of the training part", line) for line in found)

    def test_a_flag_that_another_command_has(
        self, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = tmp_path / "run"
        self.warnings(files["classify"], run)
        lines = files["classify"].read_text().splitlines()
        number, step, _, rest = lines[3].split(",", 3)
        lines[3] = f"{number},{step},,{rest}"
        bad = put(tmp_path, "bad.csv", "\n".join(lines) + "\n")
        capsys.readouterr()
        for command in ("predict", "evaluate"):
            assert main([command, str(run), str(bad)]) == 1
            assert "--missing interpolate" in (said := capsys.readouterr().err)
            assert said.endswith("(--missing is a flag of throughtime fit)\n")
        assert main(["fit", str(bad), "--out", str(tmp_path / "new"), *QUICK]) == 1
        assert "is a flag of" not in capsys.readouterr().err


def test_runs_in_a_folder_of_text_are_not_read(files: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    put(folder, "a.txt", prose())
    put(folder, "other/config.json", '{"of": "another program"}\n')
    for name in ("one", "two"):
        found = fit_to(folder, folder / "runs" / name, task="lm", baselines=False)
        assert found["understood"].startswith("learn to write like 2 files of texts")


def test_a_rate_that_no_sound_has(tmp_path: Path) -> None:
    for number in range(8):
        put_sound(tmp_path / "sound" / "ab"[number % 2] / f"{number}.wav", 220, phase=number)
    put_sound(tmp_path / "sound" / "a" / "slow.wav", 0.1, rate=1, seconds=900)
    with pytest.raises(DataError, match=r"slow\.wav: its header says 1 Hz, expected 1,000 to 1,000,000 Hz; mend the header"):
        read(tmp_path / "sound", Settings())


def test_more_columns_than_can_be_looked_at(tmp_path: Path) -> None:
    wide = ",".join(f"c{number}" for number in range(100_000))
    row = ",".join(["1"] * 100_000)
    with pytest.raises(DataError, match="has 100,000 columns, expected at most 20,000; leave some out"):
        read(put(tmp_path, "wide.csv", f"{wide}\n{row}\n{row}\n"), Settings())


def test_what_a_text_is_to_begin_with(files: dict[str, Path], tmp_path: Path) -> None:
    from throughtime import LanguageModel

    model = LanguageModel(hidden=4, epochs=1, batch=4).fit(prose())
    with pytest.raises(SettingsError, match="prompt is a NoneType, expected a str"):
        model.generate(None, 5)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="seed is 18446744073709551616, expected a whole number from 0"):
        model.generate("lorem", 5, seed=2**64)
    assert model.generate("lorem", 5, seed=2**64 - 1).startswith("lorem")


def test_errors_of_saving_name_arguments(tmp_path: Path) -> None:
    from throughtime import LanguageModel

    model = LanguageModel(hidden=4, epochs=1, batch=4).fit(prose())
    model.save(tmp_path / "run")
    with pytest.raises(RunError, match=r"^path .* holds a run; .* replace it with overwrite, or name another$"):
        model.save(tmp_path / "run")
