"""Fits learn what there is to learn, from the training part alone."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from throughtime.data.records import Sequences
from throughtime.settings import Settings
from throughtime.tasks.lm import LanguageModelling

from fit_cases import BY_NAME, fit_to, put, reviews, series_table, sine, table


def test_long_documents_are_scored_window_by_window() -> None:
    """Beside the tokens themselves, a document takes no more memory than a few windows of it."""
    task = LanguageModelling(Settings.of({"hidden": 4}))
    documents = Sequences("text", ["abcdefgh" * 50_000, "abc", "abcdefgh" * 20_000])
    task.prepare(documents)
    text = task.encode(documents)

    class Uniform(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor, lengths: Any, state: Any) -> Any:
            return torch.zeros(*inputs.shape, task.codec.size), None

    network, seen = Uniform(1, 1), np.zeros(len(text.stream), int)
    tracemalloc.start()
    for places, values in task.nats(network, text):
        assert np.allclose(values, np.log(task.codec.size))
        seen[places] += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (seen[1:] == 1).all()
    assert seen[0] == 0
    assert peak < len(text.stream)


def test_order_is_learned_where_only_order_tells(tmp_path: Path) -> None:
    """Which of two words comes first: what cannot see order is left to guess."""
    chance = random.Random(1)
    rows = set()
    while len(rows) < 400:
        words = [*chance.choices("mnopqrst", k=chance.randint(1, 5)), "a", "b"]
        chance.shuffle(words)
        rows.add(f"{' '.join(words)},{'ab' if words.index('a') < words.index('b') else 'ba'}")
    result = fit_to(
        put(tmp_path, "order.csv", table("text,label", sorted(rows))),
        tmp_path / "run",
        hidden=16,
        epochs=20,
        lr=0.01,
        dropout=0.1,
    )
    assert result["scores"]["test"]["accuracy"] == 1.0
    blind = {
        baseline["name"]: baseline["scores"]["accuracy"] for baseline in result["baselines"] if baseline["order"] == "blind"
    }
    assert blind
    assert all(accuracy < 0.7 for accuracy in blind.values()), blind


def test_a_wave_is_forecast_better_than_by_its_last_value(tmp_path: Path) -> None:
    source = put(tmp_path, "wave.csv", series_table({"sales": sine(400, period=12, noise=0.2)}, start="1980-01"))
    result = fit_to(source, tmp_path / "run", horizon=6, epochs=10)
    persistence = next(baseline for baseline in result["baselines"] if baseline["name"] == "persistence")
    assert result["scores"]["test"]["mae"] < 0.2 * persistence["scores"]["mae"]
    assert 0.7 < result["scores"]["test"]["coverage"] <= 1


def test_a_text_that_repeats_itself_costs_next_to_nothing(tmp_path: Path) -> None:
    text = "the quick brown fox jumps over the lazy dog\n" * 300
    result = fit_to(
        put(tmp_path, "copy.txt", text),
        tmp_path / "run",
        hidden=48,
        documents="file",
        epochs=20,
        lr=0.01,
        dropout=0,
        bptt=44,
        batch=8,
        baselines=False,
    )
    assert result["scores"]["test"]["nats_per_character"] < 0.05
    sample = result["details"]["samples"][0]["text"]
    assert "quick brown fox" in sample


def test_numbers_are_learned(tmp_path: Path) -> None:
    """The sum of a sequence, in its own units."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(300):
        values = rng.integers(0, 9, rng.integers(2, 6))
        rows += [f"{number},{step},{value},{1000 + 10 * values.sum()}" for step, value in enumerate(values)]
    result = fit_to(
        put(tmp_path, "sums.csv", table("id,step,x,total", rows)),
        tmp_path / "run",
        task="regress",
        hidden=24,
        epochs=40,
        lr=0.02,
        dropout=0,
        baselines=False,
    )
    assert result["scores"]["test"]["r2"] > 0.95


def test_tags_of_unknown_words_are_learned_from_their_letters(tmp_path: Path) -> None:
    chance = random.Random(0)

    def word(ending: str) -> str:
        return "".join(chance.choices("bcdfgklmnprst", k=5)) + ending

    sentences = []
    for _ in range(100):
        sentence = [(word(end), tag) for end, tag in chance.choices([("ing", "VERB"), ("ous", "ADJ"), ("tion", "NOUN")], k=5)]
        sentences.append("\n".join(f"{word}\t{tag}" for word, tag in sentence))
    result = fit_to(put(tmp_path, "tags.tsv", "\n\n".join(sentences) + "\n\n"), tmp_path / "run", hidden=16, epochs=20, lr=0.01)
    assert result["scores"]["test"]["accuracy_unknown"] > 0.95
    assert result["scores"]["test"]["accuracy"] > 0.95


@pytest.mark.parametrize("name", ["classify_text", "tag_words", "regress", "forecast", "lm_stream"])
def test_what_is_tested_changes_nothing_of_what_is_learned(name: str, tmp_path: Path) -> None:
    """Two test files of the same size: the same transforms, weights, log and validation scores, to the bit."""
    case = BY_NAME[name]
    source = case.write(tmp_path)
    text = source.read_text()
    between = "\n\n" if name == "tag_words" else "\n"
    head, *rest = text.strip("\n").split(between)
    lines, header = (rest, head) if name in ("classify_text", "regress", "forecast") else ([head, *rest], None)
    cut = len(lines) * 4 // 5

    def part(file: str, some: list[str]) -> Path:
        return put(tmp_path, f"{file}{source.suffix}", between.join([*([header] if header else []), *some]) + between)

    others = {
        "classify_text": lambda n, line: line[:-3].replace("film", "movie") + ("pos" if n % 2 else "neg"),
        "tag_words": lambda n, line: "\n".join(line.split("\n")[: 1 + n % 3]),
        "regress": lambda n, line: f"{line.rsplit(',', 1)[0].replace('film', 'movie')},{n}",
        "forecast": lambda n, line: f"{line.split(',')[0]},{50 + n}",
        "lm_stream": lambda n, line: line.translate(str.maketrans("aeiou", "uoiea")),
    }
    other = [others[name](number // 2, line) for number, line in enumerate(lines[cut:])]
    train = part("train", lines[:cut])
    kept = []
    for number, some in enumerate((lines[cut:], other)):
        out = tmp_path / f"run{number}"
        result = case.fit(train, out, test=str(part(f"test{number}", some)), baselines=False)
        kept.append(([(out / file).read_bytes() for file in ("transforms.json", "model.safetensors", "metrics.jsonl")], result))
    assert kept[0][0] == kept[1][0]
    assert kept[0][1]["scores"]["valid"] == kept[1][1]["scores"]["valid"]
    assert kept[0][1]["scores"]["test"] != kept[1][1]["scores"]["test"], "the two files do differ"


def test_baselines_are_fitted_on_the_training_part(tmp_path: Path) -> None:
    """Test data of which the opposite is true: who learned from it would be right."""
    train = [row.replace("fine", "good").replace("dull", "bad") for row in reviews(120)]
    flipped = [row[:-3] + {"pos": "neg", "neg": "pos"}[row[-3:]] for row in train]
    sentences = "\n\n".join(f"w{n}\tN\nhund{n % 2}\t{'A' if n % 2 else 'B'}" for n in range(60)) + "\n\n"
    cycle = "aaaabbbb" * 200
    for name, content, opposite, settings in (
        ("classify.csv", table("text,label", train), table("text,label", flipped), {}),
        ("tags.tsv", sentences, sentences.replace("\tA", "\tC").replace("\tB", "\tA").replace("\tC", "\tB"), {}),
        ("text.txt", cycle, "abab" * 100, {"documents": "file", "bptt": 16, "batch": 2}),
    ):
        source, test = put(tmp_path, f"train_{name}", content), put(tmp_path, f"test_{name}", opposite)
        result = fit_to(source, tmp_path / f"run_{name}", test=str(test), **settings)
        for baseline in result["baselines"]:
            if result["task"] == "lm":
                assert baseline["scores"]["nats_per_character"] > 0.5, baseline
            elif baseline["order"] is not None and "network" not in baseline["name"]:  # one epoch teaches a network little
                assert baseline["scores"]["accuracy"] < 0.6, baseline
