"""The drawing of a network unrolled over its words: where each box, arrow and number stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeVar
from unicodedata import east_asian_width

import numpy as np

from throughtime.report.notation import short_number
from throughtime.textbook import Explanation

STEPS = 12
"""The most steps that are all shown; of more, the first and the last."""
ENDS = (3, 5)
"""How many of the first and of the last."""

COLUMN, BOX = 112, 62
"""Width of a step, and of its box."""
LEFT = 26.0
"""Where the first box begins: a long word is wider than it."""
LETTERS = 15
"""The most of a word, in narrow letters."""
_LINE = 13

T = TypeVar("T")


@dataclass(frozen=True)
class Text:
    """A name or a number, at a place.

    Attributes:
        x: of its anchor.
        y: of its baseline.
        text: a name in the page's notation, or a number.
        look: a CSS class.
        at: what a script finds it by, for a number.
        anchor: which part of it stands at ``x``.
    """

    x: float
    y: float
    text: str
    look: str = ""
    at: str = ""
    anchor: str = "middle"


@dataclass(frozen=True)
class Drawing:
    """All that a template needs to draw it.

    Attributes:
        width: of the box it is drawn in.
        height: of the same.
        alt: what is to be seen.
        boxes: x, y, width, height, and look of each.
        arrows: from x, y to x, y, and look of each.
        texts: names, numbers and words.
    """

    width: int
    height: int
    alt: str
    boxes: list[tuple[float, float, float, float, str]] = field(default_factory=list)
    arrows: list[tuple[float, float, float, float, str]] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)


def ends(items: Sequence[T], most: int = STEPS) -> list[T | None]:
    """All of few items; of many the first and the last, ``None`` between.

    Example:
        >>> ends([1, 2, 3]), ends(range(100))
        ([1, 2, 3], [0, 1, 2, None, 95, 96, 97, 98, 99])
    """
    head, tail = ENDS
    return list(items) if len(items) <= most else [*items[:head], None, *items[-tail:]]


def unrolled(found: Explanation) -> Drawing:
    """Draw the network of an explanation with the numbers of its first pass: forward, and back.

    Args:
        found: the explanation.
    """
    network, update = found.network, found.updates[0]
    hidden, lone = network.hidden, network.hidden * network.cell.gate_count == 1
    steps = ends(range(1, network.steps + 1))
    tall = 26 + _LINE * hidden
    top = 24 + _LINE * (hidden + 1)
    middle, bottom = top + tall / 2, top + tall + 66
    drawing = Drawing(
        width=int(2 * LEFT) + COLUMN * (len(steps) + 1) + BOX,
        height=int(bottom + tall + 30),
        alt=(
            f"The network unrolled: {network.steps} words, each with its number x_t, go up into the outputs O_t; each output "
            f"goes on to the next; the last makes the prediction {short_number(update.y_hat)}, and this the loss "
            f"{short_number(update.loss)}. Above each output stands the gradient that comes back to it."
        ),
    )
    texts, boxes, arrows = drawing.texts, drawing.boxes, drawing.arrows

    def box(x: float, y: float, name: str, value: Any, look: str, at: str = "") -> None:
        boxes.append((x, y, BOX, tall, look))
        texts.append(Text(x + BOX / 2, y + 17, name, "name"))
        numbers(x + BOX / 2, y + 17 + _LINE, value, at or name)

    def numbers(x: float, y: float, value: Any, at: str, look: str = "", anchor: str = "middle") -> None:
        for line, number in enumerate(np.ravel(value)):
            texts.append(Text(x, y + _LINE * line, short_number(number), f"number {look}".strip(), at, anchor))

    def edge(x: float, name: str, at: str) -> None:
        """The arrow into the box at ``x`` from the one before it, with its weight."""
        arrows.append((x - COLUMN + BOX, middle, x, middle, "model"))
        texts.append(Text(x - (COLUMN - BOX) / 2, middle - 8, name, "name"))
        if name and lone:
            numbers(x - (COLUMN - BOX) / 2, middle + 17, update.parameters[name], at)

    for column, t in enumerate(steps):
        x = LEFT + column * COLUMN
        centre = x + BOX / 2
        if t is None:
            arrows.append((x - COLUMN + BOX, middle, x, middle, "model"))
            texts += [Text(centre, middle - 3, f"… {network.steps - sum(ENDS):,}"), Text(centre, middle + 11, "more …")]
            continue
        weight, past = network.input_weight(t), network.recurrent_weight(t)
        if past:
            edge(x, past, f"w^{t - 1}")
        box(x, top, f"O_{t}", update.steps[t - 1].output, "model")
        box(x, bottom, f"x_{t}", found.x[t - 1], "plain")
        arrows.append((centre, bottom, centre, top + tall, "model"))
        texts.append(Text(centre + 5, top + tall + 30, weight, "name", anchor="start"))
        if lone:
            numbers(centre + 5, top + tall + 30 + _LINE, update.parameters[weight], f"w_{t}", anchor="start")
        texts.append(Text(centre, bottom + tall + 17, _word(found.words[t - 1]), "word", f"word_{t}"))
        texts.append(Text(centre, 14, f"dL/dO_{t}", "name back"))
        numbers(centre, 16 + _LINE, update.state_gradients[t - 1][:hidden], f"dL/dO_{t}", "back")
    last, end = f"w^{network.steps}", LEFT + len(steps) * COLUMN
    edge(end, last, last)
    box(end, top, "y^", update.y_hat, "model")
    arrows.append((end + BOX, middle, end + COLUMN, middle, "model"))
    box(end + COLUMN, top, "L", update.loss, "other")
    texts.append(Text(end + COLUMN + BOX / 2, top + tall + 17, f"y = {found.y}", "name"))
    texts.append(Text(end + BOX / 2, 14, "dL/dy^", "name back"))
    numbers(end + BOX / 2, 16 + _LINE, update.factors.prediction, "dL/dy^", "back")
    return drawing


def _word(text: str) -> str:
    """As much of a word as fits under a box; letters of the far east are twice as wide."""
    wide = [*accumulate(2 if east_asian_width(letter) in "WF" else 1 for letter in text)]
    return text if not wide or wide[-1] <= LETTERS else text[: sum(width < LETTERS for width in wide)] + "…"
