"""What a quorum of validators decides, and what passes without one: nothing."""

from collections.abc import Callable

import pytest

from starling.coordinator.chain.state import operator_records
from starling.protocol.chain.genesis import OPERATORS_MAX
from starling.protocol.chain.governance import (
    MOTION,
    OPERATOR_CHANGE,
    Approval,
    GovernanceProposal,
    OperatorChange,
)
from starling.protocol.errors import Reason
from starling.protocol.wire.envelope import Envelope, MessageKind
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import (
    OPERATOR,
    STRANGER,
    board_key,
    key,
)

CONTENT = OPERATOR_CHANGE.pack(OperatorChange(1, STRANGER.public))


def test_admitted_operator_admits_boards_until_it_is_taken_out() -> None:
    world = opened(validators=4)
    assert world.do(world.register(20, STRANGER)).code == Reason.NOT_AUTHORISED
    world.must(world.operator(STRANGER), world.register(20, STRANGER))
    world.must(world.operator(STRANGER, 0))
    assert world.do(world.register(21, STRANGER)).code == Reason.NOT_AUTHORISED
    assert operator_records.operator_count(world.tree) == 1
    assert operator_records.motion_count(world.tree) == 2


def test_operators_are_bounded() -> None:
    world = opened()
    for number in range(OPERATORS_MAX - 1):
        world.must(world.operator(key(9200 + number)))
    assert world.do(world.operator(STRANGER)).code == Reason.BUSY


def _stale(world: SmallChain) -> Envelope:
    made = world.operator(key(9300))
    world.must(world.operator(STRANGER))
    return made


def _carried_twice(world: SmallChain) -> Envelope:
    """The same motion in another envelope, after its effect was undone."""
    made = world.operator(STRANGER)
    world.must(made)
    world.must(world.operator(STRANGER, 0))
    return world.sign(board_key(0), MessageKind.OPERATOR, made.body)


def _by_a_stranger(world: SmallChain) -> Envelope:
    made = GovernanceProposal(MessageKind.OPERATOR, 0, 100, 0, CONTENT)
    for who in (*world.validators[:3], STRANGER):
        made = made.approved(who, world.chain_id)
    return world.sign(OPERATOR, MessageKind.OPERATOR, MOTION.pack(made))


def _forged(world: SmallChain) -> Envelope:
    made = GovernanceProposal(MessageKind.OPERATOR, 0, 100, 0, CONTENT)
    for who in world.validators[:2]:
        made = made.approved(who, world.chain_id)
    forged = Approval(world.validators[2].public, made.approvals[0].signature)
    approvals = (*made.approvals, forged)
    packed = MOTION.pack(
        GovernanceProposal(MessageKind.OPERATOR, 0, 100, 0, CONTENT, approvals)
    )
    return world.sign(OPERATOR, MessageKind.OPERATOR, packed)


def _of_another_kind(world: SmallChain) -> Envelope:
    body = world.motion(MessageKind.TASK, CONTENT).body
    return world.sign(OPERATOR, MessageKind.OPERATOR, body)


REFUSALS: list[tuple[str, Callable[[SmallChain], Envelope], Reason]] = [
    ("too-few", lambda w: w.operator(STRANGER, voters=(0, 1)), Reason.NOT_AUTHORISED),
    ("nobody", lambda w: w.operator(STRANGER, voters=()), Reason.NOT_AUTHORISED),
    ("stranger", _by_a_stranger, Reason.NOT_AUTHORISED),
    ("forged", _forged, Reason.BAD_SIGNATURE),
    ("too-late", lambda w: w.operator(STRANGER, until=1), Reason.STALE),
    ("overtaken", _stale, Reason.STALE),
    ("carried-twice", _carried_twice, Reason.STALE),
    ("early", lambda w: w.operator(STRANGER, number=1), Reason.STALE),
    ("other-kind", _of_another_kind, Reason.MALFORMED),
    ("admitted", lambda w: w.operator(OPERATOR), Reason.ALREADY_KNOWN),
    ("not-admitted", lambda w: w.operator(STRANGER, 0), Reason.NOT_ENROLLED),
    ("the-last", lambda w: w.operator(OPERATOR, 0), Reason.POLICY_MISMATCH),
    (
        "empty-content",
        lambda w: w.motion(MessageKind.OPERATOR, b""),
        Reason.MALFORMED,
    ),
]


@pytest.mark.parametrize(
    ("make", "reason"),
    [pytest.param(make, reason, id=name) for name, make, reason in REFUSALS],
)
def test_motion_refused_changes_nothing(
    make: Callable[[SmallChain], Envelope], reason: Reason
) -> None:
    world = opened(validators=4)
    world.height = 2
    envelope = make(world)
    before = world.tree.root()
    result = world.do(envelope)
    assert (result.code, world.tree.root()) == (reason, before)


@pytest.mark.parametrize("validators", [1, 2, 3, 4, 5, 7])
def test_motion_needs_exactly_a_quorum(validators: int) -> None:
    world = opened(validators=validators)
    needed = 2 * validators // 3 + 1
    lacking = world.operator(STRANGER, voters=range(needed - 1))
    assert world.do(lacking).code == Reason.NOT_AUTHORISED
    world.must(world.operator(STRANGER, voters=range(validators - needed, validators)))
