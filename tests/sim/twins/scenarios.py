"""Consensus under an adversary that owns the network, the turns and some keys.

A scenario is played round by round. Of each round the adversary chooses who leads, and
for each type of message which validators hear which others; some keys run twice, some
say to each listener whatever the adversary likes. Rounds are entered by command: no
step of the safety proof depends on when a round is entered or a timeout fires, so that
this only skips waiting. The rules, the locks and the journal are the product's own.

Source: Bano et al., "Twins: BFT systems made robust", arXiv:2004.10617.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from starling.coordinator.chain.consensus import proof_of_lock
from starling.coordinator.chain.consensus.round_state import (
    NEVER,
    CastVote,
    ClockReading,
    Decide,
    Propose,
    RoundState,
    RoundStep,
    Timeouts,
    ValidatorContext,
)
from starling.coordinator.chain.consensus.tendermint import (
    RULES,
    Rule,
    advance,
    start_round,
)
from starling.coordinator.chain.consensus.vote_set import BlockCandidate, VoteSet
from starling.coordinator.chain.execution.state_machine import genesis_tree
from starling.coordinator.chain.gossip_messages import VoteJournalEntry
from starling.coordinator.chain.governance.proposer_absence import roster_of
from starling.protocol.chain.blocks import Certificate, Proposal, Vote, VoteType
from starling.protocol.chain.genesis import FaultModel, Genesis, quorum
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash, ChainId, H
from tests.unit.coordinator.fixtures.small_genesis import genesis, sorted_validator_keys

HEIGHT = 1
NOW = ClockReading(100.0, 0)
_TIMEOUTS = Timeouts()
_UNSIGNED = bytes(SIGNATURE_BYTES)


class RememberingKey(SigningKey):
    """Signs each message once: scenarios repeat most votes, and signing is slow."""

    def sign(self, message: bytes) -> bytes:
        known = _SIGNATURES.get((self.seed, message))
        if known is None:
            known = _SIGNATURES[self.seed, message] = super().sign(message)
        return known


_SIGNATURES: dict[tuple[bytes, bytes], bytes] = {}


@dataclass(frozen=True)
class QuorumRules:
    """What validators obey; the defaults are the product's, mutants replace some.

    Attributes:
      rules: The paper's lines.
      check: What a proposal made again must bring.
      check_polka: What a quorum that somebody shows must be.
      retake: How a restarted validator goes on.
      quorum: Of a number of validators.
    """

    rules: tuple[Rule, ...] = RULES
    check: Callable[[ValidatorContext, Proposal], None] = (
        proof_of_lock.check_proof_of_lock
    )
    check_polka: Callable[[ValidatorContext, Certificate], None] = (
        proof_of_lock.check_polka
    )
    retake: Callable[[RoundState, VoteJournalEntry], RoundState] = proof_of_lock.retake
    quorum: Callable[[int], int] = lambda count: quorum(count, FaultModel.BYZANTINE)


@dataclass(frozen=True)
class Crew:
    """Who takes part.

    Attributes:
      validators: How many there are.
      twins: Which of them run twice with one key.
      liars: Whose keys say what the adversary likes.
    """

    validators: int = 4
    twins: tuple[int, ...] = ()
    liars: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scripted(ValidatorContext):
    """A validator in a play whose leaders are written down."""

    leaders: tuple[int, ...] = ()
    needed: int = 0

    @property
    def quorum(self) -> int:
        return self.needed

    def proposer(self, number: int) -> int:
        return self.leaders[number % len(self.leaders)]


@dataclass
class Node:
    """One running copy of a validator; `stirred` if its rules may ask for something."""

    number: int
    validator: Scripted
    correct: bool
    state: RoundState = field(default_factory=lambda: RoundState(HEIGHT))
    journal: list[VoteJournalEntry] = field(default_factory=list)
    decided: Certificate | None = None
    stirred: bool = False

    @property
    def index(self) -> int:
        assert self.validator.index is not None
        return self.validator.index

    def candidate(self, number: int) -> BlockCandidate | None:
        return self.state.vote_set.proposals.get(number)


Message = Proposal | Vote | Certificate


class Stage:
    """Validators, what they said, and what of it did not arrive yet.

    Attributes:
      said: All votes and proposals so far, each with the number of who said it.
      spread: How many of them the network has dealt with.
      late: Messages that were withheld, with whom they were meant for.
    """

    def __init__(
        self, crew: Crew, law: QuorumRules, draw: random.Random, rounds: int
    ) -> None:
        self.crew, self.law, self.draw = crew, law, draw
        self.chain, self.chain_id, self.keys = _chain(crew.validators)
        self.needed = law.quorum(crew.validators)
        self.leaders = tuple(_leader(crew, draw) for _ in range(rounds))
        self.nodes: list[Node] = []
        for index in range(crew.validators):
            copies = 0 if index in crew.liars else 1 + (index in crew.twins)
            for _ in range(copies):
                self._add(index, correct=copies == 1)
        self.said: list[tuple[int, Message]] = []
        self.spread = 0
        self.late: list[tuple[Node, Message]] = []
        self._checked: dict[int, bool] = {}

    def _add(self, index: int, correct: bool) -> None:
        validator = Scripted(
            self.chain_id,
            FaultModel.BYZANTINE,
            roster_of(genesis_tree(self.chain), self.chain, HEIGHT),
            self.keys[index],
            index,
            _TIMEOUTS,
            self.leaders,
            self.needed,
        )
        self.nodes.append(Node(len(self.nodes), validator, correct))

    @property
    def acting(self) -> list[Node]:
        """The nodes that have not decided."""
        return [node for node in self.nodes if node.decided is None]

    def enter(self, node: Node, number: int) -> None:
        """A node begins a round; the leader proposes."""
        node.stirred = True
        node.state, outputs = start_round(node.validator, node.state, NOW, number)
        if outputs:
            self._propose(node)

    def receive(self, node: Node, messages: list[Message]) -> None:
        """A node takes messages, as `exchange` does, and acts on them later."""
        if node.decided is not None or not messages:
            return
        state = node.state
        vote_set = state.vote_set
        for message in messages:
            if isinstance(message, Vote):
                if message.voter != node.index:
                    vote_set = vote_set.with_vote(message, state.round)
            elif isinstance(message, Certificate):
                if self._is_quorum(node, message):
                    vote_set = vote_set.with_polka(message)
            elif self._acceptable(node, vote_set, message):
                vote_set = vote_set.with_proposal(BlockCandidate(message, True))
                if message.proof_of_lock is not None:
                    vote_set = vote_set.with_polka(message.proof_of_lock)
        node.state = replace(state, vote_set=vote_set)
        node.stirred = True

    def _acceptable(self, node: Node, vote_set: VoteSet, proposal: Proposal) -> bool:
        ahead = proposal.round > node.state.round + 1
        if ahead or proposal.round in vote_set.proposals:
            return False
        known = self._checked.get(id(proposal))
        if known is None:
            try:
                self.law.check(node.validator, proposal)
                known = True
            except ProtocolError:
                known = False
            self._checked[id(proposal)] = known
        return known

    def _is_quorum(self, node: Node, polka: Certificate) -> bool:
        try:
            self.law.check_polka(node.validator, polka)
        except ProtocolError:
            return False
        return True

    def act(self, node: Node) -> None:
        """A node does what its rules ask for."""
        while node.decided is None and node.stirred:
            node.state, outputs = advance(
                node.validator, node.state, NOW, self.law.rules
            )
            node.stirred = bool(outputs)
            for output in outputs:
                if isinstance(output, CastVote):
                    self._cast(node, output)
                elif isinstance(output, Propose):
                    self._propose(node)
                elif isinstance(output, Decide):
                    node.decided = output.certificate

    def fire(self, node: Node, step: RoundStep) -> None:
        """A node's timeout of this step fires, if it waits in it with a clock set."""
        state = node.state
        if state.step is not step:
            return
        if step is RoundStep.PROPOSE and state.propose_at_s is not None:
            node.state = replace(state, propose_at_s=NOW.now_s)
        elif step is RoundStep.PREVOTE and state.prevote_at_s not in (None, NEVER):
            node.state = replace(state, prevote_at_s=NOW.now_s)
        node.stirred = True
        self.act(node)

    def restart(self, node: Node) -> None:
        """A node loses all but its journal."""
        state = RoundState(HEIGHT)
        for entry in node.journal:
            if entry.proposal is not None:
                candidate = BlockCandidate(entry.proposal, True)
                vote_set = state.vote_set.with_proposal(candidate)
                state = replace(state, vote_set=vote_set)
            state = self.law.retake(state, entry)
        node.state = state
        node.stirred = True

    def _propose(self, node: Node) -> None:
        state, validator = node.state, node.validator
        if state.round in state.vote_set.proposals:
            return
        again = proof_of_lock.to_offer(validator, state)
        block_id = again[0] if again else fresh(state.round, node.number)
        proof = again[1] if again else None
        relied = state.valid_round + 1
        proposal = offer(state.round, relied, block_id, node.index, proof)
        vote_set = state.vote_set.with_proposal(BlockCandidate(proposal, True))
        node.state = replace(state, vote_set=vote_set)
        node.journal.append(VoteJournalEntry(HEIGHT, proposal, None, None))
        self.said.append((node.number, proposal))

    def _cast(self, node: Node, output: CastVote) -> None:
        proposal = output.locked.proposal if output.locked is not None else None
        node.journal.append(
            VoteJournalEntry(HEIGHT, proposal, output.vote, output.proof)
        )
        self.said.append((node.number, output.vote))
        if output.vote.vote_type == VoteType.PRECOMMIT and output.proof is not None:
            self.said.append((node.number, output.proof))


def fresh(number: int, who: int) -> BlockHash:
    """A block that nobody proposed before."""
    return BlockHash(H(b"block", b"%d/%d" % (number, who)))


def offer(
    number: int,
    relied: int,
    block_id: BlockHash,
    proposer: int,
    proof: Certificate | None,
) -> Proposal:
    """A proposal; the stage takes signatures of proposals for granted."""
    return Proposal(HEIGHT, number, relied, block_id, proposer, _UNSIGNED, b"", proof)


def of_type(message: Message, wanted: VoteType | None) -> bool:
    """Whether it is a vote of a type, or a proposal for None.

    A quorum of prevotes goes with the precommits that it led to.
    """
    if isinstance(message, Vote):
        return message.vote_type == wanted
    if isinstance(message, Certificate):
        return wanted == VoteType.PRECOMMIT
    return wanted is None


def _leader(crew: Crew, draw: random.Random) -> int:
    wicked = crew.liars + crew.twins
    if wicked and draw.random() < 0.4:
        return draw.choice(wicked)
    return draw.randrange(crew.validators)


@lru_cache
def _chain(count: int) -> tuple[Genesis, ChainId, list[RememberingKey]]:
    keys = [RememberingKey(key.seed) for key in sorted_validator_keys(count)]
    chain = genesis(count)
    return chain, chain.chain_id(), keys
