"""EVIDENCE: the chain marks who provably signed two things that exclude each other.

Anyone may bring it: the signatures in it are what counts. What a conviction costs
belongs here too, once validators and boards have something to lose.
"""

from coordinator.ledger import views
from coordinator.ledger.draft import Context, Draft
from coordinator.ledger.records import FAULT, Fault
from protocol.envelope import Envelope
from protocol.errors import ProtocolError, Reason, StaleUpdate
from protocol.evidence import AGE_HEIGHTS_MAX, EVIDENCE, convict
from protocol.ids import Digest


def accuse(
    draft: Draft, context: Context, envelope: Envelope, identity: Digest
) -> None:
    """Marks the offender, once.

    Raises:
      ProtocolError: ALREADY_KNOWN, NOT_ENROLLED, STALE, INVALID_PROOF, BAD_SIGNATURE or
        MALFORMED.
    """
    evidence = EVIDENCE.unpack(envelope.body)
    validators = context.genesis.validators
    convicted = convict(
        evidence, context.chain_id, validators, lambda key: views.owner(draft, key)
    )
    public = convicted.public
    offender = views.owner(draft, public)
    board = views.board(draft, offender)
    if board is None and validators.index_of(public) is None:
        raise ProtocolError("the offender takes no part", Reason.NOT_ENROLLED)
    if views.fault(draft, public) is not None:
        raise ProtocolError("the offender is convicted", Reason.ALREADY_KNOWN)
    happened = convicted.height
    if happened is not None and context.height - happened > AGE_HEIGHTS_MAX:
        raise StaleUpdate(f"evidence of height {happened}")
    fault = Fault(evidence.offence, context.height, identity)
    draft.put(views.fault_key(offender), FAULT.pack(fault))
