"""A coordinator that says what others said with something changed.

What it changes are single values of the nested structures, so that most of what it says
is well formed, and where the message is one that coordinators sign it signs it itself:
so it comes past the signature and to what is made of a lie.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import msgspec

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FRAME, FrameSubject
from starling.protocol.chain.blocks import PROPOSAL, VOTE
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import ChainId
from starling.protocol.schema.msgpack_codec import UINT_MAX, encode
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign

_BYTES_MAX = 1 << 20
_DEPTH_MAX = 8


class Garbler:
    """One liar; what it says follows from its seed and from what it heard."""

    def __init__(
        self, seed: int, chain_id: ChainId, key: SigningKey, index: int
    ) -> None:
        """Begins with nothing heard.

        Args:
          seed: Of all its choices.
          chain_id: What it signs for.
          key: Its key.
          index: Its place in the validator set.
        """
        self._random = Random(seed)
        self._chain_id = chain_id
        self._key = key
        self._index = index
        self._counter = 1 << 40
        self.heard: list[bytes] = []

    def say(self) -> bytes:
        """The next message."""
        draw = self._random
        payload = draw.choice(self.heard)
        if draw.random() < 0.15:
            return self._damaged(payload)
        for _ in range(draw.randint(0, 3)):
            payload = self._changed(payload)
        return self._signed(payload) if draw.random() < 0.8 else payload

    def _damaged(self, payload: bytes) -> bytes:
        draw = self._random
        kind, place = draw.randrange(4), draw.randrange(len(payload))
        if kind == 0:
            return payload[:place]
        if kind == 1:
            return payload + draw.randbytes(draw.randint(1, 9))
        if kind == 2:
            return draw.randbytes(len(payload))
        return payload[:place] + draw.randbytes(1) + payload[place + 1 :]

    def _changed(self, payload: bytes) -> bytes:
        changed = self._change(payload, 0)
        return changed if isinstance(changed, bytes) else payload

    def _change(self, value: object, depth: int) -> object:
        draw = self._random
        if isinstance(value, bytes):
            inner = _structure(value)
            if inner is not None and depth < _DEPTH_MAX and draw.random() < 0.9:
                return encode(self._change(inner, depth + 1))
            return self._other_bytes(value)
        if isinstance(value, list) and value and draw.random() < 0.9:
            at = draw.randrange(len(value))
            changed = self._change(value[at], depth + 1)
            return [*value[:at], changed, *value[at + 1 :]]
        if isinstance(value, list):
            return draw.choice([[], value + value, value[::-1], value[1:]])
        if isinstance(value, int):
            edges = [0, 1, value - 1, value + 1, value ^ 1, 255, 1 << 32, UINT_MAX]
            return max(0, min(UINT_MAX, draw.choice(edges)))
        return draw.choice([0, b"", [], None])

    def _other_bytes(self, value: bytes) -> bytes:
        draw = self._random
        size = len(value)
        return draw.choice(
            [
                b"",
                bytes(size),
                draw.randbytes(size),
                value[:-1],
                value + b"\0",
                value[::-1],
            ]
        )

    def _signed(self, payload: bytes) -> bytes:
        """The same, as the liar's own, if it is something that coordinators sign."""
        try:
            frame = FRAME.unpack(payload)
            make = self._makers().get(frame.subject)
            content = frame.content if make is None else make(frame.content)
        except ProtocolError:
            return payload
        return FRAME.pack(replace(frame, content=content))

    def _makers(self) -> dict[int, Callable[[bytes], bytes]]:
        return {
            FrameSubject.VOTE: self._vote,
            FrameSubject.PROPOSAL: self._proposal,
            FrameSubject.STATUS: self._status,
            FrameSubject.REQUEST: self._request,
        }

    def _vote(self, content: bytes) -> bytes:
        made = replace(VOTE.unpack(content), voter=self._index)
        signature = self._key.sign(made.signed_bytes(self._chain_id))
        return VOTE.pack(replace(made, signature=signature))

    def _proposal(self, content: bytes) -> bytes:
        made = replace(PROPOSAL.unpack(content), proposer=self._index)
        signature = self._key.sign(made.signed_bytes(self._chain_id))
        return PROPOSAL.pack(replace(made, signature=signature))

    def _status(self, content: bytes) -> bytes:
        self._counter += 1
        made = replace(
            gossip_messages.STATUS.unpack(content),
            validator=self._key.public,
            counter=self._counter,
        )
        signature = self._key.sign(made.signed_bytes(self._chain_id))
        return gossip_messages.STATUS.pack(replace(made, signature=signature))

    def _request(self, content: bytes) -> bytes:
        self._counter += 1
        body, kind = ENVELOPE.unpack(content).body, MessageKind.PEER_REQUEST
        signed = sign(self._key, self._chain_id, kind, self._counter, body)
        return ENVELOPE.pack(signed)


def _structure(value: bytes) -> list[object] | None:
    """What bytes hold, if that is one structure."""
    if len(value) > _BYTES_MAX:
        return None
    try:
        found = msgspec.msgpack.decode(value)
        canonical = encode(found) == value
    except (ValueError, RecursionError, ProtocolError):
        return None
    return found if isinstance(found, list) and found and canonical else None
