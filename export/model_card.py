"""A model card in Markdown: what a version is, what it is worth, and who says so.

Source: Mitchell et al. 2019, arXiv:1810.03993 (the sections, as far as a fleet knows
what belongs there).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starling.export.provenance import ProvenModel
from starling.protocol.learning.metrics import (
    ClassMetrics,
    LabelMetrics,
    Metrics,
    RegressionMetrics,
)
from starling.protocol.learning.task import version_digest

_CLASSES_SHOWN_MAX = 20
_BOARDS_SHOWN_MAX = 20


@dataclass(frozen=True)
class TrialOnData:
    """Trial of a version, and its data.

    Attributes:
      name: Of the data, for people.
      metrics: What it is worth there.
      loss: The mean.
    """

    name: str
    metrics: Metrics
    loss: float


def model_card(
    model: ProvenModel, contributors: Mapping[str, int], trial: TrialOnData | None
) -> str:
    """The card.

    Args:
      model: Proven.
      contributors: Name of a board to how many of its updates were made from earlier
        versions; empty if that is not known.
      trial: On data that somebody named; None without.
    """
    row, manifest = model.claim.row, model.opened.manifest
    parts = [
        f"# {_escaped(model.spec.name)}, version {row.version}",
        "",
        f"{_escaped(manifest.name)}: {manifest.dimension:,} parameters, trained by the "
        f"boards of the fleet {_escaped(model.claim.fleet)}; no example left it.",
        *_personal(model),
        *_section("What goes in and comes out", _ports(model)),
        *_section("Data", _data(model)),
        *_section("Metrics", _metrics(model, trial)),
        *_section("Privacy", _privacy(model)),
        *_section("Contributors", _contributors(model, contributors)),
        *_section("Proof", _proof(model)),
    ]
    return "\n".join(parts) + "\n"


EXACT_NOTE = (
    "A board's own model is trained on its exact records, and no epsilon covers it: "
    "its answers may tell of single records. Show neither to whom you would not show "
    "the records."
)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *lines]


def _personal(model: ProvenModel) -> list[str]:
    if model.claim.own is None:
        return []
    if model.is_boards_own:
        return ["", "**One board's own model**, which no chain proves."]
    return ["", "**With the own parameters of one board**, which no chain proves."]


def _ports(model: ProvenModel) -> list[str]:
    manifest = model.opened.manifest
    ports = manifest.source
    inputs = (
        [(port.name, port.dtype, port.shape) for port in ports.inputs]
        if ports
        else [("x", "float32", manifest.input.shape)]
    )
    lines = ["| | name | type | shape of one example |", "|---|---|---|---|"]
    lines += [
        f"| input | {_escaped(name)} | {dtype} | {_shape(shape)} |"
        for name, dtype, shape in inputs
    ]
    output = ports.output if ports else "output"
    lines.append(
        f"| output | {_escaped(output)} | float32 | {_shape(manifest.output.shape)} |"
    )
    law = manifest.preprocessing
    if (law.scale, law.offset) != ((1.0,), (0.0,)):
        lines += ["", f"Inputs are raw values times {_values(law.scale)} plus "]
        lines[-1] += f"{_values(law.offset)}."
    if manifest.table is not None:
        names = ", ".join(_escaped(column.name) for column in manifest.table.columns)
        wanted = ", ".join(_escaped(item.name) for item in manifest.table.targets)
        lines += ["", f"Columns: {names}. Target: {wanted}."]
    if manifest.classes:
        shown = [_escaped(name) for name in manifest.classes[:_CLASSES_SHOWN_MAX]]
        more = len(manifest.classes) - len(shown)
        lines += ["", f"Classes: {', '.join(shown)}{f' and {more} more' * bool(more)}."]
    return lines


def _data(model: ProvenModel) -> list[str]:
    pledges, origin = model.spec.pledges, model.opened.manifest.origin
    lines = [
        "Each board trained on its own examples, of which nobody else has seen any. A "
        f"board pledges between {pledges[0]:,} and {pledges[-1]:,} of them.",
    ]
    if origin:
        lines += ["", f"Weights that no board trained: {_escaped(origin)}."]
    return lines


def _metrics(model: ProvenModel, trial: TrialOnData | None) -> list[str]:
    row, lines = model.claim.row, []
    if row.loss is not None:
        accuracy = "" if row.accuracy is None else f"accuracy {row.accuracy:.2%}, "
        whose = " of the fleet's version" if model.is_boards_own else ""
        lines.append(
            f"On the coordinator's held-out examples{whose}: {accuracy}loss"
            f" {row.loss:.4g}."
        )
    if trial is not None:
        found = trial.metrics
        lines += ["", f"On {found.examples:,} examples of {_escaped(trial.name)}:", ""]
        lines += _table(found, trial.loss, model.opened.manifest.classes)
    return lines or ["Nothing was measured."]


def _table(found: Metrics, loss: float, classes: Sequence[str]) -> list[str]:
    rows = [("loss", f"{loss:.4g}")]
    recalls: Sequence[float | None] = ()
    match found:
        case ClassMetrics():
            rows += [("accuracy", f"{found.accuracy:.2%}")]
            rows += [("macro-F1", f"{found.macro_f1:.2%}")]
            recalls = found.recalls
        case LabelMetrics():
            rows += [("accuracy of single answers", f"{found.accuracy:.2%}")]
            rows += [("all answers right", f"{found.exact:.2%}")]
            rows += [("macro-F1", f"{found.macro_f1:.2%}")]
            recalls = found.recalls
        case RegressionMetrics():
            rows += [("MAE", f"{found.mae:.4g}"), ("RMSE", f"{found.rmse:.4g}")]
            rows += [("R²", f"{found.r2:.4f}")] if found.r2 is not None else []
    if not isinstance(found, RegressionMetrics) and found.roc_auc is not None:
        rows.append(("ROC-AUC", f"{found.roc_auc:.4f}"))
    for each, recall in list(enumerate(recalls))[:_CLASSES_SHOWN_MAX]:
        name = classes[each] if len(classes) == len(recalls) else str(each)
        shown = "no example" if recall is None else f"{recall:.2%}"
        rows.append((f"recall of {_escaped(name)}", shown))
    return [
        "| metric | value |",
        "|---|---|",
        *[f"| {a} | {b} |" for a, b in rows],
    ]


def _privacy(model: ProvenModel) -> list[str]:
    promised, paid = model.privacy, model.claim.row.epsilon
    if model.is_boards_own:
        return [f"**None.** {EXACT_NOTE}"]
    if promised.mechanism == "none":
        return [
            "**None.** Updates were not noised; the model may tell about single "
            "examples of the boards."
        ]
    known = (
        "what was paid stands in each board's ledger"
        if paid is None
        else f"by this version no board had paid more than {paid:.2f}"
    )
    # Where labels are drawn there is no Gaussian noise, and so no delta.
    if not promised.noise_multiplier:
        return [
            f"{promised.mechanism} hides {promised.unit} ({promised.adjacency}) with "
            f"epsilon {promised.epsilon:g} at delta 0, spent once: each label was "
            "drawn on its board before anything was computed from it, and the model "
            "was trained on what was drawn. Inputs, and which records there are, "
            "count as public and are not hidden; the model may tell about them.",
        ]
    return [
        f"{promised.mechanism} hides {promised.unit} ({promised.adjacency}) with "
        f"epsilon {promised.epsilon:g} at delta {promised.delta:g} over at most "
        f"{promised.releases} releases of a board; {known}.",
        "",
        f"The norm of what is hidden is clipped to {promised.clip:g}; the noise "
        f"multiplier is {promised.noise_multiplier:.3f}. Noise is drawn on each board, "
        "before anything leaves it.",
    ]


def _contributors(model: ProvenModel, counts: Mapping[str, int]) -> list[str]:
    buffer = model.spec.aggregation.buffer
    lines = [f"Each version is made of up to {buffer} updates of boards."]
    if not counts:
        return [
            *lines,
            "Whose they were is not known here; a coordinator's chain tells.",
        ]
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    lines += [
        # Only who executes the whole chain again knows which version took which.
        f"The blocks that are kept here hold {sum(counts.values()):,} updates of "
        f"{len(counts):,} boards that were made from earlier versions; one that came "
        "late may be in a later version than this:",
        "",
        "| board | updates |",
        "|---|---|",
        *[f"| {name} | {count} |" for name, count in ranked[:_BOARDS_SHOWN_MAX]],
    ]
    # A fleet may have thousands of boards; a card is read by people.
    more = len(ranked) - _BOARDS_SHOWN_MAX
    return lines if more <= 0 else [*lines, f"| {more:,} others | |"]


def _proof(model: ProvenModel) -> list[str]:
    claim, header = model.claim, model.claim.version.header
    signers = ", ".join(_escaped(name) for name in model.signers)
    crash = (
        " They were assumed not to lie (crash-only)."
        if model.fault_model.name == "CRASH"
        else ""
    )
    return [
        f"Checked before this card was written: a certificate of {signers} "
        f"({model.quorum} of {len(model.validators.members)} decide) for block "
        f"{header.height}, the version's digest in that block's state, and the digests "
        f"of its parameters and its bundle.{crash}",
        "",
        "| what | value |",
        "|---|---|",
        f"| chain | `{header.chain_id.hex()}` |",
        f"| task, version | {claim.row.task}, {claim.row.version} |",
        f"| block | `{header.block_id().hex()}` |",
        f"| version digest | `{version_digest(claim.digests).hex()}` |",
        f"| parameters | `{claim.digests.inference.hex()}` |",
        f"| bundle | `{model.spec.bundle.hex()}` |",
    ]


def _escaped(text: str) -> str:
    """Text of others that cannot leave its cell or line."""
    line = "".join(c if c.isprintable() else " " for c in text)
    # Names come from others' bundles and genesis files: they must not make links or end
    # a table.
    for mark in "\\`*_[]<>|#":
        line = line.replace(mark, f"\\{mark}")
    return line


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape) or "1"


def _values(values: tuple[float, ...]) -> str:
    shown = [f"{value:g}" for value in values[:_CLASSES_SHOWN_MAX]]
    more = "" if len(shown) == len(values) else ", ..."
    return shown[0] if len(values) == 1 else f"({', '.join(shown)}{more})"
