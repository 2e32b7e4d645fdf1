"""What only whole processes show: what is imported, what is missing, environment variables, threads, forks, and the exit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch

import throughtime as tt

from beside_torch import assert_same_bits, scalar_of, tensors_of

SETS = tt.instruction_sets()

PRELUDE = """
import hashlib, json, os, sys, warnings

def tell(**facts):
    print(json.dumps(facts), flush=True)
"""

# Enough multiply-adds for several threads, too few elements for torch's own operators to use more than one.
WORK = """
import torch, throughtime as tt

def work(seed=0):
    '''The bits of outputs, states and all gradients of some layers.'''
    digest = hashlib.sha256()
    generator = torch.Generator().manual_seed(seed)
    ragged = [80, 3, 0, 57, 80, 69]
    # Several sequences are dealt out to the threads; one sequence and many units are worked on by all of them together.
    for kind, hidden, lengths in (("RNN", 32, ragged), ("GRU", 32, ragged), ("LSTM", 32, ragged), ("LSTM", 192, [11])):
        torch.manual_seed(seed)
        module = getattr(tt.nn, kind)(32, hidden, bidirectional=True)
        x = torch.randn(max(lengths), len(lengths), 32, generator=generator).requires_grad_()
        output, state = module(x, lengths=lengths)
        states = state if isinstance(state, tuple) else (state,)
        (output.square().sum() + sum(s.sum() for s in states)).backward()
        for tensor in (output, *states, x.grad, *(p.grad for p in module.parameters())):
            digest.update(tensor.detach().numpy().tobytes())
    return digest.hexdigest()
"""


def run(
    script: str, *, work: bool = False, warn: str = "error", seconds: float = 60, may_abort: bool = False, **environment: str
) -> list[dict]:
    """What a script tells, line by line, in a process of its own that must end well and in time."""
    text = PRELUDE + (WORK if work else "") + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-W", warn, "-c", text],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode in ((0, -signal.SIGABRT) if may_abort else (0,)), (
        f"ended with {done.returncode}: {done.stderr[-3000:]}"
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- imports


def test_torch_is_imported_when_it_is_first_needed() -> None:
    told = run("""
        for name in ("throughtime", "throughtime.errors", "throughtime.cells", "throughtime.reference"):
            __import__(name)
            tell(name=name, heavy=sorted({"torch", "matplotlib"} & set(sys.modules)))
        import throughtime as tt
        assert "nn" in dir(tt)
        tell(name="dir", heavy=sorted({"torch", "matplotlib"} & set(sys.modules)))
        tt.nn, tt.flow
        tell(name="nn", heavy=sorted({"torch", "matplotlib"} & set(sys.modules)))
    """)
    assert {entry["name"]: entry["heavy"] for entry in told} == {
        "throughtime": [],
        "throughtime.errors": [],
        "throughtime.cells": [],
        "throughtime.reference": [],
        "dir": [],
        "nn": ["torch"],
    }


def test_without_torch_the_error_says_what_to_install() -> None:
    (told,) = run("""
        sys.modules["torch"] = None
        import throughtime as tt, throughtime.reference
        try:
            tt.nn
        except ImportError as error:
            tell(message=str(error))
    """)
    assert told["message"] == "throughtime.nn needs PyTorch: pip install 'throughtime[train]'"


# --- without the native module


@pytest.mark.parametrize(
    ("obstacle", "named"),
    [
        ('sys.modules["throughtime._native"] = None', "native module of throughtime cannot be loaded"),
        ("import torch; del torch.Tensor.__dlpack_c_exchange_api__", "have no DLPack exchange table"),  # before torch 2.10
    ],
    ids=["no native module", "an old torch"],
)
def test_without_the_native_kernels_everything_works_through_torch_with_one_warning(obstacle: str, named: str) -> None:
    told = run(
        f"""
        {obstacle}"""
        """
        sys.path.insert(0, "tests")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import torch, throughtime as tt
            from beside_torch import assert_rounds_to, assert_same_bits, scalar_of, tensors_of, twins
            from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
            from throughtime import reference

            x = torch.randn(6, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
            lengths = torch.tensor([2, 6, 4])

            for kind in ("RNN", "GRU", "LSTM"):
                ours, theirs = twins(kind, 3, 4, bidirectional=True, num_layers=2, dtype=torch.float64)
                tell(backend=tt.nn.backend(ours, x))
                pair = [tensors_of(module(x)) for module in (ours, theirs)]
                assert_same_bits(*pair)
                assert_same_bits(*(torch.autograd.grad(scalar_of(results), x) for results in pair))
                output, state = theirs(pack_padded_sequence(x, lengths, enforce_sorted=False))
                pair = [tensors_of(ours(x, lengths=lengths)), tensors_of((pad_packed_sequence(output)[0], state))]
                assert_same_bits(*pair)
                assert_same_bits(*(torch.autograd.grad(scalar_of(results), x) for results in pair))
                with_zero = tensors_of(ours(x, lengths=[2, 0, 4]))
                alone = tensors_of(ours(x[:, [0, 2]], lengths=[2, 4]))
                assert_same_bits([t[:, [0, 2]] for t in with_zero], alone)
                assert not with_zero[0][:, 1].any()

                with tt.flow.record(ours) as flow:
                    scalar_of(tensors_of(ours(x, lengths=lengths))).backward()
                tell(kind=kind, horizon=flow.horizon(0.5, "l1_reverse"), norms=[f.norm.tolist() for f in flow.layers])

            for kind in ("RNNCell", "GRUCell", "LSTMCell"):
                ours, theirs = twins(kind, 3, 4, dtype=torch.float64)
                assert_same_bits(tensors_of(ours(x[0])), tensors_of(theirs(x[0])))

            def oracle(module, **kwargs):
                tied = module.tied
                weights = [[p.detach().numpy() for n, p in module.named_parameters() if n.startswith(prefix)]
                           for prefix in ("weight_ih", "weight_hh", "bias_ih" if tied else "bias", "bias_hh")]
                import numpy as np
                arranged = [w[0] if tied else np.stack(w) for w in weights if w]
                return reference.forward(module.cell, x.detach().numpy(), reference.Weights(*arranged), **kwargs)

            for options in ({"nonlinearity": "sigmoid"}, {"nonlinearity": "identity"}, {"tied": False, "steps": 6}):
                module = tt.nn.RNN(3, 4, dtype=torch.float64, **options)
                tell(backend=tt.nn.backend(module, x))
                ragged = {"lengths": [2, 6, 4]} if module.tied else {}
                output, h_n = module(x, **ragged)
                expected = oracle(module, **ragged)
                assert_rounds_to([output.detach(), h_n[0].detach()],
                                 [torch.from_numpy(expected.output), torch.from_numpy(expected.h_n)])
                grad_h_n = torch.autograd.grad(h_n.sum(), x)[0]
                back = reference.backward(expected, None, torch.ones(3, 4).double().numpy())
                assert_rounds_to([grad_h_n], [torch.from_numpy(back.x)])
            tell(sets=tt.instruction_sets(), isa=tt.instruction_set())
        tell(warnings=[[w.category.__name__, str(w.message)] for w in caught])
        """,
        warn="default",
    )
    (warning,) = told.pop()["warnings"]
    assert warning[0] == "RuntimeWarning"
    assert named in warning[1]
    assert "torch's own operators" in warning[1]
    assert told.pop() == {"sets": [], "isa": ""}
    backends = [entry["backend"] for entry in told if "backend" in entry]
    assert all(named in backend for backend in backends)
    assert [backend.split(":")[0] for backend in backends] == ["torch"] * 3 + ["plain torch operators, step by step"] * 3
    recordings = [entry for entry in told if "norms" in entry]
    assert [entry["kind"] for entry in recordings] == ["RNN", "GRU", "LSTM"]
    for entry in recordings:  # the same measurement as with the native module
        torch.manual_seed(0)
        module = getattr(torch.nn, entry["kind"])(3, 4, bidirectional=True, num_layers=2, dtype=torch.float64)
        tt.nn.convert(module)
        x = torch.randn(6, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        with tt.flow.record(module) as flow:
            scalar_of(tensors_of(module(x, lengths=[2, 6, 4]))).backward()
        np.testing.assert_allclose(entry["norms"], [f.norm for f in flow.layers], rtol=1e-11)
        assert entry["horizon"] == flow.horizon(0.5, "l1_reverse")


# --- instruction sets


@pytest.mark.parametrize("name", [*SETS, ""])
def test_the_environment_chooses_the_instruction_set(name: str) -> None:
    (told,) = run("import throughtime as tt\ntell(isa=tt.instruction_set())", THROUGHTIME_ISA=name)
    assert told["isa"] == (name if name in SETS else SETS[0])


def test_a_wrong_instruction_set_in_the_environment_is_refused_with_those_there_are() -> None:
    (told,) = run(
        """
        import throughtime as tt
        try:
            tt.nn
        except ValueError as error:
            tell(message=str(error))
        """,
        THROUGHTIME_ISA="avx1024",
    )
    assert told["message"] == f"THROUGHTIME_ISA is 'avx1024'; this processor can run: auto, {', '.join(SETS)}"


@pytest.mark.parametrize("wrong", ["avx1024", "AVX2", None, 2])
def test_a_wrong_instruction_set_from_python_is_refused_and_changes_nothing(wrong: object) -> None:
    before = tt.instruction_set()
    with pytest.raises((ValueError, TypeError), match=r"instruction set|auto"):
        tt.set_instruction_set(wrong)
    assert tt.instruction_set() == before


# --- threads


def outcome(module: torch.nn.RNNBase, seed: int = 0) -> list[torch.Tensor]:
    """Results and gradients of what is large enough for several threads: a batch, or one sequence and many units."""
    lengths = [30, 1, 0, 30, 17, 8, 22, 5] if module.hidden_size == 32 else [13]
    x = torch.randn(30, len(lengths), 32, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    results = tensors_of(module(x, lengths=lengths))
    return [*results, *torch.autograd.grad(scalar_of(results), [x, *module.parameters()])]


def test_the_number_of_threads_follows_torch_unless_set() -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert tt.get_num_threads() == threads
        tt.set_num_threads(5)
        torch.set_num_threads(2)
        assert tt.get_num_threads() == 5
        tt.set_num_threads(None)
        assert tt.get_num_threads() == 2
    finally:
        tt.set_num_threads(None)
        torch.set_num_threads(before)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2", 2**40])
def test_a_wrong_number_of_threads_is_refused_and_changes_nothing(wrong: object) -> None:
    try:
        with pytest.raises((ValueError, TypeError)):
            tt.set_num_threads(wrong)
        assert tt.get_num_threads() == torch.get_num_threads()
    finally:
        tt.set_num_threads(None)


def test_every_number_of_threads_gives_the_same_bits_and_small_teams_too() -> None:
    script = """
        for threads in (1, 2, 3, 7, 64):
            tt.set_num_threads(threads)
            tell(threads=threads, bits=work())
    """
    told = run(script, work=True, OMP_NUM_THREADS="2")
    # The team may be smaller than asked for: the work must be shared by what it is.
    limited = run(script, work=True, OMP_NUM_THREADS="2", OMP_THREAD_LIMIT="1", OMP_DYNAMIC="true")
    assert len({entry["bits"] for entry in told + limited}) == 1
    assert len(told + limited) == 10


@pytest.mark.parametrize("shared", [False, True], ids=["own modules", "one module"])
def test_concurrent_callers_get_the_bits_they_get_alone(shared: bool) -> None:
    torch.manual_seed(0)
    kinds = ((tt.nn.LSTM, 192), (tt.nn.LSTM, 32), (tt.nn.GRU, 32), (tt.nn.RNN, 32))
    modules = [kind(32, hidden, bidirectional=True) for kind, hidden in kinds]
    if shared:
        modules = modules[:1] * 4
    expected = [outcome(module, seed) for seed, module in enumerate(modules)]
    found: list[list[list[torch.Tensor]]] = [[] for _ in modules]
    start = threading.Barrier(len(modules))

    def call(index: int) -> None:
        start.wait()
        for _ in range(10):
            found[index].append(outcome(modules[index], index))

    tt.set_num_threads(2)
    try:
        callers = [threading.Thread(target=call, args=(index,)) for index in range(len(modules))]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
    finally:
        tt.set_num_threads(None)
    for times, once in zip(found, expected, strict=True):
        assert len(times) == 10
        for again in times:
            assert_same_bits(again, once)


# --- forks and the exit


def test_a_child_forked_after_parallel_work_computes_the_same_and_exits() -> None:
    told = run(
        """
        before = work()
        assert len(os.listdir("/proc/self/task")) > 1  # there is a team that the child will not have
        child = os.fork()
        if child == 0:
            tell(who="child", bits=work())
            grandchild = os.fork()
            if grandchild == 0:
                tell(who="grandchild", bits=work())
                os._exit(0)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
        tell(who="status", bits=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        tell(who="parent", bits=before)
        tell(who="parent again", bits=work())
        # A child that leaves as a program does, through sys.exit and everything registered for it.
        child = os.fork()
        if child == 0:
            work()
            sys.exit(0)
        tell(who="exit", bits=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        work=True,
        OMP_NUM_THREADS="2",
    )
    facts = {entry["who"]: entry["bits"] for entry in told}
    assert facts.pop("status") == facts.pop("exit") == 0
    assert len(facts) == 4
    assert len(set(facts.values())) == 1


def test_loader_workers_run_modules() -> None:
    told = run(
        """
        from torch.utils.data import DataLoader, Dataset
        torch.manual_seed(0)
        module = tt.nn.LSTM(32, 32, bidirectional=True)

        class Encoded(Dataset):
            def __len__(self):
                return 6
            def __getitem__(self, index):
                x = torch.randn(40, 8, 32, generator=torch.Generator().manual_seed(index))
                with torch.no_grad():
                    return module(x, lengths=[40, 1, 0, 40, 17, 8, 22, 5])[0]

        expected = [Encoded()[index] for index in range(6)]  # in parallel, before the workers are forked
        for context in ("fork", None):
            loader = DataLoader(Encoded(), batch_size=None, num_workers=2, multiprocessing_context="fork")
            for found, known in zip(loader, expected):
                tell(same=torch.equal(found, known))
        """,
        work=True,
        OMP_NUM_THREADS="2",
    )
    assert [entry["same"] for entry in told] == [True] * 12


EXITS = {
    "at once": "",
    "with a daemon that waits": """
        import threading
        worked = threading.Event()
        threading.Thread(target=lambda: (work(), worked.set(), threading.Event().wait()), daemon=True).start()
        worked.wait()
    """,
    "with threads that end later": """
        import threading
        for seed in range(3):
            threading.Thread(target=work, args=(seed,)).start()
    """,
    "by an exception while a thread works": """
        import threading
        threading.Thread(target=work).start()  # not a daemon: for those see the next test
        sys.exit(0)
    """,
    "with work registered for the exit": """
        import atexit
        atexit.register(work)
    """,
}


@pytest.mark.parametrize("how", EXITS)
def test_the_process_ends_well_after_parallel_work(how: str) -> None:
    script = "tell(bits=work())\n" + textwrap.dedent(EXITS[how])
    (told,) = run(script, work=True, seconds=40, OMP_NUM_THREADS="2")
    assert len(told["bits"]) == 64


def test_a_daemon_at_work_does_not_hang_the_exit() -> None:
    """Before Python 3.14 a thread that is still at work is ended by unwinding it, and C++ (torch's as ours) aborts at that."""
    script = """
        import threading, time
        def forever():
            while True:
                work()
        for _ in range(2):
            threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.3)
        tell(bits=work())
    """
    (told,) = run(script, work=True, seconds=40, may_abort=True, OMP_NUM_THREADS="2")
    assert len(told["bits"]) == 64


# --- the pool of our own, where there is no torch


def test_without_torch_our_own_pool_gives_the_same_bits_and_survives_forks_and_callers() -> None:
    told = run(
        """
        import threading
        import numpy as np
        from throughtime import _native

        T, B, I, H = 50, 8, 32, 32
        rng = np.random.default_rng(0)
        w_ih, w_hh = (rng.standard_normal((4 * H, n)).astype(np.float32) / 6 for n in (I, H))
        x = rng.standard_normal((T, B, I)).astype(np.float32)
        at = lambda array: array.ctypes.data

        def work(threads):
            output, h_n, c_n = (np.empty(s, np.float32) for s in ((T, B, H), (B, H), (B, H)))
            lstm = 5
            _native.forward_f32(lstm, T, B, I, H, H, 0, False, False, False, threads, False, 0, at(w_ih), at(w_hh), 0, 0, 0,
                                at(x), B * I, I, 0, 0, at(output), B * H, H, at(h_n), at(c_n), 0)
            return hashlib.sha256(output.tobytes() + h_n.tobytes() + c_n.tobytes()).hexdigest()

        tell(team=_native.team(), torch="torch" in sys.modules)
        for threads in (1, 2, 3, 8):
            tell(bits=work(threads))
        found = []
        callers = [threading.Thread(target=lambda: found.extend(work(3) for _ in range(20))) for _ in range(4)]
        for caller in callers: caller.start()
        for caller in callers: caller.join()
        tell(count=len(found), bits=found[0], different=len(set(found)))
        child = os.fork()
        if child == 0:
            tell(bits=work(2))
            os._exit(0)
        tell(status=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        OMP_NUM_THREADS="2",
    )
    assert told[0] == {"team": "own", "torch": False}
    assert len({entry["bits"] for entry in told if "bits" in entry}) == 1
    assert len([entry for entry in told if "bits" in entry]) == 6
    assert next(entry for entry in told if "count" in entry)["count"] == 80
    assert next(entry for entry in told if "different" in entry)["different"] == 1
    assert told[-1] == {"status": 0}
