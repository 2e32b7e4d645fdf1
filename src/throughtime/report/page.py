"""The page: what the templates show, picked from the records and cut to what a page can hold."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader

from throughtime.report import figures, formats
from throughtime.report.records import Records
from throughtime.settings import SECTIONS, Settings
from throughtime.store import write_bytes

CLASSES = 30
"""The most classes in the confusion matrix."""

ROWS = 100
"""The most rows of a table of classes."""

SHOWN = 12
"""The most mistakes, examples and samples of a kind."""

FILES = (4, 40)
"""The most files that are named at once, and when asked for."""

SERIES = 30
"""The most series in the table of their scores."""

NARROW = 24
"""The longest line, in letters, of a generated text that is set in columns."""

TOKENS = 3000
"""The most tokens of the texts coloured by surprise, all together."""

SURPRISE = (0.5, 1, 2, 4, 6)
"""Nats from which a token has the next darker colour."""


def write_report(run: Path) -> Path:
    """Write ``report.html`` into a run directory from the records that are there, finished or not.

    Args:
        run: the run directory.

    Returns:
        The path of the page. It is written whole or not at all.

    Raises:
        RunError: there is no run, its records are damaged or of another version, or the page cannot be written.
    """
    path = run / "report.html"
    # A lone surrogate, which JSON can hold and UTF-8 cannot, becomes a question mark.
    write_bytes(path, render(Records.read(run)).encode("utf-8", "replace"))
    return path


def render(records: Records) -> str:
    """One run as a self-contained HTML page: no script, nothing loaded, everything from the data escaped.

    Args:
        records: of a finished run, or of one without ``result``: the page then shows the settings and the curves.

    Example:
        >>> page = render(Records("first", {"command": "throughtime fit a.csv", "settings": {}}))
        >>> "not finished" in page, "<script" in page
        (True, False)
    """
    result, config = _known(records.result), records.config
    details = result.get("details") or {}
    metric = result.get("metric") or {}
    evaluations = records.evaluations
    best = (result.get("training") or {}).get("best_update")
    if best is None:
        best = max((line["update"] for line in evaluations if line.get("best")), default=None)
    watched = str(
        metric.get("name") or next((key for line in evaluations for key in line.get("valid") or {} if key != "loss"), "")
    )
    label = formats.capital(metric.get("label") or formats.name(watched))
    return templates().get_template("page.html.jinja").render(
        records=records,
        config=config,
        result=result,
        details=details,
        metric=metric,
        verdict=_verdict(result),
        task=str(result.get("task") or ((config.get("settings") or {}).get("data") or {}).get("task") or ""),
        scoreboard=_scoreboard(result),
        curves=figures.curves(evaluations, records.notes, watched, label, best),
        best=best,
        **_task(details),
        settings=_settings(config),
        toml=formats.toml(_used(config)),
        files_shown=FILES,
        series_shown=SERIES,
        shown=SHOWN,
        samples=[dict(sample, narrow=_narrow(sample)) for sample in (details.get("samples") or [])[:SHOWN]],
    )  # fmt: skip


@cache
def templates() -> Environment:
    """Where the pages' templates are; all that comes from data is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=ChainableUndefined,  # an optional record that is missing shows nothing
    )
    for function in (
        formats.name,
        formats.capital,
        formats.number,
        formats.duration,
        formats.size,
        formats.short,
        formats.code,
        formats.setting,
    ):
        environment.filters[function.__name__] = function
    return environment


def _verdict(result: Mapping[str, Any]) -> str:
    """The look of the headline: the best baseline is beaten, or not, or cannot be told from the model, or there is none."""
    beats = result.get("beats_baselines")
    if beats is None:
        return "same" if result.get("comparison") else "open"
    return "good" if beats else "poor"


def _scoreboard(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Model and baselines, the best first, with all scores of the part they were scored on."""
    metric, scores = result.get("metric") or {}, result.get("scores") or {}
    part = str(result.get("scored_on") or next(iter(reversed(scores)), ""))
    model, training = result.get("model") or {}, result.get("training") or {}
    rows = [dict(row, scores=row.get("scores") or {}) for row in result.get("baselines") or []]
    if part in scores:
        rows.append({
            "name": "model", "is_model": True, "description": model.get("description"), "parameters": model.get("parameters"),
            "seconds": training.get("seconds"), "order": "full", "scores": scores[part],
        })  # fmt: skip
    if not rows:
        return None
    columns = list(
        dict.fromkeys(
            key for row in reversed(rows) for key in row["scores"] if key == metric.get("name") or key not in formats.WORKING
        )
    )
    first = metric.get("name") if metric.get("name") in columns else next(iter(columns), "")
    higher = metric.get("higher_is_better", True)
    known = [row["scores"][first] for row in rows if _is_number(row["scores"].get(first))]
    largest = max(known, default=0)
    for row in rows:
        value = row["scores"].get(first)
        row["share"] = round(100 * max(0.0, value) / largest, 1) if _is_number(value) and largest > 0 else 0
    # Of equals the baseline stands first: a model must be better to be above it.
    worst = float("-inf") if higher else float("inf")
    rows.sort(key=lambda row: row["scores"][first] if _is_number(row["scores"].get(first)) else worst, reverse=higher)
    return {
        "part": part,
        "rows": rows,
        "first": first,
        "columns": [column for column in columns if column != first][:6],
        "higher": higher,
        "others": {
            other: {key: value for key, value in values.items() if key not in formats.WORKING}
            for other, values in scores.items()
            if other != part
        },
        "orders": any(row.get("order") for row in rows if not row.get("is_model")),
    }


def _task(details: Mapping[str, Any]) -> dict[str, Any]:
    """What is drawn or coloured of the task's own part."""
    scatter = details.get("scatter") or {}
    shown = (details.get("examples") or [])[:SHOWN]
    examples = [figures.forecast(example, details.get("level")) for example in shown]
    plot, dots = figures.scatter(scatter.get("truth") or [], scatter.get("predicted") or [])
    classes = details.get("per_class") or details.get("per_tag") or []
    worst = [case for case in details.get("worst") or [] if case not in shown][:SHOWN]
    return {
        "confusion": _confusion(details.get("classes") or [], details.get("confusion") or []),
        "per_class": sorted(classes, key=lambda row: -(row.get("support") or 0))[:ROWS],
        "classes_left_out": max(0, len(classes) - ROWS),
        "worst": worst,
        "worst_forecasts": figures.shown([figures.forecast(w, details.get("level")) for w in worst if "median" in w]),
        "examples": figures.shown(examples),
        "per_step": figures.per_step(details.get("per_step_mae") or {}),
        "scatter": plot,
        "scatter_dots": dots,
        "scatter_all": len(scatter.get("truth") or []),
        "surprising": _surprising(details.get("surprising") or []),
        "surprise_levels": SURPRISE,
    }


def _narrow(sample: Mapping[str, Any]) -> bool:
    """Whether a generated text is a list of short lines, which would leave most of the page empty."""
    lines = str(sample.get("text") or "").split("\n")
    return len(lines) > SHOWN and max(map(len, lines)) <= NARROW


def _confusion(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> dict[str, Any] | None:
    """The confusion of the most frequent classes: per cell the count, and its share of the row."""
    if not matrix or len(classes) != len(matrix):
        return None
    support = [sum(row) for row in matrix]
    kept = sorted(sorted(range(len(matrix)), key=lambda i: -support[i])[:CLASSES])
    rows = [
        {
            "name": classes[i],
            "support": support[i],
            "cells": [
                (classes[j], matrix[i][j], round(matrix[i][j] / support[i], 3) if support[i] else 0, i == j) for j in kept
            ],
        }
        for i in kept
    ]
    hidden = sum(support) - sum(matrix[i][j] for i in kept for j in kept)
    return {"classes": [classes[i] for i in kept], "rows": rows, "all": len(matrix), "hidden": hidden}


def _surprising(texts: Sequence[Mapping[str, Any]]) -> list[list[tuple[str, float | None, int]]]:
    """Per text its tokens, their nats, and how dark they are."""
    left, shown = TOKENS, []
    for text in texts[:SHOWN]:
        tokens = list(zip(text.get("tokens") or str(text.get("text", "")), text.get("nats") or [], strict=False))[:left]
        left -= len(tokens)
        if tokens:
            shown.append(
                [
                    (str(token), nats, sum(nats >= level for level in SURPRISE) if _is_number(nats) else 0)
                    for token, nats in tokens
                ]
            )
    return shown


def _used(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings by section, without those that were left as they are and mean nothing to the task, or beside the others."""
    sections = config.get("settings") or {}
    described = {f.name: f for section in SECTIONS.values() for f in dataclasses.fields(section)}
    values = {key: value for section in sections.values() for key, value in section.items()}

    def used(key: str, value: Any) -> bool:
        if not formats.is_set(value):
            return False
        if key not in described or value != described[key].default:
            return True
        about = described[key].metadata
        condition, wanted = about["when"] or (None, None)
        return values.get("task") in (*about["tasks"], None) and (condition is None or values.get(condition) == wanted)

    return {section: {key: value for key, value in held.items() if used(key, value)} for section, held in sections.items()}


def _settings(config: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The settings in use by section, each with its default and its meaning.

    What the task decides by itself (a default of ``None`` or ``auto``) differs from the default only if the command gives it.
    """
    defaults = Settings().as_json()
    helps = {f.name: f.metadata.get("help", "") for section in SECTIONS.values() for f in dataclasses.fields(section)}
    given = {flag.replace("-", "_") for flag in re.findall(r"(?<!\S)--([a-z][a-z-]*)", str(config.get("command") or ""))}
    sections = {}
    for section, values in _used(config).items():
        rows = []
        for key, value in values.items():
            default = defaults.get(section, {}).get(key)
            decided = default is None or default == "auto"
            rows.append({
                "name": key, "value": value, "help": helps.get(key, ""), "default": "automatic" if decided else default,
                "differs": key in given and value != default if decided else value != default,
            })  # fmt: skip
        if rows:
            sections[section] = rows
    return sections


def _known(value: Any) -> Any:
    """The same without the keys that hold nothing: null is as good as missing."""
    if isinstance(value, Mapping):
        return {key: _known(inner) for key, inner in value.items() if inner is not None}
    return [_known(inner) for inner in value] if isinstance(value, list) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value
