"""A source model's signature: read back equal, refused where no graph could have it."""

from typing import Any

import pytest

from starling.protocol.errors import DecodeError
from starling.protocol.model.source_ports import (
    SourcePort,
    SourcePorts,
    read_source,
)

PORTS = SourcePorts(
    (SourcePort("tokens", "int64", (8,)), SourcePort("mask", "bool", (2, 4))), "scores"
)


def test_source_read_back_is_equal() -> None:
    assert read_source(PORTS.document(), "source") == PORTS


def test_source_makes_up_a_row() -> None:
    PORTS.check_row(16)
    with pytest.raises(DecodeError, match="15 values"):
        PORTS.check_row(15)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inputs": []}, "missing or stand twice"),
        ({"output": "tokens"}, "stand twice"),
        ({"output": ""}, "1 to 256 letters"),
        ({"output": 3}, "source"),
        ({"inputs": [{"name": "x", "dtype": "float64", "shape": [1]}]}, "source"),
        ({"inputs": [{"name": "x", "dtype": "float32"}]}, "missing or unknown"),
        ({"inputs": [{"name": "x", "dtype": "int64", "shape": [-1]}]}, "source"),
        ({"more": 1}, "missing or unknown"),
    ],
)
def test_source_that_no_graph_has_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        read_source({**PORTS.document(), **change}, "source")
