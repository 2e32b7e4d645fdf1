"""Fitted estimators back from run directories."""

from __future__ import annotations

from pathlib import Path

from throughtime.estimators.base import Estimator
from throughtime.estimators.forecaster import Forecaster
from throughtime.estimators.labelled import SequenceClassifier, SequenceRegressor, SequenceTagger
from throughtime.estimators.language import LanguageModel
from throughtime.settings import Settings
from throughtime.store import RunDirectory
from throughtime.train.fitted import Fitted

_OF_TASK: dict[str, type[Estimator]] = {
    kind.task: kind for kind in (SequenceClassifier, SequenceTagger, SequenceRegressor, Forecaster, LanguageModel)
}


def load(path: str | Path) -> Estimator:
    """The fitted estimator of a run directory, whether ``throughtime fit`` or :meth:`Estimator.save` wrote it.

    Its arguments are the settings that were given to the fit, so that a clone of it is fitted in the same way. Nothing in the
    directory is executed.

    Args:
        path: the run directory.

    Raises:
        RunError: no run, one of another version, one without a model yet, or a damaged one.
    """
    run = RunDirectory(Path(path))
    fitted, config = Fitted.load(run.path), run.config()
    given = Settings.of(config["given"])
    values = {name: value for section in vars(given).values() for name, value in vars(section).items()}
    kind = _OF_TASK[fitted.task.name]
    estimator = kind(**{name: values[name] for name in kind().get_params(deep=False)})
    history = [record for record in run.records("metrics.jsonl") if "note" not in record]
    estimator._adopt(fitted, config, run.result() or {}, history)
    estimator._run = run.path.absolute()
    return estimator
