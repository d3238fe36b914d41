"""Last refusal of a board, and the silence of those who should answer it."""

from dataclasses import dataclass

from starling.protocol.ids import PublicKey

BROKER = "the broker"
"""Who refused, where it was no coordinator."""
STRANGERS_MAX = 8
SILENCE_MAX = 6
"""Messages without any answer, after which a board says so."""


@dataclass(frozen=True)
class LastRefusal:
    """The last refusal of something that the board said, until it is answered well.

    Attributes:
      reason: `protocol.errors.Reason`.
      detail: As the coordinator worded it.
      by: Key of the coordinator that signed it.
      about: What was refused, for people.
      at_s: Monotonic time at which it began.
      logged_s: Monotonic time at which it last was said in the log.
    """

    reason: int
    detail: str
    by: PublicKey
    about: str
    at_s: float
    logged_s: float


@dataclass(frozen=True)
class HeardAnswers:
    """Answers to what the board says, and their absence.

    Attributes:
      refusal: The last one; None once something was answered well.
      unanswered: Messages to coordinators since one of them last answered.
      strangers: Coordinators that say they are there and that this board does not
        trust; the first few.
      broker_code: What the broker last answered to a publish, if it refused; else 0.
    """

    refusal: LastRefusal | None = None
    unanswered: int = 0
    strangers: frozenset[PublicKey] = frozenset()
    broker_code: int = 0
