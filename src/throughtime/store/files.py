"""Files written whole or not at all: beside, flushed to the disk, renamed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from throughtime.errors import RunError


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it is the old one or the new one, never a part.

    Raises:
        RunError: it cannot be written (no space, no permission), with the reason; the old file is untouched.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """As :func:`write_bytes`, as JSON that people can read; a number that JSON lacks (NaN, infinity) is an error.

    Raises:
        RunError: the file cannot be written.
    """
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        RunError: it is missing or is no JSON, with the line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} is missing; is {path.parent} a run directory?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is damaged: {error}") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from None


def cannot_write(path: Path, error: OSError) -> RunError:
    """The error for a file that could not be written."""
    return RunError(f"{path} cannot be written: {error.strerror}; free some space or name another folder with --out")


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk: without it a rename may be lost in a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
