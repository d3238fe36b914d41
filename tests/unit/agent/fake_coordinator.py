"""A coordinator with real proofs, in memory."""

import struct
from dataclasses import replace

from starling.agent.step import events as e
from starling.agent.step.state import AgentSettings, WaitTimes
from starling.protocol.chain.blocks import Certificate, Header, VoteType, vote_bytes
from starling.protocol.chain.board_statement import BOARD as BOARD_RECORD
from starling.protocol.chain.board_statement import (
    PROGRESS,
    STATEMENT,
    BoardRecord,
    BoardStatement,
    TaskProgress,
    board_key,
    head_key,
)
from starling.protocol.chain.genesis import (
    FORMAT_VERSION,
    FaultModel,
    Genesis,
    Validator,
    ValidatorSet,
)
from starling.protocol.chain.light_client import (
    FINAL,
    MANIFEST,
    FinalityProof,
    ModelManifest,
    pin,
    task_key,
    version_key,
)
from starling.protocol.chain.task_end import closure_key
from starling.protocol.crypto import merkle
from starling.protocol.crypto.keys import OpeningKey, SigningKey
from starling.protocol.crypto.sealed_blob import (
    SEALED,
    blob_digest,
    commitment,
    open_sealed,
)
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.errors import Reason
from starling.protocol.ids import BlockHash, Digest, H, TaskId, Version
from starling.protocol.learning.task import (
    E12,
    MICRO,
    Q15,
    Q24,
    TASK,
    AggregationPolicy,
    ModelDigests,
    PrivacyPolicy,
    Strategy,
    TaskSpec,
    TrainingMode,
    TrainingPolicy,
    version_digest,
)
from starling.protocol.privacy.gaussian_dp import Budget
from starling.protocol.privacy.mechanisms import NONE, RECORD_GAUSSIAN
from starling.protocol.wire.chunks import CHUNK, ChunkAssembly, chunk_at
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from starling.protocol.wire.message_bodies import (
    ACCEPTED,
    CHECK_IN,
    CHUNK_REQUEST,
    CONTRIBUTION,
    COORDINATOR_STATE,
    LEASE,
    REFUSED,
    UPLOAD,
    Accepted,
    CoordinatorOnlineState,
    Lease,
    Refused,
    Upload,
)
from starling.protocol.wire.topics import Topics

TASK_NUMBER = TaskId(0)
DIMENSION = 4
BUNDLE = b"bundle" * 15000
BOARD = SigningKey(b"\x07" * 32)
COORDINATOR = SigningKey(b"\x01" * 32)
OPENING = OpeningKey(b"\x02" * 32)
STRANGER = SigningKey(b"\x03" * 32)
VALIDATORS = ValidatorSet((Validator(COORDINATOR.public, OPENING.public, "c"),))
GENESIS = Genesis(
    FORMAT_VERSION, "meadow", 1, FaultModel.BYZANTINE, VALIDATORS, (STRANGER.public,), 5
)
CHAIN = GENESIS.chain_id()
PINNED = pin(GENESIS)
TOPICS = Topics("meadow")
CAP = Budget(8.0, 1e-5)
PRIVATE = PrivacyPolicy(RECORD_GAUSSIAN, Q24, 6 * MICRO, 8 * MICRO, E12 // 10**5, 15)
OPEN = PrivacyPolicy(NONE, 0, 0, 0, 0, 15)


EACH_VERSION = 1000
"""Heights from one version's manifest to the next."""
RECORD = BoardRecord(BOARD.public, STRANGER.identity, 1, 0, 0, 0)


def theta(version: int) -> bytes:
    """Parameters of a version, other ones each time."""
    return struct.pack("<4f", version, 1.0, 2.0, 3.0)


def average(version: int) -> bytes:
    """What inference uses of a version."""
    return struct.pack("<4f", version, 0.5, 0.5, 0.5)


def model(version: int) -> ModelDigests:
    """Digests of a version."""
    other = H(b"%d" % version)
    return ModelDigests(other, other, other, H(theta(version)), H(average(version)))


def task_spec(privacy: PrivacyPolicy = PRIVATE, staleness_max: int = 2) -> TaskSpec:
    """A task for four parameters."""
    table = tuple([Q15] * (staleness_max + 1))
    aggregation = AggregationPolicy(
        Strategy.FEDBUFF, 1, 1 << 16, 0, 0, table, 4, 5, 1 << 40
    )
    training = TrainingPolicy(TrainingMode.GRADIENT, 1, 1, 0)
    return TaskSpec(
        "t",
        H(BUNDLE),
        len(BUNDLE),
        DIMENSION,
        0,
        model(0),
        training,
        privacy,
        aggregation,
        (16, 32, 64),
        0,
    )


def header_over(state_root: Digest, tx_root: Digest, height: int) -> Header:
    """A header of the meadow's chain."""
    return Header(
        FORMAT_VERSION,
        CHAIN,
        height,
        0,
        BlockHash(H(b"parent")),
        tx_root,
        state_root,
        VALIDATORS.digest(),
        VALIDATORS.digest(),
        0,
    )


def certify(header: Header, key: SigningKey = COORDINATOR) -> Certificate:
    """The one validator's precommit for a header."""
    block_id = header.block_id()
    signed = vote_bytes(CHAIN, VoteType.PRECOMMIT, header.height, 0, block_id, 0)
    return Certificate(header.height, 0, block_id, 1, (key.sign(signed),), (0,))


def manifest(
    version: int,
    spec: TaskSpec | None = None,
    key: SigningKey = COORDINATOR,
    task: TaskId = TASK_NUMBER,
    *,
    closed: bool = False,
) -> bytes:
    """A version with everything that proves it, and that its task is closed, if so."""
    spec = spec or task_spec()
    keys = (task_key(task), version_key(task, version))
    tree = StateTree().update(
        {keys[0]: TASK.pack(spec), keys[1]: version_digest(model(version))}
    )
    if closed:
        tree = tree.update({closure_key(task): b"at some height"})
    height = (version + 1) * EACH_VERSION + 100 * task + 500 * closed
    header = header_over(tree.root(), merkle.root([]), height)
    return MANIFEST.pack(
        ModelManifest(
            task,
            Version(version),
            model(version),
            header,
            certify(header, key),
            tree.prove(keys[1]),
            tree.prove(keys[0]),
            end=tree.prove(closure_key(task)) if closed else None,
        )
    )


def statement(
    asked: Digest,
    head: int,
    height: int,
    board: BoardRecord = RECORD,
    key: SigningKey = COORDINATOR,
    task: TaskId = TASK_NUMBER,
) -> bytes:
    """What the chain knows of the board, with everything that proves it."""
    progress = PROGRESS.pack(TaskProgress(Version(head), 0, 0, 0))
    keys = board_key(BOARD.identity), head_key(task)
    tree = StateTree().update({keys[0]: BOARD_RECORD.pack(board), keys[1]: progress})
    header = header_over(tree.root(), merkle.root([]), height)
    proofs = [tree.prove(each) for each in keys]
    body = BoardStatement(asked, header, certify(header, key), *proofs)
    return said_by(MessageKind.STATEMENT, STATEMENT.pack(body), key)


def said_by(kind: MessageKind, body: bytes, key: SigningKey = COORDINATOR) -> bytes:
    """A packed envelope of a coordinator."""
    return ENVELOPE.pack(sign(key, CHAIN, kind, 1, body))


def lease(version: int, key: SigningKey = COORDINATOR) -> bytes:
    """A lease for the board."""
    body = Lease(BOARD.identity, TASK_NUMBER, Version(version), 1, 60)
    return said_by(MessageKind.LEASE, LEASE.pack(body), key)


def accepted(update: Digest, key: SigningKey = COORDINATOR) -> bytes:
    """A receipt."""
    return said_by(MessageKind.ACCEPTED, ACCEPTED.pack(Accepted(update)), key)


def refused(subject: Digest, reason: Reason, retry_after_s: int = 0) -> bytes:
    """A refusal."""
    body = Refused(subject, reason, retry_after_s, "no")
    return said_by(MessageKind.REFUSED, REFUSED.pack(body))


def final(update: Envelope, key: SigningKey = COORDINATOR) -> bytes:
    """That an update stands in a block."""
    packed = ENVELOPE.pack(update)
    header = header_over(H(b"state"), merkle.root([packed]), 9)
    proof = FinalityProof(update, header, certify(header, key), 0, 1, ())
    return said_by(MessageKind.FINAL, FINAL.pack(proof))


def coordinator_state(online: int) -> bytes:
    """A coordinator comes or goes."""
    body = COORDINATOR_STATE.pack(CoordinatorOnlineState(online, 1))
    return said_by(MessageKind.COORDINATOR_STATE, body)


def settings(boot: int = 1, **changes: object) -> AgentSettings:
    """The board's settings, with changes."""
    plain = AgentSettings(
        BOARD,
        TOPICS,
        TASK_NUMBER,
        boot,
        b"seed",
        pledge=40,
        pace=WaitTimes(release_s=0.0),
    )
    return replace(plain, **changes)  # type: ignore[arg-type] # tests name real fields


class FakeCoordinator:
    """The coordinator's side: serves models, grants leases, makes versions."""

    def __init__(self, spec: TaskSpec | None = None, last: int = 1 << 30) -> None:
        """Begins with version 0, and ends with version `last`."""
        self.last = last
        self.lonely = False
        self.spec = spec or task_spec()
        self.head = 0
        self.updates: dict[int, set[Digest]] = {}
        self.assembly: ChunkAssembly | None = None
        self.lose_uploads = 0
        self.statements = 0
        self.record: BoardRecord | None = RECORD

    def states(self, asked: Digest) -> list[e.Event]:
        """Proves the board's record, under another header each time."""
        if self.record is None:
            return []
        self.statements += 1
        height = (self.head + 1) * EACH_VERSION + self.statements
        return [e.DownArrived(statement(asked, self.head, height, self.record))]

    def receive(self, payload: bytes) -> list[e.Event]:
        """Answers what a board says."""
        envelope = ENVELOPE.unpack(payload)
        envelope.check(CHAIN)
        if envelope.kind == MessageKind.CHECK_IN:
            said = CHECK_IN.unpack(envelope.body)
            stated = self.states(envelope.identity(CHAIN)) if said.asks else []
            return [*stated, e.DownArrived(lease(said.version))]
        if envelope.kind == MessageKind.FORFEIT:
            known = refused(envelope.identity(CHAIN), Reason.ALREADY_KNOWN)
            return [e.DownArrived(known)]
        if envelope.kind == MessageKind.CHUNK_REQUEST:
            request = CHUNK_REQUEST.unpack(envelope.body)
            whole = self.blobs().get(request.digest, b"")
            return [
                e.ModelChunkArrived(CHUNK.pack(chunk_at(whole, request.digest, i)))
                for i in request.indices
                if whole
            ]
        return []

    def others(self) -> e.Event:
        """Other boards make the next version."""
        assert self.head < self.last, "nothing will ever happen"
        assert not self.lonely, "nothing will ever happen"
        self.head += 1
        return e.ManifestArrived(manifest(self.head, self.spec))

    def blobs(self) -> dict[Digest, bytes]:
        """Everything that can be pulled."""
        found = [BUNDLE]
        for version in range(self.head + 1):
            found += [theta(version), average(version)]
        return {H(whole): whole for whole in found}

    def take(self, payload: bytes) -> list[e.Event]:
        """Takes a chunk of an upload; the last one makes the next version."""
        chunk = CHUNK.unpack(payload)
        if self.assembly is None or self.assembly.digest != chunk.digest:
            self.assembly = ChunkAssembly.begin(chunk.digest, chunk.size, 1 << 20)
        self.assembly = self.assembly.add(chunk)
        if self.assembly.missing:
            return []
        upload = UPLOAD.unpack(self.assembly.whole())
        self.assembly = None
        if self.lose_uploads:
            self.lose_uploads -= 1
            return []
        check_upload(upload)
        base = CONTRIBUTION.unpack(upload.update.body).version
        identity = upload.update.identity(CHAIN)
        is_new = identity not in self.updates.setdefault(base, set())
        self.updates[base].add(identity)
        answers: list[e.Event] = [
            e.DownArrived(accepted(identity)),
            e.DownArrived(final(upload.update)),
        ]
        if is_new and self.head < self.last:
            self.head += 1
            answers.append(e.ManifestArrived(manifest(self.head, self.spec)))
        return answers


def check_upload(upload: Upload) -> None:
    """What every coordinator checks: signature, seal, commitment."""
    upload.update.check(CHAIN)
    body = CONTRIBUTION.unpack(upload.update.body)
    assert blob_digest(upload.blob) == body.blob
    key, plaintext = open_sealed(
        SEALED.unpack(upload.blob), OPENING, upload.update.sender
    )
    assert commitment(key, plaintext) == body.commitment
