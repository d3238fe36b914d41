"""An operator asks a board for its checks, and its answer takes the request's place."""

import pytest

from starling.coordinator.boards.health_requests import WAITING_MAX
from starling.coordinator.step.effects import Effect, RemoveInboxFile
from starling.coordinator.step.events import BoardMessageArrived, TransactionArrived
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import Reason
from starling.protocol.ids import DeviceId
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.health_messages import (
    HEALTH_REPORT,
    HEALTH_REQUEST,
    HealthReport,
    HealthRequest,
    HealthRow,
)
from starling.protocol.wire.message_bodies import REVOKE, Revoke
from tests.unit.coordinator.fixtures.single_coordinator import (
    CHAIN_ID,
    OPERATOR,
    FixtureBoard,
    SingleCoordinator,
    board,
    told,
)

REPORT = HEALTH_REPORT.pack(HealthReport(1, (HealthRow("disk.room", 0, "9", ""),)))


@pytest.fixture
def boards() -> list[FixtureBoard]:
    return [board(number) for number in range(2)]


@pytest.fixture
def world(boards: list[FixtureBoard]) -> SingleCoordinator:
    made = SingleCoordinator()
    made.open(boards)
    return made


def ask(
    world: SingleCoordinator,
    device: DeviceId,
    name: str = "1.tx",
    key: SigningKey = OPERATOR,
) -> tuple[Effect, ...]:
    body = HEALTH_REQUEST.pack(HealthRequest(device))
    envelope = sign(key, CHAIN_ID, MessageKind.HEALTH_REQUEST, 99, body)
    return world.send(TransactionArrived(name, ENVELOPE.pack(envelope)))


def answer(
    world: SingleCoordinator,
    board: FixtureBoard,
    counter: int = 1,
    body: bytes = REPORT,
) -> list[RemoveInboxFile]:
    """What is left in the inbox once a board has answered."""
    said = sign(board.key, CHAIN_ID, MessageKind.HEALTH_REPORT, counter, body)
    effects = world.send(BoardMessageArrived(board.device, ENVELOPE.pack(said)))
    return [each for each in effects if isinstance(each, RemoveInboxFile)]


def test_board_is_asked_by_us_and_its_answer_takes_the_file_s_place(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    effects = ask(world, boards[0].device)

    (said,) = told(effects, boards[0].device)
    said.check(CHAIN_ID)
    assert said.kind == MessageKind.HEALTH_REQUEST
    assert HEALTH_REQUEST.unpack(said.body).device == boards[0].device
    assert RemoveInboxFile("1.tx") in effects
    assert answer(world, boards[1]) == []
    assert answer(world, boards[0]) == [RemoveInboxFile("1.tx", answer=REPORT)]
    assert answer(world, boards[0], 2) == []


def test_answer_that_is_malformed_replayed_or_another_s_is_none(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    ask(world, boards[0].device)
    forger = FixtureBoard(boards[1].key)

    assert answer(world, boards[0], body=REPORT + b"\0") == []
    said = sign(forger.key, CHAIN_ID, MessageKind.HEALTH_REPORT, 5, REPORT)
    effects = world.send(BoardMessageArrived(boards[0].device, ENVELOPE.pack(said)))
    assert not any(isinstance(each, RemoveInboxFile) for each in effects)

    assert answer(world, boards[0], 7)
    ask(world, boards[0].device)
    assert answer(world, boards[0], 7) == []


def test_commands_that_wait_are_bounded(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    for number in range(WAITING_MAX + 2):
        ask(world, boards[0].device, f"{number}.tx")

    names = [each.name for each in answer(world, boards[0])]

    assert names == [f"{number}.tx" for number in range(2, WAITING_MAX + 2)]


@pytest.mark.parametrize(
    ("who", "reason"),
    [("stranger", Reason.NOT_AUTHORISED), ("operator", Reason.NOT_ENROLLED)],
)
def test_request_of_a_stranger_or_about_one_is_refused(
    world: SingleCoordinator, boards: list[FixtureBoard], who: str, reason: Reason
) -> None:
    key = OPERATOR if who == "operator" else SigningKey(b"f" * 32)
    device = DeviceId(bytes(16)) if who == "operator" else boards[0].device

    effects = ask(world, device, key=key)

    (settled,) = [each for each in effects if isinstance(each, RemoveInboxFile)]
    assert (settled.name, settled.reason) == ("1.tx", reason)
    assert told(effects, boards[0].device) == []


def test_revoked_board_is_not_asked(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    world.operate(MessageKind.REVOKE, REVOKE.pack(Revoke(boards[0].device)))

    effects = ask(world, boards[0].device)

    assert told(effects, boards[0].device) == []
