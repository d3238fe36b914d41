"""Names of PyTorch modules for weights that the older exporter only numbered.

`torch.onnx.export(..., dynamo=False)` turns the weight of a linear layer round, or
computes a normalisation into that of a convolution, and writes what comes out as
`onnx::MatMul_123`. The node that reads it still has the module's path in its name
(`/head/proj/MatMul`), which says whose weight it was. Of a tensor that stands in a
module itself, and in none of PyTorch's layers, nothing says whether it is a parameter.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from starling.compiler.ir.network import NetworkNode
from starling.compiler.parameters.recurrent_weights import RECURRENT

_NUMBERED = re.compile(r"onnx::\w+_[0-9]+")
_PATH = re.compile(r"/(?P<path>[^/].*)/(?P<kind>[A-Za-z]+)(_(?P<index>[0-9]+))?")
_PARTS: Mapping[str, Mapping[int, str]] = {
    "MatMul": {1: "weight"},
    "Gemm": {1: "weight", 2: "bias"},
    "Conv": {1: "weight", 2: "bias"},
    "ConvTranspose": {1: "weight", 2: "bias"},
    "GRU": {1: "weight_ih_l", 2: "weight_hh_l", 3: "bias_l"},
    "LSTM": {1: "weight_ih_l", 2: "weight_hh_l", 3: "bias_l"},
    "PRelu": {1: "weight"},
    "RNN": {1: "weight_ih_l", 2: "weight_hh_l", 3: "bias_l"},
}
"""Operator to position of an input to the end of a parameter's name."""

_OF_LAYERS = re.compile(
    r"((weight|bias)(_(ih|hh|hr)(_l[0-9]+(_reverse)?)?|_[gkv]|_orig)?"
    r"|in_proj_(weight|bias)|[qkv]_proj_weight|original[01]?)"
)
"""Last parts of names that PyTorch's own layers give to their parameters."""
_ATTENTION = ("in_proj_bias", "out_proj.weight", "out_proj.bias")
"""Of the layer that holds another one and a weight of its own."""


def module_names(
    nodes: Sequence[NetworkNode], weights: Collection[str], taken: Collection[str]
) -> dict[str, str]:
    """Names of parameters for the weights that have only a number.

    Args:
      nodes: Of the model.
      weights: Names of what may be trained.
      taken: Names of all tensors, none of which is given away again.

    Returns:
      Number to name, where one weight alone can have it.
    """
    found: dict[str, str] = {}
    for node in nodes:
        place = _PATH.fullmatch(node.name)
        # A node of another kind under a layer's path was written by the exporter, and
        # its tensors may be anything.
        if place is None or place["kind"] != node.kind:
            continue
        for position, end in _PARTS.get(node.kind, {}).items():
            name = node.inputs[position] if position < len(node.inputs) else ""
            if name in weights and _NUMBERED.fullmatch(name) and name not in found:
                layer = (place["index"] or "0") if end.endswith("_l") else ""
                found[name] = f"{place['path'].replace('/', '.')}.{end}{layer}"
    # Two weights of one path leave open which is which, so neither gets the name.
    counts = Counter(found.values())
    return {
        name: alias
        for name, alias in found.items()
        if counts[alias] == 1 and alias not in taken
    }


def undeclared(
    nodes: Sequence[NetworkNode], weights: Sequence[str], names: Collection[str]
) -> list[str]:
    """Weights that may be a module's buffers, as far as the older exporter says.

    Args:
      nodes: Of the model.
      weights: Names of what may be trained.
      names: Of all tensors.

    Returns:
      Those that are not called like a parameter of a layer; of numbered ones those that
      a module reads that holds others, as a layer does not.
    """
    readers: dict[str, set[str]] = {}
    for node in [node for node in nodes if node.kind not in RECURRENT]:
        for name in node.inputs:
            readers.setdefault(name, set()).add(node.name.rpartition("/")[0])
    return [
        name
        for name in weights
        if (
            any(_holds(path, names) for path in readers.get(name, ()))
            if _NUMBERED.fullmatch(name)
            else not _OF_LAYERS.fullmatch(name.rpartition(".")[2])
        )
    ]


def _holds(path: str, names: Collection[str]) -> bool:
    """True if a path leads to a module with modules inside, or to the whole model."""
    if not path:
        return True
    start = f"{path.strip('/').replace('/', '.')}."
    inside = [name.removeprefix(start) for name in names if name.startswith(start)]
    return any("." in name for name in inside) and not {*_ATTENTION}.intersection(
        inside
    )
