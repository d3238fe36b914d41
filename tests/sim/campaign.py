"""A seed's whole run: faults are drawn, then all is calm, then all must be well.

`python -m tests.sim.campaign 42` runs a seed again and prints what happened last.
"""

import random
import sys
from dataclasses import dataclass

from tests.sim.simulator.fleet_world import FleetWorld, Plan
from tests.sim.simulator.virtual_time import Weather

LIVENESS_S = 120.0
"""Virtual time within which two more versions follow, once the weather is calm."""
SETTLE_S = 120.0
"""And all that was sent stands in the chain after as long again."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
      trace: Names everything that happened.
      head: The newest version.
      crashes: Power cuts of all parties.
    """

    trace: str
    head: int
    crashes: int


def plan_for(seed: int) -> Plan:
    """A fleet and its weather; every second seed or so lacks a given fault."""
    rng = random.Random(f"plan {seed}")
    boards = rng.choice((3, 4, 4, 5, 6))
    return Plan(
        boards=boards,
        buffer=boards // 2,
        dimension=17_000 if rng.random() < 0.05 else 4,
        private=rng.random() < 0.7,
        staleness_max=rng.choice((1, 2, 8)),
        storm_s=rng.uniform(8.0, 20.0),
        weather=Weather(
            delay_s=rng.choice((0.01, 0.05, 0.4)),
            loss=rng.choice((0.0, 0.05, 0.3)),
            duplicate=rng.choice((0.0, 0.1, 0.4)),
            forge=rng.choice((0.0, 0.1)),
            crash=rng.choice((0.0, 0.003, 0.01, 0.02)),
            failure=rng.choice((0.0, 0.1)),
            clock=rng.choice((0.0, 0.3)),
            flap_s=rng.choice((0.0, 4.0, 12.0)),
            broker_s=rng.choice((0.0, 0.0, 8.0)),
        ),
    )


def run(seed: int, plan: Plan | None = None) -> Outcome:
    """Runs a seed to its end.

    Raises:
      Exception: Whatever went wrong, with the seed and the last events as notes.
    """
    world = FleetWorld(seed, plan or plan_for(seed))
    try:
        return finish(world)
    except Exception as error:
        error.add_note(f"seed {seed}: {world.plan}\n{world.time.tail}")
        raise


def finish(world: FleetWorld) -> Outcome:
    """Lets the weather pass, and then requires what must be well again."""
    world.storm()
    head = world.head
    alive = world.reach(head + 2, LIVENESS_S)
    assert alive, f"no version after {world.head} within {LIVENESS_S} s"
    accepted = list(world.law.accepted)
    settled = world.settle(SETTLE_S)
    assert settled, "an update that was sent never came into the chain"
    world.law.at_the_end(world.coordinator, world.boards, accepted)
    crashes = sum(party.crashes for party in world.parties)
    return Outcome(world.time.trace, world.head, crashes)


CUTS_SEED = 1
CUTS_PLAN = Plan()
CUTS_VERSION = 2


def _place(world: FleetWorld, name: str) -> int:
    return [party.name for party in world.parties].index(name)


def instants(name: str) -> int:
    """How many effects a party carries out until the second version."""
    world = FleetWorld(CUTS_SEED, CUTS_PLAN)
    assert world.reach(CUTS_VERSION, LIVENESS_S)
    return world.parties[_place(world, name)].instants


def cut(name: str, *effects: int) -> None:
    """Runs to the end in calm weather, with power cuts before some of these effects.

    Raises:
      Exception: Whatever went wrong, with the last events as notes.
    """
    world = FleetWorld(CUTS_SEED, CUTS_PLAN)
    party = world.parties[_place(world, name)]
    party.cuts = frozenset(effects)
    try:
        assert world.reach(CUTS_VERSION, LIVENESS_S), "no version after the cut"
        finish(world)
        assert party.crashes == len(effects)
    except Exception as error:
        error.add_note(f"seed {CUTS_SEED}, {name} cut at {effects}\n{world.time.tail}")
        raise


def losses(boards: int) -> FleetWorld:
    """Runs to the end, after so many boards lost their first update.

    Raises:
      Exception: Whatever went wrong, with the last events as notes.
    """
    world = FleetWorld(CUTS_SEED, CUTS_PLAN)
    try:
        world.lose_updates(boards, LIVENESS_S / 4)
        finish(world)
    except Exception as error:
        error.add_note(f"seed {CUTS_SEED}, {boards} losses\n{world.time.tail}")
        raise
    return world


def main() -> None:
    """Runs the seeds that the command line names."""
    for seed in map(int, sys.argv[1:]):
        world = FleetWorld(seed, plan_for(seed))
        try:
            finish(world)
        finally:
            print(world.time.tail)
        print(seed, world.plan, world.time.trace)


if __name__ == "__main__":
    main()
