"""Which column of a table is what: settings first, then names, then what the cells look like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import polars as pl

from throughtime.data.columns import LABELS, SPLITS, guess as named, guess_split, is_number, listed
from throughtime.data.records import Role
from throughtime.data.tablefile import Table
from throughtime.data.times import MONTH
from throughtime.errors import DataError
from throughtime.settings import Settings

TEXTS = (
    "text",
    "sentence",
    "review",
    "comment",
    "content",
    "body",
    "message",
    "tweet",
    "utterance",
    "question",
    "document",
    "abstract",
)
LABELS_OF_TEXT = (
    *(*LABELS, "genre", "sentiment", "topic", "intent", "emotion", "rating", "stars", "score"),
    *("digit", "word", "command", "language", "is_spam", "spam"),
)
NO_LABELS = (
    *("id", "index", "idx", "uid", "uuid", "speaker", "subject", "patient", "author", "user", "user_id", "session"),
    *("date", "time", "timestamp", "year", "source", "file", "filename", "url", ""),
)
"""What a column of few values may be called without being what one wants to predict."""

SOUND_FILE = r"\.(wav|flac)\s*$"


@dataclass(frozen=True)
class Roles:
    """What a table holds, and which columns play a part in that.

    Attributes:
        kind: text or sound files, a row each; sequences of many rows; time series.
        input: the column of the text or of the paths; empty for the other kinds, whose readers know their own columns.
        target: what to predict, if anything.
        split: the column of the parts.
        group: the column of what stays together.
    """

    kind: Literal["text", "sound", "long", "series"]
    input: str = ""
    target: str | None = None
    split: str | None = None
    group: str | None = None


def guess_roles(table: Table, settings: Settings, with_target: bool, role: Role = "training") -> Roles:
    """What each column of a table is.

    Args:
        table: the table; its first rows are looked at.
        settings: which columns are what; they overrule every guess.
        with_target: whether the column to predict must be there.
        role: what the table is read for; a part of its own need not have the column of the groups.

    Raises:
        DataError: a column that is not there, settings that do not go together, or nothing that could be learned from.
    """
    data, sample = settings.data, table.sample()
    rows_make_sequences = bool(data.id or data.time or data.features)
    if data.text and data.path:
        raise DataError(f"{table.path}: --text and --path are both given; the input is either text or sound files")
    if (data.text or data.path) and rows_make_sequences:
        raise DataError(
            f"{table.path}: --id, --time and --features are for sequences of numbers; they do not go with --text or --path"
        )
    if (data.text or data.path) and data.task in ("tag", "forecast"):
        flag = "--text" if data.text else "--path"
        raise DataError(f"{table.path}: --task {data.task} does not go with {flag}; expected classify or regress")
    for flag in ("text", "path", "id", "time", "split_column", "group"):
        name = getattr(data, flag)
        if name and (with_target or flag not in ("split_column", "group")) and (role == "training" or flag != "group"):
            table.require(name, "--" + flag.replace("_", "-"))
    if data.target and with_target and data.task != "forecast" and not rows_make_sequences:
        table.require(data.target, "--target")
    kind, column = _kind(table, sample, settings, rows_make_sequences)
    if kind in ("long", "series"):
        return Roles(kind)
    split = data.split_column if data.split_column in table.columns else None
    if data.split_column is None:
        split = guess_split(sample, [column])
    group = data.group if data.group in table.columns else None
    taken = [name for name in (column, split, group) if name]
    roles = [name for name in (*taken, data.target) if name]
    if twice := next((name for name in roles if roles.count(name) > 1), None):
        raise DataError(
            f"{table.path}: column {twice!r} is given two parts to play; input, target, split and group must differ"
        )
    target = data.target if data.target in table.columns else None
    if data.target is None and data.task != "lm":
        target = _target(sample, taken)
        if target is None and with_target:
            rest = [name for name in table.columns if name not in taken]
            choice = f"choose one of: {listed(rest)}" if rest else "there is no column beside it"
            raise DataError(f"{table.path}: no column looks like the label of {column!r}; name it with --target ({choice})")
    return Roles(kind, column, target, split, group)


def _kind(
    table: Table, sample: pl.DataFrame, settings: Settings, rows_make_sequences: bool
) -> tuple[Literal["text", "sound", "long", "series"], str]:
    """What the table holds, and the column of the text or of the paths."""
    from throughtime.data.series import is_called_series, looks_like_series

    data = settings.data
    if data.path:
        return "sound", data.path
    if data.text:
        return "text", data.text
    if data.task == "forecast" or (data.task == "auto" and is_called_series(table.columns)):
        return "series", ""
    if data.task == "tag":
        return "long", ""
    taken = [name for name in (data.target, data.split_column, data.group) if name]
    schema = sample.schema  # made anew at every look at it, for all columns
    free = [name for name, kind in schema.items() if name not in taken and kind in (pl.String, pl.Categorical, pl.Enum)]
    cells = {name: sample[name].cast(pl.String).drop_nulls() for name in free}
    cells = {name: column for name, column in cells.items() if len(column) and not is_number(column)}
    if not rows_make_sequences:
        for name, column in cells.items():
            if data.task != "lm" and column.str.to_lowercase().str.contains(SOUND_FILE).all():
                return "sound", name
        if text := _text(sample, cells, sure=True):
            return "text", text
    if data.task == "auto" and looks_like_series(sample):
        return "series", ""
    others = [name for name in schema if name not in taken and name not in cells]
    if not rows_make_sequences and (
        data.task == "lm" or len(others) <= 1 or not any(sample[name].dtype.is_numeric() for name in others)
    ):
        if text := _text(sample, cells, sure=False):
            return "text", text
        raise DataError(
            f"{table.path}: no column holds text, sound files or a time; name one with --text, --path or --time "
            f"(the columns are {listed(table.columns)})"
        )
    return "long", ""


def _text(sample: pl.DataFrame, cells: dict[str, pl.Series], sure: bool) -> str | None:
    """The column of the text: by its name, else the one of the most words; if one need not be sure, of the longest cells."""
    if name := named(sample.select(list(cells)), TEXTS):
        return name
    scores = {}
    for name, column in cells.items():
        if _looks_like_time(column) or name.lower() in SPLITS:
            continue
        words, letters = column.str.count_matches(r"\s+\S").mean(), column.str.len_chars().mean()
        assert isinstance(words, float) and isinstance(letters, float)
        if (words >= 1.5) if sure else (column.n_unique() > len(column) / 2):
            scores[name] = (words, letters)
    return max(scores, key=lambda name: scores[name]) if scores else None


def _target(sample: pl.DataFrame, taken: Iterable[str]) -> str | None:
    """The column of the label: by its name, else the last of few values, else the only one left."""
    if name := named(sample, LABELS_OF_TEXT, taken):
        return name
    rest = [name for name in sample.columns if name not in taken]
    likely = [name for name in rest if name.lower() not in (*NO_LABELS, *SPLITS)]
    few = [
        name
        for name in likely
        if not sample[name].dtype.is_nested() and 2 <= sample[name].n_unique() <= max(2, min(100, len(sample) // 3))
    ]
    if few:
        return few[-1]
    return likely[0] if len(likely) == 1 else None


def _looks_like_time(column: pl.Series) -> bool:
    number = r"\d{1,4}[-/.:]\d{1,2}([-/.: T]|$)"
    share = column.str.contains(rf"^\s*({number}|(\d{{1,2}}[ -])?{MONTH}\.?[ -]\d{{1,4}}\b)").mean()
    return isinstance(share, float) and share > 0.9
