"""What is learned from a table, and what is refused."""

import numpy as np
import pytest

from starling.protocol.errors import ConfigError
from starling.protocol.model.table_schema import InputColumn
from starling.records.data_options import ColumnRule, DataOptions, column_rules
from starling.records.errors import DataError
from starling.records.tables.table_plan import plan_table
from tests.unit.records.formats.test_csv_pieces import read

PRICES = "age,city,price\n" + "\n".join(
    f"{20 + at},{'Bern' if at % 3 else 'Basel'},{1000.5 + at}" for at in range(40)
)
ONE_HOT = DataOptions(categories="one-hot")


def plan(text: str, asked: DataOptions = ONE_HOT):  # type: ignore[no-untyped-def] # noqa: ANN201
    return plan_table(read(text.encode(), as_text=asked.as_text), asked)


def test_last_column_of_reals_is_a_regression() -> None:
    made = plan(PRICES)

    assert (made.loss, made.classes) == ("mse", ())
    assert made.schema.columns == (
        InputColumn("age"),
        InputColumn("city", ("Basel", "Bern")),
    )
    assert [item.name for item in made.schema.targets] == ["price"]


def test_texts_are_labels_in_the_order_of_the_alphabet() -> None:
    made = plan(PRICES, DataOptions(targets=("city",)))

    assert (made.loss, made.classes) == ("cross-entropy", ("Basel", "Bern"))


def test_declared_categories_give_the_order_of_labels() -> None:
    rules = {"city": ColumnRule(categories=("Bern", "Basel", "Chur"))}

    made = plan(PRICES, DataOptions(targets=("city",), columns=rules))

    assert made.classes == ("Bern", "Basel", "Chur")


def test_few_whole_numbers_are_labels_and_many_are_not() -> None:
    few = "a,y\n" + "\n".join(f"{at},{3 + 4 * (at % 3)}" for at in range(60))
    many = "a,y\n" + "\n".join(f"{at},{at % 50}" for at in range(100))

    assert plan(few).classes == ("3", "7", "11")
    assert plan(many).loss == "mse"
    assert plan(many, DataOptions(kind="classes")).loss == "cross-entropy"


def test_missing_cells_are_filled_if_that_is_asked_for() -> None:
    text = PRICES + "\n,Bern,1\n30,,2\n"

    made = plan(text, DataOptions(missing="fill", categories="one-hot"))

    assert made.schema.columns[1].fill == "Bern"
    assert made.schema.columns[0].fill == pytest.approx(39.0)


def test_constant_columns_are_dropped_if_that_is_asked_for() -> None:
    text = "a,b,y\n" + "\n".join(f"{at},7,{at}.5" for at in range(9))

    assert plan(text, DataOptions(constant="drop")).dropped == ("b",)


BAD: dict[str, tuple[str, DataOptions, str]] = {
    "unknown target": (
        PRICES,
        DataOptions(targets=("prize",)),
        "column 'prize': --target names no column of it; did you mean price",
    ),
    "target twice": (
        PRICES,
        DataOptions(targets=("price", "age", "price")),
        "column 'price': --target names it twice",
    ),
    "unknown bounds": (
        PRICES,
        DataOptions(columns={"siz": ColumnRule(bounds=(0.0, 1.0))}),
        "column 'siz': --bounds or --columns names no column",
    ),
    "unknown board": (PRICES, DataOptions(board_column="who"), "--board-column names"),
    "unknown ignore": (PRICES, DataOptions(ignore=("who",)), "--ignore names"),
    "texts": (PRICES, DataOptions(), "row 2, column 'city': 'Basel' is no number"),
    "missing": (
        PRICES + "\n,Bern,3\n",
        ONE_HOT,
        "row 42, column 'age': no value, as in 1 row",
    ),
    "no fill": (
        PRICES + "\n,Bern,3\n",
        DataOptions(categories="one-hot", missing="fill", scale="declared"),
        "row 42, column 'age': no value, and no fill or bounds",
    ),
    "NaN in target": (
        PRICES + "\n30,Bern,NaN\n",
        ONE_HOT,
        "row 42, column 'price': the target has no value",
    ),
    "constant": (
        "a,b,y\n1,7,1\n2,7,2.5\n3,7,3\n",
        DataOptions(),
        "row 2, column 'b': holds one value",
    ),
    "constant target": (
        "a,y\n1,7\n2,7\n",
        DataOptions(),
        "row 2, column 'y': holds one value alone",
    ),
    "unknown label": (
        PRICES,
        DataOptions(
            targets=("city",), columns={"city": ColumnRule(categories=("Bern", "X"))}
        ),
        "row 2, column 'city': 'Basel' is none of Bern, X",
    ),
    "texts to regress": (
        PRICES,
        DataOptions(targets=("city",), kind="numbers"),
        "column 'city': holds texts",
    ),
    "two labels": (
        PRICES,
        DataOptions(targets=("city", "age"), kind="classes"),
        "one label is learned at a time",
    ),
    "reals as labels": (
        PRICES,
        DataOptions(kind="classes", categories="one-hot"),
        "row 2, column 'price': a label is a text or a whole",
    ),
    "nothing left": (
        PRICES,
        DataOptions(ignore=("age", "city")),
        "leaves no column to learn from",
    ),
    "fill of another kind": (
        PRICES,
        DataOptions(categories="one-hot", columns={"age": ColumnRule(fill="old")}),
        "column 'age': cannot be filled with 'old'",
    ),
}


@pytest.mark.parametrize(("text", "asked", "said"), BAD.values(), ids=BAD)
def test_plan_refuses_with_the_way_out(
    text: str, asked: DataOptions, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        plan(text, asked)


def test_all_columns_at_fault_are_gathered() -> None:
    table = read(b"a,b,c,y\nx,7,1,1\nz,7,,2.5\nz,7,3,4\n")
    faults: list[DataError] = []

    plan_table(table, DataOptions(), faults)

    assert [fault.column for fault in faults] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"missing": "guess"}, "--missing: 'guess' is not one of refuse, fill"),
        ({"stride": 3}, "--stride: a stride needs"),
        ({"targets": ("a",), "ignore": ("a",)}, "'a' is the target"),
    ],
)
def test_choices_refuse(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        DataOptions(**change)  # type: ignore[arg-type]


def test_column_rules_are_read_and_bad_ones_named() -> None:
    document = {
        "age": {"bounds": [0, 100], "fill": 30},
        "city": {"categories": ["Bern"]},
    }

    rules = column_rules(document, "c.toml")

    assert rules["age"] == ColumnRule((0.0, 100.0), 30.0)
    assert rules["city"].categories == ("Bern",)
    for bad in ({"bounds": [3, 1]}, {"bound": 1}, {"categories": "x"}, {"ignore": 1}):
        with pytest.raises(ConfigError, match=r"c\.toml: columns\.age"):
            column_rules({"age": bad}, "c.toml")


def test_bounds_are_finite() -> None:
    with pytest.raises(ConfigError, match="rising"):
        column_rules({"age": {"bounds": [0, float(np.inf)]}}, "c.toml")
