"""Payment of a task's contributors for the use of its model, by a meter's reading."""

from dataclasses import dataclass
from typing import Any

from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.chain_decision import (
    ChainDecision,
    uses_paid,
)
from starling.coordinator.runtime.operations.decided_submission import submit_and_wait
from starling.protocol.chain.credit_policy import USE, Use
from starling.protocol.wire.envelope import MessageKind


@dataclass(frozen=True)
class UsePayment:
    """Uses of a model that were to be paid.

    Attributes:
      asked: The reading.
      before: What the meter showed before, by the stored chain.
      price: Credits for each use.
      decision: Of the chain.
    """

    asked: Use
    before: int
    price: int
    decision: ChainDecision

    @property
    def uses(self) -> int:
        """Uses since the last reading."""
        return self.asked.reading - self.before

    @property
    def amount(self) -> int:
        """Credits for them."""
        return self.uses * self.price

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "task": self.asked.task,
            "reading": self.asked.reading,
            "uses": self.uses,
            "price": self.price,
            "amount": self.amount,
            **self.decision.document(),
        }

    def text(self) -> str:
        """For people."""
        done = (
            f"{self.uses} uses of task {self.asked.task} since reading {self.before}: "
            f"{self.amount} credits to its contributors"
        )
        return self.decision.text(done, "whether they are paid")


def pay_for_use(home: CoordinatorHome, asked: Use, wait_s: float) -> UsePayment:
    """Pays for what a meter shows more than it did.

    Args:
      home: Of the coordinator, with the operator's key.
      asked: The reading.
      wait_s: For the chain's decision, at most.

    Raises:
      OperationError: If the chain refuses.
    """
    # Read before, for people: once it is decided the chain shows the new reading.
    before, price = uses_paid(home, asked.task, home.operator_key().identity)
    body, failed = USE.pack(asked), f"the use of task {asked.task} is not paid"
    decision = submit_and_wait(home, MessageKind.USE, body, wait_s, failed)
    return UsePayment(asked, before, price, decision)
