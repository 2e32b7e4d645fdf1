"""Where the lines of a figure go: data to coordinates of a small SVG, which the templates draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

from throughtime.report.formats import number, powers
from throughtime.report.timeline import time_ticks

WIDTH, HEIGHT = 360, 200
"""Of a figure: what a phone shows at full size, so that letters are as large there as in the text."""

POINTS = 240
"""The most points of a line: more are not seen at this width."""

LETTER = 5.8
"""The width of a letter at the size of the labels."""

RATES = 8
"""The fewest evaluations whose rates are drawn: what happens between fewer is not what a line through them shows."""

Numbers = Sequence[float | None]


@dataclass(frozen=True)
class Curve:
    """A line to draw.

    Attributes:
        name: for the legend.
        x: ``[n]``.
        y: ``[n]``; ``None`` and what is not finite leave a gap.
        look: the CSS class that colours it.
    """

    name: str
    x: Sequence[float]
    y: Numbers
    look: str


@dataclass(frozen=True)
class Mark:
    """A point to mark; without ``y`` a vertical line."""

    x: float
    y: float | None
    text: str
    label: str = ""


@dataclass(frozen=True)
class Band:
    """An interval around a line: ``[n]`` each."""

    name: str
    x: Sequence[float]
    lower: Numbers
    upper: Numbers


@dataclass(frozen=True)
class Tick:
    """A value named at an axis, and its place in the figure."""

    place: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Axis:
    """One axis: values from ``low`` to ``high`` lie from ``start`` to ``stop``, logarithmic or not."""

    low: float
    high: float
    log: bool
    start: float = 0.0
    stop: float = 1.0

    def place(self, value: float) -> float:
        """Where a value lies."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (self.stop - self.start) * (value - low) / (high - low), 1)


@dataclass(frozen=True)
class Figure:
    """All that a template needs to draw a figure; places in pixels of a box of ``width`` by ``height``."""

    title: str
    alt: str
    width: int
    height: int
    left: float
    top: float
    right: float
    bottom: float
    x_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[tuple[str, str, str]]
    """Look, name, and path of each."""
    band: tuple[str, str] | None
    """Name and path."""
    verticals: list[tuple[float, str, str]]
    """Place, label, and text of each."""
    circles: list[tuple[float, float, str]]
    """Places and text of each."""
    dots: list[tuple[float, float]] = field(default_factory=list)

    @staticmethod
    def alone(path: str) -> str:
        """Of a line the points without neighbours, which a line cannot show: a path, too."""
        return "".join(f"M{piece}" for piece in path.split("M")[1:] if "L" not in piece)


def figure(
    title: str,
    curves: Sequence[Curve],
    *,
    x_label: str,
    alt: str,
    band: Band | None = None,
    marks: Sequence[Mark] = (),
    dots: Sequence[tuple[float, float]] = (),
    x_ticks: Sequence[tuple[float, str]] | None = None,
    log: bool = False,
    square: bool = False,
) -> Figure | None:
    """Lay a figure out.

    Args:
        title: what stands above it.
        curves: its lines, the most important last (it is drawn on top).
        x_label: what runs from left to right.
        alt: what is to be seen, for those who cannot see it.
        band: an interval, drawn behind the lines.
        marks: points and vertical lines to mark.
        dots: points of a scatter, x and y.
        x_ticks: values and labels of the x axis; round numbers if not given.
        log: a logarithmic y axis where the values are positive and span a factor above 50.
        square: both axes alike.

    Returns:
        The figure, or ``None`` where there is no number to draw.
    """
    curves = [replace(curve, x=curve.x[: len(curve.y)], y=curve.y[: len(curve.x)]) for curve in curves]
    edges = [] if band is None else [band.lower, band.upper]
    values = _finite([*(y for c in curves for y in c.y), *(y for edge in edges for y in edge), *(y for _, y in dots)])
    across = _finite([*(x for c in curves for x in c.x), *(band.x if band else ()), *(x for x, _ in dots)])
    if not values or not across:
        return None
    if square:
        values = across = [*values, *across]
    log = log and min(values) > 0 and max(values) > 50 * min(values)
    y_axis = _axis(values, log=log, margin=0.04)
    x_axis = _axis(across, log=False, margin=0.04 if square else 0.0)
    y_named = _ticks(y_axis, 8)
    left = 8 + LETTER * max((len(label) for _, label in y_named), default=0)
    height = WIDTH if square else HEIGHT
    y_axis = replace(y_axis, start=height - 34, stop=10)
    x_axis = replace(x_axis, start=left, stop=WIDTH - 14)
    x_named = _ticks(x_axis, 8 if square else 5) if x_ticks is None else x_ticks
    at = _placer(x_axis, y_axis)
    return Figure(
        title=title,
        alt=alt,
        width=WIDTH,
        height=height,
        left=x_axis.start,
        right=x_axis.stop,
        top=y_axis.stop,
        bottom=y_axis.start,
        x_label=x_label,
        x_ticks=[_inside(x_axis.place(x), label) for x, label in x_named],
        y_ticks=[Tick(y_axis.place(y), label, "end") for y, label in y_named],
        lines=[(c.look, c.name, _path(_thinned(list(zip(c.x, c.y, strict=True))), at)) for c in curves],
        band=None if band is None else (band.name, _outline(band, at)),
        verticals=[(x_axis.place(m.x), m.label, m.text) for m in marks if m.y is None and x_axis.low <= m.x <= x_axis.high],
        circles=[(*at(m.x, m.y), m.text) for m in marks if m.y is not None and _drawable(m.y)],
        dots=[at(x, y) for x, y in dots if _drawable(x) and _drawable(y)],
    )


def curves(
    evaluations: Sequence[dict[str, Any]], notes: Sequence[dict[str, Any]], metric: str, label: str, best: int | None
) -> list[Figure]:
    """The course of training: loss, metric and rate against the updates.

    Args:
        evaluations: lines of metrics.jsonl.
        notes: its notes, marked in each figure by their number.
        metric: the validation score to draw beside the loss; ``"loss"`` or ``""`` for none.
        label: its name.
        best: the update whose weights were kept.
    """
    updates = [float(line["update"]) for line in evaluations]
    rates = [line.get("rate") if line["update"] else None for line in evaluations]  # before the first there is none
    scores = [line.get("valid") or {} for line in evaluations]
    verticals = [Mark(float(note["update"]), None, note["note"], str(i)) for i, note in enumerate(notes, 1)]
    kept = max((i for i, update in enumerate(updates) if update == best), default=None)

    def drawn(title: str, lines: list[Curve], *, log: bool = False, mark: bool = True) -> Figure | None:
        y = None if kept is None or not mark else lines[-1].y[kept]
        marks = [] if y is None or kept is None else [Mark(updates[kept], y, f"best: {number(y)} after {number(best)} updates")]
        ends = [f"{line.name} from {number(known[0])} to {number(known[-1])}" for line in lines if (known := _finite(line.y))]
        alt = f"{title} against updates: {'; '.join(ends)}."
        return figure(title, lines, x_label="updates", alt=alt, marks=[*verticals, *marks], log=log)

    drawings = [
        drawn(
            "Loss",
            [
                Curve("training", updates, [line.get("train_loss") for line in evaluations], "other"),
                Curve("validation", updates, [score.get("loss") for score in scores], "model"),
            ],
            log=True,
        )
    ]
    if metric not in ("", "loss"):
        drawings.append(drawn(label, [Curve("validation", updates, [score.get(metric) for score in scores], "model")]))
    if len(_finite(rates)) >= RATES:
        drawings.append(drawn("Learning rate", [Curve("rate", updates, rates, "plain")], log=True, mark=False))
    return shown(drawings)


def shown(figures: Iterable[Figure | None]) -> list[Figure]:
    """Those in which there is something to see.

    Args:
        figures: as :func:`figure` returned them.
    """
    return [figure for figure in figures if figure is not None]


def forecast(example: dict[str, Any], level: Any) -> Figure | None:
    """One forecast: the past, what came, the median with its interval, and the best baseline."""
    past, truth = list(example.get("past") or []), list(example.get("truth") or [])
    median = list(example.get("median") or [])
    steps, times = max(len(median), len(truth)), list(example.get("times") or [])
    past = past[-max(4 * steps, 24) :]  # the forecast is what is looked at: a long past would leave it no room
    ahead = [float(len(past) + i) for i in range(steps)]
    joined = [ahead[0] - 1, *ahead] if past and ahead else ahead
    last = past[-1:] if joined != ahead else []
    lower, upper = example.get("lower"), example.get("upper")
    interval = f"{number(100 * level, 3)} % interval" if isinstance(level, int | float) else "interval"
    rival = example.get("baseline") or {"name": "seasonal-naive", "value": example.get("seasonal_naive")}
    lines = [
        Curve("past", [float(i) for i in range(len(past))], past, "past"),
        Curve("truth", joined, [*last, *truth], "truth"),
        Curve(str(rival.get("name", "baseline")), ahead, list(rival.get("value") or []), "other dashed"),
        Curve("forecast", ahead, median, "model"),
    ]
    series = str(example.get("series", "forecast"))
    lines = [line for line in lines if line.y]
    return figure(
        series,
        lines,
        x_label="" if times else "steps",
        alt=f"Forecast of {series}, {steps} steps ahead: {', '.join(line.name for line in lines)}.",
        band=Band(interval, ahead, lower, upper) if lower and upper else None,
        x_ticks=_times(times[-(len(past) + steps) :], len(past) + steps) if times else None,
    )


def per_step(errors: dict[str, Numbers]) -> Figure | None:
    """The mean absolute error at each step ahead, of the model and the baselines."""
    others = [name for name in errors if name != "model"]
    looks = cycle(["other dashed", "third", "plain", "fourth dashed"])
    lines = [
        Curve(name, range(1, len(errors[name]) + 1), errors[name], look) for name, look in zip(others, looks, strict=False)
    ]
    lines += [Curve("model", range(1, len(errors["model"]) + 1), errors["model"], "model")] if "model" in errors else []
    return figure(
        "MAE by steps ahead", lines, x_label="steps ahead", alt=f"Mean absolute error by steps ahead of {', '.join(errors)}."
    )


def scatter(truth: Numbers, predicted: Numbers, limit: int = 1500) -> tuple[Figure | None, int]:
    """Predicted against true numbers with the diagonal; of many, evenly chosen ones. Also how many are drawn."""
    pairs = [
        (x, y) for x, y in zip(truth, predicted, strict=False) if x is not None and y is not None and _finite([x, y]) == [x, y]
    ]
    chosen = pairs if len(pairs) <= limit else [pairs[i * len(pairs) // limit] for i in range(limit)]
    both = [value for pair in chosen for value in pair]
    ends = [min(both), max(both)] if both else []
    drawing = figure(
        "Predicted against true",
        [Curve("predicted = true", ends, ends, "plain")],
        x_label="true",
        alt=f"Predicted against true values of {number(len(chosen))} sequences; a perfect model's lie on the diagonal.",
        dots=chosen,
        square=True,
    )
    return drawing, len(chosen)


def _drawable(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _finite(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None and _drawable(value)]


def _axis(values: list[float], *, log: bool, margin: float) -> Axis:
    low, high = min(values), max(values)
    if log:
        return Axis(low / 1.15, high * 1.15, log)
    room = margin * (high - low)
    if not low + 1e-12 * abs(low) < high:  # all the same: something must still lie between the ends
        room = 0.1 * abs(low) or 0.5
    return Axis(low - room, high + room, log)


def _ticks(axis: Axis, count: int) -> list[tuple[float, str]]:
    """Round values on an axis, about so many, and how they are written."""
    if axis.log:
        decades = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
        factors = (1, 2, 5) if axis.high < 200 * axis.low else (1,)
        every = max(1, -(-len(decades) // 6))
        round_values = [factor * 10.0**power for power in decades[::every] for factor in factors]
        within = [value for value in round_values if axis.low <= value <= axis.high]
        plain = all(1e-4 <= value < 1e9 for value in within)
        return [(value, f"{value:,.9g}" if plain else powers(f"{value:.0e}")) for value in within]
    span = axis.high - axis.low
    unit = 10.0 ** math.floor(math.log10(span / count))
    step = next(unit * factor for factor in (1, 2, 5, 10) if span / (unit * factor) <= count)
    first, last = math.ceil(axis.low / step - 1e-9), math.floor(axis.high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    largest = max(abs(axis.low), abs(axis.high))
    plain = 1e-4 <= largest < 1e7 and digits <= 6
    return [(i * step, f"{i * step:,.{digits}f}" if plain else powers(f"{i * step:.6g}")) for i in range(first, last + 1)]


def _inside(place: float, label: str) -> Tick:
    """A label under its tick, moved to one side where it would leave the figure."""
    half = LETTER * len(label) / 2
    return Tick(place, label, "start" if place < half else "end" if place + half > WIDTH else "middle")


def _times(times: list[Any], steps: int) -> list[tuple[float, str]]:
    """Some of the times; they may be those of the forecast alone, which are the last."""
    return [(float(steps - len(times) + place), label) for place, label in time_ticks(times, (WIDTH - 60) / LETTER)]


def _thinned(points: list[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """Fewer points, of each stretch the lowest and the highest: a spike is never lost."""
    if len(points) <= POINTS:
        return points
    kept = [points[0]]
    for i in range(POINTS // 2):
        stretch = points[i * len(points) * 2 // POINTS : (i + 1) * len(points) * 2 // POINTS]
        known = [(y, j) for j, (_, y) in enumerate(stretch) if y is not None and _drawable(y)]
        kept += [stretch[j] for j in sorted({min(known)[1], max(known)[1]})] if known else stretch[:1]
    return [*kept, points[-1]]


def _placer(x_axis: Axis, y_axis: Axis) -> Callable[[float, float], tuple[float, float]]:
    return lambda x, y: (x_axis.place(x), y_axis.place(y))


def _path(points: Sequence[tuple[float, float | None]], at: Callable[[float, float], tuple[float, float]]) -> str:
    """The line through points: broken where one is missing, and where training went back to an earlier update."""
    pieces, before, drawing = [], -math.inf, False
    for x, y in points:
        if y is None or not _drawable(y):
            drawing = False
            continue
        drawing = drawing and x >= before
        # A line of no length shows as a dot, since its ends are round: a point between two gaps is seen.
        pieces.append(("L{} {}" if drawing else "M{} {}h0").format(*at(x, y)))
        before, drawing = x, True
    return "".join(pieces)


def _outline(band: Band, at: Callable[[float, float], tuple[float, float]]) -> str:
    known = [(x, a, b) for x, a, b in zip(band.x, band.lower, band.upper, strict=False) if a is not None and b is not None]
    known = [point for point in known if _finite(point) == list(point)]
    return (
        _path([(x, b) for x, _, b in known], at) + "".join("L{} {}".format(*at(x, a)) for x, a, _ in reversed(known))
        if known
        else ""
    )
