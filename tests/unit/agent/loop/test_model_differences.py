"""A board that has an older version, and what it is told of the newest one."""

import zlib
from collections.abc import Callable, Sequence

import pytest

from starling.agent.loop.event_loop import AgentLoop
from starling.protocol.errors import Reason
from starling.protocol.ids import Digest, H
from starling.protocol.wire.chunk_deltas import CHUNK_DELTA, ChunkDelta
from starling.protocol.wire.chunks import CHUNK, Chunk, chunk_at
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from starling.protocol.wire.message_bodies import (
    CHUNK_REQUEST,
    ChunkRequest,
)
from tests.unit.agent.fake_coordinator import (
    BUNDLE,
    TOPICS,
    average,
    manifest,
    refused,
    theta,
)
from tests.unit.agent.loop.test_event_loop import CONNECTED, SETTINGS, World, arrived

MODEL = TOPICS.model(SETTINGS.device)
Answer = Callable[[ChunkRequest], bytes]


def blobs(version: int) -> dict[Digest, bytes]:
    parts = (BUNDLE, theta(version), average(version))
    return {H(part): part for part in parts}


def whole(request: ChunkRequest, version: int) -> bytes:
    found = blobs(version)[request.digest]
    return CHUNK.pack(chunk_at(found, request.digest, request.indices[0]))


def stored(content: bytes) -> bytes:
    """Deflated in one stored block: any difference fits into a test's tiny model."""
    size = len(content).to_bytes(2, "little")
    return b"\x01" + size + bytes(255 - byte for byte in size) + content


def changed_by(units: Sequence[int]) -> bytes:
    """A difference of so many units of 2^-24 for each value, none below 0."""
    coded = b"".join((2 * each).to_bytes(4, "little") for each in units)
    return stored(b"".join(coded[plane::4] for plane in range(4)))


def delta(request: ChunkRequest, change: bytes, base: Digest | None = None) -> bytes:
    held = base or request.held[0]
    made = ChunkDelta(request.digest, 16, request.indices[0], change, held)
    return CHUNK_DELTA.pack(made)


def right(request: ChunkRequest) -> bytes:
    return delta(request, changed_by((1 << 24, 0, 0, 0)))


def requests(world: World, since: int) -> list[ChunkRequest]:
    said = [
        each for each in world.sent[since:] if each.topic == TOPICS.say(SETTINGS.device)
    ]
    envelopes = [ENVELOPE.unpack(each.payload) for each in said]
    return [
        CHUNK_REQUEST.unpack(each.body)
        for each in envelopes
        if each.kind == MessageKind.CHUNK_REQUEST
    ]


def pulled(
    world: World, loop: AgentLoop, version: int, answer: Answer
) -> list[ChunkRequest]:
    """Offers a version and answers requests until nothing more is asked for.

    Args:
      world: What the board reaches.
      loop: The board.
      version: What is offered.
      answer: To a request with an older version; any other gets the whole chunk.
    """
    found: list[ChunkRequest] = []
    since = len(world.sent)
    loop.turn((arrived(TOPICS.manifest(0), manifest(version), 1),))
    for _ in range(20):
        asked, since = requests(world, since), len(world.sent)
        found += asked
        for request in asked:
            for index in request.indices:
                one = ChunkRequest(request.digest, (index,), request.held)
                payload = answer(one) if one.held else whole(one, version)
                loop.turn((arrived(MODEL, payload, 2),))
        if loop.state.fetch is None:
            break
        if not asked:
            world.now_s += 10
            loop.turn(())
    return found


@pytest.fixture
def board() -> tuple[World, AgentLoop]:
    """A board that has version 0."""
    world = World()
    loop = world.loop()
    loop.turn((CONNECTED,))
    asked = pulled(world, loop, 0, right)
    assert not any(request.held for request in asked)
    return world, loop


def test_newest_version_comes_as_differences(board: tuple[World, AgentLoop]) -> None:
    world, loop = board

    asked = pulled(world, loop, 1, right)

    assert [(each.digest, each.held) for each in asked] == [
        (H(theta(1)), (H(theta(0)),)),
        (H(average(1)), (H(average(0)),)),
    ]
    assert world.store.blobs[H(theta(1))] == theta(1)
    assert world.store.blobs[H(average(1))] == average(1)
    # Of four values a difference is longer than they are.
    sent = [len(right(each)) for each in asked]
    chunks = [len(whole(each, 1)) for each in asked]
    assert loop.bytes_saved == sum(chunks) - sum(sent)


def test_older_version_is_kept_until_the_newest_is_whole(
    board: tuple[World, AgentLoop],
) -> None:
    world, loop = board

    # Version 1 is overtaken before anything of it came.
    loop.turn((arrived(TOPICS.manifest(0), manifest(1), 1),))
    asked = pulled(
        world, loop, 2, lambda one: delta(one, changed_by((2 << 24, 0, 0, 0)))
    )

    assert [each.held for each in asked] == [(H(theta(0)),), (H(average(0)),)]
    assert world.store.blobs[H(theta(2))] == theta(2)
    assert H(theta(0)) not in world.store.blobs


BOMB = zlib.compress(bytes(16 << 20), 9)[2:-4]
HOSTILE: dict[str, Answer] = {
    "another change": lambda one: delta(one, changed_by((7, 0, 0, 0))),
    "bomb": lambda one: delta(one, BOMB),
    "too short": lambda one: delta(one, stored(bytes(12))),
    "no difference": lambda one: delta(one, b"\xff" * 9),
    "of what is not here": lambda one: delta(one, stored(bytes(16)), H(b"other")),
    "of the bundle": lambda one: delta(one, stored(bytes(16)), H(BUNDLE)),
    "of a chunk beyond the end": lambda one: delta(
        ChunkRequest(one.digest, (9,), one.held), stored(bytes(16))
    ),
    "no message": lambda one: right(one)[:-1],
    "wrong chunk": lambda one: CHUNK.pack(Chunk(one.digest, 16, 0, bytes(16))),
    "whole": lambda one: whole(one, 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_liar_sends_the_board_gets_the_proven_model(
    board: tuple[World, AgentLoop], name: str
) -> None:
    world, loop = board

    asked = pulled(world, loop, 1, HOSTILE[name])

    assert world.store.blobs[H(theta(1))] == theta(1)
    assert world.store.blobs[H(average(1))] == average(1)
    assert [bool(each.held) for each in asked] == (
        [True, True] if name == "whole" else [True, False, True, False]
    )


def test_coordinator_that_does_not_know_differences_is_asked_for_the_whole(
    board: tuple[World, AgentLoop],
) -> None:
    world, loop = board
    since = len(world.sent)
    loop.turn((arrived(TOPICS.manifest(0), manifest(1), 1),))
    assert loop.state.fetch is not None
    subject = loop.state.fetch.envelope
    assert subject is not None

    told = refused(subject, Reason.MALFORMED)
    loop.turn((arrived(TOPICS.down(SETTINGS.device), told, 2),))
    world.now_s += 1
    loop.turn(())

    asked = requests(world, since)
    assert [bool(each.held) for each in asked] == [True, False]


def test_difference_that_nobody_waits_for_changes_nothing(
    board: tuple[World, AgentLoop],
) -> None:
    world, loop = board
    before = loop.state

    loop.turn(
        (arrived(MODEL, right(ChunkRequest(H(theta(1)), (0,), (H(theta(0)),))), 3),)
    )

    assert loop.state == before
    assert world.deeds[-1] == "acknowledge 3"
