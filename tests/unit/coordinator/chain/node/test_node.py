"""A ledger of one: what is submitted becomes certified blocks and stays so."""

from itertools import pairwise

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.execution.state_machine import genesis_tree
from starling.coordinator.chain.node import node
from starling.coordinator.chain.node.node import (
    BlamePeer,
    ChainTicked,
    JournalVote,
    RefuseTransaction,
    StoreBlock,
)
from starling.coordinator.chain.state import board_records, task_records
from starling.protocol.chain.blocks import BLOCK, check_certificate
from starling.protocol.chain.genesis import FaultModel
from starling.protocol.chain.light_client import FinalityProof, pin
from starling.protocol.crypto import merkle
from starling.protocol.errors import Reason, StorageError
from starling.protocol.ids import BlockHash
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.unit.coordinator.fixtures.small_genesis import STRANGER, board_key


def alone(**options: object) -> tuple[SmallChain, SingleValidator]:
    world = SmallChain()
    return world, SingleValidator(world.genesis, world.validators[0], **options)


def test_tick_with_transactions_decides_within_the_step() -> None:
    world, running = alone()
    running.submit(world.publish(), world.register(0))
    assert running.of(StoreBlock) == []
    running.tick(0.0)
    assert running.state.height == 1
    assert task_records.task_count(running.state.tree) == 1
    kinds = [type(effect) for effect in running.heard]
    assert kinds == [JournalVote, JournalVote, JournalVote, StoreBlock]


def test_block_is_certified_and_commits_to_its_state() -> None:
    world, running = alone()
    running.submit(world.publish())
    running.tick(0.0)
    header, certificate = running.state.header, running.state.certificate
    assert header is not None
    assert certificate is not None
    validators = world.genesis.validators
    model = FaultModel.BYZANTINE
    check_certificate(certificate, world.chain_id, validators, model)
    assert certificate.block_id == header.block_id()
    assert header.state_root == running.state.tree.root()
    assert header.parent == BlockHash(world.chain_id)


def test_chain_grows_by_parent_and_time_never_goes_back() -> None:
    world, running = alone(block_interval_s=0.0)
    headers = []
    for number, now_ms in enumerate((5000, 9000, 7000)):
        running.submit(world.register(number), now_s=float(number))
        running.step(ChainTicked(), float(number), now_ms=now_ms)
        headers.append(running.state.header)
    assert all(header is not None for header in headers)
    for earlier, later in pairwise(headers):
        assert earlier is not None
        assert later is not None
        assert later.parent == earlier.block_id()
        assert later.time_ms >= earlier.time_ms


def test_nothing_to_decide_makes_no_block_before_the_heartbeat() -> None:
    world, running = alone()
    running.tick(1.0)
    assert running.state.wake_at_s == world.genesis.heartbeat_s
    running.tick(world.genesis.heartbeat_s - 0.5)
    assert running.state.height == 0
    running.tick(float(world.genesis.heartbeat_s))
    assert running.state.height == 1
    assert running.state.wake_at_s == 2 * world.genesis.heartbeat_s


def test_block_interval_lets_transactions_share_a_block() -> None:
    world, running = alone(block_interval_s=1.0)
    running.submit(world.register(0))
    running.tick(0.0)
    running.submit(world.register(1), now_s=0.1)
    running.tick(0.2)
    assert running.state.height == 1
    assert running.state.wake_at_s == 1.0
    running.submit(world.register(2), now_s=0.3)
    running.tick(1.0)
    assert running.state.height == 2
    assert board_records.board_count(running.state.tree) == 3


def test_more_than_a_block_holds_waits_for_the_next() -> None:
    world, running = alone(transactions_max=3, block_interval_s=0.0)
    running.submit(*(world.register(number) for number in range(7)))
    for now_s in range(3):
        running.tick(float(now_s))
    sizes = [
        len(effect.block.transactions)
        for effect in running.heard
        if isinstance(effect, StoreBlock)
    ]
    assert sizes == [3, 3, 1]


def test_refused_transaction_is_named_and_makes_no_block() -> None:
    world, running = alone()
    running.submit(world.register(0, STRANGER))
    running.tick(0.0)
    (refusal,) = running.of(RefuseTransaction)
    assert isinstance(refusal, RefuseTransaction)
    assert refusal.reason is Reason.NOT_AUTHORISED
    assert running.state.height == 0
    assert running.state.mempool.size == 0


def test_transaction_is_refused_by_what_is_decided_not_by_what_is_proposed() -> None:
    world = SmallChain(4)
    proposer = SingleValidator(world.genesis, world.validators[1])
    proposer.submit(world.register(0), world.register(0))
    proposer.tick(0.0)
    assert proposer.votes()
    assert proposer.of(RefuseTransaction) == []
    assert proposer.state.mempool.size == 2


def test_transaction_that_a_decided_one_excludes_is_refused() -> None:
    world, running = alone(block_interval_s=0.0)
    running.submit(world.register(0), world.register(0))
    running.tick(0.0)
    assert running.of(RefuseTransaction) == []
    running.tick(1.0)
    (refusal,) = running.of(RefuseTransaction)
    assert isinstance(refusal, RefuseTransaction)
    assert refusal.reason is Reason.ALREADY_KNOWN
    assert (running.state.height, running.state.mempool.size) == (1, 0)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (MessageKind.UPDATE, Reason.ALREADY_KNOWN),
        (MessageKind.CHECK_IN, Reason.UNKNOWN_KIND),
    ],
)
def test_submit_twice_or_no_transaction_is_refused(
    kind: MessageKind, reason: Reason
) -> None:
    world, running = alone()
    envelope = world.sign(board_key(0), kind, b"")
    running.submit(envelope, envelope)
    refusals = running.of(RefuseTransaction)
    last = refusals[-1]
    assert isinstance(last, RefuseTransaction)
    assert last.reason is reason


def test_full_mempool_answers_busy() -> None:
    world, running = alone(waiting_max=2)
    running.submit(*(world.register(number) for number in range(3)))
    (refusal,) = running.of(RefuseTransaction)
    assert isinstance(refusal, RefuseTransaction)
    assert refusal.reason is Reason.BUSY


@pytest.mark.parametrize("stop_after", range(6))
def test_crash_after_any_effect_resumes_the_same_block(stop_after: int) -> None:
    world, running = alone()
    running.submit(world.publish(), world.register(0))
    running.step(ChainTicked(), 0.0, stop_after)
    before = [gossip_messages.JOURNAL_ENTRY.unpack(entry) for entry in running.journal]
    running.restart(10.0)
    running.submit(world.register(1), now_s=10.0)
    running.tick(10.0)
    running.tick(20.0)
    after = [gossip_messages.JOURNAL_ENTRY.unpack(entry) for entry in running.journal]
    assert after[: len(before)] == before
    votes: dict[tuple[int, int, int], bytes | None] = {}
    for entry in after:
        if entry.vote is not None:
            place = (entry.vote.height, entry.vote.round, entry.vote.vote_type)
            known = votes.setdefault(place, entry.vote.block_id)
            assert known == entry.vote.block_id, "voted twice"
    if before:
        assert before[0].proposal is not None
        first = running.disk.block(1)
        assert first is not None
        assert BLOCK.pack(first.block) == before[0].proposal.block
    assert board_records.board(running.state.tree, board_key(1).identity) is not None


def test_crash_with_a_batch_in_the_journal_only_decides_it_again() -> None:
    world, running = alone(block_interval_s=0.0)
    running.submit(world.publish())
    state, first = node.step(running.settings, running.state, ChainTicked(), 0.0, 0)
    register = node.TransactionSubmitted(world.register(0))
    state, _ = node.step(running.settings, state, register, 1.0, 0)
    state, second = node.step(running.settings, state, ChainTicked(), 1.0, 0)
    votes = [e for e in (*first, *second) if isinstance(e, JournalVote)]
    running.journal = [vote.payload for vote in votes]
    running.restart(5.0)
    running.tick(5.0)
    assert running.state.height == 2
    assert running.state.tree.root() == state.tree.root()


def test_journal_of_another_chain_is_a_storage_error() -> None:
    world, running = alone()
    running.submit(world.publish())
    running.tick(0.0)
    other_world, other = alone()
    other.submit(other_world.register(3))
    other.tick(0.0)
    other.submit(other_world.register(4), now_s=1.0)
    other.tick(1.0)
    running.journal = other.journal
    running.restart(5.0)
    with pytest.raises(StorageError, match="height 2"):
        running.tick(5.0)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1", id="no-msgpack"),
        pytest.param(b"\x93\x02\x01\xc4\x00", id="empty-proposal"),
        pytest.param(b"\x93\x02\x63\xc4\x00", id="unknown-subject"),
        pytest.param(b"\x93\x02\x02\xc4\x03abc", id="no-vote"),
        pytest.param(b"\x93\x02\x05\xc4\x03abc", id="no-transaction"),
        pytest.param(b"\x92\x02\xc4\x03abc", id="wire-version-1"),
    ],
)
def test_bad_peer_bytes_are_blamed_and_change_nothing(payload: bytes) -> None:
    _, running = alone()
    tree = running.state.tree
    running.receive(payload, 0.0)
    assert len(running.of(BlamePeer)) == 1
    assert running.state.tree is tree
    assert running.state.height == 0


def test_begin_without_blocks_starts_at_genesis() -> None:
    world, running = alone()
    assert running.state.tree.root() == genesis_tree(world.genesis).root()
    assert (running.state.height, running.state.header) == (0, None)


def test_board_proves_its_update_final_with_the_genesis_alone() -> None:
    world, running = alone()
    updates = [world.update(number) for number in range(3)]
    running.submit(world.publish(), *(world.register(i) for i in range(3)), *updates)
    running.tick(0.0)
    stored = running.disk.block(1)
    assert stored is not None
    header, certificate = stored.block.header, stored.certificate
    entries = stored.block.transactions
    place = entries.index(ENVELOPE.pack(updates[1]))
    path = merkle.path(entries, place)
    final = FinalityProof(updates[1], header, certificate, place, len(entries), path)
    assert final.check(pin(world.genesis)).height == 1
