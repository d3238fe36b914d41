"""Predicts how much memory a graph needs at a batch size, before any board runs it.

Every value takes its bytes from the node that makes it to the last one that reads it;
nodes that only rename a value (Reshape, ...) share its bytes. The runtime works in the
order of the file, so the largest sum on the way is the peak. What a process holds
beside that was measured (`python -m benchmarks.training_memory`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import helper
from onnx.shape_inference import infer_shapes

_SHARING = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
PROCESS_BYTES = 66 << 20
"""What Python, NumPy, ONNX Runtime, the agent's modules and a session hold, x86-64."""
NODE_BYTES = 4 << 10
"""What the runtime keeps of a node."""
ARENA = 2.3
"""How much the runtime's allocator takes for what it hands out: it grows by doubling,
and kernels take working memory of their own."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of one graph at one batch size, in bytes.

    Attributes:
      constants: Held from loading on.
      peak: The most that inputs, outputs and values between hold at one time.
      nodes: How many of them.
    """

    constants: int
    peak: int
    nodes: int

    @property
    def process(self) -> int:
        """Of a process that runs this graph and nothing else."""
        held = self.constants + NODE_BYTES * self.nodes
        return PROCESS_BYTES + held + int(ARENA * self.peak)


def need(graph: bytes, batch: int) -> MemoryEstimate:
    """Predicts the memory of a compiled graph.

    Args:
      graph: As the compiler wrote it.
      batch: Examples in one run, at least 1.
    """
    model = onnx.ModelProto()
    model.ParseFromString(graph)
    for info in (*model.graph.input, *model.graph.output):
        for size in info.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_value = batch
    model = infer_shapes(model, data_prop=True)
    held = {item.name: _initializer(item) for item in model.graph.initializer}
    sizes = _sizes(model.graph)
    owner = _owners(model.graph)
    last = {
        owner.get(name, name): index
        for index, node in enumerate(model.graph.node)
        for name in node.input
    }
    kept = {owner.get(item.name, item.name) for item in model.graph.output}
    now = sum([sizes.get(item.name, 0) for item in model.graph.input])
    peak = now
    for index, node in enumerate(model.graph.node):
        made = [name for name in node.output if name and owner.get(name, name) == name]
        now += sum([sizes.get(name, 0) for name in made])
        peak = max(peak, now)
        read = {owner.get(name, name) for name in (*node.input, *node.output) if name}
        for name in read - kept - held.keys():
            if last.get(name, index) == index:
                now -= sizes.get(name, 0)
                last[name] = -1
    return MemoryEstimate(sum(held.values()), peak, len(model.graph.node))


def _owners(graph: onnx.GraphProto) -> Mapping[str, str]:
    """Original value of each renamed value, whose bytes it shares."""
    owner: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in _SHARING:
            source = node.input[0]
            owner[node.output[0]] = owner.get(source, source)
    return owner


def _sizes(graph: onnx.GraphProto) -> Mapping[str, int]:
    sizes = {}
    for info in (*graph.input, *graph.value_info, *graph.output):
        kind = info.type.tensor_type
        if all(size.HasField("dim_value") for size in kind.shape.dim):
            values = math.prod([size.dim_value for size in kind.shape.dim])
            width = helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
            sizes[info.name] = values * width
    return sizes


def _initializer(tensor: onnx.TensorProto) -> int:
    width: int = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(math.prod(tensor.dims)) * width
