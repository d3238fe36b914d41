"""Checks of a board's status: fleet, task and budget; pure."""

from collections.abc import Iterator
from typing import Any

from starling.agent.round.next_actions import STOPPED, next_action
from starling.agent.runtime.checks.check_rows import fail, ok, warn
from starling.broker.health_checks import HealthCheck
from starling.broker.link_events import TAKEN_OVER

_DAY_S = 86_400.0


def status_checks(document: dict[str, Any], between_s: float) -> Iterator[HealthCheck]:
    """Checks that need nothing but the status.

    Args:
      document: As `status_reader.read_status` gives it.
      between_s: The least time between two updates, in s.
    """
    yield _condition(document)
    yield _identity(document)
    yield _coordinators(document)
    yield _task(document)
    yield _budget(document.get("privacy") or {}, between_s)


def _condition(document: dict[str, Any]) -> HealthCheck:
    name, shown = "agent.condition", str(document.get("condition") or "unknown")
    if document.get("hung"):
        age_s = document.get("age_s") or 0.0
        found = f"hung: it said nothing for {age_s:.0f} s; before: {shown}"
        return fail(name, found, "run: systemctl restart starling-agent")
    action = next_action(shown)
    fault = f"; {document['fault']}" if document.get("fault") and action else ""
    if shown in STOPPED:
        return fail(name, shown + fault, action)
    return warn(name, shown + fault, action) if action else ok(name, shown)


def _identity(document: dict[str, Any]) -> HealthCheck:
    name, said = "agent.identity", str(document.get("broker_said") or "")
    # A copied home signs with the same key and counter, and spends the same budget from
    # a ledger of its own.
    if TAKEN_OVER in said:
        fix = (
            "stop the other one, which has a copy of this home; the two drop each other"
            " from the broker, and a copy's ledger pays less than the data have paid"
        )
        return fail(name, TAKEN_OVER, fix)
    return ok(name, "no other client uses it, as far as the broker says")


def _coordinators(document: dict[str, Any]) -> HealthCheck:
    name, known = "coordinators.heard", document.get("coordinators")
    if not known:
        return warn(name, "unknown: the agent has not run", "run: starling agent run")
    found = f"{known['online']} of {known['trusted']} that this board trusts"
    if not document.get("connected"):
        return warn(name, "unknown: not connected", "see mqtt.connect")
    if not known["online"] and not known["away"]:
        return warn(name, f"none yet: {found}", "wait a minute, and check again")
    if not known["online"]:
        fix = "see whether coordinators run there, and are those of admission.json"
        return fail(name, f"none: {found}", fix)
    return ok(name, found)


def _task(document: dict[str, Any]) -> HealthCheck:
    name, number = "task.known", document.get("task")
    if document.get("version") is None:
        fix = "ask the operator for the task's number, and set training.task"
        return warn(name, f"nothing proven of task {number} yet", fix)
    found = f"task {number}, version {document['version']}"
    buffer = document.get("buffer")
    more = f"; a version is made of {buffer} updates" if buffer else ""
    return ok(name, found + more)


def _budget(privacy: dict[str, Any], between_s: float) -> HealthCheck:
    name, left = "privacy.budget", privacy.get("releases_left")
    if not privacy:
        return ok(name, "nothing paid yet")
    if privacy.get("without_noise"):
        fix = "set privacy.required = true if that was not meant"
        return warn(name, "trains without noise: no epsilon holds", fix)
    # None stands for no finite epsilon, which JSON cannot say.
    if privacy.get("epsilon") is None:
        return fail(
            name, "all of it counts as spent", "see docs/agent.md on the ledger"
        )
    cap = privacy.get("epsilon_cap")
    found = f"epsilon {privacy['epsilon']:.2f}"
    found += "" if cap is None else f" of {cap:g}"
    if left is None:
        return ok(name, found)
    found += f", {left} updates are left"
    if not left:
        return warn(name, found, next_action("budget spent"))
    if between_s:
        found += f", for {left * between_s / _DAY_S:.1f} days or longer"
    return ok(name, found)
