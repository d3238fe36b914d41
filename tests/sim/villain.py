"""A board that keeps no rule, and remembers what it is told."""

import struct
from collections.abc import Callable

from broker.events import Message
from coordinator.ledger import views
from protocol.accounting import charge_from_sigma
from protocol.chunks import CHUNK, split
from protocol.envelope import ENVELOPE, Envelope, Kind, sign
from protocol.errors import Reason
from protocol.ids import TaskId, Version, device_name
from protocol.keys import SigningKey
from protocol.messages import (
    CHECK_IN,
    CONTRIBUTION,
    LEASE,
    REFUSED,
    REGISTER,
    UPLOAD,
    CheckIn,
    Contribution,
    Register,
    Upload,
)
from protocol.sealing import ENTROPY_BYTES, blob_digest, seal
from protocol.task import MICRO
from tests.sim.party import Party
from tests.sim.world import CHAIN, OPERATOR, PLEDGE, SEALING, TOPICS, World

WITHIN_S = 30.0
Change = Callable[[Contribution], Contribution]


class Villain(Party):
    """The board; its own broker link is as good as everybody's.

    Attributes:
      told: Every envelope that it was sent, in order.
    """

    def __init__(self, world: World, key: SigningKey, *, enrolled: bool) -> None:
        self.key = key
        self.device = device_name(key.identity)
        self.told: list[Envelope] = []
        self._law = world.law
        super().__init__(
            "villain", world.time, world.broker, TOPICS.board_filters(self.device)
        )
        self._counter = 0
        if enrolled:
            body = REGISTER.pack(Register(key.public))
            envelope = sign(OPERATOR, CHAIN, Kind.REGISTER, 900, body)
            world.office.drop("900.tx", ENVELOPE.pack(envelope))
        self.boot()

        def ready() -> bool:
            tree = world.office.store.tip().tree
            known = views.board(tree, key.identity) is not None
            return self.link.up and known == enrolled

        assert world.time.run(world.time.now_s + WITHIN_S, ready)

    def begin(self) -> None:
        """It has no memory."""

    def connected(self) -> None:
        """It minds no connections."""

    def disconnected(self) -> None:
        """It minds no connections."""

    def delivered(self, publish_id: int) -> None:
        """It minds no answers of the broker."""

    def arrived(self, message: Message, token: tuple[int, int]) -> None:
        if message.topic == TOPICS.down(self.device):
            self.told.append(ENVELOPE.unpack(message.payload))
        self.link.acknowledge(token)

    def say(self, payload: bytes) -> None:
        """Publishes on its topic for signed messages."""
        self.link.publish(Message(TOPICS.say(self.device), payload))

    def push(self, payload: bytes) -> None:
        """Publishes on its topic for chunks."""
        self.link.publish(Message(TOPICS.up(self.device), payload))

    def upload(self, upload: Upload) -> None:
        """Publishes an upload in its chunks; a receipt for it binds as any other."""
        body = CONTRIBUTION.unpack(upload.update.body)
        self._law.sent[upload.update.identity(CHAIN)] = body.task, body.version
        for chunk in split(UPLOAD.pack(upload)):
            self.push(CHUNK.pack(chunk))

    def sign(self, kind: Kind, body: bytes) -> Envelope:
        """Signs with its next counter."""
        self._counter += 1
        return sign(self.key, CHAIN, kind, self._counter, body)

    def check_in(self, version: int, task: int = 0, pledge: int = PLEDGE) -> Envelope:
        """A signed check-in, not sent yet."""
        body = CheckIn(TaskId(task), Version(version), 0, 0, 0, pledge)
        return self.sign(Kind.CHECK_IN, CHECK_IN.pack(body))

    def lease(self, version: int) -> Envelope:
        """Checks in and waits for the lease."""
        self.say(ENVELOPE.pack(self.check_in(version)))
        return self.wait(
            lambda envelope: (
                envelope.kind == Kind.LEASE
                and LEASE.unpack(envelope.body).version == version
            )
        )

    def wait(self, wanted: Callable[[Envelope], bool]) -> Envelope:
        """The first envelope of a kind that it was or will be told."""

        def found() -> bool:
            return any(wanted(envelope) for envelope in self.told)

        assert self.time.run(self.time.now_s + WITHIN_S, found), "was not answered"
        return next(envelope for envelope in self.told if wanted(envelope))

    def reasons(self) -> list[Reason]:
        """Why it was refused, each time."""
        return [
            Reason(REFUSED.unpack(envelope.body).reason)
            for envelope in self.told
            if envelope.kind == Kind.REFUSED
        ]

    def make(
        self,
        lease: Envelope,
        values: tuple[float, ...] = (0.25, 0.0, 0.0, 0.0),
        recipient: bytes = SEALING.public,
        change: Change = lambda honest: honest,
    ) -> Upload:
        """An upload for a lease; `change` changes what is signed."""
        granted = LEASE.unpack(lease.body)
        payload = struct.pack(f"<{len(values)}f", *values)
        entropy = self.time.rng.randbytes(ENTROPY_BYTES)
        blob, commitment = seal(payload, [recipient], entropy, self.key.public)
        honest = Contribution(
            granted.task,
            granted.version,
            0,
            PLEDGE,
            1,
            charge_from_sigma(2 * MICRO),
            blob_digest(blob),
            commitment,
        )
        body = CONTRIBUTION.pack(change(honest))
        return Upload(self.sign(Kind.UPDATE, body), lease, blob)
