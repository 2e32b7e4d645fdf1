"""The report of a run: complete, harmless, self-contained, and never too large."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from throughtime.errors import RunError
from throughtime.report import Records, formats, render, write_report

from report_cases import SETTINGS, confusion, records, write

TASKS = list(SETTINGS)
VOID = {"meta", "br", "img", "hr", "link", "input", "path", "circle"}


class Page(HTMLParser):
    """The tags, attributes and text of a page; each tag must be closed by its own end."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.bold: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs
        if tag == "tr" and ("class", "differs") in attrs:
            self.bold.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def words(html: str) -> str:
    """The text of a page, blanks made one."""
    return re.sub(r"\s+", " ", Page(html).text)


def headings(html: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", html)


# Content


@pytest.mark.parametrize("task", TASKS)
def test_a_finished_run_shows_everything_in_order(task: str) -> None:
    made = records(task)
    html = render(made)
    text = words(html)
    expected = [
        "Model and baselines",
        "What was understood",
        "Training",
        "Results",
        "Worst mistakes",
        "The model",
        "To repeat it",
    ]
    assert headings(html) == [h for h in expected if h != "Worst mistakes" or task != "lm"]
    assert made.result["headline"] in text
    assert f'class="headline {"good" if made.result["beats_baselines"] else "poor"}"' in html
    for baseline in made.result["baselines"]:
        assert baseline["name"] in text
        assert baseline["description"] in text
    for value in made.result["scores"][made.result["scored_on"]].values():
        assert formats.number(value) in text
    assert made.config["command"] in text
    assert made.config["files"][0]["sha256"] in text
    assert all(warning.replace("`", "") in text for warning in made.result["warnings"])
    assert made.metrics[12]["note"] in text
    assert text.index("model does not" if task == "classify" else "baseline") < text.index("Scored on")


TASK_SPECIFIC = {
    "classify": [
        "Confusion",
        "By class",
        "Thanks again for everything",
        "truth email, predicted weblog with probability 0.981",
        "genre-test.csv row 17",
    ],
    "tag": [
        "By tag",
        "Taken for one another",
        "NOUN → VERB",
        "Of words that training never saw, 0.8420 are right",
        "sentence 12",
    ],
    "regress": [
        "Predicted against true",
        "Not bad at all.",
        "truth 4.500, predicted 1.532",
        "RMSE",
        "R²",
        "MAE (stars)",
        "Lower is better",
    ],
    "forecast": [
        "MAE by steps ahead",
        "91.3 % of what came lies within the 90 % interval",
        "seasonal-naive",
        "90 % interval",
        "By series",
        "MASE of ridge",
        "Domestic",
    ],
    "lm": [
        "Generated",
        "temperature 0.8",
        "ROMEO:",
        "What surprised it",
        "KING RICHARD:",
        "below 0.5",
        "Scored on validation data",
    ],
}


@pytest.mark.parametrize("task", TASKS)
def test_each_task_shows_its_own(task: str) -> None:
    text = words(render(records(task)))
    assert [part for part in TASK_SPECIFIC[task] if part not in text] == []


def test_rows_are_sorted_best_first_and_a_tie_goes_to_the_baseline() -> None:
    made = records("classify")
    made.result["baselines"][0]["scores"]["accuracy"] = made.result["scores"]["test"]["accuracy"]
    html = render(made)
    rows = re.findall(r'<th scope="row">([^<]*)', html[html.index("Scored on") : html.index("What was understood")])
    assert rows == ["TF-IDF of characters", "majority", "model", "TF-IDF of words", "bag of words"]
    lower = render(records("forecast"))
    rows = re.findall(r'<th scope="row">([^<]*)', lower[lower.index("Scored on") : lower.index("What was understood")])
    assert rows == ["model", "seasonal-naive", "ridge", "persistence"]


def test_bars_are_as_long_as_their_numbers() -> None:
    widths = [float(width) for width in re.findall(r'<i style="width:([\d.]+)%"', render(records("classify")))]
    scores = np.array([0.6341, 0.6241, 0.617, 0.6013, 0.2129])
    np.testing.assert_allclose(widths, 100 * scores / scores.max(), atol=0.05)


def test_settings_that_differ_from_the_default_are_bold() -> None:
    html = render(records("classify"))
    bold = re.findall(r'<tr class="differs"><th scope="row">(\w+)', html)
    assert bold == ["target", "seed"]  # --target and --seed 3 of the command; the task decided the others
    made = records("classify")
    made.config["settings"]["training"].update(baselines=False, lr=0.01)
    made.config["command"] += " --no-baselines --lr 0.01"
    assert re.findall(r'<tr class="differs"><th scope="row">(\w+)', render(made)) == ["target", "lr", "seed", "baselines"]


def test_settings_that_mean_nothing_here_are_left_out() -> None:
    def names(made: Records) -> set[str]:
        return set(re.findall(r'<tr(?: class="differs")?><th scope="row">(\w+)</th><td class="value">', render(made)))

    assert not {"bpe_size", "nonlinearity", "documents", "horizon"} & names(records("classify"))
    assert {"horizon", "seed", "untied"} <= names(records("forecast"))
    made = records("lm")
    made.config["settings"]["data"]["tokens"] = "bpe"
    made.config["settings"]["model"]["cell"] = "rnn"
    assert {"bpe_size", "nonlinearity"} <= names(made)
    made = records("forecast")
    made.config["settings"]["model"]["nonlinearity"] = "relu"
    assert "nonlinearity" in names(made)  # somebody set it
    assert 'nonlinearity = "relu"' in words(render(made))


def test_a_verdict_that_is_open_is_shown_as_such() -> None:
    made = records("forecast")
    made.result.update(
        beats_baselines=None,
        comparison={"baseline": "ridge", "beats": None, "pieces": 34, "interval": [-0.031, 0.0123], "level": 0.95},
    )
    html = render(made)
    assert 'class="headline same"' in html
    assert all(f".headline.{look} {{" in html for look in ("same", "good", "poor")), "each has a look of its own"
    said = "Held against ridge on 34 pieces of the data: the mean difference in error lies between −0.031 and 0.012 (95 %)"
    assert said in words(html)
    made.result["comparison"].update(pieces=1, interval=None)
    assert "Held against ridge on 1 piece of the data, too few to tell." in words(render(made))


def test_a_mistake_that_is_among_the_examples_is_not_shown_again() -> None:
    made = records("forecast")
    details = made.result["details"]
    assert "Worst mistakes" in headings(render(made))
    drawings = render(made).count("<svg viewBox=")
    details["worst"].append(details["examples"][0])
    assert render(made).count("<svg viewBox=") == drawings
    details["worst"] = copy.deepcopy(details["examples"][:2])
    assert "Worst mistakes" not in headings(render(made))


def test_many_files_are_folded() -> None:
    made = records("classify")
    made.config["files"] = [{"path": f"{i}.wav", "bytes": 9, "sha256": f"{i:064}"} for i in range(30)]
    html = render(made)
    assert html.index("3.wav") < html.index("<summary>26 more</summary>") < html.index("4.wav") < html.index("29.wav")


def test_short_lines_are_set_in_columns() -> None:
    made = records("lm")
    assert 'class="sample columns"' not in render(made)
    made.result["details"]["samples"][0]["text"] = "Anna\nOlaf\n" * 20
    assert render(made).count('class="sample columns"') == 1


def test_series_are_listed_where_they_are_few() -> None:
    made = records("forecast")
    rows = made.result["details"]["per_series"]
    made.result["details"]["per_series"] = rows * 15
    assert "By series" in words(render(made))
    for others in (rows[:1], rows * 16):
        made.result["details"]["per_series"] = others
        assert "By series" not in words(render(made))


def test_settings_come_back_from_the_toml_that_is_shown() -> None:
    tomllib = pytest.importorskip("tomllib")
    from throughtime.settings import Settings

    values = {
        "target": 'a "b"\\\n\x7fé😀',
        "features": "hour,day",
        "lr": 3e-5,
        "bidirectional": "true",
        "time_budget": "5m",
        "clip": 0,
    }
    settings = Settings.of(values)
    assert Settings.of(tomllib.loads(formats.toml(settings.as_json()))) == settings


@pytest.mark.parametrize("task", TASKS)
def test_a_run_that_is_not_finished(task: str) -> None:
    html = render(records(task, finished=False))
    assert headings(html) == ["Training", "To repeat it"]
    text = words(html)
    assert "This run is not finished. Last evaluation after 3,600 updates (epoch 12), 2 min 27 s: training loss 0." in text
    assert 'class="headline open"' in html
    assert headings(render(Records("new", records(task).config))) == ["To repeat it"]
    assert "Nothing was evaluated yet" in render(Records("new", {}))


def test_the_best_evaluation_is_marked() -> None:
    made = records("classify", finished=False)
    best = max(line["update"] for line in made.evaluations if line["best"])
    assert f"The circle marks update {best:,}" in words(render(made))
    assert f"after {best:,} updates" in render(made)
    assert "The circle marks update 2,160" in words(render(records("classify")))


# Missing, odd, hostile, large


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything inside; of a list its first item stands for all."""
    inside = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else []
    for key, inner in inside:
        yield (*before, key)
        yield from paths(inner, (*before, key))


@pytest.mark.parametrize("task", TASKS)
def test_optional_parts_may_be_missing_or_null(task: str) -> None:
    made = records(task)
    required = {"truth", "predicted", "count", "name", "update", "note"}  # of an entry that is there
    for where in paths(made.result):
        if where[-1] in required or (where[0] == "details" and "confusion" in where and len(where) > 2):
            continue
        result = copy.deepcopy(made.result)
        holder: Any = result
        for key in where[:-1]:
            holder = holder[key]
        if isinstance(holder, list) and not isinstance(holder[0], float):
            continue
        holder[where[-1]] = None
        null = render(Records("run", made.config, made.metrics[:2], made.timings, result))
        Page(null)
        if isinstance(holder, dict) and len(where) < 3:
            del holder[where[-1]]
            assert render(Records("run", made.config, made.metrics[:2], made.timings, result)) == null


POISONS = [
    "<script>alert(1)</script>",
    "\"' onmouseover=alert(1) x='",
    "</style></title></svg>",
    "`<img src=x onerror=alert(1)>`",
]


def spoil(value: Any, poison: str) -> Any:
    """The same records with every text of the data poisoned, keys that come from the data too."""
    if isinstance(value, dict):
        return {
            key + (poison if key in ("seasonal-naive", "macro_f1") else ""): spoil(inner, poison)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [spoil(inner, poison) for inner in value]
    return value + poison if isinstance(value, str) else value


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("poison", POISONS)
def test_nothing_in_the_data_becomes_markup(task: str, poison: str) -> None:
    made = records(task)
    kept = {name: made.result[name] for name in ("task", "scored_on", "metric")}
    result = {**spoil(made.result, poison), **kept}
    spoilt = Records(
        "run" + poison, spoil(made.config, poison), [spoil(line, poison) for line in made.metrics], made.timings, result
    )
    html = render(spoilt)
    page, harmless = Page(html), Page(render(made))
    # Backticks set code, an empty prompt is now one and bold, the command has more words, longer times have fewer ticks, and
    # settings that mean nothing here are no longer as by default, so that they are shown.
    changed = {tag for tag in page.tags if page.tags[tag] != harmless.tags[tag]}
    assert changed <= {"code", "b", "span", "path", "text", "tr", "th", "td"}
    assert {name for name, _ in page.attributes} == {name for name, _ in harmless.attributes}
    assert not any(name.startswith("on") or name in ("src", "href") for name, _ in page.attributes)
    assert "<script" not in html.lower()
    assert poison.strip("`") in page.text


@pytest.mark.parametrize("task", TASKS)
def test_the_page_loads_nothing(task: str) -> None:
    html = render(records(task))
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script|<link|<img|<iframe|javascript:", html)
    assert "default-src 'none'" in html
    assert html.lstrip().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("task", TASKS)
def test_every_figure_is_well_formed_described_and_within_its_frame(task: str) -> None:
    drawings = re.findall(r"<svg viewBox=\"0 0 360.*?</svg>", render(records(task)), re.DOTALL)
    assert len(drawings) >= 3
    for drawing in drawings:
        svg = ElementTree.fromstring(drawing)
        assert svg.get("role") == "img"
        assert svg.get("aria-label")
        assert svg[0].tag == "title"
        width, height = (float(value) for value in svg.get("viewBox", "").split()[2:])
        for path in svg.iter("path"):
            for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.get("d", "")):
                assert 0 <= float(x) <= width
                assert 0 <= float(y) <= height


def test_a_large_run_stays_a_small_page() -> None:
    rng = np.random.default_rng(0)
    made = records("classify")
    names = [f"a class with the rather long name {i}" for i in range(500)]
    matrix = confusion(rng, 500) + np.eye(500, dtype=int)
    made.metrics.extend({**made.metrics[-1], "update": 3600 + i, "rate": float(rng.random())} for i in range(20_000))
    made.metrics.extend({"update": 4000 + i, "note": "x" * 5000} for i in range(500))
    made.config["files"] *= 20_000
    made.config["command"] += " x.csv" * 20_000
    made.result["warnings"] = ["w" * 2000] * 1000
    made.result["details"] = {
        "classes": names,
        "confusion": matrix.tolist(),
        "per_class": [{"name": name, "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": i} for i, name in enumerate(names)],
        "worst": [{"input": "word " * 5000, "truth": "t" * 900, "predicted": "p" * 900, "origin": "o" * 900}] * 500,
        "scatter": {"truth": rng.random(100_000).tolist(), "predicted": rng.random(100_000).tolist()},
        "examples": [
            {"past": rng.random(20_000).tolist(), "truth": rng.random(5000).tolist(), "median": rng.random(5000).tolist()}
        ]
        * 100,
        "samples": [{"prompt": "p" * 9000, "temperature": 1.0, "text": "t" * 90_000}] * 50,
        "surprising": [{"text": "x" * 50_000, "nats": rng.random(50_000).tolist()}] * 50,
        "confused": [{"truth": "a" * 500, "predicted": "b" * 500, "count": 2}] * 5000,
    }
    html = render(made)
    assert len(html.encode()) < 1_000_000
    text = words(html)
    assert "The 30 most frequent of 500 classes" in text
    assert "19,960 more are in config.json" in text
    assert "400 more are in result.json" in text
    assert "1,500 of 100,000, evenly chosen" in text
    kept = {matrix[i].sum() for i in np.argsort(-matrix.sum(1))[:30]}
    assert len(re.findall(r'<tr><th scope="row" title=', html)) == 30
    assert min(kept) >= np.sort(matrix.sum(1))[-30]


def test_confusion_counts_what_it_leaves_out() -> None:
    rng = np.random.default_rng(3)
    made = records("classify")
    matrix = rng.integers(0, 9, (40, 40))
    made.result["details"].update(classes=[f"c{i}" for i in range(40)], confusion=matrix.tolist(), per_class=[])
    html = render(made)
    table = html[html.index('<table class="heat') :]
    table = table[: table.index("</table>")]
    shown = sum(int(count) for count in re.findall(r"<td[^>]*>(\d+)</td>", table))
    assert f"{matrix.sum() - shown:,} sequences of or taken for the others" in words(html)
    names = re.findall(r'<th scope="row"[^>]*>c(\d+)</th>', table)
    assert {int(name) for name in names} == set(np.argsort(-matrix.sum(1), kind="stable")[:30].tolist())


# Files


def test_write_report(tmp_path: Path) -> None:
    run = write(tmp_path / "run", records("classify"))
    before = {path.name for path in run.iterdir()}
    path = write_report(run)
    assert path == run / "report.html"
    assert {entry.name for entry in run.iterdir()} == before | {"report.html"}
    first = path.read_text(encoding="utf-8")
    assert "TF-IDF of characters" in first
    assert write_report(run).read_text(encoding="utf-8") == first


def test_the_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    run = write(tmp_path / "run", records("lm", finished=False))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"update": 3720, "ep')
    assert "after 3,600 updates" in write_report(run).read_text(encoding="utf-8")


def test_text_that_utf8_cannot_hold(tmp_path: Path) -> None:
    made = records("classify")
    made.result["details"]["worst"][0]["input"] = "lone \ud800 surrogate"
    assert "lone ? surrogate" in write_report(write(tmp_path / "run", made)).read_text(encoding="utf-8")


def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    def refusal(run: Path) -> str:
        with pytest.raises(RunError) as caught:
            write_report(run)
        assert "\n" not in str(caught.value)
        assert not (run / "report.html").is_file()
        return str(caught.value)

    assert "nowhere does not exist" in refusal(tmp_path / "nowhere")
    assert "config.json is missing" in refusal(tmp_path)
    run = write(tmp_path / "run", records("tag"))
    (run / "result.json").write_text('{"task": ')
    assert "result.json is damaged" in refusal(run)
    (run / "result.json").unlink()
    (run / "metrics.jsonl").write_text('{"update": 1\n{"update": 2}\n')
    assert "metrics.jsonl line 1 is damaged" in refusal(run)
    (run / "config.json").write_text(json.dumps({"format_version": 7, "throughtime": "9.0"}))
    assert "9.0" in refusal(run)
    run = write(tmp_path / "other", records("tag"))
    (run / "report.html").mkdir()
    assert "report.html cannot be written" in refusal(run)
    assert not list(run.glob(".*.tmp"))
