"""Run the kernels' tests under AddressSanitizer and UndefinedBehaviorSanitizer.

    python tools/sanitize.py [TESTS...]

The native module is built once more, with both (GCC or Clang, Linux), and takes the place of the installed one, in child
processes too. First it must
show that it can fail: a call whose output is one row too short has to be caught. Leaks are not looked for, as Python and
torch hold much until they end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "sanitize"
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1"
TESTS = [f"tests/test_{name}.py" for name in ("native", "bounds", "keep", "ragged", "autograd", "flow", "reference")]

TOO_SHORT = """
import torch
from throughtime import _native
T, B, I, H, gru = 4, 2, 3, 16, 4
w_ih, w_hh, x, h_n, short = (torch.zeros(n) for n in (3 * H * I, 3 * H * H, T * B * I, B * H, (T - 1) * B * H))
_native.forward_f32(gru, T, B, I, H, H, 0, False, False, False, 1, False, 0, w_ih.data_ptr(), w_hh.data_ptr(), 0, 0, 0,
                    x.data_ptr(), B * I, I, 0, 0, short.data_ptr(), B * H, H, h_n.data_ptr(), 0, 0)
"""


def build() -> Path:
    """The native module with both sanitizers in it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    options = {"cmake.define.CMAKE_CXX_FLAGS": FLAGS, "build-dir": str(FOLDER / "cmake"), "cmake.build-type": "RelWithDebInfo"}
    settings = [part for name, value in options.items() for part in ("--config-settings", f"{name}={value}")]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(FOLDER), *settings, str(ROOT)]
    subprocess.run(command, check=True)
    newest = max(FOLDER.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    with zipfile.ZipFile(newest) as wheel:
        name = next(name for name in wheel.namelist() if name.startswith("throughtime/_native"))
        return Path(wheel.extract(name, FOLDER))


def library(name: str) -> str:
    """Where the compiler has a library."""
    found = subprocess.run(["c++", f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout.strip()
    if not Path(found).exists():
        raise SystemExit(f"the compiler has no {name}; install the sanitizers of GCC (libasan)")
    return found


def main() -> int:
    """0 if all tests pass and nothing was reported."""
    module = build()
    environment = os.environ | {
        "THROUGHTIME_NATIVE": str(module),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tools" / "sanitized"), *filter(None, [os.environ.get("PYTHONPATH")])]),
        # The sanitizer must come first, and finds C++ exceptions only if their library is there as early.
        "LD_PRELOAD": f"{library('libasan.so')}:{library('libstdc++.so')}",
        # Fresh memory holds NaN, and a fault kills, as the tests want it.
        "ASAN_OPTIONS": "detect_leaks=0:handle_segv=0:malloc_fill_byte=255:max_malloc_fill_size=1073741824",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    caught = subprocess.run([sys.executable, "-c", TOO_SHORT], env=environment, capture_output=True, text=True, cwd=ROOT)
    if caught.returncode == 0 or "heap-buffer-overflow" not in caught.stderr:
        print(caught.stderr[-2000:])
        print("the sanitizer did not catch a write past the end of a tensor; nothing that it says of the tests would count")
        return 1
    print("a write past the end of a tensor is caught; now the tests", flush=True)
    tests = sys.argv[1:] or TESTS
    return subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], env=environment, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
