"""A whole check of a coordinator's chain file, block by block.

Where transactions were pruned, or the chain was begun from a snapshot, headers and
certificates are checked up to the oldest snapshot, the snapshot against its header, and
everything else from there on.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from starling.coordinator.chain.execution.block_builder import ChainHead
from starling.coordinator.chain.storage.block_rows import BlockRow, unpack_body
from starling.coordinator.chain.storage.chain_store import TransactionLocation
from starling.coordinator.chain.storage.snapshot import SnapshotManifest, unpack_bucket
from starling.coordinator.chain.verification import chain_replay, header_checks
from starling.coordinator.chain.verification.block_damage import BlockDamage
from starling.coordinator.chain.verification.chain_replay import Ahead, nobody
from starling.protocol.chain.genesis import Genesis, ValidatorSet
from starling.protocol.crypto.state_tree import BUCKETS, StateTree, root_of_buckets
from starling.protocol.errors import ProtocolError, StorageError
from starling.protocol.ids import Digest, H
from starling.protocol.wire.envelope import ENVELOPE


class AuditableChain(Protocol):
    """A stored chain, with its rows as they are; see `chain_store.ChainStore`."""

    genesis: Genesis

    def rows(self, first: int = 1) -> Iterator[BlockRow]:
        """Blocks from a height on, rising; an empty body is a pruned one."""

    def state(self) -> StateTree:
        """The stored state."""

    def transaction_index(self) -> Iterator[tuple[bytes, TransactionLocation]]:
        """Stored locations of all transactions, in any order."""

    def first_body(self) -> int:
        """Height of the first block whose transactions are kept."""

    def snapshots(self) -> tuple[int, ...]:
        """Heights of the snapshots that are kept, rising."""

    def manifest(self, height: int) -> SnapshotManifest | None:
        """Manifest of a snapshot."""

    def buckets(self, height: int, first: int, bytes_max: int) -> tuple[bytes, ...]:
        """Packed buckets of a snapshot."""

    def validators(self, digest: bytes) -> ValidatorSet | None:
        """A set that certified a height, by its hash."""


Observe = Callable[[ChainHead, Mapping[bytes, bytes | None]], None]
"""Told of each executed block: the chain with it, and what it changed in the state.

Before the first one it is told of the state that execution begins with, and no change.
"""


def unobserved(tip: ChainHead, changes: Mapping[bytes, bytes | None]) -> None:
    """Looks at nothing."""
    del tip, changes


@dataclass(frozen=True)
class AuditResult:
    """Findings of an audit.

    Attributes:
      tip: The chain as far as it holds.
      transactions: How many stand in it, as far as they are kept.
      fault: The first thing that is wrong; None if all holds.
      bodies_from: Height from which transactions are kept.
      executed_from: Height from which they were executed.
    """

    tip: ChainHead
    transactions: int
    fault: BlockDamage | None
    bodies_from: int = 1
    executed_from: int = 1


@dataclass
class _Walk:
    """A check under way."""

    chain: AuditableChain
    progress: Callable[[int], None]
    tip: ChainHead
    observe: Observe
    places: "_Places" = field(default_factory=lambda: _Places())

    def found(self, height: int, identities: tuple[Digest, ...]) -> None:
        """A block holds."""
        for place, identity in enumerate(identities):
            self.places.add(identity, TransactionLocation(height, place))
        self.progress(height)


@dataclass
class _Places:
    """A set of places of transactions in little memory: its size, and a sum of hashes.

    Equal sums mean equal sets, unless somebody searched for the contrary; and an index
    leads nobody to believe what its blocks do not hold.
    """

    count: int = 0
    total: int = 0

    def add(self, identity: bytes, location: TransactionLocation) -> None:
        """Adds one that is not in it."""
        hashed = H(identity, b"%d/%d" % (location.height, location.place))
        self.count += 1
        self.total = (self.total + int.from_bytes(hashed)) % (1 << 256)


def audit(
    chain: AuditableChain,
    progress: Callable[[int], None],
    ahead: Ahead = nobody,
    observe: Observe = unobserved,
) -> AuditResult:
    """Checks every block, then that state and index are what the blocks give.

    Args:
      chain: The stored chain.
      progress: Told each height that holds.
      ahead: Who checks signatures beforehand.
      observe: Who looks at the executed blocks.
    """
    walk = _Walk(chain, progress, chain_replay.start(chain.genesis), observe)
    bodies_from, executed_from = 1, 1
    try:
        bodies_from = chain.first_body()
        # Pruned blocks cannot be executed: the oldest snapshot takes their place.
        fault = _skip_to_snapshot(walk) if bodies_from > 1 else None
        executed_from = walk.tip.height + 1
        fault = fault or _execute(walk, ahead) or _check_rest(walk)
    except StorageError as error:
        # A damaged file raises wherever it is read, and the walk knows how far it came.
        fault = BlockDamage(walk.tip.height + 1, "row", 0, False, str(error))
    return AuditResult(walk.tip, walk.places.count, fault, bodies_from, executed_from)


def _execute(walk: _Walk, ahead: Ahead) -> BlockDamage | None:
    rows = walk.chain.rows(walk.tip.height + 1)
    walk.observe(walk.tip, {})
    for found in chain_replay.check_rows(walk.chain.genesis, rows, ahead, walk.tip):
        if isinstance(found, BlockDamage):
            return found
        walk.tip = found.tip
        walk.observe(found.tip, found.changes)
        walk.found(found.tip.height, found.identities)
    return None


def _skip_to_snapshot(walk: _Walk) -> BlockDamage | None:
    """Goes to the oldest snapshot without executing anything."""
    chain, heights = walk.chain, walk.chain.snapshots()
    if not heights:
        detail = "transactions were pruned and there is no snapshot to go on from"
        return BlockDamage(chain.first_body(), "snapshot", 0, False, detail)
    # The oldest, so that as many blocks as possible are executed.
    base = heights[0]
    if chain.first_body() > base + 1:
        detail = "transactions after the oldest snapshot are missing"
        return BlockDamage(base + 1, "transactions", 0, False, detail)
    for found in header_checks.check(
        chain.genesis, _until(chain, base), chain.validators
    ):
        if isinstance(found, BlockDamage):
            return found
        header, certificate = found.header, found.certificate
        # The tree is still the genesis's: headers are checked without a state.
        walk.tip = ChainHead(
            chain.genesis, walk.tip.chain_id, header, certificate, walk.tip.tree
        )
        walk.found(header.height, found.identities)
    if walk.tip.height != base:
        return BlockDamage(
            base, "height", 0, False, "the header of the snapshot is missing"
        )
    tree, fault = _snapshot(chain, base)
    walk.tip = ChainHead(
        chain.genesis, walk.tip.chain_id, walk.tip.header, walk.tip.certificate, tree
    )
    return fault


def _until(chain: AuditableChain, height: int) -> Iterator[BlockRow]:
    for row in chain.rows():
        if row.height > height:
            return
        yield row


def _snapshot(
    chain: AuditableChain, height: int
) -> tuple[StateTree, BlockDamage | None]:
    """A snapshot's state, or what is wrong with it; its header was checked."""
    manifest = chain.manifest(height)
    state: dict[bytes, bytes | None] = {}
    try:
        if manifest is None:
            return StateTree(), BlockDamage(height, "snapshot", 0, False, "incomplete")
        if root_of_buckets(manifest.buckets) != manifest.header.state_root:
            detail = "the buckets do not lead to the header's state root"
            return StateTree(), BlockDamage(height, "snapshot", 0, False, detail)
        for number in range(BUCKETS):
            # A limit of no bytes gives this one bucket and no other.
            packed = chain.buckets(height, number, 0)[0]
            root = manifest.buckets[number]
            state.update(unpack_bucket(packed, number, root))
    except (ProtocolError, IndexError) as error:
        return StateTree(), BlockDamage(height, "snapshot", 0, False, str(error))
    return StateTree().update(state), None


def _check_rest(walk: _Walk) -> BlockDamage | None:
    chain, tip = walk.chain, walk.tip
    for height in chain.snapshots():
        _, fault = _snapshot(chain, height)
        if fault is not None:
            return fault
    # Last: both can be wrong only beside blocks that hold.
    return _check_state(chain, tip) or _check_index(walk)


def _check_state(chain: AuditableChain, tip: ChainHead) -> BlockDamage | None:
    key = chain_replay.first_difference(tip.tree, chain.state())
    if key is None:
        return None
    detail = f"the stored value of {key!r} is not what the blocks give"
    return BlockDamage(tip.height, "state", 0, False, detail)


def _check_index(walk: _Walk) -> BlockDamage | None:
    stored = _Places()
    for identity, location in walk.chain.transaction_index():
        stored.add(identity, location)
    if stored == walk.places:
        return None
    # Only after the sums differ, since it takes memory for every transaction.
    detail = f"transaction {_misplaced(walk).hex()} is not indexed where it stands"
    return BlockDamage(walk.tip.height, "transactions index", 0, False, detail)


def _misplaced(walk: _Walk) -> bytes:
    """The first transaction that the index has elsewhere, or has too much."""
    index = dict(walk.chain.transaction_index())
    for row in walk.chain.rows():
        packed = unpack_body(row.body) if row.body else ()
        for place, one in enumerate(packed):
            identity = ENVELOPE.unpack(one).identity(walk.tip.chain_id)
            if index.pop(identity, None) != TransactionLocation(row.height, place):
                return identity
    return min(index)
