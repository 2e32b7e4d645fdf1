"""JAX: `lax.scan` over the steps, the input product taken out of the loop, compiled whole."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from throughtime.bench.cases import BOTH, FORWARD, INFERENCE, Arrays, Case
from throughtime.bench.peers import Loaded

_WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")


def load(name: str, case: Case, arrays: Arrays) -> Loaded:
    """Compiled functions on these numbers."""
    del name
    step, states = _STEPS[case.cell]
    weights = tuple(jnp.asarray(arrays[key]) for key in _WEIGHTS)
    x, gradient = jnp.asarray(arrays["x"]), jnp.asarray(arrays["gradient"])

    def forward(x: Any, weights: Any) -> Any:
        w_ih, w_hh, b_ih, b_hh = weights
        # Biases that are only added to one another are added once; the GRU's recurrent ones are multiplied by its reset gate.
        hoisted = x @ w_ih.T + (b_ih if case.cell == "gru" else b_ih + b_hh)
        start = (jnp.zeros((case.B, case.H), x.dtype),) * states
        return lax.scan(lambda state, row: step(state, row, w_hh.T, b_hh), start, hoisted)[1]

    def both(x: Any, weights: Any, gradient: Any) -> Any:
        output, back = jax.vjp(forward, x, weights)
        return output, back(gradient)

    # What is kept for the way back is a result too, as in the other peers' forward pass.
    keeping = jax.jit(lambda x, weights: jax.vjp(forward, x, weights))
    run, train = jax.jit(forward), jax.jit(both)

    def answer() -> Arrays:
        output, (x_gradient, grads) = train(x, weights, gradient)
        found = {"inference": run(x, weights), "output": output, "x": x_gradient} | dict(zip(_WEIGHTS, grads, strict=True))
        return {key: np.asarray(array) for key, array in found.items()}

    works = {
        FORWARD: lambda: jax.block_until_ready(keeping(x, weights)),
        BOTH: lambda: jax.block_until_ready(train(x, weights, gradient)),
        INFERENCE: lambda: jax.block_until_ready(run(x, weights)),
    }
    return Loaded(works, answer)


def _rnn(state: Any, row: Any, w: Any, bias: Any) -> Any:
    h = jnp.tanh(row + state[0] @ w)
    return (h,), h


def _gru(state: Any, row: Any, w: Any, bias: Any) -> Any:
    (h,) = state
    from_past = h @ w + bias
    row_r, row_z, row_n = jnp.split(row, 3, axis=-1)
    past_r, past_z, past_n = jnp.split(from_past, 3, axis=-1)
    r, z = jax.nn.sigmoid(row_r + past_r), jax.nn.sigmoid(row_z + past_z)
    n = jnp.tanh(row_n + r * past_n)
    h = (1 - z) * n + z * h
    return (h,), h


def _lstm(state: Any, row: Any, w: Any, bias: Any) -> Any:
    h, c = state
    i, f, g, o = jnp.split(row + h @ w, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


_STEPS = {"rnn_tanh": (_rnn, 1), "gru": (_gru, 1), "lstm": (_lstm, 2)}
"""Each cell's step, and how many states it carries."""
