"""Progress of a fleet in containers, by its coordinators' statuses.

Pure. A fleet learns if all its devices are enrolled, and versions became final since
one began to look.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from starling.fleet.containers.container_list import ContainerRow

LEARNED_VERSIONS = 2
"""So many versions more are no chance."""
_SPENT = "budget spent"


@dataclass(frozen=True)
class FleetProgress:
    """State of a fleet's learning.

    Attributes:
      boards: Enrolled devices.
      version: Newest final version; None while no task is open.
      accuracy: Of the newest version that was evaluated, in [0, 1]; None if none was.
      updates: Accepted ones.
      height: Of the chain.
      pause: Why no leases are granted, in the task's own words; empty if they are.
    """

    boards: int = 0
    version: int | None = None
    accuracy: float | None = None
    updates: int = 0
    height: int = 0
    pause: str = ""

    @property
    def text(self) -> str:
        """For people, in one line."""
        if self.version is None:
            return f"{self.boards} devices enrolled, no task open yet"
        seen = "" if self.accuracy is None else f", accuracy {self.accuracy:.1%}"
        paused = f"; {self.pause}" if self.pause else ""
        return (
            f"{self.boards} devices enrolled, version {self.version}{seen}, "
            f"{self.updates} updates{paused}"
        )

    def document(self) -> dict[str, Any]:
        """The same for `--json`."""
        return asdict(self)


def progress_of(statuses: Sequence[Mapping[str, Any]]) -> FleetProgress:
    """Progress by whichever coordinator is furthest.

    Args:
      statuses: Documents that coordinators write; none while none has written.
    """
    return max(map(_progress, statuses), key=_furthest, default=FleetProgress())


def learns(before: FleetProgress, now: FleetProgress, devices: int) -> bool:
    """True if all devices are enrolled and new versions became final.

    Args:
      before: When one began to look.
      now: The same fleet later.
      devices: That there are to be.
    """
    # A fleet that goes on has versions already: only new ones tell that it learns.
    begun = before.version or 0
    newer = (now.version or 0) - begun
    return now.boards >= devices and newer >= LEARNED_VERSIONS


def is_spent(conditions: Sequence[str]) -> bool:
    """True if devices are there, and no budget of theirs is left."""
    return bool(conditions) and all(each == _SPENT for each in conditions)


def troubles(
    rows: Sequence[ContainerRow], statuses: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    """Reasons for which a fleet does not learn, a line each.

    Args:
      rows: Its containers.
      statuses: What `starling agent status` says in devices, by container.
    """
    found = [f"{row.name}: {row.trouble}" for row in rows if row.trouble]
    for name, status in statuses.items():
        words = [str(status.get(key) or "") for key in ("condition", "next_action")]
        if words[1]:
            found.append(f"{name}: {'; '.join(filter(None, words))}")
    return tuple(found)


def _progress(status: Mapping[str, Any]) -> FleetProgress:
    tasks = status["tasks"]
    chain = status["chain"]
    accepted = status["updates"]["accepted"]
    if not tasks:
        return FleetProgress(chain["boards"], height=chain["height"])
    seen = [row["accuracy"] for row in tasks[-1]["versions"]]
    known = [accuracy for accuracy in seen if accuracy is not None]
    newest = known[-1] if known else None
    head, held_out = tasks[-1]["head"], tasks[-1].get("held_out")
    pause = held_out["text"] if held_out and held_out["paused"] else ""
    height = chain["height"]
    return FleetProgress(chain["boards"], head, newest, accepted, height, pause)


def _furthest(progress: FleetProgress) -> tuple[int, int]:
    return progress.height, progress.updates
