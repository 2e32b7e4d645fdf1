"""The exceptions of ThroughTime.

::

    ThroughTimeError
    ├── LengthsError       lengths that do not fit the batch        (also ValueError and RuntimeError)
    ├── NotServedError     what this module or model cannot do      (also RuntimeError)
    └── NotRecordedError   a recording that holds no measurement    (also RuntimeError)

Each is also the built-in exception that torch.nn raises for the same mistake, so that code written for torch.nn catches it.
"""

from __future__ import annotations


class ThroughTimeError(Exception):
    """The root of all of them."""


class LengthsError(ThroughTimeError, ValueError, RuntimeError):
    """The lengths of a ragged batch are of the wrong number, kind or size."""


class NotServedError(ThroughTimeError, RuntimeError):
    """This module cannot do what was asked of it; the message says what can."""


class NotRecordedError(ThroughTimeError, RuntimeError):
    """No backward pass went through the layer asked for while the recording was on."""
