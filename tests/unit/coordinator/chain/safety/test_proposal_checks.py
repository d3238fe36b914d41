"""Nothing is kept or asked for on a proposal before it is its maker's, and in turn."""

import os
from dataclasses import replace

import pytest

from starling.coordinator.availability import vector_exchange
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.step.effects import SendFrame
from starling.coordinator.step.events import ClockTicked, PeerFrameArrived
from starling.coordinator.step.state import PendingRequest
from starling.coordinator.wire.frames import blocks_key, payloads
from starling.protocol.chain.blocks import BLOCK, Block, Header, Proposal
from starling.protocol.chain.genesis import FORMAT_VERSION
from starling.protocol.crypto import merkle
from starling.protocol.ids import (
    SIGNATURE_BYTES,
    BlockHash,
    Digest,
    H,
    PublicKey,
    TaskId,
    Version,
)
from starling.protocol.learning.task import TASK
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from starling.protocol.wire.message_bodies import CONTRIBUTION, Contribution
from tests.unit.coordinator.fixtures.coordinator_member import CoordinatorMember
from tests.unit.coordinator.fixtures.council_genesis import CHAIN_ID, GENESIS, KEYS
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.single_coordinator import OPERATOR, spec

LIAR = 3


def junk_update(board: FleetBoard, seed: int) -> Envelope:
    """An update that nobody has and nobody signed."""
    body = Contribution(
        TaskId(0), Version(0), 1, 16, 0, 0, Digest(H(seed.to_bytes(8))), Digest(H(b"c"))
    )
    made = board.sign(MessageKind.UPDATE, b"")
    sender = PublicKey(H(b"sender", seed.to_bytes(8)))
    return replace(
        made, sender=sender, body=CONTRIBUTION.pack(body), signature=os.urandom(64)
    )


def proposal_of(
    member: CoordinatorMember, board: FleetBoard, proposer: int, seed: int
) -> Proposal:
    """A well-formed proposal of junk for the member's height; nobody signed it."""
    junk = [junk_update(board, 1000 * seed + n) for n in range(300)]
    return proposal_with(member, proposer, junk)


def proposal_with(
    member: CoordinatorMember, proposer: int, transactions: list[Envelope]
) -> Proposal:
    """An unsigned proposal of some transactions for the member's height."""
    packed = tuple(ENVELOPE.pack(each) for each in transactions)
    height = member.state.ledger.consensus.height
    own = GENESIS.validators.digest()
    header = Header(
        FORMAT_VERSION,
        CHAIN_ID,
        height,
        0,
        BlockHash(H(b"parent")),
        merkle.root(packed),
        H(b"state"),
        own,
        own,
        proposer,
    )
    return Proposal(
        height,
        0,
        0,
        header.block_id(),
        proposer,
        bytes(SIGNATURE_BYTES),
        BLOCK.pack(Block(header, packed)),
        None,
        None,
    )


def signed(proposal: Proposal) -> Proposal:
    signature = KEYS[proposal.proposer].sign(proposal.signed_bytes(CHAIN_ID))
    return replace(proposal, signature=signature)


def tell(
    council: FourCoordinators,
    member: CoordinatorMember,
    proposal: Proposal,
    by: int = LIAR,
) -> None:
    member.effects.clear()
    for payload in payloads(gossip_messages.wrap_proposal(proposal)):
        event = PeerFrameArrived(KEYS[by].identity, payload)
        member.step(event, council.now_s)


def kept(member: CoordinatorMember) -> int:
    return len(member.state.wanted) + len(member.state.parked)


def proposer(member: CoordinatorMember, number: int = 0) -> int:
    return member.state.ledger.validator.proposer(number)


@pytest.mark.parametrize("kind", ["unsigned", "turn", "swapped", "far", "past"])
def test_proposal_that_is_not_its_maker_s_leaves_nothing(
    council: FourCoordinators, boards: list[FleetBoard], kind: str
) -> None:
    member = council.members[0]
    made = proposal_of(member, boards[0], proposer(member), 1)
    match kind:
        case "turn":
            other = (made.proposer + 1) % len(KEYS)
            made = signed(replace(made, proposer=other))
        case "swapped":
            other_block = proposal_of(member, boards[0], made.proposer, 2).block
            made = replace(signed(made), block=other_block)
        case "far":
            made = signed(replace(made, round=50, proposer=proposer(member, 50)))
        case "past":
            made = signed(replace(made, height=made.height - 1))
        case _:
            assert kind == "unsigned"
    for _ in range(20):
        tell(council, member, made)
        assert kept(member) == 0
    reasons = {
        "unsigned": ["BAD_SIGNATURE"],
        "turn": ["INVALID_BLOCK"],
        "swapped": ["INVALID_BLOCK"],
    }
    assert member.refusals() == reasons.get(kind, [])


def test_proposal_of_a_liar_in_turn_wants_no_more_than_its_share(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.cut = lambda source, target, message: True
    member = council.members[0]
    needed = request_scheduler.request_key(FrameSubject.BLOCKS, blocks_key(5))
    turn_key = {needed: PendingRequest(council.now_s + 60.0)}
    member.state = replace(member.state, wanted=turn_key)
    for seed in range(12):
        made = signed(proposal_of(member, boards[0], proposer(member), seed))
        tell(council, member, made)
        # Only the last one waits; what the one before named is given back.
        assert len(member.state.parked) == 1
        assert len(member.state.wanted) == 301
    assert needed in member.state.wanted


def test_updates_of_a_proposal_are_asked_of_its_maker_first(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.cut = lambda source, target, message: True
    member = next(m for m in council.members if proposer(m) != m.index)
    maker = proposer(member)
    for seed in range(12):
        # Ids differ at each run: an order that follows from them is right now and then.
        made = signed(proposal_of(member, boards[0], maker, seed))
        tell(council, member, made, maker)
        member.effects.clear()
        council.now_s += vector_exchange.UPLOAD_COMES_S
        member.step(ClockTicked(), council.now_s)
        asked = {each.to for each in member.effects if isinstance(each, SendFrame)}
        assert asked == {KEYS[maker].identity}


def test_status_that_somebody_else_signed_says_nothing_of_a_peer_s_height(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member, liar = council.members[0], KEYS[LIAR]
    tip, unsigned = BlockHash(H(b"tip")), bytes(SIGNATURE_BYTES)
    status = gossip_messages.ValidatorStatus(
        liar.public, 1 << 40, 10**6, tip, 0, (), b"", (), unsigned
    )
    by_another = KEYS[1].sign(status.signed_bytes(CHAIN_ID))
    for forged in (status, replace(status, signature=by_another)):
        content = gossip_messages.STATUS.pack(forged)
        message = gossip_messages.frame(FrameSubject.STATUS, content)
        member.effects.clear()
        for payload in payloads(message):
            member.step(PeerFrameArrived(liar.identity, payload), council.now_s)
        assert member.refusals() == ["BAD_SIGNATURE"]
        assert member.state.peers[liar.identity].height < 10**6
        assert not member.state.wanted


@pytest.mark.parametrize("sender", ["nobody", "operator"])
def test_tasks_that_no_operator_signed_make_nobody_look_for_bundles(
    council: FourCoordinators, boards: list[FleetBoard], sender: str
) -> None:
    council.cut = lambda source, target, message: True
    member = council.members[0]
    junk = []
    for number in range(80):
        task = replace(spec(), bundle=H(b"bundle", number.to_bytes()))
        made = sign(
            OPERATOR, CHAIN_ID, MessageKind.TASK, 1000 + number, TASK.pack(task)
        )
        who = OPERATOR.public if sender == "operator" else KEYS[LIAR].public
        junk.append(replace(made, sender=who, signature=bytes(SIGNATURE_BYTES)))
    before = dict(member.state.bundles)
    offered = proposal_with(member, proposer(member), junk)
    tell(council, member, signed(offered))
    council.run(1.0)
    assert member.state.bundles == before
    assert kept(member) == 0


def offered_tasks(
    member: CoordinatorMember, count: int
) -> tuple[Proposal, list[bytes]]:
    """A proposal of tasks whose bundles nobody has, and what is asked for then."""
    tasks = [
        replace(spec(), bundle=H(b"bundle", number.to_bytes()))
        for number in range(count)
    ]
    made = [
        sign(OPERATOR, CHAIN_ID, MessageKind.TASK, 1000 + number, TASK.pack(task))
        for number, task in enumerate(tasks)
    ]
    keys = request_scheduler.blob_keys(task.bundle for task in tasks)
    return signed(proposal_with(member, proposer(member), made)), keys


def test_bundles_of_a_forgotten_proposal_are_asked_for_no_longer(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.cut = lambda source, target, message: True
    member = council.members[0]
    offered, keys = offered_tasks(member, 3)
    tell(council, member, offered)
    council.run(0.2)
    assert member.state.wanted.keys() >= set(keys)
    assert {one.sources for one in member.state.wanted.values()} == {
        frozenset({KEYS[LIAR].identity})
    }
    # Another one in its place names one of them, too, and nothing else.
    other = signed(
        proposal_with(
            member,
            proposer(member),
            [
                sign(
                    OPERATOR,
                    CHAIN_ID,
                    MessageKind.TASK,
                    1000,
                    TASK.pack(replace(spec(), bundle=Digest(keys[0][1:]))),
                )
            ],
        )
    )
    tell(council, member, other)
    council.run(0.2)
    assert member.state.wanted.keys() == {keys[0]}


def test_bundle_that_two_offer_is_asked_for_until_both_are_forgotten(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.cut = lambda source, target, message: True
    member = council.members[0]
    offered, keys = offered_tasks(member, 1)
    tell(council, member, offered)
    council.run(0.2)
    tell(council, member, offered, by=2)
    both = frozenset({KEYS[LIAR].identity, KEYS[2].identity})
    assert member.state.wanted[keys[0]].sources == both
    for by, left in ((LIAR, {keys[0]}), (2, set())):
        empty = signed(proposal_of(member, boards[0], proposer(member), by))
        tell(council, member, empty, by)
        assert member.state.wanted.keys() & set(keys) == left


def test_bundle_of_a_task_that_waits_is_asked_for_without_a_proposal(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.cut = lambda source, target, message: True
    member = council.members[0]
    offered, keys = offered_tasks(member, 1)
    tell(council, member, offered)
    council.run(0.2)
    (packed,) = BLOCK.unpack(offered.block).transactions
    message = gossip_messages.frame(FrameSubject.TRANSACTION, packed)
    for payload in payloads(message):
        member.step(PeerFrameArrived(KEYS[2].identity, payload), council.now_s)
    tell(council, member, signed(proposal_of(member, boards[0], proposer(member), 1)))
    assert keys[0] in member.state.wanted
