"""A front with a linear head on it, as one ONNX model.

A front's file is such a model already: `x (n, 1, 28, 28)` to `logits (n, 10)`, the
head's weights called `head.weight (d, 10)` and `head.bias (10,)`, zeros. Where the
front comes from stands in its metadata.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from starling.compiler import ORIGIN
from starling.fleet.fronts.picture_frame import (
    DIGITS_SHAPE,
    DIGITS_SIDE,
    SIDE,
    digit_rows,
    resampling,
)
from starling.fleet.onnx_layers import ModelLayers
from starling.protocol.errors import ConfigError

HEAD = "head.*"
"""What of such a model boards train."""
NAME = "starling.front"
"""Key of the metadata: what a front is called."""
_WEIGHT, _BIAS = "head.weight", "head.bias"
_SIDE_MAX = 512


def metadata(model: onnx.ModelProto, key: str) -> str:
    """An entry of a model's metadata; empty if it has none."""
    return next((item.value for item in model.metadata_props if item.key == key), "")


def with_metadata(model: onnx.ModelProto, name: str, origin: str) -> onnx.ModelProto:
    """The same model, which says what front it has and where that comes from."""
    helper.set_model_props(model, {NAME: name, ORIGIN: origin})
    return model


def is_front(model: onnx.ModelProto) -> bool:
    """True if a model is a front with a head."""
    return {_WEIGHT, _BIAS} <= {item.name for item in model.graph.initializer}


def head_model(
    front: onnx.ModelProto, shape: tuple[int, ...], classes: int
) -> onnx.ModelProto:
    """A front for examples of a shape, with a head for so many classes.

    Args:
      front: Of this module's form.
      shape: Of one example: (1, s, s), or (64,) for a digit of `digits`.
      classes: c; with others than ten the head begins at zero.

    Returns:
      A checked model from `x (n, *shape)` to `logits (n, c)`.

    Raises:
      ConfigError: If examples are no square grey pictures.
    """
    entrance = _entrance(shape)
    made = onnx.ModelProto()
    made.CopyFrom(front)
    graph = made.graph
    if entrance is not None:
        for node in graph.node:
            node.input[:] = [entrance.end if x == "x" else x for x in node.input]
        nodes = [*entrance.layers.nodes, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(entrance.layers.weights)
    port = helper.make_tensor_value_info
    graph.input[0].CopyFrom(port("x", onnx.TensorProto.FLOAT, ["n", *shape]))
    graph.output[0].CopyFrom(port("logits", onnx.TensorProto.FLOAT, ["n", classes]))
    for item in graph.initializer:
        if item.name in (_WEIGHT, _BIAS) and item.dims[-1] != classes:
            zeros = np.zeros([*item.dims[:-1], classes], np.float32)
            item.CopyFrom(numpy_helper.from_array(zeros, item.name))
    onnx.checker.check_model(made)
    return made


def with_identity_head(front: onnx.ModelProto) -> onnx.ModelProto:
    """The front alone: its logits are its features, (n, d)."""
    made = onnx.ModelProto()
    made.CopyFrom(front)
    parts = {item.name: item for item in made.graph.initializer}
    count = parts[_WEIGHT].dims[0]
    for name, values in ((_WEIGHT, np.eye(count)), (_BIAS, np.zeros(count))):
        parts[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
    port = helper.make_tensor_value_info
    ends = port("logits", onnx.TensorProto.FLOAT, ["n", count])
    made.graph.output[0].CopyFrom(ends)
    return made


class _Entrance:
    """Layers that bring an example into the frame."""

    def __init__(self, rows: NDArray[np.float32], flat: Sequence[int] = ()) -> None:
        self.layers = ModelLayers(np.random.Generator(np.random.PCG64(0)))
        picture = "x"
        if flat:
            shape = self.layers.integers("frame.shape", [0, 1, *flat])
            picture = self.layers.node("Reshape", ["x", shape])
        left = self.layers.weight("frame.rows", rows)
        right = self.layers.weight("frame.columns", rows.T)
        tall = self.layers.node("MatMul", [left, picture])
        self.end = self.layers.node("MatMul", [tall, right])
        # The front's own values are numbered alike.
        renamed = {
            node.output[0]: f"frame.{node.output[0]}" for node in self.layers.nodes
        }
        for node in self.layers.nodes:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            node.output[:] = [renamed[name] for name in node.output]
        self.end = renamed[self.end]


def _entrance(shape: tuple[int, ...]) -> _Entrance | None:
    if shape == (1, SIDE, SIDE):
        return None
    if shape == DIGITS_SHAPE:
        return _Entrance(digit_rows(), (DIGITS_SIDE, DIGITS_SIDE))
    if len(shape) == 3 and shape[0] == 1 and shape[1] == shape[2] <= _SIDE_MAX:
        return _Entrance(resampling(shape[1]))
    raise ConfigError(
        f"fronts look at square grey pictures, (1, {SIDE}, {SIDE}) or the like, not at "
        f"examples of shape {shape}",
        key="--front",
    )
