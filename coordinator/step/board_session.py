"""Session of a board between its messages; lost when the process ends."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from starling.coordinator.step.deferred_replies import RefusalRecord
from starling.protocol.wire.chunks import ChunkAssembly
from starling.protocol.wire.envelope import CounterWindow
from starling.protocol.wire.message_bodies import DevicePhase

_NO_WINDOW = CounterWindow()


@dataclass(frozen=True)
class BoardSession:
    """One enrolled board since we started.

    Attributes:
      said: Counters of its check-ins and requests.
      updates: Counters of its updates.
      assembly: The upload that is coming in; one at a time.
      phase: What it last showed.
      chunks: Model chunks that it may ask for now.
      chunks_at_s: When `chunks` was true.
      asked: What it asked last, and how often again; see
        `coordinator.peers.responder_selection`.
      accused: How often it was convicted when we accused it last; -1 before.
      refused: What it was last refused; None before.
      missed_at_s: When it last sent again what was final: it got no proof of it.
      health_waits: Files of the inbox whose place its checks are to take.
    """

    said: Mapping[int, CounterWindow] = field(default_factory=dict)
    updates: CounterWindow = _NO_WINDOW
    assembly: ChunkAssembly | None = None
    phase: DevicePhase = DevicePhase.INIT
    chunks: float = 0.0
    chunks_at_s: float = -math.inf
    asked: tuple[bytes, int] = (b"", 0)
    accused: int = -1
    refused: RefusalRecord | None = None
    missed_at_s: float = -math.inf
    health_waits: tuple[str, ...] = ()
