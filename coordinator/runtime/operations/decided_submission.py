"""Submission of an operator's transaction with the chain's decision about it."""

from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.chain_decision import (
    ChainDecision,
    await_decision,
)
from starling.coordinator.runtime.operations.submission import submit
from starling.protocol.wire.envelope import MessageKind


def submit_and_wait(
    home: CoordinatorHome, kind: MessageKind, body: bytes, wait_s: float, failed: str
) -> ChainDecision:
    """Hands a transaction in, and waits for the block that decides.

    Args:
      home: Of the coordinator, with the operator's key.
      kind: Of the transaction.
      body: Its content.
      wait_s: For the chain's decision, at most.
      failed: What to say did not happen, if the chain refuses it.

    Raises:
      OperationError: If the chain refuses it.
    """
    decision = await_decision(home, submit(home, kind, body), wait_s)
    decision.require(failed)
    return decision
