"""A quorum that one validator saw reaches the others, whatever a liar told them."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.consensus.round_state import RoundStep
from starling.coordinator.chain.gossip_messages import STATUS, FrameSubject
from starling.coordinator.chain.node.node import BlamePeer
from starling.protocol.chain.blocks import (
    BLOCK,
    CERTIFICATE,
    Certificate,
    Proposal,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.errors import Reason
from starling.protocol.ids import BlockHash, H
from starling.protocol.wire.envelope import MessageKind
from tests.unit.coordinator.fixtures.single_validator import (
    SingleValidator,
    first_offer,
)
from tests.unit.coordinator.fixtures.small_chain import SmallChain

PROPOSER, ME, LIAR = 1, 2, 3
PREVOTE, PRECOMMIT = VoteType.PREVOTE, VoteType.PRECOMMIT
OTHER = BlockHash(H(b"other"))


def start() -> tuple[SmallChain, SingleValidator, Proposal]:
    """A world, ourselves, and what the proposer of height 1 offers."""
    world = SmallChain(4)
    offer = first_offer(world.genesis, world.validators[PROPOSER], world.publish())
    return world, SingleValidator(world.genesis, world.validators[ME]), offer


def vote(
    world: SmallChain,
    who: int,
    kind: VoteType,
    block_id: BlockHash | None,
    number: int = 0,
    extra: int = 0,
    height: int = 1,
) -> Vote:
    signed = vote_bytes(world.chain_id, kind, height, number, block_id, extra)
    signature = world.validators[who].sign(signed)
    return Vote(kind, height, number, block_id, extra, who, signature)


def quorum_of(votes: Sequence[Vote]) -> Certificate:
    first = votes[0]
    assert first.block_id is not None
    return Certificate(
        first.height,
        first.round,
        first.block_id,
        sum(1 << each.voter for each in votes),
        tuple(each.signature for each in votes),
        tuple(each.extra for each in votes),
    )


def polka(
    world: SmallChain,
    block_id: BlockHash,
    number: int = 0,
    voters: Sequence[int] = (0, 1, 3),
) -> Certificate:
    return quorum_of([vote(world, who, PREVOTE, block_id, number) for who in voters])


def commit(world: SmallChain, block_id: BlockHash) -> Certificate:
    return quorum_of([vote(world, who, PRECOMMIT, block_id) for who in (0, 1, 3)])


def receive(me: SingleValidator, payload: bytes, now_s: float = 1.0) -> list[Reason]:
    """The refusals and faults that a message led to."""
    before = len(me.of(BlamePeer))
    me.receive(payload, now_s)
    blames = me.of(BlamePeer)[before:]
    return [blame.reason for blame in blames if isinstance(blame, BlamePeer)]


def receive_votes(me: SingleValidator, *votes: Vote) -> None:
    for each in votes:
        receive(me, gossip_messages.wrap_vote(each))


def sent(me: SingleValidator, topic: FrameSubject) -> list[bytes]:
    messages = [gossip_messages.FRAME.unpack(payload) for payload in me.sent]
    return [message.content for message in messages if message.subject == topic]


def step_of(me: SingleValidator) -> RoundStep:
    return me.state.consensus.step


def locked(me: SingleValidator, world: SmallChain, proposal: Proposal) -> None:
    """We lock what is offered, by the votes of two others."""
    receive(me, gossip_messages.wrap_proposal(proposal))
    receive_votes(me, *(vote(world, who, PREVOTE, proposal.block_id) for who in (1, 3)))
    assert me.state.consensus.locked == proposal.block_id


def test_quorum_on_which_all_agree_is_not_passed_on() -> None:
    world, me, proposal = start()
    locked(me, world, proposal)
    receive_votes(
        me, *(vote(world, who, PRECOMMIT, proposal.block_id) for who in (0, 1))
    )
    assert me.state.height == 1
    assert sent(me, FrameSubject.POLKA) == sent(me, FrameSubject.CERTIFICATE) == []


@pytest.mark.parametrize("kind", VoteType)
def test_quorum_with_which_somebody_disagrees_is_passed_on_once(kind: VoteType) -> None:
    world, me, proposal = start()
    locked(me, world, proposal)
    receive_votes(me, vote(world, 0, kind, None), vote(world, 3, PREVOTE, None))
    me.tick(2.0)
    (content,) = sent(me, FrameSubject.POLKA)
    assert CERTIFICATE.unpack(content).members() == (1, 2, 3)


def test_quorum_is_passed_on_when_its_round_decides_nothing() -> None:
    world, me, proposal = start()
    locked(me, world, proposal)
    assert sent(me, FrameSubject.POLKA) == []
    receive_votes(me, *(vote(world, who, PREVOTE, None, 1) for who in (0, 3)))
    assert me.state.consensus.round == 1
    assert len(sent(me, FrameSubject.POLKA)) == 1


def test_quorum_that_others_saw_locks_us_in_its_round() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    receive_votes(me, vote(world, LIAR, PREVOTE, None))
    assert me.state.consensus.step is RoundStep.PREVOTE
    blames = receive(me, gossip_messages.wrap_polka(polka(world, proposal.block_id)))
    assert blames == [Reason.EQUIVOCATION]
    state = me.state.consensus
    assert (state.locked, state.valid_round) == (proposal.block_id, 0)
    assert state.step is RoundStep.PRECOMMIT


def test_quorum_that_comes_after_its_round_is_what_we_offer_next() -> None:
    world, _, proposal = start()
    # Round 1 is ours.
    me = SingleValidator(world.genesis, world.validators[ME])
    receive(me, gossip_messages.wrap_proposal(proposal))
    receive_votes(me, *(vote(world, who, PREVOTE, None) for who in (0, 3)))
    me.tick(2.0 + me.settings.timeouts.of_votes(0))
    assert me.state.consensus.step is RoundStep.PRECOMMIT
    receive(me, gossip_messages.wrap_polka(polka(world, proposal.block_id)), 9.0)
    receive_votes(me, *(vote(world, who, PRECOMMIT, None) for who in (0, 3)))
    me.tick(20.0)
    state = me.state.consensus
    assert (state.round, state.locked, state.valid) == (1, None, proposal.block_id)
    ours = state.vote_set.proposals[1].proposal
    assert (ours.block_id, ours.valid_round) == (proposal.block_id, 1)
    assert ours.proof_of_lock is not None


def test_locked_block_of_somebody_else_is_there_after_a_restart() -> None:
    world, me, proposal = start()
    locked(me, world, proposal)
    me.restart(1.0)
    receive_votes(me, *(vote(world, who, PREVOTE, None, 1) for who in (0, 3)))
    # Round 1 is ours: we offer what we locked.
    ours = me.state.consensus.vote_set.proposals[1].proposal
    assert (ours.block_id, ours.valid_round) == (proposal.block_id, 1)
    assert ours.block == proposal.block


def test_quorum_of_a_later_round_takes_us_along() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    receive(me, gossip_messages.wrap_polka(polka(world, proposal.block_id, 3)))
    assert me.state.consensus.round == 3


@pytest.mark.parametrize("case", ["few", "forged", "mixed", "height", "precommits"])
def test_what_is_no_quorum_is_refused(case: str) -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    block_id = proposal.block_id
    mixed = [vote(world, who, PREVOTE, block_id, extra=who % 2) for who in (0, 1, 3)]
    good = polka(world, block_id)
    bad = {
        "few": polka(world, block_id, voters=(0, 3)),
        "forged": replace(good, block_id=OTHER),
        "mixed": quorum_of(mixed),
        "height": replace(good, height=2),
        "precommits": commit(world, block_id),
    }[case]
    blames = receive(me, gossip_messages.wrap_polka(bad))
    assert bool(blames) is (case != "height")
    assert me.state.consensus.vote_set.polkas == {}
    assert me.state.consensus.locked is None


def test_member_of_a_quorum_that_told_us_otherwise_is_accused() -> None:
    world, me, proposal = start()
    locked(me, world, proposal)
    receive_votes(me, vote(world, 0, PREVOTE, None))
    # We hold the quorum ourselves, and still look at who is in this one.
    blames = receive(me, gossip_messages.wrap_polka(polka(world, proposal.block_id)))
    assert blames == [Reason.EQUIVOCATION]
    waiting = me.state.mempool.oldest(9, 1 << 20)
    assert [entry.envelope.kind for entry in waiting] == [MessageKind.EVIDENCE]


def test_prevotes_of_one_block_for_two_reasons_are_evidence() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    receive_votes(me, vote(world, LIAR, PREVOTE, proposal.block_id))
    second = vote(world, LIAR, PREVOTE, proposal.block_id, extra=1)
    assert receive(me, gossip_messages.wrap_vote(second)) == [Reason.EQUIVOCATION]
    assert me.state.mempool.size == 1


def test_own_prevote_in_a_quorum_that_we_did_not_cast_silences() -> None:
    world, me, proposal = start()
    receive_votes(me, vote(world, 0, PREVOTE, None), vote(world, 1, PREVOTE, None))
    foreign = polka(world, proposal.block_id, voters=(0, ME, LIAR))
    assert Reason.EQUIVOCATION in receive(me, gossip_messages.wrap_polka(foreign))
    assert me.state.copied


def rival(world: SmallChain) -> Proposal:
    """Another block of the proposer of round 0."""
    return first_offer(world.genesis, world.validators[PROPOSER], world.register(9))


def test_block_of_a_quorum_is_taken_beside_the_one_that_we_were_offered() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(rival(world)))
    receive(me, gossip_messages.wrap_proposal(proposal))
    assert me.state.consensus.vote_set.candidate_for(proposal.block_id) is None
    receive(me, gossip_messages.wrap_polka(polka(world, proposal.block_id)))
    assert me.state.status_at_s <= 1.0 + me.settings.status_s / 2
    me.tick(me.state.status_at_s)
    said = STATUS.unpack(sent(me, FrameSubject.STATUS)[-1]).held[0]
    assert (said.proposal, said.polka) == (0, proposal.block_id)
    receive(me, gossip_messages.wrap_proposal(proposal))
    assert me.state.consensus.valid == proposal.block_id


def test_quorum_of_precommits_decides_with_the_block_that_we_hold() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    receive(me, gossip_messages.wrap_commit(commit(world, proposal.block_id)))
    assert me.state.height == 1


def test_quorum_of_precommits_without_the_block_waits_for_it() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(rival(world)))
    receive(me, gossip_messages.wrap_commit(commit(world, proposal.block_id)))
    assert me.state.height == 0
    assert me.state.status_at_s <= 1.0 + me.settings.status_s / 2
    receive(me, gossip_messages.wrap_proposal(proposal))
    (stored,) = me.blocks()
    assert stored.block == BLOCK.unpack(proposal.block)


def test_prevotes_decide_nothing_as_precommits() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    assert (
        receive(me, gossip_messages.wrap_commit(polka(world, proposal.block_id))) != []
    )
    assert me.state.height == 0


def test_who_votes_otherwise_at_the_decided_height_is_shown_why_once() -> None:
    world, me, proposal = start()
    block = BLOCK.unpack(proposal.block)
    receive(me, gossip_messages.wrap_decision(block, commit(world, proposal.block_id)))
    receive_votes(me, vote(world, 0, PRECOMMIT, proposal.block_id, extra=9))
    assert sent(me, FrameSubject.CERTIFICATE) == []
    forged = replace(vote(world, 0, PRECOMMIT, None), voter=1)
    receive_votes(me, forged)
    assert sent(me, FrameSubject.CERTIFICATE) == []
    for _ in range(3):
        receive_votes(me, vote(world, 0, PRECOMMIT, None))
    assert len(sent(me, FrameSubject.CERTIFICATE)) == 1


def test_one_message_begins_no_height_but_what_decides_something() -> None:
    world, me, proposal = start()
    receive_votes(me, vote(world, LIAR, PREVOTE, None))
    empty = SingleValidator(world.genesis, world.validators[PROPOSER])
    empty.tick(world.genesis.heartbeat_s + 0.0)
    (packed,) = sent(empty, FrameSubject.PROPOSAL)
    other = SingleValidator(world.genesis, world.validators[ME])
    receive(other, gossip_messages.frame(FrameSubject.PROPOSAL, packed))
    assert step_of(me) is step_of(other) is RoundStep.NEW_HEIGHT
    receive(me, gossip_messages.wrap_proposal(proposal))
    assert step_of(me) is RoundStep.PREVOTE
    other.tick(world.genesis.heartbeat_s + 0.0)
    assert len(sent(other, FrameSubject.VOTE)) == 1


def test_more_than_f_at_a_height_begin_it() -> None:
    world, me, _ = start()
    receive_votes(me, vote(world, 0, PREVOTE, None))
    assert step_of(me) is RoundStep.NEW_HEIGHT
    receive_votes(me, vote(world, LIAR, PREVOTE, None))
    assert step_of(me) is RoundStep.PROPOSE


def test_quorum_that_decides_nothing_soon_is_passed_on_though_all_agree() -> None:
    world, me, proposal = start()
    locked(me, world, proposal)
    due_s = me.state.share_at_s
    assert me.state.wake_at_s <= due_s < 1.0 + me.settings.timeouts.of_proposal(0)
    me.tick(due_s - 0.01)
    assert sent(me, FrameSubject.POLKA) == []
    me.tick(due_s)
    me.tick(due_s + 0.1)
    assert len(sent(me, FrameSubject.POLKA)) == 1


def test_quorum_that_decided_is_passed_on_no_later() -> None:
    world, me, proposal = start()
    locked(me, world, proposal)
    due_s = me.state.share_at_s
    receive_votes(
        me, *(vote(world, who, PRECOMMIT, proposal.block_id) for who in (0, 1))
    )
    me.tick(due_s)
    assert me.state.height == 1
    assert sent(me, FrameSubject.POLKA) == []
