"""The commands around a run: each parses what was typed, calls the layer that does the work, and prints what it returns."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from throughtime.cli import Call
from throughtime.cli.application import (
    FILE,
    check_finished,
    check_printed,
    command,
    content_of,
    fitted_model,
    run_argument,
    warn,
)
from throughtime.cli.options import FitCommand, place_for, settings_of
from throughtime.cli.tables import check_out, score_lines, write_table
from throughtime.errors import SettingsError

if TYPE_CHECKING:
    from throughtime.cli.display import Display
    from throughtime.cli.stopping import Stopping


_data_argument = click.argument("data", type=FILE)
_out_option = click.option(
    "--out", type=FILE, metavar="FILE", help="A .csv, .parquet or .jsonl file; without it, CSV is printed."
)


@command(FitCommand)
@_data_argument
@click.option("--config", type=FILE, metavar="FILE", help="Settings from a TOML file; a flag beats the file.")
@click.option("--out", type=FILE, metavar="RUN", help="The run directory; runs/ and the name of the data if not given.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the run that is in --out; a finished one is kept in RUN/previous until the new one is finished.",
)
@click.pass_context
def fit(context: click.Context, /, data: Path, config: Path | None, out: Path | None, overwrite: bool, **flags: Any) -> None:
    """Fit a recurrent network to DATA, a file or a folder.

    What can be learned from it (classes, tags, numbers, forecasts, text) is guessed and said; flags overrule it. The model is
    compared with simple methods on data that neither has seen. What is left is a run directory with the model and a report.

    \b
    throughtime fit reviews.csv
    throughtime fit sales.csv --target units --horizon 28 --time-budget 5m
    throughtime fit sound/ --cell lstm --time-budget 10m --out runs/sound
    """  # noqa: D301
    settings = settings_of(config, flags)
    command = shlex.join(["throughtime", *context.ensure_object(Call).arguments])

    def work(display: Display, stopping: Stopping) -> dict[str, Any] | None:
        from throughtime.train.fit import fit

        return fit(data, settings, run, overwrite=overwrite, command=command, progress=display, interrupted=stopping)

    with place_for(data, out) as run:
        _trained(run, f"reading {data}", work)


@command()
@run_argument
@click.option("--finish", is_flag=True, help="Train no further: score the best weights so far, and write the report.")
def resume(run: Path, finish: bool) -> None:
    """Go on with the fit in RUN exactly where it stopped.

    A run that was killed and resumed ends with the same numbers as one that was not.
    """
    from throughtime.store import RunDirectory

    directory = RunDirectory(run)
    directory.config()
    finished = directory.result()
    if finished is not None:
        click.echo(f"{run} is finished: {finished['headline']}")
        return

    def work(display: Display, stopping: Stopping) -> dict[str, Any] | None:
        from throughtime.train.fit import resume

        return resume(run, finish=finish, progress=display, interrupted=stopping)

    _trained(run, f"reading the data of {run}", work, resuming=True, flags=" --finish" if finish else "")


def _trained(
    run: Path,
    doing: str,
    work: Callable[[Display, Stopping], dict[str, Any] | None],
    *,
    resuming: bool = False,
    flags: str = "",
) -> None:
    """Train with a display, and say how it came out."""
    from throughtime.cli.display import Display
    from throughtime.cli.stopping import AtOnce, Stopping
    from throughtime.store import RunDirectory

    with Stopping() as stopping:
        display = Display(run, stopping, doing)
        try:
            with display:
                result = work(display, stopping)
        except (KeyboardInterrupt, AtOnce) as error:
            # Before training, what is there may be the run that was to be replaced.
            saved = RunDirectory(run).checkpoints.numbers() if display.started or resuming else []
            resume = f"throughtime resume {shlex.quote(str(run))}{flags}"
            place = f"saved at update {saved[-1]:,}; go on with: {resume}" if saved else "nothing was saved"
            raise KeyboardInterrupt(f"stopped; {place}") from error
    if result is not None:
        display.result(result)


@command()
@run_argument
@_data_argument
@_out_option
def predict(run: Path, data: Path, out: Path | None) -> None:
    """Predict for DATA with the model in RUN.

    DATA is read as the training data was; what is to be predicted need not be in it. Classes come with their probabilities,
    forecasts with an interval that is to hold 90 % of the values.

    \b
    throughtime predict runs/reviews new.csv --out predictions.parquet
    """  # noqa: D301
    check_out(out, data)
    fitted = fitted_model(run)
    write_table(fitted.predict(content_of(fitted, data, with_target=False)), out)


@command()
@run_argument
@_data_argument
@click.option("--out", type=FILE, metavar="FILE", help="Write the scores there too: a .csv, .parquet or .jsonl file.")
def evaluate(run: Path, data: Path, out: Path | None) -> None:
    """Score the model in RUN on DATA, which holds the true values.

    Of time series, what came after the end of what the fit saw is scored.
    """
    check_out(out, data)
    fitted = fitted_model(run)
    from throughtime.report.formats import WORKING
    from throughtime.store import RunDirectory
    from throughtime.train.fitted import trained_on

    dataset = fitted.read(data, with_target=True)
    warn(*dataset.warnings)
    found, directory = fitted.evaluate(dataset.content), RunDirectory(run)
    result = directory.result() or {}
    if fitted.task.name != "forecast" and trained_on(directory, dataset.files):
        count = result["parts"]["train"]["sequences"]
        warn(
            f"{data} is what the model was fitted to: {count:,} sequences of it were trained on, which flatters the scores; "
            f"those of the {result['scored_on']} part alone are in {run / 'result.json'}"
        )
    scores = {name: value for name, value in found.scores.items() if name not in WORKING}
    click.echo(f"scored {found.said}")
    for line in score_lines(scores, found.metric.name, found.metric.label):
        click.echo(line)
    if out is not None:
        write_table({"score": list(scores), "value": list(scores.values())}, out)


@command()
@run_argument
@click.option("--prompt", default="", metavar="TEXT", help="What the text, or each line, begins with.")
@click.option("--length", default=500, show_default=True, metavar="N", help="The most characters (or BPE tokens) to write.")
@click.option(
    "--temperature", default=0.8, show_default=True, metavar="X", help="1: as the model draws; lower: more of what is likely."
)
@click.option("--top-k", type=int, metavar="N", help="Draw from the N likeliest only.")
@click.option("--seed", default=0, show_default=True, metavar="N", help="Another seed, another text.")
def generate(run: Path, prompt: str, length: int, temperature: float, top_k: int | None, seed: int) -> None:
    """Write text with the language model in RUN, as it is made.

    A model of lines writes line after line, each of which begins with the prompt.

    \b
    throughtime generate runs/shakespeare --prompt "ROMEO:" --length 1000
    """  # noqa: D301
    check_printed()
    fitted = fitted_model(run)
    from throughtime.tasks.generate import generate
    from throughtime.tasks.lm import LanguageModelling

    task = fitted.task
    if not isinstance(task, LanguageModelling):
        raise SettingsError(f"{run} is a model to {task.name}, which writes no text; fit one with --task lm")
    lines = task.settings.data.documents == "line"
    pieces = generate(
        task, fitted.network, prompt, length=length, temperature=temperature, top_k=top_k, seed=seed, documents=lines
    )
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


@command()
@run_argument
@click.option(
    "--future",
    type=FILE,
    metavar="FILE",
    help="What is known in advance: a table with the time and the --future columns of the fit.",
)
@_out_option
def forecast(run: Path, future: Path | None, out: Path | None) -> None:
    """Forecast what comes after the end of the data that RUN was fitted to.

    The data is read again: steps that were added since are used. For other data, see predict.

    \b
    throughtime forecast runs/sales --future holidays.csv --out forecast.csv
    """  # noqa: D301
    fitted = fitted_model(run)
    if fitted.task.name != "forecast":
        raise SettingsError(f"{run} is a model to {fitted.task.name}, not to forecast; see throughtime predict --help")
    from throughtime.data.series import future_rows
    from throughtime.data.tablefile import open_table
    from throughtime.store import RunDirectory
    from throughtime.train.fitted import source_of

    dataset = source_of(RunDirectory(run), fitted)
    check_out(out, *dataset.files, future)
    warn(*dataset.warnings)
    panel: Any = dataset.content
    if future is not None:
        panel = future_rows(open_table(future).frame(), future, panel, fitted.task.settings)
    write_table(fitted.predict(panel), out)


@command()
@run_argument
def report(run: Path) -> None:
    """Write RUN/report.html again, from the records in RUN."""
    check_finished(run)
    from throughtime.report import write_report

    click.echo(write_report(run))
