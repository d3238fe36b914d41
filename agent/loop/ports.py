"""The world of an agent, as its event loop sees it.

Processes give it a clock, MQTT, files and a confined subprocess (`agent.runtime`),
virtual fleets give it memory and virtual time (`fleet.virtual`), and simulations give
it memory that may lose its power between any two calls (`tests/sim/simulator`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from starling.agent.loop.update_spans import AgentSpans
from starling.agent.step.effects import AdoptModel, Effect, SpoolEntry, StartTraining
from starling.agent.step.events import Event
from starling.broker.link_events import (
    AckToken,
    LinkDisconnected,
    LinkEvent,
    MqttMessage,
)
from starling.protocol.chain.light_client import TrustedState
from starling.protocol.ids import Digest
from starling.protocol.wire.envelope import Envelope

AgentItem = LinkEvent | Event
"""What the loop takes in: what happened on its link, or an event of the core."""


class AgentBus(Protocol):
    """An open connection to a broker."""

    def publish(self, message: MqttMessage) -> int:
        """Hands a message over; the result is named by `Delivered`.

        Raises:
          TransportError: If the connection takes none now.
          LimitError: If the message is too long for it.
        """

    def acknowledge(self, token: AckToken) -> None:
        """Tells the broker that a message is safe."""


class AgentStore(Protocol):
    """The agent's disk; each call is complete, and synced, when it returns.

    Raises:
      StorageError: From any call, if the disk refuses.
    """

    def spend(self, entry: bytes) -> None:
        """Appends to the privacy ledger's journal."""

    def keep_labels(self, batches: Sequence[bytes]) -> None:
        """Appends to the label journal: all of the batches, or none."""

    def advance_boot(self, boot: int) -> None:
        """Counts the starts from here."""

    def put_progress(self, trusted: TrustedState, manifest: bytes) -> None:
        """Keeps whom the board trusts, and the newest manifest that it proved."""

    def put_blob(self, digest: Digest, content: bytes) -> None:
        """Keeps a bundle or a model."""

    def blob_piece(self, digest: Digest, start: int, length: int) -> bytes:
        """At most `length` bytes of a blob that is kept, from `start` on."""

    def keep_blobs(self, digests: frozenset[Digest]) -> None:
        """Removes every blob but these."""

    def adopt(self, model: AdoptModel) -> None:
        """Gives a stored model to whoever uses models on this board."""

    def spool(self, entry: SpoolEntry, content: bytes) -> None:
        """Keeps an upload."""

    def renew(self, entry: SpoolEntry, lease: Envelope) -> SpoolEntry:
        """Puts another lease beside a spooled update.

        Returns:
          What the spool has now.
        """

    def chunk(self, entry: SpoolEntry, index: int) -> bytes:
        """One packed chunk of a spooled upload."""

    def mark_accepted(self, entry: SpoolEntry) -> None:
        """Notes a receipt; may be lost."""

    def keep_proof(self, entry: SpoolEntry, proof: bytes) -> None:
        """Keeps the proof that an upload is final; may be lost."""

    def delete_spooled(self, entry: SpoolEntry, why: str) -> None:
        """Removes an upload."""


class TrainerPort(Protocol):
    """Whoever trains; it answers with events of the core, through `AgentPorts.put`."""

    def load(self, bundle: Digest) -> None:
        """Tries a stored bundle; `BundleLoaded` or `LoadFailed` follows."""

    def start(self, asked: StartTraining) -> None:
        """Tries a model; `TrainerReady` or `TrainingFailed` follows."""

    def resume(self) -> None:
        """Lets it at the data; `TrainingFinished` or `TrainingFailed` follows.

        Where labels are drawn, `LabelsDrawn` comes before, and needs another call.
        """

    def stop(self, why: str) -> None:
        """Ends it; no event follows."""


class AgentMonitor(Protocol):
    """Is told what people should know; it decides what becomes of that."""

    def connected(self) -> None:
        """The broker has us."""

    def disconnected(self, event: LinkDisconnected) -> None:
        """It has not."""

    def stepped(self, event: Event, effects: tuple[Effect, ...]) -> None:
        """The core took an event; its effects come next."""

    def note(self, text: str, *, warns: bool) -> None:
        """A line for people."""


@dataclass(frozen=True)
class AgentPorts:
    """The world of one agent.

    Attributes:
      now_s: Monotonic time, in seconds.
      bus: Need not be connected yet.
      store: The disk; the loop alone uses it.
      trainer: The trainer.
      monitor: Told what people should know.
      put: Hands the loop an event for its next turn.
      spans: Watches updates; None if nobody asked for that.
      check: Has the board's checks run, and `ChecksFinished` put; None where there is
        no machine to check.
    """

    now_s: Callable[[], float]
    bus: AgentBus
    store: AgentStore
    trainer: TrainerPort
    monitor: AgentMonitor
    put: Callable[[Event], None]
    spans: AgentSpans | None = None
    check: Callable[[], None] | None = None
