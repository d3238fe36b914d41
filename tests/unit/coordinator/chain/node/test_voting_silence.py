"""A validator that may have signed what it does not know of does not sign."""

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.node.node import BlamePeer
from starling.protocol.chain.blocks import Vote, VoteType, vote_bytes
from starling.protocol.errors import Reason
from starling.protocol.ids import BlockHash, H
from tests.unit.coordinator.chain.node.silent_validator import (
    LISTEN_S,
    ME,
    PROPOSER,
    reason,
    receive,
    receive_statuses,
    start,
    without_its_chain,
)
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain


def own_vote(world: SmallChain, block_id: BlockHash | None) -> bytes:
    kind, key = VoteType.PREVOTE, world.validators[ME]
    signature = key.sign(vote_bytes(world.chain_id, kind, 1, 0, block_id, 0))
    return gossip_messages.wrap_vote(Vote(kind, 1, 0, block_id, 0, ME, signature))


def test_validator_listens_before_its_first_vote() -> None:
    _, me, offer = start(listen_s=LISTEN_S)
    receive(me, gossip_messages.wrap_proposal(offer), 1.0)
    assert me.votes() == []
    assert "listens" in reason(me, 1.0)
    assert reason(me, LISTEN_S) == ""


def test_validator_votes_in_what_goes_on_when_it_listened_long_enough() -> None:
    _, me, offer = start(listen_s=LISTEN_S)
    receive(me, gossip_messages.wrap_proposal(offer), LISTEN_S + 1.0)
    assert len(me.votes()) == 1


def test_what_was_heard_in_silence_is_voted_on_when_it_ends() -> None:
    _, me, offer = start(listen_s=LISTEN_S)
    receive(me, gossip_messages.wrap_proposal(offer), 1.0)
    # Longer than a proposal is waited for: no timeout counts in silence.
    me.tick(LISTEN_S - 0.1)
    assert me.votes() == []
    me.tick(LISTEN_S)
    (written,) = me.votes()
    vote = gossip_messages.JOURNAL_ENTRY.unpack(written.payload).vote
    assert vote is not None
    assert vote.block_id == offer.block_id


def test_silent_proposer_proposes_when_silence_ends() -> None:
    world, _, _ = start()
    key = world.validators[PROPOSER]
    proposer = SingleValidator(world.genesis, key, listen_s=LISTEN_S)
    receive_statuses(world, proposer, 0.0)
    proposer.submit(world.publish())
    proposer.tick(1.0)
    assert proposer.votes() == []
    proposer.tick(LISTEN_S)
    entry = gossip_messages.JOURNAL_ENTRY.unpack(proposer.votes()[0].payload)
    assert entry.proposal is not None


def test_silent_proposer_that_was_drawn_into_a_round_begins_it_anew() -> None:
    world, _, _ = start()
    key = world.validators[PROPOSER]
    proposer = SingleValidator(world.genesis, key, listen_s=LISTEN_S)
    receive_statuses(world, proposer, 0.0)
    proposer.submit(world.publish())
    signed = vote_bytes(world.chain_id, VoteType.PREVOTE, 1, 0, None, 0)
    nil = Vote(VoteType.PREVOTE, 1, 0, None, 0, 0, world.validators[0].sign(signed))
    receive(proposer, gossip_messages.wrap_vote(nil), 1.0)
    assert proposer.votes() == []
    proposer.tick(LISTEN_S)
    entry = gossip_messages.JOURNAL_ENTRY.unpack(proposer.votes()[0].payload)
    assert entry.proposal is not None
    assert entry.proposal.round == 0


def test_silent_validator_sleeps_until_it_may_vote() -> None:
    _, me, offer = start(listen_s=LISTEN_S, status_s=100.0)
    receive(me, gossip_messages.wrap_proposal(offer), 1.0)
    assert me.state.wake_at_s == LISTEN_S


def test_silence_leaves_the_journal_s_votes_alone() -> None:
    world, me, offer = start(listen_s=LISTEN_S)
    receive(me, gossip_messages.wrap_proposal(offer), LISTEN_S + 1.0)
    before = list(me.journal)
    me.restart(20.0)
    receive_statuses(world, me, 20.0)
    receive(me, gossip_messages.wrap_proposal(offer), 21.0)
    me.tick(20.0 + LISTEN_S)
    assert me.journal == before


def test_single_validator_need_not_listen() -> None:
    world = SmallChain(1)
    me = SingleValidator(world.genesis, world.validators[0], listen_s=LISTEN_S)
    me.submit(world.publish())
    me.tick(0.0)
    assert me.state.height == 1


@pytest.mark.parametrize("now_s", [1.0, 9.0], ids=["listening", "later"])
def test_own_vote_from_elsewhere_silences_for_good(now_s: float) -> None:
    world, me, offer = start(listen_s=LISTEN_S)
    receive(me, own_vote(world, BlockHash(H(b"other"))), now_s)
    receive(me, gossip_messages.wrap_proposal(offer), 20.0)
    assert me.votes() == []
    assert "somebody else" in reason(me, 20.0)
    (blame,) = me.of(BlamePeer)
    assert isinstance(blame, BlamePeer)
    assert blame.reason is Reason.EQUIVOCATION


def test_votes_of_a_restored_disk_are_learnt_of_while_listening() -> None:
    world, me, offer = start()
    receive(me, gossip_messages.wrap_proposal(offer), 1.0)
    peer = SingleValidator(world.genesis, world.validators[0])
    for payload in (gossip_messages.wrap_proposal(offer), *me.sent):
        receive(peer, payload, 1.0)
    peer.sent.clear()
    restored = SingleValidator(world.genesis, world.validators[ME], listen_s=LISTEN_S)
    restored.tick(2.0)
    for payload in restored.sent:
        receive(peer, payload, 2.1)
    for payload in peer.sent:
        receive(restored, payload, 2.2)
    assert "somebody else" in reason(restored, 2.2)
    restored.tick(LISTEN_S + 1.0)
    assert restored.votes() == []


def test_own_vote_that_the_journal_holds_silences_nobody() -> None:
    world, me, offer = start()
    receive(me, gossip_messages.wrap_proposal(offer), 1.0)
    me.restart(2.0)
    me.tick(2.0)
    receive(me, own_vote(world, offer.block_id), 3.0)
    assert reason(me, 3.0) == ""


def test_own_proposal_from_elsewhere_silences() -> None:
    world, _, offer = start()
    proposer = SingleValidator(world.genesis, world.validators[1])
    receive(proposer, gossip_messages.wrap_proposal(offer), 1.0)
    assert "somebody else" in reason(proposer, 1.0)
    assert proposer.votes() == []


def test_lost_journal_observes_and_follows() -> None:
    world, me, offer = start(votes_from=None)
    receive(me, gossip_messages.wrap_proposal(offer), 1.0)
    assert me.votes() == []
    assert "resume" in reason(me, 1.0)
    for kind in VoteType:
        for who in (0, 1, 3):
            signed = vote_bytes(world.chain_id, kind, 1, 0, offer.block_id, 0)
            signature = world.validators[who].sign(signed)
            vote = Vote(kind, 1, 0, offer.block_id, 0, who, signature)
            receive(me, gossip_messages.wrap_vote(vote), 2.0)
    assert me.state.height == 1
    assert me.votes() == []


def test_chain_behind_the_journal_is_caught_up_with_before_any_vote() -> None:
    world, late, offers, decisions = without_its_chain()
    late.submit(world.register(1), now_s=31.0)
    for now_s in (31.0, 40.0, 60.0):
        late.tick(now_s)
        for offer in offers:
            receive(late, offer, now_s)
    assert late.votes() == []
    assert "height 2" in reason(late, 60.0)
    receive(late, decisions[0], 61.0)
    assert reason(late, 61.0) == ""
    assert late.state.height == 1
    receive(late, decisions[1], 62.0)
    assert late.state.height == 2


def test_operators_height_is_where_voting_begins() -> None:
    world = SmallChain(1)
    silent = SingleValidator(world.genesis, world.validators[0], votes_from=2)
    silent.submit(world.publish())
    silent.tick(0.0)
    assert (silent.state.height, reason(silent, 0.0)) == (0, "votes from height 2")
    voting = SingleValidator(world.genesis, world.validators[0], votes_from=1)
    voting.submit(world.register(0))
    voting.tick(0.0)
    assert voting.state.height == 1
