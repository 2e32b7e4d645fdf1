"""The command line: what it prints, its exit statuses, one line for every error, and Ctrl-C."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import throughtime
from throughtime.cli import main
from throughtime.cli.options import settings_of
from throughtime.cli.tables import check_out, check_places, result_lines, write_table
from throughtime.errors import SettingsError
from throughtime.report.formats import plain
from throughtime.settings import SECTIONS, Settings
from throughtime.store import RunDirectory

HERE = {**os.environ, "PYTHONPATH": str(Path(throughtime.__file__).parents[1])}
"""The environment of a process of its own: it works in another folder."""

SMALL = ("--epochs", "2", "--hidden", "8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of several kinds."""
    folder = tmp_path_factory.mktemp("data")
    words = [f"{number} {'good fine' if number % 2 else 'bad poor'} film {number * 7 % 13}" for number in range(80)]
    rows = [f"{text},{'yes' if 'good' in text else 'no'}" for text in words]
    (folder / "reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (folder / "names.txt").write_text("\n".join(f"{a}{b}{c}" for a in "abcdef" for b in "éiou" for c in "nmrst") + "\n")
    months = [f"{2000 + m // 12}-{m % 12 + 1:02},{100 + m + 10 * (m % 12)},{m % 3}" for m in range(84)]
    (folder / "sales.csv").write_text("\n".join(["month,units,promo", *months]) + "\n")
    return folder


@pytest.fixture(scope="module")
def runs(data: Path) -> dict[str, Path]:
    """A finished run of several kinds."""
    found = {}
    for name, flags in (
        ("reviews.csv", ()),
        ("names.txt", ()),
        ("sales.csv", ("--target", "units", "--future", "promo", "--horizon", "3", "--window", "12")),
    ):
        out = data / "runs" / name
        assert main(["fit", str(data / name), "--out", str(out), *SMALL, *flags]) == 0
        found[name] = out
    return found


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_fit_says_what_it_understood_and_how_it_came_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = call(capsys, "fit", data / "reviews.csv", *SMALL)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("classify `text` into `label`")
    assert lines[1].startswith("split: ")
    evaluations = [line for line in lines if line.startswith("epoch ")]
    assert len(evaluations) >= 2
    assert all("valid accuracy" in line for line in evaluations)
    assert "steps/s" in evaluations[-1]
    result = RunDirectory(Path("runs/reviews")).result()
    assert result is not None
    headline = lines.index(result["headline"])
    table = lines[headline + 2 :]
    assert table[0].split()[0] == "accuracy"
    assert table[1].startswith("this model")
    assert {b["name"] for b in result["baselines"]} <= {line.split("  ")[0] for line in table}
    assert lines[-3:] == [
        "report  runs/reviews/report.html",
        "run     runs/reviews",
        "next    throughtime predict runs/reviews NEW-DATA --out predictions.csv",
    ]
    assert RunDirectory(Path("runs/reviews")).config()["command"].startswith("throughtime fit ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_a_run_gets_a_fresh_name(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("names", "names-2"):
        status, out, _ = call(capsys, "fit", data / "names.txt", "--no-baselines", *SMALL)
        assert status == 0
        assert f"run     runs/{name}\n" in out
        assert "this model" in out
    assert RunDirectory(Path("runs/names-2")).config()["settings"]["training"]["baselines"] is False


def test_nothing_is_left_where_the_data_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "fit", "nothing.csv")[0] == 1
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_replaced_unasked(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("fit", data / "names.txt", "--no-baselines", "--out", "mine", *SMALL)
    assert call(capsys, *arguments)[0] == 0
    status, _, err = call(capsys, *arguments)
    assert status == 1
    assert "--overwrite" in err
    assert call(capsys, *arguments, "--overwrite", "--seed", "3")[0] == 0
    assert RunDirectory(Path("mine")).config()["settings"]["training"]["seed"] == 3


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["fit"], 2, "Missing argument 'DATA'. See throughtime fit --help"),
        (["fitt", "x"], 2, "'fitt'"),
        (["fit", "x", "--hiden", "3"], 2, "'--hidden'"),
        (["fit", "x", "--cell", "lstmm"], 2, "did you mean lstm?"),
        (["fit", "x", "--hidden", "many"], 2, "hidden is 'many', expected a whole number"),
        (["fit", "x", "--time-budget", "soon"], 2, "90s or 5m"),
        (["fit", "x", "--config", "no.toml"], 2, "--config no.toml cannot be read: No such file"),
        (["fit", "nothing.csv"], 1, "nothing.csv does not exist"),
        (["fit", "nothing.csv", "--traceback"], 1, "nothing.csv does not exist"),
        (["resume", "nowhere"], 1, "no run directory: nowhere does not exist; nothing in . has a name like it"),
        (["predict", "nowhere", "x.csv"], 1, "no run directory: nowhere does not exist"),
        (["predict", "nowhere", "x.csv", "--out", "x.txt"], 2, "expected .csv, .parquet, .jsonl"),
        (["predict", "nowhere", "x.csv", "--out", "no/x.csv"], 2, "there is no folder no"),
        (["generate", "nowhere", "--length", "x"], 2, "'x' is not a valid integer"),
    ],
)
def test_an_error_is_one_line(arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    found, out, err = call(capsys, *arguments)
    assert (found, out) == (status, "")
    assert said in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: ")
    assert ("Traceback" in err) == ("--traceback" in arguments)
    assert "--traceback" in arguments or len(err.splitlines()) == 1


def test_a_bug_is_called_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunDirectory, "config", lambda _: 1 / 0)
    status, _, err = call(capsys, "resume", "x")
    assert status == 1
    assert err == "error: this is a bug in throughtime: ZeroDivisionError: division by zero; --traceback shows where\n"


@pytest.mark.parametrize(("module", "extra"), [("polars", "train"), ("rich.live", "train")])
def test_a_missing_library_is_named(module: str, extra: str, data: Path) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from throughtime.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "fit", str(data / "reviews.csv")], capture_output=True, text=True, env=HERE
    )
    assert done.returncode == 1
    assert done.stderr == f"error: this needs {module}, which is not installed: pip install 'throughtime[{extra}]'\n"


def test_every_setting_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "fit", "--help")
    assert status == 0
    for section in SECTIONS.values():
        for name in section.__dataclass_fields__:
            assert f"--{name.replace('_', '-')}" in out
    assert "--no-baselines" in out
    assert [line for line in out.splitlines() if line.endswith(":") and line[0] != " "] == [
        "Data:",
        "Forecasts:",
        "Model:",
        "Training:",
        "Run:",
    ]
    status, out, _ = call(capsys)
    assert status == 2
    assert "Usage: throughtime" in out


def test_help_needs_no_library() -> None:
    code = "from throughtime.cli import main; main(['fit', '--help']); import sys; print({'torch', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=HERE)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_flag_beats_the_file_and_the_file_the_default(tmp_path: Path) -> None:
    config = tmp_path / "fit.toml"
    config.write_text(
        'cell = "gru"\n[model]\nhidden = 32\nbidirectional = true\n[training]\ntime-budget = "5m"\nbaselines = false\n'
    )
    settings = settings_of(config, {"hidden": "64", "bidirectional": False, "layers": None})
    assert settings.model.cell == "gru"
    assert settings.model.hidden == 64
    assert settings.model.bidirectional is False
    assert settings.training.time_budget == 300
    assert settings.training.baselines is False
    assert settings.training.seed == Settings().training.seed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model]\nhidden = \n", "line 2"),
        ("[model]\n\nhiden = 3\n", "line 3: there is no setting 'hiden'; did you mean 'hidden'?"),
        ("[model]\ncell = 'lstmm'\n", "line 2: cell is 'lstmm'"),
        ("[training]\nhidden = 3\n", "line 2: there is no setting 'hidden'"),
        ("[modell]\nhidden = 3\n", "line 1: there is no setting 'modell'; did you mean 'model'?"),
        ("model = {hidden = 'x'}\n", "line 1: hidden is 'x'"),
    ],
)
def test_a_wrong_file_of_settings_is_named_with_the_line(text: str, said: str, tmp_path: Path) -> None:
    config = tmp_path / "fit.toml"
    config.write_text(text)
    with pytest.raises(SettingsError) as caught:
        settings_of(config, {})
    assert said in str(caught.value)
    assert "fit.toml" in str(caught.value)
    config.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="byte 0 is not UTF-8"):
        settings_of(config, {})


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_predictions_into_a_file(ending: str, data: Path, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(f"predictions{ending}")
    assert call(capsys, "predict", runs["reviews.csv"], data / "reviews.csv", "--out", out) == (0, "", "")
    read = {".csv": pl.read_csv, ".parquet": pl.read_parquet, ".jsonl": pl.read_ndjson}[ending]
    table = read(out)
    assert table.columns == ["origin", "predicted", "p(no)", "p(yes)"]
    assert len(table) == 80
    assert (table["p(no)"] + table["p(yes)"] - 1).abs().max() < 1e-6


def test_predictions_onto_stdout(data: Path, runs: dict[str, Path], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["predict", str(runs["names.txt"]), str(data / "names.txt")]) == 0
    table = pl.read_csv(capfdbinary.readouterr().out)
    assert table.columns == ["origin", "nats", "tokens", "perplexity"]
    assert len(table) == 120


def test_the_data_is_not_written_over(data: Path, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = call(capsys, "predict", runs["reviews.csv"], data / "reviews.csv", "--out", data / "reviews.csv")
    assert status == 2
    assert "is the data that is read" in err


def test_evaluate_prints_what_the_task_is_judged_by_first(
    data: Path, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (data / "reviews.csv").read_text().splitlines()
    Path("new.csv").write_text("\n".join([lines[0], *(line.replace("film", "movie") for line in lines[1:21])]))
    status, out, err = call(capsys, "evaluate", runs["reviews.csv"], "new.csv", "--out", "scores.csv")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "scored 20 sequences"
    name, value = out.splitlines()[1].split()
    assert name == "accuracy"
    assert 0 <= float(value) <= 1
    names = [line.rsplit(maxsplit=1)[0].strip() for line in out.splitlines()[1:]]
    assert names == ["accuracy", "macro F1", "log loss"], "what serves training is left out"
    table = pl.read_csv("scores.csv")
    assert dict(zip(table["score"], table["value"], strict=True))["accuracy"] == pytest.approx(float(value), abs=1e-4)


def test_evaluate_says_where_the_data_was_trained_on(
    data: Path, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(data / "reviews.csv", "copy.csv")
    status, out, err = call(capsys, "evaluate", runs["reviews.csv"], "copy.csv")
    assert status == 0
    assert out.startswith("scored 80 sequences\n")
    assert "copy.csv is what the model was fitted to: 64 sequences of it were trained on, which flatters the scores" in err
    assert f"those of the test part alone are in {runs['reviews.csv'] / 'result.json'}" in err


def test_evaluate_scores_what_a_forecast_did_not_see(
    data: Path, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, lines = runs["sales.csv"], (data / "sales.csv").read_text().splitlines()
    result = RunDirectory(run).result()
    assert result is not None
    status, out, err = call(capsys, "evaluate", run, data / "sales.csv")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "scored 6 windows of 1 series after 2006-04, which the fit did not see"
    assert out.splitlines()[1].split() == ["MASE", plain(result["scores"]["test"]["mase"])]
    Path("known.csv").write_text("\n".join(lines[:70]) + "\n")
    status, out, _ = call(capsys, "evaluate", run, "known.csv")
    assert (status, out.splitlines()[0]) == (0, "scored 55 windows of 1 series, all of which the fit saw")
    assert "coverage" not in out
    Path("after.csv").write_text("\n".join([lines[0], *lines[-6:]]) + "\n")
    status, out, err = call(capsys, "evaluate", run, "after.csv")
    assert (status, out) == (1, "")
    assert "has 6 values that the fit did not see, after 0 others; to score a forecast takes 3 of them, after 12 values" in err


def test_generated_text_is_printed_as_it_is_made(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import throughtime.tasks.generate as made

    real, seen = made.generate, []

    def watched(*arguments: Any, **settings: Any) -> Iterator[str]:
        for piece in real(*arguments, **settings):
            yield piece
            seen.append((piece, capsys.readouterr().out))

    monkeypatch.setattr(made, "generate", watched)
    status, _, _ = call(capsys, "generate", runs["names.txt"], "--prompt", "abé", "--length", "40", "--seed", "1")
    assert status == 0
    assert len(seen) > 20
    assert seen[0][0] == "abé"
    assert all(piece == printed for piece, printed in seen)


def test_every_line_that_is_generated_begins_with_the_prompt(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, "generate", runs["names.txt"], "--prompt", "ab", "--length", "300")
    assert (status, err) == (0, "")
    assert len(out.splitlines()) > 2
    assert all(line.startswith("ab") for line in out.splitlines())
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside of tests
        status, _, err = call(capsys, "generate", runs["names.txt"], "--prompt", "Qaß", "--length", "5")
    assert status == 0
    assert err == "warning: the model does not know 'Q', 'ß' of the prompt: such characters were not in its training text\n"


def test_generate_is_the_same_for_a_seed(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    texts = [call(capsys, "generate", runs["names.txt"], "--length", "60", "--seed", seed)[1] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert call(capsys, "generate", runs["names.txt"], "--temperature", "-1")[0] == 2
    status, _, err = call(capsys, "generate", runs["reviews.csv"])
    assert status == 2
    assert "--task lm" in err


def test_forecast_with_what_is_known_in_advance(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = call(capsys, "forecast", runs["sales.csv"])
    assert status == 1
    assert "--future FILE" in err
    Path("ahead.csv").write_text("month,promo\n2007-01,0\n2007-02,1\n2007-03,2\n")
    assert call(capsys, "forecast", runs["sales.csv"], "--future", "ahead.csv", "--out", "next.jsonl")[:2] == (0, "")
    rows = [json.loads(line) for line in Path("next.jsonl").read_text().splitlines()]
    assert [row["time"] for row in rows] == ["2007-01", "2007-02", "2007-03"]
    assert call(capsys, "forecast", runs["sales.csv"], "--future", "ahead.csv", "--out", "next.parquet")[:2] == (0, "")
    exact = pl.read_parquet("next.parquet")
    for name in ("forecast", "lower", "upper"):
        step = float(exact[name].diff().abs().median())
        for row, value in zip(rows, exact[name], strict=True):
            assert row[name] != value, "Parquet has all digits"
            assert abs(row[name] - value) <= 0.5e-8 * step, "nine digits of what it varies by, no fewer"
            assert row[name] == round(row[name], 8 - math.floor(math.log10(step))), "and no more"
    assert call(capsys, "forecast", runs["names.txt"])[0] == 2


def test_what_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    data, other = tmp_path / "data.csv", tmp_path / "out.csv"
    data.write_text("text\n")
    (tmp_path / "link.csv").symlink_to(data)
    check_places(other, None, tmp_path / "b.csv", read=[data, None])
    for files, said in (
        ([tmp_path / "no" / "x.csv"], "there is no folder"),
        ([tmp_path], "is a folder; name a file"),
        ([data], "is the data that is read; name another file"),
        ([tmp_path / "link.csv"], "is the data that is read; name another file"),
        ([other, None, other], "is named twice; give each its own file"),
        ([Path("x.csv"), Path("x.csv").absolute()], "is named twice"),
    ):
        with pytest.raises(SettingsError, match=said):
            check_places(*files, read=[data])
    with pytest.raises(SettingsError, match=r"ends in \.txt, expected \.csv, \.parquet, \.jsonl"):
        check_out(tmp_path / "x.txt")
    with pytest.raises(SettingsError, match="is the data that is read"):
        check_out(data, None, data)


def test_digits_count_from_what_numbers_vary_by(capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    """Not from their level, which would leave nothing of a forecast at a high one; Parquet has all of them."""
    low = [7000 * math.sin(row) for row in range(6)]
    high = [1e9 + value for value in low]
    odd = [0.30000001192092896, math.nan, math.inf, 1.2345678987654e-12, 0.7, -math.inf]
    table = {"high": high, "both": [*low[:3], *high[3:]], "odd": odd}
    for out, read in (
        (tmp_path / "t.csv", pl.read_csv),
        (tmp_path / "t.jsonl", pl.read_ndjson),
        (tmp_path / "t.parquet", None),
    ):
        write_table(table, out)
        found = pl.read_parquet(out) if read is None else read(out)
        for name in ("high", "both"):
            wrong = max(abs(a - b) for a, b in zip(found[name], table[name], strict=True))
            assert (wrong == 0) if read is None else (0 < wrong < 1e-5), (out, name)
    write_table(table, None)
    written = [line.split(",")[2] for line in capsysbinary.readouterr().out.decode().splitlines()[1:]]
    assert written == ["0.300000012", "NaN", "inf", "1.2345679e-12", "0.7", "-inf"]
    for constant in ([1e9 + 0.125], [math.nan], [0.0, 0.0], []):
        write_table({"x": constant}, tmp_path / "one.csv")
        assert pl.read_csv(tmp_path / "one.csv", schema={"x": pl.Float64})["x"].fill_nan(None).to_list() == [
            None if math.isnan(value) else value for value in constant
        ]


def test_forecast_goes_on_after_the_files_of_all_parts(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (data / "sales.csv").read_text().splitlines()
    for name, some in (("train", lines[1:60]), ("valid", lines[60:72]), ("test", lines[72:])):
        Path(f"{name}.csv").write_text("\n".join([lines[0], *some]) + "\n")
    flags = ("--target", "units", "--horizon", "3", "--window", "12", "--no-baselines")
    status, out, _ = call(
        capsys, "fit", "train.csv", "--valid", "valid.csv", "--test", "test.csv", *flags, *SMALL, "--out", "three"
    )
    assert status == 0
    evaluations = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert evaluations
    assert all(re.search(r"valid MAE of scaled values [\d.]+, MASE [\d.]+", line) for line in evaluations), evaluations
    status, out, err = call(capsys, "forecast", "three")
    assert (status, err) == (0, "")
    assert [line.split(",")[1] for line in out.splitlines()[1:]] == ["2007-01", "2007-02", "2007-03"]
    Path("test.csv").write_text("\n".join([lines[0], *lines[72:], "2007-01,200,1"]) + "\n")
    assert call(capsys, "forecast", "three")[1].splitlines()[1].split(",")[1] == "2007-02", "what was added since is used"
    model: Any = throughtime.load("three")
    assert model.predict()["time"].to_list() == ["2007-02", "2007-03", "2007-04"]


def test_a_run_that_was_fitted_in_python_holds_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    throughtime.Forecaster(horizon=2, season=4, hidden=4, epochs=1).fit([float(n % 4) for n in range(60)]).save("saved")
    status, out, err = call(capsys, "forecast", "saved")
    assert (status, out) == (1, "")
    assert err == "error: saved was fitted in Python and holds no data; `throughtime predict saved DATA` takes some\n"


def test_tagged_words_are_evaluated_in_other_columns_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = [("the", "DET"), ("cat", "NOUN"), ("runs", "VERB"), ("dog", "NOUN")]
    sentences = [[words[0], words[1 + 2 * (n % 2)], words[2], (f"w{n}", "NOUN")] for n in range(40)]
    Path("train.tsv").write_text("\n\n".join("\n".join("\t".join(pair) for pair in one) for one in sentences) + "\n\n")
    rows = [[f"{i}\t{w}\t_\t{t}\t_\t_\t_\t_\t_\t_" for i, (w, t) in enumerate(one, 1)] for one in sentences[:9]]
    Path("test.conllu").write_text("\n\n".join("\n".join(one) for one in rows) + "\n\n")
    assert call(capsys, "fit", "train.tsv", "--no-baselines", *SMALL, "--out", "tagger")[0] == 0
    status, out, err = call(capsys, "evaluate", "tagger", "test.conllu")
    assert status == 0, err
    assert out.splitlines()[0] == "scored 9 sequences"
    assert out.splitlines()[1].startswith("accuracy")


def test_report_is_written_again(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    page = runs["reviews.csv"] / "report.html"
    page.unlink()
    assert call(capsys, "report", runs["reviews.csv"]) == (0, f"{page}\n", "")
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_a_finished_run_is_not_resumed(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "resume", runs["names.txt"])
    assert status == 0
    assert "is finished: GRU: nats per character" in out


def test_ctrl_c_saves_and_resume_ends_as_if_it_had_not_been(
    data: Path, runs: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from throughtime.cli.display import Display

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Display, "updated", lambda _, update: update.update == 7 and os.kill(os.getpid(), signal.SIGTERM))
        status, _, err = call(capsys, "fit", data / "names.txt", "--out", "some run", *SMALL, "--epochs", "30")
    assert status == 130
    assert err == "stopped; saved at update 7; go on with: throughtime resume 'some run'\n"
    assert signal.getsignal(signal.SIGINT) is before
    for command in (
        ["predict", "some run", "x"],
        ["evaluate", "some run", "x"],
        ["generate", "some run"],
        ["report", "some run"],
    ):
        status, _, err = call(capsys, *command)
        assert status == 1
        assert "go on with it by `throughtime resume 'some run'`" in err
    assert call(capsys, "resume", "some run")[0] == 0
    assert call(capsys, "fit", data / "names.txt", "--out", "whole", *SMALL, "--epochs", "30")[0] == 0
    models = [Path(run, "model.safetensors").read_bytes() for run in ("some run", "whole")]
    assert models[0] == models[1]


def test_a_second_ctrl_c_does_not_wait(data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from throughtime.cli.display import Display

    def twice(_: Display, update: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Display, "updated", twice)
    status, _, err = call(capsys, "fit", data / "names.txt", *SMALL)
    assert (status, err) == (130, "stopped; nothing was saved\n")
    assert not RunDirectory(Path("runs/names")).checkpoints.numbers()


def test_before_training_it_stops_at_once(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from throughtime.cli.display import Display

    monkeypatch.setattr(Display, "say", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert call(capsys, "fit", data / "names.txt", *SMALL) == (130, "", "stopped; nothing was saved\n")
    assert not list(tmp_path.iterdir())


def test_the_table_drops_columns_before_it_is_too_wide() -> None:
    scores = {"loss": 0.1, "accuracy": 0.5, "macro_f1": 0.25, "log_loss": 1.0}
    result = {
        "metric": {"name": "accuracy", "label": "accuracy", "higher_is_better": True},
        "scored_on": "test",
        "scores": {"test": scores},
        "model": {"parameters": 1234},
        "training": {"seconds": 2.0},
        "baselines": [
            {"name": "majority", "parameters": 0, "seconds": 0.0, "scores": {"accuracy": 0.2}},
            {"name": "TF-IDF", "parameters": 9, "seconds": 0.1, "scores": {"accuracy": 0.4}},
        ],
    }
    wide = result_lines(result, 120)
    assert wide[0].split("  ")[-2:] == ["parameters", "seconds"]
    assert [line.split("  ")[0] for line in wide[1:]] == ["this model", "TF-IDF", "majority"]
    for width in range(25, 80, 5):
        lines = result_lines(result, width)
        assert max(map(len, lines)) <= width
        assert "accuracy" in lines[0]


def test_output_that_nobody_reads_to_the_end(data: Path, runs: dict[str, Path]) -> None:
    lines = (
        f"generate {runs['names.txt']} --length 20000",
        f"fit {data / 'names.txt'} --epochs 2 --hidden 8 --no-baselines",
    )
    calls = [f"{sys.executable} -m throughtime {line} | head -1; exit ${{PIPESTATUS[0]}}" for line in lines]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(["bash", "-c", line], stdout=pipe, stderr=pipe, text=True, env=HERE) for line in calls]
    ends = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    for out, err, status in ends:
        assert (status, err) == (0, "")
        assert len(out.splitlines()) == 1
    assert RunDirectory(Path("runs/names")).result() is not None  # a fit is made for its run, not for its output


@pytest.mark.parametrize(
    ("to", "said"),
    [
        (">&-", "error: stdout is closed, so what is printed would be lost; open it, or give --out FILE"),
        ("> /dev/full", "error: stdout cannot be written to: No space left on device; give --out FILE, in a place with space"),
    ],
)
def test_predictions_that_go_nowhere(to: str, said: str, data: Path, runs: dict[str, Path]) -> None:
    if "/dev/full" in to and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    line = f"{sys.executable} -m throughtime predict {runs['reviews.csv']} {data / 'reviews.csv'} {to}"
    ended = subprocess.run(["bash", "-c", line], stderr=subprocess.PIPE, text=True, env=HERE, timeout=120)
    assert ended.returncode
    assert ended.stderr.splitlines() == [said]


def test_on_a_terminal_there_is_a_live_line(data: Path) -> None:
    leader, follower = pty.openpty()
    environment = {**HERE, "TERM": "xterm", "COLUMNS": "100", "PYTHONIOENCODING": "ascii"}
    flags = ["--hidden", "8", "--epochs", "60", "--no-baselines"]
    process = subprocess.Popen(
        [sys.executable, "-m", "throughtime", "fit", str(data / "names.txt"), *flags],
        stdout=follower,
        stderr=follower,
        env=environment,
    )
    os.close(follower)
    shown = b""
    try:
        while block := os.read(leader, 65536):
            shown += block
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(leader)
    assert process.wait(60) == 0
    assert b"reading " in shown
    assert b"left" in shown
    assert b"best valid nats per character" in shown
    assert shown.isascii()
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l")  # the cursor is there again
    assert b"Traceback" not in shown
