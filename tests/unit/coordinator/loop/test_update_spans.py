"""Spans of a coordinator: whose child each is, and what boards put into them."""

from dataclasses import dataclass, field

import pytest

from starling.broker.link_events import AckToken, MessageArrived
from starling.coordinator.loop import update_spans
from starling.coordinator.loop.update_spans import CoordinatorSpans
from starling.coordinator.step.effects import Effect
from starling.coordinator.step.events import ChunkArrived, Event
from starling.protocol.ids import DeviceId, Digest, H
from starling.protocol.wire.message_bodies import Upload
from starling.protocol.wire.trace_context import Span, SpanKind, Tracer, traceparent
from tests.unit.coordinator.fixtures.single_coordinator import (
    CHAIN_ID,
    FixtureBoard,
    SingleCoordinator,
    board,
    spec,
)

ABROAD = b"\xaa" * 8
"""A board's own span."""


@dataclass
class Watched(SingleCoordinator):
    """Has each of its steps watched; time goes on with each look at the clock.

    Attributes:
      context: `traceparent` of what boards publish.
    """

    context: str = ""
    spans: list[Span] = field(default_factory=list)
    ignored: list[DeviceId] = field(default_factory=list)
    now_ns: int = 0
    ids: int = 0

    def __post_init__(self) -> None:
        tracer = Tracer(self.later, self.fresh, self.spans.extend)
        self.watch = CoordinatorSpans(tracer, self.ignored.append)
        super().__post_init__()

    def later(self) -> int:
        self.now_ns += 1
        return self.now_ns

    def fresh(self) -> bytes:
        self.ids += 1
        return self.ids.to_bytes(8)

    def send(self, event: Event) -> tuple[Effect, ...]:
        if isinstance(event, ChunkArrived):
            token = AckToken(0, 0)
            arrived = MessageArrived("up", event.payload, token, self.context)
            self.watch.message_taken(event, arrived)
        # What a bundle's examination answers is taken within.
        effects = super().send(event)
        self.watch.stepped(effects)
        self.watch.done(effects)
        return effects

    def names(self, update: Digest) -> dict[str, Span]:
        found = {each.name: each for each in self.spans if each.update == update}
        assert len(found) == sum(each.update == update for each in self.spans)
        return found


def contributed(world: Watched, who: FixtureBoard, context: bool = True) -> Digest:
    """An update of one board that its own span led to."""
    lease = world.check_in(who)
    assert lease is not None
    upload: Upload = who.upload(lease)
    update = upload.update.identity(CHAIN_ID)
    world.context = traceparent(update, ABROAD) if context else ""
    world.upload(who, upload)
    return update


@pytest.fixture
def boards() -> list[FixtureBoard]:
    return [board(1), board(2)]


@pytest.fixture
def world(boards: list[FixtureBoard]) -> Watched:
    made = Watched(task=spec(buffer=2))
    made.open(boards)
    return made


def test_each_step_of_an_update_is_the_child_of_the_one_before(
    world: Watched, boards: list[FixtureBoard]
) -> None:
    updates = [contributed(world, each) for each in boards]
    world.tick()
    world.compute()

    for update in updates:
        found = world.names(update)
        order = ["receive", "check", "propose", "commit", "aggregate", "finalise"]
        assert list(found) == order
        parents = [ABROAD, *[found[name].span for name in order]]
        assert [found[name].parent for name in order] == parents[:-1]
        assert found["receive"].kind is SpanKind.CONSUMER
        assert all(each.began_ns <= each.ended_ns for each in found.values())
        assert found["check"].began_ns == found["receive"].ended_ns
        assert found["propose"].ended_ns == found["commit"].began_ns
    assert world.ignored == []


def test_message_about_an_update_names_its_newest_step(
    world: Watched, boards: list[FixtureBoard]
) -> None:
    update = contributed(world, boards[0])
    assert world.watch.context(update) == traceparent(
        update, world.names(update)["check"].span
    )

    world.tick()

    commit = world.names(update)["commit"].span
    assert world.watch.context(update) == traceparent(update, commit)
    assert world.watch.context(H(b"another")) == ""


def test_board_that_sends_no_context_is_traced_from_here_on(
    world: Watched, boards: list[FixtureBoard]
) -> None:
    update = contributed(world, boards[0], context=False)

    assert world.names(update)["receive"].parent == b""
    assert world.ignored == []


@pytest.mark.parametrize(
    "context",
    [traceparent(H(b"somebody else's"), ABROAD), 56 * "0", "\ufffd", "00-"],
)
def test_context_of_a_hostile_board_is_ignored_and_counted(
    world: Watched, boards: list[FixtureBoard], context: str
) -> None:
    lease = world.check_in(boards[0])
    assert lease is not None
    upload = boards[0].upload(lease)
    world.context = context

    world.upload(boards[0], upload)

    update = upload.update.identity(CHAIN_ID)
    assert world.names(update)["receive"].parent == b""
    assert world.ignored == [boards[0].device]
    assert {each.update for each in world.spans} == {update}


def test_chunk_that_is_none_leaves_no_trace(world: Watched) -> None:
    world.send(ChunkArrived(board(1).device, b"\xff"))

    assert world.spans == []


def test_updates_that_wait_are_remembered_within_bounds(
    world: Watched, boards: list[FixtureBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_spans, "UPDATES_MAX", 1)
    first, second = [contributed(world, each) for each in boards]

    assert world.watch.context(first) == ""
    assert world.watch.context(second) != ""
    world.tick()
    assert world.names(first)["commit"].parent == b""
