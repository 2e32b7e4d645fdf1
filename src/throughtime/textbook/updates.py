"""Explaining a sentence: the textbook's network is run, differentiated, checked and updated, some times in a row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from throughtime.cells import CELLS, Cell
from throughtime.errors import SettingsError
from throughtime.reference import Array
from throughtime.settings import one_of
from throughtime.textbook.chain import factors, gradients
from throughtime.textbook.explanation import Explanation, Update
from throughtime.textbook.network import Network, Parameters, forward
from throughtime.textbook.words import RULE, vectors

LABELS = ("negative", "positive")
NONLINEARITIES = ("sigmoid", "tanh", "relu")
RATES = {"sgd": 0.1, "adagrad": 0.05}
"""The optimizers, and the alpha of each where none is given: the loss falls in every cell."""
EPS = 1e-10
"""What Adagrad adds to the root of its sum, as in torch.optim."""
_STEP = 1e-5
"""Of the finite differences, relative to a weight above 1: what rounding and curvature add to them is about equal there."""


def explain(
    words: str | Sequence[str],
    label: str,
    *,
    labels: tuple[str, str] = LABELS,
    cell: str = "rnn",
    nonlinearity: str | None = None,
    tied: bool = False,
    hidden: int = 1,
    optimizer: str = "sgd",
    lr: float | None = None,
    updates: int = 5,
    seed: int = 0,
) -> Explanation:
    """Every number of forward, backward and update of one sentence through one small network, under the textbook's names.

    ``O_t = f(x_t w_t + O_{t-1} w^{t-1})``, ``y^ = O_T w^T``, ``L = (y^ - y)^2 / 2``, the chain rule back to every weight, and
    ``w_new = w_old - alpha dL/dw_old``. All in float64, with a finite difference beside every gradient.

    Args:
        words: the sentence: a string is divided at its blanks.
        label: what it is.
        labels: what it could be: ``y`` is 0 for the first and 1 for the second.
        cell: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        nonlinearity: the f of an RNN: ``"sigmoid"`` (the default), ``"tanh"`` or ``"relu"``.
        tied: one set of weights for all steps, as everybody trains them; else one a step, as the page writes them.
        hidden: numbers in an output, H: 1 or 2.
        optimizer: ``"sgd"`` or ``"adagrad"``.
        lr: alpha; by default 0.1 for SGD and 0.05 for Adagrad.
        updates: how many in a row.
        seed: of the first weights.

    Returns:
        The numbers; see :class:`Explanation`. Fewer updates than asked for if the weights are no numbers any more.

    Raises:
        SettingsError: no word, an unknown label, cell, nonlinearity or optimizer, or a number out of range.

    Example:
        >>> import throughtime as tt
        >>> found = tt.explain("the film was not good", "negative")
        >>> list(found.updates[0].gradients)
        ['w_1', 'w_2', 'w_3', 'w_4', 'w_5', 'w^1', 'w^2', 'w^3', 'w^4', 'w^5']
        >>> found.losses[-1] < found.losses[0]
        True

    Source: Rumelhart, Hinton and Williams 1986, doi:10.1038/323533a0, for the chain rule; Duchi, Hazan and Singer 2011,
    JMLR 12, for Adagrad.
    """
    split = tuple(words.split()) if isinstance(words, str) else tuple(words)
    if not split or not all(isinstance(word, str) and word for word in split):
        raise SettingsError("the text has no word; give at least one, such as 'the film was not good'")
    one_of("label", label, labels)
    one_of("optimizer", optimizer, tuple(RATES))
    if hidden not in RULE:
        raise SettingsError(f"hidden is {hidden}, expected 1 or 2, so that every number can be shown")
    alpha = RATES[optimizer] if lr is None else lr
    if not (math.isfinite(alpha) and alpha > 0):
        raise SettingsError(f"lr is {lr}, expected a number above 0")
    if updates < 1:
        raise SettingsError(f"updates is {updates}, expected at least 1")
    if seed < 0:
        raise SettingsError(f"seed is {seed}, expected a number from 0 up")
    network = Network(_cell(cell, nonlinearity), len(split), hidden, tied)
    x, y = vectors(split, hidden), labels.index(label)
    parameters = network.draw(seed)
    sums: Parameters = {name: np.zeros(shape) for name, shape in network.shapes.items()}
    made: list[Update] = []
    while len(made) < updates and (not made or made[-1].finite):
        made.append(_update(network, x, y, parameters, sums, optimizer, alpha))
        parameters, sums = made[-1].new, made[-1].sums
    _, y_hat, _ = forward(network, x, parameters)
    return Explanation(
        words=split,
        label=label,
        y=y,
        labels=labels,
        rule=RULE[hidden],
        x=x,
        network=network,
        optimizer=optimizer,
        alpha=alpha,
        eps=EPS,
        seed=seed,
        updates=tuple(made),
        y_hat=y_hat,
        loss=_loss(y_hat, y),
    )


def _cell(kind: str, nonlinearity: str | None) -> Cell:
    if one_of("cell", kind, ("rnn", "lstm", "gru")) != "rnn":
        if nonlinearity is not None:
            raise SettingsError(f"nonlinearity is for cell rnn, {kind} has its own; leave it out")
        return CELLS[kind]
    return CELLS[f"rnn_{one_of('nonlinearity', nonlinearity or 'sigmoid', NONLINEARITIES)}"]


@np.errstate(over="ignore", invalid="ignore")
def _update(
    network: Network, x: Array, y: int, parameters: Parameters, sums: Parameters, optimizer: str, alpha: float
) -> Update:
    steps, y_hat, _ = forward(network, x, parameters)
    found = factors(network, x, parameters, steps, y_hat - y)
    slopes, states = gradients(network, found)
    sums = {name: sums[name] + slope**2 for name, slope in slopes.items()}
    if optimizer == "adagrad":
        rates = {name: alpha / (np.sqrt(total) + EPS) for name, total in sums.items()}
    else:
        rates = {name: np.full(slope.shape, alpha) for name, slope in slopes.items()}
    return Update(
        network=network,
        parameters=parameters,
        steps=steps,
        y_hat=y_hat,
        loss=_loss(y_hat, y),
        factors=found,
        gradients=slopes,
        state_gradients=states,
        finite_differences=_finite_differences(network, x, y, parameters),
        sums=sums,
        rates=rates,
        new={name: parameters[name] - rates[name] * slope for name, slope in slopes.items()},
    )


def _loss(y_hat: float, y: int) -> float:
    return float(np.square(np.float64(y_hat) - y) / 2)


@np.errstate(over="ignore", invalid="ignore")
def _finite_differences(network: Network, x: Array, y: int, parameters: Parameters) -> Parameters:
    """Central differences of the loss in every single weight, all in one pass forward."""
    steps = {name: _STEP * np.maximum(1.0, np.abs(value)).ravel() for name, value in parameters.items()}
    moved = {}
    for name, value in parameters.items():
        shift = np.diag(steps[name])
        moved[name] = value + np.concatenate([shift, -shift]).reshape(-1, *value.shape)
    _, _, predictions = forward(network, x, parameters, moved)
    differences = {}
    for name, value in parameters.items():
        above, below = np.split(np.square(predictions[name] - y) / 2, 2)
        differences[name] = ((above - below) / (2 * steps[name])).reshape(value.shape)
    return differences
