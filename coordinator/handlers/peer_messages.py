"""Gossip from other coordinators: their ledger's messages, requests and answers.

Each peer has an allowance of bytes that it may say unasked over each broker, and two
long frames in assembly there; what we asked for costs it nothing, and what it asks for
is in `peer_requests`. A proposal is looked into once its maker's turn and signature are
checked, and heard by the ledger only when we hold the vectors of the updates in it, or
when a quorum prevoted or precommitted its block without us (docs/consensus.md): then
the block stands whatever we think, and the vectors are fetched afterwards.
"""

from dataclasses import replace

from starling.coordinator.availability import bundle_examination
from starling.coordinator.availability.vector_exchange import (
    announced,
    content_key_received,
    request_later,
    upload_received,
    vectors_arrived,
)
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip import proposal_checks
from starling.coordinator.chain.node import node
from starling.coordinator.chain.state import (
    board_records,
    task_records,
    transaction_codec,
)
from starling.coordinator.commit.transaction_submission import advance
from starling.coordinator.downloads import piece_download, request_scheduler
from starling.coordinator.handlers import peer_requests
from starling.coordinator.membership import directory, peer_liveness
from starling.coordinator.models.model_versions import digests_received
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import RecordRefusal, StorePeerBlob
from starling.coordinator.step.events import PeerFrameArrived
from starling.coordinator.step.pending_proposal import DeferredProposal
from starling.coordinator.step.state import PeerState, admitted_key
from starling.coordinator.sync import block_sync
from starling.coordinator.wire.frames import (
    FRAME,
    GIVEN_KEY,
    GIVEN_MODEL,
    GIVEN_PIECE,
    GIVEN_UPLOAD,
    Frame,
    FrameSubject,
    ModelAnswer,
    model_key,
)
from starling.coordinator.wire.peer_quota import ASSEMBLIES_MAX, BYTES_BURST, LineQuota
from starling.coordinator.wire.size_limits import upload_bytes_of
from starling.protocol.chain.blocks import BLOCK, PROPOSAL, VOTE, Proposal, VoteType
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import (
    DecodeError,
    InvalidUpdate,
    LimitError,
    ProtocolError,
    Reason,
    SignatureError,
)
from starling.protocol.ids import DeviceId, Digest, H, device_name
from starling.protocol.learning.task import version_digest
from starling.protocol.wire.chunks import CHUNK, ChunkAssembly
from starling.protocol.wire.envelope import ENVELOPE, MessageKind

MESSAGE_COST_MIN_BYTES = 4096
"""That a message counts for at least: short ones cost decoding and a signature."""
REPEAT_EVERY_S = 1.0
REPEATED_MAX = 64
_FRAME_OVERHEAD_BYTES = 64 * 1024
LEDGER_FRAME_BYTES_MAX = gossip_messages.MESSAGE.bytes_max + 64
"""Of a frame that comes in chunks, unasked; all else that is long is pulled."""
_GRID_BYTES = 8


def frame_arrived(turn: CoordinatorStep, event: PeerFrameArrived) -> None:
    """Takes a message of another coordinator; a bad one is counted."""
    who = turn.speaker = event.peer
    turn.broker = event.elsewhere
    try:
        if not directory.may_speak(turn.state.ledger, who):
            raise SignatureError("not a coordinator", Reason.NOT_AUTHORISED)
        if who == directory.own_id(turn.state.ledger):
            return
        peer, line = _credited(turn, who)
        cost = max(MESSAGE_COST_MIN_BYTES, len(event.payload))
        if cost > line.allowance:
            peer = replace(peer, refused=peer.refused + 1)
            turn.state = evolve(turn.state, peers={**turn.state.peers, who: peer})
            where = " at another broker" if event.elsewhere else ""
            raise LimitError(f"{device_name(who)} says too much{where}", Reason.BUSY)
        turn.state = evolve(turn.state, peers={**turn.state.peers, who: peer})
        _put_line(turn, who, replace(line, allowance=line.allowance - cost))
        frame = FRAME.unpack(event.payload)
        directory.check_says(turn.state.ledger, who, frame)
        if _take(turn, who, frame, bool(event.elsewhere)):
            # What we asked for is our own doing.
            line = turn.state.peers[who].lines[turn.broker]
            allowance = min(BYTES_BURST, line.allowance + cost)
            _put_line(turn, who, replace(line, allowance=allowance))
    except ProtocolError as error:
        # At another broker nothing shows that it is who its topic says.
        named = None if event.elsewhere else who
        turn.emit(RecordRefusal(None, error.reason, str(error), named))


def _credited(turn: CoordinatorStep, who: DeviceId) -> tuple[PeerState, LineQuota]:
    """A peer, and its line with what that earned since the last time."""
    peer = turn.state.peers.get(who) or PeerState()
    line = (peer.lines.get(turn.broker) or LineQuota()).earned(turn.now_s)
    return replace(peer, lines={**peer.lines, turn.broker: line}), line


def _put_line(turn: CoordinatorStep, who: DeviceId, line: LineQuota) -> None:
    peer = turn.state.peers[who]
    peer = replace(peer, lines={**peer.lines, turn.broker: line})
    turn.state = evolve(turn.state, peers={**turn.state.peers, who: peer})


def _take(turn: CoordinatorStep, who: DeviceId, frame: Frame, elsewhere: bool) -> bool:
    """Takes a frame; whether it brought what we asked for."""
    try:
        subject = FrameSubject(frame.subject)
    except ValueError as error:
        raise DecodeError("no such subject", Reason.UNKNOWN_KIND) from error
    match subject:
        case FrameSubject.LEDGER:
            _ledger(turn, who, frame.content, elsewhere)
            return False
        case FrameSubject.CHUNK:
            _chunk(turn, who, frame.content, elsewhere)
            return False
        case FrameSubject.REQUEST:
            _pay_for_signature(turn, who)
            peer_requests.handle_request(turn, who, ENVELOPE.unpack(frame.content))
            return False
        case FrameSubject.PIECE:
            piece = GIVEN_PIECE.unpack(frame.content)
            longest = answer_bytes_max(turn, piece.asked)
            new, whole = piece_download.piece_received(turn, who, piece, longest)
            if whole is not None:
                given = FrameSubject(whole.subject)
                _answered(turn, who, given, whole.content, piece.chunk.digest)
            return new
        case _:
            before = turn.state.wanted
            _answered(turn, who, subject, frame.content)
            return turn.state.wanted is not before


def _answered(
    turn: CoordinatorStep,
    who: DeviceId,
    subject: FrameSubject,
    content: bytes,
    digest: Digest | None = None,
) -> None:
    """Takes an answer, whoever gives it: it proves itself, or is not wanted.

    Args:
      turn: The step.
      who: Who gives it.
      subject: What it is.
      content: The answer.
      digest: `H(content)`, if that was looked at already.
    """
    match subject:
        case FrameSubject.UPLOAD:
            upload_received(turn, who, GIVEN_UPLOAD.unpack(content))
        case FrameSubject.KEY:
            content_key_received(turn, who, GIVEN_KEY.unpack(content))
        case FrameSubject.WHOLE:
            _whole_given(turn, digest or H(content), content)
        case FrameSubject.MODEL:
            _model_given(turn, GIVEN_MODEL.unpack(content))
        case FrameSubject.BLOCKS | FrameSubject.SNAPSHOT | FrameSubject.BUCKETS:
            block_sync.blocks_received(turn, subject, content)
        case _:
            raise DecodeError("not an answer", Reason.UNKNOWN_KIND)


def answer_bytes_max(turn: CoordinatorStep, subject: int) -> int:
    """The longest answer about a subject that any task or block needs."""
    specs = [task.spec for task in turn.state.tasks.values()]
    if subject in (FrameSubject.UPLOAD, FrameSubject.KEY):
        uploads = [upload_bytes_of(spec.codec, spec.dimension) for spec in specs]
        return max(uploads, default=0) + _FRAME_OVERHEAD_BYTES
    sizes = [gossip_messages.MESSAGE.bytes_max]
    sizes += [spec.bundle_bytes for spec in specs]
    sizes += bundle_examination.sizes(turn)
    sizes += [_GRID_BYTES * spec.dimension for spec in specs]
    return max(sizes) + _FRAME_OVERHEAD_BYTES


def _chunk(
    turn: CoordinatorStep, who: DeviceId, content: bytes, elsewhere: bool
) -> None:
    chunk = CHUNK.unpack(content)
    line = turn.state.peers[who].lines[turn.broker]
    whole = chunk.digest, chunk.size
    known = [one for one in line.assemblies if (one.digest, one.size) == whole]
    others = [one for one in line.assemblies if (one.digest, one.size) != whole]
    (assembly,) = known or [ChunkAssembly.begin(*whole, LEDGER_FRAME_BYTES_MAX)]
    assembly = assembly.add(chunk)
    complete = None not in assembly.pieces
    kept = others if complete else [*others[1 - ASSEMBLIES_MAX :], assembly]
    _put_line(turn, who, replace(line, assemblies=tuple(kept)))
    if complete:
        frame = FRAME.unpack(assembly.whole())
        if frame.subject != FrameSubject.LEDGER:
            raise DecodeError("chunks are for the ledger's", Reason.UNKNOWN_KIND)
        _ledger(turn, who, frame.content, elsewhere)


def _ledger(
    turn: CoordinatorStep, who: DeviceId, content: bytes, elsewhere: bool
) -> None:
    message = gossip_messages.MESSAGE.unpack(content)
    if message.topic not in _PACED_OTHERWISE:
        _pay_for_signature(turn, who)
    if message.topic == gossip_messages.GossipTopic.PROPOSAL:
        proposal = PROPOSAL.unpack(message.content)
        if not proposal_checks.is_news(turn.state.ledger, proposal):
            return
        # Before anything is kept or asked for on its account.
        proposal_checks.check_maker(turn.state.ledger.party, proposal)
        lacks = _lacks(turn, proposal)
        if lacks:
            _park(turn, who, proposal, content, lacks)
            return
    elif message.topic == gossip_messages.GossipTopic.TRANSACTION and _is_update(
        message.content
    ):
        announced(turn, who, message.content)
        return
    elif (
        message.topic == gossip_messages.GossipTopic.TRANSACTION
        and bundle_examination.task_announced(turn, who, content, message.content)
    ):
        return
    if message.topic == gossip_messages.GossipTopic.STATUS:
        peer_liveness.status_came(
            turn, who, gossip_messages.STATUS.unpack(message.content), elsewhere
        )
        advance(turn, node.PeerMessage(content, _source(turn, who)))
        block_sync.request_missing_blocks(turn)
    elif message.topic == gossip_messages.GossipTopic.VOTE:
        # Before the ledger does: it would refuse, and count, a malformed one again.
        vote, before = VOTE.unpack(message.content), turn.state.ledger
        advance(turn, node.PeerMessage(content, _source(turn, who)))
        peer_liveness.vote_came(turn, who, vote, before, elsewhere)
    else:
        advance(turn, node.PeerMessage(content, _source(turn, who)))


_PACED_OTHERWISE = (
    gossip_messages.GossipTopic.STATUS,
    gossip_messages.GossipTopic.TRANSACTION,
)
"""By its interval and a counter, and by its sender's share."""


def _pay_for_signature(turn: CoordinatorStep, who: DeviceId) -> None:
    """Charges a peer's name for a message whose signature is checked.

    Of a height so and so many are kept (deviation D4), but who repeats them, or signs
    nonsense, would have us check signatures all the time.

    Raises:
      LimitError: If it says too many.
    """
    peer = turn.state.peers[who]
    line = peer.lines[turn.broker]
    if line.signatures < 1.0:
        refused = replace(peer, refused=peer.refused + 1)
        turn.state = evolve(turn.state, peers={**turn.state.peers, who: refused})
        raise LimitError(
            f"{device_name(who)} says too much that is signed", Reason.BUSY
        )
    _put_line(turn, who, replace(line, signatures=line.signatures - 1.0))


def _source(turn: CoordinatorStep, who: DeviceId) -> bytes:
    """Whose share something fills: a name's at one broker, as with its quota."""
    return who + turn.broker.to_bytes(2) if turn.broker else who


def _is_update(packed: bytes) -> bool:
    return transaction_codec.unpack(packed).kind == MessageKind.UPDATE


def _lacks(
    turn: CoordinatorStep, proposal: Proposal
) -> tuple[tuple[bytes, Digest], ...]:
    """Updates of a proposed block whose vectors we do not hold.

    Raises:
      InvalidBlock, DecodeError: If the bytes are not those of the block that is named.
    """
    if proposal.block_id in turn.state.ledger.prepared:
        return ()
    block = proposal_checks.check_block(BLOCK.unpack(proposal.block), proposal.block_id)
    lacks = []
    for packed in block.transactions:
        envelope = transaction_codec.unpack(packed)
        if envelope.kind == MessageKind.UPDATE:
            body = transaction_codec.contribution(envelope.body)
            device = board_records.owner(turn.state.ledger.tree, envelope.sender)
            key = admitted_key(device, body.task, body.version)
            identity = envelope.identity(turn.settings.gate.chain_id)
            if not _holds(turn, key, identity):
                lacks.append((key, identity))
        elif envelope.kind == MessageKind.TASK:
            lacks.extend(bundle_examination.missing_bundle(turn, envelope))
    return tuple(lacks)


def _holds(turn: CoordinatorStep, key: bytes, identity: Digest) -> bool:
    if key.startswith(bundle_examination.KEY):
        return bundle_examination.is_sound(turn, key, identity)
    held = turn.state.held.get(key)
    return held is not None and held.transaction == identity


def _park(
    turn: CoordinatorStep,
    who: DeviceId,
    proposal: Proposal,
    message: bytes,
    lacks: tuple[tuple[bytes, Digest], ...],
) -> None:
    known = turn.state.parked.get(who)
    if known is not None and known.block_id != proposal.block_id:
        over = tuple(each for each in known.lacks if each not in lacks)
        _give_back(turn, who, replace(known, lacks=over))
    parked = DeferredProposal(
        proposal.height, proposal.round, proposal.block_id, message, lacks
    )
    turn.state = evolve(turn.state, parked={**turn.state.parked, who: parked})
    absent = [
        identity
        for key, identity in lacks
        if not key.startswith(bundle_examination.KEY)
    ]
    # Whoever offers a block, or passes it on, has what it names.
    request_later(turn, absent, first=who, source=who)
    bundle_examination.parked_too(turn, who, parked)


def _give_back(turn: CoordinatorStep, who: DeviceId, parked: DeferredProposal) -> None:
    """Cancels requests that only this proposal needed."""
    keys = request_scheduler.vectors(identity for _, identity in parked.lacks)
    keys += request_scheduler.blob_keys(bundle_examination.bundles_of(parked))
    request_scheduler.withdraw_requests(turn, keys, who)


def release_deferred_proposals(turn: CoordinatorStep) -> None:
    """Lets the ledger hear the proposals that wait no longer; forgets old ones."""
    for who, parked in sorted(turn.state.parked.items()):
        current = parked.height == turn.state.ledger.consensus.height
        lacks = any(not _holds(turn, key, identity) for key, identity in parked.lacks)
        if current and lacks and not _carried(turn, parked):
            continue
        turn.state = evolve(
            turn.state,
            parked={at: one for at, one in turn.state.parked.items() if at != who},
        )
        if not current and not _decided(turn, parked):
            _give_back(turn, who, parked)
        if current:
            turn.speaker = who
            advance(turn, node.PeerMessage(parked.message))


def _decided(turn: CoordinatorStep, parked: DeferredProposal) -> bool:
    """True if the chain ends with a block, whose vectors are needed then."""
    header = turn.state.ledger.header
    return header is not None and header.block_id() == parked.block_id


def _carried(turn: CoordinatorStep, parked: DeferredProposal) -> bool:
    """True if a quorum voted for a block that could not be opened here."""
    ballots, needed = (
        turn.state.ledger.consensus.ballots,
        turn.state.ledger.party.quorum,
    )
    return any(
        ballots.certificate(parked.round, kind, parked.block_id, needed) is not None
        for kind in VoteType
    )


def _whole_given(turn: CoordinatorStep, digest: Digest, content: bytes) -> None:
    (key,) = request_scheduler.blob_keys([digest])
    if key in turn.state.wanted:
        turn.emit(StorePeerBlob(digest, content))
        vectors_arrived(turn, [key])
        bundle_examination.bundle_arrived(turn, digest)


def _model_given(turn: CoordinatorStep, given: ModelAnswer) -> None:
    key = request_scheduler.request_key(
        FrameSubject.MODEL, model_key(given.task, given.version)
    )
    if key not in turn.state.wanted:
        return
    digest = task_records.version(turn.state.ledger.tree, given.task, given.version)
    if digest != version_digest(given.digests):
        raise InvalidUpdate("not what the chain made final", Reason.COMMITMENT_MISMATCH)
    request_scheduler.forget(turn, [key])
    digests_received(turn, given)


def repeat_waiting_transactions(turn: CoordinatorStep) -> None:
    """Tells others again what waits for a block for long: they may have missed it.

    Not what another coordinator told us: it tells again itself, and if it cannot, we
    put what we were told into a block of our own.
    """
    if turn.state.ledger.alone or turn.now_s < turn.state.repeat_at_s:
        return
    mempool, below = turn.state.ledger.mempool, turn.state.repeat_below
    turn.state = evolve(
        turn.state,
        repeat_at_s=turn.now_s + REPEAT_EVERY_S,
        repeat_below=mempool.following,
    )
    if not mempool.size or not turn.state.connected:
        return
    for entry in mempool.oldest(REPEATED_MAX, gossip_messages.MESSAGE.bytes_max):
        if entry.place < below and not entry.source:
            message = gossip_messages.GossipMessage(
                gossip_messages.GossipTopic.TRANSACTION, entry.packed
            )
            turn.emit(node.SendGossip(gossip_messages.MESSAGE.pack(message)))
