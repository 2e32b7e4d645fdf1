"""Checkpoints: directories with a manifest of checksums, complete or not there; the newest two whole ones are kept."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from throughtime.errors import RunError
from throughtime.store.files import cannot_write, make_folder, read_json, remove_folder, sync_folder, write_json
from throughtime.store.manifest import check_manifest, write_manifest
from throughtime.store.tensors import load_tensors, save_tensors

_KEPT = 2


class Checkpoints:
    """The checkpoints of a run, each a directory named by its number of updates.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._damaged = set[int]()

    def save(self, update: int, state: Mapping[str, Any], tensors: Mapping[str, Mapping[str, NDArray[Any]]]) -> Path:
        """Write one, then drop all but the newest two of those that are not known to be damaged.

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
            make_folder(self.folder)
            beside.mkdir()
            write_json(beside / "state.json", state)
            for name, group in tensors.items():
                save_tensors(beside / f"{name}.safetensors", group)
            write_manifest(beside, ["state.json", *(f"{name}.safetensors" for name in tensors)])
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
        self._damaged.discard(update)
        kept = [number for number in self.numbers() if number not in self._damaged][-_KEPT:]
        for number in set(self.numbers()).difference(kept):
            shutil.rmtree(self.folder / f"{number:08d}", ignore_errors=True)
        return final

    def clear(self) -> None:
        """Drop all of them, all at once."""
        remove_folder(self.folder)

    def foreign(self) -> list[Path]:
        """What is beside them in their folder, and is none of them."""
        entries = self.folder.iterdir() if self.folder.is_dir() else []
        return [path for path in entries if not (path.is_dir() and re.fullmatch(r"\d{8,}|\.\d{8,}\.tmp", path.name))]

    def numbers(self) -> list[int]:
        """The updates of those that are there, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.is_dir() and path.name.isdigit())

    def load_newest(self) -> tuple[int, Any, dict[str, dict[str, NDArray[Any]]], list[str]] | None:
        """The newest one that is whole; from now on those passed over are known to be damaged.

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
                tensors = {
                    name.removesuffix(".safetensors"): load_tensors(folder / name)
                    for name in check_manifest(folder, "state.json")
                    if name.endswith(".safetensors")
                }
                return update, read_json(folder / "state.json"), tensors, damaged
            except RunError as error:
                damaged.append(str(error))
                self._damaged.add(update)
        if damaged:
            raise RunError(f"no checkpoint in {self.folder} can be used: {'; '.join(damaged)}; start a new run")
        return None
