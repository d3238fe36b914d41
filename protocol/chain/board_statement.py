"""Statement of a board's state on the chain, and the request for its proof.

A board's own ledger can be lost or put back from an old copy; the chain's record of it
cannot. Before a board trains it therefore asks for that record, under a certified
header, and counts whatever the record says and its own ledger does not. The record is
believed by its proof alone: an older one shows less and takes nothing back, and none
can show more than the board has signed.
"""

from enum import IntEnum
from typing import Annotated

from starling.protocol.chain.blocks import Certificate, Header
from starling.protocol.chain.genesis import FaultModel
from starling.protocol.chain.key_rotation import ROTATIONS_MAX
from starling.protocol.chain.light_client import TrustedState
from starling.protocol.crypto.state_tree import StateProof
from starling.protocol.errors import ProofError
from starling.protocol.ids import (
    DeviceId,
    Digest,
    PublicKey,
    TaskId,
    Version,
)
from starling.protocol.schema.msgpack_codec import Structure, Uint, structure, uint


class StatementRequest(IntEnum):
    """Addressee and freshness of the statement that a check-in asks for."""

    NOBODY = 0
    GRANTOR = 1
    """Whoever answers the check-in."""
    EVERYBODY = 2
    """Every coordinator that hears it: one that lies cannot hide the newest record."""


class BoardRecord(Structure, frozen=True):
    """A board of the registry.

    Attributes:
      public: The key that it signs with.
      sponsor: Id of the operator that registered it, and paid its deposit.
      registered: Height of its registration.
      revoked: Height of its revocation, 0 while it may take part.
      updates: How many updates of it the chain took.
      charge: Sum of their privacy charges, in units of `protocol.privacy.gaussian_dp`.
      rotations: How often it changed its key.
      jailed: Last height of its latest jail, 0 before it was convicted.
      paid: The most that it ever signed to have paid on this chain, in the same units;
        what never came to the chain included.
      mechanisms: Bit i is set if it took part in a task whose mechanism is number i.
      jailed_ms: Last header time of that jail; it ends when both are over.
    """

    public: PublicKey
    sponsor: DeviceId
    registered: Uint
    revoked: Uint
    updates: Uint
    charge: Uint
    rotations: Annotated[int, uint(ROTATIONS_MAX)] = 0
    jailed: Uint = 0
    paid: Uint = 0
    mechanisms: Uint = 0
    jailed_ms: Uint = 0

    def is_jailed(self, height: int, time_ms: int) -> bool:
        """True if a block of this height and header time refuses its messages."""
        return self.jailed > 0 and (height <= self.jailed or time_ms <= self.jailed_ms)


BOARD = structure(BoardRecord, 160)


class TaskProgress(Structure, frozen=True):
    """Progress of one task on the chain.

    Attributes:
      head: Its current final version.
      first: Place of the oldest waiting update; `following` if none waits.
      following: Place that the next update gets; places are never used twice.
      pending: How many wait: at most `following - first`, since stale ones leave gaps.
    """

    head: Version
    first: Uint
    following: Uint
    pending: Uint


PROGRESS = structure(TaskProgress, 64)


def head_key(number: int) -> bytes:
    """The state key under which a task's progress stands."""
    return b"head/%d" % number


def board_key(board_id: bytes) -> bytes:
    """The state key under which a board's record stands."""
    return b"board/" + board_id


class BoardStatement(Structure, frozen=True):
    """STATEMENT: a board's record with everything that proves it.

    Attributes:
      asked: Id of the CHECK_IN that asked for it.
      header: A certified header.
      certificate: Its certificate.
      record: The packed `BoardRecord` under the header's state root.
      progress: The packed `TaskProgress` of the task, under the same root: no update of
        the board that the record counts has a base beyond its head.
    """

    asked: Digest
    header: Header
    certificate: Certificate
    record: StateProof
    progress: StateProof

    def check(
        self, trusted: TrustedState, board_id: DeviceId, task: TaskId
    ) -> tuple[TrustedState, BoardRecord, Version]:
        """Believes the record, or says why not.

        Args:
          trusted: The light client's state.
          board_id: Whose record it must be.
          task: Whose head it must name.

        Returns:
          What is trusted from now on, the record, and the task's head.

        Raises:
          ProofError, SignatureError, DecodeError: If it does not prove the record.
        """
        # The certificate first: what is under a header that is not certified proves
        # nothing.
        after = trusted.accept(self.header, self.certificate)
        # A sound proof of another board's record must not pass for this one's.
        wanted = board_key(board_id), head_key(task)
        if (self.record.key, self.progress.key) != wanted:
            raise ProofError("the proofs are of another board or task")
        roots = {self.record.root(), self.progress.root()}
        if roots != {self.header.state_root}:
            raise ProofError("the record does not lead to the header's state root")
        board = BOARD.unpack(self.record.value)
        return after, board, PROGRESS.unpack(self.progress.value).head


STATEMENT = structure(BoardStatement, 12 * 1024)


def answers_needed(trusted: TrustedState) -> int:
    """Coordinators of whom one at least is honest, f + 1 of them."""
    if trusted.fault_model == FaultModel.CRASH:
        return 1
    # f of n = 3 f + 1 may lie, or hide the newest record.
    return (len(trusted.validators.members) - 1) // 3 + 1
