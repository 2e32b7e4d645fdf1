"""The commands that teach: a sentence and a row explained, and the lesson."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from throughtime.cli.application import FILE, application, check_printed, command, content_of, fitted_model, run_argument
from throughtime.cli.tables import check_places

if TYPE_CHECKING:
    from rich.console import Console

_json_option = click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write every number there, as JSON.")


@application.group(invoke_without_command=True)
@click.pass_context
def explain(context: click.Context, /) -> None:
    """Every number of forward, backward and update of one sequence.

    \b
    throughtime explain text "the film was not good" --label negative
    throughtime explain run runs/reviews --row 3
    """  # noqa: D301
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(2)


@command(group=explain)
@click.argument("text")
@click.option("--label", required=True, metavar="LABEL", help="What the text is: negative or positive.")
@click.option("--cell", default="rnn", show_default=True, metavar="rnn|lstm|gru", help="Of the recurrent layer.")
@click.option("--nonlinearity", metavar="sigmoid|tanh|relu", help="The f of an RNN.  [default: sigmoid]")
@click.option("--tied", is_flag=True, help="One set of weights for all steps; without it one for each, as on the page.")
@click.option("--hidden", default=1, show_default=True, metavar="1|2", help="Numbers in an output.")
@click.option("--optimizer", default="sgd", show_default=True, metavar="sgd|adagrad", help="How the weights are updated.")
@click.option("--lr", type=float, metavar="X", help="The learning rate alpha.  [default: 0.1, for adagrad 0.05]")
@click.option("--updates", default=5, show_default=True, metavar="N", help="How many updates in a row.")
@click.option("--seed", default=0, show_default=True, metavar="N", help="Of the weights to start from.")
@_json_option
@click.option("--html", "html_file", type=FILE, metavar="FILE", help="Write a page there, to read and to print.")
def text(text: str, json_file: Path | None, html_file: Path | None, **options: Any) -> None:
    """Run TEXT through the textbook's network, and show every number.

    The network is unrolled over the words: each output, each factor of the chain rule for each weight, with a finite difference
    beside it, the update with numbers, and some updates in a row.
    """
    if json_file is html_file is None:
        check_printed()
    check_places(json_file, html_file)
    from throughtime.textbook import explain

    found = explain(text, **options)
    if json_file:
        from throughtime.store import write_json

        write_json(json_file, found.as_json())
    if html_file:
        from throughtime.report.explanation import write_explanation

        write_explanation(found, html_file)
    from throughtime.cli.sentence import show

    show(found, _console())


@command(group=explain)
@run_argument
@click.option("--row", type=int, required=True, metavar="N", help="Which row of the data, from 1.")
@click.option("--data", type=FILE, metavar="DATA", help="Other data than RUN was fitted to.")
@click.option("--step", type=int, metavar="N", help="Whose tag, number or next token is looked at, from 1.")
@_json_option
def run(run: Path, row: int, data: Path | None, step: int | None, json_file: Path | None) -> None:
    """Look at what the model in RUN makes of one row.

    The size of the output and of the gradient at every step, and which steps moved the answer: each is left out once.
    """
    if json_file is None:
        check_printed()
    check_places(json_file, read=[data])
    fitted = fitted_model(run)
    from throughtime.store import RunDirectory
    from throughtime.train.fitted import source_of
    from throughtime.train.row import explain_row

    # What is odd about the data of the fit was said by the fit.
    content = source_of(RunDirectory(run), fitted).content if data is None else content_of(fitted, data, with_target=False)
    found = explain_row(fitted, content, row, step)
    if json_file:
        from throughtime.store import write_json

        write_json(json_file, found.as_json())
    from throughtime.cli.row import show

    show(found, _console())


@command()
@click.option("--out", type=FILE, default=Path("lesson.html"), show_default=True, metavar="FILE", help="The page.")
@click.option("--seed", default=0, show_default=True, metavar="N", help="Of everything that is drawn.")
def lesson(out: Path, seed: int) -> None:
    """Measure every sentence of the textbook page on recurrent networks, and write it as one page to read and play with.

    Takes about two minutes. The page needs no network and opens from disk.
    """
    check_places(out)
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from throughtime.experiments.lesson import lesson
    from throughtime.report.lesson import write_lesson

    console = _console()
    with Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as progress:
        bar = progress.add_task("", total=1.0)

        def said(part: str, done: float) -> None:
            progress.update(bar, description=part, completed=done)
            if not console.is_terminal:
                click.echo(part)

        record = lesson(seed=seed, progress=said)
    write_lesson(record, out)
    click.echo(out)


def _console() -> Console:
    from rich.console import Console

    # What is piped or kept in a file is as wide as it needs to be read.
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 110)
