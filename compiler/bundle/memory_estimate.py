"""Predicts how much memory a graph needs at a batch size, before any board runs it.

Every value takes its bytes from the node that makes it to the last one that reads it;
nodes that only rename a value (Reshape, ...) share its bytes. The runtime works in the
order of the file, so the largest sum on the way is the peak. What a process holds
beside that was measured (`python -m benchmarks.training_memory`).
"""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.shape_inference import infer_shapes

_SHARING = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_CUTTING = _SHARING | {"Split"}
_THETA, _GRADIENT = "theta", "gradient"
_FEW, _MANY = 1, 64
"""Batch sizes for which shapes are inferred."""
_IN_PLACE = frozenset({"Add", "Div", "Mul", "Sub", "Sum", "Clip", "Elu", "LeakyRelu"})
_IN_PLACE |= {"Relu", "Sigmoid", "Softplus", "Tanh", "Exp", "Log", "Reciprocal", "Sqrt"}
_IN_PLACE |= {"Abs", "Ceil", "Cos", "Erf", "Floor", "Neg", "Round", "Sign", "Sin"}
"""Operators whose result the runtime writes over an operand of the same size."""
PROCESS_BYTES = 66 << 20
"""What Python, NumPy, ONNX Runtime, the agent's modules and a session hold, x86-64."""
NODE_BYTES = 4 << 10
"""What the runtime keeps of a node."""
CONSTANT_COPIES = 4
"""Of each constant: in the bundle, laid out for the processor, and while loading."""
ARENA = 1.5
"""How much the runtime's allocator takes for what it hands out: values do not fit
together without gaps, and kernels take working memory of their own."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of one graph at one batch size, in bytes.

    Attributes:
      constants: Held from loading on.
      arrays: Theta and two gradients, which are arrays of whoever runs the graph.
      peak: The most that examples, outputs and values between hold at one time.
      nodes: How many of them.
    """

    constants: int
    arrays: int
    peak: int
    nodes: int

    @property
    def process(self) -> int:
        """Of a process that runs this graph and nothing else."""
        held = CONSTANT_COPIES * self.constants + NODE_BYTES * self.nodes + self.arrays
        return PROCESS_BYTES + held + int(ARENA * self.peak)


def need(graph: bytes, batch: int) -> MemoryEstimate:
    """Predicts the memory of a compiled graph; see `needs`."""
    return needs(graph, (batch,))[batch]


def needs(graph: bytes, batches: Sequence[int]) -> dict[int, MemoryEstimate]:
    """Predicts the memory of a compiled graph at several batch sizes.

    Args:
      graph: As the compiler wrote it.
      batches: Examples in one run, each at least 1.
    """
    held = _held(graph)
    few, many = held.levels
    found = {}
    for batch in batches:
        # Each value has a fixed size and one for each example, so that two batch sizes
        # give every other one by a line.
        share = (batch - _FEW) / (_MANY - _FEW)
        peak = round(float(np.max(few + share * (many - few))))
        found[batch] = MemoryEstimate(held.constants, held.arrays, peak, held.nodes)
    return found


@dataclass(frozen=True)
class _Held:
    """Bytes that a graph holds.

    Attributes:
      constants: See `MemoryEstimate`.
      arrays: See `MemoryEstimate`.
      nodes: See `MemoryEstimate`.
      levels: (2, nodes + 1) float64: what values hold before the first node and at
        each, with few examples and with many.
    """

    constants: int
    arrays: int
    nodes: int
    levels: NDArray[np.float64]


@lru_cache(maxsize=2)
def _held(graph: bytes) -> _Held:
    """Follows the values of a graph for two batch sizes.

    Each value has so many bytes, and so many more for each example.
    """
    model = onnx.ModelProto()
    model.ParseFromString(graph)
    constants = {item.name: _initializer(item) for item in model.graph.initializer}
    elsewhere = dict.fromkeys(_elsewhere(model.graph), 0)
    sizes = [_sizes(model, batch) for batch in (_FEW, _MANY)]
    return _Held(
        sum(constants.values()),
        sizes[0].get(_THETA, 0) + 2 * sizes[0].get(_GRADIENT, 0),
        len(model.graph.node),
        _levels(
            model.graph, [{**each, **elsewhere} for each in sizes], constants.keys()
        ),
    )


def _elsewhere(graph: onnx.GraphProto) -> set[str]:
    """Parts of theta and of the gradient, which are read and written in place.

    See `agent.training.unpacked_graph`.
    """
    found = {_THETA, _GRADIENT}
    for node in graph.node:
        if node.op_type in _CUTTING and node.input[0] in found:
            found.update(node.output)
    for node in reversed(graph.node):
        joins = node.op_type in ("Concat", *_SHARING)
        if joins and node.output[0] in found:
            # What is only joined into the gradient is written where it belongs at once.
            found.update(node.input)
    return found


def _levels(
    graph: onnx.GraphProto, sizes: Sequence[Mapping[str, int]], held: Set[str]
) -> NDArray[np.float64]:
    """Bytes that values hold before the first node, and at each.

    Returns:
      A row for each of the sizes.
    """
    calls = [(n.op_type, [*n.input], [*n.output]) for n in graph.node]
    owner = _owners(graph)
    last = {
        owner.get(name, name): index
        for index, (_, inputs, _) in enumerate(calls)
        for name in inputs
    }
    # Inputs and outputs are the caller's: never let go of, nor written over.
    kept = {owner.get(item.name, item.name) for item in (*graph.input, *graph.output)}
    lasting = kept | held
    now = [sum([each.get(item.name, 0) for item in graph.input]) for each in sizes]
    levels = [[float(size)] for size in now]
    for index, (kind, inputs, outputs) in enumerate(calls):
        made = [name for name in outputs if name and owner.get(name, name) == name]
        read = {owner.get(name, name) for name in (*inputs, *outputs) if name}
        ended = [n for n in read - lasting if last.get(n, index) == index]
        last |= dict.fromkeys(ended, -1)
        # The result takes the place of an operand that nobody else reads.
        free = kind in _IN_PLACE and kept.isdisjoint(made)
        for row, each in enumerate(sizes):
            fresh = sum([each.get(name, 0) for name in made])
            gone = [each.get(name, 0) for name in ended]
            # Of equal size is enough: the runtime reuses a buffer, whatever its shape.
            taken = free and fresh in gone
            levels[row].append(float(now[row] + fresh * (not taken)))
            now[row] += fresh - sum(gone)
    return np.array(levels)


def _owners(graph: onnx.GraphProto) -> Mapping[str, str]:
    """Original value of each renamed value, whose bytes it shares."""
    owner: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in _SHARING:
            source = node.input[0]
            owner[node.output[0]] = owner.get(source, source)
    return owner


def _sizes(model: onnx.ModelProto, batch: int) -> Mapping[str, int]:
    """Bytes of each value whose shape can be inferred."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for info in (*fixed.graph.input, *fixed.graph.output):
        for size in info.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_value = batch
    graph = infer_shapes(fixed, data_prop=True).graph
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
