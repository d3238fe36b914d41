"""Computes what a model computes without looking at its input: arithmetic of shapes.

Exporters write sizes as graphs (Shape, Gather, Concat, ...), so the batch size wanders
through integers before it comes back as the target of a Reshape. With the batch set to
a number, all of these are constants; ONNX's shape inference and the evaluation of nodes
whose inputs are known take turns until neither finds more.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import InferenceError, infer_shapes

from starling.compiler.errors import CompileError
from starling.compiler.ir.network import Array

ROUNDS_MAX = 32
VALUES_MAX = 1 << 20
"""Of one folded value: masks and tables are small, and a file must not ask for more."""

_LENGTH_MAX = 1 << 22
"""Of a vector that is counted up or joined before anything runs."""

_FOLDABLE_NAMES = (
    "Abs Add And ArgMax ArgMin BlackmanWindow Cast Ceil Concat ConstantOfShape "
    "CumSum Div Equal Expand EyeLike Flatten Floor Gather GatherElements GatherND "
    "Greater GreaterOrEqual HammingWindow HannWindow Identity Less LessOrEqual Max "
    "MelWeightMatrix Min Mod Mul Neg NonZero Not Or Pow Range ReduceMax ReduceMin "
    "ReduceProd ReduceSum Reshape Round ScatterElements ScatterND Shape Sign Size "
    "Slice Split Sqrt Squeeze Sub Tile Transpose Trilu Unsqueeze Where Xor"
)
FOLDABLE = frozenset(_FOLDABLE_NAMES.split())
_SHAPED = frozenset({"EyeLike", "Shape", "Size"})
"""They look at the shape of their input alone."""
_GROWING_NAMES = (
    "BlackmanWindow ConstantOfShape Expand EyeLike HammingWindow HannWindow "
    "MelWeightMatrix Range Tile"
)
_GROWING = frozenset(_GROWING_NAMES.split())
"""Their outputs may be far larger than their inputs, so the size is known first."""
_ADDING = frozenset({"Concat", "Range", "Reshape", "Slice", "Split"})
"""Their outputs are at most as large as their inputs together."""

Sizes = tuple[int, ...]


def settle(
    proto: onnx.ModelProto, kept: Collection[str]
) -> tuple[dict[str, Sizes], dict[str, Array]]:
    """Finds every shape and every value that does not depend on the input's values.

    Args:
      proto: A model whose input has a fixed size along each axis; it is changed.
      kept: Names of initialisers that count as unknown, because they are trained.

    Returns:
      Name to shape, and name to value of what nodes computed from constants alone.

    Raises:
      CompileError: If the shapes contradict each other.
    """
    graph = proto.graph
    known = {
        item.name: numpy_helper.to_array(item)
        for item in graph.initializer
        if item.name not in kept
    }
    folded: dict[str, Array] = {}
    _hint_types(graph)
    shapes = _inferred(proto)
    # New constants give new shapes, and these give new constants; a file may chain them
    # to make the compiler loop, hence the bound.
    for _ in range(ROUNDS_MAX):
        fresh = _sweep(proto, shapes, known)
        if not fresh and not _hint(proto, shapes):
            break
        folded |= fresh
        # A value must not have both a node and an initialiser under its name, or
        # inference refuses the model.
        left = [node for node in graph.node if node.output[0] not in fresh]
        del graph.node[:]
        graph.node.extend(left)
        graph.initializer.extend(
            [numpy_helper.from_array(value, name) for name, value in fresh.items()]
        )
        shapes = _inferred(proto)
    return shapes, folded


def computed(
    proto: onnx.ModelProto, shapes: Mapping[str, Sizes], kept: Collection[str]
) -> dict[str, Array]:
    """Values that nodes compute from constants and from shapes that are known.

    Args:
      proto: A model, which is not changed.
      shapes: Name to shape of what is known.
      kept: Names of initialisers that count as unknown.

    Raises:
      CompileError: If a node cannot be computed.
    """
    known = {
        item.name: numpy_helper.to_array(item)
        for item in proto.graph.initializer
        if item.name not in kept
    }
    return _sweep(proto, shapes, known)


_UNTYPED = frozenset({"GroupNormalization"})
"""Operators of which inference says nothing; their outputs are like their inputs."""


def _hint_types(graph: onnx.GraphProto) -> None:
    """Says that what inference does not know holds floats, as all that is trained."""
    known = {item.name for item in graph.output}
    for node in graph.node:
        if node.op_type in _UNTYPED and node.output[0] not in known:
            info = graph.value_info.add(name=node.output[0])
            info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def _hint(proto: onnx.ModelProto, shapes: Mapping[str, Sizes]) -> bool:
    """Adds shapes that inference does not know, and says whether there were any."""
    hints = {
        node.output[0]: shapes[node.input[0]]
        for node in proto.graph.node
        if node.op_type in _UNTYPED
        and node.input[0] in shapes
        and node.output[0] not in shapes
    }
    for info in (*proto.graph.value_info, *proto.graph.output):
        if info.name in hints:
            for size in hints[info.name]:
                info.type.tensor_type.shape.dim.add(dim_value=size)
    return bool(hints)


def _sweep(
    proto: onnx.ModelProto, shapes: Mapping[str, Sizes], known: dict[str, Array]
) -> dict[str, Array]:
    """Evaluates each node whose inputs are known by now, once."""
    fresh = {}
    for node in proto.graph.node:
        for name, value in _evaluated(node, proto, shapes, known).items():
            known[name] = fresh[name] = value
    return fresh


def _evaluated(
    node: onnx.NodeProto,
    proto: onnx.ModelProto,
    shapes: Mapping[str, Sizes],
    known: Mapping[str, Array],
) -> dict[str, Array]:
    if node.op_type == "Constant":
        inputs: dict[str, Array] = {}
    elif node.op_type in _SHAPED and node.input[0] in shapes:
        # Only the shape matters; a view of one value stands for the tensor.
        dummy = np.broadcast_to(np.zeros((), np.float32), shapes[node.input[0]])
        inputs = {node.input[0]: dummy}
    elif node.op_type in FOLDABLE and all(name in known for name in node.input if name):
        inputs = {name: known[name] for name in node.input if name}
        if node.op_type == "CumSum" and inputs[node.input[1]].size == 1:
            # Some exporters write the axis as a vector of one.
            inputs[node.input[1]] = inputs[node.input[1]].reshape(())
    else:
        return {}
    if node.op_type in _GROWING:
        # A file of a few bytes may ask these for any size: they run only where
        # inference has told it.
        target = shapes.get(node.output[0])
        if target is None or math.prod(target) > VALUES_MAX:
            return {}
    read = sum([inputs[name].size for name in node.input if name in inputs])
    size = max(read, _most(node, inputs))
    if size > VALUES_MAX and node.op_type not in _SHAPED:
        return {}
    return _run(node, proto, inputs)


def _most(node: onnx.NodeProto, inputs: Mapping[str, Array]) -> int:
    """The most values that a node can make of its inputs by pairing them."""
    sizes = [value.size for value in inputs.values()]
    if node.op_type == "Gather":
        table, places = inputs[node.input[0]], inputs[node.input[1]]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        rows = max(table.shape[axis], 1) if -table.ndim <= axis < table.ndim else 1
        return places.size * table.size // rows
    # Of these an output is no larger than what is read, which is counted already.
    if len(sizes) < 2 or node.op_type in _ADDING:
        return 0
    try:
        shape = np.broadcast_shapes(*[value.shape for value in inputs.values()])
    # Not of a kind that broadcasts.
    except ValueError:
        return 0
    return math.prod(shape)


def _run(
    node: onnx.NodeProto, proto: onnx.ModelProto, inputs: Mapping[str, Array]
) -> dict[str, Array]:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "one",
        [
            # Outputs are left without a type: the evaluator finds it, and inference may
            # be wrong.
            info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in node.output if name],
    )
    model = helper.make_model(graph, opset_imports=proto.opset_import)
    try:
        results = ReferenceEvaluator(model).run(None, dict(inputs))
    # What a node does to wrong inputs is up to NumPy.
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        name = node.name or node.output[0]
        raise CompileError(
            f"{name} ({node.op_type}): cannot be computed: {str(error)[:200]}", (name,)
        ) from error
    assert isinstance(results, list)
    names = [name for name in node.output if name]
    return {name: np.asarray(value) for name, value in zip(names, results, strict=True)}


def check_lengths(proto: onnx.ModelProto) -> None:
    """Refuses a vector of constants that is longer than any table.

    Inference with data writes each of its numbers down as a size.

    Raises:
      CompileError: Naming the node.
    """
    given = {item.name: item for item in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            given[node.output[0]] = node.attribute[0].t
    lengths: dict[str, float] = {
        name: item.dims[0] for name, item in given.items() if len(item.dims) == 1
    }
    for node in proto.graph.node:
        length = 0.0
        if node.op_type == "Concat":
            length = sum([lengths.get(name, 0.0) for name in node.input])
        elif node.op_type in _COUNTING and given.keys() >= {*node.input}:
            length = _COUNTING[node.op_type]([given[name] for name in node.input])
        if not length <= _LENGTH_MAX:
            name = node.name or node.output[0]
            raise CompileError(
                f"{name} ({node.op_type}): makes more than {_LENGTH_MAX:,} values",
                (name,),
            )
        lengths[node.output[0]] = length


def _range(bounds: Sequence[onnx.TensorProto]) -> float:
    start, stop, step = [
        float(numpy_helper.to_array(item).reshape(-1)[0]) for item in bounds
    ]
    # NaN bounds give NaN, which `not length <= MAX` refuses.
    return (stop - start) / step if step else math.inf


def _vector(shape: Sequence[onnx.TensorProto]) -> float:
    """Length of a constant vector; others are told by their shapes."""
    sizes = numpy_helper.to_array(shape[0]).reshape(-1)
    return float(sizes[0]) if len(sizes) == 1 else 0.0


_COUNTING: Mapping[str, Callable[[Sequence[onnx.TensorProto]], float]] = {
    "ConstantOfShape": _vector,
    "Range": _range,
}


def _with_data(proto: onnx.ModelProto) -> onnx.ModelProto | None:
    """Shapes with what inference computes itself; None where it contradicts itself.

    It takes vectors of any number of axes for plain ones.
    """
    check_lengths(proto)
    try:
        return infer_shapes(proto, strict_mode=True, data_prop=True)
    except (InferenceError, ValueError):
        return None


def _inferred(proto: onnx.ModelProto) -> dict[str, Sizes]:
    try:
        # Data propagation fails on models that are sound; only if plain inference
        # objects too is the model at fault.
        inferred = _with_data(proto) or infer_shapes(proto, strict_mode=True)
    # A message that quotes what is not UTF-8 raises a ValueError of its own.
    except (InferenceError, ValueError) as error:
        line = " ".join(str(error).split())[:300]
        raise CompileError(
            "the shapes inside the model contradict each other for a batch of any "
            f"size: {line}"
        ) from error
    found = {item.name: tuple(item.dims) for item in proto.graph.initializer}
    graph = inferred.graph
    for info in (*graph.input, *graph.value_info, *graph.output):
        sizes = info.type.tensor_type.shape.dim
        known = info.type.tensor_type.HasField("shape")
        if known and all(size.HasField("dim_value") for size in sizes):
            found[info.name] = tuple([size.dim_value for size in sizes])
    return found
