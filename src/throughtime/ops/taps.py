"""Who is listening to the gradient on its way back through time.

Every layer and direction of a module has a number of its own, its *tap*, which goes through autograd (and through a
compiled graph) as a plain integer. A recorder subscribes to taps in one process-wide registry, since thread-locals do not
reach the threads on which autograd runs. A backward pass that finds a subscriber measures along the way, and leaves every
bit of every gradient as it was.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from throughtime.cells import Cell

_numbers = itertools.count(1)
_lock = threading.Lock()
_listeners: dict[int, Listener] = {}

SILENT = 0
"""The tap of a layer that nobody can listen to."""


class Measurement(NamedTuple):
    """What one backward pass through one layer and direction let be seen. Everything is float64 on the CPU.

    Attributes:
        cell: the cell of the layer.
        squared_norms: [len(cell.taps), T, B], NaN where a sequence has no step.
        probe: the same for the probe, or ``None`` if it was not run.
        lengths: [B], or ``None`` where all sequences have T steps.
        reverse: whether the layer reads its input backwards.
        delta: [T, B, P] dL/dh_t in the layer's own dtype, or ``None`` if it was not asked for.
    """

    cell: Cell
    squared_norms: Tensor
    probe: Tensor | None
    lengths: Tensor | None
    reverse: bool
    delta: Tensor | None


class Listener(Protocol):
    """What a subscriber offers."""

    def wants(self, tap: int) -> Wish | None:
        """What to measure in this backward pass of this layer; ``None`` for nothing."""

    def receive(self, tap: int, measurement: Measurement) -> None:
        """Take what was measured."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a listener wants of one backward pass.

    Attributes:
        probe: run the probe too.
        delta: return dL/dh_t itself.
    """

    probe: bool = False
    delta: bool = False


def reserve(count: int) -> int:
    """``count`` fresh taps; the first one's number."""
    with _lock:
        first = next(_numbers)
        for _ in range(count - 1):
            next(_numbers)
    return first


def subscribe(tap: int, listener: Listener) -> None:
    """Let ``listener`` hear of every backward pass through ``tap``.

    Raises:
        RuntimeError: somebody listens already.
    """
    with _lock:
        if tap in _listeners:
            raise RuntimeError(
                "another recorder is listening to this layer already; leave its `with` block before entering a second one"
            )
        _listeners[tap] = listener


def unsubscribe(tap: int) -> None:
    """Stop listening to ``tap``."""
    with _lock:
        _listeners.pop(tap, None)


def listener(tap: int) -> Listener | None:
    """Who listens to ``tap``."""
    return _listeners.get(tap)
