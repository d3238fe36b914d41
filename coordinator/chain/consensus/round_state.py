"""State of a validator at one height, and its requests when it moves on.

`n` is the number of validators, `q` the quorum, `f` how many may lie.

Source: arXiv:1807.04938v3, page 6, "Initialization" for the state.
"""

import math
from dataclasses import dataclass, field
from enum import IntEnum

from starling.coordinator.chain.consensus.proposer_order import ProposerSchedule
from starling.coordinator.chain.consensus.vote_set import BlockCandidate, VoteSet
from starling.protocol.chain.blocks import Certificate, Vote
from starling.protocol.chain.genesis import FaultModel, quorum
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import BlockHash, ChainId

NEVER = math.inf


class RoundStep(IntEnum):
    """Step of a validator within a round."""

    NEW_HEIGHT = 0
    """Deviation D7: round 0 waits for something to decide."""
    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3


@dataclass(frozen=True)
class Timeouts:
    """Timeouts of the steps, in seconds.

    Attributes:
      propose_s: For the proposal in round 0; above twice the network's delay plus
        `vote_s`, as Lemma 5 asks.
      vote_s: For more votes once a quorum voted, in round 0; above twice the delay.
      growth_s: Longer in each further round, so that any delay is outgrown.
      most_s: Longest of all.
    """

    propose_s: float = 3.0
    vote_s: float = 1.5
    growth_s: float = 1.0
    most_s: float = 60.0

    def of_proposal(self, number: int) -> float:
        """timeoutPropose(round)."""
        return min(self.most_s, self.propose_s + self.growth_s * number)

    def of_votes(self, number: int) -> float:
        """timeoutPrevote(round) and timeoutPrecommit(round)."""
        return min(self.most_s, self.vote_s + self.growth_s * number)


@dataclass(frozen=True)
class ValidatorContext:
    """This validator and the validator set that decides a height.

    Attributes:
      chain_id: The chain.
      fault_model: What its validators are assumed to do at worst.
      roster: Who decides the height.
      key: Our key.
      index: Our place in the validator set; None only observes.
      timeouts: How long steps wait.
    """

    chain_id: ChainId
    fault_model: FaultModel
    roster: ProposerSchedule
    key: SigningKey
    index: int | None
    timeouts: Timeouts

    @property
    def count(self) -> int:
        """N."""
        return len(self.roster.order)

    @property
    def quorum(self) -> int:
        """q, deviation D3: floor(2n/3) + 1 and not 2f + 1."""
        return quorum(self.count, self.fault_model)

    @property
    def skip(self) -> int:
        """F + 1: as many contain somebody correct."""
        if self.fault_model is FaultModel.CRASH:
            # Under the crash model nobody lies, so that one voice is enough.
            return 1
        return (self.count - 1) // 3 + 1

    @property
    def peers_to_reach(self) -> int:
        """Number of peers that must be no further than we are before we vote again.

        `n - q + 1` others meet every quorum that we were ever part of: it had `q - 1`
        of the `n - 1` others. Where a quorum that includes us has fewer others, as with
        an odd number of crash-only validators, waiting for more could stop the chain.
        """
        return min(self.count - self.quorum + 1, self.quorum - 1)

    def proposer(self, number: int) -> int:
        """Proposer of a round."""
        return self.roster.proposer(number)


@dataclass(frozen=True)
class RoundState:
    """One validator's state at one height.

    Attributes:
      height: h_p.
      round: round_p.
      step: step_p.
      locked: lockedValue_p; None with `locked_round` -1.
      locked_round: lockedRound_p, at most `valid_round`.
      valid: validValue_p; None with `valid_round` -1.
      valid_round: validRound_p, at most `round`.
      propose_at_s: When timeoutPropose of this round fires; None before it is
        scheduled, infinity once it fired.
      prevote_at_s: The same for timeoutPrevote.
      precommit_at_s: The same for timeoutPrecommit.
      vote_set: The messages of this height.
    """

    height: int
    round: int = 0
    step: RoundStep = RoundStep.NEW_HEIGHT
    locked: BlockHash | None = None
    locked_round: int = -1
    valid: BlockHash | None = None
    valid_round: int = -1
    propose_at_s: float | None = None
    prevote_at_s: float | None = None
    precommit_at_s: float | None = None
    vote_set: VoteSet = field(default_factory=VoteSet)

    def wake_at_s(self) -> float:
        """Time of the next timeout; infinity if none is scheduled."""
        times = (self.propose_at_s, self.prevote_at_s, self.precommit_at_s)
        return min((time for time in times if time is not None), default=NEVER)


@dataclass(frozen=True)
class CastVote:
    """An own vote, to be written down and published.

    Attributes:
      vote: The vote; it already counts for us.
      proof: The earlier prevotes that it relies on: those of a prevote's valid round,
        or those that let a precommit lock.
      locked: The proposal that a precommit locks.
    """

    vote: Vote
    proof: Certificate | None = None
    locked: BlockCandidate | None = None


@dataclass(frozen=True)
class Propose:
    """It is our turn: offer a block, the valid one again if there is one."""

    height: int
    round: int


@dataclass(frozen=True)
class Decide:
    """The height is decided."""

    certificate: Certificate


Output = CastVote | Propose | Decide
Firing = tuple[RoundState, tuple[Output, ...]]


@dataclass(frozen=True)
class ClockReading:
    """The clocks, read once per step: monotonic seconds and Unix milliseconds."""

    now_s: float
    now_ms: int
