"""Transactions that wait for a block, in the order of their arrival.

Immutable, with cheap copies: adding one writes one of 256 small dictionaries. Whoever
tells us of transactions fills a share of the room and no more: signatures prove nothing
about use, and keys cost nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from starling.protocol.errors import LimitError, ProtocolError, Reason
from starling.protocol.ids import Digest
from starling.protocol.wire.envelope import Envelope

SHARE_PARTS = 8
"""Each other coordinator may fill this part of the places."""
SHARE_BYTES_MAX = 4 * 1024 * 1024
_BUCKETS = 256
_EMPTY: dict[bytes, "MempoolEntry"] = {}


@dataclass(frozen=True)
class MempoolEntry:
    """A transaction whose signature was checked.

    Attributes:
      place: Grows with arrival.
      envelope: The transaction.
      packed: Its bytes.
      source: Which other coordinator told us; empty if none did.
    """

    place: int
    envelope: Envelope
    packed: bytes
    source: bytes = b""


@dataclass(frozen=True)
class SourceShare:
    """Part of the mempool that one source fills."""

    count: int = 0
    bytes: int = 0

    def with_more(self, waiting: MempoolEntry, sign: int) -> "SourceShare":
        """With one transaction more or, for a `sign` of -1, less."""
        size = len(waiting.packed)
        return SourceShare(self.count + sign, self.bytes + sign * size)


_NO_SHARE = SourceShare()


@dataclass(frozen=True)
class Mempool:
    """The waiting transactions.

    Attributes:
      size: How many there are.
      following: Place of the next one.
      buckets: 256 dictionaries by first byte of the id, never written to.
      shares: What others told us, by who did; never written to.
    """

    size: int = 0
    following: int = 0
    buckets: tuple[dict[bytes, MempoolEntry], ...] = (_EMPTY,) * _BUCKETS
    shares: dict[bytes, SourceShare] = field(default_factory=dict)

    def get(self, identity: bytes) -> MempoolEntry | None:
        """A waiting transaction by id."""
        return self.buckets[identity[0]].get(identity)

    def add(
        self,
        identity: Digest,
        envelope: Envelope,
        packed: bytes,
        most: int,
        source: bytes = b"",
    ) -> "Mempool":
        """With one more.

        Args:
          identity: Its id.
          envelope: The transaction.
          packed: Its bytes.
          most: How many may wait.
          source: Which other coordinator told us; empty if none did.

        Raises:
          ProtocolError: ALREADY_KNOWN.
          LimitError: BUSY, if `most` wait already or the source's share is full.
        """
        bucket = self.buckets[identity[0]]
        if identity in bucket:
            raise ProtocolError("the transaction waits", Reason.ALREADY_KNOWN)
        if self.size >= most:
            raise LimitError(f"{most} transactions wait", Reason.BUSY)
        buckets = list(self.buckets)
        waiting = MempoolEntry(self.following, envelope, packed, source)
        buckets[identity[0]] = {**bucket, identity: waiting}
        shares = self.shares
        if source:
            share = shares.get(source, _NO_SHARE).with_more(waiting, 1)
            if share.count > most // SHARE_PARTS or share.bytes > SHARE_BYTES_MAX:
                raise LimitError("a coordinator fills its share", Reason.BUSY)
            shares = {**shares, source: share}
        size, following = self.size + 1, self.following + 1
        return Mempool(size, following, tuple(buckets), shares)

    def without(self, identities: Iterable[bytes]) -> "Mempool":
        """Without some; unknown ids do nothing."""
        buckets = list(self.buckets)
        size, shares = self.size, dict(self.shares)
        copied: set[int] = set()
        for identity in identities:
            number = identity[0]
            # A decided block holds transactions that never waited here, too.
            if identity not in buckets[number]:
                continue
            if number not in copied:
                buckets[number] = dict(buckets[number])
                copied.add(number)
            gone = buckets[number].pop(identity)
            size -= 1
            if gone.source:
                shares[gone.source] = shares[gone.source].with_more(gone, -1)
        return Mempool(size, self.following, tuple(buckets), shares)

    def oldest(self, count_max: int, bytes_max: int) -> list[MempoolEntry]:
        """The first ones in order of arrival, as many as both limits allow."""
        entries = [entry for bucket in self.buckets for entry in bucket.values()]
        # Arrival and not price orders transactions, so that an update waits for no
        # later one.
        entries.sort(key=lambda entry: entry.place)
        chosen: list[MempoolEntry] = []
        room = bytes_max
        for entry in entries[:count_max]:
            # Five bytes are the longest head of a binary in msgpack.
            room -= len(entry.packed) + 5
            if room < 0:
                # No shorter ones behind it: a long transaction would be overtaken for
                # ever.
                break
            chosen.append(entry)
        return chosen
