"""Shape of a board's link, late, narrow or lossy, as one sees it above TCP.

Pure. Above TCP nothing is lost: a lost segment is sent again after a timeout, which
doubles with each further loss, and what comes behind it waits. So a link that drops is
one that stutters.

Source: RFC 6298, sections 2 and 5 (retransmission timeout, and its doubling); the least
timeout is Linux's, 200 ms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from starling.fleet.faults.board_faults import (
    BoardFault,
    dropped_share,
    link_bit_s,
    link_delay_s,
)

SEGMENT_BYTES = 1460
"""Payload of one TCP segment on Ethernet."""
LOSSES_MAX = 8
"""Of one segment in a row; the last timeout is 25.6 s by then."""
_TIMEOUT_S = 0.2


@dataclass(frozen=True)
class LinkShape:
    """Properties of one board's link, each way.

    Attributes:
      delay_s: How late it is, in s.
      bit_s: How much it carries, in bit/s; 0 for as much as there is.
      lost: Share of the segments that are lost and sent again, in [0, 1).
    """

    delay_s: float = 0.0
    bit_s: float = 0.0
    lost: float = 0.0


@dataclass(frozen=True)
class LinkOrders:
    """Shapes of all links that have one.

    Attributes:
      shapes: A board's number, from 1, and the shape of its link.
    """

    shapes: tuple[tuple[int, LinkShape], ...] = ()


def link_orders(faults: Sequence[BoardFault], time_s: float) -> LinkOrders:
    """Shapes of links at some time; where one drops all, that is no part of them.

    So that they stay as they are while docker cuts a link and mends it again.
    """
    shaping = [fault for fault in faults if not fault.cuts]
    named = sorted({board for fault in shaping for board in fault.boards})
    found = [(board, _shape(shaping, board, time_s)) for board in named]
    return LinkOrders(tuple(each for each in found if each[1] != LinkShape()))


def _shape(faults: Sequence[BoardFault], board: int, time_s: float) -> LinkShape:
    return LinkShape(
        link_delay_s(faults, board, time_s),
        link_bit_s(faults, board, time_s),
        dropped_share(faults, board, time_s),
    )


@dataclass
class LinkQueue:
    """One direction of a link: what went before holds up what comes behind.

    Attributes:
      free_s: When the link has sent all that it was given.
      due_s: When the last of it arrives; `free_s <= due_s` once something went.
    """

    free_s: float = 0.0
    due_s: float = 0.0

    def send(self, size: int, now_s: float, shape: LinkShape, losses: int) -> float:
        """Takes some bytes on, and says when they arrive.

        Args:
          size: Number of bytes, at most a segment.
          now_s: Time.
          shape: Of the link now.
          losses: How often this segment is lost before it comes through.
        """
        begun_s = max(now_s, self.free_s)
        # A lost segment took its time on the link, too, each time.
        sent_s = 8.0 * size * (losses + 1) / shape.bit_s if shape.bit_s else 0.0
        self.free_s = begun_s + sent_s
        # The sum of the doubling timeouts: 1 + 2 + 4 and so on.
        waited_s = _TIMEOUT_S * ((1 << losses) - 1)
        # A timeout passes while the link is idle, and may be longer than the sending.
        arrives_s = self.free_s + waited_s + shape.delay_s
        # TCP delivers in order: nothing overtakes a segment that is sent again.
        self.due_s = max(self.due_s, arrives_s)
        return self.due_s
