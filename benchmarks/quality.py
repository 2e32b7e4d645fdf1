"""What `throughtime fit` reaches on real data with its defaults: mean of three seeds, the test part scored once.

    make quality      or      python benchmarks/quality.py [--data FOLDER] [--only NAME,NAME] [--seeds 3]

Every run is the command line in a process of its own, with flags for data and task only. The data is not part of the
repository; what is absent is named and left out. Results go to benchmarks/results/quality.json and quality.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        name: of the data.
        command: arguments of `throughtime fit`, after the data is laid out in a folder.
        score: reads the figure from result.json (and the run directory).
        label: what the figure is.
        goal: in words.
        reached: whether a mean reaches the goal.
        minutes: that a run may take.
        needs: the folder of the data.
    """

    name: str
    command: Callable[[Path, Path], list[str]]
    score: Callable[[dict[str, Any], Path], dict[str, float]]
    label: str
    goal: str
    reached: Callable[[dict[str, float]], bool]
    minutes: float
    needs: str


def shakespeare(data: Path, work: Path) -> list[str]:
    text = (data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    cut = int(len(text) * 0.9)
    (work / "train.txt").write_text(text[:cut], encoding="utf-8")
    (work / "valid.txt").write_text(text[cut:], encoding="utf-8")
    return [str(work / "train.txt"), "--valid", str(work / "valid.txt")]


def names(data: Path, work: Path) -> list[str]:
    lines = sorted(set((data / "names" / "names.txt").read_text(encoding="utf-8").split()))
    random.Random(0).shuffle(lines)  # frozen: the same split for all seeds
    tenth = len(lines) // 10
    for name, part in (("test", lines[:tenth]), ("valid", lines[tenth : 2 * tenth]), ("train", lines[2 * tenth :])):
        (work / f"{name}.txt").write_text("\n".join(part) + "\n", encoding="utf-8")
    return [str(work / "train.txt"), "--valid", str(work / "valid.txt"), "--test", str(work / "test.txt")]


def vowels(data: Path, work: Path) -> list[str]:
    folder = data / "uea" / "JapaneseVowels"
    return [str(folder / "JapaneseVowels_TRAIN.ts"), "--test", str(folder / "JapaneseVowels_TEST.ts")]


def digits(data: Path, work: Path) -> list[str]:
    return [str(data / "fsdd" / "index.csv"), "--target", "digit", "--split-column", "split"]


def digits_by_speaker(data: Path, work: Path) -> list[str]:
    return [str(data / "fsdd" / "index.csv"), "--target", "digit", "--group", "speaker"]


def tags(data: Path, work: Path) -> list[str]:
    folder = data / "ud_english_ewt"
    return [str(folder / "ewt-train.tsv"), "--valid", str(folder / "ewt-dev.tsv"), "--test", str(folder / "ewt-test.tsv")]


def genres(data: Path, work: Path) -> list[str]:
    folder = data / "ud_english_ewt"
    return [str(folder / "genre-train.csv"), "--valid", str(folder / "genre-dev.csv"), "--test", str(folder / "genre-test.csv")]


def _marked(source: Path, target: Path, parts: Callable[[int], list[str]], rows: int | None = None) -> str:
    """A copy of a table with a column that says what part a row is."""
    with source.open(encoding="utf-8", newline="") as file:
        header, *lines = list(csv.reader(file))
    lines = lines[:rows]
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [[*header, "split"], *([*line, part] for line, part in zip(lines, parts(len(lines)), strict=True))]
        )
    return str(target)


def transformer(data: Path, work: Path) -> list[str]:
    path = _marked(
        data / "etth" / "ETTh1.csv", work / "etth1.csv", lambda n: ["train"] * 8640 + ["valid"] * 2880 + ["test"] * 2880, 14400
    )
    return [path, "--task", "forecast", "--target", "OT", "--split-column", "split", "--horizon", "24"]


def electricity(data: Path, work: Path) -> list[str]:
    test, valid = 42 * 24, 21 * 24
    path = _marked(
        data / "forecast" / "elec_vic_halfhourly.csv",
        work / "electricity.csv",
        lambda n: ["train"] * (n - test - valid) + ["valid"] * valid + ["test"] * test,
    )
    return [path, "--task", "forecast", "--split-column", "split", "--horizon", "168", "--season", "168"]


def airline(data: Path, work: Path) -> list[str]:
    path = _marked(
        data / "forecast" / "Airline.csv", work / "airline.csv", lambda n: ["train"] * (n - 72) + ["valid"] * 24 + ["test"] * 48
    )
    return [path, "--task", "forecast", "--split-column", "split", "--horizon", "12"]


def of_part(name: str, part: str = "test") -> Callable[[dict[str, Any], Path], dict[str, float]]:
    def score(result: dict[str, Any], run: Path) -> dict[str, float]:
        return {name: result["scores"][part][name]}

    return score


def daily_against_naive(result: dict[str, Any], run: Path) -> dict[str, float]:
    """Forecasts from the first hour of every day of the test part, against repeating the week before."""
    import numpy as np

    forecasts, values = _rolled(run, every=24)
    naive = np.stack([values[origin - 168 : origin] for origin in forecasts.origins[:, 1]])
    error = abs(forecasts.truth - forecasts.value).mean() / abs(forecasts.truth - naive).mean()
    inside = ((forecasts.truth >= forecasts.lower) & (forecasts.truth <= forecasts.upper)).mean()
    return {"mase / seasonal-naive": float(error), "coverage": float(inside)}


def scaled_error(result: dict[str, Any], run: Path) -> dict[str, float]:
    """Squared error in deviations of the training part, as the literature gives it."""
    import numpy as np

    forecasts, values = _rolled(run, every=1)
    return {"scaled mse": float(np.square(forecasts.truth - forecasts.value).mean() / values[:8640].var())}


def monthly(result: dict[str, Any], run: Path) -> dict[str, float]:
    """All origins of the last four years, and the last of them alone."""
    import numpy as np

    forecasts, _ = _rolled(run, every=1)
    errors = np.square(forecasts.truth - forecasts.value)
    return {"rmse": float(np.sqrt(errors.mean())), "rmse, last year": float(np.sqrt(errors[-1].mean()))}


def _rolled(run: Path, every: int) -> tuple[Any, Any]:
    from throughtime.data.split import split
    from throughtime.data.split_panel import PanelPart
    from throughtime.store import RunDirectory
    from throughtime.tasks.forecast import Forecast
    from throughtime.train.fitted import Fitted

    fitted = Fitted.load(run)
    task = fitted.task
    assert isinstance(task, Forecast)
    from throughtime.data import read

    source = Path(RunDirectory(run).config()["source"])
    part = split(read(source, task.settings), task.settings).test
    assert isinstance(part, PanelPart)
    with torch.inference_mode():
        forecasts = task.forecasts(fitted.network, task.encode(part, every=every))
    return forecasts, part.panel.series[0].values


CASES = [
    Case(
        "tinyshakespeare",
        shakespeare,
        of_part("nats_per_character", "valid"),
        "nats a character (validation)",
        "<= 1.55, 5 min",
        lambda s: s["nats_per_character"] <= 1.55,
        5,
        "tinyshakespeare",
    ),
    Case(
        "names",
        names,
        of_part("nats_per_character"),
        "nats a character",
        "<= 2.00, 1 min",
        lambda s: s["nats_per_character"] <= 2.0,
        1,
        "names",
    ),
    Case(
        "JapaneseVowels", vowels, of_part("accuracy"), "accuracy", ">= .975, 1 min", lambda s: s["accuracy"] >= 0.975, 1, "uea"
    ),
    Case(
        "spoken digits", digits, of_part("accuracy"), "accuracy", ">= .985, 2 min", lambda s: s["accuracy"] >= 0.985, 2, "fsdd"
    ),
    Case("spoken digits by speaker", digits_by_speaker, of_part("accuracy"), "accuracy", "reported", lambda s: True, 2, "fsdd"),
    Case(
        "EWT tags",
        tags,
        of_part("accuracy"),
        "words right",
        ">= .950, 5 min",
        lambda s: s["accuracy"] >= 0.95,
        5,
        "ud_english_ewt",
    ),
    Case(
        "EWT genres",
        genres,
        of_part("accuracy"),
        "accuracy",
        ">= .62, 3 min",
        lambda s: s["accuracy"] >= 0.62,
        3,
        "ud_english_ewt",
    ),
    Case(
        "ETTh1 OT 24 hours",
        transformer,
        scaled_error,
        "scaled MSE",
        "<= .027, 2 min",
        lambda s: s["scaled mse"] <= 0.027,
        2,
        "etth",
    ),
    Case(
        "electricity 168 hours",
        electricity,
        daily_against_naive,
        "MASE against weekly naive",
        "<= .92, coverage .85-.95",
        lambda s: s["mase / seasonal-naive"] <= 0.92 and 0.85 <= s["coverage"] <= 0.95,
        5,
        "forecast",
    ),
    Case("airline 12 months", airline, monthly, "RMSE", "<= 45", lambda s: s["rmse"] <= 45, 1, "forecast"),
]


def runs(case: Case, data: Path, work: Path, seeds: int) -> Iterator[dict[str, Any]]:
    """One run a seed."""
    for seed in range(seeds):
        out = work / f"run-{seed}"
        command = [
            sys.executable,
            "-m",
            "throughtime",
            "fit",
            *case.command(data, work),
            "--seed",
            str(seed),
            "--out",
            str(out),
            "--overwrite",
        ]
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - started
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()}")
        result = json.loads((out / "result.json").read_text(encoding="utf-8"))
        yield {
            "seed": seed,
            "scores": case.score(result, out),
            "seconds": round(seconds, 1),
            "training_seconds": result["training"]["seconds"],
            "updates": result["training"]["updates"],
            "headline": result["headline"],
            "model": result["model"]["description"],
            "parameters": result["model"]["parameters"],
            "baselines": {b["name"]: b["scores"] for b in result["baselines"]},
            "metric": result["metric"]["name"],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="What throughtime fit reaches on real data with its defaults")
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data", help="folder with the data sets"
    )
    parser.add_argument("--only", default="", help="names of cases, separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    wanted = [name.strip() for name in options.only.split(",") if name.strip()]
    path = RESULTS / "quality.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    table: dict[str, Any] = before.get("cases", {}) if wanted else {}
    for case in CASES:
        if wanted and case.name not in wanted:
            continue
        if not (options.data / case.needs).is_dir():
            print(f"{case.name}: {options.data / case.needs} is absent, left out")
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = list(runs(case, options.data, Path(folder), options.seeds))
        mean = {name: statistics.fmean(run["scores"][name] for run in found) for name in found[0]["scores"]}
        slowest = max(run["seconds"] for run in found)
        reached = case.reached(mean) and slowest <= 60 * case.minutes
        table[case.name] = {
            "label": case.label,
            "goal": case.goal,
            "mean": mean,
            "slowest": slowest,
            "reached": reached,
            "runs": found,
        }
        said = ", ".join(f"{name} {value:.4g}" for name, value in mean.items())
        print(
            f"{case.name}: {said} (goal {case.goal}: {'reached' if reached else 'NOT reached'}), slowest run {slowest:.0f} s",
            flush=True,
        )
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "cases": table}, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "quality.md").write_text(markdown(table, machine), encoding="utf-8")


def markdown(table: dict[str, Any], machine: str) -> str:
    """The table for readers."""
    lines = [
        "# What `throughtime fit` reaches with its defaults",
        "",
        f"`make quality` on {machine}: mean of {len(next(iter(table.values()))['runs'])} seeds,",
        "flags for data and task only, the test part scored once; seconds are of the whole command, baselines and report",
        "included, for the slowest seed. The best baseline is the one with the best mean.",
        "",
        "| data | figure | mean | seeds | goal | seconds | best baseline |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in table.items():
        first = next(iter(row["mean"]))
        values = " / ".join(f"{run['scores'][first]:.4g}" for run in row["runs"])
        mean = ", ".join(f"{value:.4g}" if key == first else f"{key} {value:.3g}" for key, value in row["mean"].items())
        metric = row["runs"][0]["metric"]
        all_runs = [run["baselines"] for run in row["runs"]]
        common = [b for b in all_runs[0] if all(metric in baselines.get(b, {}) for baselines in all_runs)]
        scores = {b: statistics.fmean(baselines[b][metric] for baselines in all_runs) for b in common}
        higher = metric == "accuracy"
        best = (max if higher else min)(scores, key=scores.__getitem__) if scores else ""
        goal = row["goal"] if row["reached"] else f"{row['goal']}: **not reached**"
        beside = f"{best} {scores[best]:.4g} ({metric})" if best else ""
        lines.append(f"| {name} | {row['label']} | {mean} | {values} | {goal} | {row['slowest']:.0f} | {beside} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
