"""One that repeats what coordinators asked each other, and asks in their names.

It hears every request, and may write under any name at a broker of its own. What it
says is what somebody asked before, to the same one or to another; the same with another
counter, which nobody signed; or the same signed by its own key.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from starling.coordinator.chain.gossip_messages import FrameSubject, frame, open_frame
from starling.coordinator.wire.frames import REQUEST
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import ChainId, DeviceId, device_id
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign


class RequestForger:
    """One liar; what it says follows from its seed and from what it heard.

    Attributes:
      heard: Requests, oldest first.
    """

    def __init__(self, seed: int, chain_id: ChainId, key: SigningKey) -> None:
        """Begins with nothing heard.

        Args:
          seed: Of all its choices.
          chain_id: What it signs for.
          key: Its key.
        """
        self._random = Random(seed)
        self._chain_id = chain_id
        self._key = key
        self.heard: list[Envelope] = []

    def overhear(self, payload: bytes) -> None:
        """Keeps a frame that is a request."""
        told = open_frame(payload)
        if told.subject == FrameSubject.REQUEST:
            self.heard.append(ENVELOPE.unpack(told.content))

    def say(self) -> tuple[DeviceId, DeviceId, bytes]:
        """In whose name, to whom, and what."""
        said = self._random.choice(self.heard)
        changes: list[Callable[[Envelope], Envelope]] = [
            lambda same: same,
            self._renumbered,
            self._signed_by_itself,
        ]
        made = self._random.choice(changes)(said)
        payload = frame(FrameSubject.REQUEST, ENVELOPE.pack(made))
        return device_id(said.sender), REQUEST.unpack(said.body).asked, payload

    def _renumbered(self, said: Envelope) -> Envelope:
        return replace(said, counter=said.counter + self._random.randint(1, 1 << 40))

    def _signed_by_itself(self, said: Envelope) -> Envelope:
        counter = said.counter + self._random.randint(0, 1 << 40)
        kind = MessageKind.PEER_REQUEST
        return sign(self._key, self._chain_id, kind, counter, said.body)
