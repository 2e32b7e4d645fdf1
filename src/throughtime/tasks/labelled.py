"""What classification, tagging and regression have in common: labelled sequences, in batches of about the same length."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from throughtime.data.batches import Ragged, in_order_of_length, shuffled_by_length
from throughtime.data.records import Sequences
from throughtime.errors import DataError, SettingsError
from throughtime.tasks.base import BLIND, FLAT, Batch, Feed, Rival, State, Table, Task, layers_of
from throughtime.tasks.feedforward import NEIGHBOURS, BlindSequence, BlindSteps, FlatSequence, WindowSteps, steps_within
from throughtime.tasks.inputs import (
    EncodedInputs,
    Inputs,
    TokenInputs,
    WordInputs,
    inputs_for,
    restore_inputs,
    unknown_characters,
)
from throughtime.tasks.networks import Numbers, SequenceNetwork, StepNetwork, Tokens, Words

_SCORED_STEPS = 1 << 15
_LONG = 10_000
"""Steps that a sequence has to have to be worth a warning."""


@dataclass(frozen=True)
class Labelled:
    """Encoded sequences with their targets.

    Attributes:
        inputs: the sequences.
        targets: one a sequence ``[n]``, or one a step (:class:`Ragged`); ``None`` where they are not known.
    """

    inputs: EncodedInputs
    targets: NDArray[Any] | Ragged | None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each."""
        return self.inputs.lengths


@dataclass
class LabelledBatch(Batch):
    """Inputs time first, and targets ``[B]`` or ``[T, B]``; past the end of a sequence they are -100 or NaN."""

    inputs: Any
    targets: Tensor


def _outlier(part: Sequences, lengths: NDArray[np.int64]) -> list[str]:
    """A line on a sequence that is longer than all others together: what it takes in time and memory is easily overlooked."""
    row, total = int(lengths.argmax()), int(lengths.sum())
    if len(lengths) == 1 or lengths[row] < _LONG or 2 * int(lengths[row]) < total:
        return []
    share = f"{part.origin(row)} has {lengths[row]:,} of the {total:,} steps of the training part"
    return [f"{share}, and will take most of the time and memory; cut it, or leave it out"]


class LabelledFeed(Feed):
    """Every sequence once an epoch."""

    def __init__(self, data: Labelled, batch: int, seed: int) -> None:
        self.data, self.size, self.seed = data, batch, seed
        self._epoch, self._rows = -1, list[NDArray[np.int64]]()

    def __len__(self) -> int:
        return -(-len(self.data.lengths) // self.size)

    def batch(self, epoch: int, index: int) -> LabelledBatch:
        """Sequences of about the same length."""
        if epoch != self._epoch:
            self._epoch, self._rows = epoch, shuffled_by_length(self.data.lengths, self.size, self.seed, epoch)
        rows = self._rows[index]
        targets = self.data.targets
        assert targets is not None
        if isinstance(targets, Ragged):
            chosen = targets.padded(rows, fill=-100 if targets.values.dtype.kind == "i" else np.nan)
        else:
            chosen = targets[rows]
        return LabelledBatch(torch.from_numpy(self.data.lengths[rows]), self.data.inputs.batch(rows), torch.from_numpy(chosen))


class LabelledTask(Task):
    """A task on labelled sequences; subclasses know the targets."""

    inputs: Inputs
    per_step: bool = False
    """Whether every step has a target, or the sequence one."""
    steps: int | None = None
    """Of every sequence, where each step has weights of its own."""

    def prepare(self, train: Sequences) -> None:
        """Fit the inputs and the targets, and decide open settings."""
        if not len(train):
            raise DataError("the training part is empty; give more data, or other parts")
        if train.targets is None:
            raise DataError("the training data has no targets; name their column with --target")
        kind = inputs_for(train, self.settings)
        if self.settings.model.embeddings and kind is not WordInputs:
            raise SettingsError(f"--embeddings gives vectors for words, but the input is {kind.kind}; leave it out")
        if train.kind == "text":
            self.decide(tokens="word")
        self.inputs = kind.fit(train, self.settings)
        self.fit_targets(train)
        encoded = self.inputs.encode(train)
        self.warnings += _outlier(train, encoded.lengths)
        if self.settings.model.untied:
            self.decide(cell="rnn")
        self.decide_defaults(train, encoded)
        if self.settings.model.untied:
            if self.settings.model.cell != "rnn":
                raise SettingsError(f"--untied is for --cell rnn, not {self.settings.model.cell}")
            lengths = np.unique(encoded.lengths)
            if len(lengths) > 1:
                raise DataError(
                    f"--untied has weights for every step, so all sequences must have one length; here they have "
                    f"{lengths[0]} to {lengths[-1]}"
                )
            self.steps = int(lengths[0])

    @abstractmethod
    def fit_targets(self, train: Sequences) -> None:
        """From the training part."""

    @abstractmethod
    def encode_targets(self, part: Sequences) -> NDArray[Any] | Ragged:
        """As arrays."""

    @abstractmethod
    def decide_defaults(self, train: Sequences, encoded: EncodedInputs) -> None:
        """Decide open settings."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Numbers that the network gives per sequence or step."""

    @abstractmethod
    def targets_json(self) -> dict[str, Any]:
        """What :meth:`fit_targets` found."""

    @abstractmethod
    def restore_targets(self, data: dict[str, Any]) -> None:
        """Put back what :meth:`targets_json` gave."""

    def transforms(self) -> dict[str, Any]:
        """Inputs and targets."""
        inputs = {"kind": self.inputs.kind, "fitted": self.inputs.to_json()}
        return {"inputs": inputs, "targets": self.targets_json(), "per_step": self.per_step, "steps": self.steps}

    def restore(self, transforms: dict[str, Any]) -> None:
        """Inputs and targets as they were."""
        self.inputs = restore_inputs(transforms["inputs"])
        self.per_step, self.steps = transforms["per_step"], transforms["steps"]
        self.restore_targets(transforms["targets"])

    def encode(self, part: Sequences) -> Labelled:
        """A part as arrays."""
        self.inputs.check(part)
        encoded = self.inputs.encode(part)
        if self.steps is not None and (wrong := np.flatnonzero(encoded.lengths != self.steps)).size:
            row = int(wrong[0])
            raise DataError(
                f"{part.origin(row)} has {encoded.lengths[row]} steps; --untied has weights for {self.steps}, no more, no fewer"
            )
        return Labelled(encoded, None if part.targets is None else self.encode_targets(part))

    def unfamiliar(self, part: Sequences) -> str:
        """Characters, where these are the steps."""
        return unknown_characters(self.inputs.codec, part.inputs) if isinstance(self.inputs, TokenInputs) else ""

    def plain(self, part: Sequences) -> Sequences:
        """A part as baselines take it: sound as its features."""
        if part.kind != "sound":
            return part
        encoded = self.inputs.encode(part)
        return dataclasses.replace(part, kind="numeric", inputs=[encoded.ragged[row] for row in range(len(part))])

    def network(self) -> SequenceNetwork | StepNetwork:
        """One answer a sequence, or one a step."""
        kind = StepNetwork if self.per_step else SequenceNetwork
        return kind(self.settings.model, self.inputs.module(self.settings), self.outputs, self.steps)

    def rivals(self, train: Labelled) -> list[Rival]:
        """From the mean of all inputs and from all of them side by side; for one answer a step, with the step itself."""
        model, outputs = self.settings.model, self.outputs

        def inputs() -> Tokens | Words | Numbers:
            return self.inputs.module(self.settings)

        if self.per_step:
            blind = "an ANN on each step and the mean of all steps of its sequence; blind to the order of the others"
            flat = f"an ANN on each step and the {NEIGHBOURS} steps before and after it, with weights for each place"
            return [
                Rival(BLIND, blind, "blind", lambda: BlindSteps(model, inputs(), outputs)),
                Rival(FLAT, flat, "window", lambda: WindowSteps(model, inputs(), outputs)),
            ]
        assert model.hidden
        longest = int(train.lengths.max(initial=1))
        with torch.random.fork_rng(devices=[]):  # made for its width only
            steps = steps_within(longest, inputs().width, model.hidden)
        seen = f"all {steps:,} steps" if steps == longest else f"the first {steps:,} of up to {longest:,} steps"
        blind, flat = "an ANN on the mean of all steps; blind to order", f"an ANN on {seen}, with weights for each"
        return [
            Rival(BLIND, blind, "blind", lambda: BlindSequence(model, inputs(), outputs)),
            Rival(FLAT, flat, "full" if steps == longest else "window", lambda: FlatSequence(model, inputs(), outputs, steps)),
        ]

    def feed(self, encoded: Labelled) -> Feed:
        """Every sequence once an epoch."""
        assert self.settings.training.batch
        return LabelledFeed(encoded, self.settings.training.batch, self.settings.training.seed)

    def answer(self, network: torch.nn.Module, x: Any, lengths: Tensor) -> Tensor:
        """What the network says: ``[B, outputs]``, or ``[T, B, outputs]``."""
        said = network(x, lengths)
        answer: Tensor = said[0] if self.per_step else said
        return answer

    def loss(self, network: torch.nn.Module, batch: LabelledBatch, state: State) -> tuple[Tensor, State]:
        """The mean over sequences, or over all steps."""
        return self.criterion(self.answer(network, batch.inputs, batch.lengths), batch.targets), None

    @abstractmethod
    def criterion(self, answer: Tensor, targets: Tensor) -> Tensor:
        """The loss of an answer."""

    def answers(self, network: torch.nn.Module, encoded: Labelled) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """What the network says of every sequence, in batches of about the same length.

        Yields:
            Rows ``[B]`` and answers: ``[B, outputs]``, or ``[T, B, outputs]`` for one a step.
        """
        device = next(network.parameters()).device
        for rows in in_order_of_length(encoded.lengths, _SCORED_STEPS):
            x, lengths = encoded.inputs.batch(rows).to(device), torch.from_numpy(encoded.lengths[rows])
            yield rows, self.answer(network, x, lengths).float().cpu().numpy()

    def all_answers(self, network: torch.nn.Module, encoded: Labelled) -> NDArray[np.float32]:
        """The same in the order of the data: ``[n, outputs]``, or for one a step ``[sum T, outputs]``."""
        count = int(encoded.lengths.sum()) if self.per_step else len(encoded.lengths)
        answers = np.zeros((count, self.outputs), np.float32)
        offsets = encoded.inputs.ragged.offsets
        for rows, values in self.answers(network, encoded):
            if not self.per_step:
                answers[rows] = values
                continue
            for column, row in enumerate(rows):
                length = int(encoded.lengths[row])
                answers[offsets[row] : offsets[row] + length] = values[:length, column]
        return answers

    def places(self, part: Sequences, encoded: Labelled) -> Table:
        """The first columns of predictions: where each comes from, and for one a step, which step."""
        lengths = encoded.lengths.tolist() if self.per_step else [1] * len(part)
        table: Table = {"origin": [part.origin(row) for row, length in enumerate(lengths) for _ in range(length)]}
        return table | {"step": [step + 1 for length in lengths for step in range(length)]} if self.per_step else table

    def describe(self) -> str:
        """Recurrent layers and inputs."""
        return f"{layers_of(self.settings.model)}, over {self.inputs.describe()}"


def shown(part: Sequences, row: int, longest: int = 300) -> str:
    """One input as a reader can take it in."""
    value = part.inputs[row]
    if part.kind == "numeric":
        return f"{part.origin(row)}: {len(value)} steps of {value.shape[1]} features"
    text = value if isinstance(value, str) else " ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"
