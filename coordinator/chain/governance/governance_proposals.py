"""Decisions of a quorum of validators: each kind of proposal has its rule here."""

from starling.coordinator.chain.governance import credit_accounts
from starling.coordinator.chain.state import operator_records, validator_records
from starling.coordinator.chain.state.overlay import BlockContext, StateOverlay
from starling.protocol.chain.genesis import OPERATORS_MAX, FaultModel
from starling.protocol.chain.governance import (
    MOTION,
    OPERATOR_CHANGE,
    GovernanceProposal,
)
from starling.protocol.errors import DecodeError, ProtocolError, Reason
from starling.protocol.ids import Digest, PublicKey, device_id
from starling.protocol.wire.envelope import Envelope


def carried(
    draft: StateOverlay, context: BlockContext, envelope: Envelope
) -> GovernanceProposal:
    """A motion that a quorum approved, counted; its own rule is still to follow.

    Raises:
      ProtocolError: STALE, if another motion was carried since it was drawn up or its
        last height and time are over; NOT_AUTHORISED, BAD_SIGNATURE or MALFORMED.
    """
    motion = MOTION.unpack(envelope.body)
    # The signatures cover the motion's kind, and the envelope names the rule that is
    # run.
    if motion.kind != envelope.kind:
        raise DecodeError(f"motion of kind {motion.kind}")
    count = operator_records.motion_count(draft)
    if motion.number != count:
        raise ProtocolError(
            f"motion {motion.number}, the next one is {count}", Reason.STALE
        )
    # Both must be over: a fast chain must not end a vote early, nor a slow one keep it.
    if context.height > motion.until and context.time_ms > motion.until_ms:
        raise ProtocolError(f"good until height {motion.until}", Reason.STALE)
    fault_model = FaultModel(context.genesis.fault_model)
    validators = validator_records.validators(draft, context.genesis, context.height)
    motion.check(context.chain_id, validators, fault_model)
    # Undone with the draft if the motion's own rule refuses it.
    operator_records.MOTION_COUNT.put(draft, count + 1)
    return motion


def change_operators(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Admits an operator or takes it out; what it signed before stays.

    Not one operator alone: whoever stole one key would take out all others.

    Raises:
      ProtocolError: As `carried`; ALREADY_KNOWN, NOT_ENROLLED, BUSY or
        POLICY_MISMATCH.
    """
    del identity
    change = OPERATOR_CHANGE.unpack(carried(draft, context, envelope).content)
    known = operator_records.is_operator(draft, change.operator)
    count = operator_records.operator_count(draft)
    if change.admitted:
        _check_new(known, count)
        _put(draft, change.operator, admitted=True, count=count + 1)
        credit_accounts.open_account(draft, context, device_id(change.operator))
        return
    if not known:
        raise ProtocolError("no such operator", Reason.NOT_ENROLLED)
    # Without operators nobody could admit a board or a task again.
    if count == 1:
        raise ProtocolError("the last operator stays", Reason.POLICY_MISMATCH)
    _put(draft, change.operator, admitted=False, count=count - 1)


def _check_new(known: bool, count: int) -> None:
    if known:
        raise ProtocolError("the operator is admitted", Reason.ALREADY_KNOWN)
    if count >= OPERATORS_MAX:
        raise ProtocolError(f"{OPERATORS_MAX} operators at most", Reason.BUSY)


def _put(
    draft: StateOverlay, operator: PublicKey, *, admitted: bool, count: int
) -> None:
    if admitted:
        operator_records.OPERATORS.put(draft, b"", operator)
    else:
        operator_records.OPERATORS.drop(draft, operator)
    operator_records.OPERATOR_COUNT.put(draft, count)
