"""The longest value of each structure: its encoding must fit the codec's limit."""

from dataclasses import replace
from typing import Any

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
    statement,
    statetree,
    task,
)
from protocol.codec import UINT_MAX
from protocol.descent import ACCUMULATION_MAX, STEPS_MAX, DescentPolicy
from protocol.ids import DeviceId, Digest, H, PublicKey, TaskId, Version
from tests.vectors import protocol_samples as samples

_TASK = TaskId(messages.TASKS_MAX)
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
    time_ms=chain.TIME_MS_MAX,
    proposer=genesis.VALIDATORS_MAX - 1,
)
_certificate = chain.Certificate(
    UINT_MAX,
    chain.ROUND_MAX,
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
    ),
    pledges=tuple(range(task.PLEDGE_MAX - 255, task.PLEDGE_MAX + 1)),
    pool=UINT_MAX,
)
_proof = statetree.StateProof(
    bytes(statetree.KEY_BYTES_MAX),
    bytes(statetree.VALUE_BYTES_MAX),
    1 << 40,
    1 << 40,
    (_DIGEST,) * (merkle.PATH_MAX + 8),
)
_task_proof = replace(_proof, value=task.TASK.pack(_spec))
_version_proof = replace(_proof, value=_DIGEST)

_board = statement.Board(
    PublicKey(bytes(32)),
    DeviceId(bytes(16)),
    UINT_MAX,
    UINT_MAX,
    UINT_MAX,
    UINT_MAX,
    rotation.ROTATIONS_MAX,
    UINT_MAX,
    UINT_MAX,
    UINT_MAX,
)
_progress = statement.Progress(_VERSION, UINT_MAX, UINT_MAX, UINT_MAX)
_handover = light.Handover(_header, _certificate, _validators)

WIDEST: dict[str, Any] = {
    "ENVELOPE": _envelope,
    "CHUNK": chunks.Chunk(
        _DIGEST, chunks.WHOLE_BYTES_MAX, 4095, bytes(chunks.CHUNK_BYTES)
    ),
    "TASK": _spec,
    "DEVICE_STATE": messages.DeviceState(5, UINT_MAX, _VERSION, UINT_MAX),
    "COORDINATOR_STATE": messages.CoordinatorState(1, UINT_MAX),
    "CHECK_IN": messages.CheckIn(
        _TASK, _VERSION, messages.PPM, messages.PPM, messages.PPM, task.PLEDGE_MAX, 2
    ),
    "LEASE": messages.Lease(DeviceId(bytes(16)), _TASK, _VERSION, UINT_MAX, 1 << 24),
    "CONTRIBUTION": messages.Contribution(
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
    "FORFEIT": messages.Forfeit(_TASK, _VERSION, UINT_MAX, UINT_MAX),
    "BOARD": _board,
    "PROGRESS": _progress,
    "STATEMENT": statement.Statement(
        _DIGEST,
        _header,
        _certificate,
        replace(_proof, key=bytes(22), value=statement.BOARD.pack(_board)),
        replace(_proof, key=bytes(10), value=statement.PROGRESS.pack(_progress)),
    ),
    "REFUSED": messages.Refused(_DIGEST, _BYTE, 1 << 24, "n" * 200),
    "CHUNK_REQUEST": messages.ChunkRequest(
        _DIGEST, (1 << 20,) * messages.CHUNK_REQUEST_MAX
    ),
    "ATTEST": messages.Attest(_TASK, _VERSION, _DIGEST),
    "EVIDENCE": evidence.Evidence(
        3, bytes(evidence.SIGNED_BYTES_MAX), bytes(evidence.SIGNED_BYTES_MAX)
    ),
    "MOTION": motion.Motion(
        _BYTE,
        UINT_MAX,
        UINT_MAX,
        bytes(motion.CONTENT_BYTES_MAX),
        tuple(
            motion.Approval(PublicKey(bytes([at]) * 32), bytes(64))
            for at in range(genesis.VALIDATORS_MAX)
        ),
    ),
    "PRESENT": messages.Present(UINT_MAX),
    "VALIDATOR_CHANGE": motion.ValidatorChange(_validators.members[0], None),
    "PARAMETER_CHANGE": motion.ParameterChange(_BYTE, UINT_MAX, UINT_MAX),
    "UPGRADE_CHANGE": motion.UpgradeChange(1 << 16, UINT_MAX),
    "FUND": economy.Fund(_TASK, economy.CREDITS_MAX),
    "TRANSFER": economy.Transfer(DeviceId(bytes(16)), economy.CREDITS_MAX),
    "SCORE": score.Score(_TASK, _VERSION, (-messages.PPM,) * task.BUFFER_MAX),
    "SCORES": score.Scores(UINT_MAX, 32, (-messages.PPM,) * task.BUFFER_MAX),
    "PAYMENTS": payment.Payments(
        (payment.Payment(DeviceId(bytes(16)), economy.CREDITS_MAX),) * payment.PAGE
    ),
    "VALIDATOR_SET": _validators,
    "GENESIS": replace(
        samples.GENESIS,
        fleet="f" * 32,
        created_ms=UINT_MAX,
        validators=_validators,
        operators=(samples.OPERATOR.public,) * genesis.OPERATORS_MAX,
        heartbeat_s=86400,
        economy=economy.Economy(economy.CREDITS_MAX, 0, 0, economy.CREDITS_MAX),
    ),
    "HEADER": _header,
    "VOTE": replace(
        samples.PREVOTE, height=UINT_MAX, round=chain.ROUND_MAX, extra=UINT_MAX
    ),
    "CERTIFICATE": _certificate,
    "PROPOSAL": chain.Proposal(
        UINT_MAX,
        chain.ROUND_MAX,
        chain.ROUND_MAX,
        _header.block_id(),
        genesis.VALIDATORS_MAX - 1,
        bytes(64),
        bytes(chain.BLOCK_BYTES_MAX),
        _certificate,
        _certificate,
    ),
    "STATE_PROOF": _proof,
    "TRUSTED": light.Trusted(
        samples.CHAIN_ID,
        genesis.FaultModel.CRASH,
        UINT_MAX,
        _validators,
        light.Certified(_header, _certificate),
        _validators,
        UINT_MAX,
    ),
    "HANDOVER": _handover,
    "MANIFEST": light.Manifest(
        _TASK,
        _VERSION,
        samples.MODEL,
        _header,
        _certificate,
        _version_proof,
        _task_proof,
        (_handover,) * light.HANDOVERS_MAX,
    ),
    "FINAL": light.Final(
        _envelope, _header, _certificate, 1 << 20, 1 << 20, (_DIGEST,) * 40
    ),
}
