"""One step of the chain: its state in memory, its requests to the runtime."""

import math
from dataclasses import dataclass, field

from starling.coordinator.chain.consensus.round_state import (
    ClockReading,
    RoundState,
    Timeouts,
    ValidatorContext,
)
from starling.coordinator.chain.execution.block_builder import ChainHead, ExecutedBlock
from starling.coordinator.chain.execution.state_machine import TxResult
from starling.coordinator.chain.gossip_messages import (
    NONCE_BYTES,
    ForkProof,
    ValidatorStatus,
    VoteJournalEntry,
)
from starling.coordinator.chain.mempool import Mempool
from starling.coordinator.chain.peer_records import PeerGaps, RepeatRecord
from starling.coordinator.chain.state import operator_records
from starling.coordinator.chain.state.overlay import ChainEvent, Changes
from starling.protocol.chain.blocks import (
    TRANSACTIONS_PER_BLOCK_MAX,
    Block,
    Certificate,
    Header,
)
from starling.protocol.chain.genesis import FaultModel, Genesis
from starling.protocol.chain.light_client import TrustedState
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import Reason
from starling.protocol.ids import BlockHash, ChainId, Digest, PublicKey
from starling.protocol.step import Step


@dataclass(frozen=True)
class ChainSettings:
    """Settings that a chain is started with.

    Attributes:
      genesis: What the chain starts from.
      key: Our key; one that is not in the validator set only observes.
      transactions_max: Of a block that we propose.
      block_interval_s: Least time between a block and our next proposal; lets more
        transactions share a block's cost.
      timeouts: How long consensus waits.
      waiting_max: Transactions in the mempool.
      patience_s: How much longer than the proposer others wait before they begin a
        height themselves.
      status_s: How often we tell others where we are, if there are others.
      listen_s: How long we only listen after a start, if there are others: somebody
        may run with a copy of our key. Unless it is 0 we also wait until we have caught
        up with them: chain and journal may be an old backup.
      votes_from: Height from which we may vote; None for never, when the journal of
        our votes is gone and no operator has said from where to go on.
      fork: Proof from before the start that the chain forked; None if it did not.
      resumed_by: Who gave leave to vote from there on, if somebody had to; it counts
        while the chain says that this is an operator.
      pinned: A header that the chain must lead through, and whom to trust from it on.
      status_from: Our statuses of this start count from above it, and those of all
        earlier starts did not reach it.
      nonce: Drawn at this start: what others repeat they said since.
    """

    genesis: Genesis
    key: SigningKey
    transactions_max: int = TRANSACTIONS_PER_BLOCK_MAX
    block_interval_s: float = 0.01
    timeouts: Timeouts = field(default_factory=Timeouts)
    waiting_max: int = 20_000
    patience_s: float = 0.0
    status_s: float = 1.0
    listen_s: float = 0.0
    votes_from: int | None = 0
    fork: ForkProof | None = None
    resumed_by: PublicKey | None = None
    pinned: TrustedState | None = None
    status_from: int = 0
    nonce: bytes = bytes(NONCE_BYTES)
    chain_id: ChainId = field(init=False)

    def __post_init__(self) -> None:
        """Derives what every step needs."""
        object.__setattr__(self, "chain_id", self.genesis.chain_id())

    def validator(self, tip: ChainHead) -> ValidatorContext:
        """This validator and the validator set of the height after a tip."""
        return ValidatorContext(
            self.chain_id,
            FaultModel(self.genesis.fault_model),
            tip.roster,
            self.key,
            tip.roster.validators.index_of(self.key.public),
            self.timeouts,
        )


@dataclass(frozen=True)
class DecidedHeight:
    """Certificate of a decided height, and the quorums of prevotes seen there.

    Attributes:
      certificate: What decided it.
      polkas: The quorums.
      time_ms: Of its header.
    """

    certificate: Certificate
    polkas: tuple[Certificate, ...]
    time_ms: int


@dataclass(frozen=True)
class ChainState:
    """All that the ledger holds in memory.

    Attributes:
      tip: The chain so far.
      last: The last block; None before the first, and if its body is not there.
      mempool: What waits for a block.
      validator: Who we are, and with whom we decide `height + 1`.
      consensus: That height.
      prepared: Valid blocks of that height by hash.
      recovered: Journal entries of heights that are still to come.
      propose_from_s: Before it we begin no height.
      heartbeat_at_s: Then we begin one with nothing to put in it.
      status_at_s: Then we tell others where we are.
      status_said_s: When we last did.
      status_counter: Of our last status; never falls.
      listens_until_s: Before it we do not vote.
      caught_up: Whether enough others were no further than we once since the start: see
        `ValidatorContext.peers_to_reach`. Before that we do not vote.
      told: The lowest height that each validator said since the start to decide; empty
        once `caught_up`.
      followed: Whether the last step was taken in silence, as one who must not vote.
      copied: Somebody else signs with our key: we vote no more.
      recent: The last heights that we decided, rising by one.
      fork: Proof that the chain forked: it stands still.
      back_said: The last missed turn of ours after which we said that we are back.
      peer_gaps: What peers last said that they lack, by their key.
      heard: The latest status of each validator, by its key.
      repeats: What was repeated lately to one peer alone, by its key and what it was.
      shared_round: Of this height, up to which quorums of prevotes were passed on.
      share_at_s: Then a later one is passed on though nobody disagrees.
      told_late: Whether somebody was shown what decided the last height.
      wake_at_s: When the runtime is to send `ChainTicked`.
    """

    tip: ChainHead
    validator: ValidatorContext
    consensus: RoundState
    heartbeat_at_s: float
    last: Block | None = None
    mempool: Mempool = field(default_factory=Mempool)
    prepared: dict[BlockHash, ExecutedBlock] = field(default_factory=dict)
    recovered: tuple[VoteJournalEntry, ...] = ()
    propose_from_s: float = 0.0
    status_at_s: float = 0.0
    status_said_s: float = -math.inf
    status_counter: int = 0
    listens_until_s: float = 0.0
    caught_up: bool = True
    told: dict[bytes, int] = field(default_factory=dict)
    followed: bool = False
    copied: bool = False
    recent: tuple[DecidedHeight, ...] = ()
    fork: ForkProof | None = None
    back_said: int = 0
    peer_gaps: dict[bytes, PeerGaps] = field(default_factory=dict)
    heard: dict[bytes, ValidatorStatus] = field(default_factory=dict)
    repeats: dict[tuple[bytes, int], RepeatRecord] = field(default_factory=dict)
    shared_round: int = -1
    share_at_s: float = math.inf
    told_late: bool = False
    wake_at_s: float = 0.0

    @property
    def height(self) -> int:
        """Of the last block, 0 before the first."""
        return self.tip.height

    @property
    def alone(self) -> bool:
        """True if there are no other validators to talk to.

        Who is not yet the second one of a chain is not alone.
        """
        return self.validator.count == 1 and self.validator.index is not None

    @property
    def behind(self) -> int:
        """Number of peers that must still report a height no greater than ours.

        The lowest that a validator said counts, so that a chain that runs on does not
        run away from us: it had taken part before our start in all that we signed then.
        """
        height, own = self.consensus.height, self.validator.key.public
        members = self.validator.roster.validators.members
        told = (self.told.get(each.public) for each in members if each.public != own)
        reached = sum(said is not None and said <= height for said in told)
        return max(0, self.validator.peers_to_reach - reached)

    @property
    def header(self) -> Header | None:
        """Of the last block."""
        return self.tip.header

    @property
    def certificate(self) -> Certificate | None:
        """Of the last block."""
        return self.tip.certificate

    @property
    def tree(self) -> StateTree:
        """The state after the last block."""
        return self.tip.tree


@dataclass(frozen=True)
class JournalVote:
    """Append and sync before anything that follows is published.

    Attributes:
      payload: A packed `JournalEntry`.
      height: Height that it belongs to; it may go when that block is durable.
    """

    payload: bytes
    height: int


@dataclass(frozen=True)
class SendGossip:
    """Send to other coordinators.

    Attributes:
      payload: A packed frame.
      to: Key of the only one who lacks it; None for all of them.
      asked_by: Key of the one whose status asked for it; None if we say it ourselves.
    """

    payload: bytes
    to: PublicKey | None = None
    asked_by: PublicKey | None = None


@dataclass(frozen=True)
class StoreBlock:
    """A block is final: store it with the state's changes in one transaction.

    Attributes:
      block: The block.
      certificate: What proves it final.
      changes: Of the state's keys; None removes one.
      results: One per transaction of the block, in its order; all have code 0.
      happenings: What the block changed that others act upon.
    """

    block: Block
    certificate: Certificate
    changes: Changes
    results: tuple[TxResult, ...]
    happenings: tuple[ChainEvent, ...]


@dataclass(frozen=True)
class RefuseTransaction:
    """A submitted transaction will enter no block, by what the chain says now."""

    identity: Digest
    reason: Reason
    detail: str


@dataclass(frozen=True)
class StoreFork:
    """The chain forked: keep the proof over restarts, before it is published.

    Attributes:
      payload: A packed `gossip_messages.ForkProof`; it replaces an earlier one.
    """

    payload: bytes


@dataclass(frozen=True)
class BlamePeer:
    """A message was refused: count it.

    Attributes:
      reason: Why.
      detail: For people.
      signer: Key of the validator whose signature is to blame; None for whoever sent
        the message.
    """

    reason: Reason
    detail: str
    signer: PublicKey | None = None


@dataclass(frozen=True)
class StateDiverged:
    """A quorum decided a block that we find invalid: our state or code differs.

    Attributes:
      height: Of the block.
      block_id: Of the block.
      certified: The state root in its header.
      computed: The state root that we get; None if the block fails before that.
      first_key: The first key in the tree's order that the block changes here.
      detail: What is wrong with it here.
    """

    height: int
    block_id: BlockHash
    certified: Digest
    computed: Digest | None
    first_key: bytes
    detail: str


Effect = (
    JournalVote
    | SendGossip
    | StoreBlock
    | RefuseTransaction
    | BlamePeer
    | StateDiverged
    | StoreFork
)


def silence(settings: ChainSettings, state: ChainState, now_s: float) -> str:
    """Reason why a validator does not vote now, for people; empty if it may."""
    if state.fork is not None:
        height = state.fork.first.height
        return f"two blocks of height {height} are certified: the chain stands still"
    if state.copied:
        return "somebody else votes with this key: stop one of the two"
    if settings.votes_from is None:
        return "the journal of own votes is gone: starling coordinator resume"
    # The journal forgets votes of heights that were durable; the chain may have gone.
    # The last entry is the highest, as the journal is read in order.
    voted = state.recovered[-1].height if state.recovered else 0
    # One that voted at a height may only go on from there, wherever the chain is.
    first = max(settings.votes_from, voted)
    if state.consensus.height < first:
        return f"votes from height {first}"
    operator = settings.resumed_by
    # Asked of the state at each step: an operator may be taken out later, and an old
    # state may not know it yet.
    if operator and not operator_records.is_operator(state.tree, operator):
        return "it was resumed with a key that is no operator's"
    return _after_start(state, now_s)


def _after_start(state: ChainState, now_s: float) -> str:
    if now_s < state.listens_until_s:
        return "listens whether somebody else votes with this key"
    if not state.caught_up:
        return (
            f"waits for {state.behind} more to be no further than height "
            f"{state.consensus.height}, in case this is an old backup"
        )
    return ""


@dataclass
class ChainStep(Step[ChainSettings, ChainState, Effect]):
    """A step of the chain in progress.

    Attributes:
      moment: The clocks, read once.
      fresh: The block that was made to see whether the height should begin.
    """

    moment: ClockReading
    fresh: ExecutedBlock | None = None

    @property
    def validator(self) -> ValidatorContext:
        """This coordinator as a voter: an observer while it must not vote."""
        validator = self.state.validator
        silent = silence(self.settings, self.state, self.moment.now_s)
        return evolve(validator, index=None) if silent else validator

    def gossip(
        self,
        payload: bytes,
        to: PublicKey | None = None,
        asked_by: PublicKey | None = None,
    ) -> None:
        """Adds a message to the others, or to one of them, if there are any."""
        if not self.state.alone:
            self.emit(SendGossip(payload, to, asked_by))
