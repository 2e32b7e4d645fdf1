"""What a report is made of: the JSON records that a run leaves behind, finished or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from throughtime.store import RunDirectory


@dataclass(frozen=True)
class Records:
    """The records of one run.

    Attributes:
        name: the name of its folder.
        config: what config.json holds.
        metrics: the lines of metrics.jsonl, evaluations and notes.
        timings: the lines of timings.jsonl.
        result: what result.json holds; empty if the run is not finished.
    """

    name: str
    config: dict[str, Any]
    metrics: list[dict[str, Any]] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, run: Path) -> Records:
        """The records in a run directory; only config.json must be there.

        Raises:
            RunError: there is no run, it is of another version, or a record is damaged.
        """
        directory = RunDirectory(run)
        return cls(
            name=run.resolve().name,
            config=directory.config(),
            metrics=directory.records("metrics.jsonl"),
            timings=directory.records("timings.jsonl"),
            result=directory.result() or {},
        )

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl that hold numbers."""
        return [line for line in self.metrics if "note" not in line]

    @property
    def notes(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl that tell what happened."""
        return [line for line in self.metrics if "note" in line]
