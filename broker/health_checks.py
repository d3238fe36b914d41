"""The form in which a program says whether all is well: one row for each check.

A row has a stable id for scripts, a verdict, what was found, and what to do about it.
On the wire it is `protocol.wire.health_messages.HealthRow`, where long texts are cut.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from starling.protocol.wire.health_messages import (
    FIX_BYTES,
    FOUND_BYTES,
    NAME_BYTES,
    ROWS_MAX,
    HealthRow,
)


class Verdict(Enum):
    """Outcome of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class HealthCheck:
    """One line of the report.

    Attributes:
      name: Stable id, for scripts.
      verdict: How it went.
      found: What was found.
      fix: What to do; empty if all is well.
    """

    name: str
    verdict: Verdict
    found: str
    fix: str = ""


def failed(checks: Sequence[HealthCheck]) -> bool:
    """True if any check failed; warnings do not count."""
    return any(check.verdict is Verdict.FAIL for check in checks)


def checks_json(checks: Sequence[HealthCheck]) -> str:
    """All checks as one JSON document."""
    rows = [{**asdict(check), "verdict": check.verdict.value} for check in checks]
    return json.dumps({"ok": not failed(checks), "checks": rows}, indent=2) + "\n"


def from_document(document: dict[str, Any]) -> list[HealthCheck]:
    """Checks of the document that `checks_json` makes.

    Raises:
      LookupError, TypeError, ValueError: If it is another one.
    """
    return [
        HealthCheck(
            str(row["name"]),
            Verdict(row["verdict"]),
            str(row["found"]),
            str(row["fix"]),
        )
        for row in document["checks"]
    ]


def to_rows(checks: Sequence[HealthCheck]) -> tuple[HealthRow, ...]:
    """Checks as they travel; what is too long, or too many, is cut."""
    verdicts = list(Verdict)
    return tuple(
        HealthRow(
            _cut(check.name, NAME_BYTES),
            verdicts.index(check.verdict),
            _cut(check.found, FOUND_BYTES),
            _cut(check.fix, FIX_BYTES),
        )
        for check in checks[:ROWS_MAX]
    )


def from_rows(rows: Sequence[HealthRow]) -> list[HealthCheck]:
    """Checks that travelled."""
    verdicts = list(Verdict)
    return [
        HealthCheck(row.name, verdicts[row.verdict], row.found, row.fix) for row in rows
    ]


def _cut(line: str, bytes_max: int) -> str:
    # A row ends in an operator's terminal, and a board could write escape sequences
    # into it.
    plain = "".join(letter if letter.isprintable() else " " for letter in line)
    return plain.encode()[:bytes_max].decode(errors="ignore")


def checks_text(checks: Sequence[HealthCheck]) -> str:
    """A line or two for each check."""
    return "".join(_row(check) for check in checks)


def _row(check: HealthCheck) -> str:
    line = f"{check.verdict.value:<5} {check.name:<26} {check.found}\n"
    return f"{line}{'':<33}-> {check.fix}\n" if check.fix else line
