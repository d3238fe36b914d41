"""The records that stand in the chain's state, and their bytes."""

from dataclasses import dataclass

from starling.coordinator.chain.state.generational_cache import CachedCodec
from starling.protocol.chain import board_statement
from starling.protocol.chain.genesis import VALIDATOR_SET, ValidatorSet
from starling.protocol.ids import (
    DEVICE_ID_BYTES,
    DIGEST_BYTES,
    KEY_BYTES,
    DeviceId,
    Digest,
    PublicKey,
    Version,
)
from starling.protocol.learning.task import BUFFER_MAX, PLEDGE_MAX, STALENESS_MAX
from starling.protocol.schema.msgpack_codec import (
    exactly,
    many,
    maybe,
    record,
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


@dataclass(frozen=True)
class ConvictionRecord:
    """That a validator or a board was convicted.

    Attributes:
      offence: `protocol.chain.evidence.Offence`.
      height: Block that took the evidence.
      transaction: The EVIDENCE transaction.
      places: What it contradicted itself about, of all convictions.
    """

    offence: int
    height: int
    transaction: Digest
    places: tuple[Digest, ...]


FAULT = structure(
    ConvictionRecord,
    512,
    uint(255),
    uint(),
    exactly(DIGEST_BYTES),
    many(exactly(DIGEST_BYTES), CONVICTIONS_MAX, 1),
)


@dataclass(frozen=True)
class AbsenceRecord:
    """That a validator missed its turn to propose, and made no block since.

    Attributes:
      misses: How often, up to a bound.
      height: Of the last time.
      away: 1 while it is passed over, 0 once it said that it is back.
    """

    misses: int
    height: int
    away: int


ABSENCE = structure(AbsenceRecord, 32, uint(255, 1), uint(), uint(1))


@dataclass(frozen=True)
class QueuedUpdate:
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
    pledge: int
    blob: Digest
    height: int
    time_ms: int


PENDING = CachedCodec(
    structure(
        QueuedUpdate,
        192,
        exactly(DIGEST_BYTES),
        exactly(DEVICE_ID_BYTES),
        uint(),
        uint(PLEDGE_MAX, 1),
        exactly(DIGEST_BYTES),
        uint(),
        uint(),
    ),
    KEPT,
)


@dataclass(frozen=True)
class SignedBase:
    """That a board signed this transaction for this base version."""

    base: Version
    transaction: Digest


@dataclass(frozen=True)
class SigningHistory:
    """What a board signed for one task, from bases that are not yet too stale."""

    signed: tuple[SignedBase, ...]


HISTORY = CachedCodec(
    structure(
        SigningHistory,
        4096,
        many(record(SignedBase, uint(), exactly(DIGEST_BYTES)), STALENESS_MAX + 2),
    ),
    KEPT,
)


@dataclass(frozen=True)
class JobRecord:
    """An open job as it is stored.

    Attributes:
      version: The version to compute: the head plus 1.
      height: Block that cut it.
      places: Of its updates among the task's pending ones, rising.
    """

    version: Version
    height: int
    places: tuple[int, ...]


JOB = structure(JobRecord, 16 * 1024, uint(), uint(), many(uint(), BUFFER_MAX, 1))


@dataclass(frozen=True)
class MismatchRecord:
    """That a validator attested other versions of a task than became final.

    Attributes:
      count: How many.
      version: The latest of them.
      digest: What it attested for that one.
    """

    count: int
    version: Version
    digest: Digest


DISSENT = structure(MismatchRecord, 64, uint(), uint(), exactly(DIGEST_BYTES))


@dataclass(frozen=True)
class Attestation:
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
    replacements: int = 0


@dataclass(frozen=True)
class Attestations:
    """All of the open job, sorted by validator."""

    given: tuple[Attestation, ...] = ()


ATTESTATIONS = structure(
    Attestations,
    4096,
    many(
        record(
            Attestation,
            exactly(KEY_BYTES),
            exactly(DIGEST_BYTES),
            maybe(exactly(DIGEST_BYTES)),
            uint(REPLACEMENTS_MAX),
        ),
        _ATTESTATIONS_MAX,
    ),
)


@dataclass(frozen=True)
class Epoch:
    """A validator set that followed the genesis's.

    Attributes:
      height: The first height that it decides.
      validators: The set.
    """

    height: int
    validators: ValidatorSet


EPOCH = structure(Epoch, 8192, uint(), VALIDATOR_SET.schema)


@dataclass(frozen=True)
class Epochs:
    """Which epochs' records stand: from `first` to the one before `following`.

    Epoch 0 is the genesis's set; both are 0 while it is the only one.
    """

    first: int
    following: int


EPOCHS = structure(Epochs, 32, uint(), uint())
