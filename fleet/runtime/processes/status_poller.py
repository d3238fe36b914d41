"""Poller of the processes' statuses, as one snapshot."""

import os
import time
from collections import Counter
from pathlib import Path
from statistics import median_low
from typing import Any

from starling.agent.step.state import ReadinessCondition
from starling.fleet.monitor.coordinator_point import (
    coordinator_point,
    held_out_loss,
)
from starling.fleet.monitor.run_snapshot import (
    CoordinatorPoint,
    DevicePoint,
    RunSnapshot,
    VersionPoint,
)
from starling.fleet.runtime.processes.home_setup import FleetHomes
from starling.fleet.runtime.processes.status_document import read_status
from starling.protocol.wire.message_bodies import DevicePhase

DOWN_AFTER_S = 4.0
"""Coordinators write their status each second."""
CLOCK_ERROR_S = 5.0
"""A version that claims to be later than this did not come in the future."""
_BUDGET_SPENT = ReadinessCondition.BUDGET_SPENT.value
_QUARANTINED = ReadinessCondition.QUARANTINED.value
_TRAINING_FAILED = "training failed"


class StatusPoller:
    """Reads the status files of a running fleet.

    Attributes:
      spent: Boards whose budget is spent.
      quarantined: Boards that are told that they are in quarantine.
      version: Newest version that any board uses; boards note it at once, while
        status files are a second old.
      begun: Whether the task is open.
    """

    def __init__(
        self, homes: FleetHomes, boards: int, coordinators: int, *, private: bool
    ) -> None:
        """Nothing is known yet.

        Args:
          homes: Of the fleet.
          boards: How many.
          coordinators: How many.
          private: Whether epsilons mean anything.
        """
        self.spent = 0
        self.quarantined = 0
        self.version = 0
        self.begun = False
        self._homes = homes
        self._boards = boards
        self._private = private
        self._agents: dict[int, dict[str, Any]] = {}
        self._used: dict[int, int] = {}
        self._coordinator_count = coordinators
        self._statuses: dict[int, dict[str, Any]] = {}
        self._coordinator: dict[str, Any] = {}
        self._refused: dict[tuple[int, str], Counter[str]] = {}

    def look(self, time_s: float, restarts: int) -> RunSnapshot:
        """Reads everything anew; a file in the middle of being replaced keeps its last.

        Args:
          time_s: Since the task was published.
          restarts: Processes that died and were started again.
        """
        for number in range(1, self._coordinator_count + 1):
            path = self._homes.coordinator_at(number) / "status.json"
            found = read_status(path)
            if found is not None:
                self._statuses[number] = found | {"age_s": _age_s(path)}
        # Whoever is furthest knows best; the first one if several are.
        self._coordinator = max(
            self._statuses.values(), key=_height, default=self._coordinator
        )
        for number in range(self._boards):
            found = read_status(self._homes.board(number) / "status.json")
            if found is not None:
                self._agents[number] = found
        conditions = [agent.get("condition") for agent in self._agents.values()]
        self.spent = conditions.count(_BUDGET_SPENT)
        self.quarantined = conditions.count(_QUARANTINED)
        self.look_at_version()
        versions = self._versions(time_s)
        self.begun = bool(versions)
        return RunSnapshot(
            time_s,
            versions,
            self._devices(),
            self._coordinators(),
            restarts,
            quorum=self._coordinator.get("consensus", {}).get("quorum", 0),
            held_out=held_out_loss(self._coordinator),
        )

    def look_at_version(self) -> int:
        """Reads `version` anew, which is quick, and returns it."""
        for number in range(self._boards):
            used = read_status(self._homes.board(number) / "models" / "current.json")
            if used is not None:
                self._used[number] = used["version"]
                self.version = max(self.version, used["version"])
        return self.version

    def _versions(self, time_s: float) -> tuple[VersionPoint, ...]:
        tasks = self._coordinator.get("tasks", [])
        rows = tasks[0]["versions"] if tasks else []
        if self._coordinator_count > 1:
            rows = _merged(list(self._statuses.values()))
        return tuple(
            VersionPoint(
                row["version"],
                # Since version 0, which is noted when the task is open.
                _plausible((row["time_ms"] - rows[0]["time_ms"]) / 1000, time_s),
                row["updates"],
                row["accuracy"],
                row["loss"],
                row["staleness_mean"] if row["updates"] else None,
                row["epsilon_max"] if self._private else None,
            )
            for row in rows
        )

    def _devices(self) -> tuple[DevicePoint, ...]:
        known: dict[str, dict[str, Any]] = {}
        for number, status in self._statuses.items():
            for row in status.get("devices", []):
                # Each counts what it refused itself, anew when it starts again.
                seen = self._refused.setdefault((number, row["id"]), Counter())
                seen |= Counter(row.get("updates_refused", {}))
                # Who shares the board's broker knows most of it.
                if row["bytes_up"] >= known.get(row["id"], row)["bytes_up"]:
                    known[row["id"]] = row
        points = [
            self._device(number, agent, known.get(agent["device"], {}))
            for number, agent in sorted(self._agents.items())
        ]
        return tuple(points)

    def _refusals(self, device: str) -> dict[str, int]:
        """Refusals of a board by all coordinators together."""
        found = [seen for (_, each), seen in self._refused.items() if each == device]
        return dict(sum(found, Counter()))

    def _device(
        self, number: int, agent: dict[str, Any], row: dict[str, Any]
    ) -> DevicePoint:
        phase = row.get("phase") or agent["phase"].upper()
        # The board counts a charge when it pays it, the chain when it gets the update.
        epsilon = max(agent["privacy"]["epsilon"] or 0.0, row.get("epsilon", 0.0))
        # A board says only what its last training came to.
        fault = agent.get("fault") or ""
        failed = fault.startswith(_TRAINING_FAILED)
        return DevicePoint(
            agent["device"],
            DevicePhase[phase],
            self._used.get(number, agent["version"]),
            row.get("updates_accepted", 0),
            self._refusals(agent["device"]),
            epsilon if self._private else 0.0,
            row.get("bytes_up", 0),
            row.get("bytes_down", 0),
            number + 1,
            int(failed),
            fault if failed else "",
        )

    def _coordinators(self) -> tuple[CoordinatorPoint, ...]:
        return tuple(
            coordinator_point(number, status, down=_is_down(status))
            for number, status in sorted(self._statuses.items())
            if status.get("chain") is not None
        )


def _is_down(status: dict[str, Any]) -> bool:
    if status.get("state") == "stopped":
        return False
    return status["age_s"] > DOWN_AFTER_S or not _lives(status.get("pid"))


def _lives(pid: int | None) -> bool:
    if pid is None:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _height(status: dict[str, Any]) -> int:
    height: int = (status.get("chain") or {}).get("height", 0)
    return height


def _merged(statuses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The versions that any coordinator knows; each as who tried it knows it.

    Its time is the median of what their clocks say: one of them may be wrong.
    """
    rows: dict[int, list[dict[str, Any]]] = {}
    for status in statuses:
        for task in status.get("tasks", [])[:1]:
            for row in task["versions"]:
                rows.setdefault(row["version"], []).append(row)
    return [
        max(known, key=_knowledge)
        | {"time_ms": median_low(row["time_ms"] for row in known)}
        for _, known in sorted(rows.items())
    ]


def _plausible(claimed_s: float, now_s: float) -> float:
    """A version's time; now, if who alone knows it has a wrong clock."""
    return claimed_s if 0.0 <= claimed_s <= now_s + CLOCK_ERROR_S else now_s


def _knowledge(row: dict[str, Any]) -> tuple[bool, int]:
    # Numbers have a loss, and no accuracy.
    tried = row["accuracy"] is not None or row["loss"] is not None
    return tried, row["updates"]


def _age_s(path: Path) -> float:
    """Age of a file; the writer's own clock does not matter."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
