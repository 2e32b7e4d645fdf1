"""Everything that can be set of a fit, in one place: command line, TOML files, estimators and config.json read it from here.

A field that is ``None`` is decided by the task from its data when the fit starts; what was decided is written to the run's
config.json. What a field may hold, and what it is for, is its metadata.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from throughtime.errors import SettingsError

TASKS = ("classify", "tag", "regress", "forecast", "lm")
KINDS = {"text": "text", "words": "words", "numeric": "numbers", "sound": "sound"}
"""What sequences are made of, and what messages call it."""

_INF = float("inf")


@dataclass(frozen=True)
class Bounds:
    """The numbers that a field may hold.

    Attributes:
        words: the same for messages.
        hold: whether a number is one of them.
    """

    words: str
    hold: Callable[[float | Decimal], bool]


def _whole(low: int, high: int = 2**31 - 1) -> Bounds:
    return Bounds(f"a whole number from {low:,} to {high:,}", lambda number: low <= number <= high)


_POSITIVE = Bounds("a number above 0", lambda number: 0 < number < _INF)
_NOT_NEGATIVE = Bounds("a number from 0 up", lambda number: 0 <= number < _INF)
_SHARE = Bounds("a share from 0 to below 1", lambda number: 0 <= number < 1)


def _of(
    default: Any,
    help: str,
    bounds: Bounds | None = None,
    *,
    tasks: Sequence[str] = TASKS,
    kinds: Sequence[str] = tuple(KINDS),
    when: tuple[str, str] | None = None,
) -> Any:
    """A field.

    Args:
        default: what it is if it is not given.
        help: what it is, in a phrase.
        bounds: of a number.
        tasks: that it means something to.
        kinds: of sequences that it means something to, where the task learns from sequences.
        when: another field and what that must be for this one to mean something.
    """
    return field(default=default, metadata={"help": help, "bounds": bounds, "tasks": tasks, "kinds": kinds, "when": when})


_LABELLED = ("classify", "tag", "regress")
_NUMBERS = ("numeric",)


@dataclass(frozen=True)
class DataSettings:
    """What is read, and how it is divided."""

    task: Literal["auto", "classify", "tag", "regress", "forecast", "lm"] = _of("auto", "what to learn; guessed from the data")
    valid: Path | None = _of(None, "data to choose and to stop by; a tenth of the training data if not given")
    test: Path | None = _of(None, "data scored once, at the end; a tenth of the data if neither --valid nor --test is given")
    split_column: str | None = _of(None, "column that holds train, valid or test")
    group: str | None = _of(
        None,
        "column whose values are kept together when splitting (speaker, patient, author)",
        tasks=("classify", "tag", "regress", "lm"),
    )
    target: str | None = _of(None, "column to predict", tasks=(*_LABELLED, "forecast"))
    text: str | None = _of(None, "column with text", tasks=("classify", "regress", "lm"))
    path: str | None = _of(None, "column with the path of a sound file, relative to the table", tasks=("classify", "regress"))
    id: str | None = _of(None, "column that tells sequences or series apart", tasks=(*_LABELLED, "forecast"), kinds=_NUMBERS)
    time: str | None = _of(None, "column with the time or the step", tasks=(*_LABELLED, "forecast"), kinds=_NUMBERS)
    features: tuple[str, ...] = _of(
        (), "columns to use as input, separated by commas; all numeric ones if not given", tasks=_LABELLED, kinds=_NUMBERS
    )
    documents: Literal["line", "file"] | None = _of(None, "what one document is", tasks=("lm",))
    tokens: Literal["word", "char", "bpe"] | None = _of(
        None,
        "what one step of a text is: word for labelled text, char for lm",
        tasks=("classify", "regress", "lm"),
        kinds=("text",),
    )
    bpe_size: int = _of(
        4000,
        "number of BPE tokens",
        _whole(257, 1_000_000),  # the 256 bytes and the end of a document; beyond, the library reserves more than there is
        tasks=("classify", "regress", "lm"),
        kinds=("text",),
        when=("tokens", "bpe"),
    )
    missing: Literal["error", "interpolate", "mask"] = _of(
        "error", "what to do with missing numbers", tasks=(*_LABELLED, "forecast"), kinds=_NUMBERS
    )
    class_weight: Literal["balanced"] | None = _of(None, "rare classes weigh more in the loss", tasks=("classify",))


@dataclass(frozen=True)
class ForecastSettings:
    """What a forecast is asked for."""

    horizon: int | None = _of(None, "steps to forecast; one season if not given", _whole(1), tasks=("forecast",))
    window: int | None = _of(None, "steps of the past that the model sees", _whole(1), tasks=("forecast",))
    season: int | None = _of(None, "steps in a season; from the frequency if not given", _whole(1), tasks=("forecast",))
    past: tuple[str, ...] = _of((), "columns known only up to now", tasks=("forecast",))
    future: tuple[str, ...] = _of((), "columns known in advance", tasks=("forecast",))
    static: tuple[str, ...] = _of((), "columns that do not change within a series", tasks=("forecast",))


@dataclass(frozen=True)
class ModelSettings:
    """The network."""

    cell: Literal["rnn", "lstm", "gru"] | None = _of(None, "the recurrent cell")
    hidden: int | None = _of(None, "units in each direction of each layer", _whole(1, 65_536))
    layers: int | None = _of(None, "recurrent layers", _whole(1, 100))
    bidirectional: bool | None = _of(None, "also run from the end to the beginning")
    nonlinearity: Literal["tanh", "relu", "sigmoid", "identity"] = _of("tanh", "of the simple RNN", when=("cell", "rnn"))
    dropout: float | None = _of(None, "share of units left out in training", _SHARE)
    init: str | None = _of(None, "initialisation of the recurrent weights: torch, orthogonal, identity, forget_bias, chrono")
    untied: bool = _of(False, "weights of their own for every step, as the textbook writes them (sequences of one length only)")
    embeddings: Path | None = _of(
        None, "word vectors to start from: a text file with a word and its numbers in each line", tasks=_LABELLED
    )


@dataclass(frozen=True)
class TrainingSettings:
    """How it is trained."""

    optimizer: str | None = _of(None, "any optimizer of torch.optim, by name")
    lr: float | None = _of(None, "learning rate", _POSITIVE)
    weight_decay: float | None = _of(None, "weight decay, given to the optimizer", _NOT_NEGATIVE)
    schedule: Literal["constant", "linear", "cosine", "plateau"] | None = _of(None, "how the rate changes over training")
    clip: float | None = _of(None, "largest norm of the gradient; 0 for no clipping", _NOT_NEGATIVE)
    batch: int | None = _of(None, "sequences in a batch", _whole(1))
    bptt: int | None = _of(None, "steps that a gradient goes back; the state is carried on beyond", _whole(1), tasks=("lm",))
    epochs: int | None = _of(None, "most passes over the training data", _whole(1))
    time_budget: float | None = _of(None, "about how long to train: 90s, 5m, 2h", _POSITIVE)
    patience: int | None = _of(None, "evaluations without improvement after which to stop", _whole(1))
    seed: int = _of(0, "of everything random", _whole(0, 2**64 - 1))
    device: Literal["auto", "cpu", "cuda"] = _of("auto", "where to compute")
    save_every: float = _of(30.0, "time between checkpoints: 30s, 5m", _POSITIVE)
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
            SettingsError: an unknown name (the nearest is suggested), one that is there twice, or a value that its field cannot
                have.
        """
        flat: dict[str, Any] = {}
        for name, value in values.items():
            if name in SECTIONS and isinstance(value, Mapping):
                unknown = [key for key in value if _key(key) not in _FIELDS or _FIELDS[_key(key)] != name]
                if unknown:
                    raise _unknown(unknown[0], [key for key, section in _FIELDS.items() if section == name])
                given = [(_key(key), inner) for key, inner in value.items()]
            elif name in SECTIONS:
                raise SettingsError(
                    f"{name} is {value!r}, expected a section of settings; in TOML a line [{name}] and its settings below"
                )
            elif _key(name) in _FIELDS:
                given = [(_key(name), value)]
            else:
                raise _unknown(name, [*_FIELDS, *SECTIONS])
            for key, inner in given:
                if key in flat:
                    raise SettingsError(f"{key} is set twice, as {flat[key]!r} and as {inner!r}; leave one out")
                flat[key] = inner
        return (base or cls()).replace(**flat)

    def replace(self, **values: Any) -> Settings:
        """A copy with these fields changed, each checked."""
        sections = {name: dict[str, Any]() for name in SECTIONS}
        for name, value in values.items():
            if name not in _FIELDS:
                raise _unknown(name, list(_FIELDS))
            sections[_FIELDS[name]][name] = checked_setting(name, value)
        return dataclasses.replace(
            self, **{name: dataclasses.replace(getattr(self, name), **new) for name, new in sections.items() if new}
        )

    def refuse_unused(self, kind: str | None = None) -> None:
        """Raise where something was set that would change nothing.

        Args:
            kind: of the sequences, one of :data:`KINDS`; ``None`` for time series.

        Raises:
            SettingsError: a field that is not as by default, and means nothing to the task, to what it learns from, or beside
                another field as that is set (one that is still open does not count).

        Example:
            >>> Settings.of({"task": "classify", "horizon": 7}).refuse_unused()
            Traceback (most recent call last):
                ...
            throughtime.errors.SettingsError: --horizon is for forecast; this is classify: leave it out, or give --task forecast
        """
        values = {f.name: (f, getattr(section, f.name)) for section in vars(self).values() for f in dataclasses.fields(section)}
        task = self.data.task
        for name, (described, value) in values.items():
            if value == described.default:
                continue
            flag, about = f"--{name.replace('_', '-')}", described.metadata
            if task not in about["tasks"]:
                other = f", or give --task {about['tasks'][0]}" if len(about["tasks"]) == 1 else ""
                raise SettingsError(f"{flag} is for {_either(about['tasks'])}; this is {task}: leave it out{other}")
            if kind is not None and kind not in about["kinds"]:
                served = _either([KINDS[one] for one in about["kinds"]])
                raise SettingsError(f"{flag} is for {served}; the data is {KINDS[kind]}: leave it out")
            if about["when"] is not None:
                condition, wanted = about["when"]
                found = values[condition][1]
                if found not in (None, wanted):
                    condition = f"--{condition.replace('_', '-')}"
                    raise SettingsError(
                        f"{flag} is for {condition} {wanted}; this is {condition} {found}: leave it out, or give "
                        f"{condition} {wanted}"
                    )

    def as_json(self) -> dict[str, dict[str, Any]]:
        """By section and field name, with nothing but what JSON has."""
        return {
            name: {key: _plain(value) for key, value in dataclasses.asdict(getattr(self, name)).items()} for name in SECTIONS
        }


_FIELDS = {f.name: name for name, section in SECTIONS.items() for f in dataclasses.fields(section)}
_TYPES = {name: hint for section in SECTIONS.values() for name, hint in typing.get_type_hints(section).items()}
_BOUNDS = {f.name: f.metadata["bounds"] for section in SECTIONS.values() for f in dataclasses.fields(section)}


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


def checked_setting(name: str, value: Any) -> Any:
    """A value as its field wants it.

    Args:
        name: of the field.
        value: as it came: of the type of the field, or as text.

    Raises:
        SettingsError: a value that the field cannot have.

    Example:
        >>> checked_setting("hidden", "64"), checked_setting("features", "x, y"), checked_setting("seed", 9007199254740993)
        (64, ('x', 'y'), 9007199254740993)
    """
    options = typing.get_args(_TYPES[name]) if typing.get_origin(_TYPES[name]) in _UNIONS else (_TYPES[name],)
    if value is None and type(None) in options:
        return None
    hint = next(option for option in options if option is not type(None))
    origin, bounds = typing.get_origin(hint), _BOUNDS[name]
    if origin is Literal:
        return one_of(name, str(value), typing.get_args(hint))
    kind = origin or hint
    try:
        result = seconds(value) if name in DURATIONS else _AS[kind](value)
        if bounds is not None and not bounds.hold(result):
            raise ValueError
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"{name} is {value!r}, expected {bounds.words if bounds else _WORDS[kind]}") from None
    return int(result) if kind is int else result


def _number(value: Any) -> Decimal:
    """A whole number, not by way of a float, which would round a large one."""
    number = Decimal(str(value))
    if number % 1:
        raise ValueError
    return number


def _name(value: Any) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise ValueError
    return str(value)


def _names(value: Any) -> tuple[str, ...]:
    """Names in a list, or divided by commas."""
    if not isinstance(value, str):
        if isinstance(value, Mapping) or not isinstance(value, Iterable):
            raise ValueError
        return tuple(_name(name) for name in value)
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names:
        raise ValueError
    return names


_UNIONS = (typing.Union, types.UnionType)
_AS: dict[Any, Callable[[Any], Any]] = {
    int: _number,
    float: lambda value: float(str(value)),  # as text, True is no number
    bool: lambda value: {"true": True, "false": False}[str(value).lower()],
    str: _name,
    Path: lambda value: value if isinstance(value, Path) else Path(_name(value)),
    tuple: _names,
}
_WORDS = {bool: "true or false", str: "a name", Path: "a path", tuple: "names, divided by commas or in a list"}


def _either(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
