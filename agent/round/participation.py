"""Participation in one version: check in, lease, spend, train, hand over.

The order that keeps privacy and honesty, whatever happens in between: the trainer has
tried the model and touched no data; the charge, which names the base version, is
synced; the data are read and noise is drawn; the update is held until its moment
(`agent.round.release_time`), sealed, signed once and spooled before it is sent. Once it
is paid for, an update leaves whatever the data do to the trainer: one on which it fails
has the noise of a sum of nothing. A power cut after the charge loses that version's
update and nothing else.
"""

from starling.agent.privacy.release_cost import label_losses
from starling.agent.round import lease_renewal
from starling.agent.round.readiness import pledge_of, readiness_condition
from starling.agent.round.release_time import shorten, started, wait_longer
from starling.agent.step.agent_step import AgentStep
from starling.agent.step.effects import (
    ResumeTraining,
    Spend,
    StartTraining,
    StopTraining,
)
from starling.agent.step.events import FailureStage, TrainingFailed, TrainingFinished
from starling.agent.step.ongoing_work import (
    OngoingTraining,
    PendingCheckIn,
)
from starling.agent.step.send_rate import Priority, allowed_at_s
from starling.agent.step.state import (
    AgentState,
    ProvenVersion,
    slot_of,
)
from starling.agent.sync import ledger_reconciliation
from starling.agent.sync.manifest_check import price
from starling.agent.sync.model_download import refuse_version
from starling.agent.training.trainer_messages import SKIPPED_MAX, TrainingOrder
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import BudgetExceeded
from starling.protocol.privacy.mechanisms import UNNOISED
from starling.protocol.wire.envelope import Envelope, MessageKind
from starling.protocol.wire.message_bodies import CHECK_IN, LEASE, PPM, CheckIn


def rule_check_in(step: AgentStep) -> None:
    """Asks for a lease as soon as nothing stands in the way, and again after a wait."""
    state, offer = step.state, step.state.offer
    if offer is None or state.training is not None:
        return
    if readiness_condition(step.settings, state, step.now_s) is not None:
        if state.asking is not None:
            step.state = evolve(state, asking=None)
        return
    asking = state.asking
    asked = asking is not None and asking.version == offer.version
    if asking is not None and asked and step.now_s < asking.again_at_s:
        return
    if step.now_s < allowed_at_s(state, Priority.CHECK_IN):
        return
    check_in = CheckIn(
        step.settings.task,
        offer.version,
        step.settings.resources_ppm,
        _timeliness_ppm(state),
        _budget_ppm(step, offer),
        pledge_of(step.settings, offer),
        ledger_reconciliation.asks(step),
    )
    envelope = step.say(MessageKind.CHECK_IN, CHECK_IN.pack(check_in))
    again_at_s = step.jittered(step.settings.pace.check_in_s)
    identity = envelope.identity(step.state.chain)
    asking = PendingCheckIn(offer.version, identity, again_at_s)
    step.state = evolve(step.state, asking=asking)


def _timeliness_ppm(state: AgentState) -> int:
    """Share of its leases that became updates; all, before the first.

    What records do to a training neither stops an update nor delays it.
    """
    return PPM * state.kept // state.leases if state.leases else PPM


def _budget_ppm(step: AgentStep, offer: ProvenVersion) -> int:
    """Share of the releases planned for the task that are left to this board."""
    policy = offer.spec.privacy
    lineage = (step.state.chain, step.settings.task)
    paid = sum(slot[:2] == lineage for slot in step.state.ledger.charges)
    return PPM * max(0, policy.releases - paid) // policy.releases


def handle_lease(step: AgentStep, envelope: Envelope) -> None:
    """Starts to train, if the lease is ours and for what we asked.

    Raises:
      ProtocolError: If its body is malformed.
    """
    lease = LEASE.unpack(envelope.body)
    # First: of a version whose update waits in the spool nothing is trained a second
    # time, so that a lease for it belongs to that update.
    if lease_renewal.handle_lease(step, envelope, lease):
        return
    state, offer, asking = step.state, step.state.offer, step.state.asking
    ours = (lease.device, lease.task) == (
        step.settings.identity,
        step.settings.task,
    )
    if not ours or offer is None or asking is None or lease.version != asking.version:
        return
    # Once more: disk, spool or budget may have changed since the check-in.
    if readiness_condition(step.settings, state, step.now_s) is not None:
        return
    if not ledger_reconciliation.suffices(step, offer):
        ledger_reconciliation.hold(step, envelope)
        return
    order = TrainingOrder(
        step.settings.task,
        offer.version,
        offer.spec.bundle,
        offer.model.training,
        offer.spec.dimension,
        offer.spec.codec,
        pledge_of(step.settings, offer),
        offer.spec.training,
        offer.spec.privacy,
        step.settings.windows,
        offer.spec.personal,
    )
    staleness_max = offer.spec.aggregation.staleness_max
    training = OngoingTraining(order, envelope, False, staleness_max)
    told = evolve(state.told, lease=None)
    leases = state.leases + 1
    step.state = evolve(state, asking=None, training=training, leases=leases, told=told)
    losses = label_losses(state.ledger.paid)
    step.emit(StartTraining(order, label_losses=losses))


def handle_statement(step: AgentStep, envelope: Envelope) -> None:
    """Compares ledger and chain, and trains if a lease waited for that.

    Raises:
      ProtocolError: If the statement is malformed or proves nothing.
    """
    ledger_reconciliation.handle_statement(step, envelope)
    lease = step.state.told.lease
    if lease is not None:
        step.state = evolve(step.state, told=evolve(step.state.told, lease=None))
        handle_lease(step, lease)


def rule_abandon(step: AgentStep) -> None:
    """Stops a training whose base version has become too old to count."""
    training, offer = step.state.training, step.state.offer
    if training is None or offer is None:
        return
    base = training.order.base
    if offer.version - base > training.staleness_max or base < offer.rolled:
        step.state = evolve(step.state, training=None)
        shorten(step)
        step.emit(StopTraining("its base version became stale"))


def trainer_ready(step: AgentStep) -> None:
    """Pays for the base version, and only then lets the trainer at the data."""
    training = step.state.training
    if training is None or training.running:
        return
    training = evolve(training, running=True)
    if training.spent:
        # The second attempt, on no data: one charge pays for one update.
        step.state = evolve(step.state, training=training)
        step.emit(ResumeTraining())
        return
    order = training.order
    slot = slot_of(step.state, order.task, order.base)
    try:
        ledger, _, entry = step.state.ledger.charge(
            slot, order.privacy, step.settings.windows
        )
    except BudgetExceeded as error:
        step.state = evolve(step.state, training=None)
        # The ledger may have grown since the lease came: a statement of the chain adds
        # to it at any time.
        step.emit(StopTraining(f"not paid for: {error}"))
        price(step)
        return
    training = started(step, evolve(training, spent=True))
    step.state = evolve(step.state, ledger=ledger, training=training)
    # This order is the promise: the charge is synced before a record is read or noise
    # is drawn.
    step.emit(Spend(entry), ResumeTraining())
    price(step)


def training_finished(step: AgentStep, event: TrainingFinished) -> None:
    """Holds the result until its moment."""
    training = step.state.training
    if training is None or not training.running or training.finished is not None:
        return
    # Before the result is in the state, after which no wait doubles.
    wait_longer(step)
    assert step.state.training is not None
    training = evolve(step.state.training, finished=event)
    step.state = evolve(step.state, training=training, failures=0, fault="")


def _try_again(
    step: AgentStep, training: OngoingTraining, event: TrainingFailed
) -> None:
    """Leaves out the record at which the trainer crashed; all, if it was at none."""
    skipped, record = training.skipped, event.record
    if record is None or record in skipped or len(skipped) >= SKIPPED_MAX:
        step.note(
            f"training failed, noise alone will be sent: {event.detail}", warns=True
        )
        training = evolve(training, running=False, empty=True)
    else:
        step.note(
            f"training failed at a record, which is left out: {event.detail}",
            warns=True,
        )
        training = evolve(training, running=False, skipped=(*skipped, record))
    step.state = evolve(step.state, training=training)
    step.emit(StartTraining(training.order, training.empty, training.skipped))


def training_failed(step: AgentStep, event: TrainingFailed) -> None:
    """Rests before the next attempt; what was paid for is made from no data instead."""
    training = step.state.training
    if training is None or training.finished is not None:
        return
    noised = training.order.privacy.mechanism not in UNNOISED
    # The data were read: that an update fails to come would tell of them, so that the
    # noise of a smaller sum, or of an empty one, takes its place.
    if training.running and noised and not training.empty:
        _try_again(step, training, event)
        return
    step.state = evolve(step.state, training=None)
    if event.stage is FailureStage.MODEL:
        refuse_version(step, training.order.theta)
        step.note(f"model refused: {event.detail}", warns=True)
    else:
        step.rest(f"training failed: {event.detail}")
    if training.spent:
        step.note(
            f"version {training.order.base} was charged, its update is lost", warns=True
        )
