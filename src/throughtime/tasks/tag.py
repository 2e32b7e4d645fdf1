"""Tagging: one class for every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from throughtime.data.batches import Ragged
from throughtime.data.records import Sequences
from throughtime.tasks.base import COMMON, BaselineScore, Metric, Table, scored
from throughtime.tasks.baselines import tag
from throughtime.tasks.inputs import EncodedInputs, WordInputs
from throughtime.tasks.labelled import Labelled, LabelledTask
from throughtime.tasks.metrics import tagging
from throughtime.transforms import Labels

_SHOWN_STEPS = 60


class Tag(LabelledTask):
    """One class for every step; judged by the share of steps that are right."""

    name: ClassVar[str] = "tag"
    metric = Metric("accuracy", "accuracy", higher_is_better=True)
    monitor = metric
    per_step = True
    labels: Labels
    words: frozenset[str] = frozenset()
    """Those of the training part, to tell unknown ones apart."""

    def fit_targets(self, train: Sequences) -> None:
        """The tags."""
        self.labels = Labels.fit(tag for tags in train.targets for tag in tags)
        if isinstance(self.inputs, WordInputs):
            self.words = frozenset(word for sequence in train.inputs for word in sequence)

    def encode_targets(self, part: Sequences) -> Ragged:
        """Ids of tags."""

        def place(row: int) -> Callable[[int], str]:
            return lambda step: f"{part.origin(row)}, step {step + 1}"

        return Ragged.of([self.labels.encode(tags, place(row)) for row, tags in enumerate(part.targets)])

    def decide_defaults(self, train: Sequences, encoded: EncodedInputs) -> None:
        """A bidirectional LSTM, as has long served for tagging."""
        steps = int(encoded.lengths.sum())
        self.decide(
            **COMMON,
            cell="lstm",
            hidden=200,
            bidirectional=True,
            dropout=0.5,
            lr=3e-3,
            batch=32,
            epochs=int(np.clip(2_500_000 // max(steps, 1), 5, 60)),
            patience=8,
        )

    @property
    def outputs(self) -> int:
        """One a tag."""
        return len(self.labels)

    def targets_json(self) -> dict[str, Any]:
        """Tags, and the words of the training part."""
        return {"labels": self.labels.to_json(), "words": sorted(self.words)}

    def restore_targets(self, data: dict[str, Any]) -> None:
        """Tags and words."""
        self.labels, self.words = Labels.from_json(data["labels"]), frozenset(data["words"])

    def criterion(self, answer: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy over all steps."""
        steps = (targets >= 0).sum().clamp(min=1)  # there may be none
        return torch.nn.functional.cross_entropy(answer.flatten(0, 1), targets.flatten(), reduction="sum") / steps

    def predicted(self, network: torch.nn.Module, encoded: Labelled) -> tuple[list[list[str]], NDArray[np.float64]]:
        """Tags of every sequence, and the probability of every tag at every step ``[sum T, C]``."""
        logits = torch.from_numpy(self.all_answers(network, encoded)).double()
        best, offsets = logits.argmax(dim=1).numpy(), encoded.inputs.ragged.offsets
        tags = [self.labels.decode(best[start:stop]) for start, stop in pairwise(offsets)]
        return tags, logits.softmax(dim=1).numpy()

    def _truth(self, encoded: Labelled) -> list[list[str]]:
        assert isinstance(encoded.targets, Ragged)
        return [self.labels.decode(encoded.targets[row]) for row in range(len(encoded.lengths))]

    def _known(self, part: Sequences) -> list[list[bool]] | None:
        return [[word in self.words for word in sequence] for sequence in part.inputs] if self.words else None

    def evaluate(self, network: torch.nn.Module, encoded: Labelled) -> dict[str, float]:
        """Loss and accuracy."""
        assert isinstance(encoded.targets, Ragged)
        logits = torch.from_numpy(self.all_answers(network, encoded)).double()
        truth = torch.from_numpy(encoded.targets.values)
        loss = torch.nn.functional.cross_entropy(logits, truth).item()
        return {"loss": loss, "accuracy": (logits.argmax(dim=1) == truth).double().mean().item()}

    def score(self, network: torch.nn.Module, part: Sequences, encoded: Labelled) -> dict[str, float]:
        """Also the accuracy on unknown words, macro F1 and span F1."""
        result = tagging(self._truth(encoded), self.predicted(network, encoded)[0], self._known(part))
        return {**self.evaluate(network, encoded), **result.scores()}

    def errors(self, network: torch.nn.Module, part: Sequences, encoded: Labelled) -> NDArray[np.float64]:
        """The wrong tags of each sequence."""
        return _mistakes(self._truth(encoded), self.predicted(network, encoded)[0])

    def predict(self, network: torch.nn.Module, part: Sequences) -> Table:
        """The likeliest tag of each step, and its probability."""
        encoded = self.encode(dataclasses.replace(part, targets=None))
        tags, probabilities = self.predicted(network, encoded)
        table = self.places(part, encoded)
        if part.kind == "words":
            table["word"] = [word for words in part.inputs for word in words]
        table["predicted"] = [tag for sequence in tags for tag in sequence]
        return table | {"probability": probabilities.max(axis=1, initial=0).tolist()}

    def baselines(self, train: Sequences, test: Sequences) -> list[BaselineScore]:
        """The most frequent tag of a word, and a window of words."""
        learn, score = self.plain(train), self.plain(test)

        def measure(method: Any) -> tuple[dict[str, float], NDArray[np.float64]]:
            tags = method.fit(learn).predict(score)
            return tagging(test.targets, tags, self._known(test)).scores(), _mistakes(test.targets, tags)

        return [scored(method, partial(measure, method)) for method in tag.suited(learn.kind)]

    def details(
        self, network: torch.nn.Module, part: Sequences, encoded: Labelled, baselines: Sequence[BaselineScore] = ()
    ) -> dict[str, Any]:
        """Scores of each tag, the pairs most confused, and the sequences with most mistakes."""
        predicted, _ = self.predicted(network, encoded)
        truth = self._truth(encoded)
        result = tagging(truth, predicted, self._known(part))
        mistakes = _mistakes(truth, predicted)
        worst = [int(row) for row in np.argsort(-mistakes, kind="stable")[:12] if mistakes[row]]
        return {
            "per_tag": [dataclasses.asdict(row) for row in result.per_tag],
            "confused": [dataclasses.asdict(pair) for pair in result.confused],
            "accuracy_unknown": result.accuracy_unknown,
            "span_f1": result.span_f1,
            "worst": [
                {
                    "origin": part.origin(row),
                    "words": [
                        str(word) for word in (part.inputs[row] if part.kind == "words" else range(1, len(truth[row]) + 1))
                    ][:_SHOWN_STEPS],
                    "truth": truth[row][:_SHOWN_STEPS],
                    "predicted": predicted[row][:_SHOWN_STEPS],
                }
                for row in worst
            ],
        }


def _mistakes(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """How many tags of each sequence are wrong."""
    pairs = zip(truth, predicted, strict=True)
    return np.array([sum(t != p for t, p in zip(true, said, strict=True)) for true, said in pairs], np.float64)
