"""The commands: each parses what was typed, calls the layer that does the work, and prints what it returns."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import throughtime
from throughtime.cli import Call
from throughtime.cli.options import FitCommand, place_for, settings_of
from throughtime.cli.tables import check_out, score_lines, write_table
from throughtime.errors import RunError, SettingsError

if TYPE_CHECKING:
    from throughtime.cli.display import Display
    from throughtime.cli.stopping import Stopping
    from throughtime.train.fitted import Fitted

_FILE = click.Path(path_type=Path)


def _traceback(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        context.ensure_object(Call).traceback = True


def _traceback_option() -> click.Option:
    return click.Option(
        ["--traceback"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_traceback,
        help="Show where in the code an error arose.",
    )


_run_argument = click.argument("run", type=_FILE)
_data_argument = click.argument("data", type=_FILE)
_out_option = click.option(
    "--out", type=_FILE, metavar="FILE", help="A .csv, .parquet or .jsonl file; without it, CSV is printed."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, invoke_without_command=True)
@click.version_option(throughtime.__version__, message="throughtime %(version)s")
@click.pass_context
def application(context: click.Context, /) -> None:
    """Fit recurrent networks to files of sequences, and use them.

    \b
    throughtime fit reviews.csv                     what can be predicted from it is guessed, and said
    throughtime predict runs/reviews new.csv
    throughtime COMMAND --help                      what a command takes
    """  # noqa: D301 - \b is for click: do not wrap
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(2)


application.params.append(_traceback_option())


def _command(kind: type[click.Command] = click.Command) -> Callable[[Callable[..., None]], click.Command]:
    """A command with what all of them have."""

    def made(function: Callable[..., None]) -> click.Command:
        command = application.command(cls=kind)(function)
        command.params.append(_traceback_option())
        return command

    return made


@_command(FitCommand)
@_data_argument
@click.option("--config", type=_FILE, metavar="FILE", help="Settings from a TOML file; a flag beats the file.")
@click.option("--out", type=_FILE, metavar="RUN", help="The run directory; runs/ and the name of the data if not given.")
@click.option("--overwrite", is_flag=True, help="Replace the run that is in --out.")
@click.pass_context
def fit(context: click.Context, /, data: Path, config: Path | None, out: Path | None, overwrite: bool, **flags: Any) -> None:
    """Fit a recurrent network to DATA, a file or a folder.

    What can be learned from it (classes, tags, numbers, forecasts, text) is guessed and said; flags overrule it. The model is
    compared with simple methods on data that neither has seen. What is left is a run directory with the model and a report.

    \b
    throughtime fit reviews.csv
    throughtime fit sales.csv --target units --horizon 28 --time-budget 5m
    throughtime fit sound/ --group speaker --cell lstm --out runs/sound
    """  # noqa: D301
    settings = settings_of(config, flags)
    command = shlex.join(["throughtime", *context.ensure_object(Call).arguments])

    def work(display: Display, stopping: Stopping) -> dict[str, Any] | None:
        from throughtime.train.fit import fit

        return fit(data, settings, run, overwrite=overwrite, command=command, progress=display, interrupted=stopping)

    with place_for(data, out) as run:
        _trained(run, f"reading {data}", work)


@_command()
@_run_argument
def resume(run: Path) -> None:
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

        return resume(run, progress=display, interrupted=stopping)

    _trained(run, f"reading the data of {run}", work, resuming=True)


def _trained(
    run: Path, doing: str, work: Callable[[Display, Stopping], dict[str, Any] | None], *, resuming: bool = False
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
            resume = f"throughtime resume {shlex.quote(str(run))}"
            place = f"saved at update {saved[-1]:,}; go on with: {resume}" if saved else "nothing was saved"
            raise KeyboardInterrupt(f"stopped; {place}") from error
    if result is not None:
        display.result(result)


@_command()
@_run_argument
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
    fitted = _fitted(run)
    write_table(fitted.predict(_content(fitted, data, with_target=False)), out)


@_command()
@_run_argument
@_data_argument
def evaluate(run: Path, data: Path) -> None:
    """Score the model in RUN on DATA, which holds the true values."""
    fitted = _fitted(run)
    content, metric = _content(fitted, data, with_target=True), fitted.task.metric
    for line in score_lines(fitted.score(content), metric.name, metric.label):
        click.echo(line)


@_command()
@_run_argument
@click.option("--prompt", default="", metavar="TEXT", help="What the text begins with.")
@click.option("--length", default=500, show_default=True, metavar="N", help="The most characters (or BPE tokens) to write.")
@click.option(
    "--temperature", default=0.8, show_default=True, metavar="X", help="1: as the model draws; lower: more of what is likely."
)
@click.option("--top-k", type=int, metavar="N", help="Draw from the N likeliest only.")
@click.option("--seed", default=0, show_default=True, metavar="N", help="Another seed, another text.")
def generate(run: Path, prompt: str, length: int, temperature: float, top_k: int | None, seed: int) -> None:
    """Write text with the language model in RUN, as it is made.

    A model of lines writes line after line.

    \b
    throughtime generate runs/shakespeare --prompt "ROMEO:" --length 1000
    """  # noqa: D301
    fitted = _fitted(run)
    from throughtime.tasks.generate import generate
    from throughtime.tasks.lm import LanguageModelling

    task = fitted.task
    if not isinstance(task, LanguageModelling):
        raise SettingsError(f"{run} is a model to {task.name}, which writes no text; fit one with --task lm")
    lines = task.settings.data.documents == "line"
    pieces = generate(
        task, fitted.network, prompt, length=length, temperature=temperature, top_k=top_k, seed=seed, documents=lines
    )
    sys.stdout.write(prompt)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


@_command()
@_run_argument
@click.option(
    "--future",
    type=_FILE,
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
    fitted = _fitted(run)
    if fitted.task.name != "forecast":
        raise SettingsError(f"{run} is a model to {fitted.task.name}, not to forecast; see throughtime predict --help")
    from throughtime.data.series import future_rows
    from throughtime.data.tablefile import open_table
    from throughtime.store import RunDirectory

    source = Path(RunDirectory(run).config()["source"])
    check_out(out, source, future)
    panel = _content(fitted, source, with_target=True)
    if future is not None:
        panel = future_rows(open_table(future).frame(), future, panel, fitted.task.settings)
    write_table(fitted.predict(panel), out)


@_command()
@_run_argument
def report(run: Path) -> None:
    """Write RUN/report.html again, from the records in RUN."""
    _check_finished(run)
    from throughtime.report import write_report

    click.echo(write_report(run))


def _check_finished(run: Path) -> None:
    from throughtime.store import RunDirectory

    directory = RunDirectory(run)
    directory.config()
    if directory.result() is None:
        raise RunError(f"{run} is not finished; go on with it by `throughtime resume {shlex.quote(str(run))}`")


def _fitted(run: Path) -> Fitted:
    """The model of a finished run."""
    _check_finished(run)
    from throughtime.train.fitted import Fitted

    return Fitted.load(run)


def _content(fitted: Fitted, data: Path, *, with_target: bool) -> Any:
    """What is in a file, read as the training data was; what was odd about it goes to stderr."""
    dataset = fitted.read(data, with_target=with_target)
    for line in dataset.warnings:
        click.echo(f"warning: {line}", err=True)
    return dataset.content
