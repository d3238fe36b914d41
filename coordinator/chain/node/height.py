"""Deciding one height: from waiting transactions to a stored block, and on restart."""

import math
from dataclasses import replace
from typing import assert_never

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.chain_step import (
    ChainSettings,
    ChainState,
    ChainStep,
    JournalVote,
    RefuseTransaction,
    StoreBlock,
)
from starling.coordinator.chain.consensus import proof_of_lock, tendermint
from starling.coordinator.chain.consensus.round_state import (
    CastVote,
    Decide,
    Output,
    Propose,
    RoundState,
    RoundStep,
)
from starling.coordinator.chain.consensus.tendermint import start_round
from starling.coordinator.chain.consensus.vote_set import BlockCandidate
from starling.coordinator.chain.execution import block_builder
from starling.coordinator.chain.execution.block_builder import ExecutedBlock
from starling.coordinator.chain.execution.transaction_table import TRANSACTIONS
from starling.coordinator.chain.gossip import certificate_gossip, fork_halt
from starling.coordinator.chain.gossip_messages import (
    JOURNAL_ENTRY,
    FrameSubject,
    VoteJournalEntry,
)
from starling.coordinator.chain.governance import proposer_absence
from starling.coordinator.chain.state import transaction_codec, validator_records
from starling.protocol.chain.blocks import BLOCK, Certificate, Proposal
from starling.protocol.chain.governance import ChainParameter
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProtocolError, Reason, StorageError
from starling.protocol.ids import SIGNATURE_BYTES
from starling.protocol.wire.envelope import (
    Envelope,
    MessageKind,
    sign,
)
from starling.protocol.wire.message_bodies import PRESENT, Present


def submit(step: ChainStep, envelope: Envelope, tells: bool) -> None:
    """Adds a transaction to the mempool; gossips it if `tells`."""
    identity = envelope.identity(step.settings.chain_id)
    packed = transaction_codec.pack(envelope)
    try:
        if envelope.kind not in TRANSACTIONS:
            raise_unknown_kind(envelope)
        most = step.settings.waiting_max
        mempool = step.state.mempool.add(identity, envelope, packed, most)
    except ProtocolError as error:
        step.emit(RefuseTransaction(identity, error.reason, str(error)))
        return
    step.state = evolve(step.state, mempool=mempool)
    # A validator alone has nobody to tell: not even a frame is packed.
    if tells and not step.state.alone:
        step.gossip(gossip_messages.frame(FrameSubject.TRANSACTION, packed))


def submit_own(step: ChainStep, kind: MessageKind, counter: int, body: bytes) -> None:
    """Signs a transaction of our own and lets it wait, if there is room for it."""
    settings = step.settings
    envelope = sign(settings.key, settings.chain_id, kind, counter, body)
    identity, packed = (
        envelope.identity(settings.chain_id),
        transaction_codec.pack(envelope),
    )
    try:
        most = settings.waiting_max
        mempool = step.state.mempool.add(identity, envelope, packed, most)
    except ProtocolError:
        # It waits already, or the occasion comes again at a later height.
        return
    step.state = evolve(step.state, mempool=mempool)
    step.gossip(gossip_messages.frame(FrameSubject.TRANSACTION, packed))


def come_back(step: ChainStep) -> None:
    """Says PRESENT when the chain passes us over although we take part again."""
    state, index = step.state, step.state.validator.index
    # A vote at this height: while we catch up we cast none, and would miss our turn.
    votes = state.consensus.vote_set.votes.values()
    if step.validator.index is None or not any(index in cast for cast in votes):
        return
    known = validator_records.absence(state.tree, step.settings.key.public)
    if known is None or not known.away or known.height == state.back_said:
        return
    # The chain would refuse it before that, and the mempool would keep it until then.
    if state.consensus.height < proposer_absence.back_from(known):
        return
    step.state = evolve(step.state, back_said=known.height)
    body = PRESENT.pack(Present(known.height))
    submit_own(step, MessageKind.PRESENT, known.height, body)


def raise_unknown_kind(envelope: Envelope) -> None:
    """Refuses an envelope that is no transaction."""
    raise ProtocolError(f"kind {envelope.kind} enters no block", Reason.UNKNOWN_KIND)


def begin_from_s(settings: ChainSettings, state: ChainState) -> float:
    """Earliest start of the height: at once for its proposer, later for others.

    Others begin only to wait for the proposal; it mostly comes before that.
    """
    validator = state.validator
    if validator.index == validator.proposer(0):
        return state.propose_from_s
    return state.propose_from_s + settings.patience_s


def begin_if_due(step: ChainStep) -> None:
    """Begins the height if there is something to decide or the heartbeat is due."""
    state, now_s, validator = step.state, step.moment.now_s, step.validator
    from_s = begin_from_s(step.settings, state)
    waits = state.consensus.step is RoundStep.NEW_HEIGHT
    if not waits or validator.index is None or now_s < from_s:
        return
    beats = now_s >= state.heartbeat_at_s
    # Deviation D7: neither something to decide nor the heartbeat.
    if not beats and not state.mempool.size:
        return
    proposer = validator.proposer(0)
    makes = validator.index == proposer
    if not makes and not beats:
        # What waits may have become void: nobody is to wait for a proposal of it.
        makes = not block_builder.applies(state.tip, proposer, state.mempool)
    # One that is not the proposer makes a block only to take void transactions out of
    # the mempool, each with its refusal; it is never offered.
    if makes:
        step.fresh = _make(step)
    # All that waited was void: an empty block has to wait for the heartbeat (D7).
    if not beats and step.fresh is not None and not step.fresh.block.transactions:
        step.fresh = None
        return
    begin_now(step)


def begin_now(step: ChainStep) -> None:
    """Begins round 0 of the height."""
    _begin_round(step, 0)


def _begin_round(step: ChainStep, number: int) -> None:
    after, outputs = start_round(
        step.validator, step.state.consensus, step.moment, number
    )
    step.state = evolve(step.state, consensus=after)
    _carry_out(step, outputs)


def end_silence(step: ChainStep) -> None:
    """Begins the current round anew if we were silent until now.

    Before its prevote a validator has said nothing in a round but perhaps its proposal,
    which is in the journal: that it enters the round later is all that others see.
    """
    silent = step.validator.index is None
    followed = step.state.followed
    step.state = evolve(step.state, followed=silent)
    # Rounds that have a vote of this validator need no second beginning.
    if followed and not silent and step.state.consensus.step is RoundStep.PROPOSE:
        _begin_round(step, step.state.consensus.round)


def look_around(step: ChainStep) -> None:
    """Ends the wait for peers at this height or below.

    How many they must be: `ValidatorContext.peers_to_reach`.
    """
    if not step.state.caught_up and not step.state.behind:
        step.state = evolve(step.state, caught_up=True, told={})


def run(step: ChainStep) -> None:
    """Lets consensus go on until it waits for somebody or for time."""
    while step.state.fork is None:
        # Read again in each turn: a decision changes the set, and a foreign signature
        # under the own key takes away the right to vote.
        validator = step.validator
        after, outputs = tendermint.advance(
            validator, step.state.consensus, step.moment
        )
        step.state = evolve(step.state, consensus=after)
        if not outputs:
            return
        _carry_out(step, outputs)


def _carry_out(step: ChainStep, outputs: tuple[Output, ...]) -> None:
    for output in outputs:
        match output:
            case Propose():
                _propose(step, output.round)
            case CastVote():
                _publish_vote(step, output)
            case Decide():
                _decide(step, output.certificate)
            case _:
                assert_never(output)


def _make(step: ChainStep) -> ExecutedBlock:
    index = step.validator.index
    assert index is not None
    most = step.settings.transactions_max
    prepared, void = block_builder.make(step.state.tip, index, step.state.mempool, most)
    mempool = step.state.mempool.without(result.identity for result in void)
    step.state = evolve(step.state, mempool=mempool)
    for result in void:
        refusal = RefuseTransaction(result.identity, Reason(result.code), result.detail)
        step.emit(refusal)
    return prepared


def _propose(step: ChainStep, number: int) -> None:
    """Lines 14 to 19: offers the valid block again, or a fresh one."""
    state, validator = step.state.consensus, step.state.validator
    assert validator.index is not None
    # Advancing may have passed this round by before its output is carried out.
    if state.round != number or number in state.vote_set.proposals:
        return
    again = proof_of_lock.to_offer(validator, state)
    if again is not None:
        prepared = step.state.prepared[again[0]]
    else:
        # A block that `begin_if_due` made in this step is not executed twice.
        prepared = step.fresh or _make(step)
    block_id = prepared.block.header.block_id()
    proposal = Proposal(
        state.height,
        number,
        state.valid_round + 1,
        block_id,
        validator.index,
        bytes(SIGNATURE_BYTES),
        BLOCK.pack(prepared.block),
        # A block that is offered again shows its prevotes (D1); a fresh one shows the
        # certificate by which it is dated.
        again[1] if again is not None else None,
        step.state.tip.certificate if again is None else None,
    )
    signature = validator.key.sign(proposal.signed_bytes(validator.chain_id))
    proposal = replace(proposal, signature=signature)
    # Counted in and journalled before it is sent: after a crash in between, the same
    # block is offered again and no other one.
    hold_proposal(step, proposal, prepared)
    entry = VoteJournalEntry(state.height, proposal, None, None)
    step.emit(JournalVote(JOURNAL_ENTRY.pack(entry), entry.height))
    step.gossip(gossip_messages.wrap_proposal(proposal))


def hold_proposal(
    step: ChainStep, proposal: Proposal, prepared: ExecutedBlock | None
) -> None:
    """Counts a proposal in; without `prepared` its block is invalid.

    If its round has another one already, a quorum must have prevoted its block.
    """
    state = step.state.consensus
    offered = state.vote_set.offered(proposal.block_id)
    if offered is not None:
        # Offered again, round after round, it is in memory once.
        proposal = replace(proposal, block=offered)
    candidate, vote_set = BlockCandidate(proposal, prepared is not None), state.vote_set
    if proposal.round in vote_set.proposals:
        vote_set = vote_set.with_carried(candidate)
    else:
        vote_set = vote_set.with_proposal(candidate)
    step.state = evolve(step.state, consensus=replace(state, vote_set=vote_set))
    if prepared is not None:
        blocks_held = {**step.state.prepared, proposal.block_id: prepared}
        step.state = evolve(step.state, prepared=blocks_held)


def _publish_vote(step: ChainStep, output: CastVote) -> None:
    vote, locked = output.vote, output.locked
    proposal = locked.proposal if locked is not None else None
    if proposal is not None and proposal.proposer == step.state.validator.index:
        # It was written down when it was made.
        proposal = None
    entry = VoteJournalEntry(vote.height, proposal, vote, output.proof)
    step.emit(JournalVote(JOURNAL_ENTRY.pack(entry), entry.height))
    step.gossip(gossip_messages.wrap_vote(vote))


def _decide(step: ChainStep, certificate: Certificate) -> None:
    state, now_s = step.state, step.moment.now_s
    prepared = state.prepared[certificate.block_id]
    block, execution = prepared.block, prepared.execution
    # A block of one's own was executed together with what it then left out.
    results = tuple(result for result in execution.results if result.code == 0)
    # Both read the votes of the height, which are dropped below.
    fork_halt.remember(step, certificate, block.header.time_ms)
    certificate_gossip.share_commit(step, certificate)
    step.emit(
        StoreBlock(block, certificate, execution.changes, results, execution.happenings)
    )
    tip = replace(
        state.tip, header=block.header, certificate=certificate, tree=execution.tree
    )
    # Others may still send us what we once voted in the height that we come to.
    listens_until_s = now_s + step.settings.listen_s
    step.state = evolve(
        state,
        tip=tip,
        validator=step.settings.validator(tip),
        consensus=RoundState(tip.height + 1),
        last=block,
        mempool=state.mempool.without(result.identity for result in results),
        # From the step and not from `state`, which `remember` has replaced.
        recent=step.state.recent,
        propose_from_s=now_s + step.settings.block_interval_s,
        heartbeat_at_s=now_s + tip.parameter(ChainParameter.HEARTBEAT_S),
        listens_until_s=state.listens_until_s if state.caught_up else listens_until_s,
        # Of the height that is over.
        prepared={},
        repeats={},
        shared_round=-1,
        share_at_s=math.inf,
        told_late=False,
    )
    step.fresh = None
    # The chain may be behind its journal: the height that begins may have votes in it.
    restore(step)


def restore(step: ChainStep) -> None:
    """Takes up a height where the journal says that we left it.

    A restart must look like a pause: the same votes stand, and none is cast twice.

    Raises:
      StorageError: If the journal does not fit the stored chain.
    """
    state = step.state
    if not state.recovered:
        return
    # Later heights wait for their turn, since their blocks build on what is not here
    # yet.
    mine = [e for e in state.recovered if e.height == state.consensus.height]
    later = tuple(e for e in state.recovered if e.height > state.consensus.height)
    step.state = evolve(step.state, recovered=later)
    for entry in mine:
        _restore_entry(step, entry)
    taken = step.state.consensus
    # The journal holds no timeouts: this one counts from the restart.
    if taken.step is RoundStep.PROPOSE:
        wait_s = step.settings.timeouts.of_proposal(taken.round)
        at_s = step.moment.now_s + wait_s
        step.state = evolve(step.state, consensus=replace(taken, propose_at_s=at_s))


def _restore_entry(step: ChainStep, entry: VoteJournalEntry) -> None:
    proposal = entry.proposal
    if proposal is not None:
        try:
            block = BLOCK.unpack(proposal.block)
            # Executed again rather than trusted: chain and journal may be of different
            # days.
            prepared = block_builder.check(step.state.tip, block, step.state.mempool)
        except ProtocolError as error:
            raise StorageError(
                f"vote journal: the block of height {entry.height} does not follow "
                f"the stored chain ({error}); restore both from the same backup"
            ) from error
        hold_proposal(step, proposal, prepared)
    step.state = evolve(
        step.state, consensus=proof_of_lock.retake(step.state.consensus, entry)
    )
