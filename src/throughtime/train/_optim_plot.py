"""The picture of an optimizer's trace. matplotlib is imported only here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from throughtime.errors import NotRecordedError, SettingsError

if TYPE_CHECKING:
    from throughtime.train._optim_watch import Array, ParameterTrace, WeightTrace
    from throughtime.train.optim_trace import OptimTrace

LABELS = {"alpha_t^1": "rate in effect $\\alpha_t^1$", "alpha_t": "sum of squared gradients $\\alpha_t$"}


def plot_trace(trace: OptimTrace, ax: Axes | None, of: Literal["alpha_t^1", "alpha_t"]) -> Axes:
    """Draw the rates in effect, or the sums, of everything traced, see ``OptimTrace.plot``."""
    if of not in LABELS:
        raise SettingsError(f"plot: of is {of!r}, expected 'alpha_t^1' or 'alpha_t'")
    traces: dict[str, ParameterTrace | WeightTrace] = {**trace.parameters, **trace.weights}
    drawn = {name: _values(one, of) for name, one in traces.items()}
    if all(np.isnan(values).all() for values in drawn.values()):
        raise NotRecordedError(
            f"plot: no {of} to draw; {trace.optimizer} made {trace.steps} recorded updates, none of them with one"
        )
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for name, values in drawn.items():
        (line,) = ax.plot(trace.updates, values[:, values.shape[1] // 2], label=name)
        if values.shape[1] > 1:
            ax.fill_between(trace.updates, values[:, 1], values[:, 3], color=line.get_color(), alpha=0.2, linewidth=0)
    if of == "alpha_t^1":
        # Usually one for all; groups may have rates of their own.
        for index, alpha in enumerate({t.alpha[-1:].tobytes(): t.alpha for t in traces.values()}.values()):
            label = "SGD: $\\alpha$" if index == 0 else None
            ax.plot(trace.updates, alpha, color="gray", linewidth=1.0, linestyle="--", label=label)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("update")
    ax.set_ylabel(LABELS[of])
    ax.legend(frameon=False, fontsize="small")
    return ax


def _values(trace: ParameterTrace | WeightTrace, of: str) -> Array:
    """[steps, quantiles] what is drawn; nan where the sum is still zero: no gradient yet, and a rate that acts on nothing."""
    steps = len(trace.alpha)
    alpha_t = trace.alpha_t.reshape(steps, trace.alpha_t.size // max(steps, 1))
    rate = trace.rate.reshape(alpha_t.shape)
    values, behind = (alpha_t, alpha_t) if of == "alpha_t" else (rate, alpha_t[:, ::-1])
    return np.where(behind == 0, np.nan, values)
