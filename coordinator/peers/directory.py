"""Directory of coordinators, as the chain has it now.

A coordinator's place in the validator set changes with the set, and two that are not at
the same height may disagree about it; so among themselves they go by their ids.

Whom the chain took out has no rights from then on: it is neither heard nor answered.
Founders are no exception. Who has nothing of the chain yet knows the founders only, and
who is behind knows the set of its own height; both hear whoever still belongs to it. If
nobody does, a pinned header names who did lately (`ChainHead.pinned`).
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from starling.coordinator.chain.chain_step import ChainState
from starling.coordinator.chain.governance import learners
from starling.coordinator.chain.state import validator_records
from starling.protocol.chain.genesis import Validator, ValidatorSet
from starling.protocol.ids import DeviceId, PublicKey, device_id


def is_coordinator(ledger: ChainState, identity: DeviceId) -> bool:
    """True for a validator of this height or the next, by the chain known here.

    Whoever has just been added must catch up before its first height. While we have
    not come to the header that we pin, those whom it names count, too.
    """
    return any(identity in _by_id(each) for each in _sets(ledger))


def is_learner(ledger: ChainState, identity: DeviceId) -> bool:
    """True for an identity that may read and ask, but decides nothing yet."""
    return learners.learner(ledger.tree, identity) is not None


def may_speak(ledger: ChainState, identity: DeviceId) -> bool:
    """True for an identity whose messages are read at all."""
    return is_coordinator(ledger, identity) or is_learner(ledger, identity)


def name_of(ledger: ChainState, identity: DeviceId) -> str:
    """A coordinator's name, for people."""
    for each in _sets(ledger):
        if identity in _by_id(each):
            return _by_id(each)[identity].name
    learner = learners.learner(ledger.tree, identity)
    return "a former member" if learner is None else learner.name


def sealing_key(ledger: ChainState, identity: DeviceId) -> bytes | None:
    """The X25519 key that a coordinator opens with; None for any other identity."""
    for each in _sets(ledger):
        if identity in _by_id(each):
            return _by_id(each)[identity].sealing
    return None


def own_id(ledger: ChainState) -> DeviceId:
    """Our own id."""
    return device_id(ledger.validator.key.public)


def public_keys(ledger: ChainState) -> tuple[PublicKey, ...]:
    """The keys of those who decide this height, in the order of the set."""
    return tuple([one.public for one in ledger.validator.roster.validators.members])


def asked(ledger: ChainState) -> tuple[PublicKey, ...]:
    """The keys of those whom we may ask, rising.

    They decide this height, or the pinned one that we have not come to.
    """
    pinned = _pinned(ledger)
    if not pinned:
        return public_keys(ledger)
    sets = (ledger.validator.roster.validators, *pinned)
    return tuple(sorted({one.public for each in sets for one in each.members}))


def _sets(ledger: ChainState) -> Iterator[ValidatorSet]:
    """This height's set first: of most peers nothing else needs to be looked up."""
    yield ledger.validator.roster.validators
    tip = ledger.tip
    # The set after this height's: it has to be heard before it decides.
    yield validator_records.validators(tip.tree, tip.genesis, tip.height + 2)
    yield from _pinned(ledger)


def _pinned(ledger: ChainState) -> tuple[ValidatorSet, ...]:
    pinned = ledger.tip.pinned
    ahead = pinned is not None and ledger.tip.height < pinned.height
    return (pinned.validators,) if ahead and pinned is not None else ()


@lru_cache(maxsize=16)
def _by_id(validators: ValidatorSet) -> Mapping[DeviceId, Validator]:
    # Sets change rarely, and each message asks for its sender.
    return {device_id(member.public): member for member in validators.members}
