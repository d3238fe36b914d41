"""Metrics of a coordinator in Prometheus' text format.

Every metric stands once in `METRICS`, with its type, its labels and what it means; the
alert rules and the dashboard in packaging/ use these names. Labels take few values: a
reason or phase that the protocol does not name is `other`, and tasks are the newest.
"""

from collections.abc import Iterator, Mapping

from starling.console.status_facts import StatusFacts, TaskFacts
from starling.protocol.errors import Reason
from starling.protocol.wire.message_bodies import DevicePhase
from starling.service import prometheus_text
from starling.service.prometheus_text import OTHER, Metric, Sample, counter, gauge

TASKS_MAX = 32
"""Newest tasks that have metrics of their own."""
_REASONS = frozenset(reason.name for reason in Reason)
_PHASES = tuple(phase.name for phase in DevicePhase)

_ROWS = (
    gauge("up", "1 if the coordinator wrote its status lately and runs."),
    gauge("build_info", "Always 1; the release is a label.", "version"),
    gauge("start_time_seconds", "Unix time of the coordinator's start."),
    gauge("status_age_seconds", "Time since the coordinator wrote its status."),
    gauge("chain_height_blocks", "Height of the chain here."),
    gauge("chain_block_age_seconds", "Time since the last block."),
    gauge("chain_stalled", "1 if the chain stands still."),
    gauge("chain_finality_seconds", "Median from arrival to certificate."),
    gauge("chain_pending_transactions", "Transactions that wait for a block."),
    gauge("consensus_validators", "Validators of the next block."),
    gauge("consensus_quorum_validators", "Validators that decide together."),
    gauge("consensus_signers", "Validators whose votes certify the last block."),
    gauge("consensus_missing_validators", "Validators that are not heard."),
    gauge("consensus_convicted_validators", "Validators that provably lied."),
    gauge("consensus_forked", "1 if a fork is proven."),
    counter("consensus_extra_rounds", "Rounds beyond the first, all heights."),
    counter("consensus_outvoted_versions", "Versions that a validator made otherwise."),
    gauge("boards", "Boards that were met here, by state.", "state"),
    gauge("boards_registered", "Boards that the chain registered."),
    counter("updates_accepted", "Updates that were taken."),
    counter("refusals", "Messages that were refused, by reason.", "reason"),
    counter("refusals_passing", "Refusals that pass by themselves.", "reason"),
    counter("received_bytes", "Bytes that boards sent."),
    counter("sent_bytes", "Bytes that boards were sent."),
    counter("messages_ignored", "Messages of boards beyond their allowance."),
    counter("messages_dropped", "Messages without room on their way out."),
    gauge("wanted_wholes", "Wholes that are sought from other coordinators."),
    gauge("privacy_epsilon_max", "Largest epsilon that a board's data have paid."),
    gauge("disk_free_bytes", "Free space where the coordinator writes."),
    gauge("broker_connected", "1 if every broker is connected."),
    gauge("task_version", "Newest final version.", "task"),
    gauge("task_accuracy_ratio", "Newest known accuracy on held-out data.", "task"),
    gauge("task_loss", "Newest known loss on held-out data.", "task"),
    gauge("task_staleness_versions", "Mean of the newest version's updates.", "task"),
    gauge("task_pending_updates", "Updates that wait for a version.", "task"),
    gauge("task_buffer_updates", "Updates that make a version.", "task"),
    gauge("task_leases", "Boards that train now.", "task"),
    gauge("task_waiting_boards", "Boards that ask for a lease.", "task"),
    counter("console_responses", "Answers of the console, by status.", "code"),
    counter("console_failed_sign_ins", "Wrong tokens that were tried."),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ROWS}
"""By name, in the order in which they are written."""


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
    samples = _samples(facts, release, responses, failed_sign_ins)
    return prometheus_text.exposition(METRICS, samples)


def _samples(
    facts: StatusFacts | None,
    release: str,
    responses: Mapping[int, int],
    failed_sign_ins: int,
) -> Iterator[Sample]:
    yield "console_failed_sign_ins_total", {}, failed_sign_ins
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
