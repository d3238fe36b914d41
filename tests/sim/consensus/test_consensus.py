"""Four validators never fork, and go on once the weather is calm again."""

from pathlib import Path

import pytest

from starling.coordinator.chain.gossip import fork_halt
from starling.coordinator.chain.state import board_records, validator_records
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from tests.sim.consensus.validator_network import Bus, Cut, Weather, never
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.unit.coordinator.fixtures.small_genesis import board_id, validator_key

BOARDS = 6
CALM_S = 60.0
BOUND_S = 120.0
"""Virtual seconds after which everything must be decided once it is calm."""


def bus(
    seed: int,
    weather: Weather,
    cut: Cut = never,
    validators: int = 4,
    listen_s: float = 0.0,
) -> Bus:
    world, correct = SmallChain(validators), range(validators)
    keys = list(world.validators)
    made = Bus(seed, world, keys, weather, cut, correct, listen_s)
    for number in range(BOARDS):
        made.submit(number * 9.0, world.register(number))
    # A client repeats what it sees on no chain; here once, when all are up again.
    for number in range(BOARDS):
        made.submit(CALM_S + 6.0, world.register(number))
    return made


def all_registered(made: Bus) -> bool:
    return all(
        board_records.board(made.nodes[node].state.tree, board_id(number)) is not None
        for node in made.correct
        for number in range(BOARDS)
    )


def settled(made: Bus) -> bool:
    return all_registered(made) and len(set(made.heights())) == 1


def play(made: Bus) -> None:
    made.run(CALM_S + BOUND_S, lambda: settled(made) and made.now_s > CALM_S)
    made.check_votes()
    roots = {made.nodes[node].state.tree.root() for node in made.correct}
    assert len(roots) == 1


def halves(now_s: float, source: int, target: int) -> bool:
    """Two against two, from 5 to 40 s."""
    return 5.0 < now_s < 40.0 and (source < 2) != (target < 2)


def deaf(now_s: float, source: int, target: int) -> bool:
    """Node 3 speaks but hears nothing, until it is calm."""
    del now_s, source
    return target == 3


WEATHERS = [
    pytest.param(Weather(), never, id="calm"),
    pytest.param(Weather(loss=0.3), never, id="loss"),
    pytest.param(Weather(double=0.5, delay_s=2.0), never, id="double-and-reorder"),
    pytest.param(Weather(crash=0.03), never, id="crash"),
    pytest.param(Weather(), halves, id="partition"),
    pytest.param(Weather(loss=0.1), deaf, id="one-way-partition"),
    pytest.param(
        Weather(loss=0.2, double=0.2, delay_s=1.0, crash=0.02), halves, id="all"
    ),
]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("weather", "cut"), WEATHERS)
def test_four_validators_agree_and_recover(
    weather: Weather, cut: Cut, seed: int
) -> None:
    play(bus(seed, weather, cut))


@pytest.mark.parametrize("listen_s", [2.5, 10.0])
@pytest.mark.parametrize("crash", [0.0, 0.02])
def test_validators_that_listen_after_each_start_agree(
    listen_s: float, crash: float
) -> None:
    made = bus(2, Weather(crash=crash), listen_s=listen_s)
    if not crash:
        made.run(listen_s + 1.0, lambda: min(made.heights()) == 1)
    play(made)


def test_partition_without_quorum_halts_and_never_forks() -> None:
    made = bus(7, Weather(delay_s=0.05), halves)
    made.run(12.0, lambda: made.now_s >= 10.0)
    before = max(made.heights())
    made.run(45.0, lambda: made.now_s >= 39.0)
    assert max(made.heights()) <= before + 1
    play(made)


@pytest.mark.parametrize("validators", [1, 2, 3, 5, 7])
def test_other_numbers_of_validators_agree(validators: int) -> None:
    play(bus(1, Weather(loss=0.1), never, validators))


@pytest.mark.parametrize("seed", range(4))
def test_one_key_that_runs_twice_makes_no_fork(seed: int) -> None:
    world = SmallChain(4)
    keys = list(world.validators)
    twin = keys[3]
    weather = Weather(loss=0.15, delay_s=0.5)

    def split(now_s: float, source: int, target: int) -> bool:
        """Each twin talks to another pair, and the pairs change."""
        if source < 3 and target < 3:
            return False
        here, other = (source, target) if source >= 3 else (target, source)
        return other % 2 == (here + int(now_s / 7)) % 2

    made = Bus(seed, world, [*keys, twin], weather, split, range(3))
    for number in range(BOARDS):
        made.submit(number * 9.0, world.register(number))
        made.submit(CALM_S + 6.0, world.register(number))
    made.run(CALM_S + BOUND_S, lambda: settled(made) and made.now_s > CALM_S)
    made.check_votes()


def test_validator_without_its_journal_is_one_fault_that_the_others_bear() -> None:
    made = bus(3, Weather(delay_s=0.05))
    made.run(30.0, lambda: made.now_s >= 9.05)
    made.nodes[1].journal.clear()
    made.witness.left_out = {1}
    made.nodes[1].restart(made.now_s)
    play(made)


def from_old_backup(seed: int, listen_s: float, copy: Path) -> Bus:
    """A world in which node 3 gets chain and journal of 9 s back at 30 s.

    Back up it hears nobody for 20 s and is heard by nobody, but clients still give it
    transactions, so that it has something to decide.
    """

    def alone(now_s: float, source: int, target: int) -> bool:
        return 30.0 < now_s < 50.0 and 3 in (source, target)

    made = bus(seed, Weather(delay_s=0.05), alone, listen_s=listen_s)
    made.run(30.0, lambda: made.now_s >= 9.0)
    kept = made.nodes[3]
    kept.disk.copy_to(copy)
    journal = list(kept.journal)
    made.run(40.0, lambda: made.now_s >= 30.0)
    lost = kept.journal[len(journal) :]
    assert lost
    kept.disk, kept.journal = SqliteStore.open(copy), journal
    made.witness.left_out = {3}
    kept.restart(made.now_s)
    made.run(CALM_S, lambda: made.now_s >= 49.0)
    # All that it ever signed, for `check_votes`.
    kept.journal[:0] = lost
    return made


@pytest.mark.parametrize("seed", range(4))
def test_validator_from_an_old_backup_of_chain_and_journal_signs_nothing_twice(
    seed: int, tmp_path: Path
) -> None:
    made = from_old_backup(seed, 2.5, tmp_path / "old")
    before = made.nodes[3].state
    play(made)
    after = made.nodes[3].state
    assert (before.caught_up, after.caught_up) == (False, True)
    assert not after.copied


def test_old_backup_without_the_wait_would_sign_twice(tmp_path: Path) -> None:
    made = from_old_backup(0, 0.0, tmp_path / "old")
    with pytest.raises(AssertionError, match="node 3"):
        made.check_votes()


def test_genesis_keys_are_those_of_the_set() -> None:
    world = SmallChain(4)
    assert {validator_key(i).public for i in range(4)} == {
        member.public for member in world.genesis.validators.members
    }


def away(now_s: float, source: int, target: int) -> bool:
    """Nobody hears node 1 nor is heard by it, from 5 to 60 s."""
    return 5.0 < now_s < 60.0 and 1 in (source, target)


def test_dead_proposer_costs_one_timeout_and_takes_its_turns_again() -> None:
    world = SmallChain(4)
    keys = list(world.validators)
    made = Bus(5, world, keys, Weather(delay_s=0.05, calm_from_s=100.0), away)
    for number in range(90):
        made.submit(1.0 * number, world.register(number))
    made.run(100.0, lambda: made.now_s > 59.0)
    late = [stored for stored in made.nodes[0].blocks() if stored.certificate.round]
    assert len(late) == 1
    made.run(130.0, lambda: made.now_s > 90.0)
    proposers = [stored.block.header.proposer for stored in made.nodes[0].blocks()]
    assert proposers.count(1) > 3
    assert validator_records.absence(made.nodes[0].state.tree, keys[1].public) is None
    late = [stored for stored in made.nodes[0].blocks() if stored.certificate.round]
    assert len(late) == 1


@pytest.mark.parametrize("seed", range(2))
def test_fork_by_too_many_liars_halts_everybody_and_names_them(seed: int) -> None:
    world = SmallChain(4)
    keys = list(world.validators)
    liars = (2, 3)

    def apart(now_s: float, source: int, target: int) -> bool:
        """Each side has one honest validator and a copy of both lying keys."""
        sides = ((0, 2, 3), (1, 4, 5))
        return now_s < 12.0 and (source in sides[0]) != (target in sides[0])

    weather = Weather(delay_s=0.2, calm_from_s=100.0)
    crew = [*keys, *(keys[liar] for liar in liars)]
    made = Bus(seed, world, crew, weather, apart, range(0))
    for number in range(20):
        made.submit(1.0 * number, world.register(number))
    honest = made.nodes[:2]
    made.run(12.0, lambda: made.now_s > 11.0)
    assert min(running.state.height for running in honest) > 1
    made.run(40.0, lambda: all(running.state.fork for running in honest))
    made.run(41.0, lambda: made.now_s > 20.0)
    heights = [running.state.height for running in honest]
    for running in honest:
        proof = running.state.fork
        assert proof is not None
        assert fork_halt.liars(proof) == set(liars), f"seed {seed}"
    made.run(50.0, lambda: made.now_s > 30.0)
    assert [running.state.height for running in honest] == heights
