"""Validator set of each height: VALSET, and the earlier sets.

A motion that a block takes at height h is effective at h + 2: the header of h + 1
still names the old set as its own, and the new one as the next, so that whoever trusts
the old set is led to the new one. One validator comes or goes at a time, and nothing
changes while a change is on its way.

Sets that evidence can still reach are kept: who left answers for what it signed.

Source: CometBFT, spec/core/data_structures.md (`NextValidatorsHash`) for h + 2.
"""

from dataclasses import replace

from starling.coordinator.chain.governance import (
    credit_accounts,
    expiry,
    governance_proposals,
    learners,
)
from starling.coordinator.chain.governance.credit_accounts import Account
from starling.coordinator.chain.state import board_records, validator_records
from starling.coordinator.chain.state.overlay import (
    BlockContext,
    StateOverlay,
    ValidatorsChanged,
)
from starling.coordinator.chain.state.state_table import StateReader
from starling.coordinator.chain.state.validator_records import (
    Epoch,
    Epochs,
)
from starling.protocol.chain.genesis import (
    VALIDATORS_MAX,
    FaultModel,
    Validator,
    ValidatorSet,
)
from starling.protocol.chain.governance import VALIDATOR_CHANGE
from starling.protocol.crypto.sealed_blob import check_recipient
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import DeviceId, Digest, PublicKey, device_id
from starling.protocol.wire.envelope import Envelope

DELAY_BLOCKS = 2
"""From the block that takes a change to the first that the new set decides."""


def change_validators(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Adds a validator or removes one; whoever submits it pays the deposit.

    Raises:
      ProtocolError: As `governance_proposals.carried`; BUSY, while a change is on its
        way or the set is full; ALREADY_KNOWN, NOT_ENROLLED, INSUFFICIENT_FUNDS;
        NOT_AUTHORISED, for somebody who was convicted; POLICY_MISMATCH, if the fault
        model does not fit what is left; MALFORMED, for a sealing key of small order.
    """
    del identity
    change = VALIDATOR_CHANGE.unpack(
        governance_proposals.carried(draft, context, envelope).content
    )
    epochs = validator_records.epochs(draft)
    # `NextValidatorsHash` names one next set: a second change would have no header to
    # announce it.
    if epochs.following and context.height < _first_height(draft, epochs.following - 1):
        raise ProtocolError("a change is on its way", Reason.BUSY)
    present = validator_records.validators(draft, context.genesis, context.height)
    if change.added is not None:
        _check_new(draft, context, present, change.added)
        _take_deposit(draft, context, envelope, change.added.public)
        learners.forget(draft, change.added.public)
        members = (*present.members, change.added)
    else:
        assert change.removed is not None
        if present.index_of(change.removed) is None:
            raise ProtocolError("no validator's key", Reason.NOT_ENROLLED)
        # A removed key keeps its deposit until evidence can reach it no more
        # (`RELEASE`).
        members = tuple(one for one in present.members if one.public != change.removed)
    _check_size(context, len(members))
    # By key, since votes and bitmaps name members by their place.
    ordered = tuple(sorted(members, key=lambda member: member.public))
    _append(draft, context, epochs, ValidatorSet(ordered))
    draft.happen(ValidatorsChanged(context.height + DELAY_BLOCKS))


def _check_new(
    draft: StateOverlay, context: BlockContext, present: ValidatorSet, added: Validator
) -> None:
    if present.index_of(added.public) is not None:
        raise ProtocolError("it is a validator", Reason.ALREADY_KNOWN)
    if board_records.fault(draft, added.public) is not None:
        raise ProtocolError("it was convicted", Reason.NOT_AUTHORISED)
    if board_records.in_use(draft, added.public):
        raise ProtocolError("the key is in use", Reason.ALREADY_KNOWN)
    if len(present.members) >= VALIDATORS_MAX:
        raise ProtocolError(f"{VALIDATORS_MAX} validators at most", Reason.BUSY)
    # Boards seal to all or to nobody.
    check_recipient(added.sealing)


def _check_size(context: BlockContext, count: int) -> None:
    crash = context.genesis.fault_model == FaultModel.CRASH
    # A crash-only chain exists for 2 or 3, where lies could be borne by nobody.
    if count == 0 or (crash and count not in (2, 3)):
        detail = f"{count} validators do not fit the chain's fault model"
        raise ProtocolError(detail, Reason.POLICY_MISMATCH)


def left(tree: StateReader, context: BlockContext) -> tuple[PublicKey, ...] | None:
    """Validators that decide no more from this height on.

    Args:
      tree: A state after the block before, or a draft of this one.
      context: The block.

    Returns:
      None unless this height is the first one of a set; then their keys, and none of
      them if somebody came.
    """
    if not _begins(tree, context.height):
        return None
    before = validator_records.validators(tree, context.genesis, context.height - 1)
    present = validator_records.validators(tree, context.genesis, context.height)
    keys = [member.public for member in before.members]
    return tuple(key for key in keys if present.index_of(key) is None)


def _begins(tree: StateReader, height: int) -> bool:
    known = validator_records.epochs(tree)
    # The last one or, if this block took the next change, the one before it.
    for number in range(known.following - 1, known.first - 1, -1):
        begins = _first_height(tree, number)
        if begins <= height:
            return begins == height
    return False


def answers(tree: StateReader, context: BlockContext, identity: DeviceId) -> bool:
    """True for a validator, or a former one that evidence can still reach."""
    known, oldest = validator_records.epochs(tree), expiry.evidence_from(tree, context)
    # The set that decided the oldest height may have begun before it.
    sets = [validator_records.validators(tree, context.genesis, oldest)]
    for number in range(known.first, known.following):
        found = validator_records.epoch(tree, number)
        if found is not None and found.height >= oldest:
            sets.append(found.validators)
    members = (member for each in sets for member in each.members)
    return any(device_id(member.public) == identity for member in members)


def _take_deposit(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, public: PublicKey
) -> None:
    credit_accounts.open_account(draft, context, device_id(public))
    deposit = context.genesis.economy.validator_deposit
    if not deposit:
        return
    credit_accounts.debit(draft, board_records.owner(draft, envelope.sender), deposit)
    held = credit_accounts.account(draft, device_id(public)) or Account()
    after = replace(held, deposit=held.deposit + deposit)
    credit_accounts.put_account(draft, device_id(public), after)


def _first_height(tree: StateReader, number: int) -> int:
    found = validator_records.epoch(tree, number)
    assert found is not None, "epochs stand from the first to the last"
    return found.height


def _append(
    draft: StateOverlay, context: BlockContext, epochs: Epochs, validators: ValidatorSet
) -> None:
    """Begins an epoch; those that evidence no longer reaches go."""
    # Epoch 0 is the genesis's set and has no record.
    number = max(1, epochs.following)
    first, oldest = max(1, epochs.first), expiry.evidence_from(draft, context)
    # Of neighbouring sets the older is reached until the newer one begins.
    while first < number and _ended(draft, first, number) < oldest:
        validator_records.VALIDATOR_SETS.drop(draft, first)
        first += 1
    begins = context.height + DELAY_BLOCKS
    validator_records.VALIDATOR_SETS.put(draft, Epoch(begins, validators), number)
    validator_records.EPOCH_SPAN.put(draft, Epochs(first, number + 1))


def _ended(draft: StateOverlay, number: int, following: int) -> int:
    """The last height of an epoch; far away for the last one."""
    if number + 1 == following:
        return 1 << 62
    return _first_height(draft, number + 1) - 1


def known_from(tree: StateReader) -> int:
    """The first height whose validators the state still knows."""
    epochs = validator_records.epochs(tree)
    return 1 if epochs.first <= 1 else _first_height(tree, epochs.first)
