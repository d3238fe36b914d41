from dataclasses import replace

import numpy as np
import onnx
import pytest

from starling.compiler.ir.graph_writer import Attribute
from starling.compiler.ir.network import Network
from starling.compiler.reader.model_file import load
from starling.compiler.reader.network_reader import read_network
from starling.compiler.rewrite.operator_fusion import POOLED, fuse
from tests.unit.compiler.small_models import build, cnn, node, weight


def _network(
    *kinds: str, group: int = 1, extra: bool = False, **pool: Attribute
) -> Network:
    rng = np.random.default_rng(0)
    weights = {"w": weight(rng, 4, 2 // group, 3, 3)}
    attributes: dict[str, Attribute] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [node("Conv", ["x", "w"], ["v0"], group=group)]
    for index, kind in enumerate(kinds):
        chosen = {**attributes, **pool} if kind == "MaxPool" else {}
        name = f"v{index + 1}"
        nodes.append(node(kind, [f"v{index}"], [name], "", **chosen))
    last = f"v{len(kinds)}"
    if extra:
        nodes.append(node("GlobalAveragePool", ["v0"], ["g"]))
        nodes.append(node("Add", [last, "g"], ["out"]))
    else:
        nodes.append(node("Identity", [last], ["out"]))
    model = build(nodes, weights, (2, 8, 8), (4, 3, 3))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return read_network(load(_typed(model)))


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    shape = onnx.TensorShapeProto()
    for name in ("n", "c", "h", "w"):
        shape.dim.add(dim_param=name)
    model.graph.output[0].type.tensor_type.shape.CopyFrom(shape)
    return model


def _kinds(network: Network) -> list[str]:
    return [item.kind for item in network.nodes]


def test_reference_network_fuses_both_poolings() -> None:
    fused = fuse(read_network(load(cnn())))

    assert _kinds(fused).count(POOLED) == 2
    assert not {"Conv", "MaxPool"} & set(_kinds(fused))


def test_relu_between_moves_behind_the_pooling() -> None:
    assert _kinds(fuse(_network("Relu", "MaxPool"))) == [POOLED, "Relu", "Identity"]


def test_relu_stays_before_a_pooling_whose_places_are_read() -> None:
    weights = {"w": weight(np.random.default_rng(0), 4, 2, 3, 3)}
    tile = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p", "places"], "", **tile),
        node("MaxUnpool", ["p", "places"], ["out"], "", **tile),
    ]
    network = read_network(load(build(nodes, weights, (2, 8, 8), (4, 6, 6))))

    assert fuse(network).nodes == network.nodes


UNFUSED = {
    "read twice": _network("MaxPool", extra=True),
    "grouped": _network("MaxPool", group=2),
    "overlapping": _network("MaxPool", strides=[1, 1]),
    "padded": _network("MaxPool", pads=[0, 0, 1, 1]),
    "dilated": _network("MaxPool", dilations=[2, 2]),
    "another between": _network("Tanh", "MaxPool"),
    "average": _network("GlobalAveragePool"),
}


@pytest.mark.parametrize("case", UNFUSED)
def test_nodes_that_do_not_fit_stay_as_they_are(case: str) -> None:
    network = UNFUSED[case]

    assert fuse(network).nodes == network.nodes


def test_convolution_whose_weight_is_frozen_stays_as_it_is() -> None:
    network = _network("MaxPool")
    frozen = replace(network, constants=dict(network.parameters), parameters={})

    assert fuse(frozen).nodes == network.nodes
