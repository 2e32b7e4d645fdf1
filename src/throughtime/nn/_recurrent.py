"""What RNN, GRU and LSTM share: torch.nn's interface on ThroughTime's operators.

Legend: T steps, B batch, I inputs, H hidden, P projected (= H without a projection), L layers, D directions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from throughtime.cells import Cell, cell_of
from throughtime.errors import LengthsError, NotServedError
from throughtime.nn import _torch_operators
from throughtime.nn._backend import Choice, Route, choose, describe
from throughtime.ops import native, taps
from throughtime.ops.layer import Keep, layer
from throughtime.ops.native import LayerWeights, Layout

States = tuple[Tensor, ...]
Lengths = Sequence[int] | Tensor
_FULL = (Layout(), Layout(reverse=True))


class Recurrent(torch.nn.RNNBase):
    """What RNN, GRU and LSTM share: everything but their constructors.

    Derived from ``torch.nn.RNNBase``, so that parameters, ``state_dict``, device moves and pickles are torch's own.
    """

    tied: bool = True
    steps: int | None = None
    _tap: int = taps.SILENT
    _keep: Keep = "gates"

    @property
    def cell(self) -> Cell:
        """The cell this module runs, as data."""
        return cell_of(self.mode)

    @property
    def keep(self) -> Keep:
        """What a training step keeps for the way back; may be set at any time.

        ``"gates"`` (the default): states and gates, the fastest. ``"states"``: states alone; the gates are computed anew, in
        products over many steps at once, for a third more multiply-adds (an LSTM keeps 2 H floats a step instead of 6 H).
        ``"checkpoints"``: states every sqrt(T) steps, and all between is run again: for very long sequences, above all with
        ``final_only``. Gradients agree to rounding. Only the native kernels heed it (see :func:`backend`); compiled and
        transformed modules keep states where checkpoints were asked for.
        """
        return self._keep

    @keep.setter
    def keep(self, keep: Keep) -> None:
        known = get_args(Keep)[1:]
        if keep not in known:
            raise ValueError(f"keep is {keep!r}, expected one of {', '.join(map(repr, known))}")
        if keep != "gates" and not self.tied:
            raise NotServedError(f"this RNN is untied, which keeps everything; keep={keep!r} is refused")
        self._keep = keep

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | States | None = None,
        *,
        lengths: Lengths | None = None,
        final_only: bool = False,
    ) -> tuple[Tensor | PackedSequence | None, Tensor | States]:
        """Run the module over a batch of sequences, one sequence, or a PackedSequence.

        Args:
            input: [T, B, I] (``batch_first``: [B, T, I]), [T, I] for a single sequence, or a ``PackedSequence``.
            hx: the initial state [L*D, B, P] ([L*D, P] for a single sequence), zeros by default; for LSTM the pair
                ``(h_0, c_0)``, ``c_0`` with H in place of P.
            lengths: the true length of each sequence of a padded batch: a list or an integer tensor [B] on any device,
                in any order, 0 allowed. Padding is never read, output there is zero and its incoming gradient is ignored; the
                reverse direction starts at each true end, and the state returned is that of the true end (``hx`` where
                the length is 0).
            final_only: return ``None`` for the output: where only the final state is needed, the last layer's outputs then
                take no memory in inference and with ``keep="checkpoints"``.

        Returns:
            ``(output, h_n)``, for LSTM ``(output, (h_n, c_n))``: output [T, B, D*P] laid out as the input
            was (``None`` with ``final_only``), states as ``hx``.

        Raises:
            ValueError: input with a wrong number of axes or dtype.
            RuntimeError: input or states of a wrong size.
            LengthsError: lengths of a wrong number, kind or size, or together with a PackedSequence.

        Example:
            >>> import throughtime as tt
            >>> gru = tt.nn.GRU(3, 4)
            >>> output, h_n = gru(torch.ones(5, 2, 3), lengths=[5, 2])
            >>> output.shape, bool((output[2:, 1] == 0).all()), torch.equal(output[1, 1], h_n[0, 1])
            (torch.Size([5, 2, 4]), True, True)
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx, lengths, final_only)
        axes = input.dim()
        if axes not in (2, 3):
            raise ValueError(f"{type(self).__name__}: expected input with 2 axes (one sequence) or 3 (a batch), got {axes}")
        states, single = self._states(hx), axes == 2
        if states:
            self._expect_axes(states, axes, "one sequence (input with 2 axes)" if single else "a batch (input with 3 axes)")
        if single:
            x, states = input.unsqueeze(1), tuple(state.unsqueeze(1) for state in states)
        else:
            x = input.transpose(0, 1) if self.batch_first else input
        weights = self._weights()
        steps, batch, _ = x.shape
        dtype = weights[0][0].dtype
        self._check_input(x, dtype)
        if states:
            self._check_states(states, batch, dtype)
        # torch.nn refuses this too: there would be no step to start from.
        if steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        true_lengths = None if lengths is None else self._lengths(lengths, x)
        output, final = self._run(x, states, weights, true_lengths, None, final_only)
        if single:
            final = tuple(state.squeeze(1) for state in final)
        if output is not None and (single or self.batch_first):
            output = output.squeeze(1) if single else output.transpose(0, 1)
        return output, final if len(final) == 2 else final[0]

    def _forward_packed(
        self, packed: PackedSequence, hx: Tensor | States | None, lengths: Lengths | None, final_only: bool
    ) -> tuple[PackedSequence | None, Tensor | States]:
        if lengths is not None:
            raise LengthsError("lengths were given with a PackedSequence, which has its own; leave one of them out")
        x, batch_sizes, order, back = packed
        if x.dim() != 2:
            raise RuntimeError(f"input must have 2 dimensions, got {x.dim()}")
        if not torch.compiler.is_compiling():
            _check_batch_sizes(batch_sizes, x.shape[0])
        states = self._states(hx)
        self._expect_axes(states, 3, "a PackedSequence")
        if order is not None:
            states = tuple(state.index_select(1, order) for state in states)
        weights = self._weights()
        dtype = weights[0][0].dtype
        self._check_input(x, dtype)
        self._check_states(states, int(batch_sizes[0]), dtype)
        output, final = self._run(x, states, weights, None, batch_sizes, final_only)
        if back is not None:
            final = tuple(state.index_select(1, back) for state in final)
        sequence = None if output is None else PackedSequence(output, batch_sizes, order, back)
        return sequence, final if len(final) == 2 else final[0]

    # ---- running ----------------------------------------------------------------------------------------------------

    def _run(
        self,
        x: Tensor,
        states: States,
        weights: list[list[Tensor]],
        lengths: Tensor | None,
        batch_sizes: Tensor | None,
        final_only: bool,
    ) -> tuple[Tensor | None, States]:
        """All layers, time-major [T, B, I] or packed [N, I]."""
        lengths = self._heeded(x, states, lengths, batch_sizes)
        route = self._choose(x, states, weights).route
        if route is not Route.TORCH:
            return self._run_layers(x, states, weights, lengths, batch_sizes, final_only)
        if self._listened_to():
            return self._run_watched(x, states, weights, lengths, batch_sizes, final_only)
        states = states or self._zeros(x, x.shape[1] if batch_sizes is None else int(batch_sizes[0]))
        flat = [weight for group in weights for weight in group]
        if lengths is not None:
            output, final = _torch_operators.run_ragged(self, x, states, flat, lengths)
        else:
            output, final = _torch_operators.run(self, x, states, flat, batch_sizes)
        return None if final_only else output, final

    def _heeded(self, x: Tensor, states: States, lengths: Tensor | None, batch_sizes: Tensor | None) -> Tensor | None:
        """The lengths that matter; a module that serves some input only refuses the rest here."""
        return lengths

    def _run_layers(
        self,
        x: Tensor,
        states: States,
        weights: list[list[Tensor]],
        lengths: Tensor | None,
        batch_sizes: Tensor | None,
        final_only: bool,
    ) -> tuple[Tensor | None, States]:
        """Layer by layer and direction by direction, on the operators of ``ops``."""
        cell = self.cell
        packed = batch_sizes is not None
        if batch_sizes is not None:
            lengths = native.lengths_of(batch_sizes)
        directions = 2 if self.bidirectional else 1
        if lengths is None:
            layouts = _FULL[:directions]
        else:
            layouts = tuple(Layout(lengths, packed, direction == 1) for direction in range(directions))
        h_0 = states[0].unbind(0) if states else None
        c_0 = states[1].unbind(0) if len(states) > 1 else None
        finals: list[tuple[Tensor, ...]] = []
        for depth in range(self.num_layers):
            outputs: list[Tensor | None] = []
            last = depth + 1 == self.num_layers
            for direction, layout in enumerate(layouts):
                index = depth * directions + direction
                output, h_n, c_n = layer(
                    cell,
                    x,
                    h_0[index] if h_0 else None,
                    c_0[index] if c_0 else None,
                    self._layer_weights(weights[index]),
                    layout,
                    self._tap + index if self._tap else taps.SILENT,
                    self._keep,
                    final_only and last,
                    stacked=True,
                )
                outputs.append(output)
                finals.append((h_n, c_n) if c_n is not None else (h_n,))
            if final_only and last:
                break
            x = outputs[0] if directions == 1 else torch.cat(outputs, -1)  # type: ignore[arg-type, assignment]
            if self.dropout and self.training and not last:
                x = functional.dropout(x, self.dropout)
        result = None if final_only else x
        kinds = 2 if cell.has_cell_state else 1
        if len(finals) == 1:
            return result, finals[0][:kinds]
        return result, tuple(torch.cat([final[kind] for final in finals]) for kind in range(kinds))

    def _run_watched(
        self,
        x: Tensor,
        states: States,
        weights: list[list[Tensor]],
        lengths: Tensor | None,
        batch_sizes: Tensor | None,
        final_only: bool,
    ) -> tuple[Tensor | None, States]:
        """In place of torch's own operators, which let nobody look inside: layer by layer, in the weights' dtype."""
        device, dtype = x.device.type, weights[0][0].dtype
        lowered = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else dtype
        if device == "cpu" and self.mode == "GRU":
            lowered = x.dtype  # torch's GRU is the one that autocast lets give back what it got
        with torch.autocast(device, enabled=False):
            states = tuple(state.to(dtype) for state in states)
            output, final = self._run_layers(x.to(dtype), states, weights, lengths, batch_sizes, final_only)
        return None if output is None else output.to(lowered), tuple(state.to(lowered) for state in final)

    def _weights(self) -> list[list[Tensor]]:
        """Those of every layer and direction, in torch's order.

        Asked for at every call: parametrizations, weight norm and functional_call put tensors of their own there.
        """
        own = self._parameters  # where an attribute would be looked for, too, but several times as slowly
        return [[own[name] if name in own else getattr(self, name) for name in names] for names in self._all_weights]  # type: ignore[misc]

    def _choose(self, x: Tensor, states: States, weights: list[list[Tensor]]) -> Choice:
        return choose(self.cell, self.tied, x, itertools.chain(states, *weights))

    def _listened_to(self) -> bool:
        """Whether somebody records this module: torch's own operators let nobody look inside."""
        return self._tap != taps.SILENT and taps.listener(self._tap) is not None

    def _layer_weights(self, weights: list[Tensor]) -> LayerWeights:
        """The weights of one layer and direction, from the order in which torch lists them."""
        b_ih, b_hh = weights[2:4] if self.bias else (None, None)
        return LayerWeights(weights[0], weights[1], b_ih, b_hh, weights[-1] if self.proj_size else None)

    def _zeros(self, x: Tensor, batch: int) -> States:
        count = self.num_layers * (2 if self.bidirectional else 1)
        sizes = [self.proj_size or self.hidden_size, self.hidden_size][: len(self.cell.states)]
        return tuple(x.new_zeros(count, batch, size) for size in sizes)

    # ---- checking, with torch.nn's types of error -------------------------------------------------------------------

    def _states(self, hx: Tensor | States | None) -> States:
        if hx is None:
            return ()
        if not self.cell.has_cell_state:
            if not isinstance(hx, Tensor):
                raise TypeError(f"hx is a {type(hx).__name__}, expected a tensor")
            return (hx,)
        if isinstance(hx, Tensor) or len(hx) != 2:
            raise TypeError(f"hx is {_described(hx)}, expected the pair (h_0, c_0)")
        return tuple(hx)

    def _expect_axes(self, states: States, axes: int, what: str) -> None:
        for name, state in zip(("h_0", "c_0"), states, strict=False):
            if state.dim() != axes:
                raise RuntimeError(f"{name} has {state.dim()} axes, expected {axes} for {what}")

    def _check_input(self, x: Tensor, dtype: torch.dtype) -> None:
        if x.dtype != dtype and not torch._C._is_any_autocast_enabled():
            raise ValueError(
                f"input is {x.dtype} and the weights are {dtype}; convert one of them: input.to({dtype}) or "
                f"module.to({x.dtype})"
            )
        if x.shape[-1] != self.input_size:
            raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.shape[-1]}")

    def _check_states(self, states: States, batch: int, dtype: torch.dtype) -> None:
        count = self.num_layers * (2 if self.bidirectional else 1)
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)
        for name, state, size in zip(("h_0", "c_0"), states, sizes, strict=False):
            if state.shape != (count, batch, size):
                raise RuntimeError(f"Expected {name} of size {(count, batch, size)}, got {tuple(state.shape)}")
            if state.dtype != dtype and not torch._C._is_any_autocast_enabled():
                raise RuntimeError(f"{name} is {state.dtype}, expected {dtype} as the weights are")

    def _lengths(self, lengths: Lengths, x: Tensor) -> Tensor:
        """As int64 on the CPU. Values are checked by whoever reads them, since a tracer cannot."""
        tensor = lengths if isinstance(lengths, Tensor) else torch.as_tensor(lengths, device="cpu")
        if tensor.dim() != 1 or tensor.shape[0] != x.shape[1]:
            raise LengthsError(
                f"lengths has shape {tuple(tensor.shape)}, expected ({x.shape[1]},): one length per sequence of the batch"
            )
        no_integers = tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool
        if no_integers and tensor.numel():  # an empty list is float to torch
            raise LengthsError(f"lengths are {tensor.dtype}, expected integers")
        tensor = tensor.to("cpu", torch.int64, copy=True).contiguous()  # the caller may write into theirs before backward
        if not torch.compiler.is_compiling():
            check_lengths(tensor, x.shape[0])
        return tensor

    # ---- the module as an object ------------------------------------------------------------------------------------

    def _reserve_taps(self) -> None:
        self._tap = taps.reserve(self.num_layers * (2 if self.bidirectional else 1))

    def __setstate__(self, d: dict[str, Any]) -> None:
        super().__setstate__(d)
        self._reserve_taps()  # a copy is listened to on its own

    def __prepare_scriptable__(self) -> torch.nn.Module:
        raise NotServedError(
            f"torch.jit.script cannot compile {self}; tt.nn.revert(model) makes it torch.nn's, which it can (torch.compile and "
            "torch.export take it as it is)"
        )

    def flatten_parameters(self) -> None:
        """Lay the weights out as cuDNN likes them, as torch.nn does; nothing on the CPU."""
        if self.tied and self.cell.nonlinearity in (None, "tanh", "relu"):
            super().flatten_parameters()

    def extra_repr(self) -> str:
        """The constructor's arguments, as ``repr`` shows them."""
        text = super().extra_repr()
        if self.cell.nonlinearity not in (None, "tanh"):
            text += f", nonlinearity={self.cell.nonlinearity}"
        if self.keep != "gates":
            text += f", keep={self.keep}"
        return text if self.tied else text + f", tied=False, steps={self.steps}"


def check_lengths(lengths: Tensor, steps: int) -> None:
    """Refuse lengths outside 0..steps.

    Raises:
        LengthsError: naming the first one that is.
    """
    wrong = ((lengths < 0) | (lengths > steps)).nonzero()
    if len(wrong):
        index = int(wrong[0])
        raise LengthsError(
            f"lengths[{index}] is {int(lengths[index])}, expected 0 to {steps} (the number of steps of the input)"
        )


def _check_batch_sizes(batch_sizes: Tensor, rows: int) -> None:
    """Refuse a PackedSequence that was put together wrongly."""
    sizes = batch_sizes.tolist()
    if not sizes or min(sizes) < 1 or any(later > earlier for earlier, later in itertools.pairwise(sizes)):
        raise RuntimeError(f"batch_sizes of the PackedSequence are {sizes}, expected at least 1, and none above the one before")
    if sum(sizes) != rows:
        raise RuntimeError(f"batch_sizes of the PackedSequence add up to {sum(sizes)}, and its data has {rows} rows")


def _described(hx: Any) -> str:
    return f"a tensor of shape {tuple(hx.shape)}" if isinstance(hx, Tensor) else f"{len(hx)} things"


def backend(module: Recurrent, input: Tensor | PackedSequence) -> str:
    """Which kernel will run ``module`` on ``input``, and why.

    Args:
        module: an RNN, GRU or LSTM of ``tt.nn``.
        input: what it would be called with.

    Returns:
        Such as ``"native/avx512"``, ``"torch/cudnn: cuda tensors"``, ``"torch: bfloat16"``.

    Raises:
        TypeError: not a module of ``tt.nn``.

    Example:
        >>> import throughtime as tt
        >>> backend(tt.nn.GRU(3, 4).bfloat16(), torch.zeros(5, 2, 3, dtype=torch.bfloat16))
        'torch: bfloat16'
    """
    if not isinstance(module, Recurrent):
        raise TypeError(
            f"backend() tells of tt.nn.RNN, GRU and LSTM, and got a {type(module).__module__}.{type(module).__name__}"
            + ("; tt.nn.convert() makes one of it" if isinstance(module, torch.nn.RNNBase) else "")
        )
    x = input.data if isinstance(input, PackedSequence) else input
    return describe(module.cell, module.tied, x, module._choose(x, (), module._weights()))
