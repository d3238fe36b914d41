"""What is made to go wrong in a run, and when: `kill coordinator 2 at 20s; ...`.

Times count from when the task is open. A killed coordinator stays down until the
timeline starts it again.
"""

import re
from dataclasses import dataclass
from enum import Enum

from protocol.errors import ConfigError

FAULTS_MAX = 1000
_FORM = re.compile(
    r"(kill|restart) coordinator (\d{1,3}) at (\d{1,6}(?:\.\d{1,3})?) ?s"
    r"|coordinator (\d{1,3}) (lies) from (\d{1,6}(?:\.\d{1,3})?) ?s"
)
EXPECTED = (
    "expected 'kill coordinator N at Ts', 'restart coordinator N at Ts' or "
    "'coordinator N lies from Ts', joined by ';'"
)


class Deed(Enum):
    """What happens to a coordinator."""

    KILL = "kill"
    RESTART = "restart"
    LIE = "lies"


@dataclass(frozen=True)
class Fault:
    """One entry of a timeline.

    Attributes:
      at_s: When, after the task is open.
      deed: What.
      coordinator: To whom, from 1.
    """

    at_s: float
    deed: Deed
    coordinator: int

    @property
    def text(self) -> str:
        """For people."""
        done = {
            Deed.KILL: "was killed",
            Deed.RESTART: "is started again",
            Deed.LIE: "begins to lie",
        }
        return f"coordinator {self.coordinator} {done[self.deed]}"


def timeline(text: str, coordinators: int) -> tuple[Fault, ...]:
    """Reads a timeline.

    Args:
      text: As a user gave it; may be empty.
      coordinators: How many there are.

    Returns:
      The faults in the order of their times.

    Raises:
      ConfigError: If an entry is none, or names a coordinator that there is not.
    """
    entries = [entry.strip() for entry in text.split(";") if entry.strip()]
    if len(entries) > FAULTS_MAX:
        raise ConfigError(f"more than {FAULTS_MAX} entries", key="--fault")
    faults = [_fault(entry, coordinators) for entry in entries]
    return tuple(sorted(faults, key=lambda fault: fault.at_s))


def _fault(entry: str, coordinators: int) -> Fault:
    found = _FORM.fullmatch(" ".join(entry.split()))
    if found is None:
        raise ConfigError(f"{entry!r}: {EXPECTED}", key="--fault")
    deed, number, at_s, liar, lies, from_s = found.groups()
    made = Fault(float(at_s or from_s), Deed(deed or lies), int(number or liar))
    if not 1 <= made.coordinator <= coordinators:
        raise ConfigError(
            f"{entry!r}: there are {coordinators} coordinators", key="--fault"
        )
    return made
