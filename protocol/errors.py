"""Everything that can go wrong, as one tree: a class per decision a caller can make.

A `ProtocolError` is a peer's fault: it carries a `Reason` that goes back to the sender
and into a counter, and it never ends a process. A `ConfigError` is the operator's: one
message with file, key and bound, exit 78. `TransportError` is weather and is retried.
`StorageError` is the disk: the process stops and its service manager starts it again.
"""

from enum import IntEnum

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: a service manager must not restart on it."""
EXIT_INTERRUPTED = 130
"""Ended by SIGINT, as a shell says it: 128 and the signal's number."""


class Reason(IntEnum):
    """Reason for a refusal; the numbers are fixed in the wire format."""

    MALFORMED = 1
    TOO_LARGE = 2
    BAD_SIGNATURE = 3
    NOT_ENROLLED = 4
    REPLAYED = 5
    NO_LEASE = 6
    STALE = 7
    UNKNOWN_TASK = 8
    SHAPE_MISMATCH = 9
    NON_FINITE = 10
    NORM_EXCEEDED = 11
    BUDGET_EXCEEDED = 12
    EQUIVOCATION = 13
    NOT_SEALED_TO_ME = 14
    COMMITMENT_MISMATCH = 15
    NOT_AUTHORISED = 16
    UNKNOWN_KIND = 17
    INCOMPLETE = 18
    WRONG_CHAIN = 19
    ALREADY_KNOWN = 20
    BUSY = 21
    INVALID_BLOCK = 22
    INVALID_PROOF = 23
    POLICY_MISMATCH = 24
    INSUFFICIENT_FUNDS = 25
    JAILED = 26
    NOT_HERE = 27
    PAUSED = 28
    QUARANTINED = 29
    CLOSED = 30


class FederationError(Exception):
    """Root of every error that Starling raises on purpose."""


class ProtocolError(FederationError):
    """A peer sent something that it must not; counted, never fatal.

    Attributes:
      reason: What the sender is told.
    """

    reason: Reason = Reason.MALFORMED

    def __init__(self, detail: str, reason: Reason | None = None) -> None:
        """Keeps the detail for the log and the reason for the sender."""
        super().__init__(detail)
        if reason is not None:
            self.reason = reason


class DecodeError(ProtocolError, ValueError):
    """Bytes that are not one canonical value of the expected form.

    A `ValueError` too, as decoders expect of a structure that refuses its fields.
    """


class LimitError(ProtocolError, ValueError):
    """More bytes, items or depth than the named limit allows."""

    reason = Reason.TOO_LARGE


class SignatureError(ProtocolError):
    """A signature that does not verify, or a signer that may not sign this."""

    reason = Reason.BAD_SIGNATURE


class ReplayError(ProtocolError):
    """A counter that was used before or lies behind the window."""

    reason = Reason.REPLAYED


class ProofError(ProtocolError):
    """A certificate, path or receipt that does not prove what it claims."""

    reason = Reason.INVALID_PROOF


class InvalidUpdate(ProtocolError):
    """An update that is well formed and signed, but must not be counted."""


class ClosedUpdate(InvalidUpdate):
    """A sealed vector that our box does not open; others may have its content key."""

    reason = Reason.NOT_SEALED_TO_ME


class StaleUpdate(InvalidUpdate):
    """Trained from a version older than the task's bound; nobody's blame."""

    reason = Reason.STALE


class ShapeMismatch(InvalidUpdate):
    """A vector of another length or codec than the task's."""

    reason = Reason.SHAPE_MISMATCH


class NonFinite(InvalidUpdate):
    """A vector with an infinity or a NaN."""

    reason = Reason.NON_FINITE


class NormExceeded(InvalidUpdate):
    """A vector longer than any honest one under the task's policy."""

    reason = Reason.NORM_EXCEEDED


class BudgetExceeded(InvalidUpdate):
    """A release that the privacy budget no longer covers."""

    reason = Reason.BUDGET_EXCEEDED


class TaskChanged(ProtocolError):
    """A task that is certified and yet another one than was first believed."""

    reason = Reason.POLICY_MISMATCH


class InvalidBlock(ProtocolError):
    """A block that no honest validator would have proposed."""

    reason = Reason.INVALID_BLOCK


class ParentMismatch(InvalidBlock):
    """A block whose parent is not the block before it."""


class HeightGap(InvalidBlock):
    """A block of another height than the next one."""


class RootMismatch(InvalidBlock):
    """A header whose transaction, validator or state root differs from ours."""


class UnknownProposer(InvalidBlock):
    """A block proposed by somebody whose turn it is not."""


class ConfigError(FederationError):
    """The operator's fault: names the file, the key and the bound, and what to do."""

    def __init__(self, detail: str, *, file: str = "", key: str = "") -> None:
        """Builds the one line that the operator reads."""
        place = ": ".join(part for part in (file, key) if part)
        super().__init__(f"{place}: {detail}" if place else detail)
        self.file = file
        self.key = key
        self.detail = detail


class OperationError(FederationError):
    """The operation asked for cannot be done now; exit 1 with its message."""


class EngineError(OperationError):
    """The engine cannot load or run a graph."""


class AggregationError(FederationError):
    """Too few or unusable updates; the buffer stays open."""


class TransportError(FederationError):
    """Weather: the broker is away or refuses; retried with capped backoff."""


class StorageError(FederationError):
    """The disk refused; the process stops and is restarted by its manager."""
