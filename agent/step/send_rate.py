"""Send rate: a board stays below what coordinators take of it.

They drop unread what is beyond `protocol.wire.token_bucket`, and a board hears nothing
of that. So where versions follow each other faster than a board may ask for all of
them, it passes some over: what it says is reckoned here, and a request waits until
there is room for it and for what matters more. Updates themselves never wait.
"""

from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache

from starling.agent.step.effects import Effect, PublishBestEffort, PublishSpooled
from starling.agent.step.state import AgentState
from starling.protocol.dataclass_replace import evolve
from starling.protocol.wire.chunks import (
    CHUNK_BYTES,
    CHUNK_MESSAGE_BYTES_MAX,
    chunk_count,
)
from starling.protocol.wire.token_bucket import (
    RateLimits,
    full,
    rates,
    upload_bytes,
)

_RATE = 0.9
"""Of what coordinators take in the long run: their clocks are not ours."""
_BURST = 0.5
"""Of what they take at once: a restarted board does not know what it said before, and
networks hold messages back and deliver them together."""


class Priority(IntEnum):
    """Kind of what is said; its number of messages is left to what matters more."""

    CHECK_IN = 0
    TRAINING_MODEL = 16
    INFERENCE_MODEL = 32


_LEAST = max(Priority)


def allowed_at_s(state: AgentState, priority: Priority) -> float:
    """Monotonic time from which something may be said; -infinity for at once.

    Whatever is said leaves room for one update, so that a lease can be used.
    """
    bucket = state.said
    if bucket is None:
        return float("-inf")
    upload = _upload_bytes(state)
    limits = _limits(upload)
    messages = 1 + chunk_count(upload) + priority - bucket.messages
    payload_bytes = upload - bucket.payload_bytes
    wait_s = max(messages / limits.messages_per_s, payload_bytes / limits.bytes_per_s)
    return bucket.at_s + wait_s if wait_s > 0 else float("-inf")


def allowed_later_s(state: AgentState) -> tuple[float, ...]:
    """Monotonic times at which more may be said than now; empty if all may."""
    # In nearly every step: who may say what matters least may say anything.
    if allowed_at_s(state, _LEAST) == float("-inf"):
        return ()
    return tuple([allowed_at_s(state, priority) for priority in Priority])


def spend(state: AgentState, effects: Iterable[Effect], now_s: float) -> AgentState:
    """The state after a step's messages were reckoned.

    Args:
      state: After the step.
      effects: Of the step.
      now_s: Monotonic time.
    """
    sizes = [size for size in map(_payload_bytes, effects) if size]
    if not sizes:
        return state
    limits = _limits(_upload_bytes(state))
    bucket = full(limits, now_s) if state.said is None else state.said
    bucket = bucket.filled(limits, now_s).less(len(sizes), sum(sizes))
    return evolve(state, said=bucket)


def _upload_bytes(state: AgentState) -> int:
    # Coordinators reckon with the widest of all open tasks, which is no narrower.
    return upload_bytes(0 if state.offer is None else state.offer.spec.dimension)


@lru_cache(maxsize=4)
def _limits(upload: int) -> RateLimits:
    """Limits that a board keeps to; looked at in every step."""
    most = rates(upload)
    return RateLimits(
        most.messages_per_s * _RATE,
        most.messages_burst * _BURST,
        most.bytes_per_s * _RATE,
        most.bytes_burst * _BURST,
    )


def _payload_bytes(effect: Effect) -> int:
    match effect:
        case PublishBestEffort(payload=payload):
            return len(payload)
        case PublishSpooled(entry, index):
            rest = entry.size - index * CHUNK_BYTES
            return min(CHUNK_BYTES, rest) + CHUNK_MESSAGE_BYTES_MAX - CHUNK_BYTES
        case _:
            return 0
