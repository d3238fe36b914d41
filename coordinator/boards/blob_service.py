"""Blobs that boards pull: bundles, and models, whole or as differences."""

from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import PublishChunks
from starling.coordinator.step.state import TaskState
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import InvalidUpdate, Reason
from starling.protocol.ids import DeviceId, Digest
from starling.protocol.wire.message_bodies import ChunkRequest

DELTA_DIMENSION_MAX = 1 << 20
"""Of models whose chunks go as differences: each takes some 20 ms the first time."""


def serve(step: CoordinatorStep, device: DeviceId, request: ChunkRequest) -> None:
    """Sends a board the chunks that it asks for.

    Raises:
      InvalidUpdate: If no task offers that blob, or the board asks too fast.
    """
    if not any(_offers(task, request.digest) for task in step.state.tasks.values()):
        raise InvalidUpdate("no blob that is offered", Reason.NOT_HERE)
    settings, session = step.settings, step.session(device)
    earned = (step.now_s - session.chunks_at_s) * settings.chunks_per_s
    chunks = min(float(settings.chunks_burst), session.chunks + earned)
    wanted = len(request.indices)
    if wanted > chunks:
        raise InvalidUpdate("asks for chunks too fast", Reason.BUSY)
    step.put_session(
        device, evolve(session, chunks=chunks - wanted, chunks_at_s=step.now_s)
    )
    base = _base(step, request)
    step.emit(PublishChunks(device, request.digest, request.indices, base))


def _offers(task: TaskState, digest: Digest) -> bool:
    # While a task is being opened its bytes may be at another one of us only.
    return digest in task.blobs and not task.opening


def _base(step: CoordinatorStep, request: ChunkRequest) -> Digest | None:
    """The version that a board has, if it is one of the last before the asked one."""
    for task in step.state.tasks.values():
        for wanted, older in _lineages(task):
            if wanted == request.digest and not older.isdisjoint(request.held):
                return request.held[0]
    return None


def _lineages(task: TaskState) -> tuple[tuple[Digest, frozenset[Digest]], ...]:
    """Both parts of the newest version that boards pull, each with its older ones."""
    if task.spec.dimension > DELTA_DIMENSION_MAX:
        return ()
    # Without the bundle before them and the newest pair after them.
    older = task.blobs[1:-2]
    return (
        (task.model.training, frozenset(older[::2])),
        (task.model.inference, frozenset(older[1::2])),
    )
