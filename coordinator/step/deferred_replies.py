"""Replies to boards that are due, by us or in place of a coordinator before us."""

from dataclasses import dataclass

from starling.protocol.errors import Reason
from starling.protocol.ids import DeviceId, Digest, TaskId, Version
from starling.protocol.wire.envelope import Envelope


@dataclass(frozen=True)
class RefusalRecord:
    """Last refusal of a board.

    Attributes:
      subject: Id of what was refused.
      reason: Why.
      at_s: When last.
      again: How often it came again.
      envelope: What we told the board; empty if we left that to another coordinator.
      signed_at_s: When that was signed.
    """

    subject: Digest
    reason: Reason
    at_s: float
    again: int
    envelope: bytes
    signed_at_s: float


@dataclass(frozen=True)
class DeferredReceipt:
    """An admitted update whose receipt we left to another coordinator.

    Attributes:
      device: Whose it is.
      at_s: When it came.
      transaction: Its id.
      task: Its task.
      base: Its base version.
    """

    device: DeviceId
    at_s: float
    transaction: Digest
    task: TaskId
    base: Version


@dataclass(frozen=True)
class DeferredAnswer:
    """Request of a board, left to another coordinator to answer.

    Attributes:
      device: Who asks.
      at_s: When it did.
      matter: What for; see `BoardSession.asked`.
      said: How.
    """

    device: DeviceId
    at_s: float
    matter: bytes
    said: Envelope


@dataclass(frozen=True)
class DeferredRefusal:
    """Refusal for a board, left to another coordinator to send.

    Attributes:
      device: Who is refused.
      at_s: When.
      subject: What.
      body: A packed `Refused`.
    """

    device: DeviceId
    at_s: float
    subject: Digest
    body: bytes


DeferredReply = DeferredReceipt | DeferredAnswer | DeferredRefusal
