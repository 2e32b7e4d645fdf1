"""The oracle: every cell forward and backward in NumPy, float64, a plain loop over time, derived by hand.

It judges the native kernels, the torch operators and the stream alike, and it is written to be read: every
intermediate value of a pass is a named, public array. One layer in one direction; stacking is the caller's.

Shapes: T steps, B batch, I inputs, H hidden, P projected (= H without a projection), G gates.
"""

from throughtime.reference._activations import ACTIVATIONS as ACTIVATIONS, Array as Array
from throughtime.reference._backward import Backward as Backward, backward as backward
from throughtime.reference._forward import Forward as Forward, forward as forward
from throughtime.reference._pointwise import (
    POINTWISE as POINTWISE,
    Gates as Gates,
    Moment as Moment,
    split_gates as split_gates,
)
from throughtime.reference._probe import probe as probe
from throughtime.reference._weights import Weights as Weights

__all__ = [
    "ACTIVATIONS",
    "POINTWISE",
    "Array",
    "Backward",
    "Forward",
    "Gates",
    "Moment",
    "Weights",
    "backward",
    "forward",
    "probe",
    "split_gates",
]
