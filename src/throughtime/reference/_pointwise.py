"""The pointwise stage of each kind of cell, forward and backward: all that tells RNN, GRU and LSTM apart.

The drivers (``_forward``, ``_backward``) do the matrix products and the walk through time; these functions
see one step of N samples, their pre-activations already split by gate, [N, H] each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from throughtime.cells import Cell
from throughtime.reference._activations import ACTIVATIONS, Array, sigmoid, sigmoid_slope, tanh_slope

Gates = dict[str, Array]


class Computed(NamedTuple):
    """What one step computes from its pre-activations."""

    gates: Gates  # activated, [N, H] each
    hidden: Array  # [N, H], h_t before a projection
    c: Array | None  # [N, H], c_t


@dataclass(frozen=True)
class Moment:
    """Everything one step of a forward pass read and computed, for the N samples that are still running.

    Attributes:
        time: [N] the step's index on the time axis of ``x`` and ``output``.
        sample: [N] the samples' index in the batch.
        h_before: [N, P] the state it began with.
        c_before: [N, H] the cell state it began with, or ``None``.
        from_past: per gate [N, H], what the recurrent weights contributed to the pre-activation.
        gates: per gate [N, H], activated.
        hidden: [N, H] h_t before a projection.
        c: [N, H] c_t, or ``None``.
    """

    time: npt.NDArray[np.int64]
    sample: npt.NDArray[np.int64]
    h_before: Array
    c_before: Array | None
    from_past: Gates
    gates: Gates
    hidden: Array
    c: Array | None


class Differentiated(NamedTuple):
    """What one step hands back, all [N, H]."""

    from_input: Gates  # gradient of the input half of each pre-activation
    from_past: Gates  # gradient of its recurrent half
    bypass: Array | None  # what reaches h_{t-1} without passing the recurrent weights (GRU)
    c: Array | None  # total gradient of c_t
    c_before: Array | None  # what is transported to c_{t-1}


def _rnn_forward(cell: Cell, from_input: Gates, from_past: Gates, h_before: Array, c_before: Array | None) -> Computed:
    activation = ACTIVATIONS[cell.nonlinearity or "tanh"]
    h = activation.function(from_input["h"] + from_past["h"])
    return Computed({"h": h}, h, None)


def _rnn_backward(cell: Cell, moment: Moment, d_hidden: Array, d_c: Array | None) -> Differentiated:
    activation = ACTIVATIONS[cell.nonlinearity or "tanh"]
    slope = activation.slope(moment.gates["h"])
    # A closed ReLU lets nothing through, not even infinity, of which zero times would be no number.
    closed = (slope == 0) & (cell.nonlinearity == "relu")
    a = {"h": np.where(closed, 0.0, d_hidden * slope)}
    return Differentiated(a, a, None, None, None)


def _gru_forward(cell: Cell, from_input: Gates, from_past: Gates, h_before: Array, c_before: Array | None) -> Computed:
    r = sigmoid(from_input["r"] + from_past["r"])
    z = sigmoid(from_input["z"] + from_past["z"])
    n = np.tanh(from_input["n"] + r * from_past["n"])
    return Computed({"r": r, "z": z, "n": n}, (1.0 - z) * n + z * h_before, None)


def _gru_backward(cell: Cell, moment: Moment, d_hidden: Array, d_c: Array | None) -> Differentiated:
    r, z, n = moment.gates["r"], moment.gates["z"], moment.gates["n"]
    d_n = d_hidden * (1.0 - z) * tanh_slope(n)
    d_z = d_hidden * (moment.h_before - n) * sigmoid_slope(z)
    d_r = d_n * moment.from_past["n"] * sigmoid_slope(r)
    # The reset gate stands between n's pre-activation and its recurrent half, so the two gradients differ.
    return Differentiated({"r": d_r, "z": d_z, "n": d_n}, {"r": d_r, "z": d_z, "n": d_n * r}, z * d_hidden, None, None)


def _lstm_forward(cell: Cell, from_input: Gates, from_past: Gates, h_before: Array, c_before: Array | None) -> Computed:
    assert c_before is not None
    i = sigmoid(from_input["i"] + from_past["i"])
    f = sigmoid(from_input["f"] + from_past["f"])
    g = np.tanh(from_input["g"] + from_past["g"])
    o = sigmoid(from_input["o"] + from_past["o"])
    c = f * c_before + i * g
    return Computed({"i": i, "f": f, "g": g, "o": o}, o * np.tanh(c), c)


def _lstm_backward(cell: Cell, moment: Moment, d_hidden: Array, d_c: Array | None) -> Differentiated:
    assert d_c is not None and moment.c is not None and moment.c_before is not None
    i, f, g, o = (moment.gates[gate] for gate in cell.gates)
    tanh_c = np.tanh(moment.c)
    d_c = d_c + d_hidden * o * tanh_slope(tanh_c)
    a = {
        "i": d_c * g * sigmoid_slope(i),
        "f": d_c * moment.c_before * sigmoid_slope(f),
        "g": d_c * i * tanh_slope(g),
        "o": d_hidden * tanh_c * sigmoid_slope(o),
    }
    return Differentiated(a, a, None, d_c, f * d_c)


class Pointwise(NamedTuple):
    """The two functions that make a kind of cell."""

    forward: Callable[[Cell, Gates, Gates, Array, Array | None], Computed]
    backward: Callable[[Cell, Moment, Array, Array | None], Differentiated]


POINTWISE: dict[str, Pointwise] = {
    "rnn": Pointwise(_rnn_forward, _rnn_backward),
    "gru": Pointwise(_gru_forward, _gru_backward),
    "lstm": Pointwise(_lstm_forward, _lstm_backward),
}
"""By :attr:`throughtime.cells.Cell.kind`."""


def split_gates(cell: Cell, stacked: Array) -> Gates:
    """[N, G*H] -> per gate [N, H], in the cell's order."""
    return dict(zip(cell.gates, np.split(stacked, cell.gate_count, axis=1), strict=True))


def stack_gates(cell: Cell, gates: Gates) -> Array:
    """Per gate [N, H] -> [N, G*H], in the cell's order."""
    return np.concatenate([gates[gate] for gate in cell.gates], axis=1)
