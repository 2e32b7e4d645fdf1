"""The lesson: the textbook page's statements beside what was measured, as one page to read, to play with, and to print."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from throughtime.report import explanation, told
from throughtime.report.figures import Curve, Figure, Mark, Numbers, figure, shown
from throughtime.report.formats import powers
from throughtime.report.notation import short_number
from throughtime.report.unrolled import BOX, COLUMN, LEFT
from throughtime.store import write_bytes

if TYPE_CHECKING:  # the lesson is measured in a layer below this one, which is handed its record
    from throughtime.experiments.lesson import Lesson
    from throughtime.experiments.optimizers import TrackingRun

LOOKS = ("model", "other", "third", "fourth", "plain", "model dashed", "other dashed", "third dashed", "fourth dashed")
"""Of lines that are shown together."""
FLOOR, CEILING = 1e-8, 1e8
"""What is left of a gradient is drawn between these: beyond, nobody could tell lines apart."""
DRAWN = ("sigmoid", "tanh", "ReLU, large", "ReLU, identity", "LSTM", "LSTM, forget bias 1")
"""The networks whose gradient is drawn; the table has all."""
NAMES = {
    "order-blind network": "order-blind ANN",
    "flattened network": "ANN with an input per word",
    "recurrent, shuffled": "recurrent, words shuffled",
}
"""What the compared networks are called on the page, where it is another name than in the record."""
WINDOW = 25
"""Updates that a loss is averaged over where single ones would only show noise."""
WIDE = 30
"""Width of a bar."""
POWERS = (-8, 8)
"""The bars' least and largest power of ten."""


def write_lesson(lesson: Lesson, path: Path) -> None:
    """Write the lesson's page, whole or not at all.

    Args:
        lesson: what :func:`throughtime.experiments.lesson.lesson` measured.
        path: where to.

    Raises:
        RunError: the page cannot be written, with the reason.
    """
    write_bytes(path, render_lesson(lesson).encode("utf-8", "replace"))


def render_lesson(lesson: Lesson) -> str:
    """The lesson as a self-contained HTML page; its one script is inline, and nothing is loaded.

    Without the script, and in print, the numbers of the start stand in place of the controls.

    Args:
        lesson: what :func:`throughtime.experiments.lesson.lesson` measured.
    """
    script = Path(__file__).with_name("templates").joinpath("lesson.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return explanation.template("lesson.html.jinja").render(
        **explanation.view(lesson.sentence),
        lesson=lesson,
        names=NAMES,
        script=Markup(script),  # ours, and allowed by its checksum alone
        digest=digest,
        numbers=Markup(json.dumps(_playground(lesson), allow_nan=False).replace("<", "\\u003c")),
        bars=_bars(lesson),
        costs=_costs(lesson),
        comparisons=_comparisons(lesson),
        reached=_reached(lesson),
        learned=_learned(lesson),
        judged=_judged(lesson),
        told=told,
        gates={name: explanation.equations(name.lower()) for name in ("LSTM", "GRU")},
        clipped=_clipped(lesson),
        adagrad=_adagrad(lesson),
        rates=_rates(lesson),
        disadvantage=_disadvantage(lesson),
    )


@dataclass(frozen=True)
class Bars:
    """Places of the bars under the drawing: how much gradient comes back to each step, a power of ten from line to line.

    Attributes:
        right: where the lines end; their labels stand beyond.
        wide: width of a bar.
        height: of the box it is drawn in.
        top: where the largest power lies.
        bottom: where the least lies.
        low: the least power.
        high: the largest.
        lines: place and label.
        bars: x, y and height of each.
        labels: x and name.
        alt: what is to be seen.
    """

    right: float
    wide: float
    height: int
    top: float
    bottom: float
    low: int
    high: int
    lines: list[tuple[float, str]]
    bars: list[tuple[float, float, float]]
    labels: list[tuple[float, str]]
    alt: str


def _bars(lesson: Lesson) -> Bars:
    update = lesson.sentence.updates[0]
    top, bottom, (low, high) = 12.0, 120.0, POWERS
    unit = (bottom - top) / (high - low)
    sizes = [abs(float(state[0])) for state in update.state_gradients]
    bars = []
    for column, size in enumerate(sizes):
        tall = unit * min(high - low, max(0.0, math.log10(size) - low)) if size else 0.0
        bars.append((LEFT + column * COLUMN + (BOX - WIDE) / 2, bottom - tall, tall))
    return Bars(
        right=COLUMN * (len(sizes) + 1) - 34,
        wide=WIDE,
        height=146,
        top=top,
        bottom=bottom,
        low=low,
        high=high,
        lines=[(bottom - unit * (power - low), powers(f"1e{power:+}")) for power in range(low, high + 1, 4)],
        bars=bars,
        labels=[(LEFT + BOX / 2 + column * COLUMN, f"dL/dO_{column + 1}") for column in range(len(sizes))],
        alt="The size of the gradient at each output, as a bar: " + ", ".join(short_number(size) for size in sizes),
    )


def _playground(lesson: Lesson) -> dict[str, Any]:
    """What the script starts from, and what it must agree with."""
    first = lesson.sentence
    cases = [
        {
            "words": list(case.words),
            "tied": case.network.tied,
            "nonlinearity": case.network.cell.nonlinearity,
            "outputs": [float(step.output[0]) for step in case.updates[0].steps],
            "gradients": [float(state[0]) for state in case.updates[0].state_gradients],
            "y_hat": case.updates[0].y_hat,
            "loss": case.updates[0].loss,
        }
        for case in lesson.cases
    ]
    weights = {
        "tied" if case.network.tied else "untied": {k: float(v.ravel()[0]) for k, v in case.updates[0].parameters.items()}
        for case in lesson.cases
    }
    x = {word: float(number[0]) for word, number in zip(first.words, first.x, strict=True)}
    return {"words": list(first.words), "x": x, "y": first.y, "weights": weights, "cases": cases}


def _costs(lesson: Lesson) -> list[Figure]:
    cost = lesson.cost
    kinds = (
        ("Parameters", cost.parameters, 1.0),
        ("Milliseconds per sequence, forward and back", cost.seconds, 1.0),
        (f"Kilobytes for {cost.batch} sequences", cost.bytes, 1e-3),
    )
    drawn = []
    for title, of, unit in kinds:
        lines = [(NAMES.get(name, name), [unit * value for value in of[name]]) for name in cost.networks]
        drawn.append(_lines(title, range(len(cost.words)), lines, "words", [f"{count:,}" for count in cost.words]))
    return shown(drawn)


def _comparisons(lesson: Lesson) -> list[dict[str, Any]]:
    """The three problems: of each network its difference to the recurrent one, and what order is worth to that."""
    actors = " or ".join(f"“{name.split()[0]}”" for name in lesson.two_sentences.classes)
    kinds = (
        (
            "Only order decides",
            lesson.only_order,
            f"Which of two words comes first, {actors}? The other words do not count. Every sentence has its mirror, "
            "the two words exchanged, of the other class: a network that cannot see the order gives both the same answer, "
            "and is right in one of them.",
        ),
        (
            "Real text: which package?",
            lesson.packages,
            "Which package of Python's library is a sentence of the documentation from?",
        ),
        ("Real text: which character?", lesson.characters, "Python source code: which character comes next?"),
    )
    problems = []
    for title, compared, question in kinds:
        gaps = {difference.other: difference for difference in compared.differences}
        rows = [(contender, gaps.get(contender.name)) for contender in compared.contenders]
        unit = "accuracy" if compared.higher_is_better else "nats per character, lower is better"
        problems.append(
            {
                "title": title,
                "question": question,
                "unit": unit,
                "rows": rows,
                "of": compared,
                "notes": told.order(compared, NAMES),
            }
        )
    return problems


def _reached(lesson: Lesson) -> Figure | None:
    lines = []
    for reach in lesson.starts:
        if reach.name in DRAWN:
            left = [None if log is None else math.exp(min(log, 700.0)) for log in reach.left]
            lines.append((reach.name, [v if v is not None and FLOOR <= v <= CEILING else None for v in left]))
    return _lines(
        "What is left of the gradient, before the first update", range(len(lines[0][1])), lines, "steps back", log=True
    )


def _learned(lesson: Lesson) -> list[Figure]:
    runs = lesson.learned
    updates = max((run.updates for run in runs), key=len)
    accuracy = _lines("Accuracy", updates, [(run.name, run.accuracy) for run in runs], "updates")
    horizon = _lines(
        "Horizon: steps back with 1 % of the gradient left", updates, [(run.name, run.horizon) for run in runs], "updates"
    )
    return shown([accuracy, horizon])


def _judged(lesson: Lesson) -> list[dict[str, Any]]:
    """The statements with their verdicts: where only some of the networks agree, a statement holds not always."""
    judged = []
    for statement in lesson.statements:
        gains = [
            value for name, value in statement.measured.items() if value is not None and name.startswith("log gain of a step,")
        ]
        mixed = len(gains) == len(statement.measured) and min(gains, default=0.0) < 0 < max(gains, default=0.0)
        verdict = "Holds here" if statement.holds else "Not always" if mixed else "Does not hold here"
        judged.append({"of": statement, "verdict": verdict, "correction": "" if statement.holds else statement.correction})
    return judged


def _clipped(lesson: Lesson) -> list[Figure]:
    runs = lesson.clipped
    names = ["without clipping", "with clipping"]
    updates = max((run.updates for run in runs), key=len)
    accuracy = [(name, run.accuracy) for name, run in zip(names, runs, strict=True)]
    largest = [(name, run.largest_gradient) for name, run in zip(names, runs, strict=True)]
    return shown(
        [
            _lines("Accuracy", updates, accuracy, "updates"),
            _lines("Largest gradient, before clipping", updates, largest, "updates", log=True),
        ]
    )


def _adagrad(lesson: Lesson) -> dict[str, Any]:
    """Two weights of the sentence's network under Adagrad: the values of one, and the graph of both."""
    found, network = lesson.adagrad, lesson.sentence.network
    name, out = network.input_weight(network.steps), network.output_weight
    updates = list(range(1, len(found.updates) + 1))
    sums = [float(update.sums[name].ravel()[0]) for update in found.updates]
    rates, others = ([float(update.rates[weight].ravel()[0]) for update in found.updates] for weight in (name, out))
    gradients = [float(update.gradients[name].ravel()[0]) for update in found.updates]
    in_effect = [("SGD: α of all", [lesson.sentence.alpha] * len(updates))]
    in_effect += [(f"Adagrad: αₜ¹ of {told.plain(weight)}", of) for weight, of in ((name, rates), (out, others))]
    table = [row for row in zip(updates, gradients, sums, rates, strict=True) if row[0] in (1, 2, 3, 10, len(updates))]
    losses = [("SGD", lesson.sentence.losses), ("Adagrad", found.losses)]
    return {
        "name": name,
        "table": table,
        "figures": shown(
            [
                _lines(f"αₜ of {told.plain(name)}", updates, [("Adagrad", sums)], "updates"),
                _lines("The important graph: the rate in effect", updates, in_effect, "updates", log=True),
                _lines("Loss of the sentence", range(len(found.losses)), losses, "updates"),
            ]
        ),
    }


def _rates(lesson: Lesson) -> list[Figure]:
    """The rates in effect of a frequent and a rare word, and the losses."""
    runs = {run.optimizer: run for run in lesson.rates.runs}
    updates = range(1, lesson.rates.updates + 1)
    adagrad, sgd = runs["Adagrad"], runs["SGD"]
    words = (("frequent", adagrad.frequent), ("rare", adagrad.rare))
    sums: list[tuple[str, Numbers]] = [(f"{kind}: {of.word}", of.alpha_t) for kind, of in words]
    rates: list[tuple[str, Numbers]] = [("SGD: α", [sgd.alpha] * len(updates))]
    rates += [(f"{kind}: {of.word}", of.rate) for kind, of in words]
    others: list[tuple[str, Numbers]] = [(name, run.frequent.rate) for name, run in runs.items()]
    losses: list[tuple[str, Numbers]] = [(name, run.losses) for name, run in runs.items()]
    return shown(
        [
            _lines("Adagrad's αₜ", updates, sums, "updates", log=True),
            _lines("Adagrad's αₜ¹", updates, rates, "updates", log=True),
            _lines(f"The rate for “{adagrad.frequent.word}”", updates, others, "updates", log=True),
            _lines("Loss, nats per word", *_smooth(updates, losses), "updates"),
        ]
    )


def _disadvantage(lesson: Lesson) -> list[Figure]:
    found = lesson.disadvantage
    moves = [Mark(float(move), None, f"the target changes sign at update {move}") for move in found.moves]

    def pair(kind: str, runs: Sequence[TrackingRun], marks: Sequence[Mark]) -> list[Figure | None]:
        updates = range(1, len(runs[0].losses) + 1)
        losses: list[tuple[str, Numbers]] = [(run.optimizer, run.losses) for run in runs]
        rates: list[tuple[str, Numbers]] = [(run.optimizer, run.rate) for run in runs]
        return [
            _lines(f"{kind}: squared error", *_smooth(updates, losses), "updates", log=True, marks=marks),
            _lines(f"{kind}: rate in effect", updates, rates, "updates", log=True),
        ]

    spike = [Mark(float(found.spike_at), None, f"a gradient {found.spike:g} times too large")]
    return shown([*pair("The target moves", found.moving, moves), *pair("After one spike", found.spiked, spike)])


def _lines(
    title: str,
    x: Sequence[float],
    lines: Sequence[tuple[str, Numbers]],
    x_label: str,
    x_names: Sequence[str] | None = None,
    *,
    log: bool = False,
    marks: Sequence[Mark] = (),
) -> Figure | None:
    """Lines over one axis, each with a look of its own, and where each begins and ends in words."""
    ends = []
    for name, values in lines:
        known = [value for value in values if value is not None]
        if known:
            ends.append(f"{name} from {short_number(known[0], 3)} to {short_number(known[-1], 3)}")
    return figure(
        title,
        [Curve(name, x, values, look) for (name, values), look in zip(lines, cycle(LOOKS), strict=False)],
        x_label=x_label,
        alt=f"{title}, by {x_label}: {'; '.join(ends)}.",
        x_ticks=None if x_names is None else [(float(place), name) for place, name in zip(x, x_names, strict=True)],
        log=log or x_names is not None,
        marks=marks,
    )


def _smooth(x: Sequence[float], lines: Sequence[tuple[str, Numbers]]) -> tuple[list[float], list[tuple[str, Numbers]]]:
    """Means over :data:`WINDOW` updates each, at the last of them."""
    stops = range(WINDOW, len(x) + 1, WINDOW)

    def mean(values: Numbers, stop: int) -> float | None:
        known = [value for value in values[stop - WINDOW : stop] if value is not None]
        return sum(known) / len(known) if known else None

    return [x[stop - 1] for stop in stops], [(name, [mean(values, stop) for stop in stops]) for name, values in lines]
