"""Last operators of a model, and the value from which its loss starts.

A model may return scores, or what the function that belongs to its loss makes of them.
Values may be moved behind that function, or kept off 0 and 1; or it is written as the
probabilities of two classes. The loss starts from the scores, which are added to the
network. An ending that keeps values within bounds and belongs to another loss is
refused: it would be taken for scores, and hardly train.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from starling.compiler.autodiff.losses import Loss
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_writer import Shape
from starling.compiler.ir.network import Array, Network, NetworkNode

_MOVERS = frozenset(
    {
        "Flatten",
        "Reshape",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
_WRAPPERS = frozenset({"Dropout", "Identity"})
"""Exporters put these behind the last function; they change nothing."""
_BOUNDED = frozenset(
    {
        "Clip",
        "Erf",
        "Exp",
        "HardSigmoid",
        "LogSoftmax",
        "Relu",
        "Sigmoid",
        "Softmax",
        "Softplus",
        "Softsign",
        "Tanh",
    }
)
"""Operators whose values are no scores of any size."""
_PROBABILITIES = frozenset({"HardSigmoid", "Sigmoid", "Softmax"})
_GUARD = 0.01
"""How far from 0 and 1 a clip of probabilities may keep them."""


@dataclass(frozen=True)
class ScoredNetwork:
    """Value from which a loss starts.

    Attributes:
      network: The model with the nodes that make the scores.
      scores: Name of the value that the loss starts from.
    """

    network: Network
    scores: str


def scored_network(network: Network, loss: Loss) -> ScoredNetwork:
    """Finds the scores of a model.

    Raises:
      CompileError: If the model ends in a function that belongs to another loss.
    """
    if not loss.of_scores:
        return ScoredNetwork(network, network.output)
    made = {name: node for node in network.nodes for name in node.outputs}
    moves, node = _behind_moves(network, made, network.output)
    if node is not None and node.kind == "Log" and "Softmax" in loss.absorbs:
        inner = made.get(node.inputs[0])
        node = inner if inner is not None and inner.kind == "Softmax" else node
    found = _absorbed(network, loss, moves, node) or _pair(network, loss, made, node)
    if found is None:
        _check(network, loss, made, network.output, _BOUNDED)
        return ScoredNetwork(network, network.output)
    end, source = found
    assert node is not None
    _check(network, loss, made, source, _PROBABILITIES & {*loss.absorbs, node.kind})
    return end


def _behind_moves(
    network: Network, made: Mapping[str, NetworkNode], name: str
) -> tuple[list[NetworkNode], NetworkNode | None]:
    """The moves at the end of the model, last one first, and what stands before."""
    moves = []
    node = made.get(name)
    while node is not None:
        if node.kind in _MOVERS:
            moves.append(node)
        elif not (_wraps(node) or _guards(network, made, node)):
            break
        node = made.get(node.inputs[0])
    return moves, node


def _wraps(node: NetworkNode) -> bool:
    """True if an operator changes no value."""
    to_float = node.kind == "Cast" and node.attributes["to"] == TensorProto.FLOAT
    return to_float or node.kind in _WRAPPERS


def _guards(
    network: Network, made: Mapping[str, NetworkNode], node: NetworkNode
) -> bool:
    """True if a clip only keeps probabilities off 0 and 1."""
    if node.kind != "Clip":
        return False
    bounds = [network.constants.get(name) for name in node.inputs[1:3]]
    values = [float(b.reshape(-1)[0]) for b in bounds if b is not None and b.size == 1]
    source = made.get(node.inputs[0])
    return (
        source is not None
        and source.kind in _PROBABILITIES
        and len(values) == len(bounds) == 2
        and values[0] <= _GUARD
        and values[1] >= 1.0 - _GUARD
    )


def _absorbed(
    network: Network, loss: Loss, moves: Sequence[NetworkNode], node: NetworkNode | None
) -> tuple[ScoredNetwork, str] | None:
    """The scores before the loss's own function, moved as its values are."""
    if node is None or node.kind not in loss.absorbs:
        return None
    if node.kind != "Sigmoid" and not _all_classes(network, node):
        return None
    name, added = node.inputs[0], []
    for move in reversed(moves):
        target = _fresh(network, f"{move.outputs[0]}/scores")
        inputs = (name, *move.inputs[1:])
        added.append(replace(move, name=target, inputs=inputs, outputs=(target,)))
        name = target
    shapes = {
        made.outputs[0]: network.shapes[move.outputs[0]]
        for made, move in zip(added, reversed(moves), strict=True)
    }
    return ScoredNetwork(_with(network, added, shapes, {}), name), node.inputs[0]


def _all_classes(network: Network, node: NetworkNode) -> bool:
    """True if a softmax runs over all values of an example."""
    shape = network.shapes[node.outputs[0]]
    axis = node.attributes.get("axis", -1)
    sizes = [size for size in shape if size is not None]
    return bool(shape[axis] == math.prod(sizes)) and axis % len(shape) != 0


def _pair(
    network: Network,
    loss: Loss,
    made: Mapping[str, NetworkNode],
    node: NetworkNode | None,
) -> tuple[ScoredNetwork, str] | None:
    """The probabilities of two classes, as a softmax or as 1 - p beside p."""
    if node is None or network.shapes[node.outputs[0]] != (None, 2):
        return None
    if node.kind == "Softmax" and "Sigmoid" in loss.absorbs:
        # Of two classes each has the sigmoid of how far its score leads.
        other, lead, order = [
            _fresh(network, f"{network.output}/{part}")
            for part in ("other", "scores", "order")
        ]
        nodes = [
            NetworkNode(
                "Gather", other, (node.inputs[0], order), (other,), {"axis": 1}
            ),
            NetworkNode("Sub", lead, (node.inputs[0], other), (lead,), {}),
        ]
        shapes: dict[str, Shape] = {other: (None, 2), lead: (None, 2), order: (2,)}
        constants = {order: np.array([1, 0], np.int64)}
        return ScoredNetwork(
            _with(network, nodes, shapes, constants), lead
        ), node.inputs[0]
    score = _two_classes(network, made, node)
    if score is None:
        return None
    lead, signs = [
        _fresh(network, f"{network.output}/{part}") for part in ("scores", "signs")
    ]
    half = 0.5 if "Softmax" in loss.absorbs else 1.0
    product = NetworkNode("Mul", lead, (score, signs), (lead,), {})
    values = np.array([[-half, half]], np.float32)
    added: dict[str, Shape] = {lead: (None, 2), signs: (1, 2)}
    return ScoredNetwork(_with(network, [product], added, {signs: values}), lead), score


def _two_classes(
    network: Network, made: Mapping[str, NetworkNode], node: NetworkNode
) -> str | None:
    """The score z where a node joins 1 - sigmoid(z) and sigmoid(z)."""
    if node.kind != "Concat" or len(node.inputs) != 2:
        return None
    rest, share = [made.get(name) for name in node.inputs]
    if rest is None or share is None or (rest.kind, share.kind) != ("Sub", "Sigmoid"):
        return None
    one = network.constants.get(rest.inputs[0])
    same = one is not None and bool((one == 1.0).all())
    return share.inputs[0] if same and rest.inputs[1] == node.inputs[1] else None


def _fresh(network: Network, name: str) -> str:
    """A name that no value of the model has."""
    while name in network.shapes or name in network.constants:
        name += "'"
    return name


def _with(
    network: Network,
    nodes: Sequence[NetworkNode],
    shapes: Mapping[str, Shape],
    constants: Mapping[str, Array],
) -> Network:
    return replace(
        network,
        nodes=(*network.nodes, *nodes),
        shapes={**network.shapes, **shapes},
        constants={**network.constants, **constants},
    )


def _check(
    network: Network,
    loss: Loss,
    made: Mapping[str, NetworkNode],
    name: str,
    refused: frozenset[str],
) -> None:
    """Refuses what is no score: a bounded function, or several joined.

    Raises:
      CompileError: Naming the node and what helps.
    """
    _, node = _behind_moves(network, made, name)
    if node is None:
        return
    if node.kind == "Concat":
        for source in node.inputs:
            _check(network, loss, made, source, refused)
    if node.kind in refused:
        raise CompileError(
            f"{node.label}: ends the model, but {loss.name} takes scores of any size"
            f"{_own(loss)}; export the model without it, or {_way_out(node, loss)}",
            (node.name,),
        )


def _own(loss: Loss) -> str:
    return f", or what one {loss.absorbs[0].lower()} over them makes of them"


def _way_out(node: NetworkNode, loss: Loss) -> str:
    if node.kind in ("Softmax", "LogSoftmax") and "Sigmoid" in loss.absorbs:
        return "say --loss cross-entropy"
    if node.kind == "Sigmoid" and "Softmax" in loss.absorbs:
        return "say --loss bce"
    return "say --loss mse"
