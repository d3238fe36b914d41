"""The form in which a program says whether all is well: one row for each check.

A row has a stable id for scripts, a verdict, what was found, and what to do about it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum


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


def checks_text(checks: Sequence[HealthCheck]) -> str:
    """A line or two for each check."""
    return "".join(_row(check) for check in checks)


def _row(check: HealthCheck) -> str:
    line = f"{check.verdict.value:<5} {check.name:<26} {check.found}\n"
    return f"{line}{'':<33}-> {check.fix}\n" if check.fix else line
