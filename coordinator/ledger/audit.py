"""A whole check of a coordinator's chain file, block by block.

Where transactions were pruned, or the chain was begun from a snapshot, headers and
certificates are checked up to the oldest snapshot, the snapshot against its header, and
everything else from there on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from coordinator.ledger import headers, verify
from coordinator.ledger.blocks import Tip
from coordinator.ledger.fault import Fault
from coordinator.ledger.rows import Row, unpack_body
from coordinator.ledger.snapshot import Manifest, unpack_bucket
from coordinator.ledger.storage import Location
from coordinator.ledger.verify import Ahead, nobody
from protocol.envelope import ENVELOPE
from protocol.errors import ProtocolError, StorageError
from protocol.genesis import Genesis, ValidatorSet
from protocol.ids import Digest, H
from protocol.statetree import BUCKETS, StateTree, root_of_buckets


class Chain(Protocol):
    """A stored chain, with its rows as they are; see `storage.Store`."""

    genesis: Genesis

    def rows(self, first: int = 1) -> Iterator[Row]:
        """Blocks from a height on, rising; an empty body is a pruned one."""

    def state(self) -> StateTree:
        """The stored state."""

    def transaction_index(self) -> Iterator[tuple[bytes, Location]]:
        """Where each transaction is said to stand, in any order."""

    def first_body(self) -> int:
        """Height of the first block whose transactions are kept."""

    def snapshots(self) -> tuple[int, ...]:
        """Heights of the snapshots that are kept, rising."""

    def manifest(self, height: int) -> Manifest | None:
        """What a snapshot consists of."""

    def buckets(self, height: int, first: int, bytes_max: int) -> tuple[bytes, ...]:
        """Packed buckets of a snapshot."""

    def validators(self, digest: bytes) -> ValidatorSet | None:
        """A set that certified a height, by its hash."""


@dataclass(frozen=True)
class Audit:
    """What a check found.

    Attributes:
      tip: The chain as far as it holds.
      transactions: How many stand in it, as far as they are kept.
      fault: The first thing that is wrong; None if all holds.
      bodies_from: Height from which transactions are kept.
      executed_from: Height from which they were executed.
    """

    tip: Tip
    transactions: int
    fault: Fault | None
    bodies_from: int = 1
    executed_from: int = 1


@dataclass
class _Walk:
    """A check under way."""

    chain: Chain
    progress: Callable[[int], None]
    tip: Tip
    places: "_Places" = field(default_factory=lambda: _Places())

    def found(self, height: int, identities: tuple[Digest, ...]) -> None:
        """A block holds."""
        for place, identity in enumerate(identities):
            self.places.add(identity, Location(height, place))
        self.progress(height)


@dataclass
class _Places:
    """A set of places of transactions in little memory: its size, and a sum of hashes.

    Equal sums mean equal sets, unless somebody searched for the contrary; and an index
    leads nobody to believe what its blocks do not hold.
    """

    count: int = 0
    total: int = 0

    def add(self, identity: bytes, location: Location) -> None:
        """Adds one that is not in it."""
        hashed = H(identity, b"%d/%d" % (location.height, location.place))
        self.count += 1
        self.total = (self.total + int.from_bytes(hashed)) % (1 << 256)


def audit(
    chain: Chain, progress: Callable[[int], None], ahead: Ahead = nobody
) -> Audit:
    """Checks every block, then that state and index are what the blocks give.

    Args:
      chain: The stored chain.
      progress: Told each height that holds.
      ahead: Who checks signatures beforehand.
    """
    walk = _Walk(chain, progress, verify.start(chain.genesis))
    bodies_from, executed_from = 1, 1
    try:
        bodies_from = chain.first_body()
        fault = _skip_to_snapshot(walk) if bodies_from > 1 else None
        executed_from = walk.tip.height + 1
        fault = fault or _execute(walk, ahead) or _check_rest(walk)
    except StorageError as error:
        fault = Fault(walk.tip.height + 1, "row", 0, False, str(error))
    return Audit(walk.tip, walk.places.count, fault, bodies_from, executed_from)


def _execute(walk: _Walk, ahead: Ahead) -> Fault | None:
    rows = walk.chain.rows(walk.tip.height + 1)
    for found in verify.check_rows(walk.chain.genesis, rows, ahead, walk.tip):
        if isinstance(found, Fault):
            return found
        walk.tip = found.tip
        walk.found(found.tip.height, found.identities)
    return None


def _skip_to_snapshot(walk: _Walk) -> Fault | None:
    """Goes to the oldest snapshot without executing anything."""
    chain, heights = walk.chain, walk.chain.snapshots()
    if not heights:
        detail = "transactions were pruned and there is no snapshot to go on from"
        return Fault(chain.first_body(), "snapshot", 0, False, detail)
    base = heights[0]
    if chain.first_body() > base + 1:
        detail = "transactions after the oldest snapshot are missing"
        return Fault(base + 1, "transactions", 0, False, detail)
    for found in headers.check(chain.genesis, _until(chain, base), chain.validators):
        if isinstance(found, Fault):
            return found
        header, certificate = found.header, found.certificate
        walk.tip = Tip(
            chain.genesis, walk.tip.chain_id, header, certificate, walk.tip.tree
        )
        walk.found(header.height, found.identities)
    if walk.tip.height != base:
        return Fault(base, "height", 0, False, "the header of the snapshot is missing")
    tree, fault = _snapshot(chain, base)
    walk.tip = Tip(
        chain.genesis, walk.tip.chain_id, walk.tip.header, walk.tip.certificate, tree
    )
    return fault


def _until(chain: Chain, height: int) -> Iterator[Row]:
    for row in chain.rows():
        if row.height > height:
            return
        yield row


def _snapshot(chain: Chain, height: int) -> tuple[StateTree, Fault | None]:
    """A snapshot's state, or what is wrong with it; its header was checked."""
    manifest = chain.manifest(height)
    state: dict[bytes, bytes | None] = {}
    try:
        if manifest is None:
            return StateTree(), Fault(height, "snapshot", 0, False, "incomplete")
        if root_of_buckets(manifest.buckets) != manifest.header.state_root:
            detail = "the buckets do not lead to the header's state root"
            return StateTree(), Fault(height, "snapshot", 0, False, detail)
        for number in range(BUCKETS):
            packed = chain.buckets(height, number, 0)[0]
            root = manifest.buckets[number]
            state.update(unpack_bucket(packed, number, root))
    except (ProtocolError, IndexError) as error:
        return StateTree(), Fault(height, "snapshot", 0, False, str(error))
    return StateTree().update(state), None


def _check_rest(walk: _Walk) -> Fault | None:
    chain, tip = walk.chain, walk.tip
    for height in chain.snapshots():
        _, fault = _snapshot(chain, height)
        if fault is not None:
            return fault
    return _check_state(chain, tip) or _check_index(walk)


def _check_state(chain: Chain, tip: Tip) -> Fault | None:
    key = verify.first_difference(tip.tree, chain.state())
    if key is None:
        return None
    detail = f"the stored value of {key!r} is not what the blocks give"
    return Fault(tip.height, "state", 0, False, detail)


def _check_index(walk: _Walk) -> Fault | None:
    stored = _Places()
    for identity, location in walk.chain.transaction_index():
        stored.add(identity, location)
    if stored == walk.places:
        return None
    detail = f"transaction {_misplaced(walk).hex()} is not indexed where it stands"
    return Fault(walk.tip.height, "transactions index", 0, False, detail)


def _misplaced(walk: _Walk) -> bytes:
    """The first transaction that the index has elsewhere, or has too much."""
    index = dict(walk.chain.transaction_index())
    for row in walk.chain.rows():
        packed = unpack_body(row.body) if row.body else ()
        for place, one in enumerate(packed):
            identity = ENVELOPE.unpack(one).identity(walk.tip.chain_id)
            if index.pop(identity, None) != Location(row.height, place):
                return identity
    return min(index)
