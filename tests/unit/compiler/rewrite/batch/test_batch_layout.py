import pytest

from starling.compiler.rewrite.batch.batch_layout import BatchLayout
from starling.compiler.rewrite.shape_inference import Extent

CASES = {
    "batch first": (BatchLayout((1, 3, 4), 0), (None, 3, 4)),
    "time first": (BatchLayout((3, 1, 4), 1), (None, 3, 4)),
    "heads behind the batch": (BatchLayout((8, 3, 2), 0), (None, 8, 3, 2)),
    "heads before the batch": (BatchLayout((8, 3, 2), 0, before=8), (None, 8, 3, 2)),
    "both": (BatchLayout((3, 8, 2), 1, before=4), (None, 3, 4, 2, 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_kept_shape_has_the_batch_first(case: str) -> None:
    layout, shape = CASES[case]

    assert layout.shape == shape


REGROUPED = {
    "steps into the batch axis": (
        BatchLayout((3, 1, 4), 1),
        Extent((3, 4), 0),
        BatchLayout((3, 4), 0, before=3),
    ),
    "and out again": (
        BatchLayout((3, 4), 0, before=3),
        Extent((3, 1, 4), 1),
        BatchLayout((3, 1, 4), 1),
    ),
    "heads into the batch axis": (
        BatchLayout((3, 1, 8), 1),
        Extent((3, 4, 2), 1),
        BatchLayout((3, 4, 2), 1),
    ),
    "flattened": (
        BatchLayout((1, 3, 4), 0),
        Extent((1, 12), 0),
        BatchLayout((1, 12), 0),
    ),
    "values in front of the batch to behind it": (
        BatchLayout((3, 1, 4), 1),
        Extent((1, 12), 0),
        None,
    ),
    "static": (BatchLayout((1, 4), 0), Extent((4,), None), None),
}


@pytest.mark.parametrize("case", REGROUPED)
def test_reshape_keeps_the_values_of_an_example_in_order(case: str) -> None:
    layout, target, expected = REGROUPED[case]

    assert layout.regrouped(target) == expected


def test_axes_are_found_where_they_are_kept() -> None:
    layout = BatchLayout((3, 8, 2), 1, before=4)

    assert [layout.place(axis) for axis in (0, 1, 2, -1)] == [1, None, 4, 4]
