"""Transactions that wait for a block, in the order of their arrival.

Immutable, with cheap copies: adding one writes one of 256 small dictionaries.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.envelope import Envelope
from protocol.errors import LimitError, ProtocolError, Reason
from protocol.ids import Digest

_BUCKETS = 256
_EMPTY: dict[bytes, "Waiting"] = {}


@dataclass(frozen=True)
class Waiting:
    """A transaction whose signature was checked.

    Attributes:
      place: Grows with arrival.
      envelope: The transaction.
      packed: Its bytes.
    """

    place: int
    envelope: Envelope
    packed: bytes


@dataclass(frozen=True)
class Mempool:
    """The waiting transactions.

    Attributes:
      size: How many there are.
      following: Place of the next one.
      buckets: 256 dictionaries by first byte of the id, never written to.
    """

    size: int = 0
    following: int = 0
    buckets: tuple[dict[bytes, Waiting], ...] = (_EMPTY,) * _BUCKETS

    def get(self, identity: bytes) -> Waiting | None:
        """A waiting transaction by id."""
        return self.buckets[identity[0]].get(identity)

    def add(
        self, identity: Digest, envelope: Envelope, packed: bytes, most: int
    ) -> "Mempool":
        """With one more.

        Raises:
          ProtocolError: ALREADY_KNOWN.
          LimitError: BUSY, if `most` wait already.
        """
        bucket = self.buckets[identity[0]]
        if identity in bucket:
            raise ProtocolError("the transaction waits", Reason.ALREADY_KNOWN)
        if self.size >= most:
            raise LimitError(f"{most} transactions wait", Reason.BUSY)
        buckets = list(self.buckets)
        waiting = Waiting(self.following, envelope, packed)
        buckets[identity[0]] = {**bucket, identity: waiting}
        return Mempool(self.size + 1, self.following + 1, tuple(buckets))

    def without(self, identities: Iterable[bytes]) -> "Mempool":
        """Without some; unknown ids do nothing."""
        buckets = list(self.buckets)
        size = self.size
        copied: set[int] = set()
        for identity in identities:
            number = identity[0]
            if identity not in buckets[number]:
                continue
            if number not in copied:
                buckets[number] = dict(buckets[number])
                copied.add(number)
            del buckets[number][identity]
            size -= 1
        return Mempool(size, self.following, tuple(buckets))

    def oldest(self, count_max: int, bytes_max: int) -> list[Waiting]:
        """The first ones in order of arrival, as many as both limits allow."""
        entries = [entry for bucket in self.buckets for entry in bucket.values()]
        entries.sort(key=lambda entry: entry.place)
        chosen: list[Waiting] = []
        room = bytes_max
        for entry in entries[:count_max]:
            room -= len(entry.packed) + 5
            if room < 0:
                break
            chosen.append(entry)
        return chosen
