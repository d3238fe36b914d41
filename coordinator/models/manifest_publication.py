"""The manifest of a task's newest version, which all boards wait for."""

from starling.coordinator.boards import finality_proofs
from starling.coordinator.chain.state import task_records
from starling.coordinator.membership import responder_selection
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import SendMessage
from starling.coordinator.step.state import TaskState
from starling.coordinator.wire.frames import model_key
from starling.protocol.chain.light_client import MANIFEST

ANNOUNCE_EVERY_S = 10.0
"""A broker that restarted has forgotten the manifest, and its announcer may be gone."""
ANNOUNCE_AFTER_S = 3.0
"""After a connection; until then we may have caught up."""


def announce(turn: CoordinatorStep, task: TaskState) -> None:
    """Publishes the newest version with its proof, retained, if that is our turn."""
    if task_records.version(turn.state.ledger.tree, task.number, task.head) is None:
        # Others are far ahead, and its proof is no longer in the state.
        return
    matter = model_key(task.number, task.head)
    shown = finality_proofs.manifest(turn.state.ledger, task, turn.state.handovers)
    if shown is not None and responder_selection.is_among_first(turn, matter):
        topic = turn.settings.topics.manifest(task.number)
        turn.emit(SendMessage(topic, MANIFEST.pack(shown), retain=True))
