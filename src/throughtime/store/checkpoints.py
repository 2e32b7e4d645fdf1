"""Checkpoints: directories with a manifest of checksums, complete or not there; the newest two are kept."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from throughtime.errors import RunError
from throughtime.store.files import cannot_write, read_json, sync_folder, write_json
from throughtime.store.tensors import load_tensors, save_tensors

_KEPT = 2


class Checkpoints:
    """The checkpoints of a run, each a directory named by its number of updates.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, update: int, state: Mapping[str, Any], tensors: Mapping[str, Mapping[str, NDArray[Any]]]) -> Path:
        """Write one, then drop all but the newest two.

        Args:
            update: its number.
            state: what is JSON in it.
            tensors: its files of arrays, by file name without ending.

        Returns:
            Its directory.

        Raises:
            RunError: it cannot be written; the ones before are untouched.
        """
        final = self.folder / f"{update:08d}"
        beside = self.folder / f".{final.name}.tmp"
        try:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            write_json(beside / "state.json", state)
            for name, group in tensors.items():
                save_tensors(beside / f"{name}.safetensors", group)
            names = ["state.json", *(f"{name}.safetensors" for name in tensors)]
            write_json(beside / "manifest.json", {name: _checksum(beside / name) for name in names})
            if final.exists():  # damaged, or the run would have gone on from it
                shutil.rmtree(final)
            beside.rename(final)
            sync_folder(self.folder)
        except OSError as error:
            shutil.rmtree(beside, ignore_errors=True)
            raise cannot_write(final, error) from error
        except RunError:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        # What is later than this one is damaged, else the run would have gone on from it: it must not count among those kept.
        kept = [number for number in self.numbers() if number <= update][-_KEPT:]
        for number in set(self.numbers()).difference(kept):
            shutil.rmtree(self.folder / f"{number:08d}", ignore_errors=True)
        return final

    def numbers(self) -> list[int]:
        """The updates of those that are there, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.is_dir() and path.name.isdigit())

    def load_newest(self) -> tuple[int, Any, dict[str, dict[str, NDArray[Any]]], list[str]] | None:
        """The newest one that is whole.

        Returns:
            Its update, its state, its files of arrays, and a line for each damaged one that was passed over; ``None`` if
            there is none at all.

        Raises:
            RunError: there are some, and all are damaged.
        """
        damaged: list[str] = []
        for update in reversed(self.numbers()):
            folder = self.folder / f"{update:08d}"
            try:
                manifest = read_json(folder / "manifest.json")
                if not isinstance(manifest, dict) or "state.json" not in manifest:
                    raise RunError(f"{folder / 'manifest.json'} is damaged: it does not name state.json")
                for name, expected in manifest.items():
                    if _checksum(folder / name) != expected:
                        raise RunError(f"{folder / name} is damaged: its checksum is not the one in manifest.json")
                tensors = {
                    name.removesuffix(".safetensors"): load_tensors(folder / name)
                    for name in manifest
                    if name.endswith(".safetensors")
                }
                return update, read_json(folder / "state.json"), tensors, damaged
            except RunError as error:
                damaged.append(str(error))
            except OSError as error:
                damaged.append(f"{error.filename} cannot be read: {error.strerror}")
        if damaged:
            raise RunError(f"no checkpoint in {self.folder} can be used: {'; '.join(damaged)}")
        return None


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
