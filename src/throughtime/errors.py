"""The exceptions of ThroughTime.

::

    ThroughTimeError
    ├── LengthsError       lengths that do not fit the batch        (also ValueError and RuntimeError)
    ├── NotServedError     what this module or model cannot do      (also RuntimeError)
    ├── NotRecordedError   a recording that holds no measurement    (also RuntimeError)
    ├── SettingsError      a setting that is unknown or impossible  (also ValueError)
    ├── DataError          input that cannot be used as it is       (also ValueError)
    ├── RunError           a run directory that cannot be used      (also RuntimeError)
    └── TrainingError      training that could not go on            (also RuntimeError)

Each is also the built-in exception that torch.nn, or Python itself, raises for the same mistake, so that code written for
those catches it. Every message names the place, what was found, what was expected, and the mend.
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


class SettingsError(ThroughTimeError, ValueError):
    """A setting that is unknown, or a value it cannot have; the nearest valid name is suggested."""


class DataError(ThroughTimeError, ValueError):
    """Input that cannot be used as it is: file, row and column are named."""


class RunError(ThroughTimeError, RuntimeError):
    """A run directory that is of another version, damaged, incomplete, or in the way."""


class TrainingError(ThroughTimeError, RuntimeError):
    """Training that could not go on, with the place where it broke."""
