"""What PyTorch's newer exporter writes for MaxUnpool2d is MaxUnpool again."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from starling.compiler import compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.ir.graph_writer import Attribute
from starling.compiler.rewrite.frontends.unpooling import unpooled
from starling.protocol.model.training_bundle import INFER
from tests.unit.compiler.small_models import build, node, weight

_WHOLE: Mapping[str, list[int]] = {
    "starts": [0, 0],
    "ends": [1, 1],
    "axes": [2, 3],
    "flat": [-1],
    "counted": [-1, 3, 1, 1],
    "area": [24],
    "channels": [3],
    "image": [3, 4, 6],
    "target": [-1, 3, 4, 6],
}


def _written_out(**changes: list[int]) -> onnx.ModelProto:
    """Conv, ReLU, pooling, unpooling, Conv, as the exporter writes them."""
    rng = np.random.default_rng(0)
    tensors: dict[str, NDArray[np.generic]] = {
        "w": weight(rng, 3, 2, 1, 1),
        "v": weight(rng, 2, 3, 1, 1),
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
    }
    for name, values in _WHOLE.items():
        found = np.array(changes.get(name, values), np.int64)
        tensors[name] = found[0] if name in ("area", "channels") else found
    tile: dict[str, Attribute] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        node("Shape", ["x"], ["batch"], end=1, start=0),
        node("Squeeze", ["batch"], ["n"]),
        node("Conv", ["x", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p", "i"], "", **tile),
        node("MaxPool", ["r"], ["q", "all"], kernel_shape=[1, 1], strides=[1, 1]),
        node("Slice", ["all", "starts", "ends", "axes"], ["first"]),
        node("Sub", ["i", "first"], ["inside"]),
        node("Tanh", ["p"], ["t"]),
        node("Mul", ["n", "channels"], ["rows"]),
        node("Range", ["zero", "rows", "one"], ["k"]),
        node("Reshape", ["k", "counted"], ["kk"]),
        node("Mul", ["kk", "area"], ["far"]),
        node("Add", ["inside", "far"], ["at"]),
        node("Reshape", ["at", "flat"], ["row"]),
        node("Concat", ["batch", "image"], ["size"], axis=0),
        node("ConstantOfShape", ["size"], ["blank"]),
        node("Reshape", ["blank", "flat"], ["blanks"]),
        node("Reshape", ["t", "flat"], ["given"]),
        node("Unsqueeze", ["row", "flat"], ["rows of one"]),
        node("ScatterND", ["blanks", "rows of one", "given"], ["spread"]),
        node("Reshape", ["spread", "target"], ["u"]),
        node("Conv", ["u", "v"], ["out"]),
    ]
    return build(nodes, tensors, (2, 4, 6), (2, 4, 6), opset=18)


def test_written_out_unpooling_gives_what_the_runtime_gives() -> None:
    model = _written_out()
    x = np.random.default_rng(1).standard_normal((3, 2, 4, 6)).astype(np.float32)
    runtime = onnxruntime.InferenceSession(model.SerializeToString())

    bundle = compile_model(model, loss="mse")

    session = onnxruntime.InferenceSession(bundle.standalone(INFER))
    found = session.run(None, {"theta": bundle.theta, "x": x})
    np.testing.assert_allclose(found[0], runtime.run(None, {"x": x})[0], rtol=1e-5)
    assert bundle.manifest.dimension == 12
    assert any(n.kind == "MaxUnpool" for n in bundle.network.nodes)
    assert check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


def test_unpooling_whose_images_are_laid_flat_at_once_is_one() -> None:
    """The exporter joins the Reshape to images with the one to rows behind it."""
    model = _written_out(target=[-1, 72])
    head = numpy_helper.from_array(weight(np.random.default_rng(2), 5, 72), "head")
    model.graph.initializer.append(head)
    model.graph.node[-1].CopyFrom(node("Gemm", ["u", "head"], ["out"], transB=1))
    del model.graph.output[0].type.tensor_type.shape.dim[2:]
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5

    bundle = compile_model(model, loss="mse")

    assert any(n.kind == "MaxUnpool" for n in bundle.network.nodes)
    assert check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {"area": [23]},
        {"ends": [2, 2]},
        {"starts": [1, 0]},
        {"counted": [-1, 1, 3, 1]},
    ],
    ids=str,
)
def test_what_is_no_unpooling_stays(changes: dict[str, list[int]]) -> None:
    model = _written_out(**changes)

    assert unpooled(model) == model
