"""Weights that models freeze or draw once are told where they stand."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from starling.compiler import compile_model
from tests.unit.compiler.parameters.declared import declared
from tests.unit.compiler.small_models import build, node, weight

Nodes = list[onnx.NodeProto]
_BASE = node("MatMul", ["x", "w"], ["full"])
_THIN = node("MatMul", ["x", "a"], ["thin"])


def _model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    tensors = {
        "w": weight(rng, 8, 6),
        "a": weight(rng, 8, 2),
        "b": weight(rng, 2, 6),
        "wide": weight(rng, 8, 7),
        "back": weight(rng, 7, 6),
        "half": np.array(0.5, np.float32),
        "bias": weight(rng, 6),
    }
    used = {name for made in nodes for name in made.input}
    kept = {name: value for name, value in tensors.items() if name in used}
    return build(list(nodes), kept, (8,), (6,))


ADAPTED: dict[str, Nodes] = {
    "two thin matrices added to a weight": [
        node("MatMul", ["a", "b"], ["low"]),
        node("Mul", ["low", "half"], ["scaled"]),
        node("Add", ["w", "scaled"], ["sum"]),
        node("MatMul", ["x", "sum"], ["out"]),
    ],
    "thin layers scaled by a number that the file writes as a node": [
        node("Gemm", ["x", "w", "bias"], ["full"]),
        _THIN,
        node("MatMul", ["thin", "b"], ["low"]),
        node("Constant", [], ["two"], value=numpy_helper.from_array(np.array(2, "f4"))),
        node("Mul", ["low", "two"], ["scaled"]),
        node("Add", ["full", "scaled"], ["out"]),
    ],
    "two thin layers beside a layer": [
        node("Gemm", ["x", "w", "bias"], ["full"]),
        _THIN,
        node("MatMul", ["thin", "b"], ["low"]),
        node("Mul", ["low", "half"], ["scaled"]),
        node("Add", ["full", "scaled"], ["out"]),
    ],
}


@pytest.mark.parametrize("case", ADAPTED)
def test_weight_under_an_adapter_is_told(case: str) -> None:
    notes = compile_model(_model(*ADAPTED[case]), loss="mse").notes

    assert any(line.startswith("w: a product of low rank") for line in notes)


@pytest.mark.parametrize("case", ADAPTED)
def test_parameter_under_an_adapter_is_told_as_no_file_says_it_is_frozen(
    case: str,
) -> None:
    proto = _model(*ADAPTED[case])
    kinds = dict.fromkeys([item.name for item in proto.graph.initializer], "PARAMETER")

    notes = compile_model(declared(proto, kinds), loss="mse").notes

    assert [line for line in notes if line.startswith("w: a product of low rank")]


TABLES: dict[str, np.ndarray] = {
    "numbers of bins": np.arange(4, dtype=np.float32).reshape(1, 4, 1),
    "sines": np.sin(np.arange(12)[:, None] * [0.3, 1.1, 2.0])[None].astype("f4"),
}


@pytest.mark.parametrize("kind", ["PARAMETER", "BUFFER"])
@pytest.mark.parametrize("case", TABLES)
def test_parameter_that_a_formula_made_is_told(case: str, kind: str) -> None:
    """An expectation over bins, a table of positions: requires_grad is in no file."""
    table = TABLES[case]
    rng = np.random.default_rng(6)
    tensors = {"conv.weight": weight(rng, 3, 4, 1), "dfl.table": table}
    nodes = [node("Conv", ["x", "conv.weight"], ["h"])]
    if table.shape[0] == table.shape[2] == 1:
        tensors["conv.weight"] = weight(rng, 4, 4, 1)
        nodes += [node("Conv", ["h", "dfl.table"], ["out"])]
    else:
        nodes += [
            node("Transpose", ["h"], ["t"], perm=[0, 2, 1]),
            node("Add", ["t", "dfl.table"], ["out"]),
        ]
    out = (1, 12) if len(nodes) == 2 else (12, 3)
    proto = build(nodes, tensors, (4, 12), out)
    kinds = {"conv.weight": "PARAMETER", "dfl.table": kind}

    notes = compile_model(declared(proto, kinds), loss="mse").notes

    told = [line for line in notes if "made by a formula: dfl.table" in line]
    assert len(told) == (kind == "PARAMETER")


PLAIN: dict[str, Nodes] = {
    "a function between the thin layers": [
        _BASE,
        _THIN,
        node("Relu", ["thin"], ["bent"]),
        node("MatMul", ["bent", "b"], ["low"]),
        node("Add", ["full", "low"], ["out"]),
    ],
    "layers that are not thin": [
        _BASE,
        node("MatMul", ["x", "wide"], ["h"]),
        node("MatMul", ["h", "back"], ["l"]),
        node("Add", ["full", "l"], ["out"]),
    ],
    "thin layers of another value": [
        _BASE,
        node("Tanh", ["x"], ["t"]),
        node("MatMul", ["t", "a"], ["thin"]),
        node("MatMul", ["thin", "b"], ["low"]),
        node("Add", ["full", "low"], ["out"]),
    ],
    "thin layers alone": [_THIN, node("MatMul", ["thin", "b"], ["out"])],
    "sines of what is read elsewhere, too": [
        _BASE,
        node("Sin", ["full"], ["s"]),
        node("Add", ["s", "full"], ["out"]),
    ],
    "sines of a hidden layer": [
        _THIN,
        node("MatMul", ["thin", "b"], ["h"]),
        node("Sin", ["h"], ["out"]),
    ],
}


@pytest.mark.parametrize("case", PLAIN)
def test_other_layers_are_not_told(case: str) -> None:
    assert compile_model(_model(*PLAIN[case]), loss="mse").notes == ()


FEATURES: Nodes = [
    node("MatMul", ["x", "a"], ["z"]),
    node("Mul", ["z", "half"], ["s"]),
    node("Cos", ["s"], ["c"]),
    node("Sin", ["s"], ["d"]),
    node("Mul", ["c", "d"], ["e"]),
    node("MatMul", ["e", "b"], ["out"]),
]


def test_features_that_may_have_been_drawn_are_told_unless_the_file_says() -> None:
    first = compile_model(_model(*FEATURES), loss="mse").notes[-1]
    kinds = {"a": "PARAMETER", "b": "PARAMETER", "half": "BUFFER"}

    assert first.startswith("a: makes of the input what goes through sines")
    assert compile_model(declared(_model(*FEATURES), kinds), loss="mse").notes == ()


def test_weight_with_many_zeros_is_told_as_its_mask_is_not_kept() -> None:
    proto = _model(_BASE, node("Identity", ["full"], ["out"]))
    masked = np.tril(weight(np.random.default_rng(1), 8, 6))
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(masked, "w"))

    (line,) = compile_model(proto, loss="mse").notes

    assert line.startswith("w: holds many zeros")


COMPUTED = {
    "components of a PCA": (
        np.linalg.qr(np.random.default_rng(2).standard_normal((8, 6)))[0],
        "right angles",
    ),
    "whitened components": (
        np.linalg.qr(np.random.default_rng(2).standard_normal((8, 6)))[0]
        * np.arange(1, 7),
        "right angles",
    ),
    "signs": (
        np.sign(np.random.default_rng(2).standard_normal((8, 6))),
        "two or three values",
    ),
    "links from place to place": (
        np.eye(8, 6) - np.eye(8, 6, k=1),
        "two or three values",
    ),
}


@pytest.mark.parametrize("case", COMPUTED)
def test_weight_that_may_have_been_computed_is_told(case: str) -> None:
    proto = _model(_BASE, node("Identity", ["full"], ["out"]))
    value, wanted = COMPUTED[case]
    tensor = numpy_helper.from_array(value.astype(np.float32), "w")
    proto.graph.initializer[0].CopyFrom(tensor)

    (line,) = compile_model(proto, loss="mse").notes

    assert line.startswith("w: ")
    assert wanted in line


def test_orthogonal_start_of_a_recurrent_layer_is_not_told() -> None:
    rng = np.random.default_rng(3)
    turning = np.linalg.qr(rng.standard_normal((5, 5)))[0].astype(np.float32)[None]
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("RNN", ["t", "w", "r"], ["", "last"], hidden_size=5),
        node("Squeeze", ["last", "first"], ["out"]),
    ]
    tensors = {"w": weight(rng, 1, 5, 3), "r": turning, "first": np.array([0])}

    assert compile_model(build(nodes, tensors, (4, 3), (5,)), loss="mse").notes == ()


def test_weight_of_a_layer_under_a_number_was_computed() -> None:
    proto = _model(node("Gemm", ["x", "w"], ["out"]))
    proto.graph.node[0].input[1] = "onnx::Gemm_23"
    proto.graph.initializer[0].name = "onnx::Gemm_23"

    (line,) = compile_model(proto, loss="mse").notes

    assert "computed by the exporter" in line
