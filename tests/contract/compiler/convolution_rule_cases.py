"""Small models around convolutions, transposed ones and ones with a pooling behind."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from starling.compiler.ir.graph_writer import Attribute
from tests.unit.compiler.small_models import build, node, weight

Model = tuple[onnx.ModelProto, str]


def _transposed(
    shape: tuple[int, ...], out: tuple[int, ...], **attributes: Attribute
) -> Model:
    """A convolution, and a transposed one behind it."""
    rng = np.random.default_rng(15)
    rank = len(shape) - 2
    weights = {
        "first": weight(rng, shape[0], 2, *[1] * rank),
        "w": weight(rng, *shape),
        "b": weight(rng, out[0]),
    }
    nodes = [
        node("Conv", ["x", "first"], ["h"]),
        node("ConvTranspose", ["h", "w", "b"], ["out"], "", **attributes),
    ]
    return build(nodes, weights, (2, *[4] * rank), out), "mse"


def _convolution(
    row: tuple[int, ...],
    shape: tuple[int, ...],
    out: tuple[int, ...],
    **attributes: Attribute,
) -> Model:
    """Two convolutions, the second as told, so that its image needs a cotangent."""
    rng = np.random.default_rng(4)
    first = weight(rng, row[0], row[0], *[1] * (len(row) - 1))
    weights = {"first": first, "w": weight(rng, *shape), "b": weight(rng, shape[0])}
    nodes = [
        node("Conv", ["x", "first"], ["h"]),
        node("Conv", ["h", "w", "b"], ["out"], "", **attributes),
    ]
    return build(nodes, weights, row, out), "mse"


def _pooled(
    shape: tuple[int, ...],
    pool: tuple[int, ...],
    out: tuple[int, ...],
    between: str = "",
    **attributes: Attribute,
) -> Model:
    """A convolution and tiles of it, behind one that needs its image's cotangent."""
    rng = np.random.default_rng(10)
    row = (2, *[9 + axis for axis in range(len(pool))])
    weights = {
        "first": weight(rng, 2, 2, *[1] * len(pool)),
        "w": weight(rng, *shape),
        "b": weight(rng, shape[0]),
    }
    nodes = [
        node("Conv", ["x", "first"], ["h"]),
        node("Conv", ["h", "w", "b"], ["c"], "", **attributes),
        node(between or "Identity", ["c"], ["r"]),
        node("MaxPool", ["r"], ["out"], "", kernel_shape=pool, strides=pool),
    ]
    if not between:
        nodes[1].output[0] = "r"
        del nodes[2]
    return build(nodes, weights, row, out), "mse"


CONVOLUTION_CASES: Mapping[str, Callable[[], Model]] = {
    "convolution": lambda: _convolution((2, 6, 5), (4, 2, 3, 2), (4, 4, 4)),
    "convolution, stride": lambda: _convolution(
        (2, 8, 7), (3, 2, 3, 3), (3, 3, 3), strides=[2, 2]
    ),
    "convolution, padding": lambda: _convolution(
        (2, 5, 5), (3, 2, 3, 3), (3, 5, 5), pads=[1, 1, 1, 1]
    ),
    "convolution, uneven": lambda: _convolution(
        (2, 6, 6), (3, 2, 3, 2), (3, 3, 4), strides=[2, 2], pads=[0, 1, 1, 2]
    ),
    "convolution, dilation": lambda: _convolution(
        (2, 7, 7), (3, 2, 3, 3), (3, 3, 3), dilations=[2, 2]
    ),
    "convolution, groups": lambda: _convolution(
        (4, 5, 5), (6, 2, 3, 3), (6, 3, 3), group=2
    ),
    "convolution, depthwise": lambda: _convolution(
        (4, 5, 5), (4, 1, 3, 3), (4, 5, 5), group=4, pads=[1, 1, 1, 1]
    ),
    "convolution, automatic padding": lambda: _convolution(
        (2, 5, 6), (3, 2, 3, 3), (3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    "convolution, automatic padding before": lambda: _convolution(
        (2, 6, 6), (3, 2, 3, 3), (3, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER"
    ),
    "convolution, one axis": lambda: _convolution(
        (3, 12), (4, 3, 5), (4, 5), strides=[2], pads=[1, 1]
    ),
    "convolution, three axes": lambda: _convolution(
        (2, 4, 5, 4),
        (4, 2, 3, 2, 3),
        (4, 4, 2, 2),
        strides=[1, 2, 1],
        pads=[1, 0, 0] * 2,
    ),
    "transposed, three axes": lambda: _transposed(
        (3, 2, 3, 2, 3), (2, 8, 8, 9), strides=[2, 2, 2], pads=[1, 0, 0, 0, 0, 0]
    ),
    "convolution, one pixel": lambda: _convolution((4, 3, 3), (5, 4, 1, 1), (5, 3, 3)),
    "convolution, wide": lambda: _convolution((2, 12, 12), (3, 2, 9, 8), (3, 4, 5)),
    "convolution, wide and padded": lambda: _convolution(
        (2, 9, 9), (3, 2, 9, 9), (3, 5, 4), strides=[2, 3], pads=[4, 4, 4, 4]
    ),
    "pooled": lambda: _pooled((3, 2, 2, 3), (2, 2), (3, 4, 4)),
    "pooled, relu between": lambda: _pooled((3, 2, 2, 3), (2, 2), (3, 4, 4), "Relu"),
    "pooled, tanh between": lambda: _pooled((3, 2, 2, 3), (2, 2), (3, 4, 4), "Tanh"),
    "pooled, rim left out": lambda: _pooled((3, 2, 2, 2), (3, 4), (3, 2, 2)),
    "pooled, stride": lambda: _pooled(
        (3, 2, 3, 3), (2, 2), (3, 2, 2), strides=[2, 2], pads=[1, 1, 1, 1]
    ),
    "pooled, stride and rim": lambda: _pooled(
        (3, 2, 1, 2), (2, 3), (3, 2, 1), strides=[2, 2]
    ),
    "pooled, dilation": lambda: _pooled(
        (3, 2, 3, 2), (2, 3), (3, 2, 2), dilations=[2, 3], pads=[0, 1, 0, 0]
    ),
    "pooled, wide": lambda: _pooled((3, 2, 8, 9), (2, 2), (3, 1, 1)),
    "pooled, one axis": lambda: _pooled((3, 2, 3), (3,), (3, 2), "Relu", pads=[0, 1]),
    "transposed": lambda: _transposed((3, 2, 3, 2), (2, 6, 5)),
    "transposed, stride": lambda: _transposed(
        (3, 2, 3, 3), (2, 8, 8), strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]
    ),
    "transposed, dilation": lambda: _transposed(
        (3, 2, 2, 2), (2, 5, 7), dilations=[2, 3], pads=[1, 0, 0, 0]
    ),
    "transposed, one axis": lambda: _transposed((3, 2, 3), (2, 9), strides=[2]),
}
