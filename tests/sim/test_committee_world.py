"""Four coordinators in mixed faults: one chain, one model, and nothing lost."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from starling.agent.step.state import WaitTimes
from starling.coordinator.aggregation.strategy import ModelState, PackedModel
from starling.coordinator.aggregation.version_computation import Fetch
from starling.coordinator.chain.state.task_records import AggregationJob
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.health import chain_stall
from starling.coordinator.loop.storage.persistence import Persistence
from starling.coordinator.step import effects as e
from starling.fleet.byzantine.vote_forger import falsified
from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.ids import Digest
from starling.protocol.learning.task import TaskSpec
from tests.sim.simulator.committee_world import COUNT, CommitteeWorld
from tests.sim.simulator.coordinator_node import CoordinatorNode
from tests.sim.simulator.fleet_world import Plan
from tests.sim.simulator.virtual_time import CALM, Weather

PLAN = Plan(boards=5, buffer=2, staleness_max=2)
LIVENESS_S = 240.0
RECEIPT_S = 3.0
"""Two statuses and a quarter, and the way there and back."""
SEEDS = 4
SOAK_SEEDS = 200


def plan_for(seed: int) -> Plan:
    """A fleet and its weather."""
    rng = random.Random(f"council {seed}")
    weather = Weather(
        delay_s=rng.choice((0.01, 0.05)),
        loss=rng.choice((0.0, 0.05, 0.2)),
        duplicate=rng.choice((0.0, 0.2)),
        forge=rng.choice((0.0, 0.1)),
        crash=rng.choice((0.0, 0.001, 0.003)),
        clock=rng.choice((0.0, 0.3)),
        flap_s=rng.choice((0.0, 8.0)),
        broker_s=rng.choice((0.0, 10.0)),
    )
    staleness_max = rng.choice((1, 2, 8))
    return replace(PLAN, staleness_max=staleness_max, weather=weather, storm_s=12.0)


def finish(world: CommitteeWorld) -> None:
    """Requires that all is well again, once the weather is calm."""
    accepted = list(world.law.accepted)
    head = world.head
    assert world.reach(head + 2, LIVENESS_S), f"no version after {world.head}"
    assert world.settle(LIVENESS_S), "an update that was sent never came into the chain"
    world.law.at_the_end(world.law.foremost(), world.boards, accepted)
    assert all(len(each) == 1 for each in world.same_versions().values())


def run(seed: int) -> CommitteeWorld:
    """Runs a seed: calm, a storm with a partition in it, and calm again."""
    world = CommitteeWorld(seed, plan_for(seed))
    try:
        assert world.reach(0, LIVENESS_S)
        rng = random.Random(f"sides {seed}")
        order = rng.sample(range(COUNT), COUNT)
        cut = rng.randrange(COUNT)
        world.part(tuple(order[:cut]), tuple(order[cut:]))
        world.storm()
        world.part()
        finish(world)
    except BaseException as error:
        error.add_note(f"seed {seed}: {world.plan}\n{world.time.tail}")
        raise
    return world


@pytest.mark.parametrize("seed", range(SEEDS))
def test_council_in_mixed_faults_keeps_the_law_and_goes_on(seed: int) -> None:
    assert run(seed).head >= 2


@pytest.mark.soak
@pytest.mark.parametrize("first", range(SEEDS, SEEDS + SOAK_SEEDS, 20))
def test_council_in_many_more_seeds_keeps_the_law(first: int) -> None:
    for seed in range(first, first + 20):
        run(seed)


def test_council_parted_in_halves_makes_no_version_until_it_is_healed() -> None:
    world = CommitteeWorld(1, replace(PLAN, weather=CALM))
    assert world.reach(1, LIVENESS_S)
    world.part((0, 1), (2, 3))
    world.time.run(world.time.now_s + 5.0, lambda: False)
    heights = [each.height for each in world.coordinators]
    world.time.run(world.time.now_s + 20.0, lambda: False)

    assert [each.height for each in world.coordinators] == heights

    world.part()
    finish(world)


def test_council_parted_in_halves_says_whose_votes_are_missing_until_it_is_healed() -> (
    None
):
    world = CommitteeWorld(1, replace(PLAN, weather=CALM))
    assert world.reach(1, LIVENESS_S)
    assert not any(found.stalled for found in stalls(world))
    world.part((0, 1), (2, 3))
    world.time.run(world.time.now_s + 25.0, lambda: False)

    for index, found in enumerate(stalls(world)):
        others = {0, 1} if index > 1 else {2, 3}
        names = {f"coordinator{other}" for other in others}
        assert found.stalled
        assert found.block_age_s > 12.0
        assert found.why[0].startswith(
            "no quorum: heard from 2 of 4, silent coordinator"
        )
        assert names <= {*found.missing.prevotes, *found.missing.precommits}
        assert all(name in found.why[0] for name in names)

    world.part()
    finish(world)
    assert not any(found.stalled for found in stalls(world))


def stalls(world: CommitteeWorld) -> list[chain_stall.ChainStall]:
    """How the chain goes on at each of them."""
    found = []
    for coordinator in world.coordinators:
        assert coordinator.state is not None
        found.append(
            chain_stall.look(coordinator.settings, coordinator.state, world.time.now_s)
        )
    return found


def longest_wait(world: CommitteeWorld, seconds: float) -> float:
    """How long a board waits for a receipt or a proof at most, from now on."""
    since: dict[Digest, float] = {}
    worst_s = 0.0

    def look() -> bool:
        nonlocal worst_s
        for board in world.boards:
            for item in board.state.waiting if board.state is not None else ():
                if not item.accepted:
                    sent_s = since.setdefault(item.entry.update, world.time.now_s)
                    worst_s = max(worst_s, world.time.now_s - sent_s)
        return False

    world.time.run(world.time.now_s + seconds, look)
    return worst_s


@pytest.mark.parametrize("seed", range(8))
def test_council_one_just_died_no_board_waits_until_it_sends_again(seed: int) -> None:
    world = CommitteeWorld(seed, replace(PLAN, weather=CALM))
    for board in world.boards:
        board.settings = replace(board.settings, pace=WaitTimes(check_in_s=3.0))
    assert world.reach(2, LIVENESS_S)
    world.coordinators[seed % COUNT].end()

    assert longest_wait(world, 15.0) < RECEIPT_S

    height = world.coordinators[(seed + 1) % COUNT].height
    world.coordinators[seed % COUNT].boot()
    finish(world)
    assert world.coordinators[seed % COUNT].height >= height


@pytest.mark.parametrize("seed", range(4))
def test_council_parted_and_healed_no_board_waits_for_a_receipt(seed: int) -> None:
    world = CommitteeWorld(seed, replace(PLAN, weather=CALM))
    assert world.reach(2, LIVENESS_S)
    world.part((0, 1), (2, 3))
    assert longest_wait(world, 8.0) < RECEIPT_S

    world.part()

    head = world.head
    assert longest_wait(world, 10.0) < RECEIPT_S
    assert world.head > head


Plant = Callable[[pytest.MonkeyPatch], None]
PLANTS: dict[str, Plant] = {}


def plant(function: Plant) -> Plant:
    """Notes a bug under its name; each must end some seed in an error."""
    PLANTS[function.__name__] = function
    return function


@plant
def one_coordinator_computes_otherwise(patch: pytest.MonkeyPatch) -> None:
    compute = CoordinatorNode.compute

    def otherwise(
        self: CoordinatorNode,
        key: OpeningKey,
        spec: TaskSpec,
        job: AggregationJob,
        before: ModelState,
        fetch: Fetch,
    ) -> PackedModel:
        made = compute(self, key, spec, job, before, fetch)
        return falsified(made) if self.name == "coordinator3" else made

    patch.setattr(CoordinatorNode, "compute", otherwise)


@plant
def coordinators_forget_admitted_updates(patch: pytest.MonkeyPatch) -> None:
    change = Persistence.commit

    def without(self: Persistence, effects: Sequence[e.Effect], now_ms: int) -> None:
        kept = [each for each in effects if not isinstance(each, e.StoreUpload)]
        change(self, kept, now_ms)

    patch.setattr(Persistence, "commit", without)


@plant
def coordinators_never_ask_for_vectors(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(request_scheduler, "send_due_requests", lambda step: None)


def run_all() -> None:
    for seed in range(SEEDS):
        run(seed)


@pytest.mark.parametrize("name", sorted(PLANTS))
def test_planted_bug_among_several_is_caught(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    PLANTS[name](monkeypatch)

    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever shows it
        run_all()

    assert "seed" in caught.value.__notes__[0]
