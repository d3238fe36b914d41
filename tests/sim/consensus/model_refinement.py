"""The model's rules in Python, held against what validators in a simulation did.

Each function is a part of `tests/model/consensus.pml` under its name there, as a check
of one journal entry: what the model never does, no trace of the code may do. What the
model leaves out, as when a timeout fires, is left out here too.
"""

from dataclasses import dataclass, field, replace

from starling.coordinator.chain.consensus.round_state import RoundState
from starling.coordinator.chain.gossip_messages import VoteJournalEntry
from starling.protocol.chain.blocks import Certificate, Proposal, Vote, VoteType
from starling.protocol.ids import BlockHash

KNOWN_AFTER_S = 4.0
"""After which a quorum that locked one validator, and its block, is known to all, in a
network that loses nothing: two statuses, the second of them hastened, and some more."""


@dataclass(frozen=True)
class Place:
    """One validator at one height, as the model has it.

    Attributes:
      locked: The model's `locked`.
      locked_at: Its `locked_at`: the round plus 1, 0 if there is none.
      cast: Rounds and types of the votes so far.
      offered: Rounds of the proposals so far.
    """

    locked: BlockHash | None = None
    locked_at: int = 0
    cast: frozenset[tuple[int, int]] = frozenset()
    offered: frozenset[int] = frozenset()


@dataclass
class Witness:
    """Follows all validators of a simulation.

    Attributes:
      quorum: Of the validators.
      prompt: Whether the network is such that quorums become known in time.
      places: By validator and height.
      locks: Height and round of locks that others may not know yet, with the time.
    """

    quorum: int
    prompt: bool = False
    places: dict[tuple[int, int], Place] = field(default_factory=dict)
    locks: list[tuple[float, int, int]] = field(default_factory=list)
    left_out: set[int] = field(default_factory=set)

    def wrote(self, node: int, entry: VoteJournalEntry, now_s: float) -> None:
        """A validator wrote down a proposal or a vote."""
        if node in self.left_out:
            return
        place = self.places.get((node, entry.height), Place())
        if entry.vote is None:
            assert entry.proposal is not None
            after = propose(place, entry.proposal, self.quorum)
        elif entry.vote.vote_type == VoteType.PREVOTE:
            after = cast_prevote(place, entry.vote, entry.proof, self.quorum)
        else:
            after = cast_precommit(place, entry.vote, entry.proof, self.quorum)
        if after.locked_at != place.locked_at:
            self.locks.append((now_s, entry.height, after.locked_at - 1))
        self.places[node, entry.height] = after

    def rests(self, node: int, state: RoundState, now_s: float) -> None:
        """A validator waits: the code's lock is the model's."""
        if node in self.left_out:
            return
        place = self.places.get((node, state.height), Place())
        ours = (state.locked, state.locked_round + 1)
        assert ours == (place.locked, place.locked_at)
        assert state.locked_round <= state.valid_round <= state.round
        if not self.prompt:
            return
        self.locks = [one for one in self.locks if one[1] >= state.height]
        for since_s, height, number in self.locks:
            if height == state.height and now_s > since_s + KNOWN_AFTER_S:
                assert state.valid_round >= number, (
                    f"node {node} knows nothing of the quorum of round {number} at "
                    f"height {height}"
                )


def propose(place: Place, proposal: Proposal, quorum: int) -> Place:
    """`propose`: the valid block with its prevotes, a fresh one only without one."""
    number = proposal.round
    assert number not in place.offered, "offered twice"
    if proposal.valid_round:
        _is_polka(proposal.proof_of_lock, proposal.valid_round - 1, proposal, quorum)
    assert place.locked_at <= proposal.valid_round <= number
    return replace(place, offered=place.offered | {number})


def cast_prevote(
    place: Place, vote: Vote, proof: Certificate | None, quorum: int
) -> Place:
    """`cast_prevotes`: lines 22 to 33 for a block; nil may have many reasons."""
    after = _cast(place, vote)
    if vote.block_id is None:
        assert vote.extra == 0
        return after
    same = place.locked == vote.block_id
    if vote.extra:
        _is_polka(proof, vote.extra - 1, vote, quorum)
        assert same or place.locked_at <= vote.extra
    else:
        assert same or place.locked_at == 0
    return after


def cast_precommit(
    place: Place, vote: Vote, proof: Certificate | None, quorum: int
) -> Place:
    """`cast_precommits`: a block only with its quorum of this round, which locks."""
    after = _cast(place, vote)
    assert (vote.round, int(VoteType.PREVOTE)) in after.cast
    if vote.block_id is None:
        return after
    _is_polka(proof, vote.round, vote, quorum)
    return replace(after, locked=vote.block_id, locked_at=vote.round + 1)


def _cast(place: Place, vote: Vote) -> Place:
    key = vote.round, vote.vote_type
    assert key not in place.cast, "voted twice"
    assert all(key >= earlier for earlier in place.cast), "rounds go on"
    return replace(place, cast=place.cast | {key})


def _is_polka(
    proof: Certificate | None, number: int, what: Vote | Proposal, quorum: int
) -> None:
    """`count_prevotes`: equal prevotes for one reason, a quorum of them."""
    assert proof is not None
    assert (proof.height, proof.round) == (what.height, number)
    assert proof.block_id == what.block_id
    assert len(set(proof.extras)) == 1
    assert len(proof.members()) >= quorum
