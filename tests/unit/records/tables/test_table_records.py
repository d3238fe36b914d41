"""Rows of a table as records."""

import numpy as np
import pytest

from starling.records.data_options import DataOptions
from starling.records.errors import DataError
from starling.records.tables.table_records import label_of, table_records, window_ends
from tests.unit.records.formats.test_csv_pieces import read

TEXT = (
    "age,city,who,kind\n30,Bern,ann,yes\n,Basel,ann,no\n50,?,bob,yes\n60,Bern,bob,no\n"
)
ASKED = DataOptions(
    board_column="who", missing="fill", categories="one-hot", targets=("kind",)
)


def test_rows_become_numbers_codes_and_labels() -> None:
    found = table_records(read(TEXT.encode(), as_text=ASKED.as_text), ASKED, "own")

    np.testing.assert_array_equal(
        found.x, [[30, 0, 1], [50, 1, 0], [50, 0, 1], [60, 0, 1]]
    )
    np.testing.assert_array_equal(found.y, [1, 0, 1, 0])
    assert found.classes == ("no", "yes")
    assert found.boards is not None
    assert found.boards.names == ("ann", "bob")
    np.testing.assert_array_equal(found.boards.codes, [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["Yes", "yes", "no"], "labels 'Yes' and 'yes' are told apart by their"),
        (["\u00e9", "e\u0301", "a"], "told apart by their spelling alone"),
        (["no", "yes"], ""),
    ],
)
def test_labels_that_are_hardly_meant_are_told(labels: list[str], told: str) -> None:
    text = "a,y\n" + "".join(f"{at},{labels[at % len(labels)]}\n" for at in range(6))

    found = table_records(read(text.encode()), DataOptions(), "own")

    assert told in "\n".join(found.notes)
    assert bool(found.notes) == bool(told)


def test_labels_of_single_records_are_told() -> None:
    text = "a,y\n" + "".join(f"{at},day {min(at, 4)}\n" for at in range(6))

    found = table_records(read(text.encode()), DataOptions(), "own")

    assert found.notes[0].startswith("4 labels of 5 with one record alone: it is")


def test_several_targets_are_numbers_side_by_side() -> None:
    text = "a,y,z\n" + "\n".join(f"{at},{at}.5,{-at}" for at in range(5))

    found = table_records(read(text.encode()), DataOptions(targets=("z", "y")), "own")

    np.testing.assert_array_equal(found.y[2], [-2, 2.5])
    assert found.outputs == 2


def test_windows_stay_within_a_board_and_are_in_order_of_time() -> None:
    rows = [f"{at},{10 * at},{'a' if at < 7 else 'b'},{at}.5" for at in range(12)]
    text = "t,u,who,y\n" + "\n".join(rows)
    asked = DataOptions(board_column="who", window=4, stride=2)

    found = table_records(read(text.encode(), as_text=asked.as_text), asked, "own")

    assert found.x.shape == (3, 2, 4)
    np.testing.assert_array_equal(found.x[1, 0], [2, 3, 4, 5])
    np.testing.assert_array_equal(found.x[2, 1], [70, 80, 90, 100])
    np.testing.assert_array_equal(found.y[:, 0], [3.5, 5.5, 10.5])
    assert found.boards is not None
    np.testing.assert_array_equal(found.boards.codes, [0, 0, 1])
    assert found.reuse == 2


def test_window_ends_are_as_a_slow_twin_says() -> None:
    keys = np.array([[0, 0, 0, 1, 1, 1, 1, 0]])

    found = window_ends(keys, 2, 1)

    slow = [e for e in range(1, 8) if keys[0, e] == keys[0, e - 1]]
    assert found.tolist() == slow


def test_window_longer_than_any_series_is_refused() -> None:
    text = "a,y\n1,1.5\n2,2.5\n"

    with pytest.raises(DataError, match="no series has 9 rows"):
        table_records(read(text.encode()), DataOptions(window=9), "own")


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (("x", "x"), "column 'who': every record belongs to 'x'"),
        (("x", ""), "row 3.*whose"),
    ],
)
def test_group_column_that_divides_nothing_is_refused(
    cells: tuple[str, str], said: str
) -> None:
    text = f"a,who,y\n1,{cells[0]},1.5\n2,{cells[1]},2.5\n"
    asked = DataOptions(group="who")

    with pytest.raises(DataError, match=said):
        table_records(read(text.encode(), as_text=asked.as_text), asked, "own")


@pytest.mark.parametrize(
    ("text", "place"),
    [("2", 1), ("2.0", 1), ("-1", 0), ("2.5", -1), ("inf", -1), ("x", -1), ("3", -1)],
)
def test_label_is_found_however_its_number_is_written(text: str, place: int) -> None:
    assert label_of(text, ("-1", "2")) == place
