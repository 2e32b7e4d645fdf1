"""Whole fits on tiny data: what they leave, say and score, that it is exact and quiet, and that something is learned."""

from __future__ import annotations

import json
import random
import re
import shutil
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import throughtime
import throughtime.train.fit
import throughtime.train.trainer
from throughtime.cli import main
from throughtime.data.records import Panel, Sequences
from throughtime.errors import RunError
from throughtime.report.formats import plain
from throughtime.settings import Settings
from throughtime.store import RunDirectory, read_json, write_json
from throughtime.tasks import Metric
from throughtime.tasks.lm import LanguageModelling
from throughtime.train.fit import fit, resume
from throughtime.train.fitted import Fitted
from throughtime.train.optimizers import optimizer_names
from throughtime.train.progress import Evaluation, Progress, Update

from fit_cases import CASES, SMALL, Case, fit_to, put, reviews, series_table, sine, steps_table, table

FILES = {
    "config.json",
    "model.safetensors",
    "transforms.json",
    "manifest.json",
    "metrics.jsonl",
    "timings.jsonl",
    "result.json",
    "report.html",
    "checkpoints",
    ".lock",
}
RESULT = {
    "format_version",
    "task",
    "understood",
    "split",
    "warnings",
    "headline",
    "beats_baselines",
    "comparison",
    "metric",
    "scored_on",
    "parts",
    "model",
    "scores",
    "baselines",
    "training",
    "details",
}
TRAINING = {"updates", "epochs", "seconds", "steps_per_second", "best_update", "stopped", "rollbacks"}
DETAILS = {
    "classify": {"classes", "confusion", "per_class", "worst"},
    "tag": {"per_tag", "confused", "accuracy_unknown", "span_f1", "worst"},
    "regress": {"scatter"},
    "forecast": {"per_step_mae", "examples", "worst", "coverage", "level"},
    "lm": {"samples", "surprising"},
}
BY_NAME = {case.name: case for case in CASES}


class Witness(Progress):
    """Notes what is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.warned: list[str] = []
        self.before = 0.0
        self.evaluations: list[Evaluation] = []
        self.updates: list[Update] = []

    def say(self, line: str) -> None:
        self.told.append(line)

    def warn(self, line: str) -> None:
        self.warned.append(line)

    def training_starts(self, description: str, metrics: tuple[Metric, Metric], total: int | None, seconds: float) -> None:
        self.before = seconds

    def updated(self, update: Update) -> None:
        self.updates.append(update)

    def evaluated(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path, dict[str, Any], Witness]]:
    """One fit of every case, made when first asked for."""

    class Made(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            folder, case, witness = tmp_path_factory.mktemp(name), BY_NAME[name], Witness()
            source = case.write(folder)
            settings = Settings.of({"hidden": 8, "epochs": 1, "batch": 16, **case.settings})
            result = fit(source, settings, folder / "run", command="throughtime fit it", progress=witness)
            self[name] = source, folder / "run", result, witness
            return self[name]

    return Made()


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


# --- what a fit leaves


def test_the_run_directory_and_the_result(case: Case, fits: dict[str, Any]) -> None:
    _, out, result, witness = fits[case.name]
    assert {path.name for path in out.iterdir()} == FILES
    assert {path.name for path in (out / "checkpoints").iterdir()} == {f"{result['training']['updates']:08d}"}
    stored = json.loads((out / "result.json").read_text())
    assert stored == {"format_version": 1, **json.loads(json.dumps(result))}
    assert stored.keys() == RESULT
    assert stored["training"].keys() == TRAINING
    assert stored["details"].keys() >= DETAILS[case.task]
    assert stored["task"] == case.task
    assert stored["metric"].keys() == {"name", "label", "higher_is_better", "unit"}
    assert stored["scored_on"] == "test"
    assert stored["parts"].keys() == {"train", "valid", "test"}
    for part in stored["parts"].values():
        assert part.keys() == {"sequences", "steps", "shortest", "longest"}
        assert part["sequences"] * part["shortest"] <= part["steps"] <= part["sequences"] * part["longest"]
    assert stored["scores"].keys() == {"valid", "test"}
    assert stored["metric"]["name"] in stored["scores"]["test"]
    assert stored["model"]["parameters"] == sum(p.numel() for p in Fitted.load(out).network.parameters())
    assert stored["model"]["backend"]
    assert stored["baselines"]
    for baseline in stored["baselines"]:
        assert baseline.keys() == {"name", "description", "parameters", "seconds", "scores", "order"}
        assert stored["metric"]["name"] in baseline["scores"]
    assert witness.told[:2] == [stored["understood"], stored["split"]]


def test_the_config_says_how_to_repeat_it(case: Case, fits: dict[str, Any]) -> None:
    source, out, _, _ = fits[case.name]
    config = json.loads((out / "config.json").read_text())
    assert config["format_version"] == 1
    assert config["command"] == "throughtime fit it"
    assert config["source"] == str(source)
    settings = Settings.of(config["settings"])
    assert settings.as_json() == config["settings"]
    open_ = {name for section in config["settings"].values() for name, value in section.items() if value is None}
    decided = {
        "cell",
        "hidden",
        "layers",
        "bidirectional",
        "dropout",
        "init",
        "optimizer",
        "lr",
        "schedule",
        "clip",
        "batch",
        "epochs",
        "patience",
    }
    assert not open_ & decided
    assert settings.training.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert "device" not in config["given"].get("training", {})
    assert settings.data.task == case.task
    for file in config["files"]:
        assert Path(file["path"]).stat().st_size == file["bytes"]
        assert len(file["sha256"]) == 64


def test_the_curves(case: Case, fits: dict[str, Any]) -> None:
    _, out, result, witness = fits[case.name]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines == [json.loads(json.dumps(evaluation.as_json())) for evaluation in witness.evaluations]
    assert [line["update"] for line in lines] == sorted(line["update"] for line in lines)
    assert lines[0]["update"] == 0
    assert lines[-1]["update"] == result["training"]["updates"] == len(witness.updates) == witness.updates[-1].total
    assert [line["update"] for line in lines if line["best"]][-1] == result["training"]["best_update"]
    timings = [json.loads(line) for line in (out / "timings.jsonl").read_text().splitlines()]
    assert [line["update"] for line in timings] == [line["update"] for line in lines]
    assert all("loss" in line["valid"] for line in lines)


def test_the_report_is_written(case: Case, fits: dict[str, Any]) -> None:
    _, out, result, _ = fits[case.name]
    page = (out / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert result["model"]["description"].split(",")[0].lower() in page.lower()
    assert len(page) < 1_000_000


def test_the_first_line_is_honest(case: Case, fits: dict[str, Any]) -> None:
    _, _, result, _ = fits[case.name]
    metric, sign = result["metric"]["name"], 1 if result["metric"]["higher_is_better"] else -1
    best = max(result["baselines"], key=lambda baseline: sign * baseline["scores"][metric])
    comparison, beats, score = result["comparison"], result["beats_baselines"], result["scores"]["test"][metric]
    assert comparison["baseline"] == best["name"]
    assert comparison["beats"] is beats
    if comparison["interval"] is None:
        assert beats is None
        assert comparison["pieces"] < 6
    else:
        low, high = comparison["interval"]
        assert beats is (True if high < 0 else False if low > 0 else None)
        assert comparison["pieces"] >= 6
    if beats is not None:
        assert (sign * (score - best["scores"][metric]) > 0) is beats
    verdict = {True: "the model beats it.", False: "the model does not beat it."}
    chance = "too little data to tell whether the model beats it." if comparison["interval"] is None else "may be chance."
    assert result["headline"].endswith(verdict.get(beats, chance))
    assert best["name"] in result["headline"]
    assert plain(score) in result["headline"]


def as_metric(task: str, errors: np.ndarray, scores: dict[str, float], part: Any, encoded: Any) -> tuple[str, float]:
    """The metric that errors add up to, and the value that they say it has."""
    if task == "forecast":
        truth = encoded.windows.truth(encoded.origins)
        return "mase", errors.sum() / np.isfinite(truth).sum()
    if task == "lm":
        return "nats_per_character", errors.sum() / (encoded.characters + encoded.documents)
    steps = int(encoded.lengths.sum()) if task == "tag" or (isinstance(part.targets, list) and task == "regress") else len(part)
    if task == "regress":
        return "rmse", float(np.sqrt(errors.sum() / steps))
    return "accuracy", 1 - errors.sum() / steps


def test_errors_add_up_to_the_metric(case: Case, fits: dict[str, Any]) -> None:
    source, out, _, _ = fits[case.name]
    fitted = Fitted.load(out)
    content = fitted.read(source, with_target=True).content
    part, _ = fitted.task.held_out(content)
    assert isinstance(content, Panel) == (part is not content)
    with torch.inference_mode():
        encoded = fitted.task.encode(part)
        scores = fitted.task.score(fitted.network, part, encoded)
        errors = fitted.task.errors(fitted.network, part, encoded)
        baselines = fitted.task.baselines(part, part)
    for found, said in [(errors, scores), *((baseline.errors, baseline.scores) for baseline in baselines)]:
        assert found is not None
        assert found.shape == errors.shape
        name, value = as_metric(case.task, found, said, part, encoded)
        assert said[name] == pytest.approx(value, rel=1e-6)
        assert fitted.task.judged_by(said).name == name


def test_nothing_else_is_written_or_printed_and_random_states_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for name in ("classify_characters", "forecast", "lm_stream"):
        case, here = BY_NAME[name], tmp_path / name / "here"
        here.mkdir(parents=True)
        source = case.write(tmp_path / name)
        monkeypatch.chdir(here)
        states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        before = set(tmp_path.rglob("*"))
        case.fit(source, tmp_path / name / "run", save_every=0.01)
        new = set(tmp_path.rglob("*")) - before
        assert {path.relative_to(tmp_path / name).parts[0] for path in new} == {"run"}
        assert torch.equal(torch.get_rng_state(), states[0])
        assert np.array_equal(np.random.get_state()[1], states[1])
        assert random.getstate() == states[2]
        assert not list((tmp_path / name / "run").rglob("*.tmp"))
    assert capfd.readouterr() == ("", "")


# --- afterwards


def test_a_loaded_model_predicts_and_scores_the_same(case: Case, fits: dict[str, Any]) -> None:
    source, out, _, _ = fits[case.name]
    first, second = Fitted.load(out), Fitted.load(out)
    content = first.read(source, with_target=True).content
    if case.name == "forecast_panel":  # what is known in advance ends with the data
        scores = first.score(content)
        assert scores == second.score(content)
        return
    assert first.predict(content) == second.predict(content)
    scores = first.score(content)
    assert scores == second.score(content)
    assert scores.keys() >= {"loss"}
    assert all(isinstance(value, float) for value in scores.values())


@pytest.mark.parametrize("name", ["classify_text", "classify_characters", "regress"])
def test_evaluating_the_test_file_gives_the_score_of_the_fit(name: str, tmp_path: Path) -> None:
    case = BY_NAME[name]
    lines = case.write(tmp_path).read_text().splitlines()
    train, test = (
        put(tmp_path, "train.csv", table(lines[0], lines[1:90])),
        put(tmp_path, "test.csv", table(lines[0], lines[90:])),
    )
    result = case.fit(train, tmp_path / "run", test=str(test), baselines=False)
    model = Fitted.load(tmp_path / "run")
    assert model.score(model.read(test, with_target=True).content) == result["scores"]["test"]
    assert result["parts"]["test"]["sequences"] == len(lines) - 90
    assert result["split"].startswith("split: as given: trained on train.csv, tested on test.csv")


@pytest.mark.parametrize("name", ["tag_words", "lm_lines"])
def test_evaluating_another_text_gives_the_score_of_the_fit(name: str, tmp_path: Path) -> None:
    case = BY_NAME[name]
    text = case.write(tmp_path).read_text()
    between = "\n\n" if name == "tag_words" else "\n"
    blocks = text.strip().split(between)
    train = put(tmp_path, "train" + case.write(tmp_path).suffix, between.join(blocks[:50]) + between)
    test = put(tmp_path, "test" + train.suffix, between.join(blocks[50:]) + between)
    result = case.fit(train, tmp_path / "run", test=str(test), baselines=False)
    model = Fitted.load(tmp_path / "run")
    assert model.score(model.read(test, with_target=True).content) == pytest.approx(result["scores"]["test"], rel=1e-12)


def test_the_validation_score_is_the_best_of_the_curve(fits: dict[str, Any]) -> None:
    for name in ("classify_text", "tag_numbers", "regress", "lm_lines"):
        _, _, result, witness = fits[name]
        best = next(evaluation for evaluation in reversed(witness.evaluations) if evaluation.best)
        for metric, value in best.valid.items():
            assert result["scores"]["valid"][metric] == pytest.approx(value, rel=1e-9), (name, metric)


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(case: Case, fits: dict[str, Any], tmp_path: Path) -> None:
    source, out, result, _ = fits[case.name]
    torch.manual_seed(99)
    again = case.fit(source, tmp_path / "run", baselines=False)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (out / "metrics.jsonl").read_bytes()
    assert again["scores"] == result["scores"]
    if case.task == "forecast":  # the details show the baselines beside the model, and here there are none
        assert again["details"]["per_step_mae"]["model"] == result["details"]["per_step_mae"]["model"]
    else:
        assert again["details"] == result["details"]


def test_another_seed_gives_another_model(fits: dict[str, Any], tmp_path: Path) -> None:
    source, out, _, _ = fits["classify_text"]
    BY_NAME["classify_text"].fit(source, tmp_path / "run", seed=1, baselines=False)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() != (out / "model.safetensors").read_bytes()


def test_a_finished_run_is_not_resumed(fits: dict[str, Any]) -> None:
    _, out, _, _ = fits["classify_text"]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert resume(out) is None
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_without_baselines(fits: dict[str, Any], tmp_path: Path) -> None:
    source, _, result, _ = fits["classify_text"]
    without = BY_NAME["classify_text"].fit(source, tmp_path / "run", baselines=False)
    assert without["baselines"] == []
    assert without["beats_baselines"] is None
    assert "baseline" not in without["headline"]
    assert without["scores"] == result["scores"]


def test_without_test_data_the_validation_part_is_scored(tmp_path: Path) -> None:
    source = put(tmp_path, "train.csv", table("text,label", reviews(60)))
    valid = put(tmp_path, "valid.csv", table("text,label", reviews(20, seed=5)))
    result = fit_to(source, tmp_path / "run", valid=str(valid))
    assert result["scored_on"] == "valid"
    assert result["parts"].keys() == {"train", "valid"} == {"train", *result["scores"]}
    assert "of the validation part" in result["headline"]


def test_word_vectors_are_not_needed_afterwards(tmp_path: Path) -> None:
    source = put(tmp_path, "reviews.csv", table("text,label", reviews()))
    vectors = put(tmp_path, "vectors.vec", "film 1 2 3\nplot 0 1 0\n")
    fit_to(source, tmp_path / "run", embeddings=str(vectors), baselines=False)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [Path(file["path"]).name for file in config["files"]] == ["reviews.csv", "vectors.vec"]
    vectors.unlink()
    model = Fitted.load(tmp_path / "run")
    assert len(model.predict(model.read(source, with_target=False).content)["predicted"]) == 120


@pytest.mark.parametrize("optimizer", optimizer_names())
def test_every_optimizer(optimizer: str, tmp_path: Path) -> None:
    source = put(tmp_path, "long.csv", steps_table(label=lambda number, step, x: "odd" if number % 2 else "even"))
    result = fit_to(source, tmp_path / "run", optimizer=optimizer.lower(), baselines=False)
    assert not result["training"]["rollbacks"]
    weights = Fitted.load(tmp_path / "run").network.state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "constant"},
        {"schedule": "linear"},
        {"schedule": "plateau", "epochs": 12},
        {"clip": 0},
        {"cell": "lstm", "init": "chrono", "layers": 2},
        {"cell": "lstm", "init": "forget_bias"},
        {"cell": "rnn", "nonlinearity": "relu", "init": "identity", "bidirectional": False},
        {"time_budget": "1s", "epochs": 3},
        {"dropout": 0, "weight_decay": 0},
    ],
    ids=str,
)
def test_settings_of_training(settings: dict[str, Any], tmp_path: Path) -> None:
    source = put(tmp_path, "long.csv", steps_table(label=lambda number, step, x: "odd" if number % 2 else "even"))
    result = fit_to(source, tmp_path / "run", baselines=False, **settings)
    assert result["training"]["updates"] > 0
    assert np.isfinite(result["scores"]["test"]["loss"])


def test_weights_of_their_own_for_every_step(tmp_path: Path) -> None:
    rows = [
        f"{number},{step},{(number * 7 + step * 3) % 11},{'odd' if number % 2 else 'even'}"
        for number in range(40)
        for step in range(4)
    ]
    result = fit_to(put(tmp_path, "long.csv", table("id,step,x,label", rows)), tmp_path / "run", untied=True, baselines=False)
    assert result["model"]["description"].split(",")[0].endswith("RNN")
    model = Fitted.load(tmp_path / "run")
    assert any("_t4" in name for name in model.network.state_dict())


def test_early_stopping(tmp_path: Path) -> None:
    chance = random.Random(0)
    rows = [f"{' '.join(chance.choices('abcdef', k=6))},{chance.choice('xy')}" for _ in range(150)]
    result = fit_to(
        put(tmp_path, "noise.csv", table("text,label", rows)),
        tmp_path / "run",
        epochs=500,
        patience=3,
        lr=0.02,
        baselines=False,
    )
    assert result["training"]["stopped"] == "no better for 3 evaluations"
    assert result["training"]["best_update"] < result["training"]["updates"]


# --- stopped, replaced, gone on with


class Ticking:
    """A clock on which every look takes a while."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.01
        return self.now


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughtime.train.trainer, "time", Ticking())


LONG = {**SMALL, "batch": 8, "epochs": 8, "patience": 99, "baselines": False}


def stop_at(source: Path, out: Path, update: int, **settings: Any) -> None:
    """A fit that Ctrl-C stops after so many updates."""
    left = iter(range(update - 1))
    with pytest.raises(KeyboardInterrupt):
        fit(source, Settings.of({**LONG, **settings}), out, interrupted=lambda: next(left, None) is None)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after 50 updates of 80."""
    folder = tmp_path_factory.mktemp("stopped")
    stop_at(put(folder, "reviews.csv", table("text,label", reviews(100))), folder / "run", 50)
    return folder / "run"


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(stopped, tmp_path / "run")


def changed(run: Path, **values: Any) -> None:
    """Change what config.json says."""
    write_json(run / "config.json", {**read_json(run / "config.json"), **values})


def test_a_time_budget_has_a_plan_of_its_own(tmp_path: Path, ticking: None) -> None:
    """Not that of the run which is replaced: neither its number of updates, nor is the file missing."""
    source, out = put(tmp_path, "reviews.csv", table("text,label", reviews(100))), tmp_path / "run"
    for budget in (0.6, 2.0, 1.0):
        settings = Settings.of({**LONG, "epochs": 99, "time_budget": budget})
        result = fit(source, settings, out, overwrite=True)
        plan = read_json(out / "plan.json")
        assert plan["time_budget"] == budget
        assert plan["decisions"][-1]["updates"] == result["training"]["updates"] == pytest.approx(budget / 0.02, rel=0.4)
        assert result["training"]["stopped"].startswith(f"by --time-budget after {result['training']['updates']} updates")


def test_speed_and_seconds_of_a_run_in_several_processes(run: Path, ticking: None, capsys: pytest.CaptureFixture[str]) -> None:
    """The seconds go on where the checkpoint stood, in the result, in timings.jsonl and for who watches."""
    timings = RunDirectory(run).records("timings.jsonl")
    assert timings[-1]["update"] == 50
    write = [{**line, "seconds": 100.0 * number} for number, line in enumerate(timings)]
    (run / "timings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in write))
    before, witness = write[-1]["seconds"], Witness()
    left = iter(range(20))
    with pytest.raises(KeyboardInterrupt):
        resume(run, progress=witness, interrupted=lambda: next(left, None) is None)
    assert witness.before == before
    again = Witness()
    with pytest.raises(KeyboardInterrupt):
        resume(run, progress=again, interrupted=lambda: True)
    assert main(["resume", str(run)]) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert shown
    assert all(f"  {before // 60:.0f} min" in line for line in shown), shown
    result = RunDirectory(run).result()
    assert result is not None
    lines = RunDirectory(run).records("timings.jsonl")
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    assert before < again.before < result["training"]["seconds"]
    assert result["training"]["seconds"] == pytest.approx(seconds[-1], abs=0.05)
    steps = json.loads((run / "checkpoints" / f"{result['training']['updates']:08d}" / "state.json").read_text())["place"][
        "steps"
    ]
    assert result["training"]["steps_per_second"] == pytest.approx(steps / result["training"]["seconds"], rel=0.01)


def test_a_run_belongs_to_one_process(run: Path) -> None:
    """Neither fit nor resume goes on with it or replaces it while another one has it, and all of it stays."""
    config = read_json(run / "config.json")
    source = Path(config["source"])
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with RunDirectory(run).locked():
        for use in (
            lambda: resume(run),
            lambda: resume(run, finish=True),
            lambda: fit(source, Settings.of(LONG), run, overwrite=True),
        ):
            with pytest.raises(RunError, match=rf"^{run} is being trained by another process"):
                use()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files

    class Another(Progress):
        tried = 0

        def evaluated(self, evaluation: Evaluation) -> None:
            self.tried += 1
            with pytest.raises(RunError, match="is being trained by another process"):
                resume(run)

    for use in (
        lambda progress: resume(run, progress=progress),
        lambda progress: fit(source, Settings.of(LONG), run, overwrite=True, progress=progress),
    ):
        another = Another()
        assert use(another)
        assert another.tried


def test_going_on_with_other_versions_is_said(run: Path) -> None:
    """And in the result: the bits may be others. With the same ones nothing is said."""
    config, names = read_json(run / "config.json"), ("throughtime", "python", "torch")
    promise = "the same bits are promised for the same versions only"
    for others in (names, names[2:], ()):
        changed(run, **{**config, **dict.fromkeys(others, "0.0.7")})
        witness, said = Witness(), ", ".join(f"{name} 0.0.7 (here {config[name]})" for name in others)
        with pytest.raises(KeyboardInterrupt):
            resume(run, progress=witness, interrupted=lambda: True)
        assert [line for line in witness.warned if "bits" in line] == [f"the run was begun with {said}; {promise}"] * bool(
            others
        )
    changed(run, python="2.7")
    result = resume(run, finish=True)
    assert result is not None
    assert result["warnings"][-1] == f"the run was begun with python 2.7 (here {config['python']}); {promise}"


def test_going_on_takes_the_threads_of_the_beginning(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums that torch makes in another number of parts may have other last bits."""
    number, asked = torch.get_num_threads() + 2, list[int]()
    changed(run, threads=number)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    network = throughtime.train.fit.Trainer

    def made(*args: Any, **options: Any) -> Any:
        assert asked == [number], "they are set before anything is computed"
        return network(*args, **options)

    monkeypatch.setattr(throughtime.train.fit, "Trainer", made)
    resume(run, finish=True)
    assert asked == [number]


def test_going_on_takes_the_device_of_the_beginning(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What auto stood for then, whatever it would stand for now."""
    settings = read_json(run / "config.json")["settings"]
    assert settings["training"]["device"] == "cpu"
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        result = resume(run, finish=True)
    assert result is not None
    (run / "result.json").unlink()
    changed(run, settings={**settings, "training": {**settings["training"], "device": "cuda"}})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RunError, match=rf"^{run} was begun on a GPU, and torch finds none here; resume it where there is one$"):
        resume(run)


def test_stopped_early_and_kept(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The best weights up to the checkpoint, scored and reported like any others; it says why it stopped."""
    checkpoint = RunDirectory(run).checkpoints.load_newest()
    assert checkpoint is not None
    assert main(["resume", str(run), "--finish"]) == 0
    out = capsys.readouterr().out
    assert "stopped by --finish after 50 updates\n" in out
    result = RunDirectory(run).result()
    assert result is not None
    assert result["training"]["updates"] == 50
    assert result["training"]["stopped"] == "by --finish after 50 updates"
    assert result["training"]["best_update"] == checkpoint[1]["place"]["best_update"]
    weights, _ = RunDirectory(run).load_model()
    assert all((weights[name] == array).all() for name, array in checkpoint[2]["best"].items())
    assert "by --finish after 50 updates" in (run / "report.html").read_text()
    assert Fitted.load(run).task.name == "classify"
    assert main(["resume", str(run)]) == 0
    assert "is finished" in capsys.readouterr().out


def test_nothing_to_finish_from(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run / "checkpoints")
    assert main(["resume", str(run), "--finish"]) == 1
    said = f"{run} has no checkpoint yet that it could be finished from; resume it without --finish\n"
    assert capsys.readouterr().err.endswith(said)
    assert not (run / "result.json").exists()


@pytest.mark.parametrize("flags", [[], ["--finish"]])
def test_ctrl_c_while_baselines_are_scored(
    flags: list[str], run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training is over and saved: it says how to go on, and that takes no update more."""
    config = read_json(run / "config.json")
    for section in ("given", "settings"):
        config[section]["training"]["baselines"] = True
    changed(run, **config)

    def ctrl_c(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(throughtime.train.fit, "score_rivals", ctrl_c)
        assert main(["resume", str(run), *flags]) == 130
    at = 50 if flags else RunDirectory(run).checkpoints.numbers()[-1]
    go_on = " ".join(["throughtime", "resume", str(run), *flags])
    assert capsys.readouterr().err == f"stopped; saved at update {at}; go on with: {go_on}\n"
    witness = Witness()
    result = resume(run, finish=bool(flags), progress=witness)
    assert result is not None
    assert not witness.updates
    assert result["training"]["updates"] == at
    assert result["baselines"]


def test_a_model_that_is_not_scored_yet(fits: dict[str, Any], tmp_path: Path) -> None:
    """Killed between the two, its checksums may be missing: it says how to go on."""
    out = shutil.copytree(fits["classify_text"][1], tmp_path / "run")
    (out / "result.json").unlink()
    (out / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"no model yet: its fit is not finished; go on with it by `throughtime resume"):
        throughtime.load(out)
    assert resume(out)
    assert throughtime.load(out)


@pytest.mark.parametrize("name", ["model.safetensors", "transforms.json"])
def test_a_flipped_bit_of_a_model(name: str, fits: dict[str, Any], tmp_path: Path) -> None:
    """It still is a file of its kind; only its checksum tells."""
    out = shutil.copytree(fits["classify_text"][1], tmp_path / "run")
    content = (out / name).read_bytes()
    place = len(content) - 2 if name == "model.safetensors" else re.search(rb"\d", content).start()  # type: ignore[union-attr]
    (out / name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(RunError, match=rf"^{out / name} is damaged: its checksum is not the one in manifest\.json$"):
        throughtime.load(out)


def test_long_documents_are_scored_window_by_window() -> None:
    """Beside the tokens themselves, a document takes no more memory than a few windows of it."""
    task = LanguageModelling(Settings.of({"hidden": 4}))
    documents = Sequences("text", ["abcdefgh" * 50_000, "abc", "abcdefgh" * 20_000])
    task.prepare(documents)
    text = task.encode(documents)

    class Uniform(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor, lengths: Any, state: Any) -> Any:
            return torch.zeros(*inputs.shape, task.codec.size), None

    network, seen = Uniform(1, 1), np.zeros(len(text.stream), int)
    tracemalloc.start()
    for places, values in task.nats(network, text):
        assert np.allclose(values, np.log(task.codec.size))
        seen[places] += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (seen[1:] == 1).all()
    assert seen[0] == 0
    assert peak < len(text.stream)


# --- something is learned


def test_order_is_learned_where_only_order_tells(tmp_path: Path) -> None:
    """Which of two words comes first: what cannot see order is left to guess."""
    chance = random.Random(1)
    rows = set()
    while len(rows) < 400:
        words = [*chance.choices("mnopqrst", k=chance.randint(1, 5)), "a", "b"]
        chance.shuffle(words)
        rows.add(f"{' '.join(words)},{'ab' if words.index('a') < words.index('b') else 'ba'}")
    result = fit_to(
        put(tmp_path, "order.csv", table("text,label", sorted(rows))),
        tmp_path / "run",
        hidden=16,
        epochs=20,
        lr=0.01,
        dropout=0.1,
    )
    assert result["scores"]["test"]["accuracy"] == 1.0
    blind = {
        baseline["name"]: baseline["scores"]["accuracy"] for baseline in result["baselines"] if baseline["order"] == "blind"
    }
    assert blind
    assert all(accuracy < 0.7 for accuracy in blind.values()), blind


def test_a_wave_is_forecast_better_than_by_its_last_value(tmp_path: Path) -> None:
    source = put(tmp_path, "wave.csv", series_table({"sales": sine(400, period=12, noise=0.2)}, start="1980-01"))
    result = fit_to(source, tmp_path / "run", horizon=6, epochs=10)
    persistence = next(baseline for baseline in result["baselines"] if baseline["name"] == "persistence")
    assert result["scores"]["test"]["mae"] < 0.2 * persistence["scores"]["mae"]
    assert 0.7 < result["scores"]["test"]["coverage"] <= 1


def test_a_text_that_repeats_itself_costs_next_to_nothing(tmp_path: Path) -> None:
    text = "the quick brown fox jumps over the lazy dog\n" * 300
    result = fit_to(
        put(tmp_path, "copy.txt", text),
        tmp_path / "run",
        hidden=48,
        documents="file",
        epochs=20,
        lr=0.01,
        dropout=0,
        bptt=44,
        batch=8,
        baselines=False,
    )
    assert result["scores"]["test"]["nats_per_character"] < 0.05
    sample = result["details"]["samples"][0]["text"]
    assert "quick brown fox" in sample


def test_numbers_are_learned(tmp_path: Path) -> None:
    """The sum of a sequence, in its own units."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(300):
        values = rng.integers(0, 9, rng.integers(2, 6))
        rows += [f"{number},{step},{value},{1000 + 10 * values.sum()}" for step, value in enumerate(values)]
    result = fit_to(
        put(tmp_path, "sums.csv", table("id,step,x,total", rows)),
        tmp_path / "run",
        task="regress",
        hidden=24,
        epochs=40,
        lr=0.02,
        dropout=0,
        baselines=False,
    )
    assert result["scores"]["test"]["r2"] > 0.95


def test_tags_of_unknown_words_are_learned_from_their_letters(tmp_path: Path) -> None:
    chance = random.Random(0)

    def word(ending: str) -> str:
        return "".join(chance.choices("bcdfgklmnprst", k=5)) + ending

    sentences = []
    for _ in range(100):
        sentence = [(word(end), tag) for end, tag in chance.choices([("ing", "VERB"), ("ous", "ADJ"), ("tion", "NOUN")], k=5)]
        sentences.append("\n".join(f"{word}\t{tag}" for word, tag in sentence))
    result = fit_to(put(tmp_path, "tags.tsv", "\n\n".join(sentences) + "\n\n"), tmp_path / "run", hidden=16, epochs=20, lr=0.01)
    assert result["scores"]["test"]["accuracy_unknown"] > 0.95
    assert result["scores"]["test"]["accuracy"] > 0.95


# --- what is fitted comes from the training part


@pytest.mark.parametrize("name", ["classify_text", "tag_words", "regress", "forecast", "lm_stream"])
def test_what_is_tested_changes_nothing_of_what_is_learned(name: str, tmp_path: Path) -> None:
    """Two test files of the same size: the same transforms, weights, log and validation scores, to the bit."""
    case = BY_NAME[name]
    source = case.write(tmp_path)
    text = source.read_text()
    between = "\n\n" if name == "tag_words" else "\n"
    head, *rest = text.strip("\n").split(between)
    lines, header = (rest, head) if name in ("classify_text", "regress", "forecast") else ([head, *rest], None)
    cut = len(lines) * 4 // 5

    def part(file: str, some: list[str]) -> Path:
        return put(tmp_path, f"{file}{source.suffix}", between.join([*([header] if header else []), *some]) + between)

    others = {
        "classify_text": lambda n, line: line[:-3].replace("film", "movie") + ("pos" if n % 2 else "neg"),
        "tag_words": lambda n, line: "\n".join(line.split("\n")[: 1 + n % 3]),
        "regress": lambda n, line: f"{line.rsplit(',', 1)[0].replace('film', 'movie')},{n}",
        "forecast": lambda n, line: f"{line.split(',')[0]},{50 + n}",
        "lm_stream": lambda n, line: line.translate(str.maketrans("aeiou", "uoiea")),
    }
    other = [others[name](number // 2, line) for number, line in enumerate(lines[cut:])]
    train = part("train", lines[:cut])
    kept = []
    for number, some in enumerate((lines[cut:], other)):
        out = tmp_path / f"run{number}"
        result = case.fit(train, out, test=str(part(f"test{number}", some)), baselines=False)
        kept.append(([(out / file).read_bytes() for file in ("transforms.json", "model.safetensors", "metrics.jsonl")], result))
    assert kept[0][0] == kept[1][0]
    assert kept[0][1]["scores"]["valid"] == kept[1][1]["scores"]["valid"]
    assert kept[0][1]["scores"]["test"] != kept[1][1]["scores"]["test"], "the two files do differ"


def test_baselines_are_fitted_on_the_training_part(tmp_path: Path) -> None:
    """Test data of which the opposite is true: who learned from it would be right."""
    train = [row.replace("fine", "good").replace("dull", "bad") for row in reviews(120)]
    flipped = [row[:-3] + {"pos": "neg", "neg": "pos"}[row[-3:]] for row in train]
    sentences = "\n\n".join(f"w{n}\tN\nhund{n % 2}\t{'A' if n % 2 else 'B'}" for n in range(60)) + "\n\n"
    cycle = "aaaabbbb" * 200
    for name, content, opposite, settings in (
        ("classify.csv", table("text,label", train), table("text,label", flipped), {}),
        ("tags.tsv", sentences, sentences.replace("\tA", "\tC").replace("\tB", "\tA").replace("\tC", "\tB"), {}),
        ("text.txt", cycle, "abab" * 100, {"documents": "file", "bptt": 16, "batch": 2}),
    ):
        source, test = put(tmp_path, f"train_{name}", content), put(tmp_path, f"test_{name}", opposite)
        result = fit_to(source, tmp_path / f"run_{name}", test=str(test), **settings)
        for baseline in result["baselines"]:
            if result["task"] == "lm":
                assert baseline["scores"]["nats_per_character"] > 0.5, baseline
            elif baseline["order"] is not None and "network" not in baseline["name"]:  # one epoch teaches a network little
                assert baseline["scores"]["accuracy"] < 0.6, baseline
