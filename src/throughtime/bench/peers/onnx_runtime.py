"""ONNX Runtime at inference: a model of one operator, made by hand from the weights."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from throughtime.bench.cases import INFERENCE, Arrays, Case
from throughtime.bench.peers import Loaded
from throughtime.cells import CELLS

_ORDER = {"rnn_tanh": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}
"""ONNX's gates by their place in torch's order: zrh of rzn, iofc of ifgo."""


def load(name: str, case: Case, arrays: Arrays) -> Loaded:
    """A session on these numbers, with as many threads as OMP_NUM_THREADS says."""
    del name
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        _model(case, arrays).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run() -> Any:
        return session.run(None, {"X": arrays["x"]})[0]

    return Loaded({INFERENCE: run}, lambda: {"inference": np.squeeze(run(), axis=1)})


def _model(case: Case, arrays: Arrays) -> Any:
    def in_order(array: Any) -> Any:
        return np.concatenate([np.split(array, len(_ORDER[case.cell]))[gate] for gate in _ORDER[case.cell]])[None]

    weights = {
        "W": in_order(arrays["w_ih"]),
        "R": in_order(arrays["w_hh"]),
        "B": np.concatenate([in_order(arrays["b_ih"]), in_order(arrays["b_hh"])], axis=-1),
    }
    attributes = {"linear_before_reset": 1} if case.cell == "gru" else {}
    node = helper.make_node(CELLS[case.cell].kind.upper(), ["X", *weights], ["Y"], hidden_size=case.H, **attributes)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [case.T, case.B, case.I])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [case.T, 1, case.B, case.H])],
        [numpy_helper.from_array(np.ascontiguousarray(array), key) for key, array in weights.items()],
    )
    # The operator set of 2023 and the file format that goes with it: read by every ONNX Runtime since.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
