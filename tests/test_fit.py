"""Whole fits on tiny data: what they leave, say and score, and that it is exact and quiet."""

from __future__ import annotations

import json
import random
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import throughtime
import throughtime.train.fit
import throughtime.train.trainer
from throughtime.data.records import Panel
from throughtime.errors import RunError
from throughtime.report.formats import plain
from throughtime.settings import Settings
from throughtime.train.fit import fit, resume
from throughtime.train.fitted import Fitted
from throughtime.train.optimizers import optimizer_names

from fit_cases import BY_NAME, CASES, Case, Witness, fit_to, put, reviews, steps_table, table

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
