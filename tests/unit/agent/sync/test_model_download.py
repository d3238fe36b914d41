"""How a board comes to a model, and what it refuses."""

from dataclasses import replace

from starling.agent import machine
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.state import ReadinessCondition
from starling.protocol.chain.genesis import Validator, ValidatorSet
from starling.protocol.chain.light_client import MANIFEST, ValidatorSetTransition
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import Reason
from starling.protocol.ids import H, SealingKey, TaskId
from starling.protocol.wire.chunks import CHUNK, Chunk, split
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import REFUSED, Refused
from tests.unit.agent.agent_harness import (
    BoardHarness,
    Disk,
    connected,
    fresh,
    is_condition,
    names,
)
from tests.unit.agent.fake_coordinator import (
    BUNDLE,
    FakeCoordinator,
    manifest,
    said_by,
    task_spec,
    theta,
)


def test_manifest_is_persisted_before_anything_is_asked_for() -> None:
    board = fresh()
    board.step(e.BrokerConnected())

    effects = board.step(e.ManifestArrived(manifest(0)))

    assert names(effects)[:2] == ["Spend", "PersistTrust"]


def test_board_that_missed_too_many_changes_of_validators_asks_to_be_enrolled() -> None:
    board = fresh()
    board.step(e.BrokerConnected())
    shown = MANIFEST.unpack(manifest(0))
    members = (
        Validator(SigningKey(bytes([9]) * 32).public, SealingKey(bytes(32)), "later"),
    )
    later = ValidatorSet(members)
    header = replace(shown.header, height=9, validators=later.digest())
    late = ValidatorSetTransition(header, shown.certificate, later)

    effects = board.step(
        e.ManifestArrived(MANIFEST.pack(replace(shown, handovers=(late,))))
    )

    assert "PersistTrust" not in names(effects)
    assert "enrol it anew" in board.state.fault


def test_restart_from_disk_does_not_fetch_again() -> None:
    board = connected(fresh())
    board.run(lambda: board.meadow.head == 1)

    again = BoardHarness(board.disk, board.meadow)
    connected(again)
    again.run(lambda: again.meadow.head == 2)

    asked = [effect for effect in again.log if isinstance(effect, f.StoreBlob)]
    assert H(BUNDLE) not in [effect.digest for effect in asked]


def test_wrong_bytes_under_the_right_digest_are_thrown_away() -> None:
    board = fresh()
    board.step(e.BrokerConnected())
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
    board.step(e.WakeTimeReached())

    board.step(e.ModelChunkArrived(CHUNK.pack(split(bad)[0])))

    assert H(bad) in board.state.refused
    assert is_condition(board, ReadinessCondition.MODEL_REFUSED)


def test_bundle_that_fails_to_load_leaves_the_older_model_in_use() -> None:
    board = connected(BoardHarness(Disk(), FakeCoordinator(last=0)))
    board.run(
        lambda: is_condition(board, ReadinessCondition.TOOK_PART) and not board.inbox
    )
    adopted = board.state.adopted
    board.state = replace(board.state, loaded=None)
    board.step(e.WakeTimeReached())
    board.inbox.clear()

    board.step(e.LoadFailed(H(BUNDLE), e.FailureStage.MODEL, "no such operator"))

    assert adopted is not None
    assert board.state.adopted == adopted
    assert H(BUNDLE) in board.state.refused


def test_load_test_that_fails_for_want_of_memory_is_a_rest_and_no_loading() -> None:
    board = connected(BoardHarness(Disk(), FakeCoordinator(last=0)))
    board.run(
        lambda: is_condition(board, ReadinessCondition.TOOK_PART) and not board.inbox
    )
    board.state = replace(board.state, loaded=None, refusal=None)
    board.step(e.WakeTimeReached())
    board.inbox.clear()
    assert is_condition(board, ReadinessCondition.LOADING)

    board.step(e.LoadFailed(H(BUNDLE), e.FailureStage.TRAINING, "killed"))

    assert is_condition(board, ReadinessCondition.RESTING)
    assert board.state.fault == "load test failed: killed"


def test_version_that_fails_in_training_is_rolled_back_for_inference() -> None:
    board = connected(fresh())
    board.run(lambda: board.meadow.head == 1 and board.state.training is not None)
    board.inbox.clear()
    assert board.state.adopted is not None
    assert board.state.adopted.version == 1

    board.step(e.TrainingFailed(e.FailureStage.MODEL, "crash"))

    assert board.state.adopted.version == 0
    assert is_condition(board, ReadinessCondition.MODEL_REFUSED)


def test_old_versions_leave_the_disk() -> None:
    board = connected(fresh())

    board.run(lambda: board.meadow.head == 5)

    assert H(theta(0)) not in board.disk.blobs
    assert len(board.disk.blobs) <= 6


def test_bundle_over_the_boards_limit_is_not_fetched_and_shown() -> None:
    board = connected(fresh(bundle_bytes_max=1000))

    assert board.state.offer is None
    assert "too large" in board.state.fault
    assert board.disk.progress is None


def test_manifest_of_another_task_is_refused_once_and_changes_nothing() -> None:
    board = connected(fresh())
    other = replace(MANIFEST.unpack(manifest(3)), task=TaskId(1))
    state, said = board.state, []

    for _ in range(2):
        event = e.ManifestArrived(MANIFEST.pack(other))
        state, effects = machine.step(board.settings, state, event, board.now_s)
        said += [each for each in effects if isinstance(each, f.Note)]

    assert state.offer == board.state.offer
    assert state.others == {1}
    assert [each.text.split(":")[0] for each in said] == ["task 1 refused"]


def test_chunks_that_a_coordinator_lacks_are_asked_for_again_soon() -> None:
    board = fresh()
    board.step(e.BrokerConnected())
    board.step(e.ManifestArrived(manifest(0)))
    board.inbox.clear()
    fetch = board.state.fetch
    assert fetch is not None
    assert fetch.envelope is not None

    for reason, retry_after_s in ((Reason.BUSY, 5), (Reason.NOT_HERE, 0)):
        refused = Refused(fetch.envelope, reason, retry_after_s, "")
        board.step(e.DownArrived(said_by(MessageKind.REFUSED, REFUSED.pack(refused))))
        hurried = board.state.fetch
        assert hurried is not None
        soon = hurried.again_at_s <= board.now_s + 1.0
        assert soon == (reason is Reason.NOT_HERE)


def test_chunks_that_nobody_has_are_asked_for_at_the_usual_pace() -> None:
    board = fresh()
    board.step(e.BrokerConnected())
    board.step(e.ManifestArrived(manifest(0)))
    board.inbox.clear()
    fetch = board.state.fetch
    assert fetch is not None
    assert fetch.envelope is not None
    assert fetch.envelope is not None
    fetch = replace(fetch, attempt=6, again_at_s=1.0)
    board.state = replace(board.state, fetch=fetch)
    assert fetch.envelope is not None
    refused = Refused(fetch.envelope, Reason.NOT_HERE, 0, "")

    board.step(e.DownArrived(said_by(MessageKind.REFUSED, REFUSED.pack(refused))))

    assert board.state.fetch == fetch
