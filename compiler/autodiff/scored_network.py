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
from starling.compiler.autodiff.score_range import FREE, ScoreRange, score_ranges
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
_PROBABILITIES = frozenset({"HardSigmoid", "Sigmoid", "Softmax"})
_CLIPS = frozenset({"Clip", "Max", "Min"})
_GUARD = 0.01
"""How far from 0 and 1 a clip of probabilities may keep them."""
_HAIR = 1e-3
"""What is added to a probability before its logarithm is taken."""
_NARROW = 4.0
"""Scores that stay within this many of 0 leave a class a chance of 2 % at least; what
allows more may be meant, as 30 tanh(z / 30) is."""


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
    ranges = score_ranges(network)
    moves, node = _behind_moves(ranges, made, network.output)
    # log(softmax(z)) is the LogSoftmax that a loss absorbs, written as two nodes.
    if node is not None and node.kind == "Log" and "Softmax" in loss.absorbs:
        inner = made.get(node.inputs[0])
        node = inner if inner is not None and inner.kind == "Softmax" else node
    found = _absorbed(network, loss, moves, node) or _pair(network, loss, made, node)
    if found is None:
        _check(loss, made, ranges, network.output)
        return ScoredNetwork(network, network.output)
    end, source = found
    assert node is not None
    # A softmax of a softmax trains badly and says nothing: the scores behind the one
    # that is absorbed are looked at as well.
    cause = ranges.get(source, FREE).node
    if cause is not None and cause.kind in _PROBABILITIES & {*loss.absorbs, node.kind}:
        _check(loss, made, ranges, source)
    return end


def _behind_moves(
    ranges: Mapping[str, ScoreRange], made: Mapping[str, NetworkNode], name: str
) -> tuple[list[NetworkNode], NetworkNode | None]:
    """The moves at the end of the model, last one first, and what stands before."""
    moves = []
    node = made.get(name)
    while node is not None:
        if node.kind in _MOVERS:
            moves.append(node)
        elif not (_wraps(node) or _guards(ranges, made, node)):
            break
        node = made.get(_source(made, node))
    return moves, node


def _wraps(node: NetworkNode) -> bool:
    """True if an operator changes no value."""
    to_float = node.kind == "Cast" and node.attributes["to"] == TensorProto.FLOAT
    return to_float or node.kind in _WRAPPERS


def _source(made: Mapping[str, NetworkNode], node: NetworkNode) -> str:
    """The input that is computed; constants may stand before it."""
    return next((name for name in node.inputs if name in made), node.inputs[0])


def _guards(
    ranges: Mapping[str, ScoreRange],
    made: Mapping[str, NetworkNode],
    node: NetworkNode,
) -> bool:
    """True if a clip only keeps probabilities off 0 and 1."""
    if node.kind not in _CLIPS or node.outputs[0] not in ranges:
        return False
    source, kept = ranges.get(_source(made, node), FREE), ranges[node.outputs[0]]
    computed = [name for name in node.inputs if name in made]
    return (
        len(computed) == 1
        and source.node is not None
        and source.node.kind in _PROBABILITIES
        # Further in, the clip is part of the model and limits what it can learn.
        and 0.0 <= source.low <= kept.low <= _GUARD
        and 1.0 - _GUARD <= kept.high <= source.high <= 1.0
    )


def _absorbed(
    network: Network, loss: Loss, moves: Sequence[NetworkNode], node: NetworkNode | None
) -> tuple[ScoredNetwork, str] | None:
    """The scores before the loss's own function, moved as its values are."""
    if node is None or node.kind not in loss.absorbs:
        return None
    # A softmax over a part of the outputs makes several distributions, and no single
    # label.
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
    # A softmax sees how far two scores lie apart, which is z for -z/2 and z/2; a
    # sigmoid takes each score by itself.
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
    loss: Loss,
    made: Mapping[str, NetworkNode],
    ranges: Mapping[str, ScoreRange],
    name: str,
) -> None:
    """Refuses what is no score: values within bounds, or some of them joined.

    Raises:
      CompileError: Naming the node and what helps.
    """
    bounds = ranges.get(name, FREE)
    _, last = _behind_moves(ranges, made, name)
    if last is not None and last.kind == "Concat":
        for source in last.inputs:
            _check(loss, made, ranges, source)
    if bounds.node is not None and _is_no_score(bounds, loss, last):
        node = bounds.node
        raise CompileError(
            f"{node.label}: ends the model, or keeps its output between "
            f"{bounds.low:.3g} and {bounds.high:.3g}, but {loss.name} takes scores of "
            f"any size{_own(loss)}; export the model without it, or "
            f"{_way_out(node, loss)}",
            (node.name,),
        )


def _is_no_score(bounds: ScoreRange, loss: Loss, last: NetworkNode | None) -> bool:
    """True if every score would be near 0, or on one side of it.

    Of scores of several classes only their differences count, so that averages of a
    ReLU's values are taken, as SqueezeNet ends in them.
    """
    if max(-bounds.low, bounds.high) <= _NARROW:
        return True
    one_sided = bounds.low >= -_HAIR or bounds.high <= _HAIR
    if "Sigmoid" in loss.absorbs:
        return one_sided
    # Logarithms of probabilities are scores of classes, but not as costs.
    cost = bounds.node is not None and bounds.node.kind == "LogSoftmax"
    kept = bounds.node is last and last is not None and last.kind != "Sub"
    return one_sided and (kept or (cost and bounds.low >= 0.0))


def _own(loss: Loss) -> str:
    return f", or what one {loss.absorbs[0].lower()} over them makes of them"


def _way_out(node: NetworkNode, loss: Loss) -> str:
    if node.kind in ("Softmax", "LogSoftmax") and "Sigmoid" in loss.absorbs:
        return "say --loss cross-entropy"
    if node.kind == "Sigmoid" and "Softmax" in loss.absorbs:
        return "say --loss bce"
    return "say --loss mse"
