"""Who is who among the coordinators, as the chain says it now.

A coordinator's place in the validator set changes with the set, and two that are not at
the same height may disagree about it; so among themselves they go by their ids.
"""

from collections.abc import Mapping
from functools import lru_cache

from coordinator.ledger import views
from coordinator.ledger.turn import LedgerState
from protocol.genesis import Validator, ValidatorSet
from protocol.ids import DeviceId, PublicKey, device_id


def is_coordinator(ledger: LedgerState, identity: DeviceId) -> bool:
    """Whether somebody decides this height or the next, or founded the chain.

    Whoever has just been added must catch up before its first height, and whoever has
    caught up on nothing yet knows the founders only.
    """
    return any(identity in _by_id(each) for each in _sets(ledger))


def name_of(ledger: LedgerState, identity: DeviceId) -> str:
    """A coordinator's name, for people."""
    for each in _sets(ledger):
        if identity in _by_id(each):
            return _by_id(each)[identity].name
    return "a former member"


def sealing_key(ledger: LedgerState, identity: DeviceId) -> bytes | None:
    """The X25519 key that a coordinator opens with; None for a founder that left."""
    for each in _sets(ledger)[:2]:
        if identity in _by_id(each):
            return _by_id(each)[identity].sealing
    return None


def own_id(ledger: LedgerState) -> DeviceId:
    """Our own id."""
    return device_id(ledger.party.key.public)


def public_keys(ledger: LedgerState) -> tuple[PublicKey, ...]:
    """The keys of those who decide this height, in the order of the set."""
    return tuple([one.public for one in ledger.party.roster.validators.members])


def _sets(ledger: LedgerState) -> tuple[ValidatorSet, ...]:
    tip = ledger.tip
    following = views.validators(tip.tree, tip.genesis, tip.height + 2)
    return (ledger.party.roster.validators, following, tip.genesis.validators)


@lru_cache(maxsize=16)
def _by_id(validators: ValidatorSet) -> Mapping[DeviceId, Validator]:
    return {device_id(member.public): member for member in validators.members}
