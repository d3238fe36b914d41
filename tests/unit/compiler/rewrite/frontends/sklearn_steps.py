"""Models of scikit-learn's pipelines, with the operators that are theirs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_ML = "ai.onnx.ml"
COLUMNS = 4
Nodes = Sequence[onnx.NodeProto]
Arrays = Mapping[str, NDArray[np.generic]]


def ml_node(kind: str, inputs: list[str], outputs: list[str], **numbers: Any) -> Nodes:  # noqa: ANN401 - as ONNX takes them
    return [helper.make_node(kind, inputs, outputs, domain=_ML, **numbers)]


def pipeline_model(
    nodes: Nodes, arrays: Arrays, output: str, width: int
) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "pipeline",
        [info("X", TensorProto.FLOAT, [None, COLUMNS])],
        [info(output, TensorProto.FLOAT, [None, width])],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(_ML, 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def examples() -> NDArray[np.float32]:
    """Two real columns, one with a zero row, and two of categories."""
    x = np.random.default_rng(3).standard_normal((12, COLUMNS)).astype(np.float32)
    x[:, 2] = np.arange(12) % 3
    x[:, 3] = np.arange(12) % 4 - 1
    x[5] = 0.0
    return x


def two_trees(mode: str = "BRANCH_LEQ") -> dict[str, Any]:
    """Two trees: a stump, and one with two more levels on one side."""
    return {
        "nodes_treeids": [0, 0, 0, 1, 1, 1, 1, 1, 1, 1],
        "nodes_nodeids": [0, 1, 2, 0, 1, 2, 3, 4, 5, 6],
        "nodes_featureids": [2, 0, 0, 0, 1, 0, 0, 3, 0, 0],
        "nodes_values": [1.0, 0.0, 0.0, 0.2, -0.1, 0.0, 0.0, 0.0, 0.0, 0.0],
        "nodes_modes": [
            mode, "LEAF", "LEAF", mode, mode, "LEAF", "LEAF", mode, "LEAF", "LEAF",
        ],
        "nodes_truenodeids": [1, 0, 0, 1, 3, 0, 0, 5, 0, 0],
        "nodes_falsenodeids": [2, 0, 0, 2, 4, 0, 0, 6, 0, 0],
    }  # fmt: skip  # a table


def leaf_weights(side: str, scores: int) -> dict[str, Any]:
    """What each leaf gives to each score."""
    leaves = [(0, 1), (0, 2), (1, 2), (1, 3), (1, 5), (1, 6)]
    rows = [(*leaf, score) for leaf in leaves for score in range(scores)]
    return {
        f"{side}_treeids": [tree for tree, _, _ in rows],
        f"{side}_nodeids": [leaf for _, leaf, _ in rows],
        f"{side}_ids": [score for _, _, score in rows],
        f"{side}_weights": np.linspace(0.1, 0.9, len(rows)).tolist(),
    }


def output_of(
    model: onnx.ModelProto | bytes, inputs: Mapping[str, NDArray[np.generic]]
) -> NDArray[np.float32]:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options)
    return np.asarray(session.run(None, dict(inputs))[0])
