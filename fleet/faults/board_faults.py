"""Timeline of faults of boards and of their links: `board 3 loses power at 10s; ...`.

Times count from when the task is open. A board that loses power starts again at once
from what its disk holds; one that leaves does so when it comes back; one that pauses
stands still, with all that it has in memory. What a link drops is gone on its way, as
behind a broker whose queue is full; a link may also be late, or narrow.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from starling.fleet.faults.fault_timeline import (
    NUMBER,
    SPAN,
    check_end,
    is_about_boards,
    read_entries,
)

BOARDS = r"(\d{1,5})(?: ?- ?(\d{1,5}))?"
"""Numbers of the first and the last board, or of one."""
_WHO = rf"boards? (?:{BOARDS}|(\d{{1,3}}) ?%)"


class BoardFaultKind(Enum):
    """Kind of a fault."""

    POWER = "power"
    LEAVE = "leave"
    PAUSE = "pause"
    DROP = "drop"
    DELAY = "delay"
    CARRY = "carry"


LINK_KINDS = frozenset(
    {BoardFaultKind.DROP, BoardFaultKind.DELAY, BoardFaultKind.CARRY}
)
LINK_DELAY_S_MAX = 60.0
LINKS_IN_CONTAINERS = (
    "a link is late or narrow between containers alone: starling fleet chaos"
)


_FORMS = {
    BoardFaultKind.POWER: (
        rf"{_WHO} loses? power at {NUMBER} ?s()()",
        "board N loses power at Ts",
    ),
    BoardFaultKind.LEAVE: (
        rf"{_WHO} leaves?{SPAN}()",
        "boards P % leave from Ts [to Ts]",
    ),
    BoardFaultKind.PAUSE: (
        rf"{_WHO} pauses?{SPAN}()",
        "boards A-B pause from Ts [to Ts]",
    ),
    BoardFaultKind.DROP: (
        rf"links? of {_WHO} drops? (?P<amount>\d{{1,3}}) ?%(?:{SPAN})?",
        "link of board N drops P % [from Ts [to Ts]]",
    ),
    BoardFaultKind.DELAY: (
        rf"links? of {_WHO} delays? (?P<amount>\d{{1,5}}) ?ms(?:{SPAN})?",
        "link of board N delays Dms [from Ts [to Ts]]",
    ),
    BoardFaultKind.CARRY: (
        rf"links? of {_WHO} carr(?:y|ies) (?P<amount>\d{{1,7}}) ?kbit/s(?:{SPAN})?",
        "link of board N carries K kbit/s [from Ts [to Ts]]",
    ),
}
_VERBS = {
    "lose": BoardFaultKind.POWER,
    "loses": BoardFaultKind.POWER,
    "leave": BoardFaultKind.LEAVE,
    "leaves": BoardFaultKind.LEAVE,
    "pause": BoardFaultKind.PAUSE,
    "pauses": BoardFaultKind.PAUSE,
    "drop": BoardFaultKind.DROP,
    "drops": BoardFaultKind.DROP,
    "delay": BoardFaultKind.DELAY,
    "delays": BoardFaultKind.DELAY,
    "carry": BoardFaultKind.CARRY,
    "carries": BoardFaultKind.CARRY,
}


@dataclass(frozen=True)
class BoardFault:
    """One entry of a timeline.

    Attributes:
      at_s: When it begins, after the task is open.
      kind: What happens.
      boards: To whom, by number from 1, rising.
      until_s: When it ends; None for never, or for what has no end.
      amount: Of a link: the share of messages that it drops, in (0, 1]; how late it
        is each way, in s; or how much it carries each way, in bit/s.
      who: Whom, as the timeline has it.
    """

    at_s: float
    kind: BoardFaultKind
    boards: tuple[int, ...]
    until_s: float | None = None
    amount: float = 0.0
    who: str = ""

    def is_on(self, board: int, time_s: float) -> bool:
        """True if it lasts, for a board, at some time; never for what has no end."""
        begun = self.kind is not BoardFaultKind.POWER and self.at_s <= time_s
        ended = self.until_s is not None and time_s >= self.until_s
        return begun and not ended and board in self.boards

    @property
    def cuts(self) -> bool:
        """True for a link that drops all."""
        return self.kind is BoardFaultKind.DROP and self.amount >= 1.0

    @property
    def text(self) -> str:
        """For people, as it begins."""
        many = len(self.boards) > 1
        return {
            BoardFaultKind.POWER: f"{self.who} lost power",
            BoardFaultKind.LEAVE: f"{self.who} {'leave' if many else 'leaves'}",
            BoardFaultKind.PAUSE: f"{self.who} {'pause' if many else 'pauses'}",
            BoardFaultKind.DROP: f"the link of {self.who} drops {self.amount:.0%}",
            BoardFaultKind.DELAY: f"the link of {self.who} is "
            f"{1000 * self.amount:.0f} ms late",
            BoardFaultKind.CARRY: f"the link of {self.who} carries "
            f"{self.amount / 1000:.0f} kbit/s",
        }[self.kind]

    @property
    def end_text(self) -> str:
        """For people, as it ends."""
        if self.kind in LINK_KINDS:
            well = {
                BoardFaultKind.DROP: "drops nothing any more",
                BoardFaultKind.DELAY: "is in time again",
            }.get(self.kind, "is as wide as before")
            return f"the link of {self.who} {well}"
        if self.kind is BoardFaultKind.PAUSE:
            return f"{self.who} {'go' if len(self.boards) > 1 else 'goes'} on"
        return f"{self.who} {'are' if len(self.boards) > 1 else 'is'} back"


def is_board_fault(entry: str) -> bool:
    """True for an entry of this language, even if it is wrong."""
    words = entry.split()
    if words[0] in ("link", "links"):
        return True
    return is_about_boards(entry) and not _VERBS.keys().isdisjoint(words)


def board_faults(text: str, boards: int) -> tuple[BoardFault, ...]:
    """Reads what a timeline has happen to boards and their links.

    Args:
      text: As a user gave it; may be empty.
      boards: How many there are.

    Returns:
      The faults in the order of their times.

    Raises:
      ConfigError: If an entry is none, or names a board that there is not.
    """
    found = read_entries(text, is_board_fault, lambda entry: _fault(entry, boards))
    return tuple(sorted(found, key=lambda fault: fault.at_s))


def _fault(entry: str, boards: int) -> BoardFault:
    kind = next(_VERBS[word] for word in (*entry.split(), "drop") if word in _VERBS)
    form, shown = _FORMS[kind]
    found = re.fullmatch(form, entry)
    if found is None:
        raise ValueError(f"expected '{shown}'")
    first, last, percent = found.groups()[:3]
    of_link = kind in LINK_KINDS
    since, until = found.groups()[-2:] if of_link else found.groups()[3:5]
    named = (
        _share(int(percent), boards) if percent else board_range(first, last, boards)
    )
    fault = BoardFault(
        float(since or 0.0),
        kind,
        named,
        float(until) if until else None,
        _amount(kind, int(found["amount"])) if of_link else 0.0,
        f"{percent} % of the boards"
        if percent and len(named) > 1
        else boards_text(named),
    )
    check_end(fault)
    return fault


def _amount(kind: BoardFaultKind, number: int) -> float:
    """The `amount` of a link's fault, from the number in the entry."""
    if kind is BoardFaultKind.DROP:
        if not 1 <= number <= 100:
            raise ValueError("a link drops 1 to 100 %")
        return number / 100
    if kind is BoardFaultKind.DELAY:
        if not 1 <= number <= 1000 * LINK_DELAY_S_MAX:
            raise ValueError(f"a link is 1 to {1000 * LINK_DELAY_S_MAX:.0f} ms late")
        return number / 1000
    if not number:
        raise ValueError("a link carries at least 1 kbit/s; 'drops 100 %' cuts it")
    return 1000.0 * number


def board_range(first: str, last: str | None, boards: int) -> tuple[int, ...]:
    """Numbers of boards that `BOARDS` found; without a last one the first alone.

    Raises:
      ValueError: If there is no such board, or the last comes before the first.
    """
    least, most = int(first), int(last or first)
    for number in (least, most):
        if not 1 <= number <= boards:
            raise ValueError(f"there is no board {number}, they are 1 to {boards}")
    if most < least:
        raise ValueError(f"board {most} comes before board {least}")
    return tuple(range(least, most + 1))


def boards_text(numbers: Sequence[int]) -> str:
    """For people: `board 2`, or `boards 2-4`."""
    if len(numbers) == 1:
        return f"board {numbers[0]}"
    return f"boards {numbers[0]}-{numbers[-1]}"


def _share(percent: int, boards: int) -> tuple[int, ...]:
    """Numbers of a share of the boards, spread evenly over all, and rounded up."""
    if not 1 <= percent <= 100:
        raise ValueError("1 to 100 % of the boards")
    count = -(-percent * boards // 100)
    # Spread out, since neighbours may share a broker or a kind of data.
    return tuple(1 + each * boards // count for each in range(count))


def is_away(faults: Sequence[BoardFault], board: int, time_s: float) -> bool:
    """True while a board has left."""
    return _is_any(faults, BoardFaultKind.LEAVE, board, time_s)


def is_paused(faults: Sequence[BoardFault], board: int, time_s: float) -> bool:
    """True while a board stands still."""
    return _is_any(faults, BoardFaultKind.PAUSE, board, time_s)


def is_cut(faults: Sequence[BoardFault], board: int, time_s: float) -> bool:
    """True while a board's link drops all."""
    return dropped_share(faults, board, time_s) >= 1.0


def _is_any(
    faults: Sequence[BoardFault], kind: BoardFaultKind, board: int, time_s: float
) -> bool:
    return any(each.is_on(board, time_s) for each in faults if each.kind is kind)


def dropped_share(faults: Sequence[BoardFault], board: int, time_s: float) -> float:
    """Share of messages that a board's link loses, each way; of several the most."""
    return max(_amounts(faults, BoardFaultKind.DROP, board, time_s), default=0.0)


def link_delay_s(faults: Sequence[BoardFault], board: int, time_s: float) -> float:
    """Delay of a board's link each way, in s; of several the most."""
    return max(_amounts(faults, BoardFaultKind.DELAY, board, time_s), default=0.0)


def link_bit_s(faults: Sequence[BoardFault], board: int, time_s: float) -> float:
    """Width of a board's link each way, in bit/s; of several the least, 0 for any."""
    return min(_amounts(faults, BoardFaultKind.CARRY, board, time_s), default=0.0)


def _amounts(
    faults: Sequence[BoardFault], kind: BoardFaultKind, board: int, time_s: float
) -> list[float]:
    return [
        each.amount
        for each in faults
        if each.kind is kind and each.is_on(board, time_s)
    ]
