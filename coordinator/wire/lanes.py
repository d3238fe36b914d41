"""Lanes of messages that a coordinator sends."""

from enum import IntEnum


class PriorityLane(IntEnum):
    """Lane of a message; lower ones go first."""

    CONSENSUS = 0
    """Votes, proposals, statuses, certificates: what the chain waits for."""
    CONTROL = 1
    """Receipts, leases, requests, transactions: short, and for one board or peer."""
    BULK = 2
    """Chunks of models and bundles, vectors, ranges of blocks."""
