"""Rows of a check as JSON, and as they travel."""

import json

import pytest

from starling.broker.health_checks import (
    HealthCheck,
    Verdict,
    checks_json,
    from_document,
    from_rows,
    to_rows,
)
from starling.protocol.wire.health_messages import (
    FOUND_BYTES,
    HEALTH_REPORT,
    ROWS_MAX,
    HealthReport,
)

ROWS = [
    HealthCheck("a.b", Verdict.OK, "well"),
    HealthCheck("a.c", Verdict.WARN, "not so well", "do this"),
    HealthCheck("a.d", Verdict.FAIL, "not at all", "or that"),
]


def test_rows_come_back_from_json_and_from_the_wire() -> None:
    assert from_document(json.loads(checks_json(ROWS))) == ROWS
    assert from_rows(to_rows(ROWS)) == ROWS


@pytest.mark.parametrize("found", ["é" * 1000, "x\n\x00\u202ey" * 100])
def test_rows_that_are_too_long_or_too_many_are_cut(found: str) -> None:
    many = [HealthCheck("n" * 99, Verdict.FAIL, found, "f" * 999)] * 99

    rows = to_rows(many)

    assert len(rows) == ROWS_MAX
    assert FOUND_BYTES - 1 <= len(rows[0].found.encode()) <= FOUND_BYTES
    HEALTH_REPORT.pack(HealthReport(1, rows))


@pytest.mark.parametrize("document", [{}, {"checks": [{}]}, {"checks": 1}])
def test_document_of_another_form_is_refused(document: dict[str, object]) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        from_document(document)
