"""A board's checks for a coordinator: if the owner lets it, and once a minute."""

from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.sync.health_answer import ANSWER_EVERY_S
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import DeviceId
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from starling.protocol.wire.health_messages import (
    HEALTH_REPORT,
    HEALTH_REQUEST,
    HealthReport,
    HealthRequest,
    HealthRow,
)
from tests.unit.agent.agent_harness import BoardHarness, connected, fresh
from tests.unit.agent.fake_coordinator import BOARD, CHAIN, COORDINATOR, said_by

ROW = HealthRow("disk.room", 0, "enough", "")


def ask(
    board: BoardHarness,
    device: DeviceId = BOARD.identity,
    key: SigningKey = COORDINATOR,
) -> None:
    body = HEALTH_REQUEST.pack(HealthRequest(device))
    board.step(e.DownArrived(said_by(MessageKind.HEALTH_REQUEST, body, key)))


def runs(board: BoardHarness) -> int:
    return sum(isinstance(each, f.RunChecks) for each in board.log)


def reports(board: BoardHarness) -> list[HealthReport]:
    """What the board answered, each signed by its key."""
    said = [each for each in board.log if isinstance(each, f.PublishBestEffort)]
    envelopes = [ENVELOPE.unpack(each.payload) for each in said if not each.retain]
    found = [each for each in envelopes if each.kind == MessageKind.HEALTH_REPORT]
    for each in found:
        each.check(CHAIN)
        assert each.sender == BOARD.public
    return [HEALTH_REPORT.unpack(each.body) for each in found]


def test_checks_are_run_and_said() -> None:
    board = connected(fresh(tells_health=True))

    ask(board)
    assert runs(board) == 1
    assert reports(board) == []
    board.step(e.ChecksFinished((ROW,)))

    assert reports(board) == [HealthReport(1, (ROW,))]


def test_owner_who_does_not_allow_it_is_said_and_nothing_is_run() -> None:
    board = connected(fresh())

    ask(board)

    assert runs(board) == 0
    assert reports(board) == [HealthReport(0, ())]


def test_request_of_a_stranger_or_for_another_board_changes_nothing() -> None:
    board = connected(fresh(tells_health=True))

    ask(board, key=SigningKey(b"f" * 32))
    ask(board, device=DeviceId(bytes(16)))

    assert runs(board) == 0
    assert not board.state.asked_health


def test_what_is_asked_too_soon_waits_and_is_answered_once() -> None:
    board = connected(fresh(tells_health=True))
    ask(board)
    for _ in range(5):
        ask(board)
    assert runs(board) == 1
    assert board.state.wake_at_s <= board.now_s + ANSWER_EVERY_S

    board.now_s += ANSWER_EVERY_S / 2
    board.step(e.WakeTimeReached())
    assert runs(board) == 1
    board.now_s += ANSWER_EVERY_S / 2
    board.step(e.WakeTimeReached())

    assert runs(board) == 2
    assert not board.state.asked_health


def test_request_is_no_answer_to_what_the_board_said() -> None:
    board = connected(fresh(tells_health=True))
    before = board.state.answers.unanswered

    ask(board)
    board.step(e.ChecksFinished((ROW,)))

    assert board.state.answers.unanswered == before


def test_board_that_lost_its_connection_answers_after_it() -> None:
    board = connected(fresh(tells_health=True))
    board.step(e.BrokerDisconnected())
    ask(board)
    assert runs(board) == 0

    board.step(e.BrokerConnected())

    assert runs(board) == 1
