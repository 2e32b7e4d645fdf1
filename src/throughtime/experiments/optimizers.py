"""What Adagrad's rate does over time, for a frequent word and a rare one, and where that becomes a disadvantage.

Every number is what :func:`throughtime.train.optim_trace.optim_trace` or the loss measured. Every optimizer starts from the
same weights, sees the same batches and tries the same number of rates, a factor of about three apart; the run shown is its
best. Everything but the rate is as torch.optim has it by default.
"""

from __future__ import annotations

import inspect
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from throughtime.errors import SettingsError
from throughtime.nn import RNN
from throughtime.train.optim_trace import OptimTrace, WeightTrace, optim_trace, plain

RATES: dict[str, tuple[float, ...]] = {
    "SGD": (0.3, 1.0, 3.0, 10.0),
    "Adagrad": (0.03, 0.1, 0.3, 1.0),
    "RMSprop": (0.003, 0.01, 0.03, 0.1),
    "Adam": (0.003, 0.01, 0.03, 0.1),
}
"""The optimizers compared, and the rates each tries on the words."""

TRACKING_RATES: dict[str, tuple[float, ...]] = {
    "SGD": (0.03, 0.1, 0.3, 1.0),
    "Adagrad": (0.3, 1.0, 3.0, 10.0),
    "RMSprop": (0.03, 0.1, 0.3, 1.0),
    "Adam": (0.1, 0.3, 1.0, 3.0),
}
"""The rates each tries on the target that moves."""

CONTEXT = 4
"""T: words that the next one is guessed from."""

START = "<s>"
"""Stands before the first word of a sentence."""

FEATURES = 8
"""Inputs of the target that moves."""

NOISE = 0.5
"""Standard deviation of what nobody can learn of the target: a squared error of 0.25 is the least there is."""

PERIOD = 100
"""Updates from one move of the target to the next."""

TUNED = 2 * PERIOD
"""Updates on which the rates are compared: as in practice, where nobody tries every rate for as long as training will last."""

SPIKE_AT = 5
"""The update, counted from 1, whose gradient is out of all proportion."""

SPIKE = 1000.0
"""How many times too large it is."""

Values = list[float | None]
"""One number per update; ``None`` where there is none."""


@dataclass(frozen=True)
class WeightRates:
    """One weight of a word's embedding under one optimizer.

    Attributes:
        word: whose embedding it is.
        count: how often it occurs in the text.
        touched: how many of the updates had a gradient for it.
        alpha_t: what the optimizer had summed up; ``None`` before the first gradient, and for SGD, which sums up nothing.
        rate: alpha_t^1, the rate in effect; ``None`` before the first gradient.
    """

    word: str
    count: int
    touched: int
    alpha_t: Values
    rate: Values


@dataclass(frozen=True)
class WordRun:
    """One optimizer's best run on the words.

    Attributes:
        optimizer: its name in torch.optim.
        alpha: the rate that was set, the best of those tried.
        tried: each rate tried, and the mean loss of the last fifth of the updates with it (infinite if it diverged).
        losses: of each update's batch, in nats per word.
        frequent: a weight of the most frequent word.
        rare: a weight of a rare one.
    """

    optimizer: str
    alpha: float
    tried: dict[float, float]
    losses: list[float]
    frequent: WeightRates
    rare: WeightRates


@dataclass(frozen=True)
class Rates:
    """All optimizers on the words.

    Attributes:
        task: what was trained, in a sentence.
        updates: how many each run made.
        runs: one per optimizer, in the order of :data:`RATES`.
    """

    task: str
    updates: int
    runs: list[WordRun]


@dataclass(frozen=True)
class TrackingRun:
    """One optimizer's run after a target.

    Attributes:
        optimizer: its name in torch.optim.
        alpha: the rate that was set, the best of those tried.
        tried: each rate tried without spike, and the mean loss of its first :data:`TUNED` updates (infinite if it diverged).
        losses: squared error of each update's batch, before the update.
        rate: the median rate in effect over the weights.
        update_ratio: ``|update| / |weight|``; ``None`` while the weights are zero.
        gradient_kept: median gradient norm of the last tenth of the updates over that of the first.
        largest_share: of Adagrad's sum, owed to its one largest gradient; ``None`` for the others.
    """

    optimizer: str
    alpha: float
    tried: dict[float, float]
    losses: list[float]
    rate: Values
    update_ratio: Values
    gradient_kept: float
    largest_share: float | None


@dataclass(frozen=True)
class Disadvantage:
    """Where a sum that only grows is in the way.

    Attributes:
        task: what was trained, in a sentence.
        moves: the updates, counted from 1, at which the target has just changed sign.
        moving: one run per optimizer.
        spike_at: the update, counted from 1, with the large gradient.
        spike: how many times too large it is.
        spiked: the same runs, at the same rates, but for the spike.
        idle: the mean loss of weights that stay zero, for comparison.
    """

    task: str
    moves: list[int]
    moving: list[TrackingRun]
    spike_at: int
    spike: float
    spiked: list[TrackingRun]
    idle: float


def rates(updates: int = 150, seed: int = 0) -> Rates:
    """Let SGD, Adagrad, RMSprop and Adam teach the same small network to guess the next word, and trace two of its weights.

    The text is the documentation of Python's built-in types, as this Python has it. The frequent word is the most frequent one,
    the rare word the first that occurs three times; of each it is the first weight of its embedding.

    Args:
        updates: of each run, at least 20.
        seed: of the weights and of the order of the data.

    Raises:
        SettingsError: too few updates.
    """
    if updates < 20:
        raise SettingsError(f"rates: updates is {updates}, expected at least 20")
    sentences = _sentences()
    counts = Counter(word for sentence in sentences for word in sentence)
    words = counts.most_common(1)[0][0], next(word for word, count in counts.items() if count == 3)
    numbers = {word: number for number, word in enumerate([START, *counts])}
    contexts, answers = _windows([[numbers[word] for word in sentence] for sentence in sentences])
    chosen = torch.randint(len(answers), (updates, 64), generator=torch.Generator().manual_seed(seed))
    batches = [(contexts[rows].T, answers[rows]) for rows in chosen]

    def start() -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _NextWord(len(numbers))

    def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
        losses = []
        for context, answer in batches:
            loss = torch.nn.functional.cross_entropy(model(context), answer)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    runs = []
    for name, grid in RATES.items():
        alpha, tried = _best(name, grid, start, train, judged=updates // 5)
        losses, trace = _traced(name, alpha, start, train, [f"embedding.weight[{numbers[word]}, 0]" for word in words])
        frequent, rare = (_weight_rates(w, counts[w], traced) for w, traced in zip(words, trace.weights.values(), strict=True))
        runs.append(WordRun(name, alpha, tried, losses, frequent, rare))
    task = (
        f"guess the next word of {len(sentences)} sentences of Python's own documentation ({counts.total():,} words, "
        f"{len(counts)} different) from the {CONTEXT} before it, with an RNN of 32 units; {updates} updates of 64 guesses"
    )
    return Rates(task, updates, runs)


def disadvantage(updates: int = 1500, seed: int = 0) -> Disadvantage:
    """Let each optimizer follow a linear target that changes sign again and again; and do so after one gradient much too large.

    Adagrad's sum keeps every gradient there ever was, so that each move is followed more slowly than the one before, and after
    the spike hardly at all. RMSprop and Adam forget, and go on; how soon is set by their ``alpha`` (0.99) and ``beta_2``
    (0.999, ten times as long a memory). SGD has no memory: the spike throws its weights far off, and it walks back.

    Args:
        updates: of each run, at least :data:`TUNED`.
        seed: of the target and of the data.

    Raises:
        SettingsError: too few updates.
    """
    if updates < TUNED:
        raise SettingsError(f"disadvantage: updates is {updates}, expected at least {TUNED}")
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(FEATURES, generator=generator)
    target *= 2 / target.norm()
    inputs = torch.randn(updates, 16, FEATURES, generator=generator)
    noise = NOISE * torch.randn(updates, 16, generator=generator)
    signs = 1 - 2 * (torch.arange(updates) // PERIOD % 2)
    answers = signs[:, None] * (inputs @ target) + noise

    def start() -> torch.nn.Module:
        model = torch.nn.Linear(FEATURES, 1, bias=False)
        torch.nn.init.zeros_(model.weight)
        return model

    def follow(updates: int, spike: float = 1.0) -> Train:
        def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
            (weight,) = model.parameters()
            losses = []
            for t, (x, y) in enumerate(zip(inputs[:updates], answers[:updates], strict=True), 1):
                error = x @ weight[0].detach() - y
                losses.append(error.square().mean().item())
                # The gradient of the mean squared error, written out: it is short, and autograd takes longer.
                weight.grad = (2 / len(y) * (spike if t == SPIKE_AT else 1.0) * error @ x)[None]
                optimizer.step()
            return losses

        return train

    moving: list[TrackingRun] = []
    spiked: list[TrackingRun] = []
    for name, grid in TRACKING_RATES.items():
        alpha, tried = _best(name, grid, start, follow(TUNED), judged=TUNED)
        for runs, spike in ((moving, 1.0), (spiked, SPIKE)):
            runs.append(_tracking_run(name, alpha, tried, *_traced(name, alpha, start, follow(updates, spike))))
    task = (
        f"learn {FEATURES} weights of a linear target from 16 samples per update, {updates:,} updates, while the target "
        f"changes sign every {PERIOD}; with the spike, the gradient of update {SPIKE_AT} is {SPIKE:,.0f} times too large"
    )
    moves = list(range(PERIOD + 1, updates + 1, PERIOD))
    return Disadvantage(task, moves, moving, SPIKE_AT, SPIKE, spiked, answers.square().mean().item())


class _NextWord(torch.nn.Module):
    """The last output of an RNN over the words before says which comes next."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(words, 16)
        self.rnn = RNN(16, 32)
        self.head = torch.nn.Linear(32, words)

    def forward(self, context: Tensor) -> Tensor:
        """context: [T, B] numbers of words -> [B, words] scores."""
        _, h_n = self.rnn(self.embedding(context))
        scores: Tensor = self.head(h_n[0])
        return scores


Start = Callable[[], torch.nn.Module]
"""Makes the network to train, with the same weights each time."""

Train = Callable[[torch.nn.Module, torch.optim.Optimizer], list[float]]
"""Trains it, and returns the loss before each update."""


def _optimizer(name: str, model: torch.nn.Module, alpha: float) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = getattr(torch.optim, name)(model.named_parameters(), lr=alpha)
    return made


def _best(name: str, grid: Sequence[float], start: Start, train: Train, *, judged: int) -> tuple[float, dict[float, float]]:
    """The rate with the lowest mean loss over the last ``judged`` updates; and that loss with each of them."""
    tried = {}
    for alpha in grid:
        model = start()
        tried[alpha] = _mean(train(model, _optimizer(name, model, alpha))[-judged:])
    return min(tried, key=tried.__getitem__), tried


def _traced(
    name: str, alpha: float, start: Start, train: Train, names: list[str] | None = None
) -> tuple[list[float], OptimTrace]:
    """The losses of a run, and its trace; a trace changes nothing, so that this is the run that was judged."""
    model = start()
    optimizer = _optimizer(name, model, alpha)
    with optim_trace(optimizer, names) as trace:
        return train(model, optimizer), trace


def _mean(losses: list[float]) -> float:
    mean = sum(losses) / len(losses)
    return mean if math.isfinite(mean) else math.inf


def _weight_rates(word: str, count: int, weight: WeightTrace) -> WeightRates:
    began = np.cumsum(weight.gradient != 0) > 0
    touched = int(np.count_nonzero(weight.gradient))
    alpha_t, rate = (plain(np.where(began, values, np.nan)) for values in (weight.alpha_t, weight.rate))
    return WeightRates(word, count, touched, alpha_t, rate)


def _tracking_run(
    optimizer: str, alpha: float, tried: dict[float, float], losses: list[float], trace: OptimTrace
) -> TrackingRun:
    weights = trace.parameters["weight"]
    found = trace.exhausted()["weight"]
    share = None if math.isnan(found.largest_share) else found.largest_share
    rate, ratio = plain(weights.rate[:, 2]), plain(weights.update_ratio)
    return TrackingRun(optimizer, alpha, tried, losses, rate, ratio, found.gradient_kept, share)


def _sentences() -> list[list[str]]:
    """What Python says of the methods of its built-in types: real English, and on every machine."""
    said = []
    for kind in (str, bytes, list, dict, set, tuple, int, float):
        for name in sorted(vars(kind)):
            text = None if name.startswith("_") else inspect.getdoc(getattr(kind, name))
            sentences = re.split(r"\.\s|\n\n", text.lower()) if text else []
            said += [re.findall(r"[a-z]+", sentence) for sentence in sentences]
    return [words for words in said if len(words) > 2]


def _windows(sentences: list[list[int]]) -> tuple[Tensor, Tensor]:
    """[words, CONTEXT] the numbers of the words before each word, number 0 standing before the first; [words] the word."""
    padded = [[0] * CONTEXT + sentence for sentence in sentences]
    contexts = [words[end - CONTEXT : end] for words in padded for end in range(CONTEXT, len(words))]
    return torch.tensor(contexts), torch.tensor([number for sentence in sentences for number in sentence])
