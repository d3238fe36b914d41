"""Strategies for the values of every structure."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

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
    task_rollback,
    update_scores,
)
from starling.protocol.crypto import merkle, sealed_blob, state_tree
from starling.protocol.ids import TASKS_MAX, DeviceId, TaskId, Version
from starling.protocol.learning import (
    end_policy,
    progress_guard,
    reward_policy,
    score_policy,
    selection_policy,
    task,
)
from starling.protocol.schema.msgpack_codec import UINT_MAX
from starling.protocol.wire import (
    chunk_deltas,
    chunks,
    enrolment_messages,
    envelope,
    health_messages,
    message_bodies,
    renewal_messages,
)
from tests.contract.wire.founding_values import FOUNDING_VALUES

digests = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=64, max_size=64)
_devices = st.binary(min_size=16, max_size=16)
counts = st.one_of(st.integers(0, 300), st.integers(0, UINT_MAX))
heights = st.integers(1, UINT_MAX)
names = st.text(st.characters(categories=["L", "N", "P"]), max_size=16)


def upto(most: int, least: int = 0) -> SearchStrategy[int]:
    """Integers of a field with bounds."""
    return st.integers(least, most)


def tuples(
    items: SearchStrategy[Any], most: int, least: int = 0
) -> SearchStrategy[tuple[Any, ...]]:
    """Tuples of a repeated field."""
    return st.lists(items, min_size=least, max_size=most).map(tuple)


def wire_values() -> SearchStrategy[Any]:
    """Anything that the wire can carry, structure or not."""
    leaves = st.one_of(
        st.none(), st.integers(-5, 300), st.binary(max_size=40), names, digests
    )
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=4), max_leaves=8)


_envelopes = st.builds(
    envelope.Envelope,
    st.just(envelope.ENVELOPE_VERSION),
    upto(255),
    digests,
    counts,
    st.binary(max_size=80),
    signatures,
)
_sealed = st.builds(
    sealed_blob.SealedBlob,
    digests,
    tuples(st.binary(min_size=56, max_size=56), 4, 1),
    st.binary(min_size=16, max_size=80),
)
_chunks = st.binary(min_size=1, max_size=80).map(lambda whole: chunks.split(whole)[0])
_models = st.builds(task.ModelDigests, *(5 * [digests]))


def _rollback(
    number: TaskId,
    first: int,
    later: int,
    model: task.ModelDigests,
    boards: set[DeviceId],
) -> task_rollback.TaskRollback:
    versions = Version(first), Version(first + later)
    return task_rollback.TaskRollback(number, *versions, model, tuple(sorted(boards)))


_training = st.builds(
    task.TrainingPolicy, upto(1), upto(1000, 1), upto(1 << 16, 1), upto(1 << 32)
)
_privacy = st.one_of(
    st.builds(
        task.PrivacyPolicy,
        upto(255).filter(lambda mechanism: mechanism != task.LABEL_RESPONSE),
        upto(1 << 40, 1),
        upto(1 << 40, 1),
        upto(1 << 40, 1),
        upto(task.E12 - 1, 1),
        upto(1 << 20, 1),
    ),
    st.builds(
        task.PrivacyPolicy,
        st.just(task.LABEL_RESPONSE),
        upto(1 << 40),
        st.just(0),
        upto(1 << 40, 1),
        st.just(0),
        upto(1 << 20, 1),
    ),
)
_aggregation = st.builds(
    task.AggregationPolicy,
    upto(max(task.Strategy)),
    upto(32, 1),
    upto(1 << 24),
    upto(task.Q16 - 1),
    upto(task.Q16 - 1),
    tuples(upto(task.Q15, 1), 64, 1),
    upto(1 << 20, 32),
    upto(1 << 20, 1),
    upto(1 << 60, 1),
    upto(1 << 20),
)
_tasks = st.builds(
    task.TaskSpec,
    names,
    digests,
    upto(1 << 28, 1),
    upto(task.DIMENSION_MAX, 1),
    upto(255),
    _models,
    _training,
    _privacy,
    _aggregation,
    st.sets(upto(task.PLEDGE_MAX, 1), min_size=1, max_size=20).map(
        lambda sizes: tuple(sorted(sizes))
    ),
    counts,
    st.builds(
        progress_guard.GuardPolicy,
        upto(progress_guard.PATIENCE_MAX),
        upto(progress_guard.MARGIN_MAX),
    ),
    st.builds(
        score_policy.ScorePolicy,
        upto(max(score_policy.ScoreRule)),
        tuples(digests, score_policy.ROOTS_MAX),
        upto(score_policy.QUARANTINE_S_MAX),
    ),
    st.builds(
        selection_policy.SelectionPolicy,
        *(5 * [upto(selection_policy.WEIGHT_MAX)]),
    ),
    st.builds(
        reward_policy.RewardPolicy,
        st.just(reward_policy.RewardRule.EQUAL),
        upto(reward_policy.PARTICIPATIONS_MAX, 1),
        upto(reward_policy.MILLION),
        upto(reward_policy.USE_PRICE_MAX),
    ),
    st.builds(
        end_policy.EndPolicy, counts, counts, upto(progress_guard.LOSS_MAX), upto(1)
    ),
)
_tasks_no = upto(TASKS_MAX)
_validators = st.builds(genesis.Validator, digests, digests, names)
_sets = st.lists(
    _validators, min_size=1, max_size=5, unique_by=lambda member: member.public
).map(
    lambda members: genesis.ValidatorSet(
        tuple(sorted(members, key=lambda member: member.public))
    )
)
_genesis = st.builds(
    genesis.Genesis,
    st.just(genesis.FORMAT_VERSION),
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True),
    counts,
    st.just(0),
    _sets,
    tuples(digests, 3, 1),
    upto(86400, 1),
    st.builds(credit_policy.CreditPolicy, upto(credit_policy.CREDITS_MAX)),
)
_headers = st.builds(
    blocks.Header,
    st.just(genesis.FORMAT_VERSION),
    digests,
    heights,
    upto(blocks.TIME_MS_MAX),
    *(5 * [digests]),
    upto(genesis.VALIDATORS_MAX - 1),
)
_certificates = st.sets(
    upto(genesis.VALIDATORS_MAX - 1), min_size=1, max_size=4
).flatmap(
    lambda voters: st.builds(
        blocks.Certificate,
        heights,
        upto(blocks.ROUND_MAX),
        digests,
        st.just(sum(1 << voter for voter in voters)),
        tuples(signatures, len(voters), len(voters)),
        tuples(counts, len(voters), len(voters)),
    )
)
_ppm = upto(message_bodies.PPM, -message_bodies.PPM)
_scores = tuples(st.builds(update_scores.UpdateScore, _ppm, _ppm), 12, 1)
_approvals = st.lists(
    st.builds(governance.Approval, digests, signatures),
    max_size=4,
    unique_by=lambda approval: approval.validator,
).map(lambda given: tuple(sorted(given, key=lambda approval: approval.validator)))
_proofs = st.builds(
    state_tree.StateProof,
    st.binary(min_size=1, max_size=40),
    st.binary(max_size=80),
    upto(1 << 40),
    upto(1 << 40),
    tuples(digests, 12),
)

_handovers = st.builds(
    light_client.ValidatorSetTransition, _headers, _certificates, _sets
)

_hellos = st.builds(
    enrolment_messages.EnrolmentHello,
    st.just(enrolment_messages.EXCHANGE_VERSION),
    st.binary(min_size=8, max_size=8),
    upto(max(enrolment_messages.EnrolmentKind)),
    digests,
    st.binary(min_size=1, max_size=80),
)
_challenges = st.builds(enrolment_messages.EnrolmentChallenge, digests, digests)
VALUES: dict[str, SearchStrategy[Any]] = {
    **FOUNDING_VALUES,
    "RENEWAL": st.builds(
        renewal_messages.CertificateRenewal,
        st.just(renewal_messages.RENEWAL_VERSION),
        st.binary(min_size=1, max_size=80),
        signatures,
    ),
    "RENEWED": st.one_of(
        st.builds(
            renewal_messages.RenewalAnswer,
            st.just(renewal_messages.RenewalState.RENEWED.value),
            st.binary(min_size=1, max_size=80),
            names,
        ),
        st.builds(
            renewal_messages.RenewalAnswer,
            st.sampled_from([0, 2]),
            st.just(b""),
            names,
        ),
    ),
    "HELLO": _hellos,
    "CHALLENGE": _challenges,
    "CLAIM": st.builds(
        enrolment_messages.EnrolmentClaim, _hellos, _challenges, digests
    ),
    "OUTCOME": st.one_of(
        st.builds(
            enrolment_messages.EnrolmentOutcome,
            st.just(enrolment_messages.EnrolmentState.ADMITTED.value),
            names,
            st.binary(min_size=1, max_size=80),
            digests,
        ),
        st.builds(
            enrolment_messages.EnrolmentOutcome,
            st.sampled_from([0, 2]),
            names,
            st.just(b""),
            st.binary(max_size=32),
        ),
    ),
    "ENVELOPE": _envelopes,
    "SEALED": _sealed,
    "CHUNK": _chunks,
    "CHUNK_DELTA": st.builds(
        chunk_deltas.ChunkDelta,
        digests,
        st.integers(1, 1 << 28),
        upto(4096),
        st.binary(min_size=1, max_size=80),
        digests,
    ),
    "MODEL_DIGESTS": _models,
    "TASK": _tasks,
    "DEVICE_STATE": st.builds(
        message_bodies.DeviceState, upto(5), counts, counts, counts
    ),
    "COORDINATOR_STATE": st.builds(
        message_bodies.CoordinatorOnlineState, upto(1), counts
    ),
    "CHECK_IN": st.builds(
        message_bodies.CheckIn,
        _tasks_no,
        counts,
        *(3 * [upto(message_bodies.PPM)]),
        upto(task.PLEDGE_MAX, 1),
        upto(2),
    ),
    "LEASE": st.builds(
        message_bodies.Lease,
        st.binary(min_size=16, max_size=16),
        _tasks_no,
        counts,
        counts,
        upto(1 << 24),
    ),
    "CONTRIBUTION": st.builds(
        message_bodies.Contribution,
        _tasks_no,
        counts,
        upto(255),
        upto(task.PLEDGE_MAX, 1),
        upto(255),
        counts,
        digests,
        digests,
        counts,
    ),
    "UPLOAD": st.builds(
        message_bodies.Upload, _envelopes, _envelopes, st.binary(max_size=80)
    ),
    "ACCEPTED": st.builds(message_bodies.Accepted, digests),
    "REFUSED": st.builds(
        message_bodies.Refused, digests, upto(255), upto(1 << 24), names
    ),
    "CHUNK_REQUEST": st.builds(
        message_bodies.ChunkRequest,
        digests,
        tuples(upto(1 << 20), message_bodies.CHUNK_REQUEST_MAX, 1),
        tuples(digests, 1),
    ),
    "HEALTH_REQUEST": st.builds(health_messages.HealthRequest, _devices),
    "HEALTH_REPORT": st.builds(
        health_messages.HealthReport,
        upto(1),
        tuples(st.builds(health_messages.HealthRow, names, upto(2), names, names), 5),
    ),
    "REGISTER": st.builds(message_bodies.Register, digests),
    "LEARNER": st.builds(message_bodies.LearnerChange, upto(1), digests, names),
    "REVOKE": st.builds(message_bodies.Revoke, st.binary(min_size=16, max_size=16)),
    "ATTEST": st.builds(message_bodies.Attest, _tasks_no, counts, digests),
    "EVIDENCE": st.builds(
        evidence.Evidence,
        upto(4, 1),
        st.binary(max_size=300),
        st.binary(max_size=300),
    ),
    "SHOWN_BOXES": st.builds(
        evidence.ShownBoxes,
        heights,
        digests,
        digests,
        digests,
        digests,
        tuples(st.binary(min_size=56, max_size=56), 4, 1),
        digests,
    ),
    "ROTATE": st.builds(
        key_rotation.Rotate, st.binary(min_size=16, max_size=16), digests, signatures
    ),
    "MOTION": st.builds(
        governance.GovernanceProposal,
        upto(255),
        counts,
        heights,
        upto(1 << 40),
        st.binary(max_size=80),
        _approvals,
    ),
    "OPERATOR_CHANGE": st.builds(governance.OperatorChange, upto(1), digests),
    "PRESENT": st.builds(message_bodies.Present, st.integers(1, 1 << 40)),
    "VALIDATOR_CHANGE": st.builds(governance.ValidatorChange, _validators, st.none())
    | st.builds(governance.ValidatorChange, st.none(), digests),
    "PARAMETER_CHANGE": st.builds(
        governance.ParameterChange, upto(255), counts, heights
    ),
    "UPGRADE_CHANGE": st.builds(governance.UpgradeChange, upto(1 << 16), heights),
    "FUND": st.builds(
        credit_policy.Fund, _tasks_no, upto(credit_policy.CREDITS_MAX, 1)
    ),
    "TRANSFER": st.builds(
        credit_policy.Transfer, _devices, upto(credit_policy.CREDITS_MAX, 1)
    ),
    "USE": st.builds(credit_policy.Use, _tasks_no, upto(UINT_MAX, 1)),
    "RELEASE": st.builds(credit_policy.DepositRefund, _devices),
    "SCORE": st.builds(update_scores.Score, _tasks_no, counts, _scores),
    "SCORES": st.builds(update_scores.Scores, upto(32, 1), _scores),
    "PAYMENTS": st.builds(
        payments.Payments,
        tuples(
            st.builds(payments.Payment, _devices, upto(credit_policy.CREDITS_MAX)), 5, 1
        ),
    ),
    "FORFEIT": st.builds(message_bodies.Forfeit, _tasks_no, counts, counts, counts),
    "EVALUATION": st.builds(
        progress_guard.Evaluation, _tasks_no, counts, upto(progress_guard.LOSS_MAX)
    ),
    "CLOSE": st.builds(message_bodies.Close, _tasks_no),
    "RESUME": st.builds(progress_guard.Resume, _tasks_no, counts),
    "TASK_LOSS": st.builds(
        progress_guard.TaskLoss,
        counts,
        upto(progress_guard.LOSS_MAX),
        counts,
        upto(progress_guard.LOSS_MAX),
        counts,
    ),
    "ROLLBACK": st.builds(
        _rollback,
        _tasks_no,
        upto(1 << 20),
        upto(1 << 20, 1),
        _models,
        st.sets(_devices, min_size=1, max_size=5),
    ),
    "VALIDATOR_SET": _sets,
    "GENESIS": _genesis,
    "HEADER": _headers,
    "BLOCK": st.builds(blocks.Block, _headers, tuples(st.binary(max_size=40), 5)),
    "VOTE": st.builds(
        blocks.Vote,
        upto(2, 1),
        heights,
        upto(blocks.ROUND_MAX),
        st.none() | digests,
        counts,
        upto(genesis.VALIDATORS_MAX - 1),
        signatures,
    ),
    "CERTIFICATE": _certificates,
    "PROPOSAL": st.builds(
        blocks.Proposal,
        heights,
        upto(blocks.ROUND_MAX),
        upto(blocks.ROUND_MAX),
        digests,
        upto(genesis.VALIDATORS_MAX - 1),
        signatures,
        st.binary(max_size=80),
        st.none() | _certificates,
        st.none() | _certificates,
    ),
    "STATE_PROOF": _proofs,
    "TRUSTED": st.builds(
        light_client.TrustedState,
        digests,
        upto(1),
        counts,
        _sets,
        st.none() | st.builds(light_client.CertifiedHeader, _headers, _certificates),
        st.none() | _sets,
        counts,
    ),
    "HANDOVER": _handovers,
    "MANIFEST": st.builds(
        light_client.ModelManifest,
        _tasks_no,
        counts,
        _models,
        _headers,
        _certificates,
        _proofs,
        _proofs,
        tuples(_handovers, 2),
        st.none() | _proofs,
        st.none() | _proofs,
    ),
    "BOARD": st.builds(
        board_statement.BoardRecord,
        st.binary(min_size=32, max_size=32),
        _devices,
        *(4 * [counts]),
        upto(key_rotation.ROTATIONS_MAX),
        *(3 * [counts]),
    ),
    "PROGRESS": st.builds(board_statement.TaskProgress, *(4 * [counts])),
    "STATEMENT": st.builds(
        board_statement.BoardStatement,
        digests,
        _headers,
        _certificates,
        _proofs,
        _proofs,
    ),
    "FINAL": st.builds(
        light_client.FinalityProof,
        _envelopes,
        _headers,
        _certificates,
        upto(1 << 20),
        upto(1 << 20, 1),
        tuples(digests, merkle.PATH_MAX),
    ),
}
