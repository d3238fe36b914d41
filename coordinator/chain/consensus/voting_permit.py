"""Leave to vote again after a lost journal of own votes, signed by an operator."""

from dataclasses import replace
from typing import Annotated

from starling.protocol.crypto.keys import SigningKey, verify
from starling.protocol.errors import SignatureError
from starling.protocol.ids import SIGNATURE_BYTES, ChainId, PublicKey
from starling.protocol.schema.msgpack_codec import (
    Structure,
    encode,
    exactly,
    structure,
    uint,
)

_TAG = b"starling/resume/1"


class VotingPermit(Structure, frozen=True):
    """An operator's word for one validator.

    Attributes:
      validator: Who may vote again.
      height: From which height; above all that it may have voted at.
      operator: Who says so.
      signature: Over `signed_bytes`.
    """

    validator: PublicKey
    height: Annotated[int, uint(least=1)]
    operator: PublicKey
    signature: Annotated[bytes, exactly(SIGNATURE_BYTES)]

    def signed_bytes(self, chain_id: ChainId) -> bytes:
        """Bytes that the signature covers."""
        return b"".join((_TAG, chain_id, encode([self.validator, self.height])))

    def check(self, chain_id: ChainId, validator: bytes) -> None:
        """Refuses a word for somebody else.

        Whether it is an operator's is for the chain to say, once we have come to the
        height from which it lets us vote: before that our own may be an old one, which
        knows operators that were taken out since and none that came.

        Raises:
          SignatureError: If it is for somebody else, or forged.
        """
        if self.validator != validator:
            raise SignatureError("for another validator")
        verify(self.operator, self.signed_bytes(chain_id), self.signature)


RESUMPTION = structure(VotingPermit, 256)


def resume(
    operator: SigningKey, chain_id: ChainId, validator: PublicKey, height: int
) -> VotingPermit:
    """Signs leave to vote from a height on."""
    bare = VotingPermit(validator, height, operator.public, bytes(SIGNATURE_BYTES))
    return replace(bare, signature=operator.sign(bare.signed_bytes(chain_id)))
