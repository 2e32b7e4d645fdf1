"""The network that forecasts, the windows it reads, and its loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from throughtime.settings import ModelSettings
from throughtime.tasks.base import Batch, Feed
from throughtime.tasks.dropout import Dropout
from throughtime.tasks.linear import Linear
from throughtime.tasks.networks import forecast_with_ends, recurrent_part
from throughtime.tasks.windows import Layout, PanelWindows, Windows

LEVEL = 0.9
"""The share of values that an interval is meant to hold."""

_EPOCH_WINDOWS = 8192


@dataclass(frozen=True)
class EncodedPanel:
    """Windows of a part, and the origins to forecast from ``[N, 2]``."""

    windows: PanelWindows
    origins: NDArray[np.int64]


@dataclass
class WindowBatch(Batch):
    """Windows as tensors: features ``[W + H, B, D]``, scaled past ``[B, W]`` and future ``[B, H]``."""

    features: Tensor
    past: Tensor
    future: Tensor


class WindowFeed(Feed):
    """Windows in random order; of very many, a part in each epoch."""

    def __init__(self, encoded: EncodedPanel, batch: int, seed: int) -> None:
        self.encoded, self.size, self.seed = encoded, batch, seed
        self.windows = min(len(encoded.origins), _EPOCH_WINDOWS)
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def __len__(self) -> int:
        return -(-self.windows // self.size)

    def batch(self, epoch: int, index: int) -> WindowBatch:
        """Some windows."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self.encoded.origins))[: self.windows]
        rows = self._order[index * self.size : (index + 1) * self.size]
        return batch_of(self.encoded.windows.cut(self.encoded.origins[rows]))


class ForecastNetwork(nn.Module):
    """Recurrent layers over past and future steps, on top of a linear forecast from the window.

    The linear part does what a linear model can; the recurrent one learns what is left over, and the intervals.

    Args:
        settings: of the model.
        layout: of the windows.
        width: features of a step.
        linear: weights ``[H, W]`` and bias ``[H]`` to start from.

    Source: Lai et al. 2018 (LSTNet), arXiv:1703.07015, for the linear part beside the recurrent one.
    """

    def __init__(self, settings: ModelSettings, layout: Layout, width: int, linear: Linear) -> None:
        super().__init__()
        assert settings.dropout is not None
        self.horizon = layout.horizon
        self.linear = nn.Linear(layout.window, layout.horizon)
        self.rnn = recurrent_part(settings, width)
        self.dropout = Dropout(settings.dropout)
        self.head = nn.Linear(self.rnn.hidden_size, 3)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(linear[0]))
            self.linear.bias.copy_(torch.from_numpy(linear[1]))
            self.head.weight[0] = 0  # at first the forecast is the linear one
            self.head.bias.copy_(torch.tensor([0.0, -1.0, -1.0]))
        self.linear.requires_grad_(False)  # trained together, it would fit the noise of few windows

    def forward(self, features: Tensor, past: Tensor) -> Tensor:
        """Scaled forecast, lower and upper end, ``[B, H, 3]``."""
        hidden, _ = self.rnn(features)
        said = self.head(self.dropout(hidden[-self.horizon :])).transpose(0, 1)
        return forecast_with_ends(self.linear(past) + said[:, :, 0], said[:, :, 1], said[:, :, 2])


def batch_of(windows: Windows) -> WindowBatch:
    """Windows as tensors."""
    lengths = torch.full((windows.features.shape[1],), windows.features.shape[0])
    past, future = (torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for x in (windows.past, windows.future))
    return WindowBatch(lengths, torch.from_numpy(windows.features), past, future)


def criterion(said: Tensor, future: Tensor) -> Tensor:
    """Smooth absolute error of the forecast, and the pinball losses of both ends; what is missing counts for nothing."""
    inside = ~torch.isnan(future)
    truth = future[inside]
    middle, lower, upper = (said[:, :, i][inside] for i in range(3))
    tail = (1 - LEVEL) / 2
    # The ends learn their distance only: they must not pull at the forecast.
    low, high = middle.detach() - (middle - lower), middle.detach() + (upper - middle)
    return nn.functional.smooth_l1_loss(middle, truth) + _pinball(truth - low, tail) + _pinball(truth - high, 1 - tail)


def _pinball(error: Tensor, level: float) -> Tensor:
    return torch.maximum(level * error, (level - 1) * error).mean()
