"""What a board is refused, by whom, and that its owner is told in one word."""

import pytest

from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.refusal import SILENCE_MAX, STRANGERS_MAX
from starling.agent.step.state import ReadinessCondition
from starling.agent.sync.refusal_record import AGAIN_S
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import Reason
from starling.protocol.ids import Digest, H, device_from_name, device_id
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import (
    COORDINATOR_STATE,
    CoordinatorOnlineState,
    about_board,
)
from tests.unit.agent.agent_harness import (
    BoardHarness,
    connected,
    fresh,
    is_condition,
)
from tests.unit.agent.fake_coordinator import (
    CHAIN,
    COORDINATOR,
    coordinator_state,
    refused,
)

OTHER = SigningKey(b"o" * 32)


def asking(board: BoardHarness) -> Digest:
    """The check-in that a board waits with, and to which nobody answered."""
    board.run(lambda: board.state.asking is not None)
    board.inbox.clear()
    assert board.state.asking is not None
    return board.state.asking.envelope


def warnings(board: BoardHarness) -> list[str]:
    return [one.text for one in board.log if isinstance(one, f.Note) and one.warns]


def shown(number: int, online: int) -> e.CoordinatorStateArrived:
    """What a coordinator of another chain says of itself."""
    body = COORDINATOR_STATE.pack(CoordinatorOnlineState(online, 1))
    key = SigningKey(number.to_bytes(32))
    kind = MessageKind.COORDINATOR_STATE
    return e.CoordinatorStateArrived(ENVELOPE.pack(sign(key, CHAIN, kind, 1, body)))


def test_board_that_was_revoked_is_told_without_having_asked() -> None:
    board = connected(fresh())
    device = device_from_name(board.settings.device)

    board.step(e.DownArrived(refused(about_board(device), Reason.NOT_ENROLLED, 0)))
    assert is_condition(board, ReadinessCondition.REVOKED)
    # The broker refuses it from now on, and that is why.
    board.step(e.BrokerAnswered(0x87))
    assert is_condition(board, ReadinessCondition.REVOKED)


def test_refusal_of_another_board_is_none_of_ours() -> None:
    board = connected(fresh())
    other = about_board(device_id(OTHER.public))

    board.step(e.DownArrived(refused(other, Reason.NOT_ENROLLED, 0)))

    assert board.state.answers.refusal is None


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [
        (Reason.NOT_ENROLLED, ReadinessCondition.REVOKED),
        (Reason.REPLAYED, ReadinessCondition.RESTORED),
        (Reason.JAILED, ReadinessCondition.JAILED),
        (Reason.PAUSED, ReadinessCondition.TASK_PAUSED),
        (Reason.CLOSED, ReadinessCondition.TASK_CLOSED),
    ],
)
def test_refusal_of_the_board_itself_is_its_condition_until_it_is_answered_well(
    reason: Reason, wanted: ReadinessCondition
) -> None:
    board = connected(fresh())
    subject = asking(board)

    board.step(e.DownArrived(refused(subject, reason, 10)))

    assert is_condition(board, wanted)
    found = board.state.answers.refusal
    assert found is not None
    assert (found.reason, found.detail, found.by) == (reason, "no", COORDINATOR.public)
    assert found.about == "check-in"
    assert len(warnings(board)) == 1
    # It asks again all the same: who refused may have lied, or the chain may change.
    board.run(lambda: bool(board.meadow.updates))
    assert board.state.answers.refusal is None


def test_refusal_while_fetching_is_told_as_well() -> None:
    board = connected(fresh())
    board.inbox.clear()
    assert board.state.fetch is not None
    subject = board.state.fetch.envelope
    assert subject is not None

    board.step(e.DownArrived(refused(subject, Reason.NOT_ENROLLED, 10)))

    assert is_condition(board, ReadinessCondition.REVOKED)
    found = board.state.answers.refusal
    assert found is not None
    assert found.about == "request for chunks"


def test_refusal_of_what_this_board_never_said_changes_nothing() -> None:
    board = connected(fresh())
    asking(board)

    board.step(e.DownArrived(refused(H(b"another"), Reason.NOT_ENROLLED)))

    assert board.state.answers.refusal is None
    assert is_condition(board, ReadinessCondition.ASKING)


def test_refusal_of_one_message_is_kept_and_is_no_condition() -> None:
    board = connected(fresh())
    subject = asking(board)

    board.step(e.DownArrived(refused(subject, Reason.BUSY, 5)))

    assert is_condition(board, ReadinessCondition.ASKING)
    found = board.state.answers.refusal
    assert found is not None
    assert found.reason == Reason.BUSY
    assert warnings(board) == []


def test_same_refusal_is_said_again_after_an_hour_and_shows_since_when() -> None:
    board = connected(fresh())
    began_s = board.now_s
    for passed_s in (0.0, 60.0, AGAIN_S - 61.0, 62.0):
        board.now_s += passed_s
        board.step(e.WakeTimeReached())
        board.inbox.clear()
        assert board.state.fetch is not None
        subject = board.state.fetch.envelope
        assert subject is not None
        board.step(e.DownArrived(refused(subject, Reason.NOT_ENROLLED, 10)))

    assert len(warnings(board)) == 2
    found = board.state.answers.refusal
    assert found is not None
    assert found.at_s == began_s


def test_coordinators_that_the_board_does_not_trust_are_its_condition_if_alone() -> (
    None
):
    board = connected(fresh())
    asking(board)

    board.step(shown(7, online=1))
    assert is_condition(board, ReadinessCondition.UNTRUSTED)
    board.step(e.CoordinatorStateArrived(coordinator_state(1)))
    assert not is_condition(board, ReadinessCondition.UNTRUSTED)
    board.step(e.CoordinatorStateArrived(coordinator_state(0)))
    board.step(shown(7, online=0))
    assert not is_condition(board, ReadinessCondition.UNTRUSTED)


def test_strangers_without_end_are_bounded() -> None:
    board = connected(fresh())

    for number in range(1, 100):
        board.step(shown(number, online=1))

    assert len(board.state.answers.strangers) == STRANGERS_MAX
    assert len(warnings(board)) == STRANGERS_MAX


def test_broker_that_refuses_is_the_condition_until_it_takes_something() -> None:
    board = connected(fresh())
    asking(board)

    board.step(e.BrokerAnswered(0x87))
    assert is_condition(board, ReadinessCondition.BROKER_REFUSES)
    assert warnings(board) == ["the broker refuses what this board publishes: 0x87"]
    board.step(e.BrokerAnswered(0))
    assert is_condition(board, ReadinessCondition.ASKING)


def test_coordinators_that_are_there_and_silent_are_named_as_such() -> None:
    board = connected(fresh())
    board.step(e.CoordinatorStateArrived(coordinator_state(1)))

    for _ in range(SILENCE_MAX + 2):
        board.inbox.clear()
        board.now_s = max(board.now_s, board.state.wake_at_s)
        board.step(e.WakeTimeReached())

    assert is_condition(board, ReadinessCondition.UNANSWERED)
    board.step(e.CoordinatorStateArrived(coordinator_state(0)))
    assert is_condition(board, ReadinessCondition.FETCHING)
    board.step(e.CoordinatorStateArrived(coordinator_state(1)))
    board.run(lambda: bool(board.meadow.updates))
    assert board.state.answers.unanswered == 0
