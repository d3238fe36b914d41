"""The agent's core: a whole life, and everything that must not change it."""

from dataclasses import replace

import pytest

from agent import effects as f
from agent import events as e
from agent.machine import step
from agent.obstacles import condition, phase
from agent.state import Condition, Pace
from protocol.accounting import Budget
from protocol.chunks import CHUNK, Chunk, split
from protocol.envelope import ENVELOPE, Kind
from protocol.errors import Reason
from protocol.ids import H
from protocol.messages import CHECK_IN, DEVICE_STATE, UPLOAD, DevicePhase
from tests.unit.agent.meadow import (
    BUNDLE,
    COORDINATOR,
    OPEN,
    STRANGER,
    TOPICS,
    Board,
    Disk,
    Meadow,
    PowerCut,
    accepted,
    connected,
    coordinator_state,
    final,
    lease,
    manifest,
    refused,
    said_by,
    state_of,
    task_spec,
    theta,
)


def fresh(**changes: object) -> Board:
    return Board(Disk(), Meadow(), **changes)  # type: ignore[arg-type] # tests name real fields


def is_condition(board: Board, wanted: Condition) -> bool:
    return condition(board.settings, board.state, board.now_s) is wanted


def until_training(board: Board) -> Board:
    """A board that has its lease, and whose trainer has not yet answered."""
    board.run(lambda: board.state.training is not None)
    board.inbox.clear()
    return board


def until_spooled(board: Board) -> Board:
    """A board whose update is spooled, and to which nobody has answered."""
    board.meadow.lose_uploads = 1 << 30
    board.run(lambda: bool(board.state.waiting))
    board.inbox.clear()
    return board


def names(effects: tuple[f.Effect, ...]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def test_board_from_first_manifest_to_third_version_makes_each_update_once() -> None:
    board = connected(fresh())

    board.run(lambda: board.meadow.head == 3)

    assert board.meadow.updates.keys() == {0, 1, 2}
    assert all(len(found) == 1 for found in board.meadow.updates.values())
    assert board.noised == [0, 1, 2]
    assert board.disk.charged() == {0, 1, 2}


def test_final_update_leaves_the_spool() -> None:
    board = connected(Board(Disk(), Meadow(last=0)))

    board.run(lambda: is_condition(board, Condition.TOOK_PART) and not board.inbox)

    assert board.disk.spool == {}
    assert f.DeleteSpooled in map(type, board.log)


def test_charge_stands_between_ready_and_noise() -> None:
    board = until_training(connected(fresh()))

    effects = board.step(e.ReadyForNoise())

    assert names(effects)[:2] == ["Spend", "ResumeTraining"]


def test_upload_is_spooled_before_its_first_chunk_leaves() -> None:
    board = until_training(connected(fresh()))
    board.step(e.ReadyForNoise())

    effects = board.step(board.draw_noise())

    order = names(effects)
    assert order.index("SpoolUpload") < order.index("PublishSpooled")


def test_manifest_is_persisted_before_anything_is_asked_for() -> None:
    board = fresh()
    board.step(e.Connected())

    effects = board.step(e.ManifestArrived(manifest(0)))

    assert names(effects)[0] == "PersistProgress"


def test_restart_from_disk_does_not_fetch_again() -> None:
    board = connected(fresh())
    board.run(lambda: board.meadow.head == 1)

    again = Board(board.disk, board.meadow)
    connected(again)
    again.run(lambda: again.meadow.head == 2)

    asked = [effect for effect in again.log if isinstance(effect, f.StoreBlob)]
    assert H(BUNDLE) not in [effect.digest for effect in asked]


@pytest.mark.parametrize(
    "event",
    [
        e.ReadyForNoise(),
        e.TrainingFinished(b"", bytes(64)),
        e.TrainingFailed(e.Stage.TRAINING, "x"),
        e.BundleLoaded(H(b"other"), 5),
        e.LoadFailed(H(b"other"), e.Stage.MODEL, "x"),
        e.ChunkDelivered(H(b"other"), 0, taken=True),
        e.DownArrived(lease(0)),
        e.DownArrived(accepted(H(b"other"))),
        e.DownArrived(refused(H(b"other"), Reason.STALE)),
        e.DownArrived(b"\xc1"),
        e.DownArrived(said_by(Kind.ATTEST, b"")),
        e.DownArrived(said_by(Kind.LEASE, b"")),
        e.ManifestArrived(b"\xc1"),
        e.ManifestArrived(manifest(1, key=STRANGER)),
        e.ModelChunkArrived(b"\xc1"),
        e.ModelChunkArrived(CHUNK.pack(split(b"unasked")[0])),
        e.CoordinatorStateArrived(b"\xc1"),
        e.Ticked(),
    ],
    ids=lambda event: type(event).__name__,
)
@pytest.mark.parametrize("connect", [False, True], ids=["away", "connected"])
def test_event_that_does_not_fit_changes_nothing(event: e.Event, connect: bool) -> None:
    board = fresh()
    if connect:
        board.step(e.Connected())
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


def test_check_in_shows_nothing_but_the_pledge_of_the_data() -> None:
    board = connected(fresh())
    board.run(lambda: board.state.asking is not None)

    said = [
        ENVELOPE.unpack(effect.payload)
        for effect in board.log
        if isinstance(effect, f.Publish)
        and effect.topic == TOPICS.say(board.settings.device)
    ]
    body = CHECK_IN.unpack(said[-1].body)

    assert (body.pledge, body.timeliness_ppm, body.budget_ppm) == (32, 10**6, 10**6)


def test_unanswered_check_in_is_repeated() -> None:
    board = connected(fresh())
    board.run(lambda: board.state.asking is not None)
    board.inbox.clear()
    first = board.state.asking

    assert first is not None
    board.now_s = first.again_at_s
    board.step(e.Ticked())

    assert board.state.asking is not None
    assert board.state.asking.envelope != first.envelope


def test_wrong_bytes_under_the_right_digest_are_thrown_away() -> None:
    board = fresh()
    board.step(e.Connected())
    board.step(e.ManifestArrived(manifest(0)))
    board.inbox.clear()
    size, digest = len(BUNDLE), H(BUNDLE)
    good = split(BUNDLE)
    forged = Chunk(digest, size, 0, bytes(len(good[0].data)))

    board.step(e.ModelChunkArrived(CHUNK.pack(forged)))
    board.step(e.ModelChunkArrived(CHUNK.pack(good[1])))

    assert digest not in board.state.blobs
    board.run(lambda: digest in board.state.blobs)


def test_theta_with_a_nan_is_refused_and_the_board_waits() -> None:
    spec = task_spec()
    bad = theta(0)[:-4] + b"\x00\x00\xc0\x7f"
    digests = replace(spec.initial, training=H(bad))
    board = connected(fresh())
    offer = board.state.offer
    assert offer is not None
    board.run(lambda: H(BUNDLE) in board.state.blobs)
    board.inbox.clear()
    board.state = replace(board.state, offer=replace(offer, model=digests), fetch=None)
    board.step(e.Ticked())

    board.step(e.ModelChunkArrived(CHUNK.pack(split(bad)[0])))

    assert H(bad) in board.state.refused
    assert is_condition(board, Condition.MODEL_REFUSED)


def test_bundle_that_fails_to_load_leaves_the_older_model_in_use() -> None:
    board = connected(Board(Disk(), Meadow(last=0)))
    board.run(lambda: is_condition(board, Condition.TOOK_PART) and not board.inbox)
    adopted = board.state.adopted
    board.step(e.DataChanged())
    board.inbox.clear()

    board.step(e.LoadFailed(H(BUNDLE), e.Stage.MODEL, "no such operator"))

    assert adopted is not None
    assert board.state.adopted == adopted
    assert H(BUNDLE) in board.state.refused


def test_version_that_fails_in_training_is_rolled_back_for_inference() -> None:
    board = connected(fresh())
    board.run(lambda: board.meadow.head == 1 and board.state.training is not None)
    board.inbox.clear()
    assert board.state.adopted is not None
    assert board.state.adopted.version == 1

    board.step(e.TrainingFailed(e.Stage.MODEL, "crash"))

    assert board.state.adopted.version == 0
    assert is_condition(board, Condition.MODEL_REFUSED)


def test_failed_training_rests_longer_each_time_and_costs_nothing() -> None:
    board = until_training(connected(fresh()))
    waits = []
    for _ in range(3):
        board.step(e.TrainingFailed(e.Stage.TRAINING, "killed"))
        waits.append(board.state.rest_until_s - board.now_s)
        until_training(board)

    assert waits[0] < 15.0 < waits[2]
    assert board.disk.journal == []


def test_crash_of_the_trainer_after_the_charge_burns_the_version() -> None:
    board = until_training(connected(fresh()))
    board.step(e.ReadyForNoise())
    board.inbox.clear()

    board.step(e.TrainingFailed(e.Stage.TRAINING, "killed"))

    assert is_condition(board, Condition.TOOK_PART)
    assert board.state.waiting == ()


def test_spent_budget_ends_training_but_not_inference() -> None:
    board = connected(Board(Disk(), Meadow(), cap=Budget(1.0, 1e-5)))

    board.run(lambda: is_condition(board, Condition.BUDGET_SPENT))
    head = board.meadow.head
    board.inbox.clear()
    board.meadow.head = head + 5
    board.step(e.ManifestArrived(manifest(head + 5)))
    board.run(lambda: board.state.adopted is not None and not board.inbox)

    assert phase(board.settings, board.state, board.now_s) is DevicePhase.SLEEPING
    assert board.state.adopted is not None
    assert board.state.adopted.version == head + 5


def test_task_without_noise_is_refused_under_a_cap() -> None:
    board = connected(Board(Disk(), Meadow(task_spec(OPEN))))

    assert is_condition(board, Condition.POLICY_REFUSED)


def test_task_without_noise_runs_where_the_owner_lifts_the_cap() -> None:
    board = connected(Board(Disk(), Meadow(task_spec(OPEN)), cap=None))

    board.run(lambda: board.meadow.head == 2)

    assert board.disk.charged() >= {0, 1}


@pytest.mark.parametrize(
    ("event", "changes", "wanted"),
    [
        (e.SpaceMeasured(1 << 20), {}, Condition.DISK_FULL),
        (e.Ticked(), {"spool_bytes_max": 100}, Condition.SPOOL_FULL),
        (e.Disconnected(), {}, Condition.OFFLINE),
        (e.Ticked(), {"pledge": 3}, Condition.TOO_FEW_DATA),
    ],
    ids=["disk full", "spool full", "broker away", "pledge below the least"],
)
def test_obstacle_keeps_the_board_from_checking_in(
    event: e.Event, changes: dict[str, object], wanted: Condition
) -> None:
    board = connected(fresh(**changes))
    board.run(lambda: board.state.loaded is not None)
    board.state = replace(board.state, asking=None)
    board.inbox.clear()

    board.step(event)

    assert is_condition(board, wanted)
    assert board.state.asking is None


def test_receipt_stops_the_sending_and_keeps_the_bytes() -> None:
    board = until_spooled(connected(fresh()))
    update = board.state.waiting[0].entry.update

    board.step(e.DownArrived(accepted(update)))

    assert board.state.sending is None
    assert board.state.waiting[0].accepted
    assert len(board.disk.spool) == 1


def test_missing_receipt_makes_the_board_send_the_same_bytes_again() -> None:
    board = connected(fresh())
    board.meadow.lose_uploads = 2

    board.run(lambda: board.meadow.head == 1)

    assert len(board.meadow.updates[0]) == 1


@pytest.mark.parametrize("reason", [Reason.NO_LEASE, Reason.NORM_EXCEEDED])
def test_refusal_by_all_stops_the_sending_and_deletes_nothing(reason: Reason) -> None:
    board = until_spooled(connected(fresh()))
    update = board.state.waiting[0].entry.update

    board.step(e.DownArrived(refused(update, reason)))

    assert board.state.sending is None
    assert board.state.waiting[0].refusal == reason
    assert len(board.disk.spool) == 1


def test_refusal_with_a_delay_sends_again_after_it() -> None:
    board = until_spooled(connected(fresh()))
    update = board.state.waiting[0].entry.update

    board.step(e.DownArrived(refused(update, Reason.BUSY, 30)))

    assert board.state.sending is not None
    assert board.state.sending.again_at_s == board.now_s + 30


@pytest.mark.parametrize(
    ("version", "kept"), [(2, True), (3, False)], ids=["still counts", "stale"]
)
def test_certified_version_deletes_an_update_only_when_it_is_stale(
    version: int, kept: bool
) -> None:
    board = until_spooled(connected(fresh()))
    board.meadow.head = version

    board.step(e.ManifestArrived(manifest(version)))

    assert bool(board.disk.spool) == kept


def test_forged_proof_of_finality_deletes_nothing() -> None:
    board = until_spooled(connected(fresh()))
    upload = UPLOAD.unpack(board.disk.spool[0][1])

    board.step(e.DownArrived(final(upload.update, STRANGER)))

    assert len(board.disk.spool) == 1


def test_training_from_a_version_that_became_stale_is_stopped_unpaid() -> None:
    board = until_training(connected(fresh()))
    board.meadow.head = 3

    effects = board.step(e.ManifestArrived(manifest(3)))

    assert "StopTraining" in names(effects)
    assert board.disk.journal == []


def test_training_goes_on_while_its_base_version_still_counts() -> None:
    board = until_training(connected(fresh()))
    board.meadow.head = 2

    board.step(e.ManifestArrived(manifest(2)))
    board.step(e.ReadyForNoise())

    assert board.disk.charged() == {0}


def test_coordinator_that_returns_is_asked_again_soon() -> None:
    board = connected(fresh())
    board.run(lambda: board.state.asking is not None)
    board.inbox.clear()
    board.step(e.CoordinatorStateArrived(coordinator_state(0)))
    before = board.state.asking

    board.step(e.CoordinatorStateArrived(coordinator_state(1)))

    assert before is not None
    assert board.state.asking is not None
    assert board.state.asking.again_at_s <= board.now_s + 1.5 < before.again_at_s


def test_lost_connection_in_mid_upload_sends_the_rest_after_it() -> None:
    board = connected(fresh(upload_window=1))
    board.meadow.lose_uploads = 1 << 30
    board.run(lambda: board.state.sending is not None)
    board.inbox.clear()

    board.step(e.Disconnected())
    effects = board.step(e.Connected())

    again = [effect for effect in effects if isinstance(effect, f.PublishSpooled)]
    assert [effect.index for effect in again] == [0]


def test_counters_of_a_later_start_are_above_all_earlier_ones() -> None:
    board = connected(fresh())
    board.run(lambda: board.meadow.head == 1)
    highest = max(_counters(board))

    again = connected(Board(board.disk, board.meadow))
    again.run(lambda: again.meadow.head == 2)

    assert min(_counters(again)) > highest


def _counters(board: Board) -> list[int]:
    return [
        ENVELOPE.unpack(effect.payload).counter
        for effect in board.log
        if isinstance(effect, f.Publish)
    ]


def test_retained_state_follows_the_phases() -> None:
    board = connected(fresh(pace=Pace(show_s=0.0)))
    board.run(lambda: board.meadow.head == 1)

    shown = [
        DevicePhase(DEVICE_STATE.unpack(ENVELOPE.unpack(effect.payload).body).phase)
        for effect in board.log
        if isinstance(effect, f.Publish) and effect.retain
    ]

    assert shown[0] is DevicePhase.INIT
    assert {DevicePhase.READY, DevicePhase.TRAINING} <= set(shown)


def _life(disk: Disk, meadow: Meadow, cut: int | None) -> Board:
    """One start of a board, to its end or to the power cut."""
    board = Board(disk, meadow, lambda number: number == cut)
    connected(board)
    board.run(lambda: meadow.head >= 2)
    return board


EFFECTS = _life(Disk(), Meadow(), None).effects_done


@pytest.mark.parametrize("cut", range(EFFECTS))
def test_power_cut_before_any_effect_signs_no_second_update_and_learning_goes_on(
    cut: int,
) -> None:
    disk, meadow = Disk(), Meadow()
    with pytest.raises(PowerCut):
        _life(disk, meadow, cut)

    board = _life(disk, meadow, None)

    assert meadow.head >= 2
    assert all(len(found) == 1 for found in meadow.updates.values())
    assert set(board.noised) <= disk.charged()
    assert len(disk.journal) == len(disk.charged())


def test_step_with_equal_arguments_gives_equal_results() -> None:
    board = until_training(connected(fresh()))
    arguments = (board.settings, board.state, e.ReadyForNoise(), board.now_s)

    assert step(*arguments) == step(*arguments)


def test_key_never_shows_in_the_settings() -> None:
    board = fresh()

    assert "seed=b'\\x07" not in repr(board.settings)
    assert COORDINATOR.seed.hex() not in repr(board.state)


def test_second_ready_neither_pays_nor_stops_anything() -> None:
    board = until_training(connected(fresh()))
    board.step(e.ReadyForNoise())

    effects = board.step(e.ReadyForNoise())

    assert effects == ()
    assert board.state.training is not None


def test_old_versions_leave_the_disk() -> None:
    board = connected(fresh())

    board.run(lambda: board.meadow.head == 5)

    assert H(theta(0)) not in board.disk.blobs
    assert len(board.disk.blobs) <= 6


def test_state_is_shown_at_most_once_in_a_while() -> None:
    board = connected(fresh())
    board.run(lambda: board.meadow.head == 3)

    shown = [x for x in board.log if isinstance(x, f.Publish) and x.retain]

    assert board.now_s == 0.0
    assert len(shown) == 1
