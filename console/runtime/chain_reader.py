"""Reader of a coordinator's chain file, beside the coordinator that writes it.

Each look opens the file anew for reading only, and sees one moment of it; SQLite's
write-ahead log lets the writer go on meanwhile.
"""

from collections.abc import Mapping
from pathlib import Path

from starling.console.chain_facts import (
    BlockFacts,
    ChainFacts,
    RegisteredBoard,
    TransactionFacts,
)
from starling.coordinator.chain.state import (
    board_records,
    task_records,
    validator_records,
)
from starling.coordinator.chain.storage.block_rows import unpack_body
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.task_file.privacy_statement import promise
from starling.protocol.chain.board_statement import BOARD
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import PublicKey, device_name
from starling.protocol.learning.task import MICRO
from starling.protocol.wire.envelope import ENVELOPE, MessageKind

BLOCKS_SHOWN = 50
_PREFIX = board_records.BOARDS.prefix


class ChainReader:
    """Facts of a chain file, kept until the chain has grown; not for two threads."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet.

        Args:
          path: The chain's file, which need not be there yet.
        """
        self._path = path
        self._height = -1
        self._facts = ChainFacts()

    def facts(self) -> ChainFacts:
        """The chain's facts; empty ones while there is no chain.

        Raises:
          StorageError: If the file is damaged.
        """
        if not self._path.is_file():
            return self._facts
        store = SqliteStore.read(self._path)
        try:
            with store.one_moment():
                height = store.height()
                # Everything shown follows from the blocks: while there is no new one,
                # nothing else is.
                if height != self._height:
                    self._facts = _facts(store, height)
                    self._height = height
        finally:
            store.close()
        return self._facts

    def block(self, height: int) -> BlockFacts | None:
        """One block; None if there is none.

        Raises:
          StorageError: If the file is damaged.
        """
        if not self._path.is_file():
            return None
        store = SqliteStore.read(self._path)
        try:
            with store.one_moment():
                return _block(store, height)
        finally:
            store.close()


def _facts(store: SqliteStore, height: int) -> ChainFacts:
    listed = range(height, max(0, height - BLOCKS_SHOWN), -1)
    found = (_block(store, each) for each in listed)
    members = validator_records.validators(store, store.genesis, height + 1).members
    terms, caps = {}, {}
    for number in range(task_records.task_count(store)):
        spec = task_records.task(store, number)
        if spec is not None:
            terms[number] = promise(spec).lines()
            if spec.privacy.mechanism:
                caps[number] = spec.privacy.epsilon_micro / MICRO
    return ChainFacts(
        store.genesis.fleet,
        store.genesis.chain_id().hex(),
        tuple(block for block in found if block is not None),
        tuple(member.name for member in members),
        {board.id: board for board in _boards(store)},
        terms,
        caps,
    )


def _boards(store: SqliteStore) -> list[RegisteredBoard]:
    made = []
    for key, value in store.items(_PREFIX):
        record = BOARD.unpack(value)
        made.append(
            RegisteredBoard(
                device_name(key[len(_PREFIX) :]),
                record.registered,
                record.revoked,
                record.updates,
                record.jailed,
                record.rotations,
            )
        )
    return made


def _block(store: SqliteStore, height: int) -> BlockFacts | None:
    known = store.header(height)
    if known is None:
        return None
    header, certificate = known.header, known.certificate
    # Of that height: who decided then, and not who decides today.
    members = validator_records.validators(store, store.genesis, height).members
    names = {member.public: member.name for member in members}

    def name(index: int) -> str:
        return members[index].name if index < len(members) else f"number {index}"

    row = next(store.rows(height, 1))
    kept = height >= store.first_body()
    packed = unpack_body(row.body) if kept and row.body else None
    return BlockFacts(
        height,
        header.block_id().hex(),
        header.time_ms,
        name(header.proposer),
        tuple(map(name, certificate.members())),
        certificate.round,
        None
        if packed is None
        else tuple(_transaction(store, each, names) for each in packed),
    )


def _transaction(
    store: SqliteStore, packed: bytes, names: Mapping[PublicKey, str]
) -> TransactionFacts:
    try:
        envelope = ENVELOPE.unpack(packed)
    except ProtocolError:
        return TransactionFacts("damaged", "", "")
    try:
        kind = MessageKind(envelope.kind).name.lower()
    except ValueError:
        kind = str(envelope.kind)
    sender = names.get(envelope.sender)
    if sender is None:
        sender = device_name(board_records.owner(store, envelope.sender))
    identity = envelope.identity(store.genesis.chain_id())
    return TransactionFacts(kind, identity.hex(), sender)
