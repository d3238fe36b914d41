"""Proposal that waits for missing data, and since when."""

import math
from dataclasses import dataclass

from starling.protocol.chain.blocks import Proposal
from starling.protocol.ids import Digest


@dataclass(frozen=True)
class ProgressTimes:
    """Since when things are as they are; monotonic seconds.

    Attributes:
      decided_at_s: When the last block was decided, or when we started.
      staged_at_s: When the height, round or step began in which consensus is.
      waits_from_s: Since when transactions wait without any block; infinity if none do.
    """

    decided_at_s: float
    staged_at_s: float
    waits_from_s: float = math.inf


@dataclass(frozen=True)
class DeferredProposal:
    """A proposal that waits for the vectors that it names.

    Attributes:
      proposal: To be heard by the ledger once nothing lacks.
      missing: Keys in `held` and ids of updates that we had not when it came.
    """

    proposal: Proposal
    missing: tuple[tuple[bytes, Digest], ...]
