"""ThroughTime: recurrent networks for Python.

``import throughtime as tt`` costs nothing but this file: what needs torch is imported when it is first used.

    tt.nn      RNN, GRU and LSTM with torch.nn's interface, faster on CPU, right on ragged batches; convert() an existing model
    tt.flow    how far back in time the gradient reaches, measured
    tt.explain, tt.optim_trace
               every number of forward, backward and update of a sentence; the rates an optimizer really uses
    tt.SequenceClassifier, SequenceTagger, SequenceRegressor, Forecaster, LanguageModel
               fit and predict as in scikit-learn; tt.load() brings one back from a run of ``throughtime fit``
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from throughtime import errors as errors
from throughtime.errors import ThroughTimeError as ThroughTimeError

if TYPE_CHECKING:
    from throughtime import flow as flow, nn as nn
    from throughtime.estimators import (
        Forecaster as Forecaster,
        LanguageModel as LanguageModel,
        SequenceClassifier as SequenceClassifier,
        SequenceRegressor as SequenceRegressor,
        SequenceTagger as SequenceTagger,
        load as load,
    )
    from throughtime.ops.native import (
        get_num_threads as get_num_threads,
        instruction_set as instruction_set,
        instruction_sets as instruction_sets,
        set_instruction_set as set_instruction_set,
        set_num_threads as set_num_threads,
    )
    from throughtime.textbook import explain as explain
    from throughtime.train.optim_trace import optim_trace as optim_trace

__version__ = "0.1.0"

_LAZY = {
    "explain": "throughtime.textbook",
    "optim_trace": "throughtime.train.optim_trace",
    "nn": "throughtime.nn",
    "flow": "throughtime.flow",
    "SequenceClassifier": "throughtime.estimators",
    "SequenceTagger": "throughtime.estimators",
    "SequenceRegressor": "throughtime.estimators",
    "Forecaster": "throughtime.estimators",
    "LanguageModel": "throughtime.estimators",
    "load": "throughtime.estimators",
    "get_num_threads": "throughtime.ops.native",
    "set_num_threads": "throughtime.ops.native",
    "instruction_set": "throughtime.ops.native",
    "instruction_sets": "throughtime.ops.native",
    "set_instruction_set": "throughtime.ops.native",
}

__all__ = ["ThroughTimeError", "__version__", "errors", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'throughtime' has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        module = importlib.import_module(_LAZY[name])
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "polars", "sklearn", "narwhals"):
            raise
        library = {"torch": "PyTorch", "sklearn": "scikit-learn"}.get(error.name, error.name)
        raise ImportError(f"throughtime.{name} needs {library}: pip install 'throughtime[train]'") from error
    return module if _LAZY[name] == f"throughtime.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
