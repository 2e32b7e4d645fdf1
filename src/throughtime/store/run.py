"""A run directory: what a fit leaves behind, and all that is needed to go on with it, use it, or repeat it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from throughtime.errors import RunError
from throughtime.store.checkpoints import Checkpoints
from throughtime.store.files import cannot_write, read_json, write_bytes, write_json
from throughtime.store.tensors import load_tensors, save_tensors

FORMAT_VERSION = 1


class RunDirectory:
    """One run.

    ``config.json`` everything resolved; ``model.safetensors`` the fitted weights; ``transforms.json`` what turns input into
    numbers; ``metrics.jsonl`` a line per evaluation; ``timings.jsonl`` what the clock said of them; ``plan.json`` what a time
    budget was turned into; ``result.json`` scores and what the report shows; ``report.html``; ``checkpoints/``.

    Args:
        path: its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = Checkpoints(path / "checkpoints")

    @classmethod
    def create(cls, path: Path, config: dict[str, Any], *, overwrite: bool = False) -> RunDirectory:
        """A new one, with its config.json.

        Args:
            path: the folder; what a start left there that was killed before its first checkpoint is taken over.
            config: what is written to config.json, beside the format's version.
            overwrite: replace a run that is there.

        Raises:
            RunError: a run is there, or something else, or the folder cannot be made.
        """
        run = cls(path)
        run.check_free(overwrite=overwrite)
        try:
            if path.exists():
                for name in _OWN:
                    _remove(path / name)
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error
        write_json(path / "config.json", {"format_version": FORMAT_VERSION, **config})
        return run

    def check_free(self, *, overwrite: bool = False) -> None:
        """Raise if a new run cannot be put here.

        Raises:
            RunError: a run is there (unless ``overwrite``), or files that no run made, or the folder cannot be written to.
        """
        path = self.path
        if path.is_dir():
            foreign = sorted(
                entry.name for entry in path.iterdir() if entry.name not in _OWN and not entry.name.endswith(".tmp")
            )
            if foreign:
                raise RunError(f"--out {path} holds {foreign[0]}, which is not part of a run; name another folder")
            if (self.checkpoints.numbers() or (path / "result.json").exists()) and not overwrite:
                raise RunError(
                    f"--out {path} holds a run; go on with it by `throughtime resume {path}`, replace it with --overwrite, "
                    "or name another"
                )
        elif path.exists():
            raise RunError(f"--out {path} is a file, expected a folder or nothing")
        nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        if not os.access(nearest, os.W_OK):
            raise RunError(f"--out {path} cannot be made: {nearest} is read-only; name another folder")

    def config(self) -> dict[str, Any]:
        """What config.json holds.

        Raises:
            RunError: no run is here, or one of another version.
        """
        if not self.path.is_dir():
            raise RunError(f"{self.path} is not a run directory: there is no such folder")
        config: dict[str, Any] = read_json(self.path / "config.json")
        version = config.get("format_version") if isinstance(config, dict) else None
        if version != FORMAT_VERSION:
            made_by = config.get("throughtime", "unknown") if isinstance(config, dict) else "unknown"
            raise RunError(
                f"{self.path} has format version {version!r}, this throughtime reads {FORMAT_VERSION}; "
                f"use the version that made it ({made_by})"
            )
        return config

    def update_config(self, **values: Any) -> None:
        """Set some values of config.json."""
        write_json(self.path / "config.json", {**self.config(), **values})

    def result(self) -> dict[str, Any] | None:
        """What result.json holds; ``None`` if the run is not finished."""
        return read_json(self.path / "result.json") if (self.path / "result.json").exists() else None

    def write_result(self, result: dict[str, Any]) -> None:
        """Write result.json: from now on the run is finished."""
        write_json(self.path / "result.json", {"format_version": FORMAT_VERSION, **result})

    def append(self, name: str, record: dict[str, Any]) -> None:
        """Add a line to ``metrics.jsonl`` or ``timings.jsonl``."""
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            raise cannot_write(self.path / name, error) from error

    def records(self, name: str) -> list[dict[str, Any]]:
        """The lines of such a file; one that a crash cut off at its end is left out."""
        path = self.path / name
        lines = (
            path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")
            if path.exists() and path.stat().st_size
            else []
        )
        records = []
        for number, line in enumerate(lines, 1):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                if number < len(lines):
                    raise RunError(f"{path} line {number} is damaged: {error}") from None
        return records

    def keep_records(self, name: str, update: int) -> None:
        """Drop the lines of such a file that are later than this update: a resumed run writes them again."""
        kept = [record for record in self.records(name) if record["update"] <= update]
        write_bytes(self.path / name, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept).encode())

    def clear_leftovers(self) -> None:
        """Remove what a process was writing when it was killed."""
        for folder in (self.path, self.checkpoints.folder):
            for path in folder.glob(".*.tmp"):
                _remove(path)

    def save_model(self, tensors: dict[str, NDArray[Any]]) -> None:
        """Write model.safetensors."""
        save_tensors(self.path / "model.safetensors", tensors)

    def load_model(self) -> dict[str, NDArray[Any]]:
        """The arrays of model.safetensors, by parameter name."""
        return load_tensors(self.path / "model.safetensors")


_OWN = (
    "config.json",
    "model.safetensors",
    "transforms.json",
    "metrics.jsonl",
    "timings.jsonl",
    "plan.json",
    "result.json",
    "report.html",
    "checkpoints",
)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
