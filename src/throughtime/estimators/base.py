"""What all estimators share: settings as arguments, fitting in memory, saving, and errors in the words of Python."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

import throughtime
from throughtime.data.records import Dataset, Panel, Sequences
from throughtime.data.split import split
from throughtime.errors import SettingsError, ThroughTimeError
from throughtime.nn.init import NAMES
from throughtime.report import formats
from throughtime.settings import Settings
from throughtime.store import RunDirectory
from throughtime.tasks import TASKS, Task
from throughtime.train.fit import train
from throughtime.train.fitted import Fitted
from throughtime.train.optimizers import check_optimizer
from throughtime.train.progress import Evaluation, Progress
from throughtime.train.trainer import Trainer

_Method = TypeVar("_Method", bound=Callable[..., Any])
_FLAG = re.compile(r"--([a-z]+(?:-[a-z]+)*)(?: (error|interpolate|mask|FILE)\b)?")


def in_python(method: _Method) -> _Method:
    """A method whose errors name arguments (``missing='mask'``) where those of the command name flags (``--missing mask``)."""
    own = inspect.signature(method).parameters

    @functools.wraps(method)
    def wrapped(self: Estimator, *args: Any, **kwargs: Any) -> Any:
        names = {*own, *self.get_params()}

        def argument(flag: re.Match[str]) -> str:
            name = "path" if flag[1] == "out" else flag[1].replace("-", "_")
            if name not in names:
                return flag[0]
            return name if flag[2] is None else f"{name}=..." if flag[2] == "FILE" else f"{name}={flag[2]!r}"

        try:
            return method(self, *args, **kwargs)
        except ThroughTimeError as error:
            error.args = (_FLAG.sub(argument, str(error)),)
            raise

    return wrapped  # type: ignore[return-value]


class _Heard(Progress):
    """Keeps what training tells."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.evaluations: list[Evaluation] = []

    def warn(self, line: str) -> None:
        self.warnings.append(line)

    def evaluated(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)


@dataclass(kw_only=True, eq=False, repr=False)
class Estimator(BaseEstimator):
    """The common part of all estimators. Every argument is a setting of ``throughtime fit``; ``None`` leaves it to the task.

    Arguments are stored as they are and checked by ``fit``, all at once. A tenth of the data given to ``fit`` is held out to
    choose the best weights and to stop by. The same data and ``seed`` give the same model to the bit. Nothing is printed or
    written, and torch's own random state is left alone.

    Args:
        cell: ``rnn``, ``lstm`` or ``gru``.
        hidden: units in each direction of each layer.
        layers: recurrent layers.
        nonlinearity: of the simple RNN: ``tanh``, ``relu``, ``sigmoid`` or ``identity``.
        dropout: share of units left out in training.
        init: initialisation of the recurrent weights: ``torch``, ``orthogonal``, ``identity``, ``forget_bias`` or ``chrono``.
        optimizer: any of ``torch.optim``, by name.
        lr: learning rate.
        weight_decay: given to the optimizer.
        schedule: how the rate changes over training: ``constant``, ``linear``, ``cosine`` or ``plateau``.
        clip: largest norm of the gradient; 0 for no clipping.
        batch: sequences in a batch.
        epochs: most passes over the training data.
        time_budget: about how long to train: seconds, or ``"90s"``, ``"5m"``, ``"2h"``.
        patience: evaluations without improvement after which to stop.
        seed: of everything random.
        device: ``auto``, ``cpu`` or ``cuda``.

    Attributes:
        fitted_: the task with its fitted transforms, and the network.
        warnings_: what to know of the data and the training, a line each.
        history_: what each evaluation on the held-out part found, as the lines of metrics.jsonl.
    """

    cell: Literal["rnn", "lstm", "gru"] | None = None
    hidden: int | None = None
    layers: int | None = None
    nonlinearity: Literal["tanh", "relu", "sigmoid", "identity"] = "tanh"
    dropout: float | None = None
    init: str | None = None
    optimizer: str | None = None
    lr: float | None = None
    weight_decay: float | None = None
    schedule: Literal["constant", "linear", "cosine", "plateau"] | None = None
    clip: float | None = None
    batch: int | None = None
    epochs: int | None = None
    time_budget: float | str | None = None
    patience: int | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"

    task: ClassVar[str]
    """The task of ``throughtime fit``."""

    def settings(self) -> Settings:
        """The arguments as settings.

        Raises:
            SettingsError: values that their arguments cannot have: all of them, with the nearest valid names.

        Example:
            >>> throughtime.estimators.SequenceClassifier(cell="grv", hidden=0).settings()
            Traceback (most recent call last):
            throughtime.errors.SettingsError: 2 arguments are wrong: cell is 'grv', expected rnn or lstm or gru; did you mean gru? | hidden is 0, expected a whole number from 1 to 65,536
        """  # noqa: E501
        settings, wrong = Settings().replace(task=self.task), list[str]()
        for name, value in self.get_params(deep=False).items():
            try:
                settings = settings.replace(**{name: value})
                if name == "optimizer" and value is not None:
                    check_optimizer(value)
                if name == "init" and value not in (None, *NAMES):
                    raise SettingsError(f"init is {value!r}, expected {' or '.join(NAMES)}")
            except SettingsError as error:
                wrong.append(str(error))
        if len(wrong) == 1:
            raise SettingsError(wrong[0])
        if wrong:
            raise SettingsError(f"{len(wrong)} arguments are wrong: {' | '.join(wrong)}")
        return settings

    @in_python
    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a run directory, as ``throughtime fit`` does: ``throughtime predict`` and :func:`load` read it.

        Args:
            path: a folder that is new or empty.
            overwrite: replace a run that is there.

        Raises:
            NotFittedError: there is nothing to save.
            RunError: something else is there, or it cannot be written.
        """
        check_is_fitted(self)
        run = RunDirectory.create(Path(path), self._config, overwrite=overwrite)
        for record in self.history_:
            run.append("metrics.jsonl", record)
        self.fitted_.save(run)
        run.write_result(self._result)

    def _train(self, dataset: Dataset, settings: Settings, **more: Any) -> None:
        """Fit the transforms and the network; ``more`` goes into the configuration."""
        parts = split(Dataset(self.task, _all_for_training(dataset.content), dataset.sentence), settings)
        heard = _Heard()
        task = TASKS[self.task](settings)
        task.prepare(parts.train)
        fitted, trainer = train(task, parts, progress=heard)
        config = {
            "throughtime": throughtime.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": repr(self),
            "source": None,
            "given": self.settings().as_json(),
            "settings": task.settings.as_json(),
            "understood": dataset.sentence,
            "split": parts.sentence,
            "warnings": [*dataset.warnings, *parts.warnings, *task.warnings, *heard.warnings],
            "files": [],
            **more,
        }
        history = [evaluation.as_json() for evaluation in heard.evaluations]
        self._adopt(fitted, config, _result(task, trainer, config, history), history)

    def _adopt(self, fitted: Fitted, config: dict[str, Any], result: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Take over what a fit left, here or in a run directory."""
        self.fitted_, self.warnings_, self.history_ = fitted, list(config["warnings"]), history
        self._config, self._result = config, result
        self._run: Path | None = None


def _all_for_training(content: Sequences | Panel) -> Sequences | Panel:
    """Marked as the training part, so that no test part is made of it: scikit-learn divides the data for that."""
    if isinstance(content, Sequences):
        return dataclasses.replace(content, parts=["train"] * len(content))
    return dataclasses.replace(content, series=[dataclasses.replace(s, parts=["train"] * len(s)) for s in content.series])


def _result(task: Task, trainer: Trainer, config: dict[str, Any], history: list[dict[str, Any]]) -> dict[str, Any]:
    """What result.json holds of a fit that has neither a test part nor baselines."""
    place, metric = trainer.place, task.monitor
    kind = str(task.settings.model.cell).upper()
    scores = next((record["valid"] for record in reversed(history) if record["best"]), history[-1]["valid"])
    return {
        "task": task.name,
        **{name: config[name] for name in ("understood", "split", "warnings")},
        "headline": f"{kind}: {metric.label} {formats.plain(scores.get(metric.name))} on the validation part.",
        "metric": dataclasses.asdict(metric),
        "scored_on": "valid",
        "scores": {"valid": scores},
        "model": {"description": task.describe(), "parameters": sum(p.numel() for p in trainer.network.parameters())},
        "training": {
            "updates": place.update,
            "epochs": round(place.update / len(trainer.feed), 2),
            "seconds": round(trainer.seconds, 2),
            "best_update": place.best_update,
            "stopped": place.stopped,
            "rollbacks": place.rollbacks,
        },
    }
