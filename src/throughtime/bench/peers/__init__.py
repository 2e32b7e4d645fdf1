"""Who is measured: what each peer needs, and the environment its process starts with."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from throughtime.bench.cases import Arrays
from throughtime.settings import one_of

OURS, TORCH, SHIM, COMPILED, JAX, ONNX = "throughtime", "torch", "torch-mkl", "torch-compile", "jax", "onnxruntime"

_SHIM_SOURCE = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"
_VARIABLES = (
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "XLA_",
    "JAX_",
    "TORCHINDUCTOR_",
    "THROUGHTIME_",
    "LD_PRELOAD",
    "NPROC",
)
"""The beginnings of those that change how fast a peer is: none is taken over from outside."""


@dataclass(frozen=True)
class Loaded:
    """A case in a peer's process.

    Attributes:
        works: what can be timed, by name: called once, it does the work once and waits until it is done.
        answer: results to be judged: ``inference``, and of those that train ``output`` and the gradients of ``x``, ``w_ih``,
            ``w_hh``, ``b_ih`` and ``b_hh``.
        stages: seconds of one forward and backward pass by stage, of those that can tell.
    """

    works: dict[str, Callable[[], object]]
    answer: Callable[[], Arrays]
    stages: Callable[[], dict[str, float]] | None = None


@dataclass(frozen=True)
class Peer:
    """One of those measured.

    Attributes:
        name: what ``--peers`` and JSON call it.
        label: what people call it.
        module: the module of this package that runs it.
        imports: what must be installed.
        trains: whether it can run backward; the others are measured at inference.
        limit: seconds that it may take to prepare a case, compilation included.
        variables: of its environment, besides those all have.
    """

    name: str
    label: str
    module: str
    imports: tuple[str, ...]
    trains: bool = True
    limit: float = 300.0
    variables: dict[str, str] = field(default_factory=dict)


PEERS = {
    peer.name: peer
    for peer in (
        Peer(OURS, "ThroughTime", "torch_modules", ("torch",)),
        Peer(TORCH, "torch.nn", "torch_modules", ("torch",)),
        Peer(SHIM, "torch.nn with the MKL shim", "torch_modules", ("torch",)),
        Peer(COMPILED, "torch.compile", "torch_modules", ("torch",), limit=30.0),
        Peer(JAX, "JAX lax.scan", "jax_scan", ("jax",)),
        Peer(ONNX, "ONNX Runtime", "onnx_runtime", ("onnx", "onnxruntime"), trains=False),
    )
}

REFERENCE = Peer("reference", "the NumPy reference in float64", "numpy_reference", ("numpy",))
VARIANTS = (
    Peer(f"{OURS}-avx2", "ThroughTime with AVX2", "torch_modules", ("torch",), variables={"THROUGHTIME_ISA": "avx2"}),
    Peer(f"{OURS}-states", "ThroughTime with keep='states'", "torch_modules", ("torch",)),
    Peer(f"{OURS}-checkpoints", "ThroughTime with keep='checkpoints'", "torch_modules", ("torch",)),
)
"""ThroughTime in other ways than it comes."""
HELPERS = {peer.name: peer for peer in (REFERENCE, *VARIANTS)}
"""The judge, and those that are measured on the side: no choice of ``--peers``."""


def is_ours(name: str) -> bool:
    """Whether this is ThroughTime, in whatever way."""
    return name.startswith(OURS)


def chosen(names: Sequence[str] | None) -> list[Peer]:
    """The peers of these names, ThroughTime first whether it is named or not; all if ``None``.

    Raises:
        SettingsError: there is no such peer.

    Example:
        >>> [peer.name for peer in chosen(["jax"])]
        ['throughtime', 'jax']
    """
    for name in names or ():
        one_of("--peers", name, tuple(PEERS))
    return [peer for peer in PEERS.values() if names is None or peer.name in (OURS, *names)]


def missing(peer: Peer) -> str | None:
    """Why a peer cannot be measured here; ``None`` if it can."""
    absent = [name for name in peer.imports if importlib.util.find_spec(name) is None]
    if absent:
        return f"{' and '.join(absent)} not installed"
    if peer.name == SHIM:
        if platform.system() != "Linux" or "AuthenticAMD" not in _processor():
            return "the shim is for Linux on an AMD processor"
        if shutil.which("cc") is None:
            return "no C compiler (cc) to make the shim with"
    if peer.name == COMPILED and shutil.which("c++") is None:
        return "no C++ compiler (c++), which torch.compile needs"
    return None


def environment(peer: Peer, threads: int, folder: Path) -> dict[str, str]:
    """The environment of a peer's process: threads are set before anything is imported, and nothing else tunes it.

    Args:
        peer: the peer.
        threads: how many it may use.
        folder: an empty folder for this run, for what it compiles.
    """
    count = str(threads)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_VARIABLES)}
    made = kept | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"), count)
    made |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    if peer.name == SHIM:
        made["LD_PRELOAD"] = str(_shim(folder))
    return made | peer.variables


def _shim(folder: Path) -> Path:
    """A library that tells MKL it runs on Intel: on AMD it takes a slow path otherwise."""
    library, source = folder / "mkl_shim.so", folder / "mkl_shim.c"
    if not library.exists():
        source.write_text(_SHIM_SOURCE)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
    return library


def _processor() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
