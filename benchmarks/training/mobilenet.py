"""MobileNetV2 at 224x224 for ten classes, as ONNX: the largest that boards train.

Normalisations are computed into the convolutions, as exporters do.

Source: Sandler et al., arXiv:1801.04381, table 2.
"""

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_BLOCKS = (
    # Expansion, channels, repeats, stride of the first.
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
CLASSES = 10
ROW = (3, 224, 224)


class _Writer:
    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.nodes: list[onnx.NodeProto] = []
        bounds = {"zero": 0.0, "six": 6.0}
        self.tensors = [
            numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in bounds.items()
        ]

    def conv(
        self, x: str, width: int, channels: int, side: int, stride: int, groups: int = 1
    ) -> str:
        name = f"conv{len(self.nodes)}"
        self.weight(f"{name}.weight", (channels, width // groups, side, side))
        self.weight(f"{name}.bias", (channels,))
        inputs = [x, f"{name}.weight", f"{name}.bias"]
        self.nodes.append(
            helper.make_node(
                "Conv",
                inputs,
                [name],
                name=name,
                strides=[stride] * 2,
                pads=[side // 2] * 4,
                group=groups,
            )
        )
        return name

    def capped(self, x: str) -> str:
        self.nodes.append(helper.make_node("Clip", [x, "zero", "six"], [f"{x}.capped"]))
        return f"{x}.capped"

    def weight(self, name: str, shape: tuple[int, ...]) -> None:
        spread = math.sqrt(2.0 / math.prod(shape[1:] or (100,)))
        values = self._rng.normal(scale=spread, size=shape).astype(np.float32)
        self.tensors.append(numpy_helper.from_array(values, name))

    def block(
        self, x: str, width: int, channels: int, expansion: int, stride: int
    ) -> str:
        wide, inner = x, width * expansion
        if expansion > 1:
            wide = self.capped(self.conv(x, width, inner, 1, 1))
        wide = self.capped(self.conv(wide, inner, inner, 3, stride, inner))
        made = self.conv(wide, inner, channels, 1, 1)
        if stride > 1 or width != channels:
            return made
        self.nodes.append(helper.make_node("Add", [x, made], [f"{made}.sum"]))
        return f"{made}.sum"


def mobilenet_v2(rng: np.random.Generator) -> onnx.ModelProto:
    """The network with normal weights; its last layer is `head`."""
    writer = _Writer(rng)
    last, width = writer.capped(writer.conv("x", 3, 32, 3, 2)), 32
    for expansion, channels, repeats, stride in _BLOCKS:
        for step in [stride, *[1] * (repeats - 1)]:
            last = writer.block(last, width, channels, expansion, step)
            width = channels
    last = writer.capped(writer.conv(last, width, 1280, 1, 1))
    writer.weight("head.weight", (CLASSES, 1280))
    writer.weight("head.bias", (CLASSES,))
    writer.nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node(
            "Gemm", ["flat", "head.weight", "head.bias"], ["out"], transB=1
        ),
    ]
    graph = helper.make_graph(
        writer.nodes,
        "mobilenet_v2",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *ROW])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", CLASSES])],
        writer.tensors,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
