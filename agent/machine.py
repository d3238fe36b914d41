"""The agent's core: a state, events, and what to do about each.

Facts change the state; then all rules are evaluated, whatever the event was, so that no
transition can be missed and an event that does not fit changes nothing. A peer's bad
message is a note in the log and never an error.
"""

from collections.abc import Callable, Sequence
from typing import assert_never

from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.round import (
    label_draws,
    lease_renewal,
    participation,
    release_time,
)
from starling.agent.round.readiness import phase, rest_until_s
from starling.agent.step import events as e
from starling.agent.step.agent_step import AgentStep
from starling.agent.step.effects import Effect, PublishBestEffort
from starling.agent.step.ongoing_work import (
    PendingUpload,
)
from starling.agent.step.send_rate import allowed_later_s, spend
from starling.agent.step.state import (
    AgentSettings,
    AgentState,
)
from starling.agent.sync import (
    health_answer,
    manifest_check,
    model_download,
    refusal_record,
)
from starling.agent.update import lost_update_report, outbox
from starling.protocol.chain.light_client import (
    ForkError,
    TrustedState,
    ValidatorSetGap,
)
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import Digest
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind
from starling.protocol.wire.message_bodies import (
    COORDINATOR_STATE,
    DEVICE_STATE,
    DevicePhase,
    DeviceState,
)

_NUDGE_S = 1.0


def begin(
    settings: AgentSettings,
    trusted: TrustedState,
    ledger: PrivacyLedger,
    blobs: frozenset[Digest],
    waiting: Sequence[PendingUpload],
    manifest: bytes | None,
    now_s: float,
    released_at_s: float = float("-inf"),
) -> tuple[AgentState, tuple[Effect, ...]]:
    """The state after a start, from what is on the disk.

    Args:
      settings: Of the agent.
      trusted: The light client's state; pinned genesis at the first start.
      ledger: From its journal.
      blobs: What the blob store has.
      waiting: What the spool has, oldest first.
      manifest: The newest manifest that was believed, or None.
      now_s: Monotonic time.
      released_at_s: The same, of the last update's leaving; -infinity for none.

    Returns:
      The state and the first effects.
    """
    state = AgentState(
        trusted,
        evolve(ledger, labels_micro=settings.labels_micro),
        blobs=blobs,
        waiting=tuple(waiting),
        release_s=settings.pace.release_s,
        released_at_s=released_at_s,
        over=settings.left,
    )
    step = AgentStep(settings, state, now_s)
    if manifest is not None:
        try:
            # It takes the way of one that arrives, so that its proof, the task's terms
            # and the price are checked against the ledger and settings of this start.
            manifest_check.handle_manifest(step, manifest)
        except ProtocolError as error:
            step.note(f"the stored manifest is no longer valid: {error}")
    return _end(step)


def step(
    settings: AgentSettings, state: AgentState, event: e.Event, now_s: float
) -> tuple[AgentState, tuple[Effect, ...]]:
    """Applies an event: the next state, and the effects to carry out.

    Args:
      settings: Of the agent.
      state: Before the event.
      event: What happened.
      now_s: Monotonic time, not before that of the last step.

    Returns:
      The state after it, and effects to carry out in order before the next step.
    """
    step = AgentStep(settings, state, now_s)
    try:
        _happen(step, event)
    except ForkError as error:
        step.state = evolve(step.state, fault=str(error))
        lie = f"{error}: more coordinators lie than may; tell their operators"
        step.note(lie, warns=True)
    except ValidatorSetGap as error:
        fault = f"{error}: have an operator admit the board again, and enrol it anew"
        step.state = evolve(step.state, fault=fault)
        step.note(fault, warns=True)
    except ProtocolError as error:
        step.note(f"{type(event).__name__}: {error}")
    return _end(step)


def farewell(
    settings: AgentSettings, state: AgentState, parting: DevicePhase
) -> tuple[AgentState, PublishBestEffort]:
    """The retained message that a board leaves behind, also as its last will."""
    # The phase is replaced, and nothing else that is shown depends on the time.
    step = AgentStep(settings, state, 0.0)
    message = _show(step, evolve(_shown(step), phase=parting))
    return step.state, message


def _happen(step: AgentStep, event: e.Event) -> None:
    match event:
        case e.BrokerConnected() | e.BrokerDisconnected() | e.CoordinatorStateArrived():
            _link(step, event)
        case e.ManifestArrived() | e.ModelChunkArrived() | e.DownArrived():
            _message(step, event)
        case e.BundleLoaded() | e.LoadFailed() | e.DataChanged() | e.ChecksFinished():
            _subprocess(step, event)
        case (
            e.TrainerReady()
            | e.LabelsDrawn()
            | e.TrainingFinished()
            | e.TrainingFailed()
        ):
            _trainer(step, event)
        case e.ChunkDelivered() | e.BrokerAnswered():
            _broker(step, event)
        case e.LeaseRenewed():
            lease_renewal.renewed(step, event)
        case e.SpaceMeasured(free_bytes):
            step.state = evolve(step.state, free_bytes=free_bytes)
        case e.StopRequested():
            release_time.stop_asked(step)
        case e.WakeTimeReached():
            pass
        case _:
            assert_never(event)


def _broker(step: AgentStep, event: e.ChunkDelivered | e.BrokerAnswered) -> None:
    match event:
        case e.ChunkDelivered():
            outbox.chunk_delivered(step, event)
        case e.BrokerAnswered(code):
            refusal_record.broker_answered(step, code)
        case _:
            assert_never(event)


def _link(
    step: AgentStep,
    event: e.BrokerConnected | e.BrokerDisconnected | e.CoordinatorStateArrived,
) -> None:
    match event:
        case e.BrokerConnected():
            # Shown again at once: the broker may have published the last will
            # meanwhile.
            step.state = evolve(step.state, connected=True, shown=None, show_at_s=0.0)
            _nudge(step)
        case e.BrokerDisconnected():
            step.state = evolve(step.state, connected=False, asking=None)
            outbox.disconnected(step)
        case e.CoordinatorStateArrived(payload):
            envelope = ENVELOPE.unpack(payload)
            online = bool(COORDINATOR_STATE.unpack(envelope.body).online)
            if step.state.trusted.validators.index_of(envelope.sender) is None:
                refusal_record.stranger(step, envelope.sender, online=online)
                return
            step.believe(envelope)
            # One that was never heard counts as present: its retained state at the
            # first connection is no return, and nothing needs to be asked again.
            was_online = step.state.online.get(envelope.sender, True)
            if online == step.state.online.get(envelope.sender):
                return
            known = {**step.state.online, envelope.sender: online}
            step.state = evolve(step.state, online=known)
            if online and not was_online:
                _nudge(step)
            elif was_online and not online:
                _ask_others(step)
        case _:
            assert_never(event)


def _ask_others(step: AgentStep) -> None:
    """Repeats the check-in soon, since the coordinator that had it may have left."""
    asking, soon_s = step.state.asking, step.jittered(_NUDGE_S)
    if asking is not None and asking.again_at_s > soon_s:
        step.state = evolve(step.state, asking=evolve(asking, again_at_s=soon_s))


def _nudge(step: AgentStep) -> None:
    """Somebody came back: what waits for an answer is tried again soon."""
    soon_s = step.jittered(_NUDGE_S)
    state = step.state
    if state.fetch is not None:
        state = evolve(state, fetch=evolve(state.fetch, again_at_s=soon_s))
    if state.asking is not None:
        state = evolve(state, asking=evolve(state.asking, again_at_s=soon_s))
    if state.sending is not None and state.sending.again_at_s is not None:
        state = evolve(state, sending=evolve(state.sending, again_at_s=soon_s))
    step.state = state


def _message(
    step: AgentStep, event: e.ManifestArrived | e.ModelChunkArrived | e.DownArrived
) -> None:
    match event:
        case e.ManifestArrived(payload):
            manifest_check.handle_manifest(step, payload)
        case e.ModelChunkArrived(payload):
            model_download.handle_chunk(step, payload)
        case e.DownArrived(payload):
            _handle_message(step, payload)
        case _:
            assert_never(event)


_HANDLERS: dict[int, Callable[[AgentStep, Envelope], None]] = {
    MessageKind.LEASE: participation.handle_lease,
    MessageKind.STATEMENT: participation.handle_statement,
    MessageKind.ACCEPTED: outbox.handle_accepted,
    MessageKind.REFUSED: outbox.handle_refused,
    MessageKind.HEALTH_REQUEST: health_answer.handle_request,
}
_NO_ANSWERS = frozenset({MessageKind.REFUSED, MessageKind.HEALTH_REQUEST})
"""Of these, whose coming does not show that something was answered well."""


def _handle_message(step: AgentStep, payload: bytes) -> None:
    envelope = ENVELOPE.unpack(payload)
    if envelope.kind == MessageKind.FINAL:
        # What it holds proves itself, whoever brought it.
        outbox.handle_final(step, envelope)
        return
    handle = _HANDLERS.get(envelope.kind)
    if handle is not None:
        step.believe(envelope)
        if envelope.kind not in _NO_ANSWERS:
            refusal_record.answered_well(step)
        handle(step, envelope)


def _subprocess(
    step: AgentStep,
    event: e.BundleLoaded | e.LoadFailed | e.DataChanged | e.ChecksFinished,
) -> None:
    match event:
        case e.BundleLoaded():
            model_download.bundle_loaded(step, event)
        case e.LoadFailed():
            model_download.load_failed(step, event)
        case e.DataChanged():
            model_download.data_changed(step)
        case e.ChecksFinished():
            health_answer.checks_finished(step, event)
        case _:
            assert_never(event)


def _trainer(
    step: AgentStep,
    event: e.TrainerReady | e.LabelsDrawn | e.TrainingFinished | e.TrainingFailed,
) -> None:
    match event:
        case e.TrainerReady():
            participation.trainer_ready(step)
        case e.LabelsDrawn(batches):
            label_draws.labels_drawn(step, batches)
        case e.TrainingFinished():
            participation.training_finished(step, event)
        case e.TrainingFailed():
            participation.training_failed(step, event)
        case _:
            assert_never(event)


_RULES: tuple[Callable[[AgentStep], None], ...] = (
    outbox.rule_stale,
    participation.rule_abandon,
    release_time.rule_release,
    model_download.rule_fetch,
    model_download.rule_load,
    model_download.rule_adopt,
    model_download.rule_tidy,
    outbox.rule_send,
    participation.rule_check_in,
    lost_update_report.rule_forfeit,
    lease_renewal.rule_renew,
    health_answer.rule_answer,
)
"""Each one acts only where something is left to do; none undoes another's work, so
that one pass in this order reaches rest."""


def _end(step: AgentStep) -> tuple[AgentState, tuple[Effect, ...]]:
    for rule in _RULES:
        rule(step)
    _rule_show(step)
    step.state = spend(step.state, step.effects, step.now_s)
    wake_at_s = _wake_at_s(step)
    if wake_at_s != step.state.wake_at_s:
        step.state = evolve(step.state, wake_at_s=wake_at_s)
    return step.result()


def _rule_show(step: AgentStep) -> None:
    """Shows what changed, but not more often than the pace allows."""
    state = step.state
    if not state.connected or step.now_s < state.show_at_s:
        return
    shown = _shown(step)
    if shown != state.shown:
        step.emit(_show(step, shown))
        show_at_s = step.now_s + step.settings.pace.show_s
        step.state = evolve(step.state, shown=shown, show_at_s=show_at_s)


def _shown(step: AgentStep) -> DeviceState:
    state = step.state
    version = 0 if state.offer is None else state.offer.version
    return DeviceState(
        phase(step.settings, state, step.now_s),
        step.settings.boot + state.leap,
        version,
        state.spent_micro,
    )


def _show(step: AgentStep, shown: DeviceState) -> PublishBestEffort:
    envelope = step.signed(MessageKind.DEVICE_STATE, DEVICE_STATE.pack(shown))
    topic = step.settings.topics.device_state(step.settings.device)
    return PublishBestEffort(topic, ENVELOPE.pack(envelope), retain=True)


def _wake_at_s(step: AgentStep) -> float:
    state = step.state
    moments = [item.send_at_s for item in state.waiting if not item.refusal]
    if state.fetch is not None:
        moments.append(state.fetch.again_at_s)
    asked = (state.asking, state.forfeit, state.renewing)
    moments += [each.again_at_s for each in asked if each is not None]
    if state.sending is not None and state.sending.again_at_s is not None:
        moments.append(state.sending.again_at_s)
    if state.training is not None:
        moments.append(state.training.release_s)
    if state.asked_health and state.connected:
        moments.append(state.answer_at_s)
    moments += allowed_later_s(state)
    moments += (rest_until_s(step.settings, state), state.show_at_s)
    # A moment that has passed without effect waits for an event: to wake for it would
    # turn in circles.
    return min((at for at in moments if at > step.now_s), default=float("inf"))
