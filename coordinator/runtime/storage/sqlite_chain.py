"""The tables of the chain itself: blocks, the index of transactions, the state."""

from collections.abc import Iterator, Mapping, Sequence

from starling.coordinator.chain.state import validator_records
from starling.coordinator.chain.storage.block_rows import (
    BlockRow,
    decision,
    pack_body,
    unpack_body,
)
from starling.coordinator.chain.storage.chain_store import (
    StoredBlock,
    StoredHead,
    StoredHeader,
    TransactionLocation,
    within,
)
from starling.coordinator.chain.storage.snapshot import (
    SNAPSHOT_BLOCKS,
    SNAPSHOTS_KEPT,
    SnapshotManifest,
    bucketed,
    is_due,
    pack_bucket,
)
from starling.coordinator.runtime.storage.sqlite_schema import REMEDY, storage_errors
from starling.coordinator.runtime.storage.sqlite_tables import SqliteTables
from starling.protocol.chain.blocks import (
    CERTIFICATE,
    HEADER,
    Block,
    Certificate,
    Header,
)
from starling.protocol.chain.genesis import ValidatorSet
from starling.protocol.chain.light_client import HANDOVER, ValidatorSetTransition
from starling.protocol.crypto.state_tree import BUCKETS, StateTree, bucket_root
from starling.protocol.errors import ProtocolError, StorageError
from starling.protocol.ids import Digest
from starling.protocol.wire.envelope import ENVELOPE

_FIRST_BODY = "first_body"


class ChainTables(SqliteTables):
    """Implements `coordinator.chain.storage.chain_store.ChainStore`."""

    def put_block(
        self,
        block: Block,
        certificate: Certificate,
        changes: Mapping[bytes, bytes | None],
        identities: Sequence[Digest],
    ) -> None:
        """See `ChainStore`."""
        header = block.header
        self._put_row(header, pack_body(block.transactions), certificate)
        run = self._connection.executemany
        places = [(one, header.height, place) for place, one in enumerate(identities)]
        run("INSERT INTO transactions VALUES (?, ?, ?)", places)
        written = [(key, value) for key, value in changes.items() if value is not None]
        run("INSERT OR REPLACE INTO state VALUES (?, ?)", written)
        removed = [(key,) for key, value in changes.items() if value is None]
        run("DELETE FROM state WHERE key = ?", removed)
        if header.next_validators != header.validators:
            height = header.height + 1
            # Of the state as this block leaves it, which was written above.
            following = validator_records.validators(self, self.genesis, height)
            self._put_end(ValidatorSetTransition(header, certificate, following))
        # Cheap first: the last snapshot is looked up at few heights.
        if header.height % SNAPSHOT_BLOCKS == 0 and is_due(header, self._last_taken()):
            self._take(header.height)

    def _put_row(self, header: Header, body: bytes, certificate: Certificate) -> None:
        packed = HEADER.pack(header), body, CERTIFICATE.pack(certificate)
        self._write("INSERT INTO blocks VALUES (?, ?, ?, ?)", (header.height, *packed))

    def _put_end(self, end: ValidatorSetTransition) -> None:
        height, following = end.header.height, end.following.digest()
        row = (height, following, HANDOVER.pack(end))
        self._write("INSERT INTO epochs VALUES (?, ?, ?)", row)

    def epochs(self) -> tuple[ValidatorSetTransition, ...]:
        """See `ChainStore`.

        Raises:
          StorageError: If one is damaged.
        """
        with storage_errors(self._path):
            rows = self._connection.execute("SELECT ending FROM epochs ORDER BY height")
            return tuple(self._end(packed) for (packed,) in rows)

    def _end(self, packed: bytes) -> ValidatorSetTransition:
        try:
            return HANDOVER.unpack(packed)
        except ProtocolError as error:
            raise self._damaged("a change of validators", error) from error

    def validators(self, digest: bytes) -> ValidatorSet | None:
        """See `ChainStore`.

        Raises:
          StorageError: If it does not hash to its digest.
        """
        if digest == self.genesis.validators.digest():
            return self.genesis.validators
        row = self._one("SELECT ending FROM epochs WHERE following = ?", digest)
        if row is None:
            return None
        found = self._end(row[0]).following
        if found.digest() != digest:
            raise self._damaged("a change of validators", "another set")
        return found

    def _last_taken(self) -> Header | None:
        taken = self.snapshots()
        known = self.header(taken[-1]) if taken else None
        return None if known is None else known.header

    def _take(self, height: int) -> None:
        """Copies the state as it is now; it is of this height."""
        rows = [
            (height, number, bucket_root(entries), pack_bucket(entries))
            for number, entries in enumerate(bucketed(self._entries()))
        ]
        run = self._connection.executemany
        run("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?)", rows)
        # More than one, since a newcomer that is half way through an older one goes on
        # with it.
        for old in self.snapshots()[:-SNAPSHOTS_KEPT]:
            self._write("DELETE FROM snapshots WHERE height = ?", (old,))

    def snapshots(self) -> tuple[int, ...]:
        """See `ChainStore`."""
        with storage_errors(self._path):
            rows = self._connection.execute(
                "SELECT DISTINCT height FROM snapshots ORDER BY height"
            )
            return tuple(height for (height,) in rows)

    def manifest(self, height: int) -> SnapshotManifest | None:
        """See `ChainStore`."""
        known = self.header(height)
        with storage_errors(self._path):
            rows = self._connection.execute(
                "SELECT root FROM snapshots WHERE height = ? ORDER BY bucket", (height,)
            )
            roots = tuple(Digest(root) for (root,) in rows)
        # Without its header nothing proves it.
        if known is None or len(roots) != BUCKETS:
            return None
        return SnapshotManifest(known.header, known.certificate, roots)

    def buckets(self, height: int, first: int, bytes_max: int) -> tuple[bytes, ...]:
        """See `ChainStore`."""
        with storage_errors(self._path):
            rows = self._connection.execute(
                "SELECT content FROM snapshots WHERE height = ? AND bucket >= ?"
                " ORDER BY bucket",
                (height, first),
            )
            return within((content for (content,) in rows), bytes_max)

    def adopt(
        self,
        manifest: SnapshotManifest,
        ends: Sequence[ValidatorSetTransition],
        state: Mapping[bytes, bytes],
    ) -> None:
        """See `ChainStore`."""
        height = manifest.header.height
        # All in one transaction of the caller: a power cut leaves the old chain or the
        # new one.
        for name in ("blocks", "transactions", "state", "snapshots"):
            self._write(f"DELETE FROM {name}", ())  # noqa: S608 - names of ours
        self._put_row(manifest.header, b"", manifest.certificate)
        run = self._connection.executemany
        run("INSERT INTO state VALUES (?, ?)", state.items())
        for end in ends:
            self._put_end(end)
        self._take(height)
        self._begin_bodies(height + 1)

    def first_body(self) -> int:
        """See `ChainStore`."""
        row = self._one("SELECT value FROM notes WHERE name = ?", _FIRST_BODY)
        return 1 if row is None else int(row[0])

    def _begin_bodies(self, height: int) -> None:
        self._write("INSERT OR REPLACE INTO notes VALUES (?, ?)", (_FIRST_BODY, height))

    def prune(self, height: int) -> None:
        """See `ChainStore`."""
        first = self.first_body()
        # The last body stays: whoever is one block behind asks for it.
        last = min(height, self.height() - 1)
        if last < first:
            return
        chain_id = self.genesis.chain_id()
        run = self._connection.executemany
        for row in self.rows(first, last - first + 1):
            entries = map(ENVELOPE.unpack, unpack_body(row.body))
            gone = [(entry.identity(chain_id),) for entry in entries]
            run("DELETE FROM transactions WHERE id = ?", gone)
        self._write(
            "UPDATE blocks SET body = x'' WHERE height BETWEEN ? AND ?", (first, last)
        )
        self._begin_bodies(last + 1)

    def state(self) -> StateTree:
        """The state as it is stored, whatever the last header says of it."""
        return StateTree().update(dict(self._entries()))

    def _entries(self) -> dict[bytes, bytes]:
        with storage_errors(self._path):
            return dict(self._connection.execute("SELECT key, value FROM state"))

    def get(self, key: bytes) -> bytes | None:
        """A value of the stored state, as the rules read it."""
        row = self._one("SELECT value FROM state WHERE key = ?", key)
        return None if row is None else bytes(row[0])

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Entries of the stored state whose keys begin with a table's prefix, by key.

        Args:
          prefix: Ends with a byte below 255.
        """
        # A range of the primary key: entries of other tables are not read.
        after = prefix[:-1] + bytes([prefix[-1] + 1])
        with storage_errors(self._path):
            yield from self._connection.execute(
                "SELECT key, value FROM state WHERE key >= ? AND key < ? ORDER BY key",
                (prefix, after),
            )

    def tip(self) -> StoredHead:
        """See `ChainStore`."""
        tree = self.state()
        height = self.height()
        if height == 0:
            return StoredHead(None, None, tree)
        last = self.header(height)
        assert last is not None
        header = last.header
        # A start looks at this alone; `chain verify` executes all blocks again.
        if tree.root() != header.state_root:
            raise StorageError(
                f"{self._path}: the state does not lead to the state_root of height "
                f"{height}; {REMEDY}"
            )
        return StoredHead(header, last.certificate, tree)

    def height(self) -> int:
        """Of the last block, 0 before the first."""
        row = self._one("SELECT max(height) FROM blocks")
        return int(row[0] or 0)

    def signatures(self) -> int:
        """About how many signatures a check of the whole chain verifies."""
        members = len(self.genesis.validators.members)
        (transactions,) = self._one("SELECT count(*) FROM transactions")
        return int(transactions) + members * self.height()

    def rows(self, first: int = 1, most: int = -1) -> Iterator[BlockRow]:
        """Blocks as they are stored, rising: from a height on, so many or all."""
        with storage_errors(self._path):
            found = self._connection.execute(
                "SELECT height, header, body, certificate FROM blocks"
                " WHERE height >= ? ORDER BY height LIMIT ?",
                (first, most),
            )
            for height, *parts in found:
                # SQLite holds a value of any type in any column, whatever was declared.
                if not all(isinstance(part, bytes) for part in parts):
                    raise StorageError(f"{self._path}: block {height} is damaged")
                yield BlockRow(height, *parts)

    def transaction_index(self) -> Iterator[tuple[bytes, TransactionLocation]]:
        """The whole index of transactions, for verification."""
        with storage_errors(self._path):
            rows = self._connection.execute(
                "SELECT id, height, place FROM transactions"
            )
            for identity, height, place in rows:
                yield identity, TransactionLocation(height, place)

    def block(self, height: int) -> StoredBlock | None:
        """See `ChainStore`.

        Raises:
          StorageError: If the row is damaged.
        """
        row = self._one("SELECT body FROM blocks WHERE height = ?", height)
        # A pruned body is empty; one without transactions is not.
        known = self.header(height) if row is not None and row[0] else None
        if known is None:
            return None
        try:
            block = Block(known.header, unpack_body(row[0]))
        except ProtocolError as error:
            raise self._damaged(f"block {height}", error) from error
        return StoredBlock(block, known.certificate)

    def header(self, height: int) -> StoredHeader | None:
        """See `ChainStore`.

        Raises:
          StorageError: If the row is damaged.
        """
        row = self._one(
            "SELECT header, certificate FROM blocks WHERE height = ?", height
        )
        if row is None:
            return None
        try:
            return StoredHeader(HEADER.unpack(row[0]), CERTIFICATE.unpack(row[1]))
        except ProtocolError as error:
            raise self._damaged(f"block {height}", error) from error

    def _damaged(self, what: str, why: object) -> StorageError:
        return StorageError(
            f"{self._path}: {what} is damaged ({why}); "
            "`starling chain verify` says where"
        )

    def decisions(self, first: int, most: int, bytes_max: int) -> tuple[bytes, ...]:
        """See `ChainStore`."""
        if first < self.first_body():
            return ()
        return within(map(decision, self.rows(first, most)), bytes_max)

    def locate(self, transaction: bytes) -> TransactionLocation | None:
        """See `ChainStore`."""
        row = self._one(
            "SELECT height, place FROM transactions WHERE id = ?", transaction
        )
        return None if row is None else TransactionLocation(*row)
