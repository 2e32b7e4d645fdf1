"""Exact resume: real runs, killed at moments of chance or exactly chosen, end with the same bits as ones never stopped."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from throughtime.store import RunDirectory, read_json

from resume_worker import LAYERS, TICK, Job, work

KILLS = int(os.environ.get("THROUGHTIME_KILLS", "2"))
"""Kills of a run at random; more for a long campaign."""
SEED = int(os.environ.get("THROUGHTIME_SEED", "0"))
PATIENCE = 60.0
"""Seconds until a process that should have come to a point counts as hung."""
KILLED = -signal.SIGKILL
CONTEXT = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    """Processes are forked from one that has imported everything, and has but one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        CONTEXT.set_forkserver_preload(["resume_worker"])
        first = CONTEXT.Process(target=time.sleep, args=(0,))
        first.start()
        first.join()
        yield


@dataclass(frozen=True)
class Recipe:
    """A run: what its data file holds, and its settings."""

    file: str
    content: Callable[[random.Random], str]
    settings: dict[str, Any]


def _text(chance: random.Random) -> str:
    words = ["lorem", "ipsum", "dolor", "sit", "amet", "consectetur"]
    return "\n".join(" ".join(chance.choices(words, k=200)) for _ in range(10)) + "\n"


def _labelled(chance: random.Random) -> str:
    rows = [f"{''.join(chance.choices('abcd', k=chance.randint(3, 20)))},{'yes' if n % 2 else 'no'}" for n in range(200)]
    return "\n".join(["text,label", *rows]) + "\n"


def _series(chance: random.Random) -> str:
    days = np.datetime64("2020-01-01") + np.arange(300)
    rows = [f"{day},{10 + np.sin(n * 2 * np.pi / 7) + chance.gauss(0, 0.3):.3f}" for n, day in enumerate(days)]
    return "\n".join(["ds,y", *rows]) + "\n"


COMMON = {"baselines": False, "save_every": 0.05, "hidden": 8}
_LM = {"task": "lm", "batch": 4, "epochs": 1}
_FORECAST = {"horizon": 7, "window": 14, "batch": 16, "epochs": 10, "dropout": 0.2}
RECIPES = {
    # The state is carried from window to window, through two layers with dropout between them.
    "lm": Recipe("text.txt", _text, {**_LM, "cell": "lstm", "layers": 2, "bptt": 16}),
    # There is nothing to learn: it stops early.
    "classify": Recipe("labelled.csv", _labelled, {"tokens": "char", "batch": 8, "epochs": 20, "patience": 4}),
    "forecast": Recipe("series.csv", _series, {**_FORECAST, "schedule": "plateau", "optimizer": "Adagrad", "lr": 0.5}),
    # The first updates throw it off its feet: it is put back, with half the rate, time and again, and then learns.
    "rollback": Recipe(
        "text.txt", _text, {**_LM, "cell": "rnn", "nonlinearity": "relu", "bptt": 32, "optimizer": "SGD", "lr": 300, "clip": 0}
    ),
}


@dataclass(frozen=True)
class Whole:
    """A run never stopped: what it ended with, and how many lines of each layer it took."""

    job: Job
    ended: dict[str, str]
    lines: dict[str, int]


class Runs:
    """The runs of one recipe: its data, one run never stopped, and new ones to kill."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder, self.settings = folder, {**COMMON, **recipe.settings}
        folder.mkdir()
        self.source = folder / recipe.file
        self.source.write_text(recipe.content(random.Random(0)))
        self._numbers = iter(range(1 << 20))
        job = self.job(ticks=True, die_at=("none", 0))
        assert run(job) == 0
        self.whole = Whole(job, ended(job.out), {layer: int(told(job, f"lines of {layer}")[0]) for layer in LAYERS})

    def job(self, **options: Any) -> Job:
        """A fit in a new directory."""
        number = next(self._numbers)
        settings = {**self.settings, **options.pop("settings", {})}
        return Job(self.folder / f"run{number}", self.folder / f"trace{number}", self.source, settings, **options)


def start(job: Job) -> BaseProcess:
    process = CONTEXT.Process(target=work, args=(job,))
    process.start()
    return process


def end_of(process: BaseProcess) -> int:
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        pytest.fail("the process hung")
    assert process.exitcode is not None
    return process.exitcode


def run(job: Job) -> int:
    return end_of(start(job))


def kill_when(process: BaseProcess, condition: Callable[[], object]) -> bool:
    """SIGKILL as soon as the condition holds.

    Returns:
        Whether it did before the process ended.
    """
    until = time.monotonic() + PATIENCE
    while process.is_alive() and not condition():
        assert time.monotonic() < until, "the moment to kill never came"
        time.sleep(0.0002)
    process.kill()
    return end_of(process) == KILLED


def afterwards(job: Job, **options: Any) -> Job:
    """The process after one that was killed: a resume, or where that left nothing to go on with, the same fit again."""
    source = None if (job.out / "config.json").exists() else job.source
    return dataclasses.replace(job, source=source, **{"die_at": None, "die_after": None, "file_limit": None, **options})


def told(job: Job, kind: str) -> list[str]:
    """What the trace says of a kind of event, in order, over all processes so far."""
    lines = job.trace.read_text().splitlines() if job.trace.exists() else []
    return [line.removeprefix(kind).strip() for line in lines if line.startswith(kind)]


def updates(job: Job) -> list[int]:
    return [int(line) for line in told(job, "updated")]


def newest(out: Path) -> int:
    """The update of the newest checkpoint, 0 if there is none."""
    return max(RunDirectory(out).checkpoints.numbers(), default=0)


def finish(job: Job) -> None:
    """Go on to the end, from the newest checkpoint, with every update that was left and no other."""
    place, had, over = newest(job.out), len(updates(job)), (job.out / "result.json").exists()
    assert run(afterwards(job)) == 0
    assert job.trace.read_text().splitlines()[-1] == ("nothing to do" if over else "finished")
    assert updates(job)[had:] == list(range(place + 1, newest(job.out) + 1))


def ended(out: Path) -> dict[str, str]:
    """Checksums of all that must not depend on whether a run was stopped."""
    checkpoint = sorted((out / "checkpoints" / f"{newest(out):08d}").iterdir())
    files = [*(out / name for name in ("model.safetensors", "transforms.json", "metrics.jsonl")), *checkpoint]
    sums = {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    sums["result.json"] = json.dumps(_without_clock(read_json(out / "result.json")), sort_keys=True)
    assert not [*out.glob(".*.tmp"), *out.glob("checkpoints/.*.tmp")], "what a killed process was writing is still there"
    return sums


def _without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_clock(inner) for name, inner in value.items() if name not in ("seconds", "steps_per_second")}
    return [_without_clock(inner) for inner in value] if isinstance(value, list) else value


Workshop = Callable[[str], tuple[Runs, Whole]]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The runs of a recipe, and the one never stopped."""
    folder = tmp_path_factory.mktemp("resume")

    @functools.cache
    def get(name: str) -> tuple[Runs, Whole]:
        runs = Runs(folder / name, RECIPES[name])
        return runs, runs.whole

    return get


def test_two_runs_never_stopped_end_alike(workshop: Workshop) -> None:
    """With another clock, hence other checkpoints on the way: else all that follows would be no test."""
    runs, whole = workshop("lm")
    job = runs.job()
    assert run(job) == 0
    assert ended(job.out) == whole.ended


def test_the_runs_show_what_they_are_meant_to_show(workshop: Workshop) -> None:
    ends = {name: read_json(workshop(name)[1].job.out / "result.json")["training"] for name in RECIPES}
    assert ends["classify"]["stopped"].startswith("no better for")
    assert len(ends["rollback"]["rollbacks"]) >= 2
    rates = [json.loads(line)["rate"] for line in (workshop("forecast")[1].job.out / "metrics.jsonl").read_text().splitlines()]
    assert min(rates[3:]) < max(rates), "no plateau was met"


@pytest.mark.parametrize("name", RECIPES)
def test_killed_at_any_line(name: str, workshop: Workshop) -> None:
    """Time and again, at lines of the trainer and of the store that are drawn by chance."""
    runs, whole = workshop(name)
    chance = random.Random(f"{SEED} {name}")
    job, places = runs.job(ticks=True, die_at=("train", chance.randrange(1, whole.lines["train"]))), list[int]()
    process = job
    for number in range(KILLS):
        if number:
            layer = LAYERS[number % len(LAYERS)]
            process = afterwards(job, die_at=(layer, chance.randrange(1, whole.lines[layer] // 2)))
        print(f"SEED={SEED}: {process.die_at}, from checkpoint {newest(job.out)}")
        if run(process) == 0:  # there were fewer lines left
            break
        places.append(newest(job.out))
    assert places, "the first kill always comes"
    assert places == sorted(places), "a checkpoint was lost"
    if not (job.out / "result.json").exists():
        finish(job)
    assert ended(job.out) == whole.ended


def test_killed_at_random_times(workshop: Workshop) -> None:
    """By the clock on the wall: another moment each time, the same end."""
    runs, whole = workshop("classify")
    chance = random.Random(SEED)
    job = runs.job()
    assert kill_when(start(job), lambda: updates(job))
    for _ in range(KILLS):
        process, until = start(afterwards(job)), time.monotonic() + chance.uniform(0.1, 0.6)
        if not kill_when(process, lambda until=until: time.monotonic() > until):
            break
    else:
        finish(job)
    assert ended(job.out) == whole.ended


@pytest.mark.parametrize("command", ["resume", "fit"])
def test_killed_between_the_directory_and_the_first_checkpoint(command: str, workshop: Workshop) -> None:
    """It begins again; a new fit takes over what the killed start left behind."""
    runs, whole = workshop("lm")
    job = runs.job(settings={"save_every": 3600})
    assert kill_when(start(job), lambda: len(updates(job)) > 30)
    assert newest(job.out) == 0
    assert (job.out / "config.json").exists()
    if command == "resume":
        finish(job)
    else:
        assert run(job) == 0
    assert ended(job.out) == whole.ended


def test_killed_between_the_directory_and_its_config(workshop: Workshop) -> None:
    """There is nothing to go on with; the error says so, and a new fit takes the folder."""
    runs, whole = workshop("lm")
    job = runs.job()
    job.out.mkdir()
    (job.out / ".config.json.4711.tmp").write_text("{")
    assert run(dataclasses.replace(job, source=None)) == 1
    assert told(job, "failed") == [f"RunError {job.out / 'config.json'} is missing; is {job.out} a run directory?"]
    assert run(job) == 0
    assert ended(job.out) == whole.ended


def test_killed_while_a_checkpoint_is_written_and_again(workshop: Workshop) -> None:
    """Its folder is there in part, under a name that counts for nothing; twice in one run."""
    runs, whole = workshop("lm")
    job = runs.job(settings={"save_every": 0.02})
    hits = 0
    for _ in range(40):
        had = newest(job.out)
        begun = frozenset(job.out.glob("checkpoints/.*.tmp"))
        if not kill_when(start(afterwards(job)), lambda begun=begun: set(job.out.glob("checkpoints/.*.tmp")) - begun):
            break
        assert newest(job.out) >= had
        hits += bool([*job.out.glob("checkpoints/.*.tmp")])
        if hits == 2:
            finish(job)
            break
    assert hits == 2, "no process was hit while it wrote"
    assert ended(job.out) == whole.ended


def test_killed_in_the_middle_of_an_epoch_with_a_state_carried(workshop: Workshop) -> None:
    runs, whole = workshop("lm")
    job = runs.job(ticks=True, die_after=90)
    assert run(job) == KILLED
    found = RunDirectory(job.out).checkpoints.load_newest()
    assert found is not None
    update, state, tensors, _ = found
    assert 80 <= update == state["place"]["index"] <= 90, "more than the interval was lost"
    assert sorted(tensors["carried"]) == ["0", "1"]
    assert all(np.abs(part).max() > 0 for part in tensors["carried"].values())
    finish(job)
    assert ended(job.out) == whole.ended


def test_two_processes_at_once(workshop: Workshop) -> None:
    """The second one is sent away with one line, and the first does not notice."""
    runs, whole = workshop("lm")
    job = runs.job()
    first = start(job)
    until = time.monotonic() + PATIENCE
    while not updates(job):
        assert time.monotonic() < until
        time.sleep(0.0002)
    os.kill(first.pid, signal.SIGSTOP)  # type: ignore[arg-type]
    second = dataclasses.replace(job, source=None, trace=job.trace.with_suffix(".second"))
    try:
        assert run(second) == 1
    finally:
        os.kill(first.pid, signal.SIGCONT)  # type: ignore[arg-type]
    (error,) = told(second, "failed")
    assert error.startswith(f"RunError {job.out} is being trained by another process; ")
    assert not updates(second)
    assert end_of(first) == 0
    assert ended(job.out) == whole.ended


def test_killed_between_training_and_result(workshop: Workshop) -> None:
    runs, whole = workshop("lm")
    job = runs.job()
    assert kill_when(start(job), lambda: (job.out / "model.safetensors").exists())
    assert not (job.out / "result.json").exists()
    trained = updates(job)
    finish(job)
    assert updates(job) == trained, "it trained again"
    assert ended(job.out) == whole.ended


def test_killed_between_result_and_report(workshop: Workshop, tmp_path: Path) -> None:
    job = copied(workshop("classify")[1].job, tmp_path)
    (job.out / "report.html").unlink()
    assert run(afterwards(job)) == 0
    assert (job.out / "report.html").exists()


@pytest.mark.parametrize("layer", LAYERS)
def test_interrupted_at_any_line(layer: str, workshop: Workshop) -> None:
    """Ctrl-C as Python raises it by itself, in the middle of an update or of a file: nothing half done is saved."""
    runs, whole = workshop("rollback")
    chance = random.Random(f"{SEED} interrupted {layer}")
    at = chance.randrange(whole.lines[layer] // 4, whole.lines[layer] // 2)
    print(f"SEED={SEED}: {layer}, {at}")
    job = runs.job(ticks=True, by=signal.SIGINT, die_at=(layer, at))
    assert run(job) == 130
    finish(job)
    assert ended(job.out) == whole.ended


@pytest.mark.parametrize("when", ["before the plan", "after the plan"])
def test_time_budget(when: str, workshop: Workshop) -> None:
    """The number of updates it was turned into is kept; where none was decided yet, the next process decides."""
    runs, _ = workshop("lm")
    settings = {"time_budget": 0.75, "save_every": 0.02}
    job = runs.job(ticks=True, settings=settings, die_after=8 if when == "before the plan" else 60)
    assert run(job) == KILLED
    assert newest(job.out) > 0
    plan = job.out / "plan.json"
    assert plan.exists() == (when == "after the plan")
    before = plan.read_text() if plan.exists() else None
    finish(job)
    decided = read_json(plan)
    assert before in (None, plan.read_text())
    assert newest(job.out) == decided["decisions"][-1]["updates"]
    # It looks at the clock twice an update, and some more for a checkpoint and an evaluation.
    assert decided["decisions"][-1]["updates"] * 2 * TICK == pytest.approx(0.75, rel=0.3)
    never_stopped = runs.job(settings=settings)
    assert kill_when(start(never_stopped), lambda: (never_stopped.out / "config.json").exists())
    shutil.copy(plan, never_stopped.out)
    assert run(afterwards(never_stopped)) == 0
    assert updates(never_stopped)[-1] == decided["decisions"][-1]["updates"]
    assert ended(never_stopped.out) == ended(job.out)


@pytest.fixture(scope="module")
def stopped(workshop: Workshop) -> Job:
    """A run that was killed when it had two checkpoints."""
    job = workshop("classify")[0].job(ticks=True, die_after=70)
    assert run(job) == KILLED
    assert len(RunDirectory(job.out).checkpoints.numbers()) == 2
    return job


def copied(job: Job, folder: Path) -> Job:
    shutil.copytree(job.out, folder / "run")
    return dataclasses.replace(job, out=folder / "run", trace=folder / "trace")


def harm(folder: Path, damage: str) -> str:
    """Damage a checkpoint; the file that must be named."""
    file = folder / {"no manifest": "manifest.json", "empty state": "state.json"}.get(damage, "network.safetensors")
    content = file.read_bytes()
    if damage in ("a file is missing", "no manifest"):
        file.unlink()
    elif damage == "a byte":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "cut off" else b"")
    return str(file)


@pytest.mark.parametrize("damage", ["a byte", "cut off", "a file is missing", "no manifest", "empty state"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    damage: str, stopped: Job, tmp_path: Path, workshop: Workshop
) -> None:
    job = copied(stopped, tmp_path)
    before, last = RunDirectory(job.out).checkpoints.numbers()
    file = harm(job.out / "checkpoints" / f"{last:08d}", damage)
    assert run(afterwards(job)) == 0
    (warning,) = told(job, "warned")
    assert warning.startswith(file)
    assert warning.endswith(f"; going on from update {before}")
    assert updates(job)[0] == before + 1
    assert ended(job.out) == workshop("classify")[1].ended


def test_all_checkpoints_damaged(stopped: Job, tmp_path: Path) -> None:
    job = copied(stopped, tmp_path)
    folders = sorted((job.out / "checkpoints").iterdir())
    files = [harm(folder, damage) for folder, damage in zip(folders, ("a byte", "empty state"), strict=True)]
    assert run(afterwards(job)) == 1
    (error,) = told(job, "failed")
    assert error.startswith(f"RunError no checkpoint in {job.out / 'checkpoints'} can be used: ")
    assert all(file in error for file in files)


@pytest.mark.parametrize("full_for", ["a checkpoint", "the log"])
def test_full_disk(full_for: str, workshop: Workshop) -> None:
    """One clear line, the checkpoints before are whole, and with space again the run goes on as if nothing had been."""
    runs, whole = workshop("classify")
    log = (whole.job.out / "metrics.jsonl").read_text().splitlines(keepends=True)
    if full_for == "a checkpoint":
        limit, save_every, file = 6000, 0.05, r"checkpoints/\.\d+\.tmp/\w+\.safetensors"
    else:  # the line at update 80 is cut off in the middle, before the second checkpoint
        limit, save_every, file = sum(map(len, log[:4])) + 50, 0.3, r"metrics\.jsonl"
    job = runs.job(ticks=True, file_limit=limit, limit_after=65, settings={"save_every": save_every})
    assert run(job) == 1
    (error,) = told(job, "failed")
    place = re.escape(str(job.out))
    assert re.fullmatch(rf"RunError {place}/{file} cannot be written: File too large; free some space .*", error)
    assert (job.out / "metrics.jsonl").read_text().endswith("\n") == (full_for == "a checkpoint")
    found = RunDirectory(job.out).checkpoints.load_newest()
    assert found is not None
    assert not found[3]
    finish(job)
    assert ended(job.out) == whole.ended


def test_a_finished_run_has_nothing_to_do(workshop: Workshop, tmp_path: Path) -> None:
    job = copied(workshop("classify")[1].job, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in job.out.rglob("*")}
    assert run(afterwards(job)) == 0
    assert job.trace.read_text() == "nothing to do\n"
    assert times == {path: path.stat().st_mtime_ns for path in job.out.rglob("*")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("a value", "RunError {source} has changed since the run was started; put the old file back, or start a new run"),
        ("moved", "RunError {source} is gone.*"),
        ("version", "RunError {out} has format version 99, this throughtime reads 1; use the version that made it .*"),
        ("no config", r"RunError {out}/config\.json is missing; is {out} a run directory\?"),
        ("half a config", r"RunError {out}/config\.json is damaged: .*"),
        ("no run", r"RunError no run directory: {out} does not exist; .*"),
    ],
)
def test_what_cannot_be_resumed(change: str, message: str, stopped: Job, tmp_path: Path) -> None:
    """One line that names the file; nothing is trained, and the checkpoints stay."""
    job = copied(stopped, tmp_path)
    assert stopped.source
    config, source = job.out / "config.json", tmp_path / stopped.source.name
    shutil.copy(stopped.source, source)
    config.write_text(config.read_text().replace(str(stopped.source), str(source)))
    checkpoints = sorted(job.out.rglob("checkpoints/*/*"))
    if change == "a value":
        source.write_text(source.read_text().replace("yes", "no", 1))
    elif change == "moved":
        source.unlink()
    elif change == "version":
        config.write_text(config.read_text().replace('"format_version": 1', '"format_version": 99'))
    elif change == "half a config":
        config.write_text(config.read_text()[:100])
    elif change == "no config":
        config.unlink()
    else:
        shutil.rmtree(job.out)
    assert run(dataclasses.replace(job, source=None, die_after=None)) == 1
    (error,) = told(job, "failed")
    assert re.fullmatch(message.format(source=re.escape(str(source)), out=re.escape(str(job.out))), error), error
    assert not updates(job)
    assert change == "no run" or checkpoints == sorted(job.out.rglob("checkpoints/*/*"))
