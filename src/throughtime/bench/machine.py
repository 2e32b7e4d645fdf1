"""The machine and the versions of what is measured, without names of hosts or people."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import throughtime

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def described() -> dict[str, Any]:
    """Processor, cores of this process, caches of one core, system; what the system does not tell is left out."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {
        "processor": _processor(),
        "family_and_model": " ".join(_told(name) for name in ("cpu family", "model")).strip(),
        "cores": cores,
        "caches": _caches(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    return {name: value for name, value in found.items() if value}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python, of ThroughTime and of the packages that are installed.

    Example:
        >>> sorted(versions(["numpy", "no-such-package"]))
        ['numpy', 'python', 'throughtime']
    """
    found = {"python": platform.python_version(), "throughtime": throughtime.__version__}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    return _told("model name") or platform.processor() or platform.machine()


def _told(field: str) -> str:
    """A field of the first processor, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":")[1].strip() for line in lines if line.split("\t")[0] == field), "")


def _caches() -> dict[str, str]:
    """Such as {"L1 data": "48K"}."""
    found = {}
    for folder in sorted(_CACHES.glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found[f"L{level} data" if kind == "Data" else f"L{level}"] = size
    return found
