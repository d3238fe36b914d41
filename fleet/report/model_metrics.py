"""Metrics of a run's last model, overall and for each board.

A simulated board's examples are in this process anyway; what a real board measures
never leaves it, so that only simulations have a spread over boards.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from starling.protocol.learning.metrics import (
    ClassMetrics,
    LabelMetrics,
    Metrics,
    RegressionMetrics,
    Spread,
    spread,
)

SPREAD_OVER: dict[type[Metrics], tuple[str, ...]] = {
    ClassMetrics: ("accuracy", "macro_f1"),
    LabelMetrics: ("accuracy", "macro_f1"),
    RegressionMetrics: ("mae", "rmse"),
}
"""Which numbers of a board are compared with those of others."""


@dataclass(frozen=True)
class ModelMetrics:
    """Of the newest version.

    Attributes:
      held_out: On what was held out of the training data.
      test: On examples that nobody saw before; None where there are none.
      boards: Name of a number to its spread over the boards' own examples.
      personal: Of the boards' own models; None where they have none.
      labels: Names of the classes; empty where they are known by number.
    """

    held_out: Metrics
    test: Metrics | None = None
    boards: dict[str, Spread] = field(default_factory=dict)
    personal: "PersonalMetrics | None" = None
    labels: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As in report.json."""
        return {
            "held_out": self.held_out.document(),
            "test": None if self.test is None else self.test.document(),
            "boards": _spreads(self.boards),
            "personal": None if self.personal is None else self.personal.document(),
        }


@dataclass(frozen=True)
class PersonalMetrics:
    """Models that boards trained for themselves, on examples that they kept aside.

    Attributes:
      own: Name of a number to its spread over boards, each with its own model.
      fleets: The same of the fleet's newest version, on the same examples.
    """

    own: dict[str, Spread]
    fleets: dict[str, Spread]

    def document(self) -> dict[str, Any]:
        """As in report.json."""
        return {"own": _spreads(self.own), "fleets": _spreads(self.fleets)}

    @property
    def text(self) -> str:
        """For the summary."""
        (name, own), *_ = self.own.items()
        form, fleets = _form(name), self.fleets[name]
        return (
            f"{name} {form.format(own.mean)} on unseen examples of {own.count} boards "
            f"({_range(own, name)}); the fleet's {form.format(fleets.mean)} "
            f"({_range(fleets, name)})"
        )


def _spreads(found: Mapping[str, Spread]) -> dict[str, Any]:
    return {name: asdict(each) for name, each in found.items()}


def over_boards(boards: Iterable[Metrics]) -> dict[str, Spread]:
    """The spread of each number over boards; empty without boards."""
    found = list(boards)
    if not found:
        return {}
    spreads = {
        name: spread([getattr(each, name) for each in found])
        for name in SPREAD_OVER[type(found[0])]
    }
    return {name: each for name, each in spreads.items() if each is not None}


def metrics_text(metrics: ModelMetrics) -> str:
    """A line for the summary."""
    found = metrics.test or metrics.held_out
    where = "held-out" if metrics.test is None else "test"
    text = f"{_numbers(found, metrics.labels)} on {where} examples"
    for name in SPREAD_OVER[type(found)][:1]:
        if name in metrics.boards:
            text += f"; {name} of boards {_range(metrics.boards[name], name)}"
    return text


def _numbers(found: Metrics, labels: Sequence[str]) -> str:
    if isinstance(found, RegressionMetrics):
        r2 = "" if found.r2 is None else f", R² {found.r2:.3f}"
        return f"MAE {found.mae:.4g}, RMSE {found.rmse:.4g}{r2}"
    text = f"macro-F1 {found.macro_f1:.1%}{_lowest(found.recalls, labels)}"
    return text if found.roc_auc is None else f"{text}, ROC-AUC {found.roc_auc:.3f}"


def _lowest(recalls: Sequence[float | None], labels: Sequence[str]) -> str:
    known = [
        (recall, each) for each, recall in enumerate(recalls) if recall is not None
    ]
    if not known:
        return ""
    recall, each = min(known)
    name = labels[each] if each < len(labels) else str(each)
    shown = f"class {each}" if name == str(each) else name
    return f", lowest recall {recall:.1%} ({shown})"


def _form(name: str) -> str:
    return "{:.4g}" if name == "mae" else "{:.1%}"


def _range(found: Spread, name: str) -> str:
    form = _form(name)
    least, median, most = [
        form.format(value) for value in (found.least, found.median, found.most)
    ]
    return f"{least} to {most}, median {median}"
