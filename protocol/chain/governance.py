"""Motions: what a quorum of the validators decides about the chain itself.

A motion is carried by at least a quorum of signatures of the validators of the height
that takes it; who submits it does not matter. It names its number among all motions
ever carried, so that none is carried twice and two that were drawn up side by side do
not both pass, and a last height and time, so that a forgotten one does not pass years
later: both must be over, since whoever makes blocks come fast could otherwise let it
lapse before people have signed it.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

from starling.protocol.chain.blocks import TIME_MS_MAX
from starling.protocol.chain.genesis import (
    VALIDATOR_SCHEMA,
    VALIDATORS_MAX,
    FaultModel,
    Validator,
    ValidatorSet,
    quorum,
)
from starling.protocol.crypto.keys import SigningKey, verify
from starling.protocol.errors import DecodeError, ProtocolError, Reason
from starling.protocol.ids import KEY_BYTES, SIGNATURE_BYTES, ChainId, PublicKey
from starling.protocol.schema.msgpack_codec import (
    binary,
    encode,
    exactly,
    many,
    maybe,
    record,
    structure,
    uint,
)

CONTENT_BYTES_MAX = 1024
_TAG = b"starling/motion/1"


@dataclass(frozen=True)
class Approval:
    """One validator's signature under a motion."""

    validator: PublicKey
    signature: bytes


@dataclass(frozen=True)
class GovernanceProposal:
    """A motion and who approved it.

    Attributes:
      kind: `Kind` of the transaction that carries it.
      number: How many motions the chain carried before it.
      until: Last height of a block that may take it, or
      until_ms: last time of one, in Unix milliseconds, whichever comes later.
      content: The packed structure that `kind` names.
      approvals: Sorted by validator, without duplicates.
    """

    kind: int
    number: int
    until: int
    until_ms: int
    content: bytes
    approvals: tuple[Approval, ...] = ()

    def __post_init__(self) -> None:
        """Refuses approvals in any other order."""
        keys = [approval.validator for approval in self.approvals]
        if keys != sorted(set(keys)):
            raise DecodeError("approvals must be distinct and sorted by validator")

    def signed_bytes(self, chain_id: ChainId) -> bytes:
        """What an approval signs."""
        terms = [self.number, self.until, self.until_ms]
        fields = [int(self.kind), *terms, self.content]
        return b"".join((_TAG, chain_id, encode(fields)))

    def approved(self, key: SigningKey, chain_id: ChainId) -> "GovernanceProposal":
        """With one more approval; the same motion if it is there already."""
        given = {approval.validator: approval for approval in self.approvals}
        given[key.public] = Approval(key.public, key.sign(self.signed_bytes(chain_id)))
        ordered = tuple(given[public] for public in sorted(given))
        return replace(self, approvals=ordered)

    def check(
        self, chain_id: ChainId, validators: ValidatorSet, fault_model: FaultModel
    ) -> None:
        """Refuses a motion that a quorum of these validators did not approve.

        Raises:
          ProtocolError: NOT_AUTHORISED, if somebody else signed, or too few did.
          SignatureError: If one signature does not verify.
        """
        signed = self.signed_bytes(chain_id)
        for approval in self.approvals:
            if validators.index_of(approval.validator) is None:
                raise ProtocolError("approved by no validator", Reason.NOT_AUTHORISED)
            verify(approval.validator, signed, approval.signature)
        count = len(validators.members)
        if len(self.approvals) < (needed := quorum(count, fault_model)):
            raise ProtocolError(
                f"{len(self.approvals)} approvals, {needed} of {count} needed",
                Reason.NOT_AUTHORISED,
            )


MOTION = structure(
    GovernanceProposal,
    8192,
    uint(255),
    uint(),
    uint(least=1),
    uint(TIME_MS_MAX),
    binary(CONTENT_BYTES_MAX),
    many(
        record(Approval, exactly(KEY_BYTES), exactly(SIGNATURE_BYTES)), VALIDATORS_MAX
    ),
)


@dataclass(frozen=True)
class OperatorChange:
    """OPERATOR: who may admit boards and publish tasks.

    Attributes:
      admitted: 1 from now on, 0 no longer.
      operator: The key.
    """

    admitted: int
    operator: PublicKey


OPERATOR_CHANGE = structure(OperatorChange, 48, uint(1), exactly(KEY_BYTES))


@dataclass(frozen=True)
class ValidatorChange:
    """VALSET: one validator comes or goes; exactly one of the two is named.

    Attributes:
      added: Who comes.
      removed: Whose key goes.
    """

    added: Validator | None
    removed: PublicKey | None

    def __post_init__(self) -> None:
        """Refuses none, and both at once."""
        if (self.added is None) == (self.removed is None):
            raise DecodeError("one validator is added, or one removed")


VALIDATOR_CHANGE = structure(
    ValidatorChange, 192, maybe(VALIDATOR_SCHEMA), maybe(exactly(KEY_BYTES))
)


class ChainParameter(IntEnum):
    """What PARAM may change; the numbers stand on the wire and never change."""

    HEARTBEAT_S = 1
    """Longest time without a block."""
    TRANSACTIONS_MAX = 2
    """Of a block."""
    JAIL_BLOCKS = 3
    """How long a board stays out that was convicted."""
    SCORE_BLOCKS = 4
    """How long after a version's block its updates may be scored."""
    JAIL_S = 5
    """The same as JAIL_BLOCKS in seconds; both must pass."""
    SCORE_S = 6
    """The same as SCORE_BLOCKS in seconds; both must pass."""
    EVIDENCE_S = 7
    """Seconds for which evidence is taken and deposits are kept, besides its blocks."""


@dataclass(frozen=True)
class ParameterChange:
    """PARAM: a parameter gets another value.

    Attributes:
      parameter: `ChainParameter`.
      value: The value.
      height: The first height at which it counts.
    """

    parameter: int
    value: int
    height: int


PARAMETER_CHANGE = structure(ParameterChange, 32, uint(255), uint(), uint(least=1))


@dataclass(frozen=True)
class UpgradeChange:
    """UPGRADE: the chain's rules get their next version.

    Attributes:
      version: Of the rules.
      height: The first height that is executed by them.
    """

    version: int
    height: int


UPGRADE_CHANGE = structure(UpgradeChange, 32, uint(1 << 16), uint(least=1))
