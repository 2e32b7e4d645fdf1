"""Batches of sequences of different lengths: every row once, bounds kept, and nothing depends on more than seed and epoch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from throughtime.data.batches import Ragged, in_order_of_length, shuffled_by_length

LENGTHS = st.lists(st.integers(0, 60), max_size=150).map(lambda lengths: np.array(lengths, np.int64))


def naive(sequences: list[np.ndarray], rows: list[int], fill: float) -> np.ndarray:
    """Step by step, sequence by sequence."""
    steps = max([len(sequences[row]) for row in rows] + [1])
    result = np.full((steps, len(rows), *sequences[0].shape[1:]), fill, sequences[0].dtype)
    for column, row in enumerate(rows):
        for step, value in enumerate(sequences[row]):
            result[step, column] = value
    return result


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=12),
    st.sampled_from([(), (3,), (2, 2)]),
    st.sampled_from([np.int32, np.float32, np.uint8]),
    st.sampled_from([0, 5]),
    st.data(),
)
def test_padding(lengths: list[int], inner: tuple[int, ...], dtype: type, fill: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(len(lengths))
    sequences = [rng.integers(0, 200, (length, *inner)).astype(dtype) for length in lengths]
    ragged = Ragged.of(sequences)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=9))
    found = ragged.padded(np.array(rows, np.int64), fill)
    expected = naive(sequences, rows, fill)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    assert (found == expected).all()
    assert len(ragged) == len(lengths)
    assert ragged.lengths.tolist() == lengths
    for row, sequence in enumerate(sequences):
        assert (ragged[row] == sequence).all()


def test_padding_may_be_nan_and_does_not_reach_the_data() -> None:
    ragged = Ragged.of([np.array([1.0, 2.0]), np.array([3.0])])
    padded = ragged.padded(np.array([1, 0]), fill=np.nan)
    assert np.array_equal(padded, [[3.0, 1.0], [np.nan, 2.0]], equal_nan=True)
    padded[:] = -1
    assert ragged.values.tolist() == [1.0, 2.0, 3.0]


def test_no_sequences() -> None:
    ragged = Ragged.of([])
    assert len(ragged) == 0
    assert ragged.lengths.tolist() == []
    assert shuffled_by_length(ragged.lengths, 4, 0, 0) == []
    assert in_order_of_length(ragged.lengths, 10) == []


@settings(deadline=None, max_examples=60)
@given(LENGTHS, st.integers(1, 9), st.integers(0, 5), st.integers(0, 5))
def test_shuffled_batches_hold_every_row_once(lengths: np.ndarray, batch: int, seed: int, epoch: int) -> None:
    batches = shuffled_by_length(lengths, batch, seed, epoch)
    rows = np.concatenate(batches) if batches else np.zeros(0, np.int64)
    assert sorted(rows) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch)
    assert sorted(map(len, batches))[1:] == [batch] * (len(batches) - 1), "only one batch is smaller"
    again = shuffled_by_length(lengths.copy(), batch, seed, epoch)
    assert [rows.tolist() for rows in again] == [rows.tolist() for rows in batches]


def test_batches_are_of_about_one_length_and_differ_from_epoch_to_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 4000)
    batches = shuffled_by_length(lengths, 16, 0, 0)
    padded = sum(len(rows) * lengths[rows].max() for rows in batches)
    assert padded < 1.06 * lengths.sum(), "little is padding"
    firsts = [lengths[rows].mean() for rows in batches]
    assert abs(np.corrcoef(firsts, np.arange(len(firsts)))[0, 1]) < 0.2, "short ones do not come first"
    orders = {tuple(np.concatenate(shuffled_by_length(lengths, 16, seed, epoch))) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


@settings(deadline=None, max_examples=100)
@given(LENGTHS, st.integers(1, 200))
def test_batches_for_scoring_keep_within_their_steps(lengths: np.ndarray, steps: int) -> None:
    batches = in_order_of_length(lengths, steps)
    rows = np.concatenate(batches) if batches else np.zeros(0, np.int64)
    assert sorted(rows) == list(range(len(lengths)))
    assert (np.diff(lengths[rows]) >= 0).all(), "longest last"
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= steps
    for first, second in pairwise(batches):
        assert (len(first) + 1) * max(lengths[second[0]], 1) > steps, "no batch is smaller than it must be"


@pytest.mark.parametrize("steps", [1, 100])
def test_sequences_of_length_0_are_scored_too(steps: int) -> None:
    batches = in_order_of_length(np.zeros(250, np.int64), steps)
    assert sum(map(len, batches)) == 250
    assert max(map(len, batches)) <= steps
