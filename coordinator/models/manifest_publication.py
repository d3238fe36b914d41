"""The manifest of a task's newest version, which all boards wait for."""

from starling.coordinator.boards import finality_proofs
from starling.coordinator.chain.state import task_records
from starling.coordinator.chain.tasks import task_end
from starling.coordinator.peers import responder_selection
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import SendMessage
from starling.coordinator.step.state import TaskState
from starling.coordinator.wire.frames import model_key
from starling.protocol.chain.light_client import MANIFEST
from starling.protocol.dataclass_replace import evolve

ANNOUNCE_EVERY_S = 10.0
"""A broker that restarted has forgotten the manifest, and its announcer may be gone."""
ANNOUNCE_AFTER_S = 3.0
"""After a connection; until then we may have caught up."""


def announce(step: CoordinatorStep, task: TaskState) -> None:
    """Publishes the newest version with its proof, retained, if that is our turn."""
    if task_records.version(step.state.ledger.tree, task.number, task.head) is None:
        # Others are far ahead, and its proof is no longer in the state.
        return
    matter = model_key(task.number, task.head)
    shown = finality_proofs.manifest(step.state.ledger, task, step.state.handovers)
    # Some of us and not all: each would send the same, and one who does is enough.
    if shown is not None and responder_selection.is_among_first(step, matter):
        topic = step.settings.topics.manifest(task.number)
        step.emit(SendMessage(topic, MANIFEST.pack(shown), retain=True))


def announce_ends(step: CoordinatorStep) -> None:
    """Shows boards what ended with a block, so that they can leave it."""
    header = step.state.ledger.header
    assert header is not None
    for task in list(step.state.tasks.values()):
        is_over = task_end.is_over(step.state.ledger.tree, task.number, header.time_ms)
        if is_over != task.is_over:
            step.put_task(evolve(task, is_over=is_over))
            announce(step, task)
