"""Prepares a model's tensors for the reader and chooses which of them are trained.

The steps undo one another's work in no order but this: other precisions first, then
what exporters merged, then vectors, inputs and ties; what is a weight is found before
and after ties, since only weights are tied.
"""

import fnmatch
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from starling.compiler.errors import CompileError
from starling.compiler.ir.network import Array
from starling.compiler.parameters.constant_tensors import alike
from starling.compiler.parameters.exporter_fixups import (
    merged,
    parted,
    parted_by_module,
    plain_casts,
    written,
)
from starling.compiler.parameters.exporter_metadata import ExporterMetadata, origin
from starling.compiler.parameters.module_names import module_names
from starling.compiler.parameters.parameter_survey import (
    SurveyedModel,
    WeightSurvey,
    survey,
)
from starling.compiler.parameters.recurrent_weights import with_one_bias
from starling.compiler.parameters.weight_tying import tied
from starling.compiler.rewrite.batch.fixed_batch import fixed_batch, freed
from starling.compiler.rewrite.float32_conversion import single
from starling.compiler.rewrite.live_nodes import live, node_of, with_names
from starling.compiler.rewrite.model_inputs import inputs, joined, row
from starling.compiler.rewrite.stored_integers import real_numbers
from starling.compiler.rewrite.vector_products import with_matrices
from starling.protocol.errors import ConfigError, DecodeError, LimitError
from starling.protocol.model.parameter_layout import DIMENSION_MAX
from starling.protocol.privacy.clipping_functions import TENSORS_MAX

_TORCH, _SCIKIT_LEARN = "pytorch", "skl2onnx"
"""As files name who wrote them."""


@dataclass(frozen=True)
class WeightOptions:
    """Options of the caller for a model's weights.

    Attributes:
      train: Patterns of names; only these are trained. Empty trains every weight.
      tie: Groups of weights that are one.
      untie: Whether weights that an exporter may have merged are parted again.
      freeze: Patterns of names; these stay as they are. After `train`.
    """

    train: Sequence[str] = ()
    tie: Sequence[Sequence[str]] = ()
    untie: bool = False
    freeze: Sequence[str] = ()


@dataclass(frozen=True)
class WeightSelection:
    """A prepared model and its tensors.

    Attributes:
      proto: The model, with one input, in float32.
      tensors: Name to value of each initialiser.
      weights: Names of what may be trained.
      chosen: Names of what is trained.
      fixed: Name to why a tensor is no weight.
      aliases: Name of a weight to what the program calls it, where that differs.
      notes: Lines for whoever compiles the model.
      batch: How many examples the file was exported for; None if any will do.
    """

    proto: onnx.ModelProto
    tensors: Mapping[str, Array]
    weights: tuple[str, ...]
    chosen: tuple[str, ...]
    fixed: Mapping[str, str]
    aliases: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    batch: int | None = None


def choose(proto: onnx.ModelProto, asked: WeightOptions) -> WeightSelection:
    """Finds the weights of a model and those of them that are trained.

    Args:
      proto: A checked model of one output.
      asked: What the caller says.

    Raises:
      ConfigError: If a pattern or a name of a tie matches nothing.
    """
    proto, others = single(with_names(proto))
    notes = [f"the model is in {', '.join(others)}; boards train it in float32"]
    notes = notes if others else []
    # Before weights are looked for: a token that is written once for each example
    # becomes one row, and is trained as one.
    batch = fixed_batch(proto)
    if batch is not None:
        proto = freed(proto, batch)
        notes.append(f"exported for a batch of {batch}; compiled for any number")
    told = origin(proto)
    given = {item.name for item in proto.graph.initializer}
    proto, added = parted_by_module(parted(proto), told, every=asked.untie)
    if added:
        notes.append(
            "the exporter kept one weight for several modules; trained apart again: "
            f"{', '.join(added)[:300]}"
        )
    proto, stored = real_numbers(joined(plain_casts(proto)))
    proto = with_one_bias(with_matrices(proto))
    # Weights alone are tied: equal constants are common.
    first = _surveyed(proto, told, stored)
    apart = _fresh(proto, set(first.weights) - given)
    proto, lines = tied(proto, first.weights, told, asked.tie, apart)
    found = _surveyed(proto, told, stored) if lines else first
    shared = merged(proto, found.weights, told)
    if shared:
        lines += (
            f"one weight for several modules: {', '.join(shared)[:300]}. If the model "
            "does not share them, the exporter joined what had equal values: --untie "
            "parts them, as exporting with optimize=False does",
        )
    aliases = _aliases(proto, found.weights, told)
    chosen, fixed = _chosen(found, asked.train, aliases)
    if asked.freeze:
        kept = set(matching(chosen, asked.freeze, "--freeze", aliases))
        chosen = [name for name in chosen if name not in kept]
    trained = set(chosen)
    tensors = {item.name: _array(item) for item in proto.graph.initializer}
    every = {*found.weights, *chosen}
    weights = tuple([name for name in tensors if name in every])
    return WeightSelection(
        proto=proto,
        tensors=tensors,
        weights=weights,
        chosen=tuple([name for name in weights if name in trained]),
        fixed=fixed,
        aliases=aliases,
        notes=(*notes, *found.notes, *lines),
        batch=batch,
    )


def _fresh(proto: onnx.ModelProto, names: Collection[str]) -> set[str]:
    """Weights of one value throughout, of those that a rewrite has written.

    Fresh gains are equal by chance; other values hint at one weight, and are told.
    """
    items = [item for item in proto.graph.initializer if item.name in names]
    return {item.name for item in items if alike(_array(item))}


def matching(
    weights: Sequence[str],
    patterns: Sequence[str],
    option: str,
    aliases: Mapping[str, str] | None = None,
) -> list[str]:
    """The weights whose names match one of the patterns, as a shell knows them.

    Args:
      weights: Names.
      patterns: Each must match one of them.
      option: That the patterns came from, for messages.
      aliases: Other names of weights, which may match, too.

    Raises:
      ConfigError: If a pattern matches none.
    """
    known = {name: (name, (aliases or {}).get(name, name)) for name in weights}
    for pattern in patterns:
        # A pattern of no effect is a typing error that would train, or freeze, the
        # wrong weights.
        if not any(fnmatch.filter(names, pattern) for names in known.values()):
            shown = ", ".join([names[1] for names in known.values()])[:300]
            raise ConfigError(
                f"{pattern!r} matches none of the weights: {shown}", key=option
            )
    return [
        name
        for name, names in known.items()
        if any(fnmatch.fnmatchcase(item, p) for item in names for p in patterns)
    ]


def _surveyed(
    proto: onnx.ModelProto, told: ExporterMetadata | None, stored: Mapping[str, str]
) -> WeightSurvey:
    graph = proto.graph
    entry = inputs(proto)[0]
    sheet = SurveyedModel(
        nodes=live([node_of(item) for item in graph.node], {graph.output[0].name}),
        tensors={item.name: _array(item) for item in graph.initializer},
        entry=entry.name,
        row=row(entry),
        written=written(proto),
        named=proto.producer_name == _TORCH,
        scaled=proto.producer_name == _SCIKIT_LEARN,
        stored=stored,
    )
    return survey(sheet, told)


def _aliases(
    proto: onnx.ModelProto, weights: Sequence[str], told: ExporterMetadata | None
) -> dict[str, str]:
    """Names of the program for tensors that the exporter only numbered."""
    if told is None:
        nodes = [node_of(item) for item in proto.graph.node]
        taken = {item.name for item in proto.graph.initializer}
        torch = proto.producer_name == _TORCH
        return module_names(nodes, weights, taken) if torch else {}
    parents = {name: told.parents(name) for name in weights}
    return {
        name: "+".join(found) for name, found in parents.items() if found != (name,)
    }


def _chosen(
    found: WeightSurvey, train: Sequence[str], aliases: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Tensors to train, and the reason why others are not.

    A pattern that matches no weight may name a tensor that was taken for something
    else: the caller knows better.
    """
    if not train:
        return list(found.weights), dict(found.others)
    plain = [name for p in train for name in fnmatch.filter(found.others, p)]
    known = [*found.weights, *aliases.values()]
    extra = [
        name
        for pattern in train
        if not fnmatch.filter(known, pattern)
        for name in fnmatch.filter(plain, pattern)
    ]
    names = [*found.weights, *extra]
    chosen = matching(names, train, "--train", aliases)
    return chosen, {k: v for k, v in found.others.items() if k not in chosen}


def check(choice: WeightSelection) -> None:
    """Refuses a choice that cannot be trained.

    Raises:
      CompileError: If there is nothing to train, a weight is not finite or has a name
        that no manifest takes, or a value is called like one that was put in.
      LimitError: If more than `DIMENSION_MAX` values or `TENSORS_MAX` tensors would be
        trained.
    """
    size = sum([choice.tensors[name].size for name in choice.chosen])
    if size == 0:
        detail = (
            "the model has no weights that could be trained: float tensors of the file "
            "that a layer reads; export it with its weights inside"
        )
        if choice.fixed:
            shown = ", ".join([f"{name} ({why})" for name, why in choice.fixed.items()])
            detail += f", or let --train name one of {shown[:300]}"
        raise CompileError(detail)
    if size > DIMENSION_MAX:
        raise LimitError(f"{size} values to train, {DIMENSION_MAX} allowed")
    if len(choice.chosen) > TENSORS_MAX:
        raise LimitError(
            f"{len(choice.chosen)} tensors to train, {TENSORS_MAX} allowed"
        )
    for name in choice.chosen:
        if not np.isfinite(choice.tensors[name].astype(np.float32)).all():
            raise CompileError(
                f"the weight {name!r} holds what is no finite number; "
                "it has diverged: train the model anew, or leave it out with --freeze"
            )
    graph = choice.proto.graph
    made = Counter([name for node in graph.node for name in node.output])
    made.update([item.name for item in graph.initializer])
    # Names that rewrites put in ("x/shape") may be the model's own; a graph must have
    # each once.
    twice = [name for name, count in made.items() if count > 1]
    if twice:
        raise CompileError(f"the name {twice[0]!r} is taken; rename it in the model")


def _array(tensor: onnx.TensorProto) -> Array:
    try:
        return numpy_helper.to_array(tensor)
    # Unknown element types, and values of another number than the shape has.
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"model: the tensor {tensor.name!r} is malformed") from error
