from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.defs import OpSchema, get_schema

from starling.compiler.ir.graph_writer import OPSET
from starling.engine.graph_check import (
    NUMBERS_MAX,
    WINDOW_MAX,
    check_graph,
    checked_graph,
)
from starling.engine.onnx_reader import read_graph
from starling.engine.operator_allowlist import MANY, OPERATORS
from starling.engine.taint_analysis import ELEMENTS_MAX
from starling.protocol.errors import DecodeError, LimitError, ProtocolError
from tests.unit.engine.hostile_graphs import INDEX_INPUTS
from tests.unit.engine.small_graphs import FLOAT, INT64, made, node, value, whole

Nodes = Sequence[onnx.NodeProto]
Constants = dict[str, NDArray[np.generic]]


def check(nodes: Nodes, constants: Constants | None = None) -> None:
    checked_graph(made(nodes, constants).SerializeToString())


ORDER: dict[str, Nodes] = {
    "made twice": [node("Neg", ["x"], ["out"]), node("Abs", ["x"], ["out"])],
    "made twice by one node": [node("TopK", ["x", "k"], ["out", "out"])],
    "an input made again": [node("Neg", ["x"], ["y"]), node("Neg", ["y"], ["out"])],
    "a constant made again": [node("Neg", ["x"], ["k"]), node("Neg", ["k"], ["out"])],
    "read before it is made": [node("Neg", ["h"], ["out"]), node("Neg", ["x"], ["h"])],
    "read by its own maker": [node("Add", ["x", "out"], ["out"])],
    "made by nobody": [node("Add", ["x", "z"], ["out"])],
    "output made by nobody": [node("Neg", ["x"], ["h"])],
    "no output": [node("Neg", ["x"], [])],
    "a first output without a name": [node("TopK", ["x", "k"], ["", "out"])],
    "an input too few": [node("Add", ["x"], ["out"])],
    "an input too many": [node("Neg", ["x", "x"], ["out"])],
    "an input left out": [node("Add", ["", "x"], ["out"])],
    "an output too many": [node("Neg", ["x"], ["out", "h"])],
}


@pytest.mark.parametrize("case", ORDER)
def test_graph_out_of_order_is_refused(case: str) -> None:
    with pytest.raises(DecodeError):
        check(ORDER[case], {"k": whole(1)})


def test_input_twice_or_also_a_constant_is_refused() -> None:
    model = made([node("Neg", ["x"], ["out"])])
    model.graph.input.append(value("x", FLOAT, ["n", 4]))

    with pytest.raises(DecodeError):
        checked_graph(model.SerializeToString())
    with pytest.raises(DecodeError):
        check([node("Neg", ["x"], ["out"])], {"x": np.ones(4, np.float32)})


def test_output_twice_is_refused() -> None:
    model = made([node("Neg", ["x"], ["out"])])
    model.graph.output.append(model.graph.output[0])

    with pytest.raises(DecodeError):
        checked_graph(model.SerializeToString())


FORBIDDEN = (
    "If Loop Scan RandomNormal RandomNormalLike RandomUniform RandomUniformLike "
    "Bernoulli Multinomial Dropout StringNormalizer StringConcat Optional "
    "OptionalGetElement SequenceMap SequenceAt SequenceConstruct ConcatFromSequence "
    "NonZero Unique Compress Constant Range Resize GatherND ScatterND Scatter Upsample "
    "TfIdfVectorizer NonMaxSuppression RoiAlign ImageDecoder Det BitShift LSTM GRU RNN "
    "Size Trilu Col2Im EyeLike MemcpyFromHost FusedConv FusedGemm"
)


@pytest.mark.parametrize("operator", FORBIDDEN.split())
def test_operator_that_is_not_on_the_list_is_refused(operator: str) -> None:
    with pytest.raises(DecodeError, match=operator):
        check([node(operator, ["x", "theta"], ["out"])])


KINDS = {
    "i": OpSchema.AttrType.INT,
    "f": OpSchema.AttrType.FLOAT,
    "s": OpSchema.AttrType.STRING,
    "ints": OpSchema.AttrType.INTS,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_list_says_of_an_operator_what_its_definition_says(name: str) -> None:
    operator, schema = OPERATORS[name], get_schema(name, OPSET, "")
    attributes = {**schema.attributes}
    if name.startswith("Reduce"):
        attributes |= get_schema("ReduceMean", 13, "").attributes

    assert operator.inputs_min == schema.min_input
    assert operator.inputs_max == min(MANY, schema.max_input)
    assert operator.outputs_max <= min(MANY, schema.max_output)
    for key, kind in operator.attributes.items():
        assert attributes[key].type == KINDS[kind]
    assert max(operator.sizes, default=0) < operator.inputs_max


def test_every_input_that_is_a_shape_by_its_definition_is_a_size() -> None:
    # Inputs that are whole numbers whatever the others are: sizes, axes or places.
    found = set()
    for name in OPERATORS:
        schema = get_schema(name, OPSET, "")
        for position, given in enumerate(schema.inputs):
            whole_alone = {"tensor(int64)", "tensor(int32)"} >= set(given.types)
            if whole_alone or given.name in ("pads", "axes", "depth", "k", "split"):
                found.add((name, position))

    told = {(name, at) for name, one in OPERATORS.items() for at in one.sizes}
    places = {(name, at) for name, at in INDEX_INPUTS.items() if name != "OneHot"}
    # Of Slice all bounds are whole numbers, of OneHot the depth may be real.
    assert found - places <= told
    assert told - found <= {("Slice", at) for at in range(1, 5)} | {("OneHot", 1)}


ATTRIBUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "unknown": ("LeakyRelu", {"beta": 0.5}),
    "of another kind": ("LeakyRelu", {"alpha": 1}),
    "for training": ("BatchNormalization", {"training_mode": 1}),
    "window too large": ("MaxPool", {"kernel_shape": [WINDOW_MAX + 1]}),
    "window negative": ("MaxPool", {"kernel_shape": [2], "pads": [-1, 0]}),
    "too many numbers": ("MaxPool", {"kernel_shape": [1] * (NUMBERS_MAX + 1)}),
    "number too large": ("Softmax", {"axis": 1 << 31}),
    "number too small": ("Softmax", {"axis": -(1 << 62)}),
    "cast to text": ("Cast", {"to": TensorProto.STRING}),
    "cast to eight bits": ("Cast", {"to": TensorProto.INT8}),
    "cast to nothing": ("Cast", {}),
}


@pytest.mark.parametrize("case", ATTRIBUTES)
def test_attribute_that_is_not_run_is_refused(case: str) -> None:
    operator, attributes = ATTRIBUTES[case]
    names = ["x"] * OPERATORS[operator].inputs_min

    with pytest.raises(ProtocolError, match=operator):
        check([node(operator, names, ["out"], **attributes)])


def _records(*nodes: onnx.NodeProto) -> Nodes:
    """Whole numbers `size` that follow from one value of a record."""
    return [
        node("ReduceMax", ["x"], ["largest"], keepdims=0),
        node("Cast", ["largest"], ["scalar"], to=INT64),
        node("Reshape", ["scalar", "one"], ["size"]),
        *nodes,
    ]


SIZED: dict[str, Nodes] = {
    "ConstantOfShape": [node("ConstantOfShape", ["size"], ["out"])],
    "Expand": [node("Expand", ["x", "size"], ["out"])],
    "Tile": [node("Tile", ["theta", "size"], ["out"])],
    "Reshape": [node("Reshape", ["x", "size"], ["out"])],
    "Pad": [node("Pad", ["theta", "size"], ["out"])],
    "Pad axes": [node("Pad", ["theta", "two", "", "size"], ["out"])],
    "Slice starts": [node("Slice", ["x", "size", "one"], ["out"])],
    "Slice ends": [node("Slice", ["x", "one", "size"], ["out"])],
    "Slice axes": [node("Slice", ["x", "one", "one", "size"], ["out"])],
    "Slice steps": [node("Slice", ["x", "one", "one", "one", "size"], ["out"])],
    "TopK": [node("TopK", ["theta", "size"], ["out", "places"])],
    "OneHot": [node("OneHot", ["y", "size", "pair"], ["out"])],
    "Split": [node("Split", ["theta", "size"], ["out"])],
    "Squeeze": [node("Squeeze", ["x", "size"], ["out"])],
    "Unsqueeze": [node("Unsqueeze", ["x", "size"], ["out"])],
    "CumSum": [node("CumSum", ["theta", "scalar"], ["out"])],
    **{
        name: [node(name, ["x", "size"], ["out"])]
        for name in OPERATORS
        if name.startswith("Reduce")
    },
    "through arithmetic": [
        node("Mul", ["size", "huge"], ["large"]),
        node("Concat", ["one", "large"], ["both"], axis=0),
        node("Where", ["flag", "both", "two"], ["chosen"]),
        node("ConstantOfShape", ["chosen"], ["out"]),
    ],
    "through the choice of a constant": [
        node("Gather", ["two", "size"], ["chosen"]),
        node("ConstantOfShape", ["chosen"], ["out"]),
    ],
    "through a comparison": [
        node("Greater", ["size", "one"], ["more"]),
        node("Where", ["more", "one", "huge"], ["chosen"]),
        node("ConstantOfShape", ["chosen"], ["out"]),
    ],
}
SIZES: Constants = {
    "one": whole(1),
    "two": whole(1, 2),
    "huge": whole(1 << 50),
    "pair": np.array([0, 1], np.float32),
    "flag": np.array([True, False]),
}


@pytest.mark.parametrize("case", SIZED)
def test_size_that_follows_from_records_is_refused(case: str) -> None:
    with pytest.raises(DecodeError, match="sized by data"):
        check(_records(*SIZED[case]), SIZES)


def test_cases_cover_every_operator_that_takes_sizes() -> None:
    sized = {name for name, one in OPERATORS.items() if one.sizes}

    assert sized == {
        case.split()[0] for case in SIZED if not case.startswith("through")
    }


@pytest.mark.parametrize("source", ["theta", "x", "y"])
def test_size_that_follows_from_any_input_is_refused(source: str) -> None:
    nodes = [
        node("Cast", [source], ["size"], to=INT64),
        node("ConstantOfShape", ["size"], ["out"]),
    ]

    with pytest.raises(DecodeError, match="sized by data"):
        check(nodes)


def test_size_that_follows_from_shapes_is_taken() -> None:
    nodes = [
        node("Neg", ["x"], ["h"]),
        node("Shape", ["h"], ["rows"], start=0, end=1),
        node("Concat", ["rows", "two"], ["size"], axis=0),
        node("Expand", ["theta", "size"], ["wide"]),
        node("Shape", ["x"], ["all"]),
        node("ConstantOfShape", ["all"], ["zeros"]),
        node("Add", ["zeros", "x"], ["out"]),
    ]

    check(nodes, {"two": whole(1, 4)})


LARGE: dict[str, tuple[Nodes, Constants]] = {
    "ConstantOfShape": (
        [node("ConstantOfShape", ["s"], ["out"])],
        {"s": whole(1 << 25, 1 << 25)},
    ),
    "Expand": ([node("Expand", ["x", "s"], ["out"])], {"s": whole(1 << 50, 1, 1)}),
    "Tile": ([node("Tile", ["x", "s"], ["out"])], {"s": whole(1 << 20, 1 << 20)}),
    "Pad": ([node("Pad", ["x", "s"], ["out"])], {"s": whole(0, 0, 1 << 40, 0)}),
    "Pad that cuts": (
        [node("Pad", ["x", "s"], ["out"])],
        {"s": whole(0, 0, -(1 << 40), 0)},
    ),
    "OneHot": (
        [node("OneHot", ["y", "s", "v"], ["out"])],
        {"s": whole(1 << 40), "v": np.array([0, 1], np.float32)},
    ),
    "beside a shape": (
        [
            node("Shape", ["x"], ["rows"], start=0, end=1),
            node("Concat", ["rows", "s"], ["size"], axis=0),
            node("Expand", ["theta", "size"], ["out"]),
        ],
        {"s": whole(1 << 50, 4)},
    ),
}


@pytest.mark.parametrize("case", LARGE)
def test_constant_that_makes_too_much_is_refused(case: str) -> None:
    with pytest.raises(LimitError, match="values"):
        check(*LARGE[case])


def test_constant_that_makes_the_most_is_taken() -> None:
    check([node("ConstantOfShape", ["s"], ["out"])], {"s": whole(ELEMENTS_MAX)})


def test_size_computed_from_constants_is_refused() -> None:
    nodes = [
        node("Mul", ["s", "s"], ["size"]),
        node("ConstantOfShape", ["size"], ["out"]),
    ]

    with pytest.raises(DecodeError, match="plain constant"):
        check(nodes, {"s": whole(1 << 25)})


DIVISION: dict[str, tuple[str, NDArray[np.generic] | None]] = {
    "Div by data": ("Div", None),
    "Mod by data": ("Mod", None),
    "Div by zero": ("Div", whole(0)),
    "Mod by zero": ("Mod", whole(3, 0)),
    # The smallest number divided by -1 traps like a division by zero.
    "Div by minus one": ("Div", whole(-1)),
    "Mod by minus one": ("Mod", whole(2, -1)),
}


@pytest.mark.parametrize("case", DIVISION)
def test_division_of_whole_numbers_that_may_trap_is_refused(case: str) -> None:
    operator, divisor = DIVISION[case]
    constants: Constants = {} if divisor is None else {"d": divisor}
    name = "y" if divisor is None else "d"

    with pytest.raises(DecodeError, match="positive constant"):
        check([node(operator, ["y", name], ["out"])], constants)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_division_by_a_positive_constant_is_taken(dtype: type[np.integer]) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        node("Cast", ["x"], ["w"], to=kind),
        node("Mod", ["w", "d"], ["m"]),
        node("Div", ["m", "d"], ["q"]),
        node("Cast", ["q"], ["out"], to=FLOAT),
    ]

    check(nodes, {"d": np.array([7], dtype)})


@pytest.mark.parametrize("kind", [FLOAT, TensorProto.INT64])
def test_remainder_of_real_numbers_is_refused(kind: int) -> None:
    nodes = [
        node("Cast", ["x"], ["w"], to=kind),
        node("Mod", ["w", "d"], ["m"], fmod=1),
        node("Cast", ["m"], ["out"], to=FLOAT),
    ]
    dtype = helper.tensor_dtype_to_np_dtype(kind)

    with pytest.raises(LimitError, match="fmod"):
        check(nodes, {"d": np.array([7], dtype)})


HIDDEN_KIND: dict[str, Nodes] = {
    "Identity": [node("Identity", ["y"], ["w"])],
    "Where": [node("Where", ["c", "y", "y"], ["w"])],
    "TopK": [node("TopK", ["x", "k"], ["v", "w"])],
    "MaxPool": [node("MaxPool", ["x"], ["v", "w"], kernel_shape=[1])],
    "Shape": [node("Shape", ["x"], ["w"])],
    "OneHot": [node("OneHot", ["y", "k", "y"], ["w"])],
    "Clip": [node("Clip", ["y"], ["w"])],
    "Gather": [node("Gather", ["y", "k"], ["w"])],
    "ScatterElements": [node("ScatterElements", ["y", "k", "k"], ["w"])],
}


@pytest.mark.parametrize("case", HIDDEN_KIND)
def test_whole_numbers_are_known_whatever_makes_them(case: str) -> None:
    divide = node("Div", ["w", "w"], ["out"])

    with pytest.raises(DecodeError, match="positive constant"):
        check([*HIDDEN_KIND[case], divide], {"k": whole(1), "c": np.array([True])})


@pytest.mark.parametrize("operator", ["Pow", "Reciprocal", "ReduceMean", "ReduceL2"])
def test_arithmetic_that_traps_on_whole_numbers_is_refused(operator: str) -> None:
    names = ["y"] * OPERATORS[operator].inputs_min

    with pytest.raises(DecodeError, match="whole numbers"):
        check([node(operator, names, ["out"])])


def test_graph_that_was_changed_after_it_was_read_is_checked_again() -> None:
    graph = read_graph(
        made([node("RandomNormalLike", ["x"], ["out"])]).SerializeToString()
    )

    with pytest.raises(DecodeError, match="RandomNormalLike"):
        check_graph(graph)
