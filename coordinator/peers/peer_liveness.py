"""Signs of life: what another coordinator alone can have said, and has just said.

That something came in its name shows little. Whoever has its place at the broker, or
is the broker, can repeat what it once said, or ask in its name as much as it likes;
boards that it is to answer would be left to one that is long gone. So a coordinator is
heard of by its own signature under what was not there before: a status with a counter
above all that we heard of, or a vote of the height that we decide. What others pass on
does not count: it says nothing about where its author is.

A status that came from another broker first counts for ours when it comes there.
"""

from dataclasses import replace

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.chain_step import ChainState
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.state import PeerState
from starling.protocol.chain.blocks import Vote, VoteType
from starling.protocol.crypto.keys import verify
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import DeviceId, device_id


def record_status(
    step: CoordinatorStep,
    who: DeviceId,
    status: gossip_messages.ValidatorStatus,
    elsewhere: bool,
) -> None:
    """Notes that a peer lives and how far it is, if its status is its own and new.

    Args:
      step: The step, before the ledger takes the status.
      who: Whose message it is.
      status: The status; unchecked.
      elsewhere: Whether it came from a broker that boards of ours are not clients of.

    Raises:
      SignatureError: If it is forged.
    """
    peer = step.state.peers[who]
    latest = step.state.ledger.heard.get(status.validator)
    old = latest is not None and status.counter < latest.counter
    if device_id(status.validator) != who or old:
        return
    # The ledger may have got it from somebody quicker: our own count decides.
    known = peer.status_counter if elsewhere else peer.near_counter
    if status.counter <= known:
        return
    signed = status.signed_bytes(step.settings.gate.chain_id)
    verify(status.validator, signed, status.signature)
    if status.counter > peer.status_counter:
        peer = replace(
            peer,
            height=status.height,
            round=status.round,
            status_counter=status.counter,
        )
    if not elsewhere:
        peer = replace(peer, near_counter=status.counter)
    _lives(step, who, peer, elsewhere)


def record_vote(
    step: CoordinatorStep,
    who: DeviceId,
    vote: Vote,
    before: ChainState,
    elsewhere: bool,
) -> None:
    """Notes that a peer lives whose own vote the ledger has just counted.

    Args:
      step: The step, after the ledger took the vote.
      who: Whose message it is.
      vote: The vote.
      before: The ledger before it took it.
      elsewhere: As in `record_status`.
    """
    members = before.validator.roster.validators.members
    if vote.voter >= len(members) or device_id(members[vote.voter].public) != who:
        return
    deciding = step.state.ledger.consensus
    # A height that ended with this vote shows nothing: the votes are gone.
    if not vote.height == before.consensus.height == deciding.height:
        return
    kind = VoteType(vote.vote_type)
    known = before.consensus.vote_set.cast(vote.round, kind).get(vote.voter)
    counted = deciding.vote_set.cast(vote.round, kind).get(vote.voter)
    # Only if it was new and counted: a repetition may come from anybody.
    if known is None and counted == vote:
        _lives(step, who, step.state.peers[who], elsewhere)


def _lives(
    step: CoordinatorStep, who: DeviceId, peer: PeerState, elsewhere: bool
) -> None:
    near_at_s = peer.near_at_s if elsewhere else step.now_s
    peer = replace(peer, heard_at_s=step.now_s, near_at_s=near_at_s)
    step.state = evolve(step.state, peers={**step.state.peers, who: peer})
