"""Scores of numbers: regression, forecasts, and the likelihood of text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from throughtime.tasks.metrics._scores import Scored


@dataclass(frozen=True)
class Regression(Scored):
    """Scores of numbers; see :func:`regression`."""

    mae: float
    rmse: float
    r2: float | None


@dataclass(frozen=True)
class Forecasting(Scored):
    """Scores of forecasts; see :func:`forecasting`."""

    mae: float
    rmse: float
    mase: float | None
    smape: float
    coverage: float | None
    per_step_mae: NDArray[np.float64]


@dataclass(frozen=True)
class Language(Scored):
    """Scores of a language model; see :func:`language`."""

    nats_per_token: float
    nats_per_character: float
    bits_per_character: float
    perplexity: float


def regression(truth: ArrayLike, predicted: ArrayLike) -> Regression:
    """Score predicted numbers.

    Args:
        truth: ``[n]``; for a number per step, those of all sequences behind each other.
        predicted: ``[n]``.

    Returns:
        With errors ``e = truth - predicted``: ``mae``, the mean of ``|e|``; ``rmse``, the root of the mean of ``e^2``; ``r2``,
        ``1 - sum e^2 / sum (truth - mean truth)^2`` (``None`` where the truth does not vary).

    Raises:
        ValueError: nothing to score, shapes that do not fit, a number that is not finite.

    Example:
        >>> regression([1., 2., 3.], [1., 2., 5.])
        Regression(mae=0.6666666666666666, rmse=1.1547005383792515, r2=-1.0)
    """
    true, guess = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if true.ndim != 1 or true.shape != guess.shape or not len(true):
        raise ValueError(f"truth is {list(true.shape)} and predicted {list(guess.shape)}, expected [n] twice with n above 0")
    if not (np.isfinite(true).all() and np.isfinite(guess).all()):
        raise ValueError("truth or predicted holds a number that is not finite")
    error = true - guess
    spread = np.square(true - true.mean()).sum()
    r2 = float(1 - np.square(error).sum() / spread) if np.ptp(true) > 0 and spread > 0 else None
    return Regression(float(np.abs(error).mean()), _root_mean_square(error), r2)


def forecasting(
    truth: ArrayLike,
    predicted: ArrayLike,
    scale: ArrayLike,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
) -> Forecasting:
    """Score forecasts of N windows, H steps each.

    Args:
        truth: ``[N, H]``; NaN is missing and not scored.
        predicted: ``[N, H]``.
        scale: ``[N]``, for each window the mean ``|y_t - y_(t - season)|`` over the training part of its series: the error,
            there, of repeating the last season. A window whose scale is 0 or NaN does not count in MASE.
        lower: ``[N, H]``, the lower end of an interval.
        upper: ``[N, H]``, its upper end.

    Returns:
        With errors ``e = truth - predicted``: ``mae``, the mean of ``|e|``; ``rmse``, the root of the mean of ``e^2``;
        ``mase``, the mean of ``|e| / scale`` (``None`` if no window has a scale); ``smape``, the mean of ``200 |e| / (|truth| +
        |predicted|)``, so in percent from 0 to 200, a step where both are 0 counting as 0; ``coverage``, the share of truths
        within the interval, its ends included (``None`` without one); ``per_step_mae``, ``[H]``, the MAE of each step (NaN
        where all truths are missing).

    Raises:
        ValueError: nothing to score, shapes that do not fit, a forecast that is not finite, an interval with one end.

    Example:
        >>> result = forecasting([[1., 2.], [3., float("nan")]], [[1., 1.], [5., 0.]], scale=[1., 2.])
        >>> result.mae, round(result.mase, 4), result.per_step_mae.tolist()
        (1.0, 0.6667, [1.0, 1.0])

    Source:
        MASE: Hyndman and Koehler 2006, "Another look at measures of forecast accuracy", with the seasonal scale of the M4
            competition, and sMAPE as
        there (Makridakis, Spiliotis and Assimakopoulos 2020).
    """
    true, guess, unit = (np.asarray(values, dtype=np.float64) for values in (truth, predicted, scale))
    if true.ndim != 2 or true.shape != guess.shape or unit.shape != true.shape[:1]:
        shapes = f"truth is {list(true.shape)}, predicted {list(guess.shape)} and scale {list(unit.shape)}"
        raise ValueError(f"{shapes}, expected [N, H] twice and [N]")
    there = ~np.isnan(true)
    if not there.any():
        raise ValueError("there is no true value to score")
    if not np.isfinite(guess[there]).all():
        raise ValueError("predicted holds a number that is not finite")
    error = np.where(there, np.abs(true - guess), 0.0)
    size = np.where(there, np.abs(true) + np.abs(guess), 0.0)
    scaled = there & (np.isfinite(unit) & (unit > 0))[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = error / unit[:, None]
        per_step = error.sum(axis=0) / there.sum(axis=0)
    return Forecasting(
        mae=float(error[there].mean()),
        rmse=_root_mean_square(error[there]),
        mase=float(relative[scaled].mean()) if scaled.any() else None,
        smape=float(200 * np.divide(error, size, out=np.zeros_like(error), where=size > 0)[there].mean()),
        coverage=_coverage(true, lower, upper),
        per_step_mae=per_step,
    )


def language(nats: float, tokens: int, characters: int, documents: int = 0) -> Language:
    """Score the likelihood that a language model gives to text.

    Args:
        nats: the sum of ``-ln p(token)`` over all tokens, ends of documents included where they are predicted.
        tokens: how many tokens that is, ends included.
        characters: the characters of the text; they let models with different tokens be compared.
        documents: the ends among the tokens; each counts as one character more, so that for a model of characters both are the
            same.

    Returns:
        ``nats_per_token``; ``nats_per_character``, ``nats / (characters + documents)``; ``bits_per_character``, the same over
        ``ln 2``; ``perplexity``, ``exp(nats_per_token)``, for each token.

    Raises:
        ValueError: nothing to score.

    Example:
        >>> result = language(nats=1386.3, tokens=500, characters=1000)
        >>> round(result.nats_per_token, 3), round(result.bits_per_character, 3), round(result.perplexity, 2)
        (2.773, 2.0, 16.0)
    """
    if tokens <= 0 or characters + documents <= 0:
        raise ValueError(f"there are {tokens} tokens and {characters} characters, expected some")
    by_character = nats / (characters + documents)
    with np.errstate(over="ignore"):
        perplexity = float(np.exp(nats / tokens))
    return Language(float(nats / tokens), float(by_character), float(by_character / np.log(2)), perplexity)


def _root_mean_square(error: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(error).mean()))


def _coverage(true: NDArray[np.float64], lower: ArrayLike | None, upper: ArrayLike | None) -> float | None:
    if lower is None and upper is None:
        return None
    if lower is None or upper is None:
        raise ValueError("an interval has one end, expected both lower and upper, or none")
    low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    if low.shape != true.shape or high.shape != true.shape:
        raise ValueError(f"lower is {list(low.shape)} and upper {list(high.shape)}, expected {list(true.shape)}")
    there = ~np.isnan(true)
    return float(((low <= true) & (true <= high))[there].mean())
