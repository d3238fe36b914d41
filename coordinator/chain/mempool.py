"""Transactions that wait for a block, in the order of their arrival.

Immutable, with cheap copies. A coordinator that passes transactions on fills a share of
the places and no more: signatures prove nothing about use, and keys cost nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from starling.protocol.errors import LimitError, ProtocolError, Reason
from starling.protocol.ids import Digest
from starling.protocol.persistent_map import PersistentMap
from starling.protocol.wire.envelope import Envelope

SHARE_PARTS = 8
"""Each other coordinator may fill this part of the places."""
SHARE_BYTES_MAX = 4 * 1024 * 1024


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
      entries: By id.
      following: Place of the next one.
      shares: What others told us, by who did; never written to.
    """

    entries: PersistentMap[MempoolEntry] = field(default_factory=PersistentMap)
    following: int = 0
    shares: dict[bytes, SourceShare] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of transactions that wait."""
        return len(self.entries)

    def get(self, identity: bytes) -> MempoolEntry | None:
        """A waiting transaction by id."""
        return self.entries.get(identity)

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
        if self.entries.get(identity) is not None:
            raise ProtocolError("the transaction waits", Reason.ALREADY_KNOWN)
        if self.size >= most:
            raise LimitError(f"{most} transactions wait", Reason.BUSY)
        waiting = MempoolEntry(self.following, envelope, packed, source)
        shares = self.shares
        if source:
            share = shares.get(source, _NO_SHARE).with_more(waiting, 1)
            if share.count > most // SHARE_PARTS or share.bytes > SHARE_BYTES_MAX:
                raise LimitError("a coordinator fills its share", Reason.BUSY)
            shares = {**shares, source: share}
        return Mempool(self.entries.put(identity, waiting), self.following + 1, shares)

    def without(self, identities: Iterable[bytes]) -> "Mempool":
        """Without some; unknown ids do nothing."""
        # A decided block holds transactions that never waited here, too.
        gone = {
            identity: entry
            for identity in identities
            if (entry := self.entries.get(identity)) is not None
        }
        if not gone:
            return self
        shares = dict(self.shares)
        for entry in gone.values():
            if entry.source:
                shares[entry.source] = shares[entry.source].with_more(entry, -1)
        return Mempool(self.entries.without(*gone), self.following, shares)

    def oldest(self, count_max: int, bytes_max: int) -> list[MempoolEntry]:
        """The first ones in order of arrival, as many as both limits allow."""
        # Arrival and not price orders transactions, so that an update waits for no
        # later one.
        entries = sorted(self.entries.values(), key=lambda entry: entry.place)
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
