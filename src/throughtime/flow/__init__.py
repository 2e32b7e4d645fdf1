"""Gradient flow through time: how much of the gradient is left, how many steps back, and where it is lost.

``with tt.flow.record(model) as flow: loss.backward()`` measures; see :func:`record`.
"""

from throughtime.flow._layer import Counts as Counts, Gains as Gains, LayerFlow as LayerFlow
from throughtime.flow._record import Flow as Flow, record as record
