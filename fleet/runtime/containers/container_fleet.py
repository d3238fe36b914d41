"""A fleet in containers: started, looked at, and removed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starling.fleet.containers.compose_plan import (
    ContainerPlan,
    coordinator_home,
    device_home,
    down_words,
    up_words,
    within,
)
from starling.fleet.containers.container_list import (
    ContainerRow,
    coordinators_of,
    devices_of,
    list_words,
    read_rows,
)
from starling.fleet.containers.fleet_progress import (
    FleetProgress,
    is_spent,
    learns,
    progress_of,
    troubles,
)
from starling.fleet.runtime.containers.docker_engine import (
    LONG_S,
    DockerEngine,
    DockerRefusal,
)
from starling.protocol.errors import OperationError

COMPOSE_FILE = Path(__file__).parents[2] / "containers" / "compose.yaml"
"""Installed with the package."""
_LOOK_EVERY_S = 1.0
_SAY_EVERY_S = 5.0
_TROUBLES_SHOWN = 8
_LAST_LINES = "5"
Say = Callable[[str], None]


@dataclass(frozen=True)
class ContainerFleet:
    """A fleet in containers, by its name.

    Attributes:
      docker: What runs docker.
      project: Name of the fleet.
    """

    docker: DockerEngine
    project: str

    def rows(self) -> tuple[ContainerRow, ...]:
        """All its containers.

        Raises:
          OperationError: If docker does not say.
        """
        return read_rows(self.docker.ask(*list_words(self.project)))

    def require_rows(self) -> tuple[ContainerRow, ...]:
        """All its containers, of which some are devices.

        Raises:
          OperationError: If there is none, or docker does not say.
        """
        found = self.rows()
        if not devices_of(found):
            raise OperationError(
                f"there is no fleet {self.project!r} in containers: starling fleet up"
            )
        return found

    def progress(self, rows: Sequence[ContainerRow]) -> FleetProgress:
        """State of its learning, by those coordinators that are up."""
        found = []
        for row in coordinators_of(rows):
            path = f"{coordinator_home(row.coordinator)}/status.json"
            if row.state == "running":
                found.append(self.docker.document("exec", row.name, "cat", path))
        return progress_of([status for status in found if status is not None])

    def device_status(self, row: ContainerRow, board: int = 1) -> dict[str, Any]:
        """The document of `starling agent status` in a device; empty if it is down.

        Args:
          row: The device.
          board: Which of its boards, from 1.
        """
        home = device_home(board)
        words = ("starling", "agent", "status", "--json", "--home", home)
        if row.state != "running":
            return {}
        return self.docker.document("exec", row.name, *words) or {}

    def verified(self, rows: Sequence[ContainerRow]) -> dict[str, bool]:
        """True for each coordinator whose chain verifies, by service; of those up."""
        found = {}
        for row in coordinators_of(rows):
            if row.state != "running":
                continue
            home = coordinator_home(row.coordinator)
            try:
                words = ("starling", "chain", "verify", "--home", home)
                self.docker.ask("exec", row.name, *words, timeout_s=LONG_S)
                found[row.service] = True
            except DockerRefusal:
                found[row.service] = False
        return found


def start(fleet: ContainerFleet, plan: ContainerPlan) -> None:
    """Starts a fleet, or changes how many devices it has.

    Raises:
      ConfigError: If docker, compose or the image are not there.
      OperationError: If the fleet does not start, with the set-up's last words.
    """
    fleet.docker.require_compose()
    fleet.docker.require_image(plan.image)
    words = up_words(plan, str(COMPOSE_FILE))
    # Docker refuses more processors than its machine has, which may be another than
    # this.
    limited = within(plan, fleet.docker.processors()).environment
    try:
        fleet.docker.ask(*words, environment=limited, timeout_s=LONG_S)
    except DockerRefusal as error:
        raise OperationError(f"{error}{_last_words(fleet)}") from error


def wait_until_it_learns(
    fleet: ContainerFleet, plan: ContainerPlan, timeout_s: float, say: Say
) -> FleetProgress:
    """Waits for enrolled devices and new versions.

    Args:
      fleet: That was started.
      plan: How many devices it is to have.
      timeout_s: At most.
      say: Told of the progress now and then.

    Raises:
      OperationError: If it does not learn in time, with what is wrong.
    """
    begun_s = said_s = time.monotonic()
    before = fleet.progress(fleet.rows())
    while True:
        rows = fleet.rows()
        now = fleet.progress(rows)
        if learns(before, now, plan.boards_in_all):
            return now
        passed_s = time.monotonic() - begun_s
        if passed_s > timeout_s:
            raise OperationError(_why(fleet, plan.boards, now, timeout_s))
        if time.monotonic() - said_s >= _SAY_EVERY_S:
            said_s = time.monotonic()
            say(f"{clock(passed_s)}  {now.text}")
        time.sleep(_LOOK_EVERY_S)


def remove(fleet: ContainerFleet, *, volumes: bool) -> tuple[str, ...]:
    """Removes containers and network of a fleet.

    Args:
      fleet: Which one; may be gone already.
      volumes: Whether keys, chain and data go too.

    Returns:
      Names of the containers that were there.

    Raises:
      ConfigError: If docker or compose are not there.
      OperationError: If docker refuses.
    """
    fleet.docker.require_compose()
    found = tuple(row.name for row in fleet.rows())
    words = down_words(fleet.project, str(COMPOSE_FILE), volumes=volumes)
    fleet.docker.ask(*words, timeout_s=LONG_S)
    return found


def clock(time_s: float) -> str:
    """Minutes and seconds, as the lines of a run begin."""
    return f"{int(time_s) // 60}:{int(time_s) % 60:02d}"


def _last_words(fleet: ContainerFleet) -> str:
    """Last lines of the containers that ended badly; empty if none did."""
    said = []
    for row in fleet.rows():
        if row.state == "exited" and row.trouble:
            shown = fleet.docker.both_streams("logs", "--tail", _LAST_LINES, row.name)
            said.append(f"\n{row.name}, {row.status}:\n{shown.strip()}")
    return "".join(said[:_TROUBLES_SHOWN])


def _why(
    fleet: ContainerFleet, boards: int, now: FleetProgress, timeout_s: float
) -> str:
    """Reasons for which a fleet with so many boards a device does not learn."""
    rows = fleet.rows()
    statuses = {
        row.name if boards == 1 else f"{row.name}, board {board}": fleet.device_status(
            row, board
        )
        for row in devices_of(rows)
        for board in range(1, boards + 1)
    }
    conditions = [str(each.get("condition")) for each in statuses.values()]
    if is_spent(conditions):
        return (
            f"{now.text}: every device's privacy budget is spent; "
            "starling fleet down --volumes, then up, begins anew"
        )
    found = troubles(rows, statuses) or ("no container says why: starling fleet logs",)
    shown = [*found[:_TROUBLES_SHOWN], *(["..."] if found[_TROUBLES_SHOWN:] else [])]
    lines = "".join(f"\n  {line}" for line in shown)
    return f"it does not learn after {timeout_s:g} s: {now.text}{lines}"
