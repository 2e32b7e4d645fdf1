"""Who is told how training goes. The command line draws it; in Python nobody listens by default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a display can be up before torch is loaded
    from throughtime.tasks.base import Metric


@dataclass(frozen=True)
class Update:
    """One update of the weights, as it is told while training runs.

    Attributes:
        update: how many there were, this one included.
        total: how many there will be at most; ``None`` while that is not known.
        epoch: passes over the training data so far.
        loss: of this update.
        sequences: sequences in this update.
        steps: true steps in them.
    """

    update: int
    total: int | None
    epoch: float
    loss: float
    sequences: int
    steps: int


@dataclass(frozen=True)
class Evaluation:
    """One look at the validation part: a line of metrics.jsonl."""

    update: int
    epoch: float
    rate: float
    train_loss: float | None
    valid: dict[str, float] = field(default_factory=dict)
    best: bool = False

    def as_json(self) -> dict[str, Any]:
        """The line."""
        return dict(vars(self))


class Progress:
    """Hears of everything and says nothing; a display overrides what it shows."""

    def say(self, line: str) -> None:
        """A sentence for the user: what was understood, how the data was split, a note."""

    def warn(self, line: str) -> None:
        """A warning for the user."""

    def training_starts(self, description: str, metrics: tuple[Metric, Metric], total: int | None, seconds: float) -> None:
        """The loop is about to run.

        Args:
            description: the network in a phrase.
            metrics: the validation score that decides which weights are kept, and the one that the result is judged by; often
                the same.
            total: updates there will be at most; ``None`` while that is not known.
            seconds: of training before, in the processes that this one goes on from.
        """

    def updated(self, update: Update) -> None:
        """An update was made."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """The validation part was scored."""

    def training_ends(self) -> None:
        """The loop is over."""
