"""Transactions that enter no block are charged to the coordinator that told of them."""

from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.state import transaction_codec
from starling.coordinator.commit import transaction_submission
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.events import PeerFrameArrived
from starling.coordinator.wire import peer_quota
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import SIGNATURE_BYTES, H
from starling.protocol.wire.envelope import Envelope, MessageKind, sign
from starling.protocol.wire.message_bodies import REGISTER, Register
from tests.unit.coordinator.fixtures.coordinator_member import CoordinatorMember
from tests.unit.coordinator.fixtures.council_genesis import CHAIN_ID, KEYS
from tests.unit.coordinator.fixtures.fleet_board import voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators

LIAR = 3
VOID_MAX = 8


@pytest.fixture(autouse=True)
def few_are_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_quota, "VOID_BURST", float(VOID_MAX))
    monkeypatch.setattr(peer_quota, "VOID_PER_S", 1.0)


def of_nobody(number: int) -> Envelope:
    """Signed, but by a key that nobody invited: the chain refuses it."""
    key = SigningKey(H(b"nobody", number.to_bytes(4)))
    body = REGISTER.pack(Register(key.public))
    return sign(key, CHAIN_ID, MessageKind.REGISTER, 1, body)


def tell(
    council: FourCoordinators, told: Envelope, peer: int = LIAR, broker: int = 0
) -> CoordinatorMember:
    """Lets a coordinator tell the first one of a transaction."""
    member = council.members[0]
    packed = transaction_codec.pack(told)
    payload = gossip_messages.frame(FrameSubject.TRANSACTION, packed)
    member.step(PeerFrameArrived(KEYS[peer].identity, payload, broker), council.now_s)
    return member


def waiting(member: CoordinatorMember) -> int:
    return member.state.ledger.mempool.size


def test_forged_transactions_are_no_longer_looked_at(council: FourCoordinators) -> None:
    council.run(2.0)
    member = council.members[0]
    member.effects.clear()
    forged = replace(of_nobody(0), signature=bytes(SIGNATURE_BYTES))
    for _ in range(VOID_MAX + 5):
        tell(council, forged)
    refused = member.refusals()
    assert refused == ["BAD_SIGNATURE"] * VOID_MAX + ["BUSY"] * 5
    assert member.state.peers[KEYS[LIAR].identity].refused == 5
    # Another peer, and whoever says it is this one at another broker, are heard.
    tell(council, forged, peer=1)
    tell(council, forged, broker=1)
    assert member.refusals()[-2:] == ["BAD_SIGNATURE"] * 2


@pytest.mark.parametrize("broker", [0, 1])
def test_what_the_chain_refuses_is_charged_when_it_is_looked_at(
    council: FourCoordinators, broker: int
) -> None:
    council.run(2.0)
    member = council.members[0]
    for number in range(2 * VOID_MAX):
        tell(council, of_nobody(number), broker=broker)
    assert waiting(member) == 2 * VOID_MAX
    council.run(1.0)
    assert waiting(member) == 0
    member.effects.clear()
    tell(council, of_nobody(100), broker=broker)
    assert member.refusals() == ["BUSY"]
    # What it owes beyond what it may is paid with time.
    council.now_s += 2.0 * VOID_MAX
    tell(council, of_nobody(101), broker=broker)
    assert member.refusals() == ["BUSY"]
    assert waiting(member) == 1


def test_transactions_that_enter_blocks_are_charged_to_nobody(
    council: FourCoordinators,
) -> None:
    """Those who told of boards that joined owe nothing for it."""
    council.open(voters(2 * VOID_MAX))
    council.run(1.0)
    for member in council.members:
        for peer in member.state.peers.values():
            assert all(line.void > VOID_MAX - 2 for line in peer.lines.values())
            assert not peer.refused


def test_what_waits_already_costs_whoever_tells_of_it_nothing(
    council: FourCoordinators,
) -> None:
    council.run(2.0)
    member = council.members[0]
    member.effects.clear()
    for peer in (1, LIAR, LIAR):
        tell(council, of_nobody(1), peer)
    assert waiting(member) == 1
    assert member.refusals() == []
    for peer in (1, LIAR):
        line = member.state.peers[KEYS[peer].identity].lines[0]
        assert line.void == VOID_MAX


def test_who_told_of_what_we_submit_as_well_is_not_charged(
    council: FourCoordinators,
) -> None:
    council.run(2.0)
    told = of_nobody(1)
    member = tell(council, told)
    step = CoordinatorStep(member.settings, member.state, council.now_s, 0)
    transaction_submission.submit(step, told)
    assert step.state.ledger.mempool.size == 1
    assert step.state.peers[KEYS[LIAR].identity].lines[0].void == VOID_MAX
