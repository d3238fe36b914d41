"""The longest value of each structure: its encoding must fit the codec's limit."""

from dataclasses import replace
from typing import Any

from starling.protocol.chain import (
    blocks,
    board_statement,
    credit_policy,
    evidence,
    genesis,
    governance,
    key_rotation,
    light_client,
    payments,
    task_end,
    task_rollback,
    update_scores,
)
from starling.protocol.crypto import merkle, state_tree
from starling.protocol.ids import (
    TASKS_MAX,
    DeviceId,
    Digest,
    H,
    PublicKey,
    TaskId,
    Version,
)
from starling.protocol.learning import (
    end_policy,
    progress_guard,
    reward_policy,
    score_policy,
    selection_policy,
    task,
)
from starling.protocol.learning.local_optimiser import (
    ACCUMULATION_MAX,
    STEPS_MAX,
    DescentPolicy,
)
from starling.protocol.schema.msgpack_codec import UINT_MAX
from starling.protocol.wire import (
    chunk_deltas,
    chunks,
    envelope,
    health_messages,
    message_bodies,
)
from tests.contract.wire.founding_values import FOUNDING_WIDEST
from tests.vectors import protocol_samples as samples

_TASK = TaskId(TASKS_MAX)
_VERSION = Version(UINT_MAX)
_DIGEST = Digest(H(b"widest"))
_BYTE = 255

_envelope = replace(
    samples.UPDATE,
    kind=_BYTE,
    counter=UINT_MAX,
    body=bytes(envelope.BODY_BYTES_MAX),
)
_validators = genesis.ValidatorSet(
    tuple(
        replace(
            samples.VALIDATORS.members[0],
            public=PublicKey(bytes([i]) * 32),
            name="n" * 64,
        )
        for i in range(genesis.VALIDATORS_MAX)
    )
)
_header = replace(
    samples.HEADER,
    height=UINT_MAX,
    time_ms=blocks.TIME_MS_MAX,
    proposer=genesis.VALIDATORS_MAX - 1,
)
_certificate = blocks.Certificate(
    UINT_MAX,
    blocks.ROUND_MAX,
    _header.block_id(),
    (1 << genesis.VALIDATORS_MAX) - 1,
    (bytes(64),) * genesis.VALIDATORS_MAX,
    (UINT_MAX, *(0,) * (genesis.VALIDATORS_MAX - 1)),
)
_descent = DescentPolicy(
    3,
    task.Q24 - 1,
    task.Q24 - 1,
    task.E12,
    task.Q24,
    1 << 32,
    ACCUMULATION_MAX,
    2,
    STEPS_MAX,
    STEPS_MAX,
    task.Q24,
)
_spec = replace(
    samples.SPEC,
    name="n" * 64,
    bundle_bytes=1 << 28,
    dimension=task.DIMENSION_MAX,
    codec=_BYTE,
    training=task.TrainingPolicy(1, 1000, 1 << 16, 1 << 32, _descent),
    privacy=task.PrivacyPolicy(
        _BYTE,
        1 << 40,
        1 << 40,
        1 << 40,
        task.E12 - 1,
        1 << 20,
        task.MICRO,
        1 << 16,
        1 << 62,
    ),
    aggregation=task.AggregationPolicy(
        0,
        task.BUFFER_MAX,
        1 << 24,
        task.Q16 - 1,
        task.Q16 - 1,
        (task.Q15,) * (task.STALENESS_MAX + 1),
        1 << 20,
        1 << 20,
        1 << 60,
        1 << 20,
    ),
    pledges=tuple(range(task.PLEDGE_MAX - 255, task.PLEDGE_MAX + 1)),
    pool=UINT_MAX,
    guard=progress_guard.GuardPolicy(
        progress_guard.PATIENCE_MAX, progress_guard.MARGIN_MAX
    ),
    scores=score_policy.ScorePolicy(
        max(score_policy.ScoreRule),
        (_DIGEST,) * score_policy.ROOTS_MAX,
        score_policy.QUARANTINE_S_MAX,
    ),
    selection=selection_policy.SelectionPolicy(*5 * [selection_policy.WEIGHT_MAX]),
    rewards=reward_policy.RewardPolicy(
        0,
        reward_policy.PARTICIPATIONS_MAX,
        reward_policy.MILLION,
        reward_policy.USE_PRICE_MAX,
    ),
    end=end_policy.EndPolicy(UINT_MAX, UINT_MAX, progress_guard.LOSS_MAX, 1),
)
_proof = state_tree.StateProof(
    bytes(state_tree.KEY_BYTES_MAX),
    bytes(state_tree.VALUE_BYTES_MAX),
    1 << 40,
    1 << 40,
    (_DIGEST,) * (merkle.PATH_MAX + 8),
)
_task_proof = replace(_proof, value=task.TASK.pack(_spec))
_version_proof = replace(_proof, value=_DIGEST)
_rollback = task_rollback.TaskRollback(
    _TASK,
    Version(UINT_MAX - 1),
    _VERSION,
    samples.MODEL,
    tuple(
        DeviceId(bytes([number]) * 16) for number in range(task_rollback.WITHOUT_MAX)
    ),
)

_worst = update_scores.UpdateScore(-message_bodies.PPM, -message_bodies.PPM)
_board = board_statement.BoardRecord(
    PublicKey(bytes(32)),
    DeviceId(bytes(16)),
    UINT_MAX,
    UINT_MAX,
    UINT_MAX,
    UINT_MAX,
    key_rotation.ROTATIONS_MAX,
    UINT_MAX,
    UINT_MAX,
    UINT_MAX,
)
_progress = board_statement.TaskProgress(_VERSION, UINT_MAX, UINT_MAX, UINT_MAX)
_handover = light_client.ValidatorSetTransition(_header, _certificate, _validators)

WIDEST: dict[str, Any] = {
    **FOUNDING_WIDEST,
    "ENVELOPE": _envelope,
    "CHUNK": chunks.Chunk(
        _DIGEST, chunks.WHOLE_BYTES_MAX, 4095, bytes(chunks.CHUNK_BYTES)
    ),
    "CHUNK_DELTA": chunk_deltas.ChunkDelta(
        _DIGEST,
        chunks.WHOLE_BYTES_MAX,
        4096,
        bytes(chunks.CHUNK_BYTES),
        _DIGEST,
    ),
    "TASK": _spec,
    "DEVICE_STATE": message_bodies.DeviceState(5, UINT_MAX, _VERSION, UINT_MAX),
    "COORDINATOR_STATE": message_bodies.CoordinatorOnlineState(1, UINT_MAX),
    "CHECK_IN": message_bodies.CheckIn(
        _TASK,
        _VERSION,
        message_bodies.PPM,
        message_bodies.PPM,
        message_bodies.PPM,
        task.PLEDGE_MAX,
        2,
    ),
    "LEASE": message_bodies.Lease(
        DeviceId(bytes(16)), _TASK, _VERSION, UINT_MAX, 1 << 24
    ),
    "CONTRIBUTION": message_bodies.Contribution(
        _TASK,
        _VERSION,
        _BYTE,
        task.PLEDGE_MAX,
        _BYTE,
        UINT_MAX,
        _DIGEST,
        _DIGEST,
        UINT_MAX,
    ),
    "FORFEIT": message_bodies.Forfeit(_TASK, _VERSION, UINT_MAX, UINT_MAX),
    "BOARD": _board,
    "PROGRESS": _progress,
    "STATEMENT": board_statement.BoardStatement(
        _DIGEST,
        _header,
        _certificate,
        replace(_proof, key=bytes(22), value=board_statement.BOARD.pack(_board)),
        replace(_proof, key=bytes(10), value=board_statement.PROGRESS.pack(_progress)),
    ),
    "REFUSED": message_bodies.Refused(_DIGEST, _BYTE, 1 << 24, "n" * 200),
    "CHUNK_REQUEST": message_bodies.ChunkRequest(
        _DIGEST, (1 << 20,) * message_bodies.CHUNK_REQUEST_MAX, (_DIGEST,)
    ),
    "HEALTH_REQUEST": health_messages.HealthRequest(DeviceId(bytes(16))),
    "HEALTH_REPORT": health_messages.HealthReport(
        1,
        (
            health_messages.HealthRow(
                "n" * health_messages.NAME_BYTES,
                2,
                "f" * health_messages.FOUND_BYTES,
                "x" * health_messages.FIX_BYTES,
            ),
        )
        * health_messages.ROWS_MAX,
    ),
    "ATTEST": message_bodies.Attest(_TASK, _VERSION, _DIGEST),
    "EVIDENCE": evidence.Evidence(
        3, bytes(evidence.SIGNED_BYTES_MAX), bytes(evidence.SIGNED_BYTES_MAX)
    ),
    "MOTION": governance.GovernanceProposal(
        _BYTE,
        UINT_MAX,
        UINT_MAX,
        blocks.TIME_MS_MAX,
        bytes(governance.CONTENT_BYTES_MAX),
        tuple(
            governance.Approval(PublicKey(bytes([at]) * 32), bytes(64))
            for at in range(genesis.VALIDATORS_MAX)
        ),
    ),
    "PRESENT": message_bodies.Present(UINT_MAX),
    "VALIDATOR_CHANGE": governance.ValidatorChange(_validators.members[0], None),
    "PARAMETER_CHANGE": governance.ParameterChange(_BYTE, UINT_MAX, UINT_MAX),
    "UPGRADE_CHANGE": governance.UpgradeChange(1 << 16, UINT_MAX),
    "FUND": credit_policy.Fund(_TASK, credit_policy.CREDITS_MAX),
    "TRANSFER": credit_policy.Transfer(DeviceId(bytes(16)), credit_policy.CREDITS_MAX),
    "USE": credit_policy.Use(_TASK, UINT_MAX),
    "SCORE": update_scores.Score(_TASK, _VERSION, (_worst,) * task.BUFFER_MAX),
    "SCORES": update_scores.Scores(32, (_worst,) * task.BUFFER_MAX),
    "PAYMENTS": payments.Payments(
        (payments.Payment(DeviceId(bytes(16)), credit_policy.CREDITS_MAX),)
        * payments.PAGE
    ),
    "EVALUATION": progress_guard.Evaluation(_TASK, _VERSION, progress_guard.LOSS_MAX),
    "CLOSE": message_bodies.Close(_TASK),
    "RESUME": progress_guard.Resume(_TASK, _VERSION),
    "TASK_LOSS": progress_guard.TaskLoss(
        _VERSION,
        progress_guard.LOSS_MAX,
        _VERSION,
        progress_guard.LOSS_MAX,
        _VERSION,
    ),
    "ROLLBACK": _rollback,
    "VALIDATOR_SET": _validators,
    "GENESIS": replace(
        samples.GENESIS,
        fleet="f" * 32,
        created_ms=UINT_MAX,
        validators=_validators,
        operators=(samples.OPERATOR.public,) * genesis.OPERATORS_MAX,
        heartbeat_s=86400,
        economy=credit_policy.CreditPolicy(
            credit_policy.CREDITS_MAX, 0, 0, credit_policy.CREDITS_MAX
        ),
    ),
    "HEADER": _header,
    "VOTE": replace(
        samples.PREVOTE, height=UINT_MAX, round=blocks.ROUND_MAX, extra=UINT_MAX
    ),
    "CERTIFICATE": _certificate,
    "PROPOSAL": blocks.Proposal(
        UINT_MAX,
        blocks.ROUND_MAX,
        blocks.ROUND_MAX,
        _header.block_id(),
        genesis.VALIDATORS_MAX - 1,
        bytes(64),
        bytes(blocks.BLOCK_BYTES_MAX),
        _certificate,
        _certificate,
    ),
    "STATE_PROOF": _proof,
    "TRUSTED": light_client.TrustedState(
        samples.CHAIN_ID,
        genesis.FaultModel.CRASH,
        UINT_MAX,
        _validators,
        light_client.CertifiedHeader(_header, _certificate),
        _validators,
        UINT_MAX,
    ),
    "HANDOVER": _handover,
    "MANIFEST": light_client.ModelManifest(
        _TASK,
        _VERSION,
        samples.MODEL,
        _header,
        _certificate,
        _version_proof,
        _task_proof,
        (_handover,) * light_client.HANDOVERS_MAX,
        replace(
            _proof,
            key=task_rollback.rollback_key(_TASK, _VERSION),
            value=task_rollback.ROLLBACK.pack(_rollback),
        ),
        replace(_proof, key=task_end.closure_key(_TASK), value=b"." * 64),
    ),
    "FINAL": light_client.FinalityProof(
        _envelope, _header, _certificate, 1 << 20, 1 << 20, (_DIGEST,) * 40
    ),
}
