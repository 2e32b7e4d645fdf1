"""Missing numbers in sequences: refused by name, interpolated, or left as NaN for the model to see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from throughtime.data.files import plural
from throughtime.errors import DataError

Policy = Literal["error", "interpolate", "mask"]
MEND = "--missing interpolate fills it in, --missing mask lets the model see that it is missing"


_ROWS = 1 << 16
"""Rows that are looked at together."""


def settle(
    values: NDArray[Any], codes: NDArray[np.int64], policy: Policy, name: Callable[[int, int], str]
) -> tuple[NDArray[np.float64], int]:
    """The values, with NaN and infinities treated as ``policy`` says.

    They stay in double precision: single precision is enough once they are scaled, but not for a small change at a high level.

    Interpolation is linear in the steps of a sequence; before its first and after its last value that value is held.

    Args:
        values: steps of all sequences, one sequence after the other; ``[N, F]``. Float64 is changed in place: it may be large.
        codes: which sequence each step belongs to; ``[N]``.
        policy: what to do.
        name: the place of a row and column of ``values``, for the message.

    Returns:
        The values ``[N, F]``, and how many were missing.

    Raises:
        DataError: something is missing and ``policy`` is ``"error"``, or a sequence has no value at all to interpolate from.

    Example:
        >>> settle(np.array([[1.0], [np.nan], [3.0]]), np.zeros(3, np.int64), "interpolate", lambda row, column: f"row {row}")
        (array([[1.],
               [2.],
               [3.]]), 1)
    """
    settled = values.astype(np.float64, copy=False)
    count, first, columns = 0, (-1, -1), np.zeros(settled.shape[1], bool)
    for start in range(0, len(settled), _ROWS):
        missing = ~np.isfinite(settled[start : start + _ROWS])
        if not missing.any():
            continue
        if not count:
            row, column = np.argwhere(missing)[0]
            first = (start + int(row), int(column))
        count += int(missing.sum())
        columns |= missing.any(axis=0)
        if policy != "error":
            settled[start : start + _ROWS][missing] = np.nan
    if count and policy == "error":
        more = f" (and {count - 1:,} more)" if count > 1 else ""
        what = "missing" if np.isnan(settled[first]) else "infinite"
        raise DataError(f"{name(*first)}: the number is {what}{more}; {MEND}")
    if policy == "interpolate":
        for column in np.flatnonzero(columns):
            _interpolate(settled, np.isnan(settled[:, column]), int(column), codes, name)
    return settled, count


def _interpolate(
    values: NDArray[np.float64],
    missing: NDArray[np.bool_],
    column: int,
    codes: NDArray[np.int64],
    name: Callable[[int, int], str],
) -> None:
    """Fill one column in, in place."""
    holes, known = np.flatnonzero(missing), np.flatnonzero(~missing)
    after = np.searchsorted(known, holes)
    left = known[np.maximum(after - 1, 0)] if len(known) else holes
    right = known[np.minimum(after, len(known) - 1)] if len(known) else holes
    has_left = (after > 0) & (codes[left] == codes[holes]) & (len(known) > 0)
    has_right = (after < len(known)) & (codes[right] == codes[holes])
    empty = np.flatnonzero(~has_left & ~has_right)
    if len(empty):
        raise DataError(
            f"{name(int(holes[empty[0]]), column)}: the sequence has no number at all here to interpolate from; "
            "leave it out, or use --missing mask"
        )
    share = np.where(has_left & has_right, (holes - left) / np.maximum(right - left, 1), np.where(has_left, 0.0, 1.0))
    low, high = np.where(has_left, values[left, column], 0.0), np.where(has_right, values[right, column], 0.0)
    values[holes, column] = low * (1 - share) + high * share


def done(count: int, noun: str, policy: Policy, where: str = "") -> list[str]:
    """What the user is told of ``count`` things that were missing: one line, or none.

    Example:
        >>> done(1, "missing number", "interpolate")
        ['1 missing number was interpolated']
    """
    if count == 0:
        return []
    what = "interpolated" if policy == "interpolate" else "left missing, and shown to the model as such"
    return [f"{plural(count, noun)}{where} {'was' if count == 1 else 'were'} {what}"]
