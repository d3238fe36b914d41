"""A validator votes once enough others decide no later height than it does."""

from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.protocol.chain.genesis import FaultModel
from tests.unit.coordinator.chain.node.silent_validator import (
    LISTEN_S,
    ME,
    reason,
    receive,
    receive_statuses,
    say,
    start,
    status,
    without_its_chain,
)
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.unit.coordinator.fixtures.small_genesis import (
    STRANGER,
    genesis,
    validator_of,
)


@pytest.mark.parametrize("model", list(FaultModel), ids=lambda model: model.name)
@pytest.mark.parametrize("validators", range(2, 21))
def test_level_never_waits_for_more_than_a_quorum_has_besides_us(
    validators: int, model: FaultModel
) -> None:
    # A crash-only chain begins with 2 or 3 and may grow.
    validator = replace(validator_of(genesis(validators)), fault_model=model)
    assert validator.peers_to_reach <= validator.quorum - 1
    meets_every_quorum = (
        validator.peers_to_reach + validator.quorum - 1 > validators - 1
    )
    odd_majority = model is FaultModel.CRASH and validators % 2 == 1
    assert meets_every_quorum is not odd_majority


def unheard(**options: object) -> tuple[SmallChain, SingleValidator, bytes]:
    """Ourselves after the listening, with an offer to vote on, and nothing heard."""
    world, _, offer = start()
    me = SingleValidator(
        world.genesis, world.validators[ME], listen_s=LISTEN_S, **options
    )
    return world, me, gossip_messages.wrap_proposal(offer)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([], id="nobody"),
        pytest.param([(0, 1)], id="one"),
        pytest.param([(0, 1), (0, 1)], id="one-twice"),
        pytest.param([(0, 1), (ME, 1)], id="we-ourselves"),
        pytest.param([(0, 1), (3, 2)], id="one-is-ahead"),
        pytest.param([(0, 9), (1, 2), (3, 9)], id="all-ahead"),
    ],
)
def test_validator_that_too_few_are_level_with_stays_silent(
    told: list[tuple[int, int]],
) -> None:
    world, me, offer = unheard()
    for number, (who, height) in enumerate(told):
        say(world, me, who, height, 1.0 + number / 8)
    receive(me, offer, LISTEN_S + 1.0)
    me.tick(LISTEN_S + 60.0)
    assert me.votes() == []
    assert "old backup" in reason(me, LISTEN_S + 60.0)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([(0, 1), (1, 1)], id="level"),
        pytest.param([(3, 9), (0, 1), (1, 1)], id="level-and-a-liar"),
        pytest.param([(0, 1), (1, 1), (0, 5), (1, 5)], id="level-then-ahead"),
        pytest.param([(0, 5), (1, 5), (0, 1), (1, 1)], id="claims-withdrawn"),
    ],
)
def test_validator_votes_once_enough_are_level_with_it(
    told: list[tuple[int, int]],
) -> None:
    world, me, offer = unheard()
    for number, (who, height) in enumerate(told):
        say(world, me, who, height, 1.0 + number / 8)
    receive(me, offer, LISTEN_S + 1.0)
    assert len(me.votes()) == 1


def test_silence_that_a_status_ends_is_over_with_the_next_step() -> None:
    world, me, offer = unheard(status_s=100.0)
    receive(me, offer, 1.0)
    now_s = LISTEN_S + 20.0
    receive_statuses(world, me, now_s)
    assert me.votes() == []
    assert me.state.wake_at_s == now_s
    me.tick(now_s)
    assert len(me.votes()) == 1


def test_level_holds_until_the_next_start() -> None:
    world, me, offer = unheard()
    receive_statuses(world, me, 1.0)
    receive_statuses(world, me, 3.0, others=(0, 1, 3), height=9)
    assert reason(me, LISTEN_S) == ""
    me.restart(20.0)
    receive(me, offer, 20.0 + LISTEN_S)
    assert me.votes() == []


def test_old_backup_of_chain_and_journal_catches_up_and_listens_again() -> None:
    world, _, offers, decisions = without_its_chain()
    me = SingleValidator(world.genesis, world.validators[ME], listen_s=LISTEN_S)
    receive_statuses(world, me, 1.0, height=3)
    for offer in offers:
        receive(me, offer, 20.0)
    assert "old backup" in reason(me, 20.0)
    receive(me, decisions[0], 20.0)
    assert "listens" in reason(me, 20.0)
    assert "old backup" in reason(me, 20.0 + LISTEN_S)
    receive(me, decisions[1], 30.0)
    assert me.votes() == []
    assert "listens" in reason(me, 30.0)
    assert reason(me, 30.0 + LISTEN_S) == ""


def test_chain_that_runs_on_leaves_nobody_silent() -> None:
    world, _, _, decisions = without_its_chain()
    me = SingleValidator(world.genesis, world.validators[ME], listen_s=LISTEN_S)
    receive_statuses(world, me, 1.0, height=2)
    receive_statuses(world, me, 2.0, height=40)
    receive(me, decisions[0], 3.0)
    # At height 2 when others are far beyond 40, but all that we may have signed is
    # of height 2 or before.
    assert reason(me, 3.0 + LISTEN_S) == ""


def test_one_of_three_that_only_crash_waits_for_one_other() -> None:
    world = SmallChain(3)
    crash = genesis(3, FaultModel.CRASH)
    world.genesis, world.chain_id = crash, crash.chain_id()
    me = SingleValidator(world.genesis, world.validators[ME], listen_s=LISTEN_S)
    me.tick(LISTEN_S)
    assert "1 more" in reason(me, LISTEN_S)
    say(world, me, 0, 1, LISTEN_S)
    assert reason(me, LISTEN_S) == ""


def test_observer_is_level_before_it_becomes_a_validator() -> None:
    world = SmallChain(4)
    me = SingleValidator(world.genesis, STRANGER, listen_s=LISTEN_S)
    for who in (0, 1, 3):
        receive(me, status(world, who, 1, 5, ()), 1.0)
    assert not me.state.caught_up
    receive_statuses(world, me, 2.0)
    assert me.state.caught_up
