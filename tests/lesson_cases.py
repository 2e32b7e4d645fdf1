"""A lesson measured by the real code, with every part made small."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

from throughtime.experiments import learning, lesson, optimizers, order, reach
from throughtime.experiments.lesson import Lesson


@functools.cache
def small_lesson() -> tuple[Lesson, list[tuple[str, float]]]:
    """The record, and what was said on the way."""
    said: list[tuple[str, float]] = []

    def small(of: Any, name: str, **sizes: Any) -> Any:
        function: Callable[..., Any] = getattr(of, name)
        return mock.patch.object(of, name, lambda *args, **kwargs: function(*args, **{**kwargs, **sizes}))

    with (
        small(order, "order_only", pairs=10, words=4, epochs=1),
        # The other two problems are large as they are: the small one, just made, stands in for them.
        mock.patch.object(order, "which_package", order.order_only),
        mock.patch.object(order, "next_character", order.order_only),
        small(order, "cost_against_length", words=(2, 4), repetitions=1),
        small(reach, "at_initialisation", steps=20),
        small(learning, "while_training", steps=10, updates=1),
        small(learning, "clipping", steps=10, updates=2),
        small(optimizers, "rates", updates=50),
        small(optimizers, "disadvantage", updates=200),
    ):
        return lesson.lesson(3, lambda part, done: said.append((part, done))), said
