"""How to read what stands in the chain's state.

`layout` says under which keys, `records` in which bytes.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Protocol

from starling.coordinator.chain.state.records import (
    ABSENCE,
    ATTESTATIONS,
    BOARD,
    DISSENT,
    EPOCH,
    EPOCHS,
    FAULT,
    HISTORY,
    JOB,
    PENDING,
    PROGRESS,
    AbsenceRecord,
    Attestation,
    ConvictionRecord,
    Epoch,
    Epochs,
    JobRecord,
    MismatchRecord,
    QueuedUpdate,
    SignedBase,
)
from starling.coordinator.chain.state.state_keys import (
    BOARDS_KEY,
    EPOCHS_KEY,
    MOTIONS_KEY,
    OPERATORS_KEY,
    TASKS_KEY,
    WAITING_KEY,
    absence_key,
    attest_key,
    dissent_key,
    epoch_key,
    fault_key,
    history_key,
    job_key,
    operator_key,
    owner_key,
    pending_key,
    published_key,
)
from starling.protocol.chain.board_statement import (
    BoardRecord,
    TaskProgress,
    board_key,
    head_key,
)
from starling.protocol.chain.genesis import Genesis, ValidatorSet
from starling.protocol.chain.light_client import task_key, version_key
from starling.protocol.ids import (
    TASKS_MAX,
    DeviceId,
    Digest,
    TaskId,
    Version,
    device_id,
)
from starling.protocol.learning.task import TASK, TaskSpec
from starling.protocol.schema.msgpack_codec import Codec, Uint, many

_NUMBER = Codec[int](Uint, 9)
_WAITING = Codec[tuple[int, ...]](
    Annotated[tuple[Uint, ...], many(TASKS_MAX)], 9 * TASKS_MAX + 9
)

_NO_EPOCHS = Epochs(0, 0)


class StateReader(Protocol):
    """A state to read from: a `StateTree`, or a draft over one."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""


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


def board(tree: StateReader, board_id: bytes) -> BoardRecord | None:
    """A registered board, revoked or not."""
    packed = tree.get(board_key(board_id))
    return None if packed is None else BOARD.unpack(packed)


def owner(tree: StateReader, public: bytes) -> DeviceId:
    """The id of whom a key belongs to, or belonged to before a rotation."""
    packed = tree.get(owner_key(public))
    return device_id(public) if packed is None else DeviceId(packed)


def signer(tree: StateReader, public: bytes) -> BoardRecord | None:
    """The board that may sign with a key now; None if there is none."""
    found = board(tree, owner(tree, public))
    if found is None or found.revoked or found.public != public:
        return None
    return found


def in_use(tree: StateReader, public: bytes) -> bool:
    """Whether a board or an operator signs with a key, or a board did."""
    used = owner_key(public), board_key(device_id(public)), operator_key(public)
    return any(tree.get(key) is not None for key in used)


def operator_count(tree: StateReader) -> int:
    """How many operators there are."""
    return number_at(tree, OPERATORS_KEY)


def motion_count(tree: StateReader) -> int:
    """How many motions were carried."""
    return number_at(tree, MOTIONS_KEY)


def fault(tree: StateReader, public: bytes) -> ConvictionRecord | None:
    """What the owner of a key was convicted of."""
    packed = tree.get(fault_key(owner(tree, public)))
    return None if packed is None else FAULT.unpack(packed)


def absence(tree: StateReader, public: bytes) -> AbsenceRecord | None:
    """That a validator missed its turn and made no block since."""
    packed = tree.get(absence_key(public))
    return None if packed is None else ABSENCE.unpack(packed)


def validators(tree: StateReader, genesis: Genesis, height: int) -> ValidatorSet:
    """Who decides a height.

    Args:
      tree: A state after the block before that one, or after the one before that: a
        header also names the next height's validators. Any later one knows those of
        the last heights too, as long as evidence of them is taken.
      genesis: What the chain started from.
      height: Which height.
    """
    known = epochs(tree)
    for number in range(known.following - 1, known.first - 1, -1):
        found = epoch(tree, number)
        if found is not None and found.height <= height:
            return found.validators
    return genesis.validators


def epochs(tree: StateReader) -> Epochs:
    """Which epochs' records stand."""
    packed = tree.get(EPOCHS_KEY)
    return _NO_EPOCHS if packed is None else EPOCHS.unpack(packed)


def epoch(tree: StateReader, number: int) -> Epoch | None:
    """A validator set that followed the genesis's."""
    packed = tree.get(epoch_key(number))
    return None if packed is None else _unpack_epoch(packed)


@lru_cache(maxsize=64)
def _unpack_epoch(packed: bytes) -> Epoch:
    return EPOCH.unpack(packed)


def number_at(tree: StateReader, key: bytes) -> int:
    """The number under a key, 0 if there is none."""
    packed = tree.get(key)
    return 0 if packed is None else _NUMBER.unpack(packed)


def board_count(tree: StateReader) -> int:
    """How many boards were ever registered."""
    return number_at(tree, BOARDS_KEY)


def task_count(tree: StateReader) -> int:
    """How many tasks there are; they are numbered from 0."""
    return number_at(tree, TASKS_KEY)


def task(tree: StateReader, number: int) -> TaskSpec | None:
    """A task as its operator signed it."""
    packed = tree.get(task_key(number))
    return None if packed is None else _unpack_task(packed)


@lru_cache(maxsize=128)
def _unpack_task(packed: bytes) -> TaskSpec:
    return TASK.unpack(packed)


def published(tree: StateReader, transaction: bytes) -> TaskId | None:
    """The number of the task that this TASK transaction became."""
    packed = tree.get(published_key(transaction))
    return None if packed is None else TaskId(_NUMBER.unpack(packed))


def progress(tree: StateReader, number: int) -> TaskProgress | None:
    """A task's head and the bounds of its queue."""
    packed = tree.get(head_key(number))
    return None if packed is None else PROGRESS.unpack(packed)


def head(tree: StateReader, number: int) -> Version | None:
    """A task's current final version; None if there is no such task."""
    found = progress(tree, number)
    return None if found is None else found.head


def version(tree: StateReader, number: int, wanted: int) -> Digest | None:
    """The digest of a final version; None if it is no longer known."""
    packed = tree.get(version_key(number, wanted))
    return None if packed is None else Digest(packed)


def history(tree: StateReader, number: int, board_id: bytes) -> tuple[SignedBase, ...]:
    """What a board signed lately for a task, by rising base version."""
    packed = tree.get(history_key(number, board_id))
    return () if packed is None else HISTORY.unpack(packed).signed


def update_of(
    tree: StateReader, number: int, board_id: bytes, base: int
) -> Digest | None:
    """The transaction that a board signed for a task and base version."""
    for entry in history(tree, number, board_id):
        if entry.base == base:
            return entry.transaction
    return None


def pending_at(tree: StateReader, number: int, place: int) -> QueuedUpdate | None:
    """The update at a place, if it is still there."""
    packed = tree.get(pending_key(number, place))
    return None if packed is None else PENDING.unpack(packed)


def pending(tree: StateReader, number: int) -> tuple[QueuedUpdate, ...]:
    """The updates of a task that wait for the next cut, oldest first."""
    bounds = progress(tree, number)
    if bounds is None:
        return ()
    places = range(bounds.first, bounds.following)
    found = (pending_at(tree, number, place) for place in places)
    return tuple(entry for entry in found if entry is not None)


def job_record(tree: StateReader, number: int) -> JobRecord | None:
    """A task's open job as it is stored."""
    packed = tree.get(job_key(number))
    return None if packed is None else JOB.unpack(packed)


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
                weights[found.version - 1 - entry.base],
                entry.pledge,
                entry.blob,
            )
        )
    return AggregationJob(TaskId(number), found.version, found.height, tuple(members))


def dissent(tree: StateReader, number: int, public: bytes) -> MismatchRecord | None:
    """How often a validator was outvoted on the versions of a task, if ever."""
    packed = tree.get(dissent_key(number, public))
    return None if packed is None else DISSENT.unpack(packed)


def attestations(tree: StateReader, number: int) -> tuple[Attestation, ...]:
    """What validators attested of a task's open job, sorted by validator."""
    packed = tree.get(attest_key(number))
    return () if packed is None else ATTESTATIONS.unpack(packed).given


def waiting(tree: StateReader) -> tuple[int, ...]:
    """The tasks that have pending updates and no open job, rising."""
    packed = tree.get(WAITING_KEY)
    return () if packed is None else _unpack_waiting(packed)


@lru_cache(maxsize=64)
def _unpack_waiting(packed: bytes) -> tuple[int, ...]:
    return _WAITING.unpack(packed)
