"""What a board checks about a graph before it runs it, without the onnx package.

A bounded reader of the protobuf wire format walks only the parts of a model that can do
harm: it refuses operators outside `OPERATORS`, other domains than the default one,
tensors kept in other files, subgraphs (and with them loops), model-local functions and
training information, and whatever is truncated or overlong. It never builds tensors.

Source: Protocol Buffers encoding (protobuf.dev/programming-guides/encoding) and the
field numbers of onnx.proto, IR version 13.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from protocol.errors import DecodeError, LimitError
from protocol.protobuf import fields, message, string

GRAPH_BYTES_MAX = 96 << 20
NODES_MAX = 16384
TENSORS_MAX = 16384
OPSET_MIN, OPSET_MAX = 13, 21

_OPERATOR_NAMES = (
    "Abs Add And AveragePool BatchNormalization Cast Ceil Clip Col2Im Concat Constant "
    "ConstantOfShape Conv ConvTranspose Cos CumSum DepthToSpace Div Einsum Elu Equal "
    "Erf Exp Expand Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm "
    "GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization "
    "HardSigmoid HardSwish Identity InstanceNormalization IsInf IsNaN LSTM "
    "LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool "
    "Min Mod Mul Neg Not OneHot Or PRelu Pad Pow Range Reciprocal ReduceL2 "
    "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare Relu Reshape Round ScatterElements ScatterND Selu Shape Sigmoid "
    "Sign Sin Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub "
    "Sum Tanh Tile TopK Transpose Trilu Unsqueeze Where"
)
OPERATORS = frozenset(_OPERATOR_NAMES.split())
"""Deterministic, without subgraphs, random numbers, strings or optional types."""

_MODEL_GRAPH, _MODEL_OPSET, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_GRAPH_SPARSE = 15
_NODE_NAME, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN, _NODE_OVERLOAD = (
    3,
    4,
    5,
    7,
    8,
)
_ATTRIBUTE_TENSORS = (5, 10)
_ATTRIBUTE_REFUSED = {6: "a subgraph", 11: "subgraphs", 21: "a reference"} | {
    22: "a sparse tensor",
    23: "sparse tensors",
}
_TENSOR_NAME, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8, 13, 14
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_VALUE_NAME = 1
_DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class GraphFacts:
    """What a checked graph is made of.

    Attributes:
      opset: Version of the default operator set.
      operators: Operator to how many nodes use it.
      inputs: Names, in order; initialisers are not among them.
      outputs: Names, in order.
    """

    opset: int
    operators: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def check_graph(model: bytes) -> GraphFacts:
    """Checks a serialised ONNX model; what it returns describes a harmless graph.

    The memory that the graph will ask for is not bounded here: the process that runs it
    has its own limit.

    Args:
      model: A serialised `ModelProto`.

    Raises:
      LimitError: If it is longer than `GRAPH_BYTES_MAX` or has too many parts.
      DecodeError: If it is truncated, malformed or holds what a board does not run.
    """
    if len(model) > GRAPH_BYTES_MAX:
        raise LimitError(f"graph: {len(model)} bytes, {GRAPH_BYTES_MAX} allowed")
    opsets, graphs = [], []
    for number, wire, value in fields(memoryview(model), "model"):
        if number == _MODEL_GRAPH:
            graphs.append(message(wire, value, "graph"))
        elif number == _MODEL_OPSET:
            opsets.append(_opset(message(wire, value, "opset")))
        elif number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
            raise DecodeError("graph: functions and training information are refused")
    if len(graphs) != 1 or len(opsets) != 1:
        raise DecodeError("graph: expected one graph and one operator set")
    if not OPSET_MIN <= opsets[0] <= OPSET_MAX:
        raise DecodeError(f"graph: opset {opsets[0]}, {OPSET_MIN} to {OPSET_MAX} run")
    return _graph(graphs[0], opsets[0])


def _graph(graph: memoryview, opset: int) -> GraphFacts:
    operators: Counter[str] = Counter()
    initialisers, inputs, outputs = set(), [], []
    for number, wire, value in fields(graph, "graph"):
        if number == _GRAPH_NODE:
            operators[_node(message(wire, value, "node"))] += 1
        elif number == _GRAPH_INITIALIZER:
            initialisers.add(_tensor(message(wire, value, "initializer")))
        elif number == _GRAPH_INPUT:
            inputs.append(_value_name(message(wire, value, "input")))
        elif number == _GRAPH_OUTPUT:
            outputs.append(_value_name(message(wire, value, "output")))
        elif number == _GRAPH_SPARSE:
            raise DecodeError("graph: sparse initializers are refused")
        if operators.total() > NODES_MAX or len(initialisers) > TENSORS_MAX:
            raise LimitError(f"graph: more than {NODES_MAX} nodes or tensors")
    names = tuple([name for name in inputs if name not in initialisers])
    return GraphFacts(opset, dict(sorted(operators.items())), names, tuple(outputs))


def _node(node: memoryview) -> str:
    operator, name, domain = "", "", ""
    attributes = []
    for number, wire, value in fields(node, "node"):
        if number == _NODE_OPERATOR:
            operator = string(wire, value)
        elif number == _NODE_NAME:
            name = string(wire, value)
        elif number == _NODE_DOMAIN:
            domain = string(wire, value)
        elif number == _NODE_ATTRIBUTE:
            attributes.append(message(wire, value, "attribute"))
        elif number == _NODE_OVERLOAD:
            raise DecodeError("graph: overloaded functions are refused")
    if domain not in _DEFAULT_DOMAINS or operator not in OPERATORS:
        shown = f"{domain}.{operator}".strip(".")
        raise DecodeError(f"graph: operator {shown[:80]!r} at {name[:80]!r} is refused")
    for attribute in attributes:
        _attribute(attribute, name)
    return operator


def _attribute(attribute: memoryview, node: str) -> None:
    for number, wire, value in fields(attribute, "attribute"):
        if number in _ATTRIBUTE_REFUSED:
            what = _ATTRIBUTE_REFUSED[number]
            raise DecodeError(f"graph: {what} at {node[:80]!r} is refused")
        if number in _ATTRIBUTE_TENSORS:
            _tensor(message(wire, value, "tensor"))


def _tensor(tensor: memoryview) -> str:
    name = ""
    for number, wire, value in fields(tensor, "tensor"):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
            raise DecodeError("graph: tensors in other files are refused")
        if number == _TENSOR_NAME:
            name = string(wire, value)
    return name


def _value_name(info: memoryview) -> str:
    for number, wire, value in fields(info, "value"):
        if number == _VALUE_NAME:
            return string(wire, value)
    raise DecodeError("graph: an input or output without a name")


def _opset(entry: memoryview) -> int:
    domain, version = "", 0
    for number, wire, value in fields(entry, "opset"):
        if number == _OPSET_DOMAIN:
            domain = string(wire, value)
        elif number == _OPSET_VERSION and isinstance(value, int):
            version = value
    if domain not in _DEFAULT_DOMAINS:
        raise DecodeError(f"graph: operator set {domain[:80]!r} is refused")
    return version
