"""What names say of weights, and what is told where they say nothing."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from starling.compiler import CompileError, compile_model
from starling.compiler.parameters.parameter_selection import WeightOptions
from starling.compiler.reader.model_file import load
from starling.compiler.reader.network_reader import read_network
from tests.unit.compiler.parameters.declared import declared
from tests.unit.compiler.parameters.survey_models import (
    RNG,
    Tensors,
    is_sound,
    scaled_input,
    trained_names,
)
from tests.unit.compiler.small_models import build, node, weight


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

    assert {*trained_names(bundle)} == {"fc.weight", "pool.p", "token", "out.weight"}
    assert is_sound(bundle)


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

    assert trained_names(bundle) == [*tensors][:4]
    assert not any("no name for them" in line for line in bundle.notes)
    assert is_sound(bundle)


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

    assert trained_names(compile_model(proto, loss="mse")) == ["conv.weight"]


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

    assert trained_names(bundle) == ["attn.in_proj_weight"]
    assert bundle.notes == ()
    assert is_sound(bundle)


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

    assert sorted(trained_names(bundle)) == ["b", "w"]


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


def test_constant_that_a_pattern_names_is_trained() -> None:
    bundle = compile_model(scaled_input(), loss="mse", train=["w", "me*"])

    assert trained_names(bundle) == ["mean", "w"]
    assert is_sound(bundle)


def test_pattern_that_fits_weights_leaves_constants_alone() -> None:
    network = read_network(load(scaled_input()), WeightOptions(train=["*"]))

    assert [*network.parameters] == ["w"]


def test_tensor_that_no_parameter_was_made_into_is_a_filler() -> None:
    proto = declared(
        scaled_input(b=np.zeros(3, np.float32)),
        {"w": "PARAMETER", "mean": "BUFFER", "std": "BUFFER"},
        {"b": ["val_1", "relu"]},
    )

    bundle = compile_model(proto, loss="mse")

    assert trained_names(bundle) == ["w"]
    assert bundle.notes == ()


def test_parameter_that_was_computed_away_is_named() -> None:
    proto = declared(
        scaled_input(),
        {"conv.weight": "PARAMETER", "mean": "BUFFER", "std": "BUFFER"},
        {"w": ["conv.weight", "sqrt", "val_3"]},
    )

    (line,) = compile_model(proto, loss="mse").notes

    assert "conv.weight (now w)" in line


@pytest.mark.parametrize("steps", [["cat"], ["expand", "view"]], ids=str)
def test_parameter_whose_values_stand_more_than_once_is_named(steps: list[str]) -> None:
    kinds = {"table": "PARAMETER", "mean": "BUFFER"}
    proto = declared(scaled_input(), kinds, {"w": ["table", *steps]})
    twice = np.tile(weight(RNG, 2, 3), (2, 1))
    for tensor in proto.graph.initializer:
        if tensor.name == "w":
            tensor.CopyFrom(numpy_helper.from_array(twice, "w"))

    notes = compile_model(proto, loss="mse").notes

    assert any("table (now w) in advance" in line for line in notes)


def test_parameter_that_was_turned_round_keeps_its_name_for_patterns() -> None:
    proto = declared(
        scaled_input(b=weight(RNG, 3)),
        {"head.weight": "PARAMETER", "b": "PARAMETER", "mean": "BUFFER"},
        {"w": ["head.weight"], "std": []},
    )
    # Only layouts have numbers for names.
    for made in (*proto.graph.node, *proto.graph.initializer, *proto.graph.value_info):
        if getattr(made, "name", "") == "w":
            made.name = "val_7"
    proto.graph.node[2].input[1] = "val_7"

    bundle = compile_model(proto, loss="mse", train=["head.*"])

    assert trained_names(bundle) == ["val_7"]
    assert bundle.notes == ()


def test_parameter_that_the_file_lost_is_named() -> None:
    kinds = {"w": "PARAMETER", "gone": "PARAMETER", "mean": "BUFFER", "std": "BUFFER"}

    (line,) = compile_model(declared(scaled_input(), kinds), loss="mse").notes

    assert line.startswith("gone:")


def test_gain_of_a_folded_normalisation_is_told_as_such() -> None:
    kinds = {"w": "PARAMETER", "n.weight": "PARAMETER", "n.running_mean": "BUFFER"}

    (line,) = compile_model(
        declared(scaled_input(), {**kinds, "mean": "BUFFER", "std": "BUFFER"}),
        loss="mse",
    ).notes

    assert line.startswith("n.weight: computed into the convolution")


def test_normalisation_without_gains_that_was_folded_is_told() -> None:
    kinds = {"w": "PARAMETER", "n.running_mean": "BUFFER", "n.running_var": "BUFFER"}

    (line,) = compile_model(
        declared(scaled_input(), {**kinds, "mean": "BUFFER", "std": "BUFFER"}),
        loss="mse",
    ).notes

    assert line.startswith("n: normalisations without gains")


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

    first, second = [trained_names(each)[1] for each in (bundle, other)]
    assert first[:3] == second[:3] == name[:3].replace("\n", "_")
    assert first != second
    assert is_sound(bundle)


def test_value_that_no_manifest_holds_becomes_a_shorter_one() -> None:
    weights: Tensors = {"w": weight(RNG, 4, 3), "b": weight(RNG, 3)}
    nodes = [
        node("Identity", ["w"], [_LITE * 3]),
        node("MatMul", ["x", _LITE * 3], ["h"]),
        node("Add", ["h", "b"], ["out"]),
    ]

    bundle = compile_model(build(nodes, weights, (4,), (3,)), loss="mse")

    assert len(trained_names(bundle)) == 2
    assert is_sound(bundle)
