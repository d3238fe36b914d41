"""A fifth one learns, is level, and decides; who was removed can do nothing."""

from dataclasses import replace

import pytest

from benchmarks.harness.synthetic_chain import SyntheticBlock, SyntheticChain, put
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.node.node import SendGossip
from starling.coordinator.cli.status_text import _own_rows
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.health.consensus_status import consensus as status_of
from starling.coordinator.peers.directory import (
    is_coordinator,
    is_learner,
    may_speak,
    name_of,
)
from starling.coordinator.step.effects import SendAnswer
from starling.coordinator.step.events import PeerFrameArrived
from starling.coordinator.step.state import PendingRequest
from starling.coordinator.wire.frames import (
    GIVEN_BLOCKS,
    BlocksAnswer,
    blocks_key,
)
from starling.protocol.chain.genesis import Validator
from starling.protocol.chain.governance import (
    MOTION,
    VALIDATOR_CHANGE,
    GovernanceProposal,
    ValidatorChange,
)
from starling.protocol.chain.light_client import TrustedState, pin
from starling.protocol.ids import BlockHash, H
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import (
    LEARNER,
    PRESENT,
    LearnerChange,
    Present,
)
from tests.unit.coordinator.fixtures.coordinator_member import CoordinatorMember
from tests.unit.coordinator.fixtures.council_genesis import (
    ALL_OPENING,
    CHAIN_ID,
    GENESIS,
    KEYS,
    NEWCOMER,
)
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard, voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.peer_frames import request_frame
from tests.unit.coordinator.fixtures.single_coordinator import OPERATOR

GONE = KEYS[3]
WEST = Validator(NEWCOMER.public, ALL_OPENING[4].public, "west")


@pytest.fixture
def boards(council: FourCoordinators) -> list[FleetBoard]:
    made = voters(2)
    council.open(made)
    return made


def carry(council: FourCoordinators, number: int, what: ValidatorChange) -> None:
    content = VALIDATOR_CHANGE.pack(what)
    motion = GovernanceProposal(MessageKind.VALSET, number, 1 << 20, 0, content)
    for key in KEYS[:3]:
        motion = motion.approved(key, CHAIN_ID)
    council.operate(MessageKind.VALSET, MOTION.pack(motion))


def decides(member: CoordinatorMember) -> bool:
    return member.state.ledger.validator.index is not None


def admit(council: FourCoordinators, admitted: int = 1) -> None:
    body = LearnerChange(admitted, WEST.public, WEST.name)
    council.operate(MessageKind.LEARNER, LEARNER.pack(body))


def grow(
    council: FourCoordinators, boards: list[FleetBoard], versions: int, first: int = 0
) -> None:
    for version in range(first, first + versions):
        for board in boards:
            council.contribute(board, version, to=set(range(4)))
        council.run(2.0)


def test_learner_is_level_before_it_counts(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    grow(council, boards, 2)
    assert council.heights()[0] > 5
    west = council.join()
    council.run(3.0)
    # Nobody admitted it: it hears, and gets nothing.
    assert west.state.ledger.height == 0
    assert NEWCOMER.identity not in council.members[0].state.peers

    admit(council)
    council.run(5.0)
    ledger = council.members[0].state.ledger
    assert is_learner(ledger, NEWCOMER.identity)
    assert not is_coordinator(ledger, NEWCOMER.identity)
    assert west.state.ledger.height == ledger.height
    assert council.members[0].state.peers[NEWCOMER.identity].height == ledger.height + 1
    assert ledger.validator.count == 4
    assert not decides(west)
    assert not west.votes.entries
    assert name_of(ledger, NEWCOMER.identity) == "west"

    rounds = council.members[0].state.rounds
    carry(council, 0, ValidatorChange(WEST, None))
    grow(council, boards, 2, first=2)
    assert [one.state.ledger.validator.count for one in council.members] == [5] * 5
    assert len(set(council.heights())) == 1
    assert decides(west)
    assert len(west.votes.entries) > 0
    # It missed no turn.
    assert council.members[0].state.rounds == rounds


def test_learner_only_asks_and_says_where_it_is(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    del boards
    west = council.join()
    admit(council)
    council.run(2.0)
    chief = council.members[0]
    chief.effects.clear()
    envelope = sign(
        NEWCOMER, CHAIN_ID, MessageKind.PRESENT, 1, PRESENT.pack(Present(1))
    )
    told = gossip_messages.frame(FrameSubject.TRANSACTION, ENVELOPE.pack(envelope))
    for frame in (
        told,
        gossip_messages.frame(FrameSubject.CHUNK, b""),
        gossip_messages.frame(FrameSubject.WHOLE, b"anything"),
    ):
        event = PeerFrameArrived(NEWCOMER.identity, frame)
        chief.step(event, council.now_s)
    assert chief.refusals() == ["NOT_AUTHORISED"] * 3
    assert west.state.ledger.validator.index is None


def test_learner_that_says_to_be_far_ahead_is_asked_nothing(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    del boards
    council.join()
    admit(council)
    council.run(2.0)
    chief = council.members[0]
    tip, unsigned = BlockHash(H(b"tip")), bytes(64)
    known = chief.state.ledger.heard[NEWCOMER.public].counter
    status = gossip_messages.ValidatorStatus(
        NEWCOMER.public, known + 1, 1 << 40, tip, 0, (), b"", (), unsigned
    )
    signature = NEWCOMER.sign(status.signed_bytes(CHAIN_ID))
    packed = gossip_messages.STATUS.pack(replace(status, signature=signature))
    message = gossip_messages.frame(FrameSubject.STATUS, packed)
    frame = message
    chief.step(PeerFrameArrived(NEWCOMER.identity, frame), council.now_s + 1.0)
    assert chief.state.wanted == {}


def test_learner_is_not_level_by_the_status_of_somebody_else(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    grow(council, boards, 1)
    chief, west = council.members[0], council.join()
    west.up = False
    admit(council)
    told = [one for one in council.members[1].effects if isinstance(one, SendGossip)]
    (frame, *_) = [
        one.payload
        for one in told[::-1]
        if gossip_messages.subject_of(one.payload) is FrameSubject.STATUS
    ]
    chief.step(PeerFrameArrived(NEWCOMER.identity, frame), council.now_s)
    assert chief.state.peers[NEWCOMER.identity].height == 0


def asks(council: FourCoordinators, who: CoordinatorMember, key: bytes) -> list[object]:
    """What member 0 would give somebody who asks it for blocks and a bundle."""
    chief = council.members[0]
    chief.effects.clear()
    for subject in (
        FrameSubject.WHOLE,
        FrameSubject.UPLOAD,
        FrameSubject.MODEL,
        FrameSubject.BLOCKS,
    ):
        asker = who.settings.ledger.key
        frame = request_frame(asker, KEYS[0].identity, subject, key[:32])
        chief.step(PeerFrameArrived(asker.identity, frame), council.now_s)
    return [effect for effect in chief.effects if isinstance(effect, SendAnswer)]


def test_founder_that_was_removed_can_do_nothing(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    carry(council, 0, ValidatorChange(None, GONE.public))
    grow(council, boards, 1)
    ledger, gone = council.members[0].state.ledger, council.members[3]
    assert not may_speak(ledger, GONE.identity)
    assert asks(council, gone, H(b"bundle")) == []
    assert council.members[0].refusals() == ["NOT_AUTHORISED"] * 4
    # Its allowance is not touched, since it has none.
    heard_at_s = council.members[0].state.peers[GONE.identity].heard_at_s
    height = gone.state.ledger.height
    council.run(5.0)
    assert council.members[0].state.peers[GONE.identity].heard_at_s == heard_at_s
    # It knows, and says nothing.
    gone.effects.clear()
    council.run(3.0)
    said = [one.payload for one in gone.effects if isinstance(one, SendGossip)]
    topics = {gossip_messages.FRAME.unpack(payload).subject for payload in said}
    assert topics <= {FrameSubject.TRANSACTION}
    assert gone.state.ledger.height == height
    shown = status_of(gone.settings, gone.state, council.now_s)
    assert shown["index"] is None
    assert ("no validator", "no part in the chain") in _own_rows(shown)


def test_learner_taken_out_is_heard_no_more(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    west = council.join()
    admit(council)
    council.run(3.0)
    shown = status_of(west.settings, west.state, council.now_s)
    assert shown["learns"]
    admit(council, admitted=0)
    grow(council, boards, 1)
    assert not may_speak(council.members[0].state.ledger, NEWCOMER.identity)
    assert asks(council, west, H(b"bundle")) == []


def checkpoint(council: FourCoordinators) -> TrustedState:
    """Of a running member."""
    store = council.members[0].store
    last = store.header(max(council.heights()[:4]))
    assert last is not None
    return pin(GENESIS).follow(store.epochs()).accept(last.header, last.certificate)


def test_newcomer_with_a_checkpoint_comes_to_its_header(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    grow(council, boards, 1)
    admit(council)
    pinned = checkpoint(council)
    west = council.join(pinned)
    assert status_of(west.settings, west.state, 0.0)["pinned"] == pinned.height
    council.run(5.0)
    assert west.state.ledger.height >= pinned.height


def test_newcomer_whom_no_founder_could_tell_hears_the_pinned_set(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    del boards
    others = tuple(
        Validator(key.public, opening.public, "later")
        for key, opening in ((NEWCOMER, ALL_OPENING[4]),)
    )
    pinned = checkpoint(council)
    later = replace(pinned.validators, members=others)
    known = council.join(replace(pinned, validators=later)).state.ledger
    assert is_coordinator(known, NEWCOMER.identity)
    assert not is_coordinator(council.members[0].state.ledger, NEWCOMER.identity)


def other_past() -> list[SyntheticBlock]:
    """What the founders' keys can certify besides the council's chain."""
    return list(SyntheticChain(GENESIS, KEYS, OPERATOR).grow(12))


def test_past_that_retired_keys_made_up_ends_before_the_pinned_header(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    grow(council, boards, 1)
    admit(council)
    pinned = checkpoint(council)
    west = council.join(pinned)
    council.cut = lambda source, target, message: True
    with west.store.transaction():
        for decided in other_past()[: pinned.height - 1]:
            put(west.store, decided)
    west.begin(council.now_s)
    assert west.state.ledger.height == pinned.height - 1
    last = other_past()[pinned.height - 1]
    frame = gossip_messages.wrap_decision(last.prepared.block, last.certificate)
    west.effects.clear()
    west.step(PeerFrameArrived(KEYS[0].identity, frame), council.now_s)
    assert west.state.ledger.height == pinned.height - 1

    # A range says so to the operator, too.
    key = request_scheduler.request_key(FrameSubject.BLOCKS, blocks_key(pinned.height))
    west.state = replace(west.state, wanted={key: PendingRequest(council.now_s + 60.0)})
    packed = gossip_messages.FRAME.unpack(frame).content
    given = GIVEN_BLOCKS.pack(BlocksAnswer(pinned.height, (packed,)))
    frame_of_blocks = gossip_messages.frame(FrameSubject.BLOCKS, given)
    west.step(PeerFrameArrived(KEYS[0].identity, frame_of_blocks), council.now_s)
    assert west.state.ledger.height == pinned.height - 1
    assert any("another past" in text for text in west.reports())

    # Without a pin it follows: nothing on the chain speaks against it.
    settings = replace(west.settings.ledger, pinned=None)
    west.settings = replace(west.settings, ledger=settings)
    west.begin(council.now_s)
    west.step(PeerFrameArrived(KEYS[0].identity, frame), council.now_s)
    assert west.state.ledger.height == pinned.height
