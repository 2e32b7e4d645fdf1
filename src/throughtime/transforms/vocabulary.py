"""Tokens and characters as ids, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from throughtime.transforms._saved import CHARACTERS, NAMES, checked, saved


@dataclass(frozen=True)
class Vocabulary:
    """Tokens and their ids: 0 is any token that is not known, the others count from 1, frequent ones first.

    Args:
        tokens: those with ids from 1 on.

    Example:
        >>> vocabulary = Vocabulary.fit([["a", "b"], ["b"]])
        >>> len(vocabulary), vocabulary.encode(["a", "b", "c"])
        (3, array([2, 1, 0], dtype=int32))
    """

    tokens: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {token: number for number, token in enumerate(self.tokens, 1)})

    @classmethod
    def fit(cls, sequences: Iterable[Iterable[str]], min_count: int = 1, size: int | None = None) -> Vocabulary:
        """The tokens that occur at least ``min_count`` times, the most frequent first, equally frequent ones by alphabet.

        Args:
            sequences: the tokens of each training sequence.
            min_count: how often a token has to occur to be kept.
            size: most ids, that of unknown tokens included; any number if not given.
        """
        counts: Counter[str] = Counter()
        for sequence in sequences:
            counts.update(sequence)
        kept = sorted(
            (token for token, count in counts.items() if count >= min_count), key=lambda token: (-counts[token], token)
        )
        return cls(tuple(kept if size is None else kept[: max(size - 1, 0)]))

    def __len__(self) -> int:
        """The number of ids, that of unknown tokens included."""
        return len(self.tokens) + 1

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def encode(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """The ids of n tokens; int32 ``[n]``, 0 for those not known."""
        return np.fromiter((self._ids.get(token, 0) for token in tokens), np.int32, len(tokens))

    def decode(self, ids: Iterable[int], unknown: str = "<unknown>") -> list[str]:
        """The tokens of ids, ``unknown`` for id 0."""
        return [self.tokens[number - 1] if number else unknown for number in ids]

    def to_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        return saved("vocabulary", tokens=list(self.tokens))

    @classmethod
    def from_json(cls, data: Any) -> Vocabulary:
        """What ``to_json`` wrote.

        Raises:
            RunError: damaged, or of another kind or version.
        """
        return cls(tuple(checked(data, "vocabulary", tokens=NAMES)["tokens"]))


@dataclass(frozen=True)
class Characters:
    r"""Text as ids of its characters: 0 is any character not known, 1 the end of a document, the others follow by code point.

    Args:
        characters: those with ids from 2 on.

    Attributes:
        size: the number of ids.
        end: the id of the end of a document.

    Example:
        >>> codec = Characters.fit(["abba", "cab"])
        >>> codec.size, codec.encode("back?"), codec.decode([2, 3, 1])
        (5, array([3, 2, 4, 0, 0], dtype=int32), 'ab')
    """

    characters: str
    _table: NDArray[np.int32] = field(
        init=False, repr=False, compare=False
    )  # an id per code point; the last entry is beyond all known ones
    _codes: NDArray[np.uint32] = field(
        init=False, repr=False, compare=False
    )  # a code point per id; the end of a document has none

    end = 1

    def __post_init__(self) -> None:
        codes = _code_points(self.characters)
        table = np.zeros(int(codes.max(initial=0)) + 2, np.int32)
        table[codes] = np.arange(2, 2 + len(codes), dtype=np.int32)
        object.__setattr__(self, "_table", table)
        object.__setattr__(self, "_codes", np.concatenate([np.array([0xFFFD, 0], np.uint32), codes]))

    @classmethod
    def fit(cls, pieces: Iterable[str]) -> Characters:
        """The characters that occur in any of the pieces of text."""
        seen = np.zeros(0x110000, bool)
        for piece in pieces:
            seen[_code_points(piece)] = True
        return cls("".join(map(chr, np.flatnonzero(seen))))

    @property
    def size(self) -> int:
        """The number of ids."""
        return len(self._codes)

    def encode(self, text: str) -> NDArray[np.int32]:
        """The ids of n characters; int32 ``[n]``, 0 for those not known."""
        return self._table.take(_code_points(text), mode="clip")

    def unknown(self, text: str) -> list[str]:
        """Those characters of a text that are not known, in their order."""
        return [chr(code) for code in _code_points(text)[self.encode(text) == 0].tolist()]

    def decode(self, ids: ArrayLike) -> str:
        """The text of ids: U+FFFD for characters not known, nothing for the end of a document."""
        numbers = np.asarray(ids, np.int64)
        codes: bytes = self._codes[numbers[numbers != self.end]].astype("<u4").tobytes()
        return codes.decode("utf-32-le", "surrogatepass")

    def to_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        return saved("characters", characters=self.characters)

    @classmethod
    def from_json(cls, data: Any) -> Characters:
        """What ``to_json`` wrote.

        Raises:
            RunError: damaged, or of another kind or version.
        """
        return cls(checked(data, "characters", characters=CHARACTERS)["characters"])


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
