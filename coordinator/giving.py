"""What others ask us for: who asks pays for the answer, in bytes.

Each peer has an allowance of things that it may ask for and of bytes that it may be
answered; what exceeds either is not answered, and counted under its name. The same
thing goes to the same peer once in a few seconds, however often it asks. Answers reach
only who asked, so that nobody's curiosity fills another's queue.
"""

from dataclasses import replace

from coordinator import membership
from coordinator.effects import Give, Refuse
from coordinator.gossip import Subject, Want
from coordinator.sharing import give_key
from coordinator.travel import answer_bytes_max
from coordinator.turn import Turn
from protocol.chunks import CHUNK_BYTES
from protocol.errors import DecodeError, Reason
from protocol.ids import DeviceId, Digest, device_name

ASKS_PER_S = 256.0
ASKS_BURST = 1024.0
ASKS_OF_RANGE = 16
"""As how many things a range of blocks or buckets counts."""
ASKS_OF_KEY = 16
"""As how many a content key counts, for which a blob is opened."""
ANSWERS_PER_S = 6e6
"""Bytes; more than `pulling.BYTES_PER_S`, at which honest ones ask."""
ANSWERS_BURST = 6e6
ANSWER_AGAIN_S = 1.5
"""Less than the time after which who pulls gives a piece up."""
_ASKS_OF = {
    Subject.BLOCKS: ASKS_OF_RANGE,
    Subject.BUCKETS: ASKS_OF_RANGE,
    Subject.KEY: ASKS_OF_KEY,
}


def asked(turn: Turn, who: DeviceId, want: Want) -> None:
    """Answers a request of a peer as far as its allowances go.

    Raises:
      DecodeError: If there is no such subject.
      SignatureError: If a former coordinator asks for a content key.
    """
    if want.asked != membership.own_id(turn.ledger):
        return
    try:
        subject = Subject(want.subject)
    except ValueError as error:
        raise DecodeError("no such subject", Reason.UNKNOWN_KIND) from error
    peer, now_s = turn.peers[who], turn.now_s
    line = peer.lines[turn.broker]
    answered = {
        name: at_s
        for name, at_s in line.answered.items()
        if now_s - at_s < ANSWER_AGAIN_S
    }
    longest = answer_bytes_max(subject, (it.spec for it in turn.tasks.values()))
    asks, left, refused = line.asks, line.answers, 0
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
        _give(turn, who, subject, key, given)
    # What was asked in vain counts no further than to nothing.
    line = replace(line, asks=max(0.0, asks), answers=left, answered=answered)
    lines = {**peer.lines, turn.broker: line}
    peer = replace(peer, lines=lines, refused=peer.refused + refused)
    turn.peers = {**turn.peers, who: peer}
    if refused:
        detail = f"{device_name(who)} asks too much: {refused} not answered"
        turn.emit(Refuse(None, Reason.BUSY, detail))


def _give(
    turn: Turn, who: DeviceId, subject: Subject, key: bytes, given: list[int]
) -> None:
    if not given:
        return
    pieces = tuple(piece for piece in given if piece >= 0)
    if subject is Subject.KEY:
        give_key(turn, who, Digest(key), pieces)
    else:
        turn.emit(Give(who, subject, key, pieces))
