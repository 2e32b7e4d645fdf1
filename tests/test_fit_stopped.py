"""Fits that are stopped: gone on with, ended early, by one process at a time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import throughtime
import throughtime.train.fit
import throughtime.train.trainer
from throughtime.cli import main
from throughtime.errors import RunError
from throughtime.settings import Settings
from throughtime.store import RunDirectory, read_json, write_json
from throughtime.train.fit import fit, resume
from throughtime.train.fitted import Fitted
from throughtime.train.progress import Evaluation, Progress

from fit_cases import SMALL, Witness, put, reviews, table


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
