"""The textbook's network as a computation: which weight stands at which step, and the forward pass.

A row vector stands left of its weight, as on the page: ``x_t w_t + O_{t-1} w^{t-1}``. Weights are kept by the page's names:
``w_1``.. ``w_T`` for the input, ``w^1``.. ``w^{T-1}`` from each output to the next step, ``w^T`` from the last output to the
prediction; gated cells have biases ``b_1``.. ``b_T`` besides. Tied, one ``w_t``, ``w^t`` and ``b_t`` serve every step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.cells import Cell
from throughtime.reference import POINTWISE, Array, Gates, split_gates

Parameters = dict[str, Array]
"""By the page's names."""


@dataclass(frozen=True)
class Network:
    """Which weights there are, of what shape, and where each is used.

    Attributes:
        cell: of the recurrent layer, G gates.
        steps: words, T.
        hidden: numbers in an output, H; and in a word's vector.
        tied: one set of weights for every step; else one a step, as on the page.

    Example:
        >>> from throughtime.cells import cell_of
        >>> list(Network(cell_of("rnn_tanh"), 4, 1, tied=False).shapes)
        ['w_1', 'w_2', 'w_3', 'w_4', 'w^1', 'w^2', 'w^3', 'w^4']
        >>> list(Network(cell_of("lstm"), 4, 1, tied=True).shapes)
        ['w_t', 'w^t', 'b_t', 'w^4']
    """

    cell: Cell
    steps: int
    hidden: int
    tied: bool

    @property
    def biased(self) -> bool:
        """Only gated cells have biases: the page's network has none, and an LSTM forgets without one."""
        return self.cell.kind != "rnn"

    def input_weight(self, t: int) -> str:
        """Name of what ``x_t`` is multiplied by, t from 1."""
        return "w_t" if self.tied else f"w_{t}"

    def recurrent_weight(self, t: int) -> str | None:
        """Name of what takes ``O_{t-1}`` to step t; the first step has none."""
        return None if t == 1 else "w^t" if self.tied else f"w^{t - 1}"

    def bias(self, t: int) -> str | None:
        """Name of the bias of step t, if there is one."""
        return None if not self.biased else "b_t" if self.tied else f"b_{t}"

    @property
    def output_weight(self) -> str:
        """Name of what takes the last output to the prediction."""
        return f"w^{self.steps}"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight: ``[H, G H]``, a bias ``[G H]``, the output weight ``[H]``."""
        steps, wide = range(1, self.steps + 1), self.cell.gate_count * self.hidden
        shapes: dict[str, tuple[int, ...]] = {self.input_weight(t): (self.hidden, wide) for t in steps}
        shapes |= {name: (self.hidden, wide) for t in steps if (name := self.recurrent_weight(t))}
        shapes |= {name: (wide,) for t in steps if (name := self.bias(t))}
        return shapes | {self.output_weight: (self.hidden,)}

    def draw(self, seed: int) -> Parameters:
        """Weights to start from: evenly between 0.1 and 1 / H, of two decimals, so that they can be copied by hand.

        None is negative, so no unit of ReLU starts where its slope is 0. Biases are 0, that of the forget gate 1.
        """
        random = np.random.default_rng(seed)
        drawn = {}
        for name, shape in self.shapes.items():
            if name.startswith("b"):
                forget = [float(gate == "f") for gate in self.cell.gates]
                drawn[name] = np.repeat(forget, self.hidden)
            else:
                drawn[name] = random.integers(10, 100 // self.hidden + 1, shape) / 100
        return drawn


@dataclass(frozen=True)
class Step:
    """One step of the forward pass.

    Attributes:
        from_input: ``x_t w_t``, and the bias where there is one; ``[G H]``.
        from_past: ``O_{t-1} w^{t-1}``, zero in the first step; ``[G H]``.
        gates: activated, ``[H]`` each; for a simple RNN its one gate is the output.
        output: ``O_t [H]``.
        c: the cell state ``[H]``, if there is one.
    """

    from_input: Array
    from_past: Array
    gates: Gates
    output: Array
    c: Array | None


# Weights that explode are a result here, not an accident: infinities go through and are shown.
@np.errstate(over="ignore", invalid="ignore")
def forward(
    network: Network, x: Array, parameters: Parameters, variants: Parameters | None = None
) -> tuple[list[Step], float, dict[str, Array]]:
    """Run a sentence through a network, and through variants beside it that differ from it in a single weight each.

    A variant runs along from the step where its weight is first used: before, it does not differ.

    Args:
        network: which weight is used where.
        x: the words, ``[T, H]``.
        parameters: of the network.
        variants: by the weight they differ in, ``[n, *shape]``: what it is in each.

    Returns:
        The steps and the prediction ``y^`` of the network, and the predictions ``[n]`` of its variants.
    """
    cell, variants = network.cell, variants or {}
    rows: dict[str, slice] = {}
    h = np.zeros((1, network.hidden))  # row 0 is the network itself
    c = np.zeros((1, network.hidden)) if cell.has_cell_state else None
    steps = []

    def joined(state: Array, name: str) -> Array:
        rows[name] = slice(len(state), len(state) + len(variants[name]))
        return np.concatenate([state, np.repeat(state[:1], len(variants[name]), axis=0)])

    for t in range(1, network.steps + 1):
        weight, past_weight, bias = network.input_weight(t), network.recurrent_weight(t), network.bias(t)
        for name in (weight, past_weight, bias):
            if name in variants and name not in rows:
                h, c = joined(h, name), None if c is None else joined(c, name)
        from_input = np.tile(x[t - 1] @ parameters[weight], (len(h), 1))
        if weight in rows:
            from_input[rows[weight]] = x[t - 1] @ variants[weight]
        if bias:
            shift = np.tile(parameters[bias], (len(h), 1))
            if bias in rows:
                shift[rows[bias]] = variants[bias]
            from_input += shift
        from_past = h @ parameters[past_weight] if past_weight else np.zeros_like(from_input)
        if past_weight in rows:
            from_past[rows[past_weight]] = np.einsum("nh,nhg->ng", h[rows[past_weight]], variants[past_weight])
        computed = POINTWISE[cell.kind].forward(cell, split_gates(cell, from_input), split_gates(cell, from_past), h, c)
        h, c = computed.hidden, computed.c
        gates = {gate: values[0].copy() for gate, values in computed.gates.items()}
        cell_state = None if c is None else c[0].copy()
        steps.append(Step(from_input[0].copy(), from_past[0].copy(), gates, h[0].copy(), cell_state))
    last = network.output_weight
    predictions = {name: h[at] @ parameters[last] for name, at in rows.items()}
    if last in variants:
        predictions[last] = variants[last] @ h[0]
    return steps, float(h[0] @ parameters[last]), predictions
