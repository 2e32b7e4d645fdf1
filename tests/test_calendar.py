"""What a forecast sees of the calendar."""

from __future__ import annotations

import numpy as np
import pytest

from throughtime.transforms.calendar import calendar, cycles_seen


def test_cycles_are_circles() -> None:
    hours = np.arange("2024-01-01", "2024-03-01", dtype="M8[h]").astype("M8[s]")
    found = calendar(hours, ("day", "week"))
    assert found.shape == (len(hours), 8)
    np.testing.assert_allclose(found[24:], calendar(hours, ("day", "week"))[24:])
    np.testing.assert_allclose(found[:-24, :4], found[24:, :4], atol=1e-5)
    np.testing.assert_allclose(found[:-168], found[168:], atol=1e-5)
    np.testing.assert_allclose(found[:, 0] ** 2 + found[:, 1] ** 2, 1, atol=1e-5)
    assert len(np.unique(found[:168].round(4), axis=0)) == 168, "every hour of the week has a place of its own"
    np.testing.assert_allclose(found[6, :4], [1, 0, 0, -1], atol=1e-6)
    assert calendar(hours, ()).shape == (len(hours), 0)


def test_years_begin_with_january_in_leap_years_too() -> None:
    firsts = np.array(["2023-01-01", "2024-01-01", "2025-01-01", "1969-01-01"], "M8[s]")
    np.testing.assert_allclose(calendar(firsts, ("year",)), [[0, 1, 0, 1]] * 4, atol=1e-6)


@pytest.mark.parametrize(
    ("unit", "start", "stop", "expected"),
    [
        ("h", "2024-01-01", "2024-01-02", ()),
        ("h", "2024-01-01", "2024-01-04", ("day",)),
        ("h", "2024-01-01", "2024-03-01", ("day", "week")),
        ("D", "2020-01-01", "2022-03-01", ("week", "year")),
        ("M", "2020-01", "2021-01", ()),
        ("M", "2020-01", "2024-01", ("year",)),
        ("Y", "1900", "2000", ()),
    ],
)
def test_only_cycles_that_come_round_twice(unit: str, start: str, stop: str, expected: tuple[str, ...]) -> None:
    assert cycles_seen(np.arange(start, stop, dtype=f"M8[{unit}]").astype("M8[s]"), unit) == expected


def test_plain_steps_have_no_calendar() -> None:
    assert cycles_seen(np.arange(1000), "step") == ()
