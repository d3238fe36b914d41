"""Small models around poolings of a convolution's image."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from starling.compiler.ir.graph_writer import Attribute
from tests.unit.compiler.small_models import OPSET, build, node, weight

Model = tuple[onnx.ModelProto, str]


def _image(
    kind: str,
    row: tuple[int, ...],
    out: tuple[int, ...],
    kernel: tuple[int, ...],
    opset: int = OPSET,
    **attributes: Attribute,
) -> Model:
    """A convolution to three channels, then a pooling."""
    rng = np.random.default_rng(3)
    weights = {"w": weight(rng, 3, row[0], *[1] * len(kernel)), "b": weight(rng, 3)}
    if not kind.startswith("Global"):
        attributes["kernel_shape"] = kernel
    nodes = [
        node("Conv", ["x", "w", "b"], ["h"]),
        node(kind, ["h"], ["out"], "", **attributes),
    ]
    return build(nodes, weights, row, out, opset), "mse"


def _unpooled() -> Model:
    """Largest values back where they stood, between two convolutions."""
    rng = np.random.default_rng(20)
    weights = {"w": weight(rng, 3, 2, 1, 1), "v": weight(rng, 2, 3, 1, 1)}
    nodes = [
        node("Conv", ["x", "w"], ["h"]),
        node("MaxPool", ["h"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Tanh", ["p"], ["t"]),
        node("MaxUnpool", ["t", "i"], ["u"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["u", "v"], ["out"]),
    ]
    return build(nodes, weights, (2, 4, 6), (2, 4, 6)), "mse"


POOLING_CASES: Mapping[str, Callable[[], Model]] = {
    "max pool": lambda: _image("MaxPool", (2, 6, 6), (3, 3, 3), (2, 2), strides=[2, 2]),
    "max pool, odd image": lambda: _image(
        "MaxPool", (2, 7, 5), (3, 3, 2), (2, 2), strides=[2, 2]
    ),
    "max pool, overlapping": lambda: _image(
        "MaxPool", (2, 7, 7), (3, 4, 4), (3, 3), strides=[2, 2], pads=[1, 1, 1, 1]
    ),
    "max pool, rounded up": lambda: _image(
        "MaxPool", (2, 5, 5), (3, 3, 3), (2, 2), strides=[2, 2], ceil_mode=1
    ),
    "max pool, one axis": lambda: _image("MaxPool", (2, 9), (3, 3), (3,), strides=[3]),
    "average pool": lambda: _image(
        "AveragePool", (2, 6, 6), (3, 3, 3), (2, 2), strides=[2, 2]
    ),
    "average pool, padded": lambda: _image(
        "AveragePool", (2, 5, 5), (3, 3, 3), (3, 3), strides=[2, 2], pads=[1, 1, 1, 1]
    ),
    "average pool, padding counts": lambda: _image(
        "AveragePool",
        (2, 5, 5),
        (3, 5, 5),
        (3, 3),
        pads=[1, 1, 1, 1],
        count_include_pad=1,
    ),
    "average pool, one axis": lambda: _image(
        "AveragePool", (2, 7), (3, 3), (2,), strides=[2]
    ),
    "average pool, rounded up": lambda: _image(
        "AveragePool", (2, 6, 5), (3, 3, 3), (3, 2), strides=[2, 2], ceil_mode=1
    ),
    "average pool, rounded up with padding": lambda: _image(
        "AveragePool",
        (2, 6, 6),
        (3, 4, 4),
        (3, 3),
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        ceil_mode=1,
    ),
    "average pool, rounded up and padding counts": lambda: _image(
        "AveragePool",
        (2, 6),
        (3, 4),
        (3,),
        strides=[2],
        pads=[1, 1],
        ceil_mode=1,
        count_include_pad=1,
    ),
    "average pool, dilation": lambda: _image(
        "AveragePool",
        (2, 7, 6),
        (3, 3, 2),
        (3, 2),
        strides=[2, 2],
        dilations=[2, 3],
        pads=[1, 0, 1, 0],
        opset=19,
    ),
    "unpooled": _unpooled,
    "global average": lambda: _image("GlobalAveragePool", (2, 5, 4), (3, 1, 1), (1, 1)),
    "max pool, three axes": lambda: _image(
        "MaxPool", (2, 4, 5, 4), (3, 2, 2, 2), (2, 2, 2), strides=[2, 2, 2]
    ),
    "pool by lengths": lambda: _image(
        "LpPool", (2, 6, 5), (3, 3, 2), (2, 2), strides=[2, 2]
    ),
    "pool by sums of sizes, padded": lambda: _image(
        "LpPool", (2, 5), (3, 3), (3,), p=1, strides=[2], pads=[1, 1]
    ),
    "pool by cubes, rounded up": lambda: _image(
        "LpPool", (2, 6, 6), (3, 3, 3), (3, 2), 18, p=3, strides=[2, 2], ceil_mode=1
    ),
    "pool by lengths, dilated": lambda: _image(
        "LpPool", (2, 7), (3, 5), (2,), 18, dilations=[2]
    ),
    "length of an image": lambda: _image("GlobalLpPool", (2, 4, 5), (3, 1, 1), (1, 1)),
    "cubes of an image": lambda: _image("GlobalLpPool", (2, 6), (3, 1), (1,), p=3),
    "average pool, three axes": lambda: _image(
        "AveragePool", (2, 4, 5, 4), (3, 2, 2, 2), (2, 2, 2), strides=[2, 2, 2]
    ),
    "global maximum": lambda: _image("GlobalMaxPool", (2, 5, 4), (3, 1, 1), (1, 1)),
    "global maximum, one axis": lambda: _image("GlobalMaxPool", (2, 5), (3, 1), (1,)),
}
