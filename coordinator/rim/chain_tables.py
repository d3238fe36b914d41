"""The tables of the chain itself: blocks, the index of transactions, the state."""

from collections.abc import Iterator, Mapping, Sequence

from coordinator.ledger.rows import Row, decision, pack_body, unpack_body
from coordinator.ledger.storage import Location, StoredBlock, StoredTip, within
from coordinator.rim.schema import storage_errors
from coordinator.rim.tables import Tables
from protocol.chain import CERTIFICATE, HEADER, Block, Certificate
from protocol.errors import ProtocolError, StorageError
from protocol.ids import Digest
from protocol.statetree import StateTree


class ChainTables(Tables):
    """See `coordinator.ledger.storage.Store` for what the methods do."""

    def put_block(
        self,
        block: Block,
        certificate: Certificate,
        changes: Mapping[bytes, bytes | None],
        identities: Sequence[Digest],
    ) -> None:
        """See `Store`."""
        height = block.header.height
        row = (
            height,
            HEADER.pack(block.header),
            pack_body(block.transactions),
            CERTIFICATE.pack(certificate),
        )
        self._write("INSERT INTO blocks VALUES (?, ?, ?, ?)", row)
        run = self._connection.executemany
        places = [(identity, height, i) for i, identity in enumerate(identities)]
        run("INSERT INTO transactions VALUES (?, ?, ?)", places)
        written = [(key, value) for key, value in changes.items() if value is not None]
        run("INSERT OR REPLACE INTO state VALUES (?, ?)", written)
        removed = [(key,) for key, value in changes.items() if value is None]
        run("DELETE FROM state WHERE key = ?", removed)

    def state(self) -> StateTree:
        """The state as it is stored, whatever the last header says of it."""
        with storage_errors(self._path):
            rows = self._connection.execute("SELECT key, value FROM state")
            return StateTree().update(dict(rows))

    def tip(self) -> StoredTip:
        """See `Store`."""
        tree = self.state()
        height = self.height()
        if height == 0:
            return StoredTip(None, None, tree)
        last = self.block(height)
        assert last is not None
        header = last.block.header
        if tree.root() != header.state_root:
            raise StorageError(
                f"{self._path}: the state does not lead to the state_root of height "
                f"{height}; restore the file from a backup, together with the vote "
                "journal beside it"
            )
        return StoredTip(header, last.certificate, tree)

    def height(self) -> int:
        """Of the last block, 0 before the first."""
        row = self._one("SELECT max(height) FROM blocks")
        return int(row[0] or 0)

    def signatures(self) -> int:
        """About how many signatures a check of the whole chain verifies."""
        members = len(self.genesis.validators.members)
        (transactions,) = self._one("SELECT count(*) FROM transactions")
        return int(transactions) + members * self.height()

    def rows(self, first: int = 1, most: int = -1) -> Iterator[Row]:
        """Blocks as they are stored, rising: from a height on, so many or all."""
        with storage_errors(self._path):
            found = self._connection.execute(
                "SELECT height, header, body, certificate FROM blocks"
                " WHERE height >= ? ORDER BY height LIMIT ?",
                (first, most),
            )
            for height, *parts in found:
                if not all(isinstance(part, bytes) for part in parts):
                    raise StorageError(f"{self._path}: block {height} is damaged")
                yield Row(height, *parts)

    def transaction_index(self) -> dict[bytes, Location]:
        """The whole index of transactions, for verification."""
        with storage_errors(self._path):
            rows = self._connection.execute(
                "SELECT id, height, place FROM transactions"
            )
            return {
                identity: Location(height, place) for identity, height, place in rows
            }

    def block(self, height: int) -> StoredBlock | None:
        """See `Store`.

        Raises:
          StorageError: If the row is damaged.
        """
        row = self._one(
            "SELECT header, body, certificate FROM blocks WHERE height = ?", height
        )
        if row is None:
            return None
        header, body, certificate = row
        try:
            block = Block(HEADER.unpack(header), unpack_body(body))
            return StoredBlock(block, CERTIFICATE.unpack(certificate))
        except ProtocolError as error:
            raise StorageError(
                f"{self._path}: block {height} is damaged ({error}); "
                "`starling chain verify` says where"
            ) from error

    def decisions(self, first: int, most: int, bytes_max: int) -> tuple[bytes, ...]:
        """See `Store`."""
        return within(map(decision, self.rows(first, most)), bytes_max)

    def locate(self, transaction: bytes) -> Location | None:
        """See `Store`."""
        row = self._one(
            "SELECT height, place FROM transactions WHERE id = ?", transaction
        )
        return None if row is None else Location(*row)
