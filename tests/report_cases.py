"""Records of a run of each task, made up, for the tests of the report and for looking at it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.report import Records
from throughtime.settings import Settings

GENRES = ["answers", "email", "newsgroup", "reviews", "weblog", "guide", "letters", "minutes"]

SETTINGS: dict[str, dict[str, Any]] = {
    "classify": {"text": "text", "target": "genre", "tokens": "word", "bidirectional": True},
    "tag": {"target": "upos", "bidirectional": True, "lr": 0.002},
    "regress": {"target": "stars", "text": "review"},
    "forecast": {"target": "passengers", "time": "month", "horizon": 12, "window": 36, "season": 12},
    "lm": {"tokens": "char", "documents": "file", "bptt": 128, "clip": 0.5},
}


def records(task: str, finished: bool = True) -> Records:
    """A run of about the size that real ones have."""
    rng = np.random.default_rng(0)
    settings = Settings.of({
        "task": task, "cell": "gru", "hidden": 128, "layers": 1, "optimizer": "AdamW", "dropout": 0.2, "init": "orthogonal",
        "lr": 0.003, "clip": 1.0, "batch": 32, "epochs": 12, "patience": 8, "schedule": "cosine", "device": "cpu", "seed": 3,
        **SETTINGS[task],
    })  # fmt: skip
    config = {
        "format_version": 1, "throughtime": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "settings": settings.as_json(),
        "command": f"throughtime fit data-{task}.csv --target {SETTINGS[task].get('target', 'text')} --seed 3",
        "created": "2026-11-22T21:07:33+00:00", "machine": "2 cores of an AMD EPYC 9R14, 15 GB, Linux 6.1",
        "files": [{"path": f"data-{task}.csv", "bytes": 1_115_394, "sha256": "86c4e6aa9db7c042" * 4}],
    }  # fmt: skip
    metrics, timings = _course(rng, _METRIC[task]["name"])
    return Records(f"runs-{task}", config, metrics, timings, _result(task, rng) if finished else {})


def write(run: Path, made: Records) -> Path:
    """The records as files of a run directory."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text(json.dumps(made.config))
    for name, lines in (("metrics", made.metrics), ("timings", made.timings)):
        (run / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if made.result:
        (run / "result.json").write_text(json.dumps(made.result))
    return run


_METRIC: dict[str, dict[str, Any]] = {
    "classify": {"name": "accuracy", "label": "accuracy", "higher_is_better": True, "unit": ""},
    "tag": {"name": "accuracy", "label": "accuracy", "higher_is_better": True, "unit": ""},
    "regress": {"name": "mae", "label": "MAE", "higher_is_better": False, "unit": "stars"},
    "forecast": {"name": "rmse", "label": "RMSE", "higher_is_better": False, "unit": "thousand passengers"},
    "lm": {"name": "nats_per_character", "label": "nats per character", "higher_is_better": False, "unit": ""},
}


def _course(rng: np.random.Generator, metric: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    metrics: list[dict[str, Any]] = []
    timings = []
    best = np.inf
    for i in range(1, 31):
        if i == 13:
            note = "loss became NaN in rnn at step 57 of batch rows 3, 8; back to update 1,440 with rate 0.0015"
            metrics.append({"update": 1500, "note": note})
        train = 0.6 + 1.5 * np.exp(-i / 6) + rng.normal(0, 0.02)
        valid = 0.95 + 1.1 * np.exp(-i / 5) + 0.004 * max(0, i - 15) + rng.normal(0, 0.015)
        scores = {"loss": valid, metric: 1 - valid / 3 if metric == "accuracy" else valid * 1.4}
        rate = 0.003 * 0.5 * (1 + np.cos(np.pi * i / 36)) * (0.5 if i > 12 else 1)
        metrics.append({
            "update": 120 * i, "epoch": i / 2.5, "rate": rate, "train_loss": train, "valid": scores, "best": bool(valid < best),
        })  # fmt: skip
        timings.append({"update": 120 * i, "seconds": 4.9 * i, "training_seconds": 4.2 * i})
        best = min(best, valid)
    return metrics, timings


def _result(task: str, rng: np.random.Generator) -> dict[str, Any]:
    result: dict[str, Any] = {
        "format_version": 1, "task": task,
        "split": "Validation: `valid.csv` (2,001 sequences); test: `test.csv` (2,077 sequences).",
        "warnings": ["14 rows of `data.csv` are identical to rows of `test.csv`; they were left out of the training part"],
        "metric": _METRIC[task], "scored_on": "test",
        "parts": {
            "train": {"sequences": 12544, "steps": 204_585, "shortest": 1, "longest": 159},
            "valid": {"sequences": 2001, "steps": 25_148, "shortest": 1, "longest": 75},
            "test": {"sequences": 2077, "steps": 25_097, "shortest": 1, "longest": 81},
        },
        "model": {
            "description": "bidirectional GRU, 1 layer of 128 units in each direction, word embeddings of 128",
            "parameters": 1_234_567, "backend": "native/avx512",
        },
        "training": {
            "updates": 3600, "epochs": 12.0, "seconds": 126.3, "steps_per_second": 84_211.7, "best_update": 2160,
            "stopped": "no better for 12 evaluations", "rollbacks": [{"update": 1500, "to": 1440}],
        },
    }  # fmt: skip
    return {**result, **_TASKS[task](rng)}


def _baseline(
    name: str, description: str, parameters: int, seconds: float, order: str | None, **scores: float
) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "parameters": parameters,
        "seconds": seconds,
        "order": order,
        "scores": scores,
    }


def _classes(names: list[str], matrix: np.ndarray) -> list[dict[str, Any]]:
    hits, called, support = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    return [
        {"name": name, "precision": h / max(c, 1), "recall": h / max(s, 1), "f1": 2 * h / max(c + s, 1), "support": int(s)}
        for name, h, c, s in zip(names, hits.tolist(), called.tolist(), support.tolist(), strict=True)
    ]


def confusion(rng: np.random.Generator, classes: int) -> np.ndarray:
    """A matrix of counts, classes of different sizes, most of them right."""
    sizes = 400 * np.exp(-np.arange(classes) / (classes / 2))
    return rng.poisson(np.outer(sizes, 0.35 * sizes / sizes.sum()) + np.diag(0.65 * sizes))


def _classify(rng: np.random.Generator) -> dict[str, Any]:
    matrix = confusion(rng, len(GENRES))
    return {
        "understood": "classify `text` into `genre` (8 classes), one step a word; `--tokens char` for characters",
        "headline": "A GRU gets 0.624 of 2,077 test sequences right; the best baseline, TF-IDF of characters, 0.634: "
        "the model does not beat it.",
        "beats_baselines": False,
        "scores": {
            "valid": {"accuracy": 0.6312, "macro_f1": 0.5822, "log_loss": 1.0312},
            "test": {"accuracy": 0.6241, "macro_f1": 0.5789, "log_loss": 1.041},
        },
        "baselines": [
            _baseline("majority", "always the most frequent class", 7, 0.01, "blind", accuracy=0.2129, macro_f1=0.0439),
            _baseline("bag of words", "mean of word embeddings", 812_040, 9.3, "blind", accuracy=0.6013, log_loss=1.12),
            _baseline("TF-IDF of words", "1- and 2-grams, logistic", 1_480_328, 6.1, "window", accuracy=0.617, log_loss=1.09),
            _baseline("TF-IDF of characters", "1- to 5-grams, logistic", 5_120_664, 21.7, "window", accuracy=0.6341),
        ],
        "details": {
            "classes": GENRES, "confusion": matrix.tolist(), "per_class": _classes(GENRES, matrix),
            "worst": [
                {"origin": "genre-test.csv row 17", "input": "Thanks again for everything, and please call me.",
                 "truth": "email", "predicted": "weblog", "probability": 0.9812},
                {"origin": "genre-test.csv row 1,204", "input": "It was great until they changed the owner!!!",
                 "truth": "newsgroup", "predicted": "reviews", "probability": 0.9777},
            ],
        },
    }  # fmt: skip


def _tag(rng: np.random.Generator) -> dict[str, Any]:
    tags = [
        "NOUN",
        "PUNCT",
        "VERB",
        "PRON",
        "ADP",
        "DET",
        "PROPN",
        "ADJ",
        "AUX",
        "ADV",
        "CCONJ",
        "PART",
        "NUM",
        "SCONJ",
        "X",
        "INTJ",
        "SYM",
    ]
    words = ["Google", "is", "a", "nice", "search", "engine", ",", "isn't", "it", "?"]
    truth = ["PROPN", "AUX", "DET", "ADJ", "NOUN", "NOUN", "PUNCT", "AUX", "PRON", "PUNCT"]
    predicted = [*truth[:4], "VERB", *truth[5:7], "ADV", *truth[8:]]
    return {
        "understood": "tag each `form` with `upos` (17 tags)",
        "headline": "A GRU gets 0.952 of 25,097 test words right, the best baseline, most frequent tag, 0.862.",
        "beats_baselines": True,
        "scores": {"valid": {"accuracy": 0.9533}, "test": {"accuracy": 0.9519, "accuracy_unknown": 0.842, "macro_f1": 0.901}},
        "baselines": [_baseline("most frequent tag", "of each word", 19_676, 0.2, "blind", accuracy=0.862)],
        "details": {
            "per_tag": _classes(tags, confusion(rng, 17)), "accuracy_unknown": 0.842, "span_f1": None,
            "confused": [{"truth": "NOUN", "predicted": "PROPN", "count": 9}, {"truth": "X", "predicted": "NOUN", "count": 2}],
            "worst": [{"origin": "ewt-test.tsv sentence 12", "words": words, "truth": truth, "predicted": predicted}] * 2,
        },
    }  # fmt: skip


def _regress(rng: np.random.Generator) -> dict[str, Any]:
    truth = rng.uniform(1, 5, 400)
    predicted = 0.7 * truth + 0.9 + rng.normal(0, 0.5, 400)
    worst = {"origin": "reviews.csv row 8", "input": "Not bad at all.", "truth": 4.5, "predicted": 1.532}
    return {
        "understood": "predict the number `stars` from `review`",
        "headline": "A GRU is off by 0.478 stars on average; the best baseline, TF-IDF with ridge, by 0.612.",
        "beats_baselines": True,
        "scores": {"test": {"mae": 0.478, "rmse": 0.601, "r2": 0.71}},
        "baselines": [
            _baseline("mean", "always the mean of the training data", 1, 0.001, "blind", mae=1.01, rmse=1.2, r2=-0.002),
            _baseline("TF-IDF", "words, ridge", 20_001, 3.2, "window", mae=0.612, rmse=0.77, r2=0.58),
        ],
        "details": {"scatter": {"truth": truth.tolist(), "predicted": predicted.tolist()}, "worst": [worst]},
    }


def _forecast(rng: np.random.Generator) -> dict[str, Any]:
    months = np.arange("1950-01", "1961-01", dtype="datetime64[M]")
    t = np.arange(len(months))
    level = 110 + 2.6 * t + (20 + 0.35 * t) * np.sin(2 * np.pi * (t - 3) / 12) + rng.normal(0, 5, len(t))

    def example(end: int) -> dict[str, Any]:
        truth = level[end : end + 12]
        median = truth + rng.normal(0, 9, 12)
        width = 14 + 2.2 * np.arange(12)
        return {
            "series": "Passengers", "times": [f"{month}-01T00:00:00" for month in months[end - 36 : end + 12]],
            "past": level[end - 36 : end].tolist(), "truth": truth.tolist(), "median": median.tolist(),
            "lower": (median - width).tolist(), "upper": (median + width).tolist(),
            "seasonal_naive": level[end - 12 : end].tolist(),
            "baseline": {"name": "ridge", "value": (median + 3).tolist()},
        }  # fmt: skip

    return {
        "understood": "forecast `passengers`, every month, 12 months ahead from the last 36; `--horizon` overrules",
        "headline": "A GRU forecasts 12 months ahead with an RMSE of 41.3; the best baseline, seasonal-naive, with 50.7.",
        "beats_baselines": True,
        "scores": {"valid": {"rmse": 31.2}, "test": {"rmse": 41.3, "mae": 33.1, "mase": 1.09, "coverage": 0.913}},
        "baselines": [
            _baseline("persistence", "the last value", 0, 0.0, None, rmse=103.0, mae=81.2, mase=2.7, smape=20.1),
            _baseline("seasonal-naive", "the value a season ago", 0, 0.0, None, rmse=50.7, mae=46.9, mase=1.55, smape=11.0),
            _baseline("ridge", "on the window", 444, 0.03, "full", rmse=52.2, mae=44.0, mase=1.46, smape=10.4),
        ],
        "details": {
            "per_step_mae": {
                "model": (25 + 1.5 * np.arange(12)).tolist(), "seasonal-naive": (46 + rng.normal(0, 2, 12)).tolist(),
                "persistence": (30 + 40 * np.sin(np.pi * np.arange(1, 13) / 12) + 3 * np.arange(12)).tolist(),
            },
            "examples": [example(84), example(96), example(108), example(120)], "worst": [example(101), example(99)],
            "per_series": [
                {"name": name, "windows": 13, "mae": 33.1, "mase": 1.09, "baseline": "ridge", "baseline_mase": 1.46}
                for name in ("Passengers", "Domestic")
            ],
            "coverage": 0.913, "level": 0.9,
        },
    }  # fmt: skip


def _lm(rng: np.random.Generator) -> dict[str, Any]:
    text = "KING RICHARD:\nWhat say'st thou now? my lord, I do beseech\nThe gentle heavens to bear thee from my sight.\n"
    sample = "First Citizen:\nHe shall be so; and, being well, I think\nThe world that hath no tongue.\n\nSICINIUS:\nAy, sir.\n"
    return {
        "understood": "a language model of characters (65), documents are files",
        "headline": "A GRU needs 1.527 nats a character on validation data; the best baseline, 5-grams, 1.79.",
        "beats_baselines": True, "scored_on": "valid",
        "scores": {"valid": {"nats_per_character": 1.527, "bits_per_character": 2.203, "perplexity": 4.604}},
        "baselines": [
            _baseline("unigram", "how frequent each is", 65, 0.1, "blind", nats_per_character=3.35),
            _baseline("5-grams", "Kneser-Ney", 402_118, 4.4, "window", nats_per_character=1.79),
        ],
        "details": {
            "samples": [
                {"prompt": "", "temperature": 0.8, "text": sample * 2},
                {"prompt": "ROMEO:", "temperature": 0.5, "text": "\n" + sample},
            ],
            "surprising": [{"text": text, "nats": rng.gamma(1, 1.6, len(text)).tolist(), "tokens": list(text)}],
        },
    }  # fmt: skip


_TASKS = {"classify": _classify, "tag": _tag, "regress": _regress, "forecast": _forecast, "lm": _lm}
