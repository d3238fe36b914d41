"""Makes one weight again of what an exporter wrote as several.

A layer that uses another one's weight turned round, reshaped or squared is written
with a second tensor, computed in advance, that would be trained apart. Where values say
plainly what that tensor is, it is computed from the first one in the graph again;
copies of equal layers look the same as one layer, so these are told and left apart.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from starling.compiler.ir.network import Array
from starling.compiler.parameters.constant_tensors import alike, generated
from starling.compiler.parameters.exporter_metadata import ExporterMetadata
from starling.compiler.parameters.weight_blocks import parts
from starling.compiler.parameters.weight_reductions import reductions
from starling.compiler.rewrite.frontends.node_writer import default_opset
from starling.protocol.errors import ConfigError

_Floats = NDArray[np.float32]
_SIZE_MIN = 4
"""Fewer equal values may be chance."""
_AXES_FED, _AXES_FED_SUM = 18, 13
"""Operator sets from which reductions read their axes as an input."""
_RELATIVE, _ABSOLUTE = 1e-5, 1e-7
"""How far a value may be off what an exporter computed in its own precision."""
_FUNCTIONS: Mapping[str, Callable[[_Floats], _Floats]] = {
    "Abs": np.abs,
    "Exp": np.exp,
    "Mul": np.square,
    "Neg": np.negative,
    "Tanh": np.tanh,
}


@dataclass(frozen=True)
class TiedWeight:
    """One tensor that is made of another.

    Attributes:
      name: Of the tensor.
      source: Of the weight that it is made of.
      nodes: That make it.
      tensors: That these read beside the weight.
    """

    name: str
    source: str
    nodes: tuple[onnx.NodeProto, ...]
    tensors: tuple[onnx.TensorProto, ...] = ()


def tied(
    proto: onnx.ModelProto,
    weights: Sequence[str],
    told: ExporterMetadata | None,
    wanted: Sequence[Sequence[str]] = (),
    parted: Collection[str] = (),
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with its weights tied, and a line for each that was or might be.

    Args:
      proto: A checked model, which is not changed.
      weights: Names of initialisers that would be trained.
      told: What the file says of its tensors.
      wanted: Groups of weights that are one, from the caller.
      parted: Names of weights that are known to be apart.

    Raises:
      ConfigError: If a group names what is no weight, or what holds other values.
    """
    held = set(weights)
    tensors = {
        item.name: numpy_helper.to_array(item)
        for item in proto.graph.initializer
        if item.name in held
    }
    found: dict[str, TiedWeight] = {}
    for group in wanted:
        for tie in _asked(group, tensors):
            found[tie.name] = tie
    made = (*_again(tensors, told), *_turned(tensors), *_computed(tensors, told))
    if told is None:
        made += tuple(_reduced(tensors, default_opset(proto)))
    for tie in made:
        # Nothing is made of what is itself made: nodes would then have to stand in the
        # order of their chain.
        if tie.name not in found and tie.source not in found:
            found[tie.name] = tie
    lines = tuple(
        [
            f"{tie.name} is made of {tie.source} and trained as one with it"
            for tie in found.values()
        ]
    )
    known = {*found, *parted}
    apart = (*_twins(tensors, known), *_rearranged(tensors, known))
    apart += tuple(_within({k: v for k, v in tensors.items() if k not in known}))
    return _without(proto, found), (*lines, *apart)


def _asked(group: Sequence[str], tensors: Mapping[str, Array]) -> Iterable[TiedWeight]:
    source = group[0]
    for name in group:
        if name not in tensors:
            known = ", ".join(tensors)[:300]
            raise ConfigError(f"{name!r} is none of the weights: {known}", key="--tie")
    for name in group[1:]:
        made = _like(name, source, tensors)
        if made is None:
            raise ConfigError(
                f"{name!r} holds other values than {source!r}", key="--tie"
            )
        yield made


def _like(name: str, source: str, tensors: Mapping[str, Array]) -> TiedWeight | None:
    """One tensor as a copy, the transpose or another shape of the other."""
    value, model = tensors[name], tensors[source]
    if value.size != model.size:
        return None
    if np.array_equal(value, model):
        return TiedWeight(name, source, (_node("Identity", [source], name),))
    if value.ndim == 2 and np.array_equal(value, model.T):
        return TiedWeight(
            name, source, (_node("Transpose", [source], name, perm=[1, 0]),)
        )
    if np.array_equal(value.reshape(-1), model.reshape(-1)):
        return _reshaped(name, source, value.shape)
    return None


def _reshaped(name: str, source: str, shape: Sequence[int]) -> TiedWeight:
    target = numpy_helper.from_array(np.array(shape, np.int64), f"{name}/shape")
    node = _node("Reshape", [source, target.name], name)
    return TiedWeight(name, source, (node,), (target,))


def _is_distinctive(value: Array) -> bool:
    """True if equal values cannot be an accident of initialisation."""
    # Fresh gains of 1 and biases of 0 agree with each other by chance.
    return value.size >= _SIZE_MIN and not alike(value)


def _again(
    tensors: Mapping[str, Array], told: ExporterMetadata | None
) -> Iterable[TiedWeight]:
    """Copies of a tensor that the file says were made of the same parameters.

    PyTorch's newer exporter lays the weights of a recurrent layer out once for each
    call of it.
    """
    if told is None:
        return
    seen: dict[tuple[object, ...], str] = {}
    for name, value in tensors.items():
        parents = told.parents(name)
        if parents and _is_distinctive(value):
            source = seen.setdefault((parents, value.shape, value.tobytes()), name)
            if source != name:
                yield TiedWeight(name, source, (_node("Identity", [source], name),))


def _turned(tensors: Mapping[str, Array]) -> Iterable[TiedWeight]:
    """Transposes and other shapes of a weight; never mere copies."""
    seen: dict[tuple[int, bytes], str] = {}
    for name, value in tensors.items():
        if not _is_distinctive(value):
            continue
        keys = [value.tobytes()]
        if value.ndim == 2:
            keys.append(value.T.tobytes())
        earlier = [seen.get((value.size, key)) for key in keys]
        source = next((item for item in earlier if item is not None), None)
        made = source and _like(name, source, tensors)
        # Layers that were copied from one another are equal, and yet are several
        # weights.
        if made and made.nodes[0].op_type != "Identity":
            yield made
            continue
        seen.setdefault((value.size, keys[0]), name)


def _computed(
    tensors: Mapping[str, Array], told: ExporterMetadata | None
) -> Iterable[TiedWeight]:
    """Functions of a weight that is in the file, too.

    Where the file does not say what a tensor was made of, values that are no accident
    do; but of two that are each other's negative either may be the weight.
    """
    shapes: dict[tuple[int, ...], list[str]] = {}
    for name, value in tensors.items():
        shapes.setdefault(value.shape, []).append(name)
    made = set[str]()
    first: dict[tuple[int, ...], _Floats] = {}
    for name, value in tensors.items():
        sources: Collection[str] = ()
        if told is not None:
            parents = told.parents(name)
            sources = set(shapes[value.shape]) & {*parents} if len(parents) == 1 else ()
        elif _is_distinctive(value):
            names = shapes[value.shape]
            if value.shape not in first:
                given = np.stack([_few(tensors[each]) for each in names])
                made_of = [of(given) for of in _FUNCTIONS.values()]
                first[value.shape] = np.stack(made_of, axis=1)
            near = _rows(first[value.shape], _few(value))
            sources = [names[place] for place in near]
        for source in sources:
            kind = "" if source in {name, *made} else _function(tensors[source], value)
            # Of -w and w the file does not say which one the model has.
            if kind and (told is not None or kind != "Neg"):
                inputs = [source] * (2 if kind == "Mul" else 1)
                yield TiedWeight(name, source, (_node(kind, inputs, name),))
                made.add(name)
                break


def _reduced(tensors: Mapping[str, Array], version: int) -> Iterable[TiedWeight]:
    """Norms and sums of a weight, of those that the model has no name for."""
    numbered = {name: value for name, value in tensors.items() if generated(name)}
    for name, source, kind, axes in reductions(numbered, tensors):
        shape = np.array(tensors[name].shape, np.int64)
        given = [numpy_helper.from_array(shape, f"{name}/shape")]
        inputs, more = [source], {"axes": list(axes)}
        if version >= (_AXES_FED_SUM if kind == "ReduceSum" else _AXES_FED):
            places = np.array(axes, np.int64)
            given.append(numpy_helper.from_array(places, f"{name}/axes"))
            inputs, more = [source, given[-1].name], {}
        inner = f"{name}/line"
        nodes = (
            _node(kind, inputs, inner, keepdims=0, **more),
            _node("Reshape", [inner, given[0].name], name),
        )
        yield TiedWeight(name, source, nodes, tuple(given))


def _function(source: Array, value: Array) -> str:
    """The operator that makes one tensor of another; empty for a copy or none."""
    given = source.astype(np.float32)
    for kind, function in _FUNCTIONS.items():
        if _close(function(_few(source)), _few(value)) and _close(
            function(given), value
        ):
            return "" if np.array_equal(source, value) else kind
    return ""


def _few(value: Array) -> _Floats:
    """(k,) float32: first values of a tensor, which tell most pairs apart."""
    return value.reshape(-1)[:_SIZE_MIN].astype(np.float32)


def _rows(table: _Floats, values: _Floats) -> NDArray[np.intp]:
    """Rows of a table (n, functions, k) of which a function is close to k values."""
    # Hardly any row outlives its first value.
    near = np.isclose(table[:, :, 0], values[0], _RELATIVE, _ABSOLUTE)
    places = np.flatnonzero(np.any(near, axis=1))
    whole = np.isclose(table[places], values, _RELATIVE, _ABSOLUTE)
    return places[np.any(np.all(whole, axis=2), axis=1)]


def _close(left: _Floats, right: Array) -> bool:
    return bool(np.allclose(left, right.astype(np.float32), _RELATIVE, _ABSOLUTE))


def _twins(tensors: Mapping[str, Array], known: Collection[str]) -> Iterable[str]:
    """A line for weights of equal values that stay apart, if there are any."""
    groups: dict[tuple[tuple[int, ...], bytes], list[str]] = {}
    for name, value in tensors.items():
        if name not in known and _is_distinctive(value):
            groups.setdefault((value.shape, value.tobytes()), []).append(name)
    equal = [",".join(names) for names in groups.values() if len(names) > 1]
    if equal:
        yield (
            f"equal weights, trained apart: {'; '.join(equal)[:400]}; where the model "
            f"has one weight, say --tie {equal[0][:200]}"
        )


class _Spreads:
    """Sorted magnitudes of tensors of one size, to be found again."""

    def __init__(self, count: int, first: _Floats) -> None:
        """None is held yet.

        Args:
          count: How many there may be.
          first: (size,), of any of them.
        """
        self._places = np.linspace(0, len(first) - 1, 2 * _SIZE_MIN).astype(np.int64)
        self._probes = np.empty((count, len(self._places)), np.float32)
        self._held: list[tuple[str, _Floats]] = []

    def add(self, name: str, spread: _Floats) -> None:
        """Holds one more."""
        self._probes[len(self._held)] = spread[self._places]
        self._held.append((name, spread))

    def like(self, spread: _Floats) -> Iterable[str]:
        """Names of those that are close to one, in the order in which they came."""
        # Closeness is measured against the earlier one, as everywhere here.
        gap = np.abs(spread[self._places] - self._probes[: len(self._held)])
        allowed = _ABSOLUTE + _RELATIVE * self._probes[: len(self._held)]
        for place in np.flatnonzero((gap <= allowed).all(1)):
            name, earlier = self._held[place]
            if _close(spread, earlier):
                yield name


def _rearranged(tensors: Mapping[str, Array], known: Collection[str]) -> Iterable[str]:
    """A line for weights that are others turned in space, negated or scaled."""
    seen: dict[int, _Spreads] = {}
    pairs = []
    counts = Counter([value.size for value in tensors.values()])
    for name, value in tensors.items():
        if name in known or counts[value.size] == 1 or not _is_distinctive(value):
            continue
        sizes = np.abs(value.astype(np.float32)).reshape(-1)
        largest = sizes.max()
        if not np.isfinite(largest) or largest == 0.0:
            continue
        spread = np.sort(sizes / largest)
        before = seen.setdefault(value.size, _Spreads(counts[value.size], spread))
        for other in before.like(spread):
            same = value.shape == tensors[other].shape
            if not (same and np.array_equal(value, tensors[other])):
                pairs.append(f"{name} like {other}")
                break
        before.add(name, spread)
    if pairs:
        yield (
            f"weights of the same values in another order, sign or scale, trained "
            f"apart: {', '.join(pairs)[:400]}; where the model has one weight, compute "
            "the one from the other in it"
        )


def _within(tensors: Mapping[str, Array]) -> Iterable[str]:
    """A line for weights that are a part of others, if there are any."""
    pairs = [f"{name} in {model}" for name, model in parts(tensors)]
    if pairs:
        yield (
            f"weights whose values are a part of another, trained apart: "
            f"{', '.join(pairs)[:400]}; where the model has one weight, take the part "
            "of it in the model (export with optimize=False)"
        )


def _node(
    kind: str,
    inputs: Sequence[str],
    name: str,
    **more: Any,  # noqa: ANN401 - as ONNX takes them
) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [name], f"{name}/tied", **more)


def _without(
    proto: onnx.ModelProto, found: Mapping[str, TiedWeight]
) -> onnx.ModelProto:
    if not found:
        return proto
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    tensors = [item for item in proto.graph.initializer if item.name not in found]
    ties = list(found.values())
    nodes = [node for tie in ties for node in tie.nodes]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensors)
    graph.initializer.extend([tensor for tie in ties for tensor in tie.tensors])
    # What makes a tensor stands before all that reads it.
    graph.node.extend([*nodes, *proto.graph.node])
    kept = [item for item in graph.input if item.name not in found]
    del graph.input[:]
    graph.input.extend(kept)
    return made
