"""Spans in tag sequences (BIO, IOB1, IOB2, IOBES, BILOU, BMES), read as the CoNLL evaluation reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Span = tuple[str, int, int]
"""The type, the first step, and the step after the last."""

_TAG = re.compile(r"O|[BIMELSU]-.+")
_PREFIX = {"L": "E", "U": "S", "M": "I"}
"""BILOU's and BMES's letters by those of IOBES."""


def looks_like_spans(tags: Iterable[str]) -> bool:
    """Whether tags mark spans: each is ``O``, or a letter, a hyphen and a type; or there are only ``B``, ``I`` and ``O``.

    Example:
        >>> looks_like_spans({"O", "B-PER", "I-PER"}), looks_like_spans({"NOUN", "O"}), looks_like_spans({"O"})
        (True, False, False)
    """
    kinds = set(tags)
    if {"B", "I"} <= kinds:
        return kinds <= {"B", "I", "O"}
    return bool(kinds - {"O"}) and all(_TAG.fullmatch(tag) for tag in kinds)


def spans(tags: Sequence[str]) -> list[Span]:
    """The spans of one sequence, also where its tags are malformed: an ``I-`` that continues nothing starts a span.

    Args:
        tags: ``[T]`` tags.

    Returns:
        The spans in order, each as type, first step, and the step after the last.

    Example:
        >>> spans(["B-PER", "I-PER", "O", "I-LOC", "I-ORG"])
        [('PER', 0, 2), ('LOC', 3, 4), ('ORG', 4, 5)]

    Source:
        The rules of ``conlleval`` (Tjong Kim Sang and Buchholz 2000), which seqeval's default mode follows too.
    """
    found: list[Span] = []
    start, before, kind_before = 0, "O", ""
    for step, tag in enumerate([*tags, "O"]):
        letter, _, kind = tag.partition("-")
        letter = _PREFIX.get(letter, letter)
        new = letter in "BSO" or before in "ESO" or kind != kind_before
        if new and before != "O":
            found.append((kind_before, start, step))
        if new:
            start = step
        before, kind_before = letter, kind
    return found
