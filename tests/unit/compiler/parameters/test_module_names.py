"""Weights that the older exporter numbered have the names of their modules."""

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from starling.compiler import compile_model
from starling.compiler.ir.network import NetworkNode
from starling.compiler.parameters.module_names import module_names, undeclared
from starling.protocol.errors import ConfigError
from tests.unit.compiler.small_models import build, node, weight

RNG = np.random.default_rng(0)


def _reads(name: str, *inputs: str) -> NetworkNode:
    kind = name.rpartition("/")[2].partition("_")[0]
    return NetworkNode(kind, name, ("h", *inputs), (f"{name}:0",), {})


CASES: dict[str, tuple[list[NetworkNode], dict[str, str]]] = {
    "linear layer": (
        [_reads("/body/head/proj/MatMul", "onnx::MatMul_12")],
        {"onnx::MatMul_12": "body.head.proj.weight"},
    ),
    "convolution with its normalisation": (
        [_reads("/features/features.0/Conv", "onnx::Conv_7", "onnx::Conv_8")],
        {
            "onnx::Conv_7": "features.features.0.weight",
            "onnx::Conv_8": "features.features.0.bias",
        },
    ),
    "recurrent layers": (
        [
            _reads("/rnn/LSTM", "onnx::LSTM_1", "onnx::LSTM_2", "onnx::LSTM_3"),
            _reads("/rnn/LSTM_1", "onnx::LSTM_4", "onnx::LSTM_5", "onnx::LSTM_6"),
        ],
        {
            "onnx::LSTM_1": "rnn.weight_ih_l0",
            "onnx::LSTM_2": "rnn.weight_hh_l0",
            "onnx::LSTM_3": "rnn.bias_l0",
            "onnx::LSTM_4": "rnn.weight_ih_l1",
            "onnx::LSTM_5": "rnn.weight_hh_l1",
            "onnx::LSTM_6": "rnn.bias_l1",
        },
    ),
    "two products of one module": (
        [
            _reads("/attention/MatMul", "onnx::MatMul_1"),
            _reads("/attention/MatMul_1", "onnx::MatMul_2"),
        ],
        {},
    ),
    "product outside of modules": ([_reads("/MatMul", "onnx::MatMul_1")], {}),
    "name of its own": ([_reads("/head/MatMul", "head.matrix")], {}),
    "name that is taken": ([_reads("/taken/MatMul", "onnx::MatMul_1")], {}),
    "number of an addition": ([_reads("/head/Add", "onnx::Add_1")], {}),
}


@pytest.mark.parametrize("case", CASES)
def test_number_has_the_name_that_one_weight_alone_can_have(case: str) -> None:
    nodes, expected = CASES[case]
    weights = {name for each in nodes for name in each.inputs}

    assert module_names(nodes, weights, {*weights, "taken.weight"}) == expected


def _exported(producer: str) -> onnx.ModelProto:
    weights: Mapping[str, NDArray[np.generic]] = {
        "onnx::MatMul_12": weight(RNG, 4, 6),
        "body.bias": weight(RNG, 6),
        "onnx::MatMul_13": weight(RNG, 6, 3),
        "head.bias": weight(RNG, 3),
    }
    nodes = [
        node("MatMul", ["x", "onnx::MatMul_12"], ["a"], "/body/MatMul"),
        node("Add", ["body.bias", "a"], ["b"], "/body/Add"),
        node("Relu", ["b"], ["c"], "/Relu"),
        node("MatMul", ["c", "onnx::MatMul_13"], ["d"], "/head/MatMul"),
        node("Add", ["head.bias", "d"], ["out"], "/head/Add"),
    ]
    proto = build(nodes, weights, (4,), (3,))
    proto.producer_name = producer
    return proto


def test_pattern_chooses_a_numbered_weight_by_its_module() -> None:
    bundle = compile_model(_exported("pytorch"), loss="mse", train=["head.*"])

    trained = [p.name for p in bundle.manifest.parameters if p.trainable]
    assert trained == ["onnx::MatMul_13", "head.bias"]
    assert bundle.network.aliases["onnx::MatMul_12"] == "body.weight"


def test_file_of_another_toolkit_has_no_modules() -> None:
    with pytest.raises(ConfigError, match="matches none of the weights"):
        compile_model(_exported("another"), loss="mse", train=["head.weight"])


NAMES = (
    "body.fc.weight",
    "body.attn.in_proj_bias",
    "body.attn.out_proj.weight",
    "rnn.bias_ih_l0_reverse",
    "fc.parametrizations.weight.original0",
    "body.basis",
    "centre",
)
OWNERS: dict[str, tuple[list[NetworkNode], list[str]]] = {
    "layers of PyTorch": ([_reads("/MatMul", name) for name in NAMES[:5]], []),
    "tensors of a module and of the model": (
        [_reads("/body/MatMul", "body.basis"), _reads("/Sub", "centre")],
        ["body.basis", "centre"],
    ),
    "recurrent layer that has no module": ([_reads("GRU_265", "onnx::GRU_1")], []),
    "linear layer that was turned round": (
        [_reads("/body/fc/MatMul", "onnx::MatMul_1")],
        [],
    ),
    "attention, which holds a layer": (
        [_reads("/body/attn/MatMul", "onnx::MatMul_1")],
        [],
    ),
    "product of a module that holds layers": (
        [_reads("/body/MatMul", "onnx::MatMul_1")],
        ["onnx::MatMul_1"],
    ),
    "product of the model itself": (
        [_reads("/MatMul", "onnx::MatMul_1")],
        ["onnx::MatMul_1"],
    ),
}


@pytest.mark.parametrize("case", OWNERS)
def test_tensor_of_no_layer_may_be_a_buffer(case: str) -> None:
    nodes, expected = OWNERS[case]
    weights = [name for each in nodes for name in each.inputs[1:]]

    assert undeclared(nodes, weights, {*NAMES, *weights}) == expected


@pytest.mark.parametrize("producer", ["pytorch", "another"])
def test_tensor_of_no_layer_is_told_where_pytorch_wrote_the_file(producer: str) -> None:
    tensors = {"net.hidden": weight(RNG, 4, 6), "net.fc.weight": weight(RNG, 3, 6)}
    nodes = [
        node("MatMul", ["x", "net.hidden"], ["h"], "/net/MatMul"),
        node("Tanh", ["h"], ["t"], "/net/Tanh"),
        node("Gemm", ["t", "net.fc.weight"], ["out"], "/net/fc/Gemm", transB=1),
    ]
    proto = build(nodes, tensors, (4,), (3,))
    proto.producer_name = producer

    notes = compile_model(proto, loss="mse").notes

    told = [line for line in notes if line.startswith("net.hidden: tensors of")]
    assert len(told) == (producer == "pytorch")
