"""Graphs are read whole or refused, with all that boards do not run."""

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from starling.engine.onnx_graph import ElementType
from starling.engine.onnx_reader import (
    GRAPH_BYTES_MAX,
    NODES_MAX,
    RANK_MAX,
    TENSORS_MAX,
    KnownNodes,
    read_graph,
)
from starling.engine.onnx_writer import write_graph
from starling.engine.protobuf_wire import FIELDS_MAX, TEXT_BYTES_MAX
from starling.protocol.errors import DecodeError, LimitError, ProtocolError
from tests.unit.engine.reader_models import PLACE, _beside, six_node_model
from tests.unit.engine.small_graphs import (
    INT64,
    bytes_field,
    made,
    model_bytes,
    number_field,
    value,
)


def _subgraph(model: onnx.ModelProto) -> None:
    attribute = onnx.AttributeProto(name="body", type=onnx.AttributeProto.GRAPH)
    attribute.g.name = "body"
    model.graph.node[1].attribute.append(attribute)


def _attribute(
    **fields: Any,  # noqa: ANN401 - whatever the message takes
) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        made_here = onnx.AttributeProto(name="odd", **fields)
        model.graph.node[1].attribute.append(made_here)

    return change


def _first_tensor(**fields: object) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        for name, content in fields.items():
            setattr(model.graph.initializer[0], name, content)

    return change


def _external(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")


def _typed_entries(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.int64_data.append(-1)


def _string_tensor(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_type = TensorProto.STRING
    tensor.string_data.append(b"a")


def _input_of(kind: str) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        tensor = onnx.TypeProto()
        getattr(tensor, kind).SetInParent()
        model.graph.input[0].type.CopyFrom(tensor)

    return change


def _dimension(**fields: object) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        shape = model.graph.input[1].type.tensor_type.shape
        shape.dim[0].Clear()
        for name, content in fields.items():
            setattr(shape.dim[0], name, content)

    return change


A = onnx.AttributeProto


REFUSED: dict[str, Callable[[onnx.ModelProto], object]] = {
    "other domain": lambda m: setattr(m.graph.node[1], "domain", "com.microsoft"),
    "the default domain by its other name": lambda m: setattr(
        m.graph.node[1], "domain", "ai.onnx"
    ),
    "domain of operators": lambda m: m.opset_import.add(domain="custom", version=1),
    "operator set twice": lambda m: m.opset_import.add(domain="", version=18),
    "operator set too new": lambda m: setattr(m.opset_import[0], "version", 22),
    "operator set too old": lambda m: setattr(m.opset_import[0], "version", 12),
    "no operator set": lambda m: m.ClearField("opset_import"),
    "format too old": lambda m: setattr(m, "ir_version", 7),
    "format too new": lambda m: setattr(m, "ir_version", 99),
    "no format": lambda m: m.ClearField("ir_version"),
    "no graph": lambda m: m.ClearField("graph"),
    "no operator": lambda m: m.graph.node[1].ClearField("op_type"),
    "function": lambda m: m.functions.add(name="f"),
    "training": lambda m: m.training_info.add(),
    "metadata": lambda m: m.metadata_props.add(key="a", value="b"),
    "metadata of a node": lambda m: m.graph.node[0].metadata_props.add(key="a"),
    "domain of the model": lambda m: setattr(m, "domain", "a"),
    "model version": lambda m: setattr(m, "model_version", 1),
    "text about the model": lambda m: setattr(m, "doc_string", "a"),
    "text about the graph": lambda m: setattr(m.graph, "doc_string", "a"),
    "sparse constant": lambda m: m.graph.sparse_initializer.add(),
    "quantisation": lambda m: m.graph.quantization_annotation.add(),
    "types of inner values": lambda m: m.graph.value_info.append(
        value("h", INT64, [1])
    ),
    "overload": lambda m: setattr(m.graph.node[1], "overload", "other"),
    "subgraph": _subgraph,
    "reference": _attribute(type=A.INT, ref_attr_name="a"),
    "tensor": _attribute(type=A.TENSOR, t=TensorProto()),
    "tensors": _attribute(type=A.TENSORS),
    "graphs": _attribute(type=A.GRAPHS),
    "reals": _attribute(type=A.FLOATS, floats=[1.0]),
    "texts": _attribute(type=A.STRINGS, strings=[b"a"]),
    "sparse tensor": _attribute(type=A.SPARSE_TENSOR),
    "type": _attribute(type=A.TYPE_PROTO),
    "text about an attribute": _attribute(type=A.INT, i=1, doc_string="a"),
    "attribute without a type": _attribute(i=1),
    "attribute without a value": _attribute(type=A.INT),
    "attribute of two kinds": _attribute(type=A.INT, i=1, f=1.0),
    "attribute of another kind": _attribute(type=A.INTS, i=1),
    "attribute that is no number": _attribute(type=A.FLOAT, f=float("nan")),
    "attribute that is no text": _attribute(type=A.STRING, s=b"\xff"),
    "attribute twice": lambda m: m.graph.node[1].attribute.append(
        helper.make_attribute("axis", 0)
    ),
    "constant elsewhere": _external,
    "constant said to be elsewhere": _first_tensor(data_location=TensorProto.EXTERNAL),
    "constant said to be here": _first_tensor(data_location=TensorProto.DEFAULT),
    "constant of typed entries": _typed_entries,
    "constant of texts": _string_tensor,
    "constant in pieces": lambda m: m.graph.initializer[0].segment.SetInParent(),
    "constant without entries": lambda m: m.graph.initializer[0].ClearField("raw_data"),
    "constant too short": _first_tensor(raw_data=bytes(31)),
    "constant too long": _first_tensor(raw_data=bytes(33)),
    "constant of doubles": _first_tensor(data_type=TensorProto.DOUBLE),
    "constant without a type": lambda m: m.graph.initializer[0].ClearField("data_type"),
    "constant of an unknown type": _first_tensor(data_type=99),
    "constant without a name": lambda m: m.graph.initializer[0].ClearField("name"),
    "constant of a negative size": lambda m: m.graph.initializer[0].dims.append(-1),
    "constant of a huge size": lambda m: m.graph.initializer[0].dims.append(1 << 40),
    "truth beyond one": _first_tensor(
        data_type=TensorProto.BOOL, raw_data=b"\x00\x02" * 4
    ),
    "nameless input": lambda m: m.graph.input.add(),
    "input without a type": lambda m: m.graph.input.add(name="z"),
    "input that is a sequence": _input_of("sequence_type"),
    "input that is a map": _input_of("map_type"),
    "input that is optional": _input_of("optional_type"),
    "input that is sparse": _input_of("sparse_tensor_type"),
    "meaning of an input": lambda m: setattr(
        m.graph.input[0].type, "denotation", "IMAGE"
    ),
    "text about an input": lambda m: setattr(m.graph.input[0], "doc_string", "a"),
    "axis without a size": _dimension(),
    "axis with a meaning": _dimension(dim_value=1, denotation="BATCH"),
    "axis of a negative size": _dimension(dim_value=-1),
    "axis of a huge size": _dimension(dim_value=1 << 31),
    "name that is not printable": lambda m: setattr(m.graph.node[0], "name", "a\n"),
    "name that says where to go": lambda m: m.graph.node[0].input.append("\u202e"),
}


def test_graph_that_is_read_tells_all_its_parts() -> None:
    graph = read_graph(six_node_model().SerializeToString())

    assert (graph.ir_version, graph.opset) == (8, 18)
    assert graph.operators["Softmax"] == 1
    assert [each.name for each in graph.inputs] == ["theta", "x", "y"]
    assert graph.inputs[1].shape == ("n", 4)
    assert [each.name for each in graph.outputs] == ["out"]
    assert graph.tensors[1].type is ElementType.INT64
    assert graph.tensors[1].integers() == (-1,)
    assert graph.nodes[0].name == "first"
    assert [dict(each.attributes) for each in graph.nodes] == [
        {},
        {"axis": -1},
        {"alpha": 0.25},
        {"blocksize": 1, "mode": "CRD"},
        {"perm": (1, 0)},
        {},
    ]


def test_graph_that_is_written_is_what_was_read() -> None:
    graph = read_graph(six_node_model().SerializeToString())

    data = write_graph(graph)

    assert read_graph(data) == graph
    assert write_graph(read_graph(data)) == data
    onnx.checker.check_model(onnx.load_from_string(data))


def test_node_that_another_graph_has_is_read_once() -> None:
    first, second = six_node_model(), six_node_model()
    second.graph.node[0].name = "other"
    nodes: KnownNodes = {}

    found = [
        read_graph(model.SerializeToString(), nodes=nodes) for model in (first, second)
    ]

    assert found == [read_graph(m.SerializeToString()) for m in (first, second)]
    assert found[0].nodes[1] is found[1].nodes[1]
    assert len(nodes) == len(found[0].nodes) + 1


def test_name_of_the_producer_is_read_and_not_kept() -> None:
    model = six_node_model()
    plain = write_graph(read_graph(model.SerializeToString()))
    model.producer_name, model.producer_version = "pytorch", "2.9"

    assert write_graph(read_graph(model.SerializeToString())) == plain


@pytest.mark.parametrize("case", REFUSED)
def test_graph_with_what_boards_do_not_run_is_refused(case: str) -> None:
    model = six_node_model()
    REFUSED[case](model)

    with pytest.raises(ProtocolError):
        read_graph(model.SerializeToString())


def test_axis_with_both_a_size_and_a_name_is_refused() -> None:
    axis = number_field(1, 3) + bytes_field(2, b"n")
    shape = bytes_field(2, bytes_field(1, axis))
    kind = bytes_field(2, bytes_field(1, number_field(1, 1) + shape))
    graph = bytes_field(11, bytes_field(1, b"x") + kind)

    with pytest.raises(DecodeError, match="axis"):
        read_graph(model_bytes(graph))


LONG: dict[str, Callable[[], bytes]] = {
    "bytes": lambda: bytes(GRAPH_BYTES_MAX + 1),
    "nodes": lambda: model_bytes(bytes_field(1, b"") * (NODES_MAX + 1)),
    "tensors": lambda: model_bytes(bytes_field(5, b"") * (TENSORS_MAX + 1)),
    "fields": lambda: model_bytes(
        bytes_field(1, bytes_field(1, b"x") * (FIELDS_MAX + 1))
    ),
    "fields of equal nodes": lambda: model_bytes(
        bytes_field(1, bytes_field(4, b"Add") + bytes_field(1, b"x") * 40) * NODES_MAX
    ),
    "name": lambda: model_bytes(bytes_field(2, b"a" * (TEXT_BYTES_MAX + 1))),
    "axes": lambda: made(
        [], inputs=[value("x", INT64, [1] * (RANK_MAX + 1))]
    ).SerializeToString(),
}


@pytest.mark.parametrize("case", LONG)
def test_graph_beyond_a_named_limit_is_refused(case: str) -> None:
    with pytest.raises(LimitError):
        read_graph(LONG[case]())


def test_graph_truncated_at_any_byte_raises_only_protocol_errors() -> None:
    data = six_node_model().SerializeToString()
    # The last field is the operator set; a cut between fields leaves a whole message.
    for length in range(len(data)):
        with pytest.raises(ProtocolError):
            read_graph(data[:length])


@given(st.binary(max_size=200))
def test_noise_raises_only_protocol_errors(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_graph(data)


def test_truth_values_are_read_after_their_sum() -> None:
    beside = bytes([2]) * (1 << 20)
    one = (PLACE[0], ("offset", "0"), ("length", str(1 << 20)))
    count = GRAPH_BYTES_MAX // len(beside) + 1
    data = onnx.load_from_string(_beside(one, tensors=count))
    for tensor in data.graph.initializer:
        tensor.data_type = TensorProto.BOOL
        tensor.dims[0] = len(beside)

    with pytest.raises(LimitError, match="bytes of tensors"):
        read_graph(data.SerializeToString(), beside)
