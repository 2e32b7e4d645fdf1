"""The picture of a record: time against size, T and H, on logarithmic axes. matplotlib is imported only here."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from throughtime.bench.benchmark import Record
from throughtime.bench.cases import BOTH, INFERENCE, MEASURED_CELLS
from throughtime.bench.comparison import Compared
from throughtime.bench.peers import OURS, PEERS
from throughtime.bench.summary import label, short

_COLOURS = ("#c1272d", "#1b6ca8", "#5aa0d0", "#7a5195", "#e08e0b", "#4f8a3c")
_STYLE: dict[str, Any] = {
    peer: {"color": colour, "marker": marker} for peer, colour, marker in zip(PEERS, _COLOURS, "oss^Dv", strict=True)
}


def draw(record: Record) -> bytes:
    """The picture as SVG: a panel a cell of forward+backward and of inference, and below, where measured, of T and of H."""
    rows = [(BOTH, "main", "size"), (INFERENCE, "main", "size")]
    rows += [(BOTH, axis, axis) for axis in ("T", "H") if axis in record.sections]
    figure = Figure(figsize=(13.0, 3.6 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(MEASURED_CELLS), squeeze=False)
    for panels, (work, section, against) in zip(axes, rows, strict=True):
        for ax, cell in zip(panels, MEASURED_CELLS, strict=True):
            compared = [c for c in record.sections[section] if c.case.cell == cell]
            _panel(ax, compared, work, against)
            ax.set_title(f"{short(cell)}, {work}" + ("" if against == "size" else f", against {against}"))
    handles = {line.get_label(): line for ax in axes.flat for line in ax.get_lines()}
    absent = [f"not measured: {label(peer)} ({why})" for peer, why in record.missing.items()]
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles) or 1, frameon=False)
    figure.supxlabel("; ".join(absent), fontsize=8, color="gray")
    content = io.BytesIO()
    # Letters stay letters, and the same record gives the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "throughtime"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def _panel(ax: Axes, compared: Sequence[Compared], work: str, against: str) -> None:
    """One cell: a line a peer."""
    places = list(range(len(compared))) if against == "size" else [getattr(c.case, against) for c in compared]
    for peer in PEERS:
        points = [
            (x, seconds * 1e3) for x, c in zip(places, compared, strict=True) if (seconds := c.of(work, peer)) is not None
        ]
        if points:
            width = 2.2 if peer == OURS else 1.2
            ax.plot(*zip(*points, strict=True), label=label(peer), linewidth=width, markersize=4, **_STYLE[peer])
    ax.set_yscale("log")
    ax.set_ylabel("milliseconds")
    ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    if against == "size":
        ax.set_xticks(places, [c.case.size for c in compared], rotation=35, ha="right", fontsize=8)
        ax.set_xlabel("T, B, I, H")
    else:
        ax.set_xscale("log")
        ax.set_xlabel(against)
