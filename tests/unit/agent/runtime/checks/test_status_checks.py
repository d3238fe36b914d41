"""From what a board says of itself to rows."""

from typing import Any

import pytest

from starling.agent.runtime.checks.status_checks import status_checks
from starling.agent.step.state import ReadinessCondition as R
from starling.broker.health_checks import Verdict
from starling.broker.link_events import TAKEN_OVER

OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL
PRIVACY = {"epsilon": 1.694, "epsilon_cap": 8.0, "releases_left": 12}
WELL: dict[str, Any] = {
    "condition": "waits for a lease",
    "connected": True,
    "coordinators": {"online": 3, "away": 1, "trusted": 4},
    "task": 0,
    "version": 7,
    "buffer": 4,
    "privacy": PRIVACY,
}


def rows(changes: dict[str, Any], between_s: float = 0.0) -> dict[str, Any]:
    found = list(status_checks({**WELL, **changes}, between_s))
    assert len({row.name for row in found}) == len(found)
    return {row.name: row for row in found}


def test_board_that_is_well_has_nothing_to_mend() -> None:
    found = rows({})

    assert {row.verdict for row in found.values()} == {OK}
    assert {row.fix for row in found.values()} == {""}
    assert "3 of 4" in found["coordinators.heard"].found
    assert "4 updates" in found["task.known"].found
    assert found["privacy.budget"].found == "epsilon 1.69 of 8, 12 updates are left"


@pytest.mark.parametrize(
    ("name", "changes", "verdict", "shown"),
    [
        (
            "agent.condition",
            {"hung": True, "age_s": 44.0},
            FAIL,
            "hung: it said nothing for 44 s",
        ),
        (
            "agent.condition",
            {"condition": "model refused", "fault": "operator Loop"},
            FAIL,
            "model refused; operator Loop",
        ),
        ("agent.condition", {"condition": "budget spent"}, WARN, "budget spent"),
        *(
            ("agent.condition", {"condition": each.value}, FAIL, each.value)
            for each in (R.REVOKED, R.UNTRUSTED, R.NO_DATA, R.DISK_FULL)
        ),
        ("agent.condition", {"condition": R.JAILED.value}, WARN, "excluded"),
        ("agent.condition", {"condition": None}, OK, "unknown"),
        (
            "agent.identity",
            {"broker_said": f"broker away: b:1: ended; {TAKEN_OVER}"},
            FAIL,
            "another client uses this identity",
        ),
        (
            "agent.identity",
            {"broker_said": "broker away: b:1: refused"},
            OK,
            "no other",
        ),
        (
            "coordinators.heard",
            {"coordinators": {"online": 0, "away": 2, "trusted": 4}},
            FAIL,
            "none: 0 of 4",
        ),
        (
            "coordinators.heard",
            {"coordinators": {"online": 0, "away": 0, "trusted": 4}},
            WARN,
            "none yet: 0 of 4",
        ),
        ("coordinators.heard", {"connected": False}, WARN, "not connected"),
        ("coordinators.heard", {"coordinators": None}, WARN, "has not run"),
        ("task.known", {"version": None}, WARN, "nothing proven of task 0"),
        ("privacy.budget", {"privacy": None}, OK, "nothing paid"),
        (
            "privacy.budget",
            {"privacy": {**PRIVACY, "releases_left": 0}},
            WARN,
            "0 updates are left",
        ),
        (
            "privacy.budget",
            {"privacy": {**PRIVACY, "epsilon": None}},
            FAIL,
            "counts as spent",
        ),
        (
            "privacy.budget",
            {"privacy": {**PRIVACY, "without_noise": True}},
            WARN,
            "without noise",
        ),
        (
            "privacy.budget",
            {"privacy": {**PRIVACY, "epsilon_cap": None, "releases_left": None}},
            OK,
            "epsilon 1.69",
        ),
    ],
)
def test_fault_has_its_row(
    name: str, changes: dict[str, Any], verdict: Verdict, shown: str
) -> None:
    row = rows(changes)[name]

    assert row.verdict is verdict
    assert shown in row.found
    assert bool(row.fix) is (verdict is not OK)


def test_budget_says_how_long_it_lasts_at_the_owners_pace() -> None:
    row = rows({}, between_s=21_600.0)["privacy.budget"]

    assert row.found.endswith("12 updates are left, for 3.0 days or longer")
