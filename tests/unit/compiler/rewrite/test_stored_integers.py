"""Weights that a file keeps as whole numbers are told, and trained by name."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from starling.compiler import CompileError, compile_model
from starling.compiler.bundle.compile_report import document
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.reader.model_file import load
from starling.compiler.reader.network_reader import read_network
from starling.protocol.model.training_bundle import INFER
from tests.unit.compiler.small_models import node, weight

RNG = np.random.default_rng(17)
KINDS = (
    "INT4 UINT4 INT8 UINT8 INT16 UINT16 INT32 UINT32 INT64 UINT64".split()  # noqa: SIM905 - reads as ONNX's list of types
)


def _stored(name: str, kind: str, *shape: int) -> TensorProto:
    least = 0 if kind.startswith("U") else -7
    values = RNG.integers(least, 8, shape).reshape(-1).tolist()
    return helper.make_tensor(name, TensorProto.DataType.Value(kind), shape, values)


def _real(**arrays: NDArray[np.generic]) -> list[TensorProto]:
    return [numpy_helper.from_array(value, name) for name, value in arrays.items()]


def _model(
    nodes: Sequence[onnx.NodeProto], tensors: Sequence[TensorProto]
) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            *nodes,
            node("MatMul", ["x", "w"], ["h"]),
            node("Add", ["h", "b"], ["out"]),
        ],
        "small",
        [info("x", TensorProto.FLOAT, ["n", 4])],
        [info("out", TensorProto.FLOAT, ["n", 3])],
        [*tensors, *_real(b=weight(RNG, 3))],
    )
    opsets = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _cast(source: str, made: str, kind: int = TensorProto.FLOAT) -> onnx.NodeProto:
    return node("Cast", [source], [made], to=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_of_whole_numbers_is_told_and_trained_by_name(kind: str) -> None:
    model = _model([_cast("q", "w")], [_stored("q", kind, 4, 3)])

    network = read_network(load(model))
    bundle = compile_model(model, loss="mse", train=["q", "b"])

    assert [*network.parameters] == ["b"]
    assert network.fixed == {"q": f"stored as {kind.lower()}"}
    assert any(f"q ({kind.lower()}); --train" in line for line in network.notes)
    assert bundle.manifest.dimension == 15
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


MOVED: Mapping[str, tuple[Sequence[onnx.NodeProto], Sequence[TensorProto], str]] = {
    "turned round": (
        [node("Transpose", ["q"], ["t"]), _cast("t", "w")],
        [_stored("q", "INT8", 3, 4)],
        "q",
    ),
    "in a node": (
        [node("Constant", [], ["q"], value=_stored("", "INT8", 4, 3)), _cast("q", "w")],
        [],
        "q",
    ),
    "through larger numbers": (
        [_cast("q", "i", TensorProto.INT32), _cast("i", "w")],
        [_stored("q", "INT8", 4, 3)],
        "q",
    ),
    "scaled": (
        [_cast("q", "r"), node("Mul", ["r", "s"], ["w"])],
        [_stored("q", "INT8", 4, 3), *_real(s=weight(RNG, 1, 3))],
        "q",
    ),
    "above zero points": (
        [
            _cast("q", "i", TensorProto.INT32),
            node("Sub", ["i", "z"], ["above"]),
            _cast("above", "w"),
        ],
        [_stored("q", "INT8", 4, 3), *_real(z=np.array([1, 2, 3], np.int32))],
        "w",
    ),
    "unpacked": (
        [
            node("BitwiseAnd", ["q", "low"], ["l"]),
            node("BitShift", ["q", "four"], ["h4"], direction="RIGHT"),
            node("Concat", ["l", "h4"], ["both"], axis=0),
            _cast("both", "w"),
        ],
        _real(
            q=np.arange(40, 46, dtype=np.uint8).reshape(2, 3),
            low=np.array([15], np.uint8),
            four=np.array([4], np.uint8),
        ),
        "w",
    ),
    "of truth values": ([_cast("q", "w")], _real(q=np.ones((4, 3), np.bool_)), "q"),
}


@pytest.mark.parametrize("case", MOVED)
def test_stored_weight_gives_the_same_and_stands_in_the_table(case: str) -> None:
    nodes, tensors, name = MOVED[case]
    model = _model(nodes, tensors)
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)

    bundle = compile_model(model, loss="mse")

    constants = document(bundle)["constants"]
    assert isinstance(constants, list)
    assert name in [item["name"] for item in constants]
    inputs = {"theta": bundle.theta, "x": x}
    np.testing.assert_allclose(
        _run(bundle.standalone(INFER), inputs),
        _run(model.SerializeToString(), {"x": x}),
        atol=1e-6,
    )


def test_rows_of_a_stored_table_are_looked_up_and_trained_by_name() -> None:
    nodes = [
        _cast("x", "i", TensorProto.INT64),
        node("Gather", ["q", "i"], ["rows"]),
        _cast("rows", "real"),
        node("ReduceSum", ["real", "one"], ["z"], keepdims=0),
        node("Identity", ["z"], ["out"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [info("x", TensorProto.FLOAT, ["n", 4])],
        [info("out", TensorProto.FLOAT, ["n", 3])],
        [_stored("q", "UINT8", 9, 3), *_real(one=np.array([1]))],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )

    with pytest.raises(CompileError, match=r"let --train name one of q \(stored as"):
        compile_model(model, loss="mse")
    bundle = compile_model(model, loss="mse", train=["q"])

    assert bundle.manifest.dimension == 27
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


def test_small_numbers_that_are_computed_with_are_refused_by_node() -> None:
    nodes = [
        node("Greater", ["x", "zero"], ["c"]),
        node("Where", ["c", "q", "p"], ["chosen"], "choice"),
        _cast("chosen", "r"),
    ]
    tensors = [_stored("q", "UINT8", 4), _stored("p", "UINT8", 4)]
    tensors += _real(zero=np.zeros((), np.float32), w=weight(RNG, 4, 3))
    model = _model(nodes, tensors)
    model.graph.node[-2].input[0] = "r"

    with pytest.raises(CompileError, match=r"choice \(Where\): reads 'q' in uint8"):
        compile_model(model, loss="mse")


def _run(
    model: bytes, inputs: Mapping[str, NDArray[np.generic]]
) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options)
    return np.asarray(session.run(None, dict(inputs))[0])
