"""Vote repair: sends a peer what is missing by its status.

Of the current height only what it lacked at its last status, too: the rest is on its
way, and to send it twice would slow down whoever is slow. And one of us at a time, in
an order by hash, the next one at the next status: so all who hold it have sent it after
as many statuses as there are validators, whoever is dead or lies.

A block is urgent: the last one, and one that more than f prevoted and that was not
offered to the peer. f + 1 of us answer at its first status and the next f + 1 at its
next, on the peer's own topic; the last block and what followed ever more rarely the
more often the peer says that it lacks it (`repeat_backoff`). What else is lacking of
the current height goes to all: others may lack it, too.
"""

from dataclasses import replace

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.chain_step import ChainStep
from starling.coordinator.chain.gossip import repeat_backoff
from starling.coordinator.chain.gossip_messages import (
    FrameSubject,
    RoundHoldings,
    ValidatorStatus,
)
from starling.coordinator.chain.peer_records import PeerGaps
from starling.protocol.chain.blocks import ROUND_MAX, VoteType
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import H, PublicKey

_TAG = b"starling/repair/1"
_PROPOSAL = 0
_POLKA = -1
_BLOCK = (-1, 0, 0)
_NOTHING = RoundHoldings(0, 0, 0, 0)
_Item = tuple[int, int, int]
"""Round, type of vote and voter; `_PROPOSAL` twice for a round's proposal, `_POLKA`
twice for its quorum of prevotes; or `_BLOCK` for the last block."""


def answer(step: ChainStep, status: ValidatorStatus) -> None:
    """Records what a peer lacks; sends what it lacks for long, if it is our turn."""
    known = step.state.peer_gaps.get(status.validator)
    items = _items(step, status)
    # Only what is lacking throughout counts: another height means that it caught up.
    same = known is not None and known.height == status.height
    before = known.statuses if known is not None and same else {}
    # Who was behind dropped what was said of this height meanwhile: none is on its way.
    behind = known is not None and not same and _BLOCK in known.statuses
    statuses = {item: before.get(item, int(behind)) + 1 for item in items}
    noted = PeerGaps(step.moment.now_s, status.height, statuses)
    step.state = evolve(
        step.state, peer_gaps={**step.state.peer_gaps, status.validator: noted}
    )
    # A block is over: who waits for it would miss what follows, too. And who knows that
    # a block is voted for, and lacks it, was left out when that block was offered.
    skip = step.state.validator.skip
    chosen = [held.round for held in status.held if _is_chosen(step, held)]
    urgent = {_BLOCK, *((number, _PROPOSAL, _PROPOSAL) for number in chosen)}
    others, rank = _order(step, status)
    for item, count in statuses.items():
        if item in urgent:
            # In groups of f + 1, one of each correct: every status is the turn of one
            # group.
            if (count - 1) % -(-others // skip) != rank // skip:
                continue
            if item == _BLOCK:
                _send_block(step, status)
            else:
                _send(step, item, status.validator, status.validator)
        elif count > 1 and (count - 2) % others == rank:
            # Alone, and from the second status on: until then it may be on its way.
            _send(step, item, status.validator)


def _is_chosen(step: ChainStep, held: RoundHoldings) -> bool:
    """True if a peer knows that one who is correct holds the block of a round."""
    vote_set, validator = step.state.consensus.vote_set, step.state.validator
    ours = vote_set.proposal_for(held.round, validator.quorum)
    if held.polka is not None or ours is None:
        return held.polka is not None
    votes = vote_set.cast(held.round, VoteType.PREVOTE).values()
    block_id = ours.proposal.block_id
    backers = sum(1 << vote.voter for vote in votes if vote.block_id == block_id)
    return (backers & held.prevotes).bit_count() >= validator.skip


def _order(step: ChainStep, status: ValidatorStatus) -> tuple[int, int]:
    """Number of validators that take turns to answer a peer, and our place."""
    own, height = step.settings.key.public, status.height.to_bytes(8)

    def place(public: bytes) -> bytes:
        return H(_TAG, status.validator, height, public)

    members = step.state.validator.roster.validators.members
    others = {member.public for member in members} - {status.validator}
    before = sum(place(public) < place(own) for public in others)
    # A learner is not in the set, and has a place in the order all the same.
    return len(others | {own}), before


def _items(step: ChainStep, status: ValidatorStatus) -> list[_Item]:
    """All that we hold in memory and a peer lacks, in the order of sending."""
    # Once the chain is halted, votes are not repeated.
    height = step.state.consensus.height
    if step.state.fork is not None or status.height > height:
        return []
    if status.height < height:
        # Whoever is further behind asks for ranges.
        lacks_last = status.height == step.state.tip.height
        return [_BLOCK] if lacks_last and step.state.last is not None else []
    return _of_this_height(step, status)


def _of_this_height(step: ChainStep, status: ValidatorStatus) -> list[_Item]:
    vote_set, needed = step.state.consensus.vote_set, step.state.validator.quorum
    held = {entry.round: entry for entry in status.held}
    # Further ahead the peer would drop it (D4).
    horizon = min(status.round + 1, ROUND_MAX)
    items: list[_Item] = []
    for number in vote_set.rounds():
        theirs = held.get(number, _NOTHING)
        # Who names a quorum takes its block from however far ahead.
        near = number <= horizon or theirs.polka is not None
        ours = vote_set.proposal_for(number, needed)
        if ours is not None and near and not theirs.proposal:
            items.append((number, _PROPOSAL, _PROPOSAL))
        if theirs.polka is None and vote_set.polka_of(number, needed) is not None:
            items.append((number, _POLKA, _POLKA))
    for number, kind in sorted(vote_set.votes):
        entry = held.get(number, _NOTHING)
        prevote = kind == VoteType.PREVOTE
        voters = entry.prevotes if prevote else entry.precommits
        cast = vote_set.votes[number, kind]
        items += [(number, kind, who) for who in sorted(cast) if not voters >> who & 1]
    return items


def _send(
    step: ChainStep, item: _Item, asked_by: PublicKey, to: PublicKey | None = None
) -> None:
    """Sends something of the current height to one peer, or to all."""
    number, kind, voter = item
    vote_set, needed = step.state.consensus.vote_set, step.state.validator.quorum
    if kind == _PROPOSAL:
        candidate = vote_set.proposal_for(number, needed)
        assert candidate is not None, "it was found lacking"
        step.gossip(gossip_messages.wrap_proposal(candidate.proposal), to, asked_by)
    elif kind == _POLKA:
        polka = vote_set.polka_of(number, needed)
        assert polka is not None, "it was found lacking"
        step.gossip(gossip_messages.wrap_polka(polka), to, asked_by)
    else:
        vote = vote_set.cast(number, VoteType(kind))[voter]
        step.gossip(gossip_messages.wrap_vote(vote), to, asked_by)


def _send_block(step: ChainStep, status: ValidatorStatus) -> None:
    """The last block, and what a peer dropped while it waited for it (D4)."""
    tip, last = step.state.tip, step.state.last
    assert last is not None
    assert tip.certificate is not None
    to = status.validator
    # The pause grows with each repetition at one height, as a liar may ask for ever.
    if not repeat_backoff.may_repeat(step, to, FrameSubject.DECISION, tip.height):
        return
    step.gossip(gossip_messages.wrap_decision(last, tip.certificate), to, to)
    # As if it held nothing: what was said of this height while it was behind it
    # dropped.
    nothing_yet = replace(status, height=tip.height + 1, round=0, held=())
    for item in _of_this_height(step, nothing_yet):
        _send(step, item, to, to)
