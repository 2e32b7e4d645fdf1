"""What a cell is, as data: its gates, its states, its equations, and where they come from.

Every driver in ThroughTime (the NumPy oracle, the native kernels, the torch operators) is written once and
asks a cell only for what stands here. This module needs neither NumPy nor torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of recurrent cell, described.

    Attributes:
        name: ThroughTime's name, such as ``"rnn_tanh"`` or ``"lstm"``.
        mode: the name ``torch.nn.RNNBase`` gives it, such as ``"RNN_TANH"`` or ``"LSTM"``.
        kind: ``"rnn"``, ``"gru"`` or ``"lstm"``: which pointwise stage it runs.
        nonlinearity: the activation of a simple RNN, ``None`` for the gated cells.
        gates: names of the G blocks of H rows in ``w_ih``, ``w_hh`` and the biases, in torch's order.
        states: what is carried from step to step.
        recurrent_apart: whether the recurrent half of the pre-activation must be kept apart from the input
            half (GRU: the reset gate multiplies the recurrent half of ``n`` alone).
        projection: the equation in place of the last one where a layer projects H to P, or ``None``.
        taps: names of the squared norms a recorded backward pass yields per step and sample, see
            :func:`throughtime.reference.backward`.
        equations: one step, in order; ``W x`` is a matrix product, ``*`` is elementwise, and ``W_ir`` is the
            block of ``w_ih`` that belongs to gate ``r`` (``W_hr`` that of ``w_hh``).
        source: the paper.

    Example:
        >>> CELLS["gru"].gates
        ('r', 'z', 'n')
        >>> print(CELLS["lstm"].equations[-1])
        h_t = o_t * tanh(c_t)
    """

    name: str
    mode: str
    kind: str
    nonlinearity: str | None
    gates: tuple[str, ...]
    states: tuple[str, ...]
    recurrent_apart: bool
    projection: str | None
    taps: tuple[str, ...]
    equations: tuple[str, ...]
    source: str

    @property
    def gate_count(self) -> int:
        """G, the number of blocks of H rows in the weights."""
        return len(self.gates)

    @property
    def projects(self) -> bool:
        """Whether the cell allows a projection of its output from H to P."""
        return self.projection is not None

    @property
    def has_cell_state(self) -> bool:
        """Whether a cell state ``c`` is carried beside ``h``."""
        return "c" in self.states


def _simple(nonlinearity: str, source: str) -> Cell:
    """A simple (Elman) RNN with this nonlinearity."""
    pre_activation = "W_ih x_t + b_ih + W_hh h_{t-1} + b_hh"
    activated = pre_activation if nonlinearity == "identity" else f"{nonlinearity}({pre_activation})"
    return Cell(
        name=f"rnn_{nonlinearity}",
        mode=f"RNN_{nonlinearity.upper()}",
        kind="rnn",
        nonlinearity=nonlinearity,
        gates=("h",),
        states=("h",),
        recurrent_apart=False,
        projection=None,
        taps=("delta", "a", "u"),
        equations=(f"h_t = {activated}",),
        source=source,
    )


_ELMAN = "Elman 1990, Finding Structure in Time, Cognitive Science 14(2)"

_ALL = (
    _simple("tanh", _ELMAN),
    _simple("relu", "Le, Jaitly and Hinton 2015, Initializing Recurrent Networks of ReLUs, arXiv:1504.00941"),
    _simple("sigmoid", _ELMAN),
    _simple("identity", "Saxe, McClelland and Ganguli 2014, Deep Linear Neural Networks, arXiv:1312.6120"),
    Cell(
        name="gru",
        mode="GRU",
        kind="gru",
        nonlinearity=None,
        gates=("r", "z", "n"),
        states=("h",),
        recurrent_apart=True,
        projection=None,
        taps=("delta", "a", "hidden", "bypass", "u"),
        equations=(
            "r_t = sigmoid(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)",
            "z_t = sigmoid(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)",
            "n_t = tanh(W_in x_t + b_in + r_t * (W_hn h_{t-1} + b_hn))",
            "h_t = (1 - z_t) * n_t + z_t * h_{t-1}",
        ),
        # Version 1 of the paper resets after the product, as cuDNN and torch do; version 3 resets before it.
        source="Cho et al. 2014, Phrase Representations using RNN Encoder-Decoder, arXiv:1406.1078v1",
    ),
    Cell(
        name="lstm",
        mode="LSTM",
        kind="lstm",
        nonlinearity=None,
        gates=("i", "f", "g", "o"),
        states=("h", "c"),
        recurrent_apart=False,
        projection="h_t = W_hr (o_t * tanh(c_t))",
        taps=("delta", "a", "u", "cell_in", "cell", "cell_out"),
        equations=(
            "i_t = sigmoid(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)",
            "f_t = sigmoid(W_if x_t + b_if + W_hf h_{t-1} + b_hf)",
            "g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)",
            "o_t = sigmoid(W_io x_t + b_io + W_ho h_{t-1} + b_ho)",
            "c_t = f_t * c_{t-1} + i_t * g_t",
            "h_t = o_t * tanh(c_t)",
        ),
        source=(
            "Hochreiter and Schmidhuber 1997, Long Short-Term Memory, Neural Computation 9(8); "
            "forget gate: Gers, Schmidhuber and Cummins 2000, Neural Computation 12(10); "
            "projection: Sak, Senior and Beaufays 2014, arXiv:1402.1128"
        ),
    ),
)

CELLS: dict[str, Cell] = {cell.name: cell for cell in _ALL}
"""Every cell there is, by its ThroughTime name."""

_BY_MODE = {cell.mode: cell for cell in _ALL}


def cell_of(mode_or_name: str | Cell) -> Cell:
    """The cell with this ThroughTime name or this torch mode; a :class:`Cell` is handed back as it is.

    Raises:
        ValueError: no cell is called that; the message names the nearest one that is, and all of them.

    Example:
        >>> cell_of("RNN_TANH").name, cell_of("gru").mode
        ('rnn_tanh', 'GRU')
        >>> cell_of("ltsm")
        Traceback (most recent call last):
            ...
        ValueError: no cell is called 'ltsm'; did you mean 'lstm'? Cells: rnn_tanh, rnn_relu, rnn_sigmoid, \
rnn_identity, gru, lstm
    """
    if isinstance(mode_or_name, Cell):
        return mode_or_name
    cell = CELLS.get(mode_or_name) or _BY_MODE.get(mode_or_name)
    if cell is None:
        nearest = get_close_matches(str(mode_or_name).lower(), CELLS, n=1, cutoff=0.0)[0]
        raise ValueError(f"no cell is called {mode_or_name!r}; did you mean {nearest!r}? Cells: {', '.join(CELLS)}")
    return cell
