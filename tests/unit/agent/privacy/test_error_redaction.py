"""No value of a record stands in what is said of a failure."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.agent.privacy.error_redaction import described, without_values
from starling.protocol.errors import ConfigError, EngineError, StorageError

GATHER = (
    "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code returned while "
    "running Gather node. Name:'rows_7' Status Message: indices element out of data "
    "bounds, idx=31415 must be within the inclusive range [-4,3]"
)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("could not convert string to float: '36.6'", "string to float: ?"),
        ('no such label "Anna \'s"', "no such label ?"),
        ("y is 3, the model has 10 classes", "y is ?, the model has ? classes"),
        ("x is -3.5e-07 at place 5", "x is ? at place ?"),
        ("x is .25, nan or -inf", "x is ?, ? or ?"),
        (GATHER, "while running Gather node"),
    ],
)
def test_message_keeps_its_words_and_no_value(said: str, kept: str) -> None:
    found = without_values(said)

    assert kept in found
    assert not re.search(r"\d", found)
    assert "Anna" not in found


@given(st.floats(allow_nan=False, allow_infinity=False), st.text("0123456789.eE+-"))
def test_no_digit_gets_through(value: float, text: str) -> None:
    for error in (
        EngineError(f"idx={value!r} of {text}"),
        ConfigError(f"{text}{value}"),
    ):
        assert not re.search(r"\d", described(error))


def test_file_and_row_are_named() -> None:
    error = ConfigError("y is 3", file="data/a1.csv", key="record 40")

    assert described(error) == "data/a1.csv: record 40: y is ?"
    assert described(StorageError("models/ab12: disk full")) == "models/ab12: disk full"
    assert described(ValueError("could not convert '36.6'")) == "ValueError"
