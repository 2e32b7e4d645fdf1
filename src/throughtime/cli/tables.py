"""Tables: predictions into a file or onto stdout, scores as aligned lines."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from throughtime.errors import RunError, SettingsError

if TYPE_CHECKING:
    import polars as pl

ENDINGS = (".csv", ".parquet", ".jsonl")
_DIGITS = 9
"""Of a number in CSV and JSONL: what a network says in float32 is no more exact."""


def check_out(out: Path | None, *sources: Path | None) -> None:
    """Raise where a table cannot be written, before anything is computed.

    Args:
        out: the file; ``None`` is stdout.
        sources: what is read, and must not be written over.

    Raises:
        SettingsError: another ending, a folder that is not there, or the data itself; or stdout is closed.
    """
    if out is None:
        if sys.__stdout__ is None:
            raise SettingsError("stdout is closed, so what is printed would be lost; open it, or give --out FILE")
        return
    if out.suffix.lower() not in ENDINGS:
        raise SettingsError(f"--out {out} ends in {out.suffix or 'nothing'}, expected {', '.join(ENDINGS)}")
    check_places(out, read=sources)


def check_places(*files: Path | None, read: Iterable[Path | None] = ()) -> None:
    """Raise where files cannot be written, before anything is computed.

    Args:
        files: each once; ``None`` is passed over.
        read: the data, which must not be written over.

    Raises:
        SettingsError: a folder that is not there, a folder in place of a file, one file twice, or the data itself.
    """
    wanted = [file for file in files if file is not None]
    sources = [source for source in read if source is not None and source.exists()]
    for place, file in enumerate(wanted):
        if not file.parent.is_dir():
            raise SettingsError(f"{file}: there is no folder {file.parent}; make it, or name another")
        if file.is_dir():
            raise SettingsError(f"{file} is a folder; name a file")
        if file.exists() and any(file.samefile(source) for source in sources):
            raise SettingsError(f"{file} is the data that is read; name another file")
        if file.absolute() in [earlier.absolute() for earlier in wanted[:place]]:
            raise SettingsError(f"{file} is named twice; give each its own file")


def write_table(table: dict[str, list[Any]], out: Path | None) -> None:
    """Write a table as CSV, Parquet or JSONL, by the ending of the file; as CSV onto stdout where there is none.

    Args:
        table: columns of one length, by name.
        out: the file; it is written whole or not at all.

    Raises:
        RunError: it cannot be written.
        BrokenPipeError: nobody reads stdout any more.
    """
    import polars as pl

    from throughtime.store import write_bytes

    frame, content = pl.DataFrame(table, strict=False), io.BytesIO()
    ending = ".csv" if out is None else out.suffix.lower()
    if ending != ".parquet":
        rounded = [_rounded(column) for column in frame if column.dtype.is_float()]
        frame = frame.with_columns(*rounded, pl.selectors.datetime().dt.to_string("%Y-%m-%d %H:%M:%S"))
    writers: dict[str, Callable[[io.BytesIO], object]]
    writers = {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}
    writers[ending](content)
    if out is not None:
        write_bytes(out, content.getvalue())
        return
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(content.getvalue())  # UTF-8 whatever the terminal is: it is data
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunError(f"stdout cannot be written to: {error.strerror}; give --out FILE, in a place with space") from error


def _rounded(column: pl.Series) -> pl.Series:
    """Numbers with as many digits as a network in float32 can mean, counted from what they vary by, whatever their level.

    A number that is smaller than that has as many of its own.
    """
    known = column.filter(column.is_finite())
    steps = known.diff().abs()
    # From row to row, since a table may hold many series, of different levels, one after the other.
    spread = cast("float | None", steps.filter(steps > 0).median())
    if spread is None:
        return column
    decimals = max(_DIGITS - 1 - math.floor(math.log10(min(spread, sys.float_info.max))), 0)
    if math.log10(cast("float", known.abs().max())) + decimals > sys.float_info.dig:
        return column  # float64 holds no more digits than these
    return column.round(decimals).zip_with(column.abs() > spread, column.round_sig_figs(_DIGITS))


def score_lines(scores: dict[str, float], metric: str, label: str) -> list[str]:
    """Scores below each other.

    Args:
        scores: by name.
        metric: the one that comes first: what the task is judged by.
        label: what people call it.
    """
    from throughtime.report import formats

    order = sorted(scores, key=lambda name: name != metric)
    return aligned([[_heading(name, metric, label), formats.plain(scores[name])] for name in order])


def _heading(name: str, metric: str, label: str) -> str:
    from throughtime.report import formats

    return label if name == metric else formats.name(name)


def result_lines(result: dict[str, Any], width: int) -> list[str]:
    """The model of a result against its baselines, best first below it; columns that do not fit are left out, the last first.

    Args:
        result: what result.json holds.
        width: of the terminal, in characters.
    """
    from throughtime.report import formats

    metric = result["metric"]
    sign = -1 if metric["higher_is_better"] else 1
    own = result["scores"][result["scored_on"]]
    rivals = sorted(
        (b for b in result["baselines"] if metric["name"] in b["scores"]), key=lambda b: sign * b["scores"][metric["name"]]
    )
    names = [metric["name"], *(name for name in own if name not in (metric["name"], *formats.WORKING))]
    model = result["model"]
    rows = [["", *(_heading(name, metric["name"], metric["label"]) for name in names), "parameters", "seconds"]]
    rows.append(
        [
            "this model",
            *(formats.plain(own.get(name)) for name in names),
            formats.plain(model["parameters"]),
            _seconds(result["training"]),
        ]
    )
    for rival in rivals:
        scores = (formats.plain(rival["scores"].get(name)) for name in names)
        rows.append([rival["name"], *scores, formats.plain(rival["parameters"]), _seconds(rival)])
    columns = list(range(len(rows[0])))
    while True:
        lines = aligned([[row[column] for column in columns] for row in rows])
        if len(columns) <= 2 or max(map(len, lines)) <= width:
            return lines
        # Scores beyond the first are what can best be missed: the report has them all.
        columns.pop(-3 if len(columns) > 4 else -1)


def _seconds(record: dict[str, Any]) -> str:
    return f"{record['seconds']:,.1f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells as lines: the first column from the left, the others from the right.

    Example:
        >>> aligned([["loss", "1"], ["accuracy", "0.5"]])
        ['loss        1', 'accuracy  0.5']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
