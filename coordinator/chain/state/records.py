"""The records that stand in the chain's state, and their bytes."""

from typing import Annotated

from starling.coordinator.chain.state.generational_cache import CachedCodec
from starling.protocol.chain import board_statement
from starling.protocol.chain.genesis import ValidatorSet
from starling.protocol.ids import (
    DeviceId,
    Digest,
    PublicKey,
    Version,
)
from starling.protocol.learning.task import BUFFER_MAX, PLEDGE_MAX, STALENESS_MAX
from starling.protocol.schema.msgpack_codec import (
    Byte,
    Flag,
    Structure,
    Uint,
    many,
    structure,
    uint,
)

_ATTESTATIONS_MAX = 32
KEPT = 1 << 12
"""Of each of the records that every update reads and writes."""
REPLACEMENTS_MAX = 8
"""Of one validator's attestation of one job: who is mended needs one."""
CONVICTIONS_MAX = 8
"""Of a board; then it is excluded."""


BOARD = CachedCodec(board_statement.BOARD, KEPT)
PROGRESS = CachedCodec(board_statement.PROGRESS, KEPT)


class ConvictionRecord(Structure, frozen=True):
    """That a validator or a board was convicted.

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


class AbsenceRecord(Structure, frozen=True):
    """That a validator missed its turn to propose, and made no block since.

    Attributes:
      misses: How often, up to a bound.
      height: Of the last time.
      away: 1 while it is passed over, 0 once it said that it is back.
    """

    misses: Annotated[int, uint(255, 1)]
    height: Uint
    away: Flag


ABSENCE = structure(AbsenceRecord, 32)


class QueuedUpdate(Structure, frozen=True):
    """An update in the order of the chain.

    Attributes:
      transaction: Id of its UPDATE transaction.
      board: Who signed it.
      base: Version that it was computed from.
      pledge: Its size.
      blob: H of its sealed blob.
      height: Block that took it.
      time_ms: Of that block.
    """

    transaction: Digest
    board: DeviceId
    base: Version
    pledge: Annotated[int, uint(PLEDGE_MAX, 1)]
    blob: Digest
    height: Uint
    time_ms: Uint


PENDING = CachedCodec(
    structure(QueuedUpdate, 192),
    KEPT,
)


class SignedBase(Structure, frozen=True):
    """That a board signed this transaction for this base version."""

    base: Version
    transaction: Digest


class SigningHistory(Structure, frozen=True):
    """What a board signed for one task, from bases that are not yet too stale."""

    signed: Annotated[tuple[SignedBase, ...], many(STALENESS_MAX + 2)]


HISTORY = CachedCodec(
    structure(SigningHistory, 4096),
    KEPT,
)


class JobRecord(Structure, frozen=True):
    """An open job as it is stored.

    Attributes:
      version: The version to compute: the head plus 1.
      height: Block that cut it.
      places: Of its updates among the task's pending ones, rising.
    """

    version: Version
    height: Uint
    places: Annotated[tuple[Uint, ...], many(BUFFER_MAX, 1)]


JOB = structure(JobRecord, 16 * 1024)


class MismatchRecord(Structure, frozen=True):
    """That a validator attested other versions of a task than became final.

    Attributes:
      count: How many.
      version: The latest of them.
      digest: What it attested for that one.
    """

    count: Uint
    version: Version
    digest: Digest


DISSENT = structure(MismatchRecord, 64)


class Attestation(Structure, frozen=True):
    """One validator's digest of the open job.

    Attributes:
      validator: Whose.
      digest: What it attested last: this counts.
      replaced: What it attested before that, if it did.
      replacements: How often it attested another digest than before.
    """

    validator: PublicKey
    digest: Digest
    replaced: Digest | None = None
    replacements: Annotated[int, uint(REPLACEMENTS_MAX)] = 0


class Attestations(Structure, frozen=True):
    """All of the open job, sorted by validator."""

    given: Annotated[tuple[Attestation, ...], many(_ATTESTATIONS_MAX)] = ()


ATTESTATIONS = structure(Attestations, 4096)


class Epoch(Structure, frozen=True):
    """A validator set that followed the genesis's.

    Attributes:
      height: The first height that it decides.
      validators: The set.
    """

    height: Uint
    validators: ValidatorSet


EPOCH = structure(Epoch, 8192)


class Epochs(Structure, frozen=True):
    """Which epochs' records stand: from `first` to the one before `following`.

    Epoch 0 is the genesis's set; both are 0 while it is the only one.
    """

    first: Uint
    following: Uint


EPOCHS = structure(Epochs, 32)
