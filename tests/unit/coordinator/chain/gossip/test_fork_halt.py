"""Two certified blocks of one height stop a validator for good, and name the liars."""

from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip import fork_halt
from starling.coordinator.chain.gossip_messages import (
    FORK,
    ForkProof,
    FrameSubject,
    ValidatorStatus,
)
from starling.coordinator.chain.node.node import (
    BlamePeer,
    SendGossip,
    StoreFork,
    silence,
)
from starling.protocol.chain.blocks import (
    BLOCK,
    CERTIFICATE,
    Block,
    Certificate,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.errors import Reason
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash, H, PublicKey
from tests.unit.coordinator.fixtures.single_validator import (
    SingleValidator,
    first_offer,
)
from tests.unit.coordinator.fixtures.small_chain import SmallChain

PROPOSER = 1
"""Of height 1, round 0."""
ME = 2
OTHER = BlockHash(H(b"other"))


def certificate(
    world: SmallChain,
    block_id: BlockHash,
    voters: tuple[int, ...],
    kind: VoteType = VoteType.PRECOMMIT,
    height: int = 1,
    number: int = 0,
) -> Certificate:
    signed = vote_bytes(world.chain_id, kind, height, number, block_id, 0)
    signatures = tuple(world.validators[who].sign(signed) for who in voters)
    bits = sum(1 << who for who in voters)
    return Certificate(
        height, number, block_id, bits, signatures, (0,) * len(signatures)
    )


def decided() -> tuple[SmallChain, SingleValidator, Block, Certificate]:
    """A validator that decided height 1 with the votes of 0, 1 and 3."""
    world = SmallChain(4)
    offer = first_offer(world.genesis, world.validators[PROPOSER], world.publish())
    block = BLOCK.unpack(offer.block)
    whole = certificate(world, block.header.block_id(), (0, 1, 3))
    me = SingleValidator(world.genesis, world.validators[ME])
    receive(me, gossip_messages.wrap_decision(block, whole))
    assert me.state.height == 1
    return world, me, block, whole


def receive(me: SingleValidator, payload: bytes, now_s: float = 1.0) -> None:
    me.receive(payload, now_s)


def message(topic: FrameSubject, content: bytes) -> bytes:
    return gossip_messages.frame(topic, content)


def halted(me: SingleValidator) -> bool:
    return "stands still" in silence(me.settings, me.state, 1.0)


def stored(me: SingleValidator) -> ForkProof:
    last = me.of(StoreFork)[-1]
    assert isinstance(last, StoreFork)
    return FORK.unpack(last.payload)


def test_second_certificate_of_a_height_halts_and_names_who_signed_both() -> None:
    world, me, _, _ = decided()
    other = certificate(world, OTHER, (0, 2, 3))
    receive(me, message(FrameSubject.CERTIFICATE, CERTIFICATE.pack(other)))
    assert halted(me)
    assert fork_halt.liars(stored(me)) == {0, 3}
    kinds = [type(effect) for effect in me.heard]
    assert kinds.index(StoreFork) < len(kinds) - 1 - kinds[::-1].index(SendGossip)


@pytest.mark.parametrize("topic", ["certificate", "decision"])
def test_same_certificate_again_halts_nobody(topic: str) -> None:
    world, me, block, whole = decided()
    again = certificate(world, whole.block_id, (0, 2, 3))
    payload = message(FrameSubject.CERTIFICATE, CERTIFICATE.pack(again))
    if topic == "decision":
        payload = gossip_messages.wrap_decision(block, again)
    receive(me, payload)
    assert not halted(me)
    assert me.of(BlamePeer) == []


def test_forged_certificate_halts_nobody() -> None:
    world, me, _, _ = decided()
    good = certificate(world, OTHER, (0, 2, 3))
    forged = replace(good, signatures=(*good.signatures[:2], bytes(SIGNATURE_BYTES)))
    few = certificate(world, OTHER, (0, 3))
    for bad in (forged, few):
        receive(me, message(FrameSubject.CERTIFICATE, CERTIFICATE.pack(bad)))
    assert not halted(me)
    assert len(me.of(BlamePeer)) == 2


def test_certified_block_that_does_not_follow_halts() -> None:
    world, me, block, _ = decided()
    header = replace(block.header, height=2, parent=OTHER)
    child = replace(block, header=header)
    whole = certificate(world, header.block_id(), (0, 1, 3), height=2)
    receive(me, gossip_messages.wrap_decision(child, whole))
    assert halted(me)
    assert me.state.height == 1
    assert stored(me).child == header
    assert fork_halt.liars(stored(me)) == frozenset()


def test_halted_validator_neither_votes_nor_decides_also_after_a_restart() -> None:
    world, me, _, _ = decided()
    other = certificate(world, OTHER, (0, 2, 3))
    receive(me, message(FrameSubject.CERTIFICATE, CERTIFICATE.pack(other)))
    proof = stored(me)
    me.settings = replace(me.settings, fork=proof)
    for restarts in (False, True):
        if restarts:
            me.restart(2.0)
        me.submit(world.register(0), now_s=3.0)
        me.tick(100.0)
        assert halted(me)
        assert me.votes() == []
        assert me.state.height == 1


def test_proof_convinces_others_once() -> None:
    world, me, _, whole = decided()
    other = certificate(world, OTHER, (0, 2, 3))
    proof = message(FrameSubject.FORK, FORK.pack(ForkProof(whole, other, None, ())))
    receive(me, proof)
    assert halted(me)
    sent = len(me.of(StoreFork))
    receive(me, proof)
    assert len(me.of(StoreFork)) == sent


@pytest.mark.parametrize("spoil", ["same", "heights", "signature", "polka"])
def test_proof_of_nothing_is_refused(spoil: str) -> None:
    world, me, _, whole = decided()
    other = certificate(world, OTHER, (0, 2, 3))
    kind = VoteType.PREVOTE
    bad = {
        "same": ForkProof(whole, whole, None, ()),
        "heights": ForkProof(
            whole, certificate(world, OTHER, (0, 2, 3), height=2), None, ()
        ),
        "signature": ForkProof(whole, replace(other, round=1), None, ()),
        "polka": ForkProof(
            whole, other, None, (certificate(world, OTHER, (0, 1), kind),)
        ),
    }[spoil]
    receive(me, message(FrameSubject.FORK, FORK.pack(bad)))
    assert not halted(me)
    (blame,) = me.of(BlamePeer)
    assert isinstance(blame, BlamePeer)
    assert blame.reason in {Reason.INVALID_PROOF, Reason.BAD_SIGNATURE}


def test_proof_of_an_old_height_stops_nobody() -> None:
    world = SmallChain(1)
    me = SingleValidator(world.genesis, world.validators[0], block_interval_s=0.0)
    for height in range(fork_halt.RECENT_MAX + 3):
        me.tick(60.0 * (height + 1))
    assert me.state.height == fork_halt.RECENT_MAX + 3
    for height, stale in ((1, True), (4, False)):
        first = certificate(world, BlockHash(H(b"first")), (0,), height=height)
        second = certificate(world, OTHER, (0,), height=height)
        payload = FORK.pack(ForkProof(first, second, None, ()))
        receive(me, message(FrameSubject.FORK, payload), 9e4)
        assert halted(me) != stale


def test_blocks_that_come_fast_do_not_hide_a_fork() -> None:
    world = SmallChain(1)
    me = SingleValidator(world.genesis, world.validators[0], block_interval_s=0.0)
    for height in range(3 * fork_halt.RECENT_MAX):
        me.submit(world.register(height), now_s=0.06 * height)
        me.tick(0.06 * height)
    assert me.state.height == 3 * fork_halt.RECENT_MAX
    first = certificate(world, BlockHash(H(b"first")), (0,), height=2)
    second = certificate(world, OTHER, (0,), height=2)
    payload = FORK.pack(ForkProof(first, second, None, ()))
    receive(me, message(FrameSubject.FORK, payload), 60.0)
    assert halted(me)


def test_heights_that_are_compared_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_halt, "HELD_MAX", fork_halt.RECENT_MAX + 5)
    world = SmallChain(1)
    me = SingleValidator(world.genesis, world.validators[0], block_interval_s=0.0)
    for height in range(2 * fork_halt.RECENT_MAX):
        me.submit(world.register(height), now_s=0.0)
        me.tick(0.0)
    heights = [one.certificate.height for one in me.state.recent]
    assert heights == list(
        range(fork_halt.RECENT_MAX - 4, 2 * fork_halt.RECENT_MAX + 1)
    )


def test_others_prevotes_name_liars_of_different_rounds() -> None:
    world, me, _, whole = decided()
    other = certificate(world, OTHER, (0, 2, 3), number=1)
    receive(me, message(FrameSubject.CERTIFICATE, CERTIFICATE.pack(other)))
    assert fork_halt.liars(stored(me)) == frozenset()
    # They prevoted another block in round 1 as if they had locked nothing in round 0.
    polka = certificate(world, OTHER, (0, 2, 3), VoteType.PREVOTE, number=1)
    proof = ForkProof(whole, other, None, (polka,))
    receive(me, message(FrameSubject.FORK, FORK.pack(proof)))
    assert fork_halt.liars(stored(me)) == {0, 3}


def test_status_on_another_block_is_shown_our_certificate() -> None:
    world, me, _, whole = decided()
    me.sent.clear()
    bare = ValidatorStatus(
        world.validators[3].public, 1, 2, OTHER, 0, (), b"", (), bytes(SIGNATURE_BYTES)
    )
    signature = world.validators[3].sign(bare.signed_bytes(world.chain_id))
    packed = gossip_messages.STATUS.pack(replace(bare, signature=signature))
    receive(me, message(FrameSubject.STATUS, packed), 9.0)
    shown = [gossip_messages.FRAME.unpack(payload) for payload in me.sent]
    contents = [m.content for m in shown if m.subject == FrameSubject.CERTIFICATE]
    assert contents == [CERTIFICATE.pack(whole)]


def proofs(me: SingleValidator, proof: bytes) -> list[PublicKey | None]:
    """To whom it was given."""
    given = [each for each in me.heard if isinstance(each, SendGossip)]
    return [each.to for each in given if each.payload == proof]


def test_proof_goes_to_who_still_speaks_alone_and_ever_more_rarely() -> None:
    world, me, _, _ = decided()
    other = certificate(world, OTHER, (0, 2, 3))
    receive(me, message(FrameSubject.CERTIFICATE, CERTIFICATE.pack(other)))
    proof = message(FrameSubject.FORK, FORK.pack(stored(me)))
    assert proofs(me, proof) == [None]
    me.heard.clear()
    peer = world.validators[3]
    for number in range(60):
        bare = ValidatorStatus(
            peer.public, number + 1, 2, OTHER, 0, (), b"", (), bytes(SIGNATURE_BYTES)
        )
        signature = peer.sign(bare.signed_bytes(world.chain_id))
        content = gossip_messages.STATUS.pack(replace(bare, signature=signature))
        receive(me, message(FrameSubject.STATUS, content), 2.0 + number)
    again = proofs(me, proof)
    assert set(again) == {peer.public}
    # After pauses of 2, 4, 8, 16 and 32 s.
    assert 2 <= len(again) <= 6


def test_prevotes_of_the_last_height_come_back_from_the_journal() -> None:
    world = SmallChain(4)
    proposer = SingleValidator(world.genesis, world.validators[PROPOSER])
    proposer.submit(world.publish())
    proposer.tick(0.0)
    (held,) = proposer.state.consensus.vote_set.proposals.values()
    block_id = held.proposal.block_id
    for kind in VoteType:
        for who in (0, 3):
            one = certificate(world, block_id, (who,), kind)
            vote = Vote(kind, 1, 0, block_id, 0, who, one.signatures[0])
            receive(proposer, gossip_messages.wrap_vote(vote))
    before = proposer.state.recent
    assert len(before[0].polkas) == 1
    proposer.restart(9.0)
    assert proposer.state.recent == before
