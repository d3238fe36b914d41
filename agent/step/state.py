"""State of an agent: its settings, its state, and what keeps it from training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.privacy.ledger_entries import Slot
from starling.agent.step.ongoing_work import (
    AdoptedModel,
    BlobDownload,
    OngoingTraining,
    OngoingUpload,
    PendingCheckIn,
    PendingUpload,
)
from starling.agent.step.refusal import HeardAnswers
from starling.protocol.chain.light_client import TrustedState
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import (
    ChainId,
    DeviceId,
    Digest,
    PublicKey,
    TaskId,
    Version,
    device_name,
)
from starling.protocol.learning.task import ModelDigests, TaskSpec
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import PPM, DeviceState
from starling.protocol.wire.token_bucket import TokenBucket
from starling.protocol.wire.topics import Topics


@dataclass(frozen=True)
class WaitTimes:
    """Waiting times of the agent; each is jittered by a half.

    Attributes:
      check_in_s: For a lease, before it checks in again.
      fetch_s: For the chunks that it asked for.
      accept_s: For a receipt, before it sends all chunks again; doubles each time.
      final_s: For a proof, after a receipt, before it sends again.
      rest_s: After a failed training; doubles each time.
      between_s: After an update, before the next one, at least.
      period_s: Over which the updates that a task plans for a board are spread.
      most_s: Bound of all doubling.
      show_s: Between two changes of what the board shows of itself.
      release_s: From a charge to its update, at first; doubles where training takes
        longer. 0 lets an update go at once, and with it what its time tells.
    """

    check_in_s: float = 15.0
    fetch_s: float = 5.0
    accept_s: float = 20.0
    final_s: float = 600.0
    rest_s: float = 10.0
    between_s: float = 0.0
    period_s: float = 0.0
    most_s: float = 600.0
    show_s: float = 1.0
    release_s: float = 0.5


@dataclass(frozen=True)
class AgentSettings:
    """Settings that do not change while an agent runs.

    Attributes:
      key: Signs everything that this board says.
      topics: Of its fleet.
      task: The task it takes part in.
      boot: Counts the agent's starts; durable before the first envelope is signed, so
        that counters, which begin with it, never repeat.
      seed: For jitter; secrecy does not matter.
      pledge: Records to pledge, a public number of the owner's; 0 for the least that
        the task offers.
      windows: Records that one raw sample can stand in.
      trust_bundle: Whether the bundle's own graph may clip.
      newest: Whether the board follows the newest task that is open.
      left: Later tasks that it left, since they were over.
      tells_health: Whether coordinators may see the board's checks.
      labels_micro: Epsilon that each label may pay, in units of 10^-6, where inputs are
        public; 0 where no task may have labels drawn.
      infer: Whether to fetch and adopt each version's average for inference.
      resources_ppm: The board's self-assessment of its resources.
      bundle_bytes_max: Largest bundle that it takes.
      spool_bytes_max: Room for uploads that wait for their proof.
      upload_window: Chunks of an upload in flight.
      fetch_window: Chunks that it asks for at once, at most 16.
      pace: Waiting times.
      rotated_from: The board's id, once its key is no longer its first.
    """

    key: SigningKey = field(repr=False)
    topics: Topics
    task: TaskId
    boot: int
    seed: bytes
    pledge: int = 0
    windows: int = 1
    infer: bool = True
    resources_ppm: int = PPM
    bundle_bytes_max: int = 64 << 20
    spool_bytes_max: int = 64 << 20
    upload_window: int = 4
    fetch_window: int = 8
    pace: WaitTimes = field(default_factory=WaitTimes)
    rotated_from: DeviceId | None = None
    trust_bundle: bool = False
    newest: bool = False
    left: frozenset[TaskId] = frozenset()
    tells_health: bool = False
    labels_micro: int = 0

    @property
    def identity(self) -> DeviceId:
        """The board's id: it stays when the key changes."""
        return self.rotated_from or self.key.identity

    @cached_property
    def device(self) -> str:
        """The board's name in topics."""
        return device_name(self.identity)


@dataclass(frozen=True)
class ProvenVersion:
    """The newest version that was proven to us.

    Attributes:
      version: Its number.
      spec: The task.
      model: Digests of the version.
      height: Of the certified header that proved it; what the chain says of the board
        must not be older.
      rolled: The task's newest version that came from a rollback, 0 without any; what
        was trained from an older one counts no more.
    """

    version: Version
    spec: TaskSpec
    model: ModelDigests
    height: int
    rolled: Version


@dataclass(frozen=True)
class ProvenStatement:
    """Proven statement of the chain about this board, since the start.

    Attributes:
      height: Of the newest certified header under which they did; 0 before the first.
      by: Which of them answered a check-in of ours.
      check_ins: How often they were asked.
      lease: A lease that came before enough of them had answered.
    """

    height: int = 0
    by: frozenset[PublicKey] = frozenset()
    check_ins: int = 0
    lease: Envelope | None = None


class ReadinessCondition(Enum):
    """Reason why the agent is not training; the value is what the operator reads."""

    TRAINING = "training"
    ASKING = "waits for a lease"
    READY = "ready to check in"
    OFFLINE = "broker away"
    UNINVITED = "waits for a task"
    FETCHING = "fetching the model"
    LOADING = "loading the model"
    TASK_CHANGED = "task is not what it was first believed to be"
    LEDGER_BEHIND = "ledger behind the chain"
    UNPROVEN = "waits for the chain's statement of what it has paid"
    MODEL_REFUSED = "model refused"
    NO_DATA = "no data files"
    PLEDGE_TOO_SMALL = "the task's least pledge is above data.pledge"
    TOOK_PART = "took part in this version"
    BUDGET_SPENT = "budget spent"
    REVOKED = "revoked: coordinators take nothing of this board any more"
    RESTORED = "counters behind: was this home put back from an older copy?"
    JAILED = "excluded for a while, for what this board signed"
    TASK_PAUSED = "the task pauses or has ended"
    TASK_CLOSED = "an operator closed the task"
    QUARANTINED = "gets no lease for a while: its updates scored badly"
    BROKER_REFUSES = "the broker refuses what this board publishes"
    UNTRUSTED = "the coordinators here are none that this board trusts"
    UNANSWERED = "no coordinator answers: is this board admitted?"
    POLICY_REFUSED = "task asks for less privacy than the owner allows"
    SENDING = "sending an update"
    SPOOL_FULL = "spool full"
    DISK_FULL = "disk full"
    RESTING = "rests after a failed training"
    PACED = "rests between two updates"


SET_SHOWN_BYTES = 8
"""Of the hash of a set of validators, for people."""


@dataclass(frozen=True)
class FollowedTransitions:
    """Changes of the validator set that a board followed.

    Attributes:
      from_height: Up to which it was trusted before.
      from_set: Hash of the set that it trusted.
      to_height: The same afterwards.
      to_set: Hash of the set that it trusts now.
      changes: How many lay in between.
    """

    from_height: int
    from_set: Digest
    to_height: int
    to_set: Digest
    changes: int

    @property
    def from_name(self) -> str:
        """The set trusted before, shortened for people."""
        return self.from_set[:SET_SHOWN_BYTES].hex()

    @property
    def to_name(self) -> str:
        """The set trusted now, shortened for people."""
        return self.to_set[:SET_SHOWN_BYTES].hex()

    def document(self) -> dict[str, object]:
        """For the status."""
        return {
            "from height": self.from_height,
            "from set": self.from_name,
            "to height": self.to_height,
            "to set": self.to_name,
            "changes": self.changes,
        }


@dataclass(frozen=True)
class AgentState:
    """Everything that an agent knows at one moment.

    Attributes:
      trusted: The light client.
      led: Where changes of the validators led it last since the start; None if none.
      ledger: What the data set has paid; equal to the journal on disk.
      connected: Whether there is a broker.
      serial: Envelopes signed since the start; low half of their counters.
      draws: Jitter draws since the start.
      offer: The newest proven version.
      older: What was pulled last before `offer`, each part by itself; None before the
        second version.
      others: Tasks that were announced and are not ours; the first few.
      open: Other tasks that were proven to us, and of which no end was.
      over: Tasks, ours among them, that were proven to grant no more leases.
      swapped: Whether the newest manifest that was certified for our task is of another
        task than was first believed.
      swaps: How many such manifests came since the start.
      told: What the chain says that the board has paid, as far as it is proven to us.
      leap: Added to `AgentSettings.boot`, once coordinators know later counters of
        ours.
      refusal: Why the ledger would not pay for `offer`; None if it would.
      spent_micro: Epsilon that the data set has paid, in units of 10^-6.
      blobs: Digests of what the blob store has.
      fetch: What is being pulled.
      loading: Bundle that a subprocess is trying.
      loaded: Bundle that works here.
      refused: Bundles and thetas that do not work here.
      data_fault: Why there are no data files; empty if there are.
      adopted: What inference uses.
      before: What it used before, to go back to.
      asking: A check-in under way.
      forfeit: What we told of a lost update.
      renewing: A check-in for a lease for an update that is spooled.
      settled: Version for which the chain has what we signed, as far as we know.
      release_s: From a charge to its update, at present.
      released: Updates that left with that wait since it last fell.
      training: A training under way; never together with `asking`.
      waiting: The spool's content, oldest first.
      sending: An upload under way; its `update` is in `waiting`.
      rest_until_s: No training before, after a failure or an update.
      released_at_s: When an update left last before the start; -infinity for never.
      failures: Failed trainings in a row.
      fault: What the last failed training said.
      leases: Leases that came.
      kept: Leases that became updates; `kept <= leases`.
      online: By coordinator, whether it last said that it was there.
      answers: Whom the board hears, and what it was last refused.
      free_bytes: Room on the disk; None while unknown.
      asked_health: Whether a coordinator asks for the board's checks.
      answer_at_s: Before that it is not answered.
      shown: What the board last showed of itself.
      show_at_s: When it may show something else.
      said: What the board may still say, by its own reckoning; None before the first
        message. See `agent.step.send_rate`.
      wake_at_s: When the next `WakeTimeReached` is due; infinity for never.
    """

    trusted: TrustedState
    ledger: PrivacyLedger
    led: FollowedTransitions | None = None
    connected: bool = False
    serial: int = 0
    draws: int = 0
    offer: ProvenVersion | None = None
    older: ModelDigests | None = None
    others: frozenset[int] = frozenset()
    open: frozenset[TaskId] = frozenset()
    over: frozenset[TaskId] = frozenset()
    swapped: bool = False
    swaps: int = 0
    told: ProvenStatement = field(default_factory=ProvenStatement)
    leap: int = 0
    refusal: ReadinessCondition | None = None
    spent_micro: int = 0
    blobs: frozenset[Digest] = frozenset()
    fetch: BlobDownload | None = None
    loading: Digest | None = None
    loaded: Digest | None = None
    refused: frozenset[Digest] = frozenset()
    data_fault: str = ""
    adopted: AdoptedModel | None = None
    before: AdoptedModel | None = None
    asking: PendingCheckIn | None = None
    forfeit: PendingCheckIn | None = None
    renewing: PendingCheckIn | None = None
    settled: Version | None = None
    release_s: float = 0.0
    released: int = 0
    training: OngoingTraining | None = None
    waiting: tuple[PendingUpload, ...] = ()
    sending: OngoingUpload | None = None
    rest_until_s: float = 0.0
    released_at_s: float = float("-inf")
    failures: int = 0
    fault: str = ""
    leases: int = 0
    kept: int = 0
    online: Mapping[PublicKey, bool] = field(default_factory=dict)
    answers: HeardAnswers = field(default_factory=HeardAnswers)
    free_bytes: int | None = None
    asked_health: bool = False
    answer_at_s: float = float("-inf")
    shown: DeviceState | None = None
    show_at_s: float = 0.0
    said: TokenBucket | None = None
    wake_at_s: float = float("inf")

    @property
    def chain(self) -> ChainId:
        """The chain that this board belongs to."""
        return self.trusted.chain_id


def slot_of(state: AgentState, task: TaskId, base: Version) -> Slot:
    """Slot that the ledger charges for training one base version."""
    return state.chain, task, base
