"""Survey of a model's tensors: which are weights, and why the others are not.

A tensor is a weight if the file calls it a parameter; where the file says nothing, if
it stands where some rule expects a weight, directly or through functions of constants,
and neither its values nor its place say that it is something else (`constant_tensors`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from starling.compiler.autodiff.rules.rule_table import RULES, steps
from starling.compiler.ir.network import Array, NetworkNode
from starling.compiler.parameters import (
    constant_tensors,
    constant_values,
    survey_notes,
)
from starling.compiler.parameters.exporter_fixups import exporters_own
from starling.compiler.parameters.exporter_metadata import PARAMETER, ExporterMetadata
from starling.compiler.parameters.module_names import undeclared
from starling.compiler.parameters.recurrent_weights import RECURRENT, blank_states
from starling.compiler.rewrite.batch.batch_axis import REWRITTEN
from starling.compiler.rewrite.lowering import estimated

_STATISTICS = "statistics of a normalisation"
_NUMBER = "a number of the exporter's"
_BUFFER = "a buffer"
_SINGLE = (constant_tensors.NO_AXES, constant_tensors.LONE)
_ELSEWHERE = "not where a weight stands"
_LAYERS = frozenset(
    {
        "BatchNormalization",
        "Conv",
        "ConvTranspose",
        "GRU",
        "Gather",
        "Gemm",
        "GroupNormalization",
        "InstanceNormalization",
        "LSTM",
        "LayerNormalization",
        "MatMul",
        "RNN",
    }
)
"""Operators whose constants are weights even where a file writes them as nodes."""
_MULTIPLYING = frozenset(
    {"Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "PRelu", "RNN"}
)
"""Operators whose constants are weights even where they are one number: a layer of one
channel, a slope for all. A normalisation of one group has the exporter's own."""
_MOVERS = frozenset(
    {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)
_SIZED = frozenset({"Resize", "Upsample"})
"""Operators whose later inputs are sizes."""
_BLANK = "a first state of zeros"
_FACTORS = frozenset({"Div", "Mul"})
_OWNED = frozenset({"Pow", "Where"})
"""Operators of which every input may be a parameter that a module names."""
_JOINING = frozenset({"Concat", "Max", "Min", "Sum"})
"""Operators whose constants may be weights, but are often numbers, too."""


@dataclass(frozen=True)
class WeightSurvey:
    """The float tensors of a model.

    Attributes:
      weights: Names of what may be trained, in the file's order.
      others: Name to why it is none.
      notes: Lines for whoever compiles the model.
    """

    weights: tuple[str, ...]
    others: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SurveyedModel:
    """A model as the survey reads it.

    Attributes:
      nodes: Live ones, in order.
      tensors: Name to value of each initialiser.
      entry: Name of the input.
      row: Shape of one example.
      written: Names of tensors that the file writes as Constant nodes.
      named: Whether the exporter keeps a module's own names for its tensors.
      scaled: Whether arithmetic on the input itself is never a layer's.
      stored: Name of a tensor that the file keeps as whole numbers to their type.
    """

    nodes: Sequence[NetworkNode]
    tensors: Mapping[str, Array]
    entry: str
    row: tuple[int, ...]
    written: frozenset[str]
    named: bool
    scaled: bool = False
    stored: Mapping[str, str] = field(default_factory=dict)


def survey(sheet: SurveyedModel, told: ExporterMetadata | None) -> WeightSurvey:
    """Sorts the float tensors that a model reads.

    Args:
      sheet: The model.
      told: What the file says of its tensors, if it does.
    """
    direct = _places(sheet.nodes, every=told is not None)
    if sheet.named:
        # Exponents and choices hold numbers of the exporter's in most files; a module's
        # own name is what tells a parameter.
        owned = _places([n for n in sheet.nodes if n.kind in _OWNED], every=True)
        direct |= {name for name in owned if not constant_tensors.generated(name)}
    behind = _behind(sheet, direct)
    read = {
        name
        for node in sheet.nodes
        for name in (node.inputs[:1] if node.kind in _SIZED else node.inputs)
    }
    floats = [
        name
        for name, value in sheet.tensors.items()
        if name in read and value.dtype == np.float32 and value.size
    ]
    names = [name for name in floats if name in direct or name in behind]
    reasons = {name: _ELSEWHERE for name in floats if name not in names}
    # Later reasons win: they are more telling than the place alone.
    reasons |= _reasons(sheet, told, floats)
    weights = tuple([name for name in names if name not in reasons])
    if sheet.scaled and not any(_learned(name, sheet) for name in weights):
        # Steps around trees: an estimator has a matrix, or a name for what it learned.
        reasons |= dict.fromkeys(weights, _NUMBER)
        weights = ()
    notes: tuple[str, ...] = ()
    if told is not None:
        notes += survey_notes.untrained_parameter_lines(told, weights, sheet.tensors)
        held = [name for name in weights if told.kinds.get(name) == PARAMETER]
        layers = _at_layers(sheet)
        notes += survey_notes.often_frozen(sheet.nodes, sheet.tensors, held, layers)
    notes += survey_notes.kept_whole(
        {name: sheet.stored[name] for name in reasons if name in sheet.stored}
    )
    if told is None:
        numbers = [n for n, why in reasons.items() if why in _SINGLE]
        notes += (*_judged(reasons, sheet), *survey_notes.numbers(numbers))
        notes += survey_notes.fused(weights)
        notes += survey_notes.hints(sheet.nodes, sheet.tensors, weights, sheet.entry)
        notes += survey_notes.at_input(_at_input(sheet, weights))
        notes += _out_of_place(reasons, sheet)
        if sheet.named:
            notes += _numbered(sheet, weights)
            own = undeclared(sheet.nodes, weights, sheet.tensors)
            notes += survey_notes.undeclared(own, notes)
    return WeightSurvey(weights, reasons, notes)


def _learned(name: str, sheet: SurveyedModel) -> bool:
    return sheet.tensors[name].size > 1 or estimated(name)


def _places(nodes: Sequence[NetworkNode], *, every: bool) -> set[str]:
    """Inputs of nodes where a constant may be a weight."""
    found = set()
    for node in nodes:
        if node.kind not in RULES or steps(node):
            continue
        positions: Collection[int] = RULES[node.kind].trainable
        if every or node.kind in _JOINING:
            positions = range(len(node.inputs))
        found |= {node.inputs[at] for at in positions if at < len(node.inputs)}
    return found - {""}


def _behind(sheet: SurveyedModel, places: set[str]) -> set[str]:
    """Tensors from which what stands at a place is computed, without the input.

    Its shape may say where: a projection is cut in parts of the width of what it reads.
    """
    static = set(sheet.tensors)
    for node in sheet.nodes:
        known = node.kind in ("Constant", "Shape", "Size")
        if known or static.issuperset({*node.inputs} - {""}):
            static.update(node.outputs)
    found: set[str] = set()
    # From the layers back, so that one pass is enough: nodes stand in order.
    for node in reversed(sheet.nodes):
        wanted = {name for name in node.outputs if name in places or name in found}
        known = node.kind in REWRITTEN or (node.kind in RULES and not steps(node))
        if wanted and known and static.issuperset(wanted):
            found.update(node.inputs)
    return found - {""}


def _reasons(
    sheet: SurveyedModel, told: ExporterMetadata | None, names: Sequence[str]
) -> dict[str, str]:
    """Name to why it is no weight, of those that are none."""
    statistics = {
        name
        for node in sheet.nodes
        if node.kind == "BatchNormalization"
        for name in node.inputs[3:5]
    }
    judge = _Judge(sheet, told)
    found = {}
    for name in names:
        reason = _STATISTICS if name in statistics else judge.reason(name)
        if name in sheet.stored and reason != _BUFFER:
            reason = f"stored as {sheet.stored[name]}"
        if reason:
            found[name] = reason
    return found


class _Judge:
    """Says of one tensor after another why it is no weight."""

    def __init__(self, sheet: SurveyedModel, told: ExporterMetadata | None) -> None:
        self._sheet = sheet
        self._told = told
        self._layers = _at_layers(sheet)
        self._multiplying = _at_layers(sheet, _MULTIPLYING)
        around = constant_tensors.around_input(
            sheet.nodes,
            sheet.tensors,
            sheet.entry,
            sheet.row,
            constant_tensors.ARITHMETIC if sheet.scaled else constant_tensors.FIRST,
        )
        read = [n for n in sheet.nodes if n.kind in RECURRENT]
        self._recurrent = {name for node in read for name in node.inputs}
        floats = {k: v for k, v in sheet.tensors.items() if v.dtype == np.float32}
        turning = constant_values.rotations(floats) if told is None else ()
        self._placed = dict.fromkeys(turning, "a rotation")
        links = constant_tensors.links(sheet.nodes, floats)
        self._placed |= dict.fromkeys(links, "an adjacency matrix")
        self._placed |= dict.fromkeys(around, constant_tensors.AROUND_INPUT)
        blank = () if sheet.named else blank_states(sheet.nodes, sheet.tensors)
        self._placed |= dict.fromkeys(blank, _BLANK)
        others = [n for n in sheet.nodes if n.kind not in _FACTORS]
        self._factors = {name for node in sheet.nodes for name in node.inputs} - {
            name for node in others for name in node.inputs
        }
        others = [n for n in sheet.nodes if n.kind != "Add"]
        self._biases = {name for node in sheet.nodes for name in node.inputs} - {
            name for node in others for name in node.inputs
        }
        self._lone_biases = constant_tensors.lone_biases(
            sheet.nodes, sheet.tensors, _LAYERS
        )
        self._named_literals = constant_tensors.literals([*sheet.tensors])
        self._joined = _places(sheet.nodes, every=True) - _places(
            [node for node in sheet.nodes if node.kind not in _JOINING], every=False
        )
        # Some converters write all weights as nodes; then those are weights elsewhere.
        kept = bool(self._layers) and sheet.written.issuperset(self._layers)
        self._literals = frozenset() if kept else sheet.written

    def reason(self, name: str) -> str:
        """Empty for a weight."""
        value = self._sheet.tensors[name].astype(np.float32)
        by_value = constant_tensors.never(value)
        # A layer's weight that is infinite has diverged, and is refused by name later.
        if by_value and not (
            by_value == constant_tensors.INFINITE and name in self._layers
        ):
            return by_value
        if self._told is not None:
            return self._declared(name, self._told)
        if self._number(name, value):
            return _NUMBER
        if name in self._placed:
            return self._placed[name]
        by_name = ""
        single = value.size == 1 and value.ndim > 0 and name in self._multiplying
        if name not in self._lone_biases and not single:
            by_name = constant_tensors.by_name(name, value, named=self._sheet.named)
        if not by_name and self._lone(name, value):
            by_name = constant_tensors.LONE
        # A lasso's coefficients are zeros but for a few.
        learned = self._sheet.scaled and estimated(name)
        if by_name or learned or name in self._recurrent:
            return by_name
        bias = value.ndim == 1 and name in self._biases
        # Numbers in a row may be a bias that was started so.
        return constant_tensors.by_value(
            value, layer=bias or name in self._layers, factor=name in self._factors
        )

    def _number(self, name: str, value: Array) -> bool:
        """True if a tensor is a number of a program or its exporter."""
        lone = self._sheet.scaled and value.size == 1 and name in self._factors
        return (
            self._literal(name, value)
            or name in self._named_literals
            or (lone and not estimated(name))
            or exporters_own(name, value, self._sheet.nodes)
        )

    def _lone(self, name: str, value: Array) -> bool:
        """True for one number with axes that only multiplies, and that nobody names."""
        factor = value.size == 1 and name in self._factors and not self._sheet.named
        known = estimated(name) or constant_tensors.learned_by_name(name)
        return factor and not known

    def _literal(self, name: str, value: Array) -> bool:
        """True if a tensor is a literal number of the program and no weight."""
        if name not in self._sheet.written:
            own = self._sheet.named and not constant_tensors.generated(name)
            return name in self._joined and constant_tensors.alike(value) and not own
        filler = name in self._literals and constant_tensors.alike(value)
        placed = name in self._layers or name not in self._literals
        return value.size == 1 or filler or not placed

    @staticmethod
    def _declared(name: str, told: ExporterMetadata) -> str:
        kind = told.kinds.get(name)
        if kind is not None:
            return "" if kind == PARAMETER else _BUFFER
        return "" if told.parents(name) else _NUMBER


def _at_layers(
    sheet: SurveyedModel, layers: Collection[str] = _LAYERS
) -> frozenset[str]:
    """Tensors that layers read as their weights, as they are or turned round."""
    places = _places([n for n in sheet.nodes if n.kind in layers], every=False)
    for node in reversed(sheet.nodes):
        if node.kind in _MOVERS and places.intersection(node.outputs):
            places.add(node.inputs[0])
    return frozenset(places & {*sheet.tensors})


def _at_input(sheet: SurveyedModel, weights: Sequence[str]) -> list[str]:
    """Weights that scale or shift the input itself, but for fresh ones."""
    around = constant_tensors.around_input(
        sheet.nodes, sheet.tensors, sheet.entry, sheet.row, constant_tensors.ARITHMETIC
    )
    fresh = constant_tensors.alike
    return [n for n in weights if n in around and not fresh(sheet.tensors[n])]


def _judged(reasons: Mapping[str, str], sheet: SurveyedModel) -> tuple[str, ...]:
    """A line for what values, places and names say, as the file does not."""
    certain = (_NUMBER, _STATISTICS, _ELSEWHERE, *_SINGLE)
    shown = [
        f"{name} ({why})"
        for name, why in reasons.items()
        if (why not in certain and name not in sheet.stored)
        or (name in sheet.written and not constant_tensors.alike(sheet.tensors[name]))
    ]
    if not shown:
        return ()
    return (
        f"taken for constants: {', '.join(shown)[:400]}; --train trains what it names",
    )


def _out_of_place(reasons: Mapping[str, str], sheet: SurveyedModel) -> tuple[str, ...]:
    """A line for tensors with names of the model that no rule could train."""
    names = [
        name
        for name, why in reasons.items()
        if why == _ELSEWHERE
        and not constant_tensors.generated(name)
        and (sheet.named or sheet.tensors[name].size > 1)
    ]
    if not names:
        return ()
    return (
        f"not trained, as no gradient is known where they stand: "
        f"{', '.join(names)[:300]}",
    )


def _numbered(sheet: SurveyedModel, weights: Sequence[str]) -> tuple[str, ...]:
    """A line for what is trained under a number, away from layers."""
    layers = _at_layers(sheet, _LAYERS | _MULTIPLYING)
    names = [
        name
        for name in weights
        if constant_tensors.generated(name) and name not in layers
    ]
    if not names:
        return ()
    return (
        f"trained, though the model has no name for them: {', '.join(names)[:300]}; "
        "where they are no parameters, leave them out with --freeze",
    )
