"""Gossip from other coordinators: their ledger's messages, requests and answers.

Each peer has an allowance of bytes and of requests, and one long frame in assembly. A
proposal is heard by the ledger only when we hold the vectors of the updates in it, or
when a quorum prevoted or precommitted its block without us (DESIGN 3.10): then the
block stands whatever we think, and the vectors are fetched afterwards.
"""

from dataclasses import replace

from coordinator import catchup, membership, wanting
from coordinator.effects import Give, Refuse, StoreWhole
from coordinator.events import PeerArrived
from coordinator.gossip import (
    FRAME,
    GIVEN_KEY,
    GIVEN_MODEL,
    GIVEN_UPLOAD,
    WANT,
    Frame,
    GivenModel,
    Subject,
    Want,
    model_key,
)
from coordinator.ledger import node, transactions, views, wire
from coordinator.sharing import (
    announced,
    came,
    give_key,
    key_given,
    upload_given,
    want_later,
)
from coordinator.state import Parked, Peer, held_key
from coordinator.submission import advance
from coordinator.turn import Turn
from coordinator.versioning import model_given
from protocol.chain import BLOCK, PROPOSAL, Proposal, VoteType
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

BYTES_PER_S = 16e6
"""That one peer may say in the long run."""
BYTES_BURST = 128e6
MESSAGE_COST_MIN_BYTES = 4096
"""That a message counts for at least: short ones cost decoding and a signature."""
ASKS_PER_S = 256.0
ASKS_BURST = 4096.0
ASKS_OF_RANGE = 16
"""As how many things a range of blocks or buckets counts."""
ASKS_OF_KEY = 16
"""As how many a content key counts, for which a blob is opened."""
_ASKS_OF = {
    Subject.BLOCKS: ASKS_OF_RANGE,
    Subject.BUCKETS: ASKS_OF_RANGE,
    Subject.KEY: ASKS_OF_KEY,
}
REPEAT_EVERY_S = 1.0
REPEATED_MAX = 64
_FRAME_OVERHEAD_BYTES = 64 * 1024
_GRID_BYTES = 8


def heard(turn: Turn, event: PeerArrived) -> None:
    """Takes a message of another coordinator; a bad one is counted."""
    who = turn.speaker = event.peer
    try:
        if not membership.is_coordinator(turn.ledger, who):
            raise SignatureError("not a coordinator", Reason.NOT_AUTHORISED)
        if who == membership.own_id(turn.ledger):
            return
        peer = _credited(turn, who)
        cost = max(MESSAGE_COST_MIN_BYTES, len(event.payload))
        if cost > peer.allowance:
            raise LimitError(f"{device_name(who)} says too much", Reason.BUSY)
        allowance = peer.allowance - cost
        turn.peers = {
            **turn.peers,
            who: replace(
                peer,
                heard_at_s=turn.now_s,
                near_at_s=peer.near_at_s if event.elsewhere else turn.now_s,
                allowance=allowance,
            ),
        }
        _take(turn, who, FRAME.unpack(event.payload))
    except ProtocolError as error:
        turn.emit(Refuse(None, error.reason, str(error), who))


def _credited(turn: Turn, who: DeviceId) -> Peer:
    """A peer with what it earned since the last time."""
    peer = turn.peers.get(who) or Peer()
    gone_s = turn.now_s - peer.at_s
    return replace(
        peer,
        allowance=min(BYTES_BURST, peer.allowance + gone_s * BYTES_PER_S),
        asks=min(ASKS_BURST, peer.asks + gone_s * ASKS_PER_S),
        at_s=turn.now_s,
    )


def _take(turn: Turn, who: DeviceId, frame: Frame) -> None:
    try:
        subject = Subject(frame.subject)
    except ValueError as error:
        raise DecodeError("no such subject", Reason.UNKNOWN_KIND) from error
    match subject:
        case Subject.LEDGER:
            _ledger(turn, who, frame.content)
        case Subject.CHUNK:
            _chunk(turn, who, frame.content)
        case Subject.WANT:
            _wanted(turn, who, WANT.unpack(frame.content))
        case Subject.UPLOAD:
            upload_given(turn, who, GIVEN_UPLOAD.unpack(frame.content))
        case Subject.KEY:
            key_given(turn, who, GIVEN_KEY.unpack(frame.content))
        case Subject.WHOLE:
            _whole_given(turn, frame.content)
        case Subject.MODEL:
            _model_given(turn, GIVEN_MODEL.unpack(frame.content))
        case Subject.BLOCKS | Subject.SNAPSHOT | Subject.BUCKETS:
            catchup.given(turn, subject, frame.content)


def frame_bytes_max(turn: Turn) -> int:
    """The longest frame that any task or block needs."""
    specs = [task.spec for task in turn.tasks.values()]
    sizes = [wire.MESSAGE.bytes_max]
    sizes += [spec.bundle_bytes for spec in specs]
    sizes += [_GRID_BYTES * spec.dimension for spec in specs]
    return max(sizes) + _FRAME_OVERHEAD_BYTES


def _chunk(turn: Turn, who: DeviceId, content: bytes) -> None:
    chunk = CHUNK.unpack(content)
    peer = turn.peers[who]
    assembly = peer.assembly
    if assembly is None or (assembly.digest, assembly.size) != (
        chunk.digest,
        chunk.size,
    ):
        assembly = Assembly.begin(chunk.digest, chunk.size, frame_bytes_max(turn))
    assembly = assembly.add(chunk)
    complete = None not in assembly.pieces
    kept = None if complete else assembly
    turn.peers = {**turn.peers, who: replace(peer, assembly=kept)}
    if complete:
        frame = FRAME.unpack(assembly.whole())
        if frame.subject == Subject.CHUNK:
            raise DecodeError("a chunk of chunks")
        _take(turn, who, frame)


def _ledger(turn: Turn, who: DeviceId, content: bytes) -> None:
    message = wire.MESSAGE.unpack(content)
    if message.topic == wire.Topic.STATUS:
        status = wire.STATUS.unpack(message.content)
        peer = replace(turn.peers[who], height=status.height, round=status.round)
        turn.peers = {**turn.peers, who: peer}
    elif message.topic == wire.Topic.PROPOSAL:
        proposal = PROPOSAL.unpack(message.content)
        lacks = _lacks(turn, proposal)
        if lacks:
            _park(turn, who, proposal, content, lacks)
            return
    elif message.topic == wire.Topic.TRANSACTION and _is_update(message.content):
        announced(turn, who, message.content)
        return
    advance(turn, node.PeerMessage(content, who))
    if message.topic == wire.Topic.STATUS:
        catchup.look(turn)


def _is_update(packed: bytes) -> bool:
    return transactions.unpack(packed).kind == Kind.UPDATE


def _lacks(turn: Turn, proposal: Proposal) -> tuple[tuple[bytes, Digest], ...]:
    """Updates of a proposed block whose vectors we do not hold."""
    if proposal.height != turn.ledger.consensus.height:
        return ()
    if proposal.block_id in turn.ledger.prepared:
        return ()
    lacks = []
    for packed in BLOCK.unpack(proposal.block).transactions:
        envelope = transactions.unpack(packed)
        if envelope.kind == Kind.UPDATE:
            body = transactions.contribution(envelope.body)
            device = views.owner(turn.ledger.tree, envelope.sender)
            key = held_key(device, body.task, body.version)
            identity = envelope.identity(turn.settings.gate.chain_id)
            if not _holds(turn, key, identity):
                lacks.append((key, identity))
    return tuple(lacks)


def _holds(turn: Turn, key: bytes, identity: Digest) -> bool:
    held = turn.held.get(key)
    return held is not None and held.transaction == identity


def _park(
    turn: Turn,
    who: DeviceId,
    proposal: Proposal,
    message: bytes,
    lacks: tuple[tuple[bytes, Digest], ...],
) -> None:
    parked = Parked(proposal.height, proposal.round, proposal.block_id, message, lacks)
    turn.parked = {**turn.parked, who: parked}
    absent = [
        identity
        for _, identity in lacks
        if turn.wanted.keys().isdisjoint(wanting.keys([identity]))
    ]
    want_later(turn, absent)


def release_parked(turn: Turn) -> None:
    """Lets the ledger hear the proposals that wait no longer; forgets old ones."""
    for who, parked in sorted(turn.parked.items()):
        current = parked.height == turn.ledger.consensus.height
        lacks = any(not _holds(turn, key, identity) for key, identity in parked.lacks)
        if current and lacks and not _carried(turn, parked):
            continue
        turn.parked = {at: one for at, one in turn.parked.items() if at != who}
        if not current and not _decided(turn, parked):
            needed = {key for task in turn.tasks.values() for key in task.lacking}
            keys = wanting.vectors(identity for _, identity in parked.lacks)
            wanting.forget(turn, [key for key in keys if key not in needed])
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


def _wanted(turn: Turn, who: DeviceId, asked: Want) -> None:
    if asked.asked != membership.own_id(turn.ledger):
        return
    try:
        subject = Subject(asked.subject)
    except ValueError as error:
        raise DecodeError("no such subject", Reason.UNKNOWN_KIND) from error
    peer = turn.peers[who]
    asks = peer.asks - _ASKS_OF.get(subject, 1) * len(asked.keys)
    if asks < 0:
        raise LimitError(f"{device_name(who)} asks too much", Reason.BUSY)
    turn.peers = {**turn.peers, who: replace(peer, asks=asks)}
    for key in asked.keys:
        if subject is Subject.KEY:
            give_key(turn, who, Digest(key))
        else:
            turn.emit(Give(subject, key))


def _whole_given(turn: Turn, content: bytes) -> None:
    (key,) = wanting.wholes([H(content)])
    if key in turn.wanted:
        turn.emit(StoreWhole(content))
        came(turn, [key])


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
