"""Proposer absence: a validator that misses its turn is skipped until it is back.

The header of a block names its maker, and nobody prevotes a fresh block that names
another than the leader of its round. So whoever stood before the maker in the height's
order missed a turn, and the chain itself says so. Such a validator leads the last
rounds only, until it says PRESENT or makes a block in spite of that. Passing over
permutes the order and removes nobody: each leads within any n rounds.

Source: Tendermint's rotation of proposers, arXiv:1807.04938 section 2.3 (`proposer`),
which asks only that every correct validator leads again and again.
"""

from collections.abc import Sequence

from starling.coordinator.chain.consensus.proposer_order import ProposerSchedule, turns
from starling.coordinator.chain.state import validator_records
from starling.coordinator.chain.state.overlay import BlockContext, StateOverlay
from starling.coordinator.chain.state.state_table import StateReader
from starling.coordinator.chain.state.validator_records import AbsenceRecord
from starling.protocol.chain.genesis import Genesis
from starling.protocol.errors import ProtocolError, Reason, StaleUpdate
from starling.protocol.ids import Digest, PublicKey
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import PRESENT

WAIT_HEIGHTS_MAX = 1024
"""Longest wait of a validator that keeps missing its turn after it came back."""
_MISSES_MAX = 64


def roster_of(tree: StateReader, genesis: Genesis, height: int) -> ProposerSchedule:
    """Validators that decide a height, in their order as proposers.

    Args:
      tree: The state after the block before.
      genesis: What the chain started from.
      height: Of the block to come.
    """
    validators = validator_records.validators(tree, genesis, height)
    members = enumerate(validators.members)
    absent = {place for place, member in members if _is_away(tree, member.public)}
    return ProposerSchedule(validators, turns(len(validators.members), height, absent))


def _is_away(tree: StateReader, public: bytes) -> bool:
    known = validator_records.absence(tree, public)
    return known is not None and known.away == 1


def back_from(absence: AbsenceRecord) -> int:
    """The first height at which a validator that missed its turn may be back.

    The next one after the first miss; the wait doubles with each further one that no
    own block lies between.
    """
    return absence.height + min(WAIT_HEIGHTS_MAX, 1 << (absence.misses - 1))


def note(block: StateOverlay, context: BlockContext) -> None:
    """Writes down who missed a turn at this height; its maker has made good.

    Before the block's transactions, since the order was set before them.
    """
    roster = roster_of(block, context.genesis, context.height)
    members = roster.validators.members
    # First of all: a block of its own clears even the last of many misses.
    maker = members[context.proposer].public
    if validator_records.absence(block, maker) is not None:
        validator_records.ABSENCES.drop(block, maker)
    for place in roster.missed(context.proposer):
        public = members[place].public
        known = validator_records.absence(block, public)
        # Bounded, as the record has one byte for it and the wait grows no further.
        misses = min(_MISSES_MAX, (known.misses if known is not None else 0) + 1)
        record = AbsenceRecord(misses, context.height, 1)
        validator_records.ABSENCES.put(block, record, public)


def forget(block: StateOverlay, left: Sequence[PublicKey]) -> None:
    """Drops the misses of validators that left; who comes back has none."""
    for public in left:
        if validator_records.absence(block, public) is not None:
            validator_records.ABSENCES.drop(block, public)


def present(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Gives a validator its turns back.

    Raises:
      ProtocolError: NOT_AUTHORISED, ALREADY_KNOWN, STALE, BUSY or MALFORMED.
    """
    del identity
    body = PRESENT.unpack(envelope.body)
    validators = validator_records.validators(draft, context.genesis, context.height)
    if validators.index_of(envelope.sender) is None:
        raise ProtocolError("signed by no validator", Reason.NOT_AUTHORISED)
    known = validator_records.absence(draft, envelope.sender)
    if known is None or not known.away:
        raise ProtocolError("this validator is not passed over", Reason.ALREADY_KNOWN)
    # A PRESENT answers one miss: repeated after the next one it must not clear that.
    if body.missed != known.height:
        raise StaleUpdate(f"missed its turn at height {known.height} again")
    if context.height < back_from(known):
        detail = f"may be back from height {back_from(known)}"
        raise ProtocolError(detail, Reason.BUSY)
    # The count stays until a block of its own, so that the wait doubles if it fails
    # again.
    back = AbsenceRecord(known.misses, known.height, 0)
    validator_records.ABSENCES.put(draft, back, envelope.sender)
