"""Validators, and the genesis that pins the first of them and a chain's rules."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from starling.protocol.chain.credit_policy import (
    ECONOMY_SCHEMA,
    NO_ECONOMY,
    CreditPolicy,
)
from starling.protocol.errors import DecodeError
from starling.protocol.ids import KEY_BYTES, ChainId, Digest, H, PublicKey, SealingKey
from starling.protocol.schema.msgpack_codec import (
    exactly,
    many,
    record,
    structure,
    text,
    uint,
)
from starling.protocol.wire.topics import check_fleet_name

FORMAT_VERSION = 1
VALIDATORS_MAX = 32
OPERATORS_MAX = 32
GENESIS_BYTES_MAX = 16 * 1024


class FaultModel(IntEnum):
    """What the validators are assumed to do at worst."""

    BYZANTINE = 0
    CRASH = 1
    """Only for 2 or 3 validators, and shown wherever a proof is shown."""


@dataclass(frozen=True)
class Validator:
    """One coordinator's public side.

    Attributes:
      public: Signs votes, receipts and attestations.
      sealing: Boards seal their blobs to it.
      name: For people.
    """

    public: PublicKey
    sealing: SealingKey
    name: str


VALIDATOR_SCHEMA = record(Validator, exactly(KEY_BYTES), exactly(KEY_BYTES), text(64))


@dataclass(frozen=True)
class ValidatorSet:
    """The validators of a height, sorted by public key, without duplicates."""

    members: tuple[Validator, ...]

    def __post_init__(self) -> None:
        """Refuses any other order."""
        keys = [member.public for member in self.members]
        if keys != sorted(set(keys)):
            raise DecodeError("validators must be distinct and sorted by public key")

    def digest(self) -> Digest:
        """The hash that headers carry."""
        return self._digest

    @cached_property
    def _digest(self) -> Digest:
        return H(b"starling/validators/1", VALIDATOR_SET.pack(self))

    def index_of(self, public: bytes) -> int | None:
        """A validator's place, or None."""
        for index, member in enumerate(self.members):
            if member.public == public:
                return index
        return None


VALIDATOR_SET = structure(ValidatorSet, 8192, many(VALIDATOR_SCHEMA, VALIDATORS_MAX, 1))


def quorum(validators: int, fault_model: FaultModel) -> int:
    """How many equal votes decide.

    Strictly more than two thirds, and not 2f+1 read literally, which forks for n = 5;
    a majority under the crash-only model.
    """
    # By value: a decoded fault model is a plain number.
    if fault_model == FaultModel.CRASH:
        return validators // 2 + 1
    return 2 * validators // 3 + 1


@dataclass(frozen=True)
class Genesis:
    """What a chain starts from; boards pin its hash.

    Attributes:
      version: `FORMAT_VERSION`.
      fleet: The fleet's name in topics.
      created_ms: Unix time, for display and to tell chains of one fleet apart.
      fault_model: `FaultModel`.
      validators: The first validator set.
      operators: Public keys that may admit boards and publish tasks.
      heartbeat_s: Longest time without a block.
      economy: The chain's credits.
    """

    version: int
    fleet: str
    created_ms: int
    fault_model: int
    validators: ValidatorSet
    operators: tuple[PublicKey, ...]
    heartbeat_s: int
    economy: CreditPolicy = NO_ECONOMY

    def __post_init__(self) -> None:
        """Refuses a name unfit for topics, and crash-only where it makes no sense."""
        check_fleet_name(self.fleet)
        if self.version != FORMAT_VERSION:
            raise DecodeError(f"genesis version {self.version} is not supported")
        crash = self.fault_model == FaultModel.CRASH
        if crash and len(self.validators.members) not in (2, 3):
            raise DecodeError("the crash-only model is for 2 or 3 validators")
        given = len(self.operators) * self.economy.operator_grant
        given += len(self.validators.members) * self.economy.validator_deposit
        if given > self.economy.supply:
            raise DecodeError("grants and deposits exceed the supply")

    def chain_id(self) -> ChainId:
        """The hash of the genesis: it goes into everything that is signed."""
        return ChainId(H(b"starling/genesis/1", GENESIS.pack(self)))


GENESIS = structure(
    Genesis,
    GENESIS_BYTES_MAX,
    uint(255),
    text(32),
    uint(),
    uint(max(FaultModel)),
    VALIDATOR_SET.schema,
    many(exactly(KEY_BYTES), OPERATORS_MAX, 1),
    uint(86400, 1),
    ECONOMY_SCHEMA,
)
