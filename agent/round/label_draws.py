"""Drawn labels: durable before anything is computed from them.

A trainer that has drawn labels waits. What it drew is written and synced, and only then
is it let go on, so that a power cut in between leaves labels that nobody saw anything
of: they are drawn again, and paid for once.
"""

from starling.agent.privacy.label_entries import BATCH
from starling.agent.round.participation import training_failed
from starling.agent.step.agent_step import AgentStep
from starling.agent.step.effects import KeepLabels, ResumeTraining, StopTraining
from starling.agent.step.events import FailureStage, TrainingFailed
from starling.protocol.errors import InvalidUpdate, ProtocolError
from starling.protocol.learning.task import LABEL_RESPONSE, PrivacyPolicy


def labels_drawn(step: AgentStep, batches: tuple[bytes, ...]) -> None:
    """Keeps what was drawn, and lets the trainer go on.

    A trainer that drew what the task does not ask for is ended.
    """
    training = step.state.training
    if training is None or not training.running or training.finished is not None:
        return
    try:
        for batch in batches:
            _check(batch, training.order.privacy)
    except ProtocolError as error:
        why = f"the trainer drew other labels than the task says: {error}"
        step.emit(StopTraining(why))
        # No event follows `StopTraining`, so that the failure is told here.
        training_failed(step, TrainingFailed(FailureStage.TRAINING, why))
        return
    step.emit(KeepLabels(batches), ResumeTraining())


def _check(batch: bytes, policy: PrivacyPolicy) -> None:
    if policy.mechanism != LABEL_RESPONSE:
        raise InvalidUpdate("its mechanism is another one")
    if BATCH.unpack(batch).epsilon_micro != policy.epsilon_micro:
        raise InvalidUpdate("its epsilon is another one")
