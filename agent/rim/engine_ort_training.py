"""A second engine: gradients by ONNX Runtime's own training build, where there is one.

It takes nothing from a bundle's gradient graphs. ONNX Runtime differentiates
`evaluate.onnx` itself, so that both engines check each other. The training build has no
per-example gradients: for private sums it runs once for each record, which is exact and
slow. It is the last of its kind (onnxruntime-training-cpu 1.19.2, Python up to 3.12,
x86-64) and stands in the place of `onnxruntime`, never beside it.
"""

import importlib
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import _pybind_state as training_build

from agent.rim.engine_ort import ORT_ERRORS, OrtTrainer, add_entries
from agent.training import EngineError
from agent.work import Real
from protocol.bundle import EVALUATE, Manifest
from protocol.clipping import clip_scale

_SEVERITY_FATAL = 4


def is_available() -> bool:
    """Whether the ONNX Runtime that is installed can differentiate graphs."""
    return hasattr(training_build, "GradientGraphBuilder")


class OrtTrainingTrainer:
    """A bundle trained by ONNX Runtime's gradient; see `agent.training.Trainer`."""

    def __init__(self, files: Mapping[str, bytes], threads: int) -> None:
        """Checks the graphs and differentiates.

        Args:
          files: Of a bundle, as `protocol.bundle.unpack_bundle` checked them.
          threads: That one graph may use.

        Raises:
          DecodeError, LimitError: If a graph is not one that a board runs.
          EngineError: If there is no training build, or it lacks an operator.
        """
        if not is_available():
            raise EngineError("ort-training needs onnxruntime-training-cpu")
        # Everything but gradients is the stock engine's.
        self._stock = OrtTrainer(files, threads)
        self.manifest: Manifest = self._stock.manifest
        self.theta: Real = self._stock.theta
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _SEVERITY_FATAL
        add_entries(options)
        try:
            self._session = onnxruntime.InferenceSession(
                _differentiated(files[EVALUATE]),
                options,
                providers=["CPUExecutionProvider"],
            )
        # The builder's own exceptions have no type of their own.
        except (RuntimeError, *ORT_ERRORS) as error:
            raise EngineError(f"{EVALUATE}: {_last_sentence(error)}") from error

    def gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, Real]:
        """See `Trainer.gradient_sum`."""
        if len(x) != len(y):
            raise EngineError(f"{len(x)} records with {len(y)} targets")
        try:
            gradient, loss = self._session.run(
                ["theta_grad", "loss"], {"theta": theta, "x": x, "y": y}
            )
        except ORT_ERRORS as error:
            raise EngineError(f"{EVALUATE}: {_last_sentence(error)}") from error
        return gradient, loss

    def private_gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any], clip: float
    ) -> tuple[Real, Real]:
        """See `Trainer.private_gradient_sum`."""
        kind = self.manifest.clipping
        total = np.zeros(theta.size, np.float64)
        norms = np.zeros(len(x), np.float32)
        for row in range(len(x)):
            gradient, _ = self.gradient_sum(theta, x[row : row + 1], y[row : row + 1])
            exact = gradient.astype(np.float64)
            norm = math.sqrt(float(exact @ exact))
            norms[row] = norm
            total += exact * clip_scale(norm, clip, theta.size, kind)
        return total.astype(np.float32), norms

    def evaluate(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, NDArray[Any]]:
        """See `Trainer.evaluate`."""
        return self._stock.evaluate(theta, x, y)

    def infer(self, theta: Real, x: NDArray[Any]) -> NDArray[Any]:
        """See `Trainer.infer`."""
        return self._stock.infer(theta, x)


def _differentiated(evaluate: bytes) -> bytes:
    """The graph with one more output `theta_grad`, of the sum of all losses."""
    # The training build brings it; no other engine needs it on a board.
    onnx = importlib.import_module("onnx")
    model = onnx.load_from_string(evaluate)
    graph = model.graph
    constants = {item.name: item for item in graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant"
    }
    nodes = [new for node in graph.node for new in _known(onnx, node, constants)]
    nodes.append(onnx.helper.make_node("ReduceSum", ["loss"], ["total"], keepdims=0))
    del graph.node[:]
    graph.node.extend(nodes)
    total = onnx.helper.make_tensor_value_info("total", onnx.TensorProto.FLOAT, [])
    graph.output.insert(0, total)
    builder = training_build.GradientGraphBuilder(
        model.SerializeToString(),
        {"total"},
        {"theta"},
        "total",
        onnxruntime.SessionOptions(),
    )
    builder.build()
    gradient: bytes = builder.get_model()
    return gradient


def _known(
    onnx: ModuleType,
    node: Any,  # noqa: ANN401 - a message of a module that may be missing
    constants: Mapping[str, Any],
) -> list[Any]:
    """The node, or nodes with the same result that ONNX Runtime can differentiate.

    It has no gradient for ReduceMax; a gather at the largest value's place has one.
    """
    make = onnx.helper.make_node
    if node.op_type != "ReduceMax":
        return [node]
    given = {item.name: item for item in node.attribute}
    keep = "keepdims" not in given or given["keepdims"].i == 1
    if len(node.input) > 1 and node.input[1] in constants:
        axes = [int(i) for i in onnx.numpy_helper.to_array(constants[node.input[1]])]
    else:
        axes = list(given["axes"].ints) if "axes" in given else []
    if len(axes) != 1:
        return [node]
    source, result = node.input[0], node.output[0]
    place, kept = f"{result}/place", result if keep else f"{result}/kept"
    nodes = [
        make("ArgMax", [source], [place], axis=axes[0], keepdims=1),
        make("GatherElements", [source, place], [kept], axis=axes[0]),
    ]
    if not keep:
        nodes += [
            make("Constant", [], [f"{result}/axes"], value_ints=axes),
            make("Squeeze", [kept, f"{result}/axes"], [result]),
        ]
    return nodes


def _last_sentence(error: Exception) -> str:
    """What the builder complains of, without its own source's signatures."""
    said = str(error).strip()
    return said.rsplit("was false. ", maxsplit=1)[-1] or said
