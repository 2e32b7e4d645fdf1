"""Tables of text or of sound files with a label, read as sequences; tables of numbers are handed on to the readers of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from throughtime.data.columns import CLASSES, are_classes, listed, parts_of, row_number, texts
from throughtime.data.files import Origins, existing, is_divided, plural, repeated, shown
from throughtime.data.guess import Roles, guess_roles
from throughtime.data.records import Dataset, Frequency, Role, Sequences
from throughtime.data.spool import Spool, TextSpool
from throughtime.data.tablefile import ROW, Table, open_table
from throughtime.errors import DataError
from throughtime.settings import Settings


def read_table(
    path: Path,
    settings: Settings,
    *,
    with_target: bool = True,
    role: Role = "training",
    frequency: Frequency | None = None,
) -> Dataset:
    """A table, understood and read.

    Args:
        path: CSV, TSV, Parquet or JSONL.
        settings: which columns are what; the rest is guessed.
        with_target: whether the column to predict must be there.
        role: what it is read for.
        frequency: of the series that it goes on with, if it does.

    Returns:
        Text or sound sequences; or what the readers of long sequences and of time series make of it.

    Raises:
        DataError: a file, a row or a cell that cannot be used.
    """
    table = open_table(path)
    roles = guess_roles(table, settings, with_target, role)
    if roles.kind == "series":
        from throughtime.data.series import read_series

        return read_series(table.frame(), path, settings, role=role, frequency=frequency)
    if roles.kind == "long":
        from throughtime.data.long import read_long

        return read_long(table.frame(), path, settings, with_target, role=role)
    return _Reader(table, roles, settings, with_target, role).read()


@dataclass
class _Reader:
    """A table of text or sound, its roles, and what was found out while reading it."""

    table: Table
    roles: Roles
    settings: Settings
    with_target: bool
    role: Role

    def read(self) -> Dataset:
        roles, warnings = self.roles, list[str]()
        names = [name for name in (roles.input, roles.target, roles.split, roles.group) if name]
        same = [name for name in (roles.input, roles.target) if name]
        text, hashes, kept, blank = TextSpool(), Spool(), list[pl.DataFrame](), 0
        for cells in self.table.cells(names):
            hashes.add(cells.select(same).hash_rows().to_numpy())
            if roles.kind == "text":
                column = cells[roles.input].fill_null("")
                text.add(column)
                blank += int((column.str.strip_chars() == "").sum())
                cells = cells.drop(roles.input)
            kept.append(cells)
        self.cells = pl.concat(kept)
        if not len(self.cells):
            raise DataError(f"{self.table.path} holds a header and no rows")
        files = [self.table.path]
        inputs: Sequence[Any]
        if roles.kind == "sound":
            from throughtime.data.sound import survey

            inputs = self._sound_files()
            warnings += survey(inputs)
            files += sorted(set(inputs))
        else:
            inputs = text.slices()
            if blank:
                warnings.append(
                    f"rows without text in `{roles.input}`: {blank:,} of {len(inputs):,}; they are sequences of length 0"
                )
        task, targets = self._targets(warnings)
        again = len(self.cells) - len(np.unique(hashes.array()))
        divided = roles.split is None and is_divided(self.role, self.settings)
        warnings += repeated("rows", again, len(self.cells), self.table.path, self.role, divided=divided)
        origins = self.cells[ROW].to_numpy().astype(np.int64) + row_number(self.table.path, 0)
        content = Sequences(
            "sound" if roles.kind == "sound" else "text",
            inputs,
            targets,
            Origins([self.table.path.name], "row", origins),
            self._full(roles.group, "--group") if roles.group else None,
            self._parts() if roles.split else None,
            target_name=roles.target or "target",
        )
        column_of_input = "path" if roles.kind == "sound" else "text"
        resolved = {"task": task, column_of_input: roles.input, "target": roles.target, "split_column": roles.split}
        given = vars(self.settings.data)
        guessed = {name: value for name, value in resolved.items() if value is not None and given[name] in (None, "auto")}
        return Dataset(task, content, self._sentence(task, targets), guessed, warnings, files)

    def _targets(self, warnings: list[str]) -> tuple[str, Any]:
        """The task, and per row what is to be predicted."""
        asked, name = self.settings.data.task, self.roles.target
        if asked == "lm" or name is None:
            return ("classify" if asked == "auto" else asked), None
        column = self.cells[name].str.strip_chars()
        blank = column.is_null() | (column == "")
        if blank.any():
            if not self.with_target:
                count = int(blank.sum())
                warnings.append(
                    f"`{name}` is blank in {plural(count, 'row')} of {len(column):,}, so nothing is compared with it"
                )
                return ("classify" if asked == "auto" else asked), None
            raise DataError(
                f"{self._place(blank, name)}: blank, expected what is to be predicted "
                f"({plural(int(blank.sum()), 'such row')}); fill it in, remove the row, or name another column with --target"
            )
        numbers = column.cast(pl.Float64, strict=False)
        task = self._guessed_task(column, numbers) if asked == "auto" else asked
        if task == "classify":
            classes = column.n_unique()
            if classes > max(CLASSES, len(column) // 2):
                warnings.append(
                    f"`{name}` has {classes:,} classes in {plural(len(column), 'row')}; --target names another column"
                )
            return task, texts(column)
        bad = ~numbers.is_finite().fill_null(False)
        if bad.any():
            raise DataError(
                f"{self._place(bad, name)}: {shown(column[int(bad.arg_max() or 0)])} is not a finite number "
                f"({plural(int(bad.sum()), 'such row')}); mend it, or use --task classify if `{name}` holds classes"
            )
        return task, numbers.to_numpy().astype(np.float64)

    @staticmethod
    def _guessed_task(column: pl.Series, numbers: pl.Series) -> str:
        """Regress for quantities: nearly all of them numbers, and these not whole, or too many to be classes."""
        known = numbers.drop_nulls()
        if len(known) < 0.9 * len(column):
            return "classify"
        return "classify" if are_classes(known.to_numpy()) else "regress"

    def _sound_files(self) -> list[Path]:
        """Per row the sound file, each of which is there."""
        name, folder = self.roles.input, self.table.path.parent
        paths = [folder / cell for cell in self._full(name, "--path")]
        for index, path in enumerate(paths):
            if not path.is_file():
                place = self.table.place(int(self.cells[ROW][index]), name)
                try:
                    existing(path)
                except DataError as error:
                    raise DataError(f"{place}: {error}; paths are relative to the table") from None
                raise DataError(f"{place}: {path} is a folder, expected a sound file")
        return paths

    def _parts(self) -> list[str]:
        """Per row its part, by the name it has here."""
        name = self.roles.split or ""
        cells = pl.Series(name, self._full(name, "--split-column"), dtype=pl.String)
        return parts_of(cells, lambda row: self.table.place(int(self.cells[ROW][row]), name))

    def _full(self, name: str, flag: str) -> list[str]:
        """A column none of whose cells may be blank."""
        column = self.cells[name].str.strip_chars()
        blank = column.is_null() | (column == "")
        if blank.any():
            count = plural(int(blank.sum()), "such row")
            raise DataError(
                f"{self._place(blank, name)}: blank ({count}); fill it in, remove the row, or name another column with {flag}"
            )
        return texts(column)

    def _place(self, bad: pl.Series, name: str) -> str:
        """Where the first bad cell is."""
        return self.table.place(int(self.cells[ROW][int(bad.arg_max() or 0)]), name)

    def _sentence(self, task: str, targets: Any) -> str:
        roles = self.roles
        flags = ["--task", "--path" if roles.kind == "sound" else "--text"]
        what = f"`{roles.input}`" if roles.kind == "text" else f"the sound files of `{roles.input}`"
        if task == "lm":
            said = f"learn to write like {what}"
        elif targets is None:
            said = f"read {what}"
        elif task == "classify":
            said = f"classify {what} into `{roles.target}` ({plural(len(Counter(targets)), 'class', 'classes')})"
            flags.append("--target")
        else:
            said = f"predict the number `{roles.target}` from {what}"
            flags.append("--target")
        said += f", {plural(len(self.cells), 'row')} of {self.table.path.name}"
        if roles.split:
            said += f", divided by `{roles.split}`"
            flags.append("--split-column")
        if roles.group:
            said += f", keeping each `{roles.group}` together"
        return f"{said}; overrule with {listed(flags)}"
