"""Checksums of files, in a file beside them: whether they are still what was written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from throughtime.errors import RunError
from throughtime.store.files import cannot_read, checksum, read_json, write_json

_NAME = "manifest.json"


def write_manifest(folder: Path, names: Iterable[str]) -> None:
    """Write the checksums of some files of a folder into its manifest.json.

    Raises:
        RunError: it cannot be written.
    """
    write_json(folder / _NAME, {name: checksum(folder / name) for name in names})


def check_manifest(folder: Path, *needed: str) -> list[str]:
    """Compare the files of a folder with its manifest.json.

    Args:
        folder: where both are.
        needed: files that it must name.

    Returns:
        The files that it names.

    Raises:
        RunError: a file is missing or is not what was written, with its name.
    """
    manifest = read_json(folder / _NAME)
    for name in needed:
        if not isinstance(manifest, dict) or name not in manifest:
            raise RunError(f"{folder / _NAME} is damaged: it does not name {name}")
    for name, expected in manifest.items():
        try:
            found = checksum(folder / name)
        except OSError as error:
            raise cannot_read(folder / name, error) from None
        if found != expected:
            raise RunError(f"{folder / name} is damaged: its checksum is not the one in {_NAME}")
    return list(manifest)
