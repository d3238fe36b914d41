"""Records of boards in the chain's state: who they are and what they signed."""

from typing import Annotated

from starling.coordinator.chain.state.generational_cache import KEPT, CachedCodec
from starling.coordinator.chain.state.operator_records import is_operator
from starling.coordinator.chain.state.state_table import (
    BYTES,
    NUMBER,
    StateReader,
    Table,
    alone,
    by_identity,
    by_task_and_identity,
    count,
)
from starling.protocol.chain import board_statement
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.ids import DeviceId, Digest, Version, device_id
from starling.protocol.learning.task import STALENESS_MAX
from starling.protocol.schema.msgpack_codec import (
    Byte,
    Structure,
    Uint,
    many,
    structure,
)

CONVICTIONS_MAX = 8
"""Of a board; then it is excluded."""


class ConvictionRecord(Structure, frozen=True):
    """Conviction of a validator or a board.

    Attributes:
      offence: `protocol.chain.evidence.Offence`.
      height: Block that took the evidence.
      transaction: The EVIDENCE transaction.
      places: What it contradicted itself about, of all convictions.
    """

    offence: Byte
    height: Uint
    transaction: Digest
    places: Annotated[tuple[Digest, ...], many(CONVICTIONS_MAX, 1)]


FAULT = structure(ConvictionRecord, 512)


class SignedBase(Structure, frozen=True):
    """Transaction that a board signed for a base version."""

    base: Version
    transaction: Digest


class SigningHistory(Structure, frozen=True):
    """Transactions of a board for one task, from bases that are not yet too stale."""

    signed: Annotated[tuple[SignedBase, ...], many(STALENESS_MAX + 2)]


HISTORY = CachedCodec(
    structure(SigningHistory, 4096),
    KEPT,
)


BOARDS = Table(b"board/", by_identity, CachedCodec(board_statement.BOARD, KEPT))
"""By id: registered boards, revoked ones too."""
BOARD_COUNT = Table(b"boards", alone, NUMBER)
"""Boards that were ever registered."""
KEY_OWNERS = Table(b"key/", by_identity, BYTES)
"""By public key: id of the board that rotated to it."""
CONVICTIONS = Table(b"fault/", by_identity, FAULT)
"""By id of a board or validator: the contradictions that it provably signed."""
HISTORIES = Table(b"update/", by_task_and_identity, HISTORY)
"""By task and board: what it signed lately."""


def board(tree: StateReader, board_id: bytes) -> BoardRecord | None:
    """A registered board, revoked or not."""
    return BOARDS.get(tree, board_id)


def owner(tree: StateReader, public: bytes) -> DeviceId:
    """The id of whom a key belongs to, or belonged to before a rotation."""
    known = KEY_OWNERS.get(tree, public)
    return device_id(public) if known is None else DeviceId(known)


def signer(tree: StateReader, public: bytes) -> BoardRecord | None:
    """The board that may sign with a key now; None if there is none."""
    found = board(tree, owner(tree, public))
    # A key that was rotated away signs nothing any more, but still names its board.
    if found is None or found.revoked or found.public != public:
        return None
    return found


def in_use(tree: StateReader, public: bytes) -> bool:
    """True if a board or an operator signs with a key, or a board did."""
    return (
        KEY_OWNERS.has(tree, public)
        or BOARDS.has(tree, device_id(public))
        or is_operator(tree, public)
    )


def board_count(tree: StateReader) -> int:
    """Number of boards that were ever registered."""
    return count(tree, BOARD_COUNT)


def fault(tree: StateReader, public: bytes) -> ConvictionRecord | None:
    """Offence of a key's owner; None without a conviction."""
    return CONVICTIONS.get(tree, owner(tree, public))


def history(tree: StateReader, number: int, board_id: bytes) -> tuple[SignedBase, ...]:
    """Recent transactions of a board for a task, by rising base version."""
    found = HISTORIES.get(tree, number, board_id)
    return () if found is None else found.signed


def update_of(
    tree: StateReader, number: int, board_id: bytes, base: int
) -> Digest | None:
    """The transaction that a board signed for a task and base version."""
    for entry in history(tree, number, board_id):
        if entry.base == base:
            return entry.transaction
    return None
