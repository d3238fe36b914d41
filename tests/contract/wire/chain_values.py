"""Strategies for blocks, votes, proofs and what stands in the chain's state."""

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
from starling.protocol.crypto import merkle, state_tree
from starling.protocol.ids import DeviceId, TaskId, Version
from starling.protocol.learning import task
from starling.protocol.schema.msgpack_codec import UINT_MAX
from starling.protocol.wire import message_bodies
from tests.contract.wire.field_values import (
    counts,
    devices,
    digests,
    heights,
    names,
    signatures,
    task_numbers,
    tuples,
    upto,
)
from tests.contract.wire.message_values import envelopes
from tests.contract.wire.task_values import models


def _rollback(
    number: TaskId,
    first: int,
    later: int,
    model: task.ModelDigests,
    boards: set[DeviceId],
) -> task_rollback.TaskRollback:
    versions = Version(first), Version(first + later)
    return task_rollback.TaskRollback(number, *versions, model, tuple(sorted(boards)))


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
CHAIN_VALUES: dict[str, SearchStrategy[Any]] = {
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
    "VALIDATOR_CHANGE": st.builds(governance.ValidatorChange, _validators, st.none())
    | st.builds(governance.ValidatorChange, st.none(), digests),
    "PARAMETER_CHANGE": st.builds(
        governance.ParameterChange, upto(255), counts, heights
    ),
    "UPGRADE_CHANGE": st.builds(governance.UpgradeChange, upto(1 << 16), heights),
    "FUND": st.builds(
        credit_policy.Fund, task_numbers, upto(credit_policy.CREDITS_MAX, 1)
    ),
    "TRANSFER": st.builds(
        credit_policy.Transfer, devices, upto(credit_policy.CREDITS_MAX, 1)
    ),
    "USE": st.builds(credit_policy.Use, task_numbers, upto(UINT_MAX, 1)),
    "RELEASE": st.builds(credit_policy.DepositRefund, devices),
    "SCORE": st.builds(update_scores.Score, task_numbers, counts, _scores),
    "SCORES": st.builds(update_scores.Scores, upto(32, 1), _scores),
    "PAYMENTS": st.builds(
        payments.Payments,
        tuples(
            st.builds(payments.Payment, devices, upto(credit_policy.CREDITS_MAX)), 5, 1
        ),
    ),
    "ROLLBACK": st.builds(
        _rollback,
        task_numbers,
        upto(1 << 20),
        upto(1 << 20, 1),
        models,
        st.sets(devices, min_size=1, max_size=5),
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
        task_numbers,
        counts,
        models,
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
        devices,
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
        envelopes,
        _headers,
        _certificates,
        upto(1 << 20),
        upto(1 << 20, 1),
        tuples(digests, merkle.PATH_MAX),
    ),
}
