"""The activation functions and their slopes, the slope written in terms of the activated value."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def sigmoid(a: Array) -> Array:
    """``1 / (1 + exp(-a))`` without overflow: the exponential is only ever taken of a number below zero.

    Example:
        >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    small = np.exp(-np.abs(a))
    return np.where(a >= 0, 1.0, small) / (1.0 + small)


def sigmoid_slope(y: Array) -> Array:
    """The derivative of the sigmoid where its value is ``y``; at most 1/4, which is why it vanishes."""
    return y * (1.0 - y)


def tanh_slope(y: Array) -> Array:
    """The derivative of tanh where its value is ``y``."""
    return 1.0 - y * y


def relu(a: Array) -> Array:
    """``max(a, 0)``; NaN stays NaN."""
    return np.maximum(a, 0.0)


def relu_slope(y: Array) -> Array:
    """The derivative of ReLU where its value is ``y``: 0 at the kink, as torch has it."""
    return np.where(y <= 0, 0.0, 1.0)


class Activation(NamedTuple):
    """A function and its slope: ``y = function(a)``, ``dy/da = slope(y)``."""

    function: Callable[[Array], Array]
    slope: Callable[[Array], Array]


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(np.tanh, tanh_slope),
    "relu": Activation(relu, relu_slope),
    "sigmoid": Activation(sigmoid, sigmoid_slope),
    "identity": Activation(np.copy, np.ones_like),
}
"""The nonlinearities of a simple RNN, by name."""
