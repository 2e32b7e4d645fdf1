"""How fitted transforms are written down as JSON, and checked when they are read back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from throughtime.errors import RunError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Check:
    """What a value has to be: in words, and as a test."""

    expected: str
    holds: Callable[[Any], bool]


def saved(kind: str, **values: Any) -> dict[str, Any]:
    """What ``to_json`` returns: the values with the kind of the transform and the version of the format."""
    return {"kind": kind, "format_version": FORMAT_VERSION, **values}


def checked(data: Any, kind: str, **checks: Check) -> dict[str, Any]:
    """The values that ``saved`` was given, once everything about them is as it must be.

    Args:
        data: what was read from JSON.
        kind: the transform it has to be of.
        checks: per value that has to be there, what it has to be.

    Raises:
        RunError: another kind or version, a value that is missing, unknown or wrong.
    """
    if not isinstance(data, dict):
        raise RunError(
            f"{kind}: found {type(data).__name__}, expected a JSON object; the file is damaged or of another program"
        )
    if data.get("kind") != kind:
        raise RunError(f"{kind}: found an object of kind {data.get('kind')!r}; the file is damaged or of another program")
    if data.get("format_version") != FORMAT_VERSION:
        raise RunError(
            f"{kind}: format_version is {data.get('format_version')!r}, this version of throughtime reads {FORMAT_VERSION}; "
            "use the version that wrote it"
        )
    values = {name: value for name, value in data.items() if name not in ("kind", "format_version")}
    if values.keys() != checks.keys():
        odd = sorted(map(str, values.keys() ^ checks.keys()))
        raise RunError(f"{kind}: {', '.join(odd)} {'is' if len(odd) == 1 else 'are'} missing or unknown; the file is damaged")
    for name, check in checks.items():
        if not check.holds(values[name]):
            raise RunError(f"{kind}: {name} is not {check.expected}; the file is damaged")
    return values


NAMES = Check(
    "a list of different texts",
    lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value) and len(set(value)) == len(value),
)
CHARACTERS = Check("a text of different characters", lambda value: isinstance(value, str) and len(set(value)) == len(value))
TEXT = Check("a text", lambda value: isinstance(value, str))
NUMBERS = Check("a list of finite numbers", lambda value: isinstance(value, list) and all(map(_finite, value)))
TRUTH = Check("true or false", lambda value: isinstance(value, bool))
COUNT = Check("a whole number above 0", lambda value: type(value) is int and value > 0)
POSITIVE = Check("a finite number above 0", lambda value: _finite(value) and value > 0)
OBJECT = Check("an object", lambda value: isinstance(value, dict))


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and -math.inf < value < math.inf
