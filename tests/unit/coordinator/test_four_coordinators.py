"""Four coordinators: versions they agree on, and one that was away."""

from msgspec.structs import astuple

from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.step.effects import SendFrame
from tests.unit.coordinator.fixtures.council_genesis import COUNT
from tests.unit.coordinator.fixtures.council_views import (
    TASK,
    subject_of,
    updates,
)
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.single_coordinator import MODEL


def test_council_transaction_at_one_enters_everybody_s_chain(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    heights = council.heights()
    assert heights[0] >= len(boards) + 1
    assert len(set(heights)) == 1
    tips = {m.state.ledger.tip.header for m in council.members}
    assert len(tips) == 1


def test_council_bundle_and_model_reach_those_who_lack_them(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for member in council.members:
        assert member.store.blob(member.state.tasks[TASK].spec.bundle) == b"bundle"
        assert all(member.store.blob(d) for d in astuple(MODEL.digests()))
        assert not member.state.wanted


def test_council_two_updates_make_a_version_at_all_four(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for board in boards[:2]:
        council.contribute(board, 0)
    council.run(1.0)
    assert council.heads() == [1, 1, 1, 1]
    models = {m.state.tasks[TASK].model for m in council.members}
    assert len(models) == 1


def test_council_one_down_three_go_on_and_it_catches_up(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.crash(1)
    for board in boards[:2]:
        council.contribute(board, 0, to={0, 2, 3})
    council.run(8.0)
    assert [council.heads()[i] for i in (0, 2, 3)] == [1, 1, 1]

    council.restart(1)
    council.run(5.0)

    assert council.heads() == [1, 1, 1, 1]
    assert len(set(council.heights())) == 1
    late = council.members[1].state.tasks[TASK]
    assert late.model == council.members[0].state.tasks[TASK].model


def test_council_caught_up_member_computes_the_next_version(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.crash(1)
    for board in boards[:2]:
        council.contribute(board, 0, to={0, 2, 3})
    council.run(8.0)
    council.restart(1)
    council.run(5.0)
    for board in boards[:2]:
        council.contribute(board, 1)
    council.run(6.0)

    assert council.heads() == [2, 2, 2, 2]
    assert council.members[1].store.model(0, 2) is not None


def test_council_two_down_nothing_is_final(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.crash(1, 2)
    before = council.heights()[0]
    for board in boards[:2]:
        council.contribute(board, 0, to={0, 3})
    council.run(5.0)
    assert council.heights()[0] == before
    assert council.heads()[0] == 0


def test_council_vector_at_one_only_is_got_before_the_prevote(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for board in boards[:2]:
        council.contribute(board, 0, to={2})
    council.run(6.0)
    assert council.heads() == [1, 1, 1, 1]
    asked = [e for e in council.members[0].effects if isinstance(e, SendFrame)]
    assert any(e.subject is FrameSubject.REQUEST for e in asked)


def test_council_without_the_vector_nobody_else_prevotes(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.cut = lambda source, target, m: subject_of(m) == FrameSubject.UPLOAD
    council.contribute(boards[0], 0, to={2})
    council.run(4.0)
    assert updates(council, boards[0]) == [0] * COUNT

    council.cut = lambda source, target, m: False
    council.run(12.0)
    assert updates(council, boards[0]) == [1] * COUNT
