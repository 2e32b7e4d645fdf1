"""torch's own recurrent operators, for whole modules: the same calls that torch.nn makes, and ``lengths`` on top of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import _VF, Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

if TYPE_CHECKING:
    from throughtime.nn._recurrent import Recurrent

_OPERATORS = {"RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu", "GRU": "gru", "LSTM": "lstm"}

States = tuple[Tensor, ...]
"""(h,) or (h, c), each [L*D, B, size]."""


def run(
    module: Recurrent, x: Tensor, states: States, weights: list[Tensor], batch_sizes: Tensor | None
) -> tuple[Tensor, States]:
    """Run all layers by ``torch._VF``, time-major or packed.

    Args:
        module: the module, for its options.
        x: [T, B, I], or packed [N, I] with ``batch_sizes``.
        states: the initial ones.
        weights: of all layers and directions, in torch's order.
        batch_sizes: of a PackedSequence, or ``None``.
    """
    operator: Any = getattr(_VF, _OPERATORS[module.mode])
    hx = states if module.mode == "LSTM" else states[0]
    options = (module.bias, module.num_layers, module.dropout, module.training, module.bidirectional)
    if batch_sizes is None:
        output, *final = operator(x, hx, weights, *options, False)
    else:
        output, *final = operator(x, batch_sizes, hx, weights, *options)
    return output, tuple(final)


def run_ragged(module: Recurrent, x: Tensor, states: States, weights: list[Tensor], lengths: Tensor) -> tuple[Tensor, States]:
    """The same for padded sequences with true lengths: packed for torch, which takes no zero lengths, and laid out again."""
    alive = (lengths > 0).nonzero().squeeze(1)
    places = alive.to(x.device)
    back: Tensor | None = places
    compact_x = x.index_select(1, places)
    if len(alive) == 0:  # a batch of none, which torch does run: zeros, and in the graph
        compact, final = run(module, compact_x, tuple(state.index_select(1, places) for state in states), weights, None)
    else:
        packed = pack_padded_sequence(compact_x, lengths[alive], enforce_sorted=False)
        order, back = packed.sorted_indices, packed.unsorted_indices
        assert order is not None  # they were not said to be sorted
        started = tuple(state.index_select(1, places[order]) for state in states)
        data, final = run(module, packed.data, started, weights, packed.batch_sizes)
        compact, _ = pad_packed_sequence(PackedSequence(data, packed.batch_sizes, order, back), total_length=x.shape[0])
    assert back is not None
    output = x.new_zeros(*x.shape[:2], compact.shape[-1], dtype=compact.dtype).index_copy(1, places, compact)
    ended = tuple(
        state.to(last.dtype).index_copy(1, places, last.index_select(1, back))
        for state, last in zip(states, final, strict=True)
    )
    return output, ended
