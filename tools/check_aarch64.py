"""Compile the engine for aarch64, run it under emulation, and compare it with this processor: `make aarch64`.

Needs the Debian packages g++-aarch64-linux-gnu and qemu-user-static. Every line of tools/agreement.cpp's output is one cell at
one size on one instruction set; all sets of both processors must agree to rounding.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from check_symbols import FLAGS, NATIVE

COMMON = ["-std=gnu++17", "-O2", "-ffp-contract=fast", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", f"-I{NATIVE}",
          f"-I{NATIVE}/include"]  # fmt: skip
SOURCES = [NATIVE / "dispatch.cpp", NATIVE / "parallel.cpp", *(NATIVE / "driver").glob("*.cpp")]
# Sums of some thousand terms of order one, in another order: rounding of the type times the square root of their number.
TOLERANCES = (2e-4, 1e-12)


def digests(compiler: str, sets: list[str], folder: Path, runner: list[str]) -> dict[str, dict[str, tuple[float, float]]]:
    """What the program prints: problem -> instruction set -> (float, double)."""
    objects = []
    for name in sets:
        objects.append(folder / f"{compiler}.{name}.o")
        subprocess.run([compiler, *COMMON, *FLAGS[name], "-c", NATIVE / "isa" / f"{name}.cpp", "-o", objects[-1]], check=True)
    program = folder / compiler
    main = Path(__file__).parent / "agreement.cpp"
    subprocess.run([compiler, *COMMON, main, *SOURCES, *objects, "-o", program, "-pthread", "-ldl"], check=True)
    text = subprocess.run([*runner, program], check=True, capture_output=True, text=True).stdout
    found: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for line in text.splitlines():
        cell, size, reverse, name, single, double = line.split()
        found[f"{cell} {size} {reverse}"][name] = float(single), float(double)
    return found


def main() -> int:
    """Print the largest difference; 1 if it is more than rounding."""
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        here = digests("c++", ["baseline", "avx2", "avx512"], folder, [])
        emulator = ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"]
        there = digests("aarch64-linux-gnu-g++", ["baseline", "neon"], folder, emulator)
    worst = [0.0, 0.0]
    for problem, sets in here.items():
        results = [*sets.values(), *there[problem].values()]
        for kind in (0, 1):
            values = [result[kind] for result in results]
            scale = 1 + max(abs(value) for value in values)
            worst[kind] = max(worst[kind], (max(values) - min(values)) / scale)
    sets_told = ", ".join(next(iter(here.values()))), ", ".join(next(iter(there.values())))
    print(f"{len(here)} problems on {sets_told[0]} here and {sets_told[1]} on aarch64")
    print(f"largest relative difference: float {worst[0]:.1e}, double {worst[1]:.1e}")
    return int(not (worst[0] < TOLERANCES[0] and worst[1] < TOLERANCES[1]))


if __name__ == "__main__":
    sys.exit(main())
