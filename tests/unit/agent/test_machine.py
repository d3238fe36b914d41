"""The agent's core: check-ins, charges, waits, and what it shows."""

from dataclasses import replace

import pytest

from starling.agent.machine import step
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.state import ReadinessCondition, WaitTimes
from starling.protocol.errors import Reason
from starling.protocol.ids import H
from starling.protocol.wire.chunks import CHUNK, split
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from starling.protocol.wire.message_bodies import CHECK_IN, DEVICE_STATE, DevicePhase
from tests.unit.agent.agent_harness import (
    BoardHarness,
    connected,
    fresh,
    is_condition,
    names,
    state_of,
    until_training,
)
from tests.unit.agent.fake_coordinator import (
    COORDINATOR,
    STRANGER,
    TOPICS,
    accepted,
    coordinator_state,
    lease,
    manifest,
    refused,
    said_by,
    task_spec,
)


def test_board_from_first_manifest_to_third_version_makes_each_update_once() -> None:
    board = connected(fresh())

    board.run(lambda: board.meadow.head == 3)

    assert board.meadow.updates.keys() == {0, 1, 2}
    assert all(len(found) == 1 for found in board.meadow.updates.values())
    assert board.noised == [0, 1, 2]
    assert board.disk.charged() == {0, 1, 2}


def test_charge_stands_between_ready_and_data() -> None:
    board = until_training(connected(fresh()))

    effects = board.step(e.TrainerReady())

    assert names(effects)[:2] == ["Spend", "ResumeTraining"]


@pytest.mark.parametrize(
    "event",
    [
        e.TrainerReady(),
        e.TrainingFinished(b"", bytes(32)),
        e.TrainingFailed(e.FailureStage.TRAINING, "x"),
        e.BundleLoaded(H(b"other")),
        e.LoadFailed(H(b"other"), e.FailureStage.MODEL, "x"),
        e.ChunkDelivered(H(b"other"), 0, taken=True),
        e.DownArrived(lease(0)),
        e.DownArrived(accepted(H(b"other"))),
        e.DownArrived(refused(H(b"other"), Reason.STALE)),
        e.DownArrived(b"\xc1"),
        e.DownArrived(said_by(MessageKind.ATTEST, b"")),
        e.DownArrived(said_by(MessageKind.LEASE, b"")),
        e.ManifestArrived(b"\xc1"),
        e.ManifestArrived(manifest(1, key=STRANGER)),
        e.ModelChunkArrived(b"\xc1"),
        e.ModelChunkArrived(CHUNK.pack(split(b"unasked")[0])),
        e.CoordinatorStateArrived(b"\xc1"),
        e.WakeTimeReached(),
    ],
    ids=lambda event: type(event).__name__,
)
@pytest.mark.parametrize("connect", [False, True], ids=["away", "connected"])
def test_event_that_does_not_fit_changes_nothing(event: e.Event, connect: bool) -> None:
    board = fresh()
    if connect:
        board.step(e.BrokerConnected())
    before = state_of(board)

    effects = board.step(event)

    assert state_of(board) == before
    assert set(names(effects)) <= {"Note"}


@pytest.mark.parametrize(
    "payload",
    [lease(0, STRANGER), lease(1), accepted(H(b"u"), STRANGER)],
    ids=["stranger's lease", "lease for another version", "stranger's receipt"],
)
def test_asking_board_ignores_what_is_not_its_lease(payload: bytes) -> None:
    board = connected(fresh())
    board.run(lambda: board.state.asking is not None)

    board.step(e.DownArrived(payload))

    assert board.state.training is None
    assert board.state.asking is not None


@pytest.mark.parametrize(
    ("pledge", "shown"), [(0, 16), (16, 16), (31, 16), (40, 32), (10**6, 64)]
)
def test_check_in_shows_the_owners_pledge_and_nothing_of_the_data(
    pledge: int, shown: int
) -> None:
    board = connected(fresh(pledge=pledge))
    board.run(lambda: board.state.asking is not None)

    said = [
        ENVELOPE.unpack(effect.payload)
        for effect in board.log
        if isinstance(effect, f.PublishBestEffort)
        and effect.topic == TOPICS.say(board.settings.device)
    ]
    body = CHECK_IN.unpack(said[-1].body)

    assert (body.pledge, body.timeliness_ppm, body.budget_ppm) == (shown, 10**6, 10**6)


def test_unanswered_check_in_is_repeated() -> None:
    board = connected(fresh())
    board.run(lambda: board.state.asking is not None)
    board.inbox.clear()
    first = board.state.asking

    assert first is not None
    board.now_s = first.again_at_s
    board.step(e.WakeTimeReached())

    assert board.state.asking is not None
    assert board.state.asking.envelope != first.envelope


def test_board_with_a_wait_between_updates_trains_that_seldom() -> None:
    board = connected(fresh(pace=WaitTimes(between_s=100.0)))

    board.run(lambda: board.meadow.head == 3)

    # Two waits, each at least half as long as asked for.
    assert board.now_s > 100.0
    assert board.meadow.updates.keys() == {0, 1, 2}


def test_planned_updates_are_spread_over_the_owner_s_period() -> None:
    planned = task_spec().privacy.releases
    period_s = 1000.0 * planned
    board = connected(fresh(pace=WaitTimes(period_s=period_s)))

    board.run(lambda: bool(board.meadow.updates.get(0)))
    assert board.now_s < 100.0
    board.run(lambda: is_condition(board, ReadinessCondition.PACED))
    board.run(lambda: board.meadow.head == 3)

    # Two waits of a thousand seconds, each jittered by a half at most.
    assert 1000.0 < board.now_s < 3500.0


@pytest.mark.parametrize("period_s", [0.0, 1e6], ids=["took part", "paced"])
def test_board_that_rests_without_its_broker_says_that_it_is_away(
    period_s: float,
) -> None:
    board = connected(fresh(pace=WaitTimes(period_s=period_s)))
    calm = ReadinessCondition.PACED if period_s else ReadinessCondition.TOOK_PART
    board.run(lambda: is_condition(board, calm))

    board.step(e.BrokerDisconnected())

    assert is_condition(board, ReadinessCondition.OFFLINE)
    board.step(e.BrokerConnected())
    assert not is_condition(board, ReadinessCondition.OFFLINE)


@pytest.mark.parametrize(
    ("since_s", "condition"),
    [
        (float("inf"), ReadinessCondition.ASKING),
        (1001.0, ReadinessCondition.ASKING),
        (10.0, ReadinessCondition.PACED),
    ],
    ids=["never", "long ago", "just now"],
)
def test_restart_does_not_shorten_the_wait_between_updates(
    since_s: float, condition: ReadinessCondition
) -> None:
    planned = task_spec().privacy.releases
    board = connected(fresh(pace=WaitTimes(period_s=1000.0 * planned)))
    board.state = replace(board.state, released_at_s=board.now_s - since_s)

    board.run(lambda: board.state.loaded is not None)
    board.step(e.WakeTimeReached())

    assert is_condition(board, condition)
    board.run(lambda: bool(board.meadow.updates))
    assert board.now_s >= min(1000.0 - since_s, 1000.0)


@pytest.mark.parametrize(
    ("event", "changes", "wanted"),
    [
        (e.SpaceMeasured(1 << 20), {}, ReadinessCondition.DISK_FULL),
        (e.WakeTimeReached(), {"spool_bytes_max": 100}, ReadinessCondition.SPOOL_FULL),
        (e.BrokerDisconnected(), {}, ReadinessCondition.OFFLINE),
        (e.WakeTimeReached(), {"pledge": 3}, ReadinessCondition.PLEDGE_TOO_SMALL),
    ],
    ids=["disk full", "spool full", "broker away", "pledge below the least"],
)
def test_obstacle_keeps_the_board_from_checking_in(
    event: e.Event, changes: dict[str, object], wanted: ReadinessCondition
) -> None:
    board = connected(fresh(**changes))
    board.run(lambda: board.state.loaded is not None)
    board.state = replace(board.state, asking=None)
    board.inbox.clear()

    board.step(event)

    assert is_condition(board, wanted)
    assert board.state.asking is None


def test_coordinator_that_returns_is_asked_again_soon() -> None:
    board = connected(fresh())
    board.run(lambda: board.state.asking is not None)
    board.inbox.clear()
    board.step(e.CoordinatorStateArrived(coordinator_state(0)))
    board.now_s += 2.0
    board.step(e.WakeTimeReached())
    before = board.state.asking

    board.step(e.CoordinatorStateArrived(coordinator_state(1)))

    assert before is not None
    assert board.state.asking is not None
    assert board.state.asking.again_at_s <= board.now_s + 1.5 < before.again_at_s


def test_coordinator_that_leaves_may_have_had_the_check_in_and_others_are_asked() -> (
    None
):
    board = connected(fresh())
    board.run(lambda: board.state.asking is not None)
    board.inbox.clear()
    before = board.state.asking

    board.step(e.CoordinatorStateArrived(coordinator_state(0)))

    assert before is not None
    assert board.state.asking is not None
    assert board.state.asking.again_at_s <= board.now_s + 1.5 < before.again_at_s


def test_counters_of_a_later_start_are_above_all_earlier_ones() -> None:
    board = connected(fresh())
    board.run(lambda: board.meadow.head == 1)
    highest = max(_counters(board))

    again = connected(BoardHarness(board.disk, board.meadow))
    again.run(lambda: again.meadow.head == 2)

    assert min(_counters(again)) > highest


def _counters(board: BoardHarness) -> list[int]:
    return [
        ENVELOPE.unpack(effect.payload).counter
        for effect in board.log
        if isinstance(effect, f.PublishBestEffort)
    ]


def test_retained_state_follows_the_phases() -> None:
    board = connected(fresh(pace=WaitTimes(show_s=0.0)))
    board.run(lambda: board.meadow.head == 1)

    shown = [
        DevicePhase(DEVICE_STATE.unpack(ENVELOPE.unpack(effect.payload).body).phase)
        for effect in board.log
        if isinstance(effect, f.PublishBestEffort) and effect.retain
    ]

    assert shown[0] is DevicePhase.INIT
    assert {DevicePhase.READY, DevicePhase.TRAINING} <= set(shown)


def test_step_with_equal_arguments_gives_equal_results() -> None:
    board = until_training(connected(fresh()))
    arguments = (board.settings, board.state, e.TrainerReady(), board.now_s)

    assert step(*arguments) == step(*arguments)


def test_key_never_shows_in_the_settings() -> None:
    board = fresh()

    assert "seed=b'\\x07" not in repr(board.settings)
    assert COORDINATOR.seed.hex() not in repr(board.state)


def test_second_ready_neither_pays_nor_stops_anything() -> None:
    board = until_training(connected(fresh()))
    board.step(e.TrainerReady())

    effects = board.step(e.TrainerReady())

    assert effects == ()
    assert board.state.training is not None


def test_state_is_shown_at_most_once_in_a_while() -> None:
    board = connected(fresh())
    board.run(lambda: board.meadow.head == 3)

    shown = [x for x in board.log if isinstance(x, f.PublishBestEffort) and x.retain]

    assert board.now_s == 0.0
    assert len(shown) == 1
