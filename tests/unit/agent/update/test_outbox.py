"""How an update is sent, and what may delete it."""

from dataclasses import replace

import pytest

from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.state import ReadinessCondition
from starling.protocol.chain.light_client import FINAL
from starling.protocol.errors import Reason
from starling.protocol.ids import H
from starling.protocol.wire.message_bodies import UPLOAD
from tests.unit.agent.agent_harness import (
    BoardHarness,
    Disk,
    connected,
    fresh,
    is_condition,
    names,
    until_spooled,
    until_training,
)
from tests.unit.agent.fake_coordinator import (
    STRANGER,
    FakeCoordinator,
    accepted,
    final,
    manifest,
    refused,
)


def test_final_update_leaves_the_spool() -> None:
    board = connected(BoardHarness(Disk(), FakeCoordinator(last=0)))

    board.run(
        lambda: is_condition(board, ReadinessCondition.TOOK_PART) and not board.inbox
    )

    assert board.disk.spool == {}
    kinds = [type(effect) for effect in board.log]
    assert kinds.index(f.KeepProof) < kinds.index(f.DeleteSpooled)
    (proof,) = board.disk.proofs.values()
    FINAL.unpack(proof).check(board.state.trusted)


def test_upload_is_spooled_before_its_first_chunk_leaves() -> None:
    board = until_training(connected(fresh()))
    board.step(e.TrainerReady())

    effects = board.step(board.draw_noise())

    order = names(effects)
    assert order.index("SpoolUpload") < order.index("PublishSpooled")


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


@pytest.mark.parametrize("reason", [Reason.STALE, Reason.NORM_EXCEEDED])
def test_refusal_by_all_stops_the_sending_and_deletes_nothing(reason: Reason) -> None:
    board = until_spooled(connected(fresh()))
    update = board.state.waiting[0].entry.update

    board.step(e.DownArrived(refused(update, reason)))

    assert board.state.sending is None
    assert board.state.waiting[0].refusal == reason
    assert len(board.disk.spool) == 1


def test_refusal_of_the_lease_asks_for_another_and_keeps_the_update() -> None:
    board = until_spooled(connected(fresh()))
    item = board.state.waiting[0]

    board.step(e.DownArrived(refused(item.entry.update, Reason.NO_LEASE)))
    asked = board.state.renewing
    renewed = replace(item.entry, digest=H(b"with another lease"))
    board.step(e.LeaseRenewed(renewed))

    assert asked is not None
    assert asked.version == item.entry.base
    assert board.state.renewing is None
    assert [each.entry for each in board.state.waiting] == [renewed]
    assert board.state.sending is not None
    assert board.state.sending.update == item.entry.update


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


def test_lost_connection_in_mid_upload_sends_the_rest_after_it() -> None:
    board = connected(fresh(upload_window=1))
    board.meadow.lose_uploads = 1 << 30
    board.run(lambda: board.state.sending is not None)
    board.inbox.clear()

    board.step(e.BrokerDisconnected())
    effects = board.step(e.BrokerConnected())

    again = [effect for effect in effects if isinstance(effect, f.PublishSpooled)]
    assert [effect.index for effect in again] == [0]
