"""What goes into a model: several inputs as one row, and places in tables."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from starling.compiler import compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.errors import CompileError
from starling.compiler.rewrite.model_inputs import joined, tables
from starling.protocol.model.lookup_table import LookupTable
from starling.protocol.model.training_bundle import INFER
from tests.unit.compiler.small_models import build, node, weight

Arrays = dict[str, NDArray[np.generic]]
_FLOAT, _INT64, _INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32


def _with_inputs(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, NDArray[np.generic]],
    inputs: Mapping[str, tuple[int, Sequence[str | int]]],
    out: tuple[int, ...],
) -> onnx.ModelProto:
    proto = build(nodes, weights, (1,), out)
    del proto.graph.input[:]
    proto.graph.input.extend(
        [
            helper.make_tensor_value_info(name, kind, list(shape))
            for name, (kind, shape) in inputs.items()
        ]
    )
    return proto


def _mixed() -> onnx.ModelProto:
    """Tokens with lengths of their own, and two numbers beside them."""
    rng = np.random.default_rng(1)
    weights: Arrays = {
        "table": weight(rng, 7, 4),
        "w": weight(rng, 1, 9, 4),
        "r": weight(rng, 1, 9, 3),
        "b": weight(rng, 2, 3),
        "axis": np.array([0], np.int64),
    }
    nodes = [
        node("Gather", ["table", "tokens"], ["e"]),
        node("Transpose", ["e"], ["t"], perm=[1, 0, 2]),
        node("GRU", ["t", "w", "r", "", "lengths"], ["", "h"], hidden_size=3),
        node("Squeeze", ["h", "axis"], ["s"]),
        node("MatMul", ["more", "b"], ["m"]),
        node("Add", ["s", "m"], ["out"]),
    ]
    inputs = {
        "tokens": (_INT64, ("n", 5)),
        "more": (_FLOAT, ("n", 2)),
        "lengths": (_INT32, ("n",)),
    }
    return _with_inputs(nodes, weights, inputs, (3,))


def test_several_inputs_are_one_row_in_the_order_of_the_model() -> None:
    proto = _mixed()
    bundle = compile_model(proto, loss="mse")
    rng = np.random.default_rng(2)
    parts: Arrays = {
        "tokens": rng.integers(0, 7, (6, 5)),
        "more": rng.standard_normal((6, 2)).astype(np.float32),
        "lengths": np.array([1, 5, 3, 2, 4, 5], np.int32),
    }
    x = np.concatenate(
        [part.reshape(6, -1).astype(np.float32) for part in parts.values()], axis=1
    )

    (expected,) = _run(proto.SerializeToString(), parts)
    (found,) = _run(bundle.standalone(INFER), {"theta": bundle.theta, "x": x})

    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert bundle.manifest.input.shape == (8,)
    assert bundle.manifest.tables == (LookupTable(0, 5, 7),)
    assert check_bundle(bundle, np.random.default_rng(3)).worst <= TOLERANCE


def _run(
    model: bytes, inputs: Mapping[str, NDArray[np.generic]]
) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    results: list[NDArray[np.float32]] = session.run(None, dict(inputs))
    return results


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        pytest.param({}, "no input", id="none"),
        pytest.param({"x": (_FLOAT, (3, "n"))}, "axis 1 has no fixed", id="batch last"),
        pytest.param(
            {"x": (TensorProto.COMPLEX64, ("n", 4))}, "complex64", id="complex"
        ),
        pytest.param({"x": (_FLOAT, ())}, "no batch axis", id="scalar"),
        pytest.param({"x": (TensorProto.STRING, ("n", 4))}, "text", id="text"),
    ],
)
def test_input_without_a_batch_in_front_is_refused(
    inputs: Mapping[str, tuple[int, Sequence[str | int]]], message: str
) -> None:
    nodes = [node("Relu", ["x"], ["out"])]

    with pytest.raises(CompileError, match=message):
        joined(_with_inputs(nodes, {}, inputs, (4,)))


@pytest.mark.parametrize(
    ("batches", "message"),
    [(("n", 1), "'mean': holds 1 examples, 'x' any number"), ((8, 1), "'x' 8")],
)
def test_input_of_another_number_of_examples_is_refused(
    batches: tuple[str | int, int], message: str
) -> None:
    proto = _with_inputs(
        [node("Sub", ["x", "mean"], ["s"]), node("MatMul", ["s", "w"], ["out"])],
        {"w": weight(np.random.default_rng(0), 4, 3)},
        {"x": (_FLOAT, (batches[0], 4)), "mean": (_FLOAT, (batches[1], 4))},
        (3,),
    )

    with pytest.raises(CompileError, match=message):
        compile_model(proto, loss="mse")


def test_bytes_that_the_model_casts_are_fed_as_whole_numbers() -> None:
    nodes = [node("Cast", ["x"], ["f"], to=1), node("MatMul", ["f", "w"], ["out"])]
    proto = _with_inputs(
        nodes,
        {"w": weight(np.random.default_rng(0), 4, 3)},
        {"x": (TensorProto.UINT8, ("n", 4))},
        (3,),
    )
    bundle = compile_model(proto, loss="mse")
    x = np.array([[0, 200, 255, 7]], np.float32)

    (found,) = _run(bundle.files[INFER], {"theta": bundle.theta, "x": x})

    np.testing.assert_allclose(found, x @ bundle.theta.reshape(4, 3), rtol=1e-5)


def _columns(*, shifted: bool) -> onnx.ModelProto:
    """Two columns in tables of their own, one of them in both."""
    rng = np.random.default_rng(4)
    weights: Arrays = {
        "low": weight(rng, 3, 2),
        "high": weight(rng, 9, 2),
        "one": np.array([1], np.float32),
        "places": np.array([1, 2], np.int64),
        "place": np.array([2], np.int64),
    }
    nodes = [
        node("Gather", ["x", "places"], ["a"], axis=1),
        node("Gather", ["x", "place"], ["b"], axis=1),
        node("Add" if shifted else "Identity", ["a", "one"], ["c"]),
        node("Cast", ["c"], ["i"], to=7),
        node("Cast", ["b"], ["j"], to=7),
        node("Gather", ["high", "i"], ["e"]),
        node("Gather", ["low", "j"], ["f"]),
        node("ReduceSum", ["e", "axis"], ["s"]),
        node("Add", ["s", "f"], ["out"]),
    ]
    weights["axis"] = np.array([1], np.int64)
    if not shifted:
        del nodes[2].input[1]
    return build(nodes, weights, (4,), (1, 2))


@pytest.mark.parametrize(
    ("shifted", "expected"),
    [
        pytest.param(False, (LookupTable(1, 1, 9), LookupTable(2, 1, 3)), id="moved"),
        pytest.param(True, (LookupTable(2, 1, 3),), id="one is computed with"),
    ],
)
def test_places_that_are_looked_up_are_found(
    *, shifted: bool, expected: tuple[LookupTable, ...]
) -> None:
    assert tables(_columns(shifted=shifted)) == expected


@pytest.mark.parametrize(
    ("minds", "expected"),
    [
        pytest.param(
            ("Less", "Where"), (LookupTable(0, 4, 5),), id="negative ones wrap"
        ),
        pytest.param(("Min", "Max"), (), id="kept inside by the model"),
    ],
)
def test_lookup_behind_arithmetic_is_tried_out(
    minds: tuple[str, ...], expected: tuple[LookupTable, ...]
) -> None:
    rng = np.random.default_rng(6)
    weights: Arrays = {
        "table": weight(rng, 5, 2),
        "zero": np.array(0, np.float32),
        "top": np.array(4, np.float32),
        "five": np.array(5, np.float32),
    }
    wraps = [
        node("Add", ["x", "five"], ["s"]),
        node("Less", ["x", "zero"], ["b"]),
        node("Where", ["b", "s", "x"], ["c"]),
    ]
    clips = [node("Min", ["x", "top"], ["s"]), node("Max", ["s", "zero"], ["c"])]
    nodes = [
        *(wraps if "Where" in minds else clips),
        node("Cast", ["c"], ["i"], to=7),
        node("Gather", ["table", "i"], ["out"]),
    ]

    assert tables(build(nodes, weights, (4,), (4, 2))) == expected
