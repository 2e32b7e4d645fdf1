"""Tasks: from what was read to a network, its loss, its scores, and what simple methods score."""

from __future__ import annotations

from throughtime.tasks.base import (
    BaselineScore as BaselineScore,
    Batch as Batch,
    Feed as Feed,
    Metric as Metric,
    Task as Task,
)
from throughtime.tasks.classify import Classify
from throughtime.tasks.forecast import Forecast
from throughtime.tasks.lm import LanguageModelling
from throughtime.tasks.regress import Regress
from throughtime.tasks.tag import Tag

TASKS: dict[str, type[Task]] = {task.name: task for task in (Classify, Tag, Regress, Forecast, LanguageModelling)}
"""All of them, by name."""
