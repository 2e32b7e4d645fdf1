"""The reader of everything: looks at a file or folder, decides what it is, and hands it to the reader of that form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from throughtime.data import tablefile, tagged
from throughtime.data.columns import listed
from throughtime.data.files import Origins, check_text, existing, files_below, start_of
from throughtime.data.records import Dataset, Sequences
from throughtime.data.tables import read_table
from throughtime.data.tagged import looks_tagged, read_tagged
from throughtime.data.text import TEXT, read_class_folder, read_text, read_unlabelled
from throughtime.errors import DataError
from throughtime.settings import Settings

SOUND = (".wav", ".flac")
ARRAYS = (".ts", ".npz")
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


def read(path: Path, settings: Settings, *, with_target: bool = True) -> Dataset:
    r"""Read data of any form that is known, and say how it was understood.

    Args:
        path: a file or a folder.
        settings: the task and the columns; what they leave open is guessed from the data.
        with_target: whether what is to be predicted must be there; where it is there it is read in any case.

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
        return _read_folder(path, settings, with_target) if path.is_dir() else _read_file(path, settings, with_target)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror}") from None


def _read_file(path: Path, settings: Settings, with_target: bool) -> Dataset:
    suffix, data = path.suffix.lower(), settings.data
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    if suffix == ".ts":
        from throughtime.data.uea import read_uea

        return read_uea(path, settings, with_target)
    if suffix == ".npz":
        from throughtime.data.arrays import read_npz

        return read_npz(path, settings, with_target)
    if suffix in SOUND:
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
    if suffix in tablefile.SUFFIXES and not (suffix in (".tsv", ".tab") and _is_tagged(path, settings, columns)):
        return read_table(path, settings, with_target=with_target)
    plain = suffix in TEXT and not with_target
    if plain and (data.task in ("classify", "regress") or (data.task == "tag" and not _is_tagged(path, settings, columns))):
        return read_unlabelled(path, settings)
    if data.task == "lm":
        _refuse_columns(path, settings)
        return read_text(path, settings)
    if data.task == "tag" or suffix in tagged.SUFFIXES or _is_tagged(path, settings, columns):
        if data.task not in ("auto", "tag"):
            raise DataError(
                f"{path} holds words with a tag each, which --task {data.task} does not take; leave --task out, or give tag"
            )
        _refuse_columns(path, settings, "target")
        return read_tagged(path, settings, with_target=with_target)
    if columns or data.target:
        return read_table(path, settings, with_target=with_target)
    check_text(path)
    if suffix in TEXT and data.task == "auto":
        return read_text(path, settings)
    if suffix in TEXT:
        raise DataError(
            f"{path} is plain text, which has no labels for --task {data.task}; give a table with columns, or --task lm"
        )
    raise DataError(f"{path}: {suffix or 'a file without suffix'} is none of {FORMS}; --task lm learns to write like any text")


def _read_folder(path: Path, settings: Settings, with_target: bool) -> Dataset:
    data = settings.data
    files = files_below(path)
    if not files:
        raise DataError(f"{path} is a folder without files; expected {FORMS}")
    if data.task == "lm":
        _refuse_columns(path, settings)
        return read_text(path, settings)
    top = [file for file in files if file.parent == path]
    known = (*tablefile.SUFFIXES, *tagged.SUFFIXES, *ARRAYS)
    tables = [file for file in top if file.suffix.lower() in known]
    if len(tables) > 1:
        raise DataError(f"{path} holds {len(tables)} files of data; {_choice(tables)}")
    if tables:
        found = _read_file(tables[0], settings, with_target)
        return replace(found, warnings=[f"{path} is a folder; {tables[0].name} in it is read", *found.warnings])
    if any(file.suffix.lower() in SOUND for file in files):
        from throughtime.data.sound import read_sound_folder

        return read_sound_folder(path, settings, with_target)
    texts = [file for file in files if file.suffix.lower() in TEXT]
    if not texts:
        raise DataError(
            f"{path} holds no file of a known form; expected {FORMS}; --task lm learns to write like any text files"
        )
    if not with_target:
        return read_unlabelled(path, settings)
    _refuse_columns(path, settings)
    classes = {file.relative_to(path).parts[0] for file in texts if file.parent != path}
    in_classes = bool(classes) and not any(file.parent == path for file in texts)
    if data.task == "classify" or (data.task == "auto" and in_classes and len(classes) > 1):
        if not in_classes:
            raise DataError(
                f"{path} has .txt files beside its folders, or no folders; --task classify expects a folder per class"
            )
        return read_class_folder(path, settings)
    if data.task != "auto":
        raise DataError(f"{path} is a folder of .txt files, which --task {data.task} does not take; give a table, or one file")
    return read_text(path, settings)


def _is_tagged(path: Path, settings: Settings, columns: bool) -> bool:
    """Whether a file that may be so is in CoNLL columns."""
    if columns or settings.data.task not in ("auto", "tag"):
        return False
    check_text(path)
    return looks_tagged(start_of(path, 1 << 16))


def _refuse_columns(path: Path, settings: Settings, *but: str) -> None:
    """Raise where a setting names a column, and the data has none."""
    for name in ("text", "path", "id", "time", "features", "split_column", "group", "target"):
        if getattr(settings.data, name) and name not in but:
            raise DataError(
                f"{path} has no columns by name, so --{name.replace('_', '-')} means nothing; leave it out, or give a table"
            )


def _choice(files: list[Path]) -> str:
    """How to give one of several files, by the parts that their names say they hold."""
    names = {
        part: [f.name for f in files if word in f.stem.lower()]
        for part, word in (("train", "train"), ("valid", "dev"), ("test", "test"))
    }
    if len(names["train"]) == 1 and len(names["test"]) == 1:
        valid = f" --valid {names['valid'][0]}" if len(names["valid"]) == 1 else ""
        return f"give one of them and its parts: {names['train'][0]}{valid} --test {names['test'][0]}"
    return f"give one of them: {listed([file.name for file in files])}"
