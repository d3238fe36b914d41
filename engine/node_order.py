"""The order in which ONNX Runtime is given the nodes of a large graph.

While it loads a graph, ONNX Runtime keeps what could be run next in a list sorted by
place in the file, and walks that list for each node that it adds
(`Graph::KahnsTopologicalSort`). A backward pass as a compiler writes it leaves
thousands of nodes there: what needs the forward pass alone could be run long before the
slope reaches it. Sorted by depth the list is as long as the graph is wide.
"""

from dataclasses import replace

from starling.engine.onnx_graph import Graph, GraphNode

SORTED_NODES_MIN = 4096
"""Smaller graphs load fast as they are, in the order that takes the least memory."""


def by_depth(graph: Graph) -> Graph:
    """The same graph with its nodes sorted by the longest way to an input.

    Args:
      graph: Checked.

    Returns:
      Nodes of one depth keep their order. The same values come out, bit for bit; the
      runtime's own order follows from this one, and with it how much it holds.
    """
    depths: dict[str, int] = {}

    def depth(node: GraphNode) -> int:
        found = 1 + max([depths.get(name, 0) for name in node.inputs], default=0)
        depths.update(dict.fromkeys(node.outputs, found))
        # The name of an output that nobody reads is that of an input left out.
        depths.pop("", None)
        return found

    ranked = [(depth(node), place) for place, node in enumerate(graph.nodes)]
    nodes = tuple([graph.nodes[place] for _, place in sorted(ranked)])
    return replace(graph, nodes=nodes)
