"""The command that measures: ThroughTime against the frameworks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from throughtime.cli.application import FILE, command
from throughtime.errors import SettingsError, ThroughTimeError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from throughtime.bench.benchmark import Record
    from throughtime.bench.cases import Size
    from throughtime.bench.comparison import Compared

_ROUNDS = 9
_WIDE = 140
"""Columns where stdout is no terminal."""


def _sizes(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> list[Size] | None:
    sizes = []
    for text in texts:
        numbers = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
        if len(numbers) != 4 or min(numbers) < 1:
            raise click.BadParameter(f"{text!r} is no size; give T,B,I,H, such as 100,32,64,64")
        sizes.append((numbers[0], numbers[1], numbers[2], numbers[3]))
    return sizes or None


@command()
@click.option("--quick", is_flag=True, help="Under a minute: two sizes, three rounds, the main comparison alone.")
@click.option("--threads", type=click.IntRange(1, 1024), default=2, show_default=True, metavar="N", help="Of every peer.")
@click.option(
    "--rounds", type=click.IntRange(2, 1000), metavar="N", help=f"Samples of everything.  [default: {_ROUNDS}, quick 3]"
)
@click.option("--peers", metavar="NAME,NAME", help="Only these, of torch, torch-mkl, torch-compile, jax, onnxruntime.")
@click.option(
    "--out", type=FILE, default=Path("speed"), show_default=True, metavar="FOLDER", help="For JSON, Markdown and SVG."
)
@click.option("--size", "sizes", multiple=True, callback=_sizes, hidden=True, help="T,B,I,H in place of the usual ones.")
def bench(quick: bool, threads: int, rounds: int | None, peers: str | None, out: Path, sizes: list[Size] | None) -> None:
    """Measure ThroughTime against torch.nn, torch.compile, JAX and ONNX Runtime, as far as they are installed.

    First every peer's outputs and gradients are compared with float64; those that are wrong are not timed. Then they take
    turns, each in a process of its own. The whole run takes half an hour, on a machine that does nothing else.
    """
    if out.exists() and not out.is_dir():
        raise SettingsError(f"--out {out} is a file; name a folder")
    if not out.absolute().parent.is_dir():
        raise SettingsError(f"--out {out}: there is no folder {out.absolute().parent}; make it, or name another")
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from throughtime.bench.benchmark import QUICK_ROUNDS, run
    from throughtime.bench.peers import OURS, chosen
    from throughtime.bench.report import write

    taking_part = chosen(None if peers is None else [name.strip() for name in peers.split(",")])
    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _WIDE)

    # Drawn when something is told, not by a thread, which would run beside what is measured.
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, auto_refresh=False, disable=quiet) as progress:
        bar = progress.add_task("", total=1.0)

        def told(doing: str, done: float) -> None:
            progress.update(bar, description=doing, completed=done, refresh=True)
            if quiet:
                click.echo(doing)

        record = run(
            threads=threads,
            rounds=rounds or (QUICK_ROUNDS if quick else _ROUNDS),
            quick=quick,
            peers=taking_part,
            told=told,
            sizes=sizes,
        )
    files = write(record, out)
    _show(record, console)
    for file in files:
        click.echo(file)
    for compared in (c for section in record.sections.values() for c in section):
        if OURS in compared.refused:
            where = f"{compared.case.cell} {compared.case.size}"
            raise ThroughTimeError(f"ThroughTime itself could not be timed at {where}: {compared.refused[OURS]}")


def _show(record: Record, console: Console) -> None:
    """The main comparison as tables, and a line for everything else."""
    from throughtime.bench.report import headline
    from throughtime.bench.summary import losses, refusals, sides

    main = record.sections["main"]
    console.print(headline(record))
    console.print(_times(main))
    console.print(_means(main))
    for title, lines in (
        ("Where ThroughTime is slower", losses(main) or ["nowhere in this run"]),
        ("Measured beside", sides(record)),
        ("Not measured", refusals(record)),
    ):
        if lines:
            console.print(f"\n{title}")
        for line in lines:
            console.print(f"  {line}")


def _times(main: list[Compared]) -> Table:
    """Forward+backward in full, of forward and inference the ratio; parts of the ceiling after the first two."""
    from throughtime.bench.cases import BOTH, FORWARD, INFERENCE, WORKS
    from throughtime.bench.report import milliseconds, percent
    from throughtime.bench.summary import short

    rows = []
    for c in main:
        best = c.best(BOTH)
        ratios = {work: "-" if (ratio := c.ratio(work)) is None else f"{ratio:.2f}" for work in WORKS}
        rows.append(
            [
                short(c.case.cell),
                c.case.size,
                milliseconds(c.ours(BOTH)),
                "none" if best is None else f"{milliseconds(c.of(BOTH, best))} {best}",
                ratios[BOTH],
                percent(c.share(BOTH)),
                ratios[FORWARD],
                percent(c.share(FORWARD)),
                ratios[INFERENCE],
            ]
        )
    heading = ["", "T, B, I, H", f"{BOTH}, ms", "best other", "ratio", "ceiling", "forward", "ceiling", "inference"]
    return _table(heading, rows)


def _means(main: list[Compared]) -> Table:
    from throughtime.bench.summary import short, summaries

    rows = [[short(s.cell), s.work, f"{s.mean:.2f}", f"{s.smallest:.2f} at {s.where}"] for s in summaries(main)]
    return _table(["", "", "geometric mean", "smallest ratio"], rows)


def _table(heading: list[str], rows: list[list[str]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for index, name in enumerate(heading):
        table.add_column(name, justify="left" if index < 2 else "right")
    for row in rows:
        table.add_row(*row)
    return table
