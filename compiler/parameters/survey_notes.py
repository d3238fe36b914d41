"""Lines for whoever compiles a model, about what the survey of its tensors cannot tell.

What an exporter computed away, joined or numbered is known from what the file says or
from names; what may have been frozen or drawn once, from where it stands.
"""

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from starling.compiler.ir.network import Array, NetworkNode
from starling.compiler.parameters import constant_tensors, constant_values
from starling.compiler.parameters.exporter_metadata import ExporterMetadata

_PROBES = 8
"""Values of a tensor that are looked for a second time."""
_NORMALISED = ("/batchnorm/add", "/batchnorm/mul", "/batchnorm/sub", "/FusedBatchNorm")
"""In names of what TensorFlow computed from gains and statistics."""
_ZEROS_MIN = 0.1
"""Share of a matrix that is left out on purpose; a row for padding is less."""
_CARRYING = frozenset(
    {
        "Dropout",
        "Flatten",
        "Identity",
        "Reshape",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
_TRUTH = "bool"
"""Of masks, which no one means to train."""
_SCALING = frozenset({"Add", "Div", "Mul", "Sub"})
_WAVES = frozenset({"Cos", "Sin"})
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
"""Layers whose matrices often start orthogonal."""


def untrained_parameter_lines(
    told: ExporterMetadata, weights: Sequence[str], tensors: Mapping[str, Array]
) -> tuple[str, ...]:
    """Lines about parameters of the program that are not trained as such.

    Args:
      told: What the file says.
      weights: Names of what may be trained.
      tensors: Name to value of each tensor of the file.
    """
    lines = []
    computed = [
        name
        for name in weights
        if not told.moved(name) or _doubled(name, told, tensors[name])
    ]
    if computed:
        each = [f"{', '.join(told.parents(name))} (now {name})" for name in computed]
        lines.append(
            f"the exporter computed {'; '.join(each)[:400]} in advance: what was made "
            "of these weights is trained in their place; export with optimize=False "
            "to train the weights themselves"
        )
    carried = {parent for name in weights for parent in told.parents(name)}
    gone = [p for p in told.parameters if p not in carried and p not in tensors]
    folded = [name for name in gone if f"{_owner(name)}.running_mean" in told.kinds]
    lost = [name for name in gone if name not in folded]
    owners = {_owner(name) for name in folded}
    bare = [
        owner
        for name in told.kinds
        if name.endswith(".running_mean")
        and not {name, f"{name}/statistics"}.intersection(tensors)
        and (owner := _owner(name)) not in owners
    ]
    if bare:
        lines.append(
            f"{', '.join(bare)[:300]}: normalisations without gains, computed into the "
            "layer before them, which is trained with them"
        )
    if folded:
        lines.append(
            f"{', '.join(folded)[:300]}: computed into the convolution before the "
            "normalisation, and trained as part of it"
        )
    if lost:
        lines.append(
            f"{', '.join(lost)[:300]}: parameters of the program that the file does "
            "not hold by themselves; shared, equal to others, unused, or computed "
            "away (export with optimize=False to see them)"
        )
    return tuple(lines)


def _doubled(name: str, told: ExporterMetadata, value: Array) -> bool:
    """True if the values of one parameter were joined with themselves."""
    # A tensor of the program itself is as its author wrote it.
    if name in told.kinds or len(told.parents(name)) != 1:
        return False
    numbers = value[value != 0.0]
    if constant_tensors.alike(numbers):
        return False
    probes = numbers[:: max(1, numbers.size // _PROBES)]
    return all(np.count_nonzero(numbers == probe) > 1 for probe in probes)


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def fused(weights: Sequence[str]) -> tuple[str, ...]:
    """Lines for what exporters compute in advance, as far as names say it.

    PyTorch's older one numbers a layer's weight that it computed anew; those of
    products of three axes it numbers because it turns them round. TensorFlow's name a
    tensor after all operations that it was computed from.
    """
    lines = []
    if names := [name for name in weights if name.startswith("onnx::Conv")]:
        lines.append(
            f"{', '.join(names)[:300]}: a convolution and the normalisation behind it, "
            "which the exporter computed into one, and trained as one"
        )
    if names := [name for name in weights if name.startswith("onnx::Gemm")]:
        lines.append(
            f"{', '.join(names)[:300]}: computed by the exporter from weights that the "
            "file does not hold (a weight norm, say), and trained in their place"
        )
    if names := [n for n in weights if any(part in n for part in _NORMALISED)]:
        lines.append(
            f"{', '.join(names)[:300]}: a normalisation that TensorFlow computed with "
            "its statistics, into factors or the layer before it, and trained as those"
        )
    return tuple(lines)


def numbers(names: Sequence[str]) -> tuple[str, ...]:
    """A line for numbers that stand alone, which are trained if they are named."""
    if not names:
        return ()
    return (
        f"single numbers are no weights unless --train names them: "
        f"{', '.join(names)[:300]}",
    )


def at_input(names: Sequence[str]) -> tuple[str, ...]:
    """A line for weights that scale or shift the input itself."""
    if not names:
        return ()
    return (
        f"{', '.join(names)[:300]}: scales or shifts the input itself, and is trained; "
        "if it was computed from data (a mean, a spread), leave it out with --freeze",
    )


def undeclared(names: Sequence[str], lines: Sequence[str]) -> tuple[str, ...]:
    """A line for a module's own tensors, which may be buffers.

    Args:
      names: Of tensors that are trained.
      lines: What is said already; what these name is left out.
    """
    told = {word for line in lines for word in re.split(r"[:,;]? ", line)}
    names = [name for name in names if name not in told]
    if not names:
        return ()
    return (
        f"{', '.join(names)[:300]}: tensors of the model's own modules, which this "
        "exporter does not tell from buffers (torch.onnx.export with dynamo=True "
        "does); trained, and if they are no parameters, leave them out with --freeze",
    )


def kept_whole(kinds: Mapping[str, str]) -> tuple[str, ...]:
    """A line for tensors that a file keeps as whole numbers and casts to real ones.

    Args:
      kinds: Name to element type in the file.
    """
    shown = ", ".join([f"{k} ({kind})" for k, kind in kinds.items() if kind != _TRUTH])
    if not shown:
        return ()
    return (
        f"kept as whole numbers and not trained: {shown[:300]}; --train trains what it "
        "names, as real numbers",
    )


def hints(
    nodes: Sequence[NetworkNode],
    tensors: Mapping[str, Array],
    weights: Sequence[str],
    entry: str,
) -> tuple[str, ...]:
    """Lines for weights that stand where models have frozen or drawn ones.

    Args:
      nodes: Of the model, in order.
      tensors: Name to value of each initialiser.
      weights: Names of what may be trained.
      entry: Name of the input.
    """
    paths = _Paths(nodes, tensors, weights)
    lines = []
    if names := [name for name in weights if _thinned(tensors[name])]:
        lines.append(
            f"{', '.join(names)[:300]}: holds many zeros, which are trained like the "
            "rest; a mask that the exporter multiplied in, or pruning, is not kept"
        )
    if names := [name for name in weights if constant_values.few_values(tensors[name])]:
        lines.append(
            f"{', '.join(names)[:300]}: holds two or three values alone, as signs, "
            "groups and links do; trained, and if it was made by a formula, leave it "
            "out with --freeze"
        )
    if names := [name for name in weights if paths.computed(name)]:
        lines.append(
            f"{', '.join(names)[:300]}: rows or columns at right angles, as the "
            "components of a PCA or a fresh orthogonal start; trained, and if it was "
            "computed from data or by a formula, leave it out with --freeze"
        )
    lines += _adapted(paths)
    if names := paths.waved(entry):
        lines.append(
            f"{', '.join(names)[:300]}: makes of the input what goes through sines "
            "alone; if it was drawn once (random features), leave it out with --freeze"
        )
    return tuple(lines)


def often_frozen(
    nodes: Sequence[NetworkNode],
    tensors: Mapping[str, Array],
    weights: Sequence[str],
    layers: Collection[str],
) -> tuple[str, ...]:
    """Lines for parameters that programs set not to require gradients.

    Args:
      nodes: Of the model, in order.
      tensors: Name to value of each initialiser.
      weights: Names of what the file calls a parameter.
      layers: Names of what layers read as their weights.
    """
    reasons = {}
    for name in weights:
        value = tensors[name].astype(np.float32)
        # Biases may start as anything.
        layer = name in layers or value.ndim < 2
        if reason := constant_tensors.by_value(value, layer=layer):
            reasons[name] = reason
    lines = _adapted(_Paths(nodes, tensors, weights))
    if reasons:
        shown = ", ".join([f"{name} ({why})" for name, why in reasons.items()])
        lines.append(
            f"trained, though made by a formula: {shown[:400]}; no file says "
            "requires_grad=False: if it was, leave it out with --freeze"
        )
    return tuple(lines)


def _adapted(paths: "_Paths") -> list[str]:
    names = paths.adapted()
    if not names:
        return []
    return [
        f"{', '.join(names)[:300]}: a product of low rank is added to what it makes; "
        "if it was frozen under an adapter (LoRA), leave it out with --freeze"
    ]


def _thinned(value: Array) -> bool:
    """True if a share of a matrix is zero, and the rest is not all equal."""
    if value.ndim < 2 or constant_values.few_values(value):
        return False
    # A fresh diagonal or identity is zero elsewhere, too, but of equal values.
    others = value[value != 0.0]
    zeros = value.size - others.size
    return zeros >= _ZEROS_MIN * value.size and not constant_tensors.alike(others)


class _Paths:
    """Products with weights, and what leads to them and on."""

    def __init__(
        self,
        nodes: Sequence[NetworkNode],
        tensors: Mapping[str, Array],
        weights: Sequence[str],
    ) -> None:
        self._nodes = nodes
        self._weights = {*weights}
        self._tensors = tensors
        made = {
            name for node in nodes if node.kind != "Constant" for name in node.outputs
        }
        self._moved: dict[str, str] = {}
        self._products: dict[str, tuple[str, str | None]] = {}
        for node in nodes:
            computed = [name for name in node.inputs if name in made]
            if node.kind in ("Gemm", "MatMul"):
                weight = node.inputs[1] if node.inputs[1] in self._weights else None
                self._products[node.outputs[0]] = node.inputs[0], weight
            elif node.kind in _CARRYING | _SCALING and len(computed) == 1:
                known = self._products.get(computed[0])
                self._products |= {node.outputs[0]: known} if known else {}
            scaled = node.kind in _SCALING and all(
                tensors[name].size == 1 for name in node.inputs if name in tensors
            )
            if node.kind in _CARRYING or (scaled and len(computed) <= 1):
                first = next((n for n in node.inputs if n not in tensors), "")
                self._moved[node.outputs[0]] = self._moved.get(first, first)
        self._readers: dict[str, set[str]] = {}
        for node in reversed(nodes):
            for name in node.inputs:
                others = made.intersection(node.inputs) - {name}
                passed = node.kind in _CARRYING | _SCALING and not others
                kinds = self._readers.get(node.outputs[0], set()) if passed else set()
                kinds = kinds if passed else {node.kind}
                self._readers.setdefault(name, set()).update(kinds)

    def computed(self, name: str) -> bool:
        """True if a layer's weight looks like directions found in data."""
        value = self._tensors[name]
        return value.ndim >= 2 and not (
            self._readers.get(name, set()) & _RECURRENT
            or np.count_nonzero(value) <= max(value.shape)
            or not constant_values.orthogonal(value)
        )

    def adapted(self) -> list[str]:
        """Weights beside which a product of low rank is added."""
        found = []
        for node in self._nodes if self._weights else ():
            if node.kind != "Add":
                continue
            for one, other in (node.inputs, node.inputs[::-1]):
                low = self._low_rank(other)
                source, weight = self._products.get(one, ("", None))
                full = one if one in self._weights and not low else weight
                beside = one in self._weights or source == low
                if low is not None and full is not None and beside:
                    found.append(full)
        return list(dict.fromkeys(found))

    def _low_rank(self, name: str) -> str | None:
        """Value to which two thin matrices are applied; "" if they stand alone."""
        inner, second = self._products.get(name, ("", None))
        source, first = self._products.get(inner, ("", None))
        if inner in self._weights:
            source, first = "", inner
        if first is None or second is None:
            return None
        ends = [self._tensors[each].shape for each in (first, second)]
        thin = {*ends[0]} & {*ends[1]}
        if any(len(end) != 2 for end in ends) or not thin:
            return None
        return source if 2 * min(thin) <= min(max(end) for end in ends) else None

    def waved(self, entry: str) -> list[str]:
        """Weights by which the input is multiplied, and sines taken of that."""
        found = []
        for node in self._nodes:
            product = self._products.get(node.outputs[0])
            if node.kind not in ("Gemm", "MatMul") or product is None:
                continue
            source, weight = product
            kinds = self._readers.get(node.outputs[0], set())
            if weight and self._moved.get(source, source) == entry and kinds:
                found += [weight] if kinds <= _WAVES else []
        return found
