"""Request scheduler: missing data are requested from one peer at a time.

Bounded in number and in attempts; whatever is still needed after that is wanted again
by whoever needs it. What one coordinator names has room of its own: when that is full
its oldest goes, is counted, and displaces nothing that another named or that we need
ourselves. Who names something is asked for it, and nobody else is before he names it,
too: or a liar could have us use up what others give us. Nobody is believed: what comes
proves itself.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.downloads import piece_download
from starling.coordinator.peers import directory
from starling.coordinator.peers.responder_selection import is_alive
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.state import OWN, PendingRequest, TaskState
from starling.coordinator.wire.frames import (
    KEYS_PER_REQUEST_MAX,
    PeerRequest,
)
from starling.coordinator.wire.size_limits import answer_bytes_max
from starling.protocol.backoff import backoff_s
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import DeviceId, Digest, H, device_id

WANTED_MAX = 8192
"""That we need ourselves."""
WANTED_PER_SOURCE_MAX = 2048
"""On the word of one coordinator: what two full blocks name."""
ATTEMPTS_MAX = 32
ASKED_BYTES_MAX = 1 << 20
"""Of answers that may be on their way to us, beside pieces: for what our needs"""
ASKED_PER_SOURCE_BYTES_MAX = ASKED_BYTES_MAX // 4
"""and to what one coordinator named."""
FRUITLESS = 2
LOOK_S = 0.05
"""Between two looks at what is due, while not all of it could be asked for."""
RETRY_S = 0.25
RETRY_S_MAX = 4.0
RETRY_GROWTH = 1.5
"""Gentler than doubling: each attempt asks another peer, which may well have it."""


def request_key(subject: FrameSubject, key: bytes) -> bytes:
    """Key of a request in `CoordinatorState.wanted`."""
    return bytes([subject]) + key


def request_blob(
    step: CoordinatorStep,
    keys: Iterable[bytes],
    after_s: float = 0.0,
    first: DeviceId | None = None,
    patience_s: float = 0.0,
    source: DeviceId = OWN,
) -> None:
    """Begins to ask for what we do not ask for already.

    Args:
      step: The step.
      keys: Of what is wanted.
      after_s: When to ask; 0 for in this step.
      first: Whom to ask first.
      patience_s: How much later to ask while uploads of boards wait here.
      source: Which coordinator named it, one that was heard of.
    """
    at_s = step.now_s + after_s
    fresh = {}
    for key in keys:
        known = step.state.wanted.get(key)
        if known is None:
            sources = frozenset({source})
            fresh[key] = PendingRequest(at_s, 0, first, patience_s, sources)
            continue
        # Another coordinator named it too: it counts as asked for on the word of both.
        if source not in known.sources:
            fresh[key] = known = replace(known, sources=known.sources | {source})
        # Earlier if it is wanted earlier, but never later.
        if known.attempt == 0 and known.again_at_s > at_s:
            fresh[key] = replace(known, again_at_s=at_s, patience_s=patience_s)
    if fresh:
        step.state = evolve(
            step.state,
            wanted={**step.state.wanted, **fresh},
            ask_at_s=min(step.state.ask_at_s, at_s),
        )
        most = WANTED_MAX if source == OWN else WANTED_PER_SOURCE_MAX
        if len(step.state.wanted) > most:
            _drop_oldest(step, source, most)


def hasten(step: CoordinatorStep, keys: Iterable[bytes], who: DeviceId) -> None:
    """Has who offers a block asked next for what it names.

    What was asked of others in vain for long waits ever longer, and a pull goes on as
    long as anything comes: else a liar that names an update before it is there, or
    gives it drop by drop, has others' blocks wait until their makers are passed over.

    Args:
      step: The step.
      keys: Of what the block names; what is not wanted is left alone.
      who: Who offers the block, and so has it.
    """
    wanted = dict(step.state.wanted)
    for key in keys:
        one = wanted.get(key)
        # Not asked yet: its first request is near.
        if one is None or one.attempt == 0:
            continue
        # The second attempt is near, and whoever was not asked yet comes first there.
        soon = one.attempt == 1 if one.pull is None else one.pull.giver == who
        if not soon:
            wanted[key] = replace(one, again_at_s=step.now_s, attempt=0, first=who)
    step.state = evolve(
        step.state, wanted=wanted, ask_at_s=min(step.state.ask_at_s, step.now_s)
    )


def _drop_oldest(step: CoordinatorStep, source: DeviceId, most: int) -> None:
    """Bounds what is wanted on one coordinator's word, and counts what goes."""
    named = [key for key, one in step.state.wanted.items() if source in one.sources]
    # Dictionaries keep the order in which things were wanted: the oldest go.
    excess = named[: max(0, len(named) - most)]
    if not excess:
        return
    withdraw_requests(step, excess, source)
    peer = step.state.peers.get(source)
    if peer is None:
        step.state = evolve(
            step.state, wants_dropped=step.state.wants_dropped + len(excess)
        )
        return
    peer = replace(peer, wants_dropped=peer.wants_dropped + len(excess))
    step.state = evolve(step.state, peers={**step.state.peers, source: peer})


def withdraw_requests(
    step: CoordinatorStep, keys: Iterable[bytes], source: DeviceId
) -> None:
    """Asks no longer on one coordinator's word; still if others named the same."""
    wanted = dict(step.state.wanted)
    for key in keys:
        one = wanted.get(key)
        if one is None or source not in one.sources:
            continue
        if len(one.sources) == 1:
            del wanted[key]
        else:
            wanted[key] = replace(one, sources=one.sources - {source})
    step.state = evolve(step.state, wanted=wanted)


def request_for_task(
    step: CoordinatorStep, task: TaskState, keys: Iterable[bytes]
) -> TaskState:
    """Wants what a task cannot go on without, and notes it there."""
    missing = frozenset(keys)
    # Sorted, so that requests do not depend on the order of a set.
    request_blob(step, sorted(missing))
    give_up_at_s = step.now_s + task.patience_s
    task = replace(task, missing=missing, give_up_at_s=give_up_at_s)
    step.put_task(task)
    return task


def forget(step: CoordinatorStep, keys: Iterable[bytes]) -> None:
    """Asks no longer for these."""
    gone = frozenset(keys)
    step.state = evolve(
        step.state,
        wanted={key: one for key, one in step.state.wanted.items() if key not in gone},
    )


def uploads(identities: Iterable[Digest]) -> list[bytes]:
    """The keys of some updates."""
    return [request_key(FrameSubject.UPLOAD, identity) for identity in identities]


def keys(identities: Iterable[Digest]) -> list[bytes]:
    """The keys under which content keys of some updates are asked for."""
    return [request_key(FrameSubject.KEY, identity) for identity in identities]


def vectors(identities: Iterable[Digest]) -> list[bytes]:
    """All keys under which the vectors of some updates may be asked for."""
    named = list(identities)
    return [*uploads(named), *keys(named)]


def blob_keys(digests: Iterable[Digest]) -> list[bytes]:
    """The keys of some blobs."""
    return [request_key(FrameSubject.WHOLE, digest) for digest in digests]


def send_due_requests(step: CoordinatorStep) -> None:
    """Asks for everything whose time has come, each thing from the next coordinator."""
    waits, now_s = step.state.uploads_wait, step.now_s
    due = [key for key, one in step.state.wanted.items() if one.due_s(waits) <= now_s]
    if due:
        _ask(step, _affordable(step, due))
    # After asking, which has set new times.
    times = [one.due_s(waits) for one in step.state.wanted.values()]
    step.state = evolve(
        step.state, ask_at_s=max(min(times, default=math.inf), now_s + LOOK_S)
    )
    piece_download.request_pieces(step)


def _affordable(step: CoordinatorStep, due: list[bytes]) -> list[bytes]:
    """As many as may be on their way to us at once: they stand before votes there.

    Everybody on whose word we ask has room of its own, and has its oldest asked for
    first, so that what nobody has holds up nothing that somebody else named. What was
    asked in vain twice is not counted as on its way.
    """
    specs = [task.spec for task in step.state.tasks.values()]
    costs = {subject: answer_bytes_max(subject, specs) for subject in FrameSubject}
    left = {
        source: ASKED_BYTES_MAX if source == OWN else ASKED_PER_SOURCE_BYTES_MAX
        for one in step.state.wanted.values()
        for source in one.sources
    }

    def pay(key: bytes) -> DeviceId:
        # By the source with most room; sorted first, so that equal ones have an order.
        source = max(sorted(step.state.wanted[key].sources), key=left.__getitem__)
        left[source] -= costs[FrameSubject(key[0])]
        return source

    for key, one in step.state.wanted.items():
        # On its way, so that it takes of the same room.
        if 0 < one.attempt <= FRUITLESS and one.again_at_s > step.now_s:
            pay(key)
    taken: list[bytes] = []
    served: set[DeviceId] = set()
    for key in sorted(due, key=lambda name: (step.state.wanted[name].attempt, name)):
        sources = step.state.wanted[key].sources
        cost = costs[FrameSubject(key[0])]
        # Each source has one asked for at least, or one long answer would block it.
        if max(left[source] for source in sources) < cost and sources <= served:
            continue
        served.add(pay(key))
        taken.append(key)
    return taken


def _ask(step: CoordinatorStep, due: list[bytes]) -> None:
    asked: dict[tuple[DeviceId, int], list[bytes]] = {}
    wanted = dict(step.state.wanted)
    for key in sorted(due):
        one = wanted[key]
        if one.pull is not None and not one.pull.open:
            # It waits for its turn among those that come in pieces.
            again_at_s = step.now_s + piece_download.STALL_S
            wanted[key] = replace(one, again_at_s=again_at_s)
            continue
        fruitless = one.attempt if one.pull is None else one.pull.stalls
        if fruitless >= ATTEMPTS_MAX:
            del wanted[key]
            continue
        whom = _whom(step, key, one)
        wanted[key] = _asked(step, one, whom)
        # Of a pull no new first piece is asked for: its missing ones go to the next
        # giver.
        if whom is not None and one.pull is None:
            asked.setdefault((whom, key[0]), []).append(key[1:])
    step.state = evolve(step.state, wanted=wanted)
    for (whom, subject), named in sorted(asked.items()):
        for start in range(0, len(named), KEYS_PER_REQUEST_MAX):
            part = tuple(named[start : start + KEYS_PER_REQUEST_MAX])
            piece_download.send_request(step, PeerRequest(whom, subject, part))


def _asked(
    step: CoordinatorStep, one: PendingRequest, whom: DeviceId | None
) -> PendingRequest:
    """Notes who is asked; of a pull that stands still the next one is asked."""
    pause_s = backoff_s(RETRY_S, RETRY_S_MAX, one.attempt, growth=RETRY_GROWTH)
    one = replace(one, again_at_s=step.now_s + pause_s, attempt=one.attempt + 1)
    if whom is None:
        return one
    pull = one.pull
    if pull is not None:
        # The pieces that were open are asked for again, elsewhere.
        pull = replace(pull, giver=whom, open=frozenset(), stalls=pull.stalls + 1)
    return replace(one, asked=one.asked | {whom}, pull=pull)


def _whom(step: CoordinatorStep, key: bytes, one: PendingRequest) -> DeviceId | None:
    """The coordinator to ask: another one at each attempt, silent ones last.

    Whoever named it has it, and a round of consensus may be over before the turn of its
    maker comes by itself: those who named it go before the others.
    """
    if one.attempt == 0 and one.first is not None:
        return one.first
    # Nobody but those who named it may be asked for what is wanted on their word alone.
    if OWN not in one.sources:
        # Who names something has it; others are not to pay for what nobody has.
        named = sorted(one.sources - one.asked) or sorted(one.sources)
        return named[one.attempt % len(named)]
    own = step.state.ledger.validator.key.public
    keys = directory.asked(step.state.ledger)
    others = [device_id(public) for public in keys if public != own]
    # If all seem gone one of them may still answer.
    alive = [who for who in others if is_alive(step, who)] or others
    spread = H(key)[0] + one.attempt
    if key[0] in (FrameSubject.BLOCKS, FrameSubject.BUCKETS):
        # Who leads us astray is not to come first whenever we begin again.
        spread += int(step.now_s)
        height = step.state.ledger.consensus.height
        alive = [
            who
            for who in alive
            if who in step.state.peers and step.state.peers[who].height > height
        ]
    if not alive:
        return None
    named = [who for who in alive if who in one.sources and who not in one.asked]
    alive = named or alive
    # Spread by what is asked for, so that one peer does not serve everything.
    return alive[spread % len(alive)]
