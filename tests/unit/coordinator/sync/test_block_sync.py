"""Who is far behind gets ranges of blocks, of one peer at a time, and believes none."""

from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.handlers.peer_requests import ASKS_OF_RANGE
from starling.coordinator.step.effects import SendFrame
from starling.coordinator.step.events import PeerFrameArrived
from starling.coordinator.step.state import PendingRequest
from starling.coordinator.wire.frames import (
    GIVEN_BLOCKS,
    BlocksAnswer,
    blocks_key,
    parse_blocks_key,
    payloads,
)
from starling.coordinator.wire.peer_quota import ASKS_BURST
from starling.protocol.errors import DecodeError
from starling.protocol.schema.msgpack_codec import UINT_MAX
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import REGISTER, Register
from tests.unit.coordinator.fixtures.coordinator_member import CoordinatorMember
from tests.unit.coordinator.fixtures.council_genesis import KEYS
from tests.unit.coordinator.fixtures.fleet_board import voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.peer_frames import request_frame, requested

LATE = 1
BOARDS = 12
BLOCKS = 8


@pytest.fixture
def council() -> FourCoordinators:
    """Member 1 is down; the others have blocks that it has not."""
    running = FourCoordinators()
    running.crash(LATE)
    running.open(voters(BOARDS))
    return running


def ranges_asked(member: CoordinatorMember) -> list[int]:
    told = [effect for effect in member.effects if isinstance(effect, SendFrame)]
    asked = [
        requested(one.content) for one in told if one.subject == FrameSubject.REQUEST
    ]
    return [
        parse_blocks_key(key)
        for one in asked
        if one.subject == FrameSubject.BLOCKS
        for key in one.keys
    ]


def test_late_member_asks_for_one_range_and_has_all_blocks(
    council: FourCoordinators,
) -> None:
    council.restart(LATE)
    council.run(2.0)
    late = council.members[LATE]
    assert ranges_asked(late) == [1]
    assert len(set(council.heights())) == 1
    assert council.heights()[LATE] > BLOCKS
    assert late.refusals() == []


def give(
    council: FourCoordinators, given: BlocksAnswer, wanted: bool = True
) -> CoordinatorMember:
    """Gives the late member a range that member 0 says to have."""
    council.members[LATE].begin(council.now_s)
    late = council.members[LATE]
    late.sent.clear()
    key = request_scheduler.request_key(FrameSubject.BLOCKS, blocks_key(given.first))
    asked = {key: PendingRequest(council.now_s + 60.0)} if wanted else {}
    late.state = replace(late.state, wanted=asked)
    for payload in payloads(
        gossip_messages.frame(FrameSubject.BLOCKS, GIVEN_BLOCKS.pack(given))
    ):
        late.step(PeerFrameArrived(KEYS[0].identity, payload), council.now_s)
    return late


def decisions(council: FourCoordinators, first: int = 1) -> tuple[bytes, ...]:
    return council.members[0].store.decisions(first, BLOCKS, 1 << 20)


def test_given_range_is_stored(council: FourCoordinators) -> None:
    late = give(council, BlocksAnswer(1, decisions(council)))
    assert late.state.ledger.height == BLOCKS
    assert late.store.block(BLOCKS) == council.members[0].store.block(BLOCKS)


def test_unasked_range_is_not_looked_at(council: FourCoordinators) -> None:
    late = give(council, BlocksAnswer(1, decisions(council)), wanted=False)
    assert (late.state.ledger.height, late.refusals()) == (0, [])


def _flip(packed: bytes, offset: int) -> bytes:
    return packed[:offset] + bytes([packed[offset] ^ 1]) + packed[offset + 1 :]


@pytest.mark.parametrize(
    "offset", [2, 100, -1, -100], ids=["form", "header", "certificate", "signature"]
)
def test_damaged_block_ends_a_range_which_stays_wanted(
    council: FourCoordinators, offset: int
) -> None:
    first, second, *rest = decisions(council)
    late = give(council, BlocksAnswer(1, (first, _flip(second, offset), *rest)))
    assert late.state.ledger.height == 1
    assert len(late.refusals()) == 1
    (key,) = late.state.wanted
    assert key[0] == FrameSubject.BLOCKS


def test_range_of_other_heights_is_not_believed(council: FourCoordinators) -> None:
    late = give(council, BlocksAnswer(1, decisions(council, first=3)))
    assert late.state.ledger.height == 0


def test_asking_for_more_ranges_than_allowed_is_refused(
    council: FourCoordinators,
) -> None:
    giver = council.members[0]
    allowed = int(ASKS_BURST / ASKS_OF_RANGE)
    giver.effects.clear()
    for _ in range(allowed + 1):
        payload = request_frame(
            KEYS[2], KEYS[0].identity, FrameSubject.BLOCKS, blocks_key(1)
        )
        giver.step(PeerFrameArrived(KEYS[2].identity, payload), council.now_s)
    assert giver.refusals() == ["BUSY"]


@pytest.mark.parametrize(
    "key",
    [b"", b"\x01", bytes(8), (UINT_MAX + 1).to_bytes(8), bytes(9)],
    ids=["empty", "short", "height-0", "too-high", "long"],
)
def test_key_of_no_range_is_refused(key: bytes) -> None:
    with pytest.raises(DecodeError, match="range of blocks"):
        parse_blocks_key(key)


def test_bad_key_is_answered_with_nothing(council: FourCoordinators) -> None:
    giver = council.members[0]
    payload = request_frame(
        KEYS[2], KEYS[0].identity, FrameSubject.BLOCKS, b"x", blocks_key(10**6)
    )
    giver.sent.clear()
    giver.step(PeerFrameArrived(KEYS[2].identity, payload), council.now_s)
    assert not giver.sent


def test_member_one_block_behind_restarted_ones_gets_it() -> None:
    """No quorum is there without it, so no later block could wake it."""
    council = FourCoordinators()
    first, second = (REGISTER.pack(Register(it.key.public)) for it in voters(2))
    council.operate(MessageKind.REGISTER, first)
    council.cut = lambda source, target, message: target == LATE
    council.operate(MessageKind.REGISTER, second)
    council.cut = lambda source, target, message: False
    assert council.heights() == [2, 1, 2, 2]
    council.members[LATE].up = False
    council.crash(0, 2, 3)
    for index in (0, LATE, 2):
        council.restart(index)
    council.run(10.0)
    assert council.heights()[:3] == [2, 2, 2]
