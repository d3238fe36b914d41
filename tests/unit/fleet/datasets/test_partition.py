"""Partitions deal every example out once, and say what they cannot do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.fleet.datasets.partition import (
    Examples,
    checked_examples,
    deal,
    dirichlet,
    hold_out,
    iid,
    natural,
    partition_named,
    shards,
    strata,
)
from starling.protocol.errors import ConfigError


def labels_of(count: int, classes: int = 10) -> np.ndarray:
    return np.arange(count, dtype=np.int64) % classes


@pytest.mark.parametrize("split", ["iid", "dirichlet:0.5", "shards:2"])
@given(seed=st.integers(0, 2**32 - 1), boards=st.integers(1, 8))
def test_partition_any_deals_each_example_once(
    split: str, seed: int, boards: int
) -> None:
    labels = labels_of(1000)
    dealt = partition_named(split)(labels, boards, np.random.default_rng(seed))
    assert len(dealt) == boards
    assert sorted(np.concatenate(dealt)) == list(range(1000))


@pytest.mark.parametrize("split", ["iid", "dirichlet:0.5", "shards:2"])
def test_partition_same_seed_deals_the_same(split: str) -> None:
    first, second = (
        partition_named(split)(labels_of(500), 5, np.random.default_rng(7))
        for _ in range(2)
    )
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_iid_uneven_count_sizes_differ_by_one() -> None:
    dealt = iid(labels_of(103), 10, np.random.default_rng(1))
    assert {len(share) for share in dealt} == {10, 11}


def test_shards_two_of_ten_labels_boards_know_two() -> None:
    labels = labels_of(1000)
    dealt = shards(labels, 5, np.random.default_rng(3), 2)
    assert max(len(set(labels[share])) for share in dealt) == 2


def test_dirichlet_small_alpha_is_less_even_than_large() -> None:
    labels = labels_of(4000)
    spread = [
        np.std([len(s) for s in dirichlet(labels, 8, np.random.default_rng(5), alpha)])
        for alpha in (0.2, 100.0)
    ]
    assert spread[0] > 3 * spread[1]


@pytest.mark.parametrize(
    "name",
    ["", "even", "iid:2", "dirichlet", "dirichlet:0", "dirichlet:nan", "shards:0"],
)
def test_partition_unknown_name_names_the_flag(name: str) -> None:
    with pytest.raises(ConfigError, match="--split"):
        partition_named(name)


def test_dirichlet_impossible_says_so() -> None:
    with pytest.raises(ConfigError, match="fewer than 16"):
        dirichlet(labels_of(40), 10, np.random.default_rng(0), 0.1)


def test_deal_too_many_boards_names_the_flag() -> None:
    examples = Examples(np.zeros((100, 2), np.float32), labels_of(100))
    with pytest.raises(ConfigError, match="--devices"):
        deal(examples, 50, "iid", np.random.default_rng(0))


def test_hold_out_takes_the_count_and_leaves_the_rest() -> None:
    examples = Examples(np.arange(50, dtype=np.float32)[:, None], labels_of(50))
    shared, held_out = hold_out(examples, 20, np.random.default_rng(0))
    together = np.concatenate([shared.x, held_out.x]).ravel()
    assert (len(shared), len(held_out)) == (30, 20)
    assert sorted(together) == list(range(50))


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        pytest.param(np.zeros(4), np.zeros(4), r"expected x", id="flat-x"),
        pytest.param(np.zeros((4, 2)), np.zeros(3), r"expected x", id="lengths"),
        pytest.param(np.zeros((0, 2)), np.zeros(0), r"expected x", id="empty"),
        pytest.param(np.full((2, 2), np.nan), np.zeros(2), r"NaN", id="nan"),
        pytest.param(np.zeros((2, 2)), np.array([0.5, 1]), r"whole", id="fraction"),
        pytest.param(np.zeros((2, 2)), np.array([-1, 1]), r"whole", id="negative"),
        pytest.param(np.zeros((2, 2)), np.array(["a", "b"]), r"numbers", id="texts"),
    ],
)
def test_checked_examples_bad_arrays_name_the_file(
    x: np.ndarray, y: np.ndarray, said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"some\.npz.*{said}"):
        checked_examples(x, y, "some.npz")


def test_natural_partition_of_as_many_boards_keeps_their_order() -> None:
    owners = np.array([2, 0, 1, 0, 2], np.int32)

    shares = natural(owners, 3, np.random.default_rng(1))

    assert [sorted(share.tolist()) for share in shares] == [[1, 3], [2], [0, 4]]


def test_natural_partition_of_fewer_boards_parts_no_group() -> None:
    owners = np.repeat(np.arange(7, dtype=np.int32), [9, 1, 4, 4, 2, 8, 2])

    shares = natural(owners, 3, np.random.default_rng(1))

    assert sorted(np.concatenate(shares).tolist()) == list(range(30))
    assert sorted(map(len, shares)) == [10, 10, 10]
    kinds = [set(owners[share]) for share in shares]
    assert sum(map(len, kinds)) == 7


def test_strata_of_numbers_are_their_tenths() -> None:
    y = np.arange(100, dtype=np.float32)[::-1, None]

    found = strata(y)

    assert np.bincount(found).tolist() == [10] * 10
    assert found[0] == 9
