"""Messages of other coordinators at the door: one frame, one table of subjects.

Each peer has an allowance of bytes that it may say unasked over each broker, and two
long frames in assembly there; what we asked for costs it nothing. Then what a frame
holds is read, once, and goes to the handler of its subject.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import Frame, FrameSubject, open_frame
from starling.coordinator.chain.state import transaction_codec
from starling.coordinator.handlers import chain_messages, peer_answers, peer_requests
from starling.coordinator.handlers.subject_rule import MessageCost, SubjectRule
from starling.coordinator.peers import directory
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import RecordRefusal
from starling.coordinator.step.events import PeerFrameArrived
from starling.coordinator.step.state import PeerState
from starling.coordinator.wire.frames import GIVEN_PIECE
from starling.coordinator.wire.lanes import PriorityLane
from starling.coordinator.wire.peer_quota import ASSEMBLIES_MAX, BYTES_BURST, LineQuota
from starling.protocol.chain.blocks import CERTIFICATE, PROPOSAL, VOTE
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import (
    DecodeError,
    LimitError,
    ProtocolError,
    Reason,
    SignatureError,
)
from starling.protocol.ids import DeviceId, device_name
from starling.protocol.schema.msgpack_codec import Codec
from starling.protocol.wire.chunks import CHUNK, Chunk, ChunkAssembly
from starling.protocol.wire.envelope import ENVELOPE

MESSAGE_COST_MIN_BYTES = 4096
"""That a message counts for at least: short ones cost decoding and a signature."""
LONG_FRAME_BYTES_MAX = gossip_messages.FRAME.bytes_max
"""Of a frame that comes in chunks, unasked; all else that is long is pulled."""


def frame_arrived(step: CoordinatorStep, event: PeerFrameArrived) -> None:
    """Takes a message of another coordinator; a bad one is counted."""
    who = step.speaker = event.peer
    step.broker = event.elsewhere
    try:
        # First of all: a stranger has no account that could be charged.
        if not directory.may_speak(step.state.ledger, who):
            raise SignatureError("not a coordinator", Reason.NOT_AUTHORISED)
        # A broker hands back what was published on a topic that one reads.
        if who == directory.own_id(step.state.ledger):
            return
        cost = max(MESSAGE_COST_MIN_BYTES, len(event.payload))
        _pay_for_bytes(step, who, cost)
        wanted = step.state.wanted
        kind = _take(step, who, open_frame(event.payload))
        # The handler replaces this mapping if it held what came.
        if kind is MessageCost.ASKED and step.state.wanted is not wanted:
            # What we asked for is our own doing.
            line = step.state.peers[who].lines[step.broker]
            allowance = min(BYTES_BURST, line.allowance + cost)
            _put_line(step, who, replace(line, allowance=allowance))
    except ProtocolError as error:
        # At another broker nothing shows that it is who its topic says.
        named = None if event.elsewhere else who
        step.emit(RecordRefusal(None, error.reason, str(error), named))


def _take(step: CoordinatorStep, who: DeviceId, frame: Frame) -> MessageCost:
    """Reads a frame and lets its subject's handler take it; what it cost."""
    try:
        rule = SUBJECTS[FrameSubject(frame.subject)]
    except ValueError as error:
        raise DecodeError("no such subject", Reason.UNKNOWN_KIND) from error
    if not (rule.learners or directory.is_coordinator(step.state.ledger, who)):
        raise ProtocolError("a learner only asks", Reason.NOT_AUTHORISED)
    if rule.cost is MessageCost.SIGNATURE:
        _pay_for_signature(step, who)
    if rule.cost is MessageCost.USE:
        _check_debt(step, who)
    rule.handle(step, who, rule.read(frame.content))
    return rule.cost


def _pay_for_bytes(step: CoordinatorStep, who: DeviceId, cost: int) -> None:
    """Charges a peer's name at a broker for bytes.

    Raises:
      LimitError: If it says too many.
    """
    peer = step.state.peers.get(who) or PeerState()
    line = (peer.lines.get(step.broker) or LineQuota()).earned(step.now_s)
    pays = cost <= line.allowance
    if pays:
        line = replace(line, allowance=line.allowance - cost)
    peer = replace(peer, lines={**peer.lines, step.broker: line})
    step.state = evolve(step.state, peers={**step.state.peers, who: peer})
    if not pays:
        where = " at another broker" if step.broker else ""
        raise _too_much(step, who, f"exceeds its limit of messages{where}")


def _pay_for_signature(step: CoordinatorStep, who: DeviceId) -> None:
    """Charges a peer's name at a broker for a message whose signature is checked.

    Of a height so and so many are kept (deviation D4), but who repeats them, or signs
    nonsense, would have us check signatures all the time.

    Raises:
      LimitError: If it says too many.
    """
    line = step.state.peers[who].lines[step.broker]
    if line.signatures < 1.0:
        raise _too_much(step, who, "exceeds its limit of signed messages")
    _put_line(step, who, replace(line, signatures=line.signatures - 1.0))


def _check_debt(step: CoordinatorStep, who: DeviceId) -> None:
    """Refuses what comes from who owes for transactions; see `transaction_quota`.

    Raises:
      LimitError: If too many of those that it told us of entered no block.
    """
    if step.state.peers[who].lines[step.broker].void < 1.0:
        raise _too_much(step, who, "tells of too many transactions that are void")


def _too_much(step: CoordinatorStep, who: DeviceId, what: str) -> LimitError:
    peer = step.state.peers[who]
    peer = replace(peer, refused=peer.refused + 1)
    step.state = evolve(step.state, peers={**step.state.peers, who: peer})
    return LimitError(f"{device_name(who)} {what}", Reason.BUSY)


def _put_line(step: CoordinatorStep, who: DeviceId, line: LineQuota) -> None:
    peer = step.state.peers[who]
    peer = replace(peer, lines={**peer.lines, step.broker: line})
    step.state = evolve(step.state, peers={**step.state.peers, who: peer})


def _handle_chunk(step: CoordinatorStep, who: DeviceId, chunk: Chunk) -> None:
    line = step.state.peers[who].lines[step.broker]
    whole = chunk.digest, chunk.size
    known = [one for one in line.assemblies if (one.digest, one.size) == whole]
    others = [one for one in line.assemblies if (one.digest, one.size) != whole]
    (assembly,) = known or [ChunkAssembly.begin(*whole, LONG_FRAME_BYTES_MAX)]
    assembly = assembly.add(chunk)
    complete = None not in assembly.pieces
    # The one that has not grown for longest makes room.
    kept = others if complete else [*others[1 - ASSEMBLIES_MAX :], assembly]
    _put_line(step, who, replace(line, assemblies=tuple(kept)))
    if complete:
        frame = open_frame(assembly.whole())
        # An answer is pulled piece by piece, and a chunk in a chunk could nest for
        # ever.
        if frame.subject not in _CHAIN:
            raise DecodeError("chunks are for the chain's", Reason.UNKNOWN_KIND)
        _take(step, who, frame)


def _chain_rule(subject: FrameSubject, codec: Codec[Any]) -> SubjectRule[Any]:
    """The rule of what the chain hears as it comes."""
    handle = partial(chain_messages.pass_to_chain, subject)
    return SubjectRule(
        codec.unpack, handle, MessageCost.SIGNATURE, PriorityLane.CONSENSUS
    )


_CHAIN: Mapping[FrameSubject, SubjectRule[Any]] = {
    FrameSubject.PROPOSAL: SubjectRule(
        PROPOSAL.unpack,
        chain_messages.handle_proposal,
        MessageCost.SIGNATURE,
        PriorityLane.CONSENSUS,
    ),
    FrameSubject.VOTE: SubjectRule(
        VOTE.unpack,
        chain_messages.handle_vote,
        MessageCost.SIGNATURE,
        PriorityLane.CONSENSUS,
    ),
    FrameSubject.STATUS: SubjectRule(
        gossip_messages.STATUS.unpack,
        chain_messages.handle_status,
        MessageCost.SIGNATURE,
        PriorityLane.CONSENSUS,
        learners=True,
    ),
    FrameSubject.TRANSACTION: SubjectRule(
        transaction_codec.unpack,
        chain_messages.handle_transaction,
        MessageCost.USE,
        PriorityLane.CONTROL,
    ),
    FrameSubject.DECISION: _chain_rule(FrameSubject.DECISION, gossip_messages.DECISION),
    FrameSubject.CERTIFICATE: _chain_rule(FrameSubject.CERTIFICATE, CERTIFICATE),
    FrameSubject.POLKA: _chain_rule(FrameSubject.POLKA, CERTIFICATE),
    FrameSubject.FORK: _chain_rule(FrameSubject.FORK, gossip_messages.FORK),
}
SUBJECTS: Mapping[FrameSubject, SubjectRule[Any]] = {
    **_CHAIN,
    # A part goes in the lane of what it is a part of.
    FrameSubject.CHUNK: SubjectRule(
        CHUNK.unpack, _handle_chunk, MessageCost.SHARE, PriorityLane.CONSENSUS
    ),
    FrameSubject.REQUEST: SubjectRule(
        ENVELOPE.unpack,
        peer_requests.handle_request,
        MessageCost.SIGNATURE,
        PriorityLane.CONTROL,
        learners=True,
    ),
    **peer_answers.ANSWERS,
    FrameSubject.PIECE: SubjectRule(
        GIVEN_PIECE.unpack,
        peer_answers.handle_piece,
        MessageCost.ASKED,
        PriorityLane.BULK,
    ),
}
"""Everything that coordinators say to each other; docs/protocol.md has it as a page."""
