"""Who may decide about others: operators, by their keys."""

from coordinator.ledger import layout
from coordinator.ledger.draft import Draft
from protocol.envelope import Envelope
from protocol.errors import ProtocolError, Reason


def check_operator(draft: Draft, envelope: Envelope) -> None:
    """Refuses what no operator signed.

    Raises:
      ProtocolError: NOT_AUTHORISED.
    """
    if draft.get(layout.operator_key(envelope.sender)) is None:
        raise ProtocolError("signed by no operator", Reason.NOT_AUTHORISED)
