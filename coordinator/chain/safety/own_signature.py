"""A signature under this validator's own key that it did not make: it stops voting."""

from starling.coordinator.chain.chain_step import BlamePeer, ChainStep
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import Reason


def report_own_signature(step: ChainStep, what: str) -> None:
    """Handles a signature of this key that is not in the vote journal: vote no more.

    Another process runs with a copy of the key, or the journal is an older one.
    """
    detail = f"our own {what}, not in our journal"
    signer = step.state.validator.key.public
    step.emit(BlamePeer(Reason.EQUIVOCATION, detail, signer))
    step.state = evolve(step.state, copied=True)
