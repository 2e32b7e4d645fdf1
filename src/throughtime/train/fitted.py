"""A fitted model: what predicts and is scored, from a run directory or from a fit that just ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from throughtime.data import read
from throughtime.data.records import Dataset
from throughtime.data.split import split
from throughtime.data.split_panel import PanelPart
from throughtime.errors import DataError, RunError
from throughtime.settings import Settings
from throughtime.store import RunDirectory, checksum
from throughtime.tasks import TASKS, Metric, Task
from throughtime.tasks.base import Table
from throughtime.tasks.tag import Tag


@dataclass(frozen=True)
class Scored:
    """What a fitted model scores on some data.

    Attributes:
        scores: by name.
        metric: the one to judge by.
        said: what was scored, in a phrase.
    """

    scores: dict[str, float]
    metric: Metric
    said: str


class Fitted:
    """A task with its fitted transforms and network.

    Args:
        task: prepared or restored.
        network: trained.
    """

    def __init__(self, task: Task, network: torch.nn.Module) -> None:
        self.task, self.network = task, network

    @classmethod
    def load(cls, path: Path) -> Fitted:
        """From a run directory; loading executes nothing that is in it.

        Raises:
            RunError: no run, one of another version, one without a model yet, or a damaged one.
        """
        run = RunDirectory(path)
        config = run.config()
        run.check_finished()
        arrays, transforms = run.load_model()
        task = restored_task(run, config, transforms)
        network = task.network()
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if found != expected:
            odd = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            raise RunError(
                f"{path / 'model.safetensors'} does not fit config.json: {odd[0]} is {found.get(odd[0], 'missing')}, "
                f"expected {expected.get(odd[0], 'none')}"
            )
        network.load_state_dict(tensors)
        network.eval()
        return cls(task, network)

    def save(self, run: RunDirectory) -> None:
        """Write the weights and the transforms."""
        weights = {name: tensor.detach().cpu().numpy() for name, tensor in self.network.state_dict().items()}
        run.save_model(weights, self.task.transforms())

    def read(self, path: Path, *, with_target: bool) -> Dataset:
        """Read a file as the training data was read; tagged words may be in other columns than there."""
        dataset = self._read(path, with_target)
        phrase = self.task.unfamiliar(dataset.content)
        return dataclasses.replace(dataset, warnings=[*dataset.warnings, f"{path}: {phrase}"]) if phrase else dataset

    def _read(self, path: Path, with_target: bool) -> Dataset:
        data = dataclasses.replace(self.task.settings.data, valid=None, test=None, split_column=None, group=None)
        settings, frequency = dataclasses.replace(self.task.settings, data=data), getattr(self.task, "frequency", None)
        try:
            return read(path, settings, with_target=with_target, role="new", frequency=frequency)
        except DataError as error:
            if not isinstance(self.task, Tag) or not self.task.words:
                raise
            try:
                return read(path, settings.replace(target=None), with_target=with_target, role="new")
            except DataError:
                raise error from None

    def evaluate(self, content: Any) -> Scored:
        """Score sequences, or what the fit did not see of a panel; read with their targets.

        Raises:
            DataError: there is nothing to score.
        """
        part, note = self.task.held_out(content)
        encoded = self.task.encode(part)
        self.network.eval()
        with torch.inference_mode():
            scores = self.task.score(self.network, part, encoded)
        return Scored(scores, self.task.judged_by(scores), f"{self.task.amount(part, encoded)}{note}")

    def score(self, content: Any) -> dict[str, float]:
        """The scores alone."""
        return self.evaluate(content).scores

    def predict(self, content: Any) -> Table:
        """Predictions for sequences or a panel, as columns."""
        self.network.eval()
        with torch.inference_mode():
            return self.task.predict(self.network, content)


def source_of(run: RunDirectory, fitted: Fitted) -> Dataset:
    """What a run was fitted to, read again as it is now; series go on with those of the files for validation and test.

    Raises:
        RunError: it was fitted in Python, and holds no data.
        DataError: the data cannot be read any more.
    """
    config = run.config()
    if config["source"] is None:
        raise RunError(f"{run.path} was fitted in Python and holds no data; `throughtime predict {run.path} DATA` takes some")
    dataset = fitted.read(Path(config["source"]), with_target=True)
    if fitted.task.name != "forecast":
        return dataset
    others = {name: fitted.read(path, with_target=True) for name, path in _given(config).items() if name in ("valid", "test")}
    if not others:
        return dataset
    parts = split(dataset, fitted.task.settings, **others)
    whole = parts.valid if parts.test is None else parts.test
    assert isinstance(whole, PanelPart)
    warnings = [line for one in (dataset, *others.values()) for line in one.warnings]
    files = [file for one in (dataset, *others.values()) for file in one.files]
    return dataclasses.replace(dataset, content=whole.panel, warnings=warnings, files=files)


def trained_on(run: RunDirectory, files: Sequence[Path]) -> bool:
    """Whether some of these files are among those that a run was trained on, by their checksums."""
    config = run.config()
    others = [*_given(config).values()]
    known: dict[int, set[str]] = {}
    for file in config["files"]:
        if not any(Path(file["path"]).is_relative_to(other) for other in others):
            known.setdefault(file["bytes"], set()).add(file["sha256"])
    return any((same := known.get(file.stat().st_size)) and checksum(file) in same for file in files)


def _given(config: dict[str, Any]) -> dict[str, Path]:
    """The files beside the training data that were given to a fit."""
    data, model = (config["given"].get(section, {}) for section in ("data", "model"))
    found = {"valid": data.get("valid"), "test": data.get("test"), "embeddings": model.get("embeddings")}
    return {name: Path(path) for name, path in found.items() if path}


def restored_task(run: RunDirectory, config: dict[str, Any], transforms: dict[str, Any]) -> Task:
    """The task of a run, its transforms as they were fitted.

    Raises:
        RunError: the files are damaged.
    """
    try:
        settings = Settings.of(config["settings"])
        task = TASKS[settings.data.task](settings)
        task.restore(transforms)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run.path} is damaged: config.json and transforms.json do not make a task ({error})") from None
    return task
