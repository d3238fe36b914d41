"""Sequences and optionals of plain length become the tensors that they hold.

PyTorch's exporters write `chunk`, `split` and cells in a loop with them. What makes a
sequence and what picks from it at constant places is followed by name, and what comes
out is a tensor again, by Split, Concat or Identity. What cannot be followed stays, and
is refused by name later.

Source: the operators SequenceAt, SplitToSequence, Optional and their like of ONNX.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from starling.compiler.rewrite.frontends.node_writer import (
    Writer,
    contents,
    default_opset,
    typed,
)

LENGTH_MAX = 1024
"""Of a sequence; a model has no more than 4,096 nodes."""
_SPLIT_INPUT_SINCE = 13
_MAKERS = frozenset({"Optional", "SequenceConstruct", "SequenceEmpty"})
_MAKERS |= {"SplitToSequence"}
_DEFAULT_DOMAINS = ("", "ai.onnx")
_Settings = Mapping[str, Any]


def without_sequences(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with tensors in the place of sequences, as far as it is plain.

    Args:
      proto: Of checked form, which is not changed.
    """
    if not any(node.op_type in _MAKERS for node in proto.graph.node):
        return proto
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    followed = _Followed(found)
    nodes = followed.nodes()
    # Half a rewriting would leave readers without their sequence: all or nothing.
    if followed.loose(nodes):
        return proto
    del found.graph.node[:]
    found.graph.node.extend(nodes)
    return found


class _Followed:
    """Contents of every sequence of a model, node after node."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._graph = proto.graph
        self._opset = default_opset(proto)
        self._writer = Writer(proto.graph, {}, self._opset)
        self._held: dict[str, tuple[str, ...]] = {}
        self._full: set[str] = set()
        self._wholes = {item.name: item for item in proto.graph.initializer}
        known = typed(proto).graph
        self._shapes = {
            info.name: [size.dim_value for size in info.type.tensor_type.shape.dim]
            for info in (*known.input, *known.value_info)
        }

    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes of the model without sequences."""
        for node in list(self._graph.node):
            made = onnx.NodeProto()
            made.CopyFrom(node)
            if node.op_type == "Constant":
                for item in node.attribute:
                    self._keep_number(node.output[0], item)
            if node.domain not in _DEFAULT_DOMAINS or not self._follows(made):
                self._writer.nodes.append(made)
        return self._writer.nodes

    def loose(self, nodes: Iterable[onnx.NodeProto]) -> bool:
        """True if a sequence is read where it is not followed."""
        ends = [item.name for item in self._graph.output]
        read = {*ends, *[name for node in nodes for name in node.input]}
        return not self._held.keys().isdisjoint(read)

    def _keep_number(self, name: str, held: onnx.AttributeProto) -> None:
        if held.name == "value":
            self._wholes[name] = held.t
        elif held.name in ("value_int", "value_ints"):
            values = [held.i] if held.name == "value_int" else list(held.ints)
            shape = [] if held.name == "value_int" else [len(values)]
            self._wholes[name] = helper.make_tensor(
                name, TensorProto.INT64, shape, values
            )

    def _follows(self, node: onnx.NodeProto) -> bool:
        """True if others stand for a node now."""
        follow = _FOLLOWING.get(node.op_type)
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return follow is not None and follow(self, node, settings)

    def _numbers(self, node: onnx.NodeProto, position: int) -> list[int] | None:
        """An input of constant whole numbers, in a row."""
        tensor = self._wholes.get(node.input[position])
        kinds = (TensorProto.INT32, TensorProto.INT64)
        if tensor is None or tensor.data_type not in kinds:
            return None
        return [int(value) for value in contents(tensor).reshape(-1)]

    def _place(
        self, node: onnx.NodeProto, position: int, length: int, last: int
    ) -> int | None:
        """A place from 0 to `last`, which also stands for one that is not named.

        A negative one counts from the end of what the sequence holds before: inserted
        at -1, a tensor stands in front of the last one.
        """
        place = last
        if position < len(node.input) and node.input[position]:
            numbers = self._numbers(node, position)
            if numbers is None or len(numbers) != 1:
                return None
            place = numbers[0] + (length if numbers[0] < 0 else 0)
        return place if 0 <= place <= last else None

    def construct(self, node: onnx.NodeProto, settings: _Settings) -> bool:
        """SequenceConstruct and SequenceEmpty."""
        del settings
        self._held[node.output[0]] = tuple(node.input)
        return True

    def split(self, node: onnx.NodeProto, settings: _Settings) -> bool:
        """SplitToSequence: parts of an axis of known length."""
        sizes = self._shapes.get(node.input[0], [])
        axis = int(settings.get("axis", 0))
        # A size of 0 stands for one that inference does not know, as that of the batch.
        if not -len(sizes) <= axis < len(sizes) or sizes[axis] < 1:
            return False
        total, named = sizes[axis], len(node.input) > 1 and bool(node.input[1])
        parts: list[int] | None = [1] * total
        if named:
            parts = self._numbers(node, 1)
            tensor = self._wholes.get(node.input[1])
            # A scalar is the length of each part, the last one may be shorter; a vector
            # lists them.
            if parts and tensor is not None and not tensor.dims and parts[0] > 0:
                step = parts[0]
                starts = range(0, total, step)
                parts = [min(step, total - start) for start in starts]
        if not parts or sum(parts) != total or not 0 < len(parts) <= LENGTH_MAX:
            return False
        output = node.output[0]
        names = [f"{output}/{index}" for index in range(len(parts))]
        inputs, attributes = [node.input[0]], dict[str, Any](axis=axis)
        if self._opset < _SPLIT_INPUT_SINCE:
            attributes["split"] = parts
        else:
            inputs.append(self._writer.whole(f"{output}/sizes", parts))
        made = helper.make_node("Split", inputs, names, output, **attributes)
        self._writer.nodes.append(made)
        # `keepdims` counts only where no split is given, by the operator's definition.
        if not named and not settings.get("keepdims", 1):
            at = self._writer.whole(f"{output}/axis", [axis])
            names = [
                self._writer.node("Squeeze", [name, at], f"{name}/alone")
                for name in names
            ]
        self._held[output] = tuple(names)
        return True

    def pick(self, node: onnx.NodeProto, settings: _Settings) -> bool:
        """SequenceAt."""
        del settings
        held = self._held.get(node.input[0], ())
        place = self._place(node, 1, len(held), len(held) - 1)
        if place is None:
            return False
        self._writer.node("Identity", [held[place]], node.output[0])
        return True

    def insert(self, node: onnx.NodeProto, settings: _Settings) -> bool:
        """SequenceInsert: at the end where no place is named."""
        del settings
        held = self._held.get(node.input[0])
        place = None if held is None else self._place(node, 2, len(held), len(held))
        if held is None or place is None or len(held) >= LENGTH_MAX:
            return False
        self._held[node.output[0]] = (*held[:place], node.input[1], *held[place:])
        return True

    def erase(self, node: onnx.NodeProto, settings: _Settings) -> bool:
        """SequenceErase."""
        del settings
        held = self._held.get(node.input[0], ())
        place = self._place(node, 1, len(held), len(held) - 1)
        if place is None:
            return False
        self._held[node.output[0]] = held[:place] + held[place + 1 :]
        return True

    def measure(self, node: onnx.NodeProto, settings: _Settings) -> bool:
        """SequenceLength."""
        del settings
        held = self._held.get(node.input[0])
        if held is None:
            return False
        self._writer.whole(node.output[0], len(held))
        # Places further on may be computed from the length, and are followed from here.
        self._wholes[node.output[0]] = self._writer.nodes[-1].attribute[0].t
        return True

    def join(self, node: onnx.NodeProto, settings: _Settings) -> bool:
        """ConcatFromSequence, along an axis that is there or a new one."""
        held, output = self._held.get(node.input[0]), node.output[0]
        if not held:
            return False
        axis = int(settings["axis"])
        names = list(held)
        if settings.get("new_axis", 0):
            at = self._writer.whole(f"{output}/axis", [axis])
            names = [
                self._writer.node("Unsqueeze", [name, at], f"{output}/{index}")
                for index, name in enumerate(held)
            ]
        self._writer.node("Concat", names, output, axis=axis)
        return True

    def hand_on(self, node: onnx.NodeProto, settings: _Settings) -> bool:
        """Optional, OptionalGetElement and Identity of sequences; of tensors, too."""
        del settings
        source = node.input[0] if node.input else ""
        if source in self._held:
            self._held[node.output[0]] = self._held[source]
        elif source in self._full or (source and node.op_type == "Optional"):
            self._writer.node("Identity", [source], node.output[0])
        else:
            return False
        if node.op_type != "OptionalGetElement":
            self._full.add(node.output[0])
        return True

    def has(self, node: onnx.NodeProto, settings: _Settings) -> bool:
        """OptionalHasElement of what was filled before."""
        del settings
        if not node.input or node.input[0] not in self._full:
            return False
        self._writer.constant(node.output[0], np.array(True))
        return True


_FOLLOWING: Mapping[str, Callable[[_Followed, onnx.NodeProto, _Settings], bool]] = {
    "ConcatFromSequence": _Followed.join,
    "Identity": _Followed.hand_on,
    "Optional": _Followed.hand_on,
    "OptionalGetElement": _Followed.hand_on,
    "OptionalHasElement": _Followed.has,
    "SequenceAt": _Followed.pick,
    "SequenceConstruct": _Followed.construct,
    "SequenceEmpty": _Followed.construct,
    "SequenceErase": _Followed.erase,
    "SequenceInsert": _Followed.insert,
    "SequenceLength": _Followed.measure,
    "SplitToSequence": _Followed.split,
}
