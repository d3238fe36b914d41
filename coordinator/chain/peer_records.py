"""Records of what each validator last reported of itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PeerGaps:
    """Votes and parts that a peer is missing; see `vote_repair`.

    Attributes:
      at_s: When it said so.
      height: Height that it decides.
      statuses: Round, type and voter of what it lacks: for how many statuses in a row.
    """

    at_s: float
    height: int
    statuses: dict[tuple[int, int, int], int]


@dataclass(frozen=True)
class RepeatRecord:
    """Repetitions that were sent to one peer; see `repeat_backoff`.

    Attributes:
      height: Of what was repeated.
      times: How often, at most `repeat_backoff.TIMES_MAX`.
      at_s: When last.
    """

    height: int
    times: int
    at_s: float
