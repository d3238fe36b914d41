"""The messages of one height that a validator holds, in bounded memory.

Deviation D4: of each validator, round and type the first vote counts and one that
contradicts it is kept as evidence; of rounds beyond the next one, only each
validator's highest is kept. What is dropped is sent again by peers.

Source: arXiv:1807.04938 section 2.1 (messages); malachite, message-handling.md,
mitigation 2 (why dropping is safe).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from protocol.chain import Certificate, Proposal, Vote, VoteType
from protocol.evidence import bare
from protocol.ids import BlockHash

CONFLICTS_MAX = 64


@dataclass(frozen=True)
class Candidate:
    """A round's proposal; `valid` is the paper's valid(v)."""

    proposal: Proposal
    valid: bool


@dataclass(frozen=True)
class Ballots:
    """All that was heard of a height; dictionaries are never written to.

    Attributes:
      proposals: The first of each round.
      votes: By round and type, then by validator: the first of each.
      polkas: Certificates of prevotes that came whole, by round.
      commit: A certificate of precommits that came whole.
      conflicts: Pairs of votes that contradict each other.
      rivals: A second proposal of a round, by round; without its block.
    """

    proposals: dict[int, Candidate] = field(default_factory=dict)
    votes: dict[tuple[int, int], dict[int, Vote]] = field(default_factory=dict)
    polkas: dict[int, Certificate] = field(default_factory=dict)
    commit: Certificate | None = None
    conflicts: tuple[tuple[Vote, Vote], ...] = ()
    rivals: dict[int, Proposal] = field(default_factory=dict)

    def with_proposal(self, candidate: Candidate) -> "Ballots":
        """With a round's proposal, unless there is one."""
        number = candidate.proposal.round
        if number in self.proposals:
            return self
        return replace(self, proposals={**self.proposals, number: candidate})

    def offered(self, block_id: BlockHash) -> bytes | None:
        """The packed block of that name, if some proposal brought it."""
        for candidate in self.proposals.values():
            if candidate.proposal.block_id == block_id:
                return candidate.proposal.block
        return None

    def with_rival(self, proposal: Proposal) -> "Ballots":
        """With a second proposal of a round: its proposer lies."""
        number = proposal.round
        if number in self.rivals or len(self.rivals) >= CONFLICTS_MAX:
            return self
        return replace(self, rivals={**self.rivals, number: bare(proposal)})

    def contradicts(self, proposal: Proposal) -> bool:
        """Whether it would be the second of its round, and none is kept yet."""
        number = proposal.round
        known = self.proposals.get(number)
        if known is None or number in self.rivals:
            return False
        first = known.proposal
        same = (first.block_id, first.valid_round)
        return same != (proposal.block_id, proposal.valid_round)

    def with_polka(self, certificate: Certificate) -> "Ballots":
        """With a checked quorum of prevotes, which also stands for each of them."""
        if certificate.round in self.polkas:
            return self
        polkas = {**self.polkas, certificate.round: certificate}
        return replace(self, polkas=polkas)

    def with_vote(self, vote: Vote, current: int) -> "Ballots":
        """With a vote whose signature was checked.

        Args:
          vote: The vote.
          current: The own round.
        """
        key = (vote.round, vote.vote_type)
        known = self.votes.get(key, {}).get(vote.voter)
        if known is not None:
            return self._with_conflict(known, vote)
        votes = self.votes
        if vote.round > current + 1:
            distant = [
                other
                for other, cast in votes.items()
                if other[0] > current + 1 and vote.voter in cast
            ]
            if any(other[0] > vote.round for other in distant):
                return self
            lower = [other for other in distant if other[0] < vote.round]
            votes = _without(votes, lower, vote.voter)
        votes = {**votes, key: {**votes.get(key, {}), vote.voter: vote}}
        return replace(self, votes=votes)

    def _with_conflict(self, known: Vote, vote: Vote) -> "Ballots":
        same = known.block_id == vote.block_id
        told = any(first == known for first, _ in self.conflicts)
        if same or told or len(self.conflicts) >= CONFLICTS_MAX:
            return self
        return replace(self, conflicts=(*self.conflicts, (known, vote)))

    def cast(self, number: int, kind: VoteType) -> dict[int, Vote]:
        """The votes of a round and type, by validator."""
        return self.votes.get((number, int(kind)), {})

    def count(self, number: int, kind: VoteType, block_id: BlockHash | None) -> int:
        """How many validators cast this vote."""
        votes = self.cast(number, kind).values()
        return sum(vote.block_id == block_id for vote in votes)

    def certificate(
        self, number: int, kind: VoteType, block_id: BlockHash, needed: int
    ) -> Certificate | None:
        """The first `needed` equal votes as a certificate, if there are as many.

        Prevotes are equal only if they rely on the same round (deviation D2).
        """
        prevotes = kind is VoteType.PREVOTE
        whole = self.polkas.get(number) if prevotes else self.commit
        if whole is not None and (whole.round, whole.block_id) == (number, block_id):
            return whole
        votes = self.cast(number, kind)
        equal = [
            votes[voter] for voter in sorted(votes) if votes[voter].block_id == block_id
        ]
        if prevotes:
            equal = _relying_on_one_round(equal, needed)
        if len(equal) < needed:
            return None
        chosen = equal[:needed]
        return Certificate(
            chosen[0].height,
            number,
            block_id,
            sum(1 << vote.voter for vote in chosen),
            tuple(vote.signature for vote in chosen),
            tuple(vote.extra for vote in chosen),
        )

    def polkas_held(self, needed: int) -> tuple[Certificate, ...]:
        """One quorum of prevotes per round and block for which there is one."""
        kind, found = VoteType.PREVOTE, []
        places = {(number, polka.block_id) for number, polka in self.polkas.items()}
        for (number, type_), votes in self.votes.items():
            if type_ == kind:
                named = {vote.block_id for vote in votes.values()}
                places |= {(number, one) for one in named if one is not None}
        for number, block_id in sorted(places):
            polka = self.certificate(number, kind, block_id, needed)
            if polka is not None:
                found.append(polka)
        return tuple(found)

    def committed(self, needed: int) -> Certificate | None:
        """A certificate of precommits for some block in any round."""
        if self.commit is not None:
            return self.commit
        kind = VoteType.PRECOMMIT
        for number, block_id in self._precommitted():
            if self.count(number, kind, block_id) >= needed:
                return self.certificate(number, kind, block_id, needed)
        return None

    def _precommitted(self) -> Iterator[tuple[int, BlockHash]]:
        for (number, kind), votes in self.votes.items():
            if kind == VoteType.PRECOMMIT:
                named = {v.block_id for v in votes.values() if v.block_id is not None}
                for block_id in sorted(named):
                    yield number, block_id

    def claimed_rounds(self) -> list[int]:
        """The highest round of each validator that voted, falling."""
        highest: dict[int, int] = {}
        for (number, _), votes in self.votes.items():
            for voter in votes:
                highest[voter] = max(number, highest.get(voter, 0))
        return sorted(highest.values(), reverse=True)


def _relying_on_one_round(votes: list[Vote], needed: int) -> list[Vote]:
    """Those of the lowest round on which as many as are needed rely."""
    for relied in sorted({vote.extra for vote in votes}):
        agreeing = [vote for vote in votes if vote.extra == relied]
        if len(agreeing) >= needed:
            return agreeing
    return []


def _without(
    votes: dict[tuple[int, int], dict[int, Vote]],
    places: list[tuple[int, int]],
    voter: int,
) -> dict[tuple[int, int], dict[int, Vote]]:
    """Without one validator's votes of some rounds; what gets empty goes."""
    left = dict(votes)
    for place in places:
        left[place] = {who: vote for who, vote in votes[place].items() if who != voter}
        if not left[place]:
            del left[place]
    return left
