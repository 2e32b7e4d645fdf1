"""Sound files: folders of classes, samples, and files that are broken."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from throughtime.data.sound import load, read_sound_folder, survey
from throughtime.errors import DataError
from throughtime.settings import Settings

REAL = Path(__file__).parents[2] / "shared" / "data" / "fsdd" / "recordings"


def write(path: Path, samples: int = 800, channels: int = 1, rate: int = 8000, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = np.random.default_rng(samples).uniform(-0.5, 0.5, (samples, channels))
    soundfile.write(path, sound, rate, subtype=subtype)
    return path


def test_load(tmp_path: Path) -> None:
    samples, rate = load(write(tmp_path / "a.wav"))
    assert samples.dtype == np.float32
    assert samples.shape == (800,)
    assert rate == 8000
    assert np.abs(samples).max() <= 0.5
    stereo, rate = load(write(tmp_path / "b.flac", channels=2, rate=16000))
    both, _ = soundfile.read(tmp_path / "b.flac")
    assert rate == 16000
    assert stereo == pytest.approx(both.mean(axis=1), abs=1e-6)


def test_real_sound() -> None:
    if not REAL.exists():
        pytest.skip(f"{REAL} is not here")
    samples, rate = load(REAL / "0_george_0.wav")
    assert rate == 8000
    assert samples.ndim == 1
    assert 0 < np.abs(samples).max() <= 1
    assert survey(sorted(REAL.iterdir())[:50]) == []


@pytest.mark.parametrize(
    "name", ["cut.wav", "cut.flac", "empty.wav", "text.wav", "none.wav", "silent.wav", "nan.wav", "folder.wav"]
)
def test_broken_sounds(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.startswith("cut"):
        write(path, 8000)
        path.write_bytes(path.read_bytes()[:5000])
    elif name == "empty.wav":
        path.write_bytes(b"")
    elif name == "text.wav":
        path.write_text("this is no sound " * 20)
    elif name == "silent.wav":
        write(path, 0)
    elif name == "nan.wav":
        soundfile.write(path, np.array([0.0, np.nan, 0.1]), 8000, subtype="FLOAT")
    elif name == "folder.wav":
        path.mkdir()
    message = {
        "cut.wav": r"cut off after 4,956 of 16,000 bytes",
        "cut.flac": "cannot be read as sound|cut off",
        "empty.wav": "is empty",
        "text.wav": "cannot be read as sound .format not recognised",
        "none.wav": "there is no such file",
        "silent.wav": "holds no sample",
        "nan.wav": "sample 1 is NaN",
        "folder.wav": "cannot be read",
    }[name]
    with pytest.raises(DataError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    if name not in ("nan.wav", "cut.flac"):
        with pytest.raises(DataError, match=message):
            survey([path])


def test_a_folder_per_class(tmp_path: Path) -> None:
    write(tmp_path / "yes" / "a.wav")
    write(tmp_path / "yes" / "deeper" / "b.FLAC", channels=2)
    write(tmp_path / "no" / "c.wav", rate=16000)
    write(tmp_path / "no" / ".hidden.wav")
    (tmp_path / "no" / "notes.txt").write_text("about them")
    (tmp_path / "maybe").mkdir()
    dataset = read_sound_folder(tmp_path, Settings(), True)
    content = dataset.content
    assert content.kind == "sound"
    assert content.targets == ["no", "yes", "yes"]
    assert content.origins == ["no/c.wav", "yes/a.wav", "yes/deeper/b.FLAC"]
    assert dataset.resolved == {"task": "classify"}
    warnings = "\n".join(dataset.warnings)
    assert "1 of 3 sounds have several channels" in warnings
    assert "8,000 Hz (2), 16,000 Hz (1)" in warnings
    assert "1 of .txt" in warnings
    assert "folders without a sound: maybe" in warnings
    assert "(2 classes): 3 files" in dataset.sentence


def test_folders_of_parts(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("yes", "no"):
            write(tmp_path / part / name / "a.wav")
    content = read_sound_folder(tmp_path, Settings(), True).content
    assert content.parts == ["test", "test", "train", "train"]
    assert content.targets == ["no", "yes", "no", "yes"]


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no .wav or .flac file"):
        read_sound_folder(tmp_path, Settings(), True)
    write(tmp_path / "a.wav")
    with pytest.raises(DataError, match=r"a.wav: is in no folder of a class .1 such files.; expected .*CLASS/a.wav"):
        read_sound_folder(tmp_path, Settings(), True)
    assert read_sound_folder(tmp_path, Settings(), False).content.targets is None
    with pytest.raises(DataError, match="is no folder"):
        read_sound_folder(tmp_path / "a.wav", Settings(), True)
    with pytest.raises(DataError, match="--task lm does not fit"):
        read_sound_folder(tmp_path, Settings.of({"task": "lm"}), True)


def test_without_soundfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(DataError, match=r"pip install 'throughtime\[speech\]'"):
        load(path)
