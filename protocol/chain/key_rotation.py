"""ROTATE: a board goes on under a new key, and keeps its id.

The envelope is signed by the key that the board has, the body by the one that it gets:
nobody gives away a board that is not his, and nobody takes another's key as his own.
"""

from dataclasses import replace
from typing import Annotated

from starling.protocol.crypto.keys import SigningKey, verify
from starling.protocol.ids import (
    SIGNATURE_BYTES,
    ChainId,
    DeviceId,
    PublicKey,
)
from starling.protocol.schema.msgpack_codec import Structure, exactly, structure
from starling.protocol.wire.envelope import Envelope, MessageKind, sign

ROTATIONS_MAX = 16
"""Of one board: the chain remembers all its keys, so that evidence always finds it."""
_TAG = b"starling/rotate/1"


class Rotate(Structure, frozen=True):
    """A board's next key.

    Attributes:
      device: The board's id: from its first key.
      following: The key that it signs with from now on.
      signature: By that key over `signed_bytes`.
    """

    device: DeviceId
    following: PublicKey
    signature: Annotated[bytes, exactly(SIGNATURE_BYTES)]

    def signed_bytes(self, chain_id: ChainId, present: bytes) -> bytes:
        """Bytes that the new key signs; they name the key that it follows."""
        return b"".join((_TAG, chain_id, self.device, present, self.following))

    def check(self, chain_id: ChainId, present: bytes) -> None:
        """Refuses a key whose owner did not agree.

        Args:
          chain_id: The chain.
          present: The key that the board has, which signed the envelope.

        Raises:
          SignatureError: If the new key did not sign this.
        """
        verify(self.following, self.signed_bytes(chain_id, present), self.signature)


ROTATE = structure(Rotate, 160)


def rotate(
    device: DeviceId,
    present: SigningKey,
    following: SigningKey,
    chain_id: ChainId,
    counter: int,
) -> Envelope:
    """The ROTATE transaction of a board.

    Args:
      device: Its id.
      present: The key that it has.
      following: The key that it gets.
      chain_id: The chain.
      counter: As for every envelope of `present`.
    """
    # The signature is over other bytes than these; zeros only hold its place.
    bare = Rotate(device, following.public, bytes(SIGNATURE_BYTES))
    signature = following.sign(bare.signed_bytes(chain_id, present.public))
    body = ROTATE.pack(replace(bare, signature=signature))
    return sign(present, chain_id, MessageKind.ROTATE, counter, body)
