"""Whatever one of four coordinators says, the others refuse or bear it, and go on."""

import pytest

from starling.broker.link_events import MqttMessage
from starling.coordinator.chain.gossip_messages import FrameSubject, open_frame
from starling.coordinator.chain.state import board_records
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.step.effects import RecordRefusal, SendAnswer
from starling.coordinator.step.events import PeerFrameArrived
from starling.protocol.chain.blocks import VOTE, VoteType
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import Reason
from starling.protocol.ids import DeviceId, H
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import REGISTER, Register
from tests.sim.simulator.garbling_coordinator import Garbler
from tests.sim.simulator.request_forger import RequestForger
from tests.unit.coordinator.fixtures.coordinator_member import CoordinatorMember
from tests.unit.coordinator.fixtures.council_genesis import CHAIN_ID, COUNT, KEYS
from tests.unit.coordinator.fixtures.fleet_board import voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators

LIAR = 3
MESSAGES = 600
SOAK_MESSAGES = 20_000
EVERY = 20
"""Messages between two moments in which time passes and something is to be decided."""


def newcomer(number: int) -> SigningKey:
    return SigningKey(H(b"newcomer", number.to_bytes(4)))


def overhear(council: FourCoordinators, garbler: Garbler) -> None:
    """Lets the liar hear everything, until it begins to lie."""

    def cut(source: int, target: int, message: MqttMessage) -> bool:
        del source, target
        if message.payload not in garbler.heard:
            garbler.heard.append(message.payload)
        return False

    council.cut = cut


def check(member: CoordinatorMember) -> None:
    """What no liar may break: memory stays bounded, nobody honest is accused."""
    state = member.state
    per_source = request_scheduler.WANTED_PER_SOURCE_MAX * COUNT
    assert len(state.wanted) <= request_scheduler.WANTED_MAX + per_source
    assert len(state.parked) <= COUNT
    assert len(state.peers) <= COUNT
    assert not state.ledger.copied
    assert state.ledger.fork is None
    blamed = {
        each.peer
        for each in member.effects
        if isinstance(each, RecordRefusal) and each.reason == Reason.EQUIVOCATION
    }
    assert blamed <= {KEYS[LIAR].identity}


def play(seed: int, messages: int) -> None:
    council = FourCoordinators()
    garbler = Garbler(seed, CHAIN_ID, KEYS[LIAR], LIAR)
    overhear(council, garbler)
    boards = voters(4)
    council.open(boards)
    council.run(3.0)
    for board in boards:
        council.contribute(board, council.heads()[0])
    council.run(2.0)
    # The liar's own core hears on, and its place says other things from now on.
    council.cut = lambda source, target, message: source == LIAR
    honest = council.members[:LIAR]
    before = min(council.heights()[:LIAR])
    told = range(0, messages, EVERY)
    for number in range(messages):
        member = honest[number % len(honest)]
        event = PeerFrameArrived(KEYS[LIAR].identity, garbler.say(), number % 7 == 0)
        member.step(event, council.now_s)
        check(member)
        if number in told:
            for each in honest:
                each.effects.clear()
            body = REGISTER.pack(Register(newcomer(number).public))
            council.operate(MessageKind.REGISTER, body)
    council.run(90.0)
    heights = council.heights()[:LIAR]
    assert min(heights) >= before + 3, (seed, heights)
    assert max(heights) - min(heights) <= 1, (seed, heights)
    for each in honest:
        tree = each.state.ledger.tree
        enrolled = [board_records.board(tree, newcomer(n).identity) for n in told]
        assert None not in enrolled, seed


@pytest.mark.parametrize("seed", range(3))
def test_three_go_on_whatever_the_fourth_says(seed: int) -> None:
    play(seed, MESSAGES)


def ends_a_height(payload: bytes) -> bool:
    """True for what, passed on or altered, could decide something."""
    found = open_frame(payload)
    if found.subject == FrameSubject.VOTE:
        return VOTE.unpack(found.content).vote_type == VoteType.PRECOMMIT
    return found.subject in (FrameSubject.CERTIFICATE, FrameSubject.DECISION)


def play_within_a_height(seed: int, messages: int) -> None:
    """The liar speaks while quorums of prevotes stand and nothing is decided."""
    council = FourCoordinators()
    garbler = Garbler(seed, CHAIN_ID, KEYS[LIAR], LIAR)
    overhear(council, garbler)
    council.open([])
    council.run(3.0)
    before = min(council.heights()[:LIAR])
    garbler.heard.clear()
    overheard = council.cut

    def cut(source: int, target: int, message: MqttMessage) -> bool:
        return (
            ends_a_height(message.payload)
            or overheard(source, target, message)
            or source == LIAR
        )

    council.cut = cut
    council.operate(MessageKind.REGISTER, REGISTER.pack(Register(newcomer(0).public)))
    council.run(2.0)
    honest = council.members[:LIAR]
    assert all(m.state.ledger.consensus.vote_set.polkas_held(3) for m in honest)
    polka = FrameSubject.POLKA
    quorums = [said for said in garbler.heard if open_frame(said).subject == polka]
    assert quorums, "who decides nothing is shown the prevotes"
    garbler.heard += quorums * (len(garbler.heard) // len(quorums))
    for number in range(messages):
        member = honest[number % len(honest)]
        event = PeerFrameArrived(KEYS[LIAR].identity, garbler.say(), number % 7 == 0)
        member.step(event, council.now_s)
        check(member)
    assert max(council.heights()[:LIAR]) == before
    council.cut = lambda source, target, message: source == LIAR
    council.run(60.0)
    assert min(council.heights()[:LIAR]) > before, seed
    for each in honest:
        tree = each.state.ledger.tree
        assert board_records.board(tree, newcomer(0).identity) is not None, seed


@pytest.mark.parametrize("seed", range(3))
def test_three_end_a_height_whatever_the_fourth_says_within_it(seed: int) -> None:
    play_within_a_height(seed, MESSAGES)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 110))
def test_three_end_a_height_whatever_is_said_for_long(seed: int) -> None:
    play_within_a_height(seed, SOAK_MESSAGES)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 120))
def test_three_go_on_whatever_the_fourth_says_for_long(seed: int) -> None:
    play(seed, SOAK_MESSAGES)


@pytest.mark.parametrize("seed", range(3))
def test_requests_that_somebody_repeats_or_forges_cost_whom_they_name_nothing(
    seed: int,
) -> None:
    council, forger = FourCoordinators(), RequestForger(seed, CHAIN_ID, KEYS[LIAR])
    said = 0

    def overhear(source: int, target: int, message: MqttMessage) -> bool:
        if source != LIAR:
            forger.overhear(message.payload)
        return False

    council.cut = overhear
    boards = voters(4)
    council.open(boards)
    for _ in range(4):
        for place, board in enumerate(boards):
            (lease, *_) = council.check_in(board, council.heads()[0])
            # The others ask for it.
            council.send(board, board.upload(lease), to={place % LIAR})
        for _ in range(200):
            named, asked, payload = forger.say()
            (member,) = (each for each in council.members if _id(each) == asked)
            before = member.state.peers[named]
            effects = member.step(PeerFrameArrived(named, payload, 1), council.now_s)
            after = member.state.peers[named]
            assert not [e for e in effects if isinstance(e, SendAnswer)]
            assert after.requests == before.requests
            assert after.quota.asks == before.quota.asks
            assert after.quota.answers == before.quota.answers
            blamed = [e.peer for e in effects if isinstance(e, RecordRefusal)]
            assert blamed in ([], [None])
            said += 1
        council.settle()
        council.run(3.0)
    assert said == 800
    assert len(forger.heard) > 8
    (head,) = set(council.heads())
    assert head >= 4


def _id(member: CoordinatorMember) -> DeviceId:
    return KEYS[member.index].identity
