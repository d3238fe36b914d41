"""Spans of a board: whose child each is, and what a coordinator puts into them."""

from collections.abc import Sequence

import pytest

from starling.agent.loop.update_spans import AgentSpans
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.broker.link_events import LinkDisconnected
from starling.protocol.ids import H
from starling.protocol.wire.chunks import CHUNK_BYTES
from starling.protocol.wire.trace_context import (
    Span,
    SpanKind,
    Tracer,
    parent_span,
    traceparent,
)
from tests.unit.agent.fake_coordinator import TOPICS
from tests.unit.agent.loop.test_event_loop import CONNECTED, SETTINGS, World
from tests.unit.agent.runtime.storage.test_spool import upload

ENTRY, CONTENT = upload(4, bytes(CHUNK_BYTES))
ABROAD = b"\xaa" * 8
"""A coordinator's span."""
FINISHED = e.TrainingFinished(b"payload", bytes(64))


class Watch:
    """The spans of an agent, by name, at a clock that goes on with each look."""

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}
        self.now_ns = self.ids = 0
        self.of = AgentSpans(Tracer(self.later, self.fresh, self.write))

    def later(self) -> int:
        self.now_ns += 1
        return self.now_ns

    def fresh(self) -> bytes:
        self.ids += 1
        return self.ids.to_bytes(8)

    def write(self, spans: Sequence[Span]) -> None:
        for span in spans:
            assert span.update == ENTRY.update
            assert span.name not in self.spans
            self.spans[span.name] = span

    def step(self, event: e.Event, *effects: f.Effect, context: str = "") -> None:
        self.of.taken(event, context)
        self.of.done(event, effects)


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_each_step_of_an_update_is_the_child_of_the_one_before(watch: Watch) -> None:
    watch.step(FINISHED)
    watch.step(e.WakeTimeReached(), f.SpoolUpload(ENTRY, CONTENT))
    sent = parent_span(watch.of.context(ENTRY), ENTRY.update)
    watch.step(e.ChunkDelivered(ENTRY.update, 0, taken=True))
    assert set(watch.spans) == {"train", "sign"}
    watch.step(e.ChunkDelivered(ENTRY.update, 1, taken=True))
    final = traceparent(ENTRY.update, ABROAD)
    ends = (f.KeepProof(ENTRY, b""), f.DeleteSpooled(ENTRY, "final"))
    watch.step(e.DownArrived(b"proof"), *ends, context=final)

    train, sign, publish, prove = watch.spans.values()
    assert (train.name, train.parent) == ("train", b"")
    assert (sign.name, sign.parent) == ("sign", train.span)
    assert (publish.name, publish.parent) == ("publish", sign.span)
    assert publish.span == sent
    assert publish.kind is SpanKind.PRODUCER
    assert (prove.name, prove.parent) == ("prove", ABROAD)
    assert prove.kind is SpanKind.CONSUMER
    assert ("starling.update", ENTRY.update.hex()) in train.facts
    assert train.ended_ns <= sign.began_ns < publish.began_ns < publish.ended_ns


@pytest.mark.parametrize(
    "context", [traceparent(H(b"somebody else's"), ABROAD), 56 * "0", "\ufffd"]
)
def test_context_of_a_hostile_coordinator_is_ignored_and_counted(
    watch: Watch, context: str
) -> None:
    watch.of.context(ENTRY)
    watch.step(e.DownArrived(b"proof"), f.KeepProof(ENTRY, b""), context=context)

    own = parent_span(watch.of.context(ENTRY), ENTRY.update)
    assert watch.spans["prove"].parent == own
    assert watch.spans["prove"].facts == (("starling.ignored_parents", 1),)


def test_update_that_is_sent_again_is_published_once(watch: Watch) -> None:
    first = watch.of.context(ENTRY)
    for _ in range(2):
        watch.step(e.ChunkDelivered(ENTRY.update, 1, taken=False))
        watch.step(e.ChunkDelivered(ENTRY.update, 1, taken=True))

    # It was signed before the last start: by which span is not known.
    assert watch.spans["publish"].parent == b""
    assert watch.of.context(ENTRY) == first


def test_loop_that_is_watched_names_the_span_in_each_chunk_and_nowhere_else() -> None:
    watch, world = Watch(), World()
    world.spans = watch.of
    world.store.spool(ENTRY, CONTENT)
    loop = world.loop()

    loop.turn((CONNECTED, LinkDisconnected("away", 1.0), CONNECTED))

    up = TOPICS.up(SETTINGS.device)
    named = {each.topic: each.traceparent for each in world.sent if each.traceparent}
    assert named == {up: watch.of.context(ENTRY)}
    assert all(each.traceparent for each in world.sent if each.topic == up)


def test_loop_that_is_not_watched_names_nothing() -> None:
    world = World()
    world.store.spool(ENTRY, CONTENT)

    world.loop().turn((CONNECTED,))

    assert [each.topic for each in world.sent].count(TOPICS.up(SETTINGS.device)) > 0
    assert {each.traceparent for each in world.sent} == {""}
