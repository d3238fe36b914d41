"""The state machine: what a transaction does to the state, and a block's transactions.

Pure and in integers only; nothing iterates a set, a tie is broken by order on the
chain. A transaction that is refused changes nothing and never stands in a valid block.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from starling.coordinator.chain.execution.transaction_table import TRANSACTIONS, Rule
from starling.coordinator.chain.governance import (
    chain_parameters,
    credit_accounts,
    expiry,
    proposer_absence,
    validator_set,
)
from starling.coordinator.chain.state import operator_records
from starling.coordinator.chain.state.overlay import (
    BlockContext,
    ChainEvent,
    Changes,
    StateOverlay,
)
from starling.coordinator.chain.state.state_table import StateReader
from starling.coordinator.chain.tasks import (
    attestation,
    attestation_mismatch,
    version_cut,
)
from starling.protocol.chain.genesis import Genesis
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import Digest
from starling.protocol.wire.envelope import Envelope


@dataclass(frozen=True)
class TxResult:
    """Result of a transaction.

    Attributes:
      identity: Its id.
      code: 0, or the `Reason` why it is refused.
      detail: For the log; empty if it is not refused.
    """

    identity: Digest
    code: int
    detail: str = ""


@dataclass(frozen=True)
class BlockExecution:
    """Result of executing a block's transactions.

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
    happenings: tuple[ChainEvent, ...]


def genesis_tree(genesis: Genesis) -> StateTree:
    """The state before the first block."""
    draft = StateOverlay(StateTree())
    # Sorted and each once: the genesis lists keys as people wrote them.
    operators = sorted(set(genesis.operators))
    for key in operators:
        operator_records.OPERATORS.put(draft, b"", key)
    operator_records.OPERATOR_COUNT.put(draft, len(operators))
    credit_accounts.put_genesis(draft, genesis)
    return StateTree().update(draft.changes)


def apply(
    tree: StateReader, context: BlockContext, envelope: Envelope
) -> tuple[Changes, TxResult]:
    """Applies one transaction whose signature was checked.

    Args:
      tree: The state before; it is not changed.
      context: The block it stands in.
      envelope: The transaction.

    Returns:
      The changes, none if it is refused, and the result.
    """
    draft = StateOverlay(tree)
    return draft.changes, _apply(draft, context, envelope)


def _apply(draft: StateOverlay, context: BlockContext, envelope: Envelope) -> TxResult:
    identity = envelope.identity(context.chain_id)
    try:
        _rule_of(envelope)(draft, context, envelope, identity)
    except ProtocolError as error:
        # The changes go to the caller for a refusal, too, and have to be none.
        draft.changes.clear()
        draft.happenings.clear()
        return TxResult(identity, error.reason, str(error))
    return TxResult(identity, 0)


def _rule_of(envelope: Envelope) -> Rule:
    known = TRANSACTIONS.get(envelope.kind)
    if known is None:
        raise ProtocolError(f"kind {envelope.kind}", Reason.UNKNOWN_KIND)
    return known.rule


def _follow_set(block: StateOverlay, context: BlockContext) -> None:
    """At the end of a set's first block: what was of who left goes, jobs are counted.

    All other blocks only compare their height.
    """
    left = validator_set.left(block, context)
    if left is None:
        return
    proposer_absence.forget(block, left)
    attestation_mismatch.forget(block, left)
    attestation.recount(block, context)


def execute(
    tree: StateTree, context: BlockContext, envelopes: Iterable[Envelope]
) -> BlockExecution:
    """Applies transactions in order, between what begins and what ends every block.

    Refused ones are left out of `accepted`; a block is valid only if none is refused.

    Raises:
      ConfigError: If this release does not know the rules of the block's height.
    """
    block = StateOverlay(tree)
    # Before anything else: by other rules each result would be another state.
    chain_parameters.require_known_rules(block, context.height)
    # Dated before its transactions, which may ask how old something is.
    expiry.note(block, context)
    proposer_absence.note(block, context)
    accepted: list[Envelope] = []
    results: list[TxResult] = []
    for envelope in envelopes:
        # An overlay of its own, so that a refusal leaves nothing behind.
        draft = StateOverlay(block)
        result = _apply(draft, context, envelope)
        results.append(result)
        if result.code == 0:
            accepted.append(envelope)
            block.changes.update(draft.changes)
            block.happenings.extend(draft.happenings)
    _follow_set(block, context)
    # Last: a version that a smaller set made final leaves room for a cut at once.
    version_cut.cut_patient(block, context)
    return BlockExecution(
        tree.update(block.changes),
        block.changes,
        tuple(accepted),
        tuple(results),
        tuple(block.happenings),
    )
