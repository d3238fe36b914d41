"""Images of another size: Resize, and pixels that become channels or come from them.

A Resize acts on each axis by itself and is linear, so each axis has a matrix of what
every new value takes from the old ones. Where each takes one alone (nearest) the matrix
is a choice of places.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from starling.compiler.autodiff.tape import Tape, copy
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor, GraphBuilder
from starling.compiler.ir.graph_writer import OPSET
from starling.compiler.ir.network import NetworkNode

Matrix = NDArray[np.float32]
_SIZE_MAX = 1 << 12
"""Of an axis before and behind: its matrix is part of the graph."""


def resize_forward(tape: Tape, node: NetworkNode) -> None:
    """Writes one product, or one choice of places, for each axis that changes.

    Raises:
      CompileError: If the node crops, or changes the batch.
    """
    value = tape.input(node, 0)
    for axis, matrix in _matrices(tape, node):
        places = _places(matrix)
        if places is None:
            value = _along(tape.build, value, axis, matrix)
        else:
            value = tape.build.select(value, axis, places)
    tape.put(node, value)


def resize(tape: Tape, node: NetworkNode) -> None:
    """Each old value gets the cotangents of what took from it, as much as they took."""
    build, cotangent, x = tape.build, tape.cotangent(node), tape.input(node, 0)
    for axis, matrix in reversed(_matrices(tape, node)):
        places, size = _places(matrix), x.shape[axis]
        assert size is not None
        if places is None:
            cotangent = _along(build, cotangent, axis, matrix.T)
        else:
            cotangent = build.unselect(cotangent, axis, places, size)
    tape.give(node, 0, cotangent)


def depth_to_space_forward(tape: Tape, node: NetworkNode) -> None:
    """Writes the operator on images.

    Raises:
      CompileError: If there is not one image for each example.
    """
    if not tape.input(node, 0).batched:
        raise CompileError(
            f"{node.label}: expected one image for each example; reshape its input "
            "to (batch, channels, height, width)",
            (node.name,),
        )
    copy(tape, node)


def depth_to_space(tape: Tape, node: NetworkNode) -> None:
    """Each pixel's cotangent goes back to the channel that it came from."""
    block = int(node.attributes["blocksize"])
    channels, height, width = tape.input(node, 0).row
    split = (None, channels // block**2, height, block, width, block)
    parts = tape.build.reshape(tape.cotangent(node), split)
    deep = node.attributes.get("mode", b"DCR") == b"DCR"
    order = [0, 3, 5, 1, 2, 4] if deep else [0, 1, 3, 5, 2, 4]
    moved = tape.build.transpose(parts, order)
    tape.give(node, 0, tape.build.reshape(moved, (None, channels, height, width)))


def space_to_depth(tape: Tape, node: NetworkNode) -> None:
    """Each channel's cotangent goes back to the pixel that it came from."""
    block = int(node.attributes["blocksize"])
    channels, height, width = tape.input(node, 0).row
    split = (None, block, block, channels, height // block, width // block)
    parts = tape.build.reshape(tape.cotangent(node), split)
    moved = tape.build.transpose(parts, [0, 3, 4, 1, 5, 2])
    tape.give(node, 0, tape.build.reshape(moved, (None, channels, height, width)))


def _matrices(tape: Tape, node: NetworkNode) -> list[tuple[int, Matrix]]:
    """The axes that change, each with its matrix (old, new)."""
    mode = node.attributes.get("coordinate_transformation_mode", b"half_pixel")
    policy = node.attributes.get("keep_aspect_ratio_policy", b"stretch")
    x = tape.input(node, 0)
    if not x.batched or mode == b"tf_crop_and_resize" or policy != b"stretch":
        raise CompileError(
            f"{node.label}: expected one image for each example, resized as a whole; "
            "crop it with Slice first",
            (node.name,),
        )
    found = []
    for axis, (old, new) in enumerate(zip(x.shape, tape.shape(node), strict=True)):
        scale = _scale(tape, node, axis)
        # The batch axis, along which nothing may be mixed.
        if old is None or new is None:
            if scale not in (None, 1.0):
                raise CompileError(
                    f"{node.label}: resizes the batch; let its first scale be 1",
                    (node.name,),
                )
            continue
        if max(old, new) > _SIZE_MAX:
            raise CompileError(
                f"{node.label}: an axis longer than {_SIZE_MAX}; resize the examples "
                "before the model",
                (node.name,),
            )
        matrix = _matrix(node, old, new, scale)
        if old != new or not np.array_equal(matrix, np.eye(old)):
            found.append((axis, matrix))
    return found


def _scale(tape: Tape, node: NetworkNode, axis: int) -> float | None:
    """Scale of an axis in the model; None where it gives the new size alone."""
    scales = tape.constant(node, 2)
    if scales is None or not scales.size:
        return None
    rank = len(tape.input(node, 0).shape)
    axes = [entry % rank for entry in node.attributes.get("axes", range(rank))]
    return float(scales[axes.index(axis)]) if axis in axes else 1.0


def _matrix(node: NetworkNode, old: int, new: int, scale: float | None) -> Matrix:
    """(old, new), by resizing each of the unit vectors as ONNX defines it."""
    drop = ("axes", "keep_aspect_ratio_policy")
    attributes: dict[str, Any] = {
        key: value for key, value in node.attributes.items() if key not in drop
    }
    info = helper.make_tensor_value_info
    inputs = {"x": np.eye(old, dtype=np.float32)}
    if scale is None:
        inputs["sizes"] = np.array([old, new], np.int64)
        names = ["x", "", "", "sizes"]
    else:
        inputs["scales"] = np.array([1.0, scale], np.float32)
        names = ["x", "", "scales"]
    graph = helper.make_graph(
        [helper.make_node("Resize", names, ["y"], **attributes)],
        "one",
        [
            info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in inputs.items()
        ],
        [info("y", TensorProto.FLOAT, [old, new])],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets)
    # A linear map is known by what it makes of unit vectors; so the many modes of
    # coordinates and rounding are written nowhere else.
    results = ReferenceEvaluator(model).run(None, inputs)
    assert isinstance(results, list)
    return np.asarray(results[0], np.float32)


def _places(matrix: Matrix) -> list[int] | None:
    """For each new value the only old one that it takes, if that is all there is."""
    picks = matrix.argmax(axis=0)
    plain = np.zeros_like(matrix)
    plain[picks, np.arange(matrix.shape[1])] = 1.0
    return [int(pick) for pick in picks] if np.array_equal(plain, matrix) else None


def _along(
    build: GraphBuilder, value: BuilderTensor, axis: int, matrix: Matrix
) -> BuilderTensor:
    """The product with a matrix (old, new) along one axis."""
    rank = len(value.shape)
    last = [*[i for i in range(rank) if i != axis], axis]
    product = build.matmul(build.transpose(value, last), build.constant(matrix))
    return build.transpose(product, sorted(range(rank), key=last.__getitem__))
