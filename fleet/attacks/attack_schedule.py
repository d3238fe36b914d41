"""Schedule of attacking boards: `boards 1-20 flip signs from version 0`.

These are entries of a fleet's fault timeline (`fleet.faults`) that begin with `board`
or `boards`. Boards count from 1. A version is the one that a board trains from.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations

from starling.fleet.faults.board_faults import (
    BOARDS,
    board_range,
    boards_text,
    is_board_fault,
)
from starling.fleet.faults.fault_timeline import (
    BOARD_FORMS,
    is_about_boards,
    read_entries,
)
from starling.protocol.errors import ConfigError

AMOUNT_MAX = 1e4


class AttackKind(Enum):
    """Kind of an attack; see `fleet.attacks.update_attacks`."""

    FLIP_SIGNS = "flip signs"
    REACH_BOUND = "reach the bound"
    FLIP_LABELS = "flip labels"
    INNER_PRODUCT = "use ipm"
    LITTLE = "use alie"
    MIMIC = "mimic"
    NO_NOISE = "send no noise"
    RIDE_FREE = "ride free"
    BACKDOOR = "plant a backdoor"


COLLUDING = frozenset({AttackKind.INNER_PRODUCT, AttackKind.LITTLE, AttackKind.MIMIC})
"""Attacks that need to know what other boards send."""
_AMOUNTS = {
    AttackKind.FLIP_SIGNS: 1.0,
    AttackKind.INNER_PRODUCT: 0.5,
    AttackKind.LITTLE: 1.5,
    AttackKind.BACKDOOR: 0.0,
}
"""What a number behind the attack's name is where none is given."""
_AMOUNT = r"(?: (\d{1,5}(?:\.\d{1,3})?))?"
_SPAN = r" from version (\d{1,6})(?: to(?: version)? (\d{1,6}))?"
EXPECTED = f"expected '{BOARD_FORMS[-1]}' with ATTACK one of: " + ", ".join(
    f"{kind.value} [NUMBER]" if kind in _AMOUNTS else kind.value for kind in AttackKind
)


@dataclass(frozen=True)
class BoardAttack:
    """One entry of a timeline.

    Attributes:
      first: Number of the first board, from 1.
      last: Number of the last board.
      kind: What they send.
      amount: How many times the honest update, the epsilon of inner product
        manipulation, the z of "a little is enough", or a backdoor's target class.
      from_version: First base version at which they attack.
      to_version: First one at which they do no more; None for never.
    """

    first: int
    last: int
    kind: AttackKind
    amount: float = 0.0
    from_version: int = 0
    to_version: int | None = None

    @property
    def text(self) -> str:
        """The entry as a timeline has it."""
        boards = range(self.first, self.last + 1)
        deed = self.kind.value if len(boards) > 1 else _of_one(self.kind)
        amount = f" {self.amount:g}" if self.kind in _AMOUNTS else ""
        until = "" if self.to_version is None else f" to version {self.to_version}"
        since = f"from version {self.from_version}{until}"
        return f"{boards_text(boards)} {deed}{amount} {since}"

    def is_on(self, board: int, version: int) -> bool:
        """True if a board, counted from 1, attacks with an update of a version."""
        begun = self.from_version <= version
        ended = self.to_version is not None and version >= self.to_version
        return self.first <= board <= self.last and begun and not ended


def board_attacks(text: str, boards: int) -> tuple[BoardAttack, ...]:
    """Reads the entries of a timeline that have boards attack.

    Args:
      text: As a user gave it; may be empty.
      boards: How many there are.

    Returns:
      The attacks in the order in which they stand.

    Raises:
      ConfigError: If an entry is none, names a board that there is not, or has a board
        attack in two ways at once.
    """
    found = read_entries(
        text,
        lambda entry: is_about_boards(entry) and not is_board_fault(entry),
        lambda entry: _attack(entry, boards),
    )
    # Two attacks at once have no order in which they would be done.
    for one, other in combinations(found, 2):
        if _meet(one, other):
            raise ConfigError(
                f"'{one.text}' and '{other.text}' have a board attack in two ways at "
                "once; give them other boards or versions",
                key="--fault",
            )
    return tuple(found)


def attack_of(
    attacks: Sequence[BoardAttack], board: int, version: int
) -> BoardAttack | None:
    """Attack of a board, counted from 1, on a version; None without one."""
    return next((each for each in attacks if each.is_on(board, version)), None)


def _attack(entry: str, boards: int) -> BoardAttack:
    for kind in AttackKind:
        deed = f"(?:{kind.value}|{_of_one(kind)})"
        amount = _AMOUNT if kind in _AMOUNTS else "()"
        found = re.fullmatch(f"boards? {BOARDS} {deed}{amount}{_SPAN}", entry)
        if found is None:
            continue
        first, last, number, since, until = found.groups()
        named = board_range(first, last, boards)
        size = float(number) if number else _AMOUNTS.get(kind, 0.0)
        end = None if until is None else int(until)
        attack = BoardAttack(named[0], named[-1], kind, size, int(since), end)
        _check(attack)
        return attack
    raise ValueError(EXPECTED)


def _of_one(kind: AttackKind) -> str:
    """The attack's verb for one board: `flips signs`."""
    verb, space, rest = kind.value.partition(" ")
    return f"{verb}{'es' if verb.endswith('ch') else 's'}{space}{rest}"


def _check(attack: BoardAttack) -> None:
    if attack.to_version is not None and attack.to_version <= attack.from_version:
        raise ValueError("ends before it begins")
    if attack.amount > AMOUNT_MAX:
        raise ValueError(f"its number is at most {AMOUNT_MAX:g}")
    if attack.kind is AttackKind.BACKDOOR and attack.amount % 1:
        raise ValueError("a backdoor's number is a class, from 0")


def _meet(one: BoardAttack, other: BoardAttack) -> bool:
    first, last = max(one.first, other.first), min(one.last, other.last)
    since = max(one.from_version, other.from_version)
    return first <= last and one.is_on(first, since) and other.is_on(first, since)
