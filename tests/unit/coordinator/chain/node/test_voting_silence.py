"""A validator that may have signed what it does not know of does not sign."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.node.node import BlamePeer, silence
from starling.protocol.chain.blocks import (
    PROPOSAL,
    Proposal,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.chain.genesis import FaultModel
from starling.protocol.errors import Reason
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash, H
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.unit.coordinator.fixtures.small_genesis import (
    STRANGER,
    genesis,
    validator_of,
)

PROPOSER = 1
"""Of height 1, round 0."""
ME = 2
LISTEN_S = 5.0


def start(**options: object) -> tuple[SmallChain, SingleValidator, Proposal]:
    """A world, ourselves, and what the proposer of height 1 offers."""
    world = SmallChain(4)
    proposer = SingleValidator(world.genesis, world.validators[PROPOSER])
    proposer.submit(world.publish())
    proposer.tick(0.0)
    messages = [gossip_messages.FRAME.unpack(payload) for payload in proposer.sent]
    (offer,) = [
        m.content
        for m in messages
        if m.subject == gossip_messages.FrameSubject.PROPOSAL
    ]
    me = SingleValidator(world.genesis, world.validators[ME], **options)
    receive_statuses(world, me, 0.0)
    return world, me, PROPOSAL.unpack(offer)


def status(
    world: SmallChain, who: int, height: int, counter: int, answers: tuple[bytes, ...]
) -> bytes:
    """A validator says which height it decides."""
    key, unsigned = world.validators[who], bytes(SIGNATURE_BYTES)
    tip = BlockHash(world.chain_id)
    said = gossip_messages.ValidatorStatus(
        key.public, counter, height, tip, 0, (), b"", answers, unsigned
    )
    signed = replace(said, signature=key.sign(said.signed_bytes(world.chain_id)))
    return gossip_messages.frame(
        gossip_messages.FrameSubject.STATUS, gossip_messages.STATUS.pack(signed)
    )


def receive_statuses(
    world: SmallChain,
    me: SingleValidator,
    now_s: float,
    others: Sequence[int] = (0, 3),
    height: int = 1,
) -> None:
    for who in others:
        say(world, me, who, height, now_s)


def say(
    world: SmallChain, me: SingleValidator, who: int, height: int, now_s: float
) -> None:
    """A validator that has heard us since our start says which height it decides."""
    counter = int(1000 * now_s) + height
    answers = (me.settings.nonce,)
    receive(me, status(world, who, height, counter, answers), now_s)


def own_vote(world: SmallChain, block_id: BlockHash | None) -> bytes:
    kind, key = VoteType.PREVOTE, world.validators[ME]
    signature = key.sign(vote_bytes(world.chain_id, kind, 1, 0, block_id, 0))
    return gossip_messages.wrap_vote(Vote(kind, 1, 0, block_id, 0, ME, signature))


def receive(me: SingleValidator, payload: bytes, now_s: float) -> None:
    me.receive(payload, now_s)


def reason(me: SingleValidator, now_s: float) -> str:
    return silence(me.settings, me.state, now_s)


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


def _without_its_chain() -> tuple[
    SmallChain, SingleValidator, list[bytes], list[bytes]
]:
    """A validator that decided two heights, with the last entry of its journal.

    Returns:
      With it the proposals of both heights, and their decisions.
    """
    world = SmallChain(4)
    running = [SingleValidator(world.genesis, key) for key in world.validators]
    heard: list[bytes] = []
    for height, envelope in enumerate((world.publish(), world.register(0)), start=1):
        now_s = 10.0 * height
        for one in running:
            one.submit(envelope, now_s=now_s)
            one.tick(now_s)
        while any(one.sent for one in running):
            for sender in running:
                payloads, sender.sent = sender.sent, []
                heard += payloads
                for other in running:
                    if other is not sender:
                        for payload in payloads:
                            receive(other, payload, now_s)
    me = running[ME]
    assert me.state.height == 2
    decisions = [
        gossip_messages.wrap_decision(effect.block, effect.certificate)
        for effect in me.blocks()
    ]
    late = SingleValidator(world.genesis, world.validators[ME])
    # As the journal is after it was rewritten: votes of durable heights are gone.
    late.journal = me.journal[-1:]
    late.restart(30.0)
    topics = [
        (gossip_messages.FRAME.unpack(payload).subject, payload) for payload in heard
    ]
    offers = [
        payload
        for topic, payload in topics
        if topic == gossip_messages.FrameSubject.PROPOSAL
    ]
    return world, late, offers, decisions


def test_chain_behind_the_journal_is_caught_up_with_before_any_vote() -> None:
    world, late, offers, decisions = _without_its_chain()
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


@pytest.mark.parametrize("model", list(FaultModel), ids=lambda model: model.name)
@pytest.mark.parametrize("validators", range(2, 21))
def test_level_never_waits_for_more_than_a_quorum_has_besides_us(
    validators: int, model: FaultModel
) -> None:
    # A crash-only chain begins with 2 or 3 and may grow.
    validator = replace(validator_of(genesis(validators)), fault_model=model)
    assert validator.peers_to_reach <= validator.quorum - 1
    meets_every_quorum = (
        validator.peers_to_reach + validator.quorum - 1 > validators - 1
    )
    odd_majority = model is FaultModel.CRASH and validators % 2 == 1
    assert meets_every_quorum is not odd_majority


def unheard(**options: object) -> tuple[SmallChain, SingleValidator, bytes]:
    """Ourselves after the listening, with an offer to vote on, and nothing heard."""
    world, _, offer = start()
    me = SingleValidator(
        world.genesis, world.validators[ME], listen_s=LISTEN_S, **options
    )
    return world, me, gossip_messages.wrap_proposal(offer)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([], id="nobody"),
        pytest.param([(0, 1)], id="one"),
        pytest.param([(0, 1), (0, 1)], id="one-twice"),
        pytest.param([(0, 1), (ME, 1)], id="we-ourselves"),
        pytest.param([(0, 1), (3, 2)], id="one-is-ahead"),
        pytest.param([(0, 9), (1, 2), (3, 9)], id="all-ahead"),
    ],
)
def test_validator_that_too_few_are_level_with_stays_silent(
    told: list[tuple[int, int]],
) -> None:
    world, me, offer = unheard()
    for number, (who, height) in enumerate(told):
        say(world, me, who, height, 1.0 + number / 8)
    receive(me, offer, LISTEN_S + 1.0)
    me.tick(LISTEN_S + 60.0)
    assert me.votes() == []
    assert "old backup" in reason(me, LISTEN_S + 60.0)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([(0, 1), (1, 1)], id="level"),
        pytest.param([(3, 9), (0, 1), (1, 1)], id="level-and-a-liar"),
        pytest.param([(0, 1), (1, 1), (0, 5), (1, 5)], id="level-then-ahead"),
        pytest.param([(0, 5), (1, 5), (0, 1), (1, 1)], id="claims-withdrawn"),
    ],
)
def test_validator_votes_once_enough_are_level_with_it(
    told: list[tuple[int, int]],
) -> None:
    world, me, offer = unheard()
    for number, (who, height) in enumerate(told):
        say(world, me, who, height, 1.0 + number / 8)
    receive(me, offer, LISTEN_S + 1.0)
    assert len(me.votes()) == 1


def test_silence_that_a_status_ends_is_over_with_the_next_step() -> None:
    world, me, offer = unheard(status_s=100.0)
    receive(me, offer, 1.0)
    now_s = LISTEN_S + 20.0
    receive_statuses(world, me, now_s)
    assert me.votes() == []
    assert me.state.wake_at_s == now_s
    me.tick(now_s)
    assert len(me.votes()) == 1


def test_level_holds_until_the_next_start() -> None:
    world, me, offer = unheard()
    receive_statuses(world, me, 1.0)
    receive_statuses(world, me, 3.0, others=(0, 1, 3), height=9)
    assert reason(me, LISTEN_S) == ""
    me.restart(20.0)
    receive(me, offer, 20.0 + LISTEN_S)
    assert me.votes() == []


def test_old_backup_of_chain_and_journal_catches_up_and_listens_again() -> None:
    world, _, offers, decisions = _without_its_chain()
    me = SingleValidator(world.genesis, world.validators[ME], listen_s=LISTEN_S)
    receive_statuses(world, me, 1.0, height=3)
    for offer in offers:
        receive(me, offer, 20.0)
    assert "old backup" in reason(me, 20.0)
    receive(me, decisions[0], 20.0)
    assert "listens" in reason(me, 20.0)
    assert "old backup" in reason(me, 20.0 + LISTEN_S)
    receive(me, decisions[1], 30.0)
    assert me.votes() == []
    assert "listens" in reason(me, 30.0)
    assert reason(me, 30.0 + LISTEN_S) == ""


def test_chain_that_runs_on_leaves_nobody_silent() -> None:
    world, _, _, decisions = _without_its_chain()
    me = SingleValidator(world.genesis, world.validators[ME], listen_s=LISTEN_S)
    receive_statuses(world, me, 1.0, height=2)
    receive_statuses(world, me, 2.0, height=40)
    receive(me, decisions[0], 3.0)
    # At height 2 when others are far beyond 40, but all that we may have signed is
    # of height 2 or before.
    assert reason(me, 3.0 + LISTEN_S) == ""


def test_one_of_three_that_only_crash_waits_for_one_other() -> None:
    world = SmallChain(3)
    crash = genesis(3, FaultModel.CRASH)
    world.genesis, world.chain_id = crash, crash.chain_id()
    me = SingleValidator(world.genesis, world.validators[ME], listen_s=LISTEN_S)
    me.tick(LISTEN_S)
    assert "1 more" in reason(me, LISTEN_S)
    say(world, me, 0, 1, LISTEN_S)
    assert reason(me, LISTEN_S) == ""


def test_observer_is_level_before_it_becomes_a_validator() -> None:
    world = SmallChain(4)
    me = SingleValidator(world.genesis, STRANGER, listen_s=LISTEN_S)
    for who in (0, 1, 3):
        receive(me, status(world, who, 1, 5, ()), 1.0)
    assert not me.state.caught_up
    receive_statuses(world, me, 2.0)
    assert me.state.caught_up
