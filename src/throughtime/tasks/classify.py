"""Classification: one class for a sequence."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from throughtime.data.records import Sequences
from throughtime.tasks.base import COMMON, BaselineScore, Metric, Table, scored
from throughtime.tasks.baselines import classify
from throughtime.tasks.inputs import EncodedInputs
from throughtime.tasks.labelled import Labelled, LabelledTask, shown
from throughtime.tasks.metrics import Classification, classification
from throughtime.transforms import Labels


class Classify(LabelledTask):
    """One class for a sequence; judged by the share that is right."""

    name: ClassVar[str] = "classify"
    metric = Metric("accuracy", "accuracy", higher_is_better=True)
    monitor = metric
    labels: Labels
    weights: list[float] | None = None

    def fit_targets(self, train: Sequences) -> None:
        """The classes, and what each weighs."""
        self.labels = Labels.fit(train.targets)
        if self.settings.data.class_weight == "balanced":
            counts = np.bincount(self.labels.encode(train.targets), minlength=len(self.labels))
            self.weights = (len(train) / (len(self.labels) * counts)).tolist()

    def encode_targets(self, part: Sequences) -> NDArray[np.int64]:
        """Ids of classes."""
        return self.labels.encode(part.targets, part.origin)

    def decide_defaults(self, train: Sequences, encoded: EncodedInputs) -> None:
        """A small bidirectional network, well regularised: labelled sequences are seldom many."""
        self.decide(
            **COMMON,
            cell="gru",
            hidden=128,
            bidirectional=True,
            dropout=0.5,
            lr=2e-3,
            batch=32,
            epochs=int(np.clip(60_000 // max(len(train), 1), 6, 60)),
            patience=15,
        )

    @property
    def outputs(self) -> int:
        """One a class."""
        return len(self.labels)

    def targets_json(self) -> dict[str, Any]:
        """Classes and weights."""
        return {"labels": self.labels.to_json(), "weights": self.weights}

    def restore_targets(self, data: dict[str, Any]) -> None:
        """Classes and weights."""
        self.labels, self.weights = Labels.from_json(data["labels"]), data["weights"]

    def criterion(self, answer: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy."""
        weights = None if self.weights is None else torch.tensor(self.weights, dtype=answer.dtype, device=answer.device)
        return torch.nn.functional.cross_entropy(answer, targets, weights)

    def probabilities(self, network: torch.nn.Module, encoded: Labelled) -> NDArray[np.float64]:
        """Of every class for every sequence, ``[n, C]``."""
        logits = self.all_answers(network, encoded).astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return shares

    def _scored(self, network: torch.nn.Module, encoded: Labelled) -> Classification:
        assert isinstance(encoded.targets, np.ndarray)
        return classification(encoded.targets, self.probabilities(network, encoded), self.labels.names)

    def evaluate(self, network: torch.nn.Module, encoded: Labelled) -> dict[str, float]:
        """Accuracy, macro F1 and log loss."""
        scores = self._scored(network, encoded).scores()
        return {"loss": scores["log_loss"], **scores}

    def errors(self, network: torch.nn.Module, part: Sequences, encoded: Labelled) -> NDArray[np.float64]:
        """1 for each sequence of which the class is wrong."""
        return _wrong(encoded.targets, self.probabilities(network, encoded))

    def predict(self, network: torch.nn.Module, part: Sequences) -> Table:
        """The likeliest class of each sequence, and the probability of every class."""
        probabilities = self.probabilities(network, self.encode(dataclasses.replace(part, targets=None)))
        table: Table = {"origin": [part.origin(row) for row in range(len(part))]}
        table["predicted"] = self.labels.decode(probabilities.argmax(axis=1))
        return table | {f"p({name})": probabilities[:, i].tolist() for i, name in enumerate(self.labels.names)}

    def baselines(self, train: Sequences, test: Sequences) -> list[BaselineScore]:
        """Majority, and what ignores order."""
        learn, score = self.plain(train), self.plain(test)
        truth = self.labels.encode(test.targets, test.origin)

        def measure(method: Any) -> tuple[dict[str, float], NDArray[np.float64]]:
            probabilities = method.fit(learn, self.labels.names).predict(score)
            return classification(truth, probabilities, self.labels.names).scores(), _wrong(truth, probabilities)

        methods = classify.suited(learn.kind, balanced=self.settings.data.class_weight == "balanced")
        return [scored(method, partial(measure, method)) for method in methods]

    def details(
        self, network: torch.nn.Module, part: Sequences, encoded: Labelled, baselines: Sequence[BaselineScore] = ()
    ) -> dict[str, Any]:
        """Confusion, per-class scores, and the mistakes it was surest of."""
        probabilities = self.probabilities(network, encoded)
        assert isinstance(encoded.targets, np.ndarray)
        result = classification(encoded.targets, probabilities, self.labels.names)
        predicted = probabilities.argmax(axis=1)
        wrong = np.flatnonzero(predicted != encoded.targets)
        worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:20]
        return {
            "classes": list(self.labels.names),
            "confusion": result.confusion.tolist(),
            "per_class": [dataclasses.asdict(row) for row in result.per_class],
            "worst": [
                {
                    "origin": part.origin(int(row)),
                    "input": shown(part, int(row)),
                    "truth": self.labels.names[encoded.targets[row]],
                    "predicted": self.labels.names[predicted[row]],
                    "probability": round(float(probabilities[row, predicted[row]]), 4),
                }
                for row in worst
            ],
        }


def _wrong(truth: Any, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    wrong: NDArray[np.float64] = (probabilities.argmax(axis=1) != truth).astype(np.float64)
    return wrong
