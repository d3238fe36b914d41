import pytest

from starling.engine.batch_parts import WORKING_BYTES, part_size


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [
        (8, 5, 4),
        (7, 5, 4),
        (5, 5, 5),
        (11, 5, 4),
        (1, 5, 1),
        (64, 1, 1),
        (0, 5, 1),
    ],
)
def test_parts_are_of_one_size_and_within_the_bound(
    count: int, share: int, expected: int
) -> None:
    assert part_size(count, WORKING_BYTES // share) == expected


def test_example_beyond_the_bound_is_computed_alone() -> None:
    assert part_size(8, 3 * WORKING_BYTES) == 1


def test_batch_of_examples_of_unknown_size_is_computed_at_once() -> None:
    assert part_size(1000, 0) == 1000
