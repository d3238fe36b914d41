"""Scales of inputs and targets."""

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.protocol.model.training_bundle import Preprocessing
from starling.records.data_options import ColumnRule, DataOptions
from starling.records.record_set import LABELS, RecordSet
from starling.records.scaling import scaled_inputs, scaled_targets, with_scales
from starling.records.tables.table_records import table_records
from tests.unit.records.formats.test_csv_pieces import read

RULES = {"a": ColumnRule((0.0, 50.0)), "y": ColumnRule((100.0, 300.0))}
TEXT = "a,b,city,y\n" + "\n".join(
    f"{at},{100 * at},{'u' if at % 2 else 'v'},{100 + 4 * at}.5" for at in range(50)
)


def records(asked: DataOptions) -> RecordSet:
    return table_records(read(TEXT.encode()), asked, "own")


def test_declared_bounds_lead_to_plus_and_minus_one() -> None:
    asked = DataOptions(categories="one-hot", scale="declared", columns=RULES)
    found = with_scales(records(asked), asked, np.arange(50))

    x = scaled_inputs(np.array([[0, 7, 1, 0], [50, 7, 0, 1.0]]), found.preprocessing)

    np.testing.assert_allclose(x, [[-1, 7, 1, 0], [1, 7, 0, 1]])
    assert len(found.notes) == 1
    assert found.notes[0].startswith("b reaches 4900, the least of the inputs 1:")
    assert found.table is not None
    np.testing.assert_allclose(
        scaled_targets(np.array([[100.0], [300.0]]), found.table), [[-1], [1]]
    )


def test_pooled_scale_measures_the_training_rows_alone_and_says_so() -> None:
    asked = DataOptions(categories="one-hot", columns=RULES)
    found = records(asked)
    found.x[40:, 1] = 1e9

    made = with_scales(found, asked, np.arange(40))

    x = scaled_inputs(found.x[:40], made.preprocessing)
    assert abs(x[:, 1].mean()) < 1e-3
    assert x[:, 1].std() == pytest.approx(0.5, rel=1e-3)
    assert "scales of b were measured" in made.notes[-1]
    assert "simulation only" in made.notes[-1]


def test_scale_of_channels_goes_along_the_first_axis() -> None:
    x = np.ones((2, 3, 4), np.float32)

    found = scaled_inputs(x, Preprocessing((1.0, 2.0, 3.0), (0.0, 0.0, 1.0)))

    np.testing.assert_array_equal(found[1, :, 0], [1, 2, 4])


def test_targets_without_a_table_stay_as_they_are() -> None:
    y = np.arange(3)

    assert scaled_targets(y, None) is y


@pytest.mark.parametrize(
    ("factor", "said"),
    [(99.0, ""), (101.0, "input 3 reaches 101,"), (float("nan"), "")],
)
def test_input_that_reaches_far_is_named_where_columns_are_not(
    factor: float, said: str
) -> None:
    x = np.ones((8, 5), np.float32)
    x[3, 2] = factor
    bare = RecordSet("own", x, np.arange(8) % 2, LABELS, ("u", "v"))

    notes = with_scales(bare, DataOptions(), np.arange(8)).notes

    assert len(notes) == bool(said)
    assert "".join(notes).startswith(said)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.ones((8, 5)), "no input differs between records"),
        (np.eye(8) * 1e-12, "no input reaches more than 1e-12:"),
        (np.eye(8) * 0.01, ""),
    ],
    ids=["all the same", "tiny", "small"],
)
def test_inputs_of_which_nothing_can_be_learned_are_noted(
    x: NDArray[np.float64], said: str
) -> None:
    y = np.arange(8) % 2
    bare = RecordSet("own", x.astype(np.float32), y, LABELS, ("u", "v"))

    notes = with_scales(bare, DataOptions(), np.arange(8)).notes

    assert len(notes) == bool(said)
    assert "".join(notes).startswith(said)


def test_inputs_that_all_reach_far_are_counted() -> None:
    x = np.full((8, 5), 255.0, np.float32)
    bare = RecordSet("own", x, np.arange(8) % 2, LABELS, ("u", "v"))

    (note,) = with_scales(bare, DataOptions(), np.arange(8)).notes

    assert note.startswith(
        "input 1 and 4 others reach 255, the least of the inputs 255"
    )


def test_one_scale_per_channel_applies_to_the_first_axis() -> None:
    raw = np.ones((2, 2, 3))

    shown = scaled_inputs(raw, Preprocessing((2.0, 3.0), (0.0, 1.0)))

    assert shown[0, 0].tolist() == [2, 2, 2]
    assert shown[0, 1].tolist() == [4, 4, 4]
