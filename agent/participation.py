"""How a board takes part in one version: check in, lease, train, spend, sign.

The order that keeps privacy and honesty, whatever happens in between: the trainer's
exact sum stands and nothing was drawn; the charge, which names the base version, is
synced; noise is drawn; the update is sealed and signed once; it is spooled before it
is sent. A crash after the charge loses that version's update and nothing else.
"""

from agent import renewal, statements
from agent.effects import (
    ResumeTraining,
    Spend,
    Spooled,
    SpoolUpload,
    StartTraining,
    StopTraining,
)
from agent.events import Stage, TrainingFailed, TrainingFinished
from agent.fetching import price, refuse_version
from agent.obstacles import obstacle, pledge_of
from agent.orders import TrainingOrder
from agent.state import (
    Asking,
    Offer,
    State,
    Training,
    Waiting,
    slot_of,
)
from agent.turn import Turn
from protocol.envelope import Envelope, Kind
from protocol.errors import BudgetExceeded
from protocol.evolve import evolve
from protocol.ids import H
from protocol.messages import (
    CHECK_IN,
    CONTRIBUTION,
    LEASE,
    PPM,
    UPLOAD,
    CheckIn,
    Contribution,
    Upload,
)
from protocol.sealing import blob_digest, seal


def rule_check_in(turn: Turn) -> None:
    """Asks for a lease as soon as nothing stands in the way, and again after a wait."""
    state, offer = turn.state, turn.state.offer
    if offer is None or state.training is not None:
        return
    if obstacle(turn.settings, state, turn.now_s) is not None:
        if state.asking is not None:
            turn.state = evolve(state, asking=None)
        return
    asking = state.asking
    asked = asking is not None and asking.version == offer.version
    if asking is not None and asked and turn.now_s < asking.again_at_s:
        return
    check_in = CheckIn(
        turn.settings.task,
        offer.version,
        turn.settings.resources_ppm,
        _timeliness_ppm(state),
        _budget_ppm(turn, offer),
        pledge_of(turn.settings, state, offer),
        statements.asks(turn),
    )
    envelope = turn.say(Kind.CHECK_IN, CHECK_IN.pack(check_in))
    again_at_s = turn.jittered(turn.settings.pace.check_in_s)
    identity = envelope.identity(turn.state.chain)
    asking = Asking(offer.version, identity, again_at_s)
    turn.state = evolve(turn.state, asking=asking)


def _timeliness_ppm(state: State) -> int:
    """Share of its leases that the board turned into updates; all, before the first."""
    return PPM * state.kept // state.leases if state.leases else PPM


def _budget_ppm(turn: Turn, offer: Offer) -> int:
    """Share of the releases planned for the task that are left to this board."""
    policy = offer.spec.privacy
    lineage = (turn.state.chain, turn.settings.task)
    paid = sum(slot[:2] == lineage for slot in turn.state.ledger.charges)
    return PPM * max(0, policy.releases - paid) // policy.releases


def hear_lease(turn: Turn, envelope: Envelope) -> None:
    """Starts to train, if the lease is ours and for what we asked.

    Raises:
      ProtocolError: If its body is malformed.
    """
    lease = LEASE.unpack(envelope.body)
    if renewal.hear_lease(turn, envelope, lease):
        return
    state, offer, asking = turn.state, turn.state.offer, turn.state.asking
    ours = (lease.device, lease.task) == (
        turn.settings.identity,
        turn.settings.task,
    )
    if not ours or offer is None or asking is None or lease.version != asking.version:
        return
    if obstacle(turn.settings, state, turn.now_s) is not None:
        return
    if not statements.suffices(turn, offer):
        statements.hold(turn, envelope)
        return
    order = TrainingOrder(
        turn.settings.task,
        offer.version,
        offer.spec.bundle,
        offer.model.training,
        offer.spec.dimension,
        offer.spec.codec,
        pledge_of(turn.settings, state, offer),
        offer.spec.training,
        offer.spec.privacy,
        turn.settings.windows,
    )
    staleness_max = offer.spec.aggregation.staleness_max
    training = Training(order, envelope, False, staleness_max)
    told = evolve(state.told, lease=None)
    leases = state.leases + 1
    turn.state = evolve(state, asking=None, training=training, leases=leases, told=told)
    turn.emit(StartTraining(order))


def hear_statement(turn: Turn, envelope: Envelope) -> None:
    """Compares ledger and chain, and trains if a lease waited for that.

    Raises:
      ProtocolError: If the statement is malformed or proves nothing.
    """
    statements.hear(turn, envelope)
    lease = turn.state.told.lease
    if lease is not None:
        turn.state = evolve(turn.state, told=evolve(turn.state.told, lease=None))
        hear_lease(turn, lease)


def rule_abandon(turn: Turn) -> None:
    """Stops a training whose base version has become too old to count."""
    training, offer = turn.state.training, turn.state.offer
    if training is None or offer is None:
        return
    if offer.version - training.order.base > training.staleness_max:
        turn.state = evolve(turn.state, training=None)
        turn.emit(StopTraining("its base version became stale"))


def ready_for_noise(turn: Turn) -> None:
    """Pays for the base version, and only then lets the trainer draw noise."""
    training = turn.state.training
    if training is None or training.spent:
        return
    order = training.order
    slot = slot_of(turn.state, order.task, order.base)
    try:
        ledger, _, entry = turn.state.ledger.charge(
            slot, order.privacy, turn.settings.windows
        )
    except BudgetExceeded as error:
        turn.state = evolve(turn.state, training=None)
        turn.emit(StopTraining(f"not paid for: {error}"))
        price(turn)
        return
    training = evolve(training, spent=True)
    turn.state = evolve(turn.state, ledger=ledger, training=training)
    turn.emit(Spend(entry), ResumeTraining())
    price(turn)


def training_finished(turn: Turn, event: TrainingFinished) -> None:
    """Seals and signs the update, and spools it."""
    training = turn.state.training
    if training is None or not training.spent:
        return
    turn.state = evolve(turn.state, training=None, failures=0, fault="")
    if turn.settings.pace.between_s:
        until_s = turn.jittered(turn.settings.pace.between_s)
        turn.state = evolve(turn.state, rest_until_s=until_s)
    order = training.order
    upload = _upload(turn, training, event)
    content = UPLOAD.pack(upload)
    entry = Spooled(
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
        waiting=(*turn.state.waiting, Waiting(entry, False, turn.now_s)),
    )
    turn.emit(SpoolUpload(entry, content))


def _upload(turn: Turn, training: Training, event: TrainingFinished) -> Upload:
    order = training.order
    recipients = [item.sealing for item in turn.state.trusted.validators.members]
    sender = turn.settings.key.public
    blob, commitment = seal(event.payload, recipients, event.entropy, sender)
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
    update = turn.signed(Kind.UPDATE, CONTRIBUTION.pack(contribution))
    return Upload(update, training.lease, blob)


def training_failed(turn: Turn, event: TrainingFailed) -> None:
    """Rests before the next attempt; a version that was charged gets none."""
    training = turn.state.training
    if training is None:
        return
    turn.state = evolve(turn.state, training=None)
    if event.stage is Stage.MODEL:
        refuse_version(turn, training.order.theta)
        turn.note(f"model refused: {event.detail}")
    elif event.stage is Stage.DATA:
        turn.state = evolve(turn.state, data_fault=event.detail)
        turn.note(f"data set refused: {event.detail}")
    else:
        turn.rest(f"training failed: {event.detail}")
    if training.spent:
        turn.note(f"version {training.order.base} was charged, its update is lost")
