"""Who may read and ask before it decides."""

from collections.abc import Callable

import pytest

from starling.coordinator.chain.governance.learners import (
    LEARNERS_MAX,
    LearnerRecord,
    is_member,
    learner,
    may_send_status,
    sends_status,
)
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import Reason
from starling.protocol.wire.envelope import Envelope, MessageKind
from starling.protocol.wire.message_bodies import LEARNER
from starling.protocol.wire.message_bodies import LearnerChange as Body
from tests.unit.coordinator.chain.governance.test_slashing import LIAR, double_vote
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import (
    OPERATOR,
    STRANGER,
    board_key,
    validator_key,
)
from tests.unit.coordinator.fixtures.state_invariants import check_invariants

NEW = 9
KEY = validator_key(NEW)


def learns(
    world: SmallChain,
    key: SigningKey = KEY,
    admitted: int = 1,
    who: SigningKey = OPERATOR,
) -> Envelope:
    body = LEARNER.pack(Body(admitted, key.public, "west"))
    return world.sign(who, MessageKind.LEARNER, body)


def heard(world: SmallChain, key: SigningKey = KEY) -> bool:
    return may_send_status(world.tree, world.genesis, world.height, key.public)


def test_operator_admits_a_learner_and_takes_it_out() -> None:
    world = opened(validators=4)
    before = world.tree.root()
    world.must(learns(world))
    assert learner(world.tree, KEY.identity) == LearnerRecord(KEY.public, "west")
    assert heard(world)
    check_invariants(world.tree)
    world.must(learns(world, admitted=0))
    assert learner(world.tree, KEY.identity) is None
    assert not heard(world)
    assert world.tree.root() == before


def _stranger(world: SmallChain) -> Envelope:
    return learns(world, who=STRANGER)


def _validator(world: SmallChain) -> Envelope:
    return learns(world, world.validators[0])


def _coming(world: SmallChain) -> Envelope:
    world.must(world.join(NEW))
    return learns(world)


def _board(world: SmallChain) -> Envelope:
    return learns(world, board_key(0))


def _operator(world: SmallChain) -> Envelope:
    return learns(world, OPERATOR)


def _twice(world: SmallChain) -> Envelope:
    world.must(learns(world))
    return learns(world)


def _convicted(world: SmallChain) -> Envelope:
    liar = world.validators[LIAR]
    world.must(double_vote(world), world.leave(liar))
    world.height += 2
    return learns(world, liar)


def _too_many(world: SmallChain) -> Envelope:
    for number in range(LEARNERS_MAX):
        world.must(learns(world, validator_key(100 + number)))
    return learns(world)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (_stranger, Reason.NOT_AUTHORISED),
        (_validator, Reason.ALREADY_KNOWN),
        (_coming, Reason.ALREADY_KNOWN),
        (_board, Reason.ALREADY_KNOWN),
        (_operator, Reason.ALREADY_KNOWN),
        (_twice, Reason.ALREADY_KNOWN),
        (_convicted, Reason.NOT_AUTHORISED),
        (_too_many, Reason.BUSY),
        (lambda world: learns(world, admitted=0), Reason.NOT_ENROLLED),
        (
            lambda world: world.sign(OPERATOR, MessageKind.LEARNER, b"\x90"),
            Reason.MALFORMED,
        ),
    ],
    ids=[
        "stranger",
        "validator",
        "coming",
        "board",
        "operator",
        "twice",
        "convicted",
        "too many",
        "nobody",
        "malformed",
    ],
)
def test_learner_is_refused(
    made: Callable[[SmallChain], Envelope], reason: Reason
) -> None:
    world = opened(validators=4)
    envelope = made(world)
    before = world.tree.root()
    assert world.do(envelope).code == reason
    assert world.tree.root() == before


def test_learner_that_is_added_learns_no_more_and_has_no_right_when_it_left() -> None:
    world = opened(validators=4)
    world.must(learns(world), world.join(NEW))
    assert learner(world.tree, KEY.identity) is None
    assert heard(world)
    world.height += 2
    world.validators = sorted((*world.validators, KEY), key=lambda key: key.public)
    world.must(world.leave(KEY))
    world.height += 2
    assert not heard(world)
    assert not is_member(world.tree, world.genesis, world.height, KEY.public)
    check_invariants(world.tree)


def test_founder_that_was_removed_says_nothing_and_may_learn_anew() -> None:
    world = opened(validators=4)
    founder = world.validators[0]
    world.must(world.leave(founder))
    world.height += 2
    told = (world.tree, world.genesis, world.height, founder.public)
    assert not may_send_status(*told)
    assert not sends_status(*told)
    world.must(learns(world, founder))
    assert sends_status(world.tree, *told[1:])


def test_newcomer_tells_where_it_is_before_it_knows_that_it_was_admitted() -> None:
    world = SmallChain(4)
    assert sends_status(world.tree, world.genesis, 1, KEY.public)
    assert not heard(world)
    assert world.tree.get(b"learners") is None
