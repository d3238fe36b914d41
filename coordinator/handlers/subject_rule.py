"""Row of the table of messages between coordinators; see `peer_messages`."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.wire.lanes import PriorityLane
from starling.protocol.ids import DeviceId

_T = TypeVar("_T")


class MessageCost(Enum):
    """Cost of a message for its sender beside its bytes; why it may be believed."""

    SIGNATURE = auto()
    """One of the signatures that its line may have checked: its maker signed it, or a
    quorum did, or whoever asks."""
    SHARE = auto()
    """Part of the room that its sender may fill; it is signed by whoever made it."""
    ASKED = auto()
    """Nothing, not even its bytes, if we asked for it: its digest proves it, or a
    signature within it, or the chain."""


@dataclass(frozen=True)
class SubjectRule(Generic[_T]):
    """Rule of a subject: how it is read, paid, sent and handled.

    Attributes:
      read: From a frame's content to what it holds, within the bounds of its codec.
      handle: Takes it; with the step and in whose name it came.
      cost: What it costs.
      lane: The lane in which it is sent.
      learners: Whether a learner may say it, too.
    """

    read: Callable[[bytes], _T]
    handle: Callable[[CoordinatorStep, DeviceId, _T], None]
    cost: MessageCost
    lane: PriorityLane
    learners: bool = False
