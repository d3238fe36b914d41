"""Long blobs go to the disk in slices, so that no vote waits for all of one.

A bundle of 30 MB written at once holds the loop up for as long as the disk takes for
it. Until the last slice is there the blob is not stored: what reads it, or vouches
that it is durable, waits for that. A crash before it loses the blob, as if it had not
come; what is left of it goes at the next start.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starling.coordinator.chain.storage.chain_store import ChainStore
from starling.coordinator.step.effects import (
    ComputeVersion,
    Effect,
    EvaluateVersion,
    ExamineBundle,
    FindMissingBlobs,
    StorePeerBlob,
)
from starling.protocol.ids import Digest, H

SLICE_BYTES = 1 << 20
LONG_BYTES = 2 << 20
"""Up to this a blob is written at once, with what else a turn has to write."""
_Reading = ComputeVersion | EvaluateVersion | ExamineBundle | FindMissingBlobs


@dataclass(frozen=True)
class _Unfinished:
    digest: Digest
    content: bytes
    done: Callable[[], None]


class PendingBlobWrites:
    """Blobs that are being written."""

    def __init__(self, store: ChainStore) -> None:
        """Forgets what an earlier run left unfinished.

        Args:
          store: Where blobs are kept.

        Raises:
          StorageError: If the disk refuses.
        """
        self._store = store
        self._waiting: deque[_Unfinished] = deque()
        self._written = 0
        self._held_back: list[Effect] = []
        with store.transaction():
            store.drop_parts()

    @property
    def pending(self) -> bool:
        """True if anything is still to be written."""
        return bool(self._waiting)

    def keep(self, content: bytes, done: Callable[[], None]) -> None:
        """Stores a blob now or over the next turns.

        Args:
          content: The blob.
          done: Called when it is durable.

        Raises:
          StorageError: If the disk refuses.
        """
        if len(content) > LONG_BYTES:
            self._waiting.append(_Unfinished(H(content), content, done))
            return
        with self._store.transaction():
            self._store.put_blob(content)
        done()

    def take(self, effects: Sequence[Effect]) -> list[Effect]:
        """Takes over the long blobs of a turn, and writes one slice.

        Returns:
          The other effects.

        Raises:
          StorageError: If the disk refuses.
        """
        others: list[Effect] = []
        for effect in effects:
            if isinstance(effect, StorePeerBlob) and len(effect.content) > LONG_BYTES:
                blob = _Unfinished(effect.digest, effect.content, lambda: None)
                self._waiting.append(blob)
            else:
                others.append(effect)
        if self._waiting:
            self._write_slice(self._waiting[0])
        return others

    def due(self, effects: Sequence[Effect]) -> list[Effect]:
        """The effects that may be carried out now, and earlier ones that waited."""
        if not self._waiting:
            due, self._held_back = [*self._held_back, *effects], []
            return due
        self._held_back += [each for each in effects if isinstance(each, _Reading)]
        return [each for each in effects if not isinstance(each, _Reading)]

    def _write_slice(self, blob: _Unfinished) -> None:
        start = self._written
        end = min(start + SLICE_BYTES, len(blob.content))
        last = end == len(blob.content) or self._store.has_blob(blob.digest)
        with self._store.transaction():
            number = start // SLICE_BYTES
            self._store.put_part(blob.digest, number, blob.content[start:end])
            if last:
                self._store.join_parts(blob.digest)
        self._written = end
        if last:
            self._waiting.popleft()
            self._written = 0
            blob.done()
