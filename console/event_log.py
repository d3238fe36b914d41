"""Events of a coordinator, told from one status to the next."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from starling.console.status_facts import StatusFacts

EVENTS_MAX = 100
"""Kept of each subject; older ones are forgotten."""


@dataclass(frozen=True)
class ConsoleEvent:
    """Something that changed.

    Attributes:
      time_ms: Unix time.
      subject: What it is about, in one word.
      text: For people.
      is_trouble: Whether somebody should look.
    """

    time_ms: int
    subject: str
    text: str
    is_trouble: bool = False


class EventLog:
    """The last events of each subject: versions, which are many, push no fault out."""

    def __init__(self) -> None:
        """Nothing happened."""
        self._kept: dict[str, deque[tuple[int, ConsoleEvent]]] = {}
        self._number = 0

    def add(self, happened: Iterable[ConsoleEvent]) -> None:
        """Takes events up, oldest first."""
        for event in happened:
            self._number += 1
            kept = self._kept.setdefault(event.subject, deque(maxlen=EVENTS_MAX))
            kept.append((self._number, event))

    def listed(self) -> list[ConsoleEvent]:
        """Events that are kept, oldest first."""
        known = [entry for kept in self._kept.values() for entry in kept]
        known.sort(key=lambda entry: entry[0])
        return [event for _, event in known]


def differences(before: StatusFacts, after: StatusFacts) -> list[ConsoleEvent]:
    """Events between two statuses of one coordinator, oldest subject first."""
    now_ms = int(after.document["now_ms"])
    found = [*_process(before, after), *_chain(before, after), *_tasks(before, after)]
    found += [*_refusals(before, after), *_boards(before, after)]
    return [ConsoleEvent(now_ms, *event) for event in found]


def _process(
    before: StatusFacts, after: StatusFacts
) -> Iterator[tuple[str, str, bool]]:
    old, new = before.document, after.document
    if old["pid"] != new["pid"]:
        yield "process", "started anew", False
    if old["state"] != new["state"]:
        yield "process", f"is now: {new['state']}", new["state"] != "running"
    if old["broker"] != new["broker"]:
        yield "broker", new["broker"], "disconnected" in new["broker"]


def _chain(before: StatusFacts, after: StatusFacts) -> Iterator[tuple[str, str, bool]]:
    old, new = before.document["stall"], after.document["stall"]
    if old["stalled"] != new["stalled"]:
        why = "; ".join(new["why"])
        text = f"stands still: {why}" if new["stalled"] else "goes on"
        yield "chain", text, new["stalled"]
    known, now = before.consensus, after.consensus
    for name in sorted(set(now["convicted"]) - set(known["convicted"])):
        yield "validators", f"{name} is convicted: {now['convicted'][name]}", True
    for name, count in sorted(_grown(known["outvoted"], now["outvoted"]).items()):
        yield "validators", f"{name} attested another model, {count} times", True
    gone = {one["name"] for one in now["missing"]}
    old_gone = {one["name"] for one in known["missing"]}
    for name in sorted(gone - old_gone):
        yield "validators", f"{name} is silent", True
    for name in sorted(old_gone - gone):
        yield "validators", f"{name} is heard again", False
    if known["validators"] != now["validators"]:
        yield "validators", f"{now['validators']} decide from now on", False
    if now["fork"] is not None and known["fork"] is None:
        yield "chain", f"forked at height {now['fork']['height']}", True


def _tasks(before: StatusFacts, after: StatusFacts) -> Iterator[tuple[str, str, bool]]:
    known = {task.number: task for task in before.tasks}
    for task in after.tasks:
        old = known.get(task.number)
        if old is None:
            yield "tasks", f"task {task.number} is open: {task.name}", False
            continue
        if task.head > old.head:
            yield "versions", _version_text(task.number, old.head, task.head), False
        if task.split and not old.split:
            text = f"task {task.number}: version {task.head + 1} cannot become final"
            yield "tasks", text, True


def _version_text(number: int, old: int, new: int) -> str:
    if new == old + 1:
        return f"task {number}: version {new} is final"
    return f"task {number}: versions {old + 1} to {new} are final"


def _refusals(
    before: StatusFacts, after: StatusFacts
) -> Iterator[tuple[str, str, bool]]:
    for reason, count in sorted(_grown(before.refused, after.refused).items()):
        yield "refusals", f"{count} for {reason}", True


def _boards(before: StatusFacts, after: StatusFacts) -> Iterator[tuple[str, str, bool]]:
    grown = after.chain["boards"] - before.chain["boards"]
    if grown > 0:
        yield "boards", f"{grown} registered, {after.chain['boards']} in all", False
    known = {board.id: board.phase for board in before.boards}
    lost = [
        board.id
        for board in after.boards
        if board.phase == "LOST" and known.get(board.id, "LOST") != "LOST"
    ]
    if len(lost) == 1:
        yield "boards", f"{lost[0]} is lost", True
    elif lost:
        yield "boards", f"{len(lost)} are lost, {lost[0]} among them", True


def _grown(old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    """Counts that grew, by how much; after a new start, all of them."""
    grown = {key: count - old.get(key, 0) for key, count in new.items()}
    return {key: count for key, count in grown.items() if count > 0}
