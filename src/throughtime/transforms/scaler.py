"""Numbers to mean 0 and deviation 1, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from throughtime.errors import DataError, RunError
from throughtime.transforms._saved import NAMES, NUMBERS, TRUTH, checked, saved


@dataclass(frozen=True)
class Scaler:
    """Mean and deviation of each of F features, over all steps of the training sequences.

    A single number, such as the target of a regression, is one feature: give it the shape ``[n, 1]``.

    Args:
        features: their names.
        mean: what is taken off.
        scale: what is divided by: the deviation, or 1 for a feature that does not change.
        mask: whether every feature has a channel that says where it is missing.

    Example:
        >>> x = np.array([[1.0, 10.0], [3.0, 10.0], [np.nan, 10.0]])
        >>> scaler = Scaler.fit([x], ("speed", "height"), mask=True)
        >>> scaler.mean, scaler.scale, scaler.channels
        ((2.0, 10.0), (1.0, 1.0), 4)
        >>> scaler.transform(x).tolist()
        [[-1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
        >>> scaler.inverse([[-1.0, 0.0]])
        array([[ 1., 10.]])
    """

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    mask: bool

    @classmethod
    def fit(cls, sequences: Iterable[NDArray[Any]], features: Sequence[str], mask: bool = False) -> Scaler:
        """One pass over the training sequences; NaN is missing and counts for nothing.

        Args:
            sequences: arrays ``[T, F]``.
            features: the names of the F features.
            mask: whether every feature gets a channel that says where it is missing; data to come may lack what the
                training part has.

        Raises:
            DataError: a feature with numbers that are infinite, or too large to be squared.

        Source: Chan, Golub and LeVeque 1979, for joining the sums of parts without loss of digits.
        """
        F = len(features)
        seen, mean, squares = np.zeros(F), np.zeros(F), np.zeros(F)
        for sequence in sequences:
            x = np.asarray(sequence, np.float64)  # [T, F]
            known = ~np.isnan(x)
            n = known.sum(0)
            with np.errstate(over="ignore", invalid="ignore"):  # infinities are named below
                of_part = np.where(known, x, 0.0).sum(0) / np.maximum(n, 1)
                apart = np.where(n > 0, of_part - mean, 0.0)
                of_squares = np.where(known, (x - of_part) ** 2, 0.0).sum(0)
                total = np.maximum(seen + n, 1)
                squares += of_squares + apart**2 * (seen * n / total)
                mean += apart * (n / total)
            seen += n
        deviation = np.sqrt(squares / np.maximum(seen, 1))
        if (wrong := np.flatnonzero(~np.isfinite(mean + deviation))).size:
            raise DataError(
                f"{features[wrong[0]]}: has numbers that are infinite or beyond 1e150; correct them or leave the column out"
            )
        # What rounding leaves of a constant is no deviation.
        scale = np.where(deviation > 1e-12 * np.abs(mean), deviation, 1.0)
        return cls(tuple(features), tuple(mean.tolist()), tuple(scale.tolist()), mask)

    @property
    def channels(self) -> int:
        """The width of what ``transform`` returns: F, or twice that with a mask."""
        return len(self.features) * (2 if self.mask else 1)

    def transform(self, values: ArrayLike) -> NDArray[np.float32]:
        """Scaled features, then the mask: 1 where a feature is missing, which is 0 itself then.

        Args:
            values: ``[..., F]``.

        Returns:
            float32 ``[..., channels]``.

        Raises:
            DataError: an infinity, NaN in a feature that has no indicator, or a number that is too far off for single
                precision once it is scaled.
        """
        x = np.asarray(values, np.float64)
        missing = np.isnan(x)
        wrong = np.isinf(x) if self.mask else ~np.isfinite(x)
        if wrong.any():
            *step, feature = (int(index) for index in np.argwhere(wrong)[0])
            raise DataError(
                f"{self.features[feature]}, step {(step or [0])[-1] + 1}: is {x[(*step, feature)]}, expected a number"
                + (
                    "; --missing interpolate fills in, --missing mask learns from what is missing"
                    if missing[(*step, feature)]
                    else ""
                )
            )
        scaled = np.where(missing, 0.0, (x - self.mean) / self.scale)
        if (far := np.argwhere(np.abs(scaled) > np.finfo(np.float32).max)).size:
            *step, feature = (int(index) for index in far[0])
            raise DataError(
                f"{self.features[feature]}, step {(step or [0])[-1] + 1}: is {x[(*step, feature)]:g}, too far from the numbers "
                f"of the training part (mean {self.mean[feature]:g}, deviation {self.scale[feature]:g}); correct it"
            )
        return np.concatenate([scaled, missing] if self.mask else [scaled], axis=-1, dtype=np.float32)

    def inverse(self, scaled: ArrayLike) -> NDArray[np.float64]:
        """The numbers that were scaled; float64 ``[..., F]``.

        Args:
            scaled: ``[..., F]``, without the mask.
        """
        return np.asarray(scaled, np.float64) * self.scale + self.mean

    def to_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        return saved("scaler", features=list(self.features), mean=list(self.mean), scale=list(self.scale), mask=self.mask)

    @classmethod
    def from_json(cls, data: Any) -> Scaler:
        """What ``to_json`` wrote.

        Raises:
            RunError: damaged, or of another kind or version.
        """
        values = checked(data, "scaler", features=NAMES, mean=NUMBERS, scale=NUMBERS, mask=TRUTH)
        columns = {name: values[name] for name in ("features", "mean", "scale")}
        if len({len(column) for column in columns.values()}) > 1 or not all(scale > 0 for scale in values["scale"]):
            raise RunError("scaler: the columns differ in length, or a scale is not above 0; the file is damaged")
        return cls(**{name: tuple(column) for name, column in columns.items()}, mask=values["mask"])
