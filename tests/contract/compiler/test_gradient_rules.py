"""Every gradient rule: finite differences, single examples and exact clipping."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from starling.compiler import compile_model
from starling.compiler.autodiff.rules.rule_table import RULES
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.engine.graph_check import checked_graph
from starling.engine.opened_bundle import GRAPHS
from starling.engine.operator_allowlist import OPERATORS
from starling.protocol.model.training_bundle import CONSTANTS, INFER
from tests.contract.compiler.convolution_rule_cases import CONVOLUTION_CASES
from tests.contract.compiler.folded_rule_cases import FOLDED_CASES
from tests.contract.compiler.index_rule_cases import INDEX_CASES, SPECTRUM_CASES
from tests.contract.compiler.indexing_rule_cases import PLACE_CASES
from tests.contract.compiler.joined_rule_cases import JOINED_CASES
from tests.contract.compiler.math_rule_cases import FUNCTION_CASES
from tests.contract.compiler.pooling_rule_cases import POOLING_CASES
from tests.contract.compiler.sequence_rule_cases import SEQUENCE_CASES
from tests.contract.compiler.weight_rule_cases import WEIGHT_CASES
from tests.unit.compiler.small_models import build, cnn, mlp, node, weight

Model = tuple[onnx.ModelProto, str]
Outputs = NDArray[np.float32]


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
    **POOLING_CASES,
    **CONVOLUTION_CASES,
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
