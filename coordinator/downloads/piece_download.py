"""Long answers, pulled piece by piece: as many on their way as were asked for.

Whoever asks for something long gets its first piece and asks for the others, a few at a
time over everything that it pulls. So what stands before a vote in a broker's queue for
us is bounded by what we asked for ourselves, and what got lost is asked for again, if
need be of the next coordinator that has it. The pace is bounded, too: a large task may
take its time, and those who give it have votes to send.

Source: the pieces and requests of BitTorrent (BEP 3), here of one giver at a time.
"""

from collections import Counter
from dataclasses import replace

from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import SendFrame
from starling.coordinator.step.state import PendingRequest, PieceDownload
from starling.coordinator.wire.frames import (
    REQUEST,
    PeerRequest,
    PieceAnswer,
)
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import DecodeError, InvalidUpdate, Reason
from starling.protocol.ids import DeviceId
from starling.protocol.wire.chunks import CHUNK_BYTES, ChunkAssembly
from starling.protocol.wire.envelope import ENVELOPE, MessageKind

OPEN_MAX = 16
"""Pieces on their way to us, of everything that we pull: 1 MiB."""
OPEN_EACH_MAX = 8
"""Of one giver, so that one that sends nothing holds up itself."""
ASK_AT_ONCE_MIN = 4
BYTES_PER_S = 3e6
BYTES_BURST = float(OPEN_MAX * CHUNK_BYTES)
WAIT_MIN_S = 0.01
STALL_S = 2.0
"""Without a new piece after which the next coordinator is asked."""


def piece_received(
    step: CoordinatorStep, who: DeviceId, given: PieceAnswer, bytes_max: int
) -> bytes | None:
    """Takes a piece.

    Args:
      step: The step.
      who: Who gives it.
      given: The piece.
      bytes_max: The longest answer that we take.

    Returns:
      What `given` names, if this completes it.

    Raises:
      ProtocolError: If it belongs to something else, or what is complete has another
        digest: then it begins anew with the next coordinator.
    """
    # The one case in which another subject is the right answer.
    pruned = given.asked == FrameSubject.BLOCKS and given.given == FrameSubject.SNAPSHOT
    if given.given != given.asked and not pruned:
        raise DecodeError("an answer to something else", Reason.UNKNOWN_KIND)
    key = bytes([given.asked]) + given.key
    one, chunk = step.state.wanted.get(key), given.chunk
    # Only from a coordinator that was asked: others have no reason to send pieces.
    if one is None or who not in one.asked:
        return None
    if given.asked == FrameSubject.WHOLE and chunk.digest != given.key:
        raise InvalidUpdate("a piece of another whole", Reason.COMMITMENT_MISMATCH)
    pull = one.pull
    if pull is None or not _belongs(pull, given):
        # Another one may have begun to answer late: its pieces do not mix with these.
        if pull is not None and pull.giver != who:
            return None
        assembly = ChunkAssembly.begin(chunk.digest, chunk.size, bytes_max)
        pull = PieceDownload(who, given.given, assembly)
    if pull.assembly.pieces[chunk.index] is not None:
        return None
    assembly = pull.assembly.add(chunk)
    complete = None not in assembly.pieces
    still_open = pull.open - {chunk.index}
    # Something came: what was counted as a stall is forgiven.
    rest = replace(pull, assembly=assembly, open=still_open, stalls=0)
    again_at_s = step.now_s + STALL_S
    one = replace(one, again_at_s=again_at_s, pull=None if complete else rest)
    step.state = evolve(step.state, wanted={**step.state.wanted, key: one})
    if key not in step.state.pulling:
        step.state = evolve(step.state, pulling=(*step.state.pulling, key))
    request_pieces(step)
    return assembly.whole() if complete else None


def _belongs(pull: PieceDownload, given: PieceAnswer) -> bool:
    assembly, chunk = pull.assembly, given.chunk
    known = pull.given, assembly.digest, assembly.size
    return known == (given.given, chunk.digest, chunk.size)


def request_pieces(step: CoordinatorStep) -> None:
    """Asks for further pieces, as far as there is room for them."""
    if not step.state.pulling:
        return
    pulls = {
        key: (one, one.pull)
        for key in step.state.pulling
        if (one := step.state.wanted.get(key)) is not None and one.pull is not None
    }
    step.state = evolve(step.state, pulling=tuple(pulls))
    earned = (step.now_s - step.state.pull_at_s) * BYTES_PER_S
    step.state = evolve(
        step.state,
        pull_bytes=min(BYTES_BURST, step.state.pull_bytes + earned),
        pull_at_s=step.now_s,
    )
    opened: Counter[DeviceId] = Counter()
    for _, pull in pulls.values():
        opened[pull.giver] += len(pull.open)
    for key, (one, pull) in pulls.items():
        missing = [at for at in pull.assembly.missing if at not in pull.open]
        room = min(OPEN_MAX - opened.total(), OPEN_EACH_MAX - opened[pull.giver])
        least = min(ASK_AT_ONCE_MIN, len(missing))
        # Not for one or two: a request for few costs as much as one for many.
        if not missing or room < least:
            continue
        affordable = int(step.state.pull_bytes // CHUNK_BYTES)
        if affordable < least:
            # A little later than just enough, so that rounding does not ask in vain.
            wait_s = (
                WAIT_MIN_S + (least * CHUNK_BYTES - step.state.pull_bytes) / BYTES_PER_S
            )
            step.state = evolve(
                step.state, ask_at_s=min(step.state.ask_at_s, step.now_s + wait_s)
            )
            return
        fresh = missing[: min(room, affordable)]
        _ask(step, key, one, pull, tuple(fresh))
        opened[pull.giver] += len(fresh)
        # The others' turn comes before its next one.
        step.state = evolve(
            step.state,
            pulling=(*(one for one in step.state.pulling if one != key), key),
        )


def _ask(
    step: CoordinatorStep,
    key: bytes,
    one: PendingRequest,
    pull: PieceDownload,
    pieces: tuple[int, ...],
) -> None:
    step.state = evolve(
        step.state, pull_bytes=step.state.pull_bytes - len(pieces) * CHUNK_BYTES
    )
    pull = replace(pull, open=pull.open | set(pieces))
    again_at_s = step.now_s + STALL_S
    one = replace(one, pull=pull, again_at_s=again_at_s)
    step.state = evolve(
        step.state,
        wanted={**step.state.wanted, key: one},
        ask_at_s=min(step.state.ask_at_s, again_at_s),
    )
    send_request(step, PeerRequest(pull.giver, key[0], (key[1:],), pieces))


def send_request(step: CoordinatorStep, request: PeerRequest) -> None:
    """Signs a request and sends it to whom it asks."""
    signed = step.sign(MessageKind.PEER_REQUEST, REQUEST.pack(request))
    step.emit(SendFrame(request.asked, FrameSubject.REQUEST, ENVELOPE.pack(signed)))
