"""The tasks with a known lag: their targets follow from their inputs, and guessing scores what is said."""

from __future__ import annotations

import numpy as np
import pytest

from throughtime.errors import SettingsError
from throughtime.experiments.lags import ADDING_CHANCE, ORDER_CHANCE, ORDERS, SYMBOLS, Lagged, adding, temporal_order


def drawn(task: object, steps: int, batch: int, seed: int = 0) -> Lagged:
    return task(steps, batch, np.random.default_rng(seed))  # type: ignore[operator]


@pytest.mark.parametrize("steps", [10, 11, 30, 57, 100])
def test_temporal_order_asks_for_the_order_of_its_two_informative_symbols(steps: int) -> None:
    task = drawn(temporal_order, steps, 300)
    assert task.inputs.dtype == np.float32
    assert task.inputs.shape == (steps, 300, SYMBOLS)
    for sample in range(300):
        symbols = []
        for step in range(steps):
            (hot,) = np.flatnonzero(task.inputs[step, sample])
            assert task.inputs[step, sample, hot] == 1
            if hot >= 4:
                symbols.append((step, "XY"[hot - 4]))
        (first, one), (second, other) = symbols
        assert steps // 10 <= first <= 2 * steps // 10
        assert 4 * steps // 10 <= second <= 5 * steps // 10
        assert ORDERS[task.targets[sample]] == f"{one} {other}"
        assert task.informative[:, sample].tolist() == [first, second]
        assert task.lags[:, sample].tolist() == [steps - 1 - first, steps - 1 - second]


@pytest.mark.parametrize("steps", [2, 3, 10, 51])
def test_adding_asks_for_the_sum_of_its_two_marked_numbers(steps: int) -> None:
    task = drawn(adding, steps, 200)
    assert task.inputs.dtype == task.targets.dtype == np.float32
    assert ((task.inputs[..., 0] >= 0) & (task.inputs[..., 0] < 1)).all()
    for sample in range(200):
        total, where = np.float32(0), []
        for step in range(steps):
            number, mark = task.inputs[step, sample]
            assert mark in (0, 1)
            if mark:
                total += number
                where.append(step)
        first, second = where
        assert first < steps // 2 <= second
        assert task.informative[:, sample].tolist() == where
        assert task.targets[sample] == total


def test_all_steps_allowed_are_informative_in_some_sample() -> None:
    first, second = drawn(temporal_order, 40, 2000).informative
    assert set(first) == set(range(4, 9))
    assert set(second) == set(range(16, 21))
    first, second = drawn(adding, 9, 2000).informative
    assert set(first) == set(range(4))
    assert set(second) == set(range(4, 9))


def test_guessing_scores_what_is_said() -> None:
    # Each bound is five standard errors of a mean of n.
    n = 40_000
    classes = drawn(temporal_order, 10, n).targets
    share = np.bincount(classes, minlength=4) / n
    np.testing.assert_allclose(share, ORDER_CHANCE, rtol=0, atol=5 * np.sqrt(0.25 * 0.75 / n))
    sums = drawn(adding, 4, n).targets.astype(np.float64)
    errors = (sums - 1) ** 2
    assert errors.mean() == pytest.approx(ADDING_CHANCE, rel=0, abs=5 * errors.std() / np.sqrt(n))
    assert sums.mean() == pytest.approx(1, rel=0, abs=5 * sums.std() / np.sqrt(n))


def test_the_distractors_say_nothing_of_the_class() -> None:
    n = 20_000
    task = drawn(temporal_order, 10, n)
    # Distractors only: a sample's counts of the four, by its class, differ by no more than chance lets them.
    counts = task.inputs[..., :4].sum(0)
    means = np.stack([counts[task.targets == order].mean(0) for order in range(4)])
    np.testing.assert_allclose(means, 2.0, rtol=0, atol=5 * counts.std() / np.sqrt(n / 4))


@pytest.mark.parametrize("task", [temporal_order, adding])
def test_a_seed_gives_the_same_batch_and_another_seed_another(task: object) -> None:
    one, again, other = drawn(task, 20, 8, seed=3), drawn(task, 20, 8, seed=3), drawn(task, 20, 8, seed=4)
    for name in ("inputs", "targets", "informative"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
    assert not np.array_equal(one.inputs, other.inputs)


@pytest.mark.parametrize(("task", "least"), [(temporal_order, 10), (adding, 2)])
def test_too_little_is_refused_in_one_line(task: object, least: int) -> None:
    drawn(task, least, 1)
    for steps, batch, found in ((least - 1, 5, f"steps is {least - 1}"), (least, 0, "batch is 0"), (-3, 5, "steps is -3")):
        with pytest.raises(SettingsError, match=found) as refused:
            drawn(task, steps, batch)
        assert "\n" not in str(refused.value)
