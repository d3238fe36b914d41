from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from starling.compiler import CompileError, compile_model
from starling.compiler.reader.model_file import MODEL_BYTES_MAX, NODES_MAX, load
from starling.engine.graph_check import checked_graph
from starling.protocol.errors import (
    ConfigError,
    DecodeError,
    FederationError,
    LimitError,
)
from starling.protocol.model.training_bundle import GRADIENT, INFER
from tests.unit.compiler.small_models import build, mlp, node, weight

RNG = np.random.default_rng(0)


def _edited(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    model = mlp()
    change(model)
    return model


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere")


def _cyclic(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "t"


def _branch(model: onnx.ModelProto) -> None:
    choice = node("If", ["x"], ["y"], "choice")
    choice.attribute.append(helper.make_attribute("then_branch", onnx.GraphProto()))
    model.graph.node.append(choice)


def _many_nodes(model: onnx.ModelProto) -> None:
    model.graph.node.extend(
        [node("Identity", ["x"], [f"i{index}"]) for index in range(NODES_MAX)]
    )


def _second_output(model: onnx.ModelProto) -> None:
    second = helper.make_tensor_value_info("h", TensorProto.FLOAT, ["n", 6])
    model.graph.output.append(second)


def _free_axis(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "w"


def _joins_batch() -> onnx.ModelProto:
    shape = np.array([1, -1], np.int64)
    weights: dict[str, NDArray[np.generic]] = {"w": weight(RNG, 4, 3), "s": shape}
    nodes = [node("Reshape", ["x", "s"], ["h"]), node("MatMul", ["h", "w"], ["out"])]
    return build(nodes, weights, (4,), (3,))


def _over_batch() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "first"),
        node("Softmax", ["h"], ["out"], "across", axis=0),
    ]
    return build(nodes, {"w": weight(RNG, 4, 3)}, (4,), (3,))


def _normalised_by_batch() -> onnx.ModelProto:
    statistics = {name: weight(RNG, 4) for name in ("s", "b", "m", "v")}
    made = node(
        "BatchNormalization", ["x", *statistics], ["out"], "norm", training_mode=1
    )
    return build([made], statistics, (4,), (4,))


def _dropping() -> onnx.ModelProto:
    weights: dict[str, NDArray[np.generic]] = {
        "w": weight(RNG, 4, 4),
        "ratio": np.array(0.5, np.float32),
        "on": np.array(True),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Dropout", ["h", "ratio", "on"], ["out"], "drop"),
    ]
    return build(nodes, weights, (4,), (4,))


def _unknown() -> onnx.ModelProto:
    nodes = [
        node("Det", ["x"], ["a"], "first"),
        node("Unique", ["a"], ["b"], "second"),
        node("Special", ["b"], ["out"], "third"),
    ]
    nodes[-1].domain = "custom.org"
    model = build(nodes, {"w": weight(RNG, 4, 3)}, (4, 4), (3,))
    model.opset_import.add(domain="custom.org", version=1)
    return model


def _unknown_element_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 104


def _too_few_values(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.raw_data = tensor.raw_data[:-4]


def _infinite() -> onnx.ModelProto:
    weights = {"w": np.full((4, 3), np.inf, np.float32)}
    return build([node("MatMul", ["x", "w"], ["out"])], weights, (4,), (3,))


def _strides_of_another_rank() -> onnx.ModelProto:
    made = node("MaxPool", ["h"], ["out"], "pool", kernel_shape=[2, 2], strides=[2])
    first = node("Conv", ["x", "w"], ["h"])
    return build([first, made], {"w": weight(RNG, 2, 1, 1, 1)}, (1, 4, 4), (2, 2, 2))


MALFORMED: dict[str, Callable[[], bytes | onnx.ModelProto]] = {
    "empty": lambda: b"",
    "noise": lambda: b"\x01\x02\x03 not a model",
    "truncated": lambda: mlp().SerializeToString()[:-100],
    "external data": lambda: _edited(_external),
    "cyclic": lambda: _edited(_cyclic),
    "name not text": lambda: mlp().SerializeToString().replace(b"tanh", b"t\xffnh"),
    "unknown element type": lambda: _edited(_unknown_element_type),
    "too few values": lambda: _edited(_too_few_values),
    "no graph": lambda: onnx.ModelProto(ir_version=8),
}

REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "opset too old": (lambda: build([], {}, (4,), (3,), opset=7), "no nodes"),
    "opset too new": (
        lambda: _edited(lambda m: setattr(m.opset_import[0], "version", 99)),
        "operator set",
    ),
    "subgraph": (lambda: _edited(_branch), "choice"),
    "two outputs": (lambda: _edited(_second_output), "exactly one"),
    "free axis": (lambda: _edited(_free_axis), "axis 1 has no fixed size"),
    "joins the batch": (_joins_batch, "batch"),
    "works along the batch": (_over_batch, "across"),
    "strides of another rank": (_strides_of_another_rank, "pool|Attribute strides"),
    "weight not finite": (_infinite, "'w'"),
    "statistics of the batch": (_normalised_by_batch, "norm"),
    "dropout": (_dropping, "drop"),
    "unknown operators": (_unknown, r"3 nodes: first \(Det\), second \(Unique\)"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_model_is_refused_as_such(case: str) -> None:
    with pytest.raises(DecodeError):
        compile_model(MALFORMED[case](), loss="cross-entropy")


@pytest.mark.parametrize("case", REFUSED)
def test_model_that_cannot_be_trained_is_refused_with_its_place(case: str) -> None:
    make, message = REFUSED[case]

    with pytest.raises(FederationError, match=message):
        compile_model(make(), loss="cross-entropy")


def test_model_with_unknown_operators_names_each_node() -> None:
    with pytest.raises(CompileError) as caught:
        compile_model(_unknown(), loss="cross-entropy")

    assert caught.value.nodes == ("first", "second", "third")


def test_model_longer_than_the_limit_is_refused_before_parsing() -> None:
    with pytest.raises(LimitError):
        load(bytes(MODEL_BYTES_MAX + 1))


def test_model_with_too_many_nodes_is_refused() -> None:
    with pytest.raises(LimitError, match="nodes"):
        load(_edited(_many_nodes))


def test_model_truncated_anywhere_raises_only_our_errors() -> None:
    whole = mlp().SerializeToString()

    for length in range(0, len(whole), 7):
        with pytest.raises(FederationError):
            compile_model(whole[:length], loss="cross-entropy")


def test_model_file_that_is_missing_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        load(tmp_path / "absent.onnx")


def test_model_of_an_older_opset_is_converted() -> None:
    model = build(
        [node("Gemm", ["x", "w", "b"], ["out"])],
        {"w": weight(RNG, 4, 3), "b": weight(RNG, 3)},
        (4,),
        (3,),
        opset=11,
    )

    assert compile_model(model, loss="cross-entropy").manifest.dimension == 15


def test_model_exported_for_one_example_takes_any_batch() -> None:
    model = _edited(
        lambda m: setattr(
            m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1
        )
    )

    assert compile_model(model, loss="cross-entropy").manifest.input.shape == (8,)


def test_model_that_computes_its_shapes_compiles_without_doing_so() -> None:
    weights: dict[str, NDArray[np.generic]] = {
        "w": weight(RNG, 12, 3),
        "first": np.array(0, np.int64),
        "axis": np.array([0], np.int64),
        "rest": np.array([-1], np.int64),
    }
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "first"], ["n"]),
        node("Unsqueeze", ["n", "axis"], ["u"]),
        node("Concat", ["u", "rest"], ["c"], axis=0),
        node("Reshape", ["x", "c"], ["f"]),
        node("MatMul", ["f", "w"], ["out"]),
    ]

    bundle = compile_model(build(nodes, weights, (3, 4), (3,)), loss="mse")

    facts = checked_graph(bundle.standalone(INFER))
    assert not {"Shape", "Gather", "Concat"} & set(facts.operators)


def test_model_with_two_outputs_compiles_for_the_one_chosen() -> None:
    model = _edited(_second_output)
    first, second = [item.name for item in model.graph.output]

    bundle = compile_model(model, loss="mse", output=second)

    assert bundle.manifest.output.shape == (6,)
    assert compile_model(model, loss="mse", output=first).digest != bundle.digest


def test_output_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="--output"):
        compile_model(mlp(), loss="mse", output="missing")


def test_softmax_behind_an_identity_still_belongs_to_the_loss() -> None:
    plain = mlp()
    wrapped = mlp()
    wrapped.graph.node[-1].output[0] = "inner"
    wrapped.graph.node.append(node("Identity", ["inner"], ["out"]))

    operators = [
        checked_graph(
            compile_model(model, loss="cross-entropy").files[GRADIENT]
        ).operators
        for model in (plain, wrapped)
    ]

    assert operators[0] == operators[1]


def test_weights_in_constant_nodes_stay_frozen() -> None:
    rng = np.random.default_rng(0)
    constant = node("Constant", [], ["scale"])
    scale = numpy_helper.from_array(weight(rng, 3), "scale")
    constant.attribute.append(helper.make_attribute("value", scale))
    nodes = [
        constant,
        node("MatMul", ["x", "w"], ["h"]),
        node("Mul", ["h", "scale"], ["out"]),
    ]

    bundle = compile_model(
        build(nodes, {"w": weight(rng, 4, 3)}, (4,), (3,)), loss="mse"
    )

    assert [item.name for item in bundle.manifest.parameters] == ["w"]
