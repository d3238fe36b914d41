"""The folder through which an operator's commands reach the running coordinator.

A command drops whole files by rename: blobs first, then the transaction that names
them. The coordinator stores blobs before it looks at transactions, and removes a file
when its content is durable elsewhere.
"""

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starling.coordinator.aggregation.strategy import PackedModel
from starling.coordinator.loop.ports import KeepBlob
from starling.coordinator.step.effects import RemoveInboxFile
from starling.durable.files import (
    read_if_present,
    replace_unsynced,
    storage_errors,
    sync_folder,
    write_atomic,
)
from starling.protocol.errors import LimitError, Reason
from starling.protocol.ids import ChainId, Digest, H
from starling.protocol.wire.chunks import WHOLE_BYTES_MAX
from starling.protocol.wire.envelope import ENVELOPE, ENVELOPE_BYTES_MAX, Envelope

log = logging.getLogger("starling.coordinator")

LOOK_EVERY_S = 0.25
TRANSACTION_SUFFIX = ".tx"
BLOB_SUFFIX = ".blob"
REFUSAL_SUFFIX = ".refused"
ANSWER_SUFFIX = ".answer"
REFUSALS_MAX = 64
"""Refusals, and answers, that wait for whoever dropped the transaction."""
_REFUSAL_BYTES_MAX = 1 << 16


@dataclass(frozen=True)
class InboxContent:
    """Contents of the inbox.

    Attributes:
      blobs: Names of files that hold blobs, sorted.
      transactions: Names of files that hold transactions, sorted.
    """

    blobs: tuple[str, ...]
    transactions: tuple[str, ...]


class CommandInbox:
    """The inbox of a running coordinator; each transaction is handed on once.

    Attributes:
      due_s: When it is to be looked into again.
    """

    def __init__(self, folder: Path, now_s: Callable[[], float]) -> None:
        """Looks at nothing yet.

        Args:
          folder: Where commands drop files.
          now_s: The loop's clock.
        """
        self._folder = folder
        self._now_s = now_s
        self._seen: set[str] = set()
        self.due_s = 0.0

    def fresh(self, keep: KeepBlob) -> list[tuple[str, bytes]]:
        """Begins to store the blobs that were dropped; reads the new transactions.

        Args:
          keep: Stores a blob.

        Returns:
          Names of files and what they hold.

        Raises:
          StorageError: If the disk refuses.
        """
        self.due_s = self._now_s() + LOOK_EVERY_S
        # Blobs before transactions: a transaction may only be looked at once what it
        # names is on its way to the store.
        dropped = look(self._folder)
        for name in dropped.blobs:
            if name in self._seen:
                continue
            try:
                content = read_blob(self._folder, name)
            except LimitError:
                log.warning("%s: over %d bytes, dropped", name, WHOLE_BYTES_MAX)
                remove(self._folder, name)
                continue
            if content is not None:
                # Until it is durable the file is all that there is of it.
                self._seen.add(name)
                keep(content, partial(self._stored, name))
        # What was removed may be dropped again, and the memory stays as long as the
        # folder.
        self._seen &= {*dropped.transactions, *dropped.blobs}
        fresh = [name for name in dropped.transactions if name not in self._seen]
        self._seen.update(fresh)
        read = [(name, read_transaction(self._folder, name)) for name in fresh]
        return [(name, content) for name, content in read if content is not None]

    def settle(self, settled: RemoveInboxFile) -> None:
        """See `coordinator.loop.ports.Inbox`."""
        settle(self._folder, settled)

    def _stored(self, name: str) -> None:
        remove(self._folder, name)
        self._seen.discard(name)


def look(inbox: Path) -> InboxContent:
    """Lists the inbox; files that are still being written do not show."""
    with storage_errors(inbox):
        names = sorted(entry.name for entry in inbox.iterdir() if entry.is_file())
    return InboxContent(
        tuple(name for name in names if name.endswith(BLOB_SUFFIX)),
        tuple(name for name in names if name.endswith(TRANSACTION_SUFFIX)),
    )


def read_transaction(inbox: Path, name: str) -> bytes | None:
    """Bytes of a dropped file, none if it is too long for a transaction.

    None if the file is gone: whoever dropped it may `withdraw` it at any moment.
    """
    try:
        return read_if_present(inbox / name, ENVELOPE_BYTES_MAX)
    except LimitError:
        # An empty one is refused like any other that cannot be read, so that who
        # dropped it hears of it.
        return b""


def read_blob(inbox: Path, name: str) -> bytes | None:
    """Bytes of a dropped blob; None if it is gone.

    Raises:
      LimitError: If it is too long to travel.
    """
    return read_if_present(inbox / name, WHOLE_BYTES_MAX)


def remove(inbox: Path, name: str) -> None:
    """Removes a file whose content is durable elsewhere."""
    with storage_errors(inbox / name):
        (inbox / name).unlink(missing_ok=True)
        sync_folder(inbox)


@dataclass(frozen=True)
class NotedRefusal:
    """Refusal of a dropped transaction by the coordinator."""

    reason: Reason
    detail: str


def settle(inbox: Path, settled: RemoveInboxFile) -> None:
    """Removes a file; whoever dropped it finds a refusal or an answer in its place.

    Raises:
      StorageError: If the disk refuses.
    """
    if settled.reason is not None:
        document = {"reason": settled.reason.name, "detail": settled.detail}
        noted = inbox / f"{Path(settled.name).stem}{REFUSAL_SUFFIX}"
        replace_unsynced(noted, json.dumps(document).encode())
        _forget_old(inbox, REFUSAL_SUFFIX)
    if settled.answer:
        place = inbox / f"{Path(settled.name).stem}{ANSWER_SUFFIX}"
        replace_unsynced(place, settled.answer)
        _forget_old(inbox, ANSWER_SUFFIX)
    # Last: after a power cut before, the transaction is refused or answered once more.
    remove(inbox, settled.name)


def take_refusal(inbox: Path, identity: Digest) -> NotedRefusal | None:
    """Reads and removes what was noted of a transaction; None if nothing was."""
    path = inbox / f"{identity.hex()}{REFUSAL_SUFFIX}"
    content = read_if_present(path, _REFUSAL_BYTES_MAX)
    if content is None:
        return None
    with storage_errors(path):
        path.unlink(missing_ok=True)
    try:
        document = json.loads(content)
        return NotedRefusal(Reason[document["reason"]], str(document["detail"]))
    except (ValueError, LookupError, TypeError):
        # Not synced when it was written, a power cut may have torn it; that it was
        # refused stands.
        return NotedRefusal(Reason.MALFORMED, "refused; see the coordinator's log")


def take_answer(inbox: Path, identity: Digest) -> bytes | None:
    """Reads and removes what was answered to a request; None if nothing was."""
    path = inbox / f"{identity.hex()}{ANSWER_SUFFIX}"
    content = read_if_present(path, ENVELOPE_BYTES_MAX)
    if content is not None:
        remove(inbox, path.name)
    return content


def withdraw(inbox: Path, identity: Digest) -> None:
    """Takes back what the coordinator has not looked at yet."""
    remove(inbox, f"{identity.hex()}{TRANSACTION_SUFFIX}")


def _forget_old(inbox: Path, suffix: str) -> None:
    """Keeps the newest files of a kind: nobody may ever ask for one."""
    with storage_errors(inbox):
        noted = []
        for entry in inbox.glob(f"*{suffix}"):
            # Whoever waits for one takes it away at any moment.
            with suppress(FileNotFoundError):
                noted.append((entry.stat().st_mtime_ns, entry))
        for _, entry in sorted(noted)[:-REFUSALS_MAX]:
            entry.unlink(missing_ok=True)


def drop_transaction(inbox: Path, envelope: Envelope, chain_id: ChainId) -> Path:
    """Hands a transaction to the running coordinator, or to the next one."""
    path = inbox / f"{envelope.identity(chain_id).hex()}{TRANSACTION_SUFFIX}"
    write_atomic(path, ENVELOPE.pack(envelope))
    return path


def drop_blob(inbox: Path, content: bytes) -> None:
    """Hands over bytes that are addressed by their content."""
    write_atomic(inbox / f"{H(content).hex()}{BLOB_SUFFIX}", content)


def drop_model(inbox: Path, model: PackedModel) -> None:
    """Hands over all parts of a model version."""
    for part in model.parts():
        drop_blob(inbox, part)
