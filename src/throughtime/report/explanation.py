"""The page of an explained sentence: forward, every factor of the chain rule, and the updates, to read and to print."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Template

from throughtime.reference import ACTIVATIONS, Array
from throughtime.report import figures, formats, notation
from throughtime.report.page import templates
from throughtime.report.unrolled import ends, unrolled
from throughtime.store import write_bytes
from throughtime.textbook import Explanation, Update

FACTORS = 9
"""The most factors of a chain that are all shown."""
VALUES = 12
"""The most numbers that all weights together may have to be shown after every update."""
ROWS = 36
"""The most weights, and the most updates, that are all shown."""

SLOPES = {"sigmoid": "O_t (1 - O_t)", "tanh": "1 - O_t O_t", "relu": ""}
"""What f' is, in terms of the output; that of ReLU is told in words."""
FUNCTIONS = {"sigmoid": "f(s) = 1 / (1 + exp(-s))", "tanh": "f(s) = tanh(s)", "relu": "f(s) = max(s, 0)"}


def write_explanation(explanation: Explanation, path: Path) -> None:
    """Write the page of an explanation, whole or not at all.

    Args:
        explanation: what :func:`throughtime.explain` returned.
        path: where to.

    Raises:
        RunError: the page cannot be written, with the reason.
    """
    write_bytes(path, render_explanation(explanation).encode("utf-8", "replace"))


def render_explanation(explanation: Explanation) -> str:
    """An explanation as a self-contained HTML page: no script, nothing loaded, every word escaped.

    Args:
        explanation: what :func:`throughtime.explain` returned.

    Example:
        >>> import throughtime as tt
        >>> page = render_explanation(tt.explain("the film was not good", "negative"))
        >>> "the film was not good" in page, "<script" in page
        (True, False)
    """
    return template("explanation.html.jinja").render(**view(explanation))


def template(name: str) -> Template:
    """A template that can write mathematics.

    Args:
        name: of its file.
    """
    helpers = {"formula": notation.formula, "value": notation.value, "spans": notation.spans, "brief": notation.short_number}
    return templates().get_template(name, globals=helpers)


def equations(kind: str, past: str = "w^{t-1}") -> tuple[str, ...]:
    """What a step of a cell computes, in the page's notation.

    Args:
        kind: of the cell.
        past: the name of its recurrent weight: another where all steps share it.

    Example:
        >>> equations("rnn", "w^t")
        ('O_t = f(x_t w_t + O_{t-1} w^t)',)
    """
    return {
        "rnn": (f"O_t = f(x_t w_t + O_{{t-1}} {past})",),
        "lstm": ("i, f, o = sigmoid(sum)", "g = tanh(sum)", "c_t = f . c_{t-1} + i . g", "O_t = o . tanh(c_t)"),
        "gru": (
            f"r, z = sigmoid(x_t w_t + b_t + O_{{t-1}} {past})",
            f"n = tanh(x_t w_t + b_t + r O_{{t-1}} {past})",
            "O_t = (1 - z) n + z O_{t-1}",
        ),
    }[kind]


def view(found: Explanation) -> dict[str, Any]:
    """What the templates show of an explanation: its numbers, in the order of the page, cut to what a page can hold.

    Args:
        found: the explanation.
    """
    network, update = found.network, found.updates[0]
    diverged = not found.updates[-1].finite or not np.isfinite(found.loss)
    fell = not diverged and found.loss < found.losses[0]
    kind, past = network.cell.kind, "w^t" if network.tied else "w^{t-1}"
    return {
        "found": found,
        "network": network,
        "update": update,
        "simple": kind == "rnn",
        "lone": kind == "rnn" and network.hidden == 1,
        "sentence": formats.short(" ".join(found.words), 120),
        "words": ends(list(enumerate(zip(found.words, found.x, strict=True), 1))),
        "left_out": network.steps - len([t for t in ends(range(network.steps)) if t is not None]),
        "drawing": unrolled(found),
        "past": past,
        "equations": equations(kind, past),
        "function": FUNCTIONS.get(network.cell.nonlinearity or ""),
        "slope": SLOPES.get(network.cell.nonlinearity or ""),
        "state": "(O_t,c_t)" if network.cell.has_cell_state else "O_t",
        "before": "(O_{t-1},c_{t-1})" if network.cell.has_cell_state else "O_{t-1}",
        "forward": _forward(found, update),
        "backward": _backward(update),
        "reach": reach([("dL/dO", update, "model")], "How much of the gradient comes back"),
        "chains": chains(update),
        "agreement": _agreement(update),
        "places": _places(update),
        "rounds": _rounds(found),
        "named": list(update.parameters) if _size(update.parameters) <= VALUES else [],
        "losses": _losses(found),
        "verdict": "good" if fell else "poor",
        "diverged": diverged,
        "command": command(found),
    }


def chains(update: Update) -> list[dict[str, Any]]:
    """The chain of every use of every weight, from the last back as on the page, in groups by kind of weight.

    Args:
        update: whose.
    """
    network = update.network
    groups: list[dict[str, Any]] = [{"title": "The output weight", "chains": [_chain(update, network.output_weight, None)]}]
    kinds = (
        ("Input weights", network.input_weight),
        ("Recurrent weights", network.recurrent_weight),
        ("Biases", network.bias),
    )
    for title, named in kinds:
        uses = [(name, t) for t in range(network.steps, 0, -1) if (name := named(t))]
        shown = [_chain(update, *use) if use else None for use in ends(uses)]
        if shown:
            whole = _whole(update, uses[0][0]) if network.tied else None
            groups.append({"title": title, "chains": shown, "left_out": len(uses) - sum(map(bool, shown)), "sum": whole})
    return groups


def reach(runs: Sequence[tuple[str, Update, str]], title: str) -> figures.Figure | None:
    """The size of the gradient against the steps back.

    Args:
        runs: name, update, and look of each line.
        title: of the figure.
    """
    lines = []
    for name, update, look in runs:
        hidden = update.network.hidden
        sizes = [float(np.linalg.norm(state[:hidden])) for state in reversed(update.state_gradients)]
        lines.append(figures.Curve(name, range(len(sizes)), [size or None for size in sizes], look))
    if len(lines[0].x) < 3:
        return None
    told = "; ".join(f"{line.name} from {_told(line.y[0])} to {_told(line.y[-1])}" for line in lines)
    alt = f"{title}: size of dL/dO_t from the last step, 0 steps back, to the first: {told}."
    return figures.figure(title, lines, x_label="steps back", alt=alt, log=True, x_ticks=_whole_ticks(len(lines[0].x)))


def command(found: Explanation) -> str:
    """The command that makes this explanation.

    Args:
        found: the explanation.
    """
    network = found.network
    options = [f"--label {shlex.quote(found.label)}"]
    if network.cell.kind != "rnn":
        options.append(f"--cell {network.cell.kind}")
    elif network.cell.nonlinearity != "sigmoid":
        options.append(f"--nonlinearity {network.cell.nonlinearity}")
    options += ["--tied"] if network.tied else []
    options += ["--hidden 2"] if network.hidden == 2 else []
    options += [f"--optimizer {found.optimizer}"] if found.optimizer != "sgd" else []
    options += [f"--lr {found.alpha!r}", f"--updates {len(found.updates)}", f"--seed {found.seed}"]
    return f"throughtime explain text {shlex.quote(' '.join(found.words))} {' '.join(options)}"


def _forward(found: Explanation, update: Update) -> list[dict[str, Any] | None]:
    """A row for each step that is shown, ``None`` for those left out."""
    network, products = found.network, update.products()
    rows: list[dict[str, Any] | None] = []
    for t in ends(range(1, network.steps + 1)):
        if t is None:
            rows.append(None)
            continue
        step, weight, past, bias = update.steps[t - 1], network.input_weight(t), network.recurrent_weight(t), network.bias(t)
        by_input = products[f"x_{t} {weight}"]
        split = {name: slice(i * network.hidden, (i + 1) * network.hidden) for i, name in enumerate(network.cell.gates)}
        rows.append(
            {
                "t": t,
                "word": found.words[t - 1],
                "x": found.x[t - 1],
                "weight": weight,
                "w": update.parameters[weight],
                "by_input": by_input,
                "past": past,
                "v": update.parameters[past] if past else None,
                "before": update.steps[t - 2].output if past else None,
                "from_past": step.from_past,
                "bias": bias,
                "sum": step.from_input + step.from_past,
                "output": step.output,
                "c": step.c,
                "gates": [
                    {
                        "name": name,
                        "by_input": by_input[at],
                        "b": update.parameters[bias][at] if bias else None,
                        "from_past": step.from_past[at],
                        "value": step.gates[name],
                    }
                    for name, at in split.items()
                ],
            }
        )
    return rows


def _backward(update: Update) -> list[dict[str, Any] | None]:
    """The factors of each step that is shown, the last step first."""
    network, rows = update.network, list[dict[str, Any] | None]()
    nonlinearity = network.cell.nonlinearity
    for t in ends(range(network.steps, 0, -1)):
        if t is None:
            rows.append(None)
            continue
        local, past = update.factors.weights[t - 1], network.recurrent_weight(t)
        output = update.steps[t - 1].output
        rows.append(
            {
                "t": t,
                "slope": ACTIVATIONS[nonlinearity].slope(output) if nonlinearity else None,
                "by_state": update.factors.states[t - 2] if t > 1 else None,
                "by_weight": local[network.input_weight(t)],
                "by_past": local[past] if past else None,
                "gradient": update.state_gradients[t - 1],
            }
        )
    return rows


def _chain(update: Update, name: str, step: int | None) -> dict[str, Any]:
    """One chain by name and by number, with its product and the finite difference beside it."""
    factors = update.chain(name, step)
    shared = update.network.tied and step is not None
    kept = factors if len(factors) <= FACTORS else [*factors[:4], None, *factors[-3:]]
    return {
        "name": name,
        "step": step if shared else None,
        "factors": kept,
        "skipped": len(factors) - len(kept) + 1,
        "product": update.contribution(name, step),
        **({} if shared else _whole(update, name)),
    }


def _whole(update: Update, name: str) -> dict[str, Any]:
    gradient, difference = update.gradients[name], update.finite_differences[name]
    return {
        "name": name,
        "gradient": gradient,
        "difference": difference,
        "unseen": bool(((difference == 0) & (gradient != 0)).any()),
    }


def _agreement(update: Update) -> dict[str, Any]:
    gaps = [np.abs(update.gradients[name] - update.finite_differences[name]).max() for name in update.gradients]
    return {"count": _size(update.gradients), "gap": float(max(gaps))}


def _places(update: Update) -> list[dict[str, Any] | None]:
    """For each weight that is shown its rows in the update's table: of a cell with gates one for each gate."""
    network = update.network
    maps = {
        "old": update.parameters,
        "sum": update.sums,
        "rate": update.rates,
        "gradient": update.gradients,
        "new": update.new,
    }
    places: list[dict[str, Any] | None] = []
    for name in ends(list(update.parameters), ROWS):
        if name is None:
            places.append(None)
            continue
        gates = () if name == network.output_weight else network.cell.gates
        columns = {gate: slice(i * network.hidden, (i + 1) * network.hidden) for i, gate in enumerate(gates)} or {
            "": slice(None)
        }
        rows = [{"gate": gate, **{key: of[name][..., at] for key, of in maps.items()}} for gate, at in columns.items()]
        places.append({"name": name, "rows": rows})
    return places


def _rounds(found: Explanation) -> list[dict[str, Any] | None]:
    """Before every update, and after the last."""
    rows: list[dict[str, Any]] = [
        {"number": number, "y_hat": update.y_hat, "loss": update.loss, "parameters": update.parameters}
        for number, update in enumerate(found.updates)
    ]
    rows.append({"number": len(rows), "y_hat": found.y_hat, "loss": found.loss, "parameters": found.updates[-1].new})
    return ends(rows, ROWS)


def _losses(found: Explanation) -> figures.Figure | None:
    losses = found.losses
    return figures.figure(
        "Loss L",
        [figures.Curve("L", range(len(losses)), losses, "model")],
        x_label="updates made",
        alt=f"The loss against the updates: {found.verdict}.",
        log=True,
        x_ticks=_whole_ticks(len(losses)),
    )


def _whole_ticks(count: int) -> list[tuple[float, str]]:
    """Ticks at whole numbers, at most about ten."""
    every = -(-count // 10)
    return [(float(i), f"{i:,}") for i in range(0, count, every)]


def _told(number: float | None) -> str:
    return "0" if number is None else notation.short_number(number)


def _size(values: Mapping[str, Array]) -> int:
    return sum(value.size for value in values.values())
