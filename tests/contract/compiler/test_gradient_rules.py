"""Every gradient rule: finite differences, single examples and exact clipping."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from starling.compiler import compile_model
from starling.compiler.autodiff.rules import RULES
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.ir.graph_writer import Attribute
from starling.engine.graph_check import checked_graph
from starling.engine.opened_bundle import GRAPHS
from starling.engine.operator_allowlist import OPERATORS
from starling.protocol.model.training_bundle import CONSTANTS, INFER
from tests.contract.compiler.folded_rule_cases import FOLDED_CASES
from tests.contract.compiler.index_rule_cases import INDEX_CASES, SPECTRUM_CASES
from tests.contract.compiler.indexing_rule_cases import PLACE_CASES
from tests.contract.compiler.joined_rule_cases import JOINED_CASES
from tests.contract.compiler.math_rule_cases import FUNCTION_CASES
from tests.contract.compiler.sequence_rule_cases import SEQUENCE_CASES
from tests.contract.compiler.weight_rule_cases import WEIGHT_CASES
from tests.unit.compiler.small_models import OPSET, build, cnn, mlp, node, weight

Model = tuple[onnx.ModelProto, str]
Outputs = NDArray[np.float32]


def _transposed(
    shape: tuple[int, ...], out: tuple[int, ...], **attributes: Attribute
) -> Model:
    """A convolution, and a transposed one behind it."""
    rng = np.random.default_rng(15)
    rank = len(shape) - 2
    weights = {
        "first": weight(rng, shape[0], 2, *[1] * rank),
        "w": weight(rng, *shape),
        "b": weight(rng, out[0]),
    }
    nodes = [
        node("Conv", ["x", "first"], ["h"]),
        node("ConvTranspose", ["h", "w", "b"], ["out"], "", **attributes),
    ]
    return build(nodes, weights, (2, *[4] * rank), out), "mse"


def _image(
    kind: str,
    row: tuple[int, ...],
    out: tuple[int, ...],
    kernel: tuple[int, ...],
    opset: int = OPSET,
    **attributes: Attribute,
) -> Model:
    """A convolution to three channels, then a pooling."""
    rng = np.random.default_rng(3)
    weights = {"w": weight(rng, 3, row[0], *[1] * len(kernel)), "b": weight(rng, 3)}
    if not kind.startswith("Global"):
        attributes["kernel_shape"] = kernel
    nodes = [
        node("Conv", ["x", "w", "b"], ["h"]),
        node(kind, ["h"], ["out"], "", **attributes),
    ]
    return build(nodes, weights, row, out, opset), "mse"


def _unpooled() -> Model:
    """Largest values back where they stood, between two convolutions."""
    rng = np.random.default_rng(20)
    weights = {"w": weight(rng, 3, 2, 1, 1), "v": weight(rng, 2, 3, 1, 1)}
    nodes = [
        node("Conv", ["x", "w"], ["h"]),
        node("MaxPool", ["h"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Tanh", ["p"], ["t"]),
        node("MaxUnpool", ["t", "i"], ["u"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["u", "v"], ["out"]),
    ]
    return build(nodes, weights, (2, 4, 6), (2, 4, 6)), "mse"


def _convolution(
    row: tuple[int, ...],
    shape: tuple[int, ...],
    out: tuple[int, ...],
    **attributes: Attribute,
) -> Model:
    """Two convolutions, the second as told, so that its image needs a cotangent."""
    rng = np.random.default_rng(4)
    first = weight(rng, row[0], row[0], *[1] * (len(row) - 1))
    weights = {"first": first, "w": weight(rng, *shape), "b": weight(rng, shape[0])}
    nodes = [
        node("Conv", ["x", "first"], ["h"]),
        node("Conv", ["h", "w", "b"], ["out"], "", **attributes),
    ]
    return build(nodes, weights, row, out), "mse"


def _pooled(
    shape: tuple[int, ...],
    pool: tuple[int, ...],
    out: tuple[int, ...],
    between: str = "",
    **attributes: Attribute,
) -> Model:
    """A convolution and tiles of it, behind one that needs its image's cotangent."""
    rng = np.random.default_rng(10)
    row = (2, *[9 + axis for axis in range(len(pool))])
    weights = {
        "first": weight(rng, 2, 2, *[1] * len(pool)),
        "w": weight(rng, *shape),
        "b": weight(rng, shape[0]),
    }
    nodes = [
        node("Conv", ["x", "first"], ["h"]),
        node("Conv", ["h", "w", "b"], ["c"], "", **attributes),
        node(between or "Identity", ["c"], ["r"]),
        node("MaxPool", ["r"], ["out"], "", kernel_shape=pool, strides=pool),
    ]
    if not between:
        nodes[1].output[0] = "r"
        del nodes[2]
    return build(nodes, weights, row, out), "mse"


def _arithmetic(kind: str, shape: tuple[int, ...]) -> Model:
    """A weight on each side of an operator, with broadcasting."""
    rng = np.random.default_rng(5)
    weights = {"a": 2 + rng.random(shape, np.float32), "b": weight(rng, 3, 4)}
    nodes = [
        node("Tanh", ["x"], ["t"]),
        node(kind, ["t", "a"], ["h"]),
        node("Mul", ["h", "h"], ["q"]),
        node("Add", ["q", "b"], ["s"]),
        node("Exp", ["h"], ["e"]),
        node(kind, ["s", "e"], ["out"]),
    ]
    return build(nodes, weights, (3, 4), (3, 4)), "mse"


def _sequence(positions: int) -> Model:
    """A linear layer on each step of a sequence."""
    rng = np.random.default_rng(6)
    weights = {"w": weight(rng, 4, 5), "v": weight(rng, 2, positions)}
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Tanh", ["h"], ["t"]),
        node("MatMul", ["v", "t"], ["out"]),
    ]
    return build(nodes, weights, (positions, 4), (2, 5)), "mse"


def _attention() -> Model:
    """Queries against keys of the same example, and a transposed weight."""
    rng = np.random.default_rng(7)
    weights = {"w": weight(rng, 5, 4), "k": weight(rng, 4, 5)}
    nodes = [
        node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        node("MatMul", ["x", "wt"], ["q"]),
        node("MatMul", ["x", "k"], ["keys"]),
        node("Transpose", ["keys"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=2),
        node("MatMul", ["p", "x"], ["out"]),
    ]
    return build(nodes, weights, (3, 4), (3, 4)), "mse"


def _shared() -> Model:
    """One weight used twice, once turned: its norm is that of the sum."""
    rng = np.random.default_rng(8)
    weights = {"w": weight(rng, 6, 6), "b": weight(rng, 6)}
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], transB=1),
        node("Sigmoid", ["h"], ["s"]),
        node("Gemm", ["s", "w", "b"], ["out"], alpha=0.5, beta=2.0),
    ]
    return build(nodes, weights, (6,), (6,)), "cross-entropy"


def _shapes() -> Model:
    rng = np.random.default_rng(9)
    weights: dict[str, NDArray[np.generic]] = {
        "w": weight(rng, 12, 4),
        "shape": np.array([0, 2, -1], np.int64),
        "axis": np.array([1], np.int64),
        "flat": np.array([-1, 12], np.int64),
    }
    nodes = [
        node("Reshape", ["x", "flat"], ["f"]),
        node("Identity", ["w"], ["wi"]),
        node("Gemm", ["f", "wi"], ["h"]),
        node("Reshape", ["h", "shape"], ["r"]),
        node("Unsqueeze", ["r", "axis"], ["u"]),
        node("Neg", ["u"], ["m"]),
        node("Squeeze", ["m", "axis"], ["s"]),
        node("Identity", ["s"], ["i"]),
        node("Flatten", ["i"], ["out"]),
    ]
    return build(nodes, weights, (3, 4), (4,)), "cross-entropy"


def _normalised() -> Model:
    rng = np.random.default_rng(11)
    weights = {
        "w": weight(rng, 3, 2, 3, 3),
        "scale": 1 + rng.random(3, np.float32),
        "bias": weight(rng, 3),
        "mean": weight(rng, 3),
        "variance": 1 + rng.random(3, np.float32),
    }
    statistics = ["scale", "bias", "mean", "variance"]
    nodes = [
        node("Conv", ["x", "w"], ["h"]),
        node("BatchNormalization", ["h", *statistics], ["b"], epsilon=0.1),
        node("Dropout", ["b"], ["out"]),
    ]
    return build(nodes, weights, (2, 5, 5), (3, 3, 3)), "mse"


def _joined() -> Model:
    """Two branches side by side, one of them a mean, under a weight made of two."""
    rng = np.random.default_rng(12)
    weights: dict[str, NDArray[np.generic]] = {
        "a": weight(rng, 4, 3),
        "b": weight(rng, 4, 3),
        "last": np.array([-1], np.int64),
    }
    nodes = [
        node("Concat", ["a", "b"], ["w"], axis=1),
        node("MatMul", ["x", "w"], ["h"]),
        node("Tanh", ["h"], ["t"]),
        node("ReduceMean", ["h"], ["m"], axes=[2], keepdims=1),
        node("Concat", ["t", "m", "h"], ["c"], axis=-1),
        node("ReduceSum", ["c", "last"], ["out"], keepdims=0),
    ]
    return build(nodes, weights, (2, 4), (2,)), "mse"


CASES: Mapping[str, Callable[[], Model]] = {
    "mlp": lambda: (mlp(), "cross-entropy"),
    "cnn": lambda: (cnn(), "cross-entropy"),
    **FUNCTION_CASES,
    "max pool": lambda: _image("MaxPool", (2, 6, 6), (3, 3, 3), (2, 2), strides=[2, 2]),
    "max pool, odd image": lambda: _image(
        "MaxPool", (2, 7, 5), (3, 3, 2), (2, 2), strides=[2, 2]
    ),
    "max pool, overlapping": lambda: _image(
        "MaxPool", (2, 7, 7), (3, 4, 4), (3, 3), strides=[2, 2], pads=[1, 1, 1, 1]
    ),
    "max pool, rounded up": lambda: _image(
        "MaxPool", (2, 5, 5), (3, 3, 3), (2, 2), strides=[2, 2], ceil_mode=1
    ),
    "max pool, one axis": lambda: _image("MaxPool", (2, 9), (3, 3), (3,), strides=[3]),
    "average pool": lambda: _image(
        "AveragePool", (2, 6, 6), (3, 3, 3), (2, 2), strides=[2, 2]
    ),
    "average pool, padded": lambda: _image(
        "AveragePool", (2, 5, 5), (3, 3, 3), (3, 3), strides=[2, 2], pads=[1, 1, 1, 1]
    ),
    "average pool, padding counts": lambda: _image(
        "AveragePool",
        (2, 5, 5),
        (3, 5, 5),
        (3, 3),
        pads=[1, 1, 1, 1],
        count_include_pad=1,
    ),
    "average pool, one axis": lambda: _image(
        "AveragePool", (2, 7), (3, 3), (2,), strides=[2]
    ),
    "average pool, rounded up": lambda: _image(
        "AveragePool", (2, 6, 5), (3, 3, 3), (3, 2), strides=[2, 2], ceil_mode=1
    ),
    "average pool, rounded up with padding": lambda: _image(
        "AveragePool",
        (2, 6, 6),
        (3, 4, 4),
        (3, 3),
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        ceil_mode=1,
    ),
    "average pool, rounded up and padding counts": lambda: _image(
        "AveragePool",
        (2, 6),
        (3, 4),
        (3,),
        strides=[2],
        pads=[1, 1],
        ceil_mode=1,
        count_include_pad=1,
    ),
    "average pool, dilation": lambda: _image(
        "AveragePool",
        (2, 7, 6),
        (3, 3, 2),
        (3, 2),
        strides=[2, 2],
        dilations=[2, 3],
        pads=[1, 0, 1, 0],
        opset=19,
    ),
    "unpooled": _unpooled,
    "global average": lambda: _image("GlobalAveragePool", (2, 5, 4), (3, 1, 1), (1, 1)),
    "convolution": lambda: _convolution((2, 6, 5), (4, 2, 3, 2), (4, 4, 4)),
    "convolution, stride": lambda: _convolution(
        (2, 8, 7), (3, 2, 3, 3), (3, 3, 3), strides=[2, 2]
    ),
    "convolution, padding": lambda: _convolution(
        (2, 5, 5), (3, 2, 3, 3), (3, 5, 5), pads=[1, 1, 1, 1]
    ),
    "convolution, uneven": lambda: _convolution(
        (2, 6, 6), (3, 2, 3, 2), (3, 3, 4), strides=[2, 2], pads=[0, 1, 1, 2]
    ),
    "convolution, dilation": lambda: _convolution(
        (2, 7, 7), (3, 2, 3, 3), (3, 3, 3), dilations=[2, 2]
    ),
    "convolution, groups": lambda: _convolution(
        (4, 5, 5), (6, 2, 3, 3), (6, 3, 3), group=2
    ),
    "convolution, depthwise": lambda: _convolution(
        (4, 5, 5), (4, 1, 3, 3), (4, 5, 5), group=4, pads=[1, 1, 1, 1]
    ),
    "convolution, automatic padding": lambda: _convolution(
        (2, 5, 6), (3, 2, 3, 3), (3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    "convolution, automatic padding before": lambda: _convolution(
        (2, 6, 6), (3, 2, 3, 3), (3, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER"
    ),
    "convolution, one axis": lambda: _convolution(
        (3, 12), (4, 3, 5), (4, 5), strides=[2], pads=[1, 1]
    ),
    "convolution, three axes": lambda: _convolution(
        (2, 4, 5, 4),
        (4, 2, 3, 2, 3),
        (4, 4, 2, 2),
        strides=[1, 2, 1],
        pads=[1, 0, 0] * 2,
    ),
    "max pool, three axes": lambda: _image(
        "MaxPool", (2, 4, 5, 4), (3, 2, 2, 2), (2, 2, 2), strides=[2, 2, 2]
    ),
    "pool by lengths": lambda: _image(
        "LpPool", (2, 6, 5), (3, 3, 2), (2, 2), strides=[2, 2]
    ),
    "pool by sums of sizes, padded": lambda: _image(
        "LpPool", (2, 5), (3, 3), (3,), p=1, strides=[2], pads=[1, 1]
    ),
    "pool by cubes, rounded up": lambda: _image(
        "LpPool", (2, 6, 6), (3, 3, 3), (3, 2), 18, p=3, strides=[2, 2], ceil_mode=1
    ),
    "pool by lengths, dilated": lambda: _image(
        "LpPool", (2, 7), (3, 5), (2,), 18, dilations=[2]
    ),
    "length of an image": lambda: _image("GlobalLpPool", (2, 4, 5), (3, 1, 1), (1, 1)),
    "cubes of an image": lambda: _image("GlobalLpPool", (2, 6), (3, 1), (1,), p=3),
    "average pool, three axes": lambda: _image(
        "AveragePool", (2, 4, 5, 4), (3, 2, 2, 2), (2, 2, 2), strides=[2, 2, 2]
    ),
    "transposed, three axes": lambda: _transposed(
        (3, 2, 3, 2, 3), (2, 8, 8, 9), strides=[2, 2, 2], pads=[1, 0, 0, 0, 0, 0]
    ),
    "convolution, one pixel": lambda: _convolution((4, 3, 3), (5, 4, 1, 1), (5, 3, 3)),
    "convolution, wide": lambda: _convolution((2, 12, 12), (3, 2, 9, 8), (3, 4, 5)),
    "convolution, wide and padded": lambda: _convolution(
        (2, 9, 9), (3, 2, 9, 9), (3, 5, 4), strides=[2, 3], pads=[4, 4, 4, 4]
    ),
    "pooled": lambda: _pooled((3, 2, 2, 3), (2, 2), (3, 4, 4)),
    "pooled, relu between": lambda: _pooled((3, 2, 2, 3), (2, 2), (3, 4, 4), "Relu"),
    "pooled, tanh between": lambda: _pooled((3, 2, 2, 3), (2, 2), (3, 4, 4), "Tanh"),
    "pooled, rim left out": lambda: _pooled((3, 2, 2, 2), (3, 4), (3, 2, 2)),
    "pooled, stride": lambda: _pooled(
        (3, 2, 3, 3), (2, 2), (3, 2, 2), strides=[2, 2], pads=[1, 1, 1, 1]
    ),
    "pooled, stride and rim": lambda: _pooled(
        (3, 2, 1, 2), (2, 3), (3, 2, 1), strides=[2, 2]
    ),
    "pooled, dilation": lambda: _pooled(
        (3, 2, 3, 2), (2, 3), (3, 2, 2), dilations=[2, 3], pads=[0, 1, 0, 0]
    ),
    "pooled, wide": lambda: _pooled((3, 2, 8, 9), (2, 2), (3, 1, 1)),
    "pooled, one axis": lambda: _pooled((3, 2, 3), (3,), (3, 2), "Relu", pads=[0, 1]),
    "global maximum": lambda: _image("GlobalMaxPool", (2, 5, 4), (3, 1, 1), (1, 1)),
    "global maximum, one axis": lambda: _image("GlobalMaxPool", (2, 5), (3, 1), (1,)),
    "transposed": lambda: _transposed((3, 2, 3, 2), (2, 6, 5)),
    "transposed, stride": lambda: _transposed(
        (3, 2, 3, 3), (2, 8, 8), strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]
    ),
    "transposed, dilation": lambda: _transposed(
        (3, 2, 2, 2), (2, 5, 7), dilations=[2, 3], pads=[1, 0, 0, 0]
    ),
    "transposed, one axis": lambda: _transposed((3, 2, 3), (2, 9), strides=[2]),
    "add": lambda: _arithmetic("Add", (4,)),
    "subtract": lambda: _arithmetic("Sub", (3, 1)),
    "multiply": lambda: _arithmetic("Mul", (1, 3, 4)),
    "divide": lambda: _arithmetic("Div", (1,)),
    "sequence, short": lambda: _sequence(2),
    "sequence, long": lambda: _sequence(9),
    "attention": _attention,
    "shared": _shared,
    "shapes": _shapes,
    "normalised": _normalised,
    "joined": _joined,
    **PLACE_CASES,
    **SEQUENCE_CASES,
    **FOLDED_CASES,
    **JOINED_CASES,
    **INDEX_CASES,
    **SPECTRUM_CASES,
    **WEIGHT_CASES,
}


@pytest.mark.parametrize("case", CASES)
def test_rule_on_random_examples_agrees_with_differences_and_singles(case: str) -> None:
    model, loss = CASES[case]()

    errors = check_bundle(compile_model(model, loss=loss), np.random.default_rng(0))

    assert errors.worst <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_compiled_model_gives_what_the_model_gives(case: str) -> None:
    model, loss = CASES[case]()
    bundle = compile_model(model, loss=loss)
    row = bundle.manifest.input.shape
    x = np.random.default_rng(1).standard_normal((5, *row)).astype(np.float32)

    (expected,) = _run(model.SerializeToString(), {"x": x})
    (found,) = _run(bundle.standalone(INFER), {"theta": bundle.theta, "x": x})

    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def _run(model: bytes, inputs: Mapping[str, NDArray[np.generic]]) -> list[Outputs]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"]
    )
    results: list[Outputs] = session.run(None, dict(inputs))
    return results


def test_cases_cover_every_rule() -> None:
    used = {item.op_type for make in CASES.values() for item in make()[0].graph.node}

    assert used >= set(RULES)


@pytest.mark.slow
def test_boards_allow_the_operators_that_are_written_and_three_more() -> None:
    written = set()
    for make in CASES.values():
        files = compile_model(make()[0], loss=make()[1]).files
        graphs = [checked_graph(files[name], files[CONSTANTS]) for name in GRAPHS]
        written |= {name for graph in graphs for name in graph.operators}

    # A graph that was written by hand may change a shape by these.
    assert set(OPERATORS) - written == {"Flatten", "Squeeze", "Unsqueeze"}
    assert written <= set(OPERATORS)
