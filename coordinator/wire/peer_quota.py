"""Quotas of a peer: of what comes under its name, and of what it signed itself.

Whoever runs a broker can write there under any name. So what comes under a peer's name
over one broker is charged to that name there, and leaves alone what it says over its
own: else one liar with a broker could use up what all others may say, and break off
what they say at length. What a peer asks for, in a request or with a status, is signed
and fresh: that is charged to the peer itself, over whatever broker it comes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from starling.protocol.wire.chunks import ChunkAssembly

ASSEMBLIES_MAX = 2
"""What it says to everybody and what it says to us alone may come in turns."""
BYTES_PER_S = 8e6
"""That one peer may say unasked in the long run."""
BYTES_BURST = 32e6
SIGNATURES_PER_S = 256.0
"""Votes, proposals, certificates, statuses and requests of one peer in the long run,
each of which costs a signature or several: more than heights can follow each other,
with repair beside."""
SIGNATURES_BURST = 1024.0
VOID_PER_S = 128.0
"""Transactions that enter no block, of those that one peer tells us of. Honest ones
repeat 64 a second, which may be decided here, and attest what others attested."""
VOID_BURST = 1024.0
ASKS_PER_S = 256.0
ASKS_BURST = 1024.0
ANSWERS_PER_S = 6e6
"""Bytes; more than `downloads.piece_download.BYTES_PER_S`, at which honest ones ask."""
ANSWERS_BURST = 6e6


@dataclass(frozen=True)
class LineQuota:
    """Quota of one peer's name at one broker.

    Attributes:
      allowance: Bytes that it may say unasked now.
      signatures: Messages that it may have checked now.
      void: Transactions that enter no block which it may tell us of now; below 0 if it
        told us of more before the first of them was looked at.
      at_s: When these three were true.
      assemblies: Long frames that are coming in, the one that grew last at the end; at
        most `ASSEMBLIES_MAX`.
    """

    allowance: float = 0.0
    signatures: float = 0.0
    void: float = 0.0
    at_s: float = -math.inf
    assemblies: tuple[ChunkAssembly, ...] = ()

    def earned(self, now_s: float) -> "LineQuota":
        """With what may be said more since the last time."""
        # Infinite for a new line, which so begins with a full burst.
        gone_s = now_s - self.at_s
        allowance = min(BYTES_BURST, self.allowance + gone_s * BYTES_PER_S)
        signatures = self.signatures + gone_s * SIGNATURES_PER_S
        signatures = min(SIGNATURES_BURST, signatures)
        void = min(VOID_BURST, self.void + gone_s * VOID_PER_S)
        return replace(
            self, allowance=allowance, signatures=signatures, void=void, at_s=now_s
        )


@dataclass(frozen=True)
class AnswerQuota:
    """Quota of what one peer is answered, whoever brings what it asks.

    Attributes:
      asks: Things that it may ask for now.
      answers: Bytes that it may be answered now.
      at_s: When these two were true.
      answered: When each thing was given that was asked for a moment ago.
    """

    asks: float = 0.0
    answers: float = 0.0
    at_s: float = -math.inf
    answered: Mapping[bytes, float] = field(default_factory=dict)

    def earned(self, now_s: float) -> "AnswerQuota":
        """With what may be asked and answered more since the last time."""
        gone_s = now_s - self.at_s
        return replace(
            self,
            asks=min(ASKS_BURST, self.asks + gone_s * ASKS_PER_S),
            answers=min(ANSWERS_BURST, self.answers + gone_s * ANSWERS_PER_S),
            at_s=now_s,
        )
