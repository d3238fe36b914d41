"""A chain that stands still says so, why, and because of whom."""

from dataclasses import replace

import pytest

from starling.coordinator.chain.consensus.round_state import Timeouts
from starling.coordinator.chain.node.node import TransactionSubmitted
from starling.coordinator.commit.transaction_submission import advance
from starling.coordinator.health import chain_stall
from starling.coordinator.health.chain_stall import ChainStall, MissingVotes
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import LogLine
from starling.protocol.ids import TaskId
from starling.protocol.wire.envelope import MessageKind
from tests.unit.coordinator.fixtures.coordinator_member import CoordinatorMember
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators

TASK = TaskId(0)
HEARTBEAT_S = 60


def look(council: FourCoordinators, index: int, *outside: str) -> ChainStall:
    member = council.members[index]
    return chain_stall.look(member.settings, member.state, council.now_s, outside)


def test_council_that_runs_is_not_stalled(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for index in range(4):
        found = look(council, index)
        assert not found.stalled
        assert found.why == ()
        assert found.missing == MissingVotes()
        assert found.block_age_s < HEARTBEAT_S


def test_council_with_nothing_to_decide_is_not_stalled_for_some_heartbeats(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.run(2.0 * HEARTBEAT_S)
    assert not any(look(council, index).stalled for index in range(4))


def test_council_of_which_two_are_down_names_them_and_their_votes(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.crash(2, 3)
    for board in boards[:2]:
        council.contribute(board, 0, to={0, 1})
    council.run(20.0)
    for index in (0, 1):
        found = look(council, index, "disk: full")
        assert found.stalled
        assert found.block_age_s > 15.0
        silence, *rest = found.why
        assert silence.startswith("no quorum: heard from 2 of 4, silent member 2 for 2")
        assert "member 3 for 2" in silence
        assert "disk: full" in rest
        missing = found.missing.prevotes
        assert set(missing) >= {"member 2", "member 3"}
        assert "member 2, member 3" in found.missing.text
        assert found.missing.text in rest[-1]

    council.restart(2)
    council.restart(3)
    council.run(8.0)

    assert not any(look(council, index).stalled for index in range(4))


def test_round_that_is_high_is_a_reason(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member = council.members[0]
    deciding = replace(member.state.ledger.consensus, round=chain_stall.HIGH_ROUND)
    ledger = replace(member.state.ledger, consensus=deciding)
    state = replace(member.state, ledger=ledger)
    (why,) = chain_stall.look(member.settings, state, council.now_s).why
    assert why.startswith(f"round {chain_stall.HIGH_ROUND} of height {deciding.height}")


def test_member_that_left_the_set_says_that_it_is_no_validator(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member = council.members[0]
    validator = replace(member.state.ledger.validator, index=None)
    state = replace(
        member.state, ledger=replace(member.state.ledger, validator=validator)
    )
    (why,) = chain_stall.look(member.settings, state, council.now_s).why
    assert "no validator" in why


def test_member_behind_says_behind_whom(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member = council.members[0]
    who, peer = max(member.state.peers.items())
    peers = {**member.state.peers, who: replace(peer, height=1000)}
    state = replace(member.state, peers=peers)
    (why,) = chain_stall.look(member.settings, state, council.now_s).why
    assert "decides height 1000" in why


@pytest.mark.parametrize(
    ("timeouts", "patience_s"),
    [(Timeouts(1.0, 0.5, 0.0), 6.0), (Timeouts(1.0, 0.5, 1.0), 15.0)],
)
def test_patience_is_all_time_outs_of_the_first_rounds(
    timeouts: Timeouts, patience_s: float
) -> None:
    assert chain_stall.patience_s(timeouts) == patience_s


def tampered(member: CoordinatorMember) -> None:
    """One entry of the state differs from everybody else's."""
    ledger = member.state.ledger
    tree = ledger.tree.update({b"boards": b"\x00"})
    tip = replace(ledger.tip, tree=tree)
    member.state = replace(member.state, ledger=replace(ledger, tip=tip))


def test_member_with_another_state_says_which_block_and_roots_once(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    wrong = council.members[3]
    wrong.effects.clear()
    tampered(wrong)
    for board in boards[:2]:
        council.contribute(board, 0)
    council.run(6.0)

    found = wrong.state.diverged
    assert found is not None
    block = council.members[0].store.header(found.height)
    assert block is not None
    assert found.height == wrong.state.ledger.height + 1
    assert found.certified == block.header.state_root
    assert found.computed not in (None, found.certified)
    assert found.first_key
    grave = [e.text for e in wrong.effects if isinstance(e, LogLine) and e.grave]
    (text,) = grave
    assert found.certified.hex() in text
    assert repr(found.first_key) in text
    seen = look(council, 3)
    assert seen.stalled
    assert "our state differs" in seen.why[0]
    assert all(member.state.diverged is None for member in council.members[:3])


def test_waiting_begins_with_the_first_transaction_and_anew_with_each_block(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member = council.members[0]
    step = CoordinatorStep(member.settings, member.state, council.now_s + 1.0, 0)
    advance(step, TransactionSubmitted(step.sign(MessageKind.PRESENT, b"")))
    assert step.state.pace.waits_from_s == council.now_s + 1.0
    step.now_s += 5.0
    advance(step, TransactionSubmitted(step.sign(MessageKind.PRESENT, b"other")))
    assert step.state.pace.waits_from_s == council.now_s + 1.0
