"""Progress of a newcomer on the chain, by its own signed statuses.

From the height of its VALSET on it counts in every quorum. So the motion that adds it
waits until it has caught up.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.status.status_reader import read_status
from starling.protocol.chain.genesis import Validator
from starling.protocol.errors import OperationError
from starling.protocol.ids import device_id, device_name

CAUGHT_UP_BLOCKS = 1
"""Heights that somebody caught up may say to be behind: a status is a second old."""
FRESH_S = 5.0
"""Age of what we were told and of what our coordinator wrote down, at most."""
_POLL_S = 1.0


@dataclass(frozen=True)
class NewcomerProgress:
    """Progress of a newcomer, as the running coordinator last received it.

    Attributes:
      height: That it says to decide; None if it was not heard of lately.
      ours: That our coordinator decides.
    """

    height: int | None
    ours: int

    @property
    def caught_up(self) -> bool:
        """True if it is close enough to the chain's head to decide."""
        return self.height is not None and self.height >= self.ours - CAUGHT_UP_BLOCKS

    def text(self, name: str) -> str:
        """For people."""
        if self.height is None:
            return (
                f"{name}: not heard of; it must run, be admitted at the broker, and "
                "learn (starling coordinator learner add)"
            )
        return f"{name}: height {self.height} of {self.ours}"


def progress_of(home: CoordinatorHome, identity: str, now_s: float) -> NewcomerProgress:
    """Reads how far somebody is from what our coordinator last wrote down.

    Args:
      home: Our folder.
      identity: The newcomer's id, as text.
      now_s: Unix time.

    Raises:
      OperationError: If our coordinator does not run, and so hears of nobody.
    """
    document = read_status(home.status) or {}
    # A process may hang with its status on disk: the age tells, not that there is one.
    age_s = now_s - document.get("now_ms", 0) / 1000
    if document.get("state") == "stopped" or abs(age_s) > FRESH_S:
        raise OperationError(
            "the coordinator of this folder does not run, so that the newcomer's "
            "progress is not known: start it, or give --force"
        )
    consensus = document["consensus"]
    for row in consensus["peers"]:
        if row["id"] == identity and row["silent_s"] <= FRESH_S:
            return NewcomerProgress(row["height"], consensus["height"])
    return NewcomerProgress(None, consensus["height"])


def require_caught_up(
    home: CoordinatorHome,
    who: Validator,
    wait_s: float,
    clock: Callable[[], float] = time.time,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Waits until a newcomer has caught up, and says how far it is.

    Args:
      home: Our folder, whose coordinator runs.
      who: The newcomer.
      wait_s: How long at most; 0 looks once.
      clock: Unix time in s.
      pause: Lets so many seconds pass.

    Raises:
      OperationError: If it has not caught up by then, or nobody knows.
    """
    identity, until_s, said = device_name(device_id(who.public)), clock() + wait_s, ""
    while True:
        found = progress_of(home, identity, clock())
        text = found.text(who.name)
        if found.caught_up:
            return
        if clock() >= until_s:
            raise OperationError(
                f"{text}: it would count from its motion on and be missing from every "
                "quorum; wait until it has caught up, or give --force"
            )
        if text != said:
            sys.stderr.write(f"waits for {text}\n")
            said = text
        pause(_POLL_S)
