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
from numpy.typing import NDArray

from starling.agent.trainer.engines.onnxruntime_engine import OrtTrainer
from starling.agent.training.training_inputs import Real
from starling.engine.onnx_graph import Graph
from starling.engine.onnx_writer import write_graph
from starling.engine.opened_bundle import OpenedBundle
from starling.engine.runtime import onnxruntime_session
from starling.protocol.errors import EngineError
from starling.protocol.model.training_bundle import EVALUATE, BundleManifest
from starling.protocol.privacy.clipping_functions import clip_scale


def is_available() -> bool:
    """True if the installed ONNX Runtime can differentiate graphs."""
    return onnxruntime_session.can_differentiate()


class OrtTrainingTrainer:
    """A bundle trained by ONNX Runtime's gradient; see `training_inputs.Trainer`."""

    def __init__(self, bundle: OpenedBundle, threads: int) -> None:
        """Differentiates.

        Args:
          bundle: What to run.
          threads: That one graph may use.

        Raises:
          EngineError: If there is no training build, or it lacks an operator.
        """
        if not is_available():
            raise EngineError("ort-training needs onnxruntime-training-cpu")
        # Everything but gradients is the stock engine's.
        self._stock = OrtTrainer(bundle, threads)
        self.manifest: BundleManifest = self._stock.manifest
        self.theta: Real = self._stock.theta
        model = _summed(bundle.graphs[EVALUATE])
        self._session = onnxruntime_session.open_gradient(
            model, "total", "theta", threads
        )

    def gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, Real]:
        """See `Trainer.gradient_sum`."""
        if len(x) != len(y):
            raise EngineError(f"{len(x)} records with {len(y)} targets")
        feeds = {"theta": theta, "x": x, "y": y}
        gradient, loss = self._session.run(feeds, ["theta_grad", "loss"])
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
            # In double precision: the norm bounds the sensitivity, and float32 squares
            # may overflow.
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


def _summed(evaluate: Graph) -> bytes:
    """The graph with one more output `total`, the sum of all losses."""
    # The training build brings it; no other engine needs it on a board.
    onnx = importlib.import_module("onnx")
    model = onnx.load_from_string(write_graph(evaluate))
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
    summed: bytes = model.SerializeToString()
    return summed


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
