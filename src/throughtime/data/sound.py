"""Sound files: a folder per class, and the samples of one file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from throughtime.data.columns import PARTS, listed
from throughtime.data.files import plural
from throughtime.data.records import Dataset, Sequences
from throughtime.errors import DataError
from throughtime.settings import Settings

SUFFIXES = (".wav", ".flac")
"""Endings of sound files, in lower case."""

RATES = range(1000, 1_000_001)
"""The samples in a second that a sound may have."""

_STREAMED = 0x7FFF_0000  # a size from here up, or 0, says that the writer could not know it
_CUT = re.compile(r"^\s*data\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)


def read_sound_folder(path: Path, settings: Settings, with_target: bool) -> Dataset:
    """The sounds of a folder with a folder per class; the folders may stand within ``train``, ``valid`` and ``test``.

    Args:
        path: the folder.
        settings: for ``task``.
        with_target: whether the files must be in folders of classes; if not, any ``.wav`` and ``.flac`` below ``path`` is
            taken.

    Returns:
        The dataset; its inputs are paths.

    Raises:
        DataError: no sound, sounds outside the folders of classes, or a file that cannot be read.
    """
    if settings.data.task not in ("auto", "classify"):
        raise DataError(
            f"{path}: --task {settings.data.task} does not fit a folder of sounds per class; a table with path and label "
            "can say more"
        )
    if not path.is_dir():
        raise DataError(f"{path}: is no folder; expected one with a folder of .wav or .flac files per class")
    visible = [
        file for file in sorted(path.rglob("*")) if not any(name.startswith(".") for name in file.relative_to(path).parts)
    ]
    files = [file for file in visible if file.suffix.lower() in SUFFIXES and file.is_file()]
    others = Counter(
        file.suffix.lower() or file.name for file in visible if file.is_file() and file.suffix.lower() not in SUFFIXES
    )
    if not files:
        found = f"; there are {listed([f'{n:,} of {suffix}' for suffix, n in others.most_common()])}" if others else ""
        raise DataError(f"{path}: there is no .wav or .flac file{found}; expected a folder of them per class")
    inside = [file.relative_to(path).parts for file in files]
    divided = all(names[0].lower() in PARTS and len(names) > 2 for names in inside)
    depth = 1 if divided else 0
    loose = [file for file, names in zip(files, inside, strict=True) if len(names) < depth + 2]
    if loose and with_target:
        raise DataError(
            f"{loose[0]}: is in no folder of a class ({len(loose):,} such files); expected {path}/CLASS/{loose[0].name}"
        )
    warnings = survey(files)
    if others:
        warnings.append(
            f"left out, since neither .wav nor .flac: {listed([f'{n:,} of {suffix}' for suffix, n in others.most_common()])}"
        )
    if broken := [str(file.relative_to(path)) for file in visible if file.is_symlink() and not file.exists()]:
        warnings.append(f"links that lead nowhere, left out: {listed(broken)}")
    empty = sorted({folder.name for folder in visible if folder.is_dir()} - {name for names in inside for name in names[:-1]})
    if empty:
        warnings.append(f"folders without a sound: {listed(empty)}")
    classes = None if loose else [names[depth] for names in inside]
    content = Sequences(
        "sound",
        files,
        classes,
        [str(Path(*names)) for names in inside],
        parts=[PARTS[names[0].lower()] for names in inside] if divided else None,
        target_name="folder",
    )
    kinds = "" if classes is None else f" ({plural(len(set(classes)), 'class', 'classes')})"
    sentence = f"classify sounds by their folder{kinds}: {len(files):,} files in {path.name or path}; overrule with a table"
    resolved = {"task": "classify"} if settings.data.task == "auto" else {}
    return Dataset("classify", content, sentence, resolved, warnings, files)


def load(path: Path) -> tuple[NDArray[np.float32], int]:
    """The samples of a sound file.

    Args:
        path: a ``.wav`` or ``.flac`` file.

    Returns:
        The mean of the channels ``[samples]`` float32 in [-1, 1] (files of floats may go beyond), and the samples in a second.

    Raises:
        DataError: a file that is not there, unreadable, empty or cut off, or holds NaN; or soundfile is not installed.
    """
    soundfile = _soundfile()
    try:
        with soundfile.SoundFile(path) as file:
            expected, rate, log = file.frames, int(file.samplerate), file.extra_info
            _refuse_cut(path, expected, log)
            _refuse_rate(path, rate)
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(path, error) from None
    if len(samples) < expected:
        raise DataError(f"{path}: is cut off after {len(samples):,} of {expected:,} samples; copy it again, or leave it out")
    mono: NDArray[np.float32] = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise DataError(
            f"{path}: sample {int(np.argmin(np.isfinite(mono))):,} is NaN or infinite; convert it again, or leave it out"
        )
    return mono, rate


def survey(paths: Sequence[Path]) -> list[str]:
    """What the user should know of these files: several channels, several rates; only their headers are read.

    Raises:
        DataError: as :func:`load`, for the first file whose header says so.
    """
    soundfile = _soundfile()
    channels, rates = Counter[int](), Counter[int]()
    for path in paths:
        try:
            info = soundfile.info(path, verbose=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise _unreadable(path, error) from None
        _refuse_cut(path, info.frames, info.extra_info)
        _refuse_rate(path, info.samplerate)
        channels[info.channels] += 1
        rates[info.samplerate] += 1
    warnings = []
    several = sum(count for number, count in channels.items() if number > 1)
    if several:
        warnings.append(f"{several:,} of {len(paths):,} sounds have several channels, which are averaged")
    if len(rates) > 1:
        kinds = ", ".join(f"{rate:,} Hz ({count:,})" for rate, count in rates.most_common())
        warnings.append(f"the sounds differ in their rate: {kinds}; all are brought to the most common one")
    return warnings


def _soundfile() -> ModuleType:
    try:
        soundfile = import_module("soundfile")
    except ImportError:
        raise DataError("sound files need the package soundfile: pip install 'throughtime[speech]'") from None
    return soundfile


def _unreadable(path: Path, error: Exception) -> DataError:
    if not path.exists():
        return DataError(f"{path}: there is no such file")
    if path.is_file() and path.stat().st_size == 0:
        return DataError(f"{path}: is empty; copy it again, or leave it out")
    reason = str(error).rpartition(": ")[2].rstrip(".").lower() or type(error).__name__
    return DataError(
        f"{path}: cannot be read as sound ({reason}); expected a whole .wav or .flac file; convert it, or leave it out"
    )


def _refuse_rate(path: Path, rate: int) -> None:
    """A rate that is wrong would make a short file a very long one, once it is brought to that of the others."""
    if rate not in RATES:
        raise DataError(
            f"{path}: its header says {rate:,} Hz, expected {RATES[0]:,} to {RATES[-1]:,} Hz; mend the header, or leave the "
            "file out"
        )


def _refuse_cut(path: Path, frames: int, log: str) -> None:
    """libsndfile reads a WAV file that was cut off without complaint, but says so in its log."""
    cut = _CUT.search(log)
    if cut and 0 < int(cut[1]) < _STREAMED and int(cut[2]) < int(cut[1]):
        raise DataError(
            f"{path}: is cut off after {int(cut[2]):,} of {int(cut[1]):,} bytes of sound; copy it again, or leave it out"
        )
    if frames == 0:
        raise DataError(f"{path}: holds no sample; leave it out")
