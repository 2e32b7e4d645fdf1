"""The forward pass: one layer, one direction, a loop over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from throughtime.cells import Cell, cell_of
from throughtime.reference._activations import Array
from throughtime.reference._pointwise import POINTWISE, Gates, Moment, split_gates
from throughtime.reference._weights import Weights


@dataclass
class Forward:
    """A forward pass with every number it computed.

    Shapes: T steps, B batch, I inputs, H hidden, P projected (= H without a projection). The time axis is
    always that of ``x``, for the reverse direction too. On padding ``output`` is zero and the inner
    values are NaN: there was no such step.

    Attributes:
        cell: the cell.
        weights: the weights.
        x: [T, B, I] the input.
        lengths: [B] the number of steps of each sample.
        reverse: whether it ran from each true end to the beginning.
        h0: [B, P] the initial state (zeros if none was given).
        c0: [B, H] the initial cell state, ``None`` for cells without one.
        output: [T, B, P] h_t.
        h_n: [B, P] the state after each sample's last step.
        c_n: [B, H] the cell state then, or ``None``.
        from_input: per gate [T, B, H], ``W_i x_t + b_i``: the input half of the pre-activation.
        from_past: per gate [T, B, H], ``W_h h_{t-1} + b_h``: the recurrent half (zero in untied step 0).
        gates: per gate [T, B, H], activated.
        hidden: [T, B, H] h_t before a projection; the same numbers as ``output`` where there is none.
        c: [T, B, H] c_t, or ``None``.
        h_before: [T, B, P] the state each step began with.
        c_before: [T, B, H] the cell state each step began with, or ``None``.
    """

    cell: Cell
    weights: Weights
    x: Array
    lengths: npt.NDArray[np.int64]
    reverse: bool
    h0: Array
    c0: Array | None
    output: Array
    h_n: Array
    c_n: Array | None
    from_input: Gates
    from_past: Gates
    gates: Gates
    hidden: Array
    c: Array | None
    h_before: Array
    c_before: Array | None

    @property
    def steps(self) -> int:
        """The number of steps of the longest sample."""
        return int(self.lengths.max(initial=0))

    def moment(self, k: int) -> Moment:
        """The direction's ``k``-th step (from 0), for the samples that have one."""
        time, sample = running(k, self.lengths, self.reverse)
        return Moment(
            time=time,
            sample=sample,
            h_before=self.h_before[time, sample],
            c_before=None if self.c_before is None else self.c_before[time, sample],
            from_past={gate: values[time, sample] for gate, values in self.from_past.items()},
            gates={gate: values[time, sample] for gate, values in self.gates.items()},
            hidden=self.hidden[time, sample],
            c=None if self.c is None else self.c[time, sample],
        )


def running(k: int, lengths: npt.NDArray[np.int64], reverse: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the direction's ``k``-th step is: time [N] and sample [N], for the N samples longer than ``k``.

    Example:
        >>> time, sample = running(0, np.array([3, 0, 2]), reverse=True)
        >>> time.tolist(), sample.tolist()
        ([2, 1], [0, 2])
    """
    sample = np.flatnonzero(k < lengths)
    time = lengths[sample] - 1 - k if reverse else np.full_like(sample, k)
    return time, sample


# A network that explodes is a result here, not an accident: infinities go through and are reported as such.
@np.errstate(over="ignore", invalid="ignore")
def forward(
    cell: Cell | str,
    x: npt.ArrayLike,
    weights: Weights,
    h0: npt.ArrayLike | None = None,
    c0: npt.ArrayLike | None = None,
    *,
    lengths: npt.ArrayLike | None = None,
    reverse: bool = False,
) -> Forward:
    """Run one layer in one direction over a batch of sequences, in float64, as ``torch.nn`` defines it.

    Args:
        cell: the cell, its name or its torch mode.
        x: [T, B, I]; padding (steps at or past a sample's length) is never read.
        weights: tied or untied, see :class:`Weights`.
        h0: [B, P] initial state, zeros if ``None``; refused with untied weights.
        c0: [B, H] initial cell state, zeros if ``None``; LSTM only.
        lengths: [B] steps of each sample, any order, zero allowed; all T if ``None``. Untied: only T.
        reverse: run each sample from its true end to its beginning.

    Returns:
        The pass; a sample of length 0 returns its ``h0`` and ``c0``.

    Raises:
        ValueError: a shape, a length or a combination does not fit; the message names which.

    Example:
        >>> w = Weights(w_ih=[[1.0]], w_hh=[[0.5]])
        >>> forward("rnn_identity", [[[1.0]], [[0.0]], [[0.0]]], w).output.ravel().tolist()
        [1.0, 0.5, 0.25]

    Source: the papers named in :attr:`throughtime.cells.Cell.source`.
    """
    cell = cell_of(cell)
    x = np.array(x, dtype=np.float64)
    if x.ndim != 3:
        raise ValueError(f"x has shape {x.shape}, expected 3 axes [T, B, I]")
    steps, batch, inputs = x.shape
    hidden_size, projected = weights.sizes(cell, steps, inputs)
    length = _checked_lengths(lengths, steps, batch)
    if not weights.tied:
        if h0 is not None:
            raise ValueError("h0 was given with untied weights: their first step has no recurrent weight to use it")
        if (length != steps).any():
            raise ValueError(f"lengths {length.tolist()} were given with untied weights, made for exactly T={steps} steps")
    if c0 is not None and not cell.has_cell_state:
        raise ValueError(f"c0 was given, but {cell.name} has no cell state")
    h0 = _initial("h0", h0, (batch, projected))
    c0 = _initial("c0", c0, (batch, hidden_size)) if cell.has_cell_state else None

    def blank(width: int) -> Array:
        return np.full((steps, batch, width), np.nan)

    def blank_gates() -> Gates:
        return {gate: blank(hidden_size) for gate in cell.gates}

    result = Forward(
        cell=cell,
        weights=weights,
        x=x,
        lengths=length,
        reverse=reverse,
        h0=h0,
        c0=c0,
        output=np.zeros((steps, batch, projected)),
        h_n=h0.copy(),
        c_n=None if c0 is None else c0.copy(),
        from_input=blank_gates(),
        from_past=blank_gates(),
        gates=blank_gates(),
        hidden=blank(hidden_size),
        c=blank(hidden_size) if cell.has_cell_state else None,
        h_before=blank(projected),
        c_before=blank(hidden_size) if cell.has_cell_state else None,
    )
    for k in range(result.steps):
        _step(result, k)
    return result


def _step(result: Forward, k: int) -> None:
    """The direction's ``k``-th step: h_n and c_n hold the state so far, and are moved on by it."""
    cell, weights = result.cell, result.weights.at(k)
    time, sample = running(k, result.lengths, result.reverse)
    here = (time, sample)

    h_before = result.h_n[sample]  # [N, P]
    c_before = None if result.c_n is None else result.c_n[sample]  # [N, H]
    from_input = result.x[here] @ weights.w_ih.T  # [N, G*H]
    if weights.b_ih is not None:
        from_input = from_input + weights.b_ih
    from_past = np.zeros_like(from_input)  # [N, G*H]
    if weights.w_hh is not None:
        from_past = h_before @ weights.w_hh.T
    if weights.b_hh is not None:
        from_past = from_past + weights.b_hh

    input_of, past_of = split_gates(cell, from_input), split_gates(cell, from_past)
    computed = POINTWISE[cell.kind].forward(cell, input_of, past_of, h_before, c_before)
    w_hr = result.weights.w_hr
    h = computed.hidden if w_hr is None else computed.hidden @ w_hr.T  # [N, P]

    for gate in cell.gates:
        result.from_input[gate][here] = input_of[gate]
        result.from_past[gate][here] = past_of[gate]
        result.gates[gate][here] = computed.gates[gate]
    result.hidden[here] = computed.hidden
    result.h_before[here] = h_before
    result.output[here] = h
    result.h_n[sample] = h
    if result.c_n is not None and result.c is not None and result.c_before is not None:
        result.c_before[here] = c_before
        result.c[here] = computed.c
        result.c_n[sample] = computed.c


def _initial(name: str, state: npt.ArrayLike | None, shape: tuple[int, int]) -> Array:
    """An initial state as a fresh float64 array, zeros if there is none."""
    if state is None:
        return np.zeros(shape)
    array = np.array(state, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    return array


def _checked_lengths(lengths: npt.ArrayLike | None, steps: int, batch: int) -> npt.NDArray[np.int64]:
    """The lengths as int64 [B], all T if there are none."""
    if lengths is None:
        return np.full(batch, steps, dtype=np.int64)
    array = np.asarray(lengths)
    if array.shape != (batch,):
        raise ValueError(f"lengths has shape {array.shape}, expected one length per sample, ({batch},)")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"lengths are {array.dtype}, expected integers")
    for sample, length in enumerate(array.tolist()):
        if not 0 <= length <= steps:
            raise ValueError(f"lengths[{sample}] is {length}, expected 0 to T={steps}")
    return array.astype(np.int64)
