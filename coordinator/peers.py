"""Gossip from other coordinators: their ledger's messages, requests and answers.

Each peer has an allowance of bytes that it may say unasked over each broker, and two
long frames in assembly there; what we asked for costs it nothing, and what it asks for
is in `giving`. A proposal is looked into once its maker's turn and signature are
checked, and heard by the ledger only when we hold the vectors of the updates in it, or
when a quorum prevoted or precommitted its block without us (DESIGN 3.10): then the
block stands whatever we think, and the vectors are fetched afterwards.
"""

from dataclasses import replace

from coordinator import (
    catchup,
    giving,
    membership,
    presence,
    pulling,
    vouching,
    wanting,
)
from coordinator.effects import Refuse, StoreWhole
from coordinator.events import PeerArrived
from coordinator.gossip import (
    FRAME,
    GIVEN_KEY,
    GIVEN_MODEL,
    GIVEN_PIECE,
    GIVEN_UPLOAD,
    WANT,
    Frame,
    GivenModel,
    Subject,
    model_key,
)
from coordinator.ledger import node, offer, transactions, views, wire
from coordinator.line import ASSEMBLIES_MAX, Line
from coordinator.pending import Parked
from coordinator.sharing import (
    announced,
    came,
    key_given,
    upload_given,
    want_later,
)
from coordinator.state import Peer, held_key
from coordinator.submission import advance
from coordinator.travel import upload_bytes_of
from coordinator.turn import Turn
from coordinator.versioning import model_given
from protocol.chain import BLOCK, PROPOSAL, VOTE, Proposal, VoteType
from protocol.chunks import CHUNK, Assembly
from protocol.envelope import Kind
from protocol.errors import (
    DecodeError,
    InvalidUpdate,
    LimitError,
    ProtocolError,
    Reason,
    SignatureError,
)
from protocol.ids import DeviceId, Digest, H, device_name
from protocol.task import version_digest

BYTES_PER_S = 8e6
"""That one peer may say unasked in the long run."""
BYTES_BURST = 32e6
MESSAGE_COST_MIN_BYTES = 4096
"""That a message counts for at least: short ones cost decoding and a signature."""
REPEAT_EVERY_S = 1.0
REPEATED_MAX = 64
_FRAME_OVERHEAD_BYTES = 64 * 1024
LEDGER_FRAME_BYTES_MAX = wire.MESSAGE.bytes_max + 64
"""Of a frame that comes in chunks, unasked; all else that is long is pulled."""
_GRID_BYTES = 8


def heard(turn: Turn, event: PeerArrived) -> None:
    """Takes a message of another coordinator; a bad one is counted."""
    who = turn.speaker = event.peer
    turn.broker = event.elsewhere
    try:
        if not membership.may_speak(turn.ledger, who):
            raise SignatureError("not a coordinator", Reason.NOT_AUTHORISED)
        if who == membership.own_id(turn.ledger):
            return
        peer, line = _credited(turn, who)
        cost = max(MESSAGE_COST_MIN_BYTES, len(event.payload))
        if cost > line.allowance:
            turn.peers = {**turn.peers, who: replace(peer, refused=peer.refused + 1)}
            where = " at another broker" if event.elsewhere else ""
            raise LimitError(f"{device_name(who)} says too much{where}", Reason.BUSY)
        turn.peers = {**turn.peers, who: peer}
        _put_line(turn, who, replace(line, allowance=line.allowance - cost))
        frame = FRAME.unpack(event.payload)
        membership.check_says(turn.ledger, who, frame)
        if _take(turn, who, frame, bool(event.elsewhere)):
            # What we asked for is our own doing.
            line = turn.peers[who].lines[turn.broker]
            allowance = min(BYTES_BURST, line.allowance + cost)
            _put_line(turn, who, replace(line, allowance=allowance))
    except ProtocolError as error:
        turn.emit(Refuse(None, error.reason, str(error), who))


def _credited(turn: Turn, who: DeviceId) -> tuple[Peer, Line]:
    """A peer, and its line with what that earned since the last time."""
    peer = turn.peers.get(who) or Peer()
    line = peer.lines.get(turn.broker) or Line()
    gone_s = turn.now_s - line.at_s
    line = replace(
        line,
        allowance=min(BYTES_BURST, line.allowance + gone_s * BYTES_PER_S),
        asks=min(giving.ASKS_BURST, line.asks + gone_s * giving.ASKS_PER_S),
        answers=min(giving.ANSWERS_BURST, line.answers + gone_s * giving.ANSWERS_PER_S),
        at_s=turn.now_s,
    )
    return replace(peer, lines={**peer.lines, turn.broker: line}), line


def _put_line(turn: Turn, who: DeviceId, line: Line) -> None:
    peer = turn.peers[who]
    peer = replace(peer, lines={**peer.lines, turn.broker: line})
    turn.peers = {**turn.peers, who: peer}


def _take(turn: Turn, who: DeviceId, frame: Frame, elsewhere: bool) -> bool:
    """Takes a frame; whether it brought what we asked for."""
    try:
        subject = Subject(frame.subject)
    except ValueError as error:
        raise DecodeError("no such subject", Reason.UNKNOWN_KIND) from error
    match subject:
        case Subject.LEDGER:
            _ledger(turn, who, frame.content, elsewhere)
            return False
        case Subject.CHUNK:
            _chunk(turn, who, frame.content, elsewhere)
            return False
        case Subject.WANT:
            giving.asked(turn, who, WANT.unpack(frame.content))
            return False
        case Subject.PIECE:
            piece = GIVEN_PIECE.unpack(frame.content)
            longest = answer_bytes_max(turn, piece.asked)
            new, whole = pulling.piece_given(turn, who, piece, longest)
            if whole is not None:
                _answered(turn, who, Subject(whole.subject), whole.content)
            return new
        case _:
            before = turn.wanted
            _answered(turn, who, subject, frame.content)
            return turn.wanted is not before


def _answered(turn: Turn, who: DeviceId, subject: Subject, content: bytes) -> None:
    """Takes an answer, whoever gives it: it proves itself, or is not wanted."""
    match subject:
        case Subject.UPLOAD:
            upload_given(turn, who, GIVEN_UPLOAD.unpack(content))
        case Subject.KEY:
            key_given(turn, who, GIVEN_KEY.unpack(content))
        case Subject.WHOLE:
            _whole_given(turn, content)
        case Subject.MODEL:
            _model_given(turn, GIVEN_MODEL.unpack(content))
        case Subject.BLOCKS | Subject.SNAPSHOT | Subject.BUCKETS:
            catchup.given(turn, subject, content)
        case _:
            raise DecodeError("not an answer", Reason.UNKNOWN_KIND)


def answer_bytes_max(turn: Turn, subject: int) -> int:
    """The longest answer about a subject that any task or block needs."""
    specs = [task.spec for task in turn.tasks.values()]
    if subject in (Subject.UPLOAD, Subject.KEY):
        uploads = [upload_bytes_of(spec.codec, spec.dimension) for spec in specs]
        return max(uploads, default=0) + _FRAME_OVERHEAD_BYTES
    sizes = [wire.MESSAGE.bytes_max]
    sizes += [spec.bundle_bytes for spec in specs]
    sizes += vouching.sizes(turn)
    sizes += [_GRID_BYTES * spec.dimension for spec in specs]
    return max(sizes) + _FRAME_OVERHEAD_BYTES


def _chunk(turn: Turn, who: DeviceId, content: bytes, elsewhere: bool) -> None:
    chunk = CHUNK.unpack(content)
    line = turn.peers[who].lines[turn.broker]
    whole = chunk.digest, chunk.size
    known = [one for one in line.assemblies if (one.digest, one.size) == whole]
    others = [one for one in line.assemblies if (one.digest, one.size) != whole]
    (assembly,) = known or [Assembly.begin(*whole, LEDGER_FRAME_BYTES_MAX)]
    assembly = assembly.add(chunk)
    complete = None not in assembly.pieces
    kept = others if complete else [*others[1 - ASSEMBLIES_MAX :], assembly]
    _put_line(turn, who, replace(line, assemblies=tuple(kept)))
    if complete:
        frame = FRAME.unpack(assembly.whole())
        if frame.subject != Subject.LEDGER:
            raise DecodeError("chunks are for the ledger's", Reason.UNKNOWN_KIND)
        _ledger(turn, who, frame.content, elsewhere)


def _ledger(turn: Turn, who: DeviceId, content: bytes, elsewhere: bool) -> None:
    message = wire.MESSAGE.unpack(content)
    if message.topic == wire.Topic.PROPOSAL:
        proposal = PROPOSAL.unpack(message.content)
        if not offer.is_news(turn.ledger, proposal):
            return
        # Before anything is kept or asked for on its account.
        offer.check_maker(turn.ledger.party, proposal)
        lacks = _lacks(turn, proposal)
        if lacks:
            _park(turn, who, proposal, content, lacks)
            return
    elif message.topic == wire.Topic.TRANSACTION and _is_update(message.content):
        announced(turn, who, message.content)
        return
    elif message.topic == wire.Topic.TRANSACTION and vouching.told(
        turn, who, content, message.content
    ):
        return
    before = turn.ledger
    if message.topic == wire.Topic.STATUS:
        presence.status_came(turn, who, wire.STATUS.unpack(message.content), elsewhere)
    advance(turn, node.PeerMessage(content, who))
    if message.topic == wire.Topic.STATUS:
        catchup.look(turn)
    elif message.topic == wire.Topic.VOTE:
        presence.vote_came(turn, who, VOTE.unpack(message.content), before, elsewhere)


def _is_update(packed: bytes) -> bool:
    return transactions.unpack(packed).kind == Kind.UPDATE


def _lacks(turn: Turn, proposal: Proposal) -> tuple[tuple[bytes, Digest], ...]:
    """Updates of a proposed block whose vectors we do not hold.

    Raises:
      InvalidBlock, DecodeError: If the bytes are not those of the block that is named.
    """
    if proposal.block_id in turn.ledger.prepared:
        return ()
    block = offer.check_block(BLOCK.unpack(proposal.block), proposal.block_id)
    lacks = []
    for packed in block.transactions:
        envelope = transactions.unpack(packed)
        if envelope.kind == Kind.UPDATE:
            body = transactions.contribution(envelope.body)
            device = views.owner(turn.ledger.tree, envelope.sender)
            key = held_key(device, body.task, body.version)
            identity = envelope.identity(turn.settings.gate.chain_id)
            if not _holds(turn, key, identity):
                lacks.append((key, identity))
        elif envelope.kind == Kind.TASK:
            lacks.extend(vouching.lacks(turn, envelope))
    return tuple(lacks)


def _holds(turn: Turn, key: bytes, identity: Digest) -> bool:
    if key.startswith(vouching.KEY):
        return vouching.is_sound(turn, key, identity)
    held = turn.held.get(key)
    return held is not None and held.transaction == identity


def _park(
    turn: Turn,
    who: DeviceId,
    proposal: Proposal,
    message: bytes,
    lacks: tuple[tuple[bytes, Digest], ...],
) -> None:
    known = turn.parked.get(who)
    if known is not None and known.block_id != proposal.block_id:
        _give_back(turn, who, known)
    parked = Parked(proposal.height, proposal.round, proposal.block_id, message, lacks)
    turn.parked = {**turn.parked, who: parked}
    absent = [identity for key, identity in lacks if not key.startswith(vouching.KEY)]
    # Whoever offers a block, or passes it on, has what it names.
    want_later(turn, absent, first=who, source=who)


def _give_back(turn: Turn, who: DeviceId, parked: Parked) -> None:
    """What only this proposal needed is asked for no longer."""
    keys = wanting.vectors(identity for _, identity in parked.lacks)
    wanting.give_back(turn, keys, who)


def release_parked(turn: Turn) -> None:
    """Lets the ledger hear the proposals that wait no longer; forgets old ones."""
    for who, parked in sorted(turn.parked.items()):
        current = parked.height == turn.ledger.consensus.height
        lacks = any(not _holds(turn, key, identity) for key, identity in parked.lacks)
        if current and lacks and not _carried(turn, parked):
            continue
        turn.parked = {at: one for at, one in turn.parked.items() if at != who}
        if not current and not _decided(turn, parked):
            _give_back(turn, who, parked)
        if current:
            turn.speaker = who
            advance(turn, node.PeerMessage(parked.message))


def _decided(turn: Turn, parked: Parked) -> bool:
    """Whether the chain ends with a block, whose vectors we need then."""
    header = turn.ledger.header
    return header is not None and header.block_id() == parked.block_id


def _carried(turn: Turn, parked: Parked) -> bool:
    """Whether a quorum stands behind a block that we could not look into."""
    ballots, needed = (
        turn.ledger.consensus.ballots,
        turn.ledger.party.quorum,
    )
    return any(
        ballots.certificate(parked.round, kind, parked.block_id, needed) is not None
        for kind in VoteType
    )


def _whole_given(turn: Turn, content: bytes) -> None:
    (key,) = wanting.wholes([H(content)])
    if key in turn.wanted:
        turn.emit(StoreWhole(content))
        came(turn, [key])
        vouching.came(turn, content)


def _model_given(turn: Turn, given: GivenModel) -> None:
    key = wanting.want_key(Subject.MODEL, model_key(given.task, given.version))
    if key not in turn.wanted:
        return
    digest = views.version(turn.ledger.tree, given.task, given.version)
    if digest != version_digest(given.digests):
        raise InvalidUpdate("not what the chain made final", Reason.COMMITMENT_MISMATCH)
    wanting.forget(turn, [key])
    model_given(turn, given)


def repeat_what_waits(turn: Turn) -> None:
    """Tells others again what waits for a block for long: they may have missed it.

    Not what another coordinator told us: it tells again itself, and if it cannot, we
    put what we were told into a block of our own.
    """
    if turn.ledger.alone or turn.now_s < turn.repeat_at_s:
        return
    turn.repeat_at_s = turn.now_s + REPEAT_EVERY_S
    mempool = turn.ledger.mempool
    below, turn.repeat_below = turn.repeat_below, mempool.following
    if not mempool.size or not turn.connected:
        return
    for entry in mempool.oldest(REPEATED_MAX, wire.MESSAGE.bytes_max):
        if entry.place < below and not entry.source:
            message = wire.Message(wire.Topic.TRANSACTION, entry.packed)
            turn.emit(node.Gossip(wire.MESSAGE.pack(message)))
