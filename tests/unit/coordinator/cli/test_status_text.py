"""What an operator reads when finality stands still."""

from typing import Any

import pytest

from starling.coordinator.cli.status_text import status_text

CONSENSUS: dict[str, Any] = {
    "validators": 4,
    "quorum": 3,
    "fault_model": "byzantine",
    "round": 0,
    "step": "new_height",
    "silence": "",
    "passed_over": [],
    "missing": [],
    "fork": None,
    "peers": [],
    "outvoted": {},
}


def text(traffic: dict[str, Any] | None = None, **fields: object) -> str:
    document = {
        "state": "running",
        "broker": "connected",
        "chain": {"height": 7, "boards": 0},
        "updates": {"accepted": 0, "refused": {}},
        "tasks": [],
        "traffic": traffic or {},
        "consensus": {**CONSENSUS, **fields},
    }
    return status_text(document)


def running(task: dict[str, Any], **updates: object) -> dict[str, Any]:
    """Status of a coordinator with one task, whose boards sent two updates."""
    return {
        "state": "running",
        "broker": "connected",
        "chain": {"height": 7, "boards": 2},
        "updates": {"accepted": 2, "refused": {}, **updates},
        "tasks": [task],
    }


def test_status_without_trouble_shows_no_halt() -> None:
    shown = text()
    assert "quorum" not in shown
    assert "FORK" not in shown


@pytest.mark.parametrize(("missing", "halts"), [(1, False), (2, True)])
def test_status_names_who_is_missing_when_too_few_are_heard_of(
    missing: int, halts: bool
) -> None:
    gone = [{"name": f"c{i}", "silent_s": 12.4} for i in range(missing)]
    shown = text(missing=gone)
    assert ("no quorum" in shown) == halts
    assert ("heard from 2 of 4; missing c0 for 12 s, c1 for 12 s" in shown) == halts


def test_status_names_who_forked_the_chain() -> None:
    shown = text(fork={"height": 5, "blocks": ["aa", "bb"], "liars": ["c2", "c3"]})
    assert "FORK at 5" in shown
    assert "c2, c3" in shown


def test_status_names_who_is_passed_over() -> None:
    assert "passed over" not in text()
    assert "c1, c2" in text(passed_over=["c1", "c2"])


def test_status_says_why_it_does_not_vote() -> None:
    assert "listens" in text(silence="listens whether somebody else votes")


def test_status_names_what_was_dropped_because_it_was_too_much() -> None:
    shown = text({"dropped": {"bulk": 3}, "ignored": {"noisy": 9}})
    assert "no room for bulk         3 messages dropped" in shown
    assert "beyond its allowance     noisy: 9 messages dropped" in shown


@pytest.mark.parametrize(
    ("learns", "role"),
    [(True, "learns, and decides"), (False, "no part in the chain")],
    ids=["learner", "removed"],
)
def test_status_of_who_does_not_decide_says_so_once(learns: bool, role: str) -> None:
    rows = text(index=None, learns=learns).splitlines()
    (row,) = [row for row in rows if "validator" in row]
    assert row.startswith("no validator ")
    assert role in row
    assert "validator" not in text(index=0)


def test_task_that_got_worse_or_pauses_says_so_with_its_losses() -> None:
    found = {
        "best": 3,
        "best_loss": 0.25,
        "newest": 9,
        "newest_loss": 0.5,
        "paused": False,
        "text": "got worse: version 9",
    }
    task = {"task": 0, "head": 9, "versions": [], "held_out": found}
    document = running(task)
    shown = status_text(document)
    assert "task 0 best              version 3, loss 0.2500\n" in shown
    assert "task 0 WORSE             got worse: version 9\n" in shown

    found.update(paused=True, text="paused: no lower loss")
    assert "task 0 PAUSES            paused: no lower loss\n" in status_text(document)

    found.update(paused=False, text="")
    assert "WORSE" not in status_text(document)


def test_task_that_waits_says_for_how_many_updates_and_how_many_boards_there_are() -> (
    None
):
    task = {"task": 0, "head": 0, "pending": 2, "buffer": 10, "versions": []}
    document = running(task, passing={"NOT_HERE": 3})

    shown = status_text(document)

    assert "version 0, 2 of 10 updates, 2 boards\n" in shown
    assert "refused in passing       not_here 3\n" in shown


def test_task_that_pays_says_what_is_left_and_how_it_is_shared() -> None:
    rewards = {"pool": 500, "version": 100, "set_aside": 40, "text": "by contribution"}
    task = {"task": 0, "head": 0, "versions": [], "rewards": rewards}
    document = running(task)
    row = "500 credits left, 100 a version, 40 set aside; by contribution\n"
    assert f"task 0 rewards           {row}" in status_text(document)
    rewards["set_aside"] = 0
    row = "500 credits left, 100 a version; by contribution\n"
    assert f"task 0 rewards           {row}" in status_text(document)


def test_status_says_how_many_vectors_a_trace_could_use() -> None:
    document = {
        "state": "running",
        "broker": "connected",
        "chain": {"height": 7, "boards": 0},
        "updates": {"accepted": 0, "refused": {}},
        "tasks": [],
        "consensus": CONSENSUS,
        "vectors": {"kept": 70, "bytes": 3 << 19, "bytes_max": 1 << 30},
    }
    row = f"{'vectors kept':<24} 70, 1.5 of 1024 MiB\n"
    assert row in status_text(document)
    assert "vectors" not in text()


def test_closed_task_says_by_whom() -> None:
    task = {"task": 3, "head": 9, "versions": [], "closed": "closed by operator o"}
    row = "task 3 ENDED             closed by operator o"
    assert f"{row}\n" in status_text(running(task))

    task["ended"] = "without credits"
    assert f"{row}; without credits\n" in status_text(running(task))
