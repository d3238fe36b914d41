"""The agent's core: a state, events, and what to do about each.

Facts change the state; then all rules are evaluated, whatever the event was, so that no
transition can be missed and an event that does not fit changes nothing. A peer's bad
message is a note in the log and never an error.
"""

from collections.abc import Callable, Sequence
from typing import assert_never

from agent import events as e
from agent import fetching, forfeiting, outbox, participation, release, renewal
from agent.effects import Effect, Publish
from agent.obstacles import phase
from agent.privacy import PrivacyLedger
from agent.state import Settings, State, Waiting
from agent.turn import Turn
from protocol.envelope import ENVELOPE, Envelope, Kind
from protocol.errors import ProtocolError
from protocol.evolve import evolve
from protocol.ids import Digest
from protocol.light import ForkError, HandoverGap, Trusted
from protocol.messages import (
    COORDINATOR_STATE,
    DEVICE_STATE,
    DevicePhase,
    DeviceState,
)

_NUDGE_S = 1.0


def begin(
    settings: Settings,
    trusted: Trusted,
    ledger: PrivacyLedger,
    blobs: frozenset[Digest],
    waiting: Sequence[Waiting],
    manifest: bytes | None,
    now_s: float,
) -> tuple[State, tuple[Effect, ...]]:
    """The state after a start, from what is on the disk.

    Args:
      settings: Of the agent.
      trusted: The light client's state; pinned genesis at the first start.
      ledger: From its journal.
      blobs: What the blob store has.
      waiting: What the spool has, oldest first.
      manifest: The newest manifest that was believed, or None.
      now_s: Monotonic time.

    Returns:
      The state and the first effects.
    """
    state = State(
        trusted,
        ledger,
        blobs=blobs,
        waiting=tuple(waiting),
        release_s=settings.pace.release_s,
    )
    turn = Turn(settings, state, now_s)
    if manifest is not None:
        try:
            fetching.hear_manifest(turn, manifest)
        except ProtocolError as error:
            turn.note(f"the stored manifest is no longer valid: {error}")
    return _end(turn)


def step(
    settings: Settings, state: State, event: e.Event, now_s: float
) -> tuple[State, tuple[Effect, ...]]:
    """What an event changes and what is to be done about it.

    Args:
      settings: Of the agent.
      state: Before the event.
      event: What happened.
      now_s: Monotonic time, not before that of the last step.

    Returns:
      The state after it, and effects to carry out in order before the next step.
    """
    turn = Turn(settings, state, now_s)
    try:
        _happen(turn, event)
    except ForkError as error:
        turn.state = evolve(turn.state, fault=str(error))
        turn.note(f"{error}: more coordinators lie than may; tell their operators")
    except HandoverGap as error:
        fault = f"{error}: have an operator admit the board again, and enrol it anew"
        turn.state = evolve(turn.state, fault=fault)
        turn.note(fault)
    except ProtocolError as error:
        turn.note(f"{type(event).__name__}: {error}")
    return _end(turn)


def farewell(
    settings: Settings, state: State, parting: DevicePhase
) -> tuple[State, Publish]:
    """The retained message that a board leaves behind, also as its last will."""
    turn = Turn(settings, state, 0.0)
    message = _show(turn, evolve(_shown(turn), phase=parting))
    return turn.state, message


def _happen(turn: Turn, event: e.Event) -> None:
    match event:
        case e.Connected() | e.Disconnected() | e.CoordinatorStateArrived():
            _link(turn, event)
        case e.ManifestArrived() | e.ModelChunkArrived() | e.DownArrived():
            _message(turn, event)
        case e.BundleLoaded() | e.LoadFailed() | e.DataChanged():
            _subprocess(turn, event)
        case e.TrainerReady() | e.TrainingFinished() | e.TrainingFailed():
            _trainer(turn, event)
        case e.ChunkDelivered():
            outbox.chunk_delivered(turn, event)
        case e.LeaseRenewed():
            renewal.renewed(turn, event)
        case e.SpaceMeasured(free_bytes):
            turn.state = evolve(turn.state, free_bytes=free_bytes)
        case e.StopAsked():
            release.stop_asked(turn)
        case e.Ticked():
            pass
        case _:
            assert_never(event)


def _link(
    turn: Turn, event: e.Connected | e.Disconnected | e.CoordinatorStateArrived
) -> None:
    match event:
        case e.Connected():
            turn.state = evolve(turn.state, connected=True, shown=None, show_at_s=0.0)
            _nudge(turn)
        case e.Disconnected():
            turn.state = evolve(turn.state, connected=False, asking=None)
            outbox.disconnected(turn)
        case e.CoordinatorStateArrived(payload):
            envelope = ENVELOPE.unpack(payload)
            turn.believe(envelope)
            online = bool(COORDINATOR_STATE.unpack(envelope.body).online)
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


def _ask_others(turn: Turn) -> None:
    """Somebody left, perhaps with our check-in: whoever comes next is to have it."""
    asking, soon_s = turn.state.asking, turn.jittered(_NUDGE_S)
    if asking is not None and asking.again_at_s > soon_s:
        turn.state = evolve(turn.state, asking=evolve(asking, again_at_s=soon_s))


def _nudge(turn: Turn) -> None:
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
    turn: Turn, event: e.ManifestArrived | e.ModelChunkArrived | e.DownArrived
) -> None:
    match event:
        case e.ManifestArrived(payload):
            fetching.hear_manifest(turn, payload)
        case e.ModelChunkArrived(payload):
            fetching.hear_chunk(turn, payload)
        case e.DownArrived(payload):
            _hear(turn, payload)
        case _:
            assert_never(event)


_HEARERS: dict[int, Callable[[Turn, Envelope], None]] = {
    Kind.LEASE: participation.hear_lease,
    Kind.STATEMENT: participation.hear_statement,
    Kind.ACCEPTED: outbox.hear_accepted,
    Kind.REFUSED: outbox.hear_refused,
}


def _hear(turn: Turn, payload: bytes) -> None:
    envelope = ENVELOPE.unpack(payload)
    if envelope.kind == Kind.FINAL:
        # What it holds proves itself, whoever brought it.
        outbox.hear_final(turn, envelope)
        return
    hearer = _HEARERS.get(envelope.kind)
    if hearer is not None:
        turn.believe(envelope)
        hearer(turn, envelope)


def _subprocess(
    turn: Turn, event: e.BundleLoaded | e.LoadFailed | e.DataChanged
) -> None:
    match event:
        case e.BundleLoaded():
            fetching.bundle_loaded(turn, event)
        case e.LoadFailed():
            fetching.load_failed(turn, event)
        case e.DataChanged():
            fetching.data_changed(turn)
        case _:
            assert_never(event)


def _trainer(
    turn: Turn, event: e.TrainerReady | e.TrainingFinished | e.TrainingFailed
) -> None:
    match event:
        case e.TrainerReady():
            participation.trainer_ready(turn)
        case e.TrainingFinished():
            participation.training_finished(turn, event)
        case e.TrainingFailed():
            participation.training_failed(turn, event)
        case _:
            assert_never(event)


_RULES: tuple[Callable[[Turn], None], ...] = (
    outbox.rule_stale,
    participation.rule_abandon,
    release.rule_release,
    fetching.rule_fetch,
    fetching.rule_load,
    fetching.rule_adopt,
    fetching.rule_tidy,
    outbox.rule_send,
    participation.rule_check_in,
    forfeiting.rule_forfeit,
    renewal.rule_renew,
)
"""Each one acts only where something is left to do; none undoes another's work, so
that one pass in this order reaches rest."""


def _end(turn: Turn) -> tuple[State, tuple[Effect, ...]]:
    for rule in _RULES:
        rule(turn)
    _rule_show(turn)
    wake_at_s = _wake_at_s(turn)
    if wake_at_s != turn.state.wake_at_s:
        turn.state = evolve(turn.state, wake_at_s=wake_at_s)
    return turn.state, tuple(turn.effects)


def _rule_show(turn: Turn) -> None:
    """Shows what changed, but not more often than the pace allows."""
    state = turn.state
    if not state.connected or turn.now_s < state.show_at_s:
        return
    shown = _shown(turn)
    if shown != state.shown:
        turn.emit(_show(turn, shown))
        show_at_s = turn.now_s + turn.settings.pace.show_s
        turn.state = evolve(turn.state, shown=shown, show_at_s=show_at_s)


def _shown(turn: Turn) -> DeviceState:
    state = turn.state
    version = 0 if state.offer is None else state.offer.version
    return DeviceState(
        phase(turn.settings, state, turn.now_s),
        turn.settings.boot + state.leap,
        version,
        state.spent_micro,
    )


def _show(turn: Turn, shown: DeviceState) -> Publish:
    envelope = turn.signed(Kind.DEVICE_STATE, DEVICE_STATE.pack(shown))
    topic = turn.settings.topics.device_state(turn.settings.device)
    return Publish(topic, ENVELOPE.pack(envelope), retain=True)


def _wake_at_s(turn: Turn) -> float:
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
    moments += (state.rest_until_s, state.show_at_s)
    return min((at for at in moments if at > turn.now_s), default=float("inf"))
