"""Everything the lesson shows, measured in one go: the textbook page's statements, one after another."""

from __future__ import annotations

import dataclasses
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

import throughtime
from throughtime.data.files import plural
from throughtime.data.records import Sequences
from throughtime.experiments import learning, optimizers, order, reach
from throughtime.experiments.lags import ADDING
from throughtime.experiments.statements import Statement, statements
from throughtime.textbook import Explanation, explain
from throughtime.textbook.chain import factors, gradients
from throughtime.textbook.network import forward
from throughtime.textbook.updates import NONLINEARITIES

SENTENCE = ("simply", "good", "not", "bad")
"""Four words, as on the page: x_1 to x_4."""
EXCHANGED = ("simply", "bad", "not", "good")
"""The same words, two of them exchanged: another meaning."""
LABEL = "positive"
ADDED = ("sigmoid", "tanh", "ReLU, identity", "GRU", "LSTM, forget bias 1")
"""The networks that learn the adding problem too."""
ADDING_UPDATES = 800
"""Those that GRU and LSTM needed for it on two seeds, and some more."""
UPDATES = 100
"""Of the sentence's network, by either optimizer."""
STEPS = 30
"""T of the task that networks learn: so long that some reach back to its beginning, and some do not."""

COST_WIDTH, COST_HIDDEN = 32, 32
"""Numbers for a word, and units of the hidden layer, of the networks whose cost is measured."""
POSITIONS = tuple(round(-1 + 0.05 * place, 2) for place in range(51))
"""Of the page's slider: powers of ten that the recurrent weights are multiplied by."""

Progress = Callable[[str, float], None]
"""Called with a short sentence as each part begins, and the fraction done."""


@dataclass(frozen=True)
class Scaled:
    """How much of the gradient comes back through the sentence's network, its recurrent weights multiplied by a number.

    Attributes:
        tied: whether all steps share their weights.
        scales: what the weights were multiplied by.
        left: |dL/dO_1| over |dL/dO_T| with each.
    """

    tied: bool
    scales: list[float]
    left: list[float]


@dataclass(frozen=True)
class Lesson:
    """What was measured, in the order of the page.

    Attributes:
        seed: of everything that is drawn.
        sentence: through the page's own network: sigmoid, a set of weights for each step, SGD.
        adagrad: the same sentence and weights, updated by Adagrad.
        cases: the sentence and the exchanged one in every setting that can be chosen: what a script must compute too.
        scaled: what comes back of the gradient when the recurrent weights are scaled; without and with shared ones.
        only_order: networks compared where only order decides.
        packages: the same on sentences of Python's documentation.
        characters: the same on what comes next in a source text.
        two_sentences: of the same words, through the networks trained where only order decides.
        cost: of the networks against the number of words.
        cost_sizes: of those networks: numbers for a word, and hidden units.
        steps: T of the task that networks learned.
        starts: how far back the gradient reaches in fresh networks.
        learned: the same while they learn temporal order.
        added: some of them while they learn the adding problem.
        clipped: an LSTM that explodes, without and with clipping.
        statements: what textbooks say of the gradient, judged by these numbers.
        rates: Adagrad's rate for a frequent and a rare word, beside other optimizers.
        disadvantage: where that rate comes to be too small.
        seconds: that each part took.
        machine: what it ran on.
    """

    seed: int
    sentence: Explanation
    adagrad: Explanation
    cases: tuple[Explanation, ...]
    scaled: tuple[Scaled, Scaled]
    only_order: order.Comparison
    packages: order.Comparison
    characters: order.Comparison
    two_sentences: order.TwoSentences
    cost: order.Cost
    cost_sizes: tuple[int, int]
    steps: int
    starts: list[reach.Reach]
    learned: list[learning.Learning]
    added: list[learning.Learning]
    clipped: tuple[learning.Learning, learning.Learning]
    statements: list[Statement]
    rates: optimizers.Rates
    disadvantage: optimizers.Disadvantage
    seconds: Mapping[str, float]
    machine: str

    def as_json(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and maps."""
        found: dict[str, Any] = _plain(self)
        return found


def lesson(seed: int = 0, progress: Progress = lambda part, done: None) -> Lesson:
    """Measure every statement of the textbook page on recurrent networks.

    Takes about two minutes on two cores.

    Args:
        seed: of everything that is drawn: weights, data, the order of batches.
        progress: told of each part as it begins.

    Returns:
        The numbers; :func:`throughtime.report.lesson.render_lesson` makes a page of them.

    Raises:
        SettingsError: the seed is below 0.
    """
    timer = _Timer(progress)
    timer.begin("one sentence, forward and back", 0.0)
    sentence = explain(SENTENCE, LABEL, updates=UPDATES, seed=seed)
    adagrad = explain(SENTENCE, LABEL, optimizer="adagrad", updates=UPDATES, seed=seed)
    cases, scales = playground(seed), (scaled(seed, tied=False), scaled(seed, tied=True))
    timer.begin("networks where only order decides", 0.01)
    problem = order.order_only(seed=seed)
    only_order, networks = _compared(problem, (seed, seed + 1, seed + 2), timer.within(0.01, 0.15))
    test = problem.parts.test
    assert isinstance(test, Sequences), "these are sentences"
    asked = {name: one.fitted for name, one in networks.items() if name != order.CONTROL}
    said = order.two_sentences(asked, test.inputs[:2], test.targets[:2])  # one, and its mirror
    timer.begin("networks on Python's documentation", 0.17)
    packages, _ = _compared(order.which_package(seed=seed), (seed,), timer.within(0.17, 0.31))
    timer.begin("networks on what comes next in a text", 0.33)
    characters, _ = _compared(order.next_character(), (seed,), timer.within(0.33, 0.45))
    timer.begin("cost against the number of words", 0.46)
    cost = order.cost_against_length(width=COST_WIDTH, hidden=COST_HIDDEN)
    timer.begin("how far the gradient reaches at the start", 0.465)
    starts = reach.at_initialisation(seed)
    timer.begin("how far the gradient reaches while learning", 0.47)
    learned = learning.while_training(seed, steps=STEPS, progress=timer.part(0.47, 0.72))
    added = learning.while_training(
        seed, names=ADDED, task=ADDING, updates=ADDING_UPDATES, steps=STEPS, progress=timer.part(0.72, 0.88)
    )
    clipped = learning.clipping(seed, steps=STEPS, progress=timer.part(0.88, 0.91))
    judged = statements(starts, learned, clipped)
    timer.begin("Adagrad and the other optimizers", 0.91)
    rates, disadvantage = optimizers.rates(seed=seed), optimizers.disadvantage(seed=seed)
    timer.begin("done", 1.0)
    return Lesson(
        seed=seed,
        sentence=sentence,
        adagrad=adagrad,
        cases=cases,
        scaled=scales,
        only_order=only_order,
        packages=packages,
        characters=characters,
        two_sentences=said,
        cost=cost,
        cost_sizes=(COST_WIDTH, COST_HIDDEN),
        steps=STEPS,
        starts=starts,
        learned=learned,
        added=added,
        clipped=clipped,
        statements=judged,
        rates=rates,
        disadvantage=disadvantage,
        seconds=timer.seconds,
        machine=(
            f"throughtime {throughtime.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
            f"{platform.machine()}, {plural(torch.get_num_threads(), 'thread')}"
        ),
    )


def playground(seed: int = 0) -> tuple[Explanation, ...]:
    """The sentence and the exchanged one, with each activation, with weights of their own for every step and with shared ones.

    Args:
        seed: of the weights.
    """
    settings = product((SENTENCE, EXCHANGED), (False, True), NONLINEARITIES)
    return tuple(explain(words, LABEL, nonlinearity=f, tied=tied, updates=1, seed=seed) for words, tied, f in settings)


def scaled(seed: int = 0, *, tied: bool) -> Scaled:
    """Scale the recurrent weights of the sentence's sigmoid network, as the page's slider does, and follow the gradient back.

    Args:
        seed: of the weights.
        tied: share the weights of all steps.

    Example:
        >>> found = scaled(tied=False)
        >>> len(found.scales), found.scales[20], found.left[20] < 0.001
        (51, 1.0, True)
    """
    first = explain(SENTENCE, LABEL, tied=tied, updates=1, seed=seed)
    network, weights = first.network, first.updates[0].parameters
    recurrent = {network.recurrent_weight(t) for t in range(2, network.steps + 1)}
    scales, left = [10.0**power for power in POSITIONS], []
    for scale in scales:
        parameters = {name: scale * value if name in recurrent else value for name, value in weights.items()}
        steps, y_hat, _ = forward(network, first.x, parameters)
        _, states = gradients(network, factors(network, first.x, parameters, steps, y_hat - first.y))
        left.append(abs(float(states[0][0]) / float(states[-1][0])) if states[-1][0] else 0.0)
    return Scaled(tied, scales, left)


def _compared(
    problem: order.Problem, seeds: Sequence[int], say: Callable[[str], None]
) -> tuple[order.Comparison, dict[str, order.Trained]]:
    """Networks trained on a problem and compared; and those of the first seed."""
    runs = {}
    for seed in seeds:
        say(f"training an order-blind, a flattened and a recurrent network, seed {seed}")
        runs[seed] = order.trained(problem, seed)
    return order.compare(problem, runs), runs[seeds[0]]


class _Timer:
    """Says what begins, and keeps how long each part took."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._part: tuple[str, float] | None = None

    def begin(self, part: str, done: float) -> None:
        now = time.monotonic()
        if self._part is not None:
            self.seconds[self._part[0]] = round(now - self._part[1], 2)
        self._part = (part, now)
        self._progress(part, done)

    def part(self, start: float, stop: float) -> Progress:
        """Progress of a part that counts from 0 to 1."""
        return lambda said, done: self._progress(said, start + (stop - start) * done)

    def within(self, start: float, stop: float) -> Callable[[str], None]:
        """Progress of a part that does not know how far it is: each word of it goes half of what is left."""
        place = start

        def say(said: str) -> None:
            nonlocal place
            self._progress(said, place)
            place += (stop - place) / 2

        return say


def _plain(value: Any) -> Any:
    """A record as JSON can hold it: what is not finite, such as the loss of a run that diverged, is ``None``."""
    if isinstance(value, Explanation):
        return value.as_json()
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
