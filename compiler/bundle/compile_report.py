"""Report of a compilation: weights, operators and the cost of an example.

Cost is counted in multiply-adds of matrix products and convolutions, which is where the
time goes; everything else counts as nothing.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from starling.compiler.autodiff.gradient_factors import (
    Blocks,
    Correlation,
    GradientFactors,
    Lookup,
    OuterProduct,
    Positions,
    RepeatedUse,
)
from starling.compiler.autodiff.rules.rule_table import rule
from starling.compiler.bundle.compile_pipeline import Bundle
from starling.compiler.bundle.memory_estimate import needs
from starling.compiler.ir.network import Network, NetworkNode
from starling.compiler.parameters.constant_tensors import NO_AXES
from starling.engine.batch_parts import part_size
from starling.protocol.model.training_bundle import (
    GRADIENT,
    MANIFEST,
    PRIVATE_GRADIENT,
    manifest_from_json,
)

_METHODS: Mapping[type[GradientFactors], str] = {
    OuterProduct: "product of two norms",
    Positions: "summed over positions",
    Correlation: "summed over patches",
    Lookup: "of the rows looked up",
    Blocks: "of each block",
    RepeatedUse: "of the sum of its uses",
}
_OTHER_METHOD = "materialised"
BATCHES = (1, 10, 32, 64)
"""For which the report says how much memory a process needs."""


@dataclass(frozen=True)
class NodeCost:
    """One node of the model.

    Attributes:
      node: Its name.
      operator: Its kind.
      shape: Of its output, without the batch axis.
      products: Multiply-adds for one example, going forward.
    """

    node: str
    operator: str
    shape: tuple[int, ...]
    products: int


def rows(network: Network) -> tuple[NodeCost, ...]:
    """One row for each node, in model order."""
    return tuple(
        [
            NodeCost(
                node.name,
                node.kind,
                _row(network, node.outputs[0]),
                _products(network, node),
            )
            for node in network.nodes
        ]
    )


def memory(files: Mapping[str, bytes]) -> dict[str, dict[int, int]]:
    """Bytes of a process that trains with each gradient graph, by batch size.

    Boards compute a batch of large examples in parts.
    """
    manifest = manifest_from_json(files[MANIFEST])
    # The same division as a board makes, so that the table says what boards will need.
    runs = {batch: part_size(batch, manifest.example_bytes) for batch in BATCHES}
    found = {}
    for name in (GRADIENT, PRIVATE_GRADIENT):
        sizes = needs(files[name], tuple(runs.values()))
        found[name] = {batch: sizes[run].process for batch, run in runs.items()}
    return found


def memory_lines(files: Mapping[str, bytes]) -> list[str]:
    """The same for people; profiles of boards state what they have in MiB."""
    return _table(
        ("process, MiB", *[f"batch {batch}" for batch in BATCHES]),
        [
            (name, *[f"{bytes_ / 2**20:,.0f}" for bytes_ in row.values()])
            for name, row in memory(files).items()
        ],
    )


def methods(bundle: Bundle) -> dict[str, str]:
    """Method by which the norm of each example's gradient is found, by parameter."""
    return {
        name: _METHODS.get(type(use), _OTHER_METHOD)
        for name, use in bundle.factors.items()
    }


def document(bundle: Bundle) -> dict[str, object]:
    """All of the report, for `--json`."""
    manifest, network = bundle.manifest, bundle.network
    how = methods(bundle)
    table = rows(network)
    return {
        "name": manifest.name,
        "warnings": list(bundle.notes),
        "digest": bundle.digest.hex(),
        "bundle_bytes": len(bundle.packed),
        "files": {name: len(content) for name, content in sorted(bundle.files.items())},
        "dimension": manifest.dimension,
        "loss": manifest.loss,
        "parameters": [
            {
                "name": item.name,
                "shape": list(item.shape),
                "size": item.size,
                "trained": item.trainable,
                "norm": how.get(item.name),
                "program_name": network.aliases.get(item.name, item.name),
            }
            for item in manifest.parameters
        ],
        "constants": [
            {"name": name, "shape": list(network.constants[name].shape), "why": why}
            for name, why in network.fixed.items()
        ],
        "values": {name: size for name, (size, _) in counts(network).items()},
        "operators": dict(sorted(Counter(row.operator for row in table).items())),
        "products_per_example": sum([row.products for row in table]),
        "process_bytes": {
            name: {str(batch): size for batch, size in row.items()}
            for name, row in memory(bundle.files).items()
        },
        "nodes": [
            {
                "name": row.node,
                "operator": row.operator,
                "shape": list(row.shape),
                "products": row.products,
            }
            for row in table
        ],
    }


def counts(network: Network) -> dict[str, tuple[int, int]]:
    """Values and tensors that are trained, frozen and constant.

    Trained and frozen together are what the model's own framework calls parameters.
    """
    sizes = {
        "trained": [array.size for array in network.parameters.values()],
        "frozen": [network.constants[name].size for name in network.frozen],
        "constant": [network.constants[name].size for name in network.fixed],
    }
    return {kind: (sum(each), len(each)) for kind, each in sizes.items()}


def _constants(network: Network) -> list[tuple[str, ...]]:
    """A line for each; single numbers are counted but not listed."""
    found = [(n, network.constants[n], why) for n, why in network.fixed.items()]
    return [
        (name, _times(array.shape), f"{array.size:,}", "constant", why)
        for name, array, why in found
        if array.size > 1 or why == NO_AXES
    ]


def _titled(network: Network, name: str) -> str:
    """A weight's name, and the program's own where the exporter numbered it."""
    alias = network.aliases.get(name)
    return name if alias is None else f"{name} ({alias})"


def text(bundle: Bundle, *, explain: bool) -> str:
    """The report for people; `explain` adds a line for each node."""
    manifest, network = bundle.manifest, bundle.network
    how = methods(bundle)
    table = rows(network)
    operators = Counter(row.operator for row in table)
    lines = _table(
        ("tensor", "shape", "values", "", "norm of each example, or why a constant"),
        [
            (
                _titled(network, item.name),
                _times(item.shape),
                f"{item.size:,}",
                "trained" if item.trainable else "frozen",
                how.get(item.name, "left out by --train"),
            )
            for item in manifest.parameters
        ]
        + _constants(network),
    )
    if explain:
        lines += ["", *_explanation(table)]
    products = sum([row.products for row in table])
    counted = ", ".join(f"{kind} {count}" for kind, count in sorted(operators.items()))
    lines += [
        "",
        f"operators    {counted}",
        *[
            f"{kind:<13}{size:,} values in {tensors} tensors"
            + (f", loss {manifest.loss}" if kind == "trained" else "")
            for kind, (size, tensors) in counts(network).items()
        ],
        f"cost         {products:,} multiply-adds forward for one example",
        f"bundle       {len(bundle.packed):,} bytes, digest {bundle.digest.hex()}",
        "",
        *memory_lines(bundle.files),
    ]
    return "\n".join(lines) + "\n"


def _explanation(table: tuple[NodeCost, ...]) -> list[str]:
    return _table(
        ("node", "operator", "output", "multiply-adds", "way back"),
        [
            (
                row.node,
                row.operator,
                _times(row.shape),
                f"{row.products:,}",
                (rule(row.operator).backward.__doc__ or "").partition("\n")[0],
            )
            for row in table
        ],
    )


def _table(head: tuple[str, ...], body: list[tuple[str, ...]]) -> list[str]:
    widths = [max([len(line[i]) for line in [head, *body]]) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in [head, *body]
    ]


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape) or "1"


def _row(network: Network, name: str) -> tuple[int, ...]:
    return tuple([size for size in network.shapes[name] if size is not None])


def _products(network: Network, node: NetworkNode) -> int:
    size = math.prod(_row(network, node.outputs[0]))
    if node.kind in ("GRU", "LSTM"):
        steps = _row(network, node.inputs[0])[0]
        weights = [_row(network, name) for name in node.inputs[1:3]]
        return steps * sum([math.prod(shape) for shape in weights])
    if node.kind == "ConvTranspose":
        image, kernel = [_row(network, name) for name in node.inputs[:2]]
        return math.prod(image) * math.prod(kernel[1:])
    if node.kind == "Conv":
        return size * math.prod(_row(network, node.inputs[1])[1:])
    if node.kind in ("Gemm", "MatMul"):
        return size * _row(network, node.inputs[0])[-1]
    return 0
