from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starling.coordinator.aggregation.strategy import pack_model
from starling.coordinator.chain.state.task_records import JobMember
from starling.coordinator.lineage.lineage_replay import (
    MissingVector,
    replay,
    replayed_state,
)
from starling.protocol.ids import H
from starling.protocol.learning.task import Robust, Strategy
from starling.protocol.learning.vector_codecs import Grid
from tests.unit.coordinator.lineage.lineages import D, MadeLineage, board, spec

STRATEGIES = {
    "fedbuff": spec(),
    "projected": spec(strategy=Strategy.PROJECTED),
    "fedadam": spec(strategy=Strategy.FEDADAM),
    "clipped": spec(robust=Robust.SPECTRAL_CLIPPING),
}


def rounds(seed: int, boards: int = 5, count: int = 4) -> list[dict[int, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [
        {who: rng.normal(0.0, 0.1, D) for who in range(boards) if rng.random() < 0.8}
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", STRATEGIES)
def test_replay_of_all_updates_gives_each_version_of_the_chain(name: str) -> None:
    made = MadeLineage(STRATEGIES[name], rounds(1))

    steps = list(replay(made.spec, made.start, made.versions, made))

    assert [step.exact for step in steps] == [True] * 4
    assert pack_model(steps[-1].after) == pack_model(made.end)


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), bad=st.sets(st.integers(0, 4), min_size=1))
def test_replay_without_boards_is_the_lineage_that_they_never_touched(
    name: str, seed: int, bad: set[int]
) -> None:
    sent = rounds(seed)
    attacked = MadeLineage(STRATEGIES[name], sent)
    clean = MadeLineage(
        STRATEGIES[name],
        [{who: row for who, row in one.items() if who not in bad} for one in sent],
    )

    left_out = replayed_state(
        attacked.spec,
        attacked.start,
        attacked.versions,
        attacked,
        frozenset(board(who) for who in bad),
    )

    assert pack_model(left_out) == pack_model(clean.end)


def test_replay_says_which_version_is_not_the_chain_s() -> None:
    made = MadeLineage(spec(), rounds(2))
    versions = list(made.versions)
    versions[2] = replace(versions[2], digest=H(b"another"))

    steps = replay(made.spec, made.start, versions, made)

    assert [step.exact for step in steps] == [True, True, False, True]


def test_replay_of_a_version_without_updates_is_the_version_before() -> None:
    made = MadeLineage(spec(), [{1: np.ones(D)}, {}, {2: np.ones(D)}])

    steps = list(replay(made.spec, made.start, made.versions, made))

    assert steps[1].exact
    assert pack_model(steps[1].after) == pack_model(steps[0].after)


def test_replay_ends_at_a_vector_that_is_not_kept() -> None:
    made = MadeLineage(spec(), rounds(3))

    def lost(member: JobMember) -> Grid:
        raise MissingVector(member.transaction.hex())

    with pytest.raises(MissingVector):
        replayed_state(made.spec, made.start, made.versions, lost)
