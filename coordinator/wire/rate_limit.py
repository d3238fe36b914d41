"""Rate limits of boards: messages and bytes a second, checked before decoding.

The broker has authenticated whose topic a message came on, so that its cost can be laid
upon an account before a byte of it is read. Each account has a bucket of messages and
one of bytes (`protocol.wire.token_bucket`). Accounts are kept in two generations:
whoever was not heard of for the time that fills a bucket is forgotten, and has a full
one when it comes back.
"""

from dataclasses import dataclass, field

from starling.protocol.persistent_map import PersistentMap
from starling.protocol.wire.token_bucket import RateLimits, TokenBucket, full

GENERATION_S = 60.0
"""Longer than any bucket takes to fill."""
ACCOUNTS_MAX = 1 << 16
"""Of one generation; more can only be had with as many certificates."""


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
    bucket = full(earns, now_s) if known is None else known.filled(earns, now_s)
    if bucket.messages < 1.0 or bucket.payload_bytes < size:
        return None
    newer, older, since_s = allowances.newer, allowances.older, allowances.since_s
    if now_s - since_s >= GENERATION_S or len(newer) >= ACCOUNTS_MAX:
        newer, older, since_s = PersistentMap(), newer, now_s
    return TokenBuckets(newer.put(account, bucket.less(1.0, size)), older, since_s)
