"""A fit from a file to a finished run directory, and taking up one that was stopped: the same steps, so that both end alike."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import throughtime
from throughtime.data import read, with_parts
from throughtime.data.records import Panel, Sequences
from throughtime.data.split import Parts, split
from throughtime.data.split_panel import PanelPart
from throughtime.errors import RunError, SettingsError
from throughtime.report import write_report
from throughtime.settings import Settings
from throughtime.store import RunDirectory, check_fields, checksum
from throughtime.tasks import TASKS, BaselineScore, Task
from throughtime.train.faults import outputs_checked
from throughtime.train.fitted import Fitted
from throughtime.train.optimizers import check_optimizer
from throughtime.train.progress import Progress
from throughtime.train.rivals import score_rivals
from throughtime.train.trainer import Trainer, random_state_kept
from throughtime.train.verdict import headline, judged


def fit(
    source: Path,
    settings: Settings,
    out: Path,
    *,
    overwrite: bool = False,
    command: str = "",
    progress: Progress | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Fit a model to a file or folder, and leave a run directory behind.

    Args:
        source: the data.
        settings: those given; what they leave open is decided from the data.
        out: the run directory.
        overwrite: replace a run that is there.
        command: how it was called, for the report.
        progress: who is told.
        interrupted: asked after every update; see :class:`Trainer`.

    Returns:
        What result.json holds.

    Raises:
        ThroughTimeError: the data, a setting or the directory cannot be used, or training failed.
        KeyboardInterrupt: stopped; a checkpoint was written.
    """
    progress = progress or Progress()
    RunDirectory(out).check_free(overwrite=overwrite)
    if settings.training.optimizer:
        check_optimizer(settings.training.optimizer)
    source, settings = with_parts(source, settings)
    task, parts, facts = _prepared(source, settings, progress)
    ready = _ready(task, parts, RunDirectory(out), progress, interrupted)
    config = {
        **_versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "threads": torch.get_num_threads(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "source": str(source.absolute()),
        "given": _given(settings),
        "settings": _lasting(task.settings).as_json(),
        **facts,
    }
    with ready.run.locked():
        run = RunDirectory.create(out, config, overwrite=overwrite)
        if run.previous.exists():
            progress.say(f"the run that was in {out} is kept in {run.previous} until this one is finished")
        return _trained(ready, config, progress)


def resume(
    path: Path,
    *,
    finish: bool = False,
    progress: Progress | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Go on with a run exactly where it stopped.

    Args:
        path: the run directory.
        finish: train no further: score the best weights up to the last checkpoint.
        progress: who is told.
        interrupted: as for :func:`fit`.

    Returns:
        What result.json holds; ``None`` if the run was finished already.

    Raises:
        ThroughTimeError: no run, a damaged one, one that another process trains, or data that has changed since; to finish,
            one without a checkpoint.
        KeyboardInterrupt: stopped again.
    """
    progress = progress or Progress()
    run = RunDirectory(path)
    config = run.config()
    if run.result() is not None:
        if not (path / "report.html").exists():
            write_report(path)
        return None
    with run.locked():
        return _resumed(run, config, finish, progress, interrupted)


def _resumed(
    run: RunDirectory, config: dict[str, Any], finish: bool, progress: Progress, interrupted: Callable[[], bool]
) -> dict[str, Any]:
    """What :func:`resume` does with a run that is not finished, and that is this process's own."""
    check_fields(run.path / "config.json", config, _NEEDED)
    for before in config["files"]:
        file = Path(before["path"])
        if not file.is_file():
            raise RunError(f"{file} is gone, and the run was started with it; put it back, or start a new run")
        if _facts(file) != before:
            raise RunError(f"{file} has changed since the run was started; put the old file back, or start a new run")
    device = Settings.of(config["settings"]).training.device
    if device == "cuda" and not torch.cuda.is_available():
        raise RunError(f"{run.path} was begun on a GPU, and torch finds none here; resume it where there is one")
    if other := [f"{name} {config.get(name)} (here {here})" for name, here in _versions().items() if config.get(name) != here]:
        warning = f"the run was begun with {', '.join(other)}; the same bits are promised for the same versions only"
        progress.warn(warning)
        config = {**config, "warnings": [*config["warnings"], warning]}
    torch.set_num_threads(config["threads"])
    given = Settings.of(config["given"]).replace(device=device)
    task, parts, facts = _prepared(Path(config["source"]), given, progress)
    if len(config["files"]) != len(facts["files"]) or config["settings"] != _lasting(task.settings).as_json():
        raise RunError(
            f"the data in {config['source']} is not what the run was started with; put the old data back, or start a new run"
        )
    return _trained(_ready(task, parts, run, progress, interrupted), config, progress, finish=finish)


_NEEDED: dict[str, type] = {
    "threads": int,
    "source": str,
    "given": dict,
    "files": list,
    "understood": str,
    "split": str,
    "warnings": list,
}
"""Of config.json, to resume."""


def _versions() -> dict[str, str]:
    return {
        "throughtime": throughtime.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def _prepared(source: Path, settings: Settings, progress: Progress) -> tuple[Task, Parts, dict[str, Any]]:
    """Read, divide, fit the transforms."""
    dataset = read(source, settings)
    settings = settings.replace(**{"task": dataset.task, **dataset.resolved})
    alike = settings.replace(split_column=None)  # a file of its own need not say what part it is
    frequency = dataset.content.frequency if isinstance(dataset.content, Panel) else None
    others = {
        name: read(path, alike, role="part", frequency=frequency)
        for name in ("valid", "test")
        if (path := getattr(settings.data, name)) is not None
    }
    for name, other in others.items():
        if other.task != dataset.task:
            raise SettingsError(
                f"--{name} {getattr(settings.data, name)} is for {other.task}, the training data for {dataset.task}; "
                "give files of one kind"
            )
    progress.say(dataset.sentence)
    kind = dataset.content.kind if isinstance(dataset.content, Sequences) else None
    settings.refuse_unused(kind)
    parts = split(dataset, settings, **others)
    progress.say(parts.sentence)
    warnings = [*dataset.warnings, *(line for other in others.values() for line in other.warnings), *parts.warnings]
    for line in warnings:
        progress.warn(line)
    task = TASKS[dataset.task](settings)
    task.prepare(parts.train)
    task.settings.refuse_unused(kind)  # once more, now that the task has decided what was open
    found = list(task.warnings)
    for name, part in (("validation", parts.valid), ("test", parts.test)):
        if part is not None and (phrase := task.unfamiliar(part)):
            found.append(f"the {name} part: {phrase}")
    for line in found:
        progress.warn(line)
    vectors = [settings.model.embeddings] if settings.model.embeddings else []
    files = dict.fromkeys([*dataset.files, *(file for other in others.values() for file in other.files), *vectors])
    facts = {
        "understood": dataset.sentence,
        "split": parts.sentence,
        "warnings": warnings + found,
        "files": [_facts(file.absolute()) for file in files],
    }
    return task, parts, facts


@dataclass(frozen=True)
class _Ready:
    """All that is needed to train: whatever is wrong with the data or the settings has been found, and nothing was written.

    Attributes:
        run: where it goes.
        task: prepared.
        parts: as they were read, by name.
        encoded: the same as arrays.
        trainer: at its beginning.
    """

    run: RunDirectory
    task: Task
    parts: dict[str, Any]
    encoded: dict[str, Any]
    trainer: Trainer


def _ready(task: Task, parts: Parts, run: RunDirectory, progress: Progress, interrupted: Callable[[], bool]) -> _Ready:
    """Encode all parts, the test part too, and make the network."""
    by_name = {"train": parts.train, "valid": parts.valid, "test": parts.test}
    named = {name: part for name, part in by_name.items() if part is not None}
    encoded = {name: task.encode(part) for name, part in named.items()}
    return _Ready(run, task, named, encoded, _trainer(task, encoded["train"], encoded["valid"], run, progress, interrupted))


def _trained(ready: _Ready, config: dict[str, Any], progress: Progress, *, finish: bool = False) -> dict[str, Any]:
    """Train, from a checkpoint if there is one; then score, and write model, result and report."""
    run, task, parts, encoded, trainer = ready.run, ready.task, ready.parts, ready.encoded, ready.trainer
    restored = trainer.restore()
    if finish:
        if not restored:
            raise RunError(f"{run.path} has no checkpoint yet that it could be finished from; resume it without --finish")
        trainer.finish()
    fitted = _run(trainer, progress)
    fitted.save(run)
    scored_on = "test" if "test" in parts else "valid"
    held_out = parts[scored_on]
    with torch.inference_mode(), outputs_checked(fitted.network):
        names = [name for name in ("valid", "test") if name in parts]
        scores: dict[str, Any] = {name: task.score(fitted.network, parts[name], encoded[name]) for name in names}
    baselines: list[BaselineScore] = []
    if task.settings.training.baselines:
        progress.say("scoring baselines on the same data")
        baselines = task.baselines(parts["train"], held_out)
        baselines += score_rivals(task, trainer, encoded["train"], held_out, encoded[scored_on], say=progress.say)
    with torch.inference_mode():
        details = task.details(fitted.network, held_out, encoded[scored_on], baselines)
    metric, verdict = task.judged_by(scores[scored_on]), None
    if baselines:
        with torch.inference_mode():
            errors = task.errors(fitted.network, held_out, encoded[scored_on])
        # The errors of lm are those of stretches of documents, not of rows.
        groups = held_out.groups if isinstance(held_out, Sequences) and task.name != "lm" else None
        verdict = judged(errors, baselines, metric, groups)
    kind, part_name = str(task.settings.model.cell).upper(), "test" if scored_on == "test" else "validation"
    where = f"{task.amount(held_out, encoded[scored_on])} of the {part_name} part"
    place = trainer.place
    result = {
        "task": task.name,
        "understood": config["understood"],
        "split": config["split"],
        "warnings": [*config["warnings"], *(f"baseline {b.name} left out: {b.problem}" for b in baselines if b.problem)],
        "headline": headline(kind, metric, scores[scored_on][metric.name], where, verdict),
        "beats_baselines": verdict and verdict.beats,
        "comparison": verdict and verdict.as_json(),
        "metric": dataclasses.asdict(metric),
        "scored_on": scored_on,
        "parts": {name: _size(part, encoded[name]) for name, part in parts.items()},
        "model": {
            "description": task.describe(),
            "parameters": sum(parameter.numel() for parameter in fitted.network.parameters()),
            "backend": throughtime.instruction_set(),
        },
        "scores": {name: _finite(values) for name, values in scores.items()},
        "baselines": [_baseline(b) for b in baselines if not b.problem],
        "training": {
            "updates": place.update,
            "epochs": round(place.update / len(trainer.feed), 2),
            "seconds": round(trainer.seconds, 2),
            "steps_per_second": round(place.steps / max(trainer.seconds, 1e-9), 1),
            "best_update": place.best_update,
            "stopped": place.stopped,
            "rollbacks": place.rollbacks,
        },
        "details": details,
    }
    run.write_result(result)
    write_report(run.path)
    return result


def train(
    task: Task,
    parts: Parts,
    *,
    progress: Progress | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> tuple[Fitted, Trainer]:
    """Train a network for a prepared task, and write nothing.

    Args:
        task: prepared on the training part.
        parts: training and validation part.
        progress: who is told.
        interrupted: as for :class:`Trainer`.

    Returns:
        The fitted model, and the trainer with all it knows.
    """
    progress = progress or Progress()
    trainer = _trainer(task, task.encode(parts.train), task.encode(parts.valid), None, progress, interrupted)
    return _run(trainer, progress), trainer


def _trainer(
    task: Task, train: Any, valid: Any, run: RunDirectory | None, progress: Progress, interrupted: Callable[[], bool]
) -> Trainer:
    """A new network and what trains it, from encoded parts."""
    device = _device(task.settings.training.device)
    task.settings = task.settings.replace(device=device.type)
    with random_state_kept():
        torch.manual_seed(task.settings.training.seed)
        network = task.network().to(device)
    return Trainer(task, network, task.feed(train), valid, run, progress, interrupted)


def _run(trainer: Trainer, progress: Progress) -> Fitted:
    """Train to the end, with the random state of torch left as it was."""
    task, network = trainer.task, trainer.network
    with random_state_kept():
        progress.training_starts(task.describe(), (task.monitor, task.metric), trainer.place.total, trainer.seconds)
        trainer.fit()
        network.eval()
        with torch.inference_mode():
            task.finish(network, trainer.valid)
    return Fitted(task, network)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device is cuda, but torch finds no GPU; use --device cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def _size(part: Any, encoded: Any) -> dict[str, int]:
    if isinstance(part, PanelPart):
        lengths = [len(series) - start for series, start in zip(part.panel.series, part.starts, strict=True)]
        lengths = [length for length in lengths if length]  # a series that ends early has no values in the later parts
    else:
        lengths = encoded.lengths.tolist()
    return {"sequences": len(lengths), "steps": sum(lengths), "shortest": min(lengths), "longest": max(lengths)}


def _baseline(baseline: BaselineScore) -> dict[str, Any]:
    values = dataclasses.asdict(baseline)
    del values["problem"], values["errors"], values["said"]
    return {**values, "seconds": round(baseline.seconds, 3), "scores": _finite(baseline.scores)}


def _finite(scores: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def _given(settings: Settings) -> dict[str, Any]:
    """What was set, by section: all that is not as by default."""
    default = Settings().as_json()
    given: dict[str, Any] = {}
    for name, section in _lasting(settings).as_json().items():
        changed = {key: value for key, value in section.items() if value != default[name][key]}
        if changed:
            given[name] = changed
    return given


def _lasting(settings: Settings) -> Settings:
    """With absolute paths, so that a resume may start elsewhere."""
    paths = {"valid": settings.data.valid, "test": settings.data.test, "embeddings": settings.model.embeddings}
    return settings.replace(**{name: str(path.absolute()) for name, path in paths.items() if path is not None})


def _facts(path: Path) -> dict[str, Any]:
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": checksum(path)}
