"""Scores of contributions: what a coordinator tries each update of a version on.

A coordinator with a root set, a few training examples of its own, says for each update
how far it agrees with them. The numbers are opinions: of a quorum's the lower median
counts. All of them are in parts per million, and above 0 is good:

- `PROJECTION`: the update's projection on the way from wrong answers to right ones on
  the root set, at the version that it is applied to, per pledged example and as a share
  of the clip where noise is added to a sum of clipped gradients, else of the median
  length of the version's other updates (where there are none, a cosine). The noise in
  it is that of one coordinate.
- `ACCURACY`: the accuracy on the root set of the version with that one update applied,
  less that of the version alone.

Source: `PROJECTION`: Cao et al., "FLTrust", NDSS 2021, arXiv:2012.13995, section 4 (the
root set), with a first-order influence in place of the trust score. `ACCURACY`: Wu and
Kang, "Research on Federated Sharing Methods for Massive Data in Blockchain",
algorithm 2 (Valid_Model).
"""

from enum import IntEnum
from typing import Annotated

from starling.protocol.ids import Digest, H
from starling.protocol.schema.msgpack_codec import Structure, many, uint

ROOTS_MAX = 32
QUARANTINE_S_MAX = 366 * 86_400
DEFAULT_QUARANTINE_S = 86_400


class ScoreRule(IntEnum):
    """Meaning of a score."""

    NONE = 0
    """The task asks for no scores."""
    PROJECTION = 1
    ACCURACY = 2
    """Only without noise: one noised update has no accuracy to speak of."""


SCORE_RULES = {rule.name.lower(): rule for rule in ScoreRule}
"""Rules by the names that operators use."""


class ScorePolicy(Structure, frozen=True):
    """Scores that a task asks its coordinators for.

    Attributes:
      rule: `ScoreRule`.
      roots: Digests of the root sets that count, sorted; who holds another scores not.
      quarantine_s: Seconds of header time for which a board of bad reputation gets no
        lease the first time; each further time it is twice as long. 0 for never.
    """

    rule: Annotated[int, uint(max(ScoreRule))] = ScoreRule.NONE
    roots: Annotated[tuple[Digest, ...], many(ROOTS_MAX)] = ()
    quarantine_s: Annotated[int, uint(QUARANTINE_S_MAX)] = 0


NO_SCORES = ScorePolicy()
"""Nobody scores, and no reputation changes."""


def root_digest(content: bytes) -> Digest:
    """Digest by which a task pins a root set: of its .npz file."""
    return H(b"starling/root/1", content)
