"""Files that survive: whole or not there, checked when read, and one clear line where they cannot be written or used."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from throughtime.errors import RunError
from throughtime.store import (
    RunDirectory,
    files,
    load_tensors,
    read_json,
    save_tensors,
    write_bytes,
    write_json,
)
from throughtime.store.checkpoints import Checkpoints

from store_cases import RESULT, WEIGHTS


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# Files


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr(files.os if broken == "fsync" else Path, broken, full_disk)
    with pytest.raises(RunError, match=rf"^{path} cannot be written: No space left on device; free some space or name another"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [*tmp_path.iterdir()] == [path], "what was being written is still there"


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "free some space or name another place"),
        (errno.EDQUOT, "free some space or name another place"),
        (errno.EROFS, "name another place"),
        (errno.EACCES, "name another place"),
    ],
)
def test_the_mend_for_a_write_that_fails(number: int, mend: str) -> None:
    error = files.cannot_write(Path("a"), OSError(number, os.strerror(number)))
    assert str(error) == f"a cannot be written: {os.strerror(number)}; {mend}"


def test_json_is_strict_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"loss": float("nan")})
    assert not path.exists()
    numbers = [0.1, 1e-320, 1.7976931348623157e308, -0.0, 2**63]
    write_json(path, numbers)
    assert [float(x).hex() for x in read_json(path)] == [float(x).hex() for x in numbers]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing$"),
        (b"", "is damaged"),
        (b"{", "is damaged: .*line 1"),
        (b"\xff\xfe", "is damaged: .*byte"),
        (b'{"a": 1}\n{', "is damaged: .*line 2"),
    ],
)
def test_json_that_cannot_be_read(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=f"^{path} {message}") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_a_folder_where_a_file_should_be(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read: Is a directory"):
        read_json(tmp_path)
    with pytest.raises(RunError, match="cannot be written: "):
        write_bytes(tmp_path / "none" / "a", b"")


# Tensors


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_])
def test_tensors_keep_bits_types_and_shapes(dtype: type, tmp_path: Path) -> None:
    bits = (
        np.random.default_rng(0).integers(0, 2, (4, 6, 8))
        if dtype is np.bool_
        else np.random.default_rng(0).normal(size=(4, 6, 8)) * 99
    )
    values = bits.astype(dtype)
    tensors = {
        "all": values,
        "turned": values.T,
        "every other": values[:, ::2],
        "scalar": values[0, 0, 0, None][0:1].reshape(()),
        "none": values[:0],
    }
    save_tensors(tmp_path / "a.safetensors", tensors)
    found = load_tensors(tmp_path / "a.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.tobytes()


def test_tensors_keep_what_is_no_number(tmp_path: Path) -> None:
    values = np.array([0x7FC00001, 0xFF800000, 0x80000000, 1], np.uint32).view(np.float32)
    save_tensors(tmp_path / "a.safetensors", {"odd": values})
    assert load_tensors(tmp_path / "a.safetensors")["odd"].tobytes() == values.tobytes()


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_loading_executes_nothing(tmp_path: Path) -> None:
    path, trap = tmp_path / "a.safetensors", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(RunError, match=f"^{path} is damaged"):
        load_tensors(path)
    assert not trap.exists()


def test_every_cut_and_flip_of_a_header_is_refused_or_harmless(tmp_path: Path) -> None:
    """Never anything but a RunError, or tensors of the declared kind."""
    path = tmp_path / "a.safetensors"
    save_tensors(path, WEIGHTS["network"])
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place])
        with pytest.raises(RunError, match="is damaged"):
            load_tensors(path)
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x15]) + content[place + 1 :])
        try:
            assert all(isinstance(array, np.ndarray) for array in load_tensors(path).values())
        except RunError as error:
            assert str(path) in str(error)  # noqa: PT017 (either may happen)


# Checkpoints


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.load_newest() is None
    for update in (5, 30, 100, 123456789):
        checkpoints.save(update, {"update": update}, WEIGHTS)
    assert checkpoints.numbers() == [100, 123456789]
    found = checkpoints.load_newest()
    assert found is not None
    update, state, tensors, damaged = found
    assert (update, state, damaged) == (123456789, {"update": 123456789}, [])
    assert tensors.keys() == WEIGHTS.keys()
    assert tensors["network"]["step"].shape == ()
    assert tensors["network"]["w"].tobytes() == WEIGHTS["network"]["w"].tobytes()


def harmed(folder: Path) -> list[Any]:
    """Ways to damage a checkpoint: a name, what to do, and the file that must be named."""
    state, network, manifest = folder / "state.json", folder / "network.safetensors", folder / "manifest.json"
    return [
        (network, lambda: network.write_bytes(network.read_bytes()[:-1])),
        (network, lambda: network.write_bytes(b"\0" + network.read_bytes()[1:])),
        (network, network.unlink),
        (state, lambda: state.write_text("")),
        (state, lambda: state.write_text(state.read_text().replace("update", "upgrade"))),
        (state, state.unlink),
        (manifest, manifest.unlink),
        (manifest, lambda: manifest.write_text("")),
        (manifest, lambda: manifest.write_text("{}")),
        (manifest, lambda: manifest.write_text("[]")),
        (manifest, lambda: manifest.write_text('{"state.json": 3}')),
        (manifest, lambda: [path.unlink() for path in folder.iterdir()]),
    ]


@pytest.mark.parametrize("way", range(12))
def test_a_damaged_one_is_named_and_the_one_before_used(way: int, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"update": 1}, WEIGHTS)
    file, do = harmed(checkpoints.save(2, {"update": 2}, WEIGHTS))[way]
    do()
    found = checkpoints.load_newest()
    assert found is not None
    assert found[:2] == (1, {"update": 1})
    (line,) = found[3]
    assert "\n" not in line
    assert str(file.parent) in line
    assert file.name in line or way == 10
    _, do = harmed(tmp_path / "00000001")[way]
    do()
    with pytest.raises(RunError, match=rf"^no checkpoint in {tmp_path} can be used: .*00000002.*; .*00000001.*"):
        checkpoints.load_newest()


def test_a_damaged_one_never_costs_a_whole_one(tmp_path: Path) -> None:
    """Once it was passed over, it does not stand for one of the two that are kept, later or earlier than the next."""
    for number in (5, 15, 20, 100):
        checkpoints = Checkpoints(tmp_path / str(number))
        checkpoints.save(10, {}, WEIGHTS)
        (checkpoints.save(20, {}, WEIGHTS) / "state.json").unlink()
        checkpoints = Checkpoints(checkpoints.folder)  # of the process after the one that was killed
        found = checkpoints.load_newest()
        assert found is not None
        assert found[0] == 10
        checkpoints.save(number, {}, WEIGHTS)
        assert checkpoints.numbers() == sorted([10, number])
        (checkpoints.folder / f"{max(10, number):08d}" / "state.json").unlink()
        found = checkpoints.load_newest()
        assert found is not None
        assert found[0] == min(10, number)


@pytest.mark.parametrize("broken", ["fsync", "rename", "mkdir"])
def test_a_full_disk_leaves_the_ones_before(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"update": 1}, WEIGHTS)
    with monkeypatch.context() as patch:
        patch.setattr(files.os if broken == "fsync" else Path, broken, full_disk)
        with pytest.raises(RunError, match=rf"^{tmp_path}/.*0000002.* cannot be written: No space left on device") as caught:
            checkpoints.save(2, {"update": 2}, WEIGHTS)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]
    found = checkpoints.load_newest()
    assert found is not None
    assert (found[0], found[3]) == (1, [])
    checkpoints.save(2, {"update": 2}, WEIGHTS)
    assert checkpoints.numbers() == [1, 2]


class Disk:
    """What is done to the disk, and whether a power cut at any moment would take back what counted as done.

    A file must be flushed before it gets its name, all of a folder before the folder does, and every new name afterwards.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.flushed: dict[str, int] = {}
        self.unflushed: set[str] = set()
        self.renamed: list[str] = []
        fsync, rename, replace, mkdir = os.fsync, Path.rename, Path.replace, Path.mkdir

        def on_fsync(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            self.flushed[path] = os.stat(path).st_size
            self.unflushed = {name for name in self.unflushed if os.path.dirname(name) != path}
            fsync(descriptor)

        def moving(do: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
            def moved(path: Path, target: Path) -> Path:
                for inner in [path, *path.rglob("*")]:
                    assert str(inner) in self.flushed, f"{inner} was not flushed before {path} was renamed"
                    assert inner.is_dir() or self.flushed[str(inner)] == inner.stat().st_size
                    assert not any(name.startswith(f"{inner}/") for name in self.unflushed), "a name in it may be lost"
                self.unflushed.add(str(target))
                self.renamed.append(target.name)
                self.flushed |= {name.replace(str(path), str(target), 1): size for name, size in self.flushed.items()}
                return do(path, target)

            return moved

        def on_mkdir(path: Path, *args: Any, **options: Any) -> None:
            mkdir(path, *args, **options)
            self.unflushed.add(str(path))

        patch.setattr(os, "fsync", on_fsync)
        patch.setattr(Path, "rename", moving(rename))
        patch.setattr(Path, "replace", moving(replace))
        patch.setattr(Path, "mkdir", on_mkdir)


def test_a_power_cut_takes_back_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    run = RunDirectory.create(tmp_path / "runs" / "run", {})
    assert disk.renamed == ["config.json"]
    assert not disk.unflushed
    run.keep_records("metrics.jsonl", -1)
    for number in range(3):
        run.append("metrics.jsonl", {"update": number, "loss": 0.1})
        run.append("timings.jsonl", {"update": number, "seconds": 0.1})
        run.flush_records()
        for name in ("metrics.jsonl", "timings.jsonl"):
            assert disk.flushed[str(run.path / name)] == (run.path / name).stat().st_size > 0
        run.checkpoints.save(number, {}, WEIGHTS)
        assert not disk.unflushed
    run.save_model(WEIGHTS["network"], {})
    run.write_result(RESULT)
    assert not disk.unflushed
    assert disk.renamed[-4:] == ["transforms.json", "model.safetensors", "manifest.json", "result.json"]


def test_what_a_killed_process_was_writing_counts_for_nothing(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    run.checkpoints.save(1, {}, WEIGHTS)
    beside = run.checkpoints.folder / ".00000002.tmp"
    beside.mkdir()
    (beside / "state.json").write_text("{}")
    (run.path / ".model.safetensors.77.tmp").write_bytes(b"part")
    assert run.checkpoints.numbers() == [1]
    run.clear_leftovers()
    assert sorted(path.name for path in run.path.rglob("*.tmp")) == []
    assert run.checkpoints.numbers() == [1]
