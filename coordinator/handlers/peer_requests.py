"""Requests of other coordinators: signed by who asks, who is charged for the answer.

A request is bound to who asks, to whom it asks, and to a counter: who repeats it, or
asks in another's name, is not answered, and takes nothing from whom it names. Each peer
has an allowance of things that it may ask for and of bytes that it may be answered;
what exceeds either is not answered, and counted under its name. The same thing goes to
the same peer once in a few seconds, however often it asks. Answers reach only who
asked, so that nobody's curiosity fills another's queue.

Who asks from an older copy of its home counts from lower than we heard: it is shown its
own latest request, and goes on above it.
"""

from collections.abc import Mapping
from dataclasses import replace

from starling.coordinator.availability.vector_exchange import send_content_key
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.peers import directory
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import RecordRefusal, SendAnswer, SendFrame
from starling.coordinator.wire.frames import REQUEST, PeerRequest
from starling.coordinator.wire.size_limits import answer_bytes_max
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import DecodeError, Reason, SignatureError
from starling.protocol.ids import DeviceId, Digest, device_id, device_name
from starling.protocol.wire.chunks import CHUNK_BYTES
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind

ASKS_OF_RANGE = 16
"""As how many things a range of blocks or buckets counts."""
ASKS_OF_KEY = 16
"""As how many a content key counts, for which a blob is opened."""
ANSWER_AGAIN_S = 1.5
"""Less than the time after which who pulls gives a piece up."""
_COUNTER = b"its latest request"
"""Names in `AnswerQuota.answered` what no request names."""
_ASKS_OF = {
    FrameSubject.BLOCKS: ASKS_OF_RANGE,
    FrameSubject.BUCKETS: ASKS_OF_RANGE,
    FrameSubject.KEY: ASKS_OF_KEY,
}


def handle_request(step: CoordinatorStep, who: DeviceId, said: Envelope) -> None:
    """Answers a request of a peer as far as its allowances go.

    Args:
      step: The step.
      who: In whose name it came; somebody that is known.
      said: The request, unchecked.

    Raises:
      DecodeError: If it is no request, or there is no such subject.
      SignatureError: If somebody else signed it, or nobody did; or a former coordinator
        asks for a content key.
    """
    if said.kind != MessageKind.PEER_REQUEST:
        raise DecodeError("not a request", Reason.UNKNOWN_KIND)
    want, own = REQUEST.unpack(said.body), directory.own_id(step.state.ledger)
    asker = device_id(said.sender)
    # A peer shows this coordinator its own latest request: its home may be an older
    # copy.
    if asker == own:
        _count_from(step, said)
        return
    if asker != who:
        raise SignatureError("asks in another's name", Reason.NOT_AUTHORISED)
    # At a shared topic all coordinators hear what one of them is asked.
    if want.asked != own:
        return
    try:
        subject = FrameSubject(want.subject)
    except ValueError as error:
        raise DecodeError("no such subject", Reason.UNKNOWN_KIND) from error
    # After all that costs nothing, and before the counter: forged requests use up none.
    said.check(step.settings.gate.chain_id)
    peer = step.state.peers[who]
    if peer.requests.has(said.counter):
        _show_counter(step, who)
        return
    latest = peer.request
    if latest is None or said.counter > latest.counter:
        latest = said
    # Noted before it is answered, whether or not it can be paid.
    requests = peer.requests.admit(said.counter)
    peer = replace(peer, requests=requests, request=latest)
    step.state = evolve(step.state, peers={**step.state.peers, who: peer})
    # Who has no right to an answer has paid for asking.
    for key, given in _charged(step, who, subject, want):
        _give(step, who, subject, key, given)


def _count_from(step: CoordinatorStep, said: Envelope) -> None:
    """Counts on above a request of ours that somebody shows us."""
    if said.counter < step.state.counter:
        return
    said.check(step.settings.gate.chain_id)
    step.state = evolve(step.state, counter=said.counter + 1)


def _show_counter(step: CoordinatorStep, who: DeviceId) -> None:
    """Shows a peer its own latest request, now and then."""
    peer = step.state.peers[who]
    answered = _lately(peer.quota.answered, step.now_s)
    if _COUNTER in answered or peer.request is None:
        return
    latest = ENVELOPE.pack(peer.request)
    quota = replace(peer.quota, answered={**answered, _COUNTER: step.now_s})
    peer = replace(peer, quota=quota)
    step.state = evolve(step.state, peers={**step.state.peers, who: peer})
    step.emit(SendFrame(who, FrameSubject.REQUEST, latest))


def _lately(answered: Mapping[bytes, float], now_s: float) -> dict[bytes, float]:
    return {
        name: at_s for name, at_s in answered.items() if now_s - at_s < ANSWER_AGAIN_S
    }


def _charged(
    step: CoordinatorStep, who: DeviceId, subject: FrameSubject, want: PeerRequest
) -> list[tuple[bytes, list[int]]]:
    """Charges a request; returns what its sender could pay for: keys, and pieces."""
    peer, now_s = step.state.peers[who], step.now_s
    quota = peer.quota.earned(now_s)
    answered = _lately(quota.answered, now_s)
    longest = answer_bytes_max(subject, (it.spec for it in step.state.tasks.values()))
    cost = CHUNK_BYTES if want.pieces else longest
    asks, left, refused = quota.asks, quota.answers, 0
    chosen: list[tuple[bytes, list[int]]] = []
    for key in want.keys:
        given: list[int] = []
        for piece in want.pieces or (-1,):
            asks -= _ASKS_OF.get(subject, 1)
            name = bytes([subject]) + key + piece.to_bytes(4, signed=True)
            # Given a moment ago: that is on its way, and no offence.
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
    quota = replace(quota, asks=max(0.0, asks), answers=left, answered=answered)
    peer = replace(peer, quota=quota, refused=peer.refused + refused)
    step.state = evolve(step.state, peers={**step.state.peers, who: peer})
    if refused:
        detail = f"{device_name(who)} asks too much: {refused} not answered"
        step.emit(RecordRefusal(None, Reason.BUSY, detail))
    return chosen


def _give(
    step: CoordinatorStep,
    who: DeviceId,
    subject: FrameSubject,
    key: bytes,
    given: list[int],
) -> None:
    if not given:
        return
    pieces = tuple(piece for piece in given if piece >= 0)
    if subject is FrameSubject.KEY:
        send_content_key(step, who, Digest(key), pieces)
    else:
        step.emit(SendAnswer(who, subject, key, pieces))
