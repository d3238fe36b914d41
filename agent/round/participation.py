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


def rule_check_in(turn: AgentStep) -> None:
    """Asks for a lease as soon as nothing stands in the way, and again after a wait."""
    state, offer = turn.state, turn.state.offer
    if offer is None or state.training is not None:
        return
    if readiness_condition(turn.settings, state, turn.now_s) is not None:
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
        pledge_of(turn.settings, offer),
        ledger_reconciliation.asks(turn),
    )
    envelope = turn.say(MessageKind.CHECK_IN, CHECK_IN.pack(check_in))
    again_at_s = turn.jittered(turn.settings.pace.check_in_s)
    identity = envelope.identity(turn.state.chain)
    asking = PendingCheckIn(offer.version, identity, again_at_s)
    turn.state = evolve(turn.state, asking=asking)


def _timeliness_ppm(state: AgentState) -> int:
    """Share of its leases that became updates; all, before the first.

    What records do to a training neither stops an update nor delays it.
    """
    return PPM * state.kept // state.leases if state.leases else PPM


def _budget_ppm(turn: AgentStep, offer: ProvenVersion) -> int:
    """Share of the releases planned for the task that are left to this board."""
    policy = offer.spec.privacy
    lineage = (turn.state.chain, turn.settings.task)
    paid = sum(slot[:2] == lineage for slot in turn.state.ledger.charges)
    return PPM * max(0, policy.releases - paid) // policy.releases


def handle_lease(turn: AgentStep, envelope: Envelope) -> None:
    """Starts to train, if the lease is ours and for what we asked.

    Raises:
      ProtocolError: If its body is malformed.
    """
    lease = LEASE.unpack(envelope.body)
    if lease_renewal.handle_lease(turn, envelope, lease):
        return
    state, offer, asking = turn.state, turn.state.offer, turn.state.asking
    ours = (lease.device, lease.task) == (
        turn.settings.identity,
        turn.settings.task,
    )
    if not ours or offer is None or asking is None or lease.version != asking.version:
        return
    if readiness_condition(turn.settings, state, turn.now_s) is not None:
        return
    if not ledger_reconciliation.suffices(turn, offer):
        ledger_reconciliation.hold(turn, envelope)
        return
    order = TrainingOrder(
        turn.settings.task,
        offer.version,
        offer.spec.bundle,
        offer.model.training,
        offer.spec.dimension,
        offer.spec.codec,
        pledge_of(turn.settings, offer),
        offer.spec.training,
        offer.spec.privacy,
        turn.settings.windows,
        offer.spec.personal,
    )
    staleness_max = offer.spec.aggregation.staleness_max
    training = OngoingTraining(order, envelope, False, staleness_max)
    told = evolve(state.told, lease=None)
    leases = state.leases + 1
    turn.state = evolve(state, asking=None, training=training, leases=leases, told=told)
    losses = label_losses(state.ledger.paid)
    turn.emit(StartTraining(order, label_losses=losses))


def handle_statement(turn: AgentStep, envelope: Envelope) -> None:
    """Compares ledger and chain, and trains if a lease waited for that.

    Raises:
      ProtocolError: If the statement is malformed or proves nothing.
    """
    ledger_reconciliation.handle_statement(turn, envelope)
    lease = turn.state.told.lease
    if lease is not None:
        turn.state = evolve(turn.state, told=evolve(turn.state.told, lease=None))
        handle_lease(turn, lease)


def rule_abandon(turn: AgentStep) -> None:
    """Stops a training whose base version has become too old to count."""
    training, offer = turn.state.training, turn.state.offer
    if training is None or offer is None:
        return
    base = training.order.base
    if offer.version - base > training.staleness_max or base < offer.rolled:
        turn.state = evolve(turn.state, training=None)
        shorten(turn)
        turn.emit(StopTraining("its base version became stale"))


def trainer_ready(turn: AgentStep) -> None:
    """Pays for the base version, and only then lets the trainer at the data."""
    training = turn.state.training
    if training is None or training.running:
        return
    training = evolve(training, running=True)
    if training.spent:
        # The second attempt, on no data: one charge pays for one update.
        turn.state = evolve(turn.state, training=training)
        turn.emit(ResumeTraining())
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
    training = started(turn, evolve(training, spent=True))
    turn.state = evolve(turn.state, ledger=ledger, training=training)
    turn.emit(Spend(entry), ResumeTraining())
    price(turn)


def training_finished(turn: AgentStep, event: TrainingFinished) -> None:
    """Holds the result until its moment."""
    training = turn.state.training
    if training is None or not training.running or training.finished is not None:
        return
    wait_longer(turn)
    assert turn.state.training is not None
    training = evolve(turn.state.training, finished=event)
    turn.state = evolve(turn.state, training=training, failures=0, fault="")


def _try_again(
    turn: AgentStep, training: OngoingTraining, event: TrainingFailed
) -> None:
    """Leaves out the record at which the trainer crashed; all, if it was at none."""
    skipped, record = training.skipped, event.record
    if record is None or record in skipped or len(skipped) >= SKIPPED_MAX:
        turn.note(
            f"training failed, noise alone will be sent: {event.detail}", warns=True
        )
        training = evolve(training, running=False, empty=True)
    else:
        turn.note(
            f"training failed at a record, which is left out: {event.detail}",
            warns=True,
        )
        training = evolve(training, running=False, skipped=(*skipped, record))
    turn.state = evolve(turn.state, training=training)
    turn.emit(StartTraining(training.order, training.empty, training.skipped))


def training_failed(turn: AgentStep, event: TrainingFailed) -> None:
    """Rests before the next attempt; what was paid for is made from no data instead."""
    training = turn.state.training
    if training is None or training.finished is not None:
        return
    noised = training.order.privacy.mechanism not in UNNOISED
    if training.running and noised and not training.empty:
        _try_again(turn, training, event)
        return
    turn.state = evolve(turn.state, training=None)
    if event.stage is FailureStage.MODEL:
        refuse_version(turn, training.order.theta)
        turn.note(f"model refused: {event.detail}", warns=True)
    else:
        turn.rest(f"training failed: {event.detail}")
    if training.spent:
        turn.note(
            f"version {training.order.base} was charged, its update is lost", warns=True
        )
