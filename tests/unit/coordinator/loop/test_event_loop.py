"""One turn of the loop: durable first, then told, then acknowledged."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from starling.broker.link_events import (
    AckToken,
    LinkConnected,
    MessageArrived,
    MqttMessage,
)
from starling.coordinator.chain.node.node import JournalVote
from starling.coordinator.chain.storage.memory_store import MemoryStore
from starling.coordinator.loop.event_loop import CoordinatorLoop, first_counter
from starling.coordinator.loop.memory_ports import (
    MemoryInbox,
    MemoryVoteJournal,
    SilentMonitor,
)
from starling.coordinator.loop.ports import Clock, Item, LoopPorts, ScoringInputs, Work
from starling.coordinator.step.effects import EvaluateVersion
from starling.protocol.errors import StorageError
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import REGISTER, Register
from tests.unit.coordinator.fixtures.single_coordinator import (
    CHAIN_ID,
    GENESIS,
    OPERATOR,
    SETTINGS,
    TOPICS,
    board,
)

CONNECTED = LinkConnected(131_072, False, 64)


class NoJobs:
    """Nothing here takes long."""

    evaluates = False

    def aggregate(self, work: Work) -> None:
        raise AssertionError("no version is due")

    def examine(self, work: Work) -> None:
        raise AssertionError("no task is published")

    def evaluate(self, asked: EvaluateVersion, bundle: bytes, inference: bytes) -> None:
        raise AssertionError("there is no held-out data")

    def score(self, inputs: ScoringInputs) -> None:
        raise AssertionError("there is no root set")


class NotingStore(MemoryStore):
    """Notes its transactions; may refuse them."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(GENESIS)
        self.notes = notes
        self.full = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self.full:
            raise StorageError("the disk is full")
        with super().transaction():
            yield
        self.notes.append("stored")


class NotingVotes(MemoryVoteJournal):
    """Notes when votes are written."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self.notes = notes

    def append(self, votes: Sequence[JournalVote], height: int) -> None:
        super().append(votes, height)
        self.notes.append("voted")


@dataclass
class World:
    """A coordinator in memory; its notes say in which order the world changed."""

    notes: list[str] = field(default_factory=list)
    now_s: float = 0.0
    published: list[MqttMessage] = field(default_factory=list)
    coming: list[Item] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store, self.votes = NotingStore(self.notes), NotingVotes(self.notes)
        self.inbox = MemoryInbox()
        self.boots = 0

    def boot(self) -> CoordinatorLoop:
        self.boots += 1
        self.inbox.reopen()
        ports = LoopPorts(
            Clock(lambda: self.now_s, lambda: int(1000 * self.now_s)),
            self.store,
            self.votes,
            self.inbox,
            NoJobs(),
            SilentMonitor(),
            self.coming.append,
            lambda proof: None,
        )
        loop = CoordinatorLoop(SETTINGS, ports, first_counter(self.boots), 20)
        loop.begin(self)
        self.notes.clear()
        return loop

    def publish(self, message: MqttMessage) -> int:
        self.notes.append(f"published {message.topic.rsplit('/', 1)[1]}")
        self.published.append(message)
        return len(self.published)

    def acknowledge_many(self, tokens: Iterable[AckToken]) -> None:
        self.notes += [f"acknowledged {token.packet}" for token in tokens]

    def admit(self, number: int) -> None:
        body = REGISTER.pack(Register(board(number).key.public))
        envelope = sign(OPERATOR, CHAIN_ID, MessageKind.REGISTER, number + 1, body)
        self.inbox.drop(f"{number}.tx", ENVELOPE.pack(envelope))

    def run(self, loop: CoordinatorLoop, seconds: float) -> None:
        until_s = self.now_s + seconds
        while loop.wake_at_s <= until_s:
            self.now_s = max(self.now_s, loop.wake_at_s)
            loop.turn(())
        self.now_s = until_s


@pytest.fixture
def world() -> World:
    return World()


def test_transaction_of_the_inbox_is_in_a_block_before_its_file_goes(
    world: World,
) -> None:
    loop = world.boot()
    world.admit(1)
    assert loop.wake_at_s <= world.now_s

    loop.turn([CONNECTED])
    world.run(loop, 3.0)

    assert loop.state.ledger.height == 1
    assert world.inbox.files == {}
    assert world.notes.index("voted") < world.notes.index("stored")


def test_message_is_acknowledged_after_its_answer_was_handed_over(world: World) -> None:
    loop = world.boot()
    topic = TOPICS.say("00" * 16)
    loop.turn([MessageArrived(topic, b"noise", AckToken(1, 7)), CONNECTED])

    assert world.notes == ["published state", "acknowledged 7"]
    assert loop.tally.refused["MALFORMED"] == 1


def test_disk_that_refuses_keeps_the_loop_from_saying_anything(world: World) -> None:
    loop = world.boot()
    world.admit(1)
    loop.turn([CONNECTED])
    world.notes.clear()
    world.store.full = True

    with pytest.raises(StorageError):
        world.run(loop, 3.0)

    assert not [note for note in world.notes if note.startswith(("pub", "ack"))]


def test_next_life_goes_on_from_the_store_with_counters_of_its_own(
    world: World,
) -> None:
    first = world.boot()
    world.admit(1)
    world.run(first, 3.0)

    second = world.boot()

    assert second.state.ledger.height == first.state.ledger.height == 1
    assert second.state.counter > first_counter(2) > first.state.counter
    assert second.will != first.will


def test_goodbye_is_the_last_thing_that_is_said(world: World) -> None:
    loop = world.boot()
    loop.turn([CONNECTED])

    loop.say_goodbye()

    said = world.published[-1]
    assert (said.topic, said.retain) == (loop.will.topic, True)
    assert said.payload != loop.will.payload
