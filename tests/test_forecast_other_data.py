"""A fitted forecast and other data than that of the fit: what it knows, what it refuses, and what of it is scored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from throughtime.data.records import Frequency, Panel
from throughtime.errors import DataError
from throughtime.tasks import Forecast

from forecast_cases import PANEL, lively, panel, part, prepared, series, until


def with_kinds(*kinds: str, count: int = 60, names: tuple[str, ...] | None = None) -> Panel:
    """Series without covariates but for a category each, in the columns that reading it makes of categories."""
    columns = sorted(set(kinds)) if names is None else names
    empty = np.zeros((count, 0))
    members = [
        dataclasses.replace(
            series(f"s{number}", count, seed=number),
            past=empty,
            future=empty,
            static=np.array([float(kind == c) for c in columns]),
        )
        for number, kind in enumerate(kinds)
    ]
    return Panel(members, Frequency("D", 1, 7), (), (), tuple(f"kind={c}" for c in columns), "y")


@torch.inference_mode()
def test_categories_of_other_data_are_those_of_the_fit() -> None:
    task = prepared(with_kinds("a", "b", "c"))
    network = lively(task)
    whole = task.predict(network, with_kinds("c", "b", names=("a", "b", "c")))
    fewer = task.predict(network, with_kinds("c", "b"))
    assert whole == fewer, "a file without kind a has no column for it"
    alone = task.predict(network, with_kinds("c"))
    assert alone["forecast"] == pytest.approx(whole["forecast"][:5], rel=1e-6)
    assert task.predict(network, with_kinds("a"))["forecast"] != alone["forecast"]
    with pytest.raises(DataError, match=r"series 's1': kind is 'd', which it is for no training series \(a, b, c\)"):
        task.predict(network, with_kinds("a", "d"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            dataclasses.replace(PANEL, static=("size",)),
            "have covariates p1, p2, f, size; the model was fitted on p1, p2, f, level",
        ),
        (dataclasses.replace(PANEL, past=("p2", "p1")), "have covariates p2, p1, f, level"),
        (with_kinds("a", "b"), "have covariates kind=a, kind=b"),
        (
            dataclasses.replace(PANEL, frequency=Frequency("h", 1, 24)),
            "a value every hour, but the model was fitted on one every day",
        ),
    ],
    ids=["static", "order", "other", "frequency"],
)
def test_series_unlike_those_of_the_fit_are_named(content: Panel, says: str) -> None:
    task = prepared(PANEL)
    with pytest.raises(DataError, match=says):
        task.windows(content)


def since(content: Panel, begin: int) -> Panel:
    """All but the first values of every series."""
    return dataclasses.replace(
        content,
        series=[
            dataclasses.replace(s, times=s.times[begin:], values=s.values[begin:], past=s.past[begin:], future=s.future[begin:])
            for s in content.series
        ],
    )


@torch.inference_mode()
def test_what_the_fit_did_not_see_is_scored() -> None:
    task = prepared(until(PANEL, 40))
    network = lively(task)
    task.finish(network, task.encode(part(until(PANEL, 50), 40)))
    kept = Forecast(task.settings)
    kept.restore(task.transforms())
    for same in (task, kept):
        found, note = same.held_out(dataclasses.replace(PANEL, form="day"))
        assert found.starts == [50, 50], "training and validation are over"
        assert note == " after 2021-04-19, which the fit did not see"
        assert same.amount(found, same.encode(found)) == "32 windows of 2 series"
        assert "coverage" in same.score(network, found, same.encode(found))
    later, _ = task.held_out(since(PANEL, 30))
    assert later.starts == [20, 20], "the same values, however much past the file holds"
    again, _ = task.held_out(since(PANEL, 48))
    assert again.starts == [9, 9], "a forecast looks back on a window"
    seen, note = task.held_out(until(PANEL, 50))
    assert (seen.starts, note) == ([9, 9], ", all of which the fit saw")
    assert "coverage" not in task.score(network, seen, task.encode(seen)), "the intervals were fitted to these"
    assert "coverage" not in task.details(network, seen, task.encode(seen))
    with pytest.raises(
        DataError, match=r"series 'a' has 3 values that the fit did not see, after 50 others; .* takes 5 of them, after 9"
    ):
        task.held_out(until(PANEL, 53))
    with pytest.raises(DataError, match=r"has 10 values that the fit did not see, after 0 others"):
        task.held_out(since(until(PANEL, 60), 50))
    new, note = task.held_out(panel(series("new", 30)))
    assert (new.starts, note) == ([9], ", which the fit did not see")
