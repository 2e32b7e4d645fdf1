"""Check that nothing compiled for one instruction set can be linked into code that runs on every processor.

A template or inline function of a header is emitted in every object file that uses it, and the linker keeps one copy: if that
were the copy compiled for AVX-512, an older machine would crash in common code. So every function that a file of native/isa
defines must lie in the namespace of its instruction set. This compiles each of them as the build does, unoptimised as well
(where nothing is inlined away), and lists what it defines.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from pathlib import Path

NATIVE = Path(__file__).parent.parent / "native"
FLAGS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"],
    "neon": [],
}
HARMLESS = {"DW.ref.__gxx_personality_v0"}
"""A pointer to a function of the language's runtime, the same in every object file."""
SETS = ["baseline", "neon"] if platform.machine() in ("aarch64", "arm64") else ["baseline", "avx2", "avx512"]


def defined_outside(name: str, optimisation: str) -> list[str]:
    """Functions that native/isa/<name>.cpp defines outside its own namespace."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "object.o"
        subprocess.run(
            ["c++", "-std=gnu++17", optimisation, "-ffp-contract=fast", "-Wno-psabi", *FLAGS[name], f"-I{NATIVE}",
             f"-I{NATIVE}/include", "-c", NATIVE / "isa" / f"{name}.cpp", "-o", target],
            check=True,
        )  # fmt: skip
        listing = subprocess.run(["nm", "--defined-only", target], check=True, capture_output=True, text=True)
    inside = f"11throughtime{len(name)}{name}"  # as names are mangled: nm -C gives up on some lambdas
    found = []
    for line in listing.stdout.splitlines():
        _, kind, symbol = line.split(" ", 2)
        if kind in "TtWwVvuiI" and inside not in symbol and symbol not in HARMLESS:
            found.append(symbol)
    return found


def main() -> int:
    """Print what leaks; 1 if anything does."""
    leaks = {(name, level): defined_outside(name, level) for name in SETS for level in ("-O0", "-O3")}
    for (name, level), symbols in leaks.items():
        print(f"{name} {level}: {len(symbols)} functions outside throughtime::{name}")
        for symbol in symbols:
            print(f"    {symbol}")
    return int(any(leaks.values()))


if __name__ == "__main__":
    sys.exit(main())
