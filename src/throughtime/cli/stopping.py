"""Ctrl-C and SIGTERM: training ends at the next update with a checkpoint, anything else at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class AtOnce(BaseException):
    """A second Ctrl-C while the first one waits for the update to end.

    Not a KeyboardInterrupt: on that one the trainer writes a checkpoint, which in the middle of an update would be a wrong one.
    """


class Stopping:
    """While it is open, tells a call to stop apart from a call to stop at once.

    Attributes:
        patient: set while training runs, which looks for itself whether it is to stop.
    """

    def __init__(self) -> None:
        self.patient = False
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        """Whether training is to stop."""
        return self._asked

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.patient:
            raise KeyboardInterrupt
        if self._asked:
            raise AtOnce
        self._asked = True
