"""Handlers of messages from other coordinators, with their checks.

Length and form were checked where they came in; here come relevance, signature and
meaning, in that order. Messages of the height that is being decided are counted in;
those of a height before or after are looked at only as far as they prove something.

Source: arXiv:1807.04938 section 2.1 (messages); docs/consensus.md for D4, D6 and D7.
"""

from dataclasses import replace
from typing import assert_never

from starling.coordinator.chain.chain_step import BlamePeer, ChainStep, StateDiverged
from starling.coordinator.chain.consensus.proof_of_lock import (
    check_polka,
    check_proof_of_lock,
)
from starling.coordinator.chain.consensus.round_state import RoundStep
from starling.coordinator.chain.consensus.vote_set import agree, certified_votes
from starling.coordinator.chain.execution import block_builder
from starling.coordinator.chain.execution.block_builder import ExecutedBlock
from starling.coordinator.chain.execution.transaction_table import TRANSACTIONS
from starling.coordinator.chain.gossip import (
    certificate_gossip,
    fork_halt,
    status_exchange,
)
from starling.coordinator.chain.gossip_messages import (
    ChainMessage,
    DecidedBlock,
    ForkProof,
    FrameSubject,
    ValidatorStatus,
)
from starling.coordinator.chain.node import equivocation_report, height
from starling.coordinator.chain.safety import own_signature, proposal_checks
from starling.coordinator.chain.state import transaction_codec
from starling.protocol.chain.blocks import (
    BLOCK,
    Block,
    Certificate,
    Proposal,
    Vote,
    VoteType,
    check_certificate,
)
from starling.protocol.crypto.keys import verify
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProofError, ProtocolError, Reason, UnknownProposer
from starling.protocol.ids import PublicKey
from starling.protocol.wire.envelope import Envelope


def handle_message(
    step: ChainStep, subject: FrameSubject, said: ChainMessage, source: bytes
) -> None:
    """Takes a message that another coordinator, the source, sent or passed on.

    What may decide a height is not heard once the chain is halted.

    Raises:
      ProtocolError: Why it is refused.
    """
    match said:
        case ValidatorStatus():
            status_exchange.handle_status(step, said)
        case Envelope():
            _handle_transaction(step, said, source)
        case ForkProof():
            fork_halt.handle_fork_proof(step, said)
        # Above the case of a halt: another certificate may name more liars.
        case Certificate() if subject is FrameSubject.CERTIFICATE:
            _handle_commit(step, said)
        case _ if step.state.fork is not None:
            return
        case Certificate():
            _handle_polka(step, said)
        case Proposal():
            _handle_proposal(step, said)
        case Vote():
            _handle_vote(step, said)
        case DecidedBlock():
            _handle_decision(step, said)
        case _:
            assert_never(said)


def _public(step: ChainStep, index: int) -> PublicKey:
    members = step.state.validator.roster.validators.members
    if index >= len(members):
        raise ProtocolError(f"no validator {index}", Reason.NOT_AUTHORISED)
    return members[index].public


def _handle_proposal(step: ChainStep, proposal: Proposal) -> None:
    state, validator = step.state.consensus, step.state.validator
    if not proposal_checks.is_news(step.state, proposal):
        return
    proposal_checks.check_maker(validator, proposal)
    # Only after the signature was checked: else anyone could silence this validator by
    # naming it.
    if proposal.proposer == validator.index:
        own_signature.report_own_signature(step, "proposal")
        return
    vote_set = state.vote_set
    carried = proposal_checks.is_carried(step.state, proposal)
    known = proposal.round in vote_set.proposals
    if vote_set.contradicts(proposal):
        equivocation_report.second_proposal(step, proposal)
    # A rival is kept as evidence; its block is held only if a quorum voted for it.
    if known and not carried:
        return
    _count_in(step, proposal)
    _wake(step)


def _count_in(step: ChainStep, proposal: Proposal) -> None:
    """Takes a proposal whose signature and turn were checked."""
    # Refused and not counted in as invalid: a copy that has its proof may follow.
    check_proof_of_lock(step.state.validator, proposal)
    prepared = _prepared(step, proposal)
    # A block that is offered again was dated by its first proposal.
    if prepared is not None and proposal.valid_round == 0:
        header = prepared.block.header
        block_builder.check_time(step.state.tip, header, proposal.parent)
    # The block first: a quorum without its block would send the status sooner, to ask
    # for it.
    height.hold_proposal(step, proposal, prepared)
    if proposal.proof_of_lock is not None:
        _hold_polka(step, proposal.proof_of_lock)


def _prepared(step: ChainStep, proposal: Proposal) -> ExecutedBlock | None:
    """The proposal's block if it is valid; the proposer is blamed if not.

    Raises:
      ProtocolError: As `proposal_checks.check_block`.
    """
    # By the hash of a header that was checked before: bytes that came with another
    # offer serve as well, and a swapped copy does no harm.
    offered = step.state.consensus.vote_set.offered(proposal.block_id)
    block = BLOCK.unpack(proposal.block if offered is None else offered)
    header = proposal_checks.check_block(block, proposal.block_id).header
    try:
        # `proposer_absence` relies on it: the maker of a certified block led the round
        # in which it was first offered.
        fresh = proposal.valid_round == 0
        if fresh and header.proposer != proposal.proposer:
            raise UnknownProposer("a fresh block that names another maker")
        known = step.state.prepared.get(proposal.block_id)
        return known or block_builder.check(step.state.tip, block, step.state.mempool)
    except ProtocolError as error:
        detail = f"proposed an invalid block: {error}"
        signer = _public(step, proposal.proposer)
        step.emit(BlamePeer(Reason.INVALID_BLOCK, detail, signer))
        return None


def _handle_vote(step: ChainStep, vote: Vote) -> None:
    state, validator = step.state.consensus, step.state.validator
    # The voter may wait for a height that is over: the certificate ends it there.
    if vote.height == state.height - 1:
        certificate_gossip.answer_late_vote(step, vote)
    if vote.height != state.height:
        return
    kind = VoteType(vote.vote_type)
    # Repetitions are frequent, and cost no signature.
    known = state.vote_set.cast(vote.round, kind).get(vote.voter)
    if known is not None and agree(known, vote):
        return
    public = _public(step, vote.voter)
    verify(public, vote.signed_bytes(validator.chain_id), vote.signature)
    _count_vote(step, vote)
    _wake(step)


def _count_vote(step: ChainStep, vote: Vote) -> None:
    """Takes a vote of this height whose signature was checked."""
    # Asked again here, since whole certificates come in past the look-up of
    # `_hear_vote`.
    state = step.state.consensus
    known = state.vote_set.cast(vote.round, VoteType(vote.vote_type)).get(vote.voter)
    if known is not None and agree(known, vote):
        return
    if vote.voter == step.state.validator.index:
        # It must not count: the state that it belongs to is not ours.
        own_signature.report_own_signature(step, "vote")
        return
    vote_set = state.vote_set.with_vote(vote, state.round)
    step.state = evolve(step.state, consensus=replace(state, vote_set=vote_set))
    if len(vote_set.conflicts) > len(state.vote_set.conflicts):
        equivocation_report.second_vote(step, *vote_set.conflicts[-1])
    _miss_block(step, vote)


def _miss_block(step: ChainStep, vote: Vote) -> None:
    """Asks for a block that f + 1 prevote, and of which we were offered nothing.

    One of them is correct, and has it. Mostly it is on its way.
    """
    vote_set, block_id = step.state.consensus.vote_set, vote.block_id
    if block_id is None or vote.vote_type != VoteType.PREVOTE:
        return
    count = vote_set.count(vote.round, VoteType.PREVOTE, block_id)
    # Once, when the count passes f: each further vote would only ask again.
    missing = vote_set.candidate_for(block_id) is None
    if missing and count == step.state.validator.skip:
        wait_s = certificate_gossip.SOON_STATUSES * step.settings.status_s
        status_exchange.send_sooner(step, wait_s)


def _handle_polka(step: ChainStep, polka: Certificate) -> None:
    """A quorum of prevotes that somebody else saw; see `certificate_gossip`."""
    state, validator = step.state.consensus, step.state.validator
    if polka.height != state.height:
        return
    kind, needed = VoteType.PREVOTE, validator.quorum
    if (
        state.vote_set.certificate(polka.round, kind, polka.block_id, needed)
        is not None
    ):
        # The quorum is known, and only votes of it that contradict are verified.
        _accuse_members(step, polka)
        return
    check_polka(validator, polka)
    _hold_polka(step, polka)
    _wake(step)


def _accuse_members(step: ChainStep, polka: Certificate) -> None:
    """Accuses signers of a quorum whose votes contradict those received before."""
    vote_set, validator = step.state.consensus.vote_set, step.state.validator
    cast = vote_set.cast(polka.round, VoteType.PREVOTE)
    validators = validator.roster.validators.members
    for vote in certified_votes(polka, VoteType.PREVOTE):
        known = cast.get(vote.voter)
        if known is not None and not agree(known, vote):
            public = validators[vote.voter].public
            verify(public, vote.signed_bytes(validator.chain_id), vote.signature)
            _count_vote(step, vote)


def _hold_polka(step: ChainStep, polka: Certificate) -> None:
    """Counts a checked quorum of prevotes in, and each of its votes."""
    # Each vote by itself, too: one that its signer gave otherwise here becomes
    # evidence.
    for vote in certified_votes(polka, VoteType.PREVOTE):
        _count_vote(step, vote)
    state = step.state.consensus
    vote_set = state.vote_set.with_polka(polka)
    step.state = evolve(step.state, consensus=replace(state, vote_set=vote_set))
    if vote_set.candidate_for(polka.block_id) is None:
        status_exchange.send_sooner(step)


def _handle_commit(step: ChainStep, certificate: Certificate) -> None:
    """A quorum of precommits: it decides our height, or shows a fork before it."""
    state, validator = step.state.consensus, step.state.validator
    if certificate.height != state.height:
        fork_halt.compare(step, certificate)
        return
    # The first certificate decides; the block it lacks has been asked for.
    if step.state.fork is not None or state.vote_set.commit is not None:
        return
    validators = validator.roster.validators
    check_certificate(
        certificate, validator.chain_id, validators, validator.fault_model
    )
    for vote in certified_votes(certificate, VoteType.PRECOMMIT):
        if vote.voter != validator.index:
            _count_vote(step, vote)
    state = step.state.consensus
    # Without its block it decides nothing yet: line 49 wants the block valid here.
    delivered = certificate.block_id in step.state.prepared
    vote_set = replace(state.vote_set, commit=certificate, delivered=delivered)
    step.state = evolve(step.state, consensus=replace(state, vote_set=vote_set))
    if not delivered:
        status_exchange.send_sooner(step)


def _handle_decision(step: ChainStep, decision: DecidedBlock) -> None:
    """Deviation D6: whoever holds the precommits may convince anyone."""
    block, certificate = decision.block, decision.certificate
    state = step.state
    block_id = block.header.block_id()
    if block.header.height > state.consensus.height:
        return
    if (certificate.height, certificate.block_id) != (block.header.height, block_id):
        raise ProofError("certificate is for another block")
    if block.header.height < state.consensus.height:
        fork_halt.compare(step, certificate)
        return
    # Whoever passes it on can swap the transactions: then it is not we who differ.
    proposal_checks.check_block(block, block_id)
    validator = state.validator
    validators = validator.roster.validators
    # Signatures before execution: a block that no quorum signed costs no more than
    # that.
    check_certificate(
        certificate, validator.chain_id, validators, validator.fault_model
    )
    fork_halt.check_parent(step, block.header, certificate)
    if step.state.fork is not None:
        return
    prepared = state.prepared.get(block_id)
    if prepared is None:
        prepared = _decided(step, block)
    vote_set = state.consensus.vote_set
    vote_set = replace(vote_set, commit=certificate, delivered=True)
    step.state = evolve(
        step.state,
        consensus=replace(state.consensus, vote_set=vote_set),
        prepared={**state.prepared, block_id: prepared},
    )
    # What was said of the next height meanwhile was not for us yet.
    status_exchange.send_sooner(step)


def _decided(step: ChainStep, block: Block) -> ExecutedBlock:
    """A block that a quorum decided: if it is invalid here, it is we who differ.

    Raises:
      ProtocolError: What is wrong with it.
    """
    header = block.header
    try:
        return block_builder.check(step.state.tip, block, step.state.mempool)
    except ProtocolError as error:
        mismatch = error if isinstance(error, block_builder.StateMismatch) else None
        step.emit(
            StateDiverged(
                header.height,
                header.block_id(),
                header.state_root,
                None if mismatch is None else mismatch.computed,
                b"" if mismatch is None else mismatch.first_key,
                str(error),
            )
        )
        raise


def _handle_transaction(step: ChainStep, envelope: Envelope, source: bytes) -> None:
    identity = envelope.identity(step.settings.chain_id)
    if envelope.kind not in TRANSACTIONS:
        height.raise_unknown_kind(envelope)
    # Gossip is repeated each second, so that most of it is known.
    if step.state.mempool.get(identity) is not None:
        return
    packed, most = transaction_codec.pack(envelope), step.settings.waiting_max
    # Room first: who has none is not to have signatures checked for ever.
    mempool = step.state.mempool.add(identity, envelope, packed, most, source)
    envelope.check(step.settings.chain_id)
    step.state = evolve(step.state, mempool=mempool)


def _wake(step: ChainStep) -> None:
    """Deviation D7: what ends the wait for something to decide, but one liar alone.

    More than f validators that are at this height, or a block that decides something;
    what waits for a block here is looked at by `height.begin_if_due`.
    """
    state = step.state.consensus
    if state.step is not RoundStep.NEW_HEIGHT:
        return
    # An empty block decides nothing: its proposer alone must not outrun the heartbeat.
    first = state.vote_set.proposals.get(0)
    decides = False
    if first is not None and first.valid:
        prepared = step.state.prepared[first.proposal.block_id]
        decides = bool(prepared.block.transactions)
    if decides or len(state.vote_set.voices()) >= step.state.validator.skip:
        height.begin_now(step)
