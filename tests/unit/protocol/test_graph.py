from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from protocol.errors import DecodeError, LimitError, ProtocolError
from protocol.graph import GRAPH_BYTES_MAX, NODES_MAX, OPERATORS, check_graph


def _model() -> onnx.ModelProto:
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["c"], value_float=2.0),
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Mul", ["h", "c"], ["y"]),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.ones((2, 2), np.float32), "w")],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _loop(model: onnx.ModelProto) -> None:
    body = onnx.GraphProto(name="body")
    node = helper.make_node("Loop", ["", "c"], ["z"], body=body)
    model.graph.node.append(node)


def _hidden_subgraph(model: onnx.ModelProto) -> None:
    attribute = onnx.AttributeProto(name="body", type=onnx.AttributeProto.GRAPH)
    attribute.g.name = "body"
    model.graph.node[1].attribute.append(attribute)


def _external_constant(model: onnx.ModelProto) -> None:
    tensor = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    model.graph.node[0].attribute[0].t.CopyFrom(tensor)


def _external_initialiser(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")


REFUSED: dict[str, Callable[[onnx.ModelProto], object]] = {
    "random operator": lambda m: setattr(m.graph.node[1], "op_type", "RandomNormal"),
    "no operator": lambda m: m.graph.node[1].ClearField("op_type"),
    "other domain": lambda m: setattr(m.graph.node[1], "domain", "com.microsoft"),
    "domain of operators": lambda m: m.opset_import.add(domain="custom", version=1),
    "loop": _loop,
    "hidden subgraph": _hidden_subgraph,
    "function": lambda m: m.functions.add(name="f"),
    "training": lambda m: m.training_info.add(),
    "external constant": _external_constant,
    "external weight": _external_initialiser,
    "sparse weight": lambda m: m.graph.sparse_initializer.add(),
    "reference": lambda m: setattr(m.graph.node[0].attribute[0], "ref_attr_name", "a"),
    "opset too new": lambda m: setattr(m.opset_import[0], "version", 99),
    "opset too old": lambda m: setattr(m.opset_import[0], "version", 6),
    "no opset": lambda m: m.ClearField("opset_import"),
    "no graph": lambda m: m.ClearField("graph"),
    "nameless input": lambda m: m.graph.input.add(),
    "overload": lambda m: setattr(m.graph.node[1], "overload", "other"),
}


def test_graph_of_allowed_operators_tells_its_facts() -> None:
    facts = check_graph(_model().SerializeToString())

    assert facts.opset == 18
    assert facts.operators == {"Constant": 1, "MatMul": 1, "Mul": 1}
    assert facts.inputs == ("x",)
    assert facts.outputs == ("y",)


@pytest.mark.parametrize("case", REFUSED)
def test_graph_with_what_boards_do_not_run_is_refused(case: str) -> None:
    model = _model()
    REFUSED[case](model)

    with pytest.raises(DecodeError):
        check_graph(model.SerializeToString())


def test_graph_twice_in_one_file_is_refused() -> None:
    data = _model().SerializeToString()

    with pytest.raises(DecodeError):
        check_graph(data + data)


def test_graph_longer_than_the_limit_is_refused() -> None:
    with pytest.raises(LimitError):
        check_graph(bytes(GRAPH_BYTES_MAX + 1))


def test_graph_with_too_many_nodes_is_refused() -> None:
    model = _model()
    node = helper.make_node("Mul", ["h", "c"], ["y"])
    model.graph.node.extend([node] * (NODES_MAX + 1))

    with pytest.raises(LimitError):
        check_graph(model.SerializeToString())


def test_graph_truncated_at_any_byte_raises_only_protocol_errors() -> None:
    data = _model().SerializeToString()
    # The last field is the operator set; a cut between fields leaves a whole message.
    for length in range(len(data)):
        with pytest.raises(ProtocolError):
            check_graph(data[:length])


@given(st.binary(max_size=200))
def test_graph_of_noise_raises_only_protocol_errors(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        check_graph(data)


@pytest.mark.parametrize(
    "data",
    [b"\xff" * 11, b"\x3a\xff\xff\xff\xff\x0f", b"\x3b", b"\x3a\x05\x00", b"\x02\x01x"],
    ids=["overlong number", "huge length", "group", "short", "field zero"],
)
def test_graph_of_malformed_wire_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        check_graph(data)


def test_operators_exclude_every_source_of_control_flow_and_randomness() -> None:
    refused = {"If", "Loop", "Scan", "RandomNormal", "RandomUniform", "Bernoulli"}
    refused |= {"Multinomial", "Dropout", "StringConcat", "Optional", "SequenceMap"}

    assert not OPERATORS & refused
