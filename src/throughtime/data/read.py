"""The reader of everything: looks at a file or folder, decides what it is, and hands it to the reader of that form."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np

from throughtime.data import tablefile, tagged
from throughtime.data.columns import PARTS, listed
from throughtime.data.files import Origins, check_text, existing, files_below, is_divided, repeated, start_of
from throughtime.data.records import Dataset, Frequency, Role, Sequences
from throughtime.data.split_sequences import digests
from throughtime.data.tables import read_table
from throughtime.data.tagged import looks_tagged, read_tagged
from throughtime.data.text import TEXT, read_class_folder, read_text, read_unlabelled
from throughtime.errors import DataError
from throughtime.settings import Settings

SOUND = (".wav", ".flac")
ARRAYS = (".ts", ".npz")
_KNOWN = (*tablefile.SUFFIXES, *tagged.SUFFIXES, *ARRAYS)
FORMS = (
    "a table (.csv .tsv .parquet .jsonl), text (.txt), tagged words (.conllu .conll), arrays (.ts .npz), or a folder per class"
)
_ELSEWHERE = {
    ".json": "one JSON object a line is read, as .jsonl; jq -c '.[]' converts an array",
    ".xlsx": "save the sheet as CSV",
    ".xls": "save the sheet as CSV",
    ".ods": "save the sheet as CSV",
    ".mp3": "convert it to .wav or .flac (ffmpeg does that)",
    ".npy": "save it as .npz with X and y (numpy.savez)",
    ".pkl": "a pickle can run code when it is opened, so none is read; save CSV, Parquet or .npz",
    ".pickle": "a pickle can run code when it is opened, so none is read; save CSV, Parquet or .npz",
    ".pt": "a pickle can run code when it is opened, so none is read; save .npz",
    ".arff": "the same data is published as .ts",
}


def read(
    path: Path,
    settings: Settings,
    *,
    with_target: bool = True,
    role: Role = "training",
    frequency: Frequency | None = None,
) -> Dataset:
    r"""Read data of any form that is known, and say how it was understood.

    Args:
        path: a file or a folder.
        settings: the task and the columns; what they leave open is guessed from the data.
        with_target: whether what is to be predicted must be there; where it is there it is read in any case.
        role: what it is read for. Data beside the training data may be short, and need not have the column of the groups.
        frequency: of the series that these go on with, or that the model was fitted on; a few values cannot tell theirs.

    Returns:
        The dataset. ``resolved`` holds what was guessed: a further file read with these settings is understood in the same way.

    Raises:
        DataError: data that cannot be used, with the place and the mend.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "reviews.csv")
        ...     _ = path.write_text("text,label\nvery good,yes\nnot at all good,no\n")
        ...     read(path, Settings()).sentence
        'classify `text` into `label` (2 classes), 2 rows of reviews.csv; overrule with --task, --text, --target'
    """
    path = existing(Path(path))
    try:
        reader = _read_folder if path.is_dir() else _read_file
        found = reader(path, settings, with_target, role, frequency)
        return replace(found, warnings=[*found.warnings, *_repeats(found, path, settings, role)])
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror}") from None


def _read_file(path: Path, settings: Settings, with_target: bool, role: Role, frequency: Frequency | None) -> Dataset:
    suffix, data = path.suffix.lower(), settings.data
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    if suffix == ".ts":
        from throughtime.data.uea import read_uea

        _refuse_columns(path, settings, role)
        return read_uea(path, settings, with_target)
    if suffix == ".npz":
        from throughtime.data.arrays import read_npz

        _refuse_columns(path, settings, role, "target")
        return read_npz(path, settings, with_target)
    if suffix in SOUND:
        if data.task in ("tag", "forecast", "lm"):
            raise DataError(f"{path} is a sound file, which --task {data.task} does not take; sound can be classified")
        if with_target:
            raise DataError(
                f"{path} is one sound file; give a folder per class of sound files, or a table with their paths and labels"
            )
        content = Sequences("sound", [path], None, Origins([path.name], "", np.zeros(1, dtype=np.int64)))
        return Dataset(
            "classify" if data.task == "auto" else data.task, content, f"read the sound file {path.name}", files=[path]
        )
    if suffix in _ELSEWHERE and data.task != "lm":
        raise DataError(f"{path}: {suffix} files are not read; {_ELSEWHERE[suffix]}")
    columns = bool(data.text or data.path or data.id or data.time or data.features or data.split_column or data.group)
    words = data.task == "tag" and not with_target and not columns  # a model of words asks for words alone
    tagged_table = suffix in (".tsv", ".tab") and (words or _is_tagged(path, settings, columns))
    if suffix in tablefile.SUFFIXES and not tagged_table:
        if words:
            raise DataError(
                f"{path} is a table, and the model tags words; give a word a line and a blank line after each sentence "
                "(.tsv, .conllu, .txt), or plain text (.txt)"
            )
        return read_table(path, settings, with_target=with_target, role=role, frequency=frequency)
    if suffix in TEXT and not with_target and (data.task in ("classify", "regress") or (words and not _in_columns(path))):
        return read_unlabelled(path, settings)
    if data.task == "lm":
        _refuse_columns(path, settings, role)
        return read_text(path, settings, role=role)
    if data.task == "tag" or suffix in tagged.SUFFIXES or _is_tagged(path, settings, columns):
        if data.task not in ("auto", "tag"):
            raise DataError(
                f"{path} holds words with a tag each, which --task {data.task} does not take; leave --task out, or give tag"
            )
        _refuse_columns(path, settings, role, "target")
        return read_tagged(path, settings, with_target=with_target, role=role)
    if columns or data.target:
        return read_table(path, settings, with_target=with_target, role=role, frequency=frequency)
    check_text(path)
    if suffix in TEXT and data.task == "auto":
        return read_text(path, settings, role=role)
    if suffix in TEXT:
        raise DataError(
            f"{path} is plain text, which has no labels for --task {data.task}; give a table with columns, or --task lm"
        )
    raise DataError(f"{path}: {suffix or 'a file without suffix'} is none of {FORMS}; --task lm learns to write like any text")


def _read_folder(path: Path, settings: Settings, with_target: bool, role: Role, frequency: Frequency | None) -> Dataset:
    data = settings.data
    files = files_below(path)
    if not files:
        raise DataError(f"{path} is a folder without files; expected {FORMS}")
    if data.task == "lm":
        _refuse_columns(path, settings, role)
        return read_text(path, settings, role=role)
    top = [file for file in files if file.parent == path]
    tables = [file for file in top if file.suffix.lower() in _KNOWN]
    if len(tables) > 1:
        raise DataError(f"{path} holds {len(tables)} files of data; {_choice(tables)}")
    if tables:
        found = _read_file(tables[0], settings, with_target, role, frequency)
        return replace(found, warnings=[f"{path} is a folder; {tables[0].name} in it is read", *found.warnings])
    if any(file.suffix.lower() in SOUND for file in files):
        from throughtime.data.sound import read_sound_folder

        _refuse_columns(path, settings, role)
        return read_sound_folder(path, settings, with_target)
    texts = [file for file in files if file.suffix.lower() in TEXT]
    if not texts:
        raise DataError(
            f"{path} holds no file of a known form; expected {FORMS}; --task lm learns to write like any text files"
        )
    if not with_target:
        return read_unlabelled(path, settings)
    _refuse_columns(path, settings, role)
    classes = {file.relative_to(path).parts[0] for file in texts if file.parent != path}
    in_classes = bool(classes) and not any(file.parent == path for file in texts)
    if data.task == "classify" or (data.task == "auto" and in_classes and len(classes) > 1):
        if not in_classes:
            raise DataError(
                f"{path} has .txt files beside its folders, or no folders; --task classify expects a folder per class"
            )
        return read_class_folder(path, settings, role=role)
    if data.task != "auto":
        raise DataError(f"{path} is a folder of .txt files, which --task {data.task} does not take; give a table, or one file")
    return read_text(path, settings, role=role)


def _repeats(found: Dataset, path: Path, settings: Settings, role: Role) -> list[str]:
    """A line on numbers and on sound files of the same content; readers of text count what they see themselves."""
    content = found.content
    sounds = any(file.suffix.lower() in SOUND for file in found.files[:1])
    if role == "new" or not isinstance(content, Sequences) or not (content.kind == "numeric" or sounds):
        return []
    again = len(content) - len(np.unique(digests(content, 0)))
    divided = content.parts is None and is_divided(role, settings)
    return repeated("sequences", again, len(content), path, role, divided=divided)


def _is_tagged(path: Path, settings: Settings, columns: bool) -> bool:
    """Whether a file that may be so is in CoNLL columns."""
    if columns or settings.data.task not in ("auto", "tag"):
        return False
    check_text(path)
    return looks_tagged(start_of(path, 1 << 16), sure=settings.data.task == "tag")


def _in_columns(path: Path) -> bool:
    """Whether the words of a text stand in columns, or in one: a word a line."""
    check_text(path)
    start = start_of(path, 1 << 16)
    return looks_tagged(start) or (len(start.split()) > 1 and all(len(line.split()) < 2 for line in start.splitlines()))


def _refuse_columns(path: Path, settings: Settings, role: Role, *but: str) -> None:
    """Raise where a setting names a column, and the data has none; beside other data, the name may be of a column of that."""
    if role != "training":
        return
    for name in ("text", "path", "id", "time", "features", "split_column", "group", "target"):
        if getattr(settings.data, name) and name not in but:
            raise DataError(
                f"{path} has no columns by name, so --{name.replace('_', '-')} means nothing; leave it out, or give a table"
            )


def with_parts(source: Path, settings: Settings) -> tuple[Path, Settings]:
    """A folder of files that are called by their parts (``X_TRAIN.ts`` and ``X_TEST.ts``) as these files; all else as it is.

    Args:
        source: what is to be fitted.
        settings: if they name a part, or that all of a folder is text, they are obeyed.

    Returns:
        The training file, and the settings with ``valid`` and ``test``.
    """
    data = settings.data
    if not source.is_dir() or data.valid is not None or data.test is not None or data.task == "lm":
        return source, settings
    files = [file for file in files_below(source) if file.parent == source and file.suffix.lower() in _KNOWN]
    parts = _by_part(files)
    if parts is None:
        return source, settings
    return parts.pop("train"), settings.replace(**{name: str(path) for name, path in parts.items()})


def _by_part(files: list[Path]) -> dict[str, Path] | None:
    """Files of one kind by the part that a word of their names says they hold, if that is so for all, and one is to train."""
    found: dict[str, Path] = {}
    for file in files:
        said = [PARTS[word] for word in re.split(r"[^a-z]+", file.stem.lower()) if word in PARTS]
        if len(said) != 1 or said[0] in found:
            return None
        found[said[0]] = file
    return found if "train" in found and len(found) > 1 and len({file.suffix.lower() for file in files}) == 1 else None


def _choice(files: list[Path]) -> str:
    """How to give one of several files, as it can be pasted."""
    names = [shlex.quote(str(file)) for file in files]
    parts = _by_part(files)
    if parts is None:
        return f"give one of them: {listed(names)}"
    given = "".join(f" --{part} {shlex.quote(str(parts[part]))}" for part in ("valid", "test") if part in parts)
    return f"give one of them: {listed(names)}; to fit: {shlex.quote(str(parts['train']))}{given}"
