"""Replay of a lineage: the same updates aggregated again, all of them or some left out.

The arithmetic is that of the coordinators, integer by integer: with all updates each
version comes out with the digest that a quorum attested, and without some boards comes
out what the same updates give where those boards never sent any. A version of which
nothing is left is the one before.
"""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from starling.coordinator.aggregation.strategy import (
    ModelState,
    WeightedUpdate,
    pack_model,
)
from starling.coordinator.aggregation.strategy_registry import aggregator_of
from starling.coordinator.chain.state.task_records import JobMember
from starling.coordinator.lineage.lineage import FinalVersion
from starling.protocol.errors import OperationError
from starling.protocol.ids import DeviceId, Version
from starling.protocol.learning.task import TaskSpec, version_digest
from starling.protocol.learning.vector_codecs import Grid

OpenVector = Callable[[JobMember], Grid]
"""Gives a member's vector, (d,) int64; raises `MissingVector` if it is not kept."""
NOBODY: frozenset[DeviceId] = frozenset()


class MissingVector(LookupError):
    """A vector that is not kept, or does not open with the keys at hand."""


@dataclass(frozen=True)
class ReplayedVersion:
    """One step of a replay.

    Attributes:
      version: Its number.
      before: The state that it was made from.
      members: What the chain has it made of, but for who was left out.
      updates: Their vectors with their weights, in the same order.
      after: What it gives.
      exact: Whether that is what the chain says of the version.
    """

    version: Version
    before: ModelState
    members: tuple[JobMember, ...]
    updates: tuple[WeightedUpdate, ...]
    after: ModelState
    exact: bool


def replay(
    spec: TaskSpec,
    start: ModelState,
    lineage: Sequence[FinalVersion],
    open_vector: OpenVector,
    without: AbstractSet[DeviceId] = NOBODY,
) -> Iterator[ReplayedVersion]:
    """Makes versions again, one after the other.

    Args:
      spec: The task.
      start: The state of the version before the first.
      lineage: The versions to make, rising without gaps.
      open_vector: Gives the vectors.
      without: Boards whose updates are left out.

    Raises:
      MissingVector: At the first vector that is not kept.
    """
    aggregator = aggregator_of(spec.aggregation, spec.privacy, spec.codec)
    state = start
    for one in lineage:
        # One version's vectors at a time: those of a whole lineage may not fit into
        # memory.
        members, updates = _updates(one, open_vector, without)
        # Not even momentum moves where no update is left: the version before stands.
        after = aggregator.apply(state, updates, one.version) if updates else state
        exact = version_digest(pack_model(after).digests()) == one.digest
        yield ReplayedVersion(one.version, state, members, updates, after, exact)
        state = after


def check_exact(step: ReplayedVersion) -> None:
    """Refuses a version that is not what the chain says of it.

    Raises:
      OperationError: Naming it.
    """
    if not step.exact:
        raise OperationError(
            f"version {step.version} made again is not what the chain says: its "
            "vectors, the state before it or this release are other ones"
        )


def replayed_state(
    spec: TaskSpec,
    start: ModelState,
    lineage: Sequence[FinalVersion],
    open_vector: OpenVector,
    without: AbstractSet[DeviceId] = NOBODY,
) -> ModelState:
    """The state that a whole lineage leads to; arguments and errors as `replay`."""
    state = start
    for step in replay(spec, start, lineage, open_vector, without):
        state = step.after
    return state


def _updates(
    one: FinalVersion, open_vector: OpenVector, without: AbstractSet[DeviceId]
) -> tuple[tuple[JobMember, ...], tuple[WeightedUpdate, ...]]:
    kept = tuple(
        member
        for member in (one.job.members if one.job else ())
        if member.board not in without
    )
    updates = tuple(
        WeightedUpdate(
            open_vector(each), each.weight_q15, each.pledge, each.base, each.board
        )
        for each in kept
    )
    return kept, updates
