"""Metrics of a run's last model, overall and for each board.

A simulated board's examples are in this process anyway; what a real board measures
never leaves it, so that only simulations have a spread over boards.
"""

from collections.abc import Iterable, Sequence
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
    """

    held_out: Metrics
    test: Metrics | None = None
    boards: dict[str, Spread] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As in report.json."""
        return {
            "held_out": self.held_out.document(),
            "test": None if self.test is None else self.test.document(),
            "boards": {name: asdict(found) for name, found in self.boards.items()},
        }


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
    text = f"{_numbers(found)} on {where} examples"
    for name in SPREAD_OVER[type(found)][:1]:
        if name in metrics.boards:
            text += f"; {name} of boards {_range(metrics.boards[name], name)}"
    return text


def _numbers(found: Metrics) -> str:
    if isinstance(found, RegressionMetrics):
        r2 = "" if found.r2 is None else f", R² {found.r2:.3f}"
        return f"MAE {found.mae:.4g}, RMSE {found.rmse:.4g}{r2}"
    text = f"macro-F1 {found.macro_f1:.1%}{_lowest(found.recalls)}"
    return text if found.roc_auc is None else f"{text}, ROC-AUC {found.roc_auc:.3f}"


def _lowest(recalls: Sequence[float | None]) -> str:
    known = [
        (recall, each) for each, recall in enumerate(recalls) if recall is not None
    ]
    if not known:
        return ""
    recall, each = min(known)
    return f", lowest recall {recall:.1%} (class {each})"


def _range(found: Spread, name: str) -> str:
    form = "{:.4g}" if name == "mae" else "{:.1%}"
    least, median, most = [
        form.format(value) for value in (found.least, found.median, found.most)
    ]
    return f"{least} to {most}, median {median}"
