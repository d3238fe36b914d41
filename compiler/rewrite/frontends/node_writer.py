"""Standard nodes in the place of others: what lowerings of all toolkits write with.

Numbers that no one trains become constants, others initialisers.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.checker import ValidationError
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import InferenceError, infer_shapes

from starling.compiler.errors import CompileError
from starling.protocol.errors import DecodeError

Numbers = Mapping[str, Any]
"""Attributes of a node."""
_AXES_SINCE_13 = frozenset({"ReduceSum", "Squeeze", "Unsqueeze"})
_REAL = (TensorProto.FLOAT, TensorProto.UNDEFINED)


class Writer:
    """The nodes and initialisers that stand in for others."""

    def __init__(
        self, graph: onnx.GraphProto, kinds: Mapping[str, int], opset: int
    ) -> None:
        """Starts without nodes.

        Args:
          graph: Takes the initialisers.
          kinds: Element types of values, as far as they are known.
          opset: Version of the default operator set that the nodes are part of.
        """
        self._graph = graph
        self._opset = opset
        self._whole: dict[str, list[int]] = {}
        self._kinds = kinds
        self.nodes: list[onnx.NodeProto] = []

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:  # noqa: ANN401 - as ONNX takes them
        """Adds a node and returns the name of its output."""
        # Until these versions axes were an attribute.
        since = 13 if kind in _AXES_SINCE_13 else 18
        turned = kind in _AXES_SINCE_13 or kind.startswith("Reduce")
        if turned and self._opset < since and self._whole.keys() & {*inputs[1:2]}:
            attributes["axes"] = self._whole[inputs[1]]
            inputs = inputs[:1]
        made = helper.make_node(kind, inputs, [output], output, **attributes)
        self.nodes.append(made)
        return output

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """Adds numbers that no one trains."""
        tensor = numpy_helper.from_array(values, name)
        return self.node("Constant", [], name, value=tensor)

    def real(self, name: str, *values: float) -> str:
        """The same for a row of real numbers, or for one."""
        shaped = np.array(values if len(values) > 1 else values[0], np.float32)
        return self.constant(name, shaped)

    def whole(self, name: str, values: object) -> str:
        """The same for whole numbers."""
        array = np.array(values, np.int64)
        self._whole[name] = array.reshape(-1).tolist()
        return self.constant(name, array)

    def weight(self, name: str, values: NDArray[np.float32]) -> str:
        """Adds numbers that may be trained."""
        self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def cast(self, name: str, output: str, kind: int = TensorProto.FLOAT) -> str:
        """A value in another element type; itself if it has that already."""
        known = self._kinds.get(name, TensorProto.UNDEFINED)
        if known == kind or (kind == TensorProto.FLOAT and known in _REAL):
            return name
        return self.node("Cast", [name], output, to=kind)


def default_opset(proto: onnx.ModelProto) -> int:
    """Version of the default operator set; the newest that is known without one."""
    found = [item.version for item in proto.opset_import if not item.domain]
    return int(found[0]) if found else onnx.defs.onnx_opset_version()


def called(node: onnx.NodeProto) -> str:
    """Name of a node in messages and new values."""
    return str(node.name or node.output[0])


def typed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model with the shapes and types of its values, as far as they can be found.

    Inference trusts what it is given, so that only checked models are.
    """
    try:
        onnx.checker.check_model(proto)
        return infer_shapes(proto)
    # The bindings raise their own errors, of several kinds.
    except (ValidationError, InferenceError, RuntimeError, TypeError, ValueError):
        return proto


def contents(tensor: onnx.TensorProto) -> NDArray[np.generic]:
    """Values of a tensor.

    Raises:
      DecodeError: If its values are not those that shape and type ask for.
    """
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"model: the tensor {tensor.name!r} is malformed") from error


def evaluated(
    nodes: Sequence[onnx.NodeProto],
    opsets: Sequence[onnx.OperatorSetIdProto],
    known: Sequence[onnx.TensorProto],
) -> NDArray[np.generic]:
    """Result of the last of some nodes, computed from constants.

    Raises as NumPy does.

    Args:
      nodes: In the order in which they are computed.
      opsets: Of the model.
      known: The constants, by the names that nodes read.
    """
    result = helper.make_empty_tensor_value_info(nodes[-1].output[0])
    graph = helper.make_graph(list(nodes), "constant", [], [result], list(known))
    model = helper.make_model(graph, opset_imports=opsets)
    results = ReferenceEvaluator(model).run(None, {})
    assert isinstance(results, list)
    return np.asarray(results[0])


@contextmanager
def well_formed(node: onnx.NodeProto) -> Iterator[None]:
    """Names a node whose numbers do not fit each other.

    Raises:
      DecodeError: In place of what reading them raised.
    """
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise DecodeError(
            f"model: {called(node)} ({node.op_type}) is malformed: {str(error)[:100]}"
        ) from error


def refused(node: onnx.NodeProto, detail: str) -> CompileError:
    """The error for a node that cannot be lowered."""
    return CompileError(f"{called(node)} ({node.op_type}): {detail}", (node.name,))
