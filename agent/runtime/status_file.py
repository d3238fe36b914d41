"""Status of a running agent, and where it is written: `status.json`."""

import json
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starling.agent.round.next_actions import next_action
from starling.agent.round.readiness import (
    condition,
    phase,
    pledge_of,
    rest_until_s,
)
from starling.agent.runtime.machine_info import clock_is_plausible
from starling.agent.runtime.privacy_status import label_account, privacy_facts
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.step.ongoing_work import (
    BlobDownload,
    OngoingUpload,
    PendingUpload,
)
from starling.agent.step.state import (
    AgentSettings,
    AgentState,
    ProvenVersion,
    ReadinessCondition,
)
from starling.agent.sync.refusal_record import reason_name
from starling.agent.training.trainer_messages import (
    ConfinementReport,
    DataFacts,
    LabelFacts,
)
from starling.broker.certificate_reader import days_left
from starling.durable.files import read_if_present, read_limited, replace_unsynced
from starling.protocol.errors import LimitError, ProtocolError, Reason, StorageError
from starling.protocol.ids import device_id, device_name
from starling.protocol.refusals import REFUSALS
from starling.protocol.wire.chunks import CHUNK_BYTES

STATUS_NAME = "status.json"
STATUS_BYTES_MAX = 1 << 20
HEARTBEAT_S = 10.0
GROUP_MODE = 0o640
_LEARNS_NOTHING = "mend the data as `fault` says: updates cost budget and teach nothing"


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
      last_update: The last update that a coordinator accepted, and when; None if none
        was since the start.
      certificate_days: Until the board's certificate ends; None if that is not known.
      labels: Of the labels that the last trainer drew; None before there were any.
      bytes_saved: By which models that came as differences were shorter.
      data_fault: Why updates learn nothing from the data set; empty if they do.
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
    last_update: dict[str, Any] | None = None
    certificate_days: float | None = None
    labels: LabelFacts | None = None
    bytes_saved: int = 0
    data_fault: str = ""


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
    offer, found, lost = state.offer, around.found, around.data_fault
    outside = asdict(around)
    del outside["found"], outside["labels"], outside["data_fault"]
    now = _condition(settings, state, around, now_s)
    document: dict[str, Any] = {
        "device": settings.device,
        "fleet": settings.topics.fleet,
        "pid": os.getpid(),
        "boot": settings.boot,
        "condition": now,
        "next_action": next_action(now) or (_LEARNS_NOTHING if lost else ""),
        **_rest(settings, state, now, now_s),
        "phase": phase(settings, state, now_s).name.lower(),
        "connected": state.connected,
        "task": settings.task,
        "tasks_refused": sorted(state.others),
        "manifests_refused": state.swaps,
        "version": None if offer is None else offer.version,
        "buffer": None if offer is None else offer.spec.aggregation.buffer,
        "coordinators": {
            "online": sum(state.online.values()),
            "away": sum(not each for each in state.online.values()),
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
        "fault": state.data_fault or state.fault or lost,
        "refused": _refused(state, now_s),
        "leases": state.leases,
        "privacy": privacy_facts(settings, state),
        "labels": label_account(settings, state, around.labels),
        "fetch": _fetch(state.fetch),
        "spool": [_upload(item, state.sending) for item in state.waiting],
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


def _rest(
    settings: AgentSettings, state: AgentState, now: str, now_s: float
) -> dict[str, str | None]:
    """Reason why the board rests, and until when; None for both where it does not.

    Until then no training starts; after it the next one begins with a lease.
    """
    # The core's time is monotonic; people read a clock.
    wait_s = rest_until_s(settings, state) - now_s
    why = {
        ReadinessCondition.PACED.value: _pace(settings, state),
        ReadinessCondition.RESTING.value: f"{state.failures} tries in a row failed",
    }.get(now)
    until = utc_text(time.time() + wait_s) if why and math.isfinite(wait_s) else None
    return {"why": why, "until": until}


def _pace(settings: AgentSettings, state: AgentState) -> str:
    """Setting that spreads the updates, in the words of agent.toml."""
    pace, offer = settings.pace, state.offer
    planned = 0 if offer is None else offer.spec.privacy.releases
    if planned and pace.period_s and pace.period_s / planned >= pace.between_s:
        days = f"{pace.period_s / 86_400:.6g}"
        return f"the task's {planned} updates are spread over pace.period_days = {days}"
    return f"pace.between_s = {pace.between_s:g}"


def _fetch(fetch: BlobDownload | None) -> dict[str, int] | None:
    """Progress of the blob that is pulled; None without one."""
    if fetch is None:
        return None
    whole = fetch.assembly
    # The last chunk may be shorter.
    come = (len(whole.pieces) - len(whole.missing)) * CHUNK_BYTES
    return {"bytes": whole.size, "got": min(whole.size, come)}


def _upload(item: PendingUpload, sending: OngoingUpload | None) -> dict[str, Any]:
    size, sent = item.entry.size, 0
    if sending is not None and sending.update == item.entry.update:
        # What the broker has not acknowledged does not count: a lost connection sends
        # it again.
        sent = (sending.next - len(sending.in_flight)) * CHUNK_BYTES
    return {
        "update": item.entry.update.hex(),
        "version": item.entry.base,
        "bytes": size,
        "sent": size if item.accepted else min(size, sent),
        "accepted": item.accepted,
        "refusal": item.refusal,
    }


def _refused(state: AgentState, now_s: float) -> dict[str, Any] | None:
    """Last refusal of the board; None once something was answered well."""
    refusal = state.answers.refusal
    if refusal is None:
        return None
    # A coordinator of a later release may have more reasons.
    known = refusal.reason in REFUSALS
    return {
        "reason": reason_name(refusal.reason),
        "about": refusal.about,
        "by": device_name(device_id(refusal.by)),
        "detail": refusal.detail,
        "since_s": round(now_s - refusal.at_s, 1),
        "do": REFUSALS[Reason(refusal.reason)].remedy if known else None,
    }


def runtime_folder(environment: Mapping[str, str]) -> Path | None:
    """The folder that systemd made for this run, in memory; None without one."""
    # Several may be given, with colons between them.
    first = environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(first) if first else None


class StatusPublisher:
    """Writes the status into the home when it changes, and into memory all the time.

    The home's file costs writes of a card, so that an idle board leaves it alone. The
    other one, in the folder of `RuntimeDirectory=`, is its group's to read, and its age
    tells whether the agent hangs.
    """

    def __init__(self, home: AgentHome, folder: Path | None) -> None:
        """Takes over what the last run knew.

        Args:
          home: The agent's home.
          folder: In memory; None if there is none.
        """
        self._home = home
        self._folder = folder
        # An owner wants to know of it after a restart, too, and nothing else keeps it.
        self._before = _last_update(home.status_file)

    @property
    def heartbeat_s(self) -> float:
        """After how many seconds it is to be written though nothing changed."""
        return float("inf") if self._folder is None else HEARTBEAT_S

    def write(self, document: dict[str, Any], *, changed: bool) -> None:
        """Replaces the files; a full disk leaves the old ones, which shows.

        Not synced: they are worth nothing after a power cut.

        Args:
          document: Of `describe`.
          changed: Whether the home's file is to be written, too.
        """
        shown = {
            **document,
            "home": str(self._home.path.resolve()),
            "as_of": utc_text(time.time()),
            "heartbeat_s": None if self._folder is None else HEARTBEAT_S,
            "last_update": document["last_update"] or self._before,
        }
        content = (json.dumps(shown) + "\n").encode()
        if changed:
            with suppress(StorageError):
                replace_unsynced(self._home.status_file, content)
        if self._folder is not None:
            with suppress(StorageError):
                replace_unsynced(self._folder / STATUS_NAME, content, GROUP_MODE)


def utc_text(moment_s: float) -> str:
    """A moment for people and scripts: date and time in UTC, to the second."""
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _last_update(path: Path) -> dict[str, Any] | None:
    unreadable = (StorageError, LimitError, ValueError, AttributeError, RecursionError)
    with suppress(*unreadable):
        content = read_if_present(path, STATUS_BYTES_MAX)
        found = json.loads(content or b"{}").get("last_update")
        return found if isinstance(found, dict) else None
    return None


def certificate_days(path: Path) -> float | None:
    """Days until a certificate ends; None if that cannot be told."""
    with suppress(StorageError, LimitError, ProtocolError, UnicodeDecodeError):
        return days_left(read_limited(path, STATUS_BYTES_MAX).decode(), time.time())
    return None
