"""Files that survive: whole or not there, checked when read, and one clear line where they cannot be written or used."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from throughtime.errors import RunError
from throughtime.store import (
    FORMAT_VERSION,
    RunDirectory,
    check_fields,
    files,
    load_tensors,
    read_json,
    save_tensors,
    write_bytes,
    write_json,
)
from throughtime.store.checkpoints import Checkpoints

WEIGHTS = {"network": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "step": np.array(3.0, np.float32)}, "empty": {}}


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


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


# Run directories


CONFIG: dict[str, Any] = {"throughtime": "0.1.0", "settings": {}}
RESULT: dict[str, Any] = {
    "task": "tag",
    "headline": "",
    "metric": {},
    "scored_on": "test",
    "scores": {},
    "training": {},
}


def test_create_writes_its_config_first(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "deep" / "run", {**CONFIG, "seed": 3})
    assert run.config() == {"format_version": FORMAT_VERSION, **CONFIG, "seed": 3}
    assert run.result() is None
    assert run.records("metrics.jsonl") == []
    run.write_result({**RESULT, "accuracy": 1.0})
    assert run.result() == {"format_version": FORMAT_VERSION, **RESULT, "accuracy": 1.0}


@pytest.mark.parametrize(
    ("name", "line", "fields"),
    [
        ("timings.jsonl", {"update": 1, "seconds": "x"}, "update and seconds"),
        ("timings.jsonl", {"update": 1, "seconds": None}, "update and seconds"),
        ("timings.jsonl", {"update": 0.5, "seconds": 1.5}, "update and seconds"),
        ("timings.jsonl", [1, 2.5], "update and seconds"),
        ("metrics.jsonl", {"update": "1"}, "update"),
    ],
)
def test_a_record_of_another_kind_is_refused_in_one_line(name: str, line: object, fields: str, tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", CONFIG)
    good = json.dumps({"update": 2, "seconds": 0.5})
    (run.path / name).write_text(f"{good}\n{json.dumps(line)}\n{good}\n")
    for look in (run.records, lambda name: run.keep_records(name, 5)):
        with pytest.raises(RunError) as caught:
            look(name)
        assert str(caught.value) == f"{run.path / name} line 2 is damaged; expected a record in JSON with {fields} as numbers"


def test_fields_are_checked_against_their_kind() -> None:
    check_fields("timings.jsonl", {"seconds": 0.5}, {"seconds": float})
    with pytest.raises(RunError, match=r'^timings\.jsonl is damaged: seconds is "x", expected a number$'):
        check_fields("timings.jsonl", {"seconds": "x"}, {"seconds": float})


def test_a_run_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run = RunDirectory.create(path, {**CONFIG, "first": True})
    run.append("metrics.jsonl", {"update": 0})
    # A start that was killed before its first checkpoint is taken over, and nothing of it stays.
    run = RunDirectory.create(path, {**CONFIG, "second": True})
    assert "first" not in run.config()
    assert run.records("metrics.jsonl") == []
    run.checkpoints.save(1, {}, WEIGHTS)
    with pytest.raises(RunError, match=rf"^--out {path} holds a run; go on with it by `throughtime resume {path}`, replace it"):
        RunDirectory.create(path, {})
    assert "second" in run.config()
    RunDirectory.create(path, {**CONFIG, "third": True}, overwrite=True)
    assert run.checkpoints.numbers() == []
    run.write_result(RESULT)
    with pytest.raises(RunError, match="holds a run"):
        run.check_free()


def killed_at(moment: int, patch: pytest.MonkeyPatch) -> None:
    """Die before the file or folder of this number is taken away."""
    left = iter(range(moment, -1, -1))

    def dying(do: Callable[..., Any]) -> Callable[..., Any]:
        def die(*args: Any, **options: Any) -> Any:
            if next(left, 0) == 0:
                raise KeyboardInterrupt
            return do(*args, **options)

        return die

    for module, name in ((os, "unlink"), (os, "rmdir"), (Path, "unlink"), (Path, "rename")):
        patch.setattr(module, name, dying(getattr(module, name)))


@pytest.mark.parametrize("finished", [False, True])
def test_killed_while_it_is_replaced(finished: bool, tmp_path: Path) -> None:
    """At every moment there is a run that can be used or gone on with, or none, and then a new one may come there.

    What a finished one is used for is there at every moment, and until the new one is finished.
    """
    old = RunDirectory.create(tmp_path / "old", {**CONFIG, "old": True})
    old.append("metrics.jsonl", {"update": 1})
    for update in (1, 2):
        old.checkpoints.save(update, {}, WEIGHTS)
    if finished:
        old.save_model(WEIGHTS["network"], {})
        old.write_result(RESULT)
        (old.path / "report.html").write_text("a report")
    usable = {path.name: path.read_bytes() for path in old.path.iterdir() if path.is_file()}
    found = set()
    for moment in range(60):
        run = RunDirectory(shutil.copytree(old.path, tmp_path / str(moment)))
        with pytest.MonkeyPatch.context() as patch:
            killed_at(moment, patch)
            try:
                RunDirectory.create(run.path, {**CONFIG, "new": True}, overwrite=True)
            except KeyboardInterrupt:
                pass
            else:
                break
        assert run.config()["old"], "no command takes this folder"
        whole = run.checkpoints.load_newest()
        if whole:
            assert whole[0] == 2
            assert run.result() or not finished
        if finished:
            kept = run if run.result() else RunDirectory(run.previous)
            assert {name: (kept.path / name).read_bytes() for name in usable} == usable
            assert kept.load_model()
        try:
            run.check_free()
            found.add("free")
            assert not whole
        except RunError:
            found.add("a run")
            assert whole or finished
        RunDirectory.create(run.path, {**CONFIG, "new": True}, overwrite=True)
        run.clear_leftovers()
        left = {"config.json", "previous"} if finished else {"config.json"}
        assert {path.name for path in run.path.iterdir()} == left
        if finished:
            assert {path.name: path.read_bytes() for path in run.previous.iterdir()} == usable
            with pytest.raises(RunError, match=rf"not finished; .*resume {run.path}`; the run before is in {run.previous}$"):
                run.check_finished()
            run.write_result(RESULT)
            assert not run.previous.exists()
    assert 10 < moment < 59
    assert found == ({"a run"} if finished else {"free", "a run"})


def test_one_process_at_a_time(tmp_path: Path) -> None:
    run, other = RunDirectory(tmp_path / "a" / "run"), RunDirectory(tmp_path / "a" / "run")
    with run.locked():
        with pytest.raises(RunError, match=rf"^{run.path} is being trained by another process; wait for its end") as caught:
            other.locked().__enter__()
        assert "\n" not in str(caught.value)
        RunDirectory.create(run.path, CONFIG)
        with pytest.raises(RunError, match="being trained"):
            other.locked().__enter__()
    with pytest.raises(KeyError), other.locked():
        raise KeyError
    with run.locked():
        run.check_free()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps nobody out, and stops nobody from training."""

    def none(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    with RunDirectory(tmp_path / "run").locked(), RunDirectory(tmp_path / "run").locked():
        pass


def test_a_model_that_is_not_what_was_written(tmp_path: Path) -> None:
    """Any byte of it; else the model would answer, and wrongly."""
    run = RunDirectory.create(tmp_path / "run", {})
    run.save_model(WEIGHTS["network"], {"mean": [1.25, 3.5]})
    tensors, transforms = run.load_model()
    assert tensors["w"].tobytes() == WEIGHTS["network"]["w"].tobytes()
    assert transforms == {"mean": [1.25, 3.5]}
    for name in ("model.safetensors", "transforms.json"):
        content = (run.path / name).read_bytes()
        for place in range(len(content)):
            (run.path / name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(
                RunError, match=rf"^{run.path / name} is damaged: its checksum is not the one in manifest.json$"
            ):
                run.load_model()
        (run.path / name).write_bytes(content)
    assert run.load_model()[1] == transforms
    for name in ("model.safetensors", "transforms.json", "manifest.json"):
        content = (run.path / name).read_bytes()
        (run.path / name).unlink()
        with pytest.raises(RunError, match=rf"^{run.path / name} is missing; put it back, or make the run again by fit with"):
            run.load_model()
        (run.path / name).write_bytes(content)
    (run.path / "manifest.json").write_text('{"transforms.json": "", "model": ""}')
    with pytest.raises(RunError, match=r"manifest\.json is damaged: it does not name model\.safetensors"):
        run.load_model()


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_somebody_else_are_never_touched(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(
        RunError, match=rf"^--out {tmp_path} holds thesis.tex, which is not part of a run; name another folder$"
    ):
        RunDirectory.create(tmp_path, {}, overwrite=overwrite)
    with pytest.raises(RunError, match="is a file, expected a folder or nothing"):
        RunDirectory.create(tmp_path / "thesis.tex", {}, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"checkpoints/epoch1.pt": ""}, "checkpoints"),
        ({"config.json": '{"lr": 1}', "metrics.jsonl": ""}, "config.json"),
        ({"config.json": "{", "result.json": "{}"}, "config.json"),
        ({"config.json": '{"format_version": 1}', "report.html": ""}, "config.json"),
        ({"report.html": ""}, "report.html"),
        ({"notes.tmp": ""}, "notes.tmp"),
        ({".cache.tmp": ""}, ".cache.tmp"),
        ({"config.json": json.dumps({"format_version": 1, **CONFIG}), "checkpoints/epoch1.pt": ""}, "checkpoints/epoch1.pt"),
        ({"config.json": json.dumps({"format_version": 1, **CONFIG}), "checkpoints/12/x": ""}, "checkpoints/12"),
        ({"config.json": json.dumps({"format_version": 1, **CONFIG}), "previous/notes.txt": ""}, "previous/notes.txt"),
    ],
)
def test_files_of_another_program_that_have_names_of_a_run(
    files: dict[str, str], named: str, overwrite: bool, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(RunError, match=rf"^--out {tmp_path} holds {named}, which is not part of a run; name another folder$"):
        RunDirectory.create(tmp_path, CONFIG, overwrite=overwrite)
    assert {str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("*") if p.is_file()} == files


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", {"format_version": 1, "throughtime": "0"}, "it has no 'settings'"),
        ("config.json", {"format_version": 1, **CONFIG, "settings": []}, r"settings is \[\], expected an object"),
        ("result.json", {"format_version": 1}, "it has no 'task'"),
        ("result.json", [], r"it holds \[\], expected an object in JSON"),
        ("result.json", {**RESULT, "headline": ["x" * 99]}, r"headline is \[\"x{38}\.\.\., expected text"),
    ],
)
def test_json_of_another_shape(name: str, content: Any, says: str, tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", CONFIG)
    run.write_result(RESULT)
    (run.path / name).write_text(json.dumps(content))
    with pytest.raises(RunError, match=rf"^{run.path / name} is damaged: {says}$"):
        run.config() if name == "config.json" else run.result()


def test_a_read_only_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(RunError, match=f"cannot be made: {tmp_path} is read-only; name another folder"):
            RunDirectory(tmp_path / "a" / "b").check_free()
    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(RunError, match=rf"^{tmp_path / 'run'} cannot be written: Read-only file system"):
        RunDirectory.create(tmp_path / "run", {})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"format_version": 99, "throughtime": "7.0"},
            "has format version 99, this throughtime reads 1; use the version that made it .7.0.",
        ),
        ({"throughtime": "0.0"}, "has format version None"),
        ({"format_version": "1"}, "has format version '1'"),
        ([1], "has format version None"),
        (None, "has format version None"),
    ],
)
def test_a_config_of_another_version(config: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=f"^{tmp_path} {message}"):
        RunDirectory(tmp_path).config()


def test_records_survive_being_cut_off_anywhere(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    said = [{"update": 0, "loss": 0.1}, {"update": 20, "note": "größer ∞"}, {"update": 40, "loss": 1e-300}]
    for record in said:
        run.append("metrics.jsonl", record)
    path = run.path / "metrics.jsonl"
    content = path.read_bytes()
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        whole = content[: cut + 1].count(b"}")  # a line without its end is whole all the same
        assert run.records("metrics.jsonl") == said[: min(whole, content[:cut].count(b"}"))]
    path.write_bytes(content[:-5])
    run.keep_records("metrics.jsonl", 20)
    run.append("metrics.jsonl", said[2])
    assert path.read_bytes() == content
    run.keep_records("metrics.jsonl", -1)
    assert path.read_bytes() == b""


def test_records_damaged_within(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    for damaged in ('{"upd', "{}", "[]", "null", '{"update": "1"}'):
        (run.path / "metrics.jsonl").write_text(f'{{"update": 0}}\n{damaged}\n{{"update": 2}}\n')
        with pytest.raises(RunError, match=r"metrics\.jsonl line 2 is damaged"):
            run.records("metrics.jsonl")


def test_a_resume_needs_no_line_after_its_checkpoint(tmp_path: Path) -> None:
    """Lines are flushed when a checkpoint is written: after a power cut any later one may be damaged, but none before."""
    run = RunDirectory.create(tmp_path / "run", {})
    path, lines = run.path / "metrics.jsonl", [json.dumps({"update": update}) for update in (0, 20, 20, 40, 60)]
    for damaged in range(5):
        for rest in ("", "\0" * 9, '{"upd'):
            path.write_text("\n".join([*lines[:damaged], rest, *lines[damaged + 1 :]]) + "\n")
            if damaged < 2:  # the third line may be a note of the same update: without it nothing looks wrong
                with pytest.raises(RunError, match=rf"metrics\.jsonl line {damaged + 1} is damaged"):
                    run.keep_records("metrics.jsonl", 20)
            else:
                run.keep_records("metrics.jsonl", 20)
                assert [record["update"] for record in run.records("metrics.jsonl")] == [0, 20, 20][: max(2, damaged)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_on_a_full_disk(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    (run.path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be written: No space left on device; free some space"):
        run.append("metrics.jsonl", {"update": 0})
