"""An explained sentence in the terminal: forward, every factor of the chain rule, the update, and the updates after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from throughtime.cli.columns import columns
from throughtime.textbook.explanation import Explanation, Factor, Update

_STEPS = 12
"""The most steps that are all shown; of more, the first and the last."""
_ENDS = (3, 5)
_FACTORS = 9
"""The most factors of a chain that are all shown."""
_VALUES = 8
"""The most numbers a weight may have to be shown through all updates."""


def show(found: Explanation, console: Console) -> None:
    """Print an explanation.

    Args:
        found: what :func:`throughtime.explain` returned.
        console: where to.
    """
    first = found.updates[0]
    console.print(_head(found))
    _titled(console, "Forward", _forward_rule(found), _forward(found, first))
    console.print(_prediction(found, first))
    _titled(console, "Backward", _backward_rule(found), _backward(found, first))
    _titled(console, "Update", _update_rule(found), _update(found, first))
    _titled(console, f"{len(found.updates)} updates in a row" if len(found.updates) > 1 else "After it", "", _losses(found))
    console.print(Text(f"{found.verdict[0].upper()}{found.verdict[1:]}.", style="bold"))


def _titled(console: Console, title: str, rule: str, *shown: RenderableType) -> None:
    console.print(Text.assemble("\n", (title, "bold"), f"   {rule}" if rule else ""))
    console.print(Group(*shown))


def _head(found: Explanation) -> Text:
    network = found.network
    kind = network.cell.kind.upper() if network.cell.kind != "rnn" else f"RNN, f = {network.cell.nonlinearity}"
    weights = "one set of weights for all steps" if network.tied else "weights of their own for every step"
    text = " ".join(word if len(word) <= 30 else f"{word[:29]}…" for word in _ends(found.words, "…"))
    return Text.assemble(
        (text, "bold"),
        f"  is {found.label}: y = {found.y}\n",
        f"{kind}, {network.hidden} hidden number{'s' if network.hidden > 1 else ''}, {weights}, "
        f"{'SGD' if found.optimizer == 'sgd' else 'Adagrad'} with alpha = {found.alpha:g}, seed {found.seed}\n",
        (f"{found.rule}.", "dim"),
    )


def _forward_rule(found: Explanation) -> str:
    rule = "; ".join(_EQUATIONS[found.network.cell.kind])
    return rule.replace("w^{t-1}", "w^t") if found.network.tied else rule  # a shared weight has one name


_EQUATIONS = {
    "rnn": ("O_t = f(x_t w_t + O_{t-1} w^{t-1})",),
    "lstm": (
        "each gate sees x_t w_t + b_t + O_{t-1} w^{t-1}",
        "i, f, o = sigmoid, g = tanh",
        "c_t = f c_{t-1} + i g",
        "O_t = o tanh(c_t)",
    ),
    "gru": (
        "r and z see x_t w_t + b_t + O_{t-1} w^{t-1}",
        "r, z = sigmoid",
        "n = tanh(x_t w_t + b_t + r (O_{t-1} w^{t-1}))",
        "O_t = (1 - z) n + z O_{t-1}",
    ),
}


def _forward(found: Explanation, update: Update) -> Table:
    """A line for every pre-activation: one a step for the page's network."""
    network, simple = found.network, found.network.cell.kind == "rnn"
    lone = simple and network.hidden == 1
    products = update.products()
    past_name = "w^t" if network.tied else "w^{t-1}"
    names = ["t", "word", "x_t", *(["w_t"] if lone else [] if simple else ["gate"]), "x_t w_t"]
    names += [past_name] if lone else []
    names += [f"O_{{t-1}} {past_name}", *([] if simple else ["b_t"])]
    names += ["sum", "f'(sum)", "O_t"] if simple else ["value", *(["c_t"] if network.cell.has_cell_state else []), "O_t"]
    table = columns(names, left=("word", "gate"))
    for t in _ends(range(1, network.steps + 1), None):
        if t is None:
            table.add_row("…", f"{network.steps - sum(_ENDS):,} more")
            continue
        step, past = update.steps[t - 1], network.recurrent_weight(t)
        by_input = products[f"x_{t} {network.input_weight(t)}"]
        bias = update.parameters[name] if (name := network.bias(t)) else np.zeros_like(by_input)
        for row in range(network.hidden * network.cell.gate_count):
            gate, unit = network.cell.gates[row // network.hidden], row % network.hidden
            cells = [str(t), found.words[t - 1][:16], _short(found.x[t - 1])] if row == 0 else ["", "", ""]
            if lone:
                cells.append(_short(update.parameters[network.input_weight(t)]))
            elif not simple:
                cells.append(gate if network.hidden == 1 else f"{gate}, {unit + 1}")
            cells.append(_short(by_input[row]))
            if lone:
                cells.append(_short(update.parameters[past]) if past else "-")
            cells.append(_short(step.from_past[row]) if past else "-")
            if simple:
                total, output = step.from_input[row] + step.from_past[row], step.output[unit]
                slope = _slope(network.cell.nonlinearity or "", output)
                cells += [_short(total), _short(slope), _short(output)]
            else:
                cells += [_short(bias[row]), _short(step.gates[gate][unit])]
                last = row >= network.hidden * (network.cell.gate_count - 1)
                if step.c is not None:
                    cells.append(_short(step.c[unit]) if last else "")
                cells.append(_short(step.output[unit]) if last else "")
            table.add_row(*cells)
    return table


def _slope(nonlinearity: str, output: float) -> float:
    from throughtime.reference import ACTIVATIONS

    return float(ACTIVATIONS[nonlinearity].slope(np.array(output)))


def _prediction(found: Explanation, update: Update) -> Text:
    last, weight = found.network.steps, found.network.output_weight
    output = update.steps[-1].output
    return Text(
        f"  y^ = O_{last} {weight} = {_short(output)} . {_short(update.parameters[weight])} = {_short(update.y_hat)}\n"
        f"  L  = (y^ - y)^2 / 2 = ({_short(update.y_hat)} - {found.y})^2 / 2 = {_short(update.loss)}"
    )


def _backward_rule(found: Explanation) -> str:
    said = ["the chain rule: the factors along the way from L back to a weight, multiplied"]
    if found.network.hidden > 1:
        said.append("numbers of a step are a row, and multiply a matrix from the left")
    if found.network.tied:
        said.append("a shared weight's gradient is the sum over its uses")
    said.append("a finite difference: what L gains when the weight alone is moved a little, divided by how little")
    return "; ".join(said)


def _backward(found: Explanation, update: Update) -> Table:
    """For every chain its factors by name and by number, what they make, and what a finite difference says."""
    network = found.network
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    previous: str | None = None
    for name, step in _uses(found, update):
        shared = network.tied and step is not None
        if previous is not None and name != previous:
            table.add_row(Text(previous, style="bold"), _checked("the sum of these", update, previous))
        previous = name if shared else None
        if name is None:
            table.add_row("…", "")
            continue
        chain = update.chain(name, step)
        text = Text(f"{_joined([factor.name for factor in chain])}\n")
        numbers = f"= {_joined([_value(factor) for factor in chain])}"
        text.append(f"{numbers} = {_short(update.contribution(name, step))}" if shared else _checked(numbers, update, name))
        table.add_row(Text(f"{name} at step {step}" if shared else name, style="" if shared else "bold"), text)
    if previous is not None:
        table.add_row(Text(previous, style="bold"), _checked("the sum of these", update, previous))
    return table


def _checked(said: str, update: Update, name: str) -> Text:
    return Text.assemble(
        f"{said} = ",
        (_short(update.gradients[name]), "bold"),
        (f"   finite difference {_short(update.finite_differences[name])}{_unseen(update, name)}", "dim"),
    )


def _unseen(update: Update, name: str) -> str:
    """Why a finite difference is 0 where the gradient is not."""
    lost = (update.finite_differences[name] == 0) & (update.gradients[name] != 0)
    return " (the change of L is below its last digit)" if lost.any() else ""


def _uses(found: Explanation, update: Update) -> list[tuple[str | None, int | None]]:
    """The chains to show: from the last weight back, as the page does; the first and last of many."""
    network, factors = found.network, update.factors
    uses: list[tuple[str | None, int | None]] = [(network.output_weight, None)]
    kinds = (network.input_weight, network.recurrent_weight, network.bias)
    for kind in kinds:
        steps: list[int | None] = [t for t in range(network.steps, 0, -1) if kind(t) in factors.weights[t - 1]]
        uses += [(None, None) if t is None else (kind(t), t) for t in _ends(steps, None)]
    return uses


def _update_rule(found: Explanation) -> str:
    if found.optimizer == "sgd":
        return "w_new = w_old - alpha dL/dw_old"
    return (
        "w_new = w_old - alpha_t^1 dL/dw_old;  alpha_t = the sum of all squared gradients so far, "
        "alpha_t^1 = alpha / (sqrt(alpha_t) + eps)"
    )


def _update(found: Explanation, update: Update) -> Table:
    """A line for every single number."""
    adagrad = found.optimizer == "adagrad"
    rates = ["alpha_t", "alpha_t^1"] if adagrad else ["alpha"]
    table = columns(["weight", "w_old", *rates, "dL/dw_old", "w_new"], left=["weight"])
    maps = (update.parameters, *((update.sums,) if adagrad else ()), update.rates, update.gradients, update.new)
    places = [(name, place) for name, value in update.parameters.items() for place in np.ndindex(value.shape)]
    for found_place in _ends(places, None, most=3 * _STEPS):
        if found_place is None:
            table.add_row("…")
            continue
        name, place = found_place
        table.add_row(f"{name}{_index(found, name, place)}", *(_short(values[name][place]) for values in maps))
    return table


def _index(found: Explanation, name: str, place: tuple[int, ...]) -> str:
    """Which number of a weight is meant: the row, and the column with the gate it belongs to."""
    network = found.network
    hidden, gates = network.hidden, network.cell.gates
    parts = [str(row + 1) for row in place[:-1] if hidden > 1]
    last = place[-1]
    gated = len(gates) > 1 and name != network.output_weight
    column = (gates[last // hidden] if gated else "") + (str(last % hidden + 1) if hidden > 1 else "")
    parts += [column] if column else []
    return f"[{', '.join(parts)}]" if parts else ""


def _losses(found: Explanation) -> Table:
    """Every update in a line: prediction, loss, and each weight where they are few."""
    sizes = sum(value.size for value in found.updates[0].parameters.values())
    names = list(found.updates[0].parameters) if sizes <= _VALUES else []
    table = columns(["update", "y^", "L", *(names or ["largest dL/dw"])])
    for number, update in enumerate(found.updates):
        largest = max(np.abs(value).max() for value in update.gradients.values())
        weights = [update.parameters[name] for name in names] or [largest]
        table.add_row(str(number), _short(update.y_hat), _short(update.loss), *(_short(value) for value in weights))
    last: list[Any] = [found.updates[-1].new[name] for name in names] or [None]
    table.add_row(str(len(found.updates)), _short(found.y_hat), _short(found.loss), *(_short(value) for value in last))
    return table


def _ends(items: Sequence[Any], gap: Any, most: int = _STEPS) -> list[Any]:
    """All of few items; of many the first and last, with a gap between."""
    head, tail = _ENDS
    return list(items) if len(items) <= most else [*items[:head], gap, *items[-tail:]]


def _joined(factors: Sequence[str]) -> str:
    if len(factors) <= _FACTORS:
        return " . ".join(factors)
    return " . ".join([*factors[:4], f"({len(factors) - 7:,} more)", *factors[-3:]])


def _value(factor: Factor) -> str:
    value = _short(factor.value)
    return f"({value})" if value.startswith("-") else value


def _short(value: Any) -> str:
    """A number with four significant digits, more than one in brackets, row by row."""
    if value is None:
        return ""
    array = np.asarray(value, dtype=np.float64)
    if array.size == 1:
        return f"{array.item():.4g}"
    inner = np.squeeze(array) + 0.0  # no -0
    if inner.ndim == 1:
        return f"[{' '.join(f'{number:.3g}' for number in inner)}]"
    return f"[{' '.join(_short(row) for row in inner)}]"
