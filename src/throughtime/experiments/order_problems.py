"""Where order decides, and where it hardly does: the data that :mod:`throughtime.experiments.order` compares networks on.

One set is made so that nothing but order tells the classes apart; the others are text that is on every machine with Python.
"""

from __future__ import annotations

import ast
import dataclasses
import random
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb
from pathlib import Path
from typing import Any

from throughtime.data.records import Sequences
from throughtime.data.split import Parts
from throughtime.errors import DataError, SettingsError
from throughtime.settings import Settings
from throughtime.transforms import words

ACTORS = ("dog", "man")
FILLERS = (
    *("the", "a", "old", "young", "big", "small", "brown", "quiet", "bites", "sees", "hears", "meets", "likes", "fears"),
    *("today", "often", "never", "here"),
)
"""Words of the sentences in which only order decides."""

PACKAGES = ("asyncio", "email", "multiprocessing", "unittest")
"""Packages of Python's standard library whose docstrings are told apart."""


@dataclass(frozen=True)
class Problem:
    """Data in parts, and how networks are trained on it.

    Attributes:
        parts: training, validation and test part; ``groups`` of the test part tell which sequences belong together.
        settings: of the fit, the task among them.
        blocks: what the groups are, in words; intervals are over these.
    """

    parts: Parts
    settings: Settings
    blocks: str


def order_only(pairs: int = 300, words: int = 6, seed: int = 0, **settings: Any) -> Problem:
    """Sentences whose class is which of two words comes first; each has its mirror, with the two exchanged, in the same part.

    A network that is blind to order gives both sentences of a pair the same class, and so is right in exactly one of them.

    Args:
        pairs: different ones; 60 % are for training, 20 % for validation, 20 % for the test.
        words: of a sentence, T, at least 2: the two and others, at random places.
        seed: of the sentences.
        settings: of the fit, beside those chosen here.

    Raises:
        SettingsError: too few pairs to divide, too few words, or fewer different pairs than asked for.

    Example:
        >>> problem = order_only(pairs=10, words=4)
        >>> first, mirror = problem.parts.test.inputs[:2]
        >>> sorted(first) == sorted(mirror), problem.parts.test.targets[:2]
        (True, ['dog first', 'man first'])
    """
    if words < 2 or pairs < 5:
        raise SettingsError(f"order_only: found {pairs} pairs of {words} words, expected at least 5 of at least 2; give more")
    there_are = comb(words, 2) * len(FILLERS) ** (words - 2)
    if pairs > there_are:
        raise SettingsError(
            f"order_only: {words} words make {there_are:,} different pairs, {pairs:,} are asked for; give more words"
        )
    chance, found = random.Random(seed), dict[tuple[str, ...], None]()
    while len(found) < pairs:
        first, second = sorted(chance.sample(range(words), 2))
        sentence = chance.choices(FILLERS, k=words)
        sentence[first], sentence[second] = ACTORS
        found[tuple(sentence)] = None
    mirror = dict(zip(ACTORS, ACTORS[::-1], strict=True))
    inputs = [[exchange.get(word, word) for word in sentence] for sentence in found for exchange in ({}, mirror)]
    everything = Sequences(
        "words",
        inputs,
        targets=[f"{actor} first" for actor in ACTORS] * pairs,
        groups=[str(row // 2) for row in range(2 * pairs)],
        target_name="class",
    )
    chosen = {"task": "classify", "hidden": 16, "bidirectional": False, "dropout": 0.0, "lr": 0.01, "batch": 32, "epochs": 30}
    cuts = (0, 2 * (pairs * 3 // 5), 2 * (pairs * 4 // 5), 2 * pairs)
    rows = [range(start, stop) for start, stop in pairwise(cuts)]
    return Problem(_parts(everything, rows), Settings.of({**chosen, **settings}), "pairs of sentences")


def which_package(packages: Sequence[str] = PACKAGES, seed: int = 0, folder: Path | None = None, **settings: Any) -> Problem:
    """Sentences from docstrings of Python's standard library; the class is the package. Words tell it, their order hardly.

    Args:
        packages: names of packages.
        seed: of the division; a docstring is in one part as a whole.
        folder: where the packages are; Python's own library if not given.
        settings: of the fit, beside those chosen here.

    Raises:
        DataError: a package that is not there, or without docstrings.
    """
    sentences, labels, places = list[str](), list[str](), list[str]()
    for package in packages:
        for place, docstring in _docstrings(_library(folder) / package):
            for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n", docstring):
                if len(sentence.split()) >= 4:
                    sentences.append(" ".join(sentence.split()))
                    labels.append(package)
                    places.append(place)
    names = sorted(set(places))
    random.Random(seed).shuffle(names)
    order = {name: number / len(names) for number, name in enumerate(names)}
    everything = Sequences("text", sentences, targets=labels, groups=places, target_name="package")
    rows = [
        [row for row, place in enumerate(places) if start <= order[place] < stop]
        for start, stop in ((0, 0.7), (0.7, 0.8), (0.8, 1))
    ]
    chosen = {"task": "classify", "hidden": 32, "dropout": 0.5, "lr": 5e-3, "batch": 32, "epochs": 8}
    return Problem(_parts(everything, rows), Settings.of({**chosen, **settings}), "docstrings")


def next_character(package: str = "asyncio", characters: int = 120_000, folder: Path | None = None, **settings: Any) -> Problem:
    """The source of a package of Python's standard library, character by character: what comes next hangs on order.

    Args:
        package: its name.
        characters: how many are taken, of whole modules in the order of their names; the last fifth is the test part, a tenth
            before it the validation part.
        folder: where the package is; Python's own library if not given.
        settings: of the fit, beside those chosen here.

    Raises:
        DataError: no such package, or fewer characters than asked for.
    """
    text = "".join(file.read_text(encoding="utf-8") for file in _modules(_library(folder) / package))[:characters]
    if len(text) < characters:
        raise DataError(f"{_library(folder) / package}: found {len(text):,} characters, expected {characters:,}; ask for fewer")
    cuts = [0, characters * 7 // 10, characters * 8 // 10, characters]
    pieces = Sequences("text", [text[start:stop] for start, stop in pairwise(cuts)])
    chosen = {"task": "lm", "hidden": 96, "dropout": 0.0, "lr": 5e-3, "batch": 16, "bptt": 64, "epochs": 6}
    return Problem(_parts(pieces, [[0], [1], [2]]), Settings.of({**chosen, **settings}), "stretches of text")


def shuffled(problem: Problem, seed: int = 0) -> Problem:
    """The same words in each sentence, in an order of chance: what a network still learns of it is not due to order.

    Args:
        problem: with sentences, as text or as lists of words.
        seed: of the orders.

    Example:
        >>> problem = order_only(pairs=10)
        >>> one, other = problem.parts.train.inputs[0], shuffled(problem).parts.train.inputs[0]
        >>> one == other, sorted(one) == sorted(other)
        (False, True)
    """
    chance = random.Random(seed)

    def mixed(part: Any) -> Sequences:
        assert isinstance(part, Sequences)
        sentences = [words(x) if isinstance(x, str) else x for x in part.inputs]
        return dataclasses.replace(
            part, kind="words", inputs=[chance.sample(sentence, len(sentence)) for sentence in sentences]
        )

    parts = problem.parts
    return dataclasses.replace(problem, parts=Parts(mixed(parts.train), mixed(parts.valid), mixed(parts.test), "", []))


def _parts(everything: Sequences, rows: Sequence[Sequence[int]]) -> Parts:
    training, valid, test = (everything.take(some) for some in rows)
    return Parts(training, valid, test, "", [])


def _library(folder: Path | None) -> Path:
    return folder or Path(sysconfig.get_path("stdlib"))


def _modules(package: Path) -> list[Path]:
    """Its source files, tests left out."""
    files = [file for file in sorted(package.rglob("*.py")) if not {"test", "tests"} & set(file.relative_to(package).parts)]
    if not files:
        raise DataError(f"{package} holds no Python source; name another package of the standard library")
    return files


def _docstrings(package: Path) -> Iterator[tuple[str, str]]:
    """Of every module, class and function: where it stands, and the text."""
    for file in _modules(package):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if docstring := ast.get_docstring(node):
                yield f"{package.name}/{file.relative_to(package)} {getattr(node, 'name', '')}", docstring
