"""The state machine: what a transaction does to the state, and a block's transactions.

Pure and in integers only; nothing iterates a set, a tie is broken by order on the
chain. A transaction that is refused changes nothing and never stands in a valid block.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from coordinator.ledger import (
    accounts,
    attendance,
    attestation,
    conviction,
    dissent,
    layout,
    learners,
    motions,
    parameters,
    registry,
    scores,
    validators,
    versions,
    views,
    windows,
)
from coordinator.ledger.draft import Changes, Context, Draft, Happening
from protocol.envelope import TRANSACTION_KINDS, Envelope, Kind
from protocol.errors import ProtocolError, Reason
from protocol.genesis import Genesis
from protocol.ids import Digest
from protocol.statetree import StateTree

Rule = Callable[[Draft, Context, Envelope, Digest], None]

RULES: dict[Kind, Rule] = {
    Kind.REGISTER: registry.register,
    Kind.REVOKE: registry.revoke,
    Kind.TASK: versions.publish,
    Kind.UPDATE: versions.update,
    Kind.ATTEST: attestation.attest,
    Kind.EVIDENCE: conviction.accuse,
    Kind.ROTATE: registry.rotate,
    Kind.OPERATOR: motions.change_operators,
    Kind.PRESENT: attendance.present,
    Kind.FUND: accounts.fund,
    Kind.TRANSFER: accounts.transfer,
    Kind.UNJAIL: conviction.unjail,
    Kind.RELEASE: conviction.release,
    Kind.SCORE: scores.score,
    Kind.VALSET: validators.change_validators,
    Kind.PARAM: parameters.change_parameter,
    Kind.UPGRADE: parameters.upgrade,
    Kind.FORFEIT: versions.forfeit,
    Kind.LEARNER: learners.change,
}
"""One rule per kind of transaction."""

assert set(RULES) == TRANSACTION_KINDS


@dataclass(frozen=True)
class TxResult:
    """What became of a transaction.

    Attributes:
      identity: Its id.
      code: 0, or the `Reason` why it is refused.
      detail: For the log; empty if it is not refused.
    """

    identity: Digest
    code: int
    detail: str = ""


@dataclass(frozen=True)
class Execution:
    """What a block's transactions do.

    Attributes:
      tree: The state after it.
      changes: What differs from the state before.
      accepted: The transactions that applied, in order.
      results: One per transaction that was tried, in order.
      happenings: What others act upon, in order.
    """

    tree: StateTree
    changes: Changes
    accepted: tuple[Envelope, ...]
    results: tuple[TxResult, ...]
    happenings: tuple[Happening, ...]


def genesis_tree(genesis: Genesis) -> StateTree:
    """The state before the first block."""
    operators = set(genesis.operators)
    changes: Changes = {layout.operator_key(key): b"" for key in sorted(operators)}
    changes[layout.OPERATORS_KEY] = layout.pack_number(len(operators))
    changes.update(accounts.genesis_entries(genesis))
    return StateTree().update(changes)


def apply(
    tree: views.Reader, context: Context, envelope: Envelope
) -> tuple[Changes, TxResult]:
    """Applies one transaction whose signature was checked.

    Args:
      tree: The state before; it is not changed.
      context: The block it stands in.
      envelope: The transaction.

    Returns:
      The changes, none if it is refused, and the result.
    """
    draft = Draft(tree)
    return draft.changes, _apply(draft, context, envelope)


def _apply(draft: Draft, context: Context, envelope: Envelope) -> TxResult:
    identity = envelope.identity(context.chain_id)
    try:
        _rule_of(envelope)(draft, context, envelope, identity)
    except ProtocolError as error:
        draft.changes.clear()
        draft.happenings.clear()
        return TxResult(identity, error.reason, str(error))
    return TxResult(identity, 0)


def _rule_of(envelope: Envelope) -> Rule:
    for kind, rule in RULES.items():
        if kind == envelope.kind:
            return rule
    raise ProtocolError(f"kind {envelope.kind}", Reason.UNKNOWN_KIND)


def _follow_set(block: Draft, context: Context) -> None:
    """At the end of a set's first block: what was of who left goes, jobs are counted.

    All other blocks only compare their height.
    """
    left = validators.left(block, context)
    if left is None:
        return
    attendance.forget(block, left)
    dissent.forget(block, left)
    attestation.count_anew(block, context)


def execute(
    tree: StateTree, context: Context, envelopes: Iterable[Envelope]
) -> Execution:
    """Applies transactions in order, between what begins and what ends every block.

    Refused ones are left out of `accepted`; a block is valid only if none is refused.

    Raises:
      ConfigError: If this release does not know the rules of the block's height.
    """
    block = Draft(tree)
    parameters.require_known_rules(block, context.height)
    windows.note(block, context)
    attendance.note(block, context)
    accepted: list[Envelope] = []
    results: list[TxResult] = []
    for envelope in envelopes:
        draft = Draft(block)
        result = _apply(draft, context, envelope)
        results.append(result)
        if result.code == 0:
            accepted.append(envelope)
            block.changes.update(draft.changes)
            block.happenings.extend(draft.happenings)
    _follow_set(block, context)
    versions.cut_patient(block, context)
    return Execution(
        tree.update(block.changes),
        block.changes,
        tuple(accepted),
        tuple(results),
        tuple(block.happenings),
    )
