"""Trace context: one form, and of the update's own trace."""

import pytest

from starling.protocol.ids import Digest, H
from starling.protocol.wire.trace_context import (
    SPAN_ID_BYTES,
    TRACEPARENT_CHARS,
    parent_span,
    trace_id,
    traceparent,
)

UPDATE = H(b"an update")
SPAN = bytes(range(SPAN_ID_BYTES))
VALUE = traceparent(UPDATE, SPAN)
TRACE = trace_id(UPDATE).hex()


def test_trace_context_names_trace_and_span_as_in_the_recommendation() -> None:
    assert f"00-{TRACE}-0001020304050607-01" == VALUE
    assert len(VALUE) == TRACEPARENT_CHARS
    assert parent_span(VALUE, UPDATE) == SPAN


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param(VALUE[:-1], id="short"),
        pytest.param(VALUE + "0", id="long"),
        pytest.param(VALUE + "\n", id="line-end"),
        pytest.param(VALUE.upper(), id="upper-case"),
        pytest.param("01" + VALUE[2:], id="version"),
        pytest.param(VALUE.replace("-", "_"), id="delimiters"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="no-span"),
        pytest.param(VALUE.replace("0", "\u0660"), id="digits-of-another-script"),
        pytest.param(traceparent(Digest(bytes(32)), SPAN), id="another-trace"),
    ],
)
def test_trace_context_of_another_form_or_trace_is_ignored(value: str) -> None:
    assert parent_span(value, UPDATE) is None
