"""The group that all commands belong to, and what they have in common."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import throughtime
from throughtime.cli import Call
from throughtime.errors import RunError, ThroughTimeError

if TYPE_CHECKING:
    from throughtime.train.fitted import Fitted


class _Place(click.Path):
    """A file or a folder; an empty name, which would be the folder one is in, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("'' is no path; name a file or a folder.", param, ctx)
        return super().convert(value, param, ctx)


FILE = _Place(path_type=Path)
run_argument = click.argument("run", type=FILE)


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


def command(
    kind: type[click.Command] = click.Command, group: click.Group = application
) -> Callable[[Callable[..., None]], click.Command]:
    """A command with what all of them have."""

    def made(function: Callable[..., None]) -> click.Command:
        command = group.command(cls=kind)(function)
        command.params.append(_traceback_option())

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except ThroughTimeError as error:
                error.args = (f"{error}{_of_others(str(error), command)}",)
                raise

        command.callback = called
        return command

    return made


def _of_others(message: str, command: click.Command) -> str:
    """A remark on flags that a message names and another command has: what reads data does not know who asked for it."""

    def of(command: click.Command) -> set[str]:
        return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}

    if re.search(r"\b(throughtime|by) fit\b", message):  # it says so itself
        return ""
    told = []
    for flag in dict.fromkeys(re.findall(r"--[a-z][a-z-]+", message)):
        owners = [name for name in ("forecast", "fit") if flag in of(application.commands[name])]
        if owners and flag not in of(command):
            told.append(f"{flag} is a flag of throughtime {owners[0]}")
    return f" ({', '.join(told)})" if told else ""


def check_finished(run: Path) -> None:
    """Raise where the fit in a run directory is not finished."""
    from throughtime.store import RunDirectory

    directory = RunDirectory(run)
    directory.config()
    directory.check_finished()


def fitted_model(run: Path) -> Fitted:
    """The model of a finished run."""
    check_finished(run)
    from throughtime.train.fitted import Fitted

    return Fitted.load(run)


def content_of(fitted: Fitted, data: Path, *, with_target: bool) -> Any:
    """What is in a file, read as the training data was; what was odd about it goes to stderr."""
    dataset = fitted.read(data, with_target=with_target)
    warn(*dataset.warnings)
    return dataset.content


def warn(*lines: str) -> None:
    """Warnings on stderr."""
    for line in lines:
        click.echo(f"warning: {line}", err=True)


def check_printed() -> None:
    """Raise where all that a command makes is printed, and stdout is closed."""
    if sys.__stdout__ is None:
        raise RunError("stdout is closed, so what is printed would be lost; open it")
