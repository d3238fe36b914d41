"""Up to f liars that answer everything the honest do cannot keep heights from ending.

For each liar the same world without it is the measure: what is final, in which round,
and how soon.
"""

import pytest

from starling.coordinator.chain.consensus import tendermint
from starling.coordinator.chain.consensus.vote_set import VoteSet
from starling.coordinator.chain.gossip import certificate_gossip
from starling.coordinator.chain.node import message_handlers
from starling.coordinator.chain.node.node import BlamePeer
from starling.coordinator.chain.state import board_records
from starling.protocol.errors import Reason
from tests.sim.consensus.byzantine_validators import (
    Asker,
    ByzantineValidators,
    Hurrier,
    LateLender,
    Leapfrogger,
    Lender,
    LiedTo,
    QuietLender,
    Replayer,
)
from tests.sim.consensus.byzantine_variants import (
    Driver,
    Forger,
    Splitter,
    WrongRoots,
)
from tests.sim.consensus.validator_network import Cut, Weather, never
from tests.sim.twins.rule_mutants import MUTANTS
from tests.unit.coordinator.fixtures.small_genesis import board_id

BEATS = 6
EVERY_S = 2.0
COUNT = 30
END_S = EVERY_S * COUNT
ROUNDS_MAX = 4
"""In which a height ends at the latest: a liar leads one, or f do, one round may be
lost to a vote that was lent, and one to a block that came late."""
WORST_S = 12.0
"""From handing in a transaction to its finality, with timeouts of 1 and 0.5 s."""


def world(
    liars: type[ByzantineValidators], seed: int, validators: int = 4, cut: Cut = never
) -> LiedTo:
    lying = range(validators - (validators - 1) // 3, validators)
    weather = Weather(delay_s=0.02, calm_from_s=1e9)
    made = LiedTo(seed, validators, tuple(lying), liars, weather, cut)
    for number in range(COUNT):
        made.submit(EVERY_S * number, made.world.register(number))
    return made


def unregistered(made: LiedTo, before_s: float) -> list[int]:
    """What was handed in before a moment and is not final everywhere."""
    handed_in = range(min(COUNT, int(before_s / EVERY_S)))
    return [
        number
        for number in handed_in
        for node in made.nodes
        if board_records.board(node.state.tree, board_id(number)) is None
    ]


def play(made: LiedTo) -> None:
    """Goes on to the end; nothing may wait for long."""
    for until_s in range(10, int(END_S + WORST_S) + 10, 10):
        made.run(until_s + 5.0, lambda until_s=until_s: made.now_s >= until_s)  # type: ignore[misc]  # bound at once
        assert unregistered(made, made.now_s - WORST_S) == [], f"seed {made.seed}"
    made.check_votes()
    assert max(made.rounds()) <= ROUNDS_MAX, f"seed {made.seed}: {made.rounds()}"


LENDERS = [Leapfrogger, Lender, QuietLender, LateLender, Splitter]


@pytest.mark.parametrize("liars", LENDERS)
@pytest.mark.parametrize("validators", [4, 7])
def test_votes_lent_to_one_listener_end_no_height_later(
    liars: type[Lender], validators: int
) -> None:
    made = world(liars, 1, validators)
    play(made)
    assert isinstance(made.liars, Lender)
    assert made.liars.lent > COUNT // 8, "a liar that lent nothing shows nothing"


def stalls(made: LiedTo) -> bool:
    try:
        play(made)
    except AssertionError:
        return True
    return False


def take_quorums_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody passes a quorum on, or asks for a block that others prevote."""
    monkeypatch.setattr(certificate_gossip, "share_polka", lambda step: None)
    monkeypatch.setattr(VoteSet, "polka_of", lambda vote_set, number, needed: None)
    monkeypatch.setattr(message_handlers, "_miss_block", lambda step, vote: None)


@pytest.mark.parametrize("validators", [4, 7])
def test_without_the_gossip_of_quorums_the_lender_stops_the_chain(
    monkeypatch: pytest.MonkeyPatch, validators: int
) -> None:
    take_quorums_out(monkeypatch)
    worlds = (world(Leapfrogger, seed, validators) for seed in range(4))
    assert any(stalls(made) for made in worlds)


def test_vote_that_the_model_never_casts_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ignores_the_lock = MUTANTS[0]
    monkeypatch.setattr(tendermint, "RULES", ignores_the_lock.law.rules)
    # A lock of which the next leader does not know must be there to be ignored.
    take_quorums_out(monkeypatch)
    with pytest.raises(AssertionError) as raised:
        play(world(Leapfrogger, 0))
    assert raised.traceback[-1].name == "cast_prevote"


@pytest.mark.soak
@pytest.mark.parametrize("liars", LENDERS)
@pytest.mark.parametrize("validators", [4, 7])
@pytest.mark.parametrize("seed", range(20))
def test_votes_lent_end_no_height_later_whatever_the_seed(
    liars: type[Lender], validators: int, seed: int
) -> None:
    play(world(liars, 100 + seed, validators))


def cut_off(now_s: float, source: int, target: int) -> bool:
    """One of the honest is alone for 4 s of each 20."""
    return 4.0 < now_s % 20.0 < 8.0 and (source == 0) != (target == 0)


@pytest.mark.parametrize("seed", range(2))
def test_what_is_said_again_however_old_changes_nothing(seed: int) -> None:
    calm, lied = (
        world(liars, seed, cut=cut_off) for liars in (ByzantineValidators, Replayer)
    )
    for made in (calm, lied):
        made.run(END_S + 5.0, lambda made=made: made.now_s >= END_S)  # type: ignore[misc]  # bound at once
        made.check_votes()
    assert min(lied.heights()) >= min(calm.heights()) - 1


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(30))
def test_what_is_said_again_changes_nothing_whatever_the_seed(seed: int) -> None:
    test_what_is_said_again_however_old_changes_nothing(100 + seed)


@pytest.mark.parametrize("validators", [4, 7])
def test_nobody_hurries_empty_heights(validators: int) -> None:
    lying = range(validators - (validators - 1) // 3, validators)
    weather = Weather(delay_s=0.02, calm_from_s=1e9)
    made = LiedTo(3, validators, tuple(lying), Hurrier, weather)
    beat_s = made.world.genesis.heartbeat_s
    made.run(4.0 * beat_s, lambda: made.now_s > 3.5 * beat_s)
    assert 2 <= min(made.heights()) <= max(made.heights()) <= 3


def test_who_asks_all_the_time_gets_answers_at_the_pace_of_statuses() -> None:
    calm, lied = world(ByzantineValidators, 4), world(Asker, 4)
    for made in (calm, lied):
        made.run(END_S + 5.0, lambda made=made: made.now_s >= END_S)  # type: ignore[misc]  # bound at once
    assert min(lied.heights()) >= min(calm.heights()) - 1
    # Each of three answers at most once per half interval, with what one height holds.
    assert lied.said <= calm.said + 3 * 2 * END_S * 12


@pytest.mark.parametrize("validators", [4, 7])
def test_states_that_no_block_leads_to_cost_their_makers_turn_and_name_him(
    validators: int,
) -> None:
    made = world(WrongRoots, 5, validators)
    play(made)
    assert isinstance(made.liars, WrongRoots)
    assert made.liars.wrong
    keys = {key.public for key in made.liars.keys.values()}
    for node in made.nodes:
        blamed = [one for one in node.heard if isinstance(one, BlamePeer)]
        invalid = [one for one in blamed if one.reason == Reason.INVALID_BLOCK]
        assert {one.signer for one in invalid} <= keys
    assert max(made.rounds()) <= 1 + len(keys), made.rounds()


@pytest.mark.parametrize("validators", [4, 7])
def test_quorums_that_are_put_together_change_nothing(validators: int) -> None:
    made = world(Forger, 6, validators)
    play(made)
    # Nobody honest is named for what a liar says in his name.
    honest = {node.settings.key.public for node in made.nodes}
    for node in made.nodes:
        named = {one.signer for one in node.heard if isinstance(one, BlamePeer)}
        assert not named & honest
        assert node.state.fork is None
        assert not node.state.copied


@pytest.mark.parametrize("validators", [4, 7])
def test_what_a_validator_alone_may_sign_makes_few_heights(validators: int) -> None:
    lying = tuple(range(validators - (validators - 1) // 3, validators))
    weather = Weather(delay_s=0.02, calm_from_s=1e9)
    calm, driven = (
        LiedTo(7, validators, lying, liars, weather)
        for liars in (ByzantineValidators, Driver)
    )
    until_s = BEATS * calm.world.genesis.heartbeat_s
    for made in (calm, driven):
        made.run(until_s + 1.0, lambda made=made: made.now_s >= until_s)  # type: ignore[misc]  # bound at once
    assert max(calm.heights()) > BEATS // 2
    assert max(driven.heights()) <= 2 * max(calm.heights())


@pytest.mark.soak
@pytest.mark.parametrize("liars", [WrongRoots, Forger])
@pytest.mark.parametrize("validators", [4, 7])
@pytest.mark.parametrize("seed", range(20))
def test_forged_quorums_and_states_end_no_height_later_whatever_the_seed(
    liars: type[ByzantineValidators], validators: int, seed: int
) -> None:
    play(world(liars, 100 + seed, validators))
