"""Whole numbers of a model that do not depend on its inputs become constants.

Exporters write sizes as graphs, and a part of a width hides the shape of what comes
behind it.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from starling.compiler.errors import CompileError
from starling.compiler.rewrite.constant_folding import computed, settle
from starling.compiler.rewrite.model_inputs import inputs

Sizes = tuple[int, ...]
_FLOATS = frozenset({TensorProto.DOUBLE, TensorProto.FLOAT})


def known_sizes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which whole numbers that do not depend on the inputs are constants.

    Args:
      proto: A checked model, which is not changed.
    """
    found, trial = onnx.ModelProto(), onnx.ModelProto()
    found.CopyFrom(proto)
    trial.CopyFrom(proto)
    # Exporters write shapes of the sample batch here, which would count as known.
    del trial.graph.value_info[:]
    floats = [i.name for i in proto.graph.initializer if i.data_type in _FLOATS]
    try:
        _, values = settle(trial, floats)
    # What cannot be computed is refused later, with its own message.
    except CompileError:
        return found
    moving = {entry.name for entry in inputs(proto)}
    kept = []
    for node in proto.graph.node:
        # By the graph, not by what folding found: a Shape of an input has a value for
        # this batch and must not become a constant.
        if moving.intersection(node.input):
            moving.update(node.output)
        value = values.get(node.output[0])
        still = node.output[0] not in moving and len(node.output) == 1
        if still and value is not None and value.dtype.kind in "iub":
            tensor = numpy_helper.from_array(value, node.output[0])
            found.graph.initializer.append(tensor)
        else:
            kept.append(node)
    del found.graph.node[:]
    found.graph.node.extend(kept)
    return found


def settle_sizes(
    proto: onnx.ModelProto, ours: Mapping[str, Sizes], theirs: Mapping[str, Sizes]
) -> bool:
    """Makes constants of whole numbers that no batch changes.

    Args:
      proto: A model, which is changed.
      ours: Name to shape, for one batch, of what follows the batch: where it does not
        yet, a shape says nothing.
      theirs: The same for another batch.

    Returns:
      Whether there were any.
    """
    graph = proto.graph
    given = {item.name: tuple(item.dims) for item in graph.initializer}
    floats = [i.name for i in graph.initializer if i.data_type in _FLOATS]
    try:
        first, second = [
            computed(proto, {**shapes, **given}, floats) for shapes in (ours, theirs)
        ]
    # What cannot be computed is refused later, with its own message.
    except CompileError:
        return False
    same = {
        name: value
        for name, value in first.items()
        if value.dtype.kind in "iub"
        and name in second
        and np.array_equal(value, second[name])
    }
    # What two batches agree on is taken for what any batch gives.
    kept = [n for n in graph.node if len(n.output) > 1 or n.output[0] not in same]
    names = [n.output[0] for n in graph.node if n not in kept]
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(
        [numpy_helper.from_array(same[name], name) for name in names]
    )
    return bool(names)
