"""Which coordinator answers a board, so that not all of them do.

For each board, and for each version, the coordinators have an order that follows from
hashes alone. The first one that is heard of lately answers; who falls silent is passed
over. If a board asks the same thing again, the next in order answers as well: somebody
may be alive and yet unable to help.

Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
IEEE/ACM Transactions on Networking 1998 (highest random weight).
"""

from dataclasses import replace
from functools import lru_cache

from coordinator import membership
from coordinator.turn import Turn
from protocol.ids import DeviceId, H, device_id

SILENT_AFTER_STATUSES = 3.5
"""Whoever missed so many of its regular statuses counts as gone."""
_TAG = b"starling/duty/1"


def rank(turn: Turn, subject: bytes) -> int:
    """How many coordinators come before us for a subject, alive and at our broker."""
    keys = membership.public_keys(turn.ledger)
    before = _before(subject, turn.ledger.party.key.public, keys)
    return sum(_is_near(turn, who) for who in before)


def is_first(turn: Turn, subject: bytes) -> bool:
    """Whether what boards need not ask for is for us to send.

    Who comes first may sit at another broker than the board: then each of us sends.
    """
    return _is_within(turn, subject, 1)


def is_among_first(turn: Turn, subject: bytes) -> bool:
    """Whether it is for us to send what all boards wait for.

    As many send it as contain somebody correct: one that died a moment ago is not known
    to be silent yet, and the fleet is not to wait until it is.
    """
    return _is_within(turn, subject, turn.ledger.party.skip)


def _is_within(turn: Turn, subject: bytes, first: int) -> bool:
    return not turn.settings.shared or rank(turn, subject) < first


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


def is_alive(turn: Turn, who: DeviceId) -> bool:
    """Whether a coordinator was heard of lately, or had no time yet to be."""
    peer = turn.peers.get(who)
    return _is_recent(turn, None if peer is None else peer.heard_at_s)


def _is_near(turn: Turn, who: DeviceId) -> bool:
    """Whether a coordinator was heard of lately at our own broker."""
    peer = turn.peers.get(who)
    return _is_recent(turn, None if peer is None else peer.near_at_s)


def _is_recent(turn: Turn, heard_at_s: float | None) -> bool:
    heard_at_s = max(turn.since_s, turn.since_s if heard_at_s is None else heard_at_s)
    wait_s = SILENT_AFTER_STATUSES * turn.settings.ledger.status_s
    return turn.now_s - heard_at_s < wait_s


def answers(turn: Turn, device: DeviceId, matter: bytes, patience: int) -> bool:
    """Whether it is for us to answer a board.

    Args:
      turn: The step.
      device: Who asks.
      matter: What it asks for, the same at each repetition.
      patience: Repetitions after which one more coordinator answers.
    """
    if turn.ledger.alone:
        return True
    session = turn.session(device)
    known, count = session.asked
    count = count + 1 if known == matter else 0
    turn.put_session(device, replace(session, asked=(matter, count)))
    return rank(turn, device) <= count // patience
