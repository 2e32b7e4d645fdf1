"""Optimizers of torch.optim by name, their learning rates over time, and their state as arrays and JSON."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import torch
from numpy.typing import NDArray

from throughtime.errors import SettingsError

WARMUP = 50
"""Updates over which the rate rises from nothing; recurrent networks are easily thrown off by their first steps."""


def optimizer_names() -> list[str]:
    """The optimizers that can be had: all of torch.optim that need no closure."""
    return sorted(
        name
        for name, kind in vars(torch.optim).items()
        if inspect.isclass(kind)
        and issubclass(kind, torch.optim.Optimizer)
        and name not in ("Optimizer", "LBFGS", "SparseAdam", "Muon")
    )


def check_optimizer(name: str) -> str:
    """The name as torch.optim writes it.

    Raises:
        SettingsError: there is none of that name.
    """
    known = {known.lower(): known for known in optimizer_names()}
    if name.lower() not in known:
        near = get_close_matches(name.lower(), known, 1)
        raise SettingsError(
            f"there is no optimizer {name!r}; "
            + (f"did you mean {known[near[0]]}?" if near else f"known are {', '.join(known.values())}")
        )
    return known[name.lower()]


def make_optimizer(name: str, network: torch.nn.Module, lr: float, weight_decay: float | None) -> torch.optim.Optimizer:
    """The optimizer called ``name`` over the parameters of a network; biases and other vectors do not decay.

    Args:
        name: as in torch.optim, in any case.
        network: what it trains.
        lr: its rate.
        weight_decay: its weight decay; the optimizer's own if ``None``.

    Raises:
        SettingsError: no such optimizer, or one that has no weight decay.
    """
    kind = getattr(torch.optim, check_optimizer(name))
    takes = inspect.signature(kind).parameters
    if weight_decay is not None and "weight_decay" not in takes:
        raise SettingsError(f"{name} has no weight decay; leave weight_decay out")
    decay = takes["weight_decay"].default if weight_decay is None and "weight_decay" in takes else weight_decay
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    vectors = [parameter for parameter in trained if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors}]
    if decay is not None:
        groups[0]["weight_decay"], groups[1]["weight_decay"] = decay, 0.0
    # One pass over memory where torch has it: a third of the time for large embeddings.
    options = {"fused": True} if "fused" in takes else {"foreach": True} if "foreach" in takes else {}
    optimizer: torch.optim.Optimizer = kind([group for group in groups if group["params"]], lr=lr, **options)
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def rate_share(schedule: str, update: int, total: int | None) -> float:
    """What share of the full rate an update gets: a short rise, then as the schedule says.

    Args:
        schedule: ``constant``, ``linear``, ``cosine``, or ``plateau`` (constant here; the trainer lowers it).
        update: how many there were before it.
        total: how many there will be; ``None`` while that is not known, which counts as the beginning.

    Example:
        >>> [round(rate_share("cosine", update, 1000), 2) for update in (0, 49, 500, 999)]
        [0.02, 0.99, 0.5, 0.0]
    """
    rise = min(1.0, (update + 1) / min(WARMUP, total or WARMUP))
    done = update / total if total else 0.0
    fall = {"linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}.get(schedule, 1.0)
    return rise * fall


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The state of an optimizer as arrays and JSON, to the bit."""
    state = optimizer.state_dict()
    arrays: dict[str, NDArray[Any]] = {}
    plain: dict[str, Any] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                arrays[f"{index}.{name}"] = value.detach().cpu().numpy()
            else:
                plain[f"{index}.{name}"] = value
    return arrays, plain


def restore_optimizer(optimizer: torch.optim.Optimizer, arrays: dict[str, NDArray[Any]], plain: dict[str, Any]) -> None:
    """Put back what :func:`optimizer_state` gave, into an optimizer made in the same way."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in _items(arrays, plain):
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _items(arrays: dict[str, NDArray[Any]], plain: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    yield from ((key, torch.from_numpy(value.copy())) for key, value in arrays.items())
    yield from plain.items()
