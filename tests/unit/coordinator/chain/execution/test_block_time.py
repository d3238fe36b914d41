"""A block is dated by the votes for its parent, and a proposer cannot date it else."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.execution.block_builder import ChainHead
from starling.coordinator.chain.execution.state_machine import genesis_tree
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.node.node import BlamePeer, ChainTicked
from starling.protocol.chain.blocks import (
    BLOCK,
    PROPOSAL,
    TIME_MS_MAX,
    Certificate,
    Proposal,
    VoteType,
    vote_bytes,
)
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.chain.genesis import FaultModel, quorum
from starling.protocol.errors import Reason
from starling.protocol.ids import BlockHash
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.unit.coordinator.fixtures.small_genesis import board_id, board_key, genesis

FIRST, SECOND, ME = 1, 2, 3
"""Proposers of heights 1 and 2, and ourselves."""


def certificate(
    world: SmallChain, block_id: BlockHash, times_ms: dict[int, int]
) -> Certificate:
    signatures = []
    for who, time_ms in sorted(times_ms.items()):
        kind = VoteType.PRECOMMIT
        signed = vote_bytes(world.chain_id, kind, 1, 0, block_id, time_ms)
        signatures.append(world.validators[who].sign(signed))
    times = tuple(time_ms for _, time_ms in sorted(times_ms.items()))
    bits = sum(1 << who for who in times_ms)
    return Certificate(1, 0, block_id, bits, tuple(signatures), times)


def offered(running: SingleValidator) -> Proposal:
    messages = [gossip_messages.FRAME.unpack(payload) for payload in running.sent]
    offers = [m.content for m in messages if m.subject == FrameSubject.PROPOSAL]
    return PROPOSAL.unpack(offers[-1])


def second_height() -> tuple[SmallChain, SingleValidator, Proposal, BlockHash]:
    """Ourselves at height 2, what its proposer offers, and the first block's id."""
    world = SmallChain(4)
    first = SingleValidator(world.genesis, world.validators[FIRST])
    first.submit(world.publish())
    first.tick(0.0)
    block = BLOCK.unpack(offered(first).block)
    block_id = block.header.block_id()
    theirs = certificate(world, block_id, {0: 5000, 1: 7000, 2: 9000})
    ours = certificate(world, block_id, {0: 5000, 1: 7000, 3: 6000})
    proposer = SingleValidator(world.genesis, world.validators[SECOND])
    me = SingleValidator(world.genesis, world.validators[ME])
    for running, whole in ((proposer, theirs), (me, ours)):
        running.receive(gossip_messages.wrap_decision(block, whole), 1.0)
    proposer.submit(world.register(0), now_s=2.0)
    proposer.tick(2.0)
    return world, me, offered(proposer), block_id


def receive(me: SingleValidator, proposal: Proposal) -> list[Reason]:
    me.receive(gossip_messages.wrap_proposal(proposal), 3.0)
    return [blame.reason for blame in me.heard if isinstance(blame, BlamePeer)]


def test_block_dated_by_another_quorum_than_ours_is_prevoted() -> None:
    _, me, proposal, _ = second_height()
    assert BLOCK.unpack(proposal.block).header.time_ms == 7000
    assert receive(me, proposal) == []
    assert len(me.votes()) == 1


def forged(world: SmallChain, proposal: Proposal, time_ms: int) -> Proposal:
    block = BLOCK.unpack(proposal.block)
    other = replace(block, header=replace(block.header, time_ms=time_ms))
    bare = replace(proposal, block=BLOCK.pack(other), block_id=other.header.block_id())
    key = world.validators[SECOND]
    return replace(bare, signature=key.sign(bare.signed_bytes(world.chain_id)))


@pytest.mark.parametrize("time_ms", [6999, 7001, 9000])
def test_block_dated_otherwise_is_not_heard(time_ms: int) -> None:
    world, me, proposal, _ = second_height()
    assert receive(me, forged(world, proposal, time_ms)) == [Reason.INVALID_PROOF]
    assert me.votes() == []
    assert receive(me, proposal) == [Reason.INVALID_PROOF]
    assert len(me.votes()) == 1


def test_block_dated_so_far_off_that_the_state_differs_is_invalid() -> None:
    """The proposer signed a header whose state is of another time."""
    world, me, proposal, _ = second_height()
    assert receive(me, forged(world, proposal, TIME_MS_MAX)) == [Reason.INVALID_BLOCK]


@pytest.mark.parametrize("spoil", ["none", "few", "forged", "other"])
def test_block_without_a_certificate_of_its_parent_is_not_heard(spoil: str) -> None:
    world, me, proposal, block_id = second_height()
    whole = proposal.parent
    assert whole is not None
    times = {0: 7000, 1: 7000}
    other = BlockHash(bytes(32))
    bad = {
        "none": None,
        "few": certificate(world, block_id, times),
        "forged": replace(whole, extras=(7000, 7000, 7000)),
        "other": certificate(world, other, {**times, 2: 7000}),
    }[spoil]
    reasons = receive(me, replace(proposal, parent=bad))
    assert reasons in ([Reason.INVALID_PROOF], [Reason.BAD_SIGNATURE])
    assert me.votes() == []


@pytest.mark.parametrize(
    ("jailed", "jailed_ms", "is_jailed"),
    [
        (0, 0, False),
        (1, 6999, False),
        (2, 6999, True),
        (1, 7000, True),
        (2, 7000, True),
    ],
)
def test_board_is_free_once_the_block_to_come_is_past_both_ends_of_its_jail(
    jailed: int, jailed_ms: int, is_jailed: bool
) -> None:
    _, me, proposal, _ = second_height()
    tip = me.state.tip
    assert (tip.height, tip.time_ms(proposal.parent)) == (1, 7000)
    tip = replace(tip, certificate=proposal.parent)
    board = BoardRecord(board_key(0).public, board_id(0), 1, 0, 0, 0)
    board = replace(board, jailed=jailed, jailed_ms=jailed_ms)
    assert tip.is_jailed(board) == is_jailed


@given(st.integers(1, 13), st.data())
def test_median_of_a_quorum_lies_among_the_honest(
    count: int, data: st.DataObject
) -> None:
    liars_max = (count - 1) // 3
    needed = quorum(count, FaultModel.BYZANTINE)
    liars = data.draw(st.integers(0, liars_max))
    voters = data.draw(st.integers(needed, count))
    clocks = st.integers(1_000_000, 2_000_000)
    honest = data.draw(
        st.lists(clocks, min_size=voters - liars, max_size=voters - liars)
    )
    lies = data.draw(st.lists(st.integers(0, 1 << 62), min_size=liars, max_size=liars))
    chain = genesis(1)
    running = SingleValidator(chain, SmallChain(1).validators[0])
    running.tick(60.0)
    tip = running.state.tip
    assert tip.certificate is not None
    assert tip.header is not None
    extras = tuple(data.draw(st.permutations([*honest, *lies])))
    signature = tip.certificate.signatures[0]
    whole = replace(
        tip.certificate,
        voters=(1 << voters) - 1,
        signatures=(signature,) * voters,
        extras=extras,
    )
    assert min(honest) <= tip.time_ms(whole) <= max(honest)


def test_time_that_nothing_can_show_is_cut() -> None:
    chain = replace(genesis(1), created_ms=1 << 62)
    tip = ChainHead(chain, chain.chain_id(), None, None, genesis_tree(chain))
    assert tip.time_ms(None) == TIME_MS_MAX


@pytest.mark.parametrize("now_ms", [-5, 0, 1 << 70])
def test_clock_that_is_anywhere_stops_nothing(now_ms: int) -> None:
    world = SmallChain(1)
    running = SingleValidator(world.genesis, world.validators[0], block_interval_s=0.0)
    for now_s in (60.0, 120.0):
        running.step(ChainTicked(), now_s, now_ms=now_ms)
    assert running.state.height == 2
    header = running.state.header
    assert header is not None
    assert header.time_ms <= TIME_MS_MAX
