"""Reputation of a board by subjective logic, from evidence with forgetting.

Evidence is a sum for a board and a sum against it, in millionths of one update's at
most; each new piece makes the older ones count 15/16. With r for, s against and a
prior weight of 2, belief is r / (r + s + 2), disbelief s / (r + s + 2), uncertainty
2 / (r + s + 2), and what is expected of a board is belief and half of the uncertainty.
Who is new, or was not heard of for long, is expected to be one half.

Source: Josang, "Subjective Logic", 2013 draft, section 3.1.3 (evidence and opinion) and
3.2 (base rate 1/2); Kang et al., "Incentive mechanism for reliable federated learning",
IEEE Internet of Things Journal 6(6), 2019, section IV (evidence against counts more,
and old evidence less).
"""

from dataclasses import dataclass
from typing import Annotated

from starling.protocol.dataclass_replace import evolve
from starling.protocol.schema.msgpack_codec import Structure, Uint, uint

MILLION = 10**6
KEPT_OF_16 = 15
"""Sixteenths of older evidence that still count after a new piece."""
AGAINST_TIMES = 2
"""Evidence against a board counts so many times as much as evidence for it."""
QUARANTINE_BELOW = 200_000
"""Expectation, in millionths, below which a board is quarantined."""
RETURN_AGAINST = 1 * MILLION
"""Evidence against a board that returns: it is expected to be one third."""
DOUBLINGS_MAX = 6
_EVIDENCE_MAX = 64 * MILLION


class BoardReputation(Structure, frozen=True):
    """Evidence that the chain has about a board.

    Attributes:
      positive: Evidence for it, in millionths.
      negative: Evidence against it, in millionths.
      scored: How many of its updates were scored.
      quarantines: How often it was quarantined.
      until_ms: Header time, in Unix milliseconds, at which its last quarantine ends.
    """

    positive: Annotated[int, uint(_EVIDENCE_MAX)] = 0
    negative: Annotated[int, uint(_EVIDENCE_MAX)] = 0
    scored: Uint = 0
    quarantines: Uint = 0
    until_ms: Uint = 0

    def is_quarantined(self, time_ms: int) -> bool:
        """True if a board gets no lease at this header time."""
        return time_ms < self.until_ms

    @property
    def expectation_ppm(self) -> int:
        """Expectation of the board's worth, in parts per million."""
        return expectation_ppm(self.positive, self.negative)


UNKNOWN_BOARD = BoardReputation()
"""Nothing was scored yet."""


@dataclass(frozen=True)
class ReputationOpinion:
    """An opinion of subjective logic; the three add up to a million, but for rounding.

    Attributes:
      belief: In parts per million, as the others.
      disbelief: Of evidence against.
      uncertainty: Of evidence that is not there.
    """

    belief: int
    disbelief: int
    uncertainty: int


def opinion(known: BoardReputation) -> ReputationOpinion:
    """The opinion that a board's evidence amounts to."""
    r, s = known.positive, known.negative
    total = r + s + 2 * MILLION
    return ReputationOpinion(
        r * MILLION // total, s * MILLION // total, 2 * MILLION**2 // total
    )


def expectation_ppm(positive: int, negative: int) -> int:
    """Belief and half of the uncertainty, (r + 1) / (r + s + 2), rounded down.

    Args:
      positive: Evidence for, in millionths.
      negative: Evidence against, in millionths.
    """
    return (positive + MILLION) * MILLION // (positive + negative + 2 * MILLION)


def with_evidence(
    known: BoardReputation, evidence: int, time_ms: int, quarantine_s: int
) -> BoardReputation:
    """A board's reputation after one more of its updates was scored.

    While it is quarantined what comes late is counted and changes nothing.

    Args:
      known: Before.
      evidence: For it above 0 and against it below, in millionths, at most one whole.
      time_ms: Header time, in Unix milliseconds.
      quarantine_s: How long its first quarantine lasts; 0 for none ever.
    """
    known = evolve(known, scored=known.scored + 1)
    if known.is_quarantined(time_ms):
        return known
    evidence = max(-MILLION, min(MILLION, evidence))
    positive = known.positive * KEPT_OF_16 // 16 + max(evidence, 0)
    negative = known.negative * KEPT_OF_16 // 16 + AGAINST_TIMES * max(-evidence, 0)
    if not quarantine_s or expectation_ppm(positive, negative) >= QUARANTINE_BELOW:
        return evolve(known, positive=positive, negative=negative)
    # Bounded, so that no number of quarantines leaves 64 bits.
    span_ms = 1000 * quarantine_s << min(known.quarantines, DOUBLINGS_MAX)
    return evolve(
        known,
        positive=0,
        # It returns on probation: with nothing against it, a bad board would have
        # gained by its quarantine.
        negative=RETURN_AGAINST,
        quarantines=known.quarantines + 1,
        until_ms=time_ms + span_ms,
    )


def quarantined_text(known: BoardReputation, time_ms: int) -> str:
    """Reason and rest of a quarantine, for people."""
    left_s = -(-(known.until_ms - time_ms) // 1000)
    return (
        f"for {left_s} s more: the scores of its updates speak against it "
        f"(quarantine {known.quarantines} of this board)"
    )
