"""Rate limits of boards: messages and bytes a second, as token buckets.

Coordinators drop unread what is beyond a board's limits. The board reckons with the
same numbers and waits by itself, so that nothing which it has to say is dropped.

Source: the token bucket, e.g. Tanenbaum, "Computer Networks", section 5.3.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from starling.protocol.learning.task import TaskSpec
from starling.protocol.wire.chunks import chunk_count

MESSAGES_PER_S = 16.0
"""Of one account in the long run: a board whose task has ten versions a second checks
in, asks for one, uploads and shows its state for each third of them."""
MESSAGES_BURST = 128.0
BYTES_PER_S = 64.0 * 1024
BYTES_BURST = 1024.0 * 1024
UPLOADS_PER_S = 1.0
"""Longest uploads that any task allows, on top: each with its chunks and bytes."""
UPLOADS_BURST = 8.0
UPLOAD_OVERHEAD_BYTES = 4096
"""Room beside the vector: envelopes, boxes for 32 coordinators, framing."""


def upload_bytes(dimension: int) -> int:
    """The longest upload of a task with so many parameters, in bytes."""
    return 4 * dimension + UPLOAD_OVERHEAD_BYTES


def upload_bytes_max(specs: Iterable[TaskSpec]) -> int:
    """The longest upload that any task allows, in bytes."""
    return upload_bytes(max((spec.dimension for spec in specs), default=0))


@dataclass(frozen=True)
class RateLimits:
    """Rates at which each bucket fills.

    Attributes:
      messages_per_s: In the long run.
      messages_burst: And at once.
      bytes_per_s: In the long run.
      bytes_burst: And at once.
    """

    messages_per_s: float
    messages_burst: float
    bytes_per_s: float
    bytes_burst: float


def rates(upload: int) -> RateLimits:
    """Rates that boards need whose longest upload has so many bytes."""
    chunks = chunk_count(upload)
    return RateLimits(
        MESSAGES_PER_S + UPLOADS_PER_S * chunks,
        MESSAGES_BURST + UPLOADS_BURST * chunks,
        BYTES_PER_S + UPLOADS_PER_S * upload,
        BYTES_BURST + UPLOADS_BURST * upload,
    )


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """Token bucket of one sender.

    Attributes:
      messages: How many; below 0 once more was sent than was earned.
      payload_bytes: And how much in all.
      at_s: When that was true.
    """

    messages: float
    payload_bytes: float
    at_s: float

    def filled(self, earns: RateLimits, now_s: float) -> "TokenBucket":
        """The bucket at a later moment.

        Args:
          earns: What is added in between, up to its bursts.
          now_s: Monotonic clock.
        """
        gone_s = now_s - self.at_s
        return TokenBucket(
            min(earns.messages_burst, self.messages + gone_s * earns.messages_per_s),
            min(earns.bytes_burst, self.payload_bytes + gone_s * earns.bytes_per_s),
            now_s,
        )

    def less(self, messages: float, payload_bytes: float) -> "TokenBucket":
        """The bucket after messages of so many bytes in all."""
        return TokenBucket(
            self.messages - messages, self.payload_bytes - payload_bytes, self.at_s
        )


def full(earns: RateLimits, now_s: float) -> TokenBucket:
    """The bucket of somebody who has sent nothing yet."""
    return TokenBucket(earns.messages_burst, earns.bytes_burst, now_s)
