"""An adversary with the network and up to f keys never makes a fork; one more does.

Each broken rule must be noticed within its budget of scenarios: how many runs pass says
nothing, how many planted bugs they find does.
"""

import random

import pytest

from tests.sim.twins.playback import Outcome, play
from tests.sim.twins.rule_mutants import MUTANTS, Mutant
from tests.sim.twins.scenarios import Crew, QuorumRules, Stage
from tests.unit.coordinator.fixtures.small_genesis import genesis, validator_of

LAW = QuorumRules()
CREWS = [
    pytest.param(Crew(4), id="network-alone"),
    pytest.param(Crew(4, twins=(3,)), id="twin"),
    pytest.param(Crew(4, liars=(3,)), id="liar"),
    pytest.param(Crew(5, liars=(1,)), id="liar-of-five"),
    pytest.param(Crew(7, twins=(6,), liars=(2,)), id="twin-and-liar-of-seven"),
]


def check(crew: Crew, seed: int) -> Outcome:
    outcome = play(crew, LAW, seed)
    wicked = {*crew.twins, *crew.liars}
    assert not outcome.forked, f"seed {seed}: fork"
    assert outcome.doubles <= wicked, f"seed {seed}: {outcome.doubles} accused"
    return outcome


def first_kill(mutant: Mutant, first_seed: int = 0) -> int | None:
    for number in range(mutant.budget):
        if play(mutant.crew, mutant.law, first_seed + number).forked:
            return number + 1
    return None


@pytest.mark.parametrize("crew", CREWS)
def test_up_to_f_keys_make_no_fork_and_only_they_are_accused(crew: Crew) -> None:
    outcomes = [check(crew, seed) for seed in range(250)]
    decided = sum(bool(outcome.decisions) for outcome in outcomes)
    assert decided > 100, "scenarios in which nothing is decided show nothing"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_broken_rule_is_noticed(mutant: Mutant) -> None:
    assert first_kill(mutant) is not None


@pytest.mark.parametrize(
    "crew", [Crew(4, liars=(0, 3)), Crew(7, liars=(0, 3, 5))], ids=["4", "7"]
)
def test_more_than_f_liars_make_a_fork_and_are_named(crew: Crew) -> None:
    outcomes = [play(crew, LAW, seed) for seed in range(250)]
    forks = [outcome for outcome in outcomes if outcome.forked]
    assert len(forks) >= 5
    for outcome in forks:
        assert len(outcome.named) >= len(crew.liars)
        assert outcome.named <= set(crew.liars)


def test_a_scenario_follows_from_its_seed() -> None:
    crew = Crew(4, twins=(1,))
    assert play(crew, LAW, 11) == play(crew, LAW, 11)


@pytest.mark.parametrize("count", [4, 5, 7, 10])
def test_unbroken_law_has_the_products_quorum(count: int) -> None:
    stage = Stage(Crew(count), LAW, random.Random(0), 1)
    assert stage.nodes[0].validator.quorum == validator_of(genesis(count)).quorum


@pytest.mark.soak
@pytest.mark.parametrize("crew", CREWS)
def test_many_scenarios_make_no_fork(crew: Crew) -> None:
    for seed in range(20_000):
        check(crew, seed)


@pytest.mark.soak
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_broken_rule_is_noticed_from_whatever_seed(mutant: Mutant) -> None:
    for first_seed in range(0, 5_000_000, 1_000_000):
        assert first_kill(mutant, first_seed) is not None, f"from seed {first_seed}"
