"""A linear layer and what ends a model behind it."""

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.unit.compiler.small_models import build, node, weight

Nodes = list[onnx.NodeProto]
RNG = np.random.default_rng(0)


def ending_model(
    nodes: Nodes, width: int, out: tuple[int, ...] = ()
) -> onnx.ModelProto:
    """A linear layer to `z` and what is told behind it."""
    weights: dict[str, NDArray[np.generic]] = {
        "w": weight(RNG, 4, width),
        "low": np.array(1e-7, np.float32),
        "high": np.array(1 - 1e-7, np.float32),
        "one": np.array(1, np.float32),
        "two": np.array(2, np.float32),
        "spots": np.array([-1, width, 1, 1], np.int64),
        "row": np.array([-1, width], np.int64),
        "last": np.array([2, 3], np.int64),
        "first": np.array([1], np.int64),
        "second": np.array([2], np.int64),
        "thirty": np.array(30, np.float32),
        "gain": weight(RNG, 3),
    }
    layers = [node("MatMul", ["x", "w"], ["z"]), *nodes]
    used = {name for made in layers for name in made.input}
    kept = {name: value for name, value in weights.items() if name in used}
    return build(layers, kept, (4,), out or (width,))
