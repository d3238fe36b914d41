"""The columns of a table, as a manifest has them."""

import json
from typing import Any

import pytest

from starling.protocol.errors import DecodeError
from starling.protocol.model.table_schema import (
    InputColumn,
    TableSchema,
    TargetColumn,
    read_table,
)

TABLE = TableSchema(
    (InputColumn("age", fill=30.0), InputColumn("city", ("Bern", "Köln"), "Bern")),
    (TargetColumn("price", 0.5, -1.0),),
)


def test_table_read_back_from_json_is_equal() -> None:
    document = json.loads(json.dumps(TABLE.document()))

    assert read_table(document, "manifest.table") == TABLE


def test_table_counts_a_value_for_each_category() -> None:
    assert TABLE.values == 3
    TABLE.check_ports((3,), (1,))


@pytest.mark.parametrize(
    ("window", "stride", "reuse"), [(0, 0, 1), (8, 8, 1), (8, 4, 2), (8, 3, 3)]
)
def test_reuse_is_how_many_windows_share_a_row(
    window: int, stride: int, reuse: int
) -> None:
    table = TableSchema((InputColumn("a"),), (TargetColumn("y"),), window, stride)

    starts = range(0, 100 * stride, stride or 1)
    row = 50 * stride
    assert table.reuse == reuse
    assert reuse == max(1, sum(s <= row < s + window for s in starts))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no target": ({"targets": []}, "without a target"),
    "twice": (
        {"targets": [{"name": "age", "scale": 1, "offset": 0}]},
        "'age' stands twice",
    ),
    "zero scale": (
        {"targets": [{"name": "y", "scale": 0, "offset": 0}]},
        "cannot be undone",
    ),
    "unknown field": ({"columns": [{"name": "a", "kind": "x"}]}, "missing or unknown"),
    "fill is no category": (
        {"columns": [{"name": "a", "categories": ["b"], "fill": "c"}]},
        "'a': cannot be filled",
    ),
    "category twice": (
        {"columns": [{"name": "a", "categories": ["b", "b"], "fill": None}]},
        "a category twice",
    ),
    "text fills numbers": (
        {"columns": [{"name": "a", "categories": [], "fill": "c"}]},
        "'a': cannot be filled",
    ),
    "window without stride": ({"window": 3}, "go together"),
}


@pytest.mark.parametrize(("change", "said"), BAD.values(), ids=BAD)
def test_read_table_refuses(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        read_table({**TABLE.document(), **change}, "manifest.table")


@pytest.mark.parametrize(("inputs", "targets"), [((4,), (1,)), ((3,), (2,))])
def test_check_ports_refuses_another_width(
    inputs: tuple[int, ...], targets: tuple[int, ...]
) -> None:
    with pytest.raises(DecodeError, match=r"manifest\.table"):
        TABLE.check_ports(inputs, targets)
