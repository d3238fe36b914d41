"""State of a coordinator: frozen, and cheap to derive the next one from.

Nothing here must survive a restart: what must is in the chain, in the uploads that were
stored before their receipts left, and in the vote journal. `restored_state.restore`
makes the first state from those.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from starling.coordinator.chain.node.node import (
    ChainSettings,
    ChainState,
    StateDiverged,
)
from starling.coordinator.chain.state.task_records import AggregationJob
from starling.coordinator.chain.storage.snapshot import SnapshotManifest
from starling.coordinator.leases.client_selection import Selection
from starling.coordinator.leases.lease_table import LeaseTable
from starling.coordinator.step.admitted_updates import AdmittedUpdates
from starling.coordinator.step.board_session import BoardSession
from starling.coordinator.step.deferred_replies import DeferredReply
from starling.coordinator.step.pending_proposal import DeferredProposal, ProgressTimes
from starling.coordinator.update.admission_checks import AdmissionContext
from starling.coordinator.wire.peer_quota import AnswerQuota, LineQuota
from starling.coordinator.wire.rate_limit import TokenBuckets
from starling.protocol.chain.light_client import ValidatorSetTransition
from starling.protocol.crypto.state_tree import BUCKETS
from starling.protocol.ids import (
    DeviceId,
    Digest,
    TaskId,
    Version,
    device_id,
    device_name,
)
from starling.protocol.learning.task import ModelDigests, TaskSpec
from starling.protocol.persistent_map import PersistentMap
from starling.protocol.wire.chunks import ChunkAssembly
from starling.protocol.wire.envelope import CounterWindow, Envelope
from starling.protocol.wire.topics import Topics

SOUGHT_PATIENCE_S = 2.0
"""That nothing of a sought version may come before a newer one is sought."""
_NO_PACE = ProgressTimes(0.0, 0.0)
_NO_QUOTA = AnswerQuota()
_NO_REQUESTS = CounterWindow()
OWN = DeviceId(b"")
"""In place of a coordinator on whose word we want something: our own need."""
_OWN = frozenset({OWN})


@dataclass(frozen=True)
class CoordinatorSettings:
    """Settings that do not change while a coordinator runs.

    Attributes:
      ledger: The chain's settings, with our key.
      gate: What admission needs.
      topics: The fleet's topics.
      selection: Who gets the next lease.
      selection_seed: Secret; makes draws unpredictable.
      lease_s: How long a lease holds its place.
      chunks_per_s: Model chunks that one board may ask for, in the long run.
      chunks_burst: And at once.
      audit_blocks: Blocks for which the vectors of used updates are kept, and
      audit_ms: header time for which they are, whichever lasts longer.
      vectors_bytes: Bytes of vectors that are kept beyond that.
      body_blocks: Blocks whose transactions are kept.
      tick_s: Longest time between two looks at the clock.
      shared: Whether all coordinators are at our broker.
      root: Digest of the root set that we score updates with; None without one.
    """

    ledger: ChainSettings
    gate: AdmissionContext
    topics: Topics
    selection: Selection
    selection_seed: bytes
    lease_s: int
    chunks_per_s: float
    chunks_burst: int
    audit_blocks: int = 1000
    audit_ms: int = 0
    vectors_bytes: int = 0
    body_blocks: int = 1 << 40
    tick_s: float = 1.0
    shared: bool = True
    root: Digest | None = None

    @property
    def name(self) -> str:
        """Our name in topics, and for the broker."""
        return device_name(device_id(self.ledger.key.public))


@dataclass(frozen=True)
class TaskState:
    """One task as far as we have brought it.

    Attributes:
      number: Which one.
      spec: As its operator signed it.
      head: Its newest final version.
      model: What the head consists of.
      leases: Who trains for it.
      attested: What we computed for the version after the head, if we have.
      blobs: What boards may pull: the bundle and the latest versions.
      job: What was handed out to be computed.
      computing: The version that a worker computes now.
      sought: The final version that we did not compute and get from others.
      found: What it consists of, as the chain's digest proves.
      missing: Keys in `CoordinatorState.wanted` without which the task does not go on.
      opening: Whether it is served for the first time, and version 0 is to be tried.
      failures: How often in a row the job could not be computed here.
      retry_at_s: When to hand the job out again; infinity while nothing failed.
      cut: The latest jobs that we have not computed, rising: whoever fell behind
        computes them although others made them final.
      give_up_at_s: When `sought` is given up for a newer one, if nothing comes until
        then.
      patience_s: How long to wait for something of `sought`; grows while we get none.
      is_over: Whether boards were shown that it was closed or has ended.
    """

    number: TaskId
    spec: TaskSpec
    head: Version
    model: ModelDigests
    leases: LeaseTable
    attested: ModelDigests | None = None
    blobs: tuple[Digest, ...] = ()
    job: AggregationJob | None = None
    computing: Version | None = None
    sought: Version | None = None
    found: ModelDigests | None = None
    missing: frozenset[bytes] = frozenset()
    opening: bool = False
    failures: int = 0
    retry_at_s: float = math.inf
    cut: tuple[AggregationJob, ...] = ()
    give_up_at_s: float = math.inf
    patience_s: float = SOUGHT_PATIENCE_S
    is_over: bool = False


@dataclass(frozen=True)
class PeerState:
    """State of another coordinator, as known here.

    Attributes:
      heard_at_s: When it last gave a sign of life; see `peer_liveness`.
      near_at_s: When it did so at our own broker: there it can answer our boards.
      status_counter: Of its latest status that it told us itself.
      near_counter: Of the latest of them that came from our own broker.
      height: That it decides, as it said.
      round: Its round there.
      lines: What may be said in its name over each broker; 0 is ours.
      quota: What it may ask for.
      requests: Counters of its requests that were taken.
      request: The one with the highest, for a peer that counts from lower.
      refused: How many of its messages and requests were beyond what it may.
      wants_dropped: How many things that it named were not asked for: too many.
    """

    heard_at_s: float = -math.inf
    near_at_s: float = -math.inf
    status_counter: int = 0
    near_counter: int = 0
    height: int = 0
    round: int = 0
    lines: Mapping[int, LineQuota] = field(default_factory=dict)
    quota: AnswerQuota = _NO_QUOTA
    requests: CounterWindow = _NO_REQUESTS
    request: Envelope | None = None
    refused: int = 0
    wants_dropped: int = 0


@dataclass(frozen=True)
class PendingRequest:
    """Something that we ask other coordinators for.

    Attributes:
      again_at_s: When to ask the next one.
      attempt: How many were asked.
      first: Whom to ask first; None for whoever is next.
      patience_s: How much longer to wait for it while uploads of boards wait here.
      sources: On whose word we want it; `OWN` if a task or our chain needs it.
      asked: Who was asked so far.
      pull: What has come of it, if it comes in pieces.
    """

    again_at_s: float
    attempt: int = 0
    first: DeviceId | None = None
    patience_s: float = 0.0
    sources: frozenset[DeviceId] = _OWN
    asked: frozenset[DeviceId] = frozenset()
    pull: "PieceDownload | None" = None

    def due_s(self, uploads_wait: bool) -> float:
        """Time of the next request, given whether uploads wait to be looked at."""
        return self.again_at_s + (self.patience_s if uploads_wait else 0.0)


@dataclass(frozen=True)
class PieceDownload:
    """A long answer that comes in pieces.

    Attributes:
      giver: Who was asked for pieces last.
      given: Subject of the answer.
      assembly: What has come.
      open: Pieces that were asked for and have not come.
      stalls: How often in a row nothing came of that.
    """

    giver: DeviceId
    given: int
    assembly: ChunkAssembly
    open: frozenset[int] = frozenset()
    stalls: int = 0


@dataclass(frozen=True)
class StateSync:
    """A snapshot that is coming in.

    Attributes:
      manifest: Certified by validators that we trust.
      ends: The changes of the validator set until then.
      buckets: Entries of the first buckets, each checked.
    """

    manifest: SnapshotManifest
    ends: tuple[ValidatorSetTransition, ...]
    buckets: tuple[Mapping[bytes, bytes], ...] = ()

    @property
    def complete(self) -> bool:
        """True if nothing is missing: then the core is to be started anew."""
        return len(self.buckets) == BUCKETS


@dataclass(frozen=True)
class WaitingTask:
    """A TASK that waits for its bundle to be examined.

    Attributes:
      envelope: The transaction.
      source: Account of the coordinator that told of it, as of
        `transaction_quota.source_of`; empty if an operator of ours did.
    """

    envelope: Envelope
    source: bytes = b""


@dataclass(frozen=True)
class BundleState:
    """A bundle of a task that the chain has not got yet; see `bundle_examination`.

    Attributes:
      size: Its length; before it is here, as the task says.
      fault: Why no board would run it; empty for a sound one, None if not examined.
      dimension: Parameters of a sound one.
      waiting: Tasks that wait for it.
    """

    size: int
    fault: str | None = None
    dimension: int = 0
    waiting: tuple[WaitingTask, ...] = ()


@dataclass(frozen=True)
class CoordinatorState:
    """Everything.

    Attributes:
      ledger: The chain and its votes.
      counter: Counter of the next envelope that we sign; above all earlier ones.
      tasks: By number.
      sessions: By board.
      held: Updates that were admitted and are not in the chain yet.
      inbox: File name by id of the transaction that came from it.
      charge_max: The largest total privacy charge of any board on the chain.
      connected: Whether the broker has us.
      since_s: When we began to listen; nobody can be missed before.
      pace: How long nothing was decided, and the like.
      diverged: The block that a quorum decided and that is invalid here; None if the
        chain went on from there.
      peers: Other coordinators, by their ids.
      wanted: What we ask them for, by `request_key`.
      wants_dropped: How many of our own needs were not asked for: too many at once.
      pulling: Keys in `wanted` whose answers come in pieces, in the order of pulling.
      pull_bytes: That we may ask for in pieces now, so that no link is full of them.
      pull_at_s: When `pull_bytes` was true.
      allowances: What each board may send now.
      tasks_held: Tasks of our operator, and from when on we propose them: others get
        their bundles before.
      ask_at_s: Not later than the first of it is due; thousands may be wanted, and are
        looked through only then.
      uploads_wait: Whether uploads of boards came that are not looked at yet.
      restoring: The state that we get from them, if we are too far behind for blocks.
      parked: Proposals that wait for vectors, by the coordinator who sent them.
      repeat_at_s: When we tell the others again what waits for a block.
      repeat_below: Place in the mempool; what is older waits since the last time.
      announce_at_s: When the manifests are published again.
      handovers: The latest changes of the validator set, for boards that missed them.
      rounds: Consensus rounds beyond the first, over all heights since the start.
      finalities_s: Times from admission to certificate of the latest own updates.
      keys: Content keys that others passed, by id of the update.
      left: What others are to answer, in the order in which it came; see
        `coordinator.peers.responder_selection`.
      left_at_s: When to look whether they lived on; infinity if `left` is empty.
      wake_at_s: When to send `ClockTicked`.
      bundles: Of tasks that may enter a block, by digest, oldest first.
    """

    ledger: ChainState
    counter: int
    tasks: Mapping[TaskId, TaskState] = field(default_factory=dict)
    sessions: PersistentMap[BoardSession] = field(default_factory=PersistentMap)
    held: AdmittedUpdates = field(default_factory=AdmittedUpdates)
    inbox: Mapping[Digest, str] = field(default_factory=dict)
    charge_max: int = 0
    connected: bool = False
    since_s: float = 0.0
    pace: ProgressTimes = _NO_PACE
    diverged: StateDiverged | None = None
    peers: Mapping[DeviceId, PeerState] = field(default_factory=dict)
    wanted: Mapping[bytes, PendingRequest] = field(default_factory=dict)
    parked: Mapping[DeviceId, DeferredProposal] = field(default_factory=dict)
    repeat_at_s: float = 0.0
    repeat_below: int = 0
    announce_at_s: float = math.inf
    handovers: tuple[ValidatorSetTransition, ...] = ()
    rounds: int = 0
    finalities_s: tuple[float, ...] = ()
    keys: Mapping[Digest, bytes] = field(default_factory=dict)
    restoring: StateSync | None = None
    ask_at_s: float = math.inf
    uploads_wait: bool = False
    left: tuple[DeferredReply, ...] = ()
    left_at_s: float = math.inf
    wants_dropped: int = 0
    pulling: tuple[bytes, ...] = ()
    pull_bytes: float = 0.0
    pull_at_s: float = -math.inf
    allowances: TokenBuckets = field(default_factory=TokenBuckets)
    tasks_held: tuple[tuple[float, Envelope], ...] = ()
    wake_at_s: float = 0.0
    bundles: Mapping[Digest, BundleState] = field(default_factory=dict)
