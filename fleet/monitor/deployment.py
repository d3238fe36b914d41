"""A running deployment as the fleet's view shows it, from one coordinator's status.

Pure. Boards are those that the coordinator met; other validators are as it last heard.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starling.console.status_facts import BoardFacts, StatusFacts, TaskFacts
from starling.coordinator.task_file.privacy_statement import promise
from starling.fleet.monitor.coordinator_point import SILENT_AFTER_S, validator_name
from starling.fleet.monitor.run_snapshot import (
    CoordinatorPoint,
    DevicePoint,
    PrivacyTerms,
    RunHeading,
    RunSnapshot,
    VersionPoint,
)
from starling.protocol.errors import OperationError
from starling.protocol.learning.task import TaskSpec
from starling.protocol.wire.message_bodies import DevicePhase


def privacy_terms(spec: TaskSpec) -> PrivacyTerms | None:
    """Privacy terms of a published task; None without privacy."""
    if not spec.privacy.mechanism:
        return None
    promised = promise(spec)
    return PrivacyTerms(
        promised.unit,
        promised.adjacency,
        promised.epsilon,
        promised.delta,
        promised.noise_multiplier,
        promised.clip,
        promised.releases,
    )


def chosen_task(facts: StatusFacts, number: int | None) -> TaskFacts | None:
    """The task of that number, or the newest; None if none is published.

    Raises:
      OperationError: If there is none of that number.
    """
    if number is None:
        return facts.tasks[-1] if facts.tasks else None
    found = next((task for task in facts.tasks if task.number == number), None)
    if found is None:
        raise OperationError(f"the coordinator knows no task {number}")
    return found


def deployment(
    facts: StatusFacts, task: TaskFacts | None, terms: PrivacyTerms | None
) -> tuple[RunHeading, RunSnapshot]:
    """Heading and snapshot for the view.

    Args:
      facts: The coordinator's status.
      task: Which one; None before the first.
      terms: Its privacy; None without, or if it is not known.
    """
    title = f"{facts.chain['boards']:,} boards"
    if task is not None:
        title += f" · task {task.number}: {task.name}, buffer {task.buffer}"
    heading = RunHeading(title, 0, terms, facts.consensus["fault_model"] == "crash")
    versions = () if task is None else _versions(task, private=terms is not None)
    now_s = facts.document["now_ms"] / 1000 + facts.age_s
    begun_s = now_s if task is None or not versions else _begun_s(task)
    snapshot = RunSnapshot(
        max(0.0, now_s - begun_s),
        versions,
        tuple(map(_board, facts.boards)),
        _validators(facts),
        quorum=facts.consensus["quorum"],
    )
    return heading, snapshot


def document(
    facts: StatusFacts, snapshot: RunSnapshot, task: TaskFacts | None
) -> dict[str, Any]:
    """The same for `--json`."""
    return {
        "running": facts.is_up,
        "age_s": facts.age_s,
        "task": None if task is None else task.number,
        "version": snapshot.version,
        "versions": [asdict(point) for point in snapshot.versions],
        "pending_updates": 0 if task is None else task.pending,
        "paused": "" if task is None else task.pause,
        "updates_accepted": facts.accepted,
        "refused": dict(facts.refused),
        "boards_registered": facts.chain["boards"],
        "boards_by_state": {
            DevicePhase(phase).name.lower(): count for phase, count in snapshot.phases()
        },
        "boards": [
            {
                "id": point.id,
                "state": point.phase.name.lower(),
                "updates_accepted": point.accepted,
                "updates_refused": dict(point.refused),
                "epsilon": point.epsilon,
                "bytes_up": point.bytes_up,
            }
            for point in snapshot.devices
        ],
        "height": snapshot.height,
        "finality_s": facts.document["finality_s"],
        "validators": facts.consensus["validators"],
        "quorum": snapshot.quorum,
        "signed_by": list(facts.consensus["signed_by"]),
        "missing": [row["name"] for row in facts.consensus["missing"]],
        "convicted": dict(facts.consensus["convicted"]),
    }


def _versions(task: TaskFacts, *, private: bool) -> tuple[VersionPoint, ...]:
    begun_s = _begun_s(task) if task.versions else 0.0
    return tuple(
        VersionPoint(
            row.version,
            row.time_ms / 1000 - begun_s,
            row.updates,
            row.accuracy,
            row.loss,
            row.staleness if row.updates else None,
            row.epsilon if private else None,
        )
        for row in task.versions
    )


def _begun_s(task: TaskFacts) -> float:
    return task.versions[0].time_ms / 1000


def _board(row: BoardFacts) -> DevicePoint:
    return DevicePoint(
        row.id,
        DevicePhase[row.phase],
        None,
        row.accepted,
        row.refused,
        row.epsilon,
        row.bytes_up,
        row.bytes_down,
    )


def _validators(facts: StatusFacts) -> tuple[CoordinatorPoint, ...]:
    """This coordinator first, then the others by name; learners decide nothing."""
    consensus, chain = facts.consensus, facts.chain
    peers = sorted(
        (row for row in consensus["peers"] if not row["learner"]),
        key=lambda row: str(row["name"]),
    )
    numbers = {str(row["name"]): place for place, row in enumerate(peers, 2)}
    # A status does not say its own validator's name: it is the signer that is no peer.
    own = next((name for name in consensus["signed_by"] if name not in numbers), "")
    convicted = tuple(
        (validator_name(numbers.get(name, 1)), str(what))
        for name, what in sorted(consensus["convicted"].items())
    )
    named = tuple(
        validator_name(numbers.get(name, 1)) for name in sorted(consensus["outvoted"])
    )
    heard = {
        str(row["name"]): row["silent_s"] < SILENT_AFTER_S and facts.is_up
        for row in peers
    }
    ours = CoordinatorPoint(
        own or str(facts.document["id"]),
        chain["height"],
        chain["tip"] or "",
        chain["state_root"] or "",
        rounds=consensus["rounds"],
        finality_s=facts.document["finality_s"],
        round=consensus["round"],
        down=not facts.is_up,
        named=named,
        hears=tuple(numbers[name] for name, is_heard in heard.items() if is_heard),
        signed=bool(own),
        silence=consensus["silence"],
        convicted=convicted,
    )
    others = [_peer(row, numbers, heard, facts) for row in peers]
    return (ours, *others)


def _peer(
    row: Mapping[str, Any],
    numbers: Mapping[str, int],
    heard: Mapping[str, bool],
    facts: StatusFacts,
) -> CoordinatorPoint:
    name = str(row["name"])
    return CoordinatorPoint(
        name,
        row["height"],
        number=numbers[name],
        round=row["round"],
        down=not heard[name],
        signed=name in facts.consensus["signed_by"],
    )
