"""Rate limits of boards: messages and bytes a second, checked before decoding.

The broker has authenticated whose topic a message came on, so that its cost can be laid
upon an account before a byte of it is read. Each account has two buckets, which fill at
a rate up to a burst. Accounts are kept in two generations: whoever was not heard of for
the time that fills a bucket is forgotten, and has a full one when it comes back.

Source: the token bucket, e.g. Tanenbaum, "Computer Networks", section 5.3.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from starling.protocol.learning.task import TaskSpec
from starling.protocol.persistent_map import PersistentMap
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
GENERATION_S = 60.0
"""Longer than any bucket takes to fill."""
ACCOUNTS_MAX = 1 << 16
"""Of one generation; more can only be had with as many certificates."""
UPLOAD_OVERHEAD_BYTES = 4096
"""Room beside the vector: envelopes, boxes for 32 coordinators, framing."""


def upload_bytes_max(specs: Iterable[TaskSpec]) -> int:
    """The longest upload that any task allows, in bytes."""
    widest = max((4 * spec.dimension for spec in specs), default=0)
    return widest + UPLOAD_OVERHEAD_BYTES


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


def rates(specs: Iterable[TaskSpec]) -> RateLimits:
    """Rates that boards need for the open tasks."""
    upload = upload_bytes_max(specs)
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
      messages: How many.
      payload_bytes: And how much in all.
      at_s: When that was true.
    """

    messages: float
    payload_bytes: float
    at_s: float


@dataclass(frozen=True)
class TokenBuckets:
    """The buckets of all accounts.

    Attributes:
      newer: Who was heard of in this generation.
      older: And in the one before.
      since_s: When this generation began.
    """

    newer: PersistentMap[TokenBucket] = field(default_factory=PersistentMap)
    older: PersistentMap[TokenBucket] = field(default_factory=PersistentMap)
    since_s: float = 0.0

    def __len__(self) -> int:
        """Number of buckets that are kept."""
        return len(self.newer) + len(self.older)


def spend(
    allowances: TokenBuckets, account: bytes, size: int, earns: RateLimits, now_s: float
) -> TokenBuckets | None:
    """Pays for one message.

    Args:
      allowances: Before it.
      account: Whose topic it came on.
      size: Its bytes.
      earns: What accounts earn.
      now_s: Monotonic clock.

    Returns:
      The buckets after it; None if the account cannot pay, which costs it nothing.
    """
    known = allowances.newer.get(account) or allowances.older.get(account)
    messages, payload_bytes = earns.messages_burst, earns.bytes_burst
    if known is not None:
        gone_s = now_s - known.at_s
        messages = min(messages, known.messages + gone_s * earns.messages_per_s)
        payload_bytes = min(
            payload_bytes, known.payload_bytes + gone_s * earns.bytes_per_s
        )
    if messages < 1.0 or payload_bytes < size:
        return None
    newer, older, since_s = allowances.newer, allowances.older, allowances.since_s
    if now_s - since_s >= GENERATION_S or len(newer) >= ACCOUNTS_MAX:
        newer, older, since_s = PersistentMap(), newer, now_s
    bucket = TokenBucket(messages - 1.0, payload_bytes - size, now_s)
    return TokenBuckets(newer.put(account, bucket), older, since_s)
