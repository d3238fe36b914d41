"""The agent's loop against ports in memory: order, answers, and the time."""

from dataclasses import dataclass, field

import pytest

from starling.agent.loop.event_loop import AgentLoop
from starling.agent.loop.memory_store import MemoryAgentStore
from starling.agent.loop.ports import AgentPorts
from starling.agent.loop.update_spans import AgentSpans
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.ongoing_work import (
    PendingUpload,
)
from starling.agent.step.state import (
    AgentSettings,
)
from starling.broker.link_events import (
    AckToken,
    Delivered,
    LinkConnected,
    LinkDisconnected,
    MessageArrived,
    MqttMessage,
)
from starling.protocol.errors import StorageError, TransportError
from starling.protocol.ids import Digest
from starling.protocol.wire.envelope import ENVELOPE
from starling.protocol.wire.message_bodies import DEVICE_STATE, DevicePhase
from tests.unit.agent.fake_coordinator import (
    BOARD,
    CAP,
    PINNED,
    TASK_NUMBER,
    TOPICS,
    manifest,
)
from tests.unit.agent.runtime.storage.test_spool import upload

ENTRY, CONTENT = upload(4)
CONNECTED = LinkConnected(131_072, False, 64)
SETTINGS = AgentSettings(BOARD, TOPICS, TASK_NUMBER, 1, b"seed")


class Refusing(MemoryAgentStore):
    """A disk that takes nothing."""

    def put_progress(self, trusted: object, manifest: bytes) -> None:
        raise StorageError("refused")


@dataclass
class World:
    """All ports but the store; it writes down what it is asked, in order."""

    store: MemoryAgentStore = field(default_factory=MemoryAgentStore)
    up: bool = True
    now_s: float = 0.0
    deeds: list[str] = field(default_factory=list)
    posted: list[e.Event] = field(default_factory=list)
    sent: list[MqttMessage] = field(default_factory=list)
    spans: AgentSpans | None = None

    def loop(self) -> AgentLoop:
        ports = AgentPorts(
            lambda: self.now_s,
            self,
            self.store,
            self,
            self,
            self.posted.append,
            self.spans,
            lambda: self.deeds.append("check"),
        )
        settings, state, effects = self.store.start(SETTINGS, PINNED, CAP, self.now_s)
        made = AgentLoop(settings, state, ports)
        made.begin(effects)
        return made

    def publish(self, message: MqttMessage) -> int:
        if not self.up:
            raise TransportError("away")
        self.sent.append(message)
        self.deeds.append("publish")
        return len(self.sent)

    def acknowledge(self, token: AckToken) -> None:
        self.deeds.append(f"acknowledge {token.packet}")

    def load(self, bundle: Digest) -> None:
        self.deeds.append("load")

    def start(self, asked: f.StartTraining) -> None:
        self.deeds.append("start")

    def resume(self) -> None:
        self.deeds.append("resume")

    def stop(self, why: str) -> None:
        self.deeds.append("stop")

    def connected(self) -> None:
        self.deeds.append("connected")

    def disconnected(self, event: LinkDisconnected) -> None:
        self.deeds.append("disconnected")

    def stepped(self, event: e.Event, effects: tuple[f.Effect, ...]) -> None:
        self.deeds.append(type(event).__name__)

    def note(self, text: str, *, warns: bool) -> None:
        self.deeds.append(f"note {text}")


def arrived(topic: str, payload: bytes, packet: int) -> MessageArrived:
    return MessageArrived(topic, payload, AckToken(0, packet))


def with_upload() -> tuple[World, AgentLoop]:
    world = World()
    world.store.spool(ENTRY, CONTENT)
    loop = world.loop()
    loop.turn((CONNECTED,))
    return world, loop


def test_message_is_acknowledged_after_what_it_led_to() -> None:
    world = World()
    loop = world.loop()
    loop.turn((CONNECTED,))
    world.deeds.clear()

    loop.turn((arrived(TOPICS.manifest(0), manifest(1), 7),))

    assert world.deeds[0] == "ManifestArrived"
    assert world.deeds[-1] == "acknowledge 7"
    assert "publish" in world.deeds
    assert world.store.progress is not None
    assert loop.bytes_down == len(manifest(1))


def test_message_whose_effects_fail_is_not_acknowledged() -> None:
    world = World(Refusing())
    loop = world.loop()
    loop.turn((CONNECTED,))
    sent = len(world.sent)

    with pytest.raises(StorageError):
        loop.turn((arrived(TOPICS.manifest(0), manifest(1), 7),))

    assert len(world.sent) == sent
    assert "acknowledge 7" not in world.deeds


def test_message_on_a_foreign_topic_is_noted_and_let_go() -> None:
    world = World()
    loop = world.loop()

    loop.turn((arrived("other/1/meadow/t/0/manifest", b"x", 3),))

    assert world.deeds[-2].startswith("note not a topic of meadow")
    assert world.deeds[-1] == "acknowledge 3"


def test_chunk_is_answered_by_the_number_of_its_publish() -> None:
    world, loop = with_upload()
    number = 1 + next(
        at
        for at, each in enumerate(world.sent)
        if each.topic == TOPICS.up(SETTINGS.device)
    )
    assert loop.state.sending is not None
    assert loop.state.sending.in_flight == {0}

    loop.turn((Delivered(number, 0), Delivered(number, 0)))

    assert loop.state.sending.in_flight == frozenset()
    assert world.deeds.count("ChunkDelivered") == 1


def test_chunk_without_a_connection_is_posted_as_not_taken() -> None:
    world = World(up=False)
    world.store.spool(ENTRY, CONTENT)
    loop = world.loop()

    loop.turn((CONNECTED,))

    assert world.posted == [e.ChunkDelivered(ENTRY.update, 0, taken=False)]
    assert loop.bytes_up == 0


def test_answer_to_a_chunk_of_a_lost_connection_is_void() -> None:
    world, loop = with_upload()

    loop.turn((LinkDisconnected("away", 1.0), Delivered(len(world.sent), 0)))

    assert "ChunkDelivered" not in world.deeds


def test_refusal_of_the_broker_is_told_once_and_so_is_its_end() -> None:
    world, loop = with_upload()

    loop.turn((Delivered(90, 0x87), Delivered(91, 0x87), Delivered(92, 0x10)))

    assert world.deeds.count("BrokerAnswered") == 2


def test_core_is_woken_when_its_time_has_come_and_not_before() -> None:
    world, loop = with_upload()
    loop.turn((Delivered(len(world.sent), 0),))
    assert loop.wake_at_s < float("inf")

    loop.turn(())
    assert "WakeTimeReached" not in world.deeds
    world.now_s = loop.wake_at_s
    loop.turn(())

    assert world.deeds.count("WakeTimeReached") == 1
    assert loop.wake_at_s > world.now_s


def test_last_will_and_goodbye_say_how_the_board_went() -> None:
    world = World()
    loop = world.loop()
    loop.say_goodbye()
    assert world.sent == []
    loop.turn((CONNECTED,))

    will = loop.last_will()
    loop.say_goodbye()

    said = [
        DEVICE_STATE.unpack(ENVELOPE.unpack(each.payload).body).phase
        for each in (will, world.sent[-1])
    ]
    assert said == [DevicePhase.LOST, DevicePhase.DISCONNECTED]
    assert will.retain


def test_memory_store_starts_with_what_was_spooled_and_accepted() -> None:
    store = MemoryAgentStore()
    store.spool(ENTRY, CONTENT)
    store.mark_accepted(ENTRY)

    settings, state, _ = store.start(SETTINGS, PINNED, CAP, 100.0)
    again, _, _ = store.start(SETTINGS, PINNED, CAP, 100.0)

    later_s = 100.0 + SETTINGS.pace.final_s
    assert state.waiting == (PendingUpload(ENTRY, True, later_s),)
    assert (settings.boot, again.boot) == (1, 2)
