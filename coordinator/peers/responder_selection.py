"""Responder selection: one coordinator answers a board, not all of them.

For each board, and for each version, the coordinators have an order that follows from
hashes alone. The first one that is heard of lately answers; who falls silent is passed
over. If a board asks the same thing again, the next in order answers as well: somebody
may be alive and yet unable to help.

Whoever died a moment ago is not known to be silent yet. So what we leave to those
before us we keep in mind (`defer_reply`): if one of them is heard of half a status
later, it was there to answer; if none is, we answer (`take_overdue_replies`). In calm
weather that costs no message, and a board whose first one is dead waits for little more
than two statuses. An answer that is given twice does no harm: receipts and proofs say
the same, a lease that comes later is not used, and a chunk is known already. Who is
alive and held up by a queue of uploads is left alone: to double its receipts would add
to everybody's queue, and the proof comes from it with the block, which goes before
uploads.

Who says that it lives and answers no board is not seen by this. Only the board knows:
it sends again what it got no proof of, all of us answer that, and for a while after it
more than one of us send it what it waits for (`note_missed_proof`).

Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
IEEE/ACM Transactions on Networking 1998 (highest random weight).
"""

import math
from dataclasses import replace
from functools import lru_cache

from starling.coordinator.peers import directory
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.deferred_replies import DeferredReply
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import DeviceId, H, device_id

SILENT_AFTER_STATUSES = 3.5
"""Whoever missed so many of its regular statuses counts as gone."""
DOUBTED_AFTER_STATUSES = 1.5
"""Whoever missed so many may be gone: what costs a message only is sent for it."""
LIVES_AFTER_STATUSES = 0.5
"""Whoever is heard of so long after a message came has had the time to take it."""
OVERDUE_AFTER_STATUSES = 2.0
"""Whoever lives is heard of by then, even if its status is half a status late."""
LOOK_EVERY_STATUSES = 0.25
DOUBT_S = 600.0
"""For so long more than one send a board its proofs after it had to ask for one.

A liar delays one proof of a board in this time; and what a board says that it missed
makes more traffic for nobody but itself.
"""
LEFT_MAX = 4096
"""Answers left to others that are kept in mind; beyond them boards ask again."""
_TAG = b"starling/duty/1"


def responder_rank(
    step: CoordinatorStep, subject: bytes, silent: float = SILENT_AFTER_STATUSES
) -> int:
    """Number of live coordinators before us for a subject, at our broker.

    Args:
      step: The step.
      subject: What the order is for.
      silent: Statuses after whose absence somebody does not count.
    """
    return sum(_is_near(step, who, silent) for who in _before_us(step, subject))


def is_first(step: CoordinatorStep, device: DeviceId) -> bool:
    """True if this coordinator sends what a board need not ask for.

    Who comes first may sit at another broker than the board: then each of us sends. To
    a board that lately missed what one of us was to send, as many send as contain
    somebody correct: its first one may say that it lives and yet tell boards nothing.
    """
    if not step.settings.shared:
        return True
    doubted = step.now_s < step.session(device).missed_at_s + DOUBT_S
    senders = step.state.ledger.validator.skip if doubted else 1
    return responder_rank(step, device, DOUBTED_AFTER_STATUSES) < senders


def note_missed_proof(step: CoordinatorStep, device: DeviceId) -> None:
    """A board sends again what is final: whoever was to prove it has not done so."""
    session = evolve(step.session(device), missed_at_s=step.now_s)
    step.put_session(device, session)


def is_among_first(step: CoordinatorStep, subject: bytes) -> bool:
    """True if this coordinator sends what all boards wait for.

    As many send it as contain somebody correct: one that died a moment ago is not known
    to be silent yet, and the fleet is not to wait until it is.
    """
    return (
        not step.settings.shared
        or responder_rank(step, subject) < step.state.ledger.validator.skip
    )


def _before_us(step: CoordinatorStep, subject: bytes) -> tuple[DeviceId, ...]:
    keys = directory.public_keys(step.state.ledger)
    return _before(subject, step.state.ledger.validator.key.public, keys)


@lru_cache(maxsize=1 << 14)
def _before(
    subject: bytes, key: bytes, others: tuple[bytes, ...]
) -> tuple[DeviceId, ...]:
    """Ids of those who come before a key in the order for a subject."""
    own = H(_TAG, subject, key)
    return tuple(
        device_id(other)
        for other in others
        if other != key and H(_TAG, subject, other) < own
    )


def is_alive(step: CoordinatorStep, who: DeviceId) -> bool:
    """True if a coordinator was heard lately, or had no time yet to be."""
    peer = step.state.peers.get(who)
    heard_at_s = None if peer is None else peer.heard_at_s
    return _is_recent(step, heard_at_s, SILENT_AFTER_STATUSES)


def _is_near(step: CoordinatorStep, who: DeviceId, silent: float) -> bool:
    """True if a coordinator was heard lately at our own broker."""
    peer = step.state.peers.get(who)
    return _is_recent(step, None if peer is None else peer.near_at_s, silent)


def _is_recent(step: CoordinatorStep, heard_at_s: float | None, silent: float) -> bool:
    # Nobody can be missed for the time before this coordinator listened itself.
    heard_at_s = max(
        step.state.since_s, step.state.since_s if heard_at_s is None else heard_at_s
    )
    return step.now_s - heard_at_s < silent * step.settings.ledger.status_s


def answers(
    step: CoordinatorStep, device: DeviceId, matter: bytes, patience: int
) -> bool:
    """True if this coordinator answers a board.

    Args:
      step: The step.
      device: Who asks.
      matter: What it asks for, the same at each repetition.
      patience: Repetitions after which one more coordinator answers.
    """
    if step.state.ledger.alone:
        return True
    session = step.session(device)
    known, count = session.asked
    # Counted for each matter: a new question begins with the first in order.
    count = count + 1 if known == matter else 0
    step.put_session(device, replace(session, asked=(matter, count)))
    return responder_rank(step, device) <= count // patience


def defer_reply(step: CoordinatorStep, left: DeferredReply) -> None:
    """Keeps in mind that a board is to be answered by somebody before us."""
    # Beyond the bound nothing is kept: a board that hears nothing asks again.
    if step.state.ledger.alone or len(step.state.left) >= LEFT_MAX:
        return
    if not step.state.left:
        step.state = evolve(
            step.state, left_at_s=step.now_s + OVERDUE_AFTER_STATUSES * _status_s(step)
        )
    step.state = evolve(step.state, left=(*step.state.left, left))


def take_overdue_replies(step: CoordinatorStep) -> list[DeferredReply]:
    """Takes what those before us had the time to answer and gave no sign of life since.

    What one of them was there to answer is forgotten.
    """
    status_s = _status_s(step)
    until_s = step.now_s - OVERDUE_AFTER_STATUSES * status_s
    due = [left for left in step.state.left if left.at_s <= until_s]
    # They rise with time, so that those that are due are a prefix.
    step.state = evolve(step.state, left=step.state.left[len(due) :])
    look_at_s = step.now_s + LOOK_EVERY_STATUSES * status_s
    step.state = evolve(
        step.state, left_at_s=look_at_s if step.state.left else math.inf
    )
    return [left for left in due if not _was_there(step, left)]


def _was_there(step: CoordinatorStep, left: DeferredReply) -> bool:
    """True if a coordinator before us was alive after an answer was left to it."""
    from_s = left.at_s + LIVES_AFTER_STATUSES * _status_s(step)
    before = (step.state.peers.get(who) for who in _before_us(step, left.device))
    return any(peer is not None and peer.near_at_s >= from_s for peer in before)


def _status_s(step: CoordinatorStep) -> float:
    return step.settings.ledger.status_s
