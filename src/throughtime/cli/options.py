"""Settings as flags and as TOML, and the place of a run that was given none."""

from __future__ import annotations

import dataclasses
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import click

from throughtime.errors import SettingsError
from throughtime.settings import DURATIONS, SECTIONS, Settings

_TITLES = {"data": "Data", "forecast": "Forecasts", "model": "Model", "training": "Training"}
_NAMES = ("optimizer", "init")


class SettingOption(click.Option):
    """A flag for one field of the settings.

    Args:
        field: the field.
        hint: its type.
        section: the heading it stands under.
    """

    def __init__(self, field: dataclasses.Field[Any], hint: Any, section: str) -> None:
        flag = field.name.replace("_", "-")
        switch = bool in (hint, *typing.get_args(hint))
        default = field.default
        shown = f"{default:g}s" if field.name in DURATIONS and default is not None else default
        super().__init__(
            [f"--{flag}/--no-{flag}" if switch else f"--{flag}"],
            default=None,
            metavar=None if switch else _metavar(field.name, hint, section),
            help=_about(field, section) + (f" [{shown}]" if default not in (None, (), True, False) else ""),
        )
        self.section = _TITLES[section]


class FitCommand(click.Command):
    """A command with a flag for every setting, under a heading for each section."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for section, kind in SECTIONS.items():
            hints = typing.get_type_hints(kind)
            self.params += [SettingOption(field, hints[field.name], section) for field in dataclasses.fields(kind)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The flags by section, those of the run last."""
        found: dict[str, list[tuple[str, str]]] = {title: [] for title in (*_TITLES.values(), "Run")}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record:
                found[getattr(parameter, "section", "Run")].append(record)
        for title, records in found.items():
            with formatter.section(title):
                formatter.write_dl(records, col_max=34)


def _about(field: dataclasses.Field[Any], section: str) -> str:
    """What a field is; before it the task that it is for, where that is a single one and the heading does not say it."""
    tasks, help = field.metadata["tasks"], field.metadata["help"]
    return f"for {tasks[0]}: {help}" if len(tasks) == 1 and section not in tasks else str(help)


def _metavar(name: str, hint: Any, section: str) -> str:
    """What stands for the value in the help."""
    options = [hint] if typing.get_origin(hint) not in (typing.Union, types.UnionType) else list(typing.get_args(hint))
    kind = next(option for option in options if option is not types.NoneType)
    if typing.get_origin(kind) is Literal:
        return "|".join(typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return "C,C"
    if kind is str:
        return "NAME" if name in _NAMES else "COLUMN"
    return "TIME" if name in DURATIONS else {Path: "FILE", int: "N", float: "X"}[kind]


def settings_of(config: Path | None, flags: Mapping[str, Any]) -> Settings:
    """The settings of a call: a flag beats the file, the file beats the default.

    Args:
        config: a TOML file.
        flags: by field name; ``None`` where a flag was not given.

    Raises:
        SettingsError: a value that cannot be, or a file that is no TOML, with its line.
    """
    base = Settings() if config is None else _of_toml(config)
    return Settings.of({name: value for name, value in flags.items() if value is not None}, base)


def _of_toml(path: Path) -> Settings:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"--config {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"--config {path}: byte {error.start:,} is not UTF-8; TOML files are") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"--config {path} is no TOML: {error}") from None
    for name, value in values.items():
        section = isinstance(value, Mapping) and name in SECTIONS
        for key, one in value.items() if section else ((name, value),):
            try:
                Settings.of({name: {key: one}} if section else {key: one})
            except SettingsError as error:
                raise SettingsError(f"--config {path}{_line_of(key, text)}: {error}") from None
    try:
        return Settings.of(values)
    except SettingsError as error:
        raise SettingsError(f"--config {path}: {error}") from None


def _line_of(key: str, text: str) -> str:
    """`` line 3``, where a key is set in a TOML text."""
    quoted = re.escape(key)
    for number, line in enumerate(text.split("\n"), 1):
        if re.search(rf"""^\s*\[{quoted}\]|^\s*([\w-]+\s*[.=].*)?(?<![\w-])["']?{quoted}["']?\s*=""", line):
            return f" line {number}"
    return ""


@contextmanager
def place_for(source: Path, out: Path | None) -> Iterator[Path]:
    """The run directory for a fit; where none was given, ``runs/`` and the name of the data, with a number if that is taken.

    A folder that was made for it here and holds nothing in the end is removed.

    Raises:
        RunError: the folder cannot be made.
    """
    from throughtime.store.files import cannot_write

    if out is not None:
        yield out
        return
    home, name, count = Path("runs"), source.resolve().stem or "data", 1
    new_home = not home.exists()
    while True:
        run = home / (name if count == 1 else f"{name}-{count}")
        try:
            run.mkdir(parents=True)  # at once, so that no other fit takes the same name
            break
        except FileExistsError:
            if not home.is_dir():
                raise SettingsError(f"{home} is a file, so no run can be put there; give --out RUN") from None
            count += 1
        except OSError as error:
            raise cannot_write(run, error) from None
    try:
        yield run
    finally:
        for folder in (run, home) if new_home else (run,):
            with suppress(OSError):  # it holds a run
                folder.rmdir()
