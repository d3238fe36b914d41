"""A status counts once, and only if it is the latest of its sender."""

from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import (
    STATUS,
    FrameSubject,
    ValidatorStatus,
)
from starling.coordinator.chain.node.node import SendGossip, silence
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash, PublicKey
from starling.protocol.schema.msgpack_codec import UINT_MAX
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain

ME, PEER = 2, 3


def start(**options: object) -> tuple[SmallChain, SingleValidator]:
    world = SmallChain(4)
    return world, SingleValidator(world.genesis, world.validators[ME], **options)


def status(world: SmallChain, counter: int, who: int = PEER, **fields: object) -> bytes:
    key, tip = world.validators[who], BlockHash(world.chain_id)
    public = PublicKey(key.public)
    bare = ValidatorStatus(
        public, counter, 1, tip, 0, (), b"", (), bytes(SIGNATURE_BYTES)
    )
    bare = replace(bare, **fields)  # type: ignore[arg-type]  # a test's fields
    signed = replace(bare, signature=key.sign(bare.signed_bytes(world.chain_id)))
    return gossip_messages.frame(FrameSubject.STATUS, STATUS.pack(signed))


def receive(me: SingleValidator, payload: bytes, now_s: float = 1.0) -> None:
    me.receive(payload, now_s)


def said(me: SingleValidator) -> list[ValidatorStatus]:
    messages = [gossip_messages.FRAME.unpack(payload) for payload in me.sent]
    packed = [one.content for one in messages if one.subject == FrameSubject.STATUS]
    return [STATUS.unpack(content) for content in packed]


def test_counter_grows_with_each_status_and_over_a_start() -> None:
    _, me = start()
    counters = []
    for now_s in range(3):
        me.tick(float(now_s))
    counters += [one.counter for one in said(me)]
    me.restart(3.0)
    me.tick(3.0)
    counters += [one.counter for one in said(me)]
    assert counters == sorted(set(counters))
    assert len(counters) == 4


@pytest.mark.parametrize("counter", [4, 5], ids=["older", "same"])
def test_old_status_changes_nothing(counter: int) -> None:
    world, me = start()
    receive(me, status(world, 5, height=1), 1.0)
    before = me.state
    receive(me, status(world, counter, height=3, asks=bytes(8)), 9.0)
    after = me.state
    assert after.peer_gaps == before.peer_gaps
    assert after.heard[world.validators[PEER].public].counter == 5
    receive(me, status(world, 6), 9.1)
    assert me.state.peer_gaps[world.validators[PEER].public].at_s == 9.1


def test_who_counts_from_lower_is_shown_its_latest_and_goes_on_from_there() -> None:
    world, me = start()
    latest = status(world, 7 << 32)
    receive(me, latest, 1.0)
    peer = SingleValidator(world.genesis, world.validators[PEER])
    peer.tick(0.0)
    (lower,) = said(peer)
    assert lower.counter < 7 << 32
    me.sent.clear()
    for _ in range(20):
        receive(me, gossip_messages.frame(FrameSubject.STATUS, STATUS.pack(lower)), 2.0)
    assert me.sent.count(latest) == 1
    receive(peer, latest, 2.1)
    peer.tick(3.0)
    following = said(peer)[-1]
    assert following.counter == (7 << 32) + 1
    receive(me, gossip_messages.frame(FrameSubject.STATUS, STATUS.pack(following)), 3.1)
    assert me.state.heard[world.validators[PEER].public].counter == following.counter


def test_forged_status_of_our_own_moves_no_counter() -> None:
    world, me = start()
    forged = STATUS.unpack(
        gossip_messages.FRAME.unpack(status(world, 9 << 32, PEER)).content
    )
    ours = replace(forged, validator=PublicKey(world.validators[ME].public))
    before = me.state.status_counter
    receive(me, gossip_messages.frame(FrameSubject.STATUS, STATUS.pack(ours)))
    assert me.state.status_counter <= before + 1
    assert me.of(SendGossip)


def test_last_counter_there_is_ends_nobody_but_the_voting_of_its_key() -> None:
    world, me = start()
    receive(me, status(world, UINT_MAX, ME), 1.0)
    me.sent.clear()
    for now_s in range(2, 6):
        me.tick(float(now_s))
    assert said(me) == []
    assert me.state.status_counter == UINT_MAX
    assert "somebody else votes" in silence(me.settings, me.state, 9.0)


def test_counter_that_ends_by_itself_says_nothing_more() -> None:
    world, me = start()
    receive(me, status(world, UINT_MAX - 1, ME), 1.0)
    for now_s in range(2, 6):
        me.tick(float(now_s))
    assert [one.counter for one in said(me)] == [UINT_MAX]
    assert silence(me.settings, me.state, 9.0) == ""


def test_nonce_is_asked_until_level_and_repeated_by_who_hears_it() -> None:
    world, me = start(listen_s=1.0)
    peer = SingleValidator(world.genesis, world.validators[PEER])
    me.tick(0.0)
    (asking,) = said(me)
    assert asking.asks == me.settings.nonce
    receive(peer, me.sent[-1], 0.1)
    peer.tick(1.0)
    answer = said(peer)[-1]
    assert answer.answers == (me.settings.nonce,)
    receive(me, peer.sent[-1], 1.1)
    assert me.state.told == {world.validators[PEER].public: 1}


@pytest.mark.parametrize("answers", [(), (bytes(8),)], ids=["none", "other"])
def test_status_from_before_our_start_counts_for_nothing(
    answers: tuple[bytes, ...],
) -> None:
    world, me = start(listen_s=1.0)
    for who in (0, 1, 3):
        receive(me, status(world, 5, who, answers=answers))
    assert me.state.told == {}
    assert not me.state.caught_up
    for who in (0, 1, 3):
        receive(me, status(world, 6, who, answers=(me.settings.nonce,)), 2.0)
    assert me.state.caught_up


def test_nonce_of_another_length_is_refused() -> None:
    world, me = start()
    receive(me, status(world, 5, asks=b"x"))
    assert me.state.heard == {}
