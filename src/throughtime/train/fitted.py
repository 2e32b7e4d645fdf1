"""A fitted model: what predicts and is scored, from a run directory or from a fit that just ended."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from throughtime.data import read
from throughtime.data.records import Dataset, Panel
from throughtime.data.split_panel import PanelPart
from throughtime.errors import RunError
from throughtime.settings import Settings
from throughtime.store import RunDirectory, read_json, write_json
from throughtime.tasks import TASKS, Task
from throughtime.tasks.base import Table


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
        if not (path / "model.safetensors").exists():
            raise RunError(f"{path} has no model yet: its fit is not finished; go on with it by `throughtime resume {path}`")
        task = restored_task(run, config)
        network = task.network()
        tensors = {name: torch.from_numpy(array) for name, array in run.load_model().items()}
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
        write_json(run.path / "transforms.json", self.task.transforms())
        run.save_model({name: tensor.detach().cpu().numpy() for name, tensor in self.network.state_dict().items()})

    def read(self, path: Path, *, with_target: bool) -> Dataset:
        """Read a file as the training data was read."""
        data = dataclasses.replace(self.task.settings.data, valid=None, test=None, split_column=None, group=None)
        return read(path, dataclasses.replace(self.task.settings, data=data), with_target=with_target)

    def score(self, content: Any) -> dict[str, float]:
        """Scores on sequences or a panel that were read with their targets."""
        part = PanelPart(content, [1] * len(content)) if isinstance(content, Panel) else content
        self.network.eval()
        with torch.inference_mode():
            return self.task.score(self.network, part, self.task.encode(part))

    def predict(self, content: Any) -> Table:
        """Predictions for sequences or a panel, as columns."""
        self.network.eval()
        with torch.inference_mode():
            return self.task.predict(self.network, content)


def restored_task(run: RunDirectory, config: dict[str, Any]) -> Task:
    """The task of a run, its transforms as they were fitted.

    Raises:
        RunError: the files are damaged.
    """
    try:
        settings = Settings.of(config["settings"])
        task = TASKS[settings.data.task](settings)
        task.restore(read_json(run.path / "transforms.json"))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run.path} is damaged: config.json and transforms.json do not make a task ({error})") from None
    return task
