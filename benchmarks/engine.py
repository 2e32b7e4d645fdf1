"""The engine against torch.nn, in one run: forward, and forward plus backward, for RNN, GRU and LSTM.

    python benchmarks/engine.py [--threads 2] [--rounds 9] [--quick]

First a gate: outputs and every gradient must agree, or no time is taken. Then both take turns, round by round, in turning
order, and medians are compared; a ratio above 1 means ThroughTime is faster. What the Python around the kernels costs is
measured apart. A table goes to the terminal, all figures to benchmarks/results/engine.json.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import throughtime as tt
from throughtime.cells import CELLS
from throughtime.ops import native

SIZES = [  # T, B, I, H
    (100, 1, 16, 64),
    (1000, 1, 32, 32),
    (100, 1, 128, 256),
    (100, 32, 64, 64),
    (100, 32, 128, 128),
    (100, 32, 256, 256),
    (100, 64, 512, 512),
    (512, 16, 64, 128),
]
KINDS = ["RNN", "GRU", "LSTM"]
RESULTS = Path(__file__).parent / "results" / "engine.json"


@dataclass
class Row:
    """One cell at one size; times are medians in milliseconds, spreads half the interquartile range over the median."""

    kind: str
    T: int
    B: int
    I: int
    H: int
    torch_forward: float
    forward: float
    torch_both: float
    both: float
    spread: float
    gigaflops: float

    @property
    def forward_ratio(self) -> float:
        return self.torch_forward / self.forward

    @property
    def both_ratio(self) -> float:
        return self.torch_both / self.both


def make(kind: str, T: int, B: int, I: int, H: int) -> tuple[list[torch.nn.Module], torch.Tensor, torch.Tensor]:
    """torch's module and ours with the same weights, an input and an output gradient."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(I, H)
    ours = getattr(tt.nn, kind)(I, H)
    ours.load_state_dict(theirs.state_dict())
    return [theirs, ours], torch.randn(T, B, I, requires_grad=True), torch.randn(T, B, H)


def gate(modules: list[torch.nn.Module], x: torch.Tensor, gradient: torch.Tensor) -> None:
    """Refuse to time what is not equal."""
    results = []
    for module in modules:
        x.grad = None
        module.zero_grad()
        output, _ = module(x)
        output.backward(gradient)
        results.append([output.detach(), x.grad, *(p.grad for p in module.parameters())])
    for theirs, ours in zip(*results, strict=True):
        # Two float32 evaluations of sums over up to T * B products, in different orders.
        scale = theirs.abs().max()
        if not (theirs - ours).abs().max() <= 3e-4 * scale:
            raise SystemExit(f"{modules[1]}: outputs or gradients differ from torch.nn's; nothing was timed")


def timed(run: Callable[[], object], repeats: int) -> float:
    """Milliseconds a call, over ``repeats`` of them."""
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats * 1e3


def measure(kind: str, size: tuple[int, int, int, int], rounds: int) -> Row:
    T, B, I, H = size
    modules, x, gradient = make(kind, *size)
    gate(modules, x, gradient)

    def both(module: torch.nn.Module) -> None:
        output, _ = module(x)
        output.backward(gradient)

    runs: list[Callable[[], object]] = [lambda m=m: m(x) for m in modules] + [lambda m=m: both(m) for m in modules]
    repeats = []
    for run in runs:
        run()
        repeats.append(max(1, math.ceil(5 / timed(run, 1))))  # a sample lasts at least some 5 ms
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds):
        order = range(len(runs)) if turn % 2 == 0 else reversed(range(len(runs)))
        for index in order:
            times[index].append(timed(runs[index], repeats[index]))
    medians = [statistics.median(t) for t in times]
    spread = max((statistics.quantiles(t, n=4)[2] - statistics.quantiles(t, n=4)[0]) / 2 / statistics.median(t) for t in times)
    flops = 3 * 2 * T * B * len(CELLS[kind.lower() if kind != "RNN" else "rnn_tanh"].gates) * H * (I + H)
    return Row(kind, *size, medians[0], medians[1], medians[2], medians[3], spread, flops / medians[3] / 1e6)


def overhead(rounds: int) -> dict[str, float]:
    """Microseconds of Python around one call, at a size where the kernel has next to nothing to do (T 1, B 1, I 1, H 1)."""
    module = tt.nn.GRU(1, 1)
    x = torch.zeros(1, 1, 1)
    weights = native.LayerWeights(
        *(getattr(module, f"{n}_l0").detach() for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")), None
    )
    output = native.forward(CELLS["gru"], x, None, None, weights, native.Layout(), keep=True)
    one = torch.ones(1, 1, 1)

    def kernel_backward() -> None:
        native.backward(CELLS["gru"], x, None, None, weights, native.Layout(), output[0], output[3], one, None, None,
                        wanted=(False, False, False, True, True, True, True, False))  # fmt: skip

    def inference() -> None:
        with torch.no_grad():
            module(x)

    def training() -> None:
        module(x)[0].backward(one)

    theirs = torch.nn.GRU(1, 1)
    cases: dict[str, Callable[[], object]] = {
        "kernel call, forward": lambda: native.forward(CELLS["gru"], x, None, None, weights, native.Layout(), keep=True),
        "kernel call, backward": kernel_backward,
        "module, no_grad": inference,
        "module, forward": lambda: module(x),
        "module, forward+backward": training,
        "torch.nn, forward+backward": lambda: theirs(x)[0].backward(one),
    }
    return {name: statistics.median(timed(run, 300) for _ in range(rounds)) * 1e3 for name, run in cases.items()}


def geometric_mean(values: list[float]) -> float:
    return math.exp(statistics.fmean(math.log(value) for value in values))


def main() -> None:
    parser = argparse.ArgumentParser(description="ThroughTime's engine against torch.nn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="three rounds")
    options = parser.parse_args()
    rounds = 3 if options.quick else options.rounds
    torch.set_num_threads(options.threads)

    print(f"torch {torch.__version__}, {native.instruction_set()}, {options.threads} threads")
    print(f"milliseconds, medians of {rounds} rounds")
    print(f"{'T, B, I, H':>18}      {'forward':>24}   {'forward+backward':>24}")
    columns = f"{'torch':>9} {'ours':>8} {'ratio':>6}"
    print(f"{'':>18}      {columns}  {columns} {'GFLOP/s':>8} {'spread':>7}")
    rows = []
    for size in SIZES:
        for kind in KINDS:
            row = measure(kind, size, rounds)
            rows.append(row)
            forward = f"{row.torch_forward:9.3f} {row.forward:8.3f} {row.forward_ratio:6.2f}"
            both = f"{row.torch_both:9.3f} {row.both:8.3f} {row.both_ratio:6.2f} {row.gigaflops:8.0f} {row.spread:7.0%}"
            slower = "  slower than torch.nn" if min(row.forward_ratio, row.both_ratio) < 1 else ""
            print(f"{', '.join(map(str, size)):>18} {kind:4} {forward}  {both}{slower}", flush=True)
    means = {}
    for kind in KINDS:
        chosen = [row for row in rows if row.kind == kind]
        means[kind] = {
            "forward": geometric_mean([row.forward_ratio for row in chosen]),
            "forward+backward": geometric_mean([row.both_ratio for row in chosen]),
        }
        told = ", ".join(f"{what} {mean:.2f}" for what, mean in means[kind].items())
        print(f"geometric mean {kind:4}: {told}")
    cost = overhead(rounds)
    print("around the kernels, microseconds a call at T = B = I = H = 1:")
    for name, value in cost.items():
        print(f"    {name:28} {value:7.1f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "torch": torch.__version__,
                "throughtime": tt.__version__,
                "python": platform.python_version(),
                "processor": processor(),
                "instruction_set": native.instruction_set(),
                "threads": options.threads,
                "rounds": rounds,
                "rows": [asdict(row) | {"forward_ratio": row.forward_ratio, "both_ratio": row.both_ratio} for row in rows],
                "geometric_means": means,
                "overhead_us": cost,
            },
            indent=1,
        )
        + "\n"
    )
    print(f"all figures: {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")


def processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
