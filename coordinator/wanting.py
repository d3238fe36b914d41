"""What we lack and other coordinators have: asking one after the other.

Bounded in number and in attempts; whatever is still needed after that is wanted again
by whoever needs it. Nobody is believed: what comes proves itself.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

from coordinator import membership
from coordinator.duty import is_alive
from coordinator.effects import Tell
from coordinator.gossip import KEYS_PER_WANT_MAX, WANT, Subject, Want
from coordinator.state import TaskState, Wanted
from coordinator.turn import Turn
from protocol.ids import DeviceId, Digest, H, device_id

WANTED_MAX = 8192
ATTEMPTS_MAX = 32
RETRY_S = 0.25
RETRY_S_MAX = 4.0


def want_key(subject: Subject, key: bytes) -> bytes:
    """Where something stands in `CoordinatorState.wanted`."""
    return bytes([subject]) + key


def want(
    turn: Turn,
    keys: Iterable[bytes],
    after_s: float = 0.0,
    first: DeviceId | None = None,
    patience_s: float = 0.0,
) -> None:
    """Begins to ask for what we do not ask for already.

    Args:
      turn: The step.
      keys: Of what is wanted.
      after_s: When to ask; 0 for in this step.
      first: Whom to ask first.
      patience_s: How much later to ask while uploads of boards wait here.
    """
    at_s = turn.now_s + after_s
    fresh = {}
    for key in keys:
        known = turn.wanted.get(key)
        if known is None:
            fresh[key] = Wanted(at_s, first=first, patience_s=patience_s)
        elif known.attempt == 0 and known.again_at_s > at_s:
            fresh[key] = replace(known, again_at_s=at_s, patience_s=patience_s)
    if fresh and len(turn.wanted) + len(fresh) <= WANTED_MAX:
        turn.wanted = {**turn.wanted, **fresh}
        turn.ask_at_s = min(turn.ask_at_s, at_s)


def want_for(turn: Turn, task: TaskState, keys: Iterable[bytes]) -> TaskState:
    """Wants what a task cannot go on without, and notes it there."""
    lacking = frozenset(keys)
    want(turn, sorted(lacking))
    give_up_at_s = turn.now_s + task.patience_s
    task = replace(task, lacking=lacking, give_up_at_s=give_up_at_s)
    turn.put_task(task)
    return task


def forget(turn: Turn, keys: Iterable[bytes]) -> None:
    """Asks no longer for these."""
    gone = frozenset(keys)
    turn.wanted = {key: one for key, one in turn.wanted.items() if key not in gone}


def uploads(identities: Iterable[Digest]) -> list[bytes]:
    """The keys of some updates."""
    return [want_key(Subject.UPLOAD, identity) for identity in identities]


def keys(identities: Iterable[Digest]) -> list[bytes]:
    """The keys under which content keys of some updates are asked for."""
    return [want_key(Subject.KEY, identity) for identity in identities]


def vectors(identities: Iterable[Digest]) -> list[bytes]:
    """All keys under which the vectors of some updates may be asked for."""
    named = list(identities)
    return [*uploads(named), *keys(named)]


def wholes(digests: Iterable[Digest]) -> list[bytes]:
    """The keys of some wholes."""
    return [want_key(Subject.WHOLE, digest) for digest in digests]


def ask_what_is_due(turn: Turn) -> None:
    """Asks for everything whose time has come, each thing from the next coordinator."""
    waits, now_s = turn.uploads_wait, turn.now_s
    due = [key for key, one in turn.wanted.items() if one.due_s(waits) <= now_s]
    if due:
        _ask(turn, due)
    times = [one.due_s(waits) for one in turn.wanted.values()]
    turn.ask_at_s = min(times, default=math.inf)


def _ask(turn: Turn, due: list[bytes]) -> None:
    asked: dict[tuple[DeviceId, int], list[bytes]] = {}
    wanted = dict(turn.wanted)
    for key in sorted(due):
        one = wanted[key]
        if one.attempt >= ATTEMPTS_MAX:
            del wanted[key]
            continue
        pause_s = min(RETRY_S_MAX, RETRY_S * 1.5**one.attempt)
        again_at_s = turn.now_s + pause_s
        wanted[key] = replace(one, again_at_s=again_at_s, attempt=one.attempt + 1)
        whom = _whom(turn, key, one)
        if whom is not None:
            asked.setdefault((whom, key[0]), []).append(key[1:])
    turn.wanted = wanted
    for (whom, subject), named in sorted(asked.items()):
        for start in range(0, len(named), KEYS_PER_WANT_MAX):
            part = tuple(named[start : start + KEYS_PER_WANT_MAX])
            turn.emit(Tell(Subject.WANT, WANT.pack(Want(whom, subject, part))))


def _whom(turn: Turn, key: bytes, one: Wanted) -> DeviceId | None:
    """The coordinator to ask: another one at each attempt, silent ones last."""
    if one.attempt == 0 and one.first is not None:
        return one.first
    own = turn.ledger.party.key.public
    keys = membership.public_keys(turn.ledger)
    others = [device_id(public) for public in keys if public != own]
    alive = [who for who in others if is_alive(turn, who)] or others
    spread = H(key)[0] + one.attempt
    if key[0] in (Subject.BLOCKS, Subject.BUCKETS):
        # Who leads us astray is not to come first whenever we begin again.
        spread += int(turn.now_s)
        height = turn.ledger.consensus.height
        alive = [
            who
            for who in alive
            if who in turn.peers and turn.peers[who].height > height
        ]
    if not alive:
        return None
    # Spread by what is asked for, so that one peer does not serve everything.
    return alive[spread % len(alive)]
