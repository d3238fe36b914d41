"""A virtual fleet as one snapshot, as the status files of processes would show it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from starling.coordinator.chain.storage.chain_store import StoredVersion
from starling.fleet.monitor.coordinator_point import coordinator_point
from starling.fleet.monitor.run_snapshot import (
    CoordinatorPoint,
    DevicePoint,
    VersionPoint,
)
from starling.fleet.virtual.version_log import VersionLog
from starling.fleet.virtual.virtual_board import VirtualBoard
from starling.fleet.virtual.virtual_coordinator import VirtualCoordinator
from starling.protocol.ids import DeviceId, TaskId, device_name
from starling.protocol.learning.task import E12, MICRO, PrivacyPolicy
from starling.protocol.privacy.mechanisms import epsilon_shown
from starling.protocol.wire.message_bodies import DevicePhase

_TASK = TaskId(0)


def coordinator_points(
    coordinators: Sequence[VirtualCoordinator],
) -> tuple[CoordinatorPoint, ...]:
    """All coordinators, by number; those that are down as they were last."""
    return tuple(
        replace(
            coordinator_point(each.number, each.status(), down=not each.up),
            ordered=each.faults.text,
        )
        for each in coordinators
    )


def version_points(
    coordinators: Sequence[VirtualCoordinator],
    versions: VersionLog,
    privacy: PrivacyPolicy,
    begun_s: float,
) -> tuple[VersionPoint, ...]:
    """All versions that any coordinator knows, rising.

    Args:
      coordinators: All of them.
      versions: When they became final, and how good they are.
      privacy: Of the task.
      begun_s: When the task was open, by the clock of `versions`.
    """
    known: dict[int, StoredVersion] = {}
    for each in coordinators:
        for row in each.store.versions(_TASK):
            # Who was away may know of a version without its updates.
            if row.updates >= known.get(row.version, row).updates:
                known[row.version] = row
    return tuple(
        _version_point(row, versions, privacy, begun_s)
        for _, row in sorted(known.items())
    )


def _version_point(
    row: StoredVersion, versions: VersionLog, privacy: PrivacyPolicy, begun_s: float
) -> VersionPoint:
    accuracy, loss = versions.metrics.get(row.version, (None, None))
    return VersionPoint(
        row.version,
        versions.times_s[row.version] - begun_s,
        row.updates,
        accuracy,
        loss,
        row.staleness_milli / 1000 if row.updates else None,
        epsilon_shown(row.charge_max, (privacy,), privacy.delta_e12 / E12)
        if privacy.mechanism
        else None,
    )


def device_point(
    number: int,
    device: DeviceId,
    board: VirtualBoard | None,
    coordinators: Sequence[VirtualCoordinator],
    *,
    asleep: bool,
    private: bool,
) -> DevicePoint:
    """One board.

    Args:
      number: Its place in the fleet, from 1.
      device: Its id.
      board: None if it never woke.
      coordinators: All of them.
      asleep: Whether it sleeps.
      private: Whether epsilons mean anything.
    """
    refused = dict(_refused(device, coordinators))
    if board is None:
        return DevicePoint(device_name(device), refused=refused, number=number)
    counts = (each.tally.devices.get(device) for each in coordinators)
    return DevicePoint(
        board.name,
        DevicePhase.SLEEPING if asleep and board.up else board.phase,
        None if board.state.offer is None else board.state.offer.version,
        # Whoever was away for a while has counted fewer.
        max(count.accepted if count else 0 for count in counts),
        refused,
        board.state.spent_micro / MICRO if private else 0.0,
        board.bytes_up,
        board.bytes_down,
        number,
        board.failed,
        board.failure,
    )


def accepted_by_board(
    coordinators: Sequence[VirtualCoordinator],
) -> Mapping[DeviceId, int]:
    """Updates of each board that were taken, as whoever took most of them counts."""
    found: dict[DeviceId, int] = {}
    for each in coordinators:
        for device, count in each.tally.devices.items():
            found[device] = max(found.get(device, 0), count.accepted)
    return found


def refused_by_sender(
    coordinators: Sequence[VirtualCoordinator],
) -> Mapping[DeviceId | None, Counter[str]]:
    """Refusals by all coordinators together; None for what was no board's."""
    found: dict[DeviceId | None, Counter[str]] = {}
    for each in coordinators:
        others = Counter(each.tally.refused)
        for device, count in each.tally.devices.items():
            found.setdefault(device, Counter()).update(count.refused)
            # The total has those of boards in it.
            others.subtract(count.refused)
        found.setdefault(None, Counter()).update(+others)
    return found


def _refused(
    device: DeviceId, coordinators: Sequence[VirtualCoordinator]
) -> Mapping[str, int]:
    """Refusals of a board by all coordinators together."""
    found: Counter[str] = Counter()
    for each in coordinators:
        counts = each.tally.devices.get(device)
        if counts is not None:
            found.update(counts.refused)
    return found
