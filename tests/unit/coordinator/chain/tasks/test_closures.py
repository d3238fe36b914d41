"""CLOSE: one operator ends a task, once, and the chain says who and when."""

from dataclasses import replace

import pytest

from starling.coordinator.chain.execution.state_machine import execute
from starling.coordinator.chain.state import closure_records, task_records
from starling.coordinator.chain.state.overlay import TaskClosed
from starling.protocol.errors import Reason
from starling.protocol.ids import TaskId
from starling.protocol.learning.end_policy import EndPolicy
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import (
    OPERATOR,
    board_key,
    validator_key,
)
from tests.unit.coordinator.fixtures.small_task import SPEC
from tests.unit.coordinator.fixtures.state_invariants import check_invariants


@pytest.fixture
def world() -> SmallChain:
    return opened()


def test_operator_closes_a_task_once_and_for_good(world: SmallChain) -> None:
    assert closure_records.closure(world.tree, 0) is None

    done = execute(world.tree, world.context, (world.close(0),))
    assert done.happenings == (TaskClosed(TaskId(0)),)
    world.must(world.close(0))

    ended = closure_records.closure(world.tree, 0)
    assert ended is not None
    assert ended.operator == OPERATOR.public
    assert ended.height > 0
    assert f"at height {ended.height}" in ended.text
    before = world.tree.root()
    assert world.do(world.close(0)).code == Reason.ALREADY_KNOWN
    assert world.tree.root() == before
    check_invariants(world.tree)


def test_nobody_else_closes_it_and_no_task_that_is_not_there(
    world: SmallChain,
) -> None:
    before = world.tree.root()

    for stranger in (validator_key(0), board_key(0)):
        refused = world.do(world.close(0, who=stranger))
        assert refused.code == Reason.NOT_AUTHORISED
    assert world.do(world.close(7)).code == Reason.UNKNOWN_TASK

    assert world.tree.root() == before
    assert closure_records.closure(world.tree, 0) is None


def test_update_that_was_leased_before_is_taken_after_the_end(
    world: SmallChain,
) -> None:
    world.must(world.close(0))

    world.advance(0)

    check_invariants(world.tree)


@pytest.mark.parametrize("over", ["open", "closed", "ended"])
def test_fewer_than_half_a_buffer_become_a_version_once_the_task_is_over(
    over: str,
) -> None:
    end = EndPolicy(version=1 if over == "ended" else 0)
    world = opened(spec=replace(SPEC, end=end))
    world.advance(0)
    world.must(world.update(0, 1))
    if over == "closed":
        world.must(world.close(0))

    for _ in range(SPEC.aggregation.patience):
        world.end_block()
        assert task_records.open_job(world.tree, 0) is None
    world.end_block()

    job = task_records.open_job(world.tree, 0)
    assert (job is not None) == (over != "open")
    check_invariants(world.tree)


def test_nobody_funds_a_closed_task(world: SmallChain) -> None:
    world.must(world.close(0))
    before = world.tree.root()

    assert world.do(world.fund(1)).code == Reason.CLOSED

    assert world.tree.root() == before
