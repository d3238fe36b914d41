"""Tensors that a file keeps as whole numbers and casts to real ones.

Programs that quantise by themselves store a weight in 4 or 8 bits and write its way
back as Cast, Sub and Mul. Such a tensor becomes one of real numbers under its own name,
so that a survey finds it where it stands; where whole numbers are computed with first
(bits unpacked, zero points taken off), the result of the cast does.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from starling.compiler.ir.network import Array
from starling.compiler.rewrite.frontends.node_writer import evaluated

_KIND_NAMES = (
    "BOOL INT2 INT4 INT8 INT16 INT32 INT64 UINT2 UINT4 UINT8 UINT16 UINT32 UINT64"
)
_KINDS = frozenset([TensorProto.DataType.Value(name) for name in _KIND_NAMES.split()])
_EXACT = 1 << 24
"""Up to here float32 holds every whole number."""
_VALUES_MAX = 1 << 24
"""Of all that is computed for one cast."""
_MOVING: Mapping[str, int | None] = {
    "Cast": 1,
    "Concat": None,
    "Expand": 1,
    "Flatten": 1,
    "Gather": 1,
    "GatherElements": 1,
    "GatherND": 1,
    "Identity": 1,
    "Reshape": 1,
    "Slice": 1,
    "Split": 1,
    "Squeeze": 1,
    "Tile": 1,
    "Transpose": 1,
    "Unsqueeze": 1,
}
"""Operators that only move values, and how many of their first inputs hold these."""
_COMPUTING_NAMES = (
    "Abs Add BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Clip Concat Div "
    "Flatten Gather Identity Max Min Mod Mul Neg Pow Reshape Slice Split Squeeze Sub "
    "Transpose Unsqueeze"
)
_COMPUTING = frozenset(_COMPUTING_NAMES.split())


def real_numbers(
    proto: onnx.ModelProto,
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The same model with such tensors as real numbers, and what they were stored as.

    Args:
      proto: A checked model in float32, which is not changed.

    Returns:
      The model, and by the name of a tensor the element type that the file keeps it in.
    """
    cast = [node for node in proto.graph.node if _to_real(node)]
    if not cast or not any(_stored(proto.graph)):
        return proto, {}
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    model = _Stored(found)
    kinds = {
        name: model.retype(name)
        for name in [item.name for item in _stored(proto.graph)]
        if model.moves_alone(name)
    }
    for node in [node for node in found.graph.node if _to_real(node)]:
        kinds |= model.computed(node)
    model.close()
    return found, kinds


def _to_real(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and _target(node) == TensorProto.FLOAT


def _target(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "to"), 0)


def _stored(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Tensors of more than one whole number, wherever they are written."""
    tensors = list(graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            held = TensorProto()
            held.CopyFrom(node.attribute[0].t)
            held.name = node.output[0]
            tensors.append(held)
    yield from [t for t in tensors if t.data_type in _KINDS and np.prod(t.dims) > 1]


class _Stored:
    """A model whose stored whole numbers are replaced."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto
        self._graph = proto.graph
        self._tensors = {item.name: item for item in proto.graph.initializer}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        self._makers: dict[str, onnx.NodeProto] = {}
        for node in proto.graph.node:
            self._makers |= dict.fromkeys(node.output, node)
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._gone: set[str] = set()
        self._order = {n.output[0]: at for at, n in enumerate(proto.graph.node)}
        self._ends = {item.name for item in proto.graph.output}

    def _tensor(self, name: str) -> TensorProto | None:
        """Tensor of an initialiser or a Constant; None for what is computed."""
        node = self._makers.get(name)
        if node is not None and node.op_type == "Constant":
            attribute = node.attribute[0]
            return attribute.t if attribute.HasField("t") else None
        return self._tensors.get(name)

    def moves_alone(self, name: str) -> bool:
        """True if a tensor's numbers are moved, and cast to real ones at every end."""
        tensor = self._tensor(name)
        if tensor is None:
            return False
        values = numpy_helper.to_array(tensor).astype(np.float64)
        # Rounded to float32 the model would compute something else.
        if np.abs(values).max() > _EXACT:
            return False
        wanted, seen = [name], {name}
        while wanted:
            current = wanted.pop()
            # An output of the model would change its type.
            if current in self._ends or current not in self._readers:
                return False
            for node in self._readers[current]:
                if _to_real(node):
                    continue
                if not self._carries(node, current, values):
                    return False
                fresh = {*node.output} - seen - {""}
                seen |= fresh
                wanted += sorted(fresh)
        return True

    def _carries(self, node: onnx.NodeProto, name: str, values: Array) -> bool:
        if node.op_type not in _MOVING or node.domain:
            return False
        count = _MOVING[node.op_type]
        if name in node.input[count:] or (count is None and len(node.input) > 1):
            return False
        if node.op_type != "Cast":
            return True
        kind = _target(node)
        if kind not in _KINDS:
            return False
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
        # A cast between integers may wrap; then it is part of the computation, and
        # stays.
        return bool(np.array_equal(values.astype(dtype).astype(np.float64), values))

    def retype(self, name: str) -> str:
        """Makes real numbers of a tensor and of what moves it; says what it was."""
        tensor = self._tensor(name)
        assert tensor is not None
        kind: str = TensorProto.DataType.Name(tensor.data_type)
        values = numpy_helper.to_array(tensor).astype(np.float32)
        if name in self._makers:
            self._gone.add(name)
            del self._makers[name]
            tensor = self._graph.initializer.add()
            self._tensors[name] = tensor
        tensor.CopyFrom(numpy_helper.from_array(values, name))
        wanted = [name]
        while wanted:
            for reader in self._readers.get(wanted.pop(), []):
                wanted += [] if _to_real(reader) else list(reader.output)
                if reader.op_type == "Cast":
                    # Both of its sides are real numbers now.
                    reader.op_type = "Identity"
                    del reader.attribute[:]
        return kind.lower()

    def close(self) -> None:
        """Leaves out nodes that tensors stand for, and what was known of types."""
        left = [n for n in self._graph.node if not self._gone.intersection(n.output)]
        del self._graph.node[:], self._graph.value_info[:]
        self._graph.node.extend(left)

    def computed(self, node: onnx.NodeProto) -> dict[str, str]:
        """Puts the result of a cast in its place, where it is computed from such."""
        cone = self._cone(node)
        wide = [t for t in cone[1] if np.prod(t.dims) > 1] if cone else []
        if cone is None or not any(t.data_type in _KINDS for t in wide):
            return {}
        try:
            value = evaluated(cone[0], self._proto.opset_import, cone[1])
        # What does not run here is refused where the model is folded, by node.
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
            return {}
        if value.size < 2:
            return {}
        name = node.output[0]
        self._gone.add(name)
        self._graph.initializer.append(
            numpy_helper.from_array(value.astype(np.float32), name)
        )
        kinds = [
            f"{t.name} in {TensorProto.DataType.Name(t.data_type).lower()}"
            for t in wide
        ]
        return {name: ", ".join(kinds)}

    def _cone(
        self, node: onnx.NodeProto
    ) -> tuple[list[onnx.NodeProto], list[TensorProto]] | None:
        """Nodes and tensors that a value is computed from; None if others are, too."""
        nodes: dict[str, onnx.NodeProto] = {}
        tensors: dict[str, TensorProto] = {}
        wanted, seen = [node.output[0]], set[str]()
        while wanted:
            name = wanted.pop()
            if name in seen or not name:
                continue
            seen.add(name)
            tensor = self._tensor(name)
            maker = self._makers.get(name)
            if tensor is not None:
                # A float that enters is a scale that may be trained; folded in, it
                # would be lost.
                if tensor.data_type in (TensorProto.FLOAT, TensorProto.STRING):
                    return None
                tensors[name] = tensor
            elif maker is None or maker.domain or maker.op_type not in _COMPUTING:
                return None
            else:
                nodes[maker.output[0]] = maker
                wanted += list(maker.input)
        total = sum([int(np.prod(tensor.dims)) for tensor in tensors.values()])
        if total > _VALUES_MAX:
            return None
        found = sorted(
            nodes.values(), key=lambda item: self._order[str(item.output[0])]
        )
        named = []
        for name, tensor in tensors.items():
            copy = TensorProto()
            copy.CopyFrom(tensor)
            copy.name = name
            named.append(copy)
        return found, named
