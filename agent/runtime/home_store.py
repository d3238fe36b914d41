"""The agent's disk: what is in its home, behind the store that its loop sees.

A full disk stops everything until there is room again: the write is tried anew, and
nothing after it happens before it has succeeded. Any other refusal of the disk ends the
process, which its service manager starts again.
"""

import errno
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from starling.agent.runtime.status_file import utc_text
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.blob_store import BlobStore
from starling.agent.runtime.storage.proof_store import ProofFolder
from starling.agent.runtime.storage.spool import Spool, SpoolIndex
from starling.agent.runtime.storage.trusted_state_file import (
    StoredTrust,
    keep_proof,
    write_progress,
)
from starling.agent.step.effects import AdoptModel, SpoolEntry
from starling.durable.files import write_atomic
from starling.durable.journal import Journal
from starling.protocol.chain.light_client import TrustedState
from starling.protocol.errors import StorageError
from starling.protocol.ids import Digest
from starling.protocol.wire.envelope import Envelope

LOG = logging.getLogger("agent")
_Found = TypeVar("_Found")
# A full disk mends itself once somebody makes room; what else a disk refuses, such as
# EIO or EROFS, waiting does not mend.
_FULL = (errno.ENOSPC, errno.EDQUOT)


def _never(why: str) -> bool:
    raise AssertionError(why)


@dataclass
class HomeStore:
    """See `agent.loop.ports.AgentStore`.

    Attributes:
      home: The agent's home.
      journal: The privacy ledger's.
      labels: The label journal.
      uploads: The spool.
      index: Its index.
      proofs: Of uploads that are final.
      blobs: Bundles and models.
      wait_for_space: Called while the disk is full; False to give up.
      last_update: The last one that was accepted since the start, and when.
    """

    home: AgentHome
    journal: Journal
    labels: Journal
    uploads: Spool
    index: SpoolIndex
    proofs: ProofFolder
    blobs: BlobStore
    wait_for_space: Callable[[str], bool] = _never
    last_update: dict[str, Any] | None = None

    def close(self) -> None:
        """Gives journals and index back, for another run in this process."""
        self.journal.close()
        self.labels.close()
        self.index.close()

    def keep(self, file: Path, content: bytes) -> None:
        """Writes parameters that stay on the board.

        Raises:
          StorageError: If the disk refuses for another reason than being full.
        """
        self.until_done(partial(write_atomic, file, content))

    def until_done(self, action: Callable[[], _Found]) -> _Found:
        """Does something that writes, again and again while the disk is full.

        Raises:
          StorageError: If the disk refuses for another reason, or nobody waits.
        """
        while True:
            try:
                return action()
            except StorageError as error:
                if not _is_full(error) or not self.wait_for_space(str(error)):
                    raise

    def spend(self, entry: bytes) -> None:
        """See `AgentStore`, as all below."""
        self.until_done(partial(self.journal.append, entry))

    def keep_labels(self, batches: Sequence[bytes]) -> None:
        """See `AgentStore`."""
        self.until_done(partial(self.labels.append_many, batches))

    def advance_boot(self, boot: int) -> None:
        """See `AgentStore`."""
        self.until_done(partial(self.index.leap, boot))

    def put_progress(self, trusted: TrustedState, manifest: bytes) -> None:
        """See `AgentStore`."""
        path = self.home.state / "progress"
        self.until_done(partial(write_progress, path, StoredTrust(trusted, manifest)))

    def put_blob(self, digest: Digest, content: bytes) -> None:
        """See `AgentStore`."""
        self.until_done(partial(self.blobs.write, digest, content))

    def blob_piece(self, digest: Digest, start: int, length: int) -> bytes:
        """See `AgentStore`."""
        return self.blobs.piece(digest, start, length)

    def keep_blobs(self, digests: frozenset[Digest]) -> None:
        """See `AgentStore`."""
        self.until_done(partial(self.blobs.keep, digests))

    def adopt(self, model: AdoptModel) -> None:
        """See `AgentStore`."""
        # What is believed by now proves it, or a newer version.
        progress = self.home.state / "progress"
        self.until_done(partial(keep_proof, progress, self.home.models))
        self.until_done(partial(self.blobs.adopt, model))
        LOG.info("version %d is used for inference", model.version)

    def spool(self, entry: SpoolEntry, content: bytes) -> None:
        """See `AgentStore`."""
        # The upload first: without it the charge is lost, whereas the moment only paces
        # the next one.
        self.until_done(partial(self.uploads.write, entry, content))
        self.until_done(partial(self.index.note_released, time.time()))
        LOG.info("version %d trained; %d bytes spooled", entry.base, entry.size)

    def renew(self, entry: SpoolEntry, lease: Envelope) -> SpoolEntry:
        """See `AgentStore`."""
        return self.until_done(partial(self.uploads.renew, entry, lease))

    def chunk(self, entry: SpoolEntry, index: int) -> bytes:
        """See `AgentStore`."""
        return self.uploads.chunk(entry, index)

    def mark_accepted(self, entry: SpoolEntry) -> None:
        """See `AgentStore`."""
        self.until_done(partial(self.index.mark_accepted, entry))
        moment = utc_text(time.time())
        self.last_update = {"version": entry.base, "accepted": moment}
        LOG.info("update for version %d accepted", entry.base)

    def keep_proof(self, entry: SpoolEntry, proof: bytes) -> None:
        """See `AgentStore`."""
        self.until_done(partial(self.proofs.keep, entry.task, entry.base, proof))

    def delete_spooled(self, entry: SpoolEntry, why: str) -> None:
        """See `AgentStore`."""
        # The file first: a power cut in between leaves the count too low, whereas the
        # other order could count one upload twice and contradict the ledger.
        self.until_done(partial(self.uploads.delete, entry))
        self.until_done(partial(self.index.mark_gone, entry, why))
        LOG.info("update for version %d is %s", entry.base, why)


def _is_full(error: StorageError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL
