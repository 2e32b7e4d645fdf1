"""Text into words, and words into what a model sees of them: an id, their letters, their shape."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from throughtime.transforms._saved import COUNT, OBJECT, checked, saved
from throughtime.transforms.vocabulary import Vocabulary

# A word is what is neither space nor punctuation nor a sign, since \w leaves out the vowel signs of many scripts.
_SIGNS = (
    r"!-/:-@\[-\^`{-~\x00-\x1f\x7f-©«-±´¶-¸»¿×÷؊-؍؛-؟٪-٭۔।॥\u2010-\u2027\u2030-\u206f\u20a0-\u2bff\u3000-\u303f"
    r"\ufe30-\ufe6f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\ufffd\U0001f000-\U0001faff"
)
# Scripts without spaces, of which each character is a word.
_ALONE = r"\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = rf"[^\s{_SIGNS}{_ALONE}]"
_TOKEN = re.compile(
    r"(?:https?://|www\.)[^\s<>\"]*[^\s<>\"'.,;:!?)\]}]"
    rf"|{_WORD}+(?:['’]{_WORD}+|(?<=\d)[.,]\d{_WORD}*)*"
    rf"|[{_ALONE}]"
    rf"|((?!\s)[{_SIGNS}])\1*"
)


def words(text: str) -> list[str]:
    """The words of a text, signs apart: a word keeps its apostrophes, a number its points, a URL all; a repeated sign is one.

    Example:
        >>> words("Don't pay $1,000.50... see https://a.org/b!")
        ["Don't", 'pay', '$', '1,000.50', '...', 'see', 'https://a.org/b', '!']
    """
    return [match[0] for match in _TOKEN.finditer(text)]


def shape(word: str) -> str:
    """How a word is written: X for capitals, x for other letters, d for digits, and its signs; what repeats is written twice.

    Example:
        >>> [shape(word) for word in ("Hello", "iPhone", "USA", "I", "1984", "3.5", "e-mail")]
        ['Xxx', 'xXxx', 'XX', 'X', 'dd', 'd.d', 'x-xx']
    """
    letters = "".join("X" if c.isupper() else "d" if c.isdigit() else "x" if c.isalpha() else c for c in word)
    return re.sub(r"(.)\1+", r"\1\1", letters, flags=re.DOTALL)


@dataclass(frozen=True)
class WordFeatures:
    """What is known of any word, also of one never seen: its id, and hashed features of its letters and its shape.

    The letters are all runs of 3, 4 and 5 characters of ``<word>`` in lower case, and its first and its last two. Since
    ``<`` and ``>`` stand for its borders, those at the ends are its prefixes and suffixes of 1 to 4 letters. Different
    features may share a bucket.

    Args:
        vocabulary: the words that have an id of their own.
        buckets: the number of ids of features.

    Example:
        >>> features = WordFeatures.fit([["the", "cat"], ["the", "hat"]])
        >>> word_ids, feature_ids, offsets = features.lookup(["the", "The", "cat"])
        >>> word_ids, offsets
        (array([1, 1, 0], dtype=int32), array([ 0,  9, 18, 27]))

    Source: Bojanowski, Grave, Joulin and Mikolov 2017, arXiv:1607.04606, for the runs of characters.
    """

    vocabulary: Vocabulary
    buckets: int = 2**15

    @classmethod
    def fit(cls, sequences: Iterable[Iterable[str]], min_count: int = 2, buckets: int = 2**15) -> WordFeatures:
        """Ids for the words that occur at least ``min_count`` times, so that a model also learns to do without.

        Args:
            sequences: the words of each training sequence.
            min_count: how often a word has to occur for an id of its own.
            buckets: the number of ids of features.
        """
        return cls(Vocabulary.fit(sequences, min_count), buckets)

    def lookup(self, words: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """What is known of n words; give each word once, and reuse what comes back.

        Args:
            words: n words.

        Returns:
            word_ids: int32 ``[n]``: of the word as it is written, else of its lower case, else 0.
            feature_ids: int32: those of the first word, then those of the second, and so on; each in ``[0, buckets)``.
            offsets: int64 ``[n + 1]``: those of word i are ``feature_ids[offsets[i]:offsets[i + 1]]``, at least two.
        """
        word_ids = self.vocabulary.encode([word if word in self.vocabulary else word.lower() for word in words])
        spelled = [f"<{word.lower()}>" for word in words]
        codes = np.frombuffer("".join(spelled).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
        sizes = np.fromiter(map(len, spelled), np.int64, len(spelled))
        ends = np.cumsum(sizes)
        owner = np.repeat(np.arange(len(words)), sizes)
        place = np.arange(len(codes)) - (ends - sizes)[owner]  # of each character within its word
        left = ends[owner] - np.arange(len(codes))  # characters from each to the end of its word, itself included

        shapes = np.fromiter(
            (zlib.crc32(shape(word).encode("utf-8", "surrogatepass")) for word in words), np.uint64, len(words)
        )
        owners, hashes = [np.arange(len(words))], [shapes]
        for length in (2, 3, 4, 5):
            starts = np.flatnonzero(left >= length if length > 2 else (left >= 2) & ((place == 0) | (left == 2)))
            value = np.full(len(starts), 0xCBF29CE484222325, np.uint64)  # FNV-1a, over characters in place of bytes
            for step in range(length):
                value = (value ^ codes[starts + step]) * np.uint64(0x100000001B3)
            owners.append(owner[starts])
            hashes.append(value ^ (value >> np.uint64(32)))
        owner = np.concatenate(owners)
        order = np.argsort(owner, kind="stable")
        feature_ids = (np.concatenate(hashes)[order] % np.uint64(self.buckets)).astype(np.int32)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(words)))]).astype(np.int64)
        return word_ids, feature_ids, offsets

    def to_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        return saved("words", buckets=self.buckets, vocabulary=self.vocabulary.to_json())

    @classmethod
    def from_json(cls, data: Any) -> WordFeatures:
        """What ``to_json`` wrote.

        Raises:
            RunError: damaged, or of another kind or version.
        """
        values = checked(data, "words", buckets=COUNT, vocabulary=OBJECT)
        return cls(Vocabulary.from_json(values["vocabulary"]), values["buckets"])
