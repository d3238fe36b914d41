"""What is trained, what is not, and what is said of it."""

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from starling.compiler import Bundle, CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.parameters.parameter_selection import WeightOptions
from starling.compiler.reader.model_file import load
from starling.compiler.reader.network_reader import read_network
from tests.unit.compiler.parameters.declared import declared
from tests.unit.compiler.small_models import build, node, weight

RNG = np.random.default_rng(0)
Tensors = Mapping[str, NDArray[np.generic]]


def _trained(bundle: Bundle) -> list[str]:
    return [item.name for item in bundle.manifest.parameters if item.trainable]


@pytest.mark.parametrize(
    ("start", "named", "trained"),
    [
        pytest.param(0.0, False, False, id="zeros"),
        pytest.param(0.5, False, True, id="learned"),
        pytest.param(0.0, True, True, id="zeros of a module"),
    ],
)
def test_first_state_of_zeros_is_no_weight_unless_a_module_owns_it(
    start: float, *, named: bool, trained: bool
) -> None:
    tensors: Tensors = {
        "w": weight(RNG, 1, 12, 3),
        "r": weight(RNG, 1, 12, 4),
        "h0": np.full((1, 1, 4), start, np.float32),
        "zero": np.array([0], np.int64),
        "v": weight(RNG, 4, 3),
    }
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("GRU", ["t", "w", "r", "", "", "h0"], ["", "last"], hidden_size=4),
        node("Squeeze", ["last", "zero"], ["z"]),
        node("MatMul", ["z", "v"], ["out"]),
    ]
    proto = build(nodes, tensors, (6, 3), (3,))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    proto.producer_name = "pytorch" if named else ""

    bundle = compile_model(proto, loss="mse")

    assert ("h0" in _trained(bundle)) == trained
    assert trained or any("a first state of zeros" in line for line in bundle.notes)


def _sound(bundle: Bundle) -> bool:
    return check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


def _scaled(**more: NDArray[np.generic]) -> onnx.ModelProto:
    """A linear layer behind the input's mean and spread."""
    weights: dict[str, NDArray[np.generic]] = {
        "mean": weight(RNG, 4),
        "std": 1 + RNG.random(4, np.float32),
        "w": weight(RNG, 4, 3),
        **more,
    }
    nodes = [
        node("Sub", ["x", "mean"], ["c"]),
        node("Div", ["c", "std"], ["s"]),
        node("MatMul", ["s", "w"], ["h"]),
        node("Add", ["h", "b"] if more else ["h", "h"], ["out"]),
    ]
    return build(nodes, weights, (4,), (3,))


@pytest.mark.parametrize("written", [True, False], ids=["declared", "by place"])
def test_mean_and_spread_of_the_input_are_constants(*, written: bool) -> None:
    proto = _scaled()
    if written:
        kinds = {"mean": "BUFFER", "std": "BUFFER", "w": "PARAMETER"}
        proto = declared(proto, kinds)

    network = read_network(load(proto))

    assert [*network.parameters] == ["w"]
    assert {*network.fixed} == {"mean", "std"}
    assert bool(network.notes) != written


_STEPS = {
    "reshaped": [
        node("Reshape", ["mean", "shape"], ["m"]),
        node("Sub", ["x", "m"], ["c"]),
        node("Div", ["c", "std"], ["s"]),
    ],
    "the other way round": [
        node("Sub", ["mean", "x"], ["c"]),
        node("Div", ["c", "std"], ["s"]),
    ],
    "the root of a variance": [
        node("Add", ["std", "small"], ["v"]),
        node("Sqrt", ["v"], ["r"]),
        node("Sub", ["x", "mean"], ["c"]),
        node("Div", ["c", "r"], ["s"]),
    ],
    "between bounds": [
        node("Sub", ["x", "mean"], ["c"]),
        node("Sub", ["std", "mean"], ["r"]),
        node("Div", ["c", "r"], ["s"]),
    ],
}


@pytest.mark.parametrize("case", _STEPS)
def test_spread_of_the_input_that_is_computed_is_a_constant(case: str) -> None:
    weights: Tensors = {
        "mean": weight(RNG, 4),
        "std": 3 + RNG.random(4, np.float32),
        "small": np.full(1, 1e-5, np.float32),
        "shape": np.array([1, 4]),
        "w": weight(RNG, 4, 3),
    }
    nodes = [*_STEPS[case], node("MatMul", ["s", "w"], ["out"])]
    read = {name for each in nodes for name in each.input}
    kept = {name: value for name, value in weights.items() if name in read}

    network = read_network(load(build(nodes, kept, (4,), (3,))))

    assert [*network.parameters] == ["w"]
    assert {"mean", "std"} <= {*network.fixed}


def test_scale_of_the_input_that_may_be_a_weight_is_told() -> None:
    weights = {"a": weight(RNG, 4), "b": weight(RNG, 4), "w": weight(RNG, 4, 3)}
    nodes = [
        node("Mul", ["x", "a"], ["m"]),
        node("Add", ["m", "b"], ["s"]),
        node("MatMul", ["s", "w"], ["out"]),
    ]

    network = read_network(load(build(nodes, weights, (4,), (3,))))

    assert [*network.parameters] == ["a", "b", "w"]
    assert any(line.startswith("a, b: scales or shifts") for line in network.notes)


@pytest.mark.parametrize("producer", ["skl2onnx", ""])
def test_scaler_of_scikit_learn_is_no_weight(producer: str) -> None:
    weights: Tensors = {
        "Mu_Mulcst": 1 + RNG.random(4, np.float32),
        "Ad_Addcst": weight(RNG, 4),
        "coef": weight(RNG, 4, 1),
        "Ad_Addcst1": weight(RNG, 1),
    }
    nodes = [
        node("Mul", ["x", "Mu_Mulcst"], ["m"]),
        node("Add", ["m", "Ad_Addcst"], ["a"]),
        node("MatMul", ["a", "coef"], ["z"]),
        node("Add", ["z", "Ad_Addcst1"], ["out"]),
    ]
    proto = build(nodes, weights, (4,), (1,))
    proto.producer_name = producer

    bundle = compile_model(proto, loss="mse")

    kept = ["coef", "Ad_Addcst1"] if producer else [*weights]
    assert {*_trained(bundle)} == {*kept}


def _named(nodes: list[onnx.NodeProto], **more: NDArray[np.generic]) -> onnx.ModelProto:
    """Two layers with what stands between, as PyTorch's older exporter names them."""
    weights = {
        "fc.weight": weight(RNG, 4, 5),
        **more,
        "out.weight": weight(RNG, 5, 3),
    }
    layers = [node("MatMul", ["x", "fc.weight"], ["h"]), *nodes]
    layers.append(node("MatMul", ["q", "out.weight"], ["out"]))
    proto = build(layers, weights, (4,), (3,))
    proto.producer_name = "pytorch"
    return proto


def test_parameter_that_a_module_names_is_trained_wherever_a_rule_can() -> None:
    nodes = [
        node("Exp", ["h"], ["e"]),
        node("Pow", ["e", "pool.p"], ["g"]),
        node("Where", ["hidden", "token", "g"], ["q"]),
    ]
    more: Tensors = {
        "pool.p": np.array([1.5], np.float32),
        "hidden": np.array([[True, False, True, False, False]]),
        "token": weight(RNG, 1, 5),
    }

    bundle = compile_model(_named(nodes, **more), loss="mse")

    assert {*_trained(bundle)} == {"fc.weight", "pool.p", "token", "out.weight"}
    assert _sound(bundle)


def test_bias_of_one_channel_is_trained_under_the_name_of_a_number() -> None:
    tensors: dict[str, NDArray[np.generic]] = {
        "conv/kernel:0": weight(RNG, 1, 2, 3),
        "const_fold_opt__7": np.full((1, 1), 0.3, np.float32),
        "squeezed": np.array([1], np.int64),
        "norm/add/y:0": np.array(1e-3, np.float32),
        "const_fold_opt__8": np.full((1, 1), 0.7, np.float32),
    }
    nodes = [
        node("Conv", ["x", "conv/kernel:0"], ["c"]),
        node("Squeeze", ["c", "squeezed"], ["s"]),
        node("Add", ["s", "const_fold_opt__7"], ["b"]),
        node("Tanh", ["b"], ["t"]),
        node("Add", ["t", "const_fold_opt__8"], ["far"]),
        node("Add", ["far", "norm/add/y:0"], ["out"]),
    ]

    bundle = compile_model(build(nodes, tensors, (2, 6), (4,)), loss="mse")

    names = [item.name for item in bundle.manifest.parameters if item.trainable]
    assert names == ["conv/kernel:0", "const_fold_opt__7"]


def test_layer_of_one_channel_is_trained_under_a_number() -> None:
    """A gate over places: convolution and normalisation of one channel, one slope."""
    tensors: Tensors = {
        "onnx::Conv_11": weight(RNG, 1, 2, 1),
        "onnx::Conv_12": np.array([0.3], np.float32),
        "onnx::PRelu_13": np.array([[0.2]], np.float32),
        "onnx::MatMul_14": np.array([[1.3]], np.float32),
        "onnx::Mul_15": np.array([0.5], np.float32),
        "places": np.array([0, -1, 1], np.int64),
        "row": np.array([0, 6], np.int64),
    }
    nodes = [
        node("Conv", ["x", "onnx::Conv_11", "onnx::Conv_12"], ["c"], "/gate/Conv"),
        node("PRelu", ["c", "onnx::PRelu_13"], ["p"], "/act/PRelu"),
        node("Reshape", ["p", "places"], ["r"]),
        node("MatMul", ["r", "onnx::MatMul_14"], ["m"], "/fc/MatMul"),
        node("Mul", ["m", "onnx::Mul_15"], ["s"], "/Mul"),
        node("Reshape", ["s", "row"], ["out"]),
    ]
    proto = build(nodes, tensors, (2, 6), (6,))
    proto.producer_name = "pytorch"

    bundle = compile_model(proto, loss="mse")

    assert _trained(bundle) == [*tensors][:4]
    assert not any("no name for them" in line for line in bundle.notes)
    assert _sound(bundle)


def test_gain_of_one_group_is_the_exporters_own() -> None:
    tensors: Tensors = {
        "conv.weight": weight(RNG, 3, 2, 1),
        "onnx::InstanceNormalization_4": np.array([1.0], np.float32),
        "onnx::InstanceNormalization_5": np.array([0.0], np.float32),
        "together": np.array([0, 1, -1], np.int64),
        "apart": np.array([0, 3, 6], np.int64),
    }
    one, zero = [*tensors][1:3]
    nodes = [
        node("Conv", ["x", "conv.weight"], ["c"], "/conv/Conv"),
        node("Reshape", ["c", "together"], ["g"]),
        node("InstanceNormalization", ["g", one, zero], ["n"], "/norm/Instance"),
        node("Reshape", ["n", "apart"], ["out"]),
    ]
    proto = build(nodes, tensors, (2, 6), (3, 6))
    proto.producer_name = "pytorch"

    assert _trained(compile_model(proto, loss="mse")) == ["conv.weight"]


def test_weight_that_is_cut_by_a_width_of_the_input_is_trained() -> None:
    """Projections of a cross attention: the width says where one ends."""
    tensors: Tensors = {
        "attn.in_proj_weight": weight(RNG, 8, 4),
        "place": np.array(2, np.int64),
        "zero": np.array([0], np.int64),
        "first": np.array([0], np.int64),
        "end": np.array([2**62], np.int64),
    }
    nodes = [
        node("Shape", ["x"], ["sizes"]),
        node("Gather", ["sizes", "place"], ["width"], axis=0),
        node("Unsqueeze", ["width", "first"], ["cut"]),
        node("Slice", ["attn.in_proj_weight", "zero", "cut", "first"], ["q"]),
        node("Slice", ["attn.in_proj_weight", "cut", "end", "first"], ["k"]),
        node("Transpose", ["q"], ["tq"], perm=[1, 0]),
        node("Transpose", ["k"], ["tk"], perm=[1, 0]),
        node("MatMul", ["x", "tq"], ["a"]),
        node("MatMul", ["x", "tk"], ["b"]),
        node("Mul", ["a", "b"], ["out"]),
    ]
    proto = build(nodes, tensors, (3, 4), (3, 4))
    proto.producer_name = "pytorch"

    bundle = compile_model(proto, loss="mse")

    assert _trained(bundle) == ["attn.in_proj_weight"]
    assert bundle.notes == ()
    assert _sound(bundle)


def test_weight_behind_a_step_is_told_by_whatever_exporter() -> None:
    weights = {"w": weight(RNG, 4, 3), "b": weight(RNG, 3)}
    nodes = [
        node("Floor", ["w"], ["f"]),
        node("MatMul", ["x", "f"], ["h"]),
        node("Add", ["h", "b"], ["out"]),
    ]

    network = read_network(load(build(nodes, weights, (4,), (3,))))

    assert [*network.parameters] == ["b"]
    assert [*network.fixed] == ["w"]
    assert any("not trained" in line and ": w" in line for line in network.notes)


def test_weight_in_a_constant_node_is_trained_behind_a_transpose() -> None:
    held = numpy_helper.from_array(weight(RNG, 3, 4))
    nodes = [
        node("Constant", [], ["w"], value=held),
        node("Transpose", ["w"], ["t"]),
        node("MatMul", ["x", "t"], ["h"]),
        node("Add", ["h", "b"], ["out"]),
    ]

    bundle = compile_model(build(nodes, {"b": weight(RNG, 3)}, (4,), (3,)), loss="mse")

    assert sorted(_trained(bundle)) == ["b", "w"]


def test_parameter_that_no_rule_can_train_is_told() -> None:
    nodes = [node("Clip", ["h", "low", "act.alpha"], ["q"])]
    more: Tensors = {
        "low": np.array(0, np.float32),
        "act.alpha": np.array([1.5], np.float32).reshape(()),
    }

    notes = compile_model(_named(nodes, **more), loss="mse").notes

    assert any("act.alpha" in line for line in notes)


def test_tensor_that_is_trained_under_a_number_is_told() -> None:
    nodes = [node("Mul", ["h", "onnx::Mul_7"], ["q"])]

    bundle = compile_model(_named(nodes, **{"onnx::Mul_7": weight(RNG, 5)}), loss="mse")

    assert any("onnx::Mul_7" in line for line in bundle.notes)


def test_number_of_a_keras_program_is_none_of_its_variables() -> None:
    names = ("s/d/MatMul/ReadVariableOp:0", "s/mul/y:0")
    nodes = [
        node("MatMul", ["x", names[0]], ["h"]),
        node("Mul", ["h", names[1]], ["out"]),
    ]
    weights = {names[0]: weight(RNG, 4, 3), names[1]: weight(RNG, 3)}

    bundle = compile_model(build(nodes, weights, (4,), (3,)), loss="mse")

    assert _trained(bundle) == [names[0]]


def test_numbers_in_a_constant_node_that_are_not_trained_are_told() -> None:
    nodes = [
        node("Constant", [], ["b"], value_floats=[0.1, 0.2, 0.3]),
        node("MatMul", ["x", "w"], ["h"]),
        node("Add", ["h", "b"], ["out"]),
    ]
    proto = build(nodes, {"w": weight(RNG, 4, 3)}, (4,), (3,))

    bundle = compile_model(proto, loss="mse")

    assert _trained(bundle) == ["w"]
    assert any("b (" in line for line in bundle.notes)
    assert _trained(compile_model(proto, loss="mse", train=["w", "b"])) == ["w", "b"]


def test_coefficients_of_a_lasso_are_trained() -> None:
    sparse = np.array([[0.0, 1.4, 0.0, 0.0, 0.3]], np.float32)
    nodes = [node("Gemm", ["x", "coef", "intercept"], ["out"], transB=1)]
    tensors = {"coef": sparse, "intercept": np.array([0.2], np.float32)}
    proto = build(nodes, tensors, (5,), (1,))
    proto.producer_name = "skl2onnx"

    bundle = compile_model(proto, loss="mse")

    assert _trained(bundle) == ["coef", "intercept"]
    assert all(line.startswith("coef: holds many zeros") for line in bundle.notes)


def test_estimator_that_learned_trees_alone_has_no_weights() -> None:
    nodes = [node("Tanh", ["x"], ["t"]), node("Sub", ["half", "t"], ["out"])]
    proto = build(nodes, {"half": np.array([0.5], np.float32)}, (4,), (4,))
    proto.producer_name = "skl2onnx"

    with pytest.raises(CompileError, match="no weights"):
        compile_model(proto, loss="mse")


def test_bias_whose_numbers_stand_in_a_row_is_trained() -> None:
    weights: Tensors = {
        "w": weight(RNG, 4, 8),
        "b": np.linspace(-1, 1, 8, dtype=np.float32),
    }
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["out"])]

    assert _trained(compile_model(build(nodes, weights, (4,), (8,)), loss="mse")) == [
        "w",
        "b",
    ]


def test_length_of_zeros_has_the_slope_zero() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Sub", ["h", "h"], ["d"]),
        node("Mul", ["d", "h"], ["e"]),
        node("ReduceL2", ["e"], ["l"], axes=[1], keepdims=1),
        node("Add", ["h", "l"], ["out"]),
    ]
    proto = build(nodes, {"w": weight(RNG, 4, 3)}, (4,), (3,))

    assert _sound(compile_model(proto, loss="mse"))


def test_bias_of_fresh_forget_gates_is_trained() -> None:
    bias = np.zeros((1, 32), np.float32)
    bias[0, 8:12] = 1
    weights: Tensors = {
        "w": weight(RNG, 1, 16, 3),
        "r": weight(RNG, 1, 16, 4),
        "b": bias,
        "first": np.array([0], np.int64),
    }
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("LSTM", ["t", "w", "r", "b"], ["all", "last"], hidden_size=4),
        node("Squeeze", ["last", "first"], ["out"]),
    ]

    bundle = compile_model(build(nodes, weights, (6, 3), (4,)), loss="mse")

    assert {*_trained(bundle)} == {"w", "r", "b"}


def test_constant_that_a_pattern_names_is_trained() -> None:
    bundle = compile_model(_scaled(), loss="mse", train=["w", "me*"])

    assert _trained(bundle) == ["mean", "w"]
    assert _sound(bundle)


def test_pattern_that_fits_weights_leaves_constants_alone() -> None:
    network = read_network(load(_scaled()), WeightOptions(train=["*"]))

    assert [*network.parameters] == ["w"]


def test_tensor_that_no_parameter_was_made_into_is_a_filler() -> None:
    proto = declared(
        _scaled(b=np.zeros(3, np.float32)),
        {"w": "PARAMETER", "mean": "BUFFER", "std": "BUFFER"},
        {"b": ["val_1", "relu"]},
    )

    bundle = compile_model(proto, loss="mse")

    assert _trained(bundle) == ["w"]
    assert bundle.notes == ()


@pytest.mark.parametrize("turned", [True, False])
def test_cosines_and_sines_of_the_same_angles_are_constants(*, turned: bool) -> None:
    angles = RNG.random((3, 4)).astype(np.float32)
    tensors = {
        "c": np.cos(angles),
        "s": np.sin(angles if turned else angles + 0.1),
        "gain": np.ones((3, 4), np.float32),
        "offset": np.zeros((3, 4), np.float32),
        "w": weight(RNG, 4, 4),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["q"]),
        node("Mul", ["q", "c"], ["a"]),
        node("Mul", ["q", "s"], ["b"]),
        node("Add", ["a", "b"], ["r"]),
        node("Mul", ["r", "gain"], ["g"]),
        node("Add", ["g", "offset"], ["out"]),
    ]

    bundle = compile_model(build(nodes, tensors, (3, 4), (3, 4)), loss="mse")

    kept = [] if turned else ["c", "s"]
    assert _trained(bundle) == [*kept, "gain", "offset", "w"]


def test_parameter_that_was_computed_away_is_named() -> None:
    proto = declared(
        _scaled(),
        {"conv.weight": "PARAMETER", "mean": "BUFFER", "std": "BUFFER"},
        {"w": ["conv.weight", "sqrt", "val_3"]},
    )

    (line,) = compile_model(proto, loss="mse").notes

    assert "conv.weight (now w)" in line


@pytest.mark.parametrize("steps", [["cat"], ["expand", "view"]], ids=str)
def test_parameter_whose_values_stand_more_than_once_is_named(steps: list[str]) -> None:
    kinds = {"table": "PARAMETER", "mean": "BUFFER"}
    proto = declared(_scaled(), kinds, {"w": ["table", *steps]})
    twice = np.tile(weight(RNG, 2, 3), (2, 1))
    for tensor in proto.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(numpy_helper.from_array(twice, "w"))

    notes = compile_model(proto, loss="mse").notes

    assert any("table (now w) in advance" in line for line in notes)


def test_parameter_that_was_turned_round_keeps_its_name_for_patterns() -> None:
    proto = declared(
        _scaled(b=weight(RNG, 3)),
        {"head.weight": "PARAMETER", "b": "PARAMETER", "mean": "BUFFER"},
        {"w": ["head.weight"], "std": []},
    )
    # Only layouts have numbers for names.
    for made in (*proto.graph.node, *proto.graph.initializer, *proto.graph.value_info):
        if getattr(made, "name", "") == "w":
            made.name = "val_7"
    proto.graph.node[2].input[1] = "val_7"

    bundle = compile_model(proto, loss="mse", train=["head.*"])

    assert _trained(bundle) == ["val_7"]
    assert bundle.notes == ()


def test_parameter_that_the_file_lost_is_named() -> None:
    kinds = {"w": "PARAMETER", "gone": "PARAMETER", "mean": "BUFFER", "std": "BUFFER"}

    (line,) = compile_model(declared(_scaled(), kinds), loss="mse").notes

    assert line.startswith("gone:")


def test_gain_of_a_folded_normalisation_is_told_as_such() -> None:
    kinds = {"w": "PARAMETER", "n.weight": "PARAMETER", "n.running_mean": "BUFFER"}

    (line,) = compile_model(
        declared(_scaled(), {**kinds, "mean": "BUFFER", "std": "BUFFER"}), loss="mse"
    ).notes

    assert line.startswith("n.weight: computed into the convolution")


def test_normalisation_without_gains_that_was_folded_is_told() -> None:
    kinds = {"w": "PARAMETER", "n.running_mean": "BUFFER", "n.running_var": "BUFFER"}

    (line,) = compile_model(
        declared(_scaled(), {**kinds, "mean": "BUFFER", "std": "BUFFER"}), loss="mse"
    ).notes

    assert line.startswith("n: normalisations without gains")


def _written(*, bias: NDArray[np.float32], every: bool) -> onnx.ModelProto:
    """A layer whose weight is a Constant node, and its bias too if `every`."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Add", ["h", "b"], ["out"]),
    ]
    tensors: dict[str, NDArray[np.generic]] = {"w": weight(RNG, 4, 3), "b": bias}
    names = ["w", "b"] if every else ["w"]
    for name in names:
        value = numpy_helper.from_array(tensors.pop(name), name)
        nodes.insert(0, helper.make_node("Constant", [], [name], value=value))
    return build(nodes, tensors, (4,), (3,))


@pytest.mark.parametrize("every", [True, False], ids=["all", "one"])
def test_weights_written_as_nodes_are_trained(*, every: bool) -> None:
    bundle = compile_model(
        _written(bias=np.zeros(3, np.float32), every=every), loss="mse"
    )

    assert {*_trained(bundle)} == {"w", "b"}
    assert _sound(bundle)


def test_literal_among_initialised_weights_is_no_weight() -> None:
    ones = numpy_helper.from_array(np.array([1.5, 2.5, 3.5], np.float32), "v")
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Constant", [], ["v"], value=ones),
        node("Mul", ["h", "v"], ["out"]),
    ]

    bundle = compile_model(
        build(nodes, {"w": weight(RNG, 4, 3)}, (4,), (3,)), loss="mse"
    )

    assert _trained(bundle) == ["w"]


def _tempered() -> onnx.ModelProto:
    weights: Tensors = {"w": weight(RNG, 4, 3), "heat": np.array(0.5, np.float32)}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Mul", ["h", "heat"], ["out"])]
    return build(nodes, weights, (4,), (3,))


def test_number_without_axes_is_told_and_trained_by_name() -> None:
    told = compile_model(_tempered(), loss="mse")
    named = compile_model(_tempered(), loss="mse", train=["w", "heat"])

    assert any("heat" in line for line in told.notes)
    assert _trained(told) == ["w"]
    assert {*_trained(named)} == {"w", "heat"}
    assert _sound(named)


@pytest.mark.parametrize("declares", [True, False], ids=["declared", "named"])
def test_number_that_a_module_owns_is_trained(*, declares: bool) -> None:
    proto = _tempered()
    proto.producer_name = "pytorch"
    if declares:
        proto = declared(proto, {"w": "PARAMETER", "heat": "PARAMETER"})

    bundle = compile_model(proto, loss="mse")

    assert {*_trained(bundle)} == {"w", "heat"}
    assert all(line.startswith("w, heat: tensors of") for line in bundle.notes)
    assert len(bundle.notes) == (not declares)


def _one_factor(
    name: str, kind: str = "Mul", *, first: bool = False
) -> onnx.ModelProto:
    """A linear layer with one number, which has an axis, before or behind it."""
    weights: Tensors = {"w": weight(RNG, 4, 3), name: np.array([0.3], np.float32)}
    layer = ["s", "w"] if first else ["x", "w"]
    nodes = [node("MatMul", layer, ["out" if first else "h"])]
    scaled = node(kind, ["x" if first else "h", name], ["s" if first else "out"])
    nodes.insert(0 if first else 1, scaled)
    return build(nodes, weights, (4,), (3,))


@pytest.mark.parametrize("kind", ["Mul", "Div"])
@pytest.mark.parametrize("name", ["t", "sqrt_dim", "rescaling/Cast"])
def test_single_factor_that_nobody_names_is_told_and_trained_by_name(
    name: str, kind: str
) -> None:
    told = compile_model(_one_factor(name, kind), loss="mse")
    named = compile_model(_one_factor(name, kind), loss="mse", train=["w", name])

    assert _trained(told) == ["w"]
    assert any("single numbers are no weights" in line for line in told.notes)
    assert {*_trained(named)} == {"w", name}


@pytest.mark.parametrize(
    "name",
    ["layer.gamma", "scale/Read", "log_scale:0", "block_1/batchnorm/mul", "heat"],
)
def test_single_factor_with_the_name_of_a_weight_is_trained(name: str) -> None:
    bundle = compile_model(_one_factor(name), loss="mse")

    assert {*_trained(bundle)} == {"w", name}


@pytest.mark.parametrize("kind", ["Mul", "Add", "Sub", "Div"])
@pytest.mark.parametrize("producer", ["pytorch", ""])
def test_single_number_on_the_input_itself_is_a_constant(
    kind: str, producer: str
) -> None:
    proto = _one_factor("scale", kind, first=True)
    proto.producer_name = producer

    bundle = compile_model(proto, loss="mse")

    assert _trained(bundle) == ["w"]
    assert any("scale (shift or scale of the input)" in line for line in bundle.notes)


_KINDS = {
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "bfloat16": TensorProto.BFLOAT16,
    "float8e4m3fn": TensorProto.FLOAT8E4M3FN,
    "float8e4m3fnuz": TensorProto.FLOAT8E4M3FNUZ,
    "float8e5m2": TensorProto.FLOAT8E5M2,
    "float8e5m2fnuz": TensorProto.FLOAT8E5M2FNUZ,
    "float4e2m1": TensorProto.FLOAT4E2M1,
}


@pytest.mark.parametrize("kind", _KINDS)
def test_model_of_another_precision_is_trained_in_float32(kind: str) -> None:
    tensors = [
        helper.make_tensor(name, _KINDS[kind], shape, values.reshape(-1).tolist())
        for name, shape, values in (
            ("w", (4, 3), weight(RNG, 4, 3)),
            ("b", (3,), weight(RNG, 3)),
        )
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            node("Cast", ["x"], ["c"], to=_KINDS[kind]),
            node("Gemm", ["c", "w", "b"], ["out"]),
        ],
        "small",
        [info("x", _KINDS[kind], ["n", 4])],
        [info("out", _KINDS[kind], ["n", 3])],
        tensors,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])

    bundle = compile_model(proto, loss="mse")

    assert _trained(bundle) == ["w", "b"]
    assert any("float32" in line for line in bundle.notes)
    assert _sound(bundle)


@pytest.mark.parametrize(
    ("row", "width", "out"),
    [((4,), 4, ()), ((3, 4), 4, (3,))],
    ids=["a vector", "a sequence"],
)
def test_vector_as_a_factor_is_trained(
    row: tuple[int, ...], width: int, out: tuple[int, ...]
) -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["out"])]
    weights = {"w": weight(RNG, width), "b": weight(RNG, 1)}

    bundle = compile_model(build(nodes, weights, row, out), loss="mse")

    assert _trained(bundle) == ["w", "b"]
    assert _sound(bundle)


def test_vector_from_the_left_is_trained() -> None:
    nodes = [node("MatMul", ["v", "x"], ["h"]), node("Tanh", ["h"], ["out"])]
    proto = build(nodes, {"v": weight(RNG, 3)}, (3, 4), (4,))

    bundle = compile_model(proto, loss="mse")

    assert _trained(bundle) == ["v"]
    assert _sound(bundle)


def _behind(
    nodes: list[onnx.NodeProto], tensors: Mapping[str, NDArray[np.generic]]
) -> onnx.ModelProto:
    """A layer whose weight `k` (5, 4) is computed, before another one."""
    layers = [
        node("Gemm", ["x", "k"], ["h"], transB=1),
        node("Tanh", ["h"], ["t"]),
        node("MatMul", ["t", "head"], ["out"]),
    ]
    return build([*nodes, *layers], {**tensors, "head": weight(RNG, 5, 3)}, (4,), (3,))


BEHIND: dict[str, tuple[list[onnx.NodeProto], Tensors]] = {
    "exponential": ([node("Exp", ["w"], ["k"])], {"w": weight(RNG, 5, 4)}),
    "weight norm": (
        [
            node("ReduceL2", ["v"], ["r"], axes=[1], keepdims=1),
            node("Div", ["v", "r"], ["d"]),
            node("Mul", ["g", "d"], ["k"]),
        ],
        {"v": weight(RNG, 5, 4), "g": 1 + RNG.random((5, 1), np.float32)},
    ),
    "low rank": (
        [node("MatMul", ["b", "a"], ["p"]), node("Add", ["w", "p"], ["k"])],
        {"w": weight(RNG, 5, 4), "b": weight(RNG, 5, 2), "a": weight(RNG, 2, 4)},
    ),
    "standardised": (
        [
            node("ReduceMean", ["w"], ["m"], axes=[1], keepdims=1),
            node("Sub", ["w", "m"], ["c"]),
            node("Mul", ["c", "c"], ["q"]),
            node("ReduceMean", ["q"], ["v"], axes=[1], keepdims=1),
            node("Sqrt", ["v"], ["s"]),
            node("Div", ["c", "s"], ["k"]),
        ],
        {"w": weight(RNG, 5, 4)},
    ),
}


@pytest.mark.parametrize("case", BEHIND)
def test_weight_behind_functions_is_trained_through_them(case: str) -> None:
    nodes, tensors = BEHIND[case]

    bundle = compile_model(_behind(nodes, tensors), loss="cross-entropy")

    assert {*_trained(bundle)} == {*tensors, "head"}
    assert _sound(bundle)


def test_estimates_of_a_spectral_norm_stay_as_they_are() -> None:
    tensors: Tensors = {
        "0.weight_orig": weight(RNG, 5, 4),
        "0.weight_u": weight(RNG, 5),
        "0.weight_v": weight(RNG, 4),
    }
    nodes = [
        node("Identity", ["0.weight_orig"], ["onnx::MatMul_24"]),
        node("MatMul", ["onnx::MatMul_24", "0.weight_v"], ["r"]),
        node("MatMul", ["0.weight_u", "r"], ["s"]),
        node("Div", ["0.weight_orig", "s"], ["k"]),
    ]
    proto = _behind(nodes, tensors)
    proto.producer_name = "pytorch"

    bundle = compile_model(proto, loss="cross-entropy")

    assert {*_trained(bundle)} == {"0.weight_orig", "head"}
    assert _sound(bundle)


def test_mask_of_minus_infinity_is_a_constant() -> None:
    mask = np.triu(np.full((3, 3), -np.inf, np.float32), 1)
    nodes = [
        node("MatMul", ["x", "w"], ["q"]),
        node("Transpose", ["q"], ["k"], perm=[0, 2, 1]),
        node("MatMul", ["q", "k"], ["s"]),
        node("Add", ["s", "mask"], ["t"]),
        node("Softmax", ["t"], ["p"], axis=-1),
        node("MatMul", ["p", "q"], ["out"]),
    ]
    proto = build(nodes, {"w": weight(RNG, 4, 5), "mask": mask}, (3, 4), (3, 5))

    bundle = compile_model(proto, loss="mse")

    assert _trained(bundle) == ["w"]
    assert _sound(bundle)


def test_model_of_constants_alone_says_what_could_be_trained() -> None:
    nodes = [node("Sub", ["x", "mean"], ["out"])]
    proto = build(nodes, {"mean": weight(RNG, 4)}, (4,), (4,))

    with pytest.raises(CompileError, match="--train name one of mean"):
        compile_model(proto, loss="mse")


def test_name_that_a_rewrite_needs_is_refused() -> None:
    nodes = [
        node("Tanh", ["x"], ["h/right"]),
        node("MatMul", ["h/right", "w"], ["h"]),
        node("Neg", ["h"], ["out"]),
    ]
    proto = build(nodes, {"w": weight(RNG, 4)}, (4,), ())

    with pytest.raises(CompileError, match="'h/right' is taken"):
        compile_model(proto, loss="mse")


_LITE = (
    "net/re_lu_1/Relu;net/batch_normalization_1/batchnorm/add_1;"
    "net/conv2d_1/convolution;net/batch_normalization_1/Cast_3/ReadVariableOp"
)


def _called(name: str) -> onnx.ModelProto:
    weights: Tensors = {"w": weight(RNG, 4, 3), name: weight(RNG, 3)}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", name], ["out"])]
    return build(nodes, weights, (4,), (3,))


@pytest.mark.parametrize(
    "name", [_LITE, "net/batch_normalization_1/batchnorm/mul:0", "a/FusedBatchNormV3"]
)
def test_normalisation_that_tensorflow_computed_away_is_told(name: str) -> None:
    (line,) = compile_model(_called(name), loss="mse").notes

    assert line.startswith(f"{name[:200]}")
    assert "a normalisation that TensorFlow computed" in line


@pytest.mark.parametrize(
    "name", ["batchnorm.weight", "/batchnorm/Mul_output_0", "net/batchnorm.bias"]
)
def test_normalisation_of_another_toolkit_is_no_such_thing(name: str) -> None:
    assert compile_model(_called(name), loss="mse").notes == ()


@pytest.mark.parametrize("name", [_LITE * 3, "a\nb"], ids=["long", "unprintable"])
def test_name_that_no_manifest_holds_becomes_a_shorter_one(name: str) -> None:
    bundle = compile_model(_called(name), loss="mse")
    other = compile_model(_called(f"{name};"), loss="mse")

    first, second = [_trained(each)[1] for each in (bundle, other)]
    assert first[:3] == second[:3] == name[:3].replace("\n", "_")
    assert first != second
    assert _sound(bundle)


def test_value_that_no_manifest_holds_becomes_a_shorter_one() -> None:
    weights: Tensors = {"w": weight(RNG, 4, 3), "b": weight(RNG, 3)}
    nodes = [
        node("Identity", ["w"], [_LITE * 3]),
        node("MatMul", ["x", _LITE * 3], ["h"]),
        node("Add", ["h", "b"], ["out"]),
    ]

    bundle = compile_model(build(nodes, weights, (4,), (3,)), loss="mse")

    assert len(_trained(bundle)) == 2
    assert _sound(bundle)
