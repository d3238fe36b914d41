"""Quota of a peer's messages and requests, by the broker they come over.

Whoever runs a broker can write there under any name. So what comes under a peer's name
over one broker is charged to that name there, and leaves alone what it says over its
own: else one liar with a broker could use up what all others may say, and break off
what they say at length. All names at another broker together are answered no more than
one of them, or that liar were answered under each.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from starling.protocol.wire.chunks import ChunkAssembly

ASSEMBLIES_MAX = 2
"""What it says to everybody and what it says to us alone may come in turns."""


@dataclass(frozen=True)
class PeerQuota:
    """One peer's name at one broker.

    Attributes:
      allowance: Bytes that it may say unasked now.
      asks: Things that it may ask for now.
      answers: Bytes that it may be answered now.
      votes: Votes, proposals and certificates that it may say now.
      at_s: When these four were true.
      assemblies: Long frames that are coming in, the one that grew last at the end; at
        most `ASSEMBLIES_MAX`.
      answered: When each thing was given that was asked for a moment ago.
    """

    allowance: float = 0.0
    asks: float = 0.0
    answers: float = 0.0
    votes: float = 0.0
    at_s: float = -math.inf
    assemblies: tuple[ChunkAssembly, ...] = ()
    answered: Mapping[bytes, float] = field(default_factory=dict)
