"""The messages of one height that a validator holds, in bounded memory.

Deviation D4: of each validator, round and type the first vote counts and one that
contradicts it is kept as evidence; of rounds beyond the next one, only each
validator's highest is kept. What is dropped is sent again by peers. A quorum that came
whole counts whatever else its members said to us: who votes twice hides none.

Source: arXiv:1807.04938 section 2.1 (messages); malachite, message-handling.md,
mitigation 2 (why dropping is safe).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from starling.protocol.chain.blocks import Certificate, Proposal, Vote, VoteType
from starling.protocol.chain.evidence import bare
from starling.protocol.ids import BlockHash

CONFLICTS_MAX = 64
POLKAS_PER_ROUND_MAX = 2
"""With up to f liars a round has one; two show who lied if there are more."""


@dataclass(frozen=True)
class BlockCandidate:
    """A round's proposal; `valid` is the paper's valid(v)."""

    proposal: Proposal
    valid: bool


@dataclass(frozen=True)
class VoteSet:
    """All that was heard of a height; dictionaries are never written to.

    Attributes:
      proposals: The first of each round.
      votes: By round and type, then by validator: the first of each.
      polkas: Certificates of prevotes that came whole, by round and block.
      commit: A certificate of precommits that came whole.
      delivered: Whether the block of `commit` came with it, and was checked.
      conflicts: Pairs of votes that contradict each other.
      rivals: A second proposal of a round, by round; without its block.
      carried: The proposal of a round that a quorum prevoted, if another one came
        first.
    """

    proposals: dict[int, BlockCandidate] = field(default_factory=dict)
    votes: dict[tuple[int, int], dict[int, Vote]] = field(default_factory=dict)
    polkas: dict[tuple[int, BlockHash], Certificate] = field(default_factory=dict)
    commit: Certificate | None = None
    delivered: bool = False
    conflicts: tuple[tuple[Vote, Vote], ...] = ()
    rivals: dict[int, Proposal] = field(default_factory=dict)
    carried: dict[int, BlockCandidate] = field(default_factory=dict)

    def with_proposal(self, candidate: BlockCandidate) -> "VoteSet":
        """With a round's proposal, unless there is one."""
        number = candidate.proposal.round
        if number in self.proposals:
            return self
        return replace(self, proposals={**self.proposals, number: candidate})

    def with_carried(self, candidate: BlockCandidate) -> "VoteSet":
        """With the proposal of a round that a quorum prevoted, beside the first one."""
        number = candidate.proposal.round
        return replace(self, carried={**self.carried, number: candidate})

    def candidates(self, number: int) -> tuple[BlockCandidate, ...]:
        """The proposals of a round: the first, and one that a quorum chose."""
        found = (self.proposals.get(number), self.carried.get(number))
        return tuple(candidate for candidate in found if candidate is not None)

    def candidate_for(self, block_id: BlockHash) -> BlockCandidate | None:
        """A proposal of a block, of whatever round; a valid one if there is one."""
        every = (*self.proposals.values(), *self.carried.values())
        found = [one for one in every if one.proposal.block_id == block_id]
        # Offered as fresh by who did not make it, a sound block is none of his.
        return max(found, key=lambda one: one.valid, default=None)

    def offered(self, block_id: BlockHash) -> bytes | None:
        """The packed block of that name, if some proposal brought it."""
        candidate = self.candidate_for(block_id)
        return None if candidate is None else candidate.proposal.block

    def with_rival(self, proposal: Proposal) -> "VoteSet":
        """With a second proposal of a round: its proposer lies."""
        number = proposal.round
        if number in self.rivals or len(self.rivals) >= CONFLICTS_MAX:
            return self
        return replace(self, rivals={**self.rivals, number: bare(proposal)})

    def contradicts(self, proposal: Proposal) -> bool:
        """True if it would be the second of its round, and none is kept yet."""
        number = proposal.round
        known = self.proposals.get(number)
        if known is None or number in self.rivals:
            return False
        first = known.proposal
        same = (first.block_id, first.valid_round)
        return same != (proposal.block_id, proposal.valid_round)

    def with_polka(self, certificate: Certificate) -> "VoteSet":
        """With a checked quorum of prevotes, whatever its members said to us."""
        place = certificate.round, certificate.block_id
        here = sum(number == certificate.round for number, _ in self.polkas)
        if place in self.polkas or here >= POLKAS_PER_ROUND_MAX:
            return self
        return replace(self, polkas={**self.polkas, place: certificate})

    def with_vote(self, vote: Vote, current: int) -> "VoteSet":
        """With a vote whose signature was checked.

        Args:
          vote: The vote.
          current: The own round.
        """
        key = (vote.round, vote.vote_type)
        known = self.votes.get(key, {}).get(vote.voter)
        # The first one counts, whatever comes later: a quorum that was seen must not
        # melt away.
        if known is not None:
            return self._with_conflict(known, vote)
        votes = self.votes
        # Deviation D4: of the rounds beyond the next one a voter fills a single place,
        # its highest; else one liar fills the memory with a vote for each round.
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

    def _with_conflict(self, known: Vote, vote: Vote) -> "VoteSet":
        told = any(first == known for first, _ in self.conflicts)
        # One pair is enough to convict; more of the same voter's first vote add
        # nothing.
        if agree(known, vote) or told or len(self.conflicts) >= CONFLICTS_MAX:
            return self
        return replace(self, conflicts=(*self.conflicts, (known, vote)))

    def cast(self, number: int, kind: VoteType) -> dict[int, Vote]:
        """The votes of a round and type, by validator."""
        return self.votes.get((number, int(kind)), {})

    def count(self, number: int, kind: VoteType, block_id: BlockHash | None) -> int:
        """Number of validators that cast this vote."""
        votes = self.cast(number, kind).values()
        return sum(vote.block_id == block_id for vote in votes)

    def certificate(
        self, number: int, kind: VoteType, block_id: BlockHash, needed: int
    ) -> Certificate | None:
        """The first `needed` equal votes as a certificate, if there are as many.

        Prevotes are equal only if they rely on the same round (deviation D2).
        """
        prevotes = kind is VoteType.PREVOTE
        # A certificate that came whole goes first: of its members' votes some may have
        # been heard otherwise here, so that counting them would miss the quorum.
        if prevotes and (number, block_id) in self.polkas:
            assert block_id is not None
            return self.polkas[number, block_id]
        whole = None if prevotes else self.commit
        if whole is not None and (whole.round, whole.block_id) == (number, block_id):
            return whole
        votes = self.cast(number, kind)
        # A certificate lists signatures in the order of its bitmap.
        equal = [
            votes[voter] for voter in sorted(votes) if votes[voter].block_id == block_id
        ]
        if prevotes:
            equal = _relying_on_one_round(equal, needed)
        if len(equal) < needed:
            return None
        # No more than needed, so that the wire form stays as short as it can be.
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
        # A set only until it is sorted below: proofs of a fork must not depend on
        # arrival.
        places = set(self.polkas)
        for (number, type_), votes in self.votes.items():
            if type_ == kind:
                named = {vote.block_id for vote in votes.values()}
                places |= {(number, one) for one in named if one is not None}
        for number, block_id in sorted(places):
            polka = self.certificate(number, kind, block_id, needed)
            if polka is not None:
                found.append(polka)
        return tuple(found)

    def polka_of(self, number: int, needed: int) -> Certificate | None:
        """A quorum of prevotes of a round, for whatever block."""
        whole = [place for place in self.polkas if place[0] == number]
        if whole:
            # More than one only if more than f lied; the choice is by hash, not by
            # arrival.
            return self.polkas[min(whole)]
        kind = VoteType.PREVOTE
        votes = self.cast(number, kind).values()
        # Cheap, since statuses ask this of every round.
        if len(votes) < needed:
            return None
        for block_id in sorted({v.block_id for v in votes if v.block_id is not None}):
            polka = self.certificate(number, kind, block_id, needed)
            if polka is not None:
                return polka
        return None

    def proposal_for(self, number: int, needed: int) -> BlockCandidate | None:
        """A round's proposal; of the block that a quorum prevoted, if there is one."""
        polka = self.polka_of(number, needed)
        for candidate in self.candidates(number):
            if polka is None or candidate.proposal.block_id == polka.block_id:
                return candidate
        return None

    def rounds(self) -> list[int]:
        """The rounds of which there is anything, rising."""
        named = {number for number, _ in (*self.votes, *self.polkas)}
        return sorted(named | set(self.proposals))

    def voices(self) -> set[int]:
        """The validators that said anything about this height."""
        found = {voter for cast in self.votes.values() for voter in cast}
        found |= {one.proposal.proposer for one in self.proposals.values()}
        # Members of a quorum that came whole have spoken, too, even if their own votes
        # were dropped.
        return found.union(*(polka.members() for polka in self.polkas.values()))

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
        cast = [(number, tuple(votes)) for (number, _), votes in self.votes.items()]
        # A quorum that came whole moves its receiver to its round (D4), even where the
        # votes of its members were lost or heard otherwise.
        whole = [(place[0], one.members()) for place, one in self.polkas.items()]
        for number, voters in cast + whole:
            for voter in voters:
                highest[voter] = max(number, highest.get(voter, 0))
        return sorted(highest.values(), reverse=True)


def agree(first: Vote, second: Vote) -> bool:
    """True if an honest validator may have cast both votes of one round and type.

    Prevotes must rely on the same round (deviation D2). The time in a precommit proves
    nothing: it is for the header's time alone, of which liars choose theirs anyway.
    """
    if first.block_id != second.block_id:
        return False
    return first.vote_type != VoteType.PREVOTE or first.extra == second.extra


def certified_votes(certificate: Certificate, kind: VoteType) -> tuple[Vote, ...]:
    """The votes of which a certificate consists."""
    height, number, block_id = (
        certificate.height,
        certificate.round,
        certificate.block_id,
    )
    entries = zip(
        certificate.members(), certificate.extras, certificate.signatures, strict=True
    )
    return tuple(
        Vote(int(kind), height, number, block_id, extra, voter, signature)
        for voter, extra, signature in entries
    )


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
