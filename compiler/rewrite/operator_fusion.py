"""Rewrites a network for training: the same values, with less to do.

A convolution and the pooling of tiles behind it become one node, whose rule computes
them together. A ReLU between the two moves behind the pooling first: the largest value
of the clipped is the clipped largest value.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from starling.compiler.ir.graph_writer import Shape
from starling.compiler.ir.network import Network, NetworkNode

POOLED = "Conv+MaxPool"
"""The kind of a fused node; not an operator of ONNX."""
HELD = "Sub, held"
"""The kind of a difference that counts as a constant; see `straight_through`."""


def fuse(network: Network) -> Network:
    """The network that training graphs are written from."""
    network = _relu_last(network)
    readers = _readers(network)
    nodes: list[NetworkNode] = []
    places: dict[str, int] = {}
    for node in network.nodes:
        place = _place(places, node)
        # Another reader needs the convolution before it is pooled, which the fused node
        # does not give.
        if place is not None and readers[nodes[place].outputs[0]] == 1:
            fused = _pooled(network, nodes[place], node)
            if fused is not None:
                nodes[place] = fused
                places[fused.outputs[0]] = place
                continue
        places.update(dict.fromkeys(node.outputs, len(nodes)))
        nodes.append(node)
    return replace(network, nodes=tuple(nodes))


def _relu_last(network: Network) -> Network:
    """Conv, Relu, MaxPool becomes Conv, MaxPool, Relu."""
    readers = _readers(network)
    nodes = list(network.nodes)
    places = {name: at for at, node in enumerate(nodes) for name in node.outputs}
    shapes: dict[str, Shape] = dict(network.shapes)
    for index, pool in enumerate(nodes):
        where = _place(places, pool) if pool.kind == "MaxPool" else None
        if where is None or nodes[where].kind != "Relu":
            continue
        relu = nodes[where]
        before = _place(places, relu)
        if before is None or nodes[before].kind != "Conv":
            continue
        if readers[relu.outputs[0]] != 1 or readers[relu.inputs[0]] != 1:
            continue
        if any(readers[name] for name in pool.outputs[1:]):
            continue  # Places that a MaxUnpool reads.
        between = f"{pool.outputs[0]}/pooled"
        shapes[between] = shapes[pool.outputs[0]]
        nodes[where] = replace(pool, inputs=relu.inputs, outputs=(between,))
        nodes[index] = replace(relu, inputs=(between,), outputs=pool.outputs[:1])
    return replace(network, nodes=tuple(nodes), shapes=shapes)


def _pooled(
    network: Network, convolution: NetworkNode, pool: NetworkNode
) -> NetworkNode | None:
    """The fused node, or None where the two do not fit or gain nothing."""
    if convolution.kind != "Conv" or pool.kind != "MaxPool":
        return None
    trained = convolution.inputs[1] in network.parameters
    if not trained or convolution.attributes.get("group", 1) != 1:
        return None
    if convolution.fold != pool.fold:
        return None
    skipped = 2 + len(pool.fold)
    kernel = tuple(pool.attributes["kernel_shape"])
    convolved = _sizes(network.shapes, convolution.outputs[0], skipped)
    pooled = _sizes(network.shapes, pool.outputs[0], skipped)
    tiled = tuple([size // tile for size, tile in zip(convolved, kernel, strict=True)])
    plain = (
        tuple(pool.attributes.get("strides", [1] * len(kernel))) == kernel
        and not any(pool.attributes.get("pads", []))
        and set(pool.attributes.get("dilations", [1])) == {1}
        and pool.attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
        and len([name for name in pool.outputs if name]) == 1
    )
    # Windows that overlap, or reach beyond the values, are no tiles: the fused rule
    # gives each value to one window at most.
    if not plain or pooled != tiled:
        return None
    return NetworkNode(
        kind=POOLED,
        name=convolution.name,
        inputs=convolution.inputs,
        outputs=pool.outputs,
        attributes={
            **convolution.attributes,
            "pool": kernel,
            "convolved": convolved,
        },
        fold=convolution.fold,
    )


def _place(places: Mapping[str, int], reader: NetworkNode) -> int | None:
    """Position of the node that makes a node's first input."""
    return places.get(reader.inputs[0]) if reader.inputs else None


def _readers(network: Network) -> Mapping[str, int]:
    counts = Counter([name for node in network.nodes for name in node.inputs])
    # The output is read from outside, even if no node reads it.
    counts[network.output] += 1
    return counts


def _sizes(shapes: Mapping[str, Shape], name: str, skipped: int) -> tuple[int, ...]:
    return tuple([size for size in shapes[name][skipped:] if size is not None])
