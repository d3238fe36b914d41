"""Who is far behind gets ranges of blocks, of one peer at a time, and believes none."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from coordinator import wanting
from coordinator.effects import Tell
from coordinator.events import PeerArrived
from coordinator.giving import ASKS_BURST, ASKS_OF_RANGE
from coordinator.gossip import (
    GIVEN_BLOCKS,
    WANT,
    GivenBlocks,
    Subject,
    Want,
    blocks_key,
    parse_blocks_key,
    payloads,
)
from coordinator.state import Wanted
from protocol.codec import UINT_MAX
from protocol.envelope import Kind
from protocol.errors import DecodeError
from protocol.messages import REGISTER, Register
from tests.unit.coordinator.council import KEYS, Council, Member, voters

LATE = 1
BOARDS = 12
BLOCKS = 8


@pytest.fixture
def council() -> Iterator[Council]:
    """Member 1 is down; the others have blocks that it has not."""
    running = Council()
    running.crash(LATE)
    running.open(voters(BOARDS))
    yield running
    running.close()


def ranges_asked(member: Member) -> list[int]:
    told = [effect for effect in member.effects if isinstance(effect, Tell)]
    asked = [WANT.unpack(one.content) for one in told if one.subject == Subject.WANT]
    return [
        parse_blocks_key(key)
        for one in asked
        if one.subject == Subject.BLOCKS
        for key in one.keys
    ]


def test_late_member_asks_for_one_range_and_has_all_blocks(council: Council) -> None:
    council.restart(LATE)
    council.run(2.0)
    late = council.members[LATE]
    assert ranges_asked(late) == [1]
    assert len(set(council.heights())) == 1
    assert council.heights()[LATE] > BLOCKS
    assert late.refusals() == []


def give(council: Council, given: GivenBlocks, wanted: bool = True) -> Member:
    """Gives the late member a range that member 0 says to have."""
    council.members[LATE].begin(council.now_s)
    late = council.members[LATE]
    late.sent.clear()
    key = wanting.want_key(Subject.BLOCKS, blocks_key(given.first))
    asked = {key: Wanted(council.now_s + 60.0)} if wanted else {}
    late.state = replace(late.state, wanted=asked)
    for payload in payloads(Subject.BLOCKS, GIVEN_BLOCKS.pack(given)):
        late.step(PeerArrived(KEYS[0].identity, payload), council.now_s)
    return late


def decisions(council: Council, first: int = 1) -> tuple[bytes, ...]:
    return council.members[0].store.decisions(first, BLOCKS, 1 << 20)


def test_given_range_is_stored(council: Council) -> None:
    late = give(council, GivenBlocks(1, decisions(council)))
    assert late.state.ledger.height == BLOCKS
    assert late.store.block(BLOCKS) == council.members[0].store.block(BLOCKS)


def test_unasked_range_is_not_looked_at(council: Council) -> None:
    late = give(council, GivenBlocks(1, decisions(council)), wanted=False)
    assert (late.state.ledger.height, late.refusals()) == (0, [])


def _flip(packed: bytes, offset: int) -> bytes:
    return packed[:offset] + bytes([packed[offset] ^ 1]) + packed[offset + 1 :]


@pytest.mark.parametrize(
    "offset", [2, 100, -1, -100], ids=["form", "header", "certificate", "signature"]
)
def test_damaged_block_ends_a_range_which_stays_wanted(
    council: Council, offset: int
) -> None:
    first, second, *rest = decisions(council)
    late = give(council, GivenBlocks(1, (first, _flip(second, offset), *rest)))
    assert late.state.ledger.height == 1
    assert len(late.refusals()) == 1
    (key,) = late.state.wanted
    assert key[0] == Subject.BLOCKS


def test_range_of_other_heights_is_not_believed(council: Council) -> None:
    late = give(council, GivenBlocks(1, decisions(council, first=3)))
    assert late.state.ledger.height == 0


def test_asking_for_more_ranges_than_allowed_is_refused(council: Council) -> None:
    giver = council.members[0]
    want = WANT.pack(Want(KEYS[0].identity, Subject.BLOCKS, (blocks_key(1),)))
    (payload,) = payloads(Subject.WANT, want)
    allowed = int(ASKS_BURST / ASKS_OF_RANGE)
    giver.effects.clear()
    for _ in range(allowed + 1):
        giver.step(PeerArrived(KEYS[2].identity, payload), council.now_s)
    assert giver.refusals() == ["BUSY"]


@pytest.mark.parametrize(
    "key",
    [b"", b"\x01", bytes(8), (UINT_MAX + 1).to_bytes(8), bytes(9)],
    ids=["empty", "short", "height-0", "too-high", "long"],
)
def test_key_of_no_range_is_refused(key: bytes) -> None:
    with pytest.raises(DecodeError, match="range of blocks"):
        parse_blocks_key(key)


def test_bad_key_is_answered_with_nothing(council: Council) -> None:
    giver = council.members[0]
    want = WANT.pack(Want(KEYS[0].identity, Subject.BLOCKS, (b"x", blocks_key(10**6))))
    (payload,) = payloads(Subject.WANT, want)
    giver.sent.clear()
    giver.step(PeerArrived(KEYS[2].identity, payload), council.now_s)
    assert not giver.sent


def test_member_one_block_behind_restarted_ones_gets_it() -> None:
    """No quorum is there without it, so no later block could wake it."""
    council = Council()
    first, second = (REGISTER.pack(Register(it.key.public)) for it in voters(2))
    council.operate(Kind.REGISTER, first)
    council.cut = lambda source, target, message: target == LATE
    council.operate(Kind.REGISTER, second)
    council.cut = lambda source, target, message: False
    assert council.heights() == [2, 1, 2, 2]
    council.members[LATE].up = False
    council.crash(0, 2, 3)
    for index in (0, LATE, 2):
        council.restart(index)
    council.run(10.0)
    council.close()
    assert council.heights()[:3] == [2, 2, 2]
