"""Typed reading of the status document that a coordinator writes each second.

The document is our own coordinator's, so a missing key means another release; that is
one error, and unknown keys are left alone. Names and ids in it come from others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starling.protocol.errors import OperationError

_PLAIN = ("state", "pid", "started_ms", "now_ms", "finality_s", "broker", "phases")
_NEEDED = {
    "chain": ("height", "boards", "waiting", "heartbeat_s", "time_ms"),
    "consensus": (
        "validators",
        "quorum",
        "signed_by",
        "convicted",
        "outvoted",
        "missing",
        "fork",
        "rounds",
        "round",
        "step",
        "wanted",
        "fault_model",
    ),
    "traffic": ("bytes_up", "bytes_down", "ignored", "dropped"),
    "stall": ("stalled", "block_age_s"),
    "privacy": ("epsilon_max",),
    "disk": ("free_bytes",),
}
FRESH_S = 6.0
"""A running coordinator writes its status each second."""


@dataclass(frozen=True)
class VersionFacts:
    """One final version of a task's model.

    Attributes:
      version: From 0, the initial model.
      time_ms: Unix time when it was known to be final.
      updates: How many made it.
      accuracy: On held-out data, in [0, 1]; None if it is not known.
      loss: On held-out data; None if it is not known.
      staleness: Mean of its updates, in versions.
      epsilon: Largest that any board's data had paid by then.
    """

    version: int
    time_ms: int
    updates: int
    accuracy: float | None
    loss: float | None
    staleness: float
    epsilon: float


@dataclass(frozen=True)
class TaskFacts:
    """One task.

    Attributes:
      number: On the chain.
      name: Chosen by its publisher.
      head: Newest final version.
      buffer: Updates that make a version.
      pending: Updates that wait for one.
      leases: Boards that train now.
      lease_places: Most that may.
      waiting: Boards that ask for a lease.
      split: Whether its open version cannot become final.
      attested: Names of those who attested the open version, by its digest in hex.
      versions: By rising number.
      pause: Why no leases are granted; empty while they are.
      by_loss: Whether its best version is that of the lowest loss.
    """

    number: int
    name: str
    head: int
    buffer: int
    pending: int
    leases: int
    lease_places: int
    waiting: int
    split: bool
    attested: Mapping[str, tuple[str, ...]]
    versions: tuple[VersionFacts, ...]
    pause: str = ""
    by_loss: bool = False


@dataclass(frozen=True)
class BoardFacts:
    """One board, as this coordinator has met it.

    Attributes:
      id: Its device name.
      phase: A name of `DevicePhase`.
      accepted: Updates of it on the chain.
      refused: Updates of it that were refused, by reason.
      ignored: Messages beyond its allowance.
      bytes_up: That it sent.
      bytes_down: That it was sent.
      epsilon: That its data have paid.
    """

    id: str
    phase: str
    accepted: int
    refused: Mapping[str, int]
    ignored: int
    bytes_up: int
    bytes_down: int
    epsilon: float


@dataclass(frozen=True)
class StatusFacts:
    """A whole status.

    Attributes:
      document: What it was read from.
      age_s: Since it was written.
      tasks: By number.
      boards: By id; at most as many as the document has.
    """

    document: Mapping[str, Any]
    age_s: float
    tasks: tuple[TaskFacts, ...]
    boards: tuple[BoardFacts, ...]

    @property
    def is_up(self) -> bool:
        """True if the coordinator wrote it lately, and runs."""
        return self.age_s < FRESH_S and self.document["state"] != "stopped"

    @property
    def chain(self) -> Mapping[str, Any]:
        """The document's section of that name."""
        section: Mapping[str, Any] = self.document["chain"]
        return section

    @property
    def consensus(self) -> Mapping[str, Any]:
        """The document's section of that name."""
        section: Mapping[str, Any] = self.document["consensus"]
        return section

    @property
    def block_age_s(self) -> float:
        """Time since the last block, as of now."""
        # What was written is as old as the file.
        return float(self.document["stall"]["block_age_s"]) + self.age_s

    @property
    def refused(self) -> Mapping[str, int]:
        """Refusals by reason."""
        counts: Mapping[str, int] = self.document["updates"]["refused"]
        return counts

    @property
    def passing(self) -> Mapping[str, int]:
        """Refusals that pass by themselves, by reason."""
        counts: Mapping[str, int] = self.document["updates"]["passing"]
        return counts

    @property
    def accepted(self) -> int:
        """Updates that were taken."""
        return int(self.document["updates"]["accepted"])


def read(document: Mapping[str, Any], age_s: float) -> StatusFacts:
    """Reads a status document.

    Args:
      document: The parsed file.
      age_s: Since it was written.

    Raises:
      OperationError: If it is not of this release.
    """
    try:
        facts = StatusFacts(
            document,
            age_s,
            tuple(map(_task, document["tasks"])),
            tuple(map(_board, document["devices"])),
        )
        # Read now, so that no page fails half way.
        _ = (facts.accepted, facts.refused, facts.passing, document["stall"]["why"])
        for section, keys in _NEEDED.items():
            _ = [document[section][key] for key in keys]
        _ = [document[key] for key in _PLAIN]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise OperationError(
            f"the status is of another release ({error!r}); run the console and the "
            "coordinator of one release"
        ) from error
    return facts


def _task(row: Mapping[str, Any]) -> TaskFacts:
    return TaskFacts(
        row["task"],
        row["name"],
        row["head"],
        row["buffer"],
        row["pending"],
        row["leases"],
        row["lease_places"],
        row["waiting"],
        row["attested"]["split"],
        {key: tuple(names) for key, names in row["attested"]["by_digest"].items()},
        tuple(map(_version, row["versions"])),
        _pause(row.get("held_out")),
        row.get("ranked_by") == "loss",
    )


def _pause(held_out: Mapping[str, Any] | None) -> str:
    if held_out is None or not held_out["paused"]:
        return ""
    return str(held_out["text"])


def _version(row: Mapping[str, Any]) -> VersionFacts:
    return VersionFacts(
        row["version"],
        row["time_ms"],
        row["updates"],
        row["accuracy"],
        row["loss"],
        row["staleness_mean"],
        row["epsilon_max"],
    )


def _board(row: Mapping[str, Any]) -> BoardFacts:
    return BoardFacts(
        row["id"],
        row["phase"],
        row["updates_accepted"],
        row["updates_refused"],
        row["ignored"],
        row["bytes_up"],
        row["bytes_down"],
        row["epsilon"],
    )
