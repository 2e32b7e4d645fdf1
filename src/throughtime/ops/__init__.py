"""Recurrent layers as torch operators: native kernels where they serve, plain torch operators elsewhere."""

from throughtime.ops import registered as registered
from throughtime.ops.layer import layer as layer
from throughtime.ops.native import LayerWeights as LayerWeights, Layout as Layout
