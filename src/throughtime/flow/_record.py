"""Recording the gradient on its way back through a model's recurrent layers."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import torch

from throughtime.errors import NotRecordedError
from throughtime.flow._layer import LayerFlow, layer_flow
from throughtime.nn._recurrent import Recurrent
from throughtime.ops import taps

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def record(model: torch.nn.Module, every: int = 1, *, probe: bool = True, delta: bool = False) -> Flow:
    """Record how the gradient flows back through time in every recurrent layer of ``model``.

    Use it as a context manager around the backward pass. The forward pass may have run before, except where no native kernel
    serves (see ``tt.nn.backend``): there both belong inside. No bit of any gradient is changed; but where torch's own operators
    would run (CUDA, reduced precision, autocast), which let nobody look inside, a recorded pass runs step by step in the
    weights' dtype instead, slowly, and agrees with an unrecorded one to rounding.

    Args:
        model: any module that holds ``tt.nn.RNN``, ``GRU`` or ``LSTM`` (``tt.nn.convert`` puts them there).
        every: measure only every so many backward passes through a layer; the newest measurement is the one shown.
        probe: also run the probe, which :meth:`Flow.horizon` needs: one more way back without weight gradients.
        delta: also keep dL/dh_t itself, for every step.

    Returns:
        The recording; inside and after the ``with`` block, its ``layers`` and ``horizon`` tell what was measured.

    Raises:
        ValueError: a model without such a module, or ``every`` below 1.
        RuntimeError: one of them is being recorded already.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> rnn = tt.nn.RNN(3, 16)
        >>> output, h_n = rnn(torch.randn(100, 8, 3))
        >>> with tt.flow.record(rnn) as flow:
        ...     h_n.sum().backward()
        >>> flow
        Flow(l0)
        >>> flow.layers[0].name, flow.layers[0].gain.shape
        ('l0', (100,))
        >>> 2 < flow.horizon(0.01) < 40
        True
    """
    return Flow(model, every, probe=probe, delta=delta)


class Flow:
    """A recording, see :func:`record`."""

    def __init__(self, model: torch.nn.Module, every: int = 1, *, probe: bool = True, delta: bool = False) -> None:
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"every is {every!r}, expected a whole number of at least 1")
        self._every = every
        self._wish = taps.Wish(probe=probe, delta=delta)
        self._names = _tap_names(model)
        if not self._names:
            raise ValueError(
                f"{type(model).__name__} holds no tt.nn.RNN, GRU or LSTM to record"
                + ("; tt.nn.convert(model) makes them of torch.nn's" if _holds_torch_modules(model) else "")
            )
        self._passes = dict.fromkeys(self._names, 0)
        self._measured: dict[int, taps.Measurement] = {}
        self._layers: dict[int, tuple[taps.Measurement, LayerFlow]] = {}

    def __repr__(self) -> str:
        names = ", ".join(layer.name for layer in self.layers)
        return f"Flow({names})" if names else f"Flow(nothing recorded yet of {', '.join(self._names.values())})"

    def __enter__(self) -> Flow:
        subscribed = []
        try:
            for tap in self._names:
                taps.subscribe(tap, self)
                subscribed.append(tap)
        except RuntimeError:
            for tap in subscribed:
                taps.unsubscribe(tap)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for tap in self._names:
            taps.unsubscribe(tap)

    # What the backward pass asks, see ops/taps.py.

    def wants(self, tap: int) -> taps.Wish | None:
        """Whether to measure the backward pass that asks."""
        self._passes[tap] += 1
        return self._wish if (self._passes[tap] - 1) % self._every == 0 else None

    def receive(self, tap: int, measurement: taps.Measurement) -> None:
        """Take what was measured."""
        self._measured[tap] = measurement

    # What the user asks.

    @property
    def layers(self) -> list[LayerFlow]:
        """One :class:`LayerFlow` per module, layer and direction that a backward pass has gone through, in the model's order.

        A module that is called several times in one forward pass shows the last of them that was measured: the one the gradient
        reached last, with ``every=1``.
        """
        for tap, measurement in self._measured.items():
            if tap not in self._layers or self._layers[tap][0] is not measurement:
                self._layers[tap] = measurement, layer_flow(self._names[tap], measurement)
        return [self._layers[tap][1] for tap in self._names if tap in self._layers]

    def horizon(self, fraction: float = 0.01, layer: int | str = 0) -> float:
        """Steps back after which less than ``fraction`` of a unit gradient put in at the end is left.

        Args:
            fraction: between 0 and 1; 0.1 and 0.01 are usual.
            layer: index into ``layers``, or a layer's name.

        Returns:
            A number of steps; ``math.inf`` if it does not fall so far within the sequences recorded; nan if the states are not
            finite.

        Raises:
            NotRecordedError: no backward pass went through that layer.
            ValueError: a fraction that is no fraction, or ``probe=False``.
        """
        return self._layer(layer).horizon(fraction)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw what is left of the probe against steps back, a line per layer, with the marks of 10 % and 1 %.

        Args:
            ax: where to draw; a new figure by default.

        Raises:
            NotRecordedError: nothing to draw yet.
            ValueError: ``probe=False``.
        """
        from throughtime.flow._plot import plot_reach

        return plot_reach([self._layer(index) for index in range(max(1, len(self.layers)))], ax)

    def _layer(self, layer: int | str) -> LayerFlow:
        layers = self.layers
        if isinstance(layer, str):
            for found in layers:
                if found.name == layer:
                    return found
        elif -len(layers) <= layer < len(layers):
            return layers[layer]
        names = ", ".join(self._names.values())
        if layers:
            raise NotRecordedError(f"no layer {layer!r} among those recorded: {', '.join(f.name for f in layers)} (of {names})")
        raise NotRecordedError(
            f"no backward pass went through {names} while this recording was on. Call backward() inside the `with` block; "
            "where no native kernel serves (see tt.nn.backend), call the model inside it too"
        )


def _tap_names(model: torch.nn.Module) -> dict[int, str]:
    """The name of every tap of a model, in its order."""
    names = {}
    for wrapped_path, module in model.named_modules():
        path = wrapped_path.replace("_orig_mod.", "").removesuffix("_orig_mod")  # torch.compile's wrapper
        if isinstance(module, Recurrent):
            for depth in range(module.num_layers):
                for direction in range(2 if module.bidirectional else 1):
                    tap = module._tap + depth * (2 if module.bidirectional else 1) + direction
                    suffix = f"l{depth}{'_reverse' if direction else ''}"
                    names[tap] = f"{path}.{suffix}" if path else suffix
    return names


def _holds_torch_modules(model: torch.nn.Module) -> bool:
    return any(isinstance(module, torch.nn.RNNBase) for module in model.modules())
