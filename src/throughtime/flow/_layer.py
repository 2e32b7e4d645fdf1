"""What one recorded backward pass says of one layer and direction: from squared norms to gains.

The *gain* of a step is the factor by which the gradient's norm changes on its way over that step, ``|u| / |delta|`` with
``delta = dL/dh_t`` the total gradient and ``u`` what arrives one step earlier, before that step's own loss is added (the
ratio inside eq. 9 of Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063). Everything here is its natural logarithm,
averaged over samples: 0 is a norm that is kept, -0.5 a loss of 39 % per step.

Legend: T steps, B samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from throughtime.cells import Cell
from throughtime.ops.taps import Measurement

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gains:
    """Mean logarithms of gains, [T] each; nan where undefined, -inf where a gradient ends in exact zero.

    Attributes:
        gain: of the whole step. For LSTM that of the joint state ``(h, c)``, for GRU with the bypass ``z * delta``.
        activation: the part of the activation's slope, ``|a| / |delta|``; simple RNN only, else nan.
        weight: the part of the recurrent weights, ``|u| / |a|``; simple RNN only, else nan. The two add up to ``gain``.
        cell: of the path from ``c_t`` to ``c_{t-1}``: the forget gate; LSTM only, else nan.
        hidden: of the path through the recurrent weights alone, against the same incoming norm; LSTM and GRU, else nan.
        bypass: of the path ``z * delta`` past the weights, against the same incoming norm; GRU only, else nan.
    """

    gain: Array
    activation: Array
    weight: Array
    cell: Array
    hidden: Array
    bypass: Array


@dataclass(frozen=True, eq=False)
class Counts:
    """How many samples stand behind a step, [T] each.

    Attributes:
        samples: that have this step.
        zero: whose gradient (of the state: dL/dh_t and, for LSTM, what arrives at c_t) is exactly zero there: no loss has
            reached it, or it has underflowed on the way.
        nonfinite: whose gradient is infinite or not a number there.
    """

    samples: npt.NDArray[np.int64]
    zero: npt.NDArray[np.int64]
    nonfinite: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LayerFlow:
    """The gradient on its way through one layer in one direction.

    Arrays over time are in the order of the input: index t is step t, for a reverse direction too.

    Attributes:
        name: of the module in the model, layer and direction, such as ``"encoder.l0"`` or ``"encoder.l1_reverse"``.
        cell: what kind of cell it is.
        reverse: whether it reads its input backwards, so that "earlier" means a larger t.
        gains: of the gradient of the loss.
        norm: [T] mean over samples of ``|dL/dh_t|``.
        counts: how many samples stand behind each step, and how many are zero or not finite.
        first_bad_step: the step t at which, on the way back, a gradient is first not finite; ``None`` if all are finite.
        underflowed_at: the number of steps back from the true end at which the first sample's gradient is exactly zero after
            having been something else; ``None`` if none is. Raw gains say nothing beyond it; the probe does.
        probe: gains of the probe, by *steps back from each true end* (index 0 is the last step): a unit gradient of the state
            put in at the end only, rescaled at every step, so that neither later losses nor underflow hide anything. ``None``
            if not run.
        delta: [T, B, P] dL/dh_t itself, if it was asked for (reduced precision as float32); of a PackedSequence with the
            sequences in its own order, the longest first.
    """

    name: str
    cell: Cell
    reverse: bool
    gains: Gains
    norm: Array
    counts: Counts
    first_bad_step: int | None
    underflowed_at: int | None
    probe: Gains | None
    delta: npt.NDArray[np.floating] | None
    _reach: Array = field(repr=False)  # [T] mean over samples of the summed log gains of the probe, by steps back

    @property
    def gain(self) -> Array:
        """[T] mean log gain of each step."""
        return self.gains.gain

    @property
    def activation_gain(self) -> Array:
        """[T] the activation's part of it (simple RNN, else nan)."""
        return self.gains.activation

    @property
    def weight_gain(self) -> Array:
        """[T] the weights' part of it (simple RNN, else nan)."""
        return self.gains.weight

    @property
    def cell_gain(self) -> Array:
        """[T] mean log gain of the path from cell state to cell state (LSTM, else nan)."""
        return self.gains.cell

    @property
    def reach(self) -> Array:
        """[T] what is left of the probe after k + 1 steps back, as a mean log; nan beyond the longest sequence."""
        return self._reach

    def horizon(self, fraction: float = 0.01) -> float:
        """Steps back after which less than ``fraction`` of the probe is left.

        Args:
            fraction: between 0 and 1.

        Returns:
            A number of steps; ``math.inf`` if it does not fall so far within the sequences; nan if nothing can be said: states
            that are not finite, or no step at all.

        Raises:
            ValueError: a fraction that is no fraction, or a recording without probe.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction is {fraction}, expected a number between 0 and 1")
        if self.probe is None:
            raise ValueError("the horizon is read off the probe, and this recording was made with probe=False")
        reach = self._reach[: np.count_nonzero(self.counts.samples)]
        ends = np.nonzero((reach < math.log(fraction)) | np.isnan(reach))[0]
        if len(reach) == 0:
            return math.nan
        if len(ends) == 0:
            return math.inf
        return math.nan if np.isnan(reach[ends[0]]) else float(ends[0] + 1)


def layer_flow(name: str, measurement: Measurement) -> LayerFlow:
    """Work out what a measurement says.

    Args:
        name: of the layer.
        measurement: squared norms of one backward pass.
    """
    cell = measurement.cell
    norms = _named(cell, measurement.squared_norms.numpy())  # [T, B] each
    T, B = norms["delta"].shape
    lengths = np.full(B, T) if measurement.lengths is None else measurement.lengths.numpy()
    alive = np.arange(T)[:, None] < lengths
    delta = norms["delta"]
    back = _by_steps_back(T, lengths, measurement.reverse)

    # Where the gradient is exactly zero its ratio says nothing; the counts tell how often.
    incoming = _incoming(cell, norms)
    told = alive & (incoming > 0)
    gains = _gains(cell, {key: np.where(told, value, np.nan) for key, value in norms.items()})
    probe = None
    reach = np.full(T, np.nan)
    if measurement.probe is not None:
        probe_norms = _named(cell, measurement.probe.numpy())
        by_steps = {key: np.where(alive, np.take_along_axis(value, back, 0), np.nan) for key, value in probe_norms.items()}
        probe_gains = _gains(cell, by_steps)
        probe = _mean_gains(probe_gains)
        # No way to go: after a gain of zero there is nothing left to have a gain, and the first step of an untied network
        # has no recurrent weight to lead further back. A gain that is nan for another reason makes the rest nan.
        ended = (_incoming(cell, by_steps) == 0) | (np.isnan(by_steps["u"]) & np.isfinite(by_steps["a"]))
        reach = _mean(np.where(alive, np.cumsum(np.where(ended, 0.0, probe_gains.gain), 0), np.nan))

    nonfinite = alive & ~np.isfinite(incoming)
    zero = alive & (incoming == 0)
    return LayerFlow(
        name=name,
        cell=cell,
        reverse=measurement.reverse,
        gains=_mean_gains(gains),
        norm=_mean(np.where(alive, np.sqrt(delta), np.nan)),
        counts=Counts(alive.sum(1), zero.sum(1), nonfinite.sum(1)),
        first_bad_step=_first_bad_step(nonfinite, measurement.reverse),
        underflowed_at=_underflowed_at(np.take_along_axis(incoming, back, 0), lengths),
        probe=probe,
        delta=None if measurement.delta is None else _array(measurement.delta, T, lengths),
        _reach=reach,
    )


def _array(delta: Tensor, T: int, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
    """dL/dh_t as an array [T, B, P]; packed rows are laid out with zeros after each end."""
    values = delta.cpu().float().numpy() if delta.dtype in (torch.bfloat16, torch.float16) else delta.cpu().numpy()
    if values.ndim == 3:
        return values
    laid_out = np.zeros((T, len(lengths), values.shape[-1]), values.dtype)
    laid_out[np.nonzero(np.arange(T)[:, None] < lengths)] = values
    return laid_out


def _named(cell: Cell, squared_norms: Array) -> dict[str, Array]:
    return dict(zip(cell.taps, squared_norms, strict=True))


def _by_steps_back(T: int, lengths: npt.NDArray[np.int64], reverse: bool) -> npt.NDArray[np.int64]:
    """[T, B] the step t that lies k steps back from the end of the way through time; any step where there is none."""
    k = np.arange(T)[:, None]
    return np.broadcast_to(k, (T, len(lengths))) if reverse else np.maximum(lengths - 1 - k, 0)


def _incoming(cell: Cell, norms: dict[str, Array]) -> Array:
    return norms["delta"] + norms["cell_in"] if cell.kind == "lstm" else norms["delta"]


def _gains(cell: Cell, norms: dict[str, Array]) -> Gains:
    """Log gains of every step and sample [T, B]; squared norms in, hence the halves."""

    def log_ratio(after: Array, before: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(0.5 * (np.log(after) - np.log(before)))

    before = _incoming(cell, norms)
    nothing = np.full(before.shape, np.nan)
    if cell.kind == "rnn":
        activation, weight = log_ratio(norms["a"], before), log_ratio(norms["u"], norms["a"])
        return Gains(log_ratio(norms["u"], before), activation, weight, nothing, nothing, nothing)
    if cell.kind == "gru":
        hidden, bypass = log_ratio(norms["hidden"], before), log_ratio(norms["bypass"], before)
        return Gains(log_ratio(norms["u"], before), nothing, nothing, nothing, hidden, bypass)
    gain = log_ratio(norms["u"] + norms["cell_out"], before)
    cell_path = log_ratio(norms["cell_out"], norms["cell"])
    return Gains(gain, nothing, nothing, cell_path, log_ratio(norms["u"], before), nothing)


def _mean_gains(gains: Gains) -> Gains:
    return Gains(*(_mean(getattr(gains, name)) for name in Gains.__dataclass_fields__))


def _mean(values: Array) -> Array:
    """[T] mean over the samples that have a value; nan where none has."""
    known = ~np.isnan(values)
    count = known.sum(1)
    with np.errstate(invalid="ignore"):
        total = np.where(known, values, 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _first_bad_step(nonfinite: npt.NDArray[np.bool_], reverse: bool) -> int | None:
    steps = np.nonzero(nonfinite.any(1))[0]
    return int(steps[0] if reverse else steps[-1]) if len(steps) else None


def _underflowed_at(incoming: Array, lengths: npt.NDArray[np.int64]) -> int | None:
    """incoming: squared norms [T, B] by steps back."""
    has_step = np.arange(len(incoming))[:, None] < lengths
    seen = np.logical_or.accumulate(has_step & (incoming > 0), axis=0)
    gone = np.nonzero((has_step & seen & (incoming == 0)).any(1))[0]
    return int(gone[0]) if len(gone) else None
