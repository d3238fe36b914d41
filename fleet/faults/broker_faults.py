"""Timeline of faults of brokers: `kill broker at 10s; restart broker at 12s`.

A killed broker stays down until the timeline starts it again; one that is up, and is
restarted, ends first.
"""

import re
from dataclasses import dataclass

from starling.fleet.faults.fault_timeline import (
    BROKER_FORMS,
    NUMBER,
    is_about_brokers,
    read_entries,
)

_FORM = rf"(kill|restart) broker(?: (\d{{1,3}}))? at {NUMBER} ?s"


@dataclass(frozen=True)
class BrokerFault:
    """One entry of a timeline.

    Attributes:
      at_s: When, after the task is open.
      kills: Whether the broker is killed; else it is started again.
      broker: Which one, from 1.
      until_s: None; it has no end.
    """

    at_s: float
    kills: bool
    broker: int = 1
    until_s: float | None = None

    @property
    def text(self) -> str:
        """For people."""
        did = "was killed" if self.kills else "is started again"
        return f"broker {self.broker} {did}"

    @property
    def end_text(self) -> str:
        """Nothing, since it has no end."""
        return ""


def broker_faults(text: str, brokers: int) -> tuple[BrokerFault, ...]:
    """Reads what a timeline has happen to brokers.

    Args:
      text: As a user gave it; may be empty.
      brokers: How many there are.

    Returns:
      The faults in the order of their times.

    Raises:
      ConfigError: If an entry is none, or names a broker that there is not.
    """
    found = read_entries(text, is_about_brokers, lambda entry: _fault(entry, brokers))
    return tuple(sorted(found, key=lambda fault: fault.at_s))


def _fault(entry: str, brokers: int) -> BrokerFault:
    found = re.fullmatch(_FORM, entry)
    if found is None:
        raise ValueError(f"expected '{BROKER_FORMS[0]}' or '{BROKER_FORMS[1]}'")
    deed, number, at_s = found.groups()
    broker = int(number or 1)
    if not 1 <= broker <= brokers:
        raise ValueError(f"there is no broker {broker}, they are 1 to {brokers}")
    return BrokerFault(float(at_s), deed == "kill", broker)
