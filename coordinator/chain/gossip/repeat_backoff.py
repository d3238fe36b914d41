"""Backoff for repetitions that one peer may cause: decisions and its own messages.

Whoever says that it lacks the last block is believed at once: if it lies that costs us
one block. Said again, it is believed ever more rarely: what an honest one is sent is
lost now and then, but not for ever, and what one liar gets is to be a trickle.
"""

import math

from starling.coordinator.chain.chain_step import ChainStep
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.peer_records import RepeatRecord
from starling.protocol.backoff import backoff_s
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import PublicKey

PAUSE_STATUSES = 2.0
"""The first pause, in intervals between statuses; each one is twice as long."""
TIMES_MAX = 6
"""After which the pause grows no more: 64 intervals."""


def may_repeat(
    step: ChainStep, who: PublicKey, subject: FrameSubject, height: int = 0
) -> bool:
    """Checks that something may be repeated to a peer now, and notes it.

    Args:
      step: The step.
      who: The peer.
      subject: What is repeated.
      height: Which one. A higher one is another thing, a lower one is not: so nobody
        begins anew by going back. 0 where all of a subject count together.
    """
    now_s, known = step.moment.now_s, step.state.repeats.get((who, subject))
    times = 0
    # A higher height is another thing to ask for and starts without a pause.
    if known is not None and height <= known.height:
        if now_s < known.at_s + _pause_s(step, known.times):
            return False
        times = known.times
    # Who was quiet for twice the longest pause begins anew.
    oldest_s = now_s - 2 * _pause_s(step, TIMES_MAX)
    # Removed here, so that the table holds no more than the peers of the last while.
    kept = {at: one for at, one in step.state.repeats.items() if one.at_s > oldest_s}
    if (who, subject) not in kept:
        times = 0
    noted = RepeatRecord(height, min(times + 1, TIMES_MAX), now_s)
    step.state = evolve(step.state, repeats={**kept, (who, subject): noted})
    return True


def _pause_s(step: ChainStep, times: int) -> float:
    first_s = step.settings.status_s * PAUSE_STATUSES
    return backoff_s(first_s, math.inf, times - 1)
