"""Metrics of a coordinator in Prometheus' text format.

Every metric stands once in `METRICS`, with its type, its labels and what it means; the
alert rules and the dashboard in packaging/ use these names. Labels take few values: a
reason or phase that the protocol does not name is `other`, and tasks are the newest.

Source: prometheus.io/docs/instrumenting/exposition_formats (0.0.4) and
prometheus.io/docs/practices/naming.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from starling.console.status_facts import StatusFacts, TaskFacts
from starling.protocol.errors import Reason
from starling.protocol.wire.message_bodies import DevicePhase

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TASKS_MAX = 32
"""Newest tasks that have metrics of their own."""
OTHER = "other"
_REASONS = frozenset(reason.name for reason in Reason)
_PHASES = tuple(phase.name for phase in DevicePhase)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
      name: With unit and, for counters, `_total`.
      kind: `gauge` or `counter`.
      meaning: One line.
      labels: Their names.
    """

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(f"starling_{name}", "gauge", meaning, labels)


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(f"starling_{name}_total", "counter", meaning, labels)


_ROWS = (
    _gauge("up", "1 if the coordinator wrote its status lately and runs."),
    _gauge("build_info", "Always 1; the release is a label.", "version"),
    _gauge("start_time_seconds", "Unix time of the coordinator's start."),
    _gauge("status_age_seconds", "Time since the coordinator wrote its status."),
    _gauge("chain_height_blocks", "Height of the chain here."),
    _gauge("chain_block_age_seconds", "Time since the last block."),
    _gauge("chain_stalled", "1 if the chain stands still."),
    _gauge("chain_finality_seconds", "Median from arrival to certificate."),
    _gauge("chain_pending_transactions", "Transactions that wait for a block."),
    _gauge("consensus_validators", "Validators of the next block."),
    _gauge("consensus_quorum_validators", "Validators that decide together."),
    _gauge("consensus_signers", "Validators whose votes certify the last block."),
    _gauge("consensus_missing_validators", "Validators that are not heard."),
    _gauge("consensus_convicted_validators", "Validators that provably lied."),
    _gauge("consensus_forked", "1 if a fork is proven."),
    _counter("consensus_extra_rounds", "Rounds beyond the first, all heights."),
    _counter(
        "consensus_outvoted_versions", "Versions that a validator made otherwise."
    ),
    _gauge("boards", "Boards that were met here, by state.", "state"),
    _gauge("boards_registered", "Boards that the chain registered."),
    _counter("updates_accepted", "Updates that were taken."),
    _counter("refusals", "Messages that were refused, by reason.", "reason"),
    _counter("refusals_passing", "Refusals that pass by themselves.", "reason"),
    _counter("received_bytes", "Bytes that boards sent."),
    _counter("sent_bytes", "Bytes that boards were sent."),
    _counter("messages_ignored", "Messages of boards beyond their allowance."),
    _counter("messages_dropped", "Messages without room on their way out."),
    _gauge("wanted_wholes", "Wholes that are sought from other coordinators."),
    _gauge("privacy_epsilon_max", "Largest epsilon that a board's data have paid."),
    _gauge("disk_free_bytes", "Free space where the coordinator writes."),
    _gauge("broker_connected", "1 if every broker is connected."),
    _gauge("task_version", "Newest final version.", "task"),
    _gauge("task_accuracy_ratio", "Newest known accuracy on held-out data.", "task"),
    _gauge("task_loss", "Newest known loss on held-out data.", "task"),
    _gauge("task_staleness_versions", "Mean of the newest version's updates.", "task"),
    _gauge("task_pending_updates", "Updates that wait for a version.", "task"),
    _gauge("task_buffer_updates", "Updates that make a version.", "task"),
    _gauge("task_leases", "Boards that train now.", "task"),
    _gauge("task_waiting_boards", "Boards that ask for a lease.", "task"),
    _counter("console_responses", "Answers of the console, by status.", "code"),
    _counter("console_failed_sign_ins", "Wrong tokens that were tried."),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ROWS}
"""By name, in the order in which they are written."""

Sample = tuple[str, Mapping[str, str], float | None]


def exposition(
    facts: StatusFacts | None,
    release: str,
    responses: Mapping[int, int],
    failed_sign_ins: int,
) -> str:
    """The whole text.

    Args:
      facts: None if there is no status to be read; then `starling_up` is 0.
      release: Version of this program.
      responses: Number of answers, by HTTP status.
      failed_sign_ins: Number of wrong tokens.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in METRICS}
    failed = "starling_console_failed_sign_ins_total"
    samples[failed].append((failed, {}, failed_sign_ins))
    for sample in _samples(facts, release, responses):
        samples[f"starling_{sample[0]}"].append(sample)
    lines = []
    for name, metric in METRICS.items():
        known = [(lab, value) for _, lab, value in samples[name] if value is not None]
        if not known:
            continue
        lines.append(f"# HELP {name} {metric.meaning}")
        lines.append(f"# TYPE {name} {metric.kind}")
        for labels, value in known:
            assert tuple(labels) == metric.labels, name
            lines.append(f"{name}{_labels(labels)} {_number(value)}")
    return "\n".join(lines) + "\n"


def escaped_label(value: str) -> str:
    r"""A label's value: backslash, quote and line feed become `\\`, `\"` and `\n`."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{key}="{escaped_label(value)}"' for key, value in labels.items())
    return f"{{{','.join(pairs)}}}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def _samples(
    facts: StatusFacts | None, release: str, responses: Mapping[int, int]
) -> Iterator[Sample]:
    yield "up", {}, 0.0 if facts is None else float(facts.is_up)
    yield "build_info", {"version": release}, 1.0
    for code, count in sorted(responses.items()):
        yield "console_responses_total", {"code": str(code)}, count
    if facts is not None:
        yield from _of_chain(facts)
        yield from _of_consensus(facts)
        yield from _of_boards(facts)
        for task in facts.tasks[-TASKS_MAX:]:
            yield from _of_task(task)


def _of_chain(facts: StatusFacts) -> Iterator[Sample]:
    document, chain, none = facts.document, facts.chain, dict[str, str]()
    yield "start_time_seconds", none, document["started_ms"] / 1000
    yield "status_age_seconds", none, facts.age_s
    yield "chain_height_blocks", none, chain["height"]
    # The document says the age at its writing; it grows with the document's own.
    yield (
        "chain_block_age_seconds",
        none,
        facts.block_age_s,
    )
    yield "chain_stalled", none, float(document["stall"]["stalled"])
    yield "chain_finality_seconds", none, document["finality_s"]
    yield "chain_pending_transactions", none, chain["waiting"]
    yield "disk_free_bytes", none, document["disk"]["free_bytes"]
    up = "disconnected" not in document["broker"]
    yield "broker_connected", none, float(up and "connected" in document["broker"])
    yield "privacy_epsilon_max", none, document["privacy"]["epsilon_max"]


def _of_consensus(facts: StatusFacts) -> Iterator[Sample]:
    consensus, none = facts.consensus, dict[str, str]()
    yield "consensus_validators", none, consensus["validators"]
    yield "consensus_quorum_validators", none, consensus["quorum"]
    yield "consensus_signers", none, len(consensus["signed_by"])
    yield "consensus_missing_validators", none, len(consensus["missing"])
    yield "consensus_convicted_validators", none, len(consensus["convicted"])
    yield "consensus_forked", none, float(consensus["fork"] is not None)
    yield "consensus_extra_rounds_total", none, consensus["rounds"]
    outvoted = sum(consensus["outvoted"].values())
    yield "consensus_outvoted_versions_total", none, outvoted
    yield "wanted_wholes", none, consensus["wanted"]


def _of_boards(facts: StatusFacts) -> Iterator[Sample]:
    traffic, none = facts.document["traffic"], dict[str, str]()
    phases = facts.document["phases"]
    for phase in _PHASES:
        yield "boards", {"state": phase.lower()}, phases.get(phase, 0)
    yield "boards_registered", none, facts.chain["boards"]
    yield "updates_accepted_total", none, facts.accepted
    for reason, count in _by_reason(facts.refused).items():
        yield "refusals_total", {"reason": reason}, count
    for reason, count in _by_reason(facts.passing).items():
        yield "refusals_passing_total", {"reason": reason}, count
    yield "received_bytes_total", none, traffic["bytes_up"]
    yield "sent_bytes_total", none, traffic["bytes_down"]
    yield "messages_ignored_total", none, sum(traffic["ignored"].values())
    yield "messages_dropped_total", none, sum(traffic["dropped"].values())


def _by_reason(counts: Mapping[str, int]) -> dict[str, int]:
    # Each is there from the first scrape on: a counter that began at 1 would have no
    # rate, and no alert, for what happened once.
    found = dict.fromkeys([*sorted(reason.lower() for reason in _REASONS), OTHER], 0)
    for reason, count in counts.items():
        found[reason.lower() if reason in _REASONS else OTHER] += count
    return found


def _of_task(task: TaskFacts) -> Iterator[Sample]:
    label = {"task": str(task.number)}
    known = [each for each in task.versions if each.loss is not None]
    right = [each for each in task.versions if each.accuracy is not None]
    yield "task_version", label, task.head
    yield "task_accuracy_ratio", label, right[-1].accuracy if right else None
    yield "task_loss", label, known[-1].loss if known else None
    made = [each for each in task.versions if each.updates]
    yield "task_staleness_versions", label, made[-1].staleness if made else None
    yield "task_pending_updates", label, task.pending
    yield "task_buffer_updates", label, task.buffer
    yield "task_leases", label, task.leases
    yield "task_waiting_boards", label, task.waiting
