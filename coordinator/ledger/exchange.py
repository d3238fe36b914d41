"""What a coordinator hears from others, and what it believes of it.

Bytes are checked in the order: length, form, relevance, signature, meaning. Messages of
the height that is being decided are counted in; those of a height before or after are
looked at only as far as they prove something.

Source: arXiv:1807.04938 section 2.1 (messages); docs/consensus.md for D4, D6 and D7.
"""

from dataclasses import replace
from typing import Literal, assert_never

from coordinator.ledger import (
    blocks,
    fork,
    height,
    offence,
    offer,
    quorums,
    statuses,
    transactions,
    wire,
)
from coordinator.ledger.ballots import agree, certified_votes
from coordinator.ledger.blocks import Prepared
from coordinator.ledger.lock import check_polka, check_proof_of_lock
from coordinator.ledger.rounds import Step
from coordinator.ledger.turn import BlamePeer, Diverged, Turn
from coordinator.ledger.wire import Decision, Topic
from protocol.chain import (
    BLOCK,
    CERTIFICATE,
    PROPOSAL,
    VOTE,
    Block,
    Certificate,
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
from protocol.ids import PublicKey
from protocol.keys import verify

_Deciding = Literal[Topic.PROPOSAL, Topic.VOTE, Topic.DECISION, Topic.POLKA]


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
    match topic:
        case Topic.STATUS:
            statuses.hear(turn, wire.STATUS.unpack(message.content), payload)
        case Topic.TRANSACTION:
            _hear_transaction(turn, message.content, source)
        case Topic.FORK:
            fork.hear(turn, wire.FORK.unpack(message.content))
        case Topic.CERTIFICATE:
            _hear_commit(turn, CERTIFICATE.unpack(message.content))
        case _:
            if turn.state.fork is None:
                _hear_deciding(turn, topic, message.content)


def _hear_deciding(turn: Turn, topic: _Deciding, content: bytes) -> None:
    """What may decide a height, unless the chain stands still."""
    match topic:
        case Topic.PROPOSAL:
            _hear_proposal(turn, PROPOSAL.unpack(content))
        case Topic.VOTE:
            _hear_vote(turn, VOTE.unpack(content))
        case Topic.DECISION:
            _hear_decision(turn, wire.DECISION.unpack(content))
        case Topic.POLKA:
            _hear_polka(turn, CERTIFICATE.unpack(content))
        case _:
            assert_never(topic)


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
    ballots = state.ballots
    carried = offer.is_carried(turn.state, proposal)
    known = proposal.round in ballots.proposals
    if ballots.contradicts(proposal):
        offence.second_proposal(turn, proposal)
    if known and not carried:
        return
    _count_in(turn, proposal)
    _wake(turn)


def _count_in(turn: Turn, proposal: Proposal) -> None:
    """Takes a proposal whose signature and turn were checked."""
    check_proof_of_lock(turn.state.party, proposal)
    prepared = _prepared(turn, proposal)
    if prepared is not None and proposal.valid_round == 0:
        header = prepared.block.header
        blocks.check_time(turn.state.tip, header, proposal.parent)
    height.hold_proposal(turn, proposal, prepared)
    if proposal.proof_of_lock is not None:
        _hold_polka(turn, proposal.proof_of_lock)


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
    if vote.height == state.height - 1:
        quorums.tell_late(turn, vote)
    if vote.height != state.height:
        return
    kind = VoteType(vote.vote_type)
    known = state.ballots.cast(vote.round, kind).get(vote.voter)
    if known is not None and agree(known, vote):
        return
    public = _public(turn, vote.voter)
    verify(public, vote.signed_bytes(party.chain_id), vote.signature)
    _count_vote(turn, vote)
    _wake(turn)


def _count_vote(turn: Turn, vote: Vote) -> None:
    """Takes a vote of this height whose signature was checked."""
    state = turn.state.consensus
    known = state.ballots.cast(vote.round, VoteType(vote.vote_type)).get(vote.voter)
    if known is not None and agree(known, vote):
        return
    if vote.voter == turn.state.party.index:
        # It must not count: the state that it belongs to is not ours.
        offence.own_signature(turn, "vote")
        return
    ballots = state.ballots.with_vote(vote, state.round)
    turn.change(consensus=replace(state, ballots=ballots))
    if len(ballots.conflicts) > len(state.ballots.conflicts):
        offence.second_vote(turn, *ballots.conflicts[-1])


def _hear_polka(turn: Turn, polka: Certificate) -> None:
    """A quorum of prevotes that somebody else saw; see `quorums`."""
    state, party = turn.state.consensus, turn.state.party
    if polka.height != state.height:
        return
    kind, needed = VoteType.PREVOTE, party.quorum
    if state.ballots.certificate(polka.round, kind, polka.block_id, needed) is not None:
        _accuse_members(turn, polka)
        return
    check_polka(party, polka)
    _hold_polka(turn, polka)
    _wake(turn)


def _accuse_members(turn: Turn, polka: Certificate) -> None:
    """Looks in a quorum that we hold ourselves for votes that we heard otherwise."""
    ballots, party = turn.state.consensus.ballots, turn.state.party
    cast = ballots.cast(polka.round, VoteType.PREVOTE)
    validators = party.roster.validators.members
    for vote in certified_votes(polka, VoteType.PREVOTE):
        known = cast.get(vote.voter)
        if known is not None and not agree(known, vote):
            public = validators[vote.voter].public
            verify(public, vote.signed_bytes(party.chain_id), vote.signature)
            _count_vote(turn, vote)


def _hold_polka(turn: Turn, polka: Certificate) -> None:
    """Counts a checked quorum of prevotes in, and each of its votes."""
    for vote in certified_votes(polka, VoteType.PREVOTE):
        _count_vote(turn, vote)
    state = turn.state.consensus
    ballots = state.ballots.with_polka(polka)
    turn.change(consensus=replace(state, ballots=ballots))
    if ballots.candidate_for(polka.block_id) is None:
        statuses.hasten(turn)


def _hear_commit(turn: Turn, certificate: Certificate) -> None:
    """A quorum of precommits: it decides our height, or shows a fork before it."""
    state, party = turn.state.consensus, turn.state.party
    if certificate.height != state.height:
        fork.compare(turn, certificate)
        return
    if turn.state.fork is not None or state.ballots.commit is not None:
        return
    validators = party.roster.validators
    check_certificate(certificate, party.chain_id, validators, party.fault_model)
    for vote in certified_votes(certificate, VoteType.PRECOMMIT):
        if vote.voter != party.index:
            _count_vote(turn, vote)
    state = turn.state.consensus
    delivered = certificate.block_id in turn.state.prepared
    ballots = replace(state.ballots, commit=certificate, delivered=delivered)
    turn.change(consensus=replace(state, ballots=ballots))
    if not delivered:
        statuses.hasten(turn)


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
    # Whoever passes it on can swap the transactions: then it is not we who differ.
    offer.check_block(block, block_id)
    party = state.party
    validators = party.roster.validators
    check_certificate(certificate, party.chain_id, validators, party.fault_model)
    fork.check_parent(turn, block.header, certificate)
    if turn.state.fork is not None:
        return
    prepared = state.prepared.get(block_id)
    if prepared is None:
        prepared = _decided(turn, block)
    ballots = state.consensus.ballots
    ballots = replace(ballots, commit=certificate, delivered=True)
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
    """Deviation D7: what ends the wait for something to decide, but one liar alone.

    More than f validators that are at this height, or a block that decides something;
    what waits for a block here is looked at by `height.begin_if_due`.
    """
    state = turn.state.consensus
    if state.step is not Step.NEW_HEIGHT:
        return
    first = state.ballots.proposals.get(0)
    decides = False
    if first is not None and first.valid:
        prepared = turn.state.prepared[first.proposal.block_id]
        decides = bool(prepared.block.transactions)
    if decides or len(state.ballots.voices()) >= turn.state.party.skip:
        height.begin_now(turn)
