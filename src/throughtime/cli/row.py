"""A row explained in the terminal: outputs and gradients step by step, and which steps moved the answer."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.text import Text

from throughtime.cli.columns import columns
from throughtime.train.row import RowExplanation

_SHOWN = 40
"""The most steps that are shown; of more, those that moved the answer most, and the last."""
_BAR = 10


def show(found: RowExplanation, console: Console) -> None:
    """Print a look at a row.

    Args:
        found: what :func:`throughtime.train.row.explain_row` returned.
        console: where to.
    """
    truth = f", and it is {found.truth}" if found.truth else ", and what is right is not known"
    console.print(Text.assemble((found.origin, "bold"), f": the model says {found.prediction}{truth}."))
    console.print(f"L = {found.loss:.4g}; {found.answer}: {found.value:.4g}")
    console.print()
    moved = np.array([step.moved or 0.0 for step in found.steps])
    numbered = all(step.name == str(place) for place, step in enumerate(found.steps, 1))
    shown = sorted({*np.argsort(-np.abs(moved), kind="stable")[: _SHOWN - 1].tolist(), len(moved) - 1})
    largest = float(np.abs(moved).max()) or 1.0
    names = ["t", *([] if numbered else ["step"]), "|O_t|", "|dL/dO_t|", "moved by", ""]
    table = columns(names, left=("step", ""))
    before = -1
    for row in shown:
        if row > before + 1:
            table.add_row("…")
        step, before = found.steps[row], row
        name = [] if numbered else [step.name if len(step.name) <= 40 else f"{step.name[:39]}…"]
        by = "asked" if step.moved is None else f"{step.moved:+.4f}"
        bar = ("+" if moved[row] >= 0 else "-") * round(_BAR * abs(moved[row]) / largest)
        table.add_row(str(row * found.block + 1), *name, f"{step.output:.4g}", f"{step.gradient:.3g}", by, bar)
    console.print(table)
    top = [found.steps[row].name for row in np.argsort(-np.abs(moved), kind="stable")[:3]]
    console.print()
    console.print(Text(f"Moved it most: {', '.join(top)}.", style="bold"))
    parts = "Each step" if found.block == 1 else f"Every {found.block} steps"
    console.print(Text(f"{parts} {found.without} once: by how much {found.answer} was larger with them.", style="dim"))
