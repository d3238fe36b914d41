"""Report of a run: the document `report.json` and the summary table.

The document is an interface that others script against: keys are added, never renamed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from starling.fleet.monitor.run_snapshot import (
    CRASH_ONLY,
    DevicePoint,
    RunHeading,
    RunSnapshot,
    VersionPoint,
    bytes_text,
    clock_text,
)
from starling.fleet.report.model_metrics import ModelMetrics, metrics_text
from starling.fleet.report.pooled_baseline import PooledBaseline
from starling.fleet.report.receipt_audit import ReceiptAudit
from starling.protocol.learning.metrics import RegressionMetrics
from starling.protocol.wire.message_bodies import DevicePhase

FORMAT = 1
LEVELS = (0.9, 0.94)
"""Accuracies on held-out examples that a report times."""


@dataclass(frozen=True)
class RunOutcome:
    """End of a run.

    Attributes:
      stopped_because: `version reached`, `converged`, `paused`, `budgets spent` (and
        how many boards are in quarantine), `time limit` or `interrupted`.
      wall_s: From the command's start to its end.
      setup_s: Of that, until the task was published.
      verified: Whether the chain was checked offline from its first block; None if it
        was not tried.
      receipts: What boards hold, compared with the chains; None for virtual boards.
      metrics: Of the newest model; None if it could not be measured.
      backdoor_success: How often the pattern of a simulated backdoor has its way.
      baseline: The same model trained on all data together, if that was asked for.
    """

    stopped_because: str
    wall_s: float
    setup_s: float
    verified: bool | None = None
    receipts: ReceiptAudit | None = None
    metrics: ModelMetrics | None = None
    backdoor_success: float | None = None
    baseline: PooledBaseline | None = None

    @property
    def test_accuracy(self) -> float | None:
        """Of the newest model on examples that nobody saw before, if there are any."""
        test = self.metrics.test if self.metrics else None
        return None if isinstance(test, RegressionMetrics | None) else test.accuracy

    @property
    def sound(self) -> bool:
        """True if nothing was found that must never happen."""
        kept = self.receipts is None or self.receipts.hold
        return kept and self.verified is not False


@dataclass(frozen=True)
class FleetRun:
    """A run that is over.

    Attributes:
      heading: What did not change.
      last: The fleet at the end.
      outcome: How it ended.
      document: As in report.json.
    """

    heading: RunHeading
    last: RunSnapshot
    outcome: RunOutcome
    document: dict[str, Any]


def report(
    config: Mapping[str, Any],
    heading: RunHeading,
    last: RunSnapshot,
    outcome: RunOutcome,
) -> dict[str, Any]:
    """The document.

    Args:
      config: All that was asked for, with the seed.
      heading: What did not change.
      last: The fleet at the end.
      outcome: How it ended.
    """
    return {
        "format": FORMAT,
        "config": dict(config),
        "privacy": asdict(heading.privacy) if heading.privacy else None,
        "versions": [asdict(point) for point in last.versions],
        "devices": [_device(device) for device in last.devices],
        "attackers": _attackers(heading, last),
        "coordinators": [_listed(asdict(point)) for point in last.coordinators],
        "quorum": last.quorum,
        "chain": {"height": last.height, "verified": outcome.verified},
        "receipts": _listed(asdict(outcome.receipts)) if outcome.receipts else None,
        "traffic": {
            "bytes_up": last.bytes_up,
            "bytes_down": last.bytes_down,
            "devices": {
                device.id: {"up": device.bytes_up, "down": device.bytes_down}
                for device in last.devices
            },
        },
        "restarts": last.restarts,
        "pauses": [asdict(pause) for pause in last.pauses],
        "events": [asdict(event) for event in last.events],
        "accuracy": last.accuracy,
        "reached": _listed_points(first_reached(last)),
        "test_accuracy": outcome.test_accuracy,
        "metrics": outcome.metrics.document() if outcome.metrics else None,
        "backdoor_success": outcome.backdoor_success,
        "baseline": outcome.baseline.document() if outcome.baseline else None,
        "loss": last.losses[-1] if last.losses else None,
        "held_out": asdict(last.held_out) if last.held_out else None,
        "notes": list(heading.notes),
        "setup_s": outcome.setup_s,
        "wall_s": outcome.wall_s,
        "stopped_because": outcome.stopped_because,
    }


def _device(device: DevicePoint) -> dict[str, Any]:
    return {
        "id": device.id,
        "phase": DevicePhase(device.phase).name.lower(),
        "version": device.version,
        "updates_accepted": device.accepted,
        "updates_refused": dict(device.refused),
        "epsilon": device.epsilon,
        "trainings_failed": device.failed,
        "failure": device.failure,
    }


def _attackers(heading: RunHeading, last: RunSnapshot) -> list[dict[str, Any]]:
    """Boards that were told to attack, and how: known in a simulation only."""
    return [
        {
            "id": device.id,
            "number": device.number,
            "attack": attack.kind.value,
            "amount": attack.amount,
            "from_version": attack.from_version,
            "to_version": attack.to_version,
            "updates_accepted": device.accepted,
            "updates_refused": dict(device.refused),
        }
        for attack in heading.attacks
        for device in last.devices
        if attack.first <= device.number <= attack.last
    ]


def first_reached(last: RunSnapshot) -> dict[float, VersionPoint]:
    """The first version with each of `LEVELS`, of those that were reached."""
    found: dict[float, VersionPoint] = {}
    for point in last.versions:
        for level in LEVELS:
            if point.accuracy is not None and point.accuracy >= level:
                found.setdefault(level, point)
    return found


def _listed_points(points: Mapping[float, VersionPoint]) -> dict[str, dict[str, Any]]:
    return {
        f"{level:g}": {"version": point.version, "time_s": point.time_s}
        for level, point in sorted(points.items())
    }


def _listed(document: dict[str, Any]) -> dict[str, Any]:
    """The document as JSON gives it back: without tuples."""
    return {
        key: [list(each) if isinstance(each, tuple) else each for each in value]
        if isinstance(value, tuple)
        else value
        for key, value in document.items()
    }


def summary(heading: RunHeading, last: RunSnapshot, outcome: RunOutcome) -> Table:
    """The table printed at the end of a run."""
    table = Table(
        title=f"starling · {heading.title}",
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=False,
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in _summary_rows(heading, last, outcome):
        table.add_row(name, value)
    return table


def _summary_rows(
    heading: RunHeading, last: RunSnapshot, outcome: RunOutcome
) -> list[tuple[str, str]]:
    staleness = [
        p.staleness_mean for p in last.versions if p.staleness_mean is not None
    ]
    mean = sum(staleness) / len(staleness) if staleness else 0.0
    refused = ", ".join(f"{n} {reason.lower()}" for reason, n in last.refusals())
    rows = [
        ("stopped because", outcome.stopped_because),
        ("versions", f"{last.version} of {heading.until_version}"),
        (_goodness(last), _accuracy_text(last, outcome)),
        (
            "updates",
            f"{last.accepted} accepted, {last.updates_per_s:.1f} a second, mean "
            f"staleness {mean:.2f}; refused: {refused or 'none'}",
        ),
        ("privacy", _privacy_text(heading, last)),
        ("chain", _chain_text(heading, last, outcome)),
        (
            "traffic",
            f"{bytes_text(last.bytes_up)} up, {bytes_text(last.bytes_down)} down",
        ),
        (
            "time",
            f"{clock_text(outcome.wall_s)}, of which {outcome.setup_s:.1f} s set-up",
        ),
    ]
    reached = [
        f"{level:.0%} at version {point.version}, after {point.time_s:.1f} s"
        for level, point in sorted(first_reached(last).items())
    ]
    if reached:
        rows.insert(3, ("reached", "; ".join(reached)))
    rows[3:3] = [*_held_out_rows(last), *_metrics_rows(outcome)]
    if failed := [device for device in last.devices if device.failed]:
        rows.append(("training failed", _failed_text(failed)))
    if outcome.baseline is not None:
        rows.insert(4, ("baseline", outcome.baseline.text))
    rows += [("note", note) for note in heading.notes]
    rows += [("attack, simulated", attack.text) for attack in heading.attacks]
    if outcome.backdoor_success is not None:
        rows.append(("backdoor", f"works on {outcome.backdoor_success:.1%}"))
    if outcome.receipts is not None:
        rows.append(("receipts", outcome.receipts.text))
    if last.pauses:
        ends = [p.until_s or last.time_s for p in last.pauses]
        paused_s = sum(end - p.from_s for end, p in zip(ends, last.pauses, strict=True))
        rows.append(("paused", f"{paused_s:.0f} s; at last: {last.pauses[-1].why}"))
    named = sorted({name for point in last.coordinators for name in point.named})
    if named:
        rows.append(("outvoted", ", ".join(named)))
    if last.restarts:
        rows.append(("restarted", f"{last.restarts} processes that had died"))
    return rows


def _metrics_rows(outcome: RunOutcome) -> list[tuple[str, str]]:
    found = outcome.metrics
    if found is None:
        return []
    rows = [("metrics", metrics_text(found))]
    if found.personal is not None:
        rows.append(("personal models", found.personal.text))
    return rows


def _held_out_rows(last: RunSnapshot) -> list[tuple[str, str]]:
    """Row of what got worse on held-out examples, or made the task pause."""
    found = last.held_out
    return [("held out", found.text)] if found is not None and found.text else []


def _failed_text(failed: Sequence[DevicePoint]) -> str:
    """The number of boards that cannot train, the worst of them, and its words."""
    worst = max(failed, key=lambda device: device.failed)
    more = f", as of {len(failed) - 1} more boards" if len(failed) > 1 else ""
    times = f"{worst.failed} of board {worst.number} ({worst.id}){more}"
    return f"{times}; its last: {worst.failure}"


def _goodness(last: RunSnapshot) -> str:
    return "loss" if last.accuracy is None and last.losses else "accuracy"


def _accuracy_text(last: RunSnapshot, outcome: RunOutcome) -> str:
    if last.accuracy is None and not last.losses:
        return "not evaluated"
    if last.accuracy is None:
        first, now = last.losses[0], last.losses[-1]
        return f"{now:.4g} on held-out examples, from {first:.4g}"
    first = next(p.accuracy for p in last.versions if p.accuracy is not None)
    text = f"{last.accuracy:.1%} on held-out examples, from {first:.1%}"
    if outcome.test_accuracy is not None:
        text += f"; {outcome.test_accuracy:.2%} on test examples"
    return text


def _privacy_text(heading: RunHeading, last: RunSnapshot) -> str:
    terms = heading.privacy
    if terms is None:
        return "none: updates were not noised"
    return (
        f"epsilon {last.epsilon_max:.2f} of {terms.epsilon_cap:g} at most, delta "
        f"{terms.delta_text}, for {terms.unit} ({terms.adjacency}), "
        f"{terms.drawn_text}"
    )


def _chain_text(heading: RunHeading, last: RunSnapshot, outcome: RunOutcome) -> str:
    checked = {
        True: "verified offline from its first block",
        False: "NOT valid",
        None: "not checked",
    }
    text = f"height {last.height}, {checked[outcome.verified]}"
    return f"{text}; {CRASH_ONLY}" if heading.crash_only else text
