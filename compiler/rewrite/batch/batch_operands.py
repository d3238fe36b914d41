"""Operands in which the size of a sample batch stands, without it.

Each function changes one node and says whether there was anything to change. The axis
is the one of the node's first input that follows the batch.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from starling.compiler.rewrite.frontends.node_writer import default_opset

_ENDLESS = (1 << 63) - 1
_AXES_SINCE = 18
"""Operator set from which a Resize may leave axes out."""


def constant(graph: onnx.GraphProto, name: str, values: Sequence[int]) -> str:
    """Adds whole numbers to a graph, and returns their name."""
    array = np.array(values, np.int64)
    graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def opened(
    graph: onnx.GraphProto, node: onnx.NodeProto, axis: int, rank: int, batch: int
) -> bool:
    """Lets a slice that ends where the batch does go on to its end."""
    given = {item.name: item for item in graph.initializer}
    names = list(node.input[1:])
    if not given.keys() >= {*names} - {""}:
        return False
    values = [
        numpy_helper.to_array(given[name]).reshape(-1).tolist() if name else []
        for name in names
    ]
    starts, stops = values[:2]
    axes = values[2] if values[2:] and values[2] else list(range(len(starts)))
    ends = [
        place
        for place, along in enumerate(axes)
        if along % rank == axis and (starts[place], stops[place]) == (0, batch)
    ]
    if not ends:
        return False
    stops[ends[0]] = _ENDLESS
    node.input[2] = constant(graph, f"{node.output[0]}/freed", stops)
    return True


def widened(
    graph: onnx.GraphProto, node: onnx.NodeProto, axis: int, rank: int, batch: int
) -> bool:
    """Lets an expanded value that follows the batch keep its own length along it."""
    given = {item.name: item for item in graph.initializer}
    if node.input[1] not in given:
        return False
    target = numpy_helper.to_array(given[node.input[1]]).reshape(-1).tolist()
    place = len(target) - rank + axis
    # A target of 1 broadcasts to any length already.
    if place < 0 or target[place] != batch or batch == 1:
        return False
    target[place] = 1
    node.input[1] = constant(graph, f"{node.output[0]}/freed", target)
    return True


def resized(
    proto: onnx.ModelProto, node: onnx.NodeProto, axis: int, batch: int
) -> bool:
    """Lets a Resize to constant sizes name none for the batch."""
    given = {item.name: item for item in proto.graph.initializer}
    name = node.input[3] if len(node.input) > 3 else ""
    named = any(item.name == "axes" for item in node.attribute)
    # Before that version each axis needs a size, the batch's too, and no constant fits
    # every batch.
    if name not in given or named or default_opset(proto) < _AXES_SINCE:
        return False
    sizes = numpy_helper.to_array(given[name]).reshape(-1).tolist()
    if sizes[axis] != batch:
        return False
    others = [place for place in range(len(sizes)) if place != axis]
    kept = [sizes[place] for place in others]
    node.input[3] = constant(proto.graph, f"{node.output[0]}/freed", kept)
    node.attribute.append(helper.make_attribute("axes", others))
    return True
