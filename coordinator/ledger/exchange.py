"""What a coordinator hears from others, and how it makes up for what got lost.

Bytes are checked in the order: length, form, relevance, signature, meaning. Gossip is
what makes Tendermint live over a bus that loses messages: everybody tells from time to
time what it holds of its height, and gets from the others all that it lacks (`repair`).

Source: arXiv:1807.04938 section 2.1 (gossip communication); that anything less than all
votes of the height stalls after a partition was measured, see docs/consensus.md.
"""

from dataclasses import replace
from typing import assert_never

from coordinator.ledger import (
    blocks,
    fork,
    height,
    learners,
    offence,
    offer,
    repair,
    transactions,
    wire,
)
from coordinator.ledger.blocks import Prepared
from coordinator.ledger.lock import check_proof_of_lock
from coordinator.ledger.rounds import Step
from coordinator.ledger.turn import BlamePeer, Diverged, Turn
from coordinator.ledger.wire import Decision, Held, Status, Topic
from protocol.chain import (
    BLOCK,
    CERTIFICATE,
    PROPOSAL,
    VOTE,
    Block,
    Proposal,
    Vote,
    VoteType,
    check_certificate,
)
from protocol.envelope import TRANSACTION_KINDS
from protocol.errors import (
    ProofError,
    ProtocolError,
    Reason,
    UnknownProposer,
)
from protocol.genesis import Genesis
from protocol.ids import SIGNATURE_BYTES, PublicKey
from protocol.keys import verify
from protocol.statetree import StateTree

_DECIDING = frozenset({Topic.PROPOSAL, Topic.VOTE, Topic.DECISION})


def hear(turn: Turn, payload: bytes, source: bytes) -> None:
    """Takes a message that another coordinator, the source, sent or passed on.

    Raises:
      ProtocolError: Why it is refused.
    """
    message = wire.MESSAGE.unpack(payload)
    try:
        topic = Topic(message.topic)
    except ValueError as error:
        raise ProtocolError("no such message", Reason.UNKNOWN_KIND) from error
    if turn.state.fork is not None and topic in _DECIDING:
        return
    match topic:
        case Topic.PROPOSAL:
            _hear_proposal(turn, PROPOSAL.unpack(message.content))
        case Topic.VOTE:
            _hear_vote(turn, VOTE.unpack(message.content))
        case Topic.DECISION:
            _hear_decision(turn, wire.DECISION.unpack(message.content))
        case Topic.STATUS:
            _hear_status(turn, wire.STATUS.unpack(message.content))
        case Topic.TRANSACTION:
            _hear_transaction(turn, message.content, source)
        case Topic.FORK:
            fork.hear(turn, wire.FORK.unpack(message.content))
        case Topic.CERTIFICATE:
            fork.compare(turn, CERTIFICATE.unpack(message.content))
        case _:
            assert_never(topic)


def _at(turn: Turn) -> tuple[StateTree, Genesis, int]:
    """The state, and the height to come, that say who is who."""
    tip = turn.state.tip
    return tip.tree, tip.genesis, tip.height + 1


def _public(turn: Turn, index: int) -> PublicKey:
    members = turn.state.party.roster.validators.members
    if index >= len(members):
        raise ProtocolError(f"no validator {index}", Reason.NOT_AUTHORISED)
    return members[index].public


def _hear_proposal(turn: Turn, proposal: Proposal) -> None:
    state, party = turn.state.consensus, turn.state.party
    if not offer.is_news(turn.state, proposal):
        return
    offer.check_maker(party, proposal)
    if proposal.proposer == party.index:
        offence.own_signature(turn, "proposal")
        return
    if proposal.round in state.ballots.proposals:
        offence.second_proposal(turn, proposal)
        return
    check_proof_of_lock(party, proposal)
    prepared = _prepared(turn, proposal)
    if prepared is not None and proposal.valid_round == 0:
        header = prepared.block.header
        blocks.check_time(turn.state.tip, header, proposal.parent)
    height.hold_proposal(turn, proposal, prepared)
    if proposal.proof_of_lock is not None:
        state = turn.state.consensus
        ballots = state.ballots.with_polka(proposal.proof_of_lock)
        turn.change(consensus=replace(state, ballots=ballots))
    _wake(turn)


def _prepared(turn: Turn, proposal: Proposal) -> Prepared | None:
    """The proposal's block if it is valid; the proposer is blamed if not.

    Raises:
      ProtocolError: As `offer.check_block`.
    """
    offered = turn.state.consensus.ballots.offered(proposal.block_id)
    block = BLOCK.unpack(proposal.block if offered is None else offered)
    header = offer.check_block(block, proposal.block_id).header
    try:
        fresh = proposal.valid_round == 0
        if fresh and header.proposer != proposal.proposer:
            raise UnknownProposer("a fresh block that names another maker")
        known = turn.state.prepared.get(proposal.block_id)
        return known or blocks.check(turn.state.tip, block, turn.state.mempool)
    except ProtocolError as error:
        detail = f"proposed an invalid block: {error}"
        signer = _public(turn, proposal.proposer)
        turn.emit(BlamePeer(Reason.INVALID_BLOCK, detail, signer))
        return None


def _hear_vote(turn: Turn, vote: Vote) -> None:
    state, party = turn.state.consensus, turn.state.party
    if vote.height != state.height:
        return
    kind = VoteType(vote.vote_type)
    known = state.ballots.cast(vote.round, kind).get(vote.voter)
    if known is not None and known.block_id == vote.block_id:
        return
    public = _public(turn, vote.voter)
    verify(public, vote.signed_bytes(party.chain_id), vote.signature)
    if vote.voter == party.index:
        # It must not count: the state that it belongs to is not ours.
        offence.own_signature(turn, "vote")
        return
    ballots = state.ballots.with_vote(vote, state.round)
    turn.change(consensus=replace(state, ballots=ballots))
    if len(ballots.conflicts) > len(state.ballots.conflicts):
        offence.second_vote(turn, *ballots.conflicts[-1])
    _wake(turn)


def _hear_decision(turn: Turn, decision: Decision) -> None:
    """Deviation D6: whoever holds the precommits may convince anyone."""
    block, certificate = decision.block, decision.certificate
    state = turn.state
    block_id = block.header.block_id()
    if block.header.height > state.consensus.height:
        return
    if (certificate.height, certificate.block_id) != (block.header.height, block_id):
        raise ProofError("certificate is for another block")
    if block.header.height < state.consensus.height:
        fork.compare(turn, certificate)
        return
    party = state.party
    validators = party.roster.validators
    check_certificate(certificate, party.chain_id, validators, party.fault_model)
    fork.check_parent(turn, block.header, certificate)
    if turn.state.fork is not None:
        return
    prepared = state.prepared.get(block_id)
    if prepared is None:
        prepared = _decided(turn, block)
    ballots = replace(state.consensus.ballots, commit=certificate)
    turn.change(
        consensus=replace(state.consensus, ballots=ballots),
        prepared={**state.prepared, block_id: prepared},
    )


def _decided(turn: Turn, block: Block) -> Prepared:
    """A block that a quorum decided: if it is invalid here, it is we who differ.

    Raises:
      ProtocolError: What is wrong with it.
    """
    header = block.header
    try:
        return blocks.check(turn.state.tip, block, turn.state.mempool)
    except ProtocolError as error:
        mismatch = error if isinstance(error, blocks.StateMismatch) else None
        turn.emit(
            Diverged(
                header.height,
                header.block_id(),
                header.state_root,
                None if mismatch is None else mismatch.computed,
                b"" if mismatch is None else mismatch.first_key,
                str(error),
            )
        )
        raise


def _hear_transaction(turn: Turn, packed: bytes, source: bytes) -> None:
    envelope = transactions.unpack(packed)
    identity = envelope.identity(turn.settings.chain_id)
    if envelope.kind not in TRANSACTION_KINDS:
        height.raise_unknown_kind(envelope)
    if turn.state.mempool.get(identity) is not None:
        return
    envelope.check(turn.settings.chain_id)
    most = turn.settings.waiting_max
    mempool = turn.state.mempool.add(identity, envelope, packed, most, source)
    turn.change(mempool=mempool)


def _wake(turn: Turn) -> None:
    """Deviation D7: a message of this height ends the wait for transactions."""
    if turn.state.consensus.step is Step.NEW_HEIGHT:
        height.begin_now(turn)


def tell_status_if_due(turn: Turn) -> None:
    """Tells the others where we are, from time to time."""
    party, now_s = turn.state.party, turn.moment.now_s
    if turn.state.alone or now_s < turn.state.status_at_s:
        return
    turn.change(status_at_s=now_s + turn.settings.status_s)
    if party.index is None and not learners.tells(*_at(turn), party.key.public):
        return
    state = turn.state.consensus
    public = party.key.public
    status = Status(
        public,
        state.height,
        turn.state.tip.parent(),
        state.round,
        _held(turn),
        bytes(SIGNATURE_BYTES),
    )
    signature = party.key.sign(status.signed_bytes(party.chain_id))
    packed = wire.STATUS.pack(replace(status, signature=signature))
    turn.gossip(wire.MESSAGE.pack(wire.Message(Topic.STATUS, packed)))


def _held(turn: Turn) -> tuple[Held, ...]:
    ballots = turn.state.consensus.ballots
    rounds = {number for number, _ in ballots.votes} | set(ballots.proposals)
    shown = sorted(rounds)[-wire.ROUNDS_SHOWN_MAX :]
    return tuple(
        Held(
            number,
            int(number in ballots.proposals),
            _bitmap(ballots.cast(number, VoteType.PREVOTE)),
            _bitmap(ballots.cast(number, VoteType.PRECOMMIT)),
        )
        for number in shown
    )


def _bitmap(votes: dict[int, Vote]) -> int:
    return sum(1 << voter for voter in votes)


def _hear_status(turn: Turn, status: Status) -> None:
    settings, now_s = turn.settings, turn.moment.now_s
    if not learners.may_tell(*_at(turn), status.validator):
        raise ProtocolError("a status of no validator", Reason.NOT_AUTHORISED)
    signed = status.signed_bytes(settings.chain_id)
    verify(status.validator, signed, status.signature)
    if not turn.state.level and status.validator != settings.key.public:
        said = turn.state.told.get(status.validator, status.height)
        lowest = min(said, status.height)
        turn.change(told={**turn.state.told, status.validator: lowest})
    known = turn.state.lacking.get(status.validator)
    soon = known is not None and now_s < known.at_s + settings.status_s / 2
    if status.validator == settings.key.public or soon:
        return
    if turn.state.fork is not None:
        fork.publish(turn, turn.state.fork)
    elif fork.is_elsewhere(turn, status):
        # It lies, or the chain forked: the certificates tell.
        fork.show(turn, status.height - 1)
    repair.answer(turn, status)
