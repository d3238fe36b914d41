"""LEARNER: who may read and ask before it decides.

    learner/<id>    `LearnerRecord`: an operator admitted it, and no set has taken it in
    learners        how many there are

A newcomer needs the chain before it counts: from the height of its VALSET on it would
otherwise be missing from every quorum until it has caught up. A learner is given blocks
and answers, tells by signed statuses where it is, and has no vote. All that it is given
proves itself and is no secret, so that one operator may admit it.

Source: etcd, "Learner" (design documents), after Ongaro's thesis, section 4.2.1.
"""

from collections.abc import Iterator
from typing import Annotated

from starling.coordinator.chain.governance.permissions import check_operator
from starling.coordinator.chain.state import board_records, validator_records
from starling.coordinator.chain.state.overlay import BlockContext, StateOverlay
from starling.coordinator.chain.state.state_table import (
    NUMBER,
    StateReader,
    Table,
    alone,
    by_identity,
    count,
)
from starling.protocol.chain.genesis import Genesis, ValidatorSet
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import DeviceId, Digest, PublicKey, device_id
from starling.protocol.schema.msgpack_codec import (
    Structure,
    structure,
    text,
)
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import LEARNER, NAME_BYTES_MAX

LEARNERS_MAX = 16


class LearnerRecord(Structure, frozen=True):
    """Identity that may read and ask.

    Attributes:
      public: Its key, by which it is to decide later.
      name: For people.
    """

    public: PublicKey
    name: Annotated[str, text(NAME_BYTES_MAX)]


_LEARNER = structure(LearnerRecord, 128)
_LEARNERS = Table(b"learner/", by_identity, _LEARNER)
"""By id: who may read and ask before it decides."""
_LEARNER_COUNT = Table(b"learners", alone, NUMBER)


def learner(tree: StateReader, identity: DeviceId) -> LearnerRecord | None:
    """Learner under an id; None without one."""
    return _LEARNERS.get(tree, identity)


def change(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Admits a learner, or takes it out.

    Raises:
      ProtocolError: NOT_AUTHORISED, if no operator signed it or its key was convicted;
        ALREADY_KNOWN, for a key that learns, decides or is in use; NOT_ENROLLED, for
        one that is to go and does not learn; BUSY or MALFORMED.
    """
    del identity
    body = LEARNER.unpack(envelope.body)
    check_operator(draft, envelope)
    who = device_id(body.public)
    known = learner(draft, who) is not None
    if not body.admitted:
        if not known:
            raise ProtocolError("no such learner", Reason.NOT_ENROLLED)
        forget(draft, body.public)
        return
    if known or is_member(draft, context.genesis, context.height, body.public):
        # A board's key signs updates: evidence must name one owner of a key.
        raise ProtocolError("it learns or decides", Reason.ALREADY_KNOWN)
    if board_records.in_use(draft, body.public):
        raise ProtocolError("the key is in use", Reason.ALREADY_KNOWN)
    if board_records.fault(draft, body.public) is not None:
        raise ProtocolError("it was convicted", Reason.NOT_AUTHORISED)
    learning = count(draft, _LEARNER_COUNT)
    if learning >= LEARNERS_MAX:
        raise ProtocolError(f"{LEARNERS_MAX} learners at most", Reason.BUSY)
    _LEARNERS.put(draft, LearnerRecord(body.public, body.name), who)
    _LEARNER_COUNT.put(draft, learning + 1)


def forget(draft: StateOverlay, public: PublicKey) -> None:
    """It learns no more: it decides, or an operator took it out."""
    who = device_id(public)
    if learner(draft, who) is None:
        return
    _LEARNERS.drop(draft, who)
    left = count(draft, _LEARNER_COUNT) - 1
    if left:
        _LEARNER_COUNT.put(draft, left)
    else:
        # Without learners the state has no such key, as on a chain that never had any.
        _LEARNER_COUNT.drop(draft)


def is_member(tree: StateReader, genesis: Genesis, height: int, public: bytes) -> bool:
    """True if a key decides this height or one of the next two.

    Args:
      tree: The state after the block before.
      genesis: What the chain started from.
      height: Of the block to come.
      public: The key.
    """
    # One change at a time: the set in between is one of these two.
    sets = (
        validator_records.validators(tree, genesis, at) for at in (height, height + 2)
    )
    return any(each.index_of(public) is not None for each in sets)


def may_send_status(
    tree: StateReader, genesis: Genesis, height: int, public: bytes
) -> bool:
    """True if a key's statuses are read: those of validators and of learners."""
    if is_member(tree, genesis, height, public):
        return True
    return learner(tree, device_id(public)) is not None


def sends_status(
    tree: StateReader, genesis: Genesis, height: int, public: bytes
) -> bool:
    """True if this coordinator publishes its status.

    Who is new cannot know whether it was admitted before it has come so far. But who
    sees that it was taken out has nothing to say.
    """
    if may_send_status(tree, genesis, height, public):
        return True
    return all(each.index_of(public) is None for each in _former(tree, genesis))


def _former(tree: StateReader, genesis: Genesis) -> Iterator[ValidatorSet]:
    yield genesis.validators
    known = validator_records.epochs(tree)
    for number in range(known.first, known.following):
        found = validator_records.epoch(tree, number)
        if found is not None:
            yield found.validators
