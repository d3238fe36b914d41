"""Who provably signed two things is marked on every chain, once."""

from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.state import board_records, task_records
from starling.coordinator.chain.state.overlay import StateOverlay
from starling.protocol.chain.blocks import (
    PROPOSAL,
    Proposal,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.chain.board_statement import TaskProgress
from starling.protocol.chain.evidence import (
    AGE_HEIGHTS_MAX,
    AGE_VERSIONS_MAX,
    EVIDENCE,
    Evidence,
    Offence,
    duplicate_updates,
    duplicate_votes,
)
from starling.protocol.errors import Reason
from starling.protocol.ids import BlockHash, H, Version
from starling.protocol.wire.envelope import Envelope, MessageKind
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import STRANGER, board_key

A, B = BlockHash(H(b"A")), BlockHash(H(b"B"))
LIAR = 2


def vote(world: SmallChain, block_id: BlockHash | None, height: int = 1) -> Vote:
    kind, key = VoteType.PREVOTE, world.validators[LIAR]
    signature = key.sign(vote_bytes(world.chain_id, kind, height, 0, block_id, 0))
    return Vote(kind, height, 0, block_id, 0, LIAR, signature)


def accusation(world: SmallChain, evidence: Evidence) -> Envelope:
    """Signed by somebody without any role: the signatures inside count."""
    return world.sign(STRANGER, MessageKind.EVIDENCE, EVIDENCE.pack(evidence))


def double_vote(world: SmallChain, height: int = 1) -> Envelope:
    votes = vote(world, A, height), vote(world, B, height)
    return accusation(world, duplicate_votes(*votes))


def test_double_vote_marks_the_validator() -> None:
    world = opened(validators=4)
    world.must(double_vote(world))
    fault = board_records.fault(world.tree, world.validators[LIAR].public)
    assert fault is not None
    assert (fault.offence, fault.height) == (Offence.DUP_VOTE, world.height)


def test_double_update_marks_the_board() -> None:
    world = opened()
    updates = world.update(0), world.update(0, pledge=32)
    world.must(accusation(world, duplicate_updates(*updates)))
    assert board_records.fault(world.tree, board_key(0).public) is not None
    assert board_records.fault(world.tree, board_key(1).public) is None


def test_second_conviction_is_refused() -> None:
    world = opened(validators=4)
    world.must(double_vote(world))
    assert world.do(double_vote(world)).code == Reason.ALREADY_KNOWN


def test_evidence_against_a_stranger_is_refused() -> None:
    world = opened()
    updates = [replace(world.update(0), sender=STRANGER.public) for _ in range(2)]
    signed = [
        world.sign(STRANGER, MessageKind.UPDATE, update.body) for update in updates
    ]
    result = world.do(accusation(world, duplicate_updates(*signed)))
    assert result.code == Reason.NOT_ENROLLED


@pytest.mark.parametrize(
    ("age", "code"), [(AGE_HEIGHTS_MAX, 0), (AGE_HEIGHTS_MAX + 1, Reason.STALE)]
)
def test_old_evidence_is_refused(age: int, code: int) -> None:
    world = opened(validators=4)
    world.height = 5
    world.mark()
    world.height += age
    assert world.do(double_vote(world, height=5)).code == code


@pytest.mark.parametrize(
    ("age", "code"),
    [(-1, 0), (0, 0), (AGE_VERSIONS_MAX, 0), (AGE_VERSIONS_MAX + 1, Reason.STALE)],
)
def test_evidence_against_a_board_is_as_old_as_its_base(age: int, code: int) -> None:
    world = opened()
    twice = world.double_update(0, base=7)
    draft = StateOverlay(world.tree)
    task_records.PROGRESS.put(draft, TaskProgress(Version(7 + age), 0, 0, 0), 0)
    world.tree = world.tree.update(draft.changes)
    assert world.do(twice).code == code


@pytest.mark.parametrize(
    ("since", "code"), [(AGE_HEIGHTS_MAX, 0), (AGE_HEIGHTS_MAX + 1, Reason.STALE)]
)
def test_evidence_against_a_revoked_board_ends_when_its_deposit_is_free(
    since: int, code: int
) -> None:
    world = opened()
    world.must(world.revoke(0))
    world.mark()
    world.height += since
    assert world.do(world.double_update(0)).code == code


def test_evidence_that_proves_nothing_is_refused() -> None:
    world = opened(validators=4)
    other = replace(vote(world, A), vote_type=VoteType.PRECOMMIT)
    same = vote(world, A), other
    result = world.do(accusation(world, duplicate_votes(*same)))
    assert result.code == Reason.INVALID_PROOF
    assert (
        world.do(world.sign(STRANGER, MessageKind.EVIDENCE, b"")).code
        == Reason.MALFORMED
    )


def receive(running: SingleValidator, *payloads: bytes) -> None:
    for payload in payloads:
        running.receive(payload, 1.0)


def waiting(running: SingleValidator) -> list[Evidence]:
    entries = running.state.mempool.oldest(100, 1 << 20)
    kept = [entry.envelope for entry in entries]
    return [EVIDENCE.unpack(e.body) for e in kept if e.kind == MessageKind.EVIDENCE]


def test_validator_that_hears_both_votes_accuses_once() -> None:
    world = SmallChain(4)
    me = SingleValidator(world.genesis, world.validators[0])
    receive(
        me,
        *(
            gossip_messages.wrap_vote(vote(world, block_id))
            for block_id in (A, B, None)
        ),
    )
    assert waiting(me) == [duplicate_votes(vote(world, A), vote(world, B))]


def proposals(world: SmallChain) -> list[Proposal]:
    """Two of the proposer of height 1 round 0, on either side of a restart."""
    offers = []
    for number in range(2):
        proposer = SingleValidator(world.genesis, world.validators[1])
        proposer.submit(world.register(number))
        proposer.tick(0.0)
        messages = [gossip_messages.FRAME.unpack(payload) for payload in proposer.sent]
        packed = [
            m.content
            for m in messages
            if m.subject == gossip_messages.FrameSubject.PROPOSAL
        ]
        offers.append(PROPOSAL.unpack(packed[0]))
    return offers


def test_validator_that_hears_both_proposals_accuses_once() -> None:
    world = SmallChain(4)
    me = SingleValidator(world.genesis, world.validators[0])
    first, second = proposals(world)
    receive(
        me,
        *(
            gossip_messages.wrap_proposal(offer)
            for offer in (first, first, second, second)
        ),
    )
    (evidence,) = waiting(me)
    assert evidence.offence == Offence.DUP_PROPOSAL
    vote_set = me.state.consensus.vote_set
    assert vote_set.proposals[0].proposal == first
    assert vote_set.rivals[0].block == b""


def test_forged_second_proposal_accuses_nobody() -> None:
    world = SmallChain(4)
    me = SingleValidator(world.genesis, world.validators[0])
    first, second = proposals(world)
    forged = replace(second, signature=first.signature)
    receive(
        me, gossip_messages.wrap_proposal(first), gossip_messages.wrap_proposal(forged)
    )
    assert waiting(me) == []


def test_conviction_ends_up_in_a_block() -> None:
    world = SmallChain(1)
    running = SingleValidator(world.genesis, world.validators[0])
    running.submit(world.register(0))
    running.tick(0.0)
    updates = world.update(0), world.update(0, pledge=32)
    running.submit(accusation(world, duplicate_updates(*updates)), now_s=1.0)
    running.tick(1.0)
    assert board_records.fault(running.state.tree, board_key(0).public) is not None
