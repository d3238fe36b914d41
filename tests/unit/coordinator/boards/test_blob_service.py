"""Boards are given the pieces that they ask for, as differences where that helps."""

import pytest

from starling.coordinator.boards import blob_service
from starling.coordinator.step.effects import PublishChunks
from starling.coordinator.step.events import BoardMessageArrived
from starling.protocol.errors import Reason
from starling.protocol.ids import Digest, H, TaskId
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from starling.protocol.wire.message_bodies import CHUNK_REQUEST, ChunkRequest
from tests.unit.coordinator.fixtures.single_coordinator import (
    FixtureBoard,
    SingleCoordinator,
    board,
    refusals,
)


@pytest.fixture
def boards() -> list[FixtureBoard]:
    return [board(number) for number in (1, 2, 3)]


@pytest.fixture
def world(boards: list[FixtureBoard]) -> SingleCoordinator:
    made = SingleCoordinator()
    made.open(boards)
    return made


def request(board: FixtureBoard, digest: bytes, count: int = 1) -> bytes:
    body = CHUNK_REQUEST.pack(ChunkRequest(H(digest), tuple(range(count))))
    return ENVELOPE.pack(board.sign(MessageKind.CHUNK_REQUEST, body))


def test_chunk_request_offered_whole_is_served(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    device = boards[0].device

    effects = world.send(BoardMessageArrived(device, request(boards[0], b"bundle")))

    assert effects == (PublishChunks(device, H(b"bundle"), (0,)),)


def asks_with(board: FixtureBoard, wanted: Digest, held: Digest) -> BoardMessageArrived:
    body = CHUNK_REQUEST.pack(ChunkRequest(wanted, (0,), (held,)))
    said = board.sign(MessageKind.CHUNK_REQUEST, body)
    return BoardMessageArrived(board.device, ENVELOPE.pack(said))


def with_version_1(world: SingleCoordinator, boards: list[FixtureBoard]) -> None:
    for each in boards[:2]:
        world.contribute(each, [16.0, 0, 0, 0])
    world.tick()
    world.compute()
    assert world.state.tasks[TaskId(0)].head == 1


def test_chunk_request_of_a_board_with_an_older_version_names_it_as_base(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    with_version_1(world, boards)
    older, newest = (world.models[version].digests() for version in (0, 1))
    device = boards[1].device

    for wanted, held in (
        (newest.training, older.training),
        (newest.inference, older.inference),
    ):
        effects = world.send(asks_with(boards[1], wanted, held))
        assert effects == (PublishChunks(device, wanted, (0,), held),)


def test_chunk_request_with_a_base_of_no_use_is_served_whole(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    with_version_1(world, boards)
    older, newest = (world.models[version].digests() for version in (0, 1))
    device = boards[1].device

    for wanted, held in (
        (newest.training, H(b"something else")),
        (newest.training, H(b"bundle")),
        (newest.training, newest.training),
        (older.training, newest.training),
        (H(b"bundle"), older.training),
    ):
        effects = world.send(asks_with(boards[1], wanted, held))
        assert effects == (PublishChunks(device, wanted, (0,)),)


def test_chunk_request_for_a_large_model_is_served_whole(
    world: SingleCoordinator,
    boards: list[FixtureBoard],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blob_service, "DELTA_DIMENSION_MAX", 3)
    with_version_1(world, boards)
    wanted, held = (world.models[version].digests().training for version in (1, 0))

    effects = world.send(asks_with(boards[1], wanted, held))

    assert effects == (PublishChunks(boards[1].device, wanted, (0,)),)


def test_chunk_request_too_fast_is_told_to_come_back(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    device = boards[0].device
    world.send(BoardMessageArrived(device, request(boards[0], b"bundle", 16)))

    effects = world.send(BoardMessageArrived(device, request(boards[0], b"bundle", 16)))
    world.now_s += 2
    again = world.send(BoardMessageArrived(device, request(boards[0], b"bundle", 16)))

    (refused,) = refusals(effects, device)
    assert (refused.reason, refused.retry_after_s > 0) == (Reason.BUSY, True)
    assert isinstance(again[0], PublishChunks)


def test_chunk_request_for_secrets_is_refused(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    body = ChunkRequest(world.models[0].digests().theta, (0,))
    said = boards[0].sign(MessageKind.CHUNK_REQUEST, CHUNK_REQUEST.pack(body))

    effects = world.send(BoardMessageArrived(boards[0].device, ENVELOPE.pack(said)))

    assert refusals(effects, boards[0].device)[0].reason == Reason.NOT_HERE
