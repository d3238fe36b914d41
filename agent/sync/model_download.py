"""Model download: chunks, load test, adoption.

Bytes are kept only if they have the digest that a manifest proves; see
`agent.sync.manifest_check`. A bundle is used only after a subprocess has loaded it.
Chunks are pulled a few at a time, so that a slow board is never flooded, and whatever
is missing after a while is asked for again.

Of a board that has an older version they may come as differences from it
(`protocol.wire.chunk_deltas`). Once anything is amiss they are asked for whole.
"""

import array
import math
import sys

from starling.agent.step.agent_step import AgentStep
from starling.agent.step.effects import (
    AdoptModel,
    KeepBlobs,
    LoadBundle,
    StoreBlob,
)
from starling.agent.step.events import BundleLoaded, FailureStage, LoadFailed
from starling.agent.step.ongoing_work import (
    AdoptedModel,
    BlobDownload,
)
from starling.agent.step.send_rate import Priority, allowed_at_s
from starling.agent.step.state import (
    AgentState,
)
from starling.agent.sync import refusal_record
from starling.protocol.backoff import backoff_s
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import (
    DecodeError,
)
from starling.protocol.ids import Digest
from starling.protocol.learning.task import ModelDigests
from starling.protocol.wire.chunks import CHUNK, ChunkAssembly
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import (
    CHUNK_REQUEST,
    CHUNK_REQUEST_MAX,
    ChunkRequest,
    Refused,
)

_FLOAT_BYTES = 4
_DOUBLINGS_MAX = 7
"""So that a download is taken up again within minutes, however often it stalled."""
_MISSING_S = 0.25
"""First wait for what a coordinator that refused is still missing."""


def _backoff_s(first_s: float, most_s: float, attempts: int) -> float:
    return backoff_s(first_s, most_s, attempts, failures_max=_DOUBLINGS_MAX)


def _missing_blobs(step: AgentStep) -> tuple[tuple[Digest, int], ...]:
    """Digests and sizes that are still to be pulled, in that order."""
    state, offer = step.state, step.state.offer
    if offer is None or offer.spec.bundle in state.refused:
        return ()
    theta_bytes = _FLOAT_BYTES * offer.spec.dimension
    wants = [(offer.spec.bundle, offer.spec.bundle_bytes)]
    # The ledger does not pay for this version, so that its parameters for training
    # would be of no use; the average for inference still is.
    if state.refusal is None:
        wants.append((offer.model.training, theta_bytes))
    if step.settings.infer:
        wants.append((offer.model.inference, theta_bytes))
    have = state.blobs | state.refused
    return tuple([(digest, size) for digest, size in wants if digest not in have])


def pulled_last(state: AgentState) -> ModelDigests | None:
    """The newest parts of a model that were pulled, as a newer version is offered."""
    offer, older = state.offer, state.older
    if offer is None or older is None:
        return None if offer is None else offer.model
    whole = state.blobs
    training, inference = offer.model.training, offer.model.inference
    return evolve(
        offer.model,
        training=training if training in whole else older.training,
        inference=inference if inference in whole else older.inference,
    )


def _bases(state: AgentState) -> dict[Digest, Digest]:
    """From which stored version each part that is still to come may be a difference."""
    offer, older = state.offer, state.older
    if offer is None or older is None:
        return {}
    pairs = (
        (offer.model.training, older.training),
        (offer.model.inference, older.inference),
    )
    done, usable = state.blobs | state.refused, state.blobs - state.refused
    return {
        wanted: base for wanted, base in pairs if wanted not in done and base in usable
    }


def rule_fetch(step: AgentStep) -> None:
    """Pulls what is missing, one blob at a time."""
    wanted = _missing_blobs(step)
    fetch = step.state.fetch
    if fetch is not None and fetch.assembly.digest not in dict(wanted):
        fetch = None
    if fetch is None and wanted:
        digest, size = wanted[0]
        assembly = ChunkAssembly.begin(digest, size, size)
        base = _bases(step.state).get(digest)
        fetch = BlobDownload(assembly, frozenset(), step.now_s, 0, base=base)
    if fetch is not step.state.fetch:
        step.state = evolve(step.state, fetch=fetch)
    if fetch is None or not step.state.connected:
        return
    late = step.now_s >= fetch.again_at_s
    if fetch.asked and not late:
        return
    # Nothing is under way and nothing is late: a download that has just begun, or whose
    # last window came, goes on at once; one that met a failure waits.
    if not late and fetch.attempt:
        return
    if step.now_s < allowed_at_s(step.state, _priority(step.state, fetch)):
        return
    _ask(step, fetch)


def _priority(state: AgentState, fetch: BlobDownload) -> Priority:
    offer, digest = state.offer, fetch.assembly.digest
    trains = offer is not None and digest in (offer.spec.bundle, offer.model.training)
    return Priority.TRAINING_MODEL if trains else Priority.INFERENCE_MODEL


def _ask(step: AgentStep, fetch: BlobDownload) -> None:
    window = min(step.settings.fetch_window, CHUNK_REQUEST_MAX)
    indices = fetch.assembly.missing[:window]
    # A difference that led to nothing may be a lie or rest on bytes that are gone: the
    # second request is for the whole.
    base = None if fetch.attempt else fetch.base
    held = () if base is None else (base,)
    request = ChunkRequest(fetch.assembly.digest, indices, held)
    envelope = step.say(MessageKind.CHUNK_REQUEST, CHUNK_REQUEST.pack(request))
    pace = step.settings.pace
    wait_s = _backoff_s(pace.fetch_s, pace.most_s, fetch.attempt)
    again_at_s = step.jittered(wait_s)
    asked = evolve(
        fetch,
        asked=frozenset(indices),
        again_at_s=again_at_s,
        attempt=fetch.attempt + 1,
        envelope=envelope.identity(step.state.chain),
        base=base,
    )
    step.state = evolve(step.state, fetch=asked)


def handle_refused(step: AgentStep, refused: Refused) -> bool:
    """Asks again soon for what a coordinator lacks: then the next one answers as well.

    Returns:
      Whether it was a request for chunks that was refused.
    """
    fetch = step.state.fetch
    if fetch is None or refused.subject != fetch.envelope:
        return False
    if fetch.attempt and not refused.retry_after_s:
        wait_s = _backoff_s(_MISSING_S, math.inf, fetch.attempt)
        again_at_s = min(fetch.again_at_s, step.jittered(wait_s))
        step.state = evolve(step.state, fetch=evolve(fetch, again_at_s=again_at_s))
    return True


def handle_chunk(step: AgentStep, payload: bytes) -> None:
    """Takes a chunk of what is being pulled; any other is ignored.

    Raises:
      ProtocolError: If it is malformed, or the whole has not the digest asked for.
    """
    chunk = CHUNK.unpack(payload)
    fetch = step.state.fetch
    if fetch is None or chunk.digest != fetch.assembly.digest:
        return
    fetch = evolve(
        fetch,
        assembly=fetch.assembly.add(chunk),
        asked=fetch.asked - {chunk.index},
        attempt=0,
    )
    step.state = evolve(step.state, fetch=fetch)
    refusal_record.answered_well(step)
    if fetch.assembly.missing:
        return
    _complete(step, fetch.assembly)


def _complete(step: AgentStep, assembly: ChunkAssembly) -> None:
    try:
        content = assembly.whole()
    except DecodeError:
        # Somebody put foreign bytes among ours: begin anew, later.
        empty = ChunkAssembly.begin(assembly.digest, assembly.size, assembly.size)
        again_at_s = step.jittered(step.settings.pace.fetch_s)
        fetch = BlobDownload(empty, frozenset(), again_at_s, 1)
        step.state = evolve(step.state, fetch=fetch)
        raise
    digest = assembly.digest
    offer = step.state.offer
    step.state = evolve(step.state, fetch=None)
    is_theta = offer is not None and digest != offer.spec.bundle
    if is_theta and not _finite(content):
        step.state = evolve(step.state, refused=step.state.refused | {digest})
        step.note("model refused: its parameters are not all finite", warns=True)
        return
    step.state = evolve(step.state, blobs=step.state.blobs | {digest})
    step.emit(StoreBlob(digest, content))


def _finite(content: bytes) -> bool:
    values = array.array("f", content)
    if sys.byteorder == "big":
        values.byteswap()
    return all(map(math.isfinite, values))


def rule_load(step: AgentStep) -> None:
    """Tries a new bundle in a subprocess, and again once there are data files."""
    state, offer = step.state, step.state.offer
    if offer is None or offer.spec.bundle not in state.blobs - state.refused:
        return
    if state.loaded == offer.spec.bundle:
        return
    if step.now_s < state.rest_until_s or state.data_fault:
        return
    # A trainer has one job at a time: a load test would end a training.
    if state.loading is None and state.training is None:
        step.state = evolve(state, loading=offer.spec.bundle)
        step.emit(LoadBundle(offer.spec.bundle))


def bundle_loaded(step: AgentStep, event: BundleLoaded) -> None:
    """The subprocess could load the bundle."""
    if step.state.loading != event.bundle:
        return
    step.state = evolve(step.state, loading=None, loaded=event.bundle)
    step.note("bundle loaded")


def load_failed(step: AgentStep, event: LoadFailed) -> None:
    """The subprocess could not load the bundle: what we had before stays in use."""
    if step.state.loading != event.bundle:
        return
    step.state = evolve(step.state, loading=None)
    if event.stage is FailureStage.MODEL:
        refused = step.state.refused | {event.bundle}
        step.state = evolve(step.state, refused=refused)
        step.note(f"model refused: {event.detail}", warns=True)
    elif event.stage is FailureStage.DATA:
        step.state = evolve(step.state, data_fault=event.detail)
        step.note(f"no data: {event.detail}", warns=True)
    else:
        # A crash or a time-out may pass; the bundle gets another chance after a rest.
        step.rest(f"load test failed: {event.detail}")


def data_changed(step: AgentStep) -> None:
    """Looks again for data files where there were none; else each training reads anew.

    A board with data goes on as before, so that nobody sees that they changed.
    """
    if step.state.data_fault:
        step.state = evolve(step.state, data_fault="", loaded=None, loading=None)


def rule_adopt(step: AgentStep) -> None:
    """Uses the newest loaded version for inference; the one before is kept."""
    state, offer = step.state, step.state.offer
    if offer is None or not step.settings.infer or state.loaded is None:
        return
    adopted = AdoptedModel(offer.version, offer.spec.bundle, offer.model.inference)
    works = state.loaded == adopted.bundle
    if not works or adopted == state.adopted or adopted.inference in state.refused:
        return
    if adopted.inference in state.blobs and offer.model.training not in state.refused:
        step.state = evolve(state, adopted=adopted, before=state.adopted)
        step.emit(AdoptModel(adopted.version, adopted.bundle, adopted.inference))


def refuse_version(step: AgentStep, theta: Digest) -> None:
    """Goes back to the version before, if inference uses the one that fails."""
    state = step.state
    step.state = evolve(state, refused=state.refused | {theta})
    offer, before = state.offer, state.before
    if offer is None or before is None or state.adopted is None:
        return
    if state.adopted.version == offer.version and offer.model.training == theta:
        step.state = evolve(step.state, adopted=before, before=None)
        step.emit(AdoptModel(before.version, before.bundle, before.inference))


def rule_tidy(step: AgentStep) -> None:
    """Forgets blobs that nothing uses any more."""
    kept = step.state.blobs & _used(step.state)
    if kept != step.state.blobs:
        step.state = evolve(step.state, blobs=kept)
        step.emit(KeepBlobs(kept))


def _used(state: AgentState) -> frozenset[Digest]:
    used: set[Digest] = set()
    if state.offer is not None:
        model = state.offer.model
        used |= {state.offer.spec.bundle, model.training, model.inference}
    for adopted in (state.adopted, state.before):
        if adopted is not None:
            used |= {adopted.bundle, adopted.inference}
    if state.training is not None:
        used |= {state.training.order.bundle, state.training.order.theta}
    return frozenset(used | set(_bases(state).values()))
