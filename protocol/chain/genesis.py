"""Validators, and the genesis that pins the first of them and a chain's rules."""

from collections.abc import Sequence
from enum import IntEnum
from functools import cached_property
from typing import Annotated, Protocol

from starling.protocol.chain.credit_policy import (
    NO_ECONOMY,
    CreditPolicy,
)
from starling.protocol.errors import DecodeError
from starling.protocol.ids import ChainId, Digest, H, PublicKey, SealingKey
from starling.protocol.schema.msgpack_codec import (
    Byte,
    Structure,
    Uint,
    many,
    structure,
    text,
    uint,
)
from starling.protocol.wire.topics import check_fleet_name

FORMAT_VERSION = 1
VALIDATORS_MAX = 32
OPERATORS_MAX = 32
GENESIS_BYTES_MAX = 16 * 1024
HEARTBEAT_S_MAX = 86_400


class FaultModel(IntEnum):
    """Worst behaviour that is assumed of validators."""

    BYZANTINE = 0
    CRASH = 1
    """Only for 2 or 3 validators, and shown wherever a proof is shown."""


class Validator(Structure, frozen=True):
    """One coordinator's public side.

    Attributes:
      public: Signs votes, receipts and attestations.
      sealing: Boards seal their blobs to it.
      name: For people.
    """

    public: PublicKey
    sealing: SealingKey
    name: Annotated[str, text(64)]


class ValidatorSet(Structure, frozen=True, dict=True):
    """The validators of a height, sorted by public key, without duplicates."""

    members: Annotated[tuple[Validator, ...], many(VALIDATORS_MAX, 1)]

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


VALIDATOR_SET = structure(ValidatorSet, 8192)


def quorum(validators: int, fault_model: FaultModel) -> int:
    """Number of equal votes that decide.

    Strictly more than two thirds, and not 2f+1 read literally, which forks for n = 5;
    a majority under the crash-only model.
    """
    # By value: a decoded fault model is a plain number.
    if fault_model == FaultModel.CRASH:
        return validators // 2 + 1
    return 2 * validators // 3 + 1


class Genesis(Structure, frozen=True):
    """Initial state and parameters of a chain; boards pin its hash.

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

    version: Byte
    fleet: Annotated[str, text(32)]
    created_ms: Uint
    fault_model: Annotated[int, uint(max(FaultModel))]
    validators: ValidatorSet
    operators: Annotated[tuple[PublicKey, ...], many(OPERATORS_MAX, 1)]
    heartbeat_s: Annotated[int, uint(HEARTBEAT_S_MAX, 1)]
    economy: CreditPolicy = NO_ECONOMY

    def __post_init__(self) -> None:
        """Refuses a name unfit for topics, and crash-only where it makes no sense."""
        check_fleet_name(self.fleet)
        if self.version != FORMAT_VERSION:
            raise DecodeError(f"genesis version {self.version} is not supported")
        # With 2 or 3 validators more than two thirds is all of them, so that one that
        # is away stops the chain; from 4 on nobody needs the weaker model.
        crash = self.fault_model == FaultModel.CRASH
        if crash and len(self.validators.members) not in (2, 3):
            raise DecodeError("the crash-only model is for 2 or 3 validators")
        # Nothing makes credits later, so that the genesis must not hand out more than
        # there are.
        given = len(self.operators) * self.economy.operator_grant
        given += len(self.validators.members) * self.economy.validator_deposit
        if given > self.economy.supply:
            raise DecodeError("grants and deposits exceed the supply")

    def chain_id(self) -> ChainId:
        """The hash of the genesis: it goes into everything that is signed."""
        return ChainId(H(b"starling/genesis/1", GENESIS.pack(self)))


GENESIS = structure(Genesis, GENESIS_BYTES_MAX)


class GenesisParty(Protocol):
    """One coordinator and its operator, as a genesis names them."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def public(self) -> PublicKey:
        """Key that signs votes."""

    @property
    def sealing(self) -> SealingKey:
        """Key that boards seal to."""

    @property
    def operator(self) -> PublicKey:
        """Key that admits and publishes."""


def genesis_of(
    parties: Sequence[GenesisParty],
    fleet: str,
    created_ms: int,
    fault_model: FaultModel,
    heartbeat_s: int,
    economy: CreditPolicy,
) -> Genesis:
    """The genesis in which these parties, in any order, are validators and operators.

    Raises:
      DecodeError, LimitError: If there are none or too many, two are the same, or the
        fault model or the credits do not fit.
    """
    members = [Validator(one.public, one.sealing, one.name) for one in parties]
    made = Genesis(
        version=FORMAT_VERSION,
        fleet=fleet,
        created_ms=created_ms,
        fault_model=fault_model,
        validators=ValidatorSet(tuple(sorted(members, key=lambda each: each.public))),
        operators=tuple(sorted({one.operator for one in parties})),
        heartbeat_s=heartbeat_s,
        economy=economy,
    )
    # Read back, so that it is made of the plain types that every reader of it has.
    return GENESIS.unpack(GENESIS.pack(made))
