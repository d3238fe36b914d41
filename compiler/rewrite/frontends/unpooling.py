"""MaxUnpool again, where PyTorch's newer exporter writes it out.

It takes from the places of a MaxPool those of each channel's first value, adds numbers
counted through the batch instead, and scatters into a flat row of zeros. What comes out
is what MaxUnpool makes of the places that MaxPool gives, example by example.

Source: torch.onnx 2.9 to 2.14 (`aten.max_pool2d_with_indices`, `aten.max_unpool2d`).
"""

import math
from typing import Any

import onnx
from onnx import TensorProto, helper

from starling.compiler.rewrite.frontends.node_writer import contents, typed

_TAKEN_OVER = ("kernel_shape", "pads", "strides")


def unpooled(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with MaxUnpool in the place of what was written out.

    Args:
      proto: Of checked form, which is not changed.
    """
    kinds = {node.op_type for node in proto.graph.node}
    if not kinds.issuperset({"MaxPool", "Range", "ScatterND"}):
        return proto
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    values = _Values(proto)
    del found.graph.node[:]
    for node in proto.graph.node:
        made = values.unpooling(node)
        if made is not None:
            found.graph.node.append(made)
        found.graph.node.append(node)
        if made is not None:
            found.graph.node[-1].input[0] = made.output[0]
    return found


class _Values:
    """Values of a model, and what made them."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._made = {name: node for node in proto.graph.node for name in node.output}
        kinds = (TensorProto.INT32, TensorProto.INT64)
        self._whole = {
            item.name: [int(value) for value in contents(item).reshape(-1)]
            for item in proto.graph.initializer
            if item.data_type in kinds
        }
        graph = typed(proto).graph
        self._shapes = {
            info.name: [size.dim_value for size in info.type.tensor_type.shape.dim]
            for info in (*graph.input, *graph.value_info)
        }

    def unpooling(self, image: onnx.NodeProto) -> onnx.NodeProto | None:
        """The MaxUnpool before a Reshape; None if none is written there.

        It makes images, or rows where the exporter joined it with a later one.
        """
        scatter = self._from(image.input[0], "ScatterND") if image.input else None
        if image.op_type != "Reshape" or scatter is None:
            return None
        zeros, places, given = [self._unfolded(name) for name in scatter.input]
        blank = self._from(zeros, "ConstantOfShape")
        counted = self._from(places, "Add")
        if blank is None or counted is None or _filled(blank):
            return None
        # An Add has no order, and exporters write either.
        for one, other in (counted.input, counted.input[::-1]):
            pool = self._pool(self._unfolded(one))
            shape = self._shapes.get(pool.input[0], []) if pool is not None else []
            if len(shape) < 3 or pool is None:
                continue
            if self._counts(other, shape[1], math.prod(shape[2:])):
                return self._unpool(image, pool, given)
        return None

    def _unpool(
        self, image: onnx.NodeProto, pool: onnx.NodeProto, given: str
    ) -> onnx.NodeProto | None:
        """MaxUnpool to as many values as a pooling took."""
        settings = {a.name: helper.get_attribute_value(a) for a in pool.attribute}
        before, after = [
            self._shapes.get(name, [])[2:] for name in (pool.input[0], given)
        ]
        kernel = settings["kernel_shape"]
        strides = settings.get("strides", [1] * len(kernel))
        pads = settings.get("pads", [0] * 2 * len(kernel))
        rim = [sum(pads[axis :: len(kernel)]) for axis in range(len(kernel))]
        found = [
            (length - 1) * step + width - pad
            for length, step, width, pad in zip(
                after, strides, kernel, rim, strict=False
            )
        ]
        # MaxUnpool would give another size than was pooled from, as where a rest was
        # cut off.
        if found != before:
            return None
        kept = {name: settings[name] for name in _TAKEN_OVER if name in settings}
        name = f"{image.output[0]}/unpooled"
        return helper.make_node(
            "MaxUnpool", [given, pool.output[1]], [name], name, **kept
        )

    def _from(self, name: str, kind: str) -> onnx.NodeProto | None:
        """The node that makes a value, if it is of a kind."""
        node = self._made.get(name)
        return node if node is not None and node.op_type == kind else None

    def _unfolded(self, name: str) -> str:
        """A value before it was laid out flat."""
        node = self._made.get(name)
        while node is not None and node.op_type in ("Reshape", "Unsqueeze"):
            name = node.input[0]
            node = self._made.get(name)
        return name

    def _pool(self, places: str) -> onnx.NodeProto | None:
        """The MaxPool that places come from, less those of first values."""
        less = self._from(places, "Sub")
        part = less and self._from(less.input[1], "Slice")
        pool = less and self._from(less.input[0], "MaxPool")
        all_places = part and self._from(part.input[0], "MaxPool")
        if not less or not pool or not all_places:
            return None
        alone: dict[str, Any] = {
            a.name: helper.get_attribute_value(a) for a in all_places.attribute
        }
        plain = {*alone.get("kernel_shape", ()), *alone.get("strides", (1,))} == {1}
        if part:
            begin, end = [self._whole.get(part.input[at], [-1]) for at in (1, 2)]
            plain = plain and {*begin} == {0} and {*end} == {1}
        same = all_places.input[0] == pool.input[0]
        outputs = (less.input[0], part.input[0]) if part else ()
        seconds = (pool.output[1:], all_places.output[1:])
        indexed = [name in names for name, names in zip(outputs, seconds, strict=True)]
        return pool if plain and same and all(indexed) else None

    def _counts(self, name: str, channels: int, size: int) -> bool:
        """True of 0, size, 2 size and so on, one for each channel of the batch."""
        product = self._from(name, "Mul")
        if product is None or self._whole.get(product.input[1]) != [size]:
            return False
        shaped = self._from(product.input[0], "Reshape")
        counted = shaped and self._from(shaped.input[0], "Range")
        if not shaped or not counted:
            return False
        target = self._whole.get(shaped.input[1], [])
        start, step = [self._whole.get(counted.input[at]) for at in (0, 2)]
        return (
            target[:2] == [-1, channels]
            and {*target[2:]} <= {1}
            and (start, step) == ([0], [1])
        )


def _filled(node: onnx.NodeProto) -> bool:
    """True if a constant of a shape is not zero."""
    return any(contents(item.t).any() for item in node.attribute)
