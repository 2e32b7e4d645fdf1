"""How a word becomes a number that can be checked by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from throughtime.reference import Array

RULE = {
    1: "x_t is the word's place in the alphabetical list of the sentence's different words, divided by how many there are",
    2: (
        "x_t is (the word's place in the alphabetical list of the sentence's different words, divided by how many there are; "
        "its letters, divided by those of the longest word)"
    ),
}
"""The rule, by how many numbers a word is to have. Words are what stands between blanks, as they stand there: ``film,`` and
``Film`` are words of their own, and capitals come first in the alphabet."""


def vectors(words: Sequence[str], width: int) -> Array:
    """A vector for each word, by :data:`RULE`: the same for the same word, whatever the order of the words.

    Args:
        words: T of them, at least one.
        width: numbers in a vector, 1 or 2.

    Returns:
        ``[T, width]``, every number above 0 and at most 1.

    Example:
        >>> vectors("the film was not good".split(), 1).ravel().tolist()
        [0.8, 0.2, 1.0, 0.6, 0.4]
    """
    alphabet = sorted(set(words))
    place = {word: (number + 1) / len(alphabet) for number, word in enumerate(alphabet)}
    longest = max(map(len, words))
    return np.array([(place[word], len(word) / longest)[:width] for word in words])
