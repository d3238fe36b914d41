"""What expires: after its heights and its time, and after neither of them alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.coordinator.chain.governance import expiry
from starling.coordinator.chain.governance.chain_parameters import (
    JAIL_BLOCKS,
    SCORE_BLOCKS,
)
from starling.coordinator.chain.governance.expiry import MARKS_PER_HORIZON, aged, note
from starling.coordinator.chain.state import (
    board_records,
    task_records,
    validator_records,
)
from starling.coordinator.chain.state.overlay import BlockContext, StateOverlay
from starling.protocol.chain.credit_policy import CreditPolicy
from starling.protocol.chain.evidence import AGE_HEIGHTS_MAX
from starling.protocol.chain.governance import ChainParameter
from starling.protocol.errors import Reason
from starling.protocol.wire.envelope import Envelope
from tests.unit.coordinator.chain.governance.test_slashing import double_vote
from tests.unit.coordinator.chain.tasks.test_lost_updates import forfeit
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import STRANGER, board_key, genesis
from tests.unit.coordinator.fixtures.small_task import SPEC

ECONOMY = CreditPolicy(1_000_000, 50_000, 1_000, 500)
HEARTBEAT_S = genesis().heartbeat_s
UNTIL = 50


@dataclass(frozen=True)
class Window:
    """One thing that expires.

    Attributes:
      begin: Lets it begin.
      attempt: A transaction that only counts before or only after its end.
      blocks: Its heights.
      before: What the attempt gives until its end.
      after: What it gives from then on.
    """

    begin: Callable[[SmallChain], None]
    attempt: Callable[[SmallChain], Envelope]
    blocks: int
    before: int
    after: int


def _nothing(world: SmallChain) -> None:
    assert world.height == 1


def _jail(world: SmallChain) -> None:
    world.must(world.double_update(0))


def _revoke(world: SmallChain) -> None:
    world.must(world.revoke(0))


def _leave(world: SmallChain) -> None:
    world.must(world.leave(world.validators[0]))


WINDOWS = {
    "evidence": Window(
        _nothing, lambda world: double_vote(world, 1), AGE_HEIGHTS_MAX, 0, Reason.STALE
    ),
    "a revoked board": Window(
        _revoke,
        lambda world: world.double_update(0),
        AGE_HEIGHTS_MAX,
        0,
        Reason.STALE,
    ),
    "a board's deposit": Window(
        _revoke, lambda world: world.release(0), AGE_HEIGHTS_MAX, Reason.BUSY, 0
    ),
    "a validator's deposit": Window(
        _leave,
        lambda world: world.release_of(world.validators[0].identity),
        AGE_HEIGHTS_MAX + 1,
        Reason.BUSY,
        0,
    ),
    "jail": Window(_jail, lambda world: world.update(0), JAIL_BLOCKS, Reason.JAILED, 0),
    "scores": Window(
        lambda world: world.advance(0),
        lambda world: world.score(1, (1, 2, 3, 4)),
        SCORE_BLOCKS,
        0,
        Reason.STALE,
    ),
    "a motion": Window(
        _nothing,
        lambda world: world.operator(
            STRANGER,
            until=1 + UNTIL,
            until_ms=genesis().created_ms + 1000 * HEARTBEAT_S * (1 + UNTIL),
        ),
        UNTIL,
        0,
        Reason.STALE,
    ),
}


def begun(window: Window) -> SmallChain:
    world = opened(validators=4, economy=ECONOMY)
    window.begin(world)
    return world


def passes(world: SmallChain, seconds: int, blocks: int) -> None:
    """Time and heights pass side by side, in blocks close enough for marks."""
    pieces = 4 * MARKS_PER_HORIZON
    for piece in range(1, pieces + 1):
        height = blocks * piece // pieces - blocks * (piece - 1) // pieces
        world.hurry(height)
        world.wait(seconds * piece // pieces - seconds * (piece - 1) // pieces)
        draft = StateOverlay(world.tree)
        note(draft, world.context)
        world.tree = world.tree.update(draft.changes)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_heights_alone_end_no_window(window: Window) -> None:
    world = begun(window)
    passes(world, 60, 200 * window.blocks)
    assert world.do(window.attempt(world)).code == window.before


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_time_alone_ends_no_window(window: Window) -> None:
    world = begun(window)
    passes(world, 200 * window.blocks * HEARTBEAT_S, window.blocks)
    assert world.do(window.attempt(world)).code == window.before


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_window_ends_once_heights_and_time_are_over(window: Window) -> None:
    world = begun(window)
    late = window.blocks // (MARKS_PER_HORIZON // 2) + 2
    passes(world, (window.blocks + late) * HEARTBEAT_S, window.blocks + 1)
    assert world.do(window.attempt(world)).code == window.after


PATIENT = replace(
    SPEC, aggregation=replace(SPEC.aggregation, patience_s=600 * HEARTBEAT_S)
)


@pytest.mark.parametrize("lost", [False, True], ids=["updates", "forfeits"])
def test_forced_blocks_cut_no_half_buffer(lost: bool) -> None:
    world = opened(spec=PATIENT)
    world.must(
        *((forfeit if lost else SmallChain.update)(world, at) for at in range(2))
    )
    for _ in range(100 * PATIENT.aggregation.patience):
        world.end_block()
        world.hurried_ms += 1000 * HEARTBEAT_S
    assert task_records.open_job(world.tree, 0) is None
    assert task_records.head(world.tree, 0) == 0
    world.wait(PATIENT.aggregation.patience_s)
    world.end_block()
    assert (task_records.open_job(world.tree, 0) is None) == lost
    assert task_records.head(world.tree, 0) == int(lost)


def test_half_a_buffer_waits_for_its_blocks_too() -> None:
    world = opened(spec=PATIENT)
    world.must(world.update(0), world.update(1))
    world.wait(1_000_000)
    world.end_block()
    assert task_records.open_job(world.tree, 0) is None
    for _ in range(PATIENT.aggregation.patience):
        world.end_block()
    assert task_records.open_job(world.tree, 0) is not None


def test_sets_that_evidence_reaches_in_time_are_kept() -> None:
    world = opened(validators=4)
    world.must(world.leave(world.validators[0]))
    passes(world, 60, 10 * AGE_HEIGHTS_MAX)
    world.validators = world.validators[1:]
    world.must(world.leave(world.validators[0], voters=range(3)))
    assert validator_records.epochs(world.tree).first == 1


def test_longer_horizon_does_not_bring_back_forgotten_sets() -> None:
    world = opened(validators=4)
    accused = double_vote(world, 2)
    world.must(world.leave(world.validators[0]))
    world.validators = world.validators[1:]
    passes(world, 3 * AGE_HEIGHTS_MAX * HEARTBEAT_S, 3 * AGE_HEIGHTS_MAX)
    world.must(world.leave(world.validators[0], voters=range(3)))
    world.validators = world.validators[1:]
    passes(world, 3 * AGE_HEIGHTS_MAX * HEARTBEAT_S, 3 * AGE_HEIGHTS_MAX)
    year_s = 366 * 86_400
    world.must(world.join(9, voters=range(2)))
    assert validator_records.epochs(world.tree).first > 1
    longer = world.parameter(ChainParameter.EVIDENCE_S, year_s, world.height + 2)
    world.must(longer)
    world.height += 2
    assert expiry.evidence_ms(world.tree, world.genesis, world.height) == 1000 * year_s
    assert world.do(accused).code == Reason.STALE


STEPS = st.lists(
    st.tuples(st.integers(1, 500), st.integers(0, 3_000_000)), min_size=1, max_size=60
)


@given(STEPS, st.integers(1, 100))
def test_no_height_counts_as_old_too_early_and_none_for_long_too_late(
    steps: list[tuple[int, int]], share: int
) -> None:
    chain = genesis(heartbeat_s=1)
    world = SmallChain()
    tree = world.tree
    times, height, now_ms = {}, 0, 0
    for blocks, step_ms in steps:
        for _ in range(blocks // 50 + 1):
            height, now_ms = height + 1, now_ms + step_ms
            times[height] = now_ms
            draft = StateOverlay(tree)
            note(draft, BlockContext(chain, chain.chain_id(), height, 0, now_ms))
            tree = tree.update(draft.changes)
    horizon_ms = expiry.evidence_ms(tree, chain, height)
    span_ms = horizon_ms * share // 100
    old = aged(tree, now_ms, span_ms)
    truly = [at for at, time_ms in times.items() if time_ms <= now_ms - span_ms]
    assert old <= max(truly, default=0)
    # Every mark is followed by one as soon as a 64th of the horizon is over.
    slack_ms = horizon_ms // MARKS_PER_HORIZON + max(step for _, step in steps)
    surely = [at for at in truly if times[at] <= now_ms - span_ms - slack_ms]
    assert old >= max(surely, default=0)


def test_clock_is_bounded_however_fast_blocks_come() -> None:
    world = opened()
    for _ in range(20):
        passes(world, AGE_HEIGHTS_MAX * HEARTBEAT_S, 5 * AGE_HEIGHTS_MAX)
    known = expiry.CLOCK.get(world.tree)
    assert known is not None
    marks = known.marks
    assert len(marks) <= MARKS_PER_HORIZON + 2
    assert list(marks) == sorted(marks, key=lambda mark: mark.height)


def test_board_convicted_in_jail_time_signs_nothing() -> None:
    world = opened(economy=ECONOMY)
    world.must(world.double_update(0))
    world.hurry(10 * JAIL_BLOCKS)
    assert world.do(world.update(0)).code == Reason.JAILED
    world.wait(JAIL_BLOCKS * HEARTBEAT_S + 1)
    world.must(world.update(0))
    assert board_records.signer(world.tree, board_key(0).public) is not None
