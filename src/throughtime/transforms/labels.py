"""Class names as ids, and back."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.errors import DataError
from throughtime.transforms._saved import NAMES, checked, saved


@dataclass(frozen=True)
class Labels:
    """Class names and their ids, in natural order: ``10`` comes after ``9``.

    Args:
        names: the classes in the order of their ids.

    Example:
        >>> labels = Labels.fit(["9", "10", "9"])
        >>> labels.names, labels.encode(["10", "9"]), labels.decode([1])
        (('9', '10'), array([1, 0]), ['10'])
    """

    names: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {name: number for number, name in enumerate(self.names)})

    @classmethod
    def fit(cls, names: Iterable[str]) -> Labels:
        """The classes that occur."""
        return cls(tuple(natural(set(names))))

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, names: Sequence[str], origin: Callable[[int], str] = "item {}".format) -> NDArray[np.int64]:
        """The ids of class names.

        Args:
            names: n of them.
            origin: where one comes from, for errors: ``sequences.origin``.

        Returns:
            int64 ``[n]``.

        Raises:
            DataError: a name that did not occur in training.
        """
        ids = np.fromiter((self._ids.get(name, -1) for name in names), np.int64, len(names))
        if (unknown := np.flatnonzero(ids < 0)).size:
            name = names[unknown[0]]
            near = get_close_matches(name, self.names, 1)
            known = ", ".join(self.names[:10]) + (", ..." if len(self) > 10 else "")
            raise DataError(
                f"{origin(int(unknown[0]))}: {name!r} is no class of the training data; "
                + (f"did you mean {near[0]!r}?" if near else f"known are {known}; correct it or leave it out")
                + (f" ({unknown.size:,} such in all)" if unknown.size > 1 else "")
            )
        return ids

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The names of ids."""
        return [self.names[number] for number in ids]

    def to_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        return saved("labels", names=list(self.names))

    @classmethod
    def from_json(cls, data: Any) -> Labels:
        """What ``to_json`` wrote.

        Raises:
            RunError: damaged, or of another kind or version.
        """
        return cls(tuple(checked(data, "labels", names=NAMES)["names"]))


def natural(names: Iterable[str]) -> list[str]:
    """Names sorted as people do: numbers by size, also those within names.

    Example:
        >>> natural(["b10", "b9", "a"]), natural(["1", "-2", "0.5"])
        (['a', 'b9', 'b10'], ['-2', '0.5', '1'])
    """
    names = list(names)
    try:
        values = {name: float(name) for name in names}
    except ValueError:
        values = {}
    if values and all(map(math.isfinite, values.values())):
        return sorted(names, key=lambda name: (values[name], name))

    def key(name: str) -> tuple[list[tuple[str, int, str]], str]:
        # Digits compare by length without leading zeros, then by value; int() would refuse thousands of them.
        parts = re.split("([0-9]+)", name)
        digits = [part.lstrip("0") for part in [*parts[1::2], ""]]
        return [(between, len(number), number) for between, number in zip(parts[::2], digits, strict=True)], name

    return sorted(names, key=key)
