"""What order is worth: feed-forward networks (ANNs) against a recurrent one, where only order decides and on real text.

Everything is trained by the code that ``throughtime fit`` runs, in memory: the tasks, the trainer, and the rivals of
:mod:`throughtime.train.rivals`. The results are plain numbers.

Legend: T steps, B batch, H hidden.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from throughtime.data.files import plural
from throughtime.data.records import Sequences
from throughtime.errors import SettingsError
from throughtime.experiments.order_problems import (
    Problem as Problem,
    next_character as next_character,
    order_only as order_only,
    shuffled as shuffled,
    which_package as which_package,
)
from throughtime.settings import ModelSettings
from throughtime.tasks import TASKS
from throughtime.tasks.base import BLIND, FLAT
from throughtime.tasks.classify import Classify
from throughtime.tasks.feedforward import BlindSequence, FlatSequence
from throughtime.tasks.inputs import WordInputs
from throughtime.tasks.labelled import LabelledTask
from throughtime.tasks.lm import EncodedText
from throughtime.tasks.metrics import paired_interval
from throughtime.tasks.networks import Numbers, SequenceNetwork
from throughtime.train.fit import train
from throughtime.train.fitted import Fitted
from throughtime.train.rivals import fit_rival
from throughtime.train.trainer import Trainer, random_state_kept

RECURRENT = "recurrent network"
"""What the recurrent one is called, beside :data:`~throughtime.tasks.base.BLIND` and :data:`~throughtime.tasks.base.FLAT`."""

CONTROL = "recurrent, shuffled"
"""The recurrent network trained and tested on sentences with their words in an order of chance."""

LEVEL = 0.95
"""The probability with which an interval is to hold."""

_LETTERS, _WIDTH = 1 << 11, 32
"""Vectors for the letters of words, and numbers in each: these sets have few words, and need no more."""


@dataclass(frozen=True)
class Contender:
    """One network in a comparison.

    Attributes:
        name: which.
        description: what it sees.
        parameters: numbers it learns.
        seconds: of training, for each seed.
        scores: on the test part, for each seed.
        score: their mean.
        low: lower end of an interval for it.
        high: upper end.
    """

    name: str
    description: str
    parameters: int
    seconds: list[float]
    scores: list[float]
    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """By how much the recurrent network is better than another, in the units of the metric; below zero where it is worse.

    Attributes:
        other: the name of the other.
        mean: over the test part and the seeds.
        low: lower end of a paired interval.
        high: upper end.
    """

    other: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Networks on one problem.

    Attributes:
        metric: the name of the score.
        higher_is_better: or lower.
        contenders: order-blind, flattened, recurrent; for classes also the recurrent one on shuffled words.
        differences: of the recurrent one to each other.
        sizes: sequences of the training, validation and test part; characters of text.
        seeds: of training; the data is the same for all.
        method: how the intervals were made, in a sentence.
    """

    metric: str
    higher_is_better: bool
    contenders: list[Contender]
    differences: list[Difference]
    sizes: list[int]
    seeds: list[int]
    method: str


@dataclass(frozen=True)
class Cost:
    """What networks cost against the number of words; one entry a length in each list.

    Attributes:
        words: T.
        batch: sequences at a time, B.
        networks: their names; the keys of what follows.
        parameters: numbers that are learned.
        seconds: for 1000 sequences forward and back: the median of some repetitions.
        bytes: the parameters, and all that autograd keeps of a batch between forward and backward pass, counted once each;
            what the passes need for themselves and give back is not in it.
    """

    words: list[int]
    batch: int
    networks: list[str]
    parameters: dict[str, list[int]]
    seconds: dict[str, list[float]]
    bytes: dict[str, list[int]]


@dataclass(frozen=True)
class TwoSentences:
    """What trained networks say of two sentences of the same words.

    Attributes:
        sentences: the words of each.
        truth: the class of each.
        classes: what the outputs stand for.
        outputs: per network and sentence, the numbers before the softmax.
        probabilities: after it.
        identical: per network, whether both outputs are the same to the last bit.
    """

    sentences: list[list[str]]
    truth: list[str]
    classes: list[str]
    outputs: dict[str, list[list[float]]]
    probabilities: dict[str, list[list[float]]]
    identical: dict[str, bool]


# --- accuracy


@dataclass(frozen=True)
class Trained:
    """A network that was trained.

    Attributes:
        fitted: the network and its task.
        description: what it sees.
        seconds: of training.
        test: what it is to be scored on, as it was read.
    """

    fitted: Fitted
    description: str
    seconds: float
    test: Any


def trained(problem: Problem, seed: int = 0) -> dict[str, Trained]:
    """The networks that are compared, trained on a problem.

    Where sentences have classes, the recurrent network is trained once more on them with their words shuffled.

    Args:
        problem: the data and the settings.
        seed: of training: of the first weights, the order of the batches, and dropout.

    Returns:
        By name: :data:`BLIND`, :data:`FLAT`, :data:`RECURRENT`, and for classes :data:`CONTROL`.
    """
    trainer, recurrent = _recurrent(problem, seed)
    task, found = trainer.task, {RECURRENT: recurrent}
    learn = task.encode(problem.parts.train)
    for rival in task.rivals(learn):
        started = time.monotonic()
        network = fit_rival(task, rival, learn, trainer.valid, updates=trainer.place.update, device=trainer.device)
        found[rival.name] = Trained(network, rival.description, time.monotonic() - started, problem.parts.test)
    control = {CONTROL: _recurrent(shuffled(problem, seed), seed)[1]} if problem.settings.data.task == "classify" else {}
    return {name: found[name] for name in (BLIND, FLAT, RECURRENT)} | control


def _recurrent(problem: Problem, seed: int) -> tuple[Trainer, Trained]:
    task = TASKS[problem.settings.data.task](problem.settings.replace(seed=seed))
    task.prepare(problem.parts.train)
    if isinstance(task, LabelledTask) and isinstance(task.inputs, WordInputs):
        features = dataclasses.replace(task.inputs.features, buckets=_LETTERS)
        task.inputs = WordInputs(features, _WIDTH)
    fitted, trainer = train(task, problem.parts)
    return trainer, Trained(fitted, task.describe(), trainer.seconds, problem.parts.test)


def compare(problem: Problem, runs: Mapping[int, Mapping[str, Trained]]) -> Comparison:
    """Compare networks that were trained on one problem on its test part.

    What the recurrent network loses where its words are shuffled is what order is worth to it; what it is better by than an ANN
    may have other reasons.

    Args:
        problem: the data and the settings.
        runs: by seed, what :func:`trained` made of the problem.

    Returns:
        Scores, with paired intervals of the differences. They hold for networks trained like these, on other sequences: each
        sequence counts with its mean over the seeds, and the seeds are not drawn anew.

    Raises:
        SettingsError: no run.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 8 and 13, see
        :func:`~throughtime.tasks.metrics.paired_interval`.
    """
    if not runs:
        raise SettingsError("compare: found no run, expected at least one, such as {0: trained(problem, 0)}")
    test: Any = problem.parts.test
    kept, errors, scores, seconds = (dict[str, list[Any]]() for _ in range(4))
    for networks in runs.values():
        for name, one in networks.items():
            task, network = one.fitted.task, one.fitted.network
            encoded = task.encode(one.test)
            with torch.inference_mode():
                scores.setdefault(name, []).append(task.score(network, one.test, encoded)[task.metric.name])
                wrong = task.errors(network, one.test, encoded)
            # Over pieces these average to the metric: shares of sequences as they are, nats of a piece as nats a character,
            # the end of a document being one.
            scale = len(wrong) / (encoded.characters + encoded.documents) if isinstance(encoded, EncodedText) else 1.0
            errors.setdefault(name, []).append(scale * wrong)
            seconds.setdefault(name, []).append(round(one.seconds, 3))
            kept.setdefault(name, []).append(one)
    mean = {name: np.mean(some, axis=0) for name, some in errors.items()}
    blocks = None if test.groups is None else np.array(test.groups)
    contenders = []
    for name, some in kept.items():
        metric, network = some[0].fitted.task.metric, some[0].fitted.network
        low, high = paired_interval(mean[name], blocks, LEVEL)
        ends = (1 - high, 1 - low) if metric.higher_is_better else (low, high)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        score = float(np.mean(scores[name]))
        contenders.append(Contender(name, some[0].description, parameters, seconds[name], scores[name], score, *ends))
    differences = []
    for name in (name for name in kept if name != RECURRENT):
        gap = mean[name] - mean[RECURRENT]
        differences.append(Difference(name, float(gap.mean()), *paired_interval(gap, blocks, LEVEL)))
    count = len(set(test.groups)) if test.groups is not None else len(mean[RECURRENT])
    method = (
        f"{100 * LEVEL:.0f} % percentile bootstrap over {count:,} {problem.blocks} of the test part, "
        f"each with its mean over {plural(len(runs), 'training seed')}"
    )
    task = kept[RECURRENT][0].fitted.task
    encodings = [task.encode(part) for part in (problem.parts.train, problem.parts.valid, test)]
    sizes = [one.characters if isinstance(one, EncodedText) else len(one.lengths) for one in encodings]
    return Comparison(task.metric.name, task.metric.higher_is_better, contenders, differences, sizes, list(runs), method)


# --- cost


def cost_against_length(
    words: Sequence[int] = (4, 16, 64, 256, 1024), *, width: int = 32, hidden: int = 32, batch: int = 32, repetitions: int = 5
) -> Cost:
    """What the three networks cost against the number of words: parameters, seconds, memory.

    The inputs are random vectors in place of words; each network has two outputs. The recurrent one is a simple RNN in one
    direction.

    Args:
        words: T, each at least 1.
        width: numbers for a word.
        hidden: units of the hidden layer, H.
        batch: sequences at a time, B.
        repetitions: of forward and backward pass, after one that does not count.

    Raises:
        SettingsError: a number below one.

    Example:
        >>> cost = cost_against_length((4, 8), width=3, hidden=5, batch=2, repetitions=1)
        >>> cost.parameters["flattened network"], cost.parameters["order-blind network"]
        ([77, 137], [32, 32])
    """
    if not words or min(*words, width, hidden, batch, repetitions) < 1:
        raise SettingsError("cost_against_length: found no words or a number below 1, expected numbers from 1 up")
    model = ModelSettings(cell="rnn", hidden=hidden, layers=1, bidirectional=False, dropout=0.0, init="orthogonal")
    names = [BLIND, FLAT, RECURRENT]
    parameters, seconds, memory = ({name: list[Any]() for name in names} for _ in range(3))
    with random_state_kept():
        torch.manual_seed(0)
        for steps in words:
            x, lengths = torch.randn(steps, batch, width), torch.full((batch,), steps)
            networks = (
                BlindSequence(model, Numbers(width), 2),
                FlatSequence(model, Numbers(width), 2, steps),
                SequenceNetwork(model, Numbers(width), 2),
            )
            for name, network in zip(names, networks, strict=True):
                own = sum(parameter.nbytes for parameter in network.parameters())
                parameters[name].append(sum(parameter.numel() for parameter in network.parameters()))
                memory[name].append(own + _kept_bytes(network, x, lengths))
                spent = [_pass(network, x, lengths) for _ in range(repetitions + 1)][1:]
                seconds[name].append(median(spent) * 1000 / batch)
    return Cost(list(words), batch, names, parameters, seconds, memory)


def _pass(network: torch.nn.Module, x: Tensor, lengths: Tensor) -> float:
    """Seconds of one pass forward and back."""
    network.zero_grad(set_to_none=True)
    started = time.perf_counter()
    network(x, lengths).sum().backward()
    return time.perf_counter() - started


def _kept_bytes(network: torch.nn.Module, x: Tensor, lengths: Tensor) -> int:
    """What autograd keeps of a forward pass, each block of memory once; parameters and the input itself are not counted."""
    known = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()} | {x.untyped_storage().data_ptr()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(x, lengths)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


# --- two sentences


def two_sentences(networks: Mapping[str, Fitted], sentences: Sequence[Sequence[str]], truth: Sequence[str]) -> TwoSentences:
    """What trained networks say of two sentences, each looked at by itself.

    The order-blind network sums in float64, where float32 numbers of about one size add up without rounding: its two outputs
    are the same to the last bit for sentences of the same words.

    Args:
        networks: by name, as :func:`trained` gives them for a classification of words.
        sentences: two, as lists of words.
        truth: the class of each.

    Raises:
        SettingsError: no networks, networks that do not classify words, or other than two sentences.
    """
    tasks = [fitted.task for fitted in networks.values()]
    if not tasks or len(sentences) != 2 or len(truth) != 2 or not all(isinstance(task, Classify) for task in tasks):
        raise SettingsError("two_sentences: expected networks that classify, two sentences and two classes; see order_only")
    outputs, probabilities = dict[str, list[list[float]]](), dict[str, list[list[float]]]()
    for name, fitted in networks.items():
        task = fitted.task
        assert isinstance(task, Classify)
        said = []
        for sentence in sentences:
            encoded = task.encode(Sequences("words", [list(sentence)]))
            with torch.inference_mode():
                said.append(torch.from_numpy(task.all_answers(fitted.network, encoded)[0]))
        outputs[name] = [answer.tolist() for answer in said]
        probabilities[name] = [answer.double().softmax(dim=0).tolist() for answer in said]
    assert isinstance(tasks[0], Classify)
    return TwoSentences(
        [list(sentence) for sentence in sentences],
        list(truth),
        list(tasks[0].labels.names),
        outputs,
        probabilities,
        {name: first == second for name, (first, second) in outputs.items()},
    )
