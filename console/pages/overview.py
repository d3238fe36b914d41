"""Overview: is it well, does it learn, and what goes wrong."""

from starling.broker.health_checks import Verdict
from starling.console.charts import Point, line_chart
from starling.console.markup import Html, element, link, table
from starling.console.pages.layout import (
    PageFrame,
    admission,
    card,
    duration,
    figures,
    optional,
    page,
    paid,
    size,
    trouble,
)
from starling.console.status_facts import StatusFacts, TaskFacts
from starling.coordinator.health.status_checks import check_status
from starling.protocol.errors import Reason
from starling.protocol.refusals import REFUSALS
from starling.protocol.wire.message_bodies import DevicePhase

_REASONS = {reason.name: reason for reason in Reason}


def overview(
    frame: PageFrame, updates_a_minute: float | None, newcomers: int = 0
) -> Html:
    """The page.

    Args:
      frame: Around it.
      updates_a_minute: Accepted ones; None while it is not known.
      newcomers: Who came with a token and wait for an operator.
    """
    facts = frame.facts
    if facts is None:
        return page(frame, "/", "Overview")
    newest = facts.tasks[-1] if facts.tasks else None
    return page(
        frame,
        "/",
        "Overview",
        _now(facts, newest, updates_a_minute),
        Html("") if newest is None else _learning(newest),
        element(
            "div",
            _health(facts),
            _boards(facts, admission(frame.operator, newcomers)),
            _finality(facts),
            _traffic(facts),
            class_="cards",
        ),
        _refusals(facts),
    )


def _now(facts: StatusFacts, task: TaskFacts | None, rate: float | None) -> Html:
    pairs: list[tuple[str, str | int]] = [("state", str(facts.document["state"]))]
    epsilon: float = facts.document["privacy"]["epsilon_max"]
    if task is not None:
        right = [each.accuracy for each in task.versions if each.accuracy is not None]
        lost = [each.loss for each in task.versions if each.loss is not None]
        pairs.append(("version", f"{task.head:,}"))
        if right:
            pairs.append(("accuracy", f"{right[-1]:.1%}"))
        if lost:
            pairs.append(("loss", f"{lost[-1]:.4g}"))
    pairs += [
        ("height", f"{facts.chain['height']:,}"),
        ("boards", f"{facts.chain['boards']:,}"),
        ("updates accepted", f"{facts.accepted:,}"),
        ("updates a minute", optional(rate, ",.0f")),
        ("epsilon paid at most", paid(epsilon, facts.accepted, ".3g")),
    ]
    return element("section", figures(pairs), class_="figures", aria_label="Now")


def _learning(task: TaskFacts) -> Html:
    parts = learning_charts(task)
    title = f"Task {task.number}: {task.name}"
    return card(title, element("div", *parts, class_="charts"))


def learning_charts(task: TaskFacts) -> list[Html]:
    """Accuracy and loss over versions and over time; only what is known."""
    charts = []
    begun_ms = task.versions[0].time_ms if task.versions else 0
    for name, values in (
        ("accuracy", [each.accuracy for each in task.versions]),
        ("loss", [each.loss for each in task.versions]),
    ):
        known = [
            (each, value)
            for each, value in zip(task.versions, values, strict=True)
            if value is not None
        ]
        if not known:
            if name == "loss":
                charts.append(line_chart("held-out loss", [], "version"))
            continue
        by_version: list[Point] = [(each.version, value) for each, value in known]
        by_time = [((each.time_ms - begun_ms) / 1000, value) for each, value in known]
        by_time.sort()
        charts.append(line_chart(f"held-out {name} by version", by_version, "version"))
        charts.append(line_chart(f"held-out {name} over time", by_time, "seconds"))
    return charts


def _health(facts: StatusFacts) -> Html:
    rows = check_status(dict(facts.document))
    bad = [row for row in rows if row.verdict is not Verdict.OK]
    if not bad:
        return card("Health", element("p", f"All {len(rows)} checks are well."))
    cells = [(row.name, trouble(row.found), row.fix) for row in bad]
    return card(
        "Health", table(("check", "found", "what to do"), [*cells], "Failed checks")
    )


def _boards(facts: StatusFacts, way: Html) -> Html:
    phases = facts.document["phases"]
    rows = [
        (link("/boards", phase.name.lower(), state=phase.name), f"{count:,}")
        for phase in DevicePhase
        if (count := phases.get(phase.name, 0))
    ]
    listed = table(("state", "boards"), [*rows], "Boards")
    return card("Boards by state", listed, way)


def _finality(facts: StatusFacts) -> Html:
    consensus, seconds = facts.consensus, facts.document["finality_s"]
    signed = ", ".join(consensus["signed_by"]) or "nobody yet"
    pairs: list[tuple[str, str | int]] = [
        ("median", "-" if seconds is None else duration(seconds)),
        ("last block", f"{duration(facts.block_age_s)} ago"),
        ("decide", f"{consensus['quorum']} of {consensus['validators']}"),
        ("signed the last block", signed),
    ]
    if consensus["convicted"] or consensus["outvoted"]:
        named = {**consensus["outvoted"], **consensus["convicted"]}
        pairs.append(("faults named", ", ".join(sorted(named))))
    return card("Finality", figures(pairs))


def _traffic(facts: StatusFacts) -> Html:
    traffic = facts.document["traffic"]
    pairs: list[tuple[str, str | int]] = [
        ("from boards", size(traffic["bytes_up"])),
        ("to boards", size(traffic["bytes_down"])),
        ("transactions waiting", f"{facts.chain['waiting']:,}"),
        ("broker", str(facts.document["broker"])),
    ]
    free = facts.document["disk"]["free_bytes"]
    if free is not None:
        pairs.append(("disk free", size(free)))
    return card("Traffic and room", figures(pairs))


def _refusals(facts: StatusFacts) -> Html:
    counts = sorted(facts.refused.items(), key=lambda entry: (-entry[1], entry[0]))
    if not counts:
        return card("Refusals", element("p", "None."))
    rows = [(reason, f"{count:,}", *_remedy(reason)) for reason, count in counts]
    heads = ("reason", "messages", "meaning", "what to do")
    return card("Refusals", table(heads, [*rows], "Refusals by reason"))


def _remedy(name: str) -> tuple[str, str]:
    reason = _REASONS.get(name)
    row = None if reason is None else REFUSALS.get(reason)
    return ("", "") if row is None else (row.meaning, row.remedy)
