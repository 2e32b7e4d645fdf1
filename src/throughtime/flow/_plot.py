"""The picture of a recording. matplotlib is imported only here."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from throughtime.flow._layer import LayerFlow


def plot_reach(layers: Sequence[LayerFlow], ax: Axes | None = None) -> Axes:
    """Draw what is left of the probe against steps back, a line per layer.

    Args:
        layers: what was recorded, with probe.
        ax: where to draw; a new figure by default.
    """
    if any(layer.probe is None for layer in layers):
        raise ValueError("the plot is drawn of the probe, and this recording was made with probe=False")
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for layer in layers:
        left = layer.reach[~np.isnan(layer.reach)]
        with np.errstate(over="ignore"):
            ax.plot(np.arange(len(left) + 1), np.exp(np.concatenate([[0.0], left])), label=layer.name)
    for fraction in (0.1, 0.01):
        ax.axhline(fraction, color="gray", linewidth=0.8, linestyle=":")
        ax.annotate(f"{fraction:.0%}", (1, fraction), xycoords=("axes fraction", "data"), xytext=(3, 0),
                    textcoords="offset points", va="center", color="gray")  # fmt: skip
    ax.set_yscale("log")
    ax.set_xlim(left=0)
    ax.set_xlabel("steps back in time")
    ax.set_ylabel("gradient that is left")
    ax.legend(frameon=False)
    return ax
