"""The probe: one gradient of unit length put in at each true end, carried back, rescaled at every step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from throughtime.reference._activations import Array
from throughtime.reference._backward import Taps, blank_taps, squared_norm, transport
from throughtime.reference._forward import Forward


@np.errstate(over="ignore", invalid="ignore")
def probe(forward: Forward, seed: npt.ArrayLike, seed_c: npt.ArrayLike | None = None) -> Taps:
    """How much of a gradient put in at the end survives each step back, free of under- and overflow.

    A raw gradient may be flushed to zero long before the beginning, or be held up by the losses on its way;
    then its norms say nothing about transport. So ``seed`` alone is put in, as the gradient of the state at each
    sample's true end, and the transported state (h, and c in an LSTM, jointly) is divided by its norm after every step.
    The taps of a step are taken before that, so what comes in has norm 1 and what goes out (``u``, with
    ``cell_out`` in an LSTM) is the step's gain; the logarithms of the gains add up to the logarithm of what
    survives.

    Args:
        forward: the pass, T steps of B samples.
        seed: [B, P] dL/dh; with ``seed_c`` it is divided by their joint norm per sample; a row of zeros stays zero.
        seed_c: [B, H] dL/dc, zeros by default; LSTM only.

    Returns:
        The cell's taps, as :func:`throughtime.reference.backward` names them: name -> [T, B] squared norms
        per step (of the time axis of ``x``) and sample, NaN on padding.

    Raises:
        ValueError: ``seed`` or ``seed_c`` has the wrong shape.

    Example:
        >>> from throughtime.reference import Weights, forward
        >>> run = forward("rnn_identity", np.zeros((1000, 1, 1)), Weights([[1.0]], [[0.1]]))
        >>> gain = np.sqrt(probe(run, [[3.0]])["u"])
        >>> gain[0].tolist(), gain[-1].tolist()
        ([0.1], [0.1])

    Source: the ratio inside equation 9 of Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063.
    """
    d_h = np.array(seed, dtype=np.float64)  # [B, P]
    if d_h.shape != forward.h_n.shape:
        raise ValueError(f"seed has shape {d_h.shape}, expected {forward.h_n.shape}")
    d_c = None if forward.c_n is None else np.zeros_like(forward.c_n)  # [B, H]
    if seed_c is not None:
        d_c = np.array(seed_c, dtype=np.float64)
        if forward.c_n is None or d_c.shape != forward.c_n.shape:
            wanted = "none without a cell state" if forward.c_n is None else str(forward.c_n.shape)
            raise ValueError(f"seed_c has shape {d_c.shape}, expected {wanted}")
    d_h, d_c = _to_unit_norm(d_h, d_c)

    taps = blank_taps(forward)
    for k in reversed(range(forward.steps)):
        sample = forward.moment(k).sample
        step = transport(forward, k, d_h[sample], None if d_c is None else d_c[sample])
        for name, values in step.taps.items():
            taps[name][step.moment.time, sample] = values
        d_h[sample], rescaled_c = _to_unit_norm(step.u, step.found.c_before)
        if d_c is not None:
            d_c[sample] = rescaled_c
    return taps


def _to_unit_norm(h: Array, c: Array | None) -> tuple[Array, Array | None]:
    """Divide h [N, P] and c [N, H] by their joint norm; rows of norm zero stay as they are."""
    joint = np.sqrt(squared_norm(h) + (0.0 if c is None else squared_norm(c)))[:, np.newaxis]
    norm = np.where(joint > 0, joint, 1.0)
    return h / norm, None if c is None else c / norm
