"""Straight-through estimators: steps whose slope is taken as 1.

PyTorch's `x + (step(x) - x).detach()` is written without the `detach`, so that the
slope of the sum would be 0. A difference whose first part follows from the second
through steps alone is held: it counts as a constant. Graphs name what is held, so that
a comparison with finite differences can keep it fixed, too.

Source: Bengio, Léonard and Courville, arXiv:1308.3432 section 4.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from starling.compiler.autodiff.rules import steps
from starling.compiler.ir.graph_builder import HELD_STEM
from starling.compiler.ir.network import Network, NetworkNode
from starling.compiler.rewrite.operator_fusion import HELD

_WRAPPERS = frozenset({"Cast", "Dropout", "Identity"})
_COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_LOUD = frozenset({"ArgMax", "ArgMin", "Cast", "Ceil", "Floor", "Hardmax", "Round"})
_LOUD |= {"Sign"}


def held(network: Network) -> Network:
    """The network whose straight-through differences are held.

    They are `x + (r - x)` and `x - (x - r)`, where r follows from x through steps.
    """
    made = {name: node for node in network.nodes for name in node.outputs}
    readers = Counter([name for node in network.nodes for name in node.inputs])
    readers[network.output] += 1
    nodes = {node.outputs[0]: node for node in network.nodes}
    shapes, copies = dict(network.shapes), {}
    for node in network.nodes:
        name = _difference(node, made)
        if name is None:
            continue
        difference = made[name]
        if readers[name] == 1:
            nodes[name] = replace(difference, kind=HELD)
            continue
        copy = f"{node.outputs[0]}/held"
        shapes[copy] = shapes[name]
        copies[name, copy] = replace(difference, kind=HELD, outputs=(copy,))
        read = tuple([copy if item == name else item for item in node.inputs])
        nodes[node.outputs[0]] = replace(node, inputs=read)
    ordered: list[NetworkNode] = []
    for node in nodes.values():
        ordered.append(node)
        ordered += [copy for (name, _), copy in copies.items() if name in node.outputs]
    return replace(network, nodes=tuple(ordered), shapes=shapes)


def silent_steps(network: Network) -> tuple[str, ...]:
    """Steps that trained values pass, so that their gradient ends there.

    Comparisons that only choose between values are none; one that becomes a number is.

    Returns:
      How messages name the nodes.
    """
    found, active = [], set(network.parameters)
    compared: set[str] = set()
    for node in held(network).nodes:
        reached = active.intersection(node.inputs)
        if reached and not (node.kind == HELD or steps(node)):
            active.update(node.outputs)
        if node.kind in _COMPARISONS and reached:
            compared.update(node.outputs)
        whole = node.kind == "Cast" and node.attributes["to"] != TensorProto.BOOL
        number = node.kind == "Cast" and compared.intersection(node.inputs)
        loud = node.kind in _LOUD and (node.kind != "Cast" or whole)
        if (loud and reached and steps(node)) or number:
            found.append((node.outputs[0], node.label))
    quiet = _through_held(network)
    return tuple([label for name, label in found if name not in quiet])


def unheld(graph: bytes) -> bytes:
    """A graph of the compiler's without what is held: as if no step were taken.

    Slopes are the same functions of what flows through the graph, so that they may be
    compared with finite differences here and nowhere else: where values are rounded,
    equal ones meet in each maximum.
    """
    model = onnx.ModelProto()
    model.ParseFromString(graph)
    nodes = model.graph.node
    names = [n.output[0] for n in nodes if n.output[0].startswith(HELD_STEM)]
    if not names:
        return graph
    kept = [node for node in nodes if node.output[0] not in names]
    del nodes[:]
    nodes.extend(kept)
    zero = np.array(0, np.float32)
    model.graph.initializer.extend(
        [numpy_helper.from_array(zero, name) for name in names]
    )
    data: bytes = model.SerializeToString()
    return data


def _difference(node: NetworkNode, made: Mapping[str, NetworkNode]) -> str | None:
    """Name of the input that is a straight-through difference; None without one."""
    if node.kind == "Add":
        pairs = [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])]
    elif node.kind == "Sub":
        pairs = [(node.inputs[0], node.inputs[1])]
    else:
        return None
    for x, other in pairs:
        difference = made.get(other)
        if difference is None or difference.kind != "Sub":
            continue
        first, second = difference.inputs
        step, same = (first, second) if node.kind == "Add" else (second, first)
        root = _root(x, made)
        if _root(same, made) == root and _steps_from(root, step, made):
            return other
    return None


def _root(name: str, made: Mapping[str, NetworkNode]) -> str:
    while name in made and made[name].kind in _WRAPPERS and not steps(made[name]):
        name = made[name].inputs[0]
    return name


def _steps_from(x: str, end: str, made: Mapping[str, NetworkNode]) -> bool:
    """True if a value follows from x, and through steps alone."""
    smooth = _ancestors(end, made, through_steps=False)
    return x not in smooth and x in _ancestors(end, made, through_steps=True)


def _ancestors(
    end: str, made: Mapping[str, NetworkNode], *, through_steps: bool
) -> set[str]:
    found, waiting = set[str](), [end]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        node = made.get(name)
        if node is not None and (through_steps or not steps(node)):
            waiting.extend([item for item in node.inputs if item])
    return found


def _through_held(network: Network) -> set[str]:
    """Values that lead to held differences; steps among them are not silent."""
    made = {name: node for node in network.nodes for name in node.outputs}
    found: set[str] = set()
    for node in network.nodes:
        name = _difference(node, made)
        if name is not None:
            for item in made[name].inputs:
                found |= _ancestors(item, made, through_steps=True)
    return found
