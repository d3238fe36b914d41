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
    turn = AgentStep(settings, state, now_s)
    if manifest is not None:
        try:
            manifest_check.handle_manifest(turn, manifest)
        except ProtocolError as error:
            turn.note(f"the stored manifest is no longer valid: {error}")
    return _end(turn)


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
    turn = AgentStep(settings, state, now_s)
    try:
        _happen(turn, event)
    except ForkError as error:
        turn.state = evolve(turn.state, fault=str(error))
        turn.note(f"{error}: more coordinators lie than may; tell their operators")
    except ValidatorSetGap as error:
        fault = f"{error}: have an operator admit the board again, and enrol it anew"
        turn.state = evolve(turn.state, fault=fault)
        turn.note(fault, warns=True)
    except ProtocolError as error:
        turn.note(f"{type(event).__name__}: {error}")
    return _end(turn)


def farewell(
    settings: AgentSettings, state: AgentState, parting: DevicePhase
) -> tuple[AgentState, PublishBestEffort]:
    """The retained message that a board leaves behind, also as its last will."""
    turn = AgentStep(settings, state, 0.0)
    message = _show(turn, evolve(_shown(turn), phase=parting))
    return turn.state, message


def _happen(turn: AgentStep, event: e.Event) -> None:
    match event:
        case e.BrokerConnected() | e.BrokerDisconnected() | e.CoordinatorStateArrived():
            _link(turn, event)
        case e.ManifestArrived() | e.ModelChunkArrived() | e.DownArrived():
            _message(turn, event)
        case e.BundleLoaded() | e.LoadFailed() | e.DataChanged() | e.ChecksFinished():
            _subprocess(turn, event)
        case (
            e.TrainerReady()
            | e.LabelsDrawn()
            | e.TrainingFinished()
            | e.TrainingFailed()
        ):
            _trainer(turn, event)
        case e.ChunkDelivered() | e.BrokerAnswered():
            _broker(turn, event)
        case e.LeaseRenewed():
            lease_renewal.renewed(turn, event)
        case e.SpaceMeasured(free_bytes):
            turn.state = evolve(turn.state, free_bytes=free_bytes)
        case e.StopRequested():
            release_time.stop_asked(turn)
        case e.WakeTimeReached():
            pass
        case _:
            assert_never(event)


def _broker(turn: AgentStep, event: e.ChunkDelivered | e.BrokerAnswered) -> None:
    match event:
        case e.ChunkDelivered():
            outbox.chunk_delivered(turn, event)
        case e.BrokerAnswered(code):
            refusal_record.broker_answered(turn, code)
        case _:
            assert_never(event)


def _link(
    turn: AgentStep,
    event: e.BrokerConnected | e.BrokerDisconnected | e.CoordinatorStateArrived,
) -> None:
    match event:
        case e.BrokerConnected():
            turn.state = evolve(turn.state, connected=True, shown=None, show_at_s=0.0)
            _nudge(turn)
        case e.BrokerDisconnected():
            turn.state = evolve(turn.state, connected=False, asking=None)
            outbox.disconnected(turn)
        case e.CoordinatorStateArrived(payload):
            envelope = ENVELOPE.unpack(payload)
            online = bool(COORDINATOR_STATE.unpack(envelope.body).online)
            if turn.state.trusted.validators.index_of(envelope.sender) is None:
                refusal_record.stranger(turn, envelope.sender, online=online)
                return
            turn.believe(envelope)
            was_online = turn.state.online.get(envelope.sender, True)
            if online == turn.state.online.get(envelope.sender):
                return
            known = {**turn.state.online, envelope.sender: online}
            turn.state = evolve(turn.state, online=known)
            if online and not was_online:
                _nudge(turn)
            elif was_online and not online:
                _ask_others(turn)
        case _:
            assert_never(event)


def _ask_others(turn: AgentStep) -> None:
    """Repeats the check-in soon, since the coordinator that had it may have left."""
    asking, soon_s = turn.state.asking, turn.jittered(_NUDGE_S)
    if asking is not None and asking.again_at_s > soon_s:
        turn.state = evolve(turn.state, asking=evolve(asking, again_at_s=soon_s))


def _nudge(turn: AgentStep) -> None:
    """Somebody came back: what waits for an answer is tried again soon."""
    soon_s = turn.jittered(_NUDGE_S)
    state = turn.state
    if state.fetch is not None:
        state = evolve(state, fetch=evolve(state.fetch, again_at_s=soon_s))
    if state.asking is not None:
        state = evolve(state, asking=evolve(state.asking, again_at_s=soon_s))
    if state.sending is not None and state.sending.again_at_s is not None:
        state = evolve(state, sending=evolve(state.sending, again_at_s=soon_s))
    turn.state = state


def _message(
    turn: AgentStep, event: e.ManifestArrived | e.ModelChunkArrived | e.DownArrived
) -> None:
    match event:
        case e.ManifestArrived(payload):
            manifest_check.handle_manifest(turn, payload)
        case e.ModelChunkArrived(payload):
            model_download.handle_chunk(turn, payload)
        case e.DownArrived(payload):
            _hear(turn, payload)
        case _:
            assert_never(event)


_HEARERS: dict[int, Callable[[AgentStep, Envelope], None]] = {
    MessageKind.LEASE: participation.handle_lease,
    MessageKind.STATEMENT: participation.handle_statement,
    MessageKind.ACCEPTED: outbox.handle_accepted,
    MessageKind.REFUSED: outbox.handle_refused,
    MessageKind.HEALTH_REQUEST: health_answer.handle_request,
}
_NO_ANSWERS = frozenset({MessageKind.REFUSED, MessageKind.HEALTH_REQUEST})
"""Of these, whose coming does not show that something was answered well."""


def _hear(turn: AgentStep, payload: bytes) -> None:
    envelope = ENVELOPE.unpack(payload)
    if envelope.kind == MessageKind.FINAL:
        # What it holds proves itself, whoever brought it.
        outbox.handle_final(turn, envelope)
        return
    hearer = _HEARERS.get(envelope.kind)
    if hearer is not None:
        turn.believe(envelope)
        if envelope.kind not in _NO_ANSWERS:
            refusal_record.answered_well(turn)
        hearer(turn, envelope)


def _subprocess(
    turn: AgentStep,
    event: e.BundleLoaded | e.LoadFailed | e.DataChanged | e.ChecksFinished,
) -> None:
    match event:
        case e.BundleLoaded():
            model_download.bundle_loaded(turn, event)
        case e.LoadFailed():
            model_download.load_failed(turn, event)
        case e.DataChanged():
            model_download.data_changed(turn)
        case e.ChecksFinished():
            health_answer.checks_finished(turn, event)
        case _:
            assert_never(event)


def _trainer(
    turn: AgentStep,
    event: e.TrainerReady | e.LabelsDrawn | e.TrainingFinished | e.TrainingFailed,
) -> None:
    match event:
        case e.TrainerReady():
            participation.trainer_ready(turn)
        case e.LabelsDrawn(batches):
            label_draws.labels_drawn(turn, batches)
        case e.TrainingFinished():
            participation.training_finished(turn, event)
        case e.TrainingFailed():
            participation.training_failed(turn, event)
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


def _end(turn: AgentStep) -> tuple[AgentState, tuple[Effect, ...]]:
    for rule in _RULES:
        rule(turn)
    _rule_show(turn)
    wake_at_s = _wake_at_s(turn)
    if wake_at_s != turn.state.wake_at_s:
        turn.state = evolve(turn.state, wake_at_s=wake_at_s)
    return turn.result()


def _rule_show(turn: AgentStep) -> None:
    """Shows what changed, but not more often than the pace allows."""
    state = turn.state
    if not state.connected or turn.now_s < state.show_at_s:
        return
    shown = _shown(turn)
    if shown != state.shown:
        turn.emit(_show(turn, shown))
        show_at_s = turn.now_s + turn.settings.pace.show_s
        turn.state = evolve(turn.state, shown=shown, show_at_s=show_at_s)


def _shown(turn: AgentStep) -> DeviceState:
    state = turn.state
    version = 0 if state.offer is None else state.offer.version
    return DeviceState(
        phase(turn.settings, state, turn.now_s),
        turn.settings.boot + state.leap,
        version,
        state.spent_micro,
    )


def _show(turn: AgentStep, shown: DeviceState) -> PublishBestEffort:
    envelope = turn.signed(MessageKind.DEVICE_STATE, DEVICE_STATE.pack(shown))
    topic = turn.settings.topics.device_state(turn.settings.device)
    return PublishBestEffort(topic, ENVELOPE.pack(envelope), retain=True)


def _wake_at_s(turn: AgentStep) -> float:
    state = turn.state
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
    moments += (rest_until_s(turn.settings, state), state.show_at_s)
    return min((at for at in moments if at > turn.now_s), default=float("inf"))
