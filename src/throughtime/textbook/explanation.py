"""What an explanation holds: every number of some updates of the textbook's network, under the page's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from throughtime.reference import Array
from throughtime.textbook.chain import Factors
from throughtime.textbook.network import Network, Parameters, Step


@dataclass(frozen=True)
class Factor:
    """One factor of a chain.

    Attributes:
        name: such as ``"dO_3/dO_2"``.
        value: rows are what is differentiated, columns by what; a plain number for one by one.
    """

    name: str
    value: Array


@dataclass(frozen=True)
class Update:
    """Forward, backward, and the update, with the weights as they were before it.

    Attributes:
        network: which weight is used where.
        parameters: before the update.
        steps: of the forward pass.
        y_hat: the prediction.
        loss: ``L = (y^ - y)^2 / 2``.
        factors: of the chain rule.
        gradients: ``dL/dw`` by the chain rule.
        state_gradients: ``dL/dO_t``, of an LSTM ``dL/d(O_t, c_t)``, for t = 1..T.
        finite_differences: ``(L(w + h) - L(w - h)) / 2h`` for every weight, computed by forward passes alone.
        sums: ``alpha_t``: the sum of all squared gradients so far.
        rates: ``alpha_t^1``: the rate in effect: ``alpha / (sqrt(alpha_t) + eps)`` for Adagrad, ``alpha`` for SGD.
        new: after the update, ``w - rate dL/dw``.
    """

    network: Network
    parameters: Parameters
    steps: list[Step]
    y_hat: float
    loss: float
    factors: Factors
    gradients: Parameters
    state_gradients: list[Array]
    finite_differences: Parameters
    sums: Parameters
    rates: Parameters
    new: Parameters

    @property
    def finite(self) -> bool:
        """Whether every number is one still."""
        return bool(np.isfinite(self.loss)) and all(np.isfinite(value).all() for value in self.new.values())

    def chain(self, weight: str, step: int | None = None) -> list[Factor]:
        """The factors whose product is ``dL/dw``.

        Args:
            weight: its name.
            step: which use of it, from 1; needed only where a weight is shared by the steps (``--tied``).

        Example:
            >>> import throughtime as tt
            >>> update = tt.explain("the film was good", "positive").updates[0]
            >>> [factor.name for factor in update.chain("w_3")]
            ['dL/dy^', 'dy^/dO_4', 'dO_4/dO_3', 'dO_3/dw_3']
        """
        found, last = self.factors, self.network.steps
        start = Factor("dL/dy^", np.array(found.prediction))
        if weight == self.network.output_weight:
            return [start, Factor(f"dy^/d{weight}", found.output_weight)]
        uses = [t for t in range(1, last + 1) if weight in found.weights[t - 1]]
        if step is None:
            if len(uses) > 1:
                raise ValueError(f"{weight} is used in steps {uses[0]} to {uses[-1]}; say which by step=")
            step = uses[0]
        return [
            start,
            Factor(f"dy^/d{self.state(last)}", found.last_state),
            *(Factor(f"d{self.state(t)}/d{self.state(t - 1)}", found.states[t - 2]) for t in range(last, step, -1)),
            Factor(f"d{self.state(step)}/d{weight}", found.weights[step - 1][weight]),
        ]

    def contribution(self, weight: str, step: int | None = None) -> Array:
        """The product of a chain: ``dL/dw``, or what one of its uses adds to it.

        Args:
            weight: its name.
            step: which use of it, from 1; ``None`` for all.
        """
        if step is None:
            return self.gradients[weight]
        return np.asarray(np.tensordot(self.state_gradients[step - 1], self.factors.weights[step - 1][weight], axes=1))

    def state(self, t: int) -> str:
        """What the state of step t is called: ``O_t``, of an LSTM ``(O_t,c_t)``."""
        return f"(O_{t},c_{t})" if self.network.cell.has_cell_state else f"O_{t}"

    def products(self) -> dict[str, Array]:
        """``x_t w_t`` and ``O_{t-1} w^{t-1}`` of every step, by these names."""
        products = {}
        for t, step in enumerate(self.steps, 1):
            bias = self.network.bias(t)
            products[f"x_{t} {self.network.input_weight(t)}"] = step.from_input - (self.parameters[bias] if bias else 0.0)
            if past := self.network.recurrent_weight(t):
                products[f"O_{t - 1} {past}"] = step.from_past
        return products

    def as_json(self) -> dict[str, Any]:
        """Under the page's names: see :meth:`Explanation.as_json`."""
        found, last = self.factors, self.network.steps
        named = {"dL/dy^": found.prediction, f"dy^/d{self.network.output_weight}": found.output_weight}
        named[f"dy^/d{self.state(last)}"] = found.last_state
        named |= {f"d{self.state(t + 1)}/d{self.state(t)}": found.states[t - 1] for t in range(last - 1, 0, -1)}
        for t in range(last, 0, -1):
            named |= {f"d{self.state(t)}/d{name}": local for name, local in found.weights[t - 1].items()}
        states = {f"dL/d{self.state(t)}": value for t, value in enumerate(self.state_gradients, 1)}
        extra: dict[str, Any] = {}
        if self.network.cell.gate_count > 1:
            extra["gates"] = {f"{gate}_{t}": v for t, step in enumerate(self.steps, 1) for gate, v in step.gates.items()}
        if self.network.cell.has_cell_state:
            extra["cell_states"] = {f"c_{t}": step.c for t, step in enumerate(self.steps, 1)}
        maps = {
            "parameters": self.parameters,
            "products": self.products(),
            "outputs": {f"O_{t}": step.output for t, step in enumerate(self.steps, 1)},
            **extra,
            "y_hat": self.y_hat,
            "loss": self.loss,
            "factors": named,
            "state_gradients": states,
            "gradients": self.gradients,
            "finite_differences": self.finite_differences,
            "alpha_t": self.sums,
            "alpha_t^1": self.rates,
            "new": self.new,
        }
        return {
            key: {name: plain(value) for name, value in found.items()} if isinstance(found, dict) else plain(found)
            for key, found in maps.items()
        }


@dataclass(frozen=True)
class Explanation:
    """A sentence through the textbook's network, and some updates of its weights.

    Attributes:
        words: T of them.
        label: what the sentence is.
        y: the same as a number: the place of the label among ``labels``.
        labels: what it could be, for 0 and for 1.
        rule: how words become numbers.
        x: these numbers, ``[T, H]``.
        network: its cell, sizes, and which weight is used where.
        optimizer: ``"sgd"`` or ``"adagrad"``.
        alpha: the learning rate.
        eps: what Adagrad adds to the root of its sum.
        seed: of the first weights.
        updates: one after another; fewer than asked for if the numbers ended.
        y_hat: the prediction after the last.
        loss: after the last.
    """

    words: tuple[str, ...]
    label: str
    y: int
    labels: tuple[str, str]
    rule: str
    x: Array
    network: Network
    optimizer: str
    alpha: float
    eps: float
    seed: int
    updates: tuple[Update, ...]
    y_hat: float
    loss: float

    @property
    def losses(self) -> list[float]:
        """Before every update, and after the last."""
        return [*(update.loss for update in self.updates), self.loss]

    @property
    def verdict(self) -> str:
        """What became of the loss, in a sentence."""
        losses, count = self.losses, len(self.updates)
        first, last, highest = losses[0], losses[-1], max(losses)
        after = f"{count} update{'s' if count > 1 else ''}"
        if not self.updates[-1].finite or not np.isfinite(last):
            return f"diverged: after {after} the numbers are no longer numbers (inf or nan); alpha {self.alpha:g} is too large"
        dead = all((gradient == 0).all() for gradient in self.updates[-1].gradients.values())
        if highest > 1.5 * first:
            end = "" if last == highest else f" and came to {last:.4g}"
            stuck = ", where every gradient is 0" if dead else ""
            return f"the loss rose from {first:.4g} to {highest:.4g}{end} in {after}{stuck}: alpha {self.alpha:g} is too large"
        if dead:
            return f"the loss came from {first:.4g} to {last:.4g} in {after}; every gradient is 0 now: nothing moves any more"
        if last == first:
            return f"the loss stayed at {first:.4g} in {after}: the gradients are too small to move it"
        return f"the loss {'rose' if last > first else 'fell'} from {first:.4g} to {last:.4g} in {after}"

    def as_json(self) -> dict[str, Any]:
        """Everything, under the page's names; numbers as nested lists where there is more than one, ``None`` where one is none.

        Of gated cells the columns of a weight are its gates in :attr:`throughtime.cells.Cell.gates`' order, H columns each.
        """
        cell = self.network.cell
        return {
            "words": list(self.words),
            "label": self.label,
            "labels": list(self.labels),
            "y": self.y,
            "cell": cell.kind,
            "gates": list(cell.gates) if cell.gate_count > 1 else [],
            "nonlinearity": cell.nonlinearity,
            "tied": self.network.tied,
            "hidden": self.network.hidden,
            "optimizer": self.optimizer,
            "alpha": self.alpha,
            "eps": self.eps,
            "seed": self.seed,
            "rule": self.rule,
            "x": {f"x_{t}": plain(x) for t, x in enumerate(self.x, 1)},
            "updates": [update.as_json() for update in self.updates],
            "after": {"y_hat": plain(self.y_hat), "loss": plain(self.loss)},
            "verdict": self.verdict,
        }


def plain(value: Any) -> Any:
    """An array as a number or nested lists, axes of length 1 left out; what is not finite as ``None``: JSON has no word for it.

    Example:
        >>> plain(np.array([[0.5]])), plain(np.array([[1.0, np.inf]]))
        (0.5, [1.0, None])
    """
    array = np.squeeze(np.asarray(value, dtype=np.float64))
    objects = array.astype(object)
    objects[~np.isfinite(array)] = None
    return objects.tolist()
