"""A run directory: what a fit leaves behind, and all that is needed to go on with it, use it, or repeat it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from throughtime.errors import RunError
from throughtime.store.checkpoints import Checkpoints
from throughtime.store.files import (
    absent,
    cannot_write,
    check_fields,
    make_folder,
    read_json,
    remove_folder,
    sync_folder,
    write_bytes,
    write_json,
)
from throughtime.store.manifest import check_manifest, write_manifest
from throughtime.store.tensors import load_tensors, save_tensors

FORMAT_VERSION = 1


class RunDirectory:
    """One run.

    ``config.json`` everything resolved; ``model.safetensors`` the fitted weights; ``transforms.json`` what turns input into
    numbers; ``manifest.json`` the checksums of these two; ``metrics.jsonl`` a line per evaluation; ``timings.jsonl`` what the
    clock said, there and at checkpoints; ``plan.json`` what a time budget was turned into; ``result.json`` scores and what the
    report shows; ``report.html``; ``checkpoints/``; ``.lock``, which the process that trains holds; ``previous/``, the run that
    was here before, until this one is finished.

    Args:
        path: its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = Checkpoints(path / "checkpoints")
        self.previous = path / "previous"

    @classmethod
    def create(cls, path: Path, config: dict[str, Any], *, overwrite: bool = False) -> RunDirectory:
        """A new one, with its config.json.

        What is there of an old one goes in such an order that at every moment it is a run that can be used or gone on with,
        or none, which a fit may take over. One that is finished is kept, all but its checkpoints, until the new one is.

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
            make_folder(path)
            if (path / "result.json").exists():
                run._keep()
            run.checkpoints.clear()
            for name in _FILES:
                (path / name).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error
        write_json(path / "config.json", {"format_version": FORMAT_VERSION, **config})
        return run

    def check_free(self, *, overwrite: bool = False) -> None:
        """Raise if a new run cannot be put here.

        A file counts as one of a run by its name, and if the config.json beside it is one of a run: other programs too write
        into ``checkpoints``.

        Raises:
            RunError: a run is there (unless ``overwrite``), or files that no run made, or the folder cannot be written to.
        """
        path = self.path
        if path.is_dir():
            if foreign := self._foreign():
                name = min(foreign).relative_to(path)
                raise RunError(f"--out {path} holds {name}, which is not part of a run; name another folder")
            holds_run = self.checkpoints.numbers() or (path / "result.json").exists() or self.previous.exists()
            if holds_run and not overwrite:
                raise RunError(
                    f"--out {path} holds a run; go on with it by `throughtime resume {path}`, replace it with --overwrite, "
                    "or name another"
                )
        elif path.exists():
            raise RunError(f"--out {path} is a file, expected a folder or nothing")
        nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        if not os.access(nearest, os.W_OK):
            raise RunError(f"--out {path} cannot be made: {nearest} is read-only; name another folder")

    def _foreign(self) -> list[Path]:
        """What is in the folder and is not part of a run."""
        own = {*_FILES, "config.json", "checkpoints", "previous"} if is_run(self.path) else set[str]()
        own.add(_LOCK)
        found = [entry for entry in self.path.iterdir() if entry.name not in own and not _LEFT_OVER.fullmatch(entry.name)]
        if "checkpoints" in own:
            found += self.checkpoints.foreign()
        if "previous" in own and self.previous.is_dir():
            found += RunDirectory(self.previous)._foreign()
        return found

    def _keep(self) -> None:
        """Copy what can be used of this finished run into ``previous/``, before a new one takes its place."""
        beside = self.path / ".previous.new.tmp"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        for name in ("config.json", *_FILES):
            if (self.path / name).exists():
                write_bytes(beside / name, (self.path / name).read_bytes())
        remove_folder(self.previous)
        beside.rename(self.previous)
        sync_folder(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While it is open, no other process can train this run. The folder is made where need be.

        The kernel gives the lock back when the process ends, whatever it dies of. A file system without locks keeps nobody
        out; whether other machines are kept out of a shared folder is up to its file system (NFS from version 4 on does it).

        Raises:
            RunError: another process trains it, or the folder cannot be written to.
        """
        try:
            make_folder(self.path)
            file = (self.path / _LOCK).open("w")
        except OSError as error:
            raise cannot_write(self.path / _LOCK, error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"{self.path} is being trained by another process; wait for its end, or stop it") from None
            except OSError:  # there are no locks here
                pass
            yield

    def config(self) -> dict[str, Any]:
        """What config.json holds.

        Raises:
            RunError: no run is here, or one of another version.
        """
        if not self.path.is_dir():
            raise RunError(f"no run directory: {absent(self.path)}")
        if not (self.path / "config.json").exists():
            raise RunError(f"{self.path / 'config.json'} is missing; is {self.path} a run directory?")
        config: dict[str, Any] = read_json(self.path / "config.json")
        version = config.get("format_version") if isinstance(config, dict) else None
        if version != FORMAT_VERSION:
            made_by = config.get("throughtime", "unknown") if isinstance(config, dict) else "unknown"
            raise RunError(
                f"{self.path} has format version {version!r}, this throughtime reads {FORMAT_VERSION}; "
                f"use the version that made it ({made_by})"
            )
        check_fields(self.path / "config.json", config, _CONFIG)
        return config

    def result(self) -> dict[str, Any] | None:
        """What result.json holds; ``None`` if the run is not finished.

        Raises:
            RunError: it is damaged.
        """
        path = self.path / "result.json"
        if not path.exists():
            return None
        result: dict[str, Any] = read_json(path)
        check_fields(path, result, _RESULT)
        return result

    def write_result(self, result: dict[str, Any]) -> None:
        """Write result.json: from now on the run is finished, and the one before goes."""
        self.flush_records()
        write_json(self.path / "result.json", {"format_version": FORMAT_VERSION, **result})
        try:
            remove_folder(self.previous)
        except OSError as error:
            raise cannot_write(self.previous, error) from error

    def check_finished(self) -> None:
        """Raise where the fit is not finished.

        Raises:
            RunError: it says how to go on, and where the run before is.
        """
        if self.result() is None:
            before = f"; the run before is in {self.previous}" if self.previous.exists() else ""
            raise RunError(
                f"{self.path} has no model yet: its fit is not finished; "
                f"go on with it by `throughtime resume {shlex.quote(str(self.path))}`{before}"
            )

    def append(self, name: str, record: dict[str, Any]) -> None:
        """Add a line to ``metrics.jsonl`` or ``timings.jsonl``."""
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            raise cannot_write(self.path / name, error) from error

    def flush_records(self) -> None:
        """Flush these files to the disk, before something is written that stands for them."""
        for path in (self.path / name for name in _RECORDS):
            if path.exists():
                try:
                    with path.open("a") as file:
                        os.fsync(file.fileno())
                except OSError as error:
                    raise cannot_write(path, error) from error

    def records(self, name: str) -> list[dict[str, Any]]:
        """The lines of such a file; one that a crash cut off at its end is left out.

        Raises:
            RunError: another one is damaged.
        """
        found = self._parsed(name)
        return self._whole(name, found[:-1]) + [record for record in found[-1:] if record is not None]

    def keep_records(self, name: str, update: int) -> None:
        """Drop the lines of such a file that are later than this update: a resumed run writes them again.

        Raises:
            RunError: a line before is damaged. Those after it may be: they were not flushed before a power cut.
        """
        found = self._parsed(name)
        kept = [record for record in found if record is not None and record["update"] <= update]
        self._whole(name, found[: len(kept)])
        write_bytes(self.path / name, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept).encode())

    def _parsed(self, name: str) -> list[dict[str, Any] | None]:
        """The lines, ``None`` for each that is damaged."""
        path = self.path / name
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
        found: list[dict[str, Any] | None] = []
        for line in lines[:-1] if lines[-1:] == [""] else lines:
            try:
                record = json.loads(line)
                check_fields(path, record, _RECORDS[name])
                found.append(record)
            except (json.JSONDecodeError, RunError):
                found.append(None)
        return found

    def _whole(self, name: str, found: list[dict[str, Any] | None]) -> list[dict[str, Any]]:
        """The same, if none is damaged."""
        if None in found:
            raise RunError(
                f"{self.path / name} line {found.index(None) + 1} is damaged; expected a record in JSON with "
                f"{' and '.join(_RECORDS[name])} as numbers"
            )
        return [record for record in found if record is not None]

    def clear_leftovers(self) -> None:
        """Remove what a process was writing when it was killed."""
        for folder in (self.path, self.checkpoints.folder):
            for path in folder.glob(".*.tmp"):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def save_model(self, tensors: dict[str, NDArray[Any]], transforms: dict[str, Any]) -> None:
        """Write model.safetensors and transforms.json, and their checksums."""
        write_json(self.path / "transforms.json", transforms)
        save_tensors(self.path / "model.safetensors", tensors)
        write_manifest(self.path, _MODEL)

    def load_model(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """The arrays of model.safetensors, by parameter name, and what transforms.json holds.

        Raises:
            RunError: a file is missing, or is not what was written.
        """
        for path in (self.path / name for name in (*_MODEL, "manifest.json")):
            if not path.exists():
                raise RunError(f"{path} is missing; put it back, or make the run again by fit with --overwrite")
        check_manifest(self.path, *_MODEL)
        return load_tensors(self.path / "model.safetensors"), read_json(self.path / "transforms.json")


def is_run(folder: Path) -> bool:
    """Whether a folder is a run directory, of this version or another."""
    try:
        config = read_json(folder / "config.json")
    except RunError:
        return False
    return isinstance(config, dict) and {"format_version", "throughtime"} <= config.keys()


_LOCK = ".lock"
_LEFT_OVER = re.compile(r"\.(checkpoints|previous|previous\.new|[a-z]+\.[a-z]+\.\d+)\.tmp")
"""What a process was writing, or taking away, when it was killed."""
_CONFIG: dict[str, type] = {"throughtime": str, "settings": dict}
_RESULT: dict[str, type] = {"task": str, "headline": str, "metric": dict, "scored_on": str, "scores": dict, "training": dict}
_RECORDS: dict[str, dict[str, type]] = {"metrics.jsonl": {"update": int}, "timings.jsonl": {"update": int, "seconds": float}}
"""Fields that commands go by, and what they are."""
_MODEL = ("transforms.json", "model.safetensors")
_FILES = (
    "result.json",
    "report.html",
    *_MODEL,
    "manifest.json",
    "plan.json",
    *_RECORDS,
)
"""What is beside config.json, in the order in which an old run is taken away."""
