"""A disk in memory: for virtual fleets, and for tests.

It outlives the loop that writes to it, as a disk outlives a power cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from starling.agent import machine
from starling.agent.loop.restored_state import pending_uploads
from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.step.effects import AdoptModel, Effect, SpoolEntry
from starling.agent.step.state import AgentSettings, AgentState
from starling.protocol.chain.light_client import TrustedState
from starling.protocol.ids import Digest, H
from starling.protocol.privacy.gaussian_dp import Budget
from starling.protocol.wire.chunks import CHUNK, chunk_at
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import UPLOAD


@dataclass
class MemoryAgentStore:
    """See `agent.loop.ports.AgentStore`.

    Attributes:
      boot: How often the agent was started.
      journal: The privacy ledger's entries.
      labels: The label journal's.
      uploads: The spool, by task and base version.
      accepted: Receipts that were noted.
      progress: Whom the board trusts, and its newest manifest; None before the first.
      blobs: Bundles and models.
      proofs: Of final uploads, by task and base version.
    """

    boot: int = 0
    journal: list[bytes] = field(default_factory=list)
    labels: list[bytes] = field(default_factory=list)
    uploads: dict[tuple[int, int], tuple[SpoolEntry, bytes]] = field(
        default_factory=dict
    )
    accepted: set[Digest] = field(default_factory=set)
    progress: tuple[TrustedState, bytes] | None = None
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    proofs: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def start(
        self,
        settings: AgentSettings,
        pinned: TrustedState,
        cap: Budget | None,
        now_s: float,
    ) -> tuple[AgentSettings, AgentState, tuple[Effect, ...]]:
        """Counts a start of the agent, and reads what its core begins with.

        Args:
          settings: Of the core, but for the number of starts.
          pinned: Trusted at the first start.
          cap: The owner's budget.
          now_s: Monotonic time.

        Returns:
          Settings and state of the core, and its first effects.
        """
        # The high bits of each envelope's counter: a number that is used twice is a
        # replay for every coordinator.
        self.boot += 1
        settings = replace(settings, boot=self.boot)
        trusted, manifest = self.progress or (pinned, b"")
        entries = [entry for _, (entry, _) in sorted(self.uploads.items())]
        state, effects = machine.begin(
            settings,
            trusted,
            PrivacyLedger.load(cap, self.journal),
            frozenset(self.blobs),
            pending_uploads(
                entries,
                lambda entry: entry.update in self.accepted,
                settings.pace,
                now_s,
            ),
            manifest or None,
            now_s,
        )
        return settings, state, effects

    def spend(self, entry: bytes) -> None:
        """See `AgentStore`, as all below."""
        self.journal.append(entry)

    def keep_labels(self, batches: Sequence[bytes]) -> None:
        """See `AgentStore`."""
        self.labels.extend(batches)

    def advance_boot(self, boot: int) -> None:
        """See `AgentStore`."""
        self.boot = boot

    def put_progress(self, trusted: TrustedState, manifest: bytes) -> None:
        """See `AgentStore`."""
        self.progress = trusted, manifest

    def put_blob(self, digest: Digest, content: bytes) -> None:
        """See `AgentStore`."""
        self.blobs[digest] = content

    def blob_piece(self, digest: Digest, start: int, length: int) -> bytes:
        """See `AgentStore`."""
        return self.blobs[digest][start : start + length]

    def keep_blobs(self, digests: frozenset[Digest]) -> None:
        """See `AgentStore`."""
        self.blobs = {key: self.blobs[key] for key in self.blobs if key in digests}

    def adopt(self, model: AdoptModel) -> None:
        """See `AgentStore`; nobody uses models here."""

    def spool(self, entry: SpoolEntry, content: bytes) -> None:
        """See `AgentStore`."""
        self.uploads[entry.task, entry.base] = entry, content

    def renew(self, entry: SpoolEntry, lease: Envelope) -> SpoolEntry:
        """See `AgentStore`."""
        _, content = self.uploads[entry.task, entry.base]
        renewed = UPLOAD.pack(replace(UPLOAD.unpack(content), lease=lease))
        entry = replace(entry, digest=H(renewed), size=len(renewed))
        self.uploads[entry.task, entry.base] = entry, renewed
        return entry

    def chunk(self, entry: SpoolEntry, index: int) -> bytes:
        """See `AgentStore`."""
        _, content = self.uploads[entry.task, entry.base]
        return CHUNK.pack(chunk_at(content, entry.digest, index))

    def mark_accepted(self, entry: SpoolEntry) -> None:
        """See `AgentStore`."""
        self.accepted.add(entry.update)

    def keep_proof(self, entry: SpoolEntry, proof: bytes) -> None:
        """See `AgentStore`."""
        self.proofs[entry.task, entry.base] = proof

    def delete_spooled(self, entry: SpoolEntry, why: str) -> None:
        """See `AgentStore`."""
        del why
        self.uploads.pop((entry.task, entry.base), None)
        self.accepted.discard(entry.update)
