"""Signs a transaction of the operator and hands it to the running coordinator."""

from starling.coordinator.runtime import command_inbox
from starling.coordinator.runtime.home import CoordinatorHome
from starling.durable.locks import wait_for_lock
from starling.protocol.ids import Digest
from starling.protocol.wire.envelope import MessageKind, sign


def submit(home: CoordinatorHome, kind: MessageKind, body: bytes) -> Digest:
    """Hands a transaction of the operator to the running coordinator.

    Returns:
      Its id.
    """
    chain_id = home.genesis().chain_id()
    # A command and the console may be at it at once; each number is used once.
    with wait_for_lock(home.state / "operator.lock"):
        counter = home.next_counter("operator")
    envelope = sign(home.operator_key(), chain_id, kind, counter, body)
    command_inbox.drop_transaction(home.inbox, envelope, chain_id)
    return envelope.identity(chain_id)
