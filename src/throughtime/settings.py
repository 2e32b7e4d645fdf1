"""Everything that can be set of a fit, in one place: command line, TOML files, estimators and config.json read it from here.

A field that is ``None`` is decided by the task from its data when the fit starts; what was decided is written to the run's
config.json.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from throughtime.errors import SettingsError

TASKS = ("classify", "tag", "regress", "forecast", "lm")


def _of(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class DataSettings:
    """What is read, and how it is divided."""

    task: Literal["auto", "classify", "tag", "regress", "forecast", "lm"] = _of("auto", "what to learn; guessed from the data")
    valid: Path | None = _of(None, "data to choose and to stop by; a tenth of the training data if not given")
    test: Path | None = _of(None, "data scored once, at the end; a tenth of the data if neither --valid nor --test is given")
    split_column: str | None = _of(None, "column that holds train, valid or test")
    group: str | None = _of(None, "column whose values are kept together when splitting (speaker, patient, author)")
    target: str | None = _of(None, "column to predict")
    text: str | None = _of(None, "column with text")
    path: str | None = _of(None, "column with the path of a sound file, relative to the table")
    id: str | None = _of(None, "column that tells sequences or series apart")
    time: str | None = _of(None, "column with the time or the step")
    features: tuple[str, ...] = _of((), "columns to use as input, separated by commas; all numeric ones if not given")
    documents: Literal["line", "file"] | None = _of(None, "for lm: what one document is")
    tokens: Literal["word", "char", "bpe"] | None = _of(None, "what one step of a text is: word for labelled text, char for lm")
    bpe_size: int = _of(4000, "number of BPE tokens")
    missing: Literal["error", "interpolate", "mask"] = _of("error", "what to do with missing numbers")
    class_weight: Literal["balanced"] | None = _of(None, "balanced: rare classes weigh more in the loss")


@dataclass(frozen=True)
class ForecastSettings:
    """What a forecast is asked for."""

    horizon: int | None = _of(None, "steps to forecast; one season if not given")
    window: int | None = _of(None, "steps of the past that the model sees")
    season: int | None = _of(None, "steps in a season; from the frequency if not given")
    past: tuple[str, ...] = _of((), "columns known only up to now")
    future: tuple[str, ...] = _of((), "columns known in advance")
    static: tuple[str, ...] = _of((), "columns that do not change within a series")


@dataclass(frozen=True)
class ModelSettings:
    """The network."""

    cell: Literal["rnn", "lstm", "gru"] | None = _of(None, "the recurrent cell")
    hidden: int | None = _of(None, "units in each direction of each layer")
    layers: int | None = _of(None, "recurrent layers")
    bidirectional: bool | None = _of(None, "also run from the end to the beginning")
    nonlinearity: Literal["tanh", "relu", "sigmoid", "identity"] = _of("tanh", "of the simple RNN")
    dropout: float | None = _of(None, "share of units left out in training")
    init: str | None = _of(None, "initialisation of the recurrent weights: torch, orthogonal, identity, forget_bias, chrono")
    untied: bool = _of(False, "weights of their own for every step, as the textbook writes them (sequences of one length only)")
    embeddings: Path | None = _of(None, "word vectors to start from: a text file with a word and its numbers in each line")


@dataclass(frozen=True)
class TrainingSettings:
    """How it is trained."""

    optimizer: str | None = _of(None, "any optimizer of torch.optim, by name")
    lr: float | None = _of(None, "learning rate")
    weight_decay: float | None = _of(None, "weight decay, given to the optimizer")
    schedule: Literal["constant", "linear", "cosine", "plateau"] | None = _of(None, "how the rate changes over training")
    clip: float | None = _of(None, "largest norm of the gradient; 0 for no clipping")
    batch: int | None = _of(None, "sequences in a batch")
    bptt: int | None = _of(None, "for lm: steps that a gradient goes back; the state is carried on beyond")
    epochs: int | None = _of(None, "most passes over the training data")
    time_budget: float | None = _of(None, "about how long to train: 90s, 5m, 2h")
    patience: int | None = _of(None, "evaluations without improvement after which to stop")
    seed: int = _of(0, "of everything random")
    device: Literal["auto", "cpu", "cuda"] = _of("auto", "where to compute")
    save_every: float = _of(30.0, "time between checkpoints: 30s, 5m")
    baselines: bool = _of(True, "also score simple baselines on the same data")


SECTIONS: dict[str, type] = {
    "data": DataSettings,
    "forecast": ForecastSettings,
    "model": ModelSettings,
    "training": TrainingSettings,
}
DURATIONS = ("time_budget", "save_every")


@dataclass(frozen=True)
class Settings:
    """All settings of a fit, in four sections whose field names are unique.

    Example:
        >>> settings = Settings.of({"cell": "gru", "time_budget": "5m"})
        >>> settings.model.cell, settings.training.time_budget
        ('gru', 300.0)
    """

    data: DataSettings = DataSettings()
    forecast: ForecastSettings = ForecastSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()

    @classmethod
    def of(cls, values: Mapping[str, Any], base: Settings | None = None) -> Settings:
        """Settings from names and values; values may be strings, as they come from a command line.

        Args:
            values: by field name, or by section name and then field name, as in config.json and TOML files.
            base: what to start from; the defaults if not given.

        Raises:
            SettingsError: an unknown name (the nearest is suggested), or a value that its field cannot have.
        """
        flat: dict[str, Any] = {}
        for name, value in values.items():
            if name in SECTIONS and isinstance(value, Mapping):
                unknown = [key for key in value if _key(key) not in _FIELDS or _FIELDS[_key(key)] != name]
                if unknown:
                    raise _unknown(unknown[0], [key for key, section in _FIELDS.items() if section == name])
                flat.update({_key(key): inner for key, inner in value.items()})
            elif name in SECTIONS:
                raise SettingsError(
                    f"{name} is {value!r}, expected a section of settings; in TOML a line [{name}] and its settings below"
                )
            elif _key(name) in _FIELDS:
                flat[_key(name)] = value
            else:
                raise _unknown(name, [*_FIELDS, *SECTIONS])
        return (base or cls()).replace(**flat)

    def replace(self, **values: Any) -> Settings:
        """A copy with these fields changed, each checked."""
        sections = {name: dict[str, Any]() for name in SECTIONS}
        for name, value in values.items():
            if name not in _FIELDS:
                raise _unknown(name, list(_FIELDS))
            sections[_FIELDS[name]][name] = _checked(name, value)
        return dataclasses.replace(
            self, **{name: dataclasses.replace(getattr(self, name), **new) for name, new in sections.items() if new}
        )

    def as_json(self) -> dict[str, dict[str, Any]]:
        """By section and field name, with nothing but what JSON has."""
        return {
            name: {key: _plain(value) for key, value in dataclasses.asdict(getattr(self, name)).items()} for name in SECTIONS
        }


_FIELDS = {f.name: name for name, section in SECTIONS.items() for f in dataclasses.fields(section)}
_TYPES = {name: hint for section in SECTIONS.values() for name, hint in typing.get_type_hints(section).items()}
_POSITIVE = (
    "bpe_size",
    "horizon",
    "window",
    "season",
    "hidden",
    "layers",
    "batch",
    "bptt",
    "epochs",
    "patience",
    "lr",
    *DURATIONS,
)


def section_of(name: str) -> str:
    """The section a field belongs to."""
    return _FIELDS[name]


def seconds(text: str | float) -> float:
    """A duration in seconds from ``90``, ``90s``, ``5m``, ``1.5h`` or ``2d``.

    Example:
        >>> seconds("1.5h")
        5400.0
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)\s*", str(text))
    if not match:
        raise SettingsError(f"a duration is {text!r}, expected a number with s, m, h or d after it, such as 90s or 5m")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """The value, if it is one of those known.

    Raises:
        SettingsError: it is not; the nearest is suggested.

    Example:
        >>> one_of("cell", "ltsm", ("rnn", "gru", "lstm"))
        Traceback (most recent call last):
            ...
        throughtime.errors.SettingsError: cell is 'ltsm', expected rnn or gru or lstm; did you mean lstm?
    """
    if value in known:
        return value
    near = get_close_matches(value, known, 1)
    raise SettingsError(f"{name} is {value!r}, expected {' or '.join(known)}" + (f"; did you mean {near[0]}?" if near else ""))


def _key(name: str) -> str:
    return name.replace("-", "_")


def _unknown(name: str, known: list[str]) -> SettingsError:
    near = get_close_matches(_key(name), known, 1)
    return SettingsError(
        f"there is no setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}")
    )


def _checked(name: str, value: Any) -> Any:
    """The value as its field wants it."""
    options = [hint for hint in typing.get_args(_TYPES[name]) if hint is not type(None)] or [_TYPES[name]]
    optional = type(None) in typing.get_args(_TYPES[name])
    if value is None and optional:
        return None
    if typing.get_origin(_TYPES[name]) is Literal:
        options = [_TYPES[name]]
    if typing.get_origin(_TYPES[name]) is tuple:
        names = value.split(",") if isinstance(value, str) else value
        return tuple(str(n).strip() for n in names if str(n).strip())
    (hint,) = options
    if typing.get_origin(hint) is Literal:
        return one_of(name, str(value), [str(option) for option in typing.get_args(hint)])
    try:
        if name in DURATIONS:
            result: Any = seconds(value)
        elif hint is bool:
            result = {"true": True, "false": False}[str(value).lower()]
        elif hint is int and float(value) != int(float(value)):
            raise ValueError
        else:
            result = hint(float(value)) if hint is int else hint(value)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"{name} is {value!r}, expected {_WORDS[hint]}") from None
    if name in _POSITIVE and not 0 < result < float("inf"):
        raise SettingsError(f"{name} is {value!r}, expected a number above 0")
    if name == "dropout" and not 0 <= result < 1:
        raise SettingsError(f"dropout is {value!r}, expected a share from 0 to below 1")
    if name in ("clip", "weight_decay", "seed") and not 0 <= result < float("inf"):
        raise SettingsError(f"{name} is {value!r}, expected a number from 0 up")
    return result


_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a name", Path: "a path"}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
