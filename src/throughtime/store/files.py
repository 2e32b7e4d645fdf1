"""Files written whole or not at all: beside, flushed to the disk, renamed; and what to say of those that are not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from throughtime.errors import RunError


def absent(path: Path) -> str:
    """What to say of a path where nothing is: which part of it is missing, and the nearest name beside it.

    Example:
        >>> absent(Path("/nosuch/file.csv"))
        '/nosuch/file.csv does not exist: there is no folder /nosuch'
    """
    folder = path.parent
    if not folder.is_dir():
        return f"{path} does not exist: there is no folder {folder}"
    try:
        near = get_close_matches(path.name, os.listdir(folder), 1)
    except OSError:
        near = []
    return f"{path} does not exist" + (f"; did you mean {near[0]!r}?" if near else f"; nothing in {folder} has a name like it")


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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is damaged: {error}") from None
    except OSError as error:
        raise cannot_read(path, error) from None


def check_fields(place: Path | str, record: Any, kinds: Mapping[str, type]) -> None:
    """Raise where what a JSON file holds is not what was written there.

    Args:
        place: the file, or the line of it.
        record: what it holds.
        kinds: the fields that it must have, and what they are in Python.

    Raises:
        RunError: it is no object, or a field is missing or of another kind.

    Example:
        >>> check_fields("config.json", {"settings": []}, {"settings": dict})
        Traceback (most recent call last):
            ...
        throughtime.errors.RunError: config.json is damaged: settings is [], expected an object
    """
    if not isinstance(record, dict):
        raise RunError(f"{place} is damaged: it holds {_short(record)}, expected an object in JSON")
    for name, kind in kinds.items():
        if name not in record:
            raise RunError(f"{place} is damaged: it has no {name!r}")
        if not isinstance(record[name], kind):
            raise RunError(f"{place} is damaged: {name} is {_short(record[name])}, expected {_WORDS[kind]}")


_WORDS = {dict: "an object", list: "a list", str: "text", int: "a whole number", float: "a number"}


def _short(value: Any, most: int = 40) -> str:
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[:most]}..."


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cannot_read(path: Path, error: OSError) -> RunError:
    """The error for a file of a run that could not be read."""
    if isinstance(error, FileNotFoundError):
        return RunError(f"{path} is missing")
    return RunError(f"{path} cannot be read: {error.strerror}")


def cannot_write(path: Path, error: OSError) -> RunError:
    """The error for a file that could not be written."""
    mend = "free some space or " if error.errno in _NO_SPACE else ""
    return RunError(f"{path} cannot be written: {error.strerror}; {mend}name another place")


_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it where need be, each flushed to the disk in the one above."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder, if it is there, all at once: a process killed meanwhile leaves all of it or nothing of that name."""
    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    if folder.exists():
        folder.rename(beside)
        shutil.rmtree(beside)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk: without it a rename may be lost in a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
