"""A coordinator's core from a task and its leases to a version that is final."""

import numpy as np
import pytest

from starling.coordinator.chain.node.node import StoreBlock
from starling.coordinator.machine import RestoredState
from starling.coordinator.step.effects import (
    DropUpload,
    EvaluateVersion,
    KeepEvidence,
    PublishFinality,
    RemoveInboxFile,
    SendMessage,
    StoreUpload,
    StoreVersion,
)
from starling.coordinator.step.events import (
    BoardMessageArrived,
    BoardStateArrived,
    TransactionArrived,
)
from starling.protocol.chain.light_client import FINAL, MANIFEST, pin
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import Reason
from starling.protocol.ids import TaskId, Version
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import (
    DEVICE_STATE,
    REVOKE,
    DevicePhase,
    DeviceState,
    Revoke,
)
from tests.unit.coordinator.fixtures.single_coordinator import (
    CHAIN_ID,
    GENESIS,
    OPERATOR,
    TOPICS,
    FixtureBoard,
    SingleCoordinator,
    board,
    refusals,
    spec,
    told,
)

A, B, C = 1, 2, 3


@pytest.fixture
def boards() -> list[FixtureBoard]:
    return [board(number) for number in (A, B, C)]


@pytest.fixture
def world(boards: list[FixtureBoard]) -> SingleCoordinator:
    world = SingleCoordinator()
    world.open(boards)
    return world


def manifests(world: SingleCoordinator) -> list[bytes]:
    topic = TOPICS.manifest(0)
    return [
        effect.payload
        for effect in world.effects
        if isinstance(effect, SendMessage) and effect.topic == topic
    ]


def test_task_published_manifest_of_version_0_proves_itself(
    world: SingleCoordinator,
) -> None:
    manifest = MANIFEST.unpack(manifests(world)[-1])

    _, shown = manifest.check(pin(GENESIS))

    assert manifest.version == 0
    assert shown == world.task


def test_inbox_transactions_removed_after_their_block(world: SingleCoordinator) -> None:
    removed = [e.name for e in world.effects if isinstance(e, RemoveInboxFile)]

    assert removed == ["1.tx", "2.tx", "3.tx", "4.tx"]
    assert world.state.inbox == {}


def test_update_life_from_check_in_to_a_final_version(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    first = world.contribute(boards[0], [16.0, 0, 0, 0])
    second = world.contribute(boards[1], [48.0, 0, 0, 0])
    block = world.tick()
    world.compute()

    assert [e.kind for e in told(first, boards[0].device)] == [MessageKind.ACCEPTED]
    assert [e.kind for e in told(second, boards[1].device)] == [MessageKind.ACCEPTED]
    proof = FINAL.unpack(told(block, boards[0].device)[0].body)
    proof.check(pin(GENESIS))
    manifest = MANIFEST.unpack(manifests(world)[-1])
    manifest.check(pin(GENESIS))
    assert manifest.version == 1
    # A mean gradient of (16 + 48) / (16 + 16), with learning rate 1.
    theta = np.frombuffer(world.models[1].training, "<f4")
    assert theta.tolist() == [-2.0, 0, 0, 0]
    assert manifest.model == world.models[1].digests()
    stored = [e for e in world.effects if isinstance(e, StoreVersion)]
    assert stored[-1] == StoreVersion(TaskId(0), Version(1), 2, 0, 0)
    assert [e.version for e in world.effects if isinstance(e, EvaluateVersion)] == [
        0,
        1,
    ]


def test_upload_accepted_is_durable_before_its_receipt(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    effects = world.contribute(boards[0], [1.0, 0, 0, 0])

    kinds = [type(effect) for effect in effects]
    assert kinds.index(StoreUpload) < kinds.index(SendMessage)


def test_block_stored_before_its_proofs_leave(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    world.contribute(boards[0], [1.0, 0, 0, 0])

    kinds = [type(effect) for effect in world.tick()]

    assert kinds.index(StoreBlock) < kinds.index(SendMessage)


def test_upload_same_bytes_again_repeats_the_receipt_only(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    lease = world.check_in(boards[0])
    assert lease is not None
    upload = boards[0].upload(lease)
    world.upload(boards[0], upload)

    waiting = world.upload(boards[0], upload)
    world.tick()
    final = world.upload(boards[0], upload)

    for effects in (waiting, final):
        assert [e.kind for e in told(effects, boards[0].device)] == [
            MessageKind.ACCEPTED
        ]
        assert not any(isinstance(effect, StoreUpload) for effect in effects)
    (proof,) = [effect for effect in final if isinstance(effect, PublishFinality)]
    assert proof.transaction == upload.update.identity(CHAIN_ID)


def test_upload_another_for_the_same_base_is_evidence(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    lease = world.check_in(boards[0])
    assert lease is not None
    first, second = boards[0].upload(lease), boards[0].upload(lease)
    world.upload(boards[0], first)

    effects = world.upload(boards[0], second)

    assert refusals(effects, boards[0].device)[0].reason == Reason.EQUIVOCATION
    evidence = KeepEvidence(first.update.identity(CHAIN_ID), second.update)
    assert evidence in effects


def test_update_that_the_chain_refuses_later_is_told_and_forgotten(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    lease = world.check_in(boards[0])
    assert lease is not None
    body = REVOKE.pack(Revoke(boards[0].device))
    revoke = sign(OPERATOR, CHAIN_ID, MessageKind.REVOKE, 99, body)
    world.send(TransactionArrived("99.tx", ENVELOPE.pack(revoke)))
    upload = boards[0].upload(lease)
    world.upload(boards[0], upload)

    # Both wait for one block, the revocation first; only what is decided refuses.
    world.tick()
    effects = world.tick()

    assert DropUpload(upload.update.identity(CHAIN_ID)) in effects
    assert refusals(effects, boards[0].device)[0].reason == Reason.NOT_ENROLLED
    assert len(world.state.held) == 0


def test_check_in_more_boards_than_leases_wait_their_turn(
    boards: list[FixtureBoard],
) -> None:
    world = SingleCoordinator(task=spec(buffer=2, leases=2))
    world.open(boards)
    first, second = world.check_in(boards[0]), world.check_in(boards[1])
    assert first is not None
    assert second is not None

    waiting = world.check_in(boards[2])
    effects = world.upload(boards[0], boards[0].upload(first))

    assert waiting is None
    assert [e.kind for e in told(effects, boards[2].device)] == [MessageKind.LEASE]


def test_check_in_twice_repeats_the_same_lease(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    assert world.check_in(boards[0]) == world.check_in(boards[0]) is not None


def test_lease_unused_goes_to_the_next_when_it_ends(boards: list[FixtureBoard]) -> None:
    world = SingleCoordinator(task=spec(buffer=1, leases=1))
    world.open(boards)
    world.check_in(boards[0])
    world.check_in(boards[1])

    early = world.tick(59)
    late = world.tick(2)

    assert told(early, boards[1].device) == []
    assert [e.kind for e in told(late, boards[1].device)] == [MessageKind.LEASE]


def test_lease_ended_update_is_still_welcome(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    lease = world.check_in(boards[0])
    assert lease is not None
    world.tick(100)

    effects = world.upload(boards[0], boards[0].upload(lease))

    assert [e.kind for e in told(effects, boards[0].device)] == [MessageKind.ACCEPTED]


def test_synchronous_task_gives_no_lease_that_could_only_come_too_late(
    boards: list[FixtureBoard],
) -> None:
    world = SingleCoordinator(task=spec(buffer=2, leases=2, staleness_max=0))
    world.open(boards)
    first, second = world.check_in(boards[0]), world.check_in(boards[1])
    assert first is not None
    assert second is not None
    world.check_in(boards[2])

    early = world.upload(boards[0], boards[0].upload(first))
    world.upload(boards[1], boards[1].upload(second))
    world.tick()
    world.compute()

    assert told(early, boards[2].device) == []
    assert world.state.tasks[TaskId(0)].head == 1
    assert world.check_in(boards[2], 1) is not None
    assert world.check_in(boards[0], 1) is not None


def test_board_lost_gives_its_lease_back(boards: list[FixtureBoard]) -> None:
    world = SingleCoordinator(task=spec(buffer=1, leases=1))
    world.open(boards)
    world.check_in(boards[0])
    world.check_in(boards[1])
    state = DEVICE_STATE.pack(DeviceState(DevicePhase.LOST, 1, 0, 0))
    will = ENVELOPE.pack(boards[0].sign(MessageKind.DEVICE_STATE, state))

    effects = world.send(BoardStateArrived(boards[0].device, will))

    assert [e.kind for e in told(effects, boards[1].device)] == [MessageKind.LEASE]


def test_half_a_buffer_is_cut_after_patience(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    world.contribute(boards[0], [16.0, 0, 0, 0])

    for _ in range(10):
        world.tick(6)
    world.compute()

    assert world.state.tasks[TaskId(0)].head == 1


def test_restart_resumes_uploads_and_jobs_as_if_nothing_happened(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    world.contribute(boards[0], [16.0, 0, 0, 0])
    world.tick()
    world.contribute(boards[1], [48.0, 0, 0, 0])
    uploads = [stored.update for stored in world.uploads.values()]
    model = {TaskId(0): (Version(0), world.models[0].digests())}

    world.restore(RestoredState(world.state.ledger, 10**6, model, {}, uploads, 0))
    world.tick()
    jobs = list(world.jobs)
    world.restore(RestoredState(world.state.ledger, 10**7, model, {}, uploads, 0))
    assert world.jobs == 2 * jobs
    world.jobs = world.jobs[:1]
    world.compute()

    task = world.state.tasks[TaskId(0)]
    assert task.head == 1
    theta = np.frombuffer(world.models[1].training, "<f4")
    assert theta.tolist() == [-2.0, 0, 0, 0]
    assert task.model == world.models[1].digests()


def test_check_in_replayed_is_refused(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    said = boards[0].check_in()
    world.send(BoardMessageArrived(boards[0].device, said))

    effects = world.send(BoardMessageArrived(boards[0].device, said))

    assert refusals(effects, boards[0].device)[0].reason == Reason.REPLAYED


def test_check_in_of_a_revoked_board_is_refused(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    world.operate(MessageKind.REVOKE, REVOKE.pack(Revoke(boards[0].device)))

    effects = world.send(BoardMessageArrived(boards[0].device, boards[0].check_in()))

    assert refusals(effects, boards[0].device)[0].reason == Reason.NOT_ENROLLED


def test_transaction_nobody_may_sign_leaves_the_inbox(world: SingleCoordinator) -> None:
    stranger = SigningKey(b"x" * 32)
    body = REVOKE.pack(Revoke(stranger.identity))
    envelope = sign(stranger, CHAIN_ID, MessageKind.REVOKE, 1, body)

    world.send(TransactionArrived("99.tx", ENVELOPE.pack(envelope)))
    world.tick()

    (removed,) = [
        each
        for each in world.effects
        if isinstance(each, RemoveInboxFile) and each.name == "99.tx"
    ]
    assert removed.reason == Reason.NOT_AUTHORISED
