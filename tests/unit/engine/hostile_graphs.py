"""Random graphs that pass the check, run on hostile records: `python -m` this module.

For each graph it prints its number before it runs it, so that whoever started it knows
which one ended it.
"""

import random
import resource
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.engine.graph_check import check_graph
from starling.engine.onnx_graph import (
    Attribute,
    ConstantTensor,
    ElementType,
    Graph,
    GraphNode,
    GraphPort,
)
from starling.engine.operator_allowlist import OPERATORS
from starling.engine.runtime.onnxruntime_session import flush_tiny_numbers, open_session
from starling.protocol.errors import FederationError

MEMORY_BYTES_MAX = 1 << 30
NODES_MAX = 10
REALS = (0.0, -0.0, 1.0, -1.5, 3e38, -3e38, 1e-42, np.inf, -np.inf, np.nan)
WHOLES = (0, 1, -1, 2, 3, 4, 5, -4, -5, 7, 100, 2**31, -(2**31), 2**63 - 1, -(2**63))
SIZES = (0, 1, 2, 3, 4, -1, 8, 64, 2**31, 2**40)
EQUATIONS = (
    "ij,jk->ik",
    "i,i->",
    "ij->ji",
    "i,j->ij",
    "abcd->dcba",
    "ii->i",
    "->",
    "a",
)
TEXTS = {
    "auto_pad": ("SAME_UPPER", "VALID", "NOTSET"),
    "mode": ("CRD", "DCR", "constant", "edge", "reflect"),
    "reduction": ("add", "none", "mul"),
    "equation": EQUATIONS,
}
INDEX_INPUTS = {"Gather": 1, "GatherElements": 1, "OneHot": 0, "ScatterElements": 1}
"""Which input holds places that ONNX Runtime looks up: out of bounds it raises."""


class Maker:
    """One random graph in the making."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.kinds = {
            "theta": ElementType.FLOAT32,
            "x": ElementType.FLOAT32,
            "y": ElementType.INT64,
        }
        self.tensors: list[ConstantTensor] = []
        self.nodes: list[GraphNode] = []

    def graph(self) -> Graph:
        for _ in range(self.rng.randint(1, NODES_MAX)):
            self.nodes.append(self._node(self.rng.choice(tuple(OPERATORS))))
        last = self.nodes[-1]
        kind = self.kinds[last.outputs[0]]
        return Graph(
            "hostile",
            8,
            18,
            tuple(self.nodes),
            tuple(self.tensors),
            (
                GraphPort("theta", ElementType.FLOAT32, (4,)),
                GraphPort("x", ElementType.FLOAT32, ("n", 2, 4, 4)),
                GraphPort("y", ElementType.INT64, ("n",)),
            ),
            (GraphPort(last.outputs[0], kind, None),),
        )

    def _node(self, operator: str) -> GraphNode:
        rng, law = self.rng, OPERATORS[operator]
        count = rng.randint(law.inputs_min, min(law.inputs_max, law.inputs_min + 2))
        inputs = [self._input(operator, at) for at in range(count)]
        outputs = []
        for _ in range(min(law.outputs_max, rng.randint(1, 3))):
            outputs.append(f"v{len(self.kinds)}")
            self.kinds[outputs[-1]] = self._result(operator, inputs, len(outputs) - 1)
        attributes: dict[str, Attribute] = {
            name: self._attribute(operator, name, kind)
            for name, kind in law.attributes.items()
            if rng.random() < 0.5 or name in ("to", "axis", "equation", "kernel_shape")
        }
        return GraphNode(
            operator, outputs[0], tuple(inputs), tuple(outputs), attributes
        )

    def _input(self, operator: str, position: int) -> str:
        if position in OPERATORS[operator].sizes:
            return self._sizes()
        wanted = [ElementType.FLOAT32]
        if INDEX_INPUTS.get(operator) == position:
            wanted = [ElementType.INT64]
        elif operator in ("Where", "And", "Or", "Not") and position == 0:
            wanted = [ElementType.BOOL]
        elif operator == "Mod" or self.rng.random() < 0.1:
            wanted = list(ElementType)
        known = [name for name, kind in self.kinds.items() if kind in wanted]
        if known and self.rng.random() < 0.8:
            return self.rng.choice(known)
        return self._constant(self.rng.choice(wanted))

    def _sizes(self) -> str:
        shapes = [node.outputs[0] for node in self.nodes if node.operator == "Shape"]
        if shapes and self.rng.random() < 0.3:
            return self.rng.choice(shapes)
        count = self.rng.randint(0, 5)
        return self._added([self.rng.choice(SIZES) for _ in range(count)], (count,))

    def _constant(self, kind: ElementType) -> str:
        shape = tuple(self.rng.randint(1, 4) for _ in range(self.rng.randint(0, 4)))
        count = int(np.prod(shape, dtype=int))
        pool = {
            ElementType.FLOAT32: REALS,
            ElementType.BOOL: (0, 1),
            ElementType.INT32: WHOLES[:11],
        }
        entries = [self.rng.choice(pool.get(kind, WHOLES)) for _ in range(count)]
        return self._added(entries, shape, kind)

    def _added(
        self,
        entries: list[Any],
        shape: tuple[int, ...],
        kind: ElementType = ElementType.INT64,
    ) -> str:
        letter = {
            ElementType.FLOAT32: "<f4",
            ElementType.INT32: "<i4",
            ElementType.INT64: "<i8",
        }
        raw = np.array(entries, letter.get(kind, "u1")).tobytes()
        name = f"c{len(self.tensors)}"
        self.tensors.append(ConstantTensor(name, kind, shape, raw))
        return name

    def _attribute(self, operator: str, name: str, kind: str) -> Attribute:
        rng = self.rng
        match kind:
            case "f":
                return rng.choice([0.0, 1.0, -1.0, 1e-30, 1e30])
            case "s":
                return rng.choice(TEXTS[name])
            case "i" if operator == "Cast":
                return int(rng.choice(tuple(ElementType)))
            case "i":
                return rng.choice([0, 1] if rng.random() < 0.9 else [-1, 2, -2, 5, 99])
            case _:
                count = rng.choice([2, 2, 4, 4, rng.randint(0, 5)])
                pool = [0, 1, 1, 2, 3] if rng.random() < 0.9 else [0, 7, 1 << 16]
                return tuple(rng.choice(pool) for _ in range(count))

    def _result(self, operator: str, inputs: list[str], index: int) -> ElementType:
        if operator in ("Shape",) or index == 1:
            return ElementType.INT64
        if operator in ("Equal", "Greater", "Less", "And", "Or", "Not", "IsNaN"):
            return ElementType.BOOL
        return self.kinds.get(inputs[0], ElementType.FLOAT32)


def feeds(rng: random.Random) -> dict[str, NDArray[Any]]:
    count = rng.choice([0, 1, 1, 3])
    x = [rng.choice(REALS) for _ in range(count * 32)]
    y = [rng.choice(WHOLES) for _ in range(count)]
    return {
        "theta": np.array([rng.choice(REALS) for _ in range(4)], np.float32),
        "x": np.array(x, np.float32).reshape(count, 2, 4, 4),
        "y": np.array(y, np.int64),
    }


def attempt(seed: int) -> str:
    """What becomes of one graph: refused, failed or ran."""
    rng = random.Random(seed)
    graph = Maker(rng).graph()
    try:
        check_graph(graph)
    except FederationError:
        return "refused"
    try:
        session = open_session(graph)
    except FederationError:
        return "not loaded"
    try:
        for _ in range(2):
            session.run(feeds(rng))
    except (FederationError, MemoryError):
        return "failed"
    return "ran"


def main() -> int:
    """Tries the graphs of a range of seeds."""
    first, last = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    flush_tiny_numbers()
    for seed in range(first, last):
        sys.stdout.write(f"{seed} ")
        sys.stdout.flush()
        sys.stdout.write(f"{attempt(seed)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
