"""The loop: updates, evaluations, early stopping, checkpoints, and the way back from a loss that is no number.

Whatever an update does depends on the weights, the optimizer, the seed and the number of the update, never on the clock or
on how often the run was stopped. So a run that is killed and resumed makes the same updates, to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from throughtime.errors import RunError, TrainingError
from throughtime.store import RunDirectory, check_fields, read_json, write_json
from throughtime.tasks.base import Feed, State, Task
from throughtime.train.faults import NotFiniteError, outputs_checked, where_it_broke
from throughtime.train.optimizers import make_optimizer, optimizer_state, rate_share, restore_optimizer, set_rate
from throughtime.train.progress import Evaluation, Progress, Update

SHORTEST, LONGEST = 20, 1000
"""Updates from one evaluation to the next: a pass over the training data, if that is neither shorter nor longer."""
ROLLBACKS = 5
PLATEAU_PATIENCE, PLATEAU_FACTOR = 3, 0.3
_PLANNED_AT = (0.05, 0.15, 0.35, 0.6, 0.8)
"""Shares of a time budget at which it is turned into a number of updates."""


@dataclass
class Place:
    """Where training stands: all that is not a tensor, and that a checkpoint must hold.

    Attributes:
        update: updates made.
        epoch: whole passes made.
        index: batches taken of this pass.
        steps: true steps of all batches so far.
        total: updates to make.
        rate_factor: what plateaus and rollbacks have left of the rate.
        loss_sum: of the losses since the last evaluation.
        loss_count: how many these were.
        best: the best validation score so far.
        best_loss: the validation loss there.
        best_update: where it was.
        waited: evaluations since then.
        rollbacks: the updates at which the loss was no number.
        stopped: why training is over; empty while it is not.
    """

    update: int = 0
    epoch: int = 0
    index: int = 0
    steps: int = 0
    total: int | None = None
    rate_factor: float = 1.0
    loss_sum: float = 0.0
    loss_count: int = 0
    best: float | None = None
    best_loss: float | None = None
    best_update: int = 0
    waited: int = 0
    rollbacks: list[int] = field(default_factory=list)
    stopped: str = ""


@dataclass
class _Snapshot:
    network: dict[str, torch.Tensor]
    optimizer: tuple[dict[str, NDArray[Any]], dict[str, Any]]
    update: int


class Trainer:
    """Trains a network on a task.

    Args:
        task: gives the loss and the scores; its settings are all decided.
        network: is trained in place.
        feed: the training batches.
        valid: the encoded validation part.
        run: where checkpoints and metrics go; ``None`` keeps nothing.
        progress: who is told.
        interrupted: asked after every update; once true, a checkpoint is written and :class:`KeyboardInterrupt` raised.
            (A Ctrl-C that Python raises by itself may come in the middle of an update, with nothing whole to save: the last
            checkpoint stands.)
    """

    def __init__(
        self,
        task: Task,
        network: torch.nn.Module,
        feed: Feed,
        valid: Any,
        run: RunDirectory | None = None,
        progress: Progress | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.task, self.network, self.feed, self.valid = task, network, feed, valid
        self.run, self.progress, self.interrupted = run, progress or Progress(), interrupted
        training = task.settings.training
        assert (
            training.optimizer is not None
            and training.lr is not None
            and training.epochs is not None
            and training.patience is not None
        )
        self.settings, self.rate, self.patience = training, training.lr, training.patience
        self.optimizer = make_optimizer(training.optimizer, network, training.lr, training.weight_decay)
        self.device = next(network.parameters()).device
        self.place = Place()
        self.state: State = None
        self.best: dict[str, torch.Tensor] = {}
        self.good = self._snapshot()
        self.evaluate_every = min(max(len(feed), SHORTEST), LONGEST)
        self.limit = training.epochs * len(feed)
        if training.time_budget is None:
            self.place.total = self.limit
        self.seconds = 0.0
        """Of training, evaluations included, up to now or to the last checkpoint of the process before; all processes count."""
        self._decisions: list[dict[str, int]] = []
        self._planned = False
        self._begun = 0.0
        self._begun_at = 0
        self._timed_at: int | None = None
        self._saved_at: int | None = None
        self._evaluating = 0.0
        self._evaluation_seconds = 0.0

    def fit(self) -> Place:
        """Train to the end, and leave the best weights in the network.

        Returns:
            Where it ended.

        Raises:
            TrainingError: the loss was no number time and again.
            KeyboardInterrupt: ``interrupted`` said so; a checkpoint was written before.
            RunError: a checkpoint cannot be written; the ones before are untouched.
        """
        self._begun = saved = time.monotonic()
        place = self.place
        self._begun_at = place.update
        try:
            if place.update == 0:
                self._evaluate()
            while not place.stopped:
                self._plan(time.monotonic() - self._begun)
                self._update()
                if place.update % self.evaluate_every == 0 or place.update == self._last:
                    self._evaluate()
                if self.interrupted():
                    self.save()
                    raise KeyboardInterrupt
                if self.run and time.monotonic() - saved >= self.settings.save_every:
                    self.save()
                    saved = time.monotonic()
        finally:
            self.progress.training_ends()
            self.seconds += time.monotonic() - self._begun
        if self._saved_at != place.update:
            self.save()
        if place.best is None:
            raise TrainingError(
                "the outputs of the network on the validation part are not finite, those of no evaluation; "
                "look at the data for extreme values, or try a smaller --lr"
            )
        self.network.load_state_dict(self.best)
        return place

    def finish(self) -> None:
        """Have the training that was restored end where it stands, if it is not at its end anyway."""
        self.place.stopped = self.place.stopped or f"by --finish after {self.place.update:,} updates"

    @property
    def _last(self) -> int:
        return self.limit if self.place.total is None else self.place.total

    def _plan(self, spent: float) -> None:
        """Turn a time budget into a number of updates: early on, and again as it is known better how long they take.

        Every such decision is recorded with the update it was made at before it takes effect, so that a resumed run makes
        the same ones. It makes no new ones where there are some: it does not know how long the killed process took.
        """
        place, budget = self.place, self.settings.time_budget
        if budget is None:
            return
        for decision in self._decisions:
            if decision["at"] == place.update:
                place.total = decision["updates"]
        decided, made = len(self._decisions), place.update - self._begun_at
        if self._planned or decided == len(_PLANNED_AT):
            return
        if made < 10 or (spent < _PLANNED_AT[decided] * budget and (decided or made < self.evaluate_every)):
            return
        per_update = max(spent - self._evaluating, 1e-9) / made + self._evaluation_seconds / self.evaluate_every
        # Updates made by a process that was killed count by what they would take now: no clock went into its checkpoint.
        place.total = min(self.limit, max(place.update + 1, int(budget / per_update)))
        self._decisions.append({"at": place.update, "updates": place.total})
        if self.run:
            write_json(self.run.path / "plan.json", {"time_budget": budget, "decisions": self._decisions})

    def _update(self) -> None:
        place = self.place
        # Dropout and whatever else is random is a function of seed and update: nothing of it need be saved.
        self._seed(place.update)
        batch = self.feed.batch(place.epoch, place.index).to(self.device)
        state = self.state if self.feed.carries and place.index > 0 else None
        rate = self.rate * place.rate_factor * rate_share(str(self.settings.schedule), place.update, place.total)
        set_rate(self.optimizer, rate)
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss, after = self.task.loss(self.network, batch, state)
        loss.backward()
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        value = loss.item()
        healthy = math.isfinite(value) and math.isfinite(norm.item())
        if healthy:
            if self.settings.clip:
                torch.nn.utils.clip_grads_with_norm_(parameters, self.settings.clip, norm)
            self.optimizer.step()
            self.state = _detached(after) if self.feed.carries else None
            place.loss_sum += value
            place.loss_count += 1
        place.update += 1
        place.index += 1
        place.steps += batch.steps
        if not healthy:
            self._roll_back(batch, state)
        if place.index == len(self.feed):
            place.epoch, place.index = place.epoch + 1, 0
        self.progress.updated(
            Update(place.update, place.total, place.epoch + place.index / len(self.feed), value, batch.sequences, batch.steps)
        )

    def _seed(self, update: int) -> None:
        seed = _mixed(self.settings.seed, update)
        if self.device.type == "cpu":  # torch.manual_seed() writes down the call stack for other devices, which takes .7 ms
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _roll_back(self, batch: Any, state: State) -> None:
        """Back to the last good state with half the rate; the batches go on, the one that broke is not met again at once."""
        place, good = self.place, self.good
        self._seed(place.update - 1)  # the same dropout as when it broke
        where = where_it_broke(self.task, self.network, batch, state)
        place.rollbacks.append(place.update)
        if len(place.rollbacks) > ROLLBACKS:
            raise TrainingError(
                f"the loss is not a number at update {place.update}, for the {len(place.rollbacks)}th time: {where}; "
                f"the rate was down to {self.rate * place.rate_factor:.2g}; "
                "try a smaller --lr or --clip, and look at the data for extreme values"
            )
        place.rate_factor *= 0.5
        self.network.load_state_dict(good.network)
        restore_optimizer(self.optimizer, *good.optimizer)
        self.state = None
        note = (
            f"update {place.update}: the loss is not a number, {where}; "
            f"back to the weights of update {good.update} with rate {self.rate * place.rate_factor:.3g}"
        )
        self._note(note)

    def _note(self, note: str) -> None:
        if self.run:
            self.run.append("metrics.jsonl", {"update": self.place.update, "note": note})
        self.progress.warn(note)

    def _evaluate(self) -> None:
        place, monitor = self.place, self.task.monitor
        started = time.monotonic()
        scores = evaluate(self.task, self.network, self.valid)
        self._evaluation_seconds = time.monotonic() - started
        self._evaluating += self._evaluation_seconds
        score, loss = scores.get(monitor.name, math.nan), scores["loss"]
        # Few validation sequences give many ties, of accuracy above all: the loss tells them apart.
        tied = score == place.best and place.best_loss is not None and loss < place.best_loss
        # An accuracy is a number even where all outputs are none; the loss tells.
        healthy = math.isfinite(score) and math.isfinite(loss)
        best = healthy and (monitor.better(score, place.best) or tied)
        if best:
            place.best, place.best_loss, place.best_update, place.waited = score, loss, place.update, 0
        elif place.update:
            place.waited += 1
        if best or not self.best:
            self.best = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        if healthy:
            self.good = self._snapshot()
        rate = self.optimizer.param_groups[0]["lr"] if place.update else 0.0
        train_loss = place.loss_sum / place.loss_count if place.loss_count else None
        place.loss_sum, place.loss_count = 0.0, 0
        finite = {name: value for name, value in scores.items() if math.isfinite(value)}
        record = Evaluation(place.update, round(place.update / len(self.feed), 4), rate, train_loss, finite, best)
        if self.run:
            self.run.append("metrics.jsonl", record.as_json())
            self._note_time(self.run)
        self.progress.evaluated(record)
        if not healthy:
            self._note(f"update {place.update}: the validation loss is not a number; these weights are not kept")
        if self.settings.schedule == "plateau" and place.waited and place.waited % PLATEAU_PATIENCE == 0:
            place.rate_factor *= PLATEAU_FACTOR
        if place.update >= self._last:
            limit = "--epochs" if place.update >= self.limit else "--time-budget"
            place.stopped = f"by {limit} after {place.update:,} updates{', still improving' if best else ''}"
        elif place.waited >= self.patience:
            place.stopped = f"no better for {place.waited} evaluations"

    def _note_time(self, run: RunDirectory) -> None:
        """A line of timings.jsonl, where this update has none yet: the next process, if there is one, goes on from it."""
        if self._timed_at != self.place.update:
            seconds = self.seconds + time.monotonic() - self._begun
            run.append("timings.jsonl", {"update": self.place.update, "seconds": round(seconds, 3)})
            self._timed_at = self.place.update

    def _snapshot(self) -> _Snapshot:
        arrays, plain = optimizer_state(self.optimizer)
        copied = {name: array.copy() for name, array in arrays.items()}
        weights = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        return _Snapshot(weights, (copied, plain), self.place.update)

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            RunError: it cannot be written.
        """
        if self.run is None:
            return
        self._note_time(self.run)
        self.run.flush_records()
        arrays, plain = optimizer_state(self.optimizer)
        carried = {} if self.state is None else {str(i): _array(part) for i, part in enumerate(_parts(self.state))}
        state = {
            "place": asdict(self.place),
            "optimizer": plain,
            "good_optimizer": self.good.optimizer[1],
            "good_update": self.good.update,
        }
        self.run.checkpoints.save(
            self.place.update,
            state,
            {
                "network": _arrays(self.network.state_dict()),
                "optimizer": arrays,
                "best": _arrays(self.best),
                "good": _arrays(self.good.network),
                "good_optimizer": self.good.optimizer[0],
                "carried": carried,
            },
        )
        self._saved_at = self.place.update

    def restore(self) -> bool:
        """Take up the newest whole checkpoint, the plan that a time budget was turned into, and the clock.

        Returns:
            Whether there was one.

        Raises:
            RunError: there are some, and all are damaged.
        """
        assert self.run is not None
        self.run.clear_leftovers()
        found = self.run.checkpoints.load_newest()
        if found is None:
            update = -1
        else:
            update, state, tensors, damaged = found
            for line in damaged:
                self.progress.warn(f"{line}; going on from update {update}")
            try:
                self._take_up(state, tensors)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise RunError(
                    f"checkpoint {update} of {self.run.path} does not fit the run ({type(error).__name__}: "
                    f"{' '.join(str(error).split())}); start a new run"
                ) from None
            self._saved_at = update
        for name in ("metrics.jsonl", "timings.jsonl"):
            self.run.keep_records(name, update)
        if timings := self.run.records("timings.jsonl"):
            # Training began with an evaluation: the first line says how long one takes, until this process has made one.
            self._evaluation_seconds = timings[0]["seconds"]
            self.seconds, self._timed_at = timings[-1]["seconds"], timings[-1]["update"]
        plan = self.run.path / "plan.json"
        if plan.exists():
            check_fields(plan, made := read_json(plan), {"decisions": list})
            self._decisions = made["decisions"]
        else:
            self._decisions = []
        self._planned = bool(self._decisions)
        return found is not None

    def _take_up(self, state: Any, tensors: dict[str, dict[str, NDArray[Any]]]) -> None:
        """Put back what :meth:`save` wrote."""
        self.place = Place(**state["place"])
        self.network.load_state_dict(_tensors(tensors["network"]))
        restore_optimizer(self.optimizer, tensors["optimizer"], state["optimizer"])
        self.best = _tensors(tensors["best"])
        self.good = _Snapshot(
            _tensors(tensors["good"]), (tensors["good_optimizer"], state["good_optimizer"]), state["good_update"]
        )
        carried = tuple(torch.from_numpy(part).to(self.device) for _, part in sorted(tensors["carried"].items()))
        self.state = None if not carried else carried[0] if len(carried) == 1 else carried


def random_state_kept() -> AbstractContextManager[None]:
    """While it is open torch can be seeded at will: afterwards the CPU, and the GPUs if they are in use, draw on as before."""
    return torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else [])


def evaluate(task: Task, network: torch.nn.Module, encoded: Any) -> dict[str, float]:
    """Scores, in evaluation mode and without gradients; where the outputs are not finite, nothing but a loss that is not."""
    network.eval()
    try:
        with torch.inference_mode(), outputs_checked(network):
            return task.evaluate(network, encoded)
    except NotFiniteError:
        return {"loss": math.nan}


def _mixed(seed: int, update: int) -> int:
    """One seed of two numbers, such that neighbours have nothing in common."""
    return int(np.random.SeedSequence([seed, update]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _parts(state: State) -> tuple[torch.Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def _detached(state: State) -> State:
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def _arrays(tensors: dict[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    return {name: _array(tensor) for name, tensor in tensors.items()}


def _tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
