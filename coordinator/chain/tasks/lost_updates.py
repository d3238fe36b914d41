"""Boards that lost what they had paid for, as far as the head of a task is concerned.

A power cut between charge and spool costs a board its update for that base version, and
it may make no other one. Where that happens to so many boards that half a buffer never
comes together, the task would stand still for good; so their forfeits count as being
there with nothing, see `version_cut.cut_patient`.
"""

from starling.coordinator.chain.state.overlay import BlockContext, StateOverlay
from starling.coordinator.chain.state.state_table import StateReader, Table, by_number
from starling.protocol.ids import Version
from starling.protocol.schema.msgpack_codec import (
    Structure,
    Uint,
    structure,
)


class LostUpdateCount(Structure, frozen=True):
    """Number of boards that forfeited a base version; key `forfeits/<n>`.

    Attributes:
      base: Which one; only the head's count.
      boards: How many.
      height: Block that took the last one.
      time_ms: Of that block.
    """

    base: Version
    boards: Uint
    height: Uint
    time_ms: Uint


FORFEITS = structure(LostUpdateCount, 48)
_COUNTS = Table(b"forfeits/", by_number, FORFEITS)
"""By task: updates for its head that boards lost."""


def of_head(tree: StateReader, number: int, head: int) -> LostUpdateCount | None:
    """The forfeits of a task's head, if there are any."""
    found = _COUNTS.get(tree, number)
    # A count of an earlier head says nothing, and is overwritten by the next one.
    return found if found is not None and found.base == head else None


def add(draft: StateOverlay, context: BlockContext, number: int, head: Version) -> None:
    """Counts one more."""
    known = of_head(draft, number, head)
    boards = 1 if known is None else known.boards + 1
    counted = LostUpdateCount(head, boards, context.height, context.time_ms)
    _COUNTS.put(draft, counted, number)


def forget(draft: StateOverlay, number: int) -> None:
    """After a new version: everybody may sign again."""
    if _COUNTS.has(draft, number):
        _COUNTS.drop(draft, number)
