"""The status of an agent, with what can be seen from outside.

Read from the home, or from the folder in memory where a group may read it (see
`status_file.StatusPublisher`), whichever is newer.
"""

import json
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from starling.agent.round.next_actions import next_action
from starling.agent.round.readiness import DISK_BYTES_MIN
from starling.agent.runtime.machine_info import clock_is_plausible, space_left
from starling.agent.runtime.process_state import Liveness, halted, look
from starling.agent.runtime.status_file import STATUS_BYTES_MAX, STATUS_NAME
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.step.state import ReadinessCondition
from starling.durable.files import read_if_present, storage_errors
from starling.durable.locks import PROC
from starling.protocol.errors import ConfigError, FederationError
from starling.protocol.wire.message_bodies import DevicePhase

RUNTIME_FILE = Path("/run/starling") / STATUS_NAME
"""Where the unit of `starling agent install` has it written."""
HUNG_S = 30.0
_ENDED_BYTES_MAX = 1 << 16
_FIRST = (
    "condition",
    "why",
    "until",
    "next_action",
    "running",
    "hung",
    "as_of",
    "age_s",
    "ended",
    "last_update",
    "certificate_days",
)


def read_status(home: AgentHome, shared: Path = RUNTIME_FILE) -> dict[str, Any]:
    """Status that the agent of a home last wrote.

    Args:
      home: The agent's home.
      shared: The file that a group may read, of whichever agent.

    Returns:
      The document; `condition` is what a look from outside finds first: no key, a key
      that others can read, no enrolment, a full disk, or that no agent runs.

    Raises:
      ConfigError: If there is no such home or its configuration is wrong.
      StorageError: If the disk refuses to be read.
    """
    # Refuses what is no home before its parts are looked for.
    home.config()
    document, age_s = _newest(home, shared)
    found = look(home)
    runs = found.liveness is not Liveness.GONE
    beats = document.get("heartbeat_s") is not None
    # Only with a heartbeat: the home's own file is left alone while nothing changes.
    is_late = beats and age_s is not None and age_s > HUNG_S
    document |= {
        "running": runs,
        "hung": found.liveness is Liveness.HALTED or (runs and is_late),
        "age_s": age_s,
        "ended": "" if runs else _ended(home),
        "clock_plausible": clock_is_plausible(),
        "next_action": next_action(str(document.get("condition")))
        or str(document.get("next_action") or ""),
    }
    outside = _outside(home)
    if outside:
        document |= {"condition": outside, "next_action": _way_out(home, outside)}
    elif not runs:
        mend = "mend what `ended` says; then " if document["ended"] else ""
        document |= {"condition": "not running", "next_action": mend + _START}
    elif not document["condition"]:
        document["condition"] = "starting"
    if document["hung"]:
        document["next_action"] = _wake(found.liveness is Liveness.HALTED, found.pid)
    if not runs:
        # What the last run showed is no more true of it.
        document["phase"] = DevicePhase.DISCONNECTED.name.lower()
        document["connected"] = False
        document["why"] = document["until"] = None
    return _ordered(document)


def read_shared(shared: Path = RUNTIME_FILE) -> dict[str, Any]:
    """Status that an agent shows its group, for those who may not look into its home.

    Raises:
      ConfigError: If there is no such file, or it is not ours to read.
    """
    try:
        document, age_s = _document(shared)
    except FederationError as error:
        raise ConfigError(
            f"{error}; its group may read it: usermod -aG starling USER", file=""
        ) from error
    if age_s is None:
        raise ConfigError(
            "no agent runs as a service here; give --home DIR", file=str(shared)
        )
    # The lock lies in the home, which the group may not look into.
    runs = (PROC / str(document.get("pid"))).exists()
    is_halted = runs and halted(document["pid"])
    hung = runs and (age_s > HUNG_S or is_halted)
    document |= {"running": runs, "age_s": age_s, "hung": hung}
    document.setdefault("next_action", "")
    if hung:
        document["next_action"] = _wake(is_halted, document["pid"])
    if not runs:
        document |= {"condition": "not running", "next_action": _START}
    return _ordered(document)


def is_well(document: dict[str, Any]) -> bool:
    """True where the agent runs, and nobody has to do anything."""
    working = bool(document["running"]) and not document["hung"]
    return working and not document["next_action"]


_NOT_ENROLLED = "not enrolled"
_RESTART = "run: systemctl restart starling-agent"
_START = "run: systemctl start starling-agent, or: starling agent run"


def _wake(is_halted: bool, pid: int) -> str:
    """Way out of an agent that hangs."""
    return f"run: kill -CONT {pid}" if is_halted else _RESTART


def _newest(home: AgentHome, shared: Path) -> tuple[dict[str, Any], float | None]:
    document, age_s = _document(home.status_file)
    with suppress(FederationError):
        other, other_s = _document(shared)
        # The runtime folder is one for the machine, and may be of the agent of another
        # home.
        is_ours = other.get("home") == str(home.path.resolve())
        if is_ours and other_s is not None and (age_s is None or other_s <= age_s):
            return other, other_s
    return document, age_s


def _document(path: Path) -> tuple[dict[str, Any], float | None]:
    """A status and its age; an empty one and None if there is none that can be read."""
    document: dict[str, Any] = {"device": None, "condition": ""}
    content = read_if_present(path, STATUS_BYTES_MAX)
    if content is None:
        return document, None
    with suppress(ValueError, RecursionError):
        found = json.loads(content)
        if _is_status(found):
            document = found
    # The file's own time: the wall clock that wrote into it may be wrong.
    with storage_errors(path):
        return document, max(0.0, time.time() - path.stat().st_mtime)


_KINDS: dict[str, type | tuple[type, ...]] = {
    "condition": str,
    "connected": bool,
    "heartbeat_s": (int, float, type(None)),
    "pid": int,
    "fault": str,
    "privacy": dict,
    "coordinators": dict,
    "spool": list,
}
_HEARD = {"online", "away", "trusted"}
_ROW = {"accepted", "bytes", "sent"}


def _is_status(found: Any) -> bool:  # noqa: ANN401 - whatever the file holds
    """True for what an agent of this release can have written."""
    if not isinstance(found, dict) or not all(
        isinstance(found[key], kind) for key, kind in _KINDS.items() if key in found
    ):
        return False
    heard, rows = found.get("coordinators"), found.get("spool", [])
    return (not heard or heard.keys() >= _HEARD) and all(
        isinstance(row, dict) and row.keys() >= _ROW for row in rows
    )


def _ended(home: AgentHome) -> str:
    with suppress(FederationError):
        content = read_if_present(home.ended_file, _ENDED_BYTES_MAX) or b""
        return content.decode("utf-8", "replace").strip()
    return ""


def _ordered(document: dict[str, Any]) -> dict[str, Any]:
    """Same document, with what a person looks for first in front."""
    first = {key: document[key] for key in _FIRST if key in document}
    return {"device": document.get("device"), **first, **document}


def _outside(home: AgentHome) -> str:
    try:
        home.require_folders()
        home.signing_key()
        home.require_secret(home.tls.key)
        if home.admission() is None:
            return _NOT_ENROLLED
    except FederationError as error:
        return str(error)
    if space_left(home.path) < DISK_BYTES_MIN:
        return ReadinessCondition.DISK_FULL.value
    return ""


def _way_out(home: AgentHome, outside: str) -> str:
    if outside == _NOT_ENROLLED:
        return f"run: starling agent enrol --home {home.path}"
    # Most texts of a refusal name the command that puts it right.
    return next_action(outside) or outside.rpartition("; ")[2]


def readable(document: dict[str, Any]) -> str:
    """The status for a person, a line a fact."""
    lines = []
    for key, value in document.items():
        shown = value
        if isinstance(value, dict):
            shown = ", ".join(f"{k} {v}" for k, v in value.items() if v is not None)
        elif isinstance(value, list):
            shown = _uploads(value) if key == "spool" else "; ".join(map(str, value))
        elif isinstance(value, float) and math.isfinite(value):
            shown = f"{value:.3f}"
        if shown not in (None, ""):
            lines.append(f"{key.replace('_', ' '):<18} {shown}")
    return "\n".join(lines) + "\n"


def _uploads(rows: list[dict[str, Any]]) -> str:
    """Count of updates that wait, and how much of one has been sent."""
    sent = [
        f"{row['sent'] >> 10:,} of {row['bytes'] >> 10:,} KiB sent"
        for row in rows
        if not row["accepted"] and row.get("sent")
    ]
    return ", ".join((f"{len(rows)} waiting", *sent))
