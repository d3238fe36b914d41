"""Rows of a check, as short as they can be written."""

from collections.abc import Callable

from starling.broker.health_checks import HealthCheck, Verdict
from starling.protocol.errors import FederationError


def ok(name: str, found: str) -> HealthCheck:
    """All is well."""
    return HealthCheck(name, Verdict.OK, found)


def warn(name: str, found: str, fix: str) -> HealthCheck:
    """Not as it should be, but the board can take part."""
    return HealthCheck(name, Verdict.WARN, found, fix)


def fail(name: str, found: str, fix: str) -> HealthCheck:
    """The board cannot take part like this."""
    return HealthCheck(name, Verdict.FAIL, found, fix)


def guarded(name: str, found: Callable[[], str], fix: str) -> HealthCheck:
    """Well if `found` returns; what it raises is what was found otherwise."""
    try:
        return ok(name, found())
    except (FederationError, OSError) as error:
        return fail(name, str(error), fix)
