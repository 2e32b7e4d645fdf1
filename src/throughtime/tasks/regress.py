"""Regression: a number for a sequence, or one for every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from throughtime.data.batches import Ragged
from throughtime.data.records import Sequences
from throughtime.tasks.base import COMMON, BaselineScore, Metric, Table, scored
from throughtime.tasks.baselines import regress
from throughtime.tasks.inputs import EncodedInputs
from throughtime.tasks.labelled import Labelled, LabelledTask, shown
from throughtime.tasks.metrics import regression
from throughtime.transforms import Scaler

_POINTS = 2000


class Regress(LabelledTask):
    """A number for a sequence or a step, learned with mean 0 and deviation 1; judged by the root of the mean squared error."""

    name: ClassVar[str] = "regress"
    metric = Metric("rmse", "RMSE", higher_is_better=False)
    monitor = Metric("rmse", "RMSE", higher_is_better=False)
    scaler: Scaler

    def fit_targets(self, train: Sequences) -> None:
        """Mean and deviation."""
        self.per_step = isinstance(train.targets, list)
        columns = train.targets if self.per_step else [train.targets]
        self.scaler = Scaler.fit([np.asarray(column)[:, None] for column in columns], (train.target_name,))

    def encode_targets(self, part: Sequences) -> NDArray[np.float32] | Ragged:
        """Scaled."""
        if self.per_step:
            return Ragged.of([self._scaled(numbers) for numbers in part.targets])
        return self._scaled(part.targets)

    def _scaled(self, numbers: Any) -> NDArray[np.float32]:
        return self.scaler.transform(np.asarray(numbers)[:, None])[:, 0]

    def decide_defaults(self, train: Sequences, encoded: EncodedInputs) -> None:
        """As for classification."""
        self.decide(
            **COMMON,
            cell="gru",
            hidden=128,
            bidirectional=True,
            dropout=0.2,
            lr=2e-3,
            batch=32,
            epochs=int(np.clip(60_000 // max(len(train), 1), 6, 60)),
            patience=15,
        )

    outputs = 1

    def targets_json(self) -> dict[str, Any]:
        """The scaler."""
        return self.scaler.to_json()

    def restore_targets(self, data: dict[str, Any]) -> None:
        """The scaler."""
        self.scaler = Scaler.from_json(data)

    def criterion(self, answer: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error, over true steps."""
        inside = ~torch.isnan(targets)
        squares = torch.nn.functional.mse_loss(answer[..., 0][inside], targets[inside], reduction="sum")
        return squares / inside.sum().clamp(min=1)  # there may be none

    def predicted(self, network: torch.nn.Module, encoded: Labelled) -> NDArray[np.float64]:
        """In the units of the data: ``[n]``, or for one a step ``[sum T]``."""
        return self.scaler.inverse(self.all_answers(network, encoded).astype(np.float64))[:, 0]

    def _truth(self, encoded: Labelled) -> NDArray[np.float64]:
        targets = encoded.targets.values if isinstance(encoded.targets, Ragged) else encoded.targets
        assert targets is not None
        return self.scaler.inverse(np.asarray(targets, np.float64)[:, None])[:, 0]

    def evaluate(self, network: torch.nn.Module, encoded: Labelled) -> dict[str, float]:
        """MAE, RMSE, R2; the loss is the squared error of scaled numbers."""
        scores = regression(self._truth(encoded), self.predicted(network, encoded)).scores()
        return {"loss": (scores["rmse"] / self.scaler.scale[0]) ** 2, **scores}

    def errors(self, network: torch.nn.Module, part: Sequences, encoded: Labelled) -> NDArray[np.float64]:
        """The squared error of each sequence, summed over its steps where each has a number."""
        return self._squares(self._truth(encoded) - self.predicted(network, encoded), encoded.lengths)

    def _squares(self, errors: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of every sequence, from the errors of all: ``[n]``, or for one a step ``[sum T]``."""
        rows = np.repeat(np.arange(len(lengths)), lengths) if self.per_step else np.arange(len(lengths))
        return np.bincount(rows, errors**2, minlength=len(lengths)).astype(np.float64)

    def predict(self, network: torch.nn.Module, part: Sequences) -> Table:
        """The number of each sequence, or of each of its steps."""
        encoded = self.encode(dataclasses.replace(part, targets=None))
        return {**self.places(part, encoded), "predicted": self.predicted(network, encoded).tolist()}

    def baselines(self, train: Sequences, test: Sequences) -> list[BaselineScore]:
        """The mean, and what ignores order."""
        learn, score = self.plain(train), self.plain(test)
        truth = np.concatenate(test.targets) if self.per_step else test.targets
        lengths = np.array([len(row) for row in test.targets] if self.per_step else [1] * len(test), np.int64)

        def measure(method: Any) -> tuple[dict[str, float], NDArray[np.float64]]:
            method.fit(learn)
            said = np.concatenate(method.predict(score)) if self.per_step else method.predict(score)
            return regression(truth, said).scores(), self._squares(truth - said, lengths)

        return [scored(method, partial(measure, method)) for method in regress.suited(learn.kind, by_step=self.per_step)]

    def details(
        self, network: torch.nn.Module, part: Sequences, encoded: Labelled, baselines: Sequence[BaselineScore] = ()
    ) -> dict[str, Any]:
        """Predicted against true, and the largest errors."""
        truth, predicted = self._truth(encoded), self.predicted(network, encoded)
        some = np.linspace(0, len(truth) - 1, min(len(truth), _POINTS)).astype(np.int64)
        result: dict[str, Any] = {"scatter": {"truth": truth[some].tolist(), "predicted": predicted[some].tolist()}}
        if not self.per_step:
            worst = np.argsort(-abs(truth - predicted), kind="stable")[:12]
            result["worst"] = [
                {
                    "origin": part.origin(int(row)),
                    "input": shown(part, int(row)),
                    "truth": float(truth[row]),
                    "predicted": float(predicted[row]),
                }
                for row in worst
            ]
        return result
