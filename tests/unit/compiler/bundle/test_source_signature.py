"""A bundle says what the source model calls its inputs and output."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from starling.compiler import compile_model
from starling.protocol.model.source_ports import SourcePort, SourcePorts


def model_of(kinds: Mapping[str, int], output: str = "price") -> onnx.ModelProto:
    """Linear in two values of each input."""
    nodes, parts = [], []
    for name, kind in kinds.items():
        part = name
        if kind != TensorProto.FLOAT:
            part = f"{name}_real"
            nodes.append(helper.make_node("Cast", [name], [part], to=TensorProto.FLOAT))
        parts.append(part)
    nodes.append(helper.make_node("Concat", parts, ["all"], axis=1))
    nodes.append(helper.make_node("MatMul", ["all", "weight"], [output]))
    weight = np.ones((2 * len(kinds), 1), np.float32)
    graph = helper.make_graph(
        nodes,
        "prices",
        [helper.make_tensor_value_info(n, k, ["n", 2]) for n, k in kinds.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def test_bundle_keeps_the_names_and_kinds_of_several_inputs() -> None:
    kinds = {"rooms": TensorProto.INT64, "sun": TensorProto.BOOL}
    kinds["place"] = TensorProto.FLOAT

    found = compile_model(model_of(kinds), loss="mse").manifest.source

    assert found == SourcePorts(
        (
            SourcePort("rooms", "int64", (2,)),
            SourcePort("sun", "bool", (2,)),
            SourcePort("place", "float32", (2,)),
        ),
        "price",
    )


def test_bundle_of_one_input_keeps_its_name() -> None:
    found = compile_model(model_of({"place": TensorProto.FLOAT}), loss="mse").manifest

    assert found.source == SourcePorts((SourcePort("place", "float32", (2,)),), "price")


def test_names_that_no_manifest_may_hold_are_left_out() -> None:
    model = model_of({"place": TensorProto.FLOAT}, output="p" * 257)

    assert compile_model(model, loss="mse").manifest.source is None
