"""Release time of an update: a moment that is independent of the data.

How long a training takes may depend on records. So its result is held, unsigned, until
a time T after its charge. If it is not there by then, T doubles until it is, and the
doubled T is kept for the updates after it; after every 16 of them it halves, and when
one became too old to count, though never below where it began. What can be seen of a
training's time is thus how often T doubled.

Without noise nothing is promised, and nothing is held.
"""

from starling.agent.round.readiness import gap_s
from starling.agent.step.agent_step import AgentStep
from starling.agent.step.effects import SpoolEntry, SpoolUpload
from starling.agent.step.ongoing_work import (
    OngoingTraining,
    PendingUpload,
)
from starling.agent.update.signed_update import signed_upload
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import H
from starling.protocol.privacy.mechanisms import NONE
from starling.protocol.wire.message_bodies import UPLOAD

RELEASES_TO_HALVE = 16


def started(step: AgentStep, training: OngoingTraining) -> OngoingTraining:
    """Notes when the update may leave of a trainer that is let at the data now."""
    noised = training.order.privacy.mechanism != NONE
    wait_s = step.state.release_s if noised else 0.0
    return evolve(training, started_s=step.now_s, release_s=step.now_s + wait_s)


def wait_longer(step: AgentStep) -> None:
    """Doubles the wait as often as the moment has passed without a result."""
    training, release_s = step.state.training, step.state.release_s
    # A wait of 0 holds nothing back, and doubling it would never pass the moment.
    if training is None or training.finished is not None or not release_s:
        return
    if training.order.privacy.mechanism == NONE:
        return
    at_s = training.release_s
    while step.now_s >= at_s:
        release_s *= 2.0
        at_s = training.started_s + release_s
    if at_s != training.release_s:
        training = evolve(training, release_s=at_s)
        step.state = evolve(step.state, training=training, release_s=release_s)


def rule_release(step: AgentStep) -> None:
    """Lets a finished update go when its moment has come."""
    wait_longer(step)
    training = step.state.training
    if training is not None and step.now_s >= training.release_s:
        _release(step, training)


def stop_asked(step: AgentStep) -> None:
    """Spools what is finished: it is paid for, and leaves with the next start."""
    if step.state.training is not None:
        _release(step, step.state.training)


def _release(step: AgentStep, training: OngoingTraining) -> None:
    """Seals, signs and spools the result, if there is one."""
    if training.finished is None:
        return
    step.state = evolve(step.state, training=None)
    _count(step)
    if gap := gap_s(step.settings, step.state):
        step.state = evolve(step.state, rest_until_s=step.jittered(gap))
    order = training.order
    upload = signed_upload(step, training)
    content = UPLOAD.pack(upload)
    entry = SpoolEntry(
        order.task,
        order.base,
        upload.update.identity(step.state.chain),
        H(content),
        len(content),
        training.staleness_max,
    )
    step.state = evolve(
        step.state,
        kept=step.state.kept + 1,
        waiting=(*step.state.waiting, PendingUpload(entry, False, step.now_s)),
    )
    step.emit(SpoolUpload(entry, content))


def shorten(step: AgentStep) -> None:
    """Halves the wait: it was long for a while, or longer than the fleet's pace."""
    release_s = max(step.settings.pace.release_s, step.state.release_s / 2.0)
    step.state = evolve(step.state, released=0, release_s=release_s)


def _count(step: AgentStep) -> None:
    """Counts an update that leaves; the schedule is known to everybody."""
    step.state = evolve(step.state, released=step.state.released + 1)
    if step.state.released >= RELEASES_TO_HALVE:
        shorten(step)
