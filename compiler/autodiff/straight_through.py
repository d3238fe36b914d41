"""Straight-through estimators: steps whose slope is taken as 1.

PyTorch's `x + (step(x) - x).detach()` is written without the `detach`, so that the
slope of the sum would be 0. Where a value is added and taken off again, and what stays
follows from it through a step, the difference is held: it counts as a constant. Graphs
name what is held, so that a comparison with finite differences can keep it fixed, too.

Source: Bengio, Léonard and Courville, arXiv:1308.3432 section 4.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from starling.compiler.autodiff.rules.rule_table import steps
from starling.compiler.ir.graph_builder import HELD_STEM
from starling.compiler.ir.network import Network, NetworkNode
from starling.compiler.rewrite.operator_fusion import HELD

_WRAPPERS = frozenset({"Cast", "Dropout", "Identity"})
_COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_LOUD = frozenset({"ArgMax", "ArgMin", "Cast", "Ceil", "Floor", "Hardmax", "Round"})
_LOUD |= {"Sign"}


def held(network: Network) -> Network:
    """The network whose straight-through differences are held.

    Sums of x, -x and r become x plus the held difference of r and x, in whichever
    order they are added: r follows from what x is made of, through a step.
    """
    made = {name: node for node in network.nodes for name in node.outputs}
    shapes, nodes = dict(network.shapes), list[NetworkNode]()
    for node in network.nodes:
        found = _parts(node, made, network)
        if found is None:
            nodes.append(node)
            continue
        x, difference = found
        name = f"{node.outputs[0]}/held"
        shapes[name] = shapes[node.outputs[0]]
        nodes.append(NetworkNode(HELD, name, difference, (name,), {}))
        nodes.append(replace(node, kind="Add", inputs=(x, name)))
    # Each find puts two nodes in the place of one.
    if len(nodes) == len(network.nodes):
        return network
    wanted = {network.output}
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return replace(network, nodes=tuple(kept[::-1]), shapes=shapes)


def silent_steps(network: Network) -> tuple[str, ...]:
    """Steps that trained values pass, so that their gradient ends there.

    Comparisons that only choose between values are none; one that becomes a number is.

    Returns:
      How messages name the nodes.
    """
    found, active = [], set(network.parameters)
    compared: set[str] = set()
    network = held(network)
    for node in network.nodes:
        reached = active.intersection(node.inputs)
        if reached and not (node.kind == HELD or steps(node)):
            active.update(node.outputs)
        if node.kind in _COMPARISONS and reached:
            compared.update(node.outputs)
        whole = node.kind == "Cast" and node.attributes["to"] != TensorProto.BOOL
        number = node.kind == "Cast" and compared.intersection(node.inputs)
        loud = node.kind in _LOUD and (node.kind != "Cast" or whole)
        chosen = node.kind == "Where" and node.inputs[0] in compared
        chosen = chosen and not active.intersection(node.inputs[1:])
        if (loud and reached and steps(node)) or number or chosen:
            found.append((node.outputs[0], node.label))
    # A step within a held difference is meant to have no slope.
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


def _parts(
    node: NetworkNode, made: Mapping[str, NetworkNode], network: Network
) -> tuple[str, tuple[str, str]] | None:
    """Names of x, and of r and x in their difference; None for any other node."""
    for terms in _sums(node, made):
        plus = [name for name, sign in terms if sign > 0]
        minus = [name for name, sign in terms if sign < 0]
        # Terms of other shapes are broadcast: then the sum is no x with a step beside
        # it.
        shapes = {network.shapes.get(name) for name in (*plus, *minus, *node.outputs)}
        if (len(plus), len(minus), len(shapes)) != (2, 1, 1):
            continue
        for x, step in (plus, plus[::-1]):
            same = _root(x, made) == _root(minus[0], made)
            if same and _steps_from(x, step, made, network):
                return x, (step, minus[0])
    return None


def _sums(
    node: NetworkNode, made: Mapping[str, NetworkNode]
) -> Iterator[list[tuple[str, int]]]:
    """The terms that a node adds up, one of them taken apart in turn."""
    own = _terms(node, made)
    if len(own) > 2:
        yield own
    for index, (name, sign) in enumerate(own):
        inner = _terms(made[name], made) if name in made else []
        if inner:
            signed = [(part, sign * way) for part, way in inner]
            yield [*own[:index], *signed, *own[index + 1 :]]


def _terms(node: NetworkNode, made: Mapping[str, NetworkNode]) -> list[tuple[str, int]]:
    """Names that a node adds up with their signs; none if it is no sum."""
    if node.kind not in ("Add", "Sub", "Sum"):
        return []
    signs = [1] * len(node.inputs)
    signs[1:2] = [-1 if node.kind == "Sub" else 1] * len(signs[1:2])
    found = []
    for name, sign in zip(node.inputs, signs, strict=True):
        turned = name in made and made[name].kind == "Neg"
        found.append((made[name].inputs[0], -sign) if turned else (name, sign))
    return found


def _root(name: str, made: Mapping[str, NetworkNode]) -> str:
    while name in made and made[name].kind in _WRAPPERS and not steps(made[name]):
        name = made[name].inputs[0]
    return name


def _steps_from(
    x: str, end: str, made: Mapping[str, NetworkNode], network: Network
) -> bool:
    """True if a step lies between what x is made of and a value."""
    origins = _ancestors(x, made) - {*network.constants, network.input}
    return any(
        steps(made[name]) and not origins.isdisjoint(_ancestors(name, made))
        for name in _ancestors(end, made)
        if name in made
    )


def _ancestors(end: str, made: Mapping[str, NetworkNode]) -> set[str]:
    found, waiting = set[str](), [end]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend([i for i in made[name].inputs if i] if name in made else [])
    return found


def _through_held(network: Network) -> set[str]:
    """Values that lead to held differences; steps among them are not silent."""
    made = {name: node for node in network.nodes for name in node.outputs}
    return {
        name
        for node in network.nodes
        if node.kind == HELD
        for item in node.inputs
        for name in _ancestors(item, made)
    }
