"""Timeline of injected faults: `kill coordinator 2 at 20s; ...`.

Times count from when the task is open. A killed coordinator stays down until the
timeline starts it again. All else is a matter of orders: at every moment each
coordinator has some, and `fleet.runtime.faults.byzantine_coordinator` carries them out
at its runtime.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from starling.protocol.errors import ConfigError

FAULTS_MAX = 1000
DELAY_S_MAX = 60.0
JUMP_S_MAX = 1e10
"""Three hundred years; farther than any clock goes wrong."""
BOARD_FORMS = (
    "board N loses power at Ts",
    "boards P % leave from Ts [to Ts]",
    "boards A-B pause from Ts [to Ts]",
    "link of board N drops P % [from Ts [to Ts]]",
    "link of board N delays Dms [from Ts [to Ts]]",
    "link of board N carries K kbit/s [from Ts [to Ts]]",
    "boards A-B ATTACK from version V [to version W]",
)
"""Of what `fleet.faults.board_faults` and `fleet.attacks` read."""
BROKER_FORMS = ("kill broker [N] at Ts", "restart broker [N] at Ts")
"""Of what `fleet.faults.broker_faults` reads."""
NUMBER = r"(\d{1,6}(?:\.\d{1,3})?)"
_AT = rf" at {NUMBER} ?s"
SPAN = rf" from {NUMBER} ?s(?: to {NUMBER} ?s)?"
_WHO = r"coordinator (\d{1,3})"


class Fault(Protocol):
    """A fault that begins at some time, and may end at another."""

    @property
    def at_s(self) -> float:
        """Time of its begin, after the task is open."""

    @property
    def until_s(self) -> float | None:
        """Time of its end; None for never, or for what has none."""

    @property
    def text(self) -> str:
        """For people, as it begins."""

    @property
    def end_text(self) -> str:
        """For people, as it ends."""


Entry = TypeVar("Entry")
AnyFault = TypeVar("AnyFault", bound=Fault)


class FaultKind(Enum):
    """Kind of a fault."""

    KILL = "kill"
    RESTART = "restart"
    LIE = "lies"
    EQUIVOCATE = "equivocates"
    DELAY = "delays"
    JUMP = "jumps"
    PARTITION = "partition"


_FORMS = {
    FaultKind.KILL: (rf"kill {_WHO}{_AT}", "kill coordinator N at Ts"),
    FaultKind.RESTART: (rf"restart {_WHO}{_AT}", "restart coordinator N at Ts"),
    FaultKind.LIE: (rf"{_WHO} lies{SPAN}", "coordinator N lies from Ts [to Ts]"),
    FaultKind.EQUIVOCATE: (
        rf"{_WHO} equivocates{SPAN}",
        "coordinator N equivocates from Ts [to Ts]",
    ),
    FaultKind.DELAY: (
        rf"{_WHO} delays (\d{{1,5}}) ?ms{SPAN}",
        "coordinator N delays Dms from Ts [to Ts]",
    ),
    FaultKind.JUMP: (
        rf"clock of {_WHO} jumps ([+-]\d{{1,11}}(?:\.\d{{1,3}})?) ?s{_AT}",
        "clock of coordinator N jumps +Xs at Ts",
    ),
    FaultKind.PARTITION: (
        rf"partition ([\d |]+?){SPAN}",
        "partition N N | N N from Ts [to Ts]",
    ),
}
EXPECTED = "expected one of: " + "; ".join(
    f"'{form}'"
    for form in (*(f for _, f in _FORMS.values()), *BOARD_FORMS, *BROKER_FORMS)
)


@dataclass(frozen=True)
class ScheduledFault:
    """One entry of a timeline.

    Attributes:
      at_s: When it begins, after the task is open.
      deed: What.
      coordinator: To whom, from 1; 0 for a partition.
      until_s: When it ends; None for never, or for what has no end.
      amount_s: How late, or how far the clock jumps.
      sides: Who can hear each other in a partition.
    """

    at_s: float
    deed: FaultKind
    coordinator: int = 0
    until_s: float | None = None
    amount_s: float = 0.0
    sides: tuple[tuple[int, ...], ...] = ()

    @property
    def text(self) -> str:
        """For people, as it begins."""
        parted = " | ".join(" ".join(map(str, side)) for side in self.sides)
        return {
            FaultKind.KILL: f"coordinator {self.coordinator} was killed",
            FaultKind.RESTART: f"coordinator {self.coordinator} is started again",
            FaultKind.LIE: f"coordinator {self.coordinator} begins to lie",
            FaultKind.EQUIVOCATE: f"coordinator {self.coordinator} begins to vote "
            "twice",
            FaultKind.DELAY: f"coordinator {self.coordinator} speaks "
            f"{1000 * self.amount_s:.0f} ms late",
            FaultKind.JUMP: f"the clock of coordinator {self.coordinator} jumps by "
            f"{self.amount_s:+g} s",
            FaultKind.PARTITION: f"coordinators {parted} are cut off from each other",
        }[self.deed]

    @property
    def end_text(self) -> str:
        """For people, as it ends."""
        return {
            FaultKind.LIE: f"coordinator {self.coordinator} lies no more",
            FaultKind.EQUIVOCATE: f"coordinator {self.coordinator} votes once again",
            FaultKind.DELAY: f"coordinator {self.coordinator} speaks in time again",
            FaultKind.PARTITION: "all coordinators hear each other again",
        }.get(self.deed, "")


@dataclass(frozen=True)
class FaultTransition(Generic[AnyFault]):
    """Begin or end of a fault.

    Attributes:
      at_s: When.
      text: For people.
      fault: What.
      begins: Whether it begins.
    """

    at_s: float
    text: str
    fault: AnyFault
    begins: bool


@dataclass(frozen=True)
class FaultOrders:
    """Faults that one coordinator is to show now.

    Attributes:
      deaf_to: Coordinators that it cannot hear.
      delay_s: How late what it tells others leaves.
      equivocates: Whether it votes twice.
      lies: Whether it changes the models that it computes.
      clock_s: How far its wall clock is off.
    """

    deaf_to: tuple[int, ...] = ()
    delay_s: float = 0.0
    equivocates: bool = False
    lies: bool = False
    clock_s: float = 0.0

    @property
    def text(self) -> str:
        """For people, in a few words; nothing if all is well."""
        words = [
            f"cut off from {' '.join(map(str, self.deaf_to))}" if self.deaf_to else "",
            f"{1000 * self.delay_s:.0f} ms late" if self.delay_s else "",
            "votes twice" if self.equivocates else "",
            "lies" if self.lies else "",
            f"clock {self.clock_s:+g} s" if self.clock_s else "",
        ]
        return ", ".join(word for word in words if word)


def read_entries(
    text: str, is_own: Callable[[str], bool], read: Callable[[str], Entry]
) -> list[Entry]:
    """Reads those entries of a timeline that are of one kind.

    Args:
      text: As a user gave it; may be empty.
      is_own: True for an entry of that kind, which has single spaces by then.
      read: Makes something of it, or raises a `ValueError` that says what is wrong.

    Returns:
      What was read, in the order in which it stands.

    Raises:
      ConfigError: If there are too many entries, or one cannot be read.
    """
    entries = [" ".join(entry.split()) for entry in text.split(";") if entry.strip()]
    if len(entries) > FAULTS_MAX:
        raise ConfigError(f"more than {FAULTS_MAX} entries", key="--fault")
    found = []
    for entry in filter(is_own, entries):
        try:
            found.append(read(entry))
        except ValueError as error:
            raise ConfigError(f"{entry!r}: {error}", key="--fault") from error
    return found


def is_about_boards(entry: str) -> bool:
    """True for an entry of `fleet.faults.board_faults` or of `fleet.attacks`."""
    return entry.split()[0] in ("board", "boards", "link", "links")


def is_about_brokers(entry: str) -> bool:
    """True for an entry of `fleet.faults.broker_faults`."""
    return "broker" in entry.split()


def timeline(text: str, coordinators: int) -> tuple[ScheduledFault, ...]:
    """Reads what a timeline has coordinators do; the rest is about boards and brokers.

    Args:
      text: As a user gave it; may be empty.
      coordinators: How many there are.

    Returns:
      The faults in the order of their times.

    Raises:
      ConfigError: If an entry is none, or names a coordinator that there is not.
    """
    faults = read_entries(
        text,
        lambda entry: not is_about_boards(entry) and not is_about_brokers(entry),
        lambda entry: _fault(entry, coordinators),
    )
    return tuple(sorted(faults, key=lambda fault: fault.at_s))


def _fault(entry: str, coordinators: int) -> ScheduledFault:
    for deed, (form, _) in _FORMS.items():
        found = re.fullmatch(form, entry)
        if found is not None:
            fault = _made(deed, found.groups())
            _check(fault, coordinators)
            return fault
    for deed, (_, shown) in _FORMS.items():
        if deed.value in entry.split():
            raise ValueError(f"expected '{shown}'")
    raise ValueError(EXPECTED)


def _made(deed: FaultKind, groups: Sequence[str | None]) -> ScheduledFault:
    words = [group or "" for group in groups]
    match deed:
        case FaultKind.KILL | FaultKind.RESTART:
            return ScheduledFault(float(words[1]), deed, int(words[0]))
        case FaultKind.LIE | FaultKind.EQUIVOCATE:
            return ScheduledFault(float(words[1]), deed, int(words[0]), _end(words[2]))
        case FaultKind.DELAY:
            late_s, until_s = int(words[1]) / 1000, _end(words[3])
            return ScheduledFault(float(words[2]), deed, int(words[0]), until_s, late_s)
        case FaultKind.JUMP:
            far_s = float(words[1])
            return ScheduledFault(float(words[2]), deed, int(words[0]), None, far_s)
        case FaultKind.PARTITION:
            sides = tuple(
                tuple(int(number) for number in side.split())
                for side in words[0].split("|")
            )
            return ScheduledFault(float(words[1]), deed, 0, _end(words[2]), 0.0, sides)


def _end(word: str) -> float | None:
    return float(word) if word else None


def _check(fault: ScheduledFault, coordinators: int) -> None:
    named = [number for side in fault.sides for number in side]
    everybody = list(range(1, coordinators + 1))
    for number in named or [fault.coordinator]:
        if number not in everybody:
            raise ValueError(
                f"there is no coordinator {number}, they are 1 to {coordinators}"
            )
    check_end(fault)
    if fault.deed is FaultKind.DELAY and not 0.0 < fault.amount_s <= DELAY_S_MAX:
        raise ValueError(f"1 to {1000 * DELAY_S_MAX:.0f} ms")
    if abs(fault.amount_s) > JUMP_S_MAX:
        raise ValueError(f"at most {JUMP_S_MAX:.0f} s")
    if fault.deed is not FaultKind.PARTITION:
        return
    if len(fault.sides) < 2 or not all(fault.sides):
        raise ValueError("at least two sides, parted by '|', each with somebody")
    # Who is on no side would hear all, or nobody: neither was asked for.
    if sorted(named) != everybody:
        raise ValueError(f"each of 1 to {coordinators} is on one side")


def check_end(fault: Fault) -> None:
    """Refuses a fault that ends before it begins.

    Raises:
      ValueError: Saying so.
    """
    if fault.until_s is not None and fault.until_s <= fault.at_s:
        raise ValueError("ends before it begins")


def transitions(faults: Sequence[AnyFault]) -> tuple[FaultTransition[AnyFault], ...]:
    """All beginnings and ends of a timeline, in the order of their times."""
    found = [FaultTransition(fault.at_s, fault.text, fault, True) for fault in faults]
    found += [
        FaultTransition(fault.until_s, fault.end_text, fault, False)
        for fault in faults
        if fault.until_s is not None
    ]
    # Sorting is stable: of one moment what begins comes before what ends, so that
    # faults may follow each other without a gap.
    return tuple(sorted(found, key=lambda moment: moment.at_s))


def take_due(
    coming: deque[FaultTransition[AnyFault]], time_s: float
) -> Iterator[FaultTransition[AnyFault]]:
    """Takes out, in order, the transitions whose time has come.

    Args:
      coming: Those that did not happen yet, in the order of their times.
      time_s: Since the task is open.
    """
    while coming and coming[0].at_s <= time_s:
        yield coming.popleft()


def lasts_s(faults: Sequence[Fault]) -> float:
    """Time of the last transition; 0 if there is none."""
    return max((moment.at_s for moment in transitions(faults)), default=0.0)


def orders(
    faults: Sequence[ScheduledFault], time_s: float, coordinator: int
) -> FaultOrders:
    """Faults of a coordinator at some time.

    Args:
      faults: The timeline.
      time_s: Since the task is open.
      coordinator: Which one, from 1.
    """
    now = [
        fault
        for fault in faults
        if fault.at_s <= time_s and (fault.until_s is None or time_s < fault.until_s)
    ]
    own = [fault for fault in now if fault.coordinator == coordinator]
    deaf_to = {
        other
        for fault in now
        for side in fault.sides
        if coordinator not in side
        for other in side
    }
    return FaultOrders(
        tuple(sorted(deaf_to)),
        sum(fault.amount_s for fault in own if fault.deed is FaultKind.DELAY),
        any(fault.deed is FaultKind.EQUIVOCATE for fault in own),
        any(fault.deed is FaultKind.LIE for fault in own),
        sum(fault.amount_s for fault in own if fault.deed is FaultKind.JUMP),
    )
