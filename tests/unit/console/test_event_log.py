"""Every change that somebody should know of is told once."""

from collections.abc import Callable

import pytest

from starling.console.event_log import (
    EVENTS_MAX,
    ConsoleEvent,
    EventLog,
    differences,
)
from tests.unit.console.status_documents import Document, board, document, facts


def told(change: Callable[[Document], object]) -> list[tuple[str, str, bool]]:
    after = document()
    change(after)
    found = differences(facts(), facts(after))
    return [(event.subject, event.text, event.is_trouble) for event in found]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: None, []),
        (lambda d: d.update(pid=2), [("process", "started anew", False)]),
        (lambda d: d.update(state="stopped"), [("process", "is now: stopped", True)]),
        (lambda d: d.update(broker="disconnected"), [("broker", "disconnected", True)]),
        (
            lambda d: d["stall"].update(stalled=True, why=["no quorum"]),
            [("chain", "stands still: no quorum", True)],
        ),
        (
            lambda d: d["consensus"]["convicted"].update(west="equivocation"),
            [("validators", "west is convicted: equivocation", True)],
        ),
        (
            lambda d: d["consensus"]["outvoted"].update(west=2),
            [("validators", "west attested another model, 2 times", True)],
        ),
        (
            lambda d: d["consensus"].update(missing=[{"name": "east", "silent_s": 9}]),
            [("validators", "east is silent", True)],
        ),
        (
            lambda d: d["consensus"].update(validators=5),
            [("validators", "5 decide from now on", False)],
        ),
        (
            lambda d: d["consensus"].update(fork={"height": 3, "liars": []}),
            [("chain", "forked at height 3", True)],
        ),
        (
            lambda d: d["tasks"][0].update(head=4),
            [("versions", "task 0: version 4 is final", False)],
        ),
        (
            lambda d: d["tasks"][0].update(head=9),
            [("versions", "task 0: versions 4 to 9 are final", False)],
        ),
        (
            lambda d: d["tasks"][0]["attested"].update(split=True),
            [("tasks", "task 0: version 4 cannot become final", True)],
        ),
        (
            lambda d: d["tasks"].append(d["tasks"][0] | {"task": 1, "name": "more"}),
            [("tasks", "task 1 is open: more", False)],
        ),
        (
            lambda d: d["updates"]["refused"].update(STALE=6, BUSY=1),
            [("refusals", "1 for BUSY", True), ("refusals", "2 for STALE", True)],
        ),
        (
            lambda d: d["chain"].update(boards=5),
            [("boards", "3 registered, 5 in all", False)],
        ),
        (
            lambda d: d["devices"][0].update(phase="LOST"),
            [("boards", f"{'b' * 26} is lost", True)],
        ),
        # What counts anew after a start is no refusal.
        (lambda d: d["updates"].update(refused={"STALE": 1}), []),
    ],
)
def test_change_is_told(
    change: Callable[[Document], object], expected: list[tuple[str, str, bool]]
) -> None:
    assert told(change) == expected


def test_many_lost_boards_are_one_event() -> None:
    before, after = document(), document()
    before["devices"] = [board(f"{n:026d}") for n in range(50)]
    after["devices"] = [board(f"{n:026d}", "LOST") for n in range(50)]

    (event,) = differences(facts(before), facts(after))

    assert event.text == f"50 are lost, {0:026d} among them"


def test_log_keeps_a_fault_however_many_versions_come_after() -> None:
    fault = ConsoleEvent(0, "validators", "west is convicted", is_trouble=True)
    versions = [ConsoleEvent(n, "versions", f"{n} is final") for n in range(1, 501)]
    log = EventLog()

    log.add([fault])
    log.add(versions)

    assert log.listed() == [fault, *versions[-EVENTS_MAX:]]
