"""From a job of the chain to the bytes of the next version.

Every coordinator runs this on the same blobs and must get the same bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from starling.coordinator.aggregation.strategy import (
    ModelState,
    PackedModel,
    WeightedUpdate,
    pack_model,
)
from starling.coordinator.aggregation.strategy_registry import (
    AggregationRule,
    aggregator_of,
)
from starling.coordinator.chain.state.task_records import AggregationJob, JobMember
from starling.coordinator.update.admission_checks import open_update
from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.errors import AggregationError, ClosedUpdate
from starling.protocol.ids import Digest
from starling.protocol.learning.task import TaskSpec
from starling.protocol.learning.vector_codecs import Grid
from starling.protocol.wire.envelope import Envelope


@dataclass(frozen=True)
class StoredVector:
    """A member's vector as it is stored.

    Attributes:
      update: The signed update.
      blob: The sealed vector.
      content_key: If our box does not open it.
    """

    update: Envelope
    blob: bytes
    content_key: bytes | None = None


class UnopenableVectors(AggregationError):
    """Members whose vectors do not open here.

    Attributes:
      updates: Their ids.
    """

    def __init__(self, updates: tuple[Digest, ...]) -> None:
        """Keeps them."""
        super().__init__(f"{len(updates)} vectors do not open")
        self.updates = updates


Fetch = Callable[[JobMember], StoredVector]
"""Gives a member's vector."""


def recompute(
    key: OpeningKey,
    spec: TaskSpec,
    job: AggregationJob,
    before: ModelState,
    fetch: Fetch,
    own: AggregationRule | None = None,
) -> PackedModel:
    """Computes the version that a job asks for.

    Args:
      key: Opens the blobs.
      spec: The task.
      job: Which updates count, and with what weight.
      before: The version that the job builds on.
      fetch: From the store; raises `StorageError` for a blob that is not there.
      own: See `strategy_registry.aggregator_of`.

    Raises:
      AggregationError: If the job names no update.
      UnopenableVectors: Naming all members whose vectors do not open.
      ProtocolError: If a vector is malformed; it was checked at admission.
    """

    def opened(member: JobMember) -> WeightedUpdate:
        return opened_member(key, spec, member, fetch(member))

    aggregator = aggregator_of(spec.aggregation, spec.privacy, spec.codec, own)
    try:
        members = map(opened, job.members)
        return pack_model(aggregator.apply(before, members, job.version))
    except ClosedUpdate as error:
        raise UnopenableVectors(_closed(key, spec, job, fetch)) from error


def opened_member(
    key: OpeningKey, spec: TaskSpec, member: JobMember, stored: StoredVector
) -> WeightedUpdate:
    """A member's update, opened and decoded.

    Raises:
      ProtocolError: If its vector does not open here, or is malformed.
    """
    vector = _open(key, spec, stored)
    return WeightedUpdate(
        vector, member.weight_q15, member.pledge, member.base, member.board
    )


def check_initial(spec: TaskSpec, state: ModelState) -> None:
    """Refuses a version 0 that a task's strategy cannot have begun with.

    It came from an operator; all later versions are made here or attested.

    Raises:
      AggregationError: If sizes, momentum, average or memory are others.
    """
    begun = aggregator_of(spec.aggregation, spec.privacy, spec.codec).init(state.theta)
    wanted, given = pack_model(begun), pack_model(state)
    same = (wanted.momentum, wanted.average) == (given.momentum, given.average)
    if state.theta.size != spec.dimension or not same:
        raise AggregationError("version 0 is not what the task's strategy begins with")


def _open(key: OpeningKey, spec: TaskSpec, one: StoredVector) -> Grid:
    return open_update(key, one.update, one.blob, spec, one.content_key)


def _closed(
    key: OpeningKey, spec: TaskSpec, job: AggregationJob, fetch: Fetch
) -> tuple[Digest, ...]:
    closed = []
    for member in job.members:
        try:
            _open(key, spec, fetch(member))
        except ClosedUpdate:
            closed.append(member.transaction)
    return tuple(closed)
