"""One worked example of every structure that travels, built from fixed seeds.

A chain of four validators has certified a block with one contribution of one board;
`STRUCTURES` holds the block, its proofs and every message on the way there.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from starling.protocol.chain import (
    blocks,
    board_statement,
    credit_policy,
    evidence,
    founding_messages,
    genesis,
    governance,
    key_rotation,
    light_client,
    payments,
    task_rollback,
    update_scores,
)
from starling.protocol.crypto import merkle, scram, sealed_blob, state_tree
from starling.protocol.crypto.keys import OpeningKey, SigningKey
from starling.protocol.ids import BlockHash, DeviceId, Digest, H, TaskId, Version
from starling.protocol.learning import progress_guard, task
from starling.protocol.schema.msgpack_codec import Codec
from starling.protocol.wire import (
    chunk_deltas,
    chunks,
    enrolment_messages,
    envelope,
    health_messages,
    message_bodies,
    renewal_messages,
)
from starling.protocol.wire.envelope import MessageKind, sign
from tests.vectors import founding_samples

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
    credit_policy.CreditPolicy(10**9, 10**6, 10**5, 500),
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
        tuple(round(task.Q15 * (1 + tau) ** -0.5) for tau in range(21)),
        30,
        20,
        1 << 36,
    ),
    task.geometric_pledges(16, 1.5),
    1_000_000,
)
BLOB, COMMITMENT = sealed_blob.seal(
    PLAINTEXT, [key.public for key in OPENING_KEYS], ENTROPY, BOARD.public
)
SEALED = sealed_blob.SEALED.unpack(BLOB)
CONTRIBUTION = message_bodies.Contribution(
    TaskId(0),
    Version(3),
    1,
    128,
    1,
    85_546_875_000,
    sealed_blob.blob_digest(BLOB),
    COMMITMENT,
    256_640_625_000,
)
LEASE = message_bodies.Lease(BOARD.identity, TaskId(0), Version(3), 17, 120)
UPDATE = sign(
    BOARD,
    CHAIN_ID,
    MessageKind.UPDATE,
    4,
    message_bodies.CONTRIBUTION.pack(CONTRIBUTION),
)
STATE = state_tree.StateTree().update(
    {
        light_client.version_key(0, 3): task.version_digest(MODEL),
        light_client.task_key(0): task.TASK.pack(SPEC),
        **{b"board/%d" % i: b"value %d" % i for i in range(300)},
    }
)


def certify(
    header: blocks.Header,
    keys: tuple[SigningKey, ...] = VALIDATOR_KEYS,
    voters: tuple[int, ...] = (0, 1, 2),
    round_: int = 0,
) -> blocks.Certificate:
    """A certificate of these voters' precommits; times rise with the voter."""
    block_id = header.block_id()
    extras = tuple(header.time_ms + 100 + voter for voter in voters)
    signatures = tuple(
        keys[voter].sign(
            blocks.vote_bytes(
                header.chain_id,
                blocks.VoteType.PRECOMMIT,
                header.height,
                round_,
                block_id,
                extra,
            )
        )
        for voter, extra in zip(voters, extras, strict=True)
    )
    mask = sum(1 << voter for voter in voters)
    return blocks.Certificate(header.height, round_, block_id, mask, signatures, extras)


TRANSACTIONS = (
    envelope.ENVELOPE.pack(UPDATE),
    *(b"another transaction %d" % i for i in range(99)),
)
HEADER = blocks.Header(
    genesis.FORMAT_VERSION,
    CHAIN_ID,
    12,
    1_700_000_060_000,
    BlockHash(H(b"parent")),
    merkle.root(TRANSACTIONS),
    STATE.root(),
    VALIDATORS.digest(),
    VALIDATORS.digest(),
    2,
)
CERTIFICATE = certify(HEADER)
BLOCK = blocks.Block(HEADER, TRANSACTIONS[:3])


def prevote_of(block_id: BlockHash | None) -> blocks.Vote:
    """What validator 1 says in round 1 of height 12, to all or to some."""
    kind = blocks.VoteType.PREVOTE
    signed = blocks.vote_bytes(CHAIN_ID, kind, 12, 1, block_id, 0)
    return blocks.Vote(kind, 12, 1, block_id, 0, 1, VALIDATOR_KEYS[1].sign(signed))


PREVOTE = prevote_of(HEADER.block_id())
_UNSIGNED = blocks.Proposal(
    12, 1, 1, HEADER.block_id(), 2, bytes(64), blocks.BLOCK.pack(BLOCK), CERTIFICATE
)
PROPOSAL = blocks.Proposal(
    12,
    1,
    1,
    HEADER.block_id(),
    2,
    VALIDATOR_KEYS[2].sign(_UNSIGNED.signed_bytes(CHAIN_ID)),
    blocks.BLOCK.pack(BLOCK),
    CERTIFICATE,
)
MANIFEST = light_client.ModelManifest(
    TaskId(0),
    Version(3),
    MODEL,
    HEADER,
    CERTIFICATE,
    STATE.prove(light_client.version_key(0, 3)),
    STATE.prove(light_client.task_key(0)),
)
FINAL = light_client.FinalityProof(
    UPDATE, HEADER, CERTIFICATE, 0, len(TRANSACTIONS), merkle.path(TRANSACTIONS, 0)
)
RECORD = board_statement.BoardRecord(
    BOARD.public,
    OPERATOR.identity,
    2,
    0,
    2,
    171_093_750_000,
    paid=256_640_625_000,
    mechanisms=2,
)
PROGRESS = board_statement.TaskProgress(Version(3), 5, 7, 2)
KNOWN = state_tree.StateTree().update(
    {
        board_statement.board_key(BOARD.identity): board_statement.BOARD.pack(RECORD),
        board_statement.head_key(0): board_statement.PROGRESS.pack(PROGRESS),
    }
)
LATER = replace(HEADER, height=13, state_root=KNOWN.root())
STATEMENT = board_statement.BoardStatement(
    UPDATE.identity(CHAIN_ID),
    LATER,
    certify(LATER),
    KNOWN.prove(board_statement.board_key(BOARD.identity)),
    KNOWN.prove(board_statement.head_key(0)),
)
LEASE_ENVELOPE = sign(
    VALIDATOR_KEYS[0], CHAIN_ID, MessageKind.LEASE, 17, message_bodies.LEASE.pack(LEASE)
)
NEXT_BOARD = SigningKey(bytes(range(96, 128)))
ROTATE = key_rotation.rotate(BOARD.identity, BOARD, NEXT_BOARD, CHAIN_ID, 5)
NEW_OPERATOR = SigningKey(bytes(range(128, 160)))


def motion_of(kind: MessageKind, content: bytes) -> governance.GovernanceProposal:
    """A motion that three of the four validators approved."""
    made = governance.GovernanceProposal(kind, 7, 20_000, 1_700_000_100_000, content)
    for key in VALIDATOR_KEYS[:3]:
        made = made.approved(key, CHAIN_ID)
    return made


OPERATOR_CHANGE = governance.OperatorChange(1, NEW_OPERATOR.public)
MOTION = motion_of(
    MessageKind.OPERATOR, governance.OPERATOR_CHANGE.pack(OPERATOR_CHANGE)
)


CHANGED = genesis.ValidatorSet(VALIDATORS.members[:3])
CHANGING = replace(HEADER, height=11, next_validators=CHANGED.digest())
HANDOVER = light_client.ValidatorSetTransition(CHANGING, certify(CHANGING), CHANGED)


_UPDATE_SCORES = (
    update_scores.UpdateScore(250_000, 400_000),
    update_scores.UpdateScore(-90_000, -1_000_000),
    update_scores.UpdateScore(0, 0),
)


class Structure(NamedTuple):
    """A structure's codec under its module's name for it, and an example."""

    name: str
    codec: Codec[Any]
    example: Any


HELLO = enrolment_messages.EnrolmentHello(
    enrolment_messages.EXCHANGE_VERSION,
    bytes(range(8)),
    enrolment_messages.EnrolmentKind.BOARD,
    bytes(range(32)),
    b"{}",
)
ENROLMENT_CHALLENGE = enrolment_messages.EnrolmentChallenge(
    VALIDATOR_KEYS[0].public, bytes(range(32, 64))
)
TOKEN_SECRET = bytes(range(20))
AUTHORITY = bytes(range(96, 128))
CLAIM = enrolment_messages.make_claim(
    TOKEN_SECRET, AUTHORITY, HELLO, ENROLMENT_CHALLENGE
)
OUTCOME = enrolment_messages.sign_outcome(
    scram.scram_keys(TOKEN_SECRET),
    enrolment_messages.transcript(AUTHORITY, HELLO, ENROLMENT_CHALLENGE),
    enrolment_messages.EnrolmentState.ADMITTED,
    document=b"{}",
)
DELTA = chunk_deltas.ChunkDelta(
    H(bytes.fromhex("0100003f")),
    4,
    0,
    # One stored block: a difference of 1 from 0.5, in four planes of one byte.
    bytes.fromhex("01 0400 fbff 02000000"),
    H(bytes.fromhex("0000003f")),
)
RENEWAL = renewal_messages.sign_renewal(VALIDATOR_KEYS[0], AUTHORITY, b"a certificate")
RENEWED = renewal_messages.RenewalAnswer(
    renewal_messages.RenewalState.RENEWED, b"another certificate", ""
)
STRUCTURES = (
    Structure(
        "FOUNDING_ENTRY", founding_messages.FOUNDING_ENTRY, founding_samples.ENTRY
    ),
    Structure(
        "FOUNDING_ROSTER", founding_messages.FOUNDING_ROSTER, founding_samples.ROSTER
    ),
    Structure(
        "FOUNDING_CONFIRMATION",
        founding_messages.FOUNDING_CONFIRMATION,
        founding_samples.CONFIRMATION,
    ),
    Structure(
        "FOUNDING_RECORD", founding_messages.FOUNDING_RECORD, founding_samples.RECORD
    ),
    Structure("RENEWAL", renewal_messages.RENEWAL, RENEWAL),
    Structure("RENEWED", renewal_messages.RENEWED, RENEWED),
    Structure("HELLO", enrolment_messages.HELLO, HELLO),
    Structure("CHALLENGE", enrolment_messages.CHALLENGE, ENROLMENT_CHALLENGE),
    Structure("CLAIM", enrolment_messages.CLAIM, CLAIM),
    Structure("OUTCOME", enrolment_messages.OUTCOME, OUTCOME),
    Structure("ENVELOPE", envelope.ENVELOPE, UPDATE),
    Structure("SEALED", sealed_blob.SEALED, SEALED),
    Structure("CHUNK", chunks.CHUNK, chunks.split(b"a small whole")[0]),
    Structure("CHUNK_DELTA", chunk_deltas.CHUNK_DELTA, DELTA),
    Structure("MODEL_DIGESTS", task.MODEL_DIGESTS, MODEL),
    Structure("TASK", task.TASK, SPEC),
    Structure(
        "DEVICE_STATE",
        message_bodies.DEVICE_STATE,
        message_bodies.DeviceState(
            message_bodies.DevicePhase.TRAINING, 7, 3, 2_500_000
        ),
    ),
    Structure(
        "COORDINATOR_STATE",
        message_bodies.COORDINATOR_STATE,
        message_bodies.CoordinatorOnlineState(1, 12),
    ),
    Structure(
        "CHECK_IN",
        message_bodies.CHECK_IN,
        message_bodies.CheckIn(
            TaskId(0),
            Version(3),
            800_000,
            950_000,
            687_500,
            128,
            board_statement.StatementRequest.GRANTOR,
        ),
    ),
    Structure("LEASE", message_bodies.LEASE, LEASE),
    Structure("CONTRIBUTION", message_bodies.CONTRIBUTION, CONTRIBUTION),
    Structure(
        "UPLOAD",
        message_bodies.UPLOAD,
        message_bodies.Upload(UPDATE, LEASE_ENVELOPE, BLOB),
    ),
    Structure(
        "ACCEPTED",
        message_bodies.ACCEPTED,
        message_bodies.Accepted(UPDATE.identity(CHAIN_ID)),
    ),
    Structure(
        "REFUSED",
        message_bodies.REFUSED,
        message_bodies.Refused(
            UPDATE.identity(CHAIN_ID), 6, 30, "no lease for version 3"
        ),
    ),
    Structure(
        "CHUNK_REQUEST",
        message_bodies.CHUNK_REQUEST,
        message_bodies.ChunkRequest(H(b"newer"), (0, 1), (H(b"older"),)),
    ),
    Structure(
        "HEALTH_REQUEST",
        health_messages.HEALTH_REQUEST,
        health_messages.HealthRequest(BOARD.identity),
    ),
    Structure(
        "HEALTH_REPORT",
        health_messages.HEALTH_REPORT,
        health_messages.HealthReport(
            1,
            (
                health_messages.HealthRow("disk.room", 0, "9,000 MiB are free", ""),
                health_messages.HealthRow("clock.set", 2, "never set", "set it"),
            ),
        ),
    ),
    Structure(
        "REGISTER", message_bodies.REGISTER, message_bodies.Register(BOARD.public)
    ),
    Structure(
        "LEARNER",
        message_bodies.LEARNER,
        message_bodies.LearnerChange(1, BOARD.public, "west"),
    ),
    Structure(
        "REVOKE", message_bodies.REVOKE, message_bodies.Revoke(DeviceId(BOARD.identity))
    ),
    Structure(
        "ATTEST",
        message_bodies.ATTEST,
        message_bodies.Attest(TaskId(0), Version(4), task.version_digest(MODEL)),
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
    Structure("ROTATE", key_rotation.ROTATE, key_rotation.ROTATE.unpack(ROTATE.body)),
    Structure("MOTION", governance.MOTION, MOTION),
    Structure("OPERATOR_CHANGE", governance.OPERATOR_CHANGE, OPERATOR_CHANGE),
    Structure("PRESENT", message_bodies.PRESENT, message_bodies.Present(7)),
    Structure(
        "VALIDATOR_CHANGE",
        governance.VALIDATOR_CHANGE,
        governance.ValidatorChange(
            genesis.Validator(
                NEW_OPERATOR.public, OpeningKey(bytes(32)).public, "evora"
            ),
            None,
        ),
    ),
    Structure(
        "PARAMETER_CHANGE",
        governance.PARAMETER_CHANGE,
        governance.ParameterChange(governance.ChainParameter.HEARTBEAT_S, 30, 20_100),
    ),
    Structure(
        "UPGRADE_CHANGE", governance.UPGRADE_CHANGE, governance.UpgradeChange(2, 30_000)
    ),
    Structure("FUND", credit_policy.FUND, credit_policy.Fund(TaskId(0), 1_000_000)),
    Structure(
        "TRANSFER",
        credit_policy.TRANSFER,
        credit_policy.Transfer(BOARD.identity, 1_000_000),
    ),
    Structure("USE", credit_policy.USE, credit_policy.Use(TaskId(0), 12_000)),
    Structure(
        "RELEASE", credit_policy.RELEASE, credit_policy.DepositRefund(BOARD.identity)
    ),
    Structure(
        "SCORE",
        update_scores.SCORE,
        update_scores.Score(TaskId(0), Version(3), _UPDATE_SCORES),
    ),
    Structure(
        "SCORES",
        update_scores.SCORES,
        update_scores.Scores(3, _UPDATE_SCORES),
    ),
    Structure(
        "PAYMENTS",
        payments.PAYMENTS,
        payments.Payments((payments.Payment(BOARD.identity, 333_334),)),
    ),
    Structure(
        "FORFEIT",
        message_bodies.FORFEIT,
        message_bodies.Forfeit(TaskId(0), Version(3), 9, 27),
    ),
    Structure(
        "EVALUATION",
        progress_guard.EVALUATION,
        progress_guard.Evaluation(TaskId(0), Version(3), 412_345),
    ),
    Structure("CLOSE", message_bodies.CLOSE, message_bodies.Close(TaskId(2))),
    Structure(
        "RESUME",
        progress_guard.RESUME,
        progress_guard.Resume(TaskId(0), Version(3)),
    ),
    Structure(
        "TASK_LOSS",
        progress_guard.TASK_LOSS,
        progress_guard.TaskLoss(Version(3), 250_000, Version(9), 400_000),
    ),
    Structure(
        "ROLLBACK",
        task_rollback.ROLLBACK,
        task_rollback.TaskRollback(
            TaskId(0), Version(2), Version(3), MODEL, (BOARD.identity,)
        ),
    ),
    Structure("VALIDATOR_SET", genesis.VALIDATOR_SET, VALIDATORS),
    Structure("GENESIS", genesis.GENESIS, GENESIS),
    Structure("HEADER", blocks.HEADER, HEADER),
    Structure("BLOCK", blocks.BLOCK, BLOCK),
    Structure("VOTE", blocks.VOTE, PREVOTE),
    Structure("CERTIFICATE", blocks.CERTIFICATE, CERTIFICATE),
    Structure("PROPOSAL", blocks.PROPOSAL, PROPOSAL),
    Structure(
        "STATE_PROOF",
        state_tree.STATE_PROOF,
        STATE.prove(light_client.version_key(0, 3)),
    ),
    Structure("TRUSTED", light_client.TRUSTED, light_client.pin(GENESIS)),
    Structure("MANIFEST", light_client.MANIFEST, MANIFEST),
    Structure("HANDOVER", light_client.HANDOVER, HANDOVER),
    Structure("FINAL", light_client.FINAL, FINAL),
    Structure("BOARD", board_statement.BOARD, RECORD),
    Structure("PROGRESS", board_statement.PROGRESS, PROGRESS),
    Structure("STATEMENT", board_statement.STATEMENT, STATEMENT),
)
