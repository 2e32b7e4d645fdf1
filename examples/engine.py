"""What the engine does, in under a minute: the same training faster, ragged batches, and a look at the gradient through time.

    python examples/engine.py [--out gradient_flow.png]

The data is on every machine: the source of Python's own standard library, as characters.
"""

from __future__ import annotations

import argparse
import copy
import math
import sysconfig
import time
from pathlib import Path

import matplotlib
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import throughtime as tt

matplotlib.use("Agg")

STEPS, BATCH, HIDDEN = 100, 32, 128


class CharacterModel(torch.nn.Module):
    """An ordinary PyTorch model, as anybody would write it."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(characters, 64)
        self.rnn = torch.nn.GRU(64, HIDDEN)
        self.decode = torch.nn.Linear(HIDDEN, characters)

    def forward(self, text: torch.Tensor) -> torch.Tensor:  # [T, B] -> [T, B, characters]
        return self.decode(self.rnn(self.embed(text))[0])


def standard_library(characters: int = 500_000) -> str:
    """The beginning of Python's standard library, its ASCII part."""
    text = ""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text += path.read_text(encoding="utf-8", errors="ignore")
        if len(text) >= characters:
            break
    return "".join(c for c in text[:characters] if c == "\n" or " " <= c <= "~")


def train(model: CharacterModel, codes: torch.Tensor, updates: range, optimizer: torch.optim.Optimizer) -> tuple[float, float]:
    """Run these updates; the last loss in nats, and seconds."""
    loss = torch.tensor(0.0)
    start = time.perf_counter()
    for update in updates:
        places = torch.randint(len(codes) - STEPS - 1, (BATCH,), generator=torch.Generator().manual_seed(update))
        windows = torch.stack([codes[p : p + STEPS + 1] for p in places.tolist()], dim=1)
        loss = torch.nn.functional.cross_entropy(model(windows[:-1]).flatten(0, 1), windows[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item(), time.perf_counter() - start


def faster(codes: torch.Tensor, characters: int) -> None:
    """The same model, the same data, the same seed; the one difference is a line."""
    print(f"1. A character model (GRU, {HIDDEN} units) on {len(codes):,} characters of Python's standard library")
    torch.manual_seed(0)
    before = CharacterModel(characters)
    after = tt.nn.convert(copy.deepcopy(before))  # the line
    optimizers = [torch.optim.Adam(model.parameters(), 3e-3) for model in (before, after)]
    seconds, losses = [0.0, 0.0], [0.0, 0.0]
    for first in range(0, 100, 20):  # in turns, so that both meet the same machine
        for index, model in enumerate((before, after)):
            losses[index], took = train(model, codes, range(first, first + 20), optimizers[index])
            seconds[index] += took
    for name, loss, took in zip(("torch.nn.GRU", "tt.nn.convert"), losses, seconds, strict=True):
        print(f"   {name:14} 100 updates in {took:5.2f} s, loss {loss:.4f} nats a character")
    kernel = tt.nn.backend(after.rnn, torch.zeros(STEPS, BATCH, 64))
    print(f"   {seconds[0] / seconds[1]:.1f} times as fast, embedding, softmax and Adam included; it ran on {kernel}\n")


def ragged() -> None:
    """Sequences of different lengths: no sorting, no packing, and zero is a length."""
    print("2. Ragged batches: 64 sequences of 10 to 500 steps, forward and backward")
    torch.manual_seed(0)
    lengths = torch.randint(10, 501, (64,))
    lengths[0] = 500
    theirs = torch.nn.LSTM(64, HIDDEN)
    ours = tt.nn.convert(copy.deepcopy(theirs))
    x = torch.randn(500, 64, 64)

    def packed() -> None:
        theirs(pack_padded_sequence(x, lengths, enforce_sorted=False))[0].data.sum().backward()

    def by_length() -> None:
        ours(x, lengths=lengths)[0].sum().backward()

    for name, run in (("PackedSequence", packed), ("lengths=", by_length)):
        run()
        times = []
        for _ in range(3):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        print(f"   {name:14} {min(times) * 1e3:6.0f} ms")
    print()


def gradient_through_time(out: Path) -> None:
    """How many steps back a gradient reaches in networks as they are before any training."""
    print("3. How far back in time the gradient reaches at initialisation (64 units, 400 steps)")
    torch.manual_seed(0)
    nets = {
        "sigmoid": tt.nn.RNN(8, 64, nonlinearity="sigmoid"),
        "tanh": tt.nn.RNN(8, 64),
        "tanh, orthogonal": tt.nn.init.orthogonal_(tt.nn.RNN(8, 64)),
        "LSTM": tt.nn.LSTM(8, 64),
        "LSTM, forget bias 1": tt.nn.init.forget_bias_(tt.nn.LSTM(8, 64), 1.0),
        "LSTM, chrono 400": tt.nn.init.chrono_(tt.nn.LSTM(8, 64), 400),
    }
    model = torch.nn.ModuleDict(nets)
    x = torch.randn(400, 16, 8)
    with tt.flow.record(model) as flow:
        for net in nets.values():
            net(x)[0][-1].sum().backward()
    print("                          10 % left after   1 % left after")
    for layer, name in enumerate(nets):
        told = [flow.horizon(fraction, layer) for fraction in (0.1, 0.01)]
        words = ["beyond 400 steps" if math.isinf(steps) else f"{steps:.0f} steps" for steps in told]
        print(f"   {name:20} {words[0]:>17} {words[1]:>16}")
    axes = flow.plot()
    axes.legend(list(nets), frameon=False)
    axes.set_ylim(1e-6, 2)
    axes.set_title("What is left of a unit gradient, by steps back in time")
    axes.figure.savefig(out, dpi=120)
    print(f"   picture: {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description="ThroughTime's engine in under a minute")
    parser.add_argument("--out", type=Path, default=Path("gradient_flow.png"), help="where to write the picture")
    options = parser.parse_args()
    if not options.out.parent.is_dir():  # before the work, not after it
        parser.error(f"--out {options.out}: there is no folder {options.out.parent}; make it or name another")
    text = standard_library()
    alphabet = sorted(set(text))
    number = {c: i for i, c in enumerate(alphabet)}
    faster(torch.tensor([number[c] for c in text]), len(alphabet))
    ragged()
    gradient_through_time(options.out)


if __name__ == "__main__":
    main()
