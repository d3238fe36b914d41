"""One worked example of every structure that travels, built from fixed seeds.

A chain of four validators has certified a block with one contribution of one board;
`STRUCTURES` holds the block, its proofs and every message on the way there.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from protocol import (
    chain,
    chunks,
    economy,
    envelope,
    evidence,
    genesis,
    light,
    merkle,
    messages,
    motion,
    payment,
    rotation,
    score,
    sealing,
    statement,
    statetree,
    task,
)
from protocol.codec import Codec
from protocol.envelope import Kind, sign
from protocol.ids import BlockHash, DeviceId, Digest, H, TaskId, Version
from protocol.keys import OpeningKey, SigningKey

OPERATOR = SigningKey(bytes(range(32)))
BOARD = SigningKey(bytes(range(32, 64)))
ENTROPY = bytes(range(64, 96))
PLAINTEXT = b"\x00" + bytes(range(256)) * 2
_NAMES = ("athens", "bergen", "cadiz", "delft")
_PAIRS = sorted(
    (
        (SigningKey(bytes([1 + i]) * 32), OpeningKey(bytes([65 + i]) * 32))
        for i in range(len(_NAMES))
    ),
    key=lambda pair: pair[0].public,
)
VALIDATOR_KEYS = tuple(signing for signing, _ in _PAIRS)
OPENING_KEYS = tuple(opening for _, opening in _PAIRS)
VALIDATORS = genesis.ValidatorSet(
    tuple(
        genesis.Validator(signing.public, opening.public, name)
        for (signing, opening), name in zip(_PAIRS, _NAMES, strict=True)
    )
)
GENESIS = genesis.Genesis(
    genesis.FORMAT_VERSION,
    "demo",
    1_700_000_000_000,
    genesis.FaultModel.BYZANTINE,
    VALIDATORS,
    (OPERATOR.public,),
    60,
    economy.Economy(10**9, 10**6, 10**5, 500),
)
CHAIN_ID = GENESIS.chain_id()

MODEL = task.ModelDigests(
    *(Digest(H(name)) for name in (b"theta", b"momentum", b"average", b"f32", b"ema"))
)
SPEC = task.TaskSpec(
    "digits",
    H(b"bundle"),
    70_000,
    6_490,
    1,
    MODEL,
    task.TrainingPolicy(task.TrainingMode.GRADIENT, 1, 32, task.Q24 // 10),
    task.PrivacyPolicy(1, task.Q24, 3_419_000, 8 * task.MICRO, 10**7, 15),
    task.AggregationPolicy(
        task.Strategy.FEDBUFF,
        10,
        task.Q16 // 2,
        task.Q16 // 2,
        task.Q16 * 9 // 10,
        task.polynomial_staleness(0.5, 20),
        30,
        20,
        1 << 36,
    ),
    task.geometric_pledges(16, 1.5),
    1_000_000,
)
BLOB, COMMITMENT = sealing.seal(
    PLAINTEXT, [key.public for key in OPENING_KEYS], ENTROPY, BOARD.public
)
SEALED = sealing.SEALED.unpack(BLOB)
CONTRIBUTION = messages.Contribution(
    TaskId(0),
    Version(3),
    1,
    128,
    1,
    85_546_875_000,
    sealing.blob_digest(BLOB),
    COMMITMENT,
    256_640_625_000,
)
LEASE = messages.Lease(BOARD.identity, TaskId(0), Version(3), 17, 120)
UPDATE = sign(BOARD, CHAIN_ID, Kind.UPDATE, 4, messages.CONTRIBUTION.pack(CONTRIBUTION))
STATE = statetree.StateTree().update(
    {
        light.version_key(0, 3): task.version_digest(MODEL),
        light.task_key(0): task.TASK.pack(SPEC),
        **{b"board/%d" % i: b"value %d" % i for i in range(300)},
    }
)


def certify(
    header: chain.Header,
    keys: tuple[SigningKey, ...] = VALIDATOR_KEYS,
    voters: tuple[int, ...] = (0, 1, 2),
    round_: int = 0,
) -> chain.Certificate:
    """A certificate of these voters' precommits; times rise with the voter."""
    block_id = header.block_id()
    extras = tuple(header.time_ms + 100 + voter for voter in voters)
    signatures = tuple(
        keys[voter].sign(
            chain.vote_bytes(
                header.chain_id,
                chain.VoteType.PRECOMMIT,
                header.height,
                round_,
                block_id,
                extra,
            )
        )
        for voter, extra in zip(voters, extras, strict=True)
    )
    mask = sum(1 << voter for voter in voters)
    return chain.Certificate(header.height, round_, block_id, mask, signatures, extras)


TRANSACTIONS = (
    envelope.ENVELOPE.pack(UPDATE),
    *(b"another transaction %d" % i for i in range(99)),
)
HEADER = chain.Header(
    genesis.FORMAT_VERSION,
    CHAIN_ID,
    12,
    1_700_000_060_000,
    BlockHash(H(b"parent")),
    merkle.root(TRANSACTIONS),
    STATE.root(),
    VALIDATORS.digest(),
    VALIDATORS.digest(),
    merkle.EMPTY_ROOT,
    2,
)
CERTIFICATE = certify(HEADER)
BLOCK = chain.Block(HEADER, TRANSACTIONS[:3])


def prevote_of(block_id: BlockHash | None) -> chain.Vote:
    """What validator 1 says in round 1 of height 12, to all or to some."""
    kind = chain.VoteType.PREVOTE
    signed = chain.vote_bytes(CHAIN_ID, kind, 12, 1, block_id, 0)
    return chain.Vote(kind, 12, 1, block_id, 0, 1, VALIDATOR_KEYS[1].sign(signed))


PREVOTE = prevote_of(HEADER.block_id())
_UNSIGNED = chain.Proposal(
    12, 1, 1, HEADER.block_id(), 2, bytes(64), chain.BLOCK.pack(BLOCK), CERTIFICATE
)
PROPOSAL = chain.Proposal(
    12,
    1,
    1,
    HEADER.block_id(),
    2,
    VALIDATOR_KEYS[2].sign(_UNSIGNED.signed_bytes(CHAIN_ID)),
    chain.BLOCK.pack(BLOCK),
    CERTIFICATE,
)
MANIFEST = light.Manifest(
    TaskId(0),
    Version(3),
    MODEL,
    HEADER,
    CERTIFICATE,
    STATE.prove(light.version_key(0, 3)),
    STATE.prove(light.task_key(0)),
)
FINAL = light.Final(
    UPDATE, HEADER, CERTIFICATE, 0, len(TRANSACTIONS), merkle.path(TRANSACTIONS, 0)
)
RECORD = statement.Board(
    BOARD.public,
    OPERATOR.identity,
    2,
    0,
    2,
    171_093_750_000,
    paid=256_640_625_000,
    mechanisms=2,
)
PROGRESS = statement.Progress(Version(3), 5, 7, 2)
KNOWN = statetree.StateTree().update(
    {
        statement.board_key(BOARD.identity): statement.BOARD.pack(RECORD),
        statement.head_key(0): statement.PROGRESS.pack(PROGRESS),
    }
)
LATER = replace(HEADER, height=13, state_root=KNOWN.root())
STATEMENT = statement.Statement(
    UPDATE.identity(CHAIN_ID),
    LATER,
    certify(LATER),
    KNOWN.prove(statement.board_key(BOARD.identity)),
    KNOWN.prove(statement.head_key(0)),
)
LEASE_ENVELOPE = sign(
    VALIDATOR_KEYS[0], CHAIN_ID, Kind.LEASE, 17, messages.LEASE.pack(LEASE)
)
NEXT_BOARD = SigningKey(bytes(range(96, 128)))
ROTATE = rotation.rotate(BOARD.identity, BOARD, NEXT_BOARD, CHAIN_ID, 5)
NEW_OPERATOR = SigningKey(bytes(range(128, 160)))


def motion_of(kind: Kind, content: bytes) -> motion.Motion:
    """A motion that three of the four validators approved."""
    made = motion.Motion(kind, 7, 20_000, content)
    for key in VALIDATOR_KEYS[:3]:
        made = made.approved(key, CHAIN_ID)
    return made


OPERATOR_CHANGE = motion.OperatorChange(1, NEW_OPERATOR.public)
MOTION = motion_of(Kind.OPERATOR, motion.OPERATOR_CHANGE.pack(OPERATOR_CHANGE))


CHANGED = genesis.ValidatorSet(VALIDATORS.members[:3])
CHANGING = replace(HEADER, height=11, next_validators=CHANGED.digest())
HANDOVER = light.Handover(CHANGING, certify(CHANGING), CHANGED)


class Structure(NamedTuple):
    """A structure's codec under its module's name for it, and an example."""

    name: str
    codec: Codec[Any]
    example: Any


STRUCTURES = (
    Structure("ENVELOPE", envelope.ENVELOPE, UPDATE),
    Structure("SEALED", sealing.SEALED, SEALED),
    Structure("CHUNK", chunks.CHUNK, chunks.split(b"a small whole")[0]),
    Structure("MODEL_DIGESTS", task.MODEL_DIGESTS, MODEL),
    Structure("TASK", task.TASK, SPEC),
    Structure(
        "DEVICE_STATE",
        messages.DEVICE_STATE,
        messages.DeviceState(messages.DevicePhase.TRAINING, 7, 3, 2_500_000),
    ),
    Structure(
        "COORDINATOR_STATE",
        messages.COORDINATOR_STATE,
        messages.CoordinatorState(1, 12),
    ),
    Structure(
        "CHECK_IN",
        messages.CHECK_IN,
        messages.CheckIn(
            TaskId(0),
            Version(3),
            800_000,
            950_000,
            687_500,
            128,
            statement.Asks.GRANTOR,
        ),
    ),
    Structure("LEASE", messages.LEASE, LEASE),
    Structure("CONTRIBUTION", messages.CONTRIBUTION, CONTRIBUTION),
    Structure("UPLOAD", messages.UPLOAD, messages.Upload(UPDATE, LEASE_ENVELOPE, BLOB)),
    Structure(
        "ACCEPTED", messages.ACCEPTED, messages.Accepted(UPDATE.identity(CHAIN_ID))
    ),
    Structure(
        "REFUSED",
        messages.REFUSED,
        messages.Refused(UPDATE.identity(CHAIN_ID), 6, 30, "no lease for version 3"),
    ),
    Structure(
        "CHUNK_REQUEST",
        messages.CHUNK_REQUEST,
        messages.ChunkRequest(H(b"bundle"), (0, 1)),
    ),
    Structure("REGISTER", messages.REGISTER, messages.Register(BOARD.public)),
    Structure("REVOKE", messages.REVOKE, messages.Revoke(DeviceId(BOARD.identity))),
    Structure(
        "ATTEST",
        messages.ATTEST,
        messages.Attest(TaskId(0), Version(4), task.version_digest(MODEL)),
    ),
    Structure(
        "EVIDENCE",
        evidence.EVIDENCE,
        evidence.duplicate_votes(PREVOTE, prevote_of(None)),
    ),
    Structure(
        "SHOWN_BOXES",
        evidence.SHOWN_BOXES,
        evidence.ShownBoxes(
            12,
            OPENING_KEYS[0].public,
            ENTROPY,
            H(PLAINTEXT),
            SEALED.ephemeral,
            SEALED.boxes,
            H(SEALED.ciphertext),
        ),
    ),
    Structure("ROTATE", rotation.ROTATE, rotation.ROTATE.unpack(ROTATE.body)),
    Structure("MOTION", motion.MOTION, MOTION),
    Structure("OPERATOR_CHANGE", motion.OPERATOR_CHANGE, OPERATOR_CHANGE),
    Structure("PRESENT", messages.PRESENT, messages.Present(7)),
    Structure(
        "VALIDATOR_CHANGE",
        motion.VALIDATOR_CHANGE,
        motion.ValidatorChange(
            genesis.Validator(
                NEW_OPERATOR.public, OpeningKey(bytes(32)).public, "evora"
            ),
            None,
        ),
    ),
    Structure(
        "PARAMETER_CHANGE",
        motion.PARAMETER_CHANGE,
        motion.ParameterChange(motion.Parameter.HEARTBEAT_S, 30, 20_100),
    ),
    Structure("UPGRADE_CHANGE", motion.UPGRADE_CHANGE, motion.UpgradeChange(2, 30_000)),
    Structure("FUND", economy.FUND, economy.Fund(TaskId(0), 1_000_000)),
    Structure(
        "TRANSFER", economy.TRANSFER, economy.Transfer(BOARD.identity, 1_000_000)
    ),
    Structure("UNJAIL", economy.UNJAIL, economy.Unjail(BOARD.identity)),
    Structure("RELEASE", economy.RELEASE, economy.Release(BOARD.identity)),
    Structure(
        "SCORE",
        score.SCORE,
        score.Score(TaskId(0), Version(3), (250_000, -1_000_000, 0)),
    ),
    Structure("SCORES", score.SCORES, score.Scores(112, 3, (250_000, -90_000, 0))),
    Structure(
        "PAYMENTS",
        payment.PAYMENTS,
        payment.Payments((payment.Payment(BOARD.identity, 333_334),)),
    ),
    Structure(
        "FORFEIT", messages.FORFEIT, messages.Forfeit(TaskId(0), Version(3), 9, 27)
    ),
    Structure("VALIDATOR_SET", genesis.VALIDATOR_SET, VALIDATORS),
    Structure("GENESIS", genesis.GENESIS, GENESIS),
    Structure("HEADER", chain.HEADER, HEADER),
    Structure("BLOCK", chain.BLOCK, BLOCK),
    Structure("VOTE", chain.VOTE, PREVOTE),
    Structure("CERTIFICATE", chain.CERTIFICATE, CERTIFICATE),
    Structure("PROPOSAL", chain.PROPOSAL, PROPOSAL),
    Structure(
        "STATE_PROOF", statetree.STATE_PROOF, STATE.prove(light.version_key(0, 3))
    ),
    Structure("TRUSTED", light.TRUSTED, light.pin(GENESIS)),
    Structure("MANIFEST", light.MANIFEST, MANIFEST),
    Structure("HANDOVER", light.HANDOVER, HANDOVER),
    Structure("FINAL", light.FINAL, FINAL),
    Structure("BOARD", statement.BOARD, RECORD),
    Structure("PROGRESS", statement.PROGRESS, PROGRESS),
    Structure("STATEMENT", statement.STATEMENT, STATEMENT),
)
