"""One worked example of every structure that travels, under its name."""

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
from starling.protocol.crypto import sealed_blob, state_tree
from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.ids import DeviceId, H, TaskId, Version
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
from tests.vectors import founding_samples
from tests.vectors.enrolment_samples import (
    CLAIM,
    ENROLMENT_CHALLENGE,
    HELLO,
    OUTCOME,
    RENEWAL,
    RENEWED,
)
from tests.vectors.protocol_samples import (
    BLOB,
    BLOCK,
    BOARD,
    CERTIFICATE,
    CHAIN_ID,
    CONTRIBUTION,
    ENTROPY,
    FINAL,
    GENESIS,
    HANDOVER,
    HEADER,
    LEASE,
    LEASE_ENVELOPE,
    MANIFEST,
    MODEL,
    MOTION,
    NEW_OPERATOR,
    OPENING_KEYS,
    OPERATOR_CHANGE,
    PLAINTEXT,
    PREVOTE,
    PROGRESS,
    PROPOSAL,
    RECORD,
    ROTATE,
    SEALED,
    SPEC,
    STATE,
    STATEMENT,
    UPDATE,
    VALIDATORS,
    prevote_of,
)

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


DELTA = chunk_deltas.ChunkDelta(
    H(bytes.fromhex("0100003f")),
    4,
    0,
    # One stored block: a difference of 1 from 0.5, in four planes of one byte.
    bytes.fromhex("01 0400 fbff 02000000"),
    H(bytes.fromhex("0000003f")),
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
