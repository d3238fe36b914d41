"""Table of transactions: all that is particular to one kind, in one row.

The kinds that enter blocks, the codec that reads a body for export, the rule that
executes it, and the tables of docs/chain.md and docs/protocol.md follow from
`TRANSACTIONS`. A kind is added by its row, its rule, and a module that sends it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from starling.coordinator.chain.governance import (
    board_registry,
    chain_parameters,
    credit_accounts,
    governance_proposals,
    learners,
    proposer_absence,
    slashing,
    validator_set,
)
from starling.coordinator.chain.state.overlay import BlockContext, StateOverlay
from starling.coordinator.chain.tasks import (
    attestation,
    closures,
    contribution_rewards,
    evaluations,
    rollbacks,
    scores,
    task_opening,
    version_cut,
)
from starling.protocol.chain.credit_policy import FUND, RELEASE, TRANSFER, USE
from starling.protocol.chain.evidence import EVIDENCE
from starling.protocol.chain.governance import MOTION
from starling.protocol.chain.key_rotation import ROTATE
from starling.protocol.chain.update_scores import SCORE
from starling.protocol.ids import Digest
from starling.protocol.learning.progress_guard import EVALUATION, RESUME
from starling.protocol.learning.task import TASK
from starling.protocol.schema.msgpack_codec import Codec
from starling.protocol.wire.envelope import Envelope, MessageKind
from starling.protocol.wire.message_bodies import (
    ATTEST,
    CLOSE,
    CONTRIBUTION,
    FORFEIT,
    LEARNER,
    PRESENT,
    REGISTER,
    REVOKE,
)

Rule = Callable[[StateOverlay, BlockContext, Envelope, Digest], None]
"""Execution of one transaction: changes the overlay, or raises `ProtocolError`.

The last argument is the transaction's id.
"""


class Signer(StrEnum):
    """Party whose signature a kind of transaction needs, in the words of the docs."""

    OPERATOR = "operator"
    BOARD = "board"
    BOTH_KEYS = "board, by its old and its new key"
    VALIDATOR = "validator"
    QUORUM = "quorum of validators"
    OWNER = "owner of an account"
    ANYONE = "anyone"


@dataclass(frozen=True)
class Transaction:
    """One kind of transaction.

    Attributes:
      kind: Its number on the wire.
      codec: Of its body.
      rule: Its execution.
      signer: The party that must have signed it.
      senders: Modules below `starling` that sign one; empty if nothing does.
      anchor: Section of docs/chain.md that explains it.
    """

    kind: MessageKind
    codec: Codec[Any]
    rule: Rule
    signer: Signer
    senders: tuple[str, ...]
    anchor: str = "transactions"


_BOARDS = ("coordinator.runtime.operations.board_admission",)
_TASKS = ("coordinator.runtime.operations.task_publication",)
_CREDITS_AND_GOVERNANCE = ("coordinator.cli.verbs.credits_and_governance",)

_ROWS = (
    Transaction(
        MessageKind.REGISTER,
        REGISTER,
        board_registry.register,
        Signer.OPERATOR,
        _BOARDS,
    ),
    Transaction(
        MessageKind.REVOKE, REVOKE, board_registry.revoke, Signer.OPERATOR, _BOARDS
    ),
    Transaction(MessageKind.TASK, TASK, task_opening.publish, Signer.OPERATOR, _TASKS),
    Transaction(
        MessageKind.UPDATE,
        CONTRIBUTION,
        version_cut.update,
        Signer.BOARD,
        ("agent.update.signed_update",),
    ),
    Transaction(
        MessageKind.ATTEST,
        ATTEST,
        attestation.attest,
        Signer.VALIDATOR,
        ("coordinator.machine",),
        "from-updates-to-versions",
    ),
    Transaction(
        MessageKind.EVIDENCE,
        EVIDENCE,
        slashing.accuse,
        Signer.ANYONE,
        (
            "coordinator.chain.node.equivocation_report",
            "coordinator.commit.evidence_submission",
        ),
        "credits",
    ),
    Transaction(
        MessageKind.ROTATE,
        ROTATE,
        board_registry.rotate,
        Signer.BOTH_KEYS,
        ("protocol.chain.key_rotation",),
        "keys",
    ),
    Transaction(
        MessageKind.OPERATOR,
        MOTION,
        governance_proposals.change_operators,
        Signer.QUORUM,
        _CREDITS_AND_GOVERNANCE,
        "motions",
    ),
    Transaction(
        MessageKind.PRESENT,
        PRESENT,
        proposer_absence.present,
        Signer.VALIDATOR,
        ("coordinator.chain.node.height",),
    ),
    Transaction(
        MessageKind.FUND,
        FUND,
        credit_accounts.fund,
        Signer.OPERATOR,
        _CREDITS_AND_GOVERNANCE,
        "credits",
    ),
    Transaction(
        MessageKind.TRANSFER,
        TRANSFER,
        credit_accounts.transfer,
        Signer.OWNER,
        _CREDITS_AND_GOVERNANCE,
        "credits",
    ),
    Transaction(
        MessageKind.RELEASE,
        RELEASE,
        slashing.release,
        Signer.OPERATOR,
        _CREDITS_AND_GOVERNANCE,
        "credits",
    ),
    Transaction(
        MessageKind.SCORE,
        SCORE,
        scores.score,
        Signer.VALIDATOR,
        ("coordinator.machine",),
        "scores",
    ),
    Transaction(
        MessageKind.VALSET,
        MOTION,
        validator_set.change_validators,
        Signer.QUORUM,
        _CREDITS_AND_GOVERNANCE,
        "validators",
    ),
    Transaction(
        MessageKind.PARAM,
        MOTION,
        chain_parameters.change_parameter,
        Signer.QUORUM,
        _CREDITS_AND_GOVERNANCE,
        "parameters-and-upgrades",
    ),
    Transaction(
        MessageKind.UPGRADE,
        MOTION,
        chain_parameters.upgrade,
        Signer.QUORUM,
        _CREDITS_AND_GOVERNANCE,
        "parameters-and-upgrades",
    ),
    Transaction(
        MessageKind.FORFEIT,
        FORFEIT,
        version_cut.forfeit,
        Signer.BOARD,
        ("agent.update.lost_update_report",),
        "when-updates-are-lost",
    ),
    Transaction(
        MessageKind.LEARNER,
        LEARNER,
        learners.change,
        Signer.OPERATOR,
        (
            "coordinator.cli.verbs.learner_admission",
            "coordinator.runtime.enrolment.newcomers",
        ),
        "learners",
    ),
    Transaction(
        MessageKind.EVALUATION,
        EVALUATION,
        evaluations.evaluation,
        Signer.VALIDATOR,
        ("coordinator.machine",),
        "losses-of-versions",
    ),
    Transaction(
        MessageKind.RESUME,
        RESUME,
        evaluations.resume,
        Signer.OPERATOR,
        _TASKS,
        "losses-of-versions",
    ),
    Transaction(
        MessageKind.CLOSE,
        CLOSE,
        closures.close,
        Signer.OPERATOR,
        _TASKS,
        "closed-tasks",
    ),
    Transaction(
        MessageKind.ROLLBACK,
        MOTION,
        rollbacks.roll_back,
        Signer.QUORUM,
        ("coordinator.cli.verbs.version_rollback",),
        "rollbacks",
    ),
    Transaction(
        MessageKind.USE,
        USE,
        contribution_rewards.use,
        Signer.OPERATOR,
        ("coordinator.runtime.operations.use_metering",),
        "rewards-by-contribution",
    ),
)

TRANSACTIONS: dict[int, Transaction] = {row.kind: row for row in _ROWS}
"""The rows by the number of their kind; an envelope of any other enters no block."""
