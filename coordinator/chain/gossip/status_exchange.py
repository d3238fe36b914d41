"""Statuses: how far everybody is, and what it lacks.

Gossip is what makes Tendermint live over a bus that loses messages: everybody tells
from time to time what it holds of its height, and gets from the others all that it
lacks (`vote_repair`). Unlike a vote, which is bound to its round and may be repeated by
anyone, a status is true only when it is said. So each has a counter, and one that is
not above the latest that we heard of its sender changes nothing; and what counts after
a start is only what answers the nonce of that start.

Source: arXiv:1807.04938 section 2.1 (gossip communication); that anything less than all
votes of the height stalls after a partition was measured, see docs/consensus.md.
"""

from dataclasses import replace

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.chain_step import ChainStep
from starling.coordinator.chain.gossip import fork_halt, repeat_backoff, vote_repair
from starling.coordinator.chain.gossip_messages import (
    FrameSubject,
    RoundHoldings,
    ValidatorStatus,
)
from starling.coordinator.chain.governance import learners
from starling.coordinator.chain.safety import own_signature
from starling.protocol.chain.blocks import Vote, VoteType
from starling.protocol.chain.genesis import VALIDATORS_MAX, Genesis
from starling.protocol.crypto.keys import verify
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import SIGNATURE_BYTES
from starling.protocol.schema.msgpack_codec import UINT_MAX


def send_if_due(step: ChainStep) -> None:
    """Tells the others where we are, from time to time."""
    validator, now_s = step.state.validator, step.moment.now_s
    if step.state.alone or now_s < step.state.status_at_s:
        return
    # Set even where nothing is said: else the time to wake up would be now, for ever.
    step.state = evolve(step.state, status_at_s=now_s + step.settings.status_s)
    if validator.index is None and not learners.sends_status(
        *_at(step), validator.key.public
    ):
        return
    counter = step.state.status_counter + 1
    # Counters end there, and a status that does not rise is heard by nobody.
    if counter > UINT_MAX:
        return
    step.state = evolve(step.state, status_said_s=now_s, status_counter=counter)
    state = step.state.consensus
    status = ValidatorStatus(
        validator.key.public,
        counter,
        state.height,
        step.state.tip.parent(),
        state.round,
        _held(step),
        # Asked only until this validator has caught up; others repeat the nonce
        # meanwhile.
        b"" if step.state.caught_up else step.settings.nonce,
        _answers(step),
        bytes(SIGNATURE_BYTES),
    )
    signature = validator.key.sign(status.signed_bytes(validator.chain_id))
    step.gossip(gossip_messages.wrap_status(replace(status, signature=signature)))


def send_sooner(step: ChainStep, wait_s: float = 0.0) -> None:
    """Sends the next status sooner, since votes are missing here; never two at once."""
    soon_s = step.state.status_said_s + step.settings.status_s / 2
    # Half an interval at least lies between two: peers answer no faster than that.
    at_s = max(step.moment.now_s + wait_s, soon_s)
    step.state = evolve(step.state, status_at_s=min(step.state.status_at_s, at_s))


def _held(step: ChainStep) -> tuple[RoundHoldings, ...]:
    vote_set, needed = step.state.consensus.vote_set, step.state.validator.quorum
    held = []
    # The latest rounds: the rest of a long height is over for one that lacks it.
    for number in vote_set.rounds()[-gossip_messages.ROUNDS_SHOWN_MAX :]:
        polka = vote_set.polka_of(number, needed)
        entry = RoundHoldings(
            number,
            int(vote_set.proposal_for(number, needed) is not None),
            _bitmap(vote_set.cast(number, VoteType.PREVOTE)),
            _bitmap(vote_set.cast(number, VoteType.PRECOMMIT)),
            None if polka is None else polka.block_id,
        )
        held.append(entry)
    return tuple(held)


def _bitmap(votes: dict[int, Vote]) -> int:
    return sum(1 << voter for voter in votes)


def _answers(step: ChainStep) -> tuple[bytes, ...]:
    """Repetitions that others asked for, validators of this height first."""
    members = step.state.validator.roster.validators.members
    heard = step.state.heard
    keys = [member.public for member in members if member.public in heard]
    # Sorted, since a status is signed, and its bytes must not depend on arrival.
    asked = [heard[key].asks for key in (*keys, *sorted(heard.keys() - set(keys)))]
    return tuple(asks for asks in asked if asks)[:VALIDATORS_MAX]


def _at(step: ChainStep) -> tuple[StateTree, Genesis, int]:
    """The state, and the height to come, that say who is who."""
    tip = step.state.tip
    return tip.tree, tip.genesis, tip.height + 1


def handle_status(step: ChainStep, status: ValidatorStatus) -> None:
    """Takes a status.

    Raises:
      ProtocolError: If it is of no validator, or forged.
    """
    settings, who = step.settings, status.validator
    if not learners.may_send_status(*_at(step), who):
        raise ProtocolError("a status of no validator", Reason.NOT_AUTHORISED)
    if len(status.asks) not in (0, gossip_messages.NONCE_BYTES):
        raise ProtocolError("a nonce of another length", Reason.MALFORMED)
    latest = step.state.heard.get(who)
    # Repeated by the bus; and the signature was checked the first time.
    if latest is not None and status.counter == latest.counter:
        return
    verify(who, status.signed_bytes(settings.chain_id), status.signature)
    if who == settings.key.public:
        # Others heard more of us than we know to have said: we are from an older copy.
        counter = max(step.state.status_counter, status.counter)
        step.state = evolve(step.state, status_counter=counter)
        if counter == UINT_MAX:
            # No backup comes that far, and we can say nothing after it.
            own_signature.report_own_signature(step, "last status")
        return
    if latest is not None and status.counter < latest.counter:
        # Its signature proves it, so that no liar can make it count from elsewhere.
        if repeat_backoff.may_repeat(step, who, FrameSubject.STATUS):
            step.gossip(gossip_messages.wrap_status(latest), who, asked_by=who)
        return
    step.state = evolve(step.state, heard={**step.state.heard, who: status})
    _handle_fresh(step, status)


def _handle_fresh(step: ChainStep, status: ValidatorStatus) -> None:
    settings, now_s = step.settings, step.moment.now_s
    who = status.validator
    if not step.state.caught_up and settings.nonce in status.answers:
        # The lowest counts (`ChainState.behind`): a chain that runs on cannot be
        # overtaken.
        lowest = min(step.state.told.get(who, status.height), status.height)
        step.state = evolve(step.state, told={**step.state.told, who: lowest})
    known = step.state.peer_gaps.get(who)
    # A peer that says more statuses than it should gets no more answers for it.
    if known is not None and now_s < known.at_s + settings.status_s / 2:
        return
    if step.state.fork is not None:
        fork_halt.prove(step, step.state.fork, who)
    elif fork_halt.is_elsewhere(step, status):
        # It lies, or the chain forked: the certificates tell.
        fork_halt.show(step, status)
    vote_repair.answer(step, status)
