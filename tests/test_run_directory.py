"""A run directory: made, replaced, locked, read again, and one clear line where it cannot be."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from throughtime.errors import RunError
from throughtime.store import (
    FORMAT_VERSION,
    RunDirectory,
    check_fields,
)

from store_cases import RESULT, WEIGHTS

CONFIG: dict[str, Any] = {"throughtime": "0.1.0", "settings": {}}


def read_only(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


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
