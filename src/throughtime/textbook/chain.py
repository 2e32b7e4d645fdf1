"""The chain rule, factor by factor: what a step does to the step after it, and what a weight does where it is used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.reference import POINTWISE, Array, Moment, split_gates
from throughtime.textbook.network import Network, Parameters, Step


@dataclass(frozen=True)
class Factors:
    """Every derivative of one thing by the next, from the loss back to the weights.

    The state of a step is ``s_t = O_t``, of an LSTM ``s_t = (O_t, c_t)``: S numbers.

    Attributes:
        prediction: ``dL/dy^``.
        last_state: ``dy^/ds_T``, ``[S]``.
        output_weight: ``dy^/dw^T``, ``[H]``.
        states: ``ds_t/ds_{t-1}`` for t = 2..T, ``[S, S]`` each: row i is what the state before does to number i of this one.
        weights: for t = 1..T, by the name of each weight used there: ``ds_t/dw``, ``[S, *shape]``, the state before held fast.
    """

    prediction: float
    last_state: Array
    output_weight: Array
    states: list[Array]
    weights: list[Parameters]


@np.errstate(over="ignore", invalid="ignore")
def factors(network: Network, x: Array, parameters: Parameters, steps: list[Step], error: float) -> Factors:
    """All factors of a forward pass.

    Args:
        network: which weight is used where.
        x: the words, ``[T, H]``.
        parameters: as in the forward pass.
        steps: of the forward pass.
        error: ``y^ - y``, the derivative of ``L = (y^ - y)^2 / 2``.
    """
    hidden = network.hidden
    last = parameters[network.output_weight]
    last_state = np.concatenate([last, np.zeros(hidden)]) if network.cell.has_cell_state else last
    states, weights = [], []
    for t in range(1, network.steps + 1):
        by_state, by_weight = _step(network, t, x[t - 1], parameters, steps)
        states.append(by_state)
        weights.append(by_weight)
    return Factors(error, last_state, steps[-1].output, states[1:], weights)


@np.errstate(over="ignore", invalid="ignore")
def gradients(network: Network, found: Factors) -> tuple[Parameters, list[Array]]:
    """Multiply the factors out, from the loss backwards.

    Returns:
        ``dL/dw`` of every weight, a shared one's being the sum over the steps that use it; and ``dL/ds_t`` for t = 1..T.
    """
    by_weight = {name: np.zeros(shape) for name, shape in network.shapes.items()}
    by_weight[network.output_weight] = found.prediction * found.output_weight
    state = found.prediction * found.last_state  # dL/ds_T
    by_state = [state]
    for t in range(network.steps, 0, -1):
        for name, local in found.weights[t - 1].items():
            by_weight[name] = by_weight[name] + np.tensordot(state, local, axes=1)
        if t > 1:
            state = state @ found.states[t - 2]
            by_state.append(state)
    return by_weight, by_state[::-1]


def _step(network: Network, t: int, x: Array, parameters: Parameters, steps: list[Step]) -> tuple[Array, Parameters]:
    """``ds_t/ds_{t-1}``, and ``ds_t/dw`` of the weights used at step t: one row for each number of the state, all at once."""
    cell, hidden, step = network.cell, network.hidden, steps[t - 1]
    size = hidden * (2 if cell.has_cell_state else 1)
    zero = np.zeros(hidden)
    before, c_before = (steps[t - 2].output, steps[t - 2].c) if t > 1 else (zero, zero if cell.has_cell_state else None)

    def rows(values: Array) -> Array:
        return np.tile(values, (size, 1))

    moment = Moment(
        time=np.zeros(size, np.int64),
        sample=np.arange(size),
        h_before=rows(before),
        c_before=None if c_before is None else rows(c_before),
        from_past={gate: rows(part[0]) for gate, part in split_gates(cell, step.from_past[None]).items()},
        gates={gate: rows(values) for gate, values in step.gates.items()},
        hidden=rows(step.output),
        c=None if step.c is None else rows(step.c),
    )
    unit = np.eye(size)
    found = POINTWISE[cell.kind].backward(cell, moment, unit[:, :hidden], unit[:, hidden:] if cell.has_cell_state else None)
    from_input = np.concatenate(list(found.from_input.values()), axis=1)  # [S, G H]
    from_past = np.concatenate(list(found.from_past.values()), axis=1)
    weights = {network.input_weight(t): x[None, :, None] * from_input[:, None, :]}
    if name := network.bias(t):
        weights[name] = from_input
    state = np.zeros((size, size))
    if name := network.recurrent_weight(t):
        weights[name] = before[None, :, None] * from_past[:, None, :]
        state[:, :hidden] = from_past @ parameters[name].T
        if found.bypass is not None:
            state[:, :hidden] += found.bypass
        if found.c_before is not None:
            state[:, hidden:] = found.c_before
    return state, weights
