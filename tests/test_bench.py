"""The benchmark: its gate, its rounds, its processes, who is missing, and what it writes."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from throughtime import reference
from throughtime.bench import benchmark, comparison, peers
from throughtime.bench.benchmark import Record, sections
from throughtime.bench.cases import (
    BOTH,
    FORWARD,
    FULL,
    FULL_INFERENCE,
    INFERENCE,
    KERNEL_BOTH,
    KERNEL_FORWARD,
    PROBED,
    SIZES,
    TAPPED,
    WORKS,
    Arrays,
    Case,
    difference,
)
from throughtime.bench.comparison import Compared, Team, check
from throughtime.bench.peers import COMPILED, JAX, ONNX, OURS, PEERS, REFERENCE, SHIM, TORCH, VARIANTS, Peer, numpy_reference
from throughtime.bench.plot import draw
from throughtime.bench.report import as_json, markdown, write
from throughtime.bench.rounds import Sampled, run_rounds, turning
from throughtime.bench.summary import explained, losses, refusals, sides, slope, summaries
from throughtime.bench.workers import PeerError, Worker
from throughtime.cli import main
from throughtime.ops.native import STAGES

TINY = Case("gru", 3, 2, 4, 5)


def right(case: Case) -> Arrays:
    """The true results, in the case's dtype."""
    answer = numpy_reference.load("reference", case, case.arrays()).answer()
    return {name: array.astype(case.dtype) for name, array in answer.items()}


class Pretended:
    """A worker without a process."""

    def __init__(
        self, peer: Peer, results: Callable[[Case], Arrays], seconds: float = 1.0, asked: list[Any] | None = None
    ) -> None:
        self.peer, self._results, self._seconds = peer, results, seconds
        self.asked: list[Any] = [] if asked is None else asked

    def load(self, case: Case, arrays: Path) -> Arrays:
        self.asked.append(("load", self.peer.name))
        return self._results(case)

    def sample(self, work: str) -> float:
        self.asked.append((work, self.peer.name))
        return self._seconds

    def cost(self, work: str, beside: str) -> float:
        self.asked.append((f"{work} beside {beside}", self.peer.name))
        return 1.5

    def ask(self, command: str, **arguments: Any) -> float:
        self.asked.append((command, self.peer.name))
        return 1e6

    def rest(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """A team without processes, judged by the reference."""
    with Team([], 1, tmp_path) as team:
        judge: Any = Pretended(REFERENCE, lambda case: numpy_reference.load("", case, case.arrays()).answer())
        team.judge = judge
        yield team


def add(team: Team, worker: Any) -> None:
    team.workers[worker.peer.name] = worker


# Cases


def test_every_peer_gets_the_same_numbers() -> None:
    first, second = TINY.arrays(), TINY.arrays()
    assert all((first[name] == second[name]).all() and first[name].dtype == np.float32 for name in first)
    assert first["w_hh"].shape == (15, 5)
    assert first["gradient"].shape == (3, 2, 5)


@pytest.mark.parametrize("lengths", [None, (3, 1)])
def test_a_case_comes_back_from_json(lengths: tuple[int, ...] | None) -> None:
    case = replace(TINY, lengths=lengths)
    assert Case.from_json(json.loads(json.dumps(case.as_json()))) == case


def test_operations_are_those_of_the_true_steps() -> None:
    lstm = Case("lstm", 10, 2, 3, 5)
    assert lstm.flops(FORWARD) == 2 * 10 * 2 * 4 * 5 * (3 + 5)
    assert lstm.flops(BOTH) == lstm.flops(KERNEL_BOTH) == 3 * lstm.flops(FORWARD)
    assert replace(lstm, lengths=(10, 5)).flops(FORWARD) * 4 == lstm.flops(FORWARD) * 3


def test_difference_of_what_is_no_number_or_no_match() -> None:
    assert difference(np.array([np.nan, 1.0]), np.ones(2)) == float("inf")
    assert difference(np.ones(3), np.ones(2)) == float("inf")
    assert difference(np.full(2, 1e-9), np.zeros(2)) == 1e-9


# The gate


def judged(case: Case, results: Arrays, peer: Peer = PEERS[TORCH]) -> Compared:
    found = Compared(case, case.tolerance())
    check(found, peer, results, numpy_reference.load("", case, case.arrays()).answer())
    return found


@pytest.mark.parametrize("cell", ["rnn_tanh", "gru", "lstm"])
def test_rounding_passes_the_gate(cell: str) -> None:
    case = replace(TINY, cell=cell)
    assert 0 < judged(case, right(case)).differences[TORCH] < case.tolerance()


@pytest.mark.parametrize("name", ["output", "inference", "x", "w_ih", "w_hh", "b_ih", "b_hh"])
def test_a_result_that_is_a_little_wrong_does_not(name: str) -> None:
    results = right(TINY)
    results[name] = results[name] * np.float32(1 + 4 * TINY.tolerance())
    with pytest.raises(PeerError, match=rf"^wrong: {name} differs from the NumPy reference in float64 by .*e-\d+ of its"):
        judged(TINY, results)


def test_reduced_precision_does_not_pass_at_any_size_of_the_benchmark() -> None:
    """Weights rounded to TF32 (10 bits) put the smallest case off by more than the largest tolerance."""
    rounded = {name: np.round(array * 2**10) / 2**10 for name, array in TINY.arrays().items()}
    weights = reference.Weights(*(rounded[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")))
    output = reference.forward("gru", rounded["x"], weights).output
    assert difference(output, right(TINY)["output"]) > max(Case("lstm", *size).tolerance() for size in SIZES)


def test_a_missing_gradient_and_nan_do_not_pass() -> None:
    results = right(TINY)
    with pytest.raises(PeerError, match="wrong: gives no w_hh"):
        judged(TINY, {name: array for name, array in results.items() if name != "w_hh"})
    with pytest.raises(PeerError, match=r"wrong: x differs .* by inf"):
        judged(TINY, results | {"x": np.full_like(results["x"], np.nan)})


def test_those_that_do_not_train_are_judged_by_inference() -> None:
    assert list(judged(TINY, {"inference": right(TINY)["inference"]}, PEERS[ONNX]).differences) == [ONNX]


def test_a_wrong_peer_is_named_and_not_timed(team: Team) -> None:
    wrong = Pretended(PEERS[TORCH], lambda case: right(case) | {"x": right(case)["x"] + 1})
    add(team, Pretended(PEERS[OURS], right, 1.0))
    add(team, wrong)
    add(team, Pretended(PEERS[JAX], right, 3.0))
    add(team, Pretended(PEERS[ONNX], lambda case: {"inference": right(case)["inference"]}, 0.5))
    found = team.compare(TINY, WORKS, 3, (KERNEL_FORWARD,), (TAPPED,))
    assert wrong.asked == [("load", TORCH)]
    assert list(found.refused) == [TORCH]
    assert found.differences[TORCH] > found.tolerance > found.differences[OURS]
    assert {work: sorted(times) for work, times in found.seconds.items()} == {
        BOTH: [JAX, OURS],
        FORWARD: [JAX, OURS],
        INFERENCE: [JAX, ONNX, OURS],
        KERNEL_FORWARD: [OURS],
    }
    assert {work: cost.median for work, cost in found.costs.items()} == {TAPPED: 1.5}
    assert (found.best(BOTH), found.ratio(BOTH)) == (JAX, 3.0)
    assert (found.best(INFERENCE), found.ratio(INFERENCE)) == (ONNX, 0.5)
    assert found.share(BOTH) == TINY.flops(BOTH) / 1.0 / 1e6


def test_without_throughtime_there_is_no_ratio_and_no_ceiling(team: Team) -> None:
    add(team, Pretended(PEERS[OURS], lambda case: {}))
    add(team, Pretended(PEERS[TORCH], right))
    found = team.compare(TINY, (BOTH,), 2)
    assert found.ratio(BOTH) is found.share(BOTH) is found.ceiling is None
    assert found.refused[OURS].startswith("wrong: gives no inference, output")


def test_loops_that_would_compile_too_long_are_not_tried(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 50.0, 100.0, 150.0])
    monkeypatch.setattr(comparison.time, "perf_counter", lambda: next(clock))
    peer = replace(PEERS[COMPILED], limit=120.0)
    add(team, Pretended(peer, right))
    refused = [team.compare(replace(TINY, T=T), (BOTH,), 2).refused for T in (3, 9, 6)]
    assert refused == [{}, {COMPILED: "not tried: compiling 3 steps took 50 s, so 9 take more than 120 s"}, {}]


# Rounds


def test_everybody_comes_once_a_round_and_begins_as_often() -> None:
    orders = [turning("abcd", turn) for turn in range(8)]
    assert all(sorted(order) == list("abcd") for order in orders)
    assert {first: [order[0] for order in orders].count(first) for first in "abcd"} == dict.fromkeys("abcd", 2)
    before_b = {order[order.index("b") - 1] for order in orders if order[0] != "b"}
    assert before_b == {"a", "c"}


def test_peers_are_timed_in_turning_order(team: Team) -> None:
    asked: list[Any] = []
    for peer in (OURS, TORCH):
        add(team, Pretended(PEERS[peer], right, 1.0, asked))
    team.compare(TINY, (BOTH,), 2)
    who = [(BOTH, OURS), (BOTH, TORCH), ("ceiling", OURS)]
    assert asked[2:] == [*who, *turning(who, 1)]


def test_statistics_are_those_of_numpy() -> None:
    samples = np.random.default_rng(0).lognormal(size=9)
    found = Sampled.of(samples.tolist())
    low, median, high = np.percentile(samples, [25, 50, 75])
    assert found.median == pytest.approx(median)
    assert found.spread == pytest.approx((high - low) / 2 / median)


def test_who_fails_in_a_round_is_left_out_and_named() -> None:
    turns = iter([1.0, 2.0])

    def failing() -> float:
        value = next(turns)
        if value > 1:
            raise PeerError("gone")
        return value

    sampled, failed = run_rounds({"good": lambda: 3.0, "bad": failing}, 4)
    assert list(sampled) == ["good"]
    assert sampled["good"].samples == [3.0] * 4
    assert failed == {"bad": "gone"}


# Who there is


def test_ours_is_always_among_the_chosen_and_unknown_names_are_refused() -> None:
    assert [peer.name for peer in peers.chosen(["jax", "torch"])] == [OURS, TORCH, JAX]
    assert [peer.name for peer in peers.chosen(None)] == list(PEERS)
    with pytest.raises(ValueError, match="--peers is 'tensorflow', expected throughtime or torch or torch-mkl"):
        peers.chosen(["tensorflow"])


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None if "onnx" in name else name)
    assert peers.missing(PEERS[ONNX]) == "onnx and onnxruntime not installed"
    assert peers.missing(PEERS[TORCH]) is None
    monkeypatch.setattr(peers, "_processor", lambda: "vendor_id : GenuineIntel")
    assert peers.missing(PEERS[SHIM]) == "the shim is for Linux on an AMD processor"
    monkeypatch.setattr(peers, "_processor", lambda: "vendor_id : AuthenticAMD")
    monkeypatch.setattr(peers.platform, "system", lambda: "Linux")
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    assert peers.missing(PEERS[SHIM]) == "no C compiler (cc) to make the shim with"
    assert peers.missing(PEERS[COMPILED]) == "no C++ compiler (c++), which torch.compile needs"


def test_threads_are_set_and_nothing_tunes_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_DEBUG_CPU_TYPE", "XLA_FLAGS", "THROUGHTIME_ISA", "LD_PRELOAD"):
        monkeypatch.setenv(name, "1")
    made = peers.environment(PEERS[TORCH], 3, tmp_path)
    assert {name: made[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")} == dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"), "3"
    )
    assert not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_DEBUG_CPU_TYPE", "XLA_FLAGS", "THROUGHTIME_ISA", "LD_PRELOAD"} & set(
        made
    )
    assert peers.environment(VARIANTS[0], 1, tmp_path)["THROUGHTIME_ISA"] == "avx2"


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_shim_is_a_library_that_says_yes(tmp_path: Path) -> None:
    library = peers.environment(PEERS[SHIM], 1, tmp_path)["LD_PRELOAD"]
    assert ctypes.CDLL(library).mkl_serv_intel_cpu_true() == 1


# Processes


def saved(case: Case, folder: Path) -> Path:
    save_file(case.arrays(), folder / "arrays")
    return folder / "arrays"


@pytest.mark.parametrize("name", [OURS, "throughtime-states", TORCH])
def test_processes_give_what_is_right_and_their_times(name: str, tmp_path: Path) -> None:
    peer = (PEERS | peers.HELPERS)[name]
    with Worker(peer, 1, tmp_path) as worker:
        for case in (TINY, Case("lstm", 4, 3, 2, 6, lengths=(1, 4, 3)), Case("rnn_tanh", 4, 1, 2, 3, "float64")):
            found = Compared(case, case.tolerance())
            check(found, peer, worker.load(case, saved(case, tmp_path)), right(replace(case, dtype="float64")) | right(case))
            works = (BOTH, INFERENCE, KERNEL_BOTH, PROBED) if name == OURS else (BOTH,)
            assert all(0 < worker.sample(work) < 1 for work in works)
            if name == OURS:
                assert 0.5 < worker.cost(TAPPED, BOTH) < worker.cost(PROBED, BOTH)
                assert 0.8 < worker.cost(BOTH, BOTH) < 1.25
                if case.lengths is not None:  # of so few steps, what lengths cost in Python outweighs what they save
                    assert 0.1 < worker.cost(FULL, BOTH) < 10 > worker.cost(FULL_INFERENCE, INFERENCE) > 0.1


@pytest.mark.parametrize(("name", "module"), [(JAX, "jax"), (ONNX, "onnxruntime")])
def test_other_frameworks_do_the_same_work(name: str, module: str, tmp_path: Path) -> None:
    if peers.missing(PEERS[name]):
        pytest.skip(f"{module} is not installed")
    with Worker(PEERS[name], 1, tmp_path) as worker:
        for cell in ("rnn_tanh", "gru", "lstm"):
            case = replace(TINY, cell=cell)
            judged(case, worker.load(case, saved(case, tmp_path)), PEERS[name])
            assert 0 < worker.sample(INFERENCE) < 1


def test_the_reference_answers_from_a_process_that_tells_its_errors_and_goes_on(tmp_path: Path) -> None:
    with Worker(REFERENCE, 1, tmp_path) as worker:
        with pytest.raises(PeerError, match=r"FileNotFoundError: .*nothing"):
            worker.load(TINY, tmp_path / "nothing")
        found = worker.load(TINY, saved(TINY, tmp_path))
        assert found["w_hh"].dtype == np.float64
        judged(TINY, found)


def test_a_process_that_is_too_slow_or_dies_is_ended_and_started_anew(tmp_path: Path) -> None:
    with Worker(replace(REFERENCE, limit=0.01), 1, tmp_path) as worker:
        with pytest.raises(PeerError, match=r"^not done in 0 s$"):
            worker.load(TINY, saved(TINY, tmp_path))
        worker.peer = REFERENCE
        assert worker.load(TINY, saved(TINY, tmp_path))
        process: Any = worker._process
        process.kill()
        process.wait()
        with pytest.raises(PeerError, match="its process ended with status -9"):
            worker.load(TINY, saved(TINY, tmp_path))
        assert worker.load(TINY, saved(TINY, tmp_path))
        process = worker._process
    assert process.returncode is not None


# What is written


def timed(seconds: float) -> Sampled:
    return Sampled.of([seconds, seconds, seconds])


def compared(case: Case, times: dict[str, dict[str, float]], **fields: Any) -> Compared:
    seconds = {work: {peer: timed(value) for peer, value in of.items()} for work, of in times.items()}
    return Compared(case, case.tolerance(), seconds=seconds, ceiling=timed(1e12), **fields)


@pytest.fixture
def record() -> Record:
    """A run in which ThroughTime wins and loses, and somebody is wrong."""
    large = Case("lstm", 100, 32, 128, 128)
    lengths = (500, 100)
    record = Record(
        date="2026-01-02", machine={"processor": "some processor", "cores": 2, "system": "Linux"}, versions={"torch": "9.9"},
        threads=2, rounds=3, quick=False, peers=[OURS, TORCH, JAX], missing={ONNX: "onnx not installed"},
        instruction_set="avx512", ceilings={1: timed(2e11), 2: timed(4e11)},
    )  # fmt: skip
    record.sections = {
        "main": [
            compared(
                large,
                {BOTH: {OURS: 0.01, TORCH: 0.03, JAX: 0.02}, KERNEL_BOTH: {OURS: 0.009}},
                costs={TAPPED: timed(1.02)},
                differences={TORCH: 1e-6},
                stages=dict(zip(STAGES, (5e-4, 1e-3, 1e-3, 1e-3, 5e-4, 1e-3, 0.0, 2e-3, 1e-3, 1e-3), strict=True)),
            ),
            compared(
                replace(large, T=200),
                {BOTH: {OURS: 0.04, TORCH: 0.02}},
                differences={JAX: float("inf")},
                refused={JAX: "wrong: x differs"},
            ),
        ],
        "T": [compared(Case("gru", T, 1, 64, 64), {BOTH: {OURS: T * 1e-6}}) for T in (10, 1000, 10_000)],
        "ragged": [
            compared(
                Case("gru", 500, 2, 8, 8, lengths=lengths), {BOTH: {OURS: 0.66, TORCH: 3.3}}, costs={FULL: timed(1 / 0.66)}
            )
        ],
        "variants": [compared(large, {BOTH: {OURS: 0.01, VARIANTS[0].name: 0.02}})],
    }
    record.memory = {"lstm": {OURS: 100 * 2**20, TORCH: 300 * 2**20}}
    return record


def test_means_smallest_and_share(record: Record) -> None:
    (summary,) = summaries(record.sections["main"])
    assert (summary.cell, summary.work, summary.smallest, summary.where) == ("lstm", BOTH, 0.5, "200, 32, 128, 128")
    assert summary.mean == pytest.approx(1.0)  # of 2 and 1/2
    flops = 3 * 2 * 100 * 32 * 4 * 128 * 256
    assert summary.share == pytest.approx((flops * 2 / 0.04 / 1e12, flops / 0.01 / 1e12))


def test_where_the_time_goes(record: Record) -> None:
    first, second = record.sections["main"]
    found = explained(first)
    assert found is not None
    flops = 3 * 2 * 100 * 32 * 4 * 128 * 256
    assert found.products == pytest.approx(6 / 9)  # 1 + 1 + 1 + 2 + 1 of 9 ms
    assert found.rate == pytest.approx(flops / 6e-3 / 1e12)
    assert found.share["pointwise"] == pytest.approx(1 / 9)
    assert found.read is None  # a batch of many
    assert found.at_most == pytest.approx(0.02 / (flops / 1e12))
    one = explained(replace(first, case=replace(first.case, B=1)))
    assert one is not None
    assert one.weights == 4 * 128 * 128 * 4
    assert one.read == pytest.approx(2 * 100 * one.weights / 2e-3)  # forward and back, at every step
    assert explained(second) is None


def test_losses_and_the_missing_are_told(record: Record) -> None:
    assert losses(record.sections["main"]) == [
        "LSTM 200, 32, 128, 128, forward+backward: torch.nn takes 0.50 of ThroughTime's time"
    ]
    assert refusals(record) == [
        "ONNX Runtime: onnx not installed",
        "JAX lax.scan: wrong: x differs: LSTM 200, 32, 128, 128",
    ]


def test_what_is_measured_beside(record: Record) -> None:
    told = "\n".join(sides(record))
    assert slope(record.sections["T"]) == {"gru": pytest.approx(1.0)}
    assert "a true step costs, times that of a full batch, in turns: GRU 1.10; torch's PackedSequence" in told
    assert "as ThroughTime: GRU 5.00" in told
    assert "Recording the gradient changes the time of a step, in turns with steps that are not, by" in told
    assert "(geometric means over the sizes): LSTM +2.0% (most +2.0%)." in told
    assert "ThroughTime 100 MiB, torch.nn 300 MiB" in told
    assert "ThroughTime with AVX2 takes, times as long as it comes (with avx512): LSTM 2.00" in told
    record.sections = {"main": []}
    record.memory = {}
    assert sides(record) == []


def test_files_hold_wins_and_losses_alike(record: Record, tmp_path: Path) -> None:
    files = write(record, tmp_path / "new")
    assert [file.name for file in files] == ["speed.json", "speed.md", "speed.svg"]
    found = json.loads(files[0].read_text())
    assert found["missing"] == {ONNX: "onnx not installed"}
    assert found["sections"]["main"][1]["differences"] == {JAX: None}
    assert found["sections"]["main"][0]["works"][BOTH]["ratio"] == 2.0
    assert found["sections"]["main"][0]["works"][BOTH]["seconds"][JAX]["samples"] == [0.02] * 3
    page = files[1].read_text()
    assert "| LSTM | 100, 32, 128, 128 | 10 | 20 (JAX lax.scan) | 2.00 | 25% | 0% |" in page
    assert "| LSTM | 200, 32, 128, 128 | 40 | 20 (torch.nn) | 0.50 slower | 13% | 0% |" in page
    assert "ONNX Runtime: onnx not installed" in page
    picture = files[2].read_text()
    for words in ("ThroughTime", "JAX lax.scan", "not measured: ONNX Runtime (onnx not installed)", "LSTM, forward+backward"):
        assert words in picture


def test_a_record_gives_the_same_files_again(record: Record) -> None:
    assert draw(record) == draw(record)
    assert as_json(record) == as_json(record)
    assert "Nowhere in this run" in markdown(replace(record, sections={"main": record.sections["main"][:1]}))


# The whole


def test_the_whole_run_measures_what_was_asked_for() -> None:
    whole = {section.name: section for section in sections(2, quick=False)}
    assert {(c.T, c.B, c.I, c.H) for c in whole["main"].cases} == set(SIZES)
    assert whole["main"].works == WORKS
    assert whole["one thread"].threads == 1
    assert {c.dtype for c in whole["float64"].cases} == {"float64"}
    ragged = whole["ragged"].cases[0]
    assert ragged.lengths is not None
    assert (len(ragged.lengths), min(ragged.lengths), max(ragged.lengths)) == (64, 10, ragged.T)
    assert [section.name for section in sections(2, quick=True)] == ["main"]


def test_the_command_measures_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed"
    flags = ["--quick", "--threads", "1", "--rounds", "2", "--peers", "torch,jax", "--size", "3,2,2,4", "--out", str(out)]
    assert main(["bench", *flags]) == 0
    said = capsys.readouterr().out
    found = json.loads((out / "speed.json").read_text())
    assert [c["case"]["cell"] for c in found["sections"]["main"]] == ["rnn_tanh", "gru", "lstm"]
    assert re.search(r"LSTM +3, 2, 2, 4 +\d", said)
    assert ("jax" in found["peers"]) != ("JAX lax.scan: jax not installed" in said)
    assert str(out / "speed.svg") in said


def test_the_command_says_when_throughtime_itself_was_not_timed(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record.sections["main"][0].refused[OURS] = "wrong: x differs"
    monkeypatch.setattr(benchmark, "run", lambda **options: record)
    assert main(["bench", "--out", str(tmp_path / "speed")]) == 1
    assert capsys.readouterr().err == (
        "error: ThroughTime itself could not be timed at lstm 100, 32, 128, 128: wrong: x differs\n"
    )
    assert (tmp_path / "speed" / "speed.json").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--peers", "keras"], "--peers is 'keras', expected throughtime"),
        (["--rounds", "1"], "1 is not in the range"),
        (["--threads", "0"], "0 is not in the range"),
        (["--size", "1,2,3"], "'1,2,3' is no size; give T,B,I,H"),
        (["--out", "{file}"], "is a file; name a folder"),
        (["--out", "{file}.d/speed"], "there is no folder"),
    ],
)
def test_wrong_usage_is_one_line(flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert main(["bench", *(flag.format(file=file) for flag in flags)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
