"""A fit from a file to a finished run directory, and taking up one that was stopped: the same steps, so that both end alike."""

from __future__ import annotations

import dataclasses
import hashlib
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
from throughtime.data import read
from throughtime.data.files import plural
from throughtime.data.split import Parts, split
from throughtime.data.split_panel import PanelPart
from throughtime.errors import RunError, SettingsError
from throughtime.report import write_report
from throughtime.settings import Settings
from throughtime.store import RunDirectory
from throughtime.tasks import TASKS, BaselineScore, Metric, Task
from throughtime.train.fitted import Fitted
from throughtime.train.optimizers import check_optimizer
from throughtime.train.progress import Progress
from throughtime.train.trainer import Trainer


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
    task, parts, facts = _prepared(source, settings, progress)
    ready = _ready(task, parts, RunDirectory(out), progress, interrupted)
    config = {
        "throughtime": throughtime.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "threads": torch.get_num_threads(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "source": str(source.absolute()),
        "given": _given(settings),
        "settings": task.settings.as_json(),
        **facts,
    }
    RunDirectory.create(out, config, overwrite=overwrite)
    return _trained(ready, config, progress)


def resume(
    path: Path, *, progress: Progress | None = None, interrupted: Callable[[], bool] = lambda: False
) -> dict[str, Any] | None:
    """Go on with a run exactly where it stopped.

    Args:
        path: the run directory.
        progress: who is told.
        interrupted: as for :func:`fit`.

    Returns:
        What result.json holds; ``None`` if the run was finished already.

    Raises:
        ThroughTimeError: no run, a damaged one, or data that has changed since.
        KeyboardInterrupt: stopped again.
    """
    progress = progress or Progress()
    run = RunDirectory(path)
    config = run.config()
    if run.result() is not None:
        if not (path / "report.html").exists():
            write_report(path)
        return None
    if missing := [name for name in ("threads", "source", "given", "files", "settings") if name not in config]:
        raise RunError(f"{path / 'config.json'} is damaged: it has no {missing[0]!r}; start a new run")
    for before in config["files"]:
        file = Path(before["path"])
        if not file.is_file():
            raise RunError(f"{file} is gone, and the run was started with it; put it back, or start a new run")
        if _facts(file) != before:
            raise RunError(f"{file} has changed since the run was started; put the old file back, or start a new run")
    torch.set_num_threads(config["threads"])
    task, parts, facts = _prepared(Path(config["source"]), Settings.of(config["given"]), progress)
    if len(config["files"]) != len(facts["files"]) or config["settings"] != task.settings.as_json():
        raise RunError(
            f"the data in {config['source']} is not what the run was started with; put the old data back, or start a new run"
        )
    return _trained(_ready(task, parts, run, progress, interrupted), config, progress)


def _prepared(source: Path, settings: Settings, progress: Progress) -> tuple[Task, Parts, dict[str, Any]]:
    """Read, divide, fit the transforms."""
    dataset = read(source, settings)
    settings = settings.replace(**{"task": dataset.task, **dataset.resolved})
    alike = settings.replace(split_column=None, group=None)  # a file of its own need not say what part it is
    others = {name: read(path, alike) for name in ("valid", "test") if (path := getattr(settings.data, name)) is not None}
    for name, other in others.items():
        if other.task != dataset.task:
            raise SettingsError(
                f"--{name} {getattr(settings.data, name)} is for {other.task}, the training data for {dataset.task}; "
                "give files of one kind"
            )
    progress.say(dataset.sentence)
    parts = split(dataset, settings, **others)
    progress.say(parts.sentence)
    warnings = [*dataset.warnings, *(line for other in others.values() for line in other.warnings), *parts.warnings]
    for line in warnings:
        progress.warn(line)
    task = TASKS[dataset.task](settings)
    task.prepare(parts.train)
    vectors = [settings.model.embeddings] if settings.model.embeddings else []
    files = dict.fromkeys([*dataset.files, *(file for other in others.values() for file in other.files), *vectors])
    facts = {
        "understood": dataset.sentence,
        "split": parts.sentence,
        "warnings": warnings,
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


def _trained(ready: _Ready, config: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Train, from a checkpoint if there is one; then score, and write model, result and report."""
    run, task, parts, encoded, trainer = ready.run, ready.task, ready.parts, ready.encoded, ready.trainer
    trainer.restore()
    fitted = _run(trainer, progress)
    fitted.save(run)
    scored_on = "test" if "test" in parts else "valid"
    held_out = parts[scored_on]
    with torch.inference_mode():
        names = [name for name in ("valid", "test") if name in parts]
        scores: dict[str, Any] = {name: task.score(fitted.network, parts[name], encoded[name]) for name in names}
        details = task.details(fitted.network, held_out, encoded[scored_on])
    baselines: list[BaselineScore] = []
    if task.settings.training.baselines:
        progress.say("scoring baselines on the same data")
        baselines = task.baselines(parts["train"], held_out)
    metric = task.metric if task.metric.name in scores[scored_on] else task.monitor
    headline, beats = _headline(task, metric, scores[scored_on], baselines, scored_on, held_out)
    place = trainer.place
    result = {
        "task": task.name,
        "understood": config["understood"],
        "split": config["split"],
        "warnings": [*config["warnings"], *(f"baseline {b.name} left out: {b.problem}" for b in baselines if b.problem)],
        "headline": headline,
        "beats_baselines": beats,
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
    settings = task.settings.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = task.network().to(_device(settings.device))
    return Trainer(task, network, task.feed(train), valid, run, progress, interrupted)


def _run(trainer: Trainer, progress: Progress) -> Fitted:
    """Train to the end, with the random state of torch left as it was."""
    task, network = trainer.task, trainer.network
    with torch.random.fork_rng(devices=[]):
        progress.training_starts(task.describe(), task.monitor, trainer.place.total)
        trainer.fit()
        network.eval()
        with torch.inference_mode():
            task.finish(network, trainer.valid)
    return Fitted(task, network)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device is cuda, but torch finds no GPU; use --device cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def _headline(
    task: Task, metric: Metric, scores: dict[str, float], baselines: list[BaselineScore], scored_on: str, part: Any
) -> tuple[str, bool | None]:
    """The result in a sentence, and whether the model beats every baseline."""
    score = scores[metric.name]
    where = f"{_amount(part)} of the {'test' if scored_on == 'test' else 'validation'} part"
    said = f"{str(task.settings.model.cell).upper()}: {metric.label} {score:.4g} on {where}"
    rivals = [b for b in baselines if metric.name in b.scores]
    if not rivals:
        return f"{said}.", None
    sign = -1 if metric.higher_is_better else 1
    best = min(rivals, key=lambda b: sign * b.scores[metric.name])
    # As they are printed: what differs by rounding only is not better.
    beats = metric.better(float(f"{score:.4g}"), float(f"{best.scores[metric.name]:.4g}"))
    verdict = "the model beats it" if beats else "the model does not beat it"
    return f"{said}; best baseline, {best.name}: {best.scores[metric.name]:.4g}; {verdict}.", beats


def _amount(part: Any) -> str:
    if isinstance(part, PanelPart):
        return f"{len(part.panel):,} series"
    return plural(len(part), "document" if part.targets is None else "sequence")


def _size(part: Any, encoded: Any) -> dict[str, int]:
    if isinstance(part, PanelPart):
        lengths = [len(series) - start for series, start in zip(part.panel.series, part.starts, strict=True)]
    else:
        lengths = encoded.lengths.tolist()
    return {"sequences": len(lengths), "steps": sum(lengths), "shortest": min(lengths), "longest": max(lengths)}


def _baseline(baseline: BaselineScore) -> dict[str, Any]:
    values = dataclasses.asdict(baseline)
    del values["problem"]
    return {**values, "seconds": round(baseline.seconds, 3), "scores": _finite(baseline.scores)}


def _finite(scores: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def _given(settings: Settings) -> dict[str, Any]:
    """What was set, by section: all that is not as by default, paths made absolute so that a resume may start elsewhere."""
    default = Settings().as_json()
    given: dict[str, Any] = {}
    for name, section in settings.as_json().items():
        changed = {key: value for key, value in section.items() if value != default[name][key]}
        for key in ("valid", "test", "embeddings"):
            if changed.get(key):
                changed[key] = str(Path(changed[key]).absolute())
        if changed:
            given[name] = changed
    return given


def _facts(path: Path) -> dict[str, Any]:
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": _checksum(path)}


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
