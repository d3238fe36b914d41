"""Who is too far behind for blocks gets the state, checked, and goes on from there."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from benchmarks.harness.synthetic_chain import SyntheticBlock, SyntheticChain, put
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject, wrap_decision
from starling.coordinator.chain.storage.snapshot import (
    SNAPSHOT_BLOCKS,
    SnapshotManifest,
)
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.step.events import PeerFrameArrived
from starling.coordinator.step.state import PendingRequest
from starling.coordinator.wire.frames import (
    GIVEN_BUCKETS,
    GIVEN_SNAPSHOT,
    BucketsAnswer,
    SnapshotAnswer,
    blocks_key,
    payloads,
)
from starling.protocol.chain.blocks import Certificate, VoteType, vote_bytes
from starling.protocol.chain.genesis import FaultModel, ValidatorSet
from starling.protocol.chain.light_client import (
    CertifiedHeader,
    TrustedState,
    ValidatorSetTransition,
)
from starling.protocol.crypto.state_tree import BUCKETS
from starling.protocol.ids import Digest
from tests.unit.coordinator.fixtures.coordinator_member import CoordinatorMember
from tests.unit.coordinator.fixtures.council_genesis import GENESIS, KEYS
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.single_coordinator import OPERATOR

LATE = 1
HEIGHT = SNAPSHOT_BLOCKS + 30
PRUNED = 900


@cache
def blocks() -> list[SyntheticBlock]:
    return list(SyntheticChain(GENESIS, KEYS, OPERATOR).grow(HEIGHT))


@pytest.fixture
def council() -> FourCoordinators:
    """All but member 1 have a long chain, whose first blocks are pruned."""
    running = FourCoordinators()
    for member in running.members:
        if member.index != LATE:
            with member.store.transaction():
                for decided in blocks():
                    put(member.store, decided)
                member.store.prune(PRUNED)
        member.begin(running.now_s)
    return running


def test_late_member_gets_the_state_and_then_the_blocks(
    council: FourCoordinators,
) -> None:
    council.run(4.0)
    late = council.members[LATE]
    assert council.heights()[LATE] >= HEIGHT
    assert late.store.first_body() == SNAPSHOT_BLOCKS + 1
    other = council.members[0].store.tip()
    assert late.store.tip().tree.root() == other.tree.root()
    assert late.refusals() == []


def manifest(council: FourCoordinators) -> SnapshotManifest:
    found = council.members[0].store.manifest(SNAPSHOT_BLOCKS)
    assert found is not None
    return found


def give(
    council: FourCoordinators, subject: FrameSubject, content: bytes
) -> CoordinatorMember:
    late = council.members[LATE]
    for payload in payloads(gossip_messages.frame(subject, content)):
        late.step(PeerFrameArrived(KEYS[0].identity, payload), council.now_s)
    return late


def offer(
    council: FourCoordinators,
    offered: SnapshotManifest,
    wanted: bool = True,
    first: int = 1,
    ends: tuple[ValidatorSetTransition, ...] = (),
) -> CoordinatorMember:
    """Offers the late member a snapshot instead of the blocks that it lacks."""
    late = council.members[LATE]
    late.begin(council.now_s)
    key = request_scheduler.request_key(FrameSubject.BLOCKS, blocks_key(first))
    asked = {key: PendingRequest(council.now_s + 60.0)} if wanted else {}
    late.state = replace(late.state, wanted=asked)
    packed = GIVEN_SNAPSHOT.pack(SnapshotAnswer(offered, ends))
    return give(council, FrameSubject.SNAPSHOT, packed)


def _another_bucket(offered: SnapshotManifest) -> SnapshotManifest:
    roots = (Digest(bytes(32)), *offered.buckets[1:])
    return replace(offered, buckets=roots)


def _no_votes(offered: SnapshotManifest) -> SnapshotManifest:
    nothing = (bytes(64),) * len(offered.certificate.signatures)
    return replace(
        offered, certificate=replace(offered.certificate, signatures=nothing)
    )


def _another_state(offered: SnapshotManifest) -> SnapshotManifest:
    header = replace(offered.header, state_root=Digest(bytes(32)))
    return replace(offered, header=header)


@pytest.mark.parametrize(
    "change", [_another_bucket, _no_votes, _another_state], ids=lambda f: f.__name__
)
def test_manifest_that_is_not_certified_is_refused(
    council: FourCoordinators, change: Callable[[SnapshotManifest], SnapshotManifest]
) -> None:
    late = offer(council, change(manifest(council)))
    assert late.state.restoring is None
    assert len(late.refusals()) == 1


def test_manifest_that_nobody_asked_for_is_not_looked_at(
    council: FourCoordinators,
) -> None:
    late = offer(council, manifest(council), wanted=False)
    assert (late.state.restoring, late.refusals()) == (None, [])


def buckets(council: FourCoordinators, first: int = 0) -> tuple[bytes, ...]:
    return council.members[0].store.buckets(SNAPSHOT_BLOCKS, first, 1 << 30)


def _give_buckets(
    council: FourCoordinators, first: int, parts: tuple[bytes, ...]
) -> CoordinatorMember:
    given = BucketsAnswer(SNAPSHOT_BLOCKS, first, parts)
    return give(council, FrameSubject.BUCKETS, GIVEN_BUCKETS.pack(given))


def test_all_buckets_begin_the_chain_anew(council: FourCoordinators) -> None:
    offer(council, manifest(council))
    _give_buckets(council, 0, buckets(council)[:100])
    late = _give_buckets(council, 100, buckets(council)[100:])
    assert late.state.ledger.height == SNAPSHOT_BLOCKS
    assert late.store.tip().header == manifest(council).header


def _with_blocks(council: FourCoordinators, height: int) -> CoordinatorMember:
    """The late member, which has the chain up to a height."""
    late = council.members[LATE]
    with late.store.transaction():
        for decided in blocks()[:height]:
            put(late.store, decided)
    return late


def _decide(council: FourCoordinators, decided: SyntheticBlock) -> None:
    payload = wrap_decision(decided.prepared.block, decided.certificate)
    council.members[LATE].step(
        PeerFrameArrived(KEYS[0].identity, payload), council.now_s
    )


def test_chain_that_came_as_far_by_itself_does_not_go_back(
    council: FourCoordinators,
) -> None:
    _with_blocks(council, SNAPSHOT_BLOCKS - 1)
    late = offer(council, manifest(council), first=SNAPSHOT_BLOCKS)
    assert late.state.restoring is not None
    for decided in blocks()[SNAPSHOT_BLOCKS - 1 : SNAPSHOT_BLOCKS + 2]:
        _decide(council, decided)
    late = _give_buckets(council, 0, buckets(council))
    assert late.state.restoring is None
    assert late.state.ledger.height == SNAPSHOT_BLOCKS + 2


def test_changes_before_our_last_block_are_not_believed(
    council: FourCoordinators,
) -> None:
    _with_blocks(council, 10)
    old = blocks()[4]
    alone = ValidatorSet(GENESIS.validators.members[:1])
    false = ValidatorSetTransition(old.prepared.block.header, old.certificate, alone)
    offer(council, manifest(council), first=11, ends=(false,))
    late = _give_buckets(council, 0, buckets(council))
    assert late.state.ledger.height == SNAPSHOT_BLOCKS
    assert late.store.epochs() == ()


def _change(
    height: int, before: ValidatorSet, after: ValidatorSet
) -> ValidatorSetTransition:
    """A change of the set, certified by who decided until then."""
    known = blocks()[height - 1].prepared.block.header
    header = replace(known, validators=before.digest(), next_validators=after.digest())
    block_id, kind = header.block_id(), VoteType.PRECOMMIT
    signed = vote_bytes(header.chain_id, kind, height, 0, block_id, 0)
    keys = {key.public: key for key in KEYS}
    signatures = tuple(keys[each.public].sign(signed) for each in before.members)
    count = len(signatures)
    voters, extras = (1 << count) - 1, (0,) * count
    certificate = Certificate(height, 0, block_id, voters, signatures, extras)
    return ValidatorSetTransition(header, certificate, after)


def test_changes_up_to_the_snapshot_are_kept_with_it(council: FourCoordinators) -> None:
    everybody = GENESIS.validators
    alone = ValidatorSet(everybody.members[:1])
    ends = (_change(20, everybody, alone), _change(40, alone, everybody))
    offer(council, manifest(council), ends=ends)
    late = _give_buckets(council, 0, buckets(council))
    assert late.state.ledger.height == SNAPSHOT_BLOCKS
    assert late.store.epochs() == ends


def test_changes_that_do_not_reach_back_to_us_are_named_with_a_way_out(
    council: FourCoordinators,
) -> None:
    late_change = blocks()[4]
    header = late_change.prepared.block.header
    alone = ValidatorSet(GENESIS.validators.members[:1])
    unknown = replace(header, validators=alone.digest())
    end = ValidatorSetTransition(unknown, late_change.certificate, alone)
    late = offer(council, manifest(council), ends=(end,))
    assert late.state.restoring is None
    assert late.refusals() == ["INVALID_PROOF"]
    assert any("copy chain.sqlite3" in text for text in late.reports())


def test_wrong_bucket_is_refused_and_asked_for_again(council: FourCoordinators) -> None:
    offer(council, manifest(council))
    parts = list(buckets(council))
    parts[max(range(BUCKETS), key=lambda number: len(parts[number]))] = min(parts)
    late = _give_buckets(council, 0, tuple(parts))
    assert len(late.refusals()) == 1
    assert late.state.restoring is not None
    assert late.state.restoring.buckets == ()
    assert any(key[0] == FrameSubject.BUCKETS for key in late.state.wanted)


@pytest.mark.parametrize("first", [1, BUCKETS - 1], ids=str)
def test_buckets_of_another_place_are_not_looked_at(
    council: FourCoordinators, first: int
) -> None:
    offer(council, manifest(council))
    late = _give_buckets(council, first, buckets(council)[:1])
    assert late.refusals() == []
    assert late.state.restoring is not None
    assert late.state.restoring.buckets == ()


def test_snapshot_that_nobody_gives_any_longer_is_given_up(
    council: FourCoordinators,
) -> None:
    council.cut = lambda source, target, message: target == LATE
    late = offer(council, manifest(council))
    assert late.state.restoring is not None
    late.state = replace(late.state, wanted={})
    council.cut = lambda source, target, message: False
    council.run(4.0)
    assert council.heights()[LATE] >= HEIGHT


def pin_at(height: int, block: int | None = None, members: int = 4) -> TrustedState:
    """A checkpoint of a height, of the block of another one, or naming a part."""
    decided = blocks()[(block or height) - 1]
    last = CertifiedHeader(decided.prepared.block.header, decided.certificate)
    named = ValidatorSet(GENESIS.validators.members[:members])
    fault_model = FaultModel(GENESIS.fault_model)
    return TrustedState(GENESIS.chain_id(), fault_model, height, named, last)


@pytest.mark.parametrize(
    ("ahead", "named", "members", "fits"),
    [
        (0, 0, 4, True),
        (0, -1, 4, False),
        (-10, -10, 4, True),
        (-10, -10, 3, False),
        (10, 10, 4, True),
        (10, 10, 3, True),
    ],
    ids=["there", "another block", "past it", "past it by others", "before", "later"],
)
def test_snapshot_must_lead_through_the_pinned_header(
    council: FourCoordinators, ahead: int, named: int, members: int, fits: bool
) -> None:
    late = council.members[LATE]
    pinned = pin_at(SNAPSHOT_BLOCKS + ahead, SNAPSHOT_BLOCKS + named, members)
    ledger = replace(late.settings.ledger, pinned=pinned)
    late.settings = replace(late.settings, ledger=ledger)
    offer(council, manifest(council))
    assert (late.state.restoring is not None) == fits
    assert late.refusals() == ([] if fits else ["INVALID_PROOF"])
    assert any("another past" in text for text in late.reports()) != fits


def test_late_member_comes_to_its_pinned_header_by_a_snapshot_and_blocks(
    council: FourCoordinators,
) -> None:
    late = council.members[LATE]
    ledger = replace(late.settings.ledger, pinned=pin_at(HEIGHT - 5))
    late.settings = replace(late.settings, ledger=ledger)
    late.begin(council.now_s)
    council.run(4.0)
    assert council.heights()[LATE] >= HEIGHT
