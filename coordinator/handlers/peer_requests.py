"""Requests of other coordinators: each is charged for its answer, in bytes.

Each peer has an allowance of things that it may ask for and of bytes that it may be
answered; what exceeds either is not answered, and counted under its name. The same
thing goes to the same peer once in a few seconds, however often it asks. Answers reach
only who asked, so that nobody's curiosity fills another's queue.
"""

import math
from dataclasses import replace

from starling.coordinator.availability.vector_exchange import send_content_key
from starling.coordinator.membership import directory
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import RecordRefusal, SendAnswer
from starling.coordinator.wire.frames import FrameSubject, PeerRequest
from starling.coordinator.wire.peer_quota import PeerQuota
from starling.coordinator.wire.size_limits import answer_bytes_max
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import DecodeError, Reason
from starling.protocol.ids import DeviceId, Digest, device_name
from starling.protocol.wire.chunks import CHUNK_BYTES

ASKS_PER_S = 256.0
ASKS_BURST = 1024.0
ASKS_OF_RANGE = 16
"""As how many things a range of blocks or buckets counts."""
ASKS_OF_KEY = 16
"""As how many a content key counts, for which a blob is opened."""
ANSWERS_PER_S = 6e6
"""Bytes; more than `downloads.piece_download.BYTES_PER_S`, at which honest ones ask."""
ANSWERS_BURST = 6e6
ANSWER_AGAIN_S = 1.5
"""Less than the time after which who pulls gives a piece up."""
_ASKS_OF = {
    FrameSubject.BLOCKS: ASKS_OF_RANGE,
    FrameSubject.BUCKETS: ASKS_OF_RANGE,
    FrameSubject.KEY: ASKS_OF_KEY,
}


def credited(line: PeerQuota, now_s: float) -> PeerQuota:
    """With what may be asked and answered more since the last time."""
    gone_s = now_s - line.at_s
    return replace(
        line,
        asks=min(ASKS_BURST, line.asks + gone_s * ASKS_PER_S),
        answers=min(ANSWERS_BURST, line.answers + gone_s * ANSWERS_PER_S),
        at_s=now_s,
    )


def handle_request(turn: CoordinatorStep, who: DeviceId, want: PeerRequest) -> None:
    """Answers a request of a peer as far as its allowances go.

    Raises:
      DecodeError: If there is no such subject.
      SignatureError: If a former coordinator asks for a content key.
    """
    if want.asked != directory.own_id(turn.state.ledger):
        return
    try:
        subject = FrameSubject(want.subject)
    except ValueError as error:
        raise DecodeError("no such subject", Reason.UNKNOWN_KIND) from error
    peer, now_s = turn.state.peers[who], turn.now_s
    line = peer.lines[turn.broker]
    answered = {
        name: at_s
        for name, at_s in line.answered.items()
        if now_s - at_s < ANSWER_AGAIN_S
    }
    longest = answer_bytes_max(subject, (it.spec for it in turn.state.tasks.values()))
    common = _of_all_names(turn)
    asks, left = min(line.asks, common.asks), min(line.answers, common.answers)
    asks_before, left_before, refused = asks, left, 0
    chosen: list[tuple[bytes, list[int]]] = []
    for key in want.keys:
        cost = CHUNK_BYTES if want.pieces else longest
        given: list[int] = []
        for piece in want.pieces or (-1,):
            asks -= _ASKS_OF.get(subject, 1)
            name = bytes([subject]) + key + piece.to_bytes(4, signed=True)
            if asks >= 0 and name in answered:
                continue
            if asks < 0 or left < cost:
                refused += 1
                continue
            left -= cost
            answered[name] = now_s
            given.append(piece)
        chosen.append((key, given))
    # What was asked in vain counts no further than to nothing.
    asked, spent = asks_before - max(0.0, asks), left_before - left
    line = _less(replace(line, answered=answered), asked, spent)
    if turn.broker:
        at_brokers = {**turn.state.brokers, turn.broker: _less(common, asked, spent)}
        turn.state = evolve(turn.state, brokers=at_brokers)
    lines = {**peer.lines, turn.broker: line}
    peer = replace(peer, lines=lines, refused=peer.refused + refused)
    turn.state = evolve(turn.state, peers={**turn.state.peers, who: peer})
    if refused:
        detail = f"{device_name(who)} asks too much: {refused} not answered"
        turn.emit(RecordRefusal(None, Reason.BUSY, detail))
    # Who has no right to an answer has paid for asking.
    for key, given in chosen:
        _give(turn, who, subject, key, given)


def _of_all_names(turn: CoordinatorStep) -> PeerQuota:
    """Quota of all names at this broker together; at ours nobody has two."""
    if not turn.broker:
        return PeerQuota(asks=math.inf, answers=math.inf)
    known = turn.state.brokers.get(turn.broker) or PeerQuota()
    return credited(known, turn.now_s)


def _less(line: PeerQuota, asked: float, spent: float) -> PeerQuota:
    return replace(line, asks=line.asks - asked, answers=line.answers - spent)


def _give(
    turn: CoordinatorStep,
    who: DeviceId,
    subject: FrameSubject,
    key: bytes,
    given: list[int],
) -> None:
    if not given:
        return
    pieces = tuple(piece for piece in given if piece >= 0)
    if subject is FrameSubject.KEY:
        send_content_key(turn, who, Digest(key), pieces)
    else:
        turn.emit(SendAnswer(who, subject, key, pieces))
