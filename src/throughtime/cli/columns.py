"""Numbers in columns on the terminal: how the tables of all explanations look."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table


def columns(names: Sequence[str], left: Sequence[str] = ()) -> Table:
    """An empty table without a frame; its cells are to the right, and never wrapped.

    Args:
        names: of the columns.
        left: those whose cells are to the left.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    return table
