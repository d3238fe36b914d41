"""Sequences of plain length are the tensors that they hold; others are refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from starling.compiler import CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.rewrite.frontends.sequences import without_sequences
from starling.protocol.model.training_bundle import INFER
from tests.unit.compiler.small_models import build, node, weight

Nodes = list[onnx.NodeProto]
_LINEAR = node("MatMul", ["x", "w"], ["z"])
"""x: (n, 4) to z: (n, 6)."""


def _model(nodes: Nodes, width: int, opset: int = 17) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    tensors: dict[str, NDArray[np.generic]] = {
        "w": weight(rng, 4, 6),
        "zero": np.array(0, np.int64),
        "last": np.array(-1, np.int32),
        "sizes": np.array([1, 2, 3], np.int64),
        "four": np.array(4, np.int64),
        "seven": np.array(7, np.int64),
    }
    used = {name for made in nodes for name in made.input} | {"w"}
    kept = {name: value for name, value in tensors.items() if name in used}
    return build([_LINEAR, *nodes], kept, (4,), (width,), opset)


_SPLIT = node("SplitToSequence", ["z", "sizes"], ["s"], axis=1)
CASES: dict[str, tuple[int, Nodes]] = {
    "parts of named sizes, one picked": (
        3,
        [_SPLIT, node("SequenceAt", ["s", "last"], ["out"])],
    ),
    "parts of one size, the last one smaller": (
        2,
        [
            node("SplitToSequence", ["z", "four"], ["s"], axis=-1),
            node("SequenceAt", ["s", "last"], ["out"]),
        ],
    ),
    "single values without their axis, stacked": (
        6,
        [
            node("SplitToSequence", ["z"], ["s"], axis=1, keepdims=0),
            node("SequenceErase", ["s", "zero"], ["rest"]),
            node("SequenceAt", ["s", "zero"], ["first"]),
            node("SequenceInsert", ["rest", "first"], ["turned"]),
            node("ConcatFromSequence", ["turned"], ["out"], axis=-1, new_axis=1),
        ],
    ),
    "built, longer by one in front, joined": (
        18,
        [
            node("Tanh", ["z"], ["t"]),
            node("SequenceConstruct", ["z", "t"], ["s"]),
            node("Neg", ["z"], ["m"]),
            node("SequenceInsert", ["s", "m", "zero"], ["more"]),
            node("Identity", ["more"], ["same"]),
            node("ConcatFromSequence", ["same"], ["out"], axis=1),
        ],
    ),
    "begun empty": (
        6,
        [
            node("SequenceEmpty", [], ["s"]),
            node("SequenceInsert", ["s", "z"], ["one"]),
            node("ConcatFromSequence", ["one"], ["out"], axis=1),
        ],
    ),
    "optional tensor": (
        6,
        [
            node("Optional", ["z"], ["o"]),
            node("OptionalGetElement", ["o"], ["out"]),
        ],
    ),
    "place from a sequence's length": (
        1,
        [
            _SPLIT,
            node("SequenceLength", ["s"], ["three"]),
            node("Constant", [], ["k"], value_int=3),
            node("Sub", ["three", "k"], ["at"]),
            node("Constant", [], ["here"], value_int=0),
            node("SequenceAt", ["s", "here"], ["p"]),
            node("Cast", ["at"], ["nought"], to=1),
            node("Add", ["p", "nought"], ["out"]),
        ],
    ),
}


_BUILT = [
    node("Tanh", ["z"], ["t"]),
    node("SequenceConstruct", ["z", "t"], ["s"]),
]
_PLACED: dict[str, tuple[int, list[str], range]] = {
    "SequenceAt": (6, ["s", "at"], range(-2, 2)),
    "SequenceErase": (6, ["s", "at"], range(-2, 2)),
    "SequenceInsert": (18, ["s", "m", "at"], range(-2, 3)),
}
"""Operator to the width of the result, its inputs, and places in two tensors."""


def _placed(kind: str, place: int) -> Nodes:
    taken = node(kind, _PLACED[kind][1], ["part"])
    last = node("Identity", ["part"], ["out"])
    if kind != "SequenceAt":
        last = node("ConcatFromSequence", ["part"], ["out"], axis=1)
    at = node("Constant", [], ["at"], value_int=place)
    return [*_BUILT, node("Neg", ["z"], ["m"]), at, taken, last]


CASES |= {
    f"{kind} at {place}": (width, _placed(kind, place))
    for kind, (width, _, places) in _PLACED.items()
    for place in places
}


@pytest.mark.parametrize("case", CASES)
def test_sequence_of_plain_length_gives_what_the_runtime_gives(case: str) -> None:
    width, nodes = CASES[case]
    model = _model(nodes, width)
    x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(
        None, {"x": x}
    )

    bundle = compile_model(model, loss="mse")

    session = onnxruntime.InferenceSession(bundle.standalone(INFER))
    found = session.run(None, {"theta": bundle.theta, "x": x})
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    assert bundle.manifest.dimension == 24
    assert check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


def test_sizes_stand_in_an_attribute_where_the_operator_set_wants_them_there() -> None:
    width, nodes = CASES["parts of named sizes, one picked"]

    assert compile_model(_model(nodes, width, 12), loss="mse").manifest.dimension == 24


LOOSE: dict[str, Nodes] = {
    "place that examples choose": [
        _SPLIT,
        node("ReduceSum", ["z"], ["total"], keepdims=0),
        node("Cast", ["total"], ["at"], to=7),
        node("SequenceAt", ["s", "at"], ["out"]),
    ],
    "place outside": [_SPLIT, node("SequenceAt", ["s", "seven"], ["out"])],
    "parts that are not all of it": [
        node("SplitToSequence", ["z", "seven"], ["s"], axis=0),
        node("ConcatFromSequence", ["s"], ["out"], axis=0),
    ],
    "optional without a value": [
        node("Optional", [], ["o"]),
        node("OptionalHasElement", ["o"], ["has"]),
        node("Cast", ["has"], ["c"], to=1),
        node("Mul", ["z", "c"], ["out"]),
    ],
}
LOOSE |= {
    f"{kind} at {place}, outside": _placed(kind, place)
    for kind, (_, _, places) in _PLACED.items()
    for place in (places.start - 1, places.stop)
}


@pytest.mark.parametrize("case", LOOSE)
def test_what_cannot_be_followed_is_left_and_refused_by_name(case: str) -> None:
    model = _model(LOOSE[case], 3)

    assert without_sequences(model) == model
    with pytest.raises(CompileError, match=r"Sequence|Optional"):
        compile_model(model, loss="mse")
