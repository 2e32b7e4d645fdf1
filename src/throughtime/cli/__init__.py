"""The command line: parsing and printing only. This file runs it, and gives every way it can end one line and an exit status.

0 done, 1 the work failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from throughtime.errors import SettingsError, ThroughTimeError

_SPEECH = ("soundfile", "kaldi_native_fbank")


@dataclass
class Call:
    """One call of the command line.

    Attributes:
        arguments: what was typed after ``throughtime``.
        traceback: whether an error shows where in the code it arose.
    """

    arguments: list[str]
    traceback: bool = False


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: what follows ``throughtime``; that of this process if not given.

    Returns:
        The exit status.

    Example:
        >>> main(["--nothing-of-that-name"])
        2
    """
    call = Call(list(sys.argv[1:] if arguments is None else arguments))
    if sys.stdout is None:  # closed by whoever started this
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows a question mark
    with warnings.catch_warnings():
        warnings.showwarning = _one_line
        try:
            status = _run(call)
            sys.stdout.flush()
            return status
        except BrokenPipeError:  # whoever read the output has had enough, as head has
            mute()
            return 0
        except (Exception, KeyboardInterrupt) as error:
            status, message = _explained(error)
            if call.traceback:
                traceback.print_exc()
            print(" ".join(message.split("\n")), file=sys.stderr)
            return status


def mute() -> None:
    """From now on what is written to stdout is lost: nobody reads it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _run(call: Call) -> int:
    from click.exceptions import Exit

    from throughtime.cli import bench, learning, runs  # noqa: F401 - they add their commands
    from throughtime.cli.application import application

    try:  # not by application.main, which has ideas of its own on Ctrl-C and closed pipes
        with application.make_context("throughtime", list(call.arguments), obj=call) as context:
            application.invoke(context)
    except Exit as end:
        return end.exit_code
    return 0


def _explained(error: BaseException) -> tuple[int, str]:
    """The exit status and the line for an error."""
    if isinstance(error, KeyboardInterrupt):
        return 130, str(error) or "stopped"
    if isinstance(error, ThroughTimeError):
        return (2 if isinstance(error, SettingsError) else 1), f"error: {error}"
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("throughtime"):
        extra = "speech" if error.name.split(".")[0] in _SPEECH else "train"
        return 1, f"error: this needs {error.name}, which is not installed: pip install 'throughtime[{extra}]'"
    if isinstance(error, OSError):
        return 1, f"error: {error}"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error):
        return 1, "error: out of memory; try a smaller --batch, --hidden or --window"
    found: Callable[[], str] | None = getattr(error, "format_message", None)  # of click, which need not be imported for this
    if found is None:
        return 1, f"error: this is a bug in throughtime: {type(error).__name__}: {error}; --traceback shows where"
    context: Any = getattr(error, "ctx", None)
    hint = f" See {context.command_path} --help" if context else ""
    return 2, f"error: {found()}{hint}"


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)
