"""Motions: what a quorum of the validators decides about the chain itself.

A motion is carried by at least a quorum of signatures of the validators of the height
that takes it; who submits it does not matter. It names its number among all motions
ever carried, so that none is carried twice and two that were drawn up side by side do
not both pass, and a last height and time, so that a forgotten one does not pass years
later: both must be over, since whoever makes blocks come fast could otherwise let it
lapse before people have signed it.
"""

from dataclasses import replace
from enum import IntEnum
from typing import Annotated

from starling.protocol.chain.blocks import TIME_MS_MAX
from starling.protocol.chain.genesis import (
    VALIDATORS_MAX,
    FaultModel,
    Validator,
    ValidatorSet,
    quorum,
)
from starling.protocol.crypto.keys import SigningKey, verify
from starling.protocol.errors import DecodeError, ProtocolError, Reason
from starling.protocol.ids import SIGNATURE_BYTES, ChainId, PublicKey
from starling.protocol.schema.msgpack_codec import (
    Byte,
    Flag,
    Structure,
    Uint,
    binary,
    encode,
    exactly,
    many,
    structure,
    uint,
)

CONTENT_BYTES_MAX = 1024
_TAG = b"starling/motion/1"


class Approval(Structure, frozen=True):
    """One validator's signature under a motion."""

    validator: PublicKey
    signature: Annotated[bytes, exactly(SIGNATURE_BYTES)]


class GovernanceProposal(Structure, frozen=True):
    """A motion and who approved it.

    Attributes:
      kind: `Kind` of the transaction that carries it.
      number: How many motions the chain carried before it.
      until: Last height of a block that may take it, or
      until_ms: last time of one, in Unix milliseconds, whichever comes later.
      content: The packed structure that `kind` names.
      approvals: Sorted by validator, without duplicates.
    """

    kind: Byte
    number: Uint
    until: Annotated[int, uint(least=1)]
    until_ms: Annotated[int, uint(TIME_MS_MAX)]
    content: Annotated[bytes, binary(CONTENT_BYTES_MAX)]
    approvals: Annotated[tuple[Approval, ...], many(VALIDATORS_MAX)] = ()

    def __post_init__(self) -> None:
        """Refuses approvals in any other order."""
        keys = [approval.validator for approval in self.approvals]
        if keys != sorted(set(keys)):
            raise DecodeError("approvals must be distinct and sorted by validator")

    def signed_bytes(self, chain_id: ChainId) -> bytes:
        """Bytes that an approval signs."""
        # The number is signed as well: an approval cannot be used for the same content
        # again.
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
            # Refused and not skipped, so that a motion has one form for each set of
            # approvals.
            if validators.index_of(approval.validator) is None:
                raise ProtocolError("approved by no validator", Reason.NOT_AUTHORISED)
            verify(approval.validator, signed, approval.signature)
        count = len(validators.members)
        if len(self.approvals) < (needed := quorum(count, fault_model)):
            raise ProtocolError(
                f"{len(self.approvals)} approvals, {needed} of {count} needed",
                Reason.NOT_AUTHORISED,
            )


MOTION = structure(GovernanceProposal, 8192)


class OperatorChange(Structure, frozen=True):
    """OPERATOR: who may admit boards and publish tasks.

    Attributes:
      admitted: 1 from now on, 0 no longer.
      operator: The key.
    """

    admitted: Flag
    operator: PublicKey


OPERATOR_CHANGE = structure(OperatorChange, 48)


class ValidatorChange(Structure, frozen=True):
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


VALIDATOR_CHANGE = structure(ValidatorChange, 192)


class ChainParameter(IntEnum):
    """Parameter that PARAM may change; the numbers are fixed in the wire format."""

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


class ParameterChange(Structure, frozen=True):
    """PARAM: a parameter gets another value.

    Attributes:
      parameter: `ChainParameter`.
      value: The value.
      height: The first height at which it counts.
    """

    parameter: Byte
    value: Uint
    height: Annotated[int, uint(least=1)]


PARAMETER_CHANGE = structure(ParameterChange, 32)


class UpgradeChange(Structure, frozen=True):
    """UPGRADE: the chain's rules get their next version.

    Attributes:
      version: Of the rules.
      height: The first height that is executed by them.
    """

    version: Annotated[int, uint(1 << 16)]
    height: Annotated[int, uint(least=1)]


UPGRADE_CHANGE = structure(UpgradeChange, 32)
