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
from starling.agent.step.state import (
    slot_of,
)
from starling.protocol.crypto.sealed_blob import blob_digest, seal
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import H
from starling.protocol.privacy.mechanisms import NONE
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import (
    CONTRIBUTION,
    UPLOAD,
    Contribution,
    Upload,
)

RELEASES_TO_HALVE = 16


def started(turn: AgentStep, training: OngoingTraining) -> OngoingTraining:
    """Notes when the update may leave of a trainer that is let at the data now."""
    noised = training.order.privacy.mechanism != NONE
    wait_s = turn.state.release_s if noised else 0.0
    return evolve(training, started_s=turn.now_s, release_s=turn.now_s + wait_s)


def wait_longer(turn: AgentStep) -> None:
    """Doubles the wait as often as the moment has passed without a result."""
    training, release_s = turn.state.training, turn.state.release_s
    if training is None or training.finished is not None or not release_s:
        return
    if training.order.privacy.mechanism == NONE:
        return
    at_s = training.release_s
    while turn.now_s >= at_s:
        release_s *= 2.0
        at_s = training.started_s + release_s
    if at_s != training.release_s:
        training = evolve(training, release_s=at_s)
        turn.state = evolve(turn.state, training=training, release_s=release_s)


def rule_release(turn: AgentStep) -> None:
    """Lets a finished update go when its moment has come."""
    wait_longer(turn)
    training = turn.state.training
    if training is not None and turn.now_s >= training.release_s:
        _release(turn, training)


def stop_asked(turn: AgentStep) -> None:
    """Spools what is finished: it is paid for, and leaves with the next start."""
    if turn.state.training is not None:
        _release(turn, turn.state.training)


def _release(turn: AgentStep, training: OngoingTraining) -> None:
    """Seals, signs and spools the result, if there is one."""
    if training.finished is None:
        return
    turn.state = evolve(turn.state, training=None)
    _count(turn)
    if gap := gap_s(turn.settings, turn.state):
        turn.state = evolve(turn.state, rest_until_s=turn.jittered(gap))
    order = training.order
    upload = _upload(turn, training)
    content = UPLOAD.pack(upload)
    entry = SpoolEntry(
        order.task,
        order.base,
        upload.update.identity(turn.state.chain),
        H(content),
        len(content),
        training.staleness_max,
    )
    turn.state = evolve(
        turn.state,
        kept=turn.state.kept + 1,
        waiting=(*turn.state.waiting, PendingUpload(entry, False, turn.now_s)),
    )
    turn.emit(SpoolUpload(entry, content))


def shorten(turn: AgentStep) -> None:
    """Halves the wait: it was long for a while, or longer than the fleet's pace."""
    release_s = max(turn.settings.pace.release_s, turn.state.release_s / 2.0)
    turn.state = evolve(turn.state, released=0, release_s=release_s)


def _count(turn: AgentStep) -> None:
    """Counts an update that leaves; the schedule is known to everybody."""
    turn.state = evolve(turn.state, released=turn.state.released + 1)
    if turn.state.released >= RELEASES_TO_HALVE:
        shorten(turn)


def _upload(turn: AgentStep, training: OngoingTraining) -> Upload:
    order, finished = training.order, training.finished
    assert finished is not None
    recipients = [item.sealing for item in turn.state.trusted.validators.members]
    sender = turn.settings.key.public
    blob, commitment = seal(finished.payload, recipients, finished.entropy, sender)
    charge = turn.state.ledger.charged(*slot_of(turn.state, order.task, order.base))
    assert charge is not None
    contribution = Contribution(
        order.task,
        order.base,
        order.codec,
        order.pledge,
        order.privacy.mechanism,
        charge.units,
        blob_digest(blob),
        commitment,
        turn.state.ledger.stated(turn.state.chain),
    )
    update = turn.signed(MessageKind.UPDATE, CONTRIBUTION.pack(contribution))
    return Upload(update, training.lease, blob)
