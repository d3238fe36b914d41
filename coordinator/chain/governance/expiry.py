"""Expiry of records on the chain: once their blocks and their time have both passed.

Heights alone are no clock: whoever makes blocks come faster would move every window
with them. Nor is time alone one: the clocks of more than f may jump. So evidence,
deposits, jail, scores, motions and half buffers wait for a number of heights and for a
time by the headers, which is the median that f liars cannot move.

    clock    `ClockMarks`: at which heights a header first showed which time

What keeps a record of its own stands there with height and time. What is only known by
a height, such as a vote, is dated by the marks. They lie a 64th of the horizon apart,
and a height counts as old as the mark at or after it: nothing is old too early, and at
most a 64th and a block too late.
"""

from typing import Annotated

from starling.coordinator.chain.governance.chain_parameters import span_ms
from starling.coordinator.chain.state.generational_cache import CachedCodec
from starling.coordinator.chain.state.overlay import BlockContext, StateOverlay
from starling.coordinator.chain.state.state_table import StateReader, Table, alone
from starling.protocol.chain.blocks import TIME_MS_MAX
from starling.protocol.chain.evidence import AGE_HEIGHTS_MAX
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.governance import ChainParameter
from starling.protocol.schema.msgpack_codec import (
    Structure,
    Uint,
    many,
    structure,
    uint,
)

MARKS_PER_HORIZON = 64
_MARKS_MAX = 4 * MARKS_PER_HORIZON
"""A motion may make the horizon shorter or longer: then they lie closer or wider."""
_ALL = 1 << 62


class ClockMark(Structure, frozen=True):
    """Time of a block, kept for expiry.

    Attributes:
      height: Of the block.
      time_ms: Of its header.
    """

    height: Uint
    time_ms: Annotated[int, uint(TIME_MS_MAX)]


class ClockMarks(Structure, frozen=True):
    """Rising in height and time; the first is as old as the horizon, or the chain."""

    marks: Annotated[tuple[ClockMark, ...], many(_MARKS_MAX)] = ()


_MARKS = structure(ClockMarks, 8192)


CLOCK = Table(b"clock", alone, CachedCodec(_MARKS, 16))
"""Which heights had which time."""


def note(block: StateOverlay, context: BlockContext) -> None:
    """Marks a block's time, if the last mark is old enough; old marks go."""
    span = evidence_ms(block, context.genesis, context.height)
    marks = _marks(block)
    # At least 1 ms, so that a short window still gets marks that rise.
    since_ms = max(1, span // MARKS_PER_HORIZON)
    if marks and context.time_ms < marks[-1].time_ms + since_ms:
        return
    marks = (*marks, ClockMark(context.height, context.time_ms))
    # One that is past the horizon stays: it says what lies before it.
    past = sum(mark.time_ms <= context.time_ms - span for mark in marks)
    # Cut from the old end, after a motion that let marks lie closer than intended.
    kept = marks[max(0, past - 1) :][-_MARKS_MAX:]
    CLOCK.put(block, ClockMarks(kept))


def aged(tree: StateReader, now_ms: int, span_ms: int) -> int:
    """The last height that is known to be as old as a span of time.

    Args:
      tree: A state.
      now_ms: The time of a block, in Unix milliseconds.
      span_ms: At most what evidence may be old; for longer ones heights count as old
        too early. 0 for no time at all: then every height is old enough.

    Returns:
      0 if none is.
    """
    if not span_ms:
        return _ALL
    old = [mark.height for mark in _marks(tree) if mark.time_ms <= now_ms - span_ms]
    return old[-1] if old else 0


def evidence_ms(tree: StateReader, genesis: Genesis, height: int) -> int:
    """Largest age of evidence in milliseconds, if its heights are over, too."""
    return span_ms(tree, genesis, ChainParameter.EVIDENCE_S, height)


def evidence_from(tree: StateReader, context: BlockContext) -> int:
    """The lowest height of which evidence is still taken."""
    span = evidence_ms(tree, context.genesis, context.height)
    old = aged(tree, context.time_ms, span)
    # The lower one: what is too old must be so by blocks and by time.
    return min(context.height - AGE_HEIGHTS_MAX, old + 1)


def _marks(tree: StateReader) -> tuple[ClockMark, ...]:
    found = CLOCK.get(tree)
    return () if found is None else found.marks
