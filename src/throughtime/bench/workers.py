"""The peers' processes, seen from outside: started when first needed, asked one at a time, ended when too slow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any

from safetensors.numpy import load_file

from throughtime.bench.cases import Arrays, Case
from throughtime.bench.peers import Peer, environment
from throughtime.errors import ThroughTimeError

_LIMIT = 300.0
"""Seconds for any command but loading, whose limit is the peer's own."""
_REST = 0.05
"""Seconds before each sample. Threads of the peer before it may still spin, waiting for more work: libgomp's were seen to do so
for up to 30 ms, ONNX Runtime's for 40, JAX's not at all."""


class PeerError(ThroughTimeError, RuntimeError):
    """A peer that could not do what it was asked; the message says why, in a few words."""


class Worker:
    """One peer's process.

    Args:
        peer: the peer.
        threads: how many it may use.
        folder: for its files, of this run alone.
    """

    def __init__(self, peer: Peer, threads: int, folder: Path) -> None:
        self.peer = peer
        self._folder = folder
        self._environment = environment(peer, threads, folder)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def load(self, case: Case, arrays: Path) -> Arrays:
        """Have it take up a case, and get its results.

        Raises:
            PeerError: it fails, or takes longer than its limit.
        """
        answer = self._folder / f"answer-{self.peer.name}.safetensors"
        self.ask("load", self.peer.limit, case=case.as_json(), arrays=str(arrays), answer=str(answer))
        return load_file(answer)

    def sample(self, work: str) -> float:
        """Seconds of one call of a work of the case in hand."""
        self.rest()
        return float(self.ask("sample", work=work))

    def cost(self, work: str, beside: str) -> float:
        """How many times as long a work of the case in hand takes as another, in turns."""
        self.rest()
        return float(self.ask("cost", work=work, beside=beside))

    def rest(self) -> None:
        """Wait until whoever was measured before leaves the machine alone."""
        time.sleep(_REST)

    def ask(self, command: str, limit: float = _LIMIT, **arguments: Any) -> Any:
        """Give a command, and wait for what comes back.

        Raises:
            PeerError: it fails, ends, or takes longer than ``limit`` seconds; it is started anew at the next command.
        """
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        timer = Timer(limit, self._kill)
        timer.start()
        try:
            process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late = not timer.is_alive()
            timer.cancel()
        if not line:
            status = process.wait()
            self.close()
            raise PeerError(f"not done in {limit:.0f} s" if late else f"its process ended with status {status}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End the process, if it runs."""
        if self._process is not None:
            self._kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        # A session of its own: what it starts (torch.compile's compilers) can be ended with it, and Ctrl-C is for its parent.
        with (self._folder / f"{self.peer.name}.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "throughtime.bench.worker", self.peer.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
                start_new_session=True,
            )

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
