"""A power cut right before every single effect of a short run."""

import pytest

from tests.sim.campaign import finish
from tests.sim.world import Plan, World

PLAN = Plan(boards=4, buffer=2, staleness_max=8)
SEED = 1
VERSIONS = 2
SHARES = 6


def party_of(world: World, name: str) -> int:
    """A party's place, by its name."""
    return [party.name for party in world.parties].index(name)


def instants(name: str) -> int:
    """How many effects a party carries out until the second version."""
    world = World(SEED, PLAN)
    assert world.reach(VERSIONS, 60.0)
    return world.parties[party_of(world, name)].instants


def crash_at(name: str, *cuts: int) -> None:
    """Runs to the end with power cuts before these effects.

    Raises:
      Exception: Whatever went wrong, with the effects as a note.
    """
    world = World(SEED, PLAN)
    party = world.parties[party_of(world, name)]
    party.cuts = frozenset(cuts)
    try:
        world.reach(VERSIONS, 60.0)
        finish(world)
        assert party.crashes == len(cuts)
    except Exception as error:
        error.add_note(f"{name} cut at {cuts}\n{world.time.tail}")
        raise


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("name", ["office", "board0"])
def test_power_cut_before_any_effect_loses_nothing(name: str, share: int) -> None:
    count = instants(name)
    assert count > 30

    for number in range(share, count, SHARES):
        crash_at(name, number)


@pytest.mark.soak
@pytest.mark.parametrize("gap", range(1, 9))
@pytest.mark.parametrize("name", ["office", "board0"])
def test_power_cut_during_recovery_loses_nothing(name: str, gap: int) -> None:
    for number in range(instants(name)):
        crash_at(name, number, number + gap)
