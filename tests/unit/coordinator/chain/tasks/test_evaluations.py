"""Held-out losses: stated once each, the median of the first quorum, and the pause."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from starling.coordinator.chain.execution.state_machine import execute
from starling.coordinator.chain.state.overlay import LossKnown, TaskResumed
from starling.coordinator.chain.tasks import evaluations
from starling.coordinator.chain.tasks.evaluations import (
    KEPT,
    LOSSES,
    WATCHED,
    evaluators,
    task_loss,
)
from starling.protocol.errors import Reason
from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.progress_guard import GuardPolicy, TaskLoss
from starling.protocol.wire.envelope import Envelope
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import board_key, validator_key
from tests.unit.coordinator.fixtures.small_task import SPEC
from tests.unit.coordinator.fixtures.state_invariants import check_invariants

GUARDED = replace(SPEC, guard=GuardPolicy(2))


def evaluated(versions: int = 1, validators: int = 4) -> SmallChain:
    world = opened(validators=validators, spec=GUARDED)
    for base in range(versions):
        world.advance(base)
    return world


def refuses(world: SmallChain, envelope: Envelope, reason: Reason) -> None:
    before = world.tree.root()
    assert world.do(envelope).code == reason
    assert world.tree.root() == before


def happenings(world: SmallChain, *envelopes: Envelope) -> tuple[object, ...]:
    return execute(world.tree, world.context, envelopes).happenings


def median(world: SmallChain, version: int) -> int | None:
    found = LOSSES.get(world.tree, 0, version)
    return None if found is None else found.median


def test_evaluators_are_who_stated_losses_of_the_last_versions() -> None:
    world = evaluated(WATCHED)
    world.must(world.evaluation(0, 70, 3))
    assert evaluators(world.tree, 0) == 0
    world.must(world.evaluation(1, 70, 0), world.evaluation(WATCHED, 70, 0))
    assert evaluators(world.tree, 0) == 1
    world.must(world.evaluation(2, 70, 1))
    assert evaluators(world.tree, 0) == 2


def falls_no_more(world: SmallChain) -> None:
    """Version 0 stays the best of three, by the losses of all validators."""
    for version, loss in ((0, 5), (1, 6), (2, 7)):
        for who in range(len(world.validators)):
            if median(world, version) is None:
                world.must(world.evaluation(version, loss, who))


def test_lower_median_of_the_first_quorum_counts_for_good() -> None:
    world = evaluated()
    world.must(world.evaluation(1, 70, 0), world.evaluation(1, 10, 1))
    assert median(world, 1) is None
    assert task_loss(world.tree, 0) is None
    world.must(world.evaluation(1, 40, 2))
    assert median(world, 1) == 40
    refuses(world, world.evaluation(1, 90, 3), Reason.STALE)
    best = TaskLoss(Version(1), 40, Version(1), 40)
    assert task_loss(world.tree, 0) == best
    check_invariants(world.tree)


def test_quorum_is_noticed_once_and_the_resumption_too() -> None:
    world = evaluated(2, validators=1)
    found = happenings(world, world.evaluation(1, 4), world.evaluation(2, 3))
    known = (LossKnown(TaskId(0), Version(1)), LossKnown(TaskId(0), Version(2)))
    assert found == known


def test_task_pauses_and_goes_on_from_where_an_operator_resumes_it() -> None:
    world = evaluated(3, validators=1)
    falls_no_more(world)
    assert evaluations.paused(world.tree, 0)
    assert happenings(world, world.resume(2)) == (TaskResumed(TaskId(0)),)
    world.must(world.resume(2))
    assert not evaluations.paused(world.tree, 0)
    world.must(world.evaluation(3, 9))
    assert not evaluations.paused(world.tree, 0)
    world.advance(3)
    world.must(world.evaluation(4, 9))
    assert evaluations.paused(world.tree, 0)
    check_invariants(world.tree)


def test_better_version_of_what_was_paid_for_ends_the_pause() -> None:
    world = evaluated(3)
    falls_no_more(world)
    assert evaluations.paused(world.tree, 0)
    world.must(*(world.evaluation(3, 1, who) for who in range(3)))
    assert not evaluations.paused(world.tree, 0)


def test_task_without_patience_never_pauses() -> None:
    world = opened(validators=1)
    for base in range(3):
        world.advance(base)
    falls_no_more(world)
    assert not evaluations.paused(world.tree, 0)


def test_losses_of_old_versions_go_and_the_best_stays() -> None:
    world = evaluated(1, validators=1)
    world.must(world.evaluation(1, 3))
    for base in range(1, KEPT + 1):
        world.advance(base)
    check_invariants(world.tree)
    assert median(world, 1) is None
    found = task_loss(world.tree, 0)
    assert found is not None
    assert (found.best, found.best_micro) == (1, 3)
    refuses(world, world.evaluation(1, 3), Reason.STALE)


def _again(loss: int) -> Callable[[SmallChain], Envelope]:
    def make(world: SmallChain) -> Envelope:
        world.must(world.evaluation(1, 5))
        return world.evaluation(1, loss)

    return make


def _resumed_by(who: int) -> Callable[[SmallChain], Envelope]:
    return lambda world: world.resume(1, who=validator_key(who))


REFUSALS: list[tuple[str, Callable[[SmallChain], Envelope], Reason]] = [
    (
        "by-a-board",
        lambda w: w.evaluation(1, 5, who=board_key(0)),
        Reason.NOT_AUTHORISED,
    ),
    ("not-final", lambda w: w.evaluation(2, 5), Reason.STALE),
    ("unknown-task", lambda w: w.evaluation(1, 5, task=4), Reason.UNKNOWN_TASK),
    ("again", _again(5), Reason.ALREADY_KNOWN),
    ("otherwise", _again(6), Reason.EQUIVOCATION),
    ("resumed-by-a-validator", _resumed_by(0), Reason.NOT_AUTHORISED),
    ("resumed-though-it-runs", lambda w: w.resume(1), Reason.STALE),
    ("resumed-without-a-task", lambda w: w.resume(1, task=4), Reason.UNKNOWN_TASK),
]


@pytest.mark.parametrize(
    ("make", "reason"),
    [pytest.param(make, reason, id=name) for name, make, reason in REFUSALS],
)
def test_refusal(make: Callable[[SmallChain], Envelope], reason: Reason) -> None:
    world = evaluated()
    refuses(world, make(world), reason)


def test_resumption_of_what_the_operator_has_not_seen_is_refused() -> None:
    world = evaluated(3, validators=1)
    falls_no_more(world)
    refuses(world, world.resume(1), Reason.STALE)
    world.must(world.resume(2))
