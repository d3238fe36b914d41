"""Coordinators that computed something else: outvoted, named, and mended."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from starling.coordinator.aggregation.strategy import PackedModel
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.state import board_records, validator_records
from starling.coordinator.step.effects import EvaluateVersion
from tests.unit.coordinator.fixtures.council_genesis import COUNT, KEYS
from tests.unit.coordinator.fixtures.council_views import (
    TASK,
    subject_of,
)
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators


def lie(model: PackedModel) -> PackedModel:
    return replace(model, theta=bytes([model.theta[0] ^ 1]) + model.theta[1:])


def test_council_liar_is_outvoted_named_and_goes_on(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.members[3].falsify = lie
    versions = 0
    public = KEYS[3].public

    def outvoted() -> set[int]:
        found = [
            validator_records.dissent(m.state.ledger.tree, TASK, public)
            for m in council.members
        ]
        return {one.count if one else 0 for one in found}

    while outvoted() == {0} and versions < 6:
        for board in boards[:2]:
            council.contribute(board, versions)
        council.run(2.0)
        versions += 1
    assert council.heads() == [versions] * 4
    assert outvoted() == {1}
    assert all(
        board_records.fault(m.state.ledger.tree, public) is None
        for m in council.members
    )
    assert any("member 3 attested another" in r for r in council.members[0].reports())
    models = {m.state.tasks[TASK].model for m in council.members}
    assert len(models) == 1


def slow_versions(
    council: FourCoordinators, boards: list[FleetBoard], count: int
) -> None:
    """Versions of which member 3 has computed what it could, and told nobody."""
    council.members[3].slow = True
    for version in range(count):
        for board in boards[:2]:
            council.contribute(board, version)
        council.run(4.0)
    assert council.heads()[:3] == [count] * 3


@pytest.mark.parametrize("versions", [1, 2], ids=["just-final", "overtaken"])
def test_council_liar_slower_than_the_quorum_is_named(
    council: FourCoordinators, boards: list[FleetBoard], versions: int
) -> None:
    liar = council.members[3]
    liar.falsify = lie
    slow_versions(council, boards, versions)
    liar.hand_over()
    council.run(2.0)

    for member in council.members:
        found = validator_records.dissent(
            member.state.ledger.tree, TASK, KEYS[3].public
        )
        assert found is not None
        assert found.version == 1
    assert sum("not as we got it" in text for text in liar.reports()) == 1
    assert council.heads() == [versions] * COUNT
    assert len({m.state.tasks[TASK].model for m in council.members}) == 1


@pytest.mark.parametrize("versions", [1, 2], ids=["just-final", "overtaken"])
def test_council_honest_member_slower_than_the_quorum_attests_nothing(
    council: FourCoordinators, boards: list[FleetBoard], versions: int
) -> None:
    slow_versions(council, boards, versions)
    heights = council.heights()
    council.members[3].hand_over()
    council.run(2.0)

    assert council.heights() == heights
    assert council.heads() == [versions] * COUNT
    assert not any("as we got it" in text for text in council.members[3].reports())


def test_council_member_behind_computes_version_by_version_until_it_is_level(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    slow_versions(council, boards, 3)
    council.cut = lambda source, target, m: (
        subject_of(m)
        in {
            FrameSubject.MODEL,
            FrameSubject.WHOLE,
        }
    )
    council.members[3].hand_over()
    council.run(2.0)

    assert council.heads() == [3] * COUNT
    final = [
        e.version for e in council.members[3].effects if isinstance(e, EvaluateVersion)
    ]
    assert final == [0, 1, 2, 3]


def test_council_split_job_ends_when_one_that_was_wrong_is_mended(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for member in council.members[2:]:
        member.falsify = lie
    for board in boards[:2]:
        council.contribute(board, 0)
    council.run(3.0)
    assert council.heads() == [0] * COUNT

    council.members[3].falsify = lambda model: model
    council.crash(3)
    council.restart(3)
    council.run(8.0)

    assert council.heads() == [1] * COUNT
    assert len({m.state.tasks[TASK].model for m in council.members}) == 1
    assert named(council) == {2, 3}


def test_council_that_was_mended_before_the_job_split_computes_again(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for member in council.members[2:]:
        member.falsify = lie
    council.crash(2)
    for board in boards[:2]:
        council.contribute(board, 0, to={0, 1, 3})
    council.run(3.0)
    council.members[3].falsify = lambda model: model
    council.restart(3)
    council.run(5.0)
    # Two are right, one was wrong, and what the fourth says may still decide.
    assert "EQUIVOCATION" in {r for m in council.members for r in m.refusals()}
    assert council.heads() == [0] * COUNT

    council.restart(2)
    council.run(8.0)

    assert council.heads() == [1] * COUNT
    assert named(council) == {2, 3}


def test_council_of_which_two_were_wrong_once_needs_nobody(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for member in council.members[2:]:
        member.falsify = once(member.falsify)
    for board in boards[:2]:
        council.contribute(board, 0)
    council.run(3.0)
    assert council.heads() == [1] * COUNT
    assert named(council) == {2, 3}


def once(
    afterwards: Callable[[PackedModel], PackedModel],
) -> Callable[[PackedModel], PackedModel]:
    """Falsifies one model."""
    rest = iter([lie])
    return lambda model: next(rest, afterwards)(model)


def named(council: FourCoordinators) -> set[int]:
    """Whom all chains name as outvoted, each for one version."""
    trees = [member.state.ledger.tree for member in council.members]
    found = {
        tuple(validator_records.dissent(tree, TASK, key.public) for key in KEYS)
        for tree in trees
    }
    (each,) = found
    assert {one.count for one in each if one} == {1}
    return {index for index, one in enumerate(each) if one}
