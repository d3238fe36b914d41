"""Status of a running agent: `status.json`, written and read."""

import json
import math
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from starling.agent.round.readiness import DISK_BYTES_MIN, condition, phase, pledge_of
from starling.agent.runtime.machine_info import clock_is_plausible, space_left
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.step.state import (
    AgentSettings,
    AgentState,
    PendingUpload,
    ProvenVersion,
)
from starling.agent.training.trainer_messages import ConfinementReport, DataFacts
from starling.durable.files import read_if_present, replace_unsynced, require_private
from starling.protocol.errors import FederationError, StorageError
from starling.protocol.privacy.mechanisms import DEVICE_LEVEL, NONE
from starling.protocol.wire.message_bodies import DevicePhase

STATUS_BYTES_MAX = 1 << 20
_PID_BYTES_MAX = 64


@dataclass(frozen=True)
class RuntimeFacts:
    """Facts that the runtime knows and the core does not.

    Attributes:
      broker: Where it is.
      broker_said: Why there is no connection; empty if there is one.
      board: The board profile's name.
      outcomes: Uploads that were let go, by outcome.
      bytes_up: Published since the start.
      bytes_down: Received since the start.
      disk_said: Why the agent waits for the disk; empty if it does not.
      trainer_said: What the last trainer used, and what it left out.
      sandbox: What the kernel keeps the trainer from; None before the first one.
      found: What the data set is like; None before it was read.
      data_claim: Where the data set says which ledger counts it.
    """

    broker: str
    broker_said: str
    board: str
    outcomes: dict[str, int]
    bytes_up: int
    bytes_down: int
    disk_said: str
    trainer_said: str
    sandbox: dict[str, str] | None = None
    found: DataFacts | None = None
    data_claim: str = ""


def sandbox_facts(found: ConfinementReport | None) -> dict[str, str] | None:
    """Kernel mechanisms that confine the trainer, in words."""
    if found is None:
        return None
    return {
        "landlock": f"ABI {found.landlock}" if found.landlock else "absent",
        "seccomp": "yes" if found.seccomp else "no",
    }


def sandbox_warnings(found: ConfinementReport | None) -> list[str]:
    """Protections of the trainer that this kernel lacks."""
    missing = []
    if found is not None and not found.landlock:
        missing.append("no Landlock here: the trainer could read the agent's files")
    if found is not None and not found.seccomp:
        missing.append("no seccomp here: the trainer could open connections")
    return missing


def describe(
    settings: AgentSettings, state: AgentState, around: RuntimeFacts, now_s: float
) -> dict[str, Any]:
    """The status as a JSON document."""
    offer, found = state.offer, around.found
    outside = asdict(around)
    del outside["found"]
    document: dict[str, Any] = {
        "device": settings.device,
        "fleet": settings.topics.fleet,
        "pid": os.getpid(),
        "boot": settings.boot,
        "condition": _condition(settings, state, around, now_s),
        "phase": phase(settings, state, now_s).name.lower(),
        "connected": state.connected,
        "task": settings.task,
        "tasks_refused": sorted(state.others),
        "manifests_refused": state.swaps,
        "version": None if offer is None else offer.version,
        "buffer": None if offer is None else offer.spec.aggregation.buffer,
        "coordinators": {
            "online": sum(state.online.values()),
            "trusted": len(state.trusted.validators.members),
        },
        "inference_version": None if state.adopted is None else state.adopted.version,
        "height": state.trusted.height,
        "followed": None if state.led is None else state.led.document(),
        "examples": None if found is None else found.records,
        "examples_unusable": None if found is None else found.unusable,
        "complaints": [] if found is None else list(found.complaints),
        "pledge": 0 if offer is None else pledge_of(settings, offer),
        "advice": _advice(settings, offer, found),
        "fault": state.data_fault or state.fault,
        "leases": state.leases,
        "privacy": _privacy(settings, state),
        "spool": [_upload(item) for item in state.waiting],
        "clock_plausible": clock_is_plausible(),
        **outside,
    }
    return document


def _advice(
    settings: AgentSettings, offer: ProvenVersion | None, found: DataFacts | None
) -> list[str]:
    """Advice to the owner; nothing of it leaves the board."""
    said = []
    if not settings.pledge:
        text = "set data.pledge to about the number of records: it is the task's least"
        said.append(text)
    if found is not None and found.duplicates:
        said.append(
            f"{found.duplicates} records stand there more than once, and count as "
            "often: data.windows says how often one can"
        )
    pledge = 0 if offer is None else pledge_of(settings, offer)
    if pledge and found is not None and found.records < pledge / 2:
        said.append("fewer than half the records that data.pledge says: noise is large")
    if pledge and found is not None and found.records > 2 * pledge:
        said.append(
            "more than twice the records that data.pledge says: they weigh less"
        )
    return said


def _condition(
    settings: AgentSettings, state: AgentState, around: RuntimeFacts, now_s: float
) -> str:
    return around.disk_said or condition(settings, state, now_s).value


def _upload(item: PendingUpload) -> dict[str, Any]:
    return {
        "update": item.entry.update.hex(),
        "version": item.entry.base,
        "bytes": item.entry.size,
        "accepted": item.accepted,
        "refusal": item.refusal,
    }


def _privacy(settings: AgentSettings, state: AgentState) -> dict[str, Any]:
    ledger, cap, offer = state.ledger, state.ledger.cap, state.offer
    left = None
    if offer is not None:
        left = ledger.releases_left(
            state.chain, settings.task, offer.spec.privacy, settings.windows
        )
    epsilon = None if ledger.exposed or ledger.spent else state.spent_micro / 10**6
    return {
        "unit": _unit(state),
        "epsilon": epsilon,
        "epsilon_cap": None if cap is None else cap.epsilon,
        "delta": None if cap is None else cap.delta,
        "releases": len(ledger.charges),
        "proven_elsewhere": sum(each.releases for each in ledger.proven),
        "carried": len(ledger.carried),
        "counts_as_spent": ledger.spent or None,
        "stated_height": state.told.height,
        "stated_by": len(state.told.by),
        "releases_left": left,
        "without_noise": ledger.exposed,
        "trusts_bundle": settings.trust_bundle,
    }


def _unit(state: AgentState) -> str | None:
    """Privacy unit of the noise: the weaker where both were paid; None for nothing."""
    mechanisms = {kind for paid in state.ledger.paid for kind in paid.kinds}
    if state.offer is not None:
        mechanisms.add(state.offer.spec.privacy.mechanism)
    if not mechanisms or NONE in mechanisms:
        return None
    return "device" if mechanisms <= DEVICE_LEVEL else "record"


def write_status(path: Path, document: dict[str, Any]) -> None:
    """Replaces the file; a full disk leaves the old one, and is shown by `read_status`.

    Not synced: it is worth nothing after a power cut.
    """
    with suppress(StorageError):
        replace_unsynced(path, (json.dumps(document) + "\n").encode())


def read_status(home: AgentHome) -> dict[str, Any]:
    """Status that the agent last wrote, with what can be seen from outside.

    Returns:
      The document; `condition` is what a look from outside finds first: no key, a key
      that others can read, no enrolment, a full disk, or that no agent runs.

    Raises:
      ConfigError: If there is no such home or its configuration is wrong.
      StorageError: If the disk refuses to be read.
    """
    home.config()
    document: dict[str, Any] = {"device": None, "condition": ""}
    content = read_if_present(home.status_file, STATUS_BYTES_MAX)
    if content is not None:
        with suppress(ValueError):
            document = json.loads(content)
    document["running"] = _runs(home)
    document["clock_plausible"] = clock_is_plausible()
    found = _outside(home)
    if found:
        document["condition"] = found
    elif not document["running"]:
        document["condition"] = "not running"
    if not document["running"]:
        # What the last run showed is no more true of it.
        document["phase"] = DevicePhase.DISCONNECTED.name.lower()
        document["connected"] = False
    return document


def _outside(home: AgentHome) -> str:
    try:
        for path in (home.seed_file, home.tls.key):
            require_private(path)
        if home.admission() is None:
            return "not enrolled"
    except FederationError as error:
        return str(error)
    if space_left(home.path) < DISK_BYTES_MIN:
        return "disk full"
    return ""


def _runs(home: AgentHome) -> bool:
    # Trying the lock could make an agent that starts just now believe in another one.
    content = read_if_present(home.state / "lock", _PID_BYTES_MAX) or b""
    owner = content.decode("ascii", "replace").strip()
    return owner.isdigit() and Path("/proc", owner).exists()


def readable(document: dict[str, Any]) -> str:
    """The status for a person, a line a fact."""
    lines = []
    for key, value in document.items():
        shown = value
        if isinstance(value, dict):
            shown = ", ".join(f"{k} {v}" for k, v in value.items() if v is not None)
        elif isinstance(value, list):
            shown = (
                f"{len(value)} waiting"
                if key == "spool"
                else "; ".join(map(str, value))
            )
        elif isinstance(value, float) and math.isfinite(value):
            shown = f"{value:.3f}"
        if shown not in (None, ""):
            lines.append(f"{key.replace('_', ' '):<18} {shown}")
    return "\n".join(lines) + "\n"
