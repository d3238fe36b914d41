"""Records of tasks in the chain's state: versions, waiting updates, open jobs."""

from dataclasses import dataclass
from typing import Annotated

from starling.coordinator.chain.state.generational_cache import KEPT, CachedCodec
from starling.coordinator.chain.state.state_table import (
    BYTES,
    NUMBER,
    NUMBER_BYTES_MAX,
    StateReader,
    StateWriter,
    Table,
    alone,
    by_identity,
    by_number,
    by_task_and_number,
    count,
)
from starling.protocol.chain import board_statement
from starling.protocol.chain.board_statement import TaskProgress
from starling.protocol.ids import (
    TASKS_MAX,
    DeviceId,
    Digest,
    PublicKey,
    TaskId,
    Version,
)
from starling.protocol.learning.task import BUFFER_MAX, PLEDGE_MAX, TASK, TaskSpec
from starling.protocol.schema.msgpack_codec import (
    Codec,
    Structure,
    Uint,
    many,
    structure,
    uint,
)

_ATTESTATIONS_MAX = 32


REPLACEMENTS_MAX = 8
"""Of one validator's attestation of one job: who is mended needs one."""


class QueuedUpdate(Structure, frozen=True):
    """An update in the order of the chain.

    Attributes:
      transaction: Id of its UPDATE transaction.
      board: Who signed it.
      base: Version that it was computed from.
      pledge: Its size.
      blob: H of its sealed blob.
      height: Block that took it.
      time_ms: Of that block.
    """

    transaction: Digest
    board: DeviceId
    base: Version
    pledge: Annotated[int, uint(PLEDGE_MAX, 1)]
    blob: Digest
    height: Uint
    time_ms: Uint


PENDING = CachedCodec(
    structure(QueuedUpdate, 192),
    KEPT,
)


class JobRecord(Structure, frozen=True):
    """An open job as it is stored.

    Attributes:
      version: The version to compute: the head plus 1.
      height: Block that cut it.
      places: Of its updates among the task's pending ones, rising.
    """

    version: Version
    height: Uint
    places: Annotated[tuple[Uint, ...], many(BUFFER_MAX, 1)]


JOB = structure(JobRecord, 16 * 1024)


class Attestation(Structure, frozen=True):
    """One validator's digest of the open job.

    Attributes:
      validator: Whose.
      digest: What it attested last: this counts.
      replaced: What it attested before that, if it did.
      replacements: How often it attested another digest than before.
    """

    validator: PublicKey
    digest: Digest
    replaced: Digest | None = None
    replacements: Annotated[int, uint(REPLACEMENTS_MAX)] = 0


class Attestations(Structure, frozen=True):
    """All of the open job, sorted by validator."""

    given: Annotated[tuple[Attestation, ...], many(_ATTESTATIONS_MAX)] = ()


ATTESTATIONS = structure(Attestations, 4096)


@dataclass(frozen=True)
class JobMember:
    """One update of a job, with the weight that it counts with.

    Attributes:
      transaction: Id of its UPDATE transaction.
      board: Who signed it.
      base: Version that it was computed from.
      weight_q15: Its staleness weight in units of 2^-15.
      pledge: Its size.
      blob: H of its sealed blob.
    """

    transaction: Digest
    board: DeviceId
    base: Version
    weight_q15: int
    pledge: int
    blob: Digest


@dataclass(frozen=True)
class AggregationJob:
    """A version to compute, fully determined by the chain.

    Attributes:
      task: Which task.
      version: Which version; it is built on `version - 1`.
      height: Block that cut it.
      members: Its updates in the order of the chain.
    """

    task: TaskId
    version: Version
    height: int
    members: tuple[JobMember, ...]


_NUMBERS = Codec[tuple[int, ...]](
    Annotated[tuple[Uint, ...], many(TASKS_MAX)], NUMBER_BYTES_MAX * (TASKS_MAX + 1)
)


TASKS = Table(b"task/", by_number, CachedCodec(TASK, 128))
"""By number: tasks as their operators signed them."""
TASK_COUNT = Table(b"tasks", alone, NUMBER)
TASK_NUMBERS = Table(b"published/", by_identity, NUMBER)
"""By id of a TASK transaction: the number of the task that it became."""
VERSIONS = Table(b"version/", by_task_and_number, BYTES)
"""By task and version: digests of final versions that may still be a base."""
PROGRESS = Table(b"head/", by_number, CachedCodec(board_statement.PROGRESS, KEPT))
"""By task: its head and the bounds of its queue."""
QUEUE = Table(b"pending/", by_task_and_number, PENDING)
"""By task and place: updates that wait, or belong to the open job."""
JOBS = Table(b"job/", by_number, JOB)
"""By task: the version that is being computed."""
JOB_ATTESTATIONS = Table(b"attest/", by_number, ATTESTATIONS)
"""By task: what was attested of its open job."""
WAITING = Table(b"waiting", alone, CachedCodec(_NUMBERS, 64))
"""Tasks with waiting updates or forfeits and no open job."""


def task_count(tree: StateReader) -> int:
    """Number of tasks; they are numbered from 0."""
    return count(tree, TASK_COUNT)


def task(tree: StateReader, number: int) -> TaskSpec | None:
    """A task as its operator signed it."""
    return TASKS.get(tree, number)


def published(tree: StateReader, transaction: bytes) -> TaskId | None:
    """The number of the task that this TASK transaction became."""
    number = TASK_NUMBERS.get(tree, transaction)
    return None if number is None else TaskId(number)


def progress(tree: StateReader, number: int) -> TaskProgress | None:
    """A task's head and the bounds of its queue."""
    return PROGRESS.get(tree, number)


def head(tree: StateReader, number: int) -> Version | None:
    """A task's current final version; None if there is no such task."""
    found = progress(tree, number)
    return None if found is None else found.head


def version(tree: StateReader, number: int, wanted: int) -> Digest | None:
    """The digest of a final version; None if it is no longer known."""
    digest = VERSIONS.get(tree, number, wanted)
    return None if digest is None else Digest(digest)


def pending_at(tree: StateReader, number: int, place: int) -> QueuedUpdate | None:
    """The update at a place, if it is still there."""
    return QUEUE.get(tree, number, place)


def job_record(tree: StateReader, number: int) -> JobRecord | None:
    """A task's open job as it is stored."""
    return JOBS.get(tree, number)


def open_job(tree: StateReader, number: int) -> AggregationJob | None:
    """The version of a task that is to be computed now, if there is one."""
    found = job_record(tree, number)
    spec = task(tree, number)
    if found is None or spec is None:
        return None
    weights = spec.aggregation.staleness_q15
    members = []
    for place in found.places:
        entry = pending_at(tree, number, place)
        assert entry is not None, "a job's updates stand until its version is final"
        members.append(
            JobMember(
                entry.transaction,
                entry.board,
                entry.base,
                # Staleness is counted from the head that the job builds on.
                weights[found.version - 1 - entry.base],
                entry.pledge,
                entry.blob,
            )
        )
    return AggregationJob(TaskId(number), found.version, found.height, tuple(members))


def attestations(tree: StateReader, number: int) -> tuple[Attestation, ...]:
    """Attestations of a task's open job, sorted by validator."""
    found = JOB_ATTESTATIONS.get(tree, number)
    return () if found is None else found.given


def waiting(tree: StateReader) -> tuple[int, ...]:
    """The tasks that have pending updates and no open job, rising."""
    return WAITING.get(tree) or ()


def put_waiting(draft: StateWriter, numbers: tuple[int, ...]) -> None:
    """Note which tasks wait; there is no record while none does."""
    if numbers:
        WAITING.put(draft, tuple(sorted(numbers)))
    else:
        WAITING.drop(draft)
