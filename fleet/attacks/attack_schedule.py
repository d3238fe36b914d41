"""Schedule of attacking boards: `boards 1-20 flip signs from version 0`.

These are entries of a fleet's fault timeline (`fleet.fault_timeline`) that begin with
`board` or `boards`. Boards count from 1. A version is the one that a board trains from.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations

from starling.fleet.board_faults import is_board_fault
from starling.fleet.fault_timeline import entries, is_about_boards
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
_VERBS = {
    AttackKind.FLIP_SIGNS: "flips? signs",
    AttackKind.REACH_BOUND: "reach(?:es)? the bound",
    AttackKind.FLIP_LABELS: "flips? labels",
    AttackKind.INNER_PRODUCT: "uses? ipm",
    AttackKind.LITTLE: "uses? alie",
    AttackKind.MIMIC: "mimics?",
    AttackKind.NO_NOISE: "sends? no noise",
    AttackKind.RIDE_FREE: "rides? free",
    AttackKind.BACKDOOR: "plants? a backdoor",
}
_AMOUNTS = {
    AttackKind.FLIP_SIGNS: 1.0,
    AttackKind.INNER_PRODUCT: 0.5,
    AttackKind.LITTLE: 1.5,
    AttackKind.BACKDOOR: 0.0,
}
"""What a number behind the attack's name is where none is given."""
_WHO = r"boards? (\d{1,5})(?: ?- ?(\d{1,5}))?"
_AMOUNT = r"(?: (\d{1,5}(?:\.\d{1,3})?))?"
_SPAN = r" from version (\d{1,6})(?: to(?: version)? (\d{1,6}))?"
ATTACK_FORM = "boards A-B ATTACK from version V [to version W]"
EXPECTED = f"expected '{ATTACK_FORM}' with ATTACK one of: " + ", ".join(
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
        who = f"boards {self.first}-{self.last}"
        amount = f" {self.amount:g}" if self.kind in _AMOUNTS else ""
        until = "" if self.to_version is None else f" to version {self.to_version}"
        deed = f"{self.kind.value}{amount}"
        return f"{who} {deed} from version {self.from_version}{until}"

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
    found = []
    for entry in entries(text):
        if not is_about_boards(entry) or is_board_fault(entry):
            continue
        try:
            attack = _attack(entry)
            _check(attack, boards)
        except ValueError as error:
            raise ConfigError(f"{entry!r}: {error}", key="--fault") from error
        found.append(attack)
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


def _attack(entry: str) -> BoardAttack:
    for kind, verb in _VERBS.items():
        amount = _AMOUNT if kind in _AMOUNTS else "()"
        found = re.fullmatch(f"{_WHO} {verb}{amount}{_SPAN}", entry)
        if found is None:
            continue
        first, last, number, since, until = found.groups()
        size = float(number) if number else _AMOUNTS.get(kind, 0.0)
        end = None if until is None else int(until)
        return BoardAttack(int(first), int(last or first), kind, size, int(since), end)
    raise ValueError(EXPECTED)


def _check(attack: BoardAttack, boards: int) -> None:
    for number in (attack.first, attack.last):
        if not 1 <= number <= boards:
            raise ValueError(f"there is no board {number}, they are 1 to {boards}")
    if attack.last < attack.first:
        raise ValueError(f"board {attack.last} comes before board {attack.first}")
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
