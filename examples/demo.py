"""Two fits on real input, from a file to a report: yearly sunspots since 1700, and the source of a package of Python itself.

make demo        or        python examples/demo.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent


def run(*arguments: str) -> None:
    """A `throughtime` command, shown and run."""
    print(f"\n$ throughtime {shlex.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "throughtime", *arguments], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description="Two fits on real input")
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help="folder for the two runs; those of an earlier demo are replaced"
    )
    out = parser.parse_args().out

    sunspots, source = str(out / "demo-sunspots"), str(out / "demo-source")
    run("fit", os.path.relpath(HERE / "sunspots.csv"), "--season", "11", "--out", sunspots, "--overwrite")
    run("forecast", sunspots)

    run(
        "fit",
        str(Path(sysconfig.get_path("stdlib")) / "asyncio"),
        "--task",
        "lm",
        "--time-budget",
        "100s",
        "--out",
        source,
        "--overwrite",
    )
    run("generate", source, "--prompt", "async def ", "--length", "400", "--temperature", "0.5")
    print(f"\nreports: {sunspots}/report.html and {source}/report.html")


if __name__ == "__main__":
    main()
