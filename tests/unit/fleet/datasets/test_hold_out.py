"""Which records are tested on."""

import numpy as np
import pytest

from starling.fleet.datasets.hold_out import held_out_rows
from starling.records.record_set import Division, RecordSet

RNG = np.random.default_rng(5)


def records(count: int, **more: object) -> RecordSet:
    x = np.arange(count, dtype=np.float32)[:, None]
    return RecordSet("own", x, np.zeros(count, np.int64), "cross-entropy", **more)  # type: ignore[arg-type]  # passed on


def owners(codes: list[int]) -> Division:
    names = tuple([f"g{each}" for each in range(max(codes) + 1)])
    return Division(np.array(codes, np.int32), names)


def test_every_record_is_either_learned_from_or_tested_on() -> None:
    learned, tested = held_out_rows(records(50), RNG)

    assert sorted([*learned, *tested]) == list(range(50))
    assert len(tested) == 5


@pytest.mark.parametrize("sizes", [[5, 5], [1, 1, 98], [40] * 6, [3] * 40])
def test_groups_are_tested_whole_and_some_is_left_to_learn(sizes: list[int]) -> None:
    codes = np.repeat(np.arange(len(sizes)), sizes)

    learned, tested = held_out_rows(
        records(len(codes), groups=owners(codes.tolist())), RNG
    )

    assert len(tested)
    assert len(learned)
    assert not set(codes[learned]) & set(codes[tested])
    assert len(learned) + len(tested) == len(codes)


def test_overlapping_windows_are_cut_in_time_and_share_no_row() -> None:
    codes = [0] * 30 + [1] * 20

    learned, tested = held_out_rows(records(50, boards=owners(codes), reuse=3), RNG)

    assert sorted(tested) == [27, 28, 29, 48, 49]
    assert not {25, 26, 46, 47} & set(learned.tolist())
    assert len(learned) == 25 + 16
