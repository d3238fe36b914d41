"""Messages by which a coordinator asks for a board's checks, and the board answers.

    coordinator                                          board
    HEALTH_REQUEST   device                      ->
                     <-                                  HEALTH_REPORT   allowed, rows

The board's owner says whether it answers with rows. They hold nothing that depends on
the data set; see docs/privacy.md.
"""

from typing import Annotated

from starling.protocol.ids import DeviceId
from starling.protocol.schema.msgpack_codec import (
    Flag,
    Structure,
    many,
    structure,
    text,
    uint,
)
from starling.protocol.wire.envelope import BODY_BYTES_MAX

ROWS_MAX = 40
NAME_BYTES = 48
FOUND_BYTES = 200
FIX_BYTES = 120
_VERDICTS = 3


class HealthRequest(Structure, frozen=True):
    """A coordinator asks one board for its checks; an operator asks a coordinator.

    Attributes:
      device: Which board.
    """

    device: DeviceId


HEALTH_REQUEST = structure(HealthRequest, 32)


class HealthRow(Structure, frozen=True):
    """One check of a board.

    Attributes:
      name: Its stable id.
      verdict: 0 ok, 1 a warning, 2 failed.
      found: What was found.
      fix: What to do; empty if all is well.
    """

    name: Annotated[str, text(NAME_BYTES)]
    verdict: Annotated[int, uint(_VERDICTS - 1)]
    found: Annotated[str, text(FOUND_BYTES)]
    fix: Annotated[str, text(FIX_BYTES)]


class HealthReport(Structure, frozen=True):
    """A board's answer.

    Attributes:
      allowed: Whether its owner lets coordinators see its checks.
      rows: Its checks, in their order; none unless they are allowed.
    """

    allowed: Flag
    rows: Annotated[tuple[HealthRow, ...], many(ROWS_MAX)]


HEALTH_REPORT = structure(HealthReport, BODY_BYTES_MAX)
