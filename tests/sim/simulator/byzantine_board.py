"""A board that keeps no rule, and remembers what it is told."""

import struct
from collections.abc import Callable

from starling.broker.link_events import MqttMessage
from starling.coordinator.chain.state import board_records
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.crypto.sealed_blob import ENTROPY_BYTES, blob_digest, seal
from starling.protocol.errors import Reason
from starling.protocol.ids import TaskId, Version, device_name
from starling.protocol.learning.task import MICRO
from starling.protocol.privacy.gaussian_dp import charge_from_sigma
from starling.protocol.wire.chunks import CHUNK, split
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from starling.protocol.wire.message_bodies import (
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
from tests.sim.simulator.fleet_world import (
    CHAIN,
    OPERATOR,
    PLEDGE,
    SEALING,
    TOPICS,
    FleetWorld,
)
from tests.sim.simulator.node import SimulatedNode

WITHIN_S = 30.0
CHECK_IN_S = 2.0
Change = Callable[[Contribution], Contribution]


class ByzantineBoard(SimulatedNode):
    """The board; its own broker link is as good as everybody's.

    Attributes:
      told: Every envelope that it was sent, in order.
    """

    def __init__(self, world: FleetWorld, key: SigningKey, *, enrolled: bool) -> None:
        self.key = key
        self.device = device_name(key.identity)
        self.told: list[Envelope] = []
        self._law = world.law
        self._world = world
        super().__init__(
            "villain", world.time, world.broker, TOPICS.board_filters(self.device)
        )
        self._counter = 0
        if enrolled:
            body = REGISTER.pack(Register(key.public))
            envelope = sign(OPERATOR, CHAIN, MessageKind.REGISTER, 900, body)
            world.coordinator.drop("900.tx", ENVELOPE.pack(envelope))
        self.boot()

        def ready() -> bool:
            known = (
                board_records.board(world.coordinator.store, key.identity) is not None
            )
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

    def arrived(self, message: MqttMessage, token: tuple[int, int]) -> None:
        if message.topic == TOPICS.down(self.device):
            self.told.append(ENVELOPE.unpack(message.payload))
        self.link.acknowledge(token)

    def say(self, payload: bytes) -> None:
        """Publishes on its topic for signed messages."""
        self.link.publish(MqttMessage(TOPICS.say(self.device), payload))

    def push(self, payload: bytes) -> None:
        """Publishes on its topic for chunks."""
        self.link.publish(MqttMessage(TOPICS.up(self.device), payload))

    def upload(self, upload: Upload) -> None:
        """Publishes an upload in its chunks; a receipt for it binds as any other."""
        body = CONTRIBUTION.unpack(upload.update.body)
        self._law.sent[upload.update.identity(CHAIN)] = body.task, body.version
        for chunk in split(UPLOAD.pack(upload)):
            self.push(CHUNK.pack(chunk))

    def sign(self, kind: MessageKind, body: bytes) -> Envelope:
        """Signs with its next counter."""
        self._counter += 1
        return sign(self.key, CHAIN, kind, self._counter, body)

    def check_in(self, version: int, task: int = 0, pledge: int = PLEDGE) -> Envelope:
        """A signed check-in, not sent yet."""
        body = CheckIn(TaskId(task), Version(version), 0, 0, 0, pledge)
        return self.sign(MessageKind.CHECK_IN, CHECK_IN.pack(body))

    def lease(self, version: int) -> Envelope:
        """Checks in until it gets a lease, as a board does whose place is taken.

        Args:
          version: That it has; if the fleet leaves it behind, it has the newest one.
        """
        until_s = self.time.now_s + WITHIN_S
        while self.time.now_s < until_s:
            self.say(ENVELOPE.pack(self.check_in(version)))
            if self.time.run(self.time.now_s + CHECK_IN_S, self._leased(version)):
                break
            version = max(version, self._world.head)
        return self.wait(self._is_lease(version))

    def _is_lease(self, version: int) -> Callable[[Envelope], bool]:
        return lambda envelope: (
            envelope.kind == MessageKind.LEASE
            and LEASE.unpack(envelope.body).version == version
        )

    def _leased(self, version: int) -> Callable[[], bool]:
        return lambda: any(map(self._is_lease(version), self.told))

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
            if envelope.kind == MessageKind.REFUSED
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
        return Upload(self.sign(MessageKind.UPDATE, body), lease, blob)
