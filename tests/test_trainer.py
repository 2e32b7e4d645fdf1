"""The loop: stopped anywhere it ends alike; early stopping, plateaus, and back from a loss that is no number."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from throughtime.errors import RunError, TrainingError
from throughtime.store import RunDirectory
from throughtime.tasks.lm import EncodedText
from throughtime.train.progress import Progress
from throughtime.train.trainer import ROLLBACKS, Trainer, evaluate, random_state_kept

from trainer_cases import Clock, Scripted, clock as clock, records, trainer


def scores(*losses: float, **others: list[float]) -> Iterator[dict[str, float]]:
    """Of evaluations whose losses, and scores to judge by, are these."""
    judged = others.get("judged", losses)
    return iter([{"loss": loss, "nats_per_character": score} for loss, score in zip(losses, judged, strict=True)])


def left_behind(run: RunDirectory) -> dict[str, bytes]:
    last = run.path / "checkpoints" / f"{run.checkpoints.numbers()[-1]:08d}"
    return {path.name: path.read_bytes() for path in (*last.iterdir(), run.path / "metrics.jsonl")}


class Heard(Progress):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, line: str) -> None:
        self.warnings.append(line)


# Exact resume, in one process


CASES: dict[str, dict[str, Any]] = {
    "adamw": {"cell": "gru", "schedule": "cosine"},
    "adagrad": {"cell": "lstm", "layers": 2, "optimizer": "Adagrad", "lr": 0.1, "schedule": "plateau"},
    "sgd": {"cell": "rnn", "optimizer": "SGD", "lr": 0.5, "schedule": "linear"},
    "nadam": {"cell": "gru", "optimizer": "NAdam", "schedule": "constant"},
    "rollbacks": {"cell": "lstm", "broken": ((0, 0), (0, 7), (1, 1))},
    "early stopping": {"cell": "gru", "optimizer": "SGD", "lr": 5.0, "clip": 0, "patience": 1, "epochs": 9},
}


@pytest.mark.parametrize("case", CASES)
def test_stopped_anywhere_it_ends_alike(case: str, tmp_path: Path) -> None:
    """Weights, best and good ones, optimizer, carried state, counts, log: all bits; the weights it ends with, too."""
    whole = trainer(Scripted(**CASES[case]), RunDirectory.create(tmp_path / "whole", {}))
    end = whole.fit()
    assert end.update > 40
    assert whole.run
    chance, run = random.Random(case), RunDirectory.create(tmp_path / "stopped", {})
    stops, place = 0, None
    while place is None:
        left = chance.randint(1, 25)

        def countdown() -> bool:
            nonlocal left
            left -= 1
            return left == 0

        made = trainer(Scripted(**CASES[case]), run, interrupted=countdown)
        torch.rand(left)  # where torch's generator stands must not matter
        try:
            place = made.fit()
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 3
    assert place == end
    assert left_behind(run) == left_behind(whole.run)
    assert all(torch.equal(a, b) for a, b in zip(made.network.parameters(), whole.network.parameters(), strict=True))


def test_a_finished_training_is_not_written_again(tmp_path: Path) -> None:
    """While it is replaced, it would not be there."""
    run = RunDirectory.create(tmp_path / "run", {})
    end = trainer(Scripted(), run).fit()
    times = {path: path.stat().st_mtime_ns for path in run.checkpoints.folder.rglob("*")}
    again = trainer(Scripted(), run)
    assert again.fit() == end
    assert times == {path: path.stat().st_mtime_ns for path in run.checkpoints.folder.rglob("*")}


def test_ctrl_c_within_an_update_saves_no_half_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    made = trainer(Scripted(), run)
    step, left = made.optimizer.step, iter(range(30))

    def interrupted() -> None:
        step()
        if next(left) == 29:
            raise KeyboardInterrupt

    monkeypatch.setattr(made.optimizer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.fit()
    assert run.checkpoints.numbers() == []


def test_no_interval_between_checkpoints_is_longer_than_asked_for(tmp_path: Path, clock: Clock) -> None:
    """An update takes a second, an evaluation five: none comes later than both after the interval."""
    run = RunDirectory.create(tmp_path / "run", {})
    made, times = trainer(Scripted(clock=clock, save_every=10), run), [0.0]
    save = made.save
    made.save = lambda: (save(), times.append(clock.now))  # type: ignore[assignment, method-assign, func-returns-value]
    made.fit()
    gaps = np.diff(times)
    assert len(gaps) > 4
    assert all(10 <= gap <= 10 + 1 + 5 for gap in gaps[:-1])


def test_what_a_checkpoint_stands_for_is_flushed_before_it(tmp_path: Path, clock: Clock) -> None:
    """The lines up to its update, which a resume does not write again."""
    run, done = RunDirectory.create(tmp_path / "run", {}), list[str]()
    made = trainer(Scripted(clock=clock, save_every=10), run)
    for owner, name in ((run, "append"), (run, "flush_records"), (run.checkpoints, "save")):
        do = getattr(owner, name)
        setattr(owner, name, lambda *args, do=do, name=name: (done.append(name), do(*args))[1])
    made.fit()
    assert done.count("save") > 4
    assert all(before == "flush_records" for before, name in itertools.pairwise(done) if name == "save")


def test_a_checkpoint_that_cannot_be_written_ends_training(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one clear line; the run goes on from the one before."""
    run = RunDirectory.create(tmp_path / "run", {})
    made = trainer(Scripted(clock=clock, save_every=1), run)
    rename = Path.rename

    def full(path: Path, target: Path) -> Path:
        if len(run.checkpoints.numbers()) == 2 and made.place.update == 30:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(RunError, match=r"00000030 cannot be written: No space left on device"):
        made.fit()
    assert run.checkpoints.numbers() == [28, 29]
    monkeypatch.undo()
    trainer(Scripted(), run).fit()
    whole = RunDirectory.create(tmp_path / "whole", {})
    trainer(Scripted(), whole).fit()
    assert left_behind(run) == left_behind(whole)


def test_the_seconds_of_all_processes_count(tmp_path: Path, clock: Clock) -> None:
    """An update takes a second, an evaluation five: the clock goes on from the checkpoint, and what was lost is not counted."""
    whole = RunDirectory.create(tmp_path / "whole", {})
    never_stopped = trainer(Scripted(clock=clock), whole)
    end = never_stopped.fit()
    assert never_stopped.seconds == end.update + 5 * len(records(whole))
    every = never_stopped.evaluate_every
    run, stops = RunDirectory.create(tmp_path / "run", {}), (3, every + 2, every + 3, 2 * every - 9)
    for stop in stops:
        made = trainer(Scripted(clock=clock), run)
        made.interrupted = lambda made=made, stop=stop: made.place.update == stop  # type: ignore[misc]
        with pytest.raises(KeyboardInterrupt):
            made.fit()
        killed = trainer(Scripted(clock=clock), run)  # before it saves anything

        def kill(killed: Trainer = killed, stop: int = stop) -> bool:
            if killed.place.update == stop + 3:
                raise KeyboardInterrupt
            return False

        killed.interrupted = kill
        with pytest.raises(KeyboardInterrupt):
            killed.fit()
    made = trainer(Scripted(clock=clock), run)
    assert made.fit() == end
    assert made.seconds == never_stopped.seconds
    timings = [[(line["update"], line["seconds"]) for line in each.records("timings.jsonl")] for each in (whole, run)]
    assert sorted(set(timings[1]) - set(timings[0])) == [(stop, stop + 5 + 5 * (stop // every)) for stop in stops]
    assert set(timings[0]) <= set(timings[1])
    assert left_behind(run) == left_behind(whole)
    again = trainer(Scripted(clock=clock), run)
    again.fit()
    assert again.seconds == never_stopped.seconds


def test_finished_where_it_stands(tmp_path: Path) -> None:
    """No update more, the best weights so far; the checkpoint stays, and with it the way on."""
    run = RunDirectory.create(tmp_path / "run", {})
    made = trainer(Scripted(scores=scores(3, 1, 2), epochs=9), run)
    made.interrupted = lambda: made.place.update == 2 * made.evaluate_every + 5
    with pytest.raises(KeyboardInterrupt):
        made.fit()
    best, files = made.best, left_behind(run)
    again = trainer(Scripted(epochs=9), run)
    again.finish()
    place = again.fit()
    assert place.update == 2 * made.evaluate_every + 5
    assert place.stopped == f"by --finish after {place.update} updates"
    assert place.best_update == made.evaluate_every
    assert all(torch.equal(again.network.state_dict()[name], tensor) for name, tensor in best.items())
    assert left_behind(run) == files
    done = trainer(Scripted(), RunDirectory.create(tmp_path / "done", {}))
    said = done.fit().stopped
    done.finish()
    assert done.place.stopped == said


@pytest.mark.parametrize("gpus", [0, 1, 3])
def test_random_states_are_put_back(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the GPUs too, if they are in use: torch.manual_seed seeds them all."""
    states: dict[int, Tensor] = {number: torch.tensor([number + 5]) for number in range(gpus)}
    before = {number: state.clone() for number, state in states.items()}

    def put(state: Tensor, device: int) -> None:
        states[device] = state

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: max(gpus, 1))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states[device].clone())
    monkeypatch.setattr(torch.cuda, "set_rng_state", put)
    cpu = torch.get_rng_state()
    with random_state_kept():
        torch.rand(3)
        for state in states.values():
            state += 99
    assert torch.equal(torch.get_rng_state(), cpu)
    assert all(torch.equal(states[number], state) for number, state in before.items())


# Early stopping, plateaus, the best weights


def test_the_best_weights_are_left_in_the_network(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    made = trainer(Scripted(scores=scores(3, 2, 1, 4, 5, 6), patience=3, epochs=99), run)
    place = made.fit()
    assert (place.best, place.best_update, place.waited) == (1, 2 * made.evaluate_every, 3)
    assert place.update == 5 * made.evaluate_every
    assert place.stopped == "no better for 3 evaluations"
    assert [record["best"] for record in records(run)] == [True, True, True, False, False, False]
    assert all(torch.equal(made.network.state_dict()[name], tensor) for name, tensor in made.best.items())
    found = run.checkpoints.load_newest()
    assert found is not None
    assert found[1]["place"]["best_loss"] == 1
    assert any((found[2]["network"][name] != array).any() for name, array in found[2]["best"].items())


def test_a_tie_is_decided_by_the_loss() -> None:
    task = Scripted(scores=scores(3, 2, 4, 1, judged=[0.5, 0.5, 0.5, 0.6]), patience=2, epochs=99)
    made = trainer(task)
    place = made.fit()
    assert (place.best, place.best_loss, place.best_update) == (0.5, 2, made.evaluate_every)


def test_a_score_whose_loss_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    """The accuracy of outputs that are all NaN is a number, and may even be a good one."""
    task = Scripted(scores=scores(3, math.nan, math.inf, 2.5, judged=[0.5, 0.1, 0.1, 0.4]), patience=9, epochs=3)
    made = trainer(task, RunDirectory.create(tmp_path / "run", {}))
    kept = []
    snapshot = made._snapshot
    made._snapshot = lambda: (kept.append(made.place.update), snapshot())[1]  # type: ignore[method-assign, func-returns-value]
    place = made.fit()
    every = made.evaluate_every
    assert (place.best_loss, place.best_update) == (2.5, 3 * every)
    assert kept == [0, 3 * every]


def test_plateaus_lower_the_rate(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    losses = [1.0, *[2.0] * 6, 0.5, *[2.0] * 4]
    made = trainer(Scripted(scores=scores(*losses), patience=20, epochs=11, schedule="plateau", lr=0.1, optimizer="SGD"), run)
    made.fit()
    factors = [round(record["rate"] / 0.1, 6) for record in records(run)]
    # The first two are within the rise. Three that were no better lower it, and three more; the best one begins the count anew.
    assert factors[2:] == [1, 1, 0.3, 0.3, 0.3, 0.09, 0.09, 0.09, 0.09, 0.027]


# Back from a loss that is no number


def test_rolled_back(tmp_path: Path) -> None:
    run, heard = RunDirectory.create(tmp_path / "run", {}), Heard()
    made = trainer(Scripted(broken=((0, 5), (1, 2)), optimizer="SGD", lr=0.5, schedule="constant"), run, progress=heard)
    good, seen = made.good, list[bool]()
    load = made.network.load_state_dict

    def loaded(weights: dict[str, Tensor]) -> Any:
        seen.append(all(torch.equal(weights[name], tensor) for name, tensor in good.network.items()))
        return load(weights)

    made.network.load_state_dict = loaded  # type: ignore[method-assign, assignment]
    place = made.fit()
    per_epoch = len(made.feed)
    assert place.rollbacks == [6, per_epoch + 3]
    assert seen[0], "not the weights of the beginning, which were the last good ones"
    assert place.rate_factor == 0.25
    assert place.update == 2 * per_epoch, "the batches go on"
    notes = [record for record in records(run) if "note" in record]
    assert [note["update"] for note in notes] == place.rollbacks
    assert [note["note"] for note in notes] == heard.warnings
    assert heard.warnings[0].startswith(
        "update 6: the loss is not a number, first in the loss, all outputs of the network being finite"
    )
    assert heard.warnings[0].endswith("back to the weights of update 0 with rate 0.25")
    assert all(torch.isfinite(tensor).all() for tensor in made.network.parameters())


def test_given_up_after_too_many(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    broken = tuple((0, index) for index in range(ROLLBACKS + 1))
    made = trainer(Scripted(broken=broken, lr=0.64), run)
    with pytest.raises(
        TrainingError, match=rf"^the loss is not a number at update {ROLLBACKS + 1}, for the 6th time: .*"
    ) as caught:
        made.fit()
    assert "the rate was down to 0.02; try a smaller --lr or --clip" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rate_that_throws_it_off(tmp_path: Path) -> None:
    """The weights themselves overflow: it is told which."""
    made = trainer(Scripted(optimizer="SGD", lr=1e38, clip=0), RunDirectory.create(tmp_path / "run", {}))
    with pytest.raises(TrainingError, match=r"first in (the weights|the output of) \w+"):
        made.fit()


def spoilt(made: Trainer, *evaluations: int) -> None:
    """Let the network give NaN in the evaluations of these numbers, from 0 on."""
    numbers = itertools.count()
    evaluated = made.task.evaluate

    def spoil(network: torch.nn.Module, encoded: EncodedText) -> dict[str, float]:
        handle = None
        if next(numbers) in evaluations:
            layer = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
            handle = layer.register_forward_hook(lambda module, inputs, output: output * math.nan)
        try:
            return evaluated(network, encoded)
        finally:
            if handle is not None:
                handle.remove()

    made.task.evaluate = spoil  # type: ignore[method-assign]


def test_outputs_that_are_not_finite_when_they_are_scored(tmp_path: Path) -> None:
    """No score is asked what it thinks of them; these weights are not kept, and it is said."""
    heard = Heard()
    made = trainer(Scripted(epochs=3), run := RunDirectory.create(tmp_path / "run", {}), progress=heard)
    spoilt(made, 2, 3)
    place, every = made.fit(), made.evaluate_every
    assert place.best_update == every
    assert not place.rollbacks
    noted = [
        f"update {update}: the validation loss is not a number; these weights are not kept" for update in (2 * every, 3 * every)
    ]
    assert heard.warnings == [record["note"] for record in records(run) if "note" in record] == noted
    assert [record["valid"] for record in records(run) if "note" not in record][2:] == [{}, {}]
    assert not made.network._forward_hooks


def test_outputs_that_are_never_finite(tmp_path: Path) -> None:
    made = trainer(Scripted(epochs=2), RunDirectory.create(tmp_path / "run", {}))
    spoilt(made, 0, 1, 2)
    with pytest.raises(
        TrainingError, match=r"^the outputs .* on the validation part are not finite, .* or try a smaller --lr$"
    ):
        made.fit()


@pytest.mark.parametrize("state", [{}, [], {"place": {"update": 1, "nonsense": 2}}, {"place": {}}])
def test_a_checkpoint_of_another_shape(state: Any, tmp_path: Path) -> None:
    """Whole by its checksums, and not what this version writes."""
    run = RunDirectory.create(tmp_path / "run", {})
    run.checkpoints.save(
        7, state, {"network": {}, "optimizer": {}, "best": {}, "good": {}, "good_optimizer": {}, "carried": {}}
    )
    with pytest.raises(RunError, match=rf"^checkpoint 7 of {run.path} does not fit the run \(.*\); start a new run$") as caught:
        trainer(Scripted(), run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ((4, 3, 2), "by --epochs after {} updates, still improving"),
        ((4, 2, 3), "by --epochs after {} updates"),
        ((4, 3, math.nan), "by --epochs after {} updates"),
    ],
)
def test_why_it_stopped(losses: tuple[float, ...], said: str) -> None:
    """Whether more updates might have helped is part of it."""
    made = trainer(Scripted(scores=scores(*losses), epochs=2))
    place = made.fit()
    assert made.evaluate_every * 2 == place.update == made.limit
    assert place.stopped == said.format(place.update)


@pytest.mark.parametrize("bptt", [64, 500, 1000])
def test_a_run_of_a_few_updates(bptt: int, clock: Clock) -> None:
    """Fewer than there are between two evaluations, with and without a time budget: it ends, and is scored."""
    for budget in (None, 1e6):
        made = trainer(Scripted(clock=clock, bptt=bptt, epochs=1, time_budget=budget))
        place = made.fit()
        assert place.update == made.limit < 20
        assert place.stopped
        assert place.waited or place.best_update == place.update


def test_evaluation_leaves_the_network_able_to_train() -> None:
    task = Scripted(dropout=0.5)
    network = task.network()
    first, second = (evaluate(task, network, task.encoded) for _ in range(2))
    assert first == second, "dropout is off"
    loss, _ = task.loss(network.train(), task.feed(task.encoded).batch(0, 0), None)
    loss.backward()
    assert json.dumps(first)
